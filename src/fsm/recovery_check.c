/* What a recovery configuration may say. Each rejection names the field by its path, the value, and what would be right. */
#include "fsm/recovery.h"

#include "fsm/ip.h"
#include "fsm/refuse.h"

#include <stdio.h>

enum {
    PROCESSORS_MAX = 1024,
    GROUP_MAX = 99,
    POSITION_MAX = 999,
    DELAY_S_MAX = 24 * 3600,
    GATE_S_MAX = 24 * 3600,
    PERSON_S_MAX = 30 * 24 * 3600,
    NIC_MAX = 63,
    MIB = 1024 * 1024,
};
#define MEMORY_BYTES_MAX (64ull << 40)


/* ---- network cards ---- */

static bool is_mac(struct far_slice text)
{
    bool good = text.len == 17;
    for (size_t i = 0; good && i < 17; i++) {
        uint8_t c = text.data[i];
        good = i % 3 == 2 ? c == ':' : (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    }
    return good;
}

static int check_static(struct far_step *step, const char *path, const struct far_sub_recovery_nic *nic)
{
    struct far_ip address, gateway;
    if (!far_ip_parse(nic->address, &address)) {
        return far_refuse_text(step, path, "address", nic->address, "an address as 10.1.2.3 or fd00::3, for mode 'static'");
    }
    if (nic->prefix == 0 || nic->prefix >= 8 * address.len) {
        return far_refuse_number(step, path, "prefix", nic->prefix,
                          address.len == FAR_IP4_BYTES ? "from 1 to 31, the length of the subnet's prefix"
                                                       : "from 1 to 127, the length of the subnet's prefix");
    }
    if (nic->gateway.len == 0) {
        return 0;
    }
    bool fits = far_ip_parse(nic->gateway, &gateway) && far_ip_same_subnet(&address, &gateway, (unsigned)nic->prefix) &&
                !far_ip_same_subnet(&address, &gateway, 8 * (unsigned)address.len);
    return fits ? 0 : far_refuse_text(step, path, "gateway", nic->gateway, "another address of the same subnet, or empty");
}

static int check_addresses(struct far_step *step, const char *path, const struct far_sub_recovery_nic *nic)
{
    const struct far_slice *dns = nic->dns.items;
    const char *only = "empty, unless field 'mode' is 'static'";
    bool is_static = nic->mode == FAR_address_mode_static;
    if (is_static) {
        FAR_TRY(check_static(step, path, nic));
    } else if (nic->address.len > 0) {
        return far_refuse_text(step, path, "address", nic->address, only);
    } else if (nic->prefix != 0) {
        return far_refuse_number(step, path, "prefix", nic->prefix, "0, unless field 'mode' is 'static'");
    } else if (nic->gateway.len > 0) {
        return far_refuse_text(step, path, "gateway", nic->gateway, only);
    }
    for (size_t i = 0; i < nic->dns.count; i++) {
        struct far_ip ip;
        char field[24];
        snprintf(field, sizeof field, "dns[%u]", (unsigned)i);
        if (!is_static && nic->mode != FAR_address_mode_mapped) {
            return far_refuse_text(step, path, field, dns[i], "left out, unless field 'mode' is 'static' or 'mapped'");
        }
        if (!far_ip_parse(dns[i], &ip)) {
            return far_refuse_text(step, path, field, dns[i], "an address as 10.1.2.3 or fd00::3");
        }
    }
    return 0;
}

static int check_nics(struct far_step *step, const char *path, const struct far_list *list)
{
    const struct far_sub_recovery_nic *nics = list->items;
    for (size_t i = 0; i < list->count; i++) {
        struct far_place at = far_place(path, "nics", i);
        if (nics[i].mac.len > 0 && !is_mac(nics[i].mac)) {
            return far_refuse_text(step, at.path, "mac", nics[i].mac, "an address as 52:54:00:12:34:56, in small letters");
        }
        if (nics[i].mac.len > 0 && nics[i].nic != 0) {
            return far_refuse_number(step, at.path, "nic", nics[i].nic, "left out where field 'mac' says which one it is");
        }
        FAR_TRY(far_refuse_above(step, at.path, "nic", nics[i].nic, NIC_MAX));
        for (size_t k = 0; k < i; k++) {
            if (nics[k].nic == nics[i].nic && far_slice_equal(nics[k].mac, nics[i].mac)) {
                return nics[i].mac.len > 0 ? far_refuse_text(step, at.path, "mac", nics[i].mac, "another one: it is there twice")
                                           : far_refuse_number(step, at.path, "nic", nics[i].nic, "another one: it is there twice");
            }
        }
        FAR_TRY(far_refuse_odd(step, at.path, "network", nics[i].network));
        FAR_TRY(far_refuse_odd(step, at.path, "test_network", nics[i].test_network));
        FAR_TRY(check_addresses(step, at.path, &nics[i]));
    }
    return 0;
}

/* ---- gates ---- */

static int check_gate(struct far_step *step, const char *path, const struct far_sub_recovery_gate *gate)
{
    bool is_port = gate->kind == FAR_gate_kind_port, is_script = gate->kind == FAR_gate_kind_script;
    bool is_person = gate->kind == FAR_gate_kind_person;
    uint64_t longest = is_person ? PERSON_S_MAX : GATE_S_MAX;
    if (gate->kind == 0) {
        return far_refuse_text(step, path, "kind", far_slice_str(""), "one of 'address' 'port' 'agent' 'script' 'person'");
    }
    if (is_port ? gate->port == 0 || gate->port > 65535 : gate->port != 0) {
        return far_refuse_number(step, path, "port", gate->port, is_port ? "from 1 to 65535" : "0, unless field 'kind' is 'port'");
    }
    if (is_script ? !far_is_name(gate->script) : gate->script.len > 0) {
        return far_refuse_text(step, path, "script", gate->script,
                        is_script ? "a name of the letters a-z, digits, '.', '_' and '-'" : "empty, unless field 'kind' is 'script'");
    }
    FAR_TRY(far_refuse_odd(step, path, "note", gate->note));
    if (!is_person && gate->note.len > 0) {
        return far_refuse_text(step, path, "note", gate->note, "empty, unless field 'kind' is 'person'");
    }
    if (gate->timeout_s == 0 || gate->timeout_s > longest) {
        return far_refuse_number(step, path, "timeout_s", gate->timeout_s,
                          is_person ? "from 1 to 2592000 seconds (30 days)" : "from 1 to 86400 seconds (a day)");
    }
    return 0;
}

/* ---- the whole ---- */

static int check_tags(struct far_step *step, const char *path, const struct far_list *list)
{
    const struct far_sub_label *tags = list->items;
    for (size_t i = 0; i < list->count; i++) {
        struct far_place at = far_place(path, "tags", i);
        if (!far_is_name(tags[i].key)) {
            return far_refuse_text(step, at.path, "key", tags[i].key, "a name of the letters a-z, digits, '.', '_' and '-'");
        }
        FAR_TRY(far_refuse_odd(step, at.path, "value", tags[i].value));
        for (size_t k = 0; k < i; k++) {
            if (far_slice_equal(tags[k].key, tags[i].key)) {
                return far_refuse_text(step, at.path, "key", tags[i].key, "another one: it is there twice");
            }
        }
    }
    return 0;
}

static int check_left_out(struct far_step *step, const char *path, const struct far_row_workload *workload,
                          const struct far_list *list)
{
    const struct far_slice *names = list->items;
    for (size_t i = 0; i < list->count; i++) {
        char field[40];
        bool is_there = false, is_twice = false;
        snprintf(field, sizeof field, "disks_left_out[%u]", (unsigned)i);
        for (uint64_t d = 0; d < workload->disk_count && !is_there; d++) {
            struct far_row_disk disk;
            struct far_key key = far_key_part(&far_schema_row_disk, workload->id, d);
            FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
            is_there = far_slice_equal(disk.name, names[i]);
        }
        for (size_t k = 0; k < i; k++) {
            is_twice = is_twice || far_slice_equal(names[k], names[i]);
        }
        if (!is_there || is_twice) {
            return far_refuse_text(step, path, field, names[i], is_twice ? "another one: it is there twice" : "a disk of the workload");
        }
    }
    return list->count < workload->disk_count
               ? 0
               : far_reject(step, FAR_INVALID, "field '%sdisks_left_out' names all disks of workload '%.*s': one must be left", path,
                            FAR_TEXT(workload->name));
}

int far_recovery_check(struct far_step *step, const char *path, const struct far_row_workload *workload,
                       const struct far_sub_recovery *config)
{
    const struct far_sub_recovery_gate *gates = config->gates.items;
    FAR_TRY(far_refuse_odd(step, path, "recovered_name", config->recovered_name));
    for (size_t i = 0; i < config->recovered_name.len; i++) {
        if (config->recovered_name.data[i] == '/') {
            return far_refuse_text(step, path, "recovered_name", config->recovered_name, "a name without '/'");
        }
    }
    FAR_TRY(far_refuse_above(step, path, "processors", config->processors, PROCESSORS_MAX));
    if (config->memory_bytes % MIB != 0 || config->memory_bytes > MEMORY_BYTES_MAX) {
        return far_refuse_number(step, path, "memory_bytes", config->memory_bytes,
                                 "a multiple of 1048576 (1 MiB), at most 70368744177664 (64 TiB)");
    }
    FAR_TRY(check_tags(step, path, &config->tags));
    FAR_TRY(check_nics(step, path, &config->nics));
    FAR_TRY(far_refuse_above(step, path, "group", config->group, GROUP_MAX));
    FAR_TRY(far_refuse_above(step, path, "position", config->position, POSITION_MAX));
    FAR_TRY(far_refuse_above(step, path, "delay_s", config->delay_s, DELAY_S_MAX));
    for (size_t i = 0; i < config->gates.count; i++) {
        struct far_place at = far_place(path, "gates", i);
        FAR_TRY(check_gate(step, at.path, &gates[i]));
    }
    return config->disks_left_out.count > 0 ? check_left_out(step, path, workload, &config->disks_left_out) : 0;
}

static int check_subnets(struct far_step *step, const char *path, const struct far_sub_network_map *map)
{
    struct far_ip source, target;
    unsigned source_prefix = 0, target_prefix = 0;
    if (map->source_subnet.len == 0 && map->target_subnet.len == 0) {
        return 0;
    }
    if (!far_subnet_parse(map->source_subnet, &source, &source_prefix)) {
        return far_refuse_text(step, path, "source_subnet", map->source_subnet, "a subnet as 10.1.0.0/16, without bits behind its prefix");
    }
    if (!far_subnet_parse(map->target_subnet, &target, &target_prefix)) {
        return far_refuse_text(step, path, "target_subnet", map->target_subnet, "a subnet as 10.1.0.0/16, without bits behind its prefix");
    }
    return source.len == target.len && source_prefix == target_prefix
               ? 0
               : far_refuse_text(step, path, "target_subnet", map->target_subnet,
                                 "as large as field 'source_subnet', and of the same kind");
}

int far_networks_check(struct far_step *step, const struct far_list *networks)
{
    const struct far_sub_network_map *maps = networks->items;
    for (size_t i = 0; i < networks->count; i++) {
        struct far_place at = far_place("", "networks", i);
        if (maps[i].source.len == 0) {
            return far_refuse_text(step, at.path, "source", maps[i].source, "the name of a network at the source");
        }
        if (maps[i].target.len == 0) {
            return far_refuse_text(step, at.path, "target", maps[i].target, "the name of a network on the far side");
        }
        FAR_TRY(far_refuse_odd(step, at.path, "source", maps[i].source));
        FAR_TRY(far_refuse_odd(step, at.path, "target", maps[i].target));
        FAR_TRY(far_refuse_odd(step, at.path, "test", maps[i].test));
        FAR_TRY(check_subnets(step, at.path, &maps[i]));
        for (size_t k = 0; k < i; k++) {
            if (far_slice_equal(maps[k].source, maps[i].source)) {
                return far_refuse_text(step, at.path, "source", maps[i].source, "another one: it is there twice");
            }
        }
    }
    return 0;
}
