/* The store: state rows, events and how far they are applied, changed only together, by transactions.
 *
 * Two implementations: LMDB (store_lmdb.c, production) and memory (store_memory.c, simulation and tests; it models that a
 * power cut may undo the last commit). One write transaction at a time, from one thread; with LMDB any number of read
 * transactions up to FAR_STORE_READERS_MAX, each used by one thread at a time, of any thread, none across turns of a loop
 * but the dump of a snapshot. A transaction sees the store as it was at its begin.
 *
 * The state lies in one of two sets of rows. A snapshot from another server is filled into the other set by many
 * transactions and switched in by one; a crash before that leaves the old state in force. */
#ifndef FAR_LOG_STORE_H
#define FAR_LOG_STORE_H

#include "log/chain.h"

struct far_apply_memory;
struct far_segment;
struct far_segment_reader;

enum { FAR_STORE_CONFIGURATION_MAX = 8192, FAR_STORE_READERS_MAX = 256, FAR_STORE_OLDER_MAX = 8 };

/* A part of the chain that is held apart from the newest events (older.h). */
struct far_stretch {
    uint64_t first_seq, last_seq;
    uint64_t compacted_seq; /* as in the meta */
    uint8_t base_head[FAR_HEAD_SIZE], head[FAR_HEAD_SIZE]; /* before the first, after the last */
};

/* What is true of a store after a commit. */
struct far_store_meta {
    uint64_t applied_index; /* of the last raft entry applied, of any type; 0 = none */
    uint64_t applied_term;  /* of that entry */
    uint64_t first_seq;     /* of the oldest event kept; last_seq + 1 when none is */
    uint64_t last_seq;      /* of the newest event ever; 0 = none */
    uint8_t base_head[FAR_HEAD_SIZE]; /* chain head before first_seq */
    uint8_t head[FAR_HEAD_SIZE];      /* chain head after last_seq */
    struct far_hash128 digest;        /* of the state, kept incrementally */
    uint64_t stored_index; /* with stored_term: the last entry of the highest (term, index) that the WAL reported stored; */
    uint64_t stored_term;  /* a WAL that ends before it must not vote (DESIGN.md section 5) */
    uint64_t installed_index; /* the state came from another server at this index; 0 = it grew here */
    uint64_t compacted_seq;   /* up to here, what may be compacted is (compact.h) */
    size_t older_count;       /* older.h; by their seq, all before first_seq and not touching it */
    struct far_stretch older[FAR_STORE_OLDER_MAX];
    uint64_t configuration_index; /* of the raft entry that the configuration came with; 0 = none */
    size_t configuration_len;
    uint8_t configuration[FAR_STORE_CONFIGURATION_MAX]; /* as raft encodes it; opaque here */
};

struct far_store;
struct far_store_txn;

/* ---- opening ---- */

/* Open or create LMDB in the folder dir (which must exist). map_bytes 0 = 1 TiB (16 GiB under ThreadSanitizer), less
 * where the address space is limited.
 * read_only: for offline inspection, while no server has it open (map_bytes is not looked at). FAR_CORRUPT: its meta record
 * is not what was written. What it holds is durable on return. */
int far_store_open_lmdb(const char *dir, size_t map_bytes, bool read_only, struct far_store **ret_store,
                        struct far_error *err);
/* An empty store in memory, without a history. */
int far_store_open_memory(struct far_store **ret_store, struct far_error *err);
/* All transactions must have ended. What was committed is made durable. NULL is allowed. */
void far_store_close(struct far_store *store);

/* Memory only: from now on it keeps what rows were before they changed (history.h); before the first entry is applied. epoch_events
 * as in struct far_store. */
void far_store_memory_keep_history(struct far_store *store, uint64_t epoch_events);
/* Memory only: what a power cut does. undo_last: the last commit is lost if it was not durable yet. An open write
 * transaction is given up. */
void far_store_memory_power_cut(struct far_store *store, bool undo_last);
/* Memory only: what a bad disk does. Flip one bit of the value of a row of the state, drawn from random; false: there is
 * none. */
bool far_store_memory_flip(struct far_store *store, uint64_t random);

/* ---- transactions ---- */

/* FAR_LIMIT: no memory, or too many readers. A second write transaction waits for the first (LMDB; in one thread that
 * would be for ever). */
int far_store_begin(struct far_store *store, bool write, struct far_store_txn **ret_txn, struct far_error *err);
/* Ends the transaction, also when it fails: then nothing was changed. FAR_LIMIT: the disk or the map is full. */
int far_store_commit(struct far_store_txn *txn, struct far_error *err);
/* Ends a read transaction, or gives a write transaction up. NULL is allowed. */
void far_store_abort(struct far_store_txn *txn);

/* The meta as of this transaction; a write transaction may change it, and commit writes it. */
struct far_store_meta *far_store_meta(struct far_store_txn *txn);
/* The rows of the state in force. */
struct far_kv *far_store_kv(struct far_store_txn *txn);

/* What rows were before they changed (history.h); NULL: this store keeps no history. */
struct far_kv *far_store_history(struct far_store_txn *txn);

/* Append the next event: meta->last_seq and head move on. FAR_INTERNAL if its seq is not the next one. */
int far_store_event_append(struct far_store_txn *txn, const struct far_event *event, struct far_error *err);
/* Put an older event in front of the oldest one: meta->first_seq and base_head move back, and where they reach a stretch that was
 * kept from before an installed state, behind that, too. before: the head before it. Up to meta->compacted_seq it is compacted on
 * the way.
 * FAR_CORRUPT if the chain from `before` over the event does not give base_head. */
int far_store_event_prepend(struct far_store_txn *txn, const struct far_event *event,
                            const uint8_t before[FAR_HEAD_SIZE], struct far_error *err);
/* Drop the payload of an event, if it has a row and may be compacted. */
int far_store_event_compact(struct far_store_txn *txn, uint64_t seq, bool *ret_changed, struct far_error *err);
/* From its row in the store or from the segment that holds it. The payload is borrowed until the next event is read or the
 * store changed. FAR_NOT_FOUND outside [first_seq, last_seq]; FAR_CORRUPT if its bytes are not what was written, or it is
 * missing. ret_head may be NULL. */
int far_store_event_get(struct far_store_txn *txn, uint64_t seq, struct far_event *ret_event,
                        uint8_t ret_head[FAR_HEAD_SIZE], struct far_error *err);
/* The raw row, for peers and segments; unchecked. */
int far_store_event_row(struct far_store_txn *txn, uint64_t seq, struct far_slice *ret_row, struct far_error *err);

/* ---- the second set, for installing a snapshot ---- */

/* Empty it. */
int far_store_install_clear(struct far_store_txn *txn, struct far_error *err);
/* Its rows, to be filled; valid until the transaction ends. */
struct far_kv *far_store_install_kv(struct far_store_txn *txn);
/* Make it the state in force, drop the old one with its history. The caller sets the whole meta, and says what becomes of the events
 * (older.h). */
int far_store_install_switch(struct far_store_txn *txn, struct far_error *err);

/* ---- durability ---- */

/* What survives a power cut now: the applied index of the commit before the last one, or of the last after a sync. Any
 * thread. */
uint64_t far_store_durable_index(const struct far_store *store);
/* Make everything committed durable. The thread that writes. */
int far_store_sync(struct far_store *store, struct far_error *err);

struct far_store_sizes {
    uint64_t event_rows, event_bytes, history_rows, history_bytes;
};
void far_store_sizes(struct far_store_txn *txn, struct far_store_sizes *ret_sizes);

/* ---- for implementations ---- */

struct far_store_ops {
    int (*begin)(struct far_store *store, bool write, struct far_store_txn **ret_txn, struct far_error *err);
    int (*commit)(struct far_store_txn *txn, struct far_error *err);
    void (*abort)(struct far_store_txn *txn);
    int (*event_put)(struct far_store_txn *txn, uint64_t seq, struct far_slice row, struct far_error *err);
    int (*event_row)(struct far_store_txn *txn, uint64_t seq, struct far_slice *ret_row, struct far_error *err);
    /* Of the rows of events and of the history: how many, and their bytes on the disk. */
    void (*sizes)(struct far_store_txn *txn, struct far_store_sizes *ret_sizes);
    /* The least seq >= seq of which there is a row. FAR_NOT_FOUND: none. */
    int (*event_seek)(struct far_store_txn *txn, uint64_t seq, uint64_t *ret_seq, struct far_error *err);
    /* Remove rows from the first with seq >= from to `to`, at most max. */
    int (*event_remove)(struct far_store_txn *txn, uint64_t from, uint64_t to, size_t max, size_t *ret_count,
                        struct far_error *err);
    /* The table of segments by their last seq: the first with last_seq >= seq. FAR_NOT_FOUND: none. */
    int (*segment_seek)(struct far_store_txn *txn, uint64_t seq, struct far_segment *ret_segment, struct far_error *err);
    int (*segment_put)(struct far_store_txn *txn, const struct far_segment *segment, struct far_error *err);
    int (*segment_remove)(struct far_store_txn *txn, uint64_t last_seq, struct far_error *err);
    int (*install_clear)(struct far_store_txn *txn, struct far_error *err);
    int (*install_switch)(struct far_store_txn *txn, struct far_error *err);
    int (*sync)(struct far_store *store, struct far_error *err);
    void (*close)(struct far_store *store);
};

/* First member of each implementation. */
struct far_store {
    const struct far_store_ops *ops;
    _Atomic uint64_t durable_index;
    uint64_t epoch_events; /* of the history; 0 = FAR_HISTORY_EPOCH. Tests make it short */
    uint64_t past_looks; /* rows looked at for one batch of past_copy.h; 0 = FAR_PAST_LOOKS_MAX. Tests make it small */
    uint64_t history_filled; /* batches of past_copy.h put since it was opened; the thread that writes */
    uint64_t history_bytes_max; /* 0 = FAR_HISTORY_BYTES (retain.h) */
    char *segments_dir;    /* owned; NULL: this store has no segments */
};

/* First member of each implementation's transaction. */
struct far_store_txn {
    struct far_store *store;
    bool write;
    struct far_kv *kv;
    struct far_kv *install_kv;
    struct far_kv *history; /* NULL: none is kept */
    struct far_apply_memory *memory; /* of who applies entries (apply.h), borrowed; NULL: none is kept */
    struct far_buf row; /* scratch for encoding events */
    struct far_segment_reader *segment; /* the one that was read last; NULL: none */
    struct far_store_meta meta;
};

/* A meta with nothing applied. */
void far_store_meta_init(struct far_store_meta *meta);

#endif
