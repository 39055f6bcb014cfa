/* When a report is proposed: at once, but
 *
 * - that something runs is news that can wait a little: such reports are proposed a lot at a time, with pauses in which the servers
 *   have time for others;
 * - an event costs the same whether it tells one thing or many. Where many small reports come all the time, one waits until
 *   DELAY_MS after the node's last; meanwhile the node gathers what else ends there, and says that with the next. So the log takes
 *   about two reports a second of each node, however much goes on. As long as less is going on, none waits, nor do those of a node
 *   that brings something back.
 *
 * A node has one report under way, so what waits is bounded, and soon over: long before a lease ends. */
#include "server/link_private.h"

enum {
    PACE_MS = 20,               /* between two lots of progress */
    LOT_BYTES_MAX = 112 * 1024, /* of one: some 2,800 samples, 2 ms of each server's time; so 140,000 a second */
    SMALL_ITEMS = 32,           /* fewer in a report: it is small */
    SMALL_MS = 100,             /* on average one in so much time goes at once, */
    SMALL_AT_ONCE = 256,        /* after a quiet time so many: cycles of some twenty disks */
    DELAY_MS = 500,
};

void far_link_forget_held(struct session *session)
{
    struct far_link *link = session->link;
    session->is_delayed = false;
    for (struct session **at = &link->held; *at != NULL; at = &(*at)->next_held) {
        if (*at == session) {
            *at = session->next_held;
            link->held_last = *at == NULL ? at : link->held_last;
            return;
        }
    }
}

static void propose(struct session *session)
{
    session->proposed_ms = uv_now(session->link->loop);
    far_link_submit_report(session);
}

/* ---- progress ---- */

static void on_pace(uv_timer_t *timer)
{
    struct far_link *link = timer->data;
    size_t bytes = 0;
    while (link->held != NULL && (bytes == 0 || bytes + link->held->held.len <= LOT_BYTES_MAX)) {
        struct session *session = link->held;
        far_link_forget_held(session);
        bytes += session->held.len;
        propose(session);
    }
    if (link->held != NULL) {
        uv_timer_start(&link->pace_timer, on_pace, PACE_MS, 0);
    }
}

static void hold(struct session *session)
{
    struct far_link *link = session->link;
    session->next_held = NULL;
    *link->held_last = session;
    link->held_last = &session->next_held;
    if (!uv_is_active((uv_handle_t *)&link->pace_timer)) {
        uv_update_time(link->loop);
        uv_timer_start(&link->pace_timer, on_pace, PACE_MS, 0);
    }
}

static bool is_progress(const struct far_list *list)
{
    const struct far_sub_report_item *items = list->items;
    bool is = true;
    for (size_t i = 0; i < list->count; i++) {
        is = is && items[i].state == FAR_report_state_running;
    }
    return is;
}

/* ---- small reports ---- */

static void go(struct session *session, bool is_progress_only)
{
    if (is_progress_only) {
        hold(session);
    } else {
        propose(session);
    }
}

/* A small report more: is one still to be had at once? */
static bool pay(struct far_link *link)
{
    uint64_t now_ms = uv_now(link->loop), most_ms = now_ms + SMALL_AT_ONCE * SMALL_MS;
    uint64_t from_ms = link->ahead_ms > now_ms ? link->ahead_ms : now_ms;
    bool has = from_ms + SMALL_MS <= most_ms;
    link->ahead_ms = has ? from_ms + SMALL_MS : most_ms;
    return has;
}

static void on_delay(uv_timer_t *timer)
{
    struct far_link *link = timer->data;
    uint64_t now_ms = uv_now(link->loop), next_ms = UINT64_MAX;
    for (struct session *s = link->sessions; s != NULL; s = s->next) {
        if (s->is_delayed && s->delayed_until_ms <= now_ms) {
            s->is_delayed = false;
            propose(s);
        } else if (s->is_delayed && s->delayed_until_ms < next_ms) {
            next_ms = s->delayed_until_ms;
        }
    }
    if (next_ms != UINT64_MAX) {
        uv_timer_start(&link->delay_timer, on_delay, next_ms - now_ms, 0);
    }
}

static void delay(struct session *session, uint64_t until_ms)
{
    struct far_link *link = session->link;
    uint64_t now_ms = uv_now(link->loop);
    session->is_delayed = true;
    session->delayed_until_ms = until_ms;
    if (!uv_is_active((uv_handle_t *)&link->delay_timer) || uv_timer_get_due_in(&link->delay_timer) > until_ms - now_ms) {
        uv_timer_start(&link->delay_timer, on_delay, until_ms - now_ms, 0);
    }
}

void far_link_pace(struct session *session, const struct far_list *items)
{
    bool is_small = items->count > 0 && items->count < SMALL_ITEMS && !session->recovers;
    uint64_t until_ms = session->proposed_ms + DELAY_MS;
    bool is_early = session->proposed_ms != 0 && until_ms > uv_now(session->link->loop);
    if (is_small && !pay(session->link) && is_early) {
        delay(session, until_ms);
    } else {
        go(session, is_progress(items));
    }
}
