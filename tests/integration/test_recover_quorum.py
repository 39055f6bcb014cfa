#!/usr/bin/env python3
"""The quorum is gone for good: one survivor goes on, the others are fenced when they return, and rejoin.

far-timeout: 300
"""
import json
import os
import shutil
import threading

import farlib
import tap

SIZE = 8 * farlib.MIB
INVALID, NOT_FOUND, CONFLICT, DENIED = 2, 3, 4, 5
cluster = None
second_token = None


def recover(server, *argv, confirm="test", token=None):
    options = ["--confirm", confirm] if confirm else []
    return cluster.run_tool("farshored", "recover-quorum", "--dir", server.dir, "--token",
                            token or "@" + cluster.token_file, *options, *argv, check=False)


def path(name):
    return os.path.join(cluster.base, name)


def exit_status(process, seconds):
    farlib.until(lambda: process.process.poll() is not None, seconds, "%s stops by itself" % process.name)
    status = process.process.returncode
    process.ended(status)
    process.process = None
    return status


def log_of(process):
    with open(process.log, encoding="utf-8", errors="replace") as file:
        return file.read()


def epoch(server):
    return cluster.status(server)["cluster"]["incarnation_epoch"]


def write_token(name, text):
    with open(os.open(path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(text + "\n")
    return "@" + path(name)


def a_quorum_that_is_there_is_not_recovered():
    survivor = cluster.servers["recovery"]
    status, text = recover(survivor)
    assert status == CONFLICT and "stop it first" in text, text
    survivor.stop()
    status, text = recover(survivor)
    assert status == CONFLICT and "the quorum is not gone" in text, text
    survivor.start()
    cluster.wait_leader()


def what_can_be_done_without_a_quorum(survivor):
    """Break-glass: read, export, and what is exported proves itself; the same with the server stopped."""
    survivor.start()
    farlib.until(lambda: cluster.request(survivor, "GET", "/v1/plans/plan")[0] == 200, 20, "it answers reads")
    head = cluster.request(survivor, "GET", "/v1/log/head")[2]
    status, text = cluster.run_tool("farshore", "--server", "https://" + survivor.api, "--token-file", cluster.token_file, "--ca",
                                    cluster.ca_file, "log", "export", "--out", path("running.export"), check=False)
    assert status == 0, text
    survivor.stop()
    cluster.run_tool("farshored", "log-export", "--dir", survivor.dir, "--out", path("stopped.export"))
    for name in ("running.export", "stopped.export"):
        status, text = cluster.run_tool("farshore-verify", "--head", "%d:%s" % (head["seq"], head["head"]), path(name),
                                        check=False)
        print("# " + text.strip().splitlines()[-1])
        assert status == 0, text


def nothing_happens_without_the_right_name_token_and_approval():
    global second_token
    farlib.make_image(path("a.img"), SIZE, seed)
    cluster.protect("vm", [path("a.img")])
    cluster.replicate()
    second_token = write_token("second", cluster.cli("token", "create", "second")["token"])
    cluster.cli("cluster", "recovery-policy", "--second-approval")
    cluster.wait_same_heads()
    for name in ("protected", "witness"):
        cluster.servers[name].kill()
    survivor = cluster.servers["recovery"]
    survivor.stop()
    stranger = write_token("stranger", "far_" + "1" * 64)
    what_can_be_done_without_a_quorum(survivor)
    survivor.stop()
    for wanted, word, options in ((DENIED, "second operator", {}),
                                  (DENIED, "another operator", {"more": ["--second-token", "@" + cluster.token_file]}),
                                  (DENIED, "", {"token": stranger}),
                                  (INVALID, "no API token", {"token": "nonsense"}),
                                  (NOT_FOUND, "read the API token", {"token": "@/nope"}),
                                  (CONFLICT, "not the name", {"confirm": "other", "more": ["--second-token", second_token]}),
                                  (CONFLICT, "not the name", {"confirm": None, "more": ["--second-token", second_token]})):
        more = options.pop("more", [])
        status, text = recover(survivor, *more, **options)
        assert status == wanted and word in text, (status, text)
    assert not os.path.exists(os.path.join(survivor.dir, "incarnation"))
    survivor.start()
    farlib.until(lambda: epoch(survivor) == 1, 10, "the old server still starts")


def the_survivor_goes_on_alone_and_keeps_everything():
    survivor = cluster.servers["recovery"]
    survivor.stop()
    before = farlib.tree_of(survivor.dir)
    status, told = recover(survivor, "--second-token", second_token, "--dry-run", confirm=None)
    assert status == 0 and "nothing was done" in told and "May be lost" in told, told
    status, text = recover(survivor, "--dry-run", confirm=None)
    assert status == DENIED and "second operator" in text, text
    through = cluster.cli("cluster", "recover-quorum", "--dir", survivor.dir, "--token", "@" + cluster.token_file, "--second-token",
                          second_token, "--dry-run", as_json=False)
    assert "incarnation_begun" in through and farlib.tree_of(survivor.dir) == before
    status, text = recover(survivor, "--second-token", second_token)
    print("# " + text.replace("\n", "\n# "))
    assert status == 0 and "May be lost" in text, text
    survivor.start()
    cluster.wait_leader()
    assert epoch(survivor) == 2
    lines = cluster.request(survivor, "GET", "/v1/events?from=start&follow=false&format=ndjson")[2].splitlines()
    kinds = [frame["kind"] for frame in map(json.loads, lines) if "seq" in frame]
    came, wanted = kinds[kinds.index("incarnation_begun"):], farlib.foretold(told)
    assert wanted[0] == "incarnation_begun" and came[:len(wanted)] == wanted, (wanted, came)
    roles = {s["name"]: s["role"] for s in cluster.get("/v1/servers")["items"]}
    assert roles == {"protected": "removed", "recovery": "voter", "witness": "removed"}, roles
    assert cluster.get("/v1/plans/plan")["name"] == "plan"
    cluster.post("/v1/sites", {"name": "after", "role": "recovery"})
    assert cluster.status(survivor)["server"]["term"] >= 1000000


def nodes_follow_and_go_on_with_the_plan():
    cluster.wait_nodes()
    farlib.change_image(path("a.img"), 5, seed + 1)
    cluster.replicate()
    cluster.recover("vm", [path("a.out")])
    assert farlib.same_bytes(path("a.img"), path("a.out"))
    for node in cluster.nodes.values():
        assert os.path.exists(os.path.join(node.dir, "incarnation"))


def the_old_majority_comes_back_and_is_fenced():
    """It leads among itself at first and may take writes alone; nobody of the new incarnation hears it."""
    survivor = cluster.servers["recovery"]
    survivor.stop()
    old = [cluster.servers["protected"], cluster.servers["witness"]]
    for server in old:
        server.start()
    leader = cluster.wait_leader()
    assert epoch(leader) == 1
    cluster.index = 0
    cluster.post("/v1/sites", {"name": "alone", "role": "recovery"}, server=leader)
    target = cluster.nodes["target"]
    target.stop()
    with open(os.path.join(target.dir, "servers"), "a", encoding="ascii") as file: # it knows only the new ones any more
        file.write("1@%s\n" % cluster.servers["protected"].peer)
    target.start()
    farlib.until(lambda: "which is over" in log_of(target), 20, "a node that followed refuses the old servers")
    # its word alone stops nobody, for one node might lie; but whoever looks is told
    claim = farlib.until(lambda: next(filter(None, (cluster.status(s)["claimed_incarnation"] for s in old)), None), 20, "it is told")
    assert claim["epoch"] == 2 and claim["nodes"] >= 1 and all(server.alive() for server in old), claim
    shown = [cluster.run_tool("farshore", "--server", "https://" + s.api, "--token-file", cluster.token_file, "--ca", cluster.ca_file,
                              "cluster", "status")[1] for s in old]
    assert any("follow incarnation 2" in text for text in shown), shown
    survivor.start()
    for server in old:
        assert exit_status(server, 30) == DENIED
        assert "is fenced" in log_of(server), log_of(server)[-500:]
        status, text = cluster.run_tool("farshored", "run", "--dir", server.dir, check=False)
        assert status == DENIED and "is fenced" in text, text
    cluster.wait_leader()
    assert cluster.request(survivor, "GET", "/v1/sites/alone")[0] == 404
    cluster.wait_nodes()


def a_fenced_server_rejoins_under_a_new_id_and_keeps_what_it_was():
    for name in ("protected", "witness"):
        server = cluster.servers[name]
        token = write_token("rejoin-" + name, cluster.join_token(name, "join_server", name))
        status, text = cluster.run_tool("farshored", "rejoin", "--dir", server.dir, "--token", "@" + path("none"), check=False)
        assert status != 0 and os.path.exists(os.path.join(server.dir, "config")), text
        before = farlib.tree_of(server.dir)
        status, text = cluster.run_tool("farshored", "rejoin", "--dir", server.dir, "--token", token, "--dry-run", check=False)
        assert status == 0 and "move there: " in text and "nothing was done" in text, text
        moved = text.split("move there: ")[1].split("\n")[0].split(", ")
        place = text.split("make folder '")[1].split("'")[0]
        assert farlib.tree_of(server.dir) == before and "config" in moved, text
        foreign = write_token("foreign-" + name, cluster.join_token("other-" + name, "join_server", name))
        good = ("--token", token)
        for wanted, word, options in ((INVALID, "token", ("--token", "nonsense")), (DENIED, "is for", ("--token", foreign)),
                                      (INVALID, "same address", (*good, "--api", server.peer, "--peer", server.peer))):
            for more in (["--dry-run"], []):
                status, text = cluster.run_tool("farshored", "rejoin", "--dir", server.dir, *options, *more, check=False)
                assert status == wanted and word in text and farlib.tree_of(server.dir) == before, (status, text)
        os.makedirs(place)
        write_token(os.path.join(place, "config"), "an older one")
        for more in (["--dry-run"], []):
            status, text = cluster.run_tool("farshored", "rejoin", "--dir", server.dir, *good, *more, check=False)
            assert status == CONFLICT and "is there already" in text, (status, text)
        shutil.rmtree(os.path.join(server.dir, "divergent"))
        assert farlib.tree_of(server.dir) == before
        status, text = cluster.run_tool("farshored", "rejoin", "--dir", server.dir, "--token", token, check=False)
        assert set(moved) <= set(os.listdir(place)), (moved, os.listdir(place), text)
        assert status == 0, text
        status, text = cluster.run_tool("farshored", "rejoin", "--dir", server.dir, "--token", token, check=False)
        assert status == CONFLICT and "not run yet" in text, text
        with open(os.path.join(server.dir, "rejoin"), "w", encoding="ascii") as file:  # killed before it was removed
            file.write(os.path.basename(place) + "\n")
        joined = farlib.tree_of(server.dir)
        status, text = cluster.run_tool("farshored", "rejoin", "--dir", server.dir, "--token", token, "--dry-run", check=False)
        assert status == 0 and "came to its end" in text and farlib.tree_of(server.dir) == joined, text
        status, text = cluster.run_tool("farshored", "rejoin", "--dir", server.dir, "--token", token, check=False)
        assert status == 0 and not os.path.exists(os.path.join(server.dir, "rejoin")), text
        server.start()
        farlib.until(lambda n=name: cluster.voter(n), 60, "server %s votes again" % name)
    assert epoch(cluster.servers["witness"]) == 2
    cluster.wait_same_heads()
    assert len(os.listdir(os.path.join(cluster.servers["protected"].dir, "divergent"))) == 1


def what_it_accepted_alone_is_shown_and_not_merged():
    folder = cluster.servers["protected"].dir

    def divergent(what, *argv):
        return cluster.run_tool("farshore", "cluster", "divergent", what, "--dir", folder, *argv, check=False)
    status, text = divergent("list")
    print("# " + text.replace("\n", "\n# "))
    assert status == 0 and "events alone" in text, text
    name = text.split(":")[0]
    status, text = divergent("show", "--name", name)
    events = [json.loads(line) for line in text.splitlines()]
    created = [e for e in events if e["kind"] == "site_created"]
    assert status == 0 and [e["data"]["name"] for e in created] == ["alone"] and created[0]["answered"], text[:1000]
    status, text = divergent("diff", "--name", name)
    changes = [json.loads(line) for line in text.splitlines()]
    assert status == 0 and [c["name"] for c in changes if c["table"] == "site"] == ["alone"], text[:1000]
    assert not [c for c in changes if c["table"] == "plan"], text[:1000]
    assert divergent("show", "--name", "9-9")[0] == NOT_FOUND and divergent("show")[0] == INVALID
    assert cluster.request(cluster.servers["protected"], "GET", "/v1/sites/alone")[0] == 404


def a_member_that_is_whole_does_not_rejoin_by_mistake():
    server = cluster.servers["witness"]
    server.stop()
    status, text = cluster.run_tool("farshored", "rejoin", "--dir", server.dir, "--token", "x", check=False)
    assert status == CONFLICT and "neither fenced nor removed" in text, text
    good = write_token("again", cluster.join_token("another", "join_server", "witness"))
    status, text = cluster.run_tool("farshored", "rejoin", "--dir", server.dir, "--token", good, "--name", "another", check=False)
    assert status == CONFLICT and "neither fenced nor removed" in text, text
    assert os.path.exists(os.path.join(server.dir, "config"))
    token = max(cluster.get("/v1/tokens?limit=1000")["items"], key=lambda t: t["id"])
    assert token["name"] == "another" and not token["used_ms"], token  # it was only tried
    server.start()
    cluster.wait_same_heads()


def a_dry_run_goes_on_from_what_was_stored_and_never_decided():
    """The leader holds commands that nobody else has: they stand behind its state, and the incarnation goes on from them."""
    with farlib.Cluster(nodes=False) as other:
        other.wait_same_heads()
        leader = other.wait_leader()
        for server in other.servers.values():
            if server is not leader:
                server.kill()

        def write(i):
            try:
                other.request(leader, "POST", "/v1/sites", {"name": "lost%d" % i, "role": "recovery"}, timeout=20)
            except OSError:
                pass  # it is killed meanwhile
        writers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join(30 * farlib.SLOW)
        leader.kill()
        tree = farlib.tree_of(leader.dir)
        argv = ["farshored", "recover-quorum", "--dir", leader.dir, "--token", "@" + other.token_file]
        status, told = other.run_tool(*argv, "--dry-run", check=False)
        assert status == 0 and "may never have been answered" in told, told
        assert farlib.tree_of(leader.dir) == tree
        status, text = other.run_tool(*argv, "--confirm", "test", check=False)
        assert status == 0, text
        leader.start()
        other.wait_leader()
        lines = other.request(leader, "GET", "/v1/events?from=start&follow=false&format=ndjson")[2].splitlines()
        frames = [frame for frame in map(json.loads, lines) if "seq" in frame]
        kinds, wanted = [frame["kind"] for frame in frames], farlib.foretold(told)
        at = kinds.index("incarnation_begun")
        assert wanted[0] == "incarnation_begun" and kinds[at:at + len(wanted)] == wanted, (wanted, kinds[at:])
        assert int(told.split("the first as number ")[1].split(" ")[0]) <= frames[at]["seq"], told
        names = {site["name"] for site in other.get("/v1/sites?limit=100", server=leader)["items"]}
        assert any(name.startswith("lost") for name in names), names


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    with farlib.Cluster(lease_ms=4000) as cluster:
        tap.run_all([a_quorum_that_is_there_is_not_recovered, nothing_happens_without_the_right_name_token_and_approval,
                 the_survivor_goes_on_alone_and_keeps_everything, nodes_follow_and_go_on_with_the_plan,
                 the_old_majority_comes_back_and_is_fenced,
                 a_fenced_server_rejoins_under_a_new_id_and_keeps_what_it_was,
                 what_it_accepted_alone_is_shown_and_not_merged,
                 a_member_that_is_whole_does_not_rejoin_by_mistake,
                 a_dry_run_goes_on_from_what_was_stored_and_never_decided])
