# The data plane: the vault and its map (vault_*, pack_*, map_*, replica*, manifest*), the engine and its transport.
noinst_LTLIBRARIES += libdataplane.la
libdataplane_la_SOURCES =
libdataplane_la_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS) $(LMDB_CFLAGS) $(ZSTD_CFLAGS) $(XXHASH_CFLAGS) $(UV_CFLAGS)
libdataplane_la_LIBADD = libnet.la libobjects.la libbase.la $(OPENSSL_LIBS) $(LMDB_LIBS) $(ZSTD_LIBS) $(UV_LIBS)

# the engine
libdataplane_la_SOURCES += \
	src/dataplane/engine.c src/dataplane/engine.h src/dataplane/engine_local.h \
	src/dataplane/engine_listen.c \
	src/dataplane/engine_orders.c \
	src/dataplane/engine_platforms.c \
	src/dataplane/engine_reports.c \
	src/dataplane/block_tags.c src/dataplane/block_tags.h \
	src/dataplane/captured.c src/dataplane/captured.h \
	src/dataplane/compressible.h \
	src/dataplane/leaf_lanes.c src/dataplane/leaf_lanes.h \
	src/dataplane/pool.c src/dataplane/pool.h \
	src/dataplane/receive.c src/dataplane/receive_local.h \
	src/dataplane/receive_dial.c \
	src/dataplane/receive_frames.c \
	src/dataplane/receive_lane.c \
	src/dataplane/receive_worker.c \
	src/dataplane/receive_writer.c \
	src/dataplane/qcow2_target.c src/dataplane/qcow2_target.h \
	src/dataplane/restore.c \
	src/dataplane/run_folder.c src/dataplane/run_folder.h \
	src/dataplane/served.c src/dataplane/served.h \
	src/dataplane/script_child.c src/dataplane/script_child.h \
	src/dataplane/send.c src/dataplane/send_local.h \
	src/dataplane/send_frames.c \
	src/dataplane/send_judge.c \
	src/dataplane/send_lane.c \
	src/dataplane/send_missed.c src/dataplane/send_missed.h \
	src/dataplane/send_pack.c \
	src/dataplane/send_plan.c src/dataplane/send_plan.h \
	src/dataplane/send_read.c \
	src/dataplane/send_worker.c \
	src/dataplane/send_writer.c \
	src/dataplane/source_journal.c \
	src/dataplane/source_map.c src/dataplane/source_map.h src/dataplane/source_map_local.h \
	src/dataplane/tasks.c \
	src/dataplane/tasks_adopt.c \
	src/dataplane/compare.h src/dataplane/compare_disk.c src/dataplane/compare_link.c \
	src/dataplane/tasks_compare.c src/dataplane/tasks_leaves.c \
	src/dataplane/tasks_seed.c \
	src/dataplane/tasks_machine.c \
	src/dataplane/tasks_script.c \
	src/dataplane/tasks_use.c \
	src/dataplane/tasks_vault.c \
	src/dataplane/throttle.c src/dataplane/throttle.h \
	src/dataplane/transfer_frames.c src/dataplane/transfer_frames.h \
	src/dataplane/transfer_stream.c \
	src/dataplane/use_child.c src/dataplane/use_child.h \
	src/dataplane/use_place.c src/dataplane/use_place.h

# disks of points over NBD
nbdkitplugindir = $(libdir)/nbdkit/plugins
nbdkitplugin_LTLIBRARIES = nbdkit-farshore-plugin.la
nbdkit_farshore_plugin_la_SOURCES = src/dataplane/nbdkit_plugin.c
nbdkit_farshore_plugin_la_CFLAGS = $(AM_CFLAGS) $(NBDKIT_CFLAGS) -DFARSHORE_VERSION=\"$(PACKAGE_VERSION)\"
nbdkit_farshore_plugin_la_LDFLAGS = -module -avoid-version -shared -export-symbols-regex '^plugin_init$$'
# As an archive, of which it takes what it needs: libtool would put all of every convenience library in, libbase twice.
nbdkit_farshore_plugin_la_LIBADD = .libs/libdataplane.a $(LMDB_LIBS) $(ZSTD_LIBS) $(XXHASH_LIBS) $(CURL_LIBS) $(EXPAT_LIBS) $(OPENSSL_LIBS) \
	$(IPSEC_MB_LIBS) -lpthread
nbdkit_farshore_plugin_la_DEPENDENCIES = libdataplane.la

# a vault on an object store
libdataplane_la_SOURCES += \
	src/dataplane/remote.c src/dataplane/remote.h src/dataplane/remote_private.h \
	src/dataplane/remote_carry.c \
	src/dataplane/remote_head.c \
	src/dataplane/remote_holder.c \
	src/dataplane/remote_keep.c \
	src/dataplane/remote_pack.c src/dataplane/remote_points.c \
	src/dataplane/remote_read.c \
	src/dataplane/remote_readers.c \
	src/dataplane/vault_attach.c \
	src/dataplane/vault_store.c src/dataplane/vault_store.h \
	src/dataplane/vault_trust.c src/dataplane/vault_trust.h

# the vault
libdataplane_la_SOURCES += \
	src/dataplane/domain.c src/dataplane/domain.h src/dataplane/domain_private.h \
	src/dataplane/domain_crypt.c src/dataplane/domain_file.c \
	src/dataplane/id_key.c src/dataplane/id_key.h \
	src/dataplane/machine_order.c \
	src/dataplane/manifest.c src/dataplane/manifest.h \
	src/dataplane/map.c src/dataplane/map.h src/dataplane/map_private.h \
	src/dataplane/map_stream.c \
	src/dataplane/opened.c src/dataplane/opened.h \
	src/dataplane/scrub.c src/dataplane/scrub.h src/dataplane/scrub_names.c src/dataplane/scrub_private.h \
	src/dataplane/pack.c src/dataplane/pack.h src/dataplane/pack_format.c src/dataplane/pack_scan.c \
	src/dataplane/hydrate.c src/dataplane/hydrate.h \
	src/dataplane/layer.c src/dataplane/layer.h \
	src/dataplane/import.h src/dataplane/vault_import.c \
	src/dataplane/reclaim.h \
	src/dataplane/replica.c src/dataplane/replica_file.c src/dataplane/replica_mend.c \
	src/dataplane/signal.c src/dataplane/signal.h \
	src/dataplane/signal_detect.c \
	src/dataplane/signal_page.c src/dataplane/signal_page.h \
	src/dataplane/signal_store.c src/dataplane/signal_store.h \
	src/dataplane/vault.c src/dataplane/vault.h src/dataplane/vault_private.h \
	src/dataplane/vault_clock.c \
	src/dataplane/vault_domain.c \
	src/dataplane/vault_bury.c \
	src/dataplane/vault_dead.c src/dataplane/vault_dead.h \
	src/dataplane/vault_hold.c \
	src/dataplane/vault_ledger.c src/dataplane/vault_ledger.h src/dataplane/vault_ledger_private.h \
	src/dataplane/vault_ledger_walk.c \
	src/dataplane/vault_quarantine.c \
	src/dataplane/vault_space.c \
	src/dataplane/vault_verify.c \
	src/dataplane/vault_reclaim.c src/dataplane/vault_reclaim_private.h \
	src/dataplane/vault_index.c src/dataplane/vault_index.h src/dataplane/vault_index_check.c \
	src/dataplane/vault_key.c \
	src/dataplane/vault_lock.c src/dataplane/vault_lock.h \
	src/dataplane/vault_owner.c src/dataplane/vault_owner.h \
	src/dataplane/vault_usage.c src/dataplane/vault_usage.h \
	src/dataplane/vault_copy.c src/dataplane/vault_copy.h \
	src/dataplane/vault_diff.c src/dataplane/vault_diff.h \
	src/dataplane/vault_heal.c src/dataplane/vault_heal.h \
	src/dataplane/vault_open.c \
	src/dataplane/vault_pages.c \
	src/dataplane/vault_point.c \
	src/dataplane/vault_recover.c \
	src/dataplane/vault_repair.c \
	src/dataplane/vault_reserve.c \
	src/dataplane/vault_seal.c
