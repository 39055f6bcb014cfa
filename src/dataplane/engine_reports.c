/* Reports of attempts: running from the ticker, the end from the attempt's own thread, the end once more from memory.
 * One attempt's reports come one at a time; report_mutex is held during the callback and nothing else is. */
#include "dataplane/engine_local.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { TICK_MS = 1000 };

static void report_key(const struct far_attempt *attempt, struct far_engine_report *report)
{
    report->job_id = attempt->order.job_id;
    report->task = attempt->order.task;
    report->attempt = attempt->order.attempt;
    report->bytes_total = atomic_load(&attempt->bytes_total);
    report->bytes_done = atomic_load(&attempt->bytes_done);
    report->bytes_changed = atomic_load(&attempt->bytes_changed);
    report->bytes_sent = atomic_load(&attempt->bytes_sent);
    report->hashed_bytes = atomic_load(&attempt->hashed_bytes);
    report->figures = (struct far_engine_figures){
        .bytes_read = atomic_load(&attempt->figures.bytes_read),
        .bytes_zero = atomic_load(&attempt->figures.bytes_zero),
        .bytes_known = atomic_load(&attempt->figures.bytes_known),
        .bytes_wanted = atomic_load(&attempt->figures.bytes_wanted),
        .window_bytes = atomic_load(&attempt->figures.window_bytes),
        .streams = atomic_load(&attempt->figures.streams),
        .bottleneck = (enum far_engine_bottleneck)atomic_load(&attempt->figures.bottleneck),
    };
    report->duration_ms = far_clock_monotonic_ms() - attempt->started_ms;
}

void far_attempt_report_running(struct far_attempt *attempt)
{
    struct far_engine_report report = {.state = FAR_ENGINE_RUNNING, .outcome = FAR_ADAPTER_OK};
    report_key(attempt, &report);
    pthread_mutex_lock(&attempt->report_mutex);
    report.used = attempt->used;
    if (!attempt->silent && !far_attempt_stopped(attempt)) {
        attempt->engine->report(attempt->engine->report_arg, &report);
    }
    pthread_mutex_unlock(&attempt->report_mutex);
}

static enum far_adapter_outcome outcome_of(int klass)
{
    return far_class_info(klass)->retry == FAR_RETRY_NEVER ? FAR_ADAPTER_FATAL : FAR_ADAPTER_RETRY;
}

static void remember(struct far_engine *engine, const struct far_engine_report *report)
{
    pthread_mutex_lock(&engine->mutex);
    struct far_engine_report *kept = &engine->remembered[engine->remembered_count++ % FAR_ENGINE_REMEMBERED_MAX];
    free((void *)kept->disks);
    far_engine_vault_unref(kept->vault);
    far_engine_used_unref(kept->used);
    far_captured_unref(kept->captured);
    far_engine_machined_unref(kept->machined);
    far_engine_lost_unref(kept->lost);
    far_engine_scripted_unref(kept->scripted);
    *kept = *report;
    kept->disks = NULL;
    kept->vault = far_engine_vault_ref(report->vault);
    kept->used = far_engine_used_ref(report->used);
    kept->captured = far_captured_ref(report->captured);
    kept->machined = far_engine_machined_ref(report->machined);
    kept->lost = far_engine_lost_ref(report->lost);
    kept->scripted = far_engine_scripted_ref(report->scripted);
    if (report->disk_count > 0) {
        struct far_engine_found *disks = calloc(report->disk_count, sizeof *disks);
        kept->disk_count = disks != NULL ? report->disk_count : 0;
        if (disks != NULL) {
            memcpy(disks, report->disks, report->disk_count * sizeof *disks);
        }
        kept->disks = disks;
    }
    pthread_mutex_unlock(&engine->mutex);
}

void far_attempt_report_end(struct far_attempt *attempt, struct far_engine_report *report, int rc,
                       const struct far_error *error)
{
    report_key(attempt, report);
    report->state = rc == 0 ? FAR_ENGINE_DONE : FAR_ENGINE_FAILED;
    if (rc == 0) {
        report->outcome = FAR_ADAPTER_OK;
    } else {
        report->error_class = error->klass;
        snprintf(report->error_message, sizeof report->error_message, "%.*s",
                 (int)sizeof report->error_message - 1, error->message);
        report->outcome = report->outcome != 0 && report->outcome != FAR_ADAPTER_OK ? report->outcome
                                                                                   : outcome_of(error->klass);
    }
    if (!far_attempt_stopped(attempt)) {
        remember(attempt->engine, report);
    }
    pthread_mutex_lock(&attempt->report_mutex);
    if (!attempt->silent && !far_attempt_stopped(attempt)) {
        attempt->engine->report(attempt->engine->report_arg, report);
    }
    attempt->silent = true;
    pthread_mutex_unlock(&attempt->report_mutex);
}

bool far_engine_report_again(struct far_engine *engine, const struct far_engine_order *order)
{
    uint64_t kept = engine->remembered_count < FAR_ENGINE_REMEMBERED_MAX ? engine->remembered_count
                                                                         : FAR_ENGINE_REMEMBERED_MAX;
    for (uint64_t i = 0; i < kept; i++) {
        struct far_engine_report report = engine->remembered[i];
        if (report.job_id != order->job_id || report.task != order->task || report.attempt != order->attempt) {
            continue;
        }
        struct far_engine_found disks[FAR_ENGINE_DISKS_MAX];
        if (report.disk_count > 0) {
            memcpy(disks, report.disks, report.disk_count * sizeof disks[0]);
            report.disks = disks;
        }
        struct far_engine_vault *vault = far_engine_vault_ref(report.vault);
        struct far_engine_used *used = far_engine_used_ref(report.used);
        struct far_captured *captured = far_captured_ref(report.captured);
        struct far_engine_machined *machined = far_engine_machined_ref(report.machined);
        struct far_engine_lost *lost = far_engine_lost_ref(report.lost);
        struct far_engine_scripted *scripted = far_engine_scripted_ref(report.scripted);
        pthread_mutex_unlock(&engine->mutex);
        engine->report(engine->report_arg, &report);
        far_engine_vault_unref(vault);
        far_engine_used_unref(used);
        far_captured_unref(captured);
        far_engine_machined_unref(machined);
        far_engine_lost_unref(lost);
        far_engine_scripted_unref(scripted);
        pthread_mutex_lock(&engine->mutex);
        return true;
    }
    return false;
}

void *far_engine_ticker_main(void *arg)
{
    struct far_engine *engine = arg;
    struct far_attempt *batch[FAR_ENGINE_ATTEMPTS_MAX];
    uint64_t due_ms = far_clock_monotonic_ms() + TICK_MS;
    pthread_mutex_lock(&engine->mutex);
    while (!engine->closing) {
        uint64_t now_ms = far_clock_monotonic_ms();
        if (now_ms < due_ms) {
            far_engine_wait(engine, due_ms - now_ms);
            continue;
        }
        due_ms = now_ms + TICK_MS;
        size_t count = 0;
        for (struct far_attempt *a = engine->attempts; a != NULL && count < FAR_ENGINE_ATTEMPTS_MAX; a = a->next) {
            if (!atomic_load(&a->ended)) {
                a->users++;
                batch[count++] = a;
            }
        }
        pthread_mutex_unlock(&engine->mutex);
        for (size_t i = 0; i < count; i++) {
            far_attempt_report_running(batch[i]);
            far_attempt_unref(batch[i]);
        }
        pthread_mutex_lock(&engine->mutex);
    }
    pthread_mutex_unlock(&engine->mutex);
    return NULL;
}
