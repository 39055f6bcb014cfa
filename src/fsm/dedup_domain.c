/* Dedup domains: plans that share a key, in generations. The state holds secret and keys sealed with the cluster's master key, which
 * only full servers have; here they are bytes like others.
 *
 * A key is kept until every vault that holds the domain has been seen sealed with a newer one: a vault that was away for long finds
 * the one that it needs. What is destroyed keeps its row, so that its points can still say why they cannot be read. */
#include "fsm/dedup_domain.h"

#include "base/date.h"

enum { ABSENT, ACTIVE, DESTROYED };
enum { CREATE, ROTATE, DESTROY, USE, SEALED, ERASED };
static const char *const states[] = {"absent", "active", "destroyed"};
static const char *const inputs[] = {"domain_create", "domain_rotate", "domain_destroy", "a plan or point uses it", "a vault is sealed",
                                     "a vault has erased it"};
#define NONE FAR_REJECT(FAR_NOT_FOUND, "does not exist")
#define TAKEN FAR_REJECT(FAR_CONFLICT, "exists already; choose another name")
#define LIVES FAR_REJECT(FAR_INTERNAL, "is active, and a vault has erased it")
#define OVER FAR_REJECT(FAR_CONFLICT, "was destroyed: its keys are gone, and what it held with them")
static const struct far_cell cells[3][6] = {
    [ABSENT] = {[CREATE] = FAR_MOVE(ACTIVE), [ROTATE] = NONE, [DESTROY] = NONE, [USE] = NONE, [SEALED] = NONE, [ERASED] = NONE},
    [ACTIVE] = {[CREATE] = TAKEN,
                [ROTATE] = FAR_MOVE(ACTIVE),
                [DESTROY] = FAR_MOVE(DESTROYED),
                [USE] = FAR_MOVE(ACTIVE),
                [SEALED] = FAR_MOVE(ACTIVE),
                [ERASED] = LIVES},
    [DESTROYED] = {[CREATE] = TAKEN, [ROTATE] = OVER, [DESTROY] = OVER, [USE] = OVER, [SEALED] = OVER,
                   [ERASED] = FAR_MOVE(DESTROYED)},
};
const struct far_table far_table_domain = FAR_TABLE("dedup domain", states, inputs, cells);

static const char plain[] = "plain";

static unsigned state_of(const struct far_row_domain *row)
{
    return row->id == 0 ? ABSENT : row->state == FAR_domain_state_active ? ACTIVE : DESTROYED;
}

/* All zero if there is none. */
static int look(struct far_step *step, uint64_t id, struct far_row_domain *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_domain, id, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_domain){.id = 0};
        return 0;
    }
    return rc;
}

static int look_name(struct far_step *step, struct far_slice name, struct far_row_domain *ret_row)
{
    uint64_t id = 0;
    int rc = far_name_find(step, &far_schema_row_domain, name, &id);
    return rc != 0 && rc != FAR_NOT_FOUND ? rc : look(step, id, ret_row);
}

static int store(struct far_step *step, const struct far_row_domain *row)
{
    return far_row_put(step, &far_schema_row_domain, row->id, row);
}

/* How many there are; *ret_default: which is the default one, 0 if none. */
static int count(struct far_step *step, size_t *ret_count, uint64_t *ret_default)
{
    struct far_row_domain row;
    struct far_key key = far_key(&far_schema_row_domain);
    int rc;
    *ret_count = 0;
    *ret_default = 0;
    while ((rc = far_next(step, &far_schema_row_domain, &key, NULL, &row)) == 0) {
        ++*ret_count;
        *ret_default = row.is_default ? row.id : *ret_default;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int check_sealed(struct far_step *step, const char *field, struct far_slice sealed)
{
    return sealed.len > 0 ? 0 : far_reject(step, FAR_INVALID, "field '%s' is missing: a server seals it, nobody else can", field);
}

/* ---- create ---- */

/* One that was carried from another cluster is here once. */
static int check_uuid(struct far_step *step, struct far_slice uuid)
{
    struct far_row_domain row;
    struct far_key key = far_key(&far_schema_row_domain);
    int rc;
    while ((rc = far_next(step, &far_schema_row_domain, &key, NULL, &row)) == 0) {
        if (uuid.len == 16 && far_slice_equal(row.uuid, uuid)) {
            return far_reject(step, FAR_CONFLICT, "that dedup domain is here already, as '%.*s'", FAR_TEXT(row.name));
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_decide_domain_create(struct far_step *step, const struct far_cmd_domain_create *cmd)
{
    struct far_row_domain old;
    size_t there;
    uint64_t default_id;
    FAR_TRY(far_name_check(step, "domain", cmd->name));
    if (far_slice_equal(cmd->name, far_slice_str(plain))) {
        return far_reject(step, FAR_INVALID, "'plain' is the domain without a key, which is always there; choose another name");
    }
    FAR_TRY(cmd->carried ? check_uuid(step, cmd->uuid) : 0);
    FAR_TRY(look_name(step, cmd->name, &old));
    FAR_TRY(far_move(step, &far_table_domain, state_of(&old), CREATE, cmd->name, NULL));
    FAR_TRY(check_sealed(step, "sealed_secret", cmd->sealed_secret));
    FAR_TRY(check_sealed(step, "sealed_key", cmd->sealed_key));
    if (cmd->uuid.len != 16) {
        return far_reject(step, FAR_INVALID, "field 'uuid' has %zu bytes, not 16", cmd->uuid.len);
    }
    FAR_TRY(count(step, &there, &default_id));
    if (there >= FAR_DEDUP_DOMAINS_MAX) {
        return far_reject(step, FAR_LIMIT, "there are %d dedup domains already, destroyed ones included", FAR_DEDUP_DOMAINS_MAX);
    }
    struct far_ev_domain_created ev = {.id = step->progress.next_id,
                                       .name = cmd->name,
                                       .uuid = cmd->uuid,
                                       .sealed_secret = cmd->sealed_secret,
                                       .sealed_key = cmd->sealed_key,
                                       .is_default = cmd->is_default};
    step->object_id = ev.id;
    return far_emit(step, &far_schema_ev_domain_created, &ev);
}

static int unset_default(struct far_step *step)
{
    size_t there;
    uint64_t id;
    struct far_row_domain row;
    FAR_TRY(count(step, &there, &id));
    if (id == 0) {
        return 0;
    }
    FAR_TRY(look(step, id, &row));
    row.is_default = false;
    return store(step, &row);
}

static int put_key(struct far_step *step, uint64_t domain_id, uint64_t generation, struct far_slice sealed)
{
    struct far_row_domain_key row = {.generation = generation, .sealed_key = sealed, .set_ms = step->time_ms};
    struct far_key key = far_key_pair(&far_schema_row_domain_key, domain_id, generation);
    return far_key_put(step, &far_schema_row_domain_key, &key, &row);
}

int far_evolve_domain_created(struct far_step *step, const struct far_ev_domain_created *ev)
{
    struct far_row_domain row;
    FAR_TRY(look_name(step, ev->name, &row));
    FAR_TRY(far_move(step, &far_table_domain, state_of(&row), CREATE, ev->name, NULL));
    FAR_TRY(ev->is_default ? unset_default(step) : 0);
    row = (struct far_row_domain){.id = ev->id,
                                  .name = ev->name,
                                  .uuid = ev->uuid,
                                  .state = FAR_domain_state_active,
                                  .generation = 1,
                                  .is_default = ev->is_default,
                                  .created_ms = step->time_ms,
                                  .sealed_secret = ev->sealed_secret};
    FAR_TRY(far_name_put(step, &far_schema_row_domain, row.name, row.id));
    far_id_used(step, row.id);
    FAR_TRY(put_key(step, row.id, 1, ev->sealed_key));
    return store(step, &row);
}

/* ---- keys and vaults ---- */

/* The oldest generation that some vault is sealed with, at most `newest`. */
static int oldest_sealed(struct far_step *step, uint64_t domain_id, uint64_t newest, uint64_t *ret_generation)
{
    struct far_key key = far_key_id(&far_schema_row_domain_vault, domain_id);
    struct far_row_domain_vault row;
    struct far_slice id;
    int rc;
    *ret_generation = newest;
    while ((rc = far_next(step, &far_schema_row_domain_vault, &key, &id, &row)) == 0 && far_get_be64(id.data) == domain_id) {
        *ret_generation = row.generation < *ret_generation ? row.generation : *ret_generation;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Keys before this generation are needed no more. */
static int drop_keys(struct far_step *step, uint64_t domain_id, uint64_t before)
{
    for (;;) {
        struct far_key key = far_key_id(&far_schema_row_domain_key, domain_id);
        struct far_row_domain_key row;
        struct far_slice id;
        int rc = far_next(step, &far_schema_row_domain_key, &key, &id, &row);
        if (rc == FAR_NOT_FOUND || (rc == 0 && (far_get_be64(id.data) != domain_id || row.generation >= before))) {
            return 0;
        }
        FAR_TRY(rc);
        key = far_key_pair(&far_schema_row_domain_key, domain_id, row.generation);
        FAR_TRY(far_key_del(step, &far_schema_row_domain_key, &key));
    }
}

int far_decide_domain_rotate(struct far_step *step, const struct far_cmd_domain_rotate *cmd)
{
    struct far_row_domain row;
    uint64_t oldest;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_domain, state_of(&row), ROTATE, cmd->name, NULL));
    FAR_TRY(check_sealed(step, "sealed_key", cmd->sealed_key));
    if (cmd->generation != row.generation + 1) {
        return far_reject(step, FAR_CONFLICT, "domain '%.*s' has a key of generation %llu meanwhile; try again", FAR_TEXT(cmd->name),
                          FAR_LLU(row.generation));
    }
    FAR_TRY(oldest_sealed(step, row.id, row.generation, &oldest));
    if (cmd->generation - oldest >= FAR_DOMAIN_GENERATIONS_KEPT) {
        return far_reject(step, FAR_CONFLICT,
                          "a vault of domain '%.*s' is still sealed with its key of generation %llu; run a cycle or a verification on it "
                          "('farshore domain show' names it)", FAR_TEXT(cmd->name), FAR_LLU(oldest));
    }
    struct far_ev_domain_rotated ev = {.domain_id = row.id, .generation = cmd->generation, .sealed_key = cmd->sealed_key};
    step->object_id = row.id;
    return far_emit(step, &far_schema_ev_domain_rotated, &ev);
}

int far_evolve_domain_rotated(struct far_step *step, const struct far_ev_domain_rotated *ev)
{
    struct far_row_domain row;
    uint64_t oldest;
    FAR_TRY(look(step, ev->domain_id, &row));
    FAR_TRY(far_move_id(step, &far_table_domain, state_of(&row), ROTATE, ev->domain_id, NULL));
    row.generation = ev->generation;
    row.rotated_ms = step->time_ms;
    FAR_TRY(put_key(step, row.id, ev->generation, ev->sealed_key));
    FAR_TRY(oldest_sealed(step, row.id, ev->generation, &oldest));
    FAR_TRY(drop_keys(step, row.id, oldest));
    return store(step, &row);
}

int far_domain_seen(struct far_step *step, uint64_t node_id, uint64_t domain_id, uint64_t generation)
{
    struct far_row_domain row;
    struct far_row_domain_vault vault = {.generation = 0};
    struct far_key key = far_key_pair(&far_schema_row_domain_vault, domain_id, node_id);
    FAR_TRY(look(step, domain_id, &row));
    if (state_of(&row) != ACTIVE || generation == 0 || generation > row.generation) {
        return 0; /* of before it was destroyed, or a node's nonsense */
    }
    int rc = far_key_find(step, &far_schema_row_domain_vault, &key, &vault);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    struct far_ev_domain_vault_sealed ev = {.domain_id = domain_id, .node_id = node_id, .generation = generation};
    return vault.generation >= generation ? 0 : far_emit(step, &far_schema_ev_domain_vault_sealed, &ev);
}

int far_evolve_domain_vault_sealed(struct far_step *step, const struct far_ev_domain_vault_sealed *ev)
{
    struct far_row_domain row;
    uint64_t oldest;
    struct far_row_domain_vault vault = {.node_id = ev->node_id, .generation = ev->generation, .sealed_ms = step->time_ms};
    struct far_key key = far_key_pair(&far_schema_row_domain_vault, ev->domain_id, ev->node_id);
    FAR_TRY(look(step, ev->domain_id, &row));
    FAR_TRY(far_move_id(step, &far_table_domain, state_of(&row), SEALED, ev->domain_id, NULL));
    FAR_TRY(far_key_put(step, &far_schema_row_domain_vault, &key, &vault));
    FAR_TRY(oldest_sealed(step, row.id, row.generation, &oldest));
    return drop_keys(step, row.id, oldest);
}

int far_domain_node_gone(struct far_step *step, uint64_t node_id)
{
    struct far_row_domain row;
    struct far_key at = far_key(&far_schema_row_domain);
    int rc;
    while ((rc = far_next(step, &far_schema_row_domain, &at, NULL, &row)) == 0) {
        struct far_row_domain_vault vault;
        struct far_key key = far_key_pair(&far_schema_row_domain_vault, row.id, node_id);
        int found = far_key_find(step, &far_schema_row_domain_vault, &key, &vault);
        FAR_TRY(found == FAR_NOT_FOUND ? 0 : found);
        FAR_TRY(found == 0 ? far_key_del(step, &far_schema_row_domain_vault, &key) : 0);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* ---- destroy ---- */

int far_decide_domain_destroy(struct far_step *step, const struct far_cmd_domain_destroy *cmd)
{
    struct far_row_domain row;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_domain, state_of(&row), DESTROY, cmd->name, NULL));
    if (row.plan_count != 0) {
        return far_reject(step, FAR_CONFLICT, "%llu plans are in domain '%.*s'; remove them first", FAR_LLU(row.plan_count),
                          FAR_TEXT(cmd->name));
    }
    if (row.locked_until_ms > step->time_ms) {
        char date[FAR_DATE_MAX];
        return far_reject(step, FAR_DENIED, "domain '%.*s' holds checkpoints that are locked until %s: nobody can destroy it before",
                          FAR_TEXT(cmd->name), far_date_text(row.locked_until_ms, date));
    }
    if (row.point_count != 0 && !far_slice_equal(cmd->confirm, cmd->name)) {
        return far_reject(step, FAR_CONFLICT,
                          "domain '%.*s' holds %llu recovery points, which nobody could ever read again; say its name a second time "
                          "(field 'confirm') if that is what you want", FAR_TEXT(cmd->name), FAR_LLU(row.point_count));
    }
    struct far_ev_domain_destroyed ev = {.domain_id = row.id, .point_count = row.point_count};
    step->object_id = row.id;
    return far_emit(step, &far_schema_ev_domain_destroyed, &ev);
}

int far_evolve_domain_destroyed(struct far_step *step, const struct far_ev_domain_destroyed *ev)
{
    struct far_row_domain row;
    FAR_TRY(look(step, ev->domain_id, &row));
    FAR_TRY(far_move_id(step, &far_table_domain, state_of(&row), DESTROY, ev->domain_id, NULL));
    row.state = FAR_domain_state_destroyed;
    row.destroyed_ms = step->time_ms;
    row.is_default = false;
    row.sealed_secret = far_slice(NULL, 0);
    FAR_TRY(drop_keys(step, row.id, UINT64_MAX));
    return store(step, &row);
}

int far_domain_erased(struct far_step *step, uint64_t node_id, uint64_t domain_id)
{
    struct far_row_domain row;
    struct far_row_domain_vault vault;
    struct far_key key = far_key_pair(&far_schema_row_domain_vault, domain_id, node_id);
    struct far_ev_domain_vault_erased ev = {.domain_id = domain_id, .node_id = node_id};
    FAR_TRY(look(step, domain_id, &row));
    int rc = state_of(&row) == DESTROYED ? far_key_find(step, &far_schema_row_domain_vault, &key, &vault) : FAR_NOT_FOUND;
    return rc == 0 ? far_emit(step, &far_schema_ev_domain_vault_erased, &ev) : rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_evolve_domain_vault_erased(struct far_step *step, const struct far_ev_domain_vault_erased *ev)
{
    struct far_row_domain row;
    struct far_key key = far_key_pair(&far_schema_row_domain_vault, ev->domain_id, ev->node_id);
    FAR_TRY(look(step, ev->domain_id, &row));
    FAR_TRY(far_move_id(step, &far_table_domain, state_of(&row), ERASED, ev->domain_id, NULL));
    return far_key_del(step, &far_schema_row_domain_vault, &key);
}

/* ---- who uses it ---- */

int far_domain_of_plan(struct far_step *step, struct far_slice name, uint64_t *ret_id)
{
    struct far_row_domain row;
    size_t there;
    *ret_id = 0;
    if (far_slice_equal(name, far_slice_str(plain))) {
        return 0;
    }
    if (name.len == 0) {
        return count(step, &there, ret_id);
    }
    FAR_TRY(look_name(step, name, &row));
    FAR_TRY(far_move(step, &far_table_domain, state_of(&row), USE, name, NULL));
    *ret_id = row.id;
    return 0;
}

static int add(struct far_step *step, uint64_t *at, int delta)
{
    if (delta < 0 && *at == 0) {
        return far_reject(step, FAR_INTERNAL, "broken: a dedup domain counts less than nothing");
    }
    *at = *at + (uint64_t)(int64_t)delta;
    return 0;
}

int far_domain_plans(struct far_step *step, uint64_t domain_id, int delta)
{
    struct far_row_domain row;
    if (domain_id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_domain, domain_id, &row));
    FAR_TRY(add(step, &row.plan_count, delta));
    return store(step, &row);
}

int far_domain_points(struct far_step *step, uint64_t domain_id, int delta)
{
    struct far_row_domain row;
    if (domain_id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_domain, domain_id, &row));
    FAR_TRY(add(step, &row.point_count, delta));
    return store(step, &row);
}

int far_domain_lock(struct far_step *step, uint64_t domain_id, uint64_t until_ms)
{
    struct far_row_domain row;
    if (domain_id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_domain, domain_id, &row));
    if (until_ms <= row.locked_until_ms) {
        return 0;
    }
    row.locked_until_ms = until_ms;
    return store(step, &row);
}
