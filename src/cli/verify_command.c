/* log verify. Offline (--dir): farshored recomputes chain, state, digest and signatures from the events of a folder. Online: every
 * server of the cluster is asked for its place, those of --server and those that they know; at the same event all must show the
 * same chain head, at the same index the same digest of the state, and behind the newest signed head each must have that head, whose
 * signatures are checked here. A server that is not reached does not keep the others from being compared, and is named. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SERVERS_MAX = 16, ROUNDS = 20, PAUSE_MS = 200, TIMEOUT_MS = 8000 /* of one server; others wait behind one that is away */ };

struct place {
    char server[256];
    long long id, seq, index, first_seq;
    char head[80], digest[40];
    bool failed; /* why; it is not asked again */
    struct far_error why;
    const char *is_signed; /* what it has behind the signed head's event */
};

struct places {
    struct place all[SERVERS_MAX];
    size_t count;
    json_t *heads;   /* of GET /v1/log/heads, NULL: not asked yet */
    json_t *newest;  /* the signed one in it, NULL: none */
    json_t *cluster; /* of GET /v1/cluster */
};

/* ---- asking ---- */

static int get(struct cli *cli, const char *server, const char *path, json_t **ret_json, struct far_error *err)
{
    struct far_client *client = NULL;
    struct far_client_error why;
    char *answer = NULL;
    int rc = cli_client(cli, server, &client, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_client_request(client, "GET", path, NULL, &answer, &why) != 0 ? cli_failed(&why, err) : 0;
    far_client_free(client);
    *ret_json = rc == 0 ? json_loads(answer, 0, NULL) : NULL;
    free(answer);
    return rc == 0 && *ret_json == NULL ? far_fail(err, FAR_CORRUPT, "the answer of %s is no JSON", server) : rc;
}

static int ask(struct cli *cli, struct place *place, struct far_error *err)
{
    json_t *json = NULL;
    int rc = get(cli, place->server, "/v1/log/head", &json, err);
    const char *head = json_string_value(json_object_get(json, "head"));
    const char *digest = json_string_value(json_object_get(json, "digest"));
    if (rc == 0 && (head == NULL || digest == NULL)) {
        rc = far_fail(err, FAR_CORRUPT, "%s does not say where its log stands", place->server);
    }
    if (rc == 0) {
        place->id = json_integer_value(json_object_get(json, "server_id"));
        place->seq = json_integer_value(json_object_get(json, "seq"));
        place->first_seq = json_integer_value(json_object_get(json, "first_seq"));
        place->index = json_integer_value(json_object_get(json, "applied_index"));
        snprintf(place->head, sizeof place->head, "%s", head);
        snprintf(place->digest, sizeof place->digest, "%s", digest);
    }
    json_decref(json);
    return rc;
}

static void split(const char *servers, struct places *places)
{
    for (const char *at = servers; at != NULL && places->count < SERVERS_MAX; places->count++) {
        size_t len = strcspn(at, ",");
        struct place *place = &places->all[places->count];
        snprintf(place->server, sizeof place->server, "%.*s", (int)len, at);
        at = at[len] == ',' ? at + len + 1 : NULL;
    }
}

static const struct place *first_reached(const struct places *places)
{
    for (size_t i = 0; i < places->count; i++) {
        if (!places->all[i].failed) {
            return &places->all[i];
        }
    }
    return NULL;
}

static bool is_asked(const struct places *places, long long id, const char *server)
{
    for (size_t i = 0; i < places->count; i++) {
        if ((!places->all[i].failed && places->all[i].id == id) || strcmp(places->all[i].server, server) == 0) {
            return true;
        }
    }
    return false;
}

/* Adds the servers of the cluster that nobody named. Each is asked once here, so that those under two names are known. */
static int discover(struct cli *cli, struct places *places, struct far_error *err)
{
    json_t *json = NULL;
    const struct place *knower = NULL;
    for (size_t i = 0; i < places->count; i++) {
        places->all[i].failed = ask(cli, &places->all[i], &places->all[i].why) != 0;
    }
    knower = first_reached(places);
    int rc = knower == NULL ? 0 : get(cli, knower->server, "/v1/servers?limit=1000", &json, err);
    const json_t *items = json_object_get(json, "items");
    for (size_t i = 0; rc == 0 && i < json_array_size(items) && places->count < SERVERS_MAX; i++) {
        const json_t *row = json_array_get(items, i);
        const char *role = json_string_value(json_object_get(row, "role"));
        const char *address = json_string_value(json_object_get(row, "api_address"));
        struct place place = {.id = json_integer_value(json_object_get(row, "id"))};
        snprintf(place.server, sizeof place.server, "https://%.240s", address == NULL ? "" : address);
        if (role != NULL && strcmp(role, "removed") != 0 && address != NULL && !is_asked(places, place.id, place.server)) {
            places->all[places->count++] = place;
        }
    }
    json_decref(json);
    return rc;
}

/* Asks all that can be reached until they stand at the same index, or often enough. */
static bool ask_all(struct cli *cli, struct places *places)
{
    bool same = false;
    for (int round = 0; round < ROUNDS && !same; round++) {
        const struct place *first = NULL;
        if (round > 0) {
            usleep(PAUSE_MS * 1000);
        }
        same = true;
        for (size_t i = 0; i < places->count; i++) {
            struct place *place = &places->all[i];
            place->failed = place->failed || ask(cli, place, &place->why) != 0;
            if (!place->failed) {
                same = same && (first == NULL || first->index == place->index);
                first = first == NULL ? place : first;
            }
        }
    }
    return same;
}

/* ---- comparing ---- */

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
static int compare(const struct places *places, struct far_error *err)
{
    const struct place *first = first_reached(places);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < places->count; i++) {
        rc = places->all[i].failed ? 0 : compare_two(first, &places->all[i], err);
    }
    return rc;
}

/* Fails with the list of those that did not answer; the class is that of the first. */
static int check_reached(const struct places *places, struct far_error *err)
{
    char list[FAR_MESSAGE_MAX] = "";
    size_t failed = 0;
    int klass = 0;
    for (size_t i = 0; i < places->count; i++) {
        size_t len = strlen(list);
        if (places->all[i].failed) {
            klass = failed++ == 0 ? places->all[i].why.klass : klass;
            snprintf(list + len, sizeof list - len, "%s%.250s", len == 0 ? "" : ", ", places->all[i].server);
        }
    }
    return failed == 0 ? 0
                       : far_fail(err, klass, "%zu of %zu servers could not be verified: %s%s", failed, places->count, list,
                                  failed < places->count ? "; those that answered are alike" : "");
}

/* ---- the signed head ---- */

/* The newest signed head, from the first server that can tell it. */
static void find_signed(struct cli *cli, struct places *places)
{
    struct far_error unused;
    for (size_t i = 0; i < places->count && places->newest == NULL; i++) {
        if (places->all[i].failed || get(cli, places->all[i].server, "/v1/log/heads", &places->heads, &unused) != 0) {
            continue;
        }
        json_t *items = json_object_get(places->heads, "items");
        long long seq = json_integer_value(json_object_get(places->heads, "signed_seq"));
        for (size_t j = 0; seq != 0 && j < json_array_size(items); j++) {
            json_t *head = json_array_get(items, j);
            places->newest = json_integer_value(json_object_get(head, "seq")) == seq ? head : places->newest;
        }
        if (places->newest != NULL && get(cli, places->all[i].server, "/v1/cluster", &places->cluster, &unused) == 0) {
            return;
        }
        places->newest = NULL;
        json_decref(places->heads);
        places->heads = NULL;
    }
}

/* Any server may show the history of keys: what leads from the one that was given is signed. */
static int check_signatures(struct cli *cli, const struct places *places, struct far_error *err)
{
    struct far_client_error why;
    struct far_client *client = NULL;
    const json_t *cluster = json_object_get(places->cluster, "cluster");
    const char *uuid = json_string_value(json_object_get(cluster, "uuid"));
    char *text = json_dumps(places->newest, JSON_COMPACT);
    int rc = text == NULL ? far_fail(err, FAR_LIMIT, "no memory for a head") : cli_client(cli, first_reached(places)->server, &client, err);
    if (rc == 0 && far_client_trust_head(client, text, uuid == NULL ? "" : uuid, cli_value(&cli->parsed, "key"), &why) != 0) {
        rc = cli_failed(&why, err);
    }
    far_client_free(client);
    free(text);
    return rc;
}

/* What each one has behind that event. */
static int compare_signed(struct cli *cli, struct places *places, struct far_error *err)
{
    char path[64];
    const char *head = json_string_value(json_object_get(places->newest, "head"));
    long long seq = json_integer_value(json_object_get(places->newest, "seq"));
    int rc = 0;
    snprintf(path, sizeof path, "/v1/log/head?at=%lld", seq);
    for (size_t i = 0; i < places->count; i++) {
        struct place *place = &places->all[i];
        struct far_error why;
        json_t *json = NULL;
        if (place->failed) {
            continue;
        }
        int asked = get(cli, place->server, path, &json, &why);
        const char *own = json_string_value(json_object_get(json, "head"));
        bool same = asked == 0 && own != NULL && head != NULL && strcmp(own, head) == 0;
        place->is_signed = asked != 0 ? "unknown" : same ? "same" : "another";
        if (asked == 0 && !same && rc == 0) {
            rc = far_fail(err, FAR_CORRUPT, "%s has another head behind event %lld than the one that a majority signed", place->server,
                          seq);
        }
        json_decref(json);
    }
    return rc;
}

static int verify_signed(struct cli *cli, struct places *places, struct far_error *err)
{
    find_signed(cli, places);
    if (places->newest == NULL) {
        return cli_value(&cli->parsed, "key") == NULL || first_reached(places) == NULL
                   ? 0
                   : far_fail(err, FAR_NOT_FOUND, "no head of the log is signed yet");
    }
    int rc = check_signatures(cli, places, err);
    return rc != 0 ? rc : compare_signed(cli, places, err);
}

/* ---- the answer ---- */

static void print(struct cli *cli, const struct places *places)
{
    json_t *items = json_array();
    for (size_t i = 0; i < places->count; i++) {
        const struct place *p = &places->all[i];
        json_array_append_new(items, json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:s}", "server", p->server, "seq",
                                               (json_int_t)p->seq, "index", (json_int_t)p->index, "head", p->head,
                                               "digest", p->digest, "signed_head", p->is_signed == NULL ? "" : p->is_signed,
                                               "error", p->failed ? p->why.message : ""));
    }
    if (cli->json) {
        cli_print_json(cli->out, items);
    } else {
        cli_print_table(cli->out, items,
                        "server:SERVER index:INDEX seq:SEQ head:HEAD digest:DIGEST signed_head:SIGNED error:ERROR");
    }
    json_decref(items);
}

/* What was proven, and of whom it could not be asked. */
static void print_proven(struct cli *cli, const struct places *places)
{
    if (cli->json) {
        return;
    }
    if (places->newest == NULL) {
        fprintf(cli->out, "no head of the log is signed yet\n");
    } else {
        fprintf(cli->out, "everything up to event %lld is signed by a majority of the voters%s\n",
                json_integer_value(json_object_get(places->newest, "seq")),
                cli_value(&cli->parsed, "key") != NULL ? ", and the key that was given leads to theirs" : "");
    }
    for (size_t i = 0; i < places->count; i++) {
        const struct place *p = &places->all[i];
        if (p->is_signed != NULL && strcmp(p->is_signed, "unknown") == 0) {
            fprintf(cli->out, "%s could not say what it has there: its history begins with event %lld\n", p->server, p->first_seq);
        }
    }
}

static int verify_online(struct cli *cli, struct far_error *err)
{
    struct places places = {.count = 0};
    int fit = cli_check_key(cli, err); /* before anybody is asked */
    fit = fit != 0 ? fit : cli_settings(cli, err);
    if (fit != 0) {
        return fit;
    }
    if (cli->servers == NULL) {
        return far_fail(err, FAR_INVALID, "no server is given: use --server URL[,URL…] or --dir DIR");
    }
    cli->timeout_ms = cli->timeout_ms != 0 ? cli->timeout_ms : TIMEOUT_MS;
    split(cli->servers, &places);
    int rc = discover(cli, &places, err);
    bool same = rc == 0 && ask_all(cli, &places);
    int is_signed = rc == 0 ? verify_signed(cli, &places, err) : 0;
    print(cli, &places);
    if (rc == 0 && is_signed == 0 && first_reached(&places) != NULL) {
        print_proven(cli, &places);
    }
    rc = rc != 0 ? rc : is_signed;
    if (rc == 0 && !same) {
        rc = far_fail(err, FAR_BUSY, "the servers did not stand at the same index long enough to be compared; try again");
    }
    rc = rc != 0 ? rc : compare(&places, err);
    rc = rc != 0 ? rc : check_reached(&places, err);
    if (rc == 0 && !cli->json) {
        fprintf(cli->out, "all %zu alike: same index, same chain head, same digest\n", places.count);
    }
    json_decref(places.heads);
    json_decref(places.cluster);
    return rc;
}

int cli_run_log_verify(struct cli *cli, struct far_error *err)
{
    const char *dir = cli_value(&cli->parsed, "dir");
    if (dir == NULL) {
        return verify_online(cli, err);
    }
    if (cli_value(&cli->parsed, "key") != NULL) {
        return far_fail(err, FAR_INVALID, "option '--key' is for servers that run; for files there is farshore-verify --key");
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
