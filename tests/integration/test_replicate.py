#!/usr/bin/env python3
"""The main job on small disks: first copy, second cycle, recovery, verification, damage, offline recovery.

far-timeout: 240
"""
import os
import shutil

import farlib
import tap

SIZE = 96 * farlib.MIB
cluster = seed = None


def path(name):
    return os.path.join(cluster.base, name)


def newest_point():
    return max(cluster.get("/v1/points")["items"], key=lambda p: p["id"])


def first_copy_makes_a_proven_point():
    farlib.make_image(path("a.img"), SIZE, seed)
    farlib.make_image(path("b.img"), SIZE // 4 + 4096 * 3, seed + 1)  # not a whole number of blocks
    cluster.protect("vm", [path("a.img"), path("b.img")])
    job = cluster.replicate()
    point = cluster.get("/v1/points/%d" % newest_point()["id"])
    assert point["state"] == "available" and point["proof"] == "full", point
    assert len(point["disks"]) == 2 and all(len(d["root"]) == 64 for d in point["disks"]), point
    assert 0 < job["bytes_sent"] < SIZE * 1.3, job


def second_cycle_sends_at_most_1_1_times_what_changed():
    shutil.copyfile(path("a.img"), path("a.before"))
    farlib.change_image(path("a.img"), SIZE // farlib.BLOCK // 50, seed + 2)
    changed = farlib.changed_bytes(path("a.img"), path("a.before"))
    job = cluster.replicate()
    print("# changed %d bytes, sent %d (%.3f x)" % (changed, job["bytes_sent"], job["bytes_sent"] / changed))
    assert job["bytes_changed"] == changed, job
    assert job["bytes_sent"] <= 1.1 * changed, job


def a_cycle_without_a_change_sends_next_to_nothing():
    job = cluster.replicate()
    assert job["bytes_changed"] == 0 and job["bytes_sent"] < farlib.MIB, job


def zeroed_blocks_are_recognized_and_not_sent():
    with open(path("a.img"), "r+b") as file:
        file.write(bytes(64 * farlib.BLOCK))
    job = cluster.replicate()
    assert job["bytes_sent"] < farlib.MIB, job


def the_recovered_disks_are_bit_exact():
    cluster.recover("vm", [path("a.out"), path("b.out")])
    assert farlib.same_bytes(path("a.img"), path("a.out"))
    assert farlib.same_bytes(path("b.img"), path("b.out"))


def an_older_checkpoint_is_still_what_it_was():
    checkpoints = sorted(cluster.get("/v1/checkpoints?plan=plan")["items"], key=lambda c: c["id"])
    body = {"workload": "vm", "checkpoint_id": checkpoints[0]["id"],
            "disks": [{"disk": "disk0", "path": path("a.old")}, {"disk": "disk1", "path": path("b.old")}]}
    job = cluster.finish(cluster.post("/v1/plans/plan/recover", body)["id"])
    assert job["state"] == "succeeded", job
    assert farlib.same_bytes(path("a.before"), path("a.old"))


def a_grown_disk_grows_its_map():
    with open(path("b.img"), "ab") as file:
        file.write(os.urandom(3 * farlib.BLOCK + 512))
    cluster.replicate()
    os.unlink(path("b.out"))
    os.unlink(path("a.out"))
    cluster.recover("vm", [path("a.out"), path("b.out")])
    assert farlib.same_bytes(path("b.img"), path("b.out"))


def a_plan_of_several_workloads_keeps_their_disks_apart():
    """Three workloads, five disks, one job: of one byte, of a byte more than a block, and larger ones."""
    sizes = {"w0": (1, farlib.BLOCK + 1), "w1": (5 * farlib.MIB, farlib.BLOCK), "w2": (3 * farlib.MIB + 1,)}
    for name, list_of in sizes.items():
        disks = [{"name": "disk%d" % i, "locator": farlib.make_image(path("%s-%d.img" % (name, i)), size, seed + size)}
                 for i, size in enumerate(list_of)]
        cluster.post("/v1/workloads", {"name": name, "site": "protected", "adapter": "file", "disks": disks})
    cluster.post("/v1/plans", {"name": "many", "source_site": "protected", "target_site": "recovery",
                               "workloads": list(sizes)})
    job = cluster.finish(cluster.start_cycle("many"))
    assert job["state"] == "succeeded", job
    for name, list_of in sizes.items():
        outs = [path("%s-%d.out" % (name, i)) for i in range(len(list_of))]
        job = cluster.finish(cluster.start_recovery(name, outs, "many"))
        assert job["state"] == "succeeded", job
        for i, out in enumerate(outs):
            assert farlib.same_bytes(path("%s-%d.img" % (name, i)), out), out


def verify_of_a_checkpoint_reads_every_block():
    newest = max(cluster.get("/v1/checkpoints")["items"], key=lambda c: c["id"])
    job = cluster.finish(cluster.post("/v1/checkpoints/%d/verify" % newest["id"])["id"])
    assert job["state"] == "succeeded", job


def the_vault_alone_gives_the_disk_back():
    point = newest_point()["id"]
    node = cluster.nodes["target"]
    status, text = cluster.run_tool("farshore-node", "vault", "list", "--vault", node.dir + "/vault")
    assert status == 0 and "vm" in text and "disk0" in text, text
    cluster.run_tool("farshore-node", "vault", "recover", "--offline", "--vault", node.dir + "/vault", "--point", str(point),
                     "--disk", "disk0", "--target", path("a.offline"))
    assert farlib.same_bytes(path("a.img"), path("a.offline"))
    points = sorted(p["id"] for p in cluster.get("/v1/points")["items"] if p["workload"] == "vm")
    vault = ["vault", "verify", "--vault", node.dir + "/vault", "--point", str(points[1])]
    status, text = cluster.run_tool("farshore-node", *vault, "--since", str(points[0]))
    good = [line for line in text.split("\n") if line.startswith("good: ")]
    assert status == 0 and len(good) == 2 and all("as in point %d and not read" % points[0] in line for line in good), text
    status, text = cluster.run_tool("farshore-node", *vault, "--since", "4711", check=False)
    assert status != 0 and "4711" in text, text


def a_flipped_byte_of_a_pack_is_found_named_and_never_returned():
    node = cluster.nodes["target"]
    packs = [os.path.join(f, n) for f, _, names in os.walk(node.dir + "/vault") for n in names if "pack" in n or "pack" in f]
    victim = max((p for p in packs if "index" not in p and not p.endswith(".mdb")), key=os.path.getsize)
    with open(victim, "r+b") as file:
        file.seek(os.path.getsize(victim) // 3)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x10]))
    checkpoints = sorted(cluster.get("/v1/checkpoints?plan=plan")["items"], key=lambda c: c["id"])
    job = None
    for checkpoint in checkpoints:  # the block belongs to at least one of them
        job = cluster.finish(cluster.post("/v1/checkpoints/%d/verify" % checkpoint["id"])["id"])
        if job["state"] != "succeeded":
            break
    assert job["state"] in ("failed", "partial"), job
    words = job["error_message"] + " ".join(t["error_message"] for t in cluster.job(job["id"])["tasks"])
    assert os.path.basename(victim) in words or "pack" in words, words


def all_stores_agree():
    cluster.wait_same_heads()
    cluster.verify_all_offline()


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    with farlib.Cluster() as cluster:
        tap.run_all([
            a_plan_of_several_workloads_keeps_their_disks_apart,
            first_copy_makes_a_proven_point, second_cycle_sends_at_most_1_1_times_what_changed,
            a_cycle_without_a_change_sends_next_to_nothing, zeroed_blocks_are_recognized_and_not_sent,
            the_recovered_disks_are_bit_exact, an_older_checkpoint_is_still_what_it_was, a_grown_disk_grows_its_map,
            verify_of_a_checkpoint_reads_every_block, the_vault_alone_gives_the_disk_back,
            a_flipped_byte_of_a_pack_is_found_named_and_never_returned, all_stores_agree,
        ])
