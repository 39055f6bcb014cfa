/* How the work goes, for people: the disks of a cycle with their figures, live or once; how a plan stands with its RPO and why it is
 * late; its newest cycles. The numbers are the API's; here they get units and columns. */
#include "cli.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LOOK_MS = 1000, LINES_EVERY_MS = 10000, REASON_MAX = 768 };

static uint64_t number(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

static bool is_number(const json_t *object, const char *name)
{
    return json_is_integer(json_object_get(object, name));
}

/* "source read at paris-1"; "-" if nothing is known. */
static const char *bottleneck(const json_t *figures, char text[128])
{
    static const struct {
        const char *name, *words;
    } all[] = {{"source_read", "source read"}, {"link", "link"},         {"target_write", "target write"}, {"processor", "processor"},
               {"memory", "memory"},           {"throttle", "throttle"}, {"peer", "peer missing"}};
    const char *name = text_of(figures, "bottleneck"), *node = text_of(figures, "bottleneck_node");
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        name = strcmp(name, all[i].name) == 0 ? all[i].words : name;
    }
    snprintf(text, 128, "%s%s%s", name[0] != '\0' ? name : "-", name[0] != '\0' && node[0] != '\0' ? " at " : "",
             name[0] != '\0' ? node : "");
    return text;
}

static const char *rate(uint64_t bytes_per_s, char text[48])
{
    char bytes[32];
    snprintf(text, 48, bytes_per_s == 0 ? "-" : "%s/s", cli_bytes(bytes_per_s, bytes));
    return text;
}

/* ---- a cycle ---- */

static json_t *disk_row(const json_t *task)
{
    const json_t *figures = json_object_get(task, "figures");
    char name[160], done[16], text[128], per_s[48], left[32];
    uint64_t total = number(task, "bytes_total"), behind = number(task, "bytes_done");
    snprintf(name, sizeof name, "%s/%s", text_of(task, "workload"), text_of(task, "disk"));
    uint64_t percent = behind >= total ? 100 : total < 1000 ? 0 : behind / (total / 100);
    snprintf(done, sizeof done, total == 0 ? "-" : "%llu %%", (unsigned long long)percent);
    bool runs = strcmp(text_of(task, "state"), "running") == 0;
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:O?, s:O?, s:O?, s:s, s:s, s:s}", "disk", name, "state",
                     text_of(task, "state"), "done", done, "bytes_total", (json_int_t)total, "bytes_changed",
                     (json_int_t)number(task, "bytes_changed"), "bytes_sent", (json_int_t)number(task, "bytes_sent"), "bytes_saved",
                     json_object_get(figures, "bytes_saved"), "window_bytes",
                     runs ? json_object_get(figures, "window_bytes") : NULL, "streams", runs ? json_object_get(figures, "streams") : NULL,
                     "rate", runs ? rate(number(figures, "bytes_per_s"), per_s) : "-", "left",
                     runs && is_number(figures, "left_for_ms") ? cli_span(number(figures, "left_for_ms"), left) : "-", "bottleneck",
                     runs ? bottleneck(figures, text) : "-");
}

/* What was looked at and did not have to be sent, and why not. */
static void print_saved(FILE *out, const json_t *job)
{
    static const struct {
        const char *field, *word;
    } parts[] = {{"bytes_zero", "zero"}, {"bytes_unchanged", "unchanged"}, {"bytes_known", "known to the target"},
                 {"bytes_encoded_away", "pages and compression"}};
    const json_t *figures = json_object_get(job, "figures");
    char text[32];
    const char *before = ": ";
    uint64_t ppm = number(figures, "reduction_ppm");
    fprintf(out, "saved %s (%llu.%llu %%)", cli_bytes(number(figures, "bytes_saved"), text), (unsigned long long)ppm / 10000,
            (unsigned long long)ppm / 1000 % 10);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        uint64_t bytes = number(figures, parts[i].field);
        if (bytes != 0) {
            fprintf(out, "%s%s %s", before, cli_bytes(bytes, text), parts[i].word);
            before = ", ";
        }
    }
    fputc('\n', out);
}

/* Did a node say anything about a disk? */
static bool has_begun(const json_t *job)
{
    const json_t *task;
    size_t i;
    json_array_foreach(json_object_get(job, "tasks"), i, task) {
        if (json_is_object(json_object_get(task, "figures"))) {
            return true;
        }
    }
    return number(job, "bytes_total") != 0;
}

void cli_print_cycle(FILE *out, const json_t *job)
{
    const json_t *figures = json_object_get(job, "figures"), *task;
    json_t *rows = json_array();
    char done[32], all[32], changed[32], sent[32], per_s[48], text[128];
    size_t i;
    if (!json_is_object(figures) || !has_begun(job)) {
        json_decref(rows);
        return;
    }
    fprintf(out, "looked at %s of %s, %s changed, %s sent\n", cli_bytes(number(job, "bytes_done"), done),
            cli_bytes(number(job, "bytes_total"), all), cli_bytes(number(job, "bytes_changed"), changed),
            cli_bytes(number(job, "bytes_sent"), sent));
    print_saved(out, job);
    if (strcmp(text_of(job, "state"), "running") == 0) {
        bool moves = number(figures, "bytes_per_s") != 0;
        fprintf(out, "%s now", moves ? rate(number(figures, "bytes_per_s"), per_s) : "nothing gets on");
        if (is_number(figures, "left_for_ms")) {
            fprintf(out, ", about %s left", cli_span(number(figures, "left_for_ms"), all));
        }
        if (text_of(figures, "bottleneck")[0] != '\0') {
            fprintf(out, ", held up by: %s", bottleneck(figures, text));
        }
        fputc('\n', out);
    }
    json_array_foreach(json_object_get(job, "tasks"), i, task) {
        if (strcmp(text_of(task, "kind"), "send") == 0) {
            json_array_append_new(rows, disk_row(task));
        }
    }
    fputc('\n', out);
    cli_print_table(out, rows, "disk:DISK state:STATE done:DONE bytes_total:OF bytes_changed:CHANGED bytes_sent:SENT bytes_saved:SAVED "
                               "window_bytes:WINDOW streams:STREAMS rate:RATE left:LEFT bottleneck:BOTTLENECK");
    json_decref(rows);
}

/* ---- job watch ---- */

static void print_watched(FILE *out, const json_t *job)
{
    char phase[320];
    fprintf(out, "job %llu: %s of plan '%s', %s\n", (unsigned long long)number(job, "id"), text_of(job, "kind"), text_of(job, "plan"),
            text_of(job, "state"));
    if (strcmp(text_of(job, "state"), "running") == 0) {
        cli_phase(job, far_clock_wall_ms(), 0, phase, sizeof phase);
        fprintf(out, "now: %s\n", phase);
    }
    cli_print_cycle(out, job);
}

/* As many lines and columns as the terminal has; what is beyond is cut. Returns the lines that were printed. */
static unsigned print_cut(FILE *out, const char *text)
{
    struct winsize size = {0};
    bool known = ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 1;
    unsigned columns = known ? size.ws_col : 80, rows = known ? size.ws_row - 1u : 24, lines = 0;
    for (const char *line = text; *line != '\0' && lines < rows; lines++) {
        size_t len = strcspn(line, "\n");
        fprintf(out, "%.*s\033[K\n", (int)(len < columns ? len : columns - 1), line);
        line += len + (line[len] == '\n');
    }
    return lines;
}

/* Draws over what was drawn before. */
static int draw(FILE *out, const json_t *job, unsigned *lines, struct far_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    if (memory == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the table");
    }
    print_watched(memory, job);
    fclose(memory);
    if (*lines > 0) {
        fprintf(out, "\033[%uA", *lines);
    }
    *lines = print_cut(out, text);
    fprintf(out, "\033[J");
    fflush(out);
    free(text);
    return 0;
}

int cli_run_job_watch(struct cli *cli, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    bool is_terminal = isatty(fileno(cli->out)) != 0, is_over = false;
    unsigned lines = 0;
    uint64_t shown_ms = 0;
    int rc = cli_path(cli, path, err);
    while (rc == 0 && !is_over) {
        json_t *job = NULL;
        rc = cli_request(cli, "GET", path, NULL, &job, err);
        if (rc != 0) {
            break;
        }
        uint64_t now_ms = far_clock_monotonic_ms();
        is_over = strcmp(text_of(job, "state"), "running") != 0;
        if (cli->json) {
            json_dumpf(job, cli->out, JSON_COMPACT);
            fputc('\n', cli->out);
        } else if (is_terminal) {
            rc = draw(cli->out, job, &lines, err);
        } else if (is_over || shown_ms == 0 || now_ms - shown_ms >= LINES_EVERY_MS) {
            print_watched(cli->out, job);
            shown_ms = now_ms;
        }
        fflush(cli->out);
        json_decref(job);
        if (rc == 0 && !is_over) {
            usleep(LOOK_MS * 1000);
        }
    }
    return rc;
}

/* ---- plans ---- */

static const char *span(uint64_t seconds, char text[32])
{
    return cli_span(seconds * 1000, text);
}

void cli_print_rpo(FILE *out, const json_t *rpo, uint64_t now_ms)
{
    char age[32], when[32], promised[32], cell[REASON_MAX];
    const json_t *reason;
    size_t i;
    json_int_t slack = json_integer_value(json_object_get(rpo, "slack_s"));
    fprintf(out, "recovery point: ");
    if (is_number(rpo, "newest_ms")) {
        fprintf(out, "%s old, of %s (workload '%s')\n", span(number(rpo, "age_s"), age), cli_time(number(rpo, "newest_ms"), when),
                text_of(rpo, "workload"));
    } else if (text_of(rpo, "workload")[0] != '\0') {
        fprintf(out, "none yet (workload '%s')\n", text_of(rpo, "workload"));
    } else {
        fprintf(out, "none yet\n");
    }
    if (number(rpo, "promised_s") == 0) {
        fprintf(out, "promised RPO: none ('farshore plan set-policy NAME --rpo SECONDS' makes one)\n");
    } else if (!is_number(rpo, "slack_s")) {
        fprintf(out, "promised RPO: %s\n", span(number(rpo, "promised_s"), promised));
    } else {
        fprintf(out, "promised RPO: %s, %s%s\n", span(number(rpo, "promised_s"), promised), slack < 0 ? "LATE by " : "left: ",
                span((uint64_t)(slack < 0 ? -slack : slack), age));
    }
    if (is_number(rpo, "expected_ms")) {
        uint64_t expected_ms = number(rpo, "expected_ms");
        fprintf(out, "next point: about %s, in %s\n", cli_time(expected_ms, when),
                cli_span(expected_ms > now_ms ? (expected_ms - now_ms) / 1000 * 1000 : 0, age));
    }
    json_array_foreach(json_object_get(rpo, "reasons"), i, reason) {
        cli_cell("text", json_object_get(reason, "text"), cell, sizeof cell);
        if (i == 0) {
            fprintf(out, "%s\n", json_is_true(json_object_get(rpo, "late")) ? "why it is late:" : "what the next point waits for:");
        }
        fprintf(out, "  - %s\n", cell);
    }
}

static json_t *cycle_row(const json_t *cycle)
{
    char took[32], rpo[32];
    bool runs = strcmp(text_of(cycle, "state"), "running") == 0;
    const json_t *figures = json_object_get(cycle, "figures"), *reached = json_object_get(cycle, "rpo_reached_s");
    return json_pack("{s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s}", "id", (json_int_t)number(cycle, "id"), "started_ms",
                     (json_int_t)number(cycle, "started_ms"), "state", text_of(cycle, "state"), "took",
                     cli_span(number(cycle, "duration_ms"), took), "bytes_total", (json_int_t)number(cycle, "bytes_total"),
                     "bytes_changed", (json_int_t)number(cycle, "bytes_changed"), "bytes_sent", (json_int_t)number(cycle, "bytes_sent"),
                     "saved_ppm", (json_int_t)number(figures, "reduction_ppm"), "rpo",
                     json_is_integer(reached) && !runs ? span((uint64_t)json_integer_value(reached), rpo) : "-", "error_message",
                     text_of(cycle, "error_message"));
}

int cli_run_plan_history(struct cli *cli, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    json_t *items = NULL, *cycle;
    size_t i;
    int rc = cli_path(cli, path, err);
    rc = rc != 0 ? rc : cli_list(cli, path, &items, err);
    if (rc != 0) {
        return rc;
    }
    if (cli->json) {
        cli_print_json(cli->out, items);
    } else {
        json_t *rows = json_array();
        json_array_foreach(items, i, cycle) {
            json_array_append_new(rows, cycle_row(cycle));
        }
        cli_print_table(cli->out, rows, "started_ms:STARTED id:JOB state:STATE took:TOOK bytes_total:LOOKED-AT bytes_changed:CHANGED "
                                        "bytes_sent:SENT saved_ppm:SAVED rpo:RPO-REACHED error_message:ERROR");
        json_decref(rows);
    }
    json_decref(items);
    return 0;
}
