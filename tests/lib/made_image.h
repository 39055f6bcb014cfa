/* The known image of the tests of map and vault; tests/golden/vault_root.py makes the same one in Python and computed
 * the roots from the description of the format alone. */
#ifndef FAR_TESTS_LIB_MADE_IMAGE_H
#define FAR_TESTS_LIB_MADE_IMAGE_H

#include "dataplane/map.h"

#include <stdlib.h>

struct made_root {
    uint64_t size_bytes;
    const char *hex;
};
static const struct made_root made_roots[] = {
    {1, "cd373a641e757cc658533e9a0beab3ce33783ab86e96920bd5fe7181c3a74626"},
    {65536, "da1342ee2ad10875ca5133f93f8abe612824ed15b022c9b7139da9c710e41c22"},
    {65537, "4090cff50044cec253e72ddc7cf5bd29ad87d169c05ea956cbfd5c0743eec477"},
    {1000000, "0dc34808b82d04fd87067f4d2781972bfe57b71354a91af90f62c3804e399adf"},
    {20000000, "795f0687284aebfad37a684ae11fc1161704c3e1912f0e8b8137493d6cd4bb0e"},
};
enum { MADE_ROOTS = sizeof made_roots / sizeof made_roots[0] };

/* A 64-bit xorshift, every third block zero, the fifth as the second. Blocks in full, the last one padded: for free(). */
static inline uint8_t *made_image(uint64_t size_bytes)
{
    uint64_t state = 0x9E3779B97F4A7C15ull;
    uint64_t blocks = far_map_block_count(size_bytes);
    uint8_t *image = calloc((size_t)blocks, FAR_BLOCK_BYTES);
    for (uint64_t i = 0; image != NULL && i < blocks; i++) {
        uint8_t *block = image + i * FAR_BLOCK_BYTES;
        for (size_t at = 0; at < FAR_BLOCK_BYTES; at += 8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            far_put_le64(block + at, state);
        }
        if (i % 3 == 2) {
            memset(block, 0, FAR_BLOCK_BYTES);
        }
        if (i == 4) {
            memcpy(block, image + FAR_BLOCK_BYTES, FAR_BLOCK_BYTES);
        }
    }
    if (image != NULL) {
        memset(image + size_bytes, 0, (size_t)(blocks * FAR_BLOCK_BYTES - size_bytes));
    }
    return image;
}

#endif
