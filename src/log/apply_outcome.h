/* What came of a commit, put together by the threads that apply and commit. They cannot go on without memory for it: then the
 * server stops. */
#ifndef FAR_LOG_APPLY_OUTCOME_H
#define FAR_LOG_APPLY_OUTCOME_H

#include "log/apply_thread.h"

/* A line on stderr, and the process aborts. */
_Noreturn void far_apply_stop_server(const struct far_error *err);

struct far_apply_outcome *far_apply_outcome_new(void);
void far_apply_outcome_free(struct far_apply_outcome *outcome); /* NULL is allowed */

void far_apply_outcome_result(struct far_apply_outcome *outcome, const struct far_apply_result *result);
void far_apply_outcome_mark(struct far_apply_outcome *outcome, const struct far_store_meta *meta);
/* The results so far, as an outcome of their own that is early; NULL: there are none (or no memory: then they stay). */
struct far_apply_outcome *far_apply_outcome_split(struct far_apply_outcome *outcome);
/* What the state wants from the leader next. */
int far_apply_outcome_clock(struct far_store_txn *txn, struct far_apply_outcome *outcome, struct far_error *err);
/* The store as it is now. */
void far_apply_outcome_describe(struct far_apply_outcome *outcome, struct far_store *store);

#endif
