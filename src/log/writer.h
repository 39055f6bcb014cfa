/* The writer: the thread that does the WAL's blocking work, one job after the other; done runs on the core thread. */
#ifndef FAR_LOG_WRITER_H
#define FAR_LOG_WRITER_H

#include "log/raft_wal.h"

#include <uv.h>

struct far_writer;
int far_writer_start(uv_loop_t *loop, struct far_writer **ret_writer, struct far_error *err);
/* For struct far_wal_config and struct far_raft_config. */
struct far_wal_executor far_writer_executor(struct far_writer *writer);
/* No job may be under way. Frees; done from the loop. */
void far_writer_stop(struct far_writer *writer, void (*done)(void *arg), void *arg);

#endif
