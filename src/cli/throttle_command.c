/* farshore throttle: rates and windows as people write them.
 *
 * A rate is "20MB" (bytes a second; kB, MB, GB, TB, KiB, MiB, GiB, TiB), "400Mbit" (bits; kbit, Mbit, Gbit), with "/s" behind it and a
 * space in it if one likes, "unlimited" or "pause": what is printed can be typed. A window is "mon-fri 08:00-18:00 20MB": days, from
 * when to when, rate; after midnight it goes on on the next day. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum { UNLIMITED = 0, PAUSED = 1, DAY_MIN = 24 * 60 };

static const char *const day_names[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

/* ---- rates ---- */

static const struct unit {
    const char *name;
    double bytes;
} units[] = {
    {"B", 1},         {"kB", 1e3},         {"KB", 1e3},           {"MB", 1e6},           {"GB", 1e9},        {"TB", 1e12},
    {"KiB", 1024},    {"MiB", 1048576},    {"GiB", 1073741824},   {"TiB", 1099511627776.0}, {"bit", 1.0 / 8}, {"kbit", 1e3 / 8},
    {"Kbit", 1e3 / 8}, {"Mbit", 1e6 / 8},  {"Gbit", 1e9 / 8},
};

int cli_parse_rate(const char *text, uint64_t *ret_bytes_per_s, struct far_error *err)
{
    char *end = NULL;
    if (strcmp(text, "unlimited") == 0 || strcmp(text, "pause") == 0 || strcmp(text, "paused") == 0) {
        *ret_bytes_per_s = text[0] == 'u' ? UNLIMITED : PAUSED;
        return 0;
    }
    double value = text[0] >= '0' && text[0] <= '9' && strncmp(text, "0x", 2) != 0 ? strtod(text, &end) : -1;
    end += end != NULL ? strspn(end, " ") : 0;
    size_t len = end == NULL ? 0 : strcspn(end, "/");
    bool good = value > 0 && value < 1e15 && end != NULL && (end[len] == '\0' || strcmp(end + len, "/s") == 0);
    for (size_t i = 0; good && i < sizeof units / sizeof units[0]; i++) {
        if (strlen(units[i].name) == len && memcmp(units[i].name, end, len) == 0) {
            double bytes = value * units[i].bytes;
            if (bytes < 2) { /* as numbers 0 and 1 mean other things */
                break;
            }
            *ret_bytes_per_s = bytes < 9e18 ? (uint64_t)bytes : INT64_MAX; /* the server says what is too little or too much */
            return 0;
        }
    }
    return far_fail(err, FAR_INVALID, "'%s' is no rate: write it like 20MB or 400Mbit (a second), unlimited or pause", text);
}

const char *cli_rate(uint64_t bytes_per_s, char text[32])
{
    static const char *const names[] = {"B/s", "kB/s", "MB/s", "GB/s", "TB/s"};
    double value = (double)bytes_per_s;
    size_t unit = 0;
    while (value >= 1000 && unit < 4) {
        value /= 1000;
        unit++;
    }
    if (bytes_per_s <= PAUSED) {
        snprintf(text, 32, bytes_per_s == UNLIMITED ? "unlimited" : "paused");
    } else {
        snprintf(text, 32, "%.4g %s", value, names[unit]);
    }
    return text;
}

/* ---- windows ---- */

static int day_of(const char *text, size_t len)
{
    for (int i = 0; i < 7; i++) {
        if (len == 3 && memcmp(text, day_names[i], 3) == 0) {
            return i;
        }
    }
    return -1;
}

/* "mon-fri,sun" or "daily" as bits; 0: it is none. */
static unsigned read_days(const char *text, size_t len)
{
    unsigned bits = 0;
    if (len == 5 && memcmp(text, "daily", 5) == 0) {
        return 0x7f;
    }
    while (len > 0) {
        const char *comma = memchr(text, ',', len);
        size_t part = comma != NULL ? (size_t)(comma - text) : len;
        bool is_range = part == 7 && text[3] == '-';
        int first = day_of(text, is_range ? 3 : part), last = is_range ? day_of(text + 4, 3) : first;
        if (first < 0 || last < 0 || (comma != NULL && part + 1 == len)) {
            return 0;
        }
        for (int day = first;; day = (day + 1) % 7) {
            bits |= 1u << day;
            if (day == last) {
                break;
            }
        }
        text += part + (comma != NULL);
        len -= part + (comma != NULL);
    }
    return bits;
}

/* "08:30" as a minute of the day; -1: it is none. */
static int read_minute(const char *text)
{
    for (int i = 0; i < 5; i++) {
        if (i == 2 ? text[i] != ':' : text[i] < '0' || text[i] > '9') {
            return -1;
        }
    }
    int hour = (text[0] - '0') * 10 + text[1] - '0', minute = (text[3] - '0') * 10 + text[4] - '0';
    return minute > 59 || hour > 24 || (hour == 24 && minute != 0) ? -1 : hour * 60 + minute;
}

int cli_parse_window(const char *text, json_t **ret_window, struct far_error *err)
{
    size_t days_len = strcspn(text, " ");
    const char *times = text + days_len + strspn(text + days_len, " ");
    unsigned days = read_days(text, days_len);
    int from = strlen(times) > 11 ? read_minute(times) : -1, to = from >= 0 && times[5] == '-' ? read_minute(times + 6) : -1;
    const char *rate = to >= 0 && times[11] == ' ' ? times + 11 + strspn(times + 11, " ") : "";
    uint64_t bytes_per_s = 0;
    if (days == 0 || from < 0 || from >= DAY_MIN || to < 0 || rate[0] == '\0') {
        return far_fail(err, FAR_INVALID,
                        "'%s' is no window: write it like 'mon-fri 08:00-18:00 20MB' (days: mon to sun, ranges, commas, or daily; a window "
                        "may end on the next day)",
                        text);
    }
    int rc = cli_parse_rate(rate, &bytes_per_s, err);
    if (rc != 0) {
        return rc;
    }
    json_t *list = json_array();
    for (int day = 0; day < 7; day++) {
        if ((days >> day & 1) != 0) {
            json_array_append_new(list, json_integer(day + 1));
        }
    }
    *ret_window = json_pack("{s:o, s:i, s:i, s:I}", "days", list, "from_min", from, "to_min", to == 0 ? DAY_MIN : to, "bytes_per_s",
                            (json_int_t)bytes_per_s);
    return 0;
}

static json_int_t number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

/* "mon-fri 08:00-18:00 20 MB/s" */
void cli_window_text(const json_t *window, char *text, size_t room)
{
    const json_t *days = json_object_get(window, "days");
    unsigned bits = 0;
    char rate[32];
    size_t len = 0;
    for (size_t i = 0; i < json_array_size(days); i++) {
        json_int_t day = json_integer_value(json_array_get(days, i));
        bits |= day >= 1 && day <= 7 ? 1u << (day - 1) : 0;
    }
    text[0] = '\0';
    for (int day = 0; day < 7; day++) {
        int last = day;
        if ((bits >> day & 1) == 0) {
            continue;
        }
        while (last < 6 && (bits >> (last + 1) & 1) != 0) {
            last++;
        }
        int n = snprintf(text + len, room - len, "%s%s%s%s", len > 0 ? "," : "", day_names[day],
                         last > day ? (last > day + 1 ? "-" : ",") : "", last > day ? day_names[last] : "");
        len += n > 0 && (size_t)n < room - len ? (size_t)n : 0;
        day = last;
    }
    unsigned from = (unsigned)number(window, "from_min") % 10000, to = (unsigned)number(window, "to_min") % 10000;
    snprintf(text + len, room - len, " %02u:%02u-%02u:%02u %s", from / 60, from % 60, to / 60, to % 60,
             cli_rate((uint64_t)number(window, "bytes_per_s"), rate));
}

void cli_throttle_text(const json_t *throttle, char *text, size_t room)
{
    char now[32], otherwise[32], until[32];
    uint64_t next_ms = (uint64_t)number(throttle, "next_ms");
    cli_rate((uint64_t)number(throttle, "in_force_bytes_per_s"), now);
    if (next_ms == 0) {
        snprintf(text, room, "%s", now);
        return;
    }
    snprintf(text, room, "%s until %s, outside of its windows %s", now, cli_time(next_ms, until),
             cli_rate((uint64_t)number(throttle, "bytes_per_s"), otherwise));
}

/* ---- commands ---- */

static int check_scope(const struct cli *cli, struct far_error *err)
{
    static const char *const scopes[] = {"node", "plan", "site"};
    const char *scope = cli->parsed.argument;
    for (size_t i = 0; i < sizeof scopes / sizeof scopes[0]; i++) {
        if (strcmp(scopes[i], scope) == 0) {
            return 0;
        }
    }
    return far_fail(err, FAR_INVALID, "'%s' has no bandwidth limit: it must be node, plan or site, and then its name", scope);
}

static int add_windows(const struct cli *cli, json_t *body, struct far_error *err)
{
    json_t *windows = json_array();
    json_object_set_new(body, "windows", windows);
    for (size_t i = 0; i < cli->parsed.value_count; i++) {
        json_t *window = NULL;
        if (strcmp(cli->parsed.values[i].option->name, "window") != 0) {
            continue;
        }
        int rc = cli_parse_window(cli->parsed.values[i].text, &window, err);
        if (rc != 0) {
            return rc;
        }
        json_array_append_new(windows, window);
    }
    if (json_array_size(windows) == 0) {
        json_object_del(body, "windows");
    }
    return 0;
}

int cli_run_throttle_set(struct cli *cli, struct far_error *err)
{
    const char *rate = cli_value(&cli->parsed, "rate");
    uint64_t bytes_per_s = UNLIMITED;
    int rc = check_scope(cli, err);
    rc = rc == 0 && rate != NULL ? cli_parse_rate(rate, &bytes_per_s, err) : rc;
    if (rc != 0) {
        return rc;
    }
    json_t *body = json_pack("{s:I}", "bytes_per_s", (json_int_t)bytes_per_s);
    rc = add_windows(cli, body, err);
    if (rc == 0 && rate == NULL && json_object_get(body, "windows") == NULL) {
        rc = far_fail(err, FAR_INVALID, "give --rate or at least one --window; 'throttle remove' takes a limit away");
    }
    rc = rc == 0 ? cli_write_and_say(cli, body, err) : rc;
    json_decref(body);
    return rc;
}

int cli_run_throttle_remove(struct cli *cli, struct far_error *err)
{
    int rc = check_scope(cli, err);
    return rc != 0 ? rc : cli_write_and_say(cli, NULL, err);
}

int cli_run_throttle_show(struct cli *cli, struct far_error *err)
{
    char path[CLI_PATH_MAX], text[256];
    json_t *throttle = NULL, *window;
    size_t i;
    int rc = check_scope(cli, err);
    rc = rc != 0 ? rc : cli_path(cli, path, err);
    rc = rc != 0 ? rc : cli_request(cli, "GET", path, NULL, &throttle, err);
    if (rc != 0) {
        return rc;
    }
    if (cli->json) {
        cli_print_json(cli->out, throttle);
    } else {
        const char *zone = json_string_value(json_object_get(throttle, "zone"));
        const char *clocks = zone != NULL && zone[0] != '\0' ? zone : "UTC";
        cli_throttle_text(throttle, text, sizeof text);
        fprintf(cli->out, "%s '%s': %s\n", cli->parsed.argument, cli->parsed.argument2, text);
        json_array_foreach(json_object_get(throttle, "windows"), i, window)
        {
            cli_window_text(window, text, sizeof text);
            fprintf(cli->out, "  %s%s%s\n", text, i > 0 ? "" : "   by the clocks of ", i > 0 ? "" : clocks);
        }
    }
    json_decref(throttle);
    return 0;
}
