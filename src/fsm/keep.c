/* The rules of retention: see keep.h. */
#include "fsm/keep.h"

#include "base/date.h"
#include "fsm/calendar.h"

enum { HOUR_S = 3600, DAY_S = 86400, THURSDAY = 3 /* 1970-01-01, days after a Monday */ };

static const char *const names[FAR_KEEP_RULES] = {"last", "hourly", "daily", "weekly", "monthly"};

const char *far_keep_name(enum far_keep_rule rule)
{
    return rule < FAR_KEEP_RULES ? names[rule] : "unknown";
}

bool far_keep_everything(const struct far_keep *keep)
{
    for (size_t i = 0; i < FAR_KEEP_RULES; i++) {
        if (keep->counts[i] != 0) {
            return false;
        }
    }
    return true;
}

/* What the clocks of the zone show, in seconds since 1970. */
static uint64_t shown_s(const struct far_keep *keep, uint64_t time_ms)
{
    int64_t time_s = (int64_t)(time_ms / 1000), shown = time_s + far_zone_offset_s(&keep->changes, time_s);
    return shown > 0 ? (uint64_t)shown : 0;
}

static uint64_t bucket_of(enum far_keep_rule rule, uint64_t second)
{
    struct far_date date = far_date_of_days(second / DAY_S);
    switch (rule) {
    case FAR_KEEP_HOURLY:
        return second / HOUR_S;
    case FAR_KEEP_DAILY:
        return second / DAY_S;
    case FAR_KEEP_WEEKLY:
        return (second / DAY_S + THURSDAY) / 7;
    case FAR_KEEP_MONTHLY:
        return date.year * 12 + date.month;
    default:
        return 0; /* each is one of its own */
    }
}

unsigned far_keep_next(struct far_keep *keep, uint64_t created_ms, bool counts)
{
    uint64_t second = shown_s(keep, created_ms);
    unsigned kept = 0;
    for (unsigned rule = 0; rule < FAR_KEEP_RULES; rule++) {
        uint64_t bucket = bucket_of(rule, second);
        bool is_new = rule == FAR_KEEP_LAST || keep->used[rule] == 0 || bucket != keep->buckets[rule];
        if (!is_new || keep->used[rule] >= keep->counts[rule]) {
            continue;
        }
        kept |= 1u << rule;
        if (counts) {
            keep->used[rule]++;
            keep->buckets[rule] = bucket;
        }
    }
    return kept;
}
