/* Waiting for a job: its figures and what it does or waits for, as a bar on a terminal, else as a line whenever something
 * moved. */
#include "cli.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LOOK_MS = 300, LINE_EVERY_MS = 2000, BAR_WIDTH = 24, BAR_WIDTH_NARROW = 10, SILENT_MS = 4000 };

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

/* What a line of progress is made of. */
struct progress {
    struct figures f;
    unsigned long long percent;
    char bar[BAR_WIDTH + 1], rate[32], eta[32];
};

static void progress_of(const json_t *job, uint64_t elapsed_ms, unsigned width, struct progress *ret)
{
    struct figures f = ret->f = figures_of(job);
    uint64_t part = f.total == 0 ? 0 : f.done >= f.total ? width : (uint64_t)((double)f.done / (double)f.total * width);
    double per_second = elapsed_ms == 0 ? 0 : (double)f.done * 1000 / (double)elapsed_ms;
    for (uint64_t i = 0; i < width; i++) {
        ret->bar[i] = i < part ? '#' : '.';
    }
    ret->bar[width] = '\0';
    ret->percent = f.total == 0 ? 0 : f.done >= f.total ? 100 : f.done / (f.total / 100 + 1);
    snprintf(ret->eta, sizeof ret->eta, "-");
    if (per_second > 0 && f.done <= f.total) {
        cli_duration((uint64_t)((double)(f.total - f.done) / per_second * 1000), ret->eta);
    }
    cli_bytes((uint64_t)per_second, ret->rate);
}

void cli_progress(const json_t *job, uint64_t elapsed_ms, char *text, size_t room)
{
    struct progress p;
    char done[32], total[32], sent[32];
    progress_of(job, elapsed_ms, BAR_WIDTH, &p);
    snprintf(text, room, "%s %llu [%s] %3llu%%  %s of %s  sent %s  %s/s  ETA %s", text_of(job, "kind"),
             (unsigned long long)number(job, "id"), p.bar, p.percent, cli_bytes(p.f.done, done),
             cli_bytes(p.f.total, total), cli_bytes(p.f.sent, sent), p.rate, p.eta);
}

void cli_progress_line(const json_t *job, uint64_t elapsed_ms, const char *phase, unsigned columns, char *text,
                       size_t room)
{
    struct progress p;
    char long_form[384];
    cli_progress(job, elapsed_ms, long_form, sizeof long_form);
    snprintf(text, room, "%s  %s", long_form, phase);
    if (columns == 0 || strlen(text) < columns) {
        return;
    }
    progress_of(job, elapsed_ms, BAR_WIDTH_NARROW, &p);
    snprintf(text, room, "%s %llu [%s] %3llu%%  %s/s  ETA %s  %s", text_of(job, "kind"),
             (unsigned long long)number(job, "id"), p.bar, p.percent, p.rate, p.eta, phase);
    size_t len = strlen(text);
    for (len = len < columns ? len : columns - 1; len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80; len--) {
    }
    text[len] = '\0';
}

/* ---- the phase ---- */

static bool is_held(const json_t *task)
{
    return strcmp(text_of(task, "state"), "running") == 0 || strcmp(text_of(task, "state"), "assigned") == 0;
}

static const char *verb_of(const char *kind)
{
    static const char *const verbs[][2] = {
        {"freeze", "freezing the disks"},  {"send", "sending"},         {"receive", "receiving"},
        {"seal", "sealing the point"},     {"release", "releasing what was frozen"},
        {"restore", "writing the disks"},  {"verify", "reading the vault"}, {"forget", "removing the point"},
    };
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i][0], kind) == 0) {
            return verbs[i][1];
        }
    }
    return kind;
}

static void held_phase(const json_t *task, uint64_t now_ms, uint64_t silent_ms, char *text, size_t room)
{
    uint64_t total = number(task, "bytes_total"), done = number(task, "bytes_done"), lease = number(task, "lease_until_ms");
    char share[32] = "";
    if (silent_ms >= SILENT_MS) {
        snprintf(text, room, "no word from node '%s' for %llu s; its lease runs out in %llu s", text_of(task, "node"),
                 (unsigned long long)silent_ms / 1000, (unsigned long long)(lease > now_ms ? (lease - now_ms) / 1000 : 0));
        return;
    }
    if (total > 0 && done > 0) {
        snprintf(share, sizeof share, " %llu%%", (unsigned long long)(done >= total ? 100 : done / (total / 100 + 1)));
    }
    snprintf(text, room, "%s%s on node '%s'", verb_of(text_of(task, "kind")), share, text_of(task, "node"));
}

static void ready_phase(const json_t *task, uint64_t now_ms, char *text, size_t room)
{
    uint64_t retry = number(task, "retry_ms");
    if (retry != 0) {
        const char *why = text_of(task, "error_message");
        snprintf(text, room, "%s is tried again in %llu s%s%s", text_of(task, "kind"),
                 (unsigned long long)(retry > now_ms ? (retry - now_ms + 999) / 1000 : 0), why[0] != '\0' ? ": " : "", why);
    } else {
        const char *waits = text_of(task, "waits_for");
        snprintf(text, room, "waiting: %s", waits[0] != '\0' ? waits : "for a node");
    }
}

/* What failed says why; what begins again with it (a send with its receive) has nothing to say. */
static bool says_more(const json_t *task, const json_t *than)
{
    return number(than, "retry_ms") != 0 && text_of(than, "error_message")[0] == '\0' && text_of(task, "error_message")[0] != '\0';
}

void cli_phase(const json_t *job, uint64_t now_ms, uint64_t silent_ms, char *text, size_t room)
{
    const json_t *tasks = json_object_get(job, "tasks"), *held = NULL, *ready = NULL, *waiting = NULL;
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *task = json_array_get(tasks, i);
        const char *state = text_of(task, "state");
        bool receives = held != NULL && strcmp(text_of(held, "kind"), "send") == 0; /* says more than sending does */
        held = is_held(task) && (held == NULL || receives) ? task : held;
        ready = strcmp(state, "ready") == 0 && (ready == NULL || says_more(task, ready)) ? task : ready;
        waiting = waiting == NULL && strcmp(state, "waiting") == 0 ? task : waiting;
    }
    text[0] = '\0';
    if (ready != NULL && (held == NULL || number(ready, "retry_ms") == 0)) {
        ready_phase(ready, now_ms, text, room); /* what keeps the job from its end, though others go on */
    } else if (held != NULL) {
        held_phase(held, now_ms, silent_ms, text, room);
    } else if (waiting != NULL) {
        snprintf(text, room, "%s waits for what comes before it", text_of(waiting, "kind"));
    } else {
        snprintf(text, room, json_array_size(tasks) == 0 ? "its tasks are being made" : "ending");
    }
    for (char *c = text; *c != '\0'; c++) {
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c;
    }
}

/* The sum of the leases' ends: it stands still while no node reports. */
static uint64_t leases_of(const json_t *job)
{
    const json_t *tasks = json_object_get(job, "tasks");
    uint64_t sum = 0;
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        sum += is_held(json_array_get(tasks, i)) ? number(json_array_get(tasks, i), "lease_until_ms") : 0;
    }
    return sum;
}

static void summary(const json_t *job, uint64_t elapsed_ms, char *text, size_t room)
{
    struct figures f = figures_of(job);
    char total[32], changed[32], sent[32], moved[96] = "";
    uint64_t started = number(job, "started_ms"), finished = number(job, "finished_ms");
    uint64_t took = finished > started ? finished - started : elapsed_ms;
    if (strcmp(text_of(job, "kind"), "replicate") == 0) {
        snprintf(moved, sizeof moved, ", %s changed, %s sent", cli_bytes(f.changed, changed), cli_bytes(f.sent, sent));
    }
    bool recover = strcmp(text_of(job, "kind"), "recover") == 0;
    snprintf(text, room, "%s %llu %s: %s %s%s, in %llu.%llu s", text_of(job, "kind"),
             (unsigned long long)number(job, "id"), text_of(job, "state"), cli_bytes(recover ? f.total / 2 : f.total, total),
             recover ? "written and read back" : "looked at", moved, (unsigned long long)took / 1000,
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

/* What was shown and seen last. */
struct watch {
    char line[768];
    uint64_t shown_ms;
    uint64_t leases, leases_ms; /* their sum, and since when it stands */
};

static unsigned terminal_columns(void)
{
    struct winsize size = {0};
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* Shows where the job is and what it does or waits for. */
static void show(const struct cli *cli, const json_t *job, uint64_t elapsed_ms, struct watch *watch)
{
    char phase[320], line[sizeof watch->line];
    uint64_t leases = leases_of(job);
    if (leases != watch->leases) {
        watch->leases = leases;
        watch->leases_ms = elapsed_ms;
    }
    cli_phase(job, far_clock_wall_ms(), elapsed_ms - watch->leases_ms, phase, sizeof phase);
    cli_progress_line(job, elapsed_ms, phase, cli->terminal ? terminal_columns() : 0, line, sizeof line);
    if (cli->terminal) {
        fprintf(stderr, "\r%s\033[K", line);
        fflush(stderr);
        return;
    }
    bool first = watch->line[0] == '\0', moved = strcmp(line, watch->line) != 0;
    if (moved && (first || elapsed_ms - watch->shown_ms >= LINE_EVERY_MS)) {
        fprintf(stderr, "%s\n", line);
        memcpy(watch->line, line, sizeof line);
        watch->shown_ms = elapsed_ms;
    }
}

int cli_wait_job(struct cli *cli, uint64_t job_id, struct far_error *err)
{
    char path[64], text[512];
    struct watch watch = {0};
    uint64_t start_ms = far_clock_monotonic_ms(), elapsed_ms = 0;
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
        show(cli, job, elapsed_ms, &watch);
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
