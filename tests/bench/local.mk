# Benchmarks: programs or scripts that print their figures and TAP against their marks; `make bench`.
BENCH_TESTS = tests/bench/bench_command_latency.py tests/bench/bench_first_copy.py
EXTRA_DIST += tests/bench/run $(BENCH_TESTS)

# the first copy against nbdcopy
check_PROGRAMS += tests/bench/first_copy
tests_bench_first_copy_SOURCES = tests/bench/first_copy.c
tests_bench_first_copy_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
tests_bench_first_copy_LDADD = tests/lib/libenginepair.la libdataplane.la libadapters.la

# one client's command
check_PROGRAMS += tests/bench/command_latency
tests_bench_command_latency_SOURCES = tests/bench/command_latency.c
tests_bench_command_latency_LDADD = libfarshore.la libbase.la
