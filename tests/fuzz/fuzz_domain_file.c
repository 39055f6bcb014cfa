/* The file of a dedup domain in a vault. An odd first byte: magic, version and checksum are made right, so that the fields are reached.
 * What decodes is opened with a key and a recovery key, which can only be refused, but for the one file that is sealed with zeroes. */
#include "base/hash.h"
#include "dataplane/domain_private.h"

#include "base/assert.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t key[32], recovery[32] = {9};
    static struct far_domain_secrets secrets;
    struct far_domain_file file;
    if (size < 1 || size > FAR_DOMAIN_FILE_MAX) {
        return 0;
    }
    size_t len = size - 1;
    uint8_t *copy = malloc(size);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data + 1, len);
    if (data[0] % 2 == 1 && len > 24) {
        memcpy(copy, "FARDOMN0", 8);
        far_put_le32(copy + 8, 0);
        far_put_le64(copy + len - 8, far_hash64(copy, len - 8));
    }
    if (far_domain_file_decode(far_slice(copy, len), &file, NULL) == 0) {
        if (far_domain_file_open(&file, key, &secrets, NULL) == 0) {
            FAR_ASSERT(secrets.key_count >= 1 && secrets.key_count <= FAR_DOMAIN_KEYS_MAX);
        }
        (void)far_domain_file_recover(&file, recovery, &secrets, NULL);
    }
    free(copy);
    return 0;
}
