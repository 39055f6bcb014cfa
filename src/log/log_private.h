/* The log from inside: shared by log.c (life, views), log_turn.c (raft and apply), log_propose.c (proposals, leadership),
 * log_peers.c (frames, state transfer) and log_members.c. Core thread, but for what says otherwise. */
#ifndef FAR_LOG_PRIVATE_H
#define FAR_LOG_PRIVATE_H

#include "log/agreement.h"
#include "log/apply_thread.h"
#include "log/cluster_clock.h"
#include "log/frames.h"
#include "log/log.h"
#include "log/past_copy.h"
#include "log/peers.h"
#include "log/proposals.h"
#include "log/raft_core.h"
#include "log/retain.h"
#include "log/segments.h"
#include "log/skip_orders.h"
#include "log/space.h"
#include "log/walk.h"
#include "log/writer.h"

enum {
    FAR_LOG_BEAT_MS = 100,     /* of the timer that looks at deadlines */
    FAR_LOG_SLOW_BEAT = 10,    /* every so many beats: marks, space, history */
    FAR_LOG_CONFIGURATIONS = 8,
    FAR_LOG_POINTS = 8,
    FAR_LOG_WAITERS_MAX = 10000,
    FAR_LOG_OWN_TIMEOUT_MS = 30 * 1000,
    FAR_LOG_MEMBER_TIMEOUT_MS = 120 * 1000,
    FAR_LOG_MEMBER_BEGIN_MS = 5000, /* then somebody else's change may be tried */
    FAR_LOG_TRANSFER_TIMEOUT_MS = 10 * 1000, /* raft gives up after an election time-out */
    FAR_LOG_INSTALL_STALL_MS = 5000,
    FAR_LOG_FULL_RETRY_MS = 500,
    FAR_LOG_PACE_MS = 2, /* between two entries of which the first is not committed yet */
    FAR_LOG_VIEW_WAIT_MS = 200, /* for the commit of what was answered */
};

/* Somebody waits for an applied index. */
struct far_waiter {
    struct far_waiter *next;
    uint64_t index;
    uint64_t deadline_ms;
    far_log_done_fn done;
    void *arg;
};

/* A committed entry that the apply thread has no room for yet. */
struct far_backlog {
    struct far_backlog *next;
    struct far_wal_entry entry; /* its blob counted */
};

struct far_configuration_at {
    uint64_t index;
    struct far_blob *blob; /* counted */
};

/* A commit of the store. */
struct far_commit_point {
    uint64_t index;
    uint64_t term;
};

/* The state comes from a peer. */
struct far_log_install {
    bool is_wanted;       /* by raft */
    bool is_receiving;    /* the manifest came */
    bool is_finishing;    /* all pieces are pushed */
    uint64_t from_id;
    uint64_t least_index;
    uint64_t pieces_taken;
    uint64_t moved_ms;    /* last progress */
    struct far_blob *manifest; /* counted, as it came */
};

/* The state goes to a peer. */
struct far_log_send {
    uint64_t peer_id; /* 0: none */
    struct far_dump dump;
    uint64_t pieces_sent;
    uint64_t pieces_taken;
    uint64_t moved_ms;
};

enum far_member_change { FAR_MEMBER_NONE, FAR_MEMBER_ADD, FAR_MEMBER_PROMOTE, FAR_MEMBER_REMOVE, FAR_MEMBER_TRANSFER };
struct far_member_op {
    enum far_member_change change;
    uint64_t id;
    char address[256];
    bool is_begun;
    uint64_t begin_deadline_ms;
    uint64_t deadline_ms;
    far_log_done_fn done;
    void *arg;
    char why[FAR_MESSAGE_MAX]; /* it could not begin yet */
};

/* An operation that was refused at once: answered in the next turn. */
struct far_refusal {
    struct far_refusal *next;
    struct far_result result;
    far_log_done_fn done;
    void *arg;
};

/* What a peer said of itself. */
struct far_log_about {
    uint64_t peer_id; /* 0: free */
    uint64_t heard_ms; /* monotonic */
    struct far_about about;
    uint64_t asked; /* commands of users that came through it, in 64ths; a 64th of it goes each second */
};

/* States of the past come from a peer (log_past_copy.c). */
struct far_log_past {
    bool is_done, is_asked, is_last;
    unsigned fruitless; /* servers asked in a row that had nothing */
    uint64_t from_id, before, moved_ms, wait_ms, later_ms;
    uint8_t next[FAR_PAST_KEY_MAX + 1]; /* the key where to go on */
    size_t next_len;
};

/* Events are sealed (log_seal.c). */
struct far_log_seal {
    struct far_log *log;
    struct far_store *store;
    struct far_seal_limits limits;
    uv_work_t work;
    bool wants_sweep;     /* remove files that no record names */
    bool is_busy;         /* on the pool: what follows, up to compact_ms, is its */
    enum { FAR_SEAL_RUN, FAR_SEAL_SWEEP, FAR_SEAL_CUT, FAR_SEAL_WALK, FAR_SEAL_COMPACT } task;
    bool is_done;
    struct far_sealer *sealer; /* NULL: no run is being sealed */
    struct far_segment segment;
    struct far_compactor *compactor; /* NULL: none is being compacted */
    struct far_compacted compacted;
    bool wants_rows; /* the next that are to be compacted are rows */
    int rv;
    struct far_error err;
    uint64_t first_seq;          /* of what is kept, as the log has decided */
    struct far_retain_cut cut;   /* what is kept long enough */
    uint64_t compact_seq, compact_ms; /* up to where progress is old enough to be compacted; 0: nowhere */
    bool compacts;        /* the last look was for what is to be compacted */
    bool take_is_pending, tidy_is_pending; /* on the apply thread */
    uint64_t look_ms;     /* when to look again whether something is due */
    uint64_t lost_told_seq; /* it was said that nobody holds what is before; 0: not yet */
    uint64_t retain_ms;   /* when to look again for what is kept long enough */
    struct far_walk walk;
    uint64_t walk_ms;     /* when to walk through the whole store again */
    uint64_t tidy_ms;     /* when to look again for what is to go */
};

struct far_log {
    struct far_log_config config; /* strings are owned copies */
    uv_loop_t *loop;
    far_log_commit_fn on_commit;
    far_log_leader_fn on_leader;
    void *arg;
    far_log_removed_fn on_removed;
    void *removed_arg;
    far_log_batch_fn on_batch;
    void *batch_arg;

    int lock_fd;    /* of the folder */
    bool is_marked; /* log.made is there */
    struct far_store *store;
    struct far_disk *disk;
    struct far_apply_thread *apply;
    struct far_writer *writer;
    struct far_raft *raft;
    struct far_peers *peers;
    struct far_space space;
    struct far_proposals proposals;
    struct far_agreement agreement;
    struct far_cluster_clock clock;
    struct far_buf scratch; /* an entry, or a frame */

    uv_timer_t raft_timer, beat, tick_timer, pace_timer;
    uv_idle_t idle; /* keeps the loop from sleeping before the turn */
    uv_check_t check;
    bool is_kicked;
    unsigned beats;
    unsigned handles; /* not closed yet */

    uint64_t leader_id, term;
    bool is_leader;
    bool leader_moved;    /* to be looked at in the turn */
    bool leader_named;    /* leader_started of this term was accepted */
    bool leader_naming;   /* it is on its way */
    bool tick_is_pending;

    uint64_t committed_index; /* of the newest entry that raft gave us */
    uint64_t applied_index, applied_term, durable_index, told_durable_index;
    uint64_t quiet_index; /* what was applied at the last slow beat */
    uint64_t first_seq, oldest_seq, last_seq; /* oldest: as in about.h */
    uint64_t cut_seq;     /* that the log decided: events before it go */
    bool compact_is_due;  /* it decided more than is compacted here */
    _Atomic uint64_t answered_index; /* of the newest command answered here, perhaps before its commit */
    _Atomic uint64_t shown_index;    /* the same without reports of nodes: of the newest that clients may ask about */
    uint64_t answering_index;        /* of the command that is being answered as it was decided; 0: none */
    uint64_t next_deadline_ms;
    uint64_t feature_level; /* of the cluster; 0: there is none yet */
    uint64_t clock_verdict, clock_off_ms; /* of the state */
    unsigned suspect_beats; /* slow ones, for which the clocks have been suspect */
    bool judging;           /* clock_judge is on its way */
    struct far_commit_point points[FAR_LOG_POINTS]; /* newest last */
    struct far_configuration_at configurations[FAR_LOG_CONFIGURATIONS]; /* newest last */
    struct far_backlog *backlog, **backlog_last;
    bool has_committed; /* since the last turn */
    uint64_t told_stored_index, told_stored_term;
    struct far_waiter *waiters;
    size_t waiter_count;
    struct far_refusal *refusals;
    uint64_t submitted_ns; /* the newest entry of ours */
    uint64_t full_since_ms; /* raft waits for space; 0: no */

    struct far_log_install install;
    struct far_log_send send;
    bool history_is_pending;
    uint64_t history_from_id; /* who is asked; 0: nobody yet */
    uint64_t history_asked_ms;
    struct far_member_op member;
    struct far_log_seal seal;
    struct far_log_past past;

    uv_mutex_t status_mutex;
    struct far_log_status status; /* ages not filled */
    bool status_is_due; /* members, clocks: to be looked at in this turn; core thread */
    struct far_log_about abouts[FAR_PEERS_MAX];
    uint64_t asked; /* of this server, as in abouts */
    uint64_t leader_heard_ms;
    uint64_t member_heard_ms[FAR_LOG_MEMBERS_MAX];

    struct far_safe *safe;
    uint64_t hold_index; /* safe mode: nothing from this entry on is applied; 0: all is well */
    uint64_t hold_hash;  /* of that entry; 0: not seen yet */
    char hold_commands[256];
    uint64_t hold_command_count;
    struct far_skip_orders skip_orders; /* that the log does not have yet */
    bool skip_order_is_proposed;
    unsigned skip_order_pause, skip_order_beats; /* beats between two tries, and until the next one */
    uint64_t hold_bytes; /* of the entries that were not applied */
    far_log_restart_fn on_restart;
    void *restart_arg;

    bool is_closing;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* log.c */
/* Do the turn at the end of this turn of the loop. */
void far_log_kick(struct far_log *log);
/* As far_log_view_begin_now(). */
int far_log_view_of(struct far_store *store, struct far_log_view *ret_view, struct far_error *err);
/* Answer a call in the next turn. */
void far_log_refuse(struct far_log *log, int klass, const char *why, far_log_done_fn done, void *arg);

/* log_made.c */
/* FAR_CORRUPT: there was a log in this folder, and it is gone. */
int far_log_check_made(struct far_log *log, struct far_error *err);
void far_log_mark_made(struct far_log *log);

/* log_about.c */
/* FAR_CONFLICT: the cluster has a feature level that this program does not know. */
int far_log_load_level(struct far_log *log, struct far_error *err);
int far_log_take_level(struct far_log *log, uint64_t level, struct far_error *err);
void far_log_send_about(struct far_log *log);
void far_log_on_about(struct far_log *log, uint64_t peer_id, struct far_slice payload);
/* A command came through this peer (0: this server); those of users are counted. */
void far_log_note_asked(struct far_log *log, uint64_t peer_id, const struct far_command *command);
void far_log_fade_asked(struct far_log *log);
/* The row of a member in the status; under the status' lock. */
void far_log_fill_about(struct far_log *log, struct far_log_member *member);

/* log_clock.c */
uint64_t far_log_cluster_now(struct far_log *log);
/* On the leader, once a second: say in the log what became of the clocks. */
void far_log_judge_clocks(struct far_log *log);

/* log_safe.c */
/* Safe mode: this entry is not applied. */
bool far_log_hold(struct far_log *log, const struct far_wal_entry *entry);
/* Once a second. In safe mode: hand leadership over, take over what others skip. Else tell the log who had an entry skipped. */
void far_log_safe_beat(struct far_log *log);
void far_log_load_skip_orders(struct far_log *log);
/* In safe mode nothing is proposed: true, and done will be called. */
bool far_log_refuse_safe(struct far_log *log, far_log_done_fn done, void *arg);

/* log_turn.c */
extern const struct far_raft_env far_log_env;
void far_log_turn(struct far_log *log);
void far_log_on_beat(struct far_log *log);
void far_log_on_outcome(void *arg, const struct far_apply_outcome *outcome);
void far_log_note_configuration(struct far_log *log, uint64_t index, struct far_blob *blob);
/* The manifest that raft gets for a commit of the store; its slices live as long as `log` is not changed. */
struct far_raft_manifest far_log_raft_manifest(const struct far_log *log, uint64_t index, uint64_t term);
void far_log_fill_status(struct far_log *log);
/* Answer those whose index is applied, or whose time is over. */
void far_log_run_waiters(struct far_log *log);
void far_log_free_backlog(struct far_log *log);

/* log_propose.c */
/* A command of the leader itself; done's arg is the log. NULL: there is no room. */
struct far_proposal *far_log_propose_own(struct far_log *log, const struct far_schema *schema, const void *object,
                                         bool is_first, far_log_done_fn done);
void far_log_answer(void *arg, const struct far_proposal *proposal, const struct far_result *result,
                    uint64_t applied_index);
void far_log_leadership(struct far_log *log); /* what follows from leader_moved */
void far_log_flush_proposals(struct far_log *log);
void far_log_schedule_tick(struct far_log *log);
void far_log_on_forward(struct far_log *log, uint64_t peer_id, struct far_slice frame);
void far_log_on_answer(struct far_log *log, struct far_slice frame);

/* log_peers.c */
void far_log_on_frame(void *arg, uint64_t peer_id, const char *address, uint16_t type, struct far_slice payload);
void far_log_on_peer(void *arg, uint64_t peer_id, bool is_connected);
void far_log_send_marks(struct far_log *log);
/* Tell the cluster's clock who votes, as far as the status knows; returns how many. */
unsigned far_log_count_clocks(struct far_log *log);
void far_log_judge(struct far_log *log);
void far_log_ask_history(struct far_log *log);
void far_log_install_beat(struct far_log *log);
void far_log_install_outcome(struct far_log *log, const struct far_apply_outcome *outcome);
void far_log_want_state(struct far_log *log);
void far_log_end_send(struct far_log *log);

/* log_past_copy.c */
void far_log_past_beat(struct far_log *log);
void far_log_past_frame(struct far_log *log, uint64_t peer_id, uint16_t type, struct far_slice payload);
void far_log_past_outcome(struct far_log *log, const struct far_apply_outcome *outcome);

/* log_retain.c */
bool far_log_retain_due(struct far_log *log, uint64_t now_ms);
int far_log_retain_look(struct far_log_seal *seal, struct far_error *err); /* on the pool */
void far_log_retain_propose(struct far_log *log);

/* log_seal.c */
void far_log_seal_start(struct far_log *log);
void far_log_seal_beat(struct far_log *log);
void far_log_seal_outcome(struct far_log *log, const struct far_apply_outcome *outcome);
bool far_log_seal_busy(const struct far_log *log); /* the store must not be closed yet */

/* log_members.c */
void far_log_member_beat(struct far_log *log);
void far_log_member_end(struct far_log *log, int klass, const char *why);

#endif
