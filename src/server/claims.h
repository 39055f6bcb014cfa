/* What nodes say of a newer incarnation: a node that follows one is refused here, and that is all its word can do (a single node
 * that lies must not stop a healthy cluster; a server's word fences, fence.h). But it is told to whoever looks at the cluster, for
 * it may be true: then this server is one that was left behind, and cannot reach the servers that could tell it so. Any thread. */
#ifndef FAR_SERVER_CLAIMS_H
#define FAR_SERVER_CLAIMS_H

#include "api/api.h"
#include "net/net.h"

#include <pthread.h>

enum { FAR_CLAIMS_MAX = 64 }; /* nodes that are counted apart */

struct far_claims {
    pthread_mutex_t lock;
    uint64_t epoch;                     /* the newest one that was claimed; 0: none */
    uint64_t nodes[FAR_CLAIMS_MAX];     /* who claims it */
    size_t count;
    uint64_t heard_ms;                  /* monotonic, of the last claim */
    uint64_t logged_ms;
};

void far_claims_init(struct far_claims *claims);
void far_claims_done(struct far_claims *claims);
/* A node of this cluster, known by its key, showed another incarnation than own; older ones are no claim. */
void far_claims_note(struct far_claims *claims, struct far_incarnation_id own, uint64_t node_id, struct far_incarnation_id theirs);
/* epoch 0: nobody claims anything. */
void far_claims_get(struct far_claims *claims, struct far_api_claims *ret_claims);

#endif
