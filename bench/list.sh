#!/usr/bin/env bash
# list.sh - SECRET.LIST of one page (100 names): does it cost more in a large folder than in a small one?
#
#     bench/list.sh [rounds [secrets]]        default 7 rounds, 1000000 secrets in the large folders, 1000 in the small ones
#
# first    the first page of a folder that holds the secrets themselves
# middle   a page from the middle of it, by cursor
# folders  the first page of a folder with 1,000 sub-folders: one secret in each, against a thousandth of the large number
#
# All four folders are in one vault of one server. A round asks for each page 300 times, one request at a time, all in turn; medians of the rounds'
# medians and of their ratios, microseconds as the client sees them.
. "$(dirname "$0")/lib.sh"

ROUNDS=${1:-7}
LARGE=${2:-1000000}
SMALL=1000
OUT=$SCRATCH/rounds

start_coffer coffer
redis-cli -p "$PORT" VAULT.CREATE bench >/dev/null
fill() { "$CLIENT" load -p "$PORT" -c 8 -P 100 -n "$1" -k "$1" SECRET.SET bench "$2" =100 >/dev/null; }
fill $SMALL 'small/{}'
fill "$LARGE" 'large/{}'
fill $SMALL 'few/{}/{}'
fill "$LARGE" "many/{/$((LARGE / SMALL))}/{}"
redis-cli -p "$PORT" SECRET.LIST bench large >/dev/null # waits until it is all in the store
cursor() { printf 'c%s' "$(printf '%s/%012d' "$1" "$2" | od -An -v -tx1 | tr -d ' \n')"; }

for _ in $(seq "$ROUNDS"); do
    "$CLIENT" time -p "$PORT" -n 300 SECRET.LIST bench small -- SECRET.LIST bench large \
        -- SECRET.LIST bench small CURSOR "$(cursor small $((SMALL / 2)))" -- SECRET.LIST bench large CURSOR "$(cursor large $((LARGE / 2)))" \
        -- SECRET.LIST bench few -- SECRET.LIST bench many |
        awk '{v[NR] = $1} END {print "first", v[1], v[2]; print "middle", v[3], v[4]; print "folders", v[5], v[6]}' >>"$OUT"
done

{
    heading "bench/list.sh $ROUNDS $LARGE: SECRET.LIST, a page of 100 names, median microseconds"
    awk "$AWK_MEDIAN"'
        END {
            printf "%-12s %6s %14s %14s %8s\n", "what", "rounds", "small", "large", "ratio"
            for (i = 1; i <= names; i++) { n = order[i]; printf "%-12s %6d %14.1f %14.1f %8.2f\n", n, count[n], col(n, 2), col(n, 3), ratio(n, 3, 2) }
        }' "$OUT"
} | tee "${RESULT:-/dev/null}"
