#!/bin/sh
# Installs the Debian packages that are missing:  install_deps.sh build|guests|check|long|bench …   (each set once)
#
# Debian 12 and 13, as root, only when something is missing, from the machine's own apt configuration. libraft 0.22.1 is
# in Debian 13; on Debian 12 it comes from that mirror's backports, a source that is derived from the configured one, as does a Go that
# can build the tests' S3 server (build_versitygw.sh).
# Not root, or not Debian: says what is missing and how to get it, exit status 1. All there: silent, exit status 0.
set -u
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

[ -r /etc/os-release ] && . /etc/os-release
codename=${VERSION_CODENAME:-unknown}

case $codename in
bookworm) msgpack=libmsgpack-dev go=golang-1.23-go libvirt= ;; # that Go is in the backports, too
*) msgpack=libmsgpack-c-dev go=golang-go libvirt=libvirt-daemon-driver-network ;; # a package of its own there, only recommended
esac
build="gcc make autoconf automake libtool pkg-config libuv1-dev libssl-dev libcurl4-openssl-dev libexpat1-dev liblmdb-dev $msgpack
    libzstd-dev libxxhash-dev libwebsockets-dev libjansson-dev libnbd-dev libvirt-dev nbdkit-plugin-dev libraft-dev python3 e2fsprogs procps"
# AES-GCM with wide instructions; configure takes it where it is
[ "$(dpkg --print-architecture 2>/dev/null)" != amd64 ] || build="$build libipsec-mb-dev"
check="$build clang libclang-rt-dev libcmocka-dev g++ binutils openssl ca-certificates $go
    nbdkit libnbd-bin qemu-utils xfsprogs btrfs-progs"
# guests on a libvirt of the tests' own (tests/lib/libvirt_kit.py)
guests="qemu-utils libnbd-bin cpio iproute2 iptables util-linux"
[ "$(dpkg --print-architecture 2>/dev/null)" != amd64 ] || guests="$guests libvirt-daemon libvirt-daemon-driver-qemu $libvirt libvirt-clients
    qemu-system-x86 linux-image-cloud-amd64 qemu-guest-agent ovmf dnsmasq-base"
check="$check $guests"
[ "$(dpkg --print-architecture 2>/dev/null)" != amd64 ] || check="$check virtnbdbackup"
# a guest's files are read in a small virtual machine
long="$check valgrind xz-utils guestfish linux-image-cloud-$(dpkg --print-architecture 2>/dev/null || echo amd64)"
bench="$build nbdkit libnbd-bin restic rsync etcd-server wrk"

wanted=
for set in "$@"; do
    case $set in
    build) wanted="$wanted $build" ;;
    guests) wanted="$wanted $guests" ;;
    check) wanted="$wanted $check" ;;
    long) wanted="$wanted $long" ;;
    bench) wanted="$wanted $bench" ;;
    *) echo "install_deps.sh: unknown set '$set'" >&2; exit 2 ;;
    esac
done

installed() { # package: installed in full, and libraft in the one version that we can use
    state=$(dpkg-query -W -f '${db:Status-Status} ${Version}' "$1" 2>/dev/null) || return 1
    case $1 in
    libraft-dev) case $state in "installed 0.22.1"*) return 0 ;; *) return 1 ;; esac ;;
    libclang-rt-dev) ;;
    esac
    case $state in installed*) return 0 ;; *) return 1 ;; esac
}

provided() { # what a machine may have under another name
    case $1 in
    libclang-rt-dev) ls /usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a >/dev/null 2>&1 ;;
    pkg-config) command -v pkg-config >/dev/null 2>&1 ;;
    golang*) go version 2>/dev/null | grep -Eq ' go1\.(2[1-9]|[3-9][0-9])' ;; # what is newer comes as a module
    python3) python3 -c 'import ssl, json' >/dev/null 2>&1 ;;
    gcc | g++ | make | clang) command -v "$1" >/dev/null 2>&1 && echo | "$1" --version >/dev/null 2>&1 ;;
    *) return 1 ;;
    esac
}

missing=
if command -v dpkg-query >/dev/null 2>&1; then
    for package in $wanted; do
        case " $missing " in *" $package "*) continue ;; esac
        installed "$package" || provided "$package" || missing="$missing $package"
    done
else
    echo "This is not Debian: configure will name what is missing, if anything." >&2
    exit 0
fi
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "Missing Debian packages:$missing" >&2
    echo "Run this once as root, or: apt-get install --no-install-recommends$missing" >&2
    [ "$codename" != bookworm ] || echo "(libraft-dev 0.22.1 and golang-1.23-go are in bookworm-backports)" >&2
    exit 1
fi

has_raft() { # does apt offer the version that we need?
    apt-cache madison libraft-dev 2>/dev/null | grep -q '| 0\.22\.1'
}

add_backports() { # the configured mirror, with the suite of the backports
    suite=$codename-backports
    found=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk -v s="$codename" -v b="$suite" '
        BEGIN { RS = "" }
        $0 ~ "(^|\n)Suites:[^\n]* ?" s "([ \n]|$)" && $0 !~ /Enabled: *no/ {
            sub(/Suites:[^\n]*/, "Suites: " b); print; exit }')
    if [ -n "$found" ]; then
        printf '%s\n' "$found" >/etc/apt/sources.list.d/farshore-backports.sources
        return
    fi
    found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed -n "s/^\(deb .*\) $codename main.*/\1 $suite main/p" | head -n 1)
    if [ -n "$found" ]; then
        printf '%s\n' "$found" >/etc/apt/sources.list.d/farshore-backports.list
    fi
}

apt() {
    apt-get -q -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; echo "apt-get $1 failed" >&2; rm -f "$log"; exit 1; }
}

log=$(mktemp)
echo "Installing Debian packages:$missing"
apt update
from=
case " $missing " in
*" golang-1.23-go "*)
    if [ -z "$(apt-cache madison golang-1.23-go 2>/dev/null)" ]; then
        add_backports
        apt update
    fi
    ;;
esac
case " $missing " in
*" libraft-dev "*)
    if ! has_raft && [ "$codename" = bookworm ]; then
        add_backports
        apt update
    fi
    has_raft || { echo "apt offers no libraft 0.22.1 (Debian 13 has it; Debian 12: bookworm-backports)" >&2
        rm -f "$log"; exit 1; }
    [ "$codename" != bookworm ] || from="libraft-dev/$codename-backports libraft0/$codename-backports"
    [ -z "$from" ] || missing=$(printf '%s' "$missing" | sed 's/ libraft-dev\b//')
    ;;
esac
# shellcheck disable=SC2086 # lists of words
apt install --no-install-recommends $missing $from
rm -f "$log"
