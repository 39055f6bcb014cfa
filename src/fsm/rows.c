/* Rows held decoded: see rows.h.
 *
 * A hash table of entries. An entry knows what lies below it (whether there is a pair, and its hash, so that the digest can
 * forget it) and the row as it is now, or NULL. Each put makes a new row and leaves the one before in the journal, where
 * whoever reads may still point at it. Entries whose key is not below are in the list of added ones until a walk puts them in
 * order (a skip list of pointers); all that changed since the last flush are in the list of changed ones. */
#include "fsm/rows_private.h"

enum { BUCKETS_MIN = 256, SCRATCH_MAX = 64 * 1024, ARENA_MAX = 256 * 1024 * 1024 };

/* ---- entries ---- */

static struct far_rows_entry *find(const struct far_rows *rows, struct far_slice key, uint64_t hash)
{
    struct far_rows_entry *entry = rows->buckets[hash & (rows->bucket_count - 1)];
    while (entry != NULL && (entry->hash != hash || !far_slice_equal(far_rows_key_of(entry), key))) {
        entry = entry->next;
    }
    if (entry != NULL) {
        entry->is_used = true;
    }
    return entry;
}

static uint64_t word_at(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

/* An id lies in the high bytes of a word: what tells it from its neighbour has to come down to the low bits. (The end of
 * MurmurHash3.) */
static uint64_t spread(uint64_t hash)
{
    hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccdu;
    hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53u;
    return hash ^ hash >> 33;
}

/* For the buckets only: it is nowhere kept or compared with another process's. */
static uint64_t hash_of(struct far_slice key)
{
    uint64_t hash = key.len;
    if (key.len < sizeof hash) {
        for (size_t at = 0; at < key.len; at++) {
            hash = mix(hash, key.data[at]);
        }
        return spread(hash);
    }
    for (size_t at = 0; at + sizeof hash < key.len; at += sizeof hash) {
        hash = mix(hash, word_at(key.data + at));
    }
    return spread(mix(hash, word_at(key.data + key.len - sizeof hash)));
}

static void grow(struct far_rows *rows)
{
    size_t count = rows->bucket_count * 4;
    struct far_rows_entry **buckets = calloc(count, sizeof(struct far_rows_entry *));
    if (buckets == NULL) {
        return; /* slower, not wrong */
    }
    for (size_t i = 0; i < rows->bucket_count; i++) {
        for (struct far_rows_entry *entry = rows->buckets[i], *next; entry != NULL; entry = next) {
            next = entry->next;
            entry->next = buckets[entry->hash & (count - 1)];
            buckets[entry->hash & (count - 1)] = entry;
        }
    }
    free(rows->buckets);
    rows->buckets = buckets;
    rows->bucket_count = count;
}

static struct far_rows_entry *add_entry(struct far_rows *rows, const struct far_schema *table, struct far_slice key, uint64_t hash)
{
    struct far_rows_entry *entry = malloc(sizeof *entry + key.len);
    if (entry == NULL) {
        return NULL;
    }
    *entry = (struct far_rows_entry){.table = table, .hash = hash, .key_len = (uint8_t)key.len, .is_used = true};
    memcpy(entry->key, key.data, key.len);
    if (rows->count >= rows->bucket_count) {
        grow(rows);
    }
    struct far_rows_entry **bucket = &rows->buckets[hash & (rows->bucket_count - 1)];
    entry->next = *bucket;
    *bucket = entry;
    rows->count++;
    return entry;
}

void far_rows_forget(struct far_rows *rows, struct far_rows_entry *entry)
{
    struct far_rows_entry **at = &rows->buckets[entry->hash & (rows->bucket_count - 1)];
    while (*at != entry) {
        at = &(*at)->next;
    }
    *at = entry->next;
    far_rows_list_remove(&entry->changed);
    far_rows_list_remove(&entry->added);
    far_row_free(&rows->shapes, entry->row);
    free(entry);
    rows->count--;
}

/* ---- reading ---- */

static int load_row(struct far_rows *rows, struct far_rows_entry *entry, struct far_slice value, struct far_error *err)
{
    struct far_slice body;
    int rc = far_row_body(far_rows_key_of(entry), value, &body, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_reset(&rows->scratch);
    void *row = far_arena_alloc(&rows->scratch, entry->table->size);
    rc = row == NULL ? far_rows_no_memory(err) : far_row_decode(entry->table, far_rows_key_of(entry), body, &rows->scratch, row, err);
    if (rc == 0) {
        entry->row = far_row_copy(&rows->shapes, entry->table, row);
        rc = entry->row == NULL ? far_rows_no_memory(err) : 0;
    }
    if (rc == 0) {
        entry->is_below = true;
        entry->below = far_hash128_parts(far_rows_key_of(entry), value);
    }
    return rc;
}

static bool is_in_gap(const struct far_rows *rows, struct far_slice key)
{
    const struct far_rows_gap *gap = rows->gaps[key.data[0]];
    return gap != NULL && gap->from_len > 0 && far_slice_compare(key, far_slice(gap->from, gap->from_len)) >= 0 &&
           (gap->to_len == 0 || far_slice_compare(key, far_slice(gap->to, gap->to_len)) < 0);
}

/* key is not below: find out up to where nothing is. Only saves work later, so failing does not matter. */
static void learn_gap(struct far_rows *rows, struct far_slice key)
{
    struct far_rows_gap **gap = &rows->gaps[key.data[0]];
    struct far_slice next, value;
    if (*gap == NULL && (*gap = malloc(sizeof **gap)) == NULL) {
        return;
    }
    (*gap)->from_len = 0;
    int rc = rows->kv->ops->seek(rows->kv, key, &next, &value, NULL);
    if ((rc != 0 && rc != FAR_NOT_FOUND) || (rc == 0 && (next.len == 0 || next.len > FAR_KV_KEY_MAX))) {
        return;
    }
    bool is_end = rc != 0 || next.data[0] != key.data[0];
    (*gap)->to_len = is_end ? 0 : (uint8_t)next.len;
    if (!is_end) {
        memcpy((*gap)->to, next.data, next.len);
    }
    (*gap)->from_len = (uint8_t)key.len;
    memcpy((*gap)->from, key.data, key.len);
}

static int read_below(struct far_rows *rows, struct far_slice key, struct far_slice *ret_value, struct far_error *err)
{
    if (is_in_gap(rows, key)) {
        return FAR_NOT_FOUND;
    }
    int rc = rows->kv->ops->get(rows->kv, key, ret_value, err);
    if (rc == FAR_NOT_FOUND && rows->seeks_cheaply) {
        learn_gap(rows, key);
    }
    return rc;
}

int far_rows_look(struct far_rows *rows, const struct far_schema *table, struct far_slice key, const struct far_slice *seen,
                struct far_rows_entry **ret_entry, struct far_error *err)
{
    uint64_t hash = hash_of(key);
    *ret_entry = find(rows, key, hash);
    if (*ret_entry != NULL) {
        return 0;
    }
    struct far_slice value = seen != NULL ? *seen : far_slice(NULL, 0);
    int rc = seen != NULL ? 0 : read_below(rows, key, &value, err);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    struct far_rows_entry *entry = add_entry(rows, table, key, hash);
    if (entry == NULL) {
        return far_rows_no_memory(err);
    }
    rc = rc == 0 ? load_row(rows, entry, value, err) : 0;
    if (rc != 0) {
        far_rows_forget(rows, entry);
        return rc;
    }
    *ret_entry = entry;
    return 0;
}

int far_rows_get(struct far_rows *rows, const struct far_schema *table, struct far_slice key, void *ret_row,
                 struct far_error *err)
{
    struct far_rows_entry *entry;
    int rc = far_rows_look(rows, table, key, NULL, &entry, err);
    if (rc == 0 && entry->row == NULL) {
        return FAR_NOT_FOUND;
    }
    if (rc == 0) {
        memcpy(ret_row, entry->row, table->size);
    }
    return rc;
}

/* ---- writing ---- */

/* Takes row, on success. */
static int set(struct far_rows *rows, struct far_rows_entry *entry, void *row, struct far_error *err)
{
    if (rows->change_count == rows->change_cap) {
        size_t cap = rows->change_cap == 0 ? 256 : rows->change_cap * 2;
        struct far_rows_change *changes = realloc(rows->changes, cap * sizeof *changes);
        if (changes == NULL) {
            return far_rows_no_memory(err);
        }
        rows->changes = changes;
        rows->change_cap = cap;
    }
    rows->changes[rows->change_count++] = (struct far_rows_change){.entry = entry, .row = entry->row};
    entry->row = row;
    if (entry->changed.next == NULL) {
        far_rows_list_add(&rows->changed, &entry->changed);
    }
    if (!entry->is_below && !entry->is_ordered && entry->added.next == NULL) {
        far_rows_list_add(&rows->added[entry->key[0]], &entry->added);
    }
    return 0;
}

int far_rows_put(struct far_rows *rows, const struct far_schema *table, struct far_slice key, const void *row,
                 struct far_error *err)
{
    struct far_rows_entry *entry;
    int rc = far_rows_look(rows, table, key, NULL, &entry, err);
    if (rc != 0) {
        return rc;
    }
    if (!rows->is_journaled && entry->changed.next != NULL && entry->row != NULL &&
        far_row_same_pointers(&rows->shapes, table, entry->row, row)) {
        memcpy(entry->row, row, table->size);
        return 0;
    }
    void *copy = far_row_copy(&rows->shapes, table, row);
    rc = copy == NULL ? far_rows_no_memory(err) : set(rows, entry, copy, err);
    if (rc != 0) {
        far_row_free(&rows->shapes, copy);
    }
    return rc;
}

int far_rows_del(struct far_rows *rows, struct far_slice key, struct far_error *err)
{
    struct far_rows_entry *entry;
    const struct far_schema *table = far_row_table(key);
    if (table == NULL) {
        return FAR_NOT_FOUND;
    }
    int rc = far_rows_look(rows, table, key, NULL, &entry, err);
    return rc != 0 ? rc : entry->row == NULL ? FAR_NOT_FOUND : set(rows, entry, NULL, err);
}

size_t far_rows_mark(struct far_rows *rows)
{
    rows->is_journaled = true;
    return rows->change_count;
}

void far_rows_undo(struct far_rows *rows, size_t mark)
{
    while (rows->change_count > mark) {
        const struct far_rows_change *change = &rows->changes[--rows->change_count];
        far_row_free(&rows->shapes, change->entry->row);
        change->entry->row = change->row;
    }
}

/* Not there, not below, and no walk knows it: nobody would miss it. */
static bool is_nothing(const struct far_rows_entry *entry)
{
    return entry->row == NULL && !entry->is_below && !entry->is_ordered;
}

void far_rows_settle(struct far_rows *rows)
{
    struct far_rows_entry *doomed = NULL;
    for (size_t i = 0; i < rows->change_count; i++) {
        struct far_rows_entry *entry = rows->changes[i].entry;
        far_row_free(&rows->shapes, rows->changes[i].row);
        if (is_nothing(entry) && !entry->is_doomed) {
            entry->is_doomed = true;
            far_rows_list_remove(&entry->added);
            entry->added.prev = (struct far_rows_link *)(void *)doomed; /* in no list any more */
            doomed = entry;
        }
    }
    rows->change_count = 0;
    rows->is_journaled = false;
    far_arena_reset(&rows->arena);
    while (doomed != NULL) {
        struct far_rows_entry *entry = doomed;
        doomed = (struct far_rows_entry *)(void *)entry->added.prev;
        entry->added.prev = NULL;
        far_rows_forget(rows, entry);
    }
}

/* ---- life ---- */

void far_rows_drop(struct far_rows *rows, bool is_all)
{
    for (size_t i = 0; i < rows->bucket_count; i++) {
        struct far_rows_entry **at = &rows->buckets[i];
        while (*at != NULL) {
            struct far_rows_entry *entry = *at;
            if (!is_all && entry->is_used && entry->row != NULL) {
                entry->is_used = false;
                at = &entry->next;
                continue;
            }
            *at = entry->next;
            far_row_free(&rows->shapes, entry->row);
            free(entry);
            rows->count--;
        }
    }
}

struct far_rows *far_rows_new(struct far_kv *below, bool seeks_cheaply)
{
    struct far_rows *rows = calloc(1, sizeof *rows);
    if (rows == NULL) {
        return NULL;
    }
    rows->kv = below;
    rows->seeks_cheaply = seeks_cheaply;
    rows->drop_at = FAR_ROWS_STEP;
    rows->bucket_count = BUCKETS_MIN;
    rows->buckets = calloc(BUCKETS_MIN, sizeof(struct far_rows_entry *));
    rows->added = calloc(FAR_ROW_TABLES, sizeof *rows->added);
    far_arena_init(&rows->scratch, SCRATCH_MAX);
    far_arena_init(&rows->arena, ARENA_MAX);
    far_rows_list_init(&rows->changed);
    if (rows->buckets == NULL || rows->added == NULL) {
        rows->bucket_count = 0;
        far_rows_free(rows);
        return NULL;
    }
    for (size_t i = 0; i < FAR_ROW_TABLES; i++) {
        far_rows_list_init(&rows->added[i]);
    }
    return rows;
}

void far_rows_free(struct far_rows *rows)
{
    if (rows != NULL) {
        for (size_t i = 0; i < rows->change_count; i++) {
            far_row_free(&rows->shapes, rows->changes[i].row);
        }
        far_rows_drop(rows, true);
        far_kv_memory_free(rows->ordered);
        far_arena_done(&rows->scratch);
        far_arena_done(&rows->arena);
        for (size_t i = 0; i < FAR_ROW_TABLES; i++) {
            free(rows->gaps[i]);
        }
        free(rows->changes);
        free(rows->buckets);
        free(rows->added);
        far_row_shapes_done(&rows->shapes);
        free(rows);
    }
}

struct far_arena *far_rows_arena(struct far_rows *rows)
{
    return &rows->arena;
}

size_t far_rows_count(const struct far_rows *rows)
{
    return rows->count;
}
