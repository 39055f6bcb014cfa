#!/usr/bin/env python3
"""kill -9 of the node, or of a program that it started, before any step of a use of a point: the job ends well by itself, what it made is
right, and nothing is left: no process, socket, temporary file or note.

The uses are those of the log (enum point_use in src/fsm/events.def): one that has no entry in USES fails. The steps are what the programs do:
each name made, moved or removed in the node's folder of uses and in the folder of exports, each sync there, each program started
(tests/lib/kill_shim.c). FAR_KILLS=<n> kills each use so often (3, a fifth of that what needs a virtual machine), 0: before each step.

far-timeout: 400
"""
import os
import re
import shutil
import signal
import subprocess
import sys

import farlib
import tap

os.environ.update(FARSHORE_NBDKIT_PLUGIN=os.path.join(farlib.BUILD, ".libs/nbdkit-farshore-plugin.so"), LIBGUESTFS_BACKEND="direct",
                  LIBGUESTFS_BACKEND_SETTINGS="force_tcg", LIBGUESTFS_MEMSIZE="512")
SHIM = os.path.join(farlib.BUILD, "tests/lib/.libs/libkill.so")
KILLS = int(os.environ.get("FAR_KILLS", "3"))
CONTENT = os.urandom(50000)
cluster = exports = uses = None
checkpoints, copies = [], []
number = 0


# ---- processes and files ----

def groups():
    """Processes that are in a process group of their own whose parent is the node or is gone: {pid: name}."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name, encoding="ascii", errors="replace") as file, \
                    open("/proc/%s/cmdline" % name, "rb") as line:
                text, argv = file.read(), line.read()
        except OSError:
            continue
        if cluster.base.encode() in argv and text[text.rindex(")") + 2:].split()[0] not in "ZX":
            found[int(name)] = argv
    return found


def known():
    return {process.pid for process in cluster.processes() if process.process is not None} | {os.getpid()}


def remains():
    found = [name for name in os.listdir(exports) if name.startswith(".farshore") or name.endswith(".part")]
    found += [name for name in os.listdir(uses) if not name.endswith(".order")] if os.path.isdir(uses) else []
    return found + [argv.replace(b"\0", b" ")[:200] for pid, argv in groups().items() if pid not in known() and b"vault" in argv]


def left_over():
    try:
        farlib.until(lambda: revive() and not remains(), 30, "nothing is left")
        return []
    except farlib.Failure:
        return ["left: %r" % remains()]


def start_node(kill_at=0, steps="", **more):
    node = cluster.nodes["target"]
    if node.alive():
        node.kill()
    node.environment = dict(more, LD_PRELOAD=SHIM, FAR_KILL_STEPS=steps, FAR_KILL_AT=str(kill_at), FAR_KILL_UNDER="%s:%s" % (uses, exports)) \
        if steps else {}
    node.start()


def count(steps):
    return os.path.getsize(steps) // 64 if os.path.exists(steps) else 0


def revive():
    """Whoever was killed is started again: the node by us, a program by the node."""
    if not cluster.nodes["target"].alive():
        start_node()
    return True


def finish(job_id):
    def ended():
        job = revive() and cluster.job(job_id)
        return job["state"] != "running" and job
    return farlib.until(ended, 200, "job %d ends" % job_id)


def lines(steps):
    if not os.path.exists(steps):
        return []
    with open(steps, encoding="ascii", errors="replace") as file:
        return [" ".join(line.split()) for line in file]


# ---- the uses ----

def same(path, copy):
    return [] if farlib.same_bytes(path, copy) else ["'%s' is another disk" % path]


def served(job_id):
    def look():
        job = revive() and cluster.job(job_id)
        if job["state"] != "running":
            raise farlib.Ended("job %d ended as %s: %s" % (job_id, job["state"], job.get("error_message")))
        told = job.get("use_result")
        return told and told[0].get("uri")
    return farlib.until(look, 60, "job %d serves the disk" % job_id)


def copy_out(job_id):
    """Once it is served again: until the node says so, the log tells of where it was before."""
    target = os.path.join(cluster.base, "opened.raw")
    def copied():
        done = subprocess.run(["nbdcopy", served(job_id), target], capture_output=True, check=False)
        return done.returncode == 0
    farlib.until(copied, 60, "the disk is served")
    return same(target, copies[0])


def check_open(job_id, name):
    wrong = copy_out(job_id)
    cluster.post("/v1/jobs/%d/cancel" % job_id)
    return wrong + (["closed, it is not canceled"] if finish(job_id)["state"] != "canceled" else [])


def check_diff(job, name):
    with open(os.path.join(exports, name), encoding="ascii") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    with open(copies[0], "rb") as one, open(copies[1], "rb") as two:
        one, two = one.read(), two.read()
    expected = [at for at in range(0, len(one), farlib.BLOCK) if one[at:at + farlib.BLOCK] != two[at:at + farlib.BLOCK]]
    told = [at for offset, length in ranges for at in range(offset, offset + length, farlib.BLOCK)]
    return [] if told == expected and job["use_result"][0]["range_count"] == len(ranges) else ["it tells %r instead of %r" % (told, expected)]


def check_export(job, name):
    done = subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", copies[0], os.path.join(exports, name)], check=False)
    return [] if done.returncode == 0 else ["'%s' is another disk" % name]


def check_copy(job, name):
    point = cluster.get("/v1/checkpoints/%d" % checkpoints[0])["members"][0]["point_id"]
    target = os.path.join(cluster.base, name + ".raw")
    cluster.run_tool("farshore-node", "vault", "recover", "--vault", os.path.join(exports, name), "--point", str(point), "--disk", "disk0",
                     "--target", target)
    return same(target, copies[0])


def check_hydrate(job, name):
    wrong = same(os.path.join(exports, name), copies[0])
    wrong += ["it was proven by nobody: %r" % job["use_result"]] if job["use_result"][0].get("writes") else []
    return wrong + (["it is said not to be whole"] if os.path.exists(os.path.join(exports, name + ".hydrating")) else [])


def check_list(job, name):
    entries = job["use_result"][0]["entries"]
    return [] if "plain" in entries else ["entries: %r" % entries]


def check_get(job, name):
    with open(os.path.join(exports, name), "rb") as file:
        return [] if file.read() == CONTENT else ["another file came out"]


def body(**fields):
    return lambda name: {key: name if value == "NAME" else value for key, value in fields.items()}


def other():
    return checkpoints[1]


# operation -> what is asked for, what must be there then, does it need a virtual machine
USES = {
    "open": (body(), None, False),
    "export": (body(path="NAME", format="qcow2"), check_export, False),
    "diff": (lambda name: {"path": name, "other_checkpoint_id": other()}, check_diff, False),
    "copy": (body(path="NAME"), check_copy, False),
    "hydrate": (body(path="NAME", duration_s=1), check_hydrate, False),
    "list": (body(guest_path="/"), check_list, True),
    "get": (body(guest_path="/plain", path="NAME"), check_get, True),
}


def operations():
    """As the log knows them."""
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/fsm/events.def")
    with open(source, encoding="utf-8") as file:
        return re.findall(r"FAR_VALUE\(point_use, \d+, (\w+)\)", file.read())


def begin(operation, name):
    fields = USES[operation][0](name)
    return cluster.post("/v1/checkpoints/%d/%s" % (checkpoints[0], operation), fields)["id"]


def run_to_its_end(operation, job_id, name):
    if operation == "open":
        return check_open(job_id, name)
    job = finish(job_id)
    if job["state"] != "succeeded":
        return ["it ended as %s: %s" % (job["state"], job.get("error_message"))]
    return USES[operation][1](job, name)


def one_run(operation, kill_at):
    """(how many steps there were, what was wrong, before which step somebody was killed)"""
    global number
    number += 1
    name, steps = "%s-%d" % (operation, number), os.path.join(cluster.base, "steps-%d" % number)
    start_node(kill_at, steps)
    wrong = run_to_its_end(operation, begin(operation, name), name) + left_over()
    taken = lines(steps)
    where = taken[kill_at - 1] if 0 < kill_at <= len(taken) else "none"
    return len(taken), ["%s, killed before step %d (%s): %s" % (operation, kill_at, where, text) for text in wrong], where


def killed_before(operation):
    needs_machine = USES[operation][2]
    steps, wrong, _ = (40, [], "") if needs_machine and KILLS > 0 else one_run(operation, 0)
    wanted = max(1, KILLS // 5) if needs_machine else KILLS
    points = range(1, steps + 1) if KILLS == 0 else sorted({1 + (2 * i + 1) * steps // (2 * wanted) for i in range(wanted)})
    places = []
    for at in points:
        _, found, where = one_run(operation, at)
        places.append(where)
        wrong += found
    print("# %s: %d steps, killed before %s" % (operation, steps, ", ".join(places)))
    return wrong + ([] if set(places) != {"none"} else ["nobody was killed"])


def each_use_has_kill_points():
    found = operations()
    return [] if len(found) >= 7 and set(found) == set(USES) else ["uses of the log: %r; here: %r" % (found, sorted(USES))]


def an_end_that_the_log_never_heard_of_is_found_again():
    """The server stands still before the file can be whole; when it is, the node is killed: nobody can know of it."""
    node, server, wrong = cluster.nodes["target"], cluster.servers["protected"], []
    for operation in ("export", "diff", "hydrate"):
        name, steps = "unheard-" + operation, os.path.join(cluster.base, "steps-" + operation)
        path = os.path.join(exports, name)
        start_node(first_exec(operation), steps, FAR_KILL_STOPS="1")
        job_id = begin(operation, name)
        farlib.until(lambda: count(steps) >= first_exec(operation), 30, "the child is about to begin")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            for pid in children(node.pid):
                os.kill(pid, signal.SIGCONT)
            farlib.until(lambda: os.path.exists(path) and not os.path.exists(path + ".hydrating") and not children(node.pid) and
                         not [n for n in os.listdir(exports) if n.startswith(".farshore")], 60, "%s is whole" % path)
            node.kill()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        start_node()
        wrong += ["%s: %s" % (operation, text) for text in run_to_its_end(operation, job_id, name) + left_over()]
    return wrong


execs = {}


def first_exec(operation):
    """Which step that is."""
    if operation not in execs:
        steps = os.path.join(cluster.base, "steps-of-" + operation)
        start_node(0, steps)
        run_to_its_end(operation, begin(operation, "whole-" + operation), "whole-" + operation)
        execs[operation] = next(i for i, line in enumerate(lines(steps)) if line.startswith("exec")) + 1
        start_node()
    return execs[operation]


def children(pid):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % name, encoding="ascii", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        if text[text.rindex(")") + 2:].split()[1] == str(pid):
            found.append(int(name))
    return found


def has_guestfish():
    kernel = os.path.isdir("/boot") and any(name.startswith("vmlinuz-") for name in os.listdir("/boot"))
    return bool(shutil.which("guestfish") and (kernel or "SUPERMIN_KERNEL" in os.environ))


def test_of(operation):
    def test():
        return killed_before(operation)
    test.__name__ = "a_killed_%s_ends_well" % operation
    return test


def plain_build():
    with open(os.environ["FARSHORE_NBDKIT_PLUGIN"], "rb") as file:
        return b"__asan_init" not in (content := file.read()) and b"__tsan_init" not in content


def make_disk(path):
    folder = os.path.join(cluster.base, "files")
    os.makedirs(folder)
    with open(os.path.join(folder, "plain"), "wb") as file:
        file.write(CONTENT)
    with open(path, "wb") as file:
        file.truncate(16 << 20)
    mkfs = shutil.which("mkfs.ext4") or "/usr/sbin/mkfs.ext4"
    subprocess.run([mkfs, "-q", "-F", "-d", folder, path], check=True, stdin=subprocess.DEVNULL)


def main():
    global cluster, exports, uses
    seed = farlib.seed_of_run()
    if not plain_build():
        print("1..0 # SKIP the plugin has sanitizers in it")
        return
    with farlib.Cluster(nodes=False, servers=("protected",)) as cluster:
        exports = os.path.join(os.path.realpath(cluster.base), "exports")
        os.makedirs(exports)
        cluster.add_node("source", "protected")
        cluster.add_node("target", "recovery", settings={"export_dir": exports})
        uses = os.path.join(os.path.realpath(cluster.nodes["target"].dir), "uses")
        cluster.wait_nodes()
        image = os.path.join(cluster.base, "disk.img")
        make_disk(image)
        cluster.protect("vm", [image])
        for cycle in range(2):
            checkpoints.append(cluster.replicate()["checkpoint_id"])
            copies.append(os.path.join(cluster.base, "kept-%d.img" % cycle))
            shutil.copyfile(image, copies[cycle])
            farlib.change_image(image, 60, seed + cycle)
        tests = [each_use_has_kill_points, an_end_that_the_log_never_heard_of_is_found_again]
        tests += [test_of(operation) for operation in operations() if operation in USES and (has_guestfish() or not USES[operation][2])]
        wanted = sys.argv[1:]  # test_use_kill.py:export runs that alone
        tap.run_all([test for test in tests if not wanted or any(word in test.__name__ for word in wanted)])


if __name__ == "__main__":
    sys.exit(main())
