/* Tags of an image's blocks: see block_tags.h; bytes in docs/FORMATS.md. */
#include "dataplane/block_tags.h"

#include "base/file.h"
#include "base/random.h"
#include "dataplane/domain.h"
#include "dataplane/id_key.h"
#include "dataplane/vault_private.h"
#include "net/keyed_box.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    VERSION = 1,
    RANDOM_BYTES = 32,
    HEADER_BYTES = 144,
    PROOF_BYTES = FAR_KEYED_BOX_OVERHEAD + 1, /* that who made the header had the key */
    PAGES_AT = 4096,
    PAGE_TAGS_BYTES = FAR_TAGS_OF_PAGE * sizeof(struct far_tag),
    PAGE_BYTES = PAGE_TAGS_BYTES + FAR_KEYED_BOX_OVERHEAD,
    KEY_BYTES = 16,
    PIECE_BYTES = 1024,
};
static const char magic[8] = "FARTAGS0";

/* One state of the file: pages of another cannot be put into it. */
struct generation {
    uint8_t name[RANDOM_BYTES];
    uint8_t key[32]; /* of its header and its pages */
    int fd;          /* -1: none */
};

struct far_block_tags {
    char path[FAR_DIR_MAX + 64];
    char path_new[FAR_DIR_MAX + 72];
    uint64_t disk_id;
    uint64_t size_bytes;
    uint8_t domain_uuid[16];
    uint8_t seed[RANDOM_BYTES]; /* the key's share that is in the file; stays, so that tags can be compared */
    uint8_t secret[32];
    uint8_t key[32]; /* of GMAC: the first half */
    struct generation before;
    struct generation now;
    _Atomic bool failed;
};

struct far_tag_maker {
    EVP_MAC_CTX *mac;
    struct far_tag zeroes;
};

/* ---- the file ---- */

static void encode_header(const struct far_block_tags *tags, const struct generation *generation, const struct far_hash256 *root,
                          uint8_t ret_bytes[HEADER_BYTES])
{
    memset(ret_bytes, 0, HEADER_BYTES);
    memcpy(ret_bytes, magic, sizeof magic);
    far_put_le32(ret_bytes + 8, VERSION);
    far_put_le64(ret_bytes + 16, tags->disk_id);
    far_put_le64(ret_bytes + 24, tags->size_bytes);
    memcpy(ret_bytes + 32, root->bytes, 32);
    memcpy(ret_bytes + 64, tags->domain_uuid, 16);
    memcpy(ret_bytes + 80, tags->seed, RANDOM_BYTES);
    memcpy(ret_bytes + 112, generation->name, RANDOM_BYTES);
}

static int derive_key(struct far_block_tags *tags, const struct far_domain *domain, struct far_error *err)
{
    static const uint8_t nothing[32];
    struct far_hmac_key plain;
    uint8_t info[sizeof "farshore block tags" - 1 + RANDOM_BYTES] = "farshore block tags"; /* longer than any hash: no id is made so */
    memcpy(info + sizeof info - RANDOM_BYTES, tags->seed, RANDOM_BYTES);
    far_hmac_key_init(&plain, nothing);
    far_hmac(domain != NULL ? &far_domain_id_key(domain)->id : &plain, info, sizeof info, tags->secret);
    return far_hkdf(tags->secret, far_slice("", 0), "farshore tags of blocks", tags->key, err);
}

static int derive_generation(const struct far_block_tags *tags, struct generation *generation, struct far_error *err)
{
    return far_hkdf(tags->secret, far_slice(generation->name, RANDOM_BYTES), "farshore pages of tags", generation->key, err);
}

static const uint8_t header_nonce[FAR_KEYED_BOX_NONCE] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

/* The old file, if it is of this disk's tree as it is now. */
static bool open_old(struct far_block_tags *tags, const struct far_domain *domain, const struct far_hash256 *root)
{
    uint8_t bytes[HEADER_BYTES + PROOF_BYTES], expected[HEADER_BYTES], zero[1];
    struct generation *before = &tags->before;
    before->fd = open(tags->path, O_RDONLY | O_CLOEXEC);
    if (before->fd < 0) {
        return false;
    }
    if (pread(before->fd, bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes) {
        memcpy(tags->seed, bytes + 80, RANDOM_BYTES);
        memcpy(before->name, bytes + 112, RANDOM_BYTES);
        encode_header(tags, before, root, expected);
        if (memcmp(bytes, expected, HEADER_BYTES) == 0 && derive_key(tags, domain, NULL) == 0 &&
            derive_generation(tags, before, NULL) == 0 &&
            far_keyed_box_open(before->key, far_slice(bytes, HEADER_BYTES), far_slice(bytes + HEADER_BYTES, PROOF_BYTES), zero,
                               NULL) == 0) {
            return true;
        }
    }
    close(before->fd);
    before->fd = -1;
    return false;
}

static int open_new(struct far_block_tags *tags, struct far_error *err)
{
    far_random_bytes(tags->now.name, sizeof tags->now.name);
    int rc = derive_generation(tags, &tags->now, err);
    tags->now.fd = rc == 0 ? open(tags->path_new, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    return rc != 0 || tags->now.fd >= 0 ? rc : far_fail_errno(err, FAR_IO, errno, "create '%s'", tags->path_new);
}

int far_block_tags_open(struct far_vault *vault, const struct far_domain *domain, uint64_t disk_id, uint64_t size_bytes,
                        const struct far_hash256 *root, struct far_block_tags **ret_tags, struct far_error *err)
{
    struct far_block_tags *tags = calloc(1, sizeof *tags);
    int rc = 0;
    if (tags == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the tags of blocks");
    }
    snprintf(tags->path, sizeof tags->path, "%s/replicas/%" PRIu64 ".tags", vault->dir, disk_id);
    snprintf(tags->path_new, sizeof tags->path_new, "%s.new", tags->path);
    tags->disk_id = disk_id;
    tags->size_bytes = size_bytes;
    tags->now.fd = -1;
    far_domain_uuid(domain, tags->domain_uuid);
    if (!open_old(tags, domain, root)) {
        far_random_bytes(tags->seed, sizeof tags->seed);
        rc = derive_key(tags, domain, err);
    }
    rc = rc == 0 ? open_new(tags, err) : rc;
    if (rc != 0) {
        far_block_tags_close(tags);
        return rc;
    }
    *ret_tags = tags;
    return 0;
}

void far_block_tags_finish(struct far_block_tags *tags, const struct far_hash256 *root)
{
    uint8_t bytes[HEADER_BYTES + PROOF_BYTES];
    encode_header(tags, &tags->now, root, bytes);
    if (tags->failed ||
        far_keyed_box_seal(tags->now.key, header_nonce, far_slice(bytes, HEADER_BYTES), far_slice("", 1), bytes + HEADER_BYTES,
                           NULL) != 0 ||
        far_file_pwrite(tags->now.fd, bytes, sizeof bytes, 0, tags->path_new, NULL) != 0 || rename(tags->path_new, tags->path) != 0) {
        return;
    }
    close(tags->now.fd);
    tags->now.fd = -1;
}

void far_block_tags_close(struct far_block_tags *tags)
{
    if (tags == NULL) {
        return;
    }
    if (tags->before.fd >= 0) {
        close(tags->before.fd);
    }
    if (tags->now.fd >= 0) {
        close(tags->now.fd);
        unlink(tags->path_new);
    }
    OPENSSL_cleanse(tags, sizeof *tags);
    free(tags);
}

bool far_block_tags_known(const struct far_block_tags *tags, uint64_t page, struct far_tag ret_tags[FAR_TAGS_OF_PAGE])
{
    uint8_t box[PAGE_BYTES], number[8];
    far_put_le64(number, page);
    return tags->before.fd >= 0 &&
           pread(tags->before.fd, box, sizeof box, (off_t)(PAGES_AT + page * PAGE_BYTES)) == (ssize_t)sizeof box &&
           far_keyed_box_open(tags->before.key, far_slice(number, sizeof number), far_slice(box, sizeof box), ret_tags[0].bytes, NULL) == 0;
}

void far_block_tags_keep(struct far_block_tags *tags, uint64_t page, const struct far_tag kept[FAR_TAGS_OF_PAGE])
{
    uint8_t box[PAGE_BYTES], number[8], nonce[FAR_KEYED_BOX_NONCE] = {0};
    if (kept == NULL) { /* nothing is there: zeroes, or the end of the file, which is no box */
        return;
    }
    far_put_le64(number, page);
    memcpy(nonce, number, sizeof number);
    if (far_keyed_box_seal(tags->now.key, nonce, far_slice(number, sizeof number), far_slice(kept, PAGE_TAGS_BYTES), box, NULL) != 0 ||
        far_file_pwrite(tags->now.fd, box, sizeof box, PAGES_AT + page * PAGE_BYTES, tags->path_new, NULL) != 0) {
        tags->failed = true;
    }
}

/* ---- making them ---- */

static EVP_MAC_CTX *new_gmac(const uint8_t key[KEY_BYTES], OSSL_PARAM *params)
{
    EVP_MAC *gmac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_GMAC, NULL);
    EVP_MAC_CTX *mac = gmac != NULL ? EVP_MAC_CTX_new(gmac) : NULL;
    EVP_MAC_free(gmac);
    if (mac != NULL && EVP_MAC_init(mac, key, KEY_BYTES, params) != 1) {
        EVP_MAC_CTX_free(mac);
        mac = NULL;
    }
    return mac;
}

struct far_tag_maker *far_tag_maker_new(const struct far_block_tags *tags)
{
    static const uint8_t zeroes[FAR_BLOCK_BYTES];
    const uint8_t *const block = zeroes;
    char cipher[] = "AES-128-GCM";
    uint8_t nonce[12] = {0}; /* the same for all: a tag depends on nothing but its block; that of one is a secret as the key is */
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0),
                           OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_IV, nonce, sizeof nonce), OSSL_PARAM_construct_end()};
    struct far_tag_maker *maker = calloc(1, sizeof *maker);
    if (maker == NULL) {
        return NULL;
    }
    maker->mac = new_gmac(tags->key, params);
    if (maker->mac == NULL || !far_tags_make(maker, &block, 1, &maker->zeroes)) {
        far_tag_maker_free(maker);
        return NULL;
    }
    return maker;
}

void far_tag_maker_free(struct far_tag_maker *maker)
{
    if (maker != NULL) {
        EVP_MAC_CTX_free(maker->mac);
        OPENSSL_cleanse(&maker->zeroes, sizeof maker->zeroes);
        free(maker);
    }
}

/* One block. What lies in memory rather than in a cache is asked for a piece ahead: the library alone waits for it again and again. */
static bool make_one(struct far_tag_maker *maker, const uint8_t *block, OSSL_PARAM *nonce, struct far_tag *ret_tag)
{
    size_t made = 0;
    bool good = EVP_MAC_init(maker->mac, NULL, 0, nonce) == 1;
    for (size_t at = 0; good && at < FAR_BLOCK_BYTES; at += PIECE_BYTES) {
        for (size_t ahead = at + PIECE_BYTES; ahead < at + 2 * PIECE_BYTES && ahead < FAR_BLOCK_BYTES; ahead += 64) {
            __builtin_prefetch(block + ahead);
        }
        good = EVP_MAC_update(maker->mac, block + at, PIECE_BYTES) == 1;
    }
    return good && EVP_MAC_final(maker->mac, ret_tag->bytes, &made, sizeof ret_tag->bytes) == 1 && made == sizeof ret_tag->bytes;
}

bool far_tags_make(struct far_tag_maker *maker, const uint8_t *const *blocks, size_t count, struct far_tag *ret_tags)
{
    uint8_t nonce[12] = {0};
    OSSL_PARAM again[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_IV, nonce, sizeof nonce), OSSL_PARAM_construct_end()};
    bool good = true;
    for (size_t i = 0; good && i < count; i++) {
        good = make_one(maker, blocks[i], again, &ret_tags[i]);
    }
    return good;
}

const struct far_tag *far_tag_of_zeroes(const struct far_tag_maker *maker)
{
    return &maker->zeroes;
}
