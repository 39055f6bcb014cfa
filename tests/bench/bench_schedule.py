#!/usr/bin/env python3
"""One control plane with 10,000 workloads in 500 plans, each with a cycle every five minutes: three servers, and nodes that are only
spoken here (their links, as in bench_reports.py): each task they get is done half a second later, with a tree that changes each time.
They report as farshore-node does: that a task runs, or ended, as soon as the report before is answered, and each second how far all are.

The marks (of the cycles behind each plan's first): a cycle begins at most 1 s after it is due (all of them); lists and details are
answered within 50 ms at 99 %; no server takes more than 1 GiB (RssAnon and RssShmem); at most 4 events and 1 KiB of them per disk and
cycle.

  FAR_PLANS, FAR_WORKLOADS (of each), FAR_INTERVAL_S, FAR_CYCLES (2, behind the first) make it smaller.

far-timeout: 3600
"""
import base64
import concurrent.futures
import hashlib
import http.client
import json
import os
import random
import select
import ssl
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import bench_reports  # noqa: E402
import farlib  # noqa: E402
import tap  # noqa: E402
import transfer_kit as kit  # noqa: E402

PLANS, SHARE = int(os.environ.get("FAR_PLANS", "500")), int(os.environ.get("FAR_WORKLOADS", "20"))
INTERVAL_S, CYCLES = int(os.environ.get("FAR_INTERVAL_S", "300")), int(os.environ.get("FAR_CYCLES", "2"))
SOURCES = TARGETS = 10
DISK, TASK_S, PROGRESS_S, SETTLE_S = 1 << 30, 0.5, 1, 30
RUNNING, DONE, FREEZE, SEND, RECEIVE, SEAL, RELEASE = 1, 2, 1, 2, 3, 4, 5
ROW_BYTES = 64 + 32 + 8  # of an event beside its payload


class Worker(bench_reports.Link):
    """A node that does what it is told, soon."""

    def __init__(self, node, server, number):
        self.orders, self.told, self.reported = {}, set(), 0.0
        super().__init__(node, server, number)

    def take(self):
        size, kind, _ = struct.unpack("<IHH", self.read(8))
        message = bench_reports.unpack(self.read(size))[0] if size else {}
        if kind == bench_reports.REFUSED:
            raise farlib.Failure("hello refused: %s" % message)
        if kind == bench_reports.ORDERS:
            for order in message.get(1, []):
                self.orders[(order[1], order[2])] = (time.monotonic() + TASK_S, order)
            for order in message.get(2, []):
                self.orders.pop((order[1], order[2]), None)
                self.told.discard((order[1], order[2]))
        return kind, message

    def done(self, order):
        item = {1: order[1], 2: order[2], 3: order[3], 4: DONE}
        if order[4] == FREEZE:
            item.update({5: DISK, 11: DISK, 12: "view-%d" % order[1], 14: int(time.time() * 1000),
                         15: [{1: i, 2: DISK, 3: "disk-%d" % order[10]} for i in range(len(order[13]))]})
        if order[4] in (SEND, RECEIVE):  # both know the new tree by the cycle and the disk
            root = hashlib.sha256(b"%d %d" % (order[1], order[15])).digest()
            item.update({5: DISK, 6: DISK, 7: 10 << 20, 8: 5 << 20, 9: 500, 10: root, 11: DISK, 20: True})
        return item

    def running(self, order, is_new):
        item = {1: order[1], 2: order[2], 3: order[3], 4: RUNNING}
        if order[4] in (SEND, RECEIVE):
            item.update({5: DISK} if is_new else {5: DISK, 6: DISK >> 1, 7: 1 << 20, 8: 1 << 19})
        return item

    def step(self):
        """One report, if there is something to say."""
        now = time.monotonic()
        is_due = now - self.reported >= PROGRESS_S
        ready = [key for key, (due, _) in self.orders.items() if due <= now][:150]
        begun = [key for key in self.orders if key not in ready and (is_due or key not in self.told)][:200 - len(ready)]
        if ready or begun or is_due:
            items = [self.done(self.orders.pop(key)[1]) for key in ready]
            items += [self.running(self.orders[key][1], key not in self.told) for key in begun]
            self.told.update(begun)
            self.told.difference_update(ready)
            self.reported = now
            self.report(bench_reports.pack(items))
        return bool(ready or begun)

    def listen(self):
        """Orders, until something is to be said."""
        soon = min([due for due, _ in self.orders.values()] + [self.reported + PROGRESS_S])
        while self.stream.pending() or select.select([self.stream], [], [], max(0.0, soon - time.monotonic()))[0]:
            if self.take()[0] == bench_reports.ORDERS:
                return

    def serve(self, ended):
        while not ended.is_set():
            if not self.step():
                self.listen()


# ---- the other client, a process of its own ----

def probe(address, ca, token, seconds):
    host, port = address.rsplit(":", 1)
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
    rng, took, until = random.Random(1), {}, time.monotonic() + seconds

    def get(kind, path):
        name = kind + " " + path.split("?")[0].split("/")[2]
        start = time.monotonic()
        connection.request("GET", path, headers={"Authorization": "Bearer " + token})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 200:
            sys.exit("%s failed: %d" % (path, answer.status))
        for of in (kind, name):
            took.setdefault(of, []).append((time.monotonic() - start) * 1000)
        return json.loads(text)

    while time.monotonic() < until:
        for path in ("/v1/plans?limit=100", "/v1/workloads?limit=100", "/v1/points?limit=100", "/v1/checkpoints?limit=100"):
            get("list", path)
        jobs = get("list", "/v1/jobs?limit=100")["items"]
        get("detail", "/v1/plans/p-%d" % rng.randrange(PLANS))
        get("detail", "/v1/workloads/w-%05d" % rng.randrange(PLANS * SHARE))
        get("detail", "/v1/jobs/%d" % rng.choice(jobs)["id"])
        time.sleep(0.05)  # far-poll: of a client that does other things too
    print(json.dumps({kind: [sorted(times)[len(times) * percent // 100] for percent in (50, 99)] for kind, times in took.items()}))


# ---- the run ----

def make_plans(cluster):
    bench_reports.bench_etcd.WORKLOADS = PLANS * SHARE
    bench_reports.bench_etcd.register_all(cluster)
    for plan in range(PLANS):
        cluster.post("/v1/plans", {"name": "p-%d" % plan, "source_site": "protected", "target_site": "recovery", "interval_s": INTERVAL_S,
                                   "workloads": ["w-%05d" % i for i in range(plan * SHARE, (plan + 1) * SHARE)]})


def events_from(cluster, place):
    body = cluster.request(cluster.wait_leader(), "GET", "/v1/events?from=%s&follow=false&format=ndjson&proof=headers" % place,
                           timeout=600)[2]
    for line in body.splitlines():
        event = json.loads(line)
        if "seq" in event:
            yield event


def look(events, begin_ms):
    """How late cycles began, and what they cost, of the events since then; and which share of their points those made that began more
    than SETTLE_S before the end."""
    due, late, kinds, made, began, last_ms = {}, [], {}, {}, {}, 0
    for event in events:
        data, last_ms = event["data"] or {}, event["time_ms"]
        is_counted = last_ms >= begin_ms
        if is_counted:
            count, size = kinds.get(event["kind"], (0, 0))
            kinds[event["kind"]] = (count + 1, size + ROW_BYTES + struct.unpack_from("<I", base64.b64decode(event["header"]), 56)[0])
        if event["kind"] == "plan_scheduled":
            due.setdefault(data["plan_id"], []).append(data["due_ms"])
        if event["kind"] == "job_started" and is_counted:
            began[data["id"]] = last_ms
            late.append(last_ms - max((d for d in due.get(data["plan_id"], []) if d <= last_ms), default=0))
        if event["kind"] == "point_created" and is_counted:
            made[data["job_id"]] = made.get(data["job_id"], 0) + 1
    settled = [job for job, time_ms in began.items() if time_ms < last_ms - SETTLE_S * 1000]
    share = sum(made.get(job, 0) for job in settled) / max(len(settled) * SHARE, 1)
    return late, kinds, sum(made.values()), len(began), share


def run(cluster):
    make_plans(cluster)
    leader = cluster.wait_leader()
    workers = [Worker(cluster.add_node("%s%d" % (kind, i), site, start=False), leader.peer, number * 10 + i + 1)
               for number, (kind, site, many) in enumerate((("s", "protected", SOURCES), ("t", "recovery", TARGETS)))
               for i in range(many)]
    ended, peak = threading.Event(), 0
    with concurrent.futures.ThreadPoolExecutor(len(workers)) as pool:
        serving = [pool.submit(worker.serve, ended) for worker in workers]
        try:
            began = time.monotonic()
            for plan in range(PLANS):  # spread over an interval, as people make plans at any time
                cluster.post("/v1/plans/p-%d/start" % plan)
                time.sleep(max(0.0, began + INTERVAL_S * 0.9 * (plan + 1) / PLANS - time.monotonic()))  # far-poll: one plan after the other
            begin_ms = int(time.time() * 1000) + 5000
            seconds = INTERVAL_S * CYCLES
            prober = subprocess.Popen([sys.executable, os.path.abspath(__file__), "--probe", leader.api, cluster.ca_file, cluster.token,
                                       str(seconds)], stdout=subprocess.PIPE, text=True)
            while prober.poll() is None:
                peak = max([peak] + [server.memory() for server in cluster.servers.values()])
                time.sleep(1)  # far-poll: the memory of the servers now and then
            said = json.loads(prober.stdout.read())
        finally:
            ended.set()
        for done in serving:
            done.result()
    figures = look(events_from(cluster, "start"), begin_ms)
    return (*figures, said, peak)


def measure():
    with farlib.Cluster(nodes=False) as cluster:
        late, kinds, disks, cycles, share, said, peak = run(cluster)
    late.sort()
    count, size = (sum(figures) for figures in zip(*kinds.values()))
    kit.say("%d cycles, %d points, %d events of %d bytes; late by %d ms in the middle" % (cycles, disks, count, size, late[len(late) // 2]))
    for kind, (number, length) in sorted(kinds.items(), key=lambda item: -item[1][0]):
        kit.say("  %-20s %6.3f events and %6.1f bytes a disk and cycle" % (kind, number / max(disks, 1), length / max(disks, 1)))
    for kind, (half, most) in sorted(said.items()):
        kit.say("  %-20s p50 %5.1f ms, p99 %5.1f ms" % (kind, half, most))
    return {"late": late[-1] / 1000, "late99": late[len(late) * 99 // 100] / 1000, "events": count / max(disks, 1),
            "bytes": size / max(disks, 1), "list": said["list"][1], "detail": said["detail"][1], "memory": peak,
            "share": share}


measured = kit.Measured({"schedule": measure})


def schedules_are_kept_within_a_second():
    figures = measured("schedule")
    kit.say("99 %% of the cycles began within %.2f s" % figures["late99"])
    return kit.mark("seconds late, the worst cycle", figures["late"], at_most=1) + \
        kit.mark("cycles that made all their points", figures["share"], at_least=0.99)


def lists_and_details_take_less_than_50_ms():
    figures = measured("schedule")
    return kit.mark("99 % of lists, ms", figures["list"], at_most=50) + kit.mark("99 % of details, ms", figures["detail"], at_most=50)


def servers_take_less_than_a_gibibyte():
    return kit.mark("MiB of the largest server", measured("schedule")["memory"] / (1 << 20), at_most=1024)


def the_event_budget_is_kept():
    figures = measured("schedule")
    return kit.mark("events per disk and cycle", figures["events"], at_most=4) + \
        kit.mark("bytes per disk and cycle", figures["bytes"], at_most=1024)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--probe":
        probe(sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5]))
        sys.exit(0)
    tap.run_all([schedules_are_kept_within_a_second, lists_and_details_take_less_than_50_ms, servers_take_less_than_a_gibibyte,
                 the_event_budget_is_kept])
