/* Orders to skip an entry: see skip_orders.h. The file: magic, count, each order as the payload of its command, a checksum. */
#include "log/skip_orders.h"

#include "base/file.h"
#include "base/hash.h"
#include "fsm/schema.h"

#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 4096, FILE_MAX = 64 * 1024, HEAD_BYTES = 12, SUM_BYTES = 8, ARENA_MAX = 64 * 1024 };
static const char magic[8] = {'F', 'A', 'R', 'S', 'K', 'I', 'P', '0'};

static int path_in(const char *dir, char path[PATH_BYTES], struct far_error *err)
{
    return snprintf(path, PATH_BYTES, "%s/skip-orders", dir) < PATH_BYTES
               ? 0
               : far_fail(err, FAR_INVALID, "the path '%s' is too long", dir);
}

static int damaged(const char *path, struct far_error *err)
{
    return far_fail(err, FAR_CORRUPT, "'%s' is damaged: who had an entry skipped is not known any more", path);
}

static int append(struct far_buf *out, const struct far_skip_order *order, struct far_error *err)
{
    struct far_cmd_entry_skip_order command = {.index = order->index,
                                               .entry_hash = order->hash,
                                               .token_id = order->token_id,
                                               .token_name = far_slice_str(order->token_name),
                                               .reason = far_slice_str(order->reason),
                                               .forced = order->is_forced,
                                               .ordered_ms = order->ordered_ms};
    uint8_t len[4] = {0};
    size_t at = out->len;
    int rc = far_buf_append(out, len, sizeof len);
    rc = rc != 0 ? rc : far_schema_encode(&far_schema_cmd_entry_skip_order, &command, out, err);
    if (rc == 0) {
        far_put_le32(out->data + at, (uint32_t)(out->len - at - sizeof len));
    }
    return rc;
}

static int save(const char *dir, const struct far_skip_orders *orders, struct far_error *err)
{
    char path[PATH_BYTES];
    uint8_t head[HEAD_BYTES], sum[SUM_BYTES];
    struct far_buf out;
    far_buf_init(&out, FILE_MAX);
    memcpy(head, magic, sizeof magic);
    far_put_le32(head + sizeof magic, (uint32_t)orders->count);
    int rc = path_in(dir, path, err);
    rc = rc != 0 ? rc : far_buf_append(&out, head, sizeof head);
    for (size_t i = 0; rc == 0 && i < orders->count; i++) {
        rc = append(&out, &orders->items[i], err);
    }
    if (rc == 0) {
        far_put_le64(sum, far_hash64(out.data, out.len));
        rc = far_buf_append(&out, sum, sizeof sum);
    }
    rc = rc != 0 ? rc : far_file_replace(path, out.data, out.len, 0600, err);
    far_buf_done(&out);
    return rc;
}

static void copy_text(char *to, size_t size, struct far_slice text)
{
    size_t len = text.len < size ? text.len : size - 1;
    memcpy(to, text.data, len);
    to[len] = '\0';
}

static int parse(struct far_slice data, struct far_skip_orders *orders, const char *path, struct far_error *err)
{
    struct far_arena arena;
    size_t at = HEAD_BYTES, end = data.len - SUM_BYTES;
    if (data.len < HEAD_BYTES + SUM_BYTES || memcmp(data.data, magic, sizeof magic) != 0 ||
        far_get_le64(data.data + end) != far_hash64(data.data, end) ||
        far_get_le32(data.data + sizeof magic) > FAR_SKIP_ORDERS_MAX) {
        return damaged(path, err);
    }
    int rc = 0;
    uint32_t count = far_get_le32(data.data + sizeof magic);
    far_arena_init(&arena, ARENA_MAX);
    while (rc == 0 && orders->count < count) {
        struct far_cmd_entry_skip_order command;
        struct far_skip_order *order = &orders->items[orders->count];
        uint32_t len = end - at < 4 ? UINT32_MAX : far_get_le32(data.data + at);
        if (len > end - at - 4) {
            rc = damaged(path, err);
            break;
        }
        rc = far_schema_decode(&far_schema_cmd_entry_skip_order, far_slice(data.data + at + 4, len), &arena, &command, err);
        if (rc == 0) {
            *order = (struct far_skip_order){.index = command.index,
                                             .hash = command.entry_hash,
                                             .token_id = command.token_id,
                                             .ordered_ms = command.ordered_ms,
                                             .is_forced = command.forced};
            copy_text(order->token_name, sizeof order->token_name, command.token_name);
            copy_text(order->reason, sizeof order->reason, command.reason);
            orders->count++;
            at += 4 + (size_t)len;
        }
    }
    far_arena_done(&arena);
    return rc == FAR_INVALID || (rc == 0 && at != end) ? damaged(path, err) : rc;
}

int far_skip_orders_load(const char *dir, struct far_skip_orders *ret_orders, struct far_error *err)
{
    char path[PATH_BYTES];
    struct far_buf data;
    ret_orders->count = 0;
    far_buf_init(&data, FILE_MAX);
    int rc = path_in(dir, path, err);
    rc = rc != 0 ? rc : far_file_read(path, &data, err);
    bool is_there = rc == 0;
    rc = rc == FAR_NOT_FOUND ? 0 : rc == FAR_LIMIT ? damaged(path, err) : rc;
    rc = rc != 0 || !is_there ? rc : parse(far_buf_slice(&data), ret_orders, path, err);
    ret_orders->count = rc == 0 ? ret_orders->count : 0;
    far_buf_done(&data);
    return rc;
}

static void take_out(struct far_skip_orders *orders, size_t i)
{
    orders->count--;
    memmove(&orders->items[i], &orders->items[i + 1], (orders->count - i) * sizeof orders->items[0]);
}

static void take_out_entry(struct far_skip_orders *orders, uint64_t index)
{
    for (size_t i = orders->count; i > 0; i--) {
        if (orders->items[i - 1].index == index) {
            take_out(orders, i - 1);
        }
    }
}

int far_skip_orders_add(const char *dir, struct far_skip_orders *orders, const struct far_skip_order *order, struct far_error *err)
{
    struct far_skip_orders next = *orders;
    take_out_entry(&next, order->index);
    if (next.count == FAR_SKIP_ORDERS_MAX) {
        take_out(&next, 0);
    }
    next.items[next.count++] = *order;
    int rc = save(dir, &next, err);
    *orders = rc == 0 ? next : *orders;
    return rc;
}

int far_skip_orders_remove(const char *dir, struct far_skip_orders *orders, uint64_t index, struct far_error *err)
{
    struct far_skip_orders next = *orders;
    take_out_entry(&next, index);
    if (next.count == orders->count) {
        return 0;
    }
    int rc = save(dir, &next, err);
    *orders = rc == 0 ? next : *orders;
    return rc;
}
