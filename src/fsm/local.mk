noinst_LTLIBRARIES += libfsm.la
libfsm_la_SOURCES = \
	src/fsm/events.def \
	src/fsm/fsm.h \
	src/fsm/kv.h \
	src/fsm/query.h \
	src/fsm/schema.c src/fsm/schema.h src/fsm/schema_nofields.h src/fsm/schema_undef.h \
	src/fsm/state.h
libfsm_la_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS)
libfsm_la_LIBADD = libbase.la $(MSGPACK_LIBS)
