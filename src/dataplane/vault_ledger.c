/* Needs of records, kept up with the chains of trees: see vault_ledger.h. The walk itself is in vault_ledger_walk.c. */
#include "dataplane/vault_ledger_private.h"

#include <stdlib.h>

/* ---- keys and values ---- */

void far_ledger_chain_key(struct far_chain chain, uint64_t point_id, struct far_index_key *ret_key)
{
    far_index_key_begin(ret_key, FAR_INDEX_CHAIN);
    far_index_key_u64(ret_key, chain.disk_id);
    far_index_key_u64(ret_key, chain.domain);
    far_index_key_u64(ret_key, point_id);
}

enum { CHAIN_PREFIX = 5 + 8 + 8 };

void far_ledger_tree_set(struct far_ledger_tree *ret_tree, uint64_t size_bytes, const struct far_hash256 *top)
{
    ret_tree->height = far_map_height(size_bytes);
    ret_tree->size_bytes = size_bytes;
    ret_tree->top = *top;
}

static void tree_encode(const struct far_ledger_tree *tree, uint8_t bytes[FAR_LEDGER_TREE_BYTES])
{
    memcpy(bytes, tree->top.bytes, 32);
    far_put_le64(bytes + 32, tree->size_bytes);
}

static void tree_decode(const uint8_t bytes[FAR_LEDGER_TREE_BYTES], struct far_ledger_tree *ret_tree)
{
    struct far_hash256 top;
    memcpy(top.bytes, bytes, 32);
    far_ledger_tree_set(ret_tree, far_get_le64(bytes + 32), &top);
}

static void word_key(char name, struct far_index_key *ret_key)
{
    far_index_key_begin(ret_key, FAR_INDEX_WORD);
    ret_key->bytes[ret_key->len++] = (uint8_t)name;
}

int far_ledger_word(struct far_vault *vault, char name, uint8_t ret_value[16], struct far_error *err)
{
    struct far_index_key key;
    word_key(name, &key);
    memset(ret_value, 0, 16);
    return far_index_get(vault->index, &key, ret_value, 16, err);
}

struct word {
    struct far_index_key key;
    const uint8_t *value;
};

static int put_word(void *arg, struct far_index_txn *txn)
{
    const struct word *word = arg;
    return far_index_txn_put(txn, &word->key, word->value, 16);
}

int far_ledger_set_word(struct far_vault *vault, char name, const uint8_t value[16], struct far_error *err)
{
    struct word word = {.value = value};
    word_key(name, &word.key);
    return far_index_write(vault->index, put_word, &word, err);
}

int far_ledger_next(struct far_vault *vault, struct far_chain chain, uint64_t *point_id, struct far_ledger_tree *ret_tree,
                    struct far_error *err)
{
    struct far_index_key key;
    uint8_t bytes[FAR_LEDGER_TREE_BYTES];
    far_ledger_chain_key(chain, *point_id, &key);
    int rc = far_index_seek(vault->index, &key, CHAIN_PREFIX, false, bytes, sizeof bytes, err);
    if (rc == 0) {
        *point_id = far_index_key_get_u64(&key, 2);
        tree_decode(bytes, ret_tree);
    }
    return rc;
}

/* The neighbours of a place in the chain; height 0 where there is none. */
static int neighbours(struct far_ledger *ledger, struct far_chain chain, uint64_t point_id, struct far_ledger_tree *ret_before,
                      struct far_ledger_tree *ret_there, struct far_ledger_tree *ret_behind, struct far_error *err)
{
    struct far_index_key key;
    uint8_t bytes[FAR_LEDGER_TREE_BYTES];
    struct far_ledger_tree none = {0};
    *ret_before = *ret_there = *ret_behind = none;
    far_ledger_chain_key(chain, point_id, &key);
    int rc = far_index_seek(ledger->vault->index, &key, CHAIN_PREFIX, true, bytes, sizeof bytes, err);
    if (rc == 0) {
        tree_decode(bytes, ret_before);
    }
    uint64_t next = point_id;
    rc = rc == 0 || rc == FAR_NOT_FOUND ? far_ledger_next(ledger->vault, chain, &next, ret_there, err) : rc;
    if (rc == 0 && next != point_id) {
        *ret_behind = *ret_there;
        *ret_there = none;
    } else if (rc == 0 && point_id != FAR_LEDGER_REPLICA) {
        next = point_id + 1;
        rc = far_ledger_next(ledger->vault, chain, &next, ret_behind, err);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* ---- what was found, into the index ---- */

static int compare_deltas(const void *a, const void *b)
{
    const struct far_ledger_delta *x = a, *y = b;
    return memcmp(x->id.bytes, y->id.bytes, 32);
}

static int apply_delta(struct far_ledger *ledger, struct far_index_txn *txn, const struct far_ledger_delta *delta)
{
    struct far_index_row row;
    int code = far_index_txn_row(txn, &delta->id, &row);
    if (code != 0 && code != FAR_INDEX_NOTHING) {
        return code;
    }
    int64_t needs = (int64_t)row.needs + delta->change;
    if (needs < 0 || needs > UINT32_MAX) {
        return FAR_INDEX_BROKEN;
    }
    bool needed_before = row.needs > 0;
    row.needs = (uint32_t)needs;
    row.since = needs > 0 ? 0 : row.since;
    if (row.needs == 0 && row.place.pack == 0) {
        return code == FAR_INDEX_NOTHING ? 0 : far_index_txn_del_row(txn, &delta->id);
    }
    if (needed_before && row.needs == 0) {
        ledger->quarantined_now++;
        return far_index_txn_quarantine(txn, &delta->id, &row, ledger->pass);
    }
    return far_index_txn_put_row(txn, &delta->id, &row);
}

static int apply_walk(struct far_ledger *ledger, struct far_index_txn *txn)
{
    uint8_t bytes[FAR_LEDGER_WALK_BYTES] = {0};
    const struct far_ledger_walk *walk = &ledger->walk;
    struct far_index_key key;
    word_key('w', &key);
    if (!walk->runs) {
        return far_index_txn_del(txn, &key);
    }
    bytes[0] = (uint8_t)walk->kind;
    bytes[1] = walk->undoes;
    far_put_le16(bytes + 2, walk->chain.domain);
    far_put_le64(bytes + 8, walk->chain.disk_id);
    far_put_le64(bytes + 16, walk->point_id);
    far_put_le64(bytes + 24, walk->from);
    far_put_le64(bytes + 32, walk->to);
    tree_encode(&walk->tree, bytes + 40);
    return far_index_txn_put(txn, &key, bytes, sizeof bytes);
}

static int apply_change(struct far_index_txn *txn, const struct far_ledger_change *change)
{
    struct far_index_key key;
    uint8_t bytes[FAR_LEDGER_TREE_BYTES];
    if (change->is_point) {
        far_ledger_point_key(change->point_id, &key);
        far_put_le64(bytes, change->plan_id);
        return change->is_counted ? far_index_txn_put(txn, &key, bytes, 8) : far_index_txn_del(txn, &key);
    }
    far_ledger_chain_key(change->chain, change->point_id, &key);
    tree_encode(&change->tree, bytes);
    return change->tree.height != 0 ? far_index_txn_put(txn, &key, bytes, sizeof bytes) : far_index_txn_del(txn, &key);
}

static int apply_all(void *arg, struct far_index_txn *txn)
{
    struct far_ledger *ledger = arg;
    int code = 0;
    ledger->quarantined_now = 0;
    for (size_t i = 0; code == 0 && i < ledger->delta_count; i++) {
        code = ledger->sorted[i].change == 0 ? 0 : apply_delta(ledger, txn, &ledger->sorted[i]);
    }
    for (size_t i = 0; code == 0 && i < ledger->change_count; i++) {
        code = apply_change(txn, &ledger->changes[i]);
    }
    return code == 0 ? apply_walk(ledger, txn) : code;
}

/* Counts that cannot be: nothing is to be deleted by them. */
static int give_up(struct far_ledger *ledger, struct far_error *err)
{
    static const uint8_t wrong[16] = {1};
    ledger->given_up = true;
    int rc = far_ledger_set_word(ledger->vault, 'b', wrong, err);
    return rc != 0 ? rc
                   : far_fail(err, FAR_CORRUPT, "vault '%s': what its records are needed for is not known any more; it is "
                                                "counted anew when the vault is opened next", ledger->vault->dir);
}

int far_ledger_commit(struct far_ledger *ledger, struct far_error *err)
{
    if (ledger->delta_count == 0 && ledger->change_count == 0 && ledger->walk.runs == ledger->walk_noted) {
        return 0;
    }
    size_t count = 0;
    for (size_t i = 0; i < FAR_LEDGER_SLOTS; i++) {
        if (ledger->slots[i].used) {
            ledger->sorted[count++] = ledger->slots[i];
        }
    }
    qsort(ledger->sorted, count, sizeof ledger->sorted[0], compare_deltas);
    int rc = far_index_write(ledger->vault->index, apply_all, ledger, err);
    if (rc == FAR_CORRUPT) {
        return give_up(ledger, err);
    }
    if (rc == 0) {
        memset(ledger->slots, 0, FAR_LEDGER_SLOTS * sizeof ledger->slots[0]);
        ledger->delta_count = 0;
        ledger->change_count = 0;
        ledger->walk_noted = ledger->walk.runs;
        ledger->quarantined += ledger->quarantined_now;
    }
    return rc;
}

bool far_ledger_gave_up(const struct far_ledger *ledger)
{
    return ledger->given_up;
}

uint64_t far_ledger_quarantined(const struct far_ledger *ledger)
{
    return ledger->quarantined;
}

/* ---- the three changes of a chain ---- */

/* The trees around the walk's place, and which of them are there before and after it. */
static int walk_trees(struct far_ledger *ledger, struct far_ledger_tree trees[3], bool before[3], bool after[3],
                      struct far_error *err)
{
    const struct far_ledger_walk *walk = &ledger->walk;
    struct far_ledger_tree left, there, right;
    int rc = neighbours(ledger, walk->chain, walk->point_id, &left, &there, &right, err);
    bool replaces = walk->kind == FAR_LEDGER_REPLACE;
    trees[0] = left;
    trees[1] = replaces ? there : walk->tree;
    trees[2] = replaces ? walk->tree : right;
    for (int i = 0; i < 3; i++) {
        before[i] = replaces ? i != 2 : i != 1 || walk->kind == FAR_LEDGER_REMOVE;
        after[i] = replaces ? i != 1 : i != 1 || walk->kind == FAR_LEDGER_ADD;
    }
    for (int i = 0; walk->undoes && i < 3; i++) {
        bool was = before[i];
        before[i] = after[i];
        after[i] = was;
    }
    return rc;
}

static void add_delta(void *arg, const struct far_hash256 *hash, bool is_leaf, int change)
{
    struct far_ledger *ledger = arg;
    struct far_hash256 id;
    (void)is_leaf;
    far_domain_id(ledger->domain, hash, &id);
    size_t i = far_get_le64(id.bytes) % FAR_LEDGER_SLOTS;
    while (ledger->slots[i].used && !far_hash256_equal(&ledger->slots[i].id, &id)) {
        i = (i + 1) % FAR_LEDGER_SLOTS;
    }
    struct far_ledger_delta *slot = &ledger->slots[i];
    ledger->delta_count += !slot->used;
    slot->used = true;
    slot->id = id;
    slot->change += change;
}

/* What there is goes into the index, with the place that was reached. */
static int make_room(void *arg, uint64_t place, size_t count, struct far_error *err)
{
    struct far_ledger *ledger = arg;
    ledger->walk.from = place;
    return ledger->delta_count + count > FAR_LEDGER_DELTAS_MAX ? far_ledger_commit(ledger, err) : 0;
}

/* Runs the walk to its end; the chain changes with its last commit. */
static int finish_walk(struct far_ledger *ledger, struct far_error *err)
{
    struct far_ledger_walk *walk = &ledger->walk;
    struct far_ledger_tree trees[3];
    bool before[3], after[3];
    int rc = walk_trees(ledger, trees, before, after, err);
    struct far_ledger_walker walker = {.vault = ledger->vault, .domain = ledger->domain, .from = walk->from, .to = walk->to,
                                       .arg = ledger, .count = add_delta, .make_room = make_room};
    rc = rc == 0 ? far_ledger_walk_trees(&walker, trees, before, after, err) : rc;
    walk->from = walker.from;
    if (rc != 0) {
        return rc;
    }
    walk->runs = false;
    if (!walk->undoes) {
        struct far_ledger_change *change = &ledger->changes[ledger->change_count++];
        *change = (struct far_ledger_change){.chain = walk->chain, .point_id = walk->point_id};
        if (walk->kind != FAR_LEDGER_REMOVE) {
            change->tree = walk->tree;
        }
    }
    /* A walk that was noted half way must be gone from the index with its last counts. */
    return ledger->walk_noted || ledger->change_count == FAR_LEDGER_CHANGES_MAX ? far_ledger_commit(ledger, err) : 0;
}

/* A page could not be read: what the walk counted up to there is taken back. */
static int undo_walk(struct far_ledger *ledger, struct far_error *err)
{
    struct far_error cause;
    ledger->walk.to = ledger->walk.from;
    ledger->walk.from = 0;
    ledger->walk.undoes = true;
    int rc = finish_walk(ledger, &cause);
    if (rc == FAR_CORRUPT || rc == FAR_NOT_FOUND) {
        return give_up(ledger, err);
    }
    return rc;
}

static int run_walk(struct far_ledger *ledger, struct far_error *err)
{
    int rc = finish_walk(ledger, err);
    if (rc != FAR_CORRUPT && rc != FAR_NOT_FOUND) {
        return rc;
    }
    if (ledger->walk.undoes || ledger->walk.kind == FAR_LEDGER_REMOVE) {
        return give_up(ledger, err);
    }
    struct far_error cause = {0};
    int undone = undo_walk(ledger, &cause);
    if (undone != 0 && err != NULL) {
        *err = cause;
    }
    return undone != 0 ? undone : rc;
}

/* The chain is in the index as it is now. */
static int settle_chain(struct far_ledger *ledger, struct far_chain chain, struct far_error *err)
{
    for (size_t i = 0; i < ledger->change_count; i++) {
        const struct far_ledger_change *change = &ledger->changes[i];
        if (!change->is_point && change->chain.disk_id == chain.disk_id && change->chain.domain == chain.domain) {
            return far_ledger_commit(ledger, err);
        }
    }
    return 0;
}

/* FAR_DENIED: it is locked, damaged, or not here; FAR_CONFLICT: destroyed. */
static int find_domain(struct far_ledger *ledger, uint16_t number, struct far_error *err)
{
    struct far_error cause = {0};
    int rc = far_vault_domain_numbered(ledger->vault, number, &ledger->domain, &cause);
    return rc == 0 ? 0 : far_fail(err, rc == FAR_CONFLICT ? rc : FAR_DENIED, "%s", cause.message);
}

int far_ledger_add(struct far_ledger *ledger, struct far_chain chain, uint64_t point_id, const struct far_ledger_tree *tree,
                   struct far_error *err)
{
    struct far_ledger_tree before, there, behind;
    int rc = settle_chain(ledger, chain, err);
    rc = rc == 0 ? neighbours(ledger, chain, point_id, &before, &there, &behind, err) : rc;
    bool is_so = there.height != 0 && there.size_bytes == tree->size_bytes && far_hash256_equal(&there.top, &tree->top);
    rc = rc == 0 && !is_so ? find_domain(ledger, chain.domain, err) : rc;
    if (rc != 0 || is_so) {
        return rc;
    }
    ledger->walk = (struct far_ledger_walk){.runs = true, .chain = chain, .point_id = point_id, .tree = *tree,
                                            .to = UINT64_MAX, .kind = there.height != 0 ? FAR_LEDGER_REPLACE : FAR_LEDGER_ADD};
    return run_walk(ledger, err);
}

int far_ledger_remove(struct far_ledger *ledger, struct far_chain chain, uint64_t point_id, struct far_error *err)
{
    struct far_ledger_tree before, there, behind;
    int rc = settle_chain(ledger, chain, err);
    rc = rc == 0 ? neighbours(ledger, chain, point_id, &before, &there, &behind, err) : rc;
    rc = rc == 0 && there.height != 0 ? find_domain(ledger, chain.domain, err) : rc;
    if (rc != 0 || there.height == 0) {
        return rc;
    }
    ledger->walk = (struct far_ledger_walk){.runs = true, .kind = FAR_LEDGER_REMOVE, .chain = chain, .point_id = point_id,
                                            .tree = there, .to = UINT64_MAX};
    return run_walk(ledger, err);
}

int far_ledger_drop(struct far_ledger *ledger, struct far_chain chain, uint64_t point_id, struct far_error *err)
{
    ledger->changes[ledger->change_count++] = (struct far_ledger_change){.chain = chain, .point_id = point_id};
    return ledger->change_count == FAR_LEDGER_CHANGES_MAX ? far_ledger_commit(ledger, err) : 0;
}

/* ---- points ---- */

void far_ledger_point_key(uint64_t point_id, struct far_index_key *ret_key)
{
    far_index_key_begin(ret_key, FAR_INDEX_POINT);
    far_index_key_u64(ret_key, point_id);
}

bool far_ledger_has_point(struct far_vault *vault, uint64_t point_id)
{
    struct far_index_key key;
    uint8_t plan[8];
    far_ledger_point_key(point_id, &key);
    return far_index_get(vault->index, &key, plan, sizeof plan, NULL) == 0;
}

int far_ledger_note_point(struct far_ledger *ledger, uint64_t point_id, uint64_t plan_id, bool is_counted, struct far_error *err)
{
    ledger->changes[ledger->change_count++] = (struct far_ledger_change){
        .is_point = true, .is_counted = is_counted, .plan_id = plan_id, .point_id = point_id};
    return ledger->change_count == FAR_LEDGER_CHANGES_MAX ? far_ledger_commit(ledger, err) : 0;
}

/* ---- opening ---- */

/* The walk that did not come to its end. */
static int read_walk(struct far_ledger *ledger, struct far_error *err)
{
    uint8_t bytes[FAR_LEDGER_WALK_BYTES];
    struct far_index_key key;
    word_key('w', &key);
    int rc = far_index_get(ledger->vault->index, &key, bytes, sizeof bytes, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    struct far_ledger_walk *walk = &ledger->walk;
    walk->runs = true;
    walk->kind = (enum far_ledger_kind)bytes[0];
    walk->undoes = bytes[1] != 0;
    walk->chain = (struct far_chain){.disk_id = far_get_le64(bytes + 8), .domain = far_get_le16(bytes + 2)};
    walk->point_id = far_get_le64(bytes + 16);
    walk->from = far_get_le64(bytes + 24);
    walk->to = far_get_le64(bytes + 32);
    tree_decode(bytes + 40, &walk->tree);
    ledger->walk_noted = true;
    int found = find_domain(ledger, walk->chain.domain, err);
    if (found == FAR_CONFLICT) { /* destroyed meanwhile: what its records are needed for does not matter any more */
        walk->runs = false;
        return far_ledger_commit(ledger, err);
    }
    if (found != 0) { /* nobody can end it */
        return give_up(ledger, err);
    }
    rc = run_walk(ledger, err);
    /* That a page cannot be read was told where the walk began, and is again. */
    return !ledger->walk.runs && (rc == FAR_CORRUPT || rc == FAR_NOT_FOUND) ? 0 : rc;
}

int far_ledger_open(struct far_vault *vault, uint64_t pass, struct far_ledger **ret_ledger, struct far_error *err)
{
    uint8_t wrong[16];
    struct far_ledger *ledger = calloc(1, sizeof *ledger);
    if (ledger == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to count what records are needed for");
    }
    ledger->vault = vault;
    ledger->pass = pass;
    ledger->slots = calloc(FAR_LEDGER_SLOTS, sizeof *ledger->slots);
    ledger->sorted = calloc(FAR_LEDGER_SLOTS, sizeof *ledger->sorted);
    int rc = ledger->slots != NULL && ledger->sorted != NULL
                 ? far_ledger_word(vault, 'b', wrong, err)
                 : far_fail(err, FAR_LIMIT, "no memory to count what records are needed for");
    if (rc == 0) {
        rc = give_up(ledger, err);
    }
    rc = rc == FAR_NOT_FOUND ? read_walk(ledger, err) : rc;
    if (rc != 0) {
        far_ledger_close(ledger);
        return rc;
    }
    *ret_ledger = ledger;
    return 0;
}

void far_ledger_close(struct far_ledger *ledger)
{
    if (ledger != NULL) {
        free(ledger->slots);
        free(ledger->sorted);
        free(ledger);
    }
}
