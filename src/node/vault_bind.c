/* farshore-node vault bind|attach|store: vaults on an object store (docs/OBJECT_STORE.md), while no node runs on them.
 *
 *   vault bind --vault DIR --store FILE      from now on its packs go there; what it has goes now
 *   vault attach --vault DIR --store FILE [--uuid UUID] [--read-only | --take-over] [--key FINGERPRINT | --key FILE] [--node DIR]
 *   vault store --store FILE                 which vaults are there
 *   vault store --vault DIR                  how much of this one is */
#include "dataplane/vault_store.h"
#include "dataplane/vault_trust.h"
#include "base/bytes.h"
#include "base/date.h"
#include "base/file.h"
#include "node/node.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

/* ---- attach ---- */

enum { KEY_FILE_MAX = 4096 };
enum { OPT_VAULT, OPT_STORE, OPT_UUID, OPT_KEY, OPT_NODE, OPT_COUNT };

/* A fingerprint, or a file that begins with one. */
static int read_fingerprint(const char *text, uint8_t ret_fingerprint[32], struct far_error *err)
{
    struct far_buf file;
    if (far_hex_decode(text, strlen(text), ret_fingerprint, 32)) {
        return 0;
    }
    far_buf_init(&file, KEY_FILE_MAX);
    int rc = far_file_read(text, &file, NULL);
    bool is_good = rc == 0 && file.len >= 64 && (file.len == 64 || file.data[64] == '\n' || file.data[64] == ' ') &&
                   far_hex_decode((const char *)file.data, 64, ret_fingerprint, 32);
    far_buf_done(&file);
    return is_good ? 0
                   : far_fail(err, FAR_INVALID, "--key: '%s' is neither a fingerprint (64 digits) nor a file that begins with one", text);
}

/* The folder of a node in which the vault is; false: in none. */
static bool node_around(const char *vault_dir, char ret_node_dir[FAR_NODE_PATH_MAX])
{
    char path[FAR_NODE_PATH_MAX + 32];
    int n = snprintf(ret_node_dir, FAR_NODE_PATH_MAX, "%s", vault_dir);
    if (n < 0 || n >= FAR_NODE_PATH_MAX) {
        return false;
    }
    for (n = (int)strlen(ret_node_dir); n > 1 && ret_node_dir[n - 1] == '/'; n--) {
        ret_node_dir[n - 1] = '\0';
    }
    char *slash = strrchr(ret_node_dir, '/');
    snprintf(slash != NULL ? slash + (slash == ret_node_dir) : ret_node_dir, 2, "%s", slash != NULL ? "" : ".");
    far_node_path(ret_node_dir, "config", path);
    return access(path, F_OK) == 0;
}

/* Who says which keys are believed: the operator, or the log of the cluster, as a node heard it. */
static int find_trust(const char *const values[OPT_COUNT], struct far_store_attach *what, struct far_error *err)
{
    char around[FAR_NODE_PATH_MAX];
    uint8_t uuid[16];
    if (values[OPT_KEY] != NULL) {
        what->key_said_by = "--key";
        return read_fingerprint(values[OPT_KEY], what->fingerprint, err);
    }
    const char *node = values[OPT_NODE] != NULL ? values[OPT_NODE] : node_around(values[OPT_VAULT], around) ? around : NULL;
    bool known = node != NULL && far_hex_decode(what->uuid, strlen(what->uuid), uuid, 16) &&
                 far_vault_trust_find(node, uuid, what->fingerprint);
    what->key_said_by = known ? "the log of the cluster" : NULL;
    return values[OPT_NODE] == NULL || known
               ? 0
               : far_fail(err, FAR_NOT_FOUND, "node '%s' has not heard from the cluster which keys vault %s has", node, what->uuid);
}

static void print_trust(const struct far_store_attached *attached)
{
    static const char *const words[] = {
        [FAR_STORE_FIRST_USE] = ("TRUSTED ON FIRST USE: nobody said which keys this vault has. Compare them with what the cluster shows "
                                 "(farshore node show), or with what was printed when the vault was attached before"),
        [FAR_STORE_AS_BEFORE] = "as this folder was attached with before",
        [FAR_STORE_AS_SAID] = "as was said",
    };
    char text[FAR_FINGERPRINT_TEXT];
    far_hex_encode(attached->there, 32, text);
    printf("keys %s, %s\n", text, words[attached->trust]);
    if (memcmp(attached->there, attached->here, 32) != 0) {
        far_hex_encode(attached->here, 32, text);
        printf("from now on it has a key of its own: keys %s\n", text);
    }
}

int far_vault_attach_cli(int argc, char **argv, bool read_only, bool take_over, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--store", "--uuid", "--key", "--node", NULL};
    const char *values[OPT_COUNT];
    struct far_objects_options options;
    struct far_store_attach what = {.read_only = read_only, .take_over = take_over};
    struct far_store_attached attached;
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? far_vault_cli_need(names, values, 2, err) : rc;
    rc = rc == 0 && read_only && take_over ? far_fail(err, FAR_INVALID, "--read-only or --take-over, not both") : rc;
    if (rc == 0 && values[OPT_UUID] != NULL && strlen(values[OPT_UUID]) != 32) {
        rc = far_fail(err, FAR_INVALID, "'%s' is not a uuid of 32 digits", values[OPT_UUID]);
    }
    rc = rc == 0 ? read_store(values[OPT_STORE], &options, err) : rc;
    if (rc == 0 && values[OPT_UUID] != NULL) {
        memcpy(what.uuid, values[OPT_UUID], sizeof what.uuid);
    } else if (rc == 0) {
        rc = far_vault_store_only(&options, what.uuid, err);
    }
    rc = rc == 0 ? find_trust(values, &what, err) : rc;
    rc = rc == 0 ? far_vault_store_attach(values[OPT_VAULT], &options, &what, &attached, err) : rc;
    if (rc == 0) {
        printf("vault %s in '%s': %" PRIu64 " points, %" PRIu64 " packs with %" PRIu64 " bytes", attached.uuid, values[OPT_VAULT],
               attached.points, attached.packs, attached.pack_bytes);
        printf(read_only ? ", to read only\n" : ", epoch %" PRIu64 "%s%s\n", attached.epoch,
               attached.former_holder[0] != '\0' ? ", taken from " : "", attached.former_holder);
        if (attached.hidden > 0) {
            printf("%" PRIu64 " objects of it are hidden by delete markers, and were taken from behind them: somebody deleted what the "
                   "vault needs\n", attached.hidden);
        }
        print_trust(&attached);
    }
    return rc;
}

/* ---- what is there ---- */

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
    struct far_vault_keys keys;
    uint8_t fingerprint[32];
    char text[FAR_FINGERPRINT_TEXT];
    int rc = far_vault_cli_open(dir, FAR_VAULT_READ, NULL, &vault, err);
    if (rc != 0) {
        return rc;
    }
    far_vault_store_state(vault, &state);
    far_vault_close(vault);
    rc = far_vault_keys_read(dir, &keys, err);
    if (rc != 0) {
        return rc;
    }
    far_vault_keys_fingerprint(&keys, keys.count, fingerprint);
    far_hex_encode(fingerprint, 32, text);
    printf("keys %s\n", text);
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
