/* Frames of one log to another, as a bad peer may send them. */
#include "log/frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct far_forward forward;
    struct far_answer answer;
    struct far_marks marks;
    struct far_about about;
    (void)far_forward_decode(far_slice(data, size), &forward, NULL);
    (void)far_answer_decode(far_slice(data, size), &answer, NULL);
    (void)far_marks_decode(far_slice(data, size), &marks, NULL);
    (void)far_about_decode(far_slice(data, size), &about, NULL);
    return 0;
}
