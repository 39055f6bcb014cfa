/* Survivors: see survivors.h. */
#include "server/survivors.h"

#include <farshore/client.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { ARENA_MAX = 256 * 1024 };

static void copy_text(struct far_slice text, char *out, size_t size)
{
    snprintf(out, size, "%.*s", (int)(text.len < size ? text.len : size - 1), (const char *)text.data);
}

int far_survivors_of(struct far_state *state, uint64_t self_id, struct far_survivors *ret_survivors, struct far_error *err)
{
    struct far_arena arena;
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    int rc = 0;
    *ret_survivors = (struct far_survivors){0};
    far_arena_init(&arena, ARENA_MAX);
    while (ret_survivors->count < FAR_SURVIVORS_MAX &&
           (rc = far_state_next(state, &far_schema_row_server, &key, &arena, NULL, &row, err)) == 0) {
        if (row.role == FAR_server_role_removed) {
            continue;
        }
        struct far_survivor *one = &ret_survivors->list[ret_survivors->count++];
        *one = (struct far_survivor){.id = row.id,
                                     .is_voter = row.role == FAR_server_role_voter,
                                     .is_self = row.id == self_id};
        copy_text(row.name, one->name, sizeof one->name);
        copy_text(row.api_address, one->api_address, sizeof one->api_address);
        far_arena_reset(&arena);
    }
    far_arena_done(&arena);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* ---- asking ---- */

static bool take_number(json_t *object, const char *name, uint64_t *ret)
{
    json_t *value = json_object_get(object, name);
    *ret = (uint64_t)json_integer_value(value);
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

static void take_answer(struct far_survivor *one, const char *text)
{
    json_t *answer = json_loads(text, 0, NULL);
    json_t *server = json_object_get(answer, "server");
    uint64_t leader = 0;
    one->is_judged = take_number(server, "last_term", &one->end.last_term) &&
                     take_number(server, "last_index", &one->end.last_index) &&
                     take_number(server, "term", &one->end.term) && take_number(server, "leader_id", &leader) &&
                     take_number(json_object_get(answer, "cluster"), "incarnation_epoch", &one->incarnation_epoch);
    one->leader_id = json_is_true(json_object_get(server, "stale")) ? 0 : leader;
    if (!one->is_judged) {
        snprintf(one->why, sizeof one->why, "its answer does not say what it holds");
    }
    json_decref(answer);
}

/* One question, on a thread of its own: who is not there takes the whole time. */
struct question {
    struct far_survivor *one;
    const char *ca_path;
    const char *token;
    pthread_t thread;
    bool is_asked;
    int rc;
    struct far_error err;
};

static void *ask(void *arg)
{
    struct question *q = arg;
    struct far_survivor *one = q->one;
    char url[300];
    char *text = NULL;
    struct far_client *client;
    struct far_client_error failure;
    snprintf(url, sizeof url, "https://%s", one->api_address);
    struct far_client_config config = {.version = FAR_CLIENT_CONFIG_VERSION,
                                       .servers = url,
                                       .ca_path = q->ca_path,
                                       .token = q->token,
                                       .timeout_ms = FAR_SURVIVOR_ASK_MS};
    if (far_client_new(&config, &client, &failure) != 0) {
        q->rc = far_fail(&q->err, far_class_from_name(failure.code), "%s", failure.message);
        return NULL;
    }
    if (far_client_request(client, "GET", "/v1/cluster", NULL, &text, &failure) == 0) {
        one->is_there = true;
        take_answer(one, text);
        free(text);
    } else {
        one->is_there = failure.http_status != 0;
        snprintf(one->why, sizeof one->why, "%s", failure.message);
    }
    far_client_free(client);
    return NULL;
}

int far_survivors_ask(struct far_survivors *survivors, const char *ca_path, const char *token, struct far_error *err)
{
    struct question questions[FAR_SURVIVORS_MAX] = {{.one = NULL}};
    int rc = 0;
    for (size_t i = 0; i < survivors->count && rc == 0; i++) {
        struct question *q = &questions[i];
        *q = (struct question){.one = &survivors->list[i], .ca_path = ca_path, .token = token};
        if (!q->one->is_self && pthread_create(&q->thread, NULL, ask, q) != 0) {
            rc = far_fail(err, FAR_LIMIT, "no thread to ask the other servers");
        }
        q->is_asked = rc == 0 && !q->one->is_self;
    }
    for (size_t i = 0; i < survivors->count; i++) {
        struct question *q = &questions[i];
        if (q->is_asked && pthread_join(q->thread, NULL) == 0 && q->rc != 0 && rc == 0) {
            rc = far_fail(err, q->rc, "%s", q->err.message);
        }
    }
    return rc;
}

/* ---- judging ---- */

static const struct far_survivor *self_of(const struct far_survivors *survivors)
{
    for (size_t i = 0; i < survivors->count; i++) {
        if (survivors->list[i].is_self) {
            return &survivors->list[i];
        }
    }
    return NULL;
}

static int judge(const struct far_survivor *one, const struct far_survivor *self, uint64_t own_epoch, struct far_error *err)
{
    if (!one->is_there || one->is_self) {
        return 0;
    }
    if (!one->is_judged) {
        return far_fail(err, FAR_CONFLICT,
                        "server '%s' is there but does not say what it holds (%s): give a token that it knows, or stop it if it "
                        "is not to count", one->name, one->why);
    }
    if (one->incarnation_epoch > own_epoch) {
        return far_fail(err, FAR_CONFLICT,
                        "server '%s' at %s is in incarnation %llu already: the cluster was recovered there. Rejoin it from "
                        "here with a join token (farshored rejoin)",
                        one->name, one->api_address, (unsigned long long)one->incarnation_epoch);
    }
    if (one->leader_id != 0) {
        return far_fail(err, FAR_CONFLICT, "server '%s' at %s has a leader, server %llu: the quorum is not gone", one->name,
                        one->api_address, (unsigned long long)one->leader_id);
    }
    if (far_raft_end_compare(&one->end, &self->end) > 0) {
        return far_fail(err, FAR_CONFLICT,
                        "server '%s' at %s holds more: its log ends at entry %llu of term %llu. Recover there, not here",
                        one->name, one->api_address, (unsigned long long)one->end.last_index,
                        (unsigned long long)one->end.last_term);
    }
    return 0;
}

int far_survivors_judge(const struct far_survivors *survivors, uint64_t own_epoch, bool is_contested, struct far_error *err)
{
    const struct far_survivor *self = self_of(survivors);
    size_t voters = 0, there = 0;
    if (self == NULL) {
        return far_fail(err, FAR_CONFLICT, "this server is no member of the cluster any more");
    }
    for (size_t i = 0; i < survivors->count; i++) {
        const struct far_survivor *one = &survivors->list[i];
        voters += one->is_voter;
        there += one->is_voter && (one->is_self || one->is_there);
        int rc = judge(one, self, own_epoch, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (there >= voters / 2 + 1 && voters > 0 && !is_contested) {
        return far_fail(err, FAR_CONFLICT,
                        "%zu of %zu voters are there: that is a quorum. Start them all; nothing needs to be recovered", there,
                        voters);
    }
    return 0;
}

uint64_t far_survivors_term(const struct far_survivors *survivors)
{
    uint64_t term = 0;
    for (size_t i = 0; i < survivors->count; i++) {
        term = survivors->list[i].end.term > term ? survivors->list[i].end.term : term;
    }
    return term;
}
