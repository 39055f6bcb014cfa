# one line a program: see docs/HACKING.md

# The formats of the vault.
EXTRA_DIST += tests/golden/vault_root.py tests/golden/vault
UNIT_TESTS += tests/golden/golden_vault
tests_golden_golden_vault_SOURCES = tests/golden/golden_vault.c
tests_golden_golden_vault_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(ZSTD_CFLAGS) -DFAR_SRCDIR='"$(srcdir)"'
tests_golden_golden_vault_LDADD = libdataplane.la $(ZSTD_LIBS) $(CMOCKA_LIBS)

EXTRA_DIST += tests/golden/vault_keyed
UNIT_TESTS += tests/golden/golden_keyed
tests_golden_golden_keyed_SOURCES = tests/golden/golden_keyed.c
tests_golden_golden_keyed_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(ZSTD_CFLAGS) -DFAR_SRCDIR='"$(srcdir)"'
tests_golden_golden_keyed_LDADD = libdataplane.la $(ZSTD_LIBS) $(CMOCKA_LIBS)

# Commands, events, rows, messages and a recorded log. After a change of format, in the commit that makes it:
#   make tests/golden/make_golden && tests/golden/make_golden <source tree>/tests/golden/fsm
EXTRA_DIST += tests/golden/fsm/kinds.txt tests/golden/fsm/log.txt tests/golden/fsm/log_consumers.txt tests/golden/fsm/log_heads.txt \
	tests/golden/fsm/log_incarnations.txt tests/golden/fsm/log_retention.txt tests/golden/fsm/log_compaction.txt \
	tests/golden/fsm/log_running.txt tests/golden/fsm/log_updates.txt tests/golden/fsm/log_skips.txt tests/golden/fsm/log_forget.txt \
	tests/golden/fsm/log_throttles.txt
UNIT_TESTS += tests/golden/golden_fsm
far_golden_fsm = tests/golden/golden_fsm_made.c tests/golden/golden_fsm_made.h tests/lib/fsm_world.c \
	tests/lib/fsm_world.h
tests_golden_golden_fsm_SOURCES = tests/golden/golden_fsm.c $(far_golden_fsm)
tests_golden_golden_fsm_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests -DFAR_SRCDIR='"$(srcdir)"'
tests_golden_golden_fsm_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_golden_golden_fsm_LDADD = libfsm.la $(CMOCKA_LIBS)
check_PROGRAMS += tests/golden/make_golden
tests_golden_make_golden_SOURCES = tests/golden/make_golden.c $(far_golden_fsm)
tests_golden_make_golden_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_golden_make_golden_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_golden_make_golden_LDADD = libfsm.la $(CMOCKA_LIBS)

# The bytes of log, store and wire. After a change of format, in the commit that makes it:
#   tests/golden/golden_formats <source tree>/tests/golden/formats/formats.txt
EXTRA_DIST += tests/golden/formats/formats.txt
UNIT_TESTS += tests/golden/golden_formats
tests_golden_golden_formats_SOURCES = tests/golden/golden_formats.c tests/golden/golden_formats_log.c \
	tests/golden/golden_formats.h tests/lib/entries.h
tests_golden_golden_formats_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests -DFAR_SRCDIR='"$(srcdir)"'
tests_golden_golden_formats_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(RAFT_CFLAGS) $(LMDB_CFLAGS) $(UV_CFLAGS)
tests_golden_golden_formats_LDADD = liblog.la libdataplane.la libnet.la $(LMDB_LIBS) $(CMOCKA_LIBS)

# A segment: golden_segment <source tree>/tests/golden/formats/segment.txt makes it, in a commit that makes a new version.
EXTRA_DIST += tests/golden/formats/segment.txt
UNIT_TESTS += tests/golden/golden_segment
tests_golden_golden_segment_SOURCES = tests/golden/golden_segment.c
tests_golden_golden_segment_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests -DFAR_SRCDIR='"$(srcdir)"'
tests_golden_golden_segment_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_golden_golden_segment_LDADD = liblog.la $(CMOCKA_LIBS)
