/* Time zone files: what is read is what the core takes, whatever the bytes are. */
#include "api/tzif.h"

#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct far_sub_zone_change changes[FAR_ZONE_CHANGES_MAX];
    const uint64_t from_s = 1767225600, end_s = 2429913600;
    struct far_error err;
    size_t count = 0;
    uint64_t until_s = 0;
    if (far_tzif_parse(far_slice(data, size), from_s, end_s, changes, &count, &until_s, &err) != 0) {
        return 0;
    }
    FAR_ASSERT(count >= 1 && count <= FAR_ZONE_CHANGES_MAX && changes[0].at_s == 0 && until_s <= end_s);
    for (size_t i = 0; i < count; i++) {
        FAR_ASSERT(changes[i].east_s == 0 || changes[i].west_s == 0);
        FAR_ASSERT(changes[i].east_s <= 26 * 3600 && changes[i].west_s <= 26 * 3600);
        FAR_ASSERT(i == 0 || (changes[i].at_s > changes[i - 1].at_s && changes[i].at_s > from_s && changes[i].at_s < until_s));
    }
    return 0;
}
