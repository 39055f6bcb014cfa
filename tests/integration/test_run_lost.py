#!/usr/bin/env python3
"""What a failover lost, told by the source's disks once its node is back: exactly the extents that were written after the recovered point, with
the time of the last write; whatever dies meanwhile. The disks are images, so no machine comes up from them: the run is held there, and what
is told does not depend on that.

far-timeout: 240
"""
import os
import random
import time

import farlib
import tap

SEED = farlib.seed_of_run()
BLOCK = farlib.BLOCK
SIZE = 24 * farlib.MIB + 4096  # the last block is not whole
cluster = source = None
runs = {}


def path(name):
    return os.path.join(cluster.base, name)


def protect(name, disks=1, adapter="file", **more):
    images = [farlib.make_image(path("%s-%d.img" % (name, i)), SIZE, SEED + i) for i in range(disks)]
    cluster.post("/v1/workloads", {"name": name, "site": "protected", "adapter": adapter,
                                   "disks": [{"name": "disk%d" % i, "locator": image} for i, image in enumerate(images)]})
    cluster.post("/v1/plans", {"name": name, "source_site": "protected", "target_site": "recovery", "workloads": [name], **more})
    job = cluster.finish(cluster.start_cycle(name))
    assert job["state"] == "succeeded", job
    return images


def write_blocks(image, blocks, seed=1):
    """What nobody carries away any more."""
    with open(image, "r+b") as file:
        for block in blocks:
            file.seek(block * BLOCK)
            file.write(random.Random(seed + block).randbytes(min(BLOCK, SIZE - block * BLOCK)))


def merged(blocks):
    """As the report is to say it."""
    found = []
    for block in sorted(blocks):
        length = min(BLOCK, SIZE - block * BLOCK)
        if found and found[-1]["offset"] + found[-1]["length"] == block * BLOCK:
            found[-1]["length"] += length
        else:
            found.append({"offset": block * BLOCK, "length": length})
    return found


def fail_over(plan):
    """The source's node is down; the run goes as far as it can."""
    run_id = cluster.post("/v1/plans/%s/failover" % plan, {"fence_s": 1})["id"]
    farlib.until(lambda: cluster.get("/v1/runs/%d" % run_id).get("problem"), 90, lambda: repr(cluster.get("/v1/runs/%d" % run_id)))
    return run_id


def loss(run_id):
    return cluster.get("/v1/runs/%d/report" % run_id)["losses"][0]


def come_back():
    source.start()
    farlib.until(lambda: cluster.get("/v1/nodes/source")["state"] == "up", 60, "the source's node is back")


def go_away():
    source.kill()
    farlib.until(lambda: cluster.get("/v1/nodes/source")["state"] == "down", 60, "its node is missed")


def compare(run_id, seconds=120):
    job = cluster.finish(cluster.post("/v1/runs/%d/compare" % run_id)["id"], seconds)
    assert job["state"] == "succeeded", job
    return loss(run_id)


def exactly(disk, blocks):
    want = merged(blocks)
    good = disk["extents"] == want[:64] and disk["extent_count"] == len(want) and disk["lost_bytes"] == sum(e["length"] for e in want)
    return [] if good else ["%r instead of %r" % (disk, want)]


def exactly_what_was_written_after_the_point_is_told():
    images = protect("web", 2)
    last = SIZE // BLOCK  # the one that is not whole
    blocks = {3, 4, 5, 40, 255, 256, last}
    go_away()
    write_blocks(images[0], blocks)
    before = [farlib.sha256_of(image) for image in images]
    run_id = runs["web"] = fail_over("web")
    known = loss(run_id)
    wrong = [] if known["source"] == "unknown" and known["estimate"] and known["disks"] == [] else [repr(known)]
    job_id = cluster.post("/v1/runs/%d/compare" % run_id)["id"]  # it waits for a node
    status = cluster.request(cluster.wait_leader(), "POST", "/v1/runs/%d/compare" % run_id, {})[0]
    wrong += [] if status == 409 and cluster.job(job_id)["state"] == "running" else ["a second comparison: %d" % status]
    come_back()
    job, told = cluster.finish(job_id), loss(run_id)
    wrong += [] if job["state"] == "succeeded" else [repr(job)]
    first, second = told["disks"]
    wrong += exactly(first, blocks) + exactly(second, set())
    wrong += [] if told["source"] == "compared" and told["extent_count"] == 4 else [repr(told)]
    written = max(os.stat(image).st_mtime_ns // 1000000 for image in images)
    wrong += [] if told["written_ms"] == written and told["lost_ms"] == written - told["frozen_at_ms"] and not told["estimate"] else [
        "written %d, told %r" % (written, told)]
    wrong += [] if [farlib.sha256_of(image) for image in images] == before else ["the source was written to"]
    left = [name for name in os.listdir(cluster.base) if "farshore" in name]
    text = cluster.cli("run", "report", str(run_id), as_json=False)
    print("# " + "\n# ".join(text.splitlines()))
    return wrong + ([] if left == [] else ["left: %r" % left]) + ([] if "0x30000+" in text else ["the text does not say where"])


def a_disk_that_is_gone_is_said_and_the_other_one_compared():
    os.rename(path("web-0.img"), path("web-0.away"))
    write_blocks(path("web-1.img"), {7}, 99)
    told = compare(runs["web"])
    os.rename(path("web-0.away"), path("web-0.img"))
    first, second = told["disks"]
    good = first["skipped"] and "web-0.img" in first["problem"] and first["extents"] == [] and told["estimate"]
    return ([] if good else [repr(first)]) + exactly(second, {7})


def of_many_extents_the_first_are_told():
    cluster.cli("domain", "create", "keyed", as_json=False)
    images = protect("many", domain="keyed")
    blocks = set(range(1, 2 * 150, 2))
    go_away()
    write_blocks(images[0], blocks)
    run_id = fail_over("many")
    come_back()
    wrong = exactly(compare(run_id)["disks"][0], blocks)
    text = cluster.cli("run", "report", str(run_id), as_json=False)
    return wrong + ([] if "and 142 more" in text else [text])


def a_node_that_dies_goes_on_and_a_person_can_cancel():
    images = protect("slow", adapter="fault:file?read_delay_us=300000")
    blocks = {1, 200, 300}
    go_away()
    write_blocks(images[0], blocks)
    run_id = fail_over("slow")
    come_back()
    wrong = []
    for victim in (source, cluster.nodes["target"]):
        job_id = cluster.post("/v1/runs/%d/compare" % run_id)["id"]
        farlib.until(lambda j=job_id: cluster.job(j)["tasks"][0]["state"] == "running", 60, "it reads")
        victim.kill()
        victim.start()
        job = cluster.finish(job_id, 120)
        wrong += [] if job["state"] == "succeeded" else [repr(job)]
        wrong += exactly(loss(run_id)["disks"][0], blocks)
    job_id = cluster.post("/v1/runs/%d/compare" % run_id)["id"]
    farlib.until(lambda: cluster.job(job_id)["tasks"][0]["state"] == "running", 60, "it begins")
    cluster.post("/v1/jobs/%d/cancel" % job_id)
    job = cluster.finish(job_id)
    told = loss(run_id)
    wrong += [] if job["state"] == "canceled" and told["source"] == "failed" and "canceled" in told["note"] else ["%r %r" % (job, told)]
    return wrong + exactly(compare(run_id)["disks"][0], blocks)


def who_rolls_back_has_lost_nothing():
    run_id = runs["web"]
    cluster.post("/v1/runs/%d/finish" % run_id)
    told = loss(run_id)
    return [] if told["source"] == "none" and told["lost_ms"] == 0 else [repr(told)]


def main():
    global cluster, source
    begun = time.monotonic()
    with farlib.Cluster(lease_ms=4000) as cluster:
        source = cluster.nodes["source"]
        tap.run_all([exactly_what_was_written_after_the_point_is_told, a_disk_that_is_gone_is_said_and_the_other_one_compared,
                     of_many_extents_the_first_are_told, a_node_that_dies_goes_on_and_a_person_can_cancel, who_rolls_back_has_lost_nothing])
        print("# %.0f s" % (time.monotonic() - begun))


if __name__ == "__main__":
    main()
