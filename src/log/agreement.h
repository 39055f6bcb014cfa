/* Agreement: do the servers hold the same state at the same index?
 *
 * Each server notes {index, digest, head} after every entry it applies and tells its peers some of them. A server whose
 * mark differs from the equal marks of a majority of the voters has a damaged state: it must stop and say where. Plain
 * data, core thread. */
#ifndef FAR_LOG_AGREEMENT_H
#define FAR_LOG_AGREEMENT_H

#include "log/apply_thread.h"

enum { FAR_AGREEMENT_OWN = 8192, FAR_AGREEMENT_PEERS = 16, FAR_AGREEMENT_CLAIMS = 8, FAR_AGREEMENT_STRIDE = 64 };

struct far_claims {
    uint64_t peer_id; /* 0: free */
    unsigned next;
    struct far_mark marks[FAR_AGREEMENT_CLAIMS]; /* newest overwrite the oldest; index 0: none */
};

struct far_agreement {
    struct far_mark own[FAR_AGREEMENT_OWN]; /* at index modulo FAR_AGREEMENT_OWN */
    uint64_t last_index;
    struct far_claims peers[FAR_AGREEMENT_PEERS];
};

enum far_verdict {
    FAR_VERDICT_NONE,     /* nothing to compare yet */
    FAR_VERDICT_EQUAL,    /* a majority has our mark */
    FAR_VERDICT_MINORITY, /* a majority agrees on another one: stop */
    FAR_VERDICT_SPLIT,    /* somebody differs, nobody has a majority */
};

void far_agreement_note(struct far_agreement *agreement, const struct far_mark *mark);
/* A peer's mark. When the peers' table is full the claim is ignored. */
void far_agreement_claim(struct far_agreement *agreement, uint64_t peer_id, const struct far_mark *mark);
/* Forget everything: another state was installed. */
void far_agreement_reset(struct far_agreement *agreement);
/* Our mark at an index; NULL if it is not there any more or yet. */
const struct far_mark *far_agreement_own(const struct far_agreement *agreement, uint64_t index);
/* Compare the claims at this index with ours; voters: how many there are. */
enum far_verdict far_agreement_judge(const struct far_agreement *agreement, uint64_t index, unsigned voters);
/* The same over every index that somebody claims: the worst verdict, and where it is. */
enum far_verdict far_agreement_judge_all(const struct far_agreement *agreement, unsigned voters, uint64_t *ret_index);

#endif
