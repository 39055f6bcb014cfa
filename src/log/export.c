/* Exports: see export.h. */
#include "log/export.h"

#include "base/arena.h"
#include "log/compact.h"

#include <openssl/evp.h>

enum { VERSION = 0, SUM_AT = 96, ARENA_MAX = 1024 * 1024 };

static int sha256(const void *data, size_t len, uint8_t ret_hash[32], struct far_error *err)
{
    return EVP_Digest(data, len, ret_hash, NULL, EVP_sha256(), NULL) == 1 ? 0
                                                                          : far_fail(err, FAR_INTERNAL, "SHA-256 failed");
}

static int full(struct far_error *err)
{
    return far_fail(err, FAR_LIMIT, "no room for a piece of an export");
}

static int add_record(struct far_buf *out, enum far_export_type type, size_t len, uint8_t **ret_body, struct far_error *err)
{
    uint8_t *p = far_buf_reserve(out, FAR_EXPORT_RECORD + len);
    if (p == NULL) {
        return full(err);
    }
    far_put_le16(p, (uint16_t)type);
    far_put_le16(p + 2, 0);
    far_put_le32(p + 4, (uint32_t)len);
    out->len += FAR_EXPORT_RECORD + len;
    *ret_body = p + FAR_EXPORT_RECORD;
    return 0;
}

static int add_header(struct far_store_txn *txn, uint64_t until, struct far_buf *out, struct far_error *err)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_state state = {.kv = far_store_kv(txn)};
    struct far_key key = far_key(&far_schema_row_cluster);
    struct far_row_cluster cluster;
    struct far_arena arena;
    uint8_t *p = far_buf_reserve(out, FAR_EXPORT_HEADER);
    if (p == NULL) {
        return full(err);
    }
    far_arena_init(&arena, ARENA_MAX);
    int rc = far_state_get(&state, &far_schema_row_cluster, &key, &arena, &cluster, err);
    if (rc == FAR_NOT_FOUND) {
        far_fail(err, rc, "there is no cluster yet");
    }
    if (rc == 0) {
        memset(p, 0, FAR_EXPORT_HEADER);
        memcpy(p, "FAREXPT0", 8);
        far_put_le32(p + 8, VERSION);
        far_put_le32(p + 12, FAR_EXPORT_HEADER);
        memcpy(p + 16, cluster.uuid.data, cluster.uuid.len > 16 ? 16 : cluster.uuid.len);
        far_put_le64(p + 32, cluster.incarnation_epoch);
        far_put_le64(p + 40, meta->first_seq);
        far_put_le64(p + 48, until);
        memcpy(p + 56, meta->base_head, FAR_HEAD_SIZE);
        rc = sha256(p, SUM_AT, p + SUM_AT, err);
        out->len += FAR_EXPORT_HEADER;
    }
    far_arena_done(&arena);
    return rc;
}

/* Does it hold a secret, or is it of a kind that we do not know? */
static bool is_secret(const struct far_event *event)
{
    const struct far_schema *schema = far_schema_find(FAR_CLASS_ev, event->kind, event->version);
    struct far_arena arena;
    far_arena_init(&arena, ARENA_MAX);
    void *object = schema == NULL ? NULL : far_arena_alloc(&arena, schema->size);
    bool secret = object == NULL || far_schema_decode(schema, event->payload, &arena, object, NULL) != 0;
    for (const struct far_field *field = secret ? NULL : schema->fields(); field != NULL && field->type != FAR_TYPE_END; field++) {
        const struct far_slice *bytes = (const void *)((const uint8_t *)object + field->offset);
        secret = secret || (field->type == FAR_TYPE_SECRET && bytes->len > 0);
    }
    far_arena_done(&arena);
    return secret;
}

/* What a verifier needs of the events behind those that were asked for. */
static bool is_proof(const struct far_event *event)
{
    return event->kind == FAR_KIND_ev_head_proposed || event->kind == FAR_KIND_ev_head_signed ||
           event->kind == FAR_KIND_ev_head_refused || event->kind == FAR_KIND_ev_progress_compacted;
}

static int add_event(const struct far_event *event, bool is_asked_for, const uint8_t head[FAR_HEAD_SIZE], struct far_buf *out,
                     struct far_error *err)
{
    bool compacted = event->compacted_len != 0;
    bool secret = !compacted && (is_secret(event) || !(is_asked_for || is_proof(event)));
    size_t len = secret ? 32 : event->payload.len; /* of a compacted one that is the hash */
    uint8_t *p = NULL;
    enum far_export_type type = (compacted && !is_asked_for) || secret ? FAR_EXPORT_WITHHELD
                                : compacted                            ? FAR_EXPORT_COMPACTED
                                                                       : FAR_EXPORT_EVENT;
    int rc = add_record(out, type, FAR_EVENT_HEADER + len + FAR_HEAD_SIZE, &p, err);
    if (rc != 0) {
        return rc;
    }
    far_event_header(event, p);
    if (secret) {
        rc = sha256(event->payload.data, event->payload.len, p + FAR_EVENT_HEADER, err);
    } else if (len > 0) {
        memcpy(p + FAR_EVENT_HEADER, event->payload.data, len);
    }
    memcpy(p + FAR_EVENT_HEADER + len, head, FAR_HEAD_SIZE);
    return rc;
}

/* ---- the signed head ---- */

enum { SIGNED_FIXED = 56, SIGNED_VOTER = 40, SIGNED_ANSWER = 72, SIGNERS_MAX = 16 };

/* The newest that a majority signed, not behind event `until`; seq 0: none is in the state. */
static int find_signed(struct far_state *state, uint64_t until, struct far_arena *arena, struct far_row_head *ret_head,
                       struct far_error *err)
{
    struct far_row_head row;
    struct far_key key = far_key(&far_schema_row_head);
    int rc = 0;
    *ret_head = (struct far_row_head){.seq = 0};
    while ((rc = far_state_next(state, &far_schema_row_head, &key, arena, NULL, &row, err)) == 0 && row.seq <= until) {
        *ret_head = row.state == FAR_head_state_signed ? row : *ret_head;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int find_signatures(struct far_state *state, uint64_t seq, struct far_arena *arena,
                           struct far_row_head_signature *ret_rows, size_t *ret_count, struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_head_signature);
    struct far_row_head_signature row;
    size_t count = 0;
    int rc = 0;
    far_key_u64(&key, seq);
    while ((rc = far_state_next(state, &far_schema_row_head_signature, &key, arena, NULL, &row, err)) == 0 && row.seq == seq) {
        if (row.signature.len == 64 && count < SIGNERS_MAX) {
            ret_rows[count++] = row;
        }
    }
    *ret_count = count;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int put_signed(const struct far_row_head *head, const struct far_row_head_signature *signatures, size_t count,
                      struct far_buf *out, struct far_error *err)
{
    const struct far_sub_head_voter *voters = head->voters.items;
    uint8_t *p = NULL;
    size_t len = SIGNED_FIXED + head->voters.count * SIGNED_VOTER + count * SIGNED_ANSWER;
    int rc = add_record(out, FAR_EXPORT_SIGNED, len, &p, err);
    if (rc != 0) {
        return rc;
    }
    memset(p, 0, len);
    far_put_le64(p, head->seq);
    far_put_le64(p + 8, head->incarnation_epoch);
    memcpy(p + 16, head->head.data, FAR_HEAD_SIZE);
    far_put_le32(p + 48, (uint32_t)head->voters.count);
    far_put_le32(p + 52, (uint32_t)count);
    p += SIGNED_FIXED;
    for (size_t i = 0; i < head->voters.count; i++, p += SIGNED_VOTER) {
        far_put_le64(p, voters[i].server_id);
        if (voters[i].public_key.len == 32) {
            memcpy(p + 8, voters[i].public_key.data, 32);
        }
    }
    for (size_t i = 0; i < count; i++, p += SIGNED_ANSWER) {
        far_put_le64(p, signatures[i].server_id);
        memcpy(p + 8, signatures[i].signature.data, 64);
    }
    return 0;
}

static int add_signed(struct far_store_txn *txn, uint64_t until, struct far_buf *out, struct far_error *err)
{
    struct far_state state = {.kv = far_store_kv(txn)};
    struct far_row_head_signature signatures[SIGNERS_MAX];
    struct far_row_head head;
    struct far_arena arena;
    size_t count = 0;
    far_arena_init(&arena, ARENA_MAX);
    int rc = find_signed(&state, until, &arena, &head, err);
    if (rc == 0 && head.seq >= far_store_meta(txn)->first_seq && head.head.len == FAR_HEAD_SIZE) {
        rc = find_signatures(&state, head.seq, &arena, signatures, &count, err);
        rc = rc != 0 ? rc : put_signed(&head, signatures, count, out, err);
    }
    far_arena_done(&arena);
    return rc;
}

/* ---- pieces ---- */

/* The last event of a file: `until`, or the one that decided that some before are compacted. */
static int find_end(struct far_store_txn *txn, uint64_t until, uint64_t *ret_end, struct far_error *err)
{
    uint64_t decided = 0, decider = 0;
    int rc = far_compact_decided(txn, &decided, err);
    decided = decided < until ? decided : until;
    *ret_end = until;
    if (rc != 0 || until == far_store_meta(txn)->last_seq || decided < far_store_meta(txn)->first_seq) {
        return rc;
    }
    rc = far_compact_decider(txn, decided, &decider, err);
    *ret_end = rc == 0 && decider > until ? decider : until;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int add_end(struct far_store_txn *txn, uint64_t end, struct far_buf *out, struct far_error *err)
{
    uint8_t *p = NULL;
    uint8_t head[FAR_HEAD_SIZE];
    struct far_event event;
    int rc = far_store_event_get(txn, end, &event, head, err);
    rc = rc != 0 ? rc : add_signed(txn, end, out, err);
    rc = rc != 0 ? rc : add_record(out, FAR_EXPORT_END, 8 + FAR_HEAD_SIZE, &p, err);
    if (rc == 0) {
        far_put_le64(p, end);
        memcpy(p + 8, head, FAR_HEAD_SIZE);
    }
    return rc;
}

int far_export_piece(struct far_store_txn *txn, uint64_t from, uint64_t until, size_t bytes_max, struct far_buf *out,
                     uint64_t *ret_next, struct far_error *err)
{
    uint64_t seq = from == 0 ? far_store_meta(txn)->first_seq : from, end = until;
    size_t start = out->len;
    int rc = 0;
    if (until <= far_store_meta(txn)->last_seq) {
        rc = find_end(txn, until, &end, err);
    }
    if (rc == 0 && until == 0) {
        rc = far_fail(err, FAR_NOT_FOUND, "there was no event yet, so there is none to export: the first one is event 1");
    }
    if (rc == 0 && (until > far_store_meta(txn)->last_seq || seq > end)) {
        rc = far_fail(err, FAR_NOT_FOUND, "there are no events from %llu to %llu here", (unsigned long long)seq,
                      (unsigned long long)until);
    }
    rc = rc == 0 && from == 0 ? add_header(txn, end, out, err) : rc;
    for (; rc == 0 && seq <= end && out->len - start <= bytes_max; seq++) {
        uint8_t head[FAR_HEAD_SIZE];
        struct far_event event;
        rc = far_store_event_get(txn, seq, &event, head, err);
        rc = rc != 0 ? rc : add_event(&event, seq <= until, head, out, err);
    }
    if (rc == 0) {
        *ret_next = seq <= end ? seq : 0;
        rc = seq <= end ? 0 : add_end(txn, end, out, err);
    }
    return rc;
}
