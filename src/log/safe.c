/* Safe mode: see safe.h. 88 bytes: what is being applied and committed stands outside the checksum, for it moves all the time. */
#include "log/safe.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    FILE_BYTES = 88,
    OLD_BYTES = 64, /* of versions that did not commit by another thread */
    AT_APPLYING = 8, /* u64, as this machine writes it: only this machine reads it */
    AT_CRASHED = 16,
    AT_COUNT = 24,
    AT_VERSION = 32, /* XXH3-64 of the program's version */
    AT_SKIP = 40,
    AT_SKIP_HASH = 48,
    AT_SUM = 56, /* XXH3-64 of the bytes from AT_CRASHED to here */
    AT_COMMITTING = 64,    /* u64, the next two as well */
    AT_COMMIT_DEATHS = 72,
    AT_COMMIT_SUM = 80,    /* the two and a constant, XOR */
    PATH_BYTES = 4096,
    CAREFUL_DEATHS = 2,
};
static const uint64_t commit_sum = 0x5afe5afe5afe5afeu;
static const char magic[8] = {'F', 'A', 'R', 'S', 'A', 'F', 'E', '0'};

struct far_safe {
    char path[PATH_BYTES];
    int fd;
    uint8_t *map;
    uint64_t crashed, count, version; /* as in the file */
    struct far_safe_entry skip;
    uint64_t commit_deaths, undone_until; /* in a row, and up to which entry they left commits undone */
    uint64_t careful_until;               /* as it was at the opening */
};

static _Atomic uint64_t *word(const struct far_safe *safe, size_t at)
{
    return (_Atomic uint64_t *)(void *)(safe->map + at);
}

static _Atomic uint64_t *applying(const struct far_safe *safe)
{
    return word(safe, AT_APPLYING);
}

static void mark_commit(struct far_safe *safe, uint64_t index, uint64_t deaths)
{
    atomic_store_explicit(word(safe, AT_COMMITTING), index, memory_order_relaxed);
    atomic_store_explicit(word(safe, AT_COMMIT_DEATHS), deaths, memory_order_relaxed);
    atomic_store_explicit(word(safe, AT_COMMIT_SUM), index ^ deaths ^ commit_sum, memory_order_relaxed);
}

/* The commit that the last process died in reached to this entry, and so many died in one before it; 0 and 0: none. */
static void read_commit(const struct far_safe *safe, uint64_t *ret_index, uint64_t *ret_deaths)
{
    *ret_index = atomic_load(word(safe, AT_COMMITTING));
    *ret_deaths = atomic_load(word(safe, AT_COMMIT_DEATHS));
    if (*ret_index == 0 || atomic_load(word(safe, AT_COMMIT_SUM)) != (*ret_index ^ *ret_deaths ^ commit_sum)) {
        *ret_index = *ret_deaths = 0;
    }
}

/* Everything but what is being applied. */
static int save(struct far_safe *safe, struct far_error *err)
{
    uint8_t bytes[FILE_BYTES] = {0};
    memcpy(bytes, magic, sizeof magic);
    far_put_le64(bytes + AT_CRASHED, safe->crashed);
    far_put_le64(bytes + AT_COUNT, safe->count);
    far_put_le64(bytes + AT_VERSION, safe->version);
    far_put_le64(bytes + AT_SKIP, safe->skip.index);
    far_put_le64(bytes + AT_SKIP_HASH, safe->skip.hash);
    far_put_le64(bytes + AT_SUM, far_hash64(bytes + AT_CRASHED, AT_SUM - AT_CRASHED));
    int rc = far_file_pwrite(safe->fd, bytes, AT_APPLYING, 0, safe->path, err);
    rc = rc != 0 ? rc
                 : far_file_pwrite(safe->fd, bytes + AT_CRASHED, AT_COMMITTING - AT_CRASHED, AT_CRASHED, safe->path, err);
    if (rc == 0 && fdatasync(safe->fd) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "sync '%s'", safe->path);
    }
    return rc;
}

static void load(struct far_safe *safe)
{
    const uint8_t *bytes = safe->map;
    if (memcmp(bytes, magic, sizeof magic) != 0 ||
        far_get_le64(bytes + AT_SUM) != far_hash64(bytes + AT_CRASHED, AT_SUM - AT_CRASHED)) {
        return;
    }
    safe->skip = (struct far_safe_entry){far_get_le64(bytes + AT_SKIP), far_get_le64(bytes + AT_SKIP_HASH)};
    if (far_get_le64(bytes + AT_VERSION) == safe->version) {
        safe->crashed = far_get_le64(bytes + AT_CRASHED);
        safe->count = far_get_le64(bytes + AT_COUNT);
    }
}

/* What the last process left: it died in an entry, in a commit, or not. While the log is held, nothing is applied and the counts
 * stay. */
static int count_crash(struct far_safe *safe, struct far_error *err)
{
    uint64_t crashed = safe->crashed, count = safe->count, died_in = atomic_load(applying(safe)), committing, deaths;
    read_commit(safe, &committing, &deaths);
    bool was_careful = deaths >= CAREFUL_DEATHS;
    if (died_in != 0) {
        uint64_t before = was_careful && died_in <= committing ? deaths : 0;
        safe->count = died_in == crashed && count > before ? count + 1 : before + 1;
        safe->crashed = died_in;
    } else if (count < (uint64_t)FAR_SAFE_CRASHES || safe->skip.index == crashed) {
        safe->crashed = safe->count = 0;
    }
    safe->commit_deaths = committing == 0 || was_careful ? deaths : deaths + 1;
    safe->undone_until = committing;
    safe->careful_until = safe->commit_deaths >= CAREFUL_DEATHS ? committing : 0;
    mark_commit(safe, committing, safe->commit_deaths);
    atomic_store(applying(safe), 0);
    return died_in != 0 || safe->count != count ? save(safe, err) : 0;
}

static int map_file(struct far_safe *safe, struct far_error *err)
{
    safe->fd = open(safe->path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (safe->fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "open '%s'", safe->path);
    }
    uint8_t bytes[FILE_BYTES] = {0};
    off_t size = lseek(safe->fd, 0, SEEK_END);
    if (size == OLD_BYTES && ftruncate(safe->fd, FILE_BYTES) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "lengthen '%s'", safe->path);
    }
    if (size != FILE_BYTES && size != OLD_BYTES) {
        int rc = ftruncate(safe->fd, 0) != 0 ? far_fail_errno(err, FAR_IO, errno, "empty '%s'", safe->path) : 0;
        rc = rc != 0 ? rc : far_file_pwrite(safe->fd, bytes, sizeof bytes, 0, safe->path, err);
        rc = rc != 0 ? rc : save(safe, err);
        if (rc != 0) {
            return rc;
        }
    }
    safe->map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, safe->fd, 0);
    if (safe->map == MAP_FAILED) {
        safe->map = NULL;
        return far_fail_errno(err, FAR_IO, errno, "map '%s'", safe->path);
    }
    return 0;
}

int far_safe_open(const char *dir, const char *version, struct far_safe **ret_safe, struct far_error *err)
{
    struct far_safe *safe = calloc(1, sizeof *safe);
    if (safe == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory");
    }
    safe->fd = -1;
    safe->version = far_hash64(version, strlen(version));
    int rc = (size_t)snprintf(safe->path, sizeof safe->path, "%s/safe", dir) < sizeof safe->path
                 ? map_file(safe, err)
                 : far_fail(err, FAR_INVALID, "the path '%s' is too long", dir);
    if (rc == 0) {
        load(safe);
        rc = count_crash(safe, err);
    }
    if (rc != 0) {
        far_safe_close(safe);
        return rc;
    }
    *ret_safe = safe;
    return 0;
}

void far_safe_close(struct far_safe *safe)
{
    if (safe == NULL) {
        return;
    }
    if (safe->map != NULL) {
        munmap(safe->map, FILE_BYTES);
    }
    if (safe->fd >= 0) {
        close(safe->fd);
    }
    free(safe);
}

uint64_t far_safe_hold(const struct far_safe *safe)
{
    return safe->count >= (uint64_t)FAR_SAFE_CRASHES && safe->skip.index != safe->crashed ? safe->crashed : 0;
}

void far_safe_begin(struct far_safe *safe, uint64_t index)
{
    atomic_store_explicit(applying(safe), index, memory_order_relaxed);
}

void far_safe_end(struct far_safe *safe)
{
    atomic_store_explicit(applying(safe), 0, memory_order_relaxed);
}

uint64_t far_safe_careful_until(const struct far_safe *safe)
{
    return safe->careful_until;
}

void far_safe_committing(struct far_safe *safe, uint64_t index)
{
    mark_commit(safe, index > safe->undone_until ? index : safe->undone_until, safe->commit_deaths);
}

void far_safe_committed(struct far_safe *safe, uint64_t index)
{
    if (index >= safe->undone_until) {
        safe->undone_until = safe->commit_deaths = 0;
    }
    mark_commit(safe, safe->undone_until, safe->commit_deaths);
}

struct far_safe_entry far_safe_skip(const struct far_safe *safe)
{
    return safe->skip;
}

int far_safe_set_skip(struct far_safe *safe, struct far_safe_entry entry, struct far_error *err)
{
    struct far_safe_entry old = safe->skip;
    safe->skip = entry;
    int rc = save(safe, err);
    safe->skip = rc == 0 ? entry : old;
    return rc;
}
