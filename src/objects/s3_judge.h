/* What an answer of a store, or the want of one, means: our class, and whether trying again may help. Any thread. */
#ifndef FAR_OBJECTS_S3_JUDGE_H
#define FAR_OBJECTS_S3_JUDGE_H

#include "objects/s3_request.h"

struct far_s3_verdict {
    bool again;      /* it may work a little later */
    bool maybe_done; /* the request may have been carried out all the same */
    bool unanswered; /* there was no whole answer */
    bool stale_keys; /* the credentials are none any more: they may have been renewed in their file */
};

/* One line of the answer's head. Unknown ones and what cannot be is left out. */
void far_s3_take_header(struct far_s3_answer *answer, const char *line, size_t len);
/* curl's code (CURLcode) of a request without a whole answer; words: what curl says. Never 0. */
int far_s3_judge_transport(int code, bool stalled, const char *words, const struct far_s3_answer *answer,
                           struct far_s3_verdict *ret_verdict, struct far_error *err);
/* A whole answer. root: as in the request; sets answer->fault. */
int far_s3_judge(const char *root, struct far_s3_answer *answer, struct far_s3_verdict *ret_verdict, struct far_error *err);

#endif
