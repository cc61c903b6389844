#!/bin/bash
# rgw.sh DIR PORT TLSPORT MONPORT: a Ceph object gateway with one monitor and one OSD in memory, on loopback, for one test.
#
# Started with pipes at standard input and output. Says "ready", or "failed: REASON"; then does what it is told by lines,
# and answers each with "ok", or "failed: REASON":
#
#     stop             ends the gateway (what is stored stays)
#     start            starts it again
#     admin ARGS ...   radosgw-admin with words split at blanks
#
# At the end of its input, that is also when the test dies, it ends the daemons and removes DIR. The daemons are its own
# children and stay in the foreground, so that nothing outlives it. DIR must exist; in it are:
#
#     ca.pem           the authority that signed the gateway's certificate (localhost, 127.0.0.1)
#     other-ca.pem     one that did not
#     log/             what the daemons say
#
# The user: COFFERTESTACCESS / CofferTestSecret+/0123456789.
set -u
dir=$1 port=$2 tls_port=$3 mon_port=$4
access=COFFERTESTACCESS
secret=CofferTestSecret+/0123456789
conf=$dir/ceph.conf
PATH=$PATH:/usr/sbin:/sbin
export CEPH_CONF=$conf CEPH_ARGS=''
gateway='' daemons=''

finish()
{
    trap '' INT TERM HUP
    # shellcheck disable=SC2086 # a list of numbers
    [ -z "$gateway$daemons" ] || kill -9 $gateway $daemons 2>/dev/null
    wait 2>/dev/null
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

fail()
{
    echo "failed: $*"
    exit 1
}

# Once every 50 ms until it succeeds, for a minute at most.
until_it_does()
{
    for _ in $(seq 1200); do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.05
    done
    return 1
}

listening()
{
    : <"/dev/tcp/127.0.0.1/$1"
}

write_conf()
{
    cat >"$conf" <<END
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = [v2:127.0.0.1:$mon_port]
public network = 127.0.0.0/8
ms bind msgr1 = false
auth cluster required = none
auth service required = none
auth client required = none
# what is built in, "secure", needs keys
ms mon client mode = crc
run dir = $dir/run
admin socket = $dir/run/\$name.asok
log file = $dir/log/\$name.log
mon data = $dir/mon
mon data avail crit = 1
paxos propose interval = 0.1
mon allow pool size one = true
mon max pg per osd = 1000
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd pool default size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
[client.rgw.test]
rgw frontends = beast endpoint=127.0.0.1:$port ssl_endpoint=127.0.0.1:$tls_port ssl_certificate=$dir/cert.pem ssl_private_key=$dir/key.pem
rgw dns name = localhost
# quotas count at once
rgw bucket quota ttl = 0
rgw user quota bucket sync interval = 0
END
}

# certificate NAME SUBJECT: an authority NAME.pem with its key NAME.key
authority()
{
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=$2" \
        -keyout "$dir/$1.key" -out "$dir/$1.pem"
}

make_certificates()
{
    authority ca 'test authority' && authority other-ca 'another authority' || return 1
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
        -keyout "$dir/key.pem" -out "$dir/request.pem" || return 1
    echo 'subjectAltName=DNS:localhost,IP:127.0.0.1' >"$dir/names"
    openssl x509 -req -in "$dir/request.pem" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
        -extfile "$dir/names" -out "$dir/cert.pem"
}

start_cluster()
{
    monmaptool --create --fsid "$(sed -n 's/^fsid = //p' "$conf")" --addv a "[v2:127.0.0.1:$mon_port]" "$dir/monmap" &&
        ceph-mon --mkfs -i a --monmap "$dir/monmap" || return 1
    ceph-mon -f -i a </dev/null >"$dir/log/mon.out" 2>&1 &
    daemons=$!
    until_it_does listening "$mon_port" && osd=$(cat /proc/sys/kernel/random/uuid) && ceph osd new "$osd" 0 &&
        ceph-osd -i 0 --mkfs --osd-uuid "$osd" || return 1
    ceph-osd -f -i 0 </dev/null >"$dir/log/osd.out" 2>&1 &
    daemons="$daemons $!"
}

start_gateway()
{
    radosgw -f -n client.rgw.test </dev/null >"$dir/log/rgw.out" 2>&1 &
    gateway=$!
    until_it_does listening "$port"
}

stop_gateway()
{
    kill -9 "$gateway"
    wait "$gateway" 2>/dev/null
    gateway=''
    ! listening "$port" 2>/dev/null
}

make_user()
{
    radosgw-admin user create --uid=coffer --display-name=coffer --access-key="$access" --secret="$secret"
}

for program in ceph-mon ceph-osd radosgw radosgw-admin ceph monmaptool openssl; do
    command -v "$program" >/dev/null || fail "$program is not installed: packaging/packages object-store"
done
mkdir -p "$dir"/{mon,osd,run,log} || fail "cannot write to $dir"
write_conf
log=$dir/log/start.out
make_certificates >"$log" 2>&1 || fail "certificates: $(tail -3 "$log")"
start_cluster >>"$log" 2>&1 || fail "the cluster does not start: $(tail -3 "$log" | tr '\n' ' ')"
make_user >>"$log" 2>&1 || fail "no user: $(tail -3 "$log" | tr '\n' ' ')"
start_gateway || fail "the gateway does not start: $(tail -3 "$dir/log/rgw.out" | tr '\n' ' ')"
echo ready

while read -r command arguments; do
    case $command in
    stop) stop_gateway ;;
    start) start_gateway ;;
    # shellcheck disable=SC2086 # words are meant
    admin) radosgw-admin $arguments >"$dir/log/admin.out" 2>&1 ;;
    *) false ;;
    esac && echo ok || echo "failed: $command $arguments: $(tail -3 "$dir/log/admin.out" 2>/dev/null | tr '\n' ' ')"
done
