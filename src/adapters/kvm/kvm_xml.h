/* XML of libvirt as a small tree, made by expat: enough to ask a domain, a checkpoint or a backup for what is in it.
 *
 * Values, bounded: 16 MiB of text, 50,000 elements, 100 deep; what is more is refused. One owner frees the root; all else is borrowed
 * from it. One thread. */
#ifndef FAR_ADAPTERS_KVM_KVM_XML_H
#define FAR_ADAPTERS_KVM_KVM_XML_H

#include "base/buf.h"

struct far_kvm_xml {
    char *name;
    char **attributes; /* name, value, name, value, …, NULL */
    char *text;        /* what stands in it, before and between its children */
    size_t text_len;
    struct far_kvm_xml *first, *last; /* children */
    struct far_kvm_xml *next;
};

/* NULL: it is no XML, or beyond the bounds. */
struct far_kvm_xml *far_kvm_xml_parse(const char *text);
void far_kvm_xml_free(struct far_kvm_xml *root); /* NULL is allowed */
/* The first child of this name, or NULL; node may be NULL. */
const struct far_kvm_xml *far_kvm_xml_child(const struct far_kvm_xml *node, const char *name);
/* The next sibling of the same name. */
const struct far_kvm_xml *far_kvm_xml_next(const struct far_kvm_xml *node);
/* Never NULL: "" where there is none; node may be NULL. */
const char *far_kvm_xml_attr(const struct far_kvm_xml *node, const char *name);
const char *far_kvm_xml_text(const struct far_kvm_xml *node);
/* Editing. false: no memory, or the fragment is no XML; the tree is as good as before. */
bool far_kvm_xml_set(struct far_kvm_xml *node, const char *name, const char *value); /* value NULL: the attribute goes */
bool far_kvm_xml_add(struct far_kvm_xml *parent, const char *fragment);              /* as the last child */
void far_kvm_xml_drop(struct far_kvm_xml *parent, const char *name);                 /* all children of this name */
/* The tree as text; FAR_LIMIT beyond the buffer's bound. */
int far_kvm_xml_write(const struct far_kvm_xml *node, struct far_buf *to);
/* Appends text as it may stand in an attribute or an element. */
int far_kvm_xml_escape(struct far_buf *to, const char *text);

#endif
