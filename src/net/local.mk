noinst_HEADERS += src/net/net.h src/net/pki.h src/net/token.h src/net/seal.h
