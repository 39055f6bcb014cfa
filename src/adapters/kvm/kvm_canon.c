/* The configuration of a domain, so that the same machine gives the same bytes: what is of one run of it only, or a note of some program,
 * is left out; attributes are in the order of their names, and elements too, but those of one name stay as they are, for with devices that
 * means something. libvirt has no order among elements of different names. */
#include "adapters/kvm/kvm_helper.h"

#include <stdlib.h>
#include <string.h>

/* An attribute's name with its value. */
static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_attributes(struct far_kvm_xml *node)
{
    size_t count = 0;
    while (node->attributes[count] != NULL) {
        count += 2;
    }
    if (count > 2) {
        qsort(node->attributes, count / 2, 2 * sizeof *node->attributes, by_name);
    }
}

/* Merges two sorted lists; of equal names those of the first come first. */
static struct far_kvm_xml *merge(struct far_kvm_xml *a, struct far_kvm_xml *b)
{
    struct far_kvm_xml *first = NULL, **place = &first;
    while (a != NULL && b != NULL) {
        struct far_kvm_xml **from = strcmp(a->name, b->name) <= 0 ? &a : &b;
        *place = *from;
        *from = (*from)->next;
        place = &(*place)->next;
    }
    *place = a != NULL ? a : b;
    return first;
}

static struct far_kvm_xml *sorted(struct far_kvm_xml *list)
{
    struct far_kvm_xml *slow = list, *fast = list != NULL ? list->next : NULL;
    if (fast == NULL) {
        return list;
    }
    while (fast != NULL && fast->next != NULL) {
        slow = slow->next;
        fast = fast->next->next;
    }
    struct far_kvm_xml *half = slow->next;
    slow->next = NULL;
    return merge(sorted(list), sorted(half));
}

static void sort(struct far_kvm_xml *node)
{
    sort_attributes(node);
    node->first = sorted(node->first);
    for (struct far_kvm_xml *child = node->first; child != NULL; child = child->next) {
        node->last = child;
        sort(child);
    }
}

/* What libvirt says of a device while it runs: its alias, a copy under way, the terminal and the tap it got. */
static void drop_run_of_device(struct far_kvm_xml *device)
{
    static const char *const gone[] = {"alias", "mirror"};
    bool is_terminal = strcmp(far_kvm_xml_attr(device, "type"), "pty") == 0;
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        far_kvm_xml_drop(device, gone[i]);
    }
    if (is_terminal) {
        far_kvm_xml_drop(device, "source");
        far_kvm_xml_set(device, "tty", NULL);
    }
    const struct far_kvm_xml *target = far_kvm_xml_child(device, "target");
    bool is_made = strncmp(far_kvm_xml_attr(target, "dev"), "vnet", 4) == 0;
    if (strcmp(device->name, "interface") == 0 && is_made) {
        far_kvm_xml_drop(device, "target");
    }
}

void far_kvm_canonical(struct far_kvm_xml *domain)
{
    struct far_kvm_xml *devices = (struct far_kvm_xml *)far_kvm_xml_child(domain, "devices");
    far_kvm_xml_set(domain, "id", NULL);
    far_kvm_xml_drop(domain, "metadata"); /* notes of other programs, which come up with no recovered machine */
    for (struct far_kvm_xml *device = devices != NULL ? devices->first : NULL; device != NULL; device = device->next) {
        drop_run_of_device(device);
    }
    sort(domain);
}
