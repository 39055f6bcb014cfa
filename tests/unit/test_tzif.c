/* The reader of time zones: files of all versions as they may come, footers of every form, and (where the machine has tzdata) every
 * zone held against what libc says. */
#define _GNU_SOURCE
#include "api/tzif.h"

#include "../lib/cm.h"

#include "base/buf.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct far_sub_zone_change changes[FAR_ZONE_CHANGES_MAX];
static size_t count;
static uint64_t until_s;
static struct far_error error;

/* 2026-01-01 and 2047-01-01 UTC. */
static const uint64_t from_s = 1767225600, end_s = 2429913600;

/* ---- made files ---- */

struct change {
    int64_t at_s;
    uint8_t type;
};

static void put(struct far_buf *out, uint64_t value, size_t bytes)
{
    for (size_t i = bytes; i > 0; i--) {
        uint8_t byte = (uint8_t)(value >> 8 * (i - 1));
        assert_int_equal(far_buf_append(out, &byte, 1), 0);
    }
}

static void put_block(struct far_buf *out, char version, size_t time_bytes, const struct change *list, size_t n, const int32_t *offsets,
                      size_t types)
{
    assert_int_equal(far_buf_append(out, "TZif", 4), 0);
    put(out, (uint8_t)version, 1);
    for (size_t i = 0; i < 15; i++) {
        put(out, 0, 1);
    }
    const uint64_t counts[] = {0, 0, 0, n, types, 4};
    for (size_t i = 0; i < 6; i++) {
        put(out, counts[i], 4);
    }
    for (size_t i = 0; i < n; i++) {
        put(out, (uint64_t)list[i].at_s, time_bytes);
    }
    for (size_t i = 0; i < n; i++) {
        put(out, list[i].type, 1);
    }
    for (size_t i = 0; i < types; i++) {
        put(out, (uint32_t)offsets[i], 4);
        put(out, 0, 2);
    }
    assert_int_equal(far_buf_append(out, "XXX", 4), 0);
}

/* Version 2: an empty first block, the changes, the footer. */
static int parse_made(const char *footer, const struct change *list, size_t n, const int32_t *offsets, size_t types)
{
    static const int32_t zero[] = {0};
    struct far_buf out;
    far_buf_init(&out, 1 << 16);
    put_block(&out, '2', 4, NULL, 0, zero, 1);
    put_block(&out, '2', 8, list, n, offsets, types);
    assert_int_equal(far_buf_printf(&out, "\n%s\n", footer), 0);
    int rc = far_tzif_parse(far_buf_slice(&out), from_s, end_s, changes, &count, &until_s, &error);
    far_buf_done(&out);
    return rc;
}

static int parse_footer(const char *footer)
{
    static const int32_t zero[] = {0};
    return parse_made(footer, NULL, 0, zero, 1);
}

static int64_t offset_at(uint64_t time_s)
{
    int64_t offset_s = 0;
    for (size_t i = 0; i < count && changes[i].at_s <= time_s; i++) {
        offset_s = (int64_t)changes[i].east_s - (int64_t)changes[i].west_s;
    }
    return offset_s;
}

/* As zone_set wants them. */
static void assert_in_order(void)
{
    assert_true(count >= 1 && count <= FAR_ZONE_CHANGES_MAX);
    assert_int_equal(changes[0].at_s, 0);
    for (size_t i = 0; i < count; i++) {
        assert_true(changes[i].east_s == 0 || changes[i].west_s == 0);
        assert_true(changes[i].east_s <= 26 * 3600 && changes[i].west_s <= 26 * 3600);
        assert_true(i == 0 || (changes[i].at_s > changes[i - 1].at_s && changes[i].at_s > from_s && changes[i].at_s < until_s));
        assert_true(i == 0 || offset_at(changes[i].at_s) != offset_at(changes[i].at_s - 1));
    }
}

static uint64_t utc(int year, int month, int day, int hour, int minute)
{
    struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour, .tm_min = minute};
    return (uint64_t)timegm(&tm);
}

/* ---- footers ---- */

static void a_footer_is_expanded_for_all_years(void **state)
{
    assert_int_equal(parse_footer("CET-1CEST,M3.5.0,M10.5.0/3"), 0);
    assert_in_order();
    assert_int_equal(count, 1 + 21 * 2);
    assert_int_equal(until_s, end_s);
    assert_int_equal(offset_at(from_s), 3600);
    assert_int_equal(changes[1].at_s, utc(2026, 3, 29, 1, 0));
    assert_int_equal(changes[2].at_s, utc(2026, 10, 25, 1, 0));
    assert_int_equal(changes[3].at_s, utc(2027, 3, 28, 1, 0));
    assert_int_equal(offset_at(changes[3].at_s), 7200);
    assert_int_equal(changes[42].at_s, utc(2046, 10, 28, 1, 0));
}

static void footers_of_every_form_are_understood(void **state)
{
    assert_int_equal(parse_footer("<+0545>-5:45"), 0);
    assert_int_equal(count, 1);
    assert_int_equal(offset_at(from_s), 20700);
    assert_int_equal(parse_footer("EST5"), 0);
    assert_int_equal(offset_at(from_s), -5 * 3600);
    assert_int_equal(parse_footer("<-0112>1:12:34"), 0);
    assert_int_equal(offset_at(from_s), -(3600 + 12 * 60 + 34));
    /* winter time that is called summer time */
    assert_int_equal(parse_footer("IST-1GMT0,M10.5.0,M3.5.0/1"), 0);
    assert_in_order();
    assert_int_equal(offset_at(from_s), 0);
    assert_int_equal(changes[1].at_s, utc(2026, 3, 29, 1, 0));
    assert_int_equal(offset_at(utc(2026, 7, 1, 0, 0)), 3600);
    /* the south */
    assert_int_equal(parse_footer("NZST-12NZDT,M9.5.0,M4.1.0/3"), 0);
    assert_in_order();
    assert_int_equal(offset_at(from_s), 13 * 3600);
    assert_int_equal(changes[1].at_s, utc(2026, 4, 4, 14, 0));
    /* hours beyond a day, and negative ones */
    assert_int_equal(parse_footer("<-02>2<-01>,M3.5.0/-1,M10.5.0/0"), 0);
    assert_int_equal(changes[1].at_s, utc(2026, 3, 29, 1, 0));
    assert_int_equal(parse_footer("EET-2EEST,M3.4.4/50,M10.4.4/50"), 0);
    assert_int_equal(changes[1].at_s, utc(2026, 3, 28, 0, 0)); /* 2:00 of Saturday */
    /* days of the year: J60 is the first of March in every year, 59 only where there is no 29 February */
    assert_int_equal(parse_footer("AAA0BBB,J60/0,J300/0"), 0);
    assert_int_equal(changes[1].at_s, utc(2026, 3, 1, 0, 0));
    assert_int_equal(changes[5].at_s, utc(2028, 3, 1, 0, 0));
    assert_int_equal(parse_footer("AAA0BBB,59/0,300/0"), 0);
    assert_int_equal(changes[1].at_s, utc(2026, 3, 1, 0, 0));
    assert_int_equal(changes[5].at_s, utc(2028, 2, 29, 0, 0));
    /* summer time all year */
    assert_int_equal(parse_footer("EST5EDT,0/0,J365/25"), 0);
    assert_int_equal(count, 1);
    assert_int_equal(offset_at(from_s), -4 * 3600);
    assert_int_equal(parse_footer(""), 0);
    assert_int_equal(count, 1);
}

static void footers_that_are_none_are_refused(void **state)
{
    static const char *const none[] = {
        "X",        "CET",          "C1",           "CET-25",       "CET-1CEST", "CET-1CEST,M3.5.0", "CET-1CEST,M13.5.0,M10.5.0",
        "CET-1:60", "CET-1CEST,M3.6.0,M10.5.0", "CET-1CEST,M3.5.7,M10.5.0", "CET-1CEST,J0,J1", "CET-1CEST,366,1",
        "<+01-1",       "<>1",          "CET-1 ",       "CET-1CEST,M3.5.0,M10.5.0/168", "CET-1CEST,M3.5.0,M10.5.0x",
        "CET--1",   "CET-1CEST-99,1,2", "CET99999999999999999999", "CET-1CEST,M3.5.0/,M10.5.0",
    };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        if (parse_footer(none[i]) != FAR_INVALID) {
            fail_msg("'%s' was taken", none[i]);
        }
        assert_non_null(strstr(error.message, "footer"));
    }
    assert_int_equal(parse_footer("<->01"), 0); /* a name of one character */
}

/* ---- files ---- */

static void changes_of_the_file_come_before_its_footer(void **state)
{
    const int32_t offsets[] = {-1000, 3600, 7200, 10800};
    const struct change list[] = {{-5000000000, 1}, {(int64_t)from_s - 5, 2}, {(int64_t)from_s + 1000, 3}, {(int64_t)from_s + 2000, 3}};
    assert_int_equal(parse_made("XXX-3", list, 4, offsets, 4), 0);
    assert_in_order();
    assert_int_equal(count, 2); /* the last changes nothing */
    assert_int_equal(offset_at(from_s), 7200);
    assert_int_equal(changes[1].at_s, from_s + 1000);
    assert_int_equal(parse_made("", list, 1, offsets, 4), 0);
    assert_int_equal(count, 1);
    assert_int_equal(offset_at(from_s), 3600);
    assert_int_equal(until_s, INT32_MAX); /* nobody says what comes after */
}

static void a_file_of_version_1_has_no_footer(void **state)
{
    const int32_t offsets[] = {3600, 7200};
    const struct change list[] = {{1774746000, 1}, {1792890000, 0}};
    struct far_buf out;
    far_buf_init(&out, 1 << 16);
    put_block(&out, 0, 4, list, 2, offsets, 2);
    assert_int_equal(far_tzif_parse(far_buf_slice(&out), from_s, end_s, changes, &count, &until_s, &error), 0);
    assert_in_order();
    assert_int_equal(count, 3);
    assert_int_equal(changes[1].at_s, utc(2026, 3, 29, 1, 0));
    assert_int_equal(until_s, INT32_MAX);
    far_buf_done(&out);
}

static void what_does_not_fit_is_cut_and_says_so(void **state)
{
    const int32_t offsets[] = {0, 3600};
    struct change list[300];
    for (size_t i = 0; i < 300; i++) {
        list[i] = (struct change){(int64_t)(from_s + 100 + 1000 * i), (uint8_t)(1 - i % 2)};
    }
    assert_int_equal(parse_made("XXX0", list, 300, offsets, 2), 0);
    assert_int_equal(count, FAR_ZONE_CHANGES_MAX);
    assert_int_equal(until_s, (uint64_t)list[FAR_ZONE_CHANGES_MAX - 1].at_s);
    assert_in_order();
}

/* Each cut, and each byte made another: never more than an error. */
static void damaged_files_are_refused_or_read_as_something(void **state)
{
    const int32_t offsets[] = {3600, 7200};
    const struct change list[] = {{1774746000, 1}, {1792890000, 0}};
    struct far_buf out;
    far_buf_init(&out, 1 << 16);
    put_block(&out, '2', 4, list, 2, offsets, 2);
    size_t first_len = out.len;
    put_block(&out, '2', 8, list, 2, offsets, 2);
    assert_int_equal(far_buf_printf(&out, "\n%s\n", "CET-1CEST,M3.5.0,M10.5.0/3"), 0);
    for (size_t len = 0; len < out.len; len++) {
        uint8_t *cut = malloc(len + 1); /* so that a read beyond its end is seen */
        memcpy(cut, out.data, len);
        assert_int_equal(far_tzif_parse(far_slice(cut, len), from_s, end_s, changes, &count, &until_s, &error), FAR_INVALID);
        free(cut);
    }
    for (size_t i = 0; i < out.len; i++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            uint8_t was = out.data[i];
            out.data[i] = (uint8_t)byte;
            int rc = far_tzif_parse(far_buf_slice(&out), from_s, end_s, changes, &count, &until_s, &error);
            assert_true(rc == 0 || rc == FAR_INVALID);
            if (rc == 0) {
                assert_in_order();
            }
            out.data[i] = was;
        }
    }
    out.data[first_len + 28 + 3] = 1; /* leap seconds */
    assert_int_equal(far_tzif_parse(far_buf_slice(&out), from_s, end_s, changes, &count, &until_s, &error), FAR_INVALID);
    far_buf_done(&out);
}

/* ---- this machine ---- */

static void load(const char *name, int klass)
{
    struct far_cmd_zone_set command;
    assert_int_equal(far_tzif_load(far_slice_str(name), from_s * 1000, changes, &command, &error), klass);
}

static void zones_are_found_by_name_below_their_folder(void **state)
{
    char dir[] = "/tmp/farshore-tzif-XXXXXX", path[200];
    const int32_t offsets[] = {3600};
    struct far_cmd_zone_set command;
    struct far_buf out;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/Some", dir);
    assert_int_equal(mkdir(path, 0700), 0);
    far_buf_init(&out, 1 << 16);
    put_block(&out, 0, 4, NULL, 0, offsets, 1);
    snprintf(path, sizeof path, "%s/Some/Where", dir);
    FILE *file = fopen(path, "w");
    fwrite(out.data, 1, out.len, file);
    fclose(file);
    far_buf_done(&out);
    const char *before = getenv("TZDIR");
    char *kept = before != NULL ? strdup(before) : NULL;
    setenv("TZDIR", dir, 1);
    assert_int_equal(far_tzif_load(far_slice_str("Some/Where"), from_s * 1000, changes, &command, &error), 0);
    assert_int_equal(command.changes.count, 1);
    assert_int_equal(changes[0].east_s, 3600);
    load("UTC", 0); /* without a file */
    load("Some", FAR_NOT_FOUND);
    load("Some/Other", FAR_NOT_FOUND);
    assert_non_null(strstr(error.message, "no time zone 'Some/Other'"));
    load("../etc/passwd", FAR_INVALID);
    load("/etc/passwd", FAR_INVALID);
    load("", FAR_INVALID);
    if (kept != NULL) {
        setenv("TZDIR", kept, 1);
    } else {
        unsetenv("TZDIR");
    }
    free(kept);
    unlink(path);
    snprintf(path, sizeof path, "%s/Some", dir);
    rmdir(path);
    rmdir(dir);
}

static int64_t libc_offset(uint64_t time_s)
{
    time_t t = (time_t)time_s;
    struct tm tm;
    localtime_r(&t, &tm);
    return tm.tm_gmtoff;
}

/* Around each change, and every eleven hours or so in between. */
static void compare(const char *name)
{
    static char tz[300];
    struct far_cmd_zone_set command;
    if (far_tzif_load(far_slice_str(name), from_s * 1000, changes, &command, &error) != 0) {
        fail_msg("%s: %s", name, error.message);
    }
    count = command.changes.count;
    until_s = command.until_s;
    assert_true(until_s >= utc(2046, 1, 1, 0, 0)); /* all fit, and go on for twenty years */
    snprintf(tz, sizeof tz, ":%s", name);
    setenv("TZ", tz, 1);
    tzset();
    for (size_t i = 1; i < count; i++) {
        uint64_t at_s = changes[i].at_s;
        if (libc_offset(at_s) != offset_at(at_s) || libc_offset(at_s - 1) != offset_at(at_s - 1)) {
            fail_msg("%s: change %zu at %llu", name, i, (unsigned long long)changes[i].at_s);
        }
    }
    for (uint64_t t = from_s; t < until_s; t += 40000) {
        if (libc_offset(t) != offset_at(t)) {
            fail_msg("%s at %llu: %lld, and libc says %lld", name, (unsigned long long)t, (long long)offset_at(t),
                     (long long)libc_offset(t));
        }
    }
}

/* Those that are kept for all: aliases are the same bytes. */
static void every_zone_of_the_machine_is_read_as_libc_does(void **state)
{
    static const char *const areas[] = {"Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Pacific"};
    size_t zones = 0;
    for (size_t i = 0; i < sizeof areas / sizeof areas[0]; i++) {
        char path[400];
        snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", areas[i]);
        DIR *dir = opendir(path);
        struct dirent *entry;
        while (dir != NULL && (entry = readdir(dir)) != NULL) {
            char name[300];
            struct stat info;
            snprintf(name, sizeof name, "%s/%s", areas[i], entry->d_name);
            snprintf(path, sizeof path, "/usr/share/zoneinfo/%s", name);
            if (stat(path, &info) == 0 && S_ISREG(info.st_mode)) {
                compare(name);
                zones++;
            }
        }
        if (dir != NULL) {
            closedir(dir);
        }
    }
    print_message("# %zu zones of this machine\n", zones);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_footer_is_expanded_for_all_years),
        cmocka_unit_test(footers_of_every_form_are_understood),
        cmocka_unit_test(footers_that_are_none_are_refused),
        cmocka_unit_test(changes_of_the_file_come_before_its_footer),
        cmocka_unit_test(a_file_of_version_1_has_no_footer),
        cmocka_unit_test(what_does_not_fit_is_cut_and_says_so),
        cmocka_unit_test(damaged_files_are_refused_or_read_as_something),
        cmocka_unit_test(zones_are_found_by_name_below_their_folder),
        cmocka_unit_test(every_zone_of_the_machine_is_read_as_libc_does),
    };
    return cmocka_run_group_tests_name("tzif", tests, NULL, NULL);
}
