/* Instant recovery: see hydrate.h. A block's lock (one of a few, by its number) is held while it is fetched, or written in parts; whole
 * blocks that are there are read and written without. */
#define _GNU_SOURCE
#include "dataplane/hydrate.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

enum { LOCKS = 64, HEAD_BYTES = 64, ORDER_MAX = 65536, SAVE_BLOCKS = 4096, SAVE_BYTES = 4096, TELL_BLOCKS = 256, VERSION = 0, WRITTEN = 1 };
static const char bits_magic[8] = "FARHYDR0";
static const char order_magic[8] = "FARBOOT0";

struct far_hydrate {
    struct far_opened *opened;
    struct far_hydrate_options options;
    char target[4096];
    char beside[4112]; /* TARGET.hydrating */
    char order_path[4096];
    char written_path[4096]; /* "": none */
    _Atomic bool was_written; /* by who uses it, and that is durable */
    int fd;
    int bits_fd;
    uint64_t size;
    uint64_t blocks;
    _Atomic uint8_t *there; /* a bit for each block */
    _Atomic bool *unsaved;  /* for each SAVE_BYTES of them: there are some that the file does not have */
    _Atomic uint64_t count; /* of set ones */
    _Atomic uint64_t damaged;
    _Atomic bool stops;
    _Atomic bool is_done;
    pthread_mutex_t locks[LOCKS];
    pthread_mutex_t save_mutex;
    pthread_t thread;
    bool has_thread;
    uint32_t *earlier; /* what earlier boots asked for, in order */
    size_t earlier_count;
    pthread_mutex_t asked_mutex; /* the next two */
    uint32_t *asked;
    size_t asked_count;
    _Atomic uint8_t *was_asked;
};

static bool bit(_Atomic uint8_t *bits, uint64_t block)
{
    return (atomic_load(&bits[block / 8]) >> (block % 8) & 1) != 0;
}

/* true: it was not set before. */
static bool set_bit(_Atomic uint8_t *bits, uint64_t block)
{
    uint8_t mask = (uint8_t)(1u << (block % 8));
    return (atomic_fetch_or(&bits[block / 8], mask) & mask) == 0;
}

static void note_there(struct far_hydrate *hydrate, uint64_t block)
{
    if (set_bit(hydrate->there, block)) {
        atomic_fetch_add(&hydrate->count, 1);
        atomic_store(&hydrate->unsaved[block / 8 / SAVE_BYTES], true);
    }
}

/* ---- what is asked for ---- */

static void note_asked(struct far_hydrate *hydrate, uint64_t block)
{
    if (bit(hydrate->was_asked, block) || block > UINT32_MAX || !set_bit(hydrate->was_asked, block)) {
        return;
    }
    pthread_mutex_lock(&hydrate->asked_mutex);
    if (hydrate->asked_count < ORDER_MAX) {
        hydrate->asked[hydrate->asked_count++] = (uint32_t)block;
    }
    pthread_mutex_unlock(&hydrate->asked_mutex);
}

/* Head: magic, version, number of blocks; the blocks; a checksum. A file that is not good is as none. */
static void read_order(struct far_hydrate *hydrate)
{
    struct far_buf buf;
    far_buf_init(&buf, 16 + ORDER_MAX * 4 + 8);
    bool good = hydrate->order_path[0] != '\0' && far_file_read(hydrate->order_path, &buf, NULL) == 0 && buf.len >= 24 &&
                memcmp(buf.data, order_magic, 8) == 0 && far_get_le32(buf.data + 8) == VERSION &&
                buf.len == 24 + 4 * (size_t)far_get_le32(buf.data + 12) &&
                far_get_le64(buf.data + buf.len - 8) == far_hash64(buf.data, buf.len - 8);
    for (size_t i = 0; good && i < far_get_le32(buf.data + 12); i++) {
        uint32_t block = far_get_le32(buf.data + 16 + 4 * i);
        if (block < hydrate->blocks) {
            hydrate->earlier[hydrate->earlier_count++] = block;
        }
    }
    far_buf_done(&buf);
}

/* This boot's order first, then what only earlier ones asked for. What cannot be written is no harm. */
static void write_order(struct far_hydrate *hydrate)
{
    pthread_mutex_lock(&hydrate->asked_mutex);
    size_t count = hydrate->asked_count;
    for (size_t i = 0; i < hydrate->earlier_count && count < ORDER_MAX; i++) {
        if (!bit(hydrate->was_asked, hydrate->earlier[i])) {
            hydrate->asked[count++] = hydrate->earlier[i];
        }
    }
    uint8_t *bytes = hydrate->order_path[0] != '\0' && count > 0 ? malloc(24 + 4 * count) : NULL;
    if (bytes != NULL) {
        memcpy(bytes, order_magic, 8);
        far_put_le32(bytes + 8, VERSION);
        far_put_le32(bytes + 12, (uint32_t)count);
        for (size_t i = 0; i < count; i++) {
            far_put_le32(bytes + 16 + 4 * i, hydrate->asked[i]);
        }
        far_put_le64(bytes + 16 + 4 * count, far_hash64(bytes, 16 + 4 * count));
        far_file_replace(hydrate->order_path, bytes, 24 + 4 * count, 0600, NULL);
    }
    pthread_mutex_unlock(&hydrate->asked_mutex);
    free(bytes);
}

/* ---- blocks ---- */

/* Does the target hold zeroes there? A file of its own is a hole where nobody wrote; but what was written without a flush before
 * somebody was killed, or only in part, may lie there. A device may hold anything. */
static bool is_hole(const struct far_hydrate *hydrate, uint64_t offset, size_t length)
{
    struct stat st;
    if (fstat(hydrate->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return false;
    }
    off_t data = lseek(hydrate->fd, (off_t)offset, SEEK_DATA);
    return data < 0 ? errno == ENXIO : (uint64_t)data >= offset + length;
}

/* The block's lock is held: from the vault to the target, and to whoever asked (ret_bytes may be NULL). A target that is full keeps nobody
 * from reading. */
static int fetch_locked(struct far_hydrate *hydrate, uint64_t block, uint8_t *bytes, struct far_error *err)
{
    size_t length = far_map_block_bytes(hydrate->size, block);
    bool zero = false;
    uint64_t extent;
    int rc = far_opened_extent(hydrate->opened, block * FAR_BLOCK_BYTES, &zero, &extent, err);
    rc = rc == 0 ? far_opened_read(hydrate->opened, bytes, length, block * FAR_BLOCK_BYTES, err) : rc;
    if (rc == 0 && !(zero && is_hole(hydrate, block * FAR_BLOCK_BYTES, length))) {
        rc = far_file_pwrite(hydrate->fd, bytes, length, block * FAR_BLOCK_BYTES, hydrate->target, err);
    }
    if (rc == 0) {
        note_there(hydrate, block);
    }
    return rc;
}

static int fetch(struct far_hydrate *hydrate, uint64_t block, struct far_error *err)
{
    uint8_t bytes[FAR_BLOCK_BYTES];
    pthread_mutex_t *lock = &hydrate->locks[block % LOCKS];
    pthread_mutex_lock(lock);
    int rc = bit(hydrate->there, block) ? 0 : fetch_locked(hydrate, block, bytes, err);
    pthread_mutex_unlock(lock);
    return rc;
}

static int read_piece(struct far_hydrate *hydrate, uint64_t block, size_t from, uint8_t *ret_bytes, size_t length, struct far_error *err)
{
    uint8_t bytes[FAR_BLOCK_BYTES];
    pthread_mutex_t *lock = &hydrate->locks[block % LOCKS];
    int rc = 0;
    note_asked(hydrate, block);
    if (!bit(hydrate->there, block)) {
        struct far_error cause = {0};
        pthread_mutex_lock(lock);
        bool fetched = !bit(hydrate->there, block);
        rc = fetched ? fetch_locked(hydrate, block, bytes, &cause) : 0;
        pthread_mutex_unlock(lock);
        if (fetched && (rc == 0 || rc == FAR_LIMIT)) { /* a full target keeps nobody from reading */
            memcpy(ret_bytes, bytes + from, length);
            return 0;
        }
        if (rc != 0 && err != NULL) {
            *err = cause;
        }
    }
    return rc == 0 ? far_file_pread(hydrate->fd, ret_bytes, length, block * FAR_BLOCK_BYTES + from, hydrate->target, err) : rc;
}

static void head_of(const struct far_hydrate *hydrate, bool was_written, uint8_t head[HEAD_BYTES])
{
    struct far_hash256 root;
    far_opened_root(hydrate->opened, &root);
    memset(head, 0, HEAD_BYTES);
    memcpy(head, bits_magic, 8);
    far_put_le32(head + 8, VERSION);
    far_put_le32(head + 12, was_written ? WRITTEN : 0);
    far_put_le64(head + 16, hydrate->size);
    memcpy(head + 24, root.bytes, 32);
    far_put_le64(head + 56, far_hash64(head, 56));
}

/* Before the first byte of whoever uses it is in the target. */
static int note_written(struct far_hydrate *hydrate, struct far_error *err)
{
    uint8_t head[HEAD_BYTES];
    int rc = 0;
    if (atomic_load(&hydrate->was_written)) {
        return 0;
    }
    pthread_mutex_lock(&hydrate->save_mutex);
    if (!atomic_load(&hydrate->was_written)) {
        head_of(hydrate, true, head);
        rc = far_file_pwrite(hydrate->bits_fd, head, sizeof head, 0, hydrate->beside, err);
        if (rc == 0 && fdatasync(hydrate->bits_fd) != 0) {
            rc = far_fail_errno(err, FAR_IO, errno, "sync '%s'", hydrate->beside);
        }
        if (rc == 0 && hydrate->written_path[0] != '\0') { /* the other one goes when all is there */
            rc = far_file_replace(hydrate->written_path, "written\n", 8, 0600, err);
        }
        atomic_store(&hydrate->was_written, rc == 0);
    }
    pthread_mutex_unlock(&hydrate->save_mutex);
    return rc;
}

static int write_piece(struct far_hydrate *hydrate, uint64_t block, size_t from, const uint8_t *bytes, size_t length,
                       struct far_error *err)
{
    uint8_t before[FAR_BLOCK_BYTES];
    pthread_mutex_t *lock = &hydrate->locks[block % LOCKS];
    int rc = 0;
    pthread_mutex_lock(lock);
    if (!bit(hydrate->there, block) && length < far_map_block_bytes(hydrate->size, block)) {
        note_asked(hydrate, block);
        rc = fetch_locked(hydrate, block, before, err);
    }
    rc = rc == 0 ? far_file_pwrite(hydrate->fd, bytes, length, block * FAR_BLOCK_BYTES + from, hydrate->target, err) : rc;
    if (rc == 0) {
        note_there(hydrate, block);
    }
    pthread_mutex_unlock(lock);
    return rc;
}

int far_hydrate_read(struct far_hydrate *hydrate, void *ret_bytes, size_t length, uint64_t offset, struct far_error *err)
{
    uint8_t *at = ret_bytes;
    int rc = far_map_check_range(hydrate->size, offset, length, err);
    while (rc == 0 && length > 0) {
        size_t from = offset % FAR_BLOCK_BYTES, rest = FAR_BLOCK_BYTES - from, piece = length < rest ? length : rest;
        rc = read_piece(hydrate, offset / FAR_BLOCK_BYTES, from, at, piece, err);
        at += piece;
        offset += piece;
        length -= piece;
    }
    return rc;
}

int far_hydrate_write(struct far_hydrate *hydrate, const void *bytes, size_t length, uint64_t offset, struct far_error *err)
{
    const uint8_t *at = bytes;
    int rc = far_map_check_range(hydrate->size, offset, length, err);
    rc = rc == 0 ? note_written(hydrate, err) : rc;
    while (rc == 0 && length > 0) {
        size_t from = offset % FAR_BLOCK_BYTES, rest = FAR_BLOCK_BYTES - from, piece = length < rest ? length : rest;
        rc = write_piece(hydrate, offset / FAR_BLOCK_BYTES, from, at, piece, err);
        at += piece;
        offset += piece;
        length -= piece;
    }
    return rc;
}

int far_hydrate_extent(struct far_hydrate *hydrate, uint64_t offset, bool *ret_zero, uint64_t *ret_length, struct far_error *err)
{
    uint64_t block = offset / FAR_BLOCK_BYTES;
    bool here = offset < hydrate->size && bit(hydrate->there, block);
    int rc = 0;
    if (here) {
        *ret_zero = false;
        *ret_length = FAR_BLOCK_BYTES;
    } else {
        rc = far_opened_extent(hydrate->opened, offset, ret_zero, ret_length, err);
    }
    if (rc == 0) { /* a block at a time: the next one may have been written */
        uint64_t end = (block + 1) * FAR_BLOCK_BYTES < hydrate->size ? (block + 1) * FAR_BLOCK_BYTES : hydrate->size;
        *ret_length = end - offset;
    }
    return rc;
}

/* ---- durable ---- */

static size_t bits_bytes(const struct far_hydrate *hydrate)
{
    return (size_t)(hydrate->blocks + 7) / 8;
}

static size_t save_pieces(const struct far_hydrate *hydrate)
{
    return (bits_bytes(hydrate) + SAVE_BYTES - 1) / SAVE_BYTES;
}

/* The pieces of the bits that changed since they were saved: their numbers, each with its bits behind it. What they say is in the
 * target, though not yet durable. */
static int take_unsaved(struct far_hydrate *hydrate, struct far_buf *pieces, struct far_error *err)
{
    int rc = 0;
    for (size_t piece = 0; rc == 0 && piece < save_pieces(hydrate); piece++) {
        uint8_t bits[SAVE_BYTES];
        if (!atomic_exchange(&hydrate->unsaved[piece], false)) {
            continue;
        }
        for (size_t i = 0, at = piece * SAVE_BYTES; i < SAVE_BYTES; i++) {
            bits[i] = at + i < bits_bytes(hydrate) ? atomic_load(&hydrate->there[at + i]) : 0;
        }
        rc = far_buf_append(pieces, &piece, sizeof piece);
        rc = rc == 0 ? far_buf_append(pieces, bits, sizeof bits) : rc;
        if (rc != 0) {
            atomic_store(&hydrate->unsaved[piece], true);
            return far_fail(err, FAR_LIMIT, "no memory to flush '%s'", hydrate->target);
        }
    }
    return 0;
}

static int save_pieces_of(struct far_hydrate *hydrate, const struct far_buf *pieces, struct far_error *err)
{
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < pieces->len; at += sizeof at + SAVE_BYTES) {
        size_t piece;
        memcpy(&piece, pieces->data + at, sizeof piece);
        size_t rest = bits_bytes(hydrate) - piece * SAVE_BYTES, length = rest < SAVE_BYTES ? rest : SAVE_BYTES;
        rc = far_file_pwrite(hydrate->bits_fd, pieces->data + at + sizeof piece, length, HEAD_BYTES + piece * SAVE_BYTES, hydrate->beside,
                             err);
    }
    if (rc == 0 && pieces->len > 0 && fdatasync(hydrate->bits_fd) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "sync '%s'", hydrate->beside);
    }
    return rc;
}

int far_hydrate_flush(struct far_hydrate *hydrate, struct far_error *err)
{
    struct far_buf pieces;
    if (atomic_load(&hydrate->is_done)) {
        return fdatasync(hydrate->fd) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "sync '%s'", hydrate->target);
    }
    pthread_mutex_lock(&hydrate->save_mutex);
    far_buf_init(&pieces, save_pieces(hydrate) * (sizeof(size_t) + SAVE_BYTES));
    int rc = take_unsaved(hydrate, &pieces, err);
    if (rc == 0 && fdatasync(hydrate->fd) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "sync '%s'", hydrate->target);
    }
    rc = rc == 0 ? save_pieces_of(hydrate, &pieces, err) : rc;
    for (size_t at = 0; rc != 0 && at < pieces.len; at += sizeof at + SAVE_BYTES) { /* the next flush tries again */
        size_t piece;
        memcpy(&piece, pieces.data + at, sizeof piece);
        atomic_store(&hydrate->unsaved[piece], true);
    }
    pthread_mutex_unlock(&hydrate->save_mutex);
    far_buf_done(&pieces);
    return rc;
}

bool far_hydrate_is_done(struct far_hydrate *hydrate)
{
    return atomic_load(&hydrate->is_done);
}

static void finish(struct far_hydrate *hydrate)
{
    char dir[4096];
    if (far_hydrate_flush(hydrate, NULL) != 0) {
        return;
    }
    struct stat st;
    far_file_dir_of(hydrate->target, dir, sizeof dir);
    atomic_store(&hydrate->is_done, true);
    if (fstat(hydrate->fd, &st) != 0 || !S_ISREG(st.st_mode)) { /* nothing else says that a device is not to be begun anew */
        return;
    }
    unlink(hydrate->beside);
    far_file_sync_dir(dir, NULL);
}

/* ---- the thread ---- */

static void tell(struct far_hydrate *hydrate)
{
    if (hydrate->options.told != NULL) {
        hydrate->options.told(hydrate->options.arg, atomic_load(&hydrate->count), hydrate->blocks, atomic_load(&hydrate->damaged));
    }
}

/* false: it is to end. */
static bool bring(struct far_hydrate *hydrate, uint64_t block, uint64_t *brought)
{
    struct far_error error;
    if (atomic_load(&hydrate->stops)) {
        return false;
    }
    if (bit(hydrate->there, block)) {
        return true;
    }
    int rc = fetch(hydrate, block, &error);
    if (rc == FAR_CORRUPT || rc == FAR_NOT_FOUND) { /* whoever reads it is told */
        atomic_fetch_add(&hydrate->damaged, 1);
        return true;
    }
    if (rc != 0) {
        fprintf(stderr, "hydration of '%s' stops: %s\n", hydrate->target, error.message);
        return false;
    }
    if (++*brought % TELL_BLOCKS == 0) {
        tell(hydrate);
    }
    return *brought % SAVE_BLOCKS != 0 || far_hydrate_flush(hydrate, NULL) == 0;
}

static void *thread_main(void *arg)
{
    struct far_hydrate *hydrate = arg;
    uint64_t brought = 0;
    bool goes_on = true;
    far_thread_name("hydrate");
    for (size_t i = 0; goes_on && i < hydrate->earlier_count; i++) {
        goes_on = bring(hydrate, hydrate->earlier[i], &brought);
    }
    for (uint64_t block = 0; goes_on && block < hydrate->blocks; block++) {
        goes_on = bring(hydrate, block, &brought);
    }
    if (goes_on && atomic_load(&hydrate->count) == hydrate->blocks) {
        finish(hydrate);
    }
    tell(hydrate);
    return NULL;
}

/* ---- life ---- */

/* Begun before: what is there already. */
static int go_on(struct far_hydrate *hydrate, struct far_error *err)
{
    uint8_t head[HEAD_BYTES], wanted[HEAD_BYTES];
    size_t length = (size_t)(hydrate->blocks + 7) / 8;
    int rc = far_file_pread(hydrate->bits_fd, head, sizeof head, 0, hydrate->beside, err);
    bool was_written = rc == 0 && far_get_le32(head + 12) == WRITTEN;
    head_of(hydrate, was_written, wanted);
    if (rc == 0 && memcmp(head, wanted, sizeof head) != 0) {
        return far_fail(err, FAR_CONFLICT, "'%s' was begun for another disk, or '%s' is damaged", hydrate->target, hydrate->beside);
    }
    uint8_t *bits = rc == 0 ? malloc(length) : NULL;
    rc = rc == 0 && bits == NULL ? far_fail(err, FAR_LIMIT, "no memory to hydrate '%s'", hydrate->target) : rc;
    rc = rc == 0 ? far_file_pread(hydrate->bits_fd, bits, length, HEAD_BYTES, hydrate->beside, err) : rc;
    for (uint64_t block = 0; rc == 0 && block < hydrate->blocks; block++) {
        if ((bits[block / 8] >> (block % 8) & 1) != 0) {
            note_there(hydrate, block);
        }
    }
    free(bits);
    return rc == 0 && was_written ? note_written(hydrate, err) : rc; /* whoever goes on is told as well */
}

/* Of a device that was used already everything would be written over, were its bits gone with the next start of the machine. */
static int check_lasting(const struct far_hydrate *hydrate, const char *dir, struct far_error *err)
{
    struct statfs fs;
    bool is_gone = statfs(dir, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
    return !is_gone ? 0
                    : far_fail(err, FAR_INVALID, "'%s' would not outlast a restart: name the device by a symbolic link that lies on a disk",
                               hydrate->beside);
}

static int begin(struct far_hydrate *hydrate, bool is_new, struct far_error *err)
{
    uint8_t head[HEAD_BYTES];
    struct stat st;
    char dir[4096];
    if (fstat(hydrate->fd, &st) != 0 || (S_ISREG(st.st_mode) && !is_new && st.st_size != 0)) {
        return far_fail(err, FAR_CONFLICT, "'%s' is there already, and no hydration that was begun", hydrate->target);
    }
    far_file_dir_of(hydrate->target, dir, sizeof dir);
    int rc = S_ISREG(st.st_mode) ? 0 : check_lasting(hydrate, dir, err);
    if (rc != 0) {
        return rc;
    }
    /* First what says that the target is not whole: who is killed in between leaves an empty one, never one of zeroes that looks done. */
    hydrate->bits_fd = open(hydrate->beside, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (hydrate->bits_fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "make '%s'", hydrate->beside);
    }
    head_of(hydrate, false, head);
    rc = far_file_pwrite(hydrate->bits_fd, head, sizeof head, 0, hydrate->beside, err);
    if (rc == 0 && (ftruncate(hydrate->bits_fd, HEAD_BYTES + (off_t)bits_bytes(hydrate)) != 0 || fdatasync(hydrate->bits_fd) != 0)) {
        rc = far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "make '%s'", hydrate->beside);
    }
    rc = rc == 0 ? far_file_sync_dir(dir, err) : rc;
    if (rc == 0 && S_ISREG(st.st_mode) && ftruncate(hydrate->fd, (off_t)hydrate->size) != 0) {
        rc = far_fail_errno(err, errno == ENOSPC ? FAR_LIMIT : FAR_IO, errno, "make '%s' %llu bytes long", hydrate->target,
                            (unsigned long long)hydrate->size);
    }
    return rc == 0 ? far_hydrate_flush(hydrate, err) : rc;
}

/* Was it begun, and was that begin complete? */
static bool is_begun(struct far_hydrate *hydrate)
{
    struct stat target, bits;
    hydrate->bits_fd = open(hydrate->beside, O_RDWR | O_CLOEXEC);
    bool is = hydrate->bits_fd >= 0 && fstat(hydrate->fd, &target) == 0 && fstat(hydrate->bits_fd, &bits) == 0 &&
              bits.st_size >= HEAD_BYTES + (off_t)bits_bytes(hydrate) && (!S_ISREG(target.st_mode) || target.st_size != 0);
    if (!is && hydrate->bits_fd >= 0) {
        close(hydrate->bits_fd);
        hydrate->bits_fd = -1;
    }
    return is;
}

static int open_target(struct far_hydrate *hydrate, struct far_error *err)
{
    hydrate->fd = open(hydrate->target, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool is_new = hydrate->fd >= 0;
    if (!is_new && errno == EEXIST) {
        hydrate->fd = open(hydrate->target, O_RDWR | O_CLOEXEC);
    }
    if (hydrate->fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open '%s'", hydrate->target);
    }
    if (flock(hydrate->fd, LOCK_EX | LOCK_NB) != 0) {
        return far_fail(err, FAR_BUSY, "'%s' is being hydrated by another process", hydrate->target);
    }
    int rc = !is_new && is_begun(hydrate) ? go_on(hydrate, err) : begin(hydrate, is_new, err);
    if (rc != 0 && is_new) {
        unlink(hydrate->target);
        unlink(hydrate->beside);
    }
    return rc;
}

static int make_parts(struct far_hydrate *hydrate, struct far_error *err)
{
    size_t length = (size_t)(hydrate->blocks + 7) / 8;
    hydrate->there = calloc(1, length);
    hydrate->unsaved = calloc(save_pieces(hydrate), sizeof *hydrate->unsaved);
    hydrate->was_asked = calloc(1, length);
    hydrate->asked = malloc(ORDER_MAX * sizeof *hydrate->asked);
    hydrate->earlier = malloc(ORDER_MAX * sizeof *hydrate->earlier);
    bool good = hydrate->there != NULL && hydrate->was_asked != NULL && hydrate->asked != NULL && hydrate->earlier != NULL &&
                hydrate->unsaved != NULL;
    return good ? 0 : far_fail(err, FAR_LIMIT, "no memory to hydrate '%s'", hydrate->target);
}

int far_hydrate_new(struct far_opened *opened, const struct far_hydrate_options *options, struct far_hydrate **ret_hydrate,
                    struct far_error *err)
{
    struct far_hydrate *hydrate = calloc(1, sizeof *hydrate);
    const char *written = options->written != NULL ? options->written : "";
    if (hydrate == NULL || strlen(options->target) >= sizeof hydrate->target || strlen(written) >= sizeof hydrate->written_path) {
        free(hydrate);
        return far_fail(err, hydrate == NULL ? FAR_LIMIT : FAR_INVALID, "no memory to hydrate, or too long a path");
    }
    hydrate->opened = opened;
    hydrate->options = *options;
    hydrate->fd = hydrate->bits_fd = -1;
    hydrate->size = far_opened_size(opened);
    hydrate->blocks = far_map_block_count(hydrate->size);
    snprintf(hydrate->target, sizeof hydrate->target, "%s", options->target);
    snprintf(hydrate->beside, sizeof hydrate->beside, "%s.hydrating", hydrate->target);
    snprintf(hydrate->written_path, sizeof hydrate->written_path, "%s", written);
    snprintf(hydrate->order_path, sizeof hydrate->order_path, "%s", options->order != NULL ? options->order : "");
    for (size_t i = 0; i < LOCKS; i++) {
        pthread_mutex_init(&hydrate->locks[i], NULL);
    }
    pthread_mutex_init(&hydrate->save_mutex, NULL);
    pthread_mutex_init(&hydrate->asked_mutex, NULL);
    int rc = make_parts(hydrate, err);
    rc = rc == 0 ? open_target(hydrate, err) : rc;
    if (rc == 0) {
        read_order(hydrate);
        hydrate->has_thread = pthread_create(&hydrate->thread, NULL, thread_main, hydrate) == 0;
        rc = hydrate->has_thread ? 0 : far_fail(err, FAR_LIMIT, "no thread to hydrate '%s'", hydrate->target);
    }
    if (rc != 0) {
        far_hydrate_close(hydrate);
        return rc;
    }
    *ret_hydrate = hydrate;
    return 0;
}

void far_hydrate_close(struct far_hydrate *hydrate)
{
    if (hydrate == NULL) {
        return;
    }
    atomic_store(&hydrate->stops, true);
    if (hydrate->has_thread) {
        pthread_join(hydrate->thread, NULL);
        write_order(hydrate);
        if (!atomic_load(&hydrate->is_done)) {
            far_hydrate_flush(hydrate, NULL);
        }
    }
    if (hydrate->fd >= 0) {
        close(hydrate->fd);
    }
    if (hydrate->bits_fd >= 0) {
        close(hydrate->bits_fd);
    }
    for (size_t i = 0; i < LOCKS; i++) {
        pthread_mutex_destroy(&hydrate->locks[i]);
    }
    pthread_mutex_destroy(&hydrate->save_mutex);
    pthread_mutex_destroy(&hydrate->asked_mutex);
    free((void *)hydrate->there);
    free((void *)hydrate->unsaved);
    free((void *)hydrate->was_asked);
    free(hydrate->asked);
    free(hydrate->earlier);
    free(hydrate);
}
