#!/usr/bin/env python3
"""Targets that fail: a vault whose file system is full, and one that takes every write late. The job says what is wrong, in words; the
points that are there stay whole and can be recovered meanwhile; nothing is sent twice; it goes on by itself.

Needs root for tmpfs, FUSE and loop devices; skipped elsewhere.

far-timeout: 240
"""
import contextlib
import os
import shutil
import subprocess
import sys

import farlib
import tap

SIZE = 48 * farlib.MIB
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


def mount(folder, *options):
    os.makedirs(folder, exist_ok=True)
    tool("mount", *options, folder)
    mounted.append(folder)


def new_target(name, *options):
    """The target node, its vault on a file system of its own; the one before ends."""
    for node in [n for n in cluster.nodes if n.startswith("target")]:
        cluster.nodes[node].stop()
        cluster.call("DELETE", "/v1/nodes/%s" % node)
        del cluster.nodes[node]
    node = cluster.add_node(name, "recovery", start=False)
    mount(os.path.join(node.dir, "vault"), *options)
    node.start()
    cluster.wait_nodes()
    return os.path.join(node.dir, "vault")


def random_image(name, size):
    with open(path(name), "wb") as file:
        file.write(os.urandom(size))
    return path(name)


def words_of(job_id):
    job = cluster.job(job_id)
    return " ".join([job.get("error_message") or ""] + [t.get("error_message") or "" for t in job["tasks"]])


def a_full_vault_is_named_keeps_its_points_and_goes_on_when_there_is_space():
    vault = new_target("target", "-t", "tmpfs", "-o", "size=%d,mode=0700" % (60 * farlib.MIB), "farshore-test")
    image = random_image("full.img", 16 * farlib.MIB)
    cluster.protect("full", [image], plan="full")
    cluster.finish(cluster.start_cycle("full"))
    shutil.copyfile(image, path("full.before"))
    with open(image, "ab") as file:
        file.write(os.urandom(SIZE))
    job_id = cluster.start_cycle("full")

    def complained():
        job = cluster.job(job_id)
        text = words_of(job_id)
        if job["state"] != "running":
            raise farlib.Ended("the job ended as %s: %s" % (job["state"], text))
        return text if any(w in text.lower() for w in ("space", "full")) else None
    text = farlib.until(complained, 90, "the job says that there is no space")
    print("# the job says: %s" % text.strip())
    job = cluster.finish(cluster.start_recovery("full", [path("full.out")], "full"), 90)
    wrong = [] if job["state"] == "succeeded" and farlib.same_bytes(path("full.before"), path("full.out")) else [
        "the point that was there could not be recovered: %s" % words_of(job["id"])]
    tool("mount", "-o", "remount,size=%d" % (400 * farlib.MIB), vault)
    job = cluster.finish(job_id, 150)
    print("# it ended as %s; sent %d bytes of %d" % (job["state"], job["bytes_sent"], SIZE))
    wrong += [] if job["state"] == "succeeded" else ["the job ended as %s: %s" % (job["state"], words_of(job_id))]
    wrong += [] if job["bytes_sent"] < SIZE * 1.25 else ["%d bytes were sent for %d" % (job["bytes_sent"], SIZE)]
    job = cluster.finish(cluster.start_recovery("full", [path("full.out2")], "full"), 90)
    return wrong + ([] if farlib.same_bytes(image, path("full.out2")) else ["the recovered disk is not the image"])


def a_slow_vault_is_slow_and_nothing_else():
    """Each write of the vault's device 10 ms late; a recovery point comes all the same."""
    if not shutil.which("nbdfuse") or not shutil.which("nbdkit"):
        raise tap.Skip("nbdkit and libnbd-bin are not installed")
    device = path("slow/device")
    os.makedirs(path("slow"))
    with open(device, "wb"):
        pass
    servers.append(subprocess.Popen(["nbdfuse", device, "--command", "nbdkit", "-s", "--exit-with-parent", "--filter=delay", "memory", "400M",
                                     "delay-write=10ms"], stdin=subprocess.DEVNULL, preexec_fn=farlib.die_with_parent))
    farlib.until(lambda: os.path.getsize(device) == 400 * farlib.MIB, 20, "the slow device is there")
    mounted.append(device)
    tool("mke2fs", "-q", "-F", "-E", "lazy_itable_init=1", device)
    new_target("target2", "-o", "loop", device)
    image = random_image("slow.img", SIZE)
    cluster.protect("slow", [image], plan="slow")
    job = cluster.finish(cluster.start_cycle("slow"), 150)
    wrong = [] if job["state"] == "succeeded" else ["the job ended as %s: %s" % (job["state"], words_of(job["id"]))]
    job = cluster.finish(cluster.start_recovery("slow", [path("slow.out")], "slow"), 90)
    return wrong + ([] if farlib.same_bytes(image, path("slow.out")) else ["the recovered disk is not the image"])


TESTS = [a_full_vault_is_named_keeps_its_points_and_goes_on_when_there_is_space, a_slow_vault_is_slow_and_nothing_else]


def unmount_all():
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", folder], capture_output=True)
    for server in servers:
        server.kill()
        server.wait()


def main():
    global cluster, seed
    if os.geteuid() != 0:
        print("1..0 # SKIP needs root")
        sys.exit(0)
    seed = farlib.seed_of_run()
    with contextlib.ExitStack() as stack:
        stack.callback(unmount_all)
        cluster = stack.enter_context(farlib.Cluster(nodes=False))
        cluster.add_node("source", "protected")
        tap.run_all(TESTS)


if __name__ == "__main__":
    main()
