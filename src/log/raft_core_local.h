/* What the files of the raft driver share. Private to raft_core*.c. */
#ifndef FAR_LOG_RAFT_CORE_LOCAL_H
#define FAR_LOG_RAFT_CORE_LOCAL_H

#include "log/raft_cache.h"
#include "log/raft_codec.h"
#include "log/raft_core.h"

#if !defined(RAFT_VERSION_NUMBER) || RAFT_VERSION_NUMBER != 2201
#error "libraft must be 0.22.1: see configure and docs/HACKING.md"
#endif

enum { FAR_RAFT_PENDING_MAX = 64 };

struct far_raft_heard {
    uint64_t id;
    uint64_t at_ms;
    uint16_t capacity; /* KiB that it can store for sure, as it said last */
    bool has_capacity;
};

struct far_raft {
    struct raft raft;
    struct raft_tracer tracer;
    uint64_t id;
    char address[256];
    uint64_t election_ms;
    uint32_t seed;
    struct far_raft_env env;
    struct far_disk *disk;
    struct far_wal *wal;
    struct far_raft_cache cache;
    uint64_t cache_bytes_max;
    struct far_buf out; /* the message being encoded */
    bool stepping;
    bool stopped;
    bool dead;

    uint64_t delivered_index; /* handed to on_commit */
    uint64_t stored_index;
    uint64_t stored_term;
    uint64_t pending_configurations[FAR_RAFT_PENDING_MAX]; /* committed, not yet told to raft */
    size_t pending_count;

    uint64_t told_leader;
    uint64_t told_term;
    bool told_self;
    bool own_term_committed;
    uint64_t leader_since_ms;
    uint64_t leader_heard_ms;
    uint64_t offered_term; /* the last term in which leadership was offered to another; 0 = none */
    struct far_raft_heard heard[FAR_RAFT_MEMBERS_MAX];

    /* The manifest that raft knows as its snapshot. */
    uint64_t snapshot_index;
    uint64_t snapshot_term;
    uint64_t snapshot_conf_index;
    struct far_buf snapshot_conf;
    struct far_buf snapshot_data;

    bool installing;   /* a state is being fetched, or switched in; libraft does not know of it */
    bool reset_wanted; /* the WAL is being emptied for what was installed */
    bool full;         /* the WAL waits for space */
    uint64_t free_bytes;  /* of the disk, as of a moment ago */
    uint64_t free_at_ms;  /* when it was asked; 0: never */
};

/* The process must end; returns klass. */
int far_raft_die(struct far_raft *raft, int klass, const char *what, const char *why);
uint16_t far_raft_capacity(struct far_raft *raft);
/* Fill in what libraft leaves to us, encode, send. Not 0: dead. */
int far_raft_send_message(struct far_raft *raft, struct raft_message *message);
/* Step, carry out, and step what follows from it. Not 0: a code of libraft (SUBMIT, TRANSFER), or dead. */
int far_raft_step(struct far_raft *raft, struct raft_event *event);
void far_raft_on_stored(void *arg, const struct far_wal_stored *stored);
void far_raft_on_wal_fatal(void *arg, const struct far_error *err);
void far_raft_on_wal_full(void *arg, const struct far_error *err);
/* What a WAL has to know of the state, and its disk; who it tells is left out. */
struct far_wal_config far_raft_wal_config(const struct far_raft_config *config);
/* Do the log and the state fit together? FAR_CORRUPT. */
int far_raft_check_fit(const struct far_raft_manifest *manifest, const struct far_wal_loaded *log, struct far_error *err);
/* A new struct raft; far_raft_load() then starts it. FAR_LIMIT: no memory. */
int far_raft_init_library(struct far_raft *raft, struct far_error *err);
/* START from the manifest that is kept (index 0: none), the cache, and this term and vote. */
int far_raft_load(struct far_raft *raft, uint64_t term, uint64_t vote, struct far_error *err);
/* The WAL is empty for the installed state: start libraft again from it. */
void far_raft_finish_install(struct far_raft *raft);
/* Copy a manifest into snapshot_*. FAR_LIMIT. */
int far_raft_keep_manifest(struct far_raft *raft, const struct far_raft_manifest *manifest);

#endif
