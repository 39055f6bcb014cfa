#!/usr/bin/env python3
"""Whole virtual machines on KVM as a source: two disks of a guest that writes without pause, on a libvirt of the test's own. Every point
is bit for bit what was frozen, both disks are of one moment, their file systems are clean once the journal is replayed, and no
acknowledged record is missing; through crashes of the guest, the node and libvirtd.

Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 400
"""
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import urllib.parse

import farlib
import libvirt_kit
import tap

RECORD = 4096
cluster = libvirt = guest = None
rounds = []


def path(name):
    return os.path.join(cluster.base, name)


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def locator(target):
    return "kvm:///%s/%s?socket=%s" % (guest.name, target, urllib.parse.quote(libvirt.socket))


def view():
    """The backup that is under way, as libvirt tells: its socket, and the bitmap of each disk."""
    text = libvirt.virsh("backup-dumpxml", guest.name, check=False)
    found = re.search(r"socket='([^']+)'", text)
    bitmaps = {target: re.search(r"exportbitmap='([^']+)'", rest).group(1) if "exportbitmap" in rest else None
               for target, rest in re.findall(r"<disk name='(\w+)'([^>]*)>", text)}
    return (found.group(1), bitmaps) if found else None


def uri(socket, target):
    return "nbd+unix:///%s?socket=%s" % (target, urllib.parse.quote(socket))


def dirty_bytes(socket, target, bitmap):
    status, text = run("nbdinfo", "--json", "--map=qemu:dirty-bitmap:" + bitmap, uri(socket, target))
    assert status == 0, text
    return sum(extent["length"] for extent in json.loads(text) if extent["type"] & 1)


def held_cycle(kill=None):
    """A cycle whose view is copied by nbdcopy while it lives, and recovered after: (job, what is wrong).

    kill: called while the view lives."""
    acked = guest.acked()
    target = cluster.nodes["target"]
    os.kill(target.pid, signal.SIGSTOP)
    try:
        job_id = cluster.start_cycle()
        farlib.until(lambda: [t for t in cluster.job(job_id)["tasks"] if t["kind"] == "freeze" and t["state"] == "done"], 60,
                     "the view is made")
        socket, bitmaps = view()
        number = len(rounds)
        rounds.append(number)
        dirty = {}
        for index, disk in enumerate(guest.disks):
            status, text = run("nbdcopy", uri(socket, disk), path("frozen%d" % index))
            assert status == 0, text
            if bitmaps[disk]:
                dirty[index] = dirty_bytes(socket, disk, bitmaps[disk])
        if kill is not None:
            kill()
    finally:
        os.kill(target.pid, signal.SIGCONT)
    job = cluster.finish(job_id, 120)
    return job, (checked(acked, job, dirty) if job["state"] == "succeeded" else [])


def checked(acked, job, dirty):
    targets = [path("out%d" % index) for index in range(len(guest.disks))]
    for name in targets:
        if os.path.exists(name):
            os.unlink(name)
    recovery = cluster.finish(cluster.start_recovery("vm", targets), 120)
    if recovery["state"] != "succeeded":
        return ["the recovery ended as %s: %s" % (recovery["state"], recovery.get("error_message"))]
    wrong, last = [], []
    for index, name in enumerate(targets):
        if not farlib.same_bytes(name, path("frozen%d" % index)):
            wrong.append("disk %d is not what was frozen" % index)
        last.append(last_record(name, wrong))
    if any(later - earlier not in (0, 1) for earlier, later in zip(last[1:], last)) or last[0] < acked:
        wrong.append("the disks end at records %r, %d were acknowledged before" % (last, acked))
    sends = {task["disk"]: task for task in job["tasks"] if task["kind"] == "send"}
    print("# records %r, %d acknowledged; dirty %r, sends %r" % (
        last, acked, dirty, {k: (t["full"], t["hashed_bytes"], t["bytes_sent"]) for k, t in sends.items()}))
    for index, size in dirty.items():
        send = sends["disk%d" % index]
        if send["full"] or not size <= send["hashed_bytes"] <= size + 64 * farlib.BLOCK:
            wrong.append("disk %d: the bitmap names %d bytes, read were %d (full: %s)" % (index, size, send["hashed_bytes"], send["full"]))
    return wrong


def last_record(image, wrong):
    """The newest whole record of a disk, whose file system is clean once its journal is replayed."""
    status, text = run("e2fsck", "-E", "journal_only", "-y", image)
    status, text = run("e2fsck", "-fn", image)
    if status != 0:
        wrong.append("%s: e2fsck: %s" % (os.path.basename(image), text[-600:]))
    records = image + ".records"
    run("debugfs", "-R", "dump /records " + records, image)
    last = 0
    with open(records, "rb") as file:
        while len(record := file.read(RECORD)) == RECORD:
            if record[:8] == b"FARREC01":
                last = max(last, struct.unpack("<Q", record[8:16])[0])
    os.unlink(records)
    return last


def checkpoints():
    return libvirt.checkpoints(guest.name)


def at_rest():
    """After a cycle: one checkpoint, no backup, no files beside the disks."""
    wrong = [] if len(checkpoints()) == 1 else ["checkpoints: %r" % checkpoints()]
    wrong += ["a backup is left"] if view() else []
    left = [name for name in os.listdir(guest.folder) if name.startswith("farshore-")]
    return wrong + (["files are left: %r" % left] if left else [])


def cycle(by_list=True):
    job, wrong = held_cycle()
    if job["state"] != "succeeded":
        return ["the cycle ended as %s: %s" % (job["state"], job.get("error_message"))]
    fulls = [task["full"] for task in job["tasks"] if task["kind"] == "send"]
    return wrong + at_rest() + ([] if fulls == [not by_list] * len(fulls) else ["sends were full: %r" % fulls])


def a_guest_is_protected_and_recovered():
    cluster.protect("vm", [locator(target) for target in guest.disks], adapter="kvm?tm=5000")
    return cycle(by_list=False)


def cycles_go_by_the_bitmaps():
    wrong = []
    for _ in range(3):
        guest.wait_ack(guest.acked() + 50)
        wrong += cycle()
    return wrong


def alerts():
    return [a["message"] for a in cluster.get("/v1/alerts?workload=vm")["items"]
            if a["state"] != "cleared" and a["kind"] == "change_list_refused"]


def resynced(why):
    """The next cycle compares hashes and says why; the one after it goes by the list again."""
    wrong = cycle(by_list=False)
    wrong += [] if any(why in text for text in alerts()) else ["'%s' is not said: %r" % (why, alerts())]
    guest.wait_ack(guest.acked() + 10)
    wrong += cycle()
    return wrong + (["an alert stays: %r" % alerts()] if alerts() else [])


def crash(kill, ends="succeeded"):
    """A cycle with a crash while its view lives."""
    guest.wait_ack(guest.acked() + 20)
    job, wrong = held_cycle(kill)
    print("# %s: %s %s" % (kill.__name__, job["state"], job.get("error_message")))
    return wrong + ([] if job["state"] == ends else ["the cycle ended as %s: %s" % (job["state"], job.get("error_message"))])


def kill_node():
    cluster.nodes["source"].kill()
    cluster.nodes["source"].start()


def kill_libvirtd():
    libvirt.kill_daemon()
    libvirt.start_daemon()


def kill_guest():
    guest.crash()


def a_node_that_is_killed_reads_on_from_its_view():
    return crash(kill_node) + at_rest()


def libvirtd_that_is_killed_takes_no_view_with_it():
    return crash(kill_libvirtd) + at_rest() + cycle()


def a_guest_whose_hypervisor_is_killed_costs_the_cycle_and_one_comparison():
    wrong = crash(kill_guest, "failed")
    guest.start()
    return wrong + resynced("bitmap")


def a_guest_that_is_destroyed_and_started_goes_on_by_its_list():
    guest.destroy()
    guest.start()
    return cycle()


def a_node_that_is_killed_while_it_freezes_leaves_nothing():
    """Killed again and again, a little later each time, while it asks libvirt."""
    wrong = []
    for number in range(4):
        seen = set(checkpoints())
        job_id = cluster.start_cycle()

        def begun(job_id=job_id, number=number, seen=seen):
            tasks = [t for t in cluster.job(job_id)["tasks"] if t["kind"] == "freeze"]
            return [t["state"] != "pending" for t in tasks] == [True] if number == 0 else (
                view() if number == 1 else set(checkpoints()) - seen if number == 2 else [t["state"] for t in tasks] == ["done"])
        farlib.until(begun, 60, "the freeze is under way")
        kill_node()
        job = cluster.finish(job_id, 120)
        wrong += [] if job["state"] == "succeeded" else ["round %d: %s %s" % (number, job["state"], job.get("error_message"))]
        wrong += at_rest()
    return wrong + cycle()


def a_disk_that_was_replaced_is_compared():
    guest.destroy()
    disk = guest.disks["vdb"]
    libvirt_kit.tool("qemu-img", "convert", "-O", "qcow2", disk, disk + ".new")
    os.rename(disk + ".new", disk)
    guest.start()
    return resynced("bitmap")


def a_disk_that_was_reverted_is_compared():
    guest.destroy()
    for disk in guest.disks.values():
        shutil.copyfile(disk, disk + ".old")
    guest.start()
    wrong = cycle()
    guest.destroy()
    for disk in guest.disks.values():
        os.rename(disk + ".old", disk)
    with open(guest.console, "a", encoding="utf-8") as file:
        file.write("\nACK 0\n")  # what it acknowledged since is gone, and was never promised
    guest.start()
    return wrong + resynced("bitmap")


def a_backup_of_another_program_is_left_alone():
    with open(path("backup.xml"), "w", encoding="utf-8") as file:
        file.write("<domainbackup mode='pull'><server transport='unix' socket='%s'/></domainbackup>" % path("s.sock"))
    libvirt.virsh("backup-begin", guest.name, path("backup.xml"))
    job_id = cluster.start_cycle()

    def refused():
        freeze = [t for t in cluster.job(job_id)["tasks"] if t["kind"] == "freeze"][0]
        return freeze["failures"] > 0 and freeze["error_message"]
    message = farlib.until(refused, 60, "the freeze is refused")
    wrong = [] if "another program's backup" in message and path("s.sock") in libvirt.virsh("backup-dumpxml", guest.name) else [message]
    libvirt.virsh("domjobabort", guest.name)
    job = cluster.finish(job_id, 120)
    wrong += [] if job["state"] == "succeeded" else ["the cycle ended as %s: %s" % (job["state"], job.get("error_message"))]
    return wrong + cycle()


def a_libvirtd_that_hangs_is_given_up_and_tried_again():
    """The node's loop goes on: its reports come."""
    libvirt.pause_daemon()
    try:
        job_id = cluster.start_cycle()

        def refused():
            freeze = [t for t in cluster.job(job_id)["tasks"] if t["kind"] == "freeze"][0]
            return freeze["failures"] > 0 and freeze["error_message"]
        message = farlib.until(refused, 60, "the freeze is given up")
    finally:
        libvirt.resume_daemon()
    job = cluster.finish(job_id, 120)
    wrong = [] if job["state"] == "succeeded" else ["the cycle ended as %s: %s" % (job["state"], job.get("error_message"))]
    return wrong + ([] if "does not answer" in message else [message]) + at_rest() + cycle()


def held_files():
    return sorted(name for name in os.listdir(guest.folder) if name.startswith("farshore-") and name.endswith(".sock"))


def held_off_cycle(kill=None):
    """A cycle of the guest that is off, held while its views live; what is wrong."""
    target, wrong = cluster.nodes["target"], []
    os.kill(target.pid, signal.SIGSTOP)
    try:
        job_id = cluster.start_cycle()
        farlib.until(lambda: [t for t in cluster.job(job_id)["tasks"] if t["kind"] == "freeze" and t["state"] == "done"], 60,
                     "the view is made")
        sockets = held_files()
        if kill is not None:
            kill()
        said = libvirt.virsh("start", guest.name, check=False)
        wrong += [] if libvirt.virsh("domstate", guest.name) == "shut off" else ["it starts while a view of it lives: " + said]
    finally:
        os.kill(target.pid, signal.SIGCONT)
    job = cluster.finish(job_id, 120)
    if job["state"] != "succeeded" or len(sockets) != len(guest.disks):
        return ["the cycle ended as %s: %s; views %r" % (job["state"], job.get("error_message"), sockets)]
    for index, image in enumerate(guest.disks.values()):
        libvirt_kit.tool("qemu-img", "convert", "-O", "raw", image, path("frozen%d" % index))
    sends = {task["disk"]: task for task in job["tasks"] if task["kind"] == "send"}
    wrong += checked(guest.acked(), job, {})
    return wrong + ["disk %r: full %s, read %d" % (k, t["full"], t["hashed_bytes"]) for k, t in sends.items()
                    if t["full"] or t["hashed_bytes"] > 24 << 20]


def a_guest_that_was_shut_down_is_read_as_it_is():
    """Its last record is in the point; nothing is read but what the list names; the node dies over it; once it runs the list goes on."""
    wrong = cycle()
    guest.wait_ack(guest.acked() + 50)
    libvirt.virsh("shutdown", guest.name)
    libvirt_kit.until(lambda: libvirt.virsh("domstate", guest.name) == "shut off", 60, "the guest shuts down")
    last = int(re.findall(r"^LAST (\d+)", guest.words(), re.M)[-1])
    wrong += held_off_cycle(kill_node)
    found = last_record(path("out0"), wrong)
    wrong += [] if found == last else ["the guest wrote up to %d, the point has %d" % (last, found)]
    wrong += held_off_cycle()  # nothing changed
    left = [name for name in os.listdir(guest.folder) if name.startswith("farshore-")]
    wrong += ["files are left: %r" % left] if left else []
    guest.start()
    guest.wait_ack(guest.acked() + 20)
    return wrong + cycle()


def the_images_keep_no_more_bitmaps_than_the_one():
    guest.destroy()
    wrong = []
    for disk in guest.disks.values():
        about = json.loads(libvirt_kit.tool("qemu-img", "info", "--output=json", disk))
        names = [bitmap["name"] for bitmap in about["format-specific"]["data"].get("bitmaps", [])]
        wrong += [] if names == checkpoints() else ["%s has the bitmaps %r" % (disk, names)]
    guest.start()
    return wrong


def destroy_guest():
    guest.destroy()


def cycles_with_any_crash_among_them():
    """FAR_KVM_ROUNDS cycles (50); in most of them something is killed while the view lives, or anywhere else."""
    rng, wrong = random.Random(farlib.seed_of_run()), cycle(by_list=False) if not checkpoints() else []
    kills = [None, None, kill_node, kill_libvirtd, kill_guest, destroy_guest]
    for number in range(int(os.environ.get("FAR_KVM_ROUNDS", "50"))):
        kill, held = rng.choice(kills), rng.random() < 0.5
        if held or kill is None:
            job, found = held_cycle(kill)
        else:
            job_id, steps = cluster.start_cycle(), rng.randint(0, 6)

            def far_enough(job_id=job_id, steps=steps):
                job = cluster.job(job_id)
                return job["state"] != "running" or sum(t["state"] == "done" for t in job["tasks"]) >= steps
            farlib.until(far_enough, 60, "%d tasks are done" % steps)
            kill()
            job, found = cluster.finish(job_id, 120), []
        print("# round %d: %s, %s: %s %s" % (number, kill.__name__ if kill else "nothing", "held" if held else "anywhere", job["state"],
                                             job.get("error_message")))
        died = kill in (kill_guest, destroy_guest)
        wrong += ["round %d: %s" % (number, text) for text in found]
        wrong += [] if job["state"] == "succeeded" or died else ["round %d: %s" % (number, job.get("error_message"))]
        if died:
            guest.start()
        guest.wait_ack(guest.acked() + rng.randint(1, 60))
        if not held:  # what the disturbed cycle left must do for the next one
            job, found = held_cycle()
            wrong += ["round %d, after it: %s" % (number, text) for text in found]
            wrong += [] if job["state"] == "succeeded" else ["round %d, after it: %s" % (number, job.get("error_message"))]
    job, found = held_cycle()
    return wrong + found + at_rest()


def main():
    global cluster, libvirt, guest
    if libvirt_kit.is_missing("nbdinfo", "nbdcopy", "e2fsck", "debugfs"):
        return
    with farlib.Cluster(adapter="kvm") as cluster, libvirt_kit.Libvirt(path("a")) as libvirt:
        guest = libvirt_kit.Guest(libvirt, "web", [64, 32])
        guest.start()
        if "long" in sys.argv:
            tap.run_all([a_guest_is_protected_and_recovered, a_node_that_is_killed_while_it_freezes_leaves_nothing,
                         a_backup_of_another_program_is_left_alone, a_libvirtd_that_hangs_is_given_up_and_tried_again,
                         the_images_keep_no_more_bitmaps_than_the_one, cycles_with_any_crash_among_them])
        tap.run_all([a_guest_is_protected_and_recovered, cycles_go_by_the_bitmaps,
                     a_node_that_is_killed_reads_on_from_its_view, libvirtd_that_is_killed_takes_no_view_with_it,
                     a_guest_that_is_destroyed_and_started_goes_on_by_its_list,
                     a_guest_whose_hypervisor_is_killed_costs_the_cycle_and_one_comparison,
                     a_disk_that_was_replaced_is_compared, a_guest_that_was_shut_down_is_read_as_it_is, a_disk_that_was_reverted_is_compared])


if __name__ == "__main__":
    main()
