/* What the files of the rows share: entries and their lists. For rows*.c only. */
#ifndef FAR_FSM_ROWS_PRIVATE_H
#define FAR_FSM_ROWS_PRIVATE_H

#include "fsm/kv_memory.h"
#include "fsm/row_copy.h"
#include "fsm/row_value.h"
#include "fsm/rows.h"

#include <stdlib.h>

enum { FAR_ROWS_STEP = FAR_ROWS_KEEP / 4 }; /* after so many new ones, those that nobody asked for are dropped */

struct far_rows_link {
    struct far_rows_link *prev, *next;
};

struct far_rows_entry {
    struct far_rows_link changed; /* first; in no list: next NULL */
    struct far_rows_link added;
    struct far_rows_entry *next; /* in its bucket */
    const struct far_schema *table;
    void *row;                /* owned; NULL: there is no row */
    struct far_hash128 below; /* hash of the pair that lies below, if is_below */
    uint64_t hash;            /* of the key */
    bool is_below;
    bool is_ordered; /* in the skip list */
    bool is_doomed;  /* about to be freed */
    bool was_added;  /* by the flush that is on */
    bool is_used;    /* since others were dropped */
    uint8_t key_len;
    uint8_t key[];
};

struct far_rows_change {
    struct far_rows_entry *entry;
    void *row; /* before it; owned */
};

/* Below, no key of the table is >= from and < to. New keys often come in order (deadlines, ids): they are not looked for. */
struct far_rows_gap {
    uint8_t from[FAR_KV_KEY_MAX], to[FAR_KV_KEY_MAX];
    uint8_t from_len, to_len; /* to_len 0: to the end of the table */
};

struct far_rows {
    struct far_kv *kv; /* borrowed */
    bool seeks_cheaply;
    struct far_rows_entry **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
    size_t drop_at; /* so many entries: those that nobody asked for are dropped */
    struct far_rows_link changed;
    struct far_rows_link *added; /* one list a table */
    struct far_kv *ordered; /* key → pointer to an entry; made by the first walk */
    struct far_rows_change *changes;
    size_t change_count, change_cap;
    bool is_journaled; /* this step may be undone */
    struct far_arena scratch; /* for a row on its way in */
    struct far_arena arena;   /* of the step */
    struct far_rows_gap *gaps[FAR_ROW_TABLES];
    struct far_row_shapes shapes;
};

static inline void far_rows_list_init(struct far_rows_link *list)
{
    list->prev = list->next = list;
}

static inline void far_rows_list_add(struct far_rows_link *list, struct far_rows_link *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

static inline void far_rows_list_remove(struct far_rows_link *link)
{
    if (link->next != NULL) {
        link->prev->next = link->next;
        link->next->prev = link->prev;
        link->prev = link->next = NULL;
    }
}

static inline struct far_rows_entry *far_rows_of_changed(struct far_rows_link *link)
{
    return (struct far_rows_entry *)(void *)link;
}

static inline struct far_rows_entry *far_rows_of_added(struct far_rows_link *link)
{
    return (struct far_rows_entry *)(void *)((uint8_t *)link - offsetof(struct far_rows_entry, added));
}

static inline struct far_slice far_rows_key_of(const struct far_rows_entry *entry)
{
    return far_slice(entry->key, entry->key_len);
}

static inline int far_rows_no_memory(struct far_error *err)
{
    return far_fail(err, FAR_LIMIT, "out of memory");
}

/* What is under key, from the map below if need be. seen: the value there, if it is known. */
int far_rows_look(struct far_rows *rows, const struct far_schema *table, struct far_slice key, const struct far_slice *seen,
                  struct far_rows_entry **ret_entry, struct far_error *err);
/* Free one. */
void far_rows_forget(struct far_rows *rows, struct far_rows_entry *entry);
/* Free what nobody asked for since the last time; or everything. */
void far_rows_drop(struct far_rows *rows, bool is_all);

#endif
