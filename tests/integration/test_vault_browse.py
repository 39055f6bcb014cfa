#!/usr/bin/env python3
"""farshore-node vault browse: files of a guest's file system in a point, by libguestfs: names with any bytes are listed, files come out as they
were, and no byte of a path means anything to a shell or to guestfish. From the cluster, too.

Skipped where guestfish, mkfs.ext4 or a kernel for guestfish is missing. Without KVM each look takes some 20 s: they go side by side.

far-timeout: 400
"""
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess

import farlib
import tap

NODE = os.path.join(farlib.BUILD, "src/node/farshore-node")
WORK = os.path.join(os.environ.get("TMPDIR", "/tmp"), "browse")
ODD = b"o'd \"d\" $(touch pwned) \\x41 `x`;|&\n\xff\xfe-end"
os.environ.update(FARSHORE_NBDKIT_PLUGIN=os.path.join(farlib.BUILD, ".libs/nbdkit-farshore-plugin.so"), LIBGUESTFS_BACKEND="direct",
                  LIBGUESTFS_BACKEND_SETTINGS="force_tcg", LIBGUESTFS_MEMSIZE="512")
image = os.path.join(WORK, "image")
content = {ODD: os.urandom(100000), b"plain": b"a line\nand another\n", b"-rf": b"dash", b"empty": b""}


def what_is_missing():
    for program in ("guestfish", "mkfs.ext4", "qemu-system-x86_64"):
        if shutil.which(program) is None and not os.access("/usr/sbin/" + program, os.X_OK):
            return program + " is not installed"
    if not glob.glob("/boot/vmlinuz-*") and "SUPERMIN_KERNEL" not in os.environ:
        return "there is no kernel for guestfish in /boot"
    with open(os.environ["FARSHORE_NBDKIT_PLUGIN"], "rb") as file:
        has_sanitizers = b"__asan_init" in (text := file.read()) or b"__tsan_init" in text
    return "nbdkit cannot load a plugin with sanitizers in it" if has_sanitizers else None


def make_image():
    folder = os.path.join(WORK, "files").encode()
    os.makedirs(folder + b"/some folder")
    for name, data in content.items():
        with open(folder + b"/some folder/" + name, "wb") as file:
            file.write(data)
    with open(image, "wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["/usr/sbin/mkfs.ext4" if shutil.which("mkfs.ext4") is None else "mkfs.ext4", "-q", "-F", "-d", folder, image],
                   check=True, stdin=subprocess.DEVNULL)


def browse(point, *arguments):
    """(status, output, complaints)"""
    done = subprocess.run([NODE, "vault", "browse", "--vault", os.path.join(WORK, "vault"), "--point", point, "--disk", "disk0", *arguments],
                          capture_output=True, cwd=WORK, check=False)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def printed(name):
    return re.sub(rb"[^ -\x5b\x5d-\x7e]", lambda m: b"\\\\" if m.group() == b"\\" else b"\\x%02x" % m.group()[0], name)


def files_come_out_as_they_were():
    make_image()
    text = subprocess.run([NODE, "vault", "import", "--vault", os.path.join(WORK, "vault"), "--image", image, "--label", "web"],
                          capture_output=True, text=True, check=True).stdout
    point = re.search(r"of point (\d+)", text).group(1)
    out = os.path.join(WORK, "taken")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        listing = pool.submit(browse, point, "--list", "/some folder")
        taken = pool.submit(browse, point, "--get", b"/some folder/" + ODD, "--out", out)
        wrong = []
        status, output, said = listing.result()
        if status != 0 or sorted(output.splitlines()) != sorted(printed(name) for name in content):
            wrong.append("listed, status %d: %r %s" % (status, output, said))
        status, _, said = taken.result()
        if status != 0 or not os.path.exists(out) or open(out, "rb").read() != content[ODD]:
            wrong.append("taken, status %d: %s" % (status, said))
    left = [name for name in os.listdir(WORK) if name not in ("files", "image", "vault", "taken")]
    return wrong + (["left: %r" % left] if left else [])


def files_come_out_of_a_checkpoint():
    with farlib.Cluster(os.path.join(WORK, "cluster"), nodes=False, servers=("protected",)) as cluster:
        exports = os.path.join(os.path.realpath(WORK), "exports")
        os.makedirs(exports)
        cluster.add_node("source", "protected")
        cluster.add_node("target", "recovery", settings={"export_dir": exports})
        cluster.wait_nodes()
        cluster.protect("vm", [image])
        checkpoint = cluster.replicate()["checkpoint_id"]
        listing = cluster.post("/v1/checkpoints/%d/list" % checkpoint, {"guest_path": "/some folder"})["id"]
        taking = cluster.post("/v1/checkpoints/%d/get" % checkpoint, {"guest_path": "/some folder/-rf", "path": "taken"})["id"]
        absent = cluster.post("/v1/checkpoints/%d/get" % checkpoint, {"guest_path": "/nowhere", "path": "absent"})["id"]
        listed, taken, absent = (cluster.finish(job, 300) for job in (listing, taking, absent))
        wrong = []
        if listed["state"] != "succeeded" or sorted(listed["use_result"][0]["entries"]) != sorted(printed(n).decode() for n in content):
            wrong.append("listed: %r" % listed)
        if taken["state"] != "succeeded" or open(os.path.join(exports, "taken"), "rb").read() != content[b"-rf"]:
            wrong.append("taken: %r" % taken)
        if absent["state"] != "failed" or absent["error_class"] != "not_found" or "No such file" not in absent["error_message"]:
            wrong.append("what is not there: %r" % absent)
        return wrong + (["left: %r" % os.listdir(exports)] if os.listdir(exports) != ["taken"] else [])


def skipped(test):
    def run():
        reason = what_is_missing()
        if reason is not None:
            raise tap.Skip(reason)
        return test()
    run.__name__ = test.__name__
    return run


tap.run_all([skipped(test) for test in (files_come_out_as_they_were, files_come_out_of_a_checkpoint)])
