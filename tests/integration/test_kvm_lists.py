#!/usr/bin/env python3
"""The lists of changes of the adapter kvm against two programs that somebody else wrote: virtnbdbackup on a twin of the domain that gets
the same writes, and nbdinfo on the same export. No cluster, no guest system: what is written comes by QEMU itself, so the twins are equal.

Skipped where libvirt, QEMU, virtnbdbackup or namespaces are missing.

far-timeout: 240
"""
import glob
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.parse

import farlib
import libvirt_kit
import tap

SIZE_MIB = (48, 24)
GRAIN = 65536  # of QEMU's bitmaps
folder = libvirt = ours = theirs = quiet = rng = None
views = []  # of ours, kept


def path(name):
    return os.path.join(folder, name)


def driver(*argv, check=True):
    environment = dict(os.environ, FARSHORE_KVM=os.path.join(farlib.BUILD, "src/node/farshore-kvm"))
    done = subprocess.run([os.path.join(farlib.BUILD, "tests/lib/adapter_driver"), "kvm", *argv], capture_output=True, text=True,
                          check=False, env=environment)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done.stdout.strip().split("\n")


def locators(guest, socket=None):
    return ["kvm:///%s/%s?socket=%s" % (guest.name, target, urllib.parse.quote(socket or libvirt.socket)) for target in guest.disks]


def freeze():
    lines = driver("freeze", "1-2-%d" % len(views), *locators(ours))
    return lines[0].split()[1]


def keep(view):
    driver("keep", view, *locators(ours))
    views.append(view)


def write(count):
    """The same writes on both; the blocks of each disk that they touched."""
    touched = []
    for index, mib in enumerate(SIZE_MIB):
        blocks = set()
        for _ in range(count):
            length = rng.choice((512, 4096, 65536, 300000 // 512 * 512))
            offset = rng.randrange(0, (mib << 20) - length, 512)
            command = 'qemu-io -d /machine/peripheral/virtio-disk%d/virtio-backend "write -P %d %d %d"' % (
                index, rng.randrange(1, 256), offset, length)
            for guest in (ours, theirs):
                said = libvirt.virsh("qemu-monitor-command", "--hmp", guest.name, command)
                assert said == "", said
            blocks.update(range(offset // GRAIN, (offset + length - 1) // GRAIN + 1))
        touched.append(blocks)
    return touched


def blocks_of(extents):
    return {block for offset, length in extents for block in range(offset // GRAIN, (offset + length - 1) // GRAIN + 1)}


def told(view, since):
    """By our adapter, a set of blocks for each disk."""
    found = []
    for locator in locators(ours):
        extents = [tuple(map(int, line.split())) for line in driver("changed", view, locator, since) if line]
        assert all(a[0] + a[1] < b[0] for a, b in zip(extents, extents[1:])), extents
        found.append(blocks_of(extents))
    return found


def nbdinfo_says(since):
    text = libvirt.virsh("backup-dumpxml", ours.name)
    socket = re.search(r"socket='([^']+)'", text).group(1)
    found = []
    for target in ours.disks:
        uri = "nbd+unix:///%s?socket=%s" % (target, urllib.parse.quote(socket))
        extents = json.loads(libvirt_kit.tool("nbdinfo", "--json", "--map=qemu:dirty-bitmap:" + since, uri))
        found.append(blocks_of((e["offset"], e["length"]) for e in extents if e["type"] & 1))
    return found


def virtnbdbackup(level):
    """A backup of the twin; the data blocks that it took of each disk."""
    environment = dict(os.environ, HOME=folder)
    done = subprocess.run(["virtnbdbackup", "--uri", libvirt.uri, "--domain", theirs.name, "--level", level, "--output", path("backup"),
                           "--scratchdir", path("scratch"), "--socketfile", path("v.sock"), "--noprogress"],  # -S is no longer the same in 2.28
                          capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = []
    for target in theirs.disks:
        newest = max(glob.glob(path("backup/%s.%s.*data" % (target, "inc" if level == "inc" else "full"))), key=os.path.getmtime)
        found.append(blocks_of(data_frames(newest)))
    return found


def data_frames(name):
    """What its stream holds: frames of a kind, offset and length, the data behind those of kind data."""
    extents = []
    with open(name, "rb") as file:
        while header := file.read(len("data 0000000000000000 0000000000000000\r\n")):
            kind, offset, length = header.split()
            offset, length = int(offset, 16), int(length, 16)
            if kind in (b"data", b"meta"):
                file.seek(length + 2, os.SEEK_CUR)  # and a line's end
            if kind == b"data":
                extents.append((offset, length))
    return extents


def a_view_names_what_virtnbdbackup_and_nbdinfo_name():
    keep(freeze())
    virtnbdbackup("full")
    wrong = []
    for number in range(4):
        touched = write(0 if number == 3 else 12)
        view = freeze()
        mine, seen = told(view, views[-1]), nbdinfo_says(views[-1])
        twin = virtnbdbackup("inc")
        print("# %r blocks written, %r told" % ([len(b) for b in touched], [len(b) for b in mine]))
        for index in range(len(SIZE_MIB)):
            if not mine[index] == seen[index] == twin[index] == touched[index]:
                wrong.append("round %d, disk %d: ours %r, nbdinfo %r, virtnbdbackup %r, written %r" % (
                    number, index, *(sorted(found[index]) for found in (mine, seen, twin, touched))))
        keep(view)
    return wrong


def what_is_written_meanwhile_is_in_the_next_view():
    view = freeze()
    frozen = [path("before%d" % i) for i in range(2)]
    for locator, name in zip(locators(ours), frozen):
        driver("copy", view, locator, name)
    touched = write(10)
    wrong = []
    for index, (locator, name) in enumerate(zip(locators(ours), frozen)):
        driver("copy", view, locator, path("after"))
        wrong += [] if farlib.same_bytes(name, path("after")) else ["the view of disk %d changed" % index]
    keep(view)
    view = freeze()
    mine = told(view, views[-1])
    wrong += [] if mine == touched else ["told %r, written %r" % (mine, touched)]
    keep(view)
    return wrong


def views_that_no_point_came_of_lose_nothing():
    """Released, or never heard of again: the next view names what changed since the one that was kept, and since the lost ones."""
    touched = write(6)
    lost = freeze()
    more = write(6)
    view = freeze()  # ends the lost one
    both = [one | two for one, two in zip(touched, more)]
    wrong = [] if told(view, views[-1]) == both else ["since the kept one: %r, written %r" % (told(view, views[-1]), both)]
    wrong += [] if told(view, lost) == both else ["since the lost one: %r" % told(view, lost)]
    driver("release", view, *locators(ours))
    third = write(3)
    view = freeze()
    all_three = [one | two for one, two in zip(both, third)]
    wrong += [] if told(view, views[-1]) == all_three else ["after a release: %r, written %r" % (told(view, views[-1]), all_three)]
    keep(view)
    left = libvirt.checkpoints(ours.name)
    return wrong + ([] if left == [view] else ["checkpoints: %r" % left])


def what_is_wrong_is_said():
    cases = [(["freeze", "x", "kvm:///nosuch/vda?socket=" + libvirt.socket], "6 -2", "nosuch"),
             (["freeze", "x", "kvm:///%s/vdz?socket=%s" % (ours.name, libvirt.socket)], "6 -2", "no disk 'vdz'"),
             (["freeze", "x", "kvm://host/web/vda"], "6 -1", "kvm:///DOMAIN/TARGET"),
             (["freeze", "x", "kvm:///web"], "6 -1", "kvm:///DOMAIN/TARGET"),
             (["freeze", "x", "kvm:///web/vda?port=3"], "6 -1", "kvm:///DOMAIN/TARGET"),
             (["freeze", "x", locators(ours)[0], locators(theirs)[1]], "6 -1", "one domain"),
             (["freeze", "x", locators(ours, "/nosuch/socket")[0]], "2 -10", "/nosuch/socket"),
             (["changed", views[-1], locators(ours)[0], views[-1]], "6 -2", "is gone"),
             (["changed", "nonsense", locators(ours)[0], views[-1]], "6 -1", "no view"),
             (["release", "farshore-nosuch", *locators(ours)], None, "")]
    wrong = []
    for argv, code, words in cases:
        said = driver(*argv, check=False)[-1]
        ok = said == "" if code is None else said.startswith("fail %s " % code) and words in said
        wrong += [] if ok else ["%r: %r" % (argv, said)]
    view = freeze()
    said = driver("changed", view, locators(ours)[0], "farshore-another", check=False)[-1]
    driver("release", view, *locators(ours))
    return wrong + ([] if said.startswith("fail 5 -3 ") else ["since another: %r" % said])


def bitmaps(guest):
    """The names in each image of a domain that is off."""
    found = []
    for disk in guest.disks.values():
        about = json.loads(libvirt_kit.tool("qemu-img", "info", "--output=json", disk))
        found.append([bitmap["name"] for bitmap in about["format-specific"]["data"].get("bitmaps", [])])
    return found


def a_broken_lineage_is_said_and_leaves_no_bitmaps():
    """A disk that was replaced, then QEMU killed: twice there is no list, the reason names the disk, and one bitmap stays in each image."""
    wrong = []
    for number in range(2):
        if number == 0:
            libvirt.virsh("destroy", ours.name)
            disk = ours.disks["vdb"]
            libvirt_kit.tool("qemu-img", "convert", "-O", "qcow2", disk, disk + ".new")
            os.rename(disk + ".new", disk)
        else:
            ours.crash()
        libvirt.virsh("start", "--paused", ours.name)
        view = freeze()
        said = driver("changed", view, locators(ours)[1], views[-1], check=False)[-1]
        wrong += [] if said.startswith("fail 5 -3 ") and "bitmap '%s'" % views[-1] in said else ["round %d: %s" % (number, said)]
        keep(view)
        libvirt.virsh("destroy", ours.name)
        wrong += [] if bitmaps(ours) == [[view], [view]] else ["round %d: in the images are %r" % (number, bitmaps(ours))]
        libvirt.virsh("start", "--paused", ours.name)
        touched = write(5)
        view = freeze()
        mine = told(view, views[-1])
        wrong += [] if mine == touched else ["round %d: told %r, written %r" % (number, mine, touched)]
        keep(view)
    return wrong


def a_disk_that_comes_later_has_no_list_at_first():
    view = driver("freeze", "alone", locators(ours)[0])[0].split()[1]
    driver("keep", view, locators(ours)[0])
    touched = write(4)
    later = freeze()
    extents = [tuple(map(int, line.split())) for line in driver("changed", later, locators(ours)[0], view) if line]
    said = driver("changed", later, locators(ours)[1], view, check=False)[-1]
    keep(later)
    wrong = [] if blocks_of(extents) == touched[0] else ["told %r, written %r" % (blocks_of(extents), touched[0])]
    return wrong + ([] if said.startswith("fail 5 -3 ") and "did not have this disk" in said else [said])


def raw_disks_are_frozen_and_have_no_list():
    raw = libvirt_kit.Guest(libvirt, "raw", SIZE_MIB, disk_format="raw")
    libvirt.virsh("start", "--paused", raw.name)
    lines = driver("freeze", "raw", *locators(raw))
    view, wrong = lines[0].split()[1], [] if not any("farshore" in line for line in lines[1:]) else lines
    for locator, disk in zip(locators(raw), raw.disks.values()):
        driver("copy", view, locator, path("raw.copy"))
        wrong += [] if farlib.same_bytes(disk, path("raw.copy")) else ["%s is not what was frozen" % disk]
    said = driver("changed", view, locators(raw)[0], view, check=False)[-1]
    driver("keep", view, *locators(raw))
    raw.destroy()
    left = [name for name in os.listdir(raw.folder) if name.startswith("farshore-")]
    return wrong + ([] if said.startswith("fail 5 -3 ") and "no qcow2" in said else [said]) + left


def holders():
    """qemu-nbd processes of this test."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                words = file.read()
        except OSError:
            continue
        if words.startswith(b"qemu-nbd") and folder.encode() in words:
            found.append(int(pid))
    return found


def a_domain_that_is_off_is_held_while_it_is_read(disk_format):
    guest = libvirt_kit.Guest(libvirt, "off-" + disk_format, SIZE_MIB, disk_format=disk_format)
    view = driver("freeze", "off", *locators(guest))[0].split()[1]
    wrong = [] if len(holders()) == len(guest.disks) else ["holders: %r" % holders()]
    for locator, disk in zip(locators(guest), guest.disks.values()):
        driver("copy", view, locator, path("off.copy"))
        libvirt_kit.tool("qemu-img", "convert", "-O", "raw", "-f", disk_format, disk, path("off.raw"))
        wrong += [] if farlib.same_bytes(path("off.raw"), path("off.copy")) else ["%s is not what it is" % disk]
    libvirt.virsh("start", "--paused", guest.name, check=False)
    wrong += [] if libvirt.virsh("domstate", guest.name) == "shut off" else ["it starts while a view lives"]
    for pid in holders():  # a view of which a part died is gone
        os.kill(pid, signal.SIGKILL)
    libvirt_kit.until(lambda: not any(name.startswith("farshore-") for name in os.listdir(guest.folder)), 30, "its files go with it")
    said = driver("copy", view, locators(guest)[0], path("off.copy"), check=False)[-1]
    wrong += [] if said.startswith("fail 6 -2 ") else [said]
    driver("release", view, *locators(guest))
    for _ in range(2):  # of a dead node; the next takes its place
        view = driver("freeze", "off", *locators(guest))[0].split()[1]
    wrong += [] if len(holders()) == len(guest.disks) else ["holders: %r" % holders()]
    said = libvirt_kit.tool(os.path.join(farlib.BUILD, "src/node/farshore-kvm"), "source", "on", *locators(guest))  # ends the view
    wrong += [] if libvirt.virsh("domstate", guest.name) == "running" and not holders() else ["not turned on: %s %r" % (said, holders())]
    guest.destroy()
    return wrong


def a_domain_with_qcow2_disks_that_is_off_is_held_while_it_is_read():
    return a_domain_that_is_off_is_held_while_it_is_read("qcow2")


def a_domain_with_raw_disks_that_is_off_is_held_while_it_is_read():
    return a_domain_that_is_off_is_held_while_it_is_read("raw")


def what_is_forgotten_leaves_nothing():
    helper = os.path.join(farlib.BUILD, "src/node/farshore-kvm")
    freeze()
    libvirt_kit.tool(helper, "forget", *locators(ours))
    wrong = libvirt.checkpoints(ours.name) + [name for name in os.listdir(ours.folder) if name.startswith("farshore-")]
    libvirt.virsh("destroy", ours.name)
    return wrong + ([] if bitmaps(ours) == [[], []] else ["in the images are %r" % bitmaps(ours)])


def the_inventory_is_told():
    text = libvirt_kit.tool(os.path.join(farlib.BUILD, "src/node/farshore-kvm"), "list", libvirt.socket)
    domains = {domain["name"]: domain for domain in json.loads(text)["domains"]}
    mine = domains[ours.name]
    sizes = [disk["size_bytes"] for disk in mine["disks"]]
    ok = (set(domains) == {ours.name, theirs.name} and sizes == [mib << 20 for mib in SIZE_MIB] and mine["uuid"] == ours.uuid and
          mine["firmware"] == "bios" and mine["memory_bytes"] == 128 << 20 and mine["running"] and mine["disks"][0]["has_change_list"] and
          [disk["target"] for disk in mine["disks"]] == list(ours.disks) and mine["disks"][0]["path"] == ours.disks["vda"])
    return [] if ok else [text]


def needs_recovery(image):
    return "needs_recovery" in libvirt_kit.tool("dumpe2fs", "-h", image)


def frozen_disks(guest, verb):
    """Freezes, copies and releases; the images."""
    view = driver("freeze", verb, *locators(guest))[0].split()[1]
    images = [path("%s%d" % (verb, i)) for i in range(len(guest.disks))]
    for locator, image in zip(locators(guest), images):
        driver("copy", view, locator, image)
    driver("release", view, *locators(guest))
    return images


def is_quiesced(guest, verb):
    """A guest without a processor for 10 s is not (its view is crash consistent then), so it may be asked again."""
    return any(not any(map(needs_recovery, frozen_disks(guest, "%s%d" % (verb, i)))) for i in range(4))


def a_guest_whose_agent_answers_is_quiesced():
    """Its file systems need no recovery then; without an agent they do. The guest writes on afterwards."""
    global quiet
    libvirt_kit.need("qemu-ga", "dumpe2fs")
    plain, quiet = libvirt_kit.Guest(libvirt, "plain", SIZE_MIB), libvirt_kit.Guest(libvirt, "quiet", SIZE_MIB, agent=True)
    wrong = []
    for guest in (plain, quiet):
        guest.start()
        guest.wait_ack(20)
    farlib.until(lambda: libvirt.virsh("qemu-agent-command", "quiet", '{"execute":"guest-ping"}', check=False), 60, "the agent answers")
    wrong += [] if all(map(needs_recovery, frozen_disks(plain, "plain"))) else ["a guest that writes without pause needs no recovery?"]
    wrong += [] if is_quiesced(quiet, "quiet") else ["it was not quiesced"]
    quiet.wait_ack(quiet.acked() + 20)
    plain.destroy()
    return wrong


def guards():
    """Processes that thaw this test's guest if who froze it dies."""
    return libvirt_kit.processes(lambda words: words[1:2] == [b"guard"] and quiet.uuid.encode() in words[2])


def a_guest_thaws_whatever_dies_meanwhile():
    """farshore-kvm is killed ever later while it quiesces; its guard thaws, and one alone does so, too."""
    helper = os.path.join(farlib.BUILD, "src/node/farshore-kvm")
    if shutil.which("qemu-ga") is None:
        raise tap.Skip("qemu-ga is not installed")
    for number in range(15):
        child = subprocess.Popen([helper, "freeze", "kill-%d" % number, *locators(quiet)], stdout=subprocess.PIPE, start_new_session=True)
        try:
            child.wait(0.03 * number)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, 9)
        child.communicate()
        quiet.wait_ack(quiet.acked() + 5)
    libvirt.virsh("domfsfreeze", "quiet", check=False)
    done = subprocess.run([helper, "guard", locators(quiet)[0]], stdin=subprocess.DEVNULL, check=False)
    quiet.wait_ack(quiet.acked() + 5)
    farlib.until(lambda: not guards(), 90, "the guards of those that were killed end")  # till then one may thaw what is frozen next
    wrong = [] if is_quiesced(quiet, "later") else ["it is not quiesced any more"]
    quiet.destroy()
    return wrong + ([] if done.returncode == 0 else ["the guard ended with status %d" % done.returncode])


def a_domain_that_libvirtd_never_stops_starting_is_said():
    """Its note of the domain as it is for a moment while QEMU starts; a libvirtd that was killed then goes by it."""
    guest = libvirt_kit.Guest(libvirt, "stuck", [16])
    libvirt.virsh("start", "--paused", guest.name)
    note, process = next(name for name in libvirt.notes() if name.endswith("/stuck.xml")), guest.pid()
    libvirt.kill_daemon()
    os.kill(process, signal.SIGKILL)
    with open(note, encoding="utf-8") as file:
        text = re.sub(r"<domstatus [^>]*>", "<domstatus state='paused' reason='starting up' pid='0'>", file.read())
    with open(note, "w", encoding="utf-8") as file:
        file.write(text.replace("</domstatus>", "<job type='none' async='start' phase='none' flags='0x0'/></domstatus>"))
    libvirt.start_daemon()
    said = driver("freeze", "x", *locators(guest), check=False)[-1]
    wrong = [] if "ended while it started the domain 'stuck'" in said else [said]
    libvirt.forget_starts()
    libvirt.virsh("start", "--paused", guest.name)
    view = driver("freeze", "x", *locators(guest))[0].split()[1]
    driver("release", view, *locators(guest))
    guest.destroy()
    return wrong


LONG = [a_guest_thaws_whatever_dies_meanwhile, a_domain_that_libvirtd_never_stops_starting_is_said]


def main():
    global folder, libvirt, ours, theirs, rng
    if libvirt_kit.is_missing("virtnbdbackup", "nbdinfo"):
        return
    rng = random.Random(farlib.seed_of_run())
    folder = tempfile.mkdtemp(prefix="far-kvm-")
    os.mkdir(path("scratch"))
    with libvirt_kit.Libvirt(path("a")) as libvirt:
        ours, theirs = (libvirt_kit.Guest(libvirt, name, SIZE_MIB) for name in ("ours", "theirs"))
        for guest in (ours, theirs):
            libvirt.virsh("start", "--paused", guest.name)
        tap.run_all([a_view_names_what_virtnbdbackup_and_nbdinfo_name, what_is_written_meanwhile_is_in_the_next_view,
                     views_that_no_point_came_of_lose_nothing, what_is_wrong_is_said, the_inventory_is_told,
                     a_broken_lineage_is_said_and_leaves_no_bitmaps, a_disk_that_comes_later_has_no_list_at_first,
                     raw_disks_are_frozen_and_have_no_list, a_domain_with_qcow2_disks_that_is_off_is_held_while_it_is_read,
                     a_domain_with_raw_disks_that_is_off_is_held_while_it_is_read, what_is_forgotten_leaves_nothing,
                     a_guest_whose_agent_answers_is_quiesced, *(LONG if "long" in sys.argv else [])])


if __name__ == "__main__":
    main()
