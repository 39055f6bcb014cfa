"""Who watches a cluster's cycles from outside: for tests that disturb them and want to know that every point is its view.

    cycles = Cycles(cluster)                  # what runs, from the stream of events of whichever server answers
    copies = Copies(folder, held, copied)     # an independent copy of each view that the file adapter makes in a folder (XFS)
    checker = Checker(cluster, cycles, copies)  # recovers every announced point and compares it with the copy of its view

Each has one function for a thread of its own (Helper): cycles.follow, copies.watch, checker.check.
"""
import collections
import contextlib
import fcntl
import http.client
import json
import os
import queue
import re
import subprocess
import threading
import time
import traceback

import farlib

FICLONE = 0x40049409


def reflink(source, target):
    """A copy that shares no byte that changes."""
    with open(source, "rb") as from_file, open(target, "xb") as to_file:
        fcntl.ioctl(to_file.fileno(), FICLONE, from_file.fileno())


class Helper(threading.Thread):
    """A thread whose exception is a result of the test."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.over, self.failed = work, threading.Event(), None

    def run(self):
        try:
            self.work(self.over)
        except Exception:
            self.failed = traceback.format_exc()

    def check(self):
        if self.failed:
            raise farlib.Failure("%s: %s" % (self.work.__name__, self.failed))

    def end(self):
        self.over.set()
        self.join(60 * farlib.SLOW)
        if self.failed or self.is_alive():
            raise farlib.Failure("%s: %s" % (self.work.__name__, self.failed or "does not end"))


class Task:
    def __init__(self, kind, workload, disk, node):
        self.kind, self.workload, self.disk = kind, workload, disk
        self.state, self.node, self.began = "assigned" if node else "waiting", node, time.monotonic()


class Cycles:
    """The state of all jobs, from the stream of events; told is notified at each."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.told = threading.Condition()
        self.cursor = "start"
        self.tasks, self.jobs, self.views, self.workloads = {}, {}, {}, {}
        self.usual = {}  # kind, workload, disk: seconds that the last such task took
        self.attempts = collections.Counter()
        self.points = queue.Queue()
        self.point_count, self.last_progress, self.ends = 0, time.monotonic(), collections.Counter()
        self.refused = []  # lists of changes: why
        self.lost_freezes = set()  # job-task-attempt, as the views of the file adapter are called

    def follow(self, over):
        """Reads the stream of one server after the other; whichever dies, the cursor goes on with the next."""
        servers = list(self.cluster.servers.values())
        while not over.is_set():
            server = servers[0]
            servers.append(servers.pop(0))
            if server.alive():
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    self.read(server, over)
            over.wait(0.02)

    def read(self, server, over):
        host, port = server.api.rsplit(":", 1)
        connection = http.client.HTTPSConnection(host, int(port), context=self.cluster.context, timeout=12)
        with contextlib.closing(connection):
            connection.request("GET", "/v1/events?format=ndjson&follow=true&from=" + self.cursor,
                               headers={"Authorization": "Bearer " + self.cluster.token})
            answer = connection.getresponse()
            while answer.status == 200 and not over.is_set():
                line = answer.readline()
                if not line:
                    return
                event = json.loads(line)
                if "kind" in event:
                    with self.told:
                        self.take(event)
                        self.cursor = "%d-%s" % (event["seq"], event["head"][:16])
                        self.told.notify_all()

    def take(self, event):
        data = event["data"]
        handler = getattr(self, "on_" + event["kind"], None)
        if handler:
            handler(data)

    def on_workload_created(self, data):
        self.workloads[data["id"]] = data["name"]

    def on_job_started(self, data):
        self.jobs[data["id"]] = {"kind": data["kind"], "state": "running"}

    def on_tasks_created(self, data):
        for number, item in enumerate(data["items"], data["first_task"]):
            self.tasks[data["job_id"], number] = Task(item["kind"], item["workload_id"], item["disk_index"], item["node_id"])

    def on_tasks_changed(self, data):
        for item in data["items"]:
            job = item["job_id"] or data["job_id"]
            task = self.tasks[job, item["task"]]
            step = item["step"]
            if step in ("retry", "lose", "redo", "suspend"):
                self.attempts[task.kind, step] += 1
                task.state = "waiting"
                if task.kind == "freeze" and step == "lose":
                    self.lost_freezes.add("%d-%d-%d" % (job, item["task"], item["attempt"] - 1))
            elif step == "assign":
                task.state, task.node, task.began = "assigned", item["node_id"], time.monotonic()
            elif step in ("finish", "fail", "cancel"):
                task.state = step
                self.usual[task.kind, task.workload, task.disk] = time.monotonic() - task.began
                if step == "fail":
                    print("# job %d: %s failed: %s" % (job, task.kind, item["error_message"]), flush=True)
            if task.kind == "freeze" and step == "finish":
                self.views[job, task.workload] = item["freeze_ref"]

    def on_point_created(self, data):
        view = self.views.get((data["job_id"], data["workload_id"]), "")
        self.point_count += 1
        self.points.put((data, view))

    def on_change_list_refused(self, data):
        self.refused.append(data)

    def on_checkpoint_created(self, data):
        self.last_progress = time.monotonic()

    def on_job_finished(self, data):
        job = self.jobs[data["job_id"]]
        job["state"] = data["state"]
        self.ends[job["kind"], data["state"]] += 1
        for key in [key for key in self.tasks if key[0] == data["job_id"]]:
            del self.tasks[key]

    def running(self):
        return [job for job, row in self.jobs.items() if row["state"] == "running" and row["kind"] == "replicate"]

    def in_phase(self, phase, share):
        """Tasks that are in this phase, True where it is not about one. A share is one of the time that the last one took."""
        if phase == "between":
            return [True] if len(self.running()) < 2 else []
        now = time.monotonic()
        return [task for task in self.tasks.values() if task.kind == phase and task.state == "assigned" and
                now - task.began >= share * self.usual.get((phase, task.workload, task.disk), 1.0)]


class Copies:
    """Copies each view under names of its own, by image and hint."""
    NAME = re.compile(r"(.*\.img)\.farshore-(base-)?(\d+-\d+-\d+)$")

    def __init__(self, folder):
        """Makes the folders held and copies in it."""
        self.folder = folder
        for name in ("held", "copies"):
            os.mkdir(os.path.join(folder, name))
        self.seen, self.pending, self.copies, self.lock = {}, [], {}, threading.Lock()

    def watch(self, over):
        while not over.is_set():
            self.look()
            over.wait(0.003)

    def look(self):
        for entry in list(os.scandir(self.folder)):
            name = self.NAME.match(entry.name)
            if name and (name.group(1), name.group(3), entry.inode()) not in self.seen:
                self.hold(entry, name.group(1), name.group(3))
        self.pending = [one for one in self.pending if not self.copied(*one)]

    def hold(self, entry, image, hint):
        """Another name for it, first of all: from here on it cannot go away."""
        held = os.path.join(self.folder, "held", "%s.%s.%d" % (image, hint, entry.inode()))
        with contextlib.suppress(FileNotFoundError):
            os.link(entry.path, held)
            self.seen[image, hint, entry.inode()] = True
            self.pending.append((image, hint, held))

    def copied(self, image, hint, held):
        """As soon as it bears its mark it is whole: nobody has read it yet, or only now."""
        try:
            os.getxattr(held, "user.farshore.view")
        except OSError:
            return False
        copy = held.replace("/held/", "/copies/")
        reflink(held, copy)
        os.unlink(held)
        with self.lock:
            self.copies.setdefault((image, hint), []).append(copy)
        return True

    def copy_of(self, image, hint):
        """The last one of this hint: a freeze that is repeated makes its view anew, before anybody reads it."""
        with self.lock:
            return self.copies.get((image, hint), [None])[-1]

    def forget(self, before_job):
        """Copies of older cycles."""
        with self.lock:
            for key in [key for key in self.copies if int(key[1].split("-")[0]) < before_job]:
                for copy in self.copies.pop(key):
                    os.unlink(copy)


class Checker:
    """Recovers each announced point with nothing but the vault's folder, whether its node runs or not, and compares."""

    def __init__(self, cluster, cycles, copies, images):
        """images: the paths of each workload's disks, in their order."""
        self.cluster, self.cycles, self.copies, self.images = cluster, cycles, copies, images
        self.vaults = {cluster.get("/v1/nodes/" + name)["id"]: os.path.join(node.dir, "vault") for name, node in cluster.nodes.items()}
        self.locks = {vault: threading.Lock() for vault in self.vaults.values()}
        self.wrong, self.checked, self.disks = [], 0, 0
        self.newest = {}  # workload: (point, copies)

    def reading(self, node):
        """While it is held nobody reads this node's vault: it does not start while somebody reads what he found unused."""
        return self.locks[os.path.join(node.dir, "vault")]

    def check(self, over):
        while not (over.is_set() and self.cycles.points.empty()):
            try:
                point, view = self.cycles.points.get(timeout=0.2)
            except queue.Empty:
                continue
            self.check_point(point, self.cycles.workloads[point["workload_id"]], view)
            self.checked += 1

    def check_point(self, point, workload, view):
        hint = view.partition(":")[2]
        tokens = {disk["token"] for disk in point["disks"]}
        if not view.startswith("clone:") or not tokens <= {"", hint}:
            self.wrong.append("point %d of '%s': its freeze reported view '%s', its disks name %r" % (point["id"], workload, view, tokens))
            return
        found = []
        for disk, image in zip(point["disks"], self.images[workload], strict=True):
            found.append(farlib.until(lambda name=os.path.basename(image): self.copies.copy_of(name, hint), 20, "a copy of view " + hint))
            self.compare(point, workload, disk, found[-1])
        self.newest[workload] = (point, found)
        if len(self.newest) == len(self.images):
            self.copies.forget(min(newest["job_id"] for newest, _ in self.newest.values()))

    def compare(self, point, workload, disk, copy):
        vault = self.vaults[point["node_id"]]
        target = os.path.join(self.cluster.base, "point-%d-%s" % (point["id"], disk["name"]))
        with self.locks[vault]:
            status, text = self.cluster.run_tool("farshore-node", "vault", "recover", "--offline", "--vault", vault, "--point",
                                                 str(point["id"]), "--disk", disk["name"], "--target", target, check=False)
        self.disks += 1
        what = "point %d of '%s', disk %s, root %s" % (point["id"], workload, disk["name"], disk["root"][:16])
        if status != 0:
            self.wrong.append("%s cannot be recovered: %s" % (what, text[-400:]))
        elif subprocess.run(["cmp", target, copy], stdin=subprocess.DEVNULL).returncode != 0:
            self.wrong.append("%s differs from its view in %d blocks" % (what, farlib.changed_bytes(target, copy) // farlib.BLOCK))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)
