/* What came of a commit: see apply_outcome.h. */
#include "log/apply_outcome.h"

#include "base/logging.h"
#include "fsm/query.h"
#include "log/older.h"

#include <stdlib.h>

enum { ROW_ARENA_MAX = 64 * 1024 };

void far_apply_stop_server(const struct far_error *err)
{
    far_logf(FAR_LEVEL_ERROR, "apply", "the server stops: %s", err->message);
    abort();
}

struct far_apply_outcome *far_apply_outcome_new(void)
{
    struct far_apply_outcome *outcome = calloc(1, sizeof *outcome);
    if (outcome == NULL) {
        far_apply_stop_server(&(struct far_error){.message = "out of memory"});
    }
    outcome->next_deadline_ms = UINT64_MAX;
    return outcome;
}

void far_apply_outcome_free(struct far_apply_outcome *outcome)
{
    if (outcome != NULL) {
        free(outcome->marks);
        free(outcome->results);
        free(outcome);
    }
}

/* Memory for the answers must not fail half-way: without it the server cannot go on. */
static void *grown(void *items, size_t *cap, size_t count, size_t size)
{
    if (count < *cap) {
        return items;
    }
    *cap = *cap == 0 ? 64 : *cap * 2;
    items = realloc(items, *cap * size);
    if (items == NULL) {
        far_apply_stop_server(&(struct far_error){.message = "out of memory"});
    }
    return items;
}

void far_apply_outcome_result(struct far_apply_outcome *outcome, const struct far_apply_result *result)
{
    outcome->results = grown(outcome->results, &outcome->results_cap, outcome->result_count, sizeof *outcome->results);
    outcome->results[outcome->result_count++] = *result;
}

void far_apply_outcome_mark(struct far_apply_outcome *outcome, const struct far_store_meta *meta)
{
    outcome->marks = grown(outcome->marks, &outcome->marks_cap, outcome->mark_count, sizeof *outcome->marks);
    struct far_mark *mark = &outcome->marks[outcome->mark_count++];
    *mark = (struct far_mark){.index = meta->applied_index, .last_seq = meta->last_seq, .digest = meta->digest};
    memcpy(mark->head, meta->head, FAR_HEAD_SIZE);
}

struct far_apply_outcome *far_apply_outcome_split(struct far_apply_outcome *outcome)
{
    struct far_apply_outcome *early = outcome->result_count == 0 ? NULL : calloc(1, sizeof *early);
    if (early != NULL) {
        early->is_early = true;
        early->results = outcome->results;
        early->result_count = outcome->result_count;
        outcome->results = NULL;
        outcome->result_count = outcome->results_cap = 0;
    }
    return early;
}

/* What the state wants from the leader next. */
int far_apply_outcome_clock(struct far_store_txn *txn, struct far_apply_outcome *outcome, struct far_error *err)
{
    struct far_state state = {.kv = far_store_kv(txn), .digest = far_store_meta(txn)->digest};
    struct far_row_progress progress = {0};
    struct far_key key = far_key(&far_schema_row_progress);
    struct far_arena arena;
    far_arena_init(&arena, ROW_ARENA_MAX);
    int rv = far_state_get(&state, &far_schema_row_progress, &key, &arena, &progress, err);
    outcome->time_ms = progress.time_ms;
    outcome->clock_verdict = progress.clock_verdict;
    outcome->clock_off_ms = progress.clock_off_ms;
    if (rv == 0) {
        struct far_row_cluster cluster;
        key = far_key(&far_schema_row_cluster);
        rv = far_state_get(&state, &far_schema_row_cluster, &key, &arena, &cluster, err);
        outcome->feature_level = rv == 0 ? cluster.feature_level : 0;
    }
    far_arena_done(&arena);
    if (rv != 0 && rv != FAR_NOT_FOUND) {
        return rv;
    }
    return far_query_next_deadline(&state, &outcome->next_deadline_ms, err);
}

void far_apply_outcome_describe(struct far_apply_outcome *outcome, struct far_store *store)
{
    struct far_store_txn *txn;
    struct far_error err;
    if (far_store_begin(store, false, &txn, &err) != 0) {
        far_apply_stop_server(&err);
    }
    const struct far_store_meta *meta = far_store_meta(txn);
    outcome->applied_index = meta->applied_index;
    outcome->applied_term = meta->applied_term;
    outcome->first_seq = meta->first_seq;
    outcome->oldest_seq = far_older_first(meta);
    outcome->last_seq = meta->last_seq;
    struct far_row_retention retention;
    uint64_t now_ms;
    if (far_retain_row(txn, &retention, &now_ms, &err) != 0) {
        far_apply_stop_server(&err);
    }
    outcome->cut_seq = retention.first_seq;
    outcome->compact_is_due = retention.compacted_seq > meta->compacted_seq;
    outcome->durable_index = far_store_durable_index(store);
    if (outcome->mark_count == 0 && far_apply_outcome_clock(txn, outcome, &err) != 0) {
        far_apply_stop_server(&err);
    }
    if (outcome->mark_count == 0 && outcome->jobs[FAR_JOB_INSTALL_FINISH] > 0) {
        far_apply_outcome_mark(outcome, meta);
    }
    far_store_abort(txn);
}
