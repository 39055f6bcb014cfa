/* The bytes of log and wire are what they were: tests/golden/formats/formats.txt, a line "name hex" or "name text" each.
 *
 * Envelope, WAL, store, chain, raft's messages, frames between logs, snapshots (golden_formats_log.c), greeting, tokens,
 * sealed boxes, transfer. Map and vault: golden_vault.c; commands, events, rows and messages of nodes: golden_fsm.c.
 * With a file's name as argument it writes that file anew instead: for a change of format only, in the commit that
 * changes docs/FORMATS.md. */
#define _GNU_SOURCE
#include "lib/cm.h"

#include "dataplane/transfer_frames.h"
#include "golden/golden_formats.h"
#include "net/greeting.h"
#include "net/incarnation.h"
#include "net/join_token.h"
#include "net/seal.h"

#include <stdlib.h>

FILE *golden_made;

void golden_put(const char *name, struct far_slice bytes)
{
    fprintf(golden_made, "%s %s", name, bytes.len == 0 ? "-" : "");
    for (size_t i = 0; i < bytes.len; i++) {
        fprintf(golden_made, "%02x", bytes.data[i]);
    }
    fprintf(golden_made, "\n");
}

/* n bytes: first, first + 1, … */
const uint8_t *golden_count_up(uint8_t first, size_t n)
{
    static uint8_t ring[8][256];
    static unsigned next;
    uint8_t *bytes = ring[next++ % 8];
    assert_true(n <= sizeof ring[0]);
    for (size_t i = 0; i < n; i++) {
        bytes[i] = (uint8_t)(first + i);
    }
    return bytes;
}

void golden_fill(uint8_t *bytes, uint8_t first, size_t n)
{
    memcpy(bytes, golden_count_up(first, n), n);
}

/* ---- joining, greeting, secrets ---- */

static const char box_context[] = "farshore secret ca-key for 7";

/* A box made once: its ephemeral key is random, so it can only be opened again. */
static const char box_hex[] =
    "0086a1cce3ac8224ea5f8ee165a48b3ffd72fa1d259bbfec5461814dd9d3f93030bdd6adb8743241ac2caab2f990091e6464f140"
    "22f773f88d70a4beda01e1130f";

static void write_net(void)
{
    struct far_greeting greeting = {.verdict = FAR_VERDICT_OTHER_KEY, .incarnation = {0x0102030405060708, 0},
                                    .purpose = FAR_PURPOSE_DATA, .from = {FAR_PARTY_NODE, 11},
                                    .to = {FAR_PARTY_SERVER, 7}};
    uint8_t bytes[FAR_GREETING_BYTES];
    golden_fill(greeting.cluster_uuid, 0x40, 16);
    far_greeting_encode(&greeting, bytes);
    golden_put("greeting", far_slice(bytes, sizeof bytes));
    greeting.incarnation.tag = 0x1112131415161718;
    far_greeting_encode(&greeting, bytes);
    golden_put("greeting_tagged", far_slice(bytes, sizeof bytes));
    struct far_incarnation incarnation = {.reason = FAR_INCARNATION_RESTORED,
                                          .epoch = 0x0102030405060708,
                                          .start_term = 0x1112131415161718,
                                          .server_id = 3,
                                          .made_ms = 4,
                                          .parent_index = 5,
                                          .parent_term = 6,
                                          .parent_seq = 7,
                                          .sure_seq = 8};
    uint8_t record[FAR_INCARNATION_BYTES];
    golden_fill(incarnation.cluster_uuid, 0x20, 16);
    golden_fill(incarnation.uuid, 0x30, 16);
    golden_fill(incarnation.parent_head, 0x50, 32);
    golden_fill(incarnation.sure_head, 0x80, 32);
    far_incarnation_encode(&incarnation, record);
    golden_put("incarnation", far_slice(record, sizeof record));
    struct far_join_token token = {.address_count = 2, .addresses = {"127.0.0.1:5000", "[::1]:5010"}};
    char text[FAR_JOIN_TOKEN_TEXT_MAX];
    golden_fill(token.ca_hash, 0x70, 32);
    golden_fill(token.secret, 0x90, 32);
    assert_int_equal(far_join_token_print(&token, text, NULL), 0);
    fprintf(golden_made, "join_token %s\n", text);
    far_api_token_print(token.secret, text);
    fprintf(golden_made, "api_token %s\n", text);
    far_recovery_key_print(token.secret, text);
    fprintf(golden_made, "recovery_key %s\n", text);
}

static void a_sealed_box_of_then_opens(void **unused)
{
    uint8_t box[256];
    struct far_buf plain;
    size_t len = strlen(box_hex) / 2;
    far_buf_init(&plain, FAR_SEAL_PLAIN_MAX);
    assert_true(len <= sizeof box && far_hex_decode(box_hex, 2 * len, box, len));
    assert_int_equal(far_seal_open(golden_count_up(0x90, 32), box_context, far_slice(box, len), &plain, NULL), 0);
    assert_true(far_slice_equal(far_buf_slice(&plain), far_slice_str("a secret of then")));
    far_buf_done(&plain);
}

/* ---- between nodes ---- */

static void put_transfer(const char *name, enum far_transfer_type type, const uint8_t *head, size_t len, uint32_t bulk)
{
    uint8_t header[FAR_TRANSFER_HEADER];
    char label[64];
    snprintf(label, sizeof label, "transfer1_%s_header", name);
    far_transfer_header_encode(type, far_slice(head, len), bulk, header);
    golden_put(label, far_slice(header, sizeof header));
    snprintf(label, sizeof label, "transfer1_%s", name);
    golden_put(label, far_slice(head, len));
}

static void write_transfer_begin(uint8_t *head)
{
    struct far_transfer_hello hello = {.job_id = 17, .disk_index = 2, .disk_id = 15, .task = 4, .attempt = 3,
                                       .incarnation_epoch = 1, .plan_epoch = 6, .size_bytes = 0x0102030405060708,
                                       .frontier_block = 0x11121314, .has_base = true, .joins = true, .freeze_ref = "view-17"};
    golden_fill(hello.session, 0x70, 16);
    golden_fill(hello.base_root, 0xa0, 32);
    put_transfer("hello", FAR_TRANSFER_HELLO, head, far_transfer_hello_encode(&hello, head), 0);
    struct far_transfer_welcome welcome = {.resume_block = 0x0102030405060708, .base_bytes = 0x1112131415, .complete = true};
    put_transfer("welcome", FAR_TRANSFER_WELCOME, head, far_transfer_welcome_encode(&welcome, head), 0);
    struct far_transfer_credit credit = {.groups = 0x0102, .window_bytes = 0x1112131415161718, .busy = true};
    put_transfer("credit", FAR_TRANSFER_CREDIT, head, far_transfer_credit_encode(&credit, head), 0);
    static const struct {
        const char *name;
        enum far_transfer_type type;
    } blocks[] = {{"mark", FAR_TRANSFER_MARK}, {"durable", FAR_TRANSFER_DURABLE}, {"fin", FAR_TRANSFER_FIN}};
    for (int i = 0; i < 3; i++) {
        put_transfer(blocks[i].name, blocks[i].type, head, far_transfer_block_encode(0x0102030405060708, head), 0);
    }
    put_transfer("fin_ack", FAR_TRANSFER_FIN_ACK, head, 0, 0);
    put_transfer("ping", FAR_TRANSFER_PING, head, 0, 0);
    struct far_error error;
    (void)far_fail(&error, FAR_CONFLICT, "no");
    put_transfer("error", FAR_TRANSFER_ERROR, head, far_transfer_error_encode(&error, head), 0);
}

static void write_transfer_blocks(uint8_t *head)
{
    static struct far_transfer_offer offer;
    offer = (struct far_transfer_offer){.group = 0x0102030405060708, .block_count = 2, .run_count = 1, .blocks = {1000, 1003},
                                        .runs = {{.first_block = 0x0102030405060708, .count = 0x11121314}}};
    golden_fill(offer.ids[0], 0xb0, 32);
    golden_fill(offer.ids[1], 0xc0, 32);
    put_transfer("offer", FAR_TRANSFER_OFFER, head, far_transfer_offer_encode(&offer, head), 0);
    static struct far_transfer_want want;
    want = (struct far_transfer_want){.group = 9, .mask = 0x8001, .paged = 1};
    for (uint64_t i = 0; i < FAR_TRANSFER_PAGES; i++) {
        want.sums[0][i] = 0x0102030405060700 + i;
    }
    put_transfer("want", FAR_TRANSFER_WANT, head, far_transfer_want_encode(&want, head), 0);
    const uint64_t groups[] = {9, 0x0102030405060708};
    put_transfer("ack", FAR_TRANSFER_ACK, head, far_transfer_ack_encode(groups, 2, head), 0);
    put_transfer("page_ask", FAR_TRANSFER_PAGE_ASK, head, far_transfer_page_ask_encode(2, 0x0102030405060708, head), 0);
    struct far_transfer_knock knock = {.job_id = 0x0102030405060708, .disk_id = 0x1112131415161718};
    put_transfer("knock", FAR_TRANSFER_KNOCK, head, far_transfer_knock_encode(&knock, head), 0);
    struct far_transfer_data data = {.group = 0x0102030405060708, .count = 2};
    data.stored[0] = (struct far_transfer_stored){.slot = 0, .codec = FAR_TRANSFER_RAW, .pages = 0xffff,
                                                  .length = FAR_TRANSFER_BLOCK};
    data.stored[1] = (struct far_transfer_stored){.slot = 15, .codec = FAR_TRANSFER_ZSTD, .pages = 0x8001, .length = 100,
                                                  .hash = 0x0102030405060708};
    put_transfer("data", FAR_TRANSFER_DATA, head, far_transfer_data_encode(&data, head), FAR_TRANSFER_BLOCK + 100);
}

static void write_all(FILE *file)
{
    static uint8_t head[FAR_TRANSFER_HEAD_MAX];
    golden_made = file;
    golden_write_log_formats();
    write_net();
    write_transfer_begin(head);
    write_transfer_blocks(head);
}

static void every_format_has_the_bytes_it_had(void **unused)
{
    char *text = NULL, *made_line, *rest, line[4096];
    size_t size = 0, number = 0;
    FILE *memory = open_memstream(&text, &size), *golden = fopen(FAR_SRCDIR "/tests/golden/formats/formats.txt", "r");
    assert_non_null(golden);
    write_all(memory);
    fclose(memory);
    for (made_line = strtok_r(text, "\n", &rest); made_line != NULL; made_line = strtok_r(NULL, "\n", &rest)) {
        number++;
        assert_non_null(fgets(line, sizeof line, golden));
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, made_line) != 0) {
            print_message("# line %zu differs: %.*s\n", number, (int)strcspn(line, " "), line);
        }
        assert_string_equal(made_line, line);
    }
    assert_null(fgets(line, sizeof line, golden));
    print_message("# formats.txt: %zu lines\n", number);
    fclose(golden);
    free(text);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_has_the_bytes_it_had),
        cmocka_unit_test(a_sealed_box_of_then_opens),
    };
    if (argc == 2) {
        FILE *file = fopen(argv[1], "w");
        if (file == NULL) {
            perror(argv[1]);
            return 1;
        }
        write_all(file);
        return fclose(file) == 0 ? 0 : 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
