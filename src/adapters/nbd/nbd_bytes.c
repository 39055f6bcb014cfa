/* Bytes of NBD exports: frozen ones to read, writable ones to recover to.
 *
 * An open disk has one connection, or several where the server says that they show the same (multi-conn); the threads that read
 * share them, each taking the one with the fewest requests under way. A connection that is lost is opened anew by whoever needs
 * it next, and must lead to the same export. What fails on the way (the server is gone, one range cannot be read) is tried again
 * within bounds; then it is `retry` and the words say what and why. */
#include "adapters/nbd/nbd_adapter.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REFUSALS_MAX = 4, EXTENTS_MAX = 1024, EXTENTS_MANY = 8192 };

static const uint64_t extents_piece_min = 1ull << 20, extents_piece_first = 256ull << 20, extents_piece_max = 2048ull << 20;

struct slot {
    pthread_mutex_t opening; /* held while somebody opens the link anew */
    struct far_nbd_link *link; /* of bytes->mutex; NULL: none yet */
    unsigned users;            /* of bytes->mutex */
};

struct disk {
    const struct far_nbd *nbd;
    struct far_nbd_about about; /* as it was first */
    pthread_mutex_t mutex; /* the slots' links and users, slot_count */
    struct slot slots[FAR_NBD_LINKS_MAX];
    size_t slot_count; /* in use: never grows */
    pthread_mutex_t told_mutex; /* below */
    struct far_adapter_extent told[EXTENTS_MAX]; /* of the last answer about holes, without gaps */
    size_t told_count;
    uint64_t told_piece; /* bytes to ask about at once */
    char uri[FAR_NBD_URI_MAX];
};

/* ---- connections ---- */

/* Is what was found behind a new connection still the same view? */
static int check_same(const struct disk *disk, const struct far_nbd_about *now, struct far_adapter_error *ret_error)
{
    const struct far_nbd_about *first = &disk->about;
    if (now->size_bytes != first->size_bytes) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                "the export at '%.160s' is another one now: it has %llu bytes, it had %llu", disk->uri,
                                (unsigned long long)now->size_bytes, (unsigned long long)first->size_bytes);
    }
    if (now->read_only != first->read_only || strcmp(now->name, first->name) != 0 ||
        strcmp(now->description, first->description) != 0) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                "the export at '%.160s' is another one now: it has another name, description or mode", disk->uri);
    }
    return FAR_ADAPTER_OK;
}

static struct slot *slot_take(struct disk *disk)
{
    pthread_mutex_lock(&disk->mutex);
    struct slot *best = &disk->slots[0];
    for (size_t i = 1; i < disk->slot_count && best->users > 0; i++) {
        best = disk->slots[i].users < best->users ? &disk->slots[i] : best;
    }
    best->users++;
    pthread_mutex_unlock(&disk->mutex);
    return best;
}

static void slot_give(struct disk *disk, struct slot *slot)
{
    pthread_mutex_lock(&disk->mutex);
    slot->users--;
    pthread_mutex_unlock(&disk->mutex);
}

static struct far_nbd_link *slot_link(struct disk *disk, struct slot *slot)
{
    pthread_mutex_lock(&disk->mutex);
    struct far_nbd_link *link = slot->link;
    if (link != NULL) {
        far_nbd_link_ref(link);
    }
    pthread_mutex_unlock(&disk->mutex);
    return link;
}

/* A server that lets in fewer than it says is used with as many as it lets in. */
static void fewer_slots(struct disk *disk, const struct slot *slot)
{
    size_t index = (size_t)(slot - disk->slots);
    pthread_mutex_lock(&disk->mutex);
    disk->slot_count = index < disk->slot_count ? index : disk->slot_count;
    pthread_mutex_unlock(&disk->mutex);
}

/* Opens the link of a slot anew; a reference to it goes to the caller. slot->opening is held. */
static int slot_open(struct disk *disk, struct slot *slot, struct far_nbd_link **ret_link, struct far_adapter_error *ret_error)
{
    struct far_nbd_link *link;
    bool first = slot == &disk->slots[0];
    int outcome = far_nbd_connect(disk->nbd, disk->uri, "base:allocation", !first, &link, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    outcome = check_same(disk, far_nbd_link_about(link), ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        far_nbd_link_unref(link);
        return outcome;
    }
    far_nbd_link_ref(link);
    pthread_mutex_lock(&disk->mutex);
    struct far_nbd_link *old = slot->link;
    slot->link = link;
    pthread_mutex_unlock(&disk->mutex);
    far_nbd_link_unref(old);
    *ret_link = link;
    return FAR_ADAPTER_OK;
}

/* A live connection, referenced, and the slot that it is of. */
static int link_take(struct disk *disk, struct slot **ret_slot, struct far_nbd_link **ret_link,
                     struct far_adapter_error *ret_error)
{
    for (;;) {
        struct slot *slot = slot_take(disk);
        int outcome = FAR_ADAPTER_OK;
        pthread_mutex_lock(&slot->opening);
        struct far_nbd_link *link = slot_link(disk, slot);
        if (link == NULL || far_nbd_link_is_lost(link)) {
            far_nbd_link_unref(link);
            outcome = slot_open(disk, slot, &link, ret_error);
        }
        pthread_mutex_unlock(&slot->opening);
        if (outcome == FAR_ADAPTER_OK) {
            *ret_slot = slot;
            *ret_link = link;
            return FAR_ADAPTER_OK;
        }
        slot_give(disk, slot);
        if (slot == &disk->slots[0]) {
            return outcome;
        }
        fewer_slots(disk, slot);
    }
}

/* ---- requests ---- */

static const char *errno_name(int sys_errno)
{
    static const struct {
        int number;
        const char *name;
    } names[] = {{EPERM, "EPERM"},   {EIO, "EIO"},         {ENOMEM, "ENOMEM"},   {EINVAL, "EINVAL"},
                 {ENOSPC, "ENOSPC"}, {EOVERFLOW, "EOVERFLOW"}, {ENOTSUP, "ENOTSUP"}, {ESHUTDOWN, "ESHUTDOWN"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].number == sys_errno) {
            return names[i].name;
        }
    }
    return "an error";
}

static const char *verb_of(enum far_nbd_op op)
{
    return op == FAR_NBD_READ ? "read" : op == FAR_NBD_STATUS ? "ask about" : "write";
}

static int refused(const struct disk *disk, const struct far_nbd_request *request, int sys_errno,
                   struct far_adapter_error *ret_error)
{
    int klass = sys_errno == EPERM ? FAR_DENIED : sys_errno == ENOSPC || sys_errno == ENOMEM ? FAR_LIMIT : FAR_IO;
    if (request->op == FAR_NBD_FLUSH) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, klass, "make '%.120s' durable: the server says %s (%s)", disk->uri,
                                errno_name(sys_errno), strerror(sys_errno));
    }
    return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, klass, "%s bytes %llu to %llu of '%.120s': the server says %s (%s)",
                            verb_of(request->op), (unsigned long long)request->offset,
                            (unsigned long long)(request->offset + request->length - 1), disk->uri, errno_name(sys_errno),
                            strerror(sys_errno));
}

static int gone(const struct disk *disk, const struct far_nbd_request *request, const struct far_nbd_words *words,
                enum far_nbd_answer answer, struct far_adapter_error *ret_error)
{
    return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, answer == FAR_NBD_SILENT ? FAR_TIMEOUT : FAR_IO,
                            "%s bytes %llu to %llu of '%.120s': %s%s", verb_of(request->op), (unsigned long long)request->offset,
                            (unsigned long long)(request->offset + request->length - 1), disk->uri, words->text,
                            answer == FAR_NBD_SILENT ? ", it was given up" : "");
}

/* One request on whichever connection, with what may be tried again tried again. */
static int run(struct disk *disk, const struct far_nbd_request *request, struct far_adapter_error *ret_error)
{
    uint64_t start_ms = far_clock_monotonic_ms(), give_up_ms = start_ms + disk->nbd->retry_ms;
    unsigned refusals = 0;
    for (unsigned n = 0;; n++) {
        struct far_nbd_words words = {0};
        struct far_nbd_link *link;
        struct slot *slot;
        int outcome = link_take(disk, &slot, &link, ret_error);
        if (outcome != FAR_ADAPTER_OK) {
            return outcome;
        }
        uint64_t deadline_ms = far_clock_monotonic_ms() + disk->nbd->timeout_ms;
        enum far_nbd_answer answer = far_nbd_link_do(link, request, deadline_ms, &words);
        far_nbd_link_unref(link);
        slot_give(disk, slot);
        uint64_t now_ms = far_clock_monotonic_ms();
        if (answer == FAR_NBD_OK) {
            return FAR_ADAPTER_OK;
        }
        if (answer == FAR_NBD_REFUSED && (words.sys_errno == EINVAL || words.sys_errno == EPERM || words.sys_errno == ENOSPC ||
                                          words.sys_errno == ENOTSUP || ++refusals == REFUSALS_MAX)) {
            return refused(disk, request, words.sys_errno, ret_error);
        }
        if (answer != FAR_NBD_REFUSED && (now_ms >= give_up_ms || (answer == FAR_NBD_SILENT && now_ms >= deadline_ms))) {
            return gone(disk, request, &words, answer, ret_error);
        }
        far_nbd_pause(n);
    }
}

/* ---- open, close ---- */

static void bytes_close(void *opaque)
{
    struct disk *disk = opaque;
    if (disk == NULL) {
        return;
    }
    for (size_t i = 0; i < FAR_NBD_LINKS_MAX; i++) {
        far_nbd_link_unref(disk->slots[i].link);
        pthread_mutex_destroy(&disk->slots[i].opening);
    }
    pthread_mutex_destroy(&disk->mutex);
    pthread_mutex_destroy(&disk->told_mutex);
    free(disk);
}

static int disk_open(const struct far_nbd *nbd, const char *locator, struct disk **ret_disk,
                     struct far_adapter_error *ret_error)
{
    struct far_nbd_place place;
    struct far_nbd_link *link;
    int outcome = far_nbd_place(nbd, locator, &place, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? far_nbd_connect(nbd, place.uri, "base:allocation", false, &link, ret_error) : outcome;
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    struct disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL) {
        far_nbd_link_unref(link);
        return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "open '%.160s': no memory", place.uri);
    }
    disk->nbd = nbd;
    disk->about = *far_nbd_link_about(link);
    disk->slot_count = disk->about.multi_conn ? (size_t)nbd->connections : 1;
    disk->told_piece = extents_piece_first;
    strcpy(disk->uri, place.uri);
    pthread_mutex_init(&disk->mutex, NULL);
    pthread_mutex_init(&disk->told_mutex, NULL);
    for (size_t i = 0; i < FAR_NBD_LINKS_MAX; i++) {
        pthread_mutex_init(&disk->slots[i].opening, NULL);
    }
    disk->slots[0].link = link;
    *ret_disk = disk;
    return FAR_ADAPTER_OK;
}

static int bytes_open_frozen(void *platform, const char *ref, const struct far_adapter_disk *disk, void **ret_handle,
                             struct far_adapter_error *ret_error)
{
    struct disk *opened;
    if (strncmp(ref, "nbd:", 4) != 0 && strncmp(ref, "nbd-live:", 9) != 0) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "'%.128s' is no view of an NBD export", ref);
    }
    int outcome = disk_open(platform, disk->locator, &opened, ret_error);
    if (outcome == FAR_ADAPTER_OK && strncmp(ref, "nbd:", 4) == 0 && !opened->about.read_only) {
        bytes_close(opened);
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                "the export at '%.160s' was frozen, now it is writable", disk->locator);
    }
    if (outcome == FAR_ADAPTER_OK) {
        *ret_handle = opened;
    }
    return outcome;
}

/* Like a device: what is there is written over, if it is large enough. */
static int bytes_open_target(void *platform, const char *ref, const char *locator, uint64_t size_bytes, void **ret_handle,
                             struct far_adapter_error *ret_error)
{
    struct disk *disk;
    int outcome = disk_open(platform, locator, &disk, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    if (disk->about.read_only) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_DENIED, "the recovery target '%.160s' is read-only", locator);
    } else if (disk->about.size_bytes < size_bytes) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                   "the recovery target '%.160s' is too small: it has %llu bytes, the disk %llu", locator,
                                   (unsigned long long)disk->about.size_bytes, (unsigned long long)size_bytes);
    } else {
        *ret_handle = disk;
        return FAR_ADAPTER_OK;
    }
    bytes_close(disk);
    return outcome;
}

/* ---- read, write ---- */

/* A piece that a server with a smallest request size does not take: the blocks around it are read. */
static int read_around(struct disk *disk, uint8_t *to, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    uint64_t block = disk->about.block_min, start = offset - offset % block;
    uint64_t whole = (offset + length - start + block - 1) / block * block;
    uint8_t *buffer = malloc((size_t)whole);
    if (buffer == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "read '%.160s': no memory", disk->uri);
    }
    struct far_nbd_request request = {.op = FAR_NBD_READ, .offset = start, .length = whole, .into = buffer};
    int outcome = run(disk, &request, ret_error);
    if (outcome == FAR_ADAPTER_OK) {
        memcpy(to, buffer + (offset - start), length);
    }
    free(buffer);
    return outcome;
}

static int check_inside(const struct disk *disk, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    uint64_t size = disk->about.size_bytes;
    return offset <= size && length <= size - offset
               ? FAR_ADAPTER_OK
               : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                  "the export at '%.160s' ends at byte %llu, asked for are %zu bytes from %llu on", disk->uri,
                                  (unsigned long long)size, length, (unsigned long long)offset);
}

/* What is asked for next: whole blocks of the server's, or what is left of one. */
static size_t piece_at(const struct disk *disk, uint64_t offset, size_t length)
{
    uint64_t block = disk->about.block_min, edge = block - offset % block, max = disk->about.block_max;
    if (edge != block || length < block) {
        return length < edge ? length : (size_t)edge;
    }
    size_t piece = length < max ? length : (size_t)max;
    return piece - (size_t)(piece % block);
}

static int bytes_read(void *opaque, void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    struct disk *disk = opaque;
    uint8_t *to = buffer;
    int outcome = check_inside(disk, length, offset, ret_error);
    while (outcome == FAR_ADAPTER_OK && length > 0) {
        uint64_t block = disk->about.block_min;
        size_t piece = piece_at(disk, offset, length);
        struct far_nbd_request request = {.op = FAR_NBD_READ, .offset = offset, .length = piece, .into = to};
        outcome = offset % block != 0 || piece % block != 0 ? read_around(disk, to, piece, offset, ret_error)
                                                            : run(disk, &request, ret_error);
        to += piece;
        offset += piece;
        length -= piece;
    }
    return outcome;
}

static bool all_zero(const uint8_t *data, size_t length)
{
    return length > 0 && data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

static int bytes_write(void *opaque, const void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    struct disk *disk = opaque;
    const uint8_t *from = buffer;
    int outcome = check_inside(disk, length, offset, ret_error);
    while (outcome == FAR_ADAPTER_OK && length > 0) {
        size_t piece = length < disk->about.block_max ? length : (size_t)disk->about.block_max;
        bool zero = disk->about.can_zero && all_zero(from, piece);
        struct far_nbd_request request = {
            .op = zero ? FAR_NBD_ZERO : FAR_NBD_WRITE, .offset = offset, .length = piece, .from = from};
        outcome = run(disk, &request, ret_error);
        from += piece;
        offset += piece;
        length -= piece;
    }
    return outcome;
}

static int bytes_flush(void *opaque, struct far_adapter_error *ret_error)
{
    const struct far_nbd_request request = {.op = FAR_NBD_FLUSH};
    return run(opaque, &request, ret_error);
}

/* ---- holes ---- */

struct telling {
    struct disk *disk;
    uint64_t next;
    size_t heard;
};

static int on_allocation(void *arg, uint64_t offset, uint64_t length, uint32_t flags)
{
    struct telling *telling = arg;
    struct disk *disk = telling->disk;
    struct far_adapter_extent *last = disk->told_count > 0 ? &disk->told[disk->told_count - 1] : NULL;
    bool zero = (flags & 2) != 0; /* NBD_STATE_ZERO; a hole alone may read as anything */
    telling->heard++;
    if (offset != telling->next || length == 0 || length > disk->about.size_bytes - offset) {
        return -1;
    }
    if (last != NULL && last->zero == zero) {
        last->length += length;
    } else if (disk->told_count == EXTENTS_MAX) {
        return -1;
    } else {
        disk->told[disk->told_count++] = (struct far_adapter_extent){.offset = offset, .length = length, .zero = zero};
    }
    telling->next = offset + length;
    return 0;
}

/* The mutex is held. What the server does not tell is data. */
static void ask_about(struct disk *disk, uint64_t offset)
{
    uint64_t start = offset - offset % disk->about.block_min, rest = disk->about.size_bytes - start;
    struct telling telling = {.disk = disk, .next = start};
    struct far_nbd_request request = {.op = FAR_NBD_STATUS,
                                      .offset = start,
                                      .length = rest < disk->told_piece ? rest : disk->told_piece,
                                      .on_extent = on_allocation,
                                      .arg = &telling};
    disk->told_count = 0;
    if (run(disk, &request, NULL) != FAR_ADAPTER_OK || telling.next <= offset) {
        /* All of it, so that of many readers only one waits for a server that hangs. */
        disk->told[0] = (struct far_adapter_extent){.offset = start, .length = request.length};
        disk->told_count = 1;
    } else if (telling.heard > EXTENTS_MANY && disk->told_piece > extents_piece_min) {
        disk->told_piece /= 2;
    } else if (telling.heard < EXTENTS_MAX / 8 && disk->told_piece < extents_piece_max) {
        disk->told_piece *= 2;
    }
}

/* Finds offset in what was told; the mutex is held. */
static size_t told_at(const struct disk *disk, uint64_t offset)
{
    size_t low = 0, high = disk->told_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct far_adapter_extent *extent = &disk->told[middle];
        if (offset >= extent->offset && offset - extent->offset < extent->length) {
            return middle;
        }
        low = offset >= extent->offset ? middle + 1 : low;
        high = offset < extent->offset ? middle : high;
    }
    return disk->told_count;
}

static int bytes_extents(void *opaque, uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                         struct far_adapter_error *ret_error)
{
    struct disk *disk = opaque;
    if (max == 0 || offset >= disk->about.size_bytes) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the export at '%.160s' has no byte %llu", disk->uri,
                                (unsigned long long)offset);
    }
    if (!disk->about.has_context) {
        ret_extents[0] = (struct far_adapter_extent){.offset = offset, .length = disk->about.size_bytes - offset};
        *ret_count = 1;
        return FAR_ADAPTER_OK;
    }
    size_t count = 0;
    pthread_mutex_lock(&disk->told_mutex);
    size_t at = told_at(disk, offset);
    if (at == disk->told_count) {
        ask_about(disk, offset);
        at = told_at(disk, offset);
    }
    for (; at < disk->told_count && count < max; at++) {
        ret_extents[count] = disk->told[at];
        if (count == 0) {
            ret_extents[0].length -= offset - ret_extents[0].offset;
            ret_extents[0].offset = offset;
        }
        count++;
    }
    pthread_mutex_unlock(&disk->told_mutex);
    *ret_count = count;
    return FAR_ADAPTER_OK;
}

const struct far_adapter_bytes far_nbd_bytes = {
    .version = FAR_ADAPTER_VERSION,
    .fence = "epoch",
    .open_frozen = bytes_open_frozen,
    .read = bytes_read,
    .open_target = bytes_open_target,
    .write = bytes_write,
    .flush = bytes_flush,
    .close = bytes_close,
    .extents = bytes_extents,
};
