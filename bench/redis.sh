#!/usr/bin/env bash
# redis.sh - Coffer beside redis-server: reads, and durable writes, with the same redis-benchmark.
#
#     bench/redis.sh [rounds]        default 7; SCALE multiplies the requests of a measurement
#
# Reads: GET against SECRET.GET, 100-byte values, 100,000 keys, 50 clients, unpipelined and -P 16.
# Writes: SET with appendfsync always against SECRET.SET, same values and keys; everything else as it is by default: Redis
# rewrites its AOF, Coffer makes snapshots. "alone": both without that (auto-aof-rewrite-percentage 0; no snapshots).
#
# Two servers run at a time, so that neither works off what another measurement left behind. Writes go on for seconds: what
# they cost later (stores, snapshots, rewrites) falls into the measurement.
. "$(dirname "$0")/lib.sh"

ROUNDS=${1:-7}
KEYS=100000
export KEYSPACE=$KEYS
VALUE=$(printf 'x%.0s' $(seq 100))
SCALE=${SCALE:-1}
OUT=$SCRATCH/rounds

# servers NAME redis-options -- coffer-options: one of each, loaded with the keys.
servers() {
    local name=$1 redis=()
    shift
    while [ "$1" != -- ]; do redis+=("$1"); shift; done
    shift
    start_redis "${redis[@]}"
    REDIS_PORT=$PORT
    load_keys "$REDIS_PORT" $KEYS 100 SET
    start_coffer "$name" "$@"
    redis-cli -p "$PORT" VAULT.CREATE bench >/dev/null
    load_keys "$PORT" $KEYS 100 SECRET.SET bench
    wait_applied
}

end_servers() {
    stop_server "$REDIS_PID"
    stop_server "$COFFER_PID"
}

# pair name requests pipeline redis-command... -- coffer-command...
pair() {
    local name=$1 n p=$3 peer=() a b
    n=$(awk -v n="$2" -v by="$SCALE" 'BEGIN {print int(n * by)}')
    shift 3
    while [ "$1" != -- ]; do peer+=("$1"); shift; done
    shift
    a=$(run_once "$REDIS_PORT" "$REDIS_PID" "$n" 50 "$p" "${peer[@]}")
    b=$(run_once "$PORT" "$COFFER_PID" "$n" 50 "$p" "$@")
    echo "$name $a $b" >>"$OUT"
}

reads() {
    pair "GET,P=1" 100000 1 GET key:__rand_int__ -- SECRET.GET bench key:__rand_int__
    pair "GET,P=16" 600000 16 GET key:__rand_int__ -- SECRET.GET bench key:__rand_int__
}

writes() { # name
    pair "$1,P=1" 100000 1 SET key:__rand_int__ "$VALUE" -- SECRET.SET bench key:__rand_int__ "$VALUE"
    pair "$1,P=16" 800000 16 SET key:__rand_int__ "$VALUE" -- SECRET.SET bench key:__rand_int__ "$VALUE"
}

rounds() { # command...
    for _ in $(seq "$ROUNDS"); do "$@"; done
}

servers reads --appendonly no --
rounds reads
end_servers
servers writes --appendonly yes --appendfsync always --
rounds writes "SET,durable"
end_servers
servers alone --appendonly yes --appendfsync always --auto-aof-rewrite-percentage 0 -- --snapshot-log-bytes 0 --snapshot-interval 0
rounds writes "SET,durable,alone"
end_servers

{
    heading "bench/redis.sh $ROUNDS: 100-byte values, $KEYS keys, 50 clients, redis-benchmark; interleaved rounds, medians; ratios are medians of the rounds' ratios, coffer / redis"
    table "$OUT"
} | tee "${RESULT:-/dev/null}"
