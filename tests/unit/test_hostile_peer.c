/* A peer that breaks the rules of a transfer, on real TLS: a hand-made source against a target engine, and the other way round.
 * Whatever it does is ignored or ends in a clear error, the other side goes on, and an honest peer is served afterwards. */
#include "../lib/cm.h"
#include "../lib/engine_disk.h"

#include "dataplane/map.h"
#include "dataplane/transfer_frames.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { MIB = 1 << 20, SLOTS = FAR_TRANSFER_SLOTS, SLOT = 5, BLOCKS = 4, WAIT_MS = 30000 };

static struct engine_pair pair;
static struct engine_disk disk;
static uint8_t head[FAR_TRANSFER_HEAD_MAX];
static struct far_transfer_offer offer;
static const struct far_engine_config small = {
    .memory_bytes = 32 * MIB, .worker_count = 2, .idle_ms = 3000, .checkpoint_bytes = 4 * MIB, .checkpoint_ms = 50};

static void write_block(uint64_t block, uint8_t with)
{
    static uint8_t bytes[FAR_BLOCK_BYTES];
    memset(bytes, with, sizeof bytes);
    int fd = open(disk.path, O_WRONLY);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, (off_t)(block * FAR_BLOCK_BYTES)), sizeof bytes);
    close(fd);
}

static int setup(void **state)
{
    pair_init(&pair, "hostile", &small);
    disk_make(&disk, &pair, "disk", BLOCKS * FAR_BLOCK_BYTES, 1);
    for (uint8_t i = 0; i < BLOCKS; i++) {
        write_block(i, (uint8_t)('a' + i));
    }
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    return 0;
}

static int teardown(void **state)
{
    pair_done(&pair);
    return 0;
}

/* ---- frames ---- */

static void say(struct far_bstream *stream, enum far_transfer_type type, size_t head_len, const uint8_t *bulk, size_t bulk_len)
{
    uint8_t header[FAR_TRANSFER_HEADER];
    far_transfer_header_encode(type, far_slice(head, head_len), (uint32_t)bulk_len, header);
    const struct far_slice parts[] = {far_slice(header, sizeof header), far_slice(head, head_len), far_slice(bulk, bulk_len)};
    assert_int_equal(far_bstream_add(stream, parts, bulk_len > 0 ? 3 : 2, WAIT_MS, NULL), 0);
    assert_int_equal(far_bstream_flush(stream, WAIT_MS, NULL), 0);
}

/* A frame into head; its type, or 0: the other side ended the connection. *ret_len: of its head; its bulk is dropped. */
static int hear(struct far_bstream *stream, size_t *ret_len)
{
    static uint8_t bulk[FAR_TRANSFER_BULK_MAX];
    struct far_transfer_header header;
    uint8_t bytes[FAR_TRANSFER_HEADER];
    if (far_bstream_read(stream, bytes, sizeof bytes, WAIT_MS, NULL) != 0) {
        return 0;
    }
    assert_int_equal(far_transfer_header_decode(bytes, &header, NULL), 0);
    assert_int_equal(header.head_len == 0 ? 0 : far_bstream_read(stream, head, header.head_len, WAIT_MS, NULL), 0);
    assert_int_equal(header.bulk_len == 0 ? 0 : far_bstream_read(stream, bulk, header.bulk_len, WAIT_MS, NULL), 0);
    *ret_len = header.head_len;
    return (int)header.type;
}

static struct far_slice await(struct far_bstream *stream, enum far_transfer_type type)
{
    size_t len = 0;
    int heard;
    while ((heard = hear(stream, &len)) != (int)type) {
        assert_int_not_equal(heard, 0);
    }
    return far_slice(head, len);
}

static void await_end(struct far_bstream *stream)
{
    size_t len;
    while (hear(stream, &len) != 0) {
    }
    far_bstream_free(stream);
}

static int heard_error(struct far_bstream *stream)
{
    struct far_transfer_error said;
    assert_int_equal(far_transfer_error_decode(await(stream, FAR_TRANSFER_ERROR), &said, NULL), 0);
    return said.klass;
}

/* ---- a hostile source ---- */

static void start(enum far_engine_kind kind, uint64_t job, uint64_t attempt)
{
    struct far_engine_order order = disk_order(&disk, kind, job, kind == FAR_ENGINE_SEND ? TASK_SEND : TASK_RECEIVE, attempt);
    disk_start(&disk, &order);
}

static struct far_bstream *call_for(uint64_t job, uint64_t disk_id, bool joins, uint8_t session)
{
    struct far_transfer_hello hello = {.job_id = job, .disk_id = disk_id, .incarnation_epoch = 1, .plan_epoch = 1,
                                       .size_bytes = disk.size_bytes, .session = {session}, .joins = joins,
                                       .freeze_ref = "live:lie"};
    struct far_peer to = {.party = FAR_PARTY_NODE, .id = PAIR_TARGET};
    struct far_bstream *stream;
    assert_int_equal(far_bstream_dial(pair.source_net, far_engine_data_address(pair.target), to, WAIT_MS, &stream, NULL), 0);
    say(stream, FAR_TRANSFER_HELLO, far_transfer_hello_encode(&hello, head), NULL, 0);
    return stream;
}

static struct far_bstream *call(uint64_t job, bool joins, uint8_t session)
{
    return call_for(job, 22, joins, session);
}

static struct far_bstream *begin(uint64_t job)
{
    start(FAR_ENGINE_RECEIVE, job, 1);
    struct far_bstream *stream = call(job, false, 1);
    await(stream, FAR_TRANSFER_WELCOME);
    return stream;
}

static void offer_block(struct far_bstream *stream, uint64_t number, uint8_t with)
{
    static uint8_t bytes[FAR_BLOCK_BYTES];
    struct far_hash256 id;
    memset(bytes, with, sizeof bytes);
    far_block_leaf(bytes, sizeof bytes, &id);
    memset(&offer, 0, sizeof offer);
    offer.group = number;
    offer.block_count = 1;
    memcpy(offer.ids[0], id.bytes, 32);
    say(stream, FAR_TRANSFER_OFFER, far_transfer_offer_encode(&offer, head), NULL, 0);
}

static void send_block(struct far_bstream *stream, uint64_t number, uint8_t with)
{
    static uint8_t bytes[FAR_BLOCK_BYTES];
    struct far_transfer_data data = {.group = number, .count = 1, .stored = {{.pages = 0xffff, .length = FAR_BLOCK_BYTES}}};
    memset(bytes, with, sizeof bytes);
    say(stream, FAR_TRANSFER_DATA, far_transfer_data_encode(&data, head), bytes, sizeof bytes);
}

static uint16_t wanted(struct far_bstream *stream, uint64_t number)
{
    struct far_transfer_want want;
    struct far_slice rest = await(stream, FAR_TRANSFER_WANT);
    assert_int_equal(far_transfer_want_next(&rest, &want, NULL), 0);
    assert_int_equal(want.group, number);
    return want.mask;
}

/* And an honest one is served by the same attempt. */
static void honest_source_ends_it(uint64_t job)
{
    start(FAR_ENGINE_SEND, job, 1);
    disk.send = pair_wait(&pair, job, TASK_SEND, 1);
    disk.receive = pair_wait(&pair, job, TASK_RECEIVE, 1);
    assert_string_equal(disk.send.error_message, "");
    assert_string_equal(disk.receive.error_message, "");
    assert_memory_equal(disk.send.root, disk.receive.root, 32);
    assert_true(disk_restore(&disk, "restored"));
}

/* As it comes late from a connection that is lost: it must not take the place of what is under way. */
static void an_offer_that_is_older_than_the_last_of_its_slot_is_ignored(void **state)
{
    struct far_bstream *stream = begin(10);
    offer_block(stream, 9 * SLOTS + SLOT, 'x');
    assert_int_equal(wanted(stream, 9 * SLOTS + SLOT), 1);
    offer_block(stream, 8 * SLOTS + SLOT, 'y');
    offer_block(stream, 9 * SLOTS + SLOT, 'z');
    send_block(stream, 9 * SLOTS + SLOT, 'x');
    await(stream, FAR_TRANSFER_ACK);
    say(stream, FAR_TRANSFER_FIN, far_transfer_block_encode(BLOCKS, head), NULL, 0);
    await(stream, FAR_TRANSFER_FIN_ACK);
    assert_int_equal(pair_wait(&pair, 10, TASK_RECEIVE, 1).state, FAR_ENGINE_DONE);
    far_bstream_free(stream);
}

static void an_early_end_is_believed_when_all_is_there(void **state)
{
    struct far_bstream *stream = begin(11);
    offer_block(stream, SLOTS, 'x');
    assert_int_equal(wanted(stream, SLOTS), 1);
    say(stream, FAR_TRANSFER_FIN, far_transfer_block_encode(BLOCKS, head), NULL, 0);
    say(stream, FAR_TRANSFER_MARK, far_transfer_block_encode(1, head), NULL, 0);
    size_t len;
    for (int heard = 0; heard != FAR_TRANSFER_PING; heard = hear(stream, &len)) {
        assert_int_not_equal(heard, FAR_TRANSFER_FIN_ACK);
    }
    send_block(stream, SLOTS, 'x');
    await(stream, FAR_TRANSFER_FIN_ACK);
    assert_int_equal(pair_wait(&pair, 11, TASK_RECEIVE, 1).state, FAR_ENGINE_DONE);
    far_bstream_free(stream);
}

static void what_breaks_the_rules_costs_the_connection_not_the_attempt(void **state)
{
    static const enum far_transfer_type of_target[] = {FAR_TRANSFER_WANT, FAR_TRANSFER_ACK, FAR_TRANSFER_CREDIT, FAR_TRANSFER_WELCOME,
                                                       FAR_TRANSFER_DURABLE, FAR_TRANSFER_MAP_PAGE, FAR_TRANSFER_FIN_ACK,
                                                       FAR_TRANSFER_HELLO, FAR_TRANSFER_KNOCK};
    struct far_bstream *stream = begin(12);
    offer_block(stream, SLOTS, 'x'); /* data twice */
    assert_int_equal(wanted(stream, SLOTS), 1);
    send_block(stream, SLOTS, 'x');
    send_block(stream, SLOTS, 'x');
    await_end(stream);
    for (size_t i = 0; i < sizeof of_target / sizeof of_target[0]; i++) {
        stream = call(12, true, 1);
        await(stream, FAR_TRANSFER_WELCOME);
        say(stream, of_target[i], 0, NULL, 0);
        await_end(stream);
    }
    stream = call(12, true, 1); /* a mark beyond the disk */
    await(stream, FAR_TRANSFER_WELCOME);
    say(stream, FAR_TRANSFER_MARK, far_transfer_block_encode(BLOCKS + 1, head), NULL, 0);
    await_end(stream);
    stream = call(12, true, 1); /* an end before the end */
    await(stream, FAR_TRANSFER_WELCOME);
    say(stream, FAR_TRANSFER_FIN, far_transfer_block_encode(BLOCKS - 1, head), NULL, 0);
    await_end(stream);
    stream = call(12, true, 1); /* a page of a base that there is not */
    await(stream, FAR_TRANSFER_WELCOME);
    say(stream, FAR_TRANSFER_PAGE_ASK, far_transfer_page_ask_encode(0, 0, head), NULL, 0);
    await_end(stream);
    stream = call(12, true, 2); /* of a session that is not there */
    assert_int_equal(heard_error(stream), FAR_CONFLICT);
    await_end(stream);
    honest_source_ends_it(12);
}

static void more_connections_than_there_may_be_are_turned_away(void **state)
{
    struct far_bstream *streams[2 * FAR_TRANSFER_LANES_MAX];
    streams[0] = begin(13);
    for (size_t i = 1; i < 2 * FAR_TRANSFER_LANES_MAX; i++) {
        streams[i] = call(13, true, 1);
        await(streams[i], FAR_TRANSFER_WELCOME);
    }
    for (size_t i = FAR_TRANSFER_LANES_MAX; i < 2 * FAR_TRANSFER_LANES_MAX; i++) {
        await_end(streams[i]);
    }
    for (size_t i = 0; i < FAR_TRANSFER_LANES_MAX; i++) {
        far_bstream_free(streams[i]);
    }
    honest_source_ends_it(13);
}

/* A few bytes ask for days of work: it ends with the attempt. */
/* They hold all buffers of the target; when others wait for these and nobody comes, they get them. */
static void sources_that_vanish_do_not_keep_others_out(void **state)
{
    enum { MANY = FAR_ENGINE_TRANSFERS_MAX + 2 };
    struct far_bstream *streams[MANY];
    for (uint64_t i = 0; i < MANY; i++) {
        struct far_engine_order order = disk_order(&disk, FAR_ENGINE_RECEIVE, 100 + i, TASK_RECEIVE, 1);
        order.disk_id = 1000 + i;
        disk_start(&disk, &order);
        streams[i] = call_for(100 + i, 1000 + i, false, 1);
    }
    await(streams[0], FAR_TRANSFER_WELCOME);
    for (uint64_t i = 0; i < MANY; i++) {
        far_bstream_free(streams[i]);
    }
    assert_true(disk_cycle(&disk));
    for (uint64_t i = 0; i < MANY; i++) {
        far_engine_cancel(pair.target, 100 + i, TASK_RECEIVE, 1);
    }
}

static void runs_over_a_whole_huge_disk_can_be_canceled(void **state)
{
    disk.size_bytes = 64ull << 40;
    struct far_bstream *stream = begin(14);
    memset(&offer, 0, sizeof offer);
    offer.group = SLOTS;
    offer.run_count = FAR_TRANSFER_RUNS_MAX;
    for (size_t i = 0; i < FAR_TRANSFER_RUNS_MAX; i++) {
        offer.runs[i] = (struct far_transfer_run){.count = 1u << 30};
    }
    say(stream, FAR_TRANSFER_OFFER, far_transfer_offer_encode(&offer, head), NULL, 0);
    far_bstream_free(stream);
    pair_stop_target(&pair);
    pair_start_target(&pair);
}

/* ---- a hostile target ---- */

static struct far_blistener *listener;
static struct far_transfer_hello hello;
static long far_away_ms; /* a handshake takes so long at least */

/* Calls that were given up meanwhile are passed over: where the machine is slow the path counts as far, and there are several. */
static struct far_bstream *answer_call(void)
{
    for (;;) {
        struct far_bstream *stream;
        struct far_peer peer;
        size_t len;
        assert_int_equal(far_blistener_accept(listener, &stream, NULL), 0);
        if (far_away_ms > 0) {
            nanosleep(&(struct timespec){.tv_nsec = far_away_ms * 1000000}, NULL); /* far-poll: the path is long */
        }
        if (far_bstream_handshake(stream, WAIT_MS, &peer, NULL) == 0 && hear(stream, &len) == FAR_TRANSFER_HELLO) {
            assert_int_equal(far_transfer_hello_decode(far_slice(head, len), &hello, NULL), 0);
            return stream;
        }
        far_bstream_free(stream);
    }
}

static void welcome(struct far_bstream *stream, struct far_transfer_welcome answer)
{
    struct far_transfer_credit credit = {.groups = SLOTS, .window_bytes = UINT64_MAX};
    say(stream, FAR_TRANSFER_WELCOME, far_transfer_welcome_encode(&answer, head), NULL, 0);
    if (!answer.complete) {
        say(stream, FAR_TRANSFER_CREDIT, far_transfer_credit_encode(&credit, head), NULL, 0);
    }
}

static int setup_target(void **state)
{
    setup(state);
    assert_int_equal(far_blistener_new(pair.target_net, "127.0.0.1:0", &listener, NULL), 0);
    disk.proxy = far_blistener_address(listener);
    return 0;
}

static int teardown_target(void **state)
{
    far_away_ms = 0;
    far_blistener_shutdown(listener);
    teardown(state);
    far_blistener_free(listener);
    return 0;
}

static void want(struct far_bstream *stream, uint64_t number, uint16_t mask)
{
    struct far_transfer_want answer = {.group = number, .mask = mask};
    say(stream, FAR_TRANSFER_WANT, far_transfer_want_encode(&answer, head), NULL, 0);
}

/* The offer of all blocks; what was offered before is settled. */
static struct far_transfer_offer *await_offer(struct far_bstream *stream)
{
    assert_int_equal(far_transfer_offer_decode(await(stream, FAR_TRANSFER_OFFER), BLOCKS, &offer, NULL), 0);
    return &offer;
}

static void ack(struct far_bstream *stream, uint64_t number)
{
    say(stream, FAR_TRANSFER_ACK, far_transfer_ack_encode(&number, 1, head), NULL, 0);
}

static void end_well(struct far_bstream *stream, uint64_t job)
{
    await(stream, FAR_TRANSFER_FIN);
    say(stream, FAR_TRANSFER_FIN_ACK, 0, NULL, 0);
    struct far_engine_report report = pair_wait(&pair, job, TASK_SEND, 1);
    assert_string_equal(report.error_message, "");
    assert_int_equal(report.state, FAR_ENGINE_DONE);
    await_end(stream);
}

static void answers_that_break_the_rules_cost_the_connection(void **state)
{
    start(FAR_ENGINE_SEND, 20, 1);
    struct far_bstream *stream = answer_call(); /* wants what was not offered */
    welcome(stream, (struct far_transfer_welcome){0});
    want(stream, await_offer(stream)->group, 1u << BLOCKS);
    await_end(stream);
    stream = answer_call(); /* stored what was not sent */
    assert_true(hello.joins);
    welcome(stream, (struct far_transfer_welcome){0});
    await_offer(stream);
    say(stream, FAR_TRANSFER_DURABLE, far_transfer_block_encode(BLOCKS, head), NULL, 0);
    await_end(stream);
    stream = answer_call(); /* ends what is not complete */
    welcome(stream, (struct far_transfer_welcome){0});
    await_offer(stream);
    say(stream, FAR_TRANSFER_FIN_ACK, 0, NULL, 0);
    await_end(stream);
    stream = answer_call(); /* acknowledges what was not sent, answers what was not asked; then takes part */
    welcome(stream, (struct far_transfer_welcome){0});
    uint64_t number = await_offer(stream)->group;
    ack(stream, number);
    ack(stream, number + 1);
    want(stream, number + SLOTS, 1);
    want(stream, number, 0);
    end_well(stream, 20);
}

/* Nothing is reported as complete that was not sent to the end. */
static void a_welcome_that_says_complete_in_the_middle_is_not_believed(void **state)
{
    start(FAR_ENGINE_SEND, 21, 1);
    struct far_bstream *stream = answer_call();
    welcome(stream, (struct far_transfer_welcome){0});
    await_offer(stream);
    far_bstream_free(stream);
    stream = answer_call();
    assert_true(hello.joins);
    welcome(stream, (struct far_transfer_welcome){.complete = true});
    far_bstream_free(stream);
    while (stream = answer_call(), hello.joins) { /* of the same session, on its way already */
        far_bstream_free(stream);
    }
    welcome(stream, (struct far_transfer_welcome){0});
    want(stream, await_offer(stream)->group, 0);
    end_well(stream, 21);
}

/* The target has everything and its word was lost with a connection: it is believed on the next one. */
static void an_end_that_was_lost_is_told_again(void **state)
{
    start(FAR_ENGINE_SEND, 22, 1);
    struct far_bstream *stream = answer_call();
    welcome(stream, (struct far_transfer_welcome){0});
    want(stream, await_offer(stream)->group, 0xf);
    await(stream, FAR_TRANSFER_DATA);
    await(stream, FAR_TRANSFER_FIN);
    far_bstream_free(stream);
    stream = answer_call();
    assert_true(hello.joins);
    welcome(stream, (struct far_transfer_welcome){0});
    say(stream, FAR_TRANSFER_DURABLE, far_transfer_block_encode(BLOCKS, head), NULL, 0);
    say(stream, FAR_TRANSFER_FIN_ACK, 0, NULL, 0);
    assert_string_equal(pair_wait(&pair, 22, TASK_SEND, 1).error_message, "");
    await_end(stream);
}

/* What was sent is wanted once more although all of it is said to be durable, and the view has changed meanwhile. */
static void a_view_that_changes_whenever_it_is_read_is_sent_all_the_same(void **state)
{
    start(FAR_ENGINE_SEND, 23, 1);
    struct far_bstream *stream = answer_call();
    welcome(stream, (struct far_transfer_welcome){0});
    want(stream, await_offer(stream)->group, 0xf);
    await(stream, FAR_TRANSFER_DATA);
    await(stream, FAR_TRANSFER_FIN);
    say(stream, FAR_TRANSFER_DURABLE, far_transfer_block_encode(BLOCKS, head), NULL, 0);
    write_block(2, 'X');
    want(stream, offer.group, 0x6);
    struct far_transfer_offer *again = await_offer(stream);
    assert_int_equal(again->block_count, 2);
    assert_int_equal(again->blocks[0], 1);
    write_block(2, 'Y'); /* what was offered is what is sent, not offered for ever */
    want(stream, again->group, 0x3);
    await(stream, FAR_TRANSFER_DATA);
    ack(stream, again->group);
    say(stream, FAR_TRANSFER_FIN_ACK, 0, NULL, 0);
    assert_string_equal(pair_wait(&pair, 23, TASK_SEND, 1).error_message, "");
    await_end(stream);
}

static void a_base_larger_than_the_disk_is_refused(void **state)
{
    start(FAR_ENGINE_SEND, 24, 1);
    struct far_bstream *stream = answer_call();
    welcome(stream, (struct far_transfer_welcome){.base_bytes = 1ull << 40});
    await_end(stream);
    stream = answer_call();
    welcome(stream, (struct far_transfer_welcome){.resume_block = 1}); /* where nobody was */
    await_end(stream);
    stream = answer_call();
    welcome(stream, (struct far_transfer_welcome){0});
    want(stream, await_offer(stream)->group, 0);
    end_well(stream, 24);
}

/* On a far path what will be said in the welcome is guessed, and offers come before it. */
static void a_far_target_is_offered_before_it_welcomes(void **state)
{
    far_away_ms = 40;
    start(FAR_ENGINE_SEND, 26, 1);
    struct far_bstream *stream = answer_call();
    uint64_t number = await_offer(stream)->group;
    welcome(stream, (struct far_transfer_welcome){0});
    want(stream, number, 0xf);
    await(stream, FAR_TRANSFER_DATA);
    end_well(stream, 26);
}

/* Whatever comes instead of what was guessed: a new session that waits to be told. */
static void a_wrong_guess_is_not_repeated(void **state)
{
    struct far_error no;
    size_t len;
    far_away_ms = 40;
    far_fail(&no, FAR_NOT_FOUND, "nobody here");
    for (int what = 0; what < 4; what++) {
        uint64_t job = 30 + (uint64_t)what;
        start(FAR_ENGINE_SEND, job, 1);
        struct far_bstream *stream = answer_call();
        await_offer(stream);
        if (what == 0) {
            welcome(stream, (struct far_transfer_welcome){.base_bytes = disk.size_bytes});
        } else if (what == 1) {
            welcome(stream, (struct far_transfer_welcome){.complete = true});
        } else if (what == 2) {
            say(stream, FAR_TRANSFER_ERROR, far_transfer_error_encode(&no, head), NULL, 0);
        } else {
            far_bstream_free(stream);
        }
        if (what != 3) {
            await_end(stream);
        }
        stream = answer_call();
        assert_false(hello.joins);
        welcome(stream, (struct far_transfer_welcome){.complete = true});
        assert_string_equal(pair_wait(&pair, job, TASK_SEND, 1).error_message, "");
        assert_int_equal(hear(stream, &len), 0); /* nothing was offered */
        far_bstream_free(stream);
    }
}

/* A word that ends it ends it also before the welcome. */
static void a_far_target_that_refuses_is_not_dialed_again(void **state)
{
    struct far_error no;
    far_away_ms = 40;
    far_fail(&no, FAR_DENIED, "not you");
    start(FAR_ENGINE_SEND, 35, 1);
    struct far_bstream *stream = answer_call();
    say(stream, FAR_TRANSFER_ERROR, far_transfer_error_encode(&no, head), NULL, 0);
    struct far_engine_report report = pair_wait(&pair, 35, TASK_SEND, 1);
    assert_int_equal(report.state, FAR_ENGINE_FAILED);
    assert_non_null(strstr(report.error_message, "not you"));
    await_end(stream);
}

/* The base is the disk as it is, or another page. */
static void make_base(struct far_transfer_page *page)
{
    static uint8_t bytes[FAR_BLOCK_BYTES];
    struct far_hash256 hashes[FAR_MAP_FANOUT], top, root;
    for (size_t i = 0; i < FAR_MAP_FANOUT; i++) {
        memset(bytes, i < BLOCKS ? (int)('a' + i) : 0, sizeof bytes);
        hashes[i] = *far_map_zero(0);
        if (i < BLOCKS) {
            far_block_leaf(bytes, sizeof bytes, &hashes[i]);
        }
    }
    far_map_page_hash(hashes, &top);
    far_map_bind_root(disk.size_bytes, &top, &root);
    memcpy(disk.base_root, root.bytes, 32);
    disk.has_base = true;
    *page = (struct far_transfer_page){0};
    memcpy(page->hashes, hashes, sizeof page->hashes);
}

static void pages_may_come_twice_and_must_not_lie(void **state)
{
    struct far_transfer_page page;
    make_base(&page);
    write_block(3, 'X');
    start(FAR_ENGINE_SEND, 25, 1);
    struct far_bstream *stream = answer_call();
    welcome(stream, (struct far_transfer_welcome){.base_bytes = disk.size_bytes});
    await(stream, FAR_TRANSFER_PAGE_ASK);
    for (int i = 0; i < 3; i++) {
        say(stream, FAR_TRANSFER_MAP_PAGE, far_transfer_page_encode(&page, head), NULL, 0);
    }
    assert_int_equal(await_offer(stream)->block_count, 1); /* the rest equals the base */
    say(stream, FAR_TRANSFER_MAP_PAGE, far_transfer_page_encode(&page, head), NULL, 0);
    want(stream, offer.group, 0);
    end_well(stream, 25);
    char path[300];
    unlink(pair_path(&pair, "source/cache/disk-22.pages", path, sizeof path));
    start(FAR_ENGINE_SEND, 26, 1);
    stream = answer_call();
    welcome(stream, (struct far_transfer_welcome){.base_bytes = disk.size_bytes});
    await(stream, FAR_TRANSFER_PAGE_ASK);
    page.hashes[7][0] ^= 1;
    say(stream, FAR_TRANSFER_MAP_PAGE, far_transfer_page_encode(&page, head), NULL, 0);
    await_end(stream);
    assert_int_equal(pair_wait(&pair, 26, TASK_SEND, 1).error_class, FAR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_offer_that_is_older_than_the_last_of_its_slot_is_ignored, setup, teardown),
        cmocka_unit_test_setup_teardown(an_early_end_is_believed_when_all_is_there, setup, teardown),
        cmocka_unit_test_setup_teardown(what_breaks_the_rules_costs_the_connection_not_the_attempt, setup, teardown),
        cmocka_unit_test_setup_teardown(more_connections_than_there_may_be_are_turned_away, setup, teardown),
        cmocka_unit_test_setup_teardown(sources_that_vanish_do_not_keep_others_out, setup, teardown),
        cmocka_unit_test_setup_teardown(runs_over_a_whole_huge_disk_can_be_canceled, setup, teardown),
        cmocka_unit_test_setup_teardown(answers_that_break_the_rules_cost_the_connection, setup_target, teardown_target),
        cmocka_unit_test_setup_teardown(a_welcome_that_says_complete_in_the_middle_is_not_believed, setup_target, teardown_target),
        cmocka_unit_test_setup_teardown(an_end_that_was_lost_is_told_again, setup_target, teardown_target),
        cmocka_unit_test_setup_teardown(a_view_that_changes_whenever_it_is_read_is_sent_all_the_same, setup_target, teardown_target),
        cmocka_unit_test_setup_teardown(a_base_larger_than_the_disk_is_refused, setup_target, teardown_target),
        cmocka_unit_test_setup_teardown(pages_may_come_twice_and_must_not_lie, setup_target, teardown_target),
        cmocka_unit_test_setup_teardown(a_far_target_is_offered_before_it_welcomes, setup_target, teardown_target),
        cmocka_unit_test_setup_teardown(a_wrong_guess_is_not_repeated, setup_target, teardown_target),
        cmocka_unit_test_setup_teardown(a_far_target_that_refuses_is_not_dialed_again, setup_target, teardown_target),
    };
    return cmocka_run_group_tests_name("hostile_peer", tests, NULL, NULL);
}
