/* Machines of recovered disks: a domain defined from the configuration that was captured at the source, with what belongs to one place
 * taken out (its UUID, addresses of the host, images) and the recovered disks put in.
 *
 * What we make bears its recovery's ref and group in the domain's metadata, and an isolated network has the group in its name; a domain
 * without the ref is never touched. What the recovery configuration does not change (kvm_recovery.c) stays as it was: processors,
 * memory, firmware, boot order, MAC addresses and models of devices. */
#include "adapters/kvm/kvm_helper.h"

#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_MAX = 4 << 20 };

/* ---- capture ---- */

int far_kvm_capture(struct far_kvm_domain *domain, struct far_adapter_error *ret_error)
{
    struct far_buf canonical;
    char *text = virDomainGetXMLDesc(domain->domain, VIR_DOMAIN_XML_INACTIVE);
    if (text == NULL) {
        return far_kvm_said(ret_error, "read what the domain '%.100s' is made of", domain->disks[0].place.domain);
    }
    struct far_kvm_xml *xml = far_kvm_xml_parse(text);
    far_buf_init(&canonical, CONFIG_MAX);
    if (xml != NULL) {
        far_kvm_canonical(xml);
    }
    bool ok = xml != NULL && far_kvm_network_capture(domain->connection, xml) && far_kvm_nvram_capture(domain, xml) &&
              far_kvm_xml_write(xml, &canonical) == 0;
    if (ok) {
        printf("%.*s\n", (int)canonical.len, (const char *)canonical.data);
    }
    far_buf_done(&canonical);
    far_kvm_xml_free(xml);
    free(text);
    return ok ? FAR_ADAPTER_OK
              : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "what the domain '%.100s' is made of cannot be read",
                                 domain->disks[0].place.domain);
}

/* ---- putting the recovered disks in ---- */

static bool write_disk(struct far_kvm_xml *disk, const struct far_kvm_machine_disk *with)
{
    static const char nbd[] = "nbd+unix:///", socket[] = "?socket=";
    static const char tail[] = "'/></source><backingStore/></backingStore>";
    struct far_buf source, backing;
    far_buf_init(&source, 16384);
    far_buf_init(&backing, 4096);
    bool is_nbd = strncmp(with->path, nbd, strlen(nbd)) == 0;
    const char *name = with->path + (is_nbd ? strlen(nbd) : 0), *at = is_nbd ? strstr(name, socket) : NULL;
    int rc = is_nbd && at == NULL ? FAR_INVALID : 0;
    if (rc == 0 && is_nbd) {
        rc = far_buf_printf(&source, "<source protocol='nbd' name='%.*s'><host transport='unix' socket='", (int)(at - name), name);
        rc = rc == 0 ? far_kvm_xml_escape(&source, at + strlen(socket)) : rc;
        rc = rc == 0 ? far_buf_append(&source, "'/></source>", sizeof "'/></source>") : rc;
    } else if (rc == 0) {
        rc = far_buf_append_str(&source, "<source file='");
        rc = rc == 0 ? far_kvm_xml_escape(&source, with->path) : rc;
        rc = rc == 0 ? far_buf_append(&source, "'/>", sizeof "'/>") : rc;
    }
    static const char *const gone[] = {"source", "backingStore", "mirror", "auth", "encryption", "driver", "alias"};
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        far_kvm_xml_drop(disk, gone[i]);
    }
    char driver[128];
    bool is_over = with->backing != NULL && with->backing[0] != '\0';
    if (rc == 0 && is_over) {
        rc = far_buf_append_str(&backing, "<backingStore type='network'><format type='raw'/><source protocol='nbd' name=''>"
                                          "<host transport='unix' socket='");
        rc = rc == 0 ? far_kvm_xml_escape(&backing, with->backing) : rc;
        rc = rc == 0 ? far_buf_append(&backing, tail, sizeof tail) : rc;
    }
    /* A guest is told of no error while nobody serves its disk: it stops, and hydrate lets it go on (kvm_hydrate.c). libvirt 9.0 has no
     * way to say that QEMU is to wait for the server itself. */
    snprintf(driver, sizeof driver, "<driver name='qemu' type='%.16s' discard='unmap'%s/>", with->format,
             is_over ? " error_policy='stop' rerror_policy='stop'" : "");
    bool ok = rc == 0 && far_kvm_xml_set(disk, "type", is_nbd ? "network" : "file") && far_kvm_xml_add(disk, (const char *)source.data) &&
              far_kvm_xml_add(disk, driver) && (backing.len == 0 || far_kvm_xml_add(disk, (const char *)backing.data));
    far_buf_done(&backing);
    far_buf_done(&source);
    return ok;
}

/* A disk that was not recovered does not come along: "left out" is what the plan said of it. */
static bool put_disks(struct far_kvm_xml *devices, const struct far_kvm_machine *machine, size_t *ret_count)
{
    struct far_kvm_xml **place = &devices->first, *last = NULL;
    bool ok = true;
    *ret_count = 0;
    while (ok && *place != NULL) {
        struct far_kvm_xml *child = *place;
        const char *target = far_kvm_xml_attr(far_kvm_xml_child(child, "target"), "dev");
        const struct far_kvm_machine_disk *with = NULL;
        bool is_disk = strcmp(child->name, "disk") == 0;
        for (size_t i = 0; is_disk && i < machine->disk_count; i++) {
            with = strcmp(machine->disks[i].target, target) == 0 ? &machine->disks[i] : with;
        }
        if (is_disk && with == NULL) {
            *place = child->next;
            child->next = NULL;
            far_kvm_xml_free(child);
            continue;
        }
        ok = !is_disk || write_disk(child, with);
        *ret_count += is_disk;
        last = child;
        place = &child->next;
    }
    devices->last = ok ? last : devices->last;
    return ok;
}

/* Beside the first disk, or the socket that it comes by: where a console that was a file goes. */
static int folder_len(const struct far_kvm_machine *machine, const char **ret_path)
{
    const char *path = machine->disks[0].path, *socket = strstr(path, "?socket=");
    *ret_path = path[0] != '/' && socket != NULL ? socket + strlen("?socket=") : path;
    const char *end = strrchr(*ret_path, '/');
    return end != NULL ? (int)(end - *ret_path) : 0;
}

static bool put_console(struct far_kvm_xml *device, const struct far_kvm_machine *machine)
{
    const char *was = far_kvm_xml_attr(far_kvm_xml_child(device, "source"), "path"), *slash = strrchr(was, '/'), *folder;
    char path[PATH_MAX];
    struct far_buf text;
    int len = folder_len(machine, &folder);
    snprintf(path, sizeof path, "%.*s/%.80s-%.100s", len < PATH_MAX - 256 ? len : PATH_MAX - 256, folder, machine->name,
             slash != NULL ? slash + 1 : was);
    far_buf_init(&text, 4 * PATH_MAX);
    int rc = far_buf_append_str(&text, "<source path='");
    rc = rc == 0 ? far_kvm_xml_escape(&text, path) : rc;
    rc = rc == 0 ? far_buf_append(&text, "' append='on'/>", sizeof "' append='on'/>") : rc;
    far_kvm_xml_drop(device, "source");
    bool ok = rc == 0 && far_kvm_xml_add(device, (const char *)text.data);
    far_buf_done(&text);
    return ok;
}

/* What names files of the other host. */
static bool put_devices(struct far_kvm_xml *devices, const struct far_kvm_machine *machine)
{
    static const char *const chars[] = {"serial", "console", "parallel", "channel"};
    bool ok = true;
    for (struct far_kvm_xml *child = devices->first; ok && child != NULL; child = child->next) {
        bool is_char = false;
        for (size_t i = 0; i < sizeof chars / sizeof chars[0]; i++) {
            is_char = is_char || strcmp(child->name, chars[i]) == 0;
        }
        if (is_char && strcmp(far_kvm_xml_attr(child, "type"), "file") == 0) {
            ok = put_console(child, machine);
        } else if (is_char && strcmp(far_kvm_xml_attr(child, "type"), "unix") == 0) {
            far_kvm_xml_drop(child, "source"); /* libvirt finds a place */
        }
    }
    return ok;
}

/* Name, marks and tags. */
static bool put_names(struct far_kvm_xml *xml, const struct far_kvm_machine *machine, struct far_kvm_xml **ret_metadata)
{
    struct far_buf text;
    far_buf_init(&text, 4096);
    int rc = far_buf_append_str(&text, "<name>");
    rc = rc == 0 ? far_kvm_xml_escape(&text, machine->name) : rc;
    rc = rc == 0 ? far_buf_append(&text, "</name>", sizeof "</name>") : rc;
    bool ok = rc == 0 && far_kvm_xml_add(xml, (const char *)text.data) && far_kvm_xml_add(xml, "<metadata/>");
    *ret_metadata = ok ? xml->last : NULL;
    far_buf_reset(&text);
    rc = far_buf_printf(&text, "<farshore:machine xmlns:farshore='" FAR_KVM_MARK_URI "' ref='%s' group='%s' expects='", machine->ref,
                        machine->group);
    for (size_t i = 0; rc == 0 && i < machine->recovery.nic_count; i++) { /* kvm_guest.c asks for them */
        rc = far_kvm_xml_escape(&text, machine->recovery.nics[i].address);
        rc = rc == 0 ? far_buf_append_str(&text, " ") : rc;
    }
    rc = rc == 0 ? far_buf_append(&text, "'/>", sizeof "'/>") : rc;
    ok = ok && rc == 0 && far_kvm_xml_add(*ret_metadata, (const char *)text.data);
    far_buf_done(&text);
    return ok;
}

/* Beside the first disk, too. Other firmware has other variables. */
static int put_variables(struct far_kvm_xml *xml, const struct far_kvm_machine *machine, struct far_adapter_error *ret_error)
{
    char path[PATH_MAX];
    const char *folder;
    int len = folder_len(machine, &folder);
    snprintf(path, sizeof path, "%.*s/%.100s_VARS.fd", len < PATH_MAX - 128 ? len : PATH_MAX - 128, folder, machine->name);
    struct far_kvm_xml *os = (struct far_kvm_xml *)far_kvm_xml_child(xml, "os");
    return far_kvm_nvram_put(xml, os, path, machine->recovery.firmware[0] == '\0', ret_error);
}

static int rewrite(virConnectPtr connection, struct far_kvm_xml *xml, const struct far_kvm_machine *machine,
                   struct far_adapter_error *ret_error)
{
    static const char *const gone[] = {"name", "uuid", "metadata", "seclabel", "resource"};
    struct far_kvm_xml *devices = (struct far_kvm_xml *)far_kvm_xml_child(xml, "devices"), *metadata = NULL;
    size_t count = 0;
    if (devices == NULL || strcmp(xml->name, "domain") != 0) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the configuration is none of a domain");
    }
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        far_kvm_xml_drop(xml, gone[i]);
    }
    far_kvm_xml_set(xml, "id", NULL);
    int outcome = put_variables(xml, machine, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    bool ok = put_names(xml, machine, &metadata) && put_disks(devices, machine, &count) && put_devices(devices, machine);
    if (ok && count != machine->disk_count) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "the configuration has only %zu of the %zu disks that were recovered", count, machine->disk_count);
    }
    return ok ? far_kvm_recovery_put(connection, machine, xml, metadata, ret_error)
              : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the configuration of '%s' cannot be changed", machine->name);
}

char *far_kvm_read_file(const char *path, size_t max)
{
    struct far_buf text;
    FILE *file = fopen(path, "r");
    char piece[4096], *copy = NULL;
    size_t n = 0;
    far_buf_init(&text, max);
    int rc = file != NULL ? 0 : FAR_IO;
    while (rc == 0 && (n = fread(piece, 1, sizeof piece, file)) > 0) {
        rc = far_buf_append(&text, piece, n);
    }
    rc = rc == 0 ? far_buf_append(&text, "", 1) : rc;
    copy = rc == 0 ? strdup((const char *)text.data) : NULL;
    far_buf_done(&text);
    if (file != NULL) {
        fclose(file);
    }
    return copy;
}

/* ---- finding ---- */

static bool bears(virDomainPtr domain, const char *attribute, const char *value)
{
    char *mark = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, FAR_KVM_MARK_URI, 0);
    struct far_kvm_xml *xml = mark != NULL ? far_kvm_xml_parse(mark) : NULL;
    bool does = xml != NULL && strcmp(far_kvm_xml_attr(xml, attribute), value) == 0;
    far_kvm_xml_free(xml);
    free(mark);
    return does;
}

/* The first one that bears it, whatever it is called. *ret_domain NULL: none. */
static int find_bearer(virConnectPtr connection, const char *attribute, const char *value, virDomainPtr *ret_domain,
                       struct far_adapter_error *ret_error)
{
    virDomainPtr *domains = NULL;
    int count = virConnectListAllDomains(connection, &domains, 0);
    *ret_domain = NULL;
    if (count < 0) {
        return far_kvm_said(ret_error, "list the domains");
    }
    for (int i = 0; i < count; i++) {
        if (*ret_domain == NULL && bears(domains[i], attribute, value)) {
            *ret_domain = domains[i];
        } else {
            virDomainFree(domains[i]);
        }
    }
    free(domains);
    return FAR_ADAPTER_OK;
}

/* *ret_domain NULL: there is none of this name, and none by another that bears the ref. One that is another's is fatal. */
static int find(virConnectPtr connection, const struct far_kvm_machine *machine, virDomainPtr *ret_domain,
                struct far_adapter_error *ret_error)
{
    virDomainPtr named = virDomainLookupByName(connection, machine->name);
    *ret_domain = NULL;
    if (named == NULL && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN) {
        return far_kvm_said(ret_error, "find the machine '%s'", machine->name);
    }
    if (named != NULL && bears(named, "ref", machine->ref)) {
        *ret_domain = named;
        return FAR_ADAPTER_OK;
    }
    int outcome = find_bearer(connection, "ref", machine->ref, ret_domain, ret_error); /* somebody gave it another name */
    if (outcome == FAR_ADAPTER_OK && *ret_domain == NULL && named != NULL) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT, "a machine '%s' is there that this recovery did not make",
                                   machine->name);
    }
    if (named != NULL) {
        virDomainFree(named);
    }
    return outcome;
}

/* ---- the verbs ---- */

static int define(virConnectPtr connection, struct far_kvm_machine *machine, struct far_kvm_xml *xml, struct far_adapter_error *ret_error)
{
    struct far_buf text;
    far_buf_init(&text, CONFIG_MAX);
    int outcome = far_kvm_recovery_read(machine->recovery_path, &machine->recovery, ret_error);
    if (outcome == FAR_ADAPTER_OK) {
        far_kvm_recovery_map(&machine->recovery, xml);
        far_kvm_xml_drop(xml, FAR_KVM_ADDRESS_ELEMENT);
        outcome = rewrite(connection, xml, machine, ret_error);
    }
    if (outcome == FAR_ADAPTER_OK && (far_kvm_xml_write(xml, &text) != 0 || far_buf_append(&text, "", 1) != 0)) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_LIMIT, "the configuration of '%s' is too long", machine->name);
    }
    virDomainPtr domain = outcome == FAR_ADAPTER_OK ? virDomainDefineXML(connection, (const char *)text.data) : NULL;
    if (domain != NULL) {
        virDomainFree(domain);
    } else if (outcome == FAR_ADAPTER_OK) {
        outcome = far_kvm_said(ret_error, "define the machine '%s'", machine->name);
    }
    far_kvm_recovery_done(&machine->recovery);
    far_buf_done(&text);
    return outcome;
}

static int create(virConnectPtr connection, struct far_kvm_machine *machine, struct far_adapter_error *ret_error)
{
    virDomainPtr domain = NULL;
    int outcome = find(connection, machine, &domain, ret_error);
    if (domain != NULL) {
        virDomainFree(domain);
    }
    if (outcome != FAR_ADAPTER_OK || domain != NULL) {
        return outcome;
    }
    char *text = far_kvm_read_file(machine->config, CONFIG_MAX);
    struct far_kvm_xml *xml = text != NULL ? far_kvm_xml_parse(text) : NULL;
    free(text);
    if (xml == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the configuration of '%s' cannot be read", machine->name);
    }
    outcome = define(connection, machine, xml, ret_error);
    far_kvm_xml_free(xml);
    return outcome;
}

int far_kvm_power(virDomainPtr domain, const char *how, struct far_adapter_error *ret_error)
{
    const char *name = virDomainGetName(domain); /* now: asked for later, it would make libvirt forget what it has to say */
    bool active = virDomainIsActive(domain) == 1, turns_on = strcmp(how, "on") == 0;
    int outcome = active ? far_kvm_check_started(domain, name, ret_error) : FAR_ADAPTER_OK;
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    if (turns_on && !active) {
        return virDomainCreate(domain) == 0 ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "start the machine '%s'", name);
    }
    if (!turns_on && active) {
        int rc = strcmp(how, "off") == 0 ? virDomainDestroy(domain) : virDomainShutdown(domain); /* by its agent, else ACPI */
        outcome = rc == 0 ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "power off the machine '%s'", name);
        return virDomainIsActive(domain) == 0 ? FAR_ADAPTER_OK : outcome;
    }
    return FAR_ADAPTER_OK;
}

static int undefine(virDomainPtr domain, struct far_adapter_error *ret_error)
{
    const unsigned everything = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                                VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_NVRAM;
    const char *name = virDomainGetName(domain);
    int outcome = far_kvm_power(domain, "off", ret_error);
    if (outcome == FAR_ADAPTER_OK && virDomainUndefineFlags(domain, everything) != 0 && virGetLastErrorCode() != VIR_ERR_NO_DOMAIN) {
        outcome = far_kvm_said(ret_error, "undefine the machine '%s'", name);
    }
    return outcome;
}

/* The group's networks go with its last machine; `destroys`, or each is printed. */
static int end_group(virConnectPtr connection, const struct far_kvm_machine *machine, bool destroys, struct far_adapter_error *ret_error)
{
    virDomainPtr other = NULL;
    int outcome = find_bearer(connection, "group", machine->group, &other, ret_error);
    if (outcome == FAR_ADAPTER_OK && other == NULL) {
        outcome = far_kvm_networks(connection, machine, destroys, ret_error);
    }
    if (other != NULL) {
        virDomainFree(other);
    }
    return outcome;
}

/* Somebody else's of that name is left alone: ours never came to be. One that was kept is refused, so that whoever asks leaves its disks
 * alone, too. */
static int destroy(virConnectPtr connection, const struct far_kvm_machine *machine, struct far_adapter_error *ret_error)
{
    virDomainPtr domain = NULL, named = virDomainLookupByName(connection, machine->name);
    int outcome = find_bearer(connection, "ref", machine->ref, &domain, ret_error);
    if (domain != NULL) {
        outcome = undefine(domain, ret_error);
        virDomainFree(domain);
    } else if (outcome == FAR_ADAPTER_OK && named != NULL && bears(named, "kept", "yes")) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                   "the machine '%s' was kept: it belongs to no recovery any more", machine->name);
    }
    if (named != NULL) {
        virDomainFree(named);
    }
    outcome = outcome == FAR_ADAPTER_OK ? far_kvm_reservations(connection, machine, FAR_KVM_RESERVATIONS_END, ret_error) : outcome;
    return outcome == FAR_ADAPTER_OK ? end_group(connection, machine, true, ret_error) : outcome;
}

static int remains(virConnectPtr connection, const struct far_kvm_machine *machine, struct far_adapter_error *ret_error)
{
    virDomainPtr domain = NULL;
    int outcome = find_bearer(connection, "ref", machine->ref, &domain, ret_error);
    if (domain != NULL) {
        printf("left machine '%s'\n", virDomainGetName(domain));
        virDomainFree(domain);
        return outcome;
    }
    outcome = outcome == FAR_ADAPTER_OK ? far_kvm_reservations(connection, machine, FAR_KVM_RESERVATIONS_TELL, ret_error) : outcome;
    return outcome == FAR_ADAPTER_OK ? end_group(connection, machine, false, ret_error) : outcome;
}

/* It bears another mark from then on: that it was kept, from whatever recovery. */
static int keep(virConnectPtr connection, const struct far_kvm_machine *machine, struct far_adapter_error *ret_error)
{
    virDomainPtr domain = NULL, named = virDomainLookupByName(connection, machine->name);
    int outcome = find_bearer(connection, "ref", machine->ref, &domain, ret_error);
    if (outcome == FAR_ADAPTER_OK && domain == NULL) {
        outcome = named != NULL && bears(named, "kept", "yes") /* by an earlier attempt */
                      ? FAR_ADAPTER_OK
                      : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_NOT_FOUND, "there is no machine '%s'", machine->name);
    } else if (outcome == FAR_ADAPTER_OK) {
        unsigned flags = VIR_DOMAIN_AFFECT_CONFIG | (virDomainIsActive(domain) == 1 ? VIR_DOMAIN_AFFECT_LIVE : 0);
        if (virDomainSetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, "<machine kept='yes'/>", "farshore", FAR_KVM_MARK_URI, flags) != 0) {
            outcome = far_kvm_said(ret_error, "take the mark of the recovery from '%s'", machine->name);
        }
        virDomainFree(domain);
    }
    if (named != NULL) {
        virDomainFree(named);
    }
    return outcome == FAR_ADAPTER_OK ? far_kvm_reservations(connection, machine, FAR_KVM_RESERVATIONS_KEEP, ret_error) : outcome;
}

const char *far_kvm_state(virDomainPtr domain)
{
    int state = VIR_DOMAIN_NOSTATE, reason;
    if (domain == NULL) {
        return "absent";
    }
    virDomainGetState(domain, &state, &reason, 0);
    return state == VIR_DOMAIN_PAUSED || state == VIR_DOMAIN_PMSUSPENDED            ? "paused"
           : state == VIR_DOMAIN_SHUTOFF || state == VIR_DOMAIN_CRASHED ? "off"
                                                                        : "running";
}

static int of_domain(virConnectPtr connection, const struct far_kvm_machine *machine, const char *verb,
                     struct far_adapter_error *ret_error)
{
    virDomainPtr domain = NULL;
    int outcome = find(connection, machine, &domain, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    if (strcmp(verb, "look") == 0) {
        printf("state %s\n", far_kvm_state(domain));
    } else if (domain == NULL) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_NOT_FOUND, "there is no machine '%s'", machine->name);
    } else if (strcmp(verb, "addresses") == 0) {
        far_kvm_addresses(domain);
    } else if (strcmp(verb, "ping") == 0) {
        far_kvm_ping(domain);
    } else if (strcmp(verb, "hydrate") == 0) {
        outcome = far_kvm_hydrate(domain, machine->speed, ret_error);
    } else {
        outcome = far_kvm_power(domain, verb, ret_error);
    }
    if (domain != NULL) {
        virDomainFree(domain);
    }
    return outcome;
}

int far_kvm_machine(struct far_kvm_machine *machine, const char *verb, struct far_adapter_error *ret_error)
{
    virConnectPtr connection = NULL;
    int outcome = far_kvm_connect(machine->uri, &connection, ret_error);
    if (outcome == FAR_ADAPTER_OK) {
        outcome = strcmp(verb, "create") == 0    ? create(connection, machine, ret_error)
                  : strcmp(verb, "keep") == 0    ? keep(connection, machine, ret_error)
                  : strcmp(verb, "destroy") == 0 ? destroy(connection, machine, ret_error)
                  : strcmp(verb, "remains") == 0 ? remains(connection, machine, ret_error)
                                                 : of_domain(connection, machine, verb, ret_error);
        virConnectClose(connection);
    }
    return outcome;
}
