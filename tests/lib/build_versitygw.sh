#!/bin/sh
# Builds the S3-compatible server of the tests, versitygw, and prints where it is:  build_versitygw.sh
#
# It is a Go module, asked for by its name and version from wherever this machine's Go gets modules. Built once, kept beside the builds
# (build/tools, or $FAR_TOOLS); several at a time wait for each other. Any Go from 1.21 on will do: what the module needs of a newer
# toolchain Go takes as a module, too (GOTOOLCHAIN). Says why on stderr, status 1, where that cannot be.
set -u
module=github.com/versity/versitygw
version=v1.8.0

source=$(cd "$(dirname "$0")/../.." && pwd)
tools=${FAR_TOOLS:-$source/build/tools}
made=$tools/versitygw-$version
if [ -x "$made" ]; then
    echo "$made"
    exit 0
fi

new_enough() { # a go: at least 1.21?
    "$1" version 2>/dev/null | awk '{ sub(/^go/, "", $3); split($3, v, /[^0-9]+/); ok = v[1] > 1 || v[2] >= 21 } END { exit !ok }'
}

go=
for found in "$(command -v go)" /usr/local/go/bin/go /usr/lib/go-1.*/bin/go; do
    if [ -z "$go" ] && [ -x "$found" ] && new_enough "$found"; then
        go=$found
    fi
done
[ -n "$go" ] || { echo "no Go of at least 1.21 (tests/lib/install_deps.sh check)" >&2; exit 1; }
mkdir -p "$tools" || exit 1
exec 9>"$tools/versitygw.lock"
flock 9
failed=$tools/versitygw.failed # so that of many tests only the first waits for what cannot be had
[ -z "$(find "$failed" -mmin -5 2>/dev/null)" ] || { cat "$failed" >&2; exit 1; }
if [ ! -x "$made" ]; then
    place=$tools/versitygw.$$
    export GOTOOLCHAIN=auto GOBIN="$place" GOFLAGS=-trimpath CGO_ENABLED=0
    [ -n "${HOME:-}" ] || export HOME="$tools/home"
    if ! timeout 900 "$go" install -ldflags='-s -w' "$module/cmd/versitygw@$version" >"$tools/versitygw.log" 2>&1; then
        rm -rf "$place"
        echo "$module cannot be built: $(tail -n 1 "$tools/versitygw.log")" | tee "$failed" >&2
        exit 1
    fi
    mv "$place/versitygw" "$made" && rm -rf "$place" || exit 1
fi
echo "$made"
