#!/usr/bin/env python3
"""Writes against etcd: three members on loopback each, alternating in one run, random keys among 10,000, bodies of about 256 bytes.

etcd: Debian's, puts through its JSON gateway in plain HTTP. Farshore: PATCH of a workload over HTTPS with a token; each writes
its events and rows. Both get their requests at the leader, from wrk with 1, 16 and 128 connections. Marks: requests per second
at least 2, 2.5 and 2.5 times etcd's, 99 % of the latencies no longer (ratios of medians).

far-timeout: 900
"""
import concurrent.futures
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import farlib  # noqa: E402
import tap  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = int(os.environ.get("FAR_ROUNDS", "3"))
SECONDS = int(os.environ.get("FAR_SECONDS", "6"))
WORKLOADS = 10000
WRITERS = 10
MARKS = {1: 2.0, 16: 2.5, 128: 2.5}


class Etcd:
    """Three members, their data beside that of our servers."""

    def __init__(self, base):
        self.base, self.members = base, []
        ports = farlib.free_ports(6)
        self.clients, peers = ports[:3], ports[3:]
        cluster = ",".join("m%d=http://127.0.0.1:%d" % (i, peers[i]) for i in range(3))
        for i in range(3):
            client, peer = "http://127.0.0.1:%d" % self.clients[i], "http://127.0.0.1:%d" % peers[i]
            argv = ["etcd", "--name", "m%d" % i, "--data-dir", os.path.join(base, "m%d" % i), "--listen-client-urls", client,
                    "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                    "--initial-cluster", cluster, "--initial-cluster-state", "new"]
            self.members.append(farlib.Process("m%d" % i, argv, os.path.join(base, "m%d.log" % i)).start())

    def leader(self):
        """The client address of the member that leads."""
        def ask():
            for port in self.clients:
                request = urllib.request.Request("http://127.0.0.1:%d/v3/maintenance/status" % port, b"{}")
                with urllib.request.urlopen(request, timeout=2) as answer:
                    status = json.load(answer)
                if status.get("leader") and status["leader"] == status["header"]["member_id"]:
                    return "http://127.0.0.1:%d" % port
            return None
        return farlib.until(ask, 30, "etcd has a leader")

    def kill(self):
        for member in self.members:
            member.kill()


def register(cluster, first, last):
    host, port = cluster.wait_leader().api.rsplit(":", 1)
    connection = http.client.HTTPSConnection(host, int(port), context=cluster.context, timeout=30)
    for i in range(first, last):
        body = {"name": "w-%05d" % i, "site": "protected", "adapter": "file",
                "disks": [{"name": "root", "locator": "/disks/w-%05d" % i}]}
        connection.request("POST", "/v1/workloads", body=json.dumps(body), headers={"Authorization": "Bearer " + cluster.token})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            raise farlib.Failure("workload %d: %d %s" % (i, answer.status, text))
    connection.close()


def register_all(cluster):
    with concurrent.futures.ThreadPoolExecutor(WRITERS) as pool:
        share = WORKLOADS // WRITERS
        for done in [pool.submit(register, cluster, i * share, (i + 1) * share) for i in range(WRITERS)]:
            done.result()


def run(kind, url, connections, token=None):
    argv = ["wrk", "-t", "1" if connections == 1 else "2", "-c", str(connections), "-d", "%ds" % SECONDS, "--timeout", "10s",
            "-s", os.path.join(HERE, "wrk_writes.lua"), url, "--", kind] + ([token] if token else [])
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    words = [line for line in out.splitlines() if line.startswith("WRK ")][0].split()
    requests, us, errors, p99, median = (int(word) for word in words[1:])
    if errors > 0:
        raise farlib.Failure("%d of %d requests to %s failed" % (errors, requests, kind))
    return requests * 1e6 / us, p99 / 1000, median / 1000


def compare(cluster, etcd, connections):
    figures = {"etcd": [], "farshore": []}
    for _ in range(ROUNDS):
        figures["etcd"].append(run("etcd", etcd.leader(), connections))
        figures["farshore"].append(run("farshore", "https://" + cluster.wait_leader().api, connections, cluster.token))
    medians = {kind: [statistics.median(column) for column in zip(*rows)] for kind, rows in figures.items()}
    (rate, p99, p50), (their_rate, their_p99, their_p50) = medians["farshore"], medians["etcd"]
    print("# %3d connections | etcd %6.0f/s, 50 %% %7.2f ms, 99 %% %7.2f ms | farshore %6.0f/s, 50 %% %7.2f ms, 99 %% %7.2f ms | "
          "ratio %.2f, mark %.1f | 99 %% ratio %.2f" % (connections, their_rate, their_p50, their_p99, rate, p50, p99,
                                                       rate / their_rate, MARKS[connections], p99 / their_p99), flush=True)
    wrong = []
    if rate < MARKS[connections] * their_rate:
        wrong.append("%.2f times etcd's requests are below the mark of %.1f" % (rate / their_rate, MARKS[connections]))
    if p99 > their_p99:
        wrong.append("99 %% in %.2f ms is longer than etcd's %.2f ms" % (p99, their_p99))
    return wrong


def test(connections):
    def check():
        return compare(CLUSTER, ETCD, connections)
    check.__name__ = "writes_of_%d_connections_against_etcd" % connections
    return check


if __name__ == "__main__":
    BASE = tempfile.mkdtemp(prefix="far-etcd-")
    ETCD = Etcd(BASE)
    try:
        with farlib.Cluster(nodes=False) as CLUSTER:
            register_all(CLUSTER)
            ETCD.leader()
            tap.run_all([test(connections) for connections in sorted(MARKS)])
    finally:
        ETCD.kill()
        shutil.rmtree(BASE, ignore_errors=True)
