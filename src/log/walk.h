/* The walk: everything that a store holds is read and held against its checksums, as it is now and then while a server runs.
 *
 * A read of one row cannot tell a row that was never there from one that a damaged page of LMDB's tree hides; the walk can:
 * the rows that are there must give the digest. In one read transaction, on a thread that nobody waits for; a second or two
 * for a million rows, in which the pages that are freed meanwhile are not used again. */
#ifndef FAR_LOG_WALK_H
#define FAR_LOG_WALK_H

#include "log/store.h"

/* What walks remember of the ones before: of the segments each reads but one. */
struct far_walk {
    uint64_t segment_seq;
};
/* FAR_CORRUPT names what is damaged or missing. */
int far_walk(struct far_store *store, struct far_walk *walk, struct far_error *err);

#endif
