#!/usr/bin/env python3
"""farshore-node vault copy and repair: points carried into a second vault by tree difference, also when it is killed before any step;
what is damaged in the source is never sealed in the target, and is healed from the other vault.

far-timeout: 280
"""
import os
import random
import re
import shutil
import subprocess

import farlib
import tap

NODE = os.path.join(farlib.BUILD, "src/node/farshore-node")
SHIM = os.path.join(farlib.BUILD, "tests/lib/.libs/libkill.so")
WORK = os.path.join(os.environ.get("TMPDIR", "/tmp"), "copy")
VAULT, SECOND, IMAGE = (os.path.join(WORK, name) for name in ("vault", "second", "image"))
BLOCK, MIB = 65536, 1 << 20
SIZE = 24 * MIB - 777
points, contents = [], {}


def run(*arguments, env=None):
    done = subprocess.run([NODE, "vault", *arguments], capture_output=True, text=True, env=dict(os.environ, **(env or {})))
    return done.returncode, done.stdout + done.stderr


def vault(*arguments, good=True):
    status, text = run(*arguments)
    if (status == 0) != good or status < 0:
        raise farlib.Failure("%s: status %d: %s" % (" ".join(arguments), status, text))
    return text


def change(offset, data):
    with open(IMAGE, "r+b") as image:
        image.seek(offset)
        image.write(data)


def do_import():
    text = vault("import", "--vault", VAULT, "--image", IMAGE, "--label", "web")
    point = re.search(r"of point (\d+)", text).group(1)
    points.append(point)
    with open(IMAGE, "rb") as image:
        contents[point] = image.read()
    return point


def make_points():
    os.makedirs(WORK)
    rng = random.Random(11)
    with open(IMAGE, "wb") as image:
        image.truncate(SIZE)
        for offset in range(0, 21 * MIB, 3 * MIB):
            image.seek(offset)
            image.write(rng.randbytes(MIB // 2) + b"compressible " * (MIB // 26))
    do_import()
    change(5 * BLOCK + 100, rng.randbytes(2 * BLOCK))
    change(9 * MIB, bytes(BLOCK))
    do_import()
    with open(IMAGE, "r+b") as image:
        image.truncate(30 * MIB)
    change(29 * MIB, rng.randbytes(1000))
    do_import()


def copied(text, point):
    match = re.search(r"point %s: copied; (\d+) blocks looked at, (\d+) copied, (\d+) bytes" % point, text)
    if match is None:
        raise farlib.Failure("not copied: " + text)
    return tuple(int(n) for n in match.groups())


def is_exact(folder, point):
    target = os.path.join(WORK, "out")
    vault("recover", "--vault", folder, "--point", point, "--disk", "disk0", "--target", target)
    with open(target, "rb") as file:
        same = file.read() == contents[point]
    os.unlink(target)
    return same


def rows(folder):
    """What the list says but for when: disks, sizes, roots."""
    return sorted(line for line in vault("list", "--vault", folder).splitlines() if line[:1].isdigit())


def a_copy_of_the_next_point_moves_only_the_difference():
    make_points()
    wrong = []
    first = copied(vault("copy", "--vault", VAULT, "--to", SECOND, "--point", points[0]), points[0])
    second = copied(vault("copy", "--vault", VAULT, "--to", SECOND, "--point", points[1]), points[1])
    if not first[0] == 7 * 16 >= first[1] > 7 * 8 or first[2] > first[1] * BLOCK * 0.99:
        wrong.append("the first: %s" % (first,))
    if second[:2] != (4, 3):  # three with other bytes, one is zeroes now
        wrong.append("the second: %s" % (second,))
    text = vault("copy", "--vault", VAULT, "--to", SECOND, "--point", "all")
    wrong += [] if text.count("there already") == 2 and copied(text, points[2])[:2] == (1, 1) else [text]
    wrong += ["point %s is not exact" % point for point in points if not is_exact(SECOND, point)]
    wrong += [] if rows(VAULT) == rows(SECOND) else ["the lists differ:", *rows(VAULT), *rows(SECOND)]
    return wrong


def what_was_copied_outlives_reclaim_and_the_next_copy_builds_on_it():
    rng, wrong = random.Random(12), []
    for _ in range(3):
        vault("reclaim", "--vault", SECOND)
    change(13 * MIB, rng.randbytes(BLOCK))
    do_import()
    text = vault("copy", "--vault", VAULT, "--to", SECOND, "--point", "%s,%s" % (points[0], points[3]))
    wrong += [] if copied(text, points[3])[0] == 1 else [text]
    for _ in range(3):
        vault("reclaim", "--vault", SECOND)
    wrong += ["point %s is not exact" % point for point in points if not is_exact(SECOND, point)]
    return wrong


def run_until(step, *command):
    """Ended with SIGKILL before that step that others can see, if there are so many."""
    steps = os.path.join(WORK, "steps")
    if os.path.exists(steps):
        os.unlink(steps)
    return run(*command, env={"LD_PRELOAD": SHIM, "FAR_KILL_STEPS": steps, "FAR_KILL_AT": str(step)})


def a_copy_that_is_killed_anywhere_goes_on():
    third = os.path.join(WORK, "third")
    command = ("copy", "--vault", VAULT, "--to", third, "--point", "all")
    at, wrong, kills = 1, [], 0
    while len(wrong) < 3:
        shutil.rmtree(third, ignore_errors=True)
        status, text = run_until(at, *command)
        if status == 0:
            break
        if status not in (-9, 137):
            return wrong + ["step %d: status %d: %s" % (at, status, text)]
        kills += 1
        status, text = run(*command)
        if status != 0:
            wrong.append("after step %d: status %d: %s" % (at, status, text))
        elif rows(third) != rows(VAULT):
            wrong.append("after step %d: %s" % (at, rows(third)))
        else:
            wrong += ["after step %d: point %s is not exact" % (at, point) for point in points[3:] if not is_exact(third, point)]
        at += 1 if at < 12 else 7
    print("# killed before %d steps of %d" % (kills, at))
    return wrong + ([] if kills > 20 else ["only %d kills" % kills])


def records(folder):
    """(pack, offset of the payload, its length, type) of every record."""
    for name in sorted(os.listdir(os.path.join(folder, "packs"))):
        path = os.path.join(folder, "packs", name)
        if not name.endswith(".pack"):
            continue
        with open(path, "rb") as file:
            data = file.read()
        at = 64
        while at + 64 <= len(data):
            length = int.from_bytes(data[at + 8:at + 12], "little")
            yield path, at + 64, length, data[at + 4]
            at += 64 + length


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))


def copy_of(folder, name):
    path = os.path.join(WORK, name)
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(folder, path)
    return path


def a_damaged_block_is_named_and_its_point_not_sealed():
    wrong = []
    hurt, target = copy_of(VAULT, "hurt"), os.path.join(WORK, "fourth")
    last_block = [r for r in records(hurt) if r[3] == 1][-1]  # of the newest point alone
    flip(last_block[0], last_block[1] + last_block[2] // 2)
    text = vault("copy", "--vault", hurt, "--to", target, "--point", "all", good=False)
    for says in ("block 208 of disk 'disk0' of point " + points[3], "offset %d" % (last_block[1] - 64), "not copied"):
        wrong += [] if says in text else ["'%s' is not in: %s" % (says, text)]
    listed = [row.split()[0] for row in rows(target)]
    wrong += [] if listed == sorted(points[:3]) else ["sealed in the target: %s" % listed]
    text = vault("copy", "--vault", VAULT, "--to", target, "--point", "all")  # from where it is whole
    wrong += [] if copied(text, points[3])[:2] == (1, 1) and is_exact(target, points[3]) else [text]
    return wrong


def flipped_bits_in_blocks_pages_and_roots_are_healed_from_the_other_vault():
    wrong, rng = [], random.Random(13)
    hurt = copy_of(VAULT, "hurt")
    of_type = {kind: [r for r in records(hurt) if r[3] == kind] for kind in (1, 2, 3)}
    chosen = rng.sample(of_type[1], 5) + rng.sample(of_type[2], 2) + of_type[3][:1]
    for path, at, length, _ in chosen:
        flip(path, at + rng.randrange(length))
    text = vault("repair", "--vault", hurt, "--from", SECOND)
    match = re.search(r"(\d+) places were damaged, (\d+) repaired", text)
    if match.group(1) != match.group(2) or not 3 <= int(match.group(1)) <= 8 or text.count("repaired: point") != int(match.group(1)):
        wrong.append("%d flips: %s" % (len(chosen), text))
    for point in points:
        vault("verify", "--vault", hurt, "--point", point)
        wrong += [] if is_exact(hurt, point) else ["point %s is not exact" % point]
    text = vault("repair", "--vault", hurt, "--from", SECOND, "--point", points[0])
    wrong += [] if " 0 places were damaged" in text else [text]
    return wrong


def a_repair_that_is_killed_anywhere_goes_on():
    wrong, at = [], 1
    while len(wrong) < 3:
        hurt = copy_of(VAULT, "hurt")
        all_records = list(records(hurt))
        for path, start, length, _ in [r for r in all_records if r[3] == 1][2::20] + [r for r in all_records if r[3] == 2][:1]:
            flip(path, start + length // 2)
        status, text = run_until(at, "repair", "--vault", hurt, "--from", SECOND)
        if status == 0:
            break
        text += vault("repair", "--vault", hurt, "--from", SECOND)
        wrong += ["after step %d: point %s is not exact: %s" % (at, point, text) for point in points if not is_exact(hurt, point)]
        at += 1
    print("# killed before each of %d steps" % (at - 1))
    return wrong + ([] if at > 2 else ["no step"])


def what_the_other_vault_lacks_is_named_and_the_rest_repaired():
    wrong = []
    hurt, poor = copy_of(VAULT, "hurt"), os.path.join(WORK, "poor")
    vault("copy", "--vault", VAULT, "--to", poor, "--point", points[0])
    blocks = [r for r in records(hurt) if r[3] == 1]
    for path, at, length, _ in (blocks[3], blocks[-1]):
        flip(path, at + length // 3)
    text = vault("repair", "--vault", hurt, "--from", poor, good=False)
    for says in ("NOT repaired: point %s, disk 'disk0', block 208" % points[3], "repaired: point %s, disk 'disk0'" % points[0],
                 "2 places were damaged, 1 repaired", "1 damaged places could not be repaired"):
        wrong += [] if says in text else ["'%s' is not in: %s" % (says, text)]
    return wrong + ([] if is_exact(hurt, points[1]) else ["what could be repaired is not exact"])


def bad_input_changes_nothing():
    before, wrong = rows(SECOND), []
    other, nothing = os.path.join(WORK, "other"), os.path.join(WORK, "nothing")
    change(0, b"another image")
    vault("import", "--vault", other, "--image", IMAGE, "--label", "mail")  # its first number is taken here
    for arguments, says in (
            (("copy", "--vault", VAULT, "--point", "all"), "--to is missing"),
            (("copy", "--vault", VAULT, "--to", SECOND, "--point", "x"), "not the number of a point"),
            (("copy", "--vault", VAULT, "--to", SECOND, "--point", points[0] + ","), "not the number of a point"),
            (("copy", "--vault", VAULT, "--to", nothing, "--point", "17"), "no point 17"),
            (("copy", "--vault", VAULT, "--to", VAULT, "--point", "all"), "the same vault"),
            (("copy", "--vault", VAULT, "--to", copy_of(VAULT, "twin"), "--point", "all"), "the same vault"),
            (("copy", "--vault", nothing, "--to", SECOND, "--point", "all"), "no vault"),
            (("copy", "--vault", other, "--to", SECOND, "--point", "all"), "has another point"),
            (("repair", "--vault", SECOND), "--from is missing"),
            (("repair", "--vault", SECOND, "--from", SECOND), "the same vault"),
            (("repair", "--vault", SECOND, "--from", nothing), "no vault"),
            (("repair", "--vault", SECOND, "--from", VAULT, "--point", "17"), "no point 17")):
        text = vault(*arguments, good=False)
        wrong += [] if says in text else ["%s: says %s" % (" ".join(arguments), text)]
    wrong += ["'%s' was made" % nothing] if os.path.exists(nothing) else []
    return wrong + ([] if rows(SECOND) == before else ["the list changed"])


def a_point_that_the_target_forgot_does_not_come_back():
    vault("forget", "--vault", SECOND, "--point", points[0])
    text = vault("copy", "--vault", VAULT, "--to", SECOND, "--point", points[0], good=False)
    return [] if "was forgotten" in text else [text]


def main():
    shutil.rmtree(WORK, ignore_errors=True)
    tap.run_all([a_copy_of_the_next_point_moves_only_the_difference, what_was_copied_outlives_reclaim_and_the_next_copy_builds_on_it,
                 a_copy_that_is_killed_anywhere_goes_on, a_damaged_block_is_named_and_its_point_not_sealed,
                 flipped_bits_in_blocks_pages_and_roots_are_healed_from_the_other_vault,
                 a_repair_that_is_killed_anywhere_goes_on, what_the_other_vault_lacks_is_named_and_the_rest_repaired, bad_input_changes_nothing,
                 a_point_that_the_target_forgot_does_not_come_back])


main()
