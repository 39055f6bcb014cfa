# Fuzz targets: one a parser of outside bytes. Each links $(FUZZ_MAIN) with $(LINK_WITH_FUZZ): libFuzzer's main with
# --enable-fuzz (clang), else fuzz_replay.c, which runs the kept corpus tests/fuzz/corpus/<name>/. For fuzz_<name>:
#   FUZZ_TARGETS += tests/fuzz/fuzz_<name>
#   tests_fuzz_fuzz_<name>_SOURCES = tests/fuzz/fuzz_<name>.c $(FUZZ_MAIN)
#   tests_fuzz_fuzz_<name>_LDFLAGS = $(LINK_WITH_FUZZ)
#   tests_fuzz_fuzz_<name>_LDADD = lib….la
if ENABLE_FUZZ
FUZZ_MAIN =
LINK_WITH_FUZZ = $(AM_LDFLAGS) -fsanitize=fuzzer,address
else
FUZZ_MAIN = tests/fuzz/fuzz_replay.c
LINK_WITH_FUZZ = $(AM_LDFLAGS)
endif
EXTRA_DIST += tests/fuzz/corpus tests/fuzz/fuzz_replay.c
check_PROGRAMS += $(FUZZ_TARGETS)

# src/log
FUZZ_TARGETS += tests/fuzz/fuzz_envelope
tests_fuzz_fuzz_envelope_SOURCES = tests/fuzz/fuzz_envelope.c $(FUZZ_MAIN)
tests_fuzz_fuzz_envelope_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_envelope_LDADD = liblog.la
FUZZ_TARGETS += tests/fuzz/fuzz_snapshot
tests_fuzz_fuzz_snapshot_SOURCES = tests/fuzz/fuzz_snapshot.c $(FUZZ_MAIN)
tests_fuzz_fuzz_snapshot_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_snapshot_LDADD = liblog.la
FUZZ_TARGETS += tests/fuzz/fuzz_past_copy
tests_fuzz_fuzz_past_copy_SOURCES = tests/fuzz/fuzz_past_copy.c $(FUZZ_MAIN)
tests_fuzz_fuzz_past_copy_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_past_copy_LDADD = liblog.la
FUZZ_TARGETS += tests/fuzz/fuzz_segment
tests_fuzz_fuzz_segment_SOURCES = tests/fuzz/fuzz_segment.c $(FUZZ_MAIN)
tests_fuzz_fuzz_segment_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_segment_LDADD = liblog.la

# src/verify
FUZZ_TARGETS += tests/fuzz/fuzz_verify
tests_fuzz_fuzz_verify_SOURCES = tests/fuzz/fuzz_verify.c $(FUZZ_MAIN)
tests_fuzz_fuzz_verify_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_verify_LDADD = libverify.la $(OPENSSL_LIBS)

# net
FUZZ_TARGETS += tests/fuzz/fuzz_greeting tests/fuzz/fuzz_join_token
tests_fuzz_fuzz_greeting_SOURCES = tests/fuzz/fuzz_greeting.c $(FUZZ_MAIN)
tests_fuzz_fuzz_greeting_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
tests_fuzz_fuzz_greeting_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_greeting_LDADD = libnet.la
tests_fuzz_fuzz_join_token_SOURCES = tests/fuzz/fuzz_join_token.c $(FUZZ_MAIN)
tests_fuzz_fuzz_join_token_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_join_token_LDADD = libnet.la
FUZZ_TARGETS += tests/fuzz/fuzz_backup
tests_fuzz_fuzz_backup_SOURCES = tests/fuzz/fuzz_backup.c $(FUZZ_MAIN)
tests_fuzz_fuzz_backup_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
tests_fuzz_fuzz_backup_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_backup_LDADD = liblog.la
FUZZ_TARGETS += tests/fuzz/fuzz_incarnation
tests_fuzz_fuzz_incarnation_SOURCES = tests/fuzz/fuzz_incarnation.c $(FUZZ_MAIN)
tests_fuzz_fuzz_incarnation_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
tests_fuzz_fuzz_incarnation_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_incarnation_LDADD = libnet.la
FUZZ_TARGETS += tests/fuzz/fuzz_frames
tests_fuzz_fuzz_frames_SOURCES = tests/fuzz/fuzz_frames.c $(FUZZ_MAIN)
tests_fuzz_fuzz_frames_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
tests_fuzz_fuzz_frames_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_frames_LDADD = liblog.la
FUZZ_TARGETS += tests/fuzz/fuzz_enroll
tests_fuzz_fuzz_enroll_SOURCES = tests/fuzz/fuzz_enroll.c $(FUZZ_MAIN)
tests_fuzz_fuzz_enroll_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
tests_fuzz_fuzz_enroll_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_enroll_LDADD = libnet.la

# the vault
FUZZ_TARGETS += tests/fuzz/fuzz_manifest tests/fuzz/fuzz_pack
tests_fuzz_fuzz_manifest_SOURCES = tests/fuzz/fuzz_manifest.c $(FUZZ_MAIN)
tests_fuzz_fuzz_manifest_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_manifest_LDADD = libdataplane.la
tests_fuzz_fuzz_pack_SOURCES = tests/fuzz/fuzz_pack.c $(FUZZ_MAIN)
tests_fuzz_fuzz_pack_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_pack_LDADD = libdataplane.la

# src/api
FUZZ_TARGETS += tests/fuzz/fuzz_json_command tests/fuzz/fuzz_http_query tests/fuzz/fuzz_http_head
tests_fuzz_fuzz_json_command_SOURCES = tests/fuzz/fuzz_json_command.c $(FUZZ_MAIN)
tests_fuzz_fuzz_json_command_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
tests_fuzz_fuzz_json_command_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_json_command_LDADD = libapi.la libfsm.la libbase.la $(JANSSON_LIBS)
FUZZ_TARGETS += tests/fuzz/fuzz_tzif
tests_fuzz_fuzz_tzif_SOURCES = tests/fuzz/fuzz_tzif.c $(FUZZ_MAIN)
tests_fuzz_fuzz_tzif_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_tzif_LDADD = libapi.la libfsm.la libbase.la
tests_fuzz_fuzz_http_query_SOURCES = tests/fuzz/fuzz_http_query.c $(FUZZ_MAIN)
tests_fuzz_fuzz_http_query_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
tests_fuzz_fuzz_http_query_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_http_query_LDADD = libapi.la libfsm.la libbase.la $(JANSSON_LIBS)
tests_fuzz_fuzz_http_head_SOURCES = tests/fuzz/fuzz_http_head.c $(FUZZ_MAIN)
tests_fuzz_fuzz_http_head_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_http_head_LDADD = libapi.la libfsm.la libbase.la $(JANSSON_LIBS)

# src/client: the library hides its own parts, so its files are compiled here
FUZZ_TARGETS += tests/fuzz/fuzz_proof
tests_fuzz_fuzz_proof_SOURCES = tests/fuzz/fuzz_proof.c src/client/proof.c src/client/kinds.c $(FUZZ_MAIN)
tests_fuzz_fuzz_proof_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(OPENSSL_CFLAGS)
tests_fuzz_fuzz_proof_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_proof_LDADD = libbase.la $(JANSSON_LIBS) $(OPENSSL_LIBS)

# the transfer
FUZZ_TARGETS += tests/fuzz/fuzz_transfer
tests_fuzz_fuzz_transfer_SOURCES = tests/fuzz/fuzz_transfer.c $(FUZZ_MAIN)
tests_fuzz_fuzz_transfer_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_transfer_LDADD = libdataplane.la

FUZZ_TARGETS += tests/fuzz/fuzz_domain_file
tests_fuzz_fuzz_domain_file_SOURCES = tests/fuzz/fuzz_domain_file.c $(FUZZ_MAIN)
tests_fuzz_fuzz_domain_file_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_domain_file_LDADD = libdataplane.la
FUZZ_TARGETS += tests/fuzz/fuzz_source_journal
tests_fuzz_fuzz_source_journal_SOURCES = tests/fuzz/fuzz_source_journal.c $(FUZZ_MAIN)
tests_fuzz_fuzz_source_journal_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_source_journal_LDADD = libdataplane.la
FUZZ_TARGETS += tests/fuzz/fuzz_file_list
tests_fuzz_fuzz_file_list_SOURCES = tests/fuzz/fuzz_file_list.c $(FUZZ_MAIN)
tests_fuzz_fuzz_file_list_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_file_list_LDADD = libadapters.la

# raft
FUZZ_TARGETS += tests/fuzz/fuzz_raft_message tests/fuzz/fuzz_wal
tests_fuzz_fuzz_raft_message_SOURCES = tests/fuzz/fuzz_raft_message.c $(FUZZ_MAIN)
tests_fuzz_fuzz_raft_message_CFLAGS = $(AM_CFLAGS) $(RAFT_CFLAGS)
tests_fuzz_fuzz_raft_message_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_raft_message_LDADD = liblog.la
tests_fuzz_fuzz_wal_SOURCES = tests/fuzz/fuzz_wal.c $(FUZZ_MAIN)
tests_fuzz_fuzz_wal_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_wal_LDADD = liblog.la

# src/objects
FUZZ_TARGETS += tests/fuzz/fuzz_s3_answer
tests_fuzz_fuzz_s3_answer_SOURCES = tests/fuzz/fuzz_s3_answer.c $(FUZZ_MAIN)
tests_fuzz_fuzz_s3_answer_LDFLAGS = $(LINK_WITH_FUZZ)
tests_fuzz_fuzz_s3_answer_LDADD = libobjects.la
