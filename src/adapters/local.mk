# The adapters that are built in: one folder a platform.
noinst_LTLIBRARIES += libadapters.la
libadapters_la_SOURCES = \
	src/adapters/adapters.c src/adapters/adapters.h \
	src/adapters/file/file_adapter.c src/adapters/file/file_adapter.h \
	src/adapters/file/file_bytes.c \
	src/adapters/file/file_changed.c \
	src/adapters/file/file_clones.c \
	src/adapters/file/file_freeze.c \
	src/adapters/file/file_list.c \
	src/adapters/nbd/nbd_adapter.c src/adapters/nbd/nbd_adapter.h \
	src/adapters/nbd/nbd_bytes.c \
	src/adapters/nbd/nbd_changes.c \
	src/adapters/nbd/nbd_link.c src/adapters/nbd/nbd_link.h \
	src/adapters/fault/fault.c src/adapters/fault/fault.h \
	src/adapters/fault/fault_changed.c
libadapters_la_CFLAGS = $(AM_CFLAGS) $(LIBNBD_CFLAGS)
libadapters_la_LIBADD = libbase.la $(LIBNBD_LIBS)
