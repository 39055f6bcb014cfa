#!/usr/bin/env python3
"""Encryption at rest with the real programs: plans in dedup domains, new keys, kills, recovery with nothing but the vault and the
recovery key, and no secret anywhere else.

  test_domains.py [kill]      kill: a vault's domain is made and given new keys, killed before each step

far-timeout: 280
"""
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import farlib
import tap

SIZE = 24 * farlib.MIB
cluster = seed = None


def path(name):
    return os.path.join(cluster.base, name)


def vault():
    return cluster.nodes["target"].dir + "/vault"


def domain(name="gold"):
    return cluster.get("/v1/domains/" + name)


def command(*argv):
    """farshore domain …; what is read after it is not older."""
    answer = cluster.cli("domain", *argv)
    cluster.index = max(cluster.index, answer["index"])
    return answer


def points(workload):
    return sorted(p["id"] for p in cluster.get("/v1/points")["items"] if p["workload"] == workload)


def key_file(key=None):
    with open(path("recovery.key"), "w", encoding="utf-8") as file:
        file.write((key or cluster.recovery_key) + "\n")
    return path("recovery.key")


def in_packs(image):
    """Does a page of the image that is no filling lie in the packs as it is?"""
    with open(image, "rb") as file:
        data = file.read()
    packs = b""
    for name in sorted(os.listdir(vault() + "/packs")):
        with open(os.path.join(vault(), "packs", name), "rb") as file:
            packs += file.read()
    pages = [data[at:at + 64] for at in range(4096 * 7, len(data) - 64, farlib.MIB // 2)]
    return any(page in packs for page in pages if len(set(page)) > 20)


def verify_all():
    for checkpoint in cluster.get("/v1/checkpoints")["items"]:
        if checkpoint["state"] == "available":
            job = cluster.finish(cluster.post("/v1/checkpoints/%d/verify" % checkpoint["id"])["id"])
            assert job["state"] == "succeeded", job


def what_a_plan_in_a_domain_stores_is_encrypted():
    farlib.make_image(path("plain.img"), SIZE, seed)
    cluster.protect("open", [path("plain.img")], plan="before")
    cluster.replicate()
    assert in_packs(path("plain.img")) and not os.path.exists(vault() + "/domains")
    command("create", "gold", "--default")
    farlib.make_image(path("a.img"), SIZE, seed + 1)
    shutil.copyfile(path("a.img"), path("a.first"))
    cluster.protect("vm", [path("a.img")])
    assert cluster.get("/v1/plans/plan")["domain"] == "gold"
    cluster.replicate()
    assert not in_packs(path("a.img"))
    assert cluster.get("/v1/points/%d" % points("vm")[0])["domain"] == "gold"
    shown = domain()
    assert shown["plan_count"] == 1 and shown["point_count"] == 1 and shown["generation"] == 1, shown
    assert [(v["node"], v["generation"]) for v in shown["vaults"]] == [("target", 1)], shown
    cluster.recover("vm", [path("a.out")])
    assert farlib.same_bytes(path("a.img"), path("a.out"))
    verify_all()


def a_new_key_writes_no_data_anew_and_old_points_stay():
    before = sum(os.path.getsize(os.path.join(vault(), "packs", name)) for name in os.listdir(vault() + "/packs"))
    command("rotate", "gold", "--generation", "2")
    assert domain()["generation"] == 2 and domain()["vaults"][0]["generation"] == 1
    status, text = cluster.cli("domain", "rotate", "gold", "--generation", "2", as_json=False, check=False)
    assert status == 4 and "meanwhile" in text, text
    assert domain()["generation"] == 2
    farlib.change_image(path("a.img"), 20, seed + 2)
    job = cluster.replicate()
    after = sum(os.path.getsize(os.path.join(vault(), "packs", name)) for name in os.listdir(vault() + "/packs"))
    assert after - before < job["bytes_changed"] + farlib.MIB, (before, after, job)
    assert domain()["vaults"][0]["generation"] == 2 and [k["generation"] for k in domain()["keys"]] == [2], domain()
    verify_all()


def nodes_that_die_find_their_keys_again():
    for round_ in range(3):
        cluster.post("/v1/domains/gold/rotate", {})
        farlib.change_image(path("a.img"), 20, seed + 10 + round_)
        job = cluster.start_cycle()
        name = "target" if round_ % 2 == 0 else "source"
        cluster.nodes[name].kill()
        cluster.nodes[name].start()
        assert cluster.finish(job)["state"] in ("succeeded", "failed"), job
        cluster.replicate()
    cluster.recover("vm", [path("a.out3")])
    assert farlib.same_bytes(path("a.img"), path("a.out3"))
    verify_all()


def the_vault_and_the_recovery_key_give_the_disk_back():
    first, newest = points("vm")[0], points("vm")[-1]
    base = ["farshore-node", "vault"]
    status, text = cluster.run_tool(*base, "list", "--vault", vault())
    assert status == 0 and "domain 1 'gold': encrypted, no key here" in text and "vm" in text, text
    recover = [*base, "recover", "--offline", "--vault", vault(), "--disk", "disk0"]
    status, text = cluster.run_tool(*recover, "--point", str(newest), "--target", path("no"), check=False)
    assert status != 0 and "'gold' is encrypted" in text and not os.path.exists(path("no")), text
    other = cluster.recovery_key.replace(cluster.recovery_key[0], "A" if cluster.recovery_key[0] != "A" else "B", 1)
    status, text = cluster.run_tool(*recover, "--point", str(newest), "--target", path("no"), "--recovery-key", key_file(other),
                                    check=False)
    assert status != 0 and cluster.recovery_key not in text, text
    for point, image in ((first, "a.first"), (newest, "a.img")):
        cluster.run_tool(*recover, "--point", str(point), "--target", path("offline"), "--recovery-key", key_file())
        assert farlib.same_bytes(path(image), path("offline"))
        os.unlink(path("offline"))
    status, text = cluster.run_tool(*base, "verify", "--vault", vault(), "--point", str(newest), "--recovery-key", key_file())
    assert status == 0 and "good: disk 'disk0'" in text, text
    status, text = cluster.run_tool(*base, "signal", "--vault", vault(), "--point", str(newest), "--recovery-key", key_file())
    assert status == 0 and str(newest) in text, text
    status, text = cluster.run_tool(*base, "forget", "--vault", vault(), "--point", str(newest), check=False)
    assert status == 4 and "is a cluster's" in text, text
    plain = points("open")[0]  # what is in no domain needs no key
    cluster.run_tool(*recover, "--point", str(plain), "--target", path("offline"))
    assert farlib.same_bytes(path("plain.img"), path("offline"))


def a_point_in_a_domain_opens_over_nbd_with_the_recovery_key():
    plugin = os.path.join(farlib.BUILD, ".libs/nbdkit-farshore-plugin.so")
    with open(plugin, "rb") as file:
        if b"__asan_init" in (content := file.read()) or b"__tsan_init" in content:
            return  # nbdkit cannot load it
    socket = path("nbd.socket")
    command = [farlib.program("farshore-node"), "vault", "open", "--vault", vault(), "--point", str(points("vm")[-1]), "--disk", "disk0",
               "--socket", socket]
    environment = dict(os.environ, FARSHORE_NBDKIT_PLUGIN=plugin)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode != 0 and "'gold' is encrypted" in done.stderr, done
    process = subprocess.Popen([*command, "--recovery-key", key_file()], env=environment, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, preexec_fn=farlib.die_with_parent)
    farlib.until(lambda: os.path.exists(socket) or process.poll() is not None, 30, "the socket")
    assert process.poll() is None, process.communicate()
    with open("/proc/%d/cmdline" % process.pid, "rb") as file:
        assert cluster.recovery_key.encode() not in file.read()
    done = subprocess.run(["nbdcopy", "nbd+unix:///?socket=" + socket, path("copy")], capture_output=True, text=True)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert done.returncode == 0 and farlib.same_bytes(path("a.img"), path("copy")), done


def no_secret_is_in_logs_answers_and_exports():
    tool = os.path.join(farlib.BUILD, "tests/lib/domain_secrets")
    done = subprocess.run([tool, vault(), key_file()], capture_output=True, text=True)
    secrets = done.stdout.split()
    assert done.returncode == 0 and len(secrets) >= 6, done  # the secret and a wrapping key for each generation
    cluster.cli("log", "export", "--out", path("export"), as_json=False)
    texts = [json.dumps(cluster.get(route)) for route in
             ("/v1/domains", "/v1/domains/gold", "/v1/plans", "/v1/jobs", "/v1/points", "/v1/log/explain?object=domain:gold",
              "/v1/events?from=start&follow=0&limit=1000")]
    haystacks = [text.encode() for text in texts]
    for process in cluster.processes():
        with open(process.log, "rb") as file:
            haystacks.append(file.read())
    with open(path("export"), "rb") as file:
        haystacks.append(file.read())
    for secret in secrets + [cluster.recovery_key]:
        raw = bytes.fromhex(secret) if len(secret) == 64 else secret.encode()
        for needle in (secret.encode(), secret.upper().encode(), raw, base64.b64encode(raw)):
            for haystack in haystacks:
                assert needle not in haystack
    assert all(b"sealed_key" not in h or b"sealed_key\": \"" not in h for h in haystacks)
    for text in texts:
        assert '"sealed_secret": "' not in text


def another_server_and_another_leader_hand_out_the_same_keys():
    leader = cluster.leader()
    leader.kill()
    cluster.wait_leader()
    farlib.change_image(path("a.img"), 10, seed + 30)
    cluster.replicate()
    verify_all()
    leader.start()


def reclaim():
    job = cluster.finish(cluster.post("/v1/vaults/target/reclaim")["id"])
    assert job["state"] == "succeeded", job


def a_pass_of_reclaim_brings_the_keys_of_what_it_walks():
    """Nothing has unlocked the domain since the node began anew."""
    cluster.nodes["target"].kill()
    cluster.nodes["target"].start()
    cluster.wait_nodes()
    reclaim()
    assert cluster.get("/v1/vaults/target").get("problem", "") == "", cluster.get("/v1/vaults/target")
    verify_all()


def restart_target():
    cluster.nodes["target"].kill()
    cluster.nodes["target"].start()
    cluster.wait_nodes()


def a_look_at_the_vault_brings_the_keys_too():
    restart_target()
    job = cluster.finish(cluster.post("/v1/vaults/target/measure")["id"])
    assert job["state"] == "succeeded", job


def a_plan_in_a_domain_is_erased_when_its_node_began_anew():
    before = cluster.plan
    farlib.make_image(path("e.img"), SIZE, seed + 40)
    cluster.protect("brief", [path("e.img")], plan="brief")
    try:
        cluster.replicate()
        reclaim()
        restart_target()
        cluster.post("/v1/plans/brief/stop")
        cluster.cli("plan", "erase", "brief", "--confirm", "brief", "--wait", as_json=False, timeout=120)
        job = cluster.get("/v1/jobs?kind=erase&limit=10")["items"][-1]
        assert job["state"] == "succeeded" and job["deleted_records"] > 0, job
        cluster.cli("plan", "erase", "brief", "--confirm", "brief", "--wait", as_json=False, timeout=60)  # nothing is left: no vault is asked
        job = cluster.get("/v1/jobs?kind=erase&limit=10")["items"][-1]
        assert job["state"] == "succeeded" and job["task_count"] == 0, job
        cluster.call("DELETE", "/v1/plans/brief")
    finally:
        cluster.plan = before


def a_destroyed_domain_is_gone_and_the_rest_is_not():
    cluster.post("/v1/plans/plan/stop")
    status = cluster.cli("domain", "destroy", "gold", "--confirm", "gold", as_json=False, check=False)
    assert "remove them first" in str(status), status
    cluster.call("DELETE", "/v1/plans/plan")
    status = cluster.cli("domain", "destroy", "gold", as_json=False, check=False)
    assert "second time" in str(status), status
    command("destroy", "gold", "--confirm", "gold")
    assert domain()["state"] == "destroyed" and domain().get("keys", []) == [], domain()
    newest = max((c for c in cluster.get("/v1/checkpoints")["items"] if c["plan"] != "before" and c["state"] != "removed"),
                 key=lambda c: c["id"])
    job = cluster.finish(cluster.post("/v1/checkpoints/%d/verify" % newest["id"])["id"])
    assert job["state"] != "succeeded", job
    assert len(domain()["vaults"]) == 1
    reclaim()  # the vault forgets its half too
    assert domain().get("vaults", []) == [], domain()
    point = points("vm")[-1] if points("vm") else 1
    status, text = cluster.run_tool("farshore-node", "vault", "recover", "--offline", "--vault", vault(), "--point", str(point), "--disk",
                                    "disk0", "--target", path("gone"), "--recovery-key", key_file(), check=False)
    assert status != 0 and "destroyed" in text, text
    cluster.plan = "before"
    cluster.recover("open", [path("plain.out")])
    assert farlib.same_bytes(path("plain.img"), path("plain.out"))


# ---- killed before each step ----

def every_step_of_a_new_key_may_be_the_last():
    """The program is the driver of the power-cut test, under a name that the shim takes steps of."""
    base = tempfile.mkdtemp(prefix="far-domain-kill-")
    driver, folder, work = os.path.join(base, "farshore-driver"), os.path.join(base, "vault"), os.path.join(base, "work")
    shutil.copy(os.path.join(farlib.BUILD, "tests/lib/vault_driver"), driver)
    shim = os.path.join(farlib.BUILD, "tests/lib/.libs/libkill.so")
    if os.environ.get("ASAN_OPTIONS"):
        shim = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip() + ":" + shim
    lines, kills = "", 0
    for generation in range(1, 5):
        step = killed = 1
        while killed:
            shutil.rmtree(work, ignore_errors=True)
            if os.path.exists(folder):
                shutil.copytree(folder, work)
            steps = {"LD_PRELOAD": shim, "FAR_KILL_STEPS": os.path.join(base, "steps"), "FAR_KILL_AT": str(step)}
            if os.path.exists(steps["FAR_KILL_STEPS"]):
                os.unlink(steps["FAR_KILL_STEPS"])
            done = subprocess.run([driver, "key", work, str(generation)], env=dict(os.environ, **steps), capture_output=True, text=True)
            killed = done.returncode == -signal.SIGKILL
            assert killed or done.returncode == 0, done
            if not killed:
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(work, folder)
            said = lines + done.stdout
            done = subprocess.run([driver, "check", work], input=said, capture_output=True, text=True)
            assert done.returncode == 0 or not os.path.exists(work), "step %d of key %d: %s%s" % (step, generation, done.stdout, done.stderr)
            step += 1
        kills += step - 2
        lines = said
    shutil.rmtree(base)
    print("# killed %d times" % kills)
    assert kills > 40, kills


def all_stores_agree():
    cluster.wait_same_heads()
    cluster.verify_all_offline()


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    if len(sys.argv) > 1:
        tap.run_all([every_step_of_a_new_key_may_be_the_last])
    with farlib.Cluster() as cluster:
        tap.run_all([
            what_a_plan_in_a_domain_stores_is_encrypted, a_new_key_writes_no_data_anew_and_old_points_stay,
            nodes_that_die_find_their_keys_again, the_vault_and_the_recovery_key_give_the_disk_back,
            a_point_in_a_domain_opens_over_nbd_with_the_recovery_key, no_secret_is_in_logs_answers_and_exports,
            another_server_and_another_leader_hand_out_the_same_keys, a_pass_of_reclaim_brings_the_keys_of_what_it_walks,
            a_look_at_the_vault_brings_the_keys_too, a_plan_in_a_domain_is_erased_when_its_node_began_anew,
            a_destroyed_domain_is_gone_and_the_rest_is_not, all_stores_agree,
        ])
