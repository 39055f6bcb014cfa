/* The world of the simulation: virtual time, the heap of events, randomness. See sim.h. */
#include "sim.h"

#include "base/assert.h"
#include "base/logging.h"

#include <stdarg.h>

/* splitmix64 to spread the seed, xorshift128+ to go on. */
static uint64_t spread(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t sim_random(struct sim *sim, uint64_t below)
{
    uint64_t x = sim->random[0], y = sim->random[1];
    sim->random[0] = y;
    x ^= x << 23;
    sim->random[1] = x ^ y ^ (x >> 17) ^ (y >> 26);
    uint64_t value = sim->random[1] + y;
    return below == 0 ? 0 : value % below;
}

bool sim_chance(struct sim *sim, unsigned percent)
{
    return sim_random(sim, 100) < percent;
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    if (sim->failed) {
        return;
    }
    va_list args;
    va_start(args, format);
    vsnprintf(sim->failure, sizeof sim->failure, format, args);
    va_end(args);
    sim->failed = true;
    sim_say(sim, "ALARM: %s", sim->failure);
}

void sim_say(struct sim *sim, const char *format, ...)
{
    if (!sim->options.verbose) {
        return;
    }
    va_list args;
    va_start(args, format);
    printf("# %10.6f ", (double)sim->now_us / SIM_SECOND);
    vprintf(format, args);
    printf("\n");
    va_end(args);
}

/* ---- the heap ---- */

static bool before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

static void push(struct sim *sim, struct sim_event event)
{
    if (sim->heap_count == sim->heap_cap) {
        sim->heap_cap = sim->heap_cap == 0 ? 1024 : sim->heap_cap * 2;
        sim->heap = realloc(sim->heap, sim->heap_cap * sizeof *sim->heap);
        FAR_ASSERT(sim->heap != NULL);
    }
    size_t at = sim->heap_count++;
    while (at > 0 && before(&event, &sim->heap[(at - 1) / 2])) {
        sim->heap[at] = sim->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sim->heap[at] = event;
}

static struct sim_event pop(struct sim *sim)
{
    struct sim_event first = sim->heap[0], last = sim->heap[--sim->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= sim->heap_count) {
            break;
        }
        if (child + 1 < sim->heap_count && before(&sim->heap[child + 1], &sim->heap[child])) {
            child++;
        }
        if (!before(&sim->heap[child], &last)) {
            break;
        }
        sim->heap[at] = sim->heap[child];
        at = child;
    }
    sim->heap[at] = last;
    return first;
}

void sim_after(struct sim *sim, uint64_t us, sim_event_fn fn, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    push(sim, (struct sim_event){.at_us = sim->now_us + us,
                                 .order = ++sim->next_order,
                                 .fn = fn,
                                 .object = object,
                                 .a = a,
                                 .b = b,
                                 .blob = blob});
}

uint64_t sim_after_order(struct sim *sim)
{
    return sim->next_order;
}

bool sim_run_until(struct sim *sim, uint64_t at_us, bool (*done)(struct sim *sim))
{
    while (!sim->failed && sim->heap_count > 0 && sim->heap[0].at_us <= at_us) {
        struct sim_event event = pop(sim);
        sim->now_us = event.at_us;
        sim->steps++;
        event.fn(sim, event.object, event.a, event.b, event.blob);
        far_blob_unref(event.blob);
        for (unsigned i = 0; i < SIM_MACHINES; i++) {
            sim_server_bury(&sim->servers[i]);
        }
        if (done != NULL && done(sim)) {
            return !sim->failed;
        }
    }
    if (!sim->failed && sim->now_us < at_us) {
        sim->now_us = at_us;
    }
    return !sim->failed && done == NULL;
}

struct sim_server *sim_server_of(struct sim *sim, uint64_t id)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        if (sim->servers[i].id == id && id != 0) {
            return &sim->servers[i];
        }
    }
    return NULL;
}

struct sim_server *sim_leader(struct sim *sim)
{
    struct sim_server *best = NULL;
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        struct sim_server *server = &sim->servers[i];
        if (server->alive && server->incarnation == sim->incarnation && server->is_leader && (best == NULL || server->term > best->term)) {
            best = server;
        }
    }
    return best;
}

struct sim *sim_new(const struct sim_options *options)
{
    struct sim *sim = calloc(1, sizeof *sim);
    FAR_ASSERT(sim != NULL);
    far_log_level_set(FAR_LEVEL_ERROR + 1); /* what servers say of what happens to them is no news here */
    sim->options = *options;
    sim->swarm = sim_swarm_draw(options->seed);
    sim_swarm_favour(&sim->swarm, options->broken);
    uint64_t state = options->seed;
    sim->random[0] = spread(&state);
    sim->random[1] = spread(&state);
    sim->next_id = 1;
    sim->incarnation = 1;
    sim->delay_us = sim->swarm.delay_us;
    far_buf_init(&sim->payload, 64 * 1024);
    far_buf_init(&sim->entry, FAR_ENVELOPE_MAX);
    far_buf_init(&sim->scratch, 1024 * 1024);
    sim->check = sim_check_new(sim);
    sim->history = sim_history_new(sim);
    sim->orders = sim_orders_new(sim);
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        sim->servers[i].sim = sim;
        sim->servers[i].machine = i;
        sim->servers[i].disk = sim_disk_new(sim);
    }
    return sim;
}

void sim_free(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        sim_server_forget(&sim->servers[i]);
        sim_disk_free(sim->servers[i].disk);
    }
    for (size_t i = 0; i < sim->heap_count; i++) {
        far_blob_unref(sim->heap[i].blob);
    }
    free(sim->heap);
    sim_check_free(sim->check);
    sim_history_free(sim->history);
    sim_orders_free(sim->orders);
    sim_call_done(&sim->founder);
    sim_call_done(&sim->registrar);
    sim_call_done(&sim->operator_caller);
    for (unsigned i = 0; i < SIM_NODES_MAX; i++) {
        sim_call_done(&sim->nodes[i].caller);
    }
    for (unsigned i = 0; i < SIM_CONSUMERS_MAX; i++) {
        sim_call_done(&sim->consumers[i].caller);
    }
    for (unsigned i = 0; i < SIM_CLIENTS_MAX; i++) {
        sim_call_done(&sim->clients[i].caller);
    }
    far_buf_done(&sim->payload);
    far_buf_done(&sim->entry);
    far_buf_done(&sim->scratch);
    free(sim);
}
