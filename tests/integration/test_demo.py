#!/usr/bin/env python3
"""The options of the demo of disks (./demo --disks) on a small one: --keep leaves a system that answers, --down ends it, both can be repeated; a folder
that is not the demo's is left alone.

far-timeout: 240
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import farlib
import tap

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e/demo.py")
base = None


def demo(*argv, timeout=200):
    """(status, output) of the demo in our folder, on a disk that is large enough for a file system with files."""
    done = subprocess.run([sys.executable, DEMO, "--dir", base, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=timeout * farlib.SLOW)
    return done.returncode, done.stdout


def kept():
    """The processes that --keep noted and that run in our folder."""
    try:
        with open(os.path.join(base, "pids"), encoding="ascii") as file:
            pids = [int(line) for line in file]
    except OSError:
        return []
    alive = []
    for pid in pids:
        try:
            with open("/proc/%d/cmdline" % pid, "rb") as file:
                if os.fsencode(base) in file.read():
                    alive.append(pid)
        except OSError:
            pass
    return alive


def keep_leaves_a_system_that_answers_the_commands_it_names():
    status, text = demo("--keep", "--disk-mib", "96")
    last = text.strip().split("\n")[-1]
    print("# " + last)
    if status != 0 or not last.startswith("demo: PASS"):
        return ["status %d:" % status] + text.split("\n")[-15:]
    wrong = [] if len(kept()) == 5 else ["%d processes were kept, not three servers and two nodes" % len(kept())]
    commands = re.findall(r"^ {5}(\S+farshore --server .*)$", text, re.M)
    wrong += [] if len(commands) == 5 else ["it names %d commands" % len(commands)]
    for command in commands:
        if "--follow" in command:
            continue  # has no end
        done = subprocess.run(command.split(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if done.returncode != 0 or not done.stdout.strip():
            wrong.append("%s: status %d: %s" % (command, done.returncode, done.stderr))
    return wrong


def down_ends_what_was_kept_and_nothing_is_left_to_end():
    status, text = demo("--down")
    wrong = [] if status == 0 and "stopped 5 processes" in text else ["status %d: %s" % (status, text)]
    farlib.until(lambda: not kept(), 20, "every process is gone")
    status, text = demo("--down")
    return wrong + ([] if status == 0 and "stopped 0 processes" in text else ["again: status %d: %s" % (status, text)])


def a_second_run_takes_the_place_of_what_a_kept_one_left():
    """Without --keep nothing runs afterwards; what the first run left is removed by itself."""
    status, text = demo("--disk-mib", "64")
    last = text.strip().split("\n")[-1]
    if status != 0 or not last.startswith("demo: PASS"):
        return ["status %d:" % status] + text.split("\n")[-15:]
    return ["it left %r running" % kept()] if kept() or os.path.exists(os.path.join(base, "pids")) else []


def a_folder_that_is_not_the_demos_is_left_alone():
    global base
    ours = base
    base = os.path.join(ours, "..", os.path.basename(ours) + "-mine")
    os.makedirs(base)
    try:
        with open(os.path.join(base, "precious"), "w", encoding="ascii") as file:
            file.write("precious")
        status, text = demo("--disk-mib", "64")
        wrong = [] if status == 1 and "was not made by this demo" in text else ["status %d: %s" % (status, text)]
        return wrong + ([] if os.listdir(base) == ["precious"] else ["it holds %r now" % os.listdir(base)])
    finally:
        shutil.rmtree(base)
        base = ours


if __name__ == "__main__":
    base = os.path.join(os.path.realpath(tempfile.mkdtemp(prefix="demo-")), "kept")
    try:
        tap.run_all([keep_leaves_a_system_that_answers_the_commands_it_names,
                     down_ends_what_was_kept_and_nothing_is_left_to_end,
                     a_second_run_takes_the_place_of_what_a_kept_one_left, a_folder_that_is_not_the_demos_is_left_alone])
    finally:
        demo("--down")
        shutil.rmtree(os.path.dirname(base), ignore_errors=True)
