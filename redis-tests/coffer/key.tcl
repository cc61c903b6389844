# Keys: made, used, rotated, disabled, ended.
start_server {tags {"key"}} {
    r vault.create v

    test {KEY.ENCRYPT and KEY.DECRYPT} {
        assert_equal 1 [r key.create v k]
        set sealed [r key.encrypt v k hello]
        assert_no_match *hello* $sealed
        assert {$sealed ne [r key.encrypt v k hello]}
        assert_equal hello [r key.decrypt v k $sealed]
        assert_equal {} [r key.decrypt v k [r key.encrypt v k ""]]
    }

    test {A ciphertext is bound to its key, its AAD and every byte} {
        r key.create v other
        set sealed [r key.encrypt v k hello aad context]
        assert_equal hello [r key.decrypt v k $sealed aad context]
        assert_error {BADCIPHERTEXT*} {r key.decrypt v k $sealed}
        assert_error {BADCIPHERTEXT*} {r key.decrypt v k $sealed aad other}
        assert_error {BADCIPHERTEXT*} {r key.decrypt v other $sealed aad context}
        assert_error {BADCIPHERTEXT*} {r key.decrypt v k [string range $sealed 0 end-1] aad context}
        assert_error {BADCIPHERTEXT*} {r key.decrypt v k garbage}
        binary scan $sealed c* bytes
        for {set i 0} {$i < [llength $bytes]} {incr i 7} {
            set bad [lreplace $bytes $i $i [expr {[lindex $bytes $i] ^ 1}]]
            assert_error {BADCIPHERTEXT*} {r key.decrypt v k [binary format c* $bad] aad context}
        }
    }

    test {KEY.ROTATE: old ciphertexts open down to MINVERSION, KEY.REWRAP moves them} {
        set sealed [r key.encrypt v k hello]
        assert_equal 2 [r key.rotate v k]
        assert_equal hello [r key.decrypt v k $sealed]
        set anew [r key.rewrap v k $sealed]
        r key.set v k minversion 2
        assert_error {*} {r key.decrypt v k $sealed}
        assert_equal hello [r key.decrypt v k $anew]
        assert_equal {2 2} [list [dict get [r key.info v k] version] [dict get [r key.info v k] min-version]]
    }

    test {KEY.DATAKEY} {
        lassign [r key.datakey v k bytes 32] plain sealed
        assert_equal 32 [string length $plain]
        assert_equal $plain [r key.decrypt v k $sealed]
        assert_equal {} [lindex [r key.datakey v k noplaintext] 0]
    }

    foreach {type name} {ec-p256 p256 ed25519 ed rsa-2048 rsa} {
        test "KEY.SIGN and KEY.VERIFY: $type" {
            r key.create v $name type $type
            set signature [r key.sign v $name message]
            assert_equal 1 [r key.verify v $name message $signature]
            assert_equal 0 [r key.verify v $name other $signature]
            assert_match {-----BEGIN PUBLIC KEY-----*} [r key.public v $name]
            r key.rotate v $name
            assert_equal 1 [r key.verify v $name message $signature]
        }
    }

    test {KEY.MAC and KEY.VERIFYMAC} {
        r key.create v mac type hmac-sha256
        set mac [r key.mac v mac message]
        assert_equal 32 [string length $mac]
        assert_equal 1 [r key.verifymac v mac message $mac]
        assert_equal 0 [r key.verifymac v mac massage $mac]
    }

    test {A key does what its type can} {
        assert_error {*} {r key.sign v k message}
        assert_error {*} {r key.encrypt v mac text}
        assert_error {*} {r key.public v k}
        assert_error {ERR*} {r key.create v bad type des}
    }

    test {A disabled key is used by nobody} {
        set sealed [r key.encrypt v k hello]
        r key.disable v k
        assert_error {KEYSTATE*} {r key.encrypt v k x}
        assert_error {KEYSTATE*} {r key.decrypt v k $sealed}
        r key.enable v k
        assert_equal hello [r key.decrypt v k $sealed]
    }

    test {A deleted key comes back, or does not} {
        set sealed [r key.encrypt v k hello]
        assert_error {ERR*} {r key.delete v k in 5}
        r key.delete v k
        assert_error {KEYSTATE*} {r key.decrypt v k $sealed}
        r key.undelete v k
        assert_equal hello [r key.decrypt v k $sealed]
        r key.create v doomed
        r key.delete v doomed in 0 force
        wait_for_condition 250 20 {[catch {r key.info v doomed}]} else {fail "it is still there"}
    }

    test {Errors} {
        assert_error {KEYEXISTS*} {r key.create v k}
        assert_error {NOKEY*} {r key.encrypt v none x}
        assert_error {NOVAULT*} {r key.create nowhere k}
        assert_error {ERR*} {r key.random 0}
        assert_equal 100 [string length [r key.random 100]]
    }

    test {KEY.LIST} {
        assert_equal {ed k mac other p256 rsa} [lindex [r key.list v] 1]
        assert_equal 2 [llength [lindex [r key.list v count 2] 1]]
    }

    test {No plaintext in SLOWLOG} {
        r config set slowlog-log-slower-than 0
        r slowlog reset
        r key.encrypt v k marker-value
        assert_no_match *marker-value* [r slowlog get]
        r config set slowlog-log-slower-than 10000
    }

    test {Keys are there after a restart} {
        set sealed [r key.encrypt v k hello]
        restart_server 0 true false
        assert_equal hello [r key.decrypt v k $sealed]
        assert_equal {ed k mac other p256 rsa} [lindex [r key.list v] 1]
    }
}
