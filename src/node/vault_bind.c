/* farshore-node vault bind|attach|store: vaults on an object store (docs/OBJECT_STORE.md), while no node runs on them.
 *
 *   vault bind --vault DIR --store FILE      from now on its packs go there; what it has goes now
 *   vault attach --vault DIR --store FILE [--uuid UUID] [--read-only | --take-over]
 *   vault store --store FILE                 which vaults are there
 *   vault store --vault DIR                  how much of this one is */
#include "dataplane/vault_store.h"
#include "base/date.h"
#include "node/node.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int read_store(const char *path, struct far_objects_options *ret_options, struct far_error *err)
{
    *ret_options = (struct far_objects_options){0};
    int rc = far_objects_options_read(path, ret_options, err);
    return rc == FAR_NOT_FOUND ? far_fail(err, FAR_INVALID, "there is no file '%s'", path) : rc;
}

int far_vault_bind_cli(int argc, char **argv, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--store", NULL};
    const char *values[2];
    struct far_objects_options options;
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? far_vault_cli_need(names, values, 2, err) : rc;
    rc = rc == 0 ? read_store(values[1], &options, err) : rc;
    rc = rc == 0 ? far_vault_store_bind(values[0], &options, true, err) : rc;
    if (rc == 0) {
        printf("vault '%s' is on %s, bucket '%s', with all that it has\n", values[0], options.endpoint, options.bucket);
    }
    return rc;
}

int far_vault_attach_cli(int argc, char **argv, bool read_only, bool take_over, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--store", "--uuid", NULL};
    const char *values[3];
    struct far_objects_options options;
    struct far_store_attach what = {.read_only = read_only, .take_over = take_over};
    struct far_store_attached attached;
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? far_vault_cli_need(names, values, 2, err) : rc;
    rc = rc == 0 && read_only && take_over ? far_fail(err, FAR_INVALID, "--read-only or --take-over, not both") : rc;
    if (rc == 0 && values[2] != NULL && strlen(values[2]) != 32) {
        rc = far_fail(err, FAR_INVALID, "'%s' is not a uuid of 32 digits", values[2]);
    }
    rc = rc == 0 ? read_store(values[1], &options, err) : rc;
    if (rc == 0 && values[2] != NULL) {
        memcpy(what.uuid, values[2], sizeof what.uuid);
    }
    rc = rc == 0 ? far_vault_store_attach(values[0], &options, &what, &attached, err) : rc;
    if (rc == 0) {
        printf("vault %s in '%s': %" PRIu64 " points, %" PRIu64 " packs with %" PRIu64 " bytes", attached.uuid, values[0],
               attached.points, attached.packs, attached.pack_bytes);
        printf(read_only ? ", to read only\n" : ", epoch %" PRIu64 "%s%s\n", attached.epoch,
               attached.former_holder[0] != '\0' ? ", taken from " : "", attached.former_holder);
    }
    return rc;
}

static int print_vault(void *arg, const char *uuid, const char *holder, uint64_t since_ms, struct far_error *err)
{
    char when[FAR_DATE_MAX];
    (void)arg;
    (void)err;
    if (holder[0] == '\0') {
        printf("%s  nobody's\n", uuid);
    } else {
        printf("%s  %s, since %s\n", uuid, holder, far_date_text(since_ms, when));
    }
    return 0;
}

static int print_state(const char *dir, struct far_error *err)
{
    struct far_vault *vault = NULL;
    struct far_store_state state;
    int rc = far_vault_cli_open(dir, FAR_VAULT_READ, NULL, &vault, err);
    if (rc != 0) {
        return rc;
    }
    far_vault_store_state(vault, &state);
    far_vault_close(vault);
    if (!state.is_on_store) {
        printf("the vault is in its folder alone\n");
        return 0;
    }
    printf("%" PRIu64 " packs with %" PRIu64 " bytes are in the store, %" PRIu64 " with %" PRIu64 " bytes only there; %" PRIu64
           " complete packs wait\n", state.packs_up, state.bytes_up, state.packs_away, state.bytes_away, state.packs_waiting);
    return 0;
}

int far_vault_store_cli(int argc, char **argv, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--store", NULL};
    const char *values[2];
    struct far_objects_options options;
    int rc = far_node_options(argc, argv, names, values, err);
    if (rc == 0 && (values[0] != NULL) == (values[1] != NULL)) {
        rc = far_fail(err, FAR_INVALID, "--vault or --store");
    }
    if (rc == 0 && values[0] != NULL) {
        return print_state(values[0], err);
    }
    rc = rc == 0 ? read_store(values[1], &options, err) : rc;
    return rc == 0 ? far_vault_store_list(&options, print_vault, NULL, err) : rc;
}
