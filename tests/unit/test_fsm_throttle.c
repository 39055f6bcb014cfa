/* Bandwidth limits in the core: calendars, time zones with both changes of the clocks, who gets what, and what is refused. */
#include "fsm/calendar.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;

enum { HOUR_MS = 3600 * 1000, DAY_MS = 24 * HOUR_MS };
#define MB 1000000ull

/* 2027: summer time in central Europe from 28 March 1:00 UTC to 31 October 1:00 UTC. */
static const uint64_t spring_s = 1806195600, autumn_s = 1824944400;
/* Sunday 2027-03-28 0:00 UTC, and Monday the 8th of March. */
static const uint64_t sunday_s = 1806192000, monday_s = 1806192000 - 20 * 86400ull;

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static void set_berlin(void)
{
    struct far_sub_zone_change changes[] = {{0, 3600, 0}, {spring_s, 7200, 0}, {autumn_s, 3600, 0}};
    MUST(&w, zone_set, .name = S("Europe/Berlin"), .changes = {changes, 3}, .until_s = autumn_s + 86400);
}

static const uint64_t all_days[] = {1, 2, 3, 4, 5, 6, 7};

static struct far_sub_throttle_window window(uint64_t first_day, uint64_t last_day, uint64_t from_min, uint64_t to_min, uint64_t rate)
{
    return (struct far_sub_throttle_window){.days = {all_days + first_day - 1, last_day - first_day + 1},
                                            .from_min = from_min,
                                            .to_min = to_min,
                                            .bytes_per_s = rate};
}

static struct far_row_throttle row_of(uint64_t id)
{
    struct far_row_throttle row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_throttle);
    far_key_u64(&key, id);
    int rc = far_state_get(&w.state, &far_schema_row_throttle, &key, &w.arena, &row, &w.err);
    assert_true(rc == 0 || rc == FAR_NOT_FOUND);
    return row;
}

/* ---- calendars ---- */

/* Both as a calendar says them, seconds after base_s. */
#define IS(calendar, base_s, hours, minutes, rate, next_hours, next_minutes)                                                     \
    do {                                                                                                                         \
        uint64_t rate_, next_;                                                                                                   \
        far_calendar_at(calendar, 1000 * ((base_s) + (hours) * 3600 + (minutes) * 60), &rate_, &next_);                          \
        assert_int_equal(rate_, rate);                                                                                           \
        assert_int_equal(next_, 1000 * ((base_s) + (next_hours) * 3600 + (next_minutes) * 60));                                  \
    } while (0)

static void a_window_is_in_force_on_its_days_between_its_minutes(void **unused)
{
    struct far_sub_throttle_window work = window(1, 5, 8 * 60, 18 * 60, 20 * MB);
    struct far_calendar calendar = {.bytes_per_s = 0, .windows = {&work, 1}};
    IS(&calendar, monday_s, 0, 0, 0, 8, 0);
    IS(&calendar, monday_s, 7, 59, 0, 8, 0);
    IS(&calendar, monday_s, 8, 0, 20 * MB, 18, 0);
    IS(&calendar, monday_s, 17, 59, 20 * MB, 18, 0);
    IS(&calendar, monday_s, 18, 0, 0, 24 + 8, 0);
    IS(&calendar, monday_s, 4 * 24 + 18, 0, 0, 7 * 24 + 8, 0); /* Friday evening to Monday */
    IS(&calendar, monday_s, 6 * 24 + 12, 0, 0, 7 * 24 + 8, 0);
}

static void a_window_may_wrap_around_midnight_and_the_week(void **unused)
{
    struct far_sub_throttle_window night = window(7, 7, 22 * 60, 6 * 60, 30 * MB); /* Sunday night to Monday */
    struct far_calendar calendar = {.bytes_per_s = 10 * MB, .windows = {&night, 1}};
    IS(&calendar, monday_s, 0, 0, 30 * MB, 6, 0);
    IS(&calendar, monday_s, 6, 0, 10 * MB, 6 * 24 + 22, 0);
    IS(&calendar, monday_s, 6 * 24 + 23, 30, 30 * MB, 7 * 24 + 6, 0);
    struct far_sub_throttle_window whole = window(2, 3, 0, 1440, 50 * MB); /* Tuesday and Wednesday */
    calendar.windows.items = &whole;
    IS(&calendar, monday_s, 23, 59, 10 * MB, 24, 0);
    IS(&calendar, monday_s, 24, 0, 50 * MB, 3 * 24, 0); /* no boundary between them */
}

static void windows_that_change_nothing_have_no_next(void **unused)
{
    struct far_sub_throttle_window same[] = {window(1, 7, 0, 720, 10 * MB), window(1, 7, 720, 1440, 10 * MB)};
    struct far_calendar calendar = {.bytes_per_s = 0, .windows = {same, 2}};
    uint64_t rate, next_ms;
    far_calendar_at(&calendar, monday_s * 1000, &rate, &next_ms);
    assert_int_equal(rate, 10 * MB);
    assert_int_equal(next_ms, 0);
    calendar.windows.count = 0;
    far_calendar_at(&calendar, monday_s * 1000, &rate, &next_ms);
    assert_int_equal(rate, 0);
    assert_int_equal(next_ms, 0);
}

static const struct far_sub_zone_change berlin[] = {{0, 3600, 0}, {1806195600, 7200, 0}, {1824944400, 3600, 0}};

static void a_calendar_goes_by_the_clocks_of_its_zone(void **unused)
{
    struct far_sub_throttle_window work = window(1, 7, 8 * 60, 18 * 60, 20 * MB);
    struct far_calendar calendar = {.windows = {&work, 1}, .changes = {berlin, 3}};
    IS(&calendar, sunday_s - 86400, 6, 59, 0, 7, 0);    /* Saturday: 8:00 is 7:00 UTC */
    IS(&calendar, sunday_s - 86400, 17, 0, 0, 24 + 6, 0); /* Sunday: 8:00 is 6:00 UTC */
    IS(&calendar, sunday_s, 6, 0, 20 * MB, 16, 0);
    struct far_sub_zone_change west = {0, 0, 5 * 3600};
    calendar.changes = (struct far_list){&west, 1};
    IS(&calendar, monday_s, 12, 0, 0, 13, 0);
    IS(&calendar, monday_s, 13, 0, 20 * MB, 23, 0);
}

/* On 28 March 2027 the clocks go from 2:00 to 3:00 at 1:00 UTC. */
static void a_window_that_begins_in_the_hour_that_does_not_exist_begins_with_the_change(void **unused)
{
    struct far_sub_throttle_window early = window(7, 7, 2 * 60 + 30, 4 * 60, 20 * MB);
    struct far_calendar calendar = {.windows = {&early, 1}, .changes = {berlin, 3}};
    IS(&calendar, sunday_s, 0, 59, 0, 1, 0);
    IS(&calendar, sunday_s, 1, 0, 20 * MB, 2, 0);
    IS(&calendar, sunday_s, 2, 0, 0, 7 * 24, 30); /* the next Sunday: 2:30 is 0:30 UTC */
    struct far_sub_throttle_window lost = window(7, 7, 2 * 60 + 10, 2 * 60 + 50, 20 * MB); /* all of it is left out */
    calendar.windows.items = &lost;
    IS(&calendar, sunday_s, 0, 0, 0, 7 * 24, 10);
    struct far_sub_throttle_window over = window(7, 7, 60, 4 * 60, 20 * MB); /* an hour shorter than three */
    calendar.windows.items = &over;
    IS(&calendar, sunday_s, 0, 0, 20 * MB, 2, 0);
}

/* On 31 October 2027 they go from 3:00 back to 2:00 at 1:00 UTC. */
static void the_hour_that_comes_twice_is_in_a_window_twice(void **unused)
{
    uint64_t base_s = autumn_s - 3600; /* 0:00 UTC */
    struct far_sub_throttle_window hour = window(7, 7, 2 * 60, 3 * 60, 20 * MB);
    struct far_calendar calendar = {.windows = {&hour, 1}, .changes = {berlin, 3}};
    IS(&calendar, base_s - 3600, 0, 30, 0, 1, 0);
    IS(&calendar, base_s, 0, 0, 20 * MB, 2, 0); /* 2:00 to 3:00, and again: nothing changes between them */
    struct far_sub_throttle_window half = window(7, 7, 2 * 60 + 30, 3 * 60, 20 * MB);
    calendar.windows.items = &half;
    IS(&calendar, base_s, 0, 30, 20 * MB, 1, 0);
    IS(&calendar, base_s, 1, 0, 0, 1, 30);
    IS(&calendar, base_s, 1, 30, 20 * MB, 2, 0);
}

/* ---- the log ---- */

static void each_boundary_is_one_event_that_says_what_is_in_force(void **unused)
{
    struct far_sub_throttle_window work[] = {window(1, 5, 8 * 60, 18 * 60, 20 * MB), window(1, 7, 22 * 60, 5 * 60, FAR_RATE_PAUSED)};
    set_berlin();
    w.now_ms = 1000 * (sunday_s - 86400) + 12 * HOUR_MS; /* Saturday 13:00 */
    uint64_t id = MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("paris"), .bytes_per_s = 50 * MB,
                       .zone = S("Europe/Berlin"), .windows = {work, 2});
    assert_int_equal(row_of(id).in_force_bytes_per_s, 50 * MB);
    assert_int_equal(row_of(id).next_ms, 1000 * (sunday_s - 86400) + 21 * HOUR_MS);
    uint64_t events = w.events;
    world_pass(&w, 9 * HOUR_MS);
    assert_int_equal(w.events, events + 1);
    assert_int_equal(row_of(id).in_force_bytes_per_s, FAR_RATE_PAUSED);
    assert_int_equal(row_of(id).next_ms, 1000 * sunday_s + 3 * HOUR_MS); /* 5:00 of summer time */
    world_pass(&w, 6 * HOUR_MS);
    assert_int_equal(w.events, events + 2);
    assert_int_equal(row_of(id).in_force_bytes_per_s, 50 * MB);
    world_pass(&w, 7 * DAY_MS); /* 7 nights and 5 days of work, each with two ends */
    assert_int_equal(w.events, events + 2 + 24);
    world_verify(&w);
}

static void a_late_tick_says_what_holds_then(void **unused)
{
    struct far_sub_throttle_window work = window(1, 7, 8 * 60, 9 * 60, 20 * MB);
    w.now_ms = 1000 * monday_s;
    uint64_t id = MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("paris"), .windows = {&work, 1});
    w.now_ms += 5 * DAY_MS + 8 * HOUR_MS + 1;
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    uint64_t events = w.events;
    MUST(&w, tick);
    assert_int_equal(w.events, events + 1);
    assert_int_equal(row_of(id).in_force_bytes_per_s, 20 * MB);
    assert_int_equal(row_of(id).next_ms, 1000 * monday_s + 5 * DAY_MS + 9 * HOUR_MS);
}

static void while_no_clock_can_be_believed_calendars_wait(void **unused)
{
    struct far_sub_throttle_window work = window(1, 7, 8 * 60, 9 * 60, 20 * MB);
    uint64_t due_ms;
    w.now_ms = 1000 * monday_s;
    uint64_t id = MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("paris"), .windows = {&work, 1});
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(&w, clock_judge, .verdict = FAR_clock_verdict_suspect, .off_ms = 20000, .agreeing = 1, .voters = 3);
    assert_int_equal(far_query_next_deadline(&w.state, &due_ms, &w.err), 0);
    assert_true(due_ms != 1000 * monday_s + 8 * HOUR_MS);
    w.now_ms += 8 * HOUR_MS;
    MUST(&w, tick);
    assert_int_equal(row_of(id).in_force_bytes_per_s, 0);
    MUST(&w, clock_judge, .verdict = FAR_clock_verdict_good, .agreeing = 3, .voters = 3);
    MUST(&w, tick);
    assert_int_equal(row_of(id).in_force_bytes_per_s, 20 * MB);
}

static void other_rules_of_a_zone_move_what_goes_by_it(void **unused)
{
    struct far_sub_throttle_window work = window(1, 7, 8 * 60, 18 * 60, 20 * MB);
    struct far_sub_zone_change utc = {0, 0, 0};
    set_berlin();
    w.now_ms = 1000 * monday_s + 6 * HOUR_MS;
    uint64_t berlin_id = MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("paris"), .zone = S("Europe/Berlin"),
                              .windows = {&work, 1});
    uint64_t utc_id = MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("lyon"), .windows = {&work, 1});
    assert_int_equal(row_of(berlin_id).next_ms, 1000 * monday_s + 7 * HOUR_MS);
    uint64_t events = w.events;
    set_berlin();
    assert_int_equal(w.events, events); /* the same rules: no event */
    uint64_t zone_id = w.result.object_id;
    assert_int_equal(MUST(&w, zone_set, .name = S("Europe/Berlin"), .changes = {&utc, 1}, .until_s = 2), zone_id);
    world_pass(&w, 0);
    assert_int_equal(w.events, events + 2);
    assert_int_equal(row_of(berlin_id).next_ms, 1000 * monday_s + 8 * HOUR_MS);
    assert_int_equal(row_of(utc_id).next_ms, 1000 * monday_s + 8 * HOUR_MS);
}

static void who_is_removed_takes_the_limit_along(void **unused)
{
    struct far_sub_throttle_window work = window(1, 7, 8 * 60, 18 * 60, 20 * MB);
    static const char *const names[] = {"web"};
    uint64_t node = world_node(&w, "n", "paris");
    world_workload(&w, "web", 1);
    uint64_t plan = world_plan(&w, "p", names, 1);
    uint64_t site = MUST(&w, site_create, .name = S("rome"), .role = FAR_site_role_recovery);
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_node, .name = S("n"), .windows = {&work, 1});
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_plan, .name = S("p"), .bytes_per_s = 1 * MB);
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("rome"), .windows = {&work, 1});
    world_verify(&w);
    MUST(&w, node_remove, .name = S("n"));
    MUST(&w, plan_remove, .name = S("p"));
    MUST(&w, site_remove, .name = S("rome"));
    assert_int_equal(row_of(node).id + row_of(plan).id + row_of(site).id, 0);
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("lyon"), .windows = {&work, 1});
    uint64_t lyon = w.result.object_id;
    MUST(&w, throttle_remove, .scope = FAR_throttle_scope_site, .name = S("lyon"));
    assert_int_equal(row_of(lyon).id, 0);
}

/* ---- what is refused ---- */

#define REFUSED(klass, part, command, ...)                    \
    do {                                                      \
        assert_int_equal(APPLY(&w, command, __VA_ARGS__), klass); \
        if (strstr(w.result.message, part) == NULL) {         \
            fail_msg("'%s' is not in '%s'", part, w.result.message); \
        }                                                     \
    } while (0)
#define OF_PARIS .scope = FAR_throttle_scope_site, .name = S("paris")

static void what_makes_no_sense_is_refused_with_what_would(void **unused)
{
    struct far_sub_throttle_window bad;
    uint64_t twice[] = {3, 3}, none[] = {8};
    REFUSED(FAR_INVALID, "a node, a plan or a site", throttle_set, .name = S("paris"));
    REFUSED(FAR_INVALID, "a node, a plan or a site", throttle_set, .scope = 4, .name = S("paris"));
    REFUSED(FAR_NOT_FOUND, "there is no site 'oslo'", throttle_set, .scope = FAR_throttle_scope_site, .name = S("oslo"));
    REFUSED(FAR_NOT_FOUND, "there is no plan 'paris'", throttle_remove, .scope = FAR_throttle_scope_plan, .name = S("paris"));
    REFUSED(FAR_NOT_FOUND, "is not set", throttle_remove, OF_PARIS);
    REFUSED(FAR_INVALID, "'bytes_per_s' is 9999 ", throttle_set, OF_PARIS, .bytes_per_s = FAR_RATE_MIN - 1);
    REFUSED(FAR_INVALID, "'bytes_per_s' is 2 ", throttle_set, OF_PARIS, .bytes_per_s = 2);
    REFUSED(FAR_INVALID, "from 10000 to 1000000000000", throttle_set, OF_PARIS, .bytes_per_s = FAR_RATE_MAX + 1);
    MUST(&w, throttle_set, OF_PARIS, .bytes_per_s = FAR_RATE_MAX);
    MUST(&w, throttle_set, OF_PARIS, .bytes_per_s = FAR_RATE_MIN);
    REFUSED(FAR_INVALID, "without windows", throttle_set, OF_PARIS, .zone = S("UTC"));
    bad = window(1, 5, 480, 1080, MB);
    REFUSED(FAR_NOT_FOUND, "'Mars/Base'", throttle_set, OF_PARIS, .zone = S("Mars/Base"), .windows = {&bad, 1});
    REFUSED(FAR_INVALID, "like 'Europe/Paris'", throttle_set, OF_PARIS, .zone = S("../etc/passwd"), .windows = {&bad, 1});
    bad = window(1, 5, 1440, 1, MB);
    REFUSED(FAR_INVALID, "'from_min' is 1440", throttle_set, OF_PARIS, .windows = {&bad, 1});
    bad = window(1, 5, 60, 0, MB);
    REFUSED(FAR_INVALID, "'to_min' is 0", throttle_set, OF_PARIS, .windows = {&bad, 1});
    bad = window(1, 5, 60, 1441, MB);
    REFUSED(FAR_INVALID, "'to_min' is 1441", throttle_set, OF_PARIS, .windows = {&bad, 1});
    bad = window(1, 5, 60, 60, MB);
    REFUSED(FAR_INVALID, "from 0 to 1440", throttle_set, OF_PARIS, .windows = {&bad, 1});
    bad = window(1, 5, 60, 61, 3);
    REFUSED(FAR_INVALID, "'bytes_per_s' is 3 ", throttle_set, OF_PARIS, .windows = {&bad, 1});
    bad.bytes_per_s = MB;
    bad.days = (struct far_list){twice, 2};
    REFUSED(FAR_INVALID, "1 (Monday) to 7 (Sunday), each once", throttle_set, OF_PARIS, .windows = {&bad, 1});
    bad.days = (struct far_list){none, 1};
    REFUSED(FAR_INVALID, "field 'days'", throttle_set, OF_PARIS, .windows = {&bad, 1});
    bad.days.count = 0;
    REFUSED(FAR_INVALID, "field 'days'", throttle_set, OF_PARIS, .windows = {&bad, 1});
}

static void windows_that_overlap_are_refused_with_the_time(void **unused)
{
    struct far_sub_throttle_window pair[] = {window(1, 5, 480, 1080, MB), window(5, 7, 1079, 1200, MB)};
    REFUSED(FAR_INVALID, "windows 1 and 2 overlap on Friday at 17:59", throttle_set, OF_PARIS, .windows = {pair, 2});
    pair[1].from_min = 1080;
    MUST(&w, throttle_set, OF_PARIS, .windows = {pair, 2});
    pair[0] = window(7, 7, 1380, 60, MB); /* Sunday 23:00 to Monday 1:00 */
    pair[1] = window(1, 1, 59, 70, MB);
    REFUSED(FAR_INVALID, "overlap on Monday at 00:59", throttle_set, OF_PARIS, .windows = {pair, 2});
    pair[1].from_min = 60;
    MUST(&w, throttle_set, OF_PARIS, .windows = {pair, 2});
    pair[1] = window(1, 7, 0, 1440, MB);
    REFUSED(FAR_INVALID, "overlap on Monday at 00:00", throttle_set, OF_PARIS, .windows = {pair, 2});
}

static void as_many_windows_as_a_row_holds_fit(void **unused)
{
    struct far_sub_throttle_window many[FAR_CALENDAR_WINDOWS_MAX];
    struct far_sub_zone_change changes[FAR_ZONE_CHANGES_MAX];
    for (uint64_t i = 0; i < FAR_CALENDAR_WINDOWS_MAX; i++) {
        many[i] = window(1, 7, 300 + 30 * i, 329 + 30 * i, FAR_RATE_MAX - i);
    }
    MUST(&w, throttle_set, OF_PARIS, .bytes_per_s = FAR_RATE_MAX, .windows = {many, FAR_CALENDAR_WINDOWS_MAX});
    for (uint64_t i = 0; i < FAR_ZONE_CHANGES_MAX; i++) {
        changes[i] = (struct far_sub_zone_change){.at_s = i == 0 ? 0 : UINT32_MAX - 1000 + i, .west_s = 93000 + i};
    }
    char name[64];
    memset(name, 'z', 63);
    MUST(&w, zone_set, .name = far_slice(name, 63), .changes = {changes, FAR_ZONE_CHANGES_MAX}, .until_s = UINT32_MAX);
}

static void rules_of_a_zone_that_are_none_are_refused(void **unused)
{
    struct far_sub_zone_change changes[] = {{0, 0, 0}, {100, 3600, 0}, {100, 0, 0}};
    REFUSED(FAR_INVALID, "first change at 0", zone_set, .name = S("X"));
    REFUSED(FAR_INVALID, "first change at 0", zone_set, .name = S("X"), .changes = {changes + 1, 1});
    REFUSED(FAR_INVALID, "change 2 is at 100, not after", zone_set, .name = S("X"), .changes = {changes, 3});
    changes[1].west_s = 1;
    REFUSED(FAR_INVALID, "one of both", zone_set, .name = S("X"), .changes = {changes, 2});
    changes[1] = (struct far_sub_zone_change){100, 26 * 3600 + 1, 0};
    REFUSED(FAR_INVALID, "at most 26 hours", zone_set, .name = S("X"), .changes = {changes, 2});
    static const char *const names[] = {"", "/etc", "a//b", "a/", "a.b", "a b", "../x"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        REFUSED(FAR_INVALID, "not the name of a time zone", zone_set, .name = S(names[i]), .changes = {changes, 1});
    }
    MUST(&w, zone_set, .name = S("America/Argentina/Buenos_Aires"), .changes = {changes, 1});
    MUST(&w, zone_set, .name = S("Etc/GMT+5"), .changes = {changes, 1});
}

static void there_are_at_most_a_thousand_limits(void **unused)
{
    char name[16];
    for (int i = 0; i < 1001; i++) {
        snprintf(name, sizeof name, "s%d", i);
        MUST(&w, site_create, .name = S(name), .role = FAR_site_role_recovery);
        if (i < 1000) {
            MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S(name), .bytes_per_s = MB);
        }
    }
    REFUSED(FAR_LIMIT, "1000 bandwidth limits", throttle_set, .scope = FAR_throttle_scope_site, .name = S(name));
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("s7"), .bytes_per_s = 2 * MB); /* instead of its own */
    MUST(&w, throttle_remove, .scope = FAR_throttle_scope_site, .name = S("s7"));
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_site, .name = S(name), .bytes_per_s = MB);
}

static void an_older_cluster_has_none_of_it(void **unused)
{
    world_done(&w);
    world_init(&w);
    w.level = 3;
    world_cluster(&w);
    REFUSED(FAR_CONFLICT, "needs feature level 4", throttle_set, OF_PARIS, .bytes_per_s = MB);
}

/* ---- who gets what ---- */

static struct far_node_limits limits_of(uint64_t node_id)
{
    struct far_list list;
    assert_int_equal(far_query_limits(&w.state, node_id, 0, &w.arena, &list, &w.err), 0);
    assert_int_equal(list.count, 1);
    return *(const struct far_node_limits *)list.items;
}

static uint64_t of_plan(uint64_t node_id, uint64_t plan_id)
{
    struct far_node_limits limits = limits_of(node_id);
    const struct far_sub_plan_limit *plans = limits.plans.items;
    for (size_t i = 0; i < limits.plans.count; i++) {
        if (plans[i].plan_id == plan_id) {
            return plans[i].bytes_per_s;
        }
    }
    return 0;
}

/* Freezes are done, so sends are held where they were. */
static void freeze_all(uint64_t job, uint64_t workloads, uint64_t disks)
{
    for (uint64_t i = 0; i < workloads; i++) {
        struct far_row_task task = world_row_task(&w, job, 1 + i * (3 + 2 * disks));
        struct far_sub_disk_found found = {.size_bytes = 1 << 20, .identity = S("i")};
        struct far_sub_report_item item = {
            .state = FAR_report_state_done, .freeze_ref = S("f"), .frozen_at_ms = w.now_ms, .disks = {&found, 1}};
        assert_int_equal(world_report(&w, &task, item), 0);
    }
}

static void shares_are_even_among_those_who_hold_sends(void **unused)
{
    static const char *const first[] = {"a", "b"}, *const second[] = {"c"};
    uint64_t nodes[3] = {world_node(&w, "n1", "paris"), world_node(&w, "n2", "paris"), world_node(&w, "n3", "paris")};
    uint64_t far = world_node(&w, "far", "lyon");
    for (size_t i = 0; i < 2; i++) {
        world_workload(&w, first[i], 1);
    }
    world_workload(&w, "c", 1);
    uint64_t p = world_plan(&w, "p", first, 2), q = world_plan(&w, "q", second, 1);
    bool has = true;
    assert_int_equal(far_query_has_limits(&w.state, &has, &w.err), 0);
    assert_false(has);
    assert_int_equal(limits_of(nodes[0]).bytes_per_s, 0);
    MUST(&w, throttle_set, OF_PARIS, .bytes_per_s = 60 * MB);
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_plan, .name = S("p"), .bytes_per_s = 30 * MB);
    assert_int_equal(far_query_has_limits(&w.state, &has, &w.err), 0);
    assert_true(has);
    assert_int_equal(limits_of(nodes[0]).bytes_per_s, 60 * MB); /* alone it would get all */
    assert_int_equal(limits_of(far).bytes_per_s, 0);
    assert_int_equal(limits_of(far).plans.count, 0);
    assert_int_equal(of_plan(nodes[2], p), 30 * MB);
    assert_int_equal(of_plan(nodes[2], q), 0);

    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    freeze_all(job, 2, 1);
    uint64_t senders[2] = {world_row_task(&w, job, 4).node_id, world_row_task(&w, job, 9).node_id};
    assert_int_not_equal(senders[0], senders[1]);
    uint64_t third = nodes[0] + nodes[1] + nodes[2] - senders[0] - senders[1];
    assert_int_equal(limits_of(senders[0]).bytes_per_s, 30 * MB);
    assert_int_equal(limits_of(senders[1]).bytes_per_s, 30 * MB);
    assert_int_equal(limits_of(third).bytes_per_s, 20 * MB); /* if it were given one */
    assert_int_equal(of_plan(senders[0], p), 15 * MB);
    assert_int_equal(of_plan(third, p), 10 * MB);

    uint64_t other = MUST(&w, plan_replicate, .name = S("q"));
    freeze_all(other, 1, 1);
    uint64_t sender = world_row_task(&w, other, 4).node_id;
    assert_int_equal(sender, third); /* the one with the fewest tasks */
    assert_int_equal(limits_of(third).bytes_per_s, 20 * MB);
    assert_int_equal(of_plan(senders[0], p), 15 * MB);
    char name[8];
    snprintf(name, sizeof name, "n%d", sender == nodes[0] ? 1 : sender == nodes[1] ? 2 : 3);
    MUST(&w, throttle_set, .scope = FAR_throttle_scope_node, .name = S(name), .bytes_per_s = 5 * MB);
    assert_int_equal(limits_of(third).bytes_per_s, 5 * MB);
    MUST(&w, throttle_set, OF_PARIS, .bytes_per_s = FAR_RATE_PAUSED);
    assert_int_equal(limits_of(third).bytes_per_s, FAR_RATE_PAUSED);
    MUST(&w, throttle_set, OF_PARIS, .bytes_per_s = 0);
    assert_int_equal(limits_of(senders[0]).bytes_per_s, 0);
    struct far_list all;
    assert_int_equal(far_query_limits(&w.state, 0, 0, &w.arena, &all, &w.err), 0);
    assert_int_equal(all.count, 4);
    assert_int_equal(far_query_limits(&w.state, 999, 0, &w.arena, &all, &w.err), FAR_NOT_FOUND);
    MUST(&w, job_cancel, .job_id = job);
    MUST(&w, job_cancel, .job_id = other);
}

static void limits_can_be_asked_for_another_time(void **unused)
{
    struct far_sub_throttle_window work = window(1, 7, 8 * 60, 18 * 60, 20 * MB);
    struct far_list list;
    uint64_t node = world_node(&w, "n", "paris");
    w.now_ms = 1000 * monday_s;
    world_boot(&w, node, 1);
    MUST(&w, throttle_set, OF_PARIS, .bytes_per_s = 0, .windows = {&work, 1});
    assert_int_equal(limits_of(node).bytes_per_s, 0);
    assert_int_equal(far_query_limits(&w.state, node, w.now_ms + 9 * HOUR_MS, &w.arena, &list, &w.err), 0);
    assert_int_equal(((const struct far_node_limits *)list.items)->bytes_per_s, 20 * MB);
}

int main(void)
{
#define ONE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_window_is_in_force_on_its_days_between_its_minutes),
        cmocka_unit_test(a_window_may_wrap_around_midnight_and_the_week),
        cmocka_unit_test(windows_that_change_nothing_have_no_next),
        cmocka_unit_test(a_calendar_goes_by_the_clocks_of_its_zone),
        cmocka_unit_test(a_window_that_begins_in_the_hour_that_does_not_exist_begins_with_the_change),
        cmocka_unit_test(the_hour_that_comes_twice_is_in_a_window_twice),
        ONE(each_boundary_is_one_event_that_says_what_is_in_force),
        ONE(a_late_tick_says_what_holds_then),
        ONE(while_no_clock_can_be_believed_calendars_wait),
        ONE(other_rules_of_a_zone_move_what_goes_by_it),
        ONE(who_is_removed_takes_the_limit_along),
        ONE(what_makes_no_sense_is_refused_with_what_would),
        ONE(windows_that_overlap_are_refused_with_the_time),
        ONE(as_many_windows_as_a_row_holds_fit),
        ONE(rules_of_a_zone_that_are_none_are_refused),
        ONE(there_are_at_most_a_thousand_limits),
        ONE(an_older_cluster_has_none_of_it),
        ONE(shares_are_even_among_those_who_hold_sends),
        ONE(limits_can_be_asked_for_another_time),
    };
    return cmocka_run_group_tests_name("bandwidth limits", tests, NULL, NULL);
}
