#!/usr/bin/env python3
"""farshored init: killed in any phase it can be run again, and it never touches a folder that is somebody's.

far-timeout: 120
"""
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import http.client
import json

import farlib
import tap

# Each appears in the folder in this order; a kill comes as soon as one is seen.
PHASES = ("init.unfinished", "server.key", "server.crt", "ca.crt", "seal.key", "sign.key", "state", "wal", "admin.token", "config")
CONFLICT = 4
root = tempfile.mkdtemp(prefix="far-init-")


def init(folder, *more):
    return [farlib.program("farshored"), "init", "--dir", folder, "--cluster", "test", "--name", "first", "--api",
            "127.0.0.1:0", "--peer", "127.0.0.1:0", *more]


def run(argv):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * farlib.SLOW)
    return done.returncode, done.stdout, done.stderr


def killed_at(folder, phase):
    """Whether the kill hit a running init."""
    process = subprocess.Popen(init(folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    path = os.path.join(folder, phase)
    while process.poll() is None and not os.path.exists(path):
        pass  # a few milliseconds; the phase is shorter than any pause
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def asked_of(folder, path):
    """The server runs, and the administrator's token opens it: what it answers; None: it did not end well."""
    answers = []
    server = farlib.Process("first", [farlib.program("farshored"), "run", "--dir", folder], os.path.join(root, "log"))
    server.start()
    try:
        ready = os.path.join(folder, "ready")
        farlib.until(lambda: os.path.exists(ready), 20, "the server is ready")
        with open(ready, encoding="ascii") as file:
            address = file.read().split()[0].split("=")[1]
        with open(os.path.join(folder, "admin.token"), encoding="ascii") as file:
            token = file.read().strip()
        context = ssl.create_default_context(cafile=os.path.join(folder, "ca.crt"))

        def asked():
            connection = http.client.HTTPSConnection(address, context=context, timeout=5)
            connection.request("GET", path, headers={"Authorization": "Bearer " + token})
            response = connection.getresponse()
            answers.append(response.read().decode())
            return response.status == 200
        farlib.until(asked, 20, "the API answers")
    finally:
        server.process.terminate()
        server.process.wait()
    return answers[-1] if server.process.returncode == 0 else None


def serves(folder):
    return asked_of(folder, "/v1/servers") is not None


def an_init_that_was_killed_can_be_run_again():
    wrong, hits = [], 0
    for phase in PHASES:
        folder = os.path.join(root, phase)
        hits += killed_at(folder, phase)
        complete = os.path.exists(os.path.join(folder, "config"))
        status, out, err = run(init(folder))
        if status != (CONFLICT if complete else 0):
            wrong.append("%s: status %d: %s" % (phase, status, err))
        elif not complete and "recovery key: " not in out:
            wrong.append("%s: no recovery key" % phase)
        elif not serves(folder):
            wrong.append("%s: the server did not stop well" % phase)
    print("# %d of %d kills hit a running init" % (hits, len(PHASES)))
    return wrong


def a_folder_of_a_server_is_refused_and_left_as_it_was():
    folder = os.path.join(root, "whole")
    status, _, err = run(init(folder))
    if status != 0:
        return [err]
    before = {name: open(os.path.join(folder, name), "rb").read() for name in ("config", "server.key", "seal.key")}
    wrong = []
    for more in ((), ("--lease-ms", "5000")):
        status, _, err = run(init(folder, *more))
        if status != CONFLICT or "already" not in err:
            wrong.append("status %d: %s" % (status, err))
    os.rename(os.path.join(folder, "config"), os.path.join(root, "elsewhere"))
    status, _, err = run(init(folder))
    if status != CONFLICT or "log" not in err:
        wrong.append("without config: status %d: %s" % (status, err))
    os.rename(os.path.join(root, "elsewhere"), os.path.join(folder, "config"))
    after = {name: open(os.path.join(folder, name), "rb").read() for name in before}
    return wrong + ([] if before == after else ["a file changed"]) + ([] if serves(folder) else ["it did not stop well"])


def a_dry_run_leaves_nothing_and_tells_the_first_events():
    folder = os.path.join(root, "tried")
    status, told, why = run(init(folder, "--dry-run"))
    if status != 0 or os.path.exists(folder):
        return ["%d %s %s, left: %r" % (status, told, why, os.path.exists(folder))]
    wrong = ["%r was taken" % argv for argv in (["--lease-ms", "0"], ["--feature-level", "99"])
             if run(init(folder, "--dry-run", *argv))[0] == 0]
    wrong += ["%r left the folder" % wrong] if os.path.exists(folder) else []
    if run(init(folder))[0] != 0:
        return wrong + ["init fails"]
    before = farlib.tree_of(folder)
    if run(init(folder, "--dry-run"))[0] != CONFLICT or farlib.tree_of(folder) != before:
        wrong.append("the folder of a server is taken, or changed")
    frames = map(json.loads, asked_of(folder, "/v1/events?from=start&follow=false&format=ndjson").splitlines())
    came = [frame["kind"] for frame in frames if "seq" in frame and frame["kind"] != "leader_started"]
    kinds = farlib.foretold(told)
    return wrong + ([] if len(kinds) > 5 and came[:len(kinds)] == kinds else ["told %r, came %r" % (kinds, came)])


def secrets_are_for_the_owner_only():
    folder = os.path.join(root, "whole")
    wrong = []
    for name in ("server.key", "seal.key", "admin.token", "config"):
        mode = os.stat(os.path.join(folder, name)).st_mode & 0o777
        if mode != 0o600:
            wrong.append("%s has mode %o" % (name, mode))
    if os.stat(folder).st_mode & 0o077:
        wrong.append("others may enter the folder")
    with open(os.path.join(folder, "server.key"), "rb") as file:
        key = file.read().split(b"\n")[1]
    for top, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(top, name), "rb") as file:
                if name != "server.key" and key in file.read():
                    wrong.append("%s holds the server's key" % name)
    return wrong


def wrong_options_change_nothing():
    folder = os.path.join(root, "never")
    wrong = []
    for more in (("--lease-ms", "0"), ("--lease-ms", "-5"), ("--lease-ms", "soon"), ("--colour", "blue"), ("--dir", "x")):
        status, _, err = run(init(folder, *more))
        if status != 2 or os.path.exists(folder):
            wrong.append("%r: status %d: %s" % (more, status, err))
    status, _, err = run([a if a != "127.0.0.1:0" else "nowhere" for a in init(folder)])
    if status != 2 or os.path.exists(folder):
        wrong.append("address: status %d: %s" % (status, err))
    return wrong


def a_refused_init_leaves_nothing():
    """Refused by the log, when keys and log are made already."""
    new, old = os.path.join(root, "new"), os.path.join(root, "old")
    os.mkdir(old)
    wrong = []
    for folder in (new, old):
        status, _, err = run([a if a != "test" else "no name" for a in init(folder)])
        if status != 2 or "no name" not in err:
            wrong.append("status %d: %s" % (status, err))
    if os.path.exists(new) or os.listdir(old):
        wrong.append("left: %r %r" % (os.path.exists(new), os.listdir(old)))
    return wrong


def a_folder_that_holds_something_else_is_left_alone():
    wrong = []
    for name in ("mine", "server.key", "init.unfinished.mine"):
        folder = os.path.join(root, "holds-" + name)
        os.mkdir(folder)
        with open(os.path.join(folder, name), "w", encoding="ascii") as file:
            file.write("somebody's")
        status, _, err = run(init(folder))
        if status != CONFLICT or "'%s'" % name not in err or os.listdir(folder) != [name]:
            wrong.append("status %d: %s, left %r" % (status, err, os.listdir(folder)))
    return wrong


def a_second_init_while_one_is_at_work_is_refused():
    """The first is held still in the middle: the second must not take it for one that was interrupted."""
    for attempt in range(20):
        folder = os.path.join(root, "twice-%d" % attempt)
        process = subprocess.Popen(init(folder), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not os.path.exists(os.path.join(folder, "seal.key")):
            pass
        process.send_signal(signal.SIGSTOP)
        is_in_the_middle = not os.path.exists(os.path.join(folder, "config"))
        status, _, err = run(init(folder))
        process.send_signal(signal.SIGCONT)
        if process.wait() != 0 or status != CONFLICT or not serves(folder):
            return ["the first ended with %d, the second with %d: %s" % (process.returncode, status, err)]
        if is_in_the_middle:
            return [] if "at work" in err else [err]
    return ["never in the middle"]


def a_server_listens_where_a_name_leads():
    folder = os.path.join(root, "named")
    port = farlib.free_ports(1)[0]
    status, _, err = run([a if i != 9 else "localhost:%d" % port for i, a in enumerate(init(folder))])
    wrong = [] if status == 0 and serves(folder) else ["status %d: %s" % (status, err)]
    for api, peer in (("127.0.0.1:7", "127.0.0.1:7"), ("nobody.invalid:7", "127.0.0.1:8")):
        argv = init(os.path.join(root, "nowhere"))
        argv[9], argv[11] = api, peer
        status, _, err = run(argv)
        if status != 2 or os.path.exists(os.path.join(root, "nowhere")):
            wrong.append("%s, %s: status %d: %s" % (api, peer, status, err))
    return wrong


if __name__ == "__main__":
    try:
        tap.run_all([an_init_that_was_killed_can_be_run_again, a_folder_of_a_server_is_refused_and_left_as_it_was,
                     a_dry_run_leaves_nothing_and_tells_the_first_events, secrets_are_for_the_owner_only,
                     wrong_options_change_nothing,
                     a_refused_init_leaves_nothing, a_folder_that_holds_something_else_is_left_alone,
                     a_second_init_while_one_is_at_work_is_refused, a_server_listens_where_a_name_leads])
    finally:
        shutil.rmtree(root)
