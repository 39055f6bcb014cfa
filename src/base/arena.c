/* Arenas: see arena.h. Pages of at least 4 KiB, the newest serves; big requests get a page of their own. A
 * reset keeps the newest page for what comes next, unless it is big. */
#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_MIN = 4096, PAGE_KEPT = 64 * 1024, ALIGN = 16 };

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

static void free_pages(struct far_arena_page *page)
{
    while (page != NULL) {
        struct far_arena_page *next = page->next;
        free(page);
        page = next;
    }
}

void far_arena_reset(struct far_arena *arena)
{
    struct far_arena_page *kept = arena->pages;
    if (kept != NULL && kept->size > PAGE_KEPT) {
        free_pages(kept);
        arena->pages = NULL;
    } else if (kept != NULL) {
        free_pages(kept->next);
        kept->next = NULL;
        kept->used = 0;
    }
    arena->used = 0;
}

void far_arena_done(struct far_arena *arena)
{
    if (arena != NULL) {
        free_pages(arena->pages);
        *arena = (struct far_arena){.max = 0};
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
