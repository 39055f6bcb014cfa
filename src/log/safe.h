/* Safe mode: a server that crashes three times while it applies one entry must not go on crashing (DESIGN.md section 3.10).
 *
 * The file `safe` in the log's folder says which entry is being applied, through shared memory, so that it costs nothing and
 * outlives the process, and how often the process died there. Entries are committed many at a time, by another thread: who dies
 * in a commit does not know of which entry. After two such deaths in a row they are committed one by one, up to where that commit
 * reached, and the next death counts as the third. From the third time on the log holds before that entry: the
 * server votes, stores the log and shows what it has, and applies nothing until the operator has the entry skipped. What is
 * to be skipped is kept in the same file, synced. A power cut may lose the count, never more.
 *
 * far_safe_begin(), _end(), _committing() and _committed() are for the threads that apply and commit, everything else for the core
 * thread. */
#ifndef FAR_LOG_SAFE_H
#define FAR_LOG_SAFE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct far_safe;

enum { FAR_SAFE_CRASHES = 3 };

/* An entry, by its place and XXH3-64: what servers must agree on. */
struct far_safe_entry {
    uint64_t index; /* 0: none */
    uint64_t hash;
};

/* Opens or makes the file in dir and counts a crash if the last process died in an entry. version: of the program; a new one
 * begins to count anew. A damaged file is one that says nothing. */
int far_safe_open(const char *dir, const char *version, struct far_safe **ret_safe, struct far_error *err);
void far_safe_close(struct far_safe *safe);
/* The entry to hold before: it crashed often enough and is not to be skipped. 0: none. */
uint64_t far_safe_hold(const struct far_safe *safe);
/* The entry is begun, and is over without a crash. */
void far_safe_begin(struct far_safe *safe, uint64_t index);
void far_safe_end(struct far_safe *safe);
/* Entries up to this one are to be committed one by one, each before its far_safe_end(). 0: none. */
uint64_t far_safe_careful_until(const struct far_safe *safe);
/* A commit of entries up to index begins, and is over. Deaths before are forgotten when the store has reached what they left
 * undone. */
void far_safe_committing(struct far_safe *safe, uint64_t index);
void far_safe_committed(struct far_safe *safe, uint64_t index);
/* The entry that is to be skipped, or was. */
struct far_safe_entry far_safe_skip(const struct far_safe *safe);
/* Keep what is to be skipped; durable when this returns 0. It counts from the next start. */
int far_safe_set_skip(struct far_safe *safe, struct far_safe_entry entry, struct far_error *err);

#endif
