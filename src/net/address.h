/* Addresses as people write them: "host:port", "[2001:db8::1]:port". Pure, any thread. */
#ifndef FAR_NET_ADDRESS_H
#define FAR_NET_ADDRESS_H

#include "base/error.h"

#include <stddef.h>
#include <sys/socket.h>

enum { FAR_HOST_MAX = 254, FAR_ADDRESS_TEXT_MAX = 300 };

struct far_address {
    char host[FAR_HOST_MAX]; /* without brackets */
    char port[6];
};

/* FAR_INVALID: no port, a port beyond 65535, an empty or too long host. */
int far_address_parse(const char *text, struct far_address *ret_address, struct far_error *err);
/* "host:port" of a socket address; text has room for FAR_ADDRESS_TEXT_MAX bytes. */
int far_address_print(const struct sockaddr *sa, socklen_t len, char *text, struct far_error *err);

#endif
