# The program's parts that know no main, so that tests can link them.
noinst_LTLIBRARIES += libnode.la
libnode_la_SOURCES = \
	src/node/agent.c src/node/agent.h src/node/agent_servers.c \
	src/node/leases.c src/node/leases.h \
	src/node/orders.c src/node/orders.h \
	src/node/refusals.c src/node/refusals.h \
	src/node/reports.c src/node/reports.h src/node/reports_private.h src/node/reports_refused.c
libnode_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
libnode_la_LIBADD = libfsm.la libbase.la

bin_PROGRAMS += src/node/farshore-node
src_node_farshore_node_SOURCES = \
	src/node/node_follow.c \
	src/node/join.c \
	src/node/main.c \
	src/node/node.h \
	src/node/node_config.c \
	src/node/run.c \
	src/node/store_check.c \
	src/node/vault_bind.c \
	src/node/vault_browse.c \
	src/node/vault_carry.c \
	src/node/vault_config.c \
	src/node/vault_export.c \
	src/node/vault_help.c \
	src/node/vault_keep.c \
	src/node/vault_nbd.c \
	src/node/vault_qcow2.c \
	src/node/vault_scrub.c \
	src/node/vault_keys.c \
	src/node/vault_signal.c \
	src/node/vault_cli.c
src_node_farshore_node_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
src_node_farshore_node_LDADD = libnode.la libdataplane.la libadapters.la libfsm.la libnet.la libbase.la $(UV_LIBS)
