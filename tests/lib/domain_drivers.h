/* The drivers of the table of dedup domains: a part of test_fsm_tables.c, whose world and ways to give an input they use. */
#ifndef FAR_TESTS_LIB_DOMAIN_DRIVERS_H
#define FAR_TESTS_LIB_DOMAIN_DRIVERS_H

static uint64_t domain;
static const uint8_t domain_bytes[60] = {1, 2, 3};

#define DOMAIN_CREATE .name = S("d"), .uuid = far_slice(domain_bytes, 16), .sealed_secret = far_slice(domain_bytes, 60), \
                      .sealed_key = far_slice(domain_bytes, 60)
static void reach_domain(unsigned state)
{
    domain = 999;
    world_workload(&w, "more", 1);
    if (state > 0) {
        domain = MUST(&w, domain_create, DOMAIN_CREATE);
    }
    if (state > 1) {
        EVENT(domain_vault_sealed, .domain_id = domain, .node_id = target, .generation = 1);
        MUST(&w, domain_destroy, .name = S("d"));
    }
}
static void give_domain(unsigned state, unsigned input)
{
    (void)state;
    struct far_slice member = S("more");
    switch (input) {
    case 0:
        COMMAND(domain_create, DOMAIN_CREATE);
        break;
    case 1:
        COMMAND(domain_rotate, .name = S("d"), .generation = 2, .sealed_key = far_slice(domain_bytes, 60));
        break;
    case 2:
        COMMAND(domain_destroy, .name = S("d"));
        break;
    case 3:
        COMMAND(plan_create, .name = S("q"), .source_site = S("paris"), .target_site = S("lyon"), .workloads = {&member, 1},
                .domain = S("d"));
        break;
    case 5:
        EVENT(domain_vault_erased, .domain_id = domain, .node_id = target);
        break;
    default:
        EVENT(domain_vault_sealed, .domain_id = domain, .node_id = target, .generation = 1);
    }
}
static unsigned see_domain(void)
{
    struct far_row_domain row;
    struct far_key key = far_key(&far_schema_row_domain);
    far_key_u64(&key, domain);
    int rc = far_state_get(&w.state, &far_schema_row_domain, &key, &w.arena, &row, &w.err);
    if (rc == FAR_NOT_FOUND) { /* made by the input */
        uint64_t id = 0;
        rc = far_query_id(&w.state, &far_schema_row_domain, S("d"), &id, &w.err);
        return rc == 0 ? 1 : 0;
    }
    return (unsigned)row.state;
}

#endif
