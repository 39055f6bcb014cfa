/* Checkpoints of a domain: a name, and a bitmap of this name in the image of each disk that counts what is written from then on.
 *
 * libvirt deletes a checkpoint only if every disk still has its bitmap; where QEMU was killed, or a disk was replaced, one has none. What
 * it knows of it alone could be deleted, but the other bitmaps would stay in their images, and count, for ever. So it is told
 * first that the checkpoint is one of the other disks only. */
#include "adapters/kvm/kvm_helper.h"

#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { XML_MAX = 4 << 20 };

void far_kvm_prefix(const struct far_kvm_domain *domain, char prefix[FAR_KVM_NAME_MAX])
{
    snprintf(prefix, FAR_KVM_NAME_MAX, FAR_KVM_OURS "%.8s-", domain->uuid);
}

int far_kvm_checkpoints_list(const struct far_kvm_domain *domain, struct far_kvm_checkpoints *list, struct far_adapter_error *ret_error)
{
    *list = (struct far_kvm_checkpoints){0};
    list->count = virDomainListAllCheckpoints(domain->domain, &list->all, VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL);
    return list->count >= 0 ? FAR_ADAPTER_OK : far_kvm_said(ret_error, "list the checkpoints of '%.100s'", domain->disks[0].place.domain);
}

void far_kvm_checkpoints_free(struct far_kvm_checkpoints *list)
{
    for (int i = 0; i < list->count; i++) {
        virDomainCheckpointFree(list->all[i]);
    }
    free(list->all);
}

bool far_kvm_checkpoint_is_ours(const struct far_kvm_domain *domain, virDomainCheckpointPtr checkpoint)
{
    char prefix[FAR_KVM_NAME_MAX];
    far_kvm_prefix(domain, prefix);
    return strncmp(virDomainCheckpointGetName(checkpoint), prefix, strlen(prefix)) == 0;
}

static bool has_bitmap(const struct far_kvm_xml *disk)
{
    return strcmp(far_kvm_xml_attr(disk, "checkpoint"), "bitmap") == 0;
}

void far_kvm_checkpoint_look(const struct far_kvm_domain *domain, virDomainCheckpointPtr checkpoint, bool has[FAR_KVM_DISKS_MAX])
{
    char *text = virDomainCheckpointGetXMLDesc(checkpoint, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN);
    struct far_kvm_xml *xml = text != NULL ? far_kvm_xml_parse(text) : NULL;
    const struct far_kvm_xml *disk = far_kvm_xml_child(far_kvm_xml_child(xml, "disks"), "disk");
    for (; disk != NULL; disk = far_kvm_xml_next(disk)) {
        for (size_t i = 0; i < domain->disk_count; i++) {
            has[i] = has[i] || (has_bitmap(disk) && strcmp(far_kvm_xml_attr(disk, "name"), domain->disks[i].place.target) == 0);
        }
    }
    far_kvm_xml_free(xml);
    free(text);
}

/* ---- removing ---- */

/* The disk whose bitmap libvirt did not find when it was asked to delete a checkpoint; "": it refused for another reason. */
static void lacking_disk(char target[64])
{
    static const char before[] = "not found in backing chain of '";
    const char *words = virGetLastErrorMessage(), *at = strstr(words, before);
    at = at != NULL ? at + strlen(before) : "'";
    snprintf(target, 64, "%.*s", (int)strcspn(at, "'"), at);
}

/* The checkpoint as it is, but without a bitmap of this disk; false: no other disk has one. */
static bool write_without(const char *text, const struct far_kvm_xml *xml, const char *target, struct far_buf *to)
{
    const char *open = strstr(text, "<disks>"), *close = strstr(text, "</disks>");
    const struct far_kvm_xml *disk = far_kvm_xml_child(far_kvm_xml_child(xml, "disks"), "disk");
    bool any = false;
    int rc = open != NULL && close > open ? far_buf_append(to, text, (size_t)(open - text) + strlen("<disks>")) : FAR_LIMIT;
    for (; rc == 0 && disk != NULL; disk = far_kvm_xml_next(disk)) {
        const char *name = far_kvm_xml_attr(disk, "name");
        if (has_bitmap(disk) && strcmp(name, target) != 0) {
            any = true;
            rc = far_buf_printf(to, "<disk name='%s' checkpoint='bitmap' bitmap='%s'/>", name, far_kvm_xml_attr(disk, "bitmap"));
        }
    }
    rc = rc == 0 ? far_buf_append(to, close, strlen(close) + 1) : rc;
    return rc == 0 && any;
}

static bool tell_without(const struct far_kvm_domain *domain, virDomainCheckpointPtr checkpoint, const char *target)
{
    char *text = virDomainCheckpointGetXMLDesc(checkpoint, VIR_DOMAIN_CHECKPOINT_XML_SECURE);
    struct far_kvm_xml *xml = text != NULL ? far_kvm_xml_parse(text) : NULL;
    virDomainCheckpointPtr told = NULL;
    struct far_buf without;
    far_buf_init(&without, XML_MAX);
    if (xml != NULL && write_without(text, xml, target, &without)) {
        told = virDomainCheckpointCreateXML(domain->domain, (const char *)without.data, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE);
    }
    if (told != NULL) {
        virDomainCheckpointFree(told);
    }
    far_buf_done(&without);
    far_kvm_xml_free(xml);
    free(text);
    return told != NULL;
}

int far_kvm_checkpoint_remove(const struct far_kvm_domain *domain, virDomainCheckpointPtr checkpoint, struct far_adapter_error *ret_error)
{
    const char *name = virDomainCheckpointGetName(checkpoint); /* before: each call forgets what the last one said */
    char target[64] = "";
    for (size_t i = 0; i <= FAR_KVM_DISKS_MAX; i++) {
        if (virDomainCheckpointDelete(checkpoint, 0) == 0 || virGetLastErrorCode() == VIR_ERR_NO_DOMAIN_CHECKPOINT) {
            return FAR_ADAPTER_OK;
        }
        if (virGetLastErrorCode() == VIR_ERR_OPERATION_INVALID) { /* the domain is off: later */
            break;
        }
        lacking_disk(target);
        if (target[0] == '\0' || !tell_without(domain, checkpoint, target)) { /* no disk has anything of it */
            return virDomainCheckpointDelete(checkpoint, VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) == 0
                       ? FAR_ADAPTER_OK
                       : far_kvm_said(ret_error, "delete the checkpoint '%.100s'", name);
        }
    }
    return far_kvm_said(ret_error, "delete the checkpoint '%.100s'", name);
}
