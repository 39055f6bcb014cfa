/* Reasons for a late point while a cycle runs: see rpo_reasons.h. Each unfinished task is asked what it waits for; of tasks with the
 * same reason on the same node the first one speaks for all. */
#include "fsm/rpo_reasons.h"

#include "fsm/figures.h"
#include "fsm/node_load.h"
#include "fsm/rpo.h"
#include "fsm/running.h"

#include <stdarg.h>
#include <stdio.h>

const char *far_rpo_bytes(uint64_t bytes, char text[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    uint64_t whole = bytes, rest = 0;
    for (; whole >= 1024 && unit < 6; unit++) {
        rest = whole % 1024;
        whole /= 1024;
    }
    if (unit == 0) {
        snprintf(text, 32, "%llu B", FAR_LLU(bytes));
    } else {
        snprintf(text, 32, "%llu.%llu %s", FAR_LLU(whole), FAR_LLU(rest * 10 / 1024), units[unit]);
    }
    return text;
}

/* A limit as people set it, "10 kB/s" or "1.5 MB/s". */
static const char *limit_text(uint64_t bytes_per_s, char text[32])
{
    static const char *const units[] = {"B/s", "kB/s", "MB/s", "GB/s", "TB/s"};
    size_t unit = 0;
    uint64_t whole = bytes_per_s, rest = 0;
    for (; whole >= 1000 && unit < 4; unit++) {
        rest = whole % 1000;
        whole /= 1000;
    }
    if (rest / 100 == 0) {
        snprintf(text, 32, "%llu %s", FAR_LLU(whole), units[unit]);
    } else {
        snprintf(text, 32, "%llu.%llu %s", FAR_LLU(whole), FAR_LLU(rest / 100), units[unit]);
    }
    return text;
}

struct far_rpo_reason *far_rpo_add(struct far_rpo_ask *ask, const char *code, const char *format, ...)
{
    struct far_rpo *rpo = ask->rpo;
    if (rpo->reason_count == FAR_RPO_REASONS_MAX) {
        return NULL;
    }
    struct far_rpo_reason *reason = &rpo->reasons[rpo->reason_count++];
    va_list args;
    *reason = (struct far_rpo_reason){.code = code};
    va_start(args, format);
    vsnprintf(reason->text, sizeof reason->text, format, args);
    va_end(args);
    return reason;
}

/* The names of what a task is about; empty ones of what is gone. */
struct names {
    struct far_row_workload workload;
    struct far_row_disk disk;
    struct far_row_node node;
    bool is_of_disk;
};

static int find(struct far_step *step, const struct far_schema *table, uint64_t id, void *ret)
{
    int rc = far_row_find(step, table, id, ret);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int names_of(struct far_rpo_ask *ask, const struct far_row_task *task, struct names *ret)
{
    struct far_key key = far_key_part(&far_schema_row_disk, task->workload_id, task->disk_index);
    *ret = (struct names){.is_of_disk = task->kind == FAR_task_kind_send || task->kind == FAR_task_kind_receive};
    FAR_TRY(find(ask->step, &far_schema_row_workload, task->workload_id, &ret->workload));
    FAR_TRY(find(ask->step, &far_schema_row_node, task->node_id, &ret->node));
    int rc = ret->is_of_disk ? far_key_find(ask->step, &far_schema_row_disk, &key, &ret->disk) : 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* "the send of disk 'db/root'", "the freeze of workload 'db'". */
enum { WHAT_MAX = 200 };
static const char *what(const struct far_row_task *task, const struct names *names, char text[WHAT_MAX])
{
    struct far_slice kind = far_slice_str(far_enum_name(&far_enum_task_kind, task->kind));
    if (names->is_of_disk) {
        snprintf(text, WHAT_MAX, "the %.*s of disk '%.*s/%.*s'", FAR_TEXT(kind), FAR_TEXT(names->workload.name),
                 FAR_TEXT(names->disk.name));
    } else {
        snprintf(text, WHAT_MAX, "the %.*s of workload '%.*s'", FAR_TEXT(kind), FAR_TEXT(names->workload.name));
    }
    return text;
}

static bool is_said(const struct far_rpo_ask *ask, const char *code, uint64_t node_id)
{
    for (size_t i = 0; i < ask->rpo->reason_count; i++) {
        const struct far_rpo_reason *said = &ask->rpo->reasons[i];
        if (strcmp(said->code, code) == 0 && said->node_id == node_id) {
            return true;
        }
    }
    return false;
}

static void about(struct far_rpo_reason *reason, const struct far_row_task *task, uint64_t node_id)
{
    if (reason != NULL) {
        reason->task = task->task;
        reason->workload_id = task->workload_id;
        reason->node_id = node_id;
    }
}

/* ---- what waits for a node ---- */

/* How the nodes of a site are. */
struct site_nodes {
    struct far_row_site site;
    size_t all, up, taking_part;
};

static int look_at_site(struct far_step *step, uint64_t site_id, struct site_nodes *ret)
{
    struct far_key key = far_key(&far_schema_row_node);
    struct far_row_node node;
    int rc;
    *ret = (struct site_nodes){.all = 0};
    FAR_TRY(find(step, &far_schema_row_site, site_id, &ret->site));
    while ((rc = far_next(step, &far_schema_row_node, &key, NULL, &node)) == 0) {
        if (node.site_id == site_id) {
            bool is_up = node.state == FAR_node_state_up;
            ret->all++;
            ret->up += is_up;
            ret->taking_part += is_up && node.drained_ms == 0;
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int waits_for_node(struct far_rpo_ask *ask, const struct far_row_task *task, const struct names *names)
{
    bool is_at_target = task->kind == FAR_task_kind_receive || task->kind == FAR_task_kind_seal;
    uint64_t site_id = is_at_target ? ask->plan.target_site_id : ask->plan.source_site_id;
    struct site_nodes nodes;
    struct far_slice why = {0};
    struct far_error cause = {0};
    char text[WHAT_MAX];
    FAR_TRY(look_at_site(ask->step, site_id, &nodes));
    const char *code = nodes.up > 0 && nodes.taking_part == 0 ? "node_drained" : nodes.up == 0 ? "no_node" : "node_busy";
    FAR_TRY(far_query_wait(ask->step->state, task, ask->step->arena, &why, &cause));
    code = why.len > 12 && memcmp(why.data, "the platform", 12) == 0 ? "platform_limit" : code;
    if (is_said(ask, code, 0)) {
        return 0;
    }
    what(task, names, text);
    struct far_rpo_reason *reason =
        why.len > 0            ? far_rpo_add(ask, code, "%s waits: %.*s", text, FAR_TEXT(why))
        : nodes.all == 0       ? far_rpo_add(ask, code, "%s waits: site '%.*s' has no node", text, FAR_TEXT(nodes.site.name))
        : nodes.up == 0        ? far_rpo_add(ask, code, "%s waits: no node of site '%.*s' is up", text, FAR_TEXT(nodes.site.name))
        : nodes.taking_part == 0
            ? far_rpo_add(ask, code, "%s waits: every node of site '%.*s' that is up is drained", text, FAR_TEXT(nodes.site.name))
            : far_rpo_add(ask, code, "%s waits for a node of site '%.*s' that can do it", text, FAR_TEXT(nodes.site.name));
    about(reason, task, 0);
    return 0;
}

static int is_tried_again(struct far_rpo_ask *ask, const struct far_row_task *task, const struct names *names)
{
    char text[WHAT_MAX], span[FAR_RPO_SPAN_MAX], times[32] = "once";
    if (task->error_message.len == 0 || is_said(ask, "retry", task->node_id)) {
        return 0; /* it did not fail, but begins again with the task at the other side that did, and that says why */
    }
    far_rpo_span(task->retry_ms > ask->now_ms ? task->retry_ms - ask->now_ms : 0, span);
    what(task, names, text);
    if (task->failures != 1) {
        snprintf(times, sizeof times, "%llu times", FAR_LLU(task->failures));
    }
    about(far_rpo_add(ask, "retry", "%s failed %s and is tried again in %s: %.*s", text, times, span, FAR_TEXT(task->error_message)),
          task, task->node_id);
    return 0;
}

/* ---- what a node holds ---- */

static int is_silent(struct far_rpo_ask *ask, const struct far_row_task *task, const struct names *names)
{
    char text[WHAT_MAX], span[FAR_RPO_SPAN_MAX];
    const struct far_row_node *node = &names->node;
    if (is_said(ask, "node_down", node->id)) {
        return 0;
    }
    far_rpo_span(ask->now_ms > node->seen_ms ? ask->now_ms - node->seen_ms : 0, span);
    about(far_rpo_add(ask, "node_down", "node '%.*s' holds %s and has said nothing for %s; another node takes it when its lease ends",
                      FAR_TEXT(node->name), what(task, names, text), span),
          task, node->id);
    return 0;
}

/* The least of the limits that hold for what the node sends of this plan. */
static int limit_of(struct far_rpo_ask *ask, const struct far_row_node *node, char text[WHAT_MAX])
{
    const struct {
        const char *of;
        uint64_t id;
        struct far_slice name;
    } objects[] = {{"plan", ask->plan.id, ask->plan.name}, {"node", node->id, node->name}, {"site", node->site_id, far_slice(NULL, 0)}};
    uint64_t least = 0;
    char number[32];
    snprintf(text, WHAT_MAX, "a bandwidth limit");
    for (size_t i = 0; i < sizeof objects / sizeof objects[0]; i++) {
        struct far_row_throttle row;
        struct far_row_site site = {.id = 0};
        int rc = far_row_find(ask->step, &far_schema_row_throttle, objects[i].id, &row);
        uint64_t rate = rc == 0 ? row.in_force_bytes_per_s : 0;
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        if (rate == 0 || (least != 0 && rate >= least)) {
            continue;
        }
        FAR_TRY(objects[i].name.len == 0 ? find(ask->step, &far_schema_row_site, objects[i].id, &site) : 0);
        struct far_slice name = objects[i].name.len != 0 ? objects[i].name : site.name;
        least = rate;
        if (rate == 1) {
            snprintf(text, WHAT_MAX, "the bandwidth limit of %s '%.*s', which lets nothing pass now", objects[i].of, FAR_TEXT(name));
        } else {
            snprintf(text, WHAT_MAX, "the bandwidth limit of %s '%.*s', %s", objects[i].of, FAR_TEXT(name), limit_text(rate, number));
        }
    }
    return 0;
}

/* "source read on node 'paris-1'". */
static int holdup(struct far_rpo_ask *ask, const struct far_task_figures *figures, char text[WHAT_MAX])
{
    static const char *const words[] = {
        [FAR_bottleneck_source_read] = "reading the source", [FAR_bottleneck_link] = "the link",
        [FAR_bottleneck_target_write] = "writing the target", [FAR_bottleneck_processor] = "the processor",
    };
    struct far_row_node node = {.id = 0};
    FAR_TRY(find(ask->step, &far_schema_row_node, figures->bottleneck_node_id, &node));
    const char *word = figures->bottleneck <= FAR_bottleneck_processor ? words[figures->bottleneck] : NULL;
    if (word == NULL) {
        text[0] = '\0';
    } else if (node.id == 0) {
        snprintf(text, WHAT_MAX, ", held up by %s", word);
    } else {
        snprintf(text, WHAT_MAX, ", held up by %s on node '%.*s'", word, FAR_TEXT(node.name));
    }
    return 0;
}

static int moves(struct far_rpo_ask *ask, const struct far_row_task *task, const struct names *names,
                 const struct far_task_figures *figures)
{
    char text[WHAT_MAX], why[2 * WHAT_MAX], limit[WHAT_MAX], done[32], all[32], rate[32], span[FAR_RPO_SPAN_MAX];
    bool is_limited = figures->bottleneck == FAR_bottleneck_throttle;
    const char *code = is_limited ? "throttle" : "transfer";
    if (is_said(ask, code, task->node_id)) {
        return 0;
    }
    FAR_TRY(holdup(ask, figures, why));
    if (is_limited) {
        FAR_TRY(limit_of(ask, &names->node, limit));
        snprintf(why, sizeof why, ", held up by %s", limit);
    }
    far_rpo_span(figures->left_ms, span);
    struct far_rpo_reason *reason =
        far_rpo_add(ask, code, "%s is at %s of %s, %s/s%s%s%s", what(task, names, text), far_rpo_bytes(task->bytes_done, done),
                    far_rpo_bytes(task->bytes_total, all), far_rpo_bytes(figures->bytes_per_s, rate), why,
                    figures->has_left_ms ? "; it needs about " : "; it did not get on lately", figures->has_left_ms ? span : "");
    about(reason, task, task->node_id);
    return 0;
}

static int runs(struct far_rpo_ask *ask, struct far_row_task *task, const struct names *names)
{
    struct far_task_figures figures;
    char text[WHAT_MAX];
    uint64_t lease_ms = task->lease_until_ms;
    FAR_TRY(far_running_show(ask->step, task, &lease_ms));
    FAR_TRY(far_figures_show(ask->step, task, &figures));
    what(task, names, text);
    bool is_waiting = figures.bottleneck == FAR_bottleneck_memory, is_alone = figures.bottleneck == FAR_bottleneck_peer;
    const char *code = is_waiting ? "memory" : is_alone ? "peer" : "step";
    if (figures.is_running && !is_waiting && !is_alone) {
        return task->kind == FAR_task_kind_send ? moves(ask, task, names, &figures) : 0;
    }
    if (is_said(ask, code, task->node_id) || (task->kind == FAR_task_kind_receive && !is_waiting)) {
        return 0;
    }
    const char *says = is_waiting ? "waits for its turn: the memory there is in use by other transfers"
                       : is_alone ? "waits for the node at the other side, which does not answer"
                                  : "is under way";
    about(far_rpo_add(ask, code, "%s on node '%.*s' %s", text, FAR_TEXT(names->node.name), says), task, task->node_id);
    return 0;
}

/* ---- the walk ---- */

static int look_at(struct far_rpo_ask *ask, struct far_row_task *task)
{
    struct names names;
    bool is_over = task->state == FAR_task_state_done || task->state == FAR_task_state_failed || task->state == FAR_task_state_canceled;
    if (is_over || task->kind == FAR_task_kind_release || task->state == FAR_task_state_waiting) {
        return 0;
    }
    FAR_TRY(names_of(ask, task, &names));
    if (task->state == FAR_task_state_ready) {
        return task->retry_ms != 0 ? is_tried_again(ask, task, &names) : waits_for_node(ask, task, &names);
    }
    return names.node.state == FAR_node_state_up ? runs(ask, task, &names) : is_silent(ask, task, &names);
}

/* workload_id 0: all of the job's tasks. */
static int walk(struct far_rpo_ask *ask, const struct far_row_job *job, uint64_t workload_id)
{
    struct far_key key = far_key_id(&far_schema_row_task, job->id);
    for (size_t seen = 0; seen < FAR_JOB_TASKS_SEEN_MAX && ask->rpo->reason_count < FAR_RPO_REASONS_MAX; seen++) {
        struct far_row_task task;
        far_arena_reset(ask->step->arena);
        int rc = far_next(ask->step, &far_schema_row_task, &key, NULL, &task);
        if (rc == FAR_NOT_FOUND || (rc == 0 && task.job_id != job->id)) {
            return 0;
        }
        FAR_TRY(rc);
        FAR_TRY(workload_id == 0 || task.workload_id == workload_id ? look_at(ask, &task) : 0);
    }
    return 0;
}

int far_rpo_of_cycle(struct far_rpo_ask *ask, const struct far_row_job *job)
{
    size_t before = ask->rpo->reason_count;
    FAR_TRY(walk(ask, job, ask->rpo->workload_id));
    return ask->rpo->reason_count > before || ask->rpo->workload_id == 0 ? 0 : walk(ask, job, 0);
}
