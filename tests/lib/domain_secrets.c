/* Prints what nobody else may: the secret of each domain of a vault and its wrapping keys, in hexadecimal. For the test that looks for
 * them where they must not be.
 *
 *   domain_secrets VAULT RECOVERY-KEY-FILE */
#include "dataplane/domain_private.h"
#include "dataplane/vault_private.h"

#include <stdio.h>

static void print(const uint8_t bytes[32])
{
    char hex[65];
    far_hex_encode(bytes, 32, hex);
    puts(hex);
}

int main(int argc, char **argv)
{
    struct far_vault_options options = {.read_only = true};
    struct far_vault *vault = NULL;
    struct far_error err;
    if (argc != 3 || far_vault_open(argv[1], &options, &vault, &err) != 0 || far_vault_unlock_from(vault, argv[2], &err) != 0) {
        fprintf(stderr, "domain_secrets: %s\n", argc != 3 ? "a vault and the file of a recovery key are needed" : err.message);
        return 1;
    }
    for (size_t i = 0; i < vault->domain_count; i++) {
        const struct far_domain *domain = vault->domains[i];
        print(domain->secret);
        for (uint32_t k = 0; k < domain->key_count; k++) {
            print(domain->keys[k].key);
        }
    }
    far_vault_close(vault);
    return 0;
}
