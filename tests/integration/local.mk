# Integration tests: the real programs (farlib.py). Two of PARALLEL_… run at a time; the others alone.
PARALLEL_INTEGRATION_TESTS =
INTEGRATION_TESTS =
