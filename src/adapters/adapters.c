/* The adapters that are built in: see adapters.h. A new platform is one line in the list. */
#include "adapters/adapters.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct far_adapter *const built_in[] = {&far_adapter_file, &far_adapter_nbd, &far_adapter_fault, NULL};

const struct far_adapter *const *far_adapters(void)
{
    return built_in;
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
