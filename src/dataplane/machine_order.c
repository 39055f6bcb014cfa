/* Machines: the copy of an order that the attempt owns, and what the node's config says of them. What is done stands in tasks_machine.c. */
#include "dataplane/engine_local.h"
#include "dataplane/script_child.h"

#include <sys/stat.h>

bool far_is_place_of(const char *adapter, const char *place)
{
    size_t len = strcspn(place, ":"), own = strcspn(adapter, ":?");
    return len > 0 && len == own && strncmp(adapter, place, len) == 0;
}

static bool copy_one(struct far_arena *arena, const char **text)
{
    *text = far_order_copy_string(arena, *text);
    return *text != NULL;
}

static bool copy_nics(struct far_arena *arena, struct far_engine_machine *machine)
{
    struct far_adapter_machine_nic *nics = far_arena_alloc(arena, (machine->nic_count + 1) * sizeof *nics);
    bool ok = nics != NULL;
    for (size_t i = 0; ok && i < machine->nic_count; i++) {
        nics[i] = machine->nics[i];
        ok = copy_one(arena, &nics[i].mac) && copy_one(arena, &nics[i].network) && copy_one(arena, &nics[i].test_network) &&
             copy_one(arena, &nics[i].address) && copy_one(arena, &nics[i].gateway);
    }
    machine->nics = nics;
    return ok;
}

static bool copy_networks(struct far_arena *arena, struct far_engine_machine *machine)
{
    struct far_adapter_machine_network *networks = far_arena_alloc(arena, (machine->network_count + 1) * sizeof *networks);
    struct far_adapter_machine_tag *tags = far_arena_alloc(arena, (machine->tag_count + 1) * sizeof *tags);
    bool ok = networks != NULL && tags != NULL;
    for (size_t i = 0; ok && i < machine->network_count; i++) {
        networks[i] = machine->networks[i];
        ok = copy_one(arena, &networks[i].source) && copy_one(arena, &networks[i].target) && copy_one(arena, &networks[i].test) &&
             copy_one(arena, &networks[i].source_subnet) && copy_one(arena, &networks[i].target_subnet);
    }
    for (size_t i = 0; ok && i < machine->tag_count; i++) {
        tags[i] = machine->tags[i];
        ok = copy_one(arena, &tags[i].key) && copy_one(arena, &tags[i].value);
    }
    machine->networks = networks;
    machine->tags = tags;
    return ok;
}

int far_attempt_copy_machine(struct far_arena *arena, struct far_engine_machine *machine, struct far_error *err)
{
    struct far_engine_machine_disk *disks = far_arena_alloc(arena, (machine->disk_count + 1) * sizeof *disks);
    bool ok = disks != NULL && copy_one(arena, &machine->ref) && copy_one(arena, &machine->name) && copy_one(arena, &machine->config) &&
              copy_one(arena, &machine->gate_script) && copy_nics(arena, machine) && copy_networks(arena, machine);
    for (size_t i = 0; ok && i < machine->disk_count; i++) {
        disks[i] = machine->disks[i];
        ok = copy_one(arena, &disks[i].name) && copy_one(arena, &disks[i].source) && copy_one(arena, &disks[i].target);
    }
    machine->disks = disks;
    return ok ? 0 : far_fail(err, FAR_LIMIT, "no memory for an order");
}

int far_engine_check_machines(const struct far_engine_config *config, struct far_error *err)
{
    const char *place = config->machines_place != NULL ? config->machines_place : "";
    const char *dir = config->recovery_dir != NULL ? config->recovery_dir : "";
    bool is_known = place[0] == '\0';
    struct stat st;
    for (const struct far_adapter *const *a = config->adapters; a != NULL && *a != NULL && !is_known; a++) {
        is_known = (*a)->machines != NULL && far_is_place_of((*a)->name, place);
    }
    if (!is_known) {
        return far_fail(err, FAR_INVALID,
                        "machines_place '%s' in the node's config is no platform that this node knows: kvm:///, perhaps with "
                        "?socket=PATH of libvirtd's socket",
                        place);
    }
    if (dir[0] != '\0' && (dir[0] != '/' || stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))) {
        return far_fail(err, FAR_INVALID, "recovery_dir '%s' in the node's config is no folder: an absolute path of one that is there",
                        dir);
    }
    if ((place[0] != '\0') != (dir[0] != '\0')) {
        return far_fail(err, FAR_INVALID, "machines_place and recovery_dir in the node's config belong together: set both, or none");
    }
    return far_script_check(config->scripts_dir, config->scripts_user, err);
}
