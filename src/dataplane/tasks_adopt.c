/* Adopting the vault, and the exchange of numbers once it is adopted: see vault_owner.h. Orders are exchanged before they are carried
 * out, reports when they go out; only what both nodes of a transfer must call alike (job and disk) stays the log's until it gets to the
 * vault. */
#include "dataplane/engine_local.h"

#include <stdlib.h>

uint64_t far_engine_number(struct far_engine *engine, uint64_t number)
{
    pthread_mutex_lock(&engine->owner_mutex);
    uint64_t exchanged = far_vault_owner_exchange(&engine->owner, number);
    pthread_mutex_unlock(&engine->owner_mutex);
    return exchanged;
}

int far_engine_owner_claim(struct far_engine *engine, struct far_error *err)
{
    struct far_error cause = {0};
    int rc = far_vault_owner_claim(engine->vault, engine->config.cluster_uuid, &engine->owner, &cause);
    engine->owner_damaged = rc == FAR_CORRUPT;
    if (rc != 0 && rc != FAR_CORRUPT) {
        return far_fail(err, rc, "%s", cause.message);
    }
    return 0;
}

static int check_owner(struct far_engine *engine, const struct far_vault_owner *owner, bool is_damaged, struct far_error *err)
{
    return is_damaged ? far_fail(err, FAR_CORRUPT,
                                 "whose this node's vault is cannot be told: its file 'owner' is damaged; 'farshore vault adopt' makes it "
                                 "this cluster's")
                      : far_vault_owner_check(engine->vault, owner, engine->config.cluster_uuid, err);
}

/* Of lists that the attempt owns. */
static void exchange_lists(const struct far_vault_owner *owner, struct far_engine_order *order)
{
    for (size_t i = 0; i < order->point_disk_count; i++) {
        struct far_engine_point_disk *disk = (struct far_engine_point_disk *)&order->point_disks[i];
        disk->disk_id = far_vault_owner_exchange(owner, disk->disk_id);
    }
    for (size_t i = 0; i < order->erase_disk_count; i++) {
        ((uint64_t *)order->erase_disk_ids)[i] = far_vault_owner_exchange(owner, order->erase_disk_ids[i]);
    }
    for (size_t i = 0; i < order->plan_count; i++) {
        ((uint64_t *)order->plan_ids)[i] = far_vault_owner_exchange(owner, order->plan_ids[i]);
    }
    for (size_t i = 0; i < order->damage_count; i++) {
        order->damages[i].point_id = far_vault_owner_exchange(owner, order->damages[i].point_id);
    }
}

int far_attempt_enter_vault(struct far_attempt *attempt, struct far_error *err)
{
    struct far_engine *engine = attempt->engine;
    struct far_engine_order *order = &attempt->order;
    bool is_source = order->kind == FAR_ENGINE_FREEZE || order->kind == FAR_ENGINE_SEND || order->kind == FAR_ENGINE_RELEASE ||
                     order->kind == FAR_ENGINE_MACHINE || order->kind == FAR_ENGINE_COMPARE || order->kind == FAR_ENGINE_SCRIPT;
    if (is_source || order->kind == FAR_ENGINE_ADOPT || engine->vault == NULL) {
        return 0;
    }
    pthread_mutex_lock(&engine->owner_mutex);
    struct far_vault_owner owner = engine->owner;
    bool is_damaged = engine->owner_damaged;
    pthread_mutex_unlock(&engine->owner_mutex);
    int rc = check_owner(engine, &owner, is_damaged, err);
    if (rc == 0) {
        order->point_id = far_vault_owner_exchange(&owner, order->point_id);
        order->checkpoint_id = far_vault_owner_exchange(&owner, order->checkpoint_id);
        order->plan_id = far_vault_owner_exchange(&owner, order->plan_id);
        order->workload_id = far_vault_owner_exchange(&owner, order->workload_id);
        order->use.other_point_id = far_vault_owner_exchange(&owner, order->use.other_point_id);
        exchange_lists(&owner, order);
    }
    return rc;
}

void far_engine_exchange_report(struct far_engine *engine, struct far_engine_report *report)
{
    struct far_engine_vault *vault = report->vault;
    for (size_t i = 0; i < report->signal_count; i++) {
        report->signals[i].calm_point_id = far_engine_number(engine, report->signals[i].calm_point_id);
    }
    for (size_t i = 0; i < report->damage_count; i++) {
        report->damages[i].point_id = far_engine_number(engine, report->damages[i].point_id);
    }
    for (size_t i = 0; vault != NULL && i < vault->reclaimed.unused_disk_count; i++) {
        vault->reclaimed.unused_disk_ids[i] = far_engine_number(engine, vault->reclaimed.unused_disk_ids[i]);
    }
    for (size_t i = 0; vault != NULL && i < vault->space_count; i++) {
        vault->spaces[i].plan_id = far_engine_number(engine, vault->spaces[i].plan_id);
    }
    if (vault != NULL && vault->scrubbed != NULL) {
        for (size_t i = 0; i < vault->scrubbed->damage_count && i < FAR_SCRUB_DAMAGES_MAX; i++) {
            vault->scrubbed->damages[i].point_id = far_engine_number(engine, vault->scrubbed->damages[i].point_id);
        }
        for (size_t i = 0; i < vault->scrubbed->name_count; i++) {
            vault->scrubbed->names[i].point_id = far_engine_number(engine, vault->scrubbed->names[i].point_id);
        }
    }
}

/* ---- the task ---- */

/* Keys of domains that the vault has; one that it does not have is not made here. */
static void open_domains(struct far_attempt *attempt)
{
    struct far_vault *vault = attempt->engine->vault;
    struct far_domain_info *infos = calloc(FAR_DOMAINS_MAX, sizeof *infos);
    size_t count = infos != NULL ? far_vault_domains(vault, infos, FAR_DOMAINS_MAX) : 0;
    for (size_t i = 0; i < attempt->order.vault_domain_count; i++) {
        const struct far_engine_vault_domain *brought = &attempt->order.vault_domains[i];
        const struct far_domain *domain;
        for (size_t k = 0; k < count && !brought->destroyed; k++) {
            if (memcmp(infos[k].uuid, brought->keys.uuid, 16) == 0) {
                (void)far_vault_domain_open(vault, &brought->keys, &domain, NULL); /* what stays closed is told with its points */
            }
        }
    }
    free(infos);
}

static int survey(struct far_attempt *attempt, struct far_engine_adoption *adoption, struct far_error *err)
{
    struct far_engine *engine = attempt->engine;
    adoption->is_survey = true;
    pthread_mutex_lock(&engine->owner_mutex);
    adoption->owner = engine->owner;
    adoption->is_own = !engine->owner_damaged && memcmp(engine->owner.cluster_uuid, engine->config.cluster_uuid, 16) == 0;
    pthread_mutex_unlock(&engine->owner_mutex);
    int rc = far_vault_survey(engine->vault, &adoption->survey, err);
    return rc == 0 ? far_vault_reclaim_last(engine->vault, &adoption->pass, err) : rc;
}

static int take_over(struct far_attempt *attempt, struct far_error *err)
{
    struct far_engine *engine = attempt->engine;
    pthread_mutex_lock(&engine->owner_mutex);
    struct far_vault_owner owner = engine->owner;
    pthread_mutex_unlock(&engine->owner_mutex);
    int rc = far_vault_adopt(engine->vault, engine->config.cluster_uuid, attempt->order.adopt_base, attempt->order.adopt_span, &owner, err);
    pthread_mutex_lock(&engine->owner_mutex);
    engine->owner = owner;
    engine->owner_damaged = engine->owner_damaged && rc != 0;
    pthread_mutex_unlock(&engine->owner_mutex);
    return rc;
}

int far_run_adopt(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    const struct far_engine_order *order = &attempt->order;
    struct far_engine_vault *vault = calloc(1, sizeof *vault);
    struct far_engine_adoption *adoption = calloc(1, sizeof *adoption);
    if (vault == NULL || adoption == NULL) {
        free(vault);
        free(adoption);
        return far_fail(err, FAR_LIMIT, "no memory to adopt a vault");
    }
    vault->users = 1;
    vault->adoption = adoption;
    result->vault = vault; /* let go of at the end of the attempt */
    if (order->adopt_base == 0) {
        return survey(attempt, adoption, err);
    }
    int rc = take_over(attempt, err);
    if (rc == 0) {
        open_domains(attempt);
        rc = far_vault_adopted(attempt->engine->vault, order->adopt_after, order->adopt_plans, order->adopt_plan_count, &adoption->adopted,
                               err);
    }
    return rc;
}
