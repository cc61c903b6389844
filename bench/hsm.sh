#!/usr/bin/env bash
# hsm.sh - key operations of a server beside the bare module in as many processes.
#
#     bench/hsm.sh [rounds [seconds]]        default 7 rounds, 2 seconds a measurement
#
# encrypt         KEY.ENCRYPT of 1 KiB, pipelined (8 connections of 64 requests), 64 keys, beside C_EncryptInit + C_Encrypt with a counter as
#                 nonce
# encrypt,random  the same figure of the server, beside the loop with nonces from C_GenerateRandom, drawn as the worker draws them
# cold            KEY.ENCRYPT with keys that are in no cache (4,096 keys, a cache of 16), beside HMAC, C_UnwrapKey, C_Encrypt, C_DestroyObject
# create          KEY.CREATE of aes-256, durable, beside C_GenerateKey, C_WrapKey, HMAC, C_DestroyObject
#
# N is `hsm-workers` on one side and processes on the other. The server's threads and the client want cores besides those of the workers. Where
# there are none left the ratio says little; "of hsm" then says what the server makes of a worker: the bare loop's CPU time per operation over the
# worker's. "run" and "wait" are the workers' time on a core, and ready without one; the rest of 100% they had nothing to do. "others" is what
# anybody else used meanwhile, in cores, beside the bare loop (its start included) and beside the server: above 0.1 the ratio tells of them, too.
# As root, `chrt -r 1 bench/hsm.sh` keeps others off the cores that it wants.
. "$(dirname "$0")/lib.sh"

ROUNDS=${1:-7}
TIME=${2:-2}
KEYS=64
COLD_KEYS=4096
OUT=$SCRATCH/rounds

"$BUILD/coffer-hsm" provision "$SCRATCH/bare" >/dev/null
for n in 1 2; do
    start_coffer "warm-$n" --hsm-workers $n
    WARM_PORT[n]=$PORT WARM_PID[n]=$COFFER_PID
    start_coffer "cold-$n" --hsm-workers $n --hsm-key-cache 16
    COLD_PORT[n]=$PORT COLD_PID[n]=$COFFER_PID
    for port in "${WARM_PORT[n]}" "${COLD_PORT[n]}"; do redis-cli -p "$port" VAULT.CREATE bench >/dev/null; done
    "$CLIENT" load -p "${WARM_PORT[n]}" -c 4 -P 16 -n $KEYS -k $KEYS KEY.CREATE bench 'key-{}' >/dev/null
    "$CLIENT" load -p "${COLD_PORT[n]}" -c 4 -P 16 -n $COLD_KEYS -k $COLD_KEYS KEY.CREATE bench 'key-{}' >/dev/null
done

# bare WHAT PROCESSES - "operations-a-second cpu-us-an-operation others-cores".
bare() {
    local busy rate
    busy=$(busy_ms)
    rate=$("$BUILD/bench/hsm" "$1" "$SCRATCH/bare" "$2" "$TIME")
    busy=$(($(busy_ms) - busy))
    echo "$rate" | awk -v t="$TIME" -v b=$busy '{printf "%s %s %.2f\n", $1, $2, b / t / 1000 - $1 * $2 / 1e6}'
}

# served N PORT PID options and words... - "operations-a-second worker-cpu-us server-cpu-us client-cpu-us run% wait% others-cores", the times per
# operation.
served() {
    local n=$1 port=$2 pid=$3 workers server wait busy rate
    shift 3
    workers=$(cpu_children_ms "$pid") wait=$(wait_children_ms "$pid") server=$(cpu_ms "$pid") busy=$(busy_ms)
    rate=$("$CLIENT" load -p "$port" -t "$TIME" "$@")
    workers=$(($(cpu_children_ms "$pid") - workers)) wait=$(($(wait_children_ms "$pid") - wait))
    server=$(($(cpu_ms "$pid") - server)) busy=$(($(busy_ms) - busy))
    echo "$rate" | awk -v t="$TIME" -v n="$n" -v w=$workers -v d=$wait -v s=$server -v b=$busy '{
        ops = $1 * t / 1000
        printf "%.0f %.2f %.2f %.2f %.1f %.1f %.2f\n", $1, w / ops, s / ops, $2, w / t / n / 10, d / t / n / 10, (b - w - s) / t / 1000 - $1 * $2 / 1e6
    }'
}

for round in $(seq "$ROUNDS"); do
    for n in 1 2; do
        a=$(bare encrypt $n)
        b=$(served $n "${WARM_PORT[n]}" "${WARM_PID[n]}" -c 8 -P 64 -k $KEYS KEY.ENCRYPT bench 'key-{}' =1024)
        c=$(bare encrypt-random $n)
        echo "encrypt,N=$n $a $b" >>"$OUT"
        echo "encrypt,random,N=$n $c $b" >>"$OUT"
        a=$(bare cold $n)
        b=$(served $n "${COLD_PORT[n]}" "${COLD_PID[n]}" -c 8 -P 64 -k $COLD_KEYS KEY.ENCRYPT bench 'key-{}' =1024)
        echo "cold,N=$n $a $b" >>"$OUT"
        a=$(bare create $n)
        b=$(served $n "${WARM_PORT[n]}" "${WARM_PID[n]}" -c 16 -P 16 -k 1000000000 KEY.CREATE bench "round-$round-{}")
        echo "create,N=$n $a $b" >>"$OUT"
    done
done

{
    heading "bench/hsm.sh $ROUNDS $TIME: a server's key operations beside the bare module; interleaved rounds, medians; ratios are medians of the rounds' ratios"
    echo "# $(chrt -p $$ | awk -F': ' '/policy/ {print $2}')"
    echo "# of hsm: CPU time per operation of the bare loop / of the worker"
    awk "$AWK_MEDIAN"'
        END {
            printf "%-20s %6s %10s %11s %7s | %s %8s %8s %8s %8s %8s | %s %6s %6s | %s %6s %6s\n", "what", "rounds", "bare op/s", "coffer op/s", "ratio", "us cpu per operation:", "bare", "worker", "of hsm", "server", "client", "workers, %:", "run", "wait", "others:", "bare", "coffer"
            for (i = 1; i <= names; i++) { n = order[i]; printf "%-20s %6d %10.0f %11.0f %7.2f | %21s %8.2f %8.2f %8.2f %8.2f %8.2f | %11s %6.1f %6.1f | %7s %6.2f %6.2f\n", n, count[n], col(n, 2), col(n, 5), ratio(n, 5, 2), "", col(n, 3), col(n, 6), ratio(n, 3, 6), col(n, 7), col(n, 8), "", col(n, 9), col(n, 10), "", col(n, 4), col(n, 11) }
        }' "$OUT"
} | tee "${RESULT:-/dev/null}"
