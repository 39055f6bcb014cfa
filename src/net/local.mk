noinst_LTLIBRARIES += libnet.la
libnet_la_SOURCES = \
	src/net/address.c src/net/address.h \
	src/net/bdial.c src/net/blistener.c \
	src/net/bstream.c src/net/bstream_private.h \
	src/net/enroll.c src/net/enroll.h \
	src/net/gcm_wide.c src/net/gcm_wide.h \
	src/net/greeting.c src/net/greeting.h \
	src/net/incarnation.c src/net/incarnation.h \
	src/net/join_token.c src/net/join_token.h \
	src/net/listener.c \
	src/net/keyed_box.c src/net/keyed_box.h \
	src/net/net.c src/net/net.h \
	src/net/pki.c src/net/pki.h \
	src/net/records.c src/net/records.h \
	src/net/round_trip.c src/net/round_trip.h \
	src/net/seal.c src/net/seal.h \
	src/net/sign.c src/net/sign.h \
	src/net/stream.c src/net/stream_private.h src/net/stream_tls.c \
	src/net/tls.h \
	src/net/wake.c src/net/wake.h
libnet_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS) $(OPENSSL_CFLAGS) $(CURL_CFLAGS) $(JANSSON_CFLAGS) $(IPSEC_MB_CFLAGS)
libnet_la_LIBADD = libbase.la $(UV_LIBS) $(OPENSSL_LIBS) $(CURL_LIBS) $(JANSSON_LIBS) $(IPSEC_MB_LIBS)
