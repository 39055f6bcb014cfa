/* What the files of the adapter kvm in the node share. */
#ifndef FAR_ADAPTERS_KVM_KVM_ADAPTER_H
#define FAR_ADAPTERS_KVM_KVM_ADAPTER_H

#include "adapters/kvm/kvm_call.h"

/* Of an open platform: for so long a question to libvirt may take. */
uint64_t far_kvm_timeout_ms(const void *platform);

extern const struct far_adapter_machines far_kvm_machines;

#endif
