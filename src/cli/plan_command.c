/* farshore plan apply, export: a whole plan as a file. What would change is shown before it is done: the plan as it is is fetched, and held
 * against the file, field by field; workloads and networks go by their names, whatever their order. Then the server tries it, and refuses
 * what cannot be, before anybody is asked. */
#include "cli.h"

#include "base/file.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FILE_MAX = 1024 * 1024, FIELD_MAX = 512, CHANGES_MAX = 4096 };

/* ---- the file ---- */

static int read_plan(const char *path, json_t **ret_plan, struct far_error *err)
{
    struct far_buf text;
    json_error_t why;
    far_buf_init(&text, FILE_MAX);
    int rc = far_file_read(path, &text, err);
    *ret_plan = rc == 0 ? json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &why) : NULL;
    far_buf_done(&text);
    if (rc == 0 && *ret_plan == NULL) {
        rc = far_fail(err, FAR_INVALID, "'%s' is no JSON: line %d, column %d: %s", path, why.line, why.column, why.text);
    }
    const char *name = json_string_value(json_object_get(*ret_plan, "name"));
    if (rc == 0 && (name == NULL || name[0] == '\0' || strlen(name) > 63)) {
        rc = far_fail(err, FAR_INVALID, "'%s': field 'name' must be the name of the plan; the whole must be one JSON object", path);
    }
    if (rc != 0) {
        json_decref(*ret_plan);
        *ret_plan = NULL;
    }
    return rc;
}

/* ---- differences ---- */

static bool is_void(const json_t *value)
{
    return value == NULL || json_is_null(value) || json_is_false(value) || (json_is_integer(value) && json_integer_value(value) == 0) ||
           (json_is_string(value) && json_string_length(value) == 0) || (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_object(value) && json_object_size(value) == 0);
}

static void differ(json_t *changes, const char *path, const json_t *before, const json_t *after);

static void note(json_t *changes, const char *path, const json_t *before, const json_t *after)
{
    json_t *change = json_pack("{s:s}", "field", path);
    json_object_set(change, "before", before != NULL ? (json_t *)before : json_null());
    json_object_set(change, "after", after != NULL ? (json_t *)after : json_null());
    json_array_append_new(changes, change);
}

static void differ_objects(json_t *changes, const char *path, const json_t *before, const json_t *after)
{
    const char *key;
    json_t *value;
    char field[FIELD_MAX];
    json_object_foreach((json_t *)before, key, value)
    {
        snprintf(field, sizeof field, "%s%s%s", path, path[0] != '\0' ? "." : "", key);
        differ(changes, field, value, json_object_get(after, key));
    }
    json_object_foreach((json_t *)after, key, value)
    {
        snprintf(field, sizeof field, "%s%s%s", path, path[0] != '\0' ? "." : "", key);
        if (json_object_get(before, key) == NULL) {
            differ(changes, field, NULL, value);
        }
    }
}

/* What tells the items of a list apart; NULL: their place. */
static const char *key_of(const json_t *list)
{
    static const char *const keys[] = {"name", "source", "key"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (json_is_string(json_object_get(json_array_get(list, 0), keys[i]))) {
            return keys[i];
        }
    }
    return NULL;
}

static json_t *find(const json_t *list, const char *key, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *found = json_string_value(json_object_get(json_array_get(list, i), key));
        if (found != NULL && strcmp(found, name) == 0) {
            return json_array_get(list, i);
        }
    }
    return NULL;
}

static void differ_lists(json_t *changes, const char *path, const json_t *before, const json_t *after)
{
    const char *key = key_of(json_array_size(before) > 0 ? before : after);
    char field[FIELD_MAX];
    for (size_t side = 0; key != NULL && side < 2; side++) {
        const json_t *list = side == 0 ? before : after;
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *item = json_array_get(list, i);
            const char *name = json_string_value(json_object_get(item, key));
            json_t *other = name != NULL ? find(side == 0 ? after : before, key, name) : NULL;
            snprintf(field, sizeof field, "%s[%s]", path, name != NULL ? name : "?");
            if (other == NULL) {
                note(changes, field, side == 0 ? item : NULL, side == 0 ? NULL : item);
            } else if (side == 0) {
                differ(changes, field, item, other);
            }
        }
    }
    size_t count = json_array_size(before) > json_array_size(after) ? json_array_size(before) : json_array_size(after);
    for (size_t i = 0; key == NULL && i < count; i++) {
        snprintf(field, sizeof field, "%s[%zu]", path, i);
        differ(changes, field, json_array_get(before, i), json_array_get(after, i));
    }
}

/* Without what is the same. NULL: it is not there. */
static void differ(json_t *changes, const char *path, const json_t *before, const json_t *after)
{
    if ((is_void(before) && is_void(after)) || json_equal(before, after) || json_array_size(changes) >= CHANGES_MAX) {
        return;
    }
    if (json_is_object(before) && json_is_object(after)) {
        differ_objects(changes, path, before, after);
    } else if (json_is_array(before) && json_is_array(after)) {
        differ_lists(changes, path, before, after);
    } else {
        note(changes, path, before, after);
    }
}

static void print_value(FILE *out, const json_t *value)
{
    char *text = json_is_null(value) ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    fprintf(out, "%s", text != NULL ? text : "(none)");
    free(text);
}

static void print_changes(FILE *out, const json_t *changes)
{
    size_t i;
    json_t *change;
    json_array_foreach(changes, i, change)
    {
        const json_t *before = json_object_get(change, "before"), *after = json_object_get(change, "after");
        char path[FIELD_MAX];
        cli_cell("", json_object_get(change, "field"), path, sizeof path);
        fprintf(out, "  %c %s: ", json_is_null(before) ? '+' : json_is_null(after) ? '-' : '~', path);
        if (!json_is_null(before) && !json_is_null(after)) {
            print_value(out, before);
            fprintf(out, " -> ");
        }
        print_value(out, json_is_null(after) ? before : after);
        fputc('\n', out);
    }
}

/* ---- apply ---- */

struct apply {
    const char *name;
    json_t *wanted;  /* the file */
    json_t *now;     /* the plan as it is; NULL: there is none */
    json_t *changes;
    char path[CLI_PATH_MAX];
};

/* The plan as it is, and which revision that is; the revision first: a change between the two is noticed by the server. */
static int fetch(struct cli *cli, struct apply *a, struct far_error *err)
{
    char path[CLI_PATH_MAX] = "/v1/plans/";
    json_t *plan = NULL;
    cli_append_encoded(path, sizeof path, a->name);
    int rc = cli_request(cli, "GET", path, NULL, &plan, err);
    if (rc == FAR_NOT_FOUND) {
        return 0;
    }
    rc = rc != 0 ? rc : cli_request(cli, "GET", a->path, NULL, &a->now, err);
    if (rc == 0 && json_object_get(a->wanted, "revision") == NULL) {
        json_object_set(a->wanted, "revision", json_object_get(plan, "revision"));
    }
    json_decref(plan);
    return rc;
}

/* What is not said of these stays as it is. */
static void compare(struct apply *a)
{
    static const char *const kept[] = {"state", "domain"};
    json_t *before = a->now != NULL ? json_copy(a->now) : json_object(), *after = json_copy(a->wanted);
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        if (is_void(json_object_get(after, kept[i]))) {
            json_object_del(before, kept[i]);
        }
    }
    json_object_del(after, "revision");
    differ_objects(a->changes, "", before, after);
    json_decref(before);
    json_decref(after);
}

static void say(struct cli *cli, const struct apply *a)
{
    if (a->now == NULL) {
        fprintf(cli->out, "plan '%s' is not there and would be made:\n", a->name);
    } else {
        fprintf(cli->out, "plan '%s' would change:\n", a->name);
    }
    print_changes(cli->out, a->changes);
}

static int ask(struct cli *cli, struct far_error *err)
{
    char answer[16] = "";
    if (cli_value(&cli->parsed, "yes") != NULL) {
        return 0;
    }
    if (!isatty(STDIN_FILENO) && strcmp(cli->parsed.command->verb, "wizard") != 0) {
        return far_fail(err, FAR_INVALID, "nothing was changed: look at the differences, then give --yes");
    }
    fprintf(stderr, "Apply this? [y/N] ");
    bool yes = fgets(answer, sizeof answer, stdin) != NULL && (strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0);
    return yes ? 0 : far_fail(err, FAR_CANCELED, "nothing was changed");
}

/* Asks and does it; the server has tried it. */
static int carry_out(struct cli *cli, struct apply *a, json_t **ret_result, struct far_error *err)
{
    int rc = ask(cli, err);
    rc = rc != 0 ? rc : cli_request(cli, "PUT", a->path, a->wanted, ret_result, err);
    const char *warning = json_string_value(json_object_get(*ret_result, "warning"));
    if (rc == 0 && warning != NULL) {
        fprintf(stderr, "farshore: warning: %s\n", warning);
    }
    if (rc == 0 && !cli->json) {
        fprintf(cli->out, "plan '%s' %s\n", a->name, a->now == NULL ? "created" : "changed");
    }
    return rc;
}

static int apply(struct cli *cli, struct apply *a, struct far_error *err)
{
    char dry[CLI_PATH_MAX + 16];
    json_t *prediction = NULL, *result = NULL;
    bool is_dry = cli_value(&cli->parsed, "dry-run") != NULL;
    int rc = fetch(cli, a, err);
    if (rc != 0) {
        return rc;
    }
    compare(a);
    snprintf(dry, sizeof dry, "%s?dry_run=true", a->path);
    rc = cli_request(cli, "PUT", dry, a->wanted, &prediction, err);
    bool is_same = json_array_size(json_object_get(prediction, "events")) == 0;
    if (rc == 0 && !cli->json && is_same) {
        fprintf(cli->out, "plan '%s' is so already\n", a->name);
    } else if (rc == 0 && !cli->json) {
        say(cli, a);
    }
    rc = rc == 0 && !is_dry && !is_same ? carry_out(cli, a, &result, err) : rc;
    if (rc == 0 && cli->json) {
        json_t *told = json_pack("{s:s, s:b, s:O, s:O}", "plan", a->name, "changed", result != NULL, "changes", a->changes, "prediction",
                                 prediction);
        json_object_set(told, "result", result != NULL ? result : json_null());
        cli_print_json(cli->out, told);
        json_decref(told);
    }
    json_decref(prediction);
    json_decref(result);
    return rc;
}

int cli_apply_plan(struct cli *cli, json_t *plan, struct far_error *err)
{
    struct apply a = {.changes = json_array(), .wanted = plan, .name = json_string_value(json_object_get(plan, "name"))};
    snprintf(a.path, sizeof a.path, "/v1/plans/");
    cli_append_encoded(a.path, sizeof a.path, a.name);
    strncat(a.path, "/spec", sizeof a.path - strlen(a.path) - 1);
    int rc = apply(cli, &a, err);
    json_decref(a.now);
    json_decref(a.changes);
    return rc;
}

int cli_run_plan_apply(struct cli *cli, struct far_error *err)
{
    json_t *plan = NULL;
    int rc = read_plan(cli_value(&cli->parsed, "file"), &plan, err);
    rc = rc == 0 ? cli_apply_plan(cli, plan, err) : rc;
    json_decref(plan);
    return rc;
}

int cli_run_plan_export(struct cli *cli, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    json_t *plan = NULL;
    int rc = cli_path(cli, path, err);
    rc = rc != 0 ? rc : cli_request(cli, "GET", path, NULL, &plan, err);
    if (rc == 0) {
        cli_print_json(cli->out, plan);
        json_decref(plan);
    }
    return rc;
}

int cli_run_plan_pause(struct cli *cli, struct far_error *err)
{
    const char *until = cli_value(&cli->parsed, "until");
    uint64_t until_ms = 0;
    int rc = until != NULL ? cli_parse_date(until, &until_ms, err) : 0;
    if (rc != 0) {
        return rc;
    }
    json_t *body = json_pack("{s:I}", "until_ms", (json_int_t)until_ms);
    rc = cli_write_and_say(cli, body, err);
    json_decref(body);
    return rc;
}
