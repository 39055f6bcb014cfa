/* The pure core: decide(state, command) -> events or a rejection; evolve(state, event) -> state.
 *
 * The same state and command give the same events and the same state on every server, machine and run: no clock, random,
 * environment, locale, float, pointer order, thread, I/O, logging or errno in this folder (DESIGN.md section 3,
 * STYLE.md). Only far_fsm_evolve() writes the state, and everything it needs is in the event, so the state is a fold of
 * the events. Nothing aborts: a broken invariant rejects the command with FAR_INTERNAL. One thread per state. */
#ifndef FAR_FSM_FSM_H
#define FAR_FSM_FSM_H

#include "fsm/state.h"

/* Who acts: a kind in the top byte, an id below. */
enum far_actor_kind {
    FAR_ACTOR_SYSTEM = 1, /* the leader itself: tick, leader_started, role changes */
    FAR_ACTOR_SERVER = 2,
    FAR_ACTOR_NODE = 3,
    FAR_ACTOR_TOKEN = 4, /* the api token with this id */
};
static inline uint64_t far_actor(enum far_actor_kind kind, uint64_t id)
{
    return (uint64_t)kind << 56 | (id & 0x00ffffffffffffffu);
}

/* Flags of commands and events: bits that a reader may ignore, and bits that stop one that does not know them. */
enum { FAR_FLAGS_INCOMPATIBLE = 0xffff0000u };

/* The newest feature level that this build knows (events.def): what its version brings is of this level. A cluster's own is in
 * its row; it is raised when every server knows more, never lowered. */
enum { FAR_FEATURE_LEVEL = 4 };

/* Unless the retention says otherwise, events of progress keep their payload so long, events are kept so long, and may take so
 * much of a server's disk. */
enum { FAR_PROGRESS_DAYS = 30, FAR_RETAIN_DAYS = 30 };
#define FAR_RETAIN_BYTES 50000000000ull

enum { FAR_COMMAND_PAYLOAD_MAX = 128 * 1024, FAR_EVENT_PAYLOAD_MAX = 128 * 1024 };

struct far_command {
    uint16_t kind; /* enum far_kind, FAR_KIND_cmd_… */
    uint16_t version;
    uint32_t flags;
    uint8_t id[16];          /* chosen by the client; all zero: not remembered (ticks, reports) */
    uint64_t actor;          /* far_actor() */
    uint64_t proposed_at_ms; /* cluster time, stamped by the leader */
    struct far_slice payload;
};

struct far_event {
    uint64_t seq;   /* 1, 2, 3, … without gaps */
    uint64_t index; /* raft index of the entry it came from */
    uint16_t kind;  /* FAR_KIND_ev_… */
    uint16_t version;
    uint32_t flags;
    uint8_t command_id[16];
    uint64_t actor;
    uint64_t time_ms; /* cluster time */
    struct far_slice payload;
    uint32_t compacted_len; /* not 0: its payload had so many bytes and was dropped, and `payload` is the SHA-256 of it */
};

/* The answer to a command. */
struct far_result {
    int klass;          /* 0 or the class of the rejection */
    bool repeated;      /* the same command was accepted before; this is its first answer */
    uint64_t object_id; /* what it made or changed: the job of plan_replicate, the boot number of node_boot, … */
    uint64_t seq_first; /* of its events; 0 = none */
    uint64_t seq_last;
    char message[FAR_MESSAGE_MAX]; /* of the rejection; of an accepted command a warning, or empty */
};

/* Called for each event in order, after it was evolved. Not 0: stop, the transaction must be given up. */
typedef int (*far_event_fn)(void *arg, const struct far_event *event, struct far_error *err);

/* Decide and, if accepted, evolve and emit. Returns 0 also for a rejection (see ret_result); not 0 only when the state
 * could not be read or written, or emit failed: then the caller gives the whole transaction up and stops. */
int far_fsm_apply(struct far_state *state, uint64_t index, const struct far_command *command, far_event_fn emit,
                  void *arg, struct far_result *ret_result, struct far_error *err);

/* Apply one recorded event to the state: replay, verification, backfill. FAR_CORRUPT if it cannot follow this state
 * (its seq is not the next one, or what it names is not there); FAR_NOT_FOUND if it is compacted. */
int far_fsm_evolve(struct far_state *state, const struct far_event *event, struct far_error *err);

/* Would this command be rejected now? Changes nothing; a server asks before it spends a log entry. */
int far_fsm_check(struct far_state *state, const struct far_command *command, struct far_result *ret_result,
                  struct far_error *err);

/* Walks the whole state and verifies what must hold between rows (indexes, counters, leases). For tests, simulation and
 * `log verify`. FAR_INTERNAL names the first broken invariant. */
int far_fsm_invariants(struct far_state *state, struct far_error *err);

#endif
