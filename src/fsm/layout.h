/* The layout of the servers: which failures the quorum survives (DESIGN.md section 6). A function of the servers' rows, their
 * sites, and which of them are down now. Pure. */
#ifndef FAR_FSM_LAYOUT_H
#define FAR_FSM_LAYOUT_H

#include "fsm/fsm.h"

enum { FAR_LAYOUT_SITES_MAX = 16 };

struct far_layout_site {
    uint64_t id;
    struct far_slice name; /* in the arena */
    uint64_t role;         /* enum far_site_role */
    unsigned voters;       /* that stand there */
    bool is_survived;      /* without everything at this site there is still a majority of voters that are up */
};

struct far_layout {
    unsigned voters;
    unsigned up;       /* of the voters */
    unsigned majority; /* so many must be up */
    unsigned homeless; /* voters at no site: they count as lost with every site */
    bool has_quorum;
    bool is_one_survived; /* the loss of any one server that is up */
    size_t site_count;    /* with voters, or protected */
    struct far_layout_site sites[FAR_LAYOUT_SITES_MAX];
};

/* wanted: count the servers that are to be voters instead of those that are. down: ids of servers that count as down. */
int far_layout_of(struct far_state *state, bool wanted, const uint64_t *down, size_t down_count, struct far_arena *arena,
                  struct far_layout *ret_layout, struct far_error *err);
/* What is bad about it in one sentence, the worst first; "" if the loss of any one site or server is survived. */
void far_layout_warning(const struct far_layout *layout, char *text, size_t size);

#endif
