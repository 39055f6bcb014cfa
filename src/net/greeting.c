/* The greeting: see greeting.h. */
#include "net/greeting.h"

#include "net/pki.h"

enum { VERSION = 0 };
static const uint8_t magic[4] = {'F', 'A', 'R', 'G'};

void far_greeting_encode(const struct far_greeting *greeting, uint8_t bytes[FAR_GREETING_BYTES])
{
    memset(bytes, 0, FAR_GREETING_BYTES);
    memcpy(bytes, magic, sizeof magic);
    far_put_le16(bytes + 4, VERSION);
    far_put_le16(bytes + 6, (uint16_t)greeting->verdict);
    memcpy(bytes + 8, greeting->cluster_uuid, 16);
    far_put_le64(bytes + 24, greeting->incarnation.epoch);
    far_put_le16(bytes + 32, (uint16_t)greeting->purpose);
    bytes[34] = (uint8_t)greeting->from.party;
    bytes[35] = (uint8_t)greeting->to.party;
    far_put_le64(bytes + 40, greeting->from.id);
    far_put_le64(bytes + 48, greeting->to.id);
    far_put_le64(bytes + 56, greeting->incarnation.tag);
}

static bool is_party(uint8_t party)
{
    return party == FAR_PARTY_SERVER || party == FAR_PARTY_NODE;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

int far_greeting_decode(const uint8_t bytes[FAR_GREETING_BYTES], struct far_greeting *ret_greeting,
                        struct far_error *err)
{
    if (memcmp(bytes, magic, sizeof magic) != 0) {
        return far_fail(err, FAR_INVALID, "the first bytes are not a Farshore greeting");
    }
    if (far_get_le16(bytes + 4) != VERSION) {
        return far_fail(err, FAR_INVALID, "greeting of version %u; this program speaks version %u",
                        (unsigned)far_get_le16(bytes + 4), (unsigned)VERSION);
    }
    uint16_t verdict = far_get_le16(bytes + 6);
    uint16_t purpose = far_get_le16(bytes + 32);
    if (verdict > FAR_VERDICT_MAX || purpose < FAR_PURPOSE_RAFT || purpose > FAR_PURPOSE_DATA || !is_party(bytes[34]) ||
        !is_party(bytes[35]) || far_get_le64(bytes + 40) == 0 || !is_zero(bytes + 36, 4)) {
        return far_fail(err, FAR_INVALID, "greeting with a value out of range");
    }
    ret_greeting->verdict = (enum far_verdict)verdict;
    memcpy(ret_greeting->cluster_uuid, bytes + 8, 16);
    ret_greeting->incarnation = (struct far_incarnation_id){far_get_le64(bytes + 24), far_get_le64(bytes + 56)};
    ret_greeting->purpose = (enum far_purpose)purpose;
    ret_greeting->from = (struct far_peer){.party = bytes[34], .id = far_get_le64(bytes + 40)};
    ret_greeting->to = (struct far_peer){.party = bytes[35], .id = far_get_le64(bytes + 48)};
    return 0;
}

/* Who may dial whom for what. */
static bool purpose_fits(const struct far_greeting *dialer)
{
    switch (dialer->purpose) {
    case FAR_PURPOSE_RAFT:
        return dialer->from.party == FAR_PARTY_SERVER && dialer->to.party == FAR_PARTY_SERVER;
    case FAR_PURPOSE_LINK:
        return dialer->from.party == FAR_PARTY_NODE && dialer->to.party == FAR_PARTY_SERVER;
    case FAR_PURPOSE_DATA:
        return dialer->from.party == FAR_PARTY_NODE && dialer->to.party == FAR_PARTY_NODE;
    }
    return false;
}

static bool incarnation_equal(struct far_incarnation_id a, struct far_incarnation_id b)
{
    return a.epoch == b.epoch && a.tag == b.tag;
}

static bool peer_equal(struct far_peer a, struct far_peer b)
{
    return a.party == b.party && a.id == b.id;
}

enum far_verdict far_greeting_judge(const struct far_greeting *self, const struct far_greeting *dialer,
                                    struct far_peer certificate)
{
    if (memcmp(self->cluster_uuid, dialer->cluster_uuid, sizeof self->cluster_uuid) != 0) {
        return FAR_VERDICT_OTHER_CLUSTER;
    }
    if (!incarnation_equal(self->incarnation, dialer->incarnation)) {
        return FAR_VERDICT_OTHER_INCARNATION;
    }
    if (!peer_equal(certificate, dialer->from)) {
        return FAR_VERDICT_OTHER_SENDER;
    }
    if (dialer->to.party != self->from.party || (dialer->to.id != 0 && dialer->to.id != self->from.id)) {
        return FAR_VERDICT_OTHER_RECEIVER;
    }
    return purpose_fits(dialer) ? FAR_VERDICT_WELCOME : FAR_VERDICT_OTHER_PURPOSE;
}

int far_greeting_check_answer(const struct far_greeting *self, const struct far_greeting *answer,
                              struct far_peer certificate, struct far_error *err)
{
    if (answer->verdict != FAR_VERDICT_WELCOME) {
        return far_greeting_refused(answer->verdict, true, certificate, err);
    }
    if (memcmp(self->cluster_uuid, answer->cluster_uuid, sizeof self->cluster_uuid) != 0) {
        return far_greeting_refused(FAR_VERDICT_OTHER_CLUSTER, true, certificate, err);
    }
    if (!incarnation_equal(self->incarnation, answer->incarnation)) {
        return far_greeting_refused(FAR_VERDICT_OTHER_INCARNATION, true, certificate, err);
    }
    if (!peer_equal(answer->from, certificate) || !peer_equal(answer->to, self->from) ||
        answer->purpose != self->purpose) {
        return far_fail(err, FAR_DENIED, "the answer to the greeting does not fit the certificate or the question");
    }
    return 0;
}

int far_greeting_refused(enum far_verdict verdict, bool is_dialer, struct far_peer peer, struct far_error *err)
{
    static const char *const reasons[] = {
        [FAR_VERDICT_NONE] = "no verdict came",
        [FAR_VERDICT_WELCOME] = "an unexpected verdict came",
        [FAR_VERDICT_OTHER_CLUSTER] = "it belongs to another cluster",
        [FAR_VERDICT_OTHER_INCARNATION] = "it belongs to another incarnation of the cluster",
        [FAR_VERDICT_OTHER_SENDER] = "the certificate names somebody else than the greeting",
        [FAR_VERDICT_OTHER_RECEIVER] = "somebody else was wanted at this address",
        [FAR_VERDICT_OTHER_PURPOSE] = "what was asked is not served here",
        [FAR_VERDICT_OTHER_KEY] = "the key of the certificate is not the one that joined the cluster",
    };
    char name[FAR_PEER_TEXT_MAX];
    far_peer_print(peer, name);
    return far_fail(err, FAR_DENIED, is_dialer ? "refused by %s: %s" : "refused %s: %s", name,
                    (unsigned)verdict <= FAR_VERDICT_MAX ? reasons[verdict] : "unknown verdict");
}
