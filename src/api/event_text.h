/* The text of events: each is read, decoded and written as JSON once, then shared by all streams through a small cache by seq.
 *
 * Belongs to the API thread. A text lives until another event takes its place in the cache: use it before asking for the next. */
#ifndef FAR_API_EVENT_TEXT_H
#define FAR_API_EVENT_TEXT_H

#include "api/api.h"
#include "api/json.h"
#include "log/chain.h"

enum {
    FAR_EVENT_CACHE = 256,                /* texts */
    FAR_EVENT_CACHED_MAX = 16 * 1024,     /* a larger one is encoded for each */
    FAR_EVENT_TEXT_MAX = 1024 * 1024,
    FAR_EVENT_REFERENCES_MAX = 1024 * 1024, /* bytes */
};

/* An object that an event names. */
struct far_event_reference {
    uint64_t id;
    const struct far_schema *table; /* NULL: it is the event's own object, or of no table keyed by ids */
};

struct far_event_text {
    uint64_t seq; /* 0: empty */
    uint16_t kind;
    uint64_t severity; /* enum far_severity; error for kinds that this program does not know */
    uint8_t head[32];  /* after it */
    uint8_t header[FAR_EVENT_HEADER];
    uint8_t payload_hash[32];
    bool is_hashed;          /* payload_hash is filled */
    bool is_secret;          /* its payload has a field that never leaves */
    bool is_compacted;       /* it has no payload any more, payload_hash is filled */
    bool is_related;         /* related is filled */
    struct far_buf frame; /* as a server-sent event with a short cursor: what most streams send, as it stands */
    size_t json_at, json_len; /* in it */
    struct far_buf payload;
    struct far_buf references; /* struct far_event_reference */
    struct far_buf related;    /* uint64_t: plans and sites of what it names, by the state of that moment */
};

struct far_event_cache {
    struct far_event_text texts[FAR_EVENT_CACHE]; /* by seq modulo their number */
};

/* The event with this seq. Errors of view_event; FAR_LIMIT without memory. */
int far_event_text(struct far_event_cache *cache, const struct far_api_hooks *hooks, void *arg,
                   struct far_log_view *view, uint64_t seq, struct far_event_text **ret_text, struct far_error *err);
static inline struct far_slice far_event_json(const struct far_event_text *text)
{
    return far_slice(text->frame.data + text->json_at, text->json_len);
}
/* Fill payload_hash. */
int far_event_text_hash(struct far_event_text *text, struct far_error *err);
/* Fill related. */
int far_event_text_relate(struct far_event_text *text, struct far_state *state, struct far_error *err);
void far_event_cache_done(struct far_event_cache *cache);

/* An event that is in no stream (foreseen, or part of an explanation), with the same members but head; the caller's. What it
 * decodes to lies in the arena. */
json_t *far_event_as_json(const struct far_event *event, struct far_arena *arena);

#endif
