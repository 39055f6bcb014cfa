#!/usr/bin/env python3
"""Members of a running cluster: who leads, what the witness serves, what is survived; the first server is lost for good.

far-timeout: 240
"""
import fcntl
import json
import os
import re
import shutil
import subprocess
import time

import farlib
import tap

cluster = None


def survives(server=None):
    value = cluster.get("/v1/cluster", server=server)["survives"]
    return {s["role"]: s["survived"] for s in value["sites"]}, value


def log_of(process):
    with open(process.log, encoding="utf-8", errors="replace") as file:
        return file.read()


def a_node_that_knew_only_the_first_server_outlives_it():
    """It joined a cluster of one and its stream stays there: the servers that come later are told on it."""
    node = cluster.add_node("early", "protected")
    cluster.wait_nodes()
    cluster.add_server("recovery")
    cluster.add_server("witness")
    first = cluster.servers["protected"]

    def told():
        with open(os.path.join(node.dir, "servers"), encoding="ascii") as file:
            return len(file.readlines()) == 3
    farlib.until(told, 10, "the node knows three servers")
    streams = log_of(node).count("no stream to server")
    first.kill()
    farlib.until(lambda: re.search("connected to server (?!1,)", log_of(node)), 20, "the node is with another server")
    first.start()
    cluster.wait_leader()
    cluster.wait_nodes()
    return [] if streams == 0 else ["the stream was given up %d times before" % streams]


def the_status_says_what_each_server_holds_and_what_is_survived():
    def told():
        members = cluster.status(cluster.servers["protected"])["members"]
        said = all(m["digest_state"] == "equal" and m["clock_offset_ms"] is not None and m["first_seq"] == 1 for m in members)
        return members if said else None
    members = {m["name"]: m for m in farlib.until(told, 20, "each has said how it is")}
    wrong = [m["name"] for m in members.values()
             if not (m["up"] and m["version"] and m["first_seq"] == 1 and m["applied_index"] > 0 and not m["safe_mode"]
                     and abs(m["clock_offset_ms"]) < 2000)]
    sites, value = survives()
    if sites != {"protected": True, "recovery": True, "witness": True} or not value["any_one_server"] or value["warning"]:
        wrong.append("survives %r" % value)
    if members["witness"]["site_role"] != "witness":
        wrong.append("the witness: %r" % members["witness"])
    text = cluster.cli("cluster", "status", as_json=False)
    if "survives the loss of: protected site 'protected' yes, recovery site 'recovery' yes" not in text:
        wrong.append(text)
    return wrong


def the_witness_serves_no_users():
    witness = cluster.servers["witness"]
    wrong = []
    for method, path, body in (("GET", "/v1/sites", None), ("POST", "/v1/sites", {"name": "x", "role": "recovery"}),
                               ("GET", "/v1/events?follow=false", None), ("GET", "/v1/tokens", None)):
        status, _, answer = cluster.request(witness, method, path, body)
        if status != 503 or answer.get("code") != "not_leader" or cluster.servers["recovery"].api not in answer["detail"]:
            wrong.append("%s %s: %d %r" % (method, path, status, answer))
    for path in ("/healthz", "/readyz", "/v1/cluster", "/v1/log/head"):
        status, _, answer = cluster.request(witness, "GET", path)
        if status != 200:
            wrong.append("%s: %d %r" % (path, status, answer))
    return wrong


def leadership_is_handed_over_on_request():
    wrong = []
    for name in ("recovery", "protected", "recovery"):
        text = cluster.cli("cluster", "transfer", name, as_json=False)
        if "server '%s' will lead" % name not in text:
            return [text]
        farlib.until(lambda n=name: cluster.leader() is cluster.servers[n], 20, "server %s leads" % name)
    status, text = cluster.cli("cluster", "transfer", "witness", check=False)
    if status != 4 or "witness" not in text:
        wrong.append("to the witness: %d %s" % (status, text))
    return wrong


def leadership_leaves_the_witness():
    """It may win an election; it does not stay leader when somebody else can be it."""
    others = [cluster.servers["protected"], cluster.servers["recovery"]]
    for server in others:
        server.kill()
    for server in others:
        server.start()
    leader = farlib.until(lambda: (cluster.leader() in others) and cluster.leader(), 30, "a server that serves users leads")
    cluster.post("/v1/sites", {"name": "after-witness", "role": "recovery"}, server=leader)


def a_layout_that_loses_the_quorum_with_the_protected_site_is_warned_of():
    answer = cluster.post("/v1/servers/recovery/site", {"site": "protected"})
    sites, value = survives()
    back = cluster.post("/v1/servers/recovery/site", {"site": "recovery"})
    wrong = [] if "losing the protected site" in answer.get("warning", "") else ["answer %r" % answer]
    if sites.get("protected") is not False or "losing the protected site" not in value["warning"]:
        wrong.append("survives %r" % value)
    return wrong + (["moved back, and still %r" % back] if back.get("warning") else [])


def a_dead_server_is_counted_in_what_is_survived_now():
    cluster.servers["witness"].kill()

    def seen():
        sites, value = survives(cluster.servers["protected"])
        return value["quorum"] and not value["any_one_server"] and sites["witness"] and not sites["protected"]
    farlib.until(seen, 30, "the status knows that one is down")
    cluster.servers["witness"].start()
    farlib.until(lambda: survives(cluster.servers["protected"])[1]["any_one_server"], 30, "and that it is back")


def a_standby_that_is_down_holds_up_no_other():
    """It joined and never came up, so it cannot be promoted: who comes after it is, and both can be removed."""
    cluster.add_server("down", start=False)
    farlib.until(lambda: cluster.get("/v1/servers/down")["role"] == "standby", 20, "it is let in")
    cluster.add_server("after")
    role = cluster.get("/v1/servers/down")["role"]
    wrong = [] if role == "standby" else ["the one that is down is a %s" % role]
    # to replace one by another that votes already is to take one out: only if that was begun as a replacement
    status, text = cluster.cli("server", "replace", "down", "after", check=False, as_json=False)
    if status != 4 or "votes already" not in text or cluster.get("/v1/servers/down")["role"] != "standby":
        wrong.append("replaced by a voter: %d %s" % (status, text))
    text = cluster.cli("server", "replace", "down", "after", "--resume", as_json=False)
    if "is in the place of 'down'" not in text:
        wrong.append(text)
    number = cluster.get("/v1/servers/after")["id"]
    cluster.call("DELETE", "/v1/servers/after")
    farlib.until(lambda: cluster.get("/v1/servers/%d" % number)["role"] == "removed", 30, "the other is out")
    for name in ("after", "down"):
        cluster.servers.pop(name).kill()
    return wrong


def replacing(old, new, *more):
    """farshore server replace, running; its words go to a file."""
    everywhere = ",".join("https://" + s.api for s in cluster.servers.values() if s.alive())
    with open(os.path.join(cluster.base, "replace-" + new), "wb") as log:
        return subprocess.Popen([farlib.program("farshore"), "--server", everywhere, "--token-file", cluster.token_file, "--ca",
                                 cluster.ca_file, "server", "replace", old, new, "--token-out", os.path.join(cluster.base, new + ".token"),
                                 *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=farlib.die_with_parent)


def words_of(new):
    with open(os.path.join(cluster.base, "replace-" + new), encoding="utf-8") as log:
        return log.read()


def join_with(token_of, name):
    server = cluster.new_server(name)
    cluster.run_tool("farshored", "join", "--dir", server.dir, "--token", "@%s/%s.token" % (cluster.base, token_of), "--name", name,
                     "--api", server.api, "--peer", server.peer)
    return server.start()


def events_since(seq):
    lines = cluster.request(cluster.wait_leader(30), "GET", "/v1/events?from=%d&follow=false&format=ndjson" % (seq + 1))[2]
    return [frame for frame in map(json.loads, lines.splitlines()) if "seq" in frame] if isinstance(lines, str) else []


def of_operators(events):
    """Those that a replacement makes, not what comes by itself meanwhile (heads, leases, leaders)."""
    kinds = ("token_created", "server_joined", "server_role_changed", "server_role_wanted", "leader_wanted")
    return [event for event in events if event["kind"] in kinds]


def planned(old, new, *more):
    """What server replace would do, and that it does none of it."""
    before = cluster.get("/v1/log/head")["seq"]
    plan = cluster.cli("server", "replace", old, new, "--token-out", os.path.join(cluster.base, "no.token"), "--dry-run", *more)
    changed = of_operators(events_since(before))
    if changed or os.path.exists(os.path.join(cluster.base, "no.token")) or not plan["dry_run"]:
        raise farlib.Ended("a dry run changed something: %r" % changed)
    return plan["steps"]


def predicted_kinds(steps):
    """Of each step what it says will come: by its prediction, or in words where another step has to be first."""
    return [[event["kind"] for event in step["prediction"]["events"]] if "prediction" in step
            else re.findall(r"event (\w+)", step["do"]) for step in steps]


def a_join_that_is_tried_out_costs_nothing():
    token = cluster.join_token("tried", "join_server", "recovery")
    folder = os.path.join(cluster.base, "server-tried")
    api, peer = ("127.0.0.1:%d" % port for port in farlib.free_ports(2))
    argv = ("cluster", "join", "--dir", folder, "--token", token, "--name", "tried", "--api", api, "--peer", peer)
    before = cluster.get("/v1/log/head")["seq"]
    status, text = cluster.cli(*argv, "--dry-run", check=False, as_json=False)
    wrong = [] if status == 0 and "the token stays good" in text and not os.path.exists(folder) else ["%d %s" % (status, text)]
    status, text = cluster.cli(*argv[:-5], "other", *argv[-4:], "--dry-run", check=False, as_json=False)
    wrong += [] if status != 0 and not os.path.exists(folder) else ["another name: %d %s" % (status, text)]
    if of_operators(events_since(before)):
        wrong.append("a trial is in the log: %r" % of_operators(events_since(before)))
    status, text = cluster.cli(*argv, check=False, as_json=False)
    wrong += [] if status == 0 else ["%d %s" % (status, text)]
    cluster.cli("server", "remove", "tried", as_json=False)
    return wrong


def a_leading_server_is_replaced_and_the_command_is_interrupted():
    old = cluster.add_server("older", site="recovery")
    cluster.cli("cluster", "transfer", "older")
    farlib.until(lambda: cluster.leader() is old, 20, "the old one leads")

    def key_of_old():
        """When it has signed with it."""
        head = cluster.get("/v1/log/heads")["items"][0]
        signed = [a["server"] for a in head["answers"] if a["signed"]]
        return [v["public_key"] for v in head["voters"] if v["server"] == "older"] if head["state"] == "signed" and "older" in signed else None
    key = farlib.until(key_of_old, 40, "the old one has signed a head")[0]
    status, text = cluster.cli("server", "replace", "nobody", "newer", check=False, as_json=False)
    if status != 3 or "no server 'nobody'" not in text:
        return ["%d %s" % (status, text)]
    before = cluster.get("/v1/tokens?limit=1000")["items"]
    for argv, word in ((("newer", "--token-out", "/nope/x"), "make file '/nope/x'"), (("bad name!",), "name")):
        status, text = cluster.cli("server", "replace", "older", *argv, "--dry-run", check=False, as_json=False)
        other, said = cluster.cli("server", "replace", "older", *argv, check=False, as_json=False)
        if status == 0 or word not in text or (other, said) != (status, text) or cluster.get("/v1/tokens?limit=1000")["items"] != before:
            return ["%r: planned %d %s, became %d %s" % (argv, status, text, other, said)]
    steps, since = planned("older", "newer"), cluster.get("/v1/log/head")["seq"]
    kinds = predicted_kinds(steps)
    if [k[:1] for k in kinds] != [["token_created"], ["server_joined"], ["server_role_changed"], ["leader_wanted"],
                                  ["server_role_wanted"], ["server_role_changed"]]:
        return ["planned: %r" % steps]
    text = cluster.cli("server", "replace", "older", "newer", "--dry-run", as_json=False)
    if "nothing was done" not in text or "needs first: the token" not in text or "6. the leader takes 'older' out" not in text:
        return [text]
    command = replacing("older", "newer")
    farlib.until(lambda: "waiting for 'newer' to join" in words_of("newer"), 20, "it asks for the new machine")
    command.kill()
    command.wait()
    command = replacing("older", "newer")
    farlib.until(lambda: "was made before" in words_of("newer"), 20, "it goes on with the token that it made")
    new = join_with("newer", "newer")
    status = command.wait(timeout=60 * farlib.SLOW)
    text = words_of("newer")
    print("# " + text.replace("\n", "\n# "))
    if status != 0 or "handing leadership over from 'older' to 'newer'" not in text or "is in the place of" not in text:
        return ["%d %s" % (status, text)]
    status, text = cluster.cli("server", "replace", "older", "newer", check=False, as_json=False)  # done: nothing more happens
    _, why = cluster.cli("log", "verify", "--key", key, check=False, as_json=False)  # a standby is down
    if "the key that was given leads to theirs" not in why:
        return ["with the key of the one that was replaced: " + why]
    old.kill()
    cluster.servers.pop("older")
    came = of_operators(events_since(since))
    if [event["kind"] for event in came] != [k[0] for k in kinds]:
        return ["planned %r, came %r" % (kinds, came)]
    made = [s["prediction"]["events"][0]["data"] for s in steps if "prediction" in s]
    for predicted, is_so in zip(made, (came[0], came[4])):
        same = {k: v for k, v in predicted.items() if k not in ("id", "expires_ms", "name_hash")}
        if any(is_so["data"].get(k) != v for k, v in same.items()):
            return ["planned %r, came %r" % (predicted, is_so)]
    if planned("older", "newer"):
        return ["something is left to be done"]
    return [] if status == 0 and cluster.voter("newer") and new.alive() else ["%d %s" % (status, text)]


def a_server_that_is_down_goes_first_when_it_is_replaced():
    cluster.servers.pop("newer").kill()
    cluster.wait_leader(30)
    alive = [s for s in cluster.servers.values() if s.alive()]
    farlib.until(lambda: not any(m["up"] for s in alive for m in cluster.status(s)["members"] if m["name"] == "newer"), 30, "it is seen")
    steps = planned("newer", "newest")
    if [k[0] for k in predicted_kinds(steps)] != ["server_role_wanted", "token_created", "server_joined", "server_role_changed",
                                                  "server_role_changed"] or "taken out first" not in steps[0]["do"]:
        return ["planned: %r" % steps]
    command = replacing("newer", "newest", "--within", "100")
    farlib.until(lambda: "waiting for 'newest' to join" in words_of("newest"), 40, "it asks for the new machine")
    new = join_with("newest", "newest")
    status = command.wait(timeout=100 * farlib.SLOW)
    text = words_of("newest")
    print("# " + text.replace("\n", "\n# "))
    roles = {s["name"]: s["role"] for s in cluster.get("/v1/servers")["items"]}
    number = cluster.get("/v1/servers/newest")["id"]
    cluster.call("DELETE", "/v1/servers/newest")
    farlib.until(lambda: cluster.get("/v1/servers/%d" % number)["role"] == "removed", 30, "newest is out")
    cluster.servers.pop("newest").kill()
    goes_first = 0 <= text.find("taking 'newer' out") < text.find("waiting for 'newest' to join")
    return [] if status == 0 and goes_first and roles["newer"] == "removed" and roles["newest"] == "voter" else ["%d %r %s" % (status, roles, text)]


def the_first_server_is_destroyed_and_a_new_one_joins():
    """What was the founder's alone must be nobody's: its secrets open on others, which let new servers and nodes in."""
    founder = cluster.servers["protected"]
    founder.kill()
    token, ca = os.path.join(cluster.base, "admin.token"), os.path.join(cluster.base, "ca.crt")
    shutil.copy(cluster.token_file, token)
    shutil.copy(cluster.ca_file, ca)
    cluster.token_file, cluster.ca_file = token, ca
    shutil.rmtree(founder.dir)
    cluster.servers.pop("protected")
    cluster.wait_leader(30)
    cluster.call("DELETE", "/v1/servers/protected")
    farlib.until(lambda: cluster.get("/v1/servers/1")["role"] == "removed", 40, "the founder is out")
    new = cluster.add_server("second", site="protected")  # its certificate is signed by the CA's key: that was opened
    node = cluster.add_node("late", "protected")
    cluster.wait_nodes()
    # the new server holds the secrets too: alone with the witness it lets another one in
    cluster.cli("cluster", "transfer", "second")
    farlib.until(lambda: cluster.leader() is new, 20, "the new server leads")
    cluster.servers["recovery"].kill()
    cluster.wait_leader(30)
    third = cluster.new_server("third")
    join = cluster.call("POST", "/v1/tokens", {"name": "third", "purpose": "join_server", "site": "recovery", "expires_ms":
                        int(time.time() * 1000) + 600000}, server=new)["token"]
    cluster.run_tool("farshored", "join", "--dir", third.dir, "--token", join, "--name", "third", "--api", third.api, "--peer",
                     third.peer)
    cluster.servers["recovery"].start()
    third.start()
    farlib.until(lambda: cluster.voter("third"), 40, "the third server is a voter")
    cluster.wait_same_heads()
    return [] if node.alive() else ["the node ended"]


def commands_that_would_leave_only_witnesses_are_refused():
    """And a witness serves users when every other server is down."""
    wrong = []
    for name in ("recovery", "third"):
        number = cluster.get("/v1/servers/" + name)["id"]
        # while the others have not said yet which events they hold it is refused: "ask again in a second"
        farlib.until(lambda n=name: [cluster.call("DELETE", "/v1/servers/" + n)], 30, name + " may go")
        farlib.until(lambda n=number: cluster.get("/v1/servers/%d" % n)["role"] == "removed", 30, name + " is out")
        cluster.servers.pop(name).kill()
    for argv in (("server", "remove", "second"), ("server", "remove", "second", "--force"), ("server", "remove", "second", "--dry-run"),
                 ("server", "site", "second", "--site", "witness")):
        status, text = cluster.cli(*argv, check=False, as_json=False)
        if status != 4 or "the last voter that is no witness" not in text:
            wrong.append("%r: %d %s" % (argv, status, text))
    witness = cluster.servers["witness"]
    if cluster.request(witness, "GET", "/v1/sites")[0] != 503:
        wrong.append("the witness serves users")
    cluster.servers["second"].kill()
    farlib.until(lambda: cluster.request(witness, "GET", "/v1/sites")[0] == 200, 20, "the witness answers when nobody else can")
    return wrong


def rejoin_what_was_left(old):
    """As DISASTER.md says it, on the machine of a server that is whole and has not heard of the recovery."""
    token_file = os.path.join(cluster.base, "second-again")
    with open(token_file, "w", encoding="ascii") as file:
        file.write(cluster.cli("server", "create", "second", "--site", "protected")["token"])
    rejoin = ("cluster", "rejoin", "--dir", old.dir, "--token", "@" + token_file)
    wrong = []
    lock = os.open(old.dir, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # as if it still ran: then nothing of it is touched
    status, text = cluster.cli(*rejoin, check=False, as_json=False)
    if status != 4 or "stop it first" not in text or not os.path.exists(os.path.join(old.dir, "config")):
        wrong.append("rejoin of one that runs: %d %s" % (status, text))
    os.close(lock)
    status, text = cluster.cli(*rejoin, check=False, as_json=False)
    if status != 0 or "went on without it" not in text:
        return ["rejoin: %d %s" % (status, text)]
    cluster.servers["second"] = old.start()
    farlib.until(lambda: cluster.voter("second"), 40, "what was left behind votes again")
    return wrong


def a_witness_that_alone_is_left_lets_new_servers_in():
    """Forced recovery on the witness; then everything that makes it a cluster again is asked of the witness."""
    witness, old = cluster.servers["witness"], cluster.servers["second"]
    witness.stop()
    status, text = cluster.run_tool("farshored", "recover-quorum", "--dir", witness.dir, "--token", "@" + cluster.token_file, "--confirm",
                                    "test", check=False)
    if status != 0:
        return ["%d %s" % (status, text)]
    cluster.index = 0
    cluster.servers = {"witness": witness}
    witness.start()
    cluster.wait_leader()
    cluster.wait_nodes()
    left = rejoin_what_was_left(old)
    farlib.until(lambda: cluster.leader() is old, 30, "leadership leaves the witness")
    farlib.until(lambda: cluster.request(witness, "GET", "/v1/sites")[0] == 503, 20, "the witness serves no users any more")
    cluster.cli("site", "create", "again", "--role", "recovery")
    return left


if __name__ == "__main__":
    with farlib.Cluster(servers=("protected",), nodes=False, witness=True) as cluster:
        tap.run_all([
            a_node_that_knew_only_the_first_server_outlives_it, the_status_says_what_each_server_holds_and_what_is_survived, the_witness_serves_no_users,
            leadership_is_handed_over_on_request, leadership_leaves_the_witness,
            a_layout_that_loses_the_quorum_with_the_protected_site_is_warned_of,
            a_dead_server_is_counted_in_what_is_survived_now, a_standby_that_is_down_holds_up_no_other,
            a_join_that_is_tried_out_costs_nothing, a_leading_server_is_replaced_and_the_command_is_interrupted, a_server_that_is_down_goes_first_when_it_is_replaced,
            the_first_server_is_destroyed_and_a_new_one_joins,
            commands_that_would_leave_only_witnesses_are_refused, a_witness_that_alone_is_left_lets_new_servers_in,
        ])
