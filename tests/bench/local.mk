# Benchmarks: programs or scripts that print their figures and TAP against their marks; `make bench`.
BENCH_TESTS = tests/bench/bench_command_latency.py tests/bench/bench_first_copy.py tests/bench/bench_replay.py \
	tests/bench/bench_start.py tests/bench/bench_etcd.py tests/bench/bench_streams.py tests/bench/bench_failover.py \
	tests/bench/bench_reports.py tests/bench/bench_state_stream.py tests/bench/bench_increment.py tests/bench/bench_link.py \
	tests/bench/bench_many.py tests/bench/bench_schedule.py tests/bench/bench_nodes.py tests/bench/bench_nbd.py tests/bench/bench_recovery.py tests/bench/bench_vault.py tests/bench/bench_reclaim.py
EXTRA_DIST += tests/bench/run tests/bench/transfer_kit.py tests/bench/wrk_writes.lua $(BENCH_TESTS)
# disks at once, between two processes
check_PROGRAMS += tests/bench/transfer
tests_bench_transfer_SOURCES = tests/bench/transfer.c tests/bench/transfer_node.c tests/bench/transfer_node.h
tests_bench_transfer_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
tests_bench_transfer_LDADD = libdataplane.la libadapters.la libtestpki.la

# one client's command
check_PROGRAMS += tests/bench/command_latency
tests_bench_command_latency_SOURCES = tests/bench/command_latency.c
tests_bench_command_latency_LDADD = libfarshore.la libbase.la

# folding events
check_PROGRAMS += tests/bench/replay_fold
tests_bench_replay_fold_SOURCES = tests/bench/replay_fold.c tests/lib/fsm_world.c tests/lib/fsm_world.h
tests_bench_replay_fold_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) -I$(top_srcdir)/tests
tests_bench_replay_fold_LDADD = liblog.la $(CMOCKA_LIBS)

# a store of many events
check_PROGRAMS += tests/bench/make_store
tests_bench_make_store_SOURCES = tests/bench/make_store.c
tests_bench_make_store_LDADD = liblog.la

# many consumers
check_PROGRAMS += tests/bench/streams
tests_bench_streams_SOURCES = tests/bench/streams.c
tests_bench_streams_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS)
tests_bench_streams_LDADD = $(OPENSSL_LIBS)

# a large state, streamed
check_PROGRAMS += tests/bench/state_stream
tests_bench_state_stream_SOURCES = tests/bench/state_stream.c
tests_bench_state_stream_LDADD = liblog.la

# points over NBD
check_PROGRAMS += tests/bench/make_point tests/bench/nbd_reads
tests_bench_make_point_SOURCES = tests/bench/make_point.c tests/lib/vault_kit.h
tests_bench_make_point_LDADD = libdataplane.la
tests_bench_nbd_reads_SOURCES = tests/bench/nbd_reads.c
tests_bench_nbd_reads_CFLAGS = $(AM_CFLAGS) $(LIBNBD_CFLAGS)
tests_bench_nbd_reads_LDADD = $(LIBNBD_LIBS)

# what the ransomware signal sees of real increments
check_PROGRAMS += tests/bench/signal_lab
tests_bench_signal_lab_SOURCES = tests/bench/signal_lab.c tests/lib/vault_kit.h
tests_bench_signal_lab_CFLAGS = $(AM_CFLAGS) $(ZSTD_CFLAGS) $(OPENSSL_CFLAGS)
tests_bench_signal_lab_LDADD = libdataplane.la $(ZSTD_LIBS) $(OPENSSL_LIBS)

# many points, counted and given back
check_PROGRAMS += tests/bench/reclaim_scale
tests_bench_reclaim_scale_SOURCES = tests/bench/reclaim_scale.c tests/lib/vault_kit.h
tests_bench_reclaim_scale_LDADD = libdataplane.la $(ZSTD_LIBS)
