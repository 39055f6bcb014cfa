/* The bytes of every command, event, row and message, and of a recorded log, are what they were: tests/golden/fsm.
 *
 * kinds.txt pins the encoding of each kind; every line must decode and encode to the same bytes again. log.txt is a log of
 * commands with the events they gave: decided anew they must give the same events byte for byte, folded alone the same
 * digest. Files are made by make_golden. */
#include "fsm/fsm.h"
#include "fsm/kv_memory.h"
#include "golden/golden_fsm_made.h"

#include "lib/cm.h"

#include <stdio.h>
#include <stdlib.h>

static char *line;
static size_t line_size;

static FILE *open_golden(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/golden/fsm/%s", FAR_SRCDIR, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
    }
    assert_non_null(file);
    return file;
}

/* The whole file and what the code makes today are the same text. */
static void assert_same(const char *name, void (*write)(FILE *file))
{
    char *made = NULL, *made_line = NULL;
    size_t made_size = 0, made_line_size = 0, number = 0;
    FILE *memory = open_memstream(&made, &made_size), *golden = open_golden(name);
    write(memory);
    fclose(memory);
    memory = fmemopen(made, made_size, "r");
    for (;;) {
        bool has_line = getline(&line, &line_size, golden) >= 0;
        assert_int_equal(getline(&made_line, &made_line_size, memory) >= 0, has_line);
        if (!has_line) {
            break;
        }
        number++;
        if (strcmp(line, made_line) != 0) {
            print_message("# %s, line %zu: %.80s\n", name, number, line);
        }
        assert_string_equal(made_line, line);
    }
    print_message("# %s: %zu lines\n", name, number);
    fclose(memory);
    fclose(golden);
    free(made);
    free(made_line);
}

static void every_kind_has_the_bytes_it_had(void **unused)
{
    assert_same("kinds.txt", golden_write_kinds);
}

static void a_life_gives_the_log_it_gave(void **unused)
{
    assert_same("log.txt", golden_write_log);
    assert_same("log_consumers.txt", golden_write_log_consumers);
    assert_same("log_heads.txt", golden_write_log_heads);
    assert_same("log_updates.txt", golden_write_log_updates);
    assert_same("log_incarnations.txt", golden_write_log_incarnations);
    assert_same("log_retention.txt", golden_write_log_retention);
    assert_same("log_running.txt", golden_write_log_running);
    assert_same("log_compaction.txt", golden_write_log_compaction);
    assert_same("log_skips.txt", golden_write_log_skips);
    assert_same("log_forget.txt", golden_write_log_forget);
    assert_same("log_throttles.txt", golden_write_log_throttles);
}

static size_t unhex(const char *text, uint8_t *bytes, size_t max)
{
    size_t len = strcspn(text, " \n");
    if (len == 1 && text[0] == '-') {
        return 0;
    }
    assert_true(len / 2 <= max);
    assert_true(far_hex_decode(text, len, bytes, len / 2));
    return len / 2;
}

static void every_golden_payload_decodes_and_encodes_to_itself(void **unused)
{
    static uint8_t bytes[1 << 16];
    FILE *golden = open_golden("kinds.txt");
    while (getline(&line, &line_size, golden) >= 0) {
        char klass[8], name[64];
        unsigned kind, version;
        int at = 0;
        assert_int_equal(sscanf(line, "%7s %63s %u %u %n", klass, name, &kind, &version, &at), 4);
        size_t len = unhex(line + at, bytes, sizeof bytes);
        enum far_schema_class c = strcmp(klass, "cmd") == 0   ? FAR_CLASS_cmd
                                  : strcmp(klass, "ev") == 0  ? FAR_CLASS_ev
                                  : strcmp(klass, "row") == 0 ? FAR_CLASS_row
                                                              : FAR_CLASS_msg;
        const struct far_schema *schema = far_schema_find(c, (uint16_t)kind, (uint16_t)version);
        assert_non_null(schema);
        assert_string_equal(schema->name, name);
        struct far_arena arena;
        struct far_buf buf;
        struct far_error err;
        far_arena_init(&arena, 1 << 20);
        far_buf_init(&buf, 1 << 20);
        void *object = far_arena_alloc(&arena, schema->size);
        assert_int_equal(far_schema_decode(schema, far_slice(bytes, len), &arena, object, &err), 0);
        assert_int_equal(far_schema_encode(schema, object, &buf, &err), 0);
        assert_true(far_slice_equal(far_buf_slice(&buf), far_slice(bytes, len)));
        far_buf_done(&buf);
        far_arena_done(&arena);
    }
    fclose(golden);
}

/* ---- the log, as another build reads it ---- */

enum { PENDING_MAX = 2000 };
static char *pending[PENDING_MAX]; /* event lines of the command applied last */
static size_t pending_count, pending_at;

static int keep_event(void *arg, const struct far_event *e, struct far_error *err)
{
    char *text = NULL;
    size_t size = 0;
    FILE *memory = open_memstream(&text, &size);
    fprintf(memory, "E %llu %u %u %llu %llu ", (unsigned long long)e->seq, e->kind, e->version,
            (unsigned long long)e->actor, (unsigned long long)e->time_ms);
    for (size_t i = 0; i < sizeof e->command_id; i++) {
        fprintf(memory, "%02x", e->command_id[i]);
    }
    fprintf(memory, " ");
    for (size_t i = 0; i < e->payload.len; i++) {
        fprintf(memory, "%02x", e->payload.data[i]);
    }
    fprintf(memory, "\n");
    fclose(memory);
    assert_true(pending_count < PENDING_MAX);
    pending[pending_count++] = text;
    return 0;
}

static void drop_pending(void)
{
    assert_int_equal(pending_at, pending_count);
    while (pending_count > 0) {
        free(pending[--pending_count]);
    }
    pending_at = 0;
}

static void apply_line(struct far_state *state, uint64_t index)
{
    static uint8_t payload[FAR_COMMAND_PAYLOAD_MAX];
    struct far_command c = {.kind = 0};
    struct far_result result;
    struct far_error err;
    unsigned kind, version;
    unsigned long long actor, time_ms;
    int id_at = 0;
    assert_int_equal(sscanf(line, "C %u %u %llu %llu %n", &kind, &version, &actor, &time_ms, &id_at), 4);
    c.kind = (uint16_t)kind;
    c.version = (uint16_t)version;
    c.actor = actor;
    c.proposed_at_ms = time_ms;
    unhex(line + id_at, c.id, sizeof c.id);
    c.payload = far_slice(payload, unhex(line + id_at + 33, payload, sizeof payload));
    drop_pending();
    assert_int_equal(far_fsm_apply(state, index, &c, keep_event, NULL, &result, &err), 0);
}

static void fold_line(struct far_state *state)
{
    static uint8_t payload[FAR_EVENT_PAYLOAD_MAX];
    struct far_event e = {.seq = 0};
    struct far_error err;
    unsigned kind, version;
    unsigned long long seq, actor, time_ms;
    int id_at = 0;
    assert_int_equal(sscanf(line, "E %llu %u %u %llu %llu %n", &seq, &kind, &version, &actor, &time_ms, &id_at), 5);
    e.seq = seq;
    e.kind = (uint16_t)kind;
    e.version = (uint16_t)version;
    e.actor = actor;
    e.time_ms = time_ms;
    unhex(line + id_at, e.command_id, sizeof e.command_id);
    e.payload = far_slice(payload, unhex(line + id_at + 33, payload, sizeof payload));
    assert_int_equal(far_fsm_evolve(state, &e, &err), 0);
}

static void replay_log(const char *name)
{
    struct far_state decided = {.kv = far_kv_memory_new()}, folded = {.kv = far_kv_memory_new()};
    FILE *golden = open_golden(name);
    bool has_digest = false;
    uint64_t index = 0; /* each command is an entry, as in the world that it was recorded from */
    while (getline(&line, &line_size, golden) >= 0) {
        if (line[0] == 'C') {
            apply_line(&decided, ++index);
        } else if (line[0] == 'E') {
            assert_true(pending_at < pending_count);
            assert_string_equal(pending[pending_at], line);
            pending_at++;
            fold_line(&folded);
        } else {
            char text[64];
            snprintf(text, sizeof text, "D %016llx%016llx\n", (unsigned long long)decided.digest.high,
                     (unsigned long long)decided.digest.low);
            assert_string_equal(text, line);
            has_digest = true;
        }
    }
    drop_pending();
    assert_true(has_digest);
    assert_true(far_hash128_equal(decided.digest, folded.digest));
    fclose(golden);
    far_kv_memory_free(decided.kv);
    far_kv_memory_free(folded.kv);
}

static void a_recorded_log_is_decided_and_folded_to_the_same_digest(void **unused)
{
    replay_log("log.txt");
    replay_log("log_consumers.txt");
    replay_log("log_heads.txt");
    replay_log("log_updates.txt");
    replay_log("log_incarnations.txt");
    replay_log("log_retention.txt");
    replay_log("log_running.txt");
    replay_log("log_compaction.txt");
    replay_log("log_skips.txt");
    replay_log("log_forget.txt");
    replay_log("log_throttles.txt");
    free(line);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_has_the_bytes_it_had),
        cmocka_unit_test(a_life_gives_the_log_it_gave),
        cmocka_unit_test(every_golden_payload_decodes_and_encodes_to_itself),
        cmocka_unit_test(a_recorded_log_is_decided_and_folded_to_the_same_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
