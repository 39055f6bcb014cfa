/* The bytes of the log, as golden_formats.c compares them: made by the code as it is. */
#define _GNU_SOURCE
#include "lib/cm.h"

#include "golden/golden_formats.h"
#include "lib/entries.h"
#include "log/backup.h"
#include "log/frames.h"
#include "log/raft_codec.h"
#include "log/raft_wal_format.h"
#include "log/signed_head.h"
#include "log/snapshot.h"
#include "net/sign.h"

#include <lmdb.h>
#include <unistd.h>

/* ---- the log ---- */

static struct far_command a_command(struct far_buf *payload)
{
    struct far_command command = far_test_site_create(7, payload);
    command.flags = 0x00000102;
    golden_fill(command.id, 0x20, sizeof command.id);
    return command;
}

static void write_envelope(void)
{
    struct far_buf payload, out;
    far_buf_init(&payload, 4096);
    far_buf_init(&out, FAR_ENVELOPE_MAX);
    struct far_command command = a_command(&payload);
    assert_int_equal(far_envelope_begin(&out, NULL), 0);
    assert_int_equal(far_envelope_add(&out, &command, NULL), 0);
    command.payload.len = 0; /* a command without payload */
    command.kind = 1;
    assert_int_equal(far_envelope_add(&out, &command, NULL), 0);
    far_envelope_finish(&out, 0x0102030405060708, 0x1112131415161718);
    golden_put("envelope", far_buf_slice(&out));
    far_buf_done(&out);
    far_buf_done(&payload);
}

static struct far_event an_event(uint64_t seq)
{
    struct far_event event = {.seq = seq, .index = 0x0203040506070809, .kind = 11, .version = 3, .flags = 0x01020304,
                              .actor = 0x0400000000000002, .time_ms = 1700000000123,
                              .payload = far_slice_str("payload")};
    golden_fill(event.command_id, 0x30, sizeof event.command_id);
    return event;
}

static void write_signed_head(void)
{
    uint8_t message[FAR_HEAD_MESSAGE_MAX], private_key[32], signature[64];
    size_t len;
    struct far_sub_head_voter voters[2] = {{1, far_slice(golden_count_up(0x40, 32), 32)}, {7, far_slice(NULL, 0)}};
    struct far_list list = {.items = voters, .count = 2};
    assert_int_equal(far_head_message(far_slice(golden_count_up(0x10, 16), 16), 3, 1234, far_slice(golden_count_up(0x80, 32), 32),
                                      &list, message, &len, NULL), 0);
    golden_put("signed_head_message", far_slice(message, len));
    golden_fill(private_key, 0xa0, sizeof private_key);
    assert_int_equal(far_sign(private_key, far_slice(message, len), signature, NULL), 0);
    golden_put("signed_head_signature", far_slice(signature, sizeof signature));
}

static void write_backup_header(void)
{
    uint8_t bytes[FAR_BACKUP_HEADER];
    struct far_backup_header header = {.incarnation_epoch = 0x0102030405060708,
                                       .incarnation_tag = 0x1112131415161718,
                                       .server_id = 3,
                                       .made_ms = 4,
                                       .index = 5,
                                       .last_seq = 6};
    golden_fill(header.cluster_uuid, 0x40, 16);
    far_backup_header_encode(&header, bytes);
    golden_put("backup_header", far_slice(bytes, sizeof bytes));
}

static void write_wal(void)
{
    uint8_t header[FAR_WAL_HEADER_BYTES], record[FAR_WAL_RECORD_HEADER_BYTES], vote[FAR_WAL_VOTE_BYTES];
    struct far_wal_header head = {.number = 0x0102030405060708, .first_ordinal = 0x1112131415161718,
                                  .salt = 0x21222324};
    far_wal_header_encode(header, &head);
    golden_put("wal_header", far_slice(header, sizeof header));
    struct far_buf payload;
    far_buf_init(&payload, 4096);
    const struct far_wal_item items[] = {
        {.index = 5, .term = 2, .type = 1, .data = far_slice(golden_count_up(1, 13), 13)},
        {.index = 6, .term = 2, .type = 2, .data = far_slice(golden_count_up(9, 8), 8)},
        {.index = 0x0102030405060708, .term = 3, .type = FAR_WAL_TYPE_RESET}};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(far_wal_item_encode(&payload, &items[i]), 0);
    }
    far_wal_record_header(record, 0x3132333435363738, 3, head.salt, far_buf_slice(&payload));
    golden_put("wal_record", far_slice(record, sizeof record));
    golden_put("wal_entries", far_buf_slice(&payload));
    far_wal_vote_encode(vote, 0x0102030405060708, 0x1112131415161718, 0x2122232425262728);
    golden_put("wal_vote", far_slice(vote, sizeof vote));
    far_buf_done(&payload);
}

/* ---- the store, and what another server gets of it ---- */

static void fill_store(struct far_store *store)
{
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    struct far_state state = {.kv = far_store_kv(txn)};
    for (uint64_t id = 3; id <= 4; id++) {
        struct far_row_site row = {.id = id, .name = far_slice_str(id == 3 ? "near" : "far"), .role = id - 2,
                                   .created_ms = 99};
        struct far_key key = far_key(&far_schema_row_site);
        far_key_u64(&key, id);
        assert_int_equal(far_state_put(&state, &far_schema_row_site, &key, &row, NULL), 0);
    }
    for (uint64_t seq = 1; seq <= 2; seq++) {
        struct far_event event = an_event(seq);
        assert_int_equal(far_store_event_append(txn, &event, NULL), 0);
    }
    struct far_store_meta *meta = far_store_meta(txn);
    meta->applied_index = 0x0102030405060708;
    meta->applied_term = 0x1112131415161718;
    meta->digest = state.digest;
    meta->stored_index = 0x2122232425262728;
    meta->stored_term = 0x3132333435363738;
    meta->installed_index = 0x4142434445464748;
    meta->configuration_index = 0x0102030405060707;
    meta->configuration_len = 16;
    golden_fill(meta->configuration, 0x50, 16);
    assert_int_equal(far_store_commit(txn, NULL), 0);
}

static void write_snapshot(struct far_store *store)
{
    struct far_buf out;
    struct far_dump dump = {0};
    far_buf_init(&out, FAR_SNAPSHOT_PIECE_MAX);
    assert_int_equal(far_dump_begin(store, &dump, NULL), 0);
    assert_int_equal(far_manifest_encode(&dump.manifest, &out, NULL), 0);
    golden_put("snapshot_manifest", far_buf_slice(&out));
    far_buf_reset(&out);
    assert_int_equal(far_dump_next(&dump, &out, NULL), 0);
    golden_put("snapshot_piece", far_buf_slice(&out));
    far_buf_reset(&out);
    assert_int_equal(far_history_encode(dump.txn, 1, 2, 4096, &out, NULL), 0);
    golden_put("history", far_buf_slice(&out));
    far_dump_end(&dump);
    far_buf_done(&out);
}

/* Every pair of a database of the closed store, as LMDB itself has it. */
static void write_database(MDB_txn *txn, const char *name)
{
    MDB_dbi dbi;
    MDB_cursor *cursor;
    MDB_val key, value;
    char label[32];
    assert_int_equal(mdb_dbi_open(txn, name, 0, &dbi), 0);
    assert_int_equal(mdb_cursor_open(txn, dbi, &cursor), 0);
    for (int i = 0; mdb_cursor_get(cursor, &key, &value, i == 0 ? MDB_FIRST : MDB_NEXT) == 0; i++) {
        snprintf(label, sizeof label, "lmdb_%s_key", name);
        golden_put(label, far_slice(key.mv_data, key.mv_size));
        snprintf(label, sizeof label, "lmdb_%s_value", name);
        golden_put(label, far_slice(value.mv_data, value.mv_size));
    }
    mdb_cursor_close(cursor);
}

/* Two events of a kind that may be compacted, and the first one is. */
static void fill_compacted(struct far_store *store)
{
    struct far_store_txn *txn;
    bool changed = false;
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    for (uint64_t seq = 1; seq <= 2; seq++) {
        struct far_event event = an_event(seq);
        event.kind = FAR_KIND_ev_node_reported;
        event.payload = far_slice(golden_count_up(1, 40), 40);
        assert_int_equal(far_store_event_append(txn, &event, NULL), 0);
    }
    assert_int_equal(far_store_event_compact(txn, 1, &changed, NULL), 0);
    assert_true(changed);
    far_store_meta(txn)->compacted_seq = 1;
    assert_int_equal(far_store_commit(txn, NULL), 0);
}

/* Two stretches of events from before an installed state. */
static void fill_older(struct far_store *store)
{
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    struct far_store_meta *meta = far_store_meta(txn);
    meta->last_seq = 40;
    meta->first_seq = 41;
    meta->older_count = 2;
    for (uint64_t i = 0; i < 2; i++) {
        meta->older[i] = (struct far_stretch){.first_seq = 10 * i + 1, .last_seq = 10 * i + 5, .compacted_seq = i};
        golden_fill(meta->older[i].base_head, (uint8_t)(0x40 * i), FAR_HEAD_SIZE);
        golden_fill(meta->older[i].head, (uint8_t)(0x40 * i + 0x20), FAR_HEAD_SIZE);
    }
    assert_int_equal(far_store_commit(txn, NULL), 0);
}

static void write_store_of(void (*fill)(struct far_store *store), const char *const *databases, int count)
{
    char folder[256], path[300];
    struct far_store *store;
    MDB_env *env;
    MDB_txn *txn;
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/far-golden-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(folder));
    assert_int_equal(far_store_open_lmdb(folder, (size_t)1 << 26, false, &store, NULL), 0);
    fill(store);
    if (fill == fill_store) {
        write_snapshot(store);
    }
    far_store_close(store);
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_open(env, folder, MDB_RDONLY, 0), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
    for (int i = 0; i < count; i++) {
        write_database(txn, databases[i]);
    }
    mdb_txn_abort(txn);
    mdb_env_close(env);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, i == 0 ? "data.mdb" : "lock.mdb");
        unlink(path);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void write_store(void)
{
    static const char *const databases[] = {"meta", "events", "state0", "state1"};
    write_store_of(fill_store, databases, 4);
}

/* ---- between servers ---- */

static void put_message(const char *name, const struct raft_message *message,
                        const struct far_raft_codec_entry *entries)
{
    struct far_buf out;
    far_buf_init(&out, FAR_RAFT_MESSAGE_MAX);
    assert_int_equal(far_raft_message_encode(message, entries, &out, NULL), 0);
    golden_put(name, far_buf_slice(&out));
    far_buf_done(&out);
}

static void write_raft_entries(void)
{
    const struct far_raft_codec_entry entries[] = {
        {.term = 8, .type = 1, .data = far_slice(golden_count_up(1, 16), 16)},
        {.term = 9, .type = 2, .data = far_slice(golden_count_up(7, 8), 8)}};
    struct raft_message append = {.type = RAFT_APPEND_ENTRIES};
    append.append_entries = (struct raft_append_entries){
        .term = 9, .prev_log_index = 0x0102030405060708, .prev_log_term = 7, .leader_commit = 0x1112131415161718,
        .n_entries = 2};
    put_message("raft_append_entries", &append, entries);
    struct raft_message result = {.type = RAFT_APPEND_ENTRIES_RESULT};
    result.append_entries_result = (struct raft_append_entries_result){
        .term = 9, .rejected = 0x0102030405060708, .last_log_index = 0x1112131415161718, .features = 0x0102,
        .capacity = 0x0304};
    put_message("raft_append_entries_result", &result, NULL);
    char one[] = "127.0.0.1:5001", two[] = "s2.example:5001";
    struct raft_server servers[] = {{.id = 1, .address = one, .role = RAFT_VOTER},
                                    {.id = 7, .address = two, .role = RAFT_STANDBY}};
    struct raft_message install = {.type = RAFT_INSTALL_SNAPSHOT};
    install.install_snapshot.term = 9;
    install.install_snapshot.last_index = 0x0102030405060708;
    install.install_snapshot.last_term = 8;
    install.install_snapshot.conf_index = 0x1112131415161718;
    install.install_snapshot.conf.servers = servers;
    install.install_snapshot.conf.n = 2;
    install.install_snapshot.data = (struct raft_buffer){.base = (void *)(uintptr_t)golden_count_up(1, 24), .len = 24};
    put_message("raft_install_snapshot", &install, NULL);
}

static void write_raft_votes(void)
{
    struct raft_message vote = {.type = RAFT_REQUEST_VOTE};
    vote.request_vote = (struct raft_request_vote){.term = 9, .candidate_id = 7, .last_log_index = 0x0102030405060708,
                                                   .last_log_term = 8, .disrupt_leader = true, .pre_vote = false};
    put_message("raft_request_vote", &vote, NULL);
    struct raft_message result = {.type = RAFT_REQUEST_VOTE_RESULT};
    result.request_vote_result = (struct raft_request_vote_result){
        .term = 9, .vote_granted = true, .pre_vote = false, .features = 0x0102, .capacity = 0x0304};
    put_message("raft_request_vote_result", &result, NULL);
    struct raft_message now = {.type = RAFT_TIMEOUT_NOW};
    now.timeout_now = (struct raft_timeout_now){.term = 9, .last_log_index = 0x0102030405060708, .last_log_term = 8};
    put_message("raft_timeout_now", &now, NULL);
}

static void write_frames(void)
{
    struct far_buf payload, out;
    far_buf_init(&payload, 4096);
    far_buf_init(&out, FAR_ENVELOPE_MAX);
    struct far_forward forward = {.request = 0x0102030405060708, .timeout_ms = 30000, .command = a_command(&payload)};
    assert_int_equal(far_forward_encode(&forward, &out), 0);
    golden_put("forward_command", far_buf_slice(&out));
    far_buf_reset(&out);
    forward.is_barrier = true;
    assert_int_equal(far_forward_encode(&forward, &out), 0);
    golden_put("forward_barrier", far_buf_slice(&out));
    far_buf_reset(&out);
    struct far_answer answer = {.request = 5, .applied_index = 0x0102030405060708,
                                .result = {.klass = FAR_CONFLICT, .repeated = true, .object_id = 77, .seq_first = 8,
                                           .seq_last = 9, .message = "no"}};
    assert_int_equal(far_answer_encode(&answer, &out), 0);
    golden_put("answer", far_buf_slice(&out));
    far_buf_reset(&out);
    struct far_marks marks = {.wall_ms = 1700000000123, .count = 1};
    marks.marks[0] = (struct far_mark){.index = 0x0102030405060708, .last_seq = 6, .digest = {.low = 7, .high = 8}};
    golden_fill(marks.marks[0].head, 0x60, FAR_HEAD_SIZE);
    assert_int_equal(far_marks_encode(&marks, &out), 0);
    golden_put("marks", far_buf_slice(&out));
    far_buf_reset(&out);
    struct far_about about = {.wall_ms = 1700000000123, .feature_level = 2, .applied_index = 0x0102030405060708,
                              .durable_index = 5, .first_seq = 6, .last_seq = 7, .digest_index = 8,
                              .digest = {.low = 9, .high = 10}, .free_bytes = 11, .is_safe = true, .safe_index = 12,
                              .safe_hash = 13, .skip_index = 14, .skip_hash = 15, .oldest_seq = 16, .version = "0.1.0"};
    assert_int_equal(far_about_encode(&about, &out), 0);
    golden_put("about", far_buf_slice(&out));
    far_buf_done(&out);
    far_buf_done(&payload);
}

void golden_write_log_formats(void)
{
    write_envelope();
    write_signed_head();
    write_wal();
    write_store();
    write_raft_entries();
    write_raft_votes();
    write_frames();
    write_backup_header();
    write_store_of(fill_compacted, (const char *const[]){"meta", "events"}, 2);
    write_store_of(fill_older, (const char *const[]){"meta"}, 1);
}
