/* The bandwidth limits of a node: see throttle.h.
 *
 * Nothing runs by itself: whoever takes or waits fills the buckets up to now and pays tickets in their order. Of those who wait one, the
 * keeper, sleeps only until the next ticket can be paid; the others until their own is, or until they become the keeper. */
#include "dataplane/throttle.h"

#include "base/assert.h"
#include "base/clock.h"
#include "dataplane/engine_local.h"

#include <stdlib.h>

enum { LOOK_MS_MAX = 100, NS_PER_MS = 1000000 };

struct bucket {
    uint64_t plan_id;
    uint64_t rate; /* bytes a second; 0: unlimited */
    double bytes;
};

struct far_throttle {
    atomic_bool is_limited; /* there is any limit */
    pthread_mutex_t mutex;
    uint64_t filled_ns;
    struct bucket node;
    struct bucket *plans; /* in the order of their ids */
    size_t plan_count;
    struct far_throttle_ticket *first, *last;
    struct far_throttle_ticket *keeper; /* waits, and looks when somebody can be paid */
};

/* ---- buckets ---- */

static double room_of(const struct bucket *bucket)
{
    return (double)bucket->rate * FAR_THROTTLE_BURST_MS / 1000;
}

static void fill(struct bucket *bucket, double seconds)
{
    if (bucket->rate > FAR_THROTTLE_PAUSED) {
        bucket->bytes += (double)bucket->rate * seconds;
    }
}

static void cut(struct bucket *bucket)
{
    double room = room_of(bucket);
    bucket->bytes = bucket->bytes < room ? bucket->bytes : room;
}

/* The bucket of a plan; NULL: it has no limit. */
static struct bucket *find_plan(const struct far_throttle *throttle, uint64_t plan_id)
{
    size_t low = 0, high = throttle->plan_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (throttle->plans[middle].plan_id < plan_id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < throttle->plan_count && throttle->plans[low].plan_id == plan_id ? &throttle->plans[low] : NULL;
}

static uint64_t least(uint64_t a, const struct bucket *bucket)
{
    return bucket == NULL || bucket->rate == 0 || (double)a <= bucket->bytes ? a : (uint64_t)bucket->bytes;
}

static void take_from(struct bucket *bucket, uint64_t bytes)
{
    if (bucket != NULL && bucket->rate != 0) {
        bucket->bytes -= (double)bytes;
    }
}

/* ---- tickets ---- */

static void pay(struct far_throttle *throttle, struct far_throttle_ticket *ticket)
{
    struct bucket *plan = find_plan(throttle, ticket->plan_id);
    uint64_t bytes = least(least(ticket->missing, &throttle->node), plan);
    take_from(&throttle->node, bytes);
    take_from(plan, bytes);
    ticket->missing -= bytes;
    if (ticket->missing == 0 && ticket->is_waiting) {
        pthread_cond_signal(&ticket->paid);
    }
}

/* Up to now: what came in goes to those who wait, in their order; what is left stays, as much as buckets keep. */
static void advance(struct far_throttle *throttle)
{
    uint64_t now_ns = far_clock_monotonic_ns();
    double seconds = (double)(now_ns - throttle->filled_ns) / 1e9;
    throttle->filled_ns = now_ns;
    fill(&throttle->node, seconds);
    for (size_t i = 0; i < throttle->plan_count; i++) {
        fill(&throttle->plans[i], seconds);
    }
    for (struct far_throttle_ticket *t = throttle->first; t != NULL; t = t->next) {
        if (t->missing > 0) {
            pay(throttle, t);
        }
    }
    cut(&throttle->node);
    for (size_t i = 0; i < throttle->plan_count; i++) {
        cut(&throttle->plans[i]);
    }
}

/* How many tickets of the same owner are before it. */
static unsigned turn_of(const struct far_throttle *throttle, const struct far_throttle_ticket *ticket)
{
    unsigned turn = 0;
    for (const struct far_throttle_ticket *t = throttle->first; t != NULL && t != ticket; t = t->next) {
        turn += t->owner == ticket->owner;
    }
    return turn;
}

/* Behind those whose owners have no more before them than this one's has: a send with four connections gets no more than one
 * with one. */
static void enqueue(struct far_throttle *throttle, struct far_throttle_ticket *ticket)
{
    struct far_throttle_ticket *before = NULL;
    unsigned turn = turn_of(throttle, ticket);
    for (struct far_throttle_ticket *t = throttle->first; t != NULL; t = t->next) {
        before = turn_of(throttle, t) <= turn ? t : before;
    }
    struct far_throttle_ticket **link = before != NULL ? &before->next : &throttle->first;
    ticket->next = *link;
    *link = ticket;
    throttle->last = ticket->next == NULL ? ticket : throttle->last;
    ticket->is_queued = true;
}

static void dequeue(struct far_throttle *throttle, struct far_throttle_ticket *ticket)
{
    struct far_throttle_ticket *before = NULL;
    for (struct far_throttle_ticket *t = throttle->first; t != ticket; t = t->next) {
        before = t;
    }
    *(before != NULL ? &before->next : &throttle->first) = ticket->next;
    throttle->last = throttle->last == ticket ? before : throttle->last;
    ticket->is_queued = false;
}

static void give_back(struct far_throttle *throttle, struct far_throttle_ticket *ticket)
{
    struct bucket *plan = find_plan(throttle, ticket->plan_id);
    uint64_t bytes = ticket->bytes - ticket->missing;
    throttle->node.bytes += (double)bytes;
    cut(&throttle->node);
    if (plan != NULL) {
        plan->bytes += (double)bytes;
        cut(plan);
    }
    dequeue(throttle, ticket);
}

/* The keeper leaves: another one of those who wait takes its place. */
static void hand_over(struct far_throttle *throttle, struct far_throttle_ticket *ticket)
{
    if (throttle->keeper != ticket) {
        return;
    }
    throttle->keeper = NULL;
    for (struct far_throttle_ticket *t = throttle->first; t != NULL; t = t->next) {
        if (t->is_waiting) {
            pthread_cond_signal(&t->paid);
            return;
        }
    }
}

/* How long until the first who waits can be paid in full, by the rates as they are. */
static uint64_t look_in_ns(const struct far_throttle *throttle)
{
    double least_s = LOOK_MS_MAX / 1000.0;
    for (const struct far_throttle_ticket *t = throttle->first; t != NULL; t = t->next) {
        const struct bucket *plan = find_plan(throttle, t->plan_id);
        uint64_t rate = throttle->node.rate;
        rate = plan != NULL && plan->rate != 0 && (rate == 0 || plan->rate < rate) ? plan->rate : rate;
        double s = rate > FAR_THROTTLE_PAUSED ? (double)t->missing / (double)rate : least_s;
        least_s = t->missing > 0 && s < least_s ? s : least_s;
    }
    return (uint64_t)(least_s * 1e9) + 1;
}

static struct timespec at_ns(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
}

/* The mutex is held. */
static int wait_until_paid(struct far_throttle *throttle, struct far_throttle_ticket *ticket, uint64_t until_ns,
                           const atomic_bool *canceled)
{
    int rc = 0;
    for (;;) {
        advance(throttle);
        if (canceled != NULL && atomic_load(canceled)) {
            give_back(throttle, ticket);
            rc = FAR_CANCELED;
            break;
        }
        if (ticket->missing == 0) {
            dequeue(throttle, ticket);
            break;
        }
        if (throttle->filled_ns >= until_ns) {
            rc = FAR_TIMEOUT;
            break;
        }
        if (throttle->keeper == NULL) {
            throttle->keeper = ticket;
        }
        uint64_t look_ns = throttle->keeper == ticket ? throttle->filled_ns + look_in_ns(throttle) : until_ns;
        struct timespec at = at_ns(look_ns < until_ns ? look_ns : until_ns);
        ticket->is_waiting = true;
        pthread_cond_timedwait(&ticket->paid, &throttle->mutex, &at);
        ticket->is_waiting = false;
    }
    hand_over(throttle, ticket);
    return rc;
}

int far_throttle_take(struct far_throttle *throttle, struct far_throttle_ticket *ticket, uint64_t plan_id, uint64_t bytes,
                      uint64_t wait_ms, const atomic_bool *canceled, uint64_t *ret_waited_ns)
{
    if (ret_waited_ns != NULL) {
        *ret_waited_ns = 0;
    }
    if (!ticket->is_queued && !atomic_load(&throttle->is_limited)) {
        return canceled != NULL && atomic_load(canceled) ? FAR_CANCELED : 0;
    }
    pthread_mutex_lock(&throttle->mutex);
    advance(throttle); /* for those before it, and so that nobody is paid for time in which they did not wait */
    if (ticket->is_queued && (ticket->plan_id != plan_id || ticket->bytes != bytes)) {
        give_back(throttle, ticket);
    }
    if (!ticket->is_queued) {
        ticket->plan_id = plan_id;
        ticket->bytes = ticket->missing = bytes;
        enqueue(throttle, ticket);
    }
    uint64_t began_ns = throttle->filled_ns;
    pay(throttle, ticket);
    bool has_to_wait = ticket->missing > 0 && wait_ms > 0;
    int rc = wait_until_paid(throttle, ticket, began_ns + wait_ms * NS_PER_MS, canceled);
    if (ret_waited_ns != NULL && has_to_wait) {
        *ret_waited_ns = throttle->filled_ns - began_ns;
    }
    pthread_mutex_unlock(&throttle->mutex);
    return rc;
}

void far_throttle_ticket_init(struct far_throttle_ticket *ticket, const void *owner)
{
    pthread_condattr_t attr;
    *ticket = (struct far_throttle_ticket){.owner = owner};
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&ticket->paid, &attr);
    pthread_condattr_destroy(&attr);
}

void far_throttle_ticket_done(struct far_throttle *throttle, struct far_throttle_ticket *ticket)
{
    if (ticket->is_queued) {
        pthread_mutex_lock(&throttle->mutex);
        advance(throttle);
        give_back(throttle, ticket);
        pthread_mutex_unlock(&throttle->mutex);
    }
    pthread_cond_destroy(&ticket->paid);
}

/* The mutex is held. */
static void wake_all(struct far_throttle *throttle)
{
    for (struct far_throttle_ticket *t = throttle->first; t != NULL; t = t->next) {
        if (t->is_waiting) {
            pthread_cond_signal(&t->paid);
        }
    }
}

void far_throttle_wake(struct far_throttle *throttle)
{
    pthread_mutex_lock(&throttle->mutex);
    wake_all(throttle);
    pthread_mutex_unlock(&throttle->mutex);
}

uint64_t far_throttle_rate(struct far_throttle *throttle, uint64_t plan_id)
{
    pthread_mutex_lock(&throttle->mutex);
    const struct bucket *plan = find_plan(throttle, plan_id);
    uint64_t rate = throttle->node.rate;
    rate = plan != NULL && plan->rate != 0 && (rate == 0 || plan->rate < rate) ? plan->rate : rate;
    pthread_mutex_unlock(&throttle->mutex);
    return rate;
}

/* ---- limits ---- */

static int compare_buckets(const void *a, const void *b)
{
    const struct bucket *x = a, *y = b;
    return (x->plan_id > y->plan_id) - (x->plan_id < y->plan_id);
}

static void change_rate(struct bucket *bucket, uint64_t rate)
{
    bucket->bytes = bucket->rate != 0 ? bucket->bytes : 0; /* an unlimited one kept nothing */
    bucket->rate = rate;
    cut(bucket);
}

int far_throttle_set(struct far_throttle *throttle, uint64_t bytes_per_s, const struct far_engine_plan_limit *plans, size_t plan_count,
                     struct far_error *err)
{
    if (plan_count > FAR_ENGINE_LIMITS_MAX) {
        return far_fail(err, FAR_LIMIT, "%zu plans have a bandwidth limit, and a node knows %d", plan_count, FAR_ENGINE_LIMITS_MAX);
    }
    struct bucket *buckets = calloc(plan_count + 1, sizeof *buckets);
    if (buckets == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for bandwidth limits");
    }
    bool is_limited = bytes_per_s != 0;
    pthread_mutex_lock(&throttle->mutex);
    advance(throttle);
    for (size_t i = 0; i < plan_count; i++) {
        const struct bucket *old = find_plan(throttle, plans[i].plan_id);
        buckets[i] = old != NULL ? *old : (struct bucket){.plan_id = plans[i].plan_id};
        change_rate(&buckets[i], plans[i].bytes_per_s);
        is_limited = is_limited || plans[i].bytes_per_s != 0;
    }
    qsort(buckets, plan_count, sizeof *buckets, compare_buckets);
    free(throttle->plans);
    throttle->plans = buckets;
    throttle->plan_count = plan_count;
    change_rate(&throttle->node, bytes_per_s);
    atomic_store(&throttle->is_limited, is_limited);
    wake_all(throttle);
    pthread_mutex_unlock(&throttle->mutex);
    return 0;
}

int far_throttle_new(struct far_throttle **ret_throttle, struct far_error *err)
{
    struct far_throttle *throttle = calloc(1, sizeof *throttle);
    if (throttle == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for bandwidth limits");
    }
    pthread_mutex_init(&throttle->mutex, NULL);
    throttle->filled_ns = far_clock_monotonic_ns();
    *ret_throttle = throttle;
    return 0;
}

void far_throttle_free(struct far_throttle *throttle)
{
    if (throttle == NULL) {
        return;
    }
    FAR_ASSERT(throttle->first == NULL);
    free(throttle->plans);
    pthread_mutex_destroy(&throttle->mutex);
    free(throttle);
}

int far_engine_set_limits(struct far_engine *engine, uint64_t bytes_per_s, const struct far_engine_plan_limit *plans,
                          size_t plan_count, struct far_error *err)
{
    return far_throttle_set(engine->throttle, bytes_per_s, plans, plan_count, err);
}
