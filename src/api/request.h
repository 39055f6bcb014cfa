/* A request on its way through the API: private to src/api/.
 *
 * Made when HTTP delivers it, freed when both its exchange is gone and no hook owes it a done. Everything runs on the
 * API thread but the functions that end in _done, which only keep the answer and post the request back to it. */
#ifndef FAR_API_REQUEST_H
#define FAR_API_REQUEST_H

#include "api/api.h"
#include "api/event_text.h"
#include "api/route.h"

enum {
    FAR_API_ARENA_MAX = 16 * 1024 * 1024, /* of one request */
    FAR_API_ANSWER_MAX = 16 * 1024 * 1024,
    FAR_API_TICK_MS = 1000,
    FAR_API_ZONES_MAX = 3, /* that one command may name */
};

struct far_event_stream;
struct far_consumer_acks;
struct far_api_worker;
struct far_api_request;

/* Compute an answer from views: on the API's thread or on the worker's. It must not touch the exchange. */
typedef int (*far_api_compute_fn)(struct far_api_request *request, json_t **ret_answer, struct far_error *err);


/* A token that was good when the store had committed this index. */
enum { FAR_API_KNOWN_MAX = 64 };
struct far_api_known {
    uint64_t token_id; /* 0: none */
    uint64_t index;
    uint8_t hash[32]; /* of its secret */
};

struct far_api {
    struct far_api_hooks hooks;
    void *arg;
    struct far_http *http;
    uint64_t heartbeat_ms;
    uint64_t server_id; /* of this server; 0: not asked yet */
    size_t calls; /* dones that hooks owe, API thread */
    struct far_event_stream *streams;
    struct far_event_cache cache; /* of all streams */
    struct far_consumer_acks *acks;
    struct far_api_worker *worker;
    struct far_api_known known[FAR_API_KNOWN_MAX]; /* by the first byte of the hash */
    uint8_t random[1024]; /* for ids of commands: drawn many at once; what is left lies at the end */
    size_t random_left;
    uint64_t last_id; /* the first 60 bits of the newest one: milliseconds, and a count */
};

struct far_api_request {
    struct far_http_work work; /* first: posted by the dones */
    struct far_api *api;
    struct far_http_exchange *exchange; /* NULL: the client is gone */
    bool waiting;                       /* a hook owes a done */
    const struct far_route *route;
    char param[FAR_ROUTE_PARAM_MAX + 1];
    unsigned allowed; /* methods of the path, one bit each; 0: there is no such path */
    struct far_query query;
    uint64_t token_id; /* who asks; 0 on open routes */
    bool index_reached;
    bool barrier_passed;
    uint64_t applied_index; /* of the view that was read, or behind the command; 0: ask the log */
    struct far_arena arena;
    /* What goes on when the done came. */
    void (*next)(struct far_api_request *request);
    struct far_result result;
    struct far_command before; /* one that has to be decided first; kind 0: none. Its payload is in the arena */
    struct far_slice zone;     /* the time zone that `prepared` names */
    struct far_slice zones[FAR_API_ZONES_MAX]; /* all of them; from zone_next on not looked at yet */
    const char *zone_fields[FAR_API_ZONES_MAX]; /* where they stand */
    size_t zone_count, zone_next;
    const void *prepared;      /* the struct of the route's command, while that is under way; in the arena */
    struct far_command command;
    struct far_buf payload; /* the command's */
    struct far_buf made; /* an answer that was made on another thread */
    far_api_compute_fn compute;
    int compute_status; /* of success */
    const char *compute_type; /* what it makes is text of this type, in `made`; NULL: JSON */
    struct far_api_request *next_computed;
    char *token_text; /* TOKEN: answered once the command is accepted; in the arena */
    struct far_log_skip *skip; /* SKIP_ENTRY; in the arena */
    struct far_event_stream *stream;
    char etag[24]; /* of the object that is answered; empty: it has no revision */
};

/* ---- answer.c ---- */

/* Answer with status and JSON; takes body (NULL: the answer needed too much memory). */
void far_api_answer(struct far_api_request *request, int status, json_t *body);
void far_api_answer_bytes(struct far_api_request *request, int status, const char *type, struct far_buf *body);
/* problem+json of an error; status 0: that of the class. */
void far_api_problem(struct far_api_request *request, int status, const struct far_error *error);
/* The object of a problem: also sent at the end of a stream. request may be NULL. */
json_t *far_api_problem_json(const struct far_api_request *request, int status, const struct far_error *error);
enum { FAR_API_HEADERS_MAX = 7 };
/* The headers that every answer carries; returns how many. */
size_t far_api_headers(struct far_api_request *request, char index_text[24],
                       struct far_http_header headers[FAR_API_HEADERS_MAX]);

/* ---- api.c ---- */

/* Count a done that a hook will owe, and what goes on after it. FAR_BUSY: too many are owed. */
int far_api_expect(struct far_api_request *request, void (*next)(struct far_api_request *request),
                   struct far_error *err);
/* A far_log_done_fn whose arg is the request. */
void far_api_done(void *arg, const struct far_result *result, uint64_t applied_index);
int far_api_view(struct far_api_request *request, struct far_log_view *ret_view, struct far_error *err);
void far_api_view_end(struct far_api_request *request, struct far_log_view *view);

/* ---- compute.c ---- */

/* Compute the answer and send it with this status: at once, or on the worker if the query or the route needs the past. */
void far_api_compute(struct far_api_request *request, int status, far_api_compute_fn compute);
int far_api_worker_start(struct far_api_worker **ret_worker, struct far_error *err);
/* Ends what runs, gives up what waits: every done is called. NULL is allowed. */
void far_api_worker_stop(struct far_api_worker *worker);

/* ---- show_figures.c ---- */
/* Adds "figures" to the JSON of a task (as far_query_running() shows it) or job, null where it has none. */
int far_api_task_figures(struct far_state *state, const struct far_row_task *task, struct far_arena *arena, json_t *json,
                         struct far_error *err);
int far_api_job_figures(struct far_state *state, const struct far_row_job *job, struct far_arena *arena, json_t *json,
                        struct far_error *err);
/* Adds "rpo" to the JSON of a plan. */
int far_api_plan_rpo(struct far_state *state, uint64_t plan_id, uint64_t now_ms, struct far_arena *arena, json_t *json,
                     struct far_error *err);
void far_api_plan_history(struct far_api_request *request);
/* ---- run_report.c ---- */
void far_api_run_report(struct far_api_request *request);
/* ---- metrics.c ---- */
void far_api_metrics(struct far_api_request *request);

/* ---- dry_run.c ---- */
/* The time that the leader would stamp: now, or with ?at= that of the past state. */
int far_api_stamp(struct far_api_request *request, struct far_log_view *view, uint64_t *ret_ms, struct far_error *err);
/* The request's command is made; answers what it would do. */
void far_api_dry_run(struct far_api_request *request);
/* Decides the command on the overlay as of that log entry and appends its events, as JSON, to the array; a rejection is the error. */
int far_api_foresee(struct far_api_request *request, struct far_state *above, uint64_t index, const struct far_command *command,
                    json_t *events, struct far_result *ret_result, struct far_error *err);

/* ---- change.c ---- */
/* One row before and after; a slice without data: it was or is not there. Fields that differ. New reference. */
int far_api_change_json(struct far_slice key, struct far_slice before, struct far_slice after, json_t **ret_change,
                        struct far_error *err);
/* Every row that the overlay (fsm/kv_overlay.h) changes on the map below, at most max; ret_more: there are others. */
int far_api_changes(struct far_kv *below, struct far_kv *overlay, size_t max, json_t **ret_changes, bool *ret_more,
                    struct far_error *err);

/* ---- diff.c, explain.c, export_piece.c ---- */
void far_api_log_diff(struct far_api_request *request);
void far_api_log_explain(struct far_api_request *request);
void far_api_log_export(struct far_api_request *request);

/* ---- history_gap.c ---- */
/* FAR_BUSY: events from wanted_seq on (1: the oldest kept) are kept, by another server, and this one still fetches them. */
int far_api_check_oldest(struct far_api_request *request, struct far_log_view *view, uint64_t wanted_seq, struct far_error *err);
/* FAR_CONFLICT: the command (server_role_set, history_forget) loses events that are kept, as far as is known, and force=true does not
 * stand there. An event that a server that is there holds is forgotten in no case. */
int far_api_check_history(struct far_api_request *request, void *command, struct far_error *err);

/* ---- policies.c ---- */
void far_api_retention(struct far_api_request *request);
void far_api_resync(struct far_api_request *request); /* resync.c */
void far_api_recovery_policy(struct far_api_request *request);

/* ---- vaults.c ---- */
void far_api_plan_retention(struct far_api_request *request);
void far_api_vault_policy(struct far_api_request *request);
/* Adds "vaults" to the JSON of a plan: what each holds of it. */
int far_api_plan_space(struct far_state *state, uint64_t plan_id, struct far_arena *arena, json_t *json, struct far_error *err);
/* Adds "policy" and "forecast" to the JSON of a vault. */
int far_api_vault_figures(struct far_state *state, const struct far_row_vault *vault, struct far_arena *arena, json_t *json,
                          struct far_error *err);

/* ---- head_list.c ---- */
void far_api_log_heads(struct far_api_request *request);
/* backup.c */
void far_api_backup_make(struct far_api_request *request);
void far_api_backup_list(struct far_api_request *request);
void far_api_backup_piece(struct far_api_request *request);
/* The newest head that a majority signed, null if there is none. New reference. */
int far_api_signed_head(struct far_log_view *view, struct far_arena *arena, json_t **ret_json, struct far_error *err);

/* ---- throttle_routes.c ---- */
void far_api_throttle_set(struct far_api_request *request);
void far_api_retention_set(struct far_api_request *request);
void far_api_zone_refresh(struct far_api_request *request);
/* Read the body into *set (of the route's schema, in the arena; NULL: there was no memory) and keep it as what is prepared. */
int far_api_prepare(struct far_api_request *request, const json_t *body, void *set, struct far_error *err);
/* The command that is prepared names this zone in this field; empty: none. */
void far_api_names_zone(struct far_api_request *request, const char *field, struct far_slice zone);
/* Propose what is prepared, and before it the rules of each zone that it names where they are new. */
int far_api_propose_with_zones(struct far_api_request *request, struct far_error *err);

/* ---- plan_routes.c ---- */
void far_api_plan_spec(struct far_api_request *request);
void far_api_plan_apply(struct far_api_request *request);
void far_api_schedule_set(struct far_api_request *request);
/* Adds to the JSON of a member, point, plan or checkpoint under which version of a configuration it is or was made. */
int far_api_add_recovery(struct far_state *state, const struct far_schema *table, const void *row, struct far_arena *arena, json_t *json,
                         struct far_error *err);
void far_api_domain_create(struct far_api_request *request);
void far_api_domain_rotate(struct far_api_request *request);
/* Does the command that is prepared need its zone's rules that this state does not have (well enough)? */
int far_api_needs_zone(struct far_api_request *request, struct far_state *state, uint64_t now_ms, bool *ret_needs, struct far_error *err);

/* ---- read.c ---- */
void far_api_throttle(struct far_api_request *request);
void far_api_list(struct far_api_request *request);
void far_api_object(struct far_api_request *request);
void far_api_cluster(struct far_api_request *request);
void far_api_log_head(struct far_api_request *request);
void far_api_ready(struct far_api_request *request);

/* ---- read_cluster.c ---- */
/* It said something lately, or is this server. */
bool far_api_member_is_up(const struct far_log_status *status, const struct far_log_member *member);

/* ---- skip_entry.c ---- */
void far_api_skip_entry(struct far_api_request *request);

/* ---- authorize.c ---- */

/* The bearer token of the request is good: its id. FAR_DENIED. */
int far_api_authorize(struct far_api_request *request, struct far_log_view *view, uint64_t *ret_token_id,
                      struct far_error *err);
/* The same for a new request, whose token_id is filled; and the server must be one that serves it (far_api_check_witness). */
int far_api_let_in(struct far_api_request *request, struct far_error *err);

/* The name of the token with this id, in the arena; empty if there is none any more. */
int far_api_token_name(struct far_state *state, uint64_t id, struct far_arena *arena, struct far_slice *ret_name,
                       struct far_error *err);

/* ---- witness.c ---- */
/* More than the health, status and place of a server: a witness does not serve it. */
bool far_api_is_for_users(const struct far_route *route);
/* FAR_NOT_LEADER, with whom to ask, if this server is a witness, the route is more than its health and status, and another server
 * that is no witness votes and is up. */
int far_api_check_witness(struct far_api_request *request, struct far_log_view *view, struct far_error *err);
/* FAR_CONFLICT: the command takes out, or to a witness site, the last voter that serves users. One that is down may be taken
 * out: the witnesses serve users until there is another. */
int far_api_check_users_served(struct far_api_request *request, const void *command, struct far_error *err);

/* ---- command.c ---- */
void far_api_command(struct far_api_request *request);
void far_api_patch(struct far_api_request *request);
void far_api_token(struct far_api_request *request);
void far_api_join(struct far_api_request *request);
/* Puts the {…} of the path, and what is fixed on this route, into the command's struct. */
int far_api_fill_from_route(const struct far_api_request *request, void *object, struct far_error *err);
/* Parses the body and hands it to what makes a proposal of it; a failure is answered here. */
void far_api_with_body(struct far_api_request *request,
                       int (*make)(struct far_api_request *request, const json_t *body, struct far_error *err));
/* Proposes the command of the route. */
int far_api_propose(struct far_api_request *request, const void *object, struct far_error *err);

/* ---- events.c ---- */
void far_api_events(struct far_api_request *request);
void far_api_events_wake(struct far_api *api);
void far_api_events_tick(struct far_api *api);
void far_api_events_gone(struct far_api_request *request);

/* ---- consumers.c ---- */
void far_api_consumer_create(struct far_api_request *request);
void far_api_consumer_ack(struct far_api_request *request);
/* Proposes what is due of the acknowledgements that were taken. */
void far_api_acks_tick(struct far_api *api);
void far_api_acks_done(struct far_api *api);
/* The consumer of this name, its head in the arena; FAR_NOT_FOUND with a message. */
int far_api_consumer(struct far_state *state, struct far_slice name, struct far_arena *arena,
                     struct far_row_consumer *ret_row, struct far_error *err);

/* docs/openapi.json, made into C by the build. */
extern const char far_openapi_json[];

#endif
