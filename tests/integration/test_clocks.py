#!/usr/bin/env python3
"""The servers' wall clocks jump: time in the log follows a majority, never back, and costs no lease; while no majority agrees,
the calendar waits.

far-timeout: 240
"""
import os
import subprocess

import farlib
import tap

SHIM = os.path.join(farlib.BUILD, "tests/lib/.libs/libclock.so")
HOUR = 3600 * 1000
cluster = None


def environment(name):
    path = os.path.join(cluster.base, "clock-" + name)
    preload = [SHIM]
    if os.environ.get("ASAN_OPTIONS"):
        preload.insert(0, subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip())
    return {"LD_PRELOAD": ":".join(preload), "FAR_CLOCK_OFFSET_FILE": path}


def set_clocks(**offsets):
    for name, offset in offsets.items():
        path = os.path.join(cluster.base, "clock-" + name)
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write("%d\n" % offset)
        os.rename(path + ".new", path)


def events(*kinds):
    return [line for line in cluster.cli("events", "--from", "start", "--kind", ",".join(kinds), as_json=False).splitlines()]


def verdicts():
    return [line.split('"verdict":"')[1].split('"')[0] for line in events("clock_judged")]


def cluster_time():
    """Of the newest event."""
    return cluster.get("/v1/nodes/source")["seen_ms"]


def clock():
    return cluster.status(cluster.wait_leader())["server"]


def started_with_their_own_clocks():
    for name, server in cluster.servers.items():
        server.stop()
        server.environment = environment(name)
    set_clocks(protected=0, recovery=0, witness=0)
    for server in cluster.servers.values():
        server.start()
    cluster.wait_leader()
    cluster.wait_nodes()


def one_wrong_clock_moves_nothing():
    set_clocks(witness=HOUR)
    seen = lambda: [m for m in cluster.status(cluster.servers["protected"])["members"]
                    if m["name"] == "witness" and (m["clock_offset_ms"] or 0) > HOUR / 2]
    farlib.until(seen, 20, "the status shows how far the clock of the witness is")
    return [] if verdicts() == [] and clock()["clock_offset_ms"] < 10000 else ["%r" % verdicts()]


def a_majority_moves_time_forward_and_no_lease_is_lost():
    before, lost = cluster_time(), len(events("node_lost"))
    set_clocks(protected=HOUR)
    farlib.until(lambda: "forward" in verdicts(), 20, "the log says that time went forward")
    farlib.until(lambda: cluster_time() > before + HOUR / 2, 20, "cluster time is an hour later")
    wrong = [] if len(events("node_lost")) == lost else ["a node was lost by the jump"]
    nodes = [cluster.get("/v1/nodes/" + name)["state"] for name in cluster.nodes]
    return wrong + ([] if nodes == ["up", "up"] else ["nodes: %r" % nodes])


def clocks_that_agree_on_nothing_let_the_calendar_wait_and_leases_run():
    cluster.post("/v1/workloads", {"name": "vm", "site": "protected", "adapter": "file",
                                   "disks": [{"name": "d", "locator": cluster.image}]})
    cluster.post("/v1/plans", {"name": "each-second", "source_site": "protected", "target_site": "recovery",
                               "workloads": ["vm"], "interval_s": 1})
    set_clocks(protected=HOUR, recovery=3 * HOUR, witness=5 * HOUR)
    farlib.until(lambda: verdicts()[-1:] == ["suspect"], 40, "the log says that the clocks are not to be believed")
    farlib.until(lambda: clock()["clock_is_suspect"], 10, "the status says so, too")  # it is written with each beat
    cluster.post("/v1/plans/each-second/start")
    first, scheduled = cluster_time(), len(events("plan_scheduled"))
    farlib.until(lambda: cluster_time() >= first + 5000, 30, "nodes renew their leases for five intervals of the plan")
    if len(events("plan_scheduled")) > scheduled:
        return ["the plan was scheduled by clocks that nobody believes"]
    set_clocks(protected=HOUR, recovery=HOUR, witness=HOUR)
    farlib.until(lambda: verdicts()[-1:] == ["good"], 40, "the clocks agree again")
    farlib.until(lambda: len(events("plan_scheduled")) > scheduled, 20, "the plan goes on")
    farlib.until(lambda: not clock()["clock_is_suspect"], 10, "the status says so, too")
    return []


def a_majority_that_goes_back_takes_no_time_back():
    before = cluster_time()
    set_clocks(protected=0, recovery=0, witness=0)
    farlib.until(lambda: verdicts()[-1:] == ["ahead"], 40, "the log says that time is ahead")
    scheduled = len(events("plan_scheduled"))
    farlib.until(lambda: len(events("plan_scheduled")) > scheduled, 20, "the calendar goes on")
    wrong = [] if cluster_time() >= before else ["time went back"]
    if len(events("node_lost")):
        wrong.append("a node was lost")
    cluster.post("/v1/plans/each-second/stop")
    status, text = cluster.cli("cluster", "status", check=False, as_json=False)
    told = cluster.get("/v1/cluster")["clock"]
    if status != 0 or "ahead of a majority of the servers' clocks" not in text or told["verdict"] != "ahead" or \
            told["off_ms"] < HOUR / 2 or told["time_ms"] < before:
        wrong.append("status: %r %s" % (told, text))
    for argv in (("token", "create", "brief", "--valid", "60"), ("server", "create", "late", "--site", "recovery", "--valid", "60")):
        status, text = cluster.cli(*argv, check=False, as_json=False)  # by this machine's clock that was an hour ago
        wrong += [] if status == 0 else ["%r: %d %s" % (argv, status, text)]
    made = cluster.post("/v1/tokens", {"name": "later", "purpose": "join_node", "site": "recovery"})
    ends = [t["expires_ms"] for t in cluster.get("/v1/tokens?limit=1000")["items"] if t["id"] == made["id"]]
    return wrong + ([] if ends and ends[0] > before + HOUR / 2 else ["a token for a node ends at %r" % ends])


if __name__ == "__main__":
    with farlib.Cluster() as cluster:
        cluster.image = farlib.make_image(os.path.join(cluster.base, "image"), farlib.MIB, 1)
        tap.run_all([started_with_their_own_clocks, one_wrong_clock_moves_nothing,
                     a_majority_moves_time_forward_and_no_lease_is_lost,
                     clocks_that_agree_on_nothing_let_the_calendar_wait_and_leases_run,
                     a_majority_that_goes_back_takes_no_time_back])
