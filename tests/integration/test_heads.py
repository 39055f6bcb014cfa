#!/usr/bin/env python3
"""Signed heads on a running cluster: all voters sign, keys have a history, silence when nothing happens.

far-timeout: 240
"""
import os
import subprocess

import farlib
import tap

cluster = None
CORRUPT = 12  # exit status


def heads(server=None):
    return cluster.get("/v1/log/heads", server=server)


def signed_by_all():
    """The newest head, once every server of the cluster has signed it."""
    newest = heads()["items"][0]
    names = sorted(a["server"] for a in newest["answers"] if a["signed"])
    return newest if names == sorted(cluster.servers) and len(newest["voters"]) == len(names) else None


def every_voter_signs_the_head_and_status_shows_it():
    head = farlib.until(signed_by_all, 30, "all three have signed a head")
    wrong = []
    for server in cluster.servers.values():
        farlib.until(lambda s=server: cluster.status(s)["signed_head"]["seq"] >= head["seq"], 20, "its status shows the head")
    if head["state"] != "signed":
        wrong.append("the head %r" % head)
    text = cluster.cli("cluster", "status", as_json=False)
    listed = cluster.cli("log", "heads", as_json=False)
    for voter in head["voters"]:
        if voter["public_key"] not in text or voter["server"] not in listed:
            wrong.append("%s is not in %r, or not in %r" % (voter, text, listed))
    stated = cluster.get("/v1/log/head?at=%d" % head["seq"])["head"]
    if stated != head["head"]:
        wrong.append("head %s is signed, the log has %s" % (head["head"], stated))
    return wrong


def a_server_without_a_key_gets_one_and_the_old_one_has_ended():
    """As one that comes from 0.1.0, whose folder has none."""
    server = cluster.followers()[0]
    old = heads()["items"][0]
    server.stop()
    os.remove(os.path.join(server.dir, "sign.key"))
    server.start()
    farlib.until(lambda: os.path.exists(os.path.join(server.dir, "sign.key")), 20, "the key is made")
    server.kill()  # perhaps before the log knows of it
    server.start()

    def changed():
        keys = cluster.get("/v1/servers/" + server.name)["keys"]
        return keys if len(keys) == 2 else None
    keys = farlib.until(changed, 30, "the new key is in the log")
    head = farlib.until(lambda: signed_by_all() if heads()["items"][0]["seq"] > old["seq"] else None, 30, "it has signed with it")
    named = [v["public_key"] for v in head["voters"] if v["server"] == server.name]
    mode = os.stat(os.path.join(server.dir, "sign.key")).st_mode & 0o777
    wrong = []
    if keys[0]["until_seq"] != keys[1]["from_seq"] or keys[1]["until_seq"] != 0 or named != [keys[1]["public_key"]]:
        wrong.append("keys %r, named %r" % (keys, named))
    return wrong + (["mode %o" % mode] if mode != 0o600 else [])


def two_of_three_make_a_majority_and_the_third_signs_when_it_comes_back():
    away, other = cluster.followers()
    before = heads()["signed_seq"]
    other.stop()
    os.remove(os.path.join(other.dir, "sign.key"))  # its new key is a reason for a new head
    away.stop()
    other.start()

    def by_two():
        newest = heads()["items"][0]
        return newest if newest["seq"] > before and newest["state"] == "signed" else None
    head = farlib.until(by_two, 40, "a head is signed without the third")
    wrong = [] if away.name not in [a["server"] for a in head["answers"]] else ["the one that is away has signed"]
    away.start()
    head = farlib.until(lambda: signed_by_all() if heads()["items"][0]["seq"] >= head["seq"] else None, 30, "all have signed")
    return wrong


def a_stopped_server_and_an_export_prove_their_signatures():
    farlib.until(signed_by_all, 30, "all have signed")
    key = cluster.get("/v1/servers/protected")["keys"][0]["public_key"]
    path = os.path.join(cluster.base, "log.export")
    cluster.cli("log", "export", "--out", path, as_json=False)
    status, text = cluster.run_tool("farshore-verify", "--key", key, path, check=False)
    server = cluster.followers()[0]
    server.stop()
    verified, found = cluster.log_verify(server)
    server.start()
    cluster.wait_same_heads()
    wrong = [] if status == 0 and "back to the key that was given" in text else ["farshore-verify: %d %s" % (status, text)]
    return wrong + ([] if verified == 0 and "a majority has signed everything up to" in found else ["%d %s" % (verified, found)])


def verify_online(servers, *more):
    """(status, JSON rows by server, text) of `log verify` with only these servers named."""
    url = ",".join("https://" + s.api for s in servers)
    done = subprocess.run([farlib.program("farshore"), "--server", url, "--token-file", cluster.token_file, "--ca",
                           cluster.ca_file, "log", "verify", "--timeout", "2", *more], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def online_every_server_is_asked_also_those_that_nobody_named():
    farlib.until(signed_by_all, 30, "all have signed")
    servers = list(cluster.servers.values())
    keys = [cluster.get("/v1/servers/" + name)["keys"][-1]["public_key"] for name in cluster.servers]
    status, text = verify_online(servers[:1], "--key", keys[2])
    wrong = [] if status == 0 and "all 3 alike" in text and "the key that was given leads to theirs" in text else ["%d %s" % (status, text)]
    status, text = verify_online(servers[:1], "--key", "00" * 32)
    wrong += [] if status == CORRUPT and "not signed with the key that was given" in text else ["%d %s" % (status, text)]
    for key, expected in ((keys[2], 0), ("00" * 32, CORRUPT)):
        status, text = cluster.cli("events", "--from", "start", "--proof", "headers", "--key", key, check=False)
        if status != expected or ("the key that was given leads to theirs" in text) != (expected == 0):
            wrong.append("events: %d %s" % (status, text[-500:]))
    for name in cluster.servers:  # one had other keys before, and trust leads from the first to those of now
        old = cluster.get("/v1/servers/" + name)["keys"][0]["public_key"]
        for status, text in (verify_online(servers[:1], "--key", old), cluster.cli("events", "--proof", "full", "--key", old, check=False)):
            wrong += [] if status == 0 and "the key that was given leads to theirs" in text else ["key of old: %d %s" % (status, text[-500:])]
    servers[2].stop()
    for named in (servers[:1], servers[2:] + servers[:1]):  # the one that is away is named, or not
        status, text = verify_online(named)
        if status == 0 or "1 of 3 servers could not be verified: https://" + servers[2].api not in text or \
                "those that answered are alike" not in text or "is signed by a majority" not in text:
            wrong.append("%d %s" % (status, text))
    servers[2].start()
    cluster.wait_same_heads()
    return wrong


def a_forced_recovery_begins_a_trust_that_must_be_given():
    """Last: of the three servers one goes on alone."""
    head = farlib.until(signed_by_all, 30, "all have signed")
    keys = {v["server"]: v["public_key"] for v in head["voters"]}
    survivor = cluster.servers["recovery"]
    for server in cluster.servers.values():
        server.kill()
    _, said = cluster.run_tool("farshored", "recover-quorum", "--dir", survivor.dir, "--token", "@" + cluster.token_file, "--confirm",
                               "test")
    survivor.start()
    for name in ("protected", "witness"):
        del cluster.servers[name]
    cluster.wait_leader(40)

    def signed_anew():
        newest = heads()["items"][0]
        return newest["incarnation_epoch"] == 2 and newest["state"] == "signed"
    farlib.until(signed_anew, 40, "the survivor has signed in the new incarnation")
    path = os.path.join(cluster.base, "recovered.export")
    cluster.cli("log", "export", "--out", path, as_json=False)
    old = cluster.run_tool("farshore-verify", "--key", keys["protected"], path, check=False)
    both = cluster.run_tool("farshore-verify", "--key", keys["protected"], "--key", keys["recovery"], path, check=False)
    wrong = [] if old[0] == 1 and "in whom trust does not follow" in old[1] else ["%d %s" % old]
    printed = said.split("signing key: ")[1].split()[0]
    wrong += [] if printed == keys["recovery"] else ["recover-quorum printed %s" % printed]
    status, text = verify_online([survivor], "--key", keys["protected"])
    wrong += [] if status == CORRUPT and "and no further" in text and "forced recovery" in text else ["%d %s" % (status, text)]
    status, text = verify_online([survivor], "--key", printed)
    wrong += [] if status == 0 else ["%d %s" % (status, text)]
    return wrong + ([] if both[0] == 0 and "trust began anew" in both[1] else ["%d %s" % both])


if __name__ == "__main__":
    with farlib.Cluster(nodes=False) as cluster:
        tap.run_all([every_voter_signs_the_head_and_status_shows_it, a_server_without_a_key_gets_one_and_the_old_one_has_ended,
                     two_of_three_make_a_majority_and_the_third_signs_when_it_comes_back,
                     a_stopped_server_and_an_export_prove_their_signatures,
                     online_every_server_is_asked_also_those_that_nobody_named,
                     a_forced_recovery_begins_a_trust_that_must_be_given])
