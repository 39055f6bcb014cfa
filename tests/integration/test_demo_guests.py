#!/usr/bin/env python3
"""./demo: two guests are protected, tested, lost with their site, recovered, and brought home. Only in `make check-long`: test_runs.py and
test_failback.py do the same step by step.

Skipped where libvirt, QEMU or namespaces are missing.

far-timeout: 600
"""
import os
import subprocess
import sys
import tempfile

import farlib
import libvirt_kit
import tap

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../e2e/demo_guests.py")


def the_demo_passes_and_leaves_nothing():
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, DEMO, "--dir", os.path.join(folder, "d")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=500 * farlib.SLOW, check=False)
        lines = done.stdout.strip().split("\n")
        print("# " + lines[-1])
        wrong = [] if done.returncode == 0 and lines[-1].startswith("demo: PASS") else lines[-30:]
        return wrong + ([] if os.listdir(folder) == [] else ["it left %r" % os.listdir(folder)])


if __name__ == "__main__":
    if not libvirt_kit.is_missing("e2fsck"):
        tap.run_all([the_demo_passes_and_leaves_nothing])
