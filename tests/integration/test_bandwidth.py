#!/usr/bin/env python3
"""Bandwidth limits with the real programs: changed while a cycle runs, and by a calendar whose time zone changes its clocks.

Bytes on the wire are held against what the buckets may let through in the time that has passed: an upper bound, that a slow machine
only raises. Offers, heads and pings are not counted by the buckets: SLACK is for them, for a frame that was paid, and for a burst.

far-timeout: 240
"""
import datetime
import os
import random
import struct
import subprocess
import time

import farlib
import tap

SHIM = os.path.join(farlib.BUILD, "tests/lib/.libs/libclock.so")
FAST, SLOW, SLACK = 16 * 1000 * 1000, 1000 * 1000, 3 * farlib.MIB
SIZE = 64 * farlib.MIB
HOUR = 3600
cluster = seed = job_id = None
EPOCH = datetime.datetime(1970, 1, 1)


def path(name):
    return os.path.join(cluster.base, name)


def make_incompressible(name, size, salt):
    with open(path(name), "wb") as file:
        file.write(random.Random(seed + salt).randbytes(size))


def sends():
    return [t for t in cluster.get("/v1/jobs/%d" % job_id)["tasks"] if t["kind"] == "send"]


def sent():
    return sum(t["bytes_sent"] for t in sends())


class Bound:
    """What may have been sent by now, of limits that were set one after the other."""

    def __init__(self, rate):
        self.base, self.rate, self.since = SLACK, rate, time.monotonic()

    def now(self):
        return self.base + self.rate * (time.monotonic() - self.since)

    def change(self, rate):
        """After the answer: it holds within a second."""
        self.base, self.rate, self.since = self.now() + self.rate * farlib.SLOW, rate, time.monotonic()

    def check(self, what):
        """Bytes first, then the time."""
        count = sent()
        bound = self.now()
        print("# %s: %d bytes sent, at most %d" % (what, count, bound), flush=True)
        assert count <= bound, "%s: %d bytes were sent, and only %d may go" % (what, count, bound)


def reports():
    return cluster.get("/v1/nodes/source")["seen_ms"]


def until_reports(count):
    """The source has said so often how far it is: once a second."""
    seen = [reports()]

    def more():
        now = reports()
        if now != seen[-1]:
            seen.append(now)
        return len(seen) > count
    farlib.until(more, 60, "%d reports of the source node" % count)


def a_running_cycle_follows_its_limits_and_loses_nothing():
    global job_id
    make_incompressible("a.img", SIZE, 0)
    cluster.protect("vm", [path("a.img")])
    cluster.cli("throttle", "set", "plan", "plan", "--rate", "%dB" % FAST)
    bound = Bound(FAST)
    job_id = cluster.start_cycle()
    farlib.until(lambda: sent() > 4 * farlib.MIB, 60, "the first bytes are sent")
    bound.check("by the plan's limit")

    cluster.cli("throttle", "set", "site", "protected", "--rate", "%dkbit" % (SLOW * 8 // 1000))
    bound.change(SLOW)
    until_reports(3)
    bound.check("by the site's limit")
    shown = cluster.get("/v1/nodes/source")
    assert shown["send_limit_bytes_per_s"] == SLOW and shown["throttle"] is None, shown
    assert cluster.get("/v1/plans/plan")["throttle"]["in_force_bytes_per_s"] == FAST

    cluster.cli("throttle", "set", "node", "source", "--rate", "pause")
    bound.change(0)
    until_reports(3)
    bound.check("in a pause")
    assert all(t["state"] == "running" for t in sends()), sends()

    cluster.cli("throttle", "remove", "site", "protected")
    cluster.cli("throttle", "remove", "node", "source")
    bound.change(FAST)
    until_reports(1)
    bound.check("by the plan's limit again")
    cluster.cli("throttle", "remove", "plan", "plan")
    job = cluster.finish(job_id)
    assert job["state"] == "succeeded", job
    assert all(t["attempt"] == 1 for t in sends()), sends()
    assert sent() >= SIZE, "%d bytes" % sent()


# ---- a calendar ----

def made_zone(name, first_s, change_s, then_s):
    """A TZif file of version 2: first_s seconds east of UTC, from change_s on then_s."""
    def block(time_bytes, times, offsets):
        out = b"TZif2" + bytes(15) + struct.pack(">6I", 0, 0, 0, len(times), len(offsets), 4)
        out += b"".join(t.to_bytes(time_bytes, "big") for t in times) + bytes(range(1, len(times) + 1))
        return out + b"".join(struct.pack(">iBB", o, 0, 0) for o in offsets) + b"ABC\0"
    os.makedirs(os.path.dirname(path("zones/" + name)), exist_ok=True)
    with open(path("zones/" + name), "wb") as file:
        file.write(block(4, [], [0]) + block(8, [change_s], [first_s, then_s]) + b"\n<ABC>-%d:%02d\n" % divmod(then_s // 60, 60))


def set_clock(offset_ms):
    with open(path("clock.new"), "w", encoding="ascii") as file:
        file.write("%d\n" % offset_ms)
    os.rename(path("clock.new"), path("clock"))


def events(kind):
    return [e for e in cluster.cli("events", "--from", "start", "--kind", kind, as_json=False).splitlines()]


def a_calendar_goes_by_a_zone_whose_clocks_change_before_its_window():
    global job_id
    now_s = cluster.get("/v1/cluster")["clock"]["time_ms"] // 1000
    change_s = now_s + HOUR // 2
    made_zone("Some/Island", 5 * HOUR + 1800, change_s, 6 * HOUR + 1800)
    begin_s = (now_s + HOUR + 59) // 60 * 60  # a whole minute, behind the change
    local = EPOCH + datetime.timedelta(seconds=begin_s + 6 * HOUR + 1800)
    window = "daily %s-%s 4MB" % (local.strftime("%H:%M"), (local + datetime.timedelta(hours=3)).strftime("%H:%M"))
    text = cluster.cli("throttle", "set", "plan", "plan", "--zone", "Some/Island", "--window", window, "--dry-run", as_json=False)
    assert farlib.foretold(text)[:2] == ["zone_changed", "throttle_changed"], text
    cluster.cli("throttle", "set", "plan", "plan", "--zone", "Some/Island", "--window", window)
    limit = cluster.get("/v1/plans/plan/throttle")
    assert limit["in_force_bytes_per_s"] == 0 and limit["next_ms"] == begin_s * 1000, (limit, begin_s)
    assert limit["zone"] == "Some/Island", limit
    text = cluster.cli("plan", "show", "plan", as_json=False)
    assert "throttle: unlimited until %s UTC" % (EPOCH + datetime.timedelta(seconds=begin_s)) in text, text

    set_clock((begin_s - now_s + 60) * 1000)
    farlib.until(lambda: events("throttle_shifted"), 60, "the log says that the window begins")
    limit = cluster.get("/v1/plans/plan/throttle")
    assert limit["in_force_bytes_per_s"] == 4000000 and limit["next_ms"] == (begin_s + 3 * HOUR) * 1000, limit
    bound = Bound(4000000)  # within a second, as it was told before
    bound.base += 4000000 * farlib.SLOW
    make_incompressible("a.img", 16 * farlib.MIB, 1)
    make_incompressible("b.img", SIZE - 16 * farlib.MIB, 0)
    with open(path("b.img"), "rb") as rest, open(path("a.img"), "r+b") as file:
        rest.seek(0)
        file.seek(16 * farlib.MIB)
        file.write(rest.read())
    job_id = cluster.start_cycle()
    job = cluster.finish(job_id)
    bound.check("in the window")
    assert job["state"] == "succeeded" and sent() >= 12 * farlib.MIB, job


def the_log_explains_it():
    text = cluster.cli("events", "--from", "start", "--kind", "throttle_changed,throttle_removed,throttle_shifted,zone_changed",
                       "--plan", "plan", as_json=False)
    assert "throttle_shifted" in text and "throttle_removed" in text, text
    assert cluster.cli("throttle", "list")[0]["name"] == "plan"
    limits = cluster.cli("zone", "list")
    assert [z["name"] for z in limits] == ["Some/Island"] and len(limits[0]["changes"]) == 2, limits
    cluster.cli("zone", "refresh", "Some/Island")
    assert len(events("zone_changed")) == 1


def environment():
    preload = [SHIM]
    if os.environ.get("ASAN_OPTIONS"):
        preload.insert(0, subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip())
    return {"LD_PRELOAD": ":".join(preload), "FAR_CLOCK_OFFSET_FILE": path("clock"), "TZDIR": path("zones")}


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    with farlib.Cluster(servers=("protected",)) as cluster:
        set_clock(0)
        server = cluster.servers["protected"]
        server.stop()
        server.environment = environment()
        server.start()
        cluster.wait_leader()
        cluster.wait_nodes()
        tap.run_all([a_running_cycle_follows_its_limits_and_loses_nothing,
                     a_calendar_goes_by_a_zone_whose_clocks_change_before_its_window, the_log_explains_it])
