/* GET /metrics: the state and this server in the text format of Prometheus (version 0.0.4). It needs a token as every read does.
 *
 * Bounded: at most SERIES_MAX objects of each sort are named; how many were left out is a metric itself. Labels are names of objects,
 * words of lists in events.def, and ids of servers, nothing else. */
#include "api/request.h"

#include "fsm/query.h"
#include "fsm/rows.h"
#include "fsm/task.h"

#include <stdarg.h>
#include <stdio.h>

enum { SERIES_MAX = 2000, TEXT_BYTES = 16 * 1024 * 1024, SAMPLE_MAX = 768, LABEL_BYTES = 512, SCRATCH_MAX = 1024 * 1024 };

/* All samples of a metric stand together: each has text of its own. */
#define METRICS(X)                                                                                                          \
    X(log_applied_index, "gauge", "Log entries that this server has applied")                                               \
    X(log_commit_index, "gauge", "Log entries that this server knows to be committed")                                      \
    X(log_last_seq, "gauge", "The last event")                                                                              \
    X(log_term, "gauge", "Raft term")                                                                                       \
    X(log_is_leader, "gauge", "1 on the server that leads")                                                                 \
    X(log_stale, "gauge", "1 while no word from a leader came lately")                                                      \
    X(member_applied_index, "gauge", "Log entries that each member said it applied")                                        \
    X(member_up, "gauge", "1 for members that said something lately, by role")                                              \
    X(alerts_open, "gauge", "Alerts whose cause is there")                                                                  \
    X(plan_rpo_age_seconds, "gauge", "Age of the plan's newest recovery point")                                             \
    X(plan_rpo_promised_seconds, "gauge", "The promised RPO; no sample: nothing is promised")                               \
    X(plan_rpo_late, "gauge", "1 while the newest point is older than promised")                                            \
    X(plan_active, "gauge", "1 for plans that are started")                                                                 \
    X(plan_cycle_running, "gauge", "1 while a replication cycle runs")                                                      \
    X(node_up, "gauge", "1 for nodes whose lease lasts")                                                                    \
    X(node_drained, "gauge", "1 for drained nodes")                                                                         \
    X(node_tasks, "gauge", "Tasks that a node holds")                                                                       \
    X(node_running_tasks, "gauge", "Tasks that run on a node")                                                              \
    X(node_send_limit_bytes_per_second, "gauge", "What a node may send; no sample: as much as it can")                      \
    X(vault_bytes, "gauge", "Bytes of a vault's file system and what it holds, by kind, as it said last")                   \
    X(vault_points, "gauge", "Recovery points in a vault that are not removed")                                             \
    X(vault_proven_timestamp_seconds, "gauge", "Since then a scrub read everything in the vault; no sample: none did yet")  \
    X(vault_damaged_points, "gauge", "Recovery points of the vault that need what scrubs found damaged")                   \
    X(vault_reclaimed_timestamp_seconds, "gauge", "When the last pass of reclaim was done; no sample: never")               \
    X(transfer_bytes, "gauge", "Bytes of a running transfer's attempt, by kind")                                            \
    X(transfer_bytes_per_second, "gauge", "How fast a transfer gets on, and what it sends, lately")                         \
    X(transfer_window_bytes, "gauge", "Bytes of a transfer that may be in flight")                                          \
    X(transfer_streams, "gauge", "Open connections of a transfer")                                                          \
    X(transfer_bottleneck, "gauge", "1 with what holds a transfer up")                                                      \
    X(series_left_out, "gauge", "Objects that are not shown, of a sort of which there are too many")

enum metric {
#define X(name, type, help) METRIC_##name,
    METRICS(X)
#undef X
    METRIC_COUNT
};
static const char *const names[] = {
#define X(name, type, help) #name,
    METRICS(X)
#undef X
};
static const char *const types[] = {
#define X(name, type, help) type,
    METRICS(X)
#undef X
};
static const char *const helps[] = {
#define X(name, type, help) help,
    METRICS(X)
#undef X
};

struct scrape {
    struct far_api_request *request;
    struct far_log_view view;
    struct far_state rows; /* the same, rows are decoded once */
    struct far_arena scratch;
    uint64_t now_ms;
    struct far_buf texts[METRIC_COUNT];
    bool is_full;
};

/* ---- samples ---- */

static void sample(struct scrape *s, enum metric metric, const char *labels, uint64_t value)
{
    char line[SAMPLE_MAX];
    snprintf(line, sizeof line, "farshore_%s%s%s%s %llu\n", names[metric], labels[0] != '\0' ? "{" : "", labels,
             labels[0] != '\0' ? "}" : "", (unsigned long long)value);
    s->is_full = far_buf_append_str(&s->texts[metric], line) != 0 || s->is_full;
}

static const char *label(char text[LABEL_BYTES], const char *format, ...) __attribute__((format(printf, 2, 3)));
static const char *label(char text[LABEL_BYTES], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(text, LABEL_BYTES, format, args);
    va_end(args);
    return text;
}

/* A name as a label's value; names have neither marks nor backslashes, but for those of disks, where they become '_'. */
static const char *plain(struct far_slice name, char text[64])
{
    size_t len = name.len < 63 ? name.len : 63;
    for (size_t i = 0; i < len; i++) {
        text[i] = name.data[i] < ' ' || name.data[i] == '"' || name.data[i] == '\\' ? '_' : (char)name.data[i];
    }
    text[len] = '\0';
    return text;
}

static void left_out(struct scrape *s, const char *sort, size_t count)
{
    char labels[LABEL_BYTES];
    sample(s, METRIC_series_left_out, label(labels, "sort=\"%s\"", sort), count > SERIES_MAX ? count - SERIES_MAX : 0);
}

/* ---- the server ---- */

static int add_server(struct scrape *s, struct far_error *err)
{
    struct far_log_status *status = far_arena_alloc(&s->request->arena, sizeof *status);
    struct far_row_alert_progress alerts = {.open_count = 0};
    struct far_key key = far_key(&far_schema_row_alert_progress);
    char labels[LABEL_BYTES], own[LABEL_BYTES];
    if (status == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the answer");
    }
    s->request->api->hooks.status(s->request->api->arg, status);
    label(own, "server=\"%llu\"", (unsigned long long)status->server_id);
    sample(s, METRIC_log_applied_index, own, status->applied_index);
    sample(s, METRIC_log_commit_index, own, status->commit_index);
    sample(s, METRIC_log_last_seq, own, s->view.last_seq);
    sample(s, METRIC_log_term, own, status->term);
    sample(s, METRIC_log_is_leader, own, status->is_leader);
    sample(s, METRIC_log_stale, own, status->stale);
    for (size_t i = 0; i < status->member_count; i++) {
        const struct far_log_member *member = &status->members[i];
        struct far_row_server row = {.id = 0};
        struct far_key server = far_key(&far_schema_row_server);
        far_key_u64(&server, member->id);
        int rc = far_state_get(&s->view.state, &far_schema_row_server, &server, &s->scratch, &row, err);
        if (rc != 0 && rc != FAR_NOT_FOUND) {
            return rc;
        }
        const char *role = rc == 0 ? far_enum_name(&far_enum_server_role, row.role) : "unknown";
        label(labels, "server=\"%llu\"", (unsigned long long)member->id);
        sample(s, METRIC_member_applied_index, labels, member->about.applied_index);
        label(labels, "server=\"%llu\",role=\"%s\"", (unsigned long long)member->id, role);
        sample(s, METRIC_member_up, labels, far_api_member_is_up(status, member));
    }
    int rc = far_state_get(&s->view.state, &far_schema_row_alert_progress, &key, &s->scratch, &alerts, err);
    sample(s, METRIC_alerts_open, "", rc == 0 ? alerts.open_count : 0);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* ---- plans and nodes ---- */

static int add_plan(struct scrape *s, const struct far_row_plan *plan, struct far_rpo *rpo, struct far_error *err)
{
    char labels[LABEL_BYTES], name[64];
    int rc = far_query_rpo(&s->view.state, plan->id, s->now_ms, rpo, err);
    if (rc != 0) {
        return rc;
    }
    label(labels, "plan=\"%s\"", plain(plan->name, name));
    if (rpo->newest_ms != 0) {
        sample(s, METRIC_plan_rpo_age_seconds, labels, rpo->age_ms / 1000);
    }
    if (rpo->promised_s != 0) {
        sample(s, METRIC_plan_rpo_promised_seconds, labels, rpo->promised_s);
    }
    sample(s, METRIC_plan_rpo_late, labels, rpo->is_late);
    sample(s, METRIC_plan_active, labels, plan->state == FAR_plan_state_active);
    sample(s, METRIC_plan_cycle_running, labels, plan->running_job_id != 0);
    return 0;
}

static int add_plans(struct scrape *s, struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_plan);
    struct far_row_plan row;
    struct far_rpo *rpo = far_arena_alloc(&s->request->arena, sizeof *rpo);
    size_t count = 0;
    int rc = rpo == NULL ? far_fail(err, FAR_LIMIT, "no memory for the answer") : 0;
    while (rc == 0) {
        far_arena_reset(&s->scratch);
        rc = far_state_next(&s->view.state, &far_schema_row_plan, &key, &s->scratch, NULL, &row, err);
        if (rc == 0 && count++ < SERIES_MAX) {
            rc = add_plan(s, &row, rpo, err);
        }
    }
    left_out(s, "plan", count);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* A vault that was measured. */
static int add_vault(struct scrape *s, const struct far_row_node *node, struct far_error *err)
{
    struct far_row_vault row;
    struct far_key key = far_key(&far_schema_row_vault);
    char labels[LABEL_BYTES], name[64];
    far_key_u64(&key, node->id);
    int rc = far_state_get(&s->view.state, &far_schema_row_vault, &key, &s->scratch, &row, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    const struct {
        const char *kind;
        uint64_t bytes;
    } kinds[] = {{"used", row.used_bytes}, {"free", row.free_bytes}, {"total", row.total_bytes}, {"logical", row.logical_bytes},
                 {"unique", row.unique_bytes}};
    plain(node->name, name);
    for (size_t i = 0; row.measured_ms != 0 && i < sizeof kinds / sizeof kinds[0]; i++) {
        label(labels, "node=\"%s\",kind=\"%s\"", name, kinds[i].kind);
        sample(s, METRIC_vault_bytes, labels, kinds[i].bytes);
    }
    label(labels, "node=\"%s\"", name);
    sample(s, METRIC_vault_points, labels, node->point_count);
    if (row.scrub_proven_ms != 0) {
        sample(s, METRIC_vault_proven_timestamp_seconds, labels, row.scrub_proven_ms / 1000);
    }
    if (row.scrubbed_ms != 0) {
        sample(s, METRIC_vault_damaged_points, labels, row.damaged_point_ids.count);
    }
    if (row.reclaimed_ms != 0) {
        sample(s, METRIC_vault_reclaimed_timestamp_seconds, labels, row.reclaimed_ms / 1000);
    }
    return 0;
}

static int add_nodes(struct scrape *s, struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_node);
    struct far_row_node row;
    struct far_list limits = {.count = 0};
    char labels[LABEL_BYTES], name[64];
    size_t count = 0;
    int rc = far_query_limits(&s->view.state, 0, 0, &s->request->arena, &limits, err);
    const struct far_node_limits *limit = limits.items;
    while (rc == 0) {
        far_arena_reset(&s->scratch);
        rc = far_state_next(&s->view.state, &far_schema_row_node, &key, &s->scratch, NULL, &row, err);
        if (rc != 0 || count++ >= SERIES_MAX) {
            continue;
        }
        label(labels, "node=\"%s\"", plain(row.name, name));
        sample(s, METRIC_node_up, labels, row.state == FAR_node_state_up);
        sample(s, METRIC_node_drained, labels, row.drained_ms != 0);
        sample(s, METRIC_node_tasks, labels, row.task_count);
        sample(s, METRIC_node_running_tasks, labels, row.running_count);
        while (limits.count > 0 && limit->node_id < row.id) {
            limit++;
            limits.count--;
        }
        if (limits.count > 0 && limit->node_id == row.id && limit->bytes_per_s != 0) {
            sample(s, METRIC_node_send_limit_bytes_per_second, labels, limit->bytes_per_s);
        }
        rc = add_vault(s, &row, err);
    }
    left_out(s, "node", count);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* ---- transfers ---- */

static int get(struct scrape *s, const struct far_schema *table, uint64_t id, void *row, struct far_error *err)
{
    struct far_key key = far_key(table);
    far_key_u64(&key, id);
    return far_state_get(&s->rows, table, &key, &s->scratch, row, err);
}

/* FAR_NOT_FOUND: something of it is gone. */
static int labels_of(struct scrape *s, const struct far_row_task *task, char labels[LABEL_BYTES], struct far_error *err)
{
    struct far_row_job job;
    struct far_row_plan plan;
    struct far_row_workload workload;
    struct far_row_node node;
    struct far_row_disk disk;
    struct far_key key = far_key(&far_schema_row_disk);
    char text[4][64];
    far_key_u64(&key, task->workload_id);
    far_key_u32(&key, (uint32_t)task->disk_index);
    int rc = get(s, &far_schema_row_job, task->job_id, &job, err);
    rc = rc != 0 ? rc : get(s, &far_schema_row_plan, job.plan_id, &plan, err);
    rc = rc != 0 ? rc : get(s, &far_schema_row_workload, task->workload_id, &workload, err);
    rc = rc != 0 ? rc : get(s, &far_schema_row_node, task->node_id, &node, err);
    rc = rc != 0 ? rc : far_state_get(&s->rows, &far_schema_row_disk, &key, &s->scratch, &disk, err);
    if (rc == 0) {
        label(labels, "plan=\"%s\",workload=\"%s\",disk=\"%s\",direction=\"%s\",node=\"%s\"", plain(plan.name, text[0]),
              plain(workload.name, text[1]), plain(disk.name, text[2]), far_enum_name(&far_enum_task_kind, task->kind),
              plain(node.name, text[3]));
    }
    return rc;
}

static void add_figures(struct scrape *s, const struct far_row_task *task, const struct far_task_figures *f, const char *of)
{
    const struct {
        const char *kind;
        uint64_t bytes;
    } kinds[] = {{"total", task->bytes_total}, {"done", task->bytes_done},   {"changed", task->bytes_changed}, {"sent", task->bytes_sent},
                 {"read", f->bytes_read},      {"zero", f->bytes_zero},      {"known", f->bytes_known},        {"wanted", f->bytes_wanted},
                 {"saved", f->saved.bytes}};
    char labels[LABEL_BYTES + 64];
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        snprintf(labels, sizeof labels, "%s,kind=\"%s\"", of, kinds[i].kind);
        sample(s, METRIC_transfer_bytes, labels, kinds[i].bytes);
    }
    snprintf(labels, sizeof labels, "%s,kind=\"done\"", of);
    sample(s, METRIC_transfer_bytes_per_second, labels, f->bytes_per_s);
    snprintf(labels, sizeof labels, "%s,kind=\"sent\"", of);
    sample(s, METRIC_transfer_bytes_per_second, labels, f->sent_bytes_per_s);
    sample(s, METRIC_transfer_window_bytes, of, f->window_bytes);
    sample(s, METRIC_transfer_streams, of, f->streams);
    if (f->bottleneck != 0) {
        snprintf(labels, sizeof labels, "%s,bottleneck=\"%s\"", of, far_enum_name(&far_enum_bottleneck, f->bottleneck));
        sample(s, METRIC_transfer_bottleneck, labels, 1);
    }
}

static int add_transfer(struct scrape *s, uint64_t job_id, uint64_t number, struct far_error *err)
{
    struct far_row_task task;
    struct far_task_figures figures;
    char labels[LABEL_BYTES];
    struct far_key key = far_key(&far_schema_row_task);
    far_key_u64(&key, job_id);
    far_key_u32(&key, (uint32_t)number);
    int rc = far_state_get(&s->rows, &far_schema_row_task, &key, &s->scratch, &task, err);
    rc = rc != 0 ? rc : far_query_running(&s->rows, &task, &s->scratch, err);
    rc = rc != 0 ? rc : far_query_figures(&s->rows, &task, &s->scratch, &figures, err);
    rc = rc != 0 ? rc : labels_of(s, &task, labels, err);
    if (rc == 0) {
        add_figures(s, &task, &figures, labels);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int add_transfers(struct scrape *s, struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_figures);
    struct far_slice id;
    size_t count = 0;
    int rc = 0;
    for (;;) {
        struct far_row_figures row;
        far_arena_reset(&s->scratch);
        rc = far_state_next(&s->view.state, &far_schema_row_figures, &key, &s->scratch, &id, &row, err);
        const struct far_sub_running_figures *items = row.items.items;
        if (rc != 0) {
            break;
        }
        uint64_t job_id = far_get_be64(id.data + 8), tasks[64];
        size_t in_row = row.items.count < 64 ? row.items.count : 64;
        for (size_t i = 0; i < in_row; i++) {
            tasks[i] = items[i].task;
        }
        for (size_t i = 0; i < in_row && rc == 0; i++) {
            rc = count++ < SERIES_MAX ? add_transfer(s, job_id, tasks[i], err) : 0;
        }
        if (rc != 0) {
            return rc;
        }
    }
    left_out(s, "transfer", count);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* ---- the answer ---- */

static int write_text(struct scrape *s, struct far_error *err)
{
    struct far_buf *out = &s->request->made;
    char line[SAMPLE_MAX];
    for (size_t i = 0; i < METRIC_COUNT && !s->is_full; i++) {
        if (s->texts[i].len > 0) {
            snprintf(line, sizeof line, "# HELP farshore_%s %s\n# TYPE farshore_%s %s\n", names[i], helps[i], names[i], types[i]);
            s->is_full = far_buf_append_str(out, line) != 0 || far_buf_append(out, s->texts[i].data, s->texts[i].len) != 0;
        }
    }
    return s->is_full ? far_fail(err, FAR_LIMIT, "the metrics need too much memory") : 0;
}

static int scrape(struct scrape *s, struct far_error *err)
{
    int rc = far_api_stamp(s->request, &s->view, &s->now_ms, err);
    s->rows = (struct far_state){.kv = s->view.state.kv, .rows = far_rows_new(s->view.state.kv, false)};
    if (rc == 0 && s->rows.rows == NULL) {
        rc = far_fail(err, FAR_LIMIT, "no memory for the metrics");
    }
    rc = rc != 0 ? rc : add_server(s, err);
    rc = rc != 0 ? rc : add_plans(s, err);
    rc = rc != 0 ? rc : add_nodes(s, err);
    rc = rc != 0 ? rc : add_transfers(s, err);
    rc = rc != 0 ? rc : write_text(s, err);
    far_rows_free(s->rows.rows);
    return rc;
}

static int compute(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct scrape s = {.request = request};
    (void)ret_answer; /* it is made as text */
    int rc = far_api_view(request, &s.view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&s.scratch, SCRATCH_MAX);
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        far_buf_init(&s.texts[i], TEXT_BYTES);
    }
    rc = scrape(&s, err);
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        far_buf_done(&s.texts[i]);
    }
    far_arena_done(&s.scratch);
    far_api_view_end(request, &s.view);
    return rc;
}

void far_api_metrics(struct far_api_request *request)
{
    request->compute_type = "text/plain; version=0.0.4; charset=utf-8";
    far_api_compute(request, 200, compute);
}
