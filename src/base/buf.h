/* A growing byte buffer born with its maximum.
 *
 * Filling past the maximum, or running out of memory, makes the append fail with FAR_LIMIT and leaves the buffer as it
 * was. A buffer that is all zero bytes is valid, empty and has maximum 0. One thread at a time. */
#ifndef FAR_BASE_BUF_H
#define FAR_BASE_BUF_H

#include "base/bytes.h"
#include "base/error.h"

struct far_buf {
    uint8_t *data; /* owned */
    size_t len;
    size_t cap;
    size_t max;
};

void far_buf_init(struct far_buf *buf, size_t max);
void far_buf_done(struct far_buf *buf); /* NULL is allowed */
/* Make room for len more bytes and return where they go; the caller then raises buf->len. NULL at the bound. */
uint8_t *far_buf_reserve(struct far_buf *buf, size_t len);
int far_buf_append(struct far_buf *buf, const void *data, size_t len);
int far_buf_append_str(struct far_buf *buf, const char *text);
int far_buf_printf(struct far_buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Drop the first len bytes. */
void far_buf_consume(struct far_buf *buf, size_t len);
static inline void far_buf_reset(struct far_buf *buf)
{
    buf->len = 0;
}
static inline struct far_slice far_buf_slice(const struct far_buf *buf)
{
    return far_slice(buf->data, buf->len);
}

#endif
