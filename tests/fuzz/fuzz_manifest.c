/* The manifest of a point. An odd first byte: the checksum at the end is made right, so that the fields are reached. */
#include "base/hash.h"
#include "dataplane/manifest.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct far_manifest manifest;
    struct far_error err;
    if (size < 1) {
        return 0;
    }
    uint8_t *copy = malloc(size);
    if (copy == NULL) {
        return 0;
    }
    size_t len = size - 1;
    memcpy(copy, data + 1, len);
    if (data[0] % 2 == 1 && len > 24) {
        memcpy(copy, "FARMANI0", 8);
        far_put_le32(copy + 8, data[0] >> 1 & 1); /* with extensions, or without */
        far_put_le32(copy + 12, (uint32_t)(len > 16 + 104 ? len - 16 - 104 : 0));
        far_put_le64(copy + len - 8, far_hash64(copy, len - 8));
    }
    if (far_manifest_decode(far_slice(copy, len), &manifest, &err) == 0) {
        struct far_buf again;
        uint8_t seed[32] = {1};
        far_buf_init(&again, FAR_MANIFEST_BYTES_MAX);
        if (far_manifest_sign(&manifest, seed, &again, &err) != 0 ||
            far_manifest_decode(far_buf_slice(&again), &manifest, &err) != 0 ||
            far_manifest_verify(far_buf_slice(&again), manifest.public_key, &err) != 0) {
            abort();
        }
        far_buf_done(&again);
    }
    uint8_t key[32] = {0};
    far_manifest_verify(far_slice(copy, len), key, &err);
    free(copy);
    return 0;
}
