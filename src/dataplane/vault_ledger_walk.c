/* The walk over three neighbouring trees of a chain: see vault_ledger.h.
 *
 * What the trees hold at one place is a short row of hashes, some of them there before the change and some after it. Each run of
 * equal ones is one need; the difference of the two is what changes. A subtree where the middle tree equals a neighbour (or, where
 * the replica moves on, the old one the new one) changes nothing and is not entered. */
#include "dataplane/vault_ledger_private.h"

enum { TREES = 3, ROOT_LEVEL = 15 };

struct three {
    struct far_ledger_walker *walker;
    const struct far_ledger_tree *trees;
    const bool *before;
    const bool *after;
};

static uint64_t place_of(unsigned level, uint64_t first_block)
{
    return first_block * 16 + (ROOT_LEVEL - level);
}

static bool same(const struct far_hash256 *a, const struct far_hash256 *b)
{
    return a == NULL || b == NULL ? a == b : far_hash256_equal(a, b);
}

/* The needs of one place by the trees that are there, times sign. zero: never stored. */
static void count_runs(struct three *three, const struct far_hash256 *const at[TREES], const bool there[TREES],
                       const struct far_hash256 *zero, bool is_leaf, int sign)
{
    const struct far_hash256 *last = NULL;
    for (int i = 0; i < TREES; i++) {
        if (!there[i] || three->trees[i].height == 0) {
            continue;
        }
        if (at[i] != NULL && !same(at[i], last) && (zero == NULL || !far_hash256_equal(at[i], zero))) {
            three->walker->count(three->walker->arg, at[i], is_leaf, sign);
        }
        last = at[i];
    }
}

static bool replaces(const struct three *three)
{
    return three->before[2] != three->after[2];
}

/* Like a neighbour that stays: no run begins or ends here. */
static bool is_like_neighbour(const struct three *three, const struct far_hash256 *const at[TREES])
{
    if (replaces(three)) {
        return same(at[1], at[2]);
    }
    return (three->trees[0].height != 0 && same(at[0], at[1])) || (three->trees[2].height != 0 && same(at[1], at[2]));
}

static void count_place(struct three *three, const struct far_hash256 *const at[TREES], const struct far_hash256 *zero, bool is_leaf)
{
    if (is_like_neighbour(three, at)) {
        return;
    }
    count_runs(three, at, three->before, zero, is_leaf, -1);
    count_runs(three, at, three->after, zero, is_leaf, 1);
}

/* A tree that is lower than this level begins below its first page. */
static bool begins_below(const struct three *three, int i, unsigned level, uint64_t index)
{
    return index == 0 && three->trees[i].height != 0 && three->trees[i].height <= level;
}

/* Do two trees hold the same at this page and below? */
static bool same_below(const struct three *three, const struct far_hash256 *const at[TREES], int i, int k, unsigned level,
                       uint64_t index)
{
    const struct far_ledger_tree *a = &three->trees[i], *b = &three->trees[k];
    if (at[i] != NULL || at[k] != NULL) {
        return same(at[i], at[k]);
    }
    bool begin = begins_below(three, i, level, index) || begins_below(three, k, level, index);
    return !begin || (a->height == b->height && far_hash256_equal(&a->top, &b->top));
}

/* Is there nothing but zeroes here, and nothing? */
static bool is_blank(const struct three *three, const struct far_hash256 *const at[TREES], unsigned level, uint64_t index)
{
    bool blank = true;
    for (int i = 0; blank && i < TREES; i++) {
        blank = at[i] != NULL ? far_hash256_equal(at[i], far_map_zero(8 * (level + 1))) : !begins_below(three, i, level, index);
    }
    return blank;
}

/* Does this subtree change no need? */
static bool is_settled(const struct three *three, const struct far_hash256 *const at[TREES], unsigned level, uint64_t index)
{
    if (is_blank(three, at, level, index)) {
        return true;
    }
    if (replaces(three)) {
        return same_below(three, at, 1, 2, level, index);
    }
    bool like_left = three->trees[0].height != 0 && same_below(three, at, 0, 1, level, index);
    bool like_right = three->trees[2].height != 0 && same_below(three, at, 1, 2, level, index);
    return like_left || like_right;
}

/* What is below a page in each tree: NULL where the tree has nothing there. */
struct below {
    struct far_hash256 children[TREES][FAR_MAP_FANOUT];
    bool is_there[TREES];
};

static int load_below(struct three *three, unsigned level, const struct far_hash256 *const at[TREES], struct below *ret_below,
                      struct far_error *err)
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < TREES; i++) {
        ret_below->is_there[i] = at[i] != NULL;
        if (at[i] != NULL) {
            rc = far_vault_page(three->walker->vault, three->walker->domain, level, at[i], ret_below->children[i], err);
        }
    }
    return rc;
}

/* The child of a page of `level` in tree i. A lower tree begins below the first page of the levels above it. */
static const struct far_hash256 *child_of(const struct three *three, const struct below *below, int i, unsigned level,
                                          uint64_t index, unsigned child)
{
    if (below->is_there[i]) {
        return &below->children[i][child];
    }
    bool begins = three->trees[i].height == level && index == 0 && child == 0;
    return begins ? &three->trees[i].top : NULL;
}

/* Room for the next page, or what there is goes into the index with the place that was reached. */
static int make_room(struct three *three, uint64_t place, struct far_error *err)
{
    three->walker->from = place;
    return three->walker->make_room(three->walker->arg, place, 2 * TREES * (FAR_MAP_FANOUT + 1), err);
}

static int visit(struct three *three, unsigned level, uint64_t index, const struct far_hash256 *const at[TREES],
                 struct far_error *err)
{
    struct far_ledger_walker *walk = three->walker;
    uint64_t span = 1ull << (8 * (level + 1));
    uint64_t place = place_of(level, index * span);
    struct below below;
    if (is_settled(three, at, level, index) || place_of(ROOT_LEVEL, (index + 1) * span) <= walk->from || place >= walk->to) {
        return 0;
    }
    bool counted = place < walk->from;
    int rc = counted ? 0 : make_room(three, place, err);
    rc = rc == 0 ? load_below(three, level, at, &below, err) : rc;
    if (rc != 0) {
        return rc;
    }
    if (!counted) {
        count_place(three, at, far_map_zero(8 * (level + 1)), false);
    }
    for (unsigned child = 0; rc == 0 && child < FAR_MAP_FANOUT; child++) {
        const struct far_hash256 *next[TREES];
        for (int i = 0; i < TREES; i++) {
            next[i] = child_of(three, &below, i, level, index, child);
        }
        if (level > 0) {
            rc = visit(three, level - 1, index * FAR_MAP_FANOUT + child, next, err);
        } else if (!counted) {
            count_place(three, next, far_zero_leaf(), true);
        }
    }
    if (rc == 0 && !counted && level == 0) {
        walk->from = place + 1;
    }
    return rc;
}

/* The records that say what a root is. */
static void count_roots(struct three *three)
{
    struct far_hash256 roots[TREES];
    const struct far_hash256 *at[TREES] = {NULL};
    for (int i = 0; i < TREES; i++) {
        if (three->trees[i].height != 0) {
            far_map_bind_root(three->trees[i].size_bytes, &three->trees[i].top, &roots[i]);
            at[i] = &roots[i];
        }
    }
    count_place(three, at, NULL, false);
}

int far_ledger_walk_trees(struct far_ledger_walker *walker, const struct far_ledger_tree trees[3], const bool before[3],
                          const bool after[3], struct far_error *err)
{
    struct three three = {.walker = walker, .trees = trees, .before = before, .after = after};
    const struct far_hash256 *at[TREES];
    unsigned height = 0;
    int rc = make_room(&three, walker->from, err);
    if (rc != 0) {
        return rc;
    }
    if (walker->from == 0 && walker->to > 0) {
        count_roots(&three);
        walker->from = 1;
    }
    for (int i = 0; i < TREES; i++) {
        height = trees[i].height > height ? trees[i].height : height;
    }
    for (int i = 0; i < TREES; i++) {
        at[i] = trees[i].height == height ? &trees[i].top : NULL;
    }
    return height == 0 ? 0 : visit(&three, height - 1, 0, at, err);
}
