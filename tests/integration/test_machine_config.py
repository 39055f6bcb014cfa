#!/usr/bin/env python3
"""What a machine was comes with each of its points: a freeze captures it, the log keeps it as a version when it is another one, manifests
have it with how the workload is to be brought up, and a new cluster that adopts the vault has both again. The platform is the adapter
`fault` over files, which takes the configuration from a file beside the disk.

far-timeout: 120
"""
import json
import os
import shutil
import tempfile

import farlib
import tap

SEED = farlib.seed_of_run()
base = tempfile.mkdtemp(prefix="far-machine-config-")
old_vault = os.path.join(base, "vault")
NETWORKS = [{"source": "vms", "target": "dr"}]
texts = {}  # point: its configuration
lost = image = None


def machine(version):
    """Too long for one row of the log even when it is compressed, and not all of it is ASCII."""
    noise = "".join("<device id='%s'/>" % os.urandom(24).hex() for _ in range(60))
    return "<machine version='%d' name='\u00e4pfel'>%s</machine>\n" % (version, noise)


def write_machine(text):
    with open(image + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(image + ".new", image + ".machine")


def events(cluster, kind):
    lines = cluster.request(cluster.wait_leader(), "GET", "/v1/events?from=start&follow=false&format=ndjson&kind=" + kind)[2]
    return [frame["data"] for frame in map(json.loads, lines.splitlines()) if "seq" in frame]


def open_alerts(cluster):
    return [a for a in cluster.get("/v1/alerts?limit=100")["items"] if a["kind"] == "config_missed" and a["state"] != "cleared"]


def cycle():
    """The new point, as the API shows it."""
    farlib.change_image(image, 3, SEED + len(texts))
    checkpoint = lost.get("/v1/checkpoints/%d" % lost.replicate()["checkpoint_id"])
    return lost.get("/v1/points/%d" % checkpoint["members"][0]["point_id"])


def config_of(vault, point, *more):
    status, text = lost.run_tool("farshore-node", "vault", "config", "--vault", vault, "--point", str(point), *more, check=False)
    return text if status == 0 else "failed: " + text


def a_point_keeps_what_its_machine_was():
    first_text, second_text = machine(1), machine(2)
    write_machine(first_text)
    first, again = cycle(), cycle()
    write_machine(second_text)
    second = cycle()
    texts.update({first["id"]: first_text, again["id"]: first_text, second["id"]: second_text})
    told = events(lost, "machine_config_changed")
    wrong = [] if first["config_id"] > 0 and first["config_id"] == again["config_id"] != second["config_id"] else ["%r %r" % (first, second)]
    wrong += [] if [e["id"] for e in told] == [first["config_id"], second["config_id"]] else ["%d events" % len(told)]
    return wrong


def a_machine_that_cannot_be_told_fails_no_cycle():
    kept = image + ".kept"
    os.rename(image + ".machine", kept)
    point, alerts = cycle(), open_alerts(lost)
    wrong = [] if len(alerts) == 1 and "No such file" in alerts[0]["message"] else ["%r" % alerts]
    wrong += [] if point["config_id"] == events(lost, "machine_config_changed")[-1]["id"] else ["%r" % point]
    os.rename(kept, image + ".machine")
    texts[point["id"]] = texts[max(texts)]
    newest = cycle()
    texts[newest["id"]] = texts[max(texts)]
    wrong += [] if newest["config_id"] == point["config_id"] and open_alerts(lost) == [] else ["%r" % open_alerts(lost)]
    wrong += [] if len(events(lost, "machine_config_changed")) == 2 else ["it is told again"]
    return wrong


def manifests_have_it_and_how_it_is_brought_up():
    lost.cli("plan", "set-recovery", "vm1", "--processors", "6", as_json=False)
    lost.call("POST", "/v1/plans/plan/networks", {"networks": NETWORKS})
    point = cycle()
    texts[point["id"]] = texts[max(texts)]
    vault = os.path.join(lost.nodes["target"].dir, "vault")
    wrong = [] if all(config_of(vault, p) == text for p, text in texts.items()) else ["a manifest has another configuration"]
    out = os.path.join(base, "out.xml")
    config_of(vault, point["id"], "--out", out)
    with open(out, encoding="utf-8") as file:
        wrong += [] if file.read() == texts[point["id"]] else ["--out wrote something else"]
    wrong += [] if config_of(vault, point["id"], "--out", out).startswith("failed") else ["a file was overwritten"]
    kept = config_of(vault, point["id"], "--recovery")
    wrong += [] if json.loads(kept) == {"config": [{"processors": 6}], "networks": NETWORKS} else [kept]
    missing = config_of(vault, min(texts), "--recovery")
    return wrong + ([] if "as it was at the source" in missing else [missing])


def a_new_cluster_has_it_again():
    for process in lost.processes():
        process.stop()
    shutil.move(os.path.join(lost.nodes["target"].dir, "vault"), old_vault)
    with farlib.Cluster(servers=("protected",), nodes=False) as new:
        new.add_node("target", "recovery", settings={"vault": old_vault})
        new.wait_nodes()
        job = new.finish(new.post("/v1/vaults/target/adopt", {})["id"])
        shift = new.get("/v1/vaults/target")["adoption"]["base"]
        told = {e["id"]: e for e in events(new, "machine_config_changed")}
        points = {p["id"] - shift: p for p in new.get("/v1/points?limit=100")["items"]}
        wrong = [] if job["state"] == "succeeded" and set(points) == set(texts) else ["%r %r" % (job, sorted(points))]
        wrong += [] if len(told) == 2 and len({p["config_id"] for p in points.values()}) == 2 else ["%d versions" % len(told)]
        last = points[max(points)]
        shown = new.get("/v1/points/%d" % last["id"])["recovery"]
        wrong += [] if shown == {"processors": 6} else ["%r" % shown]
        checkpoint = new.get("/v1/checkpoints/%d" % last["checkpoint_id"])
        wrong += [] if checkpoint["networks"] == NETWORKS else ["%r" % checkpoint]
        wrong += [] if new.get("/v1/plans/plan")["networks"] == NETWORKS else ["the plan has no networks"]
        return wrong


def main():
    global lost, image
    print("# seed %d" % SEED)
    checks = [a_point_keeps_what_its_machine_was, a_machine_that_cannot_be_told_fails_no_cycle, manifests_have_it_and_how_it_is_brought_up,
              a_new_cluster_has_it_again]
    try:
        with farlib.Cluster(servers=("protected",)) as lost:
            image = os.path.join(lost.base, "vm1.img")
            farlib.make_image(image, 2 * farlib.MIB, SEED)
            lost.protect("vm1", [image], adapter="fault:file?cb=1")
            tap.run_all(checks)
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
