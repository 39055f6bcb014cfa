/* The promised RPO of plans: see rpo.h. */
#include "fsm/rpo.h"

#include "fsm/alert.h"

#include <stdio.h>

const char *far_rpo_span(uint64_t ms, char text[FAR_RPO_SPAN_MAX])
{
    unsigned long long s = ms / 1000, min = s / 60, h = min / 60;
    if (s < 120) {
        snprintf(text, FAR_RPO_SPAN_MAX, "%llu s", s);
    } else if (min < 120) {
        snprintf(text, FAR_RPO_SPAN_MAX, "%llu min", min);
    } else if (h < 48) {
        snprintf(text, FAR_RPO_SPAN_MAX, "%llu h %llu min", h, min % 60);
    } else {
        snprintf(text, FAR_RPO_SPAN_MAX, "%llu d %llu h", h / 24, h % 24);
    }
    return text;
}

/* From when on a workload of the plan counts; 0: it does not. */
static int from_of(struct far_step *step, const struct far_row_plan *plan, const struct far_row_plan_workload *member,
                   struct far_rpo_oldest *ret)
{
    uint64_t workload_id = member->workload_id;
    struct far_row_workload workload;
    struct far_row_point point;
    FAR_TRY(far_row_need(step, &far_schema_row_workload, workload_id, &workload));
    *ret = (struct far_rpo_oldest){.ms = plan->rpo_from_ms, .workload_id = workload_id, .has_point = workload.last_point_id != 0};
    if (ret->has_point) {
        FAR_TRY(far_row_need(step, &far_schema_row_point, workload.last_point_id, &point));
        ret->ms = point.frozen_at_ms;
    }
    bool is_own = ret->has_point && point.plan_id == plan->id; /* the promise does not reach back before it came */
    ret->ms = !is_own && ret->ms != 0 && ret->ms < member->joined_ms ? member->joined_ms : ret->ms;
    return 0;
}

int far_rpo_oldest(struct far_step *step, const struct far_row_plan *plan, struct far_rpo_oldest *ret)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, plan->id);
    *ret = (struct far_rpo_oldest){.ms = 0};
    for (;;) {
        struct far_row_plan_workload member;
        struct far_rpo_oldest from;
        int rc = far_plan_member_next(step, plan->id, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            return 0;
        }
        FAR_TRY(rc);
        if (member.moved_ms != 0) {
            continue; /* the plan of the other direction has it */
        }
        FAR_TRY(from_of(step, plan, &member, &from));
        if (from.ms != 0 && (ret->ms == 0 || from.ms < ret->ms)) {
            *ret = from;
        }
    }
}

static uint64_t due_of(const struct far_row_plan *plan, const struct far_rpo_oldest *oldest)
{
    return plan->rpo_s != 0 && oldest->ms != 0 ? oldest->ms + plan->rpo_s * 1000 : 0;
}

static int move(struct far_step *step, struct far_row_plan *plan, uint64_t due_ms)
{
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_plan_rpo, plan->id, 0, plan->rpo_due_ms, due_ms));
    plan->rpo_due_ms = due_ms;
    return 0;
}

int far_rpo_arm(struct far_step *step, struct far_row_plan *plan)
{
    struct far_rpo_oldest oldest = {.ms = 0};
    FAR_TRY(plan->rpo_s != 0 ? far_rpo_oldest(step, plan, &oldest) : 0);
    return move(step, plan, due_of(plan, &oldest));
}

int far_rpo_look(struct far_step *step, uint64_t plan_id)
{
    struct far_row_plan plan;
    struct far_row_alert alert;
    struct far_rpo_oldest oldest;
    int rc = far_alert_find(step, FAR_alert_kind_rpo_late, plan_id, &alert);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_plan, plan_id, &plan));
    FAR_TRY(far_rpo_oldest(step, &plan, &oldest));
    bool is_late = due_of(&plan, &oldest) != 0 && due_of(&plan, &oldest) <= step->time_ms;
    return is_late ? 0 : far_alert_clear(step, FAR_alert_kind_rpo_late, plan_id);
}

static int raise(struct far_step *step, const struct far_row_plan *plan, const struct far_rpo_oldest *oldest)
{
    struct far_row_workload workload;
    char age[FAR_RPO_SPAN_MAX], promised[FAR_RPO_SPAN_MAX];
    struct far_alert_cause cause = {
        .kind = FAR_alert_kind_rpo_late, .object_id = plan->id, .plan_id = plan->id, .workload_id = oldest->workload_id};
    FAR_TRY(far_row_need(step, &far_schema_row_workload, oldest->workload_id, &workload));
    far_rpo_span(step->time_ms - oldest->ms, age);
    far_rpo_span(plan->rpo_s * 1000, promised);
    return oldest->has_point
               ? far_alert_raise(step, &cause,
                                 "plan '%.*s' is late: the newest recovery point of workload '%.*s' is %s old, promised are %s; "
                                 "'farshore plan show %.*s' says why",
                                 FAR_TEXT(plan->name), FAR_TEXT(workload.name), age, promised, FAR_TEXT(plan->name))
               : far_alert_raise(step, &cause,
                                 "plan '%.*s' is late: workload '%.*s' has no recovery point after %s, promised are %s; "
                                 "'farshore plan show %.*s' says why",
                                 FAR_TEXT(plan->name), FAR_TEXT(workload.name), age, promised, FAR_TEXT(plan->name));
}

int far_rpo_due(struct far_step *step, uint64_t plan_id)
{
    struct far_row_plan plan;
    struct far_rpo_oldest oldest;
    int rc = far_row_find(step, &far_schema_row_plan, plan_id, &plan);
    if (rc != 0 || plan.rpo_due_ms == 0 || plan.rpo_due_ms > step->time_ms) {
        return rc == FAR_NOT_FOUND ? 0 : rc; /* dropped by deadline.c */
    }
    FAR_TRY(far_rpo_oldest(step, &plan, &oldest));
    uint64_t due_ms = due_of(&plan, &oldest);
    bool is_late = due_ms != 0 && due_ms <= step->time_ms;
    struct far_ev_plan_rpo_judged ev = {.plan_id = plan_id, .oldest_ms = oldest.ms, .due_ms = is_late ? 0 : due_ms};
    FAR_TRY(far_emit(step, &far_schema_ev_plan_rpo_judged, &ev));
    return is_late ? raise(step, &plan, &oldest) : 0;
}

int far_evolve_plan_rpo_judged(struct far_step *step, const struct far_ev_plan_rpo_judged *ev)
{
    struct far_row_plan plan;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, ev->plan_id, &plan));
    FAR_TRY(move(step, &plan, ev->due_ms));
    return far_row_put(step, &far_schema_row_plan, plan.id, &plan);
}
