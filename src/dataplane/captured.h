/* What the machine of a workload is, as its platform says it: captured with a freeze, compressed for its way through log and vault.
 *
 * Values that are counted; any thread. The text is the platform's own (of `kvm` the domain's XML) and is never looked at here; it is kept
 * as one frame of zstd, and told apart by the SHA-256 of the text. */
#ifndef FAR_DATAPLANE_CAPTURED_H
#define FAR_DATAPLANE_CAPTURED_H

#include "base/error.h"
#include "base/users.h"
#include "farshore/adapter.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FAR_CAPTURED_TEXT_MAX = FAR_ADAPTER_CONFIG_TEXT_MAX,    /* its text, with the NUL */
    FAR_CAPTURED_BYTES_MAX = FAR_ADAPTER_CONFIG_PACKED_MAX, /* compressed */
};

struct far_captured {
    far_users users; /* far_captured_ref() */
    bool is_known;  /* hash is set, and bytes unless the order named the same */
    uint8_t hash[32];
    char problem[200]; /* why not, in the platform's words; "": the platform has no machines, or it is known */
    size_t len;
    uint8_t bytes[FAR_CAPTURED_BYTES_MAX];
};

struct far_captured *far_captured_ref(struct far_captured *captured); /* NULL is allowed, as in unref */
void far_captured_unref(struct far_captured *captured);

/* Hash, and the frame unless `known` (32 bytes, or NULL) is that hash. FAR_LIMIT: it stays longer than the maximum. */
int far_captured_pack(struct far_captured *captured, const char *text, const uint8_t *known, struct far_error *err);
/* The text of a frame, closed by NUL, for the caller to free. FAR_CORRUPT: it is none, or too long. */
int far_captured_text(const uint8_t *bytes, size_t len, char **ret_text, struct far_error *err);

#endif
