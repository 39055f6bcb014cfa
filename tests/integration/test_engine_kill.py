#!/usr/bin/env python3
"""Random kill -9 and cuts of connections in chosen phases of cycles that never stop, on disks that never stop changing: every point
that was ever announced is, byte for byte, the view that its cycle froze.

Three servers, two source nodes, two target nodes; five disks of four workloads in two plans lie on an XFS that is mounted for the test,
so a view is a reflink clone and cycles go by lists of changes. One thread writes to the disks. A watcher clones each view again as soon
as it is there: the independent copy. The events say which view became which point (the token of the point, and what the freeze
reported). For each point, as it comes, a checker recovers every disk from the vault's folder alone, also when its node was just
killed, and compares. At the end the newest points are read once more, now by the product's own recovery.

A round waits for a phase (freeze, a share of a send, the end of a receive, seal, release, no cycle), then strikes: a source or a target
node (mostly the one that has the task), leader, follower, two of them, all servers, everything, a process that stands still for a while
(SIGSTOP), or the connections between nodes, or those to and between servers. What was killed comes back after a random while, also one
longer than a lease.

FAR_ROUNDS is how many, FAR_SEED what is chosen (what the processes make of it is theirs), FAR_SCALE makes the disks so many times larger.
Needs root.

far-timeout: 280
"""
import collections
import contextlib
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import farlib
import tap
import watchlib

MIB, BLOCK = farlib.MIB, farlib.BLOCK
ROUNDS = int(os.environ.get("FAR_ROUNDS") or 6)
SCALE = int(os.environ.get("FAR_SCALE") or 1)
LEASE_MS = 4000
BACKLOG = 60  # points that wait for the checker, before rounds wait for it
CLONE_NEWNS = 0x00020000
PUNCH = 3  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE
PLANS = ("one", "two")
PHASES = ("freeze", "send", "send", "receive", "seal", "release", "between")
VICTIMS = {"source": 20, "target": 20, "leader": 10, "follower": 8, "two at once": 8, "all servers": 4, "everything": 4, "stall": 6,
           "cut data": 15, "cut servers": 5}
WORKLOADS = {  # name: adapter, sizes of its disks, plan. Late reads make transfers long enough to be hit
    "quick": ("file", (SCALE * 12 * MIB,), "one"),
    "pair": ("file", (SCALE * 6 * MIB + 5 * 4096, 3 * MIB + 512), "one"),
    "slow": ("fault:file?rd=50000", (SCALE * 16 * MIB,), "one"),
    "slower": ("fault:file?rd=120000", (SCALE * 10 * MIB,), "two"),
}
libc = ctypes.CDLL(None, use_errno=True)
cluster = seed = cycles = checker = None
helpers = []


def path(*names):
    return os.path.join(cluster.base, *names)


def images_of(workload):
    return [path("xfs", "%s-%d.img" % (workload, disk)) for disk in range(len(WORKLOADS[workload][1]))]


# ---- what disturbs them ----

def change_one(rng, images):
    name = rng.choice(images)
    size = os.path.getsize(name)
    kind = rng.choice(("scatter", "scatter", "pages", "burst", "hole", "zero", "append"))
    with open(name, "r+b") as file:
        if kind == "hole":
            start, length = rng.randrange(size), rng.randrange(1, MIB)
            libc.fallocate(file.fileno(), PUNCH, ctypes.c_long(start), ctypes.c_long(length))
        elif kind == "append":  # the last bytes of the disk, which end in the middle of a block
            file.seek(size - rng.randrange(1, 4096))
            file.write(rng.randbytes(1))
        else:
            count, most = {"scatter": (24, 9000), "pages": (40, 512), "burst": (1, SCALE * 3 * MIB // 2), "zero": (4, BLOCK)}[kind]
            for _ in range(rng.randrange(1, count + 1)):
                length = min(rng.randrange(1, most + 1), size)
                file.seek(rng.randrange(size - length + 1))
                file.write(bytes(length) if kind == "zero" else rng.randbytes(length))


def write_all_the_time(over):
    rng = random.Random(seed + 1)
    images = [image for name in WORKLOADS for image in images_of(name)]
    while not over.is_set():
        for _ in range(rng.choice((0, 1, 3, 8))):
            change_one(rng, images)
        over.wait(rng.choice((0, 0.05, 0.2, 0.2, 0.5, 1.5)))


# ---- rounds ----

def name_of(phase, share):
    """As it is counted."""
    if phase == "send":
        return "send, %s" % ("first third", "second third", "last third")[int(share * 3)]
    return {"receive": "receive, near its end", "between": "between cycles"}.get(phase, phase)


class Rounds:
    def __init__(self, rng):
        self.rng, self.phases, self.victims, self.both = rng, collections.Counter(), collections.Counter(), collections.Counter()
        self.deck = []
        self.names = {cluster.get("/v1/nodes/" + name)["id"]: name for name in cluster.nodes}
        self.can_cut = shutil.which("ss") is not None

    def run(self, count):
        for number in range(count):
            self.one(number)

    def next_phase(self):
        """Each comes as often as it is among PHASES."""
        if not self.deck:
            self.deck = list(PHASES)
            self.rng.shuffle(self.deck)
        return self.deck.pop()

    def one(self, number):
        rng = self.rng
        check_alive()
        farlib.until(lambda: cycles.points.qsize() < BACKLOG, 240, "the checker keeps up")
        phase, share = self.next_phase(), 0.0
        kind = rng.choices(list(VICTIMS), VICTIMS.values())[0]
        if phase in ("send", "receive"):
            share = rng.uniform(0, 0.9) if phase == "send" else rng.uniform(0.85, 1)
        pause = 0 if share else rng.choice((0, 0, 0, 0.005, 0.02, 0.05))
        away = rng.choice((0, 0, 0.3, 1.0, 2.0, 6.0))
        aim = rng.random()
        began = time.monotonic()
        cycles.last_progress = max(cycles.last_progress, began)
        found = self.wait_phase(phase, share)
        if pause:
            threading.Event().wait(pause)
        with cycles.told:
            hit = name_of(phase, share) if cycles.in_phase(phase, share) else "just after " + phase
            task = found[0] if found and found[0] is not True else None
        self.phases[hit] += 1
        self.victims[kind] += 1
        self.both[hit, kind] += 1
        struck = self.strike(kind, task, aim, away)
        print("# round %d: %s, %s: %s, %d points, after %.1f s" %
              (number + 1, hit, kind, struck, cycles.point_count, time.monotonic() - began), flush=True)

    def wait_phase(self, phase, share):
        """Tasks in this phase; nothing when none comes for some time: then any moment is as good."""
        deadline = time.monotonic() + 10 * farlib.SLOW
        with cycles.told:
            while not cycles.in_phase(phase, share) and time.monotonic() < deadline:
                cycles.told.wait(0.02)
            found = cycles.in_phase(phase, share)
        self.rng.shuffle(found)
        if time.monotonic() - cycles.last_progress > 120 * farlib.SLOW:
            raise farlib.Failure("no checkpoint for two minutes: %s" % describe_jobs())
        return found

    def node(self, site, task, aim):
        """The one that has the task, more often than not."""
        nodes = [n for n in cluster.nodes.values() if n.site == site]
        holder = cluster.nodes[self.names[task.node]] if task else None
        if holder in nodes and aim < 0.75:
            return holder
        return nodes[int(aim * 1000) % len(nodes)]

    def strike(self, kind, task, aim, away):
        if kind.startswith("cut"):
            return self.cut(kind)
        if kind == "stall":
            return self.stall(self.node("protected" if aim < 0.5 else "recovery", task, self.rng.random()), away)
        processes = self.those(kind, task, aim)
        for process in processes:
            process.process.kill()
        for process in processes:
            process.kill()
        threading.Event().wait(away)
        self.rng.shuffle(processes)
        for process in processes:
            start(process)
        return "%s for %.1f s" % (" and ".join(p.name for p in processes), away)

    def those(self, kind, task, aim):
        """Who is killed."""
        servers, source, target = list(cluster.servers.values()), self.node("protected", task, aim), self.node("recovery", task, aim)
        if kind in ("source", "target"):
            return [source if kind == "source" else target]
        if kind in ("all servers", "everything"):
            return servers if kind == "all servers" else cluster.processes()
        leader = cluster.leader() or self.rng.choice(servers)
        if kind == "two at once":
            return [source, leader if aim < 0.5 else target]
        return [leader] if kind == "leader" else [self.rng.choice([server for server in servers if server is not leader])]

    def stall(self, process, away):
        os.kill(process.pid, signal.SIGSTOP)
        threading.Event().wait(away)
        os.kill(process.pid, signal.SIGCONT)
        return "%s stood still for %.1f s" % (process.name, away)

    def cut(self, kind):
        ports = [n.data for n in cluster.nodes.values()] if kind == "cut data" else [s.peer for s in cluster.servers.values()]
        cuts = self.rng.randrange(1, 6)
        ended = 0
        for _ in range(cuts):
            ended += sum(cut_port(address.rsplit(":", 1)[1]) for address in ports) if self.can_cut else 0
            threading.Event().wait(self.rng.expovariate(4))
        return "%d times, %d sockets" % (cuts, ended)


def start(process):
    """A node does not start while somebody recovers from its vault that was free, so the checker lets it go first."""
    with checker.reading(process) if process in cluster.nodes.values() else contextlib.nullcontext():
        before = os.path.getsize(process.log)
        process.start()

        def ready():
            process.check()
            with open(process.log, "rb") as log:
                log.seek(before)
                return b"ready " in log.read()
        farlib.until(ready, 20, "%s is ready" % process.name)


def cut_port(port):
    """Both sides get an error; how many sockets."""
    done = subprocess.run(["ss", "-K", "-Htn", "state", "established", "( sport = :%s or dport = :%s )" % (port, port)], text=True,
                          stdin=subprocess.DEVNULL, capture_output=True)
    return len(done.stdout.splitlines())


def check_alive():
    for helper in helpers:
        helper.check()
    for process in cluster.processes():
        if process.process is not None:
            process.check()


def running_jobs():
    return [job for job in (cluster.get("/v1/plans/" + plan)["running_job_id"] for plan in PLANS) if job]


def describe_jobs():
    lines = []
    for number in running_jobs():
        job = cluster.job(number)
        lines += ["job %d: %s of %s on %s: %s, attempt %d, %d of %d bytes, %s %s" %
                  (number, t["kind"], t["workload"], t["node"], t["state"], t["attempt"], t["bytes_done"], t["bytes_total"], t["waits_for"],
                   t["error_message"]) for t in job["tasks"] if t["state"] != "done"]
    return "; ".join(lines) or "no job runs"


# ---- the test ----

def tool(*argv):
    environment = dict(os.environ, PATH=os.environ["PATH"] + ":/sbin:/usr/sbin")
    try:
        done = subprocess.run(argv, capture_output=True, text=True, env=environment)
    except FileNotFoundError:
        raise tap.Skip("%s is not installed" % argv[0]) from None
    if done.returncode != 0:
        raise tap.Skip("%s does not work here: %s" % (argv[0], done.stderr.strip()))


def mount_xfs():
    tool("mount", "--make-rprivate", "/")
    os.mkdir(path("xfs"))
    tool("truncate", "-s", "%dG" % (3 * SCALE), path("fs"))
    tool("mkfs.xfs", "-q", "-m", "reflink=1", path("fs"))
    tool("mount", "-t", "xfs", "-o", "loop", path("fs"), path("xfs"))


def make_plans():
    """Continuous cycles: the next one is due as soon as one is over."""
    for name, (adapter, sizes, _) in WORKLOADS.items():
        disks = [{"name": "disk%d" % i, "locator": farlib.make_image(image, size, seed + size)}
                 for i, (image, size) in enumerate(zip(images_of(name), sizes, strict=True))]
        cluster.post("/v1/workloads", {"name": name, "site": "protected", "adapter": adapter, "disks": disks})
    for plan in PLANS:
        cluster.post("/v1/plans", {"name": plan, "source_site": "protected", "target_site": "recovery", "interval_s": 1,
                                   "audit_age_s": 60, "workloads": [name for name, row in WORKLOADS.items() if row[2] == plan]})


def stop_plans():
    """Every cycle that runs ends by itself."""
    for plan in PLANS:
        cluster.post("/v1/plans/%s/stop" % plan)
    try:
        farlib.until(lambda: check_alive() or not running_jobs(), 120, "the cycles end")
    except farlib.Failure as failure:
        raise farlib.Failure("%s; %s" % (failure, describe_jobs())) from None


def rounds_of_kills_and_every_point_is_its_view():
    global cycles, checker
    mount_xfs()
    make_plans()
    cycles, copies = watchlib.Cycles(cluster), watchlib.Copies(path("xfs"))
    checker = watchlib.Checker(cluster, cycles, copies, {name: images_of(name) for name in WORKLOADS})
    rounds = Rounds(random.Random(seed + 2))
    watching, following, writing, checking = [watchlib.Helper(work) for work in
                                              (copies.watch, cycles.follow, write_all_the_time, checker.check)]
    helpers.extend((watching, following, writing, checking))
    for helper in helpers:
        helper.start()
    for plan in PLANS:
        cluster.post("/v1/plans/%s/start" % plan)
    try:
        rounds.run(ROUNDS)
        cluster.wait_leader(30)
        cluster.wait_nodes()
        stop_plans()
        writing.end()
        last = [cluster.finish(cluster.start_cycle(plan), 120) for plan in PLANS]
        farlib.until(lambda: all(cycles.jobs[job["id"]]["state"] != "running" for job in last), 30, "the last cycles' events are here")
        checking.end()
        return judge(last) + recovered_by_the_product() + points_are_good() + only_base_clones_are_left()
    finally:
        report(rounds)
        for helper in helpers:
            helper.over.set()
        following.end()
        watching.end()


def report(rounds):
    print("# phases hit: %s" % dict(rounds.phases.most_common()))
    print("# victims: %s" % dict(rounds.victims.most_common()))
    print("# phase and victim: %s" % ", ".join("%s x %s %d" % (*pair, n) for pair, n in sorted(rounds.both.items())))
    print("# cycles: %s" % {" ".join(pair): n for pair, n in cycles.ends.items()})
    print("# attempts that began anew: %s" % {" ".join(pair): n for pair, n in cycles.attempts.most_common()})
    print("# %d points announced, %d checked, %d disks compared; %d lists of changes could not be used" %
          (cycles.point_count, checker.checked, checker.disks, len(cycles.refused)), flush=True)


def judge(last):
    wrong = list(checker.wrong)
    if checker.checked != cycles.point_count or cycles.point_count < len(WORKLOADS):
        wrong.append("%d points were announced, %d checked" % (cycles.point_count, checker.checked))
    wrong += ["job %d, without a kill, ended as %s: %s" % (job["id"], job["state"], job["error_message"])
              for job in last if job["state"] != "succeeded"]
    return wrong + ["%d cycles ended as %s" % (n, state) for (kind, state), n in cycles.ends.items()
                    if kind == "replicate" and state != "succeeded"]


def recovered_by_the_product():
    """The newest point of each workload, which is what the disks are now."""
    wrong = []
    for name, (_, _, plan) in WORKLOADS.items():
        targets = [path("out-" + os.path.basename(image)) for image in images_of(name)]
        job = cluster.finish(cluster.start_recovery(name, targets, plan), 120)
        if job["state"] != "succeeded":
            wrong.append("recovery of '%s': %s" % (name, job["error_message"]))
            continue
        for target, copy, image in zip(targets, checker.newest[name][1], images_of(name), strict=True):
            wrong += ["'%s', recovered, differs from '%s'" % (target, other) for other in (copy, image)
                      if not farlib.same_bytes(target, other)]
    return wrong


def points_are_good():
    wrong, cursor, count = [], 0, 0
    while True:
        page = cluster.get("/v1/points?limit=1000" + ("&cursor=%s" % cursor if cursor else ""))
        wrong += ["point %d is %s%s" % (p["id"], p["state"], ", suspect" if p["suspect"] else "") for p in page["items"]
                  if p["state"] != "available" or p["suspect"]]
        count, cursor = count + len(page["items"]), page["cursor"]
        if not cursor:
            break
    wrong += [] if count == cycles.point_count else ["%d points are there, %d were announced" % (count, cycles.point_count)]
    for plan in PLANS:
        checkpoint = cluster.get("/v1/plans/" + plan)["last_checkpoint_id"]
        job = cluster.finish(cluster.post("/v1/checkpoints/%d/verify" % checkpoint)["id"], 120)
        wrong += [] if job["state"] == "succeeded" else ["checkpoint %d: %s" % (checkpoint, job["error_message"])]
    return wrong


def only_base_clones_are_left():
    """One of each disk. A node that stood still for longer than its lease may have made its view when another had made the next: that one
    is there until the sweep of the next day."""
    clones, late = collections.defaultdict(list), []
    for name in os.listdir(path("xfs")):
        image, _, hint = name.partition(".farshore-")
        if hint in cycles.lost_freezes:
            late.append(name)
        elif hint:
            clones[image].append(hint)
    print("# views of attempts that were lost before they were made: %r" % late)
    return ["beside %s lie %r" % (image, hints) for image, hints in clones.items() if len(hints) > 1 or not hints[0].startswith("base-")]


def all_servers_agree_and_an_independent_walk_too():
    cluster.wait_same_heads()
    print("# digests %r" % (cluster.verify_all_offline(),))


def add_nodes():
    for name, site in (("s1", "protected"), ("s2", "protected"), ("t1", "recovery"), ("t2", "recovery")):
        cluster.add_node(name, site, settings={"memory_bytes": 32 * MIB, "checkpoint_bytes": MIB, "checkpoint_ms": 300})
    cluster.wait_nodes()


if __name__ == "__main__":
    if os.geteuid() != 0 or libc.unshare(CLONE_NEWNS) != 0:
        print("1..0 # SKIP mounting a file system needs root")
        sys.exit(0)
    seed = farlib.seed_of_run()
    with farlib.Cluster(nodes=False, lease_ms=LEASE_MS) as cluster, contextlib.ExitStack() as stack:
        stack.callback(lambda: subprocess.run(["umount", "-l", path("xfs")], capture_output=True))  # else its folder stays
        add_nodes()
        tap.run_all([rounds_of_kills_and_every_point_is_its_view, all_servers_agree_and_an_independent_walk_too])
