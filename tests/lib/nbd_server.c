/* Real NBD servers for tests: see nbd_server.h. */
#include "nbd_server.h"
#include "until.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_MS = 10000 };

bool far_nbd_has(const char *program)
{
    const char *at = getenv("PATH");
    char path[512];
    while (at != NULL && *at != '\0') {
        size_t len = strcspn(at, ":");
        if (len < 300 && snprintf(path, sizeof path, "%.*s/%s", (int)len, at, program) < (int)sizeof path &&
            access(path, X_OK) == 0) {
            return true;
        }
        at += len + (at[len] == ':');
    }
    return false;
}

static bool listens(const char *socket_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return connected;
}

pid_t far_nbd_server_start(const char *socket_path, const char *const argv[])
{
    unlink(socket_path);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(null, 0);
        dup2(null, 1);
        if (getenv("FAR_NBD_LOUD") == NULL) {
            dup2(null, 2);
        }
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    if (pid > 0 && !FAR_UNTIL(listens(socket_path) || waitpid(pid, NULL, WNOHANG) == pid, START_MS)) {
        far_nbd_server_kill(&pid);
    }
    return pid > 0 && listens(socket_path) ? pid : -1;
}

void far_nbd_server_kill(pid_t *pid)
{
    if (*pid > 0) {
        kill(*pid, SIGKILL);
        waitpid(*pid, NULL, 0);
    }
    *pid = 0;
}
