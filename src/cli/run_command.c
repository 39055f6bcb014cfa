/* farshore run test, failover, migrate, report, gate-pass: runs of plans. Each is a job that lives until its machines are gone or
 * committed, so --wait waits only until they are up, or until something holds the run. */
#include "cli.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_MS = 500 };

static const char *text_in(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

static bool is_settled(const json_t *run)
{
    const char *phase = text_in(run, "phase");
    return strcmp(phase, "up") == 0 || strcmp(phase, "done") == 0;
}

/* Until it is up, or held, or over. */
static int wait_for_run(struct cli *cli, uint64_t job_id, struct far_error *err)
{
    char path[64], last[64] = "";
    uint64_t begun_ms = far_clock_monotonic_ms();
    snprintf(path, sizeof path, "/v1/runs/%llu", (unsigned long long)job_id);
    for (;;) {
        json_t *run = NULL;
        int rc = cli_request(cli, "GET", path, NULL, &run, err);
        if (rc != 0) {
            return rc;
        }
        const char *problem = text_in(run, "problem"), *phase = text_in(run, "phase");
        bool settled = is_settled(run), held = problem[0] != '\0';
        if (!cli->json && strcmp(last, phase) != 0) {
            fprintf(stderr, "%s\n", phase);
            snprintf(last, sizeof last, "%s", phase);
        }
        if (settled && cli->json) {
            cli_print_json(cli->out, run);
        } else if (settled) {
            fprintf(cli->out, "run %llu is %s\n", (unsigned long long)job_id, phase);
        }
        rc = held && !settled ? far_fail(err, FAR_BUSY, "run %llu is held: %s", (unsigned long long)job_id, problem) : 0;
        json_decref(run);
        if (settled || held) {
            return rc;
        }
        if (cli->timeout_ms != 0 && far_clock_monotonic_ms() - begun_ms > cli->timeout_ms) {
            return far_fail(err, FAR_TIMEOUT, "run %llu is not up yet; 'farshore run show %llu' tells how it stands",
                            (unsigned long long)job_id, (unsigned long long)job_id);
        }
        usleep(LOOK_MS * 1000);
    }
}

/* How long the machines will be down, if a migration began now; 0: nobody says so. */
static int foresee_down(struct cli *cli, uint64_t *ret_ms, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    json_t *body = NULL, *prediction = NULL, *event;
    size_t i;
    *ret_ms = 0;
    int rc = cli_path(cli, path, err);
    rc = rc != 0 ? rc : cli_body(&cli->parsed, &body, err);
    strncat(path, "?dry_run=true", sizeof path - strlen(path) - 1);
    rc = rc != 0 ? rc : cli_request(cli, "POST", path, json_object_size(body) > 0 ? body : NULL, &prediction, err);
    json_decref(body);
    if (rc == 0) {
        json_array_foreach(json_object_get(prediction, "events"), i, event)
        {
            json_t *value = json_object_get(json_object_get(event, "data"), "forecast_ms");
            *ret_ms = value != NULL ? (uint64_t)json_integer_value(value) : *ret_ms;
        }
        json_decref(prediction);
    }
    return rc;
}

int cli_run_migrate(struct cli *cli, struct far_error *err)
{
    bool is_only = cli_value(&cli->parsed, "estimate") != NULL, is_dry = cli_value(&cli->parsed, "dry-run") != NULL;
    uint64_t down_ms = 0;
    char text[32];
    if (is_only && is_dry) {
        return far_fail(err, FAR_INVALID, "options '--estimate' and '--dry-run' do not fit together");
    }
    int rc = is_dry || (cli->json && !is_only) ? 0 : foresee_down(cli, &down_ms, err);
    if (rc == 0 && is_only && cli->json) {
        json_t *answer = json_pack("{s:I}", "forecast_ms", (json_int_t)down_ms);
        cli_print_json(cli->out, answer);
        json_decref(answer);
    } else if (rc == 0 && down_ms != 0) {
        fprintf(is_only ? cli->out : stderr, "the machines will be down for about %s\n", cli_span(down_ms, text));
    }
    return rc != 0 || is_only ? rc : cli_run_run_start(cli, err);
}

int cli_run_run_start(struct cli *cli, struct far_error *err)
{
    uint64_t job_id = 0;
    if (cli_value(&cli->parsed, "wait") == NULL) {
        return cli_start_job(cli, NULL, err); /* the answer is shown, as JSON where that is wanted */
    }
    int rc = cli_begin_job(cli, NULL, &job_id, err);
    return rc == 0 && job_id != 0 ? wait_for_run(cli, job_id, err) : rc;
}

static uint64_t number_in(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

static void print_disk(FILE *out, const json_t *disk)
{
    enum { SHOWN = 8 };
    char text[2][32];
    uint64_t count = number_in(disk, "extent_count");
    const json_t *extents = json_object_get(disk, "extents"), *extent;
    uint64_t shown = 0, bytes = 0;
    size_t i;
    const char *problem = text_in(disk, "problem");
    if (json_is_true(json_object_get(disk, "skipped"))) {
        fprintf(out, "      disk %s: not compared: %s\n", text_in(disk, "disk"), problem);
        return;
    }
    fprintf(out, "      disk %s: %llu extents, %s", text_in(disk, "disk"), (unsigned long long)count,
            cli_bytes(number_in(disk, "lost_bytes"), text[0]));
    json_array_foreach(extents, i, extent)
    {
        if (shown < SHOWN) {
            fprintf(out, "%s 0x%llx+%s", shown == 0 ? ":" : ",", (unsigned long long)number_in(extent, "offset"),
                    cli_bytes(number_in(extent, "length"), text[0]));
            bytes += number_in(extent, "length");
            shown++;
        }
    }
    if (count > shown) {
        fprintf(out, " and %llu more, %s", (unsigned long long)(count - shown), cli_bytes(number_in(disk, "lost_bytes") - bytes, text[0]));
    }
    fprintf(out, " (%s of %s read)%s%s\n", cli_bytes(number_in(disk, "compared_bytes"), text[0]),
            cli_bytes(number_in(disk, "size_bytes"), text[1]), problem[0] != '\0' ? "; " : "", problem);
}

/* What is known of the extents. */
static void print_source(FILE *out, const json_t *loss)
{
    const char *source = text_in(loss, "source"), *note = text_in(loss, "note");
    char text[32];
    const json_t *disk;
    size_t i;
    if (strcmp(source, "unknown") == 0 || strcmp(source, "comparing") == 0) {
        fprintf(out, "    extents not known yet: %s",
                source[0] == 'u' ? "the source was not reachable since, or its machine is not off" : "the source is being compared");
        if (json_is_true(json_object_get(loss, "was_sending"))) {
            fprintf(out, "; the cycle that was cut short had found %s changed", cli_bytes(number_in(loss, "seen_bytes"), text));
        }
        fputc('\n', out);
    } else if (strcmp(source, "failed") == 0) {
        fprintf(out, "    extents not known: %s\n", note);
    } else if (strcmp(source, "none") == 0) {
        fprintf(out, "    nothing is lost: the source goes on with all that it had\n");
    }
    json_array_foreach(json_object_get(loss, "disks"), i, disk)
    {
        print_disk(out, disk);
    }
    if (json_is_true(json_object_get(loss, "has_run_since"))) {
        fprintf(out, "    somebody started the source after the failover: what it wrote since is among the extents\n");
    }
}

static void print_loss(FILE *out, const json_t *loss, bool is_failover)
{
    char text[4][32];
    uint64_t lost_ms = number_in(loss, "lost_ms");
    bool is_compared = strcmp(text_in(loss, "source"), "compared") == 0, guesses = json_is_true(json_object_get(loss, "estimate"));
    fprintf(out, "  %s: point %llu of %s\n", text_in(loss, "workload"), (unsigned long long)number_in(loss, "point_id"),
            cli_time(number_in(loss, "frozen_at_ms"), text[0]));
    fprintf(out, "    lost: %s%s", is_failover && guesses ? "about " : "", cli_span(lost_ms, text[0]));
    if (lost_ms != 0) {
        fprintf(out, " (from %s to %s%s)", cli_time(number_in(loss, "frozen_at_ms"), text[1]),
                cli_time(number_in(loss, "until_ms"), text[2]), is_failover && guesses ? ", an estimate" : "");
    }
    if (is_compared) {
        fprintf(out, "; %llu extents, %s", (unsigned long long)number_in(loss, "extent_count"),
                cli_bytes(number_in(loss, "lost_bytes"), text[3]));
    }
    fputc('\n', out);
    print_source(out, loss);
}

/* What a script did, and the end of what it wrote. */
void cli_print_script(FILE *out, const json_t *script)
{
    char text[32];
    const char *workload = text_in(script, "workload"), *output = text_in(script, "output");
    uint64_t begun_ms = number_in(script, "started_ms"), ended_ms = number_in(script, "ended_ms");
    fprintf(out, "  script %s, %s%s%s: %s", text_in(script, "name"), text_in(script, "phase"), workload[0] != '\0' ? " of " : "", workload,
            text_in(script, "state"));
    if (ended_ms > begun_ms) {
        fprintf(out, ", status %llu, took %s", (unsigned long long)number_in(script, "status"), cli_span(ended_ms - begun_ms, text));
    }
    fprintf(out, "\n");
    for (const char *line = output; *line != '\0';) {
        size_t len = strcspn(line, "\n");
        fprintf(out, "    | %.*s\n", (int)len, line);
        line += len + (line[len] == '\n');
    }
}

static void print_report(FILE *out, const json_t *report)
{
    char text[5][32];
    size_t i;
    const json_t *item;
    bool migrates = strcmp(text_in(report, "kind"), "migration") == 0;
    fprintf(out, "%s of plan %s, %s\n", text_in(report, "kind"), text_in(report, "plan"), text_in(report, "phase"));
    fprintf(out, "took %s: disks %s, waiting for the source %s; our own %s of it\n", cli_span(number_in(report, "total_ms"), text[0]),
            cli_span(number_in(report, "disks_ms"), text[1]), cli_span(number_in(report, "fence_ms"), text[2]),
            cli_span(number_in(report, "own_ms"), text[3]));
    if (migrates) {
        fprintf(out, "machines were down for %s, expected %s\n", cli_span(number_in(report, "down_ms"), text[0]),
                cli_span(number_in(report, "forecast_ms"), text[1]));
    }
    json_array_foreach(json_object_get(report, "steps"), i, item)
    {
        uint64_t begun_ms = number_in(item, "begun_ms"), ended_ms = number_in(item, "ended_ms");
        fprintf(out, "  group %llu, position %llu: %s, last %s (platform %s, gates %s, own %s), then a delay of %s\n",
                (unsigned long long)number_in(item, "group"), (unsigned long long)number_in(item, "position"),
                ended_ms == 0 ? "not up" : cli_span(ended_ms - begun_ms, text[0]), text_in(item, "slowest"),
                cli_span(number_in(item, "platform_ms"), text[1]), cli_span(number_in(item, "waited_ms"), text[2]),
                cli_span(number_in(item, "own_ms"), text[3]), cli_span(number_in(item, "delay_ms"), text[4]));
    }
    json_array_foreach(json_object_get(report, "scripts"), i, item)
    {
        cli_print_script(out, item);
    }
    json_array_foreach(json_object_get(report, "losses"), i, item)
    {
        print_loss(out, item, strcmp(text_in(report, "kind"), "failover") == 0);
    }
}

int cli_run_run_report(struct cli *cli, struct far_error *err)
{
    char path[128];
    json_t *report = NULL;
    const char *id = cli->parsed.argument, *at = cli_value(&cli->parsed, "at");
    if (strlen(id) > 18 || id[strspn(id, "0123456789")] != '\0') {
        return far_fail(err, FAR_INVALID, "'%s' is no id of a run", id);
    }
    snprintf(path, sizeof path, "/v1/runs/%s/report%s%.60s", id, at != NULL ? "?at=" : "", at != NULL ? at : "");
    int rc = cli_request(cli, "GET", path, NULL, &report, err);
    if (rc == 0 && cli->json) {
        cli_print_json(cli->out, report);
    } else if (rc == 0) {
        print_report(cli->out, report);
    }
    json_decref(report);
    return rc;
}

int cli_run_gate_pass(struct cli *cli, struct far_error *err)
{
    json_t *extra = json_pack("{s:s}", "workload", cli->parsed.argument2);
    int rc = extra != NULL ? cli_write_and_say(cli, extra, err) : far_fail(err, FAR_INVALID, "the name is not UTF-8");
    json_decref(extra);
    return rc;
}
