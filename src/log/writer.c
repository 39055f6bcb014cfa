/* The WAL's writer thread: see writer.h. The WAL has one job at a time, so there is one place and no queue. */
#include "log/writer.h"

#include "base/assert.h"
#include "base/thread.h"
#include "net/wake.h"

struct far_writer {
    uv_thread_t thread;
    struct far_wake wake;
    uv_mutex_t mutex; /* of what follows */
    uv_cond_t cond;
    struct far_wal_job *todo;
    struct far_wal_job *finished;
    bool is_stopping;
    void (*done)(void *arg);
    void *done_arg;
};

static void run(void *arg)
{
    struct far_writer *writer = arg;
    far_thread_name("wal");
    uv_mutex_lock(&writer->mutex);
    for (;;) {
        while (writer->todo == NULL && !writer->is_stopping) {
            uv_cond_wait(&writer->cond, &writer->mutex);
        }
        struct far_wal_job *job = writer->todo;
        if (job == NULL) {
            break;
        }
        uv_mutex_unlock(&writer->mutex);
        job->run(job);
        uv_mutex_lock(&writer->mutex);
        writer->todo = NULL;
        writer->finished = job;
        uv_mutex_unlock(&writer->mutex);
        far_wake_send(&writer->wake); /* after the mutex, which the woken thread wants */
        uv_mutex_lock(&writer->mutex);
    }
    uv_mutex_unlock(&writer->mutex);
}

static void on_wake(struct far_wake *wake)
{
    struct far_writer *writer = wake->data;
    uv_mutex_lock(&writer->mutex);
    struct far_wal_job *job = writer->finished;
    writer->finished = NULL;
    uv_mutex_unlock(&writer->mutex);
    if (job != NULL) {
        job->done(job); /* may submit the next one */
    }
}

static void submit(void *arg, struct far_wal_job *job)
{
    struct far_writer *writer = arg;
    uv_mutex_lock(&writer->mutex);
    FAR_ASSERT(writer->todo == NULL && writer->finished == NULL && !writer->is_stopping);
    writer->todo = job;
    uv_mutex_unlock(&writer->mutex);
    uv_cond_signal(&writer->cond); /* after the mutex, which the woken thread wants */
}

struct far_wal_executor far_writer_executor(struct far_writer *writer)
{
    return (struct far_wal_executor){.arg = writer, .submit = submit};
}

int far_writer_start(uv_loop_t *loop, struct far_writer **ret_writer, struct far_error *err)
{
    struct far_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory");
    }
    /* These fail only without memory or threads: nothing could run then. */
    FAR_ASSERT(uv_mutex_init(&writer->mutex) == 0 && uv_cond_init(&writer->cond) == 0);
    FAR_ASSERT(far_wake_start(loop, &writer->wake, on_wake, writer) == 0);
    FAR_ASSERT(uv_thread_create(&writer->thread, run, writer) == 0);
    *ret_writer = writer;
    return 0;
}

static void on_stopped(struct far_wake *wake)
{
    struct far_writer *writer = wake->data;
    far_wake_done(wake);
    void (*done)(void *arg) = writer->done;
    void *arg = writer->done_arg;
    uv_cond_destroy(&writer->cond);
    uv_mutex_destroy(&writer->mutex);
    free(writer);
    done(arg);
}

void far_writer_stop(struct far_writer *writer, void (*done)(void *arg), void *arg)
{
    writer->done = done;
    writer->done_arg = arg;
    uv_mutex_lock(&writer->mutex);
    FAR_ASSERT(writer->todo == NULL && writer->finished == NULL);
    writer->is_stopping = true;
    uv_cond_signal(&writer->cond);
    uv_mutex_unlock(&writer->mutex);
    FAR_ASSERT(uv_thread_join(&writer->thread) == 0);
    far_wake_stop(&writer->wake, on_stopped);
}
