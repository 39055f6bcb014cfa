/* The simulation: real WAL, raft driver, codec, envelope, apply and store on a simulated network, disk and clock.
 *
 * One seed makes everything: a heap of events in virtual time, one thread, no real clock. Machines (disks) outlive servers
 * (ids), servers outlive lives (from open to crash). The checkers (sim_check.c) stand outside and see only what servers
 * deliver, apply and answer. docs/SIMULATION.md says how to run and replay. */
#ifndef FAR_SIM_H
#define FAR_SIM_H

#include "log/apply.h"
#include "log/cluster_clock.h"
#include "log/raft_core.h"
#include "log/snapshot.h"

#include <stdio.h>

enum { SIM_MACHINES = 6, SIM_CLIENTS = 4, SIM_SITES = 40, SIM_QUEUE_MAX = 4096 };
enum { SIM_MS = 1000, SIM_SECOND = 1000 * 1000 }; /* in microseconds of virtual time */

/* What is broken on purpose, so that the checkers can be seen to raise the alarm. */
enum sim_broken {
    SIM_SOUND,
    SIM_BROKEN_SYNC,  /* "answer before fsync": every second sync of a segment does nothing, and says that it did */
    SIM_BROKEN_VOTE,  /* "forget a vote": every second sync of a vote file does nothing */
    SIM_BROKEN_APPLY, /* one server comes to another state now and then */
};

struct sim;
typedef void (*sim_event_fn)(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob);

struct sim_event {
    uint64_t at_us;
    uint64_t order;
    sim_event_fn fn;
    void *object;
    uint64_t a, b;
    struct far_blob *blob; /* owned, may be NULL */
};

/* ---- disk (sim_disk.c) ---- */

struct sim_disk;
struct sim_disk *sim_disk_new(struct sim *sim);
void sim_disk_free(struct sim_disk *disk);
struct far_disk *sim_disk_base(struct sim_disk *disk);
/* Nothing works any more until the crash is over. */
void sim_disk_die(struct sim_disk *disk);
/* Die at the n-th operation that changes something. */
void sim_disk_die_after(struct sim_disk *disk, uint64_t operations);
bool sim_disk_dead(const struct sim_disk *disk);
/* power_cut: of what was not synced any subset is lost; else all of it is kept. Works again afterwards. */
void sim_disk_crash(struct sim_disk *disk, bool power_cut);
void sim_disk_wipe(struct sim_disk *disk);
/* What is durable on one disk becomes all that is on another. */
void sim_disk_copy(struct sim_disk *to, const struct sim_disk *from);
void sim_disk_set_full(struct sim_disk *disk, bool full);
/* Flip a bit of the n-th byte of a durable file that holds records. false: nothing to flip. */
bool sim_disk_flip(struct sim_disk *disk);

/* ---- one server ---- */

struct sim_waiting { /* a command of a client at the leader, or in an entry */
    uint64_t number;
    uint64_t attempt;
    unsigned client;
    uint64_t index; /* of its entry; 0 = not yet in one */
    uint64_t term;
    unsigned position;
};

struct sim_server {
    struct sim *sim;
    unsigned machine;
    uint64_t id; /* 0 = nobody lives here */
    char address[32];
    bool alive;
    uint64_t life; /* grows at each start and crash: old events do nothing */
    struct sim_disk *disk;
    struct far_store *store;
    struct far_raft *raft;
    struct far_raft_env env;
    uint64_t timer_order; /* of the timer that counts */
    struct far_wal_job *job;
    bool fatal;
    struct far_error fatal_err;
    bool damaged; /* its WAL was damaged on purpose: must not come back under its id */

    struct far_blob *queue[SIM_QUEUE_MAX]; /* committed, not applied */
    struct far_wal_entry queued[SIM_QUEUE_MAX];
    size_t queue_head, queue_count;
    bool apply_planned;
    struct far_store_meta *before; /* meta as of the commit before the last */
    struct far_store_meta *meta;   /* of the last commit */
    uint64_t told_durable;

    struct sim_waiting *waiting;
    size_t waiting_count, waiting_cap;
    bool is_leader;
    uint64_t term;
    struct far_cluster_clock clock;
    int64_t wall_off_ms;
    uint64_t slow_us; /* of each disk job now */

    /* Fetching a state. */
    bool fetching, install_dumped;
    uint64_t fetch_from, fetch_number, fetch_heard_us, fetch_min_index;
    struct far_install install;
    struct far_dump dump; /* being streamed to dump_to */
    uint64_t dump_to, dump_number;
};

/* ---- network (sim_net.c) ---- */

enum sim_message { SIM_RAFT = 1, SIM_STATE_WANT, SIM_STATE_PIECE, SIM_STATE_END, SIM_CLOCK };
struct sim_link {
    uint64_t last_us; /* when the last message arrives: order holds */
    bool blocked;
    uint64_t generation; /* of the connection: a break lets what is under way be lost */
    bool late;           /* the last break let some of it arrive late */
};
void sim_net_send(struct sim_server *from, uint64_t to_id, enum sim_message kind, uint64_t number, struct far_slice bytes);
void sim_net_break(struct sim *sim, unsigned from, unsigned to);
void sim_net_heal(struct sim *sim);

/* ---- clients (sim_clients.c) ---- */

enum sim_client_state { SIM_IDLE, SIM_ASKED };
struct sim_client {
    unsigned number; /* of this client */
    uint64_t command; /* the one it wants to get through; 0 = none */
    uint64_t attempt;
    enum sim_client_state state;
    unsigned at; /* machine that it asks */
};

/* ---- checkers (sim_check.c) ---- */

struct sim_check;
struct sim_check *sim_check_new(struct sim *sim);
void sim_check_free(struct sim_check *check);
void sim_check_leader(struct sim_check *check, uint64_t id, uint64_t term);
void sim_check_commit(struct sim_check *check, uint64_t id, const struct far_wal_entry *entry);
void sim_check_applied(struct sim_check *check, uint64_t id, uint64_t index, struct far_hash128 digest,
                       const uint8_t head[FAR_HEAD_SIZE]);
void sim_check_answered(struct sim_check *check, uint64_t command, uint64_t index);
/* At the end: replays the committed log by itself and holds every server against it. */
void sim_check_end(struct sim_check *check);
uint64_t sim_check_last_index(const struct sim_check *check);
uint64_t sim_check_answers(const struct sim_check *check);

/* ---- the world (sim_world.c) ---- */

struct sim_options {
    uint64_t seed;
    unsigned servers;      /* 3 to 5; 0 = from the seed */
    uint64_t seconds;      /* of trouble */
    enum sim_broken broken;
    bool faults;
    bool verbose;
};

struct sim {
    struct sim_options options;
    uint64_t random[2];
    uint64_t now_us;
    uint64_t next_order;
    struct sim_event *heap;
    size_t heap_count, heap_cap;
    uint64_t steps;
    struct sim_server servers[SIM_MACHINES];
    struct sim_link links[SIM_MACHINES][SIM_MACHINES];
    struct sim_client clients[SIM_CLIENTS];
    struct sim_check *check;
    uint64_t next_id;      /* of a server */
    uint64_t next_command;
    uint64_t last_command_answered;
    bool trouble;          /* faults are being made */
    bool calm;             /* clients ask for nothing new */
    uint64_t delay_us;     /* of messages, at most */
    bool failed;
    char failure[FAR_MESSAGE_MAX];
    struct far_buf payload, entry, scratch;
    uint64_t crashes, cuts, breaks, installs, changes, refused;
    unsigned voters_wanted;
    bool admin_off;
    bool admin_idle; /* nothing left to do when it last looked */
    uint64_t change_index; /* of the last change of membership, as the leader knew it */
    uint64_t memory_lost;
};

uint64_t sim_random(struct sim *sim, uint64_t below);
bool sim_chance(struct sim *sim, unsigned percent);
void sim_after(struct sim *sim, uint64_t us, sim_event_fn fn, void *object, uint64_t a, uint64_t b, struct far_blob *blob);
uint64_t sim_after_order(struct sim *sim); /* the order that the event planned last has */
/* The alarm. The first one counts. */
void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_say(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool sim_run_until(struct sim *sim, uint64_t at_us, bool (*done)(struct sim *sim));
struct sim *sim_new(const struct sim_options *options);
void sim_free(struct sim *sim);
struct sim_server *sim_server_of(struct sim *sim, uint64_t id);
struct sim_server *sim_leader(struct sim *sim);

/* sim_server.c */
void sim_server_start(struct sim_server *server);
void sim_server_crash(struct sim_server *server, bool power_cut);
/* The disk died under it, or it aborted: carried out after each event. */
void sim_server_bury(struct sim_server *server);
void sim_server_apply_all(struct sim_server *server);
void sim_server_receive(struct sim_server *server, uint64_t from_id, enum sim_message kind, uint64_t number,
                        struct far_slice bytes);
void sim_server_pump(struct sim_server *server);
void sim_server_tell_durable(struct sim_server *server);
void sim_server_read_meta(struct sim_server *server);
struct far_raft_manifest sim_manifest_of(const struct far_store_meta *meta);
/* A new server with a new id on an empty machine; first: it makes the cluster. */
void sim_server_create(struct sim *sim, unsigned machine, bool first);
void sim_server_forget(struct sim_server *server);
/* The same server as it was once: an older copy of its folder. */
struct sim_copy {
    uint64_t id;
    struct sim_disk *disk;
    struct far_store *store;
};
struct sim_copy sim_server_copy(struct sim_server *server);
void sim_server_return(struct sim *sim, unsigned machine, struct sim_copy *copy);

/* sim_install.c */
void sim_install_begin(struct sim_server *server, uint64_t from_id, uint64_t min_index);
void sim_install_message(struct sim_server *server, uint64_t from_id, enum sim_message kind, uint64_t number,
                         struct far_slice bytes);
void sim_install_end(struct sim_server *server); /* a life is over */

/* sim_clients.c */
void sim_clients_start(struct sim *sim);
/* A command was decided on this server. */
void sim_clients_decided(struct sim_server *server, uint64_t index, uint64_t term, unsigned position,
                         const struct far_command *command, const struct far_result *result);
void sim_clients_lost(struct sim_server *server);

/* sim_scenarios.c: each true if it went as it must; says why not with sim_fail(). */
bool sim_scenario_old_memory(bool keeps_id, char *ret_alarm, size_t size);

/* sim_faults.c */
void sim_faults_start(struct sim *sim);
void sim_faults_heal(struct sim *sim);
/* Faults at the worst moment, now and then. */
void sim_faults_elected(struct sim_server *server);
void sim_faults_answered(struct sim *sim);
void sim_admin_start(struct sim *sim);

#endif
