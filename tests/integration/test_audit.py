#!/usr/bin/env python3
"""Audit on a running cluster: dry runs, the past, differences, explanations, exports that prove themselves, replay.

far-timeout: 240
"""
import json
import os
import subprocess

import farlib
import tap

cluster = None


def head(server=None):
    return cluster.get("/v1/log/head", server=server)


def what_a_dry_run_predicts_is_what_then_happens():
    before = head()
    predicted = cluster.cli("site", "create", "oslo", "--role", "witness", "--dry-run")
    between = head()
    wrong = []
    if [e["kind"] for e in predicted["events"]] != ["site_created", "command_remembered"]:
        wrong.append("predicted %r" % (predicted["events"],))
    if between["seq"] == before["seq"] and between["digest"] != before["digest"]:
        wrong.append("the dry run changed the state")
    status, _, done = cluster.request(cluster.wait_leader(), "POST", "/v1/sites", {"name": "oslo", "role": "witness"},
                                      {"Idempotency-Key": predicted["command_id"]})
    diff = cluster.get("/v1/log/diff?at=%d&until=%d" % (done["seq_first"] - 1, done["seq_last"]))
    want = [c for c in predicted["changes"] if not c.get("internal")]
    got = [c for c in diff["changes"] if not c.get("internal")]
    for change in want + got:
        change["after"].pop("created_ms")
    if status != 201 or (predicted["seq_first"] == done["seq_first"] and want != got):
        wrong.append("predicted %r, happened %r" % (want, got))
    refused = cluster.cli("site", "create", "oslo", "--role", "witness", "--dry-run", check=False)
    if refused[0] == 0:
        wrong.append("the same again was not refused")
    return wrong


def the_past_answers_on_every_server():
    cluster.post("/v1/sites", {"name": "rome", "role": "witness"})
    with_rome = head()["seq"]
    cluster.call("DELETE", "/v1/sites/rome")
    cluster.wait_same_heads()
    wrong = []
    for server in cluster.servers.values():
        then = cluster.get("/v1/sites/rome?at=%d" % with_rome, server=server)
        place = cluster.get("/v1/log/head?at=%d" % with_rome, server=server)
        if then["name"] != "rome" or place["seq"] != with_rome:
            wrong.append("%s: %r %r" % (server.name, then, place))
        if any(site["name"] == "rome" for site in cluster.get("/v1/sites", server=server)["items"]):
            wrong.append("rome is still there")
    explained = cluster.cli("log", "explain", str(then["id"]))
    if [c["event"]["kind"] for c in explained["changes"]] != ["site_removed", "site_created"]:
        wrong.append("explained by %r" % (explained,))
    if explained["because"]["origin"]["cause"]["name"] == "":
        wrong.append("nobody is behind it: %r" % (explained["because"],))
    return wrong


def who_joined_is_explained_back_to_who_made_its_token():
    explained = cluster.cli("log", "explain", "server:recovery")
    link, kinds = explained["because"], []
    while link:
        kinds.append((link["origin"]["event"]["kind"], link["origin"]["cause"]["name"]))
        link = link["because"]
    text = cluster.cli("log", "explain", "server:recovery", as_json=False)
    wrong = [] if kinds == [("server_joined", "protected"), ("token_created", "admin")] else ["%r" % kinds]
    return wrong + ([] if "because of token:" in text and "hash" not in text else [text])


def proposals():
    """(number of the event, what it says) of each head that was proposed; other events may stand between a head and its own."""
    lines = cluster.request(cluster.wait_leader(), "GET", "/v1/events?from=start&follow=false&format=ndjson")[2].splitlines()
    events = [json.loads(line) for line in lines if line.strip()]
    return [(event["seq"], event["data"]["seq"]) for event in events if event.get("kind") == "head_proposed"]


def the_cluster_of_the_past_is_shown():
    proposed, head_seq = proposals()[0]  # of the first server alone
    then = cluster.cli("cluster", "status", "--at", str(proposed - 1))
    wrong = [] if then["log"]["seq"] == proposed - 1 and then["signed_head"] is None else ["%r" % then]
    later = cluster.cli("log", "heads", "--at", str(proposed))
    return wrong + ([] if cluster.cli("log", "heads", "--at", str(proposed - 1))["items"] == [] and
                    [head["seq"] for head in later["items"]] == [head_seq] else ["%r" % later])


def an_export_is_proven_by_a_head_of_another_server():
    cluster.wait_same_heads()
    path = os.path.join(cluster.base, "log.export")
    cluster.cli("log", "export", "--out", path, as_json=False)
    verify = [farlib.program("farshore-verify"), "--head"]
    export_seq = int.from_bytes(open(path, "rb").read()[48:56], "little")
    stated = cluster.get("/v1/log/head?at=%d" % export_seq, server=cluster.followers()[0])
    good = subprocess.run(verify + [stated["head"], path], capture_output=True, text=True)
    other = subprocess.run(verify + ["00" * 32, path], capture_output=True, text=True)
    return [] if good.returncode == 0 and other.returncode == 1 else [good.stdout, other.stdout]


def an_export_ends_at_the_moment_that_was_asked_for_and_has_its_signed_head():
    farlib.until(lambda: cluster.get("/v1/log/heads")["signed_seq"], 20, "a head is signed")
    signed = cluster.get("/v1/log/heads")["signed_seq"]
    key = cluster.get("/v1/servers/protected")["keys"][0]["public_key"]
    path = os.path.join(cluster.base, "short.export")
    cluster.cli("log", "export", "--out", path, "--to", str(signed), as_json=False)
    status, text = cluster.run_tool("farshore-verify", "--key", key, path, check=False)
    wrong = [] if status == 0 and "ok   events 1 to %d are those" % signed in text and "not covered" not in text else [text]
    status, text = cluster.cli("log", "export", "--out", path + "2", "--to", "99999999", check=False, as_json=False)
    return wrong + ([] if status != 0 and not os.path.exists(path + "2") else ["%d %s" % (status, text)])


def a_stopped_server_is_replayed_to_its_own_digest():
    server = cluster.followers()[0]
    place = head(server)
    server.stop()
    out = os.path.join(cluster.base, "replayed")
    run = cluster.cli("log", "replay", "--dir", server.dir, "--out", out, "--to", str(place["seq"]), as_json=False)
    server.start()
    cluster.wait_same_heads()
    return [] if place["digest"] in run and place["head"] in run else ["%r is not in %r" % (place, run)]


if __name__ == "__main__":
    with farlib.Cluster(nodes=False) as cluster:
        tap.run_all([what_a_dry_run_predicts_is_what_then_happens, the_past_answers_on_every_server,
                     who_joined_is_explained_back_to_who_made_its_token, the_cluster_of_the_past_is_shown,
                     an_export_is_proven_by_a_head_of_another_server,
                     an_export_ends_at_the_moment_that_was_asked_for_and_has_its_signed_head, a_stopped_server_is_replayed_to_its_own_digest])
