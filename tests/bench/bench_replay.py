#!/usr/bin/env python3
"""Events folded per second on one core with the chain checked, the mark 300,000; and how long a moment of the past takes, the
mark 2 s.

far-timeout: 300
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import tap  # noqa: E402

BUILD = os.path.abspath(os.environ.get("FAR_BUILD", "."))
MARK = 300000
MOMENT_MS = 2000


runs = []


def run():
    if not runs:
        done = subprocess.run([os.path.join(BUILD, "tests/bench/replay_fold")], check=True, capture_output=True, text=True)
        runs.append([float(word) for word in done.stdout.split()])
    return runs[0]


def replay_folds_three_hundred_thousand_events_a_second():
    events, rows, chain, state, both, samples, work = run()[:7]
    print("# %d events (%d %% reports and changes of tasks) with %d progress samples, %d rows: chain alone %d/s, state alone %d/s, both %d/s; mark %d/s; ratio %.2f" %
          (events, work / 10, samples, rows, chain, state, both, MARK, both / MARK))
    return [] if both >= MARK else ["%d events/s are below the mark of %d" % (both, MARK)]


def any_moment_answers_within_two_seconds():
    median, longest = run()[7:]
    print("# the state of a moment: median %d ms, longest %d ms; mark %d ms" % (median, longest, MOMENT_MS))
    return [] if longest <= MOMENT_MS else ["%d ms is above the mark of %d" % (longest, MOMENT_MS)]


if __name__ == "__main__":
    tap.run_all([replay_folds_three_hundred_thousand_events_a_second, any_moment_answers_within_two_seconds])
