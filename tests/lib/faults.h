/* Faults: make the n-th allocation or the n-th system call of a kind fail, in a unit test.
 *
 * A test links tests/lib/libfaults.la with $(LINK_WITH_FAULTS) (tests/lib/local.mk); the linker then sends the calls of
 * the test and of the convenience libraries under test, not those of shared libraries, through faults.c. Counting starts
 * at far_fault_arm(), in all threads together; any thread may call anything here. The usual shape is a sweep:
 *
 *     for (uint64_t n = 1; ; n++) {
 *         far_fault_arm(FAR_FAULT_ALLOC, n, ENOMEM);
 *         int rc = far_thing_new(…);
 *         if (!far_fault_disarm()) {       // n calls did not happen: everything was failed once
 *             assert_int_equal(rc, 0);
 *             break;
 *         }
 *         assert_int_not_equal(rc, 0);     // and nothing leaks: the address sanitizer and valgrind watch
 *     }
 */
#ifndef FAR_TESTS_LIB_FAULTS_H
#define FAR_TESTS_LIB_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum far_fault {
    FAR_FAULT_NONE,
    FAR_FAULT_ALLOC,    /* malloc calloc realloc reallocarray strdup strndup posix_memalign aligned_alloc */
    FAR_FAULT_OPEN,     /* open openat */
    FAR_FAULT_READ,     /* read pread preadv */
    FAR_FAULT_WRITE,    /* write pwrite writev pwritev */
    FAR_FAULT_TRUNCATE, /* ftruncate fallocate posix_fallocate */
    FAR_FAULT_SYNC,     /* fsync fdatasync */
    FAR_FAULT_RENAME,   /* rename renameat */
    FAR_FAULT_UNLINK,   /* unlink unlinkat rmdir */
    FAR_FAULT_MKDIR,    /* mkdir mkdirat */
    FAR_FAULT_STAT,     /* fstat */
};

/* The nth call of this kind from now on (1 = the next) fails with this errno, once. One fault is armed at a time. */
void far_fault_arm(enum far_fault what, uint64_t nth, int error);
/* The same, and every later call of the kind fails too: a disk that is full or gone. */
void far_fault_arm_from(enum far_fault what, uint64_t nth, int error);
/* The nth writing call stores only the first `bytes` of what it was given and says so: a short write. */
void far_fault_arm_short_write(uint64_t nth, size_t bytes);
/* Ends it; true if the fault has struck at least once. */
bool far_fault_disarm(void);
/* Calls of the armed kind since it was armed. */
uint64_t far_fault_count(void);

#endif
