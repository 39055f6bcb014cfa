/* The command farshore. */
#include "cli.h"

#include <signal.h>

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of writing, told as such */
    return cli_main(argc, (const char *const *)argv);
}
