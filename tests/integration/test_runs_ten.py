#!/usr/bin/env python3
"""A plan of ten guests in four groups with gates: test recovery, failover, migration and failback. The right order is shown by the guests'
own clocks, another plan's replication goes on meanwhile, and nothing is left after cleaning up. Only in `make check-long`.

Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 1500
"""
import farlib
import runlib
import tap

GROUPS = {1: ["g0"], 2: ["g1", "g2", "g3"], 3: ["g4", "g5", "g6", "g7"], 4: ["g8", "g9"]}
NAMES = [name for names in GROUPS.values() for name in names]
stage = other = None
state = {}


def address(name):
    return "10.9.0.%d" % (10 + int(name[1:]))


def config(name, **more):
    group = next(number for number, names in GROUPS.items() if name in names)
    card = {"nic": 0, "mode": "static", "address": address(name), "prefix": runlib.PREFIX, "gateway": runlib.HOST}
    gates = {"gates": [{"kind": "port", "port": 7000, "timeout_s": 240}]} if group < 4 else {}
    return {"group": group, "position": 0 if int(name[1:]) % 2 else 1, "nics": [card], **gates, **more}


def consoles(run_id, node):
    return {name: stage.console(run_id, name, node) for name in NAMES}


def in_order(run_id, node="target"):
    """All booted, each behind those of the groups before it; what is wrong."""
    farlib.until(lambda: all(stage.booted(words) for words in consoles(run_id, node).values()), 300, "all ten boot")
    at = {name: stage.booted(words)[-1][0] for name, words in consoles(run_id, node).items()}
    spans = {number: (min(at[n] for n in names), max(at[n] for n in names)) for number, names in GROUPS.items()}
    print("# by their own clocks, in s: " + ", ".join("group %d %.1f to %.1f" % (number, first - spans[1][0], last - spans[1][0])
                                                      for number, (first, last) in spans.items()))
    return ["group %d began before group %d was up" % (number + 1, number) for number in list(GROUPS)[:-1]
            if spans[number + 1][0] < spans[number][1]]


def told(run_id):
    report = stage.cluster.get("/v1/runs/%d/report" % run_id)
    print("# %s: %.1f s in all, Farshore's own %.2f s; down %.1f s" % (report["kind"], report["total_ms"] / 1000, report["own_ms"] / 1000,
                                                                     report.get("down_ms", 0) / 1000))
    return report



def others_go_on(before):
    return [] if stage.cluster.get("/v1/plans/other")["last_checkpoint_id"] > before else ["the other plan made no checkpoint meanwhile"]


def a_test_of_ten():
    before, made = stage.left(), stage.cluster.get("/v1/plans/other")["last_checkpoint_id"]
    stage.cycle("ten")
    run_id = stage.run("test", "ten", seconds=600)
    wrong = in_order(run_id)
    told(run_id)
    stage.end(run_id, "finish")
    return wrong + others_go_on(made) + ([] if stage.left() == before else ["left: %r, before: %r" % (stage.left(), before)])


def a_failover_of_ten_is_rolled_back():
    before, made = stage.left(), stage.cluster.get("/v1/plans/other")["last_checkpoint_id"]
    stage.host_in(stage.far)
    run_id = stage.run("failover", "ten", seconds=600, fence_s=20, shutdown_s=10, force=True)
    wrong = in_order(run_id)
    told(run_id)
    stage.end(run_id, "roll-back", 300)
    running = stage.near.virsh("list", "--name").split()
    wrong += [] if set(NAMES) <= set(running) else ["at the source run %r" % running]
    return wrong + others_go_on(made) + ([] if stage.left() == before else ["left: %r, before: %r" % (stage.left(), before)])


def a_migration_of_ten_loses_nothing():
    farlib.until(lambda: all(len(stage.booted(guest.words())) >= 2 for name, guest in stage.guests.items() if name in NAMES), 300,
                 "all are up again")
    run_id = stage.run("migrate", "ten", seconds=600, shutdown_s=10, force=True)
    acked = {name: stage.guests[name].acked() for name in NAMES}
    wrong = in_order(run_id)
    found = {name: stage.booted(words)[-1][1] for name, words in consoles(run_id, "target").items()}
    wrong += ["%s lost records: %d of %d" % (name, found[name], acked[name]) for name in NAMES if found[name] < acked[name]]
    told(run_id)
    stage.end(run_id, "commit", 300)
    state["run"] = run_id
    return wrong


def they_fail_back():
    stage.cluster.post("/v1/plans/ten/reverse")
    spec = {key: value for key, value in stage.cluster.get("/v1/plans/ten-back/spec").items() if key not in ("name", "revision")}
    spec["workloads"] = [{"name": name + "-back", **config(name, recovered_name=name + "-home")} for name in NAMES]
    stage.cluster.call("PUT", "/v1/plans/ten-back/spec", {**spec, "networks": [{"source": "lan", "target": "lan"}]})
    stage.cluster.post("/v1/plans/ten-back/start")
    for name in NAMES:
        job = stage.cluster.post("/v1/plans/ten-back/seed", {"workload": name + "-back", "node": "source", "adapter": "kvm",
                                                             "locator": stage.locator(stage.guests[name], "vda")})["id"]
        if stage.cluster.finish(job, 120)["state"] != "succeeded":
            return ["the seed of %s: %r" % (name, stage.cluster.job(job))]
    job = stage.cycle("ten-back")
    print("# the first copy in the other direction sent %.2f %% of the disks" % (job["bytes_sent"] / (10 * 32 << 20) * 100))
    stage.host_in(stage.near)
    run_id = stage.run("migrate", "ten-back", seconds=600, shutdown_s=10, force=True)
    acked = {name: stage.acked(words) for name, words in consoles(state["run"], "target").items()}
    wrong = in_order(run_id, "source")
    found = {name: stage.booted(words)[-1][1] for name, words in consoles(run_id, "source").items()}
    wrong += ["%s lost records: %d of %d" % (name, found[name], acked[name]) for name in NAMES if found[name] < acked[name]]
    told(run_id)
    run = stage.end(run_id, "commit", 300)
    return wrong + ([] if run["end"] == "committed" else [repr(run)])


def main():
    global stage, other
    if not runlib.begin():
        return
    with runlib.Stage() as stage:
        for name in NAMES:
            stage.guest(name, [32], memory_mib=96, options="far.ip=%s/24 far.port=7000 far.load_kib=1" % address(name))
        image = stage.path("other.img")
        farlib.make_image(image, 4 * farlib.MIB, 1)
        stage.cluster.post("/v1/workloads", {"name": "other", "site": "protected", "adapter": "file",
                                             "disks": [{"name": "disk0", "locator": image}]})
        stage.cluster.post("/v1/plans", {"name": "other", "source_site": "protected", "target_site": "recovery", "workloads": ["other"],
                                         "interval_s": 5})
        stage.cluster.post("/v1/plans/other/start")
        farlib.until(lambda: all(guest.acked() > 1 for guest in stage.guests.values()), 300, "all ten guests write")
        stage.protect("ten", {name: config(name) for name in NAMES})
        tap.run_all([a_test_of_ten, a_failover_of_ten_is_rolled_back, a_migration_of_ten_loses_nothing, they_fail_back])


if __name__ == "__main__":
    main()
