/* The offline verifier against exports that were forged in every way that an export can be, and those that are right. The logs are
 * made by the real core and store, with real keys; what a forger would do is done to the bytes, chain and all. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fmemopen */
#endif
#include "../lib/cm.h"

#include "../lib/entries.h"
#include "farshore/client.h"
#include "log/export.h"
#include "log/head_check.h"
#include "log/signed_head.h"
#include "net/sign.h"
#include "verify/verify.h"

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdlib.h>

enum { SERVERS = 8, TEXT_MAX = 8192 };

static struct far_store *store;
static struct far_store_txn *txn; /* everything happens in one that is given up at last */
static struct far_state state;
static struct far_arena arena;
static struct far_buf payload, out;
static uint64_t index_of_entry, now_ms;
static uint64_t ids[SERVERS + 1]; /* by number, from 1 */
static uint8_t public_keys[SERVERS + 1][32], private_keys[SERVERS + 1][32];
static char said[TEXT_MAX];

/* ---- a log ---- */

static int emit(void *arg, const struct far_event *event, struct far_error *err)
{
    return far_store_event_append(txn, event, err);
}

static uint64_t apply(const struct far_command *command)
{
    struct far_result result;
    struct far_error err = {0};
    struct far_command stamped = *command;
    stamped.proposed_at_ms = ++now_ms;
    stamped.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    memset(stamped.id, 0, sizeof stamped.id);
    int rc = far_fsm_apply(&state, ++index_of_entry, &stamped, emit, NULL, &result, &err);
    if (rc != 0 || result.klass != 0) {
        fail_msg("kind %u: %s%s", command->kind, err.message, result.message);
    }
    return result.object_id;
}

static uint64_t command(const struct far_schema *schema, const void *object)
{
    static uint64_t number = 1;
    struct far_command made = far_test_command(schema, object, number++, &payload);
    return apply(&made);
}
#define DO(name, ...) command(&far_schema_cmd_##name, &(struct far_cmd_##name){__VA_ARGS__})

static uint64_t last(void)
{
    return far_store_meta(txn)->last_seq;
}

static void add_site(void)
{
    char name[32];
    static unsigned number;
    snprintf(name, sizeof name, "site%u", number++);
    DO(site_create, .name = far_slice_str(name), .role = FAR_site_role_witness);
}

static void set_key(unsigned n)
{
    struct far_error err;
    assert_int_equal(far_sign_keypair(public_keys[n], private_keys[n], &err), 0);
    DO(server_key_set, .server_id = ids[n], .public_key = far_slice(public_keys[n], 32));
}

static void set_role(unsigned n, uint64_t role)
{
    DO(server_role_changed, .server_id = ids[n], .role = role);
}

/* Server number n joins and votes. */
static void add_voter(unsigned n)
{
    char name[32];
    uint8_t hash[32] = {(uint8_t)n, (uint8_t)now_ms, (uint8_t)(now_ms >> 8)};
    snprintf(name, sizeof name, "server%u", n);
    DO(token_create, .name = far_slice_str(name), .purpose = FAR_token_purpose_join_server, .hash = far_slice(hash, 32),
       .expires_ms = now_ms + 1000, .site = far_slice_str("home"));
    ids[n] = DO(server_join, .token_hash = far_slice(hash, 32), .name = far_slice_str(name),
                .peer_address = far_slice_str("b:1"), .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32));
    set_key(n);
    set_role(n, FAR_server_role_voter);
}

static void remove_voter(unsigned n)
{
    set_role(n, FAR_server_role_removed);
}

static uint64_t propose(void)
{
    uint8_t head[32];
    uint64_t seq = last();
    memcpy(head, far_store_meta(txn)->head, 32);
    DO(head_propose, .seq = seq, .head = far_slice(head, 32));
    return seq;
}

/* Number n signs with this private key. */
static void sign_with(uint64_t seq, unsigned n, const uint8_t private_key[32])
{
    struct far_row_head head;
    struct far_row_cluster cluster;
    struct far_key key = far_key(&far_schema_row_head), cluster_key = far_key(&far_schema_row_cluster);
    uint8_t message[FAR_HEAD_MESSAGE_MAX], signature[64];
    size_t len;
    far_key_u64(&key, seq);
    far_arena_reset(&arena);
    assert_int_equal(far_state_get(&state, &far_schema_row_head, &key, &arena, &head, NULL), 0);
    assert_int_equal(far_state_get(&state, &far_schema_row_cluster, &cluster_key, &arena, &cluster, NULL), 0);
    assert_int_equal(far_head_message(cluster.uuid, head.incarnation_epoch, seq, head.head, &head.voters, message, &len, NULL), 0);
    assert_int_equal(far_sign(private_key, far_slice(message, len), signature, NULL), 0);
    DO(head_sign, .server_id = ids[n], .seq = seq, .signature = far_slice(signature, 64));
}

/* "123": numbers 1, 2 and 3 sign the head of now. */
static uint64_t sign_head(const char *who)
{
    uint64_t seq = propose();
    for (; *who != '\0'; who++) {
        sign_with(seq, (unsigned)(*who - '0'), private_keys[*who - '0']);
    }
    return seq;
}

/* Servers 1, 2 and 3, and a head that is signed by all of them. */
static int set_up(void **unused)
{
    assert_int_equal(far_store_open_memory(&store, NULL), 0);
    assert_int_equal(far_store_begin(store, true, &txn, NULL), 0);
    state = (struct far_state){.kv = far_store_kv(txn)};
    far_arena_init(&arena, 1 << 20);
    far_buf_init(&payload, 1 << 20);
    far_buf_init(&out, 1 << 24);
    index_of_entry = 0;
    now_ms = 1000;
    struct far_command init = far_test_cluster_init(&payload);
    ids[1] = apply(&init);
    DO(feature_level_raise, .level = FAR_FEATURE_LEVEL);
    DO(site_create, .name = far_slice_str("home"), .role = FAR_site_role_recovery);
    set_key(1);
    sign_head("1");
    add_voter(2);
    sign_head("12");
    add_voter(3);
    add_site();
    sign_head("123");
    return 0;
}

static int tear_down(void **unused)
{
    far_store_abort(txn);
    far_store_close(store);
    far_arena_done(&arena);
    far_buf_done(&payload);
    far_buf_done(&out);
    return 0;
}

/* ---- exports ---- */

static void export_until(uint64_t until)
{
    uint64_t next = 0;
    far_buf_reset(&out);
    assert_int_equal(far_export_piece(txn, 0, until, 1 << 24, &out, &next, NULL), 0);
    assert_int_equal(next, 0);
}

static struct {
    unsigned long long seq; /* 0: none is given */
    uint8_t head[32];
} given_head;

/* Findings; what was said in `said`. The keys of the servers with these numbers are given. */
static unsigned long long verify(const char *given)
{
    struct verifier *v = calloc(1, sizeof *v);
    assert_non_null(v);
    for (; *given != '\0'; given++) {
        memcpy(v->given[v->given_count++], public_keys[*given - '0'], 32);
    }
    memset(said, 0, sizeof said);
    v->wants_head = given_head.seq != 0;
    v->wanted_seq = given_head.seq;
    memcpy(v->wanted, given_head.head, sizeof v->wanted);
    v->file = fmemopen(out.data, out.len, "rb");
    v->out = fmemopen(said, sizeof said - 1, "w");
    assert_true(v->file != NULL && v->out != NULL);
    verify_file(v);
    fclose(v->file);
    fclose(v->out);
    unsigned long long findings = v->findings;
    free(v);
    return findings;
}

static void assert_says(const char *text)
{
    if (strstr(said, text) == NULL) {
        fail_msg("'%s' is not in: %s", text, said);
    }
}

static void assert_covers(uint64_t until)
{
    char text[128];
    snprintf(text, sizeof text, "ok   events 1 to %llu are those that a majority signed", (unsigned long long)until);
    assert_says(text);
}

/* Where the record of this event lies. */
static size_t find_event(uint64_t seq)
{
    size_t at = FAR_EXPORT_HEADER;
    for (uint64_t n = 1; n < seq; n++) {
        at += FAR_EXPORT_RECORD + far_get_le32(out.data + at + 4);
    }
    assert_int_equal(far_get_le64(out.data + at + FAR_EXPORT_RECORD), seq);
    return at;
}

static void sha256(const void *a, size_t a_len, const void *b, size_t b_len, uint8_t hash[32])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_int_equal(EVP_DigestInit_ex(context, EVP_sha256(), NULL), 1);
    assert_int_equal(EVP_DigestUpdate(context, a, a_len), 1);
    assert_int_equal(EVP_DigestUpdate(context, b, b_len), 1);
    assert_int_equal(EVP_DigestFinal_ex(context, hash, NULL), 1);
    EVP_MD_CTX_free(context);
}

/* What a forger does who knows the format: numbers and heads are made anew over what stands there. */
static void make_chain(void)
{
    uint8_t head[32], payload_hash[32], leaf[32];
    uint64_t seq = far_get_le64(out.data + 40);
    memcpy(head, out.data + 56, 32);
    for (size_t at = FAR_EXPORT_HEADER; at < out.len; at += FAR_EXPORT_RECORD + far_get_le32(out.data + at + 4)) {
        uint8_t *body = out.data + at + FAR_EXPORT_RECORD;
        unsigned type = far_get_le16(out.data + at);
        size_t len = far_get_le32(out.data + at + 4);
        if (type == FAR_EXPORT_END) {
            far_put_le64(body, seq - 1);
            memcpy(body + 8, head, 32);
        } else if (type != FAR_EXPORT_SIGNED) {
            far_put_le64(body, seq++);
            memcpy(payload_hash, body + 64, 32);
            if (type == FAR_EXPORT_EVENT) {
                sha256(body + 64, len - 96, "", 0, payload_hash);
            }
            sha256(body, 64, payload_hash, 32, leaf);
            sha256(head, 32, leaf, 32, head);
            memcpy(body + len - 32, head, 32);
        }
    }
    far_put_le64(out.data + 48, seq - 1);
    sha256(out.data, 96, "", 0, out.data + 96);
}

static void cut_out(size_t at)
{
    size_t len = FAR_EXPORT_RECORD + far_get_le32(out.data + at + 4);
    memmove(out.data + at, out.data + at + len, out.len - at - len);
    out.len -= len;
}

static size_t find_record(unsigned type)
{
    size_t at = FAR_EXPORT_HEADER;
    while (at < out.len && far_get_le16(out.data + at) != type) {
        at += FAR_EXPORT_RECORD + far_get_le32(out.data + at + 4);
    }
    assert_true(at < out.len);
    return at;
}

/* The event that this kind's last is. */
static uint64_t last_of_kind(uint16_t kind)
{
    struct far_event event;
    for (uint64_t seq = last(); seq > 0; seq--) {
        assert_int_equal(far_store_event_get(txn, seq, &event, NULL, NULL), 0);
        if (event.kind == kind) {
            return seq;
        }
    }
    fail();
    return 0;
}

/* ---- what is right ---- */

static void a_signed_export_is_proven_from_the_first_servers_key(void **unused)
{
    add_site();
    uint64_t seq = sign_head("23");
    add_site();
    export_until(last());
    assert_int_equal(verify("1"), 0);
    assert_covers(seq);
    assert_says("are not covered by a signed head");
    assert_int_equal(verify("3"), 0); /* any server's will do, from its first signature on */
    assert_covers(seq);
    assert_int_equal(verify(""), 0);
    assert_says("that the file itself names");
}

/* A head of an event that the file does not have says nothing of it. */
static void a_head_from_outside_of_the_file_is_no_other_history(void **unused)
{
    struct far_event event;
    add_site();
    add_site();
    given_head.seq = last() - 1;
    assert_int_equal(far_store_event_get(txn, given_head.seq, &event, given_head.head, NULL), 0);
    export_until(last());
    assert_int_equal(verify(""), 0);
    export_until(last() - 2);
    assert_int_equal(verify(""), 1);
    assert_says("the export ends before it");
    export_until(last());
    given_head.head[3] ^= 1;
    assert_int_equal(verify(""), 1);
    assert_says("this is another history");
    given_head.seq = 0;
}

static void signatures_that_are_younger_than_the_last_event_come_along(void **unused)
{
    add_site();
    uint64_t seq = last();
    sign_head("12");
    export_until(seq);
    assert_int_equal(verify("1"), 0);
    assert_covers(seq);
    assert_null(strstr(said, "not covered"));
}

static void trust_follows_servers_that_are_replaced_one_by_one(void **unused)
{
    static const char *const signers[] = {"234", "345", "456"};
    for (unsigned n = 1; n <= 3; n++) {
        add_voter(n + 3);
        sign_head(n == 1 ? "123" : n == 2 ? "234" : "345");
        remove_voter(n);
        sign_head(signers[n - 1]);
    }
    set_key(5); /* also a new key of a server that stays */
    uint64_t seq = sign_head("46");
    export_until(last());
    assert_int_equal(verify("1"), 0);
    assert_covers(seq);
}

static void an_export_that_begins_later_is_proven_by_the_key_of_a_voter_of_then(void **unused)
{
    struct far_event event;
    struct far_store_meta *meta = far_store_meta(txn);
    add_site();
    assert_int_equal(far_store_event_get(txn, last() - 1, &event, meta->base_head, NULL), 0);
    meta->first_seq = last();
    add_site();
    uint64_t seq = sign_head("13");
    export_until(last());
    char text[128];
    snprintf(text, sizeof text, "ok   events %llu to %llu are those", (unsigned long long)meta->first_seq, (unsigned long long)seq);
    assert_int_equal(verify("3"), 0);
    assert_says(text);
    assert_int_equal(verify("2"), 1); /* it has signed nothing here */
}

/* ---- what is not ---- */

static void each_changed_byte_of_a_signed_export_is_found(void **unused)
{
    export_until(sign_head("123"));
    assert_int_equal(verify("1"), 0);
    for (size_t at = 0; at < out.len; at += 3) {
        out.data[at] ^= 0x10;
        if (verify("1") == 0) {
            fail_msg("a changed byte at %zu of %zu is not found: %s", at, out.len, said);
        }
        out.data[at] ^= 0x10;
    }
}

static void a_payload_that_was_changed_with_its_chain_is_found(void **unused)
{
    add_site();
    uint64_t changed = last_of_kind(FAR_KIND_ev_site_created), seq = sign_head("123");
    export_until(last());
    out.data[find_event(changed) + FAR_EXPORT_RECORD + 64 + 5] ^= 1;
    assert_true(verify("1") > 0); /* the chain already says so */
    make_chain();
    assert_true(verify("1") > 0);
    assert_says("a majority has signed another head");
    assert_true(verify("") > 0);
    assert_true(seq >= changed);
}

static void an_event_that_is_missing_or_moved_is_found_though_the_chain_fits(void **unused)
{
    add_site();
    add_site();
    uint64_t first = last() - 1;
    sign_head("123");
    export_until(last());
    cut_out(find_event(first));
    assert_true(verify("1") > 0);
    make_chain();
    assert_true(verify("1") > 0);
    assert_says("a majority has signed another head");

    export_until(last());
    size_t at = find_event(first), len = FAR_EXPORT_RECORD + far_get_le32(out.data + at + 4);
    uint8_t record[1024];
    assert_int_equal(FAR_EXPORT_RECORD + far_get_le32(out.data + at + len + 4), len); /* names of one length */
    memcpy(record, out.data + at, len);
    memmove(out.data + at, out.data + at + len, len);
    memcpy(out.data + at + len, record, len);
    assert_true(verify("1") > 0);
    make_chain();
    assert_true(verify("1") > 0);
    assert_says("a majority has signed another head");
}

static void a_head_with_too_few_signatures_covers_nothing(void **unused)
{
    uint64_t good = last_of_kind(FAR_KIND_ev_head_proposed) - 1;
    add_site();
    sign_head("1");
    export_until(last());
    assert_int_equal(verify("1"), 0);
    assert_covers(good);
    assert_says("are not covered by a signed head");

    sign_with(propose(), 1, private_keys[1]);
    uint64_t seq = sign_head("12");
    export_until(seq);
    size_t at = find_record(FAR_EXPORT_SIGNED), body = at + FAR_EXPORT_RECORD;
    size_t len = far_get_le32(out.data + at + 4), answers = body + 56 + 3 * 40;
    assert_int_equal(far_get_le32(out.data + body + 52), 2);
    memmove(out.data + answers, out.data + answers + 72, out.len - answers - 72); /* one of the two goes */
    out.len -= 72;
    far_put_le32(out.data + at + 4, (uint32_t)(len - 72));
    far_put_le32(out.data + body + 52, 1);
    assert_int_equal(verify("1"), 1);
    assert_says("1 of 3 voters have signed it, which is no majority");
}

static void a_signature_twice_is_one(void **unused)
{
    add_site();
    uint64_t seq = sign_head("12");
    export_until(seq);
    size_t answers = find_record(FAR_EXPORT_SIGNED) + FAR_EXPORT_RECORD + 56 + 3 * 40;
    memcpy(out.data + answers + 72, out.data + answers, 72);
    assert_int_equal(verify("1"), 1);
    assert_says("which is no majority");
}

static void one_stolen_key_cannot_make_itself_the_majority(void **unused)
{
    uint64_t good = last_of_kind(FAR_KIND_ev_head_proposed) - 1;
    remove_voter(2); /* as the forger tells it */
    remove_voter(3);
    add_site();
    uint64_t seq = sign_head("1");
    export_until(last());
    assert_int_equal(verify("1"), 1);
    assert_covers(good);
    assert_says("in whom trust does not follow");
    assert_int_equal(verify("12"), 1);
    assert_true(seq > good);
}

static void a_signature_by_a_key_that_was_not_its_signers_then_is_found(void **unused)
{
    uint8_t old[32];
    memcpy(old, private_keys[2], 32);
    set_key(2);
    add_site();
    uint64_t seq = propose();
    sign_with(seq, 1, private_keys[1]);
    sign_with(seq, 2, old); /* it has ended */
    export_until(last());
    assert_true(verify("1") > 0);
    assert_says("is not by the key that it had then");
}

static void a_server_that_was_removed_counts_no_more(void **unused)
{
    remove_voter(3);
    add_site();
    uint64_t seq = sign_head("1");
    export_until(last());
    size_t at = find_event(last()) + FAR_EXPORT_RECORD + 64; /* {1: server, 2: seq, …}: the server is in its third byte */
    assert_int_equal(out.data[at + 2], ids[1]);
    out.data[at + 2] = (uint8_t)ids[3];
    make_chain();
    assert_int_equal(verify("1"), 1);
    assert_says("which had no vote or no key then");
    assert_true(seq > 0);
}

static void where_trust_ends_another_given_key_begins_it_anew(void **unused)
{
    uint64_t good = last_of_kind(FAR_KIND_ev_head_proposed) - 1;
    for (unsigned n = 1; n <= 3; n++) { /* all replaced, and no head in between */
        add_voter(n + 3);
        remove_voter(n);
    }
    uint64_t seq = sign_head("456");
    export_until(last());
    assert_int_equal(verify("1"), 1);
    assert_covers(good);
    assert_says("in whom trust does not follow");
    assert_int_equal(verify("15"), 0);
    assert_covers(seq);
    assert_says("trust began anew");
}

static void a_new_incarnation_needs_a_key_that_was_given_for_it(void **unused)
{
    struct far_row_cluster cluster;
    struct far_key key = far_key(&far_schema_row_cluster);
    remove_voter(1); /* lost for good, with the quorum */
    remove_voter(3);
    far_arena_reset(&arena);
    assert_int_equal(far_state_get(&state, &far_schema_row_cluster, &key, &arena, &cluster, NULL), 0);
    cluster.incarnation_epoch++;
    assert_int_equal(far_state_put(&state, &far_schema_row_cluster, &key, &cluster, NULL), 0);
    uint64_t seq = sign_head("2");
    export_until(last());
    assert_int_equal(verify("1"), 1);
    assert_says("in whom trust does not follow");
    assert_int_equal(verify("12"), 0);
    assert_covers(seq);
    assert_says("trust began anew");
}

static void a_key_of_nobody_proves_nothing(void **unused)
{
    export_until(last());
    memset(public_keys[8], 7, 32);
    assert_int_equal(verify("8"), 1);
    assert_says("no signed head in the file leads back to a key that was given");
}

static void a_file_that_was_cut_off_says_what_is_covered(void **unused)
{
    add_site();
    uint64_t seq = sign_head("123");
    for (int i = 0; i < 5; i++) {
        add_site();
    }
    export_until(last());
    out.len = find_event(last() - 1) + 20;
    assert_int_equal(verify("1"), 1);
    assert_says("cut off");
    assert_covers(seq);
    char text[128];
    snprintf(text, sizeof text, "events %llu to %llu are not covered by a signed head", (unsigned long long)seq + 1,
             (unsigned long long)last() - 2);
    assert_says(text);
    out.len = find_event(seq); /* before the signatures of the last head */
    assert_int_equal(verify("1"), 1);
    assert_says("the file ends before it");
    assert_says("are not covered by a signed head");
}

/* ---- the servers' own check, for log verify ---- */

/* The class of the first finding, its words in `said`. */
static int check_heads(struct far_head_check *check)
{
    struct far_error err = {0};
    int rc = far_head_check_init(check, txn, &err);
    for (uint64_t seq = 1; rc == 0 && seq <= last(); seq++) {
        struct far_event event;
        assert_int_equal(far_store_event_get(txn, seq, &event, NULL, NULL), 0);
        rc = far_head_check_event(check, txn, &event, &err);
    }
    snprintf(said, sizeof said, "%s", err.message);
    return rc;
}

static void log_verify_counts_the_signatures_and_how_far_they_reach(void **unused)
{
    static struct far_head_check check;
    add_site();
    uint64_t seq = sign_head("31");
    add_site();
    sign_head("2");
    assert_int_equal(check_heads(&check), 0);
    assert_int_equal(check.signatures, 1 + 2 + 3 + 2 + 1);
    assert_int_equal(check.signed_seq, seq);
}

static void log_verify_finds_a_signature_by_a_key_that_had_ended(void **unused)
{
    static struct far_head_check check;
    uint8_t old[32];
    memcpy(old, private_keys[2], 32);
    set_key(2);
    sign_with(propose(), 2, old);
    assert_int_equal(check_heads(&check), FAR_CORRUPT);
    assert_says("is not by a key that it had then");
}

static void log_verify_finds_a_majority_that_signed_another_head(void **unused)
{
    static struct far_head_check check;
    uint8_t wrong[32] = {1};
    uint64_t seq = last();
    DO(head_propose, .seq = seq, .head = far_slice(wrong, 32));
    sign_with(seq, 1, private_keys[1]);
    assert_int_equal(check_heads(&check), 0); /* one alone proves nothing, and moves nothing */
    assert_true(check.signed_seq < seq);
    sign_with(seq, 3, private_keys[3]);
    assert_int_equal(check_heads(&check), FAR_CORRUPT);
    assert_says("a majority has signed another head");
}

/* ---- the client library ---- */

static char json[16384];
static size_t json_len;
static char uuid_text[33];

__attribute__((format(printf, 1, 2))) static void write_json(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    json_len += (size_t)vsnprintf(json + json_len, sizeof json - json_len, format, args);
    va_end(args);
}

/* As GET /v1/log/heads has it, with the first so many signatures. */
static void head_as_json(uint64_t seq, size_t answers)
{
    char hex[129];
    struct far_row_head head;
    struct far_row_cluster cluster;
    struct far_row_head_signature answer;
    struct far_key key = far_key(&far_schema_row_head), cluster_key = far_key(&far_schema_row_cluster);
    far_key_u64(&key, seq);
    far_arena_reset(&arena);
    assert_int_equal(far_state_get(&state, &far_schema_row_head, &key, &arena, &head, NULL), 0);
    assert_int_equal(far_state_get(&state, &far_schema_row_cluster, &cluster_key, &arena, &cluster, NULL), 0);
    far_hex_encode(cluster.uuid.data, 16, uuid_text);
    json_len = 0;
    far_hex_encode(head.head.data, 32, hex);
    write_json("{\"seq\": %llu, \"head\": \"%s\", \"incarnation_epoch\": %llu, \"voters\": [", (unsigned long long)seq, hex,
               (unsigned long long)head.incarnation_epoch);
    const struct far_sub_head_voter *voters = head.voters.items;
    for (size_t i = 0; i < head.voters.count; i++) {
        far_hex_encode(voters[i].public_key.data, 32, hex);
        write_json("%s{\"server_id\": %llu, \"public_key\": \"%s\"}", i > 0 ? ", " : "", (unsigned long long)voters[i].server_id, hex);
    }
    write_json("], \"answers\": [");
    key = far_key(&far_schema_row_head_signature);
    far_key_u64(&key, seq);
    for (size_t i = 0; i < answers; i++) {
        assert_int_equal(far_state_next(&state, &far_schema_row_head_signature, &key, &arena, NULL, &answer, NULL), 0);
        far_hex_encode(answer.signature.data, 64, hex);
        write_json("%s{\"server_id\": %llu, \"signed\": true, \"signature\": \"%s\"}", i > 0 ? ", " : "",
                   (unsigned long long)answer.server_id, hex);
    }
    write_json("]}");
}

static void assert_refused(const char *public_key, const char *why)
{
    struct far_client_error err;
    assert_int_equal(far_client_check_head(json, uuid_text, public_key, &err), -1);
    if (strstr(err.message, why) == NULL) {
        fail_msg("'%s' is not in: %s", why, err.message);
    }
}

static void a_client_checks_a_signed_head_by_itself(void **unused)
{
    char first[65], third[65];
    struct far_client_error err;
    far_hex_encode(public_keys[1], 32, first);
    far_hex_encode(public_keys[3], 32, third);
    uint64_t seq = sign_head("12");
    head_as_json(seq, 2);
    assert_int_equal(far_client_check_head(json, uuid_text, NULL, &err), 0);
    assert_int_equal(far_client_check_head(json, uuid_text, first, &err), 0);
    assert_refused(third, "is not signed with the key that was given");
    assert_refused("12", "64 hexadecimal digits");
    char *digit = strstr(json, "\"head\": \"") + strlen("\"head\": \"");
    *digit = *digit == '0' ? '1' : '0';
    assert_refused(NULL, "is not right");
    head_as_json(seq, 1);
    assert_refused(NULL, "1 of 3 voters have signed");
    head_as_json(seq, 2);
    uuid_text[0] = uuid_text[0] == '0' ? '1' : '0'; /* another cluster's */
    assert_refused(NULL, "is not right");
    snprintf(json, sizeof json, "{}");
    assert_refused(NULL, "no head that could be signed");
    snprintf(json, sizeof json, "[");
    assert_refused(NULL, "no JSON");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_signed_export_is_proven_from_the_first_servers_key),
        CASE(a_head_from_outside_of_the_file_is_no_other_history),
        CASE(signatures_that_are_younger_than_the_last_event_come_along),
        CASE(trust_follows_servers_that_are_replaced_one_by_one),
        CASE(an_export_that_begins_later_is_proven_by_the_key_of_a_voter_of_then),
        CASE(each_changed_byte_of_a_signed_export_is_found),
        CASE(a_payload_that_was_changed_with_its_chain_is_found),
        CASE(an_event_that_is_missing_or_moved_is_found_though_the_chain_fits),
        CASE(a_head_with_too_few_signatures_covers_nothing),
        CASE(a_signature_twice_is_one),
        CASE(one_stolen_key_cannot_make_itself_the_majority),
        CASE(a_signature_by_a_key_that_was_not_its_signers_then_is_found),
        CASE(a_server_that_was_removed_counts_no_more),
        CASE(where_trust_ends_another_given_key_begins_it_anew),
        CASE(a_new_incarnation_needs_a_key_that_was_given_for_it),
        CASE(a_key_of_nobody_proves_nothing),
        CASE(a_file_that_was_cut_off_says_what_is_covered),
        CASE(log_verify_counts_the_signatures_and_how_far_they_reach),
        CASE(log_verify_finds_a_signature_by_a_key_that_had_ended),
        CASE(log_verify_finds_a_majority_that_signed_another_head),
        CASE(a_client_checks_a_signed_head_by_itself),
    };
    return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
