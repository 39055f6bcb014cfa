/* The relay of tests/lib/relay.h, turned by hand with times of the test's own over real sockets: set-up, delay, rate, queue,
 * fair shares, window, cuts and black hole are counted in bytes at instants, not measured. */
#define _GNU_SOURCE /* accept4 */
#include "../lib/cm.h"
#include "../lib/relay.h"
#include "../lib/until.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DELAY_US = 10000, WAIT_MS = 20000, PIECE = 65536 };
#define MS 1000000ull
#define DELAY (DELAY_US * 1000ull)

static struct relay *relay;
static uint64_t now; /* of the relay */
static int target_fd;

static int listen_any(char *address, size_t size)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t len = sizeof at;
    const int bytes = 65536; /* small: what is not read must not hide in the kernel */
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 64), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    snprintf(address, size, "127.0.0.1:%u", ntohs(at.sin_port));
    return fd;
}

static int connect_to(const char *address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void begin(struct relay_config config)
{
    char address[64];
    target_fd = listen_any(address, sizeof address);
    config.target = address;
    relay = relay_new(&config);
    now = 1000 * MS;
}

static void end(void)
{
    relay_free(relay);
    close(target_fd);
}

static struct relay_stats turn(void)
{
    relay_turn(relay, now);
    return relay_stats(relay);
}

/* Turns the relay, without letting its time pass, until it is so: what the kernel carries may take a moment. The condition may
 * be one that is true once. */
#define UNTIL(condition)                                          \
    do {                                                          \
        int until_left = WAIT_MS * far_test_slow();               \
        while ((turn(), !(condition)) && until_left-- > 0) {      \
            poll(NULL, 0, 1);                                     \
        }                                                         \
        assert_true(until_left >= 0);                             \
    } while (0)

static bool accepted(int *ret_fd)
{
    *ret_fd = accept4(target_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    return *ret_fd >= 0;
}

/* A connection whose set-up is over. */
static void join(int *ret_dialer, int *ret_target)
{
    uint64_t count = turn().accepted;
    assert_int_equal(fcntl(target_fd, F_SETFL, O_NONBLOCK), 0);
    *ret_dialer = connect_to(relay_address(relay));
    UNTIL(relay_stats(relay).accepted > count);
    now += DELAY;
    UNTIL(accepted(ret_target));
    now += DELAY;
}

static ssize_t say(int fd, size_t bytes)
{
    static char zeroes[1 << 20];
    ssize_t n = send(fd, zeroes, bytes, MSG_NOSIGNAL);
    return n < 0 && errno == EAGAIN ? 0 : n;
}

/* Reads all that is there; -1: the connection was reset. */
static ssize_t hear(int fd)
{
    static char heard[PIECE];
    ssize_t total = 0, n;
    while ((n = recv(fd, heard, sizeof heard, 0)) > 0) {
        total += n;
    }
    return n < 0 && errno == ECONNRESET ? -1 : total;
}

static void set_up_costs_a_round_trip_and_each_way_a_delay(void **state)
{
    int dialer, target;
    begin((struct relay_config){.delay_us = DELAY_US});
    assert_int_equal(fcntl(target_fd, F_SETFL, O_NONBLOCK), 0);
    dialer = connect_to(relay_address(relay));
    assert_int_equal(say(dialer, 5), 5);
    UNTIL(relay_stats(relay).accepted == 1);
    now += DELAY - 1;
    turn();
    assert_false(accepted(&target));
    now += 1;
    UNTIL(accepted(&target));
    now += DELAY - 1;
    assert_int_equal(turn().taken[RELAY_FORWARD], 0); /* it was there all the time */
    now += 1;
    UNTIL(relay_stats(relay).taken[RELAY_FORWARD] == 5);
    now += DELAY - 1;
    assert_int_equal(turn().passed[RELAY_FORWARD], 0);
    now += 1;
    UNTIL(hear(target) == 5);
    assert_int_equal(say(target, 7), 7);
    UNTIL(relay_stats(relay).taken[RELAY_BACK] == 7);
    now += DELAY - 1;
    assert_int_equal(turn().passed[RELAY_BACK], 0);
    now += 1;
    UNTIL(hear(dialer) == 7);
    close(dialer); /* an end goes the same way */
    UNTIL(relay_turn(relay, now) == now + DELAY);
    now += DELAY;
    turn();
    close(target);
    UNTIL(relay_turn(relay, now) == now + DELAY);
    now += DELAY;
    UNTIL(relay_stats(relay).open == 0);
    assert_int_equal(relay_stats(relay).cuts, 0);
    end();
}

/* Two senders that always have more, 80 Mbit/s, a queue of 256 KiB: for 100 ms each millisecond brings 10,000 bytes. */
static void a_direction_has_one_rate_shared_fairly_and_a_bounded_queue(void **state)
{
    enum { QUEUE = 262144, PER_MS = 10000, TURNS = 100, CONNECTIONS = 3 };
    int dialers[CONNECTIONS], targets[CONNECTIONS];
    uint64_t heard[CONNECTIONS] = {0}, total = 0;
    begin((struct relay_config){.delay_us = DELAY_US, .bits_per_s = 80000000, .queue_bytes = QUEUE});
    for (int i = 0; i < CONNECTIONS; i++) {
        join(&dialers[i], &targets[i]);
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        while (say(dialers[i], 65536) > 0) {
        }
    }
    UNTIL(relay_stats(relay).taken[RELAY_FORWARD] > QUEUE - 2 * PER_MS);
    assert_int_equal(turn().passed[RELAY_FORWARD], 0);
    now += DELAY;
    for (int ms = 1; ms <= TURNS; ms++) {
        now += MS;
        UNTIL(relay_stats(relay).passed[RELAY_FORWARD] >= (uint64_t)(ms - 1) * PER_MS);
        total = relay_stats(relay).passed[RELAY_FORWARD];
        assert_true(total <= (uint64_t)(ms + 10) * PER_MS); /* never before its time: the delay is 10 ms of the rate */
        for (int i = 0; i < CONNECTIONS; i++) {
            say(dialers[i], 65536);
            heard[i] += (uint64_t)hear(targets[i]);
        }
    }
    assert_true(relay_stats(relay).queue_peak[RELAY_FORWARD] <= QUEUE);
    assert_int_equal(relay_stats(relay).idle_ns[RELAY_FORWARD], 0);
    for (int i = 0; i < CONNECTIONS; i++) {
        print_message("# connection %d: %llu of %llu bytes\n", i, (unsigned long long)heard[i], (unsigned long long)total);
        assert_true(heard[i] * CONNECTIONS > total * 8 / 10 && heard[i] * CONNECTIONS < total * 12 / 10);
        close(dialers[i]);
        close(targets[i]);
    }
    end();
}

static void a_window_waits_for_what_is_acknowledged(void **state)
{
    enum { WINDOW = 30000 };
    int dialer, target;
    begin((struct relay_config){.delay_us = DELAY_US, .window_bytes = WINDOW});
    join(&dialer, &target);
    assert_int_equal(say(dialer, 100000), 100000);
    UNTIL(relay_stats(relay).taken[RELAY_FORWARD] == WINDOW);
    for (uint64_t round = 1; round <= 3; round++) {
        now += DELAY;
        UNTIL(relay_stats(relay).passed[RELAY_FORWARD] == round * WINDOW);
        hear(target);
        now += DELAY - 1;
        assert_int_equal(turn().taken[RELAY_FORWARD], round * WINDOW);
        now += 1;
        UNTIL(relay_stats(relay).taken[RELAY_FORWARD] == (round < 3 ? (round + 1) * WINDOW : 100000));
    }
    close(dialer);
    close(target);
    end();
}

static void slow_start_doubles_in_each_round_trip(void **state)
{
    int dialer, target;
    uint64_t taken = 14480;
    begin((struct relay_config){.delay_us = DELAY_US, .slow_start = true});
    join(&dialer, &target);
    say(dialer, 200000);
    for (uint64_t window = 14480; window < 100000; window *= 2) {
        UNTIL(relay_stats(relay).taken[RELAY_FORWARD] == taken);
        taken += 2 * window;
        now += DELAY;
        turn();
        now += DELAY;
    }
    close(dialer);
    close(target);
    end();
}

static void a_cut_resets_both_sides(void **state)
{
    int dialer, target;
    begin((struct relay_config){.delay_us = DELAY_US});
    join(&dialer, &target);
    relay_cut_all(relay);
    UNTIL(hear(dialer) == -1);
    UNTIL(hear(target) == -1);
    struct relay_stats stats = relay_stats(relay);
    assert_int_equal(stats.cuts, 1);
    assert_int_equal(stats.open, 0);
    close(dialer);
    close(target);
    end();
}

/* Lives of connections: exponential with the mean that was asked for, the same for the same seed. */
static void cuts_come_at_random_from_a_seed(void **state)
{
    enum { COUNT = 200 };
    int dialers[COUNT];
    uint64_t sums[2], before_mean = 0;
    for (int run = 0; run < 2; run++) {
        begin((struct relay_config){.cut_mean_us = 2000000, .seed = 7});
        for (uint64_t i = 0; i < COUNT; i++) {
            dialers[i] = connect_to(relay_address(relay));
            UNTIL(relay_stats(relay).accepted == i + 1);
        }
        sums[run] = before_mean = 0;
        for (uint64_t cuts = 0, began = now; cuts < COUNT;) {
            uint64_t next = relay_turn(relay, now);
            uint64_t more = relay_stats(relay).cuts - cuts;
            sums[run] += more * (now - began);
            before_mean += now - began <= 2000 * MS ? more : 0;
            cuts += more;
            now = next > now && next != RELAY_NEVER ? next : now;
        }
        for (int i = 0; i < COUNT; i++) {
            close(dialers[i]);
        }
        end();
    }
    print_message("# mean life %llu ms, %llu of %d before the mean\n", (unsigned long long)(sums[0] / COUNT / MS),
                  (unsigned long long)before_mean, COUNT);
    assert_true(sums[0] == sums[1]);
    assert_in_range(sums[0] / COUNT / MS, 1600, 2400);
    assert_in_range(before_mean, COUNT * 55 / 100, COUNT * 71 / 100); /* 1 - 1/e */
}

static void a_black_hole_keeps_everything_and_passes_nothing(void **state)
{
    int dialer, target, other;
    begin((struct relay_config){.delay_us = DELAY_US});
    join(&dialer, &target);
    assert_int_equal(say(dialer, 1000), 1000);
    UNTIL(relay_stats(relay).taken[RELAY_FORWARD] == 1000);
    relay_black_hole(relay, true);
    other = connect_to(relay_address(relay));
    assert_int_equal(say(target, 500), 500);
    now += 100000 * MS;
    assert_true(relay_turn(relay, now) == RELAY_NEVER);
    struct relay_stats stats = relay_stats(relay);
    assert_int_equal(stats.passed[RELAY_FORWARD] + stats.taken[RELAY_BACK], 0);
    assert_int_equal(stats.accepted, 1);
    assert_int_equal(stats.open, 1);
    relay_black_hole(relay, false);
    UNTIL(hear(target) == 1000);
    UNTIL(relay_stats(relay).taken[RELAY_BACK] == 500);
    UNTIL(relay_stats(relay).accepted == 2);
    now += DELAY;
    UNTIL(hear(dialer) == 500);
    close(dialer);
    close(target);
    close(other);
    end();
}

/* On its thread, by the clock: what comes out is what went in, both ways at once. */
static void bytes_come_whole_and_in_order(void **state)
{
    enum { BYTES = 3000000 };
    static uint8_t heard[2][BYTES];
    size_t said[2] = {0}, got[2] = {0};
    int fds[2];
    begin((struct relay_config){.delay_us = 200, .bits_per_s = 1000000000, .seed = 1});
    relay_start(relay);
    fds[0] = connect_to(relay_address(relay));
    fds[1] = accept4(target_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    assert_true(fds[1] >= 0);
    static uint8_t pattern[BYTES];
    for (size_t i = 0; i < BYTES; i++) {
        pattern[i] = (uint8_t)((i * 2654435761u) >> 13);
    }
    for (int left = WAIT_MS * far_test_slow(); got[0] + got[1] < 2 * BYTES && left > 0;) {
        bool moved = false;
        for (int i = 0; i < 2; i++) {
            ssize_t n = send(fds[i], pattern + said[i], BYTES - said[i] < 7001 ? BYTES - said[i] : 7001, MSG_NOSIGNAL);
            said[i] += n > 0 ? (size_t)n : 0;
            ssize_t m = recv(fds[i], heard[i] + got[i], BYTES - got[i], 0);
            got[i] += m > 0 ? (size_t)m : 0;
            moved = moved || n > 0 || m > 0;
        }
        if (!moved) {
            poll(NULL, 0, 1);
            left--;
        }
    }
    assert_memory_equal(heard[0], pattern, BYTES);
    assert_memory_equal(heard[1], pattern, BYTES);
    close(fds[0]);
    close(fds[1]);
    end();
}

static void who_dials_a_target_that_is_not_there_is_reset(void **state)
{
    begin((struct relay_config){.delay_us = DELAY_US});
    close(target_fd);
    target_fd = -1;
    int dialer = connect_to(relay_address(relay));
    UNTIL(relay_stats(relay).accepted == 1);
    now += DELAY;
    turn();
    now += DELAY;
    UNTIL(hear(dialer) == -1);
    close(dialer);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_up_costs_a_round_trip_and_each_way_a_delay),
        cmocka_unit_test(a_direction_has_one_rate_shared_fairly_and_a_bounded_queue),
        cmocka_unit_test(a_window_waits_for_what_is_acknowledged),
        cmocka_unit_test(slow_start_doubles_in_each_round_trip),
        cmocka_unit_test(a_cut_resets_both_sides),
        cmocka_unit_test(cuts_come_at_random_from_a_seed),
        cmocka_unit_test(a_black_hole_keeps_everything_and_passes_nothing),
        cmocka_unit_test(bytes_come_whole_and_in_order),
        cmocka_unit_test(who_dials_a_target_that_is_not_there_is_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
