/* Test helper on top of engine_pair.h: a made-up disk, and the tasks of a cycle on it as single calls. */
#ifndef FAR_TESTS_LIB_ENGINE_DISK_H
#define FAR_TESTS_LIB_ENGINE_DISK_H

#include "engine_pair.h"

enum { TASK_FREEZE = 1, TASK_SEND = 2, TASK_RECEIVE = 3, TASK_SEAL = 4, TASK_RELEASE = 5, TASK_RESTORE = 6, TASK_VERIFY = 7 };

struct engine_disk {
    struct engine_pair *pair;
    char path[300];
    uint64_t size_bytes;
    uint64_t seed;
    bool has_base;
    uint8_t base_root[32]; /* of the last cycle that ended well */
    const char *adapter;   /* "file" unless set */
    const struct far_domain_keys *domain; /* of its plan; NULL: the plain one */
    const char *proxy;     /* the sender dials this instead of the target, NULL: directly */
    struct far_engine_report freeze, send, receive;
};

/* Writes a disk of random, repeating and zero blocks; sizes need not be whole blocks. */
void disk_make(struct engine_disk *disk, struct engine_pair *pair, const char *name, uint64_t size_bytes, uint64_t seed);
/* Rewrites `count` different blocks; returns how many bytes that are, in whole blocks. */
uint64_t disk_change(struct engine_disk *disk, uint64_t count);
/* Orders of one job, to be changed before they are started. */
struct far_engine_order disk_order(const struct engine_disk *disk, enum far_engine_kind kind, uint64_t job, uint64_t task,
                                   uint64_t attempt);
void disk_start(struct engine_disk *disk, const struct far_engine_order *order);
/* freeze, send and receive of the pair's next job; waits for all; the reports are in disk. True: both done, roots
 * equal. */
bool disk_cycle(struct engine_disk *disk);
/* The base of the next cycle is what this one proved. */
void disk_accept(struct engine_disk *disk);
/* Restores root to a new file; true: done, root equal, bytes equal to the disk as it is now. */
bool disk_restore(struct engine_disk *disk, const char *name);

#endif
