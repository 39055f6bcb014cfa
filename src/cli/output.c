/* What people and programs get to see: tables, objects, numbers in units, JSON. */
#include "cli.h"

#include "base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { COLUMNS_MAX = 12, CELL_MAX = 1024 /* more than any text of the state */ };

void cli_print_json(FILE *out, const json_t *json)
{
    json_dumpf(json, out, JSON_INDENT(2) | JSON_ENCODE_ANY);
    fputc('\n', out);
}

int cli_check_new_file(const char *path, const char *option, struct far_error *err)
{
    char dir[4096];
    if (access(path, F_OK) == 0) {
        return far_fail(err, FAR_CONFLICT, "'%s' is there already: give another %s", path, option);
    }
    far_file_dir_of(path, dir, sizeof dir);
    return access(dir, W_OK | X_OK) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "make file '%s'", path);
}

const char *cli_bytes(uint64_t bytes, char text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit < 6) {
        value /= 1024;
        unit++;
    }
    snprintf(text, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

const char *cli_time(uint64_t time_ms, char text[32])
{
    time_t seconds = (time_t)(time_ms / 1000);
    struct tm utc;
    if (time_ms == 0 || gmtime_r(&seconds, &utc) == NULL || strftime(text, 32, "%Y-%m-%d %H:%M:%S UTC", &utc) == 0) {
        snprintf(text, 32, "-");
    }
    return text;
}

const char *cli_duration(uint64_t ms, char text[32])
{
    unsigned long long s = ms / 1000;
    if (s >= 3600) {
        snprintf(text, 32, "%llu:%02llu:%02llu", s / 3600, s / 60 % 60, s % 60);
    } else {
        snprintf(text, 32, "%llu:%02llu", s / 60, s % 60);
    }
    return text;
}

const char *cli_span(uint64_t ms, char text[32])
{
    unsigned long long s = ms / 1000, min = s / 60, h = min / 60;
    if (s < 10 && ms % 1000 != 0) {
        snprintf(text, 32, "%llu.%llu s", s, (unsigned long long)ms % 1000 / 100);
    } else if (s < 60) {
        snprintf(text, 32, "%llu s", s);
    } else if (min < 60) {
        snprintf(text, 32, "%llu min %llu s", min, s % 60);
    } else if (h < 48) {
        snprintf(text, 32, "%llu h %llu min", h, min % 60);
    } else {
        snprintf(text, 32, "%llu d %llu h", h / 24, h % 24);
    }
    return text;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

#define MOMENT_MIN_MS 100000000000ull /* 1973 */

/* Fields in _ms that are moments, not spans. */
static bool is_moment(const char *field)
{
    static const char *const spans[] = {"skew_ms",     "lease_ms",       "duration_ms",           "contact_age_ms", "leader_contact_age_ms",
                                        "left_for_ms", "rpo_ms",         "rate_ms",               "clock_offset_ms"};
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        if (strcmp(field, spans[i]) == 0) {
            return false;
        }
    }
    return ends_with(field, "_ms");
}

void cli_cell(const char *field, const json_t *value, char *text, size_t room)
{
    char number[32];
    uint64_t n = (uint64_t)json_integer_value(value);
    if (json_is_string(value)) {
        snprintf(text, room, "%s", json_string_value(value)[0] == '\0' ? "-" : json_string_value(value));
    } else if (json_is_integer(value) && is_moment(field) && n != 0 && n < MOMENT_MIN_MS) {
        snprintf(text, room, "%s", cli_span(n, number)); /* forecast_ms, platform_ms: no moment is so long ago */
    } else if (json_is_integer(value) && is_moment(field)) {
        snprintf(text, room, "%s", cli_time(n, number));
    } else if (json_is_integer(value) && ends_with(field, "_bytes_per_s")) {
        snprintf(text, room, "%s", cli_rate(n, number));
    } else if (json_is_integer(value) && (strncmp(field, "bytes", 5) == 0 || ends_with(field, "_bytes"))) {
        snprintf(text, room, "%s", cli_bytes(n, number));
    } else if (json_is_integer(value) && ends_with(field, "_ppm")) {
        snprintf(text, room, "%llu.%02llu %%", (unsigned long long)n / 10000, (unsigned long long)n / 100 % 100);
    } else if (json_is_integer(value)) {
        snprintf(text, room, "%lld", (long long)n);
    } else if (json_is_boolean(value)) {
        snprintf(text, room, "%s", json_is_true(value) ? "yes" : "no");
    } else {
        snprintf(text, room, "-");
    }
    for (char *c = text; *c != '\0'; c++) {
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c; /* no control characters reach the terminal */
    }
}

struct column {
    char field[48], title[24];
    size_t width;
};

/* "name:NAME state:STATE" */
static size_t parse_columns(const char *text, struct column columns[COLUMNS_MAX])
{
    size_t count = 0;
    for (int used = 0; count < COLUMNS_MAX &&
                       sscanf(text, " %47[^: ]:%23[^ ]%n", columns[count].field, columns[count].title, &used) == 2;
         text += used) {
        columns[count].width = strlen(columns[count].title);
        count++;
    }
    return count;
}

static void measure(const json_t *items, struct column *columns, size_t count)
{
    char cell[CELL_MAX];
    for (size_t row = 0; row < json_array_size(items); row++) {
        for (size_t i = 0; i < count; i++) {
            cli_cell(columns[i].field, json_object_get(json_array_get(items, row), columns[i].field), cell, sizeof cell);
            columns[i].width = strlen(cell) > columns[i].width ? strlen(cell) : columns[i].width;
        }
    }
}

void cli_print_table(FILE *out, const json_t *items, const char *text)
{
    struct column columns[COLUMNS_MAX];
    char cell[CELL_MAX];
    size_t count = parse_columns(text, columns);
    measure(items, columns, count);
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%-*s%s", i + 1 < count ? (int)columns[i].width : 0, columns[i].title, i + 1 < count ? "  " : "\n");
    }
    for (size_t row = 0; row < json_array_size(items); row++) {
        for (size_t i = 0; i < count; i++) {
            cli_cell(columns[i].field, json_object_get(json_array_get(items, row), columns[i].field), cell, sizeof cell);
            fprintf(out, "%-*s%s", i + 1 < count ? (int)columns[i].width : 0, cell, i + 1 < count ? "  " : "\n");
        }
    }
}

void cli_print_object(FILE *out, const json_t *object, int indent)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        char cell[CELL_MAX];
        if (json_is_object(value)) {
            fprintf(out, "%*s%s:\n", indent, "", key);
            cli_print_object(out, value, indent + 2);
        } else if (json_is_array(value) && !json_is_object(json_array_get(value, 0))) {
            fprintf(out, "%*s%s:", indent, "", key);
            for (size_t i = 0; i < json_array_size(value); i++) {
                cli_cell(key, json_array_get(value, i), cell, sizeof cell);
                fprintf(out, "%s %s", i > 0 ? "," : "", cell);
            }
            fputs(json_array_size(value) > 0 ? "\n" : " -\n", out);
        } else if (json_is_array(value)) {
            fprintf(out, "%*s%s: %zu\n", indent, "", key, json_array_size(value));
            for (size_t i = 0; i < json_array_size(value); i++) {
                fprintf(out, "%*s- \n", indent + 2, "");
                cli_print_object(out, json_array_get(value, i), indent + 4);
            }
        } else {
            cli_cell(key, value, cell, sizeof cell);
            fprintf(out, "%*s%s: %s\n", indent, "", key, cell);
        }
    }
}
