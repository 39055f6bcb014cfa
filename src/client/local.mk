lib_LTLIBRARIES += libfarshore.la
libfarshore_la_SOURCES = src/client/check_head.c src/client/client.c src/client/follow.c src/client/kinds.c src/client/kinds.h \
	src/client/proof.c src/client/proof.h src/client/transfer.h src/client/trust.c src/client/trust.h
libfarshore_la_CFLAGS = $(AM_CFLAGS) $(CURL_CFLAGS) $(JANSSON_CFLAGS) $(OPENSSL_CFLAGS)
libfarshore_la_LDFLAGS = $(AM_LDFLAGS) -version-info 0:0:0 -export-symbols-regex '^far_client_'
libfarshore_la_LIBADD = libbase.la $(CURL_LIBS) $(JANSSON_LIBS) $(OPENSSL_LIBS)
farshoreincludedir = $(includedir)/farshore
farshoreinclude_HEADERS = include/farshore/adapter.h include/farshore/client.h
pkgconfig_DATA += src/client/farshore.pc
