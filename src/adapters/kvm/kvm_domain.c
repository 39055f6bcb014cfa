/* Locators, connections, and what a domain is made of: see kvm_helper.h. */
#include "adapters/kvm/kvm_helper.h"

#include "base/clock.h"

#include <ctype.h>
#include <libvirt/virterror.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POLL_MS = 50, START_MS = 15000 };

static const char scheme[] = "kvm://";

/* ---- locators ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* %XX decoded; false: it has no place, is empty, or is no text. */
static bool decode(const char *from, size_t len, char *to, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < len && used + 1 < size; i++) {
        int high = from[i] == '%' && i + 2 < len ? hex_digit(from[i + 1]) : -1, low = high >= 0 ? hex_digit(from[i + 2]) : -1;
        char byte = low >= 0 ? (char)(high << 4 | low) : from[i];
        i += low >= 0 ? 2 : 0;
        if ((unsigned char)byte < 0x20 || (from[i] == '%' && low < 0) || (i + 1 < len && used + 2 == size)) {
            return false;
        }
        to[used++] = byte;
    }
    to[used] = '\0';
    return used > 0;
}

static bool take_setting(const char *at, size_t len, struct far_kvm_place *place)
{
    char path[PATH_MAX];
    if (len > 7 && strncmp(at, "socket=", 7) == 0 && at[7] == '/' && decode(at + 7, len - 7, path, sizeof path)) {
        return (size_t)snprintf(place->uri, sizeof place->uri, "qemu:///system?socket=%s", path) < sizeof place->uri;
    }
    return len > 7 && strncmp(at, "folder=", 7) == 0 && at[7] == '/' && decode(at + 7, len - 7, place->folder, sizeof place->folder);
}

int far_kvm_place(const char *locator, struct far_kvm_place *ret_place, struct far_adapter_error *ret_error)
{
    struct far_kvm_place place = {.uri = "qemu:///system"};
    size_t head = strlen(scheme);
    bool ok = strncmp(locator, scheme, head) == 0 && locator[head] == '/';
    if (ok) {
        const char *domain = locator + head + 1, *target = domain + strcspn(domain, "/?");
        const char *rest = *target == '/' ? target + 1 + strcspn(target + 1, "?") : target;
        ok = *target == '/' && decode(domain, (size_t)(target - domain), place.domain, sizeof place.domain) &&
             decode(target + 1, (size_t)(rest - target - 1), place.target, sizeof place.target);
        while (ok && *rest != '\0') { /* at a '?' or '&' */
            size_t len = strcspn(rest + 1, "&");
            ok = take_setting(rest + 1, len, &place);
            rest += 1 + len;
        }
        for (const char *c = place.target; ok && *c != '\0'; c++) {
            ok = isalnum((unsigned char)*c) || *c == '-' || *c == '_';
        }
    }
    if (!ok) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "the locator '%.200s' names no disk of a domain: kvm:///DOMAIN/TARGET, as kvm:///web/vda, and behind it "
                                "?socket=PATH of libvirtd's socket and folder=PATH for scratch files",
                                locator);
    }
    *ret_place = place;
    return FAR_ADAPTER_OK;
}

int far_kvm_place_uri(const char *text, char uri[PATH_MAX + 64], struct far_adapter_error *ret_error)
{
    struct far_kvm_place place = {.uri = "qemu:///system"};
    const char *rest = strncmp(text, "kvm:///", 7) == 0 ? text + 7 : "";
    bool ok = strncmp(text, "kvm:///", 7) == 0 && (*rest == '\0' || (*rest == '?' && take_setting(rest + 1, strlen(rest + 1), &place)));
    if (!ok) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "'%.200s' is no place for machines: kvm:///, and behind it perhaps ?socket=PATH of libvirtd's socket",
                                text);
    }
    memcpy(uri, place.uri, sizeof place.uri);
    return FAR_ADAPTER_OK;
}

/* ---- errors ---- */

static int outcome_of(int code, int *ret_class)
{
    switch (code) {
    case VIR_ERR_NO_DOMAIN:
    case VIR_ERR_NO_NETWORK:
        *ret_class = FAR_NOT_FOUND;
        return FAR_ADAPTER_FATAL;
    case VIR_ERR_CONFIG_UNSUPPORTED:
    case VIR_ERR_NO_SUPPORT:
    case VIR_ERR_XML_ERROR:
    case VIR_ERR_INVALID_ARG:
        *ret_class = FAR_INVALID;
        return FAR_ADAPTER_FATAL;
    case VIR_ERR_AUTH_FAILED:
    case VIR_ERR_AUTH_CANCELLED:
    case VIR_ERR_AUTH_UNAVAILABLE:
    case VIR_ERR_ACCESS_DENIED:
        *ret_class = FAR_DENIED;
        return FAR_ADAPTER_REFRESH_CREDENTIALS;
    case VIR_ERR_OPERATION_TIMEOUT:
    case VIR_ERR_AGENT_UNRESPONSIVE:
        *ret_class = FAR_TIMEOUT;
        return FAR_ADAPTER_RETRY;
    case VIR_ERR_OPERATION_INVALID:
        *ret_class = FAR_BUSY;
        return FAR_ADAPTER_RETRY;
    default:
        *ret_class = FAR_IO;
        return FAR_ADAPTER_RETRY;
    }
}

int far_kvm_said(struct far_adapter_error *ret_error, const char *format, ...)
{
    char what[200];
    va_list args;
    int klass, outcome = outcome_of(virGetLastErrorCode(), &klass);
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return far_adapter_fail(ret_error, outcome, klass, "%s: %.180s", what, virGetLastErrorMessage());
}

/* ---- what a domain is made of ---- */

static void on_error(void *arg, virErrorPtr error)
{
    (void)arg; /* libvirt would print it */
    (void)error;
}

int far_kvm_connect(const char *uri, virConnectPtr *ret_connection, struct far_adapter_error *ret_error)
{
    virSetErrorFunc(NULL, on_error);
    *ret_connection = virInitialize() == 0 ? virConnectOpen(uri) : NULL;
    return *ret_connection != NULL ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "connect to libvirt at '%.100s'", uri);
}

static const struct far_kvm_xml *disk_of(const struct far_kvm_xml *devices, const char *target)
{
    const struct far_kvm_xml *disk = far_kvm_xml_child(devices, "disk");
    while (disk != NULL && strcmp(far_kvm_xml_attr(far_kvm_xml_child(disk, "target"), "dev"), target) != 0) {
        disk = far_kvm_xml_next(disk);
    }
    return disk;
}

static int look_at_disk(struct far_kvm_domain *domain, const struct far_kvm_xml *devices, struct far_kvm_disk *disk,
                        struct far_adapter_error *ret_error)
{
    const struct far_kvm_xml *found = disk_of(devices, disk->place.target), *source = far_kvm_xml_child(found, "source");
    virDomainBlockInfo info;
    if (found == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_NOT_FOUND, "the domain '%.100s' has no disk '%s'", disk->place.domain,
                                disk->place.target);
    }
    disk->is_file = strcmp(far_kvm_xml_attr(found, "type"), "file") == 0;
    disk->is_qcow2 = strcmp(far_kvm_xml_attr(far_kvm_xml_child(found, "driver"), "type"), "qcow2") == 0;
    snprintf(disk->path, sizeof disk->path, "%s", far_kvm_xml_attr(source, disk->is_file ? "file" : "dev"));
    if (virDomainGetBlockInfo(domain->domain, disk->place.target, &info, 0) != 0) {
        return far_kvm_said(ret_error, "ask for the size of disk '%s' of '%.80s'", disk->place.target, disk->place.domain);
    }
    disk->size_bytes = info.capacity;
    return FAR_ADAPTER_OK;
}

static bool agent_answers(const struct far_kvm_xml *devices)
{
    const struct far_kvm_xml *channel = far_kvm_xml_child(devices, "channel");
    for (; channel != NULL; channel = far_kvm_xml_next(channel)) {
        const struct far_kvm_xml *target = far_kvm_xml_child(channel, "target");
        if (strcmp(far_kvm_xml_attr(target, "name"), "org.qemu.guest_agent.0") == 0) {
            return strcmp(far_kvm_xml_attr(target, "state"), "connected") == 0;
        }
    }
    return false;
}

/* A libvirtd that is killed while it starts a domain may read its own note so that it goes on starting it for ever, without a process
 * (9.0): all calls fail after half a minute, also that which would power it off, also after a restart. The state can be asked for. */
int far_kvm_check_started(virDomainPtr domain, const char *name, struct far_adapter_error *ret_error)
{
    uint64_t until_ms = far_clock_monotonic_ms() + START_MS;
    int state = VIR_DOMAIN_NOSTATE, reason = 0;
    while (virDomainGetState(domain, &state, &reason, 0) == 0 && state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_STARTING_UP) {
        if (far_clock_monotonic_ms() > until_ms) {
            return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                    "libvirtd ended while it started the domain '%.100s', and does not let go of it: stop libvirtd, remove "
                                    "its note of it (/run/libvirt/qemu/NAME.xml), and start libvirtd again",
                                    name);
        }
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
    return FAR_ADAPTER_OK;
}

static int look(struct far_kvm_domain *domain, const char *uuid, struct far_adapter_error *ret_error)
{
    const char *name = domain->disks[0].place.domain;
    domain->domain = strlen(name) == VIR_UUID_STRING_BUFLEN - 1 ? virDomainLookupByUUIDString(domain->connection, name) : NULL;
    domain->domain = domain->domain != NULL ? domain->domain : virDomainLookupByName(domain->connection, name);
    if (domain->domain == NULL && uuid != NULL && virGetLastErrorCode() == VIR_ERR_NO_DOMAIN) {
        domain->domain = virDomainLookupByUUIDString(domain->connection, uuid);
    }
    if (domain->domain == NULL) {
        return far_kvm_said(ret_error, "find the domain '%.100s'", name);
    }
    int outcome = far_kvm_check_started(domain->domain, name, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    char *text = virDomainGetXMLDesc(domain->domain, 0);
    struct far_kvm_xml *xml = text != NULL ? far_kvm_xml_parse(text) : NULL;
    const struct far_kvm_xml *devices = far_kvm_xml_child(xml, "devices");
    outcome = devices != NULL ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "read what the domain '%.100s' is made of", name);
    free(text);
    virDomainGetUUIDString(domain->domain, domain->uuid);
    domain->is_active = virDomainIsActive(domain->domain) == 1;
    domain->has_agent = outcome == FAR_ADAPTER_OK && agent_answers(devices);
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < domain->disk_count; i++) {
        outcome = look_at_disk(domain, devices, &domain->disks[i], ret_error);
    }
    far_kvm_xml_free(xml);
    return outcome;
}

int far_kvm_open(const char *const *locators, size_t count, struct far_kvm_domain *domain, struct far_adapter_error *ret_error)
{
    return far_kvm_open_as(locators, count, NULL, domain, ret_error);
}

int far_kvm_open_as(const char *const *locators, size_t count, const char *uuid, struct far_kvm_domain *domain,
                    struct far_adapter_error *ret_error)
{
    memset(domain, 0, sizeof *domain);
    int outcome = FAR_ADAPTER_OK;
    if (count == 0 || count > FAR_KVM_DISKS_MAX) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "%zu disks: 1 to %d are meant", count, FAR_KVM_DISKS_MAX);
    }
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < count; i++) {
        outcome = far_kvm_place(locators[i], &domain->disks[i].place, ret_error);
        if (outcome == FAR_ADAPTER_OK && (strcmp(domain->disks[i].place.uri, domain->disks[0].place.uri) != 0 ||
                                          strcmp(domain->disks[i].place.domain, domain->disks[0].place.domain) != 0)) {
            outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                       "the disks of one workload are those of one domain: not '%.80s' and '%.80s'",
                                       domain->disks[0].place.domain, domain->disks[i].place.domain);
        }
    }
    domain->disk_count = count;
    outcome = outcome == FAR_ADAPTER_OK ? far_kvm_connect(domain->disks[0].place.uri, &domain->connection, ret_error) : outcome;
    return outcome == FAR_ADAPTER_OK ? look(domain, uuid, ret_error) : outcome;
}

void far_kvm_close(struct far_kvm_domain *domain)
{
    if (domain->domain != NULL) {
        virDomainFree(domain->domain);
    }
    if (domain->connection != NULL) {
        virConnectClose(domain->connection);
    }
}
