/* What a node has to do, told as it changes: see link.h. */
#include "server/link_private.h"

#include "base/logging.h"
#include "fsm/query.h"

#include <stdlib.h>

enum {
    ORDERS_MAX = 1000,   /* that one node can hold */
    EVENTS_MAX = 256,    /* that are looked at instead of what every node holds */
    DOMAIN_LEVEL = 4, /* feature level since which nodes know dedup domains */
    ORDERS_A_FRAME = 16, /* each may be 60 KiB: disks with long paths */
};

static int key_compare(const struct far_sub_order_key *a, uint64_t job_id, uint64_t task)
{
    if (a->job_id != job_id) {
        return a->job_id < job_id ? -1 : 1;
    }
    return (a->task > task) - (a->task < task);
}

static const struct far_sub_order_key *find_sent(const struct session *session, uint64_t job_id, uint64_t task)
{
    for (size_t i = 0; i < session->sent_count; i++) {
        if (key_compare(&session->sent[i], job_id, task) == 0) {
            return &session->sent[i];
        }
    }
    return NULL;
}

/* What the state wants of the node, as keys; in the arena. */
static int wanted_keys(struct far_state *state, uint64_t node_id, struct far_arena *arena, struct far_list *ret_keys,
                       struct far_error *err)
{
    struct far_sub_order_key *keys = far_arena_alloc(arena, ORDERS_MAX * sizeof *keys);
    if (keys == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for orders");
    }
    struct far_key key = far_key(&far_schema_row_node_task);
    far_key_u64(&key, node_id);
    size_t count = 0;
    struct far_slice id;
    struct far_row_node_task row;
    int rc = 0;
    while (count < ORDERS_MAX &&
           (rc = far_state_next(state, &far_schema_row_node_task, &key, arena, &id, &row, err)) == 0) {
        if (id.len != 20 || far_get_be64(id.data) != node_id) {
            break;
        }
        keys[count++] = (struct far_sub_order_key){
            .job_id = far_get_be64(id.data + 8), .task = far_get_be32(id.data + 16), .attempt = row.attempt};
    }
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    *ret_keys = (struct far_list){.items = keys, .count = count};
    return 0;
}

static bool is_wanted(const struct far_list *wanted, const struct far_sub_order_key *sent)
{
    const struct far_sub_order_key *keys = wanted->items;
    for (size_t i = 0; i < wanted->count; i++) {
        if (keys[i].job_id == sent->job_id && keys[i].task == sent->task) {
            return keys[i].attempt == sent->attempt;
        }
    }
    return false;
}

/* Both are in the order of (job, task). */
static bool has_news(const struct session *session, const struct far_list *wanted)
{
    const struct far_sub_order_key *keys = wanted->items;
    bool same = session->sent_count == wanted->count;
    for (size_t i = 0; i < wanted->count && same; i++) {
        same = key_compare(&session->sent[i], keys[i].job_id, keys[i].task) == 0 && session->sent[i].attempt == keys[i].attempt;
    }
    return !same;
}

static int send_stops(struct session *session, const struct far_list *wanted, struct far_arena *arena)
{
    struct far_sub_order_key *stops = far_arena_alloc(arena, session->sent_count * sizeof *stops);
    size_t count = 0;
    for (size_t i = 0; i < session->sent_count && stops != NULL; i++) {
        if (!is_wanted(wanted, &session->sent[i])) {
            stops[count++] = session->sent[i];
        }
    }
    if (stops == NULL || count == 0) {
        return stops == NULL ? FAR_LIMIT : 0;
    }
    struct far_msg_orders message = {.stop = {.items = stops, .count = count}};
    return far_link_send(session, &far_schema_msg_orders, &message);
}

/* Attempts that the node still runs, and that nobody wants: they ended while it was between two streams, and this one never named them.
 * Each report would renew their leases. */
int far_link_stop_strays(struct session *session, const struct far_list *items, struct far_arena *arena)
{
    const struct far_sub_report_item *item = items->items;
    struct far_sub_order_key *stops = NULL;
    size_t count = 0;
    for (size_t i = 0; i < items->count; i++) {
        const struct far_sub_order_key *sent = find_sent(session, item[i].job_id, item[i].task);
        if (item[i].state != FAR_report_state_running || (sent != NULL && sent->attempt == item[i].attempt)) {
            continue;
        }
        stops = stops != NULL ? stops : far_arena_alloc(arena, items->count * sizeof *stops);
        if (stops == NULL) {
            return FAR_LIMIT;
        }
        stops[count++] = (struct far_sub_order_key){.job_id = item[i].job_id, .task = item[i].task, .attempt = item[i].attempt};
    }
    struct far_msg_orders message = {.stop = {.items = stops, .count = count}};
    return count == 0 ? 0 : far_link_send(session, &far_schema_msg_orders, &message);
}

/* It was not sent: the next look does, or finds that the lease has ended. */
static void unwant(struct far_list *wanted, const struct far_sub_order *order)
{
    struct far_sub_order_key *keys = (struct far_sub_order_key *)wanted->items;
    size_t kept = 0;
    for (size_t i = 0; i < wanted->count; i++) {
        if (key_compare(&keys[i], order->job_id, order->task) != 0) {
            keys[kept++] = keys[i];
        }
    }
    wanted->count = kept;
}

/* Secrets and keys of its domains into the order. A node whose program does not know them must not carry it out: it would store what
 * is to be encrypted as it is. */
static int fill_domains(struct session *session, struct far_state *state, struct far_sub_order *order, struct far_arena *arena,
                        bool *ret_can_go, struct far_error *err)
{
    struct far_link *link = session->link;
    bool is_known = order->kind <= FAR_task_kind_forget || session->level >= DOMAIN_LEVEL; /* the kinds of level 4 came with the domains */
    *ret_can_go = is_known && (order->domains.count == 0 || session->level >= DOMAIN_LEVEL);
    if (order->domains.count == 0 || !*ret_can_go) {
        return 0;
    }
    int rc = link->has_seal_key ? far_master_key_open(&link->master, state, err)
                                : far_fail(err, FAR_NOT_FOUND, "this server has not the master key of the cluster");
    return rc == 0 ? far_domain_fill_order(&link->master, state, session->node_id, arena, order, err) : rc;
}

static void wipe(struct far_slice secret)
{
    if (secret.len > 0) {
        explicit_bzero((void *)secret.data, secret.len);
    }
}

static void wipe_domains(const struct far_sub_order *orders, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct far_sub_order_domain *domains = orders[i].domains.items;
        for (size_t k = 0; k < orders[i].domains.count; k++) {
            wipe(domains[k].secret);
            wipe(domains[k].key);
            wipe(domains[k].old_key);
        }
    }
}

/* Somebody waits for it, and counts the seconds. */
static bool is_recovery(uint64_t kind)
{
    return kind == FAR_task_kind_restore || kind == FAR_task_kind_use || kind == FAR_task_kind_machine;
}

static int send_starts(struct session *session, struct far_state *state, struct far_list *wanted, struct far_arena *arena,
                       struct far_error *err)
{
    struct far_list orders = {0};
    struct far_sub_order batch[ORDERS_A_FRAME];
    size_t count = 0;
    int rc = far_query_orders_at(state, session->node_id, far_log_now_ms(session->link->log), ORDERS_MAX, arena, &orders, err);
    struct far_sub_order *all = (struct far_sub_order *)orders.items; /* the arena's */
    session->recovers = false;
    for (size_t i = 0; rc == 0 && i < orders.count; i++) {
        session->recovers = session->recovers || is_recovery(all[i].kind);
    }
    for (size_t i = 0; rc == 0 && i < orders.count; i++) {
        const struct far_sub_order_key *sent = find_sent(session, all[i].job_id, all[i].task);
        bool is_new = sent == NULL || sent->attempt != all[i].attempt, can_go = true;
        rc = is_new ? fill_domains(session, state, &all[i], arena, &can_go, err) : 0;
        if (rc != 0) {
            break;
        }
        if (is_new && can_go && all[i].lease_ms > 0) {
            batch[count++] = all[i];
        } else if (is_new) {
            unwant(wanted, &all[i]);
        }
        if (count == ORDERS_A_FRAME || (count > 0 && i + 1 == orders.count)) {
            struct far_msg_orders message = {.start = {.items = batch, .count = count}};
            far_schema_lower(&far_schema_msg_orders, &message, session->level); /* an older node would not understand it */
            rc = far_link_send(session, &far_schema_msg_orders, &message);
            count = 0;
        }
    }
    wipe_domains(all, orders.count);
    return rc;
}

static void remember_sent(struct session *session, const struct far_list *wanted)
{
    struct far_sub_order_key *sent = malloc((wanted->count + 1) * sizeof *sent);
    if (sent == NULL) {
        far_link_session_end(session); /* a new stream starts from nothing */
        return;
    }
    if (wanted->count > 0) {
        memcpy(sent, wanted->items, wanted->count * sizeof *sent);
    }
    free(session->sent);
    session->sent = sent;
    session->sent_count = wanted->count;
}

void far_link_push_orders(struct session *session, struct far_log_view *view)
{
    struct far_arena arena;
    struct far_list wanted = {0};
    struct far_error err = {0};
    far_arena_init(&arena, FAR_LINK_ARENA_MAX);
    int rc = wanted_keys(&view->state, session->node_id, &arena, &wanted, &err);
    if (rc == 0 && has_news(session, &wanted)) {
        rc = send_stops(session, &wanted, &arena);
        if (rc == 0) {
            rc = send_starts(session, &view->state, &wanted, &arena, &err);
        }
        if (rc == 0) {
            remember_sent(session, &wanted);
        }
    }
    far_arena_done(&arena);
    if (rc != 0) {
        far_logf(FAR_LEVEL_WARN, "link", "node %llu: orders cannot be sent: %s", (unsigned long long)session->node_id,
                 err.message[0] != '\0' ? err.message : far_class_info(rc)->name);
        far_link_session_end(session);
    }
}

/* Only few kinds of event do any of it. */
static void note_event(struct far_link_news *news, uint16_t kind)
{
    news->orders = news->orders || kind == FAR_KIND_ev_tasks_created || kind == FAR_KIND_ev_tasks_changed;
    news->limits = news->limits || news->orders || kind == FAR_KIND_ev_throttle_changed || kind == FAR_KIND_ev_throttle_removed ||
                   kind == FAR_KIND_ev_throttle_shifted || kind == FAR_KIND_ev_node_joined || kind == FAR_KIND_ev_node_removed ||
                   kind == FAR_KIND_ev_plan_removed || kind == FAR_KIND_ev_site_removed || kind == FAR_KIND_ev_job_finished;
    news->vaults = news->vaults || kind == FAR_KIND_ev_vault_keys_seen || kind == FAR_KIND_ev_node_removed ||
                   kind == FAR_KIND_ev_feature_level_raised;
    news->servers = news->servers || kind == FAR_KIND_ev_server_joined || kind == FAR_KIND_ev_server_role_changed ||
                    kind == FAR_KIND_ev_incarnation_begun;
}

struct far_link_news far_link_look(struct far_log_view *view, uint64_t since_seq)
{
    static const struct far_link_news everything = {.orders = true, .servers = true, .limits = true, .vaults = true};
    struct far_link_news news = {.orders = false};
    struct far_arena arena;
    int rc = view->last_seq < since_seq || view->last_seq - since_seq > EVENTS_MAX ? FAR_LIMIT : 0;
    far_arena_init(&arena, FAR_LINK_ARENA_MAX);
    for (uint64_t seq = since_seq + 1; rc == 0 && seq <= view->last_seq; seq++) {
        struct far_event event;
        far_arena_reset(&arena);
        rc = far_log_view_event(view, seq, &arena, &event, NULL, NULL);
        if (rc == 0) {
            note_event(&news, event.kind);
        }
    }
    far_arena_done(&arena);
    return rc == 0 ? news : everything;
}
