/* The adapter interface: a platform is four independent tables of functions (docs: DESIGN, section 8).
 *
 * Each table carries a version first and grows only at its end. A platform fills the tables it can serve and leaves the
 * others NULL. Functions block, run on worker threads of the node, and may be called by several threads at once for
 * different disks. They return an enum far_outcome; *ret_error (may be NULL) then holds the platform's own words. C11
 * and libc only, so that an adapter can be built outside the tree. */
#ifndef FARSHORE_ADAPTER_H
#define FARSHORE_ADAPTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FAR_ADAPTER_VERSION 0
#define FAR_ADAPTER_INVENTORY_VERSION 1 /* of the table inventory; 0 ended before written() */
#define FAR_ADAPTER_MACHINES_VERSION 2 /* of the table machines; 0 ended before addresses(), 1 before hydrate() */

/* The numbers are those of `outcome` in the log. */
enum far_adapter_outcome {
    FAR_ADAPTER_OK = 1,
    FAR_ADAPTER_RETRY = 2,
    FAR_ADAPTER_SLOW_DOWN = 3,
    FAR_ADAPTER_REFRESH_CREDENTIALS = 4,
    FAR_ADAPTER_RESYNC = 5, /* the change list cannot be trusted: compare hashes */
    FAR_ADAPTER_FATAL = 6,
};

/* What went wrong, in the platform's words. */
struct far_adapter_error {
    int klass; /* the error class of Farshore, negative: -2 not found, -10 io, … */
    char message[400];
};

struct far_adapter_disk {
    const char *name;    /* borrowed for the call */
    const char *locator; /* where the platform keeps it; for `file` an absolute path, for `nbd` a URI */
};

struct far_adapter_found {
    uint64_t size_bytes;
    char identity[128]; /* another value means: another disk under the same name */
    /* freeze: the place of this view in the disk's lineage of changes, as changed() of a later view takes it in `since`;
     * "": this platform keeps no list of what changes. At most 127 printable bytes of ASCII without spaces, of its own making. */
    char token[128];
};

struct far_adapter_extent {
    uint64_t offset; /* bytes */
    uint64_t length;
    bool zero; /* known to read as zeroes */
};

/* inventory: what exists. */
struct far_adapter_inventory {
    uint32_t version;
    /* Size and identity of one disk as it is now. */
    int (*probe)(void *platform, const struct far_adapter_disk *disk, struct far_adapter_found *ret_found,
                 struct far_adapter_error *ret_error);

    /* version 1: */

    /* When the disk was written the last time, or at least whoever could write it ended: milliseconds since 1970, by the machine's
     * clock; 0: nobody knows. Nothing is changed by asking. NULL: the platform cannot tell. */
    int (*written)(void *platform, const struct far_adapter_disk *disk, uint64_t *ret_ms, struct far_adapter_error *ret_error);
};

/* changes: freeze all disks of a workload at one instant; what changed since a base. */
struct far_adapter_changes {
    uint32_t version;
    bool survives_node; /* a freeze outlives the node process that made it */
    /* Freeze. ref_hint is unique to (job, attempt): whatever is created outside is named after it, so that a repeat finds
     * it and release(ref) can always remove it. ret_fuzzy: nothing could be frozen, reads see the live disk. */
    int (*freeze)(void *platform, const char *ref_hint, const struct far_adapter_disk *disks, size_t count,
                  struct far_adapter_found *ret_found, char ret_ref[128], bool *ret_fuzzy,
                  struct far_adapter_error *ret_error);
    /* Release; releasing what is not there is FAR_ADAPTER_OK. */
    int (*release)(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                   struct far_adapter_error *ret_error);
    /* Extents of the view `ref` that may differ from the view whose token is `since`, ascending and without overlap: at
     * most max from offset on; *ret_next is where to go on, or the disk's size. A hint, never a proof. Without a list for
     * this lineage (a bitmap is gone, the disk was reverted, another view was kept) FAR_ADAPTER_RESYNC says why in words. */
    int (*changed)(void *platform, const char *ref, const struct far_adapter_disk *disk, const char *since,
                   uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                   uint64_t *ret_next, struct far_adapter_error *ret_error);
    /* The view `ref` became a recovery point: keep of it what changed() of later views will need with its token as `since`,
     * and drop what was kept for earlier ones. Called instead of release(); a repeat is FAR_ADAPTER_OK. NULL: release()
     * is called, whatever changed() needs is kept anyway. */
    int (*keep)(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                struct far_adapter_error *ret_error);
    /* Can every node of the site open and release the views that this platform freezes of these disks, by their refs? As
     * those of a storage system or of an NBD export. NULL: no. */
    bool (*shares_views)(void *platform, const struct far_adapter_disk *disks, size_t count);
};

/* bytes: read frozen bytes; write recovered bytes. Handles are opaque and owned by the caller until close. */
struct far_adapter_bytes {
    uint32_t version;
    const char *fence; /* "epoch", "lease", "credentials" or "none" */
    int (*open_frozen)(void *platform, const char *ref, const struct far_adapter_disk *disk, void **ret_handle,
                       struct far_adapter_error *ret_error);
    /* Reads exactly length bytes; shorter is an error. */
    int (*read)(void *handle, void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error);
    /* A new disk of this size to write to; refuses one that exists (a block device: one that is too small). A repeat
     * with the same ref goes on with what an earlier attempt of the same recovery made. */
    int (*open_target)(void *platform, const char *ref, const char *locator, uint64_t size_bytes, void **ret_handle,
                       struct far_adapter_error *ret_error);
    int (*write)(void *handle, const void *buffer, size_t length, uint64_t offset,
                 struct far_adapter_error *ret_error);
    /* Everything written is on the device, and later reads come from the device, not from a cache. */
    int (*flush)(void *handle, struct far_adapter_error *ret_error);
    void (*close)(void *handle); /* NULL is allowed */
    /* Where a frozen disk holds data: extents from offset (inside the disk) on, ascending and without gaps, `zero` where it
     * is known to read as zeroes; at most max (1 or more) of them, the last perhaps beyond the disk's end. What is `zero`
     * is not read. NULL: nothing is known, everything is read. */
    int (*extents)(void *handle, uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                   struct far_adapter_error *ret_error);
};

/* A disk of a machine: where it was when the configuration was captured, and where its recovered bytes are. */
struct far_adapter_machine_disk {
    const char *source; /* the workload's locator of it */
    const char *target; /* an image's absolute path, or an NBD URI */
    const char *format; /* "raw" or "qcow2"; of an NBD URI "raw" */
    const char *backing; /* the socket of an NBD server: what the image (qcow2) has not is read there; NULL or "": it has all */
};

/* Where one of its network cards goes, instead of where it was. */
struct far_adapter_machine_nic {
    uint32_t index;           /* which one, from 0 on, as the configuration has them */
    const char *mac;          /* or by its address there; NULL or "": by its index */
    const char *network;      /* the platform's; NULL or "": as the networks say */
    const char *test_network; /* where it goes while `isolated`; NULL or "": as the networks say */
    const char *address;      /* that the guest will have; NULL or "": nobody knows */
    uint32_t prefix;          /* length of its subnet's */
    const char *gateway;      /* NULL or "": none */
    bool is_mapped;           /* its address is the one that it had, in the subnet that its network's is mapped to; `address` is empty */
};

/* Where cards go that were in the network `source`. */
struct far_adapter_machine_network {
    const char *source;
    const char *target; /* NULL or "": one of the same name */
    const char *test;   /* while `isolated`; NULL or "": one that leads nowhere */
    const char *source_subnet, *target_subnet; /* "10.1.0.0/16": for addresses that are mapped; NULL or "": none */
};

struct far_adapter_machine_tag {
    const char *key;
    const char *value;
};

enum far_adapter_firmware { FAR_ADAPTER_FIRMWARE_SAME = 0, FAR_ADAPTER_FIRMWARE_BIOS = 1, FAR_ADAPTER_FIRMWARE_UEFI = 2 };

/* What becomes a machine; all borrowed for the call. */
struct far_adapter_machine {
    const char *place;  /* the platform that it is to run on, in its own words; for `kvm` "kvm:///", perhaps with ?socket= */
    const char *name;   /* unique on the platform */
    const char *config; /* as capture() gave it; create() only */
    bool isolated;      /* its networks reach each other's machines of the same group, and nothing else */
    const struct far_adapter_machine_disk *disks;
    size_t disk_count;
    /* Those that are recovered together bear the same; NULL: it is alone, ref is its group. */
    const char *group;
    /* create() only: how it is to differ from what it was. 0, NULL: not at all. */
    uint64_t processors, memory_bytes;
    int firmware; /* enum far_adapter_firmware */
    const struct far_adapter_machine_nic *nics;
    size_t nic_count;
    const struct far_adapter_machine_network *networks;
    size_t network_count;
    const struct far_adapter_machine_tag *tags;
    size_t tag_count;
    uint64_t hydrate_bytes_per_s; /* hydrate() only: of each disk, at the most; 0: no bound */
};

enum far_adapter_power { FAR_ADAPTER_POWER_ON = 1, FAR_ADAPTER_POWER_SHUTDOWN = 2, FAR_ADAPTER_POWER_OFF = 3 };
enum far_adapter_machine_state {
    FAR_ADAPTER_MACHINE_ABSENT = 1,
    FAR_ADAPTER_MACHINE_OFF = 2,
    FAR_ADAPTER_MACHINE_RUNNING = 3,
    FAR_ADAPTER_MACHINE_PAUSED = 4,
    FAR_ADAPTER_MACHINE_STOPPED = 5, /* source_look(): off, and it was on when it was told to be turned off, perhaps by an attempt before */
};

enum { FAR_ADAPTER_CONFIG_TEXT_MAX = 256 * 1024 /* with its NUL */, FAR_ADAPTER_CONFIG_PACKED_MAX = 24576 };

/* machines: make machines of recovered disks. ref is unique to the recovery: whatever is created bears it, so that a repeat finds it, and
 * what does not bear it is never touched. */
struct far_adapter_machines {
    uint32_t version;
    /* The recovery configuration of the machine whose disks these are, as text of the platform's own, closed by NUL; empty: these disks
     * are of none. Called with each freeze: while the machine is the same the text is, byte for byte, with nothing of the moment in it
     * (ids of a run, current values, an order that changes), and no secrets: whoever may read points may read it. What is longer than
     * allowed, also once it is compressed (zstd, level 9), is not captured at all. FAR_ADAPTER_OK with words in ret_error: it says which
     * part of the machine could not come along. */
    int (*capture)(void *platform, const struct far_adapter_disk *disks, size_t count, char *ret_config, size_t size,
                   struct far_adapter_error *ret_error);
    /* Defined, not started. A repeat is FAR_ADAPTER_OK; a machine of this name that is another's is fatal. */
    int (*create)(void *platform, const char *ref, const struct far_adapter_machine *machine, struct far_adapter_error *ret_error);
    /* enum far_adapter_power; asked for what it is already: FAR_ADAPTER_OK. Shutdown asks the guest, and does not wait for it. */
    int (*power)(void *platform, const char *ref, const struct far_adapter_machine *machine, int power,
                 struct far_adapter_error *ret_error);
    int (*look)(void *platform, const char *ref, const struct far_adapter_machine *machine, int *ret_state,
                struct far_adapter_error *ret_error);
    /* Without a trace, but for its disks, which are the caller's. What is not there is FAR_ADAPTER_OK, also where a machine of this name is
     * another's, which is left alone. One that was kept is fatal (FAR_CONFLICT): its disks are not to be touched. */
    int (*destroy)(void *platform, const char *ref, const struct far_adapter_machine *machine, struct far_adapter_error *ret_error);

    /* version 1: */

    /* Addresses that the machine has now, as far as anybody knows: its guest's agent, who gave them, whom the host heard. Text, one after
     * the other, each closed by NUL; none is FAR_ADAPTER_OK with *ret_count 0. */
    int (*addresses)(void *platform, const char *ref, const struct far_adapter_machine *machine, char *ret_text, size_t size,
                     size_t *ret_count, struct far_adapter_error *ret_error);
    /* Does the agent in the guest answer? */
    int (*ping)(void *platform, const char *ref, const struct far_adapter_machine *machine, bool *ret_answers,
                struct far_adapter_error *ret_error);
    /* It is a machine like any other from now on: it does not bear the ref any more, and destroy() never touches it. A repeat is
     * FAR_ADAPTER_OK. */
    int (*keep)(void *platform, const char *ref, const struct far_adapter_machine *machine, struct far_adapter_error *ret_error);
    /* What is on the platform that bears the ref, in the platform's words, as addresses() gives them. A group's networks count once no
     * machine of it is left. */
    int (*remains)(void *platform, const char *ref, const struct far_adapter_machine *machine, char *ret_text, size_t size,
                   size_t *ret_count, struct far_adapter_error *ret_error);
    /* The protected machine whose disks these are. Turned off it does not start by itself either, until it is turned on. power() and
     * look() otherwise. config: as capture() gave it last, NULL or "": nobody knows; what it has of the machine's identity finds one that
     * has another name meanwhile. One that cannot be found is FAR_ADAPTER_MACHINE_ABSENT: nobody knows whether it runs elsewhere; turning
     * it off is FAR_ADAPTER_OK. */
    int (*source_power)(void *platform, const struct far_adapter_disk *disks, size_t count, const char *config, int power,
                        struct far_adapter_error *ret_error);
    int (*source_look)(void *platform, const struct far_adapter_disk *disks, size_t count, const char *config, int *ret_state,
                       struct far_adapter_error *ret_error);
    /* As what a disk of this machine can be protected itself: its locator, for what was at `source` where it came from. */
    int (*disk_locator)(void *platform, const struct far_adapter_machine *machine, const char *source, char *ret_locator, size_t size,
                        struct far_adapter_error *ret_error);

    /* version 2: */

    /* Of a machine that runs: what its disks still read from their backing is carried into them, beside all that it does. Begins it, or
     * looks how far it is: bytes; *ret_is_over: nothing of the backings is needed any more, also when it is turned off and on.
     * Fatal (FAR_CONFLICT): it does not run. */
    int (*hydrate)(void *platform, const char *ref, const struct far_adapter_machine *machine, uint64_t *ret_done, uint64_t *ret_total,
                   bool *ret_is_over, struct far_adapter_error *ret_error);
};

struct far_adapter {
    uint32_t version; /* FAR_ADAPTER_VERSION */
    const char *name; /* "file" */
    /* Opens the platform; config is "key=value" lines, may be empty. */
    int (*open)(const char *config, void **ret_platform, struct far_adapter_error *ret_error);
    void (*close)(void *platform);
    const struct far_adapter_inventory *inventory;
    const struct far_adapter_changes *changes;
    const struct far_adapter_bytes *bytes;
    const struct far_adapter_machines *machines; /* NULL: this platform runs none */
};

#ifdef __cplusplus
}
#endif
#endif
