#!/usr/bin/env python3
"""One client's command over HTTPS, on three servers: the median, against the disk's own fdatasync in the same run.

Alternating: a command by the client library over one kept-open connection to the leader, then a write and fdatasync of
4 KiB in the leader's folder. The mark: median command <= 2 x median fdatasync + 0.5 ms.

far-timeout: 300
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../integration"))
import farlib  # noqa: E402
import tap  # noqa: E402

BUILD = os.path.abspath(os.environ.get("FAR_BUILD", "."))
ROUNDS = int(os.environ.get("FAR_ROUNDS", "400"))
cluster = None


def a_command_costs_at_most_two_syncs_and_half_a_millisecond():
    leader = cluster.wait_leader()
    run = subprocess.run([os.path.join(BUILD, "tests/bench/command_latency"), "https://" + leader.api, cluster.ca_file,
                          cluster.token_file, leader.dir, str(ROUNDS)], check=True, capture_output=True, text=True)
    command, p99, sync = (float(word) for word in run.stdout.split())
    mark = 2 * sync + 0.5
    print("# command: median %.3f ms, 99 %% %.3f ms; fdatasync: median %.3f ms; mark %.3f ms; ratio %.2f (%d rounds)" %
          (command, p99, sync, mark, command / mark, ROUNDS))
    return [] if command <= mark else ["median %.3f ms is above the mark of %.3f ms" % (command, mark)]


if __name__ == "__main__":
    with farlib.Cluster(nodes=False) as cluster:
        tap.run_all([a_command_costs_at_most_two_syncs_and_half_a_millisecond])
