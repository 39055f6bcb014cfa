#!/usr/bin/env python3
"""A whole plan as a file: applied it is made, applied again nothing changes, exported it is the same; each change is one command, shown
before it is done; workloads come and go without a copy of the others; and every field refuses, by its path, each bad value of a table
that is generated from the document of the API, so that a new field without bad values fails here.

far-timeout: 300
"""
import copy
import json
import os
import re
import subprocess

import farlib
import tap

cluster = None
images = {}


def base():
    """A plan in which everything is set."""
    return {
        "name": "web", "source_site": "protected", "target_site": "recovery", "state": "stopped", "interval_s": 3600, "rpo_s": 7200,
        "rto_s": 600, "audit_age_s": 86400, "audit_ppm": 1000, "full_age_s": 864000, "lock_days": 1,
        "networks": [{"source": "vms", "target": "dr-vms", "test": "lab", "source_subnet": "10.1.0.0/16", "target_subnet": "10.9.0.0/16"},
                     {"source": "dmz", "target": "dr-dmz"}],
        "schedule": {"start_ms": 1700000000000, "zone": "UTC", "windows": [{"days": [1, 2, 3, 4, 5, 6, 7], "from_min": 0, "to_min": 1440}],
                     "blackouts": [{"days": [6], "from_min": 1320, "to_min": 120}], "catch_up": "skip"},
        "retention": {"last": 3, "hourly": 24, "daily": 7, "weekly": 4, "monthly": 12, "zone": "UTC"},
        "throttle": {"bytes_per_s": 20000000, "zone": "UTC",
                     "windows": [{"days": [1, 2], "from_min": 480, "to_min": 1080, "bytes_per_s": 1000000},
                                 {"days": [1], "from_min": 1100, "to_min": 1200, "bytes_per_s": 1}]},
        "scripts": [{"name": "flush.sh", "sha256": "ab" * 32, "phase": "before_cycle", "workload": "db", "timeout_s": 30, "retries": 2},
                    {"name": "flush.sh", "sha256": "cd" * 32, "phase": "after_recovery", "timeout_s": 60}],
        "consistency_groups": [{"name": "books", "workloads": ["db", "app"]}],
        "workloads": [
            {"name": "db", "recovered_name": "DB at Lyon", "processors": 4, "memory_bytes": 4 << 30, "firmware": "uefi",
             "tags": [{"key": "owner", "value": "ann"}, {"key": "tier", "value": "1"}],
             "nics": [{"network": "dr-vms", "test_network": "lab", "mode": "static", "address": "10.9.0.5", "prefix": 16,
                       "gateway": "10.9.0.1", "dns": ["10.9.0.2", "fd00::1"]},
                      {"mac": "52:54:00:12:34:56", "mode": "dhcp"}, {"nic": 2, "mode": "mapped"}],
             "group": 1, "position": 1, "delay_s": 5,
             "gates": [{"kind": "port", "port": 5432, "timeout_s": 300}, {"kind": "agent", "timeout_s": 60},
                       {"kind": "script", "script": "ready.sh", "timeout_s": 60},
                       {"kind": "person", "note": "look at the books", "timeout_s": 3600}],
             "disks_left_out": ["swap"], "disk_format": "raw"},
            {"name": "app", "group": 2, "gates": [{"kind": "address", "timeout_s": 120}]},
        ],
    }


def put(plan, name="web", dry=False):
    return cluster.request(cluster.wait_leader(), "PUT", "/v1/plans/%s/spec%s" % (name, "?dry_run=true" if dry else ""), plan)


def spec():
    return cluster.get("/v1/plans/web/spec", cluster.wait_leader())


def by_name(plan):
    plan = copy.deepcopy(plan)
    plan["workloads"].sort(key=lambda w: w["name"])
    return plan


def set_up():
    for name in ("db", "app", "mail"):
        disks = []
        for disk in ("root", "swap"):
            path = os.path.join(cluster.base, "%s-%s.img" % (name, disk))
            farlib.make_image(path, 4 << 20, farlib.seed_of_run() + len(images))
            images[(name, disk)] = path
            disks.append({"name": disk, "locator": path})
        cluster.post("/v1/workloads", {"name": name, "site": "protected", "adapter": "file", "disks": disks})


def a_plan_is_made_by_one_command_and_exported_as_it_was_written():
    status, _, value = put(base())
    assert status == 200, value
    exported = spec()
    wanted = base()
    wanted["domain"] = "plain"
    assert by_name(exported) == by_name(wanted), json.dumps(exported, indent=1)


def applied_again_nothing_changes():
    before = cluster.get("/v1/plans/web")["revision"]
    for plan in (base(), spec()):
        status, _, value = put(plan, dry=True)
        assert status == 200 and value["events"] == [], value
        assert put(plan)[0] == 200
    assert cluster.get("/v1/plans/web")["revision"] == before


def a_change_makes_only_its_own_event():
    def kinds(change):
        plan = base()
        change(plan)
        status, _, value = put(plan, dry=True)
        assert status == 200, value
        return sorted(event["kind"] for event in value["events"] if event["kind"] != "command_remembered")

    assert kinds(lambda p: p.update(rto_s=900)) == ["plan_updated"]
    assert kinds(lambda p: p["workloads"][0].update(processors=8)) == ["recovery_changed"]
    assert kinds(lambda p: p.pop("networks")) == ["recovery_changed"]
    assert kinds(lambda p: p["schedule"].update(catch_up="now")) == ["plan_schedule_changed"]
    assert kinds(lambda p: p.pop("retention")) == ["plan_retention_changed"]
    assert kinds(lambda p: p["throttle"].update(bytes_per_s=30000000)) == ["throttle_changed"]
    assert kinds(lambda p: p.pop("throttle")) == ["throttle_removed"]
    assert kinds(lambda p: p.update(state="active")) == ["plan_started"]
    assert kinds(lambda p: p["scripts"].pop()) == ["plan_scripts_changed"]
    assert kinds(lambda p: p.pop("consistency_groups")) == ["plan_scripts_changed"]
    assert kinds(lambda p: (p["workloads"].pop(), p.pop("consistency_groups"))) == ["plan_workloads_changed"]
    assert kinds(lambda p: p["workloads"].append({"name": "mail"})) == ["plan_workloads_changed"]
    assert kinds(lambda p: p.update(workloads=p["workloads"][::-1])) == []


def who_read_an_older_plan_changes_nothing():
    plan = base()
    plan["revision"] = cluster.get("/v1/plans/web")["revision"] + 1
    status, _, value = put(plan)
    assert status == 409 and "somebody changed it" in value["detail"], value


def the_command_line_shows_what_changes_and_asks():
    path = os.path.join(cluster.base, "web.json")
    plan = base()
    plan["workloads"][0]["processors"] = 8
    plan["networks"].append({"source": "san", "target": "dr-san"})
    with open(path, "w", encoding="utf-8") as file:
        json.dump(plan, file)
    text = cluster.cli("plan", "apply", "-f", path, "--dry-run", as_json=False)
    assert "~ workloads[db].processors: 4 -> 8" in text and "+ networks[san]:" in text, text
    try:
        cluster.cli("plan", "apply", "-f", path, as_json=False)
        raise AssertionError("it did not ask")
    except Exception as why:  # pylint: disable=broad-except
        assert "--yes" in str(why), why
    assert cluster.cli("plan", "apply", "-f", path, "--yes", as_json=False).endswith("plan 'web' changed\n")
    assert cluster.cli("plan", "apply", "-f", path, "--yes", as_json=False) == "plan 'web' is so already\n"
    exported = cluster.cli("plan", "export", "web", as_json=False)
    with open(path, "w", encoding="utf-8") as file:
        file.write(exported)
    assert cluster.cli("plan", "apply", "-f", path, "--yes", as_json=False) == "plan 'web' is so already\n"
    shown = {w["workload"]: w for w in cluster.get("/v1/plans/web")["workloads"]}
    assert shown["db"]["recovery"]["processors"] == 8
    assert put(base())[0] == 200


def each_part_can_be_set_by_flags():
    cluster.cli("plan", "set-recovery", "app", "--name", "App 1", "--processors", "2", "--memory", "4GiB", "--tag", "tier=web",
                "--nic", "0,network=dr-vms,mode=static,address=10.9.0.7/16,gateway=10.9.0.1,dns=10.9.0.2+10.9.0.3",
                "--group", "2", "--gate", "port:80:120", "--gate", "person:3600:see the page", "--leave-out", "swap", as_json=False)
    shown = cluster.cli("plan", "show-recovery", "app")
    assert shown == {"recovered_name": "App 1", "processors": 2, "memory_bytes": 4 << 30, "tags": [{"key": "tier", "value": "web"}],
                     "nics": [{"network": "dr-vms", "mode": "static", "address": "10.9.0.7", "prefix": 16, "gateway": "10.9.0.1",
                               "dns": ["10.9.0.2", "10.9.0.3"]}], "group": 2, "disks_left_out": ["swap"],
                     "gates": [{"kind": "port", "port": 80, "timeout_s": 120},
                               {"kind": "person", "note": "see the page", "timeout_s": 3600}]}, shown
    cluster.cli("plan", "clear-recovery", "app", as_json=False)
    assert cluster.cli("plan", "show-recovery", "app") is None
    cluster.cli("plan", "set-networks", "web", "--map", "vms=far", as_json=False)
    assert [n["target"] for n in cluster.get("/v1/plans/web")["networks"]] == ["far"]
    cluster.cli("plan", "set-schedule", "web", "--interval", "900", "--start", "2026-01-01", "--blackout", "sat,sun 22:00-04:00",
                "--zone", "Europe/Paris", "--catch-up", "now", as_json=False)
    assert spec()["schedule"] == {"start_ms": 1767225600000, "zone": "Europe/Paris", "catch_up": "now",
                                  "blackouts": [{"days": [6, 7], "from_min": 1320, "to_min": 240}]}, spec()
    status, text = cluster.cli("plan", "set-recovery", "app", "--gate", "luck", check=False, as_json=False)
    assert status == 2 and "write it like port:5432:300" in text, text
    assert put(base())[0] == 200


def a_plan_is_made_by_questions():
    def wizard(*answers):
        argv = [farlib.program("farshore"), "plan", "wizard", "--server", "https://" + cluster.wait_leader().api, "--token-file",
                cluster.token_file, "--ca", cluster.ca_file]
        return subprocess.run(argv, input="".join(a + "\n" for a in answers), capture_output=True, text=True, timeout=60)

    done = wizard("post", "", "", "", "900", "3600", "5", "", "n", "no")  # not at last
    assert done.returncode != 0 and "nothing was changed" in done.stderr, done
    done = wizard("post", "", "", "mail", "900", "3600", "5", "", "n", "y")
    assert done.returncode == 0 and "plan 'post' created" in done.stdout, done
    made = cluster.get("/v1/plans/post/spec", cluster.wait_leader())
    assert made == {"name": "post", "source_site": "protected", "target_site": "recovery", "domain": "plain", "state": "stopped",
                    "interval_s": 900, "rpo_s": 3600, "workloads": [{"name": "mail"}], "retention": {"last": 5}}, made
    done = wizard("post", "", "", "mail", "soon")
    assert done.returncode == 2 and "is no number" in done.stderr, done
    cluster.cli("plan", "remove", "post", as_json=False)


def a_pause_shows_and_ends():
    plan = base()
    plan["state"] = "paused"
    assert put(plan)[0] == 200 and spec()["state"] == "paused"
    assert put(plan, dry=True)[2]["events"] == []
    assert cluster.get("/v1/plans/web")["rpo"]["reasons"][-1]["code"] == "paused", cluster.get("/v1/plans/web")["rpo"]
    cluster.cli("plan", "resume", "web", as_json=False)
    assert spec()["state"] == "active"
    cluster.cli("plan", "pause", "web", "--until", "2027-01-31", as_json=False)
    assert cluster.get("/v1/plans/web")["due_ms"] == 1801353600000
    assert put(base())[0] == 200 and spec()["state"] == "stopped"


# ---- bad values ----

LONG = "x" * 2000
# What no field of that kind takes, by what the document says of it.
BAD_OF_TYPE = {
    "string": [7, None, {}, ["x"]],
    "integer": [-1, 1.5, "7", None, True],
    "array": [{"x": 1}, "x", None, 7],
    "object": [7, "x", None],
}
# Fields of their kind, but not of sense. Each field of a plan stands here, also where any value of its kind is good: [].
BAD = {
    "name": ["WEB", "other"], "source_site": ["", "nowhere", "recovery"], "target_site": ["", "nowhere", "protected"],
    "domain": ["nowhere"], "state": ["running"], "interval_s": [366 * 86400 + 1], "rpo_s": [366 * 86400 + 1],
    "rto_s": [30 * 86400 + 1], "audit_age_s": [3660 * 86400 + 1], "audit_ppm": [1000001], "full_age_s": [3660 * 86400 + 1],
    "lock_days": [3661], "workloads": [[]], "networks": [], "schedule": [], "retention": [], "throttle": [], "revision": [],
    "workloads[].name": ["", "nobody", "app"], "workloads[].recovered_name": ["a/b", " a", "a\n", "app"],
    "workloads[].processors": [1025], "workloads[].memory_bytes": [1000, (64 << 40) + (1 << 20)], "workloads[].firmware": ["coreboot"],
    "workloads[].disk_format": ["vmdk"],
    "workloads[].tags": [], "workloads[].tags[].key": ["", "Owner", "tier"], "workloads[].tags[].value": ["a\tb"],
    "workloads[].nics": [], "workloads[].nics[].nic": [2, 64], "workloads[].nics[].mac": ["52:54:00:12:34", "52-54-00-12-34-56"],
    "workloads[].nics[].network": ["a\nb"], "workloads[].nics[].test_network": ["a\nb"], "workloads[].nics[].mode": ["magic"],
    "workloads[].nics[].address": ["", "10.9.0", "10.9.0.256", "10.09.0.5", "fd00:::1"], "workloads[].nics[].prefix": [0, 32],
    "workloads[].nics[].gateway": ["10.8.0.1", "10.9.0.5", "x"], "workloads[].nics[].dns": [["x"]], "workloads[].group": [100],
    "workloads[].position": [1000], "workloads[].delay_s": [86401], "workloads[].gates": [], "workloads[].gates[].kind": ["luck"],
    "workloads[].gates[].port": [0, 65536], "workloads[].gates[].script": ["x.sh"], "workloads[].gates[].note": ["x"],
    "workloads[].gates[].timeout_s": [0, 86401], "workloads[].disks_left_out": [["tape"], ["swap", "swap"], ["root", "swap"]],
    "networks[].source": ["", "dmz"], "networks[].target": ["", "a\nb"], "networks[].test": ["a\nb"],
    "networks[].source_subnet": ["10.1.0.0", "10.1.0.1/16", "10.1.0.0/33", ""], "networks[].target_subnet": ["10.9.0.0/17", "x", ""],
    "scripts": [], "scripts[].name": ["", "a/b"], "scripts[].sha256": ["", "zz", "ab" * 31], "scripts[].phase": ["later"],
    "scripts[].workload": ["mail"], "scripts[].timeout_s": [0, 86401], "scripts[].retries": [11], "consistency_groups": [],
    "consistency_groups[].name": ["", "A"], "consistency_groups[].workloads": [[], ["db"], ["db", "db"], ["db", "mail"]],
    "schedule.start_ms": [1 << 52], "schedule.zone": ["no zone", "Nowhere/There"], "schedule.windows": [],
    "schedule.windows[].days": [[], [0], [8], [1, 1]], "schedule.windows[].from_min": [1440], "schedule.windows[].to_min": [0, 1441],
    "schedule.blackouts": [[{"days": [1, 2, 3, 4, 5, 6, 7], "from_min": 0, "to_min": 1440}]],
    "schedule.blackouts[].days": [[], [0], [8], [1, 1]], "schedule.blackouts[].from_min": [1440],
    "schedule.blackouts[].to_min": [0, 1441], "schedule.catch_up": ["later"],
    "retention.last": [10001], "retention.hourly": [10001], "retention.daily": [10001], "retention.weekly": [10001],
    "retention.monthly": [10001], "retention.zone": ["no zone", "Nowhere/There"],
    "throttle.bytes_per_s": [2, 1 << 50], "throttle.zone": ["no zone", "Nowhere/There"], "throttle.windows": [],
    "throttle.windows[].days": [[], [0], [8], [1, 1]], "throttle.windows[].from_min": [1440],
    "throttle.windows[].to_min": [0, 1441], "throttle.windows[].bytes_per_s": [2, 1 << 50],
}
# Where another field is at fault, too, or another one says it.
NAMED_BY = {"workloads[].disks_left_out": "disks_left_out", "workloads[].nics[].dns": "dns", "networks[].source_subnet": "subnet",
            "consistency_groups[].workloads": "workloads",
            "name": "name"}


def fields_of(document, schema, path=""):
    """Every field of the schema with its path: "workloads[].nics[].address"."""
    for name, field in schema["properties"].items():
        here = path + name
        if "$ref" in field:
            field = document["components"]["schemas"][field["$ref"].split("/")[-1]]
        yield here, field
        if field["type"] == "object":
            yield from fields_of(document, field, here + ".")
        item = field.get("items", {})
        if "$ref" in item:
            yield from fields_of(document, document["components"]["schemas"][item["$ref"].split("/")[-1]], here + "[].")


def with_value(plan, path, value):
    """The plan with this value in that field; of lists in the first item."""
    plan, at = copy.deepcopy(plan), None
    parts = path.replace("[]", "").split(".")
    at = plan
    for part in parts[:-1]:
        at = at[part]
        at = at[0] if isinstance(at, list) else at
    at[parts[-1]] = value
    return plan


def bad_values(path, field):
    """(value, words that the refusal holds)"""
    for value in BAD_OF_TYPE[field["type"]]:
        if not (path == "revision" and value is None):
            yield value
    if "enum" in field:
        yield "nonsense"
    if field["type"] == "string" and "enum" not in field:
        yield LONG
    if field["type"] == "array":
        item = field["items"]
        yield [{} if "$ref" in item else "x" if item["type"] == "string" else 1] * (field["maxItems"] + 1)
        yield [[]]
    yield from BAD[path]


def every_field_refuses_bad_values_by_its_path():
    document = cluster.get("/v1/openapi.json")
    schema = document["paths"]["/v1/plans/{name}/spec"]["put"]["requestBody"]["content"]["application/json"]["schema"]
    fields = dict(fields_of(document, schema))
    assert set(fields) == set(BAD), "fields without bad values, or the reverse: %s" % sorted(set(fields) ^ set(BAD))
    before, tried, wrong = cluster.get("/v1/plans?limit=10"), 0, []
    for path, field in fields.items():
        for value in bad_values(path, field):
            status, _, answer = put(with_value(base(), path, value), dry=True)
            detail = answer.get("detail", "") if isinstance(answer, dict) else ""
            named = NAMED_BY.get(path) or re.sub(r"\[\]", "[0]", path)
            tried += 1
            if status not in (400, 404, 409) or named.split(".")[-1].split("[")[0] not in detail or "field '" not in detail:
                wrong.append("%s = %.60r: %s %s" % (path, value, status, detail))
            elif path not in NAMED_BY and "'%s" % named not in detail and "is missing" not in detail and \
                    not re.search(r"'%s" % re.escape(named).replace(r"\[0\]", r"\[[0-9]\]"), detail):
                wrong.append("%s = %.60r: another field is named: %s" % (path, value, detail))
    assert not wrong, "%d of %d:\n%s" % (len(wrong), tried, "\n".join(wrong))
    assert cluster.get("/v1/plans?limit=10") == before
    print("# bad values refused: %d, of %d fields" % (tried, len(fields)))


def what_does_not_fit_is_refused_as_a_whole():
    before = spec()
    plan = base()
    plan["workloads"][1]["processors"] = 5000
    plan["rpo_s"] = 1
    status, _, value = put(plan)
    assert status == 400 and "'workloads[1].processors' is 5000" in value["detail"], value
    assert spec() == before
    plan = base()
    plan["workloads"][0]["nics"] = [{"nic": n, "network": "n" * 127, "test_network": "t" * 127} for n in range(8)]
    status, _, value = put(plan)
    assert status == 400 and "1700 are allowed" in value["detail"], (status, value)
    plan = base()
    config = {"nics": [{"nic": n, "network": "n" * 127} for n in range(8)], "recovered_name": "x"}
    plan.pop("scripts")
    plan.pop("consistency_groups")
    plan["workloads"] = [dict(config, name="w%d" % n) for n in range(200)]
    status, _, value = put(plan)
    assert status == 400 and "131072" in value["detail"], (status, value)
    plan = base()
    plan["unheard"] = 1
    status, _, value = put(plan)
    assert status == 400 and "'unheard'" in value["detail"], value
    assert spec() == before


# ---- while it is protected ----

def workloads_come_and_go_without_a_copy_of_the_others():
    plan = base()
    for part in ("schedule", "lock_days", "scripts"):  # no node here runs any
        plan.pop(part)
    plan["interval_s"] = 0
    assert put(plan)[0] == 200
    first = cluster.finish(cluster.start_cycle("web"))
    assert first["state"] == "succeeded" and first["bytes_sent"] > 8 << 20, first
    point = cluster.get("/v1/checkpoints/%d" % first["checkpoint_id"])
    members = {m["workload"]: m for m in point["members"]}
    assert members["db"]["point"]["recovery"]["processors"] == 4 and members["app"]["point"]["recovery"]["group"] == 2
    assert [n["target"] for n in point["networks"]] == ["dr-vms", "dr-dmz"]
    plan["workloads"].append({"name": "mail"})
    plan["workloads"][0]["processors"] = 16
    plan.pop("networks")
    assert put(plan)[0] == 200
    second = cluster.finish(cluster.start_cycle("web"))
    assert second["state"] == "succeeded" and 1 << 20 < second["bytes_sent"] < 12 << 20, second
    point = cluster.get("/v1/checkpoints/%d" % second["checkpoint_id"])
    members = {m["workload"]: m for m in point["members"]}
    assert len(members) == 3 and members["db"]["point"]["recovery"]["processors"] == 16 and point["networks"] == []
    point = cluster.get("/v1/checkpoints/%d" % first["checkpoint_id"])  # it keeps what was set then
    members = {m["workload"]: m for m in point["members"]}
    assert members["db"]["point"]["recovery"]["processors"] == 4 and len(point["networks"]) == 2
    cluster.cli("plan", "remove-workload", "web", "--workload", "mail", as_json=False)
    third = cluster.finish(cluster.start_cycle("web"))
    assert third["state"] == "succeeded" and third["bytes_sent"] < 1 << 20, third
    assert len(cluster.get("/v1/checkpoints/%d" % third["checkpoint_id"])["members"]) == 2
    assert cluster.get("/v1/workloads/mail")["plan"] == ""


def manifests():
    folder = os.path.join(cluster.nodes["target"].dir, "vault", "points")
    return {int(name.split(".")[0]) for name in os.listdir(folder) if name.endswith(".manifest")}


def a_workload_leaves_with_its_points():
    points = {p["id"]: p["workload"] for p in cluster.get("/v1/points?limit=100&plan=web")["items"] if p["state"] != "removed"}
    going = {number for number, workload in points.items() if workload == "db"}
    assert len(going) == 3 and set(points) == manifests(), (points, manifests())
    checkpoints = [c["id"] for c in cluster.get("/v1/checkpoints?limit=100&plan=web")["items"]]
    cluster.post("/v1/checkpoints/%d/preserve" % checkpoints[0], {"reason": "the audit"})
    try:
        cluster.post("/v1/plans/web/remove-workloads", {"workloads": ["db"], "with_points": True})
        assert False, "a preserved checkpoint lost a workload"
    except farlib.Problem as problem:
        assert "is preserved" in problem.detail, problem.detail
    cluster.post("/v1/checkpoints/%d/unpreserve" % checkpoints[0])
    cluster.cli("plan", "remove-workload", "web", "--workload", "db", "--with-points", as_json=False)
    farlib.until(lambda: manifests() == set(points) - going, 30, "the manifests of its points go")
    for checkpoint in checkpoints:
        members = {m["workload"] for m in cluster.get("/v1/checkpoints/%d" % checkpoint)["members"]}
        assert "db" not in members and "app" in members, members
    assert cluster.get("/v1/workloads/db")["plan"] == ""
    cycle = cluster.finish(cluster.start_cycle("web"))
    assert cycle["state"] == "succeeded" and cycle["bytes_sent"] < 1 << 20, cycle
    verified = cluster.finish(cluster.post("/v1/checkpoints/%d/verify" % cycle["checkpoint_id"])["id"])
    assert verified["state"] == "succeeded", verified


def told(test):
    """tap wants what is wrong as a list."""
    def run():
        test()
        return []
    run.__name__ = test.__name__
    return run


if __name__ == "__main__":
    with farlib.Cluster() as cluster:
        set_up()
        tap.run_all([told(test) for test in (
            a_plan_is_made_by_one_command_and_exported_as_it_was_written, applied_again_nothing_changes,
            a_change_makes_only_its_own_event, who_read_an_older_plan_changes_nothing, the_command_line_shows_what_changes_and_asks,
            each_part_can_be_set_by_flags, a_plan_is_made_by_questions, a_pause_shows_and_ends,
            every_field_refuses_bad_values_by_its_path, what_does_not_fit_is_refused_as_a_whole,
            workloads_come_and_go_without_a_copy_of_the_others, a_workload_leaves_with_its_points)])
