/* The log of a server that does not run: where it ends, what it holds, forced recovery, the log of a restored cluster.
 *
 * Nobody else has the folder open meanwhile. Blocking, one thread. */
#ifndef FAR_LOG_LOG_OFFLINE_H
#define FAR_LOG_LOG_OFFLINE_H

#include "log/log.h"
#include "log/raft_core.h"

struct far_log_offline;

/* FAR_CONFLICT: a server runs on it; FAR_NOT_FOUND: there is no log. Of the config dir, server_id, address and map_bytes
 * count, and must outlive it. */
int far_log_offline_open(const struct far_log_config *config, struct far_log_offline **ret_log, struct far_error *err);
/* Can it be read, and where does it end? In a child process, for damage to the store's structure kills whoever meets it: then
 * FAR_CORRUPT, and *ret_died (NULL is allowed). Reads every row of the state, and what is behind it; else as far_log_offline_open()
 * and far_log_offline_ending(). Nothing may have it open. */
int far_log_offline_probe(const struct far_log_config *config, bool *ret_died, struct far_error *err);
void far_log_offline_close(struct far_log_offline *log); /* NULL is allowed */
/* The state as it was applied; end it with far_log_view_end(). */
int far_log_offline_view(struct far_log_offline *log, struct far_log_view *ret_view, struct far_error *err);

/* Where it ends, and what a recovery would keep. */
struct far_log_ending {
    struct far_raft_end end;
    uint64_t sure_index; /* applied, so committed */
    uint64_t sure_seq;
    uint8_t sure_head[32];
    uint64_t parent_seq; /* with the entries that were perhaps never committed */
    uint8_t parent_head[32];
};
/* Changes nothing. FAR_CORRUPT: the log must not be trusted, so nothing can go on from it. */
int far_log_offline_ending(struct far_log_offline *log, struct far_log_ending *ret_ending, struct far_error *err);
/* The same, and try() looks at the state behind all of it, in the transaction that is then given up; what it gives is given back. The
 * state is borrowed for the call. */
int far_log_offline_try(struct far_log_offline *log, int (*try)(void *arg, struct far_state *state, struct far_error *err), void *arg,
                        struct far_error *err);
/* Apply what is behind the state, committed or not: for a log that no server will ever run on again. */
int far_log_offline_apply(struct far_log_offline *log, struct far_error *err);
/* See far_raft_recover() (raft_core.h): the incarnation must be durable before. */
int far_log_offline_recover(struct far_log_offline *log, uint64_t start_term, struct far_error *err);

#endif
