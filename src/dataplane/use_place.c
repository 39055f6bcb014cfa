/* Where uses of points write: see use_place.h. A note has three lines: the part, the file, and once it is about to get its name "named". */
#define _GNU_SOURCE
#include "dataplane/use_place.h"

#include "base/buf.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NOTE_MAX = 3 * PATH_MAX, NAME_BYTES_MAX = 200 };

/* ---- where ---- */

static bool is_inside(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static bool is_good_name(const char *name, size_t len)
{
    return len > 0 && len <= NAME_BYTES_MAX && !(len == 1 && name[0] == '.') && !(len == 2 && name[0] == '.' && name[1] == '.');
}

/* Of each part of the path its own; the parts before the last may not be links, which the resolved folder shows. */
static int check_parts(const char *path, struct far_error *err)
{
    for (const char *at = path[0] == '/' ? path + 1 : path;; at++) {
        size_t len = strcspn(at, "/");
        for (size_t i = 0; i < len; i++) {
            if ((unsigned char)at[i] < ' ' || at[i] == 0x7f) { /* notes are lines, and so are messages */
                return far_fail(err, FAR_INVALID, "the path of a file on the node has a control character");
            }
        }
        if (!is_good_name(at, len)) {
            return far_fail(err, FAR_DENIED, "'%s' is no path of a file: a part is empty, '.', '..' or too long", path);
        }
        at += len;
        if (*at == '\0') {
            return 0;
        }
    }
}

static int check_there(const char *path, enum far_use_kind kind, struct far_error *err)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        return errno != ENOENT              ? far_fail_errno(err, FAR_IO, errno, "look for '%s'", path)
               : kind == FAR_USE_OLD_FILE ? far_fail(err, FAR_NOT_FOUND, "there is no file '%s'", path)
                                          : 0;
    }
    if (S_ISLNK(st.st_mode)) {
        return far_fail(err, FAR_DENIED, "'%s' is a symbolic link", path);
    }
    bool good = kind == FAR_USE_FOLDER ? S_ISDIR(st.st_mode) : kind != FAR_USE_NEW_FILE && S_ISREG(st.st_mode);
    return good ? 0 : far_fail(err, FAR_CONFLICT, "'%s' is there already", path);
}

/* The path below the allowed folder: behind it, or as it is. */
static int below(const char *dir, const char *path, const char **ret_below, struct far_error *err)
{
    size_t len = strlen(dir);
    if (path[0] != '/') {
        *ret_below = path;
        return 0;
    }
    if (!is_inside(path, dir) || path[len] != '/') {
        return far_fail(err, FAR_DENIED, "'%s' is outside of '%s', the folder that this node allows files in (export_dir in its config)",
                        path, dir);
    }
    *ret_below = path + len + 1;
    return 0;
}

int far_use_resolve(const char *dir, const char *path, enum far_use_kind kind, const char *const *own_dirs, size_t own_count,
                    char ret_path[PATH_MAX], struct far_error *err)
{
    char whole[PATH_MAX], folder[PATH_MAX];
    const char *rest = path;
    if (dir == NULL || dir[0] == '\0') {
        return far_fail(err, FAR_DENIED,
                        "this node allows nobody to write files: its operator names a folder for them, export_dir in its config");
    }
    char *real = realpath(dir, NULL);
    if (real == NULL) {
        return far_fail_errno(err, FAR_NOT_FOUND, errno, "open '%s', the folder that this node allows files in", dir);
    }
    int rc = below(dir, path, &rest, err);
    rc = rc == 0 ? check_parts(rest, err) : rc;
    if (rc == 0 && snprintf(whole, sizeof whole, "%s/%s", real, rest) >= (int)sizeof whole - 80) {
        rc = far_fail(err, FAR_LIMIT, "the path '%.200s' is too long", rest);
    }
    if (rc == 0) {
        far_file_dir_of(whole, folder, sizeof folder);
        char *found = realpath(folder, NULL);
        if (found == NULL) {
            rc = far_fail_errno(err, FAR_NOT_FOUND, errno, "open folder '%s'", folder);
        } else if (strcmp(found, folder) != 0) { /* by a link somewhere in it, wherever that leads */
            rc = far_fail(err, FAR_DENIED, "folder '%s' is reached over a symbolic link", folder);
        }
        for (size_t i = 0; rc == 0 && i < own_count; i++) {
            if (own_dirs[i] != NULL && is_inside(whole, own_dirs[i])) {
                rc = far_fail(err, FAR_DENIED, "'%s' is inside this node's own folder '%s'", whole, own_dirs[i]);
            }
        }
        free(found);
    }
    rc = rc == 0 ? check_there(whole, kind, err) : rc;
    if (rc == 0) {
        memcpy(ret_path, whole, strlen(whole) + 1);
    }
    free(real);
    return rc;
}

/* ---- notes ---- */

int far_use_folder(const char *node_dir, char ret_path[PATH_MAX], struct far_error *err)
{
    if (node_dir == NULL || snprintf(ret_path, PATH_MAX, "%s/uses", node_dir) >= PATH_MAX - 80) {
        return far_fail(err, FAR_INVALID, "this node has no folder of its own, or one with too long a name");
    }
    int rc = far_file_make_dir(ret_path, err);
    if (rc == 0 && chmod(ret_path, 0700) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "protect '%s'", ret_path);
    }
    return rc;
}

static int write_note(const struct far_use_place *place, const char *state, struct far_error *err)
{
    char text[NOTE_MAX];
    int len = snprintf(text, sizeof text, "%s\n%s\n%s\n", place->part, place->path, state);
    return far_file_replace(place->note, text, (size_t)len, 0600, err);
}

/* Fills in all but the note's own name. false: there is none, or it is not one. */
static bool read_note(const char *note, struct far_use_place *place, bool *ret_named)
{
    struct far_buf text;
    far_buf_init(&text, NOTE_MAX);
    bool good = far_file_read(note, &text, NULL) == 0 && far_buf_append(&text, "", 1) == 0;
    char *rest = (char *)text.data, *lines[3] = {NULL};
    for (size_t i = 0; good && i < 3; i++) {
        char *end = strchr(rest, '\n');
        lines[i] = rest;
        good = end != NULL && (size_t)(end - rest) < PATH_MAX - 8;
        if (good) {
            *end = '\0';
            rest = end + 1;
        }
    }
    if (good) {
        snprintf(place->part, sizeof place->part, "%s", lines[0]);
        snprintf(place->part2, sizeof place->part2, "%s.part", lines[0]);
        snprintf(place->path, sizeof place->path, "%s", lines[1]);
        *ret_named = strcmp(lines[2], "named") == 0;
    }
    far_buf_done(&text);
    return good;
}

/* Of a note that says "named": did the file get its name? While the part is there, both are one file; it goes first at the end. */
static bool got_name(const struct far_use_place *place)
{
    struct stat part, file;
    bool is_there = lstat(place->path, &file) == 0 && S_ISREG(file.st_mode);
    return is_there && (lstat(place->part, &part) != 0 || (part.st_dev == file.st_dev && part.st_ino == file.st_ino));
}

int far_use_place_begin(const char *node_dir, uint64_t job_id, uint64_t task, const char *resolved, struct far_use_place *ret_place,
                        struct far_error *err)
{
    struct far_use_place *place = ret_place;
    char dir[PATH_MAX], uses[PATH_MAX];
    bool is_named = false;
    *place = (struct far_use_place){.is_whole = false};
    int rc = far_use_folder(node_dir, uses, err);
    if (rc != 0) {
        return rc;
    }
    far_file_dir_of(resolved, dir, sizeof dir);
    snprintf(place->note, sizeof place->note, "%.*s/%llu-%llu.note", PATH_MAX - 60, uses, (unsigned long long)job_id,
             (unsigned long long)task);
    if (read_note(place->note, place, &is_named) && is_named && strcmp(place->path, resolved) == 0 && got_name(place)) {
        place->is_whole = true;
        return far_file_sync_dir(dir, err); /* the attempt may have ended before that */
    }
    snprintf(place->path, sizeof place->path, "%s", resolved);
    snprintf(place->part, sizeof place->part, "%.*s/.farshore-%llu-%llu", PATH_MAX - 80, dir, (unsigned long long)job_id,
             (unsigned long long)task);
    snprintf(place->part2, sizeof place->part2, "%.*s.part", PATH_MAX - 8, place->part);
    unlink(place->part); /* of an attempt that ended with its process */
    unlink(place->part2);
    return write_note(place, "begun", err);
}

int far_use_place_finish(struct far_use_place *place, struct far_error *err)
{
    char dir[PATH_MAX];
    int fd = open(place->part, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int rc = fd >= 0 && fsync(fd) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "sync '%s'", place->part);
    if (fd >= 0) {
        close(fd);
    }
    if (rc == 0 && access(place->path, F_OK) == 0) { /* before the note says that what is there is ours */
        rc = far_fail(err, FAR_CONFLICT, "'%s' is there already", place->path);
    }
    rc = rc == 0 ? write_note(place, "named", err) : rc;
    if (rc == 0 && link(place->part, place->path) != 0) {
        rc = far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "give '%s' its name", place->path);
    }
    if (rc == 0) {
        place->is_whole = true;
        far_file_dir_of(place->path, dir, sizeof dir);
        rc = far_file_sync_dir(dir, err);
    }
    return rc;
}

void far_use_place_end(struct far_use_place *place)
{
    if (place->note[0] != '\0') {
        unlink(place->part);
        unlink(place->part2);
        if (!place->is_whole) {
            unlink(place->note);
        }
    }
}

static int mark_path(const char *node_dir, uint64_t job_id, uint64_t task, char path[PATH_MAX], struct far_error *err)
{
    char uses[PATH_MAX];
    int rc = far_use_folder(node_dir, uses, err);
    if (rc == 0) {
        snprintf(path, PATH_MAX, "%.*s/%llu-%llu.mark", PATH_MAX - 60, uses, (unsigned long long)job_id, (unsigned long long)task);
    }
    return rc;
}

static void beside_mark(const char *mark, const char *end, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%.*s%s", (int)(strlen(mark) - strlen("mark")), mark, end);
}

int far_use_mark(const char *node_dir, uint64_t job_id, uint64_t task, const char *resolved, bool *ret_was_there,
                 char ret_written[PATH_MAX], struct far_error *err)
{
    char path[PATH_MAX];
    struct far_buf text;
    int rc = mark_path(node_dir, job_id, task, path, err);
    if (rc != 0) {
        return rc;
    }
    far_buf_init(&text, PATH_MAX);
    bool is_there = far_file_read(path, &text, NULL) == 0 && text.len == strlen(resolved) && memcmp(text.data, resolved, text.len) == 0;
    far_buf_done(&text);
    beside_mark(path, "written", ret_written);
    if (!is_there) {
        unlink(ret_written); /* of another path */
        rc = far_file_replace(path, resolved, strlen(resolved), 0600, err);
    }
    if (rc == 0) {
        *ret_was_there = is_there;
    }
    return rc;
}

/* "JOB-TASK.note", "JOB-TASK.mark" */
static bool parse_name(const char *name, uint64_t *ret_job_id, uint64_t *ret_task)
{
    char *dash, *dot;
    *ret_job_id = strtoull(name, &dash, 10);
    *ret_task = *dash == '-' ? strtoull(dash + 1, &dot, 10) : 0;
    return dash != name && *dash == '-' && dot != dash + 1 && (strcmp(dot, ".note") == 0 || strcmp(dot, ".mark") == 0);
}

size_t far_use_kept(const char *node_dir, struct far_use_key *ret_keys, size_t max)
{
    char uses[PATH_MAX];
    size_t count = 0;
    if (node_dir == NULL || snprintf(uses, sizeof uses, "%s/uses", node_dir) >= (int)sizeof uses) {
        return 0;
    }
    DIR *dir = opendir(uses);
    for (struct dirent *entry = dir != NULL ? readdir(dir) : NULL; entry != NULL && count < max; entry = readdir(dir)) {
        struct far_use_key key;
        if (parse_name(entry->d_name, &key.job_id, &key.task)) {
            ret_keys[count++] = key;
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return count;
}

void far_use_settle(const char *node_dir, uint64_t job_id, uint64_t task)
{
    static const char *const ends[] = {"written", "note", "mark"}; /* the last one last: by it the others are found */
    char mark[PATH_MAX], path[PATH_MAX];
    for (size_t i = 0; i < 3 && node_dir != NULL && mark_path(node_dir, job_id, task, mark, NULL) == 0; i++) {
        beside_mark(mark, ends[i], path);
        unlink(path);
    }
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

void far_use_tmp_remove(const char *path)
{
    if (path[0] != '\0') {
        (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
}

int far_use_tmp_make(const char *node_dir, uint64_t job_id, uint64_t task, char ret_path[PATH_MAX], struct far_error *err)
{
    char uses[PATH_MAX], path[PATH_MAX];
    int rc = far_use_folder(node_dir, uses, err);
    if (rc != 0) {
        return rc;
    }
    snprintf(path, sizeof path, "%.*s/%llu-%llu.tmp", PATH_MAX - 60, uses, (unsigned long long)job_id, (unsigned long long)task);
    far_use_tmp_remove(path);
    if (mkdir(path, 0700) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "make '%s'", path);
    }
    memcpy(ret_path, path, strlen(path) + 1);
    return 0;
}

static bool is_mark_of_file(const char *mark)
{
    struct far_buf text;
    far_buf_init(&text, PATH_MAX);
    bool is_read = far_file_read(mark, &text, NULL) == 0 && far_buf_append(&text, "", 1) == 0;
    bool is_there = is_read && access((const char *)text.data, F_OK) == 0;
    far_buf_done(&text);
    return is_there;
}

void far_use_sweep(const char *node_dir)
{
    char uses[PATH_MAX], path[2 * PATH_MAX];
    if (node_dir == NULL || snprintf(uses, sizeof uses, "%s/uses", node_dir) >= (int)sizeof uses) {
        return;
    }
    DIR *dir = opendir(uses);
    for (struct dirent *entry = dir != NULL ? readdir(dir) : NULL; entry != NULL; entry = readdir(dir)) {
        const char *end = strrchr(entry->d_name, '.');
        snprintf(path, sizeof path, "%s/%s", uses, entry->d_name);
        if (end != NULL && (strcmp(end, ".sock") == 0 || strcmp(end, ".pid") == 0)) {
            unlink(path);
        }
        if (end != NULL && strcmp(end, ".tmp") == 0) {
            far_use_tmp_remove(path);
        }
        if (end != NULL && strcmp(end, ".mark") == 0 && !is_mark_of_file(path)) {
            char written[PATH_MAX];
            beside_mark(path, "written", written);
            unlink(written);
            unlink(path);
        }
        struct far_use_place place;
        bool is_named = false;
        if (end != NULL && strcmp(end, ".note") == 0 && read_note(path, &place, &is_named)) {
            bool is_whole = is_named && got_name(&place); /* the next attempt of the task learns by the note that it is done */
            unlink(place.part);
            unlink(place.part2);
            if (!is_whole) {
                unlink(path);
            }
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}
