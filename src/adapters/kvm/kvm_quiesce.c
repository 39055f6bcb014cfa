/* File systems of a guest that are frozen for the moment of a view, by its agent: the view then needs no journal replay.
 *
 * A guest that stays frozen is worse than any view. So before it is frozen a second process is started that outlives this one: it
 * thaws unless it hears through a pipe that this was done, whatever became of its parent. An agent that does not answer, or refuses,
 * costs the quiescing only: the view is then crash consistent, like one of a machine whose power went. */
#define _GNU_SOURCE
#include "adapters/kvm/kvm_helper.h"
#include "base/clock.h"

#include <fcntl.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { AGENT_S = 10, GUARD_TRIES = 3600, LATE_S = 30 };

_Noreturn static void become_guard(const struct far_kvm_domain *domain, int pipe_fd)
{
    char locator[PATH_MAX * 2];
    const struct far_kvm_place *place = &domain->disks[0].place;
    const char *socket = strstr(place->uri, "?socket=");
    snprintf(locator, sizeof locator, "kvm:///%s/%s%s", domain->uuid, place->target, socket != NULL ? socket : "");
    setsid(); /* whoever ends this process's group does not mean it */
    int nothing = open("/dev/null", O_WRONLY);
    dup2(pipe_fd, STDIN_FILENO);
    dup2(nothing, STDOUT_FILENO);
    dup2(nothing, STDERR_FILENO);
    execl("/proc/self/exe", "farshore-kvm", "guard", locator, (char *)NULL);
    _exit(127);
}

void far_kvm_quiesce(struct far_kvm_domain *domain, struct far_kvm_quiesce *quiesce)
{
    int fds[2], ready[2];
    char byte;
    *quiesce = (struct far_kvm_quiesce){.guard_fd = -1};
    if (!domain->has_agent || pipe2(fds, O_CLOEXEC) != 0) {
        return;
    }
    if (pipe2(ready, O_CLOEXEC) != 0) {
        close(fds[0]);
        close(fds[1]);
        return;
    }
    quiesce->guard_pid = fork();
    if (quiesce->guard_pid == 0) {
        become_guard(domain, fds[0]);
    }
    close(fds[0]);
    close(ready[1]);
    ssize_t told = read(ready[0], &byte, 1); /* ends when the guard runs, out of this process's group: not before is anything frozen */
    close(ready[0]);
    if (quiesce->guard_pid < 0 || told != 0 || waitpid(quiesce->guard_pid, NULL, WNOHANG) != 0) {
        close(fds[1]);
        return;
    }
    quiesce->guard_fd = fds[1];
    virDomainAgentSetResponseTimeout(domain->domain, AGENT_S, 0);
    if (virDomainFSFreeze(domain->domain, NULL, 0, 0) < 0) {
        fprintf(stderr, "farshore-kvm: the agent of '%s' does not freeze its file systems: %s\n", domain->disks[0].place.domain,
                virGetLastErrorMessage());
    }
}

void far_kvm_thaw(struct far_kvm_domain *domain, struct far_kvm_quiesce *quiesce)
{
    if (quiesce->guard_fd < 0) {
        return;
    }
    bool thawed = virDomainFSThaw(domain->domain, NULL, 0, 0) >= 0; /* also where the freeze failed: it may have come half way */
    ssize_t told = thawed ? write(quiesce->guard_fd, "d", 1) : 0;
    close(quiesce->guard_fd);
    if (told == 1) {
        (void)waitpid(quiesce->guard_pid, NULL, 0);
    }
}

int far_kvm_guard(const char *locator)
{
    static struct far_kvm_domain domain;
    char byte;
    ssize_t n = read(STDIN_FILENO, &byte, 1);
    int thawed = -1;
    bool is_late = false;
    /* Where nothing was frozen, libvirtd may have the dead one's question still before it: for LATE_S, as long as it lets one wait. */
    uint64_t died_ms = far_clock_monotonic_ms();
    for (int i = 0; n != 1 && thawed <= 0 && !(thawed == 0 && is_late) && i < GUARD_TRIES; i++) {
        nanosleep(&(struct timespec){.tv_sec = i > 0}, NULL);
        is_late = far_clock_monotonic_ms() - died_ms > LATE_S * 1000;
        thawed = far_kvm_open(&locator, 1, &domain, NULL) == FAR_ADAPTER_OK ? virDomainFSThaw(domain.domain, NULL, 0, 0) : -1;
        far_kvm_close(&domain);
    }
    return n == 1 || thawed >= 0 ? 0 : 1;
}
