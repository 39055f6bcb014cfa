/* farshore plan resync: what would be read and about how long that takes comes first; then, unless only that was wanted, the cycle. */
#include "cli.h"

#include <string.h>

static void estimate_path(const struct cli *cli, char path[CLI_PATH_MAX])
{
    static const char *const filters[] = {"workload", "disk"};
    char mark = '?';
    snprintf(path, CLI_PATH_MAX, "/v1/plans/");
    cli_append_encoded(path, CLI_PATH_MAX, cli->parsed.argument);
    strncat(path, "/resync", CLI_PATH_MAX - strlen(path) - 1);
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        const char *value = cli_value(&cli->parsed, filters[i]);
        if (value != NULL) {
            size_t len = strlen(path);
            snprintf(path + len, CLI_PATH_MAX - len, "%c%s=", mark, filters[i]);
            cli_append_encoded(path, CLI_PATH_MAX, value);
            mark = '&';
        }
    }
}

static const char *about(const json_t *from, char text[64])
{
    char duration[32];
    bool is_measured = json_is_true(json_object_get(from, "measured"));
    uint64_t ms = (uint64_t)json_integer_value(json_object_get(from, "duration_ms"));
    if (ms == 0 && !is_measured) {
        return "not known: nothing was measured yet";
    }
    if (ms < 1000 && is_measured) {
        return "less than a second";
    }
    snprintf(text, 64, "%s%s", is_measured ? "about " : "more than ", cli_span(ms / 1000 * 1000, duration));
    return text;
}

static void print_estimate(FILE *out, const json_t *estimate)
{
    char size[32], text[64];
    json_t *parts = json_object_get(estimate, "parts"), *part;
    bool is_of_disks = false;
    size_t i;
    json_array_foreach(parts, i, part)
    {
        json_object_set_new(part, "time", json_string(about(part, text)));
        is_of_disks = is_of_disks || json_string_length(json_object_get(part, "disk")) > 0;
    }
    cli_print_table(out, parts, is_of_disks ? "workload:WORKLOAD disk:DISK bytes:READ bytes_per_s:PER_SECOND time:TIME"
                                            : "workload:WORKLOAD disk_count:DISKS bytes:READ bytes_per_s:PER_SECOND time:TIME");
    long long disks = json_integer_value(json_object_get(estimate, "disk_count"));
    fprintf(out, "in all %lld disk%s, %s to read, %s; only what differs is moved\n", disks, disks == 1 ? "" : "s",
            cli_bytes((uint64_t)json_integer_value(json_object_get(estimate, "bytes")), size), about(estimate, text));
}

int cli_run_resync(struct cli *cli, struct far_error *err)
{
    bool is_only = cli_value(&cli->parsed, "estimate") != NULL, is_shown = is_only || !cli->json;
    char path[CLI_PATH_MAX];
    json_t *estimate = NULL;
    estimate_path(cli, path);
    int rc = is_shown ? cli_request(cli, "GET", path, NULL, &estimate, err) : 0;
    if (rc == 0 && is_only && cli->json) {
        cli_print_json(cli->out, estimate);
    } else if (rc == 0 && is_shown) {
        print_estimate(cli->out, estimate);
        fflush(cli->out);
    }
    json_decref(estimate);
    return rc != 0 || is_only ? rc : cli_run_job(cli, err);
}
