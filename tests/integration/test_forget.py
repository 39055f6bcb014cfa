#!/usr/bin/env python3
"""The only server that held the oldest events is lost while another one still fetched them. The history says so, and goes on
without them only when an operator gives up exactly those.

far-timeout: 120
"""
import json
import os
import signal
import subprocess

import farlib
import tap

EVENTS = 120000
cluster = old = new = None
first = 0


def head(server):
    return cluster.request(server, "GET", "/v1/log/head")[2]


def fill():
    old.stop()
    subprocess.run([os.path.join(farlib.BUILD, "tests/bench/make_store"), os.path.join(old.dir, "state"), str(EVENTS), "1000"],
                   check=True, capture_output=True)
    old.start()
    cluster.wait_leader()


def the_only_holder_is_lost_while_another_one_fetches():
    global first
    os.kill(old.pid, signal.SIGSTOP)  # in the middle of it
    first = head(new)["first_seq"]
    if first == 1:
        return ["it had everything already: too few events for this test"]
    new.stop()
    old.kill()
    status, text = cluster.run_tool("farshored", "recover-quorum", "--dir", new.dir, "--token", "@" + cluster.token_file, "--confirm",
                                    "test", check=False)
    del cluster.servers["protected"]
    if status != 0:
        return [text]
    new.start()
    cluster.wait_leader(30)
    first = farlib.until(lambda: head(new)["first_seq"], 20, "it says where its history begins")
    return [] if first > 1 else ["%r" % head(new)]


def forget(*argv):
    return cluster.cli("log", "forget", *argv, check=False, as_json=False)


def forgotten():
    """The events that say so, and where the history begins; others come from heads that are signed."""
    lines = cluster.request(new, "GET", "/v1/events?from=%d&follow=false&format=ndjson" % first)[2]
    events = [frame for frame in map(json.loads, lines.splitlines()) if frame.get("kind") == "history_forgotten"]
    return events, cluster.get("/v1/log/retention")["first_seq"]


def only_what_no_server_holds_can_be_given_up():
    wrong = []
    for seq, reason in ((first + 1, "a server holds the events from %d on" % first), (first - 1, "the oldest event that a server holds is"),
                        (1, "gone already"), (999999999, "cannot be given up"), (0, "")):
        status, text = forget("--before", str(seq))
        if status == 0 or reason not in text:
            wrong.append("before %d: %d %s" % (seq, status, text))
    status, text = forget("--before", str(first + 1), "--force")
    wrong += [] if status != 0 and "a server holds" in text else ["forced: %d %s" % (status, text)]
    return wrong + ([] if forgotten() == ([], 1) else ["something changed: %r" % (forgotten(),)])


def a_dry_run_says_so_and_then_it_is_so():
    predicted = cluster.cli("log", "forget", "--before", str(first), "--dry-run")
    if forgotten() != ([], 1):
        return ["the dry run changed something"]
    status, text = forget("--before", str(first))
    events, begins = forgotten()
    if status != 0 or len(events) != 1 or begins != first:
        return ["%d %s: %r, begins at %d" % (status, text, events, begins)]
    told = events[0]["data"] == predicted["events"][0]["data"] == {"seq": first, "first_seq": 1, "forced": False}
    return [] if told and events[0]["actor"].startswith("token:") else ["%r %r" % (predicted, events)]


def the_history_begins_there_for_everybody():
    lines = cluster.request(new, "GET", "/v1/events?from=start&follow=false&format=ndjson", timeout=60)[2].splitlines()
    seqs = [frame["seq"] for frame in map(json.loads, lines) if "seq" in frame]
    wrong = [] if seqs[0] == first else ["a stream from the start begins at %d, not at %d" % (seqs[0], first)]
    status, _, body = cluster.request(new, "GET", "/v1/events?from=%d&follow=false" % (first - 1))
    wrong += [] if status == 404 else ["%d %r" % (status, str(body)[:300])]
    status, text = forget("--before", str(first))
    wrong += [] if status != 0 and "gone already" in text else ["again: %d %s" % (status, text)]
    joined = cluster.add_server("second")
    farlib.until(lambda: head(joined)["first_seq"] == first, 60, "a new server has everything that is kept")
    cluster.wait_same_heads()
    return wrong


if __name__ == "__main__":
    with farlib.Cluster(servers=("protected",), nodes=False) as cluster:
        old = cluster.servers["protected"]
        fill()
        new = cluster.add_server("recovery")
        tap.run_all([the_only_holder_is_lost_while_another_one_fetches, only_what_no_server_holds_can_be_given_up,
                     a_dry_run_says_so_and_then_it_is_so, the_history_begins_there_for_everybody])
