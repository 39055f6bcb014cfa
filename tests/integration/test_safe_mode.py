#!/usr/bin/env python3
"""An entry crashes every server that applies it: safe mode after three times, and the operator has it skipped, everywhere alike.

The crash is made by a shim (tests/lib/crash_shim.c) that aborts the program when a certain name comes into its state.

far-timeout: 240
"""
import contextlib
import json
import os
import subprocess
import threading

import farlib
import tap

SHIM = os.path.join(farlib.BUILD, "tests/lib/.libs/libcrash.so")
POISON = "poisoned-site"
cluster = None
held = {}
predicted = {}
REASON = "it crashes every server: ticket 4711"


def environment():
    preload = [SHIM]
    if os.environ.get("ASAN_OPTIONS"):
        preload.insert(0, subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip())
    return {"LD_PRELOAD": ":".join(preload), "FAR_CRASH_ON": POISON}


def safe_mode(server):
    status, _, value = cluster.request(server, "GET", "/v1/cluster", timeout=5)
    return value["server"]["safe_mode"] if status == 200 else None


def supervise(deaths):
    """Starts what crashed, as a supervisor does; True when every server is in safe mode and has seen the entry."""
    for server in cluster.servers.values():
        if server.process.poll() is not None:
            if server.process.returncode != -6:
                raise farlib.Ended("server %s ended with %d" % (server.name, server.process.returncode))
            deaths[server.name] = deaths.get(server.name, 0) + 1
            server.start()
    for server in cluster.servers.values():
        held[server.name] = safe_mode(server) or {}
    return all(h.get("entry_hash") for h in held.values())


def every_server_crashes_at_the_entry_and_then_starts_in_safe_mode():
    servers = list(cluster.servers.values())
    for server in servers:
        server.stop()
        server.environment = environment()
    for server in servers:
        server.start()
    leader = cluster.wait_leader()
    cluster.wait_same_heads()

    def poison():
        with contextlib.suppress(Exception):  # nobody answers it
            cluster.request(leader, "POST", "/v1/sites", {"name": POISON, "role": "recovery"}, timeout=5)
    threading.Thread(target=poison, daemon=True).start()
    deaths = {}
    farlib.until(lambda: supervise(deaths), 60, "every server is in safe mode and has seen the entry")
    if set(deaths.values()) != {3}:
        return ["deaths: %r" % deaths]
    return [] if len({tuple(sorted(h.items())) for h in held.values()}) == 1 and "site_create" in str(held) else ["%r" % held]


def in_safe_mode_it_shows_what_it_has_and_takes_nothing():
    server = cluster.servers["recovery"]
    wrong = []
    for path in ("/v1/sites", "/v1/log/head", "/v1/events?follow=false"):
        status, _, value = cluster.request(server, "GET", path)
        if status != 200:
            wrong.append("%s: %d %r" % (path, status, value))
    status, _, value = cluster.request(server, "POST", "/v1/sites", {"name": "other", "role": "recovery"})
    if status != 503 or "safe mode" not in value["detail"]:
        wrong.append("a write: %d %r" % (status, value))
    if cluster.request(server, "GET", "/readyz")[0] != 503:
        wrong.append("it says that it is ready")
    text = cluster.cli("cluster", "status", as_json=False)
    if "SAFE MODE" not in text or held["recovery"]["entry_hash"] not in text:
        wrong.append(text)
    return wrong


def another_entry_or_a_missing_server_is_refused():
    index, entry = held["recovery"]["index"], held["recovery"]["entry_hash"]
    wrong = []
    for body in ({"index": index + 1, "entry_hash": entry}, {"index": index, "entry_hash": "0" * 16},
                 {"index": 0, "entry_hash": entry}, {"index": index}, {"index": index, "entry_hash": entry, "x": 1}):
        status, _, value = cluster.request(cluster.servers["recovery"], "POST", "/v1/cluster/skip-entry", body)
        if status not in (400, 409):
            wrong.append("%r: %d %r" % (body, status, value))
    cluster.servers["witness"].kill()

    def refused():
        status, _, value = cluster.request(cluster.servers["recovery"], "POST", "/v1/cluster/skip-entry",
                                           {"index": index, "entry_hash": entry})
        return status == 503 and "does not say" in value["detail"]
    try:
        # what it said counts for some seconds: then it is missed
        def is_missed():
            ages = [m["said_age_ms"] for m in cluster.status(cluster.servers["recovery"])["members"] if m["name"] == "witness"]
            return len(ages) == 1 and (ages[0] is None or ages[0] > 10500)
        farlib.until(is_missed, 30, "the witness has said nothing for a while")
        if not refused():
            wrong.append("skipped without the witness")
    finally:
        cluster.servers["witness"].start()
    farlib.until(lambda: (safe_mode(cluster.servers["witness"]) or {}).get("entry_hash"), 40, "the witness is back, in safe mode")
    return wrong


def on_disk(server):
    """What a server has written, but for what it renews all the time."""
    return {name: bytes_of(os.path.join(server.dir, name)) for name in ("safe", "skip-orders")}


def bytes_of(path):
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return file.read()


def a_dry_run_says_what_would_be_and_changes_nothing():
    index, entry = held["recovery"]["index"], held["recovery"]["entry_hash"]
    servers = list(cluster.servers.values())
    before, heads = [on_disk(s) for s in servers], [cluster.request(s, "GET", "/v1/log/head")[2]["seq"] for s in servers]
    farlib.until(lambda: predict(index, entry), 30, "the dry run")
    wrong = []
    events = predicted["events"]
    if [e["kind"] for e in events] != ["entry_skipped", "entry_skip_ordered"] or events[0]["seq"] != heads[0] + 1 \
            or events[0]["data"] != {"index": index, "entry_hash": entry, "commands": 1} or len(predicted["steps"]) != 4:
        wrong.append("predicted: %r" % predicted)
    text = cluster.cli("cluster", "skip-entry", str(index), "--hash", entry, "--reason", REASON, "--dry-run", as_json=False)
    if "nothing was done" not in text or "entry_skip_ordered" not in text or "starts anew" not in text:
        wrong.append(text)
    status, refused = cluster.cli("cluster", "skip-entry", str(index + 1), "--hash", entry, "--dry-run", check=False)
    if status == 0 or "holds before entry" not in refused:
        wrong.append(refused)
    if [on_disk(s) for s in servers] != before or [cluster.request(s, "GET", "/v1/log/head")[2]["seq"] for s in servers] != heads \
            or any(s.process.poll() is not None for s in servers) or any(safe_mode(s) is None for s in servers):
        wrong.append("something changed")
    return wrong


def predict(index, entry):
    predicted.clear()
    predicted.update(cluster.cli("cluster", "skip-entry", str(index), "--hash", entry, "--reason", REASON, "--dry-run"))
    return True


def the_entry_is_skipped_everywhere_and_the_cluster_goes_on():
    index, entry = held["recovery"]["index"], held["recovery"]["entry_hash"]
    farlib.until(lambda: cluster.cli("cluster", "skip-entry", str(index), "--hash", entry, "--reason", REASON), 30,
                 "the entry is to be skipped")
    for server in cluster.servers.values():
        farlib.until(lambda s=server: safe_mode(s) is None and cluster.status(s)["server"]["applied_index"] >= index, 40,
                     "server %s goes on" % server.name)
    cluster.wait_leader(30)
    cluster.post("/v1/sites", {"name": "afterwards", "role": "recovery"})
    cluster.wait_same_heads()
    sites = [s["name"] for s in cluster.get("/v1/sites")["items"]]
    events = cluster.cli("events", "--from", "start", "--kind", "entry_skipped", as_json=False).splitlines()
    wrong = [] if POISON not in sites and "afterwards" in sites else ["sites: %r" % sites]
    return wrong + ([] if len(events) == 1 and '"index":%d' % index in events[0] else ["events: %r" % events])


def orders():
    """The events that say what was skipped, and who wanted it."""
    lines = cluster.request(cluster.wait_leader(30), "GET", "/v1/events?from=start&follow=false&format=ndjson")[2]
    frames = [json.loads(line) for line in lines.splitlines()]
    return [frame for frame in frames if frame.get("kind", "").startswith("entry_skip")]


def who_wanted_it_and_why_is_in_the_log_once_as_predicted():
    index = held["recovery"]["index"]
    farlib.until(lambda: len(orders()) == 2, 30, "who had it skipped is in the log")
    cluster.wait_same_heads()
    skipped, ordered = orders()
    wrong = []
    for is_so, was_predicted in zip((skipped, ordered), predicted["events"]):
        same = [{k: v for k, v in e["data"].items() if k not in ("ordered_ms", "server_id")} for e in (is_so, was_predicted)]
        if same[0] != same[1] or is_so["kind"] != was_predicted["kind"]:
            wrong.append("predicted %r, became %r" % (was_predicted, is_so))
    if {k: skipped[k] for k in ("seq", "index", "time_ms", "actor")} != {k: predicted["events"][0][k] for k in
                                                                        ("seq", "index", "time_ms", "actor")}:
        wrong.append("predicted %r, became %r" % (predicted["events"][0], skipped))
    told = cluster.cli("server", "list")
    if ordered["data"]["reason"] != REASON or not ordered["data"]["token_name"] \
            or ordered["data"]["server_id"] not in [s["id"] for s in told]:
        wrong.append("ordered: %r" % ordered)
    why = cluster.cli("log", "explain", "skipped_entry:%d" % index)
    if why["row"]["reason"] != REASON or why["changes"][0]["event"]["seq"] != ordered["seq"]:
        wrong.append("explained: %r" % why)
    farlib.until(lambda: not any(pending(s) for s in cluster.servers.values()), 30, "no server has an order left")
    return wrong


def pending(server):
    data = bytes_of(os.path.join(server.dir, "skip-orders"))
    return data is not None and data[8] != 0


def a_restart_skips_it_again_and_the_stores_are_equal():
    for server in cluster.servers.values():
        server.stop()
    unreadable = os.path.join(cluster.servers["witness"].dir, "skip-orders")  # it says only who wanted something
    if os.path.exists(unreadable):
        os.unlink(unreadable)
    os.mkdir(unreadable)
    for server in cluster.servers.values():
        server.start()
    cluster.wait_leader(30)
    wrong = [] if len(orders()) == 2 else ["told again: %r" % orders()]
    with open(cluster.servers["witness"].log, encoding="utf-8", errors="replace") as file:
        wrong += [] if "will not be in the log" in file.read() else ["the witness does not say that it could not read them"]
    cluster.verify_all_offline()
    return wrong


if __name__ == "__main__":
    with farlib.Cluster(nodes=False) as cluster:
        tap.run_all([every_server_crashes_at_the_entry_and_then_starts_in_safe_mode,
                     in_safe_mode_it_shows_what_it_has_and_takes_nothing, another_entry_or_a_missing_server_is_refused,
                     a_dry_run_says_what_would_be_and_changes_nothing, the_entry_is_skipped_everywhere_and_the_cluster_goes_on,
                     who_wanted_it_and_why_is_in_the_log_once_as_predicted, a_restart_skips_it_again_and_the_stores_are_equal])
