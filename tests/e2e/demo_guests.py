"""The demo: two virtual machines on one site are protected, tried out on another, lost, recovered there, and brought home again, with real
processes on this machine. Run by ./demo.

One machine is a database: it stores what the other, a program, sends it. The program numbers what it writes; a number counts as acknowledged
when both have it on their disks. So at every turn the machines themselves say what was lost and what not, and whether they came up in
their order. All of it lives in a network namespace and two libvirts of its own, and goes with this program. The last line is `demo: PASS` with the
figures, or `demo: FAIL` with the reason.
"""
import argparse
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../integration"), os.path.join(HERE, "../lib")]
import demo  # noqa: E402
import farlib  # noqa: E402
import libvirt_kit  # noqa: E402
import runlib  # noqa: E402
import tap  # noqa: E402

INTERVAL_S, DISK_MIB = 10, 256
ADDRESS = {"db": "10.9.0.2", "app": "10.9.0.3"}
CARD = '"nics": [{"nic": 0, "mode": "static", "address": "%s", "prefix": 24, "gateway": "10.9.0.1"}]'
GATE = '"gates": [{"kind": "port", "port": 7000, "timeout_s": 90}]'


def plan_text(name, source, target, suffix, more, recovered):
    """As a user writes it; recovered: behind the names of the machines over there."""
    lines = ['{"name": "%s", "source_site": "%s", "target_site": "%s",%s' % (name, source, target, more),
             ' "networks": [{"source": "lan", "target": "lan"}],', ' "workloads": [']
    for group, workload in ((1, "db"), (2, "app")):
        called = ', "recovered_name": "%s%s"' % (workload, recovered) if recovered else ""
        gate = ", " + GATE if workload == "db" else ""
        lines += ['  {"name": "%s%s", "group": %d%s%s,' % (workload, suffix, group, called, gate),
                  "   %s}%s" % (CARD % ADDRESS[workload], "," if workload == "db" else "")]
    return "\n".join(lines + [" ]}"]) + "\n"


def say(text=""):
    demo.say(text)


class Demo:
    def __init__(self, base):
        self.base, self.stage, self.figures = base, None, []
        self.db = self.app = None

    # ---- the farshore command, as a user types it ----

    def far(self, *argv, show=True, as_json=False, server="protected"):
        cluster = self.stage.cluster
        if show:
            say("   %s$ farshore %s%s" % (demo.DIM, " ".join(argv), demo.OFF))
        whole = [farlib.program("farshore"), "--server", "https://" + cluster.servers[server].api, "--token-file", cluster.token_file,
                 "--ca", cluster.ca_file, *argv, *(["-o", "json"] if as_json else [])]
        sys.stdout.flush()
        done = subprocess.run(whole, stdin=subprocess.DEVNULL, capture_output=as_json, text=True, timeout=600, check=False)
        if done.returncode != 0:
            raise demo.Fail("farshore %s ended with status %d%s" % (" ".join(argv[:3]), done.returncode,
                                                                     ": " + done.stderr.strip() if as_json else ""))
        return demo.json.loads(done.stdout) if as_json else None

    def wait(self, run_id, phase, seconds=300):
        return self.stage.wait(run_id, phase, seconds)

    # ---- what the machines say ----

    def starts(self, run_id, node):
        """(when, last record) of the newest start of each, by its own console."""
        found = {}
        for name in ("db", "app"):
            found[name] = farlib.until(lambda n=name: self.stage.booted(self.stage.console(run_id, n, node)), 180, name + " boots")[-1]
        return found

    def came_up(self, run_id, acked, node="target"):
        found = self.starts(run_id, node)
        if found["db"][0] > found["app"][0]:
            raise demo.Fail("the program came up before its database")
        words = lambda: self.stage.console(run_id, "app", node)  # noqa: E731
        farlib.until(lambda: self.stage.acked(words()) >= found["app"][1] + 5, 90, "they work together again")
        last = min(found["db"][1], found["app"][1])
        say("   db came up with record %d, app with record %d, %.1f s after it, by their own clocks; they go on together." %
            (found["db"][1], found["app"][1], found["app"][0] - found["db"][0]))
        if last < acked:
            return acked - last
        return 0

    # ---- the steps ----

    def begin(self):
        demo.step("1. Two machines", "A database and a program that writes to it, on the hypervisor of the protected site. The program",
                  "numbers its records; one counts when both have it on their disks. (Debian's kernel, booted without",
                  "acceleration: three seconds.)")
        self.db = self.stage.guest("db", [DISK_MIB], options="far.ip=%s/24 far.serve=7000" % ADDRESS["db"])
        self.app = self.stage.guest("app", [DISK_MIB], options="far.ip=%s/24 far.peer=%s:7000" % (ADDRESS["app"], ADDRESS["db"]))
        self.app.wait_ack(5)
        say("   Both run; record %d is acknowledged." % self.app.acked())

    def apply(self, name, text, server="protected"):
        path = os.path.join(self.base, name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        for line in text.rstrip().splitlines():
            say("   " + demo.DIM + line + demo.OFF)
        self.far("plan", "apply", "-f", path, "--yes", server=server)

    def protect(self):
        demo.step("2. A plan", "Which machines, how often, in which order they come up, and what is waited for: the database's port",
                  "before the program starts. Addresses are theirs; the network is the one of that name over there.")
        self.apply("shop", plan_text("shop", "protected", "recovery", "",
                                     ' "interval_s": %d, "rpo_s": 60, "rto_s": 120, "state": "active",' % INTERVAL_S, ""))
        self.next_point("shop")
        self.far("checkpoint", "list", "--plan", "shop")

    def next_point(self, plan):
        """A checkpoint whose cycle began after now; the schedule makes it."""
        running = self.stage.cluster.get("/v1/plans/" + plan)["running_job_id"]
        known = self.stage.cluster.get("/v1/plans/" + plan)["last_checkpoint_id"]

        def there():
            now = self.stage.cluster.get("/v1/plans/" + plan)["last_checkpoint_id"]
            return now if now > known and self.stage.cluster.get("/v1/checkpoints/%d" % now)["job_id"] != running else None
        farlib.until(there, 90, "the next cycle is over")

    def test(self):
        demo.step("3. A test recovery", "On the other hypervisor, on a network that leads nowhere, while replication goes on.")
        before = self.stage.left()
        acked = self.app.acked()
        self.next_point("shop")
        began = time.monotonic()
        run_id = self.far("run", "test", "shop", as_json=True)["id"]
        self.wait(run_id, "up")
        seconds = time.monotonic() - began
        if self.came_up(run_id, acked):
            raise demo.Fail("the test lacks records that were acknowledged before its point")
        self.app.wait_ack(self.app.acked() + 1)
        self.far("run", "report", str(run_id))
        self.far("run", "finish", str(run_id))
        self.wait(run_id, "done")
        if self.stage.left() != before:
            raise demo.Fail("the test left something: %r, before: %r" % (self.stage.left(), before))
        self.figures.append("test recovery: up in %.1f s, nothing left" % seconds)
        say("   Cleaned up: no domain, no network, no file, no process is left of it.")

    def disaster(self):
        demo.step("4. The disaster", "The protected site is gone: kill -9 of both machines, of libvirt, of the node and of the management",
                  "server there.")
        self.stage.cluster.token_file = self.keep(self.stage.cluster.token_file)
        self.stage.cluster.ca_file = self.keep(self.stage.cluster.ca_file)
        self.app.wait_ack(self.app.acked() + 3)
        for guest in (self.app, self.db):
            guest.crash()
        self.lost_at = time.monotonic()
        self.acked = self.app.acked()
        self.stage.near.kill_daemon()
        self.stage.cluster.nodes["source"].kill()
        self.stage.cluster.servers["protected"].kill()
        say("   Gone. The last record that the program had acknowledged was %d." % self.acked)

    def keep(self, path):
        copy = os.path.join(self.base, os.path.basename(path))
        shutil.copyfile(path, copy)
        os.chmod(copy, 0o600)
        return copy

    def failover(self):
        demo.step("5. Failover", "At the recovery site, by what is left: its server, its node, and the witness.")
        self.stage.cluster.wait_leader(60)
        self.stage.host_in(self.stage.far)
        run_id = self.far("run", "failover", "shop", "--fence", "1", as_json=True, server="recovery")["id"]
        self.wait(run_id, "up")
        lost = self.came_up(run_id, self.acked)
        seconds = time.monotonic() - self.lost_at
        self.far("run", "report", str(run_id), server="recovery")
        self.far("run", "commit", str(run_id), server="recovery")
        self.wait(run_id, "done")
        self.failover_id = run_id
        self.figures.append("failover: %.1f s from the disaster to both at work, %d records lost" % (seconds, lost))
        say("   %d of the acknowledged records are lost: those that came after the newest point, at most %d s before." % (lost, INTERVAL_S))

    def home(self):
        demo.step("6. The old site returns", "Its disks are out of date. The plan is turned round; the old disks are taken as a seed, so that",
                  "only what differs crosses the wire.")
        self.stage.near.start_daemon()
        self.stage.cluster.servers["protected"].start()
        self.stage.cluster.nodes["source"].start()
        farlib.until(lambda: self.stage.cluster.get("/v1/nodes/source")["state"] == "up", 60, "the old site's node is back")
        self.far("plan", "reverse", "shop", server="recovery")
        self.apply("shop-back", plan_text("shop-back", "recovery", "protected", "-back", ' "state": "active",', "-home"), "recovery")
        for guest in (self.db, self.app):
            self.far("plan", "seed", "shop-back", "--workload", guest.name + "-back", "--node", "source", "--adapter", "kvm", "--from",
                     self.stage.locator(guest, "vda"), "--wait", server="recovery")
        self.far("plan", "replicate", "shop-back", "--wait", server="recovery")
        job = max(self.far("job", "list", "--plan", "shop-back", show=False, as_json=True, server="recovery"), key=lambda job: job["id"])
        share = job["bytes_sent"] / (2 * DISK_MIB << 20)
        self.figures.append("the way back: %.1f %% of the disks sent" % (share * 100))
        say("   %s of %s crossed the wire (%.1f %%)." % (demo.human(job["bytes_sent"]), demo.human(2 * DISK_MIB << 20), share * 100))
        demo.step("7. Home again", "A migration: the machines are shut down, what they wrote last is carried over, and they come up at home.")
        self.stage.host_in(self.stage.near)
        run_id = self.far("run", "migrate", "shop-back", as_json=True, server="recovery")["id"]
        self.wait(run_id, "up")
        acked = self.stage.acked(self.stage.console(self.failover_id, "app"))
        lost = self.came_up(run_id, acked, "source")
        self.far("run", "report", str(run_id), server="recovery")
        self.far("run", "commit", str(run_id), server="recovery")
        run = self.wait(run_id, "done")
        if lost:
            raise demo.Fail("the migration lost %d records" % lost)
        down = (run["up_ms"] - run["off_ms"]) / 1000
        self.figures.append("migration home: nothing lost, down for %.1f s" % down)
        say("   The last record before the shutdown, %d, is there. They were down for %.1f s." % (acked, down))
        say("   And the first plan again, by the machines where they are now:")
        self.far("plan", "reverse", "shop-back", server="recovery")
        self.far("plan", "start", "shop", server="recovery")
        self.next_point("shop")
        self.far("checkpoint", "list", "--plan", "shop", server="recovery")

    def hold(self):
        cluster = self.stage.cluster
        demo.step("Held", "Everything runs on, in a network namespace of its own. From another terminal, as root:")
        for command in ("cluster status", "plan list", "run list", "events --follow"):
            say("     nsenter --net --target %d %s --server https://%s --token-file %s --ca %s %s" % (
                os.getpid(), farlib.program("farshore"), cluster.servers["recovery"].api, cluster.token_file, cluster.ca_file, command))
        say("     virsh -c '%s' list" % self.stage.near.uri)
        input("   Press Enter to end it. ")

    def run(self):
        self.begin()
        self.protect()
        self.test()
        self.disaster()
        self.failover()
        self.home()


def main():
    parser = argparse.ArgumentParser(prog="./demo", description="Two virtual machines protected, tested, lost, recovered, brought home.")
    parser.add_argument("--dir", default=os.path.join(farlib.SOURCE, ".demo"), help="where its plan files and logs are")
    parser.add_argument("--keep", action="store_true", help="hold everything at the end, to look around, until Enter is pressed")
    options = parser.parse_args()
    base = os.path.abspath(options.dir)
    try:
        libvirt_kit.need("e2fsck")
    except tap.Skip as reason:
        say("demo: FAIL %s (./demo --disks needs none of that)" % reason)
        return 1
    libvirt_kit.in_a_network_of_its_own()
    began = time.monotonic()
    try:
        demo.clear(base)
        os.makedirs(base)
        with open(os.path.join(base, demo.MARKER), "w", encoding="ascii"):
            pass
        show = Demo(base)
        with runlib.Stage() as show.stage:
            show.run()
            if options.keep:
                show.hold()
        shutil.rmtree(base)
    except (demo.Fail, farlib.Failure, AssertionError) as error:
        say("demo: FAIL %s; logs: %s" % (error, base))
        return 1
    say("\ndemo: PASS in %.0f s: %s" % (time.monotonic() - began, "; ".join(show.figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
