/* The log: propose commands, read the state and the events, know who leads.
 *
 * far_log_open() starts the machinery of section 5 of the design on the caller's uv loop (the core thread): batcher, raft
 * driver, peers' network; and two threads of its own: the WAL writer and the apply thread. Unless a function says "any
 * thread", it is for the core thread. Callbacks run on the core thread, exactly once, never before the call that
 * registered them returns. Disk errors other than a full disk abort the process (design, section 5). */
#ifndef FAR_LOG_LOG_H
#define FAR_LOG_LOG_H

#include "fsm/fsm.h"
#include "log/about.h"

#include <uv.h>

struct far_log;
struct far_moment; /* base/moment.h */
struct far_net; /* net/net.h: identity and certificates of this server */

struct far_log_config {
    const char *dir;           /* its folder: WAL under dir/wal, LMDB under dir/state; flocked */
    uint64_t server_id;        /* raft id: the id of its row in the state; never reused */
    const char *address;       /* host:port where peers reach it (port 5001) */
    struct far_net *net;       /* borrowed; the listener hands raft streams to far_log_accept() */
    uint64_t election_ms;      /* the same on all servers; 0 = 700 */
    uint64_t wal_bytes_max;    /* kept behind the durable index for slow peers; 0 = 32 MiB */
    uint64_t reserve_bytes;    /* of the reserve file for a full disk; 0 = 64 MiB */
    uint64_t low_space_bytes;  /* first watermark: user commands get `limit` below it; 0 = 256 MiB */
    uint64_t full_space_bytes; /* second watermark: nothing but cluster commands below it; 0 = 64 MiB */
    size_t map_bytes;          /* LMDB's address space; 0 = 1 TiB */
    uint64_t feature_level_max; /* what it says that it supports, to hold the cluster back; 0 = all that the program does */
    uint64_t events_max;       /* so many of the newest events stay in LMDB; 0 = 1,000,000 */
    uint64_t segment_events;   /* older ones are sealed in segments of so many; 0 = 262,144 */
    uint64_t segment_bytes;    /* or of so many bytes; 0 = 64 MiB */
    uint64_t epoch_events;     /* a state of the past is kept every so many events (history.h); 0 = 8,192 */
};

/* Bootstrap an empty folder as the first server of a new cluster: writes WAL and LMDB so that the first start leads a
 * cluster of one. FAR_CONFLICT if the folder holds a log already. */
int far_log_bootstrap(const struct far_log_config *config, struct far_error *err);

/* Called after each commit of the apply thread with the new applied index and last event seq; coalesced. */
typedef void (*far_log_commit_fn)(void *arg, uint64_t applied_index, uint64_t last_seq);
/* Leadership moved; leader_id 0: nobody is known to lead. */
typedef void (*far_log_leader_fn)(void *arg, uint64_t leader_id, uint64_t term, bool is_self);

int far_log_open(const struct far_log_config *config, uv_loop_t *loop, far_log_commit_fn on_commit,
                 far_log_leader_fn on_leader, void *arg, struct far_log **ret_log, struct far_error *err);
/* Stops, waits for its threads, frees; done runs on the loop. Outstanding proposals end with FAR_UNKNOWN_OUTCOME. */
void far_log_close(struct far_log *log, void (*done)(void *arg), void *arg);

/* result is borrowed for the call. applied_index: what to pass as min_index to read one's own write. */
typedef void (*far_log_done_fn)(void *arg, const struct far_result *result, uint64_t applied_index);

/* Propose a command (copied) on any server: a follower passes it to the leader, whose answer comes back. The leader stamps
 * proposed_at_ms. Answered when fsynced on a majority and decided; FAR_UNKNOWN_OUTCOME when leadership or the connection
 * was lost after it was sent; FAR_BUSY when no leader is known or the queue is full (10,000 commands or 16 MiB);
 * FAR_LIMIT below the watermarks; FAR_TIMEOUT after timeout_ms. */
void far_log_propose(struct far_log *log, const struct far_command *command, uint64_t timeout_ms, far_log_done_fn done,
                     void *arg);

/* A consistent view of what is committed: any thread, never across turns of a loop. */
struct far_log_view {
    struct far_state state;      /* read only */
    uint64_t applied_index;
    uint64_t last_seq;           /* of the newest event; 0 = none */
    uint64_t first_seq;          /* of the oldest one kept */
    uint64_t compacted_seq;      /* up to here progress may be compacted (log/compact.h) */
    uint8_t head[32];            /* chain head after last_seq */
    uint8_t base_head[32];       /* chain head before first_seq */
    struct far_hash128 digest;   /* as kept incrementally */
    void *transaction;           /* private */
    void *past;                  /* private */
};
int far_log_view_begin(struct far_log *log, struct far_log_view *ret_view, struct far_error *err);
/* The same without waiting for the commit of what nodes reported: for clients, who were not told of that. Where much is reported, some
 * report is always being committed. */
int far_log_view_begin_shown(struct far_log *log, struct far_log_view *ret_view, struct far_error *err);
/* The same without waiting for the commit of what was answered here: perhaps some milliseconds older. For the core thread
 * after a commit, and for who asks (tokens), whom that does not matter. */
int far_log_view_begin_now(struct far_log *log, struct far_log_view *ret_view, struct far_error *err);
void far_log_view_end(struct far_log_view *view);
/* Any thread, before the log is closed: somebody begins, or ceases, to follow what is committed here (a stream of events, a
 * node that gets orders). While nobody does, nobody has read here for a second, and much comes of what comes in masses, it
 * is committed up to two seconds late; the first read, and one that names what it wants to see, have it committed at once. */
void far_log_follow(struct far_log *log, bool begins);
/* Turn a view into one of the past: state, digest, head, applied_index and last_seq become those behind the moment's last
 * event. Folds at most FAR_HISTORY_EPOCH events and some, in memory, so not for a thread that others wait for. FAR_NOT_FOUND:
 * this server no longer holds what that needs, or the moment is yet to come. On failure only end it. */
int far_log_view_past(struct far_log_view *view, const struct far_moment *moment, struct far_error *err);
/* The newest stretch of events, from the first to the last inclusive, that begins before event `before` and in which the row
 * under this key of the state changed. FAR_NOT_FOUND: none that is known here. */
int far_log_view_changed(struct far_log_view *view, struct far_slice key, uint64_t before, uint64_t *ret_from,
                         uint64_t *ret_to, struct far_error *err);
/* As far_export_piece (log/export.h), up to the last event of a moment: *ret_until. */
int far_log_view_export(struct far_log_view *view, uint64_t from, const struct far_moment *until, size_t bytes_max,
                        struct far_buf *out, uint64_t *ret_next, uint64_t *ret_until, struct far_error *err);
/* The event with this seq, its payload in the arena; ret_head (may be NULL) the chain head after it. FAR_NOT_FOUND
 * outside [first_seq, last_seq]; FAR_CORRUPT if its bytes are not what was written. */
int far_log_view_event(struct far_log_view *view, uint64_t seq, struct far_arena *arena, struct far_event *ret_event,
                       uint8_t ret_head[32], struct far_error *err);

/* Many answers are about to be given, one after the other; the next call says that they were. Core thread. */
typedef void (*far_log_batch_fn)(void *arg, bool begins);
void far_log_on_batch(struct far_log *log, far_log_batch_fn on_batch, void *arg);

/* Calls done (result->klass 0) when this server has applied everything that was committed anywhere before the call. */
void far_log_barrier(struct far_log *log, uint64_t timeout_ms, far_log_done_fn done, void *arg);
/* Calls done when applied_index >= index. */
void far_log_wait_index(struct far_log *log, uint64_t index, uint64_t timeout_ms, far_log_done_fn done, void *arg);

enum { FAR_LOG_MEMBERS_MAX = 16, FAR_LOG_REMOVED_ASK_MAX = 1024 };
struct far_log_member {
    uint64_t id;
    char address[256];
    int role;             /* enum far_server_role: standby or voter */
    bool connected;       /* this server has a stream to it */
    uint64_t match_index; /* leader only: what it is known to hold */
    uint64_t contact_age_ms;
    struct far_about about; /* what it said of itself last; wall_ms 0: nothing yet */
    uint64_t about_age_ms;  /* UINT64_MAX: it never did */
    enum { FAR_DIGEST_UNKNOWN, FAR_DIGEST_EQUAL, FAR_DIGEST_DIFFERS } digest_state; /* to this server's at the same entry */
    uint64_t asked; /* leader only: commands of users that came through it, halved every 44 s */
    bool has_clock;
    int64_t clock_offset_ms; /* its wall clock minus the median of the voters' */
};
struct far_log_status {
    uint64_t server_id;
    uint64_t leader_id; /* 0 = none known */
    uint64_t term;
    bool is_leader;
    uint64_t commit_index;
    uint64_t applied_index;
    uint64_t durable_index;        /* of LMDB */
    uint64_t last_index;           /* with last_term: where its log on the disk ends, committed or not */
    uint64_t last_term;
    uint64_t leader_contact_age_ms; /* 0 on the leader */
    bool stale;                    /* age beyond the election time-out */
    uint64_t free_bytes;           /* of its disk */
    uint64_t feature_level;        /* of the cluster; 0: there is none yet */
    uint64_t safe_index;           /* safe mode: nothing from this entry on is applied; 0: all is well */
    uint64_t safe_hash;            /* XXH3-64 of that entry; 0: it has not been seen since the start */
    char safe_commands[256];       /* kinds of its commands */
    uint64_t safe_command_count;   /* as far as they can be read */
    int64_t clock_offset_ms;       /* the median of the voters' clocks minus cluster time, as of the last stamp here */
    bool clock_is_suspect;         /* that is more than 10 s, and it was not corrected: calendar deadlines wait */
    size_t member_count;
    struct far_log_member members[FAR_LOG_MEMBERS_MAX]; /* the configuration in force */
};
/* Any thread. */
void far_log_status(struct far_log *log, struct far_log_status *ret_status);
/* What every answer says, without the members. Any thread. */
struct far_log_glance {
    uint64_t server_id;
    uint64_t applied_index;
    uint64_t committed_index; /* of the store: as long as it stays the same, so does what a view shows */
    bool is_stale;
};
void far_log_glance(struct far_log *log, struct far_log_glance *ret_glance);

/* Cluster time as near as this server knows it: it runs on by its own clock from what the log said, however far that lags.
 * 0: it has heard nothing yet. Core thread only. */
uint64_t far_log_now_ms(struct far_log *log);

/* Membership (leader only, else FAR_NOT_LEADER), by the rules of reference/raft.md section 8: one change at a time,
 * every voter reachable and up to date. add makes a standby; promote waits for catch-up; remove refuses the leader. What cannot
 * begin within 5 s is FAR_BUSY. */
void far_log_member_add(struct far_log *log, uint64_t id, const char *address, far_log_done_fn done, void *arg);
void far_log_member_promote(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg);
void far_log_member_remove(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg);
/* The change of that server that is under way, if there is one, ends with FAR_CANCELED, within the call. */
void far_log_member_give_up(struct far_log *log, uint64_t id);
void far_log_transfer(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg);

/* Safe mode (log/safe.h): have the entry skipped that this server and every other member hold before. FAR_CONFLICT: this
 * server is not in safe mode at this entry, or a member applied it (then that is no fault of the entry: replace this server).
 * FAR_BUSY: a member does not say so; is_forced: a majority of the voters that does is enough. On success it is kept, the
 * others take it over, and on_restart is called: the server is to start anew. Who wanted it is kept as well, and told to the log
 * when this server is past the entry (skip_orders.h). is_dry_run: everything is checked and nothing kept. skip is copied. */
struct far_log_skip {
    uint64_t index;
    uint64_t hash;
    bool is_forced;
    bool is_dry_run;
    uint64_t token_id;   /* of whom asks */
    char token_name[64]; /* longer ones are cut */
    char reason[401];    /* UTF-8; empty: none was given */
};
void far_log_skip_entry(struct far_log *log, const struct far_log_skip *skip, far_log_done_fn done, void *arg);
typedef void (*far_log_restart_fn)(void *arg);
/* The log must not be closed within the call. */
void far_log_on_restart(struct far_log *log, far_log_restart_fn on_restart, void *arg);

struct far_stream;
/* A peer says that this server was removed from the cluster; ask: addresses of servers that users may ask, separated by
 * commas. The log must not be closed within the call. Before the first stream. */
typedef void (*far_log_removed_fn)(void *arg, const char *ask);
void far_log_on_removed(struct far_log *log, far_log_removed_fn on_removed, void *arg);
/* Tell a server that the state says is removed so, on its streams if it has any (and on this one, which it dialed and
 * which is taken; NULL: none), end them and dial it no more. */
void far_log_dismiss(struct far_log *log, uint64_t peer_id, struct far_stream *stream, const char *ask);

/* This server must not go on: say why and abort, so that its supervisor tells. Any thread. */
void far_log_stop_server(const char *area, const char *why) __attribute__((noreturn));

/* An accepted stream of a server with this verified id, from the listener on port 5001; the log takes it. */
void far_log_accept(struct far_log *log, uint64_t peer_id, struct far_stream *stream);

/* Offline, any thread: open a folder that no server has open, recompute the chain from the events, the state as their
 * fold, the digest from the bytes, every checksum of the WAL; report is called with each finding in words. 0 = all
 * equal; FAR_CORRUPT = at least one finding. */
int far_log_verify(const char *dir, void (*report)(void *arg, bool good, const char *text), void *arg,
                   struct far_error *err);

#endif
