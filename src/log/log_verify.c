/* Offline verification: is everything in a server's folder what was written, and does it fit together?
 *
 * Walks that share nothing with the running server but the formats: each event's checksum and the chain from the first
 * kept one to the head; the state as the fold of the events (when all of them are here) compared row by row with the state
 * in the store; each row's checksum and the digest, from the bytes; the rules between rows; each checksum of the WAL.
 * LMDB trusts its pages, so damage to its own structure may kill whoever walks it: a child process does the walk, and its
 * death is a finding like any other. */
#include "base/child.h"
#include "fsm/rows.h"
#include "log/compact.h"
#include "log/head_check.h"
#include "log/history.h"
#include "log/log.h"
#include "log/raft_wal.h"
#include "log/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FINDINGS_MAX = 1000, LINE_MAX_BYTES = 1024 };

struct verify {
    void (*report)(void *arg, bool good, const char *text);
    void *arg;
    unsigned findings;
    uint64_t compacted, compacted_seq; /* events without payload, and up to where the log decided that */
    uint64_t unread_from, unread_to; /* events without a break that cannot be read: the first one is told, the others together */
    uint64_t fold_from; /* the fold begins with the state behind this event */
    uint64_t trust[4]; /* of the store: stored index and term, installed index and term; the WAL must reach them */
};

__attribute__((format(printf, 3, 4))) static void say(struct verify *verify, bool good, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    va_list args;
    verify->findings += !good;
    if (!good && verify->findings > FINDINGS_MAX) {
        return;
    }
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    verify->report(verify->arg, good, text);
}

static const char *table_name(uint8_t number)
{
    const struct far_schema *schema = far_schema_find(FAR_CLASS_row, number, 0);
    return schema == NULL ? "unknown" : schema->name;
}

/* "state, table server, key 0000000000000001" */
static const char *place_of(struct far_slice key, char text[2 * FAR_KV_KEY_MAX + 80])
{
    char hex[2 * FAR_KV_KEY_MAX + 1] = "";
    size_t len = key.len > FAR_KV_KEY_MAX ? FAR_KV_KEY_MAX : key.len;
    if (len > 1) {
        far_hex_encode(key.data + 1, len - 1, hex);
    }
    snprintf(text, 2 * FAR_KV_KEY_MAX + 80, "state, table %s, key '%s'", len > 0 ? table_name(key.data[0]) : "none", hex);
    return text;
}

/* ---- events ---- */

/* Behind the last of some that cannot be read. */
static void end_unread(struct verify *verify)
{
    uint64_t from = verify->unread_from, to = verify->unread_to;
    if (to > from) {
        say(verify, false, "events %llu to %llu: cannot be read either", (unsigned long long)from + 1, (unsigned long long)to);
    }
    verify->unread_from = verify->unread_to = 0;
}

static void tell_unread(struct verify *verify, uint64_t seq, const char *why)
{
    if (verify->unread_from == 0) {
        verify->unread_from = seq;
        say(verify, false, "%s", why);
    }
    verify->unread_to = seq;
}

/* The next event is whole and follows; `head` moves on. */
static bool check_event(struct verify *verify, struct far_store_txn *txn, uint64_t seq, uint8_t head[FAR_HEAD_SIZE],
                        struct far_event *ret_event)
{
    struct far_error err;
    uint8_t stored[FAR_HEAD_SIZE];
    if (far_store_event_get(txn, seq, ret_event, stored, &err) != 0) {
        tell_unread(verify, seq, err.message);
        return false;
    }
    if (far_chain_add(head, ret_event, &err) != 0) {
        say(verify, false, "event %llu: %s", (unsigned long long)seq, err.message);
        return false;
    }
    if (memcmp(head, stored, FAR_HEAD_SIZE) != 0) {
        say(verify, false, "store, table events, seq %llu: the chain over its bytes does not give its head",
            (unsigned long long)seq);
        memcpy(head, stored, FAR_HEAD_SIZE);
    }
    return true;
}

/* What the event says of heads is right; after the last, how far signatures reach. check NULL: the cluster is not known. */
static void check_heads(struct verify *verify, struct far_head_check *check, struct far_store_txn *txn,
                        const struct far_event *event)
{
    struct far_error err = {0};
    if (check == NULL) {
        return;
    }
    if (event != NULL && far_head_check_event(check, txn, event, &err) != 0) {
        say(verify, false, "%s", err.message);
    }
    if (event == NULL && check->signatures > 0) {
        say(verify, true, "signed heads: %llu signatures are right; a majority has signed everything up to event %llu",
            (unsigned long long)check->signatures, (unsigned long long)check->signed_seq);
    }
}

/* What may be compacted at all, the row's decoder knows. */
static void check_compacted(struct verify *verify, const struct far_event *event)
{
    verify->compacted += event->compacted_len != 0;
    if (event->compacted_len != 0 && event->seq > verify->compacted_seq) {
        say(verify, false, "event %llu is compacted, and the log decided that only up to event %llu", (unsigned long long)event->seq,
            (unsigned long long)verify->compacted_seq);
    }
}

/* Walk the events; fold them into `fold` unless it is NULL. Returns whether the fold is whole. */
static bool verify_events(struct verify *verify, struct far_store_txn *txn, struct far_state *fold,
                          struct far_head_check *heads)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    uint8_t head[FAR_HEAD_SIZE];
    char hex[2 * FAR_HEAD_SIZE + 1];
    unsigned before = verify->findings;
    memcpy(head, meta->base_head, sizeof head);
    bool whole = fold != NULL;
    for (uint64_t seq = meta->first_seq; seq <= meta->last_seq; seq++) {
        struct far_event event;
        struct far_error err = {0};
        bool good = check_event(verify, txn, seq, head, &event);
        if (verify->unread_to != seq) {
            end_unread(verify);
        }
        if (!good) { /* go on behind it: its successors carry their heads */
            whole = false;
            struct far_event unused;
            if (seq < meta->last_seq) {
                (void)far_store_event_get(txn, seq, &unused, head, NULL);
            }
            continue;
        }
        check_compacted(verify, &event);
        if (whole && seq > verify->fold_from &&
            (far_fsm_evolve(fold, &event, &err) != 0 || far_rows_trim(fold->rows, &fold->digest, &err) != 0)) {
            say(verify, false, "event %llu cannot follow the state before it: %s", (unsigned long long)seq, err.message);
            whole = false;
        }
        check_heads(verify, heads, txn, &event); /* last: it may read other events */
    }
    end_unread(verify);
    if (memcmp(head, meta->head, sizeof head) != 0) {
        say(verify, false, "store, table meta, key 'meta': its head is not that of event %llu",
            (unsigned long long)meta->last_seq);
    }
    far_hex_encode(head, sizeof head, hex);
    if (verify->findings == before) {
        say(verify, true, "events %llu to %llu: every checksum and the chain are right, head %s",
            (unsigned long long)meta->first_seq, (unsigned long long)meta->last_seq, hex);
    }
    if (verify->compacted > 0 && verify->findings == before) {
        say(verify, true, "compacted: %llu of them, progress up to event %llu; their payloads are gone, their hashes fit the chain",
            (unsigned long long)verify->compacted, (unsigned long long)verify->compacted_seq);
    }
    check_heads(verify, heads, txn, NULL);
    return whole;
}

/* ---- state ---- */

/* Every row carries its checksum; their sum is the digest. */
static void verify_rows(struct verify *verify, struct far_store_txn *txn)
{
    struct far_kv *kv = far_store_kv(txn);
    struct far_hash128 digest = {0};
    uint8_t at[FAR_KV_KEY_MAX + 1];
    size_t at_len = 0;
    uint64_t rows = 0;
    unsigned before = verify->findings;
    struct far_slice key, value;
    struct far_error err = {0};
    int rv;
    char place[2 * FAR_KV_KEY_MAX + 80];
    while ((rv = kv->ops->seek(kv, far_slice(at, at_len), &key, &value, &err)) == 0 && key.len <= FAR_KV_KEY_MAX) {
        if (value.len < 8 || far_get_le64(value.data + value.len - 8) !=
                                 far_hash64_parts(key, far_slice(value.data, value.len - 8), far_slice(NULL, 0))) {
            say(verify, false, "%s: its checksum is wrong", place_of(key, place));
        }
        digest = far_hash128_add(digest, far_hash128_parts(key, value));
        memcpy(at, key.data, key.len);
        at[key.len] = 0;
        at_len = key.len + 1;
        rows++;
    }
    if (rv != FAR_NOT_FOUND) {
        say(verify, false, "state: %s", rv == 0 ? "a key is too long" : err.message);
    }
    if (!far_hash128_equal(digest, far_store_meta(txn)->digest)) {
        say(verify, false, "state: its rows do not give the digest in store, table meta");
    }
    if (verify->findings == before) {
        say(verify, true, "state at entry %llu: %llu rows, every checksum is right, digest %016llx%016llx",
            (unsigned long long)far_store_meta(txn)->applied_index, (unsigned long long)rows,
            (unsigned long long)digest.high, (unsigned long long)digest.low);
    }
}

/* Walk both maps together and name each row that differs. */
static void compare_fold(struct verify *verify, struct far_kv *state, struct far_kv *fold)
{
    uint8_t at[FAR_KV_KEY_MAX + 1];
    size_t at_len = 0;
    unsigned before = verify->findings;
    char place[2 * FAR_KV_KEY_MAX + 80];
    for (;;) {
        struct far_slice key_a, value_a, key_b, value_b;
        int a = state->ops->seek(state, far_slice(at, at_len), &key_a, &value_a, NULL);
        int b = fold->ops->seek(fold, far_slice(at, at_len), &key_b, &value_b, NULL);
        if (a != 0 && b != 0) {
            break;
        }
        int order = a != 0 ? 1 : b != 0 ? -1 : far_slice_compare(key_a, key_b);
        struct far_slice key = order > 0 ? key_b : key_a;
        if (order < 0) {
            say(verify, false, "%s: no event made it", place_of(key, place));
        } else if (order > 0) {
            say(verify, false, "%s: is missing, the events made it", place_of(key, place));
        } else if (!far_slice_equal(value_a, value_b)) {
            say(verify, false, "%s: is not what the events made", place_of(key, place));
        }
        if (key.len > FAR_KV_KEY_MAX) {
            return;
        }
        memcpy(at, key.data, key.len);
        at[key.len] = 0;
        at_len = key.len + 1;
    }
    if (verify->findings == before) {
        if (verify->fold_from == 0) {
            say(verify, true, "state: equal to the fold of all events");
        } else {
            say(verify, true, "state: equal to the fold of the events since event %llu, from the state recorded then",
                (unsigned long long)verify->fold_from);
        }
    }
}

/* ---- history ---- */

/* What was kept of each row carries its checksum; the oldest state, which everything that is kept leads to, its digest. */
static void verify_history(struct verify *verify, struct far_store_txn *txn)
{
    struct far_kv *kept = far_store_history(txn);
    struct far_history_walk walk = {0};
    struct far_hash128 digest;
    struct far_epoch oldest = {0};
    struct far_past *past = NULL;
    struct far_error err = {0};
    unsigned before = verify->findings;
    uint64_t rows = 0;
    char place[2 * FAR_KV_KEY_MAX + 80];
    int rv = FAR_NOT_FOUND;
    if (kept == NULL) {
        return;
    }
    while ((rv = far_history_next(txn, &walk, &err)) == 0) {
        if (!walk.is_whole) {
            say(verify, false, "history of event %llu, %s: its checksum is wrong", (unsigned long long)walk.epoch,
                place_of(walk.row, place));
        }
    }
    if (rv != FAR_NOT_FOUND) {
        say(verify, false, "%s", err.message);
    }
    rv = far_epoch_after(txn, UINT64_MAX, &oldest, &err);
    if (rv != 0) {
        bool empty = rv == FAR_NOT_FOUND && walk.at_len == 0; /* nothing was applied since the state came */
        say(verify, empty, "history: %s", rv == FAR_NOT_FOUND ? "it has no beginning" : err.message);
        return;
    }
    struct far_moment moment = {FAR_MOMENT_SEQ, oldest.seq};
    rv = far_past_open(txn, &moment, &past, &err);
    rv = rv != 0 ? rv : far_state_digest_walk(past->state.kv, &digest, &rows, &err);
    if (rv != 0) {
        say(verify, false, "history of event %llu: %s", (unsigned long long)oldest.seq, err.message);
    } else if (!far_hash128_equal(digest, oldest.digest)) {
        say(verify, false, "history of event %llu: its rows do not give the digest that was recorded then",
            (unsigned long long)oldest.seq);
    }
    far_past_close(past);
    if (verify->findings == before) {
        say(verify, true, "history back to event %llu: every checksum is right, and the digest of the oldest state",
            (unsigned long long)oldest.seq);
    }
}

/* Where events are gone or compacted, the fold begins with the oldest state of which all events since are here; its digest was recorded
 * when it was the present, in the chain's words: behind the head that the events lead to. FAR_NOT_FOUND: there is none. */
static int take_base(struct verify *verify, struct far_store_txn *txn, struct far_kv *out, struct far_error *err)
{
    struct far_epoch epoch;
    struct far_past *past = NULL;
    struct far_hash128 digest;
    struct far_slice key, value;
    uint8_t at[FAR_KV_KEY_MAX + 1];
    size_t at_len = 0;
    uint64_t rows, base_seq;
    int rv = far_compact_base(txn, &base_seq, err);
    if (rv != 0 || base_seq == 0) {
        return rv;
    }
    rv = far_epoch_before(txn, base_seq, &epoch, err);
    struct far_moment moment = {FAR_MOMENT_SEQ, epoch.seq};
    rv = rv != 0 ? rv : far_past_open(txn, &moment, &past, err);
    rv = rv != 0 ? rv : far_state_digest_walk(past->state.kv, &digest, &rows, err);
    if (rv == 0 && !far_hash128_equal(digest, epoch.digest)) {
        rv = FAR_NOT_FOUND; /* the walk of the history says so */
    }
    while (rv == 0 && (rv = past->state.kv->ops->seek(past->state.kv, far_slice(at, at_len), &key, &value, err)) == 0) {
        memcpy(at, key.data, key.len);
        at[key.len] = 0;
        at_len = key.len + 1;
        rv = out->ops->put(out, far_slice(at, at_len - 1), value, err);
    }
    far_past_close(past);
    verify->fold_from = epoch.seq;
    return rv == FAR_NOT_FOUND && at_len > 0 ? 0 : rv != 0 ? rv : FAR_NOT_FOUND;
}

static int verify_txn(struct verify *verify, struct far_store_txn *txn, struct far_error *err)
{
    struct far_store *memory = NULL;
    struct far_store_txn *fold_txn = NULL;
    struct far_head_check *heads = calloc(1, sizeof *heads);
    int rv = heads == NULL ? far_fail(err, FAR_LIMIT, "no memory for the signed heads") : 0;
    bool has_uuid = rv == 0 && far_head_check_init(heads, txn, NULL) == 0; /* else that is found with the rows */
    rv = rv != 0 ? rv : far_store_open_memory(&memory, err);
    rv = rv != 0 ? rv : far_store_begin(memory, true, &fold_txn, err);
    if (rv == 0) {
        struct far_state fold = {.kv = far_store_kv(fold_txn)};
        (void)far_compact_decided(txn, &verify->compacted_seq, NULL); /* a damaged row is found with the rows */
        bool has_base = take_base(verify, txn, fold.kv, NULL) == 0;
        fold.rows = far_rows_new(fold.kv, true);
        bool whole = verify_events(verify, txn, has_base && fold.rows != NULL ? &fold : NULL, has_uuid ? heads : NULL);
        whole = whole && far_rows_flush(fold.rows, &fold.digest, err) == 0;
        far_rows_free(fold.rows);
        verify_rows(verify, txn);
        verify_history(verify, txn);
        if (whole) {
            compare_fold(verify, far_store_kv(txn), fold.kv);
        } else if (!has_base) {
            say(verify, true, "state: not compared with its events, those before event %llu are not here or compacted, and there is no "
                              "state behind them", (unsigned long long)far_store_meta(txn)->first_seq);
        }
        struct far_state state = {.kv = far_store_kv(txn), .digest = far_store_meta(txn)->digest};
        struct far_error broken = {0};
        if (verify->findings == 0 && far_fsm_invariants(&state, &broken) != 0) {
            say(verify, false, "state: %s", broken.message);
        }
    }
    far_store_abort(fold_txn);
    free(heads);
    far_store_close(memory);
    return rv;
}

/* As the server does at its start. */
static void take_trust(struct verify *verify, const struct far_store_meta *meta)
{
    bool by_state = meta->applied_index > meta->stored_index; /* it was applied, so it was stored */
    bool installed = meta->installed_index != 0 && meta->installed_index == meta->applied_index;
    verify->trust[0] = by_state ? meta->applied_index : meta->stored_index;
    verify->trust[1] = by_state ? meta->applied_term : meta->stored_term;
    verify->trust[2] = installed ? meta->applied_index : 0;
    verify->trust[3] = installed ? meta->applied_term : 0;
}

static int verify_store(struct verify *verify, const char *dir, struct far_error *err)
{
    struct far_store *store;
    struct far_store_txn *txn = NULL;
    struct far_error cause = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/state", dir);
    int rv = far_store_open_lmdb(path, 0, true, &store, &cause);
    if (rv != 0) {
        say(verify, false, "%s", cause.message);
        return 0;
    }
    rv = far_store_begin(store, false, &txn, &cause);
    if (rv != 0) {
        say(verify, false, "%s", cause.message);
        rv = 0;
    } else {
        take_trust(verify, far_store_meta(txn));
        rv = verify_txn(verify, txn, err);
    }
    far_store_abort(txn);
    far_store_close(store);
    return rv;
}

/* ---- the child ---- */

/* In the child: a line a report, '+' or '-' first ('=': what the WAL must reach); newlines inside would break it, none of ours has one. */
static void report_to_pipe(void *arg, bool good, const char *text)
{
    dprintf(*(int *)arg, "%c%s\n", good ? '+' : '-', text);
}

static void child(const char *dir, int fd)
{
    struct verify verify = {.report = report_to_pipe, .arg = &fd};
    struct far_error err = {0};
    far_child_settle();
    if (verify_store(&verify, dir, &err) != 0) {
        say(&verify, false, "%s", err.message);
    }
    dprintf(fd, "=%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", verify.trust[0], verify.trust[1], verify.trust[2],
            verify.trust[3]);
    _exit(0);
}

static void relay(struct verify *verify, FILE *pipe)
{
    char line[LINE_MAX_BYTES + 2];
    while (fgets(line, sizeof line, pipe) != NULL) {
        uint64_t *trust = verify->trust;
        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "=%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &trust[0], &trust[1], &trust[2], &trust[3]) == 4) {
            continue;
        }
        say(verify, line[0] == '+', "%s", line + 1);
    }
}

static int verify_in_child(struct verify *verify, const char *dir, struct far_error *err)
{
    int fds[2];
    if (pipe(fds) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "make a pipe");
    }
    fflush(NULL); /* the child has copies of what is buffered */
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        child(dir, fds[1]);
    }
    close(fds[1]);
    FILE *from_child = pid < 0 ? NULL : fdopen(fds[0], "r");
    if (from_child == NULL) {
        close(fds[0]);
        return far_fail_errno(err, FAR_IO, errno, "start the walk");
    }
    relay(verify, from_child);
    fclose(from_child);
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        say(verify, false, "store, file 'state/data.mdb': its structure is damaged, the walk ended at signal %d",
            WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
    return 0;
}

/* ---- the WAL ---- */

static void report_wal(void *arg, bool good, const char *text)
{
    say(arg, good, "%s", text);
}

static int verify_wal(struct verify *verify, const char *dir, struct far_error *err)
{
    struct far_disk *disk;
    char path[4096];
    snprintf(path, sizeof path, "%s/wal", dir);
    int rv = far_disk_posix_new(path, &disk, err);
    if (rv != 0) {
        return rv;
    }
    struct far_error found;
    unsigned before = verify->findings;
    struct far_wal_config config = {.disk = disk,
                                    .trusted_index = verify->trust[0],
                                    .trusted_term = verify->trust[1],
                                    .installed_index = verify->trust[2],
                                    .installed_term = verify->trust[3]};
    rv = far_wal_verify(&config, report_wal, verify, &found);
    if (rv != 0 && verify->findings == before) {
        say(verify, false, "%s", found.message);
    }
    far_disk_posix_free(disk);
    return 0;
}

/* ---- the whole ---- */

int far_log_verify(const char *dir, void (*report)(void *arg, bool good, const char *text), void *arg,
                   struct far_error *err)
{
    struct verify verify = {.report = report, .arg = arg};
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open folder '%s'", dir);
    }
    int rv = flock(fd, LOCK_EX | LOCK_NB) == 0
                 ? 0
                 : far_fail(err, FAR_CONFLICT, "a server runs on folder '%s'; stop it first", dir);
    rv = rv != 0 ? rv : verify_in_child(&verify, dir, err);
    rv = rv != 0 ? rv : verify_wal(&verify, dir, err);
    close(fd);
    if (rv == 0 && verify.findings > 0) {
        return far_fail(err, FAR_CORRUPT, "%u findings in folder '%s'", verify.findings, dir);
    }
    return rv;
}
