/* Fencing: a server of an older incarnation of its cluster serves nothing (DESIGN.md section 6).
 *
 * Whoever meets a server of a newer incarnation, which shows itself in the greeting, stops and keeps that in the file
 * `fenced` of its folder, so that it does not start again either; what it accepted alone is kept until somebody looks at it
 * (divergent.c) and the machine rejoins under a new id. Two servers of the same epoch that were made at two places meet as
 * equals: nobody knows which one is to live, so both stop (`contested`) until an operator makes one of them the next
 * incarnation. Blocking; any thread. */
#ifndef FAR_SERVER_FENCE_H
#define FAR_SERVER_FENCE_H

#include "net/incarnation.h"
#include "server/server.h"

#define FAR_FENCED_FILE "fenced"
#define FAR_CONTESTED_FILE "contested"

/* What to make of another server's incarnation; class 0: it is older, nothing. Else FAR_DENIED with the reason to stop, and
 * the file that keeps it. */
int far_fence_judge(const struct far_server_config *config, struct far_incarnation_id own, uint64_t peer_id,
                    struct far_incarnation_id theirs, const char **ret_file, struct far_error *err);
int far_fence_keep(const char *dir, const char *file, const struct far_error *why, struct far_error *err);
/* FAR_DENIED with the reason if the folder is fenced or contested. ret_is_contested may be NULL. */
int far_fence_check(const char *dir, bool *ret_is_contested, struct far_error *err);

#endif
