/* The raft driver on real folders: three servers, a queue of messages, virtual time. The depth is in tests/sim; here is
 * what one looks at first when something breaks. */
#include "log/raft_codec.h"
#include "log/raft_core.h"
#include "../lib/cm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SERVERS = 3, QUEUE_MAX = 4096, ENTRIES_MAX = 4096 };

struct server {
    uint64_t id;
    char dir[64];
    char address[32];
    struct far_disk *disk;
    struct far_raft *raft;
    struct far_buf conf;
    uint64_t timer_ms;
    uint64_t leader;
    uint64_t committed[ENTRIES_MAX];
    size_t committed_count;
    uint64_t applied;
    uint64_t applied_term;
    uint64_t conf_index;
    bool cut_off;
    bool installed;
    uint64_t install_from;
    uint64_t install_at_ms; /* a state takes its time: heartbeats come meanwhile */
};

struct message {
    uint64_t from, to;
    uint8_t *data;
    size_t len;
};

static struct server servers[SERVERS];
static struct message queue[QUEUE_MAX];
static size_t queue_count;
static struct far_wal_job *jobs[64];
static size_t job_count;
static uint64_t now;

static uint64_t env_now(void *arg)
{
    return now;
}

static void env_timer(void *arg, uint64_t at_ms)
{
    ((struct server *)arg)->timer_ms = at_ms;
}

static void env_send(void *arg, uint64_t to, const char *address, struct far_slice bytes)
{
    const struct server *s = arg;
    if (s->cut_off || queue_count == QUEUE_MAX) {
        return;
    }
    struct message *m = &queue[queue_count++];
    *m = (struct message){.from = s->id, .to = to, .data = malloc(bytes.len), .len = bytes.len};
    memcpy(m->data, bytes.data, bytes.len);
}

static void env_commit(void *arg, const struct far_wal_entry *entry)
{
    struct server *s = arg;
    assert_int_equal(entry->index, s->applied + 1);
    s->applied = entry->index;
    s->applied_term = entry->term;
    if (entry->type == FAR_RAFT_CHANGE) {
        far_buf_reset(&s->conf);
        far_buf_append(&s->conf, entry->blob->data, entry->blob->len);
        s->conf_index = entry->index;
    }
    if (entry->type == FAR_RAFT_COMMAND) {
        s->committed[s->committed_count++] = far_get_le64(entry->blob->data);
    }
}

static void env_leader(void *arg, uint64_t leader, uint64_t term, bool is_self)
{
    ((struct server *)arg)->leader = leader;
}

static void env_install(void *arg, uint64_t from, const struct far_raft_manifest *manifest)
{
    struct server *s = arg;
    s->install_from = from;
    s->install_at_ms = now + 700;
}

static void env_fatal(void *arg, const struct far_error *err)
{
    fail_msg("server %" PRIu64 ": %s", ((struct server *)arg)->id, err->message);
}

static void submit_job(void *arg, struct far_wal_job *job)
{
    jobs[job_count++] = job;
}

static struct far_raft_manifest manifest_of(const struct server *s)
{
    return (struct far_raft_manifest){.index = s->applied,
                                      .term = s->applied_term,
                                      .configuration_index = s->conf_index,
                                      .configuration = far_buf_slice(&s->conf)};
}

static void open_server(struct server *s)
{
    struct far_error err = {0};
    struct far_raft_env env = {.arg = s,
                               .now_ms = env_now,
                               .set_timer = env_timer,
                               .send = env_send,
                               .on_commit = env_commit,
                               .on_leader = env_leader,
                               .on_install = env_install,
                               .on_fatal = env_fatal,
                               .on_full = env_fatal};
    struct far_raft_config config = {.id = s->id,
                                     .address = s->address,
                                     .seed = (uint32_t)s->id * 7919,
                                     .disk = s->disk,
                                     .executor = {.submit = submit_job},
                                     .manifest = manifest_of(s),
                                     .installed = s->installed};
    int rc = far_raft_open(&config, &env, &s->raft, &err);
    if (rc != 0) {
        fail_msg("%s", err.message);
    }
}

static struct server *by_id(uint64_t id)
{
    return &servers[id - 1];
}

/* What a state transfer would do: take the sender's state over. */
static void finish_installs(void)
{
    for (size_t i = 0; i < SERVERS; i++) {
        struct server *s = &servers[i];
        if (s->install_from == 0 || s->raft == NULL || now < s->install_at_ms) {
            continue;
        }
        struct server *from = by_id(s->install_from);
        s->install_from = 0;
        memcpy(s->committed, from->committed, sizeof s->committed);
        s->committed_count = from->committed_count;
        s->applied = from->applied;
        s->applied_term = from->applied_term;
        s->conf_index = from->conf_index;
        far_buf_reset(&s->conf);
        far_buf_append(&s->conf, from->conf.data, from->conf.len);
        s->installed = true;
        struct far_raft_manifest m = manifest_of(s);
        far_raft_installed(s->raft, &m);
    }
}

static void deliver(struct message *m)
{
    struct far_error err;
    if (m->to <= SERVERS && by_id(m->to)->raft != NULL && !by_id(m->to)->cut_off && !by_id(m->from)->cut_off) {
        int rc = far_raft_receive(by_id(m->to)->raft, m->from, by_id(m->from)->address,
                                  far_slice(m->data, m->len), &err);
        assert_int_equal(rc, 0);
    }
    free(m->data);
}

static void run_ms(uint64_t ms)
{
    for (uint64_t end = now + ms; now < end; now++) {
        size_t n = job_count;
        struct far_wal_job *batch[64];
        memcpy(batch, jobs, n * sizeof batch[0]);
        job_count = 0;
        for (size_t i = 0; i < n; i++) {
            batch[i]->run(batch[i]);
            batch[i]->done(batch[i]);
        }
        struct message messages[QUEUE_MAX];
        n = queue_count;
        memcpy(messages, queue, n * sizeof messages[0]);
        queue_count = 0;
        for (size_t i = 0; i < n; i++) {
            deliver(&messages[i]);
        }
        finish_installs();
        for (size_t i = 0; i < SERVERS; i++) {
            if (servers[i].raft != NULL && now >= servers[i].timer_ms) {
                far_raft_timeout(servers[i].raft);
            }
            if (servers[i].raft != NULL) {
                struct far_raft_manifest m = manifest_of(&servers[i]);
                far_raft_durable(servers[i].raft, &m);
            }
        }
    }
}

static struct server *leader(void)
{
    for (int i = 0; i < 100; i++) {
        for (size_t k = 0; k < SERVERS; k++) {
            struct far_raft_status status;
            if (servers[k].raft == NULL || servers[k].cut_off) {
                continue;
            }
            far_raft_status(servers[k].raft, &status);
            if (status.is_leader) {
                return &servers[k];
            }
        }
        run_ms(100);
    }
    fail_msg("nobody leads");
    return NULL;
}

/* Submit at whoever leads until it is committed there. */
static void propose(uint64_t value, size_t bytes)
{
    struct far_error err;
    uint8_t *data = calloc(1, bytes);
    far_put_le64(data, value);
    for (int i = 0; i < 1000; i++) {
        if (far_raft_submit(leader()->raft, far_slice(data, bytes), &err) == 0) {
            free(data);
            return;
        }
        run_ms(5);
    }
    fail_msg("not submitted: %s", err.message);
}

static void stop_server(struct server *s)
{
    far_raft_stop(s->raft);
    for (size_t i = 0; i < job_count; i++) { /* the writer ends what it began */
        jobs[i]->run(jobs[i]);
        jobs[i]->done(jobs[i]);
    }
    job_count = 0;
    far_raft_close(s->raft);
    s->raft = NULL;
}

static int setup(void **unused)
{
    struct far_error err = {0};
    memset(servers, 0, sizeof servers);
    now = 1000;
    for (size_t i = 0; i < SERVERS; i++) {
        struct server *s = &servers[i];
        s->id = i + 1;
        snprintf(s->address, sizeof s->address, "host%zu:1", i + 1);
        strcpy(s->dir, "/tmp/far-raft-XXXXXX");
        assert_non_null(mkdtemp(s->dir));
        far_buf_init(&s->conf, FAR_RAFT_MANIFEST_MAX);
        assert_int_equal(far_disk_posix_new(s->dir, &s->disk, &err), 0);
    }
    assert_int_equal(far_raft_bootstrap(servers[0].disk, 1, servers[0].address, &servers[0].conf, &err), 0);
    struct far_buf again;
    far_buf_init(&again, 1024);
    assert_int_equal(far_raft_bootstrap(servers[0].disk, 1, servers[0].address, &again, &err), FAR_CONFLICT);
    far_buf_done(&again);
    servers[0].applied = servers[0].conf_index = FAR_RAFT_BOOTSTRAP_INDEX;
    servers[0].applied_term = FAR_RAFT_BOOTSTRAP_TERM;
    for (size_t i = 0; i < SERVERS; i++) {
        open_server(&servers[i]);
    }
    return 0;
}

static int teardown(void **unused)
{
    for (size_t i = 0; i < queue_count; i++) {
        free(queue[i].data);
    }
    queue_count = 0;
    for (size_t i = 0; i < SERVERS; i++) {
        struct server *s = &servers[i];
        char command[128];
        if (s->raft != NULL) {
            stop_server(s);
        }
        far_disk_posix_free(s->disk);
        far_buf_done(&s->conf);
        snprintf(command, sizeof command, "rm -rf '%s'", s->dir);
        assert_int_equal(system(command), 0);
    }
    return 0;
}

static void add_all(void)
{
    struct far_error err = {0};
    propose(0, 8);
    for (uint64_t id = 2; id <= SERVERS; id++) {
        int rc = FAR_BUSY;
        for (int i = 0; i < 2000 && rc != 0; i++) {
            run_ms(10);
            rc = far_raft_add(leader()->raft, id, by_id(id)->address, &err);
        }
        if (rc != 0) {
            fail_msg("add: %s", err.message);
        }
        rc = FAR_BUSY;
        for (int i = 0; i < 2000 && rc != 0; i++) {
            run_ms(10);
            rc = far_raft_promote(leader()->raft, id, &err);
        }
        if (rc != 0) {
            fail_msg("promote: %s", err.message);
        }
    }
    run_ms(500);
    struct far_raft_status status;
    far_raft_status(leader()->raft, &status);
    assert_int_equal(status.member_count, 3);
    assert_true(status.members[2].voter);
}

static void assert_all_equal(size_t count)
{
    for (size_t i = 0; i < SERVERS; i++) {
        assert_int_equal(servers[i].committed_count, count);
        assert_memory_equal(servers[i].committed, servers[0].committed, count * sizeof servers[0].committed[0]);
    }
}

static void a_cluster_grows_from_one_and_agrees(void **unused)
{
    add_all();
    for (uint64_t v = 1; v <= 50; v++) {
        propose(v, 8 + v * 8);
        run_ms(3);
    }
    run_ms(500);
    assert_all_equal(51);
}

static void entries_of_the_greatest_size_pass(void **unused)
{
    add_all();
    for (uint64_t v = 1; v <= 30; v++) {
        propose(v, FAR_RAFT_ENTRY_MAX);
    }
    run_ms(2000);
    assert_all_equal(31);
}

static void another_leads_when_the_leader_is_cut_off(void **unused)
{
    add_all();
    propose(1, 8);
    run_ms(100);
    struct server *old = leader();
    old->cut_off = true;
    run_ms(5000);
    assert_ptr_not_equal(leader(), old);
    propose(2, 8);
    run_ms(100);
    old->cut_off = false;
    run_ms(3000);
    propose(3, 8);
    run_ms(1000);
    assert_all_equal(4);
}

static void restarts_lose_nothing_and_repeat_nothing(void **unused)
{
    add_all();
    for (uint64_t v = 1; v <= 40; v++) {
        propose(v, 64);
        run_ms(20);
        if (v % 8 == 0) {
            struct server *s = &servers[v / 8 % SERVERS];
            stop_server(s);
            run_ms(50);
            open_server(s);
            run_ms(3000);
        }
    }
    run_ms(3000);
    assert_all_equal(41);
}

/* Found by the simulation: what a lone voter sent to a standby before it was stored, and what it wrote after its next start,
 * had the same index and term. */
static void a_lone_voter_begins_a_new_term_when_it_starts(void **unused)
{
    run_ms(3000);
    struct far_raft_status before, after;
    far_raft_status(servers[0].raft, &before);
    stop_server(&servers[0]);
    open_server(&servers[0]);
    run_ms(3000);
    far_raft_status(servers[0].raft, &after);
    assert_true(after.is_leader);
    assert_true(after.term > before.term);
}

/* One that does not lead is cut off while the others go on until it needs the state. */
static struct server *leave_one_behind(void)
{
    struct server *behind = leader() == &servers[2] ? &servers[1] : &servers[2];
    behind->cut_off = true;
    for (uint64_t v = 1; v <= 3 * FAR_RAFT_SNAPSHOT_EVERY + 100; v++) {
        propose(v, 8);
        if (v % FAR_RAFT_WINDOW == 0) {
            run_ms(4);
        }
    }
    run_ms(500);
    return behind;
}

static void who_fell_far_behind_gets_the_state(void **unused)
{
    add_all();
    struct server *behind = leave_one_behind();
    struct far_raft_status status;
    behind->cut_off = false;
    run_ms(20000);
    far_raft_status(behind->raft, &status);
    assert_true(behind->installed);
    propose(9999, 8);
    run_ms(1000);
    assert_all_equal(1 + 3 * FAR_RAFT_SNAPSHOT_EVERY + 100 + 1);
    /* and its log starts behind the state, also after a restart */
    stop_server(behind);
    open_server(behind);
    run_ms(3000);
    propose(1, 8);
    run_ms(1000);
    assert_all_equal(1 + 3 * FAR_RAFT_SNAPSHOT_EVERY + 100 + 2);
}

/* Found by the simulation (seed 30004): who fetched a state knew its leader for ever, and gave nobody else a vote. */
static void who_fetches_a_state_from_a_leader_that_dies_votes_for_another(void **unused)
{
    add_all();
    struct server *behind = leave_one_behind(), *old = leader();
    behind->cut_off = false;
    for (int i = 0; i < 20000 && behind->install_from == 0; i++) {
        run_ms(1);
    }
    assert_int_equal(behind->install_from, old->id);
    behind->install_at_ms = UINT64_MAX; /* not from there any more */
    old->cut_off = true;
    run_ms(5000);
    struct server *next = leader();
    assert_true(next != old && next != behind);
    behind->install_from = next->id; /* as far_log_want_state() does */
    behind->install_at_ms = now;
    run_ms(3000);
    propose(9999, 8);
    run_ms(1000);
    assert_int_equal(behind->committed[behind->committed_count - 1], 9999);
    old->cut_off = false;
    run_ms(5000);
    assert_all_equal(1 + 3 * FAR_RAFT_SNAPSHOT_EVERY + 100 + 1);
}

/* But not while the leader is there. */
static void who_fetches_a_state_keeps_to_a_leader_that_is_there(void **unused)
{
    add_all();
    struct server *behind = leave_one_behind(), *old = leader();
    struct server *other = by_id(1 + 2 + 3 - behind->id - old->id);
    struct far_raft_status before, after;
    far_raft_status(old->raft, &before);
    behind->cut_off = false;
    for (int i = 0; i < 20000 && behind->install_from == 0; i++) {
        run_ms(1);
    }
    behind->install_at_ms = UINT64_MAX;
    for (int i = 0; i < 5; i++) { /* it is cut off until it wants to lead, and asks when it is back */
        other->cut_off = true;
        run_ms(4000);
        other->cut_off = false;
        run_ms(300);
    }
    far_raft_status(old->raft, &after);
    assert_true(after.is_leader);
    assert_int_equal(after.term, before.term);
    behind->install_at_ms = now;
    run_ms(3000);
    propose(9999, 8);
    run_ms(1000);
    assert_int_equal(behind->committed[behind->committed_count - 1], 9999);
}

static void leadership_is_handed_over_and_the_former_leader_removed(void **unused)
{
    struct far_error err;
    add_all();
    struct server *old = leader();
    uint64_t to = old->id % SERVERS + 1;
    struct far_raft_place place;
    far_raft_place(old->raft, &place);
    assert_false(place.is_offered);
    assert_int_equal(far_raft_remove(old->raft, old->id, &err), FAR_CONFLICT);
    assert_int_equal(far_raft_transfer(old->raft, to, &err), 0);
    far_raft_place(old->raft, &place);
    assert_true(place.is_leader && place.is_offered);
    run_ms(1000);
    assert_int_equal(leader()->id, to);
    far_raft_place(leader()->raft, &place);
    assert_false(place.is_offered);
    propose(7, 8);
    run_ms(500);
    assert_int_equal(far_raft_remove(leader()->raft, old->id, &err), 0);
    run_ms(500);
    struct far_raft_status status;
    far_raft_status(leader()->raft, &status);
    assert_int_equal(status.member_count, 2);
}

static bool good_pair(uint64_t id_a, const char *a, uint64_t id_b, const char *b)
{
    struct far_buf bytes;
    uint8_t number[8];
    far_buf_init(&bytes, 1024);
    far_buf_append(&bytes, "\1", 1);
    far_put_le64(number, 2);
    far_buf_append(&bytes, number, 8);
    far_put_le64(number, id_a);
    far_buf_append(&bytes, number, 8);
    far_buf_append(&bytes, a, strlen(a) + 1);
    far_buf_append(&bytes, "\1", 1);
    far_put_le64(number, id_b);
    far_buf_append(&bytes, number, 8);
    far_buf_append(&bytes, b, strlen(b) + 1);
    far_buf_append(&bytes, "\1", 1);
    bool good = far_raft_configuration_good(far_buf_slice(&bytes));
    far_buf_done(&bytes);
    return good;
}

static void a_membership_with_a_server_twice_is_refused(void **unused)
{
    assert_true(good_pair(1, "a:1", 2, "b:1"));
    assert_false(good_pair(1, "a:1", 1, "b:1"));
    assert_false(good_pair(1, "a:1", 2, "a:1"));
    assert_false(good_pair(0, "a:1", 2, "b:1"));
}

/* A candidate of a much later term asks s for its vote: s takes the term over and refuses. */
static void raise_term(struct server *s, uint64_t from)
{
    struct far_error err = {0};
    struct far_raft_status status;
    struct far_buf bytes;
    far_raft_status(s->raft, &status);
    struct raft_message message = {.type = RAFT_REQUEST_VOTE, .server_id = s->id, .server_address = s->address};
    message.request_vote = (struct raft_request_vote){
        .version = 2, .term = status.term + 5, .candidate_id = from, .disrupt_leader = true};
    far_buf_init(&bytes, 1024);
    assert_int_equal(far_raft_message_encode(&message, NULL, &bytes, &err), 0);
    assert_int_equal(far_raft_receive(s->raft, from, by_id(from)->address, far_buf_slice(&bytes), &err), 0);
    far_buf_done(&bytes);
    far_raft_status(s->raft, &status);
    assert_int_equal(status.term, message.request_vote.term);
}

/* libraft's answers to pre-votes do not tell of a higher term: who has the longer log would ask in its old term for ever. */
static void the_longer_log_wins_though_the_other_voter_is_terms_ahead(void **state)
{
    add_all();
    struct server *old = leader(), *longer = by_id(old->id % SERVERS + 1), *ahead = by_id(longer->id % SERVERS + 1);
    ahead->cut_off = true;
    propose(77, 64);
    run_ms(200);
    assert_int_equal(longer->committed[longer->committed_count - 1], 77);
    raise_term(ahead, old->id);
    stop_server(old);
    ahead->cut_off = false;
    assert_ptr_equal(leader(), longer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_membership_with_a_server_twice_is_refused),
        cmocka_unit_test_setup_teardown(a_cluster_grows_from_one_and_agrees, setup, teardown),
        cmocka_unit_test_setup_teardown(entries_of_the_greatest_size_pass, setup, teardown),
        cmocka_unit_test_setup_teardown(another_leads_when_the_leader_is_cut_off, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lone_voter_begins_a_new_term_when_it_starts, setup, teardown),
        cmocka_unit_test_setup_teardown(restarts_lose_nothing_and_repeat_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(who_fell_far_behind_gets_the_state, setup, teardown),
        cmocka_unit_test_setup_teardown(who_fetches_a_state_from_a_leader_that_dies_votes_for_another, setup, teardown),
        cmocka_unit_test_setup_teardown(who_fetches_a_state_keeps_to_a_leader_that_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(leadership_is_handed_over_and_the_former_leader_removed, setup, teardown),
        cmocka_unit_test_setup_teardown(the_longer_log_wins_though_the_other_voter_is_terms_ahead, setup, teardown),
    };
    return cmocka_run_group_tests_name("raft_core", tests, NULL, NULL);
}
