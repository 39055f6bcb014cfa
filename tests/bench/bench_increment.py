#!/usr/bin/env python3
"""Increments with a known list of changes (the adapter `file?changes=DIR`), in memory.

1 % of a disk in random whole blocks of 64 KiB, beside `rsync --inplace --no-whole-file -I` of the same two files, alternating in
one run, medians: the mark is 20 times as fast. Bytes are counted on the wire, both ways, TLS and all, by a relay without
limits: at most 1.03 times the changed bytes and 64 KiB; with one 4 KiB page changed in a block, at most 1.5 times the
pages. The same change on a sparse disk of 1 GiB and one of 1 TiB: at most 1.5 times the time, the same bytes within 5 %.

far-timeout: 2400
"""
import os
import shutil
import subprocess

import transfer_kit as kit
from transfer_kit import tap, BLOCK, PAGE

SPARSE_CHANGES = 1024


def told(result):
    return "%.3f s, %.3f s of the processors, %d KiB sent, %d KiB changed%s" % (
        result["seconds"], result["processor"], result["bytes_sent"] >> 10, result["bytes_changed"] >> 10,
        " (no list: %s)" % result["resync"] if result["resync"] else "")


def counted(transfer, cycle_of):
    """Bytes on the wire of one cycle, after a change; and the changed bytes."""
    with kit.Relay(transfer.address) as relay:
        transfer.through(relay.address)
        changed = cycle_of()
        kit.say(told(transfer.cycle()))
        transfer.through(transfer.address)
        return relay.wire(), changed


def mixed_disk():
    """Times of ours and of rsync, then the bytes of two more increments."""
    kit.need("rsync")
    with kit.scratch() as folder:
        image, twin = os.path.join(folder, "image"), os.path.join(folder, "twin")
        kit.make_mixed(image)
        size = os.path.getsize(image)
        shutil.copyfile(image, twin)
        changes = kit.Changes(image, folder, 20261130)
        ours, theirs = [], []
        with kit.Transfer(folder, [image], adapter=changes.adapter()) as transfer:
            transfer.cycle()
            for number in range(kit.ROUNDS):
                changes.make(changes.blocks(0.01, size), BLOCK)
                theirs.append(kit.rsync(image, twin))
                result = transfer.cycle()
                ours.append(result["seconds"])
                kit.say("round %d: rsync %.2f s; ours %s" % (number + 1, theirs[-1], told(result)))
            if subprocess.run(["cmp", "-s", image, twin], check=False).returncode != 0:
                raise RuntimeError("rsync made another image")
            blocks = counted(transfer, lambda: changes.make(changes.blocks(0.01, size), BLOCK))
            pages = counted(transfer, lambda: changes.make(
                [offset + changes.rng.randrange(BLOCK // PAGE) * PAGE for offset in changes.blocks(0.25, size)], PAGE))
        return {"ratio": kit.median(theirs) / kit.median(ours), "blocks": blocks, "pages": pages}


class SparseDisk:
    def __init__(self, folder, size):
        self.size = size
        self.lists = os.path.join(folder, "lists")
        os.makedirs(self.lists, exist_ok=True)
        image = os.path.join(folder, "sparse-%d" % (size >> 30))
        with open(image, "wb") as file:
            file.truncate(size)
        self.changes = kit.Changes(image, self.lists, 5)
        self.changes.make(self.places(), BLOCK)
        self.transfer = kit.Transfer(folder, [image], adapter=self.changes.adapter())
        kit.say("%d GiB, first copy: %s" % (size >> 30, told(self.transfer.cycle())))
        self.times = []

    def places(self):
        """So many blocks, spread over the whole disk."""
        apart = self.size // BLOCK // SPARSE_CHANGES
        return [(number * apart + self.changes.rng.randrange(apart)) * BLOCK for number in range(SPARSE_CHANGES)]

    def change(self):
        return self.changes.make(self.places(), BLOCK)

    def increment(self):
        self.change()
        result = self.transfer.cycle()
        self.times.append(result["seconds"])
        return "%d GiB %s" % (self.size >> 30, told(result))


def sparse_disks():
    with kit.scratch() as folder:
        small = SparseDisk(folder, 1 << 30)
        large = SparseDisk(folder, int(os.environ.get("FAR_BENCH_SPARSE_GIB", "1024")) << 30)
        with small.transfer, large.transfer:
            for number in range(kit.ROUNDS):
                kit.say("round %d: %s; %s" % (number + 1, small.increment(), large.increment()))
            wire = [counted(disk.transfer, disk.change)[0] for disk in (small, large)]
        return {"time": kit.median(large.times) / kit.median(small.times), "bytes": wire[1] / wire[0]}


measured = kit.Measured({"mixed": mixed_disk, "sparse": sparse_disks})


def a_known_increment_is_faster_than_rsync():
    return kit.mark("times as fast as rsync", measured("mixed")["ratio"], at_least=20)


def whole_blocks_travel_once_and_little_else():
    wire, changed = measured("mixed")["blocks"]
    return kit.mark("bytes on the wire, less 64 KiB, a byte changed", (wire - 65536) / changed, at_most=1.03)


def of_blocks_that_differ_little_only_pages_travel():
    wire, changed = measured("mixed")["pages"]
    return kit.mark("bytes on the wire a byte of the changed pages", wire / changed, at_most=1.5)


def time_grows_with_the_change_not_with_the_disk():
    return kit.mark("times the time of 1 GiB, for 1 TiB", measured("sparse")["time"], at_most=1.5)


def bytes_grow_with_the_change_not_with_the_disk():
    ratio = measured("sparse")["bytes"]
    return kit.mark("times the bytes of 1 GiB, for 1 TiB", ratio, at_most=1.05) or kit.mark("the same", ratio, at_least=0.95)


if __name__ == "__main__":
    tap.run_all([a_known_increment_is_faster_than_rsync, whole_blocks_travel_once_and_little_else,
                 of_blocks_that_differ_little_only_pages_travel, time_grows_with_the_change_not_with_the_disk,
                 bytes_grow_with_the_change_not_with_the_disk])
