/* The routes: one table from method and path to what is done; and the arguments of a query, parsed. Pure functions.
 *
 * docs/openapi.json describes the same table; a test holds the two against each other. */
#ifndef FAR_API_ROUTE_H
#define FAR_API_ROUTE_H

#include "api/http.h"
#include "api/json.h"
#include "base/moment.h"

enum far_route_action {
    FAR_ROUTE_HEALTH,
    FAR_ROUTE_READY,
    FAR_ROUTE_OPENAPI,
    FAR_ROUTE_CLUSTER,
    FAR_ROUTE_LOG_HEAD,
    FAR_ROUTE_LOG_DIFF,
    FAR_ROUTE_LOG_EXPLAIN,
    FAR_ROUTE_LOG_EXPORT,
    FAR_ROUTE_LOG_HEADS,
    FAR_ROUTE_RETENTION,
    FAR_ROUTE_RECOVERY_POLICY,
    FAR_ROUTE_RESYNC, /* what one would read, and for how long */
    FAR_ROUTE_HISTORY, /* the newest cycles of a plan */
    FAR_ROUTE_RUN_REPORT, /* what a run took and lost */
    FAR_ROUTE_EVENTS,
    FAR_ROUTE_LIST,    /* rows of a table */
    FAR_ROUTE_OBJECT,  /* one row by name or id, with its parts */
    FAR_ROUTE_COMMAND, /* a body becomes a command */
    FAR_ROUTE_PATCH,   /* the same, of a body that says what changes: null clears, If-Match is a revision */
    FAR_ROUTE_TOKEN,   /* token_create, whose secret is made here */
    FAR_ROUTE_JOIN,
    FAR_ROUTE_CONSUMER_CREATE, /* consumer_create, whose place may be given in words */
    FAR_ROUTE_CONSUMER_ACK,
    FAR_ROUTE_SKIP_ENTRY,
    FAR_ROUTE_THROTTLE,     /* the bandwidth limit of one object */
    FAR_ROUTE_THROTTLE_SET, /* throttle_set, before it zone_set where the zone is new */
    FAR_ROUTE_PLAN_RETENTION, /* what the retention of a plan makes of its checkpoints */
    FAR_ROUTE_RETENTION_SET,  /* plan_retention_set, before it zone_set where the zone is new */
    FAR_ROUTE_PLAN_SPEC,  /* a plan as plan_apply says it */
    FAR_ROUTE_PLAN_APPLY, /* plan_apply, before it zone_set where a zone is new */
    FAR_ROUTE_SCHEDULE_SET, /* plan_schedule_set, the same */
    FAR_ROUTE_VAULT_POLICY,
    FAR_ROUTE_ZONE,         /* zone_set, of what this server's machine knows */
    FAR_ROUTE_DOMAIN_CREATE, /* domain_create, domain_rotate, whose secrets are sealed here */
    FAR_ROUTE_DOMAIN_ROTATE,
    FAR_ROUTE_BACKUP_MAKE, /* from here on: files of this server, no state */
    FAR_ROUTE_BACKUP_LIST,
    FAR_ROUTE_BACKUP_PIECE,
    FAR_ROUTE_METRICS,
};

struct far_route {
    enum far_http_method method;
    const char *pattern; /* one segment may be "{…}" */
    enum far_route_action action;
    const struct far_schema *schema; /* LIST, OBJECT: the table; COMMAND, TOKEN: the command */
    bool open;                       /* needs no bearer token */
    /* COMMAND, TOKEN: */
    int status;                /* of success: 200, 201 (made), 202 (a job was started) */
    const char *path_field;    /* which field the {…} of the path fills; NULL: none */
    struct far_json_rule rule; /* of the body */
    const char *fixed_field;   /* a field with one value on this route; NULL: none */
    uint64_t fixed_value;
    bool keeps_history;  /* refused where it loses events that a server may hold, but with force=true (history_gap.c) */
    bool is_long;        /* reads much: computed on the worker's thread */
    const char *summary; /* what it does, as in the OpenAPI document */
};

/* Closed by an entry without pattern. */
extern const struct far_route far_routes[];

enum { FAR_ROUTE_PARAM_MAX = 63 };

struct far_match {
    const struct far_route *route;        /* NULL: no such path, or not with this method */
    unsigned methods;                     /* without a route: those that the path has, one bit each; 0: no such path */
    char param[FAR_ROUTE_PARAM_MAX + 1];  /* what stood for {…}: a name or an id, [A-Za-z0-9._-] */
};
void far_route_match(enum far_http_method method, struct far_slice path, struct far_match *ret_match);

enum { FAR_QUERY_LIMIT_DEFAULT = 100, FAR_QUERY_LIMIT_MAX = 1000 };

/* The place behind an event: its seq, and the first bytes of the chain head after it if they were given. */
enum { FAR_CURSOR_HEAD = 8 };
struct far_cursor {
    uint64_t seq;
    bool has_head; /* FAR_CURSOR_HEAD bytes of it */
    bool is_whole; /* all of it */
    uint8_t head[32];
};
/* "<seq>", "<seq>-<16 hexadecimal digits>" or "<seq>-<64 hexadecimal digits>". */
int far_cursor_parse(struct far_slice text, struct far_cursor *ret_cursor, struct far_error *err);
enum { FAR_CURSOR_TEXT_MAX = 96 };
void far_cursor_format(const struct far_cursor *cursor, char text[FAR_CURSOR_TEXT_MAX]);
/* "2026-11-20T17:04:05Z", also with a fraction of up to three digits or another offset than Z ("+01:00"), or "@<milliseconds since
 * 1970>". */
bool far_time_parse(struct far_slice text, uint64_t *ret_ms);

enum far_from { FAR_FROM_START, FAR_FROM_SEQ, FAR_FROM_CURSOR, FAR_FROM_TIME, FAR_FROM_END };
enum far_stream_proof { FAR_STREAM_PROOF_NONE, FAR_STREAM_PROOF_HEADERS, FAR_STREAM_PROOF_FULL };

/* The arguments of a query that any route knows. */
struct far_query {
    uint64_t limit;
    uint64_t cursor; /* of lists: the id after which to go on */
    uint64_t min_index;
    bool linearizable;
    /* Filters of lists; empty: none. Names of objects, or of a state, kind or role. */
    struct far_slice site, plan, workload, disk, node, state, kind, role; /* kind of events: several, with commas */
    /* Events. */
    enum far_from from;
    struct far_cursor from_cursor; /* FAR_FROM_SEQ: only seq, the first one wanted; FAR_FROM_CURSOR: the last one seen */
    uint64_t from_ms;    /* FAR_FROM_TIME */
    enum far_from to;    /* FAR_FROM_END: no end but that of bounded */
    uint64_t to_seq;     /* FAR_FROM_SEQ, FAR_FROM_CURSOR: the last one wanted */
    uint64_t to_ms;      /* FAR_FROM_TIME: not after it */
    enum far_stream_proof proof;
    struct far_slice severity, subject, consumer; /* empty: none */
    bool has_keep;       /* rules of retention to be tried: */
    uint64_t last, hourly, daily, weekly, monthly;
    bool has_limit; /* it was given */
    bool ndjson;
    bool bounded; /* follow=0: end at what is there now */
    struct far_moment at;    /* the state of which moment */
    struct far_moment until; /* differences: up to this one */
    bool force;              /* commands that may lose something: do it */
    bool dry_run;            /* commands: tell what would happen, and do nothing */
    struct far_slice object; /* "plan:web", "12" */
};
/* FAR_INVALID names the argument: unknown, given twice, not a number, out of range. */
int far_query_parse(const struct far_slice *arguments, size_t count, struct far_query *ret_query,
                    struct far_error *err);

/* An If-Match: "*" (ret_any), or a revision, as the ETag "3" or without the marks. */
int far_if_match_parse(const char *text, bool *ret_any, uint64_t *ret_revision, struct far_error *err);

/* An Idempotency-Key: 32 hexadecimal digits, also with the dashes of a UUID. */
int far_command_id_parse(const char *text, uint8_t ret_id[16], struct far_error *err);

#endif
