/* An export as farshore-verify reads it, behind the 32 bytes of a key that is given. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* fmemopen */
#endif
#include "verify/verify.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= HASH) {
        return 0;
    }
    struct verifier *v = calloc(1, sizeof *v);
    uint8_t *copy = malloc(size);
    if (v == NULL || copy == NULL) {
        abort();
    }
    memcpy(copy, data, size);
    memcpy(v->given[v->given_count++], copy, HASH);
    v->file = fmemopen(copy + HASH, size - HASH, "rb");
    v->out = fopen("/dev/null", "w");
    if (v->file == NULL || v->out == NULL) {
        abort();
    }
    verify_file(v);
    if (v->findings == 0 && (v->trusted.seq == 0 || v->next_seq != v->last_seq + 1)) {
        abort(); /* nothing is good without a head that the key leads to, and all events */
    }
    fclose(v->file);
    fclose(v->out);
    free(copy);
    free(v);
    return 0;
}
