/* farshore checkpoint open, export, diff, copy, recover-instantly, browse, get: a disk of a checkpoint is used on the node that holds it.
 * Each is a job; what comes of it is in the job, and told here. */
#include "cli.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_MS = 200, OPEN_MS_MAX = 60000 /* without --timeout */ };

static const char *text_in(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

static const json_t *result_of(const json_t *job)
{
    return json_array_get(json_object_get(job, "use_result"), 0);
}

static int fetch_job(struct cli *cli, uint64_t job_id, json_t **ret_job, struct far_error *err)
{
    char path[64];
    snprintf(path, sizeof path, "/v1/jobs/%llu", (unsigned long long)job_id);
    return cli_request(cli, "GET", path, NULL, ret_job, err);
}

/* Until the node says where the disk is, or the job is over. */
static int wait_for_uri(struct cli *cli, uint64_t job_id, struct far_error *err)
{
    uint64_t end_ms = far_clock_monotonic_ms() + (cli->timeout_ms != 0 ? cli->timeout_ms : OPEN_MS_MAX);
    for (;;) {
        json_t *job = NULL;
        int rc = fetch_job(cli, job_id, &job, err);
        if (rc != 0) {
            return rc;
        }
        const char *uri = text_in(result_of(job), "uri");
        bool is_open = uri[0] != '\0', runs = strcmp(text_in(job, "state"), "running") == 0;
        if (is_open && cli->json) {
            cli_print_json(cli->out, job);
        } else if (is_open) {
            fprintf(cli->out, "%s\n", uri);
            fprintf(stderr, "It is open until 'farshore checkpoint close %llu'.\n", (unsigned long long)job_id);
        } else if (!runs) {
            rc = far_fail(err, far_class_from_name(text_in(job, "error_class")), "job %llu: %s", (unsigned long long)job_id,
                          text_in(job, "error_message"));
        }
        json_decref(job);
        if (is_open || !runs) {
            return rc;
        }
        if (far_clock_monotonic_ms() > end_ms) {
            return far_fail(err, FAR_TIMEOUT, "the node has not opened it yet; 'farshore job show %llu' tells how it stands",
                            (unsigned long long)job_id);
        }
        usleep(LOOK_MS * 1000);
    }
}

/* A job that serves a disk. */
int cli_run_checkpoint_open(struct cli *cli, struct far_error *err)
{
    uint64_t job_id = 0;
    int rc = cli_begin_job(cli, NULL, &job_id, err);
    rc = rc == 0 && job_id != 0 ? wait_for_uri(cli, job_id, err) : rc;
    return rc == 0 && job_id != 0 && cli_value(&cli->parsed, "wait") != NULL ? cli_wait_job(cli, job_id, err) : rc;
}

static void print_ranges(FILE *out, const json_t *ranges)
{
    size_t i;
    const json_t *range;
    json_array_foreach(ranges, i, range)
    {
        fprintf(out, "%lld %lld\n", (long long)json_integer_value(json_object_get(range, "offset")),
                (long long)json_integer_value(json_object_get(range, "length")));
    }
    fflush(out);
}

/* A page of the ranges, by a job of its own: the points do not change, so pages fit together. Without a word on standard output but the
 * first one's, which says that it was started. *ret_job NULL: it was only predicted. */
static int fetch_page(struct cli *cli, uint64_t other_id, uint64_t offset, json_t **ret_job, struct far_error *err)
{
    bool as_json = cli->json;
    uint64_t job_id = 0;
    json_t *extra = json_pack("{s:I}", "other_checkpoint_id", (json_int_t)other_id);
    if (extra != NULL && offset > 0) {
        json_object_set_new(extra, "range_offset", json_integer((json_int_t)offset));
    }
    cli->json = as_json || offset > 0;
    int rc = cli_begin_job(cli, extra, &job_id, err);
    cli->json = false;
    rc = rc == 0 && job_id != 0 ? cli_wait_job(cli, job_id, err) : rc;
    cli->json = as_json;
    return rc == 0 && job_id != 0 ? fetch_job(cli, job_id, ret_job, err) : rc;
}

/* All pages; ranges of later ones behind the first one's in *ret_job, or printed as they come. With a file all ranges are there. */
static int fetch_ranges(struct cli *cli, uint64_t other_id, json_t **ret_job, struct far_error *err)
{
    uint64_t told = 0, total = 1;
    bool has_file = cli_value(&cli->parsed, "to") != NULL;
    int rc = 0;
    while (rc == 0 && told < total && (told == 0 || !has_file)) {
        json_t *job = NULL;
        rc = fetch_page(cli, other_id, told, &job, err);
        if (rc != 0 || job == NULL) {
            return rc;
        }
        json_t *ranges = json_object_get(result_of(job), "ranges");
        size_t count = json_array_size(ranges);
        told += count;
        total = count > 0 ? (uint64_t)json_integer_value(json_object_get(result_of(job), "range_count")) : told;
        if (!cli->json) {
            print_ranges(cli->out, ranges);
        }
        if (*ret_job == NULL) {
            *ret_job = job;
            continue;
        }
        json_array_extend(json_object_get(result_of(*ret_job), "ranges"), ranges);
        json_decref(job);
    }
    if (rc == 0 && told == total) {
        json_object_set_new(json_array_get(json_object_get(*ret_job, "use_result"), 0), "truncated", json_false());
    }
    return rc;
}

static void print_entries(FILE *out, const json_t *result)
{
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(result, "entries"), i, entry)
    {
        fprintf(out, "%s\n", json_string_value(entry));
    }
    if (json_is_true(json_object_get(result, "truncated"))) {
        fprintf(out, "and more\n");
    }
}

/* Waits for the job and prints what it told; in JSON the whole job. */
static int tell_at_end(struct cli *cli, json_t *extra, void (*print)(FILE *out, const json_t *result), struct far_error *err)
{
    uint64_t job_id = 0;
    json_t *job = NULL;
    int rc = cli_begin_job(cli, extra, &job_id, err);
    if (rc != 0 || job_id == 0) {
        return rc;
    }
    rc = cli_wait_job(cli, job_id, err);
    rc = rc == 0 && !cli->json ? fetch_job(cli, job_id, &job, err) : rc;
    if (rc == 0 && !cli->json) {
        print(cli->out, result_of(job));
    }
    json_decref(job);
    return rc;
}

int cli_run_checkpoint_diff(struct cli *cli, struct far_error *err)
{
    const char *other = cli->parsed.argument2;
    json_t *job = NULL;
    if (strlen(other) > 18 || other[strspn(other, "0123456789")] != '\0') {
        return far_fail(err, FAR_INVALID, "'%s' is no id of a checkpoint", other);
    }
    int rc = fetch_ranges(cli, strtoull(other, NULL, 10), &job, err);
    const json_t *result = result_of(job);
    if (rc == 0 && job != NULL && cli->json) {
        cli_print_json(cli->out, job);
    } else if (rc == 0 && job != NULL) {
        if (json_is_true(json_object_get(result, "truncated"))) {
            fprintf(cli->out, "and more: all of them are in '%s' on the node\n", text_in(result, "path"));
        }
        fprintf(cli->out, "total: %lld ranges, %lld bytes\n", (long long)json_integer_value(json_object_get(result, "range_count")),
                (long long)json_integer_value(json_object_get(result, "bytes")));
    }
    json_decref(job);
    return rc;
}

int cli_run_checkpoint_browse(struct cli *cli, struct far_error *err)
{
    json_t *extra = json_pack("{s:s}", "guest_path", cli->parsed.argument2);
    if (extra == NULL) {
        return far_fail(err, FAR_INVALID, "the path is not UTF-8; 'farshore-node vault browse' on the node takes any bytes");
    }
    return tell_at_end(cli, extra, print_entries, err);
}

int cli_run_checkpoint_get(struct cli *cli, struct far_error *err)
{
    json_t *extra = json_pack("{s:s}", "guest_path", cli->parsed.argument2);
    return extra != NULL ? cli_start_job(cli, extra, err)
                         : far_fail(err, FAR_INVALID, "the path is not UTF-8; 'farshore-node vault browse' on the node takes any bytes");
}
