# shellcheck shell=bash
# lib.sh - what the comparisons share: servers on free ports under a scratch directory, interleaved rounds, medians of ratios.
# Sourced by the scripts of this folder. Needs build/ with build/bench/, and redis-server, redis-cli, redis-benchmark (Debian:
# redis-server, redis-tools), awk. COFFER_BUILD is another build folder, BENCH_SCRATCH where servers keep their data.
set -eu

BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=${COFFER_BUILD:-$BENCH_DIR/../build}
CLIENT=$BUILD/bench/client
SCRATCH=$(mktemp -d "${BENCH_SCRATCH:-$BUILD}/bench-XXXXXX")
declare -A PIDS=() # of what finish() ends
NEXT_PORT=$((20000 + $$ % 20000))

finish() {
    for pid in "${!PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$SCRATCH"
}
trap finish EXIT

for program in "$BUILD/coffer-server" "$BUILD/coffer-hsm" "$CLIENT"; do
    [ -x "$program" ] || { echo "no $program: make bench builds it" >&2; exit 1; }
done

# free_port - sets PORT: nobody listens there now.
free_port() {
    while PORT=$NEXT_PORT NEXT_PORT=$((NEXT_PORT + 1)) && (: <>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; do :; done
}

# wait_ready PORT PID - until PING is answered; 60 s at most.
wait_ready() {
    for _ in $(seq 600); do
        [ "$(redis-cli -p "$1" PING 2>/dev/null)" = PONG ] && return 0
        kill -0 "$2" 2>/dev/null || break
        sleep 0.1
    done
    echo "no server on port $1" >&2
    return 1
}

# start_redis [options] - sets PORT and REDIS_PID.
start_redis() {
    free_port
    mkdir -p "$SCRATCH/redis-$PORT"
    redis-server --port "$PORT" --dir "$SCRATCH/redis-$PORT" --save '' --daemonize no --loglevel warning "$@" >"$SCRATCH/redis-$PORT.log" 2>&1 &
    REDIS_PID=$!
    PIDS[$REDIS_PID]=1
    wait_ready "$PORT" "$REDIS_PID" || { cat "$SCRATCH/redis-$PORT.log" >&2; return 1; }
}

# start_coffer NAME [options] - sets PORT and COFFER_PID; NAME is its directory, the same again is the same data.
start_coffer() {
    local name=$1
    shift
    free_port
    mkdir -p "$SCRATCH/$name"
    "$BUILD/coffer-server" --port "$PORT" --dir "$SCRATCH/$name" --loglevel warning "$@" >"$SCRATCH/$name.log" 2>&1 &
    COFFER_PID=$!
    PIDS[$COFFER_PID]=1
    wait_ready "$PORT" "$COFFER_PID" || { cat "$SCRATCH/$name.log" >&2; return 1; }
}

# stop_server PID - and waits until it is gone.
stop_server() {
    kill "$1"
    wait "$1" || true
    unset "PIDS[$1]" # the number may be another process's soon
}

# load_keys PORT COUNT SIZE COMMAND... - COMMAND key:000000000000 VALUE for every key, as redis-benchmark -r names them.
load_keys() {
    local port=$1 count=$2 size=$3
    shift 3
    "$CLIENT" load -p "$port" -c 8 -P 100 -n "$count" -k "$count" "$@" "key:{}" "=$size" >"$SCRATCH/load.log"
}

# wait_applied - until everything that was committed on $PORT is in the stores too.
wait_applied() {
    for _ in $(seq 600); do
        redis-cli -p "$PORT" INFO persistence | tr -d '\r' |
            awk -F: '$1 == "wbl_commit_lsn" {c = $2} $1 == "wbl_applied_lsn" {a = $2} END {exit a < c}' && return 0
        sleep 0.1
    done
}

# cpu_ms PID - user and system time of a process. cpu_children_ms PID: of its children that live.
cpu_ms() {
    awk -v hz="$(getconf CLK_TCK)" '{sub(/.*\) /, ""); print int(($12 + $13) * 1000 / hz)}' "/proc/$1/stat"
}
cpu_children_ms() {
    local pid sum=0
    for pid in $(cat "/proc/$1/task/"*/children); do sum=$((sum + $(cpu_ms "$pid"))); done
    echo $sum
}

# busy_ms - time that all cores together have worked, for whomever. wait_children_ms PID: that its children stood ready and had no core.
busy_ms() {
    awk -v hz="$(getconf CLK_TCK)" '$1 == "cpu" {print int(($2 + $3 + $4 + $7 + $8 + $9) * 1000 / hz)}' /proc/stat
}
wait_children_ms() {
    local pid sum=0
    for pid in $(cat "/proc/$1/task/"*/children); do sum=$((sum + $(awk '{print int($2 / 1000000)}' "/proc/$pid/schedstat" || echo 0))); done
    echo $sum
}

BENCHMARK_OPTIONS=() # of redis-benchmark, besides
# run_once PORT PID REQUESTS CLIENTS PIPELINE COMMAND... - prints "requests-per-second server-cpu-us-per-request".
run_once() {
    local port=$1 pid=$2 n=$3 clients=$4 pipeline=$5 before after rps
    shift 5
    before=$(cpu_ms "$pid")
    rps=$(redis-benchmark "${BENCHMARK_OPTIONS[@]}" -p "$port" -n "$n" -c "$clients" -P "$pipeline" -r "${KEYSPACE:-100000}" --csv "$@" 2>/dev/null | awk -F'"' 'END {print $4}')
    after=$(cpu_ms "$pid")
    awk -v rps="$rps" -v ms=$((after - before)) -v n="$n" 'BEGIN {printf "%.0f %.3f\n", rps, ms * 1000 / n}'
}

# AWK_MEDIAN - median(a, n) and col(name, field): for awk programs that keep cell[name, round, field] and count[name].
AWK_MEDIAN='
    function median(a, n,   i, j, t) {
        for (i = 2; i <= n; i++) { t = a[i]; for (j = i - 1; j > 0 && a[j] > t; j--) a[j + 1] = a[j]; a[j + 1] = t }
        return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
    }
    function col(name, f,   i, v) { for (i = 1; i <= count[name]; i++) v[i] = cell[name, i, f]; return median(v, count[name]) }
    function ratio(name, f, g,   i, v) { for (i = 1; i <= count[name]; i++) v[i] = cell[name, i, g] > 0 ? cell[name, i, f] / cell[name, i, g] : 0; return median(v, count[name]) }
    { if (!($1 in count)) order[++names] = $1; count[$1]++; for (f = 2; f <= NF; f++) cell[$1, count[$1], f] = $f }'

# table FILE - rounds of "name peer-rps peer-cpu coffer-rps coffer-cpu" to one line a name with medians; ratios are medians of the rounds' ratios.
table() {
    awk "$AWK_MEDIAN"'
        END {
            printf "%-28s %6s %12s %12s %8s %12s %12s %8s\n", "what", "rounds", "peer op/s", "coffer op/s", "ratio", "peer us cpu", "coffer us cpu", "ratio"
            for (i = 1; i <= names; i++) { n = order[i]; printf "%-28s %6d %12.0f %12.0f %8.2f %12.2f %12.2f %8.2f\n", n, count[n], col(n, 2), col(n, 4), ratio(n, 4, 2), col(n, 3), col(n, 5), ratio(n, 5, 3) }
        }' "$1"
}

# heading TEXT - what every result begins with.
heading() {
    echo "# $1"
    echo "# $(redis-server --version | cut -d' ' -f1-3); $("$BUILD/coffer-server" --version)"
    echo "# $(nproc) cores, $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo)"
}
