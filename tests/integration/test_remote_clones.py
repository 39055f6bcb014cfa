#!/usr/bin/env python3
"""Copies of a vault's folder that hold it by the same token: two that run at once, and one that was set back. None overwrites what another
announced, and each that is behind says so.

far-timeout: 240
"""
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import s3lib  # noqa: E402
import storelib  # noqa: E402
from storelib import NODE, Case, Gate, node, points, through  # noqa: E402


def begin_import(case, vault):
    return subprocess.Popen([NODE, "vault", "import", "--vault", vault, "--image", case.image, "--label", "x"], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, preexec_fn=s3lib.die_with_parent)


def whole(case, but=()):
    """Every point that was announced opens from a new folder."""
    name = "whole%d" % len(os.listdir(case.dir))
    case.attach(name, "--read-only")
    assert sorted(points(case.path(name))) == sorted(case.contents), (points(case.path(name)), list(case.contents))
    return all(case.is_exact(case.path(name), point) for point in case.contents if point not in but)


def two_that_run_at_once_never_overwrite_a_pack(lock=False):
    case = Case(lock=lock)
    clone = case.path("clone")
    shutil.copytree(case.vault, clone)
    gate = Gate(r"(PUT|POST) \S*/packs/00000002\S*\.pack")
    through(clone, gate.endpoint)
    case.change(range(20))
    slow = begin_import(case, clone)  # it has looked at the store, and is about to write pack 2
    assert gate.waits.wait(60)
    case.change(range(30))
    second = case.point(case.vault)
    kept = case.request("GET", "packs/00000002.e1.pack")[2], case.request("GET", "packs/00000002.e1.idx")[2]
    gate.is_open.set()
    said = slow.communicate(timeout=100)[0]
    assert slow.returncode != 0 and "a second copy of" in said, said
    for _ in range(2):  # and from now on at once
        refused = node("import", "--vault", clone, "--image", case.image, "--label", "x", ok=False)
        assert "a second copy of" in refused or "older copy" in refused, refused
    now = case.request("GET", "packs/00000002.e1.pack")[2], case.request("GET", "packs/00000002.e1.idx")[2]
    assert now == kept
    case.change([1])
    case.point(case.vault)  # the other one goes on
    assert second in points(case.vault) and whole(case)


def in_a_bucket_with_versions_neither():
    two_that_run_at_once_never_overwrite_a_pack(lock=True)


def a_carry_that_was_interrupted_is_taken_up():
    case = Case()
    up, pack = (os.path.join(case.vault, "packs/00000001." + end) for end in ("up", "pack"))
    os.unlink(up)  # as a crash before it was noted
    case.change([1])
    case.point(case.vault)
    assert os.path.exists(up)
    # Once more, and meanwhile something of it died here, and is zeroes: it is in the store as it was.
    for point in points(case.vault)[:1]:
        del case.contents[point]
        node("forget", "--vault", case.vault, "--point", point)
    before = case.request("GET", "packs/00000001.e1.pack")[2]
    store = os.path.join(case.vault, "store")
    os.rename(store, store + ".away")  # a vault of the folder alone: it zeroes what died
    for name in os.listdir(os.path.join(case.vault, "packs")):
        if name.endswith(".up"):
            os.unlink(os.path.join(case.vault, "packs", name))
    for _ in range(3):
        node("reclaim", "--vault", case.vault)
    os.rename(store + ".away", store)
    with open(pack, "rb") as file:
        assert file.read() != before, "nothing was zeroed: the test tests nothing"
    case.change([2])
    case.point(case.vault)
    assert case.request("GET", "packs/00000001.e1.pack")[2] == before and os.path.exists(up)
    assert whole(case)
    # A byte that is alive differs: that is no pack of this folder.
    os.unlink(up)
    damaged = bytearray(before)
    damaged[len(damaged) - 40] ^= 1
    assert case.request("PUT", "packs/00000001.e1.pack", body=bytes(damaged))[0] == 200
    assert "a second copy of" in node("import", "--vault", case.vault, "--image", case.image, "--label", "x", ok=False)


def a_folder_that_was_set_back_is_refused_though_no_pack_came():
    case = Case()
    case.change([1])
    case.point(case.vault)
    clone = case.path("clone")
    shutil.copytree(case.vault, clone)
    packs = [key for key in case.keys("packs/") if key.endswith(".pack")]
    case.point(case.vault)  # of the very same content: everything that it needs is there
    assert [key for key in case.keys("packs/") if key.endswith(".pack")] == packs
    for command in (("import", "--image", case.image, "--label", "x"), ("forget", "--point", points(clone)[1]), ("reclaim",)):
        said = node(command[0], "--vault", clone, *command[1:], ok=False)
        assert "does not know" in said and "older copy" in said and "take it over" in said, (command, said)
    assert whole(case)
    shutil.rmtree(clone)
    shutil.copytree(case.vault, clone)
    node("forget", "--vault", case.vault, "--point", points(case.vault)[0])  # nor does it know that something went
    del case.contents[list(case.contents)[0]]
    assert "older copy" in node("import", "--vault", clone, "--image", case.image, "--label", "x", ok=False)
    assert whole(case)
    case.change([2])
    case.point(case.vault)
    assert whole(case)
    # The way forward that it names.
    os.rename(case.vault, case.path("lost"))
    case.attach("w", "--take-over")
    case.change([3])
    case.point(case.path("w"))
    assert whole(case)


def a_folder_that_was_set_back_to_before_the_first_point_is_refused():
    case = Case()
    fresh = case.path("fresh")
    case.attach("w", "--take-over")
    shutil.copytree(case.path("w"), fresh)
    case.change([1])
    case.point(case.path("w"))
    said = node("import", "--vault", fresh, "--image", case.image, "--label", "x", ok=False)
    assert "older copy" in said, said
    assert whole(case)


def of_two_that_announce_at_once_one_is_refused():
    case = Case()
    clone = case.path("clone")
    shutil.copytree(case.vault, clone)
    gate = Gate(r"PUT \S*/head ")
    through(clone, gate.endpoint)
    slow = subprocess.Popen([NODE, "vault", "forget", "--vault", clone, "--point", points(case.vault)[0]], stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, preexec_fn=s3lib.die_with_parent)
    assert gate.waits.wait(60)
    case.change([1])
    case.point(case.vault)
    gate.is_open.set()
    slow.communicate(timeout=100)
    assert whole(case), "a point went that the copy let go"
    assert "older copy" in node("import", "--vault", clone, "--image", case.image, "--label", "x", ok=False)


def an_announcement_that_got_lost_is_made_again():
    case = Case()
    head = os.path.join(case.vault, "head")
    kept = []
    for _ in range(3):
        case.change([1])
        case.point(case.vault)
        with open(head, "rb") as file:
            kept.append(file.read())
    assert case.request("GET", "head")[2] == kept[2]
    assert case.request("PUT", "head", body=kept[1])[0] == 200  # the program died before the last one got there
    case.change([2])
    case.point(case.vault)
    assert case.request("GET", "head")[2] == kept[2]  # the same again
    case.change([3])
    case.point(case.vault)
    assert case.request("DELETE", "head")[0] == 204
    case.change([4])
    case.point(case.vault)
    assert case.request("PUT", "head", body=kept[0])[0] == 200
    said = node("import", "--vault", case.vault, "--image", case.image, "--label", "x", ok=False)
    assert "does not know" in said, said


ALL = [two_that_run_at_once_never_overwrite_a_pack, in_a_bucket_with_versions_neither, a_carry_that_was_interrupted_is_taken_up,
       a_folder_that_was_set_back_is_refused_though_no_pack_came, a_folder_that_was_set_back_to_before_the_first_point_is_refused,
       of_two_that_announce_at_once_one_is_refused, an_announcement_that_got_lost_is_made_again]

if __name__ == "__main__":
    storelib.run(ALL)
