#!/usr/bin/env python3
"""A point is used from the cluster, on the node that holds it: exported, opened over NBD, compared, copied into a second vault, recovered
at once. What is made is what was on the disk at that moment; nothing is written outside of the folder that the node allows; and a node
that is killed in between leaves no process and no file that looks whole.

far-timeout: 300
"""
import contextlib
import json
import os
import re
import subprocess

import farlib
import tap

os.environ["FARSHORE_NBDKIT_PLUGIN"] = os.path.join(farlib.BUILD, ".libs/nbdkit-farshore-plugin.so")
BLOCK, MIB = farlib.BLOCK, farlib.MIB
cluster = image = exports = None
checkpoints, copies = [], []


def use(what, checkpoint, body=None, state="succeeded"):
    """Runs a job to its end."""
    job = cluster.finish(cluster.post("/v1/checkpoints/%d/%s" % (checkpoint, what), body or {})["id"])
    if job["state"] != state:
        raise farlib.Failure("%s ended as %s: %s" % (what, job["state"], job.get("error_message")))
    return job


def result(job):
    return job["use_result"][0]


def served(job_id):
    """Where the disk is, as soon as the node says so."""
    def look():
        job = cluster.job(job_id)
        if job["state"] != "running":
            raise farlib.Ended("job %d ended as %s: %s" % (job_id, job["state"], job.get("error_message")))
        told = job.get("use_result")
        return told and told[0].get("uri")
    return farlib.until(look, 60, "job %d serves the disk" % job_id)


def refused(what, checkpoint, body, code):
    try:
        cluster.post("/v1/checkpoints/%d/%s" % (checkpoint, what), body)
    except farlib.Problem as problem:
        return [] if problem.code == code else ["%s %r: %s" % (what, body, problem)]
    return ["%s %r was accepted" % (what, body)]


def failed(what, checkpoint, body, text):
    job = use(what, checkpoint, body, "failed")
    return [] if text in job["error_message"] else ["%s %r: %s" % (what, body, job["error_message"])]


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise farlib.Failure("%s: status %d: %s" % (" ".join(argv), done.returncode, done.stdout + done.stderr))
    return done.stdout


def connected(uri):
    """Somebody who stays connected: a copy into a pipe that nobody reads."""
    guest = subprocess.Popen(["nbdcopy", uri, "-"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=farlib.die_with_parent)
    if len(guest.stdout.read(1)) != 1:
        raise farlib.Failure("nothing can be read from %s" % uri)
    return guest


def children(pid):
    """Processes whose parent is pid, by name."""
    found = []
    for name in os.listdir("/proc"):
        try:
            with open("/proc/%s/stat" % name, encoding="ascii", errors="replace") as file:
                text = file.read()
        except (OSError, ValueError):
            continue
        if text[text.rindex(")") + 2:].split()[1] == str(pid):
            found.append((int(name), text[text.index("(") + 1:text.rindex(")")]))
    return found


def groups_alive(groups):
    """Processes that are in one of these process groups."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/stat" % name, encoding="ascii", errors="replace") as file:
                    text = file.read()
            except OSError:
                continue
            state, _, group = text[text.rindex(")") + 2:].split()[:3]
            if int(group) in groups and state not in "ZX":
                found.append((int(name), text[text.index("(") + 1:text.rindex(")")]))
    return found


def node_pid():
    """Of the program itself: libtool's script becomes it."""
    return cluster.nodes["target"].pid


def left_over():
    """What stays: the note of a file goes as soon as the log knows of its end, and the node that it does."""
    with contextlib.suppress(farlib.Failure):
        farlib.until(lambda: not remains(), 20, "nothing is left")
    return remains()


def remains():
    """What is neither a finished file nor expected: parts, sockets, notes."""
    uses = os.path.join(cluster.nodes["target"].dir, "uses")
    found = [name for name in os.listdir(exports) if name.startswith(".farshore")]
    found += [name for name in os.listdir(uses) if not name.endswith(".order")] if os.path.isdir(uses) else []
    return found


def a_disk_is_exported():
    wrong = []
    for number, (checkpoint, copy) in enumerate(zip(checkpoints, copies)):
        raw, qcow2 = os.path.join(exports, "%d.raw" % number), os.path.join(exports, "%d.qcow2" % number)
        job = use("export", checkpoint, {"path": "%d.raw" % number})
        if result(job)["path"] != raw or result(job)["bytes"] != os.path.getsize(copy) or not farlib.same_bytes(raw, copy):
            wrong.append("raw of checkpoint %d: %r" % (checkpoint, result(job)))
        if job["bytes_done"] != job["bytes_total"] or job["bytes_total"] < os.path.getsize(copy):
            wrong.append("progress: %d of %d bytes" % (job["bytes_done"], job["bytes_total"]))
        use("export", checkpoint, {"path": qcow2, "format": "qcow2", "disk": "disk0", "workload": "vm"})
        run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", copy, qcow2)
    return wrong + left_over()


def what_differs_is_exported_over_a_base():
    wrong = []
    for base, point in ((0, 1), (1, 0)):
        name = "over-%d.qcow2" % base
        job = use("export", checkpoints[point], {"path": name, "format": "qcow2", "other_checkpoint_id": checkpoints[base],
                                                 "backing": "%d.raw" % base})
        run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", copies[point], os.path.join(exports, name))
        run("qemu-img", "check", "-q", "-f", "qcow2", os.path.join(exports, name))
        if result(job)["bytes"] > farlib.changed_bytes(copies[0], copies[1]) + 6 * BLOCK:
            wrong.append("it is as large as %d bytes" % result(job)["bytes"])
    return wrong + left_over()


def what_may_not_be_written_is_not():
    checkpoint, wrong = checkpoints[0], []
    elsewhere = os.path.join(cluster.base, "elsewhere")
    os.makedirs(elsewhere)
    os.symlink(elsewhere, os.path.join(exports, "out"))
    os.symlink(os.path.join(elsewhere, "file"), os.path.join(exports, "link.raw"))
    for path in ("../x.raw", "a/../../x.raw", "./x", "a//b", "x\0y", "", "/", "a/", "n" * 201):
        wrong += refused("export", checkpoint, {"path": path}, "invalid")
    wrong += refused("export", checkpoint, {"path": "x", "format": "vmdk"}, "invalid")
    wrong += refused("export", checkpoint, {"path": "x", "disk": "other"}, "not_found")
    wrong += refused("export", 99999, {"path": "x"}, "not_found")
    wrong += refused("diff", checkpoint, {"other_checkpoint_id": 99999}, "not_found")
    wrong += failed("export", checkpoint, {"path": os.path.join(elsewhere, "x.raw")}, "outside of")
    wrong += failed("export", checkpoint, {"path": "out/x.raw"}, "symbolic link")
    wrong += failed("export", checkpoint, {"path": "link.raw"}, "symbolic link")
    wrong += failed("export", checkpoint, {"path": "nowhere/x.raw"}, "No such file")
    wrong += failed("export", checkpoint, {"path": "0.raw"}, "is there already")
    wrong += failed("hydrate", checkpoint, {"path": "0.raw"}, "is there already")
    wrong += failed("copy", checkpoint, {"path": "0.raw"}, "is there already")
    wrong += failed("export", checkpoint, {"path": "a\nb"}, "control character")
    wrong += failed("open", checkpoint, {"listen": "0.0.0.0:10809"}, "loopback addresses only")
    if os.listdir(elsewhere) or not farlib.same_bytes(os.path.join(exports, "0.raw"), copies[0]):
        wrong.append("something was written: %r" % os.listdir(elsewhere))
    return wrong + left_over()


def a_disk_is_opened_and_closed():
    text = cluster.cli("checkpoint", "open", str(checkpoints[0]), as_json=False)
    job_id, uri = int(re.search(r"job (\d+) started", text).group(1)), re.search(r"^nbd\S+$", text, re.MULTILINE).group(0)
    wrong = [] if uri == served(job_id) else ["the command says: %s" % text]
    target = os.path.join(cluster.base, "copied.raw")
    run("nbdcopy", uri, target)
    if not farlib.same_bytes(target, copies[0]):
        wrong.append("what is read over NBD is not what was on the disk")
    try:
        cluster.call("DELETE", "/v1/checkpoints/%d" % checkpoints[0])
        wrong.append("a checkpoint that is open was removed")
    except farlib.Problem as problem:
        if problem.code != "conflict":
            wrong.append(str(problem))
    mode = os.stat(os.path.join(cluster.nodes["target"].dir, "uses")).st_mode & 0o777
    if mode != 0o700:
        wrong.append("everybody may reach the socket: mode %o" % mode)
    served_by = [pid for pid, _ in children(node_pid())]
    text = cluster.cli("checkpoint", "close", str(job_id), as_json=False)
    job = cluster.finish(job_id)
    farlib.until(lambda: not groups_alive(served_by) and not remains(), 30, "nbdkit is gone")
    if "closed" not in text or job["state"] != "canceled" or result(job).get("uri"):
        wrong.append("closed: %r, %r" % (text, job))
    return wrong + left_over()


def an_open_disk_can_be_written_and_closes_by_itself():
    port = farlib.free_ports(1)[0]
    job_id = cluster.post("/v1/checkpoints/%d/open" % checkpoints[1], {"writable": True, "duration_s": 5, "listen": "127.0.0.1:%d" % port})["id"]
    uri = served(job_id)
    wrong = [] if uri == "nbd://127.0.0.1:%d" % port else ["uri: %s" % uri]
    run("qemu-io", "-f", "raw", "-c", "write -P 7 0 65536", "-c", "read -P 7 0 65536", uri)
    job = cluster.finish(job_id)
    if job["state"] != "succeeded":
        wrong.append("its time was over, and it ended as %s" % job["state"])
    export = os.path.join(exports, "again.raw")
    use("export", checkpoints[1], {"path": "again.raw"})
    return wrong if farlib.same_bytes(export, copies[1]) else wrong + ["what was written is in the point"]


def what_is_written_takes_no_more_than_it_may():
    job_id = cluster.post("/v1/checkpoints/%d/open" % checkpoints[1], {"writable": True, "write_bytes_max": 32 * BLOCK})["id"]
    uri = served(job_id)
    run("qemu-io", "-f", "raw", "-c", "write -P 7 0 %d" % (32 * BLOCK), "-c", "write -P 8 4096 4096", "-c", "read -P 8 4096 4096", uri)
    told = farlib.until(lambda: (now := result(cluster.job(job_id))).get("write_bytes", 0) >= 30 * BLOCK and now, 20, "it tells what it takes")
    wrong = [] if told["write_bytes_max"] == 32 * BLOCK and not told.get("write_full") else ["before the bound: %r" % told]
    refused_write = subprocess.run(["qemu-io", "-f", "raw", "-c", "write -P 9 %d 512" % (40 * BLOCK), uri], capture_output=True, text=True, check=False)
    if "No space left on device" not in refused_write.stdout + refused_write.stderr:
        wrong.append("beyond the bound: %s" % (refused_write.stdout + refused_write.stderr))
    run("qemu-io", "-f", "raw", "-c", "write -P 6 8192 4096", "-c", "read -P 6 8192 4096", uri)
    farlib.until(lambda: result(cluster.job(job_id)).get("write_full"), 20, "it tells that it is full")
    cluster.post("/v1/jobs/%d/cancel" % job_id)
    cluster.finish(job_id)
    job_id = cluster.post("/v1/checkpoints/%d/open" % checkpoints[1], {"writable": True})["id"]
    served(job_id)
    farlib.until(lambda: result(cluster.job(job_id)).get("write_bytes_max"), 20, "the bound is told")
    free = os.statvfs(cluster.base)
    share = result(cluster.job(job_id))["write_bytes_max"] / (free.f_bavail * free.f_frsize)
    cluster.post("/v1/jobs/%d/cancel" % job_id)
    cluster.finish(job_id)
    return wrong + ([] if 0.2 < share < 0.3 else ["without a bound it may take %.2f of what is free" % share]) + left_over()


def differences_are_told():
    job = use("diff", checkpoints[0], {"other_checkpoint_id": checkpoints[1], "path": "ranges.txt"})
    told, expected = result(job), []
    with open(copies[0], "rb") as one, open(copies[1], "rb") as two:
        size = max(os.path.getsize(copies[0]), os.path.getsize(copies[1]))
        for at in range(0, size, BLOCK):
            if one.read(BLOCK).ljust(BLOCK, b"\0") != two.read(BLOCK).ljust(BLOCK, b"\0"):
                length = min(BLOCK, size - at)
                if expected and sum(expected[-1]) == at:
                    expected[-1] = (expected[-1][0], expected[-1][1] + length)
                else:
                    expected.append((at, length))
    with open(os.path.join(exports, "ranges.txt"), encoding="ascii") as file:
        written = [tuple(int(word) for word in line.split()) for line in file]
    wrong = [] if written == expected else ["ranges in the file: %r instead of %r" % (written[:5], expected[:5])]
    if told["range_count"] != len(expected) or told["bytes"] != sum(length for _, length in expected) or not told["truncated"]:
        wrong.append("told: %r" % {k: v for k, v in told.items() if k != "ranges"})
    if [(r.get("offset", 0), r["length"]) for r in told["ranges"]] != expected[:64]:
        wrong.append("the first ranges: %r" % told["ranges"][:5])
    page = result(use("diff", checkpoints[0], {"other_checkpoint_id": checkpoints[1], "range_offset": 64}))
    if [(r.get("offset", 0), r["length"]) for r in page["ranges"]] != expected[64:128] or page["range_count"] != len(expected):
        wrong.append("the second page: %r" % page["ranges"][:5])
    text = cluster.cli("checkpoint", "diff", str(checkpoints[1]), str(checkpoints[0]), as_json=False)
    shown = [tuple(int(word) for word in line.split()) for line in text.splitlines() if re.fullmatch(r"\d+ \d+", line)]
    if len(expected) <= 64 or shown != expected or "total: %d ranges" % len(expected) not in text or "more" in text:
        wrong.append("the command says: %s" % text)
    _, text = cluster.cli("checkpoint", "diff", str(checkpoints[1]), str(checkpoints[0]), check=False)
    whole = result(json.JSONDecoder().raw_decode(text[text.index("{"):])[0])  # what it says on stderr is in there, too
    if [(r.get("offset", 0), r["length"]) for r in whole["ranges"]] != expected or whole["truncated"]:
        wrong.append("in JSON %d ranges instead of %d" % (len(whole["ranges"]), len(expected)))
    return wrong + left_over()


def a_point_is_copied_into_a_second_vault():
    wrong = []
    for checkpoint in checkpoints:
        use("copy", checkpoint, {"path": "second"})
    again = use("copy", checkpoints[0], {"path": "second"})
    points = [cluster.get("/v1/checkpoints/%d" % checkpoint)["members"][0]["point_id"] for checkpoint in checkpoints]
    for point, copy in zip(points, copies):
        target = os.path.join(cluster.base, "second-%d.raw" % point)
        cluster.run_tool("farshore-node", "vault", "recover", "--vault", os.path.join(exports, "second"), "--point", str(point), "--disk",
                         "disk0", "--target", target)
        if not farlib.same_bytes(target, copy):
            wrong.append("point %d is another one in the second vault" % point)
    return wrong + (["copied again: %r" % again] if result(again)["bytes"] else [])


def a_disk_is_recovered_at_once():
    wrong = []
    job_id = cluster.post("/v1/checkpoints/%d/hydrate" % checkpoints[1], {"path": "vm.raw"})["id"]
    job = cluster.finish(job_id)
    if job["state"] != "succeeded" or result(job)["writes"] != 0 or not farlib.same_bytes(os.path.join(exports, "vm.raw"), copies[1]):
        wrong.append("hydrated: %r" % job)
    if job["bytes_done"] != os.path.getsize(copies[1]) or job["tasks"][0]["root"] == "":
        wrong.append("it was not proven: %r" % job["tasks"])
    if os.path.exists(os.path.join(exports, "vm.raw.hydrating")):
        wrong.append("it is said not to be whole")
    return wrong + left_over()


def the_machine_can_be_used_meanwhile():
    """While somebody is connected the job goes on; what was written stays."""
    job_id = cluster.post("/v1/checkpoints/%d/hydrate" % checkpoints[0], {"path": "used.raw", "duration_s": 60})["id"]
    uri = served(job_id)
    guest = connected(uri)
    run("qemu-io", "-f", "raw", "-c", "write -P 9 131072 65536", "-c", "flush", "-c", "read -P 9 131072 65536", uri)
    farlib.until(lambda: cluster.job(job_id)["bytes_done"] == os.path.getsize(copies[0]), 60, "all is written out")
    wrong = [] if cluster.job(job_id)["state"] == "running" else ["the job ended while the disk was used"]
    guest.kill()
    guest.communicate()
    job = cluster.finish(job_id)
    with open(copies[0], "rb") as file:
        expected = bytearray(file.read())
    expected[131072:131072 + 65536] = bytes([9]) * 65536
    with open(os.path.join(exports, "used.raw"), "rb") as file:
        same = file.read() == expected
    if job["state"] != "succeeded" or not same or result(job)["writes"] == 0:
        wrong.append("the disk is %s; %r" % ("right" if same else "another one", job))
    orders = [name for name in os.listdir(os.path.join(cluster.nodes["target"].dir, "uses")) if name.endswith(".order")]
    return wrong + left_over() + ([] if len(orders) == 1 else ["orders of boots: %r" % orders])


def elsewhere_only_with_certificates():
    """127.0.0.2 stands for an address that the node's config allows: nothing is read there without a certificate of the cluster."""
    port = farlib.free_ports(1)[0]
    job_id = cluster.post("/v1/checkpoints/%d/open" % checkpoints[0], {"listen": "127.0.0.2:%d" % port})["id"]
    uri, wrong = served(job_id), []
    if uri != "nbds://127.0.0.2:%d" % port:
        wrong.append("uri: %s" % uri)
    plain = subprocess.run(["nbdinfo", "--size", uri.replace("nbds", "nbd")], capture_output=True, text=True, check=False)
    folder, source = os.path.join(cluster.base, "tls"), cluster.nodes["source"].dir
    strange = os.path.join(cluster.base, "tls-strange")
    for place in (folder, strange):
        os.makedirs(place)
        run("cp", os.path.join(source, "ca.crt"), os.path.join(place, "ca-cert.pem"))
    stranger = subprocess.run(["nbdinfo", "--size", "%s/?tls-certificates=%s" % (uri, strange)], capture_output=True,
                              text=True, check=False)
    run("cp", os.path.join(source, "node.crt"), os.path.join(folder, "client-cert.pem"))
    run("cp", os.path.join(source, "node.key"), os.path.join(folder, "client-key.pem"))
    member = subprocess.run(["nbdinfo", "--size", "%s/?tls-certificates=%s" % (uri, folder)], capture_output=True,
                            text=True, check=False)
    if plain.returncode == 0 or stranger.returncode == 0:
        wrong.append("read without a certificate: %r %r" % (plain.stdout, stranger.stdout))
    if member.returncode != 0 or int(member.stdout) != os.path.getsize(copies[0]):
        wrong.append("not read with one: %s" % member.stderr)
    cluster.post("/v1/jobs/%d/cancel" % job_id)
    cluster.finish(job_id)
    farlib.until(lambda: not remains(), 30, "it is closed")
    return wrong


def what_is_encrypted_is_used_as_well():
    cluster.post("/v1/domains", {"name": "secret"})
    disk = farlib.make_image(os.path.join(cluster.base, "keyed.img"), 3 * MIB + 512, len(copies))
    cluster.post("/v1/workloads", {"name": "keyed", "site": "protected", "adapter": "file", "disks": [{"name": "disk0", "locator": disk}]})
    cluster.post("/v1/plans", {"name": "keyed", "source_site": "protected", "target_site": "recovery", "workloads": ["keyed"], "domain": "secret"})
    cluster.post("/v1/plans/keyed/start")
    first = cluster.finish(cluster.start_cycle("keyed"))["checkpoint_id"]
    before, wrong = os.path.join(cluster.base, "keyed-before.img"), []
    run("cp", disk, before)
    changed = farlib.change_image(disk, 3, 1)
    cluster.post("/v1/domains/secret/rotate", {"generation": 2})
    second = cluster.finish(cluster.start_cycle("keyed"))["checkpoint_id"]
    use("export", first, {"path": "keyed.raw"})
    use("export", second, {"path": "keyed.qcow2", "format": "qcow2"})
    run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", disk, os.path.join(exports, "keyed.qcow2"))
    told = result(use("diff", first, {"other_checkpoint_id": second}))
    use("hydrate", second, {"path": "keyed-vm.raw"})
    use("copy", first, {"path": "second"})
    if not farlib.same_bytes(os.path.join(exports, "keyed.raw"), before) or not farlib.same_bytes(os.path.join(exports, "keyed-vm.raw"), disk):
        wrong.append("what was made of an encrypted point is another disk")
    if told["bytes"] > len(changed) * BLOCK or told["bytes"] == 0:
        wrong.append("told: %r" % told)
    job_id = cluster.post("/v1/checkpoints/%d/open" % second)["id"]
    target = os.path.join(cluster.base, "keyed-copied.raw")
    run("nbdcopy", served(job_id), target)
    lines = []
    for pid, _ in children(node_pid()):
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            lines.append(file.read().decode(errors="replace"))
    if not farlib.same_bytes(target, disk) or not any("/proc/self/fd/" in line for line in lines):
        wrong.append("opened: %r" % lines)
    cluster.post("/v1/jobs/%d/cancel" % job_id)
    cluster.finish(job_id)
    farlib.until(lambda: not remains(), 30, "it is closed")
    key = os.path.join(cluster.base, "recovery-key")
    with open(key, "w", encoding="ascii") as file:
        file.write(cluster.recovery_key)
    point = cluster.get("/v1/checkpoints/%d" % first)["members"][0]["point_id"]
    cluster.run_tool("farshore-node", "vault", "recover", "--vault", os.path.join(exports, "second"), "--point", str(point), "--disk", "disk0",
                     "--target", os.path.join(cluster.base, "keyed-second.raw"), "--recovery-key", key)
    if not farlib.same_bytes(os.path.join(cluster.base, "keyed-second.raw"), before):
        wrong.append("the second vault holds another disk")
    return wrong


def a_killed_node_leaves_nothing_and_goes_on():
    """Open, an export and a hydration run; the node is killed and starts again."""
    wrong = []
    opened = cluster.post("/v1/checkpoints/%d/open" % checkpoints[0])["id"]
    served(opened)
    hydrated = cluster.post("/v1/checkpoints/%d/hydrate" % checkpoints[0], {"path": "killed.raw", "duration_s": 60})["id"]
    guest_uri = served(hydrated)
    guest = connected(guest_uri)
    run("qemu-io", "-f", "raw", "-c", "write -P 5 0 65536", "-c", "flush", guest_uri)
    exported = cluster.post("/v1/checkpoints/%d/export" % checkpoints[1], {"path": "killed-export.qcow2", "format": "qcow2"})["id"]
    node = cluster.nodes["target"]
    before = farlib.until(lambda: (found := [pid for pid, _ in children(node.pid)]) and len(found) >= 3 and found, 30, "three uses run")
    node.kill()
    try:
        farlib.until(lambda: not groups_alive(before), 10, "the children of the node are gone")
    except farlib.Failure as failure:
        raise farlib.Failure("%s: %r" % (failure, groups_alive(before))) from failure
    guest.kill()
    guest.communicate()
    if os.path.exists(os.path.join(exports, "killed-export.qcow2")):
        run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", copies[1], os.path.join(exports, "killed-export.qcow2"))
    node.start()
    job = cluster.finish(exported)
    if job["state"] != "succeeded":
        wrong.append("the export ended as %s: %s" % (job["state"], job["error_message"]))
    run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", copies[1], os.path.join(exports, "killed-export.qcow2"))
    target = os.path.join(cluster.base, "after-kill.raw")
    def copied():
        run("nbdcopy", served(opened), target)
        return True
    farlib.until(copied, 60, "the disk is open again")
    if not farlib.same_bytes(target, copies[0]):
        wrong.append("opened again it is another disk")
    cluster.post("/v1/jobs/%d/cancel" % opened)
    cluster.finish(opened)
    job = cluster.finish(hydrated)
    with open(copies[0], "rb") as file:
        expected = bytearray(file.read())
    expected[0:65536] = bytes([5]) * 65536
    with open(os.path.join(exports, "killed.raw"), "rb") as file:
        same = file.read() == expected
    if job["state"] != "succeeded" or not same:
        wrong.append("hydrated after a kill: %s, %s" % ("the same" if same else "another disk", job))
    farlib.until(lambda: not remains(), 30, "what was canceled is gone")
    return wrong


def who_changed_a_hydrated_disk_is_known_over_a_restart():
    """Written by who used it, the disk is as it is to be; changed behind its back, it is not what was proven."""
    node, wrong = cluster.nodes["target"], []
    for by_guest in (True, False):
        name = "by-guest.raw" if by_guest else "behind.raw"
        path = os.path.join(exports, name)
        job_id = cluster.post("/v1/checkpoints/%d/hydrate" % checkpoints[0], {"path": name, "duration_s": 300})["id"]
        uri = served(job_id)
        farlib.until(lambda: os.path.exists(path) and not os.path.exists(path + ".hydrating"), 60, "all is there")
        if by_guest:
            run("qemu-io", "-f", "raw", "-c", "write -P 5 65536 65536", "-c", "flush", uri)
        node.kill()
        if not by_guest:
            with open(path, "r+b") as file:
                file.seek(65536)
                file.write(b"another's")
        node.start()
        job = cluster.finish(job_id)
        if by_guest and (job["state"] != "succeeded" or not result(job).get("writes")):
            wrong.append("written by who used it: %r" % job)
        if not by_guest and (job["state"] != "failed" or "not what was proven" not in job["error_message"]):
            wrong.append("changed behind its back: %r" % job)
    return wrong + left_over()


def what_is_canceled_leaves_no_file():
    job_id = cluster.post("/v1/checkpoints/%d/export" % checkpoints[1], {"path": "canceled.qcow2", "format": "qcow2"})["id"]
    cluster.post("/v1/jobs/%d/cancel" % job_id)
    job = cluster.finish(job_id)
    farlib.until(lambda: not remains(), 30, "what was made is gone")
    is_there = os.path.exists(os.path.join(exports, "canceled.qcow2"))
    return [] if job["state"] == "canceled" and not is_there else ["%s, %r" % (job["state"], is_there)]


def nobody_may_write_where_nothing_is_allowed():
    node = cluster.nodes["target"]
    node.stop()
    node.configure({"export_dir": ""})
    node.start()
    return failed("export", checkpoints[0], {"path": "x.raw"}, "export_dir")


def plain_build():
    """nbdkit cannot load a plugin with sanitizers in it."""
    with open(os.environ["FARSHORE_NBDKIT_PLUGIN"], "rb") as file:
        return b"__asan_init" not in (content := file.read()) and b"__tsan_init" not in content


TESTS = [a_disk_is_exported, what_differs_is_exported_over_a_base, what_may_not_be_written_is_not, a_disk_is_opened_and_closed, an_open_disk_can_be_written_and_closes_by_itself,
         what_is_written_takes_no_more_than_it_may, differences_are_told, a_point_is_copied_into_a_second_vault, a_disk_is_recovered_at_once, the_machine_can_be_used_meanwhile,
         elsewhere_only_with_certificates, what_is_encrypted_is_used_as_well,
         a_killed_node_leaves_nothing_and_goes_on,
         who_changed_a_hydrated_disk_is_known_over_a_restart, what_is_canceled_leaves_no_file, nobody_may_write_where_nothing_is_allowed]


def main():
    global cluster, image, exports
    seed = farlib.seed_of_run()
    if not plain_build():
        print("1..0 # SKIP the plugin has sanitizers in it")
        return
    with farlib.Cluster(nodes=False, servers=("protected",)) as cluster:
        exports = os.path.join(os.path.realpath(cluster.base), "exports")
        os.makedirs(exports)
        cluster.add_node("source", "protected")
        cluster.add_node("target", "recovery", settings={"export_dir": exports, "nbd_address": "127.0.0.2"}, host="127.0.0.2")
        cluster.wait_nodes()
        image = farlib.make_image(os.path.join(cluster.base, "disk.img"), 24 * MIB + 512, seed)
        cluster.protect("vm", [image])
        for number in range(2):
            checkpoints.append(cluster.replicate()["checkpoint_id"])
            copies.append(os.path.join(cluster.base, "kept-%d.img" % number))
            run("cp", "--sparse=always", image, copies[number])
            farlib.change_image(image, 200, seed + number)
        tap.run_all(TESTS)


main()
