/* The mark that a folder has held a log: the empty file `log.made`, made once something is durable in the WAL.
 *
 * A server whose WAL and state are gone would start as if it were new, vote again under its old id, and could so help to
 * elect a leader that lacks what the old one acknowledged (DESIGN.md section 6). With the mark it knows, and must rejoin
 * as a new server. */
#include "log/log_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

/* Is there any file in the folder dir/wal? */
static bool has_wal(const char *dir)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/wal", dir);
    DIR *folder = opendir(path);
    bool found = false;
    for (struct dirent *entry; folder != NULL && !found && (entry = readdir(folder)) != NULL;) {
        found = entry->d_name[0] != '.';
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return found;
}

static void mark_path(const char *dir, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/log.made", dir);
}

int far_log_check_made(struct far_log *log, struct far_error *err)
{
    char path[PATH_BYTES];
    mark_path(log->config.dir, path);
    log->is_marked = access(path, F_OK) == 0;
    if (log->is_marked && !has_wal(log->config.dir)) {
        return far_fail(err, FAR_CORRUPT, "the log of folder '%s' is gone: this server lost its memory and must rejoin as a new "
                        "one, with a new join token", log->config.dir);
    }
    return 0;
}

void far_log_mark_made(struct far_log *log)
{
    char path[PATH_BYTES];
    if (log->is_marked || (log->told_stored_index == 0 && log->applied_index == 0)) {
        return;
    }
    mark_path(log->config.dir, path);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        return; /* a full disk: again at the next beat */
    }
    log->is_marked = fsync(fd) == 0 && fsync(log->lock_fd) == 0;
    close(fd);
}
