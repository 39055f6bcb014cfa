#!/usr/bin/env python3
"""kill -9 of every process at every boundary of runs of plans: near and far node, the leading server, near and far libvirtd, the program
that asks libvirt; before each task on a machine (the node was told, and stood still), while it runs, when it is done and no server heard of it
(turnslib.py), when that was heard, and in each phase. The run goes on by itself to its end: the right machines are up
or gone, the source is on or off as it should be, a migration has lost nothing, the plan goes on, and nothing is left at either site
(remainslib.py). What somebody has to try again is a failure, but where HOLDS says that this is right.

Which there are is read from src/fsm/events.def (phases of runs, kinds of tasks, operations on machines): one that the tables here do not
name fails the test, and so does one that is named and that no run meets. `long` kills at all, or at those of the kinds that are named
behind it (long:test:failover); else at SOME.

Skipped where libvirt, QEMU or namespaces are missing, but for the comparison of the tables.

far-timeout: 3600
"""
import collections
import contextlib
import os
import re
import signal
import sys
import time

import farlib
import libvirt_kit
import remainslib
import runlib
import tap
import turnslib

LONG = "long" in sys.argv
KINDS = ["test", "failover", "migrate", "vault"]
ONLY = [kind for kind in KINDS if kind in sys.argv] or KINDS

# ---- what there is to kill ----

CYCLE = ["freeze", "send", "receive", "seal", "release"]
RISE = {"preparing": ["restore"], "starting": ["up", "gate"], "up": []}
AWAY = {"cleaning": ["destroy"], "unfencing": ["source_on"]}
# The phases of each kind of run, and the tasks that are done in them.
WORKFLOWS = {
    "test": {**RISE, "cleaning": ["destroy"]},
    "failover": {**RISE, "preparing": ["source_off", "restore"], "committing": ["keep"], **AWAY},
    "migrate": {"syncing": CYCLE, "shutting_down": ["source_off"], "last_increment": CYCLE, **RISE, "committing": ["keep"], **AWAY},
}
UNSEEN = {"begun": "the step that begins a run leaves it", "done": "nothing is left to be done"}
# Which runs have somebody killed before each operation, and when it was done and nobody heard; and the task or phase that it comes behind
# ("": it begins with the run, or with what ends that).
TURNS = {"up": ("test", "restore"), "gate": ("test", "up"), "destroy": ("test", ""), "source_off": ("failover", ""),
         "keep": ("failover", ""), "source_on": ("failover", "destroy")}
# Tasks of jobs of one task each, and how such a job begins ({}: a checkpoint).
SIMPLE = {"verify": "/v1/checkpoints/{}/verify", "lock": "/v1/checkpoints/{}/lock", "rescore": "/v1/checkpoints/{}/rescore",
          "measure": "/v1/vaults/target/measure", "scrub": "/v1/vaults/target/scrub", "forget": "/v1/checkpoints/{}",
          "reclaim": "/v1/vaults/target/reclaim"}
# Kinds of tasks that have tests of their own, which kill whoever does them.
ELSEWHERE = {**{what: "test_task_kill.py" for what in ("adopt", "use", "seed", "compare", "leaves", "script")}, "hydrate": "test_runs_at_once.py"}
NEAR = {"freeze", "send", "release", "source_off", "source_on"}
ASKS = {"freeze", "release", "up", "gate", "destroy", "keep", "source_off", "source_on"}  # libvirt
# What else there is while a task runs: the recovered machine itself, and who serves the disks of a domain that is off.
MORE_PROCESSES = {("starting", "gate"): ["far guest"], ("last_increment", "send"): ["near view"]}
PROCESSES = ("near node", "far node", "leader", "near libvirtd", "far libvirtd")

Goal = collections.namedtuple("Goal", "kind phase what moment process")
SOME = [Goal("test", "starting", "up", "running", "far node"), Goal("test", "cleaning", "destroy", "running", "far libvirtd"),
        Goal("failover", "preparing", "source_off", "running", "near node"), Goal("failover", "committing", "keep", "done", "far node"),
        Goal("test", "starting", "gate", "assigned", "far node"), Goal("test", "cleaning", "destroy", "unheard", "leader")]


def goals():
    found = []
    for kind, phases in WORKFLOWS.items():
        for phase, works in phases.items():
            for what in works:
                side = "near " if what in NEAR else "far "
                nodes = ("near node", "far node") if what in TURNS else (side + "node",)
                for moment in turnslib.MOMENTS if TURNS.get(what, ("",))[0] == kind else ("running", "done"):
                    found += [Goal(kind, phase, what, moment, process) for process in (*nodes, "leader")]
                    found += [Goal(kind, phase, what, moment, side + "libvirtd")] if moment in ("assigned", "unheard") else []
                if what in ASKS:
                    found += [Goal(kind, phase, what, *each) for each in (
                        ("running", side + "libvirtd"), ("done", side + "libvirtd"), ("running", side + "asker"))]
                found += [Goal(kind, phase, what, "running", process) for process in MORE_PROCESSES.get((phase, what), ())]
            found += [Goal(kind, phase, "", "", process) for process in PROCESSES]
    return found


def values(enum):
    with open(os.path.join(farlib.SOURCE, "src/fsm/events.def"), encoding="utf-8") as file:
        return set(re.findall(r"^FAR_VALUE\(%s, \d+, (\w+)\)" % enum, file.read(), re.M))


def every_boundary_has_its_kill():
    phases = {phase for each in WORKFLOWS.values() for phase in each}
    works = {what for each in WORKFLOWS.values() for tasks in each.values() for what in tasks} | set(SIMPLE)
    kinds, operations, listed = values("task_kind") - {"machine"}, values("machine_operation"), goals()
    wrong = ["phase %s is in no workflow here" % each for each in sorted(values("run_phase") - phases - set(UNSEEN))]
    wrong += ["nobody kills anything at task %s" % each for each in sorted((kinds | operations) - works - set(ELSEWHERE))]
    wrong += ["nobody is killed before %s" % each for each in sorted((operations - set(ELSEWHERE)) ^ set(TURNS))]
    for what in sorted(operations & set(TURNS)):
        for moment in turnslib.MOMENTS:
            killed = {goal.process for goal in listed if goal.what == what and goal.moment == moment}
            wrong += ["at %s, %s: nobody kills the %s" % (what, moment, each) for each in sorted(
                {"near node", "far node", "leader", ("near " if what in NEAR else "far ") + "libvirtd"} - killed)]
    wrong += ["%s is no phase" % each for each in sorted((phases | set(UNSEEN)) - values("run_phase"))]
    wrong += ["%s is no task" % each for each in sorted((works | set(ELSEWHERE)) - kinds - operations)]
    for what, test in ELSEWHERE.items():
        with open(os.path.join(farlib.SOURCE, "tests/integration", test), encoding="utf-8") as file:
            wrong += [] if "kill" in file.read() else ["%s kills nothing at %s" % (test, what)]
    wrong += ["%r is not generated" % (goal,) for goal in SOME if goal not in listed]
    for phase in sorted(phases):
        killed = {goal.process for goal in listed if goal.phase == phase}
        wrong += [] if killed >= set(PROCESSES) else ["in phase %s not everything is killed" % phase]
    print("# %d kills: %r" % (len(listed), dict(collections.Counter(goal.kind for goal in listed))))
    return wrong


# ---- a run, and what is killed in it ----

stage = None
FAILOVER = {"fence_s": 30, "shutdown_s": 2, "force": True}
MORE = {"test": {}, "failover": FAILOVER, "migrate": {"shutdown_s": 2, "force": True}}
KILLS_MAX = 10  # in one run
HELD_S = 40     # what is held for so long does not go on by itself
# Holds that are the documented right state: what the words are, why a person is to decide, and what that does before it is tried again.
HOLDS = ((r"went off while its gate was waited for", "the recovered machine died twice: whether it may start once more is a person's to say",
          lambda guest: None),
         (r"ended while it started the domain", "libvirt's own defect: its note must go, while it is stopped",
          lambda guest: (stage.near.forget_starts(), stage.far.forget_starts())),
         (r"does not let go of it: no view", "libvirt's own defect: the guest must be restarted, and that is a person's to say",
          lambda guest: start_anew(guest)))
kills = collections.Counter()
met, holds, retries = set(), [], []


def start_anew(guest):
    """libvirtd, which was killed, may not have let go of what it knew of the domain: then it is started anew, too."""
    guest.destroy()
    guest.libvirt.virsh("start", guest.name, check=False)
    if not is_on(guest.name, guest.libvirt):
        guest.libvirt.forget_starts()
        guest.start(wait=False)


def site_of(process):
    return (stage.near, stage.cluster.nodes["source"]) if process.startswith("near") else (stage.far, stage.cluster.nodes["target"])


def asker(node):
    """A question to libvirt that this node has asked; 0: none."""
    for pid, words, _ in remainslib.processes():
        if words[0].endswith(b"farshore-kvm") and words[1:2] not in ([b"hold"], [b"guard"]):
            stat = remainslib.read("/proc/%d/stat" % pid)
            if stat and int(stat[stat.rindex(b")") + 2:].split()[1]) == node.pid:
                return pid
    return 0


def kill_asker(libvirt, node, still):
    """libvirtd is stopped meanwhile, so that the question is there for long enough. False: there was none."""
    libvirt.pause_daemon()
    try:
        pid = 0
        deadline = time.monotonic() + 3 * farlib.SLOW
        while not pid and time.monotonic() < deadline and still():
            pid = asker(node)
        if pid:
            os.kill(pid, signal.SIGKILL)
        return bool(pid)
    except ProcessLookupError:
        return False
    finally:
        libvirt.resume_daemon()


SERVED_BY = {"far guest": "qemu-system-x86_64", "near view": "qemu-nbd"}


def kill_program(name, space):
    """Those of this test in that namespace."""
    base, found = stage.cluster.base.encode(), False
    for pid, words, where in remainslib.processes():
        if where == space and os.path.basename(words[0]) == name.encode() and any(base in word for word in words):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                found = True
    return found


def kill(process, still, leader=None):
    """False: it was not there. leader: who was it, while the servers are stopped."""
    if process == "leader":
        server = leader or stage.cluster.wait_leader()
        server.kill()
        server.start()
        return True
    libvirt, node = site_of(process)
    if process.endswith("asker"):
        return kill_asker(libvirt, node, still)
    if process in SERVED_BY:
        return kill_program(SERVED_BY[process], remainslib.space_of(libvirt.first if process.endswith("guest") else "self"))
    if process.endswith("node"):
        node.kill()
        node.start()
    else:
        libvirt.kill_daemon()
        libvirt.start_daemon()
    return True


class Life:
    """One run: looks at it again and again, and kills what is on the list where it is."""

    def __init__(self, kind, pending, guest):
        self.kind, self.pending, self.guest = kind, pending, guest
        self.cycles, self.seen, self.count, self.what = [], set(), 0, []
        self.held, self.held_since, self.wrong = "", 0, []
        self.run_id, self.turns = 0, turnslib.Turns(stage.cluster, asker)
        self.begin("", lambda: stage.run(kind, stage.plan, phase=None, **MORE[kind]))

    def begin(self, behind, act):
        """act() begins the run, or its end; somebody may be killed at the operation that this begins with."""
        first = "source_off" if not self.run_id else "keep" if behind == "commit" else "destroy"
        goal = self.turn_goal("", first)
        if goal:
            self.take_turns(goal, act)
        else:
            self.run_id = act() or self.run_id

    def turn_goal(self, behind, first=None):
        found = [goal for goal in self.pending if goal.kind == self.kind and goal.moment in ("assigned", "unheard") and
                 TURNS[goal.what][1] == behind and first in (None, goal.what)]
        return found[0] if found and self.count < KILLS_MAX else None

    def take_turns(self, goal, act=lambda: None):
        """Turn by turn up to that operation; there somebody is killed."""
        leader, hit, before = stage.cluster.wait_leader(), False, set()
        self.turns.to_servers()
        try:
            self.run_id = act() or self.run_id
            for _ in range(12):
                job = self.turns.wait_decided(self.run_id, before)
                before = turnslib.states(job)
                there = any(t.get("operation") == goal.what and t["state"] in ("assigned", "running") for t in job["tasks"])
                if there and goal.moment == "assigned":
                    hit = kill(goal.process, lambda: True)
                    break
                leader = stage.cluster.wait_leader()
                self.turns.to_nodes()
                if there and goal.what == "gate":  # it waits for the guest, and does nothing meanwhile
                    with contextlib.suppress(farlib.Failure):
                        farlib.until(lambda: stage.booted(stage.console(self.run_id, self.guest.name)), 20, "the machine has booted")
                self.turns.wait_idle(6)
                if there:
                    hit = kill(goal.process, lambda: True, leader)
                self.turns.to_servers()
                if hit or job["state"] != "running":
                    break
        finally:
            self.turns.over()
        if hit:
            self.note(goal)

    def boundaries(self, run):
        """(phase, task, moment) of each task that runs, or that was seen to be done only now."""
        cycle = run.get("cycle_job_id")
        if cycle and cycle not in self.cycles:
            self.cycles.append(cycle)
        jobs = [(run["phase"], self.run_id)]
        jobs += [(("syncing", "last_increment")[min(index, 1)], job) for index, job in enumerate(self.cycles)]
        found = []
        for phase, job_id in jobs:
            if (job_id, "over") in self.seen:
                continue
            job = stage.cluster.job(job_id)
            for task in job["tasks"]:
                what = task["operation"] if task["kind"] == "machine" else task["kind"]
                key = (job_id, task["task"], "done")
                place = phase if what in CYCLE else next(
                    (name for name, tasks in WORKFLOWS[self.kind].items() if what in tasks), run["phase"])
                met.add((self.kind, place, what))
                if task["state"] in ("assigned", "running"):
                    found.append((place, what, "running", job_id, task["task"]))
                elif task["state"] == "done" and key not in self.seen:
                    self.seen.add(key)
                    found.append((place, what, "done", job_id, task["task"]))
            if job["state"] != "running":
                self.seen.add((job_id, "over"))
        return found

    def still(self, job_id, number):
        tasks = stage.cluster.job(job_id)["tasks"]
        return any(task["task"] == number and task["state"] in ("assigned", "running") for task in tasks)

    def strike(self, run):
        """Kills at most one process; True if it did."""
        if self.count >= KILLS_MAX:
            return False
        boundaries = self.boundaries(run)
        for behind in {what for _, what, moment, *_ in boundaries if moment == "running"}:
            goal = self.turn_goal(behind)
            if goal and goal.phase in WORKFLOWS[self.kind]:
                self.take_turns(goal)
                return True
        for place, what, moment, job_id, number in boundaries:
            for goal in [goal for goal in self.pending if goal[:4] == (self.kind, place, what, moment)][:1]:
                return self.hit(goal, run["phase"], lambda j=job_id, n=number: self.still(j, n))
        for goal in [goal for goal in self.pending if goal[:3] == (self.kind, run["phase"], "")]:
            if (goal.phase, goal.process) not in self.seen and (run["phase"] == "up" or (goal.phase, "one") not in self.seen):
                self.seen |= {(goal.phase, goal.process), (goal.phase, "one")}
                return self.hit(goal, run["phase"], lambda: True)
        return False

    def hit(self, goal, phase, still):
        if not kill(goal.process, still):
            return False
        self.note(goal)
        same = Goal(self.kind, phase, "", "", goal.process)
        if same in self.pending:
            self.pending.remove(same)
        return True

    def note(self, goal):
        kills[goal.process] += 1
        self.count += 1
        self.pending.remove(goal)
        self.what.append("%s at %s" % (goal.process, " ".join((goal.what, goal.moment)).strip() or goal.phase))

    def look_at_hold(self, run, phase):
        problem = run["problem"] or ""
        if problem != self.held:
            self.held, self.held_since = problem, time.monotonic()
            if problem:
                holds.append("%s, %s: %s" % (self.kind, self.what[-1] if self.what else "", problem))
        known = [act for words, _, act in HOLDS if re.search(words, problem)]
        waits_s = 2 if known else HELD_S
        if problem and run["phase"] not in (phase, "done") and time.monotonic() - self.held_since > waits_s:
            retries.append("%s run %d in %s after %r: %s" % (self.kind, self.run_id, run["phase"], self.what[-3:], problem))
            self.wrong += [] if known else ["does not go on by itself: " + retries[-1]]
            for act in known:
                act(self.guest)
            stage.cluster.post("/v1/runs/%d/retry" % self.run_id)
            self.held_since = time.monotonic()

    def go_to(self, phase):
        def there():
            run = stage.show(self.run_id)
            met.add((self.kind, run["phase"]))
            struck = self.strike(run)
            self.look_at_hold(run, phase)
            return run if run["phase"] == phase and not struck else None
        return farlib.until(there, 300, lambda: "run %d (%s) is %s: %r, killed: %r" % (
            self.run_id, self.kind, phase, stage.show(self.run_id), self.what))


def is_on(name, libvirt):
    return libvirt.virsh("domstate", name, check=False) == "running"


def has_all(life, guest, acked):
    """The machine came up with what was acknowledged."""
    starts = farlib.until(lambda: stage.booted(stage.console(life.run_id, guest.name)), 60, "it boots")
    return [] if starts[-1][1] >= acked else ["record %d was acknowledged, it came up at %d" % (acked, starts[-1][1])]


def nothing_left(before):
    found = []

    def none():
        found[:] = remainslib.differs(before, remainslib.look(stage))
        return not found
    try:
        farlib.until(none, 20 / farlib.SLOW, "nothing is left")
    except farlib.Failure:
        return list(found)
    return []


def take_over(life, guest, before):
    """After a commit: the far machine is one like any other, the near one is off. Both are brought back to where they were, by hand."""
    name = guest.name
    if life.kind == "failover":  # the disks that were left behind tell what was lost; until then the near machine cannot start
        farlib.until(lambda: all(loss["source"] in ("compared", "failed") for loss in stage.cluster.get(
            "/v1/runs/%d/report" % life.run_id)["losses"]), 120, "it is told what was lost")
    wrong = [] if is_on(name, stage.far) and not is_on(name, stage.near) else ["not only the far side runs"]
    wrong += ["it bears the run's ref"] if re.search(r"machine[^>]* ref=", stage.far.virsh("dumpxml", name, check=False)) else []
    folder = os.path.join(stage.recovered("target"), "run-%d" % life.run_id)
    wrong += [] if os.listdir(os.path.dirname(folder)) == [os.path.basename(folder)] else [
        "recovered: %r" % os.listdir(os.path.dirname(folder))]
    stage.far.virsh("destroy", name, check=False)
    stage.far.virsh("undefine", name, "--nvram", check=False)
    libvirt_kit.tool("rm", "-r", folder)
    guest.start(wait=False)
    return wrong + nothing_left(before)


def one_run(kind, guest, pending, end):
    before = remainslib.look(stage)
    stage.host_in(None if kind == "test" else stage.far)  # a test's own network has the address by itself
    began, acked = time.monotonic(), guest.acked() if kind == "migrate" else stage.acked_at_point
    life = Life(kind, pending, guest)
    life.go_to("up")
    while life.strike(stage.show(life.run_id)):
        pass
    life.wrong += [] if stage.show(life.run_id)["phase"] == "up" else ["it does not stay up"]
    life.wrong += has_all(life, guest, guest.acked() if kind == "migrate" else acked)
    life.begin(end, lambda: stage.cluster.post("/v1/runs/%d/%s" % (life.run_id, end)) and None)
    run = life.go_to("done")
    wrong = life.wrong + ([run["problem"]] if run["problem"] else [])
    state = stage.cluster.job(life.run_id)["state"]
    wrong += [] if state == ("canceled" if end == "roll-back" else "succeeded") else ["the job is %s" % state]
    if end == "commit":
        wrong += take_over(life, guest, before)
        if pending or LONG:
            new_plan(guest)
    else:
        wrong += [] if is_on(guest.name, stage.near) else ["the source is not on"]
        wrong += nothing_left(before)
        guest.wait_ack(guest.acked() + 1, 120 * farlib.SLOW)
        stage.acked_at_point = guest.acked()
        stage.cycle(stage.plan)
    print("# %s, %s, %.0f s: killed %s: %s" % (kind, end, time.monotonic() - began, "; ".join(life.what), wrong or "well"), flush=True)
    return ["%s, %s, run %d: %s" % (kind, end, life.run_id, each) for each in wrong]


def end_of(kind, pending, count):
    """How this run is to end, so that what is still to be killed is met."""
    if kind == "test":
        return "finish"
    phases = {goal.phase for goal in pending if goal.kind == kind}
    away, commits = phases & set(AWAY), "committing" in phases
    return "commit" if commits and not away else "roll-back" if away and not commits else ("roll-back", "commit")[count % 2]


def new_plan(guest):
    """Of what was moved and brought back by hand the plan protects nothing any more: another one takes its place."""
    if stage.plan:
        stage.cluster.call("DELETE", "/v1/plans/" + stage.plan)
    stage.plans += 1
    stage.plan = "plan%d" % stage.plans
    card = {"nic": 0, "mode": "static", "prefix": runlib.PREFIX, "gateway": runlib.HOST, "address": "10.9.0.2"}
    stage.acked_at_point = guest.wait_ack(guest.acked() + 1, 120 * farlib.SLOW)
    stage.protect(stage.plan, {guest.name: {"nics": [card], "gates": [{"kind": "port", "port": 7000, "timeout_s": 120}]}})


def runs_end_well_whatever_is_killed():
    pending = [goal for goal in (goals() if LONG else SOME) if goal.kind in ONLY]
    total, wrong, runs = len(pending), [], 0
    for kind in WORKFLOWS:
        count = 0
        while any(goal.kind == kind for goal in pending) and count < (25 if LONG else 3):
            wrong += one_run(kind, stage.guests["one"], pending, end_of(kind, pending, count))
            count += 1
        runs += count
    print("# %d runs, %d kills: %r; held %d times, tried again by hand %d times" % (
        runs, kills.total(), dict(kills), len(holds), len(retries)))
    print("".join("# held: %s\n" % each for each in holds), end="", flush=True)
    print("# %d of %d met" % (total - len(pending), total))
    return wrong + ["not killed: %s" % " ".join(goal) for goal in pending]


def begin_simple(what, checkpoint):
    path, body = SIMPLE[what].format(checkpoint), {"until_ms": int(time.time() * 1000) + 2000} if what == "lock" else {}
    if what != "forget":
        return stage.cluster.post(path, body)["id"]
    stage.cluster.call("DELETE", path)  # its answer is about the checkpoint
    jobs = farlib.until(lambda: [job for job in stage.cluster.get("/v1/jobs?limit=1000")["items"] if job["kind"] == "forget"
                                 and job["checkpoint_id"] == checkpoint], 30, "a job forgets checkpoint %d" % checkpoint)
    return jobs[-1]["id"]


def kill_in_simple(what, moment, process, checkpoint):
    """What is wrong. The node is stopped until its task is seen to be its own."""
    node, states = stage.cluster.nodes["target"], ("assigned", "running") if moment == "running" else ("done",)
    if moment == "running":
        os.kill(node.pid, signal.SIGSTOP)
    job_id = begin_simple(what, checkpoint)
    farlib.until(lambda: any(task["kind"] == what and task["state"] in states for task in stage.cluster.job(job_id)["tasks"]), 60,
                 "%s is %s" % (what, moment))
    kill(process, lambda: True)
    kills[process] += 1
    if moment == "running" and process != "far node":
        os.kill(node.pid, signal.SIGCONT)
    job = stage.cluster.finish(job_id)
    return [] if job["state"] == "succeeded" else ["%s %s, %s: %s: %s" % (what, moment, process, job["state"], job.get("error_message"))]


def jobs_of_one_task_end_well_whatever_is_killed():
    if not LONG or "vault" not in ONLY:
        return []
    wrong = []
    for what in SIMPLE:
        for moment in ("running", "done"):
            for process in ("far node", "leader"):
                checkpoint = stage.cycle(stage.plan)["checkpoint_id"]
                if what == "forget":
                    stage.cycle(stage.plan)  # it is not the last one
                wrong += kill_in_simple(what, moment, process, checkpoint)
                print("# %s %s: killed %s: %s" % (what, moment, process, wrong or "well"), flush=True)
    print("# kills: %r" % dict(kills))
    return wrong


def every_boundary_was_met():
    named = {(kind, phase, what) for kind, phases in WORKFLOWS.items() for phase, works in phases.items() for what in works}
    named |= {(kind, phase) for kind, phases in WORKFLOWS.items() for phase in phases}
    wrong = ["%s was met and is in no table" % " ".join(each) for each in sorted(met - named) if each[-1] not in UNSEEN]
    return wrong + (["%s was not met" % " ".join(each) for each in sorted(named - met) if each[0] in ONLY] if LONG else [])


def main():
    global stage
    if libvirt_kit.is_missing():
        tap.run_all([every_boundary_has_its_kill])
    libvirt_kit.in_a_network_of_its_own()
    with runlib.Stage() as stage:
        stage.plan, stage.plans = None, 0
        guest = stage.guest("one", [32], memory_mib=96, options="far.ip=10.9.0.2/24 far.port=7000 far.load_kib=1")
        guest.wait_ack(1, 120 * farlib.SLOW)
        new_plan(guest)
        tap.run_all([every_boundary_has_its_kill, runs_end_well_whatever_is_killed,
                     jobs_of_one_task_end_well_whatever_is_killed, every_boundary_was_met])


if __name__ == "__main__":
    main()
