/* Moments as text: see moment.h. */
#include "base/moment.h"

enum { MS_PER_S = 1000, S_PER_MIN = 60, S_PER_DAY = 86400 };

struct scan {
    const uint8_t *at;
    size_t left;
    bool good;
};

static uint64_t digits(struct scan *scan, size_t count)
{
    uint64_t value = 0;
    for (size_t i = 0; i < count; i++) {
        scan->good = scan->good && scan->left > 0 && *scan->at >= '0' && *scan->at <= '9';
        if (!scan->good) {
            return 0;
        }
        value = value * 10 + (uint64_t)(*scan->at - '0');
        scan->at++;
        scan->left--;
    }
    return value;
}

/* The next byte is one of these; returns it. */
static uint8_t one_of(struct scan *scan, const char *bytes)
{
    scan->good = scan->good && scan->left > 0 && *scan->at != '\0' && strchr(bytes, *scan->at) != NULL;
    if (!scan->good) {
        return 0;
    }
    scan->left--;
    return *scan->at++;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = year / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static uint64_t fraction_ms(struct scan *scan)
{
    uint64_t ms = 0, weight = 100;
    if (scan->left == 0 || *scan->at != '.') {
        return 0;
    }
    scan->at++;
    scan->left--;
    do {
        ms += digits(scan, 1) * weight;
        weight /= 10;
    } while (scan->left > 0 && *scan->at >= '0' && *scan->at <= '9');
    return ms;
}

/* Seconds that local time is ahead of UTC. */
static int64_t offset_s(struct scan *scan)
{
    uint8_t sign = one_of(scan, "Zz+-");
    if (sign == 'Z' || sign == 'z') {
        return 0;
    }
    uint64_t hours = digits(scan, 2);
    one_of(scan, ":");
    uint64_t minutes = digits(scan, 2);
    scan->good = scan->good && hours < 24 && minutes < 60;
    int64_t seconds = (int64_t)(hours * 3600 + minutes * S_PER_MIN);
    return sign == '-' ? -seconds : seconds;
}

static bool parse_time(struct far_slice text, uint64_t *ret_ms)
{
    struct scan scan = {text.data, text.len, true};
    uint64_t year = digits(&scan, 4);
    one_of(&scan, "-");
    uint64_t month = digits(&scan, 2);
    one_of(&scan, "-");
    uint64_t day = digits(&scan, 2);
    one_of(&scan, "Tt ");
    uint64_t hour = digits(&scan, 2);
    one_of(&scan, ":");
    uint64_t minute = digits(&scan, 2);
    one_of(&scan, ":");
    uint64_t second = digits(&scan, 2), ms = scan.good ? fraction_ms(&scan) : 0;
    int64_t ahead_s = offset_s(&scan);
    static const uint8_t month_days[12] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (!scan.good || scan.left != 0 || year < 1970 || month < 1 || month > 12 || day < 1 ||
        day > month_days[month - 1] || (month == 2 && day == 29 && !is_leap) || hour > 23 || minute > 59 || second > 60) {
        return false;
    }
    int64_t s = days_of((int64_t)year, (int64_t)month, (int64_t)day) * S_PER_DAY + (int64_t)(hour * 3600 + minute * 60 + second) -
                ahead_s;
    *ret_ms = s < 0 ? 0 : (uint64_t)s * MS_PER_S + ms;
    return s >= 0;
}

int far_moment_parse(struct far_slice text, struct far_moment *ret_moment, struct far_error *err)
{
    struct scan scan = {text.data, text.len, text.len > 0 && text.len <= 18};
    uint64_t seq = digits(&scan, scan.good ? text.len : 0), ms = 0;
    if (scan.good) {
        *ret_moment = (struct far_moment){FAR_MOMENT_SEQ, seq};
        return 0;
    }
    if (!parse_time(text, &ms)) {
        return far_fail(err, FAR_INVALID, "'%.*s' is no moment: it must be the number of an event, or a time like "
                                          "2026-11-20T17:30:00Z", text.len > 40 ? 40 : (int)text.len,
                        text.len == 0 ? "" : (const char *)text.data);
    }
    *ret_moment = (struct far_moment){FAR_MOMENT_TIME, ms};
    return 0;
}
