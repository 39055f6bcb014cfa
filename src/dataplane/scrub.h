/* The scrub: everything that a vault keeps is read again and again, within a budget, so that rot is found while it can be repaired.
 *
 * A rotation goes over all disks of all sealed points in the order of the points' numbers. The oldest point of a disk is read whole;
 * each later one only where it differs from its predecessor, which this rotation has read before. So a rotation reads each stored block
 * of each disk about once, and needs no memory of what it read. A run reads until its budget is used up and says where the next one goes
 * on; a run ends with its rotation at the latest.
 *
 * Where something is damaged, the trees of all points are searched for who else needs it: only then, and only where neighbours differ.
 *
 * Threads: blocks; may run beside everything else that uses the vault. Points that are forgotten meanwhile are left out. */
#ifndef FAR_DATAPLANE_SCRUB_H
#define FAR_DATAPLANE_SCRUB_H

#include "dataplane/vault.h"

enum {
    FAR_SCRUB_DAMAGES_MAX = 256,     /* named by one run; it stops at so many, and the next one goes on there */
    FAR_SCRUB_NAMES_MAX = 256,       /* disks of points that need what is damaged */
    FAR_SCRUB_ENTRIES_MAX = 1 << 20, /* disks of points in a vault */
};

/* Where a run begins. All zero: at the start of the first rotation. */
struct far_scrub_cursor {
    uint64_t rotation; /* from 1 on */
    uint64_t point_id; /* 0: its start */
    uint64_t disk;     /* its place in the manifest */
    uint64_t block;
};

struct far_scrub_order {
    struct far_scrub_cursor cursor;
    uint64_t bytes_max; /* uncompressed, of blocks; at least one is read. 0: the rest of the rotation */
};

struct far_scrub_damage {
    uint64_t point_id; /* where it was found; 0: in the file of a replica, which whoever writes next makes anew */
    char disk[64];     /* "": the manifest itself, or the keys of its domain */
    uint64_t first_block, block_count;
    char text[256]; /* names the pack file, offset and id */
    uint64_t needed_by; /* disks of points, this one included; 0 for a manifest */
};

/* A disk of a point that needs some of what is damaged. */
struct far_scrub_name {
    uint64_t point_id;
    char disk[64];
    uint64_t blocks;                            /* of the disk, that cannot be given back */
    uint8_t damages[FAR_SCRUB_DAMAGES_MAX / 8]; /* a bit for each it needs, by its place in the list */
};

struct far_scrub_result {
    struct far_scrub_cursor next; /* where the next run begins */
    bool rotation_ended;
    uint32_t done_permille;  /* of the rotation, by estimate: how much the later points of a disk changed is not known before */
    uint64_t disks_looked_at; /* of points, ended by this run */
    uint64_t blocks;          /* looked at; zero ones and those known from the predecessor included */
    uint64_t bytes_read;
    uint64_t points_skipped; /* of the whole vault: their domains are locked or destroyed */
    uint64_t blocks_damaged;
    size_t damage_count, name_count;
    bool more_names; /* than are listed: the disks of points with the lowest ids of disks are */
    struct far_scrub_damage damages[FAR_SCRUB_DAMAGES_MAX];
    struct far_scrub_name names[FAR_SCRUB_NAMES_MAX];
};

/* One run. progress (may be NULL) cancels it with a result other than 0 (FAR_CANCELED). Damage is a result and no failure.
 * FAR_LIMIT: no memory, or more than FAR_SCRUB_ENTRIES_MAX. *ret_result is 150 KiB. */
int far_vault_scrub(struct far_vault *vault, const struct far_scrub_order *order,
                    int (*progress)(void *arg, uint64_t bytes_read, uint64_t bytes_max), void *arg,
                    struct far_scrub_result *ret_result, struct far_error *err);

#endif
