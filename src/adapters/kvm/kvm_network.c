/* Networks of recovered machines, and who has which address in them.
 *
 * A run has networks of its own, one for each network of the source, that lead nowhere: transient, the group's name in theirs. Where the
 * subnet of one is known, by an address that is set or by what the plan maps the source's subnet to, the host has an address there, the
 * gateway's or the subnet's last, and gives those that ask by DHCP one.
 *
 * An address that is set is reserved for its card in whichever network of libvirt's it goes to, if that gives addresses by DHCP at all: so
 * a guest that asks gets it. The reservation bears the recovery's ref in its name, so that it is found again whatever crashed; what
 * somebody else reserved, or what another machine has, is never touched. */
#include "adapters/kvm/kvm_helper.h"

#include <arpa/inet.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RANGE_MAX = 1000, PREFIX_MAX = 30 };

/* ---- subnets ---- */

struct subnet {
    uint32_t base, mask; /* host order */
    unsigned prefix;
};

static bool parse_address(const char *text, uint32_t *ret)
{
    struct in_addr address;
    bool ok = inet_pton(AF_INET, text, &address) == 1;
    *ret = ok ? ntohl(address.s_addr) : 0;
    return ok;
}

static const char *show_address(uint32_t address, char text[INET_ADDRSTRLEN])
{
    struct in_addr network = {.s_addr = htonl(address)};
    return inet_ntop(AF_INET, &network, text, INET_ADDRSTRLEN);
}

static bool make_subnet(const char *address, unsigned prefix, struct subnet *ret)
{
    uint32_t value;
    if (!parse_address(address, &value) || prefix == 0 || prefix > PREFIX_MAX) {
        return false;
    }
    *ret = (struct subnet){.mask = ~0u << (32 - prefix), .prefix = prefix};
    ret->base = value & ret->mask;
    return true;
}

/* "10.1.0.0/16" */
static bool parse_subnet(const char *text, struct subnet *ret)
{
    char address[INET_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t)(slash - text) : sizeof address;
    if (len >= sizeof address) {
        return false;
    }
    snprintf(address, sizeof address, "%.*s", (int)len, text);
    return make_subnet(address, (unsigned)strtoul(slash + 1, NULL, 10), ret);
}

static bool is_in(const struct subnet *subnet, uint32_t address)
{
    uint32_t host = address & ~subnet->mask;
    return (address & subnet->mask) == subnet->base && host != 0 && host != ~subnet->mask;
}

bool far_kvm_network_map(const char *address, const struct far_kvm_recovery_network *network, char ret_address[48], unsigned *ret_prefix)
{
    struct subnet from, to;
    uint32_t value, mapped;
    bool ok = parse_address(address, &value) && parse_subnet(network->source_subnet, &from) && parse_subnet(network->target_subnet, &to) &&
              is_in(&from, value);
    mapped = ok ? to.base | (value & ~from.mask & ~to.mask) : 0;
    if (!ok || !is_in(&to, mapped)) {
        return false;
    }
    show_address(mapped, ret_address);
    *ret_prefix = to.prefix;
    return true;
}

/* ---- a run's own networks ---- */

void far_kvm_network_prefix(const struct far_kvm_machine *machine, char prefix[FAR_KVM_NAME_MAX])
{
    bool is_ours = strncmp(machine->group, FAR_KVM_OURS, strlen(FAR_KVM_OURS)) == 0;
    snprintf(prefix, FAR_KVM_NAME_MAX, "%s%.64s-", is_ours ? "" : FAR_KVM_OURS, machine->group);
}

/* One for each network of the source, whoever of the group was in it. FNV-1a. */
static void isolated_name(const struct far_kvm_machine *machine, const char *source, char name[FAR_KVM_NAME_MAX])
{
    uint32_t hash = 2166136261u;
    for (const char *c = source; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    }
    far_kvm_network_prefix(machine, name);
    size_t used = strlen(name);
    snprintf(name + used, FAR_KVM_NAME_MAX - used, "%08x", hash);
}

/* The larger part of the subnet, beside the host's own address; at most so many, from its end. */
static void write_range(const struct subnet *subnet, uint32_t host, char text[128])
{
    uint32_t first = subnet->base + 1, last = (subnet->base | ~subnet->mask) - 1;
    char from[INET_ADDRSTRLEN], to[INET_ADDRSTRLEN];
    if (last - host > host - first) {
        first = host + 1;
    } else {
        last = host - 1;
    }
    first = last - first >= RANGE_MAX ? last - RANGE_MAX + 1 : first;
    text[0] = '\0';
    if (first < last) {
        snprintf(text, 128, "<range start='%s' end='%s'/>", show_address(first, from), show_address(last, to));
    }
}

static void write_host(const struct far_kvm_card *card, const char *name, char text[400])
{
    snprintf(text, 400, "<host mac='%.17s'%s%.100s%s ip='%.45s'/>", card->mac, name[0] != '\0' ? " name='" : "", name,
             name[0] != '\0' ? "'" : "", card->address);
}

static void reservation_name(const struct far_kvm_machine *machine, const struct far_kvm_card *card, char name[FAR_KVM_NAME_MAX])
{
    bool is_ours = strncmp(machine->ref, FAR_KVM_OURS, strlen(FAR_KVM_OURS)) == 0;
    snprintf(name, FAR_KVM_NAME_MAX, "%s%.64s-%zu", is_ours ? "" : FAR_KVM_OURS, machine->ref, card->index);
}

/* What the host has in the network, and gives if it is to. Empty where the subnet is not known. */
static void write_ip(const struct far_kvm_machine *machine, const struct far_kvm_card *card, bool gives, char text[1024])
{
    struct subnet subnet;
    uint32_t host, own;
    char at[INET_ADDRSTRLEN], range[128], reserved[400] = "", name[FAR_KVM_NAME_MAX];
    bool has_own = parse_address(card->address, &own);
    text[0] = '\0';
    if (strchr(card->gateway, ':') != NULL && strpbrk(card->gateway, "'<&") == NULL && card->prefix > 0) {
        snprintf(text, 1024, "<dns enable='no'/><ip family='ipv6' address='%.50s' prefix='%u'/>", card->gateway, card->prefix);
        return;
    }
    if (!make_subnet(card->address, card->prefix, &subnet) && !parse_subnet(card->subnet, &subnet)) {
        return;
    }
    if (!parse_address(card->gateway, &host) || !is_in(&subnet, host)) {
        host = (subnet.base | ~subnet.mask) - 1;
        host -= has_own && own == host;
    }
    if (has_own && is_in(&subnet, own) && own != host) {
        reservation_name(machine, card, name);
        write_host(card, name, reserved);
    }
    write_range(&subnet, host, range);
    gives = gives && (range[0] != '\0' || reserved[0] != '\0');
    snprintf(text, 1024, "<dns enable='no'/><ip family='ipv4' address='%s' prefix='%u'>%s%s%s%s</ip>", show_address(host, at),
             subnet.prefix, gives ? "<dhcp>" : "", gives ? range : "", gives ? reserved : "", gives ? "</dhcp>" : "");
}

static virNetworkPtr create_network(virConnectPtr connection, const struct far_kvm_machine *machine, const char *name, const char *ip)
{
    char xml[FAR_KVM_NAME_MAX + 1200], bridge[16];
    far_kvm_bridge_name(machine, name, bridge);
    snprintf(xml, sizeof xml, "<network><name>%s</name><bridge name='%s' stp='off' delay='0'/>%s</network>", name, bridge, ip);
    return virNetworkCreateXML(connection, xml); /* no forward: nothing but its machines, and the host */
}

/* A bridge without a way out. Where there is no dnsmasq the host gives no addresses; where another network of the host has that subnet, it
 * has none itself. */
int far_kvm_network_make(virConnectPtr connection, const struct far_kvm_machine *machine, const struct far_kvm_card *card,
                         const char *source, char name[FAR_KVM_NAME_MAX], struct far_adapter_error *ret_error)
{
    char ip[1024];
    isolated_name(machine, source, name);
    virNetworkPtr network = virNetworkLookupByName(connection, name);
    int outcome = network == NULL ? far_kvm_bridges(connection, machine, true, ret_error) : FAR_ADAPTER_OK;
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    for (int gives = 1; gives >= 0 && network == NULL; gives--) {
        write_ip(machine, card, gives, ip);
        network = ip[0] != '\0' ? create_network(connection, machine, name, ip) : NULL;
    }
    network = network == NULL ? create_network(connection, machine, name, "") : network;
    outcome = network == NULL ? far_kvm_said(ret_error, "make the isolated network '%s'", name) : FAR_ADAPTER_OK;
    network = network == NULL ? virNetworkLookupByName(connection, name) : network; /* another machine of the group was first */
    if (network == NULL) {
        return outcome;
    }
    virNetworkFree(network);
    return FAR_ADAPTER_OK;
}

static int destroy_network(virNetworkPtr network, struct far_adapter_error *ret_error)
{
    const char *name = virNetworkGetName(network);
    bool is_gone = virNetworkIsActive(network) != 1 || virNetworkDestroy(network) == 0 || virGetLastErrorCode() == VIR_ERR_NO_NETWORK;
    return is_gone ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "remove the network '%.100s'", name);
}

int far_kvm_networks(virConnectPtr connection, const struct far_kvm_machine *machine, bool destroys, struct far_adapter_error *ret_error)
{
    virNetworkPtr *networks = NULL;
    char prefix[FAR_KVM_NAME_MAX];
    int count = virConnectListAllNetworks(connection, &networks, 0), outcome = FAR_ADAPTER_OK;
    far_kvm_network_prefix(machine, prefix);
    if (count < 0) {
        return far_kvm_said(ret_error, "list the networks");
    }
    for (int i = 0; i < count; i++) {
        bool is_ours = strncmp(virNetworkGetName(networks[i]), prefix, strlen(prefix)) == 0;
        if (is_ours && destroys && outcome == FAR_ADAPTER_OK) {
            outcome = destroy_network(networks[i], ret_error);
        } else if (is_ours && !destroys) {
            printf("left network '%s'\n", virNetworkGetName(networks[i]));
        }
        virNetworkFree(networks[i]);
    }
    free(networks);
    return outcome == FAR_ADAPTER_OK ? far_kvm_bridges(connection, machine, destroys, ret_error) : outcome;
}

/* ---- reservations ---- */

/* One of the two states of a network: what it does now, or will once it starts again. */
struct side {
    unsigned of_xml, of_update;
};
static const struct side live = {.of_xml = 0, .of_update = VIR_NETWORK_UPDATE_AFFECT_LIVE};
static const struct side config = {.of_xml = VIR_NETWORK_XML_INACTIVE, .of_update = VIR_NETWORK_UPDATE_AFFECT_CONFIG};

static struct far_kvm_xml *describe(virNetworkPtr network, const struct side *side)
{
    char *text = virNetworkGetXMLDesc(network, side->of_xml);
    struct far_kvm_xml *xml = text != NULL ? far_kvm_xml_parse(text) : NULL;
    free(text);
    return xml;
}

/* Which of its subnets, those that give addresses, has this one; -1: none. */
static int index_of(const struct far_kvm_xml *xml, const char *address)
{
    const struct far_kvm_xml *ip = far_kvm_xml_child(xml, "ip");
    uint32_t value, mask;
    for (int index = 0; parse_address(address, &value) && ip != NULL; ip = far_kvm_xml_next(ip), index++) {
        const char *own = far_kvm_xml_attr(ip, "address"), *prefix = far_kvm_xml_attr(ip, "prefix");
        const char *bits = far_kvm_xml_attr(ip, "netmask");
        unsigned length = prefix[0] != '\0' ? (unsigned)strtoul(prefix, NULL, 10) : 0;
        if (length == 0 && parse_address(bits, &mask) && mask != 0) { /* it has one or the other */
            length = 32 - (unsigned)__builtin_ctz(mask);
        }
        struct subnet subnet;
        if (far_kvm_xml_child(ip, "dhcp") != NULL && make_subnet(own, length, &subnet) && is_in(&subnet, value)) {
            return index;
        }
    }
    return -1;
}

static int update(virNetworkPtr network, const struct side *side, unsigned command, int index, const char *host,
                  struct far_adapter_error *ret_error)
{
    const char *name = virNetworkGetName(network);
    int rc = virNetworkUpdate(network, command, VIR_NETWORK_SECTION_IP_DHCP_HOST, index, host, side->of_update);
    int code = rc == 0 ? 0 : virGetLastErrorCode();
    /* The last machine of the run took its network away meanwhile, or somebody the entry. */
    bool is_gone = command == VIR_NETWORK_UPDATE_COMMAND_DELETE && (code == VIR_ERR_NO_NETWORK || code == VIR_ERR_OPERATION_INVALID);
    return rc == 0 || is_gone ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "change the reserved addresses of the network '%.60s'", name);
}

static int refuse(virNetworkPtr network, const struct far_kvm_card *card, const struct far_kvm_xml *host,
                  struct far_adapter_error *ret_error)
{
    const char *name = far_kvm_xml_attr(host, "name");
    return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                            "the address %.45s cannot be reserved for the card %.17s: the network '%.60s' has reserved %.45s for %.17s"
                            "%s%.60s; remove that, or set another address",
                            card->address, card->mac, virNetworkGetName(network), far_kvm_xml_attr(host, "ip"),
                            far_kvm_xml_attr(host, "mac"), name[0] != '\0' ? ", " : "", name);
}

/* Is it there already, as it should be (*ret_is_there), or in the way? */
static int look_for(virNetworkPtr network, const struct far_kvm_xml *xml, const struct far_kvm_card *card, const char *name,
                    bool *ret_is_there, struct far_adapter_error *ret_error)
{
    int outcome = FAR_ADAPTER_OK;
    *ret_is_there = false;
    for (const struct far_kvm_xml *ip = far_kvm_xml_child(xml, "ip"); ip != NULL; ip = far_kvm_xml_next(ip)) {
        const struct far_kvm_xml *host = far_kvm_xml_child(far_kvm_xml_child(ip, "dhcp"), "host");
        for (; host != NULL && outcome == FAR_ADAPTER_OK; host = far_kvm_xml_next(host)) {
            bool same_mac = strcasecmp(far_kvm_xml_attr(host, "mac"), card->mac) == 0;
            bool same_ip = strcmp(far_kvm_xml_attr(host, "ip"), card->address) == 0;
            bool same_name = strcmp(far_kvm_xml_attr(host, "name"), name) == 0;
            if (same_mac && same_ip) { /* whoever made it */
                *ret_is_there = true;
            } else if (same_mac || same_ip || same_name) {
                outcome = refuse(network, card, host, ret_error);
            }
        }
        uint32_t own, wanted;
        bool is_host = parse_address(far_kvm_xml_attr(ip, "address"), &own) && parse_address(card->address, &wanted) && own == wanted;
        if (is_host && outcome == FAR_ADAPTER_OK) {
            outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                       "the address %.45s is the host's own in the network '%.60s': set another one, or a gateway",
                                       card->address, virNetworkGetName(network));
        }
    }
    return outcome;
}

static int reserve_at(virNetworkPtr network, const struct side *side, const struct far_kvm_card *card, const char *name,
                      struct far_adapter_error *ret_error)
{
    struct far_kvm_xml *xml = describe(network, side);
    int index = index_of(xml, card->address);
    bool is_there = true;
    char host[400];
    int outcome = index >= 0 ? look_for(network, xml, card, name, &is_there, ret_error) : FAR_ADAPTER_OK;
    if (outcome == FAR_ADAPTER_OK && !is_there) {
        write_host(card, name, host);
        outcome = update(network, side, VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, index, host, ret_error);
    }
    far_kvm_xml_free(xml);
    return outcome;
}

/* Whoever was given it by the network, and has it still, would be in its way. */
static int check_leases(virNetworkPtr network, const struct far_kvm_card *card, struct far_adapter_error *ret_error)
{
    virNetworkDHCPLeasePtr *leases = NULL;
    int count = virNetworkGetDHCPLeases(network, NULL, &leases, 0), outcome = FAR_ADAPTER_OK;
    for (int i = 0; i < count; i++) {
        const char *mac = leases[i]->mac != NULL ? leases[i]->mac : "";
        if (outcome == FAR_ADAPTER_OK && strcmp(leases[i]->ipaddr, card->address) == 0 && strcasecmp(mac, card->mac) != 0) {
            outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                       "the network '%.60s' has given the address %.45s to the card %.17s, for %lld s yet",
                                       virNetworkGetName(network), card->address, mac, (long long)(leases[i]->expirytime - time(NULL)));
        }
        virNetworkDHCPLeaseFree(leases[i]);
    }
    free(leases);
    return outcome;
}

int far_kvm_reserve(virConnectPtr connection, const struct far_kvm_machine *machine, const char *network_name,
                    const struct far_kvm_card *card, struct far_adapter_error *ret_error)
{
    char name[FAR_KVM_NAME_MAX];
    uint32_t address;
    bool is_set = parse_address(card->address, &address) && card->mac[0] != '\0' && network_name[0] != '\0';
    virNetworkPtr network = is_set ? virNetworkLookupByName(connection, network_name) : NULL;
    if (network == NULL) {
        return FAR_ADAPTER_OK; /* that the network is not there is said when the machine starts */
    }
    reservation_name(machine, card, name);
    bool is_active = virNetworkIsActive(network) == 1, is_kept = !machine->isolated && virNetworkIsPersistent(network) == 1;
    int outcome = is_active ? check_leases(network, card, ret_error) : FAR_ADAPTER_OK;
    outcome = outcome == FAR_ADAPTER_OK && is_active ? reserve_at(network, &live, card, name, ret_error) : outcome;
    outcome = outcome == FAR_ADAPTER_OK && is_kept ? reserve_at(network, &config, card, name, ret_error) : outcome;
    virNetworkFree(network);
    return outcome;
}

/* Is this name one of the recovery's: its ref, and a card's number? */
static bool is_of(const struct far_kvm_machine *machine, const char *name)
{
    bool is_ours = strncmp(machine->ref, FAR_KVM_OURS, strlen(FAR_KVM_OURS)) == 0;
    char prefix[FAR_KVM_NAME_MAX];
    int len = snprintf(prefix, sizeof prefix, "%s%.64s-", is_ours ? "" : FAR_KVM_OURS, machine->ref);
    const char *rest = strncmp(name, prefix, (size_t)len) == 0 ? name + len : "";
    return rest[0] != '\0' && strspn(rest, "0123456789") == strlen(rest);
}

static int end_at(virNetworkPtr network, const struct side *side, const struct far_kvm_machine *machine, enum far_kvm_reservations how,
                  struct far_adapter_error *ret_error)
{
    struct far_kvm_xml *xml = describe(network, side);
    int outcome = FAR_ADAPTER_OK, index = 0;
    for (const struct far_kvm_xml *ip = far_kvm_xml_child(xml, "ip"); ip != NULL; ip = far_kvm_xml_next(ip), index++) {
        const struct far_kvm_xml *host = far_kvm_xml_child(far_kvm_xml_child(ip, "dhcp"), "host");
        for (; host != NULL && outcome == FAR_ADAPTER_OK; host = far_kvm_xml_next(host)) {
            struct far_kvm_card card = {.mac = far_kvm_xml_attr(host, "mac"), .address = far_kvm_xml_attr(host, "ip")};
            const char *name = far_kvm_xml_attr(host, "name");
            char text[400];
            if (!is_of(machine, name)) {
                continue;
            }
            write_host(&card, how == FAR_KVM_RESERVATIONS_KEEP ? "" : name, text);
            if (how == FAR_KVM_RESERVATIONS_TELL) {
                printf("left address %s reserved in the network '%s'\n", card.address, virNetworkGetName(network));
            } else {
                outcome = update(network, side, how == FAR_KVM_RESERVATIONS_KEEP ? VIR_NETWORK_UPDATE_COMMAND_MODIFY
                                                                                 : VIR_NETWORK_UPDATE_COMMAND_DELETE,
                                 index, text, ret_error);
            }
        }
    }
    far_kvm_xml_free(xml);
    return outcome;
}

int far_kvm_reservations(virConnectPtr connection, const struct far_kvm_machine *machine, enum far_kvm_reservations how,
                         struct far_adapter_error *ret_error)
{
    virNetworkPtr *networks = NULL;
    int count = virConnectListAllNetworks(connection, &networks, 0), outcome = FAR_ADAPTER_OK;
    if (count < 0) {
        return far_kvm_said(ret_error, "list the networks");
    }
    for (int i = 0; i < count; i++) {
        if (outcome == FAR_ADAPTER_OK && virNetworkIsActive(networks[i]) == 1) {
            outcome = end_at(networks[i], &live, machine, how, ret_error);
        }
        if (outcome == FAR_ADAPTER_OK && virNetworkIsPersistent(networks[i]) == 1) {
            outcome = end_at(networks[i], &config, machine, how, ret_error);
        }
        virNetworkFree(networks[i]);
    }
    free(networks);
    return outcome;
}

/* ---- what addresses the machine had ---- */

/* That is reserved for the card, else what it was given and has yet. */
static void known_address(virNetworkPtr network, const char *mac, char address[64])
{
    struct far_kvm_xml *xml = describe(network, &live);
    virNetworkDHCPLeasePtr *leases = NULL;
    for (const struct far_kvm_xml *ip = far_kvm_xml_child(xml, "ip"); ip != NULL; ip = far_kvm_xml_next(ip)) {
        const struct far_kvm_xml *host = far_kvm_xml_child(far_kvm_xml_child(ip, "dhcp"), "host");
        for (; host != NULL && address[0] == '\0'; host = far_kvm_xml_next(host)) {
            snprintf(address, 64, "%.60s", strcasecmp(far_kvm_xml_attr(host, "mac"), mac) == 0 ? far_kvm_xml_attr(host, "ip") : "");
        }
    }
    int count = address[0] == '\0' ? virNetworkGetDHCPLeases(network, mac, &leases, 0) : 0;
    for (int i = 0; i < count; i++) {
        if (address[0] == '\0' && leases[i]->type == VIR_IP_ADDR_TYPE_IPV4) {
            snprintf(address, 64, "%.60s", leases[i]->ipaddr);
        }
        virNetworkDHCPLeaseFree(leases[i]);
    }
    free(leases);
    far_kvm_xml_free(xml);
}

bool far_kvm_network_capture(virConnectPtr connection, struct far_kvm_xml *xml)
{
    const struct far_kvm_xml *card = far_kvm_xml_child(far_kvm_xml_child(xml, "devices"), "interface");
    bool ok = true;
    for (; ok && card != NULL; card = far_kvm_xml_next(card)) {
        const char *mac = far_kvm_xml_attr(far_kvm_xml_child(card, "mac"), "address");
        const char *name = far_kvm_xml_attr(far_kvm_xml_child(card, "source"), "network");
        virNetworkPtr network = name[0] != '\0' && mac[0] != '\0' ? virNetworkLookupByName(connection, name) : NULL;
        char address[64] = "", text[256];
        if (network != NULL) {
            known_address(network, mac, address);
            virNetworkFree(network);
        }
        if (address[0] != '\0' && strpbrk(address, "<&'") == NULL && strpbrk(mac, "<&'") == NULL) {
            snprintf(text, sizeof text, "<" FAR_KVM_ADDRESS_ELEMENT " xmlns:farshore='urn:farshore:address' address='%s' mac='%.20s'/>",
                     address, mac);
            ok = far_kvm_xml_add(xml, text);
        }
    }
    return ok;
}
