/* Bounded buffers: see buf.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { CAP_MIN = 256 };

void far_buf_init(struct far_buf *buf, size_t max)
{
    *buf = (struct far_buf){.max = max};
}

void far_buf_done(struct far_buf *buf)
{
    if (buf != NULL) {
        free(buf->data);
        *buf = (struct far_buf){0};
    }
}

uint8_t *far_buf_reserve(struct far_buf *buf, size_t len)
{
    if (len > buf->max - buf->len) {
        return NULL;
    }
    size_t need = buf->len + len;
    if (need > buf->cap || buf->data == NULL) {
        size_t cap = buf->cap < CAP_MIN ? CAP_MIN : buf->cap;
        while (cap < need) {
            cap = cap > buf->max / 2 ? buf->max : cap * 2;
        }
        uint8_t *data = realloc(buf->data, cap);
        if (data == NULL) {
            return NULL;
        }
        buf->data = data;
        buf->cap = cap;
    }
    return buf->data + buf->len;
}

int far_buf_append(struct far_buf *buf, const void *data, size_t len)
{
    uint8_t *at = far_buf_reserve(buf, len);
    if (at == NULL) {
        return FAR_LIMIT;
    }
    if (len > 0) {
        memcpy(at, data, len);
    }
    buf->len += len;
    return 0;
}

int far_buf_append_str(struct far_buf *buf, const char *text)
{
    return far_buf_append(buf, text, strlen(text));
}

int far_buf_printf(struct far_buf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        return FAR_INTERNAL;
    }
    uint8_t *at = far_buf_reserve(buf, (size_t)n + 1);
    if (at == NULL) {
        return FAR_LIMIT;
    }
    va_start(args, format);
    vsnprintf((char *)at, (size_t)n + 1, format, args);
    va_end(args);
    buf->len += (size_t)n;
    return 0;
}

void far_buf_consume(struct far_buf *buf, size_t len)
{
    if (len >= buf->len) {
        buf->len = 0;
        return;
    }
    memmove(buf->data, buf->data + len, buf->len - len);
    buf->len -= len;
}
