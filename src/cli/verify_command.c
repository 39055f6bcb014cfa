/* log verify. Offline (--dir): farshored recomputes chain, state and digest from the events of a folder. Online: every
 * server of --server is asked for its place; at the same event all must show the same chain head, at the same index the same
 * digest of the state. A server that is not reached does not keep the others from being compared, and is named. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SERVERS_MAX = 16, ROUNDS = 20, PAUSE_MS = 200 };

struct place {
    char server[256];
    long long seq, index;
    char head[80], digest[40];
    bool failed; /* why; it is not asked again */
    struct far_error why;
};

static int ask(struct cli *cli, struct place *place, struct far_error *err)
{
    struct far_client *client = NULL;
    struct far_client_error why;
    char *answer = NULL;
    int rc = cli_client(cli, place->server, &client, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_client_request(client, "GET", "/v1/log/head", NULL, &answer, &why) != 0 ? cli_failed(&why, err) : 0;
    far_client_free(client);
    json_t *json = rc == 0 ? json_loads(answer, 0, NULL) : NULL;
    free(answer);
    const char *head = json_string_value(json_object_get(json, "head"));
    const char *digest = json_string_value(json_object_get(json, "digest"));
    if (rc == 0 && (head == NULL || digest == NULL)) {
        rc = far_fail(err, FAR_CORRUPT, "%s does not say where its log stands", place->server);
    }
    if (rc == 0) {
        place->seq = json_integer_value(json_object_get(json, "seq"));
        place->index = json_integer_value(json_object_get(json, "applied_index"));
        snprintf(place->head, sizeof place->head, "%s", head);
        snprintf(place->digest, sizeof place->digest, "%s", digest);
    }
    json_decref(json);
    return rc;
}

static size_t split(const char *servers, struct place places[SERVERS_MAX])
{
    size_t count = 0;
    for (const char *at = servers; at != NULL && count < SERVERS_MAX; count++) {
        size_t len = strcspn(at, ",");
        snprintf(places[count].server, sizeof places[count].server, "%.*s", (int)len, at);
        at = at[len] == ',' ? at + len + 1 : NULL;
    }
    return count;
}

/* Asks all that can be reached until they stand at the same index, or often enough. */
static bool ask_all(struct cli *cli, struct place *places, size_t count)
{
    bool same = false;
    for (int round = 0; round < ROUNDS && !same; round++) {
        const struct place *first = NULL;
        if (round > 0) {
            usleep(PAUSE_MS * 1000);
        }
        same = true;
        for (size_t i = 0; i < count; i++) {
            struct place *place = &places[i];
            place->failed = place->failed || ask(cli, place, &place->why) != 0;
            if (!place->failed) {
                same = same && (first == NULL || first->index == place->index);
                first = first == NULL ? place : first;
            }
        }
    }
    return same;
}

static int compare_two(const struct place *a, const struct place *b, struct far_error *err)
{
    if (a->seq != b->seq || strcmp(a->head, b->head) != 0) {
        return far_fail(err, FAR_CORRUPT, "at index %lld the histories differ: %s has event %lld with head %.16s…, %s "
                                          "event %lld with head %.16s…",
                        a->index, a->server, a->seq, a->head, b->server, b->seq, b->head);
    }
    if (strcmp(a->digest, b->digest) != 0) {
        return far_fail(err, FAR_CORRUPT, "at index %lld the states differ: %s has digest %s, %s has %s", a->index,
                        a->server, a->digest, b->server, b->digest);
    }
    return 0;
}

/* Those that were reached, with the first of them. */
static int compare(const struct place *places, size_t count, struct far_error *err)
{
    const struct place *first = NULL;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (!places[i].failed) {
            rc = first == NULL ? 0 : compare_two(first, &places[i], err);
            first = first == NULL ? &places[i] : first;
        }
    }
    return rc;
}

/* Fails with the list of those that did not answer; the class is that of the first. */
static int check_reached(const struct place *places, size_t count, struct far_error *err)
{
    char list[FAR_MESSAGE_MAX] = "";
    size_t failed = 0;
    int klass = 0;
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(list);
        if (places[i].failed) {
            klass = failed++ == 0 ? places[i].why.klass : klass;
            snprintf(list + len, sizeof list - len, "%s%.250s", len == 0 ? "" : ", ", places[i].server);
        }
    }
    return failed == 0 ? 0
                       : far_fail(err, klass, "%zu of %zu servers could not be verified: %s%s", failed, count, list,
                                  failed < count ? "; those that answered are alike" : "");
}

static void print(struct cli *cli, const struct place *places, size_t count)
{
    json_t *items = json_array();
    for (size_t i = 0; i < count; i++) {
        const struct place *p = &places[i];
        json_array_append_new(items, json_pack("{s:s, s:I, s:I, s:s, s:s, s:s}", "server", p->server, "seq",
                                               (json_int_t)p->seq, "index", (json_int_t)p->index, "head", p->head,
                                               "digest", p->digest, "error", p->failed ? p->why.message : ""));
    }
    if (cli->json) {
        cli_print_json(cli->out, items);
    } else {
        cli_print_table(cli->out, items, "server:SERVER index:INDEX seq:SEQ head:HEAD digest:DIGEST error:ERROR");
    }
    json_decref(items);
}

static int verify_online(struct cli *cli, struct far_error *err)
{
    struct place places[SERVERS_MAX] = {0};
    if (cli->servers == NULL) {
        return far_fail(err, FAR_INVALID, "no server is given: use --server URL[,URL…] or --dir DIR");
    }
    size_t count = split(cli->servers, places);
    bool same = ask_all(cli, places, count);
    print(cli, places, count);
    if (!same) {
        return far_fail(err, FAR_BUSY, "the servers did not stand at the same index long enough to be compared; try again");
    }
    int rc = compare(places, count, err);
    rc = rc == 0 ? check_reached(places, count, err) : rc;
    if (rc == 0 && !cli->json) {
        fprintf(cli->out, "all %zu alike: same index, same chain head, same digest\n", count);
    }
    return rc;
}

int cli_run_log_verify(struct cli *cli, struct far_error *err)
{
    const char *dir = cli_value(&cli->parsed, "dir");
    if (dir == NULL) {
        return verify_online(cli, err);
    }
    const char *argv[] = {"farshored", "log-verify", "--dir", dir, NULL};
    int status = 0;
    int rc = cli_spawn_farshored(argv, &status, err);
    if (rc != 0 || status == 0) {
        return rc;
    }
    int klass = status == far_class_info(FAR_CORRUPT)->exit_code ? FAR_CORRUPT : FAR_INTERNAL;
    return far_fail(err, klass, klass == FAR_CORRUPT ? "'%s' does not hold what was written; the findings stand above"
                                                     : "'%s' could not be verified; farshored says above why", dir);
}
