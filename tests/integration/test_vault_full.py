#!/usr/bin/env python3
"""A vault on a disk that is full can be opened, and reclaim gives space back: with what was set aside for that, and, where nothing was (a
vault of an older version), by what was never acknowledged. A node starts with it.

Needs root for a file system of its own on a loop device; skipped elsewhere.
far-timeout: 200
"""
import os
import random
import shutil
import subprocess

import farlib
import tap

NODE = os.path.join(farlib.BUILD, "src/node/farshore-node")
WORK = os.path.join(os.environ.get("TMPDIR", "/tmp"), "full")
DISK, IMAGE = os.path.join(WORK, "disk"), os.path.join(WORK, "image")
VAULT = os.path.join(DISK, "vault")
RESERVE = os.path.join(VAULT, "reserve")
MIB = 1 << 20
LIMIT = 9
MKFS = shutil.which("mkfs.ext4") or "/usr/sbin/mkfs.ext4"


def vault(*arguments, status=0):
    done = subprocess.run([NODE, "vault", *arguments], capture_output=True, text=True)
    if done.returncode != status:
        raise farlib.Failure("%s: status %d: %s" % (" ".join(arguments), done.returncode, done.stdout + done.stderr))
    return done.stdout + done.stderr


def write_image(size, seed):
    with open(IMAGE, "wb") as image:
        for at in range(0, size, MIB):
            image.write(random.Random(seed + at).randbytes(MIB))


def do_import(label, status=0):
    return vault("import", "--vault", VAULT, "--image", IMAGE, "--label", label, status=status)


def make_disk():
    image = os.path.join(WORK, "disk.img")
    with open(image, "wb") as file:
        file.truncate(100 * MIB)
    os.makedirs(DISK)
    subprocess.run([MKFS, "-q", "-F", image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", image, DISK], check=True, capture_output=True)


def a_new_vault_sets_space_aside():
    make_disk()
    write_image(30 * MIB, 1)
    do_import("small")
    return [] if os.path.getsize(RESERVE) == 4 * MIB else ["the reserve is not there"]


def a_full_one_says_so_and_is_opened_again_and_again():
    write_image(80 * MIB, 1000)
    for _ in range(6):
        do_import("large", status=LIMIT)


def reclaim_gives_space_back():
    for _ in range(3):
        vault("reclaim", "--vault", VAULT)
    point = vault("list", "--vault", VAULT).splitlines()[-1].split()[0]
    vault("verify", "--vault", VAULT, "--point", point)
    write_image(20 * MIB, 50000)
    do_import("other")
    return [] if os.path.getsize(RESERVE) == 4 * MIB else ["the reserve is not whole again"]


def one_without_a_reserve_comes_back_too():
    """As a vault that was never reclaimed by a version that made none."""
    vault("forget", "--vault", VAULT, "--point", vault("list", "--vault", VAULT).splitlines()[-1].split()[0])
    for _ in range(3):
        vault("reclaim", "--vault", VAULT)
    write_image(80 * MIB, 2000)
    do_import("large", status=LIMIT)
    os.unlink(RESERVE)
    with open(os.path.join(DISK, "filler"), "wb") as filler:
        try:
            while True:
                filler.write(bytes(4096))
                filler.flush()
        except OSError:
            pass
    do_import("large", status=LIMIT)
    os.unlink(os.path.join(DISK, "filler"))
    return reclaim_gives_space_back()


def main():
    shutil.rmtree(WORK, ignore_errors=True)
    os.makedirs(WORK)
    try:
        tap.run_all([a_new_vault_sets_space_aside, a_full_one_says_so_and_is_opened_again_and_again, reclaim_gives_space_back,
                     one_without_a_reserve_comes_back_too])
    finally:
        subprocess.run(["umount", "-l", DISK], capture_output=True)
        shutil.rmtree(WORK, ignore_errors=True)


if __name__ == "__main__":
    if os.getuid() != 0 or not os.access(MKFS, os.X_OK):
        print("1..0 # SKIP no root, or no mkfs.ext4")
    else:
        main()
