/* What the files of the link share: sessions. For link*.c only. */
#ifndef FAR_SERVER_LINK_PRIVATE_H
#define FAR_SERVER_LINK_PRIVATE_H

#include "net/net.h"
#include "server/domain_keys.h"
#include "server/link.h"

enum { FAR_LINK_ARENA_MAX = 8 * 1024 * 1024, FAR_LINK_KEPT_MAX = 64 /* as many as a report asks about */ };

enum session_state { SESSION_GREETING, SESSION_BOOTING, SESSION_LIVE, SESSION_ENDED };

struct session {
    struct far_link *link;
    struct session *next;
    struct far_stream *stream; /* NULL once it is closed */
    enum session_state state;
    uint64_t node_id;
    uint64_t boot;
    int waits;                 /* proposals whose answer is owed */
    bool report_pending;
    uint64_t report_sequence;
    struct far_sub_order_key kept[FAR_LINK_KEPT_MAX]; /* that it asks about */
    size_t kept_count;
    struct far_buf held;       /* a command that waits for the next lot; empty = none */
    struct session *next_held; /* behind it */
    bool is_delayed;           /* the command waits until delayed_until_ms */
    bool recovers;             /* it has a task by which something is brought back: its reports wait for nothing */
    uint64_t delayed_until_ms; /* uv_now */
    uint64_t proposed_ms;      /* uv_now: its last report; 0: none */
    struct far_sub_order_key *sent; /* what the node knows, in the order of (job, task) */
    size_t sent_count;
    uint64_t servers_told;     /* the hash of the list that the node was told last */
    uint64_t level;            /* feature level that the node's program knows, as its hello said */
    uint64_t limits_told;      /* the hash of the limits that it was told last; 0: none yet */
    uint64_t vaults_told;      /* of the list of vaults; 0: none yet */
};

struct far_link {
    struct far_log *log;
    uv_loop_t *loop;
    uv_timer_t timer;      /* to look for orders */
    uv_timer_t pace_timer; /* to the next lot of progress */
    uv_timer_t limits_timer; /* to the next look at what nodes may send */
    uv_timer_t delay_timer;  /* to the next small report that waits for more */
    uint64_t ahead_ms;       /* uv_now: small reports that were proposed are paid for until then */
    struct session *held, **held_last; /* whose progress waits, the oldest first */
    struct session *sessions;
    size_t session_count;
    uint64_t level;      /* feature level of the cluster as it was seen last; 0: not yet */
    bool limits_due;       /* they may have changed, and were not looked at yet */
    bool has_limits;       /* there was one when they were looked at last */
    uint64_t limits_at_ms; /* uv_hrtime: they are not looked at before */
    uint64_t looked_seq; /* the last event that was there when all sessions were told what is new */
    bool has_seal_key;
    struct far_master_key master;
    bool closing;
    unsigned timers; /* that are not closed */
    void (*done)(void *arg);
    void *done_arg;
};

/* ---- link.c ---- */
void far_link_session_end(struct session *session);
int far_link_send(struct session *session, const struct far_schema *schema, const void *message);
/* Propose the report in session->held. */
void far_link_submit_report(struct session *session);

/* ---- link_pace.c ---- */
/* Propose the report in session->held, of these items, now or soon. */
void far_link_pace(struct session *session, const struct far_list *items);
/* What it holds is not proposed any more. */
void far_link_forget_held(struct session *session);

/* ---- link_orders.c ---- */
/* Tell the node what is new of what it has to do; a session that this fails for is ended. */
void far_link_push_orders(struct session *session, struct far_log_view *view);
/* Have the node stop what it reports to be running, and what nobody wants of it. FAR_LIMIT: no memory. */
int far_link_stop_strays(struct session *session, const struct far_list *items, struct far_arena *arena);
/* What can have changed for nodes since the event since_seq. */
struct far_link_news {
    bool orders;  /* what some node has to do */
    bool servers; /* the list of servers */
    bool limits;  /* what some node may send */
    bool vaults;  /* by which keys vaults are believed */
};
struct far_link_news far_link_look(struct far_log_view *view, uint64_t since_seq);

/* ---- link_limits.c ---- */
/* The feature level that a node's program knows, from the version in its hello. */
uint64_t far_link_level_of(struct far_slice version);
/* Tell a node that is welcome what it may send. */
void far_link_begin_limits(struct session *session, struct far_log_view *view);
/* Tell every node for which it changed. Not 0: it is too early, again in so many milliseconds. */
uint64_t far_link_push_limits(struct far_link *link, struct far_log_view *view);

/* ---- link_vaults.c ---- */
/* The cluster's feature level, into link->level. */
int far_link_look_at_level(struct far_link *link, struct far_error *err);
/* Tell by which keys vaults are believed: a node that is welcome, and all that were told something else. */
void far_link_begin_vaults(struct session *session, struct far_log_view *view);
void far_link_push_vaults(struct far_link *link, struct far_log_view *view);

/* ---- link_servers.c ---- */
/* Every server that is not removed, as a node is told; in the arena. */
int far_link_list_servers(struct far_state *state, struct far_arena *arena, struct far_list *ret_servers, struct far_error *err);
uint64_t far_link_servers_hash(const struct far_list *servers);
/* Tell every node that was told another list; a session that this fails for is ended. */
void far_link_push_servers(struct far_link *link, struct far_log_view *view);

#endif
