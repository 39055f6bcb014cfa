/* The drivers of the tables of retention, vaults and erasing: a part of test_fsm_tables.c, whose world and ways to give an input they
 * use. */
#ifndef FAR_TESTS_LIB_VAULT_DRIVERS_H
#define FAR_TESTS_LIB_VAULT_DRIVERS_H

extern const struct far_table far_table_vault;
extern const struct far_table far_table_vault_scrub;
extern const struct far_table far_table_adoption;

/* ---- the retention of a plan ---- */

static void reach_retention_of_plan(unsigned state)
{
    object = plan;
    if (state == 1) {
        MUST(&w, plan_retention_set, .name = S("p"), .last = 3);
    }
}
static void give_retention_of_plan(unsigned state, unsigned input)
{
    switch (input) {
    case 0:
        COMMAND(plan_retention_set, .name = S("p"), .daily = 2);
        break;
    case 1:
        COMMAND(plan_retention_set, .name = S("p"));
        break;
    case 2:
        if (state == 1) {
            w.now_ms += 1;
            COMMAND(tick);
        } else {
            EVENT(expiry_scanned, .plan_id = plan);
        }
        break;
    default:
        COMMAND(plan_remove, .name = S("p"));
    }
}
static unsigned see_retention_of_plan(void)
{
    struct far_row_plan_retention row;
    struct far_key key = far_key(&far_schema_row_plan_retention);
    far_key_u64(&key, plan);
    return far_state_get(&w.state, &far_schema_row_plan_retention, &key, &w.arena, &row, NULL) == 0;
}

/* ---- the vault of a node: the source has none, the target has one ---- */

static struct far_row_vault row_vault(uint64_t node_id)
{
    struct far_row_vault row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_vault);
    far_key_u64(&key, node_id);
    (void)far_state_get(&w.state, &far_schema_row_vault, &key, &w.arena, &row, NULL);
    return row;
}
static void reach_vault(unsigned state)
{
    object = state == 0 ? source : target;
    if (state == 2) {
        job = MUST(&w, vault_reclaim, .node = S("dst"));
    }
}
static void give_vault(unsigned state, unsigned input)
{
    switch (input) {
    case 0:
        EVENT(point_created, .id = 999, .workload_id = workload, .plan_id = plan, .node_id = object, .proof = FAR_proof_full);
        break;
    case 1:
        if (state == 0) {
            EVENT(vault_scheduled, .node_id = object);
        } else {
            w.now_ms = row_vault(object).reclaim_due_ms;
            COMMAND(tick);
        }
        break;
    case 2:
        if (state == 0) {
            by_table(&far_table_vault, state, input);
        } else {
            COMMAND(vault_reclaim, .node = S("dst"));
        }
        break;
    case 3:
        if (state == 2) {
            COMMAND(job_cancel, .job_id = job);
        } else {
            by_table(&far_table_vault, state, input);
        }
        break;
    case 4:
        EVENT(vault_measured, .node_id = object);
        break;
    default:
        EVENT(node_removed, .id = object);
    }
}
static unsigned see_vault(void)
{
    struct far_row_vault row = row_vault(object);
    return row.id == 0 ? 0 : row.reclaim_job_id != 0 ? 2 : 1;
}

/* ---- the scrub of a vault ---- */

static void reach_scrub_of_vault(unsigned state)
{
    object = state == 0 ? source : target;
    if (state == 2) {
        job = MUST(&w, vault_scrub, .node = S("dst"));
    }
}
static void give_scrub_of_vault(unsigned state, unsigned input)
{
    switch (input) {
    case 0:
        if (state == 0) {
            EVENT(vault_scheduled, .node_id = object, .is_scrub = true);
        } else {
            MUST(&w, vault_policy_set, .node = S("dst"), .scrub_bytes_per_hour = 1 << 20, .reclaim_off = true);
            w.now_ms = row_vault(object).scrub_due_ms;
            COMMAND(tick);
        }
        break;
    case 1:
        if (state == 0) {
            by_table(&far_table_vault_scrub, state, input);
        } else {
            COMMAND(vault_scrub, .node = S("dst"));
        }
        break;
    case 2:
        if (state == 2) {
            COMMAND(job_cancel, .job_id = job);
        } else {
            by_table(&far_table_vault_scrub, state, input);
        }
        break;
    default:
        EVENT(vault_scrubbed, .node_id = object);
    }
}
static unsigned see_scrub_of_vault(void)
{
    struct far_row_vault row = row_vault(object);
    return row.id == 0 ? 0 : row.scrub_job_id != 0 ? 2 : 1;
}

/* ---- the adoption of a vault ---- */

static void reach_adoption(unsigned state)
{
    object = target;
    if (state != 0) {
        job = MUST(&w, vault_adopt, .node = S("dst"));
    }
    if (state == 1) {
        MUST(&w, job_cancel, .job_id = job);
    }
}
static void give_adoption(unsigned state, unsigned input)
{
    switch (input) {
    case 0:
        COMMAND(vault_adopt, .node = S("dst"));
        break;
    case 1:
        EVENT(vault_adoption_based, .node_id = object, .base = 1000, .span = 100);
        break;
    case 2:
        EVENT(vault_adopted, .node_id = object);
        break;
    default:
        if (state == 2) {
            COMMAND(job_cancel, .job_id = job);
        } else {
            by_table(&far_table_adoption, state, input);
        }
    }
}
static unsigned see_adoption(void)
{
    struct far_row_adoption row;
    struct far_key key = far_key(&far_schema_row_adoption);
    far_key_u64(&key, object);
    int rc = far_state_get(&w.state, &far_schema_row_adoption, &key, &w.arena, &row, NULL);
    return rc != 0 ? 0 : row.job_id != 0 ? 2 : 1;
}

/* ---- erasing ---- */

static void reach_erasing(unsigned state)
{
    object = 900;
    EVENT(job_started, .id = object, .kind = FAR_job_kind_erase, .plan_id = plan, .next_workload_id = 1);
    assert_int_equal(outcome.klass, 0);
    for (unsigned phase = 1; phase <= state; phase++) {
        EVENT(job_phase, .job_id = object, .phase = phase);
        assert_int_equal(outcome.klass, 0);
    }
}
static void give_erasing(unsigned state, unsigned input)
{
    (void)state;
    EVENT(job_phase, .job_id = object, .phase = input + 1);
}
static unsigned see_erasing(void)
{
    return (unsigned)world_row_job(&w, object).phase;
}

#endif
