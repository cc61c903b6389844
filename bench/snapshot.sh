#!/usr/bin/env bash
# snapshot.sh - what a snapshot makes of the log, and what writers notice of one being made.
#
#     bench/snapshot.sh [rounds [secrets]]        default 7 rounds, 100000 secrets; SCALE multiplies the seconds of a measurement
#
# Size: every secret (100 bytes) is written ten times in turn, no snapshot is made meanwhile; then one is. Its bytes against those of the log that it
# stands for, in vaults that keep 1, 2 and 10 versions of a secret: what is kept has to be in it.
#
# Writers: 16 connections that overwrite these secrets at random, one SECRET.SET at a time each, for 4 seconds: while one snapshot after the other is
# made without a pause, and while none is, in turns, each first in every other round. Median and 99th percentile as clients see them; ratios are
# medians of the rounds' ratios. "floor" is none against none, measured the same way: what the machine's own unrest makes of a ratio of 1.
. "$(dirname "$0")/lib.sh"

ROUNDS=${1:-7}
SECRETS=${2:-100000}
SECONDS_EACH=$(awk -v by="${SCALE:-1}" 'BEGIN {print 4 * by}')
SIZES=$SCRATCH/sizes
OUT=$SCRATCH/rounds

log_bytes() { redis-cli -p "$PORT" WBL.INFO | awk '$1 == "bytes" {getline; print $1}'; }
snapshot_bytes() { redis-cli -p "$PORT" SNAPSHOT.INFO | awk '$1 == "bytes" {getline; print $1; exit}'; }

for kept in 1 2 10; do
    start_coffer "size-$kept" --snapshot-log-bytes 0 --snapshot-interval 0
    redis-cli -p "$PORT" VAULT.CREATE bench MAXVERSIONS $kept >/dev/null
    for _ in $(seq 10); do load_keys "$PORT" "$SECRETS" 100 SECRET.SET bench; done
    log=$(log_bytes)
    redis-cli -p "$PORT" SNAPSHOT.CREATE >/dev/null
    echo "$kept $log $(snapshot_bytes)" >>"$SIZES"
    stop_server "$COFFER_PID"
    [ $kept = 10 ] || rm -rf "${SCRATCH:?}/size-$kept"
done

start_coffer size-10 --snapshot-log-bytes 0 --snapshot-interval 0
writers() { "$CLIENT" load -p "$PORT" -c 16 -P 1 -t "$SECONDS_EACH" -k "$SECRETS" -r SECRET.SET bench 'key:{}' =100; }
snapshots() { redis-cli -p "$PORT" SNAPSHOT.INFO | awk '$1 == "made" {getline; print $1}'; }
without() { writers | awk '{print $1, $3, $4}'; }
with() { # while snapshots are made: of one alone it would depend on where in it the measurement falls
    local maker before
    before=$(snapshots)
    "$CLIENT" load -p "$PORT" -c 1 -P 1 -t 1000 SNAPSHOT.CREATE >/dev/null 2>&1 &
    maker=$!
    PIDS[$maker]=1
    without
    stop_server "$maker" 2>/dev/null
    redis-cli -p "$PORT" SNAPSHOT.CREATE >/dev/null # the one under way is over
    echo $(($(snapshots) - before)) >>"$SCRATCH/made"
}

writers >/dev/null # everything is warm
for round in $(seq "$ROUNDS"); do
    if [ $((round % 2)) = 0 ]; then a=$(without) b=$(with); else b=$(with) a=$(without); fi
    echo "snapshots $a $b" >>"$OUT"
    if [ $((round % 2)) = 0 ]; then a=$(without) b=$(without); else b=$(without) a=$(without); fi
    echo "floor $a $b" >>"$OUT"
done

{
    heading "bench/snapshot.sh $ROUNDS $SECRETS: secrets of 100 bytes; interleaved rounds of $SECONDS_EACH s, medians; ratios are medians of the rounds' ratios"
    awk 'BEGIN {printf "%-28s %12s %12s %8s\n", "ten updates of each", "log MiB", "snapshot MiB", "ratio"}
         {printf "%-28s %12.1f %12.1f %8.2f\n", $1 " versions kept", $2 / 1048576, $3 / 1048576, $2 / $3}' "$SIZES"
    echo
    awk "$AWK_MEDIAN"'
        END {
            printf "%-12s %6s %10s %10s %8s %10s %10s %8s %10s %10s %8s\n", "writers", "rounds", "op/s", "with", "ratio", "median us", "with", "ratio", "p99 us", "with", "ratio"
            for (i = 1; i <= names; i++) {
                n = order[i]
                printf "%-12s %6d %10.0f %10.0f %8.2f %10.0f %10.0f %8.2f %10.0f %10.0f %8.2f\n", n, count[n], col(n, 2), col(n, 5), ratio(n, 5, 2), col(n, 3), col(n, 6), ratio(n, 6, 3), col(n, 4), col(n, 7), ratio(n, 7, 4)
            }
        }' "$OUT"
    awk '{n += $1} END {printf "# %.1f snapshots a measurement\n", n / NR}' "$SCRATCH/made"
} | tee "${RESULT:-/dev/null}"
