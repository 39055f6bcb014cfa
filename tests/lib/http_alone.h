/* Test helper: the HTTPS part of the API without a server behind it, with the certificate of server 1 of made_pki.h. */
#ifndef FAR_TESTS_LIB_HTTP_ALONE_H
#define FAR_TESTS_LIB_HTTP_ALONE_H

#include "api/http.h"
#include "made_pki.h"

#include <stdio.h>
#include <stdlib.h>

/* On a free port of 127.0.0.1, bounded as the config says, whose address and paths are set here. NULL: it failed, and was said.
 * The caller's, to be freed before the pki's folder is removed. */
static inline struct far_http *far_test_http_start(const struct far_test_pki *pki, struct far_http_config config,
                                                   const struct far_http_callbacks *callbacks)
{
    char certificate[512], key[512];
    struct far_error err = {0};
    struct far_http *http = NULL;
    snprintf(certificate, sizeof certificate, "%s/server-1.crt", pki->dir);
    snprintf(key, sizeof key, "%s/server-1.key", pki->dir);
    config.address = "127.0.0.1:0";
    config.certificate_path = certificate;
    config.key_path = key;
    int rc = far_http_new(&config, callbacks, NULL, &http, &err);
    rc = rc != 0 ? rc : far_http_start(http, &err);
    if (rc != 0) {
        fprintf(stderr, "%s\n", err.message);
        return NULL;
    }
    return http;
}

/* The folder of the pki goes with what lies there. */
static inline int far_test_pki_remove(const struct far_test_pki *pki)
{
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", pki->dir);
    return system(command);
}

#endif
