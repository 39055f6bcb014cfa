/* A backup of a store: what it gives back, and that no changed or missing byte of it is taken. */
#include "log/backup.h"
#include "../lib/cm.h"
#include "../lib/entries.h"
#include "log/apply.h"

#include <stdlib.h>
#include <unistd.h>

enum { SITES = 40 };

static char dir[64], path[128];
static struct far_store *store;
static struct far_store_meta meta; /* of the store */

static void apply(const struct far_command *command, uint64_t index)
{
    struct far_buf entry;
    struct far_store_txn *txn;
    far_buf_init(&entry, FAR_ENVELOPE_MAX);
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    assert_int_equal(far_apply_commands(txn, index, 3, far_test_entry(command, index, 3, &entry), NULL, NULL, NULL), 0);
    assert_int_equal(far_store_commit(txn, NULL), 0);
    far_buf_done(&entry);
}

static int setup(void **state)
{
    struct far_buf payload;
    struct far_store_txn *txn;
    strcpy(dir, "/tmp/far-backup-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/b", dir);
    far_buf_init(&payload, 64 * 1024);
    assert_int_equal(far_store_open_memory(&store, NULL), 0);
    struct far_command command = far_test_cluster_init(&payload);
    apply(&command, 1);
    for (uint64_t i = 0; i < SITES; i++) {
        command = far_test_site_create(i, &payload);
        apply(&command, 2 + i);
    }
    far_buf_done(&payload);
    assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
    meta = *far_store_meta(txn);
    far_store_abort(txn);
    return 0;
}

static int teardown(void **state)
{
    char command[128];
    far_store_close(store);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
    return 0;
}

static void make(uint64_t events_max)
{
    struct far_backup_header identity = {.incarnation_epoch = 2, .incarnation_tag = 7, .server_id = 1, .made_ms = 5};
    struct far_error err = {0};
    if (far_store_backup(store, path, events_max, &identity, &err) != 0) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(identity.index, meta.applied_index);
}

static int identify(void *arg, struct far_log_view *view, struct far_error *err)
{
    *(struct far_log_view *)arg = *view;
    return 0;
}

static struct far_log_view restore(struct far_error *err, int *ret_rc)
{
    char folder[160], state[512];
    struct far_log_view view = {.last_seq = 0};
    struct far_log_ending ending;
    snprintf(folder, sizeof folder, "%s/new", dir);
    snprintf(state, sizeof state, "rm -rf '%s'; mkdir '%s'", folder, folder);
    assert_int_equal(system(state), 0);
    struct far_log_config config = {.dir = folder, .server_id = 9, .address = "new:1", .map_bytes = 64 << 20};
    *ret_rc = far_log_restore(&config, path, identify, &view, &ending, err);
    if (*ret_rc == 0) {
        assert_int_equal(ending.end.term, 3 + FAR_RAFT_RECOVERY_TERMS);
        assert_memory_equal(ending.parent_head, meta.head, 32);
    }
    return view;
}

static void state_events_and_digest_come_back(void **unused)
{
    struct far_error err = {0};
    struct far_backup_header header;
    int rc;
    make(UINT64_MAX);
    assert_int_equal(far_backup_verify(path, &header, &err), 0);
    assert_int_equal(header.incarnation_epoch, 2);
    assert_int_equal(header.last_seq, meta.last_seq);
    struct far_log_view view = restore(&err, &rc);
    assert_int_equal(rc, 0);
    assert_int_equal(view.applied_index, meta.applied_index);
    assert_int_equal(view.last_seq, meta.last_seq);
    assert_int_equal(view.first_seq, 1);
    assert_true(far_hash128_equal(view.digest, meta.digest));
    assert_memory_equal(view.head, meta.head, 32);
}

static void only_the_newest_events_if_so_wanted(void **unused)
{
    struct far_error err = {0};
    int rc;
    make(10);
    struct far_log_view view = restore(&err, &rc);
    assert_int_equal(rc, 0);
    assert_int_equal(view.last_seq, meta.last_seq);
    assert_int_equal(view.first_seq, meta.last_seq - 9);
    assert_true(far_hash128_equal(view.digest, meta.digest));
}

static void the_log_of_a_restored_one_ends_where_the_backup_did(void **unused)
{
    struct far_error err = {0};
    struct far_log_offline *log;
    struct far_log_ending ending;
    char folder[128];
    int rc;
    make(UINT64_MAX);
    restore(&err, &rc);
    assert_int_equal(rc, 0);
    snprintf(folder, sizeof folder, "%s/new", dir);
    struct far_log_config config = {.dir = folder, .server_id = 9, .address = "new:1", .map_bytes = 64 << 20};
    assert_int_equal(far_log_offline_open(&config, &log, &err), 0);
    assert_int_equal(far_log_offline_ending(log, &ending, &err), 0);
    assert_int_equal(ending.end.last_index, meta.applied_index);
    assert_int_equal(ending.end.last_term, meta.applied_term);
    assert_int_equal(ending.parent_seq, meta.last_seq);
    far_log_offline_close(log);
}

static void rewrite(const uint8_t *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void any_changed_byte_or_length_is_found(void **unused)
{
    struct far_backup_header header;
    make(UINT64_MAX);
    FILE *file = fopen(path, "rb");
    static uint8_t bytes[1 << 20];
    size_t len = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert_true(len > 1000 && len < sizeof bytes - 1);
    for (size_t at = 0; at < len; at += at < 400 || at > len - 100 ? 1 : 37) {
        bytes[at] ^= 0x10;
        rewrite(bytes, len);
        int rc = far_backup_verify(path, &header, NULL);
        assert_true(rc == FAR_CORRUPT || rc == FAR_INVALID);
        bytes[at] ^= 0x10;
    }
    for (size_t cut = 0; cut < len; cut += cut < 400 || cut > len - 100 ? 1 : 97) {
        rewrite(bytes, cut);
        assert_int_equal(far_backup_verify(path, &header, NULL), FAR_CORRUPT);
    }
    rewrite(bytes, len + 1);
    assert_int_equal(far_backup_verify(path, &header, NULL), FAR_CORRUPT);
    rewrite(bytes, len);
    assert_int_equal(far_backup_verify(path, &header, NULL), 0);
}

static void one_that_cannot_be_written_leaves_nothing(void **unused)
{
    struct far_backup_header identity = {.server_id = 1};
    struct far_error err = {0};
    char missing[160];
    snprintf(missing, sizeof missing, "%s/none/b", dir);
    assert_int_equal(far_store_backup(store, missing, 10, &identity, &err), FAR_IO);
    assert_non_null(strstr(err.message, missing));
    assert_int_not_equal(access(path, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(state_events_and_digest_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(only_the_newest_events_if_so_wanted, setup, teardown),
        cmocka_unit_test_setup_teardown(the_log_of_a_restored_one_ends_where_the_backup_did, setup, teardown),
        cmocka_unit_test_setup_teardown(any_changed_byte_or_length_is_found, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_cannot_be_written_leaves_nothing, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
