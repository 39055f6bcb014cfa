#!/usr/bin/env python3
"""100,000 points of 1,000 disks: listing, counting and giving back within 256 MiB, and a pass that frees 1 % costs in proportion to what it
frees: freeing four times as much takes at most six times as long, and freeing 1 % at most a twentieth of counting everything. All in memory.

far-timeout: 1800
"""
import os
import subprocess

import transfer_kit as kit
from transfer_kit import tap

DISKS, POINTS = int(os.environ.get("FAR_DISKS", "1000")), 100


def measure():
    with kit.scratch() as folder:
        text = subprocess.run([os.path.join(kit.BUILD, "tests/bench/reclaim_scale"), folder + "/vault", str(DISKS), str(POINTS)], check=True,
                              capture_output=True, text=True).stdout
    steps = {}
    for line in text.splitlines():
        name, seconds, memory, deleted = line.split()
        steps[name] = {"seconds": float(seconds), "memory": int(memory), "deleted": int(deleted)}
        kit.say("%-10s %8.3f s, %6.1f MiB, %s records deleted" % (name, float(seconds), int(memory) / 2**20, deleted))
    return steps


measured = kit.Measured({"steps": measure})


def freeing(percent):
    """Two passes, less what two passes without anything to do take."""
    steps = measured("steps")
    return sum(steps["%s-%d" % (what, percent)]["seconds"] - steps["idle"]["seconds"] for what in ("release", "delete"))


def all_of_it_takes_at_most_256_mib():
    return kit.mark("MiB at most", max(step["memory"] for name, step in measured("steps").items() if name != "make") / 2**20, at_most=256)


def a_pass_costs_what_it_frees():
    steps = measured("steps")
    assert steps["delete-1"]["deleted"] > 0 and steps["delete-4"]["deleted"] > 3 * steps["delete-1"]["deleted"]
    return kit.mark("four times as much takes", freeing(4) / freeing(1), at_most=6) + \
        kit.mark("1 % beside counting all", freeing(1) / steps["count"]["seconds"], at_most=0.05)


tap.run_all([all_of_it_takes_at_most_256_mib, a_pass_costs_what_it_frees])
