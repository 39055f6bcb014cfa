/* Hooks: what the API asks of this server (api/api.h), carried to the core thread where it has to be. */
#ifndef FAR_SERVER_HOOKS_H
#define FAR_SERVER_HOOKS_H

#include "api/api.h"
#include "server/admission.h"
#include "server/calls.h"
#include "server/domain_keys.h"

struct far_backups;

/* The hooks' arg; borrowed parts that outlive the API's thread. */
struct far_claims;

struct far_hooks_context {
    struct far_log *log;
    struct far_calls *calls;
    struct far_admission *admission;
    uint64_t server_id;
    struct far_backups *backups;
    struct far_claims *claims;
    struct far_master_key master; /* the API thread's */
};

extern const struct far_api_hooks far_server_hooks;

#endif
