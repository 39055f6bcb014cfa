# The adapters that are built in: one folder a platform.
noinst_LTLIBRARIES += libadapters.la
libadapters_la_SOURCES = \
	src/adapters/adapters.c src/adapters/adapters.h \
	src/adapters/file/file_adapter.c src/adapters/file/file_adapter.h \
	src/adapters/file/file_bytes.c \
	src/adapters/file/file_freeze.c \
	src/adapters/fault/fault.c
libadapters_la_LIBADD = libbase.la
