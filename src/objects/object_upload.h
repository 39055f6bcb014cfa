/* What the ways of putting an object share (object_upload.c, objects.c, object_list.c). */
#ifndef FAR_OBJECTS_OBJECT_UPLOAD_H
#define FAR_OBJECTS_OBJECT_UPLOAD_H

#include "objects/s3_request.h"

/* One PUT of a body whose hash is computed first; as far_objects_put(). */
int far_s3_put_body(struct far_objects *objects, const char *key, const struct far_s3_body *body, const struct far_object_put *put,
                    int (*sent)(void *arg, uint64_t bytes), void *arg, struct far_object *ret_object, struct far_error *err);
/* Ends an upload without an object; one that is not there is 0. retry_max_ms: as in a request. */
int far_s3_abort(struct far_objects *objects, const char *key, const char *upload_id, uint64_t retry_max_ms, struct far_error *err);

#endif
