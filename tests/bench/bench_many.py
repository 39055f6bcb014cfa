#!/usr/bin/env python3
"""80 disks of 256 MiB at once, a budget of 512 MiB for each node: the most that RssAnon and RssShmem are together in a first copy and
in an increment, on either node; the mark is 640 MiB.

The disks are sparse, a quarter of their blocks filled at random places, all different; disks, vault and cache are in memory, so what
a node maps of them counts too.

far-timeout: 1800
"""
import os
import random

import transfer_kit as kit
from transfer_kit import tap, BLOCK

DISKS = int(os.environ.get("FAR_BENCH_DISKS", "80"))
DISK_MIB = int(os.environ.get("FAR_BENCH_DISK_MIB", "256"))
BUDGET_MIB, MARK_MIB = 512, 640


def fill(path, rng, share):
    count = DISK_MIB * 16
    with open(path, "r+b" if os.path.exists(path) else "wb") as disk:
        disk.truncate(DISK_MIB << 20)
        for block in rng.sample(range(count), round(count * share)):
            disk.seek(block * BLOCK)
            disk.write(rng.randbytes(BLOCK))


def told(what, result):
    kit.say("%s: %.2f s, %d MiB sent, %.2f s of the processors; the most: source %d MiB, target %d MiB" % (
        what, result["seconds"], result["bytes_sent"] >> 20, result["processor"], result["source"]["peak_kib"] >> 10,
        result["target"]["peak_kib"] >> 10))
    return {who: result[who]["peak_kib"] / 1024 for who in ("source", "target")}


def run():
    rng = random.Random(80)
    with kit.scratch() as folder:
        disks = [os.path.join(folder, "disk-%d" % number) for number in range(DISKS)]
        for disk in disks:
            fill(disk, rng, 0.25)
        with kit.Transfer(folder, disks, memory=BUDGET_MIB << 20) as transfer:
            first = told("first copy", transfer.cycle())
            for disk in disks:
                fill(disk, rng, 0.02)
            second = told("increment", transfer.cycle())
    return {who: max(first[who], second[who]) for who in first}


measured = kit.Measured({"many": run})


def the_source_keeps_its_budget():
    return kit.mark("MiB at the source", measured("many")["source"], at_most=MARK_MIB)


def the_target_keeps_its_budget():
    return kit.mark("MiB at the target", measured("many")["target"], at_most=MARK_MIB)


if __name__ == "__main__":
    tap.run_all([the_source_keeps_its_budget, the_target_keeps_its_budget])
