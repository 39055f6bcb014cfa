/* An arena: many small allocations freed at once, born with its maximum in bytes. One thread at a time. */
#ifndef FAR_BASE_ARENA_H
#define FAR_BASE_ARENA_H

#include <stddef.h>

struct far_arena_page;
struct far_arena {
    struct far_arena_page *pages; /* newest first, owned */
    size_t used;                  /* bytes handed out */
    size_t max;
};

void far_arena_init(struct far_arena *arena, size_t max);
/* Frees everything handed out; the arena stays usable with the same maximum. */
void far_arena_reset(struct far_arena *arena);
void far_arena_done(struct far_arena *arena);
/* Zeroed, aligned to 16, lives until reset or done. NULL at the maximum or without memory. */
void *far_arena_alloc(struct far_arena *arena, size_t size);

#endif
