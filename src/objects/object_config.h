/* Options and credentials of a store, looked at before they are used. Any thread. */
#ifndef FAR_OBJECTS_OBJECT_CONFIG_H
#define FAR_OBJECTS_OBJECT_CONFIG_H

#include "objects/s3_request.h"

/* FAR_INVALID, with what the operator should write instead. */
int far_objects_options_check(const struct far_objects_options *options, struct far_error *err);
/* Puts in what 0 and "" stand for. */
void far_objects_options_fill(struct far_objects_options *options);
/* host[:port] of an endpoint, and whether it speaks TLS. FAR_INVALID. */
int far_objects_endpoint(const char *endpoint, char ret_authority[256], bool *ret_tls, struct far_error *err);
/* FAR_DENIED: others may read the file. The caller wipes what it got. */
int far_objects_keys_read(const char *path, struct far_s3_keys *ret_keys, struct far_error *err);

#endif
