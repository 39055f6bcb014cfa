/* The file `incarnation`: whatever decodes must encode to the same bytes. */
#include "net/incarnation.h"

#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct far_incarnation incarnation;
    uint8_t again[FAR_INCARNATION_BYTES];
    if (far_incarnation_decode(far_slice(data, size), &incarnation, NULL) != 0) {
        return 0;
    }
    far_incarnation_encode(&incarnation, again);
    FAR_ASSERT(size == sizeof again && memcmp(again, data, sizeof again) == 0);
    return 0;
}
