/* farshore-node vault keys --vault DIR --recovery-key FILE --out FILE: the secrets of a vault's dedup domains, for a new cluster that
 * adopts the vault ('farshore domain adopt FILE'). Each domain's file is sealed anew so that the first order that brings its secret opens
 * it, as by `vault rekey`. The node must be stopped. Whoever has FILE can read what the domains hold. */
#include "base/file.h"
#include "dataplane/vault.h"
#include "node/node.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = FAR_DOMAIN_NAME_MAX + 1 + 32 + 1 + 64 + 1 };

static int add_line(struct far_vault *vault, const struct far_domain_info *info, struct far_buf *out, struct far_error *err)
{
    char line[LINE_BYTES + 1], uuid[33], hex[65];
    uint8_t secret[32];
    int rc = far_vault_domain_secret(vault, info->uuid, secret, err);
    if (rc == 0) {
        far_hex_encode(info->uuid, 16, uuid);
        far_hex_encode(secret, 32, hex);
        snprintf(line, sizeof line, "%s %s %s\n", info->name, uuid, hex);
        rc = far_buf_append_str(out, line) == 0 ? 0 : far_fail(err, FAR_LIMIT, "too many domains");
    }
    explicit_bzero(secret, sizeof secret);
    explicit_bzero(hex, sizeof hex);
    explicit_bzero(line, sizeof line);
    return rc;
}

static int write_keys(struct far_vault *vault, const char *path, size_t *ret_count, struct far_error *err)
{
    struct far_domain_info *infos = calloc(FAR_DOMAINS_MAX, sizeof *infos);
    struct far_buf out;
    size_t count = infos != NULL ? far_vault_domains(vault, infos, FAR_DOMAINS_MAX) : 0;
    int rc = infos != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory to list domains");
    *ret_count = 0;
    far_buf_init(&out, FAR_DOMAINS_MAX * (size_t)LINE_BYTES);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (infos[i].state == FAR_DOMAIN_UNLOCKED) {
            rc = add_line(vault, &infos[i], &out, err);
            *ret_count += rc == 0;
        }
    }
    rc = rc == 0 && *ret_count > 0 ? far_file_replace(path, out.data, out.len, 0600, err) : rc;
    if (out.len > 0) {
        explicit_bzero(out.data, out.len);
    }
    far_buf_done(&out);
    free(infos);
    return rc;
}

int far_vault_keys_cli(int argc, char **argv, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--recovery-key", "--out", NULL};
    const char *values[3];
    struct far_vault *vault = NULL;
    size_t count = 0;
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? far_vault_cli_need(names, values, 3, err) : rc;
    if (rc != 0) {
        return rc;
    }
    rc = far_vault_open(values[0], NULL, &vault, err);
    rc = rc == 0 ? far_vault_domains_reset(vault, values[1], &count, err) : rc;
    rc = rc == 0 ? write_keys(vault, values[2], &count, err) : rc;
    far_vault_close(vault);
    if (rc == 0 && count == 0) {
        return far_fail(err, FAR_NOT_FOUND, "the recovery key opens no domain of this vault");
    }
    if (rc == 0) {
        printf("the secrets of %zu domains are in '%s': 'farshore domain adopt %s' gives them to a cluster; remove the file then\n", count,
               values[2], values[2]);
    }
    return rc;
}
