#!/usr/bin/env python3
"""kill -9 of each process at each boundary of each kind of task, but for those on machines (test_run_kill.py): the job ends well by itself, what it
made is right, and nothing is left.

Nodes and servers take turns (turnslib.py), so no boundary is missed. Killed are the source's node, the target's and the leading server, each before a
task, while it runs, when it was done and said, and when that was heard, in each workflow that has such a task: first copy, cycle,
resync, seed, recovery, comparison after a failover, and the vault's own. A kind of task or job of src/fsm/events.def that neither this
test nor test_run_kill.py has fails it. `long` does all, or all of the workflows that are named behind it (long:cycle:seed); else
FAR_KILLS of them (8), chosen by the seed.

far-timeout: 3600
"""
import collections
import contextlib
import hashlib
import os
import random
import re
import shutil
import stat
import sys
import tempfile
import threading
import time

import farlib
import tap
import turnslib

SEED = farlib.seed_of_run()
LONG = "long" in sys.argv
KILLS = int(os.environ.get("FAR_KILLS") or 8)
SIZE = 2 * farlib.MIB
PROCESSES = ("source", "target", "leader")
CYCLE = ("script", "freeze", "send", "receive", "seal", "release")
# Jobs of these kinds are runs, and tasks of this one are theirs: test_run_kill.py has them, and fails where it has not.
RUNS, OF_RUNS = {"test_recovery", "failover", "migration"}, {"machine"}

Scene = collections.namedtuple("Scene", "job tasks begin check")
Goal = collections.namedtuple("Goal", "scene task moment process")
rng = random.Random(SEED)
cluster = None
number = 0
chosen = []
known = {}   # what scenes need again: checkpoints, the run of the comparison, sums of scripts
kills = collections.Counter()


def path(*names):
    return os.path.join(cluster.base, *names)


def fresh(kind):
    global number
    number += 1
    return "%s-%d" % (kind, number)


# ---- up to a kill ----

def has(job, task, *wanted):
    return any(t["kind"] == task and t["state"] in wanted for t in job["tasks"])


class Walk:
    """One job, up to the place where somebody is killed."""

    def __init__(self, goal):
        self.goal, self.turns, self.leader, self.hit = goal, turnslib.Turns(cluster), None, False

    def to_the_kill(self):
        self.leader = cluster.wait_leader()
        self.turns.to_servers()
        try:
            job_id = SCENES[self.goal.scene].begin()
            before = set()
            while not self.hit and self.decided(job_id, before):
                before = turnslib.states(cluster.job(job_id))
                self.worked(job_id)
        finally:
            self.turns.over()
        return job_id

    def decided(self, job_id, before):
        """False: the job is over, or somebody was killed."""
        goal, job = self.goal, self.turns.wait_decided(job_id, before)
        ends = ("done", "canceled")  # who answers for a comparison is sent away when that is over
        if (goal.moment == "assigned" and has(job, goal.task, "assigned")) or (goal.moment == "done" and has(job, goal.task, *ends)):
            self.kill()
        return not self.hit and job["state"] == "running"

    def worked(self, job_id):
        """The nodes have done what they had been told."""
        goal = self.goal
        meant = has(cluster.job(job_id), goal.task, "assigned", "running") and goal.moment in ("running", "unheard")
        self.leader = cluster.wait_leader()
        self.turns.to_nodes()
        if meant and goal.moment == "running":
            threading.Event().wait(rng.choice((0.001, 0.003, 0.01, 0.03)))
        else:
            self.turns.wait_idle()
        if meant:
            self.kill()
        self.turns.to_servers()

    def kill(self):
        victim = self.leader if self.goal.process == "leader" else cluster.nodes[self.goal.process]
        victim.kill()
        kills[self.goal.process] += 1
        self.hit = True


# ---- workflows ----

def script(phase, **more):
    return {"name": "note", "sha256": known["note"], "phase": phase, "timeout_s": 60, "retries": 5, **more}


def new_plan(name):
    farlib.make_image(path(name + ".img"), SIZE, SEED + number)
    cluster.post("/v1/workloads", {"name": name, "site": "protected", "adapter": "file",
                                   "disks": [{"name": "disk0", "locator": path(name + ".img")}]})
    cluster.call("PUT", "/v1/plans/%s/spec" % name, {
        "source_site": "protected", "target_site": "recovery", "workloads": [{"name": name}], "scripts": [
            script("before_cycle"), script("after_cycle", workload=name)]})
    known["plan"] = name
    return name


def protected(name):
    job = cluster.finish(cluster.start_cycle(new_plan(name)))
    assert job["state"] == "succeeded", job
    return job["checkpoint_id"]


def first_copy():
    return cluster.start_cycle(new_plan(fresh("first")))


def change():
    known["plan"] = "steady"
    farlib.change_image(path("steady.img"), 8, SEED + number)
    fresh("change")


def next_cycle():
    change()
    return cluster.start_cycle("steady")


def resync():
    change()
    return cluster.post("/v1/plans/steady/resync")["id"]


def exact_point(job):
    plan, out = known["plan"], path(fresh("out"))
    recovery = cluster.finish(cluster.start_recovery(plan, [out], plan))
    wrong = [] if recovery["state"] == "succeeded" else ["%r" % recovery]
    wrong += [] if wrong or farlib.same_bytes(out, path(plan + ".img")) else ["the point is not the disk"]
    return wrong + ([] if [t["state"] for t in job["tasks"]] == ["done"] * len(job["tasks"]) else ["%r" % turnslib.states(job)])


def recover():
    known["out"] = path(fresh("out"))
    return cluster.start_recovery("steady", [known["out"]], "steady")


def recovered(job):
    return [] if farlib.same_bytes(known["out"], path("steady.img")) else ["it is another disk"]


def seed():
    name = new_plan(fresh("seeded"))
    shutil.copyfile(path(name + ".img"), path(name + ".carried"))
    return cluster.post("/v1/plans/%s/seed" % name, {"workload": name, "node": "target", "locator": path(name + ".carried")})["id"]


def nothing_is_sent(job):
    """What was seeded is there, and goes when the disk has a point of its own."""
    name, points = known["plan"], os.path.join(cluster.nodes["target"].dir, "vault", "points")
    cycle = cluster.finish(cluster.start_cycle(name))
    wrong = exact_point(cycle) + ([] if cycle["bytes_sent"] <= SIZE // 50 else ["%d bytes were sent" % cycle["bytes_sent"]])
    imports = [n for n in os.listdir(points) if n.endswith(".manifest") and int(n.split(".")[0]) >= 1 << 63]
    return wrong + (["imports: %r" % imports] if imports else [])


def compare():
    return cluster.post("/v1/runs/%d/compare" % known["run"])["id"]


def exactly_what_was_lost(job):
    loss = cluster.get("/v1/runs/%d/report" % known["run"])["losses"][0]
    told = [(e["offset"] // farlib.BLOCK, e["length"] // farlib.BLOCK) for e in loss["disks"][0]["extents"]]
    return [] if told == [(3, 2), (9, 1)] and loss["source"] == "compared" else ["%r" % loss]


def use():
    known["out"] = path("exports", fresh("diff"))
    one, two = known["checkpoints"]
    return cluster.post("/v1/checkpoints/%d/diff" % one, {"other_checkpoint_id": two, "path": known["out"]})["id"]


def told_what_differs(job):
    """A page of ranges as the file has them."""
    with open(known["out"], encoding="ascii") as file:
        count = len(file.read().splitlines())
    return [] if count > 0 and job["use_result"][0]["range_count"] == count else ["%d lines: %r" % (count, job["use_result"])]


def checkpoint(what, body=None):
    return lambda: cluster.post("/v1/checkpoints/%d/%s" % (known["checkpoints"][1], what), body() if body else {})["id"]


def vault(what):
    return lambda: cluster.post("/v1/vaults/target/" + what)["id"]


def adopt():
    return cluster.post("/v1/vaults/heir/adopt")["id"]


def all_is_adopted(job):
    told = cluster.get("/v1/vaults/heir")["adoption"]
    plans = [p["name"] for p in cluster.get("/v1/plans?limit=1000")["items"] if p["name"].startswith("lost")]
    return [] if told["points"] + told["known"] == 2 and len(plans) == 1 else ["%r %r" % (told, plans)]


def job_of(kind, since):
    """The newest job of that kind, which is none of those."""
    found = [job["id"] for job in cluster.get("/v1/jobs?limit=1000")["items"] if job["kind"] == kind and job["id"] > since]
    return max(found, default=0)


def forget():
    since, gone = max(known["checkpoints"]), known["spare"].pop()
    cluster.call("DELETE", "/v1/checkpoints/%d" % gone)
    return farlib.until(lambda: job_of("forget", max(since, known.get("forget", 0))), 30, "a job forgets it")


def is_forgotten(job):
    known["forget"] = job["id"]
    return []


def erase():
    name = known["erased"].pop()
    cluster.post("/v1/plans/%s/stop" % name)
    return cluster.post("/v1/plans/%s/erase" % name, {"confirm": name})["id"]


def well(job):
    return []


SCENES = {
    "first_copy": Scene("replicate", CYCLE, first_copy, exact_point),
    "cycle": Scene("replicate", CYCLE, next_cycle, exact_point),
    "resync": Scene("replicate", CYCLE, resync, exact_point),
    "recover": Scene("recover", ("restore",), recover, recovered),
    "seed": Scene("seed", ("seed",), seed, nothing_is_sent),
    "compare": Scene("compare", ("compare", "leaves"), compare, exactly_what_was_lost),
    "use": Scene("use", ("use",), use, told_what_differs),
    "adopt": Scene("adopt", ("adopt",), adopt, all_is_adopted),
    "verify": Scene("verify", ("verify",), checkpoint("verify"), well),
    "rescore": Scene("rescore", ("rescore",), checkpoint("rescore"), well),
    "lock": Scene("lock", ("lock",), checkpoint("lock", lambda: {"until_ms": int(time.time() * 1000) + 1000}), well),
    "forget": Scene("forget", ("forget",), forget, is_forgotten),
    "measure": Scene("measure", ("measure",), vault("measure"), well),
    "scrub": Scene("scrub", ("scrub",), vault("scrub"), well),
    "reclaim": Scene("reclaim", ("reclaim",), vault("reclaim"), well),
    "erase": Scene("erase", ("measure", "forget", "reclaim"), erase, well),
}


def goals():
    return [Goal(name, task, moment, process) for name, scene in SCENES.items() for task in scene.tasks for moment in turnslib.MOMENTS
            for process in PROCESSES]


def values(enum):
    with open(os.path.join(farlib.SOURCE, "src/fsm/events.def"), encoding="utf-8") as file:
        return set(re.findall(r"^FAR_VALUE\(%s, \d+, (\w+)\)" % enum, file.read(), re.M))


def every_kind_of_task_and_job_has_its_kills():
    """Tables against tables: this needs nothing to run."""
    listed = goals()
    tasks, jobs = {goal.task for goal in listed}, {scene.job for scene in SCENES.values()}
    wrong = ["nobody is killed at task %s" % each for each in sorted(values("task_kind") - tasks - OF_RUNS)]
    wrong += ["nobody is killed in a job of kind %s" % each for each in sorted(values("job_kind") - jobs - RUNS)]
    wrong += ["%s is no kind of task or job" % each for each in sorted((tasks | OF_RUNS) - values("task_kind")) +
              sorted((jobs | RUNS) - values("job_kind"))]
    return wrong


# ---- the test ----

def remains():
    """Views, parts of files, programs."""
    found = [name for name in os.listdir(cluster.base) + os.listdir(path("exports")) if "farshore" in name or name.endswith(".part")]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open("/proc/%s/environ" % pid, "rb") as file:
            words = file.read()
            if b"FARSHORE_JOB=" in words and cluster.base.encode() in words:
                found.append("process " + pid)
    return found


def one_kill(goal):
    began = time.monotonic()
    walk = Walk(goal)
    job_id = walk.to_the_kill()
    job = cluster.finish(job_id)
    wrong = [] if walk.hit else ["it was not met"]
    wrong += [] if job["state"] == "succeeded" else ["the job is %s: %s" % (job["state"], job.get("error_message"))]
    wrong += SCENES[goal.scene].check(job) if not wrong else []
    with contextlib.suppress(farlib.Failure):
        farlib.until(lambda: not remains(), 10, "nothing is left")
    wrong += ["left: %r" % remains()] if remains() else []
    attempts = max(t["attempt"] for t in job["tasks"])
    print("# %s, %.1f s, %d attempts: %s" % (" ".join(goal), time.monotonic() - began, attempts, wrong or "well"), flush=True)
    return ["%s: %s" % (" ".join(goal), each) for each in wrong]


def choose():
    every = goals()
    if LONG:
        named = [name for name in SCENES if name in sys.argv] or list(SCENES)
        return [goal for goal in every if goal.scene in named]
    some = [rng.choice([goal for goal in every if goal.task == task]) for task in ("script", "compare", "leaves", "seed")]
    some.append(Goal("erase", "reclaim", "assigned", "target"))  # of two passes in one job the second needs fewer attempts
    return some + rng.sample([goal for goal in every if goal not in some], max(KILLS - len(some), 0))


def jobs_end_well_whoever_is_killed():
    ready_for(chosen)
    wrong = [each for goal in chosen for each in one_kill(goal)]
    print("# %d of %d: %r" % (len(chosen), len(goals()), dict(kills)))
    return wrong


def all_servers_agree_and_an_independent_walk_too():
    cluster.wait_same_heads()
    print("# digests %r" % (cluster.verify_all_offline(),))


def lost_cluster(base):
    """Two points in the vault of a cluster that is gone."""
    with farlib.Cluster(servers=("protected",)) as lost:
        image = os.path.join(lost.base, "lost.img")
        farlib.make_image(image, SIZE, SEED)
        lost.protect("lost", [image], plan="lost")
        for turn in range(2):
            farlib.change_image(image, 4, SEED + turn)
            lost.replicate()
        for process in lost.processes():
            process.stop()
        shutil.move(os.path.join(lost.nodes["target"].dir, "vault"), os.path.join(base, "vault"))


def fail_over():
    """A run whose source came back with three more blocks; no machine comes up from an image, so it is held."""
    protected("gone")
    source = cluster.nodes["source"]
    source.kill()
    farlib.until(lambda: cluster.get("/v1/nodes/source")["state"] == "down", 60, "its node is missed")
    with open(path("gone.img"), "r+b") as file:
        for block in (3, 4, 9):
            file.seek(block * farlib.BLOCK)
            file.write(random.Random(SEED + block).randbytes(farlib.BLOCK))
    known["run"] = cluster.post("/v1/plans/gone/failover", {"fence_s": 1})["id"]
    farlib.until(lambda: cluster.get("/v1/runs/%d" % known["run"]).get("problem"), 90, "the run is held")
    source.start()
    farlib.until(lambda: cluster.get("/v1/nodes/source")["state"] == "up", 60, "the source's node is back")


def ready_for(chosen):
    """What the chosen ones need."""
    counts = collections.Counter(goal.scene for goal in chosen)
    known["checkpoints"] = [protected("steady")]
    for _ in range(1 + counts["forget"]):
        change()
        known["checkpoints"].append(cluster.finish(cluster.start_cycle("steady"))["checkpoint_id"])
    known["spare"], known["checkpoints"] = known["checkpoints"][1:-1], [known["checkpoints"][0], known["checkpoints"][-1]]
    change()
    cluster.finish(cluster.start_cycle("steady"))
    known["erased"] = [fresh("erased") for _ in range(counts["erase"])]
    for name in known["erased"]:
        protected(name)
    if counts["compare"]:
        fail_over()
    if counts["adopt"]:
        cluster.post("/v1/sites", {"name": "third", "role": "recovery"})
        cluster.add_node("heir", "third", settings={"vault": os.path.join(known["base"], "vault")})
        cluster.wait_nodes()


def set_up():
    folder = path("scripts")
    os.makedirs(folder)
    os.makedirs(path("exports"))
    os.chmod(cluster.base, os.stat(cluster.base).st_mode | stat.S_IXOTH)
    with open(os.path.join(folder, "note"), "wb") as file:
        file.write(b"#!/bin/sh\ncat >/dev/null\n")
    os.chmod(file.name, 0o755)
    with open(file.name, "rb") as file:
        known["note"] = hashlib.sha256(file.read()).hexdigest()
    cluster.add_node("source", "protected", settings={"scripts_dir": folder, "scripts_user": "nobody"})
    cluster.add_node("target", "recovery", settings={"export_dir": path("exports")})
    cluster.wait_nodes()


def main():
    global cluster
    chosen.extend(choose())
    known["base"] = tempfile.mkdtemp(prefix="far-task-kill-")
    try:
        if any(goal.scene == "adopt" for goal in chosen):
            lost_cluster(known["base"])
        with farlib.Cluster(nodes=False, lease_ms=4000) as cluster:
            set_up()
            tap.run_all([every_kind_of_task_and_job_has_its_kills, jobs_end_well_whoever_is_killed,
                         all_servers_agree_and_an_independent_walk_too])
    finally:
        shutil.rmtree(known["base"], ignore_errors=True)


if __name__ == "__main__":
    main()
