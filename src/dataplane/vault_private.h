/* Shared by the files of the vault only: what a vault is, and who guards which part of it.
 *
 * Order of locks: pass_lock, seal_lock, replicas_lock, a replica's lock, sync_lock, finding, lock; domains_lock behind seal_lock and before
 * lock; pages.lock is taken alone. Reading a pack file needs none. */
#ifndef FAR_DATAPLANE_VAULT_PRIVATE_H
#define FAR_DATAPLANE_VAULT_PRIVATE_H

#include "dataplane/pack.h"
#include "dataplane/vault_dead.h"
#include "dataplane/vault.h"
#include "dataplane/vault_index.h"
#include "dataplane/vault_trust.h"

#include <pthread.h>

enum {
    FAR_WAITING_MAX = 16384,   /* names not yet in the index */
    FAR_WAITING_SLOTS = 32768, /* of the table that holds them */
    FAR_DAMAGED_MAX = 1024,    /* damaged places remembered; beyond, the oldest are forgotten */
    FAR_PAGE_WAYS = 4,
    FAR_DIR_MAX = 3000,
};

/* Names that wait for the index: a hash table with open addressing; place.pack 0 = free. */
struct far_waiting {
    struct far_index_entry *slots;
    size_t count;
};

struct far_cached_page {
    struct far_hash256 id;
    uint64_t used_at; /* 0 = free */
    struct far_hash256 children[FAR_MAP_FANOUT];
};

/* Clean pages by their id in the store; sets of four, the one not used for the longest time gives way. */
struct far_pages {
    pthread_mutex_t lock;
    struct far_cached_page *slots;
    size_t sets;
    uint64_t tick;
};

/* What reclaim has to know of those that go on meanwhile: see reclaim.h and vault_reclaim.c. */
enum { FAR_FOUND_BITS = 1 << 23 };
struct far_reclaim_state {
    pthread_mutex_t pass_lock; /* one pass at a time */
    pthread_mutex_t seal_lock; /* a point is sealed wholly before a mark, or wholly behind it; it is locked or forgotten, one of them
                                * first. Before any other lock */
    pthread_rwlock_t finding;  /* shared: whoever looks whether a record is there, to build on it; alone: who deletes */
    bool runs;                 /* under `finding` */
    struct far_place mark;     /* what lies behind is newer than the pass */
    uint8_t *found;            /* bits of ids that nobody needed yet and somebody found since the mark; NULL: no pass yet */
};

struct far_vault {
    char dir[FAR_DIR_MAX];
    bool read_only;
    int lock_fd;
    int readers_fd; /* who only reads holds a shared flock: packs stay where they are */
    uint8_t uuid[16];
    uint8_t seed[32]; /* of the Ed25519 key */
    uint8_t public_key[32];
    uint8_t former_keys[FAR_FORMER_KEYS][32];
    size_t former_count;
    struct far_remote *remote; /* remote.h; NULL: everything is in the folder */
    struct far_index *index;
    char index_dir[FAR_DIR_MAX + 64];
    bool index_is_temporary;
    pthread_mutex_t sync_lock; /* one sync at a time */
    pthread_mutex_t lock;      /* everything below it */
    struct far_packs packs;
    struct far_waiting waiting;    /* put since the last sync began */
    struct far_waiting committing; /* on their way into the index */
    uint64_t commits; /* of names into the index, since open */
    struct far_place committing_end;
    struct far_place durable; /* everything before it is on the disk */
    bool broken;              /* a sync failed: what was written may be gone */
    struct far_place damaged[FAR_DAMAGED_MAX];
    size_t damaged_count;
    struct far_vault_stats stats;
    struct far_pages pages;
    pthread_mutex_t domains_lock; /* the list below; before `lock` */
    struct far_domain *domains[FAR_DOMAINS_MAX];
    size_t domain_count;
    struct far_point *points; /* open ones, under lock */
    struct far_removed removed; /* packs that are gone; only open and a pass change it */
    struct far_reclaim_state reclaim;
    uint64_t dirty_pages_max; /* of all replicas together */
    uint64_t replicas_open;   /* atomic: they share dirty_pages_max */
    pthread_mutex_t replicas_lock;
    struct far_replica *replicas; /* open ones that are not fenced off */
};

/* vault.c */
int far_waiting_init(struct far_waiting *waiting, struct far_error *err);
/* Where the record with this id of the store is (far_domain_id()); ret_place->pack 0 if nowhere. */
int far_vault_find(struct far_vault *vault, const struct far_hash256 *id, struct far_place *ret_place,
                   struct far_error *err);
/* Store a record unless it is there. record->id is the hash; id and sum are filled in as they go into the pack. */
int far_vault_store(struct far_vault *vault, const struct far_domain *domain, struct far_record *record, const void *stored,
                    struct far_error *err);
/* Read and check a record of this type and hash into raw_len bytes. Damage is noted and named. */
int far_vault_load(struct far_vault *vault, const struct far_domain *domain, uint8_t type, const struct far_hash256 *hash,
                   void *ret_raw, size_t raw_len, struct far_error *err);
/* The same of a block, as it would be put: still compressed, but decrypted. */
struct far_packed {
    enum far_codec codec;
    size_t len;
    uint8_t data[FAR_BLOCK_BYTES + FAR_SEALED_OVERHEAD];
};
/* ret_raw: the block, checked (SHA-256), 64 KiB. */
int far_vault_get_packed(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *hash,
                         struct far_packed *ret_packed, void *ret_raw, struct far_error *err);
#define FAR_WRONG_BLOCK "the block is not the one of its id (SHA-256)"
/* The record is there but not what its id says (SHA-256): note it; returns FAR_CORRUPT with a message that names it. */
int far_vault_note_wrong(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *hash,
                         const char *what, struct far_error *err);
/* A record goes to the end of the packs, as it is stored; where it was is doomed when the index has its new place. What somebody
 * stored again meanwhile stays where it is. */
int far_vault_move(struct far_vault *vault, const struct far_record *record, const void *stored, struct far_error *err);
void far_vault_note_damage(struct far_vault *vault, struct far_place place, const char *text);
int far_vault_check_writable(struct far_vault *vault, struct far_error *err);

/* vault_repair.c */
#define FAR_INDEX_COMPLETE UINT32_MAX /* as the pack of an index's position: the packs need no walk */
/* The highest position before which everything is known to have been durable, at least `indexed`. */
int far_vault_find_durable(struct far_vault *vault, struct far_place indexed, struct far_place *ret_durable,
                           struct far_error *err);
/* Cut the torn tail, note damage, bring the index up to date from `indexed` on, make ready to write. */
int far_vault_repair(struct far_vault *vault, struct far_place indexed, struct far_error *err);
/* The last pack ends where everything before it is known to have been durable, at least `indexed`; rows of the index may name what was
 * behind. False: there is nothing worth it, or it is not known (no index: what was moved is durable by it alone). After a failed open. */
bool far_vault_cut_unacknowledged(struct far_vault *vault, struct far_place indexed);

/* vault_pages.c */
int far_pages_init(struct far_pages *pages, uint64_t bytes_max, struct far_error *err);
void far_pages_done(struct far_pages *pages);
/* The children of a page at a level of pages (0: its children are leaves). */
int far_vault_page(struct far_vault *vault, const struct far_domain *domain, unsigned level, const struct far_hash256 *hash,
                   struct far_hash256 ret_children[FAR_MAP_FANOUT], struct far_error *err);
/* The page at the top of a point's tree. */
const struct far_hash256 *far_point_top(const struct far_point *point);
int far_vault_store_page(struct far_vault *vault, const struct far_domain *domain, unsigned level,
                         const struct far_hash256 children[FAR_MAP_FANOUT], struct far_hash256 *ret_hash, struct far_error *err);
/* The size and the top page that belong to a root. */
int far_vault_root_load(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *root,
                        uint64_t *ret_size_bytes, struct far_hash256 *ret_top, struct far_error *err);
int far_vault_root_store(struct far_vault *vault, const struct far_domain *domain, uint64_t size_bytes,
                         const struct far_hash256 *top, struct far_hash256 *ret_root, struct far_error *err);

/* vault_domain.c */
int far_vault_domains_list(struct far_vault *vault, struct far_error *err); /* at open: which there are */
void far_vault_domains_done(struct far_vault *vault);
/* vault_open.c: the vault says that it holds encrypted records, durably; a program that knows none refuses it from now on. */
int far_vault_mark_keyed(struct far_vault *vault, struct far_error *err);
/* A folder whose key is lost gets a new one; what the old one signed still holds (`vault.former`). */
int far_vault_renew_key(const char *dir, struct far_error *err);

/* vault_reserve.c */
/* Gives the reserve's space back to whoever needs it now; false: there was none. */
bool far_vault_reserve_release(struct far_vault *vault);

/* vault_key.c */
int far_vault_key_make(uint8_t ret_seed[32], uint8_t ret_public[32], struct far_error *err);
int far_vault_public_of(const uint8_t seed[32], uint8_t ret_public[32], struct far_error *err);

/* replica_file.c */
struct far_replica_file {
    uint64_t disk_id;
    struct far_fence fence; /* the highest ever */
    uint16_t domain; /* number; 0: the plain one */
    uint64_t size_bytes;
    struct far_hash256 top;
    uint64_t job;
    uint64_t frontier_blocks;
    char freeze_ref[129];
    struct far_place durable;
};
enum { FAR_REPLICA_FILE_BYTES = 320 };
void far_replica_file_encode(const struct far_replica_file *file, uint8_t ret_bytes[FAR_REPLICA_FILE_BYTES]);
int far_replica_file_decode(struct far_slice bytes, struct far_replica_file *ret_file, struct far_error *err);
int far_replica_file_read(const struct far_vault *vault, uint64_t disk_id, struct far_replica_file *ret_file,
                          struct far_error *err);
int far_replica_file_write(const struct far_vault *vault, const struct far_replica_file *file, struct far_error *err);
/* Calls each for every name in the vault's folder `sub` of the form <number><suffix>, ascending. */
int far_vault_each_number(const char *dir, const char *suffix,
                          int (*each)(void *arg, uint64_t number, struct far_error *err), void *arg,
                          struct far_error *err);

/* vault_bury.c: the file of a pack that is named in `removed`, and its list of dead ranges. */
int far_vault_remove_pack(struct far_vault *vault, uint32_t number, struct far_error *err);

/* replica_mend.c: one that is damaged anew, durably, from the newest point of its disk, or an empty one. FAR_DENIED: that point's domain
 * is locked; *ret_file names it. replicas_lock is held, and no handle is open. */
int far_replica_file_remake(struct far_vault *vault, uint64_t disk_id, struct far_replica_file *ret_file, struct far_error *err);
/* replica.c: as far_replica_file_read(), but what is damaged is made anew if the vault is open for writing. FAR_DENIED: as above. */
int far_replica_file_mend(struct far_vault *vault, uint64_t disk_id, struct far_replica_file *ret_file, struct far_error *err);
/* replica.c: its files are gone, with its fence: only where no log knows the disk. FAR_BUSY: it is open. */
int far_replica_drop(struct far_vault *vault, uint64_t disk_id, struct far_error *err);
bool far_replica_is_open(struct far_vault *vault, uint64_t disk_id);
/* replica.c: every open replica's tree as it is now is durable. */
int far_vault_settle_replicas(struct far_vault *vault, struct far_error *err);

/* vault_point.c */
struct far_vault *far_point_vault(const struct far_point *point);
/* Is a point with one of these roots open in this process? */
bool far_vault_root_is_open(struct far_vault *vault, const struct far_hash256 *root);
/* Finds everything that a tree has and `known` (size 0: nothing) has not, so that no pass deletes it. FAR_NOT_FOUND: not all of it is
 * there. A tree that is needed by a counted point or a replica costs nothing. */
int far_vault_hold_tree(struct far_vault *vault, const struct far_domain *domain, uint64_t size_bytes,
                        const struct far_hash256 *top, const struct far_hash256 *known_top, uint64_t known_size_bytes,
                        struct far_error *err);

/* vault_seal.c */
#define FAR_FORGOTTEN ".forgotten" /* in place of ".manifest": reclaim has still to let go of it */
/* The same without a look at its signature: a guess, only checked for damage. */
int far_vault_manifest_peek(const struct far_vault *vault, uint64_t point_id, struct far_manifest *ret_manifest, struct far_error *err);
/* The manifest of a forgotten point. */
int far_vault_forgotten_read(const struct far_vault *vault, uint64_t point_id, struct far_manifest *ret_manifest,
                             struct far_error *err);
int far_vault_manifest_read(const struct far_vault *vault, uint64_t point_id, struct far_manifest *ret_manifest,
                            struct far_error *err);

#endif
