#!/usr/bin/env python3
"""Real file systems and devices: a full vault, a full server; devices as sources and as recovery targets, too small, mounted.

Needs root for tmpfs and loop devices; skipped elsewhere.

far-timeout: 200
"""
import os
import subprocess

import farlib
import tap

cluster = seed = None
mounted = []


def path(name):
    return os.path.join(cluster.base, name)


def tool(*argv):
    environment = dict(os.environ, PATH=os.environ["PATH"] + ":/sbin:/usr/sbin")
    done = subprocess.run(argv, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise tap.Skip("%s does not work here: %s" % (argv[0], done.stderr.strip()))
    return done.stdout.strip()


def mount_tmpfs(folder, size):
    os.makedirs(folder, exist_ok=True)
    tool("mount", "-t", "tmpfs", "-o", "size=%d,mode=0700" % size, "farshore-test", folder)
    mounted.append(folder)


def unmount_all():
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", folder], capture_output=True)
    mounted.clear()


def a_full_vault_fails_the_cycle_and_goes_on_when_there_is_space():
    node = cluster.add_node("target", "recovery", start=False)
    vault = os.path.join(node.dir, "vault")
    mount_tmpfs(vault, 24 * farlib.MIB)
    node.start()
    cluster.wait_nodes()
    with open(path("disk.img"), "wb") as file:
        file.write(os.urandom(64 * farlib.MIB))
    cluster.protect("vm", [path("disk.img")])
    job_id = cluster.start_cycle()
    words = []

    def complained():
        job = cluster.job(job_id)
        words[:] = [job.get("error_message") or ""] + [t.get("error_message") or "" for t in job["tasks"]]
        return any(w in " ".join(words).lower() for w in ("space", "full"))
    farlib.until(complained, 90, "the job says that the disk is full")
    print("# the job says: %s" % "; ".join(sorted({w for w in words if w})))
    points = [p for p in cluster.get("/v1/points")["items"] if p["state"] == "available"]
    tool("mount", "-o", "remount,size=%d" % (400 * farlib.MIB), vault)
    job = cluster.finish(job_id, 120)
    if job["state"] != "succeeded":
        job = cluster.replicate()
    cluster.recover("vm", [path("out.img")])
    assert farlib.same_bytes(path("disk.img"), path("out.img"))
    return ["a point came out of a full disk"] if points else []


def a_target_device_that_is_too_small_is_refused():
    with open(path("small"), "wb") as file:
        file.truncate(4 * farlib.MIB)
    device = tool("losetup", "--find", "--show", path("small"))
    try:
        job = cluster.finish(cluster.start_recovery("vm", [device]), 90)
        words = (job.get("error_message", "") + " ".join(t["error_message"] for t in cluster.job(job["id"])["tasks"])).lower()
        with open(path("small"), "rb") as file:
            untouched = not any(file.read())
    finally:
        subprocess.run(["losetup", "-d", device], capture_output=True)
    wrong = [] if job["state"] == "failed" and "small" in words else ["the job ended as %s: %s" % (job["state"], words)]
    return wrong + ([] if untouched else ["the device was written to"])


def said(job):
    return job.get("error_message", "") + " ".join(t["error_message"] for t in cluster.job(job["id"])["tasks"])


def a_target_device_that_is_mounted_or_held_is_refused():
    """Refused at the first attempt, with the reason, and nothing is written; free again, it is recovered to."""
    with open(path("busy"), "wb") as file:
        file.truncate(80 * farlib.MIB)
    tool("mke2fs", "-q", "-F", path("busy"))
    with open(path("busy"), "rb") as file:
        before = file.read()
    device = tool("losetup", "--find", "--show", path("busy"))
    os.makedirs(path("mnt"))
    wrong = []
    try:
        tool("mount", "-o", "ro", device, path("mnt"))
        mounted.append(path("mnt"))
        job = cluster.finish(cluster.start_recovery("vm", [device]), 60)
        wrong += [] if job["state"] == "failed" and "is in use: it is mounted" in said(job) else [said(job)]
        tool("umount", path("mnt"))
        mounted.remove(path("mnt"))
        held = os.open(device, os.O_RDWR | os.O_EXCL)
        job = cluster.finish(cluster.start_recovery("vm", [device]), 60)
        os.close(held)
        wrong += [] if job["state"] == "failed" and "another program holds it" in said(job) else [said(job)]
        with open(path("busy"), "rb") as file:
            wrong += [] if file.read() == before else ["the device in use was written to"]
        cluster.recover("vm", [device])
    finally:
        subprocess.run(["losetup", "-d", device], capture_output=True)
    with open(path("disk.img"), "rb") as one, open(path("busy"), "rb") as two:
        return wrong + ([] if one.read() == two.read(64 * farlib.MIB) else ["the free device holds something else"])


def a_device_is_source_and_target_and_what_was_on_it_is_gone():
    """A source device with regions of zeroes, two cycles; a larger target device full of other bytes: the disk's part is bit
    for bit the source's, zeroes included, what lies behind it is left alone."""
    size, rest = 24 * farlib.MIB, 2 * farlib.MIB
    farlib.make_image(path("from"), size, seed)
    with open(path("to"), "wb") as file:
        file.write(b"\xa5" * (size + rest))
    source, target = (tool("losetup", "--find", "--show", path(name)) for name in ("from", "to"))
    try:
        cluster.protect("device", [source], plan="devices")
        cluster.replicate()
        with open(source, "r+b") as device:
            device.seek(5 * farlib.MIB)
            device.write(os.urandom(farlib.MIB))
            os.fsync(device.fileno())
        changed = cluster.replicate()["bytes_changed"]
        cluster.recover("device", [target])
    finally:
        for device in (source, target):
            subprocess.run(["losetup", "-d", device], capture_output=True)
    with open(path("from"), "rb") as one, open(path("to"), "rb") as two:
        wrong = [] if one.read() == two.read(size) else ["the recovered device is not the source"]
        wrong += [] if two.read() == b"\xa5" * rest else ["what lies behind the disk was written to"]
    return wrong + ([] if changed == farlib.MIB else ["%d bytes changed, 1 MiB was written" % changed])


def a_device_that_is_large_enough_is_recovered_to():
    with open(path("large"), "wb") as file:
        file.truncate(80 * farlib.MIB)
    device = tool("losetup", "--find", "--show", path("large"))
    try:
        cluster.recover("vm", [device])
    finally:
        subprocess.run(["losetup", "-d", device], capture_output=True)
    with open(path("disk.img"), "rb") as one, open(path("large"), "rb") as two:
        assert one.read() == two.read(64 * farlib.MIB)


def a_full_server_refuses_users_early_and_recovers():
    single = farlib.Cluster(servers=("lonely",), nodes=False)
    folder = os.path.join(single.base, "server-lonely")
    mount_tmpfs(folder, 700 * farlib.MIB)
    try:
        single.set_up()
        room = os.statvfs(folder)
        filler = os.path.join(folder, "filler")
        with open(filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_bsize - 150 * farlib.MIB)

        def refused():
            status, _, body = single.request(single.servers["lonely"], "POST", "/v1/sites",
                                             {"name": "more-%d" % os.getpid(), "role": "recovery"})
            single.call("DELETE", "/v1/sites/more-%d" % os.getpid()) if status == 201 else None
            return status >= 400 and body.get("code") == "limit"
        farlib.until(refused, 30, "user commands are refused with `limit`")
        assert single.get("/v1/sites") is not None
        os.unlink(filler)
        farlib.until(lambda: single.post("/v1/sites", {"name": "again", "role": "recovery"})["id"], 30, "it takes commands")
        single.verify_all_offline()
    finally:
        single.close()


def main():
    global cluster, seed
    seed = farlib.seed_of_run()
    with farlib.Cluster(servers=farlib.SERVERS[:1], nodes=False) as cluster:
        cluster.add_node("source", "protected")
        try:
            tap.run_all([a_full_vault_fails_the_cycle_and_goes_on_when_there_is_space,
                         a_target_device_that_is_too_small_is_refused, a_target_device_that_is_mounted_or_held_is_refused,
                         a_device_that_is_large_enough_is_recovered_to,
                         a_device_is_source_and_target_and_what_was_on_it_is_gone,
                         a_full_server_refuses_users_early_and_recovers])
        finally:
            cluster.kill_all()
            unmount_all()


if __name__ == "__main__":
    main()
