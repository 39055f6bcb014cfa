/* The memory map: see kv_memory.h. A skip list (Pugh 1990) with a quarter of the towers at each further level. Searching
 * remembers, for every level, the last node before the key; everything else follows from that path, and the next search starts
 * there if its key lies behind. Larger maps have a hash table of the nodes, too: most keys that are asked for are not there, or
 * are written again. Only running out of memory can fail, with FAR_LIMIT and the map as it was. */
#include "fsm/kv_memory.h"

#include "base/hash.h"

#include <stdlib.h>

enum { LEVELS = 16, VALUE_MAX = FAR_KV_VALUE_MAX + 1 }; /* an overlay puts one byte in front */
enum { HASHED_MIN = 32 }; /* fewer nodes have no table */

struct node {
    uint8_t *value; /* behind the key, or (is_apart) owned */
    size_t value_len;
    bool is_apart;
    uint64_t hash;
    struct node *other; /* in its bucket */
    size_t key_len;
    uint8_t *key; /* behind the tower */
    struct node *next[];
};

struct memory {
    struct far_kv kv;
    size_t count;
    struct node *first[LEVELS];
    struct node **buckets; /* owned; NULL: there is no table */
    size_t bucket_count;   /* a power of two */
    struct node *recent; /* the last one asked for by its key: rows are read, read again and then written */
    struct node *finger[LEVELS]; /* the last search's nodes before the key, one a level (NULL: none); near keys start there */
};

static struct memory *memory_of(struct far_kv *kv)
{
    return (struct memory *)(void *)kv;
}

static struct far_slice key_of(const struct node *node)
{
    return far_slice(node->key, node->key_len);
}

static unsigned tower_of(uint64_t hash)
{
    unsigned levels = 1;
    while (levels < LEVELS && (hash & 3) == 0) {
        levels++;
        hash >>= 2;
    }
    return levels;
}

static struct node **links_of(struct memory *m, struct node *before)
{
    return before == NULL ? m->first : before->next;
}

static bool is_before(const struct node *node, struct far_slice key)
{
    return node != NULL && far_slice_compare(key_of(node), key) < 0;
}

/* How far up a search that begins at the finger has to start: above, what it points at is as right for this key. */
static int level_of_start(struct memory *m, struct far_slice key)
{
    int level = 0;
    if (!is_before(m->finger[0], key)) {
        memset(m->finger, 0, sizeof m->finger);
        return LEVELS - 1;
    }
    while (level < LEVELS - 1 && is_before(links_of(m, m->finger[level])[level], key)) {
        level++;
    }
    return level;
}

/* Fills path with the links that lead to the first node >= key, one a level, and returns the last node < key. */
static struct node *find(struct memory *m, struct far_slice key, struct node **path[LEVELS])
{
    int start = level_of_start(m, key);
    struct node *before = m->finger[start];
    for (int level = start; level >= 0; level--) {
        struct node *next;
        while (is_before(next = links_of(m, before)[level], key)) {
            before = next;
        }
        m->finger[level] = before;
    }
    for (int level = 0; level < LEVELS; level++) {
        path[level] = &links_of(m, m->finger[level])[level];
    }
    return before;
}

static struct node *find_equal(struct memory *m, struct far_slice key, struct node **path[LEVELS])
{
    find(m, key, path);
    struct node *node = *path[0];
    return node != NULL && far_slice_equal(key_of(node), key) ? node : NULL;
}

/* ---- the table ---- */

static struct node **bucket_of(const struct memory *m, uint64_t hash)
{
    return &m->buckets[hash >> 32 & (m->bucket_count - 1)];
}

/* If there is a table. */
static void table_put(struct memory *m, struct node *node)
{
    if (m->buckets == NULL) {
        return;
    }
    struct node **bucket = bucket_of(m, node->hash);
    node->other = *bucket;
    *bucket = node;
}

/* Room for one more node. False: no memory. */
static bool table_make_room(struct memory *m)
{
    if (m->count < HASHED_MIN || m->count < m->bucket_count) {
        return true;
    }
    size_t count = m->bucket_count == 0 ? (size_t)4 * HASHED_MIN : m->bucket_count * 4;
    struct node **buckets = calloc(count, sizeof(struct node *));
    if (buckets == NULL) {
        return false;
    }
    free(m->buckets);
    m->buckets = buckets;
    m->bucket_count = count;
    for (struct node *node = m->first[0]; node != NULL; node = node->next[0]) {
        table_put(m, node);
    }
    return true;
}

static void table_remove(struct memory *m, const struct node *node)
{
    struct node **at = m->buckets == NULL ? NULL : bucket_of(m, node->hash);
    while (at != NULL && *at != node) {
        at = &(*at)->other;
    }
    if (at != NULL) {
        *at = node->other;
    }
}

/* The node under key, or NULL. */
static struct node *lookup(struct memory *m, struct far_slice key, uint64_t hash)
{
    struct node **path[LEVELS];
    if (m->recent != NULL && m->recent->hash == hash && far_slice_equal(key_of(m->recent), key)) {
        return m->recent;
    }
    if (m->buckets == NULL) {
        return find_equal(m, key, path);
    }
    struct node *node = *bucket_of(m, hash);
    while (node != NULL && (node->hash != hash || !far_slice_equal(key_of(node), key))) {
        node = node->other;
    }
    return node;
}

/* ---- the map ---- */

static int memory_get(struct far_kv *kv, struct far_slice key, struct far_slice *ret_value, struct far_error *err)
{
    struct memory *m = memory_of(kv);
    struct node *node = lookup(m, key, far_hash64(key.data, key.len));
    if (node == NULL) {
        return FAR_NOT_FOUND;
    }
    m->recent = node;
    *ret_value = far_slice(node->value, node->value_len);
    return 0;
}

static struct node *node_new(struct far_slice key, uint64_t hash, struct far_slice value)
{
    unsigned levels = tower_of(hash);
    size_t tower = levels * sizeof(struct node *);
    struct node *node = malloc(sizeof *node + tower + key.len + value.len);
    if (node == NULL) {
        return NULL;
    }
    *node = (struct node){.value_len = value.len, .hash = hash, .key_len = key.len};
    node->key = (uint8_t *)(node->next + levels);
    node->value = node->key + key.len;
    memcpy(node->key, key.data, key.len);
    if (value.len > 0) {
        memcpy(node->value, value.data, value.len);
    }
    return node;
}

static int memory_put(struct far_kv *kv, struct far_slice key, struct far_slice value, struct far_error *err)
{
    struct memory *m = memory_of(kv);
    if (key.len == 0 || key.len > FAR_KV_KEY_MAX || value.len > VALUE_MAX) {
        return far_fail(err, FAR_LIMIT, "a key of %zu and a value of %zu bytes do not fit", key.len, value.len);
    }
    struct node **path[LEVELS];
    uint64_t hash = far_hash64(key.data, key.len);
    struct node *node = lookup(m, key, hash);
    if (node != NULL && node->value_len == value.len && value.len > 0) {
        memmove(node->value, value.data, value.len);
        return 0;
    }
    if (node != NULL) {
        uint8_t *copy = malloc(value.len + 1);
        if (copy == NULL) {
            return far_fail(err, FAR_LIMIT, "out of memory");
        }
        if (value.len > 0) {
            memcpy(copy, value.data, value.len);
        }
        if (node->is_apart) {
            free(node->value);
        }
        node->value = copy;
        node->value_len = value.len;
        node->is_apart = true;
        return 0;
    }
    node = table_make_room(m) ? node_new(key, hash, value) : NULL;
    if (node == NULL) {
        return far_fail(err, FAR_LIMIT, "out of memory");
    }
    find(m, key, path);
    unsigned levels = tower_of(hash);
    for (unsigned level = 0; level < levels; level++) {
        node->next[level] = *path[level];
        *path[level] = node;
    }
    m->count++;
    table_put(m, node);
    return 0;
}

static void node_free(struct node *node)
{
    if (node->is_apart) {
        free(node->value);
    }
    free(node);
}

static int memory_del(struct far_kv *kv, struct far_slice key, struct far_error *err)
{
    struct memory *m = memory_of(kv);
    struct node **path[LEVELS];
    struct node *node = find_equal(m, key, path);
    if (node == NULL) {
        return FAR_NOT_FOUND;
    }
    unsigned levels = tower_of(node->hash);
    for (unsigned level = 0; level < levels; level++) {
        *path[level] = node->next[level];
    }
    table_remove(m, node);
    m->recent = NULL; /* the finger points at nodes before this one */
    node_free(node);
    m->count--;
    return 0;
}

static int give(const struct node *node, struct far_slice *ret_key, struct far_slice *ret_value)
{
    if (node == NULL) {
        return FAR_NOT_FOUND;
    }
    *ret_key = key_of(node);
    *ret_value = far_slice(node->value, node->value_len);
    return 0;
}

static int memory_seek(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                       struct far_slice *ret_value, struct far_error *err)
{
    struct node **path[LEVELS];
    find(memory_of(kv), key, path);
    return give(*path[0], ret_key, ret_value);
}

static int memory_seek_before(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                              struct far_slice *ret_value, struct far_error *err)
{
    struct node **path[LEVELS];
    return give(find(memory_of(kv), key, path), ret_key, ret_value);
}

static const struct far_kv_ops memory_ops = {
    .get = memory_get,
    .put = memory_put,
    .del = memory_del,
    .seek = memory_seek,
    .seek_before = memory_seek_before,
};

struct far_kv *far_kv_memory_new(void)
{
    struct memory *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return NULL;
    }
    m->kv.ops = &memory_ops;
    return &m->kv;
}

void far_kv_memory_free(struct far_kv *kv)
{
    if (kv == NULL) {
        return;
    }
    struct memory *m = memory_of(kv);
    for (struct node *node = m->first[0], *next; node != NULL; node = next) {
        next = node->next[0];
        node_free(node);
    }
    free(m->buckets);
    free(m);
}

struct far_kv *far_kv_memory_clone(const struct far_kv *kv)
{
    const struct memory *from = (const struct memory *)(const void *)kv;
    struct far_kv *copy = far_kv_memory_new();
    if (copy == NULL) {
        return NULL;
    }
    struct memory *m = memory_of(copy);
    struct node **tails[LEVELS];
    for (unsigned level = 0; level < LEVELS; level++) {
        tails[level] = &m->first[level];
    }
    for (const struct node *old = from->first[0]; old != NULL; old = old->next[0]) {
        struct node *node = table_make_room(m) ? node_new(key_of(old), old->hash, far_slice(old->value, old->value_len)) : NULL;
        if (node == NULL) {
            far_kv_memory_free(copy);
            return NULL;
        }
        unsigned levels = tower_of(node->hash);
        for (unsigned level = 0; level < levels; level++) {
            node->next[level] = NULL;
            *tails[level] = node;
            tails[level] = &node->next[level];
        }
        m->count++;
        table_put(m, node);
    }
    return copy;
}

size_t far_kv_memory_count(const struct far_kv *kv)
{
    return ((const struct memory *)(const void *)kv)->count;
}

int far_kv_memory_walk(const struct far_kv *kv, far_kv_pair_fn fn, void *arg, struct far_error *err)
{
    const struct memory *m = (const struct memory *)(const void *)kv;
    int rv = 0;
    for (const struct node *node = m->first[0]; rv == 0 && node != NULL; node = node->next[0]) {
        rv = fn(arg, key_of(node), far_slice(node->value, node->value_len), err);
    }
    return rv;
}
