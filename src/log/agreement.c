/* Agreement on the state between servers: see agreement.h. */
#include "log/agreement.h"

void far_agreement_note(struct far_agreement *agreement, const struct far_mark *mark)
{
    agreement->own[mark->index % FAR_AGREEMENT_OWN] = *mark;
    agreement->last_index = mark->index;
}

void far_agreement_reset(struct far_agreement *agreement)
{
    memset(agreement, 0, sizeof *agreement);
}

static struct far_claims *claims_of(struct far_agreement *agreement, uint64_t peer_id)
{
    for (int i = 0; i < FAR_AGREEMENT_PEERS; i++) {
        struct far_claims *claims = &agreement->peers[i];
        if (claims->peer_id == peer_id || claims->peer_id == 0) {
            claims->peer_id = peer_id;
            return claims;
        }
    }
    return NULL;
}

void far_agreement_claim(struct far_agreement *agreement, uint64_t peer_id, const struct far_mark *mark)
{
    struct far_claims *claims = peer_id == 0 || mark->index == 0 ? NULL : claims_of(agreement, peer_id);
    if (claims == NULL) {
        return;
    }
    for (int i = 0; i < FAR_AGREEMENT_CLAIMS; i++) {
        if (claims->marks[i].index == mark->index) {
            claims->marks[i] = *mark;
            return;
        }
    }
    claims->marks[claims->next++ % FAR_AGREEMENT_CLAIMS] = *mark;
}

const struct far_mark *far_agreement_own(const struct far_agreement *agreement, uint64_t index)
{
    const struct far_mark *mark = &agreement->own[index % FAR_AGREEMENT_OWN];
    return index != 0 && mark->index == index ? mark : NULL;
}

static bool same(const struct far_mark *a, const struct far_mark *b)
{
    return a->last_seq == b->last_seq && far_hash128_equal(a->digest, b->digest) &&
           memcmp(a->head, b->head, FAR_HEAD_SIZE) == 0;
}

static const struct far_mark *claim_at(const struct far_claims *claims, uint64_t index)
{
    for (int i = 0; claims->peer_id != 0 && i < FAR_AGREEMENT_CLAIMS; i++) {
        if (claims->marks[i].index == index) {
            return &claims->marks[i];
        }
    }
    return NULL;
}

/* How many peers say the same as `mark` at its index. */
static unsigned backers(const struct far_agreement *agreement, const struct far_mark *mark)
{
    unsigned count = 0;
    for (int i = 0; i < FAR_AGREEMENT_PEERS; i++) {
        const struct far_mark *claim = claim_at(&agreement->peers[i], mark->index);
        count += claim != NULL && same(claim, mark);
    }
    return count;
}

enum far_verdict far_agreement_judge(const struct far_agreement *agreement, uint64_t index, unsigned voters)
{
    const struct far_mark *own = far_agreement_own(agreement, index);
    if (own == NULL) {
        return FAR_VERDICT_NONE;
    }
    unsigned majority = voters / 2 + 1;
    bool differs = false;
    for (int i = 0; i < FAR_AGREEMENT_PEERS; i++) {
        const struct far_mark *claim = claim_at(&agreement->peers[i], index);
        if (claim == NULL || same(claim, own)) {
            continue;
        }
        if (backers(agreement, claim) >= majority) {
            return FAR_VERDICT_MINORITY;
        }
        differs = true;
    }
    if (differs) {
        return FAR_VERDICT_SPLIT;
    }
    return backers(agreement, own) + 1 >= majority ? FAR_VERDICT_EQUAL : FAR_VERDICT_NONE;
}

enum far_verdict far_agreement_judge_all(const struct far_agreement *agreement, unsigned voters, uint64_t *ret_index)
{
    static const int badness[] = {
        [FAR_VERDICT_NONE] = 0, [FAR_VERDICT_EQUAL] = 1, [FAR_VERDICT_SPLIT] = 2, [FAR_VERDICT_MINORITY] = 3};
    enum far_verdict worst = FAR_VERDICT_NONE;
    for (int i = 0; i < FAR_AGREEMENT_PEERS; i++) {
        for (int j = 0; agreement->peers[i].peer_id != 0 && j < FAR_AGREEMENT_CLAIMS; j++) {
            uint64_t index = agreement->peers[i].marks[j].index;
            enum far_verdict verdict = index == 0 ? FAR_VERDICT_NONE : far_agreement_judge(agreement, index, voters);
            if (badness[verdict] > badness[worst]) {
                worst = verdict;
                *ret_index = index;
            }
        }
    }
    return worst;
}
