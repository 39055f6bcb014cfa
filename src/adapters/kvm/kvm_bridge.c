/* Bridges of isolated networks, and who gives addresses in them. libvirt removes what it knows of a network before it removes its bridge,
 * and writes it down after the bridge is there: a libvirtd that is killed between the two leaves a bridge that nobody will ever ask for.
 * So ours have names that follow from their network, and one that no network of libvirt has goes. A libvirtd in another network namespace
 * has its bridges there, and none is found here. So it is with its dnsmasq, whose command line names the network. */
#include "adapters/kvm/kvm_helper.h"

#include "base/hash.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <libvirt/virterror.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { OF_GROUP = 10 }; /* characters, up to and with the '-' */

void far_kvm_bridge_name(const struct far_kvm_machine *machine, const char *network, char ret_name[16])
{
    char prefix[FAR_KVM_NAME_MAX];
    far_kvm_network_prefix(machine, prefix);
    uint64_t group = far_hash64(prefix, strlen(prefix)), own = far_hash64(network, strlen(network));
    snprintf(ret_name, 16, "fr%07x-%05x", (unsigned)(group & 0xfffffff), (unsigned)(own & 0xfffff));
}

/* -1: libvirt could not be asked. */
static int belongs_to_network(virConnectPtr connection, const char *bridge)
{
    virNetworkPtr *networks = NULL;
    int count = virConnectListAllNetworks(connection, &networks, 0), found = count < 0 ? -1 : 0;
    for (int i = 0; i < count; i++) {
        char *name = virNetworkGetBridgeName(networks[i]);
        found = name != NULL && strcmp(name, bridge) == 0 ? 1 : found;
        free(name);
        virNetworkFree(networks[i]);
    }
    free(networks);
    return found;
}

static bool take_down(const char *bridge)
{
    struct ifreq request = {.ifr_flags = 0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", bridge);
    bool is_gone = fd >= 0 && (ioctl(fd, SIOCSIFFLAGS, &request) == 0 || errno == ENODEV) &&
                   (ioctl(fd, SIOCBRDELBR, request.ifr_name) == 0 || errno == ENXIO || errno == ENODEV);
    if (fd >= 0) {
        close(fd);
    }
    return is_gone;
}

/* Of a dnsmasq of libvirt's that serves a network of the group, which libvirt has not: that network's name. */
static bool serves_nobody(virConnectPtr connection, const char *pid, const char *prefix, char name[FAR_KVM_NAME_MAX])
{
    static const char option[] = "--conf-file=";
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%.20s/cmdline", pid);
    FILE *file = fopen(path, "re");
    size_t n = file != NULL ? fread(line, 1, sizeof line - 1, file) : 0;
    line[n] = '\0';
    if (file != NULL) {
        fclose(file);
    }
    const char *program = strrchr(line, '/'), *word = line + strlen(line) + 1;
    bool is_server = n > 0 && strcmp(program != NULL ? program + 1 : line, "dnsmasq") == 0 && word < line + n &&
                     strncmp(word, option, strlen(option)) == 0;
    const char *slash = is_server ? strrchr(word, '/') : NULL, *end = slash != NULL ? strstr(slash, ".conf") : NULL;
    if (end == NULL || strncmp(slash + 1, prefix, strlen(prefix)) != 0) {
        return false;
    }
    snprintf(name, FAR_KVM_NAME_MAX, "%.*s", (int)(end - slash - 1), slash + 1);
    virNetworkPtr network = virNetworkLookupByName(connection, name);
    bool is_gone = network == NULL && virGetLastErrorCode() == VIR_ERR_NO_NETWORK;
    if (network != NULL) {
        virNetworkFree(network);
    }
    return is_gone;
}

static void end_servers(virConnectPtr connection, const struct far_kvm_machine *machine, bool destroys)
{
    char prefix[FAR_KVM_NAME_MAX], name[FAR_KVM_NAME_MAX];
    DIR *dir = opendir("/proc");
    far_kvm_network_prefix(machine, prefix);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        bool is_left = isdigit((unsigned char)entry->d_name[0]) && serves_nobody(connection, entry->d_name, prefix, name);
        if (is_left && (!destroys || kill((pid_t)atoi(entry->d_name), SIGTERM) != 0)) {
            printf("left dnsmasq of the network '%s'\n", name);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

int far_kvm_bridges(virConnectPtr connection, const struct far_kvm_machine *machine, bool destroys, struct far_adapter_error *ret_error)
{
    char own[16];
    int outcome = FAR_ADAPTER_OK;
    end_servers(connection, machine, destroys);
    far_kvm_bridge_name(machine, "", own);
    struct if_nameindex *all = if_nameindex();
    for (struct if_nameindex *each = all; each != NULL && each->if_index != 0 && outcome == FAR_ADAPTER_OK; each++) {
        int belongs = strncmp(each->if_name, own, OF_GROUP) == 0 ? belongs_to_network(connection, each->if_name) : 1;
        if (belongs < 0) {
            outcome = far_kvm_said(ret_error, "list the networks");
        } else if (belongs == 0 && (!destroys || !take_down(each->if_name))) {
            printf("left bridge '%s'\n", each->if_name);
        }
    }
    if (all != NULL) {
        if_freenameindex(all);
    }
    return outcome;
}
