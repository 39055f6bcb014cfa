/* The swarm: each seed turns sizes, speeds and faults on and off by itself, so that no two worlds are alike. See sim.h. */
#include "sim.h"

struct draw {
    uint64_t state;
};

static uint64_t draw(struct draw *d, uint64_t below)
{
    uint64_t z = (d->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
}

#define PICK(d, ...) pick(d, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))
static uint64_t pick(struct draw *d, const uint64_t *values, size_t count)
{
    return values[draw(d, count)];
}

/* How often each fault comes, among those that the seed has. */
static const unsigned weights[SIM_FAULTS] = {
    [SIM_FAULT_CUT_OFF] = 25, [SIM_FAULT_BREAK] = 10, [SIM_FAULT_BLACKOUT] = 3, [SIM_FAULT_DELAY] = 5,
    [SIM_FAULT_KILL] = 12, [SIM_FAULT_POWER] = 10, [SIM_FAULT_DISK_DIES] = 12, [SIM_FAULT_SLOW] = 7,
    [SIM_FAULT_FULL] = 6, [SIM_FAULT_CLOCK] = 6, [SIM_FAULT_MEMORY] = 4, [SIM_FAULT_FLIP] = 4,
    [SIM_FAULT_MISDIRECT] = 4, [SIM_FAULT_LOSE] = 4, [SIM_FAULT_ROW] = 4,
};

struct sim_swarm sim_swarm_draw(uint64_t seed)
{
    struct draw d = {.state = seed ^ 0x5741524d5741524du};
    struct sim_swarm swarm = {
        .servers = (unsigned)PICK(&d, 3, 3, 3, 5, 5),
        .clients = 1 + (unsigned)draw(&d, SIM_CLIENTS_MAX),
        .consumers = (unsigned)draw(&d, SIM_CONSUMERS_MAX + 1),
        .nodes = (unsigned)PICK(&d, 0, 2, 4),
        .lease_ms = PICK(&d, 3000, 5000, 15000),
        .keys = (unsigned)PICK(&d, 1, 3, 10, SIM_KEYS_MAX),
        .read_percent = (unsigned)PICK(&d, 10, 30, 60),
        .think_us = PICK(&d, 50, 200, 200, 500) * SIM_MS,
        .election_ms = PICK(&d, 300, 500, 500, 1000),
        .delay_us = PICK(&d, 500, 2000, 5000, 20000),
        .drop_permille = (unsigned)PICK(&d, 0, 1, 3, 20),
        .disk_us = PICK(&d, 200, 2000, 2000, 10000),
        .apply_us = PICK(&d, 100, 3000, 3000, 20000),
        .apply_group = (unsigned)PICK(&d, 1, 8, 64),
        .cache_bytes = PICK(&d, 16, 64, 64, 1024) * 1024,
        .fault_us = PICK(&d, 700, 1500, 3000) * SIM_MS,
        .membership = draw(&d, 2) == 0,
        .coup_percent = (unsigned)PICK(&d, 0, 4, 10),
        .blackout_permille = (unsigned)PICK(&d, 0, 0, 2, 4),
    };
    swarm.heads = draw(&d, 3) > 0;
    swarm.head_events = PICK(&d, 20, 100, 1024);
    swarm.head_ms = PICK(&d, 500, 3000, 10000);
    swarm.retention = swarm.heads && draw(&d, 2) == 0;
    /* With many clients on few keys an operation is seldom alone; that makes their histories dear to check. */
    swarm.think_us *= swarm.clients > 4 ? 2 : 1;
    unsigned on = (unsigned)PICK(&d, 30, 60, 100);
    unsigned sum = 0;
    for (unsigned i = 0; i < SIM_FAULTS; i++) {
        swarm.weights[i] = draw(&d, 100) < on ? weights[i] : 0;
        sum += swarm.weights[i];
    }
    swarm.weights[SIM_FAULT_KILL] += sum == 0;
    swarm.segment_bytes = PICK(&d, 16, 16, 64, 64, 0) * 1024;
    swarm.compact_rows = (unsigned)PICK(&d, 0, 5, 20) * (swarm.nodes > 0);
    swarm.epoch_events = PICK(&d, 0, 0, 32, 128);
    swarm.past_looks = PICK(&d, 30, 200, 0);
    swarm.layer_us = PICK(&d, 0, 100) * SIM_MS * (swarm.epoch_events > 0); /* as in production there is a history below */
    return swarm;
}

void sim_swarm_favour(struct sim_swarm *swarm, enum sim_broken broken)
{
    if (broken == SIM_SOUND || broken == SIM_BROKEN_SYNC || broken == SIM_BROKEN_VOTE) {
        return;
    }
    swarm->clients = swarm->clients < 4 ? 4 : swarm->clients;
    swarm->consumers = SIM_CONSUMERS_MAX;
    if (broken == SIM_BROKEN_TERM) {
        swarm->weights[SIM_FAULT_CUT_OFF] = 100;
        swarm->think_us = 50 * SIM_MS;
    } else if (broken == SIM_BROKEN_TWICE) {
        swarm->weights[SIM_FAULT_KILL] = 100;
    } else if (broken == SIM_BROKEN_COMPACT) {
        swarm->nodes = SIM_NODES_MAX;
        swarm->compact_rows = 5;
    } else if (broken == SIM_BROKEN_HEAD) {
        swarm->heads = true;
        swarm->head_ms = 500;
    } else if (broken == SIM_BROKEN_LEASE) {
        swarm->nodes = SIM_NODES_MAX;
        swarm->lease_ms = 3000;
        swarm->weights[SIM_FAULT_BLACKOUT] = 20;
    }
}

struct sim_swarm sim_swarm_plain(void)
{
    return (struct sim_swarm){.servers = 3,
                              .clients = 4,
                              .consumers = 1,
                              .lease_ms = 15000,
                              .keys = SIM_KEYS_MAX,
                              .read_percent = 20,
                              .think_us = 250 * SIM_MS,
                              .election_ms = 500,
                              .delay_us = 2 * SIM_MS,
                              .disk_us = 2000,
                              .apply_us = 3000,
                              .apply_group = 64,
                              .cache_bytes = 64 * 1024,
                              .segment_bytes = 64 * 1024,
                              .fault_us = 1500 * SIM_MS,
                              .weights = {[SIM_FAULT_KILL] = 1}};
}

void sim_swarm_say(struct sim *sim)
{
    static const char *const names[SIM_FAULTS] = {
        "cut-off", "break", "blackout", "delay", "kill", "power", "disk-dies", "slow", "full", "clock", "memory", "flip",
        "misdirect", "lose", "row"};
    const struct sim_swarm *s = &sim->swarm;
    char faults[256] = "";
    size_t len = 0;
    for (unsigned i = 0; i < SIM_FAULTS; i++) {
        if (s->weights[i] > 0) {
            len += (size_t)snprintf(faults + len, sizeof faults - len, " %s", names[i]);
        }
    }
    sim_say(sim, "%u voters, %u consumers, %u nodes (lease %llu ms), %u clients on %u keys, think %llu us, "
            "election %llu ms, delay %llu us, drop %u/1000, disk %llu us, "
            "apply %llu us by %u in layers of %llu us, cache %llu, segments %llu, membership %d, heads %d after %llu events or %llu ms, "
            "retention %d, compaction by %u, epochs of %llu by %llu; every %llu us one of:%s", s->servers, s->consumers, s->nodes,
            (unsigned long long)s->lease_ms, s->clients, s->keys,
            (unsigned long long)s->think_us, (unsigned long long)s->election_ms, (unsigned long long)s->delay_us,
            s->drop_permille, (unsigned long long)s->disk_us, (unsigned long long)s->apply_us, s->apply_group,
            (unsigned long long)s->layer_us,
            (unsigned long long)s->cache_bytes, (unsigned long long)s->segment_bytes,
            s->membership, s->heads, (unsigned long long)s->head_events,
            (unsigned long long)s->head_ms, s->retention, s->compact_rows,
            (unsigned long long)s->epoch_events, (unsigned long long)s->past_looks, (unsigned long long)s->fault_us, faults);
}
