#!/usr/bin/env python3
"""Bad input gets a clear error and changes nothing: each case compares the log's head before and after.

far-timeout: 240
"""
import os
import shutil
import socket
import ssl
import time

import farlib
import tap

cluster = other = seed = None


def path(name):
    return os.path.join(cluster.base, name)


def head():
    cluster.wait_same_heads()
    return cluster.get("/v1/cluster")


def rows():
    """Everything that a bad request could have changed. Nodes and servers report all the time; these do not change by it."""
    return {kind: cluster.get("/v1/%s?limit=1000" % kind)["items"] for kind in
            ("sites", "workloads", "plans", "points", "checkpoints", "tokens")}


def refused(words, code, method, where, body=None, token=None, headers=None):
    """The request is refused with this code and these words in its detail, and no row changed."""
    before = rows()
    status, _, value = cluster.request(cluster.wait_leader(), method, where, body, headers, token)
    wrong = []
    if status < 400 or not isinstance(value, dict) or value.get("code") != code:
        wrong.append("%s %s: got %d %r, wanted the code %s" % (method, where, status, value, code))
    elif not any(word.lower() in value.get("detail", "").lower() for word in words.split("|")):
        wrong.append("%s %s: the detail %r does not say %s" % (method, where, value.get("detail"), words))
    if rows() != before:
        wrong.append("%s %s changed the state" % (method, where))
    return wrong


def fails(words, *argv):
    """The program refuses: not 0, no signal, a message with one of the words, no trace of a crash; a refused join leaves
    no folder."""
    status, text = cluster.run_tool(*argv, check=False)
    if status <= 0:
        return ["%s: status %d" % (" ".join(argv[:3]), status)]
    if "join" in argv and os.path.exists(argv[argv.index("--dir") + 1]):
        return ["%s left its folder" % " ".join(argv[:2])]
    return [] if any(w in text.lower() for w in words.split("|")) else ["%s: said %r, wanted %s" % (argv[0], text, words)]


def wrong_and_missing_tokens():
    good = cluster.token
    other_secret = good[:-4] + ("0000" if good[-4:] != "0000" else "1111")
    return (refused("token", "denied", "GET", "/v1/sites", token=other_secret) +
            refused("token", "denied", "GET", "/v1/sites", token="rubbish") +
            refused("token", "denied", "POST", "/v1/sites", {"name": "x", "role": "recovery"}, token="far_" + "0" * 64))


def a_used_join_token():
    token = cluster.join_token("extra", "join_node", "recovery")
    one, two = path("node-extra"), path("node-extra2")
    arguments = ["--name", "extra", "--data", "127.0.0.1:1"]
    cluster.run_tool("farshore-node", "join", "--dir", one, "--token", token, *arguments)
    before = rows()
    wrong = fails("used|conflict|denied", "farshore-node", "join", "--dir", two, "--token", token, *arguments)
    wrong += ["a second use changed the state"] if rows() != before else []
    cluster.call("DELETE", "/v1/nodes/extra")
    return wrong


def an_expired_join_token():
    soon = int(time.time() * 1000) + 300
    token = cluster.post("/v1/tokens", {"name": "late", "purpose": "join_node", "site": "recovery", "expires_ms": soon})["token"]
    farlib.until(lambda: time.time() * 1000 > soon + 1500, 10, "the token is expired")
    return fails("expired|not known", "farshore-node", "join", "--dir", path("late"), "--token", token, "--name", "late",
                 "--data", "127.0.0.1:1")


def a_malformed_join_token():
    return (fails("token", "farshore-node", "join", "--dir", path("m1"), "--token", "rubbish", "--name", "m", "--data",
                  "127.0.0.1:1") +
            fails("token", "farshored", "join", "--dir", path("m2"), "--token", "AAAA", "--name", "m", "--api",
                  "127.0.0.1:1", "--peer", "127.0.0.1:2"))


def a_token_for_another_name_or_purpose():
    token = cluster.join_token("onlyme", "join_node", "recovery")
    return (fails("name|onlyme|denied", "farshore-node", "join", "--dir", path("n1"), "--token", token, "--name", "another",
                  "--data", "127.0.0.1:1") +
            fails("token|purpose|denied", "farshored", "join", "--dir", path("n2"), "--token", token, "--name", "onlyme",
                  "--api", "127.0.0.1:1", "--peer", "127.0.0.1:2"))


def a_node_whose_address_is_none():
    token = cluster.join_token("homeless", "join_node", "recovery")
    before = rows()
    wrong = fails("address", "farshore-node", "join", "--dir", path("h1"), "--token", token, "--name", "homeless", "--data",
                  "rubbish")
    wrong += refused("address", "invalid", "POST", "/v1/join",
                     {"token": token, "party": "node", "name": "homeless", "csr": "x", "data_address": "rubbish"})
    wrong += fails("host", "farshore-node", "join", "--dir", path("h1"), "--token", token, "--name", "homeless", "--data",
                   "no host:1")
    wrong += ["a refused join made a node"] if any(n["name"] == "homeless" for n in cluster.get("/v1/nodes")["items"]) else []
    return wrong + (["it changed the state"] if rows() != before else [])


def a_certificate_of_another_cluster():
    """A node of another cluster presents its certificate on port 5001: the handshake fails, nothing is logged."""
    global other
    other = farlib.Cluster(servers=("stranger",), nodes=False)
    other.set_up()
    before = rows()
    wrong = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    folder = other.servers["stranger"].dir
    context.load_cert_chain(os.path.join(folder, "server.crt"), os.path.join(folder, "server.key"))
    host, port = cluster.wait_leader().peer.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            with context.wrap_socket(raw) as tls:
                tls.sendall(b"x" * 200)
                tls.settimeout(10)
                wrong += ["the stranger got an answer"] if tls.recv(1) else []
    except (ssl.SSLError, ConnectionError):
        pass
    return wrong + (["the stranger changed the state"] if rows() != before else [])


def a_server_with_another_key_than_the_node_knows():
    """The node's list of servers holds the fingerprint of each key; a server that shows another is not talked to."""
    node = cluster.nodes["source"]
    node.stop()
    servers = os.path.join(node.dir, "servers")
    with open(servers) as file:
        good = file.read()
    wrong = [] if good.count("#") == 3 else ["the node did not keep the keys of the servers: %r" % good]
    with open(servers, "w") as file:
        file.write("".join(line[:-4] + ("0000" if line[-4:] != "0000" else "1111") + "\n" for line in good.split()))
    node.start()

    def refuses():
        with open(node.log) as log:
            return "is of another key than the one that joined" in log.read()
    try:
        farlib.until(refuses, 20, "the node refuses the servers")
    finally:
        node.stop()
        with open(servers, "w") as file:
            file.write(good)
        node.start()
    farlib.until(lambda: cluster.get("/v1/nodes/source")["state"] == "up", 30, "the node is up again")
    return wrong


def a_client_of_another_ca_is_not_believed():
    try:
        cluster.context, mine = other.context, cluster.context
        cluster.request(cluster.wait_leader(), "GET", "/v1/sites")
        return ["a server of another CA was believed"]
    except (ssl.SSLError, farlib.Failure):
        return []
    finally:
        cluster.context = mine


def names_that_are_taken():
    return (refused("exist|taken|name", "conflict", "POST", "/v1/sites", {"name": "protected", "role": "protected"}) +
            refused("exist|taken|name", "conflict", "POST", "/v1/workloads",
                    {"name": "vm", "site": "protected", "adapter": "file", "disks": [{"name": "d", "locator": "/x"}]}))


def an_adapter_that_no_node_has():
    """The source node told its adapters with its hello; a workload with another one is refused and told what there is."""
    body = {"name": "odd", "site": "protected", "adapter": "nosuch", "disks": [{"name": "d", "locator": "/x"}]}
    has_kvm = os.access(os.path.join(os.path.dirname(farlib.program("farshore-node")), "farshore-kvm"), os.X_OK)
    there = ["file", "nbd", "kvm", "fault"] if has_kvm else ["file", "nbd", "fault"]
    said = "no node of site 'protected' has the adapter 'nosuch'; there are: " + ", ".join(there)
    wrong = refused(said, "invalid", "POST", "/v1/workloads", body)
    status, text = cluster.cli("workload", "create", "odd", "--site", "protected", "--adapter", "nosuch", "--disk", "d=/x",
                               check=False)
    wrong += [] if status > 0 and said in text else ["status %d: %s" % (status, text)]
    told = cluster.get("/v1/nodes/source")["adapters"]
    return wrong + ([] if told == there else ["the node told %r" % told])


def an_adapter_that_cannot_be_judged_yet():
    """A site without nodes: the workload is accepted with a warning, and a cycle of it says why it waits."""
    for name, role in (("near", "protected"), ("far", "recovery")):
        other.post("/v1/sites", {"name": name, "role": role})
    status, text = other.cli("workload", "create", "vm", "--site", "near", "--adapter", "nosuch", "--disk", "d=/x", check=False)
    wrong = [] if status == 0 and "warning: no node of site 'near'" in text else ["status %d: %s" % (status, text)]
    other.post("/v1/plans", {"name": "p", "source_site": "near", "target_site": "far", "workloads": ["vm"]})
    started = other.post("/v1/plans/p/replicate")
    wrong += [] if "site 'near' has no node" in started.get("warning", "") else ["no warning: %r" % started]
    freeze = other.get("/v1/jobs/%d" % started["id"])["tasks"][0]
    return wrong + ([] if freeze["waits_for"] == "site 'near' has no node" else ["it does not say why it waits: %r" % freeze])


def a_plan_with_unknown_sites_or_workloads():
    return (refused("nowhere", "not_found", "POST", "/v1/plans",
                    {"name": "p2", "source_site": "nowhere", "target_site": "recovery", "workloads": ["vm"]}) +
            refused("ghost", "not_found", "POST", "/v1/plans",
                    {"name": "p2", "source_site": "protected", "target_site": "recovery", "workloads": ["ghost"]}))


def malformed_and_oversized_json():
    deep = "[" * 5000 + "]" * 5000
    return (refused("json", "invalid", "POST", "/v1/sites", "{\"name\": ") +
            refused("json|utf", "invalid", "POST", "/v1/sites", b"{\"name\": \"\xff\xfe\", \"role\": \"recovery\"}") +
            refused("json|depth|deep", "invalid", "POST", "/v1/sites", deep) +
            refused("field|unknown|colour", "invalid", "POST", "/v1/sites",
                    {"name": "x", "role": "recovery", "colour": "blue"}) +
            refused("role", "invalid", "POST", "/v1/sites", {"name": "x", "role": "king"}) +
            refused("name", "invalid", "POST", "/v1/sites", {"name": "Not A Name!", "role": "recovery"}) +
            refused("name", "invalid", "POST", "/v1/sites", {"name": 5, "role": "recovery"}) +
            refused("name", "invalid", "POST", "/v1/sites", {"role": "recovery"}))


def an_oversized_body_is_refused_early():
    before = rows()
    try:
        status, _, value = cluster.request(cluster.wait_leader(), "POST", "/v1/sites", b" " * (3 << 20))
    except OSError:
        status, value = 413, {}  # the server hung up before it took everything
    return ([] if status == 413 else ["got %d %r" % (status, value)]) + (["changed"] if rows() != before else [])


def unknown_paths_and_methods():
    return (refused("path|no such|/v1/nothing|there is", "not_found", "GET", "/v1/nothing") +
            refused("no job|there is|job", "not_found", "GET", "/v1/jobs/999999"))


def an_escaped_line_end_cuts_no_url():
    """%0d and %0a would end the target there, %00 the value: a site would go that was not meant, a dry run be none."""
    wrong = []
    for method, where, body in (("DELETE", "/v1/sites/recovery%0d?dry_run=true", None), ("DELETE", "/v1/sites/recovery%0aHTTP/1.1", None),
                                ("DELETE", "/v1/plans/plan%0A", None), ("POST", "/v1/plans/plan/start%0d?dry_run=true", {}),
                                ("POST", "/v1/sites?dry_run=true%00", {"name": "x", "role": "recovery"}),
                                ("PATCH", "/v1/workloads/vm%0d", {"note": "x"}), ("PUT", "/v1/log/retention%0a?dry_run=true", {}),
                                ("DELETE", "/v1/tokens/admin%0d%0a?dry_run=true", None), ("GET", "/v1/events?limit=1%0a0&role=banana", None)):
        wrong += refused("control character", "invalid", method, where, body)
    return wrong


def a_frame_with_a_wrong_length_on_the_server_port():
    """Mutual TLS with a good certificate, then bytes that are no greeting: the stream ends, the server goes on."""
    node = cluster.nodes["source"]
    wrong = []
    for garbage in (b"\xff" * 4096, b"\x00" * 64, os.urandom(3000)):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cluster.ca_file)
        context.load_cert_chain(os.path.join(node.dir, "node.crt"), os.path.join(node.dir, "node.key"))
        for address in [s.peer for s in cluster.servers.values()] + [cluster.nodes["target"].data]:
            host, port = address.rsplit(":", 1)
            try:
                with socket.create_connection((host, int(port)), timeout=10) as raw:
                    with context.wrap_socket(raw, server_hostname="x") as tls:
                        tls.settimeout(10)
                        tls.sendall(garbage)
                        while tls.recv(4096):
                            pass
            except (ssl.SSLError, ConnectionError):
                pass
            except socket.timeout:
                wrong.append("%s kept a stream of garbage open" % address)
    for process in list(cluster.servers.values()) + list(cluster.nodes.values()):
        process.check()
    return wrong


def unknown_options_and_commands():
    wrong = []
    wrong += fails("usage", "farshore-verify", "--no-such-option")
    for name in ("farshored", "farshore-node", "farshore"):
        wrong += fails("unknown|usage|no command|unrecognized", name, "--no-such-option")
        wrong += fails("unknown|usage|no command|unrecognized", name, "frobnicate")
    wrong += fails("unknown|option", "farshored", "run", "--dir", path("x"), "--no-such-option", "1")
    wrong += fails("unknown|option", "farshore-node", "run", "--dir", path("x"), "--no-such-option", "1")
    wrong += fails("folder|no such|not", "farshored", "run", "--dir", path("not-there"))
    wrong += fails("folder|no such|not", "farshore-node", "run", "--dir", path("not-there"))
    wrong += fails("'zz' is no key", "farshore", "--server", "https://127.0.0.1:1", "--token-file", cluster.token_file, "--ca",
                   cluster.ca_file, "log", "verify", "--key", "zz")  # before anybody is asked
    server = ("--server", "https://" + cluster.wait_leader().api, "--token-file", cluster.token_file, "--ca", cluster.ca_file)
    wrong += fails("must be 1 to 1000", "farshore", *server, "events", "--limit", "0")
    wrong += fails("must be 1 to 1000", "farshore", *server, "events", "--limit", "1001")
    wrong += fails("event 99999 has not come", "farshore", *server, "events", "--from", "99999")
    wrong += fails("'--at' does not fit", "farshore", *server, "server", "replace", "protected", "new", "--dry-run", "--at", "1")
    admin = [t["id"] for t in cluster.get("/v1/tokens?limit=1000")["items"] if t["purpose"] == "api" and not t["revoked"]]
    wrong += [] if len(admin) == 1 else ["there are other tokens: %r" % admin]
    wrong += fails("the last one that lets anybody in", "farshore", *server, "token", "remove", str(admin[0]))
    wrong += fails("the last one that lets anybody in", "farshore", *server, "token", "remove", str(admin[0]), "--dry-run")
    return wrong


def wrong_settings_are_told_at_once():
    """A certificate of another cluster is not waited out, and who works on a local folder needs no settings at all."""
    other = path("other")
    cluster.run_tool("farshored", "init", "--dir", other, "--cluster", "other", "--name", "o", "--api", "127.0.0.1:0", "--peer",
                     "127.0.0.1:0")
    asks = ["farshore", "--server", "https://" + cluster.wait_leader().api, "--timeout", "3000"]
    wrong = fails("is not believed", *asks, "--token-file", cluster.token_file, "--ca", os.path.join(other, "ca.crt"), "site", "list")
    wrong += fails("is not believed", *asks, "--token-file", cluster.token_file, "--ca", cluster.token_file, "site", "list")
    wrong += fails("is a directory", *asks, "--token-file", other, "--ca", cluster.ca_file, "site", "list")
    os.environ["FARSHORE_TOKEN_FILE"] = path("no-such-token")
    wrong += fails("read the token file", *asks, "--ca", cluster.ca_file, "site", "list")
    for words in (("log", "verify", "--dir", other), ("cluster", "divergent", "list", "--dir", other), ("help",)):
        status, text = cluster.run_tool("farshore", *words, check=False)
        wrong += [] if status == 0 else ["%r: %d %s" % (words, status, text)]
    del os.environ["FARSHORE_TOKEN_FILE"]
    return wrong


def failed_job(job_id, words):
    job = cluster.finish(job_id, 90)
    text = (job.get("error_message", "") + " " + " ".join(t["error_message"] for t in cluster.job(job_id)["tasks"])).lower()
    wrong = [] if job["state"] in ("failed", "partial") else ["the job ended as %s" % job["state"]]
    return wrong + ([] if any(w in text for w in words.split("|")) else ["the job says %r, wanted %s" % (text, words)])


def a_recovery_target_that_exists():
    with open(path("there.img"), "wb") as file:
        file.write(b"precious")
    wrong = failed_job(cluster.start_recovery("vm", [path("there.img")]), "exist")
    with open(path("there.img"), "rb") as file:
        return wrong + ([] if file.read() == b"precious" else ["the target was overwritten"])


def a_disk_that_vanished():
    points = cluster.get("/v1/points")["items"]
    os.rename(path("disk.img"), path("disk.away"))
    wrong = failed_job(cluster.start_cycle(), "disk.img|not found|no such|not there|gone|vanish")
    os.rename(path("disk.away"), path("disk.img"))
    return wrong + ([] if cluster.get("/v1/points")["items"] == points else ["points changed"])


def a_disk_that_shrank():
    points = cluster.get("/v1/points")["items"]
    shutil.copyfile(path("disk.img"), path("disk.copy"))
    os.truncate(path("disk.img"), os.path.getsize(path("disk.img")) // 2)
    wrong = failed_job(cluster.start_cycle(), "shrank|smaller|size")
    with open(path("disk.img"), "r+b") as file, open(path("disk.copy"), "rb") as copy:
        shutil.copyfileobj(copy, file)
    return wrong + ([] if cluster.get("/v1/points")["items"] == points else ["points changed"])


def a_disk_that_shrank_before_its_first_point():
    """Its first copy fails at a range that cannot be read; made smaller, there is nothing that it would have to fit."""
    image = farlib.make_image(path("first.img"), 8 * farlib.MIB, seed + 1)
    with open(image, "r+b") as file:  # no hole where it is not to be read
        file.seek(6 * farlib.MIB)
        file.write(os.urandom(farlib.BLOCK))
    cluster.post("/v1/workloads", {"name": "first", "site": "protected", "adapter": "fault:file?ba=6144&bk=64&oc=6",
                                   "disks": [{"name": "disk0", "locator": image}]})
    cluster.post("/v1/plans", {"name": "first", "source_site": "protected", "target_site": "recovery", "workloads": ["first"]})
    cluster.post("/v1/plans/first/start")
    wrong = failed_job(cluster.start_cycle("first"), "on purpose")
    os.truncate(image, 4 * farlib.MIB)
    job = cluster.finish(cluster.start_cycle("first"))
    wrong += [] if job["state"] == "succeeded" else ["the smaller disk: %s" % job.get("error_message")]
    job = cluster.finish(cluster.start_recovery("first", [path("first.out")], "first"))
    return wrong + ([] if job["state"] == "succeeded" and farlib.same_bytes(image, path("first.out")) else ["not recovered"])


def the_plan_still_works_after_all_that():
    cluster.replicate()
    cluster.recover("vm", [path("final.img")])
    assert farlib.same_bytes(path("disk.img"), path("final.img"))
    cluster.wait_same_heads()
    cluster.verify_all_offline()


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    with farlib.Cluster() as cluster:
        farlib.make_image(path("disk.img"), 8 * farlib.MIB, seed)
        cluster.protect("vm", [path("disk.img")])
        cluster.replicate()
        try:
            tap.run_all([
                wrong_and_missing_tokens, a_used_join_token, an_expired_join_token, a_malformed_join_token,
                a_token_for_another_name_or_purpose, a_node_whose_address_is_none, a_certificate_of_another_cluster,
                a_server_with_another_key_than_the_node_knows, a_client_of_another_ca_is_not_believed,
                names_that_are_taken, an_adapter_that_no_node_has, an_adapter_that_cannot_be_judged_yet, a_plan_with_unknown_sites_or_workloads, malformed_and_oversized_json,
                an_oversized_body_is_refused_early, unknown_paths_and_methods, an_escaped_line_end_cuts_no_url, a_frame_with_a_wrong_length_on_the_server_port,
                unknown_options_and_commands, wrong_settings_are_told_at_once,
                a_recovery_target_that_exists, a_disk_that_vanished, a_disk_that_shrank, a_disk_that_shrank_before_its_first_point,
                the_plan_still_works_after_all_that,
            ])
        finally:
            if other is not None:
                other.close()
