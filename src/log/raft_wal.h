/* The write-ahead log: raft's entries, term and vote, on one folder of a far_disk.
 *
 * Entries are appended to segment files and never changed in place: an entry whose index was there before replaces it
 * and everything behind it, a reset makes the log empty after an index. What is appended while a write is under way
 * goes out with the next one, as one record with one checksum, and the next record is written only when the one
 * before is synced. So a bad record with nothing valid behind it is a torn tail that nobody was told of; anything else that
 * is bad is damage: the open fails with FAR_CORRUPT and names file and offset.
 *
 * Term and vote are kept twice, each copy synced before the next is written.
 *
 * Core thread only, but for the jobs: they do the blocking work, wherever the executor runs them, one at a time. The WAL
 * knows no thread and no clock, so the simulator runs these same lines. Any failure but a full disk is reported through
 * on_fatal, once; nothing is stored after it. A full disk is tried again by far_wal_retry(). */
#ifndef FAR_LOG_RAFT_WAL_H
#define FAR_LOG_RAFT_WAL_H

#include "log/blob.h"
#include "log/disk.h"

struct far_wal;

enum { FAR_WAL_SEGMENT_BYTES = 8 * 1024 * 1024, FAR_WAL_ENTRY_MAX = 1024 * 1024 };

/* Work for the writer: run may block and belongs to the writer until it returned; then done, on the core thread. */
struct far_wal_job {
    void (*run)(struct far_wal_job *job);
    void (*done)(struct far_wal_job *job);
};
struct far_wal_executor {
    void *arg;
    void (*submit)(void *arg, struct far_wal_job *job);
};

struct far_wal_entry {
    uint64_t index;
    uint64_t term;
    uint8_t type;          /* raft's: 1 command, 2 barrier, 3 configuration */
    struct far_blob *blob; /* counted */
};

/* What has become durable: the entries of the run first_index, first_index + 1, … with these terms, as the last writing
 * left them (part of them may have been replaced in memory since). */
struct far_wal_stored {
    uint64_t first_index;
    const uint64_t *terms; /* borrowed for the call */
    size_t count;          /* 0: only a reset */
};

struct far_wal_config {
    struct far_disk *disk; /* borrowed */
    struct far_wal_executor executor;
    size_t segment_bytes;    /* 0 = FAR_WAL_SEGMENT_BYTES */
    uint32_t salt;           /* random, of the segments made from now on (docs/FORMATS.md) */
    /* Highest index and term that were ever reported stored, as LMDB remembers them: a log that ends before is FAR_CORRUPT.
     * 0: nothing is known. */
    uint64_t trusted_index;
    uint64_t trusted_term;
    /* A state was installed at this index (and LMDB has it): a log that ends before is reset to it. 0: none. */
    uint64_t installed_index;
    uint64_t installed_term;
    void (*on_stored)(void *arg, const struct far_wal_stored *stored);
    void (*on_full)(void *arg, const struct far_error *err);
    void (*on_fatal)(void *arg, const struct far_error *err);
    void *arg;
};

struct far_wal_loaded {
    uint64_t term; /* 0: a new log */
    uint64_t vote;
    uint64_t base_index; /* the entry before the first one; 0 in a new log */
    uint64_t base_term;  /* of base_index if it was given by a reset, else 0 */
    struct far_wal_entry *entries; /* base_index + 1, …; array and references are the caller's */
    size_t count;
};

/* Blocking. Cuts a torn tail off. */
int far_wal_open(const struct far_wal_config *config, struct far_wal **ret_wal, struct far_wal_loaded *ret_loaded,
                 struct far_error *err);
/* Begin nothing new; a job under way still ends, unnoticed. */
void far_wal_stop(struct far_wal *wal);
/* Only when no job is under way (see far_wal_busy). */
void far_wal_close(struct far_wal *wal);
bool far_wal_busy(const struct far_wal *wal);
void far_wal_loaded_done(struct far_wal_loaded *loaded);

/* Blocking: durable when it returns. */
int far_wal_set_vote(struct far_wal *wal, uint64_t term, uint64_t vote, struct far_error *err);
/* Takes references of its own. far_wal_write() must follow, then on_stored does. */
int far_wal_append(struct far_wal *wal, const struct far_wal_entry *entries, size_t count, struct far_error *err);
/* Begin to write what was appended, unless a job is under way, whose end begins it. */
void far_wal_write(struct far_wal *wal);
/* The log is empty after index (of this term): a state was installed. Old segments go when that is durable. */
int far_wal_reset(struct far_wal *wal, uint64_t index, uint64_t term, struct far_error *err);
/* Entries up to index are not needed any more: whole segments before it go. */
void far_wal_cut(struct far_wal *wal, uint64_t index);
/* Try a write that failed for want of space again. */
void far_wal_retry(struct far_wal *wal);
/* Bytes of its segments. */
uint64_t far_wal_bytes(const struct far_wal *wal);

/* Blocking, for a WAL that is not open: read everything, report each segment and every damage in words, also a log that ends
 * before what was stored. Of the config only disk, trusted_… and installed_… count. FAR_CORRUPT if
 * there was any. */
int far_wal_verify(const struct far_wal_config *config, void (*report)(void *arg, bool good, const char *text), void *arg,
                   struct far_error *err);

/* The records of one segment, for fuzzing: FAR_CORRUPT unless all of it is well formed. Pure. */
int far_wal_parse_segment(struct far_slice bytes, struct far_error *err);

#endif
