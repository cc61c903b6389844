#!/usr/bin/env bash
# restore.sh - how long a node without a disk takes to be back from the object store.
#
#     bench/restore.sh [rounds [secrets]]        default 5 rounds, 1000000 secrets of 100 bytes
#
# The object store is Ceph's gateway with its data in memory (tests/lib/rgw.sh), on loopback. A server with so many secrets, each written once, sends its
# snapshot there. In each round everything of its directory but the HSM's token is deleted, and it starts with force-recover: the time from exec to the answer
# of a SECRET.GET, and, by INFO, until all stores are filled. "fetched" is the part of it in which the container comes in, is opened and written; "verified" is
# from there until the log says that it counts.
#
# Beside it, in the same round, what the same bytes take by themselves: the gateway's own, the container by curl to nowhere; and the disk's own, the snapshot
# written with one fdatasync at the end, and read again from the disk.
. "$(dirname "$0")/lib.sh"

ROUNDS=${1:-5}
SECRETS=${2:-1000000}
OUT=$SCRATCH/rounds
GATEWAY=$SCRATCH/gateway
CREDENTIALS=COFFERTESTACCESS:CofferTestSecret+/0123456789

now_us() { echo $(($(date +%s%N) / 1000)); }
persistence() { redis-cli -p "$PORT" INFO persistence | tr -d '\r' | awk -F: -v f="$1" '$1 == f {print $2}'; }
s3() { curl -sfS -H x-amz-content-sha256:UNSIGNED-PAYLOAD --aws-sigv4 aws:amz:us-east-1:s3 --user "$CREDENTIALS" "$@"; }
# timed COMMAND... - prints its microseconds.
timed() {
    local begun
    begun=$(now_us)
    "$@" >/dev/null
    echo $(($(now_us) - begun))
}

free_port && gateway_port=$PORT
free_port && tls_port=$PORT
free_port && mon_port=$PORT
mkdir "$GATEWAY"
coproc RGW { "$BENCH_DIR/../tests/lib/rgw.sh" "$GATEWAY" "$gateway_port" "$tls_port" "$mon_port" 2>"$SCRATCH/gateway.log"; }
PIDS[$RGW_PID]=1
read -r answer <&"${RGW[0]}"
[ "$answer" = ready ] || { echo "the gateway: $answer" >&2; exit 1; }
s3 -X PUT "http://127.0.0.1:$gateway_port/bench"
printf '%s\n' "${CREDENTIALS%%:*}" "${CREDENTIALS#*:}" >"$SCRATCH/credentials"
chmod 600 "$SCRATCH/credentials"
STORE="--object-store s3://bench --object-store-endpoint http://127.0.0.1:$gateway_port --object-store-credentials-file $SCRATCH/credentials
    --object-store-interval 0 --snapshot-log-bytes 0 --snapshot-interval 0"

# shellcheck disable=SC2086 # options are words
start_coffer node $STORE
redis-cli -p "$PORT" VAULT.CREATE bench >/dev/null
load_keys "$PORT" "$SECRETS" 100 SECRET.SET bench
redis-cli -p "$PORT" SNAPSHOT.CREATE >/dev/null
sent_us=$(timed redis-cli -p "$PORT" SNAPSHOT.UPLOAD)
stop_server "$COFFER_PID"
cp "$(find "$SCRATCH/node/snapshots" -name '*.snap' | sort | tail -1)" "$SCRATCH/snapshot"
bytes=$(stat -c %s "$SCRATCH/snapshot")
object=$(s3 "http://127.0.0.1:$gateway_port/bench?list-type=2" | grep -o '<Key>[^<]*\.snap</Key>' | sed 's/<[^>]*>//g')

# log_us TEXT - when the server's log said it: microseconds of the day.
log_us() { awk -v text="$1" 'index($0, text) {split($5, t, /[:.]/); printf "%.0f\n", ((t[1] * 60 + t[2]) * 60 + t[3]) * 1000000 + t[4] * 1000; exit}' "$SCRATCH/node.log"; }

restore() {
    local begun fetching fetched key
    find "$SCRATCH/node" -mindepth 1 -maxdepth 1 ! -name hsm -exec rm -rf {} +
    key=$(printf 'key:%012d' $((SECRETS * $1 / (ROUNDS + 1))))
    free_port
    begun=$(now_us)
    # shellcheck disable=SC2086
    "$BUILD/coffer-server" --port "$PORT" --dir "$SCRATCH/node" --loglevel notice $STORE --force-recover yes >"$SCRATCH/node.log" 2>&1 &
    COFFER_PID=$!
    PIDS[$COFFER_PID]=1
    until [ "$(redis-cli -p "$PORT" SECRET.GET bench "$key" 2>/dev/null | wc -c)" = 101 ]; do
        kill -0 "$COFFER_PID" || { cat "$SCRATCH/node.log" >&2; return 1; }
    done
    echo "first-read $(($(now_us) - begun))"
    fetching=$(log_us 'Fetching the snapshot') fetched=$(log_us 'Fetched;')
    echo "fetched $((fetched - fetching))"
    echo "verified $(($(log_us 'FORCED RECOVERY') - fetched))"
    until [ "$(persistence recovery_stores_left)" = 0 ]; do sleep 0.2; done
    echo "filled $(($(persistence recovery_filled_ms) * 1000 + fetched - fetching))"
    stop_server "$COFFER_PID"
}

for round in $(seq "$ROUNDS"); do
    restore "$round" >>"$OUT"
    {
        echo "gateway $(timed s3 -o /dev/null "http://127.0.0.1:$gateway_port/bench/$object")"
        echo "disk-write $(timed dd if="$SCRATCH/snapshot" of="$SCRATCH/copy" bs=1M conv=fdatasync status=none)"
        dd if="$SCRATCH/copy" iflag=nocache count=0 status=none
        echo "disk-read $(timed dd if="$SCRATCH/copy" of=/dev/null bs=1M status=none)"
    } >>"$OUT"
done

{
    heading "bench/restore.sh $ROUNDS $SECRETS: a snapshot of $SECRETS secrets of 100 bytes from the object store; medians"
    echo "# the snapshot has $((bytes / 1048576)) MiB; it was sent in $((sent_us / 1000)) ms, $((bytes / sent_us)) MB/s"
    awk -v bytes="$bytes" "$AWK_MEDIAN"'
        END {
            printf "%-24s %6s %12s %12s\n", "what", "rounds", "seconds", "MB/s"
            for (i = 1; i <= names; i++) { n = order[i]; printf "%-24s %6d %12.2f %12.0f\n", n, count[n], col(n, 2) / 1000000, bytes / col(n, 2) }
        }' "$OUT"
} | tee "${RESULT:-/dev/null}"
