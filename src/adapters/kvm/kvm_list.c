/* The inventory of a libvirt: domains with their disks, networks, firmware and sizes, as JSON for programs and people. */
#include "adapters/kvm/kvm_helper.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set(json_t *to, const char *key, const char *text)
{
    if (text[0] != '\0') {
        json_object_set_new(to, key, json_string(text));
    }
}

static bool is_qcow2(const struct far_kvm_xml *disk)
{
    return strcmp(far_kvm_xml_attr(far_kvm_xml_child(disk, "driver"), "type"), "qcow2") == 0;
}

static json_t *disk_json(virDomainPtr domain, const struct far_kvm_xml *disk)
{
    json_t *json = json_object();
    const struct far_kvm_xml *source = far_kvm_xml_child(disk, "source");
    const char *target = far_kvm_xml_attr(far_kvm_xml_child(disk, "target"), "dev"), *file = far_kvm_xml_attr(source, "file");
    virDomainBlockInfo info;
    set(json, "target", target);
    set(json, "bus", far_kvm_xml_attr(far_kvm_xml_child(disk, "target"), "bus"));
    set(json, "format", far_kvm_xml_attr(far_kvm_xml_child(disk, "driver"), "type"));
    set(json, "path", file[0] != '\0' ? file : far_kvm_xml_attr(source, "dev"));
    set(json, "serial", far_kvm_xml_text(far_kvm_xml_child(disk, "serial")));
    set(json, "boot_order", far_kvm_xml_attr(far_kvm_xml_child(disk, "boot"), "order"));
    if (virDomainGetBlockInfo(domain, target, &info, 0) == 0) {
        json_object_set_new(json, "size_bytes", json_integer((json_int_t)info.capacity));
        json_object_set_new(json, "allocated_bytes", json_integer((json_int_t)info.allocation));
    }
    json_object_set_new(json, "has_change_list", json_boolean(is_qcow2(disk)));
    return json;
}

static json_t *nic_json(const struct far_kvm_xml *nic)
{
    json_t *json = json_object();
    const struct far_kvm_xml *source = far_kvm_xml_child(nic, "source");
    set(json, "type", far_kvm_xml_attr(nic, "type"));
    set(json, "mac", far_kvm_xml_attr(far_kvm_xml_child(nic, "mac"), "address"));
    set(json, "network", far_kvm_xml_attr(source, "network"));
    set(json, "bridge", far_kvm_xml_attr(source, "bridge"));
    set(json, "model", far_kvm_xml_attr(far_kvm_xml_child(nic, "model"), "type"));
    return json;
}

static const char *firmware_of(const struct far_kvm_xml *os)
{
    const struct far_kvm_xml *loader = far_kvm_xml_child(os, "loader");
    bool efi = strcmp(far_kvm_xml_attr(os, "firmware"), "efi") == 0 || strcmp(far_kvm_xml_attr(loader, "type"), "pflash") == 0;
    return efi ? "efi" : "bios";
}

static json_t *domain_json(virDomainPtr domain)
{
    char uuid[VIR_UUID_STRING_BUFLEN] = "", *text = virDomainGetXMLDesc(domain, 0);
    struct far_kvm_xml *xml = text != NULL ? far_kvm_xml_parse(text) : NULL;
    const struct far_kvm_xml *devices = far_kvm_xml_child(xml, "devices"), *os = far_kvm_xml_child(xml, "os");
    json_t *json = json_object(), *disks = json_array(), *nics = json_array();
    virDomainInfo info;
    virDomainGetUUIDString(domain, uuid);
    set(json, "name", virDomainGetName(domain));
    set(json, "uuid", uuid);
    json_object_set_new(json, "running", json_boolean(virDomainIsActive(domain) == 1));
    if (virDomainGetInfo(domain, &info) == 0) {
        json_object_set_new(json, "memory_bytes", json_integer((json_int_t)info.maxMem * 1024));
        json_object_set_new(json, "processors", json_integer(info.nrVirtCpu));
    }
    set(json, "firmware", firmware_of(os));
    set(json, "nvram", far_kvm_xml_text(far_kvm_xml_child(os, "nvram")));
    set(json, "machine", far_kvm_xml_attr(far_kvm_xml_child(os, "type"), "machine"));
    for (const struct far_kvm_xml *disk = far_kvm_xml_child(devices, "disk"); disk != NULL; disk = far_kvm_xml_next(disk)) {
        const char *device = far_kvm_xml_attr(disk, "device");
        if (device[0] == '\0' || strcmp(device, "disk") == 0) { /* not CD-ROMs and floppies */
            json_array_append_new(disks, disk_json(domain, disk));
        }
    }
    for (const struct far_kvm_xml *nic = far_kvm_xml_child(devices, "interface"); nic != NULL; nic = far_kvm_xml_next(nic)) {
        json_array_append_new(nics, nic_json(nic));
    }
    json_object_set_new(json, "disks", disks);
    json_object_set_new(json, "networks", nics);
    far_kvm_xml_free(xml);
    free(text);
    return json;
}

int far_kvm_list(const char *uri, struct far_adapter_error *ret_error)
{
    virConnectPtr connection = NULL;
    virDomainPtr *domains = NULL;
    int outcome = far_kvm_connect(uri, &connection, ret_error);
    int count = outcome == FAR_ADAPTER_OK ? virConnectListAllDomains(connection, &domains, 0) : 0;
    if (count < 0) {
        outcome = far_kvm_said(ret_error, "list the domains");
    }
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        json_array_append_new(list, domain_json(domains[i]));
        virDomainFree(domains[i]);
    }
    free(domains);
    if (outcome == FAR_ADAPTER_OK) {
        json_t *whole = json_pack("{s:O}", "domains", list);
        json_dumpf(whole, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(whole);
    }
    json_decref(list);
    if (connection != NULL) {
        virConnectClose(connection);
    }
    return outcome;
}
