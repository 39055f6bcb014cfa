/* What the files of the scrub share (scrub*.c). */
#ifndef FAR_DATAPLANE_SCRUB_PRIVATE_H
#define FAR_DATAPLANE_SCRUB_PRIVATE_H

#include "dataplane/scrub.h"

/* A disk of a sealed point whose domain is open. */
struct far_scrub_entry {
    uint64_t point_id;
    uint64_t disk_id;
    uint64_t blocks;
    uint32_t disk; /* its place in the manifest */
    char name[64];
    struct far_hash256 root;
    struct far_scrub_entry *before; /* the same disk in the point before; NULL: it is the oldest */
};

/* What is damaged, as trees name it. */
struct far_scrub_wanted {
    bool is_root;    /* the disk as a whole */
    unsigned height; /* of the page; 0: a block */
    struct far_hash256 id;
    const struct far_domain *domain;
};

/* Who needs what is damaged: fills in names and needed_by. `by_disk`: all entries, of each disk its points in order. */
int far_scrub_names(struct far_vault *vault, struct far_scrub_entry *const *by_disk, size_t count, const struct far_scrub_wanted *wanted,
                    struct far_scrub_result *result, struct far_error *err);

#endif
