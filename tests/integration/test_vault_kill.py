#!/usr/bin/env python3
"""kill -9 of whoever writes a vault, at any moment of ingest, reclaim, rotation of keys and rebuilding of the index: what was
acknowledged is there, exact, and three passes later nothing is left that nobody reaches.

FAR_KILLS=<n> kills so often (25); how often in which phase is counted. The driver is that of test_powercut.py, where a cut may also
lose what was written and not synced.

far-timeout: 280
"""
import collections
import os
import random
import shutil
import subprocess

import farlib
import tap

DRIVER = os.path.join(farlib.BUILD, "tests/lib/vault_driver")
KILLS = int(os.environ.get("FAR_KILLS", "25"))
SECONDS_MOST = 60


def run_and_kill(folder, seed, after):
    """Lines that the driver said, ended after so many; the phase that it was in."""
    driver = subprocess.Popen([DRIVER, "reclaim", folder, str(seed)], stdout=subprocess.PIPE, text=True)
    lines = []
    try:
        while len(lines) < after:
            line = driver.stdout.readline()
            if not line:
                break
            lines.append(line)
    finally:
        driver.kill()
        rest = driver.stdout.read().splitlines(keepends=True)
        driver.wait(SECONDS_MOST)
    lines += [line for line in rest if line.endswith("\n")]
    last = lines[-1].split() if lines else ["open"]
    return lines, " ".join(last[:2]) if last[0] == "step" else last[0], driver.returncode


def check(folder, copy, lines):
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    done = subprocess.run([DRIVER, "check", copy], input="".join(lines), capture_output=True, text=True)
    return [] if done.returncode == 0 else [(done.stdout + done.stderr).strip()[-600:]]


def whoever_writes_a_vault_is_killed_anywhere_and_it_holds():
    seed = farlib.seed_of_run()
    rng = random.Random(seed)
    work = os.path.join(os.environ.get("TMPDIR", "/tmp"), "killed")
    wrong, said, phases = [], [], collections.Counter()
    folder, copy = os.path.join(work, "vault"), os.path.join(work, "copy")
    os.makedirs(work)
    for n in range(KILLS):
        if n % 8 == 0:  # numbers of jobs only grow: a new vault now and then
            shutil.rmtree(folder, ignore_errors=True)
            said = []
        lines, phase, status = run_and_kill(folder, 1000 * (n + 1) + rng.randrange(1000), 1 + rng.randrange(120))
        said += lines
        phases[phase] += status == -9
        if status not in (0, -9):
            wrong.append("kill %d: the driver ended with status %d" % (n, status))
        wrong += ["kill %d, in %s: %s" % (n, phase, fault) for fault in check(folder, copy, said)]
        if len(wrong) > 4:
            break
    print("# killed after: %s" % ", ".join("%s %d" % pair for pair in sorted(phases.items())))
    shutil.rmtree(work, ignore_errors=True)
    return wrong


tap.run_all([whoever_writes_a_vault_is_killed_anywhere_and_it_holds])
