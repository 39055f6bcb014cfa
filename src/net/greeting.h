/* The greeting: the first bytes inside TLS, both ways.
 *
 * The dialer says who it is, whom it wants, to which cluster and incarnation it belongs and what for; the listener answers
 * with its own greeting and a verdict. Nothing else is sent or read before the verdict "welcome". 64 bytes, little
 * endian: magic "FARG", version u16 = 0, verdict u16 (0 from the dialer), cluster uuid 16, incarnation epoch u64,
 * purpose u16, from party u8, to party u8, 4 zero bytes, from id u64, to id u64, incarnation tag u64. Pure, any thread. */
#ifndef FAR_NET_GREETING_H
#define FAR_NET_GREETING_H

#include "net/net.h"

enum { FAR_GREETING_BYTES = 64 };

enum far_verdict {
    FAR_VERDICT_NONE = 0, /* of the dialer's greeting */
    FAR_VERDICT_WELCOME = 1,
    FAR_VERDICT_OTHER_CLUSTER = 2,
    FAR_VERDICT_OTHER_INCARNATION = 3,
    FAR_VERDICT_OTHER_SENDER = 4,   /* the certificate names somebody else than `from` */
    FAR_VERDICT_OTHER_RECEIVER = 5, /* `to` is not who answers here */
    FAR_VERDICT_OTHER_PURPOSE = 6,  /* not served to this party or on this port */
    FAR_VERDICT_OTHER_KEY = 7,      /* the key of the certificate is not the one that is registered */
    FAR_VERDICT_MAX = FAR_VERDICT_OTHER_KEY,
};

struct far_greeting {
    enum far_verdict verdict;
    uint8_t cluster_uuid[16];
    struct far_incarnation_id incarnation;
    enum far_purpose purpose;
    struct far_peer from;
    struct far_peer to;
};

void far_greeting_encode(const struct far_greeting *greeting, uint8_t bytes[FAR_GREETING_BYTES]);
/* FAR_INVALID: not a greeting, of another version, or with a value out of range. */
int far_greeting_decode(const uint8_t bytes[FAR_GREETING_BYTES], struct far_greeting *ret_greeting,
                        struct far_error *err);
/* The listener's judgement of a dialer's greeting; certificate is whom the dialer's certificate names. */
enum far_verdict far_greeting_judge(const struct far_greeting *self, const struct far_greeting *dialer,
                                    struct far_peer certificate);
/* The dialer's check of the answer: 0 if welcome and the answer itself fits what was asked. self is what was sent. */
int far_greeting_check_answer(const struct far_greeting *self, const struct far_greeting *answer,
                              struct far_peer certificate, struct far_error *err);
/* FAR_DENIED with the verdict in words, as seen from the dialer (is_dialer) or the listener. */
int far_greeting_refused(enum far_verdict verdict, bool is_dialer, struct far_peer peer, struct far_error *err);

#endif
