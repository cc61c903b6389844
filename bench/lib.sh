# lib.sh - what the comparisons share: servers on free ports under a scratch directory, interleaved rounds, medians of ratios.
# Sourced by the scripts of this folder. Needs redis-server, redis-cli, redis-benchmark (Debian: redis-server, redis-tools), awk.
set -eu

BENCH_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BUILD=${COFFER_BUILD:-$BENCH_DIR/../build}
SCRATCH=$(mktemp -d "${BENCH_SCRATCH:-$BENCH_DIR/../build}/bench-XXXXXX")
PIDS=()

finish() {
    for pid in "${PIDS[@]:-}"; do [ -n "$pid" ] && kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$SCRATCH"
}
trap finish EXIT

# wait_ready PORT - until PING is answered; 60 s at most.
wait_ready() {
    for _ in $(seq 600); do
        [ "$(redis-cli -p "$1" PING 2>/dev/null)" = PONG ] && return 0
        sleep 0.1
    done
    echo "no server on port $1" >&2
    return 1
}

# start_redis PORT [options] - sets REDIS_PID.
start_redis() {
    local port=$1
    shift
    mkdir -p "$SCRATCH/redis-$port"
    redis-server --port "$port" --dir "$SCRATCH/redis-$port" --save '' --daemonize no --loglevel warning "$@" >"$SCRATCH/redis-$port.log" 2>&1 &
    REDIS_PID=$!
    PIDS+=("$REDIS_PID")
    wait_ready "$port"
}

# start_coffer PORT [options] - sets COFFER_PID.
start_coffer() {
    local port=$1
    shift
    mkdir -p "$SCRATCH/coffer-$port"
    "$BUILD/coffer-server" --port "$port" --dir "$SCRATCH/coffer-$port" --loglevel warning "$@" >"$SCRATCH/coffer-$port.log" 2>&1 &
    COFFER_PID=$!
    PIDS+=("$COFFER_PID")
    wait_ready "$port" || { cat "$SCRATCH/coffer-$port.log" >&2; return 1; }
}

# load_keys PORT COUNT SIZE COMMAND... - COMMAND key:000000000000 VALUE for every key, as redis-benchmark -r names them.
load_keys() {
    local port=$1 count=$2 size=$3
    shift 3
    awk -v n="$count" -v size="$size" -v cmd="$*" 'BEGIN {
        v = sprintf("%*s", size, ""); gsub(/ /, "x", v)
        words = split(cmd, w, " ")
        head = "*" (words + 2) "\r\n"
        for (i = 1; i <= words; i++) head = head "$" length(w[i]) "\r\n" w[i] "\r\n"
        for (i = 0; i < n; i++) printf "%s$16\r\nkey:%012d\r\n$%d\r\n%s\r\n", head, i, size, v
    }' | redis-cli -p "$port" --pipe >"$SCRATCH/load.log" || { cat "$SCRATCH/load.log" >&2; return 1; }
    grep -q 'errors: 0' "$SCRATCH/load.log" || { cat "$SCRATCH/load.log" >&2; return 1; }
}

# cpu_ms PID - user and system time of a process, its children that still live included.
cpu_ms() {
    local pid sum=0 hz
    hz=$(getconf CLK_TCK)
    for pid in "$1" $(cat /proc/"$1"/task/*/children 2>/dev/null || true); do
        sum=$((sum + $(awk '{print $14 + $15}' "/proc/$pid/stat" 2>/dev/null || echo 0)))
    done
    echo $((sum * 1000 / hz))
}

# run_once PORT PID REQUESTS CLIENTS PIPELINE COMMAND... - prints "requests-per-second server-cpu-us-per-request".
run_once() {
    local port=$1 pid=$2 n=$3 clients=$4 pipeline=$5 before after rps
    shift 5
    before=$(cpu_ms "$pid")
    rps=$(redis-benchmark -p "$port" -n "$n" -c "$clients" -P "$pipeline" -r "${KEYSPACE:-100000}" --csv "$@" 2>/dev/null | awk -F'"' 'END {print $4}')
    after=$(cpu_ms "$pid")
    awk -v rps="$rps" -v ms=$((after - before)) -v n="$n" 'BEGIN {printf "%.0f %.3f\n", rps, ms * 1000 / n}'
}

# table FILE - rounds of "name peer-rps peer-cpu coffer-rps coffer-cpu" to one line a name with medians; ratios are medians of the rounds' ratios.
table() {
    awk '
        function median(a, n,   i, j, t) {
            for (i = 2; i <= n; i++) { t = a[i]; for (j = i - 1; j > 0 && a[j] > t; j--) a[j + 1] = a[j]; a[j + 1] = t }
            return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
        }
        function col(name, f,   i, k) { k = 0; for (i = 1; i <= count[name]; i++) v[++k] = f == 6 ? cell[name, i, 4] / cell[name, i, 2] : f == 7 ? (cell[name, i, 3] > 0 ? cell[name, i, 5] / cell[name, i, 3] : 0) : cell[name, i, f]; return median(v, k) }
        { if (!($1 in count)) order[++names] = $1; count[$1]++; for (f = 2; f <= 5; f++) cell[$1, count[$1], f] = $f }
        END {
            printf "%-28s %6s %12s %12s %8s %12s %12s %8s\n", "what", "rounds", "peer op/s", "coffer op/s", "ratio", "peer us cpu", "coffer us cpu", "ratio"
            for (i = 1; i <= names; i++) { n = order[i]; printf "%-28s %6d %12.0f %12.0f %8.2f %12.2f %12.2f %8.2f\n", n, count[n], col(n, 2), col(n, 4), col(n, 6), col(n, 3), col(n, 5), col(n, 7) }
        }' "$1"
}

# heading TEXT - what every result begins with.
heading() {
    echo "# $1"
    echo "# $(redis-server --version | cut -d' ' -f1-3); $("$BUILD/coffer-server" --version)"
    echo "# $(nproc) cores, $(awk -F': ' '/model name/ {print $2; exit}' /proc/cpuinfo); interleaved rounds, ratios are medians of the rounds' ratios (coffer / peer)"
}
