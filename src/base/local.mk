noinst_LTLIBRARIES += libbase.la
libbase_la_SOURCES = \
	src/base/arena.c src/base/arena.h \
	src/base/assert.h \
	src/base/buf.c src/base/buf.h \
	src/base/bytes.c src/base/bytes.h \
	src/base/child.c src/base/child.h \
	src/base/clock.c src/base/clock.h \
	src/base/config.c src/base/config.h \
	src/base/date.c src/base/date.h \
	src/base/error.c src/base/error.h \
	src/base/file.c src/base/file.h \
	src/base/hash.c src/base/hash.h \
	src/base/key_set.c src/base/key_set.h \
	src/base/moment.c src/base/moment.h \
	src/base/logging.c src/base/logging.h \
	src/base/new_folder.c src/base/new_folder.h \
	src/base/random.c src/base/random.h \
	src/base/thread.c src/base/thread.h \
	src/base/users.h
libbase_la_CFLAGS = $(AM_CFLAGS) $(XXHASH_CFLAGS)
libbase_la_LIBADD = $(XXHASH_LIBS)
