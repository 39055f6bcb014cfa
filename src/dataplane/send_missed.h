/* The blocks that an audit found changed although no list of changes named them, as ranges for the report. Any thread. */
#ifndef FAR_DATAPLANE_SEND_MISSED_H
#define FAR_DATAPLANE_SEND_MISSED_H

#include "dataplane/engine.h"

#include <pthread.h>

struct send_missed {
    pthread_mutex_t mutex;
    struct far_engine_missed ranges[FAR_ENGINE_MISSED_MAX]; /* in the order of finding; the last one reaches over all the rest */
    size_t count;
    uint64_t blocks;
};

void send_missed_init(struct send_missed *missed);
void send_missed_done(struct send_missed *missed);
void send_missed_note(void *missed, uint64_t block); /* a struct send_missed */
/* What was found from this block on is looked at again. */
void send_missed_forget(struct send_missed *missed, uint64_t from_block);

#endif
