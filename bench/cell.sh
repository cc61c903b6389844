#!/usr/bin/env bash
# cell.sh - what a cell of three costs, and how long clients wait when its primary dies.
#
#     bench/cell.sh [rounds [secrets...]]        default 7 rounds, 1000 and 1000000 secrets
#
# SET        durable SETs of 100 bytes by 50 clients, unpipelined and -P 16: one node alone beside a cell of three voters, all four on this machine and
#            its one disk; interleaved, ratios are medians of the rounds' ratios
# lag        from a write's answer until a replica shows it (READ.AFTER, which looks every 2 ms), microseconds: idle, and while 8 clients write
# promote    kill -9 of the primary, then REPLICAOF NO ONE on a replica that has everything: milliseconds until the first acknowledged write. What was
#            written before is in the stores of all nodes then, so that the disk is not theirs
# gap        under three redis-sentinels with down-after-milliseconds 1000, else by default: the longest time between two acknowledged writes of a
#            client that asks Sentinels, around a kill -9 of the primary, milliseconds
. "$(dirname "$0")/lib.sh"

ROUNDS=${1:-7}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- 1000 1000000
SCALE=${SCALE:-1}
VALUE=$(printf 'x%.0s' $(seq 100))
FAILOVER=$BUILD/bench/failover
OUT=$SCRATCH/rounds
QUIET="--snapshot-log-bytes 0 --snapshot-interval 0"
declare -a NODE_PORT NODE_PID

field() { redis-cli -p "$1" INFO replication 2>/dev/null | tr -d '\r' | awk -F: -v f="$2" '$1 == f {print $2}'; }

# await COMMAND... - until it succeeds; 60 s at most.
await() {
    for _ in $(seq 3000); do "$@" && return 0; sleep 0.02; done
    echo "waited for: $*" >&2
    return 1
}
is_master() { [ "$(field "$1" role)" = master ]; }
is_whole() { [ "$(field "$1" connected_slaves)" = 2 ]; }
has_caught_up() { [ "$(field "$1" slave_repl_offset)" = "$(field "$2" master_repl_offset)" ]; }

# All that was committed is in its stores, and they are there.
is_quiet() {
    redis-cli -p "$1" INFO persistence 2>/dev/null | tr -d '\r' |
        awk -F: '{v[$1] = $2} END {exit !(v["recovery_stores_left"] == 0 && v["wbl_applied_lsn"] > 0 && v["wbl_applied_lsn"] == v["wbl_commit_lsn"])}'
}

run_node() { # cell index
    # shellcheck disable=SC2086 # options are words
    "$BUILD/coffer-server" --port "${NODE_PORT[$2]}" --dir "$SCRATCH/$1-$2" --voters "127.0.0.1:${NODE_PORT[0]}" "127.0.0.1:${NODE_PORT[1]}" \
        "127.0.0.1:${NODE_PORT[2]}" --loglevel warning $QUIET >>"$SCRATCH/$1-$2.log" 2>&1 &
    NODE_PID[$2]=$!
    PIDS[$!]=1
}

# start_cell NAME - sets NODE_PORT, NODE_PID; node 0 is primary. All have copies of one token.
start_cell() {
    mkdir -p "$SCRATCH/$1-0"
    "$BUILD/coffer-hsm" provision "$SCRATCH/$1-0/hsm" >/dev/null 2>&1
    for i in 0 1 2; do
        free_port
        NODE_PORT[$i]=$PORT
        mkdir -p "$SCRATCH/$1-$i"
        [ "$i" = 0 ] || cp -a "$SCRATCH/$1-0/hsm" "$SCRATCH/$1-$i"
    done
    for i in 0 1 2; do run_node "$1" "$i"; done
    await is_master "${NODE_PORT[0]}"
    await is_whole "${NODE_PORT[0]}"
}

kill_node() { # index
    kill -9 "${NODE_PID[$1]}"
    wait "${NODE_PID[$1]}" 2>/dev/null || true
    unset "PIDS[${NODE_PID[$1]}]"
}

stop_cell() { for i in 0 1 2; do stop_server "${NODE_PID[$i]}"; done; }

# ---- SET ----

rates() { # pipeline requests
    local n a b
    n=$(awk -v n="$2" -v by="$SCALE" 'BEGIN {print int(n * by)}')
    a=$(run_once "$PORT" "$COFFER_PID" "$n" 50 "$1" SET key:__rand_int__ "$VALUE")
    b=$(run_once "${NODE_PORT[0]}" "${NODE_PID[0]}" "$n" 50 "$1" SET key:__rand_int__ "$VALUE")
    echo "SET,P=$1 $a $b" >>"$OUT"
}

start_cell cell
# shellcheck disable=SC2086
start_coffer single $QUIET
for _ in $(seq "$ROUNDS"); do
    rates 1 20000
    rates 16 100000
done
stop_server "$COFFER_PID"

# ---- lag ----

lags() { # what
    echo "lag,$1 $("$FAILOVER" lag 300 "${NODE_PORT[0]}" "${NODE_PORT[1]}")" >>"$OUT.lag"
}
for _ in $(seq "$ROUNDS"); do
    lags idle
    "$CLIENT" load -p "${NODE_PORT[0]}" -c 8 -t 600 -k 100000 SET 'key:{}' =100 >"$SCRATCH/load.log" 2>&1 &
    load=$!
    PIDS[$load]=1
    lags 8-clients
    kill $load
    wait $load 2>/dev/null || true
    unset "PIDS[$load]"
done

# ---- gap ----

SENTINELS=()
for i in 0 1 2; do
    free_port
    mkdir -p "$SCRATCH/sentinel-$i"
    printf 'port %s\ndir %s\nsentinel monitor cell 127.0.0.1 %s 2\nsentinel down-after-milliseconds cell 1000\nsentinel parallel-syncs cell 2\n' \
        "$PORT" "$SCRATCH/sentinel-$i" "${NODE_PORT[0]}" >"$SCRATCH/sentinel-$i/conf"
    redis-sentinel "$SCRATCH/sentinel-$i/conf" >"$SCRATCH/sentinel-$i/log" 2>&1 &
    PIDS[$!]=1
    SENTINEL_PID[$i]=$!
    SENTINELS+=("$PORT")
done

# All three are content with one primary, and know everybody; sets PRIMARY to its index.
settled() {
    local told at=""
    for s in "${SENTINELS[@]}"; do
        told=$(redis-cli -p "$s" SENTINEL master cell 2>/dev/null | awk 'NR % 2 {k = $0; next} {v[k] = $0}
            END {if (v["flags"] == "master" && v["num-slaves"] == 2 && v["num-other-sentinels"] == 2) print v["port"], v["config-epoch"]}')
        [ -n "$told" ] && [ "${at:-$told}" = "$told" ] || return 1
        redis-cli -p "$s" SENTINEL replicas cell 2>/dev/null | awk 'NR % 2 {k = $0; next} k == "flags" && $0 == "slave" {n++} k == "master-link-status" && $0 == "ok" {n++} END {exit n != 4}' || return 1
        at=$told
    done
    for i in 0 1 2; do [ "${NODE_PORT[$i]}" != "${at% *}" ] || PRIMARY=$i; done
    is_master "${NODE_PORT[$PRIMARY]}" && is_whole "${NODE_PORT[$PRIMARY]}"
}
for _ in $(seq "$ROUNDS"); do
    await settled
    "$FAILOVER" gap 12 "${SENTINELS[@]}" >"$SCRATCH/gap" &
    writer=$!
    sleep 2
    kill_node "$PRIMARY"
    wait $writer
    run_node cell "$PRIMARY"
    echo "gap $(cat "$SCRATCH/gap")" >>"$OUT.gap"
done
await settled
for i in 0 1 2; do stop_server "${SENTINEL_PID[$i]}"; done
stop_cell

# ---- promote ----

for count in "$@"; do
    start_cell "p$count"
    load_keys "${NODE_PORT[0]}" "$count" 100 SET
    primary=0
    for _ in $(seq "$ROUNDS"); do
        next=$(((primary + 1) % 3))
        await is_whole "${NODE_PORT[$primary]}"
        await has_caught_up "${NODE_PORT[$next]}" "${NODE_PORT[$primary]}"
        for i in 0 1 2; do await is_quiet "${NODE_PORT[$i]}"; done
        sleep 2
        kill_node $primary
        echo "promote,$count $("$FAILOVER" promote "${NODE_PORT[$next]}")" >>"$OUT.promote"
        run_node "p$count" $primary
        primary=$next
    done
    await is_whole "${NODE_PORT[$primary]}"
    stop_cell
    rm -rf "$SCRATCH/p$count"-?
done

{
    heading "bench/cell.sh $ROUNDS $*: three voters on one machine; medians of the rounds, and the worst round"
    table "$OUT" | sed 's/peer op/alone   op/; s/coffer op/  cell op/; s/peer us/alone us/; s/coffer us/  cell us/' |
        sed '1s/alone   op/alone op/'
    awk "$AWK_MEDIAN"'
        function worst(name, f,   i, v) { for (i = 1; i <= count[name]; i++) if (cell[name, i, f] > v) v = cell[name, i, f]; return v }
        END {
            for (i = 1; i <= names; i++) { n = order[i]
                if (n ~ /^lag/) printf "%-24s %3d rounds: median %6.1f ms, 99th percentile %6.1f ms; worst round %6.1f, %6.1f ms\n", n, count[n], col(n, 2) / 1000, col(n, 3) / 1000, worst(n, 2) / 1000, worst(n, 3) / 1000
                else printf "%-24s %3d rounds: median %6.1f ms, worst %6.1f ms\n", n, count[n], col(n, 2), worst(n, 2) }
        }' "$OUT.lag" "$OUT.promote" "$OUT.gap"
} | tee "${RESULT:-/dev/null}"
