/* Random bytes: see random.h. */
#include "base/random.h"

#include "base/assert.h"

#include <errno.h>
#include <sys/random.h>

void far_random_bytes(void *data, size_t len)
{
    unsigned char *p = data;
    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);
        FAR_ASSERT(n > 0 || errno == EINTR);
        if (n > 0) {
            p += n;
            len -= (size_t)n;
        }
    }
}
