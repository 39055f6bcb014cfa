/* Answers that are computed: at once on the API's thread, or, where the past is to be folded, on a thread of its own.
 *
 * The past needs some tenths of a second of folding, in which no other request may wait. One worker takes one request
 * after the other, at most FAR_API_CALLS_MAX of them (far_api_expect() counts). While it has a request, nothing else touches
 * it but on_gone(), which only notes that nobody wants the answer any more; what the query borrowed of the exchange is
 * copied before. */
#include "api/request.h"

#include "base/assert.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdlib.h>

struct far_api_worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct far_api_request *first, **end; /* waiting, by next_computed */
    bool stopping;
};

/* ---- the worker ---- */

/* The answer as bytes in request->made, or the error in the result. */
static void compute_now(struct far_api_request *request)
{
    struct far_error err = {0};
    json_t *answer = NULL;
    int rc = request->compute(request, &answer, &err);
    if (rc == 0 && request->compute_type == NULL) {
        rc = far_json_write(answer, &request->made, &err);
    }
    json_decref(answer);
    struct far_result result = {.klass = rc};
    if (rc != 0) {
        memcpy(result.message, err.message, sizeof result.message);
    }
    far_api_done(request, &result, request->applied_index);
}

static struct far_api_request *take(struct far_api_worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    while (worker->first == NULL && !worker->stopping) {
        pthread_cond_wait(&worker->cond, &worker->lock);
    }
    struct far_api_request *request = worker->stopping ? NULL : worker->first;
    if (request != NULL) {
        worker->first = request->next_computed;
        worker->end = worker->first == NULL ? &worker->first : worker->end;
    }
    pthread_mutex_unlock(&worker->lock);
    return request;
}

static void *work(void *arg)
{
    struct far_api_worker *worker = arg;
    struct far_api_request *request;
    far_thread_name("api-compute");
    while ((request = take(worker)) != NULL) {
        compute_now(request);
    }
    return NULL;
}

int far_api_worker_start(struct far_api_worker **ret_worker, struct far_error *err)
{
    struct far_api_worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a worker");
    }
    worker->end = &worker->first;
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->cond, NULL);
    if (pthread_create(&worker->thread, NULL, work, worker) != 0) {
        free(worker);
        return far_fail(err, FAR_LIMIT, "no thread for a worker");
    }
    *ret_worker = worker;
    return 0;
}

void far_api_worker_stop(struct far_api_worker *worker)
{
    if (worker == NULL) {
        return;
    }
    pthread_mutex_lock(&worker->lock);
    worker->stopping = true;
    pthread_cond_signal(&worker->cond);
    pthread_mutex_unlock(&worker->lock);
    FAR_ASSERT(pthread_join(worker->thread, NULL) == 0);
    while (worker->first != NULL) {
        struct far_api_request *request = worker->first;
        struct far_result result = {.klass = FAR_CANCELED, .message = "the server stops"};
        worker->first = request->next_computed;
        far_api_done(request, &result, 0);
    }
    pthread_cond_destroy(&worker->cond);
    pthread_mutex_destroy(&worker->lock);
    free(worker);
}

/* ---- the API's thread ---- */

static void computed(struct far_api_request *request)
{
    if (request->result.klass != 0) {
        struct far_error err;
        far_fail(&err, request->result.klass, "%s", request->result.message);
        far_api_problem(request, 0, &err);
        return;
    }
    const char *type = request->compute_type != NULL ? request->compute_type : "application/json";
    far_api_answer_bytes(request, request->compute_status, type, &request->made);
}

static int own(struct far_api_request *request, struct far_slice *text, struct far_error *err)
{
    uint8_t *copy = far_arena_alloc(&request->arena, text->len + 1);
    if (copy == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the request");
    }
    if (text->len > 0) {
        memcpy(copy, text->data, text->len);
        *text = far_slice(copy, text->len);
    }
    return 0;
}

/* The exchange may go while the worker works: what the query borrows of it becomes the request's. */
static int own_query(struct far_api_request *request, struct far_error *err)
{
    struct far_query *query = &request->query;
    struct far_slice *const texts[] = {&query->site,  &query->plan, &query->workload, &query->node,
                                       &query->state, &query->kind, &query->role,     &query->object};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < sizeof texts / sizeof texts[0]; i++) {
        rc = own(request, texts[i], err);
    }
    return rc;
}

static int hand_over(struct far_api_request *request, struct far_error *err)
{
    struct far_api_worker *worker = request->api->worker;
    int rc = own_query(request, err);
    rc = rc != 0 ? rc : far_api_expect(request, computed, err);
    if (rc != 0) {
        return rc;
    }
    request->next_computed = NULL;
    pthread_mutex_lock(&worker->lock);
    *worker->end = request;
    worker->end = &request->next_computed;
    pthread_cond_signal(&worker->cond);
    pthread_mutex_unlock(&worker->lock);
    return 0;
}

static bool is_long(const struct far_api_request *request)
{
    return request->query.at.kind != FAR_MOMENT_NOW || request->query.until.kind != FAR_MOMENT_NOW ||
           request->route->is_long;
}

void far_api_compute(struct far_api_request *request, int status, far_api_compute_fn compute)
{
    struct far_error err = {0};
    json_t *answer = NULL;
    request->compute = compute;
    request->compute_status = status;
    bool long_one = is_long(request);
    int rc = long_one ? hand_over(request, &err) : compute(request, &answer, &err);
    if (rc != 0) {
        far_api_problem(request, 0, &err);
    } else if (!long_one) {
        far_api_answer(request, status, answer);
    }
}
