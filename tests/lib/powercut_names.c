/* See powercut_names.h. */
#define _GNU_SOURCE 1
#include "powercut_names.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void powercut_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "powercut: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "%s%s\n", errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
    va_end(arguments);
    exit(2);
}

void *powercut_grow(void *list, size_t count, size_t *capacity, size_t element)
{
    if (count < *capacity) {
        return list;
    }
    *capacity = *capacity != 0 ? *capacity * 2 : 64;
    list = realloc(list, *capacity * element);
    if (list == NULL) {
        powercut_die("out of memory");
    }
    return list;
}

int powercut_lookup(const struct names *names, int parent, const char *name)
{
    for (size_t i = 0; i < names->count; i++) {
        const struct entry *entry = &names->list[i];
        if (entry->inode != POWERCUT_NONE && entry->parent == parent && strcmp(entry->name, name) == 0) {
            return (int)i;
        }
    }
    return POWERCUT_NONE;
}

void powercut_add_name(struct names *names, int parent, const char *name, int inode)
{
    int taken = powercut_lookup(names, parent, name);
    if (taken != POWERCUT_NONE) {
        names->list[taken].inode = inode;
        return;
    }
    names->list = powercut_grow(names->list, names->count, &names->capacity, sizeof *names->list);
    struct entry *entry = &names->list[names->count++];
    entry->parent = parent;
    entry->inode = inode;
    snprintf(entry->name, sizeof entry->name, "%s", name);
}

int powercut_resolve(const struct names *names, const char *path, size_t length, int *ret_parent,
                     char last[NAME_MAX + 1])
{
    int inode = POWERCUT_ROOT;
    *ret_parent = POWERCUT_ROOT;
    last[0] = '\0';
    const char *end = path + length;
    while (path < end) {
        const char *slash = memchr(path, '/', (size_t)(end - path));
        size_t part = slash != NULL ? (size_t)(slash - path) : (size_t)(end - path);
        *ret_parent = inode;
        snprintf(last, NAME_MAX + 1, "%.*s", (int)part, path);
        int found = inode != POWERCUT_NONE ? powercut_lookup(names, inode, last) : POWERCUT_NONE;
        inode = found != POWERCUT_NONE ? names->list[found].inode : POWERCUT_NONE;
        path += part + (slash != NULL);
    }
    return inode;
}

struct names powercut_copy_names(const struct names *from)
{
    struct names copy = {.count = from->count, .capacity = from->count + 64};
    copy.list = calloc(copy.capacity, sizeof *copy.list);
    if (copy.list == NULL) {
        powercut_die("out of memory");
    }
    if (from->count > 0) { /* an empty base has no list at all */
        memcpy(copy.list, from->list, from->count * sizeof *copy.list);
    }
    return copy;
}
