/* The vault's side of a comparison: says what the hashes of a point's disks are, to one source after the other asks, until it is canceled:
 * its task ends with the source's. */
#include "dataplane/compare.h"
#include "dataplane/id_key.h"

#include <stdlib.h>

struct serving {
    struct compare_link link;
    const struct far_domain *domain;
    struct far_point *point;
    struct far_transfer_page page;
};

/* Has the source the secret of the point's domain? Without it nothing is answered, as in a transfer. */
static bool has_secret(const struct serving *serving, const struct far_transfer_hello *hello)
{
    const struct far_id_key *key = far_domain_id_key(serving->domain);
    uint8_t bound[FAR_TRANSFER_HEAD_MAX], proof[32], differs = 0;
    if (key == NULL || !hello->keyed) {
        return key == NULL && !hello->keyed;
    }
    far_hmac(&key->hello, bound, far_transfer_hello_bound(hello, bound), proof);
    for (size_t i = 0; i < sizeof proof; i++) {
        differs |= proof[i] ^ hello->proof[i];
    }
    return differs == 0;
}

static int open_point(struct serving *serving, const struct far_transfer_hello *hello, struct far_error *err)
{
    const struct far_engine_order *order = &serving->link.attempt->order;
    struct far_hash256 root;
    bool is_known = hello->disk_index < order->point_disk_count && hello->has_base &&
                    memcmp(order->point_disks[hello->disk_index].root, hello->base_root, sizeof hello->base_root) == 0;
    if (!is_known || hello->incarnation_epoch != order->incarnation_epoch || hello->task + 1 != order->task ||
        hello->attempt != order->attempt) {
        return far_fail(err, FAR_CONFLICT, "the source node compares with another point than this one");
    }
    if (!has_secret(serving, hello)) {
        return far_fail(err, FAR_DENIED, "the source node has not the secret of the point's dedup domain");
    }
    memcpy(root.bytes, hello->base_root, sizeof root.bytes);
    int rc = far_point_open(serving->link.attempt->engine->vault, serving->domain, &root, &serving->point, err);
    return rc == FAR_NOT_FOUND ? far_fail(err, FAR_CORRUPT, "the vault has not the point that it is to be compared with") : rc;
}

static int answer(struct serving *serving, const struct far_frame *frame, struct far_error *err)
{
    struct far_frame reply;
    struct far_hash256 children[FAR_MAP_FANOUT];
    unsigned level;
    int rc = far_transfer_page_ask_decode(far_frame_head(frame), &level, &serving->page.index, err);
    rc = rc == 0 ? far_point_page(serving->point, level, serving->page.index, children, err) : rc;
    if (rc != 0) {
        return rc;
    }
    serving->page.level = (uint8_t)level;
    memcpy(serving->page.hashes, children, sizeof serving->page.hashes);
    size_t len = far_transfer_page_encode(&serving->page, reply.head);
    atomic_fetch_add(&serving->link.attempt->bytes_sent, len);
    uint64_t idle_ms = serving->link.attempt->engine->config.idle_ms;
    return far_frame_write(serving->link.stream, FAR_TRANSFER_MAP_PAGE, reply.head, len, idle_ms, err);
}

/* Until the source is done with the disk, or gone. Fails only where the vault does. */
static int serve(struct serving *serving, const struct far_transfer_hello *hello, struct far_error *err)
{
    uint64_t idle_ms = serving->link.attempt->engine->config.idle_ms;
    struct far_frame frame;
    bool own = true;
    int rc = open_point(serving, hello, err);
    if (rc == 0) {
        struct far_transfer_welcome welcome = {.base_bytes = far_point_size(serving->point)};
        size_t len = far_transfer_welcome_encode(&welcome, frame.head);
        rc = far_frame_write(serving->link.stream, FAR_TRANSFER_WELCOME, frame.head, len, idle_ms, err);
        own = false;
    }
    while (rc == 0) {
        own = false;
        rc = far_frame_read(serving->link.stream, idle_ms, &frame, err);
        if (rc != 0 || frame.header.type == FAR_TRANSFER_FIN || frame.header.type == FAR_TRANSFER_ERROR) {
            break;
        }
        if (frame.header.type == FAR_TRANSFER_PAGE_ASK) {
            rc = answer(serving, &frame, err);
            own = rc == FAR_CORRUPT || rc == FAR_INVALID;
        }
    }
    if (own) {
        size_t len = far_transfer_error_encode(err, frame.head);
        far_frame_write(serving->link.stream, FAR_TRANSFER_ERROR, frame.head, len, idle_ms, NULL);
    }
    far_point_close(serving->point);
    serving->point = NULL;
    return own && rc != FAR_CONFLICT && rc != FAR_DENIED ? rc : 0; /* who is of another attempt comes again, or another does */
}

int far_run_leaves(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    struct serving *serving = calloc(1, sizeof *serving);
    struct far_transfer_hello hello;
    if (serving == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a comparison");
    }
    int rc = far_attempt_domain(attempt, &serving->domain, result, err);
    if (rc == 0 && (rc = compare_link_init(&serving->link, attempt, err)) == 0) {
        while (rc == 0) {
            rc = compare_link_await(&serving->link, &hello, err);
            rc = rc == 0 ? serve(serving, &hello, err) : rc;
        }
        compare_link_done(&serving->link);
    }
    free(serving);
    return rc;
}
