/* Tidying: see tidy.h. */
#include "log/tidy.h"

#include "log/compact.h"

struct piece {
    struct far_store_txn *txn;
    struct far_tidy tidy;
    bool changed, is_cut;
};

static int cut(struct piece *piece, struct far_error *err)
{
    struct far_store_meta *meta = far_store_meta(piece->txn);
    uint64_t seq, first = meta->first_seq, older = meta->older_count == 0 ? 0 : meta->older[0].first_seq;
    bool more = false, begun = false;
    int rv = far_retain_decided(piece->txn, &seq, err);
    seq = seq > meta->last_seq + 1 ? meta->last_seq + 1 : seq;
    rv = rv != 0 ? rv : far_segments_cut(piece->txn, seq, FAR_TIDY_ROWS, &more, err);
    rv = rv != 0 ? rv : far_retain_begin_states(piece->txn, &begun, err);
    piece->is_cut = meta->first_seq != first || older != (meta->older_count == 0 ? 0 : meta->older[0].first_seq);
    piece->changed = piece->changed || piece->is_cut || more || begun;
    piece->tidy.more = piece->tidy.more || more;
    return rv;
}

static int trim(struct piece *piece, struct far_error *err)
{
    struct far_store_sizes before, after;
    bool more = false;
    far_store_sizes(piece->txn, &before);
    int rv = far_segments_trim(piece->txn, FAR_TIDY_ROWS, &more, err);
    far_store_sizes(piece->txn, &after);
    piece->changed = piece->changed || before.event_rows != after.event_rows;
    piece->tidy.more = piece->tidy.more || more;
    return rv;
}

static int do_piece(struct piece *piece, struct far_retain_walk *walk, struct far_error *err)
{
    const struct far_store *store = piece->txn->store;
    uint64_t bytes_max = store->history_bytes_max != 0 ? store->history_bytes_max : FAR_HISTORY_BYTES;
    struct far_store_sizes before, after;
    far_store_sizes(piece->txn, &before);
    int rv = cut(piece, err);
    rv = rv != 0 ? rv : trim(piece, err);
    rv = rv != 0 ? rv : far_compact_rows(piece->txn, FAR_TIDY_ROWS, &piece->changed, &piece->tidy.more, err);
    rv = rv != 0 ? rv : far_retain_history(piece->txn, walk, bytes_max, FAR_TIDY_ROWS, &piece->changed, &piece->tidy.more, err);
    far_store_sizes(piece->txn, &after);
    piece->changed = piece->changed || before.event_rows != after.event_rows;
    return rv;
}

int far_tidy(struct far_store *store, struct far_retain_walk *walk, struct far_tidy *ret_tidy, struct far_error *err)
{
    struct piece piece = {.txn = NULL};
    struct far_retain_walk next = *walk;
    int rv = far_store_begin(store, true, &piece.txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = do_piece(&piece, &next, err);
    if (rv != 0 || !piece.changed) {
        far_store_abort(piece.txn);
    } else {
        rv = far_store_commit(piece.txn, err);
    }
    if (rv == 0 && piece.is_cut) {
        rv = far_store_sync(store, err);
        piece.tidy.files_to_go = rv == 0;
    }
    if (rv == 0) {
        *walk = next;
        *ret_tidy = piece.tidy;
    }
    return rv;
}
