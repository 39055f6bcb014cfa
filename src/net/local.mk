noinst_HEADERS += src/net/net.h src/net/pki.h src/net/token.h src/net/seal.h
# enroll.c is the client side of a join, used by both `farshored join` and `farshore-node join`: add it to libnet.la's
# sources (with $(CURL_LIBS) $(JANSSON_LIBS)) in the commit that makes that library.
noinst_HEADERS += src/net/enroll.h
EXTRA_DIST += src/net/enroll.c
