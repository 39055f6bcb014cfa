/* Joining: what `farshored join` and `farshored rejoin` share. Blocking; one thread. */
#ifndef FAR_SERVER_SERVER_JOIN_H
#define FAR_SERVER_SERVER_JOIN_H

#include "net/enroll.h"
#include "server/server.h"

struct far_join_options {
    const char *dir;
    const char *token; /* text, or @FILE */
    const char *name;
    const char *api;   /* host:port */
    const char *peer;
    bool is_locked;    /* the caller holds the folder's lock (far_new_folder_lock) */
    /* Called when the cluster has answered, before `config` makes the folder a server's; NULL: nothing. */
    int (*before_config)(void *arg, const struct far_enrolment *enrolment, struct far_error *err);
    void *arg;
};
/* Makes the folder if it is not there; a join that fails leaves nothing of its own. Prints what came of it. */
int far_server_join_folder(const struct far_join_options *options, struct far_error *err);

#endif
