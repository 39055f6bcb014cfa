#!/usr/bin/env python3
"""Scripts of a plan around its cycles: real programs on a node, before and after, of the plan and of a workload. What they are told and
in which order they run; those that fail, are late, say "not yet", are another file than the one that is meant; a node that dies while one
runs; cancellation; and what is said of them afterwards.

far-timeout: 240
"""
import hashlib
import json
import os
import pwd
import stat

import farlib
import tap

cluster = folder = notes = None
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


def apply(*scripts):
    spec = {"source_site": "protected", "target_site": "recovery", "workloads": [{"name": "db"}, {"name": "web"}], "scripts": list(scripts)}
    cluster.call("PUT", "/v1/plans/plan/spec", spec)


def told():
    """What the scripts wrote down, and a clean page."""
    with open(notes, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    with open(notes, "w", encoding="utf-8"):
        pass
    return lines


def cycle():
    return cluster.finish(cluster.start_cycle("plan"))


def scripts_of(job):
    return [(t["script"][0]["name"], t["state"]) for t in job["tasks"] if t["kind"] == "script"]


def result_of(job, name):
    return next(t["script_result"][0] for t in job["tasks"] if t["kind"] == "script" and t["script"][0]["name"] == name)


def points(job):
    return len([m for m in cluster.get("/v1/checkpoints/%d" % job["checkpoint_id"])["members"] if not m.get("failed")])


def set_up():
    global folder, notes
    folder, notes = os.path.join(cluster.base, "scripts"), os.path.join(cluster.base, "notes")
    os.makedirs(folder)
    os.chmod(cluster.base, os.stat(cluster.base).st_mode | stat.S_IXOTH)
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    with open(notes, "w", encoding="utf-8"):
        pass
    os.chmod(notes, 0o666)
    cluster.add_node("source", "protected", settings={"scripts_dir": folder, "scripts_user": user})
    cluster.add_node("plain", "protected")  # it runs none
    cluster.add_node("target", "recovery")
    cluster.wait_nodes()
    for index, name in enumerate(("db", "web")):
        image = os.path.join(cluster.base, name + ".img")
        farlib.make_image(image, 4 << 20, farlib.seed_of_run() + index)
        cluster.post("/v1/workloads", {"name": name, "site": "protected", "adapter": "file", "disks": [{"name": "disk", "locator": image}]})
    write("note", "cat >>%s\necho noted" % notes)
    write("fail", "echo the database is not there >&2; exit 4")
    write("late", "echo still at it; sleep 300 & echo $! >%s.pid; wait" % notes)
    write("soon", "n=$(cat %s.count 2>/dev/null || echo 0); n=$((n+1)); echo $n >%s.count; echo try $n; [ $n -ge 3 ] || exit 75" % ((notes,) * 2))
    for more in (".pid", ".count"):
        with open(notes + more, "w", encoding="utf-8") as file:
            file.write("0\n")
        os.chmod(notes + more, 0o666)


def they_run_in_their_order_and_are_told_what_it_is_about():
    apply(script("note", "after_cycle"), script("note", "after_cycle", workload="db"), script("note", "before_cycle", workload="db"),
          script("note", "before_cycle"))
    job, said = cycle(), told()
    wrong = [] if job["state"] == "succeeded" and points(job) == 2 else ["%r" % job]
    wanted = [("before_cycle", "", None), ("before_cycle", "db", None), ("after_cycle", "db", "succeeded"), ("after_cycle", "", "succeeded")]
    wrong += [] if [(s["phase"], s["workload"], s.get("result")) for s in said] == wanted else ["%r" % said]
    wrong += [] if all(s["job"] == job["id"] and s["plan"] == "plan" and s["kind"] == "replicate" for s in said) else ["%r" % said]
    result = result_of(job, "note")
    wrong += [] if result["output"] == "noted\n" and result["status"] == 0 else ["%r" % result]
    freeze = next(t for t in job["tasks"] if t["kind"] == "freeze" and t["workload"] == "db")
    before = next(t for t in job["tasks"] if t["kind"] == "script" and t["workload"] == "db" and t["script"][0]["phase"] == "before_cycle")
    wrong += [] if before["finished_ms"] <= freeze["started_ms"] else ["%r behind %r" % (freeze, before)]
    text = cluster.cli("job", "show", str(job["id"]), as_json=False)
    return wrong + ([] if "script note, before_cycle of db: done, status 0" in text and "| noted" in text else [text])


def one_that_fails_before_a_workload_spoils_that_workload():
    apply(script("fail", "before_cycle", workload="db", retries=1), script("note", "after_cycle", workload="db"))
    job, said = cycle(), told()
    wrong = [] if job["state"] == "partial" and points(job) == 1 else ["%r" % job]
    wrong += [] if [s.get("result") for s in said] == ["failed"] else ["%r" % said]
    reason = "script 'fail' before the cycle of workload 'db': it ended with status 4; it said last: the database is not there"
    wrong += [] if reason in job["error_message"] else [job["error_message"]]
    task = next(t for t in job["tasks"] if t["kind"] == "script" and t["script"][0]["name"] == "fail")
    return wrong + ([] if task["attempt"] == 2 and result_of(job, "fail")["status"] == 4 else ["%r" % task])


def one_that_fails_before_the_plan_spoils_the_cycle_and_behind_it_nothing():
    apply(script("fail", "before_cycle"))
    job = cycle()
    wrong = [] if job["state"] == "failed" and "before the cycle of the plan" in job["error_message"] else ["%r" % job]
    apply(script("fail", "after_cycle"), script("fail", "after_cycle", workload="db"))
    job = cycle()
    wrong += [] if job["state"] == "partial" and points(job) == 2 and "after the cycle" in job["error_message"] else ["%r" % job]
    return wrong + ([] if scripts_of(job) == [("fail", "failed")] * 2 else ["%r" % scripts_of(job)])


def one_that_is_late_is_ended_and_one_that_says_not_yet_is_asked_again():
    apply(script("late", "after_cycle", timeout_s=1), script("soon", "before_cycle"))
    job = cycle()
    late, soon = result_of(job, "late"), result_of(job, "soon")
    wrong = [] if job["state"] == "partial" and "its time of 1 s was over" in job["error_message"] else ["%r" % job]
    wrong += [] if late.get("late") and late.get("killed") and late["output"] == "still at it\n" else ["%r" % late]
    return wrong + ([] if soon["output"] == "try 3\n" and soon["status"] == 0 else ["%r" % soon])


def another_file_does_not_run():
    meant = sums["note"]
    apply(script("note", "before_cycle", retries=5))
    write("note", "cat >>%s\necho another" % notes)
    job, said = cycle(), told()
    wrong = [] if job["state"] == "failed" and said == [] else ["%r %r" % (job, said)]
    wrong += [] if meant in job["error_message"] and sums["note"] in job["error_message"] else [job["error_message"]]
    task = next(t for t in job["tasks"] if t["kind"] == "script")
    return wrong + ([] if task["attempt"] == 1 and not task.get("script_result") else ["%r" % task])


def pid_of_late():
    with open(notes + ".pid", encoding="utf-8") as file:
        return int(file.read() or 0)


def begin_late(*scripts):
    with open(notes + ".pid", "w", encoding="utf-8") as file:
        file.write("0")
    apply(*scripts)
    job_id = cluster.start_cycle("plan")
    farlib.until(pid_of_late, 60, "the script runs")
    return job_id


def none_is_left(what):
    farlib.until(lambda: not any(b"sleep\x00300" in line for line in command_lines()), 30, "no script is left after " + what)


def command_lines():
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as file, open("/proc/%s/environ" % pid, "rb") as environment:
                if b"FARSHORE_JOB=" in environment.read():
                    yield file.read()
        except OSError:
            pass


def a_node_that_dies_takes_it_along_and_that_counts():
    job_id = begin_late(script("late", "before_cycle", retries=1), script("note", "after_cycle"))
    for _ in range(2):
        node = cluster.nodes["source"]
        node.kill()
        none_is_left("a kill of its node")
        with open(notes + ".pid", "w", encoding="utf-8") as file:
            file.write("0")
        node.start()
        farlib.until(lambda: pid_of_late() or cluster.job(job_id)["tasks"][0]["state"] == "failed", 60, "it begins again, or has failed")
    job, said = cluster.finish(job_id), told()
    wrong = [] if job["state"] == "failed" and "the node that ran it was lost" in job["error_message"] else ["%r" % job]
    return wrong + ([] if [s.get("result") for s in said] == ["failed"] else ["%r" % said])


def a_leader_that_dies_costs_nothing():
    job_id = begin_late(script("late", "before_cycle", timeout_s=6), script("note", "after_cycle"))
    leader = cluster.wait_leader()
    leader.kill()
    leader.start()
    job, said = cluster.finish(job_id), told()
    wrong = [] if job["state"] == "failed" and "its time of 6 s was over" in job["error_message"] else ["%r" % job]
    return wrong + ([] if job["tasks"][0]["attempt"] == 1 and len(said) == 1 else ["%r %r" % (job["tasks"][0], said)])


def a_canceled_cycle_ends_it_and_tells_those_behind():
    job_id = begin_late(script("late", "before_cycle"), script("note", "after_cycle"))
    cluster.post("/v1/jobs/%d/cancel" % job_id)
    none_is_left("a cancellation")
    job, said = cluster.finish(job_id), told()
    wrong = [] if job["state"] == "canceled" and scripts_of(job) == [("late", "canceled"), ("note", "done")] else ["%r" % scripts_of(job)]
    return wrong + ([] if [s.get("result") for s in said] == ["canceled"] else ["%r" % said])


def a_site_where_nobody_runs_scripts_says_so():
    apply(script("note", "before_cycle"))
    node = cluster.nodes["source"]
    node.stop()
    node.configure({"scripts_dir": "", "scripts_user": ""})
    node.start()
    farlib.until(lambda: not cluster.get("/v1/nodes/source").get("runs_scripts"), 30, "the node says that it runs none")
    job = cycle()
    return [] if job["state"] == "failed" and "no node of site 'protected' runs scripts" in job["error_message"] else ["%r" % job]


def main():
    global cluster
    checks = [they_run_in_their_order_and_are_told_what_it_is_about, one_that_fails_before_a_workload_spoils_that_workload,
              one_that_fails_before_the_plan_spoils_the_cycle_and_behind_it_nothing,
              one_that_is_late_is_ended_and_one_that_says_not_yet_is_asked_again, another_file_does_not_run,
              a_node_that_dies_takes_it_along_and_that_counts, a_leader_that_dies_costs_nothing,
              a_canceled_cycle_ends_it_and_tells_those_behind, a_site_where_nobody_runs_scripts_says_so]
    with farlib.Cluster(nodes=False) as cluster:
        set_up()
        tap.run_all(checks)


if __name__ == "__main__":
    main()
