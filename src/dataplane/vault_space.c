/* What plans take of a vault: see reclaim.h. By the chains and needs that the last pass counted.
 *
 * A plan's chains are walked from point to point: what changes in between is what it needs, as often as it needs it. A record that is
 * needed as often by all is needed by this plan alone. The records seen are remembered up to a bound; beyond it only those whose ids
 * end in one zero bit more, and so on, and what they take is multiplied: an estimate. */
#include "dataplane/reclaim.h"
#include "dataplane/vault_ledger_private.h"

#include <stdlib.h>

enum { SEEN_MAX = 1 << 18, SEEN_SLOTS = 1 << 19, LIST_MAX = 1024, CHAINS_MAX = 1 << 20, LOOK_BATCH = 256 };

struct seen {
    struct far_hash256 id;
    uint32_t needs; /* 0: free */
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
};

/* ---- what a plan needs ---- */

static bool is_skipped(const struct survey *survey, const struct far_hash256 *id)
{
    return (far_get_le64(id->bytes + 24) & ((1ull << survey->skipped_bits) - 1)) != 0;
}

static struct seen *slot_of(struct seen *seen, const struct far_hash256 *id)
{
    size_t i = far_get_le64(id->bytes) % SEEN_SLOTS;
    while (seen[i].needs != 0 && !far_hash256_equal(&seen[i].id, id)) {
        i = (i + 1) % SEEN_SLOTS;
    }
    return &seen[i];
}

static void see(void *arg, const struct far_hash256 *hash, bool is_leaf, int change)
{
    struct survey *survey = arg;
    struct far_hash256 id;
    survey->blocks += is_leaf ? change : 0;
    far_domain_id(survey->domain, hash, &id);
    if (change < 0 || is_skipped(survey, &id)) {
        return;
    }
    struct seen *slot = slot_of(survey->seen, &id);
    survey->seen_count += slot->needs == 0;
    slot->id = id;
    slot->needs++;
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
            if (survey->seen[i].needs != 0 && !is_skipped(survey, &survey->seen[i].id)) {
                *slot_of(fewer, &survey->seen[i].id) = survey->seen[i];
                survey->seen_count++;
            }
        }
        free(survey->seen);
        survey->seen = fewer;
    }
    return 0;
}

/* From tree to tree; *ret_space gets what its points hold. */
static int survey_chain(struct survey *survey, struct far_chain chain, struct far_space *ret_space, struct far_error *err)
{
    static const bool before[3] = {false, true, false}, after[3] = {false, false, true};
    struct far_ledger_tree trees[3] = {{0}};
    uint64_t point_id = 0;
    int64_t newest = 0;
    survey->blocks = 0;
    int rc = far_vault_domain_numbered(survey->vault, chain.domain, &survey->domain, err);
    if (rc == FAR_CONFLICT) { /* destroyed: its points hold nothing any more */
        return 0;
    }
    while (rc == 0 && (rc = far_ledger_next(survey->vault, chain, &point_id, &trees[2], err)) == 0) {
        struct far_ledger_walker walker = {.vault = survey->vault, .domain = survey->domain, .to = UINT64_MAX, .arg = survey,
                                           .count = see, .make_room = make_room};
        rc = far_ledger_walk_trees(&walker, trees, before, after, err);
        if (rc != 0 || point_id == FAR_LEDGER_REPLICA) {
            break;
        }
        newest = survey->blocks;
        ret_space->points_bytes += (uint64_t)newest * FAR_BLOCK_BYTES;
        trees[1] = trees[2];
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
        *(rows[i].needs <= batch[i].needs ? &space->unique_bytes : &space->shared_bytes) += bytes;
    }
    return rc;
}

static int weigh(struct survey *survey, struct far_space *space, struct far_error *err)
{
    struct seen batch[LOOK_BATCH];
    size_t count = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < SEEN_SLOTS; i++) {
        if (survey->seen[i].needs != 0) {
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
            rc = survey_chain(survey, survey->chains[i].chain, &space, err);
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

/* ---- which chain belongs to which plan ---- */

static int plan_of(struct far_vault *vault, uint64_t point_id, uint64_t *ret_plan, struct far_error *err)
{
    struct far_index_key key;
    uint8_t bytes[8];
    far_ledger_point_key(point_id, &key);
    int rc = far_index_get(vault->index, &key, bytes, sizeof bytes, err);
    *ret_plan = rc == 0 ? far_get_le64(bytes) : 0;
    return rc;
}

static int add_chain(struct survey *survey, struct far_chain chain, uint64_t plan_id, struct far_error *err)
{
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

/* The first counted point of each chain says whose it is. */
static int list_chains(struct survey *survey, struct far_error *err)
{
    struct far_index_key key;
    struct far_chain chain = {0};
    size_t count = 1;
    int rc = 0;
    while (rc == 0) {
        uint64_t plan_id;
        far_ledger_chain_key(chain, 0, &key);
        rc = far_index_list(survey->vault->index, &key, 5, &key, 1, &count, err);
        if (rc != 0 || count == 0) {
            return rc;
        }
        chain = (struct far_chain){.disk_id = far_index_key_get_u64(&key, 0), .domain = (uint16_t)far_index_key_get_u64(&key, 1)};
        rc = plan_of(survey->vault, far_index_key_get_u64(&key, 2), &plan_id, err);
        rc = rc == 0 ? add_chain(survey, chain, plan_id, err) : rc == FAR_NOT_FOUND ? 0 : rc;
        chain.disk_id += chain.domain == UINT16_MAX;
        chain.domain++;
    }
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
