/* How much room a vault takes, and how much there is. Walks the names of its files: seconds in a large vault. Any thread. */
#ifndef FAR_DATAPLANE_VAULT_USAGE_H
#define FAR_DATAPLANE_VAULT_USAGE_H

#include "dataplane/vault.h"

struct far_vault_usage {
    uint64_t used_bytes;  /* of the file system, by everything in the vault's folder */
    uint64_t free_bytes;  /* of the file system, that this process may take */
    uint64_t total_bytes; /* of the file system */
    uint64_t point_count; /* manifests */
};
int far_vault_usage(struct far_vault *vault, struct far_vault_usage *ret_usage, struct far_error *err);

#endif
