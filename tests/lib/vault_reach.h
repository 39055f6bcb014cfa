/* What of a vault somebody reaches, found by walking every point and every replica from its root: beside reclaim's own counts. */
#ifndef FAR_TESTS_LIB_VAULT_REACH_H
#define FAR_TESTS_LIB_VAULT_REACH_H

#include "dataplane/vault_ledger.h"
#include "vault_kit.h"

enum { REACH_SLOTS = 1 << 18 };
struct reach {
    struct far_vault *vault;
    struct far_hash256 *ids; /* a table with open addressing */
    bool *used;
    size_t count;
    int rc; /* of the first call that failed */
    struct far_error err;
};

static inline struct far_hash256 *reach_slot(struct reach *reach, const struct far_hash256 *id, bool *ret_used)
{
    size_t i = far_get_le64(id->bytes) % REACH_SLOTS;
    while (reach->used[i] && memcmp(&reach->ids[i], id, 32) != 0) {
        i = (i + 1) % REACH_SLOTS;
    }
    *ret_used = reach->used[i];
    return &reach->ids[i];
}

static inline void reach_add(struct reach *reach, const struct far_domain *domain, const struct far_hash256 *hash)
{
    struct far_hash256 id;
    bool used;
    far_domain_id(domain, hash, &id);
    struct far_hash256 *slot = reach_slot(reach, &id, &used);
    if (!used) {
        *slot = id;
        reach->used[slot - reach->ids] = true;
        reach->count++;
    }
}

static inline void reach_page(struct reach *reach, const struct far_domain *domain, unsigned level, const struct far_hash256 *hash)
{
    struct far_hash256 children[FAR_MAP_FANOUT];
    if (reach->rc != 0 || memcmp(hash, far_map_zero(8 * (level + 1)), 32) == 0) {
        return;
    }
    reach_add(reach, domain, hash);
    reach->rc = far_vault_page(reach->vault, domain, level, hash, children, &reach->err);
    for (unsigned i = 0; i < FAR_MAP_FANOUT && reach->rc == 0; i++) {
        if (level > 0) {
            reach_page(reach, domain, level - 1, &children[i]);
        } else if (memcmp(&children[i], far_zero_leaf(), 32) != 0) {
            reach_add(reach, domain, &children[i]);
        }
    }
}

static inline void reach_tree(struct reach *reach, uint16_t domain_number, uint64_t size_bytes, const struct far_hash256 *top)
{
    const struct far_domain *domain = NULL;
    struct far_hash256 root;
    reach->rc = reach->rc != 0 ? reach->rc : far_vault_domain_numbered(reach->vault, domain_number, &domain, &reach->err);
    far_map_bind_root(size_bytes, top, &root);
    reach_add(reach, domain, &root);
    reach_page(reach, domain, far_map_height(size_bytes) - 1, top);
}

static inline int reach_point(void *arg, uint64_t point_id, const struct far_manifest *manifest, const char *problem)
{
    struct reach *reach = arg;
    (void)point_id;
    (void)problem;
    for (uint32_t i = 0; manifest != NULL && i < manifest->disk_count && reach->rc == 0; i++) {
        const struct far_domain *domain = NULL;
        struct far_hash256 top;
        uint64_t size;
        reach->rc = far_vault_domain_numbered(reach->vault, manifest->domain_number, &domain, &reach->err);
        if (reach->rc == 0) {
            reach->rc = far_vault_root_load(reach->vault, domain, &manifest->disks[i].root, &size, &top, &reach->err);
        }
        if (reach->rc == 0) {
            reach_tree(reach, manifest->domain_number, size, &top);
        }
    }
    return 0;
}

static inline int reach_replica(void *arg, uint64_t disk_id, struct far_error *err)
{
    struct reach *reach = arg;
    struct far_replica_file file;
    int rc = far_replica_file_read(reach->vault, disk_id, &file, err);
    if (rc == 0) {
        reach_tree(reach, file.domain, file.size_bytes, &file.top);
    }
    return rc;
}

/* Records of the index that nobody reaches, each named; -1: a point or replica could not be walked. No replica is open. */
static inline int64_t reach_unreachable(struct far_vault *vault)
{
    enum { LIST = 4096 };
    struct reach reach = {.vault = vault};
    struct far_index_key from = {.len = 32}, *keys = malloc(LIST * sizeof *keys);
    char replicas[4096];
    size_t count = LIST;
    int64_t unreachable = 0;
    reach.ids = malloc(REACH_SLOTS * sizeof *reach.ids);
    reach.used = calloc(REACH_SLOTS, sizeof *reach.used);
    snprintf(replicas, sizeof replicas, "%s/replicas", vault->dir);
    int rc = far_vault_points(vault, reach_point, &reach, &reach.err);
    rc = rc == 0 ? far_vault_each_number(replicas, ".replica", reach_replica, &reach, &reach.err) : rc;
    while (rc == 0 && reach.rc == 0 && count == LIST) {
        rc = far_index_list(vault->index, &from, 0, keys, LIST, &count, &reach.err);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            struct far_index_row row;
            struct far_hash256 id;
            char hex[65];
            bool reached;
            memcpy(id.bytes, keys[i].bytes, 32);
            reach_slot(&reach, &id, &reached);
            rc = far_index_look(vault->index, &id, 1, &row, &reach.err);
            if (!reached && row.place.pack != 0) {
                far_hex_encode(id.bytes, 32, hex);
                fprintf(stderr, "# nobody reaches %s: needs %u, in quarantine since %llu, pack %u\n", hex, row.needs,
                        (unsigned long long)row.since, row.place.pack);
                unreachable++;
            }
            from = keys[i];
        }
        for (int i = 31; count > 0 && i >= 0 && ++from.bytes[i] == 0; i--) {
        }
    }
    if (rc != 0 || reach.rc != 0) {
        fprintf(stderr, "# what is reached cannot be known: %s\n", reach.err.message);
        unreachable = -1;
    }
    free(keys);
    free(reach.ids);
    free(reach.used);
    return unreachable;
}

#endif
