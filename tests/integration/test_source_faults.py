#!/usr/bin/env python3
"""Sources that fail, as NBD exports of nbdkit with its filters: reads that fail, everywhere or in one place, a server that hangs, is
slow, vanishes and comes back, or shows another disk. The job says what is wrong, in words; no proven point suffers; what was done is
not lost; it goes on by itself when the cause is gone.

far-timeout: 300
"""
import contextlib
import os
import re
import shutil
import subprocess

import farlib
import tap

SIZE = 24 * farlib.MIB
cluster = seed = None
exports = []


def path(name):
    return os.path.join(cluster.base, name)


class Export:
    """An image of its own behind one nbdkit at a time, always at the same port."""

    def __init__(self, name, size=SIZE):
        self.image, self.name, self.process = path(name + ".img"), name, None
        self.port = farlib.free_ports(1)[0]
        self.uri = "nbd://127.0.0.1:%d/%s" % (self.port, name)
        farlib.make_image(self.image, size, seed + len(exports))
        exports.append(self)

    def start(self, *filters, plugin=None, settings=()):
        command = ["nbdkit", "-f", "-r", "-i", "127.0.0.1", "-p", str(self.port)]
        command += ["--filter=" + f for f in filters] + (plugin or ["file", "file=" + self.image]) + list(settings)
        with open(path("logs/nbdkit-%s.log" % self.name), "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                            preexec_fn=farlib.die_with_parent)
        farlib.until(lambda: not subprocess.run(["nbdinfo", "--size", self.uri], capture_output=True).returncode
                     if "delay" not in filters else self.listens(), 20, "nbdkit serves")
        return self

    def listens(self):
        import socket
        with socket.create_connection(("127.0.0.1", self.port), timeout=5):
            return True

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def protect(self, adapter="nbd?tm=2000&rm=300"):
        cluster.protect(self.name, [self.uri], plan=self.name, adapter=adapter)
        return self


def words_of(job_id):
    job = cluster.job(job_id)
    return " ".join([job.get("error_message") or ""] + [t.get("error_message") or "" for t in job["tasks"]])


def complains(job_id, *words):
    """Waits until the job says all of this while it goes on; returns what it says."""
    def said():
        job = cluster.job(job_id)
        if job["state"] != "running":
            raise farlib.Ended("the job ended as %s: %s" % (job["state"], words_of(job_id)))
        text = words_of(job_id)
        return text if all(w in text for w in words) else None
    text = farlib.until(said, 60, "the job says %r" % (words,))
    print("# the job says: %s" % text.strip())
    return text


def finishes(job_id):
    job = cluster.finish(job_id, 120)
    if job["state"] != "succeeded":
        raise farlib.Failure("the cycle ended as %s: %s" % (job["state"], words_of(job_id)))
    return job


def recovered(export, name="out"):
    out = path("%s.%s" % (export.name, name))
    job = cluster.finish(cluster.start_recovery(export.name, [out], export.name), 120)
    if job["state"] != "succeeded":
        raise farlib.Failure("the recovery ended as %s" % job["state"])
    return farlib.same_bytes(export.image, out)


def points_of(export):
    return [p for p in cluster.get("/v1/points")["items"] if p["state"] == "available" and p["workload"] == export.name]


def an_export_is_copied_followed_and_recovered():
    export = Export("plain").start().protect()
    finishes(cluster.start_cycle("plain"))
    point = points_of(export)[-1]
    changed = farlib.change_image(export.image, 20, seed + 100)
    job = finishes(cluster.start_cycle("plain"))
    wrong = [] if recovered(export) else ["the recovered disk is not the export"]
    wrong += [] if not point["fuzzy"] else ["a read-only export is called fuzzy"]
    return wrong + ([] if job["bytes_changed"] == len(changed) * farlib.BLOCK else ["%d bytes changed" % job["bytes_changed"]])


def reads_that_fail_are_told_with_their_range_and_go_on_when_they_work():
    export = Export("errors")
    switch = path("errors-now")
    export.start("error", settings=["error-pread-rate=100%", "error-file=" + switch]).protect()
    finishes(cluster.start_cycle("errors"))
    shutil.copyfile(export.image, path("errors.before"))
    farlib.change_image(export.image, 20, seed + 200)
    with open(switch, "wb"):
        pass
    job_id = cluster.start_cycle("errors")
    text = complains(job_id, "EIO", "127.0.0.1:%d" % export.port)
    shown = cluster.cli("job", "show", str(job_id), as_json=False)
    points = points_of(export)
    os.unlink(switch)
    finishes(job_id)
    wrong = [] if re.search(r"read bytes \d+ to \d+ of 'nbd://", text) else ["no range is named: %s" % text]
    wrong += [] if "EIO" in shown else ["the command line does not say it: %s" % shown]
    wrong += [] if len(points) == 1 else ["%d points while reads failed" % len(points)]
    wrong += [] if recovered(export) else ["the recovered disk is not the export"]
    out = path("errors.old")
    job = cluster.finish(cluster.post("/v1/plans/errors/recover", {
        "workload": "errors", "checkpoint_id": points[0]["checkpoint_id"], "disks": [{"disk": "disk0", "path": out}]})["id"])
    if job["state"] != "succeeded" or not farlib.same_bytes(path("errors.before"), out):
        wrong.append("the point made before the errors is damaged")
    return wrong


def reads_that_fail_now_and_then_do_not_stop_a_cycle():
    export = Export("flaky").start("error", settings=["error-pread=EIO", "error-pread-rate=20%"]).protect()
    job = finishes(cluster.start_cycle("flaky"))
    return [] if job["bytes_sent"] < SIZE * 1.1 and recovered(export) else ["the recovered disk is not the export, or too much was sent"]


def one_range_that_cannot_be_read_is_named_and_read_when_it_can_be():
    """A server whose disk has a bad spot of 64 KiB: all else is read, and the words name bytes around that spot."""
    export, switch, bad = Export("spot", 4 * farlib.MIB), path("spot-now"), 2 * farlib.MIB + 65536
    pread = ("if [ -e %s ] && [ $4 -lt %d ] && [ $(($4 + $3)) -gt %d ]; then echo EIO bad spot >&2; exit 1; fi; "
             "dd if=%s iflag=skip_bytes,count_bytes skip=$4 count=$3 bs=1M 2>/dev/null" % (switch, bad + 65536, bad, export.image))
    with open(switch, "wb"):
        pass
    export.start(plugin=["eval", "get_size=echo %d" % (4 * farlib.MIB), "pread=" + pread]).protect()
    job_id = cluster.start_cycle("spot")
    text = complains(job_id, "EIO")
    os.unlink(switch)
    finishes(job_id)
    found = re.search(r"read bytes (\d+) to (\d+) of", text)
    wrong = [] if found and int(found.group(1)) < bad + 65536 and int(found.group(2)) >= bad else ["another range is named: " + text]
    return wrong + ([] if recovered(export) else ["the recovered disk is not the export"])


def a_server_that_hangs_is_given_up_and_taken_up_when_it_answers():
    export = Export("hangs").start("delay", settings=["delay-read=1000"]).protect()
    job_id = cluster.start_cycle("hangs")
    complains(job_id, "does not answer")
    export.kill()
    export.start()
    finishes(job_id)
    return [] if recovered(export) else ["the recovered disk is not the export"]


def a_slow_source_is_slow_and_nothing_else():
    export = Export("slow", 8 * farlib.MIB).start("delay", settings=["delay-read=200ms"]).protect()
    finishes(cluster.start_cycle("slow"))
    return [] if recovered(export) else ["the recovered disk is not the export"]


def a_server_that_vanishes_is_named_and_gone_on_with_when_it_is_back():
    """In the middle of a first copy, the source limited to 2 MiB/s; what came over before is not sent again."""
    export = Export("gone")
    with open(export.image, "wb") as file:
        file.write(os.urandom(SIZE))
    export.start("rate", settings=["rate=16M"]).protect()
    job_id = cluster.start_cycle("gone")

    def half_way():
        job = cluster.job(job_id)
        return job["state"] != "running" or sum(t["bytes_done"] for t in job["tasks"] if t["kind"] == "send") > SIZE // 3
    farlib.until(half_way, 60, "a third is copied")
    export.kill()
    text = complains(job_id, "connect to", "Connection refused")
    export.start()
    job = finishes(job_id)
    sent = sum(t["bytes_sent"] for t in cluster.job(job_id)["tasks"] if t["kind"] == "send")
    print("# sent in the last attempt: %d of %d bytes; the job: %d" % (sent, SIZE, job["bytes_sent"]))
    wrong = [] if "127.0.0.1:%d" % export.port in text else ["the server is not named"]
    wrong += [] if sent < SIZE * 0.8 and job["bytes_sent"] < SIZE * 1.1 else ["blocks were sent twice"]
    return wrong + ([] if recovered(export) else ["the recovered disk is not the export"])


def another_disk_at_the_same_place_is_refused_and_damages_nothing():
    """Served smaller: a disk that shrank. The point that is there stays whole; the disk served again as it was goes on."""
    export = Export("shrank").start().protect()
    finishes(cluster.start_cycle("shrank"))
    shutil.copyfile(export.image, path("shrank.before"))
    export.kill()
    export.start("truncate", settings=["truncate=%d" % (SIZE // 2)])
    job = cluster.finish(cluster.start_cycle("shrank"), 120)
    text = words_of(job["id"])
    export.kill()
    export.start()
    finishes(cluster.start_cycle("shrank"))
    wrong = [] if job["state"] == "failed" and text.strip() else ["the cycle ended as %s: %s" % (job["state"], text)]
    print("# the job says: %s" % text)
    return wrong + ([] if recovered(export) else ["the recovered disk is not the export"])


def what_an_export_gave_is_recovered_to_an_export():
    export, target = exports[0], Export("target", SIZE)
    with open(target.image, "wb") as file:
        file.write(b"\xa5" * SIZE)
    target.process = subprocess.Popen(["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(target.port), "file", "file=" + target.image],
                                      stdin=subprocess.DEVNULL, preexec_fn=farlib.die_with_parent)
    farlib.until(target.listens, 20, "nbdkit serves")
    job = cluster.finish(cluster.start_recovery("plain", [target.uri], "plain"), 120)
    if job["state"] != "succeeded":
        return ["the recovery ended as %s: %s" % (job["state"], words_of(job["id"]))]
    return [] if farlib.same_bytes(export.image, target.image) else ["the target is not the export"]


TESTS = [an_export_is_copied_followed_and_recovered, reads_that_fail_are_told_with_their_range_and_go_on_when_they_work,
         reads_that_fail_now_and_then_do_not_stop_a_cycle,
         one_range_that_cannot_be_read_is_named_and_read_when_it_can_be, a_server_that_hangs_is_given_up_and_taken_up_when_it_answers,
         a_slow_source_is_slow_and_nothing_else, a_server_that_vanishes_is_named_and_gone_on_with_when_it_is_back,
         another_disk_at_the_same_place_is_refused_and_damages_nothing, what_an_export_gave_is_recovered_to_an_export]


def main():
    global cluster, seed
    if not shutil.which("nbdkit") or not shutil.which("nbdinfo"):
        print("1..0 # SKIP nbdkit and libnbd-bin are not installed")
        return
    seed = farlib.seed_of_run()
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(farlib.Cluster())
        stack.callback(lambda: [export.kill() for export in exports])
        tap.run_all(TESTS)


if __name__ == "__main__":
    main()
