# Secrets by their own commands, and the same ones by the façade's.
start_server {tags {"secret"}} {
    r vault.create v

    test {SECRET.SET answers versions, SECRET.GET the current one} {
        assert_equal 1 [r secret.set v app/db one]
        assert_equal 2 [r secret.set v app/db two]
        assert_equal two [r secret.get v app/db]
        assert_equal one [r secret.get v app/db version 1]
        assert_equal {} [r secret.get v app/db version 3]
        assert_equal {} [r secret.get v none]
    }

    test {A vault's secret is a key of the façade} {
        assert_equal two [r get "{v}/app/db"]
        r set "{v}/app/db" three
        assert_equal three [r secret.get v app/db]
        assert_equal 3 [dict get [lindex [r secret.versions v app/db] 0] version]
    }

    test {SECRET.SET with NX, XX and CAS} {
        assert_equal {} [r secret.set v app/db no nx]
        assert_equal {} [r secret.set v absent no xx]
        assert_error {CONFLICT*} {r secret.set v app/db no cas 1}
        assert_equal 4 [r secret.set v app/db four cas 3]
        assert_equal 1 [r secret.set v fresh yes cas 0]
        assert_error {CONFLICT*} {r secret.set v fresh no cas 0}
    }

    test {SECRET.SET refuses words that it does not know, twice given or contradictory} {
        assert_error {ERR syntax error*} {r secret.set v p x foo}
        assert_error {ERR syntax error*} {r secret.set v p x nx xx}
        assert_error {ERR syntax error*} {r secret.set v p x ex 10 ex 10}
        assert_error {ERR syntax error*} {r secret.set v p x ex 10 px 10}
        assert_error {ERR*} {r secret.set v p x ex 0}
        assert_error {ERR*} {r secret.set v p x cas -1}
        assert_equal {} [r secret.get v p]
    }

    test {No vault, no secret} {
        assert_error {NOVAULT*} {r secret.set nowhere p x}
        assert_error {NOVAULT*} {r secret.get nowhere p}
        assert_error {NOVAULT*} {r set "{nowhere}/p" x}
        assert_error {ERR*} {r secret.set v "" x}
        assert_error {ERR*} {r secret.set v [string repeat p 4097] x}
    }

    test {Values and paths of all bytes} {
        set every {}
        for {set i 0} {$i < 256} {incr i} {append every [format %c $i]}
        set every [encoding convertto iso8859-1 $every]
        r secret.set v $every $every
        assert_equal $every [r secret.get v $every]
        r secret.set v empty ""
        assert_equal 1 [llength [r secret.mget v empty]]
        assert_equal ACTIVE [r secret.state v empty]
    }

    test {SECRET.MSET and SECRET.MGET} {
        assert_equal {1 1 1} [r secret.mset v m/1 a m/2 b m/3 c]
        assert_equal {2 1} [r secret.mset v m/1 A m/4 d]
        assert_equal {A b {} d} [r secret.mget v m/1 m/2 m/none m/4]
        assert_error {ERR wrong number*} {r secret.mset v m/1 a m/2}
    }

    test {SECRET.STAGE: a rotation with a pending version} {
        r secret.set v rotated old
        assert_equal 2 [r secret.set v rotated new stage PENDING]
        assert_equal old [r secret.get v rotated]
        assert_equal new [r secret.get v rotated stage PENDING]
        r secret.stage v rotated CURRENT 2
        assert_equal new [r secret.get v rotated]
        assert_equal old [r secret.get v rotated stage PREVIOUS]
        assert_equal {} [r secret.stage v rotated mine 9]
    }

    test {SECRET.META is kept by SECRET.SET} {
        r secret.set v meta x meta {{"owner":"me"}}
        r secret.set v meta y
        assert_equal {{"owner":"me"}} [r secret.meta v meta]
        r secret.meta v meta {{}}
        assert_equal {{}} [r secret.meta v meta]
    }

    test {SECRET.DEL hides, SECRET.UNDELETE brings back, SECRET.DESTROY ends} {
        r secret.set v gone one
        assert_equal 1 [r secret.del v gone none]
        assert_equal {} [r secret.get v gone]
        assert_equal 0 [r exists "{v}/gone"]
        assert_equal DELETED [r secret.state v gone]
        assert_equal OK [r secret.undelete v gone]
        assert_equal one [r secret.get v gone]
        r secret.set v gone two
        assert_equal 1 [r secret.destroy v gone version 1]
        assert_equal {} [r secret.get v gone version 1]
        assert_equal 1 [r secret.destroy v gone]
        assert_equal {} [r secret.undelete v gone]
        assert_equal 3 [r secret.set v gone three]
    }

    test {SECRET.EXPIRE, SECRET.TTL, SECRET.PERSIST} {
        r secret.set v short x
        assert_equal -1 [r secret.ttl v short]
        assert_equal 1 [r secret.expire v short 100]
        assert_range [r secret.ttl v short] 90 100
        assert_range [r ttl "{v}/short"] 90 100
        assert_equal 1 [r secret.persist v short]
        assert_equal -1 [r secret.ttl v short]
        assert_equal -2 [r secret.ttl v none]
        r secret.set v short x px 20
        wait_for_condition 100 20 {[r secret.get v short] eq {}} else {fail "it did not expire"}
    }

    test {SECRET.LIST: a level, all below, pages} {
        r vault.create tree
        foreach path {a a/1 a/2 a/b/1 a/b/2 c/1 d} {r secret.set tree $path x}
        assert_equal {0 {a a/ c/ d}} [r secret.list tree]
        assert_equal {a/1 a/2 a/b/} [lindex [r secret.list tree a] 1]
        assert_equal {a/1 a/2 a/b/1 a/b/2} [lindex [r secret.list tree a recursive] 1]
        set cursor 0
        set seen {}
        while 1 {
            lassign [r secret.list tree cursor $cursor count 2 recursive] cursor page
            assert {[llength $page] <= 2}
            lappend seen {*}$page
            if {$cursor eq 0} break
        }
        assert_equal {a a/1 a/2 a/b/1 a/b/2 c/1 d} $seen
    }

    test {MAXVERSIONS is kept} {
        r vault.create few maxversions 2
        foreach value {1 2 3} {r secret.set few p $value}
        assert_equal 2 [llength [r secret.versions few p]]
        assert_equal {{} 2 3} [list [r secret.get few p version 1] [r secret.get few p version 2] [r secret.get few p]]
    }

    test {Quotas} {
        r vault.create small maxsecrets 2
        r secret.mset small 1 x 2 y
        assert_error {QUOTA*} {r secret.set small 3 z}
        r vault.set small maxsecrets 3
        assert_equal 1 [r secret.set small 3 z]
    }

    test {Too large is refused, and the connection goes on} {
        set max [lindex [r config get secret-max-bytes] 1]
        assert_error {TOOBIG*} {r secret.set v large [string repeat x [expr {$max + 1}]]}
        assert_equal PONG [r ping]
    }

    test {Secrets in a transaction} {
        r secret.set v t 1
        r watch "{v}/t"
        r multi
        r secret.set v t 2
        r incr "{v}/t"
        r secret.get v t
        assert_equal {2 3 3} [r exec]
        r watch "{v}/t"
        r secret.set v t 9
        r multi
        r ping
        assert_equal {} [r exec]
    }

    test {Keyspace events of secrets} {
        r config set notify-keyspace-events KEA
        set rd [redis_deferring_client]
        assert_equal {1} [psubscribe $rd *]
        r secret.set v heard x
        r secret.del v heard
        assert_equal "pmessage * __keyspace@0__:{v}/heard set" [$rd read]
        assert_equal "pmessage * __keyevent@0__:set {{v}/heard}" [$rd read]
        assert_equal "pmessage * __keyspace@0__:{v}/heard del" [$rd read]
        $rd close
        r config set notify-keyspace-events ""
    }

    test {RESP3: maps} {
        r hello 3
        set all [r secret.get v app/db withmeta]
        assert_equal four [dict get $all value]
        assert_equal 4 [dict get $all version]
        assert_equal ACTIVE [dict get $all state]
        r hello 2
    } {*} {resp3}

    test {Nothing of a value in SLOWLOG, MONITOR, errors} {
        r config set slowlog-log-slower-than 0
        r slowlog reset
        set rd [redis_deferring_client]
        $rd monitor
        assert_equal OK [$rd read]
        r secret.set v quiet marker-value
        catch {r secret.set v quiet marker-value marker-value} error
        r get "{v}/quiet"
        r echo end
        set seen $error
        while {![string match *end* $seen]} {append seen [$rd read]}
        append seen [r slowlog get]
        assert_match {*secret.set*} [string tolower $seen]
        assert_no_match *marker-value* $seen
        $rd close
        r config set slowlog-log-slower-than 10000
    }

    test {To clients the vault is the key: one goes to one node of a cluster} {
        assert_equal v [r command getkeys secret.mset v a 1 b 2]
        assert_equal v [r command getkeys secret.get v a]
    }

    test {All is there after a restart} {
        restart_server 0 true false
        assert_equal four [r secret.get v app/db]
        assert_equal {A b {} d} [r secret.mget v m/1 m/2 m/none m/4]
        assert_equal old [r secret.get v rotated stage PREVIOUS]
        assert_equal {{}} [r secret.meta v meta]
        assert_equal {} [r secret.get v short]
        assert_equal {0 {a a/ c/ d}} [r secret.list tree]
    }
}
