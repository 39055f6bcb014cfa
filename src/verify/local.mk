# The offline verifier of exports: shares no code with the rest, links libc and OpenSSL's SHA-256 and Ed25519 only.
noinst_LTLIBRARIES += libverify.la
libverify_la_SOURCES = src/verify/verify.h src/verify/verify_heads.c src/verify/verify_records.c
libverify_la_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS)
libverify_la_LIBADD = $(OPENSSL_LIBS)
bin_PROGRAMS += src/verify/farshore-verify
src_verify_farshore_verify_SOURCES = src/verify/farshore_verify.c
src_verify_farshore_verify_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS) -DFARSHORE_VERSION=\"$(PACKAGE_VERSION)\"
src_verify_farshore_verify_LDADD = libverify.la $(OPENSSL_LIBS)
