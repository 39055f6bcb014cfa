#!/usr/bin/env python3
"""What a node does with machines, one operation after the other, on real guests: the protected one is shut down, its disks become a machine
that comes up changed as was set, on a network of its own; gates let it pass when it has an address, answers at a port, by its agent, and
when a script says so; it is taken away and nothing is left, or kept. Killed before and after each question to libvirt, the operation is done
again and comes to the same.

With `long`: guests that ask by DHCP get the addresses that are set, or mapped, in networks of the run's own and in others.

The engine is tests/lib/machine_driver; the test and its libvirt are in one network namespace, so that the engine reaches the guests.
Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 300
"""
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import tempfile
import urllib.parse

import farlib
import libvirt_kit
import tap

folder = libvirt = guest = None
sent = 0  # records that the guest acknowledged
# Asks libvirt as farshore-kvm does, and kills who asked: before its question number N, or after it. Without N nothing is killed.
WRAPPER = """#!/bin/sh
n=$(cat '%(count)s' 2>/dev/null || echo 0); n=$((n+1)); echo $n > '%(count)s'
[ "$KILL_BEFORE" = "$n" ] && kill -9 $PPID
[ "$KILL_SELF" = "$n" ] && kill -9 $$
if [ "$KILL_AFTER" = "$n" ]; then '%(real)s' "$@" > /dev/null; kill -9 $PPID; exit 1; fi
exec '%(real)s' "$@"
"""


def path(name):
    return os.path.join(folder, name)


def driver(operation, *keys, check=True, **environment):
    """(exit status, its lines as {word: value}, words that come several times as lists)."""
    with open(path("count"), "w", encoding="ascii") as file:
        file.write("0")
    keys = ["place=kvm:///?socket=" + urllib.parse.quote(libvirt.socket), "recovery_dir=" + path("recovered"), "scripts_dir=" + path("scripts"),
            "scripts_user=nobody", *keys]
    done = subprocess.run([os.path.join(farlib.BUILD, "tests/lib/machine_driver"), operation, *keys], capture_output=True, text=True,
                          check=False, env=dict(os.environ, FARSHORE_KVM=path("wrapper"), **environment))
    said = {"left": [], "disk": []}
    for line in done.stdout.splitlines():
        word, _, value = line.partition(" ")
        if word in ("left", "disk"):
            said[word].append(value)
        else:
            said[word] = value
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.returncode, said


def locator(target):
    return "kvm:///web/%s?socket=%s" % (target, urllib.parse.quote(libvirt.socket))


def sources():
    return ["disk=disk%d,%s" % (index, locator(target)) for index, target in enumerate(guest.disks)]


def order(name="web-there", workload="web", number=1):
    disks = ["disk=disk%d,%s,run-7/%s/disk%d.raw" % (index, locator(target), workload, index) for index, target in enumerate(guest.disks)]
    return ["ref=farshore-run-7-%d" % number, "name=" + name, "workload=" + workload, "isolated=yes", *disks]


def changed():
    return ["config=" + path("config.xml"), "processors=2", "memory=%d" % (160 << 20), "tag=tier,gold & <silver>", "tag=who,o'neil",
            "nic=0,,,,10.9.7.2,24,10.9.7.1"]


def write_disks(workload="web"):
    """As the restores of a run leave them."""
    place = path("recovered/run-7/" + workload)
    os.makedirs(place, exist_ok=True)
    for index, image in enumerate(guest.disks.values()):
        libvirt_kit.tool("qemu-img", "convert", "-O", "raw", image, os.path.join(place, "disk%d.raw" % index))


def put(count):
    """Records that the guest at 10.9.7.2 writes and acknowledges."""
    global sent
    with socket.create_connection(("10.9.7.2", 7000), timeout=30) as connection:
        file = connection.makefile("r")
        for _ in range(count):
            connection.sendall(b"PUT %d\n" % (sent + 1))
            assert file.readline() == "OK %d\n" % (sent + 1)
            sent += 1


def networks():
    return libvirt.virsh("net-list", "--all", "--name").split()


def everything():
    return sorted(libvirt.virsh("list", "--all", "--name").split("\n")), networks(), sorted(os.listdir(path("recovered")))


def script(name, text):
    with open(path("scripts/" + name), "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\n" + text)
    os.chmod(path("scripts/" + name), 0o755)


def a_protected_machine_is_turned_off_and_on():
    libvirt.virsh("autostart", "web")
    libvirt_kit.until(lambda: driver("gate", "gate=agent", "ref=none", check=False) and answers(), 60, "the guest serves")
    put(20)
    said = driver("source_off", *sources(), "timeout=60")[1]
    wrong = [] if said["state"] == "off" and said["was_off"] == "0" and said["was_forced"] == "0" else [repr(said)]
    wrong += [] if "LAST %d" % sent in guest.words() else ["the guest's last words: " + guest.words()[-200:]]
    wrong += [] if "disable" in re.search(r"Autostart:.*", libvirt.virsh("dominfo", "web")).group(0) else ["it would start with its host"]
    said = driver("source_off", *sources())[1]
    wrong += [] if said["state"] == "off" and said["was_off"] == "0" else [repr(said)]  # that was the attempt before
    libvirt_kit.tool(os.path.join(farlib.BUILD, "tests/lib/adapter_driver"), "kvm", "capture", path("config.xml"),
                     *map(locator, guest.disks), env=dict(os.environ, FARSHORE_KVM=path("wrapper")))
    said = driver("source_on", *sources())[1]
    wrong += [] if said["state"] == "running" else [repr(said)]
    wrong += [] if "enable" in re.search(r"Autostart:.*", libvirt.virsh("dominfo", "web")).group(0) else ["it does not start with its host"]
    libvirt.virsh("suspend", "web")  # hears nothing
    status, said = driver("source_off", *sources(), "timeout=1", check=False)
    wrong += [] if status == 1 and said["failed"].startswith("-9 ") and said["state"] == "paused" else [repr(said)]
    said = driver("source_off", *sources(), "timeout=1", "force=yes")[1]
    wrong += [] if said["state"] == "off" and said["was_forced"] == "1" else [repr(said)]
    wrong += goes_off_while_it_is_turned_on()
    nobody = "disk=disk0,kvm:///nobody/vda?socket=" + urllib.parse.quote(libvirt.socket)
    gone = driver("source_off", nobody)[1]
    wrong += [] if gone["state"] == "absent" and gone["was_off"] == "0" else [repr(gone)]  # which is not off: it may run elsewhere
    found = driver("source_off", nobody, "config=" + path("config.xml"))[1]  # by the UUID that it had when it was captured
    return wrong + ([] if found["state"] == "off" and "disable" in libvirt.virsh("dominfo", "web") else [repr(found)])


def goes_off_while_it_is_turned_on():
    """As a guest does that was asked to shut down a moment before: what it was turned on for is that it runs."""
    driver("source_on", *sources())
    heard = []
    late = threading.Thread(target=lambda: heard.append(driver("source_on", *sources(), "timeout=10", check=False)[1]))
    late.start()
    with open(path("count"), encoding="ascii") as file:  # three questions: it is on
        libvirt_kit.until(lambda: file.seek(0) == 0 and int(file.read() or 0) >= 3, 30, "it was found on")
    libvirt.virsh("destroy", "web")
    late.join()
    if "failed" in heard[0]:  # it asked just when QEMU died: the core has it tried again
        heard[0] = driver("source_on", *sources())[1]
    state = libvirt.virsh("domstate", "web")
    libvirt.virsh("destroy", "web", check=False)
    return [] if heard[0]["state"] == state == "running" else ["it stayed %s: %r" % (state, heard)]


def answers():
    try:
        socket.create_connection(("10.9.7.2", 7000), timeout=2).close()
        return True
    except OSError:
        return False


def a_machine_comes_up_as_was_set():
    libvirt.virsh("net-destroy", "lan")
    libvirt.virsh("net-undefine", "lan")
    write_disks()
    said = driver("up", *order(), *changed())[1]
    wrong = [] if said["state"] == "running" and int(said["platform_ms"]) <= int(said["duration_ms"]) else [repr(said)]
    wrong += [] if said["disk"] == ["disk%d kvm:///web-there/%s?socket=%s" % (index, target, urllib.parse.quote(libvirt.socket))
                                    for index, target in enumerate(guest.disks)] else [repr(said["disk"])]
    text = libvirt.virsh("dumpxml", "web-there")
    (network,) = networks()
    wanted = [r"<vcpu[^>]*>2<", r"<memory unit='KiB'>163840<", r"<source network='%s'" % network, r"ref=.farshore-run-7-1.",
              r"key=.tier. value=.gold &amp; &lt;silver&gt;.", r"value=\"o'neil\"|value='o&apos;neil'", r"recovered/run-7/web/disk0.raw"]
    wrong += ["%s is not in it: %s" % (each, text) for each in wanted if not re.search(each, text)]
    wrong += [] if re.fullmatch(r"farshore-run-7-[0-9a-f]{8}", network) else [network]
    return wrong + ([] if libvirt.virsh("domuuid", "web") not in text else ["it has the guest's UUID"])


def gates_let_it_pass():
    def gate(*keys, **more):
        return driver("gate", *order(), *keys, **more)
    wrong = []
    for keys in (["gate=port:7000", "timeout=90"], ["gate=address", "timeout=60"], ["gate=agent", "timeout=60"]):
        said = gate(*keys)[1]
        print("# %s: %r" % (keys[0], said))
        wrong += [] if said["address"] == "10.9.7.2" and said["state"] == "running" else ["%r: %r" % (keys, said)]
    put(5)
    status, said = gate("gate=port:7001", "timeout=1", check=False)
    wrong += [] if status == 1 and said["failed"].startswith("-9 ") and "port" in said["failed"] else [repr(said)]
    script("good", "[ $FARSHORE_ADDRESS = 10.9.7.2 ] && [ $(id -u) != 0 ] && grep -q '\"machine\":\"web-there\"'\n")
    script("bad", "echo the application does not know its data; exit 4\n")
    script("later", "exit 75\n")
    wrong += [] if gate("gate=script:good")[1]["address"] == "10.9.7.2" else ["the script did not let it pass"]
    status, said = gate("gate=script:bad", check=False)
    wrong += [] if status == 1 and "does not know its data" in said["failed"] and "status 4" in said["failed"] else [repr(said)]
    status, said = gate("gate=script:later", "timeout=2", check=False)
    wrong += [] if status == 1 and said["failed"].startswith("-9 ") else [repr(said)]
    status, said = gate("gate=script:absent", check=False)
    return wrong + ([] if status == 1 and said["failed"].startswith("-2 ") else [repr(said)])


def two_of_a_run_share_its_network_and_it_goes_with_the_last():
    write_disks("db")
    second = order("o'db & <there>", "db", 2)
    driver("up", *second, *changed()[:-1])
    wrong = [] if len(networks()) == 1 else ["networks: %r" % networks()]
    driver("destroy", *order())
    wrong += [] if everything() == (["o'db & <there>", "web"], networks(), ["run-7"]) and len(networks()) == 1 else [repr(everything())]
    wrong += [] if os.listdir(path("recovered/run-7")) == ["db"] else [repr(os.listdir(path("recovered/run-7")))]
    libvirt.virsh("destroy", "o'db & <there>")
    libvirt.virsh("domrename", "o'db & <there>", "somebody's")  # its ref finds it
    said = driver("destroy", *second)[1]
    return wrong + ([] if everything() == (["web"], [], []) and said["left"] == [] else [repr(everything()), repr(said)])


def killed_anywhere_it_comes_to_the_same():
    """Who asks is killed before and after each question to libvirt, or the question dies; the repeat ends well, and nothing is left."""
    wrong, kills = [], 0
    for operation, keys, questions in (("up", changed(), 3), ("destroy", [], 2)):
        for number in range(1, questions + 1):
            for how in ("KILL_BEFORE", "KILL_AFTER", "KILL_SELF"):
                write_disks()
                if operation == "destroy":
                    driver("up", *order(), *changed())
                status, said = driver(operation, *order(), *keys, check=False, **{how: str(number)})
                kills += status != 0
                wrong += ["%s, %s %d: it was not killed" % (operation, how, number)] if status == 0 else []
                said = driver(operation, *order(), *keys)[1]
                if operation == "up":
                    wrong += [] if said["state"] == "running" and libvirt.domains().count("web-there") == 1 else [repr(said)]
                    driver("destroy", *order())
                wrong += [] if everything() == (["web"], [], []) else ["%s, %s %d: %r" % (operation, how, number, everything())]
    print("# killed %d times" % kills)
    return wrong


def one_that_is_kept_belongs_to_no_run():
    write_disks()
    libvirt.virsh("net-define", path("lan.xml"))
    libvirt.virsh("net-start", "lan2")
    keys = [key for key in order() if key != "isolated=yes"]
    driver("up", *keys, "config=" + path("config.xml"), "network=lan,lan2,nowhere")
    wrong = [] if "source network='lan2'" in libvirt.virsh("dumpxml", "web-there") else [libvirt.virsh("dumpxml", "web-there")]
    for _ in range(2):
        said = driver("keep", *keys)[1]
        wrong += [] if [line.split()[0] for line in said["disk"]] == ["disk0", "disk1"] else [repr(said)]
    status, said = driver("destroy", *keys, check=False)
    wrong += [] if status == 1 and "was kept" in said["failed"] else [repr(said)]
    wrong += [] if libvirt.virsh("domstate", "web-there") == "running" and os.path.exists(path("recovered/run-7/web/disk0.raw")) else [
        "it was touched"]
    for text in (libvirt.virsh("dumpxml", "web-there"), libvirt.virsh("dumpxml", "--inactive", "web-there")):
        wrong += ["it bears the ref still"] if "farshore-run-7" in text else []
    other = ["ref=farshore-run-7-9", "name=web", "workload=nobody", "disk=disk0,%s,run-7/nobody/disk0.raw" % locator("vda")]
    write_disks("nobody")
    status, said = driver("up", *other, "config=" + path("config.xml"), check=False)  # the name is taken by the protected machine
    wrong += [] if status == 1 and "did not make" in said["failed"] else [repr(said)]
    driver("destroy", *other)
    wrong += [] if "web" in libvirt.domains() and os.listdir(path("recovered/run-7")) == ["web"] else ["what is left: %r" % (everything(),)]
    return wrong


def what_is_wrong_is_said():
    wrong = []
    config = "config=" + path("config.xml")
    for keys, klass, words in ((["config="], -1, "without its machine's configuration"),
                               ([config, "disk=disk0,%s,run-7/other/disk0.raw" % locator("vda")], -2, "run-7/other"),
                               ([config, "disk=disk0,%s,../out.raw" % locator("vda")], -4, "leads out"),
                               ([config, "disk=disk0,%s,nbd+unix:///x?socket=/no/such" % locator("vda")], None, "start the machine")):
        status, said = driver("up", "ref=farshore-run-7-3", "name=other", "workload=other", *keys, check=False)
        said = said.get("failed", "")
        wrong += [] if status == 1 and (klass is None or said.startswith("%d " % klass)) and words in said else ["%r: %s" % (keys, said)]
        driver("destroy", "ref=farshore-run-7-3", "name=other", "workload=other")
    write_disks("other")
    lone = ["ref=farshore-run-7-3", "name=other", "workload=other", "disk=disk0,%s,run-7/other/disk0.raw" % locator("vda")]
    status, said = driver("up", *lone, config, "network=lan,nowhere", check=False)
    wrong += [] if status == 1 and said["failed"].startswith("-2 ") and "matching name 'nowhere'" in said["failed"] else [repr(said)]
    driver("destroy", *lone)
    for key, words in (("place=xen:///", "machines_place"), ("recovery_dir=/no/such", "recovery_dir"), ("scripts_user=root", "root"),
                       ("recovery_dir=", "belong together")):
        status, said = driver("up", *order(), key, check=False)
        wrong += [] if status == 1 and words in said["failed"] else ["%s: %r" % (key, said)]
    return wrong


# ---- addresses (test_kvm_operations.py:long) ----

def define_network(name, subnet):
    with open(path("network.xml"), "w", encoding="utf-8") as file:
        file.write("<network><name>%s</name><bridge stp='off' delay='0'/><ip address='%s.1' prefix='24'><dhcp>"
                   "<range start='%s.100' end='%s.150'/>"
                   "</dhcp></ip></network>" % (name, subnet, subnet, subnet))
    libvirt.virsh("net-define", path("network.xml"))
    libvirt.virsh("net-start", name)


def reserve(network, mac, address):
    libvirt.virsh("net-update", network, "add", "ip-dhcp-host", "<host mac='%s' ip='%s'/>" % (mac, address), "--live", "--config")


def reserved(network):
    """[(name, address)] of what it does now, and of what it will."""
    return [re.findall(r"<host mac='[^']*'(?: name='([^']*)')? ip='([^']*)'/>", libvirt.virsh("net-dumpxml", network, *which))
            for which in ([], ["--inactive"])]


def mac_of(name):
    return re.search(r"<mac address='([^']+)'", libvirt.virsh("dumpxml", name)).group(1)


def recovered_console():
    with open(path("recovered/run-7/web/web-there-console"), encoding="utf-8", errors="replace") as file:
        return file.read()


def real():
    """As a failover's."""
    return [key for key in order() if key != "isolated=yes"]


def the_address_at_the_source_is_captured():
    reserve("lan", mac_of("web"), "10.9.7.20")
    guest.start(wait=False)
    libvirt_kit.until(lambda: "DHCP 10.9.7.20" in guest.words(), 120, lambda: "it has its address: " + guest.words()[-500:])
    libvirt_kit.tool(os.path.join(farlib.BUILD, "tests/lib/adapter_driver"), "kvm", "capture", path("config.xml"),
                     *map(locator, guest.disks), env=dict(os.environ, FARSHORE_KVM=path("wrapper")))
    driver("source_off", *sources(), "timeout=60", "force=yes")
    with open(path("config.xml"), encoding="utf-8") as file:
        config = file.read()
    return [] if re.search(r"<farshore:address [^>]*address='10.9.7.20' mac='%s'" % mac_of("web"), config) else [config]


def a_test_gives_the_mapped_address_in_a_network_of_its_own():
    write_disks()
    before = everything()
    keys = ["config=" + path("config.xml"), "nic=0,,,,,,,mapped", "network=lan,lan2,,10.9.7.0/24,10.9.8.0/24"]
    driver("up", *order(), *keys)
    said = driver("gate", *order(), *keys, "gate=port:7000", "timeout=120")[1]
    wrong = [] if said["address"] == "10.9.8.20" else [repr(said)]
    wrong += [] if "DHCP 10.9.8.20" in recovered_console() else [recovered_console()[-500:]]
    said = driver("destroy", *order())[1]
    return wrong + ([] if said["left"] == [] and everything()[:2] == before[:2] else [repr(everything()), repr(said)])


def an_address_that_is_set_is_reserved_where_it_goes():
    define_network("lan2", "10.9.8")
    wrong = []
    keys = ["config=" + path("config.xml"), "nic=0,,lan2,,10.9.8.30,24,10.9.8.1"]
    ours = [("farshore-run-7-1-0", "10.9.8.30")]
    for how in ("KILL_AFTER", "KILL_SELF"):
        write_disks()
        driver("up", *real(), *keys, check=False, **{how: "1"})
        driver("up", *real(), *keys)
        wrong += [] if reserved("lan2") == [ours, ours] else ["%s: %r" % (how, reserved("lan2"))]
        if how == "KILL_AFTER":
            driver("destroy", *real())
            wrong += [] if reserved("lan2") == [[], []] else ["it stayed: %r" % reserved("lan2")]
    said = driver("gate", *real(), *keys, "gate=port:7000", "timeout=120")[1]
    wrong += [] if said["address"] == "10.9.8.30" and "DHCP 10.9.8.30" in recovered_console() else [repr(said), recovered_console()[-500:]]
    for _ in range(2):
        driver("keep", *real())
    kept = [("", "10.9.8.30")]
    wrong += [] if reserved("lan2") == [kept, kept] else ["kept: %r" % reserved("lan2")]
    libvirt.virsh("destroy", "web-there")
    libvirt.virsh("undefine", "web-there")
    libvirt.virsh("net-update", "lan2", "delete", "ip-dhcp-host", "<host mac='%s' ip='10.9.8.30'/>" % mac_of("web"), "--live", "--config")
    return wrong


def what_is_anothers_is_refused():
    wrong, other = [], "52:54:00:00:00:77"
    reserve("lan2", other, "10.9.8.40")
    write_disks()
    for address, words in (("10.9.8.40", "has reserved 10.9.8.40 for " + other), ("10.9.8.1", "the host's own")):
        keys = ["config=" + path("config.xml"), "nic=0,,lan2,,%s,24," % address]
        status, said = driver("up", *real(), *keys, check=False)
        wrong += [] if status == 1 and said["failed"].startswith("-3 ") and words in said["failed"] else [repr(said)]
    reserve("lan2", mac_of("web"), "10.9.8.50")
    status, said = driver("up", *real(), "config=" + path("config.xml"), "nic=0,,lan2,,10.9.8.60,24,", check=False)
    wrong += [] if status == 1 and "10.9.8.50" in said["failed"] else [repr(said)]
    driver("up", *real(), "config=" + path("config.xml"), "nic=0,,lan2,,10.9.8.50,24,")  # as somebody reserved it: fine, and theirs
    driver("destroy", *real())
    theirs = [("", "10.9.8.40"), ("", "10.9.8.50")]
    return wrong + ([] if reserved("lan2") == [theirs, theirs] else [repr(reserved("lan2"))])


ADDRESSES = [the_address_at_the_source_is_captured, a_test_gives_the_mapped_address_in_a_network_of_its_own,
             an_address_that_is_set_is_reserved_where_it_goes, what_is_anothers_is_refused]


def main():
    global folder, libvirt, guest
    is_long = "long" in sys.argv
    if libvirt_kit.is_missing("iptables", "qemu-ga", *(["dnsmasq"] if is_long else [])):
        return
    libvirt_kit.in_a_network_of_its_own()
    folder = tempfile.mkdtemp(prefix="far-kvm-")
    os.chmod(folder, 0o755)
    os.chmod(os.path.dirname(folder), os.stat(os.path.dirname(folder)).st_mode | 0o011)  # whoever runs the scripts comes through
    for name in ("recovered", "scripts"):
        os.mkdir(path(name), 0o755)
    with open(path("wrapper"), "w", encoding="utf-8") as file:
        file.write(WRAPPER % {"count": path("count"), "real": os.path.join(farlib.BUILD, "src/node/farshore-kvm")})
    os.chmod(path("wrapper"), 0o755)
    with open(path("lan.xml"), "w", encoding="utf-8") as file:
        file.write("<network><name>lan2</name><bridge stp='off' delay='0'/></network>")
    try:
        with libvirt_kit.Libvirt(path("a"), own_network=False) as libvirt:
            if is_long:
                define_network("lan", "10.9.7")
                guest = libvirt_kit.Guest(libvirt, "web", [64, 32], nic="lan", options="far.ip=dhcp far.serve=7000")
                tap.run_all(ADDRESSES)
                return
            libvirt.network("lan")
            bridge = re.search(r"bridge name='([^']+)'", libvirt.virsh("net-dumpxml", "lan")).group(1)
            libvirt_kit.tool("ip", "address", "add", "10.9.7.1/24", "dev", bridge)
            guest = libvirt_kit.Guest(libvirt, "web", [64, 32], agent=True, nic="lan", options="far.ip=10.9.7.2/24 far.serve=7000")
            guest.start(wait=False)
            tap.run_all([a_protected_machine_is_turned_off_and_on, a_machine_comes_up_as_was_set, gates_let_it_pass,
                         two_of_a_run_share_its_network_and_it_goes_with_the_last, killed_anywhere_it_comes_to_the_same,
                         one_that_is_kept_belongs_to_no_run, what_is_wrong_is_said])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
