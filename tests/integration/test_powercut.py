#!/usr/bin/env python3
"""Power cuts of the real programs: what was acknowledged before the cut is there after it, whatever of the rest is lost.

  test_powercut.py single|three|vault|reclaim|copy|store [cut points]

A shim records every operation of the real program on its folder (tests/lib/powercut_log.h) while a client writes and the
process is killed and started again in between; each acknowledgement is marked in the same record. Then, for each cut point,
the folder is rebuilt as a disk may hold it, opened by the real program, and asked. `three`: three servers lose power at the
same moment. `store`: a vault on an object store, which keeps what it had at that moment; the points are looked for in a folder that is
attached anew, too.

far-timeout: 290
"""
import contextlib
import os
import random
import shutil
import struct
import subprocess
import sys

import farlib
import s3fake
import tap

kind = sys.argv[1] if len(sys.argv) > 1 else "single"
DEFAULT_CUTS = {"single": 120, "three": 20, "vault": 240, "reclaim": 60, "copy": 16, "store": 20}
total = sum(DEFAULT_CUTS.values())
cuts = int(sys.argv[2]) if len(sys.argv) > 2 else max(1, int(os.environ.get("FAR_CUTS", total)) * DEFAULT_CUTS[kind] // total)
SHIM = os.path.join(farlib.BUILD, "tests/lib/.libs/libpowercut.so")
TOOL = os.path.join(farlib.BUILD, "tests/lib/powercut")
DRIVER = os.path.join(farlib.BUILD, "tests/lib/vault_driver")
NODE = os.path.join(farlib.BUILD, "src/node/farshore-node")
MAGIC, MARK = 0x74756370, 11
seed = base = live = log = cluster = store = store_config = None


def shim(root):
    preload = [SHIM]
    if os.environ.get("ASAN_OPTIONS"):
        preload.insert(0, subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip())
    return {"LD_PRELOAD": ":".join(preload), "FAR_POWERCUT_ROOT": root, "FAR_POWERCUT_LOG": log, "UV_USE_IO_URING": "0"}


def mark(text):
    data = text.encode()
    with open(log, "ab", buffering=0) as file:
        file.write(struct.pack("<IIQQQIIII", MAGIC, MARK, 0, 0, 0, 0, 0, 0, len(data)) + data)


def build(out, cut, cut_seed, mode=None):
    """Rebuilds the folder; returns the marks before the cut and the tool's first line."""
    shutil.rmtree(out, ignore_errors=True)
    argv = [TOOL, "build", log, base, out, str(cut), str(cut_seed)] + ([mode] if mode else [])
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode != 0:
        raise farlib.Failure("%s: %s" % (" ".join(argv), done.stderr))
    lines = done.stdout.splitlines()
    return [line.split(" ", 2)[2] for line in lines[1:]], lines[0]


def records_and_marks():
    lines = subprocess.run([TOOL, "info", log], capture_output=True, text=True, check=True).stdout.splitlines()
    return int(lines[0].split()[1]), [int(line.split()[1]) for line in lines[1:]]


def cut_points():
    """Half of them anywhere, half just after an acknowledgement, where a loss would show."""
    rng = random.Random(seed)
    records, marks = records_and_marks()
    print("# %d records, %d acknowledgements, %d cut points" % (records, len(marks), cuts))
    return [(rng.choice(marks) + 1 + rng.randrange(4) if n % 2 and marks else rng.randrange(records + 1), seed + n)
            for n in range(cuts)]


def content(path):
    """Of a file; of `safe` without the words that are written through shared memory, which no shim sees (docs/FORMATS.md)."""
    with open(path, "rb") as file:
        data = file.read()
    return data[:8] + data[16:64] if os.path.basename(path) == "safe" else data


def the_record_is_complete():
    """Without a cut the rebuilt folder is the live one, byte for byte: the shim missed nothing."""
    out = os.path.join(os.path.dirname(base), "whole")
    build(out, "end", 1, "keep-all")
    wrong = []
    for folder, _, names in os.walk(live):
        for name in names:
            one = os.path.join(folder, name)
            two = out + one[len(live):]
            if name == "lock.mdb":
                continue  # LMDB's reader table: memory, not data
            if not os.path.exists(two) or content(one) != content(two):
                wrong.append("%s differs" % one[len(live):])
    shutil.rmtree(out)
    return wrong


# ---- servers ----

def server_dirs():
    return [os.path.basename(s.dir) for s in cluster.servers.values()]


def prepare_servers():
    """A cluster that runs, is stopped, and goes on under the shim; fills the record."""
    global base, live, log
    cluster.post("/v1/sites", {"name": "before", "role": "recovery"})
    for server in cluster.servers.values():
        server.stop()
    work = os.path.join(cluster.base, "cut")
    live, base, log = os.path.join(work, "live"), os.path.join(work, "base"), os.path.join(work, "record")
    os.makedirs(live)
    for server in cluster.servers.values():
        moved = os.path.join(live, os.path.basename(server.dir))
        shutil.copytree(server.dir, moved)
        server.dir, server.argv[-1] = moved, moved
        seal_soon(moved)
        server.environment = shim(live)
    shutil.copytree(live, base)


def seal_soon(folder):
    """So that events are sealed, and their rows removed, all the time."""
    path = os.path.join(folder, "config")
    with open(path, encoding="ascii") as file:
        lines = [line for line in file if not line.startswith(("events_max", "segment_events"))]
    with open(path, "w", encoding="ascii") as file:
        file.writelines(lines + ["events_max = 30\n", "segment_events = 15\n"])


def sealed(server):
    with contextlib.suppress(FileNotFoundError):
        return any(name.endswith(".seg") for name in os.listdir(os.path.join(server.dir, "state", "segments")))
    return False


def write_some(first, count):
    for n in range(first, first + count):
        cluster.post("/v1/sites", {"name": "s%d" % n, "role": "recovery"})
        mark("s%d" % n)


def the_servers_run_and_are_killed_under_the_shim():
    prepare_servers()
    count = 60 if kind == "single" else 30
    for half in range(2):
        for server in cluster.servers.values():
            server.start()
        cluster.wait_leader(30)
        write_some(half * count, count)
        for server in cluster.servers.values():
            farlib.until(lambda s=server: sealed(s), 20, "events are sealed")
        for server in cluster.servers.values():
            server.kill()
        for server in cluster.servers.values():
            server.environment = shim(live)


def point_servers_at(folder):
    for server in cluster.servers.values():
        server.dir = server.argv[-1] = os.path.join(folder, os.path.basename(server.dir))
        server.environment = {}


def open_and_ask(out, marks):
    """Starts the servers on the rebuilt folders; returns what is wrong."""
    cluster.index = 0  # the cut took the later ones back
    point_servers_at(out)
    try:
        for server in cluster.servers.values():
            server.start()
        cluster.wait_leader(30)
        there = {item["name"] for item in cluster.get("/v1/sites?limit=1000&consistency=linearizable")["items"]}
        return ["acknowledged and lost: " + name for name in ["before"] + marks if name not in there]
    finally:
        for server in cluster.servers.values():
            server.kill()


def walk(out):
    wrong = []
    for server in cluster.servers.values():
        status, text = cluster.log_verify(server)
        wrong += [] if status == 0 else ["log-verify of %s: %s" % (server.name, text.strip())]
    return wrong


def everything_acknowledged_is_there_after_every_cut():
    out = os.path.join(os.path.dirname(base), "out")
    wrong = []
    for cut, cut_seed in cut_points():
        marks, first_line = build(out, cut, cut_seed)
        try:
            found = open_and_ask(out, marks) + walk(out)
        except farlib.Failure as failure:
            found = ["does not open: %s" % failure] + [line for s in cluster.servers.values() for line in tail(s.log)]
        if found:
            wrong += ["%s: %s" % (first_line, f) for f in found[:12]]
        if len(wrong) > 40:
            break
    shutil.rmtree(out, ignore_errors=True)
    return wrong


def tail(path, lines=4):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()[-lines:]


# ---- the vault ----

def bind_to_store(work):
    """A vault that has something is bound; from then on every change of the store is a mark in the record."""
    global store, store_config
    store = s3fake.Store()
    store_config = store.config_file(work, keep_bytes=1)
    subprocess.run([DRIVER, "write", live, str(seed - 1)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([NODE, "vault", "bind", "--vault", live, "--store", store_config], check=True, stdout=subprocess.DEVNULL)
    store.on_change = lambda count: mark("store %d" % count)
    mark("store %d" % len(store.changes))


def elsewhere(marks, out):
    """What whoever attaches the vault finds in the store as it was then."""
    fresh = out + "-fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    counts = [int(line.split()[1]) for line in marks if line.startswith("store ")]
    store.set_back(counts[-1] if counts else 0)
    if not counts:
        return ["a cut before the store had anything"]
    done = subprocess.run([NODE, "vault", "attach", "--vault", fresh, "--store", store_config, "--read-only"], capture_output=True, text=True)
    if done.returncode == 0:
        done = subprocess.run([DRIVER, "look", fresh], input="".join(m + "\n" for m in marks), capture_output=True, text=True)
    shutil.rmtree(fresh, ignore_errors=True)
    return [] if done.returncode == 0 else ["elsewhere: " + (done.stdout + done.stderr).strip()[-300:]]


def the_vault_is_written_under_the_shim():
    global base, live, log
    work = os.path.join(os.environ.get("TMPDIR", "/tmp"), "cut")
    live, base, log = os.path.join(work, "live"), os.path.join(work, "base"), os.path.join(work, "record")
    os.makedirs(live)
    if kind == "store":
        bind_to_store(work)
        shutil.copytree(live, base)
    else:
        os.makedirs(base)
    for part in range(2 if kind in ("vault", "store") else 3):
        environment = dict(os.environ, FAR_POWERCUT_MARK_FD="1", **shim(live))
        verb = {"vault": "write", "store": "reclaim"}.get(kind, kind)
        source = [os.path.join(work, "source")] if kind == "copy" else []
        done = subprocess.run([DRIVER, verb, live, str(seed + part), *source], env=environment, stdout=subprocess.PIPE)
        if done.returncode != 0:
            return ["the driver ended with status %d" % done.returncode]
    return []


def the_vault_holds_what_it_acknowledged_after_every_cut():
    out = os.path.join(os.path.dirname(base), "out")
    wrong = []
    for cut, cut_seed in cut_points():
        marks, first_line = build(out, cut, cut_seed)
        wrong += ["%s: %s" % (first_line, line) for line in (elsewhere(marks, out) if kind == "store" else [])]
        done = subprocess.run([DRIVER, "check", out], input="".join(m + "\n" for m in marks), capture_output=True, text=True)
        if done.returncode == 0 and kind == "copy":
            done = subprocess.run([DRIVER, "again", out, os.path.join(os.path.dirname(base), "source")], capture_output=True, text=True)
        if done.returncode != 0:
            wrong.append("%s: %s" % (first_line, (done.stdout + done.stderr).strip()[-300:]))
        if len(wrong) > 20:
            break
    shutil.rmtree(out, ignore_errors=True)
    return wrong


def main():
    global seed, cluster
    seed = farlib.seed_of_run()
    if kind in ("vault", "reclaim", "copy", "store"):
        tap.run_all([the_vault_is_written_under_the_shim, the_record_is_complete,
                     the_vault_holds_what_it_acknowledged_after_every_cut])
    names = farlib.SERVERS if kind == "three" else farlib.SERVERS[:1]
    with farlib.Cluster(servers=names, nodes=False) as cluster:
        tap.run_all([the_servers_run_and_are_killed_under_the_shim, the_record_is_complete,
                     everything_acknowledged_is_there_after_every_cut])


if __name__ == "__main__":
    main()
