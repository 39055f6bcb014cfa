#!/usr/bin/env python3
"""The vault beside restic, on the same image in memory, alternating in one run, medians: ingest of the data set and of its second version
(1 % changed), a full verification and one since the version before, a restore to a raw file; and what both take. The marks: ingest at
least 3.5 times as fast in no more space, the second version 10 times, verification 3 times (an incremental one reads about 1 %),
restore 3 times. FAR_LEVEL: of compression (what an import does by itself).

far-timeout: 3600
"""
import json
import os
import re
import shutil
import subprocess
import time

import transfer_kit as kit
from transfer_kit import tap

NODE = os.path.join(kit.BUILD, "src/node/farshore-node")
LEVEL = ["--level", os.environ["FAR_LEVEL"]] if "FAR_LEVEL" in os.environ else []


def timed(function):
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Restic:
    def __init__(self, folder):
        self.path, self.environment = os.path.join(folder, "restic"), dict(os.environ, RESTIC_PASSWORD="bench", RESTIC_CACHE_DIR=folder + "/cache")
        self("init")

    def __call__(self, *arguments):
        return subprocess.run(["restic", "-q", "-r", self.path, *arguments], env=self.environment, check=True, capture_output=True,
                              text=True).stdout

    def snapshot(self):
        return json.loads(self("snapshots", "--json"))[-1]["id"]


def size_of(folder):
    return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names)


def touch_memory(folder, size):
    """Pages that this machine never used come slowly from its host: whoever writes first would pay for both."""
    path = os.path.join(folder, "touched")
    with open(path, "wb") as file:
        for _ in range(0, size, 1 << 20):
            file.write(b"\1" * (1 << 20))
    os.unlink(path)


def ingest(vault, image):
    text = run(NODE, "vault", "import", "--vault", vault, "--image", image, "--label", "bench", *LEVEL)
    return re.search(r"of point (\d+)", text).group(1)


def round_of(folder, image, second):
    """One round of everything, ours and theirs by turns; figures by name."""
    vault, out = os.path.join(folder, "vault"), os.path.join(folder, "out")
    shutil.rmtree(vault, ignore_errors=True)
    shutil.rmtree(os.path.join(folder, "restic"), ignore_errors=True)
    figures, restic = {}, Restic(folder)

    def both(name, ours, theirs):
        touch_memory(folder, os.path.getsize(image))
        mine, _ = timed(ours)
        touch_memory(folder, os.path.getsize(image))
        other, _ = timed(theirs)
        figures[name] = (mine, other)

    points = []
    shutil.copyfile(image, out)
    os.replace(out, os.path.join(folder, "now"))
    now = os.path.join(folder, "now")
    both("ingest", lambda: points.append(ingest(vault, now)), lambda: restic("backup", now))
    figures["space"] = (size_of(os.path.join(vault, "packs")), size_of(restic.path))
    both("verify", lambda: run(NODE, "vault", "verify", "--vault", vault, "--point", points[0]), lambda: restic("check", "--read-data"))
    with open(second, "rb") as new, open(now, "r+b") as file:  # in place: restic looks at the times of files
        shutil.copyfileobj(new, file, 1 << 20)
    both("second", lambda: points.append(ingest(vault, now)), lambda: restic("backup", now))
    figures["since"] = timed(lambda: run(NODE, "vault", "verify", "--vault", vault, "--point", points[1], "--since", points[0]))
    known = re.search(r"(\d+) blocks, (\d+) of them", figures["since"][1])
    figures["read"] = 1 - int(known.group(2)) / int(known.group(1))
    target = os.path.join(folder, "restored")
    both("restore", lambda: run(NODE, "vault", "recover", "--vault", vault, "--point", points[1], "--disk", "disk0", "--target", target),
         lambda: restic("restore", restic.snapshot(), "--target", os.path.join(folder, "theirs")))
    with open(target, "rb") as mine, open(now, "rb") as source:
        while block := source.read(1 << 20):
            assert mine.read(1 << 20) == block
    os.unlink(target)
    shutil.rmtree(os.path.join(folder, "theirs"))
    os.unlink(now)
    return figures


def measure(data_set):
    kit.need("restic")
    with kit.scratch() as folder:
        image, second = os.path.join(folder, "image"), os.path.join(folder, "second")
        kit.DATA_SETS[data_set](image)
        shutil.copyfile(image, second)
        changes = kit.Changes(second, folder, 5)
        changes.make(changes.blocks(0.01, os.path.getsize(second)), kit.BLOCK)
        rounds = [round_of(folder, image, second) for _ in range(kit.ROUNDS)]
    figures = {"space": rounds[0]["space"], "read": rounds[0]["read"]}
    for name in ("ingest", "second", "verify", "restore"):
        mine, other = kit.median([r[name][0] for r in rounds]), kit.median([r[name][1] for r in rounds])
        figures[name] = other / mine
        kit.say("%s, %s: %.2f s, restic %.2f s" % (data_set, name, mine, other))
    kit.say("%s, verification since the version before: %.2f s" % (data_set, kit.median([r["since"][0] for r in rounds])))
    return figures


measured = kit.Measured({name: lambda name=name: measure(name) for name in kit.DATA_SETS})


def of_each(what, check):
    return [wrong for data_set in kit.DATA_SETS for wrong in check(data_set, measured(data_set)[what])]


def ingest_is_3_5_times_as_fast_as_restic():
    return of_each("ingest", lambda name, value: kit.mark("%s: ingest, times restic" % name, value, at_least=3.5))


def it_takes_no_more_space():
    return of_each("space", lambda name, value: kit.mark("%s: bytes beside restic's" % name, value[0] / value[1], at_most=1.0))


def the_second_version_is_10_times_as_fast():
    return of_each("second", lambda name, value: kit.mark("%s: second version, times restic" % name, value, at_least=10))


def full_verification_is_3_times_as_fast():
    return of_each("verify", lambda name, value: kit.mark("%s: full verification, times restic check" % name, value, at_least=3))


def verification_since_the_version_before_reads_about_1_percent():
    return of_each("read", lambda name, value: kit.mark("%s: share that is read" % name, value, at_most=0.012))


def restore_is_3_times_as_fast():
    return of_each("restore", lambda name, value: kit.mark("%s: restore, times restic" % name, value, at_least=3))


tap.run_all([ingest_is_3_5_times_as_fast_as_restic, it_takes_no_more_space, the_second_version_is_10_times_as_fast,
             full_verification_is_3_times_as_fast, verification_since_the_version_before_reads_about_1_percent, restore_is_3_times_as_fast])
