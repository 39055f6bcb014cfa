/* Vaults on an object store, as operators see them: binding a vault to a store, bringing one back from it. remote.h says how it works. */
#ifndef FAR_DATAPLANE_VAULT_STORE_H
#define FAR_DATAPLANE_VAULT_STORE_H

#include "dataplane/vault.h"
#include "objects/objects.h"

/* From now on the packs of the vault in `dir`, which nobody has open, go to this store. waits: there is such a vault, and all that it
 * has is in the store when this returns 0; else one is made if need be, and whoever opens it next carries it there. Again with the
 * same store is 0.
 * FAR_CONFLICT: it is on another one, or the store has a vault of this uuid that is another folder's. */
int far_vault_store_bind(const char *dir, const struct far_objects_options *store, bool waits, struct far_error *err);

struct far_store_attach {
    char uuid[33];   /* which vault, in hexadecimal; "": the only one that the store has */
    bool read_only;  /* only to read its points; whoever owns it goes on. A folder that was attached so is brought up to date. */
    bool take_over;  /* although another folder owns it: that one is refused from now on */
    const char *key_said_by; /* who says which fingerprint its keys have (vault_trust.h): "--key"; NULL: nobody, and only what this very
                                folder believed before counts */
    uint8_t fingerprint[32];
};
/* Why the keys in the store are believed. */
enum far_store_trust { FAR_STORE_FIRST_USE, FAR_STORE_AS_BEFORE, FAR_STORE_AS_SAID };
struct far_store_attached {
    char uuid[33];
    uint64_t packs, pack_bytes, points;
    uint64_t epoch;
    char former_holder[64]; /* name of the machine that it was taken from; "" */
    uint64_t hidden;        /* objects that somebody hid behind delete markers, and that were taken all the same (lock_mode) */
    enum far_store_trust trust;
    uint8_t there[32]; /* fingerprint of the keys in the store */
    uint8_t here[32];  /* of the folder's: another one where it was taken over, with a key of its own */
};
/* Makes the folder of a vault from what is in the store. FAR_NOT_FOUND: no such vault; FAR_CONFLICT: `dir` is there and is another
 * one, or the vault is held by another folder and not to be taken over. FAR_DENIED: its keys are not those that are believed; nothing
 * was changed. An attach that was interrupted is done again. */
int far_vault_store_attach(const char *dir, const struct far_objects_options *store, const struct far_store_attach *what,
                           struct far_store_attached *ret_attached, struct far_error *err);

/* Each vault of a store: uuid in hexadecimal, who owns it. */
int far_vault_store_list(const struct far_objects_options *store,
                         int (*each)(void *arg, const char *uuid, const char *holder, uint64_t since_ms, struct far_error *err), void *arg,
                         struct far_error *err);

/* The uuid of the only vault of a store. FAR_NOT_FOUND: it has none; FAR_CONFLICT: several. */
int far_vault_store_only(const struct far_objects_options *store, char ret_uuid[33], struct far_error *err);

struct far_store_state {
    bool is_on_store;
    uint64_t packs_up, bytes_up;     /* in the store */
    uint64_t packs_away, bytes_away; /* of them: only there */
    uint64_t packs_waiting;          /* complete, and not yet in the store */
    uint64_t ranges_read, bytes_read; /* from the store since open */
    uint64_t packs_unlocked;         /* that a point's lock should be on, and the store cannot put it there; tried again now and then */
    char unlocked_why[256];          /* of one of them; "" */
    char stays[256];                 /* what was to be erased in the store, and until when it stays; "" */
    bool locks_refused;              /* the bucket offers no object lock: points are locked by the vault alone */
    char problem[256];               /* why packs wait; "" */
};
void far_vault_store_state(struct far_vault *vault, struct far_store_state *ret_state);

#endif
