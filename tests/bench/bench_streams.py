#!/usr/bin/env python3
"""Events delivered to 200 TLS consumers of one server, in sum: the mark 400,000 a second, without a gap or a repetition; 20 more
that are opened and never read must cost the others nothing (a tenth at most, which is what the machine's own noise is).

far-timeout: 600
"""
import os
import statistics
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import bench_etcd  # noqa: E402
import farlib  # noqa: E402
import tap  # noqa: E402

BUILD = os.path.abspath(os.environ.get("FAR_BUILD", "."))
ROUNDS = int(os.environ.get("FAR_ROUNDS", "3"))
CONSUMERS, STOPPED, MARK, NOISE = 200, 20, 400000, 1.1
figures = {}


def run(stopped):
    leader = CLUSTER.wait_leader()
    last = CLUSTER.call("GET", "/v1/log/head", server=leader)["seq"]
    out = subprocess.run([os.path.join(BUILD, "tests/bench/streams"), leader.api.rsplit(":", 1)[1], CLUSTER.ca_file, CLUSTER.token,
                          str(CONSUMERS), str(last), str(stopped)], check=True, capture_output=True, text=True).stdout
    seconds, events, wrong, _, slowest = (float(word) for word in out.split())
    if wrong > 0 or events != CONSUMERS * last:
        raise farlib.Failure("%d events of %d came, %d of them out of order" % (events, CONSUMERS * last, wrong))
    return events / seconds, slowest


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


if __name__ == "__main__":
    with farlib.Cluster(nodes=False) as CLUSTER:
        bench_etcd.register_all(CLUSTER)
        tap.run_all([two_hundred_consumers_get_every_event, consumers_that_stopped_cost_the_others_nothing])
