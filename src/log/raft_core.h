/* The raft driver: feeds libraft's step function and carries out what it asks (reference: raft.md of the design).
 *
 * No thread, no clock, no socket of its own: everything comes through struct far_raft_env, so that the simulator runs
 * these same lines. All calls on one thread, none from within a callback of env except where it says so. Callbacks run
 * inside the calls below. */
#ifndef FAR_LOG_RAFT_CORE_H
#define FAR_LOG_RAFT_CORE_H

#include "base/buf.h"
#include "log/blob.h"
#include "log/disk.h"
#include "log/raft_wal.h"

struct far_raft;

enum {
    FAR_RAFT_WINDOW = 8,        /* entries of our own in flight */
    FAR_RAFT_INFLIGHT = 16,     /* entries on their way to one peer */
    FAR_RAFT_TRAILING = 2048,   /* entries kept behind a snapshot for slow peers, as far as the byte bound allows */
    FAR_RAFT_TRAILING_MIN = 64, /* never fewer: below the in-flight bound libraft breaks */
    FAR_RAFT_SNAPSHOT_EVERY = 1024, /* entries */
    FAR_RAFT_ENTRY_MAX = 256 * 1024,
    FAR_RAFT_MANIFEST_MAX = 16 * 1024,
};

enum far_raft_entry_type { FAR_RAFT_COMMAND = 1, FAR_RAFT_BARRIER = 2, FAR_RAFT_CHANGE = 3 };

/* What raft knows of a state that stands for the log up to index: LMDB's at start, the one a peer streams, the one that
 * lets the log be cut. Slices are borrowed for the call. */
struct far_raft_manifest {
    uint64_t index;               /* 0: nothing was ever applied */
    uint64_t term;                /* of the entry at index */
    uint64_t configuration_index; /* at which the configuration was committed */
    struct far_slice configuration; /* as raft encodes it: the data of the RAFT_CHANGE entry */
    struct far_slice data;        /* opaque to raft, at most 1 KiB: digest and head, for checking */
};

struct far_raft_env {
    void *arg;
    uint64_t (*now_ms)(void *arg); /* monotonic */
    /* Call far_raft_timeout() at this time; replaces the one before. */
    void (*set_timer)(void *arg, uint64_t at_ms);
    /* Send a raft message (copied) to the peer; losing it is allowed, reordering is not. */
    void (*send)(void *arg, uint64_t peer_id, const char *address, struct far_slice message);
    /* An entry is committed; each index exactly once, in order, from the manifest's at start. */
    void (*on_commit)(void *arg, const struct far_wal_entry *entry);
    /* Leadership or the term moved. leader_id 0: none known. */
    void (*on_leader)(void *arg, uint64_t leader_id, uint64_t term, bool is_self);
    /* A state must be fetched from the peer: at this index or a later one. Then far_raft_installed(). Until then entries
     * are not taken. */
    void (*on_install)(void *arg, uint64_t from_id, const struct far_raft_manifest *manifest);
    /* The process must end: memory and disk may be apart. */
    void (*on_fatal)(void *arg, const struct far_error *err);
    /* The disk is full: nothing is stored until far_raft_retry(). */
    void (*on_full)(void *arg, const struct far_error *err);
};

struct far_raft_config {
    uint64_t id;
    const char *address;
    uint64_t election_ms; /* 0 = 1,000 */
    uint32_t seed;        /* of the election jitter */
    struct far_disk *disk;
    struct far_wal_executor executor;
    struct far_raft_manifest manifest; /* LMDB's durable one at start */
    bool installed;          /* the manifest's state was installed from a peer: a WAL that ends before it is reset */
    uint64_t trusted_index;  /* as in far_wal_config */
    uint64_t trusted_term;
    uint64_t cache_bytes_max; /* of entries kept for slow peers; 0 = 24 MiB */
    uint64_t segment_bytes;   /* of the WAL; 0 = FAR_WAL_SEGMENT_BYTES */
};

/* Write an empty folder so that the first start leads a cluster of one; the state must then be at index (and
 * configuration_index) FAR_RAFT_BOOTSTRAP_INDEX, term 1, with ret_configuration (appended, at most
 * FAR_RAFT_MANIFEST_MAX). Not index 1: libraft takes a snapshot at 1 for an entry that it could send. FAR_CONFLICT: there
 * is a log. Blocking. */
enum { FAR_RAFT_BOOTSTRAP_INDEX = 2, FAR_RAFT_BOOTSTRAP_TERM = 1 };
int far_raft_bootstrap(struct far_disk *disk, uint64_t id, const char *address, struct far_buf *ret_configuration,
                       struct far_error *err);

/* Where a log ends; who holds the most is the one with the greatest (last_term, last_index). */
struct far_raft_end {
    uint64_t last_term;
    uint64_t last_index;
    uint64_t term; /* the highest that the server knows of */
};
/* < 0, 0, > 0: a holds less, as much, more than b. */
int far_raft_end_compare(const struct far_raft_end *a, const struct far_raft_end *b);
/* The same as far_raft_bootstrap() for a state that is there already: the log begins after at->last_index (of last_term),
 * the first leader leads in at->term or later. For a cluster that is restored. */
int far_raft_found(struct far_disk *disk, uint64_t id, const char *address, const struct far_raft_end *at,
                   struct far_buf *ret_configuration, struct far_error *err);

/* Forced recovery (DESIGN.md section 6) of a log that nobody has open; of the config only id, address, disk, manifest,
 * installed and trusted_… count. The caller has made the new incarnation durable before, and has every stream greet
 * with it: nothing here keeps servers of the old one away.
 *
 * far_raft_find_end() reads only; each (may be NULL) gets the entries behind the manifest's index, in order, whether they
 * were committed or not: they are what a recovery keeps. FAR_CORRUPT: the log must not be trusted, as in far_raft_open(). */
typedef int (*far_raft_entry_fn)(void *arg, const struct far_wal_entry *entry, struct far_error *err);
int far_raft_find_end(const struct far_raft_config *config, far_raft_entry_fn each, void *arg,
                      struct far_raft_end *ret_end, struct far_error *err);
/* The next start leads a cluster of this server alone, with all that is in its log, in start_term or a later one, which is
 * the greatest far_raft_end.term of the survivors + FAR_RAFT_RECOVERY_TERMS. What an interrupted call left is finished by
 * the next one with the same start_term; before, the log is the old one or (term and vote) one that does no harm. */
enum { FAR_RAFT_RECOVERY_TERMS = 1000000 };
int far_raft_recover(const struct far_raft_config *config, uint64_t start_term, struct far_error *err);

/* Loads the WAL and starts. FAR_CORRUPT: the log must not be trusted; this server may not vote under its id again. */
int far_raft_open(const struct far_raft_config *config, const struct far_raft_env *env, struct far_raft **ret_raft,
                  struct far_error *err);
/* The executor must have no job left: see far_raft_busy(). */
void far_raft_close(struct far_raft *raft);
/* A write is under way. After far_raft_stop() nothing new is begun. */
bool far_raft_busy(const struct far_raft *raft);
void far_raft_stop(struct far_raft *raft);

void far_raft_timeout(struct far_raft *raft);
/* A message of a verified peer. Malformed: FAR_INVALID, the stream should end. */
int far_raft_receive(struct far_raft *raft, uint64_t from_id, const char *from_address, struct far_slice message,
                     struct far_error *err);
void far_raft_retry(struct far_raft *raft);

/* The index and term that the next entry submitted here will have; FAR_NOT_LEADER. */
int far_raft_next(struct far_raft *raft, uint64_t *ret_index, uint64_t *ret_term, struct far_error *err);
/* Submit one command entry (copied; a multiple of 8 bytes, at most FAR_RAFT_ENTRY_MAX). FAR_NOT_LEADER, FAR_BUSY:
 * FAR_RAFT_WINDOW entries of ours are not committed yet. */
int far_raft_submit(struct far_raft *raft, struct far_slice data, struct far_error *err);
/* Entries of ours that are not committed. */
size_t far_raft_in_flight(const struct far_raft *raft);

/* The state is durable as the manifest says: the log before it may be cut. Cheap; call it as often as that moves. */
void far_raft_durable(struct far_raft *raft, const struct far_raft_manifest *manifest);
/* What on_install asked for was switched in, durably. */
void far_raft_installed(struct far_raft *raft, const struct far_raft_manifest *manifest);

/* Membership (leader only). 0: submitted or begun; FAR_BUSY: not now, try again; poll far_raft_status(). By the rules of
 * raft.md section 8: one at a time, after an entry of the own term, every voter up to the last configuration. */
int far_raft_add(struct far_raft *raft, uint64_t id, const char *address, struct far_error *err);     /* as standby */
int far_raft_promote(struct far_raft *raft, uint64_t id, struct far_error *err);                        /* to voter */
int far_raft_remove(struct far_raft *raft, uint64_t id, struct far_error *err);
int far_raft_transfer(struct far_raft *raft, uint64_t id, struct far_error *err);

enum { FAR_RAFT_MEMBERS_MAX = 16 };
struct far_raft_member {
    uint64_t id;
    char address[256];
    bool voter;
    uint64_t match_index; /* leader only */
    uint64_t heard_ms;    /* env.now_ms when a message of it came last; 0 = never */
};
struct far_raft_status {
    uint64_t leader_id;
    uint64_t term;
    bool is_leader;
    bool ready; /* leader that has committed an entry of its own term */
    bool is_offered; /* leader that offered its place to another in this term: that one may lead at once, without a time-out */
    uint64_t commit_index;
    uint64_t last_index;
    uint64_t stored_index;
    uint64_t stored_term;
    uint64_t leader_heard_ms; /* env.now_ms of the last word of a leader; on the leader: when a majority last answered */
    uint64_t transferee; /* leadership is being handed to it; 0 = no */
    bool installing;
    bool configuration_pending;   /* the members below are proposed, not committed yet */
    uint64_t configuration_index; /* of the last committed membership */
    size_t member_count;
    struct far_raft_member members[FAR_RAFT_MEMBERS_MAX];
};
void far_raft_status(struct far_raft *raft, struct far_raft_status *ret_status);
/* Of that, what changes with every step: cheap. */
struct far_raft_place {
    uint64_t leader_id;
    uint64_t term;
    bool is_leader;
    bool ready;
    bool is_offered;
    uint64_t commit_index;
    uint64_t last_index;
    uint64_t stored_index;
    uint64_t stored_term;
    uint64_t leader_heard_ms;
};
void far_raft_place(struct far_raft *raft, struct far_raft_place *ret_place);

#endif
