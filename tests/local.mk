include tests/unit/local.mk
include tests/model/local.mk
include tests/sim/local.mk
include tests/golden/local.mk
include tests/fuzz/local.mk
include tests/bench/local.mk
include tests/lib/local.mk
include tests/integration/local.mk

check_PROGRAMS += $(UNIT_TESTS)
TESTS = $(UNIT_TESTS)
AM_TESTS_ENVIRONMENT = CMOCKA_MESSAGE_OUTPUT=TAP; export CMOCKA_MESSAGE_OUTPUT;
