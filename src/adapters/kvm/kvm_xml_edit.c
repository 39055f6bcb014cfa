/* Editing a tree of XML and writing it: see kvm_xml.h. Text between children, which libvirt's documents have for the eye only, is left
 * out. */
#include "adapters/kvm/kvm_xml.h"

#include <stdlib.h>
#include <string.h>

bool far_kvm_xml_set(struct far_kvm_xml *node, const char *name, const char *value)
{
    size_t count = 0, at = 0;
    while (node->attributes[count] != NULL) {
        count++;
    }
    while (at < count && strcmp(node->attributes[at], name) != 0) {
        at += 2;
    }
    if (value == NULL) {
        if (at < count) {
            free(node->attributes[at]);
            free(node->attributes[at + 1]);
            memmove(&node->attributes[at], &node->attributes[at + 2], (count - at - 1) * sizeof *node->attributes);
        }
        return true;
    }
    char *copy = strdup(value);
    if (copy != NULL && at < count) {
        free(node->attributes[at + 1]);
        node->attributes[at + 1] = copy;
        return true;
    }
    char *key = strdup(name), **longer = realloc(node->attributes, (count + 3) * sizeof *longer);
    node->attributes = longer != NULL ? longer : node->attributes;
    if (copy == NULL || key == NULL || longer == NULL) {
        free(copy);
        free(key);
        return false;
    }
    longer[count] = key;
    longer[count + 1] = copy;
    longer[count + 2] = NULL;
    return true;
}

bool far_kvm_xml_add(struct far_kvm_xml *parent, const char *fragment)
{
    struct far_kvm_xml *made = far_kvm_xml_parse(fragment);
    if (made != NULL && parent->last != NULL) {
        parent->last = parent->last->next = made;
    } else if (made != NULL) {
        parent->first = parent->last = made;
    }
    return made != NULL;
}

void far_kvm_xml_drop(struct far_kvm_xml *parent, const char *name)
{
    struct far_kvm_xml **place = &parent->first;
    parent->last = NULL;
    while (*place != NULL) {
        struct far_kvm_xml *child = *place;
        if (strcmp(child->name, name) == 0) {
            *place = child->next;
            child->next = NULL;
            far_kvm_xml_free(child);
        } else {
            parent->last = child;
            place = &child->next;
        }
    }
}

int far_kvm_xml_write(const struct far_kvm_xml *node, struct far_buf *to)
{
    int rc = far_buf_printf(to, "<%s", node->name);
    for (size_t i = 0; rc == 0 && node->attributes[i] != NULL; i += 2) {
        rc = far_buf_printf(to, " %s='", node->attributes[i]);
        rc = rc == 0 ? far_kvm_xml_escape(to, node->attributes[i + 1]) : rc;
        rc = rc == 0 ? far_buf_append_str(to, "'") : rc;
    }
    rc = rc == 0 ? far_buf_append_str(to, ">") : rc;
    for (const struct far_kvm_xml *child = node->first; rc == 0 && child != NULL; child = child->next) {
        rc = far_kvm_xml_write(child, to);
    }
    if (rc == 0 && node->first == NULL && node->text != NULL) {
        rc = far_kvm_xml_escape(to, node->text);
    }
    return rc == 0 ? far_buf_printf(to, "</%s>", node->name) : rc;
}
