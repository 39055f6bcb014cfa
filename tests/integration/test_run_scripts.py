#!/usr/bin/env python3
"""Scripts of a plan around recoveries of a real guest: before and after, of the plan and of the workload, in their order, with the machine's
name; one that fails holds the run until it is tried again or gone on without; what they did is in the run's report.

Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 600
"""
import hashlib
import json
import os
import stat

import farlib
import runlib
import tap

stage = folder = notes = None
sums = {}


def write(name, text):
    path = os.path.join(folder, name)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\n" + text)
    os.chmod(path + ".new", 0o755)
    os.rename(path + ".new", path)
    with open(path, "rb") as file:
        sums[name] = hashlib.sha256(file.read()).hexdigest()


def script(name, phase, **more):
    return {"name": name, "sha256": sums[name], "phase": phase, "timeout_s": 60, **more}


def told():
    with open(notes, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    with open(notes, "w", encoding="utf-8"):
        pass
    return lines


def set_up():
    global folder, notes
    folder, notes = stage.path("target-scripts"), stage.path("notes")
    os.chmod(stage.cluster.base, os.stat(stage.cluster.base).st_mode | stat.S_IXOTH)
    if stage.own_base:
        os.chmod(stage.own_base, os.stat(stage.own_base).st_mode | stat.S_IXOTH)
    with open(notes, "w", encoding="utf-8"):
        pass
    os.chmod(notes, 0o666)
    write("note", "cat >>%s\necho noted" % notes)
    write("check", "[ -e %s.ready ] || { echo the network is not there; exit 1; }\ncat >>%s" % (notes, notes))
    stage.guest("one")
    stage.protect("gold", {"one": {}}, scripts=[
        script("note", "after_recovery"), script("note", "after_recovery", workload="one"), script("check", "before_recovery", workload="one"),
        script("note", "before_recovery")])


def names(lines):
    return [(line["phase"], line["workload"], line.get("result")) for line in lines]


ALL = [("before_recovery", "", None), ("before_recovery", "one", None), ("after_recovery", "one", "succeeded"), ("after_recovery", "", "succeeded")]


def one_that_fails_holds_a_test_until_it_is_tried_again():
    run_id = stage.run("test", "gold", phase=None)
    held = farlib.until(lambda: (lambda run: run["problem"] and run)(stage.show(run_id)), 200, lambda: "it is held: %r" % stage.show(run_id))
    reason = "script 'check' before the recovery of workload 'one': it ended with status 1; it said last: the network is not there"
    wrong = [] if reason in held["problem"] and stage.far.domains() == [] else ["%r" % held]
    with open(notes + ".ready", "w", encoding="utf-8"):
        pass
    stage.cluster.post("/v1/runs/%d/retry" % run_id)
    run = stage.wait(run_id, "up")
    lines = told()
    wrong += [] if names(lines) == ALL else ["%r" % lines]
    machine = run["members"][0]["machine"]
    wrong += [] if [line["machine"] for line in lines] == ["", machine, machine, ""] and all(line["isolated"] for line in lines) else ["%r" % lines]
    wrong += [] if {line["kind"] for line in lines} == {"test_recovery"} else ["%r" % lines]
    report = stage.cluster.get("/v1/runs/%d/report" % run_id)
    wrong += [] if [s["state"] for s in report["scripts"]] == ["done"] * 4 and report["scripts"][0]["output"] == "noted\n" else ["%r" % report]
    text = stage.cluster.cli("run", "report", str(run_id), as_json=False)
    wrong += [] if "script check, before_recovery of one: done" in text else [text]
    stage.end(run_id, "finish")
    return wrong


def a_failover_goes_on_without_one_when_somebody_says_so():
    os.unlink(notes + ".ready")
    run_id = stage.run("failover", "gold", phase=None, shutdown_s=2, force=True)
    farlib.until(lambda: stage.show(run_id)["problem"], 200, lambda: "it is held: %r" % stage.show(run_id))
    stage.cluster.post("/v1/runs/%d/pass" % run_id, {"workload": "one"})
    run = stage.wait(run_id, "up")
    wrong = [] if names(told()) == [ALL[0], *ALL[2:]] else ["%r" % run]
    wrong += [] if [s["state"] for s in stage.show(run_id)["scripts"]].count("passed") == 1 else ["%r" % stage.show(run_id)]
    stage.end(run_id, "roll-back")
    return wrong + ([] if stage.far.domains() == [] else ["%r" % stage.far.domains()])


def main():
    global stage
    if not runlib.begin():
        return
    with runlib.Stage() as stage:
        set_up()
        tap.run_all([one_that_fails_holds_a_test_until_it_is_tried_again, a_failover_goes_on_without_one_when_somebody_says_so])


if __name__ == "__main__":
    main()
