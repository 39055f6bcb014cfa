/* Bytes: slices (borrowed views), fixed-width integers in both byte orders, hexadecimal. Values only, any thread. */
#ifndef FAR_BASE_BYTES_H
#define FAR_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A borrowed run of bytes; whoever hands it out says until when it lives. */
struct far_slice {
    const uint8_t *data;
    size_t len;
};

static inline struct far_slice far_slice(const void *data, size_t len)
{
    return (struct far_slice){.data = data, .len = len};
}

/* The slice of a string, without its NUL. */
static inline struct far_slice far_slice_str(const char *text)
{
    return far_slice(text, strlen(text));
}

static inline bool far_slice_equal(struct far_slice a, struct far_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Like memcmp, a shorter prefix first. */
static inline int far_slice_compare(struct far_slice a, struct far_slice b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Little endian: on disk and wire. */
static inline void far_put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}
static inline void far_put_le32(uint8_t *p, uint32_t v)
{
    far_put_le16(p, (uint16_t)v);
    far_put_le16(p + 2, (uint16_t)(v >> 16));
}
static inline void far_put_le64(uint8_t *p, uint64_t v)
{
    far_put_le32(p, (uint32_t)v);
    far_put_le32(p + 4, (uint32_t)(v >> 32));
}
static inline uint16_t far_get_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | (unsigned)p[1] << 8);
}
static inline uint32_t far_get_le32(const uint8_t *p)
{
    return far_get_le16(p) | (uint32_t)far_get_le16(p + 2) << 16;
}
static inline uint64_t far_get_le64(const uint8_t *p)
{
    return far_get_le32(p) | (uint64_t)far_get_le32(p + 4) << 32;
}

/* Big endian: in keys, where the order of bytes must be the order of numbers. */
static inline void far_put_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}
static inline uint32_t far_get_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void far_put_be64(uint8_t *p, uint64_t v)
{
    far_put_be32(p, (uint32_t)(v >> 32));
    far_put_be32(p + 4, (uint32_t)v);
}
static inline uint64_t far_get_be64(const uint8_t *p)
{
    return (uint64_t)far_get_be32(p) << 32 | far_get_be32(p + 4);
}

/* Lower-case hexadecimal; text has room for 2 * len + 1. */
void far_hex_encode(const void *data, size_t len, char *text);
/* Exactly len bytes from exactly 2 * len digits of either case; false if the text is anything else. */
bool far_hex_decode(const char *text, size_t text_len, uint8_t *data, size_t len);

#endif
