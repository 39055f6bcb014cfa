/* Locks of points, and the vault's own sense of time.
 *
 * A locked point is not forgotten before its date, whoever orders it: the vault does not take the cluster's word for what time it is.
 * Its time is its own, kept in the file `clock`. It never goes back, and it goes forward only by what the machine's clock shows *and*
 * explains: the time that the machine ran since the last look (CLOCK_BOOTTIME of the same boot), or has run since it booted. What is
 * beyond that is believed up to an hour, and a 64th of all the time explained since an operator last confirmed the clock: machines are
 * switched off for a while, and clocks are corrected. Beyond, the clock is distrusted: the vault's time goes on by what is explained
 * alone, which is at worst too slow, until the clock is right again, or an operator confirms it at the vault
 * (`farshore-node vault confirm-time`).
 *
 * What this promises: nobody who has the cluster, or sets the clock of this machine, forgets a locked point early. What it does not:
 * whoever may write to the vault's folder can remove what is in it, lock or not.
 *
 * Any thread; several processes take turns by a lock on the file `clock.lock`. */
#ifndef FAR_DATAPLANE_VAULT_LOCK_H
#define FAR_DATAPLANE_VAULT_LOCK_H

#include "dataplane/vault.h"

/* ---- the clock alone: pure ---- */

struct far_vault_clock {
    uint64_t time_ms;        /* the vault's; 0: never looked at */
    uint64_t boot_ms;        /* CLOCK_BOOTTIME when it was that time */
    uint8_t boot_id[16];     /* of that boot */
    uint64_t explained_ms;   /* since it was confirmed */
    uint64_t unexplained_ms; /* of the time since, that was believed */
};
struct far_vault_now {
    uint64_t wall_ms;
    uint64_t boot_ms;
    uint8_t boot_id[16];
};
/* Look at the clocks. Returns whether the machine's clock is believed; *clock moves on (or stays, never back). */
bool far_vault_clock_look(struct far_vault_clock *clock, const struct far_vault_now *now);
/* An operator says that the machine's clock is right. Never back, though. */
void far_vault_clock_confirm(struct far_vault_clock *clock, const struct far_vault_now *now);

/* ---- in a vault ---- */

struct far_vault_time {
    uint64_t time_ms;
    uint64_t wall_ms;
    bool is_trusted;
};
/* The vault's time, durably kept. To be called now and then, so that what passes is explained: at least each half hour. FAR_CORRUPT: the
 * file is damaged; only far_vault_time_confirm() mends it. */
int far_vault_time(struct far_vault *vault, struct far_vault_time *ret_time, struct far_error *err);
int far_vault_time_confirm(const char *dir, struct far_vault_time *ret_time, struct far_error *err);

/* The point is not forgotten before until_ms, durably; an earlier lock is only lengthened, also one that is damaged, as far as its date
 * can be (else FAR_CORRUPT). There need be no such point yet. FAR_CONFLICT: it was forgotten. */
int far_vault_lock(struct far_vault *vault, uint64_t point_id, uint64_t until_ms, struct far_error *err);
/* 0: it was never locked. FAR_CORRUPT: the lock is there and cannot be read; locking again mends it, and shortens nothing. */
int far_vault_lock_until(struct far_vault *vault, uint64_t point_id, uint64_t *ret_until_ms, struct far_error *err);
/* FAR_DENIED: the point is locked now, by the vault's time. FAR_CORRUPT: it cannot be told, so it is. */
int far_vault_lock_check(struct far_vault *vault, uint64_t point_id, struct far_error *err);
/* The same for every point of a dedup domain, whose keys are to be forgotten. */
int far_vault_lock_check_domain(struct far_vault *vault, const uint8_t uuid[16], struct far_error *err);
/* The point is gone: so is its lock. */
int far_vault_lock_drop(struct far_vault *vault, uint64_t point_id, struct far_error *err);

#endif
