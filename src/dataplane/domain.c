/* Dedup domains: see domain.h. */
#include "dataplane/domain_private.h"

#include "base/file.h"
#include "net/seal.h"

#include <inttypes.h>
#include <stdio.h>

void far_domain_id(const struct far_domain *domain, const struct far_hash256 *hash, struct far_hash256 *ret_id)
{
    if (domain == NULL) {
        *ret_id = *hash;
    } else {
        far_id_key_id(&domain->ids, hash, ret_id);
    }
}

uint16_t far_domain_number(const struct far_domain *domain)
{
    return domain != NULL ? domain->number : 0;
}

void far_domain_uuid(const struct far_domain *domain, uint8_t ret_uuid[16])
{
    if (domain != NULL) {
        memcpy(ret_uuid, domain->uuid, 16);
    } else {
        memset(ret_uuid, 0, 16);
    }
}

const struct far_id_key *far_domain_id_key(const struct far_domain *domain)
{
    return domain != NULL ? &domain->ids : NULL;
}

/* The keys of one domain, as a node passes them on; text ends with a 0. */
static int open_with_keys(struct far_vault *vault, const char *text, struct far_error *err)
{
    struct far_domain_keys keys = {.generation = 0};
    const struct far_domain *domain;
    char uuid[33], secret[65], key[65], recovery[65];
    int fields = sscanf(text, "%32s %64s %64s %" SCNu32 " %64s %63s", uuid, secret, key, &keys.generation, recovery, keys.name);
    keys.has_recovery_key = fields == 6 && strcmp(recovery, "-") != 0;
    bool good = fields == 6 && far_hex_decode(uuid, strlen(uuid), keys.uuid, 16) &&
                far_hex_decode(secret, strlen(secret), keys.secret, 32) &&
                far_hex_decode(key, strlen(key), keys.key, 32) && keys.generation > 0 &&
                (!keys.has_recovery_key || far_hex_decode(recovery, strlen(recovery), keys.recovery_public, 32));
    int rc = good ? far_vault_domain_open(vault, &keys, &domain, err)
                  : far_fail(err, FAR_INVALID, "the keys of a domain are not well formed");
    explicit_bzero(&keys, sizeof keys);
    explicit_bzero(secret, sizeof secret);
    explicit_bzero(key, sizeof key);
    return rc;
}

int far_vault_unlock_from(struct far_vault *vault, const char *recovery_key_file, struct far_error *err)
{
    enum { FILE_MAX = 4096 };
    uint8_t recovery_private[32];
    struct far_buf text;
    if (recovery_key_file == NULL) {
        return 0;
    }
    far_buf_init(&text, FILE_MAX);
    int rc = far_file_read(recovery_key_file, &text, err);
    while (rc == 0 && text.len > 0 && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == '\r')) {
        text.len--;
    }
    rc = rc == 0 ? far_buf_append(&text, "", 1) : rc;
    if (rc == 0 && strncmp((const char *)text.data, FAR_DOMAIN_KEYS_LINE, sizeof FAR_DOMAIN_KEYS_LINE - 1) == 0) {
        rc = open_with_keys(vault, (const char *)text.data + sizeof FAR_DOMAIN_KEYS_LINE - 1, err);
    } else {
        rc = rc == 0 ? far_recovery_key_parse((const char *)text.data, text.len - 1, recovery_private, err) : rc;
        rc = rc == 0 ? far_vault_domains_recover(vault, recovery_private, err) : rc;
    }
    if (rc != 0) {
        far_error_context(err, "use the recovery key in '%s'", recovery_key_file);
    }
    if (text.data != NULL) {
        explicit_bzero(text.data, text.cap);
    }
    explicit_bzero(recovery_private, sizeof recovery_private);
    far_buf_done(&text);
    return rc;
}
