/* Reports that the servers refused: see reports.h. A batch is one command: what is wrong with one item has all of them refused. So what was
 * in it goes one by one until each was taken or is known as the one that is refused; the others go on beside it. */
#include "node/reports_private.h"

#include <stdio.h>
#include <stdlib.h>

enum { HOLD_MS = 500, HOLD_MS_MAX = 60000 };

void far_report_strip(struct far_report_entry *entry)
{
    struct far_engine_report r = entry->report;
    free(entry->found);
    far_engine_vault_unref(r.vault);
    far_engine_used_unref(r.used);
    far_captured_unref(r.captured);
    far_engine_machined_unref(r.machined);
    far_engine_lost_unref(r.lost);
    far_engine_scripted_unref(r.scripted);
    entry->found = NULL;
    entry->report = (struct far_engine_report){.job_id = r.job_id,
                                               .task = r.task,
                                               .attempt = r.attempt,
                                               .state = r.state,
                                               .outcome = r.outcome,
                                               .error_class = r.error_class,
                                               .bytes_total = r.bytes_total,
                                               .bytes_done = r.bytes_done,
                                               .bytes_changed = r.bytes_changed,
                                               .bytes_sent = r.bytes_sent,
                                               .duration_ms = r.duration_ms};
    memcpy(entry->report.error_message, r.error_message, sizeof r.error_message);
}

void far_reports_split(struct far_reports *reports)
{
    pthread_mutex_lock(&reports->mutex);
    for (size_t i = 0; i < FAR_REPORTS_MAX; i++) {
        struct far_report_entry *e = &reports->entries[i];
        if (e->in_batch) {
            e->in_batch = false;
            e->fresh = e->suspect = e->urgent = true;
        }
    }
    pthread_mutex_unlock(&reports->mutex);
}

static enum far_refused hold(struct far_report_entry *e, uint64_t now_ms)
{
    uint64_t pause_ms = HOLD_MS;
    for (unsigned i = 0; i < e->refusals && pause_ms < HOLD_MS_MAX; i++) {
        pause_ms *= 2;
    }
    e->refusals++;
    e->hold_ms = now_ms + (pause_ms < HOLD_MS_MAX ? pause_ms : HOLD_MS_MAX);
    return FAR_REFUSED_LATER;
}

/* The log must not wait for a result that it never takes: it hears of a failure, which is little, and says why. */
static enum far_refused cut(struct far_report_entry *e, int klass, const char *message)
{
    struct far_engine_report *r = &e->report;
    far_report_strip(e);
    e->cut = FAR_CUT_BARE;
    if (r->state == FAR_ENGINE_DONE) {
        r->state = FAR_ENGINE_FAILED;
        r->outcome = FAR_ADAPTER_FATAL; /* done again it would come to the same */
        r->error_class = klass;
        snprintf(r->error_message, sizeof r->error_message, "it was done, and the servers refuse what came of it: %.300s", message);
    }
    e->is_end_cut = r->state != FAR_ENGINE_RUNNING;
    e->refusals = 0;
    e->hold_ms = 0;
    return FAR_REFUSED_CUT;
}

static enum far_refused drop(struct far_report_entry *e)
{
    if (e->report.state != FAR_ENGINE_RUNNING) {
        far_report_entry_clear(e);
    } else { /* it stays, so that what is told of this attempt later is known as refused */
        e->fresh = e->urgent = e->suspect = false;
        e->cut = FAR_CUT_ALL;
    }
    return FAR_REFUSED_DROPPED;
}

enum far_refused far_reports_refuse(struct far_reports *reports, const struct far_report_key *key, int klass, const char *message,
                                    uint64_t now_ms)
{
    enum far_refused what = FAR_REFUSED_NOTHING;
    pthread_mutex_lock(&reports->mutex);
    struct far_report_entry *e = far_report_find(reports, key->job_id, key->task, NULL);
    if (e != NULL && e->in_batch && e->report.attempt == key->attempt) {
        e->in_batch = false;
        e->fresh = e->suspect = e->urgent = true;
        what = far_class_info(klass)->retry != FAR_RETRY_NEVER ? hold(e, now_ms)
               : e->cut == FAR_CUT_NOTHING                     ? cut(e, klass, message)
                                                               : drop(e);
    }
    pthread_mutex_unlock(&reports->mutex);
    return what;
}
