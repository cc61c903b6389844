# What Coffer's commands are to Redis's ACLs; that users last.
start_server {tags {"coffer-acl"}} {
    r vault.create prod
    r vault.create test
    r secret.mset prod app/db one app/other two
    r key.create prod k
    r acl setuser app on >pw resetchannels -@all +@secret +@key %R~{prod}/app/* ~{prod}/k
    set app [redis [srv 0 host] [srv 0 port] 0 $::tls]
    $app auth app pw

    test {A reader of a folder reads there, and nowhere else} {
        assert_equal one [$app secret.get prod app/db]
        assert_equal {one two} [$app secret.mget prod app/db app/other]
        assert_equal {app/db app/other} [lindex [$app secret.list prod app] 1]
        assert_error {NOPERM*} {$app secret.get prod other}
        assert_error {NOPERM*} {$app secret.get test app/db}
        assert_error {NOPERM*} {$app secret.mget prod app/db other}
        assert_error {NOPERM*} {$app secret.list prod}
    }

    test {It does not write} {
        assert_error {NOPERM*} {$app secret.set prod app/db x}
        assert_error {NOPERM*} {$app secret.destroy prod app/db}
        assert_error {NOPERM*} {$app vault.create mine}
        assert_error {NOPERM*} {$app get "{prod}/app/db"}
        assert_equal one [r secret.get prod app/db]
    }

    test {Using a key is reading it} {
        r acl setuser app resetkeys %R~{prod}/k
        set sealed [$app key.encrypt prod k text]
        assert_equal text [$app key.decrypt prod k $sealed]
        assert_error {NOPERM*} {$app key.rotate prod k}
        assert_error {NOPERM*} {$app key.create prod new}
    }

    test {A database is its vault to a pattern} {
        r set shared 1
        r acl setuser app +get +select resetkeys ~{db9}/*
        $app select 9
        assert_equal 1 [$app get shared]
        $app select 8
        assert_error {NOPERM*} {$app get shared}
    }

    test {Nor does a transaction reach further} {
        r acl setuser app +multi +exec +set resetkeys ~{test}/*
        $app multi
        assert_error {NOPERM*} {$app set "{prod}/app/db" x}
        assert_error {EXECABORT*} {$app exec}
        assert_equal one [r secret.get prod app/db]
    }

    test {ACL DRYRUN and ACL LOG know secrets} {
        assert_equal OK [r acl dryrun app secret.get test p]
        assert_match {*no permissions*} [r acl dryrun app secret.get prod p]
        r acl log reset
        catch {$app secret.get prod app/db}
        assert_equal {{prod}/app/db} [dict get [lindex [r acl log] 0] object]
    }

    test {ACL CAT has the classes} {
        foreach class {secret key vault} {assert {[lsearch [r acl cat] $class] >= 0}}
        assert {[lsearch [r acl cat secret] secret.get] >= 0}
    }

    test {A user is there after a restart, without anybody saving it} {
        set before [r acl list]
        restart_server 0 true false
        assert_equal $before [r acl list]
        set app [redis [srv 0 host] [srv 0 port] 0 $::tls]
        assert_equal OK [$app auth app pw]
        assert_error {WRONGPASS*} {$app auth app no}
        $app close
    }

    test {A user that is deleted is cut off} {
        set app [redis [srv 0 host] [srv 0 port] 0 $::tls]
        $app auth app pw
        r acl deluser app
        assert_error {*I/O error*} {$app secret.get test p}
    }
}
