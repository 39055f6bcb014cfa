/* Tags of an image's blocks: see block_tags.h; bytes in docs/FORMATS.md. */
#include "dataplane/block_tags.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"
#include "dataplane/domain.h"
#include "dataplane/id_key.h"
#include "dataplane/vault_private.h"

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
    VERSION = 0,
    SEED_BYTES = 32,
    HEADER_BYTES = 128,
    SUM_AT = 120,
    PAGES_AT = 4096,
    PAGE_TAGS_BYTES = FAR_TAGS_OF_PAGE * sizeof(struct far_tag),
    PAGE_BYTES = PAGE_TAGS_BYTES + 8,
    KEY_BYTES = 16,
    PIECE_BYTES = 1024,
};
static const char magic[8] = "FARTAGS0";

struct far_block_tags {
    char path[FAR_DIR_MAX + 64];
    char path_new[FAR_DIR_MAX + 72];
    uint64_t disk_id;
    uint64_t size_bytes;
    uint8_t domain_uuid[16];
    uint8_t seed[SEED_BYTES];    /* the key's share that is in the file */
    uint8_t keys[2 * KEY_BYTES]; /* of GMAC, and of the encryption */
    int fd_old;                  /* -1: none */
    int fd_new;
    _Atomic bool failed;
};

struct far_tag_maker {
    EVP_MAC_CTX *mac;
    EVP_CIPHER_CTX *cipher;
    struct far_tag zeroes;
};

/* ---- the file ---- */

static void encode_header(const struct far_block_tags *tags, const struct far_hash256 *root, uint8_t ret_bytes[HEADER_BYTES])
{
    memset(ret_bytes, 0, HEADER_BYTES);
    memcpy(ret_bytes, magic, sizeof magic);
    far_put_le32(ret_bytes + 8, VERSION);
    far_put_le64(ret_bytes + 16, tags->disk_id);
    far_put_le64(ret_bytes + 24, tags->size_bytes);
    memcpy(ret_bytes + 32, root->bytes, 32);
    memcpy(ret_bytes + 64, tags->domain_uuid, 16);
    memcpy(ret_bytes + 80, tags->seed, SEED_BYTES);
    far_put_le64(ret_bytes + SUM_AT, far_hash64(ret_bytes, SUM_AT));
}

/* The old file, if it is of this disk's tree as it is now: with its seed it says the same header again. */
static int open_old(struct far_block_tags *tags, const struct far_hash256 *root)
{
    uint8_t bytes[HEADER_BYTES], expected[HEADER_BYTES];
    int fd = open(tags->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    if (pread(fd, bytes, sizeof bytes, 0) == HEADER_BYTES) {
        memcpy(tags->seed, bytes + 80, SEED_BYTES);
        encode_header(tags, root, expected);
        if (memcmp(bytes, expected, sizeof bytes) == 0) {
            return fd;
        }
    }
    close(fd);
    return -1;
}

static uint64_t sum_of_page(const struct far_block_tags *tags, uint64_t page, const uint8_t bytes[PAGE_BYTES])
{
    uint8_t number[8];
    far_put_le64(number, page);
    return far_hash64_parts(far_slice(tags->seed, SEED_BYTES), far_slice(number, sizeof number), far_slice(bytes, PAGE_TAGS_BYTES));
}

static void derive_keys(struct far_block_tags *tags, const struct far_domain *domain)
{
    static const uint8_t nothing[32];
    struct far_hmac_key plain;
    uint8_t info[sizeof "farshore block tags" - 1 + SEED_BYTES] = "farshore block tags"; /* longer than any hash: no id is made so */
    memcpy(info + sizeof info - SEED_BYTES, tags->seed, SEED_BYTES);
    far_hmac_key_init(&plain, nothing);
    far_hmac(domain != NULL ? &far_domain_id_key(domain)->id : &plain, info, sizeof info, tags->keys);
}

int far_block_tags_open(struct far_vault *vault, const struct far_domain *domain, uint64_t disk_id, uint64_t size_bytes,
                        const struct far_hash256 *root, struct far_block_tags **ret_tags, struct far_error *err)
{
    struct far_block_tags *tags = calloc(1, sizeof *tags);
    if (tags == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the tags of blocks");
    }
    snprintf(tags->path, sizeof tags->path, "%s/replicas/%" PRIu64 ".tags", vault->dir, disk_id);
    snprintf(tags->path_new, sizeof tags->path_new, "%s.new", tags->path);
    tags->disk_id = disk_id;
    tags->size_bytes = size_bytes;
    far_domain_uuid(domain, tags->domain_uuid);
    tags->fd_old = open_old(tags, root);
    if (tags->fd_old < 0) {
        far_random_bytes(tags->seed, sizeof tags->seed);
    }
    derive_keys(tags, domain);
    tags->fd_new = open(tags->path_new, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (tags->fd_new < 0) {
        int rc = far_fail_errno(err, FAR_IO, errno, "create '%s'", tags->path_new);
        far_block_tags_close(tags);
        return rc;
    }
    *ret_tags = tags;
    return 0;
}

void far_block_tags_finish(struct far_block_tags *tags, const struct far_hash256 *root)
{
    uint8_t header[HEADER_BYTES];
    encode_header(tags, root, header);
    if (tags->failed || far_file_pwrite(tags->fd_new, header, sizeof header, 0, tags->path_new, NULL) != 0 ||
        rename(tags->path_new, tags->path) != 0) {
        return;
    }
    close(tags->fd_new);
    tags->fd_new = -1;
}

void far_block_tags_close(struct far_block_tags *tags)
{
    if (tags == NULL) {
        return;
    }
    if (tags->fd_old >= 0) {
        close(tags->fd_old);
    }
    if (tags->fd_new >= 0) {
        close(tags->fd_new);
        unlink(tags->path_new);
    }
    OPENSSL_cleanse(tags, sizeof *tags);
    free(tags);
}

bool far_block_tags_known(const struct far_block_tags *tags, uint64_t page, struct far_tag ret_tags[FAR_TAGS_OF_PAGE])
{
    uint8_t bytes[PAGE_BYTES];
    if (tags->fd_old < 0 || pread(tags->fd_old, bytes, sizeof bytes, (off_t)(PAGES_AT + page * PAGE_BYTES)) != PAGE_BYTES ||
        far_get_le64(bytes + PAGE_TAGS_BYTES) != sum_of_page(tags, page, bytes)) {
        return false;
    }
    memcpy(ret_tags, bytes, PAGE_TAGS_BYTES);
    return true;
}

void far_block_tags_keep(struct far_block_tags *tags, uint64_t page, const struct far_tag kept[FAR_TAGS_OF_PAGE])
{
    uint8_t bytes[PAGE_BYTES];
    if (kept == NULL) { /* nothing is there: zeroes, or the end of the file, whose sum is wrong */
        return;
    }
    memcpy(bytes, kept, PAGE_TAGS_BYTES);
    far_put_le64(bytes + PAGE_TAGS_BYTES, sum_of_page(tags, page, bytes));
    if (far_file_pwrite(tags->fd_new, bytes, sizeof bytes, PAGES_AT + page * PAGE_BYTES, tags->path_new, NULL) != 0) {
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
    uint8_t nonce[12] = {0}; /* the same for all: a tag depends on nothing but its block, and the encryption hides what that would tell */
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_CIPHER, cipher, 0),
                           OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_IV, nonce, sizeof nonce), OSSL_PARAM_construct_end()};
    struct far_tag_maker *maker = calloc(1, sizeof *maker);
    if (maker == NULL) {
        return NULL;
    }
    maker->mac = new_gmac(tags->keys, params);
    maker->cipher = EVP_CIPHER_CTX_new();
    if (maker->mac == NULL || maker->cipher == NULL ||
        EVP_EncryptInit_ex(maker->cipher, EVP_aes_128_ecb(), NULL, tags->keys + KEY_BYTES, NULL) != 1 ||
        EVP_CIPHER_CTX_set_padding(maker->cipher, 0) != 1 || !far_tags_make(maker, &block, 1, &maker->zeroes)) {
        far_tag_maker_free(maker);
        return NULL;
    }
    return maker;
}

void far_tag_maker_free(struct far_tag_maker *maker)
{
    if (maker != NULL) {
        EVP_MAC_CTX_free(maker->mac);
        EVP_CIPHER_CTX_free(maker->cipher);
        free(maker);
    }
}

/* One block. What lies in memory rather than in a cache is asked for a piece ahead: the library alone waits for it again and again. */
static bool make_one(struct far_tag_maker *maker, const uint8_t *block, OSSL_PARAM *nonce, struct far_tag *ret_tag)
{
    size_t made = 0;
    int encrypted = 0;
    bool good = EVP_MAC_init(maker->mac, NULL, 0, nonce) == 1;
    for (size_t at = 0; good && at < FAR_BLOCK_BYTES; at += PIECE_BYTES) {
        for (size_t ahead = at + PIECE_BYTES; ahead < at + 2 * PIECE_BYTES && ahead < FAR_BLOCK_BYTES; ahead += 64) {
            __builtin_prefetch(block + ahead);
        }
        good = EVP_MAC_update(maker->mac, block + at, PIECE_BYTES) == 1;
    }
    return good && EVP_MAC_final(maker->mac, ret_tag->bytes, &made, sizeof ret_tag->bytes) == 1 && made == sizeof ret_tag->bytes &&
           EVP_EncryptUpdate(maker->cipher, ret_tag->bytes, &encrypted, ret_tag->bytes, sizeof ret_tag->bytes) == 1 &&
           encrypted == (int)sizeof ret_tag->bytes;
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
