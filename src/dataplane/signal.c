/* Features of an increment: see signal.h.
 *
 * One walk over what differs counts it; another looks up stored lengths, of all or of a share chosen by hash, and chooses groups of
 * four neighbouring blocks to look into: half of them where blocks do not compress now, half where they do, those with the smallest
 * hashes, so that the same increment gives the same sample everywhere. Of a group everything is read, for what did not change says
 * where runs begin; and of the block before it, the last page. */
#include "dataplane/signal.h"

#include "base/hash.h"
#include "dataplane/signal_page.h"
#include "dataplane/vault_diff.h"
#include "dataplane/vault_private.h"

#include <stdlib.h>

enum {
    GROUP = 4, /* blocks */
    GROUPS_MAX = FAR_SIGNAL_SAMPLE_MAX / GROUP,
    PAGES = FAR_BLOCK_BYTES / FAR_SIGNAL_PAGE_BYTES,
    HIGH_BYTES = FAR_BLOCK_BYTES / 10 * 9, /* a block stored in more than this does not compress */
    BARE_BYTES_MIN = 1024,                 /* a run of fewer random bytes says nothing */
    BRIEF_PAGES = 3,
    WHOLE_PAGE = FAR_SIGNAL_PAGE_BYTES - 16, /* a dense page with fewer bytes ends inside */
    TAIL_MORE = 600,                       /* an encryptor may add so much to a file: a key */
};

static const char *const names[] = {
#define NAME(name, text) #name,
    FAR_SIGNAL_FEATURES(NAME)
#undef NAME
};

const char *far_signal_feature_name(enum far_signal_feature feature)
{
    return names[feature];
}

struct changed_group {
    uint64_t hash;
    uint64_t group;
    unsigned changed; /* a bit for each block */
    struct far_hash256 before[GROUP], after[GROUP];
};

/* The groups with the smallest hashes, in no order. */
struct chosen {
    size_t count;
    size_t largest; /* index, once it is full */
    struct changed_group groups[GROUPS_MAX];
};

/* A run of dense pages. */
struct run {
    bool open;
    bool seen;      /* its beginning is */
    bool cut;       /* it goes on after a page that stayed */
    uint64_t pages;
    uint64_t compressed_pages;
    bool ends_inside;
    bool keeps_tail; /* and what was there before ended there, too */
    enum far_signal_head head;
    enum far_signal_feature kind; /* one of the four bare ones */
    struct far_signal_histogram histogram;
};

struct look {
    struct far_vault *vault;
    const struct far_signal_request *request;
    uint64_t *values;
    uint64_t last_changed; /* and one */
    uint64_t hash_below;   /* groups from here on are not looked up */
    struct changed_group group; /* that is being gathered; changed 0: none */
    bool group_high;
    struct chosen high, low;
    struct run run;
    uint64_t next; /* block behind the last group, 0: none */
    bool before_known, before_dense, before_stayed; /* the page before: seen; dense, and goes on; it did not change */
    uint8_t *blocks_before, *blocks_after; /* GROUP of each */
    uint8_t *block;
};

static void add(struct look *look, enum far_signal_feature feature, uint64_t more)
{
    look->values[feature] += more;
}

static int check_stop(const struct look *look, struct far_error *err)
{
    const struct far_signal_request *request = look->request;
    return request->stop != NULL && request->stop(request->arg) ? far_fail(err, FAR_CANCELED, "the signal was canceled") : 0;
}

/* ---- the first walk: how much ---- */

static int count_block(void *arg, uint64_t block, const struct far_hash256 *before, const struct far_hash256 *after,
                       struct far_error *err)
{
    struct look *look = arg;
    add(look, FAR_SIGNAL_changed_blocks, 1);
    add(look, FAR_SIGNAL_changed_runs, look->last_changed != block);
    add(look, FAR_SIGNAL_from_zero_blocks, far_hash256_equal(before, far_zero_leaf()));
    add(look, FAR_SIGNAL_to_zero_blocks, far_hash256_equal(after, far_zero_leaf()));
    look->last_changed = block + 1;
    return look->values[FAR_SIGNAL_changed_blocks] % 1024 == 0 ? check_stop(look, err) : 0;
}

/* ---- the second: stored lengths, and what to look into ---- */

static void choose(struct chosen *chosen, const struct changed_group *group)
{
    if (chosen->count == GROUPS_MAX) {
        if (group->hash >= chosen->groups[chosen->largest].hash) {
            return;
        }
        chosen->groups[chosen->largest] = *group;
    } else {
        chosen->groups[chosen->count++] = *group;
    }
    chosen->largest = 0;
    for (size_t i = 1; i < chosen->count; i++) {
        chosen->largest = chosen->groups[i].hash > chosen->groups[chosen->largest].hash ? i : chosen->largest;
    }
}

static void end_group(struct look *look)
{
    if (look->group.changed != 0) {
        choose(look->group_high ? &look->high : &look->low, &look->group);
    }
    look->group.changed = 0;
    look->group_high = false;
}

/* Where a block lies; length 0: it is zeroes, or nowhere. */
static int find(struct look *look, struct far_point *point, const struct far_hash256 *leaf, struct far_place *ret, struct far_error *err)
{
    struct far_hash256 id;
    *ret = (struct far_place){0};
    if (far_hash256_equal(leaf, far_zero_leaf())) {
        return 0;
    }
    far_domain_id(far_point_domain(point), leaf, &id);
    return far_vault_find(look->vault, &id, ret, err);
}

static bool is_high(struct far_place place)
{
    return place.length > FAR_RECORD_HEADER_BYTES + HIGH_BYTES;
}

static int look_up(struct look *look, const struct far_hash256 *before, const struct far_hash256 *after, bool *ret_high,
                   struct far_error *err)
{
    struct far_place from = {0}, to;
    struct far_place known = {.pack = (uint32_t)look->request->known_before_pack, .offset = look->request->known_before_offset};
    bool was_zero = far_hash256_equal(before, far_zero_leaf()), is_zero = far_hash256_equal(after, far_zero_leaf());
    int rc = look->request->before != NULL ? find(look, look->request->before, before, &from, err) : 0;
    rc = rc == 0 ? find(look, look->request->after, after, &to, err) : rc;
    if (rc != 0) {
        return rc;
    }
    *ret_high = is_high(to);
    add(look, FAR_SIGNAL_looked_blocks, 1);
    add(look, FAR_SIGNAL_known_blocks, to.pack != 0 && far_place_before(to, known));
    add(look, FAR_SIGNAL_zero_to_high_blocks, was_zero && is_high(to));
    if (!was_zero && !is_zero) {
        add(look, is_high(from) ? is_high(to) ? FAR_SIGNAL_high_to_high_blocks : FAR_SIGNAL_high_to_low_blocks
                  : is_high(to) ? FAR_SIGNAL_low_to_high_blocks : FAR_SIGNAL_low_to_low_blocks, 1);
    }
    return 0;
}

static int choose_block(void *arg, uint64_t block, const struct far_hash256 *before, const struct far_hash256 *after,
                        struct far_error *err)
{
    struct look *look = arg;
    uint8_t key[8];
    bool high = false;
    if (look->group.changed != 0 && look->group.group != block / GROUP) {
        end_group(look);
    }
    far_put_le64(key, block / GROUP);
    uint64_t hash = far_hash64(key, sizeof key);
    if (hash > look->hash_below) {
        return 0;
    }
    look->group.hash = hash;
    look->group.group = block / GROUP;
    look->group.changed |= 1u << block % GROUP;
    look->group.before[block % GROUP] = *before;
    look->group.after[block % GROUP] = *after;
    int rc = look_up(look, before, after, &high, err);
    look->group_high = look->group_high || high;
    return rc != 0 || look->values[FAR_SIGNAL_looked_blocks] % 256 != 0 ? rc : check_stop(look, err);
}

/* ---- into the pages ---- */

/* The run has come to its end: what was it? */
static void end_run(struct look *look)
{
    struct run *run = &look->run;
    if (!run->open) {
        return;
    }
    run->open = false;
    if (run->histogram.bytes < BARE_BYTES_MIN) {
        return;
    }
    if (far_signal_chi(&run->histogram) > FAR_SIGNAL_RUN_CHI || run->compressed_pages > run->pages / 50) {
        add(look, FAR_SIGNAL_dense_runs, 1);
        add(look, FAR_SIGNAL_dense_pages, run->pages);
        return;
    }
    add(look, FAR_SIGNAL_tails_kept_runs, run->keeps_tail && run->head != FAR_SIGNAL_HEAD_KNOWN);
    if (!run->seen) {
        add(look, FAR_SIGNAL_hidden_runs, 1);
        add(look, FAR_SIGNAL_hidden_pages, run->pages);
        add(look, FAR_SIGNAL_cut_on_head_runs, run->cut && run->kind == FAR_SIGNAL_bare_on_head_runs && run->head == FAR_SIGNAL_HEAD_NONE);
    } else if (run->head != FAR_SIGNAL_HEAD_NONE) {
        add(look, run->head == FAR_SIGNAL_HEAD_KNOWN ? FAR_SIGNAL_known_head_runs : FAR_SIGNAL_odd_head_runs, 1);
    } else if (run->pages <= BRIEF_PAGES && !run->ends_inside && !run->cut) {
        add(look, FAR_SIGNAL_bare_brief_runs, 1); /* such are tables of checksums, too */
    } else {
        add(look, run->kind, 1);
        add(look, FAR_SIGNAL_bare_pages, run->pages);
        add(look, FAR_SIGNAL_bare_tail_runs, run->ends_inside);
    }
}

static void begin_run(struct look *look, const uint8_t *page, const uint8_t *was, enum far_signal_class was_class)
{
    struct run *run = &look->run;
    *run = (struct run){.open = true,
                        .seen = look->before_known && !look->before_dense,
                        .cut = look->before_known && look->before_stayed,
                        .head = far_signal_page_head(page)};
    if (was_class == FAR_SIGNAL_ZERO) {
        run->kind = FAR_SIGNAL_bare_on_zero_runs;
    } else if (far_signal_page_head(was) == FAR_SIGNAL_HEAD_KNOWN) {
        run->kind = FAR_SIGNAL_bare_on_head_runs;
    } else {
        run->kind = was_class == FAR_SIGNAL_STRUCTURED ? FAR_SIGNAL_bare_on_structured_runs : FAR_SIGNAL_bare_on_dense_runs;
    }
}

static bool is_dense(const struct far_signal_page *page)
{
    return page->klass == FAR_SIGNAL_COMPRESSED || page->klass == FAR_SIGNAL_RANDOM;
}

static void count_change(struct look *look, const uint8_t *was, const uint8_t *page, enum far_signal_class was_class,
                         enum far_signal_class klass)
{
    add(look, FAR_SIGNAL_changed_pages, 1);
    unsigned move = FAR_SIGNAL_CLASSES * (unsigned)was_class + (unsigned)klass;
    add(look, (enum far_signal_feature)((unsigned)FAR_SIGNAL_zero_to_zero_pages + move), 1);
    add(look, FAR_SIGNAL_heads_lost_pages, klass == FAR_SIGNAL_RANDOM && was_class != FAR_SIGNAL_ZERO &&
                                               far_signal_page_head(was) == FAR_SIGNAL_HEAD_KNOWN &&
                                               far_signal_page_head(page) == FAR_SIGNAL_HEAD_NONE);
    add(look, FAR_SIGNAL_woven_pages, was_class != FAR_SIGNAL_ZERO && far_signal_page_woven(was, page));
}

static void look_page(struct look *look, const uint8_t *was, const uint8_t *page)
{
    struct far_signal_page now, before;
    bool changed = memcmp(was, page, FAR_SIGNAL_PAGE_BYTES) != 0;
    far_signal_page_look(page, &now);
    if (changed) {
        far_signal_page_look(was, &before);
        count_change(look, was, page, before.klass, now.klass);
    } else {
        add(look, FAR_SIGNAL_structured_around_pages, now.klass == FAR_SIGNAL_STRUCTURED);
    }
    if (!changed || !is_dense(&now)) {
        end_run(look);
    } else {
        if (!look->run.open) {
            begin_run(look, page, was, before.klass);
        }
        look->run.pages++;
        look->run.compressed_pages += now.klass == FAR_SIGNAL_COMPRESSED;
        far_signal_histogram_add(&look->run.histogram, &now.histogram);
        if (now.bytes < WHOLE_PAGE) { /* a file ends here */
            look->run.ends_inside = true;
            look->run.keeps_tail = before.bytes >= FAR_SIGNAL_JUDGED_MIN && before.bytes <= now.bytes &&
                                   now.bytes <= before.bytes + TAIL_MORE;
            end_run(look);
        }
    }
    look->before_known = true;
    look->before_stayed = !changed;
    look->before_dense = far_signal_page_runs_on(page);
}

/* The last page of the block before a group. */
static int look_before(struct look *look, uint64_t first, struct far_error *err)
{
    look->before_known = look->before_dense = look->before_stayed = false;
    if (first == 0) {
        return 0;
    }
    int rc = far_point_read(look->request->after, first - 1, false, look->block, NULL, err);
    look->before_known = rc == 0;
    look->before_dense = rc == 0 && far_signal_page_runs_on(look->block + FAR_BLOCK_BYTES - FAR_SIGNAL_PAGE_BYTES);
    return rc;
}

static int look_group(struct look *look, const struct changed_group *group, struct far_error *err)
{
    uint64_t first = group->group * GROUP, blocks = look->values[FAR_SIGNAL_disk_blocks];
    int rc = 0;
    if (first != look->next || first == 0) {
        end_run(look);
        rc = look_before(look, first, err);
    }
    look->next = first + GROUP;
    for (unsigned i = 0; rc == 0 && i < GROUP && first + i < blocks; i++) {
        bool changed = (group->changed >> i & 1) != 0;
        add(look, FAR_SIGNAL_sampled_blocks, changed);
        rc = far_point_read(look->request->after, first + i, false, look->blocks_after, NULL, err);
        if (rc == 0 && changed && far_hash256_equal(&group->before[i], far_zero_leaf())) {
            memset(look->blocks_before, 0, FAR_BLOCK_BYTES);
        } else if (rc == 0 && changed) {
            rc = far_vault_get(look->vault, far_point_domain(look->request->before), &group->before[i], false, look->blocks_before, err);
        }
        const uint8_t *before = changed ? look->blocks_before : look->blocks_after;
        for (size_t at = 0; rc == 0 && at < FAR_BLOCK_BYTES; at += FAR_SIGNAL_PAGE_BYTES) {
            look_page(look, before + at, look->blocks_after + at);
        }
    }
    return rc == 0 ? check_stop(look, err) : rc;
}

static int by_place(const void *a, const void *b)
{
    uint64_t x = ((const struct changed_group *)a)->group, y = ((const struct changed_group *)b)->group;
    return (x > y) - (x < y);
}

static int by_hash(const void *a, const void *b)
{
    uint64_t x = ((const struct changed_group *)a)->hash, y = ((const struct changed_group *)b)->hash;
    return (x > y) - (x < y);
}

/* Half of them of each kind, or more where the other has fewer; in the order of the disk. */
static int look_into(struct look *look, struct far_error *err)
{
    size_t high = look->high.count, low = look->low.count, half = GROUPS_MAX / 2;
    size_t rest = low < half ? GROUPS_MAX - low : half;
    struct changed_group *groups = look->high.groups;
    qsort(groups, high, sizeof *groups, by_hash);
    qsort(look->low.groups, low, sizeof *groups, by_hash);
    high = high < rest ? high : rest;
    low = low < GROUPS_MAX - high ? low : GROUPS_MAX - high;
    memcpy(groups + high, look->low.groups, low * sizeof *groups);
    qsort(groups, high + low, sizeof *groups, by_place);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < high + low; i++) {
        rc = look_group(look, &groups[i], err);
    }
    end_run(look);
    return rc;
}

int far_signal_compute(struct far_vault *vault, const struct far_signal_request *request,
                       struct far_signal_features *ret_features, struct far_error *err)
{
    struct far_signal_features features = {.version = FAR_SIGNAL_FEATURES_VERSION};
    struct look *look = calloc(1, sizeof *look);
    uint8_t *blocks = malloc(3 * (size_t)FAR_BLOCK_BYTES);
    int rc = look != NULL && blocks != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory for the signal");
    if (rc == 0) {
        features.values[FAR_SIGNAL_disk_blocks] = far_map_block_count(far_point_size(request->after));
        *look = (struct look){.vault = vault,
                              .request = request,
                              .values = features.values,
                              .last_changed = UINT64_MAX,
                              .blocks_before = blocks,
                              .blocks_after = blocks + FAR_BLOCK_BYTES,
                              .block = blocks + 2 * (size_t)FAR_BLOCK_BYTES};
        rc = far_vault_diff(vault, request->before, request->after, count_block, look, err);
    }
    if (rc == 0) {
        uint64_t changed = features.values[FAR_SIGNAL_changed_blocks];
        look->hash_below = changed > FAR_SIGNAL_LOOKED_MAX ? UINT64_MAX / changed * FAR_SIGNAL_LOOKED_MAX : UINT64_MAX;
        rc = far_vault_diff(vault, request->before, request->after, choose_block, look, err);
    }
    if (rc == 0) {
        end_group(look);
        rc = look_into(look, err);
    }
    free(blocks);
    free(look);
    if (rc == 0) {
        *ret_features = features;
    }
    return rc;
}
