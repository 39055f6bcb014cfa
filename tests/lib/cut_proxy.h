/* Test helper: a TCP proxy on loopback that cuts its connections: each after so many bytes, or all at once on request.
 * What passes is not looked at (it is TLS). One thread; abort on errors of set-up. */
#ifndef FAR_TESTS_LIB_CUT_PROXY_H
#define FAR_TESTS_LIB_CUT_PROXY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct cut_proxy {
    char address[64];       /* where it listens */
    _Atomic uint64_t quota; /* bytes that a connection may carry, both ways together; 0 = no end */
    _Atomic uint64_t cuts;  /* made so far */
    _Atomic uint64_t passed; /* bytes so far, of all connections */
    atomic_bool cut_now;    /* cut what is open, once */
    atomic_bool stop;
    int listen_fd;
    uint16_t target_port;
    pthread_t thread;
};

/* target: "127.0.0.1:port" */
void cut_proxy_start(struct cut_proxy *proxy, const char *target);
void cut_proxy_stop(struct cut_proxy *proxy);

#endif
