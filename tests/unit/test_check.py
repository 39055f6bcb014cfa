#!/usr/bin/env python3
"""./check and tests/check_long count (tests/lib/build.sh): whatever does not come to its end is a failure, never a silence."""
import os
import subprocess
import sys
import tempfile

SOURCE = os.path.abspath(os.environ.get("FAR_SOURCE", os.path.join(os.path.dirname(__file__), "../..")))
BUILD = os.path.abspath(os.environ.get("FAR_BUILD", "."))
sys.path.insert(0, os.path.join(SOURCE, "tests/lib"))
import tap  # noqa: E402


def last_line(script, runner=None):
    """The last line and exit status of a script that sources build.sh; runner stands in for tests/run."""
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "tests"))
        with open(os.path.join(folder, "tests/run"), "w", encoding="ascii") as file:
            file.write(runner or '#!/bin/sh\nexec "%s/tests/run" "$@"\n' % SOURCE)
        os.chmod(os.path.join(folder, "tests/run"), 0o700)
        text = "set -u; . %s/tests/lib/build.sh; counts=%s/counts; : >$counts\n%s\nfar_total" % (SOURCE, folder, script)
        done = subprocess.run(["sh", "-c", text], cwd=folder, capture_output=True, text=True,
                              env={k: v for k, v in os.environ.items() if k != "CI"})
        return done.stdout.splitlines()[-1], done.returncode


def expect(found, wanted):
    return [] if found == wanted else ["%r, not %r" % (found, wanted)]


def what_passes_is_counted():
    return expect(last_line("far_run a %s tests/unit/test_base >&2; echo '3 0 1' >>$counts" % BUILD)[0].split(",")[1:],
                  [" 0 failed", " 1 skipped"])


def a_runner_that_dies_is_a_failure():
    return expect(last_line("far_run a . tests/unit/test_x", "#!/bin/sh\nkill -9 $$\n"), ("0 passed, 1 failed", 1))


def a_run_without_tests_is_a_failure():
    return expect(last_line("far_run a ."), ("0 passed, 1 failed", 1))


def a_list_that_cannot_be_had_is_a_failure():
    return expect(last_line("far_run a . $(far_list nowhere unit-tests 2>/dev/null)"), ("0 passed, 1 failed", 1))


def a_test_that_cannot_run_is_a_failure():
    return expect(last_line("far_run a . tests/unit/test_that_is_not_there; echo '5 0 0' >>$counts"), ("5 passed, 1 failed", 1))


def a_build_that_fails_is_a_failure():
    return expect(last_line("false || far_failed; echo '5 0 0' >>$counts"), ("5 passed, 1 failed", 1))


def nothing_at_all_is_a_failure():
    return expect(last_line(":"), ("0 passed, 1 failed", 1))


def what_cmocka_skips_is_skipped():
    program = "#!/bin/sh\necho 1..2; echo 'ok 1 - one'; echo 'not ok 2 # SKIP two'\n"
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(os.path.join(folder, "tests/unit"))
        with open(os.path.join(folder, "tests/unit/test_x"), "w", encoding="ascii") as file:
            file.write(program)
        os.chmod(os.path.join(folder, "tests/unit/test_x"), 0o700)
        return expect(last_line("far_run a %s tests/unit/test_x" % folder), ("1 passed, 0 failed, 1 skipped", 0))


def an_unknown_part_is_refused():
    done = subprocess.run([os.path.join(SOURCE, "tests/check_long"), "asan", "nonsense"], capture_output=True, text=True)
    return expect((done.returncode, done.stderr.split()[0]), (2, "usage:"))


if __name__ == "__main__":
    tap.run_all([what_passes_is_counted, a_runner_that_dies_is_a_failure, a_run_without_tests_is_a_failure,
                 a_list_that_cannot_be_had_is_a_failure, a_test_that_cannot_run_is_a_failure, a_build_that_fails_is_a_failure,
                 nothing_at_all_is_a_failure, what_cmocka_skips_is_skipped, an_unknown_part_is_refused])
