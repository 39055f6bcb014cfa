/* What plans take of a vault: see reclaim.h. By the chains and needs that the last pass counted.
 *
 * A plan's chains are walked from point to point: what changes in between is what it needs, as often as it needs it. A record that is
 * needed as often by all is needed by this plan alone. A disk whose workload was in several plans has points of all of them in one
 * chain: there a need that a point of the plan shares with its neighbour of another plan is not its own. The replica at the end belongs
 * to the plan of the last point. The records seen are remembered up to a bound; beyond it only those whose ids
 * end in one zero bit more, and so on, and what they take is multiplied: an estimate. */
#include "dataplane/reclaim.h"
#include "dataplane/vault_ledger_private.h"

#include <stdlib.h>

enum { SEEN_MAX = 1 << 18, SEEN_SLOTS = 1 << 19, LIST_MAX = 1024, CHAINS_MAX = 1 << 20, LOOK_BATCH = 256 };

struct seen {
    struct far_hash256 id;
    int32_t needs; /* of this plan alone; less than what is counted: another one's, too */
    bool used;
};

struct chain_of {
    struct far_chain chain;
    uint64_t plan_id;
};

struct survey {
    struct far_vault *vault;
    struct chain_of *chains;
    size_t chain_count;
    /* of the plan that is looked at */
    const struct far_domain *domain;
    struct seen *seen;
    size_t seen_count;
    unsigned skipped_bits; /* only ids that end in so many zero bits are seen */
    int64_t blocks;        /* that are not zero, of the tree that is looked at */
    int came, went;        /* what a need is worth that comes with the tree, or goes; NONE: it is not looked at */
    bool counts_blocks;
};
enum { NONE = -2 };

/* ---- what a plan needs ---- */

static bool is_skipped(const struct survey *survey, const struct far_hash256 *id)
{
    return (far_get_le64(id->bytes + 24) & ((1ull << survey->skipped_bits) - 1)) != 0;
}

static struct seen *slot_of(struct seen *seen, const struct far_hash256 *id)
{
    size_t i = far_get_le64(id->bytes) % SEEN_SLOTS;
    while (seen[i].used && !far_hash256_equal(&seen[i].id, id)) {
        i = (i + 1) % SEEN_SLOTS;
    }
    return &seen[i];
}

static void see(void *arg, const struct far_hash256 *hash, bool is_leaf, int change)
{
    struct survey *survey = arg;
    struct far_hash256 id;
    int worth = change > 0 ? survey->came : survey->went;
    survey->blocks += is_leaf && survey->counts_blocks ? change : 0;
    far_domain_id(survey->domain, hash, &id);
    if (worth == NONE || is_skipped(survey, &id)) {
        return;
    }
    struct seen *slot = slot_of(survey->seen, &id);
    survey->seen_count += !slot->used;
    slot->id = id;
    slot->used = true;
    slot->needs += worth;
}

/* Half of what is seen is forgotten, until there is room. */
static int make_room(void *arg, uint64_t place, size_t count, struct far_error *err)
{
    struct survey *survey = arg;
    (void)place;
    while (survey->seen_count + count > SEEN_MAX) {
        struct seen *fewer = calloc(SEEN_SLOTS, sizeof *fewer);
        if (fewer == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory to look what plans take of a vault");
        }
        survey->skipped_bits++;
        survey->seen_count = 0;
        for (size_t i = 0; i < SEEN_SLOTS; i++) {
            if (survey->seen[i].used && !is_skipped(survey, &survey->seen[i].id)) {
                *slot_of(fewer, &survey->seen[i].id) = survey->seen[i];
                survey->seen_count++;
            }
        }
        free(survey->seen);
        survey->seen = fewer;
    }
    return 0;
}

/* From one tree to the next one; NULL: from nothing. */
static int survey_change(struct survey *survey, const struct far_ledger_tree *from, const struct far_ledger_tree *to, int came, int went,
                         struct far_error *err)
{
    static const bool before[3] = {false, true, false}, after[3] = {false, false, true};
    struct far_ledger_tree trees[3] = {{0}};
    struct far_ledger_walker walker = {.vault = survey->vault, .domain = survey->domain, .to = UINT64_MAX, .arg = survey,
                                       .count = see, .make_room = make_room};
    if (from != NULL) {
        trees[1] = *from;
    }
    trees[2] = *to;
    survey->came = came;
    survey->went = went;
    return far_ledger_walk_trees(&walker, trees, before, after, err);
}

/* From one point to the next one of the chain; each is the plan's or another one's. */
static int survey_step(struct survey *survey, const struct far_ledger_tree *last, bool was_own, const struct far_ledger_tree *tree,
                       bool is_own, struct far_error *err)
{
    bool is_end = was_own && !is_own, is_begin = is_own && !was_own && last->height != 0;
    survey->counts_blocks = true;
    /* What the other plan's point has as well was not the plan's own: what goes here is taken back from that. */
    int rc = survey_change(survey, last, tree, is_own ? 1 : NONE, is_end ? 1 : NONE, err);
    survey->counts_blocks = false;
    rc = rc == 0 && is_end ? survey_change(survey, NULL, last, -1, NONE, err) : rc;
    return rc == 0 && is_begin ? survey_change(survey, NULL, tree, 0, NONE, err) : rc;
}

static int plan_of(struct far_vault *vault, uint64_t point_id, uint64_t *ret_plan, struct far_error *err)
{
    struct far_index_key key;
    uint8_t bytes[8];
    far_ledger_point_key(point_id, &key);
    int rc = far_index_get(vault->index, &key, bytes, sizeof bytes, err);
    *ret_plan = rc == 0 ? far_get_le64(bytes) : 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* *ret_space gets what the plan's points in it hold. */
static int survey_chain(struct survey *survey, struct far_chain chain, uint64_t plan_id, struct far_space *ret_space,
                        struct far_error *err)
{
    struct far_ledger_tree last = {0}, tree;
    uint64_t point_id = 0, owner = 0;
    int64_t newest = 0;
    bool was_own = false;
    survey->blocks = 0;
    int rc = far_vault_domain_numbered(survey->vault, chain.domain, &survey->domain, err);
    if (rc == FAR_CONFLICT) { /* destroyed: its points hold nothing any more */
        return 0;
    }
    while (rc == 0 && (rc = far_ledger_next(survey->vault, chain, &point_id, &tree, err)) == 0) {
        bool is_replica = point_id == FAR_LEDGER_REPLICA;
        rc = is_replica ? 0 : plan_of(survey->vault, point_id, &owner, err);
        bool is_own = owner == plan_id;
        rc = rc == 0 ? survey_step(survey, &last, was_own, &tree, is_own, err) : rc;
        if (rc != 0 || is_replica) {
            break;
        }
        newest = is_own ? survey->blocks : newest;
        ret_space->points_bytes += is_own ? (uint64_t)survey->blocks * FAR_BLOCK_BYTES : 0;
        last = tree;
        was_own = is_own;
        point_id++;
    }
    ret_space->logical_bytes += (uint64_t)newest * FAR_BLOCK_BYTES;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int weigh_batch(struct survey *survey, const struct seen *batch, size_t count, struct far_space *space,
                       struct far_error *err)
{
    struct far_hash256 ids[LOOK_BATCH] = {0};
    struct far_index_row rows[LOOK_BATCH];
    for (size_t i = 0; i < count; i++) {
        ids[i] = batch[i].id;
    }
    int rc = far_index_look(survey->vault->index, ids, count, rows, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        uint64_t bytes = (uint64_t)rows[i].place.length << survey->skipped_bits;
        *((int64_t)rows[i].needs <= batch[i].needs ? &space->unique_bytes : &space->shared_bytes) += bytes;
    }
    return rc;
}

static int weigh(struct survey *survey, struct far_space *space, struct far_error *err)
{
    struct seen batch[LOOK_BATCH];
    size_t count = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < SEEN_SLOTS; i++) {
        if (survey->seen[i].used) {
            batch[count++] = survey->seen[i];
        }
        if (count == LOOK_BATCH) {
            rc = weigh_batch(survey, batch, count, space, err);
            count = 0;
        }
    }
    return rc == 0 ? weigh_batch(survey, batch, count, space, err) : rc;
}

static int survey_plan(struct survey *survey, uint64_t plan_id, struct far_space *ret_space, struct far_error *err)
{
    struct far_space space = {0};
    bool found = false;
    int rc = 0;
    memset(survey->seen, 0, SEEN_SLOTS * sizeof *survey->seen);
    survey->seen_count = 0;
    survey->skipped_bits = 0;
    for (size_t i = 0; rc == 0 && i < survey->chain_count; i++) {
        if (survey->chains[i].plan_id == plan_id) {
            found = true;
            rc = survey_chain(survey, survey->chains[i].chain, plan_id, &space, err);
        }
    }
    if (rc == 0 && !found) {
        return far_fail(err, FAR_NOT_FOUND, "vault '%s' has counted no point of plan %llu yet", survey->vault->dir,
                        (unsigned long long)plan_id);
    }
    rc = rc == 0 ? weigh(survey, &space, err) : rc;
    if (rc == 0) {
        space.estimated = survey->skipped_bits > 0;
        *ret_space = space;
    }
    return rc;
}

/* ---- which chains have points of which plan ---- */

/* Once for each plan: those of the chain that is looked at are the last ones. */
static int add_chain(struct survey *survey, struct far_chain chain, uint64_t plan_id, struct far_error *err)
{
    for (size_t i = survey->chain_count; i > 0; i--) {
        const struct chain_of *other = &survey->chains[i - 1];
        if (other->chain.disk_id != chain.disk_id || other->chain.domain != chain.domain) {
            break;
        }
        if (other->plan_id == plan_id) {
            return 0;
        }
    }
    if (survey->chain_count % LIST_MAX == 0) {
        struct chain_of *chains = survey->chain_count < CHAINS_MAX
                                      ? realloc(survey->chains, (survey->chain_count + LIST_MAX) * sizeof *chains) : NULL;
        if (chains == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory to look what plans take of a vault");
        }
        survey->chains = chains;
    }
    survey->chains[survey->chain_count++] = (struct chain_of){.chain = chain, .plan_id = plan_id};
    return 0;
}

/* By all counted points, a batch at a time. */
static int list_chains(struct survey *survey, struct far_error *err)
{
    struct far_index_key key, *keys = malloc(LIST_MAX * sizeof *keys);
    size_t count = LIST_MAX;
    int rc = keys != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory to look what plans take of a vault");
    far_ledger_chain_key((struct far_chain){0}, 0, &key);
    while (rc == 0 && count == LIST_MAX) {
        rc = far_index_list(survey->vault->index, &key, 5, keys, LIST_MAX, &count, err);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            struct far_chain chain = {.disk_id = far_index_key_get_u64(&keys[i], 0),
                                      .domain = (uint16_t)far_index_key_get_u64(&keys[i], 1)};
            uint64_t point_id = far_index_key_get_u64(&keys[i], 2), plan_id;
            rc = point_id != FAR_LEDGER_REPLICA ? plan_of(survey->vault, point_id, &plan_id, err) : 0;
            rc = rc == 0 && point_id != FAR_LEDGER_REPLICA ? add_chain(survey, chain, plan_id, err) : rc;
            far_ledger_chain_key(chain, point_id + 1, &key);
            bool is_last = point_id == UINT64_MAX;
            if (is_last) {
                chain.disk_id += chain.domain == UINT16_MAX;
                chain.domain++;
                far_ledger_chain_key(chain, 0, &key);
            }
        }
    }
    free(keys);
    return rc;
}

int far_vault_space(struct far_vault *vault, const uint64_t *plan_ids, size_t count, struct far_space *ret_spaces,
                    struct far_error *err)
{
    struct survey survey = {.vault = vault};
    survey.seen = malloc(SEEN_SLOTS * sizeof *survey.seen);
    int rc = survey.seen != NULL ? list_chains(&survey, err)
                                 : far_fail(err, FAR_LIMIT, "no memory to look what plans take of a vault");
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = survey_plan(&survey, plan_ids[i], &ret_spaces[i], err);
    }
    free(survey.seen);
    free(survey.chains);
    return rc;
}
