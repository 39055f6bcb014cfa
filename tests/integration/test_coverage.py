#!/usr/bin/env python3
"""Lists of changes that lie: an adapter leaves changed extents out, the audit finds them, and every point that is wrong is named.

Disks lie on an XFS file system that is mounted for the test (root), where the file adapter knows what changed; the fault adapter drops
a tenth of it (FAR_DROP_PPM=10000: a hundredth, with more cycles). Each cycle's source is copied aside, so that what a point should hold is known by other means.

far-timeout: 300
"""
import ctypes
import os
import shutil
import subprocess

import farlib
import tap

SIZE = 48 * farlib.MIB
BLOCKS = SIZE // farlib.BLOCK
CLONE_NEWNS = 0x00020000
DROP_PPM = int(os.environ.get("FAR_DROP_PPM", "100000"))
AUDIT_PPM = 250000  # of a disk a cycle
AUDIT_ROUND = 1000000 // AUDIT_PPM  # cycles in which each block is looked at
cluster = seed = None
can_mount = False
copies = {}  # checkpoint: copy of the source that it froze


def path(name):
    return os.path.join(cluster.base, name)


def disk(name):
    return os.path.join(cluster.base, "xfs", name)


def tool(*argv):
    environment = dict(os.environ, PATH=os.environ["PATH"] + ":/sbin:/usr/sbin")
    try:
        done = subprocess.run(argv, capture_output=True, text=True, env=environment)
    except FileNotFoundError:
        raise tap.Skip("%s is not installed" % argv[0]) from None
    if done.returncode != 0:
        raise tap.Skip("%s does not work here: %s" % (argv[0], done.stderr.strip()))


def own_mounts():
    """Mounts are those of this process and its children, from here on, and end with them."""
    return os.geteuid() == 0 and ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0


def mount_xfs():
    if not can_mount:
        raise tap.Skip("mounting a file system needs root")
    tool("mount", "--make-rprivate", "/")
    os.mkdir(path("xfs"))
    tool("truncate", "-s", "700M", path("fs"))
    tool("mkfs.xfs", "-q", path("fs"))
    tool("mount", "-t", "xfs", "-o", "loop", path("fs"), path("xfs"))


def protect(name, adapter, policy):
    image = farlib.make_image(disk(name + ".img"), SIZE, seed)
    cluster.post("/v1/workloads", {"name": name, "site": "protected", "adapter": adapter,
                                   "disks": [{"name": "disk0", "locator": image}]})
    cluster.post("/v1/plans", {"name": name, "source_site": "protected", "target_site": "recovery", "workloads": [name], **policy})
    return image


def cycle(plan):
    job = cluster.finish(cluster.start_cycle(plan))
    assert job["state"] == "succeeded", job
    return job


def points(plan):
    return sorted(cluster.get("/v1/points?plan=" + plan)["items"], key=lambda p: p["id"])


def coverage(workload):
    return cluster.get("/v1/workloads/" + workload)["coverage"][0]


def round_was_clean(workload):
    return coverage(workload)["clean_blocks"] >= BLOCKS


def alerts(kind, state=None):
    found = cluster.get("/v1/alerts?kind=" + kind)["items"]
    return [a for a in found if state is None or a["state"] == state]


def recovered(plan, checkpoint_id):
    out = path("out-%d.img" % checkpoint_id)
    body = {"workload": plan, "checkpoint_id": checkpoint_id, "disks": [{"disk": "disk0", "path": out}]}
    job = cluster.finish(cluster.post("/v1/plans/%s/recover" % plan, body)["id"])
    assert job["state"] == "succeeded", job
    return out


def the_first_cycle_reads_everything_and_later_ones_go_by_the_list():
    mount_xfs()
    image = protect("liar", "fault:file?dc=%d&sd=%d" % (DROP_PPM, seed % 1000), {"audit_ppm": AUDIT_PPM, "audit_age_s": 1})
    cycle("liar")
    first = points("liar")[-1]
    assert first["proof"] == "full" and first["coverage_ppm"] == 1000000, first
    copies[first["checkpoint_id"]] = shutil.copyfile(image, path("copy-0.img"))
    disks = cluster.get("/v1/workloads/liar")["disks"]
    assert disks[0]["token"], disks
    cycle("liar")
    task = [t for t in cluster.get("/v1/jobs/%d" % points("liar")[-1]["job_id"])["tasks"] if t["kind"] == "send"][0]
    assert 0 < task["hashed_bytes"] <= SIZE // 4 + farlib.MIB, task
    assert points("liar")[-1]["proof"] == "transfer", points("liar")[-1]
    copies[points("liar")[-1]["checkpoint_id"]] = shutil.copyfile(image, path("copy-1.img"))


def every_point_that_is_wrong_is_named():
    image = disk("liar.img")
    rounds = max(4, 160000 // DROP_PPM)
    for i in range(2, 2 + rounds):
        farlib.change_image(image, BLOCKS // 8, seed + i)
        cycle("liar")
        copies[points("liar")[-1]["checkpoint_id"]] = shutil.copyfile(image, path("copy-%d.img" % i))
    for i in range(AUDIT_ROUND + 1):  # nothing changes any more: after a round of the audit there is nothing left to find
        cycle("liar")
        copies[points("liar")[-1]["checkpoint_id"]] = path("copy-%d.img" % (1 + rounds))
    out = recovered("liar", points("liar")[-1]["checkpoint_id"])
    assert farlib.same_bytes(image, out), "not repaired within the round that the budget promises"
    os.unlink(out)
    while not round_was_clean("liar"):  # later it is known, too
        assert len(copies) < 40, coverage("liar")
        cycle("liar")
        copies[points("liar")[-1]["checkpoint_id"]] = path("copy-%d.img" % (1 + rounds))
    wrong = set()
    for point in points("liar"):
        out = recovered("liar", point["checkpoint_id"])
        if not farlib.same_bytes(copies[point["checkpoint_id"]], out):
            wrong.add(point["id"])
        os.unlink(out)
    suspect = {p["id"] for p in points("liar") if p["suspect"]}
    print("# %d points, %d wrong, %d suspect" % (len(points("liar")), len(wrong), len(suspect)))
    assert wrong, "the adapter dropped nothing that mattered; another seed"
    assert wrong <= suspect, (wrong, suspect)
    assert points("liar")[-1]["id"] not in wrong
    assert all(p["state"] == "available" for p in points("liar"))


def an_alert_says_so_until_a_round_finds_no_more():
    raised = cluster.cli("events", "--kind", "alert_raised", "--severity", "error", as_json=False)
    assert "missed" in raised, raised
    found = alerts("change_list_missed")
    assert found and all(a["workload"] == "liar" and a["state"] == "cleared" for a in found), found
    ranges = cluster.cli("events", "--kind", "change_list_missed", as_json=False)
    assert '"first_block"' in ranges, ranges


def a_list_that_is_gone_is_told_in_the_platforms_words():
    protect("gone", "fault:file?rc=1", {})
    cycle("gone")
    cycle("gone")
    point = points("gone")[-1]
    assert point["proof"] == "full", point
    alert = alerts("change_list_refused", "raised")[-1]
    assert alert["workload"] == "gone", alert
    print("# " + alert["message"])
    status, text = cluster.cli("alert", "ack", str(alert["id"]), "--note", "told the vendor", check=False, as_json=False)
    assert status == 0 and "acknowledged" in text, text
    assert alerts("change_list_refused")[-1]["note"] == "told the vendor"


def a_grown_disk_goes_on_by_its_list():
    image = protect("grown", "file", {})
    cycle("grown")
    with open(image, "ab") as file:
        file.write(os.urandom(5 * farlib.MIB + 4096))
    farlib.change_image(image, 10, seed + 50)
    cycle("grown")
    point = points("grown")[-1]
    print("# proof %s, %d of 1000000 covered" % (point["proof"], point["coverage_ppm"]))
    assert farlib.same_bytes(image, recovered("grown", point["checkpoint_id"]))
    cycle("grown")
    assert points("grown")[-1]["proof"] == "transfer" and not alerts("change_list_missed", "raised")
    assert farlib.same_bytes(image, recovered("grown", points("grown")[-1]["checkpoint_id"]))


def a_resync_is_estimated_and_hashes_everything():
    status, text = cluster.cli("plan", "resync", "liar", "--estimate", check=False, as_json=False)
    print("# " + text.strip().replace("\n", "\n# "))
    assert status == 0 and "48.0 MiB to read" in text and "second" in text, text
    assert points("liar")[-1]["proof"] == "transfer"
    status, text = cluster.cli("plan", "resync", "liar", "--workload", "liar", "--dry-run", check=False, as_json=False)
    assert status == 0 and "job_started" in text, text
    status, text = cluster.cli("plan", "resync", "liar", "--workload", "liar", "--disk", "disk0", "--wait", check=False, as_json=False)
    assert status == 0 and "to read" in text, text
    point = points("liar")[-1]
    assert point["proof"] == "full" and point["coverage_ppm"] == 1000000, point


def all_stores_agree():
    cluster.wait_same_heads()
    cluster.verify_all_offline()


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    can_mount = own_mounts()
    with farlib.Cluster() as cluster:
        tap.run_all([
            the_first_cycle_reads_everything_and_later_ones_go_by_the_list, every_point_that_is_wrong_is_named,
            an_alert_says_so_until_a_round_finds_no_more, a_list_that_is_gone_is_told_in_the_platforms_words,
            a_grown_disk_goes_on_by_its_list, a_resync_is_estimated_and_hashes_everything, all_stores_agree,
        ])
