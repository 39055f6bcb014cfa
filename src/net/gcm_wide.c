/* AES-GCM of records by libipsec-mb: see gcm_wide.h. */
#include "net/gcm_wide.h"

#include <openssl/crypto.h>

#include <stdlib.h>

#ifdef HAVE_IPSEC_MB

#include <intel-ipsec-mb.h>
#include <pthread.h>

struct far_gcm_wide {
    struct gcm_key_data key; /* expanded, aligned as the library asks */
    struct gcm_context_data context;
    aes_gcm_init_var_iv_t init;
    aes_gcm_enc_dec_update_t encrypt, decrypt;
    aes_gcm_enc_dec_finalize_t encrypted, decrypted;
};

static const IMB_MGR *manager; /* only read once it is made; lives as long as the process */
static pthread_once_t manager_once = PTHREAD_ONCE_INIT;

static void make_manager(void)
{
    static const uint64_t needed = IMB_CPUFLAGS_AVX512 | IMB_FEATURE_VAES | IMB_FEATURE_VPCLMULQDQ;
    IMB_MGR *made = alloc_mb_mgr(0);
    if (made == NULL) {
        return;
    }
    bool good = (made->features & needed) == needed; /* of the processor, known from the start */
    if (good) {
        init_mb_mgr_avx512(made);
        good = imb_get_errno(made) == 0 &&
               ((made->features & IMB_FEATURE_SELF_TEST) == 0 || (made->features & IMB_FEATURE_SELF_TEST_PASS) != 0);
    }
    if (!good) {
        free_mb_mgr(made);
        return;
    }
    manager = made;
}

bool far_gcm_wide_can(void)
{
    return pthread_once(&manager_once, make_manager) == 0 && manager != NULL;
}

bool far_gcm_wide_pays(void)
{
    return OpenSSL_version_num() < 0x30100000L && far_gcm_wide_can();
}

struct far_gcm_wide *far_gcm_wide_new(const uint8_t *key, size_t key_len)
{
    if ((key_len != 16 && key_len != 32) || !far_gcm_wide_can()) {
        return NULL;
    }
    struct far_gcm_wide *gcm = aligned_alloc(_Alignof(struct far_gcm_wide), sizeof *gcm);
    if (gcm == NULL) {
        return NULL;
    }
    if (key_len == 16) {
        gcm->init = manager->gcm128_init_var_iv;
        gcm->encrypt = manager->gcm128_enc_update;
        gcm->encrypted = manager->gcm128_enc_finalize;
        gcm->decrypt = manager->gcm128_dec_update;
        gcm->decrypted = manager->gcm128_dec_finalize;
        IMB_AES128_GCM_PRE(manager, key, &gcm->key);
    } else {
        gcm->init = manager->gcm256_init_var_iv;
        gcm->encrypt = manager->gcm256_enc_update;
        gcm->encrypted = manager->gcm256_enc_finalize;
        gcm->decrypt = manager->gcm256_dec_update;
        gcm->decrypted = manager->gcm256_dec_finalize;
        IMB_AES256_GCM_PRE(manager, key, &gcm->key);
    }
    return gcm;
}

void far_gcm_wide_free(struct far_gcm_wide *gcm)
{
    if (gcm != NULL) {
        OPENSSL_cleanse(gcm, sizeof *gcm);
        free(gcm);
    }
}

void far_gcm_wide_seal(struct far_gcm_wide *gcm, const uint8_t nonce[FAR_GCM_NONCE], const uint8_t head[FAR_GCM_HEAD],
                       const uint8_t *plain, size_t len, uint8_t last, uint8_t *out)
{
    gcm->init(&gcm->key, &gcm->context, nonce, FAR_GCM_NONCE, head, FAR_GCM_HEAD);
    if (len > 0) {
        gcm->encrypt(&gcm->key, &gcm->context, out, plain, len);
    }
    gcm->encrypt(&gcm->key, &gcm->context, out + len, &last, 1);
    gcm->encrypted(&gcm->key, &gcm->context, out + len + 1, FAR_GCM_TAG);
}

bool far_gcm_wide_open(struct far_gcm_wide *gcm, const uint8_t nonce[FAR_GCM_NONCE], const uint8_t head[FAR_GCM_HEAD],
                       const uint8_t *sealed, size_t len, uint8_t *plain, uint8_t *ret_last)
{
    uint8_t tag[FAR_GCM_TAG];
    gcm->init(&gcm->key, &gcm->context, nonce, FAR_GCM_NONCE, head, FAR_GCM_HEAD);
    if (len > 0) {
        gcm->decrypt(&gcm->key, &gcm->context, plain, sealed, len);
    }
    gcm->decrypt(&gcm->key, &gcm->context, ret_last, sealed + len, 1);
    gcm->decrypted(&gcm->key, &gcm->context, tag, FAR_GCM_TAG);
    return CRYPTO_memcmp(tag, sealed + len + 1, FAR_GCM_TAG) == 0;
}

#else /* without the library */

bool far_gcm_wide_can(void)
{
    return false;
}

bool far_gcm_wide_pays(void)
{
    return false;
}

struct far_gcm_wide *far_gcm_wide_new(const uint8_t *key, size_t key_len)
{
    (void)key;
    (void)key_len;
    return NULL;
}

void far_gcm_wide_free(struct far_gcm_wide *gcm)
{
    (void)gcm;
}

void far_gcm_wide_seal(struct far_gcm_wide *gcm, const uint8_t nonce[FAR_GCM_NONCE], const uint8_t head[FAR_GCM_HEAD],
                       const uint8_t *plain, size_t len, uint8_t last, uint8_t *out)
{
    (void)gcm, (void)nonce, (void)head, (void)plain, (void)len, (void)last, (void)out;
    abort(); /* there is no key of it */
}

bool far_gcm_wide_open(struct far_gcm_wide *gcm, const uint8_t nonce[FAR_GCM_NONCE], const uint8_t head[FAR_GCM_HEAD],
                       const uint8_t *sealed, size_t len, uint8_t *plain, uint8_t *ret_last)
{
    (void)gcm, (void)nonce, (void)head, (void)sealed, (void)len, (void)plain, (void)ret_last;
    return false;
}

#endif
