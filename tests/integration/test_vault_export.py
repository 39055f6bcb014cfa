#!/usr/bin/env python3
"""farshore-node vault diff and export: what differs between two points is what a comparison of the images says, and a disk of a point
becomes a raw or qcow2 file that equals the image.

far-timeout: 120
"""
import json
import os
import random
import re
import shutil
import subprocess

import farlib
import tap

NODE = os.path.join(farlib.BUILD, "src/node/farshore-node")
PLUGIN = os.path.join(farlib.BUILD, ".libs/nbdkit-farshore-plugin.so")
WORK = os.path.join(os.environ.get("TMPDIR", "/tmp"), "export")
VAULT, IMAGE = os.path.join(WORK, "vault"), os.path.join(WORK, "image")
BLOCK, PAGE, MIB = 65536, 4096, 1 << 20
points, contents = [], {}


def vault(*arguments, good=True, **environment):
    done = subprocess.run([NODE, "vault", *arguments], capture_output=True, text=True, cwd=WORK,
                          env=dict(os.environ, FARSHORE_NBDKIT_PLUGIN=PLUGIN, **environment))
    if (done.returncode == 0) != good or done.returncode < 0:
        raise farlib.Failure("%s: status %d: %s" % (" ".join(arguments), done.returncode, done.stdout + done.stderr))
    return done.stdout if good else done.stdout + done.stderr


def do_import():
    text = vault("import", "--vault", VAULT, "--image", IMAGE, "--label", "web")
    points.append(re.search(r"of point (\d+)", text).group(1))
    with open(IMAGE, "rb") as image:
        contents[points[-1]] = image.read()


def make_points():
    """Random changes of a disk that grows over the height of its tree (16 MiB), and shrinks."""
    os.makedirs(WORK)
    rng = random.Random(farlib.seed_of_run())
    for size in (10 * MIB - 512, 10 * MIB - 512, 40 * MIB + 1536, 40 * MIB + 1536, 12 * MIB):
        with open(IMAGE, "ab") as image:
            image.truncate(size)
        with open(IMAGE, "r+b") as image:
            for _ in range(12):
                offset = rng.randrange(size - 1)
                image.seek(offset)
                image.write(rng.randbytes(min(rng.choice((1, 700, PAGE, 3 * BLOCK)), size - offset)))
            image.seek(min(rng.randrange(size) // BLOCK, size // BLOCK - 4) * BLOCK)
            image.write(bytes(2 * BLOCK))
            image.seek(size - 1)
            image.write(rng.randbytes(1))
        do_import()


def brute_force(first, second, unit):
    """Ranges of units that differ; behind its end the shorter one is zeroes."""
    size, ranges = max(len(first), len(second)), []
    first, second = first.ljust(size, b"\0"), second.ljust(size, b"\0")
    for at in range(0, size, unit):
        if first[at:at + unit] != second[at:at + unit]:
            end = min(at + unit, size)
            if ranges and ranges[-1][1] == at:
                ranges[-1][1] = end
            else:
                ranges.append([at, end])
    return [(begin, end - begin) for begin, end in ranges]


def differences_are_those_of_the_images():
    make_points()
    wrong = []
    for first in points:
        for second in points:
            for unit, flags in ((BLOCK, ()), (PAGE, ("--pages",))):
                expected = brute_force(contents[first], contents[second], unit)
                command = ("diff", "--vault", VAULT, "--point", first, "--with", second, "--disk", "disk0", *flags)
                lines = vault(*command).splitlines()
                found = [tuple(int(n) for n in line.split()) for line in lines[:-1]]
                total = "total: %d ranges, %d of %d bytes" % (len(expected), sum(length for _, length in expected),
                                                              max(len(contents[first]), len(contents[second])))
                if found != expected or lines[-1] != total:
                    wrong.append("%s with %s in %d: %s %s, not %s %s" % (first, second, unit, found, lines[-1], expected, total))
    command = ("diff", "--vault", VAULT, "--point", points[0], "--with", points[2], "--disk", "disk0", "--pages", "--json")
    text = json.loads(vault(*command))
    expected = brute_force(contents[points[0]], contents[points[2]], PAGE)
    if [(r["offset"], r["length"]) for r in text["ranges"]] != expected or text["bytes"] != sum(length for _, length in expected) or \
            (text["size_before"], text["size_after"]) != (len(contents[points[0]]), len(contents[points[2]])):
        wrong.append("as JSON: %s" % text)
    return wrong


def a_raw_export_is_the_image():
    target = os.path.join(WORK, "out.raw")
    vault("export", "--vault", VAULT, "--point", points[2], "--disk", "disk0", "--format", "raw", "--out", target)
    with open(target, "rb") as file:
        return [] if file.read() == contents[points[2]] else ["it is not"]


def need_a_plain_build():
    """nbdkit cannot load a plugin with sanitizers in it."""
    with open(PLUGIN, "rb") as file:
        if b"__asan_init" in (content := file.read()) or b"__tsan_init" in content:
            raise tap.Skip("the plugin has sanitizers in it")


def a_qcow2_export_is_the_image():
    need_a_plain_build()
    wrong = []
    for point, name in ((points[2], "out.qcow2"), (points[4], "it's a file: %s $HOME.qcow2")):
        vault("export", "--vault", "vault", "--point", point, "--disk", "disk0", "--format", "qcow2", "--out", name)
        raw = os.path.join(WORK, "back.raw")
        source = os.path.join(WORK, name)
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", source, raw], check=True)
        with open(raw, "rb") as file:
            wrong += [] if file.read() == contents[point] else ["'%s' is not its image" % name]
        info = json.loads(subprocess.run(["qemu-img", "info", "--output=json", source], check=True, capture_output=True).stdout)
        wrong += [] if info["format"] == "qcow2" else ["it is %s" % info["format"]]
        wrong += ["part of '%s' is left" % name] if os.path.exists(source + ".part") else []
    return wrong


def what_differs_over_a_base_is_the_image():
    """Each point over each other one: disks that grow and shrink, and zeroes over data; and one of 1.2 GiB, whose tables are several."""
    folder, wrong = os.path.join(WORK, "bases"), []
    os.makedirs(folder)
    for point in points:
        with open(os.path.join(folder, point), "wb") as file:
            file.write(contents[point])
    huge = os.path.join(folder, "huge")
    for blocks in ((3, 9000), (9000, 9001, 18000)):
        with open(huge, "wb") as file:
            file.truncate(1200 * MIB + 512)
            for block in blocks:
                file.seek(block * BLOCK)
                file.write(bytes([block & 255, 1]) * 700)
        text = vault("import", "--vault", VAULT, "--image", huge, "--label", "huge")
        point = re.search(r"of point (\d+)", text).group(1)
        os.rename(huge, os.path.join(folder, point))
        contents[point] = blocks
    pairs = [(a, b) for a in points for b in points] + [tuple(list(contents)[-2:]), tuple(list(contents)[-2:])[::-1]]
    for base, point in pairs:
        name = os.path.join(folder, "over.qcow2")
        vault("export", "--vault", VAULT, "--point", point, "--disk", "disk0", "--format", "qcow2", "--base", base, "--backing", base,
              "--out", name)
        for command in (["compare", "-q", "-f", "raw", "-F", "qcow2", os.path.join(folder, point), name], ["check", "-q", name]):
            done = subprocess.run(["qemu-img", *command], capture_output=True, text=True, check=False)
            wrong += [] if done.returncode == 0 else ["%s over %s: %s %s" % (point, base, command[0], done.stdout + done.stderr)]
        os.unlink(name)
    text = vault("export", "--vault", VAULT, "--point", points[0], "--disk", "disk0", "--format", "raw", "--base", points[1], "--backing", "b",
                 "--out", "x", good=False)
    wrong += [] if "go together" in text else [text]
    shutil.rmtree(folder)
    for point in list(contents)[len(points):]:
        del contents[point]
    return wrong


def a_damaged_block_ends_an_export_and_leaves_nothing():
    need_a_plain_build()
    hurt = os.path.join(WORK, "hurt")
    shutil.copytree(VAULT, hurt)
    with open(os.path.join(hurt, "packs", sorted(os.listdir(os.path.join(hurt, "packs")))[0]), "r+b") as pack:
        pack.seek(64 + 8)  # of the first record, a block: how long it is
        middle = 64 + 64 + int.from_bytes(pack.read(4), "little") // 2
        pack.seek(middle)
        byte = pack.read(1)[0]
        pack.seek(middle)
        pack.write(bytes([byte ^ 16]))
    wrong = []
    for kind in ("raw", "qcow2"):
        before = sorted(os.listdir(WORK))
        text = vault("export", "--vault", hurt, "--point", points[0], "--disk", "disk0", "--format", kind, "--out", "no", good=False)
        wrong += [] if "offset 64:" in text else [text]
        wrong += [] if sorted(os.listdir(WORK)) == before else ["left: %s" % os.listdir(WORK)]
    return wrong


def bad_input_changes_nothing():
    before, wrong = sorted(os.listdir(WORK)), []
    export = ("export", "--vault", VAULT, "--disk", "disk0", "--point", points[0])
    for arguments, says, path in (
            (("diff", "--vault", VAULT, "--point", points[0], "--disk", "disk0"), "--with is missing", None),
            (("diff", "--vault", VAULT, "--point", points[0], "--with", "17", "--disk", "disk0"), "no point 17", None),
            (("diff", "--vault", VAULT, "--point", points[0], "--with", points[1], "--disk", "sdb"), "no disk 'sdb'", None),
            ((*export, "--format", "vmdk", "--out", "x"), "'vmdk' is no format", None),
            ((*export, "--format", "raw", "--out", "image"), "image", None),
            ((*export, "--format", "qcow2", "--out", "image"), "is there already", None),
            ((*export, "--format", "qcow2", "--out", "x", "--point", "1"), "--point", None),
            ((*export, "--format", "qcow2", "--out", "x"), "apt-get install qemu-utils", "/nowhere")):
        text = vault(*arguments, good=False, **({"PATH": path} if path else {}))
        wrong += [] if says in text else ["%s: says %s" % (" ".join(arguments), text)]
    return wrong + ([] if sorted(os.listdir(WORK)) == before else ["left: %s" % os.listdir(WORK)])


def main():
    shutil.rmtree(WORK, ignore_errors=True)
    tap.run_all([differences_are_those_of_the_images, a_raw_export_is_the_image, a_qcow2_export_is_the_image,
                 what_differs_over_a_base_is_the_image,
                 a_damaged_block_ends_an_export_and_leaves_nothing, bad_input_changes_nothing])


main()
