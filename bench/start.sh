#!/usr/bin/env bash
# start.sh - how long after a start the first read is answered, and how long until everything is where it was.
#
#     bench/start.sh [rounds [secrets...]]        default 5 rounds, 1000000 and 5000000 secrets
#
# intact    after a clean stop
# lost      base store and all shards deleted: reads come from the snapshot, the stores are filled behind
# log       the same without snapshots: from the log alone
#
# First with one vault of so many secrets of 100 bytes, a snapshot of all of them. Then the restore of the smallest of these numbers, each secret written
# ten times and kept in its last version, from a snapshot against the log that it stands for. What is on the disk is dropped from the page cache before each start. Time is from exec to
# the answer of a SECRET.GET, milliseconds, asked every few of them; median of the rounds. filled: until INFO says that all stores are there, once.
. "$(dirname "$0")/lib.sh"

ROUNDS=${1:-5}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- 1000000 5000000
OUT=$SCRATCH/rounds
QUIET="--snapshot-log-bytes 0 --snapshot-interval 0" # no snapshots but those that are asked for

now_ms() { echo $(($(date +%s%N) / 1000000)); }
persistence() { redis-cli -p "$PORT" INFO persistence | tr -d '\r' | awk -F: -v f="$1" '$1 == f {print $2}'; }
cool() { find "$1" -type f -exec dd if={} iflag=nocache count=0 status=none \; ; }

# first_read NAME KEY - starts the server NAME; sets PORT, COFFER_PID, READ_MS.
first_read() {
    local begun
    free_port
    cool "$SCRATCH/$1"
    begun=$(now_ms)
    # shellcheck disable=SC2086 # options are words
    "$BUILD/coffer-server" --port "$PORT" --dir "$SCRATCH/$1" --loglevel notice $QUIET >"$SCRATCH/$1.log" 2>&1 &
    COFFER_PID=$!
    PIDS[$COFFER_PID]=1
    until [ "$(redis-cli -p "$PORT" SECRET.GET bench "$2" 2>/dev/null | wc -c)" -gt 100 ]; do # an error is shorter
        kill -0 "$COFFER_PID" || { cat "$SCRATCH/$1.log" >&2; return 1; }
    done
    READ_MS=$(($(now_ms) - begun))
}

# wait_filled - sets FILLED_MS.
wait_filled() {
    until [ "$(persistence recovery_stores_left)" = 0 ]; do sleep 0.2; done
    FILLED_MS=$(persistence recovery_filled_ms)
}

lose_stores() { rm -rf "$SCRATCH/$1"/base* "$SCRATCH/$1"/shard-*; }

# rounds_of WHAT NAME COUNT [command before each start] - a line "WHAT ms" for each round.
rounds_of() {
    local what=$1 name=$2 count=$3 round
    for round in $(seq "$ROUNDS"); do
        [ -z "${4:-}" ] || "$4" "$name"
        first_read "$name" "$(printf 'key:%012d' $((count * round / (ROUNDS + 1))))"
        echo "$what $READ_MS" >>"$OUT"
        [ "$round" -lt "$ROUNDS" ] || { wait_filled; echo "$what $FILLED_MS" >>"$OUT.filled"; }
        stop_server "$COFFER_PID"
    done
}

# fill NAME SECRETS WRITES VERSIONS - a server's directory with a snapshot of everything, and beside it a copy of the log before it was trimmed.
fill() {
    # shellcheck disable=SC2086
    start_coffer "$1" $QUIET
    redis-cli -p "$PORT" VAULT.CREATE bench MAXVERSIONS "$4" >/dev/null
    "$CLIENT" load -p "$PORT" -c 8 -P 100 -n "$3" -k "$2" SECRET.SET bench 'key:{}' =100 >/dev/null
    stop_server "$COFFER_PID"
    cp -r "$SCRATCH/$1/wal" "$SCRATCH/$1.wal"
    # shellcheck disable=SC2086
    start_coffer "$1" $QUIET
    redis-cli -p "$PORT" SNAPSHOT.CREATE >/dev/null
    stop_server "$COFFER_PID"
}

smallest=$1
for count in "$@"; do
    [ "$count" -ge "$smallest" ] || smallest=$count
    fill "d$count" "$count" "$count" 10
    rounds_of "intact-$count" "d$count" "$count"
    rounds_of "lost-$count" "d$count" "$count" lose_stores
    rm -rf "$SCRATCH/d$count" "$SCRATCH/d$count.wal"
done
fill updated "$smallest" $((10 * smallest)) 1
rounds_of "restore-$smallest" updated "$smallest" lose_stores
rm -rf "$SCRATCH/updated/snapshots"/* "$SCRATCH/updated/wal"
mv "$SCRATCH/updated.wal" "$SCRATCH/updated/wal"
all=$ROUNDS
ROUNDS=$(((all + 2) / 3))
rounds_of "log-$((10 * smallest))" updated "$smallest" lose_stores

{
    heading "bench/start.sh $all $*: milliseconds from exec to the first read, and until all stores are there"
    awk 'FILENAME == ARGV[2] {filled[$1] = $2; next}'"$AWK_MEDIAN"'
        END {
            printf "%-24s %6s %12s %12s\n", "what", "rounds", "first read", "filled"
            for (i = 1; i <= names; i++) { n = order[i]; printf "%-24s %6d %12.0f %12s\n", n, count[n], col(n, 2), n in filled ? filled[n] : "" }
        }' "$OUT" "$OUT.filled"
} | tee "${RESULT:-/dev/null}"
