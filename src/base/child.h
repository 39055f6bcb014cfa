/* Work on bytes that may kill whoever reads them, in a child process: its death is an error like any other.
 *
 * LMDB trusts the pages that it maps: a damaged one leads it anywhere. What the child changes in memory is not seen here; what it
 * prints is. For programs of one thread. */
#ifndef FAR_BASE_CHILD_H
#define FAR_BASE_CHILD_H

#include "base/error.h"

#include <sys/types.h>

/* Runs work(arg) in a child, and waits for it; its error is the result. FAR_CORRUPT with *ret_died true (NULL is allowed): it died by a
 * signal, which the message names. FAR_IO: there is no child. The child ends when this process does. */
int far_child_run(int (*work)(void *arg, struct far_error *err), void *arg, bool *ret_died, struct far_error *err);

/* In a child just forked by `parent`: it is killed when the parent (that thread of it) ends; exits with 127 if it has ended already. */
void far_child_end_with(pid_t parent);
/* The same in a process group of its own, with the signals as a program expects them: for a child that becomes another program. */
void far_child_begin_program(pid_t parent);

/* The first thing in a child that is made for such work otherwise: it ends with its parent, and by the signal of its own fault. */
void far_child_settle(void);

#endif
