/* A worker of a send: reads chunks of the frozen view, finds zeroes, hashes, compares with the base, and forms groups
 * to offer; packs (compresses, checks) the blocks of a group that the target wants. Packing comes first: it frees
 * buffers.
 *
 * A chunk with many candidates becomes a group of its own and keeps its buffer, nothing is copied. Few candidates of
 * many chunks are gathered into one open group, so that scattered changes fill a group too. */
#include "dataplane/send_local.h"

#include "base/clock.h"
#include "base/hash.h"
#include "dataplane/leaf_lanes.h"

#include <zstd.h>

enum { POOL_POLL_MS = 5, SAMPLE_BYTES = 4096, LEVEL = 1 };

/* What a chunk turned out to hold. */
struct chunk {
    size_t index; /* of its buffer and spare group in the worker */
    uint64_t first_block;
    size_t count;
    uint16_t candidates; /* bit set: to be offered */
    uint16_t zeroes;     /* bit set: now zero, to be told */
    bool hole;           /* known to be all zero, nothing was read */
    struct far_hash256 leaves[FAR_TRANSFER_GROUP];
};

/* ---- hashing ---- */

static int read_chunk(struct send_worker *worker, struct chunk *chunk, struct far_error *err)
{
    struct far_send *send = worker->send;
    uint8_t *buffer = worker->buffers[chunk->index];
    uint64_t offset = chunk->first_block * FAR_BLOCK_BYTES;
    uint64_t rest = send->size_bytes - offset;
    size_t whole = chunk->count * FAR_BLOCK_BYTES;
    size_t length = rest < whole ? (size_t)rest : whole;
    int rc = send_read(worker, buffer, offset, length, &chunk->hole, err);
    if (rc == 0 && !chunk->hole) {
        memset(buffer + length, 0, whole - length);
    }
    return rc;
}

static void hash_chunks(struct send_worker *worker, struct chunk *chunks, size_t chunk_count)
{
    const uint8_t *blocks[SEND_CHUNKS * FAR_TRANSFER_GROUP];
    struct far_hash256 leaves[SEND_CHUNKS * FAR_TRANSFER_GROUP];
    size_t count = 0;
    for (size_t c = 0; c < chunk_count; c++) {
        for (size_t i = 0; i < chunks[c].count; i++) {
            const uint8_t *block = worker->buffers[chunks[c].index] + i * FAR_BLOCK_BYTES;
            if (chunks[c].hole || far_block_is_zero(block, FAR_BLOCK_BYTES)) {
                chunks[c].zeroes |= (uint16_t)(1u << i);
            } else {
                chunks[c].candidates |= (uint16_t)(1u << i);
                blocks[count++] = block;
            }
        }
    }
    far_block_leaves(blocks, count, leaves);
    const struct far_hash256 *next = leaves;
    for (size_t c = 0; c < chunk_count; c++) {
        for (size_t i = 0; i < chunks[c].count; i++) {
            chunks[c].leaves[i] = (chunks[c].zeroes >> i & 1) != 0 ? *far_zero_leaf() : *next++;
        }
    }
}

/* Keep the leaves, and drop what the target is known to have. */
static void compare_chunk(struct far_send *send, struct chunk *chunk)
{
    uint64_t changed = 0;
    for (size_t i = 0; i < chunk->count; i++) {
        uint64_t block = chunk->first_block + i;
        struct far_hash256 before;
        far_map_set(send->map, block, &chunk->leaves[i]);
        if (send->base == NULL) {
            continue;
        }
        far_map_get(send->base, block, &before);
        bool equal = far_hash256_equal(&before, &chunk->leaves[i]);
        changed += !equal;
        if (equal && send->skip_equal) {
            chunk->candidates &= (uint16_t)~(1u << i);
            chunk->zeroes &= (uint16_t)~(1u << i);
        }
    }
    atomic_fetch_add(&send->attempt->bytes_changed, changed * FAR_BLOCK_BYTES);
}

/* ---- groups ---- */

static void add_zeroes(struct send_group *group, const struct chunk *chunk)
{
    struct far_transfer_offer *offer = &group->offer;
    for (size_t i = 0; i < chunk->count; i++) {
        uint64_t block = chunk->first_block + i;
        if ((chunk->zeroes >> i & 1) == 0) {
            continue;
        }
        struct far_transfer_run *last = offer->run_count > 0 ? &offer->runs[offer->run_count - 1] : NULL;
        if (last != NULL && last->first_block + last->count == block) {
            last->count++;
        } else {
            offer->runs[offer->run_count++] = (struct far_transfer_run){.first_block = block, .count = 1};
        }
    }
}

static void add_slot(struct send_group *group, const struct chunk *chunk, size_t i, unsigned place)
{
    struct far_transfer_offer *offer = &group->offer;
    offer->blocks[offer->block_count] = chunk->first_block + i;
    memcpy(offer->ids[offer->block_count], chunk->leaves[i].bytes, 32);
    group->place[offer->block_count++] = (uint8_t)place;
    group->places_used |= (uint16_t)(1u << place);
}

static struct send_group *open_spare(struct send_worker *worker, const struct chunk *chunk)
{
    struct send_group *group = worker->spares[chunk->index];
    worker->spares[chunk->index] = NULL;
    group->low_block = chunk->first_block;
    group->open_chunk = chunk->first_block / FAR_TRANSFER_GROUP;
    return group;
}

static void submit(struct far_send *send, struct send_group *group)
{
    pthread_mutex_lock(&send->mutex);
    group->state = SEND_OFFERING;
    send_queue_push(&send->to_offer, group);
    pthread_mutex_unlock(&send->mutex);
    pthread_cond_signal(&send->out); /* not before: it would wake only to wait for the mutex */
}

/* Candidates of a sparse chunk join the open group; it keeps the chunk's buffer if it has none, else they are
 * copied. */
static void gather(struct send_worker *worker, const struct chunk *chunk)
{
    unsigned count = (unsigned)__builtin_popcount(chunk->candidates);
    if (worker->open != NULL && worker->open->offer.block_count + count > FAR_TRANSFER_GROUP) {
        submit(worker->send, worker->open);
        worker->open = NULL;
    }
    if (worker->open == NULL) {
        worker->open = open_spare(worker, chunk);
    }
    struct send_group *group = worker->open;
    bool in_place = count > 0 && group->buffer == NULL;
    if (in_place) {
        group->buffer = worker->buffers[chunk->index];
    }
    for (size_t i = 0; i < chunk->count; i++) {
        if ((chunk->candidates >> i & 1) == 0) {
            continue;
        }
        unsigned place = in_place ? (unsigned)i : (unsigned)__builtin_ctz((unsigned)~group->places_used);
        if (!in_place) {
            memcpy(group->buffer + place * FAR_BLOCK_BYTES, worker->buffers[chunk->index] + i * FAR_BLOCK_BYTES,
                   FAR_BLOCK_BYTES);
        }
        add_slot(group, chunk, i, place);
    }
    if (in_place) {
        worker->buffers[chunk->index] = NULL;
    }
    add_zeroes(group, chunk);
}

static void offer_chunk(struct send_worker *worker, const struct chunk *chunk)
{
    struct far_send *send = worker->send;
    uint64_t number = chunk->first_block / FAR_TRANSFER_GROUP;
    if (__builtin_popcount(chunk->candidates) >= SEND_DIRECT_MIN) {
        struct send_group *group = open_spare(worker, chunk);
        group->buffer = worker->buffers[chunk->index];
        worker->buffers[chunk->index] = NULL;
        for (size_t i = 0; i < chunk->count; i++) {
            if ((chunk->candidates >> i & 1) != 0) {
                add_slot(group, chunk, i, (unsigned)i);
            }
        }
        add_zeroes(group, chunk);
        submit(send, group);
    } else if ((chunk->candidates | chunk->zeroes) != 0) {
        gather(worker, chunk);
    }
    struct send_group *open = worker->open;
    if (open != NULL && (open->offer.block_count == FAR_TRANSFER_GROUP || number - open->open_chunk >= SEND_OPEN_CHUNKS ||
                         open->offer.run_count > FAR_TRANSFER_RUNS_MAX - FAR_TRANSFER_GROUP)) {
        submit(send, open);
        worker->open = NULL;
    }
}

static int do_chunks(struct send_worker *worker, uint64_t number, size_t count, struct far_error *err)
{
    struct far_send *send = worker->send;
    struct chunk chunks[SEND_CHUNKS] = {0};
    int rc = 0;
    for (size_t c = 0; rc == 0 && c < count; c++) {
        uint64_t first = (number + c) * FAR_TRANSFER_GROUP;
        uint64_t rest = send->blocks - first;
        chunks[c].index = c;
        chunks[c].first_block = first;
        chunks[c].count = rest < FAR_TRANSFER_GROUP ? (size_t)rest : FAR_TRANSFER_GROUP;
        rc = read_chunk(worker, &chunks[c], err);
    }
    if (rc == 0) {
        hash_chunks(worker, chunks, count);
    }
    for (size_t c = 0; rc == 0 && c < count; c++) {
        compare_chunk(send, &chunks[c]);
        if (!send->local) {
            offer_chunk(worker, &chunks[c]);
        }
    }
    return rc;
}

/* ---- packing ---- */

/* Compress a block where it lies; the stored length, or 0 where it stays as it is. A sample says whether to try. */
static uint32_t compress_block(struct send_worker *worker, uint8_t *block)
{
    size_t bound = ZSTD_compressBound(FAR_BLOCK_BYTES);
    const uint8_t *sample = block + FAR_BLOCK_BYTES / 2;
    size_t length = ZSTD_compressCCtx(worker->zstd, worker->scratch, bound, sample, SAMPLE_BYTES, LEVEL);
    if (ZSTD_isError(length) || length > SAMPLE_BYTES - SAMPLE_BYTES / 8) {
        return 0;
    }
    length = ZSTD_compressCCtx(worker->zstd, worker->scratch, bound, block, FAR_BLOCK_BYTES, LEVEL);
    if (ZSTD_isError(length) || length > FAR_BLOCK_BYTES - FAR_BLOCK_BYTES / 8) {
        return 0;
    }
    memcpy(block, worker->scratch, length);
    return (uint32_t)length;
}

static void pack(struct send_worker *worker, struct send_group *group)
{
    struct far_transfer_data *data = &group->data;
    send_describe_raw(group);
    for (size_t i = 0; i < data->count; i++) {
        struct far_transfer_stored *stored = &data->stored[i];
        uint8_t *block = group->buffer + group->place[stored->slot] * FAR_BLOCK_BYTES;
        uint32_t length = compress_block(worker, block);
        if (length != 0) {
            stored->codec = FAR_TRANSFER_ZSTD;
            stored->length = length;
            stored->hash = far_hash64(block, length);
        }
    }
}

/* ---- the thread ---- */

static struct send_group *reserve_group(struct far_send *send)
{
    for (size_t i = 0; i < SEND_GROUPS && send->groups_used < SEND_GROUPS; i++) {
        struct send_group *group = &send->groups[i];
        if (group->state == SEND_FREE) {
            group->state = SEND_OPEN;
            group->buffer = NULL;
            group->places_used = 0;
            group->low_block = UINT64_MAX;
            group->offer.group = (uint32_t)i;
            group->offer.block_count = group->offer.run_count = 0;
            send->groups_used++;
            return group;
        }
    }
    return NULL;
}

/* The mutex is held. For how many of the next chunks has the worker what they may need? */
static size_t ready(struct far_send *send, struct send_worker *worker, bool *ret_pool_empty)
{
    size_t sending = atomic_load(&send->engine->sending_hint);
    size_t share = far_pool_count(send->engine->pool_out) / (sending > 0 ? sending : 1);
    size_t most = share < SEND_BUFFERS_MIN ? SEND_BUFFERS_MIN : share < send->buffers_max ? share : send->buffers_max;
    uint64_t rest = send->chunks - send->next_chunk;
    size_t wanted = rest < SEND_CHUNKS ? (size_t)rest : SEND_CHUNKS, have = 0;
    for (size_t c = 0, kept = 0; c < SEND_CHUNKS; c++) { /* a chunk that was gathered leaves its buffer to the next ones */
        uint8_t *buffer = worker->buffers[c];
        worker->buffers[c] = NULL;
        worker->buffers[kept] = buffer;
        kept += buffer != NULL;
    }
    for (; have < wanted; have++) {
        if (worker->buffers[have] == NULL && send->buffers < most) {
            worker->buffers[have] = far_pool_try(send->engine->pool_out);
            send->buffers += worker->buffers[have] != NULL;
            *ret_pool_empty = worker->buffers[have] == NULL;
        }
        if (worker->spares[have] == NULL) {
            worker->spares[have] = reserve_group(send);
        }
        if (worker->buffers[have] == NULL || worker->spares[have] == NULL) {
            break;
        }
    }
    return have;
}

static void next_chunks(struct far_send *send, struct send_worker *worker, size_t count)
{
    uint64_t number = send->next_chunk;
    send->next_chunk += count;
    worker->low_block = worker->open != NULL ? worker->open->low_block : number * FAR_TRANSFER_GROUP;
    send->busy++;
    pthread_mutex_unlock(&send->mutex);
    struct far_error error;
    int rc = do_chunks(worker, number, count, &error);
    pthread_mutex_lock(&send->mutex);
    send->busy--;
    worker->low_block = worker->open != NULL ? worker->open->low_block : UINT64_MAX;
    if (rc != 0) {
        send_stop(send, rc, &error, true);
    }
    if (send_all_hashed(send)) {
        pthread_cond_broadcast(&send->work); /* open groups are to be offered as they are */
        pthread_cond_signal(&send->out);
    }
}

static void finish_open(struct far_send *send, struct send_worker *worker)
{
    struct send_group *group = worker->open;
    worker->open = NULL;
    worker->low_block = UINT64_MAX;
    group->state = SEND_OFFERING;
    send_queue_push(&send->to_offer, group);
    pthread_cond_signal(&send->out);
}

static void wait_for_pool(struct far_send *send)
{
    struct timespec at = far_clock_monotonic_in(POOL_POLL_MS);
    pthread_cond_timedwait(&send->work, &send->mutex, &at);
}

void *send_worker_main(void *arg)
{
    struct send_worker *worker = arg;
    struct far_send *send = worker->send;
    pthread_mutex_lock(&send->mutex);
    while (!send->stop) {
        struct send_group *group = send_queue_pop(&send->to_pack);
        bool pool_empty = false;
        size_t chunks = group == NULL ? ready(send, worker, &pool_empty) : 0;
        if (group != NULL) {
            pthread_mutex_unlock(&send->mutex);
            pack(worker, group);
            pthread_mutex_lock(&send->mutex);
            group->state = SEND_SENDING;
            send_queue_push(&send->to_send, group);
            pthread_cond_signal(&send->out);
        } else if (chunks > 0) {
            next_chunks(send, worker, chunks);
            send_note_progress(send);
        } else if (send->next_chunk >= send->chunks && worker->open != NULL) {
            finish_open(send, worker);
        } else if (pool_empty) {
            wait_for_pool(send);
        } else {
            pthread_cond_wait(&send->work, &send->mutex);
        }
    }
    pthread_mutex_unlock(&send->mutex);
    return NULL;
}
