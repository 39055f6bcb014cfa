/* Claims: see claims.h. */
#include "server/claims.h"

#include "base/clock.h"
#include "base/logging.h"

#include <string.h>

enum { LOG_MS = 60 * 1000 };

void far_claims_init(struct far_claims *claims)
{
    memset(claims, 0, sizeof *claims);
    pthread_mutex_init(&claims->lock, NULL);
}

void far_claims_done(struct far_claims *claims)
{
    pthread_mutex_destroy(&claims->lock);
}

static void count_node(struct far_claims *claims, uint64_t node_id)
{
    size_t at = 0;
    while (at < claims->count && claims->nodes[at] != node_id) {
        at++;
    }
    if (at == claims->count && at < FAR_CLAIMS_MAX) {
        claims->nodes[claims->count++] = node_id;
    }
}

void far_claims_note(struct far_claims *claims, struct far_incarnation_id own, uint64_t node_id, struct far_incarnation_id theirs)
{
    uint64_t now_ms = far_clock_monotonic_ms();
    if (theirs.epoch < own.epoch || (theirs.epoch == own.epoch && theirs.tag == own.tag)) {
        return;
    }
    pthread_mutex_lock(&claims->lock);
    if (theirs.epoch > claims->epoch) {
        claims->epoch = theirs.epoch;
        claims->count = 0;
        claims->logged_ms = 0;
    }
    if (theirs.epoch == claims->epoch) {
        count_node(claims, node_id);
        claims->heard_ms = now_ms;
    }
    bool is_due = claims->logged_ms == 0 || now_ms - claims->logged_ms >= LOG_MS;
    claims->logged_ms = is_due ? now_ms : claims->logged_ms;
    pthread_mutex_unlock(&claims->lock);
    if (is_due) {
        far_logf(FAR_LEVEL_WARN, "server", "node %llu follows incarnation %llu of this cluster, this server is of %llu: if the cluster "
                 "was recovered or restored elsewhere, stop this server and rejoin (farshored rejoin)", (unsigned long long)node_id,
                 (unsigned long long)theirs.epoch, (unsigned long long)own.epoch);
    }
}

void far_claims_get(struct far_claims *claims, struct far_api_claims *ret_claims)
{
    pthread_mutex_lock(&claims->lock);
    *ret_claims = (struct far_api_claims){.epoch = claims->epoch,
                                          .nodes = claims->count,
                                          .node_id = claims->count > 0 ? claims->nodes[claims->count - 1] : 0,
                                          .age_ms = far_clock_monotonic_ms() - claims->heard_ms};
    pthread_mutex_unlock(&claims->lock);
}
