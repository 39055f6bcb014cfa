#!/usr/bin/env python3
"""kill -9 at the boundaries of the tasks of runs: the node that has the task, while it runs and when it is done; the leader, libvirtd and the
program that speaks with it at some. The run goes on by itself to its end, the right machines are up or gone, the source is on or off as
it should be, and nothing is left that belongs to nobody.

Which operations there are is read from src/fsm/events.def: one that no scenario here meets, or that `long` does not kill both while it runs
and when it is done, fails the test. `long`: all boundaries; else some.

Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 1800
"""
import contextlib
import os
import re
import signal
import sys

import farlib
import runlib
import tap

SOURCE_SIDE = {"source_off", "source_on", "freeze", "send", "release"}
stage = None
met = set()
kills = 0


def operations():
    with open(os.path.join(farlib.SOURCE, "src/fsm/events.def"), encoding="utf-8") as file:
        return set(re.findall(r"^FAR_VALUE\(machine_operation, \d+, (\w+)\)", file.read(), re.M))


def what(task):
    return task["operation"] if task["kind"] == "machine" else task["kind"]


def tasks(run_id):
    """Of the run, and of the cycle that it waits for."""
    found = stage.cluster.job(run_id)["tasks"]
    cycle = stage.show(run_id).get("cycle_job_id")
    return found + (stage.cluster.job(cycle)["tasks"] if cycle else [])


def reaches(run_id, operation, moment, after=0):
    states = ("assigned", "running") if moment == "running" else ("done",)

    def there():
        run = stage.show(run_id)  # first: what the last task was is seen even where the run ends with it
        for task in tasks(run_id):
            met.add(what(task))
            if what(task) == operation and task["state"] in states and task["job_id"] * 1000 + task["task"] > after:
                return task
        assert run["phase"] != "done", "the run ended before %s was %s" % (operation, moment)
        return None
    return farlib.until(there, 120, lambda: "%s is %s: %r" % (operation, moment, stage.show(run_id)))


def kill_node(operation):
    global kills
    kills += 1
    node = stage.cluster.nodes["source" if operation in SOURCE_SIDE else "target"]
    node.kill()
    node.start()


def kill_leader(_):
    global kills
    kills += 1
    server = stage.cluster.wait_leader()
    server.kill()
    server.start()
    stage.cluster.wait_leader()


def kill_libvirtd(operation):
    global kills
    kills += 1
    libvirt = stage.near if operation in SOURCE_SIDE else stage.far
    libvirt.kill_daemon()
    libvirt.start_daemon()


def kill_asker(_):
    """Whatever farshore-kvm there is: the question that it asks is asked again."""
    global kills
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open("/proc/%s/cmdline" % pid, "rb") as file:
            words = file.read().split(b"\0")
            if words[0].endswith(b"farshore-kvm") and words[1:2] != [b"hold"] and any(stage.cluster.base.encode() in w for w in words):
                os.kill(int(pid), signal.SIGKILL)
                kills += 1


def go_on(run_id, phase):
    """Until it is there; what is held is tried again, as a person would."""
    def there():
        run = stage.show(run_id)
        if run["problem"] and run["phase"] not in (phase, "done"):
            with contextlib.suppress(farlib.Problem):
                stage.cluster.post("/v1/runs/%d/retry" % run_id)
        return run if run["phase"] == phase else None
    return farlib.until(there, 240, lambda: "run %d is %s: %r" % (run_id, phase, stage.show(run_id)))


def is_on(name, libvirt=None):
    return (libvirt or stage.near).virsh("domstate", name, check=False) == "running"


def run_with(kind, operation, moment, kill, end, plan="one", **more):
    """A run of the kind whose task of this operation is met, and what is wrong after its end."""
    before = stage.left()
    run_id = stage.run(kind, plan, phase=None, **more)
    ends = operation in ("destroy", "source_on", "keep")
    if not ends:
        reaches(run_id, operation, moment)
        kill(operation)
    go_on(run_id, "up")
    stage.cluster.post("/v1/runs/%d/%s" % (run_id, end))
    if ends:
        reaches(run_id, operation, moment)
        kill(operation)
    run = go_on(run_id, "done")
    for task in stage.cluster.job(run_id)["tasks"]:
        met.add(what(task))
    label = "%s, %s %s, %s" % (kind, operation, moment, kill.__name__)
    wrong = [] if not run["problem"] else ["%s: %s" % (label, run["problem"])]
    if end == "commit":
        wrong += [] if is_on(plan, stage.far) and not is_on(plan) else ["%s: not only the far side runs" % label]
        return wrong
    wrong += [] if is_on(plan) else ["%s: the source is not on" % label]
    after = stage.left()
    return wrong + ([] if after == before else ["%s: left %r, before %r" % (label, after, before)])


FAILOVER = {"fence_s": 30, "shutdown_s": 2, "force": True}
KEPT = (("two", "running"), ("three", "done"))  # plans whose machines are kept, and when the node is killed


def scenarios(everything):
    """(kind, operation, moment, kill, end, more)"""
    some = [("test", "up", "running", kill_node, "finish", {}), ("test", "destroy", "running", kill_node, "finish", {}),
            ("failover", "source_off", "running", kill_node, "roll-back", FAILOVER)]
    if not everything:
        return some
    every = [("test", operation, moment, kill_node, "finish", {}) for operation in ("restore", "up", "gate", "destroy")
             for moment in ("running", "done")]
    every += [("test", "up", "running", kill, "finish", {}) for kill in (kill_leader, kill_libvirtd, kill_asker)]
    every += [("test", "destroy", "running", kill, "finish", {}) for kill in (kill_leader, kill_libvirtd, kill_asker)]
    every += [("failover", operation, moment, kill_node, "roll-back", FAILOVER)
              for operation in ("source_off", "restore", "up", "gate", "destroy", "source_on") for moment in ("running", "done")]
    every += [("failover", "source_off", "running", kill, "roll-back", FAILOVER) for kill in (kill_leader, kill_libvirtd)]
    every += [("migrate", operation, moment, kill_node, "roll-back", {"shutdown_s": 2, "force": True})
              for operation in ("freeze", "send", "receive", "seal", "source_off", "up", "gate") for moment in ("running", "done")]
    return every


def runs_end_well_whatever_is_killed():
    wrong = []
    for kind, operation, moment, kill, end, more in scenarios("long" in sys.argv):
        stage.host_in(None if kind == "test" else stage.far)  # a test's own network has the address by itself
        found = run_with(kind, operation, moment, kill, end, **more)
        print("# %s, %s %s, %s: %s" % (kind, operation, moment, kill.__name__, found or "well"), flush=True)
        wrong += found
    return wrong


def machines_that_are_kept_are_kept_once():
    wrong = []
    stage.host_in(stage.far)
    for plan, moment in KEPT:
        wrong += run_with("failover", "keep", moment, kill_node, "commit", plan, **FAILOVER)
    return wrong


def every_operation_was_met():
    missing = operations() - met
    print("# %d kills; met: %s" % (kills, " ".join(sorted(met))))
    wrong = [] if not missing else ["no scenario meets the operations %r" % sorted(missing)]
    killed = {(operation, moment) for _, operation, moment, kill, _, _ in scenarios(True) if kill is kill_node}
    killed |= {("keep", moment) for _, moment in KEPT}
    spared = {(operation, moment) for operation in operations() for moment in ("running", "done")} - killed
    return wrong + ["no scenario kills the node at %s %s" % each for each in sorted(spared)]


def main():
    global stage
    if not runlib.begin():
        return
    with runlib.Stage() as stage:
        card = {"nic": 0, "mode": "static", "prefix": runlib.PREFIX, "gateway": runlib.HOST}
        gate = {"kind": "port", "port": 7000, "timeout_s": 120}
        for index, name in enumerate(("one", "two", "three")):
            stage.guest(name, [32], memory_mib=96, options="far.ip=10.9.0.%d/24 far.port=7000 far.load_kib=1" % (2 + index))
        for index, name in enumerate(("one", "two", "three")):
            stage.guests[name].wait_ack(1)
            stage.protect(name, {name: {"nics": [dict(card, address="10.9.0.%d" % (2 + index))], "gates": [gate]}})
        tap.run_all([runs_end_well_whatever_is_killed, machines_that_are_kept_are_kept_once, every_operation_was_met])


if __name__ == "__main__":
    main()
