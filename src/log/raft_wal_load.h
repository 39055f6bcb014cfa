/* Reading a WAL's folder: shared by opening and verifying. Private to the WAL. */
#ifndef FAR_LOG_RAFT_WAL_LOAD_H
#define FAR_LOG_RAFT_WAL_LOAD_H

#include "log/raft_wal.h"

struct far_wal_segment {
    uint64_t number;
    uint64_t max_index; /* of the entries that were ever written into it */
    uint64_t bytes;     /* of the file */
};

struct far_wal_scan {
    struct far_wal_segment *segments; /* owned, in order */
    size_t segment_count;
    uint64_t next_ordinal;
    uint32_t salt; /* of the last segment read */
    struct far_wal_loaded log;
    size_t log_cap;
    uint64_t trusted_index; /* given: was this entry, with this term, ever written? */
    uint64_t trusted_term;
    bool trusted_seen;
    /* The torn tail: of the last segment from this offset on; 0 = none. */
    uint64_t torn_at;
    uint64_t end_offset; /* where the last segment's records end */
    bool torn_header; /* the last segment was never finished: it goes */
    void (*report)(void *arg, bool good, const char *text); /* NULL: nobody listens */
    void *report_arg;
};

/* Read everything. FAR_CORRUPT names file and offset of the first damage. */
int far_wal_scan_read(struct far_disk *disk, struct far_wal_scan *scan, struct far_error *err);
void far_wal_scan_done(struct far_wal_scan *scan);
void far_wal_segment_name(uint64_t number, char name[FAR_DISK_NAME_MAX]);
struct far_wal_votes {
    uint64_t counter;
    uint64_t term; /* 0 in a new log, as the vote */
    uint64_t vote;
    const char *bad; /* the copy that is missing or damaged while the other is whole; NULL: none */
};
/* FAR_CORRUPT: both copies are damaged, or missing though there is a log. */
int far_wal_vote_read(struct far_disk *disk, bool has_log, struct far_wal_votes *ret_votes, struct far_error *err);

/* FAR_CORRUPT: the log ends before what was once told to be stored (trusted_… of the config). */
int far_wal_check_trust(const struct far_wal_config *config, const struct far_wal_scan *scan,
                        const struct far_wal_votes *votes, struct far_error *err);

#define FAR_WAL_VOTE_A "vote-a"
#define FAR_WAL_VOTE_B "vote-b"

#endif
