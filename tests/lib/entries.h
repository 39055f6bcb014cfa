/* Test helper: commands and raft entries to feed a log or a store with. */
#ifndef FAR_TESTS_LIB_ENTRIES_H
#define FAR_TESTS_LIB_ENTRIES_H

#include "log/envelope.h"

#include <stdio.h>
#include <stdlib.h>

/* A command whose payload lies in *payload, which the caller inits with at least 4 KiB and frees. number makes its id. */
static inline struct far_command far_test_command(const struct far_schema *schema, const void *object, uint64_t number,
                                                  struct far_buf *payload)
{
    far_buf_reset(payload);
    if (far_schema_encode(schema, object, payload, NULL) != 0) {
        abort();
    }
    struct far_command command = {.kind = schema->kind, .version = schema->version, .actor = far_actor(FAR_ACTOR_TOKEN, 2),
                                  .proposed_at_ms = 1700000000000u + number, .payload = far_buf_slice(payload)};
    far_put_le64(command.id, number);
    return command;
}

static inline struct far_command far_test_cluster_init(struct far_buf *payload)
{
    static const uint8_t key[32] = {1, 2, 3};
    struct far_cmd_cluster_init init = {
        .name = far_slice_str("lab"),
        .uuid = far_slice(key, 16),
        .server_name = far_slice_str("one"),
        .api_address = far_slice_str("127.0.0.1:5000"),
        .peer_address = far_slice_str("127.0.0.1:5001"),
        .seal_key = far_slice(key, 32),
        .fingerprint = far_slice(key, 32),
        .ca_certificate = far_slice(key, 32),
        .admin_token_hash = far_slice(key, 32),
        .recovery_public_key = far_slice(key, 32),
    };
    struct far_command command = far_test_command(&far_schema_cmd_cluster_init, &init, 1, payload);
    command.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    return command;
}

/* A site named "site-<number>". */
static inline struct far_command far_test_site_create(uint64_t number, struct far_buf *payload)
{
    char name[32];
    snprintf(name, sizeof name, "site-%llu", (unsigned long long)number);
    struct far_cmd_site_create create = {.name = far_slice_str(name), .role = FAR_site_role_protected};
    return far_test_command(&far_schema_cmd_site_create, &create, 1000 + number, payload);
}

/* An entry of one command at its place; out is inited with FAR_ENVELOPE_MAX. */
static inline struct far_slice far_test_entry(const struct far_command *command, uint64_t index, uint64_t term,
                                              struct far_buf *out)
{
    far_buf_reset(out);
    if (far_envelope_begin(out, NULL) != 0 || far_envelope_add(out, command, NULL) != 0) {
        abort();
    }
    far_envelope_finish(out, index, term);
    return far_buf_slice(out);
}

#endif
