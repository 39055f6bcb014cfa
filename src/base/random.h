/* Random bytes from the operating system. Not for src/fsm/ (random bytes are fields of commands there) and not for
 * simulated code (its randomness comes from the seed). */
#ifndef FAR_BASE_RANDOM_H
#define FAR_BASE_RANDOM_H

#include <stddef.h>

/* Fills data; cannot fail once the machine has booted, aborts if it does. Fit for keys. */
void far_random_bytes(void *data, size_t len);

#endif
