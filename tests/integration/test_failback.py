#!/usr/bin/env python3
"""A site is lost, and comes back: its machines are failed over by what is left, work on at the recovery site, are protected from there to
where they came from with the old disks as a seed, and migrate home; then the first plan goes on. What was acknowledged and is lost is
what came after the newest point, and nothing on the way back.

Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 600
"""
import farlib
import libvirt_kit
import runlib
import tap

stage = db = app = None
lost = {}
ADDRESS = {"db": "10.9.0.2", "app": "10.9.0.3"}
DISK_MIB = 64


def config(name, **more):
    card = {"nic": 0, "mode": "static", "address": ADDRESS[name], "prefix": runlib.PREFIX, "gateway": runlib.HOST}
    gates = {"gates": [{"kind": "port", "port": 7000, "timeout_s": 60}]} if name == "db" else {}
    return {"group": 1 if name == "db" else 2, "nics": [card], **gates, **more}


def starts(run_id, node="target"):
    return {name: farlib.until(lambda n=name: stage.booted(stage.console(run_id, n, node)), 120,
                               lambda n=name: "%s boots: %s" % (n, stage.console(run_id, n, node)[-800:]))[-1] for name in ("db", "app")}


def go_on(run_id, node="target"):
    first = starts(run_id, node)
    return farlib.until(lambda: stage.acked(stage.console(run_id, "app", node)) >= first["app"][1] + 5 and
                        stage.acked(stage.console(run_id, "app", node)), 90, lambda: "they go on: " + stage.console(run_id, "app", node)[-800:])


def a_site_that_is_gone_is_failed_over():
    stage.cycle("gold")
    kept = app.acked()
    stage.cycle("gold")
    app.wait_ack(app.acked() + 5)
    for guest in (app, db):
        guest.crash()
    lost["acked"] = app.acked()
    stage.near.kill_daemon()
    stage.cluster.nodes["source"].kill()
    stage.cluster.servers["protected"].kill()
    stage.cluster.wait_leader(60)
    stage.host_in(stage.far)
    lost["run"] = stage.run("failover", "gold", fence_s=1)
    found = starts(lost["run"])
    last = min(found["db"][1], found["app"][1])
    print("# acknowledged %d at the end, %d before the last cycle; they come up at %r" % (lost["acked"], kept, found))
    wrong = [] if kept <= last <= lost["acked"] + 1 else ["came up at %d" % last]
    wrong += [] if found["db"][0] < found["app"][0] else ["the program came up first"]
    run = stage.end(lost["run"], "commit")
    wrong += [] if run["end"] == "committed" and sorted(stage.far.domains()) == ["app", "db"] else [repr(run)]
    go_on(lost["run"])
    return wrong


def extents_of(guest):
    """Of the disk that was left behind those that the recovered point has not, as blocks of 64 KiB, merged."""
    old, point, block, found = stage.path(guest.name + ".left"), stage.path(guest.name + ".point"), 64 << 10, []
    libvirt_kit.tool("qemu-img", "convert", "-U", "-O", "raw", guest.disks["vda"], old)
    job = stage.cluster.finish(stage.cluster.post("/v1/plans/gold/recover", {
        "workload": guest.name, "checkpoint_id": stage.show(lost["run"])["checkpoint_id"],
        "disks": [{"disk": "disk0", "path": point}]})["id"])
    assert job["state"] == "succeeded", job
    with open(old, "rb") as one, open(point, "rb") as two:
        a, b = one.read(), two.read()
    for at in range(0, len(b), block):
        if a[at:at + block] != b[at:at + block]:
            if found and found[-1]["offset"] + found[-1]["length"] == at:
                found[-1]["length"] += block
            else:
                found.append({"offset": at, "length": block})
    return found


def losses():
    return {loss["workload"]: loss for loss in stage.cluster.get("/v1/runs/%d/report" % lost["run"])["losses"]}


def a_site_that_is_back_tells_what_was_lost():
    early = ("unknown", "comparing")  # begun where its node was not missed yet when the machines were up: then it waits for it
    wrong = [] if all(loss["source"] in early and loss["estimate"] and not loss["disks"] for loss in losses().values()) else [repr(losses())]
    stage.near.start_daemon()
    stage.cluster.servers["protected"].start()
    stage.cluster.nodes["source"].start()
    farlib.until(lambda: stage.cluster.get("/v1/nodes/source")["state"] == "up", 60, "the old site's node is back")
    told = farlib.until(lambda: all(loss["source"] in ("compared", "failed") for loss in losses().values()) and losses(), 120,
                        lambda: "it tells: %r" % losses())
    print("# " + "\n# ".join(stage.cluster.cli("run", "report", str(lost["run"]), as_json=False).splitlines()))
    for guest in (db, app):
        loss, want = told[guest.name], extents_of(guest)
        disk = loss["disks"][0] if loss["disks"] else {}
        wrong += [] if disk.get("extents") == want[:64] and disk["extent_count"] == len(want) and want else ["%r, not %r" % (loss, want)]
        wrong += [] if loss["written_ms"] and not loss["estimate"] and not loss["has_run_since"] else [repr(loss)]
    wrong += [] if sorted(stage.near.domains()) == ["app", "db"] or stage.near.domains() == [] else [repr(stage.near.domains())]
    return wrong


def the_other_direction_begins_with_what_differs():
    stage.cluster.post("/v1/plans/gold/reverse")
    spec = stage.cluster.get("/v1/plans/gold-back/spec")
    spec["workloads"] = [{"name": name + "-back", **config(name, recovered_name=name + "-home")} for name in ("db", "app")]
    spec = {key: value for key, value in spec.items() if key not in ("name", "revision")}
    stage.cluster.call("PUT", "/v1/plans/gold-back/spec", {**spec, "networks": [{"source": "lan", "target": "lan"}]})
    stage.cluster.post("/v1/plans/gold-back/start")
    for guest in (db, app):
        job = stage.cluster.post("/v1/plans/gold-back/seed", {"workload": guest.name + "-back", "node": "source", "adapter": "kvm",
                                                              "locator": stage.locator(guest, "vda")})["id"]
        job = stage.cluster.finish(job, 120)
        if job["state"] != "succeeded":
            return [repr(job)]
    job = stage.cycle("gold-back")
    differing = sum(differing_bytes(guest) for guest in (db, app))
    print("# the first copy in the other direction: %d bytes sent, in pages of 4 KiB %d differ (%.2f %% of the disks)" % (
        job["bytes_sent"], differing, differing / (2 * DISK_MIB << 20) * 100))
    return [] if job["bytes_sent"] <= 1.2 * differing else ["%d bytes were sent" % job["bytes_sent"]]


def the_next_cycle_goes_by_the_list_of_changes():
    """The recovered disks are qcow2 images, so what they read is what was written since, and not all that they are."""
    job = stage.cycle("gold-back")
    sends = [task for task in job["tasks"] if task["kind"] == "send"]
    read, size = sum(task["hashed_bytes"] for task in sends), 2 * DISK_MIB << 20
    print("# the second copy: %d bytes read, %.2f %% of the disks, %d sent" % (read, read / size * 100, job["bytes_sent"]))
    wrong = ["%(hashed_bytes)d bytes read, all of it: %(full)s" % task for task in sends if task["full"]]
    return wrong + ([] if len(sends) == 2 and 0 < read < size / 4 else ["%d bytes read of %d, of %r" % (read, size, stage.disks(lost["run"]))])


def differing_bytes(guest):
    """Between the disk that was left behind and the newest point of the machine that went on, in whole pages."""
    old, new, page = stage.path(guest.name + ".old"), stage.path(guest.name + ".new"), 4096
    libvirt_kit.tool("qemu-img", "convert", "-U", "-O", "raw", guest.disks["vda"], old)
    job = stage.cluster.finish(stage.cluster.start_recovery(guest.name + "-back", [new], "gold-back"))
    assert job["state"] == "succeeded", job
    with open(old, "rb") as one, open(new, "rb") as two:
        a, b = one.read(), two.read()
    return sum(page for at in range(0, len(b), page) if a[at:at + page] != b[at:at + page])


def they_come_home_and_lose_nothing():
    stage.host_in(stage.near)
    run_id = stage.run("migrate", "gold-back")
    acked = stage.acked(stage.console(lost["run"], "app"))
    found = starts(run_id, "source")
    print("# acknowledged %d at the recovery site; at home again from %r" % (acked, found))
    wrong = [] if min(found["db"][1], found["app"][1]) >= acked else ["records are missing: %r of %d" % (found, acked)]
    run = stage.end(run_id, "commit")
    go_on(run_id, "source")
    wrong += [] if run["end"] == "committed" else [repr(run)]
    stage.cluster.post("/v1/plans/gold-back/reverse", {})
    stage.cluster.post("/v1/plans/gold/start")
    job = stage.cycle("gold")
    print("# the first plan again: %.2f %% sent" % (job["bytes_sent"] / (2 * DISK_MIB << 20) * 100))
    return wrong


def main():
    global stage, db, app
    if not runlib.begin():
        return
    with runlib.Stage() as stage:
        db = stage.guest("db", [DISK_MIB], options="far.ip=%s/24 far.serve=7000" % ADDRESS["db"])
        app = stage.guest("app", [DISK_MIB], options="far.ip=%s/24 far.peer=%s:7000" % (ADDRESS["app"], ADDRESS["db"]))
        app.wait_ack(3)
        stage.protect("gold", {name: config(name) for name in ADDRESS})
        tap.run_all([a_site_that_is_gone_is_failed_over, a_site_that_is_back_tells_what_was_lost,
                     the_other_direction_begins_with_what_differs,
                     the_next_cycle_goes_by_the_list_of_changes, they_come_home_and_lose_nothing])


if __name__ == "__main__":
    main()
