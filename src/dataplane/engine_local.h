/* What the files of the engine share: the engine, an attempt, and how tasks reach platforms, vault and peers. */
#ifndef FAR_DATAPLANE_ENGINE_LOCAL_H
#define FAR_DATAPLANE_ENGINE_LOCAL_H

#include "base/arena.h"
#include "dataplane/engine.h"
#include "dataplane/pool.h"
#include "dataplane/throttle.h"
#include "dataplane/transfer_frames.h"
#include "dataplane/vault.h"
#include "net/net.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    FAR_ENGINE_PLATFORMS_MAX = 64,
    FAR_ENGINE_WORKERS_MAX = 8,
    FAR_ENGINE_WINDOW_BYTES = 32 * 1024 * 1024, /* bytes of a disk to be sent, DESIGN.md section 1 */
    FAR_ENGINE_WINDOW = FAR_ENGINE_WINDOW_BYTES / FAR_TRANSFER_BULK_MAX,
    FAR_ENGINE_CHUNK = FAR_TRANSFER_BULK_MAX,
    FAR_ENGINE_GREETINGS_MAX = 64, /* connections that have not been matched with a transfer yet */
    FAR_ENGINE_VISITORS_MAX = FAR_TRANSFER_LANES_MAX, /* of one attempt, matched and not taken */
    FAR_ENGINE_KEPT_MAX = 256,     /* notes of uses that are looked at */
    FAR_ENGINE_MATCH_MS = 3000,    /* a sender may be this much ahead of the receiver's order */
};

/* Stacks of the threads: the deepest way down, to a page of a map in a pack, takes 130 KiB. ThreadSanitizer keeps 900 KiB of
 * its own at the top of each. */
enum {
#ifdef __SANITIZE_THREAD__
    FAR_ENGINE_SANITIZER_STACK_BYTES = 2 * 1024 * 1024,
#else
    FAR_ENGINE_SANITIZER_STACK_BYTES = 0,
#endif
    FAR_ENGINE_WORKER_STACK_BYTES = 256 * 1024 + FAR_ENGINE_SANITIZER_STACK_BYTES,
    FAR_ENGINE_ATTEMPT_STACK_BYTES = 512 * 1024 + FAR_ENGINE_SANITIZER_STACK_BYTES,
};

/* A platform that was opened: kept until the engine ends. */
struct far_platform {
    char name[64];
    const struct far_adapter *adapter;
    void *platform;
};

/* A connection that waits to be taken by an attempt: a sender's after its hello, for a receive; a receiver's after its knock,
 * for a send. */
struct far_visitor {
    struct far_visitor *next;
    struct far_bstream *stream;
    struct far_transfer_hello hello;
};

/* struct far_engine_figures as it is counted. */
struct far_figures {
    _Atomic uint64_t bytes_read, bytes_zero, bytes_known, bytes_wanted, window_bytes, streams;
    _Atomic unsigned bottleneck;
};

struct far_attempt {
    struct far_engine *engine;
    struct far_attempt *next; /* in engine->attempts, newest first */
    struct far_arena arena;   /* holds the strings of order */
    struct far_engine_order order; /* from its turn on with the vault's own numbers, which is its thread's alone */
    uint64_t workload_id;          /* of the log */
    uint64_t started_ms;
    uint64_t turn; /* grows with each start: who came first */

    atomic_bool canceled; /* stop: a newer attempt, far_engine_cancel, or the end of the engine */
    atomic_bool ended;    /* its thread touches nothing any more */
    unsigned users;       /* of this struct; under engine->mutex */
    const size_t *waits_for; /* transfer slots; under engine->mutex */

    pthread_mutex_t report_mutex; /* one report at a time; nothing after the end */
    bool silent;
    struct far_engine_used *used; /* what a use has told so far; under report_mutex */
    _Atomic uint64_t bytes_total, bytes_done, bytes_changed, bytes_sent, hashed_bytes;
    struct far_figures figures;

    pthread_mutex_t mutex; /* below: who may interrupt what it blocks in */
    pthread_cond_t wake;
    void (*watch)(void *arg); /* told of a cancel and of a visitor; NULL: nobody */
    void *watch_arg;
    struct far_visitor *visitors; /* owned, the first one first */
    atomic_size_t visitor_count;
};

/* A machine that was taken away, by this task of its run. */
struct far_engine_gone {
    uint64_t job_id, workload_id, task;
};
enum { FAR_ENGINE_GONE_MAX = 1024 }; /* that are remembered: more than a node has machines of runs */

struct far_engine {
    struct far_engine_config config;
    far_engine_report_fn *report;
    void *report_arg;
    struct far_vault *vault; /* NULL: not a target */
    pthread_mutex_t owner_mutex; /* what follows */
    struct far_vault_owner owner;
    bool owner_damaged; /* its file is */
    struct far_throttle *throttle; /* bandwidth limits of what is sent: throttle.h */
    struct far_pool *pool_out; /* buffers of sends and verifications */
    struct far_pool *pool_in;  /* buffers of receives and restores: apart, or two nodes could starve each other */
    struct far_blistener *listener;
    char data_address[300];
    char *cache_dir;
    char *own_dirs[3]; /* resolved; NULL: none there */

    pthread_mutex_t mutex;
    pthread_cond_t changed; /* an attempt ended, a transfer slot came free, a greeting ended */
    struct far_attempt *attempts;
    size_t attempt_count;
    uint64_t next_turn;
    size_t sending, receiving; /* transfer slots in use */
    bool taking_first; /* a receive takes the buffers that it needs at least */
    atomic_size_t sending_hint, receiving_hint; /* the same, to be read without the mutex */
    size_t greetings;
    size_t uses; /* children that run */
    struct far_served *served; /* served.c */
    atomic_bool keeps; /* there may be notes of uses */
    bool closing;
    struct far_engine_gone gone[FAR_ENGINE_GONE_MAX]; /* task 0: none; under mutex, as what follows */
    size_t gone_next;
    struct far_engine_report *remembered; /* ring of FAR_ENGINE_REMEMBERED_MAX ends */
    uint64_t remembered_count;

    pthread_mutex_t platforms_mutex;
    struct far_platform platforms[FAR_ENGINE_PLATFORMS_MAX];
    size_t platform_count;

    pthread_t ticker, acceptor, clock;
    bool ticker_runs, acceptor_runs, clock_runs;
};

/* A task: fills result's own fields (root, disks, …) on success; on failure err and, where an adapter said so,
 * result->outcome. Runs on the attempt's thread. */
int far_run_freeze(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_release(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_send(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_receive(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_seal(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_rescore(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_forget(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_restore(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_verify(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
/* tasks_vault.c */
int far_run_lock(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_reclaim(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_scrub(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_measure(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
/* tasks_adopt.c */
int far_run_adopt(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
/* At start: whose the vault is. A damaged file keeps no node from starting. */
int far_engine_owner_claim(struct far_engine *engine, struct far_error *err);
/* Before a task of a vault: is it this cluster's? The order's numbers become the vault's, but for job and disk_id, by which both nodes of a
 * transfer find each other. */
int far_attempt_enter_vault(struct far_attempt *attempt, struct far_error *err);
/* What the vault calls a number of the log, and the reverse. */
uint64_t far_engine_number(struct far_engine *engine, uint64_t number);
/* Numbers of the vault in a report become the log's. */
void far_engine_exchange_report(struct far_engine *engine, struct far_engine_report *report);
/* tasks_use.c */
/* Keys of the order's domain for a command of ours, in a file in memory; -1: it has none. */
int far_use_keys(struct far_attempt *attempt, int *ret_fd, struct far_error *err);
int far_run_use(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
/* tasks_seed.c */
int far_run_seed(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
/* A point of these disks is sealed: what the vault was seeded with for them is forgotten. */
void far_seeds_over(struct far_attempt *attempt);
/* tasks_compare.c, tasks_leaves.c */
int far_run_compare(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_leaves(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
/* tasks_machine.c */
int far_run_machine(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
int far_run_script(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err);
/* machine_order.c. Is "kvm:///…" a place of the adapter "kvm"? */
bool far_is_place_of(const char *adapter, const char *place);
/* At the start: can this node do what its config says of machines and scripts? */
int far_engine_check_machines(const struct far_engine_config *config, struct far_error *err);
int far_attempt_copy_machine(struct far_arena *arena, struct far_engine_machine *machine, struct far_error *err);
/* The thread that keeps the vault's time going. */
void *far_engine_clock_main(void *arg);

/* engine.c */
bool far_attempt_stopped(struct far_attempt *attempt);
int far_attempt_check(struct far_attempt *attempt, struct far_error *err); /* FAR_CANCELED once stopped */
/* Waits until attempt->wake is signaled, it is stopped, or the time is over; attempt->mutex is held. */
void far_attempt_wait(struct far_attempt *attempt, uint64_t timeout_ms);
/* Called from now on when the attempt is canceled or has a visitor, with attempt->mutex held: no lock that is held while
 * waiting for that one may be taken. NULL: nobody, and none runs any more. FAR_CANCELED: too late, it was stopped. */
int far_attempt_watch(struct far_attempt *attempt, void (*watch)(void *arg), void *arg, struct far_error *err);
/* Takes the visitor; of more than FAR_ENGINE_VISITORS_MAX the oldest goes. */
void far_attempt_visit(struct far_attempt *attempt, struct far_visitor *visitor);
struct far_visitor *far_attempt_next_visitor(struct far_attempt *attempt); /* NULL: none; the caller's now */
bool far_attempt_has_visitor(struct far_attempt *attempt);
/* A slot among those that move data; waits for its turn. */
int far_transfer_slot_take(struct far_attempt *attempt, size_t *slots, struct far_error *err);
void far_transfer_slot_give(struct far_engine *engine, size_t *slots);
void far_engine_wait(struct far_engine *engine, uint64_t timeout_ms); /* on engine->changed; mutex held */
/* The attempt of this kind that moves this disk from or to that node, referenced, or NULL. */
struct far_attempt *far_engine_find_transfer(struct far_engine *engine, enum far_engine_kind kind, uint64_t job_id,
                                             uint64_t disk_id, uint64_t node_id);
void far_attempt_unref(struct far_attempt *attempt);

/* engine_orders.c */
int far_engine_check_order(const struct far_engine *engine, const struct far_engine_order *order,
                           struct far_error *err);
/* The domain of the order in this node's vault; its generation into result (may be NULL). Errors as far_vault_domain_open(). */
int far_attempt_domain(struct far_attempt *attempt, const struct far_domain **ret_domain, struct far_engine_report *result,
                       struct far_error *err);
/* Opens every domain that the order brings for the whole vault, and erases those that were destroyed. One that does not open stays
 * closed: it is found where it is needed. */
void far_attempt_vault_domains(struct far_attempt *attempt, struct far_engine_report *result);
int far_attempt_copy_order(struct far_attempt *attempt, const struct far_engine_order *order, struct far_error *err);

/* engine_reports.c */
void far_attempt_report_running(struct far_attempt *attempt);
/* rc and error: how the task ended; nothing is reported after it. */
void far_attempt_report_end(struct far_attempt *attempt, struct far_engine_report *report, int rc,
                            const struct far_error *error);
/* The end of an attempt that was ordered again, from memory; true if it is known. engine->mutex is held, and let go
 * during the callback. */
bool far_engine_report_again(struct far_engine *engine, const struct far_engine_order *order);
void *far_engine_ticker_main(void *arg);

const char *far_order_copy_string(struct far_arena *arena, const char *text); /* engine_orders.c; NULL is "", and no memory */

/* engine_platforms.c */
int far_engine_platform(struct far_engine *engine, const char *name, struct far_platform **ret_platform,
                        struct far_error *err);
void far_engine_platforms_close(struct far_engine *engine);
/* The adapter's answer as an error of ours: 0 for FAR_ADAPTER_OK, else err is filled and *ret_outcome set. */
int far_adapter_result(int outcome, const struct far_adapter_error *said, enum far_adapter_outcome *ret_outcome,
                       struct far_error *err);

/* engine_listen.c */
int far_engine_listen(struct far_engine *engine, const char *address, struct far_error *err);
void far_engine_listen_stop(struct far_engine *engine);
void far_visitor_free(struct far_visitor *visitor); /* NULL is allowed */

/* transfer_stream.c: frames on a far_bstream */
struct far_frame {
    struct far_transfer_header header;
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
};
int far_frame_read(struct far_bstream *stream, uint64_t idle_ms, struct far_frame *ret_frame, struct far_error *err);
int far_frame_write(struct far_bstream *stream, enum far_transfer_type type, const uint8_t *head, size_t head_len,
                    uint64_t idle_ms, struct far_error *err);
/* To be sent with what follows, at the latest by far_bstream_flush. */
int far_frame_add(struct far_bstream *stream, enum far_transfer_type type, const uint8_t *head, size_t head_len,
                  uint64_t idle_ms, struct far_error *err);
/* The same with a bulk of at most FAR_TRANSFER_GROUP pieces. */
int far_frame_add_bulk(struct far_bstream *stream, enum far_transfer_type type, struct far_slice head,
                       const struct far_slice *bulk, size_t pieces, uint64_t idle_ms, struct far_error *err);
static inline struct far_slice far_frame_head(const struct far_frame *frame)
{
    return far_slice(frame->head, frame->header.head_len);
}
/* Is it the order's peer who speaks on this stream? FAR_DENIED if it shows another key than the one that is registered. */
int far_attempt_check_peer(const struct far_attempt *attempt, const struct far_bstream *stream, struct far_error *err);
/* An ERROR frame as an error of ours: what the peer said. */
int far_frame_error(const struct far_frame *frame, struct far_error *err);

#endif
