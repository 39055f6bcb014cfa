#!/usr/bin/env python3
"""Compaction on a running cluster: a month later, what nodes reported on their way has no payload any more, on all servers alike,
and streams, exports, explanations, replay and verification say so instead of failing.

far-timeout: 240
"""
import json
import os
import re
import time

import farlib
import tap
import test_clocks

READ_DELAY_US = 200000  # each read of a source disk is so late: reports come while it runs
MONTH_MS = 33 * 24 * 3600 * 1000
cluster = None
job = None


def events(server=None):
    """All events, as a stream of that server gives them."""
    lines = cluster.request(server or cluster.wait_leader(), "GET", "/v1/events?from=start&follow=false&format=ndjson")[2]
    frames = [json.loads(line) for line in lines.splitlines()]
    return [frame for frame in frames if "seq" in frame]


def compacted(server=None):
    return [event["seq"] for event in events(server) if event.get("compacted")]


def is_progress(event):
    """A report that says more than the hash of it would."""
    samples = event["data"]["samples"] if event["kind"] == "node_reported" and event["data"] else []
    return len(samples) > 1 and any(sample["bytes_total"] > 0 for sample in samples)


def restarted_with_clocks_and_short_epochs():
    for name, server in cluster.servers.items():
        server.stop()
        server.environment = test_clocks.environment(name)
        with open(os.path.join(server.dir, "config"), encoding="utf-8") as file:
            lines = [line for line in file if not line.startswith(("events_max", "segment_events", "epoch_events"))]
        with open(os.path.join(server.dir, "config"), "w", encoding="utf-8") as file:
            file.writelines(lines + ["epoch_events = 16\n", "events_max = 20\n", "segment_events = 20\n"])
    test_clocks.set_clocks(protected=0, recovery=0, witness=0)
    for server in cluster.servers.values():
        server.start()
    cluster.wait_leader()
    cluster.wait_nodes()
    return []


def reports_are_in_the_log():
    global job
    cluster.protect("vm", cluster.images)
    for cycle in range(5):  # until there is enough: how often nodes report on the way is theirs
        for image in cluster.images:
            farlib.change_image(image, 20, cycle)
        job = cluster.replicate()
        reports = [event for event in events() if is_progress(event)]
        if len(reports) >= 3:
            break
    return [] if len(reports) >= 3 and not compacted() else ["%d reports with progress" % len(reports)]


def a_month_later_they_are_compacted_on_all_servers_alike():
    cluster.post("/v1/log/retention", {"days": 365, "bytes": 0})
    test_clocks.set_clocks(protected=MONTH_MS, recovery=MONTH_MS, witness=MONTH_MS)
    farlib.until(lambda: any(e["kind"] == "clock_judged" for e in events()), 30, "the log says that time went forward")
    test_clocks.set_clocks(protected=MONTH_MS, recovery=MONTH_MS, witness=MONTH_MS)
    leader = cluster.wait_leader()
    cluster.post("/v1/cluster/transfer", {"to": cluster.followers()[0].name})  # a new leader looks at once
    farlib.until(lambda: cluster.wait_leader() is not leader, 20, "another server leads")
    decided = farlib.until(lambda: [e["data"]["seq"] for e in events() if e["kind"] == "progress_compacted"], 90,
                           "the log decides up to where")[-1]  # once a minute, if that server led shortly before
    def alike():
        shown = [events(server) for server in cluster.servers.values()]
        seqs = [[event["seq"] for event in each if event.get("compacted")] for each in shown]
        done = not any(is_progress(event) and event["seq"] <= decided for each in shown for event in each)
        return seqs[0] if done and seqs[0] and all(s == seqs[0] for s in seqs) else None
    gone = farlib.until(alike, 40, "all servers have compacted the same events, and all that are to be")
    wrong = [] if max(gone) <= decided else ["%r was decided, %r are gone" % (decided, gone)]
    shown = [event for event in events() if event["seq"] in gone]
    if any(event["data"] is not None or event["kind"] != "node_reported" for event in shown):
        wrong.append("%r" % shown)
    return wrong


def a_stream_proves_itself_and_names_them():
    text = cluster.cli("events", "--from", "start", "--proof", "full", as_json=False)
    return [] if "(compacted)" in text and "job_finished" in text else [text[-2000:]]


def the_past_and_explanations_say_what_they_can():
    seq = compacted()[0]
    wrong = []
    try:
        cluster.get("/v1/jobs?at=%d" % seq)
        wrong.append("a state behind a compacted event was shown")
    except farlib.Problem as problem:
        if problem.code != "not_found" or "compacted" not in problem.detail:
            wrong.append("%s" % problem)
    decided = [e["data"]["seq"] for e in events() if e["kind"] == "progress_compacted"][-1]
    if job["id"] not in [each["id"] for each in cluster.get("/v1/jobs?at=%d" % decided)["items"]]:
        wrong.append("the state of event %d" % decided)
    explained = cluster.cli("log", "explain", "plan:plan")
    kinds = [change["event"]["kind"] for change in explained["changes"]]
    if kinds[-1] != "plan_created" or not explained["because"]["origin"]["cause"]["name"]:
        wrong.append("%r" % explained)
    text = cluster.cli("log", "explain", "job:%d" % job["id"], as_json=False)
    return wrong + ([] if "progress before it was compacted" in text else [text])


def an_export_is_proven_offline():
    path = os.path.join(cluster.base, "compacted.export")
    cluster.cli("log", "export", "--out", path, as_json=False)
    key = cluster.get("/v1/servers/protected")["keys"][0]["public_key"]
    farlib.until(lambda: cluster.get("/v1/log/heads")["signed_seq"], 30, "a head is signed")
    status, text = cluster.run_tool("farshore-verify", "--key", key, path, check=False)
    return [] if status == 0 and "%d events of progress are compacted" % len(compacted()) in text else [text]


def an_export_that_ends_before_the_decision_carries_it():
    gone, decided = compacted(), [e for e in events() if e["kind"] == "progress_compacted"]
    key = cluster.get("/v1/servers/protected")["keys"][0]["public_key"]
    path = os.path.join(cluster.base, "early.export")
    cluster.cli("log", "export", "--out", path, "--to", str(gone[0]), as_json=False)
    status, text = cluster.run_tool("farshore-verify", "--key", key, path, check=False)
    by = [e["seq"] for e in decided if e["data"]["seq"] >= gone[0]][0]
    said = "1 events of progress are compacted" in text and "event %d decided that" % by in text and "NOT DECIDED" not in text
    return [] if status == 0 and said and "events 1 to %d" % by in text else ["%d %s" % (status, text)]


def an_export_up_to_a_time_among_them_is_that_up_to_the_event():
    """Also where the state of that moment cannot be shown any more, from a server that runs and from a folder."""
    gone = compacted()[0]
    time_ms = [e["time_ms"] for e in events() if e["seq"] == gone][0]
    last = [e["seq"] for e in events() if e["time_ms"] <= time_ms][-1]
    moment = "%s.%03dZ" % (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ms // 1000)), time_ms % 1000)
    paths = [os.path.join(cluster.base, name + ".export") for name in ("seq", "time", "folder-seq", "folder-time")]
    told = [cluster.cli("log", "export", "--out", path, "--to", to, as_json=False)
            for path, to in zip(paths, (str(last), moment))]
    server = cluster.followers()[0]
    server.stop()
    told += [cluster.cli("log", "export", "--dir", server.dir, "--out", path, "--to", to, as_json=False)
             for path, to in zip(paths[2:], (str(last), moment))]
    server.start()
    key = cluster.get("/v1/servers/protected")["keys"][0]["public_key"]
    runs = [cluster.run_tool("farshore-verify", "--key", key, path, check=False) for path in paths]
    wrong = ["%d %s" % run for run in runs if run[0] != 0]
    ends = [re.findall(r"events 1 to (\d+)", text) for _, text in runs]
    wrong += [] if ends[0] == ends[1] and ends[2] == ends[3] else ["they end at %r" % ends]
    wrong += [] if all("up to event %d" % last in text for text in told) else ["%r" % told]
    status, text = cluster.cli("log", "export", "--out", paths[0] + "2", "--to", "2001-01-01T00:00:00Z", check=False, as_json=False)
    return wrong + ([] if status != 0 and not os.path.exists(paths[0] + "2") else ["%d %s" % (status, text)])


def a_killed_server_goes_on_and_every_store_is_right():
    server = cluster.followers()[0]
    server.kill()
    server.start()
    count = len(compacted())
    cluster.verify_all_offline()
    wrong = []
    for server in cluster.servers.values():
        status, text = cluster.log_verify(server)
        told = re.search(r"compacted: (\d+) of them", text)
        if status != 0 or not told or int(told.group(1)) < count or "state: equal to the fold" not in text:
            wrong.append("%s: %s" % (server.name, text))
    out = os.path.join(cluster.base, "replayed")
    text = cluster.cli("log", "replay", "--dir", server.dir, "--out", out, as_json=False)
    return wrong + ([] if "digest" in text else [text])


if __name__ == "__main__":
    with farlib.Cluster(adapter="fault:file?rd=%d" % READ_DELAY_US) as cluster:
        test_clocks.cluster = cluster
        cluster.images = [farlib.make_image(os.path.join(cluster.base, "image%d" % i), 16 * farlib.MIB, i) for i in range(3)]
        tap.run_all([restarted_with_clocks_and_short_epochs, reports_are_in_the_log,
                     a_month_later_they_are_compacted_on_all_servers_alike, a_stream_proves_itself_and_names_them,
                     the_past_and_explanations_say_what_they_can, an_export_is_proven_offline,
                     an_export_that_ends_before_the_decision_carries_it,
                     an_export_up_to_a_time_among_them_is_that_up_to_the_event,
                     a_killed_server_goes_on_and_every_store_is_right])
