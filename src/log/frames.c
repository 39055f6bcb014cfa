/* Codecs of the frames between the logs of two servers: see frames.h. */
#include "log/frames.h"

enum { FORWARD_HEADER = 16, ANSWER_HEADER = 48, MARKS_HEADER = 16, MARK_SIZE = 64 };
enum { ABOUT_SIZE_LEAST = 112 + FAR_ABOUT_VERSION_MAX, ABOUT_SIZE = ABOUT_SIZE_LEAST + 8, ABOUT_IS_SAFE = 1 };

static int damaged(struct far_error *err, const char *what)
{
    return far_fail(err, FAR_CORRUPT, "a peer sent %s with a wrong length", what);
}

int far_forward_encode(const struct far_forward *forward, struct far_buf *out)
{
    uint8_t *p = far_buf_reserve(out, FORWARD_HEADER);
    if (p == NULL) {
        return FAR_LIMIT;
    }
    far_put_le64(p, forward->request);
    far_put_le32(p + 8, forward->timeout_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)forward->timeout_ms);
    far_put_le32(p + 12, forward->is_barrier);
    out->len += FORWARD_HEADER;
    return forward->is_barrier ? 0 : far_command_encode(&forward->command, out, NULL);
}

int far_forward_decode(struct far_slice frame, struct far_forward *ret_forward, struct far_error *err)
{
    if (frame.len < FORWARD_HEADER || far_get_le32(frame.data + 12) > 1) {
        return damaged(err, "a command");
    }
    struct far_forward forward = {.request = far_get_le64(frame.data),
                                  .timeout_ms = far_get_le32(frame.data + 8),
                                  .is_barrier = far_get_le32(frame.data + 12) == 1};
    struct far_slice rest = far_slice(frame.data + FORWARD_HEADER, frame.len - FORWARD_HEADER);
    size_t used = 0;
    int rv = forward.is_barrier ? 0 : far_command_decode(rest, &forward.command, &used, err);
    if (rv != 0) {
        return rv;
    }
    if (used != rest.len) {
        return damaged(err, "a command");
    }
    *ret_forward = forward;
    return 0;
}

int far_answer_encode(const struct far_answer *answer, struct far_buf *out)
{
    const struct far_result *result = &answer->result;
    size_t message_len = strnlen(result->message, sizeof result->message - 1);
    uint8_t *p = far_buf_reserve(out, ANSWER_HEADER + message_len);
    if (p == NULL) {
        return FAR_LIMIT;
    }
    far_put_le64(p, answer->request);
    far_put_le64(p + 8, answer->applied_index);
    far_put_le32(p + 16, (uint32_t)-result->klass);
    far_put_le32(p + 20, result->repeated);
    far_put_le64(p + 24, result->object_id);
    far_put_le64(p + 32, result->seq_first);
    far_put_le64(p + 40, result->seq_last);
    memcpy(p + ANSWER_HEADER, result->message, message_len);
    out->len += ANSWER_HEADER + message_len;
    return 0;
}

int far_answer_decode(struct far_slice frame, struct far_answer *ret_answer, struct far_error *err)
{
    const uint8_t *p = frame.data;
    if (frame.len < ANSWER_HEADER || frame.len >= ANSWER_HEADER + FAR_MESSAGE_MAX ||
        far_get_le32(p + 16) > (uint32_t)-FAR_CLASS_MIN || far_get_le32(p + 20) > 1) {
        return damaged(err, "an answer");
    }
    *ret_answer = (struct far_answer){.request = far_get_le64(p),
                                      .applied_index = far_get_le64(p + 8),
                                      .result = {.klass = -(int)far_get_le32(p + 16),
                                                 .repeated = far_get_le32(p + 20) == 1,
                                                 .object_id = far_get_le64(p + 24),
                                                 .seq_first = far_get_le64(p + 32),
                                                 .seq_last = far_get_le64(p + 40)}};
    memcpy(ret_answer->result.message, p + ANSWER_HEADER, frame.len - ANSWER_HEADER);
    return 0;
}

int far_marks_encode(const struct far_marks *marks, struct far_buf *out)
{
    uint8_t *p = far_buf_reserve(out, MARKS_HEADER + marks->count * MARK_SIZE);
    if (p == NULL) {
        return FAR_LIMIT;
    }
    far_put_le64(p, marks->wall_ms);
    far_put_le64(p + 8, marks->count);
    for (size_t i = 0; i < marks->count; i++) {
        const struct far_mark *mark = &marks->marks[i];
        uint8_t *at = p + MARKS_HEADER + i * MARK_SIZE;
        far_put_le64(at, mark->index);
        far_put_le64(at + 8, mark->last_seq);
        far_put_le64(at + 16, mark->digest.low);
        far_put_le64(at + 24, mark->digest.high);
        memcpy(at + 32, mark->head, FAR_HEAD_SIZE);
    }
    out->len += MARKS_HEADER + marks->count * MARK_SIZE;
    return 0;
}

int far_marks_decode(struct far_slice frame, struct far_marks *ret_marks, struct far_error *err)
{
    uint64_t count = frame.len < MARKS_HEADER ? UINT64_MAX : far_get_le64(frame.data + 8);
    if (count > FAR_FRAME_MARKS_MAX || frame.len != MARKS_HEADER + count * MARK_SIZE) {
        return damaged(err, "marks");
    }
    *ret_marks = (struct far_marks){.wall_ms = far_get_le64(frame.data), .count = count};
    for (size_t i = 0; i < count; i++) {
        const uint8_t *at = frame.data + MARKS_HEADER + i * MARK_SIZE;
        struct far_mark *mark = &ret_marks->marks[i];
        mark->index = far_get_le64(at);
        mark->last_seq = far_get_le64(at + 8);
        mark->digest.low = far_get_le64(at + 16);
        mark->digest.high = far_get_le64(at + 24);
        memcpy(mark->head, at + 32, FAR_HEAD_SIZE);
    }
    return 0;
}

int far_about_encode(const struct far_about *about, struct far_buf *out)
{
    uint8_t *p = far_buf_reserve(out, ABOUT_SIZE);
    if (p == NULL) {
        return FAR_LIMIT;
    }
    memset(p, 0, ABOUT_SIZE);
    far_put_le64(p, about->wall_ms);
    far_put_le32(p + 8, about->feature_level);
    far_put_le32(p + 12, about->is_safe ? ABOUT_IS_SAFE : 0);
    far_put_le64(p + 16, about->applied_index);
    far_put_le64(p + 24, about->durable_index);
    far_put_le64(p + 32, about->first_seq);
    far_put_le64(p + 40, about->last_seq);
    far_put_le64(p + 48, about->digest_index);
    far_put_le64(p + 56, about->digest.low);
    far_put_le64(p + 64, about->digest.high);
    far_put_le64(p + 72, about->free_bytes);
    far_put_le64(p + 80, about->safe_index);
    far_put_le64(p + 88, about->safe_hash);
    far_put_le64(p + 96, about->skip_index);
    far_put_le64(p + 104, about->skip_hash);
    far_put_le64(p + ABOUT_SIZE_LEAST, about->oldest_seq);
    memcpy(p + 112, about->version, strnlen(about->version, FAR_ABOUT_VERSION_MAX - 1));
    out->len += ABOUT_SIZE;
    return 0;
}

int far_about_decode(struct far_slice frame, struct far_about *ret_about, struct far_error *err)
{
    const uint8_t *p = frame.data;
    if (frame.len < ABOUT_SIZE_LEAST) {
        return damaged(err, "what it says of itself");
    }
    *ret_about = (struct far_about){.wall_ms = far_get_le64(p),
                                    .feature_level = far_get_le32(p + 8),
                                    .is_safe = (far_get_le32(p + 12) & ABOUT_IS_SAFE) != 0,
                                    .applied_index = far_get_le64(p + 16),
                                    .durable_index = far_get_le64(p + 24),
                                    .first_seq = far_get_le64(p + 32),
                                    .last_seq = far_get_le64(p + 40),
                                    .digest_index = far_get_le64(p + 48),
                                    .digest = {.low = far_get_le64(p + 56), .high = far_get_le64(p + 64)},
                                    .free_bytes = far_get_le64(p + 72),
                                    .safe_index = far_get_le64(p + 80),
                                    .safe_hash = far_get_le64(p + 88),
                                    .skip_index = far_get_le64(p + 96),
                                    .skip_hash = far_get_le64(p + 104)};
    for (size_t i = 0; i < FAR_ABOUT_VERSION_MAX - 1 && p[112 + i] >= ' ' && p[112 + i] <= '~'; i++) {
        ret_about->version[i] = (char)p[112 + i];
    }
    ret_about->oldest_seq = frame.len >= ABOUT_SIZE ? far_get_le64(p + ABOUT_SIZE_LEAST) : ret_about->first_seq;
    return 0;
}
