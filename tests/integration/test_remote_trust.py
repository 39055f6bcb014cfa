#!/usr/bin/env python3
"""Who can write to the bucket of a vault can forge all of it: whoever attaches it holds its keys against what was said elsewhere.

far-timeout: 200
"""
import os
import re
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import storelib  # noqa: E402
from storelib import Case, node, points  # noqa: E402


def keys_of(folder):
    return re.search("^keys ([0-9a-f]{64})$", node("store", "--vault", folder), re.MULTILINE).group(1)


def everything(case):
    """What the bucket has, but for what readers leave there."""
    return {key: case.request("GET", key)[2] for key in case.keys() if not key.startswith(("readers/", "clock"))}


def forge(case):
    """By somebody with the keys of the bucket: a point of theirs, and everything that says that it is one of the vault's."""
    case.attach("evil", "--take-over")
    case.change(range(32))
    return case.point(case.path("evil"))


def refused(case, name, *more):
    """Nothing is changed: not in the bucket, not here."""
    before = everything(case)
    said = case.attach(name, *more, ok=False)
    assert everything(case) == before and not os.path.exists(case.path(name)), said
    return said


def a_forged_vault_is_refused_by_its_fingerprint():
    case = Case()
    key = keys_of(case.vault)
    first = points(case.vault)[0]
    evil = forge(case)
    for mode in ("--take-over", "--read-only"):
        said = refused(case, "r", mode, "--key", key)
        assert key in said and keys_of(case.path("evil")) in said and "Nothing was changed" in said, said
    # Believed by whoever asks nobody: it is said so.
    said = case.attach("r", "--read-only")
    assert "TRUSTED ON FIRST USE" in said and keys_of(case.path("evil")) in said, said
    assert points(case.path("r")) == sorted([first, evil])


def keys_of_before_cannot_be_slipped_in():
    case = Case()
    key, honest = keys_of(case.vault), case.request("GET", "vault")[2]
    forge(case)
    stolen = case.request("GET", "vault")[2][32:64]
    # The vault's own key signs, as it was; but what somebody else signed is to hold, too.
    assert case.request("PUT", "vault", body=honest)[0] == 200
    former = bytearray(case.request("GET", "vault.former")[2])
    former[16:48] = stolen
    former[-8:] = struct.pack("<Q", storelib.xxh3(bytes(former[:-8])))
    assert case.request("PUT", "vault.former", body=bytes(former))[0] == 200
    refused(case, "r", "--read-only", "--key", key)


def the_right_fingerprint_attaches_and_the_new_one_is_told():
    case = Case()
    key = keys_of(case.vault)
    file = case.path("key-file")
    with open(file, "w", encoding="ascii") as out:
        out.write(key + "\n")
    first = points(case.vault)[0]
    said = case.attach("w", "--take-over", "--key", file)
    assert "keys %s, as was said" % key in said and "TRUSTED" not in said, said
    new = re.search("key of its own: keys ([0-9a-f]{64})", said).group(1)
    assert new == keys_of(case.path("w")) != key
    assert case.is_exact(case.path("w"), first)
    case.change([1])
    second = case.point(case.path("w"))
    refused(case, "r", "--read-only", "--key", key)
    case.attach("r", "--read-only", "--key", new)
    assert case.is_exact(case.path("r"), first) and case.is_exact(case.path("r"), second)
    for wrong in ("12", "0" * 63, os.path.join(case.dir, "no-file"), case.image):
        assert "neither a fingerprint" in case.attach("other", "--read-only", "--key", wrong, ok=False)


def a_folder_remembers_what_it_believed():
    case = Case()
    case.attach("r", "--read-only")
    assert "as this folder was attached with before" in case.attach("r", "--read-only")
    first = points(case.vault)[0]
    evil = forge(case)
    said = case.attach("r", "--read-only", ok=False)
    assert "what this folder was attached with before" in said, said
    assert points(case.path("r")) == [first]
    case.attach("r", "--read-only", "--key", keys_of(case.path("evil")))  # somebody says that it was right
    assert sorted(points(case.path("r"))) == sorted([first, evil])


def a_node_goes_by_what_the_cluster_told_it():
    case = Case()
    key = keys_of(case.vault)
    os.makedirs(case.path("node"))
    for name, text in (("config", ""), ("vaults", "%s %s target\n" % ("0" * 32, "1" * 64) + "%s %s target\n" % (case.uuid, key))):
        with open(case.path("node/" + name), "w", encoding="ascii") as out:
            out.write(text)
    said = case.attach("reader", "--read-only", "--node", case.path("node"))
    assert "as was said" in said, said
    forge(case)
    for name in ("node/vault", "node/vault/"):
        said = refused(case, name, "--take-over")
        assert "the log of the cluster says " + key in said, said
    refused(case, "elsewhere", "--read-only", "--node", case.path("node"))
    os.makedirs(case.path("other"))
    assert "has not heard" in refused(case, "elsewhere", "--read-only", "--node", case.path("other"))


ALL = [a_forged_vault_is_refused_by_its_fingerprint, keys_of_before_cannot_be_slipped_in,
       the_right_fingerprint_attaches_and_the_new_one_is_told, a_folder_remembers_what_it_believed, a_node_goes_by_what_the_cluster_told_it]

if __name__ == "__main__":
    storelib.run(ALL)
