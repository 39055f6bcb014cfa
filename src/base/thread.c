/* Threads: see thread.h. */
#define _GNU_SOURCE
#include "base/thread.h"

#include "base/assert.h"

#include <sched.h>
#include <unistd.h>

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

size_t far_thread_processors(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : count > FAR_SIDE_BY_SIDE_MAX ? FAR_SIDE_BY_SIDE_MAX : (size_t)count;
}

struct side {
    const char *name;
    void (*work)(void *arg, size_t which);
    void *arg;
    size_t which;
    pthread_t thread;
};

static void *side_main(void *arg)
{
    struct side *side = arg;
    far_thread_name(side->name);
    side->work(side->arg, side->which);
    return NULL;
}

void far_thread_side_by_side(const char *name, size_t count, void (*work)(void *arg, size_t which), void *arg)
{
    struct side sides[FAR_SIDE_BY_SIDE_MAX];
    size_t started = 1;
    FAR_ASSERT(count <= FAR_SIDE_BY_SIDE_MAX);
    for (; started < count; started++) {
        sides[started] = (struct side){.name = name, .work = work, .arg = arg, .which = started};
        if (pthread_create(&sides[started].thread, NULL, side_main, &sides[started]) != 0) {
            break;
        }
    }
    work(arg, 0);
    for (size_t i = 1; i < started; i++) {
        pthread_join(sides[i].thread, NULL);
    }
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
