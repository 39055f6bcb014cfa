/* What changed between two clones of an image: their maps of extents (FIEMAP), walked in step.
 *
 * Both clones are there and nobody writes to either, so a range that lies at the same physical place in both is one and the same
 * data; the live image is written elsewhere (copy on write) as long as a clone holds the place. Everything that is not certain is
 * changed: extents that are compressed, inline, unaligned, unwritten, not yet placed, or bear a flag that is not known here.
 * Nothing is held between two pages, and of either map some hundred extents at a time. */
#include "adapters/file/file_adapter.h"

#include <errno.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

enum { EXTENTS = 256, STEPS_MAX = 65536 }; /* steps: of one page, so that a call ends in time */

struct cursor {
    int fd;
    bool ended; /* the map has nothing behind its extents */
    size_t at;
    struct fiemap *map;
};

/* A range that is one thing. */
struct stretch {
    uint64_t to;
    bool hole, certain;
    uint64_t physical; /* where it begins */
};

static int cursor_init(struct cursor *cursor, int fd)
{
    *cursor = (struct cursor){.fd = fd};
    cursor->map = calloc(1, sizeof *cursor->map + EXTENTS * sizeof cursor->map->fm_extents[0]);
    return cursor->map != NULL ? 0 : -1;
}

/* Reads the map from offset on; 0 or -1 with errno. */
static int fetch(struct cursor *cursor, uint64_t offset)
{
    struct fiemap *map = cursor->map;
    memset(map, 0, sizeof *map);
    map->fm_start = offset;
    map->fm_length = FIEMAP_MAX_OFFSET - offset;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = EXTENTS;
    if (ioctl(cursor->fd, FS_IOC_FIEMAP, map) != 0) {
        return -1;
    }
    uint32_t count = map->fm_mapped_extents;
    cursor->at = 0;
    cursor->ended = count == 0 || (map->fm_extents[count - 1].fe_flags & FIEMAP_EXTENT_LAST) != 0;
    return 0;
}

static bool is_certain(const struct fiemap_extent *extent)
{
    const uint32_t harmless = FIEMAP_EXTENT_LAST | FIEMAP_EXTENT_MERGED | FIEMAP_EXTENT_SHARED;
    return (extent->fe_flags & ~harmless) == 0;
}

/* What lies at offset, up to end at most; offsets of one cursor only grow. */
static int look(struct cursor *cursor, uint64_t offset, uint64_t end, struct stretch *ret)
{
    struct fiemap *map = cursor->map;
    for (;;) {
        while (cursor->at < map->fm_mapped_extents &&
               map->fm_extents[cursor->at].fe_logical + map->fm_extents[cursor->at].fe_length <= offset) {
            cursor->at++;
        }
        if (cursor->at < map->fm_mapped_extents) {
            break;
        }
        if (cursor->ended) {
            *ret = (struct stretch){.to = end, .hole = true};
            return 0;
        }
        if (fetch(cursor, offset) != 0) {
            return -1;
        }
    }
    const struct fiemap_extent *extent = &map->fm_extents[cursor->at];
    uint64_t extent_end = extent->fe_logical + extent->fe_length;
    if (extent->fe_logical > offset) {
        *ret = (struct stretch){.to = extent->fe_logical < end ? extent->fe_logical : end, .hole = true};
    } else {
        *ret = (struct stretch){.to = extent_end < end ? extent_end : end,
                                .certain = is_certain(extent),
                                .physical = extent->fe_physical + (offset - extent->fe_logical)};
    }
    return 0;
}

struct walk {
    struct cursor base, now;
    uint64_t base_size, size;
    struct far_adapter_extent *extents;
    size_t max, count;
};

/* false: the page is full. */
static bool add(struct walk *walk, uint64_t from, uint64_t to, bool zero)
{
    struct far_adapter_extent *last = walk->count > 0 ? &walk->extents[walk->count - 1] : NULL;
    if (last != NULL && last->zero == zero && last->offset + last->length == from) {
        last->length += to - from;
        return true;
    }
    if (walk->count == walk->max) {
        return false;
    }
    walk->extents[walk->count++] = (struct far_adapter_extent){.offset = from, .length = to - from, .zero = zero};
    return true;
}

/* Goes on from *at until the end, a full page, or enough steps. 0 or -1 with errno. */
static int walk_on(struct walk *walk, uint64_t *at)
{
    for (size_t steps = 0; *at < walk->size && steps < STEPS_MAX; steps++) {
        struct stretch then = {.to = walk->size}, now;
        bool grown = *at >= walk->base_size; /* there was nothing */
        if ((!grown && look(&walk->base, *at, walk->base_size, &then) != 0) || look(&walk->now, *at, walk->size, &now) != 0) {
            return -1;
        }
        uint64_t to = then.to < now.to ? then.to : now.to;
        bool same = !grown && ((then.hole && now.hole) || (!then.hole && !now.hole && then.certain && now.certain &&
                                                            then.physical == now.physical));
        if (!same && !add(walk, *at, to, now.hole)) {
            return 0;
        }
        *at = to;
    }
    return 0;
}

int far_file_clones_differ(int base, int now, const char *locator, uint64_t offset, struct far_adapter_extent *ret_extents,
                           size_t max, size_t *ret_count, uint64_t *ret_next, struct far_adapter_error *ret_error)
{
    struct walk walk = {.extents = ret_extents, .max = max};
    struct stat then_st, now_st;
    int rc = fstat(base, &then_st) == 0 && fstat(now, &now_st) == 0 && cursor_init(&walk.base, base) == 0 &&
                     cursor_init(&walk.now, now) == 0
                 ? 0
                 : -1;
    if (rc == 0) {
        walk.base_size = (uint64_t)then_st.st_size;
        walk.size = (uint64_t)now_st.st_size;
        offset = offset < walk.size ? offset : walk.size;
        rc = walk_on(&walk, &offset);
    }
    int sys_errno = errno;
    free(walk.base.map);
    free(walk.now.map);
    if (rc != 0) {
        far_file_fail_errno(ret_error, sys_errno, "ask for the extents of", locator);
        return sys_errno == ENOMEM || sys_errno == EIO ? FAR_ADAPTER_RETRY : FAR_ADAPTER_RESYNC;
    }
    *ret_count = walk.count;
    *ret_next = offset;
    return FAR_ADAPTER_OK;
}
