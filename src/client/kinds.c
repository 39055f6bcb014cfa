/* The kinds of events: see kinds.h. */
#include "client/kinds.h"

#include <string.h>

enum { CLASS_sub, CLASS_cmd, CLASS_ev, CLASS_row, CLASS_msg };
enum { TRAIT_info = KIND_INFO, TRAIT_notice = KIND_NOTICE, TRAIT_warning = KIND_WARNING, TRAIT_error = KIND_ERROR };

static const struct entry {
    int klass;
    struct kind kind;
} entries[] = {
#define FAR_ENUM_BEGIN(name)
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_BEGIN(klass, name, kind, version) {CLASS_##klass, {#name, kind, 0
#define FAR_SINCE(level)
#define FAR_FIELD_SINCE(number, level)
#define FAR_SEVERITY(severity) | TRAIT_##severity
#define FAR_SEVERITY_IF(field, value, severity) | TRAIT_##severity
#define FAR_U64(number, name)
#define FAR_BOOL(number, name)
#define FAR_ENUM(number, name, values)
#define FAR_STR(number, name, max)
#define FAR_BYTES(number, name, max)
#define FAR_SECRET(number, name, max) | KIND_SECRET
#define FAR_LIST(number, name, sub, max)
#define FAR_STRS(number, name, max)
#define FAR_U64S(number, name, max)
#define FAR_END(klass, name) }},
#include "fsm/events.def"
};
enum { ENTRIES = sizeof entries / sizeof entries[0] };

const struct kind *kind_by_number(uint16_t number)
{
    for (size_t i = 0; i < ENTRIES; i++) {
        if (entries[i].klass == CLASS_ev && entries[i].kind.number == number) {
            return &entries[i].kind;
        }
    }
    return NULL;
}

const struct kind *kind_by_name(const char *name, size_t len)
{
    for (size_t i = 0; i < ENTRIES; i++) {
        const char *known = entries[i].kind.name;
        if (entries[i].klass == CLASS_ev && strlen(known) == len && memcmp(known, name, len) == 0) {
            return &entries[i].kind;
        }
    }
    return NULL;
}

unsigned kind_severities_from(const char *severity)
{
    static const char *const names[] = {"info", "notice", "warning", "error"};
    unsigned all = KIND_INFO | KIND_NOTICE | KIND_WARNING | KIND_ERROR;
    for (unsigned i = 0; i < 4; i++) {
        if (strcmp(names[i], severity) == 0) {
            return all & ~((1U << (i + 1)) - 1);
        }
    }
    return 0;
}
