/* Machines of recovered disks: a domain defined from the configuration that was captured at the source, with what belongs to one place
 * taken out (its UUID, addresses of the host, images) and the recovered disks put in.
 *
 * What we make bears its recovery's ref in the domain's metadata, and an isolated network has the ref in its name; a domain without it is
 * never touched. Processors, memory, firmware, boot order, MAC addresses and models of devices stay as they were. */
#include "adapters/kvm/kvm_helper.h"

#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MARK_URI "urn:farshore:machine"

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
    bool ok = xml != NULL && far_kvm_xml_write(xml, &canonical) == 0;
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
    struct far_buf source;
    far_buf_init(&source, 16384);
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
    char driver[64];
    snprintf(driver, sizeof driver, "<driver name='qemu' type='%.16s' discard='unmap'/>", with->format);
    bool ok = rc == 0 && far_kvm_xml_set(disk, "type", is_nbd ? "network" : "file") && far_kvm_xml_add(disk, (const char *)source.data) &&
              far_kvm_xml_add(disk, driver);
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

/* Networks, and what names files of the other host. */
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
            const char *path = far_kvm_xml_attr(far_kvm_xml_child(child, "source"), "path"), *slash = strrchr(path, '/');
            char fragment[PATH_MAX + 64];
            const char *folder;
            int len = folder_len(machine, &folder);
            snprintf(fragment, sizeof fragment, "<source path='%.*s/%s-%.100s' append='on'/>", len, folder, machine->name,
                     slash != NULL ? slash + 1 : path);
            far_kvm_xml_drop(child, "source");
            ok = far_kvm_xml_add(child, fragment);
        } else if (is_char && strcmp(far_kvm_xml_attr(child, "type"), "unix") == 0) {
            far_kvm_xml_drop(child, "source"); /* libvirt finds a place */
        } else if (machine->isolated && strcmp(child->name, "interface") == 0) {
            char fragment[FAR_KVM_NAME_MAX + 64];
            static const char *const gone[] = {"source", "virtualport", "vlan", "portForwarding", "backend"};
            for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
                far_kvm_xml_drop(child, gone[i]);
            }
            snprintf(fragment, sizeof fragment, "<source network='%s'/>", machine->network);
            ok = far_kvm_xml_set(child, "type", "network") && far_kvm_xml_add(child, fragment);
        }
    }
    return ok;
}

static int rewrite(struct far_kvm_xml *xml, const struct far_kvm_machine *machine, struct far_adapter_error *ret_error)
{
    static const char *const gone[] = {"name", "uuid", "metadata", "seclabel", "resource"};
    struct far_kvm_xml *devices = (struct far_kvm_xml *)far_kvm_xml_child(xml, "devices");
    struct far_kvm_xml *os = (struct far_kvm_xml *)far_kvm_xml_child(xml, "os");
    char fragment[512];
    size_t count = 0;
    if (devices == NULL || strcmp(xml->name, "domain") != 0) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the configuration is none of a domain");
    }
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        far_kvm_xml_drop(xml, gone[i]);
    }
    far_kvm_xml_set(xml, "id", NULL);
    if (os != NULL) {
        far_kvm_xml_drop(os, "nvram"); /* the other host's file: libvirt makes one from its template */
    }
    snprintf(fragment, sizeof fragment, "<name>%s</name>", machine->name);
    bool ok = far_kvm_xml_add(xml, fragment);
    snprintf(fragment, sizeof fragment, "<metadata><farshore:machine xmlns:farshore='" MARK_URI "' ref='%s'/></metadata>", machine->ref);
    ok = ok && far_kvm_xml_add(xml, fragment) && put_disks(devices, machine, &count) && put_devices(devices, machine);
    if (ok && count != machine->disk_count) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "the configuration has only %zu of the %zu disks that were recovered", count, machine->disk_count);
    }
    return ok ? FAR_ADAPTER_OK : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the configuration of '%s' cannot be changed",
                                                  machine->name);
}

static struct far_kvm_xml *read_config(const char *path)
{
    struct far_buf text;
    FILE *file = fopen(path, "r");
    char piece[4096];
    size_t n = 0;
    far_buf_init(&text, CONFIG_MAX);
    int rc = file != NULL ? 0 : FAR_IO;
    while (rc == 0 && (n = fread(piece, 1, sizeof piece, file)) > 0) {
        rc = far_buf_append(&text, piece, n);
    }
    rc = rc == 0 ? far_buf_append(&text, "", 1) : rc;
    struct far_kvm_xml *xml = rc == 0 ? far_kvm_xml_parse((const char *)text.data) : NULL;
    far_buf_done(&text);
    if (file != NULL) {
        fclose(file);
    }
    return xml;
}

/* ---- finding ---- */

/* *ret_domain NULL: there is none of this name. One that is another's is fatal. */
static int find(virConnectPtr connection, const struct far_kvm_machine *machine, virDomainPtr *ret_domain,
                struct far_adapter_error *ret_error)
{
    char wanted[256];
    *ret_domain = virDomainLookupByName(connection, machine->name);
    if (*ret_domain == NULL) {
        return virGetLastErrorCode() == VIR_ERR_NO_DOMAIN
                   ? FAR_ADAPTER_OK
                   : far_kvm_said(ret_error, "find the machine '%s'", machine->name);
    }
    char *mark = virDomainGetMetadata(*ret_domain, VIR_DOMAIN_METADATA_ELEMENT, MARK_URI, 0);
    snprintf(wanted, sizeof wanted, "ref=\"%s\"", machine->ref);
    bool is_it = mark != NULL && (strstr(mark, wanted) != NULL);
    if (!is_it && mark != NULL) {
        snprintf(wanted, sizeof wanted, "ref='%s'", machine->ref);
        is_it = strstr(mark, wanted) != NULL;
    }
    free(mark);
    if (is_it) {
        return FAR_ADAPTER_OK;
    }
    virDomainFree(*ret_domain);
    *ret_domain = NULL;
    return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT, "a machine '%s' is there that this recovery did not make",
                            machine->name);
}

static int make_network(virConnectPtr connection, const struct far_kvm_machine *machine, struct far_adapter_error *ret_error)
{
    char xml[FAR_KVM_NAME_MAX + 128];
    virNetworkPtr network = virNetworkLookupByName(connection, machine->network);
    if (network == NULL) {
        snprintf(xml, sizeof xml, "<network><name>%s</name><bridge stp='off' delay='0'/></network>", machine->network);
        network = virNetworkCreateXML(connection, xml); /* no forward, no address: nothing but its machines */
    }
    if (network == NULL) {
        return far_kvm_said(ret_error, "make the isolated network '%s'", machine->network);
    }
    virNetworkFree(network);
    return FAR_ADAPTER_OK;
}

/* ---- the verbs ---- */

static int create(virConnectPtr connection, const struct far_kvm_machine *machine, struct far_adapter_error *ret_error)
{
    struct far_buf text;
    virDomainPtr domain = NULL;
    int outcome = find(connection, machine, &domain, ret_error);
    if (outcome != FAR_ADAPTER_OK || domain != NULL) {
        if (domain != NULL) {
            virDomainFree(domain);
        }
        return outcome;
    }
    struct far_kvm_xml *xml = read_config(machine->config);
    outcome = xml != NULL ? rewrite(xml, machine, ret_error)
                          : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the configuration of '%s' cannot be read",
                                             machine->name);
    outcome = outcome == FAR_ADAPTER_OK && machine->isolated ? make_network(connection, machine, ret_error) : outcome;
    far_buf_init(&text, CONFIG_MAX);
    if (outcome == FAR_ADAPTER_OK && (far_kvm_xml_write(xml, &text) != 0 || far_buf_append(&text, "", 1) != 0)) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_LIMIT, "the configuration of '%s' is too long", machine->name);
    }
    if (outcome == FAR_ADAPTER_OK) {
        domain = virDomainDefineXML(connection, (const char *)text.data);
        outcome = domain != NULL ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "define the machine '%s'", machine->name);
    }
    far_buf_done(&text);
    far_kvm_xml_free(xml);
    if (domain != NULL) {
        virDomainFree(domain);
    }
    return outcome;
}

static int power(virDomainPtr domain, const struct far_kvm_machine *machine, const char *how, struct far_adapter_error *ret_error)
{
    bool active = virDomainIsActive(domain) == 1;
    if (strcmp(how, "on") == 0 && !active) {
        return virDomainCreate(domain) == 0 ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "start the machine '%s'", machine->name);
    }
    if (strcmp(how, "on") != 0 && active) {
        int rc = strcmp(how, "off") == 0 ? virDomainDestroy(domain) : virDomainShutdown(domain);
        return rc == 0 ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "power off the machine '%s'", machine->name);
    }
    return FAR_ADAPTER_OK;
}

static int destroy(virConnectPtr connection, virDomainPtr domain, const struct far_kvm_machine *machine,
                   struct far_adapter_error *ret_error)
{
    const unsigned everything = VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                                VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | VIR_DOMAIN_UNDEFINE_NVRAM;
    int outcome = domain != NULL ? power(domain, machine, "off", ret_error) : FAR_ADAPTER_OK;
    if (outcome == FAR_ADAPTER_OK && domain != NULL && virDomainUndefineFlags(domain, everything) != 0) {
        outcome = far_kvm_said(ret_error, "undefine the machine '%s'", machine->name);
    }
    virNetworkPtr network = outcome == FAR_ADAPTER_OK ? virNetworkLookupByName(connection, machine->network) : NULL;
    if (network != NULL) {
        if (virNetworkDestroy(network) != 0) {
            outcome = far_kvm_said(ret_error, "remove the network '%s'", machine->network);
        }
        virNetworkFree(network);
    }
    return outcome;
}

static const char *state_of(virDomainPtr domain)
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

int far_kvm_machine(const struct far_kvm_machine *machine, const char *verb, struct far_adapter_error *ret_error)
{
    virConnectPtr connection = NULL;
    virDomainPtr domain = NULL;
    int outcome = far_kvm_connect(machine->uri, &connection, ret_error);
    if (outcome == FAR_ADAPTER_OK && strcmp(verb, "create") == 0) {
        outcome = create(connection, machine, ret_error);
    } else if (outcome == FAR_ADAPTER_OK) {
        outcome = find(connection, machine, &domain, ret_error);
        if (outcome == FAR_ADAPTER_OK && strcmp(verb, "destroy") == 0) {
            outcome = destroy(connection, domain, machine, ret_error);
        } else if (outcome == FAR_ADAPTER_OK && strcmp(verb, "look") == 0) {
            printf("state %s\n", state_of(domain));
        } else if (outcome == FAR_ADAPTER_OK && domain == NULL) {
            outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_NOT_FOUND, "there is no machine '%s'", machine->name);
        } else if (outcome == FAR_ADAPTER_OK) {
            outcome = power(domain, machine, verb, ret_error);
        }
    }
    if (domain != NULL) {
        virDomainFree(domain);
    }
    if (connection != NULL) {
        virConnectClose(connection);
    }
    return outcome;
}
