/* farshored log-replay and log-export: on the folder of a server that does not run. What they print is for people; the exit
 * status is that of the class of the error. */
#include "base/moment.h"
#include "log/replay.h"
#include "server/server.h"

#include <stdio.h>

static int options(int argc, char **argv, const char *to[3], struct far_moment *ret_moment, struct far_error *err)
{
    static const char *const names[] = {"--dir", "--out", "--to", NULL};
    int rc = far_server_options(argc, argv, names, 2, to, err);
    *ret_moment = (struct far_moment){FAR_MOMENT_NOW, 0};
    return rc != 0 || to[2] == NULL ? rc : far_moment_parse(far_slice_str(to[2]), ret_moment, err);
}

int far_server_log_replay(int argc, char **argv)
{
    const char *values[3] = {NULL};
    struct far_moment to;
    struct far_replay done;
    struct far_error err = {0};
    char head[2 * FAR_HEAD_SIZE + 1];
    int rc = options(argc, argv, values, &to, &err);
    rc = rc != 0 ? rc : far_log_replay(values[0], &to, values[1], &done, &err);
    if (rc != 0) {
        return far_server_failed(&err);
    }
    far_hex_encode(done.head, sizeof done.head, head);
    printf("event %llu: %llu events folded on %s, chain right, %llu recorded states met\nhead %s\ndigest %016llx%016llx\n",
           (unsigned long long)done.seq, (unsigned long long)done.folded,
           done.from_seq == 0 ? "nothing" : "the oldest state here", (unsigned long long)done.checked, head,
           (unsigned long long)done.digest.high, (unsigned long long)done.digest.low);
    return 0;
}

int far_server_log_export(int argc, char **argv)
{
    const char *values[3] = {NULL};
    struct far_moment to;
    uint64_t seq = 0;
    struct far_error err = {0};
    int rc = options(argc, argv, values, &to, &err);
    rc = rc != 0 ? rc : far_log_export(values[0], &to, values[1], &seq, &err);
    if (rc != 0) {
        return far_server_failed(&err);
    }
    printf("exported up to event %llu\n", (unsigned long long)seq);
    return 0;
}
