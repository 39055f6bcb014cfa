/* Offers: see offer.h. */
#include "fsm/offer.h"

#include "fsm/node_load.h"
#include "fsm/query.h"
#include "fsm/run_lost.h"
#include "fsm/site_limit.h"

#include <stdio.h>

enum { OFFERED_MAX = 160, ADAPTER_NAME_MAX = 32 };

/* What the nodes of a site have. */
struct offer {
    size_t nodes;             /* of the site, up or not */
    size_t told;              /* of them that named their adapters */
    bool holds;               /* one of these has what is asked for */
    bool ready;               /* one that is up and not drained has it, or does not tell */
    bool drained;             /* one would be, but that it is drained */
    char names[OFFERED_MAX];  /* "fault, file": of all that told */
};

struct far_slice far_offer_name(struct far_slice adapter)
{
    const uint8_t *mark = adapter.len > 0 ? memchr(adapter.data, '?', adapter.len) : NULL;
    return far_slice(adapter.data, mark != NULL ? (size_t)(mark - adapter.data) : adapter.len);
}

static bool has(const struct far_list *adapters, struct far_slice name)
{
    const struct far_slice *names = adapters->items;
    for (size_t i = 0; i < adapters->count; i++) {
        if (far_slice_equal(names[i], name)) {
            return true;
        }
    }
    return false;
}

bool far_offer_holds(const struct far_list *adapters, struct far_slice adapter)
{
    struct far_slice rest = far_offer_name(adapter);
    while (adapters->count > 0 && rest.len > 0) {
        const uint8_t *colon = memchr(rest.data, ':', rest.len);
        size_t len = colon != NULL ? (size_t)(colon - rest.data) : rest.len;
        if (!has(adapters, far_slice(rest.data, len))) {
            return false;
        }
        rest = colon != NULL ? far_slice(colon + 1, rest.len - len - 1) : far_slice(NULL, 0);
    }
    return true;
}

int far_offer_check(struct far_step *step, const struct far_row_node *node, const struct far_list *adapters)
{
    const struct far_slice *names = adapters->items;
    for (size_t i = 0; i < adapters->count; i++) {
        bool ok = names[i].len > 0 && names[i].len <= ADAPTER_NAME_MAX;
        for (size_t k = 0; ok && k < names[i].len; k++) {
            uint8_t b = names[i].data[k];
            ok = (b >= 'a' && b <= 'z') || (b >= '0' && b <= '9') || b == '-' || b == '_' || b == '.';
        }
        if (!ok) {
            return far_reject(step, FAR_INVALID, "node '%.*s' names an adapter in other characters than a-z 0-9 - _ .",
                              FAR_TEXT(node->name));
        }
    }
    return 0;
}

/* Add the names that are not yet there, as far as there is room. */
static void add_names(struct offer *offer, const struct far_list *adapters, struct far_list *seen,
                      struct far_slice *seen_names, size_t seen_max)
{
    const struct far_slice *names = adapters->items;
    for (size_t i = 0; i < adapters->count; i++) {
        size_t len = strlen(offer->names);
        if (has(seen, names[i]) || seen->count == seen_max || len + names[i].len + 3 > sizeof offer->names) {
            continue;
        }
        seen_names[seen->count++] = names[i];
        snprintf(offer->names + len, sizeof offer->names - len, "%s%.*s", len > 0 ? ", " : "", FAR_TEXT(names[i]));
    }
}

static int look(struct far_step *step, uint64_t site_id, struct far_slice adapter, struct offer *ret_offer)
{
    struct far_row_node row;
    struct far_key key = far_key(&far_schema_row_node);
    struct far_slice seen_names[OFFERED_MAX / 2];
    struct far_list seen = {.items = seen_names};
    int rc;
    *ret_offer = (struct offer){.nodes = 0};
    while ((rc = far_next(step, &far_schema_row_node, &key, NULL, &row)) == 0) {
        if (row.site_id != site_id) {
            continue;
        }
        ret_offer->nodes++;
        ret_offer->told += row.adapters.count > 0;
        bool fits = far_offer_holds(&row.adapters, adapter);
        ret_offer->holds = ret_offer->holds || (fits && row.adapters.count > 0);
        bool is_up = fits && row.state == FAR_node_state_up;
        ret_offer->ready = ret_offer->ready || (is_up && row.drained_ms == 0);
        ret_offer->drained = ret_offer->drained || (is_up && row.drained_ms != 0);
        add_names(ret_offer, &row.adapters, &seen, seen_names, OFFERED_MAX / 2);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_offer_need(struct far_step *step, uint64_t site_id, struct far_slice site, struct far_slice adapter)
{
    struct offer offer;
    FAR_TRY(look(step, site_id, adapter, &offer));
    if (offer.told == 0) {
        far_warn(step, "no node of site '%.*s' has told yet which adapters it has: whether '%.*s' is one shows when one is up",
                 FAR_TEXT(site), FAR_TEXT(far_offer_name(adapter)));
        return 0;
    }
    return offer.holds ? 0
                       : far_reject(step, FAR_INVALID, "no node of site '%.*s' has the adapter '%.*s'; there are: %s",
                                    FAR_TEXT(site), FAR_TEXT(far_offer_name(adapter)), offer.names);
}

/* Why nobody at the site can freeze this workload now; empty if somebody can. */
static int why_not(struct far_step *step, const struct far_row_workload *workload, char text[FAR_MESSAGE_MAX])
{
    struct offer offer;
    struct far_row_site site;
    text[0] = '\0';
    FAR_TRY(look(step, workload->site_id, workload->adapter, &offer));
    FAR_TRY(far_row_need(step, &far_schema_row_site, workload->site_id, &site));
    if (offer.ready) {
        return 0;
    }
    if (offer.nodes == 0) {
        snprintf(text, FAR_MESSAGE_MAX, "site '%.*s' has no node", FAR_TEXT(site.name));
    } else if (offer.told == offer.nodes && !offer.holds) {
        snprintf(text, FAR_MESSAGE_MAX, "no node of site '%.*s' has the adapter '%.*s'; there are: %s", FAR_TEXT(site.name),
                 FAR_TEXT(far_offer_name(workload->adapter)), offer.names);
    } else if (offer.drained) {
        snprintf(text, FAR_MESSAGE_MAX, "every node of site '%.*s' with the adapter '%.*s' that is up is drained", FAR_TEXT(site.name),
                 FAR_TEXT(far_offer_name(workload->adapter)));
    } else {
        snprintf(text, FAR_MESSAGE_MAX, "no node of site '%.*s' with the adapter '%.*s' is up", FAR_TEXT(site.name),
                 FAR_TEXT(far_offer_name(workload->adapter)));
    }
    return 0;
}

int far_offer_warn(struct far_step *step, uint64_t plan_id)
{
    struct far_key key = far_key_id(&far_schema_row_plan_workload, plan_id);
    while (step->warning[0] == '\0') {
        struct far_row_plan_workload member;
        struct far_row_workload workload;
        char why[FAR_MESSAGE_MAX];
        int rc = far_plan_member_next(step, plan_id, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            return 0;
        }
        FAR_TRY(rc);
        if (member.moved_ms != 0) {
            continue;
        }
        FAR_TRY(far_row_need(step, &far_schema_row_workload, member.workload_id, &workload));
        FAR_TRY(why_not(step, &workload, why));
        if (why[0] != '\0') {
            far_warn(step, "workload '%.*s' waits: %s", FAR_TEXT(workload.name), why);
        }
    }
    return 0;
}

/* A node of the site that said at its boot that it only dials; id 0: there is none. */
static int silent_node(struct far_step *step, uint64_t site_id, struct far_row_node *ret_row)
{
    struct far_row_node row;
    struct far_key key = far_key(&far_schema_row_node);
    int rc;
    ret_row->id = 0;
    while (ret_row->id == 0 && (rc = far_next(step, &far_schema_row_node, &key, NULL, &row)) == 0) {
        bool is_silent = row.site_id == site_id && row.state != FAR_node_state_joined && row.data_address.len == 0;
        *ret_row = is_silent ? row : *ret_row;
    }
    return ret_row->id != 0 || rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_offer_warn_silent(struct far_step *step, uint64_t source_site_id, uint64_t target_site_id)
{
    struct far_row_node source, target;
    bool spreads;
    FAR_TRY(far_level_spreads(step, &spreads));
    if (!spreads) {
        return 0;
    }
    FAR_TRY(silent_node(step, source_site_id, &source));
    FAR_TRY(silent_node(step, target_site_id, &target));
    if (source.id != 0 && target.id != 0) {
        far_warn(step, "nodes '%.*s' and '%.*s' have no data address: neither can call the other, so what they are to copy to each "
                       "other will fail; give one of them one",
                 FAR_TEXT(source.name), FAR_TEXT(target.name));
    }
    return 0;
}

/* ---- why a task waits ---- */

/* The node that alone can do it; what it has goes into the sentence. Empty if it is up. */
static int why_not_node(struct far_step *step, uint64_t node_id, const char *has, char text[FAR_MESSAGE_MAX])
{
    struct far_row_node node;
    int rc = far_row_find(step, &far_schema_row_node, node_id, &node);
    text[0] = '\0';
    if (rc == 0 && node.state != FAR_node_state_up) {
        snprintf(text, FAR_MESSAGE_MAX, "node '%.*s', which has %s, is not up", FAR_TEXT(node.name), has);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Empty if a first copy can begin at the site. */
static int why_no_target(struct far_step *step, uint64_t site_id, char text[FAR_MESSAGE_MAX])
{
    struct offer offer;
    struct far_row_site site;
    FAR_TRY(look(step, site_id, far_slice(NULL, 0), &offer));
    FAR_TRY(far_row_need(step, &far_schema_row_site, site_id, &site));
    snprintf(text, FAR_MESSAGE_MAX,
             offer.nodes == 0 ? "site '%.*s' has no node"
             : offer.drained  ? "every node of site '%.*s' that is up is drained"
                              : "no node of site '%.*s' is up",
             FAR_TEXT(site.name));
    text[0] = offer.ready ? '\0' : text[0];
    return 0;
}

static int why_not_copied(struct far_step *step, const struct far_row_task *task, const struct far_row_workload *workload,
                          char text[FAR_MESSAGE_MAX])
{
    struct far_row_job job;
    struct far_row_plan plan;
    struct far_row_node home = {.id = 0};
    struct far_row_task freeze;
    struct far_key key = far_key_part(&far_schema_row_task, task->job_id, far_group_first(task) + FAR_AT_FREEZE);
    FAR_TRY(far_row_need(step, &far_schema_row_job, task->job_id, &job));
    FAR_TRY(far_row_need(step, &far_schema_row_plan, job.plan_id, &plan));
    FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &freeze));
    int rc = workload->target_node_id != 0 ? far_row_find(step, &far_schema_row_node, workload->target_node_id, &home) : 0;
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(home.id != 0 && home.drained_ms == 0 ? why_not_node(step, home.id, "the points of this workload", text)
                                                 : why_no_target(step, plan.target_site_id, text));
    bool can_send = text[0] != '\0' || task->kind == FAR_task_kind_seal || freeze.shared;
    return can_send ? 0 : why_not_node(step, freeze.node_id, "the frozen view", text);
}

static int why_waits(struct far_step *step, const struct far_row_task *task, char text[FAR_MESSAGE_MAX])
{
    struct far_row_workload workload;
    struct far_row_point point;
    FAR_TRY(far_slot_why(step, task, text));
    if (text[0] != '\0') {
        return 0;
    }
    switch (task->kind) {
    case FAR_task_kind_freeze:
        FAR_TRY(far_row_need(step, &far_schema_row_workload, task->workload_id, &workload));
        return why_not(step, &workload, text);
    case FAR_task_kind_send:
    case FAR_task_kind_receive:
    case FAR_task_kind_seal:
        FAR_TRY(far_row_need(step, &far_schema_row_workload, task->workload_id, &workload));
        return why_not_copied(step, task, &workload, text);
    case FAR_task_kind_restore:
    case FAR_task_kind_verify:
    case FAR_task_kind_forget:
    case FAR_task_kind_lock:
    case FAR_task_kind_rescore:
    case FAR_task_kind_use:
        FAR_TRY(far_row_need(step, &far_schema_row_point, task->point_id, &point));
        return why_not_node(step, point.node_id, "the point in its vault", text);
    case FAR_task_kind_reclaim:
    case FAR_task_kind_measure:
    case FAR_task_kind_scrub:
    case FAR_task_kind_adopt:
    case FAR_task_kind_seed:
        return why_not_node(step, task->vault_node_id, "the vault", text);
    case FAR_task_kind_compare:
    case FAR_task_kind_leaves:
        return far_compare_wait(step, task, text, FAR_MESSAGE_MAX);
    default:
        return 0;
    }
}

static int wait_of(struct far_step *step, const struct far_row_task *task, struct far_slice *ret_why)
{
    char why[FAR_MESSAGE_MAX] = "";
    FAR_TRY(far_task_assignable(task) ? why_waits(step, task, why) : 0);
    return far_step_copy(step, far_slice_str(why), ret_why);
}

int far_query_wait(struct far_state *state, const struct far_row_task *task, struct far_arena *arena,
                   struct far_slice *ret_why, struct far_error *err)
{
    struct far_error cause = {0};
    struct far_step step = {.state = state, .arena = arena, .err = &cause};
    int rc = wait_of(&step, task, ret_why);
    if (rc != 0 && step.is_rejected) {
        return far_fail(err, rc, "%s", step.reject_message);
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}
