#!/usr/bin/env python3
"""Lists of changes that lie: an adapter leaves changed extents out, the audit finds them, and every point that is wrong is named.

Disks lie on an XFS file system that is mounted for the test (root), where the file adapter knows what changed; the fault adapter drops
a tenth of it, then, of another disk, a hundredth. Each cycle's source is copied aside, so that what a point should hold is known by
other means: every point is recovered and compared with that.

far-timeout: 300
"""
import ctypes
import json
import os
import re
import shutil
import subprocess

import farlib
import tap

SIZE = 48 * farlib.MIB
BLOCKS = SIZE // farlib.BLOCK
CLONE_NEWNS = 0x00020000
AUDIT_PPM = 250000  # of a disk a cycle
# A round is overdue at once, at the pace that the plan names: each cycle audits all that it may, however fast it is.
POLICY = {"audit_ppm": AUDIT_PPM, "audit_age_s": 1, "interval_s": 3600}
AUDIT_ROUND = 1000000 // AUDIT_PPM  # cycles in which each block is looked at
cluster = seed = None
can_mount = False


class Liar:
    """A workload, and a plan of its name, whose lists leave out so many of a million extents."""

    def __init__(self, name, drop_ppm, changed_blocks, cycles):
        self.name, self.drop_ppm, self.changed_blocks, self.cycles = name, drop_ppm, changed_blocks, cycles
        self.copies = {}  # checkpoint: copy of the source that it froze

    def cycle(self, number):
        was_distrusted = self.copies and coverage(self.name)["distrusted"]
        cycle(self.name)
        point = points(self.name)[-1]
        assert point["suspect"] or not (was_distrusted or coverage(self.name)["distrusted"]), point
        copy = path("%s-%d.copy" % (self.name, number))
        if not os.path.exists(copy):
            shutil.copyfile(disk(self.name + ".img"), copy)
        self.copies[point["checkpoint_id"]] = copy

    def forget_copies(self):
        for copy in set(self.copies.values()):
            os.unlink(copy)


liar = Liar("liar", 100000, BLOCKS // 8, 4)
rare = Liar("rare", 10000, BLOCKS // 3, 8)  # 20 dropped extents or so


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


def differing_blocks(one, two):
    assert os.path.getsize(one) == os.path.getsize(two) == SIZE
    with open(one, "rb") as a, open(two, "rb") as b:
        return {block for block in range(BLOCKS) if a.read(farlib.BLOCK) != b.read(farlib.BLOCK)}


def begin_to_lie(who):
    protect(who.name, "fault:file?dc=%d&sd=%d" % (who.drop_ppm, seed % 1000), POLICY)
    who.cycle(0)
    first = points(who.name)[-1]
    assert first["proof"] == "full" and first["coverage_ppm"] == 1000000, first
    who.cycle(1)
    assert points(who.name)[-1]["proof"] == "transfer", points(who.name)[-1]


def change_until_it_is_clean(who):
    """Cycles with changes; a round of the audit without any; then what it takes until a round was clean. The point behind the changes."""
    for i in range(2, 2 + who.cycles):
        farlib.change_image(disk(who.name + ".img"), who.changed_blocks, seed + i)
        who.cycle(i)
    last = points(who.name)[-1]
    for _ in range(AUDIT_ROUND + 1):  # after a round there is nothing left to find
        who.cycle(1 + who.cycles)
    newest = points(who.name)[-1]
    while coverage(who.name)["distrusted"]:  # later it is known, too
        assert len(who.copies) < 40, coverage(who.name)
        who.cycle(1 + who.cycles)
    assert round_was_clean(who.name)
    who.cycle(1 + who.cycles)
    return last, newest


def wrong_blocks(who):
    """By point: which of its blocks are not what the source held."""
    wrong = {}
    for point in points(who.name):
        out = recovered(who.name, point["checkpoint_id"])
        wrong[point["id"]] = differing_blocks(who.copies[point["checkpoint_id"]], out)
        os.unlink(out)
    return wrong


def events(kind, workload):
    workload_id = cluster.get("/v1/workloads/" + workload)["id"]
    lines = cluster.request(cluster.wait_leader(), "GET", "/v1/events?from=start&follow=false&format=ndjson&kind=" + kind)[2].splitlines()
    found = [frame["data"] for frame in map(json.loads, lines) if "seq" in frame]
    return [event for event in found if event["workload_id"] == workload_id]


def blocks_of(missed):
    return {block for event in missed for r in event["ranges"] for block in range(r["first_block"], r["first_block"] + r["block_count"])}


def assert_named(who, wrong):
    """Every point with a wrong block is suspect, and the log says so."""
    told = {point_id for event in events("points_suspected", who.name) for point_id in event["point_ids"]}
    told |= {event["id"] for event in events("point_created", who.name) if any(d.get("suspect") for d in event["disks"])}
    suspect = {p["id"] for p in points(who.name) if p["suspect"]}
    bad = {point_id for point_id, blocks in wrong.items() if blocks}
    missed = coverage(who.name)["missed_block_count"]
    print("# %d points, %d wrong, %d suspect; %d blocks missed" % (len(wrong), len(bad), len(suspect), missed))
    assert bad, "the adapter dropped nothing that mattered; another seed"
    assert bad <= suspect, (bad, suspect)
    assert suspect == told, (suspect, told)
    assert all(p["state"] == "available" for p in points(who.name))
    assert all(p["proof"] != "full" for p in points(who.name) if p["suspect"])
    assert not points(who.name)[-1]["suspect"], "made behind a clean round"


def assert_repaired_within_a_round(who, wrong, last, newest):
    """No block stays wrong for longer than the audit takes to come by; what was still wrong behind the changes, it found itself."""
    length = {}
    for point_id in sorted(wrong):
        length = {block: length.get(block, 0) + 1 for block in wrong[point_id]}
        assert all(n < AUDIT_ROUND for n in length.values()), (point_id, length)
    assert not wrong[newest["id"]], "not repaired within the round that the budget promises"
    missed = events("change_list_missed", who.name)
    assert missed, "nothing was found"
    found = blocks_of(missed)
    print("# %d wrong blocks that the audit never saw: a later list named them" % len(set().union(*wrong.values()) - found))
    late = blocks_of(event for event in missed if event["job_id"] > last["job_id"])
    assert wrong[last["id"]] <= late, (wrong[last["id"]], late)


def the_first_cycle_reads_everything_and_later_ones_go_by_the_list():
    mount_xfs()
    begin_to_lie(liar)
    assert cluster.get("/v1/workloads/liar")["disks"][0]["token"]
    task = [t for t in cluster.get("/v1/jobs/%d" % points("liar")[-1]["job_id"])["tasks"] if t["kind"] == "send"][0]
    assert 0 < task["hashed_bytes"] <= SIZE // 4 + farlib.MIB, task


def every_point_that_is_wrong_is_named(who=liar):
    last, newest = change_until_it_is_clean(who)
    wrong = wrong_blocks(who)
    assert_named(who, wrong)
    assert_repaired_within_a_round(who, wrong, last, newest)
    who.forget_copies()


def so_they_are_if_a_hundredth_is_left_out():
    begin_to_lie(rare)
    every_point_that_is_wrong_is_named(rare)


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
    assert status == 0 and "48.0 MiB to read" in text and re.search(r"less than a second|about \d+ s", text), text
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
            an_alert_says_so_until_a_round_finds_no_more, so_they_are_if_a_hundredth_is_left_out,
            a_list_that_is_gone_is_told_in_the_platforms_words, a_grown_disk_goes_on_by_its_list,
            a_resync_is_estimated_and_hashes_everything, all_stores_agree,
        ])
