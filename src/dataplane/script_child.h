/* A script of the node's operator, run for a job: any program in scripts_dir (the node's config), as the user scripts_user, with what it is
 * about as JSON on standard input.
 *
 * What it may do is what that user may: no more privileges by any program that it starts, bounds on memory, files and processes, an
 * environment of PATH and FARSHORE_* only. The file and its folder must be root's (or the node's own) and writable by nobody else. It is
 * killed with all that it started when its time is over, when the attempt is canceled, when it ends, and when this process dies: where the
 * node is root it has a process namespace of its own. Blocks the calling thread; any thread. */
#ifndef FAR_DATAPLANE_SCRIPT_CHILD_H
#define FAR_DATAPLANE_SCRIPT_CHILD_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FAR_SCRIPT_OUTPUT_MAX = 4096,
    FAR_SCRIPT_NOT_YET = 75, /* this exit status (EX_TEMPFAIL) says: ask again */
};

/* The end of what a script wrote as UTF-8 of at most size - 1 bytes: what is none, and control characters but line feeds and tabs, become
 * '?'. */
void far_script_clean(const char *output, char *ret_text, size_t size);

/* What it is about; NULL: "". Numbers 0: none. */
struct far_script_about {
    uint64_t job_id;
    const char *kind; /* of the job, or of what runs it: "gate" */
    const char *phase;
    const char *plan, *workload, *machine, *address;
    bool isolated;
    const char *result; /* of what it comes after: "succeeded"; NULL: it is not told */
};

struct far_script {
    const char *dir, *user; /* of the node's config; NULL, "": none */
    const char *name;       /* of the file in dir */
    const uint8_t *sha256;  /* of its bytes, or NULL: any */
    struct far_script_about about;
    uint64_t timeout_ms;
    bool (*goes_on)(void *arg); /* called five times a second at least: false ends it. Never NULL */
    void *arg;
};

struct far_script_result {
    int status;                             /* exit status; -1: a signal, or it was ended */
    bool is_late;                           /* its time was over */
    char output[FAR_SCRIPT_OUTPUT_MAX + 1]; /* the last of what it wrote */
};

/* Runs it, once. A status other than 0 is no error of this function. FAR_DENIED: this node runs no scripts, or not this one; FAR_NOT_FOUND:
 * it is not there; FAR_CORRUPT: its bytes are others; FAR_CANCELED: goes_on said so. */
int far_script_run(const struct far_script *script, struct far_script_result *ret_result, struct far_error *err);
/* At the start of the node: can scripts be run like that? Both empty: there are none. */
int far_script_check(const char *dir, const char *user, struct far_error *err);

#endif
