/* Orders: is it one, and a copy of it that the attempt owns. */
#include "dataplane/engine_local.h"
#include "dataplane/use_place.h"

int far_engine_check_order(const struct far_engine *engine, const struct far_engine_order *order, struct far_error *err)
{
    if (order->kind < FAR_ENGINE_FREEZE || order->kind > FAR_ENGINE_SCRIPT) {
        return far_fail(err, FAR_INVALID, "an order of unknown kind %d", (int)order->kind);
    }
    if (order->disk_count > FAR_ENGINE_DISKS_MAX || order->point_disk_count > FAR_ENGINE_DISKS_MAX) {
        return far_fail(err, FAR_INVALID, "an order with more than %d disks", FAR_ENGINE_DISKS_MAX);
    }
    if ((order->kind == FAR_ENGINE_COMPARE || order->kind == FAR_ENGINE_LEAVES) &&
        (order->point_disk_count == 0 || (order->kind == FAR_ENGINE_COMPARE && order->point_disk_count != order->disk_count))) {
        return far_fail(err, FAR_INVALID, "an order to compare other disks than a point has");
    }
    if (order->machine.disk_count > FAR_ENGINE_DISKS_MAX) {
        return far_fail(err, FAR_INVALID, "a machine of more than %d disks", FAR_ENGINE_DISKS_MAX);
    }
    if (order->config_len > FAR_CAPTURED_BYTES_MAX || order->recovery_len > FAR_MANIFEST_RECOVERY_MAX) {
        return far_fail(err, FAR_INVALID, "an order with too long a configuration");
    }
    if (order->freeze_ref != NULL && strlen(order->freeze_ref) > FAR_TRANSFER_REF_MAX) {
        return far_fail(err, FAR_INVALID, "an order whose freeze reference is too long");
    }
    bool source = order->kind == FAR_ENGINE_FREEZE || order->kind == FAR_ENGINE_SEND || order->kind == FAR_ENGINE_RELEASE ||
                  order->kind == FAR_ENGINE_MACHINE || order->kind == FAR_ENGINE_COMPARE ||
                  order->kind == FAR_ENGINE_SCRIPT; /* for which there need be no vault */
    if (!source && engine->vault == NULL) {
        return far_fail(err, FAR_INVALID, "this node has no vault, it cannot be a target");
    }
    if (order->has_domain && !source && order->domain.generation == 0) {
        return far_fail(err, FAR_INVALID, "an order in domain '%.63s' without its key", order->domain.name);
    }
    return 0;
}

int far_attempt_domain(struct far_attempt *attempt, const struct far_domain **ret_domain, struct far_engine_report *result,
                       struct far_error *err)
{
    const struct far_domain *domain = NULL;
    int rc = attempt->order.has_domain ? far_vault_domain_open(attempt->engine->vault, &attempt->order.domain, &domain, err) : 0;
    if (rc == 0) {
        *ret_domain = domain;
    }
    if (rc == 0 && result != NULL) {
        result->domain_id = domain != NULL ? attempt->order.domain_id : 0;
        result->domain_generation = far_domain_generation(attempt->engine->vault, domain);
    }
    return rc;
}

void far_attempt_vault_domains(struct far_attempt *attempt, struct far_engine_report *result)
{
    const struct far_engine_order *order = &attempt->order;
    const struct far_domain *domain;
    for (size_t i = 0; i < order->vault_domain_count; i++) {
        const struct far_engine_vault_domain *brought = &order->vault_domains[i];
        if (!brought->destroyed) {
            (void)far_vault_domain_open(attempt->engine->vault, &brought->keys, &domain, NULL);
        } else if (far_vault_domain_destroy(attempt->engine->vault, brought->keys.uuid, NULL) == 0 &&
                   result->erased_domain_count < FAR_ENGINE_ERASED_MAX) {
            result->erased_domains[result->erased_domain_count++] = brought->id;
        }
    }
}

const char *far_order_copy_string(struct far_arena *arena, const char *text)
{
    size_t len = text != NULL ? strlen(text) : 0;
    char *copy = far_arena_alloc(arena, len + 1);
    if (copy != NULL && len > 0) {
        memcpy(copy, text, len);
    }
    return copy;
}

static bool copy_bytes(struct far_arena *arena, const uint8_t **bytes, size_t len)
{
    uint8_t *copy = far_arena_alloc(arena, len + 1);
    if (copy != NULL && len > 0) {
        memcpy(copy, *bytes, len);
    }
    *bytes = copy;
    return copy != NULL;
}

static int copy_lists(struct far_arena *arena, struct far_engine_order *order, struct far_error *err)
{
    struct far_engine_disk *disks = far_arena_alloc(arena, (order->disk_count + 1) * sizeof *disks);
    struct far_engine_point_disk *points = far_arena_alloc(arena, (order->point_disk_count + 1) * sizeof *points);
    struct far_engine_vault_domain *domains = far_arena_alloc(arena, (order->vault_domain_count + 1) * sizeof *domains);
    uint64_t *plan_ids = far_arena_alloc(arena, (order->plan_count + 1) * sizeof *plan_ids);
    uint64_t *erased = far_arena_alloc(arena, (order->erase_disk_count + 1) * sizeof *erased);
    const char **adopted = far_arena_alloc(arena, (order->adopt_plan_count + 1) * sizeof *adopted);
    bool complete = disks != NULL && points != NULL && domains != NULL && plan_ids != NULL && erased != NULL && adopted != NULL;
    for (size_t i = 0; complete && i < order->adopt_plan_count; i++) {
        adopted[i] = far_order_copy_string(arena, order->adopt_plans[i]);
        complete = adopted[i] != NULL;
    }
    order->adopt_plans = adopted;
    const char **since = far_arena_alloc(arena, (order->disk_count + 1) * sizeof *since);
    complete = complete && since != NULL;
    for (size_t i = 0; complete && i < order->disk_count; i++) {
        since[i] = far_order_copy_string(arena, order->since_each != NULL ? order->since_each[i] : NULL);
        complete = since[i] != NULL;
    }
    order->since_each = since;
    if (complete && order->vault_domain_count > 0) {
        memcpy(domains, order->vault_domains, order->vault_domain_count * sizeof *domains);
    }
    for (size_t i = 0; complete && i < order->disk_count; i++) {
        disks[i].name = far_order_copy_string(arena, order->disks[i].name);
        disks[i].locator = far_order_copy_string(arena, order->disks[i].locator);
        complete = disks[i].name != NULL && disks[i].locator != NULL;
    }
    for (size_t i = 0; complete && i < order->point_disk_count; i++) {
        points[i] = order->point_disks[i];
        points[i].name = far_order_copy_string(arena, order->point_disks[i].name);
        complete = points[i].name != NULL;
    }
    if (complete && order->plan_count > 0) {
        memcpy(plan_ids, order->plan_ids, order->plan_count * sizeof *plan_ids);
    }
    if (complete && order->erase_disk_count > 0) {
        memcpy(erased, order->erase_disk_ids, order->erase_disk_count * sizeof *erased);
    }
    complete = complete && copy_bytes(arena, &order->config, order->config_len) && copy_bytes(arena, &order->recovery, order->recovery_len);
    order->erase_disk_ids = erased;
    order->plan_ids = plan_ids;
    order->disks = disks;
    order->point_disks = points;
    order->vault_domains = domains;
    return complete ? 0 : far_fail(err, FAR_LIMIT, "no memory for an order");
}

int far_attempt_copy_order(struct far_attempt *attempt, const struct far_engine_order *order, struct far_error *err)
{
    struct far_arena *arena = &attempt->arena;
    attempt->order = *order;
    const char **const strings[] = {&attempt->order.plan,        &attempt->order.workload,   &attempt->order.adapter,
                                    &attempt->order.disk,        &attempt->order.locator,    &attempt->order.freeze_ref,
                                    &attempt->order.peer_address, &attempt->order.target_path, &attempt->order.site,
                                    &attempt->order.since,       &attempt->order.use.path,   &attempt->order.use.listen,
                                    &attempt->order.use.guest_path, &attempt->order.use.backing, &attempt->order.script.name,
                                    &attempt->order.script.phase, &attempt->order.script.kind, &attempt->order.script.machine,
                                    &attempt->order.script.address, &attempt->order.script.result};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        *strings[i] = far_order_copy_string(arena, *strings[i]);
        if (*strings[i] == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory for an order");
        }
    }
    int rc = copy_lists(arena, &attempt->order, err);
    return rc == 0 ? far_attempt_copy_machine(arena, &attempt->order.machine, err) : rc;
}

/* ---- what is kept until the log knows ---- */

static bool has_attempt(struct far_engine *engine, uint64_t job_id, uint64_t task)
{
    bool has = false;
    pthread_mutex_lock(&engine->mutex);
    for (const struct far_attempt *a = engine->attempts; a != NULL && !has; a = a->next) {
        has = a->order.job_id == job_id && a->order.task == task && !atomic_load(&a->ended);
    }
    pthread_mutex_unlock(&engine->mutex);
    return has;
}

size_t far_engine_kept(struct far_engine *engine, struct far_engine_task *ret_tasks, size_t max)
{
    struct far_use_key keys[FAR_ENGINE_KEPT_MAX];
    size_t count = 0;
    if (!atomic_exchange(&engine->keeps, false)) {
        return 0; /* the folder is read only while there may be some */
    }
    size_t found = far_use_kept(engine->config.node_dir, keys, FAR_ENGINE_KEPT_MAX);
    if (found > 0) {
        atomic_store(&engine->keeps, true);
    }
    for (size_t i = 0; i < found && count < max; i++) {
        if (!has_attempt(engine, keys[i].job_id, keys[i].task)) {
            ret_tasks[count++] = (struct far_engine_task){.job_id = keys[i].job_id, .task = keys[i].task};
        }
    }
    return count;
}

void far_engine_settle(struct far_engine *engine, uint64_t job_id, uint64_t task)
{
    if (!has_attempt(engine, job_id, task)) {
        far_use_settle(engine->config.node_dir, job_id, task);
    }
}
