#!/bin/sh
# docs_check.sh [FILE.md ...]: do the documents say what is so? Default: README.md and all of docs/. Output is TAP.
#
#   - Console blocks are run against a fresh server, one for each file, and their output compared:
#
#         ```console
#         $ redis-cli -p 7379 SECRET.GET demo app/db
#         "hunter2"
#         ```
#
#     A line that begins with "$ " is a command for sh; what follows up to the next one is its output. `redis-cli -p 7379` reaches the
#     fresh server, whatever its port. Times (13 digits) and long hexadecimal numbers count as equal. A comment in the line before the
#     block says otherwise:
#
#         <!-- docs_check: shape -->    all numbers count as equal
#         <!-- docs_check: run -->      the output is not compared, the command must succeed
#         <!-- docs_check: skip -->     not run
#
#   - Relative links point to files.
#   - Files and functions in `backticks` are there: `engine/read.c`, `secret_read`. In a path, NAME stands for any name.
#
# COFFER_BUILD is the folder of the programs (build).
set -u
cd "$(dirname "$0")/.." || exit 1
build=$PWD/${COFFER_BUILD:-build}
[ $# -gt 0 ] || set -- README.md docs/*.md docs/decisions/*.md

tmp=$(mktemp -d "${TMPDIR:-/tmp}/docs_check.XXXXXX") || exit 1
server=
count=0
failed=0

stop_server()
{
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
}

finish()
{
    stop_server
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM HUP

# result NAME [FILE]: ok when FILE is empty or not given; else its lines are the reasons.
result()
{
    count=$((count + 1))
    name=$(printf %s "$1" | tr '#' '=') # what follows a # is TAP's
    if [ -n "${2-}" ] && [ -s "$2" ]; then
        failed=$((failed + 1))
        printf 'not ok %d - %s\n' "$count" "$name"
        sed 's/^/#   /' "$2"
    else
        printf 'ok %d - %s\n' "$count" "$name"
    fi
}

# ---- the server ----

real_cli=$(command -v redis-cli) || { echo "Bail out! redis-cli is missing"; exit 1; }
mkdir "$tmp/bin" "$tmp/work"
cat >"$tmp/bin/redis-cli" <<END
#!/bin/sh
# The documents' port is the fresh server's socket; output as on a terminal.
[ "\${1-}" != -p ] || shift 2
exec $real_cli -s "$tmp/sock" --no-raw "\$@"
END
chmod +x "$tmp/bin/redis-cli"
PATH=$tmp/bin:$build:$PATH
export PATH
REDISCLI_HISTFILE=/dev/null
export REDISCLI_HISTFILE

start_server()
{
    stop_server
    rm -rf "$tmp/data" "$tmp/sock"
    mkdir -m 700 "$tmp/data"
    "$build/coffer-server" --port 0 --unixsocket "$tmp/sock" --dir "$tmp/data" >"$tmp/server.log" 2>&1 &
    server=$!
    tries=0
    until [ "$(redis-cli DBSIZE 2>/dev/null)" = "(integer) 0" ]; do
        tries=$((tries + 1))
        if [ $tries -gt 600 ] || ! kill -0 "$server" 2>/dev/null; then
            return 1
        fi
        sleep 0.1
    done
}

# ---- console blocks ----

# One file for each command: $tmp/cmd/NNN, with line, mode, command, then the output.
extract()
{
    rm -rf "$tmp/cmd"
    mkdir "$tmp/cmd"
    awk -v dir="$tmp/cmd" '
        function shut() { if (out) close(out); out = "" }
        /^<!-- docs_check: [a-z]+ -->$/ { mode = $3; next }
        /^```console$/ { in_block = 1; if (mode == "") mode = "exact"; next }
        /^```/ { if (in_block) shut(); in_block = 0; mode = ""; next }
        !in_block { mode = ""; next }
        mode == "skip" { next }
        /^\$ / { shut(); out = sprintf("%s/%03d", dir, ++n); print NR >out; print mode >out; print substr($0, 3) >out; next }
        out { print >out }
    ' "$1"
}

normal()
{
    case $1 in
    shape) sed -E 's/[0-9a-f]{16,}/HEX/g; s/[0-9]+/N/g; s/[ \t]+$//' ;;
    *) sed -E 's/[0-9a-f]{16,}/HEX/g; s/[0-9]{13}/TIME/g; s/[ \t]+$//' ;;
    esac
}

run_one()
{
    line=$(sed -n 1p "$2")
    mode=$(sed -n 2p "$2")
    command=$(sed -n 3p "$2")
    (cd "$tmp/work" && sh -c "$command") >"$tmp/out" 2>&1 </dev/null
    status=$?
    : >"$tmp/why"
    if [ "$mode" = run ]; then
        [ $status -eq 0 ] || { echo "exit status $status:"; cat "$tmp/out"; } >"$tmp/why"
    else
        sed 1,3d "$2" | normal "$mode" >"$tmp/want"
        normal "$mode" <"$tmp/out" >"$tmp/have"
        diff -u "$tmp/want" "$tmp/have" | sed 1,2d >"$tmp/why"
    fi
    result "$1:$line: $command" "$tmp/why"
}

run_blocks()
{
    extract "$1"
    [ -e "$tmp/cmd/001" ] || return 0
    : >"$tmp/why"
    start_server || cat "$tmp/server.log" >"$tmp/why"
    [ ! -s "$tmp/why" ] || echo "the server did not start" >>"$tmp/why"
    result "$1: a fresh server starts" "$tmp/why"
    [ ! -s "$tmp/why" ] || return 0
    for c in "$tmp"/cmd/*; do
        run_one "$1" "$c"
    done
    kill "$server"
    wait "$server"
    status=$?
    server=
    : >"$tmp/why"
    [ $status -eq 0 ] || { echo "exit status $status"; tail -20 "$tmp/server.log"; } >"$tmp/why"
    result "$1: the server ends cleanly" "$tmp/why"
}

# ---- what documents point to ----

check_links()
{
    : >"$tmp/why"
    grep -oE '\]\([^)# ]+' "$1" | sed 's/^](//' | grep -vE '^[a-z]+:' | sort -u | while read -r link; do
        [ -e "$(dirname "$1")/$link" ] || echo "$link is not there" >>"$tmp/why"
    done
    result "$1: links" "$tmp/why"
}

# Paths of files of the project, and names with an underscore, which must occur in the sources.
check_names()
{
    : >"$tmp/why"
    # shellcheck disable=SC2016 # backticks are meant
    grep -oE '`[^` ]+`' "$1" | tr -d '`' | sort -u >"$tmp/names"
    grep -E '^(base|resp|hsm|engine|server|tests|packaging|bench)/[A-Za-z0-9_./*-]+$' "$tmp/names" | grep -vE '[A-Z]{3}' | while read -r name; do
        # shellcheck disable=SC2086 # patterns are meant
        ls -d $name >/dev/null 2>&1 || echo "$name is not there"
    done >>"$tmp/why"
    grep -E '^[a-z][a-z0-9]*(_[A-Za-z0-9]+)+$' "$tmp/names" | while read -r name; do
        grep -rqwF --include='*.[ch]' -- "$name" base resp hsm engine server tests || ls tests/*/"$name".* >/dev/null 2>&1 ||
            echo "$name is in no source file"
    done >>"$tmp/why"
    result "$1: files and functions" "$tmp/why"
}

for file in "$@"; do
    check_links "$file"
    check_names "$file"
done
for file in "$@"; do
    run_blocks "$file"
done
echo "1..$count"
[ $failed -eq 0 ]
