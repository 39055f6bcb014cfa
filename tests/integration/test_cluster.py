#!/usr/bin/env python3
"""Three servers as one: writes at any of them, a leader that dies, members that come and go.

far-timeout: 240
"""
import os
import shutil
import subprocess

import farlib
import tap

cluster = None
DENIED = 5  # exit status


def a_write_at_a_follower_is_seen_at_every_server():
    follower = cluster.followers()[0]
    cluster.post("/v1/sites", {"name": "alpha", "role": "protected"}, server=follower)
    for server in cluster.servers.values():
        farlib.until(lambda s=server: cluster.get("/v1/sites/alpha", server=s)["name"] == "alpha", 10, "the site is there")
    cluster.wait_same_heads()


def the_same_command_twice_is_done_once():
    server = cluster.wait_leader()
    key = {"Idempotency-Key": "00112233445566778899aabbccddeeff"}
    body = {"name": "beta", "role": "recovery"}
    first = cluster.request(server, "POST", "/v1/sites", body, key)
    again = cluster.request(server, "POST", "/v1/sites", body, key)
    other = cluster.request(server, "POST", "/v1/sites", {"name": "gamma", "role": "recovery"}, key)
    wrong = []
    if first[0] != 201 or again[0] not in (200, 201) or first[2]["id"] != again[2]["id"]:
        wrong.append("first %r, again %r" % (first[::2], again[::2]))
    if other[2].get("code") != "conflict":
        wrong.append("the same id with another body gave %r" % (other[2],))
    return wrong


def a_dead_leader_is_replaced_and_nothing_is_lost():
    leader = cluster.wait_leader()
    cluster.post("/v1/sites", {"name": "delta", "role": "recovery"})
    leader.kill()
    new = cluster.wait_leader()
    assert new is not leader
    assert cluster.get("/v1/sites/delta")["name"] == "delta"
    cluster.post("/v1/sites", {"name": "epsilon", "role": "recovery"})
    leader.start()
    farlib.until(lambda: cluster.get("/v1/sites/epsilon", server=leader)["id"], 20, "the old leader catches up")
    cluster.wait_same_heads()


def reads_go_on_without_a_quorum_and_say_so():
    followers = cluster.followers()
    leader = cluster.wait_leader()
    followers[0].kill()
    leader.kill()
    left = followers[1]

    def stale():
        status, headers, _ = cluster.request(left, "GET", "/v1/sites/alpha")
        return status == 200 and headers.get("farshore-stale") == "true"
    farlib.until(stale, 20, "the read is marked stale")
    status, _, body = cluster.request(left, "POST", "/v1/sites", {"name": "never", "role": "recovery"}, timeout=30)
    followers[0].start()
    leader.start()
    cluster.wait_leader()
    cluster.wait_same_heads()
    return [] if status >= 400 else ["a write without quorum answered %d %r" % (status, body)]


def remove(name):
    server_id = cluster.get("/v1/servers/" + name)["id"]
    cluster.call("DELETE", "/v1/servers/" + name)
    farlib.until(lambda: cluster.get("/v1/servers/%d" % server_id)["role"] == "removed", 30, "server %s is out" % name)
    server = cluster.servers.pop(name)
    server.kill()
    shutil.rmtree(server.dir)


def exit_status(process, seconds):
    farlib.until(lambda: process.process.poll() is not None, seconds, "%s stops by itself" % process.name)
    return process.process.returncode


def log_of(process):
    with open(process.log, encoding="utf-8", errors="replace") as file:
        return file.read()


def a_fourth_server_joins_is_promoted_and_removed():
    cluster.add_server("fourth")
    cluster.wait_same_heads()
    remove("fourth")
    cluster.post("/v1/sites", {"name": "zeta", "role": "recovery"})


def a_removed_server_stops_and_says_why_also_when_it_was_away():
    """It must not serve what it holds as if it were the cluster's; nobody dials it and it dials nobody any more."""
    wrong = []
    for name, away in (("fifth", False), ("sixth", True)):
        server = cluster.add_server(name)
        if away:
            server.kill()
        cluster.call("DELETE", "/v1/servers/" + name)
        farlib.until(lambda: cluster.get("/v1/servers")["items"] and all(
            s["role"] == "removed" for s in cluster.get("/v1/servers")["items"] if s["name"] == name), 30, name + " is out")
        if away:
            server.start()
        for start in ("told", "again"):  # the second time without asking anybody
            status = exit_status(server, 20)
            if status != DENIED or log_of(server).count("was removed from cluster 'test'") < 1:
                wrong.append("%s, %s: status %d" % (name, start, status))
            if cluster.servers["protected"].api not in log_of(server):
                wrong.append("%s: the message does not say whom to ask" % name)
            server.start()
        server.kill()
        cluster.servers.pop(name)
    return wrong


def a_removed_node_stops_and_says_why():
    node = cluster.add_node("lonely", "protected")
    farlib.until(lambda: cluster.get("/v1/nodes/lonely")["state"] == "up", 20, "the node is up")
    cluster.call("DELETE", "/v1/nodes/lonely")
    wrong = []
    for _ in range(2):  # a removed node that is started again is told again
        status = exit_status(node, 20)
        if status != DENIED or "was removed from cluster 'test'" not in log_of(node):
            wrong.append("status %d" % status)
        node.start()
    node.kill()
    cluster.nodes.pop("lonely")
    return wrong


def a_server_that_lost_its_memory_does_not_vote_under_its_old_id():
    """Its raft log is gone: it must refuse to run, and comes back only as a new server."""
    victim = cluster.followers()[0]
    cluster.post("/v1/sites", {"name": "eta", "role": "recovery"})
    cluster.wait_same_heads()
    victim.kill()
    shutil.rmtree(os.path.join(victim.dir, "wal"))
    victim.start()
    farlib.until(lambda: not victim.alive(), 20, "the server without its log refuses to run")
    name = victim.name
    victim.process = None
    remove(name)
    cluster.add_server(name)  # the name is free again, the id is another
    cluster.wait_same_heads()


def a_join_needs_no_certificates_of_the_machine():
    """A base Debian has no /etc/ssl/certs/ca-certificates.crt."""
    unshare = ["unshare", "--mount"] + ([] if os.getuid() == 0 else ["--map-root-user"])
    empty = unshare + ["sh", "-c", "mount -t tmpfs none /etc/ssl/certs && exec \"$@\"", "sh"]
    if not os.path.isdir("/etc/ssl/certs"):
        empty = []
    elif subprocess.run(empty + ["true"], capture_output=True).returncode != 0:
        raise tap.Skip("no mounts of one's own here")
    done = subprocess.run(empty + [farlib.program("farshore-node"), "join", "--dir", os.path.join(cluster.base, "node-bare"),
                                   "--token", cluster.join_token("bare", "join_node", "recovery"), "--name", "bare",
                                   "--data", "127.0.0.1:1"], capture_output=True, text=True)
    return [] if done.returncode == 0 else ["status %d: %s" % (done.returncode, done.stderr)]


def every_store_gives_the_same_digest_by_an_independent_walk():
    cluster.verify_all_offline()


if __name__ == "__main__":
    with farlib.Cluster(nodes=False) as cluster:
        tap.run_all([
            a_write_at_a_follower_is_seen_at_every_server, the_same_command_twice_is_done_once,
            a_dead_leader_is_replaced_and_nothing_is_lost, reads_go_on_without_a_quorum_and_say_so,
            a_fourth_server_joins_is_promoted_and_removed,
            a_removed_server_stops_and_says_why_also_when_it_was_away, a_removed_node_stops_and_says_why,
            a_server_that_lost_its_memory_does_not_vote_under_its_old_id,
            a_join_needs_no_certificates_of_the_machine,
            every_store_gives_the_same_digest_by_an_independent_walk,
        ])
