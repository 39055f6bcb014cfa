#!/usr/bin/env python3
"""farshore-node vault import, forget, reclaim, space: images carried into a vault by hand, and their space given back.

far-timeout: 120
"""
import os
import random
import re
import shutil
import subprocess

import farlib
import tap

NODE = os.path.join(farlib.BUILD, "src/node/farshore-node")
WORK = os.path.join(os.environ.get("TMPDIR", "/tmp"), "keep")
VAULT, IMAGE = os.path.join(WORK, "vault"), os.path.join(WORK, "image")
MIB = 1 << 20
points = []


def vault(*arguments, status=0):
    done = subprocess.run([NODE, "vault", *arguments], capture_output=True, text=True)
    if done.returncode != status and not (status is None and done.returncode > 0):
        raise farlib.Failure("%s: status %d: %s" % (" ".join(arguments), done.returncode, done.stdout + done.stderr))
    return done.stdout + done.stderr


def make_image(seed, size=24 * MIB):
    rng = random.Random(seed)
    with open(IMAGE, "wb") as image:
        image.truncate(size)
        for offset in range(0, size - MIB, 3 * MIB):
            image.seek(offset)
            image.write(rng.randbytes(MIB))


def change(offset, data):
    with open(IMAGE, "r+b") as image:
        image.seek(offset)
        image.write(data)


def do_import(*more):
    text = vault("import", "--vault", VAULT, "--image", IMAGE, "--label", "web", *more)
    points.append(re.search(r"of point (\d+)", text).group(1))
    return {name: int(re.search(pattern, text).group(1)) for name, pattern in
            {"stored": r"(\d+) stored in", "same": r"(\d+) there already", "zero": r"(\d+) zero"}.items()}


def recovered(point):
    target = os.path.join(WORK, "out-" + point)
    vault("recover", "--vault", VAULT, "--point", point, "--disk", "disk0", "--target", target)
    with open(target, "rb") as file:
        data = file.read()
    os.unlink(target)
    return data


def content():
    with open(IMAGE, "rb") as file:
        return file.read()


def an_image_becomes_a_point_and_its_next_version_costs_what_changed():
    os.makedirs(WORK)
    make_image(7, 24 * MIB - 777)
    first = do_import()
    before = content()
    change(5 * 65536 + 100, os.urandom(3 * 65536))
    second = do_import("--level", "3")
    wrong = []
    if first["stored"] != 128 or first["zero"] != 256:
        wrong.append("the first import: %s" % first)
    if second["stored"] != 4 or second["same"] != 124:
        wrong.append("the second import: %s" % second)
    if recovered(points[0]) != before or recovered(points[1]) != content():
        wrong.append("a point is not its image")
    listed = vault("list", "--vault", VAULT)
    wrong += ["%s is not listed" % point for point in points if point not in listed]
    for point in points:
        vault("verify", "--vault", VAULT, "--point", point)
    return wrong


def used():
    done = subprocess.run(["du", "-s", "-B1", os.path.join(VAULT, "packs")], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def what_a_forgotten_import_alone_had_comes_back_and_the_other_stays():
    wrong = []
    vault("reclaim", "--vault", VAULT)
    full = used()
    space = vault("space", "--vault", VAULT)
    vault("forget", "--vault", VAULT, "--point", points[1])
    # What was imported last is still the replica of the disk: it keeps the newest blocks until it is imported anew.
    make_image(7, 24 * MIB - 777)
    do_import()
    for _ in range(2):
        text = vault("reclaim", "--vault", VAULT, "--secure")
    freed = full - used()
    if not 4 * 65536 * 0.9 < freed < 6 * 65536:
        wrong.append("%d bytes came back: %s" % (freed, text))
    if not re.search(r"import +\d+ +\d+ +\d+", space):
        wrong.append("space says: %s" % space)
    wrong += [] if recovered(points[0]) == content() else ["the point that stays is not its image"]
    return wrong


def a_scrub_reads_all_within_its_budget_and_names_who_needs_what_is_damaged():
    whole = vault("scrub", "--vault", VAULT)
    total = int(re.search(r"(\d+) bytes read", whole).group(1))
    wrong = [] if "--from" not in whole and " 0 blocks damaged" in whole else [whole]
    read, place = 0, "0/0/0"
    while place:
        text = vault("scrub", "--vault", VAULT, "--bytes", str(50 * 65536), "--from", place)
        part = int(re.search(r"(\d+) bytes read", text).group(1))
        wrong += [] if 0 < part <= 50 * 65536 else [text]
        read += part
        place = re.search(r"--from (\S+)", text).group(1) if "--from" in text else ""
    wrong += [] if read == total else ["%d bytes in parts, %d at once" % (read, total)]
    copy = os.path.join(WORK, "copy")
    shutil.copytree(VAULT, copy)
    wrong += [] if farlib.flip_block(copy, content()[:4096]) else ["no pack has the first block"]
    text = vault("scrub", "--vault", copy, status=None)
    wrong += [] if re.search(r"damaged: blocks \d+ to \d+ of disk 'disk0' of point %s" % points[0], text) else [text]
    wrong += [] if re.search(r"needed by .* %s/disk0" % points[-1], text) else [text]
    return wrong


def two_passes_give_all_of_a_forgotten_image_back():
    """Its last point was all that needed it: its replica and tags go, too; the image can be imported again."""
    image, folder = os.path.join(WORK, "lone.img"), os.path.join(WORK, "lone")
    with open(image, "wb") as file:
        file.write(random.Random(9).randbytes(9 * MIB))
    for _ in range(2):
        text = vault("import", "--vault", folder, "--image", image, "--label", "lone")
        vault("forget", "--vault", folder, "--point", re.search(r"of point (\d+)", text).group(1))
        first, second = (vault("reclaim", "--vault", folder, "--secure") for _ in range(2))
        left = os.listdir(os.path.join(folder, "replicas"))
        used = sum(os.stat(os.path.join(folder, "packs", name)).st_blocks * 512 for name in os.listdir(os.path.join(folder, "packs")))
        if left or used > MIB:
            return ["left: %s, %d bytes in packs" % (left, used), first, second]
    return []


def bad_input_changes_nothing():
    before = vault("list", "--vault", VAULT)
    wrong = []
    for arguments, says in (
            (("import", "--vault", VAULT, "--image", IMAGE), "--label is missing"),
            (("import", "--vault", VAULT, "--image", IMAGE, "--label", "x" * 64), "63"),
            (("import", "--vault", VAULT, "--image", IMAGE, "--label", "web", "--level", "20"), "1 to 19"),
            (("import", "--vault", VAULT, "--image", WORK, "--label", "web"), "no image"),
            (("import", "--vault", VAULT, "--image", IMAGE + ".not", "--label", "web"), "open"),
            (("import", "--vault", VAULT, "--image", IMAGE, "--label", "web", "--domain", "gold"), "no domain 'gold'"),
            (("forget", "--vault", VAULT, "--point", "17"), "no point"),
            (("forget", "--vault", VAULT, "--point", "9223372036854779999"), "no point"),
            (("scrub", "--vault", VAULT, "--bytes", "x"), "no number"),
            (("scrub", "--vault", VAULT, "--from", "1/2"), "no place"),
            (("reclaim",), "--vault is missing"),
            (("reclaim", "--vault", os.path.join(WORK, "nothing")), "no vault")):
        text = vault(*arguments, status=None)
        wrong += [] if says in text else ["%s: says %s" % (" ".join(arguments), text)]
    wrong += [] if vault("list", "--vault", VAULT) == before else ["the list changed"]
    return wrong


def an_import_that_is_refused_makes_no_vault():
    new = os.path.join(WORK, "new")
    wrong = []
    for wanted, arguments in ((3, ("--image", IMAGE + ".not", "--label", "web")), (2, ("--image", IMAGE, "--label", "")),
                              (2, ("--image", IMAGE, "--label", "a\nb\x1b[31m")), (2, ("--image", IMAGE, "--label", "web", "--disk", "\x7f")),
                              (3, ("--image", IMAGE, "--label", "web", "--domain", "gold")), (2, ("--image", "/dev/zero", "--label", "web"))):
        vault("import", "--vault", new, *arguments, status=wanted)
        wrong += ["%r made one" % (arguments,)] if os.path.exists(new) else []
    return wrong


def space_is_told_where_nothing_can_be_written():
    read_only = "mount --bind '%s' '%s' && mount -o remount,bind,ro '%s'" % (VAULT, VAULT, VAULT)
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        if subprocess.run([*unshare, "sh", "-c", read_only], capture_output=True).returncode == 0:
            done = subprocess.run([*unshare, "sh", "-c", read_only + " && exec '%s' vault space --vault '%s'" % (NODE, VAULT)],
                                  capture_output=True, text=True)
            return [] if done.returncode == 0 and re.search(r"import +\d+ +\d+ +\d+", done.stdout) else ["%r" % done]
    raise tap.Skip("no file system can be mounted here")


def each_command_says_what_it_is_called_with():
    whole = subprocess.run([NODE, "--help"], capture_output=True, text=True, check=True).stdout
    names = re.findall(r"farshore-node vault (\S+)", whole)
    wrong = [] if len(names) == 22 else ["%d commands" % len(names)]
    for name in names:
        for text in (vault(name, "--help"), vault(name, "--nonsense", status=2)):
            usages = [line for line in text.split("\n") if "farshore-node vault" in line]
            wrong += [] if len(usages) == 1 and "farshore-node vault %s " % name in usages[0] else ["%s says %s" % (name, text)]
    return wrong + ([] if vault("--help").count("farshore-node vault") == 22 else ["not all"])


def main():
    shutil.rmtree(WORK, ignore_errors=True)
    tap.run_all([an_image_becomes_a_point_and_its_next_version_costs_what_changed,
                 what_a_forgotten_import_alone_had_comes_back_and_the_other_stays,
                 a_scrub_reads_all_within_its_budget_and_names_who_needs_what_is_damaged,
                 two_passes_give_all_of_a_forgotten_image_back, bad_input_changes_nothing,
                 an_import_that_is_refused_makes_no_vault, space_is_told_where_nothing_can_be_written,
                 each_command_says_what_it_is_called_with])


main()
