#!/usr/bin/env python3
"""kill -9 of all three servers at once, after and between acknowledged commands: nothing acknowledged is lost.

far-timeout: 200
"""
import os
import threading

import farlib
import tap

ROUNDS = int(os.environ.get("FAR_KILLS", "8"))
cluster = seed = None


def all_at_once(round_number):
    """Writers at every server; when enough was acknowledged, everything dies in the middle of it."""
    acknowledged, lock, over, enough = [], threading.Lock(), threading.Event(), threading.Event()

    def write(writer, server):
        for n in range(10000):
            name = "r%d-w%d-%d" % (round_number, writer, n)
            try:
                status, _, _ = cluster.request(server, "POST", "/v1/sites", {"name": name, "role": "recovery"}, timeout=5)
            except Exception:  # the server died under the request: not acknowledged
                status = 0
            if over.is_set():
                return
            if status == 201:
                with lock:
                    acknowledged.append(name)
                    if len(acknowledged) >= 10 + 7 * round_number:
                        enough.set()

    writers = [threading.Thread(target=write, args=(i, s), daemon=True) for i, s in enumerate(cluster.servers.values())]
    for thread in writers:
        thread.start()
    assert enough.wait(30 * farlib.SLOW), "too few writes were acknowledged"
    for server in cluster.servers.values():
        server.process.kill()
    over.set()
    for server in cluster.servers.values():
        server.kill()
    for thread in writers:
        thread.join(20)
    return acknowledged


def nothing_acknowledged_is_lost():
    known, wrong = [], []
    for number in range(ROUNDS):
        known += all_at_once(number)
        for server in cluster.servers.values():
            server.start()
        cluster.wait_leader(30)
        there = names_of_sites()
        missing = [name for name in known if name not in there]
        print("# round %d: %d acknowledged so far, %d missing" % (number + 1, len(known), len(missing)), flush=True)
        wrong += ["lost: " + name for name in missing]
    return wrong


def names_of_sites():
    names, cursor = set(), 0
    while True:
        page = cluster.get("/v1/sites?consistency=linearizable&limit=1000" + ("&cursor=%s" % cursor if cursor else ""))
        names |= {item["name"] for item in page["items"]}
        cursor = page["cursor"]
        if not cursor:
            return names


def all_servers_agree_and_an_independent_walk_too():
    cluster.wait_same_heads()
    print("# digests %r" % (cluster.verify_all_offline(),))


if __name__ == "__main__":
    with farlib.Cluster(nodes=False) as cluster:
        tap.run_all([nothing_acknowledged_is_lost, all_servers_agree_and_an_independent_walk_too])
