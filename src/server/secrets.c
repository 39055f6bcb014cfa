/* Secrets of the cluster: see secrets.h. */
#include "server/secrets.h"

#include "net/seal.h"

#include <stdio.h>

enum { CONTEXT_MAX = 128, ARENA_MAX = 16 * 1024 };

static void context_of(const char *name, uint64_t recipient_id, char context[CONTEXT_MAX])
{
    snprintf(context, CONTEXT_MAX, "farshore secret %s for %llu", name, (unsigned long long)recipient_id);
}

int far_secrets_seal(const char *name, uint64_t recipient_id, const uint8_t public_key[32], struct far_slice plain,
                     struct far_buf *out, struct far_error *err)
{
    char context[CONTEXT_MAX];
    context_of(name, recipient_id, context);
    return far_seal(public_key, context, plain, out, err);
}

int far_secrets_open(struct far_state *state, const char *name, uint64_t recipient_id, const uint8_t private_key[32],
                     struct far_buf *out, struct far_error *err)
{
    char context[CONTEXT_MAX];
    struct far_arena arena;
    struct far_row_secret row;
    struct far_key key = far_key(&far_schema_row_secret);
    far_key_u64(&key, recipient_id);
    far_key_bytes(&key, far_slice_str(name));
    far_arena_init(&arena, ARENA_MAX);
    int rc = far_state_get(state, &far_schema_row_secret, &key, &arena, &row, err);
    if (rc == FAR_NOT_FOUND) {
        far_fail(err, rc, "secret '%s' is not sealed to recipient %llu", name, (unsigned long long)recipient_id);
    }
    if (rc == 0) {
        context_of(name, recipient_id, context);
        rc = far_seal_open(private_key, context, row.sealed, out, err);
    }
    far_arena_done(&arena);
    return rc;
}
