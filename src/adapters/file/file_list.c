/* Lists of changes that another program writes, for platforms whose changes only that program knows ("file?changes=FOLDER"; a
 * folder that is no absolute path is looked for beside the disk). FORMATS.md shows the file: FOLDER/<disk>.changes.
 *
 * Freeze takes the token of the list that lies there and links it under the name of the view, so that it stays what it was while
 * the program makes the next one (under another name, and renames it: never in place). changed() reads it line by line. Where a
 * page ended is remembered, so that the next one need not read from the beginning; each line is so checked once, in order. */
#include "adapters/file/file_adapter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 320, WORD_MAX = 127 };

/* ---- names ---- */

/* hint NULL: the list as the other program writes it. */
static int list_path(const struct far_file *file, const char *hint, const struct far_adapter_disk *disk,
                     char path[FAR_FILE_PATH_MAX], struct far_adapter_error *ret_error)
{
    const char *slash = strrchr(disk->locator, '/');
    bool beside = file->changes[0] != '/';
    int folder_len = beside && slash != NULL ? (int)(slash + 1 - disk->locator) : 0;
    int n = snprintf(path, FAR_FILE_PATH_MAX, "%.*s%s/%s.changes%s%s", folder_len, disk->locator, file->changes, disk->name,
                     hint != NULL ? ".farshore-" : "", hint != NULL ? hint : "");
    if (n < 0 || n >= FAR_FILE_PATH_MAX || strchr(disk->name, '/') != NULL || (hint != NULL && strchr(hint, '/') != NULL)) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the path of the list of disk '%s' is too long",
                                disk->name);
    }
    return FAR_ADAPTER_OK;
}

/* ---- lines ---- */

struct reader {
    FILE *file;
    const char *path;
    struct far_file_place place; /* of the next line */
    uint64_t size;               /* of the disk */
};

static int bad_line(const struct reader *reader, const char *what, struct far_adapter_error *ret_error)
{
    return far_adapter_fail(ret_error, FAR_ADAPTER_RESYNC, FAR_CORRUPT, "line %llu: %s, in the list of changes '%.200s'",
                            (unsigned long long)reader->place.line + 1, what, reader->path);
}

static int bad_read(const struct reader *reader, struct far_adapter_error *ret_error)
{
    return far_file_fail_errno(ret_error, errno != 0 ? errno : EIO, "read the list of changes", reader->path);
}

/* The next line without its end; *ret_got false: there is none. */
static int read_line(struct reader *reader, char line[LINE_MAX_BYTES], bool *ret_got, struct far_adapter_error *ret_error)
{
    errno = 0;
    *ret_got = fgets(line, LINE_MAX_BYTES, reader->file) != NULL;
    if (!*ret_got) {
        return ferror(reader->file) ? bad_read(reader, ret_error) : FAR_ADAPTER_OK;
    }
    size_t len = strlen(line);
    if (len == 0 || line[len - 1] != '\n') {
        return bad_line(reader, "it has no end, or is too long", ret_error);
    }
    line[len - 1] = '\0';
    reader->place.position += (off_t)len;
    return FAR_ADAPTER_OK;
}

/* "farshore-changes 1 <base> <token>" */
static int read_header(struct reader *reader, char base[WORD_MAX + 1], char token[WORD_MAX + 1],
                       struct far_adapter_error *ret_error)
{
    char line[LINE_MAX_BYTES], again[LINE_MAX_BYTES];
    bool got;
    int outcome = read_line(reader, line, &got, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    bool right = got && sscanf(line, "farshore-changes 1 %127s %127s", base, token) == 2;
    snprintf(again, sizeof again, "farshore-changes 1 %s %s", right ? base : "", right ? token : "");
    if (!right || strcmp(line, again) != 0) {
        return bad_line(reader, "it is not 'farshore-changes 1 BASE TOKEN'", ret_error);
    }
    reader->place.line++;
    return FAR_ADAPTER_OK;
}

static const char *read_number(const char *at, uint64_t *ret_number)
{
    uint64_t number = 0;
    const char *start = at;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (number > (UINT64_MAX - digit) / 10) {
            return NULL;
        }
        number = number * 10 + digit;
    }
    *ret_number = number;
    return at > start ? at : NULL;
}

/* "<offset> <length>", behind the one before and inside the disk. */
static int read_extent(struct reader *reader, struct far_adapter_extent *ret_extent, bool *ret_got,
                       struct far_adapter_error *ret_error)
{
    char line[LINE_MAX_BYTES];
    uint64_t offset = 0, length = 0;
    int outcome = read_line(reader, line, ret_got, ret_error);
    if (outcome != FAR_ADAPTER_OK || !*ret_got) {
        return outcome;
    }
    const char *at = read_number(line, &offset);
    at = at != NULL && *at == ' ' ? read_number(at + 1, &length) : NULL;
    if (at == NULL || *at != '\0' || length == 0) {
        return bad_line(reader, "it is not 'OFFSET LENGTH'", ret_error);
    }
    if (offset < reader->place.end) {
        return bad_line(reader, "it does not follow the one before", ret_error);
    }
    if (offset > reader->size || length > reader->size - offset) {
        return bad_line(reader, "it ends behind the disk", ret_error);
    }
    reader->place.line++;
    reader->place.end = offset + length;
    *ret_extent = (struct far_adapter_extent){.offset = offset, .length = length};
    return FAR_ADAPTER_OK;
}

/* ---- places ---- */

static int64_t changed_ns(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* The place where a page that begins at offset was left, if it is remembered. */
static bool place_find(struct far_file *file, const struct stat *st, uint64_t offset, struct far_file_place *ret_place)
{
    bool found = false;
    pthread_mutex_lock(&file->mutex);
    for (size_t i = 0; i < FAR_FILE_PLACES_MAX && !found; i++) {
        struct far_file_place *place = &file->places[i];
        found = place->used_at != 0 && place->device == st->st_dev && place->inode == st->st_ino &&
                place->changed_ns == changed_ns(st) && place->offset == offset;
        if (found) {
            *ret_place = *place;
        }
    }
    pthread_mutex_unlock(&file->mutex);
    return found;
}

static void place_note(struct far_file *file, const struct stat *st, struct far_file_place place)
{
    pthread_mutex_lock(&file->mutex);
    struct far_file_place *best = &file->places[0];
    for (size_t i = 1; i < FAR_FILE_PLACES_MAX; i++) {
        best = file->places[i].used_at < best->used_at ? &file->places[i] : best;
    }
    place.device = st->st_dev;
    place.inode = st->st_ino;
    place.changed_ns = changed_ns(st);
    place.used_at = ++file->uses;
    *best = place;
    pthread_mutex_unlock(&file->mutex);
}

/* ---- freeze, release ---- */

/* Without a list, or with one that cannot be read, there is no token: everything is read next time. */
void far_file_list_freeze(const struct far_file *file, const char *hint, const struct far_adapter_disk *disk, char token[128])
{
    char path[FAR_FILE_PATH_MAX], own[FAR_FILE_PATH_MAX], base[WORD_MAX + 1], read[WORD_MAX + 1], stem[FAR_FILE_PATH_MAX];
    struct reader reader = {.path = own};
    token[0] = '\0';
    if (list_path(file, NULL, disk, path, NULL) != FAR_ADAPTER_OK || list_path(file, hint, disk, own, NULL) != FAR_ADAPTER_OK) {
        return;
    }
    snprintf(stem, sizeof stem, "%.4000s.farshore-", path);
    far_file_sweep(stem, hint);
    unlink(own);
    reader.file = link(path, own) == 0 ? fopen(own, "re") : NULL;
    if (reader.file != NULL) {
        if (read_header(&reader, base, read, NULL) == FAR_ADAPTER_OK) {
            memcpy(token, read, strlen(read) + 1);
        }
        fclose(reader.file);
    }
}

int far_file_list_release(const struct far_file *file, const char *hint, const struct far_adapter_disk *disk,
                          struct far_adapter_error *ret_error)
{
    char own[FAR_FILE_PATH_MAX];
    int outcome = list_path(file, hint, disk, own, ret_error);
    if (outcome == FAR_ADAPTER_OK && unlink(own) != 0 && errno != ENOENT && errno != ENOTDIR) {
        return far_file_fail_errno(ret_error, errno, "remove", own);
    }
    return outcome;
}

/* ---- changed ---- */

static int disk_size(const char *ref, const struct far_adapter_disk *disk, uint64_t *ret_size, struct far_adapter_error *ret_error)
{
    char path[FAR_FILE_PATH_MAX];
    struct far_adapter_found found;
    int outcome = far_file_frozen_path(ref, disk, path, ret_error);
    struct far_adapter_disk frozen = {.name = disk->name, .locator = path};
    outcome = outcome == FAR_ADAPTER_OK ? far_file_probe(NULL, &frozen, &found, ret_error) : outcome;
    if (outcome == FAR_ADAPTER_OK) {
        *ret_size = found.size_bytes;
    }
    return outcome;
}

static int open_list(struct reader *reader, const char *path, const char *since, struct far_adapter_error *ret_error)
{
    char base[WORD_MAX + 1], token[WORD_MAX + 1];
    reader->path = path;
    reader->file = fopen(path, "re");
    if (reader->file == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_RESYNC, FAR_NOT_FOUND, "the list of changes cannot be read, %s: '%.200s'",
                                strerror(errno), path);
    }
    int outcome = read_header(reader, base, token, ret_error);
    if (outcome == FAR_ADAPTER_OK && strcmp(base, since) != 0) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_RESYNC, FAR_CONFLICT,
                                   "the list of changes begins with '%.60s', not with '%.60s': '%.160s'", base, since, path);
    }
    return outcome;
}

/* The page from offset on; the reader stands before its first line, or before that. */
static int fill(struct reader *reader, uint64_t offset, struct far_adapter_extent *extents, size_t max, size_t *ret_count,
                uint64_t *ret_next, struct far_file_place *ret_place, struct far_adapter_error *ret_error)
{
    struct far_adapter_extent extent = {0};
    size_t count = 0;
    for (;;) {
        struct far_file_place before = reader->place;
        bool got = false;
        int outcome = read_extent(reader, &extent, &got, ret_error);
        if (outcome != FAR_ADAPTER_OK) {
            return outcome;
        }
        if (!got || count == max) {
            *ret_count = count;
            *ret_next = got ? extent.offset : reader->size;
            *ret_place = before;
            return FAR_ADAPTER_OK;
        }
        uint64_t end = extent.offset + extent.length, from = extent.offset > offset ? extent.offset : offset;
        if (from < end) {
            extents[count++] = (struct far_adapter_extent){.offset = from, .length = end - from};
        }
    }
}

int far_file_list_changed(struct far_file *file, const char *ref, const struct far_adapter_disk *disk, const char *since,
                          uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                          uint64_t *ret_next, struct far_adapter_error *ret_error)
{
    char path[FAR_FILE_PATH_MAX];
    const char *colon = strchr(ref, ':');
    struct reader reader = {.file = NULL};
    struct far_file_place place;
    struct stat st;
    int outcome = disk_size(ref, disk, &reader.size, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? list_path(file, colon != NULL ? colon + 1 : ref, disk, path, ret_error) : outcome;
    outcome = outcome == FAR_ADAPTER_OK ? open_list(&reader, path, since, ret_error) : outcome;
    if (outcome == FAR_ADAPTER_OK && fstat(fileno(reader.file), &st) != 0) {
        outcome = bad_read(&reader, ret_error);
    }
    if (outcome == FAR_ADAPTER_OK && place_find(file, &st, offset, &place)) {
        reader.place = place;
        outcome = fseeko(reader.file, place.position, SEEK_SET) == 0 ? FAR_ADAPTER_OK : bad_read(&reader, ret_error);
    }
    if (outcome == FAR_ADAPTER_OK) {
        outcome = fill(&reader, offset, ret_extents, max, ret_count, ret_next, &place, ret_error);
    }
    if (outcome == FAR_ADAPTER_OK && *ret_next < reader.size) {
        place.offset = *ret_next;
        place_note(file, &st, place);
    }
    if (reader.file != NULL) {
        fclose(reader.file);
    }
    return outcome;
}
