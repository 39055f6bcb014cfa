/* farshore run test, failover, migrate, gate-pass: runs of plans. Each is a job that lives until its machines are gone or committed, so
 * --wait waits only until they are up, or until something holds the run. */
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

int cli_run_run_start(struct cli *cli, struct far_error *err)
{
    uint64_t job_id = 0;
    int rc = cli_begin_job(cli, NULL, &job_id, err);
    return rc == 0 && job_id != 0 && cli_value(&cli->parsed, "wait") != NULL ? wait_for_run(cli, job_id, err) : rc;
}

int cli_run_gate_pass(struct cli *cli, struct far_error *err)
{
    json_t *extra = json_pack("{s:s}", "workload", cli->parsed.argument2);
    int rc = extra != NULL ? cli_write_and_say(cli, extra, err) : far_fail(err, FAR_INVALID, "the name is not UTF-8");
    json_decref(extra);
    return rc;
}
