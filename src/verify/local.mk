# The offline verifier of exports: shares no code with the rest, links libc and OpenSSL's SHA-256 only.
bin_PROGRAMS += src/verify/farshore-verify
src_verify_farshore_verify_SOURCES = src/verify/farshore_verify.c
src_verify_farshore_verify_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS)
src_verify_farshore_verify_LDADD = $(OPENSSL_LIBS)
