#!/usr/bin/env python3
"""kill -9 of one kind of process, spread evenly over a cycle that the fault adapter slows to 5 s or more.

  test_kill.py leader|follower|source|target [kills]

Each kill is one cycle: kill number i of n strikes when (i + 0.5) / n of the cycle's usual time has passed, and the process
is started again at once. Every cycle must complete by itself; at the end the recovered disk is bit-exact, all servers
show the same index and head, and the walk of each one's store gives the same digest. A change of leader restarts no task.

far-timeout: 280
"""
import collections
import os
import sys
import time

import farlib
import tap

SIZE = 24 * farlib.MIB
READ_DELAY_US = 500000  # each read of the source disk is so late
victim_kind = sys.argv[1] if len(sys.argv) > 1 else "leader"
kills = int(sys.argv[2]) if len(sys.argv) > 2 else int(os.environ.get("FAR_KILLS", "5"))
cluster = seed = None
phases = collections.Counter()
cycle_seconds = 5.0


def image():
    return os.path.join(cluster.base, "disk.img")


def phase_of(job):
    """What the job is doing now, for the count: the kinds of its tasks that are assigned or running."""
    busy = sorted({task["kind"] for task in job["tasks"] if task["state"] in ("assigned", "running")})
    return "+".join(busy) if busy else "between tasks"


def victim():
    if victim_kind == "leader":
        return cluster.wait_leader()
    if victim_kind == "follower":
        followers = cluster.followers()
        return followers[phases.total() % len(followers)]
    return cluster.nodes[victim_kind]


def a_cycle_takes_five_seconds_or_more():
    global cycle_seconds
    farlib.make_image(image(), SIZE, seed)
    cluster.protect("vm", [image()])
    cluster.replicate()
    farlib.change_image(image(), 40, seed + 1)
    began = time.monotonic()
    cluster.replicate()
    cycle_seconds = time.monotonic() - began
    print("# a cycle takes %.1f s" % cycle_seconds)
    assert cycle_seconds >= 5.0


def one_kill(number):
    farlib.change_image(image(), 40, seed + 100 + number)
    began = time.monotonic()
    job_id = cluster.start_cycle()
    strike = began + cycle_seconds * (number + 0.5) / kills
    farlib.until(lambda: time.monotonic() >= strike, 60, "the moment of the kill")
    process = victim()
    job = cluster.job(job_id)
    before = {t["task"]: (t["attempt"], t["state"]) for t in job["tasks"]}
    phase = phase_of(job) if job["state"] == "running" else "after the end"
    process.kill()
    phases[phase] += 1
    process.start()
    job = cluster.finish(job_id, 90)
    print("# kill %d of %s at %.1f s in %s: %s after %.1f s" % (number + 1, process.name, strike - began, phase, job["state"],
                                                            time.monotonic() - began), flush=True)
    wrong = [] if job["state"] == "succeeded" else ["kill %d: the cycle ended as %s: %s" %
                                                    (number + 1, job["state"], job.get("error_message"))]
    if victim_kind in ("leader", "follower"):
        after = {t["task"]: t["attempt"] for t in cluster.job(job_id)["tasks"]}
        wrong += ["kill %d: task %d was restarted (attempt %d, then %d)" % (number + 1, n, attempt, after[n])
                  for n, (attempt, state) in before.items() if attempt and after[n] != attempt]
        wrong += ["kill %d: task %d needed %d attempts" % (number + 1, n, a) for n, a in after.items() if a > 1]
    return wrong


def every_cycle_completes_by_itself():
    wrong = []
    for number in range(kills):
        wrong += one_kill(number)
    print("# %d kills of the %s, phases hit: %s" % (kills, victim_kind, dict(phases)))
    return wrong


def the_recovered_disk_is_bit_exact():
    target = os.path.join(cluster.base, "recovered.img")
    cluster.recover("vm", [target])
    assert farlib.same_bytes(image(), target)


def all_servers_agree_and_an_independent_walk_too():
    print("# heads %r" % (cluster.wait_same_heads(),))
    print("# digests %r" % (cluster.verify_all_offline(),))


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    with farlib.Cluster(adapter="fault:file?rd=%d" % READ_DELAY_US) as cluster:
        tap.run_all([a_cycle_takes_five_seconds_or_more, every_cycle_completes_by_itself, the_recovered_disk_is_bit_exact,
                     all_servers_agree_and_an_independent_walk_too])
