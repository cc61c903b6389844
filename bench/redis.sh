#!/usr/bin/env bash
# redis.sh - Coffer beside redis-server: reads, and durable writes, with the same redis-benchmark.
#
#     bench/redis.sh [rounds]        default 7; SCALE multiplies the requests of a measurement
#
# Reads: GET against SECRET.GET, 100-byte values, 100,000 keys, 50 clients, unpipelined and -P 16.
# Writes: SET with appendfsync always against SECRET.SET, same values and keys; everything else as it is by default: Redis
# rewrites its AOF, Coffer makes snapshots. "alone": both without that (auto-aof-rewrite-percentage 0; no snapshots).
. "$(dirname "$0")/lib.sh"

ROUNDS=${1:-7}
KEYS=100000
export KEYSPACE=$KEYS
VALUE=$(printf 'x%.0s' $(seq 100))
SCALE=${SCALE:-1}

start_redis --appendonly no
READ_REDIS=$REDIS_PID READ_PORT=$PORT
start_redis --appendonly yes --appendfsync always
WRITE_REDIS=$REDIS_PID WRITE_PORT=$PORT
start_redis --appendonly yes --appendfsync always --auto-aof-rewrite-percentage 0
ALONE_REDIS=$REDIS_PID ALONE_PORT=$PORT
load_keys "$READ_PORT" $KEYS 100 SET
load_keys "$WRITE_PORT" $KEYS 100 SET
load_keys "$ALONE_PORT" $KEYS 100 SET
for name in coffer alone; do
    if [ $name = alone ]; then start_coffer alone --snapshot-log-bytes 0 --snapshot-interval 0; else start_coffer coffer; fi
    redis-cli -p "$PORT" VAULT.CREATE bench >/dev/null
    load_keys "$PORT" $KEYS 100 SECRET.SET bench
    wait_applied
    if [ $name = alone ]; then ALONE_COFFER=$COFFER_PID ALONE_COFFER_PORT=$PORT; else DEFAULT_COFFER=$COFFER_PID DEFAULT_COFFER_PORT=$PORT; fi
done

OUT=$SCRATCH/rounds
use() { PORT=$1 COFFER_PID=$2; }
pair() { # name requests pipeline redis-port redis-pid redis-command... -- coffer-command...; Coffer as use() said
    local name=$1 n p=$3 port=$4 pid=$5 peer=() ours=()
    n=$(awk -v n="$2" -v by="$SCALE" 'BEGIN {print int(n * by)}')
    shift 5
    while [ "$1" != -- ]; do peer+=("$1"); shift; done
    shift
    ours=("$@")
    local a b
    a=$(run_once "$port" "$pid" "$n" 50 "$p" "${peer[@]}")
    b=$(run_once "$PORT" "$COFFER_PID" "$n" 50 "$p" "${ours[@]}")
    echo "$name $a $b" >>"$OUT"
}

for _ in $(seq "$ROUNDS"); do
    use "$DEFAULT_COFFER_PORT" "$DEFAULT_COFFER"
    wait_applied
    pair "GET,P=1" 100000 1 "$READ_PORT" "$READ_REDIS" GET key:__rand_int__ -- SECRET.GET bench key:__rand_int__
    pair "GET,P=16" 600000 16 "$READ_PORT" "$READ_REDIS" GET key:__rand_int__ -- SECRET.GET bench key:__rand_int__
    pair "SET,durable,P=1" 50000 1 "$WRITE_PORT" "$WRITE_REDIS" SET key:__rand_int__ "$VALUE" -- SECRET.SET bench key:__rand_int__ "$VALUE"
    pair "SET,durable,P=16" 300000 16 "$WRITE_PORT" "$WRITE_REDIS" SET key:__rand_int__ "$VALUE" -- SECRET.SET bench key:__rand_int__ "$VALUE"
    use "$ALONE_COFFER_PORT" "$ALONE_COFFER"
    pair "SET,durable,alone,P=1" 50000 1 "$ALONE_PORT" "$ALONE_REDIS" SET key:__rand_int__ "$VALUE" -- SECRET.SET bench key:__rand_int__ "$VALUE"
    pair "SET,durable,alone,P=16" 300000 16 "$ALONE_PORT" "$ALONE_REDIS" SET key:__rand_int__ "$VALUE" -- SECRET.SET bench key:__rand_int__ "$VALUE"
done

{
    heading "bench/redis.sh $ROUNDS: 100-byte values, $KEYS keys, 50 clients, redis-benchmark; interleaved rounds, medians; ratios are medians of the rounds' ratios, coffer / redis"
    table "$OUT"
} | tee "${RESULT:-/dev/null}"
