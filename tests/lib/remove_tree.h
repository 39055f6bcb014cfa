/* A test's folder comes, and goes with everything in it. Needs _GNU_SOURCE. */
#ifndef FAR_TESTS_LIB_REMOVE_TREE_H
#define FAR_TESTS_LIB_REMOVE_TREE_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* A new one in TMPDIR, or /tmp, whose name begins with this; into path. 0, or it could not be made. */
static inline int far_test_make_folder(const char *name, char *path, size_t size)
{
    const char *base = getenv("TMPDIR");
    int len = snprintf(path, size, "%s/far-%s-XXXXXX", base != NULL ? base : "/tmp", name);
    return len > 0 && (size_t)len < size && mkdtemp(path) != NULL ? 0 : -1;
}

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
