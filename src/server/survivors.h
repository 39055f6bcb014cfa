/* What is left of a cluster whose quorum is gone: asks every other server of the state for what it holds. Blocking. */
#ifndef FAR_SERVER_SURVIVORS_H
#define FAR_SERVER_SURVIVORS_H

#include "log/log_offline.h"
#include "server/server.h"

enum { FAR_SURVIVORS_MAX = FAR_LOG_MEMBERS_MAX, FAR_SURVIVOR_ASK_MS = 4000 };

struct far_survivor {
    uint64_t id;
    char name[64];
    char api_address[256];
    bool is_voter;
    bool is_self;
    bool is_there;  /* it answered */
    bool is_judged; /* and said what it holds */
    char why[FAR_MESSAGE_MAX];
    struct far_raft_end end;
    uint64_t incarnation_epoch;
    uint64_t leader_id; /* that it has heard of lately; 0 = none */
};

struct far_survivors {
    size_t count;
    struct far_survivor list[FAR_SURVIVORS_MAX];
};

/* The servers of a state that were not removed; self is marked. */
int far_survivors_of(struct far_state *state, uint64_t self_id, struct far_survivors *ret_survivors, struct far_error *err);
/* Ask all but self, at once, with this API token and the CA's certificate; who does not answer is not there. */
int far_survivors_ask(struct far_survivors *survivors, const char *ca_path, const char *token, struct far_error *err);
/* May self, whose end is filled in, go on alone? FAR_CONFLICT with the reason: somebody leads, a quorum answers, somebody
 * holds more or is in a later incarnation. is_contested: it is one of two recoveries of the same epoch, and chosen to live:
 * then its own quorum does not matter. */
int far_survivors_judge(const struct far_survivors *survivors, uint64_t own_epoch, bool is_contested, struct far_error *err);
/* The greatest term that anybody who answered knows of. */
uint64_t far_survivors_term(const struct far_survivors *survivors);

#endif
