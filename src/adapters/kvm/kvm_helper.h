/* What the files of `farshore-kvm` share: the program that speaks with libvirt for the adapter `kvm`.
 *
 * It is a process of its own so that a libvirtd, or a hypervisor, that hangs can be given up at any moment: whoever started it kills
 * it. So nothing here has a bound of its own but what waits for the guest's agent, and what must not be left half done (a guest
 * whose file systems are frozen) is watched by a second process (kvm_quiesce.c). One thread. Functions return an enum
 * far_adapter_outcome. */
#ifndef FAR_ADAPTERS_KVM_KVM_HELPER_H
#define FAR_ADAPTERS_KVM_KVM_HELPER_H

#include "adapters/adapters.h"
#include "adapters/kvm/kvm_xml.h"

#include <libvirt/libvirt.h>
#include <limits.h>

enum {
    FAR_KVM_DISKS_MAX = 64,
    FAR_KVM_NAME_MAX = 128, /* of a view, its checkpoint, its files */
    FAR_KVM_DOMAIN_MAX = 256,
};

#define FAR_KVM_OURS "farshore-" /* what we make begins with it */

/* A locator taken apart: kvm:///DOMAIN/TARGET[?socket=PATH][&folder=PATH] */
struct far_kvm_place {
    char uri[PATH_MAX + 64];         /* of libvirt */
    char domain[FAR_KVM_DOMAIN_MAX]; /* name or UUID */
    char target[64];                 /* "vda" */
    char folder[PATH_MAX];           /* where scratch files and the socket go; "": beside the disk's image */
};

struct far_kvm_disk {
    struct far_kvm_place place;
    char path[PATH_MAX]; /* of its image or device; "": it is elsewhere */
    bool is_file, is_qcow2;
    uint64_t size_bytes;
};

/* A domain and those of its disks that were asked for. */
struct far_kvm_domain {
    virConnectPtr connection;
    virDomainPtr domain;
    char uuid[VIR_UUID_STRING_BUFLEN];
    bool is_active;
    bool has_agent; /* a guest agent answers */
    struct far_kvm_disk disks[FAR_KVM_DISKS_MAX];
    size_t disk_count;
};

int far_kvm_place(const char *locator, struct far_kvm_place *ret_place, struct far_adapter_error *ret_error);

/* Fill ret_error with libvirt's words on what could not be done; returns the outcome that its code means. */
int far_kvm_said(struct far_adapter_error *ret_error, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Fails where libvirtd has been starting the domain for long: it was killed meanwhile, and will never let go of it. */
int far_kvm_check_started(virDomainPtr domain, const char *name, struct far_adapter_error *ret_error);

/* Connects and looks at the domain that all the locators name. close also what a failed open left. */
int far_kvm_open(const char *const *locators, size_t count, struct far_kvm_domain *domain, struct far_adapter_error *ret_error);
/* One that has another name meanwhile is found by its UUID; NULL: it is not known. */
int far_kvm_open_as(const char *const *locators, size_t count, const char *uuid, struct far_kvm_domain *domain,
                    struct far_adapter_error *ret_error);
void far_kvm_close(struct far_kvm_domain *domain);
int far_kvm_connect(const char *uri, virConnectPtr *ret_connection, struct far_adapter_error *ret_error);

/* What the names of a domain's views begin with. */
void far_kvm_prefix(const struct far_kvm_domain *domain, char prefix[FAR_KVM_NAME_MAX]);

/* The checkpoints of a domain, of whoever; parents before children. */
struct far_kvm_checkpoints {
    virDomainCheckpointPtr *all;
    int count;
};
int far_kvm_checkpoints_list(const struct far_kvm_domain *domain, struct far_kvm_checkpoints *list, struct far_adapter_error *ret_error);
void far_kvm_checkpoints_free(struct far_kvm_checkpoints *list);
bool far_kvm_checkpoint_is_ours(const struct far_kvm_domain *domain, virDomainCheckpointPtr checkpoint);
/* With all its bitmaps that are there. Not while the domain is off. */
int far_kvm_checkpoint_remove(const struct far_kvm_domain *domain, virDomainCheckpointPtr checkpoint, struct far_adapter_error *ret_error);
/* Which disks have a bitmap of it. */
void far_kvm_checkpoint_look(const struct far_kvm_domain *domain, virDomainCheckpointPtr checkpoint, bool has[FAR_KVM_DISKS_MAX]);

struct far_kvm_view {
    char ref[FAR_KVM_NAME_MAX]; /* and the name of its checkpoint, if it has one */
    char tokens[FAR_KVM_DISKS_MAX][FAR_KVM_NAME_MAX]; /* each disk's place in the lineage of its changes; "": no list is kept */
};

/* Freeze all the disks at one moment: a pull-mode backup, with a checkpoint where the disks can have one. */
int far_kvm_freeze(struct far_kvm_domain *domain, const char *hint, struct far_kvm_view *ret_view, struct far_adapter_error *ret_error);
/* End the view; its checkpoint goes as well, or (`keeps`) it stays and all others of ours go. What is not there is FAR_ADAPTER_OK. */
int far_kvm_end(struct far_kvm_domain *domain, const char *ref, bool keeps, struct far_adapter_error *ret_error);
/* End whatever view of ours there is, and leave nothing in the domain, its images or its folders. */
int far_kvm_forget(struct far_kvm_domain *domain, struct far_adapter_error *ret_error);
/* Where the first disk of the domain can be read, and what is known of its changes: prints it. */
int far_kvm_where(struct far_kvm_domain *domain, const char *ref, struct far_adapter_error *ret_error);

/* Where scratch files and sockets of a disk go. */
int far_kvm_folder(const struct far_kvm_disk *disk, char folder[PATH_MAX], struct far_adapter_error *ret_error);

/* kvm_off.c: views of a domain that is shut off. view->ref is the caller's. */
int far_kvm_off_freeze(const struct far_kvm_domain *domain, struct far_kvm_view *view, struct far_adapter_error *ret_error);
bool far_kvm_listens(const char *path); /* does somebody, at this socket? */
/* All views whose refs begin so. */
void far_kvm_off_end(const struct far_kvm_domain *domain, const char *prefix);
/* false: there is no such view. rest: lines for whoever asked where it is. */
bool far_kvm_off_where(const struct far_kvm_disk *disk, const char *ref, char socket[PATH_MAX], char *rest, size_t size);
/* The process that holds one; 8 arguments. */
int far_kvm_hold(const char *const *argv);

/* Has the guest's file systems frozen, if its agent answers, and thawed again: also if this process dies meanwhile. */
struct far_kvm_quiesce {
    int guard_fd; /* -1: nothing is frozen */
    int guard_pid;
};
void far_kvm_quiesce(struct far_kvm_domain *domain, struct far_kvm_quiesce *quiesce);
void far_kvm_thaw(struct far_kvm_domain *domain, struct far_kvm_quiesce *quiesce);
/* The second process: thaws unless it hears that this was done. */
int far_kvm_guard(const char *locator);

/* kvm_canon.c: nothing of a run is left in it, and it is in one order. */
void far_kvm_canonical(struct far_kvm_xml *domain);
/* kvm_nvram.c: the variables of its UEFI firmware, into the canonical XML; out of it again, to a file at `path` that the XML then names
 * (`takes_them`; else the machine begins with new ones). */
bool far_kvm_nvram_capture(const struct far_kvm_domain *domain, struct far_kvm_xml *xml);
int far_kvm_nvram_put(struct far_kvm_xml *xml, struct far_kvm_xml *os, const char *path, bool takes_them,
                      struct far_adapter_error *ret_error);
/* The configuration of the domain, so canonical, on standard output. */
int far_kvm_capture(struct far_kvm_domain *domain, struct far_adapter_error *ret_error);

struct far_kvm_machine_disk {
    char target[64]; /* in the configuration: "vda" */
    const char *path; /* of an image, or an NBD URI */
    const char *format;
    const char *backing; /* the socket of what its image lies over; "": nothing */
};

/* kvm_recovery.c. Strings are borrowed from `text`; "": nothing is said. */
enum { FAR_KVM_NICS_MAX = 64, FAR_KVM_NETWORKS_MAX = 256, FAR_KVM_TAGS_MAX = 64 };

struct far_kvm_recovery_nic {
    unsigned long index;
    const char *mac, *network, *test_network, *address, *gateway;
    unsigned prefix;
    bool is_mapped; /* its address is what the networks make of the one that it had */
    char mapped[48];
};
struct far_kvm_recovery_network {
    const char *source, *target, *test, *source_subnet, *target_subnet;
};
struct far_kvm_recovery_tag {
    const char *key, *value;
};
struct far_kvm_recovery {
    char *text;
    uint64_t processors, memory_bytes; /* 0: as they were */
    const char *firmware;
    struct far_kvm_recovery_nic nics[FAR_KVM_NICS_MAX];
    size_t nic_count;
    struct far_kvm_recovery_network networks[FAR_KVM_NETWORKS_MAX];
    size_t network_count;
    struct far_kvm_recovery_tag tags[FAR_KVM_TAGS_MAX];
    size_t tag_count;
};

/* A machine of recovered disks. */
struct far_kvm_machine {
    char uri[PATH_MAX + 64];
    const char *ref, *name, *group;
    const char *config;        /* a file */
    const char *recovery_path; /* "": none */
    struct far_kvm_recovery recovery;
    bool isolated;
    unsigned long speed; /* hydrate */
    struct far_kvm_machine_disk disks[FAR_KVM_DISKS_MAX];
    size_t disk_count;
};
/* kvm_hydrate.c. "hydrated DONE TOTAL over|on": what its disks read from NBD servers is carried into their images, at most so
 * many bytes of each in a second (0: no bound). */
int far_kvm_hydrate(virDomainPtr domain, unsigned long speed, struct far_adapter_error *ret_error);
/* create, on, shutdown, off, look (prints its state), destroy, addresses, ping, keep, remains, hydrate */
int far_kvm_machine(struct far_kvm_machine *machine, const char *verb, struct far_adapter_error *ret_error);
/* "on", "shutdown" or "off". */
int far_kvm_power(virDomainPtr domain, const char *how, struct far_adapter_error *ret_error);
const char *far_kvm_state(virDomainPtr domain); /* NULL: "absent" */
/* To be freed; NULL: it cannot be read, or is longer. */
char *far_kvm_read_file(const char *path, size_t max);

#define FAR_KVM_MARK_URI "urn:farshore:machine"
#define FAR_KVM_TAGS_URI "urn:farshore:tags"
int far_kvm_recovery_read(const char *path, struct far_kvm_recovery *recovery, struct far_adapter_error *ret_error);
void far_kvm_recovery_done(struct far_kvm_recovery *recovery);
/* The addresses that are to be mapped, of a machine that was as this XML says; one that nobody knows stays empty. */
void far_kvm_recovery_map(struct far_kvm_recovery *recovery, const struct far_kvm_xml *xml);
/* Into the domain's XML; makes the isolated networks that it names. */
int far_kvm_recovery_put(virConnectPtr connection, const struct far_kvm_machine *machine, struct far_kvm_xml *xml,
                         struct far_kvm_xml *metadata, struct far_adapter_error *ret_error);

/* kvm_network.c. A card of the machine, and the address that it is to have; "": none is set. */
struct far_kvm_card {
    size_t index;
    const char *mac, *address, *gateway;
    const char *subnet; /* that the plan maps its network's to, "10.1.0.0/16"; "": none */
    unsigned prefix;
};
/* The group's own network for those that were in `source`, found or made. */
int far_kvm_network_make(virConnectPtr connection, const struct far_kvm_machine *machine, const struct far_kvm_card *card,
                         const char *source, char name[FAR_KVM_NAME_MAX], struct far_adapter_error *ret_error);
/* The address is the card's in that network, if that gives addresses; FAR_CONFLICT: it is another's. */
int far_kvm_reserve(virConnectPtr connection, const struct far_kvm_machine *machine, const char *network_name,
                    const struct far_kvm_card *card, struct far_adapter_error *ret_error);
/* All that were reserved for the machine: removed, left where they are without the recovery's name, or each printed as "left …". */
enum far_kvm_reservations { FAR_KVM_RESERVATIONS_END, FAR_KVM_RESERVATIONS_KEEP, FAR_KVM_RESERVATIONS_TELL };
int far_kvm_reservations(virConnectPtr connection, const struct far_kvm_machine *machine, enum far_kvm_reservations how,
                         struct far_adapter_error *ret_error);
/* The same host in the subnet that the network's is mapped to; false: it is in none that is. */
bool far_kvm_network_map(const char *address, const struct far_kvm_recovery_network *network, char ret_address[48], unsigned *ret_prefix);
/* What addresses its cards have, as far as libvirt's networks gave them, into the canonical XML. */
#define FAR_KVM_ADDRESS_ELEMENT "farshore:address"
bool far_kvm_network_capture(virConnectPtr connection, struct far_kvm_xml *xml);
/* The isolated networks of the machine's group: removed, or each printed as "left …". */
void far_kvm_network_prefix(const struct far_kvm_machine *machine, char prefix[FAR_KVM_NAME_MAX]);
int far_kvm_networks(virConnectPtr connection, const struct far_kvm_machine *machine, bool destroys, struct far_adapter_error *ret_error);
/* kvm_bridge.c. What a killed libvirtd left of the group's networks: bridges that no network has; removed, or printed. */
void far_kvm_bridge_name(const struct far_kvm_machine *machine, const char *network, char ret_name[16]);
int far_kvm_bridges(virConnectPtr connection, const struct far_kvm_machine *machine, bool destroys, struct far_adapter_error *ret_error);

/* kvm_guest.c: prints "address A" for each, "agent answers" or "agent silent". */
void far_kvm_addresses(virDomainPtr domain);
void far_kvm_ping(virDomainPtr domain);
/* The protected machine: look, on, shutdown, off. */
int far_kvm_source(struct far_kvm_domain *domain, const char *verb, struct far_adapter_error *ret_error);

/* The URI of a place: kvm:///, perhaps with ?socket=PATH. */
int far_kvm_place_uri(const char *place, char uri[PATH_MAX + 64], struct far_adapter_error *ret_error);

/* Everything that a libvirt knows of its domains, as JSON. */
int far_kvm_list(const char *uri, struct far_adapter_error *ret_error);

#endif
