# The program's parts that know no main, so that tests can link them.
noinst_LTLIBRARIES += libserver.la
libserver_la_SOURCES = \
	src/server/admission.c src/server/admission.h \
	src/server/backups.c src/server/backups.h \
	src/server/calls.c src/server/calls.h \
	src/server/claims.c src/server/claims.h \
	src/server/cluster_init.c \
	src/server/divergent.c \
	src/server/domain_keys.c src/server/domain_keys.h \
	src/server/fence.c src/server/fence.h \
	src/server/fence_probe.c src/server/fence_probe.h \
	src/server/founding.c src/server/founding.h \
	src/server/head_signer.c src/server/head_signer.h \
	src/server/hooks.c src/server/hooks.h \
	src/server/leadership.c src/server/leadership.h \
	src/server/link.c src/server/link.h src/server/link_private.h \
	src/server/link_limits.c \
	src/server/link_orders.c \
	src/server/link_pace.c \
	src/server/link_servers.c \
	src/server/link_vaults.c \
	src/server/members.c src/server/members.h \
	src/server/peer_keys.c src/server/peer_keys.h \
	src/server/recover_quorum.c \
	src/server/removed.c src/server/removed.h \
	src/server/secrets.c src/server/secrets.h \
	src/server/server.h \
	src/server/server_config.c \
	src/server/server_join.c src/server/server_join.h \
	src/server/server_rejoin.c \
	src/server/server_replay.c \
	src/server/server_restore.c \
	src/server/server_run.c \
	src/server/server_verify.c \
	src/server/sign_key.c \
	src/server/survivors.c src/server/survivors.h
libserver_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS) $(OPENSSL_CFLAGS) $(JANSSON_CFLAGS)

bin_PROGRAMS += src/server/farshored
src_server_farshored_SOURCES = src/server/farshored.c
src_server_farshored_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
src_server_farshored_LDADD = libserver.la libfarshore.la libapi.la liblog.la libnet.la libfsm.la libbase.la $(UV_LIBS) $(OPENSSL_LIBS)
