/* One seed from its beginning to its end, and how it is told. See sim.h. */
#include "sim.h"

#include "base/assert.h"

#include <stdarg.h>

enum { HEAL_S = 90 };

/* Everybody there is has applied everything, and nobody waits. */
bool sim_is_quiet(struct sim *sim)
{
    struct sim_server *leader = sim_leader(sim);
    uint64_t last = sim_check_last_index(sim->check);
    if (leader == NULL || !sim->admin_idle || sim->now_us % SIM_SECOND > SIM_SECOND / 2) {
        return false;
    }
    if (!sim_clients_idle(sim)) {
        return false;
    }
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        struct sim_server *server = &sim->servers[i];
        struct far_raft_status status;
        if (server->id == 0 || server->away) {
            continue;
        }
        if (!server->alive || server->meta->applied_index != last || server->queue_count > 0) {
            return false;
        }
        far_raft_status(server->raft, &status);
        if (status.last_index != last || status.leader_id != leader->id) {
            return false;
        }
    }
    if (!sim_heads_idle(sim, sim->healed_seq) || (sim->incarnation == 1 && !sim_all_have_history(sim))) {
        return false;
    }
    return sim_consumers_idle(sim, leader->meta->last_seq) && sim_compact_idle(sim) && sim_past_idle(sim);
}

static bool is_formed(struct sim *sim)
{
    return sim->admin_idle;
}

static void explain(struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        struct sim_server *server = &sim->servers[i];
        struct far_raft_status status = {0};
        if (server->id == 0) {
            continue;
        }
        if (server->alive) {
            far_raft_status(server->raft, &status);
        }
        printf("# server %llu: alive %d, events %llu to %llu, applied %llu, last %llu, stored %llu, commit %llu, term %llu, leader %llu, "
               "installing %d, members %zu\n", (unsigned long long)server->id, server->alive,
               (unsigned long long)server->meta->first_seq, (unsigned long long)server->meta->last_seq,
               (unsigned long long)server->meta->applied_index, (unsigned long long)status.last_index,
               (unsigned long long)status.stored_index, (unsigned long long)status.commit_index,
               (unsigned long long)status.term, (unsigned long long)status.leader_id, status.installing,
               status.member_count);
    }
    sim_heads_say(sim);
    sim_past_say(sim);
    for (unsigned i = 0; i < sim->swarm.consumers; i++) {
        printf("# consumer %u: event %llu, asking %d\n", i, (unsigned long long)sim->consumers[i].place.seq,
               sim->consumers[i].caller.is_active);
    }
}

/* No progress. With servers that refuse their logs because something is broken on purpose this is no news: what must be
 * seen then is that a promise was broken. */
static void stuck(struct sim *sim, const char *what)
{
    if (!sim->failed && sim->options.broken == SIM_SOUND) {
        sim_fail(sim, "%s", what);
    }
}

static uint64_t last_seq(const struct sim *sim)
{
    uint64_t last = 0;
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        const struct sim_server *server = &sim->servers[i];
        last = server->id != 0 && server->meta->last_seq > last ? server->meta->last_seq : last;
    }
    return last;
}

static void run(struct sim *sim)
{
    sim->voters_wanted = sim->options.servers != 0 ? sim->options.servers : sim->swarm.servers;
    sim_swarm_say(sim);
    sim_server_create(sim, 0, true);
    sim_clients_start(sim);
    sim_admin_start(sim);
    if (!sim_run_until(sim, 60 * SIM_SECOND, is_formed)) {
        stuck(sim, "the cluster was not formed within a minute");
    }
    uint64_t until = sim->now_us + sim->options.seconds * SIM_SECOND;
    sim_faults_start(sim);
    sim_run_until(sim, until, NULL);
    sim_faults_heal(sim);
    sim->healed_seq = last_seq(sim);
    uint64_t answers = sim_check_answers(sim->check);
    sim_run_until(sim, sim->now_us + 15 * SIM_SECOND, NULL);
    if (sim_check_answers(sim->check) == answers) {
        stuck(sim, "no command got through in 15 s after everything was healed");
    }
    sim->calm = true;
    if (!sim_run_until(sim, sim->now_us + HEAL_S * (uint64_t)SIM_SECOND, sim_is_quiet)) {
        stuck(sim, "no rest within 90 s after everything was healed");
    }
    if (!sim->failed) {
        sim_check_end(sim->check);
    }
}

static void add_up(struct sim_totals *totals, const struct sim *sim)
{
    totals->seeds++;
    totals->steps += sim->steps;
    totals->commands += sim_check_answers(sim->check);
    totals->entries += sim_check_last_index(sim->check);
    totals->crashes += sim->crashes;
    totals->cuts += sim->cuts;
    totals->breaks += sim->breaks;
    totals->changes += sim->changes;
    totals->lost += sim->memory_lost;
    sim_counts_add(&totals->counts, &sim->counts);
    totals->virtual_us += sim->now_us;
}

/* false: the alarm was raised. */
bool sim_run_seed(const struct sim_options *options, struct sim_totals *totals)
{
    struct sim *sim = sim_new(options);
    run(sim);
    add_up(totals, sim);
    bool good = !sim->failed;
    if (!good) {
        printf("# seed %llu at %.6f s: %s\n", (unsigned long long)options->seed, (double)sim->now_us / SIM_SECOND,
               sim->failure);
        explain(sim);
    }
    sim_free(sim);
    return good;
}

void sim_print_totals(const struct sim_totals *t)
{
    printf("# %llu seeds, %.0f virtual seconds, %llu events, %llu entries, %llu answered commands\n",
           (unsigned long long)t->seeds, (double)t->virtual_us / SIM_SECOND, (unsigned long long)t->steps,
           (unsigned long long)t->entries, (unsigned long long)t->commands);
    printf("# %llu crashes (%llu power cuts), %llu cut links, %llu installed states, %llu membership changes, "
           "%llu lost memories, %llu damaged logs refused, %llu signed heads, %llu cuts of old events\n",
           (unsigned long long)t->crashes, (unsigned long long)t->cuts, (unsigned long long)t->breaks,
           (unsigned long long)t->counts.of[SIM_COUNT_INSTALLED], (unsigned long long)t->changes, (unsigned long long)t->lost,
           (unsigned long long)t->counts.of[SIM_COUNT_SEEN], (unsigned long long)t->counts.of[SIM_COUNT_HEAD],
           (unsigned long long)t->counts.of[SIM_COUNT_CUT]);
}

static unsigned tests, failures;

void sim_report(bool good, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("%s %u - ", good ? "ok" : "not ok", ++tests);
    vprintf(format, args);
    printf("\n");
    fflush(stdout);
    va_end(args);
    failures += !good;
}

int sim_report_end(void)
{
    printf("1..%u\n", tests);
    return failures != 0;
}
