#!/usr/bin/env python3
"""The promised RPO of a whole machine: a guest writes 10 MB/s without pause, a cycle begins every 15 s, and the newest proven point is never
older than 30 s. Only in `make check-long`: FAR_RPO_MINUTES (60) of it. Beside it the vault forgets and gives back what retention lets go.

What was written is measured by what the guest acknowledged, and each second it is asked how old the newest point is; so what is shown
is also what the product itself says of it (`rpo_reached_s` of each cycle, the alert rpo_late).

Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 4500
"""
import os
import time
import urllib.parse

import farlib
import libvirt_kit
import tap

INTERVAL_S, PROMISED_S, LOAD_KIB = 15, 30, 10500000 // 1024
MINUTES = float(os.environ.get("FAR_RPO_MINUTES", "60"))
KEEP = 8  # checkpoints
cluster = guest = None


def locator(target):
    return "kvm:///%s/%s?socket=%s" % (guest.name, target, urllib.parse.quote(guest.libvirt.socket))


def begin():
    cluster.cli("vault", "set-policy", "target", "--reclaim-interval", "60", as_json=False)
    cluster.post("/v1/workloads", {"name": "vm", "site": "protected", "adapter": "kvm", "disks": [
        {"name": "disk%d" % index, "locator": locator(target)} for index, target in enumerate(guest.disks)]})
    cluster.post("/v1/plans", {"name": "plan", "source_site": "protected", "target_site": "recovery", "workloads": ["vm"],
                               "interval_s": INTERVAL_S, "rpo_s": PROMISED_S})
    cluster.post("/v1/plans/plan/retention", {"last": KEEP})
    cluster.post("/v1/plans/plan/start")


def newest():
    """(when the newest proven point was frozen, in s since 1970; what the plan says of it)"""
    rpo = cluster.get("/v1/plans/plan")["rpo"]
    return (rpo["newest_ms"] or 0) / 1000, rpo


def the_newest_point_is_never_older_than_was_promised():
    begin()
    first, _ = farlib.until(lambda: newest() if newest()[0] else None, 120, "the first point")
    ends, worst, ages, acked, late = time.time() + MINUTES * 60, 0.0, [], guest.acked(), []
    while time.time() < ends:
        frozen, rpo = newest()
        ages.append(time.time() - frozen)
        worst = max(worst, ages[-1])
        late += [rpo] if rpo["late"] else []
        later = time.time() + 1
        farlib.until(lambda later=later: time.time() >= later, 5, "a second is over")
    seconds = guest.acked() - acked  # one record a second of load
    jobs = [job for job in cluster.get("/v1/jobs?kind=replicate&limit=1000")["items"] if job["state"] != "running"]
    bad = [job for job in jobs if job["state"] != "succeeded"]
    reached = [job["rpo_ms"] / 1000 for job in jobs if job.get("rpo_ms")]
    wrote = seconds * LOAD_KIB * 1024 / (MINUTES * 60) / 1e6
    print("# %.0f min, the guest wrote %.1f MB/s; the newest point was %.1f s old at most, %.1f s at the median; the product says "
          "%.1f s at most, of the last %d cycles" % (MINUTES, wrote, worst, sorted(ages)[len(ages) // 2], max(reached), len(jobs)))
    wrong = ["a cycle ended as %s: %s" % (job["state"], job.get("error_message")) for job in bad[:3]]
    wrong += [] if worst <= PROMISED_S and max(reached) <= PROMISED_S and not late else ["the promise was broken: %r" % late[:1]]
    return wrong + ([] if wrote >= 10 else ["the guest wrote %.1f MB/s only" % wrote])


def the_newest_point_is_exact():
    """The guest is destroyed; what it acknowledged last is lost by no more than was promised."""
    cluster.post("/v1/plans/plan/stop")
    farlib.until(lambda: not cluster.get("/v1/plans/plan")["running_job_id"], 60, "the last cycle is over")
    frozen = newest()[0]
    acked, now = guest.acked(), time.time()
    guest.destroy()
    targets = [os.path.join(cluster.base, "out%d" % index) for index in range(len(guest.disks))]
    job = cluster.finish(cluster.start_recovery("vm", targets, "plan"), 300)
    status = [] if job["state"] == "succeeded" else ["the recovery ended as %s: %s" % (job["state"], job.get("error_message"))]
    text = libvirt_kit.tool("sh", "-c", "e2fsck -E journal_only -y '%s' >/dev/null 2>&1; e2fsck -fn '%s' 2>&1" % (targets[0], targets[0]))
    print("# %.1f s between the freeze of the last point and the end, %d records acknowledged\n# %s" % (
        now - frozen, acked, text.splitlines()[-1]))
    return status


def main():
    global cluster, guest
    if libvirt_kit.is_missing("e2fsck"):
        return
    with farlib.Cluster(adapter="kvm") as cluster, libvirt_kit.Libvirt(os.path.join(cluster.base, "a")) as libvirt:
        guest = libvirt_kit.Guest(libvirt, "busy", [512], options="far.load_kib=%d" % LOAD_KIB)
        guest.start()
        tap.run_all([the_newest_point_is_never_older_than_was_promised, the_newest_point_is_exact])


if __name__ == "__main__":
    main()
