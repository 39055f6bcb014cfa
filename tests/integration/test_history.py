#!/usr/bin/env python3
"""One server holds all of a long history and a new one fetches it: meanwhile streams from the beginning are sent to who has it, and
the only holder is not taken out; afterwards the new one has every event by itself.

far-timeout: 120
"""
import json
import os
import signal
import subprocess

import farlib
import tap

EVENTS = 120000
cluster = old = new = None


def first_seq(server):
    return cluster.request(server, "GET", "/v1/log/head")[2]["first_seq"]


def said_first_seq(server, name):
    """The oldest event of that server, as another one has heard it say."""
    return next(member["first_seq"] for member in cluster.status(server)["members"] if member["name"] == name)


def fill():
    old.stop()
    subprocess.run([os.path.join(farlib.BUILD, "tests/bench/make_store"), os.path.join(old.dir, "state"), str(EVENTS), "1000"],
                   check=True, capture_output=True)
    old.start()
    cluster.wait_leader()


def stream(server):
    """The events from the beginning, over TLS, but for what consumers acknowledged: the seqs."""
    lines = cluster.request(server, "GET", "/v1/events?from=start&follow=false&format=ndjson", timeout=60)[2].splitlines()
    frames = [json.loads(line) for line in lines]
    return [frame["seq"] for frame in frames if "seq" in frame], frames[-1]["end"]


def who_still_fetches_sends_streams_from_the_start_to_who_has_it():
    """Never a stream that begins later, as if there were nothing before: also not while it has heard of nobody yet."""
    def asked():
        status, _, body = cluster.request(new, "GET", "/v1/events?from=start&follow=false")
        if status != 503 or "still fetches" not in body["detail"]:
            raise farlib.Ended("%r %r" % (status, str(body)[:300]))
        return old.api in body["detail"]
    farlib.until(asked, 10, "it names who has them")


def the_only_holder_of_old_events_is_not_taken_out():
    farlib.until(lambda: said_first_seq(old, "recovery"), 10, "the old server has heard of the new one")
    os.kill(new.pid, signal.SIGSTOP)  # in the middle of it
    try:
        held = said_first_seq(old, "recovery")
        status, _, body = cluster.request(old, "DELETE", "/v1/servers/protected", headers={"Idempotency-Key": "out"})
    finally:
        os.kill(new.pid, signal.SIGCONT)
    if held == 1:
        return ["it had everything already: too few events for this test"]
    wrong = [] if status == 409 and "no other server that is there has them" in body["detail"] else ["%r %r" % (status, body)]
    status, text = cluster.cli("server", "remove", "protected", check=False, as_json=False) if first_seq(new) > 1 else (4, "--force")
    return wrong + ([] if status == 4 and "--force" in text else ["%d %s" % (status, text)])


def when_another_one_has_them_it_may_go():
    farlib.until(lambda: first_seq(new) == 1, 60, "the new server has the whole history")
    farlib.until(lambda: said_first_seq(old, "recovery") == 1, 10, "it said so")
    farlib.until(lambda: cluster.wait_leader() and cluster.post("/v1/cluster/transfer", {"to": "recovery"}), 20, "asked to lead")
    farlib.until(lambda: cluster.leader() is new, 20, "the new server leads")
    before, _ = stream(old)
    cluster.cli("server", "remove", "protected", as_json=False)
    farlib.until(lambda: not old.alive(), 20, "it hears that and stops")
    old.kill()
    after, end = stream(new)
    wrong = [] if after[:len(before)] == before else ["other events than before"]
    return wrong + ([] if after[0] == 1 and end["last_seq"] >= EVENTS and not end["more"] else ["%d events of %r" % (len(after), end)])


def a_stream_from_the_start_proves_itself():
    """With headers of all that it leaves out: every event of the history, in order."""
    text = cluster.cli("events", "--from", "start", "--proof", "headers", "--kind", "server_role_changed", as_json=False)
    return [] if "removed" in text else [text[-1000:]]


if __name__ == "__main__":
    with farlib.Cluster(servers=("protected",), nodes=False) as cluster:
        old = cluster.servers["protected"]
        fill()
        new = cluster.add_server("recovery")
        tap.run_all([who_still_fetches_sends_streams_from_the_start_to_who_has_it, the_only_holder_of_old_events_is_not_taken_out,
                     when_another_one_has_them_it_may_go, a_stream_from_the_start_proves_itself])
