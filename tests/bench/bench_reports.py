#!/usr/bin/env python3
"""Progress samples of nodes, durable on a majority: 50 nodes over mutual TLS, each with 200 running tasks, say how far these are, one
report after the other, each confirmed before the next. The mark: 100,000 samples a second; and another client's commands, one
after the other, are at most 20 ms slower at 99 % than without the reports.

The nodes are made by `farshore-node join`; their links are spoken here (docs/FORMATS.md). The tasks are the freezes of 10,000
workloads in 40 plans.

far-timeout: 600
"""
import concurrent.futures
import http.client
import json
import os
import ssl
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import bench_etcd  # noqa: E402
import farlib  # noqa: E402
import tap  # noqa: E402

NODES, PLANS, SECONDS = 50, 40, int(os.environ.get("FAR_SECONDS", "10"))
MARK, DELAY_MS, VARIANTS = 100000, 20, 8
HELLO, WELCOME, ORDERS, REPORT, REPORT_ACK, REFUSED = 1, 2, 3, 4, 5, 6
RUNNING = 1


# ---- msgpack, as far as links need it ----

def pack(value):
    if isinstance(value, dict):
        head = bytes([0x80 | len(value)]) if len(value) < 16 else b"\xde" + struct.pack(">H", len(value))
        return head + b"".join(pack(key) + pack(value[key]) for key in sorted(value))
    if isinstance(value, list):
        head = bytes([0x90 | len(value)]) if len(value) < 16 else b"\xdc" + struct.pack(">H", len(value))
        return head + b"".join(map(pack, value))
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, bytes):
        return b"\xc4" + bytes([len(value)]) + value
    if isinstance(value, str):
        text = value.encode()
        return (bytes([0xa0 | len(text)]) if len(text) < 32 else b"\xd9" + bytes([len(text)])) + text
    if value < 0x80:
        return bytes([value])
    for code, form, most in ((0xcc, ">B", 0xff), (0xcd, ">H", 0xffff), (0xce, ">I", 0xffffffff), (0xcf, ">Q", 1 << 64)):
        if value <= most:
            return bytes([code]) + struct.pack(form, value)
    raise ValueError(value)


def unpack(data, at=0):
    """(value, place behind it)."""
    code, at = data[at], at + 1
    if code < 0x80:
        return code, at
    if code == 0xc3:
        return True, at
    if 0xcc <= code <= 0xcf:
        size = 1 << (code - 0xcc)
        return int.from_bytes(data[at:at + size], "big"), at + size
    sizes = {0xc4: 1, 0xc5: 2, 0xc6: 4, 0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4}
    if code in sizes:
        count, at = int.from_bytes(data[at:at + sizes[code]], "big"), at + sizes[code]
    else:
        count = code & (0x1f if code >= 0xa0 else 0x0f)
    if code in (0xc4, 0xc5, 0xc6, 0xd9, 0xda, 0xdb) or 0xa0 <= code < 0xc0:
        return bytes(data[at:at + count]), at + count
    if code in (0xdc, 0xdd) or 0x90 <= code < 0xa0:
        items = []
        for _ in range(count):
            item, at = unpack(data, at)
            items.append(item)
        return items, at
    pairs = {}
    for _ in range(count):
        key, at = unpack(data, at)
        pairs[key], at = unpack(data, at)
    return pairs, at


# ---- a node ----

class Link:
    """A node's stream to a server: booted when made."""

    def __init__(self, node, server, number):
        config = dict(line.split(" = ", 1) for line in open(os.path.join(node.dir, "config"), encoding="utf-8").read().splitlines()
                      if " = " in line and not line.startswith("#"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(os.path.join(node.dir, "ca.crt"))
        context.load_cert_chain(os.path.join(node.dir, "node.crt"), os.path.join(node.dir, "node.key"))
        host, port = server.rsplit(":", 1)
        self.stream = context.wrap_socket(socket.create_connection((host, int(port)), timeout=30))
        self.id, self.tasks, self.said, self.sequence, self.samples = int(config["node_id"]), {}, [], 0, 0
        self.stream.sendall(b"FARG" + struct.pack("<HH", 0, 0) + bytes.fromhex(config["cluster_uuid"]) +
                            struct.pack("<QHBB4xQQ8x", int(config["incarnation_epoch"]), 2, 2, 1, self.id, 0))
        verdict = struct.unpack_from("<H", self.read(64), 6)[0]
        if verdict != 1:
            raise farlib.Failure("the greeting was refused: %d" % verdict)
        self.send(HELLO, {1: self.id, 2: bytes([number]) * 16, 3: node.data, 4: "bench", 5: ["file"]})
        self.wait(WELCOME)

    def read(self, size):
        data = b""
        while len(data) < size:
            piece = self.stream.recv(size - len(data))
            if not piece:
                raise farlib.Failure("a link ended")
            data += piece
        return data

    def send(self, kind, message):
        payload = pack(message) if isinstance(message, dict) else message
        self.stream.sendall(struct.pack("<IHH", len(payload), kind, 0) + payload)

    def take(self):
        """One frame: its kind and message; orders are kept."""
        size, kind, _ = struct.unpack("<IHH", self.read(8))
        message = unpack(self.read(size))[0] if size else {}
        if kind == REFUSED:
            raise farlib.Failure("hello refused: %s" % message)
        if kind == ORDERS:
            for order in message.get(1, []):
                self.tasks[(order[1], order[2])] = order[3]
            for order in message.get(2, []):
                self.tasks.pop((order[1], order[2]), None)
        return kind, message

    def wait(self, kind):
        while True:
            got, message = self.take()
            if got == kind:
                return message

    def report(self, items):
        self.sequence += 1
        self.send(REPORT, b"\x82\x01" + pack(self.sequence) + b"\x02" + items)
        ack = self.wait(REPORT_ACK)
        if ack.get(2):
            raise farlib.Failure("a report was refused: %s" % ack)

    def items(self, done):
        return pack([{1: job, 2: task, 3: attempt, 4: RUNNING, 5: 1 << 36, 6: done, 7: done >> 3, 8: done >> 4}
                     for (job, task), attempt in sorted(self.tasks.items())])

    def gather(self, until):
        """Orders come with the answers to reports, which keep the node up."""
        while time.monotonic() < until:
            self.report(self.items(1))
            time.sleep(0.5)  # far-poll: a node reports now and then

    def prepare(self):
        """What the reports will say, so that this program does not need the processor of those that it measures."""
        self.said = [self.items((i << 20) + 4096) for i in range(VARIANTS)]

    def work(self, until):
        """Reports until then; how far the tasks are changes with each."""
        while time.monotonic() < until:
            self.report(self.said[self.sequence % VARIANTS])
            self.samples += len(self.tasks)


# ---- the other client ----

def probe(address, ca, token, seconds):
    """Commands one after the other; prints the median and 99 % in ms. A process of its own."""
    host, port = address.rsplit(":", 1)
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=30)
    took, until, count = [], time.monotonic() + seconds, 0
    while time.monotonic() < until:
        start, count = time.monotonic(), count + 1
        connection.request("PATCH", "/v1/workloads/w-00000", body=json.dumps({"description": "probe %d" % count}),
                           headers={"Authorization": "Bearer " + token})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            sys.exit("a command failed: %d" % answer.status)
        took.append((time.monotonic() - start) * 1000)
        time.sleep(0.005)  # far-poll: of a client that does other things too
    took.sort()
    print(took[len(took) // 2], took[len(took) * 99 // 100])


def start_probe():
    return subprocess.Popen([sys.executable, os.path.abspath(__file__), "--probe", CLUSTER.wait_leader().api, CLUSTER.ca_file,
                             CLUSTER.token, str(SECONDS)], stdout=subprocess.PIPE, text=True)


def result_of(prober):
    out, _ = prober.communicate()
    if prober.returncode != 0:
        raise farlib.Failure("the other client failed")
    return [float(word) for word in out.split()]


# ---- the test ----

def make_tasks():
    bench_etcd.register_all(CLUSTER)
    share = bench_etcd.WORKLOADS // PLANS
    for plan in range(PLANS):
        CLUSTER.post("/v1/plans", {"name": "p-%d" % plan, "source_site": "protected", "target_site": "recovery",
                                   "workloads": ["w-%05d" % i for i in range(plan * share, (plan + 1) * share)]})


def all_at_once(work):
    with concurrent.futures.ThreadPoolExecutor(NODES) as pool:
        for done in [pool.submit(work, link) for link in LINKS]:
            done.result()


def connect():
    server = CLUSTER.wait_leader()
    for i in range(NODES):
        node = CLUSTER.add_node("n%d" % i, "protected", start=False)
        LINKS.append(Link(node, server.peer, i + 1))
    for plan in range(PLANS):
        CLUSTER.post("/v1/plans/p-%d/replicate" % plan)
    for _ in range(20):
        until = time.monotonic() + 2
        all_at_once(lambda link: link.gather(until))
        if sum(len(link.tasks) for link in LINKS) >= bench_etcd.WORKLOADS:
            all_at_once(Link.prepare)
            return
    raise farlib.Failure("only %d tasks were given out" % sum(len(link.tasks) for link in LINKS))


def samples_are_durable_and_others_hardly_wait():
    make_tasks()
    _, alone = result_of(start_probe())
    connect()
    prober, start = start_probe(), time.monotonic()
    all_at_once(lambda link: link.work(start + SECONDS))
    rate = sum(link.samples for link in LINKS) / (time.monotonic() - start)
    median, busy = result_of(prober)
    print("# %d nodes, %d tasks: %.0f samples/s, mark %d, ratio %.2f; other commands: 99 %% %.1f ms alone, %.1f ms meanwhile "
          "(median %.1f ms), %.1f ms more, mark %d ms" % (NODES, sum(len(link.tasks) for link in LINKS), rate, MARK, rate / MARK,
                                                         alone, busy, median, busy - alone, DELAY_MS))
    wrong = [] if rate >= MARK else ["%.0f samples/s are below the mark of %d" % (rate, MARK)]
    return wrong + ([] if busy - alone < DELAY_MS else ["%.1f ms more are above the mark of %d" % (busy - alone, DELAY_MS)])


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--probe":
        probe(sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5]))
        sys.exit(0)
    LINKS = []
    with farlib.Cluster(nodes=False) as CLUSTER:
        tap.run_all([samples_are_durable_and_others_hardly_wait])
