"""TAP for the tests in Python: a test is a function; it returns None or a list of what is wrong, or raises."""
import sys
import traceback


class Skip(Exception):
    """The reason why this test cannot run here."""


def run_all(tests):
    """Runs each test, prints its result, exits with status 1 if one failed."""
    print("1..%d" % len(tests), flush=True)
    failed = False
    for number, test in enumerate(tests, 1):
        name = test.__name__
        try:
            wrong = test()
        except Skip as reason:
            print("ok %d - %s # SKIP %s" % (number, name, reason), flush=True)
            continue
        except Exception:  # a test that raises has failed, with its trace as the reason
            wrong = traceback.format_exc().rstrip().split("\n")
        if wrong:
            failed = True
            for line in wrong:
                print("# " + str(line))
        print("%sok %d - %s" % ("not " if wrong else "", number, name), flush=True)
    sys.exit(1 if failed else 0)
