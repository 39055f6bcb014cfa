/* Test helper: see made_pki.h. */
#include "made_pki.h"

#include "base/assert.h"
#include "base/file.h"
#include "net/pki.h"

#include <dirent.h>
#include <inttypes.h>
#include <unistd.h>

/* Plenty for the paths below. */
enum { PATH_BYTES = 512 };

static void must(int rc, const struct far_error *err)
{
    if (rc != 0) {
        fprintf(stderr, "test pki: %s\n", err->message);
        abort();
    }
}

static void path_of(const struct far_test_pki *pki, const char *name, const char *suffix, char *path)
{
    snprintf(path, PATH_BYTES, "%s/%s%s", pki->dir, name, suffix);
}

static void write_file(const struct far_test_pki *pki, const char *name, const char *suffix, struct far_slice data,
                       int mode)
{
    struct far_error err;
    char path[PATH_BYTES];
    path_of(pki, name, suffix, path);
    must(far_file_replace(path, data.data, data.len, mode, &err), &err);
}

static void read_file(const struct far_test_pki *pki, const char *name, const char *suffix, struct far_buf *buf)
{
    struct far_error err;
    char path[PATH_BYTES];
    path_of(pki, name, suffix, path);
    must(far_file_read(path, buf, &err), &err);
}

static void write_certificate(const struct far_test_pki *pki, const char *name, struct far_slice der)
{
    struct far_error err;
    struct far_buf pem;
    far_buf_init(&pem, 2 * FAR_PKI_BYTES_MAX);
    must(far_pki_der_to_pem(der, &pem, &err), &err);
    write_file(pki, name, ".crt", far_buf_slice(&pem), 0644);
    far_buf_done(&pem);
}

void far_test_pki_init(struct far_test_pki *pki, const char *dir, uint8_t cluster_byte)
{
    struct far_error err;
    struct far_buf key;
    struct far_buf der;
    snprintf(pki->dir, sizeof pki->dir, "%s", dir);
    memset(pki->cluster_uuid, cluster_byte, sizeof pki->cluster_uuid);
    pki->incarnation.epoch = 1;
    far_buf_init(&key, FAR_PKI_BYTES_MAX);
    far_buf_init(&der, FAR_PKI_BYTES_MAX);
    must(far_pki_key_make(&key, &err), &err);
    must(far_pki_ca_make(far_buf_slice(&key), "test", &der, &err), &err);
    write_file(pki, "ca", ".key", far_buf_slice(&key), 0600);
    write_certificate(pki, "ca", far_buf_slice(&der));
    far_secret_done(&key);
    far_buf_done(&der);
}

static void name_of(enum far_party party, uint64_t id, char *name, size_t room)
{
    snprintf(name, room, "%s-%" PRIu64, party == FAR_PARTY_SERVER ? "server" : "node", id);
}

void far_test_pki_identity(struct far_test_pki *pki, enum far_party party, uint64_t id)
{
    static const char *const hosts[] = {"127.0.0.1", "::1", "localhost"};
    struct far_error err;
    char name[64];
    struct far_buf ca_key;
    struct far_buf ca_pem;
    struct far_buf ca_der;
    struct far_buf key;
    struct far_buf request;
    struct far_buf der;
    struct far_buf *const all[] = {&ca_key, &ca_pem, &ca_der, &key, &request, &der};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        far_buf_init(all[i], 2 * FAR_PKI_BYTES_MAX);
    }
    name_of(party, id, name, sizeof name);
    read_file(pki, "ca", ".key", &ca_key);
    read_file(pki, "ca", ".crt", &ca_pem);
    must(far_pki_pem_to_der(far_buf_slice(&ca_pem), &ca_der, &err), &err);
    must(far_pki_key_make(&key, &err), &err);
    must(far_pki_request_make(far_buf_slice(&key), &request, &err), &err);
    must(far_pki_sign(far_buf_slice(&ca_key), far_buf_slice(&ca_der), far_buf_slice(&request),
                      (struct far_peer){.party = party, .id = id}, hosts, 3, &der, &err),
         &err);
    write_file(pki, name, ".key", far_buf_slice(&key), 0600);
    write_certificate(pki, name, far_buf_slice(&der));
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        far_secret_done(all[i]);
    }
}

struct far_net *far_test_pki_net(struct far_test_pki *pki, enum far_party party, uint64_t id)
{
    struct far_error err;
    struct far_net *net = NULL;
    char name[64];
    char ca[PATH_BYTES];
    char certificate[PATH_BYTES];
    char key[PATH_BYTES];
    name_of(party, id, name, sizeof name);
    path_of(pki, "ca", ".crt", ca);
    path_of(pki, name, ".crt", certificate);
    path_of(pki, name, ".key", key);
    if (access(certificate, R_OK) != 0) {
        far_test_pki_identity(pki, party, id);
    }
    struct far_net_config config = {
        .self = {.party = party, .id = id},
        .incarnation = pki->incarnation,
        .ca_path = ca,
        .certificate_path = certificate,
        .key_path = key,
    };
    memcpy(config.cluster_uuid, pki->cluster_uuid, sizeof config.cluster_uuid);
    must(far_net_new(&config, &net, &err), &err);
    return net;
}

void far_test_pki_done(struct far_test_pki *pki)
{
    DIR *dir = opendir(pki->dir);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);
        bool ours = len > 4 && (strcmp(entry->d_name + len - 4, ".key") == 0 ||
                                strcmp(entry->d_name + len - 4, ".crt") == 0);
        if (ours) {
            unlinkat(dirfd(dir), entry->d_name, 0);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    rmdir(pki->dir);
}
