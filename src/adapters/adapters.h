/* The adapters that are built in: a list to hand to the engine, and lookup by name for those that wrap another.
 *
 * An adapter is a constant table (farshore/adapter.h); nothing here is owned or freed. Any thread. */
#ifndef FAR_ADAPTERS_ADAPTERS_H
#define FAR_ADAPTERS_ADAPTERS_H

#include "farshore/adapter.h"

/* Raw images and block devices of this machine. */
extern const struct far_adapter far_adapter_file;
/* Exports of NBD servers, as of QEMU. */
extern const struct far_adapter far_adapter_nbd;
/* Domains of libvirt, by the program farshore-kvm. */
extern const struct far_adapter far_adapter_kvm;
/* Is that program installed? */
bool far_adapter_kvm_is_there(void);
/* Wraps another adapter and fails on purpose; ships, so that an installation can be tested where it stands. */
extern const struct far_adapter far_adapter_fault;

/* Those that can be used here, ends with NULL. */
const struct far_adapter *const *far_adapters(void);
/* NULL: there is none of this name. */
const struct far_adapter *far_adapters_find(const char *name);

/* Fill ret_error (NULL is allowed), return outcome: for adapters. klass is an enum far_class. */
int far_adapter_fail(struct far_adapter_error *ret_error, int outcome, int klass, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
