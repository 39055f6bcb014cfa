#!/usr/bin/env python3
"""Two source and two target nodes beside one pair: first copies of 16 disks of 256 MiB, one a workload, by the real programs with one
server, everything in memory. Alternating in one run, new nodes and vaults for each copy; the mark is the ratio of the medians: two
and two are no slower than one pair (1.05: what medians of equal things differ by).

Then one of the two source nodes is killed in the middle. The mark: of each disk that it was sending, another node sends what the
target had not got when the sender died, and once more at most what came after the last intermediate checkpoint; checkpoints are made
every 16 MiB here. What the target had got is what it reported last of that attempt.

  FAR_BENCH_DISKS, FAR_BENCH_DISK_MIB, FAR_ROUNDS make it smaller.

far-timeout: 2400
"""
import os
import random
import sys
import time

import transfer_kit as kit
from transfer_kit import tap, BLOCK

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import farlib  # noqa: E402

DISKS = int(os.environ.get("FAR_BENCH_DISKS", "16"))
DISK_MIB = int(os.environ.get("FAR_BENCH_DISK_MIB", "256"))
CHECKPOINT = 16 << 20
SLACK = 2 << 20  # of a disk: frames, and disks are not the same everywhere
PAIR = (("s1",), ("t1",))
TWO = (("s1", "s2"), ("t1", "t2"))


def make_disk(path, seed):
    """40 % random, 30 % text, 30 % zero in runs of 64 KiB; no block is that of another disk."""
    rng = random.Random(seed)
    words = ["%x" % rng.getrandbits(28) for _ in range(2000)]
    text = " ".join(rng.choices(words, k=60000)).encode()
    with open(path, "wb") as disk:
        for number in range(DISK_MIB * 16):
            kind = rng.random()
            if kind < 0.4:
                disk.write(rng.randbytes(BLOCK))
            elif kind < 0.7:
                start = rng.randrange(len(text) - BLOCK)
                disk.write((b"%d %d " % (seed, number) + text[start:start + BLOCK])[:BLOCK])
            else:
                disk.seek(BLOCK, os.SEEK_CUR)
        disk.truncate(DISK_MIB << 20)


def protect(cluster, disks):
    names = []
    for number, disk in enumerate(disks):
        names.append("w%d" % number)
        cluster.post("/v1/workloads", {"name": names[-1], "site": "protected", "adapter": "file",
                                       "disks": [{"name": "disk", "locator": disk}]})
    cluster.post("/v1/plans", {"name": "plan", "source_site": "protected", "target_site": "recovery", "workloads": names})
    cluster.plan = "plan"


def copy(folder, disks, nodes, disturb=None):
    """A first copy of all disks by new nodes: seconds, the job, and what disturbing it told."""
    with farlib.Cluster(base=os.path.join(folder, "cluster"), servers=("protected",), nodes=False, lease_ms=5000) as cluster:
        for site, names in zip(("protected", "recovery"), nodes):
            for name in names:
                cluster.add_node(name, site, settings={"checkpoint_bytes": CHECKPOINT})
        cluster.wait_nodes()
        protect(cluster, disks)
        began = time.monotonic()
        job_id = cluster.start_cycle()
        told = disturb(cluster, job_id) if disturb else None
        job = cluster.finish(job_id, 1200)
        seconds = time.monotonic() - began
        if job["state"] != "succeeded":
            raise farlib.Failure("the cycle ended as %s: %s" % (job["state"], job["error_message"]))
    farlib.shutil.rmtree(os.path.join(folder, "cluster"), ignore_errors=True)
    return seconds, job, told


def shares(job, kind):
    found = {}
    for task in job["tasks"]:
        if task["kind"] == kind:
            found[task["node"]] = found.get(task["node"], 0) + 1
    return found


def received(job, attempts):
    """What the target says of the disks of these workloads in these attempts: bytes by workload; an ended attempt is not there."""
    return {task["workload"]: task["bytes_done"] for task in job["tasks"]
            if task["kind"] == "receive" and attempts.get(task["workload"]) == task["attempt"] and task["state"] == "running"}


def kill_a_source(cluster, job_id):
    """When a third has been sent; returns what the target had got of each disk that the node was sending, by workload."""
    def third():
        job = cluster.job(job_id)
        return job if job["bytes_done"] >= (DISKS * DISK_MIB << 20) // 3 else None
    job = farlib.until(third, 600, "a third is done")
    victim = next(task["node"] for task in job["tasks"] if task["kind"] == "send" and task["state"] == "running")
    cluster.nodes[victim].kill()
    cluster.nodes.pop(victim)
    attempts = {task["workload"]: task["attempt"] for task in cluster.job(job_id)["tasks"]
                if task["kind"] == "send" and task["node"] == victim and task["state"] == "running"}
    got = {}

    def is_lost():
        now = received(cluster.job(job_id), attempts)
        got.update({name: max(done, got.get(name, 0)) for name, done in now.items()})
        return not now
    farlib.until(is_lost, 60, "the leases of %s end" % victim)
    kit.say("killed %s, which was sending %d disks; the target had %d MiB of them" % (victim, len(got), sum(got.values()) >> 20))
    return got


def once_more(job, undisturbed, got):
    """Bytes that were sent again, of the disks that were interrupted, together."""
    usual = {task["workload"]: task["bytes_sent"] for task in undisturbed["tasks"] if task["kind"] == "send"}
    size, again = DISK_MIB << 20, 0
    for task in job["tasks"]:
        if task["kind"] == "send" and task["workload"] in got:
            again += task["bytes_sent"] - usual[task["workload"]] * (size - got[task["workload"]]) // size
    return again


def run():
    times = {"pair": [], "two": []}
    with kit.scratch() as folder:
        disks = [os.path.join(folder, "disk-%d" % number) for number in range(DISKS)]
        for number, disk in enumerate(disks):
            make_disk(disk, 1000 + number)
        for number in range(kit.ROUNDS):
            for who, nodes in (("pair", PAIR), ("two", TWO)):
                seconds, job, _ = copy(folder, disks, nodes)
                times[who].append(seconds)
            kit.say("round %d: one pair %.2f s, two and two %.2f s, sends %s, receives %s" % (
                number + 1, times["pair"][-1], times["two"][-1], shares(job, "send"), shares(job, "receive")))
        seconds, disturbed, got = copy(folder, disks, TWO, kill_a_source)
    again = once_more(disturbed, job, got)
    kit.say("with a killed source: %.2f s, of %d disks %.1f MiB were sent again" % (seconds, len(got), again / (1 << 20)))
    return {"ratio": kit.median(times["two"]) / kit.median(times["pair"]), "again": again, "disks": len(got)}


measured = kit.Measured({"nodes": run})


def two_and_two_are_no_slower_than_a_pair():
    return kit.mark("the time of two and two, of one pair's", measured("nodes")["ratio"], at_most=1.05)


def a_killed_source_costs_at_most_the_work_since_the_last_checkpoint():
    figures = measured("nodes")
    allowed = figures["disks"] * (CHECKPOINT + SLACK)
    return kit.mark("MiB sent once more", figures["again"] / (1 << 20), at_most=allowed / (1 << 20))


if __name__ == "__main__":
    tap.run_all([two_and_two_are_no_slower_than_a_pair, a_killed_source_costs_at_most_the_work_since_the_last_checkpoint])
