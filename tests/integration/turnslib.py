"""Nodes and servers take turns: while servers decide, the nodes are stopped (SIGSTOP), and while nodes work, the servers are. So each boundary of a
task is a place where everybody stands still, and a test that kills somebody there misses none.

  assigned   the node has been told, and has not read it
  running    the node is at it
  unheard    the node has done it and said so; no server has read that
  done       the log knows
"""
import contextlib
import os
import signal

import farlib

MOMENTS = ("assigned", "running", "unheard", "done")


def states(job):
    return {(t["task"], t["attempt"], t["state"]) for t in job["tasks"]}


def send(processes, which):
    for process in processes:
        if process.alive():
            os.kill(process.pid, which)


class Turns:
    def __init__(self, cluster, asks=lambda node: False):
        """asks(node): whether it waits for an answer of somebody else (libvirt), though it does nothing."""
        self.cluster, self.asks = cluster, asks

    def nodes(self):
        return list(self.cluster.nodes.values())

    def servers(self):
        return list(self.cluster.servers.values())

    def to_servers(self):
        send(self.nodes(), signal.SIGSTOP)
        send(self.servers(), signal.SIGCONT)

    def to_nodes(self):
        send(self.servers(), signal.SIGSTOP)
        send(self.nodes(), signal.SIGCONT)

    def over(self):
        """All go on, also those that were killed."""
        send(self.servers() + self.nodes(), signal.SIGCONT)
        for process in self.servers() + self.nodes():
            if not process.alive():
                process.start()

    def spent(self):
        """What the nodes and what they started have done so far; it no longer changes when they have nothing to do."""
        found = []
        ours = {node.pid for node in self.nodes() if node.alive()}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError, ValueError):
                with open("/proc/%s/stat" % pid, encoding="ascii", errors="replace") as file:
                    text = file.read()
                fields = text[text.rindex(")") + 2:].split()
                if int(pid) in ours or int(fields[1]) in ours:
                    found.append((pid, fields[11], fields[12]))
        return sorted(found)

    def wait_idle(self, seconds=3):
        """The nodes have done what they were told. A heartbeat may fall between, so it is not waited for ever."""
        seen = []

        def quiet():
            asks = any(self.asks(node) for node in self.nodes() if node.alive())
            seen.append(None if asks else tuple(self.spent()))
            return len(seen) > 5 and not asks and len(set(seen[-5:])) == 1
        with contextlib.suppress(farlib.Failure):
            farlib.until(quiet, seconds / farlib.SLOW, "the nodes are idle")

    def wait_decided(self, job_id, before, seconds=3):
        """The servers have taken in what the nodes said, who may have had nothing to say. The job."""
        def moved():
            job = self.cluster.job(job_id)
            return job["state"] != "running" or states(job) != before
        with contextlib.suppress(farlib.Failure):
            farlib.until(moved, seconds / farlib.SLOW if before else 20, "something changes")
        return self.cluster.job(job_id)
