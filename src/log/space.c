/* Free space of the log's disk, and the reserve file. See space.h. */
#include "log/space.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const uint64_t RESERVE_DEFAULT = 64u << 20, LOW_DEFAULT = 256u << 20, FULL_DEFAULT = 64u << 20;

static void reserve_path(const struct far_space *space, char path[FAR_SPACE_PATH_MAX + 16])
{
    snprintf(path, FAR_SPACE_PATH_MAX + 16, "%s/reserve", space->dir);
}

/* Make the reserve file, all of it or none. */
static void take_reserve(struct far_space *space)
{
    char path[FAR_SPACE_PATH_MAX + 16];
    reserve_path(space, path);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0) {
        return;
    }
    bool good = posix_fallocate(fd, 0, (off_t)space->reserve_bytes) == 0;
    close(fd);
    if (!good) {
        unlink(path);
    }
    space->reserve_given = !good;
}

static int look(struct far_space *space)
{
    struct statvfs fs;
    if (statvfs(space->dir, &fs) != 0) {
        return errno;
    }
    space->free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    return 0;
}

void far_space_look(struct far_space *space)
{
    if (look(space) == 0 && space->reserve_given && space->free_bytes >= space->full_bytes + 2 * space->reserve_bytes) {
        take_reserve(space);
    }
}

int far_space_init(struct far_space *space, const char *dir, uint64_t reserve_bytes, uint64_t low_bytes,
                   uint64_t full_bytes, struct far_error *err)
{
    memset(space, 0, sizeof *space);
    snprintf(space->dir, sizeof space->dir, "%s", dir);
    space->reserve_bytes = reserve_bytes == 0 ? RESERVE_DEFAULT : reserve_bytes;
    space->low_bytes = low_bytes == 0 ? LOW_DEFAULT : low_bytes;
    space->full_bytes = full_bytes == 0 ? FULL_DEFAULT : full_bytes;
    int rc = look(space);
    if (rc != 0) {
        return far_fail_errno(err, FAR_IO, rc, "look at the disk of folder '%s'", dir);
    }
    char path[FAR_SPACE_PATH_MAX + 16];
    reserve_path(space, path);
    space->reserve_given = access(path, F_OK) != 0;
    far_space_look(space);
    return 0;
}

void far_space_give_back(struct far_space *space)
{
    char path[FAR_SPACE_PATH_MAX + 16];
    reserve_path(space, path);
    unlink(path);
    space->reserve_given = true;
}

enum far_space_level far_space_level(const struct far_space *space)
{
    uint64_t free_bytes = space->free_bytes;
    return free_bytes < space->full_bytes ? FAR_SPACE_FULL : free_bytes < space->low_bytes ? FAR_SPACE_LOW : FAR_SPACE_PLENTY;
}

/* Commands without which the cluster falls apart. */
static bool is_of_cluster(const struct far_command *command)
{
    switch (command->kind) {
    case FAR_KIND_cmd_tick:
    case FAR_KIND_cmd_leader_started:
    case FAR_KIND_cmd_cluster_init:
    case FAR_KIND_cmd_server_join:
    case FAR_KIND_cmd_server_role_changed:
    case FAR_KIND_cmd_server_role_set:
    case FAR_KIND_cmd_feature_level_raise:
    case FAR_KIND_cmd_leader_transfer:
    case FAR_KIND_cmd_clock_judge:
        return true;
    default:
        return false;
    }
}

/* Commands that free space or end work, and the own transitions of nodes and servers. */
static bool is_cleanup(const struct far_command *command)
{
    switch (command->kind) {
    case FAR_KIND_cmd_checkpoint_remove:
    case FAR_KIND_cmd_plan_stop:
    case FAR_KIND_cmd_plan_remove:
    case FAR_KIND_cmd_job_cancel:
    case FAR_KIND_cmd_token_revoke:
    case FAR_KIND_cmd_node_remove:
    case FAR_KIND_cmd_node_drain:
    case FAR_KIND_cmd_node_boot:
    case FAR_KIND_cmd_node_report:
    case FAR_KIND_cmd_workload_remove:
    case FAR_KIND_cmd_site_remove:
    case FAR_KIND_cmd_server_key_set:
    case FAR_KIND_cmd_head_propose:
    case FAR_KIND_cmd_head_sign:
    case FAR_KIND_cmd_head_refuse:
    case FAR_KIND_cmd_retention_set:
    case FAR_KIND_cmd_events_cut:
    case FAR_KIND_cmd_progress_compact:
    case FAR_KIND_cmd_entry_skip_order:
    case FAR_KIND_cmd_history_forget:
        return true;
    default:
        return false;
    }
}

int far_space_admit(const struct far_space *space, const struct far_command *command, struct far_error *err)
{
    enum far_space_level level = far_space_level(space);
    if (level == FAR_SPACE_PLENTY || is_of_cluster(command) || (level == FAR_SPACE_LOW && is_cleanup(command))) {
        return 0;
    }
    return far_fail(err, FAR_LIMIT, "the leader's disk has %llu MiB left (folder '%s'); make room there",
                    (unsigned long long)(space->free_bytes >> 20), space->dir);
}
