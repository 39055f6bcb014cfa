#!/usr/bin/env python3
"""A vault on an object store where things go wrong: attaches that were interrupted, a holder's object that is lost, packs that were carried
twice, what somebody else put into the bucket. Against a real S3-compatible server, by farshore-node's own commands.

far-timeout: 300
"""
import os
import shutil
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import storelib  # noqa: E402
from storelib import Case, node, points  # noqa: E402


def an_interrupted_attach_is_done_again():
    case = Case()
    first = points(case.vault)[0]
    case.attach("w", "--take-over")
    # As a crash leaves it between the new key and the end: what says that it is complete is not there.
    open(case.path("w/attached-" + case.uuid), "w").close()
    os.unlink(case.path("w/store"))
    case.attach("w", "--take-over")
    assert case.is_exact(case.path("w"), first)
    case.change([3])
    assert case.is_exact(case.path("w"), case.point(case.path("w")))
    # To read only, in a folder that was to be the holder's: it says that it reads, and does not write.
    case.attach("r", "--take-over")
    open(case.path("r/attached-" + case.uuid), "w").close()
    os.unlink(case.path("r/store"))
    case.attach("r", "--read-only")
    assert not os.path.exists(case.path("r/holder")) and case.is_exact(case.path("r"), first)
    assert not os.path.exists(case.path("r/vault.key"))
    node("forget", "--vault", case.path("r"), "--point", first, ok=False)


def a_reader_becomes_the_holder():
    case = Case()
    first = points(case.vault)[0]
    case.attach("r", "--read-only")
    case.change(range(32))
    second = case.point(case.vault)
    case.reclaim_all(case.vault, but=second)
    assert "packs/00000001.e1.pack" not in case.keys(), case.keys()
    assert "attach it once more" in node("list", "--vault", case.path("r"), ok=False)
    case.attach("r", "--take-over")
    assert points(case.path("r")) == [second], (first, second, points(case.path("r")))
    assert case.is_exact(case.path("r"), second)


def a_lost_or_damaged_holder_object_is_replaced():
    case = Case()
    case.attach("w2", "--take-over")
    case.change(range(4))
    case.point(case.path("w2"))
    assert "e2.pack" in " ".join(case.keys("packs/"))
    assert case.request("DELETE", "holder")[0] == 204
    assert "epoch 3" in case.attach("w3", "--take-over")
    case.change(range(4, 8))
    case.point(case.path("w3"))
    for junk in (b"x" * 128, b"y" * 1000):
        assert case.request("PUT", "holder", body=junk)[0] == 200
        assert "damaged" in case.attach("w4", ok=False)
        out = case.attach("w4-%d" % len(junk), "--take-over")
        assert "epoch 4" in out, out
    wrong = bytearray(case.request("GET", "holder")[2])
    assert struct.unpack_from("<Q", wrong, 16)[0] == 4
    for point in case.contents:
        assert case.is_exact(case.path("w4-1000"), point)


def numbers_of_removed_packs_are_never_used_again():
    case = Case()
    case.change(range(32))
    case.point(case.vault)
    case.change(range(32))
    last = case.point(case.vault)
    case.reclaim_all(case.vault, but=last)
    packs = [key for key in case.keys("packs/") if key.endswith(".pack")]
    # What follows the packs that were removed is gone, as when it had not been carried yet: here the points are, too.
    assert "packs/00000001.e1.pack" not in packs, packs
    for key in case.keys("packs/0") + case.keys("points/") + case.keys("replicas/"):
        assert case.request("DELETE", key)[0] == 204
    case.attach("w", "--take-over")
    case.change(range(32))
    for _ in range(3):
        case.change([5])
        new = case.point(case.path("w"))
        assert case.is_exact(case.path("w"), new)
    case.attach("again", "--take-over")
    assert case.is_exact(case.path("again"), new)


def up_version(path):
    with open(path, "rb") as file:
        raw = file.read()
    return struct.unpack_from("<Q", raw, 48)[0], raw[56:192].split(b"\0")[0]


def an_attach_learns_versions_and_locks():
    case = Case(lock=True, lock_mode="governance")
    status, headers, _ = case.request("HEAD", "packs/00000001.e1.pack")
    version = {name.lower(): value for name, value in headers.items()}["x-amz-version-id"]
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86400))
    body = ("<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>%s</RetainUntilDate></Retention>" % until).encode()
    status, _, answer = case.request("PUT", "packs/00000001.e1.pack", query={"retention": "", "versionId": version}, body=body)
    assert status == 200, answer
    case.attach("r", "--read-only")
    for name, more in (("w", "--take-over"), ("r", "--take-over")):
        case.attach(name, more)
        locked_until, known = up_version(case.path(name + "/packs/00000001.up"))
        assert known.decode() == version and locked_until > time.time() * 1000, (known, version, locked_until)
    # Locked: reclaim leaves it alone, and does not fail for it.
    case.change(range(32))
    last = case.point(case.path("r"))
    case.reclaim_all(case.path("r"), but=last)
    assert "packs/00000001.e1.pack" in case.keys("packs/")


def a_pack_carried_twice_goes_wholly():
    case = Case(lock=True)
    os.unlink(os.path.join(case.vault, "packs/00000001.up"))  # as a crash before it was noted
    case.change(range(32))
    last = case.point(case.vault)
    case.reclaim_all(case.vault, but=last)
    assert not [key for key in case.keys("packs/") if "00000001" in key], case.keys("packs/")
    status, _, body = storelib.server.request("GET", "/" + case.name, query={"versions": "", "prefix": case.uuid + "/packs/00000001"})
    assert status == 200 and b"<Version>" not in body, body
    assert case.is_exact(case.vault, last)


def what_others_put_into_the_bucket_stays_there():
    case = Case()
    first = points(case.vault)[0]
    manifest = case.request("GET", "points/%s.manifest" % first)[2]
    for key in ("points/%s.forgotten" % first, "points/.hidden.manifest", "points/a/b.manifest", "domains/x.sh", "replicas/lock", "lock",
                "store", "vault.key", "packs/4294967295.e1.pack", "packs/00000001.e0.pack", "packs/1.e1.pack", "signals/1.signal"):
        assert case.request("PUT", key, body=manifest)[0] == 200, key
    case.attach("r", "--read-only")
    found = sorted(os.path.relpath(os.path.join(folder, name), case.path("r")) for folder, _, names in os.walk(case.path("r")) for name in names)
    replicas = [name for name in found if name.startswith("replicas/")]
    assert len(replicas) == 1 and replicas[0].endswith(".replica"), found
    others = [name for name in found if name not in replicas]
    assert others == sorted(["attached-" + case.uuid, "bound", "packs/00000001.up", "points/%s.manifest" % first, "store", "vault"]), others
    assert case.is_exact(case.path("r"), first)


def binding_again_takes_what_changed():
    case = Case()
    storelib.server.store_file(case.name, name="store-" + case.name, keep_bytes=1048576, retry_max_ms=5000)
    node("bind", "--vault", case.vault, "--store", case.config)
    with open(os.path.join(case.vault, "store"), encoding="utf-8") as file:
        text = file.read()
    assert "5000" in text and ("1048576" in text or "1m" in text.lower()), text


def a_folder_that_was_set_back_is_refused():
    case = Case()
    shutil.copytree(case.vault, case.path("before"))
    case.change(range(32))
    second = case.point(case.vault)
    kept = case.request("GET", "packs/00000002.e1.pack")[2]
    os.rename(case.vault, case.path("after"))
    os.rename(case.path("before"), case.vault)
    case.change(range(5))
    refused = node("import", "--vault", case.vault, "--image", case.image, "--label", "x", ok=False)
    assert "older copy" in refused or "taken over" in refused, refused
    assert case.request("GET", "packs/00000002.e1.pack")[2] == kept and "points/%s.manifest" % second in case.keys("points/")
    for _ in range(2):
        node("reclaim", "--vault", case.vault, ok=False)
    assert "points/%s.manifest" % second in case.keys("points/")
    case.attach("w", "--take-over")
    assert sorted(points(case.path("w"))) == sorted(case.contents)
    for point in case.contents:
        assert case.is_exact(case.path("w"), point)


ALL = [a_folder_that_was_set_back_is_refused, an_interrupted_attach_is_done_again, a_reader_becomes_the_holder, a_lost_or_damaged_holder_object_is_replaced,
       numbers_of_removed_packs_are_never_used_again, an_attach_learns_versions_and_locks, a_pack_carried_twice_goes_wholly,
       what_others_put_into_the_bucket_stays_there, binding_again_takes_what_changed]


if __name__ == "__main__":
    storelib.run(ALL)
