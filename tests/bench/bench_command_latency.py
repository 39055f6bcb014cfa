#!/usr/bin/env python3
"""One client's command over HTTPS, on three servers: the median, against the disk's own fdatasync in the same run.

Alternating: a command over one kept-open connection to the leader, then a write and fdatasync of 4 KiB in the leader's
folder. The mark: median command <= 2 x median fdatasync + 0.5 ms.

far-timeout: 300
"""
import http.client
import json
import os
import statistics
import sys
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import farlib  # noqa: E402
import tap  # noqa: E402

ROUNDS = int(os.environ.get("FAR_ROUNDS", "400"))
WARM_UP = 20
cluster = None


def one_command(connection, number):
    body = json.dumps({"name": "site-%d" % number, "role": "recovery"})
    headers = {"Authorization": "Bearer " + cluster.token, "Idempotency-Key": uuid.uuid4().hex}
    began = time.perf_counter()
    connection.request("POST", "/v1/sites", body=body, headers=headers)
    answer = connection.getresponse()
    answer.read()
    taken = time.perf_counter() - began
    assert answer.status == 201, answer.status
    return taken


def one_sync(fd, number):
    began = time.perf_counter()
    os.pwrite(fd, os.urandom(4096), 4096 * (number % 1024))
    os.fdatasync(fd)
    return time.perf_counter() - began


def a_command_costs_at_most_two_syncs_and_half_a_millisecond():
    leader = cluster.wait_leader()
    host, port = leader.api.rsplit(":", 1)
    connection = http.client.HTTPSConnection(host, int(port), context=cluster.context, timeout=20)
    path = os.path.join(leader.dir, "bench.tmp")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.posix_fallocate(fd, 0, 4096 * 1024)
    os.fsync(fd)
    commands, syncs = [], []
    for number in range(ROUNDS + WARM_UP):
        commands.append(one_command(connection, number))
        syncs.append(one_sync(fd, number))
    os.close(fd)
    os.unlink(path)
    command, sync = (1000 * statistics.median(times[WARM_UP:]) for times in (commands, syncs))
    mark = 2 * sync + 0.5
    p99 = 1000 * sorted(commands[WARM_UP:])[int(0.99 * ROUNDS)]
    print("# command: median %.3f ms, 99 %% %.3f ms; fdatasync: median %.3f ms; mark %.3f ms; ratio %.2f (%d rounds)" %
          (command, p99, sync, mark, command / mark, ROUNDS))
    return [] if command <= mark else ["median %.3f ms is above the mark of %.3f ms" % (command, mark)]


if __name__ == "__main__":
    with farlib.Cluster(nodes=False) as cluster:
        tap.run_all([a_command_costs_at_most_two_syncs_and_half_a_millisecond])
