/* Looking for servers that a recovery left behind.
 *
 * A server of a later incarnation calls those that were removed, one after the other, for as long as it runs: one that
 * returned hears in the greeting that it is fenced, also when it would never call by itself, and a second recovery of the same
 * epoch, made at another place, is noticed by both (fence.h). In the first incarnation nothing is called. Core thread. */
#ifndef FAR_SERVER_FENCE_PROBE_H
#define FAR_SERVER_FENCE_PROBE_H

#include "log/log.h"
#include "net/net.h"

enum { FAR_FENCE_PROBE_MS = 1000, FAR_FENCE_PROBES_MAX = 32 };

struct far_fence_probe;
int far_fence_probe_new(struct far_net *net, struct far_log *log, uv_loop_t *loop, struct far_fence_probe **ret_probe,
                        struct far_error *err);
/* Ends on the loop, and frees itself; the log may be closed at once. */
void far_fence_probe_close(struct far_fence_probe *probe);

#endif
