/* The layout: see layout.h. */
#include "fsm/layout.h"

#include <stdio.h>

/* The place of this site in the layout; NULL: there is none left. */
static struct far_layout_site *site_of(struct far_layout *layout, uint64_t id)
{
    for (size_t i = 0; i < layout->site_count; i++) {
        if (layout->sites[i].id == id) {
            return &layout->sites[i];
        }
    }
    return NULL;
}

static int load_sites(struct far_state *state, struct far_arena *arena, struct far_layout *layout, struct far_error *err)
{
    struct far_row_site row;
    struct far_key key = far_key(&far_schema_row_site);
    int rc;
    while ((rc = far_state_next(state, &far_schema_row_site, &key, arena, NULL, &row, err)) == 0) {
        if (layout->site_count < FAR_LAYOUT_SITES_MAX) {
            layout->sites[layout->site_count++] =
                (struct far_layout_site){.id = row.id, .name = row.name, .role = row.role};
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

struct count {
    struct far_layout *layout;
    unsigned up_at[FAR_LAYOUT_SITES_MAX];
    unsigned homeless_up;
};

static void count_voter(struct count *count, const struct far_row_server *row, bool is_up)
{
    struct far_layout *layout = count->layout;
    struct far_layout_site *site = row->site_id == 0 ? NULL : site_of(layout, row->site_id);
    layout->voters++;
    layout->up += is_up;
    if (site == NULL) {
        layout->homeless++;
        count->homeless_up += is_up;
        return;
    }
    site->voters++;
    count->up_at[site - layout->sites] += is_up;
}

static bool is_in(const uint64_t *ids, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* Only sites that matter stay. */
static void judge(struct count *count)
{
    struct far_layout *layout = count->layout;
    size_t kept = 0;
    layout->majority = layout->voters / 2 + 1;
    layout->has_quorum = layout->up >= layout->majority;
    layout->is_one_survived = layout->up > layout->majority;
    for (size_t i = 0; i < layout->site_count; i++) {
        struct far_layout_site site = layout->sites[i];
        site.is_survived = layout->up - count->up_at[i] - count->homeless_up >= layout->majority;
        if (site.voters > 0 || site.role == FAR_site_role_protected) {
            layout->sites[kept++] = site;
        }
    }
    layout->site_count = kept;
}

int far_layout_of(struct far_state *state, bool wanted, const uint64_t *down, size_t down_count, struct far_arena *arena,
                  struct far_layout *ret_layout, struct far_error *err)
{
    struct far_layout layout = {0};
    struct count count = {.layout = &layout};
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    int rc = load_sites(state, arena, &layout, err);
    if (rc != 0) {
        return rc;
    }
    while ((rc = far_state_next(state, &far_schema_row_server, &key, arena, NULL, &row, err)) == 0) {
        uint64_t role = wanted && row.role != FAR_server_role_removed ? row.wanted_role : row.role;
        if (role == FAR_server_role_voter) {
            count_voter(&count, &row, !is_in(down, down_count, row.id));
        }
    }
    if (rc != FAR_NOT_FOUND) {
        return rc;
    }
    judge(&count);
    *ret_layout = layout;
    return 0;
}

void far_layout_warning(const struct far_layout *layout, char *text, size_t size)
{
    text[0] = '\0';
    if (layout->homeless > 0 && layout->voters > 1) {
        snprintf(text, size, "%u of %u voting servers stand at no site, so nobody can say what the loss of a site takes: "
                 "name their sites (farshore server site NAME --site SITE)", layout->homeless, layout->voters);
        return;
    }
    static const uint64_t order[] = {FAR_site_role_protected, FAR_site_role_recovery, FAR_site_role_witness};
    for (size_t k = 0; k < sizeof order / sizeof order[0]; k++) {
        for (size_t i = 0; i < layout->site_count; i++) {
            const struct far_layout_site *site = &layout->sites[i];
            if (site->role == order[k] && site->voters > 0 && !site->is_survived) {
                snprintf(text, size, "losing the %s site '%.*s' loses the quorum (%u of %u voting servers stand there)%s",
                         far_enum_name(&far_enum_site_role, site->role), (int)site->name.len,
                         (const char *)site->name.data, site->voters, layout->voters,
                         site->role == FAR_site_role_protected
                             ? ": recovery would need a forced one; have one voter each at the protected, the recovery and "
                               "a third site"
                             : "");
                return;
            }
        }
    }
    if (!layout->is_one_survived) {
        snprintf(text, size, "losing any one of the %u voting servers loses the quorum; have three or five", layout->voters);
    }
}
