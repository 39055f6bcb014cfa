/* Waiting for a job: its figures twice a second, as a bar on a terminal, else as a line whenever something moved. */
#include "cli.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_MS = 300, LINE_EVERY_MS = 2000, BAR_WIDTH = 24 };

static uint64_t number(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

struct figures {
    uint64_t total, done, sent, changed;
};

/* The sums over the tasks that carry the data; the job's own figures where there are none. */
static struct figures figures_of(const json_t *job)
{
    struct figures sum = {0};
    const json_t *tasks = json_object_get(job, "tasks");
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *task = json_array_get(tasks, i);
        const char *kind = text_of(task, "kind");
        if (strcmp(kind, "send") == 0 || strcmp(kind, "restore") == 0 || strcmp(kind, "verify") == 0) {
            sum.total += number(task, "bytes_total");
            sum.done += number(task, "bytes_done");
            sum.sent += number(task, "bytes_sent");
            sum.changed += number(task, "bytes_changed");
        }
    }
    if (sum.total == 0) {
        sum = (struct figures){number(job, "bytes_total"), number(job, "bytes_done"), number(job, "bytes_sent"),
                               number(job, "bytes_changed")};
    }
    return sum;
}

void cli_progress(const json_t *job, uint64_t elapsed_ms, char *text, size_t room)
{
    struct figures f = figures_of(job);
    char done[32], total[32], sent[32], rate[32], eta[32] = "-", bar[BAR_WIDTH + 1];
    uint64_t part = f.total == 0 ? 0 : f.done >= f.total ? BAR_WIDTH : (uint64_t)((double)f.done / (double)f.total * BAR_WIDTH);
    double per_second = elapsed_ms == 0 ? 0 : (double)f.done * 1000 / (double)elapsed_ms;
    for (uint64_t i = 0; i < BAR_WIDTH; i++) {
        bar[i] = i < part ? '#' : '.';
    }
    bar[BAR_WIDTH] = '\0';
    if (per_second > 0 && f.done <= f.total) {
        cli_duration((uint64_t)((double)(f.total - f.done) / per_second * 1000), eta);
    }
    snprintf(text, room, "%s %llu [%s] %3llu%%  %s of %s  sent %s  %s/s  ETA %s", text_of(job, "kind"),
             (unsigned long long)number(job, "id"), bar,
             (unsigned long long)(f.total == 0 ? 0 : f.done >= f.total ? 100 : f.done / (f.total / 100 + 1)),
             cli_bytes(f.done, done), cli_bytes(f.total, total), cli_bytes(f.sent, sent),
             cli_bytes((uint64_t)per_second, rate), eta);
}

static void summary(const json_t *job, uint64_t elapsed_ms, char *text, size_t room)
{
    struct figures f = figures_of(job);
    char total[32], changed[32], sent[32];
    uint64_t started = number(job, "started_ms"), finished = number(job, "finished_ms");
    uint64_t took = finished > started ? finished - started : elapsed_ms;
    snprintf(text, room, "%s %llu %s: %s looked at, %s changed, %s sent, in %llu.%llu s", text_of(job, "kind"),
             (unsigned long long)number(job, "id"), text_of(job, "state"), cli_bytes(f.total, total),
             cli_bytes(f.changed, changed), cli_bytes(f.sent, sent), (unsigned long long)took / 1000,
             (unsigned long long)took / 100 % 10);
}

static int outcome(const json_t *job, struct far_error *err)
{
    const char *state = text_of(job, "state"), *message = text_of(job, "error_message");
    if (strcmp(state, "succeeded") == 0) {
        return 0;
    }
    if (strcmp(state, "canceled") == 0) {
        return far_fail(err, FAR_CANCELED, "job %llu was canceled", (unsigned long long)number(job, "id"));
    }
    int klass = strcmp(state, "partial") == 0 ? FAR_CONFLICT : far_class_from_name(text_of(job, "error_class"));
    return far_fail(err, klass == FAR_OK ? FAR_INTERNAL : klass, "job %llu %s: %s", (unsigned long long)number(job, "id"),
                    state, message[0] != '\0' ? message : "some workloads kept their last good point; 'farshore job show' "
                                                          "tells which");
}

/* Shows where the job is; what was shown last is in last. */
static void show(const struct cli *cli, const json_t *job, uint64_t elapsed_ms, char *last, size_t room,
                 uint64_t *shown_ms)
{
    char text[512];
    cli_progress(job, elapsed_ms, text, sizeof text);
    if (cli->terminal) {
        fprintf(stderr, "\r%s\033[K", text);
        fflush(stderr);
        return;
    }
    if (strcmp(text, last) != 0 && (last[0] == '\0' || elapsed_ms - *shown_ms >= LINE_EVERY_MS)) {
        fprintf(stderr, "%s\n", text);
        snprintf(last, room, "%s", text);
        *shown_ms = elapsed_ms;
    }
}

int cli_wait_job(struct cli *cli, uint64_t job_id, struct far_error *err)
{
    char path[64], last[512] = "", text[512];
    uint64_t start_ms = far_clock_monotonic_ms(), shown_ms = 0, elapsed_ms = 0;
    json_t *job = NULL;
    snprintf(path, sizeof path, "/v1/jobs/%llu", (unsigned long long)job_id);
    for (;;) {
        int rc = cli_request(cli, "GET", path, NULL, &job, err);
        if (rc != 0) {
            return rc;
        }
        elapsed_ms = far_clock_monotonic_ms() - start_ms;
        if (strcmp(text_of(job, "state"), "running") != 0) {
            break;
        }
        show(cli, job, elapsed_ms, last, sizeof last, &shown_ms);
        json_decref(job);
        usleep(LOOK_MS * 1000);
    }
    summary(job, elapsed_ms, text, sizeof text);
    fprintf(stderr, cli->terminal ? "\r%s\033[K\n" : "%s\n", text);
    if (cli->json) {
        cli_print_json(cli->out, job);
    }
    int rc = outcome(job, err);
    json_decref(job);
    return rc;
}
