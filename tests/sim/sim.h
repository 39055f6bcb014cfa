/* The simulation: real WAL, raft driver, codec, envelope, apply and store on a simulated network, disk and clock.
 *
 * One seed makes everything: a heap of events in virtual time, one thread, no real clock. Machines (disks) outlive servers
 * (ids), servers outlive lives (from open to crash). The checkers (sim_check.c) stand outside and see only what servers
 * deliver, apply and answer. docs/SIMULATION.md says how to run and replay. */
#ifndef FAR_SIM_H
#define FAR_SIM_H

#include "log/apply.h"
#include "log/cluster_clock.h"
#include "log/frames.h"
#include "log/head_duty.h"
#include "log/layers.h"
#include "log/past_copy.h"
#include "log/proposals.h"
#include "log/raft_core.h"
#include "log/retain.h"
#include "log/snapshot.h"
#include "node/leases.h"
#include "sim_count.h"

#include <stdio.h>

enum { SIM_MACHINES = 6, SIM_CLIENTS_MAX = 8, SIM_KEYS_MAX = 40, SIM_QUEUE_MAX = 4096 };
enum { SIM_MS = 1000, SIM_SECOND = 1000 * 1000 }; /* in microseconds of virtual time */
#define SIM_START_MS 1700000000000 /* what true clocks show at the beginning */

/* What is broken on purpose, so that the checkers can be seen to raise the alarm. */
enum sim_broken {
    SIM_SOUND,
    SIM_BROKEN_SYNC,  /* "answer before fsync": every second sync of a segment does nothing, and says that it did */
    SIM_BROKEN_VOTE,  /* "forget a vote": every second sync of a vote file does nothing */
    SIM_BROKEN_APPLY, /* one server comes to another state now and then */
    SIM_BROKEN_TERM,  /* "skip the term check": messages of an older term are taken as if they were of the newest */
    SIM_BROKEN_TWICE, /* "apply twice": a server that starts again applies its last entry again, memory of commands aside */
    SIM_BROKEN_EVENT, /* "drop an event": a stream to a consumer leaves one out now and then */
    SIM_BROKEN_ID,    /* "reuse a command id": a client gives a new command the id of an earlier one */
    SIM_BROKEN_LEASE, /* "expire leases on a leader change": no leader says that it has started */
    SIM_BROKEN_HEAD,  /* a leader proposes another head than its own to be signed */
    SIM_BROKEN_COMPACT, /* a server compacts events that the log did not decide */
};

/* What is drawn from the seed before anything happens: sizes, speeds, and which faults there are (sim_swarm.c). */
enum sim_fault {
    SIM_FAULT_CUT_OFF,   /* one machine alone, or one direction of one pair */
    SIM_FAULT_BREAK,     /* a connection is broken */
    SIM_FAULT_BLACKOUT,  /* power cut everywhere */
    SIM_FAULT_DELAY,     /* messages take longer from now on */
    SIM_FAULT_KILL,
    SIM_FAULT_POWER,
    SIM_FAULT_DISK_DIES, /* power cut in the middle of a write */
    SIM_FAULT_SLOW,
    SIM_FAULT_FULL,
    SIM_FAULT_CLOCK,     /* one wall clock jumps by a minute, hours or years */
    SIM_FAULT_MEMORY,    /* a disk is lost */
    SIM_FAULT_FLIP,      /* a bit of the log is flipped */
    SIM_FAULT_MISDIRECT, /* a write goes elsewhere on the disk */
    SIM_FAULT_LOSE,      /* a write is acknowledged and never done */
    SIM_FAULT_ROW,       /* a bit of a row is flipped */
    SIM_FAULTS,
};
struct sim_swarm {
    unsigned servers;      /* voters at the start */
    unsigned clients;
    unsigned consumers;
    unsigned nodes;
    uint64_t lease_ms;
    unsigned keys;
    unsigned read_percent;
    uint64_t think_us;     /* between two operations of a client, at most */
    uint64_t election_ms;
    uint64_t delay_us;     /* of messages, at most, at the start */
    unsigned drop_permille; /* of messages, in trouble */
    uint64_t disk_us;      /* of a write, at most */
    uint64_t apply_us;     /* from commit to apply, at most */
    unsigned apply_group;  /* entries in one transaction, at most */
    uint64_t layer_us;     /* from applying to a layer to its commit, at most; 0: no layers */
    uint64_t cache_bytes;  /* of entries for slow peers */
    uint64_t segment_bytes; /* of the WAL; 0 = as in production: nobody fills one in a simulated minute */
    uint64_t fault_us;     /* between two faults, at most */
    unsigned weights[SIM_FAULTS]; /* 0: this fault is not made */
    bool membership;       /* the number of voters changes */
    bool heads;            /* servers are in the state, and sign heads of the log */
    uint64_t head_events;  /* a new one after so many events */
    uint64_t head_ms;      /* or so long after the first */
    bool retention;        /* old events are cut now and then */
    unsigned compact_rows; /* events of superseded progress are compacted, so many at a time; 0: none */
    uint64_t past_looks;   /* rows in a batch of them */
    uint64_t epoch_events; /* servers keep states of the past, in epochs of so many; 0: none */
    unsigned coup_percent; /* of elections */
    unsigned blackout_permille; /* of answers */
};

struct sim;
typedef void (*sim_event_fn)(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob);

struct sim_event {
    uint64_t at_us;
    uint64_t order;
    sim_event_fn fn;
    void *object;
    uint64_t a, b;
    struct far_blob *blob; /* owned, may be NULL */
};

/* ---- disk (sim_disk.c) ---- */

struct sim_disk;
struct sim_disk *sim_disk_new(struct sim *sim);
void sim_disk_free(struct sim_disk *disk);
struct far_disk *sim_disk_base(struct sim_disk *disk);
/* Nothing works any more until the crash is over. */
void sim_disk_die(struct sim_disk *disk);
/* Die at the n-th operation that changes something. */
void sim_disk_die_after(struct sim_disk *disk, uint64_t operations);
bool sim_disk_dead(const struct sim_disk *disk);
/* power_cut: of what was not synced any subset is lost; else all of it is kept. Works again afterwards. */
void sim_disk_crash(struct sim_disk *disk, bool power_cut);
bool sim_disk_torn(const struct sim_disk *disk); /* a write was torn by the last crash: it is mended at the next start */
void sim_disk_wipe(struct sim_disk *disk);
/* What is durable on one disk becomes all that is on another. */
void sim_disk_copy(struct sim_disk *to, const struct sim_disk *from);
void sim_disk_set_full(struct sim_disk *disk, bool full);
/* Flip a bit of the n-th byte of a durable file that holds records. false: nothing to flip. */
bool sim_disk_flip(struct sim_disk *disk);
/* The next write to a segment is lost, or goes to another place of the file; it and its sync say that all is well. */
void sim_disk_go_astray(struct sim_disk *disk, bool lost);
bool sim_disk_astray(const struct sim_disk *disk); /* it has happened */

/* ---- one server ---- */

struct sim_told { /* by a server that was on this machine */
    uint64_t id;
    uint64_t first_seq;
};
struct sim_past { /* fetching states of the past: as in log_private.h */
    bool is_done, is_asked;
    uint64_t from_id, before, moved_us, wait_us;
    uint8_t next[FAR_PAST_KEY_MAX + 1];
    size_t next_len;
    unsigned fruitless;
};
struct sim_server {
    struct sim *sim;
    unsigned machine;
    uint64_t id; /* 0 = nobody lives here */
    char address[32];
    bool alive;
    bool away; /* lost in the disaster, until it returns */
    bool was_removed; /* the administrator asked for it: its id never comes back */
    uint64_t incarnation; /* of the cluster, as it knows it: others do not speak with it */
    uint64_t life; /* grows at each start and crash: old events do nothing */
    struct sim_disk *disk;
    struct far_store *store;
    struct far_raft *raft;
    struct far_raft_env env;
    uint64_t timer_order; /* of the timer that counts */
    struct far_wal_job *job;
    bool fatal;
    struct far_error fatal_err;
    bool damaged; /* its log or its rows were damaged on purpose: it must see that before it does harm */
    uint64_t stray_index; /* where its log ended when a write had gone astray; 0 = none did */

    struct far_blob *queue[SIM_QUEUE_MAX]; /* committed, not applied */
    struct far_wal_entry queued[SIM_QUEUE_MAX];
    size_t queue_head, queue_count;
    bool apply_planned;
    struct far_layers *layers; /* NULL: it applies to the store at once */
    const struct far_layer *frozen;
    bool is_growing;       /* there is a layer on top */
    uint64_t layer_number; /* of the last that was frozen */
    struct far_store_meta *before; /* meta as of the commit before the last */
    struct far_store_meta *meta;   /* of the last commit */
    uint64_t told_durable;

    struct far_proposals proposals;
    bool is_leader, leader_moved, leader_named, leader_naming, tick_is_pending; /* as in log_private.h */
    uint64_t leader_id, term;
    uint64_t raft_heard_us; /* when a message of raft came last */
    struct far_cluster_clock clock;
    bool judging; /* as in log_private.h, and the next three */
    uint64_t clock_verdict, clock_off_ms;
    unsigned suspect_beats;
    int64_t wall_off_ms;
    struct far_head_duty duty;
    bool head_runs;           /* a proposal about heads is under way */
    uint64_t head_wait_us;    /* nothing to do about them until then */
    uint64_t safe_first_seq;  /* of the oldest event that no power cut takes away; UINT64_MAX = not known */
    uint64_t cut_seq;         /* as the log has decided; 1 = nothing was cut */
    struct sim_told told[SIM_MACHINES]; /* what the others hold, as they said */
    uint64_t slow_us; /* of each disk job now */
    uint64_t installed_seq; /* the last event in the state that it installed last */
    struct sim_past past;
    struct far_retain_walk walk; /* removes states of the past */

    /* Fetching a state. */
    bool fetching, install_dumped;
    uint64_t fetch_from, fetch_number, fetch_heard_us, fetch_min_index;
    struct far_install install;
    struct far_dump dump; /* being streamed to dump_to */
    uint64_t dump_to, dump_number;
};

/* ---- network (sim_net.c) ---- */

enum sim_message {
    SIM_RAFT = 1, SIM_STATE_WANT, SIM_STATE_PIECE, SIM_STATE_END, SIM_CLOCK, SIM_FORWARD, SIM_ANSWER, SIM_HISTORY_WANT,
    SIM_HISTORY, SIM_PAST_WANT, SIM_PAST,
};
struct sim_link {
    uint64_t last_us; /* when the last message arrives: order holds */
    bool blocked;
    uint64_t generation; /* of the connection: a break lets what is under way be lost */
    bool late;           /* the last break let some of it arrive late */
};
void sim_net_send(struct sim_server *from, uint64_t to_id, enum sim_message kind, uint64_t number, struct far_slice bytes);
void sim_net_break(struct sim *sim, unsigned from, unsigned to);
void sim_net_heal(struct sim *sim);

/* ---- callers (sim_call.c) ---- */

struct sim_caller;
typedef void (*sim_called_fn)(struct sim_caller *caller, const struct far_result *result, uint64_t index);
typedef void (*sim_done_fn)(void *arg, const struct far_result *result, uint64_t index);
struct sim_caller {
    struct sim *sim;
    bool is_active;
    bool is_barrier;
    uint64_t number;   /* of the command; 0 = it has no id */
    uint64_t attempt;  /* grows: answers to older ones are not heard */
    unsigned attempts; /* that reached a server */
    unsigned hops;
    unsigned at;       /* machine that it asks */
    struct far_command command;
    struct far_buf payload;
    sim_called_fn done; /* called once for each call, with the final answer */
    void *owner;
};
void sim_call_init(struct sim_caller *caller, struct sim *sim, sim_called_fn done, void *owner);
void sim_call_done(struct sim_caller *caller);
/* Ask until it is answered. number: the command's id. */
void sim_call(struct sim_caller *caller, const struct far_schema *schema, const void *object, uint64_t actor,
              uint64_t number);
/* The index of an entry that lies behind everything committed before the call. */
void sim_call_barrier(struct sim_caller *caller);
/* It wants no answer any more. */
void sim_call_forget(struct sim_caller *caller);

/* ---- clients (sim_clients.c) and what they saw (sim_history.c) ---- */

enum sim_op_kind { SIM_CREATE, SIM_REMOVE, SIM_READ };
enum sim_outcome { SIM_UNKNOWN, SIM_ACCEPTED, SIM_REJECTED };
struct sim_op {
    enum sim_op_kind kind;
    enum sim_outcome outcome;
    unsigned key;
    uint64_t call_us;
    uint64_t return_us;
    uint64_t value;   /* the object's id; 0 = absent */
    uint64_t command; /* 0: a read */
    bool may_follow;  /* asked more than once: after a rejection it may still take effect */
};
struct sim_client {
    struct sim *sim;
    struct sim_caller caller;
    unsigned key;
    size_t op;
    uint64_t seen_index;  /* what it has seen: reads must not go behind it */
    uint64_t last_number; /* of its last accepted command */
    unsigned read_at;     /* machine */
    unsigned waits;
    bool is_busy, is_local;
};

/* ---- consumers of the events (sim_consumers.c) ---- */

enum { SIM_CONSUMERS_MAX = 3, SIM_CONSUMER_MARKS = 8 };
struct sim_place {
    uint64_t seq;
    uint8_t head[FAR_HEAD_SIZE];
    uint64_t hash; /* of everything up to it */
};
struct sim_consumer {
    struct sim *sim;
    unsigned number;
    struct sim_place place;
    struct sim_place marks[SIM_CONSUMER_MARKS]; /* that it acknowledged */
    unsigned mark_count;
    struct sim_caller caller;
    uint64_t acked_us, asleep_us;
    bool is_known; /* by name */
};
void sim_consumers_start(struct sim *sim);
bool sim_consumers_idle(const struct sim *sim, uint64_t last_seq);
/* Hold what they got against the events of the replayed log. */
void sim_consumers_check(struct sim *sim, struct far_store_txn *replayed);

/* ---- nodes and the operator (sim_nodes.c), and their checker (sim_orders.c) ---- */

enum { SIM_NODES_MAX = 4, SIM_WORK_MAX = 32, SIM_DISKS_MAX = 2 };
struct sim_work { /* one attempt of a task */
    uint64_t job_id, task, attempt, kind, disk_id;
    unsigned disks;
    uint64_t done_us;
    bool is_reported; /* as done, in the report under way */
    bool has_list;    /* a send that goes by what its platform says changed */
    uint64_t audit_next_block;
    uint8_t root[32];
};
struct sim_node {
    struct sim *sim;
    unsigned number;
    unsigned lives;
    uint64_t id;   /* 0 = it has not joined */
    uint64_t boot; /* 0 = it has not booted */
    uint64_t sequence;
    unsigned at; /* machine that it gets its orders from */
    bool is_booting;
    uint64_t sent_us; /* when the report under way was */
    unsigned reported;
    uint64_t silent_until_us;
    struct sim_caller caller;
    struct far_leases leases;
    struct sim_work work[SIM_WORK_MAX];
    unsigned work_count;
};
void sim_nodes_start(struct sim *sim);

struct sim_orders;
struct sim_decided { /* a command of the replayed log */
    uint64_t index;
    const struct far_command *command;
    const struct far_result *result;
    uint64_t applied_us; /* when it was first applied anywhere */
    uint64_t elected_us; /* when the leader of its term was elected */
};
struct sim_orders *sim_orders_new(struct sim *sim);
void sim_orders_free(struct sim_orders *orders);
/* A report was confirmed to its node. */
void sim_orders_confirmed(struct sim_orders *orders, uint64_t node_id, uint64_t sent_us, uint64_t now_us);
void sim_orders_decided(struct sim_orders *orders, struct far_store_txn *txn, const struct sim_decided *decided);

struct sim_history;
struct sim_history *sim_history_new(struct sim *sim);
void sim_history_free(struct sim_history *history);
/* Returns its place. */
size_t sim_history_begin(struct sim_history *history, struct sim_op op);
struct sim_op *sim_history_op(struct sim_history *history, size_t at);
/* A local read: what this index of the log has under the key. */
void sim_history_local(struct sim_history *history, unsigned key, uint64_t index, uint64_t value);
/* A command took effect, as the committed log says: between its call and this moment. */
void sim_history_effect(struct sim_history *history, uint64_t command, uint64_t object_id, uint64_t applied_us);
/* Hold the local reads of this index against the state there. */
void sim_history_at(struct sim_history *history, uint64_t index, struct far_state *state);
/* A forced recovery: the log goes on behind this index. */
void sim_history_recover(struct sim_history *history, uint64_t last_index, bool has_lost);
/* Is there an order of all operations on each key that explains every answer? */
void sim_history_check(struct sim_history *history);
/* The object under a key; 0 = absent. */
int sim_key_read(struct far_state *state, unsigned key, uint64_t *ret_value, struct far_error *err);

/* ---- signed heads and retention (sim_heads.c) ---- */

struct sim_row { /* a server in the state */
    uint64_t server_id; /* in the simulation */
    uint64_t id;        /* in the state */
    bool is_voter, is_removed;
};
enum { SIM_ROWS_MAX = 256 };
void sim_heads_start(struct sim *sim);
void sim_heads_live(struct sim_server *server); /* a life begins */
void sim_heads_beat(struct sim_server *server); /* once a second */
/* What it was told with the time of another one. */
void sim_heads_told(struct sim_server *server, uint64_t from_id, uint64_t first_seq);
/* Everything up to this event is covered by a head that a majority signed, or nobody is to sign. */
bool sim_heads_idle(struct sim *sim, uint64_t seq);
/* Does this server hold every event that the log has not cut? */
bool sim_has_history(const struct sim_server *server);
bool sim_all_have_history(const struct sim *sim);
void sim_heads_say(struct sim *sim);
/* Hold heads and signatures against the events of the replayed log. */
void sim_heads_check(struct sim *sim, struct far_store_txn *replayed);

/* ---- compaction (sim_compact.c) and states of the past (sim_past.c) ---- */

void sim_compact_live(struct sim_server *server); /* a life begins */
void sim_compact_beat(struct sim_server *server); /* once a second */
void sim_compact_decided(struct sim *sim, const struct far_command *command);
void sim_compact_seen(struct sim_server *server, const struct far_event *event);
void sim_compact_fetched(struct sim_server *server, struct far_store_txn *txn, uint64_t from, uint64_t to);
bool sim_compact_idle(const struct sim *sim);
void sim_compact_check(struct sim_server *server, struct far_store_txn *replayed);

void sim_past_start(struct sim *sim);
void sim_past_live(struct sim_server *server);
void sim_past_beat(struct sim_server *server);
void sim_past_message(struct sim_server *server, uint64_t from_id, enum sim_message kind, uint64_t number, struct far_slice bytes);
bool sim_past_idle(const struct sim *sim);
void sim_past_say(const struct sim *sim);
void sim_past_check(struct sim *sim);

/* ---- checkers (sim_check.c) ---- */

struct sim_check;
struct sim_check *sim_check_new(struct sim *sim);
void sim_check_free(struct sim_check *check);
void sim_check_leader(struct sim_check *check, uint64_t id, uint64_t term);
void sim_check_commit(struct sim_check *check, uint64_t id, const struct far_wal_entry *entry);
void sim_check_applied(struct sim_check *check, uint64_t id, const struct far_store_meta *meta);
/* The state behind an entry that some server applied. */
bool sim_check_moment(const struct sim_check *check, uint64_t index, uint64_t *ret_seq, struct far_hash128 *ret_digest);
void sim_check_answered(struct sim_check *check, uint64_t command, uint64_t index);
/* At the end: replays the committed log by itself and holds every server against it. */
void sim_check_end(struct sim_check *check);
/* The entry committed at an index, or NULL. */
const struct far_blob *sim_check_entry(const struct sim_check *check, uint64_t index, uint64_t *ret_term);
/* Forced recovery: the log goes on behind this index; what was acknowledged later is stated to be lost. Returns how much. */
bool sim_check_is_same(const struct sim_check *check, const struct far_wal_entry *entry); /* as committed, if it was */
uint64_t sim_check_recover(struct sim_check *check, uint64_t last_index);
uint64_t sim_check_last_index(const struct sim_check *check);
uint64_t sim_check_answers(const struct sim_check *check);

/* ---- the world (sim_world.c) ---- */

struct sim_options {
    uint64_t seed;
    unsigned servers;      /* 3 to 5; 0 = from the seed */
    uint64_t seconds;      /* of trouble */
    enum sim_broken broken;
    bool faults;
    bool verbose;
};

struct sim {
    struct sim_options options;
    struct sim_swarm swarm;
    uint64_t random[2];
    uint64_t now_us;
    uint64_t next_order;
    struct sim_event *heap;
    size_t heap_count, heap_cap;
    uint64_t steps;
    struct sim_server servers[SIM_MACHINES];
    struct sim_link links[SIM_MACHINES][SIM_MACHINES];
    struct sim_client clients[SIM_CLIENTS_MAX];
    struct sim_consumer consumers[SIM_CONSUMERS_MAX];
    struct sim_node nodes[SIM_NODES_MAX];
    struct sim_row rows[SIM_ROWS_MAX];
    unsigned row_count;
    struct sim_caller registrar; /* keeps the servers' rows true */
    uint64_t cut_floor;          /* consumers are behind this event, or will not go back before it */
    uint64_t compacted_seq;      /* as the log has decided, by any server */
    uint64_t healed_seq;         /* the last event when everything was healed */
    struct sim_caller operator_caller;
    unsigned operator_step;
    struct sim_orders *orders;
    struct sim_caller founder; /* its first command makes the cluster */
    bool is_founded;
    struct sim_check *check;
    struct sim_history *history;
    uint64_t next_id;      /* of a server */
    uint64_t next_command;
    bool trouble;          /* faults are being made */
    bool calm;             /* clients ask for nothing new */
    uint64_t delay_us;     /* of messages, at most */
    bool failed;
    char failure[FAR_MESSAGE_MAX];
    struct far_buf payload, entry, scratch;
    uint64_t crashes, cuts, breaks, changes;
    unsigned voters_wanted;
    bool admin_off;
    bool admin_idle; /* nothing left to do when it last looked */
    uint64_t change_index; /* of the last change of membership, as the leader knew it */
    uint64_t memory_lost;
    uint64_t incarnation; /* of the cluster */
    struct sim_counts counts;
};

static inline void sim_count(struct sim *sim, enum sim_counted what)
{
    sim->counts.of[what]++;
}
uint64_t sim_random(struct sim *sim, uint64_t below);
bool sim_chance(struct sim *sim, unsigned percent);
void sim_after(struct sim *sim, uint64_t us, sim_event_fn fn, void *object, uint64_t a, uint64_t b, struct far_blob *blob);
uint64_t sim_after_order(struct sim *sim); /* the order that the event planned last has */
/* The alarm. The first one counts. */
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_say(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool sim_run_until(struct sim *sim, uint64_t at_us, bool (*done)(struct sim *sim));
struct sim *sim_new(const struct sim_options *options);
void sim_free(struct sim *sim);
struct sim_server *sim_server_of(struct sim *sim, uint64_t id);
struct sim_server *sim_leader(struct sim *sim);

/* sim_server.c */
struct far_raft_config sim_server_config(struct sim_server *server);
void sim_server_start(struct sim_server *server);
void sim_server_crash(struct sim_server *server, bool power_cut);
/* The disk died under it, or it aborted: carried out after each event. */
void sim_server_bury(struct sim_server *server);
bool sim_server_walk(struct sim_server *server);
void sim_server_stop(struct sim_server *server, const struct far_error *err);
void sim_server_apply_all(struct sim_server *server);
void sim_server_receive(struct sim_server *server, uint64_t from_id, enum sim_message kind, uint64_t number,
                        struct far_slice bytes);
void sim_server_pump(struct sim_server *server);
void sim_server_tell_durable(struct sim_server *server);
void sim_server_read_meta(struct sim_server *server);
struct far_raft_manifest sim_manifest_of(const struct far_store_meta *meta);
/* A new server with a new id on an empty machine; first: it makes the cluster. */
void sim_server_create(struct sim *sim, unsigned machine, bool first);
void sim_server_forget(struct sim_server *server);
/* The same server as it was once: an older copy of its folder. */
struct sim_copy {
    uint64_t id;
    struct sim_disk *disk;
    struct far_store *store;
};
struct sim_copy sim_server_copy(struct sim_server *server);
void sim_server_return(struct sim *sim, unsigned machine, struct sim_copy *copy);

/* sim_apply.c */
void sim_apply_live(struct sim_server *server); /* a life begins */
void sim_apply_end(struct sim_server *server);  /* and is over */
void sim_apply_plan(struct sim_server *server);
int sim_apply_one(struct sim_server *server, struct far_store_txn *txn, const struct far_wal_entry *entry, struct far_error *err);
/* All that was applied is in the store: before whoever else writes it. */
void sim_apply_settle(struct sim_server *server);

/* sim_install.c */
void sim_install_begin(struct sim_server *server, uint64_t from_id, uint64_t min_index);
void sim_install_message(struct sim_server *server, uint64_t from_id, enum sim_message kind, uint64_t number,
                         struct far_slice bytes);
void sim_install_end(struct sim_server *server); /* a life is over */
/* Fetch older events from another server, if some are missing here. */
void sim_history_ask(struct sim_server *server);

/* sim_swarm.c */
struct sim_swarm sim_swarm_draw(uint64_t seed);
/* What is broken on purpose must have its chance to do harm. */
void sim_swarm_favour(struct sim_swarm *swarm, enum sim_broken broken);
/* The same world every time: for stories that are told step by step. */
struct sim_swarm sim_swarm_plain(void);
void sim_swarm_say(struct sim *sim);

/* sim_propose.c */
/* Queue a copy; command NULL: a barrier. false: no room. */
bool sim_propose(struct sim_server *server, const struct far_command *command, uint64_t timeout_ms, sim_done_fn done,
                 void *arg);
void sim_propose_message(struct sim_server *server, uint64_t from_id, enum sim_message kind, struct far_slice bytes);
void sim_propose_start(struct sim_server *server);
void sim_propose_observe(struct sim_server *server); /* what the state says of the time */
void sim_propose_end(struct sim_server *server);

/* sim_clients.c */
void sim_clients_start(struct sim *sim);
bool sim_clients_idle(const struct sim *sim);

/* sim_run.c */
struct sim_totals {
    uint64_t seeds, steps, commands, entries, crashes, cuts, breaks, changes, lost, virtual_us;
    struct sim_counts counts;
};
bool sim_is_quiet(struct sim *sim);
/* false: the alarm was raised. */
bool sim_run_seed(const struct sim_options *options, struct sim_totals *totals);
void sim_print_totals(const struct sim_totals *totals);
void sim_report(bool good, const char *format, ...) __attribute__((format(printf, 2, 3)));
int sim_report_end(void); /* the exit code */

/* sim_scenarios.c: each true if it went as it must; says why not with sim_fail(). */
bool sim_scenario_forced(const struct sim_options *options, char *ret_alarm, size_t size, uint64_t *ret_lost,
                         struct sim_counts *counts);
bool sim_scenario_old_memory(bool keeps_id, char *ret_alarm, size_t size);

/* sim_faults.c */
void sim_faults_start(struct sim *sim);
void sim_faults_heal(struct sim *sim);
/* Faults at the worst moment, now and then. */
void sim_faults_elected(struct sim_server *server);
void sim_faults_answered(struct sim *sim);
void sim_admin_start(struct sim *sim);

#endif
