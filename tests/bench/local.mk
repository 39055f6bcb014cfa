# Benchmarks: programs or scripts that print their figures and TAP against their marks; `make bench`.
BENCH_TESTS = tests/bench/bench_command_latency.py
EXTRA_DIST += tests/bench/run tests/bench/bench_command_latency.py
