#!/usr/bin/env python3
"""What a failover of a real guest lost, told by the list of changes of its hypervisor: where the machine was shut down, QEMU's bitmaps are whole, and
only what they name is read. Where its process was killed they are not, and everything is. Both times the extents are exactly those that differ,
also when the node, or its libvirtd, dies while it compares; and rolled back the next cycle still goes by the list.

Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 400
"""
import os
import re

import farlib
import libvirt_kit
import runlib
import tap

MIB = farlib.MIB
DISKS = (64, 32)
stage = guest = None


def point_of(run_id):
    """The disks of the checkpoint that was recovered, written out by a recovery of their own."""
    disks = [stage.path("point-%d-%d" % (run_id, index)) for index in range(len(DISKS))]
    body = {"workload": "one", "checkpoint_id": stage.show(run_id)["checkpoint_id"],
            "disks": [{"disk": "disk%d" % index, "path": path} for index, path in enumerate(disks)]}
    job = stage.cluster.finish(stage.cluster.post("/v1/plans/gold/recover", body)["id"])
    assert job["state"] == "succeeded", job
    return disks


def differing(old, new):
    """Blocks of 64 KiB, merged."""
    found = []
    with open(old, "rb") as one, open(new, "rb") as two:
        a, b = one.read(), two.read()
    for at in range(0, len(b), farlib.BLOCK):
        if a[at:at + farlib.BLOCK] != b[at:at + farlib.BLOCK]:
            if found and found[-1]["offset"] + found[-1]["length"] == at:
                found[-1]["length"] += farlib.BLOCK
            else:
                found.append({"offset": at, "length": farlib.BLOCK})
    return found


def is_exact(run_id, loss):
    """The disks that were left behind, read by qemu-img, against the point."""
    wrong, points = [], point_of(run_id)
    for index, (path, disk) in enumerate(zip(guest.disks.values(), loss["disks"])):
        old = stage.path("left-%d-%d" % (run_id, index))
        libvirt_kit.tool("qemu-img", "convert", "-U", "-O", "raw", path, old)
        want = differing(old, points[index])
        good = disk["extents"] == want[:64] and disk["extent_count"] == len(want) and want
        wrong += [] if good and disk["lost_bytes"] == sum(e["length"] for e in want) else ["%r, not %r" % (disk, want)]
    return wrong + ([] if len(loss["disks"]) == len(DISKS) else ["%r" % loss])


def loss_of(run_id):
    return stage.cluster.get("/v1/runs/%d/report" % run_id)["losses"][0]


def told(run_id):
    farlib.until(lambda: loss_of(run_id)["source"] in ("compared", "failed"), 120, lambda: "it tells: %r" % loss_of(run_id))
    text = stage.cluster.cli("run", "report", str(run_id), as_json=False)
    print("# " + "\n# ".join(line for line in text.splitlines() if "disk" in line or "lost" in line))
    return loss_of(run_id)


def fail_over_without(node):
    """The source's node is gone while its guest writes on; it is back when the machine is up at the far site."""
    node.kill()
    farlib.until(lambda: stage.cluster.get("/v1/nodes/source")["state"] == "down", 60, "its node is missed")
    guest.wait_ack(guest.acked() + 20, 120)
    return stage.run("failover", "gold", fence_s=1, shutdown_s=30, force=True)


def back_again(run_id):
    """Rolled back; what the next cycle read of the disks."""
    stage.end(run_id, "roll-back")
    guest.wait_ack(guest.acked() + 1, 120)
    sends = [task for task in stage.cycle("gold")["tasks"] if task["kind"] == "send"]
    return [(task["hashed_bytes"], task["full"]) for task in sends]


def of_a_machine_that_was_shut_down_only_what_its_list_names_is_read():
    node = stage.cluster.nodes["source"]
    run_id = fail_over_without(node)
    node.start()  # it shuts the machine down, and then it compares
    loss = told(run_id)
    read = [(disk["by_list"], disk["compared_bytes"], disk["lost_bytes"]) for disk in loss["disks"]]
    wrong = is_exact(run_id, loss) + ([] if loss["source"] == "compared" and not loss["estimate"] else ["%r" % loss])
    wrong += [] if all(by_list and lost <= bytes_read < 16 * MIB for by_list, bytes_read, lost in read) else ["%r" % read]
    wrong += [] if stage.near.virsh("domstate", "one") == "shut off" else ["the source runs"]
    wrong += whoever_dies_meanwhile(run_id)
    for path in guest.disks.values():  # nothing is left of it, and the list is what it was
        info = libvirt_kit.tool("qemu-img", "info", "-U", path)
        wrong += [] if len(re.findall(r"name: farshore", info)) == 1 and "in-use" not in info else [info]
    cycle = back_again(run_id)
    return wrong + ([] if all(not full and size < 24 * MIB for size, full in cycle) else ["the next cycle: %r" % cycle])


def whoever_dies_meanwhile(run_id):
    """Compared again, and somebody is killed as soon as a task runs."""
    first, wrong = loss_of(run_id)["disks"], []
    for victim in ("source", "target", "libvirtd"):
        job_id = stage.cluster.post("/v1/runs/%d/compare" % run_id)["id"]
        farlib.until(lambda j=job_id: stage.cluster.job(j)["tasks"][0]["state"] in ("running", "done"), 60, "it compares")
        if victim == "libvirtd":
            stage.near.kill_daemon()
            stage.near.start_daemon()
        else:
            stage.cluster.nodes[victim].kill()
            stage.cluster.nodes[victim].start()
        job = stage.cluster.finish(job_id)
        now = loss_of(run_id)["disks"]
        print("# killed the %s while it compared: %s, %d attempts" % (victim, job["state"], max(t["attempt"] for t in job["tasks"])))
        same = [(d["extents"], d["extent_count"], d["by_list"]) for d in now] == [(d["extents"], d["extent_count"], d["by_list"]) for d in first]
        wrong += [] if job["state"] == "succeeded" and same else ["%s: %r %r" % (victim, job, now)]
    return wrong


def of_a_machine_whose_process_was_killed_everything_is_read():
    node = stage.cluster.nodes["source"]
    run_id = fail_over_without(node)
    guest.crash()
    node.start()
    loss = told(run_id)
    read = [(disk["by_list"], disk["compared_bytes"]) for disk in loss["disks"]]
    wrong = is_exact(run_id, loss) + ([] if loss["source"] == "compared" and not loss["estimate"] else ["%r" % loss])
    wrong += [] if read == [(False, mib * MIB) for mib in DISKS] else ["%r" % read]
    wrong += [] if all(disk["problem"] for disk in loss["disks"]) else ["it is not said why: %r" % loss]
    stage.cluster.post("/v1/runs/%d/roll-back" % run_id)
    stage.wait(run_id, "done")
    return wrong


def nothing_is_left():
    left = stage.left()
    wrong = [] if left["domains"] == [] and left["files"] == [] else ["%r" % left]
    views = [name for name in os.listdir(guest.folder) if "farshore" in name]
    return wrong + (["views: %r" % views] if views else [])


def main():
    global stage, guest
    if not runlib.begin():
        return
    with runlib.Stage(lease_ms=4000) as stage:
        guest = stage.guest("one", DISKS, options="far.load_kib=4")
        guest.wait_ack(5)
        stage.protect("gold", {"one": {}})
        stage.cycle("gold")
        tap.run_all([of_a_machine_that_was_shut_down_only_what_its_list_names_is_read,
                     of_a_machine_whose_process_was_killed_everything_is_read, nothing_is_left])


if __name__ == "__main__":
    main()
