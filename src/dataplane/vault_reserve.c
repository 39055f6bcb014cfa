/* The vault's reserve: a file of some MiB that holds nothing, so that a vault can be opened, and a pass of reclaim can begin and give
 * space back, also when the disk is full (vault_private.h). Who comes too late to make one goes without; or with a smaller one. */
#define _GNU_SOURCE
#include "dataplane/vault_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const off_t sizes[] = {4 << 20, 1 << 20, 256 << 10};

static void path_of(const struct far_vault *vault, char *path, size_t len)
{
    snprintf(path, len, "%s/reserve", vault->dir);
}

static bool make(const char *path, off_t size)
{
    struct stat st;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    bool is_kept = fd >= 0 && fstat(fd, &st) == 0 && (st.st_size >= size || fallocate(fd, 0, 0, size) == 0);
    if (fd >= 0) {
        close(fd);
    }
    if (!is_kept) {
        unlink(path);
    }
    return is_kept;
}

void far_vault_reserve_keep(struct far_vault *vault)
{
    char path[FAR_DIR_MAX + 16];
    path_of(vault, path, sizeof path);
    bool is_kept = vault->read_only;
    for (size_t i = 0; !is_kept && i < sizeof sizes / sizeof sizes[0]; i++) {
        is_kept = make(path, sizes[i]);
    }
}

bool far_vault_reserve_release(struct far_vault *vault)
{
    char path[FAR_DIR_MAX + 16];
    path_of(vault, path, sizeof path);
    return !vault->read_only && unlink(path) == 0;
}
