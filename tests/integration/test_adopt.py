#!/usr/bin/env python3
"""A cluster is gone with all its servers and nodes, a vault folder is left: a new cluster, with plans and numbers of its own, adopts it,
restores what was in it to the byte, keeps to its locks, and goes on with both.

far-timeout: 240
"""
import os
import random
import shutil
import tempfile
import time

import farlib
import tap

SEED = farlib.seed_of_run()
rng = random.Random(SEED)
DAY_MS = 86400000
base = tempfile.mkdtemp(prefix="far-adopt-")
old_vault = os.path.join(base, "vault")
cluster = target = image = None
copies = {}  # checkpoint of the lost cluster: what the image was
locked = locked_until = 0


def points_dir():
    return os.path.join(old_vault, "points")


def manifests():
    return sorted(int(n.split(".")[0]) for n in os.listdir(points_dir()) if n.endswith(".manifest"))


def live_and_die():
    """Three checkpoints, the first of them locked; then nothing is left but the vault."""
    global locked, locked_until
    with farlib.Cluster(servers=("protected",)) as lost:
        lost_image = os.path.join(lost.base, "vm1.img")
        farlib.make_image(lost_image, 8 * farlib.MIB, SEED)
        lost.protect("vm1", [lost_image])
        for number in range(3):
            if number > 0:
                farlib.change_image(lost_image, 20, SEED + number)
            made = lost.replicate()["checkpoint_id"]
            copies[made] = os.path.join(base, "copy-%d" % made)
            shutil.copyfile(lost_image, copies[made])
        locked = min(copies)
        locked_until = int(time.time() * 1000) + 30 * DAY_MS
        lost.finish(lost.post("/v1/checkpoints/%d/lock" % locked, {"until_ms": locked_until})["id"])
        lost.cli("domain", "create", "gold", as_json=False)
        sealed = os.path.join(lost.base, "vm2.img")
        farlib.make_image(sealed, 4 * farlib.MIB, SEED + 9)
        lost.post("/v1/workloads", {"name": "vm2", "site": "protected", "adapter": "file", "disks": [{"name": "disk0", "locator": sealed}]})
        lost.post("/v1/plans", {"name": "sealed", "source_site": "protected", "target_site": "recovery", "workloads": ["vm2"],
                                "domain": "gold"})
        lost.finish(lost.start_cycle("sealed"))
        shutil.copyfile(sealed, os.path.join(base, "sealed"))
        with open(os.path.join(base, "recovery.key"), "w", encoding="ascii") as file:
            file.write(lost.recovery_key + "\n")
        for process in lost.processes():
            process.stop()
        shutil.move(os.path.join(lost.nodes["target"].dir, "vault"), old_vault)


shift = None


def adopt(*more):
    """Now and then the node is killed meanwhile."""
    job = cluster.post("/v1/vaults/target/adopt", {"plans": list(more)} if more else {})["id"]
    if rng.random() < 0.7:
        target.kill()
        target.start()
    job, told = cluster.finish(job), cluster.get("/v1/vaults/target")["adoption"]
    assert shift in (None, told["base"]), "the numbers of the vault changed: %r, they were above %r" % (told, shift)
    return job, told


def checkpoints(plan):
    return {c["id"]: c for c in cluster.get("/v1/checkpoints?limit=1000&plan=%s" % plan)["items"] if c["state"] != "removed"}


def adopted_plan():
    return next(p["name"] for p in cluster.get("/v1/plans?limit=100")["items"] if p["name"].startswith("plan-"))


def restore(checkpoint, workload, plan):
    path = os.path.join(base, "out-%d" % checkpoint)
    body = {"workload": workload, "checkpoint_id": checkpoint, "disks": [{"disk": "disk0", "path": path}]}
    job = cluster.finish(cluster.post("/v1/plans/%s/recover" % plan, body)["id"])
    return path if job["state"] == "succeeded" else "%r" % job


def exact(shift, plan):
    """What adopted checkpoints give back is what the lost cluster's disk was."""
    workload = cluster.get("/v1/points?limit=100&plan=%s" % plan)["items"][0]["workload"]
    wrong = []
    for number, checkpoint in ((n, n + shift) for n in copies if n + shift in checkpoints(plan)):
        path = restore(checkpoint, workload, plan)
        wrong += [] if os.path.exists(path) and farlib.same_bytes(path, copies[number]) else ["checkpoint %d: %s" % (checkpoint, path)]
        os.unlink(path)
    return wrong


def a_vault_of_another_cluster_is_refused_until_it_is_adopted():
    job = cluster.finish(cluster.start_cycle())
    words = job.get("error_message", "")
    return [] if job["state"] == "failed" and "another cluster" in words and "vault adopt" in words else ["%r" % job]


def adopting_makes_of_it_what_it_was():
    global shift
    job, told = adopt()
    shift = told["base"]
    plan = adopted_plan()
    wrong = [] if job["state"] == "partial" and told["points"] == 3 and told["ended_ms"] > 0 else ["%r %r" % (job, told)]
    wrong += [] if told["unreadable"] == 1 and "gold" in told["problem"] else ["%r" % told]
    found = checkpoints(plan)
    wrong += [] if sorted(found) == [n + shift for n in sorted(copies)] else ["%r" % found]
    wrong += [] if found[locked + shift]["locked_until_ms"] == locked_until else ["%r" % found[locked + shift]]
    wrong += [] if plan.startswith("plan-") and all(c["state"] == "available" for c in found.values()) else [plan]
    points = cluster.get("/v1/points?limit=100&plan=%s" % plan)["items"]
    wrong += [] if [p["id"] for p in points] == [n + shift for n in manifests()[:3]] else ["%r" % points]
    return wrong + exact(shift, plan)


def adopting_again_changes_nothing():
    before = checkpoints(adopted_plan())
    job, told = adopt()
    same = told["points"] == 0 and told["known"] == 3 and told["base"] == shift and before == checkpoints(adopted_plan())
    return [] if job["state"] == "partial" and same else ["%r %r" % (job, told)]


def the_vault_serves_both():
    """Plans of the new cluster go on in it; passes of reclaim lose nothing; verifications read what was adopted."""
    wrong, plan = [], adopted_plan()
    for number in range(3):
        farlib.change_image(image, 20, SEED + 100 + number)
        own = cluster.replicate()["checkpoint_id"]
        cluster.cli("vault", "reclaim", "target", "--wait", as_json=False)
    own_plan = restore(own, "vm1", cluster.plan)
    wrong += [] if os.path.exists(own_plan) and farlib.same_bytes(own_plan, image) else [own_plan]
    for checkpoint in checkpoints(plan):
        job = cluster.finish(cluster.post("/v1/checkpoints/%d/verify" % checkpoint)["id"])
        wrong += [] if job["state"] == "succeeded" else ["%r" % job]
    space = {p["plan"]: p for p in cluster.get("/v1/vaults/target")["plans"]}
    wrong += [] if set(space) == {plan, cluster.plan} and all(p["logical_bytes"] > 0 for p in space.values()) else ["%r" % space]
    return wrong + exact(shift, plan)


def locks_hold_and_what_is_removed_goes():
    plan, numbers = adopted_plan(), manifests()
    wrong, found = [], sorted(checkpoints(plan))
    try:
        cluster.call("DELETE", "/v1/checkpoints/%d" % (locked + shift))
        wrong += ["a locked checkpoint was removed"]
    except farlib.Problem as problem:
        wrong += [] if "locked until" in problem.detail else [problem.detail]
    cluster.call("DELETE", "/v1/checkpoints/%d" % found[1])
    farlib.until(lambda: len(manifests()) == len(numbers) - 1, 30, "the manifest goes")
    for _ in range(2):
        cluster.cli("vault", "reclaim", "target", "--wait", as_json=False)
    job, told = adopt()
    wrong += [] if sorted(checkpoints(plan)) == [found[0], found[2]] else ["%r %r" % (checkpoints(plan), told)]
    scrub = cluster.finish(cluster.post("/v1/vaults/target/scrub")["id"])
    wrong += [] if scrub["state"] == "succeeded" and cluster.get("/v1/vaults/target")["damaged_point_ids"] == [] else ["%r" % scrub]
    return wrong + exact(shift, plan)


def an_adopted_plan_goes_on_from_its_newest_point():
    """The source is there again, as it was at the last point but for some blocks: only those are sent."""
    plan, again = adopted_plan(), os.path.join(base, "again.img")
    workload = cluster.get("/v1/points?limit=100&plan=%s" % plan)["items"][0]["workload"]
    wrong = []
    try:
        cluster.post("/v1/plans/%s/replicate" % plan)
        wrong += ["it ran without a source"]
    except farlib.Problem as problem:
        wrong += [] if "workload set" in problem.detail else [problem.detail]
    shutil.copyfile(copies[max(copies)], again)
    changed = farlib.change_image(again, 7, SEED + 200)
    cluster.cli("workload", "set", workload, "--adapter", "file", "--disk", "disk0=" + again, as_json=False)
    job = cluster.finish(cluster.start_cycle(plan))
    wrong += [] if job["state"] == "succeeded" and job["bytes_changed"] == len(changed) * farlib.BLOCK else ["%r" % job]
    path = restore(job["checkpoint_id"], workload, plan)
    wrong += [] if os.path.exists(path) and farlib.same_bytes(path, again) else [path]
    for _ in range(3):
        cluster.cli("vault", "reclaim", "target", "--wait", as_json=False)
    return wrong + exact(shift, plan)


def the_recovery_key_opens_what_was_encrypted():
    keys, out = os.path.join(base, "keys"), os.path.join(base, "sealed.out")
    status, text = cluster.run_tool("farshore-node", "vault", "keys", "--vault", old_vault, "--recovery-key",
                                    os.path.join(base, "recovery.key"), "--out", keys, check=False)
    wrong = [] if status != 0 and "in use" in text else [text]
    target.stop()
    cluster.run_tool("farshore-node", "vault", "keys", "--vault", old_vault, "--recovery-key", os.path.join(base, "recovery.key"),
                     "--out", keys)
    wrong += [] if os.stat(keys).st_mode & 0o777 == 0o600 else ["others can read the keys"]
    target.start()
    for word in ("adopted", "is here already"):
        told = cluster.cli("domain", "adopt", keys, as_json=False)
        wrong += [] if word in told else [told]
    with open(keys, encoding="ascii") as file:
        secret = file.read().split()[2]
    with open(cluster.servers["protected"].log, encoding="utf-8") as log:
        wrong += [] if secret not in log.read() else ["the secret is in the log of a server"]
    job, told = adopt("sealed")
    wrong += [] if job["state"] == "succeeded" and told["points"] == 1 else ["%r %r" % (job, told)]
    checkpoint = next(iter(checkpoints("sealed")))
    body = {"workload": "vm2", "checkpoint_id": checkpoint, "disks": [{"disk": "disk0", "path": out}]}
    job = cluster.finish(cluster.post("/v1/plans/sealed/recover", body)["id"])
    same = job["state"] == "succeeded" and farlib.same_bytes(out, os.path.join(base, "sealed"))
    return wrong + ([] if same and cluster.get("/v1/plans/sealed")["domain"] == "gold" else ["%r" % job])


if __name__ == "__main__":
    try:
        live_and_die()
        with farlib.Cluster(servers=("protected",), nodes=False) as cluster:
            cluster.add_node("source", "protected")
            target = cluster.add_node("target", "recovery", settings={"vault": old_vault})
            cluster.wait_nodes()
            image = os.path.join(cluster.base, "vm1.img")
            farlib.make_image(image, 8 * farlib.MIB, SEED + 50)
            cluster.protect("vm1", [image]) # the names, and some of the numbers, that the lost cluster had
            tap.run_all([a_vault_of_another_cluster_is_refused_until_it_is_adopted, adopting_makes_of_it_what_it_was,
                         adopting_again_changes_nothing, the_vault_serves_both, locks_hold_and_what_is_removed_goes,
                         an_adopted_plan_goes_on_from_its_newest_point, the_recovery_key_opens_what_was_encrypted])
    finally:
        shutil.rmtree(base, ignore_errors=True)
