/* What the commands of `farshore-node vault` are called with, and names from elsewhere as a terminal may be shown them. */
#include "node/node.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *command;
    const char *options;
} usages[] = {
    {"list", "--vault DIR [--recovery-key FILE]"},
    {"recover", "[--offline] --vault DIR --point ID --disk NAME --target PATH [--overwrite-device] [--recovery-key FILE]"},
    {"verify", "--vault DIR --point ID [--disk NAME] [--since POINT] [--recovery-key FILE]"},
    {"open", "--vault DIR --point ID --disk NAME (--socket PATH | --port NUMBER [--address ADDRESS [--tls NODE-DIR]]) [--cache SIZE]"
             " [--recovery-key FILE] [--pidfile FILE] [--writable [--write-max SIZE | --write-percent N] | --hydrate PATH [--order FILE]"
             " [--written FILE] [--progress]]"},
    {"import", "--vault DIR --image FILE --label NAME [--disk NAME] [--level 1-19] [--domain NAME --recovery-key FILE]"},
    {"copy", "--vault DIR --to DIR --point ID[,ID…]|all [--recovery-key FILE]"},
    {"repair", "--vault DIR --from DIR [--point ID] [--recovery-key FILE]"},
    {"diff", "--vault DIR --point ID --with ID --disk NAME [--pages] [--json] [--recovery-key FILE]"},
    {"export", "--vault DIR --point ID --disk NAME --format raw|qcow2 --out FILE [--base ID --backing FILE] [--recovery-key FILE]"},
    {"browse", "--vault DIR --point ID --disk NAME (--list PATH | --cat PATH | --get PATH --out FILE) [--mount DEVICE]"
               " [--recovery-key FILE]"},
    {"config", "--vault DIR --point ID [--recovery] [--out FILE]"},
    {"forget", "--vault DIR --point ID"},
    {"reclaim", "--vault DIR [--secure] [--recovery-key FILE]"},
    {"space", "--vault DIR [--recovery-key FILE]"},
    {"scrub", "--vault DIR [--bytes N] [--from POINT/DISK/BLOCK] [--recovery-key FILE]"},
    {"rekey", "--vault DIR --recovery-key FILE"},
    {"keys", "--vault DIR --recovery-key FILE --out FILE"},
    {"bind", "--vault DIR --store FILE"},
    {"attach", "--vault DIR --store FILE [--uuid UUID] [--read-only | --take-over] [--key FINGERPRINT | --key FILE | --node NODE-DIR]"},
    {"store", "(--vault DIR | --store FILE)"},
    {"signal", "--vault DIR [--point ID] [--features] [--recovery-key FILE]"},
    {"confirm-time", "--vault DIR"},
};
enum { COUNT = sizeof usages / sizeof usages[0] };

bool far_vault_print_usage(FILE *out, const char *command, const char *indent)
{
    bool any = false;
    for (size_t i = 0; i < COUNT; i++) {
        if (command == NULL || strcmp(command, usages[i].command) == 0) {
            fprintf(out, "%sfarshore-node vault %s %s\n", any ? "       " : indent, usages[i].command, usages[i].options);
            any = true;
        }
    }
    return any;
}

bool far_vault_is_printable(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c < 0x20 || *c == 0x7f || (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)) {
            return false;
        }
    }
    return true;
}

const char *far_vault_shown(const char *text, char shown[FAR_SHOWN_MAX])
{
    snprintf(shown, FAR_SHOWN_MAX, "%s", text);
    for (unsigned char *c = (unsigned char *)shown; *c != '\0'; c++) {
        if (*c < 0x20 || *c == 0x7f || (*c >= 0x80 && *c < 0xa0 && c > (unsigned char *)shown && c[-1] == 0xc2)) {
            *c = '?';
        }
    }
    return shown;
}
