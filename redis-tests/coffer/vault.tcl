# Vaults, and what a database has to do with them.
start_server {tags {"vault"}} {
    test {VAULT.CREATE, once} {
        assert_equal OK [r vault.create v]
        assert_error {VAULTEXISTS*} {r vault.create v}
    }

    test {Names of vaults} {
        foreach name {"" .v a/b "a b" {{v}}} {assert_error {ERR*} {r vault.create $name}}
        assert_error {ERR*} {r vault.create [string repeat v 65]}
        assert_equal OK [r vault.create [string repeat v 64]]
        assert_equal OK [r vault.create A.b-c_9]
    }

    test {VAULT.INFO counts} {
        r secret.mset v a 1 b 2
        r key.create v k
        set info [r vault.info v]
        assert_equal {active 2 1} [list [dict get $info state] [dict get $info secrets] [dict get $info keys]]
        assert_morethan [dict get $info bytes] 0
        assert_error {NOVAULT*} {r vault.info none}
    }

    test {VAULT.SET changes limits, or nothing} {
        r vault.set v maxversions 3 rate 1000 burst 2000
        assert_error {ERR*} {r vault.set v maxversions 5 rate -1}
        assert_error {ERR*} {r vault.set v}
        set info [r vault.info v]
        assert_equal {3 1000 2000} [list [dict get $info max-versions] [dict get $info rate] [dict get $info burst]]
    }

    test {VAULT.LIST: order, pages, patterns} {
        foreach name {l1 l2 l3 l4 l5} {r vault.create $name}
        assert_equal {0 {l1 l2 l3 l4 l5}} [r vault.list match l*]
        set cursor 0
        set seen {}
        while 1 {
            lassign [r vault.list cursor $cursor count 2] cursor page
            lappend seen {*}$page
            if {$cursor eq 0} break
        }
        assert_equal $seen [lsort -unique $seen]
        assert_equal {l1 l2 l3 l4 l5} [lsearch -all -inline -glob $seen l?]
    }

    test {A database is a vault, made by the first write} {
        r select 7
        assert_error {NOVAULT*} {r vault.info db7}
        assert_equal {} [r get k]
        assert_error {NOVAULT*} {r vault.info db7}
        r set k x
        assert_equal 1 [dict get [r vault.info db7] secrets]
        assert_equal x [r secret.get db7 k]
        r select 9
        assert_equal x [r get "{db7}/k"]
    }

    test {FLUSHALL empties databases, not other vaults} {
        r flushall
        assert_equal {} [r secret.get db7 k]
        assert_equal 1 [r secret.get v a]
    }

    test {Vaults and their limits are there after a restart} {
        restart_server 0 true false
        assert_equal 3 [dict get [r vault.info v] max-versions]
        assert_equal {0 {l1 l2 l3 l4 l5}} [r vault.list match l*]
    }
}
