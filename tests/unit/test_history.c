/* The history: the state of every moment is what the fold of the events gives, row by row, from any epoch on. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "../lib/remove_tree.h"
#include "fsm/kv_memory.h"
#include "log/apply.h"
#include "log/export.h"
#include "log/history.h"
#include "log/replay.h"

#include <sys/wait.h>
#include <unistd.h>

enum { ENTRIES = 260, EPOCH = 16, EVENTS_MAX = 4000 };

static char dir[256], state_dir[300], path_a[300], path_b[300];
static struct far_store *store;
static struct far_buf payload, entry;
static unsigned seed;
static struct far_hash128 digests[EVENTS_MAX]; /* of the fold, behind each event */
static uint64_t times[EVENTS_MAX], last_seq;

/* ---- a log ---- */

static void add(const struct far_command *command)
{
    assert_int_equal(far_envelope_add(&entry, command, NULL), 0);
}

static void add_random(uint64_t index)
{
    char name[32];
    snprintf(name, sizeof name, "s%u", (unsigned)rand_r(&seed) % 24);
    uint8_t hash[32];
    memset(hash, rand_r(&seed) & 0xff, sizeof hash);
    struct far_cmd_site_create create = {.name = far_slice_str(name), .role = 1 + (unsigned)rand_r(&seed) % 3};
    struct far_cmd_site_remove remove = {.name = far_slice_str(name)};
    struct far_cmd_token_create token = {.name = far_slice_str(name), .purpose = FAR_token_purpose_api, .hash = far_slice(hash, 32)};
    uint64_t number = 10 * index + (uint64_t)(rand_r(&seed) % 3);
    struct far_command command;
    switch (rand_r(&seed) % 3) {
    case 0:
        command = far_test_command(&far_schema_cmd_site_create, &create, number, &payload);
        break;
    case 1:
        command = far_test_command(&far_schema_cmd_site_remove, &remove, number, &payload);
        break;
    default:
        command = far_test_command(&far_schema_cmd_token_create, &token, number, &payload);
    }
    add(&command);
}

static void apply_entry(uint64_t index)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    far_buf_reset(&entry);
    assert_int_equal(far_envelope_begin(&entry, NULL), 0);
    if (index == 1) {
        struct far_command init = far_test_cluster_init(&payload);
        add(&init);
    } else {
        for (int i = 1 + rand_r(&seed) % 4; i > 0; i--) {
            add_random(index);
        }
    }
    far_envelope_finish(&entry, index, 1);
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    if (far_apply_commands(txn, index, 1, far_buf_slice(&entry), NULL, NULL, &err) != 0) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(far_store_commit(txn, NULL), 0);
}

static struct far_store_txn *read_store(void)
{
    struct far_store_txn *txn;
    assert_int_equal(far_store_begin(store, false, &txn, NULL), 0);
    return txn;
}

/* Another way to the same: from the first event, in memory. */
static void fold_all(void)
{
    struct far_store_txn *txn = read_store();
    struct far_state fold = {.kv = far_kv_memory_new()};
    struct far_event event;
    struct far_error err;
    last_seq = far_store_meta(txn)->last_seq;
    assert_true(last_seq < EVENTS_MAX && last_seq > 10 * EPOCH);
    for (uint64_t seq = 1; seq <= last_seq; seq++) {
        uint64_t pairs;
        assert_int_equal(far_store_event_get(txn, seq, &event, NULL, &err), 0);
        assert_int_equal(far_fsm_evolve(&fold, &event, &err), 0);
        assert_int_equal(far_state_digest_walk(fold.kv, &digests[seq], &pairs, &err), 0);
        times[seq] = event.time_ms;
    }
    far_kv_memory_free(fold.kv);
    far_store_abort(txn);
}

static struct far_past *open_past(struct far_store_txn *txn, enum far_moment_kind kind, uint64_t value)
{
    struct far_moment moment = {kind, value};
    struct far_past *past = NULL;
    struct far_error err = {0};
    if (far_past_open(txn, &moment, &past, &err) != 0) {
        fail_msg("moment %llu: %s", (unsigned long long)value, err.message);
    }
    return past;
}

/* ---- tests ---- */

static void every_moment_is_what_the_events_fold_to(void **unused)
{
    struct far_store_txn *txn = read_store();
    uint64_t folded = 0;
    for (uint64_t seq = 0; seq <= last_seq; seq++) {
        struct far_past *past = open_past(txn, FAR_MOMENT_SEQ, seq);
        struct far_hash128 walked;
        struct far_event event;
        uint8_t head[32] = {0};
        uint64_t pairs;
        assert_int_equal(far_state_digest_walk(past->state.kv, &walked, &pairs, NULL), 0);
        assert_true(far_hash128_equal(walked, digests[seq]));
        assert_true(far_hash128_equal(past->state.digest, digests[seq]));
        assert_int_equal(seq == 0 ? 0 : far_store_event_get(txn, seq, &event, head, NULL), 0);
        assert_memory_equal(past->head, head, 32);
        assert_int_equal(past->seq, seq);
        folded = past->folded > folded ? past->folded : folded;
        far_past_close(past);
    }
    print_message("# %llu events, at most %llu folded\n", (unsigned long long)last_seq, (unsigned long long)folded);
    assert_true(folded < EPOCH + 32);
    far_store_abort(txn);
}

static void walking_backward_meets_the_same_rows(void **unused)
{
    struct far_store_txn *txn = read_store();
    for (uint64_t seq = 1; seq <= last_seq; seq += 37) {
        struct far_past *past = open_past(txn, FAR_MOMENT_SEQ, seq);
        struct far_kv *kv = past->state.kv;
        struct far_slice key, value;
        uint8_t at[FAR_KV_KEY_MAX + 1] = {0xff};
        size_t len = 1, back = 0, pairs_walked = 0;
        while (kv->ops->seek_before(kv, far_slice(at, len), &key, &value, NULL) == 0) {
            struct far_slice found, got;
            assert_int_equal(kv->ops->seek(kv, key, &found, &got, NULL), 0);
            assert_true(far_slice_equal(got, value));
            memcpy(at, key.data, key.len);
            len = key.len;
            back++;
        }
        struct far_hash128 walked;
        uint64_t pairs;
        assert_int_equal(far_state_digest_walk(kv, &walked, &pairs, NULL), 0);
        pairs_walked = pairs;
        assert_int_equal(back, pairs_walked);
        far_past_close(past);
    }
    far_store_abort(txn);
}

static void a_time_is_the_last_event_that_is_not_later(void **unused)
{
    struct far_store_txn *txn = read_store();
    for (uint64_t seq = 1; seq <= last_seq; seq += 11) {
        uint64_t last = seq;
        while (last < last_seq && times[last + 1] == times[seq]) {
            last++;
        }
        struct far_past *past = open_past(txn, FAR_MOMENT_TIME, times[seq]);
        assert_int_equal(past->seq, last);
        far_past_close(past);
    }
    struct far_past *before = open_past(txn, FAR_MOMENT_TIME, 1), *after = open_past(txn, FAR_MOMENT_TIME, UINT64_MAX);
    assert_int_equal(before->seq, 0);
    assert_int_equal(after->seq, last_seq);
    far_past_close(before);
    far_past_close(after);
    struct far_moment coming = {FAR_MOMENT_SEQ, last_seq + 1};
    assert_int_equal(far_past_open(txn, &coming, &before, NULL), FAR_NOT_FOUND);
    far_store_abort(txn);
}

static void the_stretches_in_which_a_row_changed_are_known(void **unused)
{
    struct far_store_txn *txn = read_store();
    const uint8_t progress = FAR_KIND_row_progress; /* changes with every event */
    uint64_t from = last_seq + 1, to = last_seq, next_to = last_seq;
    while (far_history_changed(txn, far_slice(&progress, 1), from, &from, &to, NULL) == 0) {
        assert_int_equal(to, next_to);
        assert_true(from <= to);
        next_to = from - 1;
    }
    assert_int_equal(next_to, 0);
    far_store_abort(txn);
}

static void a_changed_byte_of_an_event_is_not_folded(void **unused)
{
    struct far_store_txn *txn;
    struct far_event event;
    uint8_t head[32];
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    struct far_epoch epoch; /* its second event */
    assert_int_equal(far_epoch_before(txn, last_seq / 2, &epoch, NULL), 0);
    assert_int_equal(far_store_event_get(txn, epoch.seq + 2, &event, head, NULL), 0);
    struct far_buf row;
    far_buf_init(&row, FAR_EVENT_ROW_MAX);
    event.time_ms++; /* a good row of another event */
    assert_int_equal(far_event_row_encode(&event, head, &row, NULL), 0);
    assert_int_equal(store->ops->event_put(txn, epoch.seq + 2, far_buf_slice(&row), NULL), 0);
    struct far_moment moment = {FAR_MOMENT_SEQ, epoch.seq + 3};
    struct far_past *past;
    struct far_error err = {0};
    assert_int_equal(far_past_open(txn, &moment, &past, &err), FAR_CORRUPT);
    assert_non_null(strstr(err.message, "chain"));
    far_buf_done(&row);
    far_store_abort(txn);
}

static void moments_are_read_as_they_are_written(void **unused)
{
    static const struct {
        const char *text;
        int kind;
        uint64_t value;
    } good[] = {
        {"0", FAR_MOMENT_SEQ, 0},
        {"123456789012345678", FAR_MOMENT_SEQ, 123456789012345678},
        {"1970-01-01T00:00:00Z", FAR_MOMENT_TIME, 0},
        {"2026-11-20T17:30:00Z", FAR_MOMENT_TIME, 1795195800000},
        {"2026-11-20T18:30:00.25+01:00", FAR_MOMENT_TIME, 1795195800250},
        {"2024-02-29 23:59:59.9999-00:30", FAR_MOMENT_TIME, 1709252999999},
    };
    static const char *const bad[] = {"", "x", "-1", "2026-11-20", "2026-13-01T00:00:00Z", "2026-11-20T25:00:00Z",
                                      "2026-11-20T17:30:00", "2026-11-20T17:30:00Zz", "1234567890123456789",
                                      "2026-11-20T17:30:00.Z"};
    struct far_moment moment;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(far_moment_parse(far_slice_str(good[i].text), &moment, NULL), 0);
        assert_int_equal(moment.kind, good[i].kind);
        assert_int_equal(moment.value, good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(far_moment_parse(far_slice_str(bad[i]), &moment, NULL), FAR_INVALID);
    }
}

/* ---- replay and export, on the folder of a server that does not run ---- */

static void open_store(void);

/* A path in the test's folder. */
static const char *in_dir(char path[300], const char *name, uint64_t number)
{
    snprintf(path, 300, "%s/%s-%llu", dir, name, (unsigned long long)number);
    return path;
}

static void a_replay_builds_the_state_of_every_moment(void **unused)
{
    far_store_close(store);
    for (uint64_t seq = 1; seq <= last_seq; seq += 1 + last_seq / 7) {
        struct far_moment to = {FAR_MOMENT_SEQ, seq};
        struct far_replay done;
        struct far_error err = {0};
        if (far_log_replay(dir, &to, in_dir(path_a, "replay", seq), &done, &err) != 0) {
            fail_msg("%s", err.message);
        }
        assert_int_equal(done.seq, seq);
        assert_int_equal(done.folded, seq);
        assert_true(far_hash128_equal(done.digest, digests[seq]));
        assert_true(done.checked >= seq / (EPOCH + 32));
        assert_int_equal(far_log_replay(dir, &to, path_a, &done, &err), FAR_CONFLICT); /* it is there */
    }
    struct far_moment all = {FAR_MOMENT_NOW, 0};
    struct far_replay done;
    assert_int_equal(far_log_replay(dir, &all, in_dir(path_a, "replay-all", 0), &done, NULL), 0);
    assert_true(far_hash128_equal(done.digest, digests[last_seq]));
    open_store();
}

/* The exit status; its words in said. */
static char said[8192];
static int run_verifier(const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "src/verify/farshore-verify %s 2>&1", arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t len = fread(said, 1, sizeof said - 1, pipe);
    said[len] = '\0';
    while (fgetc(pipe) != EOF) {
        /* else what it says beyond that ends it */
    }
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static void the_verifier_says_what_is_wrong_with_its_arguments(void **unused)
{
    static const char hex[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    static const struct {
        const char *arguments, *words;
    } bad[] = {{"", "no file is given"},
               {"a b", "one file, not 'b' too"},
               {"--no-such-option 1 a", "there is no option '--no-such-option'"},
               {"a --key", "'--key' needs a value"},
               {"--key zz a", "'zz' is no key"},
               {"--head zz a", "'zz' is no chain head"},
               {"--head 7:zz a", "'zz' is no chain head"},
               {"--head 18446744073709551617:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef a", "number of an event"},
               {"--head 0:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef a", "number of an event"},
               {"--head -1:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef a", "number of an event"}};
    char arguments[256];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(run_verifier(bad[i].arguments), 2);
        assert_non_null(strstr(said, bad[i].words));
        assert_non_null(strstr(said, "usage: "));
    }
    snprintf(arguments, sizeof arguments, "--head %s --head %s a", hex, hex);
    assert_int_equal(run_verifier(arguments), 2);
    assert_non_null(strstr(said, "twice"));
    assert_int_equal(run_verifier("--help"), 0);
    assert_non_null(strstr(said, "Exit status"));
    assert_int_equal(run_verifier("--version"), 0);
    assert_non_null(strstr(said, "farshore-verify "));
}

static void head_text(uint64_t seq, char text[65])
{
    struct far_store_txn *txn = read_store();
    struct far_event event;
    uint8_t head[32];
    assert_int_equal(far_store_event_get(txn, seq, &event, head, NULL), 0);
    far_hex_encode(head, 32, text);
    far_store_abort(txn);
}

/* Where the event lies in the export: its header is nowhere else. */
static size_t find_event(const uint8_t *bytes, size_t len, uint64_t seq)
{
    size_t at = FAR_EXPORT_HEADER;
    for (uint64_t n = 1; n < seq; n++) {
        at += FAR_EXPORT_RECORD + far_get_le32(bytes + at + 4);
    }
    assert_true(at < len && far_get_le64(bytes + at + FAR_EXPORT_RECORD) == seq);
    return at;
}

static void assert_flip_found(uint8_t *bytes, size_t len, size_t at)
{
    char arguments[400];
    bytes[at] ^= 0x20;
    FILE *file = fopen(path_b, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
    bytes[at] ^= 0x20;
    snprintf(arguments, sizeof arguments, "%s", path_b);
    if (run_verifier(arguments) != 1 || strstr(said, "BAD") == NULL) {
        fail_msg("a changed byte at %zu of %zu is not found: %s", at, len, said);
    }
}

static void an_export_proves_itself_and_names_each_changed_byte(void **unused)
{
    char head[65], other[65], arguments[512], word[32];
    struct far_moment all = {FAR_MOMENT_NOW, 0};
    struct far_error err = {0};
    uint64_t seq = 0;
    head_text(last_seq, head);
    head_text(last_seq / 2, other);
    far_store_close(store);
    if (far_log_export(dir, &all, in_dir(path_a, "export", 0), &seq, &err) != 0) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(seq, last_seq);
    assert_int_equal(far_log_export(dir, &all, path_a, &seq, &err), FAR_CONFLICT);
    struct far_moment none = {FAR_MOMENT_SEQ, 0};
    assert_int_equal(far_log_export(dir, &none, in_dir(path_b, "export", 1), &seq, &err), FAR_NOT_FOUND);
    assert_int_not_equal(access(path_b, F_OK), 0); /* nothing is left */
    snprintf(arguments, sizeof arguments, "--head %s %s", head, path_a);
    assert_int_equal(run_verifier(arguments), 0);
    assert_non_null(strstr(said, "is the history whose head was given"));
    snprintf(arguments, sizeof arguments, "--head %llu:%s %s", (unsigned long long)last_seq / 2, other, path_a);
    assert_int_equal(run_verifier(arguments), 0);
    snprintf(arguments, sizeof arguments, "--head %s %s", other, path_a);
    assert_int_equal(run_verifier(arguments), 1);
    assert_int_equal(run_verifier("--head 12 x"), 2);
    assert_int_equal(run_verifier("/nowhere"), 2);

    uint8_t *bytes = malloc(1 << 20);
    FILE *file = fopen(path_a, "rb");
    size_t len = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    in_dir(path_b, "changed", 0);
    for (size_t at = 0; at < len; at += 1 + (size_t)rand_r(&seed) % (len / 200)) {
        assert_flip_found(bytes, len, at);
    }
    for (size_t i = 0; i < FAR_EXPORT_RECORD + FAR_EVENT_HEADER + 4; i++) { /* each byte of one event */
        size_t at = find_event(bytes, len, 33) + i;
        assert_flip_found(bytes, len, at);
        snprintf(word, sizeof word, "event 33,");
        if (strstr(said, word) == NULL) {
            fail_msg("byte %zu of event 33: %s", i, said);
        }
    }
    for (size_t cut = 1; cut < len; cut += len / 20) {
        assert_int_equal(truncate(path_a, (off_t)(len - cut)), 0);
        snprintf(arguments, sizeof arguments, "%s", path_a);
        assert_int_equal(run_verifier(arguments), 1);
    }
    free(bytes);
    open_store();
}

static void secrets_do_not_leave_in_exports(void **unused)
{
    struct far_store_txn *txn = read_store();
    struct far_buf piece;
    uint64_t next = 0, withheld = 0;
    far_buf_init(&piece, 1 << 22);
    struct far_error err = {0};
    assert_int_equal(far_export_piece(txn, 0, 0, 1 << 20, &piece, &next, &err), FAR_NOT_FOUND);
    assert_true(strstr(err.message, "no event yet") != NULL && piece.len == 0);
    assert_int_equal(far_export_piece(txn, 0, last_seq, 1 << 20, &piece, &next, NULL), 0);
    assert_int_equal(next, 0);
    for (size_t at = FAR_EXPORT_HEADER; at < piece.len; at += FAR_EXPORT_RECORD + far_get_le32(piece.data + at + 4)) {
        unsigned type = far_get_le16(piece.data + at);
        unsigned kind = far_get_le16(piece.data + at + FAR_EXPORT_RECORD + 16);
        bool token = type != FAR_EXPORT_END && (kind == FAR_KIND_ev_token_created || kind == FAR_KIND_ev_cluster_created);
        assert_int_equal(token, type == FAR_EXPORT_WITHHELD);
        withheld += token;
    }
    assert_true(withheld > 1);
    far_buf_done(&piece);
    far_store_abort(txn);
}

/* The last test: it drops the history. */
static void a_state_that_came_from_another_server_has_no_past(void **unused)
{
    struct far_store_txn *txn;
    struct far_past *past;
    struct far_error err = {0};
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    assert_int_equal(far_store_install_clear(txn, NULL), 0);
    assert_int_equal(far_store_install_switch(txn, NULL), 0);
    far_store_meta(txn)->first_seq = last_seq + 1;
    struct far_moment moment = {FAR_MOMENT_SEQ, last_seq};
    assert_int_equal(far_past_open(txn, &moment, &past, &err), FAR_NOT_FOUND);
    assert_non_null(strstr(err.message, "no states of the past"));
    far_store_abort(txn);
}

static void open_store(void)
{
    assert_int_equal(far_store_open_lmdb(state_dir, (size_t)1 << 30, false, &store, NULL), 0);
    store->epoch_events = EPOCH;
}

static int setup(void **unused)
{
    const char *base = getenv("TMPDIR"), *given = getenv("FAR_SEED");
    seed = given != NULL ? (unsigned)atoi(given) : (unsigned)getpid();
    printf("# seed %u\n", seed);
    snprintf(dir, sizeof dir, "%s/far-history-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    far_buf_init(&payload, 64 * 1024);
    far_buf_init(&entry, FAR_ENVELOPE_MAX);
    snprintf(state_dir, sizeof state_dir, "%s/state", dir);
    assert_int_equal(mkdir(state_dir, 0700), 0);
    open_store();
    for (uint64_t index = 1; index <= ENTRIES; index++) {
        apply_entry(index);
    }
    fold_all();
    return 0;
}

static int teardown(void **unused)
{
    far_store_close(store);
    far_buf_done(&payload);
    far_buf_done(&entry);
    return far_test_remove_tree(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_verifier_says_what_is_wrong_with_its_arguments),
        cmocka_unit_test(every_moment_is_what_the_events_fold_to),
        cmocka_unit_test(walking_backward_meets_the_same_rows),
        cmocka_unit_test(a_time_is_the_last_event_that_is_not_later),
        cmocka_unit_test(the_stretches_in_which_a_row_changed_are_known),
        cmocka_unit_test(a_changed_byte_of_an_event_is_not_folded),
        cmocka_unit_test(moments_are_read_as_they_are_written),
        cmocka_unit_test(a_replay_builds_the_state_of_every_moment),
        cmocka_unit_test(an_export_proves_itself_and_names_each_changed_byte),
        cmocka_unit_test(secrets_do_not_leave_in_exports),
        cmocka_unit_test(a_state_that_came_from_another_server_has_no_past),
    };
    return cmocka_run_group_tests_name("history", tests, setup, teardown);
}
