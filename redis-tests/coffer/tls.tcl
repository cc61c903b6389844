# Secrets over TLS: run with --tls.
if {$::tls} {
    start_server {tags {"coffer-tls"}} {
        r vault.create v

        test {TLS: secrets of all sizes} {
            foreach n {0 1 100 1000 16383 16384 16385 100000 1000000} {
                set value [string repeat x $n]
                r secret.set v p $value
                assert_equal $value [r secret.get v p]
            }
        }

        test {TLS: a pipeline of large answers} {
            r secret.set v p [string repeat y 100000]
            set rd [redis_deferring_client]
            for {set i 0} {$i < 100} {incr i} {$rd secret.get v p}
            for {set i 0} {$i < 100} {incr i} {assert_equal 100000 [string length [$rd read]]}
            $rd close
        }

        test {TLS: a new certificate is shown to who comes, without disturbing who is there} {
            set before [redis_client]
            r config set tls-cert-file [format %s/tests/tls/redis.crt [pwd]] tls-key-file [format %s/tests/tls/redis.key [pwd]]
            assert_equal PONG [$before ping]
            set after [redis_client]
            assert_equal PONG [$after ping]
            assert_error {ERR*} {r config set tls-cert-file /nonexistent}
            assert_equal PONG [$after ping]
            $before close
            $after close
        }

        test {TLS: INFO and CLIENT LIST work, and keys do} {
            r key.create v k
            assert_equal text [r key.decrypt v k [r key.encrypt v k text]]
            assert_match {*tls*} [r config get tls-port]
        }
    }
}
