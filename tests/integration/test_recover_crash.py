#!/usr/bin/env python3
"""A forced recovery that is interrupted anywhere, and one that is made at two places at once.

The tool runs under the power-cut shim; at cut points all over its record the folder is rebuilt as a disk may hold it. The old
server starts then, or the recovery is finished by running it again: never something between.

far-timeout: 280
"""
import base64
import hashlib
import os
import random
import re
import shutil
import subprocess

import farlib
import tap

CUTS = int(os.environ.get("FAR_CUTS", 8))
CONFLICT, DENIED = 4, 5
NOBODY = "127.0.0.1:1"
SHIM = os.path.join(farlib.BUILD, "tests/lib/.libs/libpowercut.so")
TOOL = os.path.join(farlib.BUILD, "tests/lib/powercut")
cluster = seed = None


def path(name):
    return os.path.join(cluster.base, name)


def recover(folder, environment=None):
    argv = [farlib.program("farshored"), "recover-quorum", "--dir", folder, "--token", "@" + cluster.token_file, "--confirm", "test"]
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60 * farlib.SLOW,
                          env=dict(os.environ, **(environment or {})))
    return done.returncode, done.stdout + done.stderr


def shim():
    preload = [SHIM]
    if os.environ.get("ASAN_OPTIONS"):
        preload.insert(0, subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip())
    return {"LD_PRELOAD": ":".join(preload), "FAR_POWERCUT_ROOT": path("live"), "FAR_POWERCUT_LOG": path("record"),
            "UV_USE_IO_URING": "0"}


def build(cut, cut_seed, mode):
    shutil.rmtree(path("out"), ignore_errors=True)
    argv = [TOOL, "build", path("record"), path("base"), path("out"), str(cut), str(cut_seed)] + mode
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise farlib.Failure("%s: %s" % (" ".join(argv), done.stderr))
    return " ".join(argv)


def what_it_is(server):
    """How a rebuilt folder starts: its epoch, or 0 when it refuses and says that the recovery is to be finished."""
    server.start()

    def started():
        if server.process.poll() is not None:
            with open(server.log, encoding="utf-8", errors="replace") as file:
                last = file.read().splitlines()[-1]
            if server.process.returncode != CONFLICT or "did not finish" not in last:
                raise farlib.Ended("status %d: %s" % (server.process.returncode, last))
            return -1
        return cluster.request(server, "GET", "/v1/cluster", timeout=3)[2]["cluster"]["incarnation_epoch"]
    epoch = farlib.until(started, 20, "the rebuilt server starts or refuses")
    server.kill()
    return max(epoch, 0)


def the_tool_runs_under_the_shim():
    cluster.post("/v1/sites", {"name": "before", "role": "recovery"})
    cluster.old_id = cluster.get("/v1/servers/recovery")["id"]
    cluster.wait_same_heads()
    cluster.servers["protected"].kill()
    survivor = cluster.servers["recovery"]
    survivor.stop()
    shutil.copytree(survivor.dir, path("live"))
    shutil.copytree(path("live"), path("base"))
    status, text = recover(path("live"), shim())
    assert status == 0, text


def one_cut(server, cut, cut_seed, mode):
    line = build(cut, cut_seed, mode)
    epoch = what_it_is(server)
    has_new = os.path.exists(os.path.join(path("out"), "incarnation"))
    if epoch != (1 if not has_new else epoch) or epoch > 2 or (has_new and epoch == 1):
        return epoch, ["%s: starts as incarnation %d, the file is %s" % (line, epoch, "there" if has_new else "not there")]
    status, text = recover(path("out"))
    finished = status == CONFLICT and "incarnation 2" in text and "that is a quorum" in text  # it was in the log already
    if status != 0 and not (has_new and finished):
        return epoch, ["%s: run again: status %d: %s" % (line, status, text[-300:])]
    server.start()
    try:
        cluster.index = 0
        farlib.until(lambda: cluster.request(server, "GET", "/v1/cluster", timeout=3)[2]["server"]["is_leader"], 20, "it leads")
        names = {s["name"] for s in cluster.get("/v1/sites?consistency=linearizable", server=server)["items"]}
        epochs = cluster.status(server)["cluster"]["incarnation_epoch"]
        return epoch, [] if "before" in names and epochs == 2 else ["%s: %r, incarnation %d" % (line, names, epochs)]
    finally:
        server.kill()


def after_any_cut_it_is_the_old_one_or_can_be_finished():
    records = int(subprocess.run([TOOL, "info", path("record")], capture_output=True, text=True,
                                 check=True).stdout.split("\n")[0].split()[1])
    rng = random.Random(seed)
    survivor = cluster.servers["recovery"]
    own, survivor.dir, survivor.argv[-1] = survivor.dir, path("out"), path("out")
    wrong, seen = [], {0: 0, 1: 0, 2: 0}
    # Half of them killed (nothing that was written is lost), half without power; the last ones behind the end.
    points = sorted(rng.sample(range(records), min(CUTS - 1, records))) + [records]
    for n, cut in enumerate(points):
        epoch, found = one_cut(survivor, cut, seed + n, ["keep-all"] if n % 2 else [])
        seen[epoch] += 1
        wrong += found
    print("# %d records; started as the old one %d times, to be finished %d times, as the new one %d times" % (
        records, seen[1], seen[0], seen[2]))
    survivor.dir, survivor.argv[-1] = own, own
    shutil.rmtree(path("out"))
    return wrong + ([] if seen[2] else ["no cut was behind the end"])


def recovered_at_two_places_at_once_both_stop_until_one_is_chosen():
    """Two operators, each sure that the other site is gone; then the link is back."""
    first, second = cluster.servers["protected"], cluster.servers["recovery"]
    for server in (first, second):
        status, text = recover(server.dir)
        assert status == 0, text
    first.start()
    farlib.until(lambda: cluster.request(first, "GET", "/v1/cluster", timeout=3)[2]["server"]["is_leader"], 20, "one leads")
    cluster.index = 0
    cluster.post("/v1/sites", {"name": "mine", "role": "recovery"}, server=first)
    second.start()
    for server in (first, second):
        farlib.until(lambda s=server: s.process.poll() is not None, 30, "%s stops" % server.name)
        assert server.process.returncode == DENIED
        with open(server.log, encoding="utf-8", errors="replace") as file:
            assert "recovered at two places" in file.read()
        server.process = None
        status, text = cluster.run_tool("farshored", "run", "--dir", server.dir, check=False)
        assert status == DENIED and "recovered at two places" in text, text
    status, text = recover(first.dir)
    assert status == 0 and "in incarnation 3" in text, text
    first.start()
    os.unlink(os.path.join(second.dir, "contested"))  # even if somebody forces it to start
    second.start()
    farlib.until(lambda: second.process.poll() is not None, 30, "the other one stops again")
    assert second.process.returncode == DENIED and os.path.exists(os.path.join(second.dir, "fenced"))
    second.process = None
    farlib.until(lambda: cluster.request(first, "GET", "/v1/sites/mine", timeout=3)[0] == 200, 20, "the chosen one serves")
    assert re.search("incarnation 3 .* fenced", open(second.log, encoding="utf-8", errors="replace").read())


def files_of(folder):
    """What there is, wherever it lies, but for what a rejoin makes and what stays."""
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            inside = os.path.relpath(os.path.join(where, name), folder)
            inside = inside.split("/", 2)[2] if inside.startswith("divergent/") else inside
            if inside not in ("rejoin", "reserve", "ready", "state/lock.mdb") and not inside.startswith("backups/"):
                with open(os.path.join(where, name), "rb") as file:
                    found[inside] = file.read()
    return found


def token_of_nobody():
    """Well made, but where it leads nobody listens."""
    raw = bytes(1 + 32 + 32) + bytes([1, len(NOBODY)]) + NOBODY.encode()
    return base64.urlsafe_b64encode(raw + hashlib.sha256(raw).digest()[:4]).decode().rstrip("=")


def a_rejoin_that_is_interrupted_loses_nothing_of_the_old_server():
    """With a token of nobody, so that only the moves happen; then they are cut, and made again."""
    server = cluster.servers["recovery"]
    for name in ("live", "base", "out"):
        shutil.rmtree(path(name), ignore_errors=True)
    os.unlink(path("record"))
    shutil.copytree(server.dir, path("live"), ignore=shutil.ignore_patterns("reserve"))
    shutil.copytree(path("live"), path("base"))
    whole = files_of(path("base"))
    argv = [farlib.program("farshored"), "rejoin", "--dir", "--token", token_of_nobody()]

    def rejoin(folder, environment=None):
        return subprocess.run(argv[:3] + [folder] + argv[3:], capture_output=True, text=True,
                              env=dict(os.environ, **(environment or {})))
    done = rejoin(path("live"), shim())
    assert done.returncode != 0 and NOBODY in done.stderr, done.stderr
    assert os.path.exists(path("live/divergent/2-%d/config" % cluster.old_id)), os.listdir(path("live"))
    records = int(subprocess.run([TOOL, "info", path("record")], capture_output=True, text=True,
                                 check=True).stdout.split("\n")[0].split()[1])
    wrong = []
    for cut in sorted(random.Random(seed).sample(range(records + 1), min(2 * CUTS, records + 1))):
        line = build(cut, seed + cut, ["keep-all"] if cut % 2 else [])
        done = rejoin(path("out"))
        left = files_of(path("out"))
        if NOBODY not in done.stderr or left != whole or os.path.exists(path("out/config")):
            wrong.append("%s: %s; missing %r" % (line, done.stderr.strip()[-200:], sorted(set(whole) ^ set(left))))
    print("# %d records" % records)
    return wrong


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    with farlib.Cluster(servers=farlib.SERVERS[:2], nodes=False) as cluster:
        tap.run_all([the_tool_runs_under_the_shim, after_any_cut_it_is_the_old_one_or_can_be_finished,
                     recovered_at_two_places_at_once_both_stop_until_one_is_chosen,
                     a_rejoin_that_is_interrupted_loses_nothing_of_the_old_server])
