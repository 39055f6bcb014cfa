/* Proposals: commands on their way, from the call (or a peer's frame) to the answer.
 *
 * A proposal is queued, then either goes into an entry of our own (we lead) and waits for (index, term, position), or is
 * sent to the leader and waits for its request number. Each is answered exactly once through the function given at init,
 * and freed after it. Plain data, no I/O; core thread. An answer may add new proposals. */
#ifndef FAR_LOG_PROPOSALS_H
#define FAR_LOG_PROPOSALS_H

#include "log/envelope.h"

enum { FAR_PROPOSALS_MAX = 10000, FAR_PROPOSALS_BYTES_MAX = 16 * 1024 * 1024, FAR_ENTRIES_IN_FLIGHT_MAX = 8 };

struct far_proposal {
    struct far_proposal *next; /* private */
    uint64_t deadline_ms;      /* of the loop's clock */
    bool is_barrier;           /* no command: wants to know an index that covers all commits until now */
    bool is_own;               /* of the log itself (tick, leader_started): not screened */
    bool is_screened;
    uint64_t peer_id;          /* whose frame it came with; 0: a local caller */
    uint64_t request;          /* the peer's number for it, or ours once it was sent to the leader */
    void (*done)(void *arg, const struct far_result *result, uint64_t applied_index); /* of a local caller */
    void *arg;
    unsigned position;         /* in its entry */
    struct far_command command; /* its payload lies behind it */
    uint8_t payload[];
};

typedef void (*far_proposal_answer_fn)(void *arg, const struct far_proposal *proposal, const struct far_result *result,
                                       uint64_t applied_index);

struct far_proposal_list {
    struct far_proposal *first;
    struct far_proposal **last;
};

struct far_entry_in_flight {
    uint64_t index;
    uint64_t term;
    struct far_proposal_list proposals;
};

struct far_proposals {
    far_proposal_answer_fn answer;
    void *arg;
    size_t count; /* of all kinds */
    size_t bytes;
    uint64_t next_request;
    struct far_proposal_list queued;
    struct far_proposal_list sent; /* to the leader */
    unsigned entry_count;
    struct far_entry_in_flight entries[FAR_ENTRIES_IN_FLIGHT_MAX]; /* oldest first */
};

/* Is the state of a leader the cluster's, so that it may answer from it without an entry? Its first command of this term is
 * decided, so everything that an earlier leader answered is applied; a majority has heard it lately, so there is no later
 * leader; and all that is committed is applied (a follower may have shown it to somebody), and written as far as it was
 * answered. */
struct far_leader_knows {
    bool is_named;     /* leader_started of this term was accepted */
    bool is_offered;   /* leadership was offered to another in this term: silence says nothing then */
    uint64_t heard_ms; /* when a majority last answered; 0 = never */
    uint64_t now_ms, election_ms;
    uint64_t committed_index, answered_index;
    uint64_t applied_index; /* and committed to the store */
};
bool far_leader_knows_all(const struct far_leader_knows *knows);

/* first_request: of those sent to a leader, unlike any of an earlier life of this server (random): an answer to one of
 * those may still be under way, and must not be taken for one to a request of this life. */
void far_proposals_init(struct far_proposals *proposals, far_proposal_answer_fn answer, void *arg, uint64_t first_request);
/* Queue a copy; command NULL: a barrier. NULL: the bounds are reached or there is no memory. */
struct far_proposal *far_proposals_add(struct far_proposals *proposals, const struct far_command *command,
                                       uint64_t deadline_ms);

/* The same, in front of the queue. */
struct far_proposal *far_proposals_add_first(struct far_proposals *proposals, const struct far_command *command,
                                             uint64_t deadline_ms);
/* Show each queued command, once, to screen; true: it is answered with *ret_result and gone. */
typedef bool (*far_proposal_screen_fn)(void *arg, struct far_proposal *proposal, struct far_result *ret_result);
void far_proposals_screen(struct far_proposals *proposals, far_proposal_screen_fn screen, void *arg,
                          uint64_t applied_index);

/* Build an entry of as much of the queue as fits, stamped with now_ms, into out (inited with FAR_ENVELOPE_MAX), for this
 * place; its proposals wait for it. FAR_NOT_FOUND: nothing is queued; FAR_BUSY: the window is full. */
int far_proposals_take(struct far_proposals *proposals, uint64_t index, uint64_t term, uint64_t now_ms,
                       struct far_buf *out, struct far_error *err);
/* The newest entry was not taken by raft: answer what is in it. */
void far_proposals_refused(struct far_proposals *proposals, int klass, const char *why);
/* Is somebody to be answered from this entry, and does it hold a barrier? */
bool far_proposals_await(const struct far_proposals *proposals, uint64_t index, bool *ret_has_barrier);
/* A command of an entry was decided and committed. */
void far_proposals_decided(struct far_proposals *proposals, uint64_t index, uint64_t term, unsigned position,
                           const struct far_result *result, uint64_t applied_index);
/* Everything up to this index, whose entry is of this term, is applied: answers barriers, and what was in entries that lost
 * against others. A barrier of an older term may have lost its place to another leader, who had committed more before it
 * was asked for: its outcome is unknown. */
void far_proposals_applied(struct far_proposals *proposals, uint64_t index, uint64_t term);

/* The next queued proposal, now waiting for an answer from the leader under a new request number; NULL: none. */
struct far_proposal *far_proposals_send(struct far_proposals *proposals);
/* The leader's answer; an unknown number (timed out meanwhile) is ignored. */
void far_proposals_answered(struct far_proposals *proposals, uint64_t request, const struct far_result *result,
                            uint64_t applied_index);

/* Answer what waits in entries and at the leader with FAR_UNKNOWN_OUTCOME. */
void far_proposals_lost(struct far_proposals *proposals, const char *why);
/* Answer everything that is only queued. */
void far_proposals_drop_queued(struct far_proposals *proposals, int klass, const char *why);
/* Answer what is past its deadline with FAR_TIMEOUT. */
void far_proposals_expire(struct far_proposals *proposals, uint64_t now_ms);

#endif
