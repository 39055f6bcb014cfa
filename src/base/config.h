/* Configuration files: `key = value` lines, `#` comments, described by a table of the program's keys.
 *
 * The table is the documentation: an unknown key, a repeated one, a bad value or a missing required one is FAR_INVALID
 * and names file, line and key. Values live in the program's own struct. One thread at a time. */
#ifndef FAR_BASE_CONFIG_H
#define FAR_BASE_CONFIG_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum far_config_type {
    FAR_CONFIG_TEXT, /* value points to a char array of `size` bytes */
    FAR_CONFIG_U64,  /* value points to a uint64_t within [min, max]; suffixes k, m, g mean 2^10, 2^20, 2^30 */
    FAR_CONFIG_HEX,  /* value points to `size` bytes, written as hexadecimal */
};

struct far_config_key {
    const char *name;
    enum far_config_type type;
    void *value;
    size_t size;
    uint64_t min;
    uint64_t max;
    bool required;
    const char *comment; /* written above the key; NULL = none */
};

enum { FAR_CONFIG_BYTES_MAX = 64 * 1024, FAR_CONFIG_KEYS_MAX = 64 };

/* Sets what the file names, leaves the rest as it was (set defaults before). Nothing is set on failure of reading; on a
 * wrong line the lines before it are. FAR_NOT_FOUND: no such file. */
int far_config_load(const char *path, const struct far_config_key *keys, size_t count, struct far_error *err);
/* The same from memory; name is for messages. */
int far_config_parse(const char *text, size_t len, const char *name, const struct far_config_key *keys, size_t count,
                     struct far_error *err);
/* Writes all keys, whole or not at all, mode 0600. */
int far_config_save(const char *path, const struct far_config_key *keys, size_t count, struct far_error *err);

#endif
