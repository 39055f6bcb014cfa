#!/usr/bin/env python3
"""The feature level: it waits for the oldest server, then rises by itself; until then what is new is refused.

far-timeout: 120
"""
import os

import farlib
import tap

cluster = None


def level(server=None):
    return cluster.call("GET", "/v1/cluster", server=server)["cluster"]["feature_level"]


def what_is_new_is_refused_while_one_server_is_older():
    leader = cluster.wait_leader()
    status, _, body = cluster.request(leader, "POST", "/v1/consumers", {"name": "audit"})
    told = lambda: all(m["feature_level"] for m in cluster.status(leader)["members"])
    farlib.until(told, 20, "each has said what it supports")
    heads = cluster.get("/v1/log/heads")["items"]
    supported = sorted(m["feature_level"] for m in cluster.status(leader)["members"])
    wrong = []
    if heads:
        wrong.append("heads are signed, which an older server does not know: %r" % heads)
    if status != 409 or "feature level" not in body.get("detail", ""):
        wrong.append("%d %r" % (status, body))
    if supported[0] != 1 or supported[-1] < 2 or level() != 1:
        wrong.append("supported %r, level %d" % (supported, level()))
    return wrong


def the_level_rises_by_itself_when_the_last_one_is_upgraded():
    old = cluster.servers["protected"]
    old.stop()
    path = os.path.join(old.dir, "config")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert "feature_level_max" in text
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(line for line in text.splitlines() if not line.startswith("feature_level_max")) + "\n")
    old.start()
    farlib.until(lambda: all(level(s) >= 2 for s in cluster.servers.values()), 30, "the level is raised everywhere")
    cluster.post("/v1/consumers", {"name": "audit"})
    signed = lambda: [len(h["voters"]) for h in cluster.get("/v1/log/heads")["items"] if h["state"] == "signed"]
    farlib.until(lambda: 3 in signed(), 30, "all have made their keys known and a head is signed")
    raised = cluster.cli("events", "--from", "start", "--kind", "feature_level_raised", as_json=False).splitlines()
    cluster.wait_same_heads()
    return [] if len(raised) == 1 else ["raised: %r" % raised]


if __name__ == "__main__":
    with farlib.Cluster(nodes=False, feature_level=1) as cluster:
        tap.run_all([what_is_new_is_refused_while_one_server_is_older,
                     the_level_rises_by_itself_when_the_last_one_is_upgraded])
