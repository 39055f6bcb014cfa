/* A thousand nodes and a thousand consumers (DESIGN.md section 13), a minute long: each node reports once a second, each
 * consumer acknowledges its place once a second, all through the leader's queue of proposals into entries, as on a server.
 *
 * The queue, the entries and the window stay within their bounds and nobody is turned away; nobody is lost; what the state
 * takes does not grow. One more consumer is refused, and so is a queue beyond its bound. */
#include "lib/fsm_world.h"
#include "log/proposals.h"

#include "lib/cm.h"

#include <malloc.h>
#include <stdlib.h>

enum { NODES = 1000, CONSUMERS = 1000, SECONDS = 60, WARM_SECONDS = 10, GROWTH_MAX = 1024 * 1024 };

struct scale {
    struct world w;
    uint64_t nodes[NODES];
    struct far_proposals proposals;
    struct far_buf entry;
    uint64_t index;
    uint64_t accepted, refused, most_queued, most_bytes, entries;
};

static void on_answer(void *arg, const struct far_proposal *proposal, const struct far_result *result, uint64_t index)
{
    struct scale *s = arg;
    *(result->klass == 0 ? &s->accepted : &s->refused) += 1;
}

static int drop_event(void *arg, const struct far_event *event, struct far_error *err)
{
    return 0;
}

/* What is queued becomes entries, which are applied: at most a window of them at a time. */
static void drain(struct scale *s)
{
    while (s->proposals.queued.first != NULL) {
        struct far_envelope envelope;
        struct far_command command;
        assert_int_equal(far_proposals_take(&s->proposals, ++s->index, 1, s->w.now_ms, &s->entry, &s->w.err), 0);
        assert_true(s->entry.len <= FAR_ENVELOPE_MAX);
        assert_int_equal(far_envelope_open(far_buf_slice(&s->entry), &envelope, &s->w.err), 0);
        for (unsigned position = 0; far_envelope_next(&envelope, &command); position++) {
            struct far_result result;
            assert_int_equal(far_fsm_apply(&s->w.state, s->index, &command, drop_event, NULL, &result, &s->w.err), 0);
            far_proposals_decided(&s->proposals, s->index, 1, position, &result, s->index);
        }
        far_proposals_applied(&s->proposals, s->index, 1);
        s->entries++;
    }
}

static void queue(struct scale *s, const struct far_schema *schema, const void *object, uint64_t actor)
{
    struct far_buf payload;
    far_buf_init(&payload, FAR_COMMAND_PAYLOAD_MAX);
    assert_int_equal(far_schema_encode(schema, object, &payload, &s->w.err), 0);
    struct far_command command = {
        .kind = schema->kind, .version = schema->version, .actor = actor, .payload = far_buf_slice(&payload)};
    assert_non_null(far_proposals_add(&s->proposals, &command, UINT64_MAX));
    far_buf_done(&payload);
    s->most_queued = s->proposals.count > s->most_queued ? s->proposals.count : s->most_queued;
    s->most_bytes = s->proposals.bytes > s->most_bytes ? s->proposals.bytes : s->most_bytes;
}

static void second(struct scale *s, uint64_t at)
{
    char name[16];
    uint8_t head[8] = {1};
    for (size_t i = 0; i < NODES; i++) {
        struct far_cmd_node_report report = {.node_id = s->nodes[i], .boot = 1, .sequence = at};
        queue(s, &far_schema_cmd_node_report, &report, far_actor(FAR_ACTOR_NODE, s->nodes[i]));
    }
    for (size_t i = 0; i < CONSUMERS; i++) {
        snprintf(name, sizeof name, "c%zu", i);
        struct far_cmd_consumer_ack ack = {.name = S(name), .seq = at, .head = far_slice(head, sizeof head)};
        queue(s, &far_schema_cmd_consumer_ack, &ack, far_actor(FAR_ACTOR_TOKEN, 2));
    }
    drain(s);
    world_pass(&s->w, 1000);
    far_buf_reset(&s->w.log);
    far_arena_reset(&s->w.arena);
}

static void join_all(struct scale *s)
{
    char name[16];
    world_init(&s->w);
    world_cluster(&s->w);
    far_proposals_init(&s->proposals, on_answer, s, 1);
    far_buf_init(&s->entry, FAR_ENVELOPE_MAX);
    for (size_t i = 0; i < NODES; i++) {
        snprintf(name, sizeof name, "n%zu", i);
        s->nodes[i] = world_node(&s->w, name, i % 2 == 0 ? "paris" : "lyon");
    }
    for (size_t i = 0; i < CONSUMERS; i++) {
        snprintf(name, sizeof name, "c%zu", i);
        MUST(&s->w, consumer_create, .name = S(name));
    }
}

static void a_thousand_nodes_and_consumers_stay_within_the_bounds(void **state)
{
    struct scale *s = calloc(1, sizeof *s);
    size_t warm = 0;
    assert_non_null(s);
    join_all(s);
    assert_int_equal(APPLY(&s->w, consumer_create, .name = S("one-too-many")), FAR_LIMIT);
    for (uint64_t at = 1; at <= SECONDS; at++) {
        second(s, at);
        warm = at == WARM_SECONDS ? mallinfo2().uordblks : warm;
    }
    assert_int_equal(s->accepted, SECONDS * (NODES + CONSUMERS));
    assert_int_equal(s->refused, 0);
    assert_true(s->most_queued <= FAR_PROPOSALS_MAX);
    assert_true(s->most_bytes <= FAR_PROPOSALS_BYTES_MAX);
    assert_int_equal(s->proposals.count, 0);
    assert_true(mallinfo2().uordblks <= warm + GROWTH_MAX);
    for (size_t i = 0; i < NODES; i++) {
        assert_int_equal(world_row_node(&s->w, s->nodes[i]).state, FAR_node_state_up);
    }
    printf("# %llu commands in %llu entries, at most %llu and %llu bytes queued\n", (unsigned long long)s->accepted,
           (unsigned long long)s->entries, (unsigned long long)s->most_queued, (unsigned long long)s->most_bytes);
    far_buf_done(&s->entry);
    world_done(&s->w);
    free(s);
}

static void a_queue_beyond_its_bound_takes_nothing_more(void **state)
{
    struct scale *s = calloc(1, sizeof *s);
    struct far_command command = {.kind = FAR_KIND_cmd_tick};
    assert_non_null(s);
    far_proposals_init(&s->proposals, on_answer, s, 1);
    for (size_t i = 0; i < FAR_PROPOSALS_MAX; i++) {
        assert_non_null(far_proposals_add(&s->proposals, &command, UINT64_MAX));
    }
    assert_null(far_proposals_add(&s->proposals, &command, UINT64_MAX));
    far_proposals_drop_queued(&s->proposals, FAR_BUSY, "");
    assert_int_equal(s->refused, FAR_PROPOSALS_MAX);
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_thousand_nodes_and_consumers_stay_within_the_bounds),
        cmocka_unit_test(a_queue_beyond_its_bound_takes_nothing_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
