/* XML of libvirt as a small tree: see kvm_xml.h. A document that is wrong, too large or too deep stops the parser; what was made goes. */
#include "adapters/kvm/kvm_xml.h"

#include <expat.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 16 << 20, NODES_MAX = 50000, DEPTH_MAX = 100 };

struct making {
    XML_Parser parser;
    struct far_kvm_xml *root;
    struct far_kvm_xml *path[DEPTH_MAX];
    size_t depth, nodes;
    bool failed;
};

static void stop(struct making *making)
{
    making->failed = true;
    XML_StopParser(making->parser, XML_FALSE);
}

static bool copy_attributes(struct far_kvm_xml *node, const XML_Char **attributes)
{
    size_t count = 0;
    while (attributes[count] != NULL) {
        count++;
    }
    node->attributes = calloc(count + 1, sizeof *node->attributes);
    bool ok = node->attributes != NULL;
    for (size_t i = 0; ok && i < count; i++) {
        node->attributes[i] = strdup(attributes[i]);
        ok = node->attributes[i] != NULL;
    }
    return ok;
}

static void on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    struct making *making = arg;
    struct far_kvm_xml *node = making->depth < DEPTH_MAX && making->nodes++ < NODES_MAX ? calloc(1, sizeof *node) : NULL;
    if (node == NULL) {
        stop(making);
        return;
    }
    struct far_kvm_xml *parent = making->depth > 0 ? making->path[making->depth - 1] : NULL;
    if (parent == NULL) {
        making->root = node;
    } else if (parent->last != NULL) {
        parent->last = parent->last->next = node;
    } else {
        parent->first = parent->last = node;
    }
    making->path[making->depth++] = node;
    node->name = strdup(name);
    if (node->name == NULL || !copy_attributes(node, attributes)) {
        stop(making);
    }
}

static void on_end(void *arg, const XML_Char *name)
{
    struct making *making = arg;
    making->depth--;
}

static void on_text(void *arg, const XML_Char *text, int length)
{
    struct making *making = arg;
    struct far_kvm_xml *node = making->path[making->depth - 1];
    char *longer = realloc(node->text, node->text_len + (size_t)length + 1);
    if (longer == NULL) {
        stop(making);
        return;
    }
    memcpy(longer + node->text_len, text, (size_t)length);
    node->text = longer;
    node->text_len += (size_t)length;
    node->text[node->text_len] = '\0';
}

struct far_kvm_xml *far_kvm_xml_parse(const char *text)
{
    struct making making = {.parser = XML_ParserCreate(NULL)};
    size_t len = strlen(text);
    if (making.parser == NULL || len > TEXT_MAX) {
        XML_ParserFree(making.parser);
        return NULL;
    }
    XML_SetUserData(making.parser, &making);
    XML_SetElementHandler(making.parser, on_start, on_end);
    XML_SetCharacterDataHandler(making.parser, on_text);
    bool ok = XML_Parse(making.parser, text, (int)len, 1) == XML_STATUS_OK && !making.failed;
    XML_ParserFree(making.parser);
    if (!ok) {
        far_kvm_xml_free(making.root);
        return NULL;
    }
    return making.root;
}

void far_kvm_xml_free(struct far_kvm_xml *root)
{
    if (root == NULL) {
        return;
    }
    for (struct far_kvm_xml *child = root->first, *next; child != NULL; child = next) {
        next = child->next;
        far_kvm_xml_free(child);
    }
    for (size_t i = 0; root->attributes != NULL && root->attributes[i] != NULL; i++) {
        free(root->attributes[i]);
    }
    free(root->attributes);
    free(root->name);
    free(root->text);
    free(root);
}

static const struct far_kvm_xml *named(const struct far_kvm_xml *node, const char *name)
{
    while (node != NULL && strcmp(node->name, name) != 0) {
        node = node->next;
    }
    return node;
}

const struct far_kvm_xml *far_kvm_xml_child(const struct far_kvm_xml *node, const char *name)
{
    return node != NULL ? named(node->first, name) : NULL;
}

const struct far_kvm_xml *far_kvm_xml_next(const struct far_kvm_xml *node)
{
    return named(node->next, node->name);
}

const char *far_kvm_xml_attr(const struct far_kvm_xml *node, const char *name)
{
    for (size_t i = 0; node != NULL && node->attributes[i] != NULL; i += 2) {
        if (strcmp(node->attributes[i], name) == 0) {
            return node->attributes[i + 1];
        }
    }
    return "";
}

const char *far_kvm_xml_text(const struct far_kvm_xml *node)
{
    return node != NULL && node->text != NULL ? node->text : "";
}

int far_kvm_xml_escape(struct far_buf *to, const char *text)
{
    int rc = 0;
    for (; rc == 0 && *text != '\0'; text++) {
        const char *entity = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '\'' ? "&apos;" : NULL;
        entity = *text == '"' ? "&quot;" : entity;
        rc = entity != NULL ? far_buf_append_str(to, entity) : far_buf_append(to, text, 1);
    }
    return rc;
}
