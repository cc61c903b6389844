#!/usr/bin/env bash
# tracking.sh - clients that cache: how long a changed secret takes to reach them, and what it costs to read when somebody notes it.
#
#     bench/tracking.sh [rounds [changes]]        default 7 rounds of 500 changes
#
# told N     N connections that track read a secret, another one writes it: microseconds since the write was sent, until its answer (durable),
#            until the first of them is told, until the last. Coffer: SECRET.SET and SECRET.GET; redis-server with `appendfsync always`: SET, GET.
# reads      GET by redis-benchmark, 16 to the packet, as it is and with CLIENT TRACKING on (--enable-tracking): what noting names costs the server.
#
# Both servers run all the time and are measured in turns; medians of the rounds.
. "$(dirname "$0")/lib.sh"

ROUNDS=${1:-7}
CHANGES=${2:-500}
TOLD=$BUILD/bench/told
READS=$(awk -v s="${SCALE:-1}" 'BEGIN {print int(300000 * s)}')
OUT=$SCRATCH/told
RATES=$SCRATCH/rates
[ -x "$TOLD" ] || { echo "no $TOLD: make bench builds it" >&2; exit 1; }

start_redis --appendonly yes --appendfsync always
REDIS_PORT=$PORT
start_coffer coffer
redis-cli -p "$PORT" VAULT.CREATE bench >/dev/null
load_keys "$REDIS_PORT" 10000 100 SET
load_keys "$PORT" 10000 100 SET

told() { # name port caches READ -- WRITE
    local name=$1 port=$2 caches=$3
    shift 3
    echo "$name-$caches $("$TOLD" -p "$port" -c "$caches" -n "$CHANGES" "$@")" >>"$OUT"
}
reads() { # name options
    local name=$1 r c
    shift
    BENCHMARK_OPTIONS=("$@")
    KEYSPACE=10000
    r=$(run_once "$REDIS_PORT" "$REDIS_PID" "$READS" 16 16 GET key:__rand_int__)
    c=$(run_once "$PORT" "$COFFER_PID" "$READS" 16 16 GET key:__rand_int__)
    echo "$name $r $c" >>"$RATES"
}

for _ in $(seq "$ROUNDS"); do
    for caches in 1 10 100; do
        told redis "$REDIS_PORT" $caches GET app/db -- SET app/db hunter2
        told coffer "$PORT" $caches SECRET.GET bench app/db -- SECRET.SET bench app/db hunter2
    done
    reads GET
    reads GET-tracking --enable-tracking
done

{
    heading "bench/tracking.sh $ROUNDS $CHANGES: a change on its way to caches, microseconds; reads that are noted"
    awk "$AWK_MEDIAN"'
        END {
            printf "%-14s %6s %10s %10s %12s %10s %12s %10s\n", "told", "rounds", "answer", "p99", "first told", "p99", "last told", "p99"
            for (i = 1; i <= names; i++) { n = order[i]; printf "%-14s %6d", n, count[n]; for (f = 2; f <= 7; f++) printf " %*.0f", (f % 2 || f == 2) ? 10 : 12, col(n, f); print "" }
        }' "$OUT"
    echo
    table "$RATES"
} | tee "${RESULT:-/dev/null}"
