/* The frames of a transfer: see transfer_frames.h. Decoders read through a cursor that remembers having run dry, check
 * every count before they use it, and want the head to end where the last field ends. */
#include "dataplane/transfer_frames.h"

#include "base/hash.h"

enum { MAGIC = 0x5446 /* "FT" */, HEADER_HASHED = 16, OFFER_KEYED = 0x8000 };

struct cursor {
    const uint8_t *p;
    size_t left;
    bool dry;
};

static const uint8_t *take(struct cursor *c, size_t len)
{
    static const uint8_t nothing[64];
    if (c->left < len) {
        c->dry = true;
        c->left = 0;
        return len <= sizeof nothing ? nothing : NULL;
    }
    const uint8_t *p = c->p;
    c->p += len;
    c->left -= len;
    return p;
}

static uint16_t take16(struct cursor *c)
{
    return far_get_le16(take(c, 2));
}
static uint32_t take32(struct cursor *c)
{
    return far_get_le32(take(c, 4));
}
static uint64_t take64(struct cursor *c)
{
    return far_get_le64(take(c, 8));
}

static struct cursor cursor_of(struct far_slice head)
{
    return (struct cursor){.p = head.data, .left = head.len};
}

static int finish(const struct cursor *c, bool valid, const char *what, struct far_error *err)
{
    if (c->dry || c->left != 0 || !valid) {
        return far_fail(err, FAR_INVALID, "the other node sent a malformed %s frame", what);
    }
    return 0;
}

/* ---- header ---- */

void far_transfer_header_encode(enum far_transfer_type type, struct far_slice head, uint32_t bulk_len, uint8_t *out)
{
    far_put_le16(out, MAGIC);
    out[2] = FAR_TRANSFER_VERSION;
    out[3] = (uint8_t)type;
    far_put_le32(out + 4, (uint32_t)head.len);
    far_put_le32(out + 8, bulk_len);
    far_put_le32(out + 12, 0);
    far_put_le64(out + 16, far_hash64_parts(far_slice(out, HEADER_HASHED), head, far_slice(NULL, 0)));
}

int far_transfer_header_decode(const uint8_t *bytes, struct far_transfer_header *ret_header, struct far_error *err)
{
    struct far_transfer_header header = {
        .type = bytes[3],
        .head_len = far_get_le32(bytes + 4),
        .bulk_len = far_get_le32(bytes + 8),
        .head_hash = far_get_le64(bytes + 16),
    };
    if (far_get_le16(bytes) == MAGIC && bytes[2] != FAR_TRANSFER_VERSION) {
        return far_fail(err, FAR_INVALID, "the other node speaks version %u of the transfer, this one %d; upgrade the older "
                        "of the two", bytes[2], FAR_TRANSFER_VERSION);
    }
    if (far_get_le16(bytes) != MAGIC || far_get_le32(bytes + 12) != 0) {
        return far_fail(err, FAR_INVALID, "the other node sent something that is no transfer frame");
    }
    if (header.type < FAR_TRANSFER_HELLO || header.type > FAR_TRANSFER_TYPE_MAX) {
        return far_fail(err, FAR_INVALID, "the other node sent a frame of unknown type %u", bytes[3]);
    }
    uint32_t bulk_max = header.type == FAR_TRANSFER_DATA ? FAR_TRANSFER_BULK_MAX : 0;
    if (header.head_len > FAR_TRANSFER_HEAD_MAX || header.bulk_len > bulk_max) {
        return far_fail(err, FAR_LIMIT, "the other node sent a frame of %u + %u bytes, over the limit", header.head_len,
                        header.bulk_len);
    }
    *ret_header = header;
    return 0;
}

int far_transfer_head_check(const struct far_transfer_header *header, const uint8_t *header_bytes,
                            struct far_slice head, struct far_error *err)
{
    uint64_t hash = far_hash64_parts(far_slice(header_bytes, HEADER_HASHED), head, far_slice(NULL, 0));
    if (hash != header->head_hash) {
        return far_fail(err, FAR_CORRUPT, "a frame was damaged on its way from the other node");
    }
    return 0;
}

/* ---- hello and welcome ---- */

size_t far_transfer_hello_encode(const struct far_transfer_hello *hello, uint8_t *out)
{
    const uint64_t numbers[] = {hello->job_id,     hello->disk_index, hello->disk_id,
                                hello->task,       hello->attempt,    hello->incarnation_epoch,
                                hello->plan_epoch, hello->size_bytes, hello->frontier_block};
    uint8_t *p = out;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++, p += 8) {
        far_put_le64(p, numbers[i]);
    }
    size_t ref_len = strlen(hello->freeze_ref);
    *p++ = (uint8_t)(hello->has_base | hello->joins << 1 | hello->keyed << 2);
    *p++ = (uint8_t)ref_len;
    memcpy(p, hello->session, 16);
    memcpy(p + 16, hello->base_root, 32);
    p += 48;
    if (hello->keyed) {
        memcpy(p, hello->proof, 32);
        p += 32;
    }
    memcpy(p, hello->freeze_ref, ref_len);
    return (size_t)(p + ref_len - out);
}

size_t far_transfer_hello_bound(const struct far_transfer_hello *hello, uint8_t *out)
{
    struct far_transfer_hello bound = *hello;
    memset(bound.proof, 0, sizeof bound.proof);
    return far_transfer_hello_encode(&bound, out);
}

int far_transfer_hello_decode(struct far_slice head, struct far_transfer_hello *ret_hello, struct far_error *err)
{
    struct cursor c = cursor_of(head);
    struct far_transfer_hello hello = {0};
    uint64_t *const numbers[] = {&hello.job_id,     &hello.disk_index, &hello.disk_id,
                                 &hello.task,       &hello.attempt,    &hello.incarnation_epoch,
                                 &hello.plan_epoch, &hello.size_bytes, &hello.frontier_block};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        *numbers[i] = take64(&c);
    }
    uint8_t flags = *take(&c, 1);
    size_t ref_len = *take(&c, 1);
    hello.has_base = (flags & 1) != 0;
    hello.joins = (flags & 2) != 0;
    hello.keyed = (flags & 4) != 0;
    memcpy(hello.session, take(&c, 16), 16);
    memcpy(hello.base_root, take(&c, 32), 32);
    if (hello.keyed) {
        memcpy(hello.proof, take(&c, 32), 32);
    }
    bool valid = flags <= 7 && ref_len <= FAR_TRANSFER_REF_MAX && c.left == ref_len;
    if (valid && !c.dry) {
        memcpy(hello.freeze_ref, c.p, ref_len);
        valid = memchr(hello.freeze_ref, '\0', ref_len) == NULL;
        c.left = 0;
    }
    int rc = finish(&c, valid, "hello", err);
    if (rc == 0) {
        *ret_hello = hello;
    }
    return rc;
}

size_t far_transfer_welcome_encode(const struct far_transfer_welcome *welcome, uint8_t *out)
{
    far_put_le64(out, welcome->resume_block);
    far_put_le64(out + 8, welcome->base_bytes);
    out[16] = welcome->complete;
    return 17;
}

int far_transfer_welcome_decode(struct far_slice head, struct far_transfer_welcome *ret_welcome, struct far_error *err)
{
    struct cursor c = cursor_of(head);
    uint64_t resume = take64(&c);
    uint64_t base_bytes = take64(&c);
    uint8_t complete = *take(&c, 1);
    int rc = finish(&c, complete <= 1 && base_bytes <= 64ull << 40, "welcome", err);
    if (rc == 0) {
        *ret_welcome = (struct far_transfer_welcome){
            .resume_block = resume, .base_bytes = base_bytes, .complete = complete != 0};
    }
    return rc;
}

/* ---- credit, blocks, errors ---- */

size_t far_transfer_knock_encode(const struct far_transfer_knock *knock, uint8_t *out)
{
    far_put_le64(out, knock->job_id);
    far_put_le64(out + 8, knock->disk_id);
    return 16;
}

int far_transfer_knock_decode(struct far_slice head, struct far_transfer_knock *ret_knock, struct far_error *err)
{
    struct cursor c = cursor_of(head);
    struct far_transfer_knock knock = {.job_id = take64(&c)};
    knock.disk_id = take64(&c);
    int rc = finish(&c, true, "knock", err);
    if (rc == 0) {
        *ret_knock = knock;
    }
    return rc;
}

size_t far_transfer_credit_encode(const struct far_transfer_credit *credit, uint8_t *out)
{
    far_put_le64(out, credit->groups);
    far_put_le64(out + 8, credit->window_bytes);
    out[16] = credit->busy;
    return 17;
}

int far_transfer_credit_decode(struct far_slice head, struct far_transfer_credit *ret_credit, struct far_error *err)
{
    struct cursor c = cursor_of(head);
    struct far_transfer_credit credit = {.groups = take64(&c)};
    credit.window_bytes = take64(&c);
    uint8_t busy = *take(&c, 1);
    credit.busy = busy != 0;
    int rc = finish(&c, busy <= 1 && credit.groups <= FAR_TRANSFER_SLOTS, "credit", err);
    if (rc == 0) {
        *ret_credit = credit;
    }
    return rc;
}

size_t far_transfer_block_encode(uint64_t block, uint8_t *out)
{
    far_put_le64(out, block);
    return 8;
}

int far_transfer_block_decode(struct far_slice head, uint64_t block_total, uint64_t *ret_block, struct far_error *err)
{
    struct cursor c = cursor_of(head);
    uint64_t block = take64(&c);
    int rc = finish(&c, block <= block_total, "progress", err);
    if (rc == 0) {
        *ret_block = block;
    }
    return rc;
}

size_t far_transfer_error_encode(const struct far_error *error, uint8_t *out)
{
    size_t len = strnlen(error->message, 400);
    far_put_le32(out, (uint32_t)-error->klass);
    memcpy(out + 4, error->message, len);
    return 4 + len;
}

int far_transfer_error_decode(struct far_slice head, struct far_transfer_error *ret_error, struct far_error *err)
{
    struct cursor c = cursor_of(head);
    uint32_t klass = take32(&c);
    size_t len = c.left;
    bool valid = len <= 400 && klass >= 1 && klass <= (uint32_t)-FAR_CLASS_MIN;
    if (!c.dry) {
        c.left = 0;
    }
    int rc = finish(&c, valid, "error", err);
    if (rc == 0) {
        ret_error->klass = -(int)klass;
        for (size_t i = 0; i < len; i++) {
            ret_error->message[i] = (char)(c.p[i] < 0x20 || c.p[i] == 0x7f ? ' ' : c.p[i]);
        }
        ret_error->message[len] = '\0';
    }
    return rc;
}

/* ---- offer, want, data ---- */

size_t far_transfer_offer_encode(const struct far_transfer_offer *offer, uint8_t *out)
{
    uint64_t first = offer->block_count > 0 ? offer->blocks[0] : 0;
    uint8_t *p = out;
    far_put_le64(p, offer->group);
    far_put_le16(p + 8, offer->block_count | (offer->keyed ? OFFER_KEYED : 0));
    far_put_le16(p + 10, offer->run_count);
    far_put_le64(p + 12, first);
    p += 20;
    for (size_t i = 0; i < offer->block_count; i++, p += 36) {
        far_put_le32(p, (uint32_t)(offer->blocks[i] - first));
        memcpy(p + 4, offer->ids[i], 32);
        if (offer->keyed) {
            memcpy(p + 36, offer->veiled[i], 32);
            p += 32;
        }
    }
    for (size_t i = 0; i < offer->run_count; i++, p += 12) {
        far_put_le64(p, offer->runs[i].first_block);
        far_put_le32(p + 8, offer->runs[i].count);
    }
    return (size_t)(p - out);
}

int far_transfer_offer_decode(struct far_slice head, uint64_t block_total, struct far_transfer_offer *ret_offer,
                              struct far_error *err)
{
    struct cursor c = cursor_of(head);
    struct far_transfer_offer *offer = ret_offer;
    offer->group = take64(&c);
    uint16_t blocks = take16(&c);
    offer->keyed = (blocks & OFFER_KEYED) != 0;
    offer->block_count = blocks & ~OFFER_KEYED;
    offer->run_count = take16(&c);
    uint64_t first = take64(&c);
    bool valid = offer->block_count <= FAR_TRANSFER_GROUP && offer->run_count <= FAR_TRANSFER_RUNS_MAX &&
                 (offer->block_count == 0 || first < block_total);
    for (size_t i = 0; valid && i < offer->block_count; i++) {
        uint64_t delta = take32(&c);
        valid = delta < block_total - first && (i == 0 ? delta == 0 : first + delta > offer->blocks[i - 1]);
        offer->blocks[i] = first + delta;
        memcpy(offer->ids[i], take(&c, 32), 32);
        if (offer->keyed) {
            memcpy(offer->veiled[i], take(&c, 32), 32);
        }
    }
    for (size_t i = 0; valid && i < offer->run_count; i++) {
        struct far_transfer_run *run = &offer->runs[i];
        run->first_block = take64(&c);
        run->count = take32(&c);
        valid = run->count > 0 && run->first_block < block_total && run->count <= block_total - run->first_block;
    }
    return finish(&c, valid, "offer", err);
}

size_t far_transfer_want_bytes(const struct far_transfer_want *want)
{
    return 12 + (size_t)__builtin_popcount(want->paged) * FAR_TRANSFER_PAGES * 8;
}

size_t far_transfer_want_encode(const struct far_transfer_want *want, uint8_t *out)
{
    uint8_t *p = out;
    far_put_le64(p, want->group);
    far_put_le16(p + 8, want->mask);
    far_put_le16(p + 10, want->paged);
    p += 12;
    for (size_t slot = 0; slot < FAR_TRANSFER_GROUP; slot++) {
        for (size_t i = 0; (want->paged >> slot & 1) != 0 && i < FAR_TRANSFER_PAGES; i++, p += 8) {
            far_put_le64(p, want->sums[slot][i]);
        }
    }
    return (size_t)(p - out);
}

int far_transfer_want_next(struct far_slice *head, struct far_transfer_want *ret_want, struct far_error *err)
{
    struct cursor c = cursor_of(*head);
    ret_want->group = take64(&c);
    ret_want->mask = take16(&c);
    ret_want->paged = take16(&c);
    for (size_t slot = 0; slot < FAR_TRANSFER_GROUP; slot++) {
        for (size_t i = 0; (ret_want->paged >> slot & 1) != 0 && i < FAR_TRANSFER_PAGES; i++) {
            ret_want->sums[slot][i] = take64(&c);
        }
    }
    if (c.dry || (ret_want->paged & ~ret_want->mask) != 0) {
        return far_fail(err, FAR_INVALID, "the other node sent a malformed want frame");
    }
    *head = far_slice(c.p, c.left);
    return 0;
}

size_t far_transfer_ack_encode(const uint64_t *groups, size_t count, uint8_t *out)
{
    for (size_t i = 0; i < count; i++) {
        far_put_le64(out + i * 8, groups[i]);
    }
    return count * 8;
}

int far_transfer_ack_decode(struct far_slice head, uint64_t *ret_groups, size_t *ret_count, struct far_error *err)
{
    struct cursor c = cursor_of(head);
    size_t count = head.len / 8;
    bool valid = head.len % 8 == 0 && count <= FAR_TRANSFER_WANTS_MAX;
    for (size_t i = 0; valid && i < count; i++) {
        ret_groups[i] = take64(&c);
    }
    int rc = finish(&c, valid, "acknowledgement", err);
    if (rc == 0) {
        *ret_count = count;
    }
    return rc;
}

/* ---- pages of the base point's tree ---- */

size_t far_transfer_page_ask_encode(unsigned level, uint64_t index, uint8_t *out)
{
    out[0] = (uint8_t)level;
    far_put_le64(out + 1, index);
    return 9;
}

int far_transfer_page_ask_decode(struct far_slice head, unsigned *ret_level, uint64_t *ret_index, struct far_error *err)
{
    struct cursor c = cursor_of(head);
    uint8_t level = *take(&c, 1);
    uint64_t index = take64(&c);
    int rc = finish(&c, level < 4, "page", err);
    if (rc == 0) {
        *ret_level = level;
        *ret_index = index;
    }
    return rc;
}

size_t far_transfer_page_encode(const struct far_transfer_page *page, uint8_t *out)
{
    out[0] = page->level;
    far_put_le64(out + 1, page->index);
    memcpy(out + 9, page->hashes, sizeof page->hashes);
    return 9 + sizeof page->hashes;
}

int far_transfer_page_decode(struct far_slice head, struct far_transfer_page *ret_page, struct far_error *err)
{
    struct cursor c = cursor_of(head);
    if (head.len != 9 + sizeof ret_page->hashes || head.data[0] >= 4) {
        return far_fail(err, FAR_INVALID, "the other node sent a malformed page frame");
    }
    ret_page->level = *take(&c, 1);
    ret_page->index = take64(&c);
    memcpy(ret_page->hashes, c.p, sizeof ret_page->hashes);
    return 0;
}

/* ---- data ---- */

size_t far_transfer_data_encode(const struct far_transfer_data *data, uint8_t *out)
{
    uint8_t *p = out;
    far_put_le64(p, data->group);
    far_put_le16(p + 8, data->count);
    p += 10;
    for (size_t i = 0; i < data->count; i++, p += 16) {
        p[0] = data->stored[i].slot;
        p[1] = data->stored[i].codec;
        far_put_le16(p + 2, data->stored[i].pages);
        far_put_le32(p + 4, data->stored[i].length);
        far_put_le64(p + 8, data->stored[i].hash);
    }
    return (size_t)(p - out);
}

int far_transfer_data_decode(struct far_slice head, uint32_t bulk_len, struct far_transfer_data *ret_data,
                             struct far_error *err)
{
    struct cursor c = cursor_of(head);
    struct far_transfer_data *data = ret_data;
    data->group = take64(&c);
    data->count = take16(&c);
    bool valid = data->count > 0 && data->count <= FAR_TRANSFER_GROUP;
    uint64_t total = 0;
    for (size_t i = 0; valid && i < data->count; i++) {
        struct far_transfer_stored *stored = &data->stored[i];
        stored->slot = *take(&c, 1);
        stored->codec = *take(&c, 1);
        stored->pages = take16(&c);
        stored->length = take32(&c);
        stored->hash = take64(&c);
        total += stored->length;
        uint32_t plain = (uint32_t)__builtin_popcount(stored->pages) * FAR_TRANSFER_PAGE;
        valid = stored->slot < FAR_TRANSFER_GROUP && (i == 0 || stored->slot > data->stored[i - 1].slot) && plain > 0 &&
                (stored->codec == FAR_TRANSFER_RAW
                     ? stored->length == plain && stored->hash == 0
                     : stored->codec == FAR_TRANSFER_ZSTD && stored->length > 0 && stored->length < plain);
    }
    return finish(&c, valid && total == bulk_len, "data", err);
}
