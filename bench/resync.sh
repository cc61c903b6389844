#!/usr/bin/env bash
# resync.sh - a node that lost its disk comes back from a peer's snapshot: the second tier of recovery.
#
#     bench/resync.sh [rounds [secrets]]        default 5 rounds, 1000000 secrets
#
# A node with so many secrets of 100 bytes, its log trimmed; beside it a replica that has nothing but a token of the realm, which copies the snapshot, begins anew with
# it, and joins. Times of the replica, seconds, median of the rounds:
#
# copied    from its first look at the peer until the snapshot is here, durable and verified
# read      from exec to the first SECRET.GET that is answered
# joined    from exec until master_link_status is up
# filled    of its stores, from the start behind the copy on, while all is answered
#
# For comparison the same number of bytes over a loopback connection, from the page cache (MB/s), and written to the same disk and synced.
. "$(dirname "$0")/lib.sh"

ROUNDS=${1:-5}
COUNT=${2:-1000000}
OUT=$SCRATCH/rounds
QUIET="--snapshot-log-bytes 0 --snapshot-interval 0" # no snapshots but those that are asked for

now_ms() { echo $(($(date +%s%N) / 1000000)); }
info() { redis-cli -p "$PORT" INFO "$1" 2>/dev/null | tr -d '\r' | awk -F: -v f="$2" '$1 == f {print $2}'; }
# said TEXT - when the replica's log said it first, milliseconds of the day.
said() { grep -m1 "$1" "$SCRATCH/replica.log" | awk '{split($5, t, /[:.]/); print ((t[1] * 60 + t[2]) * 60 + t[3]) * 1000 + t[4]}'; }

# loopback FILE - its bytes from one process to another, MB/s.
loopback() {
    perl -MIO::Socket::INET -MTime::HiRes=time -e '
        my $l = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die;
        my $n = -s $ARGV[0];
        if (!fork) {
            my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $l->sockport) or die;
            open my $f, "<:raw", $ARGV[0] or die;
            while (sysread $f, my $b, 262144) { my $o = 0; $o += syswrite $s, $b, length($b) - $o, $o while $o < length $b; }
            exit;
        }
        my $c = $l->accept;
        my $t = time;
        while (sysread $c, my $b, 262144) { $n -= length $b }
        printf "%.0f\n", (-s $ARGV[0]) / 1e6 / (time - $t);' "$1"
}
disk() {
    local begun
    begun=$(now_ms)
    dd if="$1" of="$SCRATCH/copy" bs=4M conv=fdatasync status=none
    awk -v n="$(stat -c %s "$1")" -v ms=$(($(now_ms) - begun)) 'BEGIN {printf "%.0f\n", n / 1e3 / ms}'
    rm "$SCRATCH/copy"
}

# shellcheck disable=SC2086 # options are words
start_coffer primary $QUIET --wbl-segment-bytes 1mb
redis-cli -p "$PORT" VAULT.CREATE bench >/dev/null
"$CLIENT" load -p "$PORT" -c 8 -P 100 -n "$COUNT" -k "$COUNT" SECRET.SET bench 'key:{}' =100 >/dev/null
until [ "$(redis-cli -p "$PORT" WBL.INFO | grep -A1 first-lsn | tail -1)" -gt 1 ]; do
    redis-cli -p "$PORT" SET ballast x >/dev/null
    redis-cli -p "$PORT" SNAPSHOT.CREATE >/dev/null
done
PRIMARY=$PORT PRIMARY_PID=$COFFER_PID
SNAPSHOT=$(ls "$SCRATCH"/primary/snapshots/*.snap | tail -1)
BYTES=$(stat -c %s "$SNAPSHOT")

for round in $(seq "$ROUNDS"); do
    mkdir -p "$SCRATCH/replica"
    cp -r "$SCRATCH/primary/hsm" "$SCRATCH/replica/"
    free_port
    begun=$(now_ms)
    # shellcheck disable=SC2086
    "$BUILD/coffer-server" --port "$PORT" --dir "$SCRATCH/replica" --loglevel notice $QUIET --replicaof 127.0.0.1 "$PRIMARY" >"$SCRATCH/replica.log" 2>&1 &
    COFFER_PID=$!
    PIDS[$COFFER_PID]=1
    key=$(printf 'key:%012d' $((COUNT * round / (ROUNDS + 1))))
    until [ "$(redis-cli -p "$PORT" SECRET.GET bench "$key" 2>/dev/null | wc -c)" -gt 100 ]; do # an error is shorter
        kill -0 "$COFFER_PID" || { cat "$SCRATCH/replica.log" >&2; exit 1; }
    done
    read_ms=$(($(now_ms) - begun))
    until [ "$(info replication master_link_status)" = up ]; do sleep 0.01; done
    joined_ms=$(($(now_ms) - begun))
    until [ "$(info persistence recovery_stores_left)" = 0 ]; do sleep 0.2; done
    copied_ms=$(($(said 'is here and counts') - $(said 'copying the snapshot')))
    echo "round $copied_ms $read_ms $joined_ms $(info persistence recovery_filled_ms) $(loopback "$SNAPSHOT") $(disk "$SNAPSHOT") $(info persistence recovery_tier)" >>"$OUT"
    stop_server "$COFFER_PID"
    rm -rf "$SCRATCH/replica"
done
stop_server "$PRIMARY_PID"

{
    heading "bench/resync.sh $ROUNDS $COUNT: a replica without data comes back from a snapshot of $((BYTES >> 20)) MiB"
    awk "$AWK_MEDIAN"'
        END {
            printf "%8s %6s %10s %10s %10s %10s %14s %14s %14s\n", "rounds", "tier", "copied s", "read s", "joined s", "filled s", "copied MB/s", "loopback MB/s", "disk MB/s"
            n = "round"
            printf "%8d %6d %10.2f %10.2f %10.2f %10.2f %14.0f %14.0f %14.0f\n", count[n], col(n, 8), col(n, 2) / 1e3, col(n, 3) / 1e3, col(n, 4) / 1e3, col(n, 5) / 1e3, '"$BYTES"' / 1e3 / col(n, 2), col(n, 6), col(n, 7)
        }' "$OUT"
} | tee "${RESULT:-/dev/null}"
