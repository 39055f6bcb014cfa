/* A machine that runs from images over NBD servers: what these images have not is pulled into them while it runs, as a block job of QEMU.
 * libvirt takes the backing out of the domain, the one that runs and the one that is kept, when a disk's job is over; so whoever asks sees
 * by the domain alone what is left, whatever died meanwhile. */
#include "adapters/kvm/kvm_helper.h"

#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct hydration {
    virDomainPtr domain;
    const char *name; /* of the domain */
    bool begins;
    unsigned long speed;
    unsigned long long done, total;
    size_t left; /* disks with a backing */
};

static const char *served_at(const struct far_kvm_xml *disk)
{
    const struct far_kvm_xml *source = far_kvm_xml_child(far_kvm_xml_child(disk, "backingStore"), "source");
    bool is_nbd = strcmp(far_kvm_xml_attr(source, "protocol"), "nbd") == 0;
    return is_nbd ? far_kvm_xml_attr(far_kvm_xml_child(source, "host"), "socket") : "";
}

/* A disk that has a backing: how far its job is; one without a job begins it. */
static int pull(struct hydration *hydration, const char *target, struct far_adapter_error *ret_error)
{
    virDomainBlockJobInfo job = {0};
    virDomainBlockInfo size = {0};
    int has = virDomainGetBlockJobInfo(hydration->domain, target, &job, 0);
    if (has < 0 || virDomainGetBlockInfo(hydration->domain, target, &size, 0) != 0) {
        return far_kvm_said(ret_error, "look how far the disk '%s' of '%s' is", target, hydration->name);
    }
    hydration->total += size.capacity;
    if (has == 1) {
        unsigned long long end = job.end > 0 ? job.end : 1;
        hydration->done += (unsigned long long)((double)size.capacity * ((double)job.cur / (double)end));
        return FAR_ADAPTER_OK;
    }
    return virDomainBlockPull(hydration->domain, target, hydration->speed, VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES) == 0
               ? FAR_ADAPTER_OK
               : far_kvm_said(ret_error, "begin to write the disk '%s' of '%s' out", target, hydration->name);
}

/* Of the domain as it runs, or (begins false) as it is kept. */
static int look_at_disks(struct hydration *hydration, unsigned flags, struct far_adapter_error *ret_error)
{
    char *text = virDomainGetXMLDesc(hydration->domain, flags);
    struct far_kvm_xml *xml = text != NULL ? far_kvm_xml_parse(text) : NULL;
    int outcome = xml != NULL ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "read what '%s' is made of", hydration->name);
    const struct far_kvm_xml *disk = far_kvm_xml_child(far_kvm_xml_child(xml, "devices"), "disk");
    for (; outcome == FAR_ADAPTER_OK && disk != NULL; disk = far_kvm_xml_next(disk)) {
        const char *target = far_kvm_xml_attr(far_kvm_xml_child(disk, "target"), "dev");
        virDomainBlockInfo size = {0};
        if (served_at(disk)[0] != '\0') {
            hydration->left++;
            outcome = hydration->begins ? pull(hydration, target, ret_error) : outcome;
        } else if (hydration->begins && virDomainGetBlockInfo(hydration->domain, target, &size, 0) == 0) {
            hydration->done += size.capacity;
            hydration->total += size.capacity;
        }
    }
    far_kvm_xml_free(xml);
    free(text);
    return outcome;
}

/* It stopped at a disk that nobody served for a while; who asks has them served. */
static int let_go_on(virDomainPtr domain, const char *name, struct far_adapter_error *ret_error)
{
    int state = VIR_DOMAIN_NOSTATE, reason = 0;
    bool is_known = virDomainGetState(domain, &state, &reason, 0) == 0;
    bool is_stopped = is_known && state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_IOERROR;
    return !is_stopped || virDomainResume(domain) == 0 ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "let the machine '%s' go on", name);
}

int far_kvm_hydrate(virDomainPtr domain, unsigned long speed, struct far_adapter_error *ret_error)
{
    struct hydration hydration = {.domain = domain, .name = virDomainGetName(domain), .begins = true, .speed = speed};
    if (virDomainIsActive(domain) != 1) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                "the machine '%s' is off: its disks are written out while it runs; start it, and try again",
                                hydration.name);
    }
    int outcome = let_go_on(domain, hydration.name, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? look_at_disks(&hydration, 0, ret_error) : outcome;
    hydration.begins = false;
    outcome = outcome == FAR_ADAPTER_OK ? look_at_disks(&hydration, VIR_DOMAIN_XML_INACTIVE, ret_error) : outcome;
    if (outcome == FAR_ADAPTER_OK) {
        printf("hydrated %llu %llu %s\n", hydration.done, hydration.total, hydration.left == 0 ? "over" : "on");
    }
    return outcome;
}
