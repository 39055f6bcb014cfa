# one line a program: see docs/HACKING.md

# The formats of the vault.
EXTRA_DIST += tests/golden/vault_root.py tests/golden/vault
UNIT_TESTS += tests/golden/golden_vault
tests_golden_golden_vault_SOURCES = tests/golden/golden_vault.c
tests_golden_golden_vault_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(ZSTD_CFLAGS) -DFAR_SRCDIR='"$(srcdir)"'
tests_golden_golden_vault_LDADD = libdataplane.la $(ZSTD_LIBS) $(CMOCKA_LIBS)
