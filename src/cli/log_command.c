/* log explain, log export, log replay. Offline work on a server's folder (--dir) is farshored's. */
#include "cli.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 1024 };

/* ---- explain ---- */

static void print_event(FILE *out, int indent, const json_t *entry)
{
    const json_t *event = json_object_get(entry, "event"), *cause = json_object_get(entry, "cause");
    const char *name = json_string_value(json_object_get(cause, "name"));
    const char *id = json_string_value(json_object_get(cause, "command_id"));
    char at[32];
    fprintf(out, "%*sevent %lld %s, %s: %s %s%s%s%s", indent, "", json_integer_value(json_object_get(event, "seq")),
            json_string_value(json_object_get(event, "kind")),
            cli_time((uint64_t)json_integer_value(json_object_get(event, "time_ms")), at),
            json_string_value(json_object_get(cause, "by")), json_string_value(json_object_get(cause, "actor")),
            name != NULL && name[0] != '\0' ? " '" : "", name != NULL ? name : "", name != NULL && name[0] != '\0' ? "'" : "");
    if (id != NULL && strspn(id, "0") != strlen(id)) {
        fprintf(out, ", command %s", id);
    }
    if (json_is_true(json_object_get(entry, "compacted"))) {
        fprintf(out, " (progress before it was compacted)");
    }
    fputc('\n', out);
}

static void print_fields(FILE *out, const json_t *entry)
{
    const json_t *before = json_object_get(entry, "before"), *after = json_object_get(entry, "after");
    const char *name;
    json_t *value;
    if (!json_is_object(before) || !json_is_object(after)) {
        return;
    }
    json_object_foreach((json_t *)before, name, value)
    {
        char was[256], is[256];
        cli_cell(name, value, was, sizeof was);
        cli_cell(name, json_object_get(after, name), is, sizeof is);
        fprintf(out, "      %s: %s -> %s\n", name, was, is);
    }
}

static void print_explanation(FILE *out, const json_t *answer)
{
    const json_t *changes = json_object_get(answer, "changes"), *row = json_object_get(answer, "row");
    const char *name = json_string_value(json_object_get(row, "name")), *state = json_string_value(json_object_get(row, "state"));
    fprintf(out, "%s%s%s%s", json_string_value(json_object_get(answer, "object")), name != NULL ? " '" : "",
            name != NULL ? name : "", name != NULL ? "'" : "");
    fprintf(out, ": %s\n", row == NULL ? "removed" : state != NULL ? state : "is there");
    for (size_t i = 0; i < json_array_size(changes); i++) {
        const json_t *entry = json_array_get(changes, i);
        fprintf(out, "  %s by\n", json_string_value(json_object_get(entry, "change")));
        print_event(out, 4, entry);
        print_fields(out, entry);
    }
    if (json_is_true(json_object_get(answer, "more"))) {
        fprintf(out, "  and older ones\n");
    }
    int indent = 0;
    for (const json_t *link = json_object_get(answer, "because"); json_is_object(link); link = json_object_get(link, "because")) {
        fprintf(out, "%*s%s %s\n", indent, "", indent == 0 ? "origin:" : "because of", json_string_value(json_object_get(link, "object")));
        print_event(out, indent + 2, json_object_get(link, "origin"));
        indent += 2;
    }
}

int cli_run_log_explain(struct cli *cli, struct far_error *err)
{
    const char *limit = cli_value(&cli->parsed, "limit"), *moment = cli_value(&cli->parsed, "at");
    char path[PATH_BYTES] = "/v1/log/explain?object=";
    json_t *answer = NULL;
    cli_append_encoded(path, sizeof path, cli->parsed.argument);
    if (limit != NULL) {
        strncat(path, "&limit=", sizeof path - strlen(path) - 1);
        cli_append_encoded(path, sizeof path, limit);
    }
    if (moment != NULL) {
        strncat(path, "&at=", sizeof path - strlen(path) - 1);
        cli_append_encoded(path, sizeof path, moment);
    }
    int rc = cli_request(cli, "GET", path, NULL, &answer, err);
    if (rc != 0) {
        return rc;
    }
    if (cli->json) {
        cli_print_json(cli->out, answer);
    } else {
        print_explanation(cli->out, answer);
    }
    json_decref(answer);
    return 0;
}

/* ---- export ---- */

int cli_write_hex(FILE *file, const char *hex, struct far_error *err)
{
    size_t len = hex == NULL ? 0 : strlen(hex) / 2;
    uint8_t *bytes = malloc(len + 1);
    bool good = bytes != NULL && hex != NULL && far_hex_decode(hex, 2 * len, bytes, len);
    if (!good) {
        free(bytes);
        return far_fail(err, FAR_CORRUPT, "the server's piece cannot be read");
    }
    good = fwrite(bytes, 1, len, file) == len;
    free(bytes);
    return good ? 0 : far_fail_errno(err, FAR_IO, errno, "write a piece");
}

/* Piece by piece; the first one fixes where it ends: with --to at that event or the last one of that time, also where no state can be
 * shown any more. */
static int fetch_pieces(struct cli *cli, FILE *file, long long *ret_until, struct far_error *err)
{
    const char *to = cli_value(&cli->parsed, "to");
    char path[PATH_BYTES] = "/v1/log/export";
    long long next = 0;
    int rc;
    if (to != NULL) {
        strcat(path, "?until=");
        cli_append_encoded(path, sizeof path, to);
    }
    do {
        json_t *piece = NULL;
        rc = cli_request(cli, "GET", path, NULL, &piece, err);
        rc = rc != 0 ? rc : cli_write_hex(file, json_string_value(json_object_get(piece, "bytes")), err);
        next = json_integer_value(json_object_get(piece, "next"));
        *ret_until = json_integer_value(json_object_get(piece, "until"));
        snprintf(path, sizeof path, "/v1/log/export?from=%lld&until=%lld", next, *ret_until);
        json_decref(piece);
    } while (rc == 0 && next != 0);
    return rc;
}

static int run_offline(struct cli *cli, const char *verb, struct far_error *err)
{
    const char *to = cli_value(&cli->parsed, "to");
    const char *argv[] = {"farshored", verb, "--dir", cli_value(&cli->parsed, "dir"), "--out", cli_value(&cli->parsed, "out"),
                          to == NULL ? NULL : "--to", to, NULL};
    int status = 0;
    int rc = cli_spawn_farshored(argv, &status, err);
    if (rc != 0 || status == 0) {
        return rc;
    }
    for (int klass = -1; klass >= FAR_CLASS_MIN; klass--) {
        if (far_class_info(klass)->exit_code == status) {
            return far_fail(err, klass, "farshored %s failed; it says above why", verb);
        }
    }
    return far_fail(err, FAR_INTERNAL, "farshored %s ended with status %d", verb, status);
}

int cli_run_log_export(struct cli *cli, struct far_error *err)
{
    const char *out = cli_value(&cli->parsed, "out");
    long long until = 0;
    if (cli_value(&cli->parsed, "dir") != NULL) {
        return run_offline(cli, "log-export", err);
    }
    FILE *file = fopen(out, "wbx");
    if (file == NULL) {
        return far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "make file '%s'", out);
    }
    int rc = fetch_pieces(cli, file, &until, err);
    if (fclose(file) != 0 && rc == 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "write '%s'", out);
    }
    if (rc != 0) {
        remove(out);
    } else if (!cli->json) {
        fprintf(cli->out, "exported up to event %lld; check it with farshore-verify\n", until);
    }
    return rc;
}

int cli_run_log_replay(struct cli *cli, struct far_error *err)
{
    return run_offline(cli, "log-replay", err);
}
