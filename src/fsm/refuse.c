/* Rejections of what somebody wrote: see refuse.h. */
#include "fsm/refuse.h"

#include <stdio.h>

struct far_place far_place(const char *path, const char *list, size_t i)
{
    struct far_place place;
    snprintf(place.path, sizeof place.path, "%.60s%s[%u].", path, list, (unsigned)i);
    return place;
}

int far_refuse_text(struct far_step *step, const char *path, const char *field, struct far_slice value, const char *right)
{
    size_t len = value.len < 60 ? value.len : 60;
    return far_reject(step, FAR_INVALID, "field '%s%s' is '%.*s': it must be %s", path, field, (int)len,
                      len == 0 ? "" : (const char *)value.data, right);
}

int far_refuse_number(struct far_step *step, const char *path, const char *field, uint64_t value, const char *right)
{
    return far_reject(step, FAR_INVALID, "field '%s%s' is %llu: it must be %s", path, field, FAR_LLU(value), right);
}

int far_refuse_above(struct far_step *step, const char *path, const char *field, uint64_t value, uint64_t max)
{
    return value <= max ? 0
                        : far_reject(step, FAR_INVALID, "field '%s%s' is %llu: it must be at most %llu", path, field, FAR_LLU(value),
                                     FAR_LLU(max));
}

int far_refuse_odd(struct far_step *step, const char *path, const char *field, struct far_slice text)
{
    bool good = text.len == 0 || (text.data[0] != ' ' && text.data[text.len - 1] != ' ');
    for (size_t i = 0; good && i < text.len; i++) {
        good = text.data[i] >= 0x20 && text.data[i] != 0x7f;
    }
    return good ? 0 : far_refuse_text(step, path, field, text, "text without control characters and without blanks at its ends");
}

bool far_is_name(struct far_slice name)
{
    bool good = name.len >= 1 && name.len <= 63;
    for (size_t i = 0; good && i < name.len; i++) {
        uint8_t c = name.data[i];
        bool is_first = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        good = is_first || (i > 0 && (c == '.' || c == '_' || c == '-'));
    }
    return good;
}
