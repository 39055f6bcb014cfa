/* Test helper: real NBD servers (nbdkit, qemu-nbd) on a UNIX socket, as children that die with the test. */
#ifndef FAR_TESTS_LIB_NBD_SERVER_H
#define FAR_TESTS_LIB_NBD_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

/* Is there such a program? */
bool far_nbd_has(const char *program);
/* Starts argv (ends with NULL) and waits until it listens on the socket, which it must not do before; -1: it did not within
 * ten seconds. */
pid_t far_nbd_server_start(const char *socket_path, const char *const argv[]);
/* kill -9, and gone when this returns; 0 is allowed. Leaves the socket's name, as a machine that lost its power does. */
void far_nbd_server_kill(pid_t *pid);

#endif
