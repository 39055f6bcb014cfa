/* The drivers of the tables of signed heads, their keys, and incarnations: a part of test_fsm_tables.c, whose world and ways to give an
 * input they use. */
#ifndef FAR_TESTS_LIB_HEAD_DRIVERS_H
#define FAR_TESTS_LIB_HEAD_DRIVERS_H

/* ---- keys of servers, heads ---- */

static uint8_t head_bytes[64] = {7}, other_head[32] = {8};

static uint64_t new_server(const char *name, uint8_t tag)
{
    hash[31] = tag;
    MUST(&w, token_create, .name = S(name), .purpose = FAR_token_purpose_join_server, .hash = far_slice(hash, 32),
         .expires_ms = w.now_ms + 1000, .site = S("lyon"));
    return MUST(&w, server_join, .token_hash = far_slice(hash, 32), .name = S(name), .peer_address = S("b:1"),
                .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32));
}
static void set_key(uint64_t server_id, uint8_t tag)
{
    uint8_t public_key[32] = {tag};
    COMMAND(server_key_set, .server_id = server_id, .public_key = far_slice(public_key, 32));
}
static void reach_server_key(unsigned state)
{
    object = state == 0 ? 999 : new_server("s2", 1);
    if (state == 2) {
        set_key(object, 1);
    }
}
static void give_server_key(unsigned state, unsigned input)
{
    set_key(object, 2);
}
static unsigned see_server_key(void)
{
    struct far_row_server_key row;
    struct far_key key = far_key(&far_schema_row_server_key);
    far_key_u64(&key, object);
    bool keyed = far_state_next(&w.state, &far_schema_row_server_key, &key, &w.arena, NULL, &row, NULL) == 0;
    return keyed && row.server_id == object ? 2 : world_row_server(&w, object).id == object;
}

/* Servers 1, s2 and s3 vote; nobody has answered the head, or two did. */
static void reach_head(unsigned state)
{
    uint64_t ids[3] = {1, new_server("s2", 1), new_server("s3", 2)};
    object = 20;
    for (size_t i = 0; i < 3; i++) {
        set_key(ids[i], (uint8_t)(i + 1));
        MUST(&w, server_role_changed, .server_id = ids[i], .role = FAR_server_role_voter);
    }
    if (state == 0) {
        return;
    }
    MUST(&w, head_propose, .seq = object, .head = far_slice(head_bytes, 32));
    for (size_t i = 0; i < 2 && state == 2; i++) {
        MUST(&w, head_sign, .server_id = ids[i], .seq = object, .signature = far_slice(head_bytes, 64));
    }
    for (size_t i = 0; i < 2 && state == 3; i++) {
        MUST(&w, head_refuse, .server_id = ids[i], .seq = object, .head = far_slice(other_head, 32));
    }
}
static void give_head(unsigned state, unsigned input)
{
    uint64_t third = 0;
    far_query_id(&w.state, &far_schema_row_server, S("s3"), &third, NULL);
    if (input == 0) {
        COMMAND(head_propose, .seq = object, .head = far_slice(head_bytes, 32));
    } else if (input == 1) {
        COMMAND(head_sign, .server_id = third, .seq = object, .signature = far_slice(head_bytes, 64));
    } else if (input == 2) {
        EVENT(head_signed, .server_id = third, .seq = object, .signature = far_slice(head_bytes, 64), .majority = true);
    } else if (input == 3) {
        COMMAND(head_refuse, .server_id = third, .seq = object, .head = far_slice(other_head, 32));
    } else {
        EVENT(head_refused, .server_id = third, .seq = object, .head = far_slice(other_head, 32), .majority = true);
    }
}
static unsigned see_head(void)
{
    struct far_row_head row;
    struct far_key key = far_key(&far_schema_row_head);
    far_key_u64(&key, object);
    return far_state_get(&w.state, &far_schema_row_head, &key, &w.arena, &row, NULL) == 0 ? (unsigned)row.state : 0;
}

/* ---- incarnations ---- */

static void begin_incarnation(uint64_t epoch)
{
    COMMAND(incarnation_begin, .epoch = epoch, .uuid = far_slice(hash, 16), .reason = FAR_incarnation_reason_quorum_lost,
            .parent_seq = 1, .parent_head = far_slice(hash, 32), .sure_head = far_slice(hash, 32), .server_id = 1);
}
/* The object is an epoch; the cluster is in the second. */
static void reach_incarnation(unsigned state)
{
    begin_incarnation(2);
    object = state + 1;
}
static void give_incarnation(unsigned state, unsigned input)
{
    begin_incarnation(object);
}
static unsigned see_incarnation(void)
{
    struct far_row_cluster row = {.incarnation_epoch = 0};
    struct far_key key = far_key(&far_schema_row_cluster);
    (void)far_state_get(&w.state, &far_schema_row_cluster, &key, &w.arena, &row, NULL);
    uint64_t present = row.incarnation_epoch;
    return object < present ? 0 : object == present ? 1 : object == present + 1 ? 2 : 3;
}

#endif
