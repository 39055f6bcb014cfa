/* events: printing, following, proving, acknowledging. What is printed was proven before, where a proof is asked for. */
#include "cli.h"

#include "base/bytes.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { KINDS_MAX = 1024, CURSOR_MAX = 96, ACK_EVERY = 100, LIMIT_MAX = 1000 };

struct printer {
    struct cli *cli;
    const char *consumer;     /* acknowledged; NULL: none */
    struct far_client *acker; /* its own connection: the other one is busy with the stream */
    char done[CURSOR_MAX];    /* behind the last event printed that is not acknowledged yet; "" */
    unsigned printed;         /* since the last acknowledgement */
    bool failed;
    struct far_error err;
};

static int acknowledge(struct printer *printer)
{
    struct far_client_error why;
    if (printer->acker == NULL || printer->done[0] == '\0') {
        return 0;
    }
    printer->printed = 0;
    if (far_client_ack(printer->acker, printer->consumer, printer->done, &why) != 0) {
        printer->failed = true;
        return cli_failed(&why, &printer->err);
    }
    printer->done[0] = '\0';
    return 0;
}

static void print_line(struct printer *printer, const char *json, const char *cursor)
{
    FILE *out = printer->cli->out;
    json_t *event = printer->cli->json ? NULL : json_loads(json, 0, NULL);
    if (printer->cli->json) {
        fprintf(out, "%s\n", json);
    } else if (event != NULL) {
        char at[32], *data = json_dumps(json_object_get(event, "data"), JSON_COMPACT | JSON_ENCODE_ANY);
        const char *actor = json_string_value(json_object_get(event, "actor"));
        const char *kind = json_string_value(json_object_get(event, "kind"));
        int seq_and_some_head = (int)strcspn(cursor, "-") + 17;
        fprintf(out, "%.*s  %s  %-12s %s %s\n", seq_and_some_head, cursor,
                cli_time((uint64_t)json_integer_value(json_object_get(event, "time_ms")), at), actor, kind,
                json_is_true(json_object_get(event, "compacted")) ? "(compacted)" : data == NULL ? "" : data);
        free(data);
    }
    fflush(out);
    json_decref(event);
}

static int on_event(void *arg, const char *json, const char *cursor)
{
    struct printer *printer = arg;
    if (json == NULL) {
        return acknowledge(printer);
    }
    print_line(printer, json, cursor);
    snprintf(printer->done, sizeof printer->done, "%s", cursor);
    if (++printer->printed >= ACK_EVERY) {
        acknowledge(printer);
    }
    return printer->failed || ferror(printer->cli->out);
}

/* ---- the command line ---- */

static int check_place(const struct cli *cli, const char *option, struct far_error *err)
{
    const char *place = cli_value(&cli->parsed, option);
    bool good = place == NULL || strcmp(place, "start") == 0 || strcmp(place, "end") == 0 || place[0] == '@' ||
                strchr(place, 'T') != NULL || strspn(place, "0123456789abcdef-") == strlen(place);
    return good ? 0 : far_fail(err, FAR_INVALID, "option '--%s' needs the number of an event, a cursor or a time, not '%s'",
                               option, place);
}

static int read_proof(const struct cli *cli, enum far_client_proof *ret_proof, struct far_error *err)
{
    static const char *const names[] = {"none", "headers", "full"};
    const char *proof = cli_value(&cli->parsed, "proof");
    for (unsigned i = 0; i < 3; i++) {
        if (strcmp(proof == NULL ? "none" : proof, names[i]) == 0) {
            *ret_proof = (enum far_client_proof)i;
            return 0;
        }
    }
    return far_fail(err, FAR_INVALID, "option '--proof' is one of none, headers and full, not '%s'", proof);
}

/* All --kind together, separated by commas. */
static int join_kinds(const struct cli *cli, char kinds[KINDS_MAX], struct far_error *err)
{
    size_t len = 0;
    kinds[0] = '\0';
    for (size_t i = 0; i < cli->parsed.value_count; i++) {
        const struct cli_value *value = &cli->parsed.values[i];
        if (strcmp(value->option->name, "kind") != 0) {
            continue;
        }
        len += (size_t)snprintf(kinds + len, KINDS_MAX - len, "%s%s", len > 0 ? "," : "", value->text);
        if (len >= KINDS_MAX) {
            return far_fail(err, FAR_INVALID, "the kinds of events are longer than %d bytes", KINDS_MAX);
        }
    }
    return 0;
}

static int read_stream(const struct cli *cli, char kinds[KINDS_MAX], struct far_client_stream *stream, struct far_error *err)
{
    const struct cli_parsed *parsed = &cli->parsed;
    const char *limit = cli_value(parsed, "limit");
    *stream = (struct far_client_stream){
        .version = FAR_CLIENT_STREAM_VERSION,
        .from = cli_value(parsed, "from"),
        .to = cli_value(parsed, "to"),
        .consumer = cli_value(parsed, "consumer"),
        .severity = cli_value(parsed, "severity"),
        .subject = cli_value(parsed, "subject"),
        .plan = cli_value(parsed, "plan"),
        .site = cli_value(parsed, "site"),
        .follow = cli_value(parsed, "follow") != NULL,
        .limit = limit == NULL ? 0 : (uint32_t)strtoul(limit, NULL, 10),
    };
    if (stream->from == NULL && stream->follow && stream->consumer == NULL) {
        stream->from = "end";
    }
    int rc = limit != NULL && (stream->limit == 0 || strtoull(limit, NULL, 10) > LIMIT_MAX)
                 ? far_fail(err, FAR_INVALID, "option '--limit' must be 1 to %d; without it there is no limit", LIMIT_MAX)
                 : 0;
    rc = rc != 0 ? rc : check_place(cli, "from", err);
    rc = rc != 0 ? rc : check_place(cli, "to", err);
    rc = rc != 0 ? rc : read_proof(cli, &stream->proof, err);
    rc = rc != 0 ? rc : join_kinds(cli, kinds, err);
    stream->kinds = kinds[0] == '\0' ? NULL : kinds;
    return rc;
}

static void print_proven(const struct far_client *client)
{
    struct far_client_proven proven;
    char head[65];
    far_client_proven(client, &proven);
    far_hex_encode(proven.head, sizeof proven.head, head);
    fprintf(stderr, "farshore: proven %s event %" PRIu64 ": %" PRIu64 " printed, %" PRIu64 " left out, head %s\n",
            proven.from_start ? "from the first to" : "up to", proven.seq, proven.events, proven.skipped, head);
}

/* The chain that was computed has the newest head that the servers signed, one of them with this key. */
static int prove_signed(struct far_client *client, const char *key, struct far_error *err)
{
    struct far_client_error why;
    uint64_t seq = 0;
    if (far_client_prove_signed(client, key, &seq, &why) != 0) {
        return cli_failed(&why, err);
    }
    fprintf(stderr, "farshore: up to event %" PRIu64 " signed by a majority of the servers, and the key that was given leads to theirs\n",
            seq);
    return 0;
}

int cli_run_events(struct cli *cli, struct far_error *err)
{
    const char *signer = cli_value(&cli->parsed, "key");
    struct far_client *client = NULL;
    struct far_client_error why;
    struct far_client_stream stream;
    struct printer printer = {.cli = cli, .consumer = cli_value(&cli->parsed, "consumer")};
    char kinds[KINDS_MAX];
    int rc = read_stream(cli, kinds, &stream, err);
    if (rc == 0 && signer != NULL && stream.proof == FAR_CLIENT_PROOF_NONE) {
        rc = far_fail(err, FAR_INVALID, "option '--key' needs '--proof headers' or '--proof full'");
    }
    rc = rc != 0 ? rc : cli_check_key(cli, err);
    rc = rc != 0 ? rc : cli_client(cli, NULL, &client, err);
    if (rc == 0 && printer.consumer != NULL) {
        rc = cli_client(cli, cli->servers, &printer.acker, err);
    }
    if (rc != 0) {
        return rc;
    }
    int failed = far_client_stream(client, &stream, on_event, &printer, &why);
    if (failed == 0 && !printer.failed) {
        acknowledge(&printer);
    }
    if (failed != 0) {
        rc = cli_failed(&why, err);
    } else if (printer.failed) {
        *err = printer.err;
        rc = err->klass;
    }
    if (rc == 0 && stream.proof != FAR_CLIENT_PROOF_NONE) {
        print_proven(client);
        rc = signer != NULL ? prove_signed(client, signer, err) : 0;
    }
    far_client_free(printer.acker);
    return rc;
}
