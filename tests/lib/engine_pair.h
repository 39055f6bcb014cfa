/* Test helper: a source and a target engine in one process, over real TLS on loopback, and the reports of both.
 *
 * Everything lives in one folder that is removed at the end: source/cache, target/vault, pki. Engines can be stopped
 * and started again in between, as nodes are. Node ids: source 11, target 12. Aborts the program when it cannot set
 * up. */
#ifndef FAR_TESTS_LIB_ENGINE_PAIR_H
#define FAR_TESTS_LIB_ENGINE_PAIR_H

#include "dataplane/engine.h"
#include "net/net.h"
#include "made_pki.h"

#include <pthread.h>

enum { PAIR_SOURCE = 11, PAIR_TARGET = 12, PAIR_REPORTS = 256, PAIR_WAIT_MS = 60000 };

struct pair_report {
    struct far_engine_report report;
    struct far_engine_found disks[4];
};

struct engine_pair {
    char dir[200];
    struct far_test_pki pki;
    struct far_net *source_net, *target_net;
    struct far_engine *source, *target;
    struct far_engine_config config; /* of both; folders and addresses are filled in */
    bool source_listens; /* from its next start on */
    uint64_t job;
    pthread_mutex_t mutex;
    pthread_cond_t reported;
    struct pair_report ends[PAIR_REPORTS]; /* done and failed */
    size_t end_count;
    size_t running_count; /* reports of running attempts */
    uint64_t running_done[8], running_sent[8]; /* bytes, as the newest of each task said (modulo 8) */
};

void pair_init(struct engine_pair *pair, const char *name, const struct far_engine_config *config);
void pair_done(struct engine_pair *pair);
void pair_start_source(struct engine_pair *pair);
void pair_start_target(struct engine_pair *pair);
void pair_stop_source(struct engine_pair *pair);
void pair_stop_target(struct engine_pair *pair);
/* The end of an attempt; aborts after PAIR_WAIT_MS times FAR_SLOW. */
struct far_engine_report pair_wait(struct engine_pair *pair, uint64_t job, uint64_t task, uint64_t attempt);
/* Has it ended? */
bool pair_ended(struct engine_pair *pair, uint64_t job, uint64_t task, uint64_t attempt);
const char *pair_path(const struct engine_pair *pair, const char *name, char *path, size_t size);

#endif
