#!/usr/bin/env python3
"""Two source and two target nodes, and what happens when one is added, drained or killed: real programs, real disks.

  test_nodes.py spread   work and points spread over both nodes of a site; a node that joins takes its share
  test_nodes.py kill     kill -9 of a source, of a target, of a target whose process comes back; what is sent again is counted in bytes
  test_nodes.py drain    a source and a target are drained while they work; the drained ones become empty and are removed
  test_nodes.py dial     nodes without a data address

How much work a lost node costs is asserted by bytes: what the target had durably, at most an intermediate checkpoint behind what it
had reported, is not sent again.

far-timeout: 280
"""
import contextlib
import os
import random
import shutil
import subprocess
import sys

import farlib
import tap

MIB = farlib.MIB
SIZE = 48 * MIB
CHECKPOINT = 4 * MIB
SLACK = 3 * MIB  # frames, and what the target had written since its last report
SLOW_READS = "rd=200000"
case = sys.argv[1] if len(sys.argv) > 1 else "spread"
cluster = None


def path_of(name):
    return os.path.join(cluster.base, name)


def random_image(name, size=SIZE, seed=1):
    """Nothing of it can be left out or made smaller."""
    with open(path_of(name), "wb") as file:
        rng = random.Random(seed)
        for _ in range(size // MIB):
            file.write(rng.randbytes(MIB))
    return path_of(name)


@contextlib.contextmanager
def nbd_export(image):
    """A read-only export of it, which every node can read: its locator."""
    if shutil.which("nbdkit") is None:
        raise tap.Skip("nbdkit is not installed")
    port = farlib.free_ports(1)[0]
    server = subprocess.Popen(["nbdkit", "--exit-with-parent", "-f", "-r", "-i", "127.0.0.1", "-p", str(port), "file", image],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield "nbd://127.0.0.1:%d/" % port
    finally:
        server.kill()
        server.wait()


def node_name(node_id):
    return cluster.get("/v1/nodes/%d" % node_id)["name"]


def task_of(job_id, kind, workload=None):
    """The first task of this kind, of this workload."""
    for task in cluster.job(job_id)["tasks"]:
        if task["kind"] == kind and workload in (None, task["workload"]):
            return task
    raise farlib.Failure("job %d has no task %s" % (job_id, kind))


def workloads(count, prefix, adapter="file", size=MIB, plan="plan"):
    """So many workloads of a disk each, in one plan."""
    names = []
    for number in range(count):
        name = "%s%d" % (prefix, number)
        image = farlib.make_image(path_of(name + ".img"), size, hash(prefix) % 1000 + number)
        cluster.post("/v1/workloads", {"name": name, "site": "protected", "adapter": adapter,
                                       "disks": [{"name": "disk0", "locator": image}]})
        names.append(name)
    cluster.post("/v1/plans", {"name": plan, "source_site": "protected", "target_site": "recovery", "workloads": names})
    cluster.plan = plan
    return names


def protect(name, locator, adapter):
    cluster.post("/v1/workloads", {"name": name, "site": "protected", "adapter": adapter,
                                   "disks": [{"name": "disk0", "locator": locator}]})
    cluster.post("/v1/plans", {"name": name, "source_site": "protected", "target_site": "recovery", "workloads": [name]})
    cluster.plan = name


def counted(job_id, kind):
    """How many tasks of this kind each node has, by its name."""
    found = {}
    for task in cluster.job(job_id)["tasks"]:
        if task["kind"] == kind:
            found[task["node"]] = found.get(task["node"], 0) + 1
    return found


def wait_half(job_id):
    """Until the target has reported a good part, durable or not: its bytes."""
    def half():
        cluster_alive(job_id)
        done = task_of(job_id, "receive")["bytes_done"]
        return done if done >= SIZE // 3 else 0
    done = farlib.until(half, 60, "a third is at the target")
    assert done < SIZE - 2 * CHECKPOINT, "the copy is too fast to be disturbed"
    return done


def cluster_alive(job_id):
    job = cluster.job(job_id)
    if job["state"] != "running":
        raise farlib.Ended("job %d ended early as %s: %s" % (job_id, job["state"], job["error_message"]))


def finish(job_id):
    job = cluster.finish(job_id, 120)
    if job["state"] != "succeeded":
        raise farlib.Failure("the cycle ended as %s: %s" % (job["state"], job["error_message"]))
    return job


def last_word(job_id):
    """A node was killed: what the target reported last of the attempt that this ends, in bytes."""
    first, last = task_of(job_id, "receive"), 0

    def is_over():
        nonlocal last
        task = task_of(job_id, "receive")
        last = max(last, task["bytes_done"] if task["attempt"] == first["attempt"] else 0)
        return task["attempt"] > first["attempt"] or task["state"] not in ("assigned", "running")
    farlib.until(is_over, 60, "the lease ends")
    return last


def check_cost(job_id, done_before):
    """The last attempt sends what was not durable, and no more."""
    send = task_of(job_id, "send")
    limit = SIZE - done_before + CHECKPOINT + SLACK
    print("# %d MiB were at the target; attempt %d sent %.1f of %d MiB, %.1f MiB are allowed" %
          (done_before // MIB, send["attempt"], send["bytes_sent"] / MIB, SIZE // MIB, limit / MIB), flush=True)
    wrong = [] if send["attempt"] > 1 else ["there was no second attempt"]
    return wrong + ([] if send["bytes_sent"] <= limit else ["%d bytes were sent again" % (send["bytes_sent"] - limit)])


def check_copy(name, image):
    """What is recovered now is what the disk is."""
    target = path_of("recovered-%d.img" % len(os.listdir(cluster.base)))
    cluster.recover(name, [target])
    wrong = [] if farlib.same_bytes(image, target) else ["the recovered disk differs"]
    os.unlink(target)
    return wrong


def reboot(name, data_address):
    """The node begins anew, with this data address or with none."""
    process = cluster.nodes[name]
    process.stop()
    process.configure({"data_address": data_address})
    process.start()
    farlib.until(lambda: cluster.get("/v1/nodes/" + name)["data_address"] == data_address, 30, "%s listens, or not" % name)


def other(name):
    return {"s1": "s2", "s2": "s1", "t1": "t2", "t2": "t1"}[name]


# ---- spread ----

def sixteen_workloads_split_evenly_on_both_sides():
    workloads(16, "w")
    job = finish(cluster.start_cycle())
    assert counted(job["id"], "freeze") == {"s1": 8, "s2": 8}, counted(job["id"], "freeze")
    assert counted(job["id"], "receive") == {"t1": 8, "t2": 8}, counted(job["id"], "receive")
    for name in ("t1", "t2"):
        node = cluster.get("/v1/nodes/" + name)
        assert node["point_count"] == 8 and node["vault_bytes"] == 8 * MIB, node


def nodes_that_join_take_their_share_at_the_next_cycle():
    for name, site in (("s3", "protected"), ("t3", "recovery")):
        cluster.add_node(name, site)
    cluster.wait_nodes()
    job = finish(cluster.start_cycle())
    shares = counted(job["id"], "freeze")
    assert sorted(shares.values()) == [5, 5, 6], shares
    assert counted(job["id"], "receive") == {"t1": 8, "t2": 8}  # where their points are
    workloads(3, "x", plan="more")
    job = finish(cluster.start_cycle())
    assert counted(job["id"], "receive") == {"t3": 3}, counted(job["id"], "receive")


# ---- kill ----

def a_killed_source_of_a_shared_view_is_replaced_and_nothing_is_frozen_again():
    image = random_image("shared.img", seed=2)
    with nbd_export(image) as locator:
        protect("shared", locator, "fault:nbd?" + SLOW_READS)
        job_id = cluster.start_cycle()
        done = wait_half(job_id)
        freeze = task_of(job_id, "freeze")
        victim = task_of(job_id, "send")["node"]
        cluster.nodes[victim].kill()
        done = max(done, last_word(job_id))
        finish(job_id)
        wrong = check_cost(job_id, done)
        if task_of(job_id, "send")["node"] != other(victim):
            wrong.append("the send is not on the other node")
        if task_of(job_id, "freeze")["attempt"] != freeze["attempt"] or task_of(job_id, "release")["node"] != other(victim):
            wrong.append("it was frozen again, or not released by the other")
        cluster.nodes[victim].start()
        cluster.wait_nodes()
        return wrong + check_copy("shared", image)


def a_source_that_comes_back_goes_on_with_the_view_that_survived_it():
    image = random_image("survived.img", seed=10)
    with nbd_export(image) as locator:
        protect("survived", locator, "fault:nbd?" + SLOW_READS)
        job_id = cluster.start_cycle()
        done = wait_half(job_id)
        victim = task_of(job_id, "send")["node"]
        cluster.nodes[victim].kill()
        cluster.nodes[victim].start()
        finish(job_id)
        wrong = check_cost(job_id, done)
        if task_of(job_id, "send")["node"] != victim or task_of(job_id, "freeze")["attempt"] != 1:
            wrong.append("it went elsewhere, or was frozen again")
        return wrong + check_copy("survived", image)


def a_killed_source_is_replaced_and_sends_only_what_was_not_durable():
    image = random_image("source.img", seed=3)
    protect("source", image, "fault:file?" + SLOW_READS)
    job_id = cluster.start_cycle()
    done = wait_half(job_id)
    victim = task_of(job_id, "send")["node"]
    cluster.nodes[victim].kill()
    done = max(done, last_word(job_id))
    finish(job_id)
    wrong = check_cost(job_id, done)
    if task_of(job_id, "freeze")["node"] != other(victim):
        wrong.append("it was not frozen by the other node")
    cluster.nodes[victim].start()
    cluster.wait_nodes()
    return wrong + check_copy("source", image)


def a_killed_target_that_comes_back_goes_on_where_it_was():
    image = random_image("back.img", seed=4)
    protect("back", image, "fault:file?" + SLOW_READS)
    job_id = cluster.start_cycle()
    done = wait_half(job_id)
    victim = task_of(job_id, "receive")["node"]
    cluster.nodes[victim].kill()
    cluster.nodes[victim].start()
    finish(job_id)
    wrong = check_cost(job_id, done)
    if task_of(job_id, "receive")["node"] != victim or task_of(job_id, "freeze")["attempt"] != 1:
        wrong.append("it went elsewhere, or was frozen again")
    return wrong + check_copy("back", image)


def a_killed_target_of_a_first_copy_is_replaced():
    image = random_image("target.img", seed=5)
    protect("target", image, "fault:file?" + SLOW_READS)
    job_id = cluster.start_cycle()
    wait_half(job_id)
    victim = task_of(job_id, "receive")["node"]
    cluster.nodes[victim].kill()
    finish(job_id)
    wrong = [] if task_of(job_id, "receive")["node"] == other(victim) else ["it was not received by the other node"]
    wrong += check_copy("target", image)
    cluster.nodes[victim].start()
    cluster.wait_nodes()
    return wrong


# ---- drain ----

def a_drained_source_hands_over_and_is_empty():
    image = random_image("source.img", seed=6)
    protect("source", image, "fault:file?" + SLOW_READS)
    job_id = cluster.start_cycle()
    done = wait_half(job_id)
    victim = task_of(job_id, "send")["node"]
    cluster.cli("node", "drain", victim)
    node = cluster.get("/v1/nodes/" + victim)
    assert node["drained_ms"] > 0 and node["drain"].startswith("drained"), node
    finish(job_id)
    wrong = check_cost(job_id, done)
    if task_of(job_id, "send")["node"] != other(victim):
        wrong.append("the send was not handed over")
    node = cluster.get("/v1/nodes/" + victim)
    if node["drain"] != "drained and empty: it can be removed":
        wrong.append("it is not empty: %s" % node["drain"])
    wrong += check_copy("source", image)
    cluster.nodes.pop(victim).stop()
    cluster.call("DELETE", "/v1/nodes/" + victim)
    return wrong


def a_drained_target_finishes_then_its_workloads_go_elsewhere():
    image = path_of("source.img")
    first = cluster.get("/v1/workloads/source")
    victim = node_name(first["target_node_id"])
    old_checkpoint = cluster.get("/v1/plans/source")["last_checkpoint_id"]
    with open(image, "r+b") as file:
        file.write(random.Random(9).randbytes(24 * MIB))
    job_id = cluster.start_cycle()
    farlib.until(lambda: task_of(job_id, "receive")["state"] == "running", 60, "the receive runs")
    cluster.cli("node", "drain", victim)
    finish(job_id)
    wrong = [] if task_of(job_id, "receive")["node"] == victim else ["what was being received was not finished there"]
    wrong += [] if task_of(job_id, "receive")["attempt"] == 1 else ["the receive began again"]
    job_id = finish(cluster.start_cycle())["id"]
    if task_of(job_id, "receive")["node"] != other(victim):
        wrong.append("the next cycle did not go to the other target")
    verify = cluster.finish(cluster.post("/v1/checkpoints/%d/verify" % old_checkpoint)["id"])
    if verify["state"] != "succeeded" or verify["tasks"][0]["node"] != victim:
        wrong.append("an old point cannot be read where it is: %s" % verify["error_message"])
    node = cluster.get("/v1/nodes/" + victim)
    if "2 recovery points" not in node["drain"]:
        wrong.append("what it holds: %s" % node["drain"])
    for checkpoint in cluster.get("/v1/checkpoints")["items"]:
        if checkpoint["id"] != cluster.get("/v1/plans/source")["last_checkpoint_id"]:
            cluster.call("DELETE", "/v1/checkpoints/%d" % checkpoint["id"])
    farlib.until(lambda: cluster.get("/v1/nodes/" + victim)["drain"] == "drained and empty: it can be removed", 30, "it is empty")
    return wrong + check_copy("source", image)


def draining_the_only_node_warns():
    name = "s1" if "s1" in cluster.nodes else "s2"
    answer = cluster.post("/v1/nodes/%s/drain" % name)
    assert "no other node of site 'protected' is up and takes work" in answer["warning"], answer
    cluster.post("/v1/nodes/%s/undrain" % name)
    finish(cluster.start_cycle())


# ---- dial ----

def a_source_without_a_data_address_dials():
    image = random_image("dialing.img", size=4 * MIB, seed=7)
    protect("dialing", image, "file")
    finish(cluster.start_cycle())
    return check_copy("dialing", image)


def a_target_without_a_data_address_dials_a_source_that_listens():
    reboot("s1", cluster.nodes["s1"].data)
    reboot("t1", "")
    image = random_image("dialing.img", size=4 * MIB, seed=8)
    finish(cluster.start_cycle())
    return check_copy("dialing", image)


def two_nodes_without_one_say_so():
    reboot("s1", "")
    reboot("t1", "")
    job = cluster.finish(cluster.start_cycle())
    assert job["state"] == "failed" and "neither node 's1' nor node 't1' has a data address" in job["error_message"], job


CASES = {
    "spread": ([("s1", "s2"), ("t1", "t2")], [sixteen_workloads_split_evenly_on_both_sides,
                                               nodes_that_join_take_their_share_at_the_next_cycle]),
    "kill": ([("s1", "s2"), ("t1", "t2")], [a_killed_source_of_a_shared_view_is_replaced_and_nothing_is_frozen_again,
                                             a_source_that_comes_back_goes_on_with_the_view_that_survived_it,
                                             a_killed_source_is_replaced_and_sends_only_what_was_not_durable,
                                             a_killed_target_that_comes_back_goes_on_where_it_was,
                                             a_killed_target_of_a_first_copy_is_replaced]),
    "drain": ([("s1", "s2"), ("t1", "t2")], [a_drained_source_hands_over_and_is_empty,
                                              a_drained_target_finishes_then_its_workloads_go_elsewhere,
                                              draining_the_only_node_warns]),
    "dial": ([("s1",), ("t1",)], [a_source_without_a_data_address_dials,
                                  a_target_without_a_data_address_dials_a_source_that_listens, two_nodes_without_one_say_so]),
}


if __name__ == "__main__":
    (sources, targets), tests = CASES[case]
    with farlib.Cluster(servers=("protected",), nodes=False, lease_ms=5000) as cluster:
        for node in sources:
            cluster.add_node(node, "protected", listens=case != "dial", settings={"checkpoint_bytes": CHECKPOINT})
        for node in targets:
            cluster.add_node(node, "recovery", settings={"checkpoint_bytes": CHECKPOINT})
        cluster.wait_nodes()
        tap.run_all(tests)
