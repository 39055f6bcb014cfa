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

int far_address_to_listen(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_len, struct far_error *err)
{
    struct far_address parsed;
    struct addrinfo *list = NULL;
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    int rc = far_address_parse(text, &parsed, err);
    if (rc != 0) {
        return rc;
    }
    rc = getaddrinfo(parsed.host, parsed.port, &hints, &list);
    if (rc != 0) {
        return far_fail(err, FAR_INVALID, "look up '%s': %s", parsed.host, gai_strerror(rc));
    }
    memset(ret_address, 0, sizeof *ret_address);
    memcpy(ret_address, list->ai_addr, list->ai_addrlen);
    *ret_len = list->ai_addrlen;
    freeaddrinfo(list);
    return 0;
}

/* The host's bytes; 0 of them stand for all hosts. */
static size_t host_of(const struct sockaddr_storage *sa, const void **ret_host, in_port_t *ret_port)
{
    static const uint8_t any[16];
    bool v6 = sa->ss_family == AF_INET6;
    size_t len = v6 ? 16 : 4;
    *ret_host = v6 ? (const void *)&((const struct sockaddr_in6 *)sa)->sin6_addr : &((const struct sockaddr_in *)sa)->sin_addr;
    *ret_port = v6 ? ((const struct sockaddr_in6 *)sa)->sin6_port : ((const struct sockaddr_in *)sa)->sin_port;
    return memcmp(*ret_host, any, len) == 0 ? 0 : len;
}

bool far_address_overlaps(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    const void *host_a, *host_b;
    in_port_t port_a, port_b;
    size_t len_a = host_of(a, &host_a, &port_a), len_b = host_of(b, &host_b, &port_b);
    return port_a == port_b && (len_a == 0 || len_b == 0 || (len_a == len_b && memcmp(host_a, host_b, len_a) == 0));
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
