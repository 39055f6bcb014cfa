/* Replay and export of a folder: see replay.h. */
#include "log/replay.h"

#include "fsm/rows.h"
#include "log/compact.h"
#include "log/export.h"
#include "log/history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH = 20000, PIECE_BYTES = 4 * 1024 * 1024 };

typedef unsigned long long llu;

/* ---- a folder, held ---- */

struct source {
    int fd;
    struct far_store *store;
    struct far_store_txn *txn;
    uint64_t seq; /* of the moment */
};

static void close_source(struct source *source)
{
    far_store_abort(source->txn);
    far_store_close(source->store);
    if (source->fd >= 0) {
        close(source->fd);
    }
}

/* The last event of the moment; for a state by the way that views of the past take. */
static int find_seq(struct source *source, const struct far_moment *to, bool is_state, struct far_error *err)
{
    struct far_past *past;
    if (to->kind == FAR_MOMENT_NOW || !is_state) {
        return far_moment_seq(source->txn, to, &source->seq, err);
    }
    int rv = far_past_open(source->txn, to, &past, err);
    if (rv == 0) {
        source->seq = past->seq;
        far_past_close(past);
    }
    return rv;
}

static int open_source(const char *dir, const struct far_moment *to, bool is_state, struct source *source, struct far_error *err)
{
    char path[4096];
    *source = (struct source){.fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (source->fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open folder '%s'", dir);
    }
    if (flock(source->fd, LOCK_EX | LOCK_NB) != 0) {
        return far_fail(err, FAR_CONFLICT, "a server runs on folder '%s'; stop it first", dir);
    }
    snprintf(path, sizeof path, "%s/state", dir);
    int rv = far_store_open_lmdb(path, 0, true, &source->store, err);
    rv = rv != 0 ? rv : far_store_begin(source->store, false, &source->txn, err);
    return rv != 0 ? rv : find_seq(source, to, is_state, err);
}

/* ---- replay ---- */

struct replay {
    struct source source;
    struct far_store *out;
    struct far_store_txn *txn;
    struct far_replay done;
    struct far_epoch next; /* the next recorded state; seq UINT64_MAX: none */
};

static int find_next_epoch(struct replay *replay, struct far_error *err)
{
    int rv = far_epoch_after(replay->source.txn, replay->done.seq, &replay->next, err);
    if (rv == FAR_NOT_FOUND) {
        replay->next = (struct far_epoch){.seq = UINT64_MAX};
        return 0;
    }
    return rv;
}

/* The rows of the state from which all events are here, and its place in the chain. */
static int take_base(struct replay *replay, uint64_t base_seq, struct far_error *err)
{
    struct far_store_meta *meta = far_store_meta(replay->txn);
    struct far_kv *out = far_store_kv(replay->txn);
    struct far_epoch epoch;
    struct far_past *past = NULL;
    struct far_key at = {.len = 0};
    struct far_slice key, value;
    int rv = far_epoch_before(replay->source.txn, base_seq, &epoch, err);
    struct far_moment moment = {FAR_MOMENT_SEQ, epoch.seq};
    rv = rv != 0 ? rv : far_past_open(replay->source.txn, &moment, &past, err);
    while (rv == 0 && (rv = past->state.kv->ops->seek(past->state.kv, far_slice(at.bytes, at.len), &key, &value, err)) == 0) {
        rv = out->ops->put(out, key, value, err);
        memcpy(at.bytes, key.data, key.len);
        at.bytes[key.len] = 0;
        at.len = key.len + 1;
    }
    if (rv == FAR_NOT_FOUND) {
        *meta = (struct far_store_meta){.applied_index = epoch.index, .applied_term = epoch.term, .first_seq = epoch.seq + 1,
                                        .last_seq = epoch.seq, .digest = epoch.digest};
        memcpy(meta->base_head, epoch.head, FAR_HEAD_SIZE);
        memcpy(meta->head, epoch.head, FAR_HEAD_SIZE);
        replay->done.from_seq = replay->done.seq = epoch.seq;
        rv = 0;
    }
    far_past_close(past);
    return rv;
}

/* What was recorded when it happened must be what the fold gives. */
static int check_epoch(struct replay *replay, struct far_state *state, struct far_error *err)
{
    const struct far_epoch *epoch = &replay->next;
    if (replay->done.seq != epoch->seq) {
        return 0;
    }
    int rv = far_rows_flush(state->rows, &state->digest, err);
    if (rv != 0) {
        return rv;
    }
    if (!far_hash128_equal(epoch->digest, state->digest) ||
        memcmp(epoch->head, far_store_meta(replay->txn)->head, FAR_HEAD_SIZE) != 0) {
        return far_fail(err, FAR_CORRUPT, "behind event %llu the fold of the events is not the state that was recorded then",
                        (llu)epoch->seq);
    }
    replay->done.checked++;
    return find_next_epoch(replay, err);
}

static int fold_one(struct replay *replay, struct far_state *state, struct far_error *err)
{
    struct far_event event;
    uint8_t stored[FAR_HEAD_SIZE];
    int rv = far_store_event_get(replay->source.txn, replay->done.seq + 1, &event, stored, err);
    rv = rv != 0 ? rv : far_fsm_evolve(state, &event, err);
    rv = rv != 0 ? rv : far_store_event_append(replay->txn, &event, err);
    if (rv == 0 && memcmp(far_store_meta(replay->txn)->head, stored, FAR_HEAD_SIZE) != 0) {
        rv = far_fail(err, FAR_CORRUPT, "event %llu: the chain does not lead to it", (llu)event.seq);
    }
    if (rv == 0) {
        replay->done.seq = event.seq;
        replay->done.folded++;
        far_store_meta(replay->txn)->applied_index = event.index;
        rv = check_epoch(replay, state, err);
    }
    return rv != 0 ? rv : far_rows_trim(state->rows, &state->digest, err);
}

static int fold_batch(struct replay *replay, struct far_error *err)
{
    struct far_state state = {.kv = far_store_kv(replay->txn), .digest = far_store_meta(replay->txn)->digest};
    state.rows = far_rows_new(state.kv, true);
    int rv = state.rows == NULL ? far_fail(err, FAR_LIMIT, "no memory for the fold") : 0;
    for (unsigned i = 0; rv == 0 && i < BATCH && replay->done.seq < replay->source.seq; i++) {
        rv = fold_one(replay, &state, err);
    }
    rv = rv != 0 ? rv : far_rows_flush(state.rows, &state.digest, err);
    far_rows_free(state.rows);
    far_store_meta(replay->txn)->digest = state.digest;
    return rv;
}

static int end_batch(struct replay *replay, int rv, struct far_error *err)
{
    if (rv != 0) {
        far_store_abort(replay->txn);
        return rv;
    }
    return far_store_commit(replay->txn, err);
}

static int fold_all(struct replay *replay, struct far_error *err)
{
    int rv = far_store_begin(replay->out, true, &replay->txn, err);
    if (rv != 0) {
        return rv;
    }
    uint64_t base_seq;
    rv = far_compact_base(replay->source.txn, &base_seq, err);
    if (rv == FAR_NOT_FOUND) {
        far_fail(err, rv, "events before %llu are not here (or compacted), and no state from which to go on",
                 (llu)far_store_meta(replay->source.txn)->first_seq);
    }
    rv = end_batch(replay, rv != 0 || base_seq == 0 ? rv : take_base(replay, base_seq, err), err);
    rv = rv != 0 ? rv : find_next_epoch(replay, err);
    if (rv == 0 && replay->done.seq > replay->source.seq) {
        rv = far_fail(err, FAR_NOT_FOUND, "the oldest state that can be built here is that of event %llu", (llu)replay->done.seq);
    }
    while (rv == 0 && replay->done.seq < replay->source.seq) {
        rv = far_store_begin(replay->out, true, &replay->txn, err);
        rv = rv != 0 ? rv : end_batch(replay, fold_batch(replay, err), err);
    }
    return rv;
}

/* From the bytes, by another way than the running sum. */
static int prove(struct replay *replay, struct far_error *err)
{
    uint64_t rows;
    int rv = far_store_begin(replay->out, false, &replay->txn, err);
    if (rv != 0) {
        return rv;
    }
    const struct far_store_meta *meta = far_store_meta(replay->txn), *source = far_store_meta(replay->source.txn);
    rv = far_state_digest_walk(far_store_kv(replay->txn), &replay->done.digest, &rows, err);
    if (rv == 0 && !far_hash128_equal(replay->done.digest, meta->digest)) {
        rv = far_fail(err, FAR_CORRUPT, "the rows do not give the digest of the fold");
    }
    if (rv == 0 && replay->done.seq == source->last_seq && !far_hash128_equal(source->digest, meta->digest)) {
        rv = far_fail(err, FAR_CORRUPT, "the fold of the events is not the state of the server");
    }
    memcpy(replay->done.head, meta->head, FAR_HEAD_SIZE);
    far_store_abort(replay->txn);
    return rv;
}

/* What a replay made in a folder of its own, and did not bring to its end. */
static void undo_folder(const char *out)
{
    static const char *const made[] = {"state/data.mdb", "state/lock.mdb", "state/segments", "state", ""};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", out, made[i]);
        (void)remove(path);
    }
}

int far_log_replay(const char *dir, const struct far_moment *to, const char *out, struct far_replay *ret_replay,
                   struct far_error *err)
{
    struct replay replay = {.out = NULL};
    char path[4096];
    int rv = open_source(dir, to, true, &replay.source, err);
    snprintf(path, sizeof path, "%s/state", out);
    bool is_made = rv == 0 && mkdir(out, 0700) == 0;
    if (rv == 0 && (!is_made || mkdir(path, 0700) != 0)) {
        rv = far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "make folder '%s'", out);
    }
    rv = rv != 0 ? rv : far_store_open_lmdb(path, 0, false, &replay.out, err);
    rv = rv != 0 ? rv : fold_all(&replay, err);
    rv = rv != 0 ? rv : prove(&replay, err);
    far_store_close(replay.out);
    close_source(&replay.source);
    if (rv == 0) {
        *ret_replay = replay.done;
    } else if (is_made) {
        undo_folder(out);
    }
    return rv;
}

/* ---- export ---- */

static int write_pieces(struct source *source, FILE *file, struct far_error *err)
{
    struct far_buf piece;
    uint64_t from = 0;
    int rv = 0;
    far_buf_init(&piece, 2 * PIECE_BYTES);
    do {
        far_buf_reset(&piece);
        rv = far_export_piece(source->txn, from, source->seq, PIECE_BYTES, &piece, &from, err);
        if (rv == 0 && fwrite(piece.data, 1, piece.len, file) != piece.len) {
            rv = far_fail_errno(err, FAR_IO, errno, "write the export");
        }
    } while (rv == 0 && from != 0);
    far_buf_done(&piece);
    return rv;
}

int far_log_export(const char *dir, const struct far_moment *to, const char *path, uint64_t *ret_seq, struct far_error *err)
{
    struct source source;
    FILE *file = NULL;
    int rv = open_source(dir, to, false, &source, err);
    if (rv == 0 && (file = fopen(path, "wbx")) == NULL) {
        rv = far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "make file '%s'", path);
    }
    rv = rv != 0 ? rv : write_pieces(&source, file, err);
    if (file != NULL && (fflush(file) != 0 || fsync(fileno(file)) != 0) && rv == 0) {
        rv = far_fail_errno(err, FAR_IO, errno, "write '%s'", path);
    }
    if (file != NULL) {
        fclose(file);
    }
    if (file != NULL && rv != 0) {
        (void)unlink(path);
    }
    *ret_seq = source.seq;
    close_source(&source);
    return rv;
}
