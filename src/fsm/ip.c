/* Addresses of networks: see ip.h. */
#include "fsm/ip.h"

#include <string.h>

/* Digits from *at on, at most so many; the number, or -1: there is none, or it is above max. */
static int take_number(struct far_slice text, size_t *at, unsigned base, size_t digits_max, int max)
{
    int value = 0;
    size_t digits = 0;
    for (; *at < text.len && digits <= digits_max; (*at)++, digits++) {
        uint8_t c = text.data[*at];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
        if (digit >= (int)base) {
            break;
        }
        value = value * (int)base + digit;
    }
    return digits == 0 || digits > digits_max || value > max ? -1 : value;
}

static bool parse_ip4(struct far_slice text, struct far_ip *ret)
{
    size_t at = 0;
    for (size_t i = 0; i < FAR_IP4_BYTES; i++) {
        size_t from = at;
        int part = take_number(text, &at, 10, 3, 255);
        bool is_padded = part >= 0 && at - from > 1 && text.data[from] == '0'; /* some read it as octal */
        if (part < 0 || is_padded || (i + 1 < FAR_IP4_BYTES && (at >= text.len || text.data[at++] != '.'))) {
            return false;
        }
        ret->bytes[i] = (uint8_t)part;
    }
    ret->len = FAR_IP4_BYTES;
    return at == text.len;
}

/* Groups up to "::" or the end; false: something else is there. */
static bool take_groups(struct far_slice text, size_t *at, uint8_t *bytes, size_t *count)
{
    while (*count < 8) {
        int group = take_number(text, at, 16, 4, 0xffff);
        if (group < 0) {
            return false;
        }
        bytes[2 * *count] = (uint8_t)(group >> 8);
        bytes[2 * *count + 1] = (uint8_t)group;
        (*count)++;
        if (*at == text.len || (text.data[*at] == ':' && *at + 1 < text.len && text.data[*at + 1] == ':')) {
            return true;
        }
        if (text.data[(*at)++] != ':') {
            return false;
        }
    }
    return false;
}

static bool parse_ip6(struct far_slice text, struct far_ip *ret)
{
    uint8_t head[16] = {0}, tail[16] = {0};
    size_t at = 0, heads = 0, tails = 0;
    bool starts_empty = text.len >= 2 && text.data[0] == ':' && text.data[1] == ':';
    if (!starts_empty && !take_groups(text, &at, head, &heads)) {
        return false;
    }
    bool has_gap = at + 1 < text.len && text.data[at] == ':' && text.data[at + 1] == ':';
    if (has_gap) {
        at += 2;
        if (at < text.len && (!take_groups(text, &at, tail, &tails) || at != text.len)) {
            return false;
        }
    }
    if (at != text.len || (has_gap ? heads + tails > 7 : heads != 8)) {
        return false;
    }
    memset(ret->bytes, 0, sizeof ret->bytes);
    memcpy(ret->bytes, head, 2 * heads);
    memcpy(ret->bytes + 16 - 2 * tails, tail, 2 * tails);
    ret->len = FAR_IP6_BYTES;
    return true;
}

bool far_ip_parse(struct far_slice text, struct far_ip *ret_ip)
{
    struct far_ip ip = {.len = 0};
    bool good = parse_ip4(text, &ip) || parse_ip6(text, &ip);
    *ret_ip = good ? ip : *ret_ip;
    return good;
}

static bool bit(const struct far_ip *ip, size_t i)
{
    return (ip->bytes[i / 8] >> (7 - i % 8) & 1) != 0;
}

bool far_subnet_parse(struct far_slice text, struct far_ip *ret_ip, unsigned *ret_prefix)
{
    struct far_ip ip = {.len = 0};
    size_t slash = 0;
    while (slash < text.len && text.data[slash] != '/') {
        slash++;
    }
    size_t at = slash + 1;
    int prefix = slash + 1 < text.len ? take_number(text, &at, 10, 3, 128) : -1;
    if (prefix < 1 || at != text.len || !far_ip_parse(far_slice(text.data, slash), &ip) || (size_t)prefix >= 8 * ip.len) {
        return false;
    }
    for (size_t i = (size_t)prefix; i < 8 * ip.len; i++) {
        if (bit(&ip, i)) {
            return false;
        }
    }
    *ret_ip = ip;
    *ret_prefix = (unsigned)prefix;
    return true;
}

bool far_ip_same_subnet(const struct far_ip *a, const struct far_ip *b, unsigned prefix)
{
    bool same = a->len == b->len;
    for (size_t i = 0; same && i < prefix && i < 8 * a->len; i++) {
        same = bit(a, i) == bit(b, i);
    }
    return same;
}
