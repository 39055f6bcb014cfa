/* Signed heads: see verify.h, and docs/FORMATS.md, "Signed heads".
 *
 * An event proposes the head behind an earlier one and names who counts, with their keys; further events bring signatures. Each
 * signature is checked with the key that its signer had at that head. A head with a majority of its voters must be the one that the
 * events of the file give. Trust goes from the keys that were given to the first head that one of them signed, and from the voters
 * of a trusted head to the next that a majority of them signed. */
#include "verify/verify.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

enum {
    KIND_PROPOSED = 43,
    KIND_SIGNED = 44,
    KIND_REFUSED = 45,
    KIND_COMPACTED = 56,
    MESSAGE_FIXED = 88,
    VOTER_BYTES = 40,
    MESSAGE_MAX = MESSAGE_FIXED + VOTERS_MAX * VOTER_BYTES,
    RECORD_FIXED = 56,
    ANSWER_BYTES = 8 + SIGNATURE,
};

/* ---- msgpack, as far as these events use it ---- */

struct bytes {
    const uint8_t *p;
    size_t len;
    bool bad; /* it is not what it should be; nothing more is read */
};

static const uint8_t *take(struct bytes *in, size_t len)
{
    const uint8_t *p = in->p;
    if (in->bad || in->len < len) {
        in->bad = true;
        return NULL;
    }
    in->p += len;
    in->len -= len;
    return p;
}

static uint64_t take_big(struct bytes *in, size_t len)
{
    const uint8_t *p = take(in, len);
    uint64_t value = 0;
    for (size_t i = 0; p != NULL && i < len; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

static unsigned take_tag(struct bytes *in)
{
    return (unsigned)take_big(in, 1);
}

/* The number or length behind this tag: lowest .. lowest + 3 have 1, 2, 4, 8 bytes. */
static uint64_t take_sized(struct bytes *in, unsigned tag, unsigned lowest, unsigned sizes)
{
    if (tag < lowest || tag >= lowest + sizes) {
        in->bad = true;
        return 0;
    }
    return take_big(in, (size_t)1 << (tag - lowest));
}

static uint64_t take_u64(struct bytes *in)
{
    unsigned tag = take_tag(in);
    return tag < 0x80 ? tag : take_sized(in, tag, 0xcc, 4);
}

static size_t take_map(struct bytes *in)
{
    unsigned tag = take_tag(in);
    return (tag & 0xf0) == 0x80 ? tag & 15 : tag == 0xde ? (size_t)take_big(in, 2) : (in->bad = true, 0);
}

static size_t take_list(struct bytes *in)
{
    unsigned tag = take_tag(in);
    return (tag & 0xf0) == 0x90 ? tag & 15 : tag == 0xdc ? (size_t)take_big(in, 2) : (in->bad = true, 0);
}

/* Bytes of exactly this length. */
static const uint8_t *take_exactly(struct bytes *in, size_t len)
{
    unsigned tag = take_tag(in);
    uint64_t is = take_sized(in, tag, 0xc4, 3);
    if (is != len) {
        in->bad = true;
    }
    return take(in, len);
}

static bool take_bool(struct bytes *in)
{
    unsigned tag = take_tag(in);
    in->bad = in->bad || (tag != 0xc2 && tag != 0xc3);
    return tag == 0xc3;
}

/* ---- the events ---- */

/* voters: a list of maps {1: id, 2: key}. */
static void take_voters(struct bytes *in, struct signed_head *head)
{
    size_t count = take_list(in);
    in->bad = in->bad || count > VOTERS_MAX;
    for (size_t i = 0; !in->bad && i < count; i++) {
        struct voter *voter = &head->voters[head->voter_count++];
        for (size_t fields = take_map(in); !in->bad && fields > 0; fields--) {
            uint64_t number = take_u64(in);
            if (number == 1) {
                voter->id = take_u64(in);
            } else if (number == 2) {
                const uint8_t *key = take_exactly(in, HASH);
                voter->has_key = key != NULL;
                memcpy(voter->key, key != NULL ? key : voter->key, HASH);
            } else {
                in->bad = true;
            }
        }
    }
}

/* {1: seq, 2: head, 3: incarnation, 4: voters} */
static bool take_proposal(struct bytes *in, struct signed_head *head)
{
    for (size_t fields = take_map(in); !in->bad && fields > 0; fields--) {
        const uint8_t *hash = NULL;
        switch (take_u64(in)) {
        case 1:
            head->seq = take_u64(in);
            break;
        case 2:
            hash = take_exactly(in, HASH);
            memcpy(head->head, hash != NULL ? hash : head->head, HASH);
            break;
        case 3:
            head->incarnation = take_u64(in);
            break;
        case 4:
            take_voters(in, head);
            break;
        default:
            in->bad = true;
        }
    }
    return !in->bad && in->len == 0 && head->seq != 0 && head->voter_count > 0;
}

/* {1: server, 2: seq, 3: signature or own head, 4: with a majority} */
struct answer {
    unsigned long long server, seq;
    const uint8_t *bytes;
};

static bool take_answer(struct bytes *in, size_t len, struct answer *answer)
{
    for (size_t fields = take_map(in); !in->bad && fields > 0; fields--) {
        switch (take_u64(in)) {
        case 1:
            answer->server = take_u64(in);
            break;
        case 2:
            answer->seq = take_u64(in);
            break;
        case 3:
            answer->bytes = take_exactly(in, len);
            break;
        case 4:
            (void)take_bool(in);
            break;
        default:
            in->bad = true;
        }
    }
    return !in->bad && in->len == 0 && answer->bytes != NULL;
}

/* ---- signatures ---- */

static void put(uint8_t *p, uint64_t value)
{
    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(value >> (8 * i));
    }
}

static size_t message_of(const struct verifier *v, const struct signed_head *head, uint8_t message[MESSAGE_MAX])
{
    memset(message, 0, MESSAGE_MAX);
    memcpy(message, "farshore head 0", 16);
    memcpy(message + 16, v->uuid, sizeof v->uuid);
    put(message + 32, head->incarnation);
    put(message + 40, head->seq);
    memcpy(message + 48, head->head, HASH);
    put(message + 80, head->voter_count);
    for (size_t i = 0; i < head->voter_count; i++) {
        put(message + MESSAGE_FIXED + i * VOTER_BYTES, head->voters[i].id);
        memcpy(message + MESSAGE_FIXED + i * VOTER_BYTES + 8, head->voters[i].key, HASH);
    }
    return MESSAGE_FIXED + head->voter_count * VOTER_BYTES;
}

static bool is_signed_by(const struct verifier *v, const struct signed_head *head, const struct voter *voter,
                         const uint8_t signature[SIGNATURE])
{
    uint8_t message[MESSAGE_MAX];
    size_t len = message_of(v, head, message);
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, voter->key, HASH);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = key != NULL && context != NULL && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
                EVP_DigestVerify(context, signature, SIGNATURE, message, len) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return good;
}

static size_t count_signers(const struct signed_head *head)
{
    size_t count = 0;
    for (size_t i = 0; i < head->voter_count; i++) {
        count += head->has_signed[i];
    }
    return count;
}

static bool has_majority(const struct signed_head *head)
{
    return count_signers(head) >= head->voter_count / 2 + 1;
}

/* ---- trust ---- */

static bool is_voter_of(const struct signed_head *head, const struct voter *voter)
{
    for (size_t i = 0; i < head->voter_count; i++) {
        const struct voter *other = &head->voters[i];
        if (other->has_key && other->id == voter->id && memcmp(other->key, voter->key, HASH) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_given(const struct verifier *v, const struct voter *voter)
{
    for (size_t i = 0; i < v->given_count; i++) {
        if (memcmp(v->given[i], voter->key, HASH) == 0) {
            return true;
        }
    }
    return false;
}

/* Does trust lead to this head from the newest that is trusted? */
static bool follows_trust(const struct verifier *v, const struct signed_head *head)
{
    size_t known = 0;
    for (size_t i = 0; i < head->voter_count; i++) {
        known += head->has_signed[i] && is_voter_of(&v->trusted, &head->voters[i]);
    }
    return v->trusted.seq != 0 && known >= v->trusted.voter_count / 2 + 1;
}

/* Or from a key that the user gave? Not from one whose owner's word alone has not been enough since others were trusted with it. */
static bool follows_given(const struct verifier *v, const struct signed_head *head)
{
    for (size_t i = 0; i < head->voter_count; i++) {
        const struct voter *voter = &head->voters[i];
        if (head->has_signed[i] && is_given(v, voter) &&
            (v->trusted.seq == 0 || head->incarnation > v->trusted.incarnation || !is_voter_of(&v->trusted, voter))) {
            return true;
        }
    }
    return false;
}

/* A signature came: is it signed now, and whom does it make trusted? */
static void weigh(struct verifier *v, struct signed_head *head)
{
    if (!has_majority(head) || !head->is_known) {
        return;
    }
    if (!head->is_same) {
        if (!head->was_told) {
            verify_found(v, "event", head->seq, "a majority has signed another head behind it: events up to it are not what was "
                                                "written");
        }
        head->was_told = true;
        return;
    }
    v->majority_seq = head->seq > v->majority_seq ? head->seq : v->majority_seq;
    if (v->given_count == 0 || head->seq <= v->trusted.seq) {
        return;
    }
    bool by_trust = follows_trust(v, head);
    if (by_trust || follows_given(v, head)) {
        v->anew_seq = by_trust || v->trusted.seq == 0 ? v->anew_seq : head->seq;
        v->trusted = *head;
    } else if (head->seq > v->untrusted_seq) {
        v->untrusted_seq = head->seq;
    }
}

static void take_signature(struct verifier *v, struct signed_head *head, unsigned long long server,
                           const uint8_t signature[SIGNATURE])
{
    size_t i = 0;
    while (i < head->voter_count && (head->voters[i].id != server || !head->voters[i].has_key)) {
        i++;
    }
    if (i == head->voter_count) {
        verify_found(v, "head behind event", head->seq, "server %llu signed it, which had no vote or no key then", server);
    } else if (!is_signed_by(v, head, &head->voters[i], signature)) {
        verify_found(v, "head behind event", head->seq, "the signature of server %llu is not by the key that it had then", server);
    } else {
        head->has_signed[i] = true;
        weigh(v, head);
    }
}

/* ---- what the file holds ---- */

/* Does the file hold the chain behind this event, and is it the same? */
static void compare(const struct verifier *v, struct signed_head *head)
{
    head->is_known = head->seq + 1 >= v->first_seq && head->seq < v->next_seq && v->next_seq - head->seq <= HEADS_KEPT;
    head->is_same = head->is_known && memcmp(v->ring[head->seq % HEADS_KEPT], head->head, HASH) == 0;
}

static struct signed_head *find(struct verifier *v, unsigned long long seq)
{
    for (size_t i = 0; seq != 0 && i < OPEN_HEADS; i++) {
        if (v->heads[i].seq == seq) {
            return &v->heads[i];
        }
    }
    return NULL;
}

/* {1: seq, 2: time}: progress up to event seq may come without its payload. */
static void take_compaction(struct verifier *v, struct bytes *in, unsigned long long seq)
{
    unsigned long long until = 0;
    for (size_t fields = take_map(in); !in->bad && fields > 0; fields--) {
        uint64_t number = take_u64(in), value = take_u64(in);
        until = number == 1 ? value : until;
    }
    if (in->bad || in->len > 0 || until == 0 || until >= seq) {
        verify_found(v, "event", seq, "it decides no compaction that could be");
    } else if (until > v->decided_seq) {
        v->decided_seq = until;
        v->decided_by = seq;
    }
}

void verify_heads_event(struct verifier *v, const uint8_t *header, const uint8_t *payload, size_t len)
{
    unsigned kind = (unsigned)verify_number(header + 16, 2), version = (unsigned)verify_number(header + 18, 2);
    struct bytes in = {payload, len, false};
    struct answer answer = {0};
    unsigned long long seq = v->next_seq - 1; /* of this event */
    if (version == 0 && kind == KIND_COMPACTED) {
        take_compaction(v, &in, seq);
        return;
    }
    if (version != 0 || (kind != KIND_PROPOSED && kind != KIND_SIGNED && kind != KIND_REFUSED)) {
        return;
    }
    if (kind == KIND_PROPOSED) {
        struct signed_head *head = &v->heads[v->next_head++ % OPEN_HEADS];
        memset(head, 0, sizeof *head);
        if (!take_proposal(&in, head) || head->seq >= seq) {
            memset(head, 0, sizeof *head);
            verify_found(v, "event", seq, "it proposes no head that could be signed");
            return;
        }
        compare(v, head);
        return;
    }
    if (!take_answer(&in, kind == KIND_SIGNED ? SIGNATURE : HASH, &answer)) {
        verify_found(v, "event", seq, "it is no answer to a head");
        return;
    }
    struct signed_head *head = find(v, answer.seq); /* NULL: too old, or proposed before the file begins */
    if (head != NULL && kind == KIND_SIGNED) {
        take_signature(v, head, answer.server, answer.bytes);
    } else if (kind == KIND_REFUSED) {
        fprintf(v->out, "     event %llu: server %llu refused the head behind event %llu, it held another\n", seq, answer.server,
                answer.seq);
    }
}

/* The newest signed head whose signatures came after the last event of the file; body as docs/FORMATS.md says. */
void verify_heads_record(struct verifier *v, size_t len)
{
    const uint8_t *p = v->body;
    struct signed_head head = {.seq = len >= RECORD_FIXED ? verify_number(p, 8) : 0};
    size_t voters = len >= RECORD_FIXED ? (size_t)verify_number(p + 48, 4) : 0;
    size_t answers = len >= RECORD_FIXED ? (size_t)verify_number(p + 52, 4) : 0;
    if (head.seq == 0 || voters == 0 || voters > VOTERS_MAX || answers > VOTERS_MAX ||
        len != RECORD_FIXED + voters * VOTER_BYTES + answers * ANSWER_BYTES) {
        verify_found(v, "signed head behind event", head.seq, "its record is damaged");
        return;
    }
    static const uint8_t none[HASH];
    head.incarnation = verify_number(p + 8, 8);
    memcpy(head.head, p + 16, HASH);
    for (p += RECORD_FIXED; head.voter_count < voters; p += VOTER_BYTES) {
        struct voter *voter = &head.voters[head.voter_count++];
        voter->id = verify_number(p, 8);
        voter->has_key = memcmp(p + 8, none, HASH) != 0;
        memcpy(voter->key, p + 8, HASH);
    }
    compare(v, &head);
    for (size_t i = 0; i < answers; i++, p += ANSWER_BYTES) {
        take_signature(v, &head, verify_number(p, 8), p + 8);
    }
    if (!head.is_known) {
        verify_found(v, "signed head behind event", head.seq, "the file does not hold that event");
    } else if (!has_majority(&head)) {
        verify_found(v, "signed head behind event", head.seq, "%zu of %zu voters have signed it, which is no majority",
                     count_signers(&head), head.voter_count);
    }
}

/* ---- the end ---- */

static void print_trusted(struct verifier *v)
{
    fprintf(v->out, "ok   events %llu to %llu are those that a majority signed%s", v->first_seq, v->trusted.seq,
            v->anew_seq != 0 ? "" : ", back to the key that was given");
    if (v->anew_seq != 0) {
        fprintf(v->out, "; at event %llu trust began anew with another given key", v->anew_seq);
    }
    fprintf(v->out, "\n     keys trusted there:");
    for (size_t i = 0; i < v->trusted.voter_count; i++) {
        const struct voter *voter = &v->trusted.voters[i];
        fprintf(v->out, "%s server %llu ", i > 0 ? "," : "", voter->id);
        for (size_t j = 0; voter->has_key && j < HASH; j++) {
            fprintf(v->out, "%02x", voter->key[j]);
        }
    }
    fputc('\n', v->out);
}

void verify_heads_end(struct verifier *v)
{
    unsigned long long covered = v->given_count > 0 ? v->trusted.seq : v->majority_seq, last = v->next_seq - 1;
    if (v->given_count > 0 && v->trusted.seq == 0) {
        verify_found(v, "event", last, "no signed head in the file leads back to a key that was given");
    } else if (v->given_count > 0) {
        print_trusted(v);
        if (v->untrusted_seq > v->trusted.seq) {
            verify_found(v, "event", v->untrusted_seq, "the head behind it is signed by servers in whom trust does not follow from "
                                                       "the keys that were given");
        }
    } else if (covered != 0) {
        fprintf(v->out, "     events %llu to %llu are signed by a majority of the servers that the file itself names; give a key "
                        "of one that you know (--key) to prove who they are\n", v->first_seq, covered);
    }
    if (covered < last) {
        fprintf(v->out, "     events %llu to %llu are not covered by a signed head\n",
                covered >= v->first_seq ? covered + 1 : v->first_seq, last);
    }
}
