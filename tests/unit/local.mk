# Unit tests: one program a module, cmocka, TAP.
UNIT_TESTS += tests/unit/test_base
tests_unit_test_base_SOURCES = tests/unit/test_base.c
tests_unit_test_base_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_base_LDADD = libbase.la $(CMOCKA_LIBS)

UNIT_TESTS += tests/unit/test_schema
tests_unit_test_schema_SOURCES = tests/unit/test_schema.c
tests_unit_test_schema_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_schema_LDADD = libfsm.la $(CMOCKA_LIBS)

UNIT_TESTS += tests/unit/test_faults
tests_unit_test_faults_SOURCES = tests/unit/test_faults.c
tests_unit_test_faults_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -fno-builtin
tests_unit_test_faults_LDADD = tests/lib/libfaults.la $(CMOCKA_LIBS)
tests_unit_test_faults_LDFLAGS = $(LINK_WITH_FAULTS)

# src/log
UNIT_TESTS += tests/unit/test_envelope
tests_unit_test_envelope_SOURCES = tests/unit/test_envelope.c
tests_unit_test_envelope_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_envelope_LDADD = liblog.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_powercut
tests_unit_test_powercut_SOURCES = tests/unit/test_powercut.c tests/lib/powercut_disk.c tests/lib/powercut_names.c
tests_unit_test_powercut_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_powercut_LDADD = $(CMOCKA_LIBS)
# net
UNIT_TESTS += tests/unit/test_pki tests/unit/test_seal
tests_unit_test_pki_SOURCES = tests/unit/test_pki.c
tests_unit_test_pki_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_pki_LDADD = libnet.la $(CMOCKA_LIBS)
tests_unit_test_seal_SOURCES = tests/unit/test_seal.c
tests_unit_test_seal_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_seal_LDADD = libnet.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_chain
tests_unit_test_chain_SOURCES = tests/unit/test_chain.c
tests_unit_test_chain_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(OPENSSL_CFLAGS) -fno-builtin
tests_unit_test_chain_LDADD = liblog.la tests/lib/libfaults.la $(CMOCKA_LIBS)
tests_unit_test_chain_LDFLAGS = $(LINK_WITH_FAULTS)
UNIT_TESTS += tests/unit/test_store
tests_unit_test_store_SOURCES = tests/unit/test_store.c
tests_unit_test_store_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_store_LDADD = liblog.la $(CMOCKA_LIBS)

UNIT_TESTS += tests/unit/test_node
tests_unit_test_node_SOURCES = tests/unit/test_node.c
tests_unit_test_node_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_node_LDADD = libnode.la libdataplane.la libadapters.la libfsm.la libnet.la libbase.la $(CMOCKA_LIBS) $(UV_LIBS)
# src/fsm
UNIT_TESTS += tests/unit/test_kv tests/unit/test_state
tests_unit_test_kv_SOURCES = tests/unit/test_kv.c
tests_unit_test_kv_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_kv_LDADD = libfsm.la $(CMOCKA_LIBS)
tests_unit_test_state_SOURCES = tests/unit/test_state.c
tests_unit_test_state_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_state_LDADD = libfsm.la $(CMOCKA_LIBS)
noinst_HEADERS += tests/lib/entries.h
UNIT_TESTS += tests/unit/test_apply
tests_unit_test_apply_SOURCES = tests/unit/test_apply.c
tests_unit_test_apply_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_apply_LDADD = liblog.la $(UV_LIBS) $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_apply_disk
tests_unit_test_apply_disk_SOURCES = tests/unit/test_apply_disk.c
tests_unit_test_apply_disk_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_apply_disk_LDADD = liblog.la $(UV_LIBS) $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_snapshot
tests_unit_test_snapshot_SOURCES = tests/unit/test_snapshot.c
tests_unit_test_snapshot_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_snapshot_LDADD = liblog.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_net tests/unit/test_net_blocking
tests_unit_test_net_SOURCES = tests/unit/test_net.c
tests_unit_test_net_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS) $(OPENSSL_CFLAGS) -fno-builtin
tests_unit_test_net_LDADD = libtestpki.la tests/lib/libfaults.la libnet.la $(UV_LIBS) $(OPENSSL_LIBS) $(CMOCKA_LIBS)
tests_unit_test_net_LDFLAGS = $(LINK_WITH_FAULTS)
tests_unit_test_net_blocking_SOURCES = tests/unit/test_net_blocking.c
tests_unit_test_net_blocking_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS) $(OPENSSL_CFLAGS)
tests_unit_test_net_blocking_LDADD = libtestpki.la libnet.la $(UV_LIBS) $(OPENSSL_LIBS) $(CMOCKA_LIBS)

# src/api
UNIT_TESTS += tests/unit/test_api_http
tests_unit_test_api_http_SOURCES = tests/unit/test_api_http.c
tests_unit_test_api_http_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_api_http_LDADD = libapi.la tests/lib/libhttps.la libtestpki.la libnet.la libbase.la $(CMOCKA_LIBS) $(OPENSSL_LIBS)
# the vault
noinst_HEADERS += tests/lib/made_image.h
UNIT_TESTS += tests/unit/test_map
tests_unit_test_map_SOURCES = tests/unit/test_map.c
tests_unit_test_map_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -fno-builtin
tests_unit_test_map_LDADD = libdataplane.la tests/lib/libfaults.la $(CMOCKA_LIBS)
tests_unit_test_map_LDFLAGS = $(LINK_WITH_FAULTS)
UNIT_TESTS += tests/unit/test_proposals
tests_unit_test_proposals_SOURCES = tests/unit/test_proposals.c
tests_unit_test_proposals_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_proposals_LDADD = liblog.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_agreement
tests_unit_test_agreement_SOURCES = tests/unit/test_agreement.c
tests_unit_test_agreement_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_agreement_LDADD = liblog.la $(CMOCKA_LIBS)
noinst_HEADERS += tests/lib/vault_kit.h
UNIT_TESTS += tests/unit/test_vault
tests_unit_test_vault_SOURCES = tests/unit/test_vault.c
tests_unit_test_vault_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_vault_LDADD = libdataplane.la $(ZSTD_LIBS) $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_fsm_jobs
tests_unit_test_fsm_jobs_SOURCES = tests/unit/test_fsm_jobs.c tests/lib/fsm_world.c tests/lib/fsm_world.h
tests_unit_test_fsm_jobs_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_unit_test_fsm_jobs_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_fsm_jobs_LDADD = libfsm.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_fsm_prune
tests_unit_test_fsm_prune_SOURCES = tests/unit/test_fsm_prune.c tests/lib/fsm_world.c tests/lib/fsm_world.h
tests_unit_test_fsm_prune_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_unit_test_fsm_prune_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_fsm_prune_LDADD = libfsm.la $(CMOCKA_LIBS)
# the cluster's clock
UNIT_TESTS += tests/unit/test_cluster_clock
tests_unit_test_cluster_clock_SOURCES = tests/unit/test_cluster_clock.c
tests_unit_test_cluster_clock_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_cluster_clock_LDADD = liblog.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_vault_damage
tests_unit_test_vault_damage_SOURCES = tests/unit/test_vault_damage.c
tests_unit_test_vault_damage_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -fno-builtin
tests_unit_test_vault_damage_LDADD = libdataplane.la tests/lib/libfaults.la $(CMOCKA_LIBS)
tests_unit_test_vault_damage_LDFLAGS = $(LINK_WITH_FAULTS)

# server
UNIT_TESTS += tests/unit/test_net_folder
tests_unit_test_net_folder_SOURCES = tests/unit/test_net_folder.c
tests_unit_test_net_folder_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS) $(OPENSSL_CFLAGS)
tests_unit_test_net_folder_LDADD = libtestpki.la libnet.la $(UV_LIBS) $(OPENSSL_LIBS) $(CMOCKA_LIBS)

UNIT_TESTS += tests/unit/test_wake
tests_unit_test_wake_SOURCES = tests/unit/test_wake.c
tests_unit_test_wake_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_wake_LDADD = libnet.la $(UV_LIBS) $(CMOCKA_LIBS)

UNIT_TESTS += tests/unit/test_calls tests/unit/test_server tests/unit/test_server_link
tests_unit_test_calls_SOURCES = tests/unit/test_calls.c
tests_unit_test_calls_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_calls_LDADD = libserver.la libnet.la libbase.la $(UV_LIBS) $(CMOCKA_LIBS)
tests_unit_test_server_SOURCES = tests/unit/test_server.c
tests_unit_test_server_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_server_LDADD = $(SERVER_ALONE)
tests_unit_test_server_link_SOURCES = tests/unit/test_server_link.c
tests_unit_test_server_link_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_server_link_LDADD = $(SERVER_ALONE)
UNIT_TESTS += tests/unit/test_api
tests_unit_test_api_SOURCES = tests/unit/test_api.c
tests_unit_test_api_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS) $(JANSSON_CFLAGS)
tests_unit_test_api_LDADD = $(API_FIXTURE) tests/lib/libhttps.la $(CMOCKA_LIBS) $(JANSSON_LIBS)
# src/cli; runs the program src/cli/farshore
UNIT_TESTS += tests/unit/test_cli
tests_unit_test_cli_SOURCES = tests/unit/test_cli.c
tests_unit_test_cli_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS) $(JANSSON_CFLAGS)
tests_unit_test_cli_LDADD = libcli.la $(API_FIXTURE) $(CMOCKA_LIBS) $(JANSSON_LIBS)
# the engine
UNIT_TESTS += tests/unit/test_engine
tests_unit_test_engine_SOURCES = tests/unit/test_engine.c
tests_unit_test_engine_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_engine_LDADD = tests/lib/libenginepair.la libdataplane.la libadapters.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_engine_faults
tests_unit_test_engine_faults_SOURCES = tests/unit/test_engine_faults.c
tests_unit_test_engine_faults_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS) -fno-builtin
tests_unit_test_engine_faults_LDADD = tests/lib/libenginepair.la libdataplane.la libadapters.la tests/lib/libfaults.la \
	$(CMOCKA_LIBS)
tests_unit_test_engine_faults_LDFLAGS = $(LINK_WITH_FAULTS)
UNIT_TESTS += tests/unit/test_sparse
tests_unit_test_sparse_SOURCES = tests/unit/test_sparse.c
tests_unit_test_sparse_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_sparse_LDADD = tests/lib/libenginepair.la libdataplane.la libadapters.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_enroll
tests_unit_test_enroll_SOURCES = tests/unit/test_enroll.c
tests_unit_test_enroll_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_enroll_LDADD = libnet.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_raft_core
tests_unit_test_raft_core_SOURCES = tests/unit/test_raft_core.c
tests_unit_test_raft_core_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(RAFT_CFLAGS)
tests_unit_test_raft_core_LDADD = liblog.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_json
tests_unit_test_json_SOURCES = tests/unit/test_json.c
tests_unit_test_json_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(JANSSON_CFLAGS) -DSRCDIR=\"$(abs_top_srcdir)\" -fno-builtin
tests_unit_test_json_LDADD = libapi.la libfsm.la libbase.la tests/lib/libfaults.la $(CMOCKA_LIBS) $(JANSSON_LIBS)
tests_unit_test_json_LDFLAGS = $(LINK_WITH_FAULTS)
UNIT_TESTS += tests/unit/test_log_cluster
tests_unit_test_log_cluster_SOURCES = tests/unit/test_log_cluster.c
tests_unit_test_log_cluster_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_log_cluster_LDADD = $(LOG_KIT)
UNIT_TESTS += tests/unit/test_transfer
tests_unit_test_transfer_SOURCES = tests/unit/test_transfer.c
tests_unit_test_transfer_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_transfer_LDADD = tests/lib/libenginepair.la libdataplane.la libadapters.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_log_verify
tests_unit_test_log_verify_SOURCES = tests/unit/test_log_verify.c
tests_unit_test_log_verify_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_log_verify_LDADD = liblog.la libnet.la libfsm.la libbase.la $(UV_LIBS) $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_transfer_frames tests/unit/test_adapter_file
tests_unit_test_transfer_frames_SOURCES = tests/unit/test_transfer_frames.c
tests_unit_test_transfer_frames_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_transfer_frames_LDADD = libdataplane.la $(CMOCKA_LIBS)
tests_unit_test_adapter_file_SOURCES = tests/unit/test_adapter_file.c
tests_unit_test_adapter_file_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -fno-builtin
tests_unit_test_adapter_file_LDADD = libadapters.la tests/lib/libfaults.la $(CMOCKA_LIBS)
tests_unit_test_adapter_file_LDFLAGS = $(LINK_WITH_FAULTS)
UNIT_TESTS += tests/unit/test_fsm_tables
tests_unit_test_fsm_tables_SOURCES = tests/unit/test_fsm_tables.c tests/lib/fsm_world.c tests/lib/fsm_world.h
tests_unit_test_fsm_tables_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_unit_test_fsm_tables_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_fsm_tables_LDADD = libfsm.la $(CMOCKA_LIBS)
UNIT_TESTS += tests/unit/test_fsm_commands
tests_unit_test_fsm_commands_SOURCES = tests/unit/test_fsm_commands.c tests/lib/fsm_world.c tests/lib/fsm_world.h
tests_unit_test_fsm_commands_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_unit_test_fsm_commands_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_fsm_commands_LDADD = libfsm.la tests/lib/libfaults.la $(CMOCKA_LIBS)
tests_unit_test_fsm_commands_LDFLAGS = $(LINK_WITH_FAULTS)
UNIT_TESTS += tests/unit/test_log_refusal
tests_unit_test_log_refusal_SOURCES = tests/unit/test_log_refusal.c
tests_unit_test_log_refusal_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
tests_unit_test_log_refusal_LDADD = $(LOG_KIT)
# the WAL
UNIT_TESTS += tests/unit/test_wal
tests_unit_test_wal_SOURCES = tests/unit/test_wal.c
tests_unit_test_wal_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_wal_LDADD = liblog.la $(CMOCKA_LIBS)
# event streams
UNIT_TESTS += tests/unit/test_streams
tests_unit_test_streams_SOURCES = tests/unit/test_streams.c
tests_unit_test_streams_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_unit_test_streams_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS) $(JANSSON_CFLAGS) $(OPENSSL_CFLAGS)
tests_unit_test_streams_LDADD = libfarshore.la $(API_FIXTURE) tests/lib/libhttps.la $(CMOCKA_LIBS) $(JANSSON_LIBS) $(OPENSSL_LIBS)
UNIT_TESTS += tests/unit/test_fsm_consumers
tests_unit_test_fsm_consumers_SOURCES = tests/unit/test_fsm_consumers.c tests/lib/fsm_world.c tests/lib/fsm_world.h
tests_unit_test_fsm_consumers_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_unit_test_fsm_consumers_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_fsm_consumers_LDADD = libfsm.la $(CMOCKA_LIBS)
# signed heads
UNIT_TESTS += tests/unit/test_fsm_heads
tests_unit_test_fsm_heads_SOURCES = tests/unit/test_fsm_heads.c tests/lib/fsm_world.c tests/lib/fsm_world.h
tests_unit_test_fsm_heads_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/tests
tests_unit_test_fsm_heads_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_fsm_heads_LDADD = libfsm.la $(CMOCKA_LIBS)
# dry runs, the past
UNIT_TESTS += tests/unit/test_dry_run
tests_unit_test_dry_run_SOURCES = tests/unit/test_dry_run.c tests/lib/fsm_world.c tests/lib/fsm_world.h
tests_unit_test_dry_run_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS) $(JANSSON_CFLAGS) -I$(top_srcdir)/tests
tests_unit_test_dry_run_LDADD = $(API_FIXTURE) tests/lib/libhttps.la $(CMOCKA_LIBS) $(JANSSON_LIBS)
UNIT_TESTS += tests/unit/test_history
tests_unit_test_history_SOURCES = tests/unit/test_history.c
tests_unit_test_history_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
tests_unit_test_history_LDADD = liblog.la $(CMOCKA_LIBS)
