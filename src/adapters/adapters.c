/* The adapters that are built in: see adapters.h. A new platform is one line in the list. One whose program is not installed is left
 * out, so that no work comes to a node that cannot do it. */
#include "adapters/adapters.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct far_adapter *const built_in[] = {&far_adapter_file, &far_adapter_nbd, &far_adapter_kvm, &far_adapter_fault, NULL};

static const struct far_adapter *offered[sizeof built_in / sizeof built_in[0]];
static pthread_once_t looked = PTHREAD_ONCE_INIT;

static void look(void)
{
    size_t count = 0;
    for (size_t i = 0; built_in[i] != NULL; i++) {
        if (built_in[i] != &far_adapter_kvm || far_adapter_kvm_is_there()) {
            offered[count++] = built_in[i];
        }
    }
}

const struct far_adapter *const *far_adapters(void)
{
    pthread_once(&looked, look);
    return offered;
}

const struct far_adapter *far_adapters_find(const char *name)
{
    for (size_t i = 0; built_in[i] != NULL; i++) {
        if (strcmp(built_in[i]->name, name) == 0) {
            return built_in[i];
        }
    }
    return NULL;
}

int far_adapter_fail(struct far_adapter_error *ret_error, int outcome, int klass, const char *format, ...)
{
    if (ret_error != NULL) {
        va_list args;
        va_start(args, format);
        ret_error->klass = klass;
        vsnprintf(ret_error->message, sizeof ret_error->message, format, args);
        va_end(args);
    }
    return outcome;
}
