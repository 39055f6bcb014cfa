#!/usr/bin/env python3
"""The whole cluster as one file, made while it works, and a new cluster made of it.

far-timeout: 290
"""
import fcntl
import json
import os
import random
import shutil
import subprocess
import threading
import time

import farlib
import tap

SIZE = 8 * farlib.MIB
CUTS = int(os.environ.get("FAR_CUTS", 5))
INVALID, CONFLICT, DENIED, CORRUPT = 2, 4, 5, 12
SHIM = os.path.join(farlib.BUILD, "tests/lib/.libs/libpowercut.so")
TOOL = os.path.join(farlib.BUILD, "tests/lib/powercut")
cluster = seed = head = None


def path(name):
    return os.path.join(cluster.base, name)


def restore_argv(folder, backup="backup", key=None):
    new = ["127.0.0.1:%d" % port for port in cluster.restored]
    return ["--dir", folder, "--backup", path(backup), "--name", "new", "--api", new[0], "--peer", new[1],
            "--recovery-key", key or cluster.recovery_key]


def restore(folder, **options):
    return cluster.run_tool("farshored", "restore", *restore_argv(folder, **options), check=False, timeout=120)


def a_backup_under_load_is_consistent():
    global head
    cluster.restored = farlib.free_ports(2)
    farlib.make_image(path("a.img"), SIZE, seed)
    cluster.protect("vm", [path("a.img")])
    cluster.replicate()
    stop = threading.Event()
    written = []

    def load():
        while not stop.is_set():
            name = "load%d" % len(written)
            cluster.post("/v1/sites", {"name": name, "role": "recovery"})
            written.append(name)
    kept = cluster.get("/v1/cluster/backups", server=cluster.servers["protected"])
    plan = cluster.cli("cluster", "backup", "--out", path("backup"), "--dry-run")
    assert len(plan["steps"]) == 2 and not os.path.exists(path("backup")), plan
    text = cluster.cli("cluster", "backup", "--out", path("backup"), "--dry-run", as_json=False)
    assert text.count("nothing was done") == 1 and "These events" not in text, text
    for more in (["--dry-run"], []):  # seen before a server makes one
        status, text = cluster.cli("cluster", "backup", "--out", "/nodir/x", *more, check=False, as_json=False)
        assert status != 0 and "make file '/nodir/x'" in text, (status, text)
    assert cluster.get("/v1/cluster/backups", server=cluster.servers["protected"]) == kept
    thread = threading.Thread(target=load)
    thread.start()
    try:
        farlib.until(lambda: len(written) > 20, 30, "the load runs")
        made = cluster.cli("cluster", "backup", "--out", path("backup"))
        before = len(written)
        farlib.until(lambda: len(written) > before + 20, 30, "the load goes on")
    finally:
        stop.set()
        thread.join()
    assert os.path.getsize(path("backup")) == made["bytes"] and not os.path.exists(path("backup.part")), made
    status, text = cluster.cli("cluster", "backup", "--out", path("backup"), check=False)
    assert status == CONFLICT, text
    with open(path("twice.part"), "wb") as file:  # as if another one were at it
        file.write(b"its own")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        status, text = cluster.cli("cluster", "backup", "--out", path("twice"), check=False)
        assert status == CONFLICT and "another backup" in text and os.path.getsize(path("twice.part")) == 7, text
    cluster.cli("cluster", "backup", "--out", path("twice"))  # it was interrupted
    assert not os.path.exists(path("twice.part"))
    with open(path("backup"), "rb") as file:
        seq = int.from_bytes(file.read(80)[72:80], "little")
    head = cluster.get("/v1/log/head?at=%d" % seq)
    print("# %d bytes, entry %d, event %d, %d sites were made by then" % (made["bytes"], made["index"], seq, before))
    assert head["seq"] == seq, head


def a_damaged_or_cut_backup_or_a_wrong_key_leaves_nothing():
    with open(path("backup"), "rb") as file:
        whole = file.read()
    rng = random.Random(seed)
    for n in range(8):
        at = rng.randrange(len(whole))
        with open(path("bad"), "wb") as file:
            file.write(whole[:at] if n % 2 else whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1:])
        status, text = restore(path("nothing"), backup="bad")
        assert status in (CORRUPT, INVALID) and not os.path.exists(path("nothing")), (n, at, status, text)
    other = subprocess.run([farlib.program("farshored"), "init", "--dir", path("other"), "--cluster", "other", "--name", "s", "--api",
                            "127.0.0.1:1", "--peer", "127.0.0.1:2"], capture_output=True, text=True, check=True)
    cluster.other_key = key = other.stdout.split("recovery key: ")[1].split()[0]
    status, text = restore(path("nothing"), key=key)
    assert status != 0 and "does not open" in text and not os.path.exists(path("nothing")), text
    status, text = restore(path("other"))
    assert status == CONFLICT, text
    argv = [a if a != "new" else "no name" for a in restore_argv(path("nothing"))]
    status, text = cluster.run_tool("farshored", "restore", *argv, check=False)
    assert status == INVALID and not os.path.exists(path("nothing")), (status, text, os.path.exists(path("nothing")))
    os.makedirs(path("letters"))
    shutil.copyfile(cluster.ca_file, path("letters/mine"))
    status, text = restore(path("letters"))
    assert status == CONFLICT and "'mine'" in text and os.listdir(path("letters")) == ["mine"], text


def a_restore_that_is_interrupted_is_made_anew():
    os.makedirs(path("work/live"))
    os.makedirs(path("work/base"))
    preload = [SHIM]
    if os.environ.get("ASAN_OPTIONS"):
        preload.insert(0, subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip())
    shim = {"LD_PRELOAD": ":".join(preload), "FAR_POWERCUT_ROOT": path("work/live"), "FAR_POWERCUT_LOG": path("work/record"),
            "UV_USE_IO_URING": "0"}
    done = subprocess.run([farlib.program("farshored"), "restore", *restore_argv(path("work/live/new"))], capture_output=True,
                          text=True, env=dict(os.environ, **shim))
    assert done.returncode == 0, done.stderr
    records = int(subprocess.run([TOOL, "info", path("work/record")], capture_output=True, text=True,
                                 check=True).stdout.split("\n")[0].split()[1])
    rng = random.Random(seed)
    wrong = []
    for n, cut in enumerate(sorted(rng.sample(range(1, records), min(CUTS, records - 1)))):
        shutil.rmtree(path("work/out"), ignore_errors=True)
        argv = [TOOL, "build", path("work/record"), path("work/base"), path("work/out"), str(cut), str(seed + n)]
        subprocess.run(argv + (["keep-all"] if n % 2 else []), capture_output=True, check=True)
        folder = path("work/out/new")
        is_server = os.path.exists(os.path.join(folder, "config"))
        status, text = restore(folder)
        if status != (CONFLICT if is_server else 0):
            wrong.append("%s: status %d: %s" % (" ".join(argv), status, text))
        elif not is_server and os.path.exists(os.path.join(folder, "restore.unfinished")):
            wrong.append("%s: not finished" % " ".join(argv))
    print("# %d records" % records)
    shutil.rmtree(path("work"))
    return wrong


def the_restored_cluster_is_what_the_backup_was():
    for process in cluster.processes():
        process.stop()
    cluster.old, cluster.servers = cluster.servers, {}
    new = cluster.servers["new"] = farlib.Server(cluster, "new", *cluster.restored)
    status, told = cluster.run_tool("farshored", "restore", *restore_argv(new.dir), "--dry-run", check=False)
    assert status == 0 and "nothing was done" in told and not os.path.exists(new.dir), told
    for wrong, word in ((restore_argv(new.dir, key=cluster.other_key), "does not open"), (restore_argv(new.dir, backup="nope"), "nope"),
                        (restore_argv(path("letters")), "'mine'")):
        status, text = cluster.run_tool("farshored", "restore", *wrong, "--dry-run", check=False)
        assert status != 0 and word in text and not os.path.exists(new.dir), (status, text)
    assert os.listdir(path("letters")) == ["mine"]
    status, text = restore(new.dir)
    assert status == 0, text
    print("# " + text.replace("\n", "\n# "))
    cluster.follow = [word for word in text.split() if "@127" in word][-1]
    new.start()
    cluster.index = 0
    cluster.wait_leader()
    assert cluster.status(new)["cluster"]["incarnation_epoch"] == 2
    lines = cluster.request(new, "GET", "/v1/events?from=start&follow=false&format=ndjson")[2].splitlines()
    kinds = [frame["kind"] for frame in map(json.loads, lines) if "seq" in frame]
    came, wanted = kinds[len(kinds) - 1 - kinds[::-1].index("incarnation_begun"):], farlib.foretold(told)
    assert wanted[0] == "incarnation_begun" and came[:len(wanted)] == wanted, (wanted, came)
    again = cluster.get("/v1/log/head?at=%d" % head["seq"])
    assert (again["digest"], again["head"]) == (head["digest"], head["head"]), (again, head)
    roles = {(s["name"], s["role"]) for s in cluster.get("/v1/servers")["items"]}
    assert ("new", "voter") in roles and ("protected", "removed") in roles, roles
    new.stop()
    status, text = cluster.log_verify(new)
    assert status == 0, text
    new.start()
    cluster.wait_leader()
    with open(os.path.join(new.dir, "admin.token"), encoding="ascii") as file:
        assert cluster.request(new, "GET", "/v1/cluster", token=file.read().strip())[0] == 200


def its_credentials_sign_a_new_server():
    cluster.names = ("new",)
    cluster.add_server("second", site="recovery")


def a_node_follows_no_server_that_is_not_there():
    """The server is asked before anything is kept: another number, another key, another cluster, nobody."""
    node = cluster.nodes["source"]
    number, address = cluster.follow.split("@")
    address, _, key = address.partition("#")
    other = cluster.old["protected"]
    wrong = []
    with open(os.path.join(node.dir, "servers"), "rb") as file:
        before = file.read()
    for server, reason in (("%d@%s" % (int(number) + 1, address), "server:%s" % number), ("999999@" + address, "server:%s" % number),
                           ("%s@%s#%s" % (number, address, "00" * 32), "another key"), ("%s@%s" % (number, other.peer), "onnect"),
                           ("%s@%s" % (number, cluster.servers["new"].api), "no server " + number), ("0@" + address, "is no server"),
                           (address, "is no server"), ("%s@" % number, "is no server")):
        status, text = cluster.run_tool("farshore-node", "follow", "--dir", node.dir, "--server", server, check=False)
        if status == 0 or reason not in text:
            wrong.append("%s: %d %s" % (server, status, text))
    with open(os.path.join(node.dir, "servers"), "rb") as file:
        return wrong + ([] if file.read() == before else ["its list of servers was changed"])


def tail_from(path, offset):
    with open(path, encoding="utf-8", errors="replace") as file:
        file.seek(offset)
        return file.read()


def nodes_are_taken_along():
    for node in cluster.nodes.values():
        _, text = cluster.run_tool("farshore-node", "follow", "--dir", node.dir, "--server", cluster.follow)
        assert "will ask server " + cluster.follow in text, text
        before = os.path.getsize(node.log)
        node.start()
        # The state is that of the backup, in which the nodes were connected: they themselves know better.
        farlib.until(lambda log=node.log, at=before: "connected to server" in tail_from(log, at), 60, "%s to connect" % node.name)
    cluster.wait_nodes()
    farlib.change_image(path("a.img"), 3, seed + 1)
    cluster.replicate()
    cluster.recover("vm", [path("a.out")])
    assert farlib.same_bytes(path("a.img"), path("a.out"))
    status, text = cluster.run_tool("farshore-node", "follow", "--dir", cluster.nodes["source"].dir, "--server", "x", check=False)
    assert status == INVALID, text
    status, text = cluster.run_tool("farshore-node", "follow", "--dir", cluster.nodes["source"].dir, "--server", cluster.follow,
                                    check=False)
    assert status == CONFLICT and "stop it first" in text, text


def servers_of_the_old_cluster_are_fenced():
    for server in cluster.old.values():
        server.start()
    for server in cluster.old.values():
        farlib.until(lambda s=server: s.process.poll() is not None, 40, "%s stops" % server.name)
        assert server.process.returncode == DENIED
        server.process = None


def configure(server, command, interval_s=1):
    wanted = {"backup_interval_s": str(interval_s), "backup_keep": "2", "backup_folder": path("elsewhere"), "backup_command": command}
    with open(os.path.join(server.dir, "config"), encoding="ascii") as file:
        rest = [line for line in file if line.split("=")[0].strip() not in wanted]
    with open(os.path.join(server.dir, "config"), "w", encoding="ascii") as file:
        file.writelines(rest + ["%s = %s\n" % item for item in wanted.items()])


def a_command_that_hangs_does_not_keep_the_server_from_stopping():
    server = cluster.servers["second"]
    configure(server, "touch %s; exec tail -f /dev/null" % path("hangs"))
    server.start()
    farlib.until(lambda: os.path.exists(path("hangs")), 40, "the command runs")
    assert server.stop() == 0


def daily_ones_are_kept_and_carried_elsewhere():
    server = cluster.servers["second"]
    server.stop()
    os.makedirs(path("elsewhere"))
    with open(os.path.join(server.dir, "backups", "new.part"), "wb") as file:
        file.write(b"half of one")
    configure(server, "cp $FARSHORE_BACKUP " + path("carried"))
    server.start()
    farlib.until(lambda: len(os.listdir(path("elsewhere"))) > 3, 40, "four backups are carried elsewhere")
    server.stop()
    kept = [n for n in os.listdir(os.path.join(server.dir, "backups"))]
    assert len(kept) == 2 and all(n.endswith(".farbackup") for n in kept), kept
    assert not [n for n in os.listdir(path("elsewhere")) if n.endswith(".part")]
    shutil.copyfile(path("carried"), path("backup2"))
    status, text = restore(path("third"), backup="backup2")
    assert status == 0 and "incarnation 3" in text, text


def a_clock_that_jumped_makes_no_flood_of_backups_and_costs_no_good_one():
    """The newest is dated 40 days from now: one more becomes due, not one a look, and the newest of the log are those that stay."""
    server = cluster.servers["second"]
    server.stop()
    shutil.rmtree(path("elsewhere"))
    os.makedirs(path("elsewhere"))
    future_ms = 40 * 24 * 3600 * 1000

    def jump(offset):
        with open(path("clock.new"), "w", encoding="ascii") as file:
            file.write("%d\n" % offset)
        os.rename(path("clock.new"), path("clock"))

    def made(future):
        """When, ms; the future ones apart."""
        now = int(time.time() * 1000) + future_ms // 2
        names = [n for n in os.listdir(path("elsewhere")) if n.endswith(".farbackup")]
        return sorted(ms for ms in (int(n.split("-")[0]) for n in names) if (ms > now) == future)
    configure(server, "true", interval_s=3)
    preload = [os.path.join(farlib.BUILD, "tests/lib/.libs/libclock.so")]
    if os.environ.get("ASAN_OPTIONS"):
        preload.insert(0, subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip())
    server.environment = {"LD_PRELOAD": ":".join(preload), "FAR_CLOCK_OFFSET_FILE": path("clock")}
    jump(future_ms)
    server.start()
    farlib.until(lambda: made(True), 40, "a backup is dated in the future")
    jump(0)
    farlib.until(lambda: len(made(False)) > 2, 60, "three are made after the clock came back")
    server.stop()
    server.start()  # now the wall clock is asked how old the newest is
    farlib.until(lambda: len(made(False)) > 4, 60, "two more are made")
    server.stop()
    server.environment = {}
    times = made(False)
    gaps = [b - a for a, b in zip(times, times[1:])]
    kept = os.listdir(os.path.join(server.dir, "backups"))
    print("# gaps %r, %d dated in the future" % (gaps, len(made(True))))
    assert min(gaps) >= 2900, gaps
    assert sorted(int(n.split("-")[0]) for n in kept) == times[-2:], (kept, times)


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    with farlib.Cluster(lease_ms=4000) as cluster:
        tap.run_all([a_backup_under_load_is_consistent, a_damaged_or_cut_backup_or_a_wrong_key_leaves_nothing,
                     a_restore_that_is_interrupted_is_made_anew, the_restored_cluster_is_what_the_backup_was,
                     its_credentials_sign_a_new_server, a_node_follows_no_server_that_is_not_there, nodes_are_taken_along, servers_of_the_old_cluster_are_fenced,
                     daily_ones_are_kept_and_carried_elsewhere,
                     a_clock_that_jumped_makes_no_flood_of_backups_and_costs_no_good_one,
                     a_command_that_hangs_does_not_keep_the_server_from_stopping])
