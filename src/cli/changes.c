/* What would happen, and what changed: predictions of dry runs and differences, for people. Programs get the JSON. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

static void print_values(FILE *out, const char *mark, const json_t *fields)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)fields, name, value)
    {
        char *text = json_is_object(value) || json_is_array(value) ? json_dumps(value, JSON_COMPACT) : NULL, cell[256];
        cli_cell(name, value, cell, sizeof cell);
        if (text == NULL || strlen(text) > 2) { /* empty lists say nothing */
            fprintf(out, "    %s %s: %s\n", mark, name, text != NULL ? text : cell);
        }
        free(text);
    }
}

static void print_both(FILE *out, const json_t *before, const json_t *after)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)before, name, value)
    {
        char was[256], is[256];
        cli_cell(name, value, was, sizeof was);
        cli_cell(name, json_object_get(after, name), is, sizeof is);
        fprintf(out, "    ~ %s: %s -> %s\n", name, was, is);
    }
}

static void print_change(FILE *out, const json_t *change)
{
    const char *table = json_string_value(json_object_get(change, "table"));
    const char *what = json_string_value(json_object_get(change, "change"));
    const char *name = json_string_value(json_object_get(change, "name"));
    const json_t *part = json_object_get(change, "part");
    const json_t *before = json_object_get(change, "before"), *after = json_object_get(change, "after");
    fprintf(out, "  %s %lld", table == NULL ? "?" : table, json_integer_value(json_object_get(change, "id")));
    if (part != NULL) {
        fprintf(out, "/%lld", json_integer_value(part));
    }
    if (name != NULL) {
        fprintf(out, " '%s'", name);
    }
    fprintf(out, " %s\n", what == NULL ? "?" : what);
    if (json_is_object(before) && json_is_object(after)) {
        print_both(out, before, after);
    } else {
        print_values(out, json_is_object(after) ? "+" : "-", json_is_object(after) ? after : before);
    }
}

void cli_print_changes(FILE *out, const json_t *changes, bool more)
{
    size_t shown = 0;
    for (size_t i = 0; i < json_array_size(changes); i++) {
        const json_t *change = json_array_get(changes, i);
        if (!json_is_true(json_object_get(change, "internal"))) {
            print_change(out, change);
            shown++;
        }
    }
    if (shown == 0) {
        fprintf(out, "  no object differs\n");
    }
    if (more) {
        fprintf(out, "  and more\n");
    }
}

void cli_print_prediction(FILE *out, const json_t *prediction)
{
    const json_t *events = json_object_get(prediction, "events");
    fprintf(out, "dry run: nothing was done. These events would come:\n");
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i);
        char *data = json_dumps(json_object_get(event, "data"), JSON_COMPACT | JSON_ENCODE_ANY);
        fprintf(out, "  %lld %s %s\n", json_integer_value(json_object_get(event, "seq")),
                json_string_value(json_object_get(event, "kind")), data == NULL ? "" : data);
        free(data);
    }
    fprintf(out, "and these differences:\n");
    cli_print_changes(out, json_object_get(prediction, "changes"), json_is_true(json_object_get(prediction, "more")));
    const json_t *steps = json_object_get(prediction, "steps");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        fprintf(out, "%s  %zu. %s\n", i == 0 ? "in these steps:\n" : "", i + 1, json_string_value(json_array_get(steps, i)));
    }
}

int cli_run_log_diff(struct cli *cli, struct far_error *err)
{
    char path[1024] = "/v1/log/diff?at=";
    json_t *diff = NULL;
    cli_append_encoded(path, sizeof path, cli->parsed.argument);
    strncat(path, "&until=", sizeof path - strlen(path) - 1);
    cli_append_encoded(path, sizeof path, cli->parsed.argument2);
    int rc = cli_request(cli, "GET", path, NULL, &diff, err);
    if (rc != 0) {
        return rc;
    }
    if (cli->json) {
        cli_print_json(cli->out, diff);
    } else {
        fprintf(cli->out, "from event %lld to event %lld:\n", json_integer_value(json_object_get(diff, "from_seq")),
                json_integer_value(json_object_get(diff, "to_seq")));
        cli_print_changes(cli->out, json_object_get(diff, "changes"), json_is_true(json_object_get(diff, "more")));
    }
    json_decref(diff);
    return 0;
}
