/* One disk against its point: what the platform's list of changes names, or all of it, is read and hashed; the map of the point comes page
 * by page from its vault, each held against the root in the log (source_map.h). Blocks that differ become extents. */
#include "dataplane/compare.h"
#include "dataplane/id_key.h"
#include "dataplane/leaf_lanes.h"
#include "dataplane/send_plan.h"
#include "dataplane/source_map.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    GROUP = FAR_TRANSFER_GROUP, /* blocks read and hashed at once */
    PAGES_AHEAD = 32,           /* of the map, asked for before they are needed, where everything is read */
};

struct work {
    struct compare_link *link;
    const struct compare_disk *disk;
    struct far_engine_lost_disk *told;
    struct far_source_map *map;
    struct send_plan plan;
    void *handle;
    uint8_t *buffer;
    struct far_transfer_hello hello;
    struct far_adapter_extent known; /* of the view, where it was asked for last */
    struct far_transfer_page page;
    bool list_failed;
};

/* ---- pages of the point ---- */

static int write_asks(struct work *work, struct far_error *err)
{
    struct compare_link *link = work->link;
    uint64_t idle_ms = link->attempt->engine->config.idle_ms, index, now_ms = far_clock_monotonic_ms();
    uint8_t head[64];
    unsigned level;
    int rc = 0;
    bool any = false;
    while (rc == 0 && far_source_map_next_ask(work->map, &level, &index)) {
        size_t len = far_transfer_page_ask_encode(level, index, head);
        rc = far_frame_add(link->stream, FAR_TRANSFER_PAGE_ASK, head, len, idle_ms, err);
        any = true;
    }
    if (rc == 0 && !any && now_ms - link->written_ms > idle_ms / 4) {
        rc = far_frame_add(link->stream, FAR_TRANSFER_PING, head, 0, idle_ms, err);
        any = true;
    }
    link->written_ms = any ? now_ms : link->written_ms;
    return rc == 0 && any ? far_bstream_flush(link->stream, idle_ms, err) : rc;
}

static int read_page(struct work *work, struct far_error *err)
{
    struct compare_link *link = work->link;
    struct far_frame frame;
    struct far_hash256 hashes[FAR_MAP_FANOUT];
    int rc = far_frame_read(link->stream, link->attempt->engine->config.idle_ms, &frame, err);
    if (rc != 0 || frame.header.type == FAR_TRANSFER_PING) {
        return rc;
    }
    if (frame.header.type == FAR_TRANSFER_ERROR) {
        return far_frame_error(&frame, err);
    }
    if (frame.header.type != FAR_TRANSFER_MAP_PAGE) {
        return far_fail(err, FAR_INVALID, "the vault's node sent something else than pages");
    }
    rc = far_transfer_page_decode(far_frame_head(&frame), &work->page, err);
    if (rc == 0) {
        memcpy(hashes, work->page.hashes, sizeof hashes);
        rc = far_source_map_take(work->map, work->page.level, work->page.index, hashes, err);
    }
    return rc;
}

static int connect_again(struct work *work, struct far_error *err)
{
    uint64_t base_bytes;
    int rc = far_attempt_check(work->link->attempt, err);
    rc = rc == 0 ? compare_link_begin(work->link, &work->hello, &base_bytes, err) : rc;
    far_source_map_ask_again(work->map);
    return rc;
}

/* Asks for what is to be asked for; waits: until one more page is here. A connection that is lost is made anew. */
static int pump(struct work *work, bool waits, struct far_error *err)
{
    int rc = write_asks(work, err);
    rc = rc == 0 && waits ? read_page(work, err) : rc;
    return compare_link_is_lost(rc) ? connect_again(work, err) : rc;
}

static int open_block(struct work *work, uint64_t block, struct far_error *err)
{
    for (;;) {
        int rc = far_source_map_open(work->map, block, err);
        if (rc != FAR_BUSY) {
            return rc;
        }
        rc = pump(work, true, err);
        if (rc != 0) {
            return rc;
        }
    }
}

static int open_ahead(struct work *work, uint64_t block, struct far_error *err)
{
    for (uint64_t i = 1; i <= PAGES_AHEAD && !work->plan.has_list && block % FAR_MAP_FANOUT == 0; i++) {
        uint64_t ahead = block + i * FAR_MAP_FANOUT;
        int rc = ahead < far_source_map_blocks(work->map) ? far_source_map_open(work->map, ahead, err) : 0;
        if (rc != 0 && rc != FAR_BUSY) {
            return rc;
        }
    }
    return 0;
}

/* Pages behind which nothing is looked at any more go. */
static int let_go(struct work *work, uint64_t block, struct far_error *err)
{
    int rc = FAR_BUSY;
    far_source_map_pass(work->map, block);
    while (far_source_map_is_full(work->map) && rc == FAR_BUSY) {
        rc = far_source_map_close_to(work->map, block, err);
        int pumped = rc == FAR_BUSY ? pump(work, true, err) : 0;
        rc = pumped != 0 ? pumped : rc;
    }
    return rc == FAR_BUSY ? 0 : rc;
}

/* ---- the view ---- */

static int fetch_list(void *arg, uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                      uint64_t *ret_next, struct far_error *err)
{
    struct work *work = arg;
    const struct compare_disk *disk = work->disk;
    struct far_adapter_error said = {0};
    enum far_adapter_outcome outcome = FAR_ADAPTER_OK;
    int answer = disk->platform->adapter->changes->changed(disk->platform->platform, disk->ref, &disk->disk, disk->since, offset,
                                                           ret_extents, max, ret_count, ret_next, &said);
    int rc = far_adapter_result(answer, &said, &outcome, err);
    if (outcome == FAR_ADAPTER_RESYNC || rc == FAR_CORRUPT) {
        work->list_failed = true;
        snprintf(work->told->problem, sizeof work->told->problem, "%.*s", (int)sizeof work->told->problem - 1, err->message);
    }
    return rc;
}

static bool is_hole(struct work *work, uint64_t offset, uint64_t length)
{
    const struct far_adapter_bytes *bytes = work->disk->platform->adapter->bytes;
    struct far_adapter_extent *known = &work->known;
    size_t count = 0;
    if (offset < known->offset || offset - known->offset >= known->length) {
        bool asks = bytes->extents != NULL && !work->plan.has_list;
        bool told = asks && bytes->extents(work->handle, offset, known, 1, &count, NULL) == FAR_ADAPTER_OK && count == 1 &&
                    offset >= known->offset && offset - known->offset < known->length;
        *known = told ? *known : (struct far_adapter_extent){.offset = 0, .length = 0};
        if (!told) {
            return false;
        }
    }
    return known->zero && known->length - (offset - known->offset) >= length;
}

static int read_run(struct work *work, const struct send_plan_run *run, struct far_hash256 leaves[GROUP], struct far_error *err)
{
    uint64_t offset = run->first_block * FAR_BLOCK_BYTES, left = work->disk->size_bytes - offset;
    size_t whole = (size_t)run->block_count * FAR_BLOCK_BYTES, length = left < whole ? (size_t)left : whole, count = 0;
    const uint8_t *blocks[GROUP];
    struct far_hash256 hashed[GROUP];
    size_t places[GROUP];
    struct far_adapter_error said = {0};
    enum far_adapter_outcome outcome;
    bool hole = is_hole(work, offset, length);
    int answer = hole ? FAR_ADAPTER_OK
                      : work->disk->platform->adapter->bytes->read(work->handle, work->buffer, length, offset, &said);
    int rc = far_adapter_result(answer, &said, &outcome, err);
    if (rc != 0) {
        return rc;
    }
    memset(work->buffer + length, 0, whole - length);
    for (size_t i = 0; i < run->block_count; i++) {
        const uint8_t *block = work->buffer + i * FAR_BLOCK_BYTES;
        leaves[i] = *far_zero_leaf();
        if (!hole && !far_block_is_zero(block, FAR_BLOCK_BYTES)) {
            places[count] = i;
            blocks[count++] = block;
        }
    }
    far_block_leaves(blocks, count, hashed);
    for (size_t i = 0; i < count; i++) {
        leaves[places[i]] = hashed[i];
    }
    atomic_fetch_add(&work->link->attempt->hashed_bytes, length);
    atomic_fetch_add(&work->link->attempt->figures.bytes_read, hole ? 0 : length);
    work->told->compared_bytes += length;
    return 0;
}

/* ---- what differs ---- */

static void note(struct work *work, uint64_t block, uint64_t *end)
{
    struct far_engine_lost_disk *told = work->told;
    uint64_t offset = block * FAR_BLOCK_BYTES, rest = work->disk->size_bytes - offset;
    uint64_t length = rest < FAR_BLOCK_BYTES ? rest : FAR_BLOCK_BYTES;
    bool joins = told->extent_count > 0 && *end == block;
    size_t max = work->disk->extents_max;
    if (!joins && told->extent_count < max) {
        told->extents[told->extent_room++] = (struct far_engine_range){.offset = offset, .length = 0};
    }
    told->extent_count += !joins;
    if (told->extent_count <= max) {
        told->extents[told->extent_room - 1].length += length;
    }
    told->lost_bytes += length;
    *end = block + 1;
}

static int compare_all(struct work *work, struct far_error *err)
{
    struct far_attempt *attempt = work->link->attempt;
    struct far_hash256 leaves[GROUP];
    struct send_plan_run run;
    uint64_t end = 0;
    for (;;) {
        int rc = far_attempt_check(attempt, err);
        rc = rc == 0 ? send_plan_peek(&work->plan, GROUP, &run, err) : rc;
        if (rc != 0 || run.block_count == 0) {
            return rc;
        }
        rc = open_ahead(work, run.first_block, err);
        rc = rc == 0 ? pump(work, false, err) : rc;
        rc = rc == 0 ? read_run(work, &run, leaves, err) : rc;
        for (size_t i = 0; rc == 0 && i < run.block_count; i++) {
            rc = open_block(work, run.first_block + i, err);
            if (rc == 0 && far_source_map_set(work->map, run.first_block + i, &leaves[i])) {
                note(work, run.first_block + i, &end);
            }
        }
        uint64_t at = run.first_block + run.block_count;
        rc = rc == 0 && far_source_map_is_crowded(work->map) ? let_go(work, at, err) : rc;
        if (rc != 0) {
            return rc;
        }
        send_plan_take(&work->plan, at);
        uint64_t done = at * FAR_BLOCK_BYTES;
        atomic_store(&attempt->bytes_done, work->disk->done_before + (done < work->disk->size_bytes ? done : work->disk->size_bytes));
        atomic_store(&attempt->bytes_changed, work->told->lost_bytes);
    }
}

/* ---- a disk ---- */

/* Which disk of which point; in a keyed domain with the proof that this node has its secret. */
static int make_hello(struct work *work, struct far_error *err)
{
    const struct compare_disk *disk = work->disk;
    const struct far_engine_order *order = &work->link->attempt->order;
    struct far_id_key ids;
    uint8_t bound[FAR_TRANSFER_HEAD_MAX];
    work->hello = (struct far_transfer_hello){.job_id = order->job_id,
                                              .disk_index = disk->index,
                                              .disk_id = order->disk_id,
                                              .task = order->task,
                                              .attempt = order->attempt,
                                              .incarnation_epoch = order->incarnation_epoch,
                                              .plan_epoch = order->plan_epoch,
                                              .size_bytes = disk->size_bytes,
                                              .has_base = true,
                                              .keyed = order->has_domain};
    memcpy(work->hello.base_root, disk->point->root, sizeof work->hello.base_root);
    int rc = order->has_domain ? far_id_key_init(&ids, order->domain.uuid, order->domain.secret, err) : 0;
    if (rc == 0 && order->has_domain) {
        far_hmac(&ids.hello, bound, far_transfer_hello_bound(&work->hello, bound), work->hello.proof);
        explicit_bzero(&ids, sizeof ids);
    }
    return rc;
}

static int begin(struct work *work, struct far_error *err)
{
    const struct compare_disk *disk = work->disk;
    struct far_source_map_config config = {.disk_id = disk->point->disk_id, .has_base = true, .freeze_ref = ""};
    uint64_t base_bytes = 0;
    memcpy(config.base_root.bytes, disk->point->root, sizeof config.base_root.bytes);
    int rc = make_hello(work, err);
    rc = rc == 0 ? compare_link_begin(work->link, &work->hello, &base_bytes, err) : rc;
    config.size_bytes = base_bytes > disk->size_bytes ? base_bytes : disk->size_bytes;
    rc = rc == 0 ? far_source_map_new(&config, &work->map, err) : rc;
    if (rc != 0) {
        return rc;
    }
    far_source_map_begin(work->map, 0, true, base_bytes);
    bool by_list = disk->since[0] != '\0' && disk->platform->adapter->changes->changed != NULL && !work->list_failed;
    send_plan_init(&work->plan, disk->size_bytes, 0, by_list ? fetch_list : NULL, work, 0, 0);
    if (by_list && base_bytes < disk->size_bytes) { /* what grew is in no list */
        uint64_t first = base_bytes / FAR_BLOCK_BYTES;
        send_plan_add(&work->plan, first, far_map_block_count(disk->size_bytes) - first);
    }
    work->told->by_list = by_list;
    if (base_bytes > disk->size_bytes) {
        snprintf(work->told->problem, sizeof work->told->problem, "it is smaller than it was in the point: compared as far as it goes");
    }
    return 0;
}

/* The source is done with this disk. */
static void finish(struct work *work)
{
    uint8_t head[64];
    size_t len = far_transfer_block_encode(far_source_map_blocks(work->map), head);
    far_frame_write(work->link->stream, FAR_TRANSFER_FIN, head, len, work->link->attempt->engine->config.idle_ms, NULL);
}

static int compare_once(struct work *work, struct far_error *err)
{
    struct far_engine_lost_disk *told = work->told;
    told->compared_bytes = told->lost_bytes = told->extent_count = 0;
    told->extent_room = 0;
    int rc = begin(work, err);
    rc = rc == 0 ? compare_all(work, err) : rc;
    if (rc == 0) {
        finish(work);
    }
    compare_link_close(work->link);
    far_source_map_free(work->map);
    work->map = NULL;
    return rc;
}

int compare_disk_run(struct compare_link *link, const struct compare_disk *disk, struct far_engine_lost_disk *told, struct far_error *err)
{
    const struct far_adapter_bytes *bytes = disk->platform->adapter->bytes;
    struct far_adapter_error said = {0};
    enum far_adapter_outcome outcome;
    struct work *work = calloc(1, sizeof *work);
    uint8_t *buffer = malloc((size_t)GROUP * FAR_BLOCK_BYTES);
    int rc = work != NULL && buffer != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory for a comparison");
    if (rc == 0) {
        *work = (struct work){.link = link, .disk = disk, .told = told, .buffer = buffer};
        told->size_bytes = disk->size_bytes;
        rc = far_adapter_result(bytes->open_frozen(disk->platform->platform, disk->ref, &disk->disk, &work->handle, &said), &said,
                                &outcome, err);
    }
    rc = rc == 0 ? compare_once(work, err) : rc;
    if (rc != 0 && work != NULL && work->list_failed && far_attempt_check(link->attempt, NULL) == 0) {
        rc = compare_once(work, err); /* everything, then */
    }
    if (work != NULL && work->handle != NULL) {
        bytes->close(work->handle);
    }
    free(buffer);
    free(work);
    return rc;
}
