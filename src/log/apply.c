/* Apply one committed entry to a store. See apply.h. */
#include "log/apply.h"

#include "fsm/rows.h"

/* Move the applied index on to the next entry. */
static int advance(struct far_store_txn *txn, uint64_t index, uint64_t term, struct far_error *err)
{
    struct far_store_meta *meta = far_store_meta(txn);
    if (index != meta->applied_index + 1 || term < meta->applied_term) {
        return far_fail(err, FAR_CORRUPT, "log entry %llu of term %llu cannot follow entry %llu of term %llu",
                        (unsigned long long)index, (unsigned long long)term, (unsigned long long)meta->applied_index,
                        (unsigned long long)meta->applied_term);
    }
    meta->applied_index = index;
    meta->applied_term = term;
    return 0;
}

static int append_event(void *arg, const struct far_event *event, struct far_error *err)
{
    return far_store_event_append(arg, event, err);
}

void far_apply_memory_forget(struct far_apply_memory *memory)
{
    far_rows_free(memory->rows);
    memory->rows = NULL;
    far_history_done(&memory->history);
}

/* The state, its rows held until the entry's commands are done: what they change is written once. */
static int begin_rows(struct far_apply_memory *memory, struct far_store_txn *txn, struct far_state *ret_state, struct far_error *err)
{
    bool has_history = far_store_history(txn) != NULL;
    int rv = has_history ? far_history_resume(&memory->history, txn, err) : 0;
    if (rv != 0) {
        return rv;
    }
    *ret_state = (struct far_state){.kv = has_history ? &memory->history.kv : far_store_kv(txn), .digest = far_store_meta(txn)->digest};
    memory->rows = memory->rows != NULL ? memory->rows : far_rows_new(ret_state->kv, true);
    ret_state->rows = memory->rows;
    return memory->rows != NULL ? 0 : far_fail(err, FAR_LIMIT, "out of memory");
}

int far_apply_commands(struct far_store_txn *txn, uint64_t index, uint64_t term, struct far_slice entry,
                       far_apply_fn on_result, void *arg, struct far_error *err)
{
    struct far_envelope envelope;
    int rv = far_envelope_open(entry, &envelope, err);
    if (rv != 0) {
        far_error_context(err, "apply entry %llu", (unsigned long long)index);
        return rv;
    }
    if (envelope.index != index || envelope.term != term) {
        return far_fail(err, FAR_CORRUPT, "log entry %llu of term %llu lies where entry %llu of term %llu belongs",
                        (unsigned long long)envelope.index, (unsigned long long)envelope.term,
                        (unsigned long long)index, (unsigned long long)term);
    }
    bool is_kept = txn->memory != NULL && far_store_history(txn) != NULL; /* what the rows lie on outlives the transaction */
    struct far_apply_memory own = {0}, *memory = is_kept ? txn->memory : &own;
    struct far_command command;
    rv = advance(txn, index, term, err);
    struct far_state state;
    rv = rv != 0 ? rv : begin_rows(memory, txn, &state, err);
    for (unsigned position = 0; rv == 0 && far_envelope_next(&envelope, &command); position++) {
        struct far_result result = {0};
        rv = far_fsm_apply(&state, index, &command, append_event, txn, &result, err);
        if (rv == 0 && on_result != NULL) {
            on_result(arg, position, &command, &result);
        }
    }
    rv = rv != 0 ? rv : far_rows_flush(state.rows, &state.digest, err);
    if (rv == 0) {
        far_store_meta(txn)->digest = state.digest;
    }
    if (rv != 0 || memory == &own) {
        far_apply_memory_forget(memory);
    }
    return rv;
}

/* How many commands it has, as far as it can be read. */
static uint64_t count_commands(struct far_slice entry)
{
    struct far_envelope envelope;
    struct far_command command;
    uint64_t count = 0;
    if (far_envelope_open(entry, &envelope, NULL) == 0) {
        while (far_envelope_next(&envelope, &command)) {
            count++;
        }
    }
    return count;
}

int far_apply_skip(struct far_store_txn *txn, uint64_t index, uint64_t term, struct far_slice entry, struct far_error *err)
{
    struct far_history history;
    struct far_buf payload;
    struct far_result result = {0};
    struct far_cmd_entry_skip skip = {
        .index = index, .entry_hash = far_hash64(entry.data, entry.len), .commands = count_commands(entry)};
    bool has_history = far_store_history(txn) != NULL;
    if (txn->memory != NULL) {
        far_apply_memory_forget(txn->memory);
    }
    far_buf_init(&payload, 256);
    int rv = has_history ? far_history_begin(&history, txn, err) : 0;
    rv = rv != 0 ? rv : advance(txn, index, term, err);
    rv = rv != 0 ? rv : far_schema_encode(&far_schema_cmd_entry_skip, &skip, &payload, err);
    if (rv == 0) {
        struct far_state state = {.kv = has_history ? &history.kv : far_store_kv(txn), .digest = far_store_meta(txn)->digest};
        struct far_command command = {.kind = FAR_KIND_cmd_entry_skip,
                                      .actor = far_actor(FAR_ACTOR_SYSTEM, 0),
                                      .payload = far_buf_slice(&payload)};
        rv = far_fsm_apply(&state, index, &command, append_event, txn, &result, err);
        far_store_meta(txn)->digest = state.digest;
    }
    if (rv == 0 && result.klass != 0) {
        rv = far_fail(err, FAR_CORRUPT, "entry %llu cannot be skipped: %s", (unsigned long long)index, result.message);
    }
    far_buf_done(&payload);
    return rv;
}

int far_apply_barrier(struct far_store_txn *txn, uint64_t index, uint64_t term, struct far_error *err)
{
    return advance(txn, index, term, err);
}

int far_apply_configuration(struct far_store_txn *txn, uint64_t index, uint64_t term, struct far_slice configuration,
                            struct far_error *err)
{
    struct far_store_meta *meta = far_store_meta(txn);
    if (configuration.len > sizeof meta->configuration) {
        return far_fail(err, FAR_LIMIT, "the cluster configuration has %zu bytes, the limit is %zu", configuration.len,
                        sizeof meta->configuration);
    }
    int rv = advance(txn, index, term, err);
    if (rv == 0) {
        memcpy(meta->configuration, configuration.data, configuration.len);
        meta->configuration_len = configuration.len;
        meta->configuration_index = index;
    }
    return rv;
}

enum far_apply_haste far_apply_haste(uint16_t kind)
{
    switch (kind) {
    case FAR_KIND_cmd_node_report:
    case FAR_KIND_cmd_workload_create:
    case FAR_KIND_cmd_workload_update:
    case FAR_KIND_cmd_consumer_ack:
    case FAR_KIND_cmd_head_propose:
    case FAR_KIND_cmd_head_sign:
    case FAR_KIND_cmd_progress_compact:
        return FAR_HASTE_NONE;
    case FAR_KIND_cmd_token_create:
    case FAR_KIND_cmd_token_revoke:
        return FAR_HASTE_NOW;
    default:
        return FAR_HASTE_SOON;
    }
}
