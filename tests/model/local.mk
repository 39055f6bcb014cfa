# The core under random commands: FAR_SEED=<n> replays one seed.
UNIT_TESTS += tests/model/test_fsm_model
tests_model_test_fsm_model_SOURCES = tests/model/test_fsm_model.c tests/lib/fsm_world.c tests/lib/fsm_world.h
tests_model_test_fsm_model_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_model_test_fsm_model_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_model_test_fsm_model_LDADD = libfsm.la $(CMOCKA_LIBS)
# Retention: what must never go; a hundred thousand points.
UNIT_TESTS += tests/model/test_retention
tests_model_test_retention_SOURCES = tests/model/test_retention.c tests/lib/fsm_world.c tests/lib/fsm_world.h
tests_model_test_retention_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_model_test_retention_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_model_test_retention_LDADD = libfsm.la $(CMOCKA_LIBS)
# A thousand nodes and consumers.
UNIT_TESTS += tests/model/test_scale
tests_model_test_scale_SOURCES = tests/model/test_scale.c tests/lib/fsm_world.c tests/lib/fsm_world.h
tests_model_test_scale_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_model_test_scale_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_model_test_scale_LDADD = liblog.la $(CMOCKA_LIBS)
# Ingest and reclaim of a vault, interleaved at every step: FAR_SEED=<n>, FAR_SEEDS=<count>.
UNIT_TESTS += tests/model/test_reclaim
tests_model_test_reclaim_SOURCES = tests/model/test_reclaim.c
tests_model_test_reclaim_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_model_test_reclaim_LDADD = libdataplane.la $(CMOCKA_LIBS)
