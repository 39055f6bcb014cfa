/* Snapshots: what one store holds, another holds after dump, install and history; nothing half-done or damaged counts. */
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "log/apply.h"
#include "log/snapshot.h"

enum { ENTRIES = 3000 };

static struct far_store *source;
static struct far_buf payload, entry, manifest_bytes;

static void apply_one(struct far_store_txn *txn, uint64_t index)
{
    struct far_command command = index == 1 ? far_test_cluster_init(&payload) : far_test_site_create(index, &payload);
    struct far_slice bytes = far_test_entry(&command, index, 1, &entry);
    assert_int_equal(far_apply_commands(txn, index, 1, bytes, NULL, NULL, NULL), 0);
}

static int setup(void **state)
{
    (void)state;
    struct far_store_txn *txn;
    far_buf_init(&payload, 64 * 1024);
    far_buf_init(&entry, FAR_ENVELOPE_MAX);
    far_buf_init(&manifest_bytes, FAR_MANIFEST_MAX);
    assert_int_equal(far_store_open_memory(&source, NULL), 0);
    assert_int_equal(far_store_begin(source, true, &txn, NULL), 0);
    for (uint64_t index = 1; index <= ENTRIES; index++) {
        apply_one(txn, index);
    }
    assert_int_equal(far_apply_configuration(txn, ENTRIES + 1, 1, far_slice_str("configuration"), NULL), 0);
    assert_int_equal(far_store_commit(txn, NULL), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    far_store_close(source);
    far_buf_done(&payload);
    far_buf_done(&entry);
    far_buf_done(&manifest_bytes);
    return 0;
}

/* Dump the source into the sink's second set; returns the pieces. */
static unsigned fill(struct far_install *install, struct far_manifest *ret_manifest)
{
    struct far_dump dump;
    unsigned pieces = 0;
    assert_int_equal(far_dump_begin(source, &dump, NULL), 0);
    far_buf_reset(&manifest_bytes);
    assert_int_equal(far_manifest_encode(&dump.manifest, &manifest_bytes, NULL), 0);
    assert_int_equal(far_manifest_decode(far_buf_slice(&manifest_bytes), ret_manifest, NULL), 0);
    while (!dump.ended) {
        struct far_buf piece;
        far_buf_init(&piece, FAR_SNAPSHOT_PIECE_MAX);
        assert_int_equal(far_dump_next(&dump, &piece, NULL), 0);
        assert_int_equal(far_install_piece(install, far_buf_slice(&piece), NULL), 0);
        far_buf_done(&piece);
        pieces++;
    }
    far_dump_end(&dump);
    return pieces;
}

static void read_meta(struct far_store *store, struct far_store_meta *ret_meta)
{
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
    const struct far_store_meta *meta = far_store_meta(txn);
    memset(ret_meta, 0, sizeof *ret_meta); /* of the configuration only what is used has a value */
    memcpy(ret_meta, meta, offsetof(struct far_store_meta, configuration) + meta->configuration_len);
    far_store_abort(txn);
}

static void fetch_history(struct far_store *sink)
{
    struct far_store_txn *from, *to;
    assert_int_equal(far_store_begin(source, false, &from, NULL), 0);
    for (uint64_t first = far_store_meta(from)->last_seq + 1; first > 1;) {
        struct far_buf batch;
        far_buf_init(&batch, 64 * 1024);
        assert_int_equal(far_history_encode(from, 1, first - 1, 64 * 1024, &batch, NULL), 0);
        assert_int_equal(far_store_begin(sink, true, &to, NULL), 0);
        assert_int_equal(far_history_apply(to, far_buf_slice(&batch), NULL), 0);
        first = far_store_meta(to)->first_seq;
        assert_int_equal(far_store_commit(to, NULL), 0);
        far_buf_done(&batch);
    }
    far_store_abort(from);
}

static void a_dump_installed_equals_its_source_and_goes_on(void **state)
{
    (void)state;
    struct far_store *sink;
    struct far_install install;
    struct far_manifest manifest;
    struct far_store_meta a, b;
    assert_int_equal(far_store_open_memory(&sink, NULL), 0);
    assert_int_equal(far_install_begin(sink, &install, NULL), 0);
    assert_true(fill(&install, &manifest) > 1);
    assert_int_equal(far_install_finish(&install, &manifest, NULL), 0);
    read_meta(source, &a);
    read_meta(sink, &b);
    assert_int_equal(b.applied_index, ENTRIES + 1);
    assert_true(far_hash128_equal(a.digest, b.digest));
    assert_memory_equal(a.head, b.head, FAR_HEAD_SIZE);
    assert_int_equal(b.configuration_len, strlen("configuration"));
    assert_int_equal(b.first_seq, b.last_seq + 1);
    assert_int_equal(far_store_durable_index(sink), ENTRIES + 1);
    fetch_history(sink);
    read_meta(sink, &b);
    assert_int_equal(b.first_seq, 1);
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(sink, true, &txn, NULL), 0);
    apply_one(txn, ENTRIES + 2);
    assert_true(far_store_meta(txn)->last_seq > a.last_seq);
    far_store_abort(txn);
    far_store_close(sink);
}

/* What the sink had before the state came stays, and the events between lead to it. */
static void own_events_outlive_an_installation(void **state)
{
    (void)state;
    enum { OWN = 1000 };
    struct far_store *sink;
    struct far_install install;
    struct far_manifest manifest;
    struct far_store_meta meta;
    struct far_store_txn *txn, *from;
    assert_int_equal(far_store_open_memory(&sink, NULL), 0);
    assert_int_equal(far_store_begin(sink, true, &txn, NULL), 0);
    for (uint64_t index = 1; index <= OWN; index++) {
        apply_one(txn, index);
    }
    uint64_t own_seq = far_store_meta(txn)->last_seq;
    assert_int_equal(far_store_commit(txn, NULL), 0);
    assert_int_equal(far_install_begin(sink, &install, NULL), 0);
    fill(&install, &manifest);
    assert_int_equal(far_install_finish(&install, &manifest, NULL), 0);
    read_meta(sink, &meta);
    assert_int_equal(meta.older_count, 1);
    assert_int_equal(meta.older[0].last_seq, own_seq);
    assert_int_equal(far_store_begin(source, false, &from, NULL), 0);
    while (meta.first_seq > own_seq + 1) { /* nothing older is asked for */
        struct far_buf batch;
        far_buf_init(&batch, 64 * 1024);
        assert_int_equal(far_history_encode(from, own_seq + 1, meta.first_seq - 1, 64 * 1024, &batch, NULL), 0);
        assert_int_equal(far_store_begin(sink, true, &txn, NULL), 0);
        assert_int_equal(far_history_apply(txn, far_buf_slice(&batch), NULL), 0);
        assert_int_equal(far_store_commit(txn, NULL), 0);
        far_buf_done(&batch);
        read_meta(sink, &meta);
    }
    assert_int_equal(meta.first_seq, 1);
    assert_int_equal(meta.older_count, 0);
    assert_int_equal(far_store_begin(sink, false, &txn, NULL), 0);
    for (uint64_t seq = 1; seq <= meta.last_seq; seq++) {
        struct far_event event;
        uint8_t head[FAR_HEAD_SIZE], theirs[FAR_HEAD_SIZE];
        assert_int_equal(far_store_event_get(txn, seq, &event, head, NULL), 0);
        assert_int_equal(far_store_event_get(from, seq, &event, theirs, NULL), 0);
        assert_memory_equal(head, theirs, FAR_HEAD_SIZE);
    }
    far_store_abort(txn);
    far_store_abort(from);
    far_store_close(sink);
}

static void a_missing_or_damaged_piece_or_another_digest_is_refused(void **state)
{
    (void)state;
    struct far_store *sink;
    struct far_install install;
    struct far_manifest manifest;
    struct far_store_meta before, after;
    struct far_dump dump;
    struct far_buf piece;
    assert_int_equal(far_store_open_memory(&sink, NULL), 0);
    read_meta(sink, &before);
    assert_int_equal(far_install_begin(sink, &install, NULL), 0);
    far_buf_init(&piece, FAR_SNAPSHOT_PIECE_MAX);
    assert_int_equal(far_dump_begin(source, &dump, NULL), 0);
    assert_int_equal(far_dump_next(&dump, &piece, NULL), 0);
    piece.data[piece.len / 2] ^= 1;
    assert_int_equal(far_install_piece(&install, far_buf_slice(&piece), NULL), FAR_CORRUPT);
    piece.data[piece.len / 2] ^= 1;
    assert_int_equal(far_install_piece(&install, far_buf_slice(&piece), NULL), 0);
    assert_int_equal(far_install_piece(&install, far_buf_slice(&piece), NULL), FAR_CORRUPT); /* twice */
    assert_int_equal(far_install_finish(&install, &dump.manifest, NULL), FAR_CORRUPT);       /* not the last */
    far_dump_end(&dump);
    assert_int_equal(far_install_begin(sink, &install, NULL), 0);
    fill(&install, &manifest);
    manifest.digest.low++;
    assert_int_equal(far_install_finish(&install, &manifest, NULL), FAR_CORRUPT);
    read_meta(sink, &after);
    assert_memory_equal(&before, &after, sizeof before);
    far_buf_done(&piece);
    far_store_close(sink);
}

static void a_damaged_manifest_is_refused(void **state)
{
    (void)state;
    struct far_dump dump;
    struct far_manifest manifest;
    far_buf_reset(&manifest_bytes);
    assert_int_equal(far_dump_begin(source, &dump, NULL), 0);
    assert_int_equal(far_manifest_encode(&dump.manifest, &manifest_bytes, NULL), 0);
    far_dump_end(&dump);
    for (size_t i = 0; i < manifest_bytes.len; i++) {
        manifest_bytes.data[i] ^= 4;
        assert_int_equal(far_manifest_decode(far_buf_slice(&manifest_bytes), &manifest, NULL), FAR_CORRUPT);
        manifest_bytes.data[i] ^= 4;
        assert_int_equal(far_manifest_decode(far_slice(manifest_bytes.data, i), &manifest, NULL), FAR_CORRUPT);
    }
}

static void history_of_another_chain_is_refused(void **state)
{
    (void)state;
    struct far_store *sink;
    struct far_store_txn *from, *to;
    struct far_buf batch;
    far_buf_init(&batch, 64 * 1024);
    assert_int_equal(far_store_open_memory(&sink, NULL), 0);
    assert_int_equal(far_store_begin(source, false, &from, NULL), 0);
    assert_int_equal(far_history_encode(from, 1, 100, 64 * 1024, &batch, NULL), 0);
    assert_int_equal(far_store_begin(sink, true, &to, NULL), 0);
    far_store_meta(to)->first_seq = 101;
    far_store_meta(to)->last_seq = 100;
    memset(far_store_meta(to)->base_head, 7, FAR_HEAD_SIZE);
    assert_int_equal(far_history_apply(to, far_buf_slice(&batch), NULL), FAR_CORRUPT);
    far_store_abort(to);
    far_store_abort(from);
    far_buf_done(&batch);
    far_store_close(sink);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dump_installed_equals_its_source_and_goes_on),
        cmocka_unit_test(own_events_outlive_an_installation),
        cmocka_unit_test(a_missing_or_damaged_piece_or_another_digest_is_refused),
        cmocka_unit_test(a_damaged_manifest_is_refused),
        cmocka_unit_test(history_of_another_chain_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
