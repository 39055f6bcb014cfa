/* Orders: what a node has to do, composed from the rows of its tasks and what they are about. See query.h. */
#include "fsm/query.h"

#include "fsm/coverage.h"
#include "fsm/dedup_domain.h"
#include "fsm/machine_config.h"
#include "fsm/recovery.h"
#include "fsm/run_lost.h"
#include "fsm/running.h"
#include "fsm/script_task.h"
#include "fsm/vault_row.h"

struct context {
    struct far_step *step;
    uint64_t now_ms; /* cluster time as the server that sends them knows it; 0: it does not */
    struct far_row_cluster cluster;
    struct far_row_job job; /* of the task before: tasks of a job follow each other */
    struct far_row_plan plan;
    struct far_row_workload workload;
};

/* A row that may be gone: all zero then. */
#define FIND_OR_ZERO(step, table, id, ret) \
    find_or_zero(step, &far_schema_row_##table, id, ret, sizeof(struct far_row_##table))
static int find_or_zero(struct far_step *step, const struct far_schema *table, uint64_t id, void *ret, size_t size)
{
    int rc = far_row_find(step, table, id, ret);
    if (rc == FAR_NOT_FOUND) {
        memset(ret, 0, size);
        return 0;
    }
    return rc;
}

static int sibling(struct context *c, const struct far_row_task *task, size_t at, struct far_row_task *ret)
{
    struct far_key key = far_key_part(&far_schema_row_task, task->job_id, far_group_first(task) + at);
    return far_key_need(c->step, &far_schema_row_task, &key, ret);
}

static int find_disk(struct context *c, uint64_t disk_index, struct far_row_disk *ret)
{
    struct far_key key = far_key_part(&far_schema_row_disk, c->workload.id, disk_index);
    return far_key_need(c->step, &far_schema_row_disk, &key, ret);
}

static int list_disks(struct context *c, struct far_list *ret)
{
    size_t count = (size_t)c->workload.disk_count;
    struct far_sub_disk_spec *disks = far_step_alloc(c->step, count * sizeof *disks);
    if (disks == NULL) {
        return FAR_LIMIT;
    }
    for (size_t d = 0; d < count; d++) {
        struct far_row_disk row;
        FAR_TRY(find_disk(c, d, &row));
        disks[d] = (struct far_sub_disk_spec){.name = row.name, .locator = row.locator};
    }
    *ret = (struct far_list){.items = disks, .count = count};
    return 0;
}

/* Did the view become a point on which a list of changes can build? */
static int is_proven(struct context *c, const struct far_row_task *release, bool *ret_is_proven)
{
    struct far_row_task seal, send;
    FAR_TRY(sibling(c, release, FAR_AT_SEAL, &seal));
    for (size_t d = 0; seal.state == FAR_task_state_done && d < c->workload.disk_count; d++) {
        FAR_TRY(sibling(c, release, far_at_send(d), &send));
        *ret_is_proven = *ret_is_proven || send.token.len != 0;
    }
    return 0;
}

static int fill_view(struct context *c, const struct far_row_task *task, struct far_sub_order *order)
{
    FAR_TRY(list_disks(c, &order->disks));
    if (task->kind == FAR_task_kind_freeze) {
        struct far_row_machine_config config;
        FAR_TRY(far_machine_config_find(c->step, c->workload.config_id, &config));
        order->config_sha256 = config.sha256;
    }
    if (task->kind == FAR_task_kind_release) {
        struct far_row_task freeze;
        FAR_TRY(sibling(c, task, FAR_AT_FREEZE, &freeze));
        order->freeze_ref = task->freeze_ref.len != 0 ? task->freeze_ref : freeze.freeze_ref;
        FAR_TRY(task->freeze_ref.len == 0 ? is_proven(c, task, &order->proven) : 0);
    }
    return 0;
}

/* The target listens if it has a data address, else the source: the other one dials there. */
static struct far_slice address_to_dial(bool is_send, const struct far_row_node *own, const struct far_row_node *peer)
{
    const struct far_row_node *target = is_send ? peer : own;
    bool target_listens = target->data_address.len != 0;
    return is_send == target_listens ? peer->data_address : far_slice(NULL, 0);
}

/* When the promised RPO is broken; 0: nothing is promised. A workload that has no point yet is counted from the start of its cycle. */
static int due_of(struct context *c, uint64_t *ret_ms)
{
    struct far_row_point last;
    *ret_ms = 0;
    if (c->plan.rpo_s == 0) {
        return 0;
    }
    FAR_TRY(FIND_OR_ZERO(c->step, point, c->workload.last_point_id, &last));
    *ret_ms = (last.frozen_at_ms != 0 ? last.frozen_at_ms : c->job.started_ms) + c->plan.rpo_s * 1000;
    return 0;
}

static int fill_audit(struct context *c, const struct far_row_task *send, const struct far_row_disk *disk, uint64_t target_id,
                      struct far_sub_order *order)
{
    struct far_audit audit;
    struct far_audit_of of = {
        .job = &c->job, .plan = &c->plan, .workload = &c->workload, .disk = disk, .send = send, .target_id = target_id};
    FAR_TRY(far_audit_plan(c->step, &of, &audit));
    order->since = audit.since;
    order->audit_first_block = audit.first_block;
    order->audit_blocks = audit.blocks;
    order->full = audit.full;
    return 0;
}

static int fill_copy(struct context *c, const struct far_row_task *task, struct far_sub_order *order)
{
    struct far_row_disk disk;
    struct far_row_task freeze, peer;
    struct far_row_node node, own;
    bool is_send = task->kind == FAR_task_kind_send;
    size_t d = (size_t)task->disk_index;
    FAR_TRY(find_disk(c, d, &disk));
    FAR_TRY(sibling(c, task, FAR_AT_FREEZE, &freeze));
    FAR_TRY(sibling(c, task, is_send ? far_at_receive(d) : far_at_send(d), &peer));
    FAR_TRY(FIND_OR_ZERO(c->step, node, peer.node_id, &node));
    FAR_TRY(FIND_OR_ZERO(c->step, node, task->node_id, &own));
    FAR_TRY(due_of(c, &order->due_ms));
    order->disk_id = disk.id;
    order->disk = disk.name;
    order->size_bytes = task->size_bytes;
    order->peer_node_id = peer.node_id;
    order->peer_fingerprint = node.fingerprint;
    order->locator = disk.locator;
    uint64_t target_id = is_send ? peer.node_id : task->node_id;
    if (target_id == c->workload.target_node_id) {
        order->base_root = disk.root; /* another target holds nothing to build on */
    }
    FAR_TRY(far_vault_damages_of(c->step, target_id, c->workload.id, disk.name, &order->damages));
    order->freeze_ref = freeze.freeze_ref; /* a receive that has all of another view has nothing of this one */
    order->peer_address = address_to_dial(is_send, &own, &node);
    order->fuzzy = is_send && freeze.fuzzy;
    return is_send ? fill_audit(c, task, &disk, target_id, order) : 0;
}

/* What comes with the point into its manifest: what its machine is, and how it is to be brought up. */
static int fill_machine_of(struct context *c, struct far_sub_order *order)
{
    struct far_row_machine_config config;
    uint64_t recovery_id;
    FAR_TRY(far_machine_config_find(c->step, c->workload.config_id, &config));
    FAR_TRY(far_machine_config_bytes(c->step, config.id, &order->config));
    order->config_sha256 = config.sha256;
    FAR_TRY(far_recovery_of(c->step, c->plan.id, c->workload.id, &recovery_id));
    return far_recovery_kept(c->step, recovery_id, c->plan.networks_id, &order->recovery);
}

static int fill_seal(struct context *c, const struct far_row_task *task, struct far_sub_order *order)
{
    size_t count = (size_t)c->workload.disk_count;
    struct far_row_task freeze, send;
    struct far_row_site site;
    struct far_sub_point_disk *disks = far_step_alloc(c->step, count * sizeof *disks);
    if (disks == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(sibling(c, task, FAR_AT_FREEZE, &freeze));
    FAR_TRY(FIND_OR_ZERO(c->step, site, c->workload.site_id, &site));
    for (size_t d = 0; d < count; d++) {
        struct far_row_disk disk;
        FAR_TRY(find_disk(c, d, &disk));
        FAR_TRY(sibling(c, task, far_at_send(d), &send));
        disks[d] = (struct far_sub_point_disk){.disk_index = d,
                                               .disk_id = disk.id,
                                               .name = disk.name,
                                               .size_bytes = send.size_bytes,
                                               .root = send.root};
    }
    order->point_disks = (struct far_list){.items = disks, .count = count};
    order->frozen_at_ms = freeze.frozen_at_ms;
    order->fuzzy = freeze.fuzzy;
    order->checkpoint_id = c->job.checkpoint_id;
    order->lock_until_ms = c->job.lock_until_ms;
    order->site = site.name;
    FAR_TRY(fill_machine_of(c, order));
    return far_vault_damages_of(c->step, task->node_id, c->workload.id, far_slice(NULL, 0), &order->damages);
}

/* What can be known of it here: secrets are the sending server's to unseal. */
static int fill_domain(struct context *c, uint64_t domain_id, struct far_sub_order *order)
{
    struct far_row_domain row;
    if (domain_id == 0) {
        return 0;
    }
    struct far_sub_order_domain *domain = far_step_alloc(c->step, sizeof *domain);
    if (domain == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_row_need(c->step, &far_schema_row_domain, domain_id, &row));
    *domain = (struct far_sub_order_domain){.id = row.id, .name = row.name, .uuid = row.uuid};
    order->domain_id = row.id;
    order->domains = (struct far_list){.items = domain, .count = 1};
    order->recovery_public_key = c->cluster.recovery_public_key;
    return 0;
}

/* What is left of its time, by the server that sends the order. */
static int fill_use(struct context *c, struct far_sub_order *order)
{
    struct far_sub_use *use = far_step_alloc(c->step, sizeof *use);
    if (use == NULL || c->job.use.count == 0) {
        return use == NULL ? FAR_LIMIT : 0;
    }
    *use = *(const struct far_sub_use *)c->job.use.items;
    uint64_t end_ms = c->job.started_ms + use->duration_s * 1000;
    if (use->duration_s != 0 && c->now_ms != 0) {
        use->duration_s = end_ms > c->now_ms + 1000 ? (end_ms - c->now_ms) / 1000 : 1;
    }
    order->use = (struct far_list){.items = use, .count = 1};
    return 0;
}

static int fill_point(struct context *c, const struct far_row_task *task, struct far_sub_order *order)
{
    struct far_row_point_disk disk;
    struct far_row_point point;
    struct far_key key = far_key_part(&far_schema_row_point_disk, task->point_id, task->disk_index);
    FAR_TRY(far_row_need(c->step, &far_schema_row_point, task->point_id, &point));
    order->fuzzy = point.fuzzy;
    order->frozen_at_ms = point.frozen_at_ms;
    order->checkpoint_id = point.checkpoint_id;
    if (task->kind == FAR_task_kind_lock) {
        struct far_row_checkpoint checkpoint;
        FAR_TRY(far_row_need(c->step, &far_schema_row_checkpoint, c->job.checkpoint_id, &checkpoint));
        order->lock_until_ms = checkpoint.locked_until_ms;
    }
    if (task->kind == FAR_task_kind_forget || task->kind == FAR_task_kind_lock) {
        return 0;
    }
    FAR_TRY(fill_domain(c, point.domain_id, order));
    FAR_TRY(far_key_need(c->step, &far_schema_row_point_disk, &key, &disk));
    order->disk_id = disk.disk_id;
    order->disk = disk.name;
    order->size_bytes = disk.size_bytes;
    order->root = disk.root;
    order->target_path = task->target_path;
    return task->kind == FAR_task_kind_use ? fill_use(c, order) : 0;
}

/* A machine that is served from the vault: what opens its point there. */
static int fill_served(struct context *c, const struct far_row_task *task, struct far_sub_order *order)
{
    const struct far_sub_machine_order *machine = order->machine.items;
    struct far_row_point point;
    if (!machine->at_once && task->operation != FAR_machine_operation_hydrate) {
        return 0;
    }
    FAR_TRY(far_row_need(c->step, &far_schema_row_point, task->point_id, &point));
    return fill_domain(c, point.domain_id, order);
}

/* All that the vault holds; `any`: that there are. */
static int list_domains(struct context *c, uint64_t node_id, bool any, struct far_sub_order *order)
{
    struct far_sub_order_domain *domains = far_step_alloc(c->step, FAR_DEDUP_DOMAINS_MAX * sizeof *domains);
    struct far_key at = far_key(&far_schema_row_domain);
    struct far_row_domain row;
    size_t count = 0;
    int rc = domains != NULL ? 0 : FAR_LIMIT;
    while (rc == 0 && count < FAR_DEDUP_DOMAINS_MAX && (rc = far_next(c->step, &far_schema_row_domain, &at, NULL, &row)) == 0) {
        struct far_row_domain_vault held;
        struct far_key key = far_key_pair(&far_schema_row_domain_vault, row.id, node_id);
        rc = far_key_find(c->step, &far_schema_row_domain_vault, &key, &held);
        if (rc == 0 || (rc == FAR_NOT_FOUND && any)) { /* a destroyed one too: the vault is to erase it */
            domains[count++] = (struct far_sub_order_domain){.id = row.id, .name = row.name, .uuid = row.uuid};
        }
        rc = rc == FAR_NOT_FOUND ? 0 : rc;
    }
    order->domains = (struct far_list){.items = domains, .count = count};
    order->recovery_public_key = c->cluster.recovery_public_key;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int fill_scrub(struct context *c, const struct far_row_task *task, struct far_sub_order *order)
{
    struct far_row_vault vault;
    FAR_TRY(far_row_need(c->step, &far_schema_row_vault, task->vault_node_id, &vault));
    order->scrub_bytes = c->job.scrub_bytes;
    order->scrub_rotation = vault.scrub_rotation;
    order->scrub_point_id = vault.scrub_point_id;
    order->scrub_disk = vault.scrub_disk;
    order->scrub_block = vault.scrub_block;
    return 0;
}

static int fill_adopt(struct context *c, const struct far_row_task *task, struct far_sub_order *order)
{
    struct far_row_adoption row;
    FAR_TRY(far_row_need(c->step, &far_schema_row_adoption, task->vault_node_id, &row));
    bool is_survey = task->task == 1;
    order->adopt_base = is_survey ? 0 : row.base;
    order->adopt_span = is_survey ? 0 : row.span;
    order->adopt_after = row.after;
    order->adopt_plans = row.plans;
    return 0;
}

/* An erasing plan wants to know of itself alone. */
/* Of the disks whose replicas no point is made of those that no workload has any more: numbers are never given twice. */
static int list_gone_disks(struct context *c, uint64_t node_id, struct far_list *ret_disk_ids)
{
    struct far_row_vault vault;
    size_t count = 0;
    int rc = far_row_find(c->step, &far_schema_row_vault, node_id, &vault);
    uint64_t *ids = rc == 0 ? far_step_alloc(c->step, (vault.unused_disk_ids.count + 1) * sizeof *ids) : NULL;
    if (rc != 0 || ids == NULL) {
        return rc == FAR_NOT_FOUND ? 0 : rc != 0 ? rc : FAR_LIMIT;
    }
    for (size_t i = 0; i < vault.unused_disk_ids.count; i++) {
        struct far_row_disk disk;
        uint64_t id = ((const uint64_t *)vault.unused_disk_ids.items)[i];
        rc = far_row_find(c->step, &far_schema_row_disk, id, &disk);
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        if (rc == FAR_NOT_FOUND) {
            ids[count++] = id;
        }
    }
    *ret_disk_ids = (struct far_list){.items = ids, .count = count};
    return 0;
}

static int fill_vault(struct context *c, const struct far_row_task *task, struct far_sub_order *order)
{
    uint64_t *plan_id = far_step_alloc(c->step, sizeof *plan_id);
    if (plan_id == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(list_domains(c, task->vault_node_id, task->kind == FAR_task_kind_adopt, order));
    if (task->kind == FAR_task_kind_adopt) {
        return fill_adopt(c, task, order);
    }
    if (task->kind == FAR_task_kind_scrub) {
        return fill_scrub(c, task, order);
    }
    *plan_id = c->job.plan_id;
    order->plan_ids = (struct far_list){.items = plan_id, .count = 1};
    order->pass = task->kind == FAR_task_kind_reclaim ? c->job.pass : 0;
    order->delete_before = task->kind == FAR_task_kind_reclaim ? c->job.delete_before : 0;
    order->secure = task->kind == FAR_task_kind_reclaim && c->job.kind == FAR_job_kind_erase;
    if (order->secure) {
        FAR_TRY(far_erase_disks(c->step, c->job.plan_id, &order->erase_disk_ids));
    } else if (task->kind == FAR_task_kind_reclaim) {
        FAR_TRY(list_gone_disks(c, task->vault_node_id, &order->erase_disk_ids));
    }
    return c->job.plan_id != 0 ? 0 : far_vault_row_plans(c->step, task->vault_node_id, &order->plan_ids);
}

static int fill_seed(struct context *c, struct far_sub_order *order)
{
    const struct far_sub_seed *seed = c->job.seed.items;
    if (c->job.seed.count > 0) {
        order->adapter = seed->adapter;
        order->locator = seed->locator;
        order->disk = seed->disk;
        order->disk_id = seed->disk_id;
    }
    return fill_domain(c, c->plan.domain_id, order);
}

static int fill_compare(struct context *c, const struct far_row_task *task, struct far_sub_order *order)
{
    struct far_row_point point;
    FAR_TRY(far_row_need(c->step, &far_schema_row_point, task->point_id, &point));
    FAR_TRY(far_compare_order(c->step, task, order));
    return fill_domain(c, point.domain_id, order); /* the source has the secret alone, as for a send */
}

static int load_context(struct context *c, const struct far_row_task *task)
{
    if (c->job.id != task->job_id) {
        FAR_TRY(far_row_need(c->step, &far_schema_row_job, task->job_id, &c->job));
        FAR_TRY(FIND_OR_ZERO(c->step, plan, c->job.plan_id, &c->plan));
    }
    return c->workload.id != task->workload_id ? FIND_OR_ZERO(c->step, workload, task->workload_id, &c->workload) : 0;
}

/* What is left of the lease: a server that lags, or a node that comes back, would else begin it anew. */
static int lease_left(struct context *c, const struct far_row_task *task, uint64_t *ret_ms)
{
    struct far_row_task shown = *task;
    uint64_t until_ms = task->lease_until_ms;
    FAR_TRY(far_running_show(c->step, &shown, &until_ms));
    uint64_t left_ms = until_ms > c->now_ms ? until_ms - c->now_ms : 0;
    bool is_known = c->now_ms != 0 && until_ms != 0;
    *ret_ms = is_known && left_ms < c->cluster.lease_ms ? left_ms : c->cluster.lease_ms;
    return 0;
}

static int compose(struct context *c, const struct far_row_task *task, struct far_sub_order *ret)
{
    uint64_t left_ms = 0;
    FAR_TRY(load_context(c, task));
    FAR_TRY(lease_left(c, task, &left_ms));
    struct far_sub_order order = {
        .job_id = task->job_id,
        .task = task->task,
        .attempt = task->attempt,
        .kind = task->kind,
        .lease_ms = left_ms,
        .incarnation_epoch = c->cluster.incarnation_epoch,
        .plan_epoch = c->plan.epoch,
        .plan_id = c->job.plan_id,
        .plan = c->plan.name,
        .workload_id = task->workload_id,
        .workload = c->workload.name,
        .adapter = c->workload.adapter,
        .disk_index = task->disk_index,
        .point_id = task->point_id,
    };
    int rc;
    switch (task->kind) {
    case FAR_task_kind_freeze:
    case FAR_task_kind_release:
        rc = fill_view(c, task, &order);
        break;
    case FAR_task_kind_send:
    case FAR_task_kind_receive:
        rc = fill_copy(c, task, &order);
        rc = rc == 0 ? fill_domain(c, c->plan.domain_id, &order) : rc;
        break;
    case FAR_task_kind_seal:
        rc = fill_seal(c, task, &order);
        rc = rc == 0 ? fill_domain(c, c->plan.domain_id, &order) : rc;
        break;
    case FAR_task_kind_reclaim:
    case FAR_task_kind_measure:
    case FAR_task_kind_scrub:
    case FAR_task_kind_adopt:
        rc = fill_vault(c, task, &order);
        break;
    case FAR_task_kind_seed:
        rc = fill_seed(c, &order);
        break;
    case FAR_task_kind_compare:
    case FAR_task_kind_leaves:
        rc = fill_compare(c, task, &order);
        break;
    case FAR_task_kind_script:
        rc = far_script_order(c->step, &c->job, task, &order);
        break;
    case FAR_task_kind_machine:
        rc = list_disks(c, &order.disks);
        rc = rc == 0 ? far_run_order(c->step, &c->job, task, &order) : rc;
        rc = rc == 0 ? fill_served(c, task, &order) : rc;
        break;
    default:
        rc = fill_point(c, task, &order);
        break;
    }
    if (rc == 0) {
        *ret = order;
    }
    return rc;
}

static int list_orders(struct far_step *step, uint64_t node_id, uint64_t now_ms, size_t max, struct far_list *ret_orders)
{
    struct far_key at = far_key_id(&far_schema_row_node_task, node_id), key = far_key(&far_schema_row_cluster);
    struct far_row_node node;
    struct context c = {.step = step, .now_ms = now_ms};
    FAR_TRY(far_key_need(step, &far_schema_row_cluster, &key, &c.cluster));
    int rc = far_row_find(step, &far_schema_row_node, node_id, &node);
    if (rc == FAR_NOT_FOUND) {
        return far_reject(step, FAR_NOT_FOUND, "there is no node %llu", FAR_LLU(node_id));
    }
    FAR_TRY(rc);
    size_t capacity = node.task_count < max ? (size_t)node.task_count : max, count = 0;
    struct far_sub_order *orders = far_step_alloc(step, capacity * sizeof *orders);
    if (orders == NULL) {
        return FAR_LIMIT;
    }
    while (count < capacity) {
        struct far_row_node_task held;
        struct far_row_task task;
        struct far_slice id;
        rc = far_next(step, &far_schema_row_node_task, &at, &id, &held);
        if (rc == FAR_NOT_FOUND || (rc == 0 && far_get_be64(id.data) != node_id)) {
            break;
        }
        FAR_TRY(rc);
        key = far_key_part(&far_schema_row_task, far_get_be64(id.data + 8), far_get_be32(id.data + 16));
        FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &task));
        FAR_TRY(compose(&c, &task, &orders[count]));
        count++;
    }
    *ret_orders = (struct far_list){.items = orders, .count = count};
    return 0;
}

int far_query_orders(struct far_state *state, uint64_t node_id, size_t max, struct far_arena *arena,
                     struct far_list *ret_orders, struct far_error *err)
{
    return far_query_orders_at(state, node_id, 0, max, arena, ret_orders, err);
}

int far_query_orders_at(struct far_state *state, uint64_t node_id, uint64_t now_ms, size_t max, struct far_arena *arena,
                        struct far_list *ret_orders, struct far_error *err)
{
    struct far_error cause = {0};
    struct far_step step = {.state = state, .arena = arena, .err = &cause};
    int rc = list_orders(&step, node_id, now_ms, max, ret_orders);
    if (rc != 0 && step.is_rejected) {
        return far_fail(err, rc, "%s", step.reject_message);
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}
