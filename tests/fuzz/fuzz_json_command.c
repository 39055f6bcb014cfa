/* Bodies of requests: any bytes against every command; what is accepted can be encoded and written again. */
#include "api/json.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_command(const struct far_schema *schema, const json_t *json)
{
    static const struct far_json_rule all = {NULL, NULL};
    struct far_arena arena;
    struct far_buf out;
    far_arena_init(&arena, 1 << 20);
    far_buf_init(&out, 1 << 20);
    void *object = far_arena_alloc(&arena, schema->size + 1);
    if (object != NULL && far_json_to_struct(schema, json, &all, &arena, object, NULL) == 0) {
        if (far_schema_encode(schema, object, &out, NULL) == FAR_INVALID) {
            abort(); /* JSON let something through that is no command */
        }
        json_t *again = far_json_from_struct(schema, object);
        if (again == NULL) {
            abort();
        }
        json_decref(again);
    }
    far_buf_done(&out);
    far_arena_done(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *json = NULL;
    if (far_json_parse(far_slice(data, size), &json, NULL) != 0) {
        return 0;
    }
    for (size_t i = 0; far_schemas[i] != NULL; i++) {
        if (far_schemas[i]->klass == FAR_CLASS_cmd) {
            try_command(far_schemas[i], json);
        }
    }
    json_decref(json);
    return 0;
}
