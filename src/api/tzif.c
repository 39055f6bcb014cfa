/* TZif files: see tzif.h.
 *
 * All changes that matter, those of the file and those of the footer behind them, pass one after the other, oldest first, through keep(),
 * which knows the offset before each and writes down what is different from it. */
#include "api/tzif.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    HEADER = 44,
    TIMES_MAX = 4000, /* changes of a file: the longest have some 240 */
    TYPES_MAX = 256,
    OFFSET_S_MAX = 26 * 3600,
    RULE_S_MAX = 167 * 3600,
    DAY_S = 86400,
    VERSION_1_END_S = INT32_MAX, /* files without a footer list changes up to the year 2037 */
};

static int bad(struct far_error *err, const char *what)
{
    return far_fail(err, FAR_INVALID, "it is no time zone file: %s", what);
}

/* ---- what is kept ---- */

struct keeper {
    int64_t from_s, until_s;
    struct far_sub_zone_change *changes;
    size_t count;     /* of them; 0: only the offset at from_s is known yet */
    int64_t offset_s; /* behind the last change that passed */
    int64_t last_s;   /* when that was */
    bool is_full;
};

static void write_change(struct keeper *k, int64_t at_s)
{
    k->changes[k->count++] = (struct far_sub_zone_change){.at_s = (uint64_t)at_s,
                                                          .east_s = k->offset_s > 0 ? (uint64_t)k->offset_s : 0,
                                                          .west_s = k->offset_s < 0 ? (uint64_t)-k->offset_s : 0};
}

static int64_t offset_in(const struct far_sub_zone_change *change)
{
    return (int64_t)change->east_s - (int64_t)change->west_s;
}

static void keep(struct keeper *k, int64_t at_s, int64_t offset_s)
{
    if (k->is_full || at_s >= k->until_s) {
        return;
    }
    if (k->count > 1 && (int64_t)k->changes[k->count - 1].at_s == at_s) { /* summer time that ends and begins at once */
        k->count--;
        k->offset_s = offset_in(&k->changes[k->count - 1]);
    }
    if (at_s > k->from_s && k->count == 0) {
        write_change(k, 0);
    }
    bool differs = offset_s != k->offset_s;
    k->last_s = at_s;
    if (at_s <= k->from_s || !differs) {
        k->offset_s = offset_s;
    } else if (k->count < FAR_ZONE_CHANGES_MAX) {
        k->offset_s = offset_s;
        write_change(k, at_s);
    } else {
        k->is_full = true;
        k->until_s = at_s;
    }
}

/* ---- the footer: a POSIX TZ string ---- */

struct date_rule {
    enum { DAY_OF_YEAR, JULIAN_DAY, WEEKDAY } kind; /* "0" to "365"; "J1" to "J365", 29 February not counted; "M3.5.0" */
    int64_t month, week, day;
    int64_t time_s; /* of the clocks of then */
};

struct tz_string {
    int64_t offset_s, summer_offset_s; /* east of UTC */
    bool has_summer;
    struct date_rule start, end;
};

struct text {
    const uint8_t *at, *end;
};

static bool next_is(struct text *t, char c)
{
    if (t->at < t->end && *t->at == (uint8_t)c) {
        t->at++;
        return true;
    }
    return false;
}

static bool is_digit(const struct text *t)
{
    return t->at < t->end && *t->at >= '0' && *t->at <= '9';
}

static bool read_number(struct text *t, int64_t min, int64_t max, int64_t *ret)
{
    int64_t value = 0;
    bool has_digit = is_digit(t);
    for (; is_digit(t) && value <= max; t->at++) {
        value = value * 10 + (*t->at - '0');
    }
    *ret = value;
    return has_digit && value >= min && value <= max;
}

/* At least three letters, or anything between < and >. */
static bool skip_name(struct text *t)
{
    size_t count = 0;
    if (next_is(t, '<')) {
        while (t->at < t->end && *t->at != '>' && *t->at >= ' ' && *t->at < 0x7f) {
            t->at++;
            count++;
        }
        return count > 0 && next_is(t, '>');
    }
    for (; t->at < t->end && ((*t->at >= 'a' && *t->at <= 'z') || (*t->at >= 'A' && *t->at <= 'Z')); t->at++) {
        count++;
    }
    return count >= 3;
}

/* "[+-]hh[:mm[:ss]]" as seconds. */
static bool read_time(struct text *t, int64_t hours_max, int64_t *ret_s)
{
    bool is_negative = next_is(t, '-');
    int64_t hours, minutes = 0, seconds = 0;
    if (!is_negative) {
        next_is(t, '+');
    }
    bool good = read_number(t, 0, hours_max, &hours);
    if (good && next_is(t, ':')) {
        good = read_number(t, 0, 59, &minutes);
        if (good && next_is(t, ':')) {
            good = read_number(t, 0, 59, &seconds);
        }
    }
    int64_t sum = hours * 3600 + minutes * 60 + seconds;
    *ret_s = is_negative ? -sum : sum;
    return good;
}

static bool read_date(struct text *t, struct date_rule *ret)
{
    bool good;
    ret->time_s = 2 * 3600;
    if (next_is(t, 'M')) {
        ret->kind = WEEKDAY;
        good = read_number(t, 1, 12, &ret->month) && next_is(t, '.') && read_number(t, 1, 5, &ret->week) && next_is(t, '.') &&
               read_number(t, 0, 6, &ret->day);
    } else if (next_is(t, 'J')) {
        ret->kind = JULIAN_DAY;
        good = read_number(t, 1, 365, &ret->day);
    } else {
        ret->kind = DAY_OF_YEAR;
        good = read_number(t, 0, 365, &ret->day);
    }
    return good && next_is(t, '/') ? read_time(t, RULE_S_MAX / 3600, &ret->time_s) : good;
}

static bool read_tz_string(struct far_slice footer, struct tz_string *ret)
{
    struct text t = {footer.data, footer.data + footer.len};
    int64_t west_s;
    *ret = (struct tz_string){.has_summer = false};
    if (!skip_name(&t) || !read_time(&t, 24, &west_s)) {
        return false;
    }
    ret->offset_s = -west_s;
    if (t.at == t.end) {
        return true;
    }
    ret->has_summer = true;
    ret->summer_offset_s = ret->offset_s + 3600;
    if (!skip_name(&t)) {
        return false;
    }
    if (t.at < t.end && *t.at != ',') {
        if (!read_time(&t, 24, &west_s)) {
            return false;
        }
        ret->summer_offset_s = -west_s;
    }
    return next_is(&t, ',') && read_date(&t, &ret->start) && next_is(&t, ',') && read_date(&t, &ret->end) && t.at == t.end;
}

/* ---- dates ---- */

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

/* Days from 1970-01-01 to the first of January. */
static int64_t first_day(int64_t year)
{
    int64_t before = year - 1;
    return 365 * (year - 1970) + before / 4 - before / 100 + before / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
}

static int64_t year_of(int64_t time_s)
{
    int64_t year = 1970 + time_s / (366 * DAY_S);
    while (first_day(year + 1) * DAY_S <= time_s) {
        year++;
    }
    return year;
}

/* The day in this year, from 0. */
static int64_t day_of(const struct date_rule *rule, int64_t year)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (rule->kind == DAY_OF_YEAR) {
        return rule->day;
    }
    if (rule->kind == JULIAN_DAY) {
        return rule->day - 1 + (is_leap(year) && rule->day > 59);
    }
    int64_t first = 0, length = lengths[rule->month - 1] + (rule->month == 2 && is_leap(year));
    for (int64_t month = 1; month < rule->month; month++) {
        first += lengths[month - 1] + (month == 2 && is_leap(year));
    }
    int64_t weekday = (first_day(year) + first + 4) % 7; /* of the first of the month, Sunday = 0; 1970-01-01 was a Thursday */
    int64_t day = (rule->day - weekday + 7) % 7 + (rule->week - 1) * 7;
    return first + (day >= length ? day - 7 : day);
}

static int64_t moment_of(const struct date_rule *rule, int64_t year, int64_t offset_s)
{
    return (first_day(year) + day_of(rule, year)) * DAY_S + rule->time_s - offset_s;
}

/* The footer's changes after a time, of every year up to the keeper's end. */
static void expand(struct keeper *k, const struct tz_string *tz, int64_t after_s)
{
    int64_t first = year_of(after_s > k->from_s ? after_s : k->from_s) - 1, last = year_of(k->until_s);
    if (!tz->has_summer) {
        keep(k, after_s + 1, tz->offset_s);
        return;
    }
    for (int64_t year = first; year <= last; year++) {
        int64_t start_s = moment_of(&tz->start, year, tz->offset_s), end_s = moment_of(&tz->end, year, tz->summer_offset_s);
        bool ends_first = end_s <= start_s; /* south of the equator, and where summer time ends and begins at once */
        for (int i = 0; i < 2; i++) {
            bool is_end = (i == 0) == ends_first;
            int64_t at_s = is_end ? end_s : start_s;
            if (at_s > after_s && at_s >= k->last_s) {
                keep(k, at_s, is_end ? tz->offset_s : tz->summer_offset_s);
            }
        }
    }
}

/* ---- the file ---- */

struct block {
    size_t time_bytes; /* 4 in the first block, 8 in the second */
    uint32_t utc_count, std_count, leap_count, time_count, type_count, char_count;
    const uint8_t *times, *indexes, *types;
    size_t len;
};

/* Header and data block at the beginning of bytes. */
static int read_block(struct far_slice bytes, size_t time_bytes, struct block *ret, struct far_error *err)
{
    struct block b = {.time_bytes = time_bytes};
    uint32_t *counts[] = {&b.utc_count, &b.std_count, &b.leap_count, &b.time_count, &b.type_count, &b.char_count};
    if (bytes.len < HEADER || memcmp(bytes.data, "TZif", 4) != 0) {
        return bad(err, "it does not begin as one");
    }
    for (size_t i = 0; i < 6; i++) {
        *counts[i] = far_get_be32(bytes.data + 20 + 4 * i);
    }
    if (b.time_count > TIMES_MAX || b.type_count == 0 || b.type_count > TYPES_MAX || b.char_count > FAR_TZIF_BYTES_MAX ||
        b.leap_count > TIMES_MAX || b.std_count > TYPES_MAX || b.utc_count > TYPES_MAX) {
        return bad(err, "it counts too many of something");
    }
    b.times = bytes.data + HEADER;
    b.indexes = b.times + b.time_count * time_bytes;
    b.types = b.indexes + b.time_count;
    b.len = HEADER + b.time_count * (time_bytes + 1) + b.type_count * 6 + b.char_count + b.leap_count * (time_bytes + 4) +
            b.std_count + b.utc_count;
    if (b.len > bytes.len) {
        return bad(err, "it ends too early");
    }
    if (b.leap_count != 0) {
        return bad(err, "it counts leap seconds, and the cluster's time does not");
    }
    *ret = b;
    return 0;
}

static int64_t time_at(const struct block *b, size_t i)
{
    const uint8_t *at = b->times + i * b->time_bytes;
    return b->time_bytes == 8 ? (int64_t)far_get_be64(at) : (int64_t)(int32_t)far_get_be32(at);
}

static int64_t offset_of(const struct block *b, size_t type)
{
    return (int64_t)(int32_t)far_get_be32(b->types + 6 * type);
}

static int check_block(const struct block *b, struct far_error *err)
{
    for (size_t i = 0; i < b->type_count; i++) {
        int64_t offset_s = offset_of(b, i);
        if (offset_s < -OFFSET_S_MAX || offset_s > OFFSET_S_MAX) {
            return bad(err, "an offset is larger than 26 hours");
        }
    }
    for (size_t i = 0; i < b->time_count; i++) {
        if (b->indexes[i] >= b->type_count || (i > 0 && time_at(b, i) <= time_at(b, i - 1))) {
            return bad(err, "its changes are not in order, or of a kind that is not there");
        }
    }
    return 0;
}

/* The text between the two newlines at the end; false: there is none. */
static bool find_footer(struct far_slice rest, struct far_slice *ret_footer)
{
    const uint8_t *end = rest.len < 2 || rest.data[0] != '\n' ? NULL : memchr(rest.data + 1, '\n', rest.len - 1);
    if (end == NULL) {
        return false;
    }
    *ret_footer = far_slice(rest.data + 1, (size_t)(end - rest.data) - 1);
    return true;
}

static int read_file(struct far_slice file, struct block *ret_block, struct far_slice *ret_footer, struct far_error *err)
{
    int rc = read_block(file, 4, ret_block, err);
    *ret_footer = far_slice(NULL, 0);
    if (rc != 0 || file.data[4] == 0) {
        return rc;
    }
    if (file.data[4] < '2') {
        return bad(err, "its version is none");
    }
    struct far_slice second = far_slice(file.data + ret_block->len, file.len - ret_block->len);
    rc = read_block(second, 8, ret_block, err);
    if (rc == 0 && !find_footer(far_slice(second.data + ret_block->len, second.len - ret_block->len), ret_footer)) {
        rc = bad(err, "it has no footer");
    }
    return rc;
}

int far_tzif_parse(struct far_slice file, uint64_t from_s, uint64_t until_s, struct far_sub_zone_change *changes, size_t *ret_count,
                   uint64_t *ret_until_s, struct far_error *err)
{
    struct block block;
    struct far_slice footer;
    struct tz_string tz;
    struct keeper k = {.from_s = (int64_t)from_s, .until_s = (int64_t)until_s, .changes = changes, .last_s = INT64_MIN};
    int rc = read_file(file, &block, &footer, err);
    rc = rc == 0 ? check_block(&block, err) : rc;
    if (rc != 0) {
        return rc;
    }
    if (footer.len > 0 && !read_tz_string(footer, &tz)) {
        return bad(err, "its footer is no TZ string");
    }
    if (footer.len == 0 && block.time_count > 0 && k.until_s > VERSION_1_END_S) {
        k.until_s = VERSION_1_END_S;
    }
    k.offset_s = offset_of(&block, 0);
    for (size_t i = 0; i < block.time_count; i++) {
        keep(&k, time_at(&block, i), offset_of(&block, block.indexes[i]));
    }
    int64_t last_s = block.time_count > 0 ? time_at(&block, block.time_count - 1) : INT64_MIN / 4;
    if (footer.len > 0 && last_s < k.until_s) {
        expand(&k, &tz, last_s);
    }
    if (k.count == 0) {
        write_change(&k, 0);
    }
    *ret_count = k.count;
    *ret_until_s = (uint64_t)k.until_s;
    return 0;
}

/* ---- this machine ---- */

static int read_zone(struct far_slice name, struct far_buf *file, struct far_error *err)
{
    const char *dir = getenv("TZDIR");
    char path[512];
    dir = dir != NULL && dir[0] == '/' ? dir : "/usr/share/zoneinfo";
    int len = snprintf(path, sizeof path, "%s/%.*s", dir, (int)name.len, (const char *)name.data);
    if (len < 0 || (size_t)len >= sizeof path) {
        return far_fail(err, FAR_NOT_FOUND, "the name of the folder with time zones is too long");
    }
    return far_file_read(path, file, err);
}

int far_tzif_load(struct far_slice name, uint64_t now_ms, struct far_sub_zone_change changes[FAR_ZONE_CHANGES_MAX],
                  struct far_cmd_zone_set *ret_command, struct far_error *err)
{
    struct far_buf file;
    struct far_error why = {0};
    int64_t year = year_of((int64_t)(now_ms / 1000));
    uint64_t from_s = (uint64_t)(first_day(year > 1970 ? year - 1 : year) * DAY_S);
    uint64_t until_s = (uint64_t)(first_day(year + FAR_TZIF_YEARS) * DAY_S);
    size_t count = 0;
    until_s = until_s < UINT32_MAX ? until_s : UINT32_MAX;
    if (!far_zone_name_is_good(name)) {
        return far_fail(err, FAR_INVALID, "'%.*s' is not the name of a time zone: they are like 'Europe/Paris' or 'UTC'",
                        (int)name.len, (const char *)name.data);
    }
    far_buf_init(&file, FAR_TZIF_BYTES_MAX);
    int rc = read_zone(name, &file, &why);
    rc = rc == 0 ? far_tzif_parse(far_buf_slice(&file), from_s, until_s, changes, &count, &until_s, &why) : rc;
    far_buf_done(&file);
    if (rc != 0 && far_slice_equal(name, far_slice_str("UTC"))) {
        changes[0] = (struct far_sub_zone_change){.at_s = 0};
        count = 1;
        rc = 0;
    }
    if (rc != 0) {
        return far_fail(err, rc == FAR_LIMIT ? rc : FAR_NOT_FOUND,
                        "the machine of this server has no time zone '%.*s' (%s); names are like 'Europe/Paris', and the package tzdata "
                        "has them",
                        (int)name.len, (const char *)name.data, why.message);
    }
    *ret_command = (struct far_cmd_zone_set){.name = name, .changes = {.items = changes, .count = count}, .until_s = until_s};
    return 0;
}
