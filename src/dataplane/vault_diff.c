/* The difference of two trees: see vault_diff.h. */
#include "dataplane/vault_diff.h"

#include "dataplane/vault_private.h"

#include <stdlib.h>

struct diff {
    struct far_vault *before_vault, *after_vault;
    const struct far_domain *before_domain, *after_domain;
    struct far_hash256 before_top;
    unsigned before_height; /* 0: there is nothing before */
    uint64_t blocks;
    far_vault_diff_fn *each;
    void *arg;
};

/* Children of both pages, on the heap: the walk is up to four deep. */
struct children {
    struct far_hash256 before[FAR_MAP_FANOUT], after[FAR_MAP_FANOUT];
};

/* The page of the tree before at this place. is_above: it is higher than that tree is; its first child leads to the top, the others
 * are zeroes. */
static int load_before(const struct diff *diff, unsigned level, const struct far_hash256 *id, bool is_above,
                       struct far_hash256 ret[FAR_MAP_FANOUT], struct far_error *err)
{
    if (!is_above) {
        return far_vault_page(diff->before_vault, diff->before_domain, level, id, ret, err);
    }
    for (size_t i = 0; i < FAR_MAP_FANOUT; i++) {
        ret[i] = *far_map_zero(8 * level);
    }
    if (level == diff->before_height && diff->before_height > 0) {
        ret[0] = diff->before_top;
    }
    return 0;
}

/* is_above: `before` has no page of its own here, see load_before(). */
static int walk(const struct diff *diff, unsigned level, uint64_t first, const struct far_hash256 *before, bool is_above,
                const struct far_hash256 *after, struct far_error *err)
{
    if (!is_above && far_hash256_equal(before, after)) {
        return 0;
    }
    struct children *children = malloc(sizeof *children);
    if (children == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to compare two points");
    }
    int rc = load_before(diff, level, before, is_above, children->before, err);
    rc = rc == 0 ? far_vault_page(diff->after_vault, diff->after_domain, level, after, children->after, err) : rc;
    for (size_t i = 0; rc == 0 && i < FAR_MAP_FANOUT; i++) {
        uint64_t at = first + ((uint64_t)i << (8 * level));
        if (at >= diff->blocks) {
            break;
        }
        if (level > 0) {
            bool is_way = is_above && i == 0 && diff->before_height > 0 && level > diff->before_height;
            rc = walk(diff, level - 1, at, &children->before[i], is_way, &children->after[i], err);
        } else if (!far_hash256_equal(&children->before[i], &children->after[i])) {
            rc = diff->each(diff->arg, at, &children->before[i], &children->after[i], err);
        }
    }
    free(children);
    return rc;
}

/* The tree before, brought to the height of the one after where that is lower. */
static int lower(struct diff *diff, unsigned height, struct far_error *err)
{
    struct far_hash256 *children = malloc(FAR_MAP_PAGE_BYTES);
    int rc = children != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory to compare two points");
    while (rc == 0 && diff->before_height > height) {
        rc = far_vault_page(diff->before_vault, diff->before_domain, diff->before_height - 1, &diff->before_top, children, err);
        diff->before_top = rc == 0 ? children[0] : diff->before_top;
        diff->before_height--;
    }
    free(children);
    return rc;
}

int far_vault_diff(struct far_vault *vault, struct far_point *before, struct far_point *after, far_vault_diff_fn *each, void *arg,
                   struct far_error *err)
{
    struct diff diff = {.after_vault = vault, .after_domain = far_point_domain(after), .each = each, .arg = arg};
    struct far_hash256 root, top;
    uint64_t size;
    far_point_root(after, &root);
    int rc = far_vault_root_load(vault, diff.after_domain, &root, &size, &top, err);
    if (rc != 0) {
        return rc;
    }
    unsigned height = far_map_height(size);
    diff.blocks = far_map_block_count(size);
    if (before != NULL) {
        far_point_root(before, &root);
        diff.before_vault = far_point_vault(before);
        diff.before_domain = far_point_domain(before);
        rc = far_vault_root_load(diff.before_vault, diff.before_domain, &root, &size, &diff.before_top, err);
        diff.before_height = far_map_height(size);
        rc = rc == 0 ? lower(&diff, height, err) : rc;
    }
    if (rc != 0) {
        return rc;
    }
    bool is_above = diff.before_height < height;
    return walk(&diff, height - 1, 0, is_above ? far_map_zero(8 * height) : &diff.before_top, is_above, &top, err);
}
