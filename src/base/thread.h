/* Threads that move much data: how they are scheduled, and mutexes that fit them.
 *
 * Not for the core. All best effort: where the system refuses, everything works as before, only slower. */
#ifndef FAR_BASE_THREAD_H
#define FAR_BASE_THREAD_H

#include <pthread.h>

/* The calling thread, and those that it creates from now on, work in bulk (SCHED_BATCH): when one of them is woken it does
 * not push another off its processor, so a hand-over between two costs no two switches, and whatever else runs on the
 * machine answers sooner. */
void far_thread_works_in_bulk(void);

/* A mutex that is held for moments only: who finds it taken looks again for some hundred cycles before it sleeps
 * (PTHREAD_MUTEX_ADAPTIVE_NP where there is such a thing). */
void far_mutex_init_brief(pthread_mutex_t *mutex);

#endif
