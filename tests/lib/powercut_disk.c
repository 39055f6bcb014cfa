/* See powercut_disk.h. One pass over the log up to the cut gives: inodes with their data operations (and which of them
 * are durable), and the list of name operations (and how long a prefix of it is durable). Then the seed decides, and the
 * folder is written. Errors are the test's end: powercut_die(). */
#define _GNU_SOURCE 1
#include "powercut_disk.h"

#include "powercut_log.h"
#include "powercut_names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HANDLES = 1 << 16, BEGINS = 256, SECTOR = 512, PAGE = 4096 };

struct view { /* a record in the mapped log */
    struct powercut_record head;
    const char *path;
    const char *path2;
    const char *data;
};

struct data_op {
    size_t record;
    bool durable;
};

struct inode {
    char *base; /* path of its first content, or NULL */
    bool folder;
    struct data_op *ops;
    size_t count;
    size_t capacity;
    size_t synced; /* this many of them, from the first, are covered by a sync */
};

struct name_op {
    uint32_t type; /* POWERCUT_OPEN (create), MKDIR, RENAME, UNLINK */
    size_t record;
    int inode;
    int parent;
    int parent2;
    char name[NAME_MAX + 1];
    char name2[NAME_MAX + 1];
};

struct powercut_disk {
    const char *map;
    size_t size;
    size_t *at; /* offset of each record */
    size_t records;
    struct inode *inodes;
    size_t inode_count;
    size_t base_inodes;
    size_t inode_capacity;
    struct names base; /* as before the log */
    struct name_op *name_ops;
    size_t name_count;
    size_t name_capacity;
    size_t name_durable; /* this many are on disk for certain */
    struct {
        uint64_t handle;
        int inode;
    } handles[HANDLES];
};

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* ---- names ---- */

static void apply_name_op(struct names *names, const struct name_op *op)
{
    int at = powercut_lookup(names, op->parent, op->name);
    switch (op->type) {
    case POWERCUT_OPEN:
    case POWERCUT_MKDIR:
        powercut_add_name(names, op->parent, op->name, op->inode);
        break;
    case POWERCUT_UNLINK:
        if (at != POWERCUT_NONE) {
            names->list[at].inode = POWERCUT_NONE;
        }
        break;
    case POWERCUT_RENAME:
        if (at != POWERCUT_NONE) {
            int inode = names->list[at].inode;
            names->list[at].inode = POWERCUT_NONE;
            powercut_add_name(names, op->parent2, op->name2, inode);
        }
        break;
    default:
        break;
    }
}

/* ---- reading ---- */

static int new_inode(struct powercut_disk *disk, const char *base, bool folder)
{
    disk->inodes = powercut_grow(disk->inodes, disk->inode_count, &disk->inode_capacity, sizeof *disk->inodes);
    struct inode *inode = &disk->inodes[disk->inode_count];
    memset(inode, 0, sizeof *inode);
    inode->base = base != NULL ? strdup(base) : NULL;
    inode->folder = folder;
    return (int)disk->inode_count++;
}

static void scan(struct powercut_disk *disk, const char *path, int parent)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        powercut_die("open folder '%s'", path);
    }
    for (struct dirent *item = readdir(dir); item != NULL; item = readdir(dir)) {
        char inner[PATH_MAX];
        struct stat info;
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) {
            continue;
        }
        snprintf(inner, sizeof inner, "%s/%s", path, item->d_name);
        if (lstat(inner, &info) != 0 || (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))) {
            continue;
        }
        int inode = new_inode(disk, inner, S_ISDIR(info.st_mode));
        powercut_add_name(&disk->base, parent, item->d_name, inode);
        if (S_ISDIR(info.st_mode)) {
            scan(disk, inner, inode);
        }
    }
    closedir(dir);
}

static struct view view_at(const struct powercut_disk *disk, size_t record)
{
    struct view view;
    const char *p = disk->map + disk->at[record];
    memcpy(&view.head, p, sizeof view.head);
    view.path = p + sizeof view.head;
    view.path2 = view.path + view.head.path_len;
    view.data = view.path2 + view.head.path2_len;
    return view;
}

static void index_records(struct powercut_disk *disk)
{
    size_t capacity = 0;
    size_t offset = 0;
    while (offset < disk->size) {
        struct powercut_record head;
        if (disk->size - offset < sizeof head) {
            break; /* the programs were killed in the middle of a record */
        }
        memcpy(&head, disk->map + offset, sizeof head);
        size_t whole = sizeof head + head.path_len + head.path2_len + head.data_len;
        if (head.magic != POWERCUT_MAGIC || head.type == 0 || head.type >= POWERCUT_TYPE_MAX) {
            errno = 0;
            powercut_die("the log is damaged at byte %zu", offset);
        }
        if (disk->size - offset < whole) {
            break;
        }
        disk->at = powercut_grow(disk->at, disk->records, &capacity, sizeof *disk->at);
        disk->at[disk->records++] = offset;
        offset += whole;
    }
}

struct powercut_disk *powercut_disk_new(const char *log_path, const char *base_path)
{
    struct powercut_disk *disk = calloc(1, sizeof *disk);
    int fd = open(log_path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (disk == NULL || fd < 0 || fstat(fd, &info) != 0) {
        powercut_die("open log '%s'", log_path);
    }
    disk->size = (size_t)info.st_size;
    disk->map = disk->size > 0 ? mmap(NULL, disk->size, PROT_READ, MAP_PRIVATE, fd, 0) : "";
    close(fd);
    if (disk->map == MAP_FAILED) {
        powercut_die("map log '%s'", log_path);
    }
    index_records(disk);
    new_inode(disk, NULL, true); /* POWERCUT_ROOT */
    if (base_path != NULL) {
        scan(disk, base_path, POWERCUT_ROOT);
    }
    disk->base_inodes = disk->inode_count;
    return disk;
}

void powercut_disk_free(struct powercut_disk *disk)
{
    for (size_t i = 0; i < disk->inode_count; i++) {
        free(disk->inodes[i].base);
        free(disk->inodes[i].ops);
    }
    if (disk->size > 0) {
        munmap((void *)(uintptr_t)disk->map, disk->size);
    }
    free(disk->inodes);
    free(disk->at);
    free(disk->base.list);
    free(disk->name_ops);
    free(disk);
}

size_t powercut_disk_records(const struct powercut_disk *disk)
{
    return disk->records;
}

void powercut_disk_marks(const struct powercut_disk *disk, size_t cut,
                         void (*mark)(size_t at, const char *text, size_t length))
{
    for (size_t i = 0; i < disk->records && i < cut; i++) {
        struct view view = view_at(disk, i);
        if (view.head.type == POWERCUT_MARK) {
            mark(i, view.data, view.head.data_len);
        }
    }
}

/* ---- one pass up to the cut ---- */

static int *handle_slot(struct powercut_disk *disk, uint64_t handle)
{
    size_t slot = (size_t)(handle * UINT64_C(0x9e3779b97f4a7c15) >> 48) % HANDLES;
    for (size_t tried = 0; disk->handles[slot].handle != 0 && disk->handles[slot].handle != handle; tried++) {
        slot = (slot + 1) % HANDLES;
        if (tried == HANDLES) {
            powercut_die("too many open files in the log");
        }
    }
    if (disk->handles[slot].handle == 0) {
        disk->handles[slot].handle = handle;
        disk->handles[slot].inode = POWERCUT_NONE;
    }
    return &disk->handles[slot].inode;
}

static struct inode *inode_of(struct powercut_disk *disk, uint64_t handle)
{
    int inode = *handle_slot(disk, handle);
    errno = 0;
    if (inode == POWERCUT_NONE) {
        powercut_die("the log uses a file that it never opened");
    }
    return &disk->inodes[inode];
}

static void add_data_op(struct inode *inode, size_t record, bool durable)
{
    inode->ops = powercut_grow(inode->ops, inode->count, &inode->capacity, sizeof *inode->ops);
    inode->ops[inode->count++] = (struct data_op){.record = record, .durable = durable};
}

static struct name_op *add_name_op(struct powercut_disk *disk, uint32_t type, size_t record)
{
    disk->name_ops = powercut_grow(disk->name_ops, disk->name_count, &disk->name_capacity, sizeof *disk->name_ops);
    struct name_op *op = &disk->name_ops[disk->name_count++];
    memset(op, 0, sizeof *op);
    op->type = type;
    op->record = record;
    return op;
}

static void on_open(struct powercut_disk *disk, struct names *now, size_t record, const struct view *view)
{
    int parent;
    char last[NAME_MAX + 1];
    int inode = powercut_resolve(now, view->path, view->head.path_len, &parent, last);
    if (inode == POWERCUT_NONE || (view->head.flags & POWERCUT_CREATED) != 0) {
        inode = new_inode(disk, NULL, (view->head.flags & POWERCUT_FOLDER) != 0);
        struct name_op *op = add_name_op(disk, POWERCUT_OPEN, record);
        op->inode = inode;
        op->parent = parent;
        snprintf(op->name, sizeof op->name, "%s", last);
        apply_name_op(now, op);
    } else if ((view->head.flags & POWERCUT_TRUNCATED) != 0) {
        add_data_op(&disk->inodes[inode], record, false);
    }
    *handle_slot(disk, view->head.handle) = inode;
}

static void on_name(struct powercut_disk *disk, struct names *now, size_t record, const struct view *view)
{
    int parent;
    char last[NAME_MAX + 1];
    int inode = powercut_resolve(now, view->path, view->head.path_len, &parent, last);
    struct name_op *op = add_name_op(disk, view->head.type, record);
    op->inode = view->head.type == POWERCUT_MKDIR ? new_inode(disk, NULL, true) : inode;
    op->parent = parent;
    snprintf(op->name, sizeof op->name, "%s", last);
    if (view->head.type == POWERCUT_RENAME) {
        powercut_resolve(now, view->path2, view->head.path2_len, &op->parent2, last);
        snprintf(op->name2, sizeof op->name2, "%s", last);
    }
    apply_name_op(now, op);
}

/* A sync that began at record `begin` has ended. */
static void make_durable(struct powercut_disk *disk, int inode_number, size_t begin)
{
    struct inode *inode = &disk->inodes[inode_number];
    while (inode->synced < inode->count && inode->ops[inode->synced].record < begin) {
        inode->ops[inode->synced++].durable = true;
    }
    for (size_t i = inode->folder ? disk->name_count : 0; i > disk->name_durable; i--) {
        const struct name_op *op = &disk->name_ops[i - 1];
        if (op->record < begin && (op->parent == inode_number ||
                                   (op->type == POWERCUT_RENAME && op->parent2 == inode_number))) {
            disk->name_durable = i;
        }
    }
}

static void on_sync_end(struct powercut_disk *disk, size_t record, const struct view *end)
{
    for (size_t i = record; i-- > 0;) {
        struct view begin = view_at(disk, i);
        if (begin.head.type == POWERCUT_SYNC_BEGIN && begin.head.handle == end->head.handle &&
            begin.head.length == end->head.length) {
            inode_of(disk, end->head.handle);
            make_durable(disk, *handle_slot(disk, end->head.handle), i);
            return;
        }
    }
}

static void on_sync_all(struct powercut_disk *disk, size_t record)
{
    for (size_t i = 0; i < disk->inode_count; i++) {
        make_durable(disk, (int)i, record);
    }
    disk->name_durable = disk->name_count;
}

static void one_record(struct powercut_disk *disk, struct names *now, size_t record)
{
    struct view view = view_at(disk, record);
    switch (view.head.type) {
    case POWERCUT_OPEN:
        on_open(disk, now, record, &view);
        break;
    case POWERCUT_WRITE:
        add_data_op(inode_of(disk, view.head.handle), record, view.head.flags != 0);
        break;
    case POWERCUT_TRUNCATE:
    case POWERCUT_ALLOCATE:
    case POWERCUT_PUNCH:
        add_data_op(inode_of(disk, view.head.handle), record, false);
        break;
    case POWERCUT_SYNC_END:
        on_sync_end(disk, record, &view);
        break;
    case POWERCUT_SYNC_ALL:
        on_sync_all(disk, record);
        break;
    case POWERCUT_RENAME:
    case POWERCUT_UNLINK:
    case POWERCUT_MKDIR:
        on_name(disk, now, record, &view);
        break;
    case POWERCUT_UNSUPPORTED:
        errno = 0;
        powercut_die("the program did what the shim cannot record: %.*s", (int)view.head.data_len, view.data);
    default:
        break;
    }
}

static void replay(struct powercut_disk *disk, size_t cut)
{
    for (size_t i = 0; i < disk->inode_count; i++) { /* what an earlier build left */
        free(disk->inodes[i].ops);
        disk->inodes[i].ops = NULL;
        disk->inodes[i].count = disk->inodes[i].capacity = disk->inodes[i].synced = 0;
    }
    disk->inode_count = disk->base_inodes;
    disk->name_count = disk->name_durable = 0;
    memset(disk->handles, 0, sizeof disk->handles);
    struct names now = powercut_copy_names(&disk->base);
    for (size_t i = 0; i < disk->records && i < cut; i++) {
        one_record(disk, &now, i);
    }
    free(now.list);
}

/* ---- writing what survives ---- */

struct fate { /* what the seed decided for this build */
    int mode;
    uint64_t random;
    size_t moment; /* POWERCUT_PREFIX: operations before this record survive, that one is torn */
};

static void put(int fd, const char *data, size_t size, uint64_t offset)
{
    while (size > 0) {
        ssize_t done = pwrite(fd, data, size, (off_t)offset);
        if (done <= 0) {
            powercut_die("write");
        }
        data += done;
        offset += (uint64_t)done;
        size -= (size_t)done;
    }
}

/* Keeps each unit (page or sector) of a write or not. */
static void put_torn(int fd, const struct view *view, uint64_t unit, uint64_t *random)
{
    uint64_t at = view->head.offset;
    uint64_t end = at + view->head.data_len;
    while (at < end) {
        uint64_t next = (at / unit + 1) * unit < end ? (at / unit + 1) * unit : end;
        if (next_random(random) & 1) {
            put(fd, view->data + (at - view->head.offset), next - at, at);
        }
        at = next;
    }
}

static void put_zeroes(int fd, uint64_t offset, uint64_t length)
{
    static const char zeroes[65536];
    while (length > 0) {
        size_t piece = length < sizeof zeroes ? (size_t)length : sizeof zeroes;
        put(fd, zeroes, piece, offset);
        offset += piece;
        length -= piece;
    }
}

static void put_whole(int fd, const struct view *view)
{
    struct stat info;
    uint64_t end = view->head.offset + view->head.length;
    if (fstat(fd, &info) != 0) {
        powercut_die("stat");
    }
    uint64_t size = (uint64_t)info.st_size;
    int rc = 0;
    switch (view->head.type) {
    case POWERCUT_OPEN: /* O_TRUNC */
        rc = ftruncate(fd, 0);
        break;
    case POWERCUT_TRUNCATE:
        rc = ftruncate(fd, (off_t)view->head.offset);
        break;
    case POWERCUT_ALLOCATE:
        rc = end > size ? ftruncate(fd, (off_t)end) : 0;
        break;
    case POWERCUT_PUNCH:
        if (view->head.offset < size) {
            put_zeroes(fd, view->head.offset, (end < size ? end : size) - view->head.offset);
        }
        break;
    default:
        put(fd, view->data, view->head.data_len, view->head.offset);
    }
    if (rc != 0) {
        powercut_die("truncate");
    }
}

static void put_uncertain(int fd, const struct view *view, size_t record, struct fate *fate)
{
    bool is_write = view->head.type == POWERCUT_WRITE;
    bool coin = (next_random(&fate->random) & 1) != 0;
    uint64_t unit = fate->mode == POWERCUT_PAGES ? PAGE : SECTOR;
    bool torn = is_write && (fate->mode == POWERCUT_PAGES || fate->mode == POWERCUT_SECTORS ||
                             (fate->mode == POWERCUT_PREFIX && record == fate->moment));
    bool kept = fate->mode == POWERCUT_KEEP_ALL || (fate->mode == POWERCUT_PREFIX && record < fate->moment) ||
                (fate->mode != POWERCUT_LOSE_ALL && fate->mode != POWERCUT_PREFIX && coin);
    if (torn) {
        put_torn(fd, view, unit, &fate->random);
    } else if (kept) {
        put_whole(fd, view);
    }
}

/* Copies the first content, holes left out. */
static void copy_base(const char *from, int to)
{
    int fd = open(from, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0 || ftruncate(to, info.st_size) != 0) {
        powercut_die("open '%s'", from);
    }
    static char buffer[1 << 20];
    off_t at = lseek(fd, 0, SEEK_DATA);
    while (at >= 0 && at < info.st_size) {
        off_t end = lseek(fd, at, SEEK_HOLE);
        while (at < end) {
            size_t piece = (size_t)(end - at) < sizeof buffer ? (size_t)(end - at) : sizeof buffer;
            ssize_t got = pread(fd, buffer, piece, at);
            if (got <= 0) {
                powercut_die("read '%s'", from);
            }
            put(to, buffer, (size_t)got, (uint64_t)at);
            at += got;
        }
        at = lseek(fd, end, SEEK_DATA);
    }
    close(fd);
}

static void write_file(const struct powercut_disk *disk, const struct inode *inode, const char *path,
                       struct fate *fate)
{
    struct stat info = {.st_mode = 0600};
    if (inode->base != NULL && stat(inode->base, &info) != 0) {
        powercut_die("stat '%s'", inode->base);
    }
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, info.st_mode & 0777);
    if (fd < 0) {
        powercut_die("create '%s'", path);
    }
    if (inode->base != NULL) {
        copy_base(inode->base, fd);
    }
    for (size_t i = 0; i < inode->count; i++) {
        struct view view = view_at(disk, inode->ops[i].record);
        if (inode->ops[i].durable) {
            put_whole(fd, &view);
        } else {
            put_uncertain(fd, &view, inode->ops[i].record, fate);
        }
    }
    close(fd);
}

static void write_folder(const struct powercut_disk *disk, const struct names *names, int folder, const char *path,
                         struct fate *fate)
{
    if (mkdir(path, 0700) != 0) {
        powercut_die("create folder '%s'", path);
    }
    for (size_t i = 0; i < names->count; i++) {
        const struct entry *entry = &names->list[i];
        char inner[PATH_MAX];
        if (entry->inode == POWERCUT_NONE || entry->parent != folder) {
            continue;
        }
        snprintf(inner, sizeof inner, "%s/%s", path, entry->name);
        if (disk->inodes[entry->inode].folder) {
            write_folder(disk, names, entry->inode, inner, fate);
        } else {
            write_file(disk, &disk->inodes[entry->inode], inner, fate);
        }
    }
}

int powercut_disk_build(struct powercut_disk *disk, size_t cut, uint64_t seed, int mode, const char *out_path)
{
    cut = cut < disk->records ? cut : disk->records;
    replay(disk, cut);
    struct fate fate = {.random = seed};
    int chosen = (int)(next_random(&fate.random) % POWERCUT_MODES);
    fate.mode = mode >= 0 ? mode : chosen;
    /* the moment lies among the last operations: that is where uncertain ones are */
    uint64_t back = next_random(&fate.random) % 32;
    fate.moment = cut > back ? cut - back : 0;
    size_t keep = disk->name_durable + next_random(&fate.random) % (disk->name_count - disk->name_durable + 1);
    keep = fate.mode == POWERCUT_LOSE_ALL ? disk->name_durable : keep;
    keep = fate.mode == POWERCUT_KEEP_ALL ? disk->name_count : keep;
    struct names names = powercut_copy_names(&disk->base);
    for (size_t i = 0; i < keep; i++) {
        apply_name_op(&names, &disk->name_ops[i]);
    }
    write_folder(disk, &names, POWERCUT_ROOT, out_path, &fate);
    free(names.list);
    return fate.mode;
}
