/* Keys of dedup domains: see domain_keys.h. */
#include "server/domain_keys.h"

#include "server/secrets.h"

#include <stdio.h>

enum { INFO_MAX = 64, BOUND_BYTES = 24 };

/* ---- the master key ---- */

int far_master_key_open(struct far_master_key *master, struct far_state *state, struct far_error *err)
{
    struct far_buf plain;
    if (master->is_open) {
        return 0;
    }
    far_buf_init(&plain, 256);
    int rc = far_secrets_open(state, FAR_SECRET_MASTER_KEY, master->server_id, master->seal_key, &plain, err);
    if (rc == 0 && plain.len != sizeof master->key) {
        rc = far_fail(err, FAR_CORRUPT, "the master key of the cluster has %zu bytes", plain.len);
    }
    if (rc == 0) {
        memcpy(master->key, plain.data, sizeof master->key);
        master->is_open = true;
    }
    if (plain.len > 0) {
        explicit_bzero(plain.data, plain.len);
    }
    far_buf_done(&plain);
    return rc;
}

void far_master_key_done(struct far_master_key *master)
{
    explicit_bzero(master, sizeof *master);
}

/* ---- drawing and sealing ---- */

/* What is made of the master key, for this salt. */
static int derive(const struct far_master_key *master, struct far_slice salt, const char *what, uint64_t generation,
                  uint8_t ret_bytes[32], struct far_error *err)
{
    char info[INFO_MAX];
    snprintf(info, sizeof info, "farshore domain %s %llu", what, (unsigned long long)generation);
    return far_hkdf(master->key, salt, info, ret_bytes, err);
}

static void bound_of(const uint8_t uuid[16], uint64_t generation, uint8_t bound[BOUND_BYTES])
{
    memcpy(bound, uuid, 16);
    far_put_le64(bound + 16, generation);
}

int far_domain_draw_uuid(const struct far_master_key *master, const uint8_t seed[16], uint8_t ret_uuid[16], struct far_error *err)
{
    uint8_t bytes[32];
    int rc = derive(master, far_slice(seed, 16), "uuid", 0, bytes, err);
    if (rc == 0) {
        bytes[6] = (bytes[6] & 0x0f) | 0x40; /* RFC 9562, version 4 */
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        memcpy(ret_uuid, bytes, 16);
    }
    return rc;
}

static void salt_of(const uint8_t seed[16], const uint8_t uuid[16], uint8_t salt[32])
{
    memcpy(salt, seed, 16);
    memcpy(salt + 16, uuid, 16);
}

/* One nonce seals one content only: `what` names what it is of. */
static int seal_bytes(const struct far_master_key *master, const uint8_t salt[32], const char *what, const uint8_t uuid[16],
                      uint64_t generation, const uint8_t bytes[32], uint8_t ret_box[FAR_DOMAIN_BOX_BYTES], struct far_error *err)
{
    uint8_t nonce[32], sealing[32], bound[BOUND_BYTES];
    bound_of(uuid, generation, bound);
    int rc = derive(master, far_slice(salt, 32), what, generation, nonce, err);
    rc = rc == 0 ? derive(master, far_slice(uuid, 16), "box", generation, sealing, err) : rc;
    rc = rc == 0 ? far_keyed_box_seal(sealing, nonce, far_slice(bound, sizeof bound), far_slice(bytes, 32), ret_box, err) : rc;
    explicit_bzero(sealing, sizeof sealing);
    return rc;
}

int far_domain_draw(const struct far_master_key *master, const uint8_t seed[16], const uint8_t uuid[16], uint64_t generation,
                    uint8_t ret_box[FAR_DOMAIN_BOX_BYTES], struct far_error *err)
{
    uint8_t salt[32], drawn[32];
    salt_of(seed, uuid, salt);
    int rc = derive(master, far_slice(salt, sizeof salt), "drawn", generation, drawn, err);
    rc = rc == 0 ? seal_bytes(master, salt, "nonce", uuid, generation, drawn, ret_box, err) : rc;
    explicit_bzero(drawn, sizeof drawn);
    return rc;
}

/* The nonce comes of the secret as well: another secret under the same request has another. */
int far_domain_seal_secret(const struct far_master_key *master, const uint8_t seed[16], const uint8_t uuid[16], const uint8_t secret[32],
                           uint8_t ret_box[FAR_DOMAIN_BOX_BYTES], struct far_error *err)
{
    uint8_t salt[32], mixed[32];
    salt_of(seed, uuid, salt);
    int rc = far_hkdf(secret, far_slice(salt, sizeof salt), "farshore domain carried", mixed, err);
    return rc == 0 ? seal_bytes(master, mixed, "carried", uuid, FAR_DOMAIN_SECRET_GENERATION, secret, ret_box, err) : rc;
}

int far_domain_unseal_box(const struct far_master_key *master, const uint8_t uuid[16], uint64_t generation, struct far_slice box,
                          uint8_t ret_bytes[32], struct far_error *err)
{
    uint8_t sealing[32], bound[BOUND_BYTES];
    bound_of(uuid, generation, bound);
    int rc = box.len == FAR_DOMAIN_BOX_BYTES ? derive(master, far_slice(uuid, 16), "box", generation, sealing, err)
                                             : far_fail(err, FAR_DENIED, "what a domain has sealed is of another length");
    rc = rc == 0 ? far_keyed_box_open(sealing, far_slice(bound, sizeof bound), box, ret_bytes, err) : rc;
    explicit_bzero(sealing, sizeof sealing);
    return rc;
}

/* ---- orders ---- */

static bool goes_to_a_vault(uint64_t kind)
{
    return kind != FAR_task_kind_freeze && kind != FAR_task_kind_send && kind != FAR_task_kind_release && kind != FAR_task_kind_compare;
}

static int unseal_into(const struct far_master_key *master, const struct far_row_domain *row, uint64_t generation, struct far_slice box,
                       struct far_arena *arena, struct far_slice *ret_bytes, struct far_error *err)
{
    uint8_t *bytes = far_arena_alloc(arena, 32);
    int rc = bytes != NULL ? far_domain_unseal_box(master, row->uuid.data, generation, box, bytes, err)
                           : far_fail(err, FAR_LIMIT, "no memory for an order");
    if (rc == 0) {
        *ret_bytes = far_slice(bytes, 32);
    }
    return rc == 0 ? 0 : far_error_context(err, "domain '%.*s'", (int)row->name.len, (const char *)row->name.data);
}

/* The key of this generation; FAR_NOT_FOUND: it is not kept any more. */
static int key_of(const struct far_master_key *master, struct far_state *state, const struct far_row_domain *row, uint64_t generation,
                  struct far_arena *arena, struct far_slice *ret_key, struct far_error *err)
{
    struct far_row_domain_key kept;
    struct far_key key = far_key(&far_schema_row_domain_key);
    far_key_u64(&key, row->id);
    far_key_u64(&key, generation);
    int rc = far_state_get(state, &far_schema_row_domain_key, &key, arena, &kept, err);
    return rc == 0 ? unseal_into(master, row, generation, kept.sealed_key, arena, ret_key, err) : rc;
}

/* With which generation is the vault of the node sealed? Where nobody knows: perhaps the one before the newest. */
static int generation_there(struct far_state *state, const struct far_row_domain *row, uint64_t node_id, struct far_arena *arena,
                            uint64_t *ret_generation, struct far_error *err)
{
    struct far_row_domain_vault vault;
    struct far_key key = far_key(&far_schema_row_domain_vault);
    far_key_u64(&key, row->id);
    far_key_u64(&key, node_id);
    int rc = far_state_get(state, &far_schema_row_domain_vault, &key, arena, &vault, err);
    *ret_generation = rc == 0 ? vault.generation : row->generation - 1;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int fill_keys(const struct far_master_key *master, struct far_state *state, const struct far_row_domain *row, uint64_t node_id,
                     struct far_arena *arena, struct far_sub_order_domain *domain, struct far_error *err)
{
    uint64_t there = 0;
    int rc = key_of(master, state, row, row->generation, arena, &domain->key, err);
    domain->generation = row->generation;
    rc = rc == 0 ? generation_there(state, row, node_id, arena, &there, err) : rc;
    if (rc == 0 && there != 0 && there != row->generation) {
        rc = key_of(master, state, row, there, arena, &domain->old_key, err);
        domain->old_generation = rc == 0 ? there : 0;
        rc = rc == FAR_NOT_FOUND ? 0 : rc;
    }
    return rc;
}

int far_domain_fill_order(const struct far_master_key *master, struct far_state *state, uint64_t node_id, struct far_arena *arena,
                          struct far_sub_order *order, struct far_error *err)
{
    struct far_sub_order_domain *domains = (struct far_sub_order_domain *)order->domains.items; /* the arena's, like the order */
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < order->domains.count; i++) {
        struct far_row_domain row;
        struct far_key key = far_key(&far_schema_row_domain);
        far_key_u64(&key, domains[i].id);
        rc = far_state_get(state, &far_schema_row_domain, &key, arena, &row, err);
        if (rc != 0 || row.state != FAR_domain_state_active || row.uuid.len != 16) {
            continue;
        }
        rc = unseal_into(master, &row, FAR_DOMAIN_SECRET_GENERATION, row.sealed_secret, arena, &domains[i].secret, err);
        if (rc == 0 && goes_to_a_vault(order->kind)) {
            rc = fill_keys(master, state, &row, node_id, arena, &domains[i], err);
        }
    }
    return rc;
}
