/* The key that a server signs heads of the log with: the file sign.key of its folder. */
#include "base/buf.h"
#include "base/logging.h"
#include "net/sign.h"
#include "server/server.h"

#include <stdio.h>

static const char name[] = "sign.key";

int far_server_sign_key_save(const char *dir, const uint8_t private_key[32], struct far_error *err)
{
    return far_server_key_file_write(dir, name, private_key, err);
}

int far_server_sign_key_load(const char *dir, uint8_t ret_private[32], uint8_t ret_public[32], struct far_error *err)
{
    int rc = far_server_key_file_read(dir, name, ret_private, err);
    if (rc != FAR_NOT_FOUND) {
        return rc != 0 ? rc : far_sign_public(ret_private, ret_public, err);
    }
    rc = far_sign_keypair(ret_public, ret_private, err);
    rc = rc != 0 ? rc : far_server_sign_key_save(dir, ret_private, err);
    if (rc == 0) {
        far_logf(FAR_LEVEL_INFO, "server", "there was no key to sign the log with: made '%s/%s'", dir, name);
    }
    return rc;
}

int far_server_sign_key_print(const char *dir, struct far_error *err)
{
    uint8_t private_key[32], public_key[32];
    char hex[65];
    int rc = far_server_sign_key_load(dir, private_key, public_key, err);
    explicit_bzero(private_key, sizeof private_key);
    if (rc == 0) {
        far_hex_encode(public_key, sizeof public_key, hex);
        printf("signing key: %s\n"
               "It begins the trust in the new incarnation, to which no other key leads: give it with --key from now on, to\n"
               "farshore-verify beside the one that you had. Keep both.\n", hex);
    }
    return rc;
}
