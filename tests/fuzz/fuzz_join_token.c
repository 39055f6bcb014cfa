/* Join tokens: a text that parses has one print, which parses to the same; the recovery key's text likewise. */
#include "net/seal.h"
#include "net/join_token.h"

#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct far_error err;
    struct far_join_token token;
    struct far_join_token again = {0};
    char text[FAR_JOIN_TOKEN_TEXT_MAX];
    if (far_join_token_parse((const char *)data, size, &token, &err) == 0) {
        FAR_ASSERT(far_join_token_print(&token, text, &err) == 0);
        FAR_ASSERT(far_join_token_parse(text, strlen(text), &again, &err) == 0);
        FAR_ASSERT(memcmp(&token, &again, sizeof token) == 0);
    }
    uint8_t key[32];
    uint8_t key_again[32];
    char key_text[FAR_RECOVERY_KEY_TEXT_MAX];
    if (far_recovery_key_parse((const char *)data, size, key, &err) == 0) {
        far_recovery_key_print(key, key_text);
        FAR_ASSERT(far_recovery_key_parse(key_text, strlen(key_text), key_again, &err) == 0);
        FAR_ASSERT(memcmp(key, key_again, sizeof key) == 0);
    }
    return 0;
}
