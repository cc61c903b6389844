#!/usr/bin/env bash
# tls.sh - reads over TLS, Coffer beside redis-server, with the same redis-benchmark.
#
#     bench/tls.sh [rounds]        default 7; SCALE multiplies the requests of a measurement
#
# GET against SECRET.GET, 100-byte values, 100,000 keys, 50 clients, unpipelined and -P 16, TLS 1.3 with certificates on both sides
# (ECDSA P-256).
. "$(dirname "$0")/lib.sh"

ROUNDS=${1:-7}
KEYS=100000
export KEYSPACE=$KEYS
SCALE=${SCALE:-1}
OUT=$SCRATCH/rounds
CERTS=$SCRATCH/certs

certificates() {
    mkdir -p "$CERTS"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority -keyout "$CERTS/ca.key" -out "$CERTS/ca.crt" 2>/dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=bench -keyout "$CERTS/key" -out "$CERTS/csr" 2>/dev/null
    openssl x509 -req -in "$CERTS/csr" -CA "$CERTS/ca.crt" -CAkey "$CERTS/ca.key" -CAcreateserial -days 2 -out "$CERTS/crt" 2>/dev/null
}

# servers: one of each, loaded with the keys over their plain ports.
servers() {
    local tls
    free_port; tls=$PORT
    start_redis --appendonly no --tls-port "$tls" --tls-cert-file "$CERTS/crt" --tls-key-file "$CERTS/key" --tls-ca-cert-file "$CERTS/ca.crt"
    REDIS_TLS=$tls
    load_keys "$PORT" $KEYS 100 SET
    free_port; tls=$PORT
    start_coffer tls --tls-port "$tls" --tls-cert-file "$CERTS/crt" --tls-key-file "$CERTS/key" --tls-ca-cert-file "$CERTS/ca.crt"
    COFFER_TLS=$tls
    redis-cli -p "$PORT" VAULT.CREATE bench >/dev/null
    load_keys "$PORT" $KEYS 100 SECRET.SET bench
    wait_applied
}

# pair name requests pipeline redis-command... -- coffer-command...
pair() {
    local name=$1 n p=$3 peer=() a b
    n=$(awk -v n="$2" -v by="$SCALE" 'BEGIN {print int(n * by)}')
    shift 3
    while [ "$1" != -- ]; do peer+=("$1"); shift; done
    shift
    a=$(run_once "$REDIS_TLS" "$REDIS_PID" "$n" 50 "$p" "${peer[@]}")
    b=$(run_once "$COFFER_TLS" "$COFFER_PID" "$n" 50 "$p" "$@")
    echo "$name $a $b" >>"$OUT"
}

certificates
servers
BENCHMARK_OPTIONS=(--tls --cacert "$CERTS/ca.crt" --cert "$CERTS/crt" --key "$CERTS/key")
for _ in $(seq "$ROUNDS"); do
    pair "GET,P=1" 100000 1 GET key:__rand_int__ -- SECRET.GET bench key:__rand_int__
    pair "GET,P=16" 600000 16 GET key:__rand_int__ -- SECRET.GET bench key:__rand_int__
done

{
    heading "bench/tls.sh $ROUNDS: 100-byte values, $KEYS keys, 50 clients, redis-benchmark --tls, mutual; interleaved rounds, medians; ratios are medians of the rounds' ratios, coffer / redis"
    table "$OUT"
} | tee "${RESULT:-/dev/null}"
