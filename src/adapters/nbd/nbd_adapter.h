/* What the files of the NBD adapter share. */
#ifndef FAR_ADAPTERS_NBD_NBD_ADAPTER_H
#define FAR_ADAPTERS_NBD_NBD_ADAPTER_H

#include "adapters/nbd/nbd_link.h"

#include <pthread.h>

enum {
    FAR_NBD_URI_MAX = 1100,
    FAR_NBD_TOKEN_MAX = 100,    /* a bitmap's name */
    FAR_NBD_LINKS_MAX = 8,      /* connections of one open disk */
    FAR_NBD_LISTS_MAX = 8,      /* connections kept between pages of changed() */
    FAR_NBD_LIST_PIECE_MIN = 1 << 20,
};

/* A connection that pages of one list of changes come over. */
struct far_nbd_list {
    struct far_nbd_link *link;
    char uri[FAR_NBD_URI_MAX];
    char since[FAR_NBD_TOKEN_MAX + 1];
    uint64_t piece;   /* bytes of the disk to ask about at once: grows and shrinks with what is found there */
    uint64_t used_at; /* the one that was not used for longest makes room */
};

struct far_nbd {
    uint64_t timeout_ms; /* of one request or handshake */
    uint64_t retry_ms;   /* for so long a call looks for a server that is gone */
    uint64_t connections;
    char bitmap[FAR_NBD_TOKEN_MAX + 1];
    pthread_mutex_t mutex; /* the lists that are not in use, and the counter */
    struct far_nbd_list *lists[FAR_NBD_LISTS_MAX];
    uint64_t uses;
};

/* A locator taken apart: the URI as libnbd takes it, and our own parameter. */
struct far_nbd_place {
    char uri[FAR_NBD_URI_MAX];
    char bitmap[FAR_NBD_TOKEN_MAX + 1]; /* of the locator, else of the adapter's settings; "": none */
};

int far_nbd_place(const struct far_nbd *nbd, const char *locator, struct far_nbd_place *ret_place,
                  struct far_adapter_error *ret_error);
/* Connects, and tries again until retry_ms are over (once, if `once`). FAR_ADAPTER_OK or filled ret_error. */
int far_nbd_connect(const struct far_nbd *nbd, const char *uri, const char *context, bool once,
                    struct far_nbd_link **ret_link, struct far_adapter_error *ret_error);
/* The pause before try number n (0 = the first again): from 50 ms on, doubled, at most 1 s. */
void far_nbd_pause(unsigned n);

int far_nbd_freeze(void *platform, const char *ref_hint, const struct far_adapter_disk *disks, size_t count,
                   struct far_adapter_found *ret_found, char ret_ref[128], bool *ret_fuzzy,
                   struct far_adapter_error *ret_error);
int far_nbd_release(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                    struct far_adapter_error *ret_error);
int far_nbd_changed(void *platform, const char *ref, const struct far_adapter_disk *disk, const char *since,
                    uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                    uint64_t *ret_next, struct far_adapter_error *ret_error);
void far_nbd_list_free(struct far_nbd_list *list); /* NULL is allowed */

extern const struct far_adapter_bytes far_nbd_bytes;

#endif
