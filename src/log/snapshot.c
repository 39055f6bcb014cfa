/* Snapshots: manifest, dump in pieces, install into the second set, history afterwards. See snapshot.h.
 *
 * A piece = {magic, number, rows, flags (1: the last), XXH3-64 of what is before and behind it} and its rows, each
 * {key length u16, value length u16, key, value}. */
#include "log/snapshot.h"

#include "log/older.h"

enum { MANIFEST_MAGIC = 0x4d535246 /* "FRSM" */, PIECE_MAGIC = 0x50535246 /* "FRSP" */ };
enum { PIECE_HEADER = 24, PIECE_AT_HASH = 16, PIECE_LAST = 1 };
enum { ROW_MAX = 4 + FAR_KV_KEY_MAX + FAR_KV_VALUE_MAX };

/* ---- manifest ---- */

void far_manifest_of(struct far_store_txn *txn, struct far_manifest *ret_manifest)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    *ret_manifest = (struct far_manifest){
        .index = meta->applied_index,
        .term = meta->applied_term,
        .last_seq = meta->last_seq,
        .digest = meta->digest,
        .configuration_index = meta->configuration_index,
        .configuration = far_slice(meta->configuration, meta->configuration_len),
    };
    memcpy(ret_manifest->head, meta->head, FAR_HEAD_SIZE);
}

int far_manifest_encode(const struct far_manifest *manifest, struct far_buf *out, struct far_error *err)
{
    size_t len = FAR_MANIFEST_HEADER + manifest->configuration.len;
    uint8_t *p = len > FAR_MANIFEST_MAX - 8 ? NULL : far_buf_reserve(out, len + 8);
    if (p == NULL) {
        return far_fail(err, FAR_LIMIT, "no room for the manifest of a snapshot");
    }
    memset(p, 0, FAR_MANIFEST_HEADER);
    far_put_le32(p, MANIFEST_MAGIC);
    far_put_le64(p + 8, manifest->index);
    far_put_le64(p + 16, manifest->term);
    far_put_le64(p + 24, manifest->last_seq);
    memcpy(p + 32, manifest->head, FAR_HEAD_SIZE);
    far_put_le64(p + 64, manifest->digest.low);
    far_put_le64(p + 72, manifest->digest.high);
    far_put_le64(p + 80, manifest->configuration_index);
    far_put_le32(p + 88, (uint32_t)manifest->configuration.len);
    if (manifest->configuration.len > 0) {
        memcpy(p + FAR_MANIFEST_HEADER, manifest->configuration.data, manifest->configuration.len);
    }
    far_put_le64(p + len, far_hash64(p, len));
    out->len += len + 8;
    return 0;
}

int far_manifest_decode(struct far_slice bytes, struct far_manifest *ret_manifest, struct far_error *err)
{
    const uint8_t *p = bytes.data;
    if (bytes.len < FAR_MANIFEST_HEADER + 8 || bytes.len > FAR_MANIFEST_MAX || far_get_le32(p) != MANIFEST_MAGIC ||
        far_get_le32(p + 4) != 0 || far_get_le32(p + 88) != bytes.len - FAR_MANIFEST_HEADER - 8 ||
        far_get_le64(p + bytes.len - 8) != far_hash64(p, bytes.len - 8)) {
        return far_fail(err, FAR_CORRUPT, "the manifest of a snapshot is damaged (%zu bytes)", bytes.len);
    }
    *ret_manifest = (struct far_manifest){
        .index = far_get_le64(p + 8),
        .term = far_get_le64(p + 16),
        .last_seq = far_get_le64(p + 24),
        .digest = {.low = far_get_le64(p + 64), .high = far_get_le64(p + 72)},
        .configuration_index = far_get_le64(p + 80),
        .configuration = far_slice(p + FAR_MANIFEST_HEADER, far_get_le32(p + 88)),
    };
    memcpy(ret_manifest->head, p + 32, FAR_HEAD_SIZE);
    return 0;
}

/* ---- dump ---- */

int far_dump_begin(struct far_store *store, struct far_dump *ret_dump, struct far_error *err)
{
    struct far_dump dump = {0};
    int rv = far_store_begin(store, false, &dump.txn, err);
    if (rv == 0) {
        far_manifest_of(dump.txn, &dump.manifest);
        *ret_dump = dump;
    }
    return rv;
}

static void put_row(struct far_buf *out, uint8_t *p, struct far_slice key, struct far_slice value)
{
    far_put_le16(p, (uint16_t)key.len);
    far_put_le16(p + 2, (uint16_t)value.len);
    memcpy(p + 4, key.data, key.len);
    memcpy(p + 4 + key.len, value.data, value.len);
    out->len += 4 + key.len + value.len;
}

/* Copy the next row behind dump->at; FAR_NOT_FOUND after the last. */
static int dump_row(struct far_dump *dump, struct far_buf *out, struct far_error *err)
{
    struct far_kv *kv = far_store_kv(dump->txn);
    struct far_slice key, value;
    int rv = kv->ops->seek(kv, far_slice(dump->at, dump->at_len), &key, &value, err);
    if (rv != 0) {
        return rv;
    }
    if (key.len == 0 || key.len > FAR_KV_KEY_MAX || value.len < 8 || value.len > FAR_KV_VALUE_MAX ||
        far_get_le64(value.data + value.len - 8) !=
            far_hash64_parts(key, far_slice(value.data, value.len - 8), far_slice(NULL, 0))) {
        return far_fail(err, FAR_CORRUPT, "store, table %d: a row's checksum is wrong; it is not sent",
                        key.len > 0 ? key.data[0] : 0);
    }
    uint8_t *p = far_buf_reserve(out, 4 + key.len + value.len);
    if (p == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a piece of a snapshot");
    }
    put_row(out, p, key, value);
    memcpy(dump->at, key.data, key.len);
    dump->at[key.len] = 0; /* the least key behind it */
    dump->at_len = key.len + 1;
    return 0;
}

static uint64_t piece_hash(struct far_slice piece)
{
    return far_hash64_parts(far_slice(piece.data, PIECE_AT_HASH),
                            far_slice(piece.data + PIECE_HEADER, piece.len - PIECE_HEADER), far_slice(NULL, 0));
}

int far_dump_next(struct far_dump *dump, struct far_buf *out, struct far_error *err)
{
    uint8_t *header = far_buf_reserve(out, PIECE_HEADER);
    if (header == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a piece of a snapshot");
    }
    out->len += PIECE_HEADER;
    uint32_t rows = 0;
    int rv = 0;
    while (rv == 0 && out->len + ROW_MAX <= FAR_SNAPSHOT_PIECE_MAX) {
        rv = dump_row(dump, out, err);
        rows += rv == 0;
    }
    if (rv != 0 && rv != FAR_NOT_FOUND) {
        return rv;
    }
    dump->ended = rv == FAR_NOT_FOUND;
    far_put_le32(out->data, PIECE_MAGIC);
    far_put_le32(out->data + 4, dump->next_piece++);
    far_put_le32(out->data + 8, rows);
    far_put_le32(out->data + 12, dump->ended ? PIECE_LAST : 0);
    far_put_le64(out->data + PIECE_AT_HASH, piece_hash(far_buf_slice(out)));
    return 0;
}

void far_dump_end(struct far_dump *dump)
{
    far_store_abort(dump->txn);
    dump->txn = NULL;
}

/* ---- install ---- */

int far_install_begin(struct far_store *store, struct far_install *ret_install, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = far_store_begin(store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = far_store_install_clear(txn, err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    rv = far_store_commit(txn, err);
    if (rv == 0) {
        *ret_install = (struct far_install){.store = store};
    }
    return rv;
}

static int check_piece(const struct far_install *install, struct far_slice piece, struct far_error *err)
{
    const uint8_t *p = piece.data;
    if (piece.len < PIECE_HEADER || piece.len > FAR_SNAPSHOT_PIECE_MAX || far_get_le32(p) != PIECE_MAGIC ||
        far_get_le64(p + PIECE_AT_HASH) != piece_hash(piece)) {
        return far_fail(err, FAR_CORRUPT, "a piece of a snapshot is damaged (%zu bytes)", piece.len);
    }
    if (install->ended || far_get_le32(p + 4) != install->next_piece) {
        return far_fail(err, FAR_CORRUPT, "piece %u of a snapshot came where piece %u was due", far_get_le32(p + 4),
                        install->next_piece);
    }
    return 0;
}

/* Put the rows of a checked piece. */
static int put_rows(struct far_kv *kv, struct far_slice piece, struct far_error *err)
{
    uint32_t rows = far_get_le32(piece.data + 8);
    size_t at = PIECE_HEADER;
    for (uint32_t i = 0; i < rows; i++) {
        const uint8_t *p = piece.data + at;
        size_t left = piece.len - at, key_len = left < 4 ? 0 : far_get_le16(p), value_len = left < 4 ? 0 : far_get_le16(p + 2);
        if (key_len == 0 || 4 + key_len + value_len > left) {
            return far_fail(err, FAR_CORRUPT, "a piece of a snapshot has a wrong length at row %u", i);
        }
        int rv = kv->ops->put(kv, far_slice(p + 4, key_len), far_slice(p + 4 + key_len, value_len), err);
        if (rv != 0) {
            return rv;
        }
        at += 4 + key_len + value_len;
    }
    return at == piece.len ? 0 : far_fail(err, FAR_CORRUPT, "a piece of a snapshot has bytes behind its rows");
}

int far_install_piece(struct far_install *install, struct far_slice piece, struct far_error *err)
{
    struct far_store_txn *txn;
    int rv = check_piece(install, piece, err);
    rv = rv != 0 ? rv : far_store_begin(install->store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = put_rows(far_store_install_kv(txn), piece, err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    rv = far_store_commit(txn, err);
    if (rv == 0) {
        install->next_piece++;
        install->ended = (far_get_le32(piece.data + 12) & PIECE_LAST) != 0;
    }
    return rv;
}

bool far_piece_is_last(struct far_slice piece)
{
    return piece.len >= PIECE_HEADER && (far_get_le32(piece.data + 12) & PIECE_LAST) != 0;
}

/* The meta after the switch. */
static int take_over(struct far_store_txn *txn, const struct far_manifest *manifest, struct far_error *err)
{
    struct far_store_meta *meta = far_store_meta(txn);
    if (manifest->configuration.len > sizeof meta->configuration || manifest->index < meta->applied_index) {
        return far_fail(err, FAR_CORRUPT, "a snapshot at entry %llu cannot replace the state at entry %llu",
                        (unsigned long long)manifest->index, (unsigned long long)meta->applied_index);
    }
    int rv = far_older_keep(txn, manifest->last_seq, err);
    if (rv != 0) {
        return rv;
    }
    meta->applied_index = manifest->index;
    meta->applied_term = manifest->term;
    meta->last_seq = manifest->last_seq;
    meta->first_seq = manifest->last_seq + 1;
    memcpy(meta->head, manifest->head, FAR_HEAD_SIZE);
    memcpy(meta->base_head, manifest->head, FAR_HEAD_SIZE);
    meta->digest = manifest->digest;
    meta->configuration_index = manifest->configuration_index;
    meta->configuration_len = manifest->configuration.len;
    memcpy(meta->configuration, manifest->configuration.data, manifest->configuration.len);
    meta->installed_index = manifest->index;
    meta->compacted_seq = 0; /* of what is fetched now, nothing is sure */
    meta->stored_index = manifest->index; /* the log begins anew behind the snapshot */
    meta->stored_term = manifest->term;
    return far_older_join(txn, err);
}

int far_install_finish(struct far_install *install, const struct far_manifest *manifest, struct far_error *err)
{
    struct far_store_txn *txn;
    struct far_hash128 digest;
    uint64_t pairs;
    if (!install->ended) {
        return far_fail(err, FAR_CORRUPT, "a snapshot ended before its last piece");
    }
    int rv = far_store_begin(install->store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = far_state_digest_walk(far_store_install_kv(txn), &digest, &pairs, err);
    if (rv == 0 && !far_hash128_equal(digest, manifest->digest)) {
        rv = far_fail(err, FAR_CORRUPT, "the rows of a snapshot at entry %llu do not give its digest",
                      (unsigned long long)manifest->index);
    }
    rv = rv != 0 ? rv : take_over(txn, manifest, err);
    rv = rv != 0 ? rv : far_store_install_switch(txn, err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    rv = far_store_commit(txn, err);
    return rv != 0 ? rv : far_store_sync(install->store, err);
}

/* ---- history: a batch = records {length u32, head before the event, row}, newest event first ---- */

static int head_before(struct far_store_txn *txn, uint64_t seq, uint8_t ret_head[FAR_HEAD_SIZE], struct far_error *err)
{
    struct far_event event;
    if (seq == far_store_meta(txn)->first_seq) {
        memcpy(ret_head, far_store_meta(txn)->base_head, FAR_HEAD_SIZE);
        return 0;
    }
    return far_store_event_get(txn, seq - 1, &event, ret_head, err);
}

int far_history_encode(struct far_store_txn *txn, uint64_t from, uint64_t to, size_t max_bytes, struct far_buf *out,
                       struct far_error *err)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    from = from < meta->first_seq ? meta->first_seq : from;
    to = to > meta->last_seq ? meta->last_seq : to;
    for (uint64_t seq = to; seq >= from && seq > 0; seq--) {
        uint8_t before[FAR_HEAD_SIZE];
        struct far_event event;
        struct far_slice row;
        int rv = far_store_event_get(txn, seq, &event, NULL, err); /* checks what is sent */
        rv = rv != 0 ? rv : head_before(txn, seq, before, err);
        rv = rv != 0 ? rv : far_store_event_row(txn, seq, &row, err);
        if (rv != 0) {
            return rv;
        }
        if (out->len + 4 + FAR_HEAD_SIZE + row.len > max_bytes) {
            break;
        }
        uint8_t length[4];
        far_put_le32(length, (uint32_t)row.len);
        rv = far_buf_append(out, length, sizeof length);
        rv = rv != 0 ? rv : far_buf_append(out, before, sizeof before);
        rv = rv != 0 ? rv : far_buf_append(out, row.data, row.len);
        if (rv != 0) {
            return far_fail(err, rv, "no memory for a batch of events");
        }
    }
    return 0;
}

int far_history_apply(struct far_store_txn *txn, struct far_slice batch, struct far_error *err)
{
    while (batch.len > 0) {
        struct far_event event;
        size_t len = batch.len < 4 ? 0 : far_get_le32(batch.data);
        if (batch.len < 4 + FAR_HEAD_SIZE || len > batch.len - 4 - FAR_HEAD_SIZE) {
            return far_fail(err, FAR_CORRUPT, "a batch of events has a wrong length");
        }
        int rv = far_event_row_decode(far_slice(batch.data + 4 + FAR_HEAD_SIZE, len), &event, NULL, err);
        bool is_here = rv == 0 && event.seq >= far_store_meta(txn)->first_seq; /* the one before it met a stretch (older.h) */
        rv = rv != 0 || is_here ? rv : far_store_event_prepend(txn, &event, batch.data + 4, err);
        if (rv != 0) {
            return rv;
        }
        batch = far_slice(batch.data + 4 + FAR_HEAD_SIZE + len, batch.len - 4 - FAR_HEAD_SIZE - len);
    }
    return 0;
}
