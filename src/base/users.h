/* How many use an object that several threads hand on to each other: it begins with one, whoever is the last frees it. */
#ifndef FAR_BASE_USERS_H
#define FAR_BASE_USERS_H

#include <stdatomic.h>
#include <stdbool.h>

typedef _Atomic unsigned far_users;

static inline void far_users_add(far_users *users)
{
    atomic_fetch_add(users, 1);
}

/* true: nobody uses it any more. */
static inline bool far_users_drop(far_users *users)
{
    return atomic_fetch_sub(users, 1) == 1;
}

#endif
