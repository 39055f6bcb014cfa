#!/usr/bin/env python3
"""The variables of a UEFI guest, its boot entries among them, come along: captured with its configuration, the same bytes while nothing
changed, put into a file of the recovered machine's own, which goes with it. What is too large, or not there, is said, and a configuration
that was captured without them gives new ones. Passwords of consoles are not captured.

The guest is started paused: its firmware need not run for that. Where FAR_UEFI_BOOT is set, one boots from a recovered disk, too (a minute).
Skipped where libvirt, QEMU, OVMF or namespaces are missing.

far-timeout: 300
"""
import os
import random
import re
import shutil
import subprocess
import tempfile
import urllib.parse

import farlib
import libvirt_kit
import tap

CODE, VARS = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
MARK = b"boot the second disk first"
folder = libvirt = guest = None


def path(name):
    return os.path.join(folder, name)


class Uefi(libvirt_kit.Guest):
    password = ""

    def xml(self):
        os_words = ("<type arch='x86_64' machine='q35'>hvm</type><loader readonly='yes' type='pflash'>%s</loader>"
                    "<nvram template='%s'>%s</nvram>" % (CODE, VARS, path("web.fd")))
        text = re.sub(r"<type arch='x86_64' machine='pc'>hvm</type>", os_words, super().xml())
        return text.replace("</devices>", "<graphics type='vnc' port='-1' autoport='yes' passwd='%s'/></devices>" % self.password
                            if self.password else "</devices>")


def read(name):
    with open(name, "rb") as file:
        return file.read()


def write_at(name, offset, data):
    with open(name, "r+b") as file:
        file.seek(offset)
        file.write(data)


def driver(*argv, check=True):
    environment = dict(os.environ, FARSHORE_KVM=os.path.join(farlib.BUILD, "src/node/farshore-kvm"))
    done = subprocess.run([os.path.join(farlib.BUILD, "tests/lib/adapter_driver"), "kvm", *argv], capture_output=True, text=True,
                          check=False, env=environment)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return (done.stdout + done.stderr).strip()


def locator():
    return "kvm:///web/vda?socket=" + urllib.parse.quote(libvirt.socket)


def captured(name="config.xml"):
    driver("capture", path(name), locator())
    return read(path(name)).decode()


def machine(verb, *more, name="there", check=True):
    place = "kvm:///?socket=" + urllib.parse.quote(libvirt.socket)
    return driver(verb, "job-7", place, name, "yes", *more, check=check)


def create(config, check=True):
    os.makedirs(path("run"), exist_ok=True)
    if not os.path.exists(path("run/disk.raw")):
        libvirt_kit.tool("qemu-img", "convert", "-O", "raw", guest.disks["vda"], path("run/disk.raw"))
    return machine("create", path(config), locator(), "raw", path("run/disk.raw"), check=check)


def they_are_captured_while_the_same():
    libvirt.virsh("start", "--paused", "web")
    write_at(path("web.fd"), 300000, MARK)
    first, again = captured(), captured("again.xml")
    wrong = [] if first == again else ["two captures of the same differ"]
    wrong += [] if re.search(r"<farshore:nvram [^>]*version='1' bytes='540672'>", first) else [first]
    wrong += [] if "300000:" + MARK.hex() in first else ["the mark is not in it"]
    write_at(path("web.fd"), 300000, MARK.upper())
    changed = captured("again.xml")
    libvirt.virsh("destroy", "web")
    off = captured("off.xml")
    wrong += [] if changed != first and MARK.upper().hex() in changed else ["what the guest changed is not in it"]
    wrong += [] if off == changed else ["one that is off is another one"]
    print("# the configuration with them: %d bytes" % len(first))
    return wrong


def the_recovered_machine_has_them():
    config = captured()
    for _ in range(2):
        create("config.xml")
    wrong = [] if read(path("run/there_VARS.fd")) == read(path("web.fd")) else ["they are others"]
    text = libvirt.virsh("dumpxml", "there")
    wrong += [] if re.search(r"<nvram[^>]*>%s</nvram>" % re.escape(path("run/there_VARS.fd")), text) and CODE in text else [text]
    wrong += [] if "farshore:nvram" not in text and "farshore:nvram" in config else ["libvirt was given them"]
    libvirt.virsh("start", "--paused", "there")
    wrong += [] if read(path("run/there_VARS.fd")) == read(path("web.fd")) else ["the start made others of them"]
    machine("destroy")
    return wrong + ([] if sorted(os.listdir(path("run"))) == ["disk.raw", "there-console"] else [repr(os.listdir(path("run")))])


def a_configuration_of_before_gives_new_ones():
    config = re.sub(r"<farshore:nvram .*</farshore:nvram>", "", captured())
    with open(path("old.xml"), "w", encoding="utf-8") as file:
        file.write(config)
    create("old.xml")
    wrong = ["a file of them is there"] if os.path.exists(path("run/there_VARS.fd")) else []
    libvirt.virsh("start", "--paused", "there")  # libvirt makes them
    nvram = re.search(r"<nvram[^>]*>([^<]+)</nvram>", libvirt.virsh("dumpxml", "there")).group(1)
    wrong += [] if nvram.startswith("/var/lib/libvirt/") else [nvram]
    machine("destroy")
    for damage in ("version='2'", "version='1' bytes='999999999'"):
        with open(path("old.xml"), "w", encoding="utf-8") as file:
            file.write(re.sub(r"version='1' bytes='\d+'", damage, captured()))
        said = create("old.xml", check=False)
        wrong += [] if "cannot be read" in said and libvirt.domains() == ["web"] else [said]
    return wrong


def what_does_not_fit_is_said():
    good = read(path("web.fd"))
    write_at(path("web.fd"), 100000, random.Random(1).randbytes(30000))
    large = captured()
    wrong = [] if re.search(r"<farshore:nvram [^>]*missed='with them its configuration has \d+ bytes", large) else [large[-400:]]
    wrong += [] if len(large) < 20000 and "</domain>" in large else ["%d bytes" % len(large)]
    create("config.xml")  # with new ones
    wrong += ["a file of them is there"] if os.path.exists(path("run/there_VARS.fd")) else []
    machine("destroy")
    os.rename(path("web.fd"), path("kept.fd"))
    wrong += [] if "farshore:nvram" not in captured() else ["they are not there, and captured"]
    os.mkdir(path("web.fd"))
    wrong += [] if "missed='" in captured() else ["a folder is taken for them"]
    os.rmdir(path("web.fd"))
    os.rename(path("kept.fd"), path("web.fd"))
    write_at(path("web.fd"), 0, good)
    return wrong


def passwords_are_not_captured():
    guest.password = "hushhush"
    guest.define()
    secure, text = libvirt.virsh("dumpxml", "--security-info", "web"), captured()
    return [] if "hushhush" in secure and "hushhush" not in text and "type='vnc'" in text else [text]


def one_boots_from_a_recovered_point():
    """By hand only: firmware without acceleration is slow."""
    if not os.environ.get("FAR_UEFI_BOOT"):
        raise tap.Skip("FAR_UEFI_BOOT is not set")
    captured()
    create("config.xml")
    machine("on")
    console = path("run/there-console")
    libvirt_kit.until(lambda: os.path.exists(console) and b"ACK" in read(console), 200, "it writes")
    machine("destroy")
    return []


def main():
    global folder, libvirt, guest
    if libvirt_kit.is_missing("iptables"):
        return
    if not os.path.exists(CODE):
        print("1..0 # SKIP ovmf is not installed")
        return
    libvirt_kit.in_a_network_of_its_own()
    folder = tempfile.mkdtemp(prefix="far-kvm-")
    try:
        with libvirt_kit.Libvirt(path("a"), own_network=False) as libvirt:
            guest = Uefi(libvirt, "web", [64], memory_mib=256)
            tap.run_all([they_are_captured_while_the_same, the_recovered_machine_has_them, a_configuration_of_before_gives_new_ones,
                         what_does_not_fit_is_said, passwords_are_not_captured, one_boots_from_a_recovered_point])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
