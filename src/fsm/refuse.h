/* Rejections of what somebody wrote: the field by its path in the whole ("workloads[2].nics[0].address"), the value, and what would be
 * right. path: what stands before the field, with its dot; or "". Internal to src/fsm/. */
#ifndef FAR_FSM_REFUSE_H
#define FAR_FSM_REFUSE_H

#include "fsm/step.h"

struct far_place {
    char path[96]; /* "workloads[2].nics[0]." */
};
/* Item i of a list behind the path. */
struct far_place far_place(const char *path, const char *list, size_t i);

/* right: follows "it must be ". */
int far_refuse_text(struct far_step *step, const char *path, const char *field, struct far_slice value, const char *right);
int far_refuse_number(struct far_step *step, const char *path, const char *field, uint64_t value, const char *right);
/* These only if it is so: a number above max; a text with control characters, or a blank at an end. */
int far_refuse_above(struct far_step *step, const char *path, const char *field, uint64_t value, uint64_t max);
int far_refuse_odd(struct far_step *step, const char *path, const char *field, struct far_slice text);

/* As far_name_check() asks for. */
bool far_is_name(struct far_slice name);

#endif
