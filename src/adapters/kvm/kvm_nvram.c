/* The variables of a UEFI guest: its boot entries, its keys. They are in a file of the host's, beside the domain's XML, and come along in
 * the captured configuration as an element of its own, the last one of the domain:
 *
 *   <farshore:nvram xmlns:farshore='urn:farshore:nvram' version='1' bytes='540672'>0:0000…8d 66048:…</farshore:nvram>
 *
 * Runs of bytes, each at its offset, in hex; what no run has is 0xff, as flash is where nothing was written. Where they cannot come along,
 * the element has no runs and says why: <farshore:nvram … version='1' missed='…'/>. A machine that is made of a configuration without
 * runs begins with new variables, as libvirt's template has them. */
#include "adapters/kvm/kvm_helper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum {
    NVRAM_BYTES_MAX = 2 << 20, /* of the file; QEMU's firmware has at most 8 MiB with its code, OVMF 132 or 528 KiB of variables */
    GAP_BYTES = 32,            /* so many of 0xff end a run */
    FRAGMENT_MAX = 8 << 20,
    LEVEL = 9,                 /* as dataplane/captured.c compresses */
    WORDS = 160,
};

#define ELEMENT "farshore:nvram"
#define BEGINNING "<" ELEMENT " xmlns:farshore='urn:farshore:nvram' version='1' "

/* ---- capture ---- */

/* Where the variables are, as this XML says; "": it does not. false: in no file. */
static bool path_in(const struct far_kvm_xml *xml, char path[PATH_MAX])
{
    const struct far_kvm_xml *nvram = far_kvm_xml_child(far_kvm_xml_child(xml, "os"), "nvram");
    const char *type = far_kvm_xml_attr(nvram, "type"), *file = far_kvm_xml_attr(far_kvm_xml_child(nvram, "source"), "file");
    snprintf(path, PATH_MAX, "%s", file[0] != '\0' ? file : far_kvm_xml_text(nvram));
    return type[0] == '\0' || strcmp(type, "file") == 0;
}

/* A domain that runs knows best. One that is off, and whose firmware libvirt chooses at each start, does not say; then it is where libvirt
 * puts it. */
static bool find_file(const struct far_kvm_domain *domain, const struct far_kvm_xml *xml, char path[PATH_MAX])
{
    char *text = domain->is_active ? virDomainGetXMLDesc(domain->domain, 0) : NULL;
    struct far_kvm_xml *live = text != NULL ? far_kvm_xml_parse(text) : NULL;
    bool is_file = path_in(live != NULL ? live : xml, path);
    bool chooses = strcmp(far_kvm_xml_attr(far_kvm_xml_child(xml, "os"), "firmware"), "efi") == 0;
    if (is_file && path[0] == '\0' && chooses && live == NULL) {
        snprintf(path, PATH_MAX, "/var/lib/libvirt/qemu/nvram/%.200s_VARS.fd", virDomainGetName(domain->domain));
    }
    far_kvm_xml_free(live);
    free(text);
    return is_file;
}

/* -1: why is in words; 0: it is not there, or empty; else its bytes, for the caller to free. */
static ssize_t read_all(const char *path, uint8_t **ret_bytes, char words[WORDS])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), code = errno;
    struct stat about = {.st_size = 0};
    if (fd < 0 && code == ENOENT) {
        return 0; /* it was never started */
    }
    bool is_file = fd >= 0 && fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
    uint8_t *bytes = is_file && about.st_size <= NVRAM_BYTES_MAX ? malloc((size_t)about.st_size + 1) : NULL;
    ssize_t n = bytes != NULL ? pread(fd, bytes, (size_t)about.st_size, 0) : -1;
    if (n != about.st_size) {
        snprintf(words, WORDS, fd < 0 ? "%.90s: %s" : "%.90s is no file that can be read, or larger than 2 MiB", path, strerror(code));
        free(bytes);
        bytes = NULL;
        n = -1;
    }
    if (fd >= 0) {
        close(fd);
    }
    *ret_bytes = bytes;
    return n;
}

/* How long the run is that begins here: up to where nothing was written for a while. */
static size_t run_length(const uint8_t *bytes, size_t len)
{
    size_t end = 0;
    for (size_t i = 0; i < len && i < end + GAP_BYTES; i++) {
        end = bytes[i] != 0xff ? i + 1 : end;
    }
    return end;
}

static int write_runs(struct far_buf *to, const uint8_t *bytes, size_t len)
{
    const char *space = "";
    int rc = far_buf_printf(to, BEGINNING "bytes='%zu'>", len);
    for (size_t at = 0; rc == 0 && at < len;) {
        size_t run = bytes[at] != 0xff ? run_length(bytes + at, len - at) : 0;
        if (run == 0) {
            at++;
            continue;
        }
        rc = far_buf_printf(to, "%s%zu:", space, at);
        for (size_t i = 0; rc == 0 && i < run; i++) {
            rc = far_buf_printf(to, "%02x", bytes[at + i]);
        }
        space = " ";
        at += run;
    }
    return rc == 0 ? far_buf_append(to, "</" ELEMENT ">", sizeof "</" ELEMENT ">") : rc;
}

static bool add_missed(struct far_kvm_xml *xml, const char *words)
{
    struct far_buf text;
    far_buf_init(&text, 16 * WORDS);
    int rc = far_buf_append_str(&text, BEGINNING "missed='");
    rc = rc == 0 ? far_kvm_xml_escape(&text, words) : rc;
    rc = rc == 0 ? far_buf_append(&text, "'/>", sizeof "'/>") : rc;
    bool ok = rc == 0 && far_kvm_xml_add(xml, (const char *)text.data);
    far_buf_done(&text);
    return ok;
}

/* Is the whole short enough, as it is and compressed? */
static bool fits(const struct far_kvm_xml *xml, size_t *ret_packed)
{
    struct far_buf text;
    far_buf_init(&text, FRAGMENT_MAX);
    bool ok = far_kvm_xml_write(xml, &text) == 0;
    size_t size = ok ? ZSTD_compressBound(text.len) : 0;
    void *packed = ok ? malloc(size) : NULL;
    *ret_packed = packed != NULL ? ZSTD_compress(packed, size, text.data, text.len, LEVEL) : FRAGMENT_MAX;
    ok = packed != NULL && !ZSTD_isError(*ret_packed) && *ret_packed + 64 <= FAR_ADAPTER_CONFIG_PACKED_MAX &&
         text.len + 64 <= FAR_ADAPTER_CONFIG_TEXT_MAX;
    free(packed);
    far_buf_done(&text);
    return ok;
}

bool far_kvm_nvram_capture(const struct far_kvm_domain *domain, struct far_kvm_xml *xml)
{
    char path[PATH_MAX], words[WORDS] = "they are in no file";
    uint8_t *bytes = NULL;
    struct far_buf text;
    size_t packed;
    ssize_t len = find_file(domain, xml, path) ? (path[0] != '\0' ? read_all(path, &bytes, words) : 0) : -1;
    if (len <= 0) {
        free(bytes); /* of an empty file */
        return len == 0 || add_missed(xml, words);
    }
    far_buf_init(&text, FRAGMENT_MAX);
    bool ok = write_runs(&text, bytes, (size_t)len) == 0 && far_kvm_xml_add(xml, (const char *)text.data);
    if (ok && !fits(xml, &packed)) {
        snprintf(words, sizeof words, "with them its configuration has %zu bytes when it is compressed, at most %d may come along", packed,
                 FAR_ADAPTER_CONFIG_PACKED_MAX - 64);
        far_kvm_xml_drop(xml, ELEMENT);
        ok = add_missed(xml, words);
    }
    far_buf_done(&text);
    free(bytes);
    return ok;
}

/* ---- put ---- */

static int nibble(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* false: it is none of version 1, or damaged. */
static bool decode(const struct far_kvm_xml *element, size_t len, uint8_t *bytes)
{
    const char *c = far_kvm_xml_text(element);
    memset(bytes, 0xff, len);
    while (*c != '\0') {
        char *colon;
        unsigned long long at = strtoull(c, &colon, 10);
        if (*colon != ':' || colon == c) {
            return false;
        }
        for (c = colon + 1; nibble(c[0]) >= 0 && nibble(c[1]) >= 0; c += 2) {
            if (at >= len) {
                return false;
            }
            bytes[at++] = (uint8_t)(nibble(c[0]) << 4 | nibble(c[1]));
        }
        if (*c != ' ' && *c != '\0') {
            return false;
        }
        c += *c == ' ';
    }
    return true;
}

/* Whole or not at all. */
static bool write_file(const char *path, const uint8_t *bytes, size_t len)
{
    char beside[PATH_MAX + 8];
    snprintf(beside, sizeof beside, "%s.new", path);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && write(fd, bytes, len) == (ssize_t)len && fsync(fd) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return ok && rename(beside, path) == 0;
}

static bool add_path(struct far_kvm_xml *os, const char *path, const char *format)
{
    struct far_buf text;
    far_buf_init(&text, 8 * PATH_MAX);
    int rc = far_buf_append_str(&text, "<nvram>");
    rc = rc == 0 ? far_kvm_xml_escape(&text, path) : rc;
    rc = rc == 0 ? far_buf_append(&text, "</nvram>", sizeof "</nvram>") : rc;
    bool ok = rc == 0 && far_kvm_xml_add(os, (const char *)text.data) && (format[0] == '\0' || far_kvm_xml_set(os->last, "format", format));
    far_buf_done(&text);
    return ok;
}

int far_kvm_nvram_put(struct far_kvm_xml *xml, struct far_kvm_xml *os, const char *path, bool takes_them,
                      struct far_adapter_error *ret_error)
{
    const struct far_kvm_xml *element = far_kvm_xml_child(xml, ELEMENT);
    char format[16] = "";
    snprintf(format, sizeof format, "%.15s", far_kvm_xml_attr(far_kvm_xml_child(os, "nvram"), "format"));
    if (os != NULL) {
        far_kvm_xml_drop(os, "nvram"); /* the other host's file: without another one libvirt makes one from its template */
    }
    size_t len = (size_t)strtoull(far_kvm_xml_attr(element, "bytes"), NULL, 10);
    bool has_them = element != NULL && far_kvm_xml_attr(element, "missed")[0] == '\0', ok = true;
    if (has_them && takes_them && os != NULL) {
        bool is_known = strcmp(far_kvm_xml_attr(element, "version"), "1") == 0 && len > 0 && len <= NVRAM_BYTES_MAX;
        uint8_t *bytes = is_known ? malloc(len) : NULL;
        if (bytes == NULL || !decode(element, len, bytes)) {
            free(bytes);
            return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CORRUPT,
                                    "the variables of its UEFI firmware (NVRAM) in its configuration cannot be read");
        }
        ok = write_file(path, bytes, len);
        int code = errno;
        free(bytes);
        if (!ok) {
            return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_IO, "write the variables of its UEFI firmware to '%.200s': %s", path,
                                    strerror(code));
        }
        ok = add_path(os, path, format);
    }
    far_kvm_xml_drop(xml, ELEMENT);
    return ok ? FAR_ADAPTER_OK : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
}
