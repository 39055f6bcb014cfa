/* The greeting: whatever decodes must encode to the same bytes, and judging it must not fail. */
#include "net/greeting.h"

#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct far_error err;
    struct far_greeting greeting;
    uint8_t again[FAR_GREETING_BYTES];
    if (size != FAR_GREETING_BYTES || far_greeting_decode(data, &greeting, &err) != 0) {
        return 0;
    }
    far_greeting_encode(&greeting, again);
    FAR_ASSERT(memcmp(again, data, sizeof again) == 0);
    struct far_greeting self = greeting;
    self.from = greeting.to;
    far_greeting_judge(&self, &greeting, greeting.from);
    far_greeting_check_answer(&self, &greeting, greeting.from, &err);
    return 0;
}
