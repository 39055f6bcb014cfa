"""Two sites with machines on them: a libvirt and a node at each, servers between them, all in one network namespace of the test's own.

    runlib.begin()                                  # first in main(): begins the program anew in that namespace, or skips the test
    with runlib.Stage() as stage:
        db = stage.guest("db", options="far.ip=10.9.0.2/24 far.serve=7000")
        stage.protect("gold", {"db": {"group": 1, "gates": [{"kind": "port", "port": 7000, "timeout_s": 60}]}})
        run = stage.run("test", "gold")             # until it is up
        stage.end(run, "finish")                    # until it is done

Source machines are in the network `lan` (10.9.0.0/24) of the near libvirt, and the far one has a network of that name, too: recovered, they find
each other at the same addresses. Gates reach them where the host has an address (HOST) in that network: host_in() says in which; a test's own network
has one by itself. What a run left anywhere is what left() names."""
import os
import re
import shutil
import tempfile
import urllib.parse

import farlib
import libvirt_kit

HOST, PREFIX = "10.9.0.1", 24


def begin(*more):
    """False: the test is skipped, and says why."""
    if libvirt_kit.is_missing(*more):
        return False
    libvirt_kit.in_a_network_of_its_own()
    return True


def quoted(path):
    return urllib.parse.quote(path)


class Stage:
    def __init__(self, base=None, **cluster):
        self.own_base = None if base else tempfile.mkdtemp(prefix="r")  # short: sockets of views are below it
        self.cluster = farlib.Cluster(base or os.path.join(self.own_base, "c"), nodes=False, adapter="kvm", **cluster)
        self.near = self.far = None
        self.guests, self.bridges = {}, {}

    def path(self, *names):
        return os.path.join(self.cluster.base, *names)

    def __enter__(self):
        self.cluster.__enter__()
        try:
            self.near = libvirt_kit.Libvirt(self.path("near"), own_network=False).__enter__()
            self.far = libvirt_kit.Libvirt(self.path("far"), own_network=False).__enter__()
            for libvirt in (self.near, self.far):
                libvirt.network("lan")
                self.bridges[libvirt] = re.search(r"bridge name='([^']+)'", libvirt.virsh("net-dumpxml", "lan")).group(1)
            for name, site, libvirt in (("source", "protected", self.near), ("target", "recovery", self.far)):
                self.cluster.add_node(name, site, settings=self.settings(name, libvirt))
            self.cluster.wait_nodes()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def settings(self, name, libvirt):
        for folder in (self.recovered(name), self.path(name + "-scripts")):
            os.makedirs(folder, exist_ok=True)
        return {"machines_place": "kvm:///?socket=" + quoted(libvirt.socket), "recovery_dir": self.recovered(name),
                "scripts_dir": self.path(name + "-scripts"), "scripts_user": "nobody"}

    def recovered(self, node):
        return self.path("r" + node[0])

    def __exit__(self, *why):
        try:
            self.cluster.__exit__(*why)
        finally:
            for libvirt in (self.near, self.far):
                if libvirt is not None:
                    libvirt.__exit__(*why)
            if self.own_base:
                shutil.rmtree(self.own_base, ignore_errors=True)

    def host_in(self, libvirt):
        """The host's address is in this one's network `lan` from now on, and in no other's; None: in none."""
        for each, bridge in self.bridges.items():
            libvirt_kit.tool("ip", "address", "del", "%s/%d" % (HOST, PREFIX), "dev", bridge, check=False)
            if each is libvirt:
                libvirt_kit.tool("ip", "address", "add", "%s/%d" % (HOST, PREFIX), "dev", bridge)

    # ---- what is protected ----

    def guest(self, name, disk_mib=(64,), **more):
        """One of the near site, running, registered as the workload of its name."""
        guest = libvirt_kit.Guest(self.near, name, disk_mib, nic="lan", **more)
        guest.start(wait=False)
        self.guests[name] = guest
        self.cluster.post("/v1/workloads", {"name": name, "site": "protected", "adapter": "kvm", "disks": [
            {"name": "disk%d" % index, "locator": self.locator(guest, target)} for index, target in enumerate(guest.disks)]})
        return guest

    @staticmethod
    def locator(guest, target):
        return "kvm:///%s/%s?socket=%s" % (guest.name, target, quoted(guest.libvirt.socket))

    def protect(self, plan, workloads, **more):
        """A plan of these workloads and how each comes up; its first cycle is over when this returns."""
        spec = {"source_site": "protected", "target_site": "recovery", "state": "active", "networks": [{"source": "lan", "target": "lan"}],
                "workloads": [{"name": name, **config} for name, config in workloads.items()], **more}
        self.cluster.call("PUT", "/v1/plans/%s/spec" % plan, spec)
        self.cluster.plan = plan
        return self.cycle(plan)

    def cycle(self, plan):
        job = self.cluster.finish(self.cluster.start_cycle(plan), 200)
        assert job["state"] == "succeeded", job
        return job

    # ---- runs ----

    def run(self, kind, plan, phase="up", seconds=300, **more):
        """kind: test, failover or migrate. Its number, once it is in that phase (None: at once)."""
        run_id = self.cluster.post("/v1/plans/%s/%s" % (plan, kind), more)["id"]
        if phase is not None:
            self.wait(run_id, phase, seconds)
        return run_id

    def show(self, run_id):
        return self.cluster.get("/v1/runs/%d" % run_id)

    def wait(self, run_id, phase, seconds=300):
        def there():
            run = self.show(run_id)
            if run["phase"] != phase and (run["phase"] == "done" or run.get("problem")):
                words = {name: self.console(run_id, name, node)[-300:] for name in self.guests for node in ("source", "target")}
                raise farlib.Ended("the run is %s, not %s: %s\n%r" % (run["phase"], phase, run, words))
            return run if run["phase"] == phase else None
        return farlib.until(there, seconds, lambda: "run %d is %s" % (run_id, phase))

    def end(self, run_id, how, seconds=200):
        """how: finish, commit or roll-back. Its report, when it is done."""
        self.cluster.post("/v1/runs/%d/%s" % (run_id, how))
        return self.wait(run_id, "done", seconds)

    # ---- the far side ----

    def console(self, run_id, name, node="target"):
        """What the recovered machine said on its console, which is beside its first disk."""
        folder = self.recovered(node)
        words = ""
        for place, _, names in os.walk(folder):
            for file in names:
                if file.endswith("console") and ("run-%d" % run_id) in place + "/" + file and name in place + "/" + file:
                    with open(os.path.join(place, file), encoding="utf-8", errors="replace") as text:
                        words += text.read()
        return words

    def disks(self, run_id, node="target"):
        """Files of its recovered disks."""
        folder = os.path.join(self.recovered(node), "run-%d" % run_id)
        return sorted(os.path.join(place, name) for place, _, names in os.walk(folder) for name in names if name.endswith((".raw", ".qcow2")))

    @staticmethod
    def booted(words):
        """(when, by the guest's own clock, and its last record then) of each start."""
        return [(float(at), int(last)) for last, at in re.findall(r"GUEST \d+ disks, last record (\d+), at ([0-9.]+)", words)]

    @staticmethod
    def acked(words):
        found = re.findall(r"^ACK (\d+)\r?$", words, re.M)
        return int(found[-1]) if found else 0

    def left(self, libvirt=None, node="target"):
        """Domains, networks, recovered files and processes at a site."""
        libvirt = libvirt or self.far
        files = [os.path.join(place, name) for place, folders, names in os.walk(self.recovered(node))
                 for name in (*folders, *names)]
        return {"domains": libvirt.domains(), "networks": libvirt.virsh("net-list", "--all", "--name").split(), "files": files,
                "processes": libvirt.processes()}
