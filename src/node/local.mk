# The program's parts that know no main, so that tests can link them.
noinst_LTLIBRARIES += libnode.la
libnode_la_SOURCES = \
	src/node/agent.c src/node/agent.h \
	src/node/leases.c src/node/leases.h \
	src/node/orders.c src/node/orders.h \
	src/node/reports.c src/node/reports.h
libnode_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
libnode_la_LIBADD = libfsm.la libbase.la
