/* The checker of leases and writers: it reads the events of the replayed log and keeps its own account. See sim.h.
 *
 * - no lease is lost to a change of leader: none ends within a lease time of the election under whose term that is decided;
 * - none ends within a lease time of the sending of a report that was confirmed to its node;
 * - a fenced writer is refused: only the node that holds an attempt, by the events, starts or finishes it. */
#include "sim.h"

#include "base/assert.h"

#include <stdlib.h>

struct confirmed {
    uint64_t node_id;
    uint64_t sent_us, confirmed_us;
};

struct holder {
    uint64_t job_id, task;
    uint64_t node_id; /* 0 = nobody */
    uint64_t attempt;
};

struct sim_orders {
    struct sim *sim;
    struct confirmed *confirmed;
    size_t confirmed_count, confirmed_cap;
    struct holder *holders;
    size_t holder_count, holder_cap;
};

struct sim_orders *sim_orders_new(struct sim *sim)
{
    struct sim_orders *orders = calloc(1, sizeof *orders);
    FAR_ASSERT(orders != NULL);
    orders->sim = sim;
    return orders;
}

void sim_orders_free(struct sim_orders *orders)
{
    free(orders->confirmed);
    free(orders->holders);
    free(orders);
}

void sim_orders_confirmed(struct sim_orders *orders, uint64_t node_id, uint64_t sent_us, uint64_t now_us)
{
    if (orders->confirmed_count == orders->confirmed_cap) {
        orders->confirmed_cap = orders->confirmed_cap * 2 + 256;
        orders->confirmed = realloc(orders->confirmed, orders->confirmed_cap * sizeof *orders->confirmed);
        FAR_ASSERT(orders->confirmed != NULL);
    }
    orders->confirmed[orders->confirmed_count++] =
        (struct confirmed){.node_id = node_id, .sent_us = sent_us, .confirmed_us = now_us};
}

static struct holder *holder_of(struct sim_orders *orders, uint64_t job_id, uint64_t task)
{
    for (size_t i = orders->holder_count; i-- > 0;) {
        if (orders->holders[i].job_id == job_id && orders->holders[i].task == task) {
            return &orders->holders[i];
        }
    }
    if (orders->holder_count == orders->holder_cap) {
        orders->holder_cap = orders->holder_cap * 2 + 64;
        orders->holders = realloc(orders->holders, orders->holder_cap * sizeof *orders->holders);
        FAR_ASSERT(orders->holders != NULL);
    }
    orders->holders[orders->holder_count] = (struct holder){.job_id = job_id, .task = task, .attempt = 1};
    return &orders->holders[orders->holder_count++];
}

/* ---- leases ---- */

static void lease_ended(struct sim_orders *orders, uint64_t node_id, uint64_t applied_us, uint64_t elected_us)
{
    struct sim *sim = orders->sim;
    uint64_t least_us = sim->swarm.lease_ms * 990; /* clocks are slewed by up to 500 ppm */
    sim_count(sim, SIM_COUNT_LEASE_LOST);
    if (applied_us < elected_us + least_us) {
        sim_fail(sim, "node %llu lost a lease at %.3f s to the change of leader at %.3f s", (unsigned long long)node_id,
                 (double)applied_us / SIM_SECOND, (double)elected_us / SIM_SECOND);
    }
    for (size_t i = 0; i < orders->confirmed_count; i++) {
        const struct confirmed *c = &orders->confirmed[i];
        if (c->node_id == node_id && c->confirmed_us <= applied_us && applied_us < c->sent_us + least_us) {
            sim_fail(sim, "node %llu lost a lease at %.3f s that it had renewed at %.3f s", (unsigned long long)node_id,
                     (double)applied_us / SIM_SECOND, (double)c->sent_us / SIM_SECOND);
            return;
        }
    }
}

/* ---- writers ---- */

static bool reported(const struct far_cmd_node_report *report, const struct holder *holder)
{
    const struct far_sub_report_item *items = report->items.items;
    for (size_t i = 0; i < report->items.count; i++) {
        if (items[i].job_id == holder->job_id && items[i].task == holder->task && items[i].attempt == holder->attempt) {
            return true;
        }
    }
    return false;
}

static void change(struct sim_orders *orders, uint64_t job_id, const struct far_sub_task_change *item,
                   const struct sim_decided *decided, const struct far_cmd_node_report *report)
{
    struct holder *holder = holder_of(orders, job_id, item->task);
    bool works = item->step == FAR_task_step_start || item->step == FAR_task_step_finish;
    if (works && (report == NULL || report->node_id != holder->node_id || !reported(report, holder))) {
        sim_fail(orders->sim, "entry %llu: node %llu moved task %llu of job %llu, and attempt %llu is of node %llu",
                 (unsigned long long)decided->index, (unsigned long long)(report == NULL ? 0 : report->node_id),
                 (unsigned long long)item->task, (unsigned long long)job_id, (unsigned long long)holder->attempt,
                 (unsigned long long)holder->node_id);
    }
    if (item->step == FAR_task_step_lose && decided->command->kind == FAR_KIND_cmd_tick) {
        lease_ended(orders, 0, decided->applied_us, decided->elected_us);
    }
    if (item->step == FAR_task_step_assign) {
        holder->node_id = item->node_id;
    } else if (item->step != FAR_task_step_start && item->step != FAR_task_step_ready) {
        holder->node_id = 0;
        holder->attempt = item->attempt != 0 ? item->attempt : holder->attempt;
    }
}

static void read_event(struct sim_orders *orders, const struct far_event *event, const struct sim_decided *decided,
                       const struct far_cmd_node_report *report, struct far_arena *arena)
{
    if (event->kind == FAR_KIND_ev_node_lost) {
        struct far_ev_node_lost lost;
        FAR_ASSERT(far_schema_decode(&far_schema_ev_node_lost, event->payload, arena, &lost, NULL) == 0);
        lease_ended(orders, lost.node_id, decided->applied_us, decided->elected_us);
    } else if (event->kind == FAR_KIND_ev_tasks_created) {
        struct far_ev_tasks_created made;
        FAR_ASSERT(far_schema_decode(&far_schema_ev_tasks_created, event->payload, arena, &made, NULL) == 0);
        for (size_t i = 0; i < made.items.count; i++) {
            const struct far_sub_task_new *item = (const struct far_sub_task_new *)made.items.items + i;
            holder_of(orders, made.job_id, made.first_task + i)->node_id = item->node_id;
        }
    } else if (event->kind == FAR_KIND_ev_tasks_changed) {
        struct far_ev_tasks_changed changed;
        FAR_ASSERT(far_schema_decode(&far_schema_ev_tasks_changed, event->payload, arena, &changed, NULL) == 0);
        for (size_t i = 0; i < changed.items.count; i++) {
            const struct far_sub_task_change *item = (const struct far_sub_task_change *)changed.items.items + i;
            change(orders, item->job_id != 0 ? item->job_id : changed.job_id, item, decided, report);
        }
    }
}

void sim_orders_decided(struct sim_orders *orders, struct far_store_txn *txn, const struct sim_decided *decided)
{
    struct far_cmd_node_report report;
    struct far_arena arena;
    if (orders->sim->swarm.nodes == 0 || decided->result->klass != 0 || decided->result->seq_first == 0 ||
        decided->result->repeated) {
        return;
    }
    far_arena_init(&arena, 1 << 22);
    bool is_report = decided->command->kind == FAR_KIND_cmd_node_report;
    if (is_report) {
        FAR_ASSERT(far_schema_decode(&far_schema_cmd_node_report, decided->command->payload, &arena, &report, NULL) == 0);
    }
    for (uint64_t seq = decided->result->seq_first; seq <= decided->result->seq_last; seq++) {
        struct far_event event;
        FAR_ASSERT(far_store_event_get(txn, seq, &event, NULL, NULL) == 0);
        read_event(orders, &event, decided, is_report ? &report : NULL, &arena);
    }
    far_arena_done(&arena);
}
