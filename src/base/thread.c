/* Threads: see thread.h. */
#define _GNU_SOURCE
#include "base/thread.h"

#include <sched.h>

void far_thread_works_in_bulk(void)
{
#ifdef SCHED_BATCH
    const struct sched_param param = {.sched_priority = 0};
    sched_setscheduler(0, SCHED_BATCH, &param);
#endif
}

void far_thread_name(const char *name)
{
    (void)pthread_setname_np(pthread_self(), name);
}

void far_mutex_init_brief(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
#ifdef __GLIBC__
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
#endif
    pthread_mutex_init(mutex, &attr);
    pthread_mutexattr_destroy(&attr);
}
