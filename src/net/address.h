/* Addresses as people write them: "host:port", "[2001:db8::1]:port". Any thread. */
#ifndef FAR_NET_ADDRESS_H
#define FAR_NET_ADDRESS_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

enum { FAR_HOST_MAX = 254, FAR_ADDRESS_TEXT_MAX = 300 };

struct far_address {
    char host[FAR_HOST_MAX]; /* without brackets */
    char port[6];
};

/* FAR_INVALID: no port, a port beyond 65535, an empty or too long host. */
int far_address_parse(const char *text, struct far_address *ret_address, struct far_error *err);
/* Where a listener of that address listens: a name is looked up, which may block; the first of several. FAR_INVALID: not found. */
int far_address_to_listen(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_len, struct far_error *err);
/* May not both be listened on: the same port, and the same host or one that stands for all. */
bool far_address_overlaps(const struct sockaddr_storage *a, const struct sockaddr_storage *b);
/* "host:port" of a socket address; text has room for FAR_ADDRESS_TEXT_MAX bytes. */
int far_address_print(const struct sockaddr *sa, socklen_t len, char *text, struct far_error *err);

#endif
