/* The store in memory: sorted arrays of counted pairs, for the simulator and for tests.
 *
 * A write transaction works on the maps in place and notes each change, so that it can be given up, and so that a power
 * cut can undo the last commit as MDB_NOMETASYNC may. A read transaction shares the arrays
 * until a write transaction begins, then it gets copies of them (not of the pairs). One thread. */
#include "log/store.h"

#include "base/assert.h"

#include <stdlib.h>

struct pair {
    unsigned refs;
    size_t key_len;
    size_t value_len;
    uint8_t bytes[]; /* key, value */
};

struct map {
    struct pair **items; /* sorted by key; each holds a reference */
    size_t count;
    size_t cap;
};

enum { MAP_STATE_0, MAP_STATE_1, MAP_EVENTS, MAP_HISTORY, MAP_COUNT };
enum { KEPT_KEY_MAX = FAR_KV_KEY_MAX + 16 }; /* of the history: a row's key and an epoch */

/* One change of one map; each pair that is not NULL holds a reference. */
struct change {
    int map;
    struct pair *old;
    struct pair *new;
};

struct undo {
    bool set; /* there is a commit to be undone, even if it changed no row */
    struct change *items;
    size_t count;
    size_t cap;
    int active;                 /* before */
    struct far_store_meta meta; /* before */
};

struct memory_txn;
struct memory_kv {
    struct far_kv kv; /* first */
    struct memory_txn *txn;
    int map;
};

struct memory_store {
    struct far_store store; /* first */
    struct map maps[MAP_COUNT];
    int active;
    bool keeps_history;
    struct far_store_meta meta;
    struct undo last; /* of the last commit, while it is not durable */
    struct memory_txn *writer;
    struct memory_txn *readers; /* that share its maps */
};

struct memory_txn {
    struct far_store_txn txn; /* first */
    struct map *maps;         /* the store's, or copies */
    struct memory_txn *next_reader;
    struct map copies[MAP_COUNT];
    int active;
    struct memory_kv state, install, history;
    struct undo undo;
};

/* ---- pairs and maps ---- */

static struct pair *pair_new(struct far_slice key, struct far_slice value)
{
    struct pair *pair = malloc(sizeof *pair + key.len + value.len);
    if (pair != NULL) {
        *pair = (struct pair){.refs = 1, .key_len = key.len, .value_len = value.len};
        memcpy(pair->bytes, key.data, key.len);
        if (value.len > 0) {
            memcpy(pair->bytes + key.len, value.data, value.len);
        }
    }
    return pair;
}

static struct pair *pair_ref(struct pair *pair)
{
    if (pair != NULL) {
        pair->refs++;
    }
    return pair;
}

static void pair_unref(struct pair *pair)
{
    if (pair != NULL && --pair->refs == 0) {
        free(pair);
    }
}

static struct far_slice key_of(const struct pair *pair)
{
    return far_slice(pair->bytes, pair->key_len);
}

static struct far_slice value_of(const struct pair *pair)
{
    return far_slice(pair->bytes + pair->key_len, pair->value_len);
}

/* Where the first key >= key is. */
static size_t map_lower(const struct map *map, struct far_slice key)
{
    size_t low = 0, high = map->count;
    if (high > 0 && far_slice_compare(key_of(map->items[high - 1]), key) < 0) {
        return high; /* appending is the common case of events */
    }
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (far_slice_compare(key_of(map->items[middle]), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct pair *map_find(const struct map *map, struct far_slice key)
{
    size_t at = map_lower(map, key);
    bool found = at < map->count && far_slice_equal(key_of(map->items[at]), key);
    return found ? map->items[at] : NULL;
}

/* Put pair (whose reference the map takes) under its key, or remove the key when pair is NULL. Returns what was there,
 * with its reference. Room must have been made. */
static struct pair *map_set(struct map *map, struct far_slice key, struct pair *pair)
{
    size_t at = map_lower(map, key);
    struct pair *old = at < map->count && far_slice_equal(key_of(map->items[at]), key) ? map->items[at] : NULL;
    if (old != NULL && pair != NULL) {
        map->items[at] = pair;
    } else if (old != NULL) {
        memmove(&map->items[at], &map->items[at + 1], (map->count - at - 1) * sizeof *map->items);
        map->count--;
    } else if (pair != NULL) {
        memmove(&map->items[at + 1], &map->items[at], (map->count - at) * sizeof *map->items);
        map->items[at] = pair;
        map->count++;
    }
    return old;
}

static bool map_make_room(struct map *map)
{
    if (map->count < map->cap) {
        return true;
    }
    size_t cap = map->cap == 0 ? 64 : map->cap * 2;
    struct pair **items = realloc(map->items, cap * sizeof *items);
    if (items != NULL) {
        map->items = items;
        map->cap = cap;
    }
    return items != NULL;
}

static void map_done(struct map *map)
{
    for (size_t i = 0; i < map->count; i++) {
        pair_unref(map->items[i]);
    }
    free(map->items);
    *map = (struct map){0};
}

static bool map_copy(const struct map *from, struct map *ret_copy)
{
    struct map copy = {.items = calloc(from->count + 1, sizeof *copy.items), .count = from->count, .cap = from->count + 1};
    if (copy.items == NULL) {
        return false;
    }
    for (size_t i = 0; i < from->count; i++) {
        copy.items[i] = pair_ref(from->items[i]);
    }
    *ret_copy = copy;
    return true;
}

/* ---- changes and their undoing ---- */

static void undo_done(struct undo *undo)
{
    for (size_t i = 0; i < undo->count; i++) {
        pair_unref(undo->items[i].old);
        pair_unref(undo->items[i].new);
    }
    free(undo->items);
    undo->items = NULL;
    undo->count = undo->cap = 0;
    undo->set = false;
}

/* Take the changes back, newest first. */
static void undo_run(struct memory_store *store, struct undo *undo)
{
    for (size_t i = undo->count; i-- > 0;) {
        struct change *change = &undo->items[i];
        struct far_slice key = key_of(change->old != NULL ? change->old : change->new);
        pair_unref(map_set(&store->maps[change->map], key, pair_ref(change->old)));
    }
    store->active = undo->active;
    store->meta = undo->meta;
    undo_done(undo);
}

/* Set or remove (value.data NULL) one key and note it. */
static int change(struct memory_txn *txn, int map, struct far_slice key, struct far_slice value, bool remove,
                  struct far_error *err)
{
    FAR_ASSERT(txn->txn.write);
    struct undo *undo = &txn->undo;
    if (undo->count == undo->cap) {
        size_t cap = undo->cap == 0 ? 32 : undo->cap * 2;
        struct change *items = realloc(undo->items, cap * sizeof *items);
        if (items == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory");
        }
        undo->items = items;
        undo->cap = cap;
    }
    struct pair *pair = remove ? NULL : pair_new(key, value);
    if (!remove && (pair == NULL || !map_make_room(&txn->maps[map]))) {
        free(pair);
        return far_fail(err, FAR_LIMIT, "no memory");
    }
    struct pair *old = map_set(&txn->maps[map], key, pair);
    if (old != NULL || pair != NULL) {
        undo->items[undo->count++] = (struct change){.map = map, .old = old, .new = pair_ref(pair)};
    }
    return 0;
}

static int clear(struct memory_txn *txn, int map, struct far_error *err)
{
    int rv = 0;
    while (rv == 0 && txn->maps[map].count > 0) {
        struct pair *last = txn->maps[map].items[txn->maps[map].count - 1];
        rv = change(txn, map, key_of(last), far_slice(NULL, 0), true, err);
    }
    return rv;
}

/* ---- the key-value interface ---- */

static struct map *map_of(struct far_kv *kv)
{
    struct memory_kv *memory = (struct memory_kv *)kv;
    return &memory->txn->maps[memory->map];
}

static int kv_get(struct far_kv *kv, struct far_slice key, struct far_slice *ret_value, struct far_error *err)
{
    (void)err;
    struct pair *pair = map_find(map_of(kv), key);
    if (pair == NULL) {
        return FAR_NOT_FOUND;
    }
    *ret_value = value_of(pair);
    return 0;
}

static int kv_put(struct far_kv *kv, struct far_slice key, struct far_slice value, struct far_error *err)
{
    struct memory_kv *memory = (struct memory_kv *)kv;
    size_t key_max = memory->map == MAP_HISTORY ? KEPT_KEY_MAX : FAR_KV_KEY_MAX;
    if (key.len == 0 || key.len > key_max || value.len > FAR_KV_VALUE_MAX) {
        return far_fail(err, FAR_LIMIT, "a row of %zu bytes under a key of %zu", value.len, key.len);
    }
    return change(memory->txn, memory->map, key, value, false, err);
}

static int kv_del(struct far_kv *kv, struct far_slice key, struct far_error *err)
{
    struct memory_kv *memory = (struct memory_kv *)kv;
    if (map_find(map_of(kv), key) == NULL) {
        return FAR_NOT_FOUND;
    }
    return change(memory->txn, memory->map, key, far_slice(NULL, 0), true, err);
}

static int kv_at(const struct map *map, size_t at, struct far_slice *ret_key, struct far_slice *ret_value)
{
    if (at >= map->count) {
        return FAR_NOT_FOUND;
    }
    *ret_key = key_of(map->items[at]);
    *ret_value = value_of(map->items[at]);
    return 0;
}

static int kv_seek(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key, struct far_slice *ret_value,
                   struct far_error *err)
{
    (void)err;
    struct map *map = map_of(kv);
    return kv_at(map, map_lower(map, key), ret_key, ret_value);
}

static int kv_seek_before(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                          struct far_slice *ret_value, struct far_error *err)
{
    (void)err;
    struct map *map = map_of(kv);
    return kv_at(map, map_lower(map, key) - 1, ret_key, ret_value); /* 0 - 1 is behind the end, too */
}

static const struct far_kv_ops kv_ops = {
    .get = kv_get, .put = kv_put, .del = kv_del, .seek = kv_seek, .seek_before = kv_seek_before};

/* ---- transactions ---- */

static void txn_free(struct memory_txn *txn)
{
    struct memory_store *store = (struct memory_store *)txn->txn.store;
    for (struct memory_txn **at = &store->readers; *at != NULL; at = &(*at)->next_reader) {
        if (*at == txn) {
            *at = txn->next_reader;
            break;
        }
    }
    for (int i = 0; i < MAP_COUNT; i++) {
        map_done(&txn->copies[i]);
    }
    free(txn);
}

static void point_kvs(struct memory_txn *txn)
{
    txn->state = (struct memory_kv){.kv = {.ops = &kv_ops}, .txn = txn, .map = MAP_STATE_0 + txn->active};
    txn->install = (struct memory_kv){.kv = {.ops = &kv_ops}, .txn = txn, .map = MAP_STATE_1 - txn->active};
    txn->txn.kv = &txn->state.kv;
    txn->txn.install_kv = txn->txn.write ? &txn->install.kv : NULL;
    if (((struct memory_store *)txn->txn.store)->keeps_history) {
        txn->history = (struct memory_kv){.kv = {.ops = &kv_ops}, .txn = txn, .map = MAP_HISTORY};
        txn->txn.history = &txn->history.kv;
    }
}

/* Who reads now goes on with what is there now. */
static bool part_from_readers(struct memory_store *store)
{
    for (; store->readers != NULL; store->readers = store->readers->next_reader) {
        struct memory_txn *reader = store->readers;
        for (int i = 0; i < MAP_COUNT; i++) {
            if (reader->copies[i].items == NULL && !map_copy(&store->maps[i], &reader->copies[i])) {
                return false;
            }
        }
        reader->maps = reader->copies;
    }
    return true;
}

/* Metas are large; only so much of them is used. */
static void meta_copy(struct far_store_meta *to, const struct far_store_meta *from)
{
    memcpy(to, from, offsetof(struct far_store_meta, configuration) + from->configuration_len);
}

/* All zero but the metas, which are large: of each only what is used is written. */
static struct memory_txn *txn_new(const struct memory_store *store)
{
    struct memory_txn *txn = malloc(sizeof *txn);
    if (txn != NULL) {
        char *bytes = (char *)txn, *own = (char *)&txn->txn.meta, *before = (char *)&txn->undo.meta;
        memset(bytes, 0, (size_t)(own - bytes));
        memset(own + sizeof txn->txn.meta, 0, (size_t)(before - own) - sizeof txn->txn.meta);
        meta_copy(&txn->txn.meta, &store->meta);
        meta_copy(&txn->undo.meta, &store->meta);
    }
    return txn;
}

static int begin(struct far_store *base, bool write, struct far_store_txn **ret_txn, struct far_error *err)
{
    struct memory_store *store = (struct memory_store *)base;
    FAR_ASSERT(store->writer == NULL); /* one thread: nothing may look at a half-done transaction */
    struct memory_txn *txn = !write || part_from_readers(store) ? txn_new(store) : NULL;
    if (txn == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory");
    }
    txn->txn.store = base;
    txn->txn.write = write;
    txn->maps = store->maps;
    txn->active = store->active;
    txn->undo.active = store->active;
    point_kvs(txn);
    if (write) {
        store->writer = txn;
    } else {
        txn->next_reader = store->readers;
        store->readers = txn;
    }
    *ret_txn = &txn->txn;
    return 0;
}

static int commit(struct far_store_txn *base, struct far_error *err)
{
    (void)err;
    struct memory_txn *txn = (struct memory_txn *)base;
    struct memory_store *store = (struct memory_store *)base->store;
    if (base->write) {
        base->store->durable_index = store->meta.applied_index;
        meta_copy(&store->meta, &base->meta);
        store->active = txn->active;
        undo_done(&store->last);
        memcpy(&store->last, &txn->undo, offsetof(struct undo, meta));
        meta_copy(&store->last.meta, &txn->undo.meta);
        store->last.set = true;
        store->writer = NULL;
    }
    txn_free(txn);
    return 0;
}

static void give_up(struct far_store_txn *base)
{
    struct memory_txn *txn = (struct memory_txn *)base;
    struct memory_store *store = (struct memory_store *)base->store;
    if (base->write) {
        undo_run(store, &txn->undo);
        store->writer = NULL;
    }
    txn_free(txn);
}

static void event_key(uint64_t seq, uint8_t key[8])
{
    far_put_be64(key, seq);
}

static int event_put(struct far_store_txn *txn, uint64_t seq, struct far_slice row, struct far_error *err)
{
    uint8_t key[8];
    event_key(seq, key);
    return change((struct memory_txn *)txn, MAP_EVENTS, far_slice(key, 8), row, false, err);
}

static int event_row(struct far_store_txn *txn, uint64_t seq, struct far_slice *ret_row, struct far_error *err)
{
    (void)err;
    uint8_t key[8];
    event_key(seq, key);
    struct pair *pair = map_find(&((struct memory_txn *)txn)->maps[MAP_EVENTS], far_slice(key, 8));
    if (pair == NULL) {
        return FAR_NOT_FOUND;
    }
    *ret_row = value_of(pair);
    return 0;
}

/* Looks at each seq: tests have few. */
static int event_remove(struct far_store_txn *base, uint64_t from, uint64_t to, size_t max, size_t *ret_count,
                        struct far_error *err)
{
    struct memory_txn *txn = (struct memory_txn *)base;
    size_t count = 0;
    int rv = 0;
    for (uint64_t seq = from; seq <= to && count < max && rv == 0; seq++) {
        uint8_t key[8];
        event_key(seq, key);
        if (map_find(&txn->maps[MAP_EVENTS], far_slice(key, 8)) != NULL) {
            rv = change(txn, MAP_EVENTS, far_slice(key, 8), far_slice(NULL, 0), true, err);
            count += rv == 0;
        }
    }
    *ret_count = count;
    return rv;
}

static int install_clear(struct far_store_txn *base, struct far_error *err)
{
    struct memory_txn *txn = (struct memory_txn *)base;
    return clear(txn, txn->install.map, err);
}

static int install_switch(struct far_store_txn *base, struct far_error *err)
{
    struct memory_txn *txn = (struct memory_txn *)base;
    int rv = clear(txn, txn->state.map, err);
    rv = rv != 0 ? rv : clear(txn, MAP_HISTORY, err);
    if (rv == 0) {
        txn->active = 1 - txn->active;
        point_kvs(txn);
    }
    return rv;
}

static int sync_all(struct far_store *base, struct far_error *err)
{
    (void)err;
    struct memory_store *store = (struct memory_store *)base;
    undo_done(&store->last);
    base->durable_index = store->meta.applied_index;
    return 0;
}

static void close_store(struct far_store *base)
{
    struct memory_store *store = (struct memory_store *)base;
    FAR_ASSERT(store->writer == NULL);
    undo_done(&store->last);
    for (int i = 0; i < MAP_COUNT; i++) {
        map_done(&store->maps[i]);
    }
    free(store);
}

static const struct far_store_ops store_ops = {
    .begin = begin,
    .commit = commit,
    .abort = give_up,
    .event_put = event_put,
    .event_row = event_row,
    .event_remove = event_remove,
    .install_clear = install_clear,
    .install_switch = install_switch,
    .sync = sync_all,
    .close = close_store,
};

int far_store_open_memory(struct far_store **ret_store, struct far_error *err)
{
    struct memory_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory");
    }
    store->store.ops = &store_ops;
    far_store_meta_init(&store->meta);
    *ret_store = &store->store;
    return 0;
}

void far_store_memory_keep_history(struct far_store *base, uint64_t epoch_events)
{
    FAR_ASSERT(base->ops == &store_ops);
    ((struct memory_store *)base)->keeps_history = true;
    base->epoch_events = epoch_events;
}

void far_store_memory_power_cut(struct far_store *base, bool undo_last)
{
    FAR_ASSERT(base->ops == &store_ops);
    struct memory_store *store = (struct memory_store *)base;
    if (store->writer != NULL) {
        far_store_abort(&store->writer->txn);
    }
    bool is_apart = part_from_readers(store);
    FAR_ASSERT(is_apart);
    if (undo_last && store->last.set) {
        undo_run(store, &store->last);
    }
    undo_done(&store->last);
    base->durable_index = store->meta.applied_index;
}

bool far_store_memory_flip(struct far_store *base, uint64_t random)
{
    FAR_ASSERT(base->ops == &store_ops);
    struct memory_store *store = (struct memory_store *)base;
    struct map *map = &store->maps[MAP_STATE_0 + store->active];
    if (map->count == 0) {
        return false;
    }
    struct pair *pair = map->items[random % map->count];
    pair->bytes[pair->key_len + random / map->count % pair->value_len] ^= (uint8_t)(1u << (random >> 61));
    return true;
}
