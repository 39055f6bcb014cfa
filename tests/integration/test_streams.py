#!/usr/bin/env python3
"""Consumers of events while their server dies: five of them follow with filters and proofs, the leader is killed twice under
writes, and each one has in the end exactly what the history says, in order, nothing twice. One is the example of the
client library, with a named consumer; killed itself, it goes on where it acknowledged.

far-timeout: 170
"""
import json
import os
import subprocess

import farlib
import tap

WRITES = 40  # in each of three rounds
cluster = None
followers = {}
FILTERS = {
    "all": (["--from", "start"], {}),
    "kinds": (["--from", "start", "--kind", "site_created", "--kind", "plan_created", "--proof", "full"],
              {"kind": "site_created,plan_created"}),
    "severity": (["--from", "start", "--severity", "notice", "--proof", "headers"], {"severity": "notice"}),
    "site": (["--from", "start", "--site", "protected", "--proof", "full"], {"site": "protected"}),
}


def access():
    everywhere = ",".join("https://" + s.api for s in cluster.servers.values())
    return everywhere, cluster.ca_file, cluster.token_file


def example():
    path = os.path.join(farlib.BUILD, "examples", "consumer")
    assert os.access(path, os.X_OK), path
    return path


def follower(name, argv):
    log = os.path.join(cluster.base, "logs", "events-%s" % name)
    followers[name] = farlib.Process("events-" + name, argv, log).start()


def check(name):
    """A follower that gave up says why."""
    if not followers[name].alive():
        with open(followers[name].log, encoding="utf-8") as log:
            raise farlib.Failure("%s: %s" % (name, [line for line in log if not line.startswith("{")]))


def lines_of(name):
    with open(followers[name].log, encoding="utf-8") as log:
        text = log.read()
    return [json.loads(line) for line in text[:text.rfind("\n") + 1].split("\n") if line.startswith("{")]


def five_consumers_follow():
    servers, ca, token = access()
    cluster.post("/v1/consumers", {"name": "audit", "from": "start"})
    for name, (options, _) in FILTERS.items():
        follower(name, [farlib.program("farshore"), "--server", servers, "--ca", ca, "--token-file", token, "events", "--follow",
                        "-o", "json", *options])
    follower("example", [example(), servers, ca, token, "audit"])
    for name in followers:
        farlib.until(lambda n=name: check(n) or lines_of(n), 20, "%s has seen something" % name)


def write(number, count=WRITES):
    for i in range(count):
        cluster.post("/v1/sites", {"name": "s%d-%d" % (number, i), "role": "witness"})


def the_leader_is_killed_twice_under_writes():
    cluster.protect("vm", [os.path.join(cluster.base, "none.img")])
    write(0)
    for number in (1, 2):
        leader = cluster.wait_leader()
        leader.kill()
        write(number)
        leader.start()
        cluster.wait_leader()


def the_example_is_killed_too_and_goes_on():
    followers["example"].kill()
    write(3, 5)
    followers["example"].start()


def history(query):
    """By one bounded query after the other, a page at a time."""
    events, place = [], "start"
    while True:
        text = cluster.get("/v1/events?follow=false&format=ndjson&limit=100&from=%s%s" % (
            place, "".join("&%s=%s" % pair for pair in query.items())))
        lines = [json.loads(line) for line in text.strip().split("\n")]
        events += [line for line in lines if "seq" in line]
        assert "end" in lines[-1], lines[-1]
        place = lines[-1]["end"]["cursor"]
        if not lines[-1]["end"]["more"]:
            return events


def each_has_the_whole_history_in_order_and_nothing_twice():
    wrong = []
    cluster.wait_whole_history()
    cluster.post("/v1/sites", {"name": "the-last", "role": "protected"})
    last = cluster.get("/v1/events?follow=false&format=ndjson&kind=site_created").strip().split("\n")[-2]
    last = json.loads(last)["seq"]
    queries = {name: query for name, (_, query) in FILTERS.items()}
    queries["example"] = {}
    for name, query in queries.items():
        expected = [event["seq"] for event in history(query) if event["seq"] <= last]
        assert len(expected) > 3, (name, expected)
        farlib.until(lambda n=name, e=expected: check(n) or any(x["seq"] >= e[-1] for x in lines_of(n)), 40,
                     "%s has seen event %d" % (name, expected[-1]))
        got = [event["seq"] for event in lines_of(name) if event["seq"] <= last]
        if name == "example":  # what it printed, but had not acknowledged when it was killed, came again
            again = len(got) - len(set(got))
            print("# example: %d events came again after its kill" % again)
            got = sorted(set(got))
        print("# %s: %d events up to %d" % (name, len(got), last), flush=True)
        if got != expected:
            wrong.append("%s: missing %r, too much %r" % (name, sorted(set(expected) - set(got)), sorted(set(got) - set(expected))))
    return wrong


def the_example_says_what_it_proved():
    servers, ca, token = access()
    farlib.until(lambda: cluster.get("/v1/consumers/audit")["lag"] < 20, 20, "the example acknowledged")
    assert followers["example"].stop() == 0
    done = subprocess.run([example(), servers, ca, token, "audit", "once"], capture_output=True, text=True, timeout=60, check=True)
    assert "missed nothing up to event" in done.stderr, done.stderr
    proven = done.stderr.rsplit(" ", 1)[1].strip()
    assert len(proven) == 64, done.stderr
    cluster.wait_same_heads()
    text = cluster.run_tool("farshore", "--server", servers, "--ca", ca, "--token-file", token, "events", "--proof", "headers",
                            "--kind", "plan_created")[1]
    assert "proven from the first to event" in text, text
    for process in followers.values():
        process.kill()


if __name__ == "__main__":
    with farlib.Cluster(nodes=False) as cluster:
        tap.run_all([five_consumers_follow, the_leader_is_killed_twice_under_writes, the_example_is_killed_too_and_goes_on,
                     each_has_the_whole_history_in_order_and_nothing_twice, the_example_says_what_it_proved])
