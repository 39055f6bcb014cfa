/* The bytes of a manifest: see manifest.h and docs/FORMATS.md.
 *
 *   magic, version, length of the fields · the fields, from version 1 on extensions · public key · Ed25519 signature of
 *   all before it · XXH3 of all before it
 *
 * The decoder trusts no length: every field is taken through a cursor that knows what is left. */
#include "dataplane/manifest.h"

#include "base/hash.h"

#include <openssl/evp.h>
#include <stdlib.h>

enum { VERSION = 0, VERSION_EXTENDED = 1, EXTENSION_DOMAIN = 1, DOMAIN_BYTES = 16 + 2 };
/* From SKIPPED on: with a length of four bytes, for who knows it. */
enum { EXTENSION_SKIPPED = 128, EXTENSION_CONFIG = 128, EXTENSION_RECOVERY = 129 };
enum { HEAD_BYTES = 16, TAIL_BYTES = 32 + 64 + 8, NAME_MAX_BYTES = 63 };
static const char magic[8] = "FARMANI0";

static int append_le64(struct far_buf *buf, uint64_t value)
{
    uint8_t bytes[8];
    far_put_le64(bytes, value);
    return far_buf_append(buf, bytes, sizeof bytes);
}

static int append_name(struct far_buf *buf, const char *name)
{
    uint8_t len = (uint8_t)strnlen(name, NAME_MAX_BYTES);
    int rc = far_buf_append(buf, &len, 1);
    return rc != 0 ? rc : far_buf_append(buf, name, len);
}

static int append_disk(struct far_buf *buf, const struct far_manifest_disk *disk)
{
    int rc = append_le64(buf, disk->disk_index);
    rc = rc != 0 ? rc : append_le64(buf, disk->disk_id);
    rc = rc != 0 ? rc : append_le64(buf, disk->size_bytes);
    rc = rc != 0 ? rc : far_buf_append(buf, disk->root.bytes, 32);
    return rc != 0 ? rc : append_name(buf, disk->name);
}

static bool is_extended(const struct far_manifest *manifest)
{
    return manifest->domain_number != 0 || manifest->config_len + manifest->recovery_len != 0;
}

static int append_skipped(struct far_buf *buf, uint8_t type, const uint8_t *before, size_t before_len, const uint8_t *bytes, size_t len)
{
    uint8_t head[5] = {type};
    far_put_le32(head + 1, (uint32_t)(before_len + len));
    int rc = far_buf_append(buf, head, sizeof head);
    rc = rc == 0 ? far_buf_append(buf, before, before_len) : rc;
    return rc == 0 ? far_buf_append(buf, bytes, len) : rc;
}

static int append_extensions(const struct far_manifest *manifest, struct far_buf *buf)
{
    uint8_t bytes[2 + DOMAIN_BYTES] = {EXTENSION_DOMAIN, DOMAIN_BYTES};
    memcpy(bytes + 2, manifest->domain_uuid, 16);
    far_put_le16(bytes + 18, manifest->domain_number);
    int rc = manifest->domain_number != 0 ? far_buf_append(buf, bytes, sizeof bytes) : 0;
    if (rc == 0 && manifest->config_len != 0) {
        rc = append_skipped(buf, EXTENSION_CONFIG, manifest->config_sha256, 32, manifest->config, manifest->config_len);
    }
    if (rc == 0 && manifest->recovery_len != 0) {
        rc = append_skipped(buf, EXTENSION_RECOVERY, manifest->recovery, 0, manifest->recovery, manifest->recovery_len);
    }
    return rc;
}

static int append_fields(const struct far_manifest *manifest, struct far_buf *buf)
{
    const uint64_t numbers[] = {manifest->incarnation_epoch, manifest->plan_id,       manifest->plan_epoch,
                                manifest->workload_id,       manifest->point_id,      manifest->checkpoint_id,
                                manifest->job_id,            manifest->frozen_at_ms,  manifest->created_at_ms,
                                manifest->pack,              manifest->pack_offset,   manifest->fuzzy,
                                manifest->disk_count};
    int rc = far_buf_append(buf, manifest->vault_uuid, 16);
    rc = rc != 0 ? rc : far_buf_append(buf, manifest->cluster_uuid, 16);
    for (size_t i = 0; rc == 0 && i < sizeof numbers / sizeof numbers[0]; i++) {
        rc = append_le64(buf, numbers[i]);
    }
    rc = rc != 0 ? rc : append_name(buf, manifest->site);
    rc = rc != 0 ? rc : append_name(buf, manifest->plan);
    rc = rc != 0 ? rc : append_name(buf, manifest->workload);
    for (uint32_t i = 0; rc == 0 && i < manifest->disk_count; i++) {
        rc = append_disk(buf, &manifest->disks[i]);
    }
    return rc != 0 ? rc : append_extensions(manifest, buf);
}

static int check_values(const struct far_manifest *manifest, struct far_error *err)
{
    if (manifest->disk_count == 0 || manifest->disk_count > FAR_MANIFEST_DISKS_MAX) {
        return far_fail(err, FAR_INVALID, "a manifest of %u disks: must be 1 to %d", manifest->disk_count,
                        FAR_MANIFEST_DISKS_MAX);
    }
    if (manifest->config_len > FAR_CAPTURED_BYTES_MAX || manifest->recovery_len > FAR_MANIFEST_RECOVERY_MAX) {
        return far_fail(err, FAR_INVALID, "a manifest with too long a configuration");
    }
    for (uint32_t i = 0; i < manifest->disk_count; i++) {
        const struct far_manifest_disk *disk = &manifest->disks[i];
        if (disk->name[0] == '\0' || disk->size_bytes == 0 || disk->size_bytes > FAR_DISK_BYTES_MAX) {
            return far_fail(err, FAR_INVALID, "disk %u of a manifest has no name or an impossible size", i);
        }
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(disk->name, manifest->disks[j].name) == 0) {
                return far_fail(err, FAR_INVALID, "a manifest has two disks named '%.63s'", disk->name);
            }
        }
    }
    return 0;
}

int far_manifest_encode(const struct far_manifest *manifest, struct far_buf *buf, struct far_error *err)
{
    uint8_t head[HEAD_BYTES] = {0};
    size_t start = buf->len;
    int rc = check_values(manifest, err);
    if (rc != 0) {
        return rc;
    }
    memcpy(head, magic, 8);
    far_put_le32(head + 8, is_extended(manifest) ? VERSION_EXTENDED : VERSION);
    rc = far_buf_append(buf, head, sizeof head);
    rc = rc != 0 ? rc : append_fields(manifest, buf);
    if (rc == 0) {
        far_put_le32(buf->data + start + 12, (uint32_t)(buf->len - start - HEAD_BYTES));
        rc = far_buf_append(buf, manifest->public_key, 32);
    }
    if (rc != 0) {
        buf->len = start;
        return far_fail(err, FAR_LIMIT, "no room for a manifest");
    }
    return 0;
}

/* ---- decoding ---- */

struct cursor {
    const uint8_t *p;
    size_t left;
    bool good;
};

static const uint8_t *take(struct cursor *cursor, size_t len)
{
    static const uint8_t nothing[64];
    if (!cursor->good || cursor->left < len) {
        cursor->good = false;
        return nothing; /* len is at most 63 wherever the result is used without a look at good */
    }
    const uint8_t *p = cursor->p;
    cursor->p += len;
    cursor->left -= len;
    return p;
}

static uint64_t take_le64(struct cursor *cursor)
{
    return far_get_le64(take(cursor, 8));
}

static void take_name(struct cursor *cursor, char name[NAME_MAX_BYTES + 1])
{
    uint8_t len = take(cursor, 1)[0];
    cursor->good = cursor->good && len <= NAME_MAX_BYTES;
    const uint8_t *text = take(cursor, len);
    if (!cursor->good || memchr(text, '\0', len) != NULL) {
        cursor->good = false;
        return;
    }
    memcpy(name, text, len);
    name[len] = '\0';
}

static void take_numbers(struct cursor *cursor, struct far_manifest *manifest)
{
    manifest->incarnation_epoch = take_le64(cursor);
    manifest->plan_id = take_le64(cursor);
    manifest->plan_epoch = take_le64(cursor);
    manifest->workload_id = take_le64(cursor);
    manifest->point_id = take_le64(cursor);
    manifest->checkpoint_id = take_le64(cursor);
    manifest->job_id = take_le64(cursor);
    manifest->frozen_at_ms = take_le64(cursor);
    manifest->created_at_ms = take_le64(cursor);
    manifest->pack = take_le64(cursor);
    manifest->pack_offset = take_le64(cursor);
    uint64_t fuzzy = take_le64(cursor);
    uint64_t disks = take_le64(cursor);
    cursor->good = cursor->good && fuzzy <= 1 && disks >= 1 && disks <= FAR_MANIFEST_DISKS_MAX;
    manifest->fuzzy = fuzzy == 1;
    manifest->disk_count = cursor->good ? (uint32_t)disks : 0;
}

static void take_fields(struct cursor *cursor, struct far_manifest *manifest)
{
    memcpy(manifest->vault_uuid, take(cursor, 16), 16);
    memcpy(manifest->cluster_uuid, take(cursor, 16), 16);
    take_numbers(cursor, manifest);
    take_name(cursor, manifest->site);
    take_name(cursor, manifest->plan);
    take_name(cursor, manifest->workload);
    for (uint32_t i = 0; i < manifest->disk_count; i++) {
        struct far_manifest_disk *disk = &manifest->disks[i];
        disk->disk_index = take_le64(cursor);
        disk->disk_id = take_le64(cursor);
        disk->size_bytes = take_le64(cursor);
        memcpy(disk->root.bytes, take(cursor, 32), 32);
        take_name(cursor, disk->name);
    }
}

/* One that this program does not know, or what it knows; each at most once. */
static void take_skipped(struct cursor *cursor, struct far_manifest *manifest)
{
    const uint8_t *head = take(cursor, 5);
    size_t len = far_get_le32(head + 1);
    uint8_t type = head[0];
    const uint8_t *bytes = take(cursor, len);
    if (!cursor->good) {
        return;
    }
    if (type == EXTENSION_CONFIG) {
        cursor->good = manifest->config_len == 0 && len > 32 && len - 32 <= sizeof manifest->config;
    } else if (type == EXTENSION_RECOVERY) {
        cursor->good = manifest->recovery_len == 0 && len > 0 && len <= sizeof manifest->recovery;
    }
    if (cursor->good && type == EXTENSION_CONFIG) {
        memcpy(manifest->config_sha256, bytes, 32);
        manifest->config_len = (uint32_t)len - 32;
        memcpy(manifest->config, bytes + 32, len - 32);
    } else if (cursor->good && type == EXTENSION_RECOVERY) {
        manifest->recovery_len = (uint32_t)len;
        memcpy(manifest->recovery, bytes, len);
    }
}

/* Each a type, a length and so many bytes. One that is not known, below SKIPPED, may change what the manifest means. */
static void take_extensions(struct cursor *cursor, struct far_manifest *manifest)
{
    while (cursor->good && cursor->left > 0) {
        if (cursor->p[0] >= EXTENSION_SKIPPED) {
            take_skipped(cursor, manifest);
            continue;
        }
        const uint8_t *head = take(cursor, 2);
        cursor->good = cursor->good && head[0] == EXTENSION_DOMAIN && head[1] == DOMAIN_BYTES && manifest->domain_number == 0;
        const uint8_t *bytes = take(cursor, DOMAIN_BYTES);
        memcpy(manifest->domain_uuid, bytes, 16);
        manifest->domain_number = far_get_le16(bytes + 16);
        cursor->good = cursor->good && manifest->domain_number != 0;
    }
}

int far_manifest_decode(struct far_slice file, struct far_manifest *ret_manifest, struct far_error *err)
{
    if (file.len < HEAD_BYTES + TAIL_BYTES || file.len > FAR_MANIFEST_BYTES_MAX || memcmp(file.data, magic, 8) != 0) {
        return far_fail(err, FAR_CORRUPT, "not a manifest: wrong magic or length");
    }
    if (far_get_le64(file.data + file.len - 8) != far_hash64(file.data, file.len - 8)) {
        return far_fail(err, FAR_CORRUPT, "checksum of the manifest is wrong");
    }
    uint32_t version = far_get_le32(file.data + 8);
    if (version > VERSION_EXTENDED) {
        return far_fail(err, FAR_CORRUPT, "a manifest of version %u, this program knows %d", version, VERSION_EXTENDED);
    }
    struct far_manifest *manifest = calloc(1, sizeof *manifest);
    if (manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to read a manifest");
    }
    struct cursor cursor = {.p = file.data + HEAD_BYTES, .left = file.len - HEAD_BYTES - TAIL_BYTES, .good = true};
    cursor.good = far_get_le32(file.data + 12) == cursor.left;
    take_fields(&cursor, manifest);
    if (version == VERSION_EXTENDED) {
        take_extensions(&cursor, manifest);
    }
    int rc = 0;
    if (!cursor.good || cursor.left != 0 || check_values(manifest, NULL) != 0) {
        rc = far_fail(err, FAR_CORRUPT, "the fields of the manifest do not fit");
    } else {
        memcpy(manifest->public_key, file.data + file.len - TAIL_BYTES, 32);
        memcpy(manifest->signature, file.data + file.len - TAIL_BYTES + 32, 64);
        *ret_manifest = *manifest;
    }
    free(manifest);
    return rc;
}

/* ---- signing ---- */

int far_manifest_sign(struct far_manifest *manifest, const uint8_t seed[32], struct far_buf *buf,
                      struct far_error *err)
{
    uint8_t sum[8];
    size_t start = buf->len;
    size_t len = 32;
    int rc = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, 32);
    if (context == NULL || key == NULL || EVP_PKEY_get_raw_public_key(key, manifest->public_key, &len) != 1) {
        rc = far_fail(err, FAR_INTERNAL, "the key of the vault cannot be used");
    }
    if (rc == 0) {
        rc = far_manifest_encode(manifest, buf, err);
    }
    len = 64;
    if (rc == 0 && (EVP_DigestSignInit(context, NULL, NULL, NULL, key) != 1 ||
                    EVP_DigestSign(context, manifest->signature, &len, buf->data + start, buf->len - start) != 1)) {
        rc = far_fail(err, FAR_INTERNAL, "the manifest cannot be signed");
    }
    if (rc == 0 && far_buf_append(buf, manifest->signature, 64) != 0) {
        rc = far_fail(err, FAR_LIMIT, "no room for a manifest");
    }
    if (rc == 0) {
        far_put_le64(sum, far_hash64(buf->data + start, buf->len - start));
        rc = far_buf_append(buf, sum, 8) == 0 ? 0 : far_fail(err, FAR_LIMIT, "no room for a manifest");
    }
    EVP_PKEY_free(key);
    EVP_MD_CTX_free(context);
    buf->len = rc == 0 ? buf->len : start;
    return rc;
}

int far_manifest_verify(struct far_slice file, const uint8_t public_key[32], struct far_error *err)
{
    if (file.len < HEAD_BYTES + TAIL_BYTES) {
        return far_fail(err, FAR_CORRUPT, "not a manifest: too short");
    }
    const uint8_t *named = file.data + file.len - TAIL_BYTES;
    if (memcmp(named, public_key, 32) != 0) {
        return far_fail(err, FAR_CORRUPT, "the manifest is signed with the key of another vault");
    }
    int rc = 0;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, 32);
    if (context == NULL || key == NULL || EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) != 1) {
        rc = far_fail(err, FAR_LIMIT, "no memory to verify a manifest");
    } else if (EVP_DigestVerify(context, named + 32, 64, file.data, file.len - 64 - 8) != 1) {
        rc = far_fail(err, FAR_CORRUPT, "the signature of the manifest is wrong");
    }
    EVP_PKEY_free(key);
    EVP_MD_CTX_free(context);
    return rc;
}

static bool same_disk(const struct far_manifest_disk *a, const struct far_manifest_disk *b)
{
    return a->disk_index == b->disk_index && a->disk_id == b->disk_id && a->size_bytes == b->size_bytes &&
           far_hash256_equal(&a->root, &b->root) && strcmp(a->name, b->name) == 0;
}

/* A node that is older than the file `owner` of vaults left the cluster out. */
static bool same_cluster(const struct far_manifest *a, const struct far_manifest *b)
{
    static const uint8_t none[16];
    return memcmp(a->cluster_uuid, b->cluster_uuid, 16) == 0 || memcmp(a->cluster_uuid, none, 16) == 0 ||
           memcmp(b->cluster_uuid, none, 16) == 0;
}

bool far_manifest_same(const struct far_manifest *a, const struct far_manifest *b)
{
    bool same = memcmp(a->domain_uuid, b->domain_uuid, 16) == 0 && same_cluster(a, b) &&
                a->incarnation_epoch == b->incarnation_epoch &&
                a->plan_id == b->plan_id && a->plan_epoch == b->plan_epoch && a->workload_id == b->workload_id &&
                a->point_id == b->point_id && a->checkpoint_id == b->checkpoint_id && a->job_id == b->job_id &&
                a->frozen_at_ms == b->frozen_at_ms && a->fuzzy == b->fuzzy && a->disk_count == b->disk_count &&
                strcmp(a->plan, b->plan) == 0 && strcmp(a->site, b->site) == 0 &&
                strcmp(a->workload, b->workload) == 0;
    for (uint32_t i = 0; same && i < a->disk_count; i++) {
        same = same_disk(&a->disks[i], &b->disks[i]);
    }
    return same;
}
