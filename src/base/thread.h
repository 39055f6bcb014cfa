/* Threads: their names, how those are scheduled that move much data, and mutexes that fit them.
 *
 * Not for the core. All best effort: where the system refuses, everything works as before, only slower. */
#ifndef FAR_BASE_THREAD_H
#define FAR_BASE_THREAD_H

#include <pthread.h>

/* The calling thread, and those that it creates from now on, work in bulk (SCHED_BATCH): when one of them is woken it does
 * not push another off its processor, so a hand-over between two costs no two switches, and whatever else runs on the
 * machine answers sooner. */
void far_thread_works_in_bulk(void);

/* What the calling thread does, as top and debuggers show it: at most 15 characters. The first thread keeps the program's name. */
void far_thread_name(const char *name);

/* A mutex that is held for moments only: who finds it taken looks again for some hundred cycles before it sleeps
 * (PTHREAD_MUTEX_ADAPTIVE_NP where there is such a thing). */
void far_mutex_init_brief(pthread_mutex_t *mutex);

#endif
