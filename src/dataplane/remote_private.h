/* Shared by the files of remote.h only. */
#ifndef FAR_DATAPLANE_REMOTE_PRIVATE_H
#define FAR_DATAPLANE_REMOTE_PRIVATE_H

#include "dataplane/remote.h"
#include "dataplane/vault_private.h"
#include "dataplane/vault_store.h"

enum {
    FAR_REMOTE_RANGE_BYTES = 1 << 20,
    FAR_REMOTE_RANGES = 64, /* kept in memory */
    FAR_REMOTE_NAMES = 64,  /* small files of which it is known what the store has */
    FAR_REMOTE_NAME_MAX = 96,
};

/* One pack that is in the store. */
struct far_remote_pack {
    uint32_t number;
    uint32_t epoch; /* in which it was carried there: part of its name */
    uint64_t size;
    uint64_t retain_until_ms; /* object lock; 0: none */
    uint64_t used_at;         /* tick of the last read; packs in the folder go by it */
    bool is_here;             /* in the folder, too */
    uint64_t wanted_until_ms; /* it is to be locked until then and could not be; 0: it is, as far as it should. Not in its file */
    char version[136];        /* "": the bucket keeps none */
};

struct far_remote_range {
    uint32_t pack; /* 0: free */
    uint32_t index;
    uint32_t users;
    bool is_loaded;
    uint64_t used_at;
    uint8_t *bytes;
};

/* Who owns the vault. */
struct far_remote_holder {
    uint64_t epoch;
    uint64_t since_ms;
    uint8_t token[16];
    char name[64]; /* of the machine */
};
enum { FAR_REMOTE_HOLDER_BYTES = 128 };

/* The last thing that this folder announced (remote_head.c). */
struct far_remote_head {
    uint64_t epoch;
    uint64_t sequence; /* for people */
    uint8_t mark[16];
    uint8_t before[16]; /* the mark before it */
};

struct far_remote {
    struct far_objects *objects; /* below <prefix><uuid>/ */
    uint64_t keep_bytes;
    struct far_remote_holder holder; /* this folder; epoch 0: it only reads */

    pthread_mutex_t head_lock; /* what is said in the store before something is announced; taken alone, around requests */
    struct far_remote_head head;
    char head_etag[72];
    bool head_is_known; /* the store was asked */
    bool head_is_there; /* it has this mark */

    pthread_mutex_t push_lock; /* a small file is read and put wholly before it is so again: no older one comes behind. Before `lock` */
    pthread_mutex_t up_lock;   /* files `.up` of packs that are in the table are written, and go with it. Before `lock` */
    pthread_mutex_t lock; /* what follows */
    pthread_cond_t changed;
    struct far_remote_pack *packs; /* by number, ascending */
    size_t count, room;
    uint64_t tick;
    struct far_remote_range ranges[FAR_REMOTE_RANGES];
    uint64_t ranges_read, bytes_read;

    char reader_key[32]; /* the object by which the holder knows that this process reads; "": it is the holder's folder */

    /* the carrier (of a reader elsewhere: what keeps its object young): its thread */
    pthread_t thread;
    uint32_t carried; /* pack that is on its way to the store: its bytes and its list of dead ranges stay as they are */
    uint32_t buried;  /* pack of which something is being zeroed: it is not carried meanwhile */
    bool is_started;
    bool runs;
    bool is_asked;   /* go round now */
    bool is_ending;
    uint64_t rounds_begun, rounds_done; /* a round carries everything that was complete when it began */
    int round_rc;                       /* of the last one */
    struct far_error round_error;
    uint32_t opened_last; /* the last pack that was complete when the vault was opened */
    bool is_known_young;  /* the store has nothing that this folder carried there and does not know; the carrier's own */
    bool points_settled; /* far_remote_settle_points() was done; the carrier's own */
    bool locks_settled;  /* far_remote_settle_locks() was done; the carrier's own */
    bool locks_refused;
    size_t unlocked;       /* packs that have wanted_until_ms */
    char unlocked_why[256]; /* of the one that failed last */
    char stays[256];        /* what was to be erased, and stays; "" */
    bool is_fenced; /* somebody took the vault over */

    struct {
        char name[FAR_REMOTE_NAME_MAX];
        uint64_t sum;
    } names[FAR_REMOTE_NAMES];
    size_t name_count;
};

/* remote.c; remote->lock is held */
struct far_remote_pack *far_remote_find(struct far_remote *remote, uint32_t number);
uint32_t far_remote_after(const struct far_remote *remote, uint32_t number); /* the next one; 0: there is none */
int far_remote_add(struct far_remote *remote, const struct far_remote_pack *pack, struct far_error *err);
/* The file `00000001.up`, durable. */
int far_remote_up_write(const char *packs_dir, const uint8_t vault_uuid[16], const struct far_remote_pack *pack, struct far_error *err);
int far_remote_up_read(const char *packs_dir, const uint8_t vault_uuid[16], uint32_t number, struct far_remote_pack *ret_pack,
                       struct far_error *err);
void far_remote_key(uint32_t number, uint32_t epoch, const char *suffix, char *key, size_t len);
/* "packs/00000007.e2.pack" with ".pack": 7 and 2; false for anything else. */
bool far_remote_key_parse(const char *key, const char *suffix, uint32_t *ret_number, uint32_t *ret_epoch);
/* The client for one vault of a store: options->prefix with the uuid behind it. */
int far_remote_client(const struct far_objects_options *options, const char *uuid_hex, struct far_objects **ret_objects,
                      struct far_error *err);

/* remote_holder.c */
void far_remote_holder_make(struct far_remote_holder *ret_holder, uint64_t epoch);
int far_remote_holder_read(struct far_objects *objects, struct far_remote_holder *ret_holder, char ret_etag[72], struct far_error *err);
/* etag NULL: there is none yet. FAR_CONFLICT: somebody else was faster. */
int far_remote_holder_put(struct far_objects *objects, const struct far_remote_holder *holder, const char *etag, struct far_error *err);
/* From now on this process writes nothing to the vault. */
void far_remote_fence(struct far_vault *vault);
/* The file `holder` of a folder. FAR_NOT_FOUND: it only reads. */
int far_remote_holder_load(const char *dir, struct far_remote_holder *ret_holder, struct far_error *err);
/* The object by which who attaches the vault says so to whom it was taken from. */
void far_remote_holder_key(const struct far_remote_holder *holder, char ret_key[32]);
int far_remote_holder_save(const char *dir, const struct far_remote_holder *holder, struct far_error *err);

/* remote_readers.c: of a vault whose holder is elsewhere */
int far_remote_reader_say(struct far_vault *vault, struct far_error *err);
int far_remote_reader_start(struct far_vault *vault, struct far_error *err);
void far_remote_reader_leave(struct far_remote *remote);

/* remote_points.c: FAR_CONFLICT: the store has packs that this folder carried there, and it does not know them: it is a copy of before,
 * and refuses to write from now on. */
int far_remote_check_age(struct far_vault *vault, struct far_error *err);
/* The store has the points of the folder and no others. Called by the carrier, when all packs are there. */
int far_remote_settle_points(struct far_vault *vault, struct far_error *err);

/* remote_keep.c: packs that could not be locked are tried again; once since open it is looked which ones should be. By the carrier. */
int far_remote_settle_locks(struct far_vault *vault, struct far_error *err);
int far_remote_lock_again(struct far_vault *vault, struct far_error *err);

/* remote_pack.c: the index of a complete pack, made from its file. */
int far_remote_index_make(struct far_vault *vault, uint32_t number, int fd, uint64_t size, struct far_buf *ret_bytes,
                          struct far_error *err);

#endif
