#!/usr/bin/env python3
"""A vault on an object store (a real one: s3lib): packs go there and leave the folder, points are read by ranges; a lost folder is made again;
other folders read or take over; a store that is away, damaged, or a program killed before any step costs no point.

far-timeout: 290
"""
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading

import farlib
import s3lib
import tap

NODE = os.path.join(farlib.BUILD, "src/node/farshore-node")
SHIM = os.path.join(farlib.BUILD, "tests/lib/.libs/libkill.so")
MIB = 1 << 20
SEED = int(os.environ.get("FAR_SEED", random.randrange(1 << 32)))
rng = random.Random(SEED)
server = work = store = None
contents = {}  # of vaults' points: {(vault, point): bytes}


def path(*names):
    return os.path.join(work, *names)


def run(*arguments, env=None):
    done = subprocess.run([NODE, "vault", *arguments], capture_output=True, text=True, env=dict(os.environ, **(env or {})))
    return done.returncode, done.stdout + done.stderr


def vault(*arguments, good=True):
    status, text = run(*arguments)
    if (status == 0) != good or status < 0:
        raise farlib.Failure("%s: status %d: %s" % (" ".join(arguments), status, text))
    assert server.secret_key not in text
    return text


def make_image(name, size=6 * MIB):
    with open(path(name), "wb") as image:
        image.truncate(size - 777)
        for offset in range(0, size - 2 * MIB, 2 * MIB):
            image.seek(offset)
            image.write(rng.randbytes(MIB) + b"compressible " * (MIB // 26))


def change(name, count=3):
    with open(path(name), "r+b") as image:
        for _ in range(count):
            image.seek(rng.randrange(4 * MIB))
            image.write(rng.randbytes(rng.randrange(1, 200000)))


def content(name):
    with open(path(name), "rb") as image:
        return image.read()


def do_import(folder, image, label="web"):
    text = vault("import", "--vault", path(folder), "--image", path(image), "--label", label)
    point = re.search(r"of point (\d+)", text).group(1)
    contents[label, point] = content(image)
    return point


def recovered(folder, point, good=True):
    target = tempfile.mktemp(dir=work)
    text = vault("recover", "--offline", "--vault", path(folder), "--point", point, "--disk", "disk0", "--target", target, good=good)
    if not good:
        return text
    with open(target, "rb") as file:
        data = file.read()
    os.unlink(target)
    return data


def points(folder):
    return [line.split()[0] for line in vault("list", "--vault", path(folder)).splitlines() if re.match(r"\d+ ", line)]


def wrong_points(folder, label="web", at_least=1):
    """Every point that is there is exact."""
    there = points(folder)
    assert len(there) >= at_least, there
    return ["point %s of %s is not exact" % (point, folder) for point in there if recovered(folder, point) != contents[label, point]]


def packs_here(folder):
    return sorted(name for name in os.listdir(path(folder, "packs")) if name.endswith(".pack"))


def state(folder):
    """(packs in the store, packs that are only there, packs that wait)"""
    found = re.search(r"(\d+) packs with \d+ bytes are in the store, (\d+) with \d+ bytes only there; (\d+) complete",
                      vault("store", "--vault", path(folder)))
    return tuple(int(each) for each in found.groups())


def objects(suffix, bucket="vault"):
    """Files of the store's own storage."""
    return sorted(os.path.join(place, name) for place, _, names in os.walk(path("s3/root", bucket)) for name in names if name.endswith(suffix))


def vault_uuids():
    return re.findall(r"^([0-9a-f]{32}) ", vault("store", "--store", store), re.MULTILINE)


def what_a_vault_has_goes_to_the_store_and_leaves_the_folder():
    make_image("image")
    do_import("first", "image")
    text = vault("bind", "--vault", path("first"), "--store", store)
    assert "with all that it has" in text, text
    vault("bind", "--vault", path("first"), "--store", store)  # again is nothing new
    for _ in range(3):
        change("image")
        do_import("first", "image")
    up, away, waiting = state("first")
    assert up == len(objects(".pack")) >= 4 and away >= 3 and waiting == 0 and len(packs_here("first")) <= 1, (up, away, packs_here("first"))
    return wrong_points("first", at_least=4)


def a_point_in_the_store_is_served_over_nbd():
    plugin = os.path.join(farlib.BUILD, ".libs/nbdkit-farshore-plugin.so")
    with open(plugin, "rb") as file:
        if b"__asan_init" in (text := file.read()) or b"__tsan_init" in text:
            raise tap.Skip("the plugin has sanitizers in it")
    for point in points("first")[:2]:
        out = path("nbd.out")
        done = subprocess.run(["nbdkit", "-U", "-", "-r", plugin, "vault=" + path("first"), "point=" + point, "disk=disk0", "--run",
                               'nbdcopy "$uri" ' + out], capture_output=True, text=True, preexec_fn=farlib.die_with_parent)
        assert done.returncode == 0, done.stdout + done.stderr
        assert content("nbd.out") == contents["web", point]
        os.unlink(out)


def a_lost_folder_is_made_again():
    shutil.rmtree(path("first"))
    assert "is held by" in vault("attach", "--vault", path("first"), "--store", store, good=False)
    text = vault("attach", "--vault", path("first"), "--store", store, "--take-over")
    assert "4 points" in text and "epoch 2" in text, text
    wrong = wrong_points("first", at_least=4)
    change("image")
    do_import("first", "image")
    return wrong + wrong_points("first", at_least=5)


def another_folder_reads_and_does_not_write():
    vault("attach", "--vault", path("reader"), "--store", store, "--read-only")
    wrong = wrong_points("reader", at_least=5)
    text = vault("import", "--vault", path("reader"), "--image", path("image"), "--label", "web", good=False)
    assert "another folder writes" in text, text
    change("image")
    newest = do_import("first", "image")
    vault("forget", "--vault", path("first"), "--point", points("first")[0])
    assert newest not in points("reader")
    vault("attach", "--vault", path("reader"), "--store", store, "--read-only")
    assert points("reader") == points("first") and newest in points("reader"), (points("reader"), points("first"))
    return wrong + wrong_points("reader", at_least=5)


def what_is_reclaimed_leaves_the_store():
    make_image("image")
    do_import("first", "image")
    change("image")
    do_import("first", "image")
    before = len(objects(".pack"))
    for point in points("first")[:-2]:
        vault("forget", "--vault", path("first"), "--point", point)
    text = [vault("reclaim", "--vault", path("first")) for _ in range(3)]
    assert len(objects(".pack")) < before, text
    up, _, waiting = state("first")
    assert up == len(objects(".pack")) and waiting == 0, (state("first"), objects(".pack"))
    wrong = wrong_points("first", at_least=2)
    vault("attach", "--vault", path("reader"), "--store", store, "--read-only")
    return wrong + wrong_points("reader", at_least=2)


def who_is_taken_over_is_refused():
    vault("attach", "--vault", path("second"), "--store", store, "--take-over")
    change("image")
    assert "taken over" in vault("import", "--vault", path("first"), "--image", path("image"), "--label", "web", good=False)
    assert len(points("second")) == 2
    do_import("second", "image")
    wrong = wrong_points("second", at_least=3)
    # what the former holder had under way is never taken for a pack of the new one; its key is another: somebody has to say so
    assert "as this folder" not in vault("attach", "--vault", path("reader"), "--store", store, "--read-only", good=False)
    key = re.search("^keys (.*)$", vault("store", "--vault", path("second")), re.MULTILINE).group(1)
    vault("attach", "--vault", path("reader"), "--store", store, "--read-only", "--key", key)
    wrong += wrong_points("reader", at_least=3)
    shutil.rmtree(path("first"))
    os.rename(path("second"), path("first"))
    return wrong


def a_store_that_is_away_is_waited_for_and_then_said():
    short = server.store_file("vault", "short", prefix="vaults/", keep_bytes=1, retry_max_ms=1000)
    shutil.copyfile(short, path("first/store"))
    there = points("first")
    server.kill()
    try:
        change("image")
        status, text = run("import", "--vault", path("first"), "--image", path("image"), "--label", "web")
        assert status == 8 and "gave up" in text, (status, text)
        assert points("first") == there, "a point that is not in the store was announced"
        said = [recovered("first", point, good=False) for point in there[:2]]
        assert all("gave up" in text and "damaged" not in text for text in said), said
    except BaseException:
        server.start()
        raise
    shutil.copyfile(store, path("first/store"))
    waits = subprocess.Popen([NODE, "vault", "import", "--vault", path("first"), "--image", path("image"), "--label", "web"],
                             stdout=subprocess.PIPE, text=True, preexec_fn=farlib.die_with_parent)
    server.start()
    text = waits.communicate(timeout=100)[0]
    assert waits.returncode == 0, text
    contents["web", re.search(r"of point (\d+)", text).group(1)] = content("image")
    return wrong_points("first", at_least=4)


def several_vaults_share_a_store():
    make_image("image2")
    vault("import", "--vault", path("other"), "--image", path("image2"), "--label", "web2")
    vault("bind", "--vault", path("other"), "--store", store)
    assert len(vault_uuids()) == 2
    assert "say which" in vault("attach", "--vault", path("which"), "--store", store, "--read-only", good=False)
    work_of = [threading.Thread(target=lambda f=f, i=i, l=l: [change(i), do_import(f, i, l)] and None)
               for f, i, l in (("first", "image", "web"), ("other", "image2", "web2"))]
    for thread in work_of:
        thread.start()
    for thread in work_of:
        thread.join()
    for uuid in vault_uuids():
        shutil.rmtree(path("which"), ignore_errors=True)
        vault("attach", "--vault", path("which"), "--store", store, "--uuid", uuid, "--read-only")
        label = "web2" if points("which") == points("other") and recovered("which", points("which")[-1]) == content("image2") else "web"
        contents.setdefault((label, points("other")[0]), recovered("other", points("other")[0]))
        wrong = wrong_points("which", label)
        if wrong:
            return wrong
    return wrong_points("first") + ["%s" % k for k in vault_uuids() if len(vault_uuids()) != 2]


def what_is_damaged_in_the_store_is_said_and_never_given_out():
    found = [name for name in objects(".pack") if os.path.getsize(name) > MIB]
    victim = found[0]
    with open(victim, "rb") as file:
        good = file.read()
    wrong = []
    shutil.rmtree(path("which"), ignore_errors=True)
    uuid = re.search(r"/([0-9a-f]{32})/packs", victim).group(1)
    for what in ("flip", "cut", "gone"):
        shutil.rmtree(path("which"), ignore_errors=True)
        vault("attach", "--vault", path("which"), "--store", store, "--uuid", uuid, "--read-only")
        if what == "flip":
            for at in range(len(good) // 10, len(good), len(good) // 10):
                with open(victim, "r+b") as file:
                    file.seek(at)
                    file.write(bytes([good[at] ^ 64]))
        elif what == "cut":
            os.truncate(victim, len(good) // 2)
        else:
            os.rename(victim, victim + ".away")
        good_ones = bad_ones = 0
        for point in points("which"):
            target = path("out")
            status, _ = run("recover", "--offline", "--vault", path("which"), "--point", point, "--disk", "disk0", "--target", target)
            exact = status == 0 and any(content("out") == data for data in contents.values())
            good_ones += exact
            bad_ones += status > 0
            if status < 0 or (status == 0 and not exact):
                wrong.append("%s: point %s: status %d, and not exact" % (what, point, status))
            if os.path.exists(target):
                os.unlink(target)
        if bad_ones == 0:
            wrong.append("%s: nobody noticed" % what)
        if what == "gone":
            os.rename(victim + ".away", victim)
        else:
            with open(victim, "wb") as file:
                file.write(good)
    return wrong


def killed(step, *command):
    """Ended with SIGKILL before that step that others can see; False: it has fewer."""
    steps = path("steps")
    if os.path.exists(steps):
        os.unlink(steps)
    status, text = run(*command, env={"LD_PRELOAD": SHIM, "FAR_KILL_STEPS": steps, "FAR_KILL_AT": str(step)})
    assert status in (0, -9, 137), (step, status, text)
    return status != 0


def kills_of(most):
    return int(os.environ.get("FAR_KILLS", most))


def an_import_that_is_killed_anywhere_loses_no_point():
    uuid = [u for u in vault_uuids() if os.path.exists(path("s3/root/vault/vaults", u)) and u == uuid_of("first")][0]
    step, kills, announced = 1, 0, points("first")
    while kills < kills_of(25):
        change("image", 1)
        data = content("image")
        if not killed(step, "import", "--vault", path("first"), "--image", path("image"), "--label", "web"):
            step = rng.randrange(1, step)
            contents["web", points("first")[-1]] = data
            announced = points("first")
            continue
        kills += 1
        for point in points("first"):
            contents.setdefault(("web", point), data)
        assert points("first")[:len(announced)] == announced
        shutil.rmtree(path("which"), ignore_errors=True)
        vault("attach", "--vault", path("which"), "--store", store, "--uuid", uuid, "--read-only")  # what anybody would find now
        # what was forgotten leaves the store with the next open or pass
        assert set(announced) <= set(points("which")), (step, announced, points("which"), points("first"))
        newest = points("which")[-1]
        contents.setdefault(("web", newest), data)
        assert recovered("which", newest) == contents["web", newest], "after step %d" % step
        if kills % 5 == 0:
            do_import("first", "image")
            for point in points("first")[:-3]:
                vault("forget", "--vault", path("first"), "--point", point)
            announced = points("first")
        step += 1 + step // 3
    do_import("first", "image")
    assert state("first")[2] == 0
    return wrong_points("first")


def uuid_of(folder):
    with open(path(folder, "vault"), "rb") as file:
        begin = file.read()
    return [u for u in vault_uuids() if bytes.fromhex(u) in begin][0]


def attaching_and_reclaiming_may_be_killed_too():
    uuid = uuid_of("first")
    wrong = []
    for step in [1, 2, 4, 8, 13, 21, 34, 55]:
        killed(step, "attach", "--vault", path("taken"), "--store", store, "--uuid", uuid, "--take-over")
        vault("attach", "--vault", path("taken"), "--store", store, "--uuid", uuid, "--take-over")
        wrong += wrong_points("taken")
        shutil.rmtree(path("taken"))
    vault("attach", "--vault", path("taken"), "--store", store, "--uuid", uuid, "--take-over")
    for step in [1, 3, 9, 20, 33, 50, 80]:
        change("image")
        do_import("taken", "image")
        vault("forget", "--vault", path("taken"), "--point", points("taken")[0])
        killed(step, "reclaim", "--vault", path("taken"))
        vault("reclaim", "--vault", path("taken"))
        wrong += wrong_points("taken")
    return wrong


ALL = [what_a_vault_has_goes_to_the_store_and_leaves_the_folder, a_point_in_the_store_is_served_over_nbd, a_lost_folder_is_made_again, another_folder_reads_and_does_not_write,
       what_is_reclaimed_leaves_the_store, who_is_taken_over_is_refused, a_store_that_is_away_is_waited_for_and_then_said,
       several_vaults_share_a_store, what_is_damaged_in_the_store_is_said_and_never_given_out,
       an_import_that_is_killed_anywhere_loses_no_point, attaching_and_reclaiming_may_be_killed_too]


def main():
    global server, work, store
    print("# seed %d; FAR_SEED repeats it" % SEED)
    work = tempfile.mkdtemp()
    try:
        server = s3lib.Server(path("s3"))
    except tap.Skip as reason:
        print("1..0 # SKIP %s" % reason)
        return
    with server:
        server.make_bucket("vault")
        store = server.store_file("vault", prefix="vaults/", keep_bytes=1)
        tap.run_all(ALL)


if __name__ == "__main__":
    sys.exit(main())
