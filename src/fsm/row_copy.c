/* Copies of rows: see row_copy.h. Everything behind the struct is aligned, so lists of structs with slices of their own need no
 * more thought: sizes and places are found by the same walk over the fields. */
#include "fsm/row_copy.h"

#include <stdlib.h>

enum { ALIGN = 16, UNIT = 64 };

#if defined(__has_feature)
#define HAS_FEATURE(feature) __has_feature(feature)
#else
#define HAS_FEATURE(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
enum { SPARE_BYTES_MAX = 0 }; /* so that every use of what was freed is seen */
#else
enum { SPARE_BYTES_MAX = 256 * 1024 };
#endif

/* In front of each copy. */
struct far_row_block {
    _Alignas(ALIGN) struct far_row_block *next; /* of the spare ones */
    size_t units;
};

struct pointer {
    const struct far_field *field;
    bool is_flat; /* a list whose items point at nothing */
};

struct far_row_shape {
    size_t count;
    struct pointer pointers[]; /* the fields that point at something */
};

static bool is_list(const struct far_field *field)
{
    return field->type == FAR_TYPE_LIST || field->type == FAR_TYPE_STRS || field->type == FAR_TYPE_U64S;
}

static bool is_pointer(const struct far_field *field)
{
    return is_list(field) || field->type == FAR_TYPE_STR || field->type == FAR_TYPE_BYTES || field->type == FAR_TYPE_SECRET;
}

static bool is_flat(const struct far_field *field)
{
    bool flat = field->type == FAR_TYPE_LIST || field->type == FAR_TYPE_U64S;
    for (const struct far_field *f = field->type == FAR_TYPE_LIST ? field->element->fields() : NULL;
         f != NULL && f->type != FAR_TYPE_END; f++) {
        flat = flat && !is_pointer(f);
    }
    return flat;
}

static struct far_row_shape *shape_new(const struct far_schema *table)
{
    size_t count = 0;
    for (const struct far_field *f = table->fields(); f->type != FAR_TYPE_END; f++) {
        count += is_pointer(f);
    }
    struct far_row_shape *shape = malloc(sizeof *shape + count * sizeof(struct pointer));
    if (shape == NULL) {
        return NULL;
    }
    shape->count = 0;
    for (const struct far_field *f = table->fields(); f->type != FAR_TYPE_END; f++) {
        if (is_pointer(f)) {
            shape->pointers[shape->count++] = (struct pointer){.field = f, .is_flat = is_flat(f)};
        }
    }
    return shape;
}

static const struct far_row_shape *shape_of(struct far_row_shapes *shapes, const struct far_schema *table)
{
    struct far_row_shape **shape = &shapes->of[table->kind % FAR_ROW_TABLES];
    if (*shape == NULL) {
        *shape = shape_new(table);
    }
    return *shape;
}

void far_row_shapes_done(struct far_row_shapes *shapes)
{
    for (size_t i = 0; i < FAR_ROW_TABLES; i++) {
        free(shapes->of[i]);
        shapes->of[i] = NULL;
    }
    for (size_t i = 0; i < FAR_ROW_BLOCKS; i++) {
        for (struct far_row_block *block = shapes->spare[i], *next; block != NULL; block = next) {
            next = block->next;
            free(block);
        }
        shapes->spare[i] = NULL;
    }
    shapes->spare_bytes = 0;
}

static void *block_new(struct far_row_shapes *shapes, size_t size)
{
    size_t units = (sizeof(struct far_row_block) + size + UNIT - 1) / UNIT;
    struct far_row_block *block = units < FAR_ROW_BLOCKS ? shapes->spare[units] : NULL;
    if (block != NULL) {
        shapes->spare[units] = block->next;
        shapes->spare_bytes -= units * UNIT;
    } else {
        block = malloc(units * UNIT);
    }
    if (block == NULL) {
        return NULL;
    }
    block->units = units;
    return block + 1;
}

void far_row_free(struct far_row_shapes *shapes, void *copy)
{
    struct far_row_block *block = copy == NULL ? NULL : (struct far_row_block *)copy - 1;
    if (block != NULL && block->units < FAR_ROW_BLOCKS && shapes->spare_bytes + block->units * UNIT <= SPARE_BYTES_MAX) {
        shapes->spare_bytes += block->units * UNIT;
        block->next = shapes->spare[block->units];
        shapes->spare[block->units] = block;
    } else {
        free(block);
    }
}

static size_t aligned(size_t size)
{
    return (size + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t item_size(const struct far_field *field)
{
    return field->type == FAR_TYPE_LIST ? field->element->size
                                        : field->type == FAR_TYPE_STRS ? sizeof(struct far_slice) : sizeof(uint64_t);
}

static size_t size_behind(const struct far_field *field, const void *object);

static size_t size_of_list(const struct far_field *field, const struct far_list *list)
{
    size_t size = aligned(list->count * item_size(field));
    for (size_t i = 0; i < list->count; i++) {
        const uint8_t *item = (const uint8_t *)list->items + i * item_size(field);
        size += field->type == FAR_TYPE_STRS ? aligned(((const struct far_slice *)(const void *)item)->len) : 0;
        const struct far_field *inner = field->type == FAR_TYPE_LIST ? field->element->fields() : NULL;
        for (; inner != NULL && inner->type != FAR_TYPE_END; inner++) {
            size += is_pointer(inner) ? size_behind(inner, item) : 0;
        }
    }
    return size;
}

/* What a field of the object needs behind the struct. */
static size_t size_behind(const struct far_field *field, const void *object)
{
    const void *at = (const uint8_t *)object + field->offset;
    return is_list(field) ? size_of_list(field, at) : aligned(((const struct far_slice *)at)->len);
}

static uint8_t *copy_bytes(struct far_slice *slice, uint8_t *to)
{
    if (slice->len > 0) {
        memcpy(to, slice->data, slice->len);
    }
    slice->data = slice->len > 0 ? to : NULL;
    return to + aligned(slice->len);
}

static uint8_t *copy_behind(const struct far_field *field, void *object, uint8_t *to);

static uint8_t *copy_list(const struct far_field *field, struct far_list *list, uint8_t *to)
{
    uint8_t *items = to;
    if (list->count > 0) {
        memcpy(items, list->items, list->count * item_size(field));
    }
    list->items = items;
    to += aligned(list->count * item_size(field));
    for (size_t i = 0; i < list->count; i++) {
        uint8_t *item = items + i * item_size(field);
        to = field->type == FAR_TYPE_STRS ? copy_bytes((struct far_slice *)(void *)item, to) : to;
        const struct far_field *inner = field->type == FAR_TYPE_LIST ? field->element->fields() : NULL;
        for (; inner != NULL && inner->type != FAR_TYPE_END; inner++) {
            to = is_pointer(inner) ? copy_behind(inner, item, to) : to;
        }
    }
    return to;
}

/* Copy what a field of the object points at; returns the place behind it. */
static uint8_t *copy_behind(const struct far_field *field, void *object, uint8_t *to)
{
    void *at = (uint8_t *)object + field->offset;
    return is_list(field) ? copy_list(field, at, to) : copy_bytes(at, to);
}

static const struct far_list *list_at(const struct pointer *pointer, const void *row)
{
    return (const void *)((const uint8_t *)row + pointer->field->offset);
}

static size_t flat_size(const struct pointer *pointer, const struct far_list *list)
{
    return list->count * item_size(pointer->field);
}

static uint8_t *copy_flat(const struct pointer *pointer, void *row, uint8_t *to)
{
    struct far_list *list = (void *)((uint8_t *)row + pointer->field->offset);
    size_t size = flat_size(pointer, list);
    if (size > 0) {
        memcpy(to, list->items, size);
    }
    list->items = to;
    return to + aligned(size);
}

void *far_row_copy(struct far_row_shapes *shapes, const struct far_schema *table, const void *row)
{
    const struct far_row_shape *shape = shape_of(shapes, table);
    size_t size = aligned(table->size);
    for (size_t i = 0; shape != NULL && i < shape->count; i++) {
        const struct pointer *p = &shape->pointers[i];
        size += p->is_flat ? aligned(flat_size(p, list_at(p, row))) : size_behind(p->field, row);
    }
    uint8_t *copy = shape == NULL ? NULL : block_new(shapes, size);
    if (copy == NULL) {
        return NULL;
    }
    if (table->size > 0) {
        memcpy(copy, row, table->size);
    }
    uint8_t *to = copy + aligned(table->size);
    for (size_t i = 0; i < shape->count; i++) {
        const struct pointer *p = &shape->pointers[i];
        to = p->is_flat ? copy_flat(p, copy, to) : copy_behind(p->field, copy, to);
    }
    return copy;
}

bool far_row_same_pointers(struct far_row_shapes *shapes, const struct far_schema *table, const void *a, const void *b)
{
    const struct far_row_shape *shape = shape_of(shapes, table);
    for (size_t i = 0; shape != NULL && i < shape->count; i++) {
        const struct far_slice *x = (const void *)((const uint8_t *)a + shape->pointers[i].field->offset);
        const struct far_slice *y = (const void *)((const uint8_t *)b + shape->pointers[i].field->offset);
        if (x->len != y->len || (x->len > 0 && x->data != y->data)) {
            return false;
        }
    }
    return shape != NULL;
}
