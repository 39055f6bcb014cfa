#!/usr/bin/env python3
"""Machines that come up at once, from disks that the vault serves, and are written out while they run: a test that ends before that leaves
nothing; a node that is killed meanwhile costs the guest time and nothing else; a failover is committed when nothing needs the vault any
more, and is protected the other way round then. The guest's own records say whether its disks were right all the time.

With `long` all of it, without it the failover alone. Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 400
"""
import os
import re
import sys

import farlib
import runlib
import tap

os.environ["FARSHORE_NBDKIT_PLUGIN"] = os.path.join(farlib.BUILD, ".libs/nbdkit-farshore-plugin.so")
stage = guest = None


def member(run_id):
    return stage.show(run_id)["members"][0]


def servers():
    """Processes that serve points of the target's vault."""
    place = stage.recovered("target").encode()
    return runlib.libvirt_kit.processes(lambda words: words[0].endswith(b"nbdkit") and any(place in word for word in words))


def backing(run_id):
    """What the machine's disks still read from, as libvirt has it."""
    return re.findall(r"backingStore type='network'", stage.far.virsh("dumpxml", stage.show(run_id)["members"][0]["machine"]))


def up(kind, **more):
    """At once, up: the run, and what is wrong."""
    acked = guest.acked()
    stage.cycle("gold")
    run_id = stage.run(kind, "gold", at_once=True, seconds=60, **more)
    last = farlib.until(lambda: stage.booted(stage.console(run_id, "vm")), 120, lambda: "it boots: " + stage.console(run_id, "vm")[-800:])[-1][1]
    return run_id, [] if last >= acked else ["%d were acknowledged, %d are there" % (acked, last)]


def writes_on(run_id, more=5):
    last = stage.acked(stage.console(run_id, "vm"))
    farlib.until(lambda: stage.acked(stage.console(run_id, "vm")) >= last + more, 60, lambda: stage.console(run_id, "vm")[-800:])


def hydrated(run_id, seconds=120):
    return farlib.until(lambda: member(run_id).get("hydration") == "done" or None, seconds, lambda: repr(stage.show(run_id)))


def goes_on_to_its_end(run_id):
    """It is written out all the same, and its guest has lost nothing; then the test ends."""
    hydrated(run_id)
    writes_on(run_id)
    stage.end(run_id, "finish")
    return [] if not servers() else ["points are served still"]


def a_test_that_ends_before_its_disks_are_written_out_leaves_nothing():
    before = stage.left()
    run_id, wrong = up("test")
    wrong += [] if member(run_id).get("hydration") == "running" and backing(run_id) and servers() else [repr(member(run_id))]
    stage.end(run_id, "finish")
    wrong += [] if stage.left() == before else ["left: %r, before: %r" % (stage.left(), before)]
    return wrong + ([] if not servers() else ["points are served still"])


def a_test_is_written_out_while_it_runs():
    before = stage.left()
    run_id, wrong = up("test")
    writes_on(run_id)
    hydrated(run_id)
    wrong += [] if not servers() else ["points are served that nobody reads"]
    wrong += [] if not backing(run_id) else ["the machine is over something still"]
    writes_on(run_id)
    shown = [t for t in stage.cluster.job(run_id)["tasks"] if t.get("operation") == "hydrate"]
    wrong += [] if len(shown) == 1 and shown[0]["bytes_done"] == shown[0]["bytes_total"] > 0 else [repr(shown)]
    stage.end(run_id, "finish")
    return wrong + ([] if stage.left() == before else ["left: %r, before: %r" % (stage.left(), before)])


def libvirtd_and_a_leader_that_are_killed_meanwhile_cost_nothing():
    run_id, wrong = up("test")
    wrong += [] if member(run_id).get("hydration") == "running" and backing(run_id) else [repr(member(run_id))]
    stage.far.kill_daemon()
    stage.far.start_daemon()
    leader = stage.cluster.wait_leader()
    leader.kill()
    leader.start()
    return wrong + goes_on_to_its_end(run_id)


def a_node_that_is_killed_meanwhile_costs_time_and_nothing_else():
    node = stage.cluster.nodes["target"]
    run_id, wrong = up("test")
    wrong += [] if member(run_id).get("hydration") == "running" and backing(run_id) else [repr(member(run_id))]
    node.kill()
    farlib.until(lambda: not servers(), 30, "what served ends with the node")
    node.start()
    return wrong + goes_on_to_its_end(run_id)


def a_failover_is_committed_when_nothing_needs_the_vault():
    stage.host_in(stage.far)
    run_id, wrong = up("failover")
    wrong += [] if member(run_id).get("hydration") == "running" else [repr(member(run_id))]
    run = stage.end(run_id, "commit")
    wrong += [] if run["members"][0].get("hydration") == "done" and run["members"][0]["state"] == "kept" else [repr(run)]
    wrong += [] if not servers() else ["points are served still"]
    machine = run["members"][0]["machine"]
    images = stage.disks(run_id)
    wrong += ["%s lies over something" % image for image in images if "backing file" in libvirt_info(image)]
    stage.far.virsh("destroy", machine)  # turned off and on it needs nothing else either
    stage.far.virsh("start", machine)
    farlib.until(lambda: len(stage.booted(stage.console(run_id, "vm"))) >= 2, 120, "it boots again")
    writes_on(run_id)
    back = stage.cluster.post("/v1/plans/gold/reverse", {})
    stage.cluster.post("/v1/plans/%s/start" % (back.get("name") or "gold-back"), {})
    stage.cycle(back.get("name") or "gold-back")
    return wrong


def libvirt_info(image):
    return runlib.libvirt_kit.tool("qemu-img", "info", "-U", image)


class SlowStage(runlib.Stage):
    """Disks are written out slowly enough to see it."""

    def settings(self, name, libvirt):
        return {**super().settings(name, libvirt), "hydrate_bytes_per_s": 4 << 20}


def main():
    global stage, guest
    if not runlib.begin():
        return
    with SlowStage() as stage:
        guest = stage.guest("vm", disk_mib=(64, 32))
        guest.wait_ack(3)
        stage.protect("gold", {"vm": {"gates": []}})
        longer = [a_test_that_ends_before_its_disks_are_written_out_leaves_nothing,
                  libvirtd_and_a_leader_that_are_killed_meanwhile_cost_nothing,
                  a_node_that_is_killed_meanwhile_costs_time_and_nothing_else] if "long" in sys.argv else []
        tap.run_all([*longer, *([a_test_is_written_out_while_it_runs] if longer else []), a_failover_is_committed_when_nothing_needs_the_vault])


if __name__ == "__main__":
    main()
