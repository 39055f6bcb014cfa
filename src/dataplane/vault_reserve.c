/* The vault's reserve: a file of some MiB that holds nothing, so that a pass of reclaim can begin, and give space back, also when the disk
 * is full (vault_private.h). Who comes too late to make one goes without. */
#define _GNU_SOURCE
#include "dataplane/vault_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define RESERVE_BYTES (4ll << 20)

static void path_of(const struct far_vault *vault, char *path, size_t len)
{
    snprintf(path, len, "%s/reserve", vault->dir);
}

void far_vault_reserve_keep(struct far_vault *vault)
{
    char path[FAR_DIR_MAX + 16];
    path_of(vault, path, sizeof path);
    int fd = vault->read_only ? -1 : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return; /* it is there, or cannot be */
    }
    bool is_kept = fallocate(fd, 0, 0, RESERVE_BYTES) == 0;
    close(fd);
    if (!is_kept) {
        unlink(path);
    }
}

bool far_vault_reserve_release(struct far_vault *vault)
{
    char path[FAR_DIR_MAX + 16];
    path_of(vault, path, sizeof path);
    return unlink(path) == 0;
}
