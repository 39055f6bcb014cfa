#!/usr/bin/env python3
"""A server whose disk was damaged: nothing changed is ever shown, and one command makes it a new one that the others fill.

far-timeout: 240
"""
import glob
import json
import os
import re
import subprocess

import farlib
import tap

INVALID, CONFLICT, CORRUPT = 2, 4, 12
WORD = b"lisbon-on-the-far-shore"
cluster = None


def rebuild(name, folder):
    return cluster.cli("server", "rebuild", name, "--dir", folder, check=False, as_json=False)


def number_of(name):
    return cluster.get("/v1/servers/" + name)["id"]


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def damage_rows(server):
    """A bit in every place of the store that holds the name of a site."""
    path = os.path.join(server.dir, "state", "data.mdb")
    with open(path, "rb") as file:
        data = file.read()
    at, count = data.find(WORD), 0
    while at >= 0:
        flip(path, at + 3)
        at, count = data.find(WORD, at + 1), count + 1
    return count


def comes_back(name, old_number):
    server = cluster.servers[name]
    wrong = []
    with open(os.path.join(server.dir, "config"), encoding="utf-8") as file:
        if ("server_id = %d\n" % old_number) in file.read():
            wrong.append("it has its old id")
    if len(os.listdir(os.path.join(server.dir, "divergent"))) < 1:
        wrong.append("what it was is not kept")
    server.start()
    farlib.until(lambda: cluster.voter(name), 60, "server %s votes again" % name)
    cluster.wait_whole_history()
    cluster.wait_same_heads()
    if cluster.get("/v1/sites/" + WORD.decode(), server=server)["name"] != WORD.decode():
        wrong.append("the site is not there")
    return wrong


def a_whole_server_is_not_rebuilt_by_mistake():
    cluster.post("/v1/sites", {"name": WORD.decode(), "role": "witness"})
    cluster.wait_same_heads()
    server = cluster.servers["witness"]
    number = number_of("witness")
    server.stop()
    status, text = rebuild("witness", server.dir)
    other = rebuild("recovery", server.dir)
    dry = cluster.cli("server", "rebuild", "witness", "--dir", server.dir, "--dry-run", check=False, as_json=False)
    if dry[0] != CONFLICT or "is whole" not in dry[1]:
        return ["%d %s" % dry]
    wrong = [] if status == CONFLICT and "is whole" in text else ["%d %s" % (status, text)]
    wrong += [] if other[0] == INVALID and "that of server 'witness'" in other[1] else ["%d %s" % other]
    if number_of("witness") != number or cluster.get("/v1/servers/witness")["role"] != "voter":
        wrong.append("it was taken out")
    return wrong


def a_flipped_bit_is_never_shown_as_a_value():
    server = cluster.servers["witness"]
    if not damage_rows(server):
        return ["the name of the site is nowhere in the store"]
    server.start()
    def asked():
        if not server.alive():
            return "it stopped"
        return cluster.request(server, "GET", "/v1/sites?limit=100", timeout=5)
    answer = farlib.until(asked, 20, "the server answers, or stops")
    names = [site["name"] for site in answer[2]["items"]] if answer[0] == 200 else []
    changed = [name for name in names if name.startswith("lisbo") or name.endswith("shore")]
    if server.alive():
        server.stop()
    else:
        server.kill()
    server.wrong.clear()  # stopped by itself, or asked to: both are right here
    return [] if not [name for name in changed if name != WORD.decode()] else ["shown: %r" % changed]


def write_empty(path):
    with open(path, "w", encoding="ascii"):
        pass


def events_since(seq):
    lines = cluster.request(cluster.wait_leader(), "GET", "/v1/events?from=%d&follow=false&format=ndjson" % (seq + 1))[2]
    return [frame for frame in map(json.loads, lines.splitlines()) if "seq" in frame]


def planned(server):
    """What the command would do, and that it does none of it: (what is wrong, the steps)."""
    before, tokens = farlib.tree_of(server.dir), cluster.get("/v1/tokens?limit=1000")["items"]
    _, said = cluster.cli("server", "rebuild", "witness", "--dir", server.dir, "--dry-run", check=False)
    plan = json.JSONDecoder().raw_decode(said[said.index("{"):])[0]  # what is damaged is said beside it
    text = cluster.cli("server", "rebuild", "witness", "--dir", server.dir, "--dry-run", as_json=False)
    wrong = [] if "nothing was done" in text and "as things are now it would be refused" not in text else [text]
    other = cluster.cli("server", "rebuild", "recovery", "--dir", server.dir, "--dry-run", check=False, as_json=False)
    wrong += [] if other[0] == INVALID and "that of server 'witness'" in other[1] else ["%d %s" % other]
    if farlib.tree_of(server.dir) != before or cluster.get("/v1/tokens?limit=1000")["items"] != tokens \
            or cluster.get("/v1/servers/witness")["role"] != "voter":
        wrong.append("the dry run changed something")
    return wrong, plan["steps"]


def one_command_makes_it_a_new_server():
    server, number = cluster.servers["witness"], number_of("witness")
    for i in range(200):  # the plan names what is moved, however much that is
        write_empty(os.path.join(server.dir, "%03d-%s" % (i, "x" * 100)))
    wrong, steps = planned(server)
    if wrong:
        return wrong
    since = cluster.get("/v1/log/head")["seq"]
    status, text = rebuild("witness", server.dir)
    if status != 0 or "damaged" not in text:
        return ["%d %s" % (status, text)]
    wrong = comes_back("witness", number)
    kinds = [[e["kind"] for e in s["prediction"]["events"]] if "prediction" in s else re.findall(r"event (\w+)", s["do"])
             for s in steps]
    told = ("server_role_wanted", "server_role_changed", "token_created", "server_joined")
    came = [e["kind"] for e in events_since(since) if e["kind"] in told]
    if [kind for kind in sum(kinds, []) if kind != "command_remembered"] != [kind for kind in came if kind != "server_role_changed"] + ["server_role_changed"]:
        wrong.append("planned %r, came %r" % (kinds, came))
    moved = [s["do"].split(": ")[1].split(", ") for s in steps if s["do"].startswith("move there: ")][0]
    place = [s["do"].split("'")[1] for s in steps if s["do"].startswith("make folder")][0]
    wrong += [] if len(moved) > 200 else ["only %d are named" % len(moved)]
    wrong += [] if set(moved) <= set(os.listdir(place)) else ["planned to move %r, moved %r" % (moved, os.listdir(place))]
    return wrong + ([] if number_of("witness") != number else ["the old one is still in the cluster"])


def one_that_lost_its_log_too():
    server, number = cluster.servers["recovery"], number_of("recovery")
    before = cluster.post("/v1/sites", {"name": "porto", "role": "witness"})
    server.kill()
    for path in glob.glob(os.path.join(server.dir, "wal", "vote-*")):
        flip(path, 20)
    server.start()
    farlib.until(lambda: not server.alive(), 20, "it does not start")
    server.kill()
    server.wrong.clear()
    status, text = rebuild("recovery", server.dir)
    if status != 0:
        return ["%d %s" % (status, text)]
    wrong = comes_back("recovery", number)
    status, again = rebuild("recovery", server.dir)
    wrong += [] if status == CONFLICT else ["a running server: %d %s" % (status, again)]
    return wrong + ([] if cluster.get("/v1/sites/porto", server=server)["id"] == before["id"] else ["an acknowledged command is lost"])


def damage_structure(server):
    """Bytes all over the store: whoever walks its pages is led anywhere, and dies."""
    path = os.path.join(server.dir, "state", "data.mdb")
    with open(path, "rb") as file:
        data = bytearray(file.read())
    for at in range(8192, len(data), 97):
        data[at] ^= 0x55
    with open(path, "wb") as file:
        file.write(data)


def run_tool(*argv):
    """Like the cluster's, but that a program which was killed is a status, too."""
    done = subprocess.run([farlib.program(argv[0]), *argv[1:]], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          timeout=60 * farlib.SLOW, preexec_fn=farlib.die_with_parent)
    return done.returncode, done.stdout + done.stderr


def is_damage(text):
    """Where the first changed byte matters is up to how the pages lie: a reader dies of it, finds a wrong checksum, or no table."""
    return re.search("its structure is damaged|its checksum is wrong|store, table [a-z0-9]+: missing", text) is not None


def one_whose_store_kills_whoever_reads_it_too():
    server, number = cluster.servers["recovery"], number_of("recovery")
    server.stop()
    damage_structure(server)
    before = farlib.tree_of(server.dir)
    wrong = []
    for argv, wanted in ((("rejoin-check", "--dir", server.dir, "--name", "recovery"), 0),
                         (("recover-quorum", "--dir", server.dir, "--token", "@" + cluster.token_file, "--dry-run"), CORRUPT),
                         (("recover-quorum", "--dir", server.dir, "--token", "@" + cluster.token_file, "--confirm", "test"), CORRUPT)):
        status, text = run_tool("farshored", *argv)
        wrong += [] if status == wanted and is_damage(text) else ["%s: %d %s" % (argv[0], status, text)]
    if farlib.tree_of(server.dir) != before:
        wrong.append("something was changed")
    status, text = rebuild("recovery", server.dir)
    if status != 0:
        return wrong + ["%d %s" % (status, text)]
    wrong += comes_back("recovery", number)
    status, text = run_tool("farshored", "divergent", "--do", "list", "--dir", server.dir)
    lines = [line for line in text.splitlines() if line.startswith("1-%d" % number)]
    wrong += [] if status == 0 and len(lines) == 1 and is_damage(lines[0]) else ["list: %d %s" % (status, text)]
    for what in ("show", "diff"):
        status, text = run_tool("farshored", "divergent", "--do", what, "--dir", server.dir, "--name", "1-%d" % number)
        wrong += [] if status == CORRUPT and is_damage(text) else ["%s: %d %s" % (what, status, text)]
    return wrong


def every_store_is_right():
    cluster.verify_all_offline()
    return []


if __name__ == "__main__":
    with farlib.Cluster(nodes=False) as cluster:
        cluster.wait_whole_history()
        tap.run_all([a_whole_server_is_not_rebuilt_by_mistake, a_flipped_bit_is_never_shown_as_a_value,
                     one_command_makes_it_a_new_server, one_that_lost_its_log_too,
                     one_whose_store_kills_whoever_reads_it_too, every_store_is_right])
