/* Holding a tree: whoever is about to build on one that no counted point and no replica may have sees to it that all of it is there,
 * and that a pass of reclaim that runs deletes none of it. See vault_private.h. */
#include "dataplane/vault_private.h"


static int missing(const struct far_vault *vault, struct far_error *err)
{
    return far_fail(err, FAR_NOT_FOUND, "vault '%s' no longer holds all of this tree", vault->dir);
}

static int find_all(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *hashes, size_t count,
                    struct far_error *err)
{
    bool there[FAR_MAP_FANOUT] = {false};
    int rc = far_vault_has(vault, domain, hashes, count, there, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = there[i] ? 0 : missing(vault, err);
    }
    return rc;
}

/* The page is not as in the known tree: it and what is below it. known NULL: there is none beside it. */
static int hold_page(struct far_vault *vault, const struct far_domain *domain, unsigned level, const struct far_hash256 *id,
                     const struct far_hash256 *known, struct far_error *err)
{
    struct far_hash256 children[FAR_MAP_FANOUT], others[FAR_MAP_FANOUT], wanted[FAR_MAP_FANOUT];
    const struct far_hash256 *zero = level == 0 ? far_zero_leaf() : far_map_zero(8 * level);
    size_t count = 0;
    if (far_hash256_equal(id, far_map_zero(8 * (level + 1))) || (known != NULL && far_hash256_equal(id, known))) {
        return 0;
    }
    int rc = find_all(vault, domain, id, 1, err);
    rc = rc == 0 ? far_vault_page(vault, domain, level, id, children, err) : rc;
    rc = rc == 0 && known != NULL ? far_vault_page(vault, domain, level, known, others, err) : rc;
    for (unsigned i = 0; rc == 0 && i < FAR_MAP_FANOUT; i++) {
        const struct far_hash256 *other = known != NULL ? &others[i] : NULL;
        bool same = far_hash256_equal(&children[i], zero) || (other != NULL && far_hash256_equal(&children[i], other));
        if (level > 0) {
            rc = hold_page(vault, domain, level - 1, &children[i], other, err);
        } else if (!same) {
            wanted[count++] = children[i];
        }
    }
    return rc == 0 && count > 0 ? find_all(vault, domain, wanted, count, err) : rc;
}

int far_vault_hold_tree(struct far_vault *vault, const struct far_domain *domain, uint64_t size_bytes,
                        const struct far_hash256 *top, const struct far_hash256 *known_top, uint64_t known_size_bytes,
                        struct far_error *err)
{
    struct far_hash256 root, id;
    struct far_index_row row;
    unsigned height = far_map_height(size_bytes);
    bool comparable = known_size_bytes != 0 && far_map_height(known_size_bytes) == height;
    if (comparable && far_hash256_equal(top, known_top)) {
        return 0;
    }
    far_map_bind_root(size_bytes, top, &root);
    far_domain_id(domain, &root, &id);
    int rc = far_index_look(vault->index, &id, 1, &row, err);
    if (rc != 0 || row.needs > 0) { /* counted: nothing of it is deleted before the next mark, and that one sees who builds on it */
        return rc;
    }
    return hold_page(vault, domain, height - 1, top, comparable ? known_top : NULL, err);
}
