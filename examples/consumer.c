/* A consumer of events that proves to itself that it missed nothing.
 *
 *   consumer SERVERS CA-FILE TOKEN-FILE NAME [once]
 *
 * NAME is a consumer that exists: farshore consumer create NAME --from start. Every event of the cluster is printed as a line
 * of JSON, from behind the last one that this consumer acknowledged, wherever it ran before; "once": up to the newest of
 * now. The library computes the chain of hashes over every event from its payload and holds it against what the server
 * tells; if a server drops, changes, invents or moves one, the call ends with "corrupt" before the event gets here. When a
 * server dies, it goes on at another one, with the same chain.
 *
 * An event counts as done when it is on standard output: only then its cursor is acknowledged. A crash in between brings it
 * again, never loses it. Needs nothing but this library: cc consumer.c $(pkg-config --cflags --libs farshore) */
#include <farshore/client.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { CURSOR_MAX = 96, ACK_EVERY = 100, TOKEN_MAX = 256 };

struct consumer {
    const char *name;
    struct far_client *follower, *acker; /* within on_event the first one is busy */
    char done[CURSOR_MAX];               /* printed, not acknowledged yet; "" */
    unsigned waiting;                    /* events printed since */
};

static struct far_client *to_cancel; /* set before the handler is */

static void on_signal(int number)
{
    (void)number;
    far_client_cancel(to_cancel);
}

static int acknowledge(struct consumer *consumer)
{
    struct far_client_error error;
    if (consumer->done[0] == '\0') {
        return 0;
    }
    if (far_client_ack(consumer->acker, consumer->name, consumer->done, &error) != 0) {
        fprintf(stderr, "consumer: cannot acknowledge: %s: %s\n", error.code, error.message);
        return 1;
    }
    consumer->done[0] = '\0';
    consumer->waiting = 0;
    return 0;
}

/* Not 0 ends the stream. */
static int on_event(void *arg, const char *json, const char *cursor)
{
    struct consumer *consumer = arg;
    if (json == NULL) { /* nothing new for a while */
        return acknowledge(consumer);
    }
    if (printf("%s\n", json) < 0 || fflush(stdout) != 0) {
        return 1;
    }
    snprintf(consumer->done, sizeof consumer->done, "%s", cursor);
    return ++consumer->waiting < ACK_EVERY ? 0 : acknowledge(consumer);
}

static int read_token(const char *path, char token[TOKEN_MAX])
{
    FILE *file = fopen(path, "r");
    int good = file != NULL && fgets(token, TOKEN_MAX, file) != NULL;
    if (file != NULL) {
        fclose(file);
    }
    return good;
}

static int run(struct consumer *consumer, int follow)
{
    struct far_client_error error;
    struct far_client_proven proven;
    struct far_client_stream stream = {
        .version = FAR_CLIENT_STREAM_VERSION,
        .consumer = consumer->name,
        .proof = FAR_CLIENT_PROOF_FULL,
        .follow = follow,
    };
    int status = far_client_stream(consumer->follower, &stream, on_event, consumer, &error) == 0 ? 0 : error.exit_code;
    if (status != 0 && strcmp(error.code, "canceled") != 0) {
        fprintf(stderr, "consumer: %s: %s\n", error.code, error.message);
        return status;
    }
    acknowledge(consumer);
    far_client_proven(consumer->follower, &proven);
    fprintf(stderr, "consumer: missed nothing up to event %" PRIu64 ": %" PRIu64 " printed, %" PRIu64 " proven without, head ",
            proven.seq, proven.events, proven.skipped);
    for (unsigned i = 0; i < sizeof proven.head; i++) {
        fprintf(stderr, "%02x", proven.head[i]);
    }
    fprintf(stderr, "\n");
    return 0;
}

int main(int argc, char **argv)
{
    char token[TOKEN_MAX];
    struct far_client_error error;
    struct consumer consumer = {.name = argc > 4 ? argv[4] : ""};
    if (argc < 5 || argc > 6 || (argc == 6 && strcmp(argv[5], "once") != 0)) {
        fprintf(stderr, "usage: consumer SERVERS CA-FILE TOKEN-FILE NAME [once]\n");
        return 2;
    }
    if (!read_token(argv[3], token)) {
        fprintf(stderr, "consumer: cannot read the token in '%s'\n", argv[3]);
        return 2;
    }
    struct far_client_config config = {
        .version = FAR_CLIENT_CONFIG_VERSION, .servers = argv[1], .ca_path = argv[2], .token = token};
    if (far_client_new(&config, &consumer.follower, &error) != 0 || far_client_new(&config, &consumer.acker, &error) != 0) {
        fprintf(stderr, "consumer: %s: %s\n", error.code, error.message);
        far_client_free(consumer.follower);
        return error.exit_code;
    }
    to_cancel = consumer.follower;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    int status = run(&consumer, argc == 5);
    far_client_free(consumer.follower);
    far_client_free(consumer.acker);
    return status;
}
