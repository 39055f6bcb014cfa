/* Views of NBD exports and their lists of changes.
 *
 * A list is a dirty bitmap that the export offers as the metadata context qemu:dirty-bitmap:NAME. A bitmap's name stands for
 * the moment from which it counts, so it is the token of a view: "bitmap NAME, wherever it is offered, names everything that
 * changed since this view". Who exports says which one, in either of two ways:
 *
 *   bitmap=NAME in the locator or the adapter's settings: this view's own export offers the bitmap, so it counts from before
 *   the view on. It must go on counting; cleared and gone on with under the same name it would lie.
 *
 *   farshore-token=NAME in the export's description (qemu-nbd -D, description= of a QEMU export): a bitmap that begins with this
 *   view, as when each view of a running machine disables one bitmap and begins the next. Views that follow offer it.
 *
 * changed() of a later view then asks for the bitmap `since`; one that is not offered is a resync. Nothing is held here but the
 * connection between two pages: what a page has no room for is asked for again, and how much of the disk is asked about at once
 * follows how much is found there. */
#include "adapters/nbd/nbd_adapter.h"

#include "base/clock.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_FEW = 512, LIST_MANY = 16384, TRIES = 3 };

static const char token_mark[] = "farshore-token=";
static const char dirty_prefix[] = "qemu:dirty-bitmap:";
/* Of one request; a reply may hold an entry of 8 bytes for each of its smallest pieces, so the first one is small. */
static const uint64_t piece_first = 64ull << 20, piece_max = 2048ull << 20;

/* ---- freeze ---- */

static void take_identity(const struct far_nbd_place *place, const struct far_nbd_about *about, char identity[128])
{
    uint64_t hash = far_hash64_parts(far_slice_str(place->uri), far_slice_str("\n"), far_slice_str(about->name));
    snprintf(identity, 128, "nbd:%016llx:%.100s", (unsigned long long)hash, about->name[0] != '\0' ? about->name : place->uri);
}

/* The bitmap that counts from this view on, as the description says, or "". */
static void told_token(const char *description, char token[128])
{
    const char *mark = strstr(description, token_mark);
    size_t len = mark != NULL ? strcspn(mark + strlen(token_mark), " \t;,") : 0;
    bool whole = len > 0 && len <= FAR_NBD_TOKEN_MAX;
    snprintf(token, 128, "%.*s", whole ? (int)len : 0, whole ? mark + strlen(token_mark) : "");
}

static int freeze_disk(const struct far_nbd *nbd, const struct far_adapter_disk *disk, struct far_adapter_found *ret_found,
                       bool *ret_live, struct far_adapter_error *ret_error)
{
    struct far_nbd_place place;
    struct far_nbd_link *link;
    struct far_adapter_found found = {0};
    char context[FAR_NBD_NAME_MAX];
    int outcome = far_nbd_place(nbd, disk->locator, &place, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    snprintf(context, sizeof context, "%s%s", place.bitmap[0] != '\0' ? dirty_prefix : "base:allocation", place.bitmap);
    outcome = far_nbd_connect(nbd, place.uri, context, false, &link, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    const struct far_nbd_about *about = far_nbd_link_about(link);
    found.size_bytes = about->size_bytes;
    take_identity(&place, about, found.identity);
    told_token(about->description, found.token);
    if (found.token[0] == '\0' && about->has_context) {
        snprintf(found.token, sizeof found.token, "%s", place.bitmap);
    }
    *ret_live = *ret_live || !about->read_only;
    far_nbd_link_unref(link);
    if (found.size_bytes == 0) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT, "the export at '%.160s' is empty: it has 0 bytes",
                                place.uri);
    }
    *ret_found = found;
    return FAR_ADAPTER_OK;
}

int far_nbd_freeze(void *platform, const char *ref_hint, const struct far_adapter_disk *disks, size_t count,
                   struct far_adapter_found *ret_found, char ret_ref[128], bool *ret_fuzzy,
                   struct far_adapter_error *ret_error)
{
    bool live = false;
    for (size_t i = 0; i < count; i++) {
        int outcome = freeze_disk(platform, &disks[i], &ret_found[i], &live, ret_error);
        if (outcome != FAR_ADAPTER_OK) {
            return outcome;
        }
    }
    snprintf(ret_ref, 128, "%s:%s", live ? "nbd-live" : "nbd", ref_hint);
    *ret_fuzzy = live;
    return FAR_ADAPTER_OK;
}

/* Nothing was made. */
int far_nbd_release(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                    struct far_adapter_error *ret_error)
{
    return FAR_ADAPTER_OK;
}

/* ---- connections between pages ---- */

void far_nbd_list_free(struct far_nbd_list *list)
{
    if (list != NULL) {
        far_nbd_link_unref(list->link);
        free(list);
    }
}

/* One that lies idle, or NULL; it is the caller's until list_give(). */
static struct far_nbd_list *list_take(struct far_nbd *nbd, const char *uri, const char *since)
{
    struct far_nbd_list *found = NULL;
    pthread_mutex_lock(&nbd->mutex);
    for (size_t i = 0; i < FAR_NBD_LISTS_MAX && found == NULL; i++) {
        struct far_nbd_list *list = nbd->lists[i];
        if (list != NULL && strcmp(list->uri, uri) == 0 && strcmp(list->since, since) == 0) {
            found = list;
            nbd->lists[i] = NULL;
        }
    }
    pthread_mutex_unlock(&nbd->mutex);
    return found;
}

static void list_give(struct far_nbd *nbd, struct far_nbd_list *list)
{
    pthread_mutex_lock(&nbd->mutex);
    size_t place = 0;
    for (size_t i = 0; i < FAR_NBD_LISTS_MAX; i++) {
        if (nbd->lists[i] == NULL) {
            place = i;
            break;
        }
        place = nbd->lists[i]->used_at < nbd->lists[place]->used_at ? i : place;
    }
    struct far_nbd_list *old = nbd->lists[place];
    list->used_at = ++nbd->uses;
    nbd->lists[place] = list;
    pthread_mutex_unlock(&nbd->mutex);
    far_nbd_list_free(old);
}

static int list_open(struct far_nbd *nbd, const char *uri, const char *since, struct far_nbd_list **ret_list,
                     struct far_adapter_error *ret_error)
{
    char context[FAR_NBD_NAME_MAX];
    struct far_nbd_link *link;
    snprintf(context, sizeof context, "%s%s", dirty_prefix, since);
    int outcome = far_nbd_connect(nbd, uri, context, false, &link, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    struct far_nbd_list *list = calloc(1, sizeof *list);
    if (list == NULL || !far_nbd_link_about(link)->has_context) {
        far_nbd_link_unref(link);
        outcome = list != NULL ? far_adapter_fail(ret_error, FAR_ADAPTER_RESYNC, FAR_CONFLICT,
                                                  "the export offers no dirty bitmap '%s': '%.160s'", since, uri)
                               : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
        free(list);
        return outcome;
    }
    list->link = link;
    list->piece = piece_first;
    snprintf(list->uri, sizeof list->uri, "%s", uri);
    snprintf(list->since, sizeof list->since, "%s", since);
    *ret_list = list;
    return FAR_ADAPTER_OK;
}

/* ---- changed ---- */

struct page {
    struct far_adapter_extent *extents;
    size_t max, count, heard;
    uint64_t at;        /* the server has spoken up to here */
    uint64_t next, end; /* everything before next is told */
};

static bool add_dirty(struct page *page, uint64_t from, uint64_t to)
{
    struct far_adapter_extent *last = page->count > 0 ? &page->extents[page->count - 1] : NULL;
    if (last != NULL && last->offset + last->length == from) {
        last->length += to - from;
        return true;
    }
    if (page->count == page->max) {
        return false;
    }
    page->extents[page->count++] = (struct far_adapter_extent){.offset = from, .length = to - from};
    return true;
}

static int on_dirty(void *arg, uint64_t offset, uint64_t length, uint32_t flags)
{
    struct page *page = arg;
    page->heard++;
    if (offset != page->at || length == 0) { /* a server that leaves something out or repeats itself is asked again */
        return -1;
    }
    uint64_t from = offset > page->next ? offset : page->next;
    uint64_t to = length < page->end - offset ? offset + length : page->end;
    if ((flags & 1) != 0 && from < to && !add_dirty(page, from, to)) {
        return -1;
    }
    page->at = to;
    page->next = to > page->next ? to : page->next;
    return page->next < page->end ? 0 : -1;
}

static uint64_t round_up(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

/* One question; *ret_lost: the connection is gone, another one may know. */
static int ask(const struct far_nbd *nbd, struct far_nbd_list *list, struct page *page, bool *ret_lost,
               struct far_adapter_error *ret_error)
{
    const struct far_nbd_about *about = far_nbd_link_about(list->link);
    struct far_nbd_words words;
    uint64_t before = page->next, start = before - before % about->block_min;
    uint64_t rest = about->size_bytes - start, piece = round_up(list->piece, about->block_min);
    struct far_nbd_request request = {.op = FAR_NBD_STATUS, .offset = start, .length = rest < piece ? rest : piece,
                                      .on_extent = on_dirty, .arg = page};
    page->heard = 0;
    page->at = start;
    enum far_nbd_answer answer =
        far_nbd_link_do(list->link, &request, far_clock_monotonic_ms() + nbd->timeout_ms, &words);
    *ret_lost = answer == FAR_NBD_LOST;
    if (answer == FAR_NBD_OK && page->next > before) {
        list->piece = page->heard > LIST_MANY && list->piece > FAR_NBD_LIST_PIECE_MIN ? list->piece / 2
                      : page->heard < LIST_FEW && list->piece < piece_max            ? list->piece * 2
                                                                                      : list->piece;
        return FAR_ADAPTER_OK;
    }
    if (answer == FAR_NBD_OK && page->count == page->max) { /* no room for the first of what was said */
        return FAR_ADAPTER_OK;
    }
    if (answer == FAR_NBD_OK) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_RESYNC, FAR_CONFLICT,
                                "the server says nothing of what changed at byte %llu: '%.120s'", (unsigned long long)before,
                                list->uri);
    }
    return far_adapter_fail(ret_error, answer == FAR_NBD_REFUSED ? FAR_ADAPTER_RESYNC : FAR_ADAPTER_RETRY,
                            answer == FAR_NBD_SILENT ? FAR_TIMEOUT : FAR_IO, "ask '%.120s' what changed from byte %llu on: %s",
                            list->uri, (unsigned long long)before, words.text);
}

/* Fills a page over one connection. */
static int fill(const struct far_nbd *nbd, struct far_nbd_list *list, struct page *page, bool *ret_lost,
                struct far_adapter_error *ret_error)
{
    int outcome = FAR_ADAPTER_OK;
    uint64_t until_ms = far_clock_monotonic_ms() + nbd->timeout_ms;
    *ret_lost = false;
    page->end = far_nbd_link_about(list->link)->size_bytes;
    while (outcome == FAR_ADAPTER_OK && page->next < page->end && page->count < page->max) {
        outcome = ask(nbd, list, page, ret_lost, ret_error);
        if (far_clock_monotonic_ms() >= until_ms) { /* a large clean disk behind a slow server: what is known goes out */
            break;
        }
    }
    return outcome;
}

int far_nbd_changed(void *platform, const char *ref, const struct far_adapter_disk *disk, const char *since,
                    uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                    uint64_t *ret_next, struct far_adapter_error *ret_error)
{
    struct far_nbd *nbd = platform;
    struct far_nbd_place place;
    struct page page = {.extents = ret_extents, .max = max, .next = offset};
    int outcome = far_nbd_place(nbd, disk->locator, &place, ret_error);
    bool lost = true;
    if (outcome == FAR_ADAPTER_OK && (since[0] == '\0' || strlen(since) > FAR_NBD_TOKEN_MAX || max == 0)) {
        outcome = max == 0 ? far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "a page of no extents")
                           : far_adapter_fail(ret_error, FAR_ADAPTER_RESYNC, FAR_CONFLICT, "'%.100s' is no bitmap's name", since);
    }
    for (unsigned n = 0; outcome == FAR_ADAPTER_OK && lost && n < TRIES; n++) {
        struct far_nbd_list *list = list_take(nbd, place.uri, since);
        outcome = list != NULL ? FAR_ADAPTER_OK : list_open(nbd, place.uri, since, &list, ret_error);
        if (outcome != FAR_ADAPTER_OK) {
            return outcome;
        }
        uint64_t size = far_nbd_link_about(list->link)->size_bytes;
        page.next = page.next < size ? page.next : size;
        outcome = fill(nbd, list, &page, &lost, ret_error);
        if (outcome != FAR_ADAPTER_OK || page.next >= size) { /* the last page needs no connection */
            far_nbd_list_free(list);
        } else {
            list_give(nbd, list);
        }
        outcome = lost && n + 1 < TRIES ? FAR_ADAPTER_OK : outcome;
    }
    if (outcome == FAR_ADAPTER_OK) {
        *ret_count = page.count;
        *ret_next = page.next;
    }
    return outcome;
}
