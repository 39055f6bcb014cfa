#!/usr/bin/env python3
"""A guest of one libvirt becomes a machine on another: its configuration captured, its two disks recovered from its newest point, on an
isolated network. It comes up with every record that was acknowledged before the point, writes on, and goes without a trace.

Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 240
"""
import contextlib
import os
import re
import subprocess
import urllib.parse

import farlib
import libvirt_kit
import tap

cluster = near = far = guest = None
frozen = 0  # records acknowledged before the view of the point


def path(name):
    return os.path.join(cluster.base, name)


def driver(*argv, check=True):
    environment = dict(os.environ, FARSHORE_KVM=os.path.join(farlib.BUILD, "src/node/farshore-kvm"))
    done = subprocess.run([os.path.join(farlib.BUILD, "tests/lib/adapter_driver"), "kvm", *argv], capture_output=True, text=True,
                          check=False, env=environment)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done.stdout.strip()


def locator(target):
    return "kvm:///%s/%s?socket=%s" % (guest.name, target, urllib.parse.quote(near.socket))


def machine(name="web-test", ref="job-7"):
    return [ref, "kvm:///?socket=" + urllib.parse.quote(far.socket), name, "yes"]


def disks():
    return [word for index, target in enumerate(guest.disks) for word in (locator(target), "raw", path("far%d.raw" % index))]


def everything():
    """What a libvirt has and runs."""
    return (far.domains(), far.virsh("net-list", "--all", "--name").split(), far.virsh("list", "--name").split(),
            sorted(os.listdir(os.path.join(far.base, "lib/libvirt/qemu/nvram"))) if os.path.isdir(
                os.path.join(far.base, "lib/libvirt/qemu/nvram")) else [])


def console(name="web-test"):
    try:
        with open(path(name + "-console"), encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def a_point_becomes_a_machine_on_another_libvirt():
    global frozen
    cluster.protect("vm", [locator(target) for target in guest.disks], adapter="kvm")
    cluster.replicate()
    guest.wait_ack(guest.acked() + 50)
    frozen = guest.acked()
    cluster.replicate()
    driver("capture", path("config.xml"), *map(locator, guest.disks))
    near.virsh("destroy", guest.name)  # the disaster
    cluster.recover("vm", [path("far%d.raw" % index) for index in range(len(guest.disks))])
    before = everything()
    driver("create", *machine(), path("config.xml"), *disks())
    driver("create", *machine(), path("config.xml"), *disks())  # again: the same
    wrong = [] if driver("look", *machine()) == "state 2" else ["it is not off"]
    driver("on", *machine())
    driver("on", *machine())
    found = farlib.until(lambda: re.search(r"GUEST (\d+) disks, last record (\d+)", console()), 120, "the machine is up")
    last = int(found.group(2))
    farlib.until(lambda: "ACK %d" % (last + 5) in console(), 60, "it writes on")
    print("# acknowledged before the view %d, at the source's end %d, found on the far shore %d" % (frozen, guest.acked(), last))
    wrong += [] if found.group(1) == "2" and frozen <= last <= guest.acked() + 1 else [found.group(0)]
    wrong += ["a torn record"] if "TORN" in console() else []
    wrong += [] if driver("look", *machine()) == "state 3" else ["it is not running"]
    return wrong + ([] if before == ([], [], [], []) else ["before: %r" % (before,)])


def it_is_what_the_guest_was():
    text = far.virsh("dumpxml", "web-test")
    networks = far.virsh("net-list", "--name").split()
    about = far.virsh("net-dumpxml", networks[0])
    was, mac = near.virsh("dumpxml", guest.name), r"<mac address='([^']+)'"
    own = re.fullmatch(r"farshore-job-7-[0-9a-f]{8}", " ".join(networks)) is not None
    wrong = [] if own and "<forward" not in about and "<ip" not in about else [about]
    wrong += [] if re.search(mac, text).group(1) == re.search(mac, was).group(1) and "source network='%s'" % networks[0] in text else [text]
    same = [r"<memory unit='KiB'>\d+", r"<vcpu[^>]*>\d+", r"machine='[^']+'", r"<kernel>[^<]+"]
    wrong += [each for each in same if re.search(each, text).group(0) != re.search(each, was).group(0)]
    return wrong + ([] if near.virsh("domuuid", guest.name) not in text else ["it has the guest's UUID"])


def what_another_made_is_not_touched():
    wrong = []
    driver("destroy", *machine(ref="job-8"))  # that one never came to be
    for verb in ("on", "off", "look"):
        said = driver(verb, *machine(ref="job-8"), check=False)
        wrong += [] if said.startswith("fail 6 -3 ") and "did not make" in said else ["%s: %s" % (verb, said)]
    said = driver("create", *machine(ref="job-8"), path("config.xml"), *disks(), check=False)
    wrong += [] if said.startswith("fail 6 -3 ") else [said]
    said = driver("create", *machine("x/y"), path("config.xml"), *disks(), check=False)
    wrong += [] if said.startswith("fail 6 -1 ") else [said]
    with open(path("nonsense.xml"), "w", encoding="utf-8") as file:
        file.write("<network/>")
    said = driver("create", *machine("other", "job-10"), path("nonsense.xml"), *disks(), check=False)
    wrong += [] if said.startswith("fail 6 -1 ") else [said]
    return wrong + ([] if far.domains() == ["web-test"] and driver("look", *machine()) == "state 3" else ["it was touched"])


def it_goes_without_a_trace():
    driver("destroy", *machine())
    driver("destroy", *machine())
    wrong = [] if everything() == ([], [], [], []) else [repr(everything())]
    wrong += [] if driver("look", *machine()) == "state 1" else ["it is there"]
    running = libvirt_kit.tool(*far.inside("sh", "-c", "cat /proc/[0-9]*/comm; ip -o link"))
    return wrong + ([] if "qemu" not in running and "virbr" not in running else [running])


def served_from_the_vault(opened, point):
    """Both disks of the point behind Unix sockets, writable, as long as the stack lasts: what a machine has for its disks."""
    words = []
    for index, target in enumerate(guest.disks):
        socket = path("nbd%d.sock" % index)
        command = [farlib.program("farshore-node"), "vault", "open", "--vault", cluster.nodes["target"].dir + "/vault", "--point",
                   str(point), "--disk", "disk%d" % index, "--socket", socket, "--writable"]
        environment = dict(os.environ, FARSHORE_NBDKIT_PLUGIN=os.path.join(farlib.BUILD, ".libs/nbdkit-farshore-plugin.so"))
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   preexec_fn=farlib.die_with_parent)
        opened.callback(process.wait)
        opened.callback(process.terminate)
        farlib.until(lambda s=socket, p=process: os.path.exists(s) or p.poll() is not None, 30, "the disk is served")
        assert process.poll() is None, "farshore-node vault open ended"
        words += [locator(target), "raw", "nbd+unix:///disk%d?socket=%s" % (index, socket)]
    return words


def it_is_up_at_once_on_disks_that_the_vault_serves():
    """Nothing was written out before; what the machine writes goes to the disks' caches."""
    with open(os.path.join(farlib.BUILD, ".libs/nbdkit-farshore-plugin.so"), "rb") as file:
        if b"__asan_init" in (content := file.read()) or b"__tsan_init" in content:
            raise tap.Skip("the plugin has sanitizers in it")
    point = max(each["id"] for each in cluster.get("/v1/points")["items"])
    now = machine("web-now", "job-9")
    with contextlib.ExitStack() as opened:
        driver("create", *now, path("config.xml"), *served_from_the_vault(opened, point))
        driver("on", *now)
        found = farlib.until(lambda: re.search(r"GUEST (\d+) disks, last record (\d+)", console("web-now")), 120, "the machine is up")
        last = int(found.group(2))
        farlib.until(lambda: "ACK %d" % (last + 5) in console("web-now"), 60, "it writes on")
        driver("destroy", *now)
    return [] if found.group(1) == "2" and last >= frozen and "TORN" not in console("web-now") else [found.group(0)]


def main():
    global cluster, near, far, guest
    if libvirt_kit.is_missing("iptables"):
        return
    with farlib.Cluster(adapter="kvm") as cluster, libvirt_kit.Libvirt(path("a")) as near, libvirt_kit.Libvirt(path("b")) as far:
        guest = libvirt_kit.Guest(near, "web", [64, 32], nic=True)
        guest.start()
        tap.run_all([a_point_becomes_a_machine_on_another_libvirt, it_is_what_the_guest_was, what_another_made_is_not_touched,
                     it_is_up_at_once_on_disks_that_the_vault_serves, it_goes_without_a_trace])


if __name__ == "__main__":
    main()
