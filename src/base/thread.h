/* Threads: their names, how those are scheduled that move much data, and mutexes that fit them.
 *
 * Not for the core. All best effort: where the system refuses, everything works as before, only slower. */
#ifndef FAR_BASE_THREAD_H
#define FAR_BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

/* The calling thread, and those that it creates from now on, work in bulk (SCHED_BATCH): when one of them is woken it does
 * not push another off its processor, so a hand-over between two costs no two switches, and whatever else runs on the
 * machine answers sooner. */
void far_thread_works_in_bulk(void);

/* What the calling thread does, as top and debuggers show it: at most 15 characters. The first thread keeps the program's name. */
void far_thread_name(const char *name);

enum { FAR_SIDE_BY_SIDE_MAX = 8 };
/* Processors of this machine, at most FAR_SIDE_BY_SIDE_MAX; at least 1. */
size_t far_thread_processors(void);
/* work(arg, 0) to work(arg, count - 1), each on a thread of its own, the first on the caller's; returns when all are done. Count is at most
 * FAR_SIDE_BY_SIDE_MAX. Where a thread cannot be made fewer run, so they take their pieces from a counter that they share. */
void far_thread_side_by_side(const char *name, size_t count, void (*work)(void *arg, size_t which), void *arg);

/* A mutex that is held for moments only: who finds it taken looks again for some hundred cycles before it sleeps
 * (PTHREAD_MUTEX_ADAPTIVE_NP where there is such a thing). */
void far_mutex_init_brief(pthread_mutex_t *mutex);

#endif
