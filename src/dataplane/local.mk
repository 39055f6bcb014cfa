# The data plane: the vault and its map (vault_*, pack_*, map_*, replica*, manifest*), the engine and its transport.
noinst_LTLIBRARIES += libdataplane.la
libdataplane_la_SOURCES =
libdataplane_la_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS) $(LMDB_CFLAGS) $(ZSTD_CFLAGS) $(XXHASH_CFLAGS) $(UV_CFLAGS)
libdataplane_la_LIBADD = libbase.la $(OPENSSL_LIBS) $(LMDB_LIBS) $(ZSTD_LIBS) $(UV_LIBS)
noinst_HEADERS += src/dataplane/engine.h

# the vault
libdataplane_la_SOURCES += \
	src/dataplane/manifest.c src/dataplane/manifest.h \
	src/dataplane/map.c src/dataplane/map.h src/dataplane/map_cache.c src/dataplane/map_private.h \
	src/dataplane/map_stream.c \
	src/dataplane/pack.c src/dataplane/pack.h src/dataplane/pack_format.c src/dataplane/pack_scan.c \
	src/dataplane/replica.c src/dataplane/replica_file.c \
	src/dataplane/vault.c src/dataplane/vault.h src/dataplane/vault_private.h \
	src/dataplane/vault_file.c src/dataplane/vault_file.h \
	src/dataplane/vault_index.c src/dataplane/vault_index.h src/dataplane/vault_index_check.c \
	src/dataplane/vault_key.c \
	src/dataplane/vault_open.c \
	src/dataplane/vault_pages.c \
	src/dataplane/vault_point.c \
	src/dataplane/vault_recover.c \
	src/dataplane/vault_seal.c
