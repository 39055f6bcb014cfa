/* What a server tells a client that proves: lines of "start|skipped|event <JSON>" or "cursor <text>". A chain that stands at
 * event n was given n - 1 before it, never fewer. */
#include "client/proof.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take(struct proof *proof, char *line)
{
    struct far_error err;
    char *text = strchr(line, ' ');
    if (text == NULL) {
        return 0;
    }
    *text++ = '\0';
    if (strcmp(line, "cursor") == 0) {
        return proof_cursor(proof, text, &err);
    }
    json_t *frame = json_loads(text, 0, NULL);
    int rc = strcmp(line, "start") == 0     ? proof_start(proof, frame, &err)
             : strcmp(line, "skipped") == 0 ? proof_skipped(proof, frame, &err)
                                            : proof_event(proof, frame, &err);
    json_decref(frame);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct far_client_stream stream = {.version = FAR_CLIENT_STREAM_VERSION, .proof = FAR_CLIENT_PROOF_FULL,
                                       .kinds = "site_created,node_lost", .severity = "notice"};
    struct proof proof = {.heads = NULL};
    struct far_error err;
    char *copy = malloc(size + 1);
    if (copy == NULL || proof_init(&proof, &stream, &err) != 0) {
        abort();
    }
    memcpy(copy, size == 0 ? (const uint8_t *)"" : data, size);
    copy[size] = '\0';
    char *rest = copy, *line;
    while ((line = strsep(&rest, "\n")) != NULL && take(&proof, line) == 0) {
        if (proof.proven.from_start && proof.proven.seq != proof.proven.events + proof.proven.skipped) {
            abort();
        }
    }
    free(copy);
    return 0;
}
