/* What a server says of itself once a second on the streams between the servers, for `cluster status` and the feature
 * level. A newer server may say more behind it. Pure codec (frames.c), any thread. */
#ifndef FAR_LOG_ABOUT_H
#define FAR_LOG_ABOUT_H

#include "base/buf.h"
#include "base/hash.h"

enum { FAR_ABOUT_VERSION_MAX = 32 };
struct far_about {
    uint64_t wall_ms; /* its clock when it sent this */
    uint32_t feature_level; /* the newest that it supports */
    uint64_t applied_index;
    uint64_t durable_index;
    uint64_t first_seq; /* of the history that it holds */
    uint64_t oldest_seq; /* of all that it holds, also apart from the others (older.h); first_seq otherwise */
    uint64_t last_seq;
    uint64_t digest_index; /* its state's digest behind this entry; 0: none */
    struct far_hash128 digest;
    uint64_t free_bytes; /* of its disk */
    bool is_safe;        /* it is in safe mode */
    uint64_t safe_index; /* the entry that it holds before (safe.h); 0: it is not in safe mode */
    uint64_t safe_hash;
    uint64_t skip_index; /* the entry that it skips, or skipped last; 0: none */
    uint64_t skip_hash;
    char version[FAR_ABOUT_VERSION_MAX]; /* of its program */
};
int far_about_encode(const struct far_about *about, struct far_buf *out);
int far_about_decode(struct far_slice frame, struct far_about *ret_about, struct far_error *err);

#endif
