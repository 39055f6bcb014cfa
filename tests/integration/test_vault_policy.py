#!/usr/bin/env python3
"""Retention, locks, reclaim and erasing with real programs: what the rules do not keep goes, its space comes back, a locked point stays
also when the cluster's clock says that it need not, and an erased plan leaves nothing that others do not need.

far-timeout: 240
"""
import os
import random
import re

import farlib
import tap

SEED = farlib.seed_of_run()
DAY_MS = 86400000
SHIM = os.path.join(farlib.BUILD, "tests/lib/.libs/libclock.so")
cluster = image = target = server = None


def shift(process, ms):
    """The process begins anew with a wall clock that is so far ahead."""
    path = os.path.join(cluster.base, process.name + ".offset")
    with open(path, "w", encoding="utf-8") as file:
        file.write(str(ms))
    process.stop()
    process.environment = {"LD_PRELOAD": SHIM, "FAR_CLOCK_OFFSET_FILE": path}
    process.start()


def cycle(seed):
    farlib.change_image(image, 20, seed)
    return cluster.replicate()["checkpoint_id"]


def now_ms():
    """Cluster time of the newest event of a node."""
    return cluster.get("/v1/nodes/source")["seen_ms"]


def checkpoints():
    return {c["id"]: c for c in cluster.get("/v1/checkpoints?limit=1000")["items"]}


def there():
    return sorted(i for i, c in checkpoints().items() if c["state"] == "available")


def manifests():
    return sorted(n for n in os.listdir(os.path.join(target.dir, "vault", "points")) if n.endswith(".manifest"))


def vault():
    return cluster.get("/v1/vaults/target")


def reclaim():
    cluster.cli("vault", "reclaim", "target", "--wait", as_json=False)
    return cluster.get("/v1/jobs?kind=reclaim&limit=1000")["items"][-1]


def is_in_packs(bytes_sought):
    packs = os.path.join(target.dir, "vault", "packs")
    for name in os.listdir(packs):
        with open(os.path.join(packs, name), "rb") as file:
            if bytes_sought in file.read():
                return True
    return False


def a_disk_that_is_gone_with_its_points_leaves_nothing():
    gone = os.path.join(cluster.base, "gone.img")
    farlib.make_image(gone, 2 * farlib.MIB, SEED + 77)
    mark = random.Random(SEED).randbytes(65536)
    with open(gone, "r+b") as file:
        file.write(mark)
    cluster.post("/v1/workloads", {"name": "gone", "site": "protected", "adapter": "file", "disks": [{"name": "disk0", "locator": gone}]})
    cluster.post("/v1/plans", {"name": "gone", "source_site": "protected", "target_site": "recovery", "workloads": ["gone"]})
    before = len(manifests())
    job = cluster.finish(cluster.start_cycle("gone"))
    reclaim()
    wrong = [] if is_in_packs(mark[:4096]) else ["the mark did not come"]
    cluster.cli("plan", "remove", "gone", as_json=False)
    cluster.cli("checkpoint", "remove", str(job["checkpoint_id"]), as_json=False)
    farlib.until(lambda: len(manifests()) == before, 30, "the manifest goes")
    for _ in range(2):  # the replica stays while its workload is there
        reclaim()
    wrong += [] if is_in_packs(mark[:4096]) else ["what the next cycle goes by is gone"]
    cluster.cli("workload", "remove", "gone", as_json=False)
    for _ in range(4):
        reclaim()
    return wrong + (["what nobody needs is still there"] if is_in_packs(mark[:4096]) else [])


def what_the_rules_do_not_keep_goes():
    made = [cycle(SEED + i) for i in range(5)]
    before = cluster.cli("plan", "retention", "preview", "plan", "--last", "2", as_json=False)
    wrong = [] if "2 stay, 3 go" in before and "newest" in before else [before]
    wrong += [] if there() == made else ["a preview changed something"]
    cluster.cli("plan", "retention", "set", "plan", "--last", "2", "--daily", "1", as_json=False)
    farlib.until(lambda: there() == made[-2:], 30, "the older ones go")
    farlib.until(lambda: len(manifests()) == 2, 30, "their manifests go")
    made.append(cycle(SEED + 9))
    farlib.until(lambda: there() == made[-2:], 30, "one more goes for a new one")
    shown = cluster.cli("plan", "retention", "show", "plan", as_json=False)
    return wrong + ([] if "last 2, daily 1" in shown and "2 stay, 0 go" in shown else [shown])


def space_comes_back_with_the_second_pass():
    early = cluster.cli("vault", "space", "target", as_json=False)
    first = reclaim()
    used = vault()["used_bytes"]
    second = reclaim()
    after = vault()
    wrong = [] if first["quarantined_records"] > 0 and first["delete_before"] == 0 else ["%r" % first]
    wrong += [] if not re.search(r"\b0 B", early) and re.search(r"plan +\d+ +- +- +- +- +-", early) else [early]  # not measured is not 0
    wrong += [] if second["deleted_records"] >= first["quarantined_records"] and second["freed_bytes"] > 0 else ["%r" % second]
    wrong += [] if after["used_bytes"] < used and after["reclaim_job_id"] == 0 else ["used %d, then %r" % (used, after)]
    out = os.path.join(cluster.base, "out")
    cluster.recover("vm1", [out])
    wrong += [] if farlib.same_bytes(out, image) else ["what is left is not what it was"]
    plan = after["plans"][0]
    fits = plan["plan"] == "plan" and plan["logical_bytes"] > 0 and plan["unique_bytes"] > 0 and plan["shared_bytes"] == 0
    wrong += [] if fits else ["%r" % plan]
    shown = cluster.cli("vault", "space", "target", as_json=False)
    wrong += [] if "LOGICAL" in shown and "not known yet" in shown else [shown]
    listed = cluster.cli("vault", "list", as_json=False)
    return wrong + ([] if "target" in listed else [listed])


def a_lock_holds_against_the_cluster_clock():
    """The servers' clock jumps by three days, and the log lets the checkpoint go: the vault does not."""
    locked, newest = there()
    cluster.cli("plan", "retention", "clear", "plan", as_json=False)
    status, text = cluster.cli("checkpoint", "lock", str(locked), "--until", "2000-01-01", check=False, as_json=False)
    wrong = [] if status != 0 and "in the future" in text else ["%d %s" % (status, text)]
    until = now_ms() + DAY_MS
    job = cluster.post("/v1/checkpoints/%d/lock" % locked, {"until_ms": until})["id"]
    cluster.finish(job)
    status, text = cluster.cli("checkpoint", "remove", str(locked), check=False, as_json=False)
    wrong += [] if status != 0 and "is locked until" in text else ["%d %s" % (status, text)]
    shift(server, 3 * DAY_MS)
    cluster.wait_leader()
    farlib.until(lambda: now_ms() > until, 30, "the cluster's time jumps")
    cluster.wait_nodes()
    point = checkpoint_point(locked)
    cluster.cli("checkpoint", "remove", str(locked), as_json=False)
    jobs = farlib.until(lambda: [j for j in cluster.get("/v1/jobs?kind=forget&limit=1000")["items"] if j["state"] == "failed"], 30,
                        "the vault refuses")
    wrong += [] if "is locked until" in jobs[-1]["error_message"] else ["%r" % jobs[-1]]
    wrong += [] if "%d.manifest" % point in manifests() else ["the locked point is gone"]
    return wrong + ([] if newest in there() else ["the other one is gone"])


def checkpoint_point(checkpoint_id):
    return cluster.get("/v1/checkpoints/%d" % checkpoint_id)["members"][0]["point_id"]


def a_node_whose_clock_jumps_is_not_believed_until_somebody_says_so():
    folder = os.path.join(target.dir, "vault")
    locked = [int(name.split(".")[0]) for name in os.listdir(os.path.join(folder, "points")) if name.endswith(".lock")]
    shift(target, 3 * DAY_MS)
    cluster.wait_nodes()
    newest = there()[-1]
    os.environ.update(target.environment)
    try:
        status, text = cluster.run_tool("farshore-node", "vault", "confirm-time", "--vault", folder)
    finally:
        for name in target.environment:
            del os.environ[name]
    wrong = [] if len(locked) == 1 and status == 0 and re.search(r"it is 20", text) else ["%r %s" % (locked, text)]
    return wrong + ([] if newest in there() else ["a checkpoint is gone"])


def an_erased_plan_leaves_nothing():
    cluster.cli("plan", "stop", "plan", as_json=False)
    status, text = cluster.cli("plan", "erase", "plan", "--confirm", "plain", check=False, as_json=False)
    wrong = [] if status != 0 and "cannot be undone" in text else [text]
    cluster.cli("plan", "erase", "plan", "--confirm", "plan", "--wait", as_json=False, timeout=120)
    job = cluster.get("/v1/jobs?kind=erase&limit=10")["items"][-1]
    wrong += [] if job["state"] == "succeeded" and job["quarantined_records"] > 0 and job["deleted_records"] > 0 else ["%r" % job]
    return wrong + ([] if there() == [] else ["%r is there" % there()])


if __name__ == "__main__":
    with farlib.Cluster(servers=("protected",)) as cluster:
        server, target = cluster.servers["protected"], cluster.nodes["target"]
        image = os.path.join(cluster.base, "vm1.img")
        farlib.make_image(image, 24 * farlib.MIB, SEED)
        cluster.protect("vm1", [image])
        tap.run_all([what_the_rules_do_not_keep_goes, space_comes_back_with_the_second_pass,
                     a_disk_that_is_gone_with_its_points_leaves_nothing, a_lock_holds_against_the_cluster_clock,
                     a_node_whose_clock_jumps_is_not_believed_until_somebody_says_so, an_erased_plan_leaves_nothing])
