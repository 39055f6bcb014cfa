/* farshore plan retention, checkpoint lock, vault space, domain adopt: which checkpoints stay and why, dates, what vaults hold, and keys of
 * another cluster's domains. */
#include "cli.h"

#include "base/moment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const rules[] = {"last", "hourly", "daily", "weekly", "monthly"};
enum { RULES = sizeof rules / sizeof rules[0] };

/* ---- retention ---- */

static bool is_word(const struct cli *cli, const char *word)
{
    return strcmp(cli->parsed.argument, word) == 0;
}

static int number_of(const struct cli *cli, const char *name, json_int_t *ret_value, struct far_error *err)
{
    const char *text = cli_value(&cli->parsed, name);
    char *end = NULL;
    *ret_value = text != NULL ? strtoll(text, &end, 10) : 0;
    return text == NULL || (*text != '\0' && *end == '\0' && *ret_value >= 0)
               ? 0
               : far_fail(err, FAR_INVALID, "--%s takes a number of checkpoints", name);
}

static int set_retention(struct cli *cli, struct far_error *err)
{
    const char *zone = cli_value(&cli->parsed, "zone");
    json_t *body = json_object();
    bool is_some = false, is_clear = is_word(cli, "clear");
    int rc = 0;
    for (size_t i = 0; i < RULES && rc == 0; i++) {
        json_int_t count = 0;
        rc = number_of(cli, rules[i], &count, err);
        is_some = is_some || count > 0;
        json_object_set_new(body, rules[i], json_integer(count));
    }
    if (rc == 0 && zone != NULL) {
        json_object_set_new(body, "zone", json_string(zone));
    }
    if (rc == 0 && is_clear == is_some) {
        rc = far_fail(err, FAR_INVALID, is_clear ? "'plan retention clear' takes no rules: it keeps every checkpoint"
                                                 : "give at least one rule, like --last 10 --daily 30; 'plan retention clear' keeps all");
    }
    cli->parsed.argument = cli->parsed.argument2; /* the plan: for the path, and for what is said */
    rc = rc == 0 ? cli_write_and_say(cli, body, err) : rc;
    json_decref(body);
    return rc;
}

static void reasons_text(const json_t *item, char *text, size_t room)
{
    const json_t *reason;
    size_t i;
    text[0] = '\0';
    json_array_foreach(json_object_get(item, "kept_by"), i, reason)
    {
        size_t len = strlen(text);
        snprintf(text + len, room - len, "%s%s", i > 0 ? ", " : "", json_string_value(reason));
    }
    if (text[0] == '\0') {
        snprintf(text, room, "%s", json_is_true(json_object_get(item, "goes")) ? "nothing: it goes" : "no rules: everything stays");
    }
}

static void print_rules(FILE *out, const json_t *answer)
{
    const char *zone = json_string_value(json_object_get(answer, "zone"));
    bool is_first = true;
    fprintf(out, "%s: ", json_is_true(json_object_get(answer, "trial")) ? "tried" : "kept");
    for (size_t i = 0; i < RULES; i++) {
        json_int_t count = json_integer_value(json_object_get(answer, rules[i]));
        if (count > 0) {
            fprintf(out, "%s%s %lld", is_first ? "" : ", ", rules[i], (long long)count);
            is_first = false;
        }
    }
    fprintf(out, "%s by the clocks of %s\n", is_first ? "every checkpoint," : "", zone != NULL && zone[0] != '\0' ? zone : "UTC");
}

/* One page after the other; *ret_first is the first answer, with all items. */
static int fetch(struct cli *cli, const char *path, json_t **ret_first, struct far_error *err)
{
    json_t *first = NULL;
    json_int_t cursor = 0;
    int rc = 0;
    do {
        char at[CLI_PATH_MAX + 64];
        json_t *page = NULL;
        snprintf(at, sizeof at, "%s%climit=1000", path, strchr(path, '?') == NULL ? '?' : '&');
        if (cursor != 0) {
            snprintf(at + strlen(at), sizeof at - strlen(at), "&cursor=%lld", (long long)cursor);
        }
        rc = cli_request(cli, "GET", at, NULL, &page, err);
        cursor = rc == 0 ? json_integer_value(json_object_get(page, "cursor")) : 0;
        if (rc == 0 && first == NULL) {
            first = json_incref(page);
        } else if (rc == 0) {
            json_array_extend(json_object_get(first, "items"), json_object_get(page, "items"));
        }
        json_decref(page);
    } while (rc == 0 && cursor != 0);
    if (rc == 0) {
        *ret_first = first;
    } else {
        json_decref(first);
    }
    return rc;
}

static int show_retention(struct cli *cli, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    json_t *answer = NULL, *items, *item;
    size_t i;
    bool is_preview = is_word(cli, "preview");
    cli->parsed.argument = cli->parsed.argument2;
    int rc = cli_path(cli, path, err);
    for (size_t r = 0; rc == 0 && is_preview && r < RULES; r++) {
        json_int_t count;
        rc = number_of(cli, rules[r], &count, err);
        if (rc == 0 && cli_value(&cli->parsed, rules[r]) != NULL) {
            size_t len = strlen(path);
            snprintf(path + len, sizeof path - len, "%c%s=%lld", strchr(path, '?') == NULL ? '?' : '&', rules[r], (long long)count);
        }
    }
    rc = rc == 0 ? fetch(cli, path, &answer, err) : rc;
    if (rc != 0) {
        return rc;
    }
    items = json_object_get(answer, "items");
    json_array_foreach(items, i, item)
    {
        char text[256];
        reasons_text(item, text, sizeof text);
        json_object_set_new(item, "why", json_string(text));
    }
    if (cli->json) {
        json_array_foreach(items, i, item)
        {
            json_object_del(item, "why");
        }
        cli_print_json(cli->out, answer);
    } else {
        print_rules(cli->out, answer);
        cli_print_table(cli->out, items, "checkpoint_id:CHECKPOINT created_ms:CREATED locked_until_ms:LOCKED why:KEPT_BY");
        fprintf(cli->out, "%lld stay, %lld go\n", (long long)json_integer_value(json_object_get(answer, "kept")),
                (long long)json_integer_value(json_object_get(answer, "going")));
    }
    json_decref(answer);
    return 0;
}

int cli_run_plan_retention(struct cli *cli, struct far_error *err)
{
    if (is_word(cli, "set") || is_word(cli, "clear")) {
        return set_retention(cli, err);
    }
    if (is_word(cli, "show") || is_word(cli, "preview")) {
        return show_retention(cli, err);
    }
    return far_fail(err, FAR_INVALID, "'%s' is none of set, clear, show and preview", cli->parsed.argument);
}

/* ---- locks ---- */

/* "2027-01-31" is the beginning of that day in UTC. */
int cli_parse_date(const char *text, uint64_t *ret_ms, struct far_error *err)
{
    char whole[64];
    struct far_moment moment = {.kind = FAR_MOMENT_NOW};
    bool is_day = strlen(text) == 10;
    snprintf(whole, sizeof whole, "%.40s%s", text, is_day ? "T00:00:00Z" : "");
    int rc = far_moment_parse(far_slice_str(whole), &moment, err);
    if (rc != 0 || moment.kind != FAR_MOMENT_TIME) {
        return far_fail(err, FAR_INVALID, "'%.40s' is no date: write it like 2027-01-31 or 2027-01-31T18:00:00Z", text);
    }
    *ret_ms = moment.value;
    return 0;
}

int cli_run_checkpoint_lock(struct cli *cli, struct far_error *err)
{
    uint64_t until_ms = 0;
    int rc = cli_parse_date(cli_value(&cli->parsed, "until"), &until_ms, err);
    return rc == 0 ? cli_start_job(cli, json_pack("{s:I}", "until_ms", (json_int_t)until_ms), err) : rc;
}

/* ---- dedup domains of another cluster ---- */

enum { KEYS_LINE_MAX = 256, KEYS_LINES_MAX = 256 };

/* One line: name, uuid and secret. One that is here already is no error. */
static int adopt_domain(struct cli *cli, const char *line, struct far_error *err)
{
    char name[64], uuid[33], secret[65];
    json_t *answer = NULL;
    if (sscanf(line, "%63s %32s %64s", name, uuid, secret) != 3) {
        return far_fail(err, FAR_INVALID, "the file is not one that 'farshore-node vault keys' made");
    }
    json_t *body = json_pack("{s:s, s:s, s:s}", "name", name, "uuid", uuid, "secret", secret);
    int rc = cli_request(cli, "POST", "/v1/domains", body, &answer, err);
    if (rc == FAR_CONFLICT && strstr(err->message, "choose another name") != NULL) {
        snprintf(name + (strlen(name) < 55 ? strlen(name) : 55), 9, "-adopted");
        json_object_set_new(body, "name", json_string(name));
        rc = cli_request(cli, "POST", "/v1/domains", body, &answer, err);
    }
    bool is_here = rc == FAR_CONFLICT && strstr(err->message, "here already") != NULL;
    if (rc == 0 || is_here) {
        fprintf(cli->out, "domain '%s' %s\n", name, is_here ? "is here already" : "adopted");
    }
    json_decref(answer);
    json_decref(body);
    explicit_bzero(secret, sizeof secret);
    return is_here ? 0 : rc;
}

int cli_run_domain_adopt(struct cli *cli, struct far_error *err)
{
    char line[KEYS_LINE_MAX];
    FILE *file = fopen(cli->parsed.argument, "r");
    int rc = file != NULL ? 0 : far_fail_errno(err, FAR_NOT_FOUND, errno, "open '%s'", cli->parsed.argument);
    size_t count = 0;
    while (rc == 0 && count < KEYS_LINES_MAX && fgets(line, sizeof line, file) != NULL) {
        rc = adopt_domain(cli, line, err);
        count++;
    }
    explicit_bzero(line, sizeof line);
    if (file != NULL) {
        fclose(file);
    }
    return rc == 0 && count == 0 ? far_fail(err, FAR_INVALID, "'%s' is empty", cli->parsed.argument) : rc;
}

/* ---- vaults ---- */

static void print_forecast(FILE *out, const json_t *vault)
{
    const json_t *forecast = json_object_get(vault, "forecast");
    char text[32];
    uint64_t per_day = (uint64_t)json_integer_value(json_object_get(forecast, "bytes_per_day"));
    uint64_t full_ms = (uint64_t)json_integer_value(json_object_get(forecast, "full_ms"));
    if (!json_is_true(json_object_get(forecast, "known"))) {
        fprintf(out, "when it is full is not known yet: it takes samples of a day\n");
    } else if (full_ms == 0) {
        fprintf(out, "it does not grow\n");
    } else {
        fprintf(out, "it grows by %s a day", cli_bytes(per_day, text));
        fprintf(out, " and is full about %s\n", cli_time(full_ms, text));
    }
}

/* What was not measured, or cannot be counted, is not 0. */
static void hide_unmeasured(json_t *plans)
{
    static const char *const fields[] = {"logical_bytes", "points_bytes", "unique_bytes", "shared_bytes"};
    json_t *plan;
    size_t i;
    json_array_foreach (plans, i, plan) {
        for (size_t k = 0; json_integer_value(json_object_get(plan, "measured_ms")) == 0 && k < sizeof fields / sizeof fields[0]; k++) {
            json_object_set_new(plan, fields[k], json_null());
        }
    }
}

int cli_run_vault_space(struct cli *cli, struct far_error *err)
{
    char path[CLI_PATH_MAX], used[32], free_text[32];
    json_t *vault = NULL;
    int rc = cli_path(cli, path, err);
    rc = rc != 0 ? rc : cli_request(cli, "GET", path, NULL, &vault, err);
    if (rc != 0) {
        return rc;
    }
    if (cli->json) {
        cli_print_json(cli->out, vault);
    } else {
        hide_unmeasured(json_object_get(vault, "plans"));
        cli_print_table(cli->out, json_object_get(vault, "plans"),
                        "plan:PLAN point_count:POINTS logical_bytes:LOGICAL points_bytes:ALL_POINTS unique_bytes:UNIQUE "
                        "shared_bytes:SHARED measured_ms:MEASURED");
        uint64_t used_bytes = (uint64_t)json_integer_value(json_object_get(vault, "used_bytes"));
        uint64_t free_bytes = (uint64_t)json_integer_value(json_object_get(vault, "free_bytes"));
        if (used_bytes + free_bytes == 0) {
            fputs("not measured yet: 'farshore vault measure' has it done\n", cli->out);
        } else {
            fprintf(cli->out, "used %s, free %s\n", cli_bytes(used_bytes, used), cli_bytes(free_bytes, free_text));
        }
        print_forecast(cli->out, vault);
    }
    json_decref(vault);
    return 0;
}
