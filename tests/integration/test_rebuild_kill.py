#!/usr/bin/env python3
"""`farshore server rebuild` is killed (SIGKILL, with all that it started) before steps all over its way; so is the new server while
the others fill it, and the leader meanwhile. Run again it ends well, nothing that was acknowledged is lost, and the old server
and half-made ones are out. FAR_KILLS: how many kills of each.

far-timeout: 240
"""
import os
import random
import shutil
import signal
import subprocess

import farlib
import tap

CONFLICT = 4
KILLS = max(2, int(os.environ.get("FAR_KILLS", "6")) // 2)
SHIM = os.path.join(farlib.BUILD, "tests/lib/.libs/libkill.so")
NAME = "recovery"
cluster = rng = None
written, all_steps = [], []


def path(name):
    return os.path.join(cluster.base, name)


def shim(kill_at, group=False):
    preload = [SHIM]
    if os.environ.get("ASAN_OPTIONS"):
        preload.insert(0, subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip())
    if os.path.exists(path("steps")):
        os.remove(path("steps"))
    return dict({"LD_PRELOAD": ":".join(preload), "FAR_KILL_STEPS": path("steps"), "FAR_KILL_AT": str(kill_at)},
                **({"FAR_KILL_GROUP": "1"} if group else {}))


def steps():
    with open(path("steps"), encoding="ascii") as file:
        return [" ".join(line.split()) for line in file]


def rebuild(environment=None, name=NAME):
    """(status, output); killed: -9. In a process group of its own."""
    argv = [farlib.program("farshore"), "--server", ",".join("https://" + s.api for s in cluster.servers.values()), "--token-file",
            cluster.token_file, "--ca", cluster.ca_file, "server", "rebuild", name, "--dir", cluster.servers[NAME].dir]
    with open(path("rebuild.out"), "w+", encoding="utf-8") as out:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                                 env=dict(os.environ, TMPDIR=path("tmp"), **(environment or {})))
        status = child.wait(timeout=90 * farlib.SLOW)
        out.seek(0)
        return status, out.read()


def acknowledge():
    written.append("site-%d" % len(written))
    cluster.post("/v1/sites", {"name": written[-1], "role": "witness"})


def damage():
    """Both copies of its vote: it never speaks again under its id."""
    server = cluster.servers[NAME]
    server.kill()
    for vote in ("vote-a", "vote-b"):
        with open(os.path.join(server.dir, "wal", vote), "r+b") as file:
            file.seek(20)
            byte = file.read(1)[0]
            file.seek(20)
            file.write(bytes([byte ^ 1]))
    acknowledge()


def numbers():
    """Of the servers of that name which are not removed."""
    servers = cluster.get("/v1/servers?consistency=linearizable&limit=1000")["items"]
    return [server["id"] for server in servers if server["name"] == NAME and server["role"] != "removed"]


def ends_well(what):
    """It starts, votes, and has all that the others have; nobody else of its name is left."""
    server = cluster.servers[NAME]
    wrong = []
    if not server.alive():
        server.environment = {}
        server.start()
    farlib.until(lambda: cluster.voter(NAME), 60, "%s: server %s votes again" % (what, NAME))
    cluster.wait_whole_history()
    cluster.wait_same_heads()
    with open(os.path.join(server.dir, "config"), encoding="utf-8") as file:
        own = [int(line.split("=")[1]) for line in file if line.startswith("server_id")]
    if numbers() != own:
        wrong.append("%s: servers %r in the cluster, the folder is that of %r" % (what, numbers(), own))
    here = {site["name"] for site in cluster.get("/v1/sites?limit=1000", server=server)["items"]}
    if not set(written) <= here:
        wrong.append("%s: acknowledged and lost: %r" % (what, sorted(set(written) - here)))
    if os.listdir(path("tmp")):
        wrong.append("%s: left behind: %r" % (what, os.listdir(path("tmp"))))
    return wrong


def run_again(what):
    """After a kill. Whole but not started is the one other end: it says so."""
    status, text = rebuild()
    said = status == CONFLICT and "has joined and not run yet: start it with" in text
    return [] if status == 0 or said else ["%s: run again: %d %s" % (what, status, text)]


def stages():
    """The first step of each thing that it does, then others of the middle at random: places to kill before."""
    firsts = {}
    for number, step in enumerate(all_steps, 1):
        firsts.setdefault(step, number)
    last = len(all_steps)
    rest = [number for number in firsts.values() if number != last]
    return sorted(rng.sample(rest, min(KILLS, len(rest)))) + [last]


def killed_before_any_step_it_goes_on():
    damage()
    status, text = rebuild(shim(0, group=True))
    all_steps[:] = steps()
    wrong = [] if status == 0 else ["%d %s" % (status, text)]
    wrong += ends_well("not killed")
    for at in stages():
        damage()
        status, _ = rebuild(shim(at, group=True))
        what = "killed before step %d of %d (%s)" % (at, len(all_steps), steps()[-1])
        print("# " + what, flush=True)
        if status == 0 and len(steps()) < at:  # it asked the cluster less often this time
            print("# that step was not reached", flush=True)
        elif status != -signal.SIGKILL:
            return wrong + ["%s: it ended with %d" % (what, status)]
        else:
            wrong += run_again(what)
        status, text = rebuild()
        if status != CONFLICT or "has joined and not run yet: start it with" not in text:
            wrong.append("%s: run a third time: %d %s" % (what, status, text))
        wrong += ends_well(what)
    return wrong


def another_servers_name_takes_nobody_out():
    """Also not where a rebuild was interrupted."""
    damage()
    at = all_steps.index("rename config") + 1
    status, _ = rebuild(shim(at, group=True))
    wrong = [] if status == -signal.SIGKILL else ["it ended with %d" % status]
    status, text = rebuild(name="protected")
    if status == 0 or "that of server '%s'" % NAME not in text:
        wrong.append("%d %s" % (status, text))
    if cluster.get("/v1/servers/protected")["role"] != "voter":
        wrong.append("it was taken out")
    return wrong + run_again("behind it") + ends_well("behind it")


def fill(environment):
    """A new server in the place of a damaged one, started."""
    damage()
    status, text = rebuild()
    assert status == 0, text
    server = cluster.servers[NAME]
    server.environment = environment
    return server.start()


def is_filled(server):
    return cluster.voter(NAME) and cluster.request(server, "GET", "/v1/log/head")[2]["first_seq"] == 1


def step_count():
    return os.path.getsize(path("steps")) // 64 if os.path.exists(path("steps")) else 0


def places(last):
    """Evenly over its way."""
    return sorted(1 + int((n + rng.random()) * last / KILLS) for n in range(KILLS))


def killed_while_the_others_fill_it_the_new_server_goes_on():
    for n in range(200):
        acknowledge()
    server = fill(shim(0))
    farlib.until(lambda: is_filled(server), 60, "the new server is filled")
    last, wrong, whole = step_count(), ends_well("not killed"), 0
    for n, at in enumerate(places(last)):
        server = fill(shim(at))
        what = "the new server killed before step %d of %d" % (at, last)
        farlib.until(lambda: not server.alive(), 60, what)
        what += " (%s)" % steps()[-1]
        acknowledge()
        status, text = rebuild() if n % 2 else (0, "started again")
        print("# %s: %d %s" % (what, status, text.splitlines()[0][:160]), flush=True)
        if status != 0 and (status != CONFLICT or "start it" not in text):
            wrong.append("%s: run again: %d %s" % (what, status, text))
        wrong += ends_well(what)
    return wrong


def the_leader_killed_while_the_new_server_is_filled_ends_nothing():
    wrong = []
    for at in places(150):
        leader = cluster.wait_leader()
        if leader is cluster.servers[NAME]:
            cluster.post("/v1/cluster/transfer", {"to": "protected"})
            leader = farlib.until(lambda: [s for s in [cluster.leader()] if s and s.name == "protected"], 20, "protected leads")[0]
        server = fill(shim(0))
        farlib.until(lambda: step_count() >= at, 30, "it is that far")
        leader.kill()
        print("# leader %s killed when the new server had made %d steps" % (leader.name, step_count()), flush=True)
        leader.start()
        wrong += ends_well("leader killed at step %d" % at)
    return wrong


def every_store_is_right():
    cluster.verify_all_offline()
    return []


if __name__ == "__main__":
    rng = random.Random(farlib.seed_of_run())
    with farlib.Cluster(nodes=False) as cluster:
        os.mkdir(path("tmp"))
        cluster.wait_whole_history()
        tap.run_all([killed_before_any_step_it_goes_on, another_servers_name_takes_nobody_out,
                     killed_while_the_others_fill_it_the_new_server_goes_on,
                     the_leader_killed_while_the_new_server_is_filled_ends_nothing, every_store_is_right])
