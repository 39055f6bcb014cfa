/* Space: watches the free bytes of the log's disk and keeps a reserve file to give back when it is full.
 *
 * Below the first watermark user commands are refused; below the second everything but the cluster's own. The reserve
 * is given back when a write found the disk full, so that what is committed can still be applied, and taken again when
 * there is room for it twice. Looking and taking is for the core thread, far_space_give_back() for any thread. */
#ifndef FAR_LOG_SPACE_H
#define FAR_LOG_SPACE_H

#include "fsm/fsm.h"

enum { FAR_SPACE_LOOK_MS = 1000, FAR_SPACE_PATH_MAX = 4096 };

enum far_space_level { FAR_SPACE_PLENTY, FAR_SPACE_LOW, FAR_SPACE_FULL };

struct far_space {
    char dir[FAR_SPACE_PATH_MAX];
    uint64_t reserve_bytes;
    uint64_t low_bytes;
    uint64_t full_bytes;
    _Atomic uint64_t free_bytes;   /* at the last look */
    _Atomic bool reserve_given;    /* the reserve file is not there now */
};

/* 0 = the defaults of struct far_log_config. Looks once and takes the reserve if there is room. FAR_IO: no such folder. */
int far_space_init(struct far_space *space, const char *dir, uint64_t reserve_bytes, uint64_t low_bytes,
                   uint64_t full_bytes, struct far_error *err);
/* Look again; takes the reserve back when there is room. */
void far_space_look(struct far_space *space);
void far_space_give_back(struct far_space *space);
enum far_space_level far_space_level(const struct far_space *space);
/* May this command be proposed now? FAR_LIMIT with the reason in err. What frees space, and what keeps the cluster
 * together, passes below the first watermark. */
int far_space_admit(const struct far_space *space, const struct far_command *command, struct far_error *err);

#endif
