/* Test helper: a CA and identities of servers and nodes in a folder, made with net/pki.h.
 *
 * Files: <dir>/ca.key, <dir>/ca.crt, and for each identity <dir>/<party>-<id>.key and .crt (party: server, node). Aborts the
 * test program if anything fails. */
#ifndef FAR_TESTS_LIB_MADE_PKI_H
#define FAR_TESTS_LIB_MADE_PKI_H

#include "net/net.h"

struct far_test_pki {
    char dir[256];
    uint8_t cluster_uuid[16];
    struct far_incarnation_id incarnation;
};

/* dir exists; cluster_byte fills the cluster's uuid; the epoch is 1. */
void far_test_pki_init(struct far_test_pki *pki, const char *dir, uint8_t cluster_byte);
/* The network of one identity, whose certificate is made if it is not there (hosts: 127.0.0.1, ::1, localhost). */
struct far_net *far_test_pki_net(struct far_test_pki *pki, enum far_party party, uint64_t id);
/* Only the files. */
void far_test_pki_identity(struct far_test_pki *pki, enum far_party party, uint64_t id);
/* Removes the files that were made, and the folder. */
void far_test_pki_done(struct far_test_pki *pki);

#endif
