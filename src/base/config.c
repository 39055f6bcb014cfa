/* Configuration files: see config.h. */
#include "base/config.h"

#include "base/buf.h"
#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct parser {
    const char *name;
    unsigned line;
    const struct far_config_key *keys;
    size_t count;
    bool seen[FAR_CONFIG_KEYS_MAX];
    struct far_error *err;
};

static int wrong(struct parser *p, const char *key, const char *why)
{
    return far_fail(p->err, FAR_INVALID, "%s:%u: '%s' %s", p->name, p->line, key, why);
}

static bool parse_u64(const char *text, uint64_t *ret)
{
    char *end = NULL;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0) {
        return false;
    }
    unsigned shift = *end == 'k' ? 10 : *end == 'm' ? 20 : *end == 'g' ? 30 : 0;
    end += shift != 0;
    if (*end != '\0' || v > UINT64_MAX >> shift) {
        return false;
    }
    *ret = (uint64_t)v << shift;
    return true;
}

static int set(struct parser *p, const struct far_config_key *key, const char *text)
{
    uint64_t number = 0;
    switch (key->type) {
    case FAR_CONFIG_TEXT:
        if (strlen(text) >= key->size) {
            return wrong(p, key->name, "is too long");
        }
        strcpy(key->value, text);
        return 0;
    case FAR_CONFIG_U64:
        if (!parse_u64(text, &number) || number < key->min || number > key->max) {
            return far_fail(p->err, FAR_INVALID, "%s:%u: '%s' must be a number from %llu to %llu", p->name, p->line,
                            key->name, (unsigned long long)key->min, (unsigned long long)key->max);
        }
        *(uint64_t *)key->value = number;
        return 0;
    case FAR_CONFIG_HEX:
        if (!far_hex_decode(text, strlen(text), key->value, key->size)) {
            return wrong(p, key->name, "is not hexadecimal of the right length");
        }
        return 0;
    }
    return wrong(p, key->name, "has no type");
}

/* Cuts white space off both ends, in place. */
static char *trim(char *text)
{
    text += strspn(text, " \t\r");
    size_t len = strlen(text);
    while (len > 0 && strchr(" \t\r", text[len - 1]) != NULL) {
        text[--len] = '\0';
    }
    return text;
}

static int parse_line(struct parser *p, char *line)
{
    char *text = trim(line);
    if (*text == '\0' || *text == '#') {
        return 0;
    }
    char *equals = strchr(text, '=');
    if (equals == NULL) {
        return wrong(p, text, "is not `key = value`");
    }
    *equals = '\0';
    char *key = trim(text);
    for (size_t i = 0; i < p->count; i++) {
        if (strcmp(p->keys[i].name, key) != 0) {
            continue;
        }
        if (p->seen[i]) {
            return wrong(p, key, "is given twice");
        }
        p->seen[i] = true;
        return set(p, &p->keys[i], trim(equals + 1));
    }
    return wrong(p, key, "is no key of this program");
}

int far_config_parse(const char *text, size_t len, const char *name, const struct far_config_key *keys, size_t count,
                     struct far_error *err)
{
    if (len > FAR_CONFIG_BYTES_MAX || count > FAR_CONFIG_KEYS_MAX || memchr(text, '\0', len) != NULL) {
        return far_fail(err, FAR_INVALID, "%s is no configuration file", name);
    }
    char *copy = strndup(text, len);
    if (copy == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to read %s", name);
    }
    struct parser p = {.name = name, .keys = keys, .count = count, .err = err};
    int rc = 0;
    char *rest = copy;
    for (char *line = strsep(&rest, "\n"); line != NULL && rc == 0; line = strsep(&rest, "\n")) {
        p.line++;
        rc = parse_line(&p, line);
    }
    for (size_t i = 0; i < count && rc == 0; i++) {
        if (keys[i].required && !p.seen[i]) {
            rc = far_fail(err, FAR_INVALID, "%s: '%s' is missing", name, keys[i].name);
        }
    }
    explicit_bzero(copy, len); /* it may be a file of keys */
    free(copy);
    return rc;
}

int far_config_load(const char *path, const struct far_config_key *keys, size_t count, struct far_error *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open '%s'", path);
    }
    char *text = malloc(FAR_CONFIG_BYTES_MAX + 1);
    int rc = text == NULL ? far_fail(err, FAR_LIMIT, "no memory to read '%s'", path) : 0;
    if (rc == 0) {
        setvbuf(file, NULL, _IONBF, 0); /* no copy of it stays behind */
        size_t len = fread(text, 1, FAR_CONFIG_BYTES_MAX + 1, file);
        rc = ferror(file) ? far_fail_errno(err, FAR_IO, errno, "read '%s'", path)
                          : far_config_parse(text, len, path, keys, count, err);
        explicit_bzero(text, len);
    }
    free(text);
    fclose(file);
    return rc;
}

static int print(const struct far_config_key *key, struct far_buf *out)
{
    int rc = key->comment == NULL ? 0 : far_buf_printf(out, "# %s\n", key->comment);
    if (rc != 0) {
        return rc;
    }
    if (key->type == FAR_CONFIG_TEXT) {
        return far_buf_printf(out, "%s = %s\n", key->name, (const char *)key->value);
    }
    if (key->type == FAR_CONFIG_U64) {
        return far_buf_printf(out, "%s = %llu\n", key->name, (unsigned long long)*(const uint64_t *)key->value);
    }
    rc = far_buf_printf(out, "%s = ", key->name);
    for (size_t i = 0; i < key->size && rc == 0; i++) {
        rc = far_buf_printf(out, "%02x", ((const uint8_t *)key->value)[i]);
    }
    return rc == 0 ? far_buf_append_str(out, "\n") : rc;
}

int far_config_save(const char *path, const struct far_config_key *keys, size_t count, struct far_error *err)
{
    struct far_buf text;
    far_buf_init(&text, FAR_CONFIG_BYTES_MAX);
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = print(&keys[i], &text);
    }
    rc = rc == 0 ? far_file_replace(path, text.data, text.len, 0600, err)
                 : far_fail(err, rc, "the configuration does not fit into '%s'", path);
    far_buf_done(&text);
    return rc;
}
