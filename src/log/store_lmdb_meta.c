/* The meta record of the store in LMDB, and those that stand beside it: see store_lmdb.h. */
#include "log/store_lmdb.h"

#include "base/hash.h"

enum { MAGIC = 0x54535246 /* "FRST" */, META_VERSION = 0, META_SIZE = 168 };
enum { HAS_HISTORY = 1, HAS_SEGMENTS = 2 }; /* in the meta record: this table is there; this one is not empty */

static const char META_KEY[] = "meta", CONFIGURATION_KEY[] = "configuration", COMPACTED_KEY[] = "compacted", OLDER_KEY[] = "older";

static void meta_encode(const struct lmdb_txn *txn, uint8_t record[META_SIZE + 8])
{
    const struct far_store_meta *meta = &txn->txn.meta;
    memset(record, 0, META_SIZE);
    far_put_le32(record, MAGIC);
    far_put_le16(record + 4, META_VERSION);
    record[6] = (uint8_t)txn->active;
    MDB_stat segments = {0};
    const struct lmdb_store *store = (const struct lmdb_store *)txn->txn.store;
    bool is_sealed = store->has_segments && mdb_stat(txn->txn_lmdb, store->segments, &segments) == 0 && segments.ms_entries > 0;
    record[7] = (uint8_t)((store->has_history ? HAS_HISTORY : 0) | (is_sealed ? HAS_SEGMENTS : 0));
    far_put_le64(record + 8, meta->applied_index);
    far_put_le64(record + 16, meta->applied_term);
    far_put_le64(record + 24, meta->first_seq);
    far_put_le64(record + 32, meta->last_seq);
    memcpy(record + 40, meta->base_head, FAR_HEAD_SIZE);
    memcpy(record + 72, meta->head, FAR_HEAD_SIZE);
    far_put_le64(record + 104, meta->digest.low);
    far_put_le64(record + 112, meta->digest.high);
    far_put_le64(record + 120, meta->stored_index);
    far_put_le64(record + 128, meta->stored_term);
    far_put_le64(record + 136, meta->configuration_index);
    far_put_le32(record + 144, (uint32_t)meta->configuration_len);
    far_put_le64(record + 152, far_hash64(meta->configuration, meta->configuration_len));
    far_put_le64(record + 160, meta->installed_index);
    far_put_le64(record + META_SIZE, far_hash64(record, META_SIZE));
}

static int meta_decode(struct far_slice record, struct lmdb_txn *txn, struct far_error *err)
{
    struct far_store_meta *meta = &txn->txn.meta;
    const uint8_t *p = record.data;
    if (record.len != META_SIZE + 8 || far_get_le64(p + META_SIZE) != far_hash64(p, META_SIZE)) {
        return far_fail(err, FAR_CORRUPT, "store, table meta, key 'meta': its checksum is wrong");
    }
    if (far_get_le32(p) != MAGIC || far_get_le16(p + 4) != META_VERSION || p[6] > 1) {
        return far_fail(err, FAR_INVALID, "the store has format %u, this version of Farshore knows %d",
                        far_get_le16(p + 4), META_VERSION);
    }
    const struct lmdb_store *store = (const struct lmdb_store *)txn->txn.store;
    if (((p[7] & HAS_HISTORY) != 0 && !store->has_history) || ((p[7] & HAS_SEGMENTS) != 0 && !store->has_segments)) {
        return far_fail(err, FAR_CORRUPT, "store, table %s: missing", store->has_history ? "segments" : "history");
    }
    txn->active = p[6];
    meta->applied_index = far_get_le64(p + 8);
    meta->applied_term = far_get_le64(p + 16);
    meta->first_seq = far_get_le64(p + 24);
    meta->last_seq = far_get_le64(p + 32);
    memcpy(meta->base_head, p + 40, FAR_HEAD_SIZE);
    memcpy(meta->head, p + 72, FAR_HEAD_SIZE);
    meta->digest.low = far_get_le64(p + 104);
    meta->digest.high = far_get_le64(p + 112);
    meta->stored_index = far_get_le64(p + 120);
    meta->stored_term = far_get_le64(p + 128);
    meta->configuration_index = far_get_le64(p + 136);
    meta->configuration_len = far_get_le32(p + 144);
    meta->installed_index = far_get_le64(p + 160);
    struct far_slice configuration = txn->configuration;
    if (configuration.len != meta->configuration_len || configuration.len > sizeof meta->configuration ||
        far_get_le64(p + 152) != far_hash64(configuration.data, configuration.len)) {
        return far_fail(err, FAR_CORRUPT, "store, table meta, key 'configuration': its checksum is wrong");
    }
    if (configuration.len > 0) {
        memcpy(meta->configuration, configuration.data, configuration.len);
    }
    return 0;
}

/* How far it is compacted: a record of its own, absent at first. */
static int compacted_read(struct lmdb_store *store, struct lmdb_txn *txn, struct far_error *err)
{
    MDB_val key = {.mv_size = sizeof COMPACTED_KEY - 1, .mv_data = (void *)(uintptr_t)COMPACTED_KEY}, value;
    int rc = mdb_get(txn->txn_lmdb, store->meta, &key, &value);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? 0 : far_lmdb_fail(err, rc, "read how far it is compacted");
    }
    const uint8_t *p = value.mv_data;
    if (value.mv_size != 16 || far_get_le64(p + 8) != far_hash64(p, 8)) {
        return far_fail(err, FAR_CORRUPT, "store, table meta, key 'compacted': its checksum is wrong");
    }
    txn->txn.meta.compacted_seq = txn->compacted_seq = far_get_le64(p);
    return 0;
}

static int compacted_write(struct lmdb_store *store, struct lmdb_txn *txn)
{
    uint8_t record[16];
    MDB_val key = {.mv_size = sizeof COMPACTED_KEY - 1, .mv_data = (void *)(uintptr_t)COMPACTED_KEY};
    MDB_val value = {.mv_size = sizeof record, .mv_data = record};
    far_put_le64(record, txn->txn.meta.compacted_seq);
    far_put_le64(record + 8, far_hash64(record, 8));
    return txn->txn.meta.compacted_seq == txn->compacted_seq ? 0 : mdb_put(txn->txn_lmdb, store->meta, &key, &value, 0);
}

/* The stretches of events from before an installed state: a record of its own, absent without any. */
static size_t older_encode(const struct far_store_meta *meta, uint8_t record[LMDB_OLDER_BYTES])
{
    uint8_t *p = record;
    for (size_t i = 0; i < meta->older_count; i++, p += LMDB_STRETCH_BYTES) {
        const struct far_stretch *stretch = &meta->older[i];
        far_put_le64(p, stretch->first_seq);
        far_put_le64(p + 8, stretch->last_seq);
        far_put_le64(p + 16, stretch->compacted_seq);
        memcpy(p + 24, stretch->base_head, FAR_HEAD_SIZE);
        memcpy(p + 24 + FAR_HEAD_SIZE, stretch->head, FAR_HEAD_SIZE);
    }
    far_put_le64(p, far_hash64(record, (size_t)(p - record)));
    return meta->older_count == 0 ? 0 : (size_t)(p - record) + 8;
}

static int older_read(struct lmdb_store *store, struct lmdb_txn *txn, struct far_error *err)
{
    struct far_store_meta *meta = &txn->txn.meta;
    MDB_val key = {.mv_size = sizeof OLDER_KEY - 1, .mv_data = (void *)(uintptr_t)OLDER_KEY}, value;
    int rc = mdb_get(txn->txn_lmdb, store->meta, &key, &value);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? 0 : far_lmdb_fail(err, rc, "read which older events are kept");
    }
    const uint8_t *p = value.mv_data;
    size_t len = value.mv_size < 8 ? 0 : value.mv_size - 8;
    if (len == 0 || len % LMDB_STRETCH_BYTES != 0 || len > LMDB_OLDER_BYTES - 8 || far_get_le64(p + len) != far_hash64(p, len)) {
        return far_fail(err, FAR_CORRUPT, "store, table meta, key 'older': its checksum is wrong");
    }
    for (; meta->older_count < len / LMDB_STRETCH_BYTES; p += LMDB_STRETCH_BYTES) {
        struct far_stretch *stretch = &meta->older[meta->older_count++];
        *stretch = (struct far_stretch){
            .first_seq = far_get_le64(p), .last_seq = far_get_le64(p + 8), .compacted_seq = far_get_le64(p + 16)};
        memcpy(stretch->base_head, p + 24, FAR_HEAD_SIZE);
        memcpy(stretch->head, p + 24 + FAR_HEAD_SIZE, FAR_HEAD_SIZE);
    }
    memcpy(txn->older, value.mv_data, value.mv_size);
    txn->older_len = value.mv_size;
    return 0;
}

static int older_write(struct lmdb_store *store, struct lmdb_txn *txn)
{
    uint8_t record[LMDB_OLDER_BYTES];
    MDB_val key = {.mv_size = sizeof OLDER_KEY - 1, .mv_data = (void *)(uintptr_t)OLDER_KEY};
    struct far_slice bytes = far_slice(record, older_encode(&txn->txn.meta, record));
    MDB_val value = far_lmdb_val(bytes);
    if (far_slice_equal(bytes, far_slice(txn->older, txn->older_len))) {
        return 0;
    }
    return bytes.len == 0 ? mdb_del(txn->txn_lmdb, store->meta, &key, NULL)
                          : mdb_put(txn->txn_lmdb, store->meta, &key, &value, 0);
}

int far_lmdb_meta_read(struct lmdb_store *store, struct lmdb_txn *txn, struct far_error *err)
{
    far_store_meta_init(&txn->txn.meta);
    MDB_val key = {.mv_size = sizeof META_KEY - 1, .mv_data = (void *)(uintptr_t)META_KEY}, record, configuration = {0};
    int rc = mdb_get(txn->txn_lmdb, store->meta, &key, &record);
    if (rc == MDB_NOTFOUND) {
        return 0; /* a new store */
    }
    if (rc == 0) {
        key = (MDB_val){.mv_size = sizeof CONFIGURATION_KEY - 1, .mv_data = (void *)(uintptr_t)CONFIGURATION_KEY};
        rc = mdb_get(txn->txn_lmdb, store->meta, &key, &configuration);
    }
    if (rc != 0 && rc != MDB_NOTFOUND) {
        return far_lmdb_fail(err, rc, "read the meta record");
    }
    txn->configuration = far_lmdb_slice(configuration);
    int rv = meta_decode(far_lmdb_slice(record), txn, err);
    rv = rv != 0 ? rv : compacted_read(store, txn, err);
    return rv != 0 ? rv : older_read(store, txn, err);
}

int far_lmdb_meta_write(struct lmdb_store *store, struct lmdb_txn *txn, struct far_error *err)
{
    uint8_t record[META_SIZE + 8];
    meta_encode(txn, record);
    MDB_val key = {.mv_size = sizeof CONFIGURATION_KEY - 1, .mv_data = (void *)(uintptr_t)CONFIGURATION_KEY};
    struct far_slice configuration = far_slice(txn->txn.meta.configuration, txn->txn.meta.configuration_len);
    MDB_val value = far_lmdb_val(configuration);
    int rc = far_slice_equal(configuration, txn->configuration) ? 0 : mdb_put(txn->txn_lmdb, store->meta, &key, &value, 0);
    if (rc == 0) {
        key = (MDB_val){.mv_size = sizeof META_KEY - 1, .mv_data = (void *)(uintptr_t)META_KEY};
        value = far_lmdb_val(far_slice(record, sizeof record));
        rc = mdb_put(txn->txn_lmdb, store->meta, &key, &value, 0);
    }
    rc = rc != 0 ? rc : compacted_write(store, txn);
    rc = rc != 0 ? rc : older_write(store, txn);
    return rc == 0 ? 0 : far_lmdb_fail(err, rc, "write the meta record");
}

bool far_lmdb_meta_is_whole(MDB_txn *txn, MDB_dbi meta)
{
    MDB_val key = {.mv_size = sizeof META_KEY - 1, .mv_data = (void *)(uintptr_t)META_KEY}, record;
    int rc = mdb_get(txn, meta, &key, &record);
    return rc == MDB_NOTFOUND || (rc == 0 && record.mv_size == META_SIZE + 8 &&
                                  far_get_le64((uint8_t *)record.mv_data + META_SIZE) == far_hash64(record.mv_data, META_SIZE));
}
