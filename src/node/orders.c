/* Orders: see orders.h. A string of a message is a slice, the engine's end with NUL, so each is copied once. */
#include "node/orders.h"

#include "dataplane/captured.h"

#include <stdlib.h>

static const char *text(struct far_slice slice, struct far_arena *arena)
{
    char *copy = far_arena_alloc(arena, slice.len + 1);
    if (copy != NULL && slice.len > 0) {
        memcpy(copy, slice.data, slice.len);
    }
    return copy;
}

static bool root_from(struct far_slice slice, uint8_t root[32])
{
    if (slice.len == 32) {
        memcpy(root, slice.data, 32);
    }
    return slice.len == 32;
}

static int convert_disks(const struct far_list *list, struct far_arena *arena, struct far_engine_order *out)
{
    const struct far_sub_disk_spec *specs = list->items;
    struct far_engine_disk *disks = far_arena_alloc(arena, list->count * sizeof *disks);
    if (disks == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < list->count; i++) {
        disks[i].name = text(specs[i].name, arena);
        disks[i].locator = text(specs[i].locator, arena);
        if (disks[i].name == NULL || disks[i].locator == NULL) {
            return FAR_LIMIT;
        }
    }
    out->disks = disks;
    out->disk_count = list->count;
    return 0;
}

static int convert_point_disks(const struct far_list *list, struct far_arena *arena, struct far_engine_order *out)
{
    const struct far_sub_point_disk *rows = list->items;
    struct far_engine_point_disk *disks = far_arena_alloc(arena, list->count * sizeof *disks);
    if (disks == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < list->count; i++) {
        disks[i].disk_index = rows[i].disk_index;
        disks[i].disk_id = rows[i].disk_id;
        disks[i].size_bytes = rows[i].size_bytes;
        disks[i].name = text(rows[i].name, arena);
        if (disks[i].name == NULL) {
            return FAR_LIMIT;
        }
        if (!root_from(rows[i].root, disks[i].root)) {
            return FAR_INVALID;
        }
    }
    out->point_disks = disks;
    out->point_disk_count = list->count;
    return 0;
}

static bool secret_from(struct far_slice slice, uint8_t secret[32])
{
    if (slice.len == 32) {
        memcpy(secret, slice.data, 32);
    }
    return slice.len == 32;
}

/* false: it has no secret, for it was destroyed. */
static bool convert_keys(const struct far_sub_order *order, const struct far_sub_order_domain *domain, struct far_domain_keys *keys)
{
    memcpy(keys->uuid, domain->uuid.data, domain->uuid.len == 16 ? 16 : 0);
    memcpy(keys->name, domain->name.data, domain->name.len <= FAR_DOMAIN_NAME_MAX ? domain->name.len : 0);
    keys->generation = secret_from(domain->key, keys->key) ? (uint32_t)domain->generation : 0;
    keys->old_generation = secret_from(domain->old_key, keys->old_key) ? (uint32_t)domain->old_generation : 0;
    keys->has_recovery_key = secret_from(order->recovery_public_key, keys->recovery_public);
    return secret_from(domain->secret, keys->secret) && domain->uuid.len == 16;
}

/* The order's own domain, the first one; or, of what is about a whole vault, all of them. */
static int convert_domains(const struct far_sub_order *order, struct far_arena *arena, struct far_engine_order *out, struct far_error *err)
{
    const struct far_sub_order_domain *domains = order->domains.items;
    if (order->domain_id == 0) {
        struct far_engine_vault_domain *all = far_arena_alloc(arena, (order->domains.count + 1) * sizeof *all);
        if (all == NULL) {
            return far_fail(err, FAR_LIMIT, "an order needs too much memory");
        }
        memset(all, 0, (order->domains.count + 1) * sizeof *all);
        for (size_t i = 0; i < order->domains.count; i++) {
            all[i].id = domains[i].id;
            all[i].destroyed = !convert_keys(order, &domains[i], &all[i].keys);
        }
        out->vault_domains = all;
        out->vault_domain_count = order->domains.count;
        return 0;
    }
    if (order->domains.count == 0 || !convert_keys(order, domains, &out->domain)) {
        return far_fail(err, FAR_DENIED, "its dedup domain was destroyed: nothing of it can be read or written any more");
    }
    out->has_domain = true;
    out->domain_id = order->domain_id;
    return 0;
}

static int convert_adoption(const struct far_sub_order *order, struct far_arena *arena, struct far_engine_order *out)
{
    const struct far_slice *plans = order->adopt_plans.items;
    const char **names = far_arena_alloc(arena, (order->adopt_plans.count + 1) * sizeof *names);
    for (size_t i = 0; names != NULL && i < order->adopt_plans.count; i++) {
        names[i] = text(plans[i], arena);
        names = names[i] != NULL ? names : NULL;
    }
    out->adopt_base = order->adopt_base;
    out->adopt_span = order->adopt_span;
    out->adopt_after = order->adopt_after;
    out->adopt_plans = names;
    out->adopt_plan_count = order->adopt_plans.count;
    return names != NULL ? 0 : FAR_LIMIT;
}

static int convert_since(const struct far_sub_order *order, struct far_arena *arena, struct far_engine_order *out)
{
    const struct far_slice *from = order->since_each.items;
    const char **since = far_arena_alloc(arena, (out->disk_count + 1) * sizeof *since);
    bool ok = since != NULL;
    for (size_t i = 0; ok && i < out->disk_count; i++) {
        since[i] = i < order->since_each.count ? text(from[i], arena) : "";
        ok = since[i] != NULL;
    }
    out->since_each = since;
    return ok ? 0 : FAR_LIMIT;
}

static int convert_lists(const struct far_sub_order *order, struct far_arena *arena, struct far_engine_order *out)
{
    int rc = convert_since(order, arena, out);
    return rc == 0 ? convert_adoption(order, arena, out) : rc;
}

static void convert_damages(const struct far_sub_order *order, struct far_engine_order *out)
{
    const struct far_sub_scrub_damage *from = order->damages.items;
    for (size_t i = 0; i < order->damages.count && i < FAR_ENGINE_DAMAGES_MAX; i++) {
        struct far_engine_damage *to = &out->damages[out->damage_count++];
        *to = (struct far_engine_damage){
            .point_id = from[i].point_id, .first_block = from[i].first_block, .block_count = from[i].block_count};
        memcpy(to->disk, from[i].disk.data, from[i].disk.len < sizeof to->disk ? from[i].disk.len : 0);
    }
}

static struct far_scrub_order scrub_of(const struct far_sub_order *order)
{
    return (struct far_scrub_order){.bytes_max = order->scrub_bytes,
                                    .cursor = {.rotation = order->scrub_rotation,
                                               .point_id = order->scrub_point_id,
                                               .disk = order->scrub_disk,
                                               .block = order->scrub_block}};
}

static int convert_use(const struct far_sub_order *order, struct far_arena *arena, struct far_engine_order *out, struct far_error *err)
{
    const struct far_sub_use *use = order->use.items;
    if (order->use.count == 0) {
        return order->kind == FAR_task_kind_use ? far_fail(err, FAR_INVALID, "an order to use a point for nothing") : 0;
    }
    out->use = (struct far_engine_use){.operation = (enum far_engine_use_operation)use->operation,
                                       .other_point_id = use->other_point_id,
                                       .path = text(use->path, arena),
                                       .is_qcow2 = use->format == FAR_image_format_qcow2,
                                       .writable = use->writable,
                                       .listen = text(use->listen, arena),
                                       .duration_s = use->duration_s,
                                       .guest_path = text(use->guest_path, arena),
                                       .backing = text(use->backing, arena),
                                       .range_offset = use->range_offset,
                                       .write_bytes_max = use->write_bytes_max};
    bool complete = out->use.path != NULL && out->use.listen != NULL && out->use.guest_path != NULL && out->use.backing != NULL;
    return complete ? 0 : far_fail(err, FAR_LIMIT, "an order needs too much memory");
}

/* ---- machines ---- */

static bool convert_nics(const struct far_sub_recovery *recovery, struct far_arena *arena, struct far_engine_machine *out)
{
    const struct far_sub_recovery_nic *from = recovery->nics.items;
    struct far_adapter_machine_nic *nics = far_arena_alloc(arena, (recovery->nics.count + 1) * sizeof *nics);
    bool ok = nics != NULL;
    for (size_t i = 0; ok && i < recovery->nics.count; i++) {
        nics[i] = (struct far_adapter_machine_nic){.index = (uint32_t)from[i].nic,
                                                   .mac = text(from[i].mac, arena),
                                                   .network = text(from[i].network, arena),
                                                   .test_network = text(from[i].test_network, arena),
                                                   .address = text(from[i].address, arena),
                                                   .prefix = (uint32_t)from[i].prefix,
                                                   .gateway = text(from[i].gateway, arena),
                                                   .is_mapped = from[i].mode == FAR_address_mode_mapped};
        ok = nics[i].mac != NULL && nics[i].network != NULL && nics[i].test_network != NULL && nics[i].address != NULL &&
             nics[i].gateway != NULL;
    }
    out->nics = nics;
    out->nic_count = recovery->nics.count;
    return ok;
}

static bool convert_tags(const struct far_sub_recovery *recovery, struct far_arena *arena, struct far_engine_machine *out)
{
    const struct far_sub_label *from = recovery->tags.items;
    struct far_adapter_machine_tag *tags = far_arena_alloc(arena, (recovery->tags.count + 1) * sizeof *tags);
    bool ok = tags != NULL;
    for (size_t i = 0; ok && i < recovery->tags.count; i++) {
        tags[i] = (struct far_adapter_machine_tag){.key = text(from[i].key, arena), .value = text(from[i].value, arena)};
        ok = tags[i].key != NULL && tags[i].value != NULL;
    }
    out->tags = tags;
    out->tag_count = recovery->tags.count;
    return ok;
}

static bool convert_networks(const struct far_list *list, struct far_arena *arena, struct far_engine_machine *out)
{
    const struct far_sub_network_map *from = list->items;
    struct far_adapter_machine_network *networks = far_arena_alloc(arena, (list->count + 1) * sizeof *networks);
    bool ok = networks != NULL;
    for (size_t i = 0; ok && i < list->count; i++) {
        networks[i] = (struct far_adapter_machine_network){
            .source = text(from[i].source, arena),
            .target = text(from[i].target, arena),
            .test = text(from[i].test, arena),
            .source_subnet = text(from[i].source_subnet, arena),
            .target_subnet = text(from[i].target_subnet, arena)};
        ok = networks[i].source != NULL && networks[i].target != NULL && networks[i].test != NULL && networks[i].source_subnet != NULL &&
             networks[i].target_subnet != NULL;
    }
    out->networks = networks;
    out->network_count = list->count;
    return ok;
}

static bool convert_machine_disks(const struct far_list *list, struct far_arena *arena, struct far_engine_machine *out)
{
    const struct far_sub_machine_disk *from = list->items;
    struct far_engine_machine_disk *disks = far_arena_alloc(arena, (list->count + 1) * sizeof *disks);
    bool ok = disks != NULL;
    for (size_t i = 0; ok && i < list->count; i++) {
        disks[i] = (struct far_engine_machine_disk){.name = text(from[i].name, arena),
                                                    .source = text(from[i].source, arena),
                                                    .target = text(from[i].target, arena),
                                                    .is_qcow2 = from[i].format == FAR_image_format_qcow2};
        ok = disks[i].name != NULL && disks[i].source != NULL && disks[i].target != NULL;
    }
    out->disks = disks;
    out->disk_count = list->count;
    return ok;
}

/* As the log keeps it (captured.h), or as it is. */
static int convert_config(struct far_slice config, struct far_arena *arena, struct far_engine_machine *out, struct far_error *err)
{
    static const uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd};
    char *unpacked = NULL;
    if (config.len < sizeof frame || memcmp(config.data, frame, sizeof frame) != 0) {
        out->config = text(config, arena);
        return out->config != NULL ? 0 : far_fail(err, FAR_LIMIT, "an order needs too much memory");
    }
    int rc = far_captured_text(config.data, config.len, &unpacked, err);
    if (rc == 0) {
        out->config = text(far_slice_str(unpacked), arena);
        rc = out->config != NULL ? 0 : far_fail(err, FAR_LIMIT, "an order needs too much memory");
    }
    free(unpacked);
    return rc;
}

static int convert_machine(const struct far_sub_order *order, struct far_arena *arena, struct far_engine_order *out, struct far_error *err)
{
    static const struct far_sub_recovery as_it_was;
    const struct far_sub_machine_order *from = order->machine.items;
    if (order->machine.count == 0) {
        return far_fail(err, FAR_INVALID, "an order to do nothing with a machine");
    }
    const struct far_sub_recovery *recovery = from->recovery.count > 0 ? from->recovery.items : &as_it_was;
    const struct far_sub_recovery_gate *gate = from->gate.count > 0 ? from->gate.items : NULL;
    struct far_engine_machine machine = {.operation = (enum far_engine_machine_operation)from->operation,
                                         .ref = text(from->ref, arena),
                                         .name = text(from->name, arena),
                                         .isolated = from->isolated,
                                         .processors = recovery->processors,
                                         .memory_bytes = recovery->memory_bytes,
                                         .firmware = (int)recovery->firmware, /* the numbers are the adapter's */
                                         .gate = gate != NULL ? (enum far_engine_gate_kind)gate->kind : 0,
                                         .gate_port = gate != NULL ? gate->port : 0,
                                         .gate_script = gate != NULL ? text(gate->script, arena) : "",
                                         .timeout_s = gate != NULL && from->timeout_s == 0 ? gate->timeout_s : from->timeout_s,
                                         .force = from->force,
                                         .at_once = from->at_once};
    bool ok = machine.ref != NULL && machine.name != NULL && machine.gate_script != NULL && convert_nics(recovery, arena, &machine) &&
              convert_tags(recovery, arena, &machine) && convert_networks(&from->networks, arena, &machine) &&
              convert_machine_disks(&from->disks, arena, &machine);
    int rc = ok ? convert_config(from->config, arena, &machine, err) : far_fail(err, FAR_LIMIT, "an order needs too much memory");
    out->machine = machine;
    return rc;
}

static int convert_script(const struct far_sub_order *order, struct far_arena *arena, struct far_engine_order *out, struct far_error *err)
{
    const struct far_sub_script_order *from = order->script.items;
    const struct far_sub_plan_script *script = order->script.count > 0 && from->script.count > 0 ? from->script.items : NULL;
    if (script == NULL) {
        return far_fail(err, FAR_INVALID, "an order to run no script");
    }
    out->script = (struct far_engine_script){.name = text(script->name, arena),
                                             .phase = far_enum_name(&far_enum_script_phase, script->phase),
                                             .kind = far_enum_name(&far_enum_job_kind, from->kind),
                                             .machine = text(from->machine, arena),
                                             .address = text(from->address, arena),
                                             .isolated = from->isolated,
                                             .result = text(from->result, arena),
                                             .timeout_s = script->timeout_s};
    if (!root_from(script->sha256, out->script.sha256)) {
        return far_fail(err, FAR_INVALID, "an order to run a script of any bytes");
    }
    bool complete = out->script.name != NULL && out->script.machine != NULL && out->script.address != NULL && out->script.result != NULL;
    return complete ? 0 : far_fail(err, FAR_LIMIT, "an order needs too much memory");
}

static int convert_work(const struct far_sub_order *order, struct far_arena *arena, struct far_engine_order *out, struct far_error *err)
{
    return order->kind == FAR_task_kind_machine  ? convert_machine(order, arena, out, err)
           : order->kind == FAR_task_kind_script ? convert_script(order, arena, out, err)
                                                 : convert_use(order, arena, out, err);
}

static bool convert_hashes(const struct far_sub_order *order, struct far_engine_order *out)
{
    out->has_base_root = root_from(order->base_root, out->base_root);
    out->has_peer_fingerprint = root_from(order->peer_fingerprint, out->peer_fingerprint);
    out->has_config_hash = root_from(order->config_sha256, out->config_hash);
    return (order->base_root.len == 0 || out->has_base_root) && (order->root.len == 0 || root_from(order->root, out->root));
}

int far_orders_convert(const struct far_sub_order *order, struct far_arena *arena, struct far_engine_order *ret_order,
                       struct far_error *err)
{
    struct far_engine_order out = {
        .job_id = order->job_id,
        .task = order->task,
        .attempt = order->attempt,
        .kind = (enum far_engine_kind)order->kind,
        .lease_ms = order->lease_ms,
        .incarnation_epoch = order->incarnation_epoch,
        .plan_epoch = order->plan_epoch,
        .plan_id = order->plan_id,
        .plan = text(order->plan, arena),
        .workload_id = order->workload_id,
        .workload = text(order->workload, arena),
        .adapter = text(order->adapter, arena),
        .disk_index = order->disk_index,
        .disk_id = order->disk_id,
        .disk = text(order->disk, arena),
        .locator = text(order->locator, arena),
        .size_bytes = order->size_bytes,
        .freeze_ref = text(order->freeze_ref, arena),
        .peer_node_id = order->peer_node_id,
        .peer_address = text(order->peer_address, arena),
        .point_id = order->point_id,
        .target_path = text(order->target_path, arena),
        .frozen_at_ms = order->frozen_at_ms,
        .fuzzy = order->fuzzy,
        .checkpoint_id = order->checkpoint_id,
        .site = text(order->site, arena),
        .since = text(order->since, arena),
        .audit_first_block = order->audit_first_block,
        .audit_blocks = order->audit_blocks,
        .full = order->full,
        .proven = order->proven,
        .due_ms = order->due_ms,
        .lock_until_ms = order->lock_until_ms,
        .pass = order->pass,
        .delete_before = order->delete_before,
        .secure = order->secure,
        .scrub = scrub_of(order),
        .config = order->config.data,
        .config_len = order->config.len,
        .recovery = order->recovery.data,
        .recovery_len = order->recovery.len,
        .erase_disk_ids = order->erase_disk_ids.items,
        .erase_disk_count = order->erase_disk_ids.count,
        .plan_ids = order->plan_ids.items,
        .plan_count = order->plan_ids.count,
    };
    if (out.plan == NULL || out.workload == NULL || out.adapter == NULL || out.disk == NULL || out.locator == NULL ||
        out.freeze_ref == NULL || out.peer_address == NULL || out.target_path == NULL || out.site == NULL ||
        out.since == NULL) {
        return far_fail(err, FAR_LIMIT, "an order needs too much memory");
    }
    if (!convert_hashes(order, &out)) {
        return far_fail(err, FAR_INVALID, "an order has a root that is not 32 bytes");
    }
    convert_damages(order, &out);
    int rc = convert_disks(&order->disks, arena, &out);
    rc = rc == 0 ? convert_point_disks(&order->point_disks, arena, &out) : rc;
    if (rc != 0) {
        return far_fail(err, rc, "the disks of an order are %s", rc == FAR_LIMIT ? "too many" : "not well formed");
    }
    rc = convert_work(order, arena, &out, err);
    rc = rc == 0 && convert_lists(order, arena, &out) != 0 ? far_fail(err, FAR_LIMIT, "an order needs too much memory") : rc;
    rc = rc == 0 ? convert_domains(order, arena, &out, err) : rc;
    if (rc == 0) {
        *ret_order = out;
    }
    explicit_bzero(&out.domain, sizeof out.domain);
    return rc;
}
