/* Leadership: see leadership.h. */
#include "server/leadership.h"

enum { HEARD_MS_MAX = 5000 };

bool far_leadership_is_witness(const struct far_witnesses *witnesses, uint64_t id)
{
    for (size_t i = 0; i < witnesses->count; i++) {
        if (witnesses->ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* Could it take over at once? */
static bool is_fit(const struct far_log_status *status, const struct far_log_member *member)
{
    return member->id != status->server_id && member->role == FAR_server_role_voter && member->connected &&
           member->about_age_ms <= HEARD_MS_MAX && !member->about.is_safe &&
           member->match_index + FAR_LEADERSHIP_BEHIND_MAX >= status->commit_index;
}

uint64_t far_leadership_choose(const struct far_log_status *status, const struct far_witnesses *witnesses)
{
    const struct far_log_member *best = NULL;
    uint64_t own = 0, all = 0;
    for (size_t i = 0; i < status->member_count; i++) {
        const struct far_log_member *member = &status->members[i];
        all += member->asked;
        own = member->id == status->server_id ? member->asked : own;
        if (is_fit(status, member) && !far_leadership_is_witness(witnesses, member->id) &&
            (best == NULL || member->asked > best->asked ||
             (member->asked == best->asked && member->match_index > best->match_index))) {
            best = member;
        }
    }
    if (best == NULL) {
        return 0;
    }
    bool is_nearer = best->asked >= FAR_LEADERSHIP_ASKED_MIN && best->asked > all / 2 &&
                     best->asked > own * FAR_LEADERSHIP_ASKED_TIMES;
    return is_nearer || far_leadership_is_witness(witnesses, status->server_id) ? best->id : 0;
}
