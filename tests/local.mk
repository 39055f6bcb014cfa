include tests/unit/local.mk
include tests/model/local.mk
include tests/sim/local.mk
include tests/golden/local.mk
include tests/fuzz/local.mk
include tests/bench/local.mk
include tests/lib/local.mk
include tests/integration/local.mk
include tests/e2e/local.mk

check_PROGRAMS += $(UNIT_TESTS)
TESTS = $(UNIT_TESTS)
AM_TESTS_ENVIRONMENT = CMOCKA_MESSAGE_OUTPUT=TAP; export CMOCKA_MESSAGE_OUTPUT;

# What tests/run and ./check ask for.
.PHONY: list-unit-tests list-fuzz-targets list-integration-tests list-parallel-integration-tests list-long-integration-tests list-bench-tests check-long bench
list-unit-tests:
	@echo $(UNIT_TESTS)
list-fuzz-targets:
	@echo $(FUZZ_TARGETS)
list-integration-tests:
	@echo $(INTEGRATION_TESTS)
list-parallel-integration-tests:
	@echo $(PARALLEL_INTEGRATION_TESTS)
list-long-integration-tests:
	@echo $(LONG_INTEGRATION_TESTS)
check-long:
	cd $(top_srcdir) && tests/check_long
bench:
	cd $(top_srcdir) && tests/bench/run
EXTRA_DIST += tests/run tests/unit/test_tree.py tests/unit/test_check.py tests/unit/fsm_symbols.allow tests/lib/tap.py \
	tests/lib/build.sh tests/lib/install_deps.sh
list-bench-tests:
	@echo $(BENCH_TESTS)
EXTRA_DIST += tests/check_long README.md LICENSE docs/HACKING.md docs/ARCHITECTURE.md docs/FORMATS.md .ci/run
# Not in EXTRA_DIST: there the script's name would be the target `check`, and `make dist` would run the tests.
dist-hook:
	cp -p $(srcdir)/check $(distdir)/check
EXTRA_DIST += docs/SIMULATION.md docs/FIRST_STEPS.md docs/RECOVERY.md docs/EVENTS.md docs/DISASTER.md docs/ADAPTERS.md docs/NBD.md docs/OBJECT_STORE.md docs/SIGNAL.md docs/signal_roc.svg
