/* What is known of a guest that runs: its addresses, whether its agent answers; and the protected machine itself, turned off and on. */
#include "adapters/kvm/kvm_helper.h"

#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { AGENT_S = 5 };

#define AUTOSTART_URI "urn:farshore:autostart"
#define STOPPED_URI "urn:farshore:stopped"

/* ---- addresses ---- */

static bool is_of_use(const char *address)
{
    return strncmp(address, "127.", 4) != 0 && strncmp(address, "169.254.", 8) != 0 && strcmp(address, "::1") != 0 &&
           strncasecmp(address, "fe80:", 5) != 0;
}

static int print_addresses(virDomainPtr domain, unsigned source)
{
    virDomainInterfacePtr *cards = NULL;
    int count = virDomainInterfaceAddresses(domain, &cards, source, 0), printed = 0;
    for (int i = 0; i < count; i++) {
        for (unsigned k = 0; k < cards[i]->naddrs; k++) {
            if (is_of_use(cards[i]->addrs[k].addr)) {
                printf("address %s\n", cards[i]->addrs[k].addr);
                printed++;
            }
        }
        virDomainInterfaceFree(cards[i]);
    }
    free(cards);
    return printed;
}

/* Is it one of the machine's cards that was heard there? */
static bool is_card(const struct far_kvm_xml *devices, const char *mac, const char *bridge)
{
    const struct far_kvm_xml *card = far_kvm_xml_child(devices, "interface");
    while (card != NULL && (strcasecmp(far_kvm_xml_attr(far_kvm_xml_child(card, "mac"), "address"), mac) != 0 ||
                            strcmp(far_kvm_xml_attr(far_kvm_xml_child(card, "source"), "bridge"), bridge) != 0)) {
        card = far_kvm_xml_next(card);
    }
    return card != NULL;
}

/* Whom the host heard, in the machine's own network: another machine may have the same addresses, in another. libvirt 9.0 tells nothing of
 * that (virArpTableGet: wrong nlmsg len). A line of the kernel's: address, type, flags (2: it answered), MAC, mask, device. */
static void print_heard(virDomainPtr domain)
{
    char *text = virDomainGetXMLDesc(domain, 0), line[256], address[64], mac[32], device[32];
    struct far_kvm_xml *xml = text != NULL ? far_kvm_xml_parse(text) : NULL;
    FILE *file = xml != NULL ? fopen("/proc/net/arp", "re") : NULL;
    unsigned flags;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        bool is_there = sscanf(line, "%63s %*s %x %31s %*s %31s", address, &flags, mac, device) == 4 && (flags & 2) != 0;
        if (is_there && is_card(far_kvm_xml_child(xml, "devices"), mac, device)) {
            printf("address %s\n", address);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    far_kvm_xml_free(xml);
    free(text);
}

static bool agent_is_connected(virDomainPtr domain)
{
    char *text = virDomainGetXMLDesc(domain, 0);
    bool is_connected = text != NULL && strstr(text, "state='connected'") != NULL;
    free(text);
    return is_connected;
}

/* A packet to whom nobody expects one: where the guest is within reach of this host, the host then knows its address. */
static void call_expected(virDomainPtr domain)
{
    char *mark = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, FAR_KVM_MARK_URI, 0), one[64];
    struct far_kvm_xml *xml = mark != NULL ? far_kvm_xml_parse(mark) : NULL;
    int at = 0;
    for (const char *text = far_kvm_xml_attr(xml, "expects"); sscanf(text, "%63s%n", one, &at) == 1; text += at) {
        struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_DGRAM}, *found = NULL;
        int fd = getaddrinfo(one, "9", &hints, &found) == 0 ? socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
        if (fd >= 0) {
            (void)sendto(fd, "", 1, 0, found->ai_addr, found->ai_addrlen);
            close(fd);
        }
        if (found != NULL) {
            freeaddrinfo(found);
        }
    }
    far_kvm_xml_free(xml);
    free(mark);
}

/* The agent knows best; the others are asked only where it says nothing, for what they heard may be old. */
void far_kvm_addresses(virDomainPtr domain)
{
    static const unsigned sources[] = {VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT, VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE};
    int printed = 0;
    bool has_agent = agent_is_connected(domain);
    virDomainAgentSetResponseTimeout(domain, AGENT_S, 0);
    call_expected(domain);
    for (size_t i = !has_agent; printed == 0 && i < sizeof sources / sizeof sources[0]; i++) {
        printed = print_addresses(domain, sources[i]);
    }
    if (printed == 0) {
        print_heard(domain);
    }
}

void far_kvm_ping(virDomainPtr domain)
{
    char *answer = agent_is_connected(domain) ? virDomainQemuAgentCommand(domain, "{\"execute\":\"guest-ping\"}", AGENT_S, 0) : NULL;
    printf("agent %s\n", answer != NULL ? "answers" : "silent");
    free(answer);
}

/* ---- the protected machine ---- */

/* One that was meant to start with its host must not while another has taken its place: it is noted in the domain itself, and undone when
 * it is turned on again. */
static int hold_autostart(virDomainPtr domain, bool holds, struct far_adapter_error *ret_error)
{
    const unsigned persistent = VIR_DOMAIN_AFFECT_CONFIG;
    const char *name = virDomainGetName(domain);
    int autostart = 0;
    char *mark = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, AUTOSTART_URI, persistent);
    bool was_held = mark != NULL, ok = true;
    free(mark);
    if (holds && virDomainGetAutostart(domain, &autostart) == 0 && autostart != 0) {
        ok = virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, "<held/>", "farshoreautostart", AUTOSTART_URI, persistent) == 0 &&
             virDomainSetAutostart(domain, 0) == 0;
    } else if (!holds && was_held) {
        ok = virDomainSetAutostart(domain, 1) == 0 &&
             virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, NULL, NULL, AUTOSTART_URI, persistent) == 0;
    }
    return ok ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "change whether '%.100s' starts with its host", name);
}

/* Whoever is killed between turning it off and telling so is not to take it for one that was off before. A domain without a lasting
 * configuration cannot bear the mark, and is gone when it is off. */
static void mark_stopped(virDomainPtr domain, bool is_stopped)
{
    (void)virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, is_stopped ? "<stopped/>" : NULL, is_stopped ? "farshorestopped" : NULL,
                               STOPPED_URI, VIR_DOMAIN_AFFECT_CONFIG);
}

static const char *state_of_source(virDomainPtr domain)
{
    const char *state = far_kvm_state(domain);
    char *mark = strcmp(state, "off") == 0
                     ? virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, STOPPED_URI, VIR_DOMAIN_AFFECT_CONFIG)
                     : NULL;
    bool is_stopped = mark != NULL;
    free(mark);
    return is_stopped ? "stopped" : state;
}

int far_kvm_source(struct far_kvm_domain *domain, const char *verb, struct far_adapter_error *ret_error)
{
    if (strcmp(verb, "look") == 0) {
        printf("state %s\n", state_of_source(domain->domain));
        return FAR_ADAPTER_OK;
    }
    bool turns_on = strcmp(verb, "on") == 0;
    char prefix[FAR_KVM_NAME_MAX];
    if (turns_on) { /* with a view of it it could not start */
        far_kvm_prefix(domain, prefix);
        far_kvm_off_end(domain, prefix);
    }
    int outcome = hold_autostart(domain->domain, !turns_on, ret_error);
    if (outcome == FAR_ADAPTER_OK && !turns_on && virDomainIsActive(domain->domain) == 1) {
        mark_stopped(domain->domain, true);
    }
    outcome = outcome == FAR_ADAPTER_OK ? far_kvm_power(domain->domain, verb, ret_error) : outcome;
    if (outcome == FAR_ADAPTER_OK && turns_on) {
        mark_stopped(domain->domain, false);
    }
    return outcome;
}
