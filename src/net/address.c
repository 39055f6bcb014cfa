/* Addresses: see address.h. */
#include "net/address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool port_is_good(const char *port)
{
    size_t len = strlen(port);
    return len > 0 && len <= 5 && strspn(port, "0123456789") == len && atoi(port) <= 65535;
}

int far_address_parse(const char *text, struct far_address *ret_address, struct far_error *err)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || !port_is_good(colon + 1)) {
        return far_fail(err, FAR_INVALID, "'%.300s' is not an address: host:port is expected", text);
    }
    const char *host = text;
    size_t len = (size_t)(colon - text);
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        host++;
        len -= 2;
    } else if (memchr(host, ':', len) != NULL) {
        return far_fail(err, FAR_INVALID, "'%.300s' is not an address: write an IPv6 host in brackets", text);
    }
    if (len == 0 || len >= FAR_HOST_MAX) {
        return far_fail(err, FAR_INVALID, "'%.300s' is not an address: its host is empty or too long", text);
    }
    memcpy(ret_address->host, host, len);
    ret_address->host[len] = '\0';
    memcpy(ret_address->port, colon + 1, strlen(colon + 1) + 1);
    return 0;
}

int far_address_print(const struct sockaddr *sa, socklen_t len, char *text, struct far_error *err)
{
    char host[FAR_HOST_MAX];
    char port[8];
    int rc = getnameinfo(sa, len, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    if (rc != 0) {
        return far_fail(err, FAR_IO, "print a socket's address: %s", gai_strerror(rc));
    }
    snprintf(text, FAR_ADDRESS_TEXT_MAX, sa->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return 0;
}
