/* Founding: the first run of a new cluster's log, inside `farshored init`, which carries the first commands into it. */
#ifndef FAR_SERVER_FOUNDING_H
#define FAR_SERVER_FOUNDING_H

#include "server/server.h"

struct far_founding_command {
    uint16_t kind;
    uint64_t actor; /* 0: the server */
    struct far_buf payload;
};

/* Bootstraps the log of dir as that of a cluster of one, runs it until each command is accepted, one after the other, and
 * closes it. Blocking. FAR_TIMEOUT after 30 s without progress. */
int far_founding_run(const char *dir, const struct far_server_config *config,
                     const struct far_founding_command *commands, size_t count, struct far_error *err);

/* The same with the log that is there, whose only voter is this server. */
int far_founding_continue(const char *dir, const struct far_server_config *config,
                          const struct far_founding_command *commands, size_t count, struct far_error *err);

/* What far_founding_continue() would do to this state, printed for people: the events of each command, decided on an overlay as
 * entries from next_index on. What is drawn by lot (uuids, keys) will be other bytes. */
int far_founding_foresee(struct far_state *state, uint64_t next_index, uint64_t server_id,
                         const struct far_founding_command *commands, size_t count, struct far_error *err);

#endif
