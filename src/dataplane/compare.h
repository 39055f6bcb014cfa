/* Comparing the disks of a source with a point, nothing being sent: what its two tasks share. tasks_compare.c is the source's,
 * tasks_leaves.c the vault's, compare_disk.c does one disk, compare_link.c is the connection between them. For these files only.
 *
 * On a connection the source speaks first, as in a transfer (transfer_frames.h): HELLO with the disk of the point, WELCOME with its
 * size, then PAGE_ASK and MAP_PAGE, and FIN when the disk is done. A connection that is lost is made anew, and what was not answered
 * is asked again. */
#ifndef FAR_DATAPLANE_COMPARE_H
#define FAR_DATAPLANE_COMPARE_H

#include "dataplane/engine_local.h"

struct compare_link {
    struct far_attempt *attempt;
    struct far_bstream *stream; /* shut down when the attempt is canceled; changed under attempt->mutex */
    uint64_t written_ms;
};

int compare_link_init(struct compare_link *link, struct far_attempt *attempt, struct far_error *err);
void compare_link_done(struct compare_link *link);
void compare_link_close(struct compare_link *link);
/* The source: connected, the hello answered. Tries for two minutes. */
int compare_link_begin(struct compare_link *link, const struct far_transfer_hello *hello, uint64_t *ret_base_bytes, struct far_error *err);
/* The vault: somebody came. As long as the attempt is not canceled. */
int compare_link_await(struct compare_link *link, struct far_transfer_hello *ret_hello, struct far_error *err);
/* Is it the connection that failed, and not what was said on it? */
bool compare_link_is_lost(int rc);

struct compare_disk {
    struct far_platform *platform;
    const char *ref;
    struct far_adapter_disk disk;
    uint64_t size_bytes; /* as it was frozen */
    const struct far_engine_point_disk *point;
    uint64_t index; /* in the order */
    const char *since;
    uint64_t done_before; /* bytes of disks before it */
    size_t extents_max; /* so many are told, at most FAR_ENGINE_RANGES_MAX */
};
/* Fills *told but for its name and number. */
int compare_disk_run(struct compare_link *link, const struct compare_disk *disk, struct far_engine_lost_disk *told, struct far_error *err);

#endif
