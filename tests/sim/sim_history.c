/* What clients saw, and whether it can be explained: linearizability of each key by the search of Wing and Gong, with
 * Lowe's memory of configurations that led nowhere. See sim.h.
 *
 * A key holds the id of a site, or nothing. Operations are sorted by their call; a configuration is the first operation
 * that is not placed yet, which of the next 256 are, and the value. An operation whose answer never came, or was a
 * rejection while another attempt was under way, is placed between its call and the moment at which its effect was first
 * applied, if the committed log says that it had one. Local reads carry an index: they must say what the log says there. */
#include "sim.h"

#include "base/assert.h"

#include <stdlib.h>

enum { WORDS = 4, WINDOW = 64 * WORDS };

struct local {
    uint64_t index;
    uint64_t value;
    unsigned key;
};

struct effect {
    uint64_t object_id;
    uint64_t applied_us; /* 0: it had none */
};

struct sim_history {
    struct sim *sim;
    struct sim_op *ops;
    size_t op_count, op_cap;
    struct local *locals;
    size_t local_count, local_cap, local_next;
    bool is_sorted;
    bool is_broken; /* a forced recovery left out what clients had seen: there is no one history */
    struct effect *effects; /* by command */
    size_t effect_cap;
};

struct sim_history *sim_history_new(struct sim *sim)
{
    struct sim_history *history = calloc(1, sizeof *history);
    FAR_ASSERT(history != NULL);
    history->sim = sim;
    return history;
}

void sim_history_free(struct sim_history *history)
{
    free(history->ops);
    free(history->locals);
    free(history->effects);
    free(history);
}

size_t sim_history_begin(struct sim_history *history, struct sim_op op)
{
    if (history->op_count == history->op_cap) {
        history->op_cap = history->op_cap * 2 + 256;
        history->ops = realloc(history->ops, history->op_cap * sizeof *history->ops);
        FAR_ASSERT(history->ops != NULL);
    }
    history->ops[history->op_count] = op;
    return history->op_count++;
}

struct sim_op *sim_history_op(struct sim_history *history, size_t at)
{
    return &history->ops[at];
}

void sim_history_local(struct sim_history *history, unsigned key, uint64_t index, uint64_t value)
{
    if (history->local_count == history->local_cap) {
        history->local_cap = history->local_cap * 2 + 256;
        history->locals = realloc(history->locals, history->local_cap * sizeof *history->locals);
        FAR_ASSERT(history->locals != NULL);
    }
    history->locals[history->local_count++] = (struct local){.index = index, .value = value, .key = key};
}

void sim_history_effect(struct sim_history *history, uint64_t command, uint64_t object_id, uint64_t applied_us)
{
    if (command >= history->effect_cap) {
        size_t cap = (size_t)command * 2 + 256;
        history->effects = realloc(history->effects, cap * sizeof *history->effects);
        FAR_ASSERT(history->effects != NULL);
        memset(history->effects + history->effect_cap, 0, (cap - history->effect_cap) * sizeof *history->effects);
        history->effect_cap = cap;
    }
    history->effects[command] = (struct effect){.object_id = object_id, .applied_us = applied_us};
}

/* ---- local reads ---- */

static int by_index(const void *a, const void *b)
{
    const struct local *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

void sim_history_at(struct sim_history *history, uint64_t index, struct far_state *state)
{
    if (!history->is_sorted && history->local_count > 0) {
        qsort(history->locals, history->local_count, sizeof *history->locals, by_index);
        history->is_sorted = true;
    }
    for (; history->local_next < history->local_count; history->local_next++) {
        const struct local *local = &history->locals[history->local_next];
        uint64_t value;
        if (local->index > index) {
            return;
        }
        if (local->index == index && (sim_key_read(state, local->key, &value, NULL) != 0 || value != local->value)) {
            sim_fail(history->sim, "a read of key %u at index %llu said %llu, and the log says %llu", local->key,
                     (unsigned long long)index, (unsigned long long)local->value, (unsigned long long)value);
        }
    }
}

/* ---- the search ---- */

struct config {
    uint64_t placed[WORDS]; /* of the WINDOW operations from `first` on */
    uint64_t value;
    size_t first;
};

struct search {
    struct sim_op *ops; /* of one key, by call */
    size_t count;
    struct config *seen; /* a hash set; first = SIZE_MAX: free */
    size_t seen_count, seen_cap;
    size_t deepest;
    bool is_cut; /* an operation lasted so long that more than WINDOW others began meanwhile: not all was tried */
};

static bool is_placed(const struct config *config, size_t at)
{
    return (config->placed[at / 64] >> at % 64 & 1) != 0;
}

/* Pass over what is placed at the front. */
static void normalize(struct config *config)
{
    while ((config->placed[0] & 1) != 0) {
        for (size_t w = 0; w + 1 < WORDS; w++) {
            config->placed[w] = config->placed[w] >> 1 | config->placed[w + 1] << 63;
        }
        config->placed[WORDS - 1] >>= 1;
        config->first++;
    }
}

static size_t slot_of(const struct config *config, size_t cap)
{
    uint64_t x = config->value * 0xc2b2ae3d27d4eb4fu ^ config->first * 0x165667b19e3779f9u;
    for (size_t w = 0; w < WORDS; w++) {
        x = (x ^ config->placed[w] ^ x >> 31) * 0x9e3779b97f4a7c15u;
    }
    return (size_t)(x ^ (x >> 29)) & (cap - 1);
}

static bool same(const struct config *a, const struct config *b)
{
    return memcmp(a->placed, b->placed, sizeof a->placed) == 0 && a->value == b->value && a->first == b->first;
}

static void insert(struct config *set, size_t cap, const struct config *config)
{
    size_t at = slot_of(config, cap);
    while (set[at].first != SIZE_MAX) {
        at = (at + 1) & (cap - 1);
    }
    set[at] = *config;
}

/* false: it was there. */
static bool note(struct search *search, const struct config *config)
{
    if (search->seen_count * 2 >= search->seen_cap) {
        size_t cap = search->seen_cap == 0 ? 1024 : search->seen_cap * 2;
        struct config *set = malloc(cap * sizeof *set);
        FAR_ASSERT(set != NULL);
        memset(set, 0xff, cap * sizeof *set);
        for (size_t i = 0; i < search->seen_cap; i++) {
            if (search->seen[i].first != SIZE_MAX) {
                insert(set, cap, &search->seen[i]);
            }
        }
        free(search->seen);
        search->seen = set;
        search->seen_cap = cap;
    }
    for (size_t at = slot_of(config, search->seen_cap); search->seen[at].first != SIZE_MAX;
         at = (at + 1) & (search->seen_cap - 1)) {
        if (same(&search->seen[at], config)) {
            return false;
        }
    }
    insert(search->seen, search->seen_cap, config);
    search->seen_count++;
    return true;
}

/* May the operation come next? Then *ret_value is what the key holds after it. */
static bool step(const struct sim_op *op, uint64_t value, uint64_t *ret_value)
{
    *ret_value = value;
    if (op->kind == SIM_READ) {
        return op->value == value;
    }
    bool is_accepted = op->outcome == SIM_ACCEPTED;
    if (op->kind == SIM_CREATE) {
        *ret_value = is_accepted ? op->value : value;
        return is_accepted == (value == 0);
    }
    *ret_value = is_accepted ? 0 : value;
    return is_accepted == (value != 0) && (!is_accepted || op->value == value);
}

static bool search_from(struct search *search, struct config config)
{
    normalize(&config);
    if (config.first >= search->count) {
        return true;
    }
    search->deepest = config.first > search->deepest ? config.first : search->deepest;
    if (!note(search, &config)) {
        return false;
    }
    uint64_t earliest_us = UINT64_MAX; /* the first return among those not placed: who was called later comes later */
    for (size_t i = 0; i < WINDOW && config.first + i < search->count; i++) {
        const struct sim_op *op = &search->ops[config.first + i];
        if (op->call_us > earliest_us) {
            break;
        }
        if (!is_placed(&config, i) && op->return_us < earliest_us) {
            earliest_us = op->return_us;
        }
    }
    for (size_t i = 0; i < WINDOW && config.first + i < search->count; i++) {
        const struct sim_op *op = &search->ops[config.first + i];
        struct config next = config;
        if (op->call_us > earliest_us) {
            break;
        }
        next.placed[i / 64] |= (uint64_t)1 << i % 64;
        search->is_cut = search->is_cut || i == WINDOW - 1;
        if (!is_placed(&config, i) && step(op, config.value, &next.value) && search_from(search, next)) {
            return true;
        }
    }
    return false;
}

static int by_call(const void *a, const void *b)
{
    const struct sim_op *x = a, *y = b;
    return x->call_us < y->call_us ? -1 : x->call_us > y->call_us;
}

/* The operations on a key, those without an answer or with two outcomes as the committed log has them. */
static size_t gather(struct sim_history *history, unsigned key, struct sim_op *ops)
{
    size_t count = 0;
    for (size_t i = 0; i < history->op_count; i++) {
        struct sim_op op = history->ops[i];
        if (op.key != key) {
            continue;
        }
        struct effect effect = op.command != 0 && op.command < history->effect_cap ? history->effects[op.command]
                                                                                   : (struct effect){0};
        if (op.outcome != SIM_UNKNOWN) {
            ops[count++] = op;
        }
        bool is_open = op.outcome == SIM_UNKNOWN || (op.outcome == SIM_REJECTED && op.may_follow);
        if (is_open && effect.applied_us != 0) {
            op.outcome = SIM_ACCEPTED;
            op.value = effect.object_id;
            op.return_us = effect.applied_us;
            ops[count++] = op;
        }
    }
    qsort(ops, count, sizeof *ops, by_call);
    return count;
}

static void explain(struct sim_history *history, const struct search *search, unsigned key)
{
    static const char *const kinds[] = {"create", "remove", "read"};
    size_t from = search->deepest > 6 ? search->deepest - 6 : 0;
    for (size_t i = from; i < search->count && i < search->deepest + 8; i++) {
        const struct sim_op *op = &search->ops[i];
        printf("# key %u: %s %llu%s, called at %.6f, answered at %.6f (command %llu)\n", key, kinds[op->kind],
               (unsigned long long)op->value, op->outcome == SIM_REJECTED ? " rejected" : "",
               (double)op->call_us / SIM_SECOND, (double)op->return_us / SIM_SECOND, (unsigned long long)op->command);
    }
    sim_fail(history->sim, "no order of the operations on key %u explains what clients saw", key);
}

void sim_history_recover(struct sim_history *history, uint64_t last_index, bool has_lost)
{
    size_t kept = 0;
    for (size_t i = 0; i < history->local_count; i++) {
        if (history->locals[i].index <= last_index) {
            history->locals[kept++] = history->locals[i];
        }
    }
    history->is_broken = has_lost || kept < history->local_count;
    history->local_count = kept;
}

void sim_history_check(struct sim_history *history)
{
    struct sim *sim = history->sim;
    if (history->is_broken) {
        return;
    }
    struct sim_op *ops = malloc((2 * history->op_count + 1) * sizeof *ops);
    FAR_ASSERT(ops != NULL);
    for (unsigned key = 0; key < sim->swarm.keys && !sim->failed; key++) {
        struct search search = {.ops = ops, .count = gather(history, key, ops)};
        if (!search_from(&search, (struct config){0}) && !search.is_cut) {
            explain(history, &search, key);
        }
        free(search.seen);
    }
    free(ops);
}
