"""What there is at both sites of a runlib.Stage: whoever works there leaves nothing behind but what it was to make.

    before = remainslib.look(stage)
    ...
    print(remainslib.differs(before, remainslib.look(stage)))   # ["far processes: 1 more of qemu-system-x86"]

Looked at: domains and whether they run, backup jobs, checkpoints of ours and bitmaps that no checkpoint knows, networks, cards and bridges
of the host, processes in both hypervisors' namespaces and those that a node started, every file and socket of both hypervisors, of
recovered machines and of the nodes (but for vaults, logs and what a node knows). Numbers in names do not count: libvirt counts its domains
on."""
import collections
import json
import os
import re

import libvirt_kit

OURS = re.compile(r"^farshore-")
# libvirt's logs and caches, the folders that it keeps of each network that there ever was, the list of MAC addresses that it forgets when
# it is killed while it removes one (of domains: the number of their process), and what it writes at any moment.
NOISE = re.compile(r"/ns/(log|cache)(/|$)|/run/libvirt/network/[^/]+(/ports)?$|/dnsmasq/[^/]+\.macs$|/run/libvirt/qemu/[^/]+\.pid$|"
                   r"\.log$|\.new$|\.tmp$|libvirtd\.pid")
NODE_KEEPS = re.compile(r"^(vault|db|config|.*\.(crt|key|token|db|db-wal|db-shm|lock))")


def plain(name):
    return re.sub(r"\d+", "N", re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=/farshore-)[0-9a-f-]+(?=\.xml)", "ID", name))


def read(path, mode="rb"):
    try:
        with open(path, mode) as file:
            return file.read()
    except OSError:
        return b""


def space_of(pid):
    try:
        return os.readlink("/proc/%s/ns/pid" % pid)
    except OSError:
        return ""


def processes():
    """(pid, its words, its namespace) of all that live."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        stat = read("/proc/%s/stat" % pid)
        if stat and stat[stat.rindex(b")") + 2:].split()[0] not in (b"Z", b"X"):
            yield int(pid), read("/proc/%s/cmdline" % pid).split(b"\0"), space_of(pid)


def name_of(words):
    name = os.path.basename(words[0].decode(errors="replace"))
    about = words[1].decode(errors="replace") if name == "farshore-kvm" and len(words) > 1 else ""
    return (name + " " + about).strip()


def inside(libvirt):
    space = space_of(libvirt.first)
    return collections.Counter(name_of(words) for _, words, where in processes() if where == space and words[0])


def beside(stage):
    """Programs that a node started, or that outlived it."""
    own, found = space_of("self"), collections.Counter()
    for _, words, where in processes():
        name = name_of(words)
        if where == own and re.match(r"farshore-kvm|qemu-|nbd", name) and any(stage.cluster.base.encode() in word for word in words):
            found[name] += 1
    return found


def files(*folders):
    found = collections.Counter()
    for folder in folders:
        for place, inner, names in os.walk(folder):
            for name in (*inner, *names):
                path = os.path.join(place, name)
                if not NOISE.search(path):
                    found[plain(os.path.relpath(path, os.path.dirname(folder)))] += 1
    return found


def node_files(node):
    found = collections.Counter()
    for name in os.listdir(node.dir):
        if not NODE_KEEPS.match(name):
            found.update(files(os.path.join(node.dir, name)) if os.path.isdir(os.path.join(node.dir, name)) else [plain(name)])
            found[plain(name)] += 1
    return found


def bitmaps(libvirt, name):
    """Of the disks of a domain that runs, as its QEMU has them."""
    said = libvirt.virsh("qemu-monitor-command", name, '{"execute": "query-block"}', check=False)
    try:
        devices = json.loads(said)["return"]
    except (ValueError, KeyError):
        return []
    return [bitmap["name"] for device in devices for bitmap in device.get("inserted", {}).get("dirty-bitmaps", []) if "name" in bitmap]


def domains(libvirt):
    found = collections.Counter()
    for name in libvirt.domains():
        state = libvirt.virsh("domstate", name, check=False)
        found["domain %s, %s" % (name, state)] += 1
        known = libvirt.virsh("checkpoint-list", name, "--name", check=False).split()
        ours = [each for each in known if OURS.match(each)]
        if len(ours) > 1:
            found["checkpoints beside the last of %s" % name] += len(ours) - 1
        if state != "running":
            continue
        if "None" not in libvirt.virsh("domjobinfo", name, check=False):
            found["a job of %s" % name] += 1
        found.update("a bitmap of %s that no checkpoint knows" % name for each in bitmaps(libvirt, name) if each not in known)
    return found


def cards():
    said = libvirt_kit.tool("ip", "-o", "link", "show")
    return collections.Counter(plain(re.match(r"\d+: ([^:@]+)", line).group(1)) for line in said.splitlines())


def look(stage):
    found = {"cards": cards(), "beside": beside(stage)}
    for site, libvirt, node in (("near", stage.near, "source"), ("far", stage.far, "target")):
        found[site + " domains"] = domains(libvirt)
        found[site + " networks"] = collections.Counter(libvirt.virsh("net-list", "--all", "--name").split())
        found[site + " processes"] = inside(libvirt)
        found[site + " files"] = files(libvirt.folder, stage.recovered(node))
        found[site + " node's files"] = node_files(stage.cluster.nodes[node])
    return found


def differs(before, after):
    found = []
    for what in sorted(after):
        for name in sorted(set(before[what]) | set(after[what])):
            more = after[what][name] - before[what][name]
            if more:
                found.append("%s: %d %s of %s" % (what, abs(more), "more" if more > 0 else "less", name))
    return found
