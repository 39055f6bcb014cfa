# The adapters that are built in: one folder a platform.
noinst_LTLIBRARIES += libadapters.la
libadapters_la_SOURCES = \
	src/adapters/adapters.c src/adapters/adapters.h \
	src/adapters/file/file_adapter.c src/adapters/file/file_adapter.h \
	src/adapters/file/file_bytes.c \
	src/adapters/file/file_changed.c \
	src/adapters/file/file_clones.c \
	src/adapters/file/file_freeze.c \
	src/adapters/file/file_list.c \
	src/adapters/nbd/nbd_adapter.c src/adapters/nbd/nbd_adapter.h \
	src/adapters/nbd/nbd_bytes.c \
	src/adapters/nbd/nbd_changes.c \
	src/adapters/nbd/nbd_link.c src/adapters/nbd/nbd_link.h \
	src/adapters/kvm/kvm_adapter.c src/adapters/kvm/kvm_adapter.h \
	src/adapters/kvm/kvm_call.c src/adapters/kvm/kvm_call.h \
	src/adapters/kvm/kvm_machines.c \
	src/adapters/fault/fault.c src/adapters/fault/fault.h \
	src/adapters/fault/fault_changed.c \
	src/adapters/fault/fault_machines.c
libadapters_la_CFLAGS = $(AM_CFLAGS) $(LIBNBD_CFLAGS)
libadapters_la_LIBADD = libbase.la $(LIBNBD_LIBS)

# What speaks with libvirt is a program of its own, beside farshore-node; without libvirt-dev there is none.
if HAVE_LIBVIRT
bin_PROGRAMS += src/node/farshore-kvm
endif
src_node_farshore_kvm_SOURCES = \
	src/adapters/kvm/kvm_canon.c \
	src/adapters/kvm/kvm_bridge.c \
	src/adapters/kvm/kvm_checkpoint.c \
	src/adapters/kvm/kvm_domain.c \
	src/adapters/kvm/kvm_guest.c \
	src/adapters/kvm/kvm_hydrate.c \
	src/adapters/kvm/kvm_helper.h \
	src/adapters/kvm/kvm_list.c \
	src/adapters/kvm/kvm_machine.c \
	src/adapters/kvm/kvm_main.c \
	src/adapters/kvm/kvm_network.c \
	src/adapters/kvm/kvm_nvram.c \
	src/adapters/kvm/kvm_off.c \
	src/adapters/kvm/kvm_quiesce.c \
	src/adapters/kvm/kvm_recovery.c \
	src/adapters/kvm/kvm_view.c \
	src/adapters/kvm/kvm_xml.c src/adapters/kvm/kvm_xml.h \
	src/adapters/kvm/kvm_xml_edit.c
src_node_farshore_kvm_CFLAGS = $(AM_CFLAGS) $(LIBVIRT_CFLAGS) $(EXPAT_CFLAGS) $(JANSSON_CFLAGS) $(ZSTD_CFLAGS)
src_node_farshore_kvm_LDADD = libadapters.la libbase.la $(LIBVIRT_LIBS) -lvirt-qemu $(EXPAT_LIBS) $(JANSSON_LIBS) $(ZSTD_LIBS)
