/* A worker of a send: takes blocks from the plan, reads them, finds zeroes, hashes, compares with the base, and forms groups
 * to offer; reads again and packs what the target wants (send_pack.c). Packing comes first: it frees buffers.
 *
 * A chunk with many candidates becomes a group of its own and keeps its buffer, nothing is copied. Few candidates of
 * many chunks are gathered into one open group, so that scattered changes fill a group too. */
#include "dataplane/send_local.h"

#include "base/clock.h"
#include "base/hash.h"
#include "dataplane/leaf_lanes.h"

#include <stdio.h>

enum {
    POOL_POLL_MS = 5,
    PAGES_AHEAD = 32,                     /* of the map, opened before they are needed: the target may have to be asked */
    SPREAD_MAX = 1 << 30,                 /* blocks between the first and the last of a chunk */
    DROP_SHARE = 4,                       /* of what is offered at most a fourth is wanted: buffers need not be kept for it */
};

/* ---- reading and hashing ---- */

/* Neighbours are read at once. */
static int read_chunk(struct send_worker *worker, struct send_chunk *chunk, struct far_error *err)
{
    struct far_send *send = worker->send;
    uint8_t *buffer = worker->buffers[chunk->index];
    struct send_stopwatch watch = send_stopwatch_begin();
    int rc = 0;
    for (size_t i = 0, n; rc == 0 && i < chunk->count; i += n) {
        for (n = 1; i + n < chunk->count && chunk->blocks[i + n] == chunk->blocks[i] + n; n++) {
        }
        uint64_t offset = chunk->blocks[i] * FAR_BLOCK_BYTES, rest = send->size_bytes - offset;
        size_t whole = n * FAR_BLOCK_BYTES, length = rest < whole ? (size_t)rest : whole;
        bool hole = false;
        rc = send_read(worker, buffer + i * FAR_BLOCK_BYTES, offset, length, &hole, err);
        if (rc == 0 && hole) {
            chunk->holes |= (uint16_t)(((1u << n) - 1) << i);
        } else if (rc == 0) {
            memset(buffer + i * FAR_BLOCK_BYTES + length, 0, whole - length);
            atomic_fetch_add(&send->attempt->figures.bytes_read, length);
        }
    }
    atomic_fetch_add(&send->read_blocked_ns, send_stopwatch_blocked_ns(&watch));
    return rc;
}

/* What is to be hashed of the chunks in hand: as many at a time as there are lanes, while they are still in the cache. */
struct hashing {
    const uint8_t *blocks[2 * FAR_TRANSFER_GROUP];
    struct far_hash256 *leaves[2 * FAR_TRANSFER_GROUP]; /* where they go */
    size_t count;
};

static void hash_some(struct hashing *hashing, size_t count)
{
    struct far_hash256 leaves[FAR_TRANSFER_GROUP];
    far_block_leaves(hashing->blocks, count, leaves);
    for (size_t i = 0; i < count; i++) {
        *hashing->leaves[i] = leaves[i];
    }
    hashing->count -= count;
    memmove(hashing->blocks, hashing->blocks + count, hashing->count * sizeof hashing->blocks[0]);
    memmove(hashing->leaves, hashing->leaves + count, hashing->count * sizeof hashing->leaves[0]);
}

/* Leaves of the chunks before it are complete once hash_some() had the rest. */
static void hash_chunk(struct send_worker *worker, struct send_chunk *chunk, struct hashing *hashing)
{
    size_t zeroes = 0;
    for (size_t i = 0; i < chunk->count; i++) {
        const uint8_t *block = worker->buffers[chunk->index] + i * FAR_BLOCK_BYTES;
        if ((chunk->holes >> i & 1) != 0 || far_block_is_zero(block, FAR_BLOCK_BYTES)) {
            chunk->zeroes |= (uint16_t)(1u << i);
            chunk->leaves[i] = *far_zero_leaf();
            zeroes++;
        } else {
            chunk->candidates |= (uint16_t)(1u << i);
            hashing->leaves[hashing->count] = &chunk->leaves[i];
            hashing->blocks[hashing->count++] = block;
        }
    }
    worker->zeroes_before = zeroes == chunk->count;
    while (hashing->count >= FAR_TRANSFER_GROUP) {
        hash_some(hashing, FAR_TRANSFER_GROUP);
    }
    atomic_fetch_add(&worker->send->attempt->figures.bytes_zero, (uint64_t)zeroes * FAR_BLOCK_BYTES);
    atomic_fetch_add(&worker->send->attempt->hashed_bytes, (uint64_t)chunk->count * FAR_BLOCK_BYTES);
}

/* Keep the leaves, and drop what the target is known to have. */
/* The target's copy is damaged: it is offered also if it did not change. */
static bool is_to_heal(const struct far_send *send, uint64_t block)
{
    const struct far_engine_order *order = &send->attempt->order;
    bool found = false;
    for (size_t i = 0; i < order->damage_count && !found; i++) {
        const struct far_engine_damage *damage = &order->damages[i];
        found = block >= damage->first_block && block - damage->first_block < damage->block_count;
    }
    return found;
}

static void compare_chunk(struct far_send *send, struct send_chunk *chunk)
{
    uint64_t changed = 0, audited = 0;
    for (size_t i = 0; i < chunk->count; i++) {
        bool differs = far_source_map_set(send->map, chunk->blocks[i], &chunk->leaves[i]);
        bool unlisted = (chunk->unlisted >> i & 1) != 0;
        changed += differs;
        audited += unlisted;
        if (unlisted && differs) {
            send_missed_note(&send->missed, chunk->blocks[i]);
            far_source_map_missed(send->map, chunk->blocks[i]);
        }
        if (!differs && send->skip_equal && !is_to_heal(send, chunk->blocks[i])) {
            chunk->candidates &= (uint16_t)~(1u << i);
            chunk->zeroes &= (uint16_t)~(1u << i);
        }
    }
    if (send->skip_equal || send->local) {
        atomic_fetch_add(&send->attempt->bytes_changed, changed * FAR_BLOCK_BYTES);
    }
    atomic_fetch_add(&send->audited_blocks, audited);
}

/* ---- groups ---- */

static void add_zeroes(struct send_group *group, const struct send_chunk *chunk)
{
    struct far_transfer_offer *offer = &group->offer;
    for (size_t i = 0; i < chunk->count; i++) {
        uint64_t block = chunk->blocks[i];
        if ((chunk->zeroes >> i & 1) == 0) {
            continue;
        }
        struct far_transfer_run *last = offer->run_count > 0 ? &offer->runs[offer->run_count - 1] : NULL;
        if (last != NULL && last->first_block + last->count == block && last->count < UINT32_MAX) {
            last->count++;
        } else {
            offer->runs[offer->run_count++] = (struct far_transfer_run){.first_block = block, .count = 1};
        }
    }
}

static void add_slot(struct send_group *group, const struct send_chunk *chunk, size_t i, unsigned place)
{
    struct far_transfer_offer *offer = &group->offer;
    offer->blocks[offer->block_count] = chunk->blocks[i];
    memcpy(offer->ids[offer->block_count], chunk->leaves[i].bytes, 32);
    group->place[offer->block_count++] = (uint8_t)place;
    group->places_used |= (uint16_t)(1u << place);
}

static struct send_group *open_spare(struct send_worker *worker, const struct send_chunk *chunk)
{
    struct send_group *group = worker->spares[chunk->index];
    worker->spares[chunk->index] = NULL;
    group->low_block = chunk->blocks[0];
    group->open_chunk = chunk->blocks[0] / FAR_TRANSFER_GROUP;
    return group;
}

/* Where little of what is offered is wanted, buffers are short of work, not offers of buffers: what is wanted of a group without
 * one is read once more. The mutex is held. */
static bool keeps_buffer(const struct far_send *send)
{
    return send->buffers + SEND_CHUNKS < send->buffers_max || send->offered_blocks < SEND_MARK_BLOCKS ||
           send->wanted_blocks * DROP_SHARE > send->offered_blocks;
}

/* Has the open group, if there is one, waited long enough for more? */
static bool open_is_due(const struct send_worker *worker)
{
    return worker->open != NULL && far_clock_monotonic_ms() - worker->open_since_ms >= SEND_OPEN_MS;
}

static void submit(struct far_send *send, struct send_group *group)
{
    pthread_mutex_lock(&send->mutex);
    if (group->buffer != NULL && !keeps_buffer(send)) {
        send_group_drop_buffer(send, group);
    }
    send_group_offer(send, group);
    pthread_mutex_unlock(&send->mutex);
    pthread_cond_signal(&send->out); /* not before: it would wake only to wait for the mutex */
}

/* Candidates of a sparse chunk join the open group; it keeps the chunk's buffer if it has none, else they are
 * copied. */
static void gather(struct send_worker *worker, const struct send_chunk *chunk)
{
    unsigned count = (unsigned)__builtin_popcount(chunk->candidates);
    struct send_group *open = worker->open;
    if (open != NULL && (open->offer.block_count + count > FAR_TRANSFER_GROUP ||
                         chunk->blocks[chunk->count - 1] - open->low_block > SPREAD_MAX)) {
        submit(worker->send, open);
        worker->open = NULL;
    }
    if (worker->open == NULL) {
        worker->open = open_spare(worker, chunk);
        worker->open_since_ms = far_clock_monotonic_ms();
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

static void offer_chunk(struct send_worker *worker, const struct send_chunk *chunk)
{
    struct far_send *send = worker->send;
    uint64_t number = chunk->blocks[0] / FAR_TRANSFER_GROUP;
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
                         open_is_due(worker) || open->offer.run_count > FAR_TRANSFER_RUNS_MAX - FAR_TRANSFER_GROUP)) {
        submit(send, open);
        worker->open = NULL;
    }
}

static int do_chunks(struct send_worker *worker, struct send_chunk *chunks, size_t count, struct far_error *err)
{
    struct far_send *send = worker->send;
    struct hashing hashing = {.count = 0};
    int rc = 0;
    for (size_t c = 0; rc == 0 && c < count; c++) {
        rc = read_chunk(worker, &chunks[c], err);
        if (rc == 0) {
            hash_chunk(worker, &chunks[c], &hashing);
        }
    }
    if (rc == 0 && hashing.count > 0) {
        hash_some(&hashing, hashing.count);
    }
    for (size_t c = 0; rc == 0 && c < count; c++) {
        compare_chunk(send, &chunks[c]);
        if (!send->local) {
            offer_chunk(worker, &chunks[c]);
        }
    }
    return rc;
}

/* ---- taking from the plan ---- */

static struct send_group *reserve_group(struct far_send *send)
{
    for (size_t i = 0; i < SEND_GROUPS && send->groups_used < SEND_GROUPS; i++) {
        struct send_group *group = &send->groups[(send->group_count + i) % SEND_GROUPS];
        if (group->state == SEND_FREE) {
            group->state = SEND_OPEN;
            group->buffer = NULL;
            group->places_used = 0;
            group->counted = false;
            group->low_block = UINT64_MAX;
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
    size_t have = 0;
    for (size_t c = 0, kept = 0; c < SEND_CHUNKS; c++) { /* a chunk that was gathered leaves its buffer to the next ones */
        uint8_t *buffer = worker->buffers[c];
        worker->buffers[c] = NULL;
        worker->buffers[kept] = buffer;
        kept += buffer != NULL;
    }
    for (; have < SEND_CHUNKS && !send->planned; have++) {
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

/* Opens the pages of the map that come next, so that those which the target has to be asked for are under way. */
static void open_ahead(struct far_send *send)
{
    const struct send_plan *plan = &send->plan;
    if (!plan->has_list) {
        uint64_t page = plan->at / FAR_MAP_FANOUT;
        for (uint64_t i = 1; i <= PAGES_AHEAD && (page + i) * FAR_MAP_FANOUT < send->blocks; i++) {
            far_source_map_open(send->map, (page + i) * FAR_MAP_FANOUT, NULL);
        }
        return;
    }
    for (size_t i = plan->extent_at; i < plan->extent_count; i++) {
        far_source_map_open(send->map, plan->extents[i].offset / FAR_BLOCK_BYTES, NULL);
    }
}

/* The next blocks, at most those of a chunk; in a whole disk neighbours that begin at a multiple of a chunk. FAR_BUSY: their
 * page of the map is not there yet; what was taken before is in the chunk all the same. */
static int take_chunk(struct far_send *send, struct send_chunk *chunk, struct far_error *err)
{
    struct send_plan *plan = &send->plan;
    while (chunk->count < FAR_TRANSFER_GROUP) {
        struct send_plan_run run;
        uint64_t room = plan->has_list ? FAR_TRANSFER_GROUP - chunk->count : FAR_TRANSFER_GROUP - plan->at % FAR_TRANSFER_GROUP;
        int rc = send_plan_peek(plan, room, &run, err);
        if (rc != 0 || run.block_count == 0) {
            return rc;
        }
        if (chunk->count > 0 && (run.first_block - chunk->blocks[0] > SPREAD_MAX || !plan->has_list)) {
            return 0;
        }
        uint64_t page_end = (run.first_block / FAR_MAP_FANOUT + 1) * FAR_MAP_FANOUT;
        uint64_t end = run.first_block + run.block_count < page_end ? run.first_block + run.block_count : page_end;
        rc = far_source_map_open(send->map, run.first_block, err);
        if (rc != 0) {
            open_ahead(send);
            return rc;
        }
        for (uint64_t block = run.first_block; block < end; block++) {
            chunk->unlisted |= (uint16_t)(run.listed ? 0 : 1u << chunk->count);
            chunk->blocks[chunk->count++] = block;
        }
        send_plan_take(plan, end);
    }
    return 0;
}

/* The plan's lock is held, the platform may be asked. *ret_end: nothing is left. */
static int take_chunks(struct far_send *send, struct send_chunk *chunks, size_t max, size_t *ret_count, bool *ret_end,
                       struct far_error *err)
{
    size_t count = 0;
    int rc = 0;
    *ret_end = false;
    while (rc == 0 && count < max) {
        chunks[count] = (struct send_chunk){.index = count};
        rc = take_chunk(send, &chunks[count], err);
        if (chunks[count].count == 0) {
            *ret_end = rc == 0;
            break;
        }
        count++;
    }
    if (*ret_end) {
        rc = far_source_map_ready(send->map, err);
        *ret_end = rc == 0;
    }
    *ret_count = count;
    return rc == FAR_BUSY || count > 0 ? 0 : rc;
}

/* Pages before it in which nothing differs from the base are not needed any more: what is offered differs, so its page does, and
 * stays; but for blocks that are offered because the target lost the base, or some of what it stored. The mutex is held. */
static uint64_t work_behind(const struct far_send *send)
{
    uint64_t block = send->next_block;
    if ((!send->skip_equal || send->attempt->order.damage_count > 0) && send->attempt->order.has_base_root) {
        return send_low_block(send);
    }
    for (size_t i = 0; i < send->engine->config.worker_count; i++) {
        block = send->workers[i].work_block < block ? send->workers[i].work_block : block;
    }
    return block;
}

static void next_chunks(struct far_send *send, struct send_worker *worker, size_t max)
{
    struct send_chunk chunks[SEND_CHUNKS];
    struct far_error error;
    size_t count = 0;
    bool end = false;
    uint64_t pages_come = send->pages_come;
    send->busy++;
    worker->low_block = worker->work_block = send->next_block; /* also while nobody knows yet what comes */
    if (worker->open != NULL && worker->open->low_block < worker->low_block) {
        worker->low_block = worker->open->low_block;
    }
    pthread_mutex_unlock(&send->mutex);
    pthread_mutex_lock(&send->plan_mutex);
    int rc = take_chunks(send, chunks, max, &count, &end, &error);
    pthread_mutex_lock(&send->mutex);
    bool dial_again = rc == FAR_CORRUPT && send->plan.has_list; /* without the list; once */
    if (dial_again) {
        send->list_failed = true;
        snprintf(send->resync_reason, sizeof send->resync_reason, "%.*s", (int)sizeof send->resync_reason - 1,
                 error.message);
    }
    send->next_block = end ? send->blocks : send->plan.at;
    send->planned = send->planned || end;
    if (count > 0) {
        worker->low_block = worker->work_block = chunks[0].blocks[0];
    }
    if (worker->open != NULL && worker->open->low_block < worker->low_block) {
        worker->low_block = worker->open->low_block;
    }
    pthread_mutex_unlock(&send->plan_mutex);
    pthread_mutex_unlock(&send->mutex);
    rc = rc == 0 && count > 0 ? do_chunks(worker, chunks, count, &error) : rc;
    pthread_mutex_lock(&send->mutex);
    if (far_source_map_is_crowded(send->map) || far_source_map_is_full(send->map)) {
        uint64_t block = work_behind(send);
        pthread_mutex_unlock(&send->mutex);
        far_source_map_pass(send->map, block);
        pthread_mutex_lock(&send->mutex);
    }
    send->busy--;
    worker->work_block = UINT64_MAX;
    worker->low_block = worker->open != NULL ? worker->open->low_block : UINT64_MAX;
    if (rc != 0) {
        send_stop(send, rc, &error, !dial_again);
    } else if (count == 0 && !end && pages_come == send->pages_come) { /* pages of the map are on their way */
        struct timespec at = far_clock_monotonic_in(send->engine->config.idle_ms / 4);
        pthread_cond_signal(&send->out);
        pthread_cond_timedwait(&send->work, &send->mutex, &at);
    }
    if (send_all_hashed(send)) {
        pthread_cond_broadcast(&send->work); /* open groups are to be offered as they are */
        pthread_cond_signal(&send->out);
        pthread_cond_broadcast(&send->ended);
    }
}

/* ---- the thread ---- */

static void finish_open(struct far_send *send, struct send_worker *worker)
{
    struct send_group *group = worker->open;
    worker->open = NULL;
    worker->low_block = UINT64_MAX;
    send_group_offer(send, group);
    pthread_cond_signal(&send->out);
}

/* Others have chunks in hand since so long ago that pages of the map pile up behind them. The mutex is held. */
static bool is_far_ahead(const struct far_send *send)
{
    return send->busy > 0 && far_source_map_is_full(send->map);
}

static void wait_for_pool(struct far_send *send)
{
    struct timespec at = far_clock_monotonic_in(POOL_POLL_MS);
    send->pool_was_empty = true;
    pthread_cond_timedwait(&send->work, &send->mutex, &at);
}

/* What is wanted of it, once more; no buffer to be had: later. The mutex is held. */
static bool read_again(struct far_send *send, struct send_worker *worker, struct send_group *group)
{
    struct far_error error;
    bool changed = false;
    uint8_t *buffer = worker->buffers[0];
    worker->buffers[0] = NULL;
    if (buffer == NULL && (buffer = far_pool_try(send->engine->pool_out)) != NULL) {
        send->buffers++;
    }
    if (buffer == NULL) {
        send_queue_push(&send->to_read, group);
        return false;
    }
    group->buffer = buffer;
    pthread_mutex_unlock(&send->mutex);
    int rc = send_read_again(worker, group, &changed, &error);
    pthread_mutex_lock(&send->mutex);
    if (rc != 0) {
        send_stop(send, rc, &error, true);
        group->state = SEND_READING;
    } else if (changed) {
        group->state = SEND_OFFERED; /* keeps its buffer: a block that changes all the time would never be sent */
        send_group_offer(send, group);
        pthread_cond_signal(&send->out);
    } else {
        group->state = SEND_PACKING;
        send_queue_push(&send->to_pack, group);
    }
    return true;
}

void *send_worker_main(void *arg)
{
    struct send_worker *worker = arg;
    struct far_send *send = worker->send;
    struct send_group *group;
    pthread_mutex_lock(&send->mutex);
    while (!send->stop) {
        bool pool_empty = false;
        if ((group = send_queue_pop(&send->to_pack)) != NULL) {
            pthread_mutex_unlock(&send->mutex);
            send_pack(worker, group);
            pthread_mutex_lock(&send->mutex);
            group->state = SEND_SENDING;
            send_queue_insert(&send->to_send, group);
            pthread_cond_signal(&send->out);
            continue;
        }
        if ((group = send_queue_pop(&send->to_read)) != NULL) {
            if (!read_again(send, worker, group)) {
                wait_for_pool(send);
            }
            continue;
        }
        size_t chunks = ready(send, worker, &pool_empty);
        if (chunks > 0 && is_far_ahead(send)) {
            struct timespec at = far_clock_monotonic_in(POOL_POLL_MS);
            pthread_cond_timedwait(&send->work, &send->mutex, &at);
        } else if (chunks > 0) {
            next_chunks(send, worker, chunks);
        } else if (worker->open != NULL && (send->planned || open_is_due(worker))) {
            finish_open(send, worker);
        } else if (pool_empty) {
            wait_for_pool(send);
        } else if (worker->open != NULL) {
            struct timespec at = far_clock_monotonic_in(SEND_OPEN_MS);
            pthread_cond_timedwait(&send->work, &send->mutex, &at);
        } else {
            pthread_cond_wait(&send->work, &send->mutex);
        }
    }
    pthread_mutex_unlock(&send->mutex);
    return NULL;
}
