#!/usr/bin/env python3
"""Locks of points in a bucket with object lock: what the store cannot lock is named, tried again, and is in nobody's way; what somebody hid
behind delete markers is found again; what is erased leaves no version behind.

far-timeout: 240
"""
import os
import re
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import s3lib  # noqa: E402
import storelib  # noqa: E402
from storelib import Case, Gate, node, points, through  # noqa: E402

DRIVER = os.path.join(s3lib.BUILD, "tests/lib/vault_driver")


def locked(vault, point, seconds=3600, ok=True):
    done = subprocess.run([DRIVER, "locked", vault, str(point), str(seconds)], capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0) == ok, (done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def versions(case, under=""):
    """[(key, version, is a delete marker)]"""
    status, _, body = storelib.server.request("GET", "/" + case.name, query={"versions": "", "prefix": "%s/%s" % (case.uuid, under)})
    assert status == 200, body
    found = []
    for kind, part in re.findall(r"<(Version|DeleteMarker)>(.*?)</\1>", body.decode(), re.DOTALL):
        key, version = (re.search("<%s>(.*?)</%s>" % (name, name), part).group(1) for name in ("Key", "VersionId"))
        found.append((key[len(case.uuid) + 1:], version, kind == "DeleteMarker"))
    return found


def until(case, key):
    """Until when it is locked; None: it is not."""
    headers = {name.lower(): value for name, value in case.request("HEAD", key)[1].items()}
    return headers.get("x-amz-object-lock-retain-until-date")


def a_pack_that_cannot_be_locked_is_named_and_blocks_nothing():
    case = Case(lock=True, lock_mode="governance")
    for n in range(2):
        case.change([n])
        case.point(case.vault)
    ((_, version, _),) = [v for v in versions(case, "packs/00000002") if v[0].endswith(".pack")]
    kept = case.request("GET", "packs/00000002.e1.pack")[2]
    assert case.request("DELETE", "packs/00000002.e1.pack", query={"versionId": version})[0] == 204
    said = locked(case.vault, 500)
    assert "cannot lock pack 00000002" in said and "the store has lost it" in said, said
    said = locked(case.vault, 501, 7200)  # one after it is sealed all the same, and the others are locked
    assert "point 501" in said, said
    packs = [key for key in case.keys("packs/") if key.endswith(".pack")]
    assert len(packs) >= 4 and all(until(case, key) for key in packs), [(key, until(case, key)) for key in packs]
    assert until(case, "points/501.manifest") and until(case, "points/501.lock")
    said = node("reclaim", "--vault", case.vault)
    assert "1 packs cannot be locked in the store: pack 00000002" in said, said
    # It is there again: what was missed is made good. (A version of another id: the folder has to look for it.)
    assert case.request("PUT", "packs/00000002.e1.pack", body=kept)[0] == 200
    os.unlink(os.path.join(case.vault, "packs/00000002.up"))
    case.change([5])
    case.point(case.vault)
    node("reclaim", "--vault", case.vault)
    assert until(case, "packs/00000002.e1.pack")
    assert "cannot be locked" not in node("reclaim", "--vault", case.vault)


def whoever_locks_packs_keeps_nobody_waiting():
    case = Case(lock=True, lock_mode="governance")
    first = points(case.vault)[0]
    gate = Gate(r"PUT \S*/packs/\S*retention")
    through(case.vault, gate.endpoint)
    driver = subprocess.Popen([DRIVER, "locked", case.vault, "600", "3600", first], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              preexec_fn=s3lib.die_with_parent)
    assert gate.waits.wait(60)  # the point is being sealed, and the store does not answer
    driver.stdin.write("forget\n")
    driver.stdin.flush()
    told = []
    reader = threading.Thread(target=lambda: [told.append(line) for line in driver.stdout], daemon=True)
    reader.start()
    for _ in range(200):
        if any("forget %s: 0" % first in line for line in told):
            break
        gate.is_open.wait(0.1)  # nobody opens it: a pause
    was_kept_waiting = not any("forget" in line for line in told)
    gate.is_open.set()
    assert driver.wait(100) == 0
    reader.join(10)
    assert not was_kept_waiting, told
    assert any(line.startswith("point 600 ") for line in told), told


def what_was_hidden_is_found_where_the_store_locks_it():
    case = Case(lock=True, lock_mode="governance")
    case.change([1])
    case.point(case.vault)
    first, second = points(case.vault)
    locked(case.vault, second)  # and so all packs
    gone = ["vault"] + ["packs/0000000%d.e1.%s" % (n, end) for n in (1, 2) for end in ("pack", "idx")]
    gone += ["points/%s.lock" % second] + ["points/%s.manifest" % point for point in (first, second)]
    for key in gone:
        assert case.request("DELETE", key)[0] == 204 and case.request("HEAD", key)[0] == 404, key
    key = re.search("^keys (.*)$", node("store", "--vault", case.vault), re.MULTILINE).group(1)
    for name, how in (("r", "--read-only"), ("w", "--take-over")):
        said = case.attach(name, how, "--uuid", case.uuid, "--key", key)
        assert "hidden by delete markers" in said, said
        assert points(case.path(name)) == [second] and case.is_exact(case.path(name), second)  # the first one's manifest may go
    case.change([2])
    third = case.point(case.path("w"))
    # What the vault needs shows itself again, and is locked again.
    for end in ("manifest", "lock"):
        key = "points/%s.%s" % (second, end)
        assert until(case, key), (key, case.request("HEAD", key)[:2], versions(case, key))
    assert case.request("HEAD", "vault")[0] == 200
    case.attach("again", "--read-only")
    assert case.is_exact(case.path("again"), second) and case.is_exact(case.path("again"), third)


def of_a_destroyed_domain_no_version_stays_that_may_go():
    for keeps in (False, True):
        case = Case(lock=True, lock_mode="governance")
        for generation in (1, 2, 3):
            subprocess.run([DRIVER, "key", case.vault, str(generation)], check=True, capture_output=True, timeout=120)
        (name,) = [key for key in case.keys("domains/")]
        before = versions(case, name)
        assert len(before) >= 2, before
        oldest = before[-1][1]
        if keeps:
            date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
            body = "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>%s</RetainUntilDate></Retention>" % date
            assert case.request("PUT", name, query={"retention": "", "versionId": oldest}, body=body.encode())[0] == 200
        done = subprocess.run([DRIVER, "destroy", case.vault], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        after = versions(case, name)
        assert len(after) == (2 if keeps else 1) and (oldest in [v[1] for v in after]) == keeps, after
        newest = case.request("GET", name)[2]
        with open(os.path.join(case.vault, name), "rb") as file:
            assert file.read() == newest
        if keeps:
            assert "1 former versions" in done.stderr and date[:10] in done.stderr, done.stderr
        case.attach("r", "--read-only")
        assert case.is_exact(case.path("r"), list(case.contents)[0])


ALL = [a_pack_that_cannot_be_locked_is_named_and_blocks_nothing, whoever_locks_packs_keeps_nobody_waiting,
       what_was_hidden_is_found_where_the_store_locks_it, of_a_destroyed_domain_no_version_stays_that_may_go]

if __name__ == "__main__":
    storelib.run(ALL)
