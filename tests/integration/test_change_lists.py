#!/usr/bin/env python3
"""Increments by the lists of platforms, end to end: clones on XFS, lists of another program, dirty bitmaps of QEMU. Each cycle reads
what the list names (and the audit's share), the recovered disk is the source, and a list that cannot be used is named and costs a
comparison of hashes, never a wrong point.

Needs root for a loop-mounted XFS; that part is skipped elsewhere.

far-timeout: 240
"""
import glob
import os
import random
import shutil
import socket
import subprocess

import farlib
import tap

SIZE = 64 * farlib.MIB
cluster = seed = None
mounted = []
servers = []


def path(name):
    return os.path.join(cluster.base, name)


def tool(*argv):
    environment = dict(os.environ, PATH=os.environ["PATH"] + ":/sbin:/usr/sbin")
    try:
        done = subprocess.run(argv, capture_output=True, text=True, env=environment)
    except FileNotFoundError:
        raise tap.Skip("%s is not installed" % argv[0])
    if done.returncode != 0:
        raise tap.Skip("%s does not work here: %s" % (argv[0], done.stderr.strip()))
    return done.stdout.strip()


def send_of(job):
    return [t for t in cluster.job(job["id"])["tasks"] if t["kind"] == "send"][0]


def cycle(plan):
    job = cluster.finish(cluster.start_cycle(plan), 120)
    if job["state"] != "succeeded":
        raise farlib.Failure("the cycle ended as %s: %s" % (job["state"], job.get("error_message")))
    send = send_of(job)
    print("# %s: %s" % (plan, {k: v for k, v in send.items() if v and k not in ("kind", "state", "root")}))
    return job, send


def open_alerts(workload):
    return [a["message"] for a in cluster.get("/v1/alerts?workload=%s" % workload)["items"]
            if a["state"] != "cleared" and a["kind"] == "change_list_refused"]


def by_list(done, blocks):
    """Only what the list names was read, and some blocks of the audit; an alert about the list is over."""
    job, send = done
    wrong = [] if job["bytes_changed"] == blocks * farlib.BLOCK else ["%d bytes changed, %d blocks did" % (job["bytes_changed"], blocks)]
    wrong += [] if not send["full"] and send["hashed_bytes"] <= (blocks + 16) * farlib.BLOCK else ["it was not by a list: %r" % send]
    return wrong + (["an alert stays: %r" % open_alerts(send["workload"])] if open_alerts(send["workload"]) else [])


def compared(done, blocks, why):
    """Everything was read; the reason is told."""
    job, send = done
    wrong = [] if job["bytes_changed"] == blocks * farlib.BLOCK else ["%d bytes changed, %d blocks did" % (job["bytes_changed"], blocks)]
    wrong += [] if send["full"] and send["hashed_bytes"] == SIZE else ["not everything was compared: %r" % send]
    alerts = open_alerts(send["workload"])
    return wrong + ([] if any(why in text for text in alerts) else ["'%s' is not said: %r" % (why, alerts)])


def recovered(workload, image, name):
    job = cluster.finish(cluster.start_recovery(workload, [path(name)], workload), 120)
    return job["state"] == "succeeded" and farlib.same_bytes(image, path(name))


def clones_on_xfs_tell_what_changed():
    folder = path("xfs")
    os.makedirs(folder)
    with open(path("xfs.fs"), "wb") as file:
        file.truncate(700 * farlib.MIB)
    tool("mkfs.xfs", "-q", path("xfs.fs"))
    tool("mount", "-o", "loop", path("xfs.fs"), folder)
    mounted.append(folder)
    image = farlib.make_image(os.path.join(folder, "disk.img"), SIZE, seed)
    cluster.protect("xfs", [image], plan="xfs")
    cycle("xfs")
    wrong = []
    for number in range(3):
        chosen = farlib.change_image(image, 20, seed + number)
        wrong += by_list(cycle("xfs"), len(chosen))
    clones = [os.path.basename(p) for p in glob.glob(image + ".farshore-*")]
    wrong += [] if len(clones) == 1 and "-base-" in clones[0] else ["beside the image lie %r" % clones]
    return wrong + ([] if recovered("xfs", image, "xfs.out") else ["the recovered disk is not the image"])


def a_kept_clone_that_is_gone_costs_one_comparison_and_is_named():
    image = os.path.join(path("xfs"), "disk.img")
    if not os.path.exists(image):
        raise tap.Skip("there is no XFS here")
    for clone in glob.glob(image + ".farshore-base-*"):
        os.unlink(clone)
    chosen = farlib.change_image(image, 10, seed + 10)
    wrong = compared(cycle("xfs"), len(chosen), "is not there")
    chosen = farlib.change_image(image, 10, seed + 11)
    wrong += by_list(cycle("xfs"), len(chosen))
    return wrong + ([] if recovered("xfs", image, "xfs.out2") else ["the recovered disk is not the image"])


def a_source_that_is_killed_in_every_cycle_misses_nothing():
    """Killed before, while and after the view is made and kept; the clone of the last point is the only one that is left."""
    image = os.path.join(path("xfs"), "disk.img")
    if not os.path.exists(image):
        raise tap.Skip("there is no XFS here")
    rng, wrong = random.Random(seed), []
    for number in range(6):
        farlib.change_image(image, 30, seed + 100 + number)
        job_id, steps = cluster.start_cycle("xfs"), rng.randint(0, 4)

        def far_enough(job_id=job_id, steps=steps):
            job = cluster.job(job_id)
            return job["state"] != "running" or sum(t["state"] == "done" for t in job["tasks"]) >= steps
        farlib.until(far_enough, 30, "%d tasks are done" % steps)
        cluster.nodes["source"].kill()
        cluster.nodes["source"].start()
        job = cluster.finish(job_id, 120)
        if job["state"] != "succeeded":
            cycle("xfs")
        wrong += [] if recovered("xfs", image, "xfs.kill%d" % number) else ["round %d: the recovered disk is not the image" % number]
        os.unlink(path("xfs.kill%d" % number))
    farlib.change_image(image, 10, seed + 200)
    wrong += by_list(cycle("xfs"), 10)
    kept = glob.glob(image + ".farshore-base-*")
    print("# beside the image: %r" % [os.path.basename(p) for p in glob.glob(image + ".farshore-*")])
    return wrong + ([] if len(kept) == 1 else ["%d clones are kept" % len(kept)])


def write_list(base, token, blocks):
    temporary = path("lists/next")
    with open(temporary, "w", encoding="ascii") as file:
        file.write("farshore-changes 1 %s %s\n" % (base, token))
        file.writelines("%d %d\n" % (block * farlib.BLOCK, farlib.BLOCK) for block in blocks)
    os.rename(temporary, path("lists/disk0.changes"))


def lists_of_another_program_tell_what_changed():
    """Also one that begins somewhere else, and one with a wrong line: both are named, and hashes are compared."""
    os.makedirs(path("lists"))
    image = farlib.make_image(path("listed.img"), SIZE, seed + 1)
    write_list("-", "t0", [])
    cluster.protect("listed", [image], plan="listed", adapter="file?changes=lists")
    cycle("listed")
    chosen = farlib.change_image(image, 20, seed + 20)
    write_list("t0", "t1", chosen)
    wrong = by_list(cycle("listed"), len(chosen))
    chosen = farlib.change_image(image, 20, seed + 21)
    write_list("elsewhere", "t2", chosen)
    wrong += compared(cycle("listed"), len(chosen), "begins with 'elsewhere'")
    chosen = farlib.change_image(image, 20, seed + 22)
    write_list("t2", "t3", chosen)
    wrong += by_list(cycle("listed"), len(chosen))
    chosen = farlib.change_image(image, 20, seed + 23)
    write_list("t3", "t4", sorted(chosen, reverse=True))
    wrong += compared(cycle("listed"), len(chosen), "line 3")
    wrong += [] if sorted(os.listdir(path("lists"))) == ["disk0.changes"] else ["left behind: %r" % os.listdir(path("lists"))]
    return wrong + ([] if recovered("listed", image, "listed.out") else ["the recovered disk is not the image"])


def export_bitmap(name, port, bitmap, description):
    while servers:
        server = servers.pop()
        server.kill()
        server.wait()
    servers.append(subprocess.Popen(["qemu-nbd", "-t", "-r", "--shared=0", "-f", "qcow2", "-b", "127.0.0.1", "-p", str(port), "-B", bitmap,
                                     "-D", description, path(name)], stdin=subprocess.DEVNULL, preexec_fn=farlib.die_with_parent))

    def listens():
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    farlib.until(listens, 20, "qemu-nbd serves")


def dirty_bitmaps_of_qemu_tell_what_changed():
    """A bitmap for each view, as a backup program makes them: it begins with the view, whose export names it, and the next view
    offers it. Then a view that offers another one."""
    for name in ("qemu-img", "qemu-io", "qemu-nbd"):
        if not shutil.which(name):
            raise tap.Skip("%s is not installed" % name)
    disk, port = path("vm.qcow2"), farlib.free_ports(1)[0]
    farlib.make_image(path("vm.raw"), SIZE, seed + 2)
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", path("vm.raw"), disk)

    def write(first):
        tool("qemu-io", "-f", "qcow2", *sum((["-c", "write -q -P %d %d 4k" % (1 + (first + i) % 250, (first + i * 31) * farlib.BLOCK + 4096)]
                                             for i in range(10)), []), disk)
    wrong = []
    tool("qemu-img", "bitmap", "--add", "-g", "64k", disk, "cp0")
    export_bitmap("vm.qcow2", port, "cp0", "farshore-token=cp0")
    cluster.protect("vm", ["nbd://127.0.0.1:%d" % port], plan="vm", adapter="nbd")
    cycle("vm")
    for number in range(2):
        servers[-1].kill()
        servers.pop().wait()
        write(number * 5)
        tool("qemu-img", "bitmap", "--add", "-g", "64k", disk, "cp%d" % (number + 1))
        export_bitmap("vm.qcow2", port, "cp%d" % number, "farshore-token=cp%d" % (number + 1))
        wrong += by_list(cycle("vm"), 10)
    servers[-1].kill()
    servers.pop().wait()
    write(20)
    export_bitmap("vm.qcow2", port, "cp0", "farshore-token=cp3")
    wrong += compared(cycle("vm"), 10, "offers no dirty bitmap 'cp2'")
    tool("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", disk, path("vm.now"))
    return wrong + ([] if recovered("vm", path("vm.now"), "vm.out") else ["the recovered disk is not the source"])


TESTS = [clones_on_xfs_tell_what_changed, a_kept_clone_that_is_gone_costs_one_comparison_and_is_named,
         a_source_that_is_killed_in_every_cycle_misses_nothing,
         lists_of_another_program_tell_what_changed, dirty_bitmaps_of_qemu_tell_what_changed]


def main():
    global cluster, seed
    seed = farlib.seed_of_run()
    try:
        with farlib.Cluster() as cluster:
            tap.run_all(TESTS)
    finally:
        for server in servers:
            server.kill()
            server.wait()
        for folder in mounted:
            subprocess.run(["umount", "-l", folder], capture_output=True)


if __name__ == "__main__":
    main()
