#!/usr/bin/env python3
"""A first copy of a disk whose former or carried copy lies at the target site: what the vault was seeded with is not sent, whatever dies
meanwhile; and what was seeded is forgotten once the disk has a point of its own.

far-timeout: 180
"""
import os
import random
import shutil

import farlib
import tap

SEED = farlib.seed_of_run()
SIZE = 48 * farlib.MIB
cluster = target = None


def path(name):
    return os.path.join(cluster.base, name)


def make_pair(name, changed_blocks):
    """A disk at the source, and what was carried to the target before so many of its blocks changed."""
    farlib.make_image(path(name + ".img"), SIZE, SEED + len(name))
    with open(path(name + ".img"), "r+b") as file:  # none of it is zero or twice there
        for at in range(0, SIZE, farlib.MIB):
            file.write(random.Random(SEED + at + len(name)).randbytes(farlib.MIB))
    shutil.copyfile(path(name + ".img"), path(name + ".carried"))
    blocks = random.Random(SEED).sample(range(SIZE // farlib.BLOCK), changed_blocks)
    with open(path(name + ".img"), "r+b") as file:
        for block in blocks:
            file.seek(block * farlib.BLOCK)
            file.write(random.Random(block).randbytes(farlib.BLOCK))


def protect(name, **more):
    make_pair(name, SIZE // farlib.BLOCK // 100)
    cluster.post("/v1/workloads", {"name": name, "site": "protected", "adapter": "file",
                                   "disks": [{"name": "disk0", "locator": path(name + ".img")}]})
    cluster.post("/v1/plans", {"name": name, "source_site": "protected", "target_site": "recovery", "workloads": [name], **more})


def seed(name):
    return cluster.post("/v1/plans/%s/seed" % name, {"workload": name, "node": "target", "locator": path(name + ".carried")})["id"]


def imports():
    folder = os.path.join(target.dir, "vault", "points")
    return [n for n in os.listdir(folder) if n.endswith(".manifest") and int(n.split(".")[0]) >= 1 << 63]


def first_copy(name):
    """What the first cycle sent, and what is wrong with its point."""
    job = cluster.finish(cluster.start_cycle(name))
    out = path(name + ".out")
    recovery = cluster.finish(cluster.start_recovery(name, [out], name))
    wrong = [] if job["state"] == recovery["state"] == "succeeded" else [repr(job), repr(recovery)]
    return job["bytes_sent"], wrong + ([] if farlib.same_bytes(out, path(name + ".img")) else ["the point is not the disk"])


def only_what_differs_is_sent():
    protect("web")
    said = cluster.cli("plan", "seed", "web", "--workload", "web", "--node", "target", "--from", path("web.carried"), "--wait", as_json=False)
    wrong = [] if len(imports()) == 1 else ["imports: %r" % imports()]
    sent, more = first_copy("web")
    share = sent / SIZE
    print("# %s\n# %.2f %% of the disk was sent" % (said.strip().splitlines()[-1], share * 100))
    return wrong + more + ([] if share <= 0.012 else ["%.2f %% was sent" % (share * 100)]) + (
        [] if imports() == [] else ["what was seeded is still there: %r" % imports()])


def in_a_keyed_domain_too():
    cluster.cli("domain", "create", "keyed", as_json=False)
    protect("db", domain="keyed")
    job = cluster.finish(seed("db"))
    sent, wrong = first_copy("db")
    return wrong + ([] if job["state"] == "succeeded" and sent <= 0.012 * SIZE else ["%r, %d sent" % (job, sent)])


def a_target_that_is_killed_goes_on_with_it():
    protect("mail")
    job_id, wrong = seed("mail"), []
    farlib.until(lambda: cluster.job(job_id)["tasks"][0]["state"] != "ready", 30, "it begins")
    target.kill()
    target.start()
    job = cluster.finish(job_id)
    wrong += [] if job["state"] == "succeeded" else [repr(job)]
    sent, more = first_copy("mail")
    return wrong + more + ([] if sent <= 0.012 * SIZE else ["%d sent" % sent]) + ([] if imports() == [] else [repr(imports())])


def what_is_not_there_is_said():
    protect("nil")
    os.unlink(path("nil.carried"))
    job_id = seed("nil")
    text = farlib.until(lambda: cluster.job(job_id)["tasks"][0].get("error_message") or cluster.job(job_id)["error_message"], 60, "it fails")
    cluster.post("/v1/jobs/%d/cancel" % job_id) if cluster.job(job_id)["state"] == "running" else None
    job = cluster.finish(job_id)
    return [] if "nil.carried" in text and job["state"] in ("failed", "canceled") else ["%r: %s" % (job["state"], text)]


def main():
    global cluster, target
    with farlib.Cluster() as cluster:
        target = cluster.nodes["target"]
        tap.run_all([only_what_differs_is_sent, in_a_keyed_domain_too, a_target_that_is_killed_goes_on_with_it, what_is_not_there_is_said])


if __name__ == "__main__":
    main()
