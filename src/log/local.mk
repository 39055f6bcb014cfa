noinst_LTLIBRARIES += liblog.la
liblog_la_SOURCES = \
	src/log/about.h \
	src/log/agreement.c src/log/agreement.h \
	src/log/apply.c src/log/apply.h \
	src/log/apply_alone.c src/log/apply_alone.h \
	src/log/apply_outcome.c src/log/apply_outcome.h \
	src/log/apply_queue.c src/log/apply_queue.h \
	src/log/apply_thread.c src/log/apply_thread.h \
	src/log/committer.c src/log/committer.h \
	src/log/compact.c src/log/compact.h \
	src/log/compactor.c \
	src/log/backup.h src/log/backup_format.c src/log/backup_read.c src/log/backup_write.c \
	src/log/blob.h \
	src/log/chain.c src/log/chain.h \
	src/log/cluster_clock.c src/log/cluster_clock.h \
	src/log/disk.h src/log/disk_posix.c \
	src/log/envelope.c src/log/envelope.h \
	src/log/export.c src/log/export.h \
	src/log/frames.c src/log/frames.h \
	src/log/head_check.c src/log/head_check.h \
	src/log/head_duty.c src/log/head_duty.h \
	src/log/history.c src/log/history.h src/log/history_keep.c src/log/history_private.h \
	src/log/layers.c src/log/layers.h \
	src/log/log.c src/log/log.h src/log/log_private.h \
	src/log/log_about.c src/log/log_clock.c src/log/log_made.c src/log/log_past.c src/log/log_members.c src/log/log_peers.c src/log/log_propose.c src/log/log_safe.c src/log/log_turn.c \
	src/log/log_offline.c src/log/log_offline.h \
	src/log/peers.c src/log/peers.h \
	src/log/proposals.c src/log/proposals.h \
	src/log/raft_cache.c src/log/raft_cache.h \
	src/log/raft_codec.c src/log/raft_codec.h \
	src/log/raft_core.c src/log/raft_core.h src/log/raft_core_local.h \
	src/log/raft_core_life.c src/log/raft_core_members.c src/log/raft_core_receive.c \
	src/log/raft_offline.c \
	src/log/raft_wal.c src/log/raft_wal.h \
	src/log/raft_wal_format.c src/log/raft_wal_format.h \
	src/log/raft_wal_load.c src/log/raft_wal_load.h \
	src/log/replay.c src/log/replay.h \
	src/log/signed_head.c src/log/signed_head.h \
	src/log/safe.c src/log/safe.h \
	src/log/skip_orders.c src/log/skip_orders.h \
	src/log/snapshot.c src/log/snapshot.h \
	src/log/space.c src/log/space.h \
	src/log/store.c src/log/store.h \
	src/log/store_lmdb.c \
	src/log/store_memory.c \
	src/log/log_verify.c \
	src/log/writer.c src/log/writer.h
liblog_la_CFLAGS = $(AM_CFLAGS) $(RAFT_CFLAGS) $(OPENSSL_CFLAGS) $(LMDB_CFLAGS) $(ZSTD_CFLAGS) $(UV_CFLAGS) \
	-DFARSHORE_VERSION=\"$(PACKAGE_VERSION)\"
liblog_la_LIBADD = libfsm.la libnet.la $(RAFT_LIBS) $(OPENSSL_LIBS) $(LMDB_LIBS) $(ZSTD_LIBS) $(UV_LIBS)
# older events
liblog_la_SOURCES += \
	src/log/older.c src/log/older.h \
	src/log/log_past_copy.c src/log/past_copy.c src/log/past_copy.h \
	src/log/log_retain.c src/log/log_seal.c src/log/retain.c src/log/retain.h \
	src/log/sealer.c src/log/segments.c src/log/segments.h \
	src/log/segment.h src/log/segment_format.h src/log/segment_reader.c src/log/segment_writer.c \
	src/log/store_lmdb.h src/log/store_lmdb_events.c src/log/store_lmdb_meta.c \
	src/log/tidy.c src/log/tidy.h \
	src/log/walk.c src/log/walk.h
