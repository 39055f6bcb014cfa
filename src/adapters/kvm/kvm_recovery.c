/* How a recovered machine differs from what was captured: its recovery configuration, put into the domain's XML.
 *
 * It comes as a file of lines, each a word and its fields, all apart by tabs (kvm_machines.c writes it); what has no line stays as it was:
 *
 *   processors N
 *   memory BYTES
 *   firmware bios|uefi
 *   nic INDEX MAC NETWORK TEST-NETWORK ADDRESS PREFIX GATEWAY [mapped]
 *   network SOURCE TARGET TEST SOURCE-SUBNET TARGET-SUBNET
 *   tag KEY VALUE
 *
 * A network is a name of libvirt's, or bridge:NAME for a bridge of the host. While a machine is isolated, a card that is given no test
 * network goes to one of its group's own that leads nowhere, one for each network of the source (kvm_network.c). An address that is set is
 * reserved for its card where its network gives addresses by DHCP. */
#include "adapters/kvm/kvm_helper.h"

#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_FIELDS = 9, RECOVERY_MAX = 256 * 1024 };

static const char bridge_prefix[] = "bridge:";

/* ---- reading ---- */

static bool take_line(struct far_kvm_recovery *recovery, const char *const fields[LINE_FIELDS])
{
    if (strcmp(fields[0], "processors") == 0) {
        recovery->processors = strtoull(fields[1], NULL, 10);
    } else if (strcmp(fields[0], "memory") == 0) {
        recovery->memory_bytes = strtoull(fields[1], NULL, 10);
    } else if (strcmp(fields[0], "firmware") == 0) {
        recovery->firmware = fields[1];
    } else if (strcmp(fields[0], "nic") == 0 && recovery->nic_count < FAR_KVM_NICS_MAX) {
        recovery->nics[recovery->nic_count++] = (struct far_kvm_recovery_nic){.index = strtoul(fields[1], NULL, 10),
                                                                               .mac = fields[2],
                                                                               .network = fields[3],
                                                                               .test_network = fields[4],
                                                                               .address = fields[5],
                                                                               .prefix = (unsigned)strtoul(fields[6], NULL, 10),
                                                                               .gateway = fields[7],
                                                                               .is_mapped = strcmp(fields[8], "mapped") == 0};
    } else if (strcmp(fields[0], "network") == 0 && recovery->network_count < FAR_KVM_NETWORKS_MAX) {
        recovery->networks[recovery->network_count++] =
            (struct far_kvm_recovery_network){
                .source = fields[1], .target = fields[2], .test = fields[3], .source_subnet = fields[4], .target_subnet = fields[5]};
    } else if (strcmp(fields[0], "tag") == 0 && recovery->tag_count < FAR_KVM_TAGS_MAX) {
        recovery->tags[recovery->tag_count++] = (struct far_kvm_recovery_tag){.key = fields[1], .value = fields[2]};
    } else {
        return fields[0][0] == '\0';
    }
    return true;
}

int far_kvm_recovery_read(const char *path, struct far_kvm_recovery *recovery, struct far_adapter_error *ret_error)
{
    *recovery = (struct far_kvm_recovery){.firmware = ""};
    char *text = path[0] != '\0' ? far_kvm_read_file(path, RECOVERY_MAX) : strdup("");
    recovery->text = text;
    bool ok = text != NULL;
    for (char *line; ok && (line = strsep(&text, "\n")) != NULL;) {
        const char *fields[LINE_FIELDS] = {"", "", "", "", "", "", "", "", ""};
        for (size_t i = 0; i < LINE_FIELDS && line != NULL; i++) {
            fields[i] = strsep(&line, "\t");
        }
        ok = take_line(recovery, fields);
    }
    return ok ? FAR_ADAPTER_OK
              : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the recovery configuration in '%.100s' cannot be read", path);
}

void far_kvm_recovery_done(struct far_kvm_recovery *recovery)
{
    free(recovery->text);
}

/* ---- processors, memory, firmware, tags ---- */

static bool put_number(struct far_kvm_xml *xml, const char *format, uint64_t value)
{
    char fragment[96];
    snprintf(fragment, sizeof fragment, format, (unsigned long long)value);
    return far_kvm_xml_add(xml, fragment);
}

static bool put_sizes(struct far_kvm_xml *xml, const struct far_kvm_recovery *recovery)
{
    static const char *const of_processors[] = {"vcpu", "vcpus", "cputune", "iothreadids"}, *const of_memory[] = {"memory", "currentMemory",
                                                                                                               "maxMemory"};
    struct far_kvm_xml *cpu = (struct far_kvm_xml *)far_kvm_xml_child(xml, "cpu");
    bool ok = true;
    if (recovery->processors != 0) {
        for (size_t i = 0; i < sizeof of_processors / sizeof of_processors[0]; i++) {
            far_kvm_xml_drop(xml, of_processors[i]);
        }
        ok = put_number(xml, "<vcpu>%llu</vcpu>", recovery->processors);
    }
    if (recovery->memory_bytes != 0) {
        for (size_t i = 0; i < sizeof of_memory / sizeof of_memory[0]; i++) {
            far_kvm_xml_drop(xml, of_memory[i]);
        }
        ok = ok && put_number(xml, "<memory unit='b'>%llu</memory>", recovery->memory_bytes);
    }
    if (cpu != NULL && (recovery->processors != 0 || recovery->memory_bytes != 0)) { /* they said how both are laid out */
        far_kvm_xml_drop(cpu, "topology");
        far_kvm_xml_drop(cpu, "numa");
        far_kvm_xml_drop(xml, "numatune");
    }
    return ok;
}

static bool put_firmware(struct far_kvm_xml *xml, const struct far_kvm_recovery *recovery)
{
    struct far_kvm_xml *os = (struct far_kvm_xml *)far_kvm_xml_child(xml, "os");
    if (recovery->firmware[0] == '\0' || os == NULL) {
        return true;
    }
    far_kvm_xml_drop(os, "loader");
    far_kvm_xml_drop(os, "firmware");
    return far_kvm_xml_set(os, "firmware", strcmp(recovery->firmware, "uefi") == 0 ? "efi" : NULL);
}

static bool put_tags(struct far_kvm_xml *metadata, const struct far_kvm_recovery *recovery)
{
    struct far_buf text;
    far_buf_init(&text, 64 * 1024);
    int rc = far_buf_append_str(&text, "<farshoretags:tags xmlns:farshoretags='" FAR_KVM_TAGS_URI "'>");
    for (size_t i = 0; rc == 0 && i < recovery->tag_count; i++) {
        rc = far_buf_append_str(&text, "<farshoretags:tag key='");
        rc = rc == 0 ? far_kvm_xml_escape(&text, recovery->tags[i].key) : rc;
        rc = rc == 0 ? far_buf_append_str(&text, "' value='") : rc;
        rc = rc == 0 ? far_kvm_xml_escape(&text, recovery->tags[i].value) : rc;
        rc = rc == 0 ? far_buf_append_str(&text, "'/>") : rc;
    }
    rc = rc == 0 ? far_buf_append(&text, "</farshoretags:tags>", sizeof "</farshoretags:tags>") : rc;
    bool ok = rc == 0 && (recovery->tag_count == 0 || far_kvm_xml_add(metadata, (const char *)text.data));
    far_buf_done(&text);
    return ok;
}

/* ---- networks ---- */

/* What the card was in, as a plan's networks call it. */
static void source_of(const struct far_kvm_xml *nic, char to[FAR_KVM_NAME_MAX])
{
    const struct far_kvm_xml *source = far_kvm_xml_child(nic, "source");
    const char *network = far_kvm_xml_attr(source, "network"), *bridge = far_kvm_xml_attr(source, "bridge");
    snprintf(to, FAR_KVM_NAME_MAX, "%s%.100s", network[0] == '\0' && bridge[0] != '\0' ? bridge_prefix : "",
             network[0] != '\0' ? network : bridge);
}

static bool connect_to(struct far_kvm_xml *nic, const char *network)
{
    static const char *const gone[] = {"source", "virtualport", "vlan", "portForwarding", "backend", "filterref"};
    struct far_buf text;
    bool is_bridge = strncmp(network, bridge_prefix, strlen(bridge_prefix)) == 0;
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        far_kvm_xml_drop(nic, gone[i]);
    }
    far_buf_init(&text, 4096);
    int rc = far_buf_printf(&text, "<source %s='", is_bridge ? "bridge" : "network");
    rc = rc == 0 ? far_kvm_xml_escape(&text, network + (is_bridge ? strlen(bridge_prefix) : 0)) : rc;
    rc = rc == 0 ? far_buf_append(&text, "'/>", sizeof "'/>") : rc;
    bool ok = rc == 0 && far_kvm_xml_set(nic, "type", is_bridge ? "bridge" : "network") && far_kvm_xml_add(nic, (const char *)text.data);
    far_buf_done(&text);
    return ok;
}

static const struct far_kvm_recovery_nic *nic_of(const struct far_kvm_recovery *recovery, const struct far_kvm_xml *nic, size_t index)
{
    const char *mac = far_kvm_xml_attr(far_kvm_xml_child(nic, "mac"), "address");
    for (size_t i = 0; i < recovery->nic_count; i++) {
        const struct far_kvm_recovery_nic *each = &recovery->nics[i];
        if (each->mac[0] != '\0' ? strcasecmp(each->mac, mac) == 0 : each->index == index) {
            return each;
        }
    }
    return NULL;
}

static const struct far_kvm_recovery_network *map_of(const struct far_kvm_recovery *recovery, const char *source)
{
    for (size_t i = 0; i < recovery->network_count; i++) {
        if (strcmp(recovery->networks[i].source, source) == 0) {
            return &recovery->networks[i];
        }
    }
    return NULL;
}

/* By index, as the adapter interface counts them. */
static const struct far_kvm_xml *interface_of(const struct far_kvm_xml *xml, const struct far_kvm_recovery *recovery,
                                              const struct far_kvm_recovery_nic *config)
{
    const struct far_kvm_xml *nic = far_kvm_xml_child(far_kvm_xml_child(xml, "devices"), "interface");
    for (size_t index = 0; nic != NULL && nic_of(recovery, nic, index) != config; index++) {
        nic = far_kvm_xml_next(nic);
    }
    return nic;
}

void far_kvm_recovery_map(struct far_kvm_recovery *recovery, const struct far_kvm_xml *xml)
{
    char source[FAR_KVM_NAME_MAX];
    for (size_t i = 0; i < recovery->nic_count; i++) {
        struct far_kvm_recovery_nic *config = &recovery->nics[i];
        const struct far_kvm_xml *nic = config->is_mapped ? interface_of(xml, recovery, config) : NULL;
        const struct far_kvm_xml *had = nic != NULL ? far_kvm_xml_child(xml, FAR_KVM_ADDRESS_ELEMENT) : NULL;
        const char *mac = far_kvm_xml_attr(far_kvm_xml_child(nic, "mac"), "address");
        source_of(nic, source);
        const struct far_kvm_recovery_network *map = map_of(recovery, source);
        while (had != NULL && strcasecmp(far_kvm_xml_attr(had, "mac"), mac) != 0) {
            had = far_kvm_xml_next(had);
        }
        if (map != NULL && had != NULL && far_kvm_network_map(far_kvm_xml_attr(had, "address"), map, config->mapped, &config->prefix)) {
            config->address = config->mapped;
        }
    }
}

static int put_nic(virConnectPtr connection, const struct far_kvm_machine *machine, struct far_kvm_xml *nic, size_t index,
                   struct far_adapter_error *ret_error)
{
    const struct far_kvm_recovery_nic *config = nic_of(&machine->recovery, nic, index);
    const char *to = config == NULL ? "" : machine->isolated ? config->test_network : config->network;
    char source[FAR_KVM_NAME_MAX], own[FAR_KVM_NAME_MAX];
    int outcome = FAR_ADAPTER_OK;
    source_of(nic, source);
    const struct far_kvm_recovery_network *map = map_of(&machine->recovery, source);
    const struct far_kvm_card card = {.index = index,
                                      .mac = far_kvm_xml_attr(far_kvm_xml_child(nic, "mac"), "address"),
                                      .address = config != NULL ? config->address : "",
                                      .prefix = config != NULL ? config->prefix : 0,
                                      .gateway = config != NULL ? config->gateway : "",
                                      .subnet = map != NULL ? map->target_subnet : ""};
    to = to[0] == '\0' && map != NULL ? (machine->isolated ? map->test : map->target) : to;
    if (to[0] == '\0' && machine->isolated) {
        to = own;
        outcome = far_kvm_network_make(connection, machine, &card, source, own, ret_error);
    }
    if (outcome == FAR_ADAPTER_OK && strncmp(to, bridge_prefix, strlen(bridge_prefix)) != 0) {
        const char *network = to[0] != '\0' ? to : far_kvm_xml_attr(far_kvm_xml_child(nic, "source"), "network");
        outcome = far_kvm_reserve(connection, machine, network, &card, ret_error);
    }
    if (outcome == FAR_ADAPTER_OK && to[0] != '\0' && !connect_to(nic, to)) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "a network card cannot be put into the network '%.100s'", to);
    }
    return outcome;
}

int far_kvm_recovery_put(virConnectPtr connection, const struct far_kvm_machine *machine, struct far_kvm_xml *xml,
                         struct far_kvm_xml *metadata, struct far_adapter_error *ret_error)
{
    struct far_kvm_xml *devices = (struct far_kvm_xml *)far_kvm_xml_child(xml, "devices");
    int outcome = FAR_ADAPTER_OK;
    size_t index = 0;
    if (!put_sizes(xml, &machine->recovery) || !put_firmware(xml, &machine->recovery) || !put_tags(metadata, &machine->recovery)) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the recovery configuration of '%s' cannot be applied",
                                machine->name);
    }
    for (struct far_kvm_xml *child = devices->first; outcome == FAR_ADAPTER_OK && child != NULL; child = child->next) {
        if (strcmp(child->name, "interface") == 0) {
            outcome = put_nic(connection, machine, child, index++, ret_error);
        }
    }
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < machine->recovery.nic_count; i++) {
        const struct far_kvm_recovery_nic *nic = &machine->recovery.nics[i];
        if (nic->mac[0] == '\0' && nic->index >= index) {
            outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                       "the machine '%s' has %zu network cards: there is no card %lu", machine->name, index, nic->index);
        }
    }
    return outcome;
}
