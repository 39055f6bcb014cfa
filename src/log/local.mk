noinst_HEADERS += src/log/log.h
