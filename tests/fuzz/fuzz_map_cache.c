/* The cache file of a map. An odd first byte: the checksums of its pages are made right. */
#include "base/hash.h"
#include "dataplane/map.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct far_map *map = NULL;
    struct far_error err;
    if (size < 1) {
        return 0;
    }
    size_t len = size - 1;
    uint8_t *copy = malloc(size);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data + 1, len);
    for (size_t at = 0; data[0] % 2 == 1 && at + 4096 <= len; at += 4096) {
        far_put_le64(copy + at + 4088, far_hash64(copy + at, 4088));
    }
    if (far_map_parse(far_slice(copy, len), &map, &err) == 0) {
        struct far_hash256 root;
        far_map_root(map, &root);
        if (memcmp(root.bytes, copy + 24, 32) != 0) {
            abort();
        }
        far_map_free(map);
    }
    free(copy);
    return 0;
}
