/* Snapshots: the state of one server streamed into another that fell too far behind.
 *
 * A manifest says what is coming {index, term, configuration, seq, chain head, digest, rows}; then come pieces, each some
 * rows in the order of their keys, from one read transaction. The receiver fills its second set of rows, checks the
 * digest by a walk over the bytes, and switches. Old events are fetched afterwards (far_store_event_prepend checks them by
 * the chain). The dump belongs to whoever reads, the install to the thread that writes the store. Parsers are pure. */
#ifndef FAR_LOG_SNAPSHOT_H
#define FAR_LOG_SNAPSHOT_H

#include "log/store.h"

enum {
    FAR_SNAPSHOT_PIECE_MAX = 256 * 1024,
    FAR_MANIFEST_HEADER = 112,
    FAR_MANIFEST_MAX = FAR_MANIFEST_HEADER + FAR_STORE_CONFIGURATION_MAX + 8,
};

struct far_manifest {
    uint64_t index; /* everything up to this entry is in the state */
    uint64_t term;
    uint64_t last_seq;
    uint8_t head[FAR_HEAD_SIZE];
    struct far_hash128 digest;
    uint64_t configuration_index;
    struct far_slice configuration;
};

/* The manifest of a store as a transaction sees it; its configuration is borrowed from the transaction. */
void far_manifest_of(struct far_store_txn *txn, struct far_manifest *ret_manifest);
int far_manifest_encode(const struct far_manifest *manifest, struct far_buf *out, struct far_error *err);
/* The configuration is borrowed from bytes. FAR_CORRUPT: not a whole manifest. */
int far_manifest_decode(struct far_slice bytes, struct far_manifest *ret_manifest, struct far_error *err);

/* ---- dump ---- */

struct far_dump {
    struct far_store_txn *txn; /* owned */
    struct far_manifest manifest;
    uint32_t next_piece;
    uint8_t at[FAR_KV_KEY_MAX + 1]; /* where the next piece begins */
    size_t at_len;
    bool ended;
};

int far_dump_begin(struct far_store *store, struct far_dump *ret_dump, struct far_error *err);
/* Append the next piece to out, which is empty and has room for FAR_SNAPSHOT_PIECE_MAX. The last one says so and sets
 * ended. FAR_CORRUPT: a row does not carry its checksum. */
int far_dump_next(struct far_dump *dump, struct far_buf *out, struct far_error *err);
void far_dump_end(struct far_dump *dump); /* also of a zeroed one */

/* ---- install ---- */

struct far_install {
    struct far_store *store;
    uint32_t next_piece;
    bool ended; /* the last piece is in */
};

/* Empty the second set. */
int far_install_begin(struct far_store *store, struct far_install *ret_install, struct far_error *err);
/* Put a piece, in one transaction. FAR_CORRUPT: damaged or out of order. */
int far_install_piece(struct far_install *install, struct far_slice piece, struct far_error *err);
/* Does the header of these bytes call them the last piece? (They are checked when they are put.) */
bool far_piece_is_last(struct far_slice piece);
/* Check and switch; durable on return. FAR_CORRUPT: the rows do not give the manifest's digest; nothing changed. */
int far_install_finish(struct far_install *install, const struct far_manifest *manifest, struct far_error *err);

/* ---- event history afterwards ---- */

/* Append a batch to out: the events from `from` up to `to`, or as many of the newest of them as fit into max_bytes, newest
 * first, each with the head before it. */
int far_history_encode(struct far_store_txn *txn, uint64_t from, uint64_t to, size_t max_bytes, struct far_buf *out,
                       struct far_error *err);
/* Prepend a batch to the history in the caller's transaction. FAR_CORRUPT: it does not lead to what is there. */
int far_history_apply(struct far_store_txn *txn, struct far_slice batch, struct far_error *err);

#endif
