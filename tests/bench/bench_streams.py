#!/usr/bin/env python3
"""Events delivered to 200 TLS consumers of one server, in sum: the mark 400,000 a second, without a gap or a repetition; 20 more
that are opened and never read must cost the others nothing (a tenth at most, which is what the machine's own noise is). Then the
leader is killed in the middle: all go on at another server from their cursors, and miss nothing.

far-timeout: 600
"""
import os
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import bench_etcd  # noqa: E402
import farlib  # noqa: E402
import tap  # noqa: E402

BUILD = os.path.abspath(os.environ.get("FAR_BUILD", "."))
ROUNDS = int(os.environ.get("FAR_ROUNDS", "3"))
CONSUMERS, STOPPED, MARK, NOISE = 200, 20, 400000, 1.1
figures = {}


def run(stopped, kill_ms=None):
    """(events a second, seconds of the slowest, how often one went on elsewhere); kill_ms: the leader dies so long after all asked."""
    leader = CLUSTER.wait_leader()
    last = CLUSTER.call("GET", "/v1/log/head", server=leader)["seq"]
    servers = [leader] + [server for server in CLUSTER.servers.values() if server is not leader]
    process = subprocess.Popen([os.path.join(BUILD, "tests/bench/streams"), ",".join(s.api.rsplit(":", 1)[1] for s in servers),
                                CLUSTER.ca_file, CLUSTER.token, str(CONSUMERS), str(last), str(stopped)], stdout=subprocess.PIPE,
                               text=True)
    process.stdout.readline()
    if kill_ms is not None:
        time.sleep(kill_ms / 1000)  # far-poll: in the middle of their streams
        leader.kill()
    out, _ = process.communicate()
    if process.returncode != 0:
        raise farlib.Failure("the consumers gave up")
    seconds, events, wrong, _, slowest, resumed = (float(word) for word in out.split())
    if wrong > 0 or events != CONSUMERS * last:
        raise farlib.Failure("%d events of %d came, %d of them out of order" % (events, CONSUMERS * last, wrong))
    return events / seconds, slowest, resumed


def measure():
    if not figures:
        rows = {0: [], STOPPED: []}
        for _ in range(ROUNDS):
            for stopped in rows:
                rows[stopped].append(run(stopped))
        figures.update({stopped: [statistics.median(column) for column in zip(*runs)] for stopped, runs in rows.items()})
    return figures


def two_hundred_consumers_get_every_event():
    rate = measure()[0][0]
    print("# %d consumers: %.0f events/s in sum; mark %d; ratio %.2f" % (CONSUMERS, rate, MARK, rate / MARK))
    return [] if rate >= MARK else ["%.0f events/s are below the mark of %d" % (rate, MARK)]


def consumers_that_stopped_cost_the_others_nothing():
    with_them, without = measure()[STOPPED][1], measure()[0][1]
    print("# the slowest of %d: %.2f s; with %d more that do not read: %.2f s; ratio %.2f" %
          (CONSUMERS, without, STOPPED, with_them, with_them / without))
    return [] if with_them <= NOISE * without else ["%.2f times as long is more than %.1f" % (with_them / without, NOISE)]


def consumers_go_on_elsewhere_when_the_leader_dies():
    _, slowest, resumed = run(0, kill_ms=measure()[0][1] * 1000 / 3)
    print("# the leader killed in the middle: %d consumers went on at another server; all had every event once after %.2f s" %
          (resumed, slowest))
    return [] if resumed >= CONSUMERS else ["only %d of %d went on: the leader died too late" % (resumed, CONSUMERS)]


if __name__ == "__main__":
    with farlib.Cluster(nodes=False) as CLUSTER:
        bench_etcd.register_all(CLUSTER)
        tap.run_all([two_hundred_consumers_get_every_event, consumers_that_stopped_cost_the_others_nothing,
                     consumers_go_on_elsewhere_when_the_leader_dies])
