#!/usr/bin/env python3
"""Workflows on real machines: a database and a program that writes to it, on one libvirt, recovered on another. What the program acknowledged
is in both, whatever the workflow; they come up in their order; a test leaves nothing; a roll-back leaves everything as it was; a
migration loses nothing; the way back costs what differs.

With `long` all of them, without it the migration alone. Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 600
"""
import sys
import time

import farlib
import runlib
import tap

stage = db = app = None
ADDRESS = {"db": "10.9.0.2", "app": "10.9.0.3"}


def card(name):
    return [{"nic": 0, "mode": "static", "address": ADDRESS[name], "prefix": runlib.PREFIX, "gateway": runlib.HOST}]


WORKLOADS = {"db": {"group": 1, "gates": [{"kind": "port", "port": 7000, "timeout_s": 40}], "nics": card("db")},
             "app": {"group": 2, "position": 1, "nics": card("app")}}


def members(run):
    return {member["workload"]: member for member in run["members"]}


def came_up(run_id, acked, node="target"):
    """Both came up in their order, with what was acknowledged before the point, and work together: what is wrong."""
    wrong, starts = [], {}
    for name in ("db", "app"):
        starts[name] = farlib.until(lambda n=name: stage.booted(stage.console(run_id, n, node)), 120,
                                    lambda n=name: "%s boots: %s" % (n, stage.console(run_id, n, node)[-800:]))[-1]
    last = {name: starts[name][1] for name in starts}
    print("# acknowledged %d before the point; db comes up at record %d, app at %d, %.1f s later" % (
        acked, last["db"], last["app"], starts["app"][0] - starts["db"][0]))
    wrong += [] if starts["db"][0] < starts["app"][0] else ["the program came up before its database"]
    wrong += [] if min(last.values()) >= acked else ["records are missing: %r of %d" % (last, acked)]
    farlib.until(lambda: stage.acked(stage.console(run_id, "app", node)) >= last["app"] + 5, 60,
                 lambda: "they go on: " + stage.console(run_id, "app", node)[-800:])
    return wrong


def a_test_comes_up_apart_and_leaves_nothing():
    before, acked = stage.left(), app.acked()
    stage.cycle("gold")
    run_id = stage.run("test", "gold")
    wrong = came_up(run_id, acked)
    app.wait_ack(app.acked() + 3)  # the source goes on
    stage.cycle("gold")            # and is replicated
    run = stage.end(run_id, "finish")
    wrong += [] if stage.left() == before else ["left: %r, before: %r" % (stage.left(), before)]
    wrong += [] if all(m["state"] == "cleaned" for m in run["members"]) else [repr(run)]
    return wrong


def a_failover_of_a_site_that_is_there_is_rolled_back():
    before = stage.left()
    stage.host_in(stage.far)
    run_id = stage.run("failover", "gold")
    states = {name: stage.near.virsh("domstate", name) for name in ("db", "app")}
    wrong = [] if set(states.values()) == {"shut off"} else ["the source is not fenced: %r" % states]
    wrong += came_up(run_id, 1)
    stage.end(run_id, "roll-back")
    app.wait_ack(app.acked() + 3)
    wrong += [] if stage.left() == before else ["left: %r, before: %r" % (stage.left(), before)]
    stage.cycle("gold")
    return wrong


def a_migration_loses_nothing():
    stage.host_in(stage.far)
    run_id = stage.run("migrate", "gold")
    acked = app.acked()  # the last one before the shutdown
    wrong = came_up(run_id, acked)
    run = stage.end(run_id, "commit")
    print("# down for %s ms, %s ms were forecast" % (run.get("down_ms"), run.get("forecast_ms")))
    return wrong + ([] if sorted(stage.far.domains()) == ["app", "db"] else [repr(stage.far.domains())])


def main():
    global stage, db, app
    if not runlib.begin():
        return
    began = time.monotonic()
    with runlib.Stage() as stage:
        db = stage.guest("db", options="far.ip=%s/24 far.serve=7000" % ADDRESS["db"])
        app = stage.guest("app", options="far.ip=%s/24 far.peer=%s:7000" % (ADDRESS["app"], ADDRESS["db"]))
        app.wait_ack(3)
        stage.protect("gold", WORKLOADS)
        longer = [a_test_comes_up_apart_and_leaves_nothing, a_failover_of_a_site_that_is_there_is_rolled_back] if "long" in sys.argv else []
        tap.run_all([*longer, a_migration_loses_nothing])
    print("# %.0f s" % (time.monotonic() - began))


if __name__ == "__main__":
    main()
