/* The index of the vault in LMDB: id of a record → its place in the packs and how often it is needed. Only a cache, private to
 * the vault.
 *
 * It also knows up to which position of the packs it is complete, and what reclaim has to remember (vault_ledger.h), in the same
 * transactions: the chains of points, what is in quarantine, which places are doomed. Every entry carries a check bound to the
 * vault and the key; the whole file is walked at open (vault_index_check.c), because LMDB trusts its own pages. Whatever is wrong:
 * the index is thrown away and made again from the packs, and reclaim counts anew. Threads: any. */
#ifndef FAR_DATAPLANE_VAULT_INDEX_H
#define FAR_DATAPLANE_VAULT_INDEX_H

#include "dataplane/pack.h"

enum {
    FAR_INDEX_BATCH_MAX = 8192, /* entries in one transaction: at worst about 40 MiB of dirty pages */
    FAR_INDEX_KEY_MAX = 48,
    FAR_INDEX_VALUE_MAX = 128, /* a check of 4 bytes included */
    FAR_INDEX_ROW_VALUE = 32,  /* bytes of a record's value; v0.1.0 had 20 */
    FAR_INDEX_NOTHING = -30798, /* a code: there is no such row (MDB_NOTFOUND) */
    FAR_INDEX_BROKEN = -30796,  /* a code: a row that cannot be (MDB_CORRUPTED) */
};

struct far_index;

struct far_index_entry {
    struct far_hash256 id;
    struct far_place place;
};

/* What is known of a record. */
struct far_index_row {
    struct far_place place; /* pack 0: nowhere */
    uint32_t needs;         /* by points and replicas, as reclaim counted them last */
    uint64_t since;         /* pass that put it into quarantine; 0: it is not there */
};

/* Opens or makes the index in a folder of its own. An index that is damaged or of another vault is removed and made anew
 * (*ret_position.pack 0 then, as for a new one). read_only: FAR_NOT_FOUND or FAR_CORRUPT instead. */
int far_index_open(const char *dir, const uint8_t vault_uuid[16], bool read_only, struct far_index **ret_index,
                   struct far_place *ret_position, struct far_error *err);
/* The files of an index that is not open. */
int far_index_remove(const char *dir, struct far_error *err);
void far_index_close(struct far_index *index); /* NULL is allowed */
/* ret_rows[i] is zero where nothing is known of ids[i]. */
int far_index_look(struct far_index *index, const struct far_hash256 *ids, size_t count, struct far_index_row *ret_rows,
                   struct far_error *err);
/* Adds or replaces the places of up to FAR_INDEX_BATCH_MAX records and, if position is not NULL, says that everything before it is
 * in: one transaction, durable when this returns 0. Where a record was somewhere else before, that place is doomed. */
int far_index_put(struct far_index *index, const struct far_index_entry *entries, size_t count,
                  const struct far_place *position, struct far_error *err);
uint64_t far_index_count(struct far_index *index); /* of records */
/* Walks the LMDB file below the library: geometry, page types, bounds, order of keys, the check of every entry. The
 * file is not open anywhere. FAR_NOT_FOUND, FAR_CORRUPT. */
int far_index_check(const char *path, const uint8_t vault_uuid[16], struct far_error *err);
/* Does the value end in the check that belongs to its key? */
bool far_index_value_good(const uint8_t vault_uuid[16], struct far_slice key, struct far_slice value);

/* ---- other rows, and changes of several at once ---- */

/* Keys of other rows begin with four zero bytes and their kind; ids are 32 bytes, other keys never are. */
enum far_index_kind {
    FAR_INDEX_CHAIN = 'C',      /* disk, domain, point → top and size of the point's disk; behind all points the replica */
    FAR_INDEX_DOOMED = 'D',     /* pack, offset → length: bytes that nobody names any more, to be zeroed */
    FAR_INDEX_POINT = 'P',      /* point → plan, number of disks: it is counted */
    FAR_INDEX_QUARANTINE = 'Q', /* pass, id → nothing; holds only while the record's row says the same pass */
    FAR_INDEX_WORD = 'W',       /* a letter → a single value */
};
struct far_index_key {
    uint8_t bytes[FAR_INDEX_KEY_MAX];
    size_t len;
};
void far_index_key_begin(struct far_index_key *ret_key, enum far_index_kind kind);
void far_index_key_u64(struct far_index_key *key, uint64_t value); /* appended so that keys sort by it */
void far_index_key_id(struct far_index_key *key, const struct far_hash256 *id);
uint64_t far_index_key_get_u64(const struct far_index_key *key, size_t at); /* the at-th number behind the kind */

struct far_index_txn;
/* Runs change() in one transaction, durable when this returns 0; again from the beginning where the file has to grow. What it
 * returns other than 0 (a code of the functions below) undoes everything and becomes an error. */
int far_index_write(struct far_index *index, int (*change)(void *arg, struct far_index_txn *txn), void *arg,
                    struct far_error *err);
/* In a transaction. Codes: 0, FAR_INDEX_NOTHING, others to be returned as they are. A value is exactly len bytes. */
int far_index_txn_row(struct far_index_txn *txn, const struct far_hash256 *id, struct far_index_row *ret_row);
int far_index_txn_put_row(struct far_index_txn *txn, const struct far_hash256 *id, const struct far_index_row *row);
int far_index_txn_del_row(struct far_index_txn *txn, const struct far_hash256 *id);
int far_index_txn_get(struct far_index_txn *txn, const struct far_index_key *key, void *ret_value, size_t len);
int far_index_txn_put(struct far_index_txn *txn, const struct far_index_key *key, const void *value, size_t len);
int far_index_txn_del(struct far_index_txn *txn, const struct far_index_key *key); /* what is not there is 0 */
/* A record that is not needed is in quarantine from this pass on: row->since, and a row to find it by. */
int far_index_txn_quarantine(struct far_index_txn *txn, const struct far_hash256 *id, struct far_index_row *row, uint64_t pass);
/* A place that nobody names any more. Nothing for pack 0. */
int far_index_txn_doom(struct far_index_txn *txn, struct far_place place);

/* Outside of one. FAR_NOT_FOUND without a message. */
int far_index_get(struct far_index *index, const struct far_index_key *key, void *ret_value, size_t len,
                  struct far_error *err);
/* The first row at or behind *key (backwards: the last one before it) whose key begins with the same prefix_len bytes and has the
 * same length; *key becomes its key. FAR_NOT_FOUND: none. */
int far_index_seek(struct far_index *index, struct far_index_key *key, size_t prefix_len, bool backwards, void *ret_value,
                   size_t len, struct far_error *err);
/* Up to max rows at or behind *key, of the same prefix and length, for who wants many. *ret_count may be 0; each key in ret_keys. */
int far_index_list(struct far_index *index, const struct far_index_key *key, size_t prefix_len, struct far_index_key *ret_keys,
                   size_t max, size_t *ret_count, struct far_error *err);

#endif
