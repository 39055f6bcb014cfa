/* Addresses of networks as people write them: IPv4 with dots, IPv6 with colons (RFC 4291, without zones and without dots inside).
 * Pure, any thread. */
#ifndef FAR_FSM_IP_H
#define FAR_FSM_IP_H

#include "base/bytes.h"

enum { FAR_IP4_BYTES = 4, FAR_IP6_BYTES = 16 };

struct far_ip {
    uint8_t bytes[FAR_IP6_BYTES];
    size_t len; /* FAR_IP4_BYTES or FAR_IP6_BYTES */
};

bool far_ip_parse(struct far_slice text, struct far_ip *ret_ip);
/* "10.1.0.0/16": no bit is set behind the prefix, which is neither 0 nor a single address. */
bool far_subnet_parse(struct far_slice text, struct far_ip *ret_ip, unsigned *ret_prefix);
/* Of one family, and equal in so many leading bits? */
bool far_ip_same_subnet(const struct far_ip *a, const struct far_ip *b, unsigned prefix);

#endif
