/* The vault's own time: see vault_lock.h. */
#include "dataplane/vault_lock.h"
#include "dataplane/vault_private.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

enum { CLOCK_BYTES = 80, HOUR_MS = 3600000, SHARE = 64 };
static const char magic[8] = "FARCLOCK";
enum { VERSION = 1 };

/* ---- pure ---- */

bool far_vault_clock_look(struct far_vault_clock *clock, const struct far_vault_now *now)
{
    if (clock->time_ms == 0) {
        far_vault_clock_confirm(clock, now);
        return true;
    }
    bool is_same_boot = memcmp(clock->boot_id, now->boot_id, sizeof now->boot_id) == 0 && now->boot_ms >= clock->boot_ms;
    uint64_t explained_ms = is_same_boot ? now->boot_ms - clock->boot_ms : now->boot_ms;
    uint64_t credit_ms = HOUR_MS + (clock->explained_ms + explained_ms) / SHARE;
    credit_ms = credit_ms > clock->unexplained_ms ? credit_ms - clock->unexplained_ms : 0;
    uint64_t due_ms = clock->time_ms + explained_ms;
    bool is_trusted = now->wall_ms <= due_ms + credit_ms;
    uint64_t time_ms = is_trusted ? now->wall_ms : due_ms;
    if (time_ms <= clock->time_ms) {
        return is_trusted; /* behind: what passes is still explained when it has been set right */
    }
    clock->unexplained_ms += time_ms > due_ms ? time_ms - due_ms : 0;
    clock->explained_ms += explained_ms;
    clock->time_ms = time_ms;
    clock->boot_ms = now->boot_ms;
    memcpy(clock->boot_id, now->boot_id, sizeof clock->boot_id);
    return is_trusted;
}

void far_vault_clock_confirm(struct far_vault_clock *clock, const struct far_vault_now *now)
{
    uint64_t time_ms = now->wall_ms > clock->time_ms ? now->wall_ms : clock->time_ms;
    *clock = (struct far_vault_clock){.time_ms = time_ms > 0 ? time_ms : 1, .boot_ms = now->boot_ms};
    memcpy(clock->boot_id, now->boot_id, sizeof clock->boot_id);
}

/* ---- the file ---- */

static void encode(const struct far_vault_clock *clock, uint8_t bytes[CLOCK_BYTES])
{
    memset(bytes, 0, CLOCK_BYTES);
    memcpy(bytes, magic, sizeof magic);
    far_put_le32(bytes + 8, VERSION);
    far_put_le64(bytes + 16, clock->time_ms);
    far_put_le64(bytes + 24, clock->boot_ms);
    memcpy(bytes + 32, clock->boot_id, 16);
    far_put_le64(bytes + 48, clock->explained_ms);
    far_put_le64(bytes + 56, clock->unexplained_ms);
    far_put_le64(bytes + 72, far_hash64(bytes, 72));
}

static int decode(struct far_slice bytes, const char *path, struct far_vault_clock *ret_clock, struct far_error *err)
{
    const uint8_t *b = bytes.data;
    if (bytes.len != CLOCK_BYTES || memcmp(b, magic, sizeof magic) != 0 || far_get_le64(b + 72) != far_hash64(b, 72)) {
        return far_fail(err, FAR_CORRUPT,
                        "'%s' is damaged, so the vault does not know what time it is; 'farshore-node vault confirm-time' mends it", path);
    }
    if (far_get_le32(b + 8) != VERSION) {
        return far_fail(err, FAR_CORRUPT, "'%s' is of version %u, which this program does not know", path, far_get_le32(b + 8));
    }
    *ret_clock = (struct far_vault_clock){.time_ms = far_get_le64(b + 16),
                                          .boot_ms = far_get_le64(b + 24),
                                          .explained_ms = far_get_le64(b + 48),
                                          .unexplained_ms = far_get_le64(b + 56)};
    memcpy(ret_clock->boot_id, b + 32, 16);
    return 0;
}

static int read_clock(const char *path, struct far_vault_clock *ret_clock, struct far_error *err)
{
    struct far_buf buf;
    far_buf_init(&buf, 4096);
    *ret_clock = (struct far_vault_clock){.time_ms = 0};
    int rc = far_file_read(path, &buf, err);
    rc = rc == 0 ? decode(far_buf_slice(&buf), path, ret_clock, err) : rc == FAR_NOT_FOUND ? 0 : rc;
    far_buf_done(&buf);
    return rc;
}

static void read_now(struct far_vault_now *ret)
{
    ret->wall_ms = far_clock_wall_ms();
    ret->boot_ms = far_clock_boot_ms();
    far_clock_boot_id(ret->boot_id);
}

/* One process at a time between reading the file and writing it. */
static int take_turn(const char *dir, int *ret_fd, struct far_error *err)
{
    char path[FAR_DIR_MAX + 32];
    snprintf(path, sizeof path, "%s/clock.lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || flock(fd, LOCK_EX) != 0) {
        int number = errno;
        if (fd >= 0) {
            close(fd);
        }
        return far_fail_errno(err, FAR_IO, number, "lock '%s'", path);
    }
    *ret_fd = fd;
    return 0;
}

/* confirm: whatever the file says. */
static int look(const char *dir, bool confirm, struct far_vault_time *ret_time, struct far_error *err)
{
    char path[FAR_DIR_MAX + 32];
    uint8_t bytes[CLOCK_BYTES];
    struct far_vault_clock clock, before;
    struct far_vault_now now;
    int fd = -1;
    snprintf(path, sizeof path, "%s/clock", dir);
    int rc = take_turn(dir, &fd, err);
    if (rc != 0) {
        return rc;
    }
    rc = read_clock(path, &clock, err);
    if (rc == FAR_CORRUPT && confirm) {
        clock = (struct far_vault_clock){.time_ms = 0};
        rc = 0;
    }
    before = clock;
    read_now(&now);
    bool is_trusted = true;
    if (confirm) {
        far_vault_clock_confirm(&clock, &now);
    } else {
        is_trusted = far_vault_clock_look(&clock, &now);
    }
    if (rc == 0 && memcmp(&before, &clock, sizeof clock) != 0) {
        encode(&clock, bytes);
        rc = far_file_replace(path, bytes, sizeof bytes, 0600, err);
    }
    close(fd);
    if (rc == 0) {
        *ret_time = (struct far_vault_time){.time_ms = clock.time_ms, .wall_ms = now.wall_ms, .is_trusted = is_trusted};
    }
    return rc;
}

int far_vault_time(struct far_vault *vault, struct far_vault_time *ret_time, struct far_error *err)
{
    return look(vault->dir, false, ret_time, err);
}

int far_vault_time_confirm(const char *dir, struct far_vault_time *ret_time, struct far_error *err)
{
    return strlen(dir) < FAR_DIR_MAX ? look(dir, true, ret_time, err) : far_fail(err, FAR_INVALID, "the path of the vault is too long");
}
