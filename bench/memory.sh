#!/usr/bin/env bash
# memory.sh - resident memory of a server that stores 1,000,000 secrets of 100 bytes.
#
#     bench/memory.sh [secrets]        default 1000000
#
# After loading, after a restart, after as many random reads as there are secrets, and again after a pause; with the options of $OPTIONS. MiB from
# /proc/PID/status: RSS is what counts, anon is heap and stacks, file are program and libraries, locked holds secrets, peak is the most there was.
# Workers: what their processes have for themselves (USS). Redis with the same keys and values stands beside it.
. "$(dirname "$0")/lib.sh"

SECRETS=${1:-1000000}
OUT=$SCRATCH/out

mib() { awk -v k="$2" '$1 == k":" {printf "%.1f", $2 / 1024}' "/proc/$1/status"; }
uss_children() {
    local pid
    for pid in $(cat "/proc/$1/task/"*/children); do cat "/proc/$pid/smaps_rollup"; done |
        awk '/^Private_/ {s += $2} END {printf "%.1f", s / 1024}'
}
sample() { # what pid
    printf '%-36s %8s %8s %8s %8s %8s %8s\n' "$1" "$(mib "$2" VmRSS)" "$(mib "$2" RssAnon)" "$(mib "$2" RssFile)" "$(mib "$2" VmLck)" "$(mib "$2" VmHWM)" \
        "$(uss_children "$2")" >>"$OUT"
}
reads() { "$CLIENT" load -p "$PORT" -c 16 -P 16 -n "$SECRETS" -k "$SECRETS" -r "$@" 'key:{}' >/dev/null; }

start_coffer coffer ${OPTIONS:-}
sample "coffer, empty" "$COFFER_PID"
redis-cli -p "$PORT" VAULT.CREATE bench >/dev/null
load_keys "$PORT" "$SECRETS" 100 SECRET.SET bench
sample "coffer, loaded" "$COFFER_PID"
wait_applied
sleep 2
sample "coffer, loaded and quiet" "$COFFER_PID"
reads SECRET.GET bench
sample "coffer, $SECRETS random reads" "$COFFER_PID"
stop_server "$COFFER_PID"

start_coffer coffer ${OPTIONS:-}
sample "coffer, restarted" "$COFFER_PID"
reads SECRET.GET bench
sample "coffer, $SECRETS random reads" "$COFFER_PID"
sleep 2
sample "coffer, after a pause" "$COFFER_PID"
stop_server "$COFFER_PID"

start_redis
load_keys "$PORT" "$SECRETS" 100 SET
sample "redis, loaded" "$REDIS_PID"

{
    heading "bench/memory.sh $SECRETS${OPTIONS:+, $OPTIONS}: MiB with $SECRETS secrets of 100 bytes"
    printf '%-36s %8s %8s %8s %8s %8s %8s\n' what RSS anon file locked peak workers
    cat "$OUT"
} | tee "${RESULT:-/dev/null}"
