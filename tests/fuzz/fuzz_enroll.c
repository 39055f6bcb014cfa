/* The answer to a join, as a server that is not trusted yet may send it. */
#include "net/enroll.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct far_error err;
    struct far_enrolment enrolment;
    if (far_enroll_parse((const char *)data, size, &enrolment, &err) == 0) {
        far_enroll_done(&enrolment);
    }
    struct far_enroll_cluster cluster;
    far_enroll_parse_cluster((const char *)data, size, &cluster, &err);
    return 0;
}
