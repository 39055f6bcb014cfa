/* Raft's messages as bytes: see raft_codec.h and docs/FORMATS.md. Every number has a fixed width, little endian; reading
 * goes through a cursor that cannot leave the message. */
#include "log/raft_codec.h"

struct reader {
    struct far_slice rest;
    bool bad;
};

static struct far_slice take(struct reader *r, size_t len)
{
    if (r->bad || r->rest.len < len) {
        r->bad = true;
        return far_slice(NULL, 0);
    }
    struct far_slice bytes = far_slice(r->rest.data, len);
    r->rest = far_slice(r->rest.data + len, r->rest.len - len);
    return bytes;
}

static uint64_t take_u64(struct reader *r)
{
    struct far_slice bytes = take(r, 8);
    return r->bad ? 0 : far_get_le64(bytes.data);
}

static uint32_t take_u32(struct reader *r)
{
    struct far_slice bytes = take(r, 4);
    return r->bad ? 0 : far_get_le32(bytes.data);
}

static uint8_t take_u8(struct reader *r)
{
    struct far_slice bytes = take(r, 1);
    return r->bad ? 0 : bytes.data[0];
}

static bool take_bool(struct reader *r)
{
    uint8_t v = take_u8(r);
    r->bad = r->bad || v > 1;
    return v == 1;
}

static int put_u64(struct far_buf *out, uint64_t v)
{
    uint8_t bytes[8];
    far_put_le64(bytes, v);
    return far_buf_append(out, bytes, sizeof bytes);
}

static int put_u32(struct far_buf *out, uint32_t v)
{
    uint8_t bytes[4];
    far_put_le32(bytes, v);
    return far_buf_append(out, bytes, sizeof bytes);
}

static int put_u8(struct far_buf *out, uint8_t v)
{
    return far_buf_append(out, &v, 1);
}

static int put_bytes(struct far_buf *out, const void *data, size_t len)
{
    int rc = put_u32(out, (uint32_t)len);
    return rc == 0 ? far_buf_append(out, data, len) : rc;
}

/* ---- writing ---- */

static int encode_append(const struct raft_append_entries *m, const struct far_raft_codec_entry *entries,
                         struct far_buf *out)
{
    int rc = put_u64(out, m->term) | put_u64(out, m->prev_log_index) | put_u64(out, m->prev_log_term) |
             put_u64(out, m->leader_commit) | put_u32(out, m->n_entries);
    for (unsigned i = 0; i < m->n_entries && rc == 0; i++) {
        rc = put_u64(out, entries[i].term) | put_u8(out, entries[i].type);
        if (rc == 0) {
            rc = put_bytes(out, entries[i].data.data, entries[i].data.len);
        }
    }
    return rc;
}

static int encode_install(const struct raft_install_snapshot *m, struct far_buf *out)
{
    struct raft_buffer conf;
    if (raft_configuration_encode(&m->conf, &conf) != 0) {
        return FAR_LIMIT;
    }
    int rc = put_u64(out, m->term) | put_u64(out, m->last_index) | put_u64(out, m->last_term) |
             put_u64(out, m->conf_index);
    rc = rc == 0 ? put_bytes(out, conf.base, conf.len) : rc;
    rc = rc == 0 ? put_bytes(out, m->data.base, m->data.len) : rc;
    raft_free(conf.base);
    return rc;
}

int far_raft_message_encode(const struct raft_message *message, const struct far_raft_codec_entry *entries,
                            struct far_buf *out, struct far_error *err)
{
    int rc = put_u8(out, (uint8_t)message->type);
    switch (message->type) {
    case RAFT_APPEND_ENTRIES:
        rc |= rc == 0 ? encode_append(&message->append_entries, entries, out) : 0;
        break;
    case RAFT_APPEND_ENTRIES_RESULT: {
        const struct raft_append_entries_result *m = &message->append_entries_result;
        rc |= put_u64(out, m->term) | put_u64(out, m->rejected) | put_u64(out, m->last_log_index) |
              put_u32(out, m->features) | put_u32(out, m->capacity);
        break;
    }
    case RAFT_REQUEST_VOTE: {
        const struct raft_request_vote *m = &message->request_vote;
        rc |= put_u64(out, m->term) | put_u64(out, m->candidate_id) | put_u64(out, m->last_log_index) |
              put_u64(out, m->last_log_term) | put_u8(out, m->disrupt_leader) | put_u8(out, m->pre_vote);
        break;
    }
    case RAFT_REQUEST_VOTE_RESULT: {
        const struct raft_request_vote_result *m = &message->request_vote_result;
        rc |= put_u64(out, m->term) | put_u8(out, m->vote_granted) | put_u8(out, m->pre_vote) |
              put_u32(out, m->features) | put_u32(out, m->capacity);
        break;
    }
    case RAFT_INSTALL_SNAPSHOT:
        rc |= rc == 0 ? encode_install(&message->install_snapshot, out) : 0;
        break;
    case RAFT_TIMEOUT_NOW: {
        const struct raft_timeout_now *m = &message->timeout_now;
        rc |= put_u64(out, m->term) | put_u64(out, m->last_log_index) | put_u64(out, m->last_log_term);
        break;
    }
    default:
        return far_fail(err, FAR_INTERNAL, "raft message %d has no encoding", (int)message->type);
    }
    return rc == 0 ? 0 : far_fail(err, FAR_LIMIT, "a raft message is longer than %zu bytes", out->max);
}

/* ---- reading ---- */

enum { CONFIGURATION_FORMAT = 1, CONFIGURATION_SERVERS_MAX = 64, ADDRESS_MAX = 255 };

/* Is the last of n servers another one than those before it? libraft takes a repeated id or address for its own mistake. */
static bool is_new_server(const uint64_t *ids, const struct far_slice *addresses, uint64_t n)
{
    for (uint64_t i = 0; i + 1 < n; i++) {
        if (ids[i] == ids[n - 1] || far_slice_equal(addresses[i], addresses[n - 1])) {
            return false;
        }
    }
    return true;
}

bool far_raft_configuration_good(struct far_slice bytes)
{
    uint64_t ids[CONFIGURATION_SERVERS_MAX];
    struct far_slice addresses[CONFIGURATION_SERVERS_MAX];
    struct reader r = {.rest = bytes};
    uint8_t format = take_u8(&r);
    uint64_t count = take_u64(&r);
    if (r.bad || format != CONFIGURATION_FORMAT || count == 0 || count > CONFIGURATION_SERVERS_MAX) {
        return false;
    }
    for (uint64_t i = 0; i < count; i++) {
        uint64_t id = take_u64(&r);
        const uint8_t *end = r.rest.len == 0 ? NULL : memchr(r.rest.data, 0, r.rest.len);
        size_t len = end == NULL ? 0 : (size_t)(end - r.rest.data);
        if (r.bad || id == 0 || len == 0 || len > ADDRESS_MAX) {
            return false;
        }
        ids[i] = id;
        addresses[i] = far_slice(r.rest.data, len);
        if (!is_new_server(ids, addresses, i + 1)) {
            return false;
        }
        take(&r, len + 1);
        if (take_u8(&r) > RAFT_SPARE || r.bad) {
            return false;
        }
    }
    return r.rest.len < 8;
}

/* All entries' data in one allocation, as libraft wants it; it must not be empty, or there would be no batch. */
static bool decode_entries(struct reader *r, struct raft_append_entries *m)
{
    struct reader measure = *r;
    size_t total = 0;
    for (unsigned i = 0; i < m->n_entries; i++) {
        take(&measure, 9);
        uint32_t len = take_u32(&measure);
        take(&measure, len);
        total += (len + 7) / 8 * 8;
    }
    if (measure.bad) {
        return false;
    }
    m->entries = raft_calloc(m->n_entries, sizeof *m->entries);
    uint8_t *batch = raft_malloc(total + 8);
    if (m->entries == NULL || batch == NULL) {
        raft_free(m->entries);
        raft_free(batch);
        m->entries = NULL;
        return false;
    }
    size_t at = 0;
    bool good = true;
    for (unsigned i = 0; i < m->n_entries; i++) {
        struct raft_entry *entry = &m->entries[i];
        entry->term = take_u64(r);
        entry->type = (enum raft_entry_type)take_u8(r);
        uint32_t len = take_u32(r);
        struct far_slice data = take(r, len);
        memcpy(batch + at, data.data, data.len);
        entry->buf = (struct raft_buffer){.base = batch + at, .len = len};
        entry->batch = batch;
        at += (len + 7) / 8 * 8;
        good = good && entry->term > 0 && entry->term <= m->term && entry->type >= RAFT_COMMAND &&
               entry->type <= RAFT_CHANGE && len > 0 && len % 8 == 0 &&
               (entry->type != RAFT_CHANGE || far_raft_configuration_good(data));
    }
    if (!good) {
        raft_free(batch);
        raft_free(m->entries);
        m->entries = NULL;
    }
    return good;
}

static void decode_append(struct reader *r, struct raft_append_entries *m)
{
    m->version = 0;
    m->term = take_u64(r);
    m->prev_log_index = take_u64(r);
    m->prev_log_term = take_u64(r);
    m->leader_commit = take_u64(r);
    m->n_entries = take_u32(r);
    r->bad = r->bad || m->n_entries > FAR_RAFT_MESSAGE_ENTRIES_MAX || m->term == 0 ||
             (m->prev_log_index == 0) != (m->prev_log_term == 0) || m->prev_log_term > m->term ||
             m->prev_log_index > UINT64_MAX / 2;
    if (!r->bad && m->n_entries > 0) {
        r->bad = !decode_entries(r, m);
    }
}

static void decode_install(struct reader *r, struct raft_install_snapshot *m)
{
    m->version = 0;
    m->term = take_u64(r);
    m->last_index = take_u64(r);
    m->last_term = take_u64(r);
    m->conf_index = take_u64(r);
    struct far_slice conf = take(r, take_u32(r));
    struct far_slice data = take(r, take_u32(r));
    r->bad = r->bad || m->term == 0 || m->last_index == 0 || m->last_term == 0 || m->conf_index == 0 ||
             !far_raft_configuration_good(conf) || data.len == 0;
    if (r->bad) {
        return;
    }
    struct raft_buffer buffer = {.base = (void *)(uintptr_t)conf.data, .len = conf.len};
    raft_configuration_init(&m->conf);
    if (raft_configuration_decode(&buffer, &m->conf) != 0) {
        r->bad = true; /* libraft has closed it: twice would free twice (fuzzed: two servers of one id) */
        return;
    }
    m->data = (struct raft_buffer){.base = raft_malloc(data.len), .len = data.len};
    if (m->data.base == NULL) {
        raft_configuration_close(&m->conf);
        r->bad = true;
        return;
    }
    memcpy(m->data.base, data.data, data.len);
}

static void decode_body(struct reader *r, struct raft_message *m)
{
    switch (m->type) {
    case RAFT_APPEND_ENTRIES:
        decode_append(r, &m->append_entries);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        m->append_entries_result.version = 2; /* has features and capacity */
        m->append_entries_result.term = take_u64(r);
        m->append_entries_result.rejected = take_u64(r);
        m->append_entries_result.last_log_index = take_u64(r);
        m->append_entries_result.features = (unsigned short)take_u32(r);
        m->append_entries_result.capacity = (unsigned short)take_u32(r);
        return;
    case RAFT_REQUEST_VOTE:
        m->request_vote.version = 2;
        m->request_vote.term = take_u64(r);
        m->request_vote.candidate_id = take_u64(r);
        m->request_vote.last_log_index = take_u64(r);
        m->request_vote.last_log_term = take_u64(r);
        m->request_vote.disrupt_leader = take_bool(r);
        m->request_vote.pre_vote = take_bool(r);
        return;
    case RAFT_REQUEST_VOTE_RESULT:
        m->request_vote_result.version = 2;
        m->request_vote_result.term = take_u64(r);
        m->request_vote_result.vote_granted = take_bool(r);
        m->request_vote_result.pre_vote = take_bool(r);
        m->request_vote_result.features = (unsigned short)take_u32(r);
        m->request_vote_result.capacity = (unsigned short)take_u32(r);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        decode_install(r, &m->install_snapshot);
        return;
    case RAFT_TIMEOUT_NOW:
        m->timeout_now.version = 0;
        m->timeout_now.term = take_u64(r);
        m->timeout_now.last_log_index = take_u64(r);
        m->timeout_now.last_log_term = take_u64(r);
        return;
    }
    r->bad = true;
}

int far_raft_message_decode(struct far_slice bytes, struct raft_message *ret_message, struct far_error *err)
{
    struct reader r = {.rest = bytes};
    struct raft_message message = {0};
    message.type = (enum raft_message_type)take_u8(&r);
    if (!r.bad) {
        decode_body(&r, &message);
    }
    if (r.bad) {
        return far_fail(err, FAR_INVALID, "a raft message is malformed");
    }
    if (r.rest.len > 0) {
        far_raft_message_done(&message, true);
        return far_fail(err, FAR_INVALID, "a raft message is followed by stray bytes");
    }
    *ret_message = message;
    return 0;
}

void far_raft_message_done(struct raft_message *message, bool batch)
{
    if (message->type == RAFT_APPEND_ENTRIES && message->append_entries.n_entries > 0) {
        if (batch) {
            raft_free(message->append_entries.entries[0].batch);
        }
        raft_free(message->append_entries.entries);
        message->append_entries.n_entries = 0;
    }
    if (message->type == RAFT_INSTALL_SNAPSHOT && batch) {
        raft_configuration_close(&message->install_snapshot.conf);
        raft_free(message->install_snapshot.data.base);
    }
}
