#!/usr/bin/env python3
"""Nodes whose vaults are on one object store (a real one, over TLS, with object lock): a cluster's points go there, are recovered from there,
locked there, wait while it is away, and outlive the node's folder, kill -9 and the node itself.

far-timeout: 280
"""
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import farlib
import s3lib
import tap

os.environ["FARSHORE_NBDKIT_PLUGIN"] = os.path.join(farlib.BUILD, ".libs/nbdkit-farshore-plugin.so")
MIB = 1 << 20
SIZE = 12 * MIB + 4096
SEED = int(os.environ.get("FAR_SEED", random.randrange(1 << 32)))
rng = random.Random(SEED)
cluster = server = store = None
versions = []  # copies of the disk, as it was at each point


def path(name):
    return os.path.join(cluster.base, name)


def target():
    return cluster.nodes["target"]


def vault(*arguments, good=True, folder=None):
    status, text = cluster.run_tool("farshore-node", "vault", arguments[0], "--vault", folder or target().dir + "/vault", *arguments[1:],
                                    check=False)
    if (status == 0) != good:
        raise farlib.Failure("%s: status %d: %s" % (" ".join(arguments), status, text))
    return text


def keep_version():
    versions.append(path("version%d" % len(versions)))
    shutil.copyfile(path("a.img"), versions[-1])


def cycle(blocks=8):
    """The job's id; the disk as it is now is kept."""
    if versions:
        farlib.change_image(path("a.img"), blocks, rng.randrange(1 << 30))
    keep_version()
    return cluster.start_cycle()


def succeed(job, seconds=120):
    ended = cluster.finish(job, seconds)
    assert ended["state"] == "succeeded", ended
    return ended


def points():
    return sorted(point["id"] for point in cluster.get("/v1/points")["items"])


def wrong_points(folder, wanted):
    """Each point there is one of the versions, and the newest is the last one."""
    found = re.findall(r"^(\d+) ", vault("list", folder=folder), re.MULTILINE)
    wrong = [] if len(found) >= wanted else ["only %d points: %s" % (len(found), found)]
    for point in found:
        out = tempfile.mktemp(dir=cluster.base)
        vault("recover", "--offline", "--point", point, "--disk", "disk0", "--target", out, folder=folder)
        if not any(farlib.same_bytes(out, version) for version in versions):
            wrong.append("point %s is no state of the disk" % point)
        if point == found[-1] and not farlib.same_bytes(out, versions[-1]):
            wrong.append("point %s is not the newest" % point)
        os.unlink(out)
    return wrong


def recovered():
    out = path("out.img")
    cluster.recover("vm", [out])
    same = farlib.same_bytes(out, versions[-1])
    os.unlink(out)
    return [] if same else ["what the cluster recovered is not the disk"]


def packs_in_store():
    return [key for key in list_keys() if key.endswith(".pack")]


def list_keys():
    text = server.request("GET", "/vaults", {"list-type": "2", "prefix": "vm/"})[2].decode()
    return re.findall("<Key>([^<]+)</Key>", text)


def up_files():
    """{pack: (version, locked until)} as the vault's folder notes it (FORMATS.md)."""
    found = {}
    for name in os.listdir(target().dir + "/vault/packs"):
        if name.endswith(".up"):
            with open(target().dir + "/vault/packs/" + name, "rb") as file:
                noted = file.read()
            found[name] = noted[56:192].rstrip(b"\0"), -(-int.from_bytes(noted[48:56], "little") // 1000)  # the store has seconds
    return found


def keys_of(folder):
    return re.search("^keys ([0-9a-f]{64})$", vault("store", folder=folder), re.MULTILINE).group(1)


def known_keys(field="fingerprint"):
    """By which the cluster believes the vault of the node; as it tells its nodes, too."""
    (keys,) = cluster.get("/v1/nodes/target")["vault_keys"]
    line = "%s %s target\n" % (keys["vault_uuid"], keys["fingerprint"])
    for name in cluster.nodes:
        farlib.until(lambda n=name: line in open(cluster.nodes[n].dir + "/vaults", encoding="ascii").read(), 20, "%s was told" % name)
    return keys[field]


def points_go_to_the_store_and_are_recovered_from_there():
    farlib.make_image(path("a.img"), SIZE, SEED)
    cluster.protect("vm", [path("a.img")])
    for _ in range(3):
        succeed(cycle())
    assert len(packs_in_store()) >= 3, list_keys()
    here = [name for name in os.listdir(target().dir + "/vault/packs") if name.endswith(".pack")]
    assert len(here) < len(packs_in_store()), here
    return recovered()


def points_in_the_store_are_used_from_the_cluster():
    """Compared, and written out over NBD and without: by children of the node, which read the store as it does."""
    older, newer = sorted(c["id"] for c in cluster.get("/v1/checkpoints")["items"])[-2:]
    told = succeed(cluster.post("/v1/checkpoints/%d/diff" % older, {"other_checkpoint_id": newer})["id"])["use_result"][0]
    with open(versions[-2], "rb") as one, open(versions[-1], "rb") as two:
        one, two = one.read(), two.read()
    expected = [at for at in range(0, SIZE, farlib.BLOCK) if one[at:at + farlib.BLOCK] != two[at:at + farlib.BLOCK]]
    found = [at for r in told["ranges"] for at in range(r.get("offset", 0), r.get("offset", 0) + r["length"], farlib.BLOCK)]
    wrong = [] if found == expected and expected else ["they differ at %r, and it says %r" % (expected, found)]
    for name in ("used.raw", "used.qcow2")[:2 if can_load_plugin() else 1]:
        succeed(cluster.post("/v1/checkpoints/%d/export" % older, {"path": name, "format": name[5:]})["id"])
        same = subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", name[5:], versions[-2], path("exports/" + name)], check=False)
        wrong += [] if same.returncode == 0 else ["%s is another disk" % name]
    return wrong


def can_load_plugin():
    """nbdkit cannot if there are sanitizers in it."""
    with open(os.environ["FARSHORE_NBDKIT_PLUGIN"], "rb") as file:
        return b"__asan_init" not in (content := file.read()) and b"__tsan_init" not in content


def points_wait_while_the_store_is_away():
    server.kill()
    job = cycle()
    farlib.until(lambda: "Couldn't connect" in open(target().log, encoding="utf-8", errors="replace").read(), 60, "the node notices")
    before = points()
    assert cluster.job(job)["state"] == "running" and len(before) == 3
    server.start()
    succeed(job)
    assert len(points()) == 4
    return recovered()


def a_killed_node_goes_on():
    for _ in range(4):
        job = cycle(40)
        farlib.until(lambda j=job: len(list_keys()) >= 0 and cluster.job(j)["state"] == "running", 30, "the cycle runs")
        time.sleep(rng.random() * 0.6)  # far-poll: somewhere in it, by the seed
        target().kill()
        target().start()
        succeed(job)
    elsewhere = path("elsewhere")
    vault("attach", "--store", store, "--read-only", folder=elsewhere)
    wrong = wrong_points(elsewhere, 8)
    shutil.rmtree(elsewhere)
    return wrong + recovered()


def a_locked_checkpoint_is_locked_in_the_store():
    checkpoint = sorted(c["id"] for c in cluster.get("/v1/checkpoints")["items"])[-1]
    until_ms = int(time.time() * 1000) + 3600 * 1000
    succeed(cluster.post("/v1/checkpoints/%d/lock" % checkpoint, {"until_ms": until_ms})["id"])
    locked = [key for key in list_keys() if "x-amz-object-lock-retain-until-date" in
              {name.lower() for name in server.request("HEAD", "/vaults/" + key)[1]}]
    manifests = [key for key in locked if key.endswith(".manifest")]
    assert len(manifests) == 1 and set(packs_in_store()[:2]) <= set(locked), (locked, packs_in_store())
    version = {k.lower(): v for k, v in server.request("HEAD", "/vaults/" + manifests[0])[1].items()}["x-amz-version-id"]
    assert server.request("DELETE", "/vaults/" + manifests[0], {"versionId": version})[0] == 403


def a_lost_folder_comes_back():
    target().stop()
    noted = up_files()
    shutil.rmtree(target().dir + "/vault")
    known = known_keys()
    said = vault("attach", "--store", store, "--take-over")  # beside the node: the cluster's word is looked for by itself
    assert "keys %s, as was said" % known in said, said
    # which version each pack is, and until when the store locks it, is known again
    assert up_files() == noted, (up_files(), noted)
    assert len({version for version, _ in noted.values()}) == len(noted) and any(until for _, until in noted.values()), noted
    wrong = wrong_points(target().dir + "/vault", 8)
    target().start()
    cluster.wait_nodes()
    own = keys_of(target().dir + "/vault")  # one more, its own, behind those that were known
    farlib.until(lambda: known_keys() == own != known, 20, "the cluster knows its keys")
    assert known_keys("claimed_fingerprint") == ""
    succeed(cycle())
    return wrong + recovered()


def a_second_node_shares_the_store():
    cluster.add_node("second", "recovery", settings={"store": store})
    cluster.wait_nodes()
    farlib.until(lambda: len(re.findall("^[0-9a-f]{32} ", cluster.run_tool("farshore-node", "vault", "store", "--store", store)[1],
                                        re.MULTILINE)) == 2, 30, "two vaults in the store")
    uuid = re.search("^([0-9a-f]{32}) ", "\n".join(line for line in cluster.run_tool("farshore-node", "vault", "store", "--store", store)[1]
                                                   .splitlines() if line[:32] in packs_in_store()[0]), re.MULTILINE).group(1)
    reader = cluster.nodes["second"].dir + "/other"
    vault("attach", "--store", store, "--uuid", uuid, "--read-only", folder=reader)
    wrong = wrong_points(reader, 9)
    succeed(cycle())  # the one writes on while the other reads
    return wrong + recovered()


def uuid_of_first():
    return cluster.get("/v1/nodes/target")["vault_keys"][0]["vault_uuid"]


def a_dead_nodes_vault_is_taken_over_and_it_is_refused():
    uuid = uuid_of_first()
    target().kill()
    taken = path("taken")
    vault("attach", "--store", store, "--uuid", uuid, "--take-over", folder=taken)
    wrong = wrong_points(taken, 10)
    image = path("b.img")
    farlib.make_image(image, 2 * MIB, SEED + 1)
    vault("import", "--image", image, "--label", "by-hand", folder=taken)
    text = vault("import", "--image", image, "--label", "by-hand", good=False)  # the former owner
    assert "taken over" in text, text
    node = target().start()
    farlib.until(lambda: not node.alive() or "taken over" in open(node.log, encoding="utf-8", errors="replace").read(), 60, "it is refused")
    node.kill()
    node.wrong.clear()
    return wrong


def what_the_cluster_does_not_know_is_refused_and_an_alert():
    known, evil = known_keys(), keys_of(path("taken"))  # it was taken over by somebody without the cluster: as a forger may
    shutil.rmtree(target().dir + "/vault")
    said = vault("attach", "--store", store, "--uuid", uuid_of_first(), "--take-over", good=False)
    assert known in said and evil in said and "the log of the cluster" in said, said
    said = vault("attach", "--store", store, "--uuid", uuid_of_first(), "--read-only", "--node", cluster.nodes["second"].dir, good=False,
                 folder=path("reads"))
    assert known in said and not os.path.exists(path("reads")), said
    # Another machine in the place of the node hears it when it joins.
    farlib.until(lambda: cluster.get("/v1/nodes/target")["state"] == "down", 60, "the node is down")
    token = cluster.post("/v1/tokens", {"name": "target", "purpose": "join_node", "replaces": True,
                                        "expires_ms": int(time.time() * 1000) + 3600 * 1000})["token"]
    os.rename(target().dir, path("former"))
    cluster.run_tool("farshore-node", "join", "--dir", target().dir, "--token", token, "--name", "target", "--data", target().data)
    target().configure({"store": store})
    said = vault("attach", "--store", store, "--uuid", uuid_of_first(), "--take-over", good=False)
    assert known in said and evil in said, said
    # Somebody says that it was right after all: the vault is opened, and the cluster wants to hear that, too.
    vault("attach", "--store", store, "--uuid", uuid_of_first(), "--take-over", "--key", evil)
    target().start()
    cluster.wait_nodes()
    own = keys_of(target().dir + "/vault")
    farlib.until(lambda: known_keys("claimed_fingerprint") == own, 20, "it is in doubt")
    assert known_keys() == known
    (alert,) = [a for a in cluster.get("/v1/alerts")["items"] if a["kind"] == "vault_keys" and a["state"] == "raised"]
    assert own in alert["message"] and known in alert["message"], alert
    cluster.cli("vault", "trust", "target", "--fingerprint", own, as_json=False)
    assert known_keys() == own and known_keys("claimed_fingerprint") == ""
    assert not [a for a in cluster.get("/v1/alerts")["items"] if a["kind"] == "vault_keys" and a["state"] == "raised"]
    succeed(cycle())


ALL = [points_go_to_the_store_and_are_recovered_from_there, points_in_the_store_are_used_from_the_cluster,
       points_wait_while_the_store_is_away, a_killed_node_goes_on,
       a_locked_checkpoint_is_locked_in_the_store, a_lost_folder_comes_back, a_second_node_shares_the_store,
       a_dead_nodes_vault_is_taken_over_and_it_is_refused, what_the_cluster_does_not_know_is_refused_and_an_alert]


def main():
    global cluster, server, store
    print("# seed %d; FAR_SEED repeats it" % SEED)
    folder = tempfile.mkdtemp()
    try:
        server = s3lib.Server(os.path.join(folder, "s3"), tls=True)
    except tap.Skip as reason:
        print("1..0 # SKIP %s" % reason)
        return
    with server:
        server.make_bucket("vaults", lock=True)
        store = server.store_file("vaults", prefix="vm/", keep_bytes=1, lock_mode="governance", retry_max_ms=2000)
        with farlib.Cluster(servers=farlib.SERVERS[:1], nodes=False) as cluster:
            cluster.add_node("source", "protected")
            os.makedirs(path("exports"))
            cluster.add_node("target", "recovery", settings={"store": store, "export_dir": os.path.realpath(path("exports"))})
            cluster.wait_nodes()
            tap.run_all(ALL)


if __name__ == "__main__":
    sys.exit(main())
