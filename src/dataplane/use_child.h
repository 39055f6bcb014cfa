/* A program as a child of the node, for the time of an attempt: its output line by line, its end as an error of ours.
 *
 * It is in a process group of its own, with all that it starts, so that nothing of it is left when the call returns; and it is
 * killed when this process dies (the thread that started it, which waits for it). No shell; the environment of this
 * process, but for TMPDIR. Blocks the
 * calling thread; any thread. */
#ifndef FAR_DATAPLANE_USE_CHILD_H
#define FAR_DATAPLANE_USE_CHILD_H

#include "base/error.h"

struct far_use_child {
    const char *const *argv; /* argv[0] is a path; closed by NULL */
    const char *tmp_dir;     /* its TMPDIR; borrowed */
    int keep_fd;             /* one more descriptor that it inherits; -1: none */
    /* A line without its end, of at most 4095 bytes (longer ones are cut). May be NULL. */
    void (*line)(void *arg, bool is_error, const char *line);
    /* Called five times a second at least: false ends the child. Never NULL. */
    bool (*goes_on)(void *arg, int pid);
    void *arg;
};

/* Until it ends, or is ended because goes_on says so: *ret_ended. FAR_IO: it cannot be started, or died of a signal; else the class that
 * its exit status says (error.h) with what it said about it on standard error: the line of ours, else the last one. */
int far_use_child_run(const struct far_use_child *child, bool *ret_ended, struct far_error *err);

#endif
