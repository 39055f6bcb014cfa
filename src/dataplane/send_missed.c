/* Missed blocks: see send_missed.h. */
#include "dataplane/send_missed.h"

void send_missed_init(struct send_missed *missed)
{
    *missed = (struct send_missed){.count = 0};
    pthread_mutex_init(&missed->mutex, NULL);
}

void send_missed_done(struct send_missed *missed)
{
    pthread_mutex_destroy(&missed->mutex);
}

/* The last range takes in the block and whatever lies between. */
static void reach(struct far_engine_missed *last, uint64_t block)
{
    uint64_t first = block < last->first_block ? block : last->first_block, end = last->first_block + last->block_count;
    end = block >= end ? block + 1 : end;
    *last = (struct far_engine_missed){.first_block = first, .block_count = end - first};
}

void send_missed_note(void *arg, uint64_t block)
{
    struct send_missed *missed = arg;
    struct far_engine_missed *grown = NULL;
    pthread_mutex_lock(&missed->mutex);
    missed->blocks++;
    for (size_t i = 0; i < missed->count && grown == NULL; i++) {
        struct far_engine_missed *range = &missed->ranges[i];
        bool joins = block + 1 >= range->first_block && block <= range->first_block + range->block_count;
        grown = joins ? range : NULL;
    }
    if (grown == NULL && missed->count < FAR_ENGINE_MISSED_MAX) {
        missed->ranges[missed->count++] = (struct far_engine_missed){.first_block = block, .block_count = 1};
    } else {
        reach(grown != NULL ? grown : &missed->ranges[FAR_ENGINE_MISSED_MAX - 1], block);
    }
    pthread_mutex_unlock(&missed->mutex);
}

void send_missed_forget(struct send_missed *missed, uint64_t from_block)
{
    size_t kept = 0;
    pthread_mutex_lock(&missed->mutex);
    missed->blocks = 0;
    for (size_t i = 0; i < missed->count; i++) {
        struct far_engine_missed range = missed->ranges[i];
        if (range.first_block < from_block) {
            uint64_t rest = from_block - range.first_block;
            range.block_count = range.block_count < rest ? range.block_count : rest;
            missed->blocks += range.block_count; /* with more than FAR_ENGINE_MISSED_MAX ranges: at most so many */
            missed->ranges[kept++] = range;
        }
    }
    missed->count = kept;
    pthread_mutex_unlock(&missed->mutex);
}
