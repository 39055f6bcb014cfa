/* One question to `farshore-kvm`, the program that speaks with libvirt, as a child process with a deadline: a libvirtd or a hypervisor that
 * hangs costs the one call, never the node.
 *
 * The program is looked for at FARSHORE_KVM, else beside this one. Blocks the calling thread until the child is gone; any thread. */
#ifndef FAR_ADAPTERS_KVM_KVM_CALL_H
#define FAR_ADAPTERS_KVM_KVM_CALL_H

#include "adapters/adapters.h"

enum { FAR_KVM_ARGUMENTS_MAX = 208, FAR_KVM_ANSWER_MAX = 256 * 1024 /* a configuration may be as long */ };

/* arguments: what comes behind the program's name, closed by NULL. ret_answer: its lines, FAR_KVM_ANSWER_MAX bytes of room. Returns
 * an enum far_adapter_outcome: what it said, or why it could say nothing. */
int far_kvm_call(uint64_t timeout_ms, const char *const *arguments, char *ret_answer, struct far_adapter_error *ret_error);

#endif
