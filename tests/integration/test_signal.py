#!/usr/bin/env python3
"""A disk whose files are encrypted where they are: the score of the point, the alert that names the last one before it rose, scores
computed anew by the log and from the vault alone, and how it ends.

far-timeout: 240
"""
import json
import os
import random

import farlib
import tap

PAGE, FILE_PAGES, FILES = 4096, 6, 400
cluster = rng = None
points = {}


def image():
    return os.path.join(cluster.base, "disk.img")


def text(pages):
    """As many pages of words, the last one not full."""
    words = b" ".join(rng.choice([b"invoice", b"of", b"march", b"to", b"the", b"customer", b"total", b"4711"]) for _ in range(pages * 900))
    return words[:pages * PAGE - 700].ljust(pages * PAGE, b"\0")


def write(number, data):
    with open(image(), "r+b") as disk:
        disk.seek(number * FILE_PAGES * PAGE)
        disk.write(data)


def read(number):
    with open(image(), "rb") as disk:
        disk.seek(number * FILE_PAGES * PAGE)
        return disk.read(FILE_PAGES * PAGE)


def cycle(name):
    cluster.replicate()
    newest = max(cluster.get("/v1/points")["items"], key=lambda p: p["id"])
    points[name] = cluster.get("/v1/points/%d" % newest["id"])
    return points[name]


def open_alerts():
    return [a for a in cluster.get("/v1/alerts")["items"] if a["kind"] == "signal_rose" and a["state"] != "cleared"]


def vault():
    return os.path.join(cluster.nodes["target"].dir, "vault")


def workload():
    return cluster.get("/v1/workloads/vm")


def the_first_point_has_no_score():
    with open(image(), "wb") as disk:
        for _ in range(FILES):
            disk.write(text(FILE_PAGES))
        disk.truncate(16 * farlib.MIB)
    cluster.protect("vm", [image()])
    point = cycle("first")
    assert point["score"] == 0 and point["detector"] == 0 and not point["rose"], point


def edited_documents_are_calm():
    for number in range(0, FILES, 7):
        write(number, text(FILE_PAGES))
    point = cycle("edited")
    assert point["detector"] > 0 and point["score"] < 100 and not point["rose"], point
    assert not open_alerts() and workload()["rose_point_id"] == 0


def an_encrypted_disk_rises_and_the_last_good_point_is_named():
    for number in range(0, 120):
        data = read(number)
        end = len(data.rstrip(b"\0"))
        write(number, rng.randbytes(end) + data[end:])
    point = cycle("encrypted")
    assert point["rose"] and point["score"] >= 500, point
    disk = point["disks"][0]
    assert disk["score"] == point["score"] and disk["low_to_high_blocks"] > 20 and disk["evidence"] > 0, disk
    alerts = open_alerts()
    assert len(alerts) == 1 and "is %d: keep it" % points["edited"]["id"] in alerts[0]["message"], alerts
    assert workload()["rose_point_id"] == point["id"] and workload()["calm_point_id"] == points["edited"]["id"]
    checkpoint = cluster.get("/v1/checkpoints/%d" % point["checkpoint_id"])
    assert checkpoint["score"] == point["score"], checkpoint
    shown = cluster.cli("workload", "show", "vm", as_json=False)
    assert "%d" % points["edited"]["id"] in shown and "calm" in shown, shown


def the_log_says_so_as_an_error():
    lines = cluster.call("GET", "/v1/events?follow=0&format=ndjson&from=1&kind=point_scored")
    events = [json.loads(line) for line in lines.strip().split("\n") if "point_scored" in line] if isinstance(lines, str) else [lines]
    rose = [event for event in events if event.get("severity") == "error"]
    assert len(rose) == 1 and rose[0]["data"]["calm_point_id"] == points["edited"]["id"], events


def it_is_judged_anew_to_the_same_score():
    before = points["encrypted"]
    job = cluster.finish(cluster.post("/v1/checkpoints/%d/rescore" % before["checkpoint_id"])["id"])
    assert job["state"] == "succeeded", job
    after = cluster.get("/v1/points/%d" % before["id"])
    assert (after["score"], after["detector"], after["rose"]) == (before["score"], before["detector"], True), after
    assert len(open_alerts()) == 1


def the_vault_alone_says_the_same():
    lines = cluster.run_tool("farshore-node", "vault", "signal", "--vault", vault())[1].split("\n")
    rows = {line.split()[0]: line.split() for line in lines[1:] if line}
    assert rows[str(points["encrypted"]["id"])][3] == str(points["encrypted"]["score"]), lines
    assert rows[str(points["encrypted"]["id"])][-1] == "ROSE" and rows[str(points["edited"]["id"])][-1] != "ROSE", lines
    assert rows[str(points["encrypted"]["id"])][2] == str(points["edited"]["id"]), lines


def calm_alone_ends_nothing():
    write(300, text(FILE_PAGES))
    assert not cycle("calm")["rose"]
    assert len(open_alerts()) == 1 and workload()["rose_point_id"] == points["encrypted"]["id"]


def seen_and_calm_ends_it():
    cluster.post("/v1/alerts/%d/ack" % open_alerts()[0]["id"], {})
    write(301, text(FILE_PAGES))
    cycle("after")
    assert not open_alerts() and workload()["rose_point_id"] == 0


def a_removed_point_takes_its_signal_along():
    point = points["calm"]
    kept = os.path.join(vault(), "signals", "%d.signal" % point["id"])
    assert os.path.exists(kept)
    cluster.call("DELETE", "/v1/checkpoints/%d" % point["checkpoint_id"])
    farlib.until(lambda: not os.path.exists(kept), 30, "the signal of a removed point to go")


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    rng = random.Random(seed)
    with farlib.Cluster() as cluster:
        tap.run_all([
            the_first_point_has_no_score, edited_documents_are_calm, an_encrypted_disk_rises_and_the_last_good_point_is_named,
            the_log_says_so_as_an_error, it_is_judged_anew_to_the_same_score, the_vault_alone_says_the_same, calm_alone_ends_nothing,
            seen_and_calm_ends_it, a_removed_point_takes_its_signal_along,
        ])
