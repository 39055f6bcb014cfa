#!/usr/bin/env python3
"""Memory stays within its budget during a first copy that is larger than the node's buffers: RssAnon + RssShmem.

far-timeout: 200
"""
import os
import threading

import farlib
import tap

SIZE = 512 * farlib.MIB
SERVER_MAX, NODE_MAX = 96 * farlib.MIB, 256 * farlib.MIB
cluster = seed = None
peaks = {}


def watch(over):
    while not over.wait(0.1):
        for process in list(cluster.servers.values()) + list(cluster.nodes.values()):
            try:
                peaks[process.name] = max(peaks.get(process.name, 0), process.memory())
            except (OSError, AttributeError):
                pass


def a_copy_and_a_recovery_stay_within_the_memory_budget():
    over = threading.Event()
    watcher = threading.Thread(target=watch, args=(over,), daemon=True)
    watcher.start()
    image, target = os.path.join(cluster.base, "disk.img"), os.path.join(cluster.base, "out.img")
    farlib.make_image(image, SIZE, seed)
    cluster.protect("vm", [image])
    cluster.replicate()
    cluster.recover("vm", [target])
    over.set()
    watcher.join()
    for name, peak in sorted(peaks.items()):
        print("# %s: %.1f MiB at most" % (name, peak / farlib.MIB))
    assert farlib.same_bytes(image, target)
    return ["%s used %d bytes" % (n, p) for n, p in peaks.items() if p > (NODE_MAX if n in cluster.nodes else SERVER_MAX)]


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    with farlib.Cluster() as cluster:
        tap.run_all([a_copy_and_a_recovery_stay_within_the_memory_budget])
