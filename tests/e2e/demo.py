"""The demo: a disk is protected, replicated, lost and recovered, with real processes on this machine. Run by ./demo.

Each step says in words what happens and shows the command that a user would type; long ones have a bar. Memory of every
process is sampled all the time. The last line is `demo: PASS` with the figures, or `demo: FAIL` with the reason and where
the logs are.
"""
import argparse
import atexit
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "../integration")]
import demo_disk  # noqa: E402
import farlib  # noqa: E402

MIB = 1 << 20
DISK_MIB, DISK_MIB_MIN = 1024, 64
FILES_SHARE = 0.55  # of the disk
CHANGED_SHARE = 0.018  # of the disk, as file content; in whole blocks it is about 2 %
SERVER_MEMORY_MAX, NODE_MEMORY_MAX = 96 * MIB, 256 * MIB
WIRE_FACTOR_MAX = 1.1
MARKER = ".farshore-demo"
BOLD, DIM, OFF = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


class Fail(Exception):
    """The reason for demo: FAIL."""


def human(count):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return "%.1f %s" % (count, unit) if unit != "B" else "%d B" % count
        count /= 1024
    return ""


def say(text=""):
    print(text, flush=True)


def step(title, *words):
    say("\n%s== %s%s" % (BOLD, title, OFF))
    for line in words:
        say("   " + line)


class Bar:
    """A bar on a terminal; elsewhere a line at each quarter."""

    def __init__(self, label, unit=human):
        self.label, self.unit, self.began, self.last = label, unit, time.monotonic(), -1

    def __call__(self, done, total):
        share = min(1.0, done / total) if total else 1.0
        mark = int(share * (100 if sys.stdout.isatty() else 4))
        if mark == self.last:
            return
        self.last = mark
        text = "   %-22s [%-30s] %3d %%  %s  %.0f s" % (self.label, "#" * int(30 * share), 100 * share, self.unit(done),
                                                     time.monotonic() - self.began)
        if sys.stdout.isatty():
            sys.stdout.write("\r\033[K" + text)
            sys.stdout.flush()
        else:
            say(text)

    def end(self):
        if sys.stdout.isatty() and self.last >= 0:
            say()
        return time.monotonic() - self.began


def remove_files(tree):
    """With a bar: where each removal is a discard on the device, tens of thousands take a minute."""
    bar = Bar("removing files", lambda n: "%d" % n)
    demo_disk.remove_tree(tree, bar)
    bar.end()


class MemoryWatch(threading.Thread):
    """The highest RssAnon + RssShmem seen of each process."""

    def __init__(self, cluster):
        super().__init__(daemon=True)
        self.cluster, self.peaks, self.over = cluster, {}, threading.Event()

    def run(self):
        while not self.over.wait(0.2):
            for kind, processes in (("server", self.cluster.servers), ("node", self.cluster.nodes)):
                for name, process in list(processes.items()):
                    try:
                        self.peaks[kind + " " + name] = max(self.peaks.get(kind + " " + name, 0), process.memory())
                    except (OSError, AttributeError):
                        pass  # not running now

    def finish(self):
        self.over.set()
        self.join()
        for name, peak in self.peaks.items():
            limit = SERVER_MEMORY_MAX if name.startswith("server") else NODE_MEMORY_MAX
            if peak > limit:
                raise Fail("%s used %s of memory, the limit is %s" % (name, human(peak), human(limit)))


class Demo:
    def __init__(self, base, disk_bytes):
        self.base, self.disk_bytes = base, disk_bytes
        self.image = os.path.join(base, "source-disk.img")
        self.tree = os.path.join(base, "files")
        self.cluster = None
        self.figures = []
        self.sums = {}

    def path(self, *names):
        return os.path.join(self.base, *names)

    # ---- the farshore command, as a user types it ----

    def far(self, *argv, show=True, as_json=False, hide=None, server="protected"):
        """Runs `farshore …`; its bars and tables go to the screen, with as_json its answer comes back. hide: a secret that
        is not shown."""
        if show:
            say("   %s$ farshore %s%s" % (DIM, " ".join("…" if hide and a == hide else a for a in argv), OFF))
        whole = [farlib.program("farshore"), "--server", "https://" + self.cluster.servers[server].api, "--token-file",
                 self.cluster.token_file, "--ca", self.cluster.ca_file, *argv]
        if as_json:
            done = subprocess.run(whole + ["-o", "json"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=120)
            if done.returncode != 0:
                raise Fail("farshore %s: %s" % (" ".join(argv[:2]), (done.stderr or done.stdout).strip()))
            return json.loads(done.stdout)
        sys.stdout.flush()
        done = subprocess.run(whole, stdin=subprocess.DEVNULL, timeout=1200)
        if done.returncode != 0:
            raise Fail("farshore %s ended with status %d" % (" ".join(argv[:2]), done.returncode))
        return None

    def newest_job(self, server="protected"):
        jobs = self.far("job", "list", show=False, as_json=True, server=server)
        return max(jobs, key=lambda job: job["id"])

    # ---- the steps ----

    def make_disk(self):
        step("1. A disk to protect", "A raw image of %s with an ext4 file system, full of real files of this" % human(self.disk_bytes),
             "machine's /usr. Nothing in it is made up for the demo.")
        bar = Bar("copying files")
        self.sums, total = demo_disk.make_tree(self.tree, int(self.disk_bytes * FILES_SHARE), bar)
        seconds = bar.end()
        demo_disk.make_image(self.image, self.tree, self.disk_bytes)
        self.figures.append("disk: %s, %d files, %s, made in %.1f s" % (human(self.disk_bytes), len(self.sums), human(total),
                                                                       seconds))
        say("   %d files, %s. The SHA-256 of each is kept: at the end every file must be as it was." %
            (len(self.sums), human(total)))

    def found(self, first):
        """The recovery key is printed once, by this command: it goes into a file of the demo."""
        argv = ["cluster", "init", "--dir", first.dir, "--cluster", "demo", "--name", first.name, "--api", first.api,
                "--peer", first.peer]
        say("   %s$ farshore %s%s" % (DIM, " ".join(argv), OFF))
        done = subprocess.run([farlib.program("farshore"), *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise Fail("farshore cluster init: %s" % done.stderr.strip())
        with open(os.open(self.path("recovery-key"), os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
            file.write(done.stdout)
        say("   The administrator's token and the recovery key are in files that only you can read.")

    def join_server(self, name):
        server = self.cluster.new_server(name)
        token = self.far("server", "create", name, "--site", name, as_json=True)["token"]
        self.far("cluster", "join", "--dir", server.dir, "--token", token, "--name", name, "--api", server.api, "--peer",
                 server.peer, hide=token)
        server.start()
        farlib.until(lambda: self.cluster.voter(name), 30, "server %s votes" % name)

    def join_node(self, name, site):
        node = farlib.Node(self.cluster, name, site, farlib.free_ports(1)[0])
        self.cluster.nodes[name] = node
        token = self.far("node", "create", name, "--site", site, as_json=True)["token"]
        say("   %s$ farshore-node join --dir %s --token … --name %s --data %s%s" % (DIM, node.dir, name, node.data, OFF))
        self.cluster.run_tool("farshore-node", "join", "--dir", node.dir, "--token", token, "--name", name, "--data", node.data)
        node.start()

    def start_cluster(self):
        step("2. Three management servers", "One at the protected site, one at the recovery site, and a witness at a third",
             "place. They agree on one event log; any one of them may die. (Here: three processes.)")
        cluster = self.cluster
        first = cluster.new_server("protected")
        cluster.token_file, cluster.ca_file = os.path.join(first.dir, "admin.token"), os.path.join(first.dir, "ca.crt")
        self.found(first)
        cluster.use_credentials()
        first.start()
        cluster.wait_leader()
        for name in farlib.SITES:
            self.far("site", "create", name, "--role", name)
        self.far("server", "site", "protected", "--site", "protected")
        for name in farlib.SERVERS[1:]:
            self.join_server(name)
        self.far("cluster", "status")
        step("3. Two nodes", "They move the data: one reads at the protected site, one keeps a vault at the recovery",
             "site. They join with single-use tokens and talk mutual TLS.")
        self.join_node("source", "protected")
        self.join_node("target", "recovery")
        cluster.wait_nodes()
        self.far("node", "list")
        step("4. A plan", "It says what is protected, and where to.")
        self.far("workload", "create", "web", "--site", "protected", "--adapter", "file", "--disk", "root=" + self.image)
        self.far("plan", "create", "gold", "--source", "protected", "--target", "recovery", "--workload", "web")
        self.far("plan", "start", "gold")
        cluster.plan = "gold"

    def cycle(self, label):
        began = time.monotonic()
        self.far("plan", "replicate", "gold", "--wait")
        seconds = time.monotonic() - began
        job = self.newest_job()
        if job["state"] != "succeeded":
            raise Fail("the %s ended as '%s': %s" % (label, job["state"], job.get("error_message")))
        return job, seconds

    def first_copy(self):
        step("5. The first copy", "Every block is read and hashed; zeroes and blocks that the vault holds already are not",
             "sent. Source and target each compute the root hash of the disk by themselves; only if the",
             "two are equal, a recovery point exists.")
        self.before = demo_disk.block_hashes(self.image, lambda *_: None)
        job, seconds = self.cycle("first copy")
        self.figures.append("first copy: %s of disk, %s on the wire, %.1f s" %
                            (human(self.disk_bytes), human(job["bytes_sent"]), seconds))
        say("   " + self.figures[-1])

    def change(self):
        step("6. Life goes on", "About 2 % of the disk changes, through its file system: files edited, removed, added.")
        seed = random.SystemRandom().randrange(1 << 32)
        edited, removed, added, written = demo_disk.change_files(self.image, self.tree, self.sums,
                                                                 int(self.disk_bytes * CHANGED_SHARE), seed)
        demo_disk.check_file_system(self.image)
        after = demo_disk.block_hashes(self.image, lambda *_: None)
        self.changed = 65536 * sum(a != b for a, b in zip(self.before, after))
        say("   %d files edited, %d removed, %d added, %s written (seed %d): %s of the disk's blocks differ (%.1f %%)." %
            (edited, removed, added, human(written), seed, human(self.changed), 100 * self.changed / self.disk_bytes))

    def second_cycle(self):
        step("7. The second cycle", "Only what changed crosses the wire.")
        job, seconds = self.cycle("second cycle")
        share = job["bytes_sent"] / self.changed
        self.figures.append("second cycle: %s changed, %s on the wire (%.2f x), %.1f s" %
                            (human(self.changed), human(job["bytes_sent"]), share, seconds))
        say("   " + self.figures[-1])
        if share > WIRE_FACTOR_MAX:
            raise Fail("the second cycle sent %.2f times the changed bytes, the limit is %.1f" % (share, WIRE_FACTOR_MAX))
        self.image_hash = demo_disk.sha256_of(self.image)
        say("   The files that the image was made of are removed: what comes back can only come from the vault.")
        remove_files(self.tree)

    def disaster(self):
        step("8. The disaster", "The protected site is gone: kill -9 of its management server and of its node, and the",
             "disk itself is deleted.")
        self.lost_at = time.monotonic()
        self.cluster.servers["protected"].kill()
        self.cluster.nodes["source"].kill()
        os.unlink(self.image)
        say("   Gone. From here on, only the recovery site and the witness are left.")
        token = self.path("admin.token")  # what the administrator carries; the CA's certificate likewise
        self.cluster.token_file, self.cluster.ca_file = token, self.path("ca.crt")

    def recover(self):
        step("9. The recovery", "At the recovery site: the newest proven point is written out to a raw disk, and its root",
             "is proven by reading it back from the device.")
        self.cluster.wait_leader(30)
        target = self.path("recovered-disk.img")
        self.far("recover", "gold", "--workload", "web", "--disk", "root=" + target, "--wait", server="recovery")
        seconds = time.monotonic() - self.lost_at
        job = self.newest_job("recovery")
        if job["state"] != "succeeded" or job["kind"] != "recover":
            raise Fail("the recovery ended as '%s': %s" % (job["state"], job.get("error_message")))
        self.figures.append("recovery: %s in %.1f s from the disaster to the recovered disk" % (human(self.disk_bytes), seconds))
        say("   " + self.figures[-1])
        return target, job

    def prove(self, target, job):
        step("10. The proof", "Not believed but checked, by other means than Farshore's own.")
        whole = self.far("job", "show", str(job["id"]), show=False, as_json=True, server="recovery")
        point_id = whole["tasks"][0]["point_id"]
        point = self.far("point", "show", str(point_id), show=False, as_json=True, server="recovery")
        proven, restored = point["disks"][0]["root"], whole["tasks"][0]["root"]
        if proven != restored:
            raise Fail("the root read back is %s, the point's is %s" % (restored, proven))
        say("   root equal:   %s…, point %d (%s proof)" % (proven[:16], point_id, point["proof"]))
        if demo_disk.sha256_of(target) != self.image_hash:
            raise Fail("the recovered disk is not bit for bit the one that was lost")
        say("   bits equal:   SHA-256 of the whole disk, %s…" % self.image_hash[:16])
        demo_disk.check_file_system(target)
        say("   e2fsck -fn:   clean")
        bar = Bar("files", lambda n: "%d" % n)
        count = demo_disk.compare_files(target, self.path("read-back"), self.sums, bar)
        bar.end()
        remove_files(self.path("read-back"))
        say("   files equal:  all %d, by SHA-256, as they were at the recovery point" % count)
        self.figures.append("proof: root equal, e2fsck clean, %d of %d files equal" % (count, len(self.sums)))
        self.point_id = point_id

    def encore(self):
        step("11. Encore: no control plane at all", "Every server and every node is gone. What is left is one folder: the vault.",
             "It is enough.")
        self.cluster.kill_all()
        vault, target = os.path.join(self.cluster.nodes["target"].dir, "vault"), self.path("offline-disk.img")
        began = time.monotonic()
        for argv in (["vault", "list", "--vault", vault],
                     ["vault", "recover", "--offline", "--vault", vault, "--point", str(self.point_id), "--disk", "root",
                      "--target", target]):
            say("   %s$ farshore-node %s%s" % (DIM, " ".join(argv), OFF))
            if subprocess.run([farlib.program("farshore-node"), *argv], stdin=subprocess.DEVNULL, timeout=600).returncode:
                raise Fail("farshore-node %s failed" % " ".join(argv[:2]))
        seconds = time.monotonic() - began
        if demo_disk.sha256_of(target) != self.image_hash:
            raise Fail("the disk recovered offline is not the one that was lost")
        os.unlink(target)
        self.figures.append("offline recovery from the vault alone: %.1f s, bit-exact" % seconds)
        say("   " + self.figures[-1])

    def run(self):
        os.makedirs(self.base)
        with open(self.path(MARKER), "w", encoding="ascii"):
            pass
        self.cluster = farlib.Cluster(self.path("cluster"))
        os.environ["XDG_STATE_HOME"] = os.environ["XDG_CONFIG_HOME"] = self.path("cli")  # nothing outside the folder
        watch = MemoryWatch(self.cluster)
        self.make_disk()
        watch.start()
        self.start_cluster()
        shutil.copyfile(self.cluster.token_file, self.path("admin.token"))
        os.chmod(self.path("admin.token"), 0o600)
        shutil.copyfile(self.cluster.ca_file, self.path("ca.crt"))
        self.first_copy()
        self.change()
        self.second_cycle()
        self.disaster()
        target, job = self.recover()
        self.prove(target, job)
        watch.finish()
        self.encore()
        most = {kind: max(p for n, p in watch.peaks.items() if n.startswith(kind)) for kind in ("server", "node")}
        self.figures.append("memory at most: server %s of %s, node %s of %s" %
                            (human(most["server"]), human(SERVER_MEMORY_MAX), human(most["node"]), human(NODE_MEMORY_MAX)))

    def keep_running(self):
        """After the encore everything comes back: the log and the vault are on disk."""
        step("Kept running", "Servers and nodes are started again; the cluster goes on where it was.")
        for process in list(self.cluster.servers.values()) + list(self.cluster.nodes.values()):
            process.start()
        self.cluster.wait_leader(30)
        self.save_pids()
        atexit.unregister(self.cluster.kill_all)  # from here on they outlive this program
        server = self.cluster.servers["recovery"]
        say("   To look around:")
        for command in ("cluster status", "plan list", "job list", "checkpoint list", "events --follow"):
            say("     %s --server https://%s --token-file %s --ca %s %s" %
                (farlib.program("farshore"), server.api, self.path("admin.token"), self.path("ca.crt"), command))
        say("   To stop it: ./demo --down" + ("" if self.base.endswith("/.demo") else " --dir " + self.base))

    def save_pids(self):
        with open(self.path("pids"), "w", encoding="ascii") as file:
            for process in list(self.cluster.servers.values()) + list(self.cluster.nodes.values()):
                file.write("%d\n" % process.pid)


def down(base):
    """Ends what an earlier --keep left: by pid, and only if it is a process of ours in this folder."""
    try:
        with open(os.path.join(base, "pids"), encoding="ascii") as file:
            pids = [int(line) for line in file]
    except OSError:
        return 0
    stopped = 0
    for pid in pids:
        try:
            with open("/proc/%d/cmdline" % pid, "rb") as file:
                if os.fsencode(base) in file.read():
                    os.kill(pid, signal.SIGKILL)
                    stopped += 1
        except OSError:
            pass
    os.unlink(os.path.join(base, "pids"))
    return stopped


def clear(base):
    """Removes what an earlier demo left, and nothing else."""
    down(base)
    if not os.path.exists(base):
        return
    if os.path.isdir(base) and not os.listdir(base):
        os.rmdir(base)
    elif os.path.exists(os.path.join(base, MARKER)):
        shutil.rmtree(base)
    else:
        raise Fail("the folder %s exists and was not made by this demo: choose another --dir" % base)


def check_room(base, disk_bytes):
    """The image, its files, their copies, the vault, and two recovered disks; the servers."""
    room, needed = shutil.disk_usage(os.path.dirname(base)), 5 * disk_bytes + (1 << 30)
    if room.free < needed:
        raise Fail("the demo needs %s of free disk space at %s, there are %s" %
                   (human(needed), os.path.dirname(base), human(room.free)))


def main():
    parser = argparse.ArgumentParser(prog="./demo --disks", description="A real disk protected, replicated, lost and recovered.")
    parser.add_argument("--disks", action="store_true", help="this one, and not the demo of whole machines")
    parser.add_argument("--dir", default=os.path.join(farlib.SOURCE, ".demo"), help="where everything lives")
    parser.add_argument("--disk-mib", type=int, default=DISK_MIB, help="how large the disk is (%d)" % DISK_MIB)
    parser.add_argument("--keep", action="store_true", help="leave it running at the end")
    parser.add_argument("--down", action="store_true", help="stop what --keep left")
    options = parser.parse_args()
    base = os.path.abspath(options.dir)
    if options.down:
        say("stopped %d processes; the files are in %s" % (down(base), base))
        return 0
    farlib.DETACH = options.keep
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the last line is said in any case
    if options.disk_mib < DISK_MIB_MIN:
        parser.error("--disk-mib is at least %d" % DISK_MIB_MIN)
    demo = Demo(base, options.disk_mib * MIB)
    try:
        clear(base)
        os.makedirs(os.path.dirname(base), exist_ok=True)
        check_room(base, demo.disk_bytes)
        demo.run()
        if options.keep:
            demo.keep_running()
    except (Fail, farlib.Failure, farlib.Problem, demo_disk.DiskFailure, OSError, subprocess.SubprocessError,
            KeyError, KeyboardInterrupt) as error:
        if demo.cluster is not None:
            demo.cluster.kill_all()
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or repr(error)
        say("\ndemo: FAIL %s; logs: %s" % (reason.strip().replace("\n", " "), demo.path("cluster", "logs")))
        return 1
    if not options.keep:
        demo.cluster.kill_all()
        for name in ("recovered-disk.img",):
            os.unlink(demo.path(name))
    say("\n%sdemo: PASS%s %s" % (BOLD, OFF, "; ".join(demo.figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
