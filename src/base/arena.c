/* Arenas: see arena.h. Pages of at least 4 KiB, the newest serves; big requests get a page of their own. */
#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_MIN = 4096, ALIGN = 16 };

struct far_arena_page {
    struct far_arena_page *next;
    size_t used;
    size_t size;
    size_t pad; /* keeps data aligned to 16 */
    unsigned char data[];
};

void far_arena_init(struct far_arena *arena, size_t max)
{
    *arena = (struct far_arena){.max = max};
}

void far_arena_reset(struct far_arena *arena)
{
    while (arena->pages != NULL) {
        struct far_arena_page *next = arena->pages->next;
        free(arena->pages);
        arena->pages = next;
    }
    arena->used = 0;
}

void far_arena_done(struct far_arena *arena)
{
    if (arena != NULL) {
        far_arena_reset(arena);
        arena->max = 0;
    }
}

void *far_arena_alloc(struct far_arena *arena, size_t size)
{
    if (size > arena->max) {
        return NULL;
    }
    size = size == 0 ? ALIGN : (size + ALIGN - 1) / ALIGN * ALIGN;
    if (size > arena->max - arena->used) {
        return NULL;
    }
    struct far_arena_page *page = arena->pages;
    if (page == NULL || page->size - page->used < size) {
        size_t room = size > PAGE_MIN ? size : PAGE_MIN;
        page = malloc(sizeof *page + room);
        if (page == NULL) {
            return NULL;
        }
        *page = (struct far_arena_page){.next = arena->pages, .size = room};
        arena->pages = page;
    }
    void *p = page->data + page->used;
    page->used += size;
    arena->used += size;
    return memset(p, 0, size);
}
