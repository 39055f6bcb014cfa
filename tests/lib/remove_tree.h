/* A test's folder goes with everything in it. Needs _GNU_SOURCE. */
#ifndef FAR_TESTS_LIB_REMOVE_TREE_H
#define FAR_TESTS_LIB_REMOVE_TREE_H

#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

static inline int far_test_remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

/* 0, or not all of it is gone. Links are removed, not followed. */
static inline int far_test_remove_tree(const char *path)
{
    return nftw(path, far_test_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
