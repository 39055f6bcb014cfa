noinst_HEADERS += src/net/net.h
