/* A vault on an object store: its packs and small files are there too, and packs may be there alone. Private to the vault.
 *
 * The folder of the vault stays what it is: packs grow in it, the index is in it. It has a file `store` (objects.h) that says
 * where its objects are: below `<prefix><uuid of the vault>/`. A thread carries each pack that is complete to the store, and
 * beside it an index of its records; a small file `00000001.up` notes that it is there. Packs beyond `keep_bytes` then leave the
 * folder, those that were not read for the longest time first; what is read of them comes by ranges of 1 MiB, of which 64 are kept
 * in memory.
 *
 * A point is sealed only when everything that it needs, and its manifest, is in the store: then a lost folder costs nothing that
 * was announced (`far_remote_attach`). Between two points, intermediate checkpoints are durable in the folder alone.
 *
 * One writer: the object `holder` says whose the vault is, by a token that only one folder has. Taking a vault over writes another
 * token, with the next epoch, if nobody else did meanwhile (a conditional PUT). Names of packs in the store have the epoch in
 * which they were written, so that what a former holder still uploads is never taken for a pack of the new one; before a point is
 * announced its writer looks whether it is still the holder.
 *
 * A copy of the holder's folder has the same token. Packs are written only where there is none of that name, and the object `head`
 * has a mark of the last announcement, which only the newest copy knows (remote_head.c): any other refuses to write.
 *
 * Others may read: who attached the vault to read only says so in the store as long as it has it open (remote_readers.c), and
 * packs are neither moved nor removed meanwhile.
 *
 * Locks: `remote.lock` is taken behind the vault's `lock` or alone, never around one of the vault's. */
#ifndef FAR_DATAPLANE_REMOTE_H
#define FAR_DATAPLANE_REMOTE_H

#include "dataplane/pack.h"

struct far_remote;
struct far_vault;

/* ---- the vault's other files call these; each does nothing, or says no, where vault->remote is NULL ---- */

/* At open, before the index: reads `store` and which packs are up. No file `store`: vault->remote stays NULL. FAR_CONFLICT: the
 * vault is to be written and is not this folder's. */
int far_remote_open(struct far_vault *vault, struct far_error *err);
/* FAR_CONFLICT: the folder was attached to read its points only. */
int far_remote_may_write(const char *dir, struct far_error *err);
/* The thread that carries packs begins; only for who writes. */
int far_remote_start(struct far_vault *vault, struct far_error *err);
/* It ends; what is not up yet waits for the next open. */
void far_remote_stop(struct far_vault *vault);
void far_remote_close(struct far_vault *vault);

/* The pack is in the store (whether in the folder, too, or not); its bytes. */
bool far_remote_has(struct far_vault *vault, uint32_t number, uint64_t *ret_size);
/* Bytes of a pack that is in the store. FAR_BUSY: the store does not answer; FAR_CORRUPT: it has lost them. */
int far_remote_read(struct far_vault *vault, uint32_t number, uint64_t offset, size_t len, void *ret_bytes, struct far_error *err);
/* far_pack_scan() of a pack that is only in the store, from its index there; only headers' fields that an index has are filled in:
 * type, codec, domain, id, stored_len. Without a good index: from the pack itself. */
int far_remote_scan(struct far_vault *vault, uint32_t number, uint64_t from, uint64_t to, const struct far_pack_visitor *visitor,
                    uint64_t *ret_end, bool *ret_sealed, struct far_error *err);
/* A nameless file with all of the pack. The caller closes it. */
int far_remote_fetch(struct far_vault *vault, uint32_t number, int *ret_fd, struct far_error *err);
/* A pack of the vault, from the folder or else the store. The caller closes it. FAR_NOT_FOUND: neither has it. */
int far_remote_open_pack(struct far_vault *vault, uint32_t number, int *ret_fd, struct far_error *err);
/* The last pack is complete, and all of them are up: what was put before is in the store when this returns 0. */
int far_remote_settle(struct far_vault *vault, struct far_error *err);
/* A small file of the vault's folder as it is now, "points/7.manifest", is in the store; or is no longer, if there is none. */
int far_remote_push(struct far_vault *vault, const char *name, struct far_error *err);
/* Of a small file that was replaced, in a bucket with versions: the former ones go for good, but for those that the store locks; which
 * stay is logged, and told with the next pass of reclaim. */
int far_remote_drop_versions(struct far_vault *vault, const char *name, struct far_error *err);
/* Asks the store. FAR_CONFLICT: somebody took the vault over; it refuses to write from now on. */
int far_remote_check_holder(struct far_vault *vault, struct far_error *err);
/* FAR_CONFLICT: the store has what this folder does not know, because it is an older copy or there is a second one; it refuses to
 * write from now on. Asks the store once since open. */
int far_remote_check_current(struct far_vault *vault, struct far_error *err);
/* Before a point is announced or anything goes: from here on every older copy of this folder is refused. As above. */
int far_remote_announce(struct far_vault *vault, struct far_error *err);
bool far_remote_is_fenced(struct far_vault *vault); /* it was seen that somebody took the vault over */
/* From here to far_remote_let() the pack is not carried: what its index in the store names is not zero in the store. */
void far_remote_hold(struct far_vault *vault, uint32_t number);
void far_remote_let(struct far_vault *vault);
/* May the pack go? Not while the store locks it. */
bool far_remote_may_go(struct far_vault *vault, uint32_t number);
/* Does somebody elsewhere read the vault? Then packs stay where they are. */
int far_remote_is_read(struct far_vault *vault, bool *ret_read, struct far_error *err);
/* A pack of `removed`: it leaves the store, unless somebody reads the vault; then a later pass tries again. */
int far_remote_drop_pack(struct far_vault *vault, uint32_t number, struct far_error *err);
/* The point's lock and manifest, and every pack that it may need, are locked by the store until then, where it offers that. A
 * point that is not sealed yet: when it is. A pack that the store has lost or cannot read is left out, noted, and tried again later;
 * here it is not asked for again. */
int far_remote_lock(struct far_vault *vault, uint64_t point_id, uint64_t until_ms, struct far_error *err);
/* Before a point is sealed that has a lock: the packs that are there get it, so that not all of them are asked for under the
 * vault's seal_lock. */
int far_remote_lock_ahead(struct far_vault *vault, uint64_t point_id, struct far_error *err);
/* A forgotten point leaves the store, if that answers; else the next pass of reclaim, or the next open, makes it go. */
void far_remote_forget(struct far_vault *vault, uint64_t point_id);
/* Numbers of the packs in folder and store, ascending. */
int far_remote_each_pack(struct far_vault *vault, int (*each)(void *arg, uint64_t number, struct far_error *err), void *arg,
                         struct far_error *err);

#endif
