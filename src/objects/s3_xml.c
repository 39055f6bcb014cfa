/* XML answers of stores: see s3_xml.h. On a good day expat hands over the elements; the text of a leaf is gathered, and at its end
 * given to a function with the names of the elements around it. What breaks a bound stops the parser, and the answer is FAR_CORRUPT. */
#include "objects/s3_xml.h"

#include "base/moment.h"

#include <errno.h>
#include <expat.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAME_MAX_BYTES = 64 };

struct walk;
/* At the end of the element names[depth - 1]; text is what is directly in it. False: it cannot be. */
typedef bool (*leaf_fn)(void *arg, const struct walk *walk, const char *text, size_t len);
typedef void (*begin_fn)(void *arg, const struct walk *walk);

struct walk {
    XML_Parser parser;
    leaf_fn end;
    begin_fn begin; /* may be NULL */
    void *arg;
    const char *wrong; /* NULL: nothing so far */
    unsigned depth;
    char names[FAR_S3_DEPTH_MAX][NAME_MAX_BYTES];
    char text[FAR_S3_TEXT_MAX];
    size_t text_len;
};

static void stop(struct walk *walk, const char *why)
{
    walk->wrong = walk->wrong != NULL ? walk->wrong : why;
    XML_StopParser(walk->parser, XML_FALSE);
}

static void XMLCALL on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    (void)attributes;
    struct walk *walk = arg;
    const char *local = strrchr(name, ':');
    local = local != NULL ? local + 1 : name;
    if (walk->depth == FAR_S3_DEPTH_MAX) {
        stop(walk, "its elements are too deep");
        return;
    }
    snprintf(walk->names[walk->depth++], NAME_MAX_BYTES, "%s", local); /* a longer one is none that we know */
    walk->text_len = 0;
    if (walk->begin != NULL) {
        walk->begin(walk->arg, walk);
    }
}

static void XMLCALL on_end(void *arg, const XML_Char *name)
{
    (void)name;
    struct walk *walk = arg;
    if (walk->wrong != NULL) { /* expat may call once more after a stop */
        return;
    }
    walk->text[walk->text_len] = '\0';
    if (memchr(walk->text, '\0', walk->text_len) != NULL || !walk->end(walk->arg, walk, walk->text, walk->text_len)) {
        stop(walk, "a value in it cannot be");
    }
    walk->text_len = 0;
    walk->depth--;
}

static void XMLCALL on_text(void *arg, const XML_Char *text, int len)
{
    struct walk *walk = arg;
    if (walk->wrong != NULL || len < 0) {
        return;
    }
    if ((size_t)len >= sizeof walk->text - walk->text_len) {
        stop(walk, "a value in it is too long");
        return;
    }
    memcpy(walk->text + walk->text_len, text, (size_t)len);
    walk->text_len += (size_t)len;
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *system, const XML_Char *public, int internal)
{
    (void)name, (void)system, (void)public, (void)internal;
    stop(arg, "it declares a document type");
}

/* NULL, or why the document was refused. */
static const char *walk_all(struct walk *walk, struct far_slice xml)
{
    if (xml.len == 0 || xml.len > FAR_S3_XML_MAX) {
        return xml.len == 0 ? "it is empty" : "it is too long";
    }
    walk->parser = XML_ParserCreate(NULL);
    if (walk->parser == NULL) {
        return "there is no memory to read it";
    }
    XML_SetUserData(walk->parser, walk);
    XML_SetElementHandler(walk->parser, on_start, on_end);
    XML_SetCharacterDataHandler(walk->parser, on_text);
    XML_SetStartDoctypeDeclHandler(walk->parser, on_doctype);
    bool good = XML_Parse(walk->parser, (const char *)xml.data, (int)xml.len, 1) == XML_STATUS_OK;
    if (!good && walk->wrong == NULL) {
        walk->wrong = XML_ErrorString(XML_GetErrorCode(walk->parser));
    }
    XML_ParserFree(walk->parser);
    return walk->wrong;
}

static bool named(const struct walk *walk, unsigned level, const char *name)
{
    return level < walk->depth && strcmp(walk->names[level], name) == 0;
}

/* ---- errors ---- */

/* For people: printable ASCII only. */
static void keep_words(char *ret, size_t size, const char *text)
{
    size_t i = 0;
    for (; text[i] != '\0' && i + 1 < size; i++) {
        ret[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    }
    ret[i] = '\0';
}

static bool fault_leaf(void *arg, const struct walk *walk, const char *text, size_t len)
{
    (void)len;
    struct far_s3_fault *fault = arg;
    if (walk->depth == 2 && named(walk, 0, "Error") && named(walk, 1, "Code")) {
        keep_words(fault->code, sizeof fault->code, text);
    }
    if (walk->depth == 2 && named(walk, 0, "Error") && named(walk, 1, "Message")) {
        keep_words(fault->message, sizeof fault->message, text);
    }
    return walk->depth != 1 || named(walk, 0, "Error");
}

bool far_s3_xml_fault(struct far_slice xml, struct far_s3_fault *ret)
{
    struct walk walk = {.end = fault_leaf, .arg = ret};
    memset(ret, 0, sizeof *ret);
    bool is_fault = walk_all(&walk, xml) == NULL && ret->code[0] != '\0';
    if (!is_fault) {
        memset(ret, 0, sizeof *ret);
    }
    return is_fault;
}

/* ---- one value ---- */

struct value {
    const char *root;
    const char *name;
    char *ret;
    size_t size;
    bool found;
};

static bool value_leaf(void *arg, const struct walk *walk, const char *text, size_t len)
{
    struct value *value = arg;
    if (walk->depth == 2 && named(walk, 0, value->root) && named(walk, 1, value->name)) {
        if (value->found || len == 0 || len >= value->size) {
            return false;
        }
        memcpy(value->ret, text, len + 1);
        value->found = true;
    }
    return true;
}

int far_s3_xml_value(struct far_slice xml, const char *root, const char *name, char *ret, size_t size, struct far_error *err)
{
    struct value value = {.root = root, .name = name, .ret = ret, .size = size};
    struct walk walk = {.end = value_leaf, .arg = &value};
    const char *wrong = walk_all(&walk, xml);
    if (wrong == NULL && !value.found) {
        wrong = "it does not say what was asked for";
    }
    return wrong == NULL ? 0 : far_fail(err, FAR_CORRUPT, "the store's answer is no %s with a %s: %s", root, name, wrong);
}

/* ---- pages of lists ---- */

struct list {
    struct far_s3_page *page;
    struct far_s3_item item;
    bool uploads, versions; /* else objects */
    bool encoded; /* EncodingType url: keys and markers; it may come behind them, so it is known in the second walk */
    far_s3_item_fn each; /* NULL in the first walk */
    void *arg;
    struct far_error *err;
    int rc; /* of each */
};

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In place: %41 is A, and '+' a blank, as in forms. */
static bool url_decode(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '%') {
            *to++ = *from == '+' ? ' ' : *from;
            continue;
        }
        int high = digit(from[1]), low = high < 0 ? -1 : digit(from[2]);
        if (low < 0 || high * 16 + low == 0) {
            return false;
        }
        *to++ = (char)(high * 16 + low);
        from += 2;
    }
    *to = '\0';
    return true;
}

static bool keep(char *ret, size_t size, const char *text, size_t len)
{
    if (len >= size) {
        return false;
    }
    memcpy(ret, text, len + 1);
    return true;
}

static bool keep_number(uint64_t *ret, const char *text)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    *ret = value;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

static bool keep_time(uint64_t *ret, const char *text)
{
    struct far_moment moment;
    if (far_moment_parse(far_slice_str(text), &moment, NULL) != 0 || moment.kind != FAR_MOMENT_TIME) {
        return false;
    }
    *ret = moment.value;
    return true;
}

static bool keep_etag(char ret[72], const char *text, size_t len)
{
    bool quoted = len >= 2 && text[0] == '"' && text[len - 1] == '"';
    char etag[74];
    if (len >= sizeof etag) {
        return false;
    }
    snprintf(etag, sizeof etag, "%.*s", (int)(quoted ? len - 2 : len), text + (quoted ? 1 : 0));
    return keep(ret, 72, etag, strlen(etag));
}

static bool is_item(const struct list *list, const char *name)
{
    if (list->versions) {
        return strcmp(name, "Version") == 0 || strcmp(name, "DeleteMarker") == 0;
    }
    return strcmp(name, list->uploads ? "Upload" : "Contents") == 0;
}

static void list_begin(void *arg, const struct walk *walk)
{
    struct list *list = arg;
    if (walk->depth == 1) {
        list->uploads = named(walk, 0, "ListMultipartUploadsResult");
        list->versions = named(walk, 0, "ListVersionsResult");
    }
    if (walk->depth == 2 && is_item(list, walk->names[1])) {
        memset(&list->item, 0, sizeof list->item);
        list->item.is_marker = list->versions && strcmp(walk->names[1], "DeleteMarker") == 0;
    }
}

static bool item_leaf(struct list *list, const char *name, const char *text, size_t len)
{
    struct far_s3_item *item = &list->item;
    if (strcmp(name, "Key") == 0) {
        return keep(item->key, sizeof item->key, text, len) && (!list->encoded || url_decode(item->key));
    }
    if (strcmp(name, "UploadId") == 0) {
        return keep(item->upload_id, sizeof item->upload_id, text, len);
    }
    if (strcmp(name, "VersionId") == 0) {
        return keep(item->version, sizeof item->version, text, len);
    }
    if (strcmp(name, "IsLatest") == 0) {
        item->is_latest = strcmp(text, "true") == 0;
        return item->is_latest || strcmp(text, "false") == 0;
    }
    if (strcmp(name, "ETag") == 0) {
        return keep_etag(item->etag, text, len);
    }
    if (strcmp(name, "Size") == 0) {
        return keep_number(&item->size, text);
    }
    if (strcmp(name, "LastModified") == 0 || strcmp(name, "Initiated") == 0) {
        return keep_time(&item->time_ms, text);
    }
    return true;
}

static bool page_leaf(struct list *list, const char *name, const char *text, size_t len)
{
    struct far_s3_page *page = list->page;
    if (strcmp(name, "IsTruncated") == 0) {
        page->truncated = strcmp(text, "true") == 0;
        return page->truncated || strcmp(text, "false") == 0;
    }
    if (strcmp(name, "EncodingType") == 0) {
        list->encoded = strcmp(text, "url") == 0;
        return list->encoded || len == 0;
    }
    bool by_key = list->uploads || list->versions;
    if (strcmp(name, by_key ? "NextKeyMarker" : "NextContinuationToken") == 0) {
        return keep(page->next, sizeof page->next, text, len) && (!by_key || !list->encoded || url_decode(page->next));
    }
    if (by_key && strcmp(name, list->uploads ? "NextUploadIdMarker" : "NextVersionIdMarker") == 0) {
        return keep(page->next_upload, sizeof page->next_upload, text, len);
    }
    return true;
}

static bool list_leaf(void *arg, const struct walk *walk, const char *text, size_t len)
{
    struct list *list = arg;
    if (walk->depth == 1) {
        return list->uploads || list->versions || named(walk, 0, "ListBucketResult");
    }
    if (walk->depth == 3 && is_item(list, walk->names[1])) {
        return item_leaf(list, walk->names[2], text, len);
    }
    if (walk->depth != 2) {
        return true;
    }
    if (!is_item(list, walk->names[1])) {
        return page_leaf(list, walk->names[1], text, len);
    }
    if (list->item.key[0] == '\0' || (list->uploads && list->item.upload_id[0] == '\0') ||
        (list->versions && list->item.version[0] == '\0')) {
        return false;
    }
    list->page->count++;
    list->rc = list->each != NULL ? list->each(list->arg, &list->item, list->err) : 0;
    return list->rc == 0;
}

static const char *list_walk(struct list *list, struct far_slice xml)
{
    struct walk walk = {.begin = list_begin, .end = list_leaf, .arg = list};
    memset(list->page, 0, sizeof *list->page);
    return walk_all(&walk, xml);
}

int far_s3_xml_list(struct far_slice xml, far_s3_item_fn each, void *arg, struct far_s3_page *ret_page, struct far_error *err)
{
    struct list *list = calloc(1, sizeof *list);
    struct far_s3_page *page = calloc(1, sizeof *page);
    int rc = list == NULL || page == NULL ? far_fail(err, FAR_LIMIT, "no memory to read a list") : 0;
    if (rc != 0) {
        goto out;
    }
    list->page = page;
    const char *wrong = list_walk(list, xml); /* all of it, for what is wrong and whether keys are encoded */
    if (wrong == NULL && page->truncated && page->next[0] == '\0') {
        wrong = "it does not say where it goes on";
    }
    if (wrong == NULL) {
        list->each = each;
        list->arg = arg;
        list->err = err;
        wrong = list_walk(list, xml);
    }
    if (list->rc != 0) {
        rc = list->rc;
    } else if (wrong != NULL) {
        rc = far_fail(err, FAR_CORRUPT, "the store's answer is no list: %s", wrong);
    } else {
        *ret_page = *page;
    }
out:
    free(list);
    free(page);
    return rc;
}
