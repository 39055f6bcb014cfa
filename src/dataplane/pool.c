/* A pool of equal buffers: see pool.h. One mapping, a stack of free buffers: the one given back last is taken first, it
 * is still warm. */
#include "dataplane/pool.h"

#include "base/assert.h"
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

struct far_pool {
    pthread_mutex_t mutex;
    pthread_cond_t given;
    uint8_t *memory;
    size_t buffer_bytes;
    size_t count;
    size_t free_count;
    size_t waiting;
    uint8_t *free_buffers[];
};

int far_pool_new(size_t buffer_bytes, size_t count, struct far_pool **ret_pool, struct far_error *err)
{
    struct far_pool *pool = calloc(1, sizeof *pool + count * sizeof pool->free_buffers[0]);
    if (pool == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the block buffers");
    }
    pool->memory = mmap(NULL, buffer_bytes * count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool->memory == MAP_FAILED) {
        int sys_errno = errno;
        free(pool);
        return far_fail_errno(err, FAR_LIMIT, sys_errno, "allocate %zu MiB of block buffers",
                              buffer_bytes * count >> 20);
    }
    madvise(pool->memory, buffer_bytes * count, MADV_HUGEPAGE); /* where there are none: as it was */
    far_mutex_init_brief(&pool->mutex);
    pthread_cond_init(&pool->given, NULL);
    pool->buffer_bytes = buffer_bytes;
    pool->count = count;
    for (size_t i = 0; i < count; i++) {
        pool->free_buffers[i] = pool->memory + (count - 1 - i) * buffer_bytes;
    }
    pool->free_count = count;
    *ret_pool = pool;
    return 0;
}

void far_pool_free(struct far_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    FAR_ASSERT(pool->free_count == pool->count);
    munmap(pool->memory, pool->buffer_bytes * pool->count);
    pthread_cond_destroy(&pool->given);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}

size_t far_pool_count(const struct far_pool *pool)
{
    return pool->count;
}

uint8_t *far_pool_try(struct far_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    uint8_t *buffer = pool->free_count > 0 ? pool->free_buffers[--pool->free_count] : NULL;
    pthread_mutex_unlock(&pool->mutex);
    return buffer;
}

uint8_t *far_pool_take(struct far_pool *pool, const atomic_bool *stop)
{
    pthread_mutex_lock(&pool->mutex);
    pool->waiting++;
    while (pool->free_count == 0 && !atomic_load(stop)) {
        pthread_cond_wait(&pool->given, &pool->mutex);
    }
    pool->waiting--;
    uint8_t *buffer = atomic_load(stop) ? NULL : pool->free_buffers[--pool->free_count];
    pthread_mutex_unlock(&pool->mutex);
    return buffer;
}

void far_pool_give(struct far_pool *pool, uint8_t *buffer)
{
    if (buffer == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    FAR_ASSERT(pool->free_count < pool->count);
    pool->free_buffers[pool->free_count++] = buffer;
    if (pool->waiting > 0) {
        pthread_cond_signal(&pool->given);
    }
    pthread_mutex_unlock(&pool->mutex);
}

void far_pool_wake(struct far_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pthread_cond_broadcast(&pool->given);
    pthread_mutex_unlock(&pool->mutex);
}

bool far_pool_waited_for(struct far_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    bool waited_for = pool->waiting > 0;
    pthread_mutex_unlock(&pool->mutex);
    return waited_for;
}
