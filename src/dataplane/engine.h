/* The data-plane engine of a node: takes orders, carries them out on threads of its own, and reports.
 *
 * An order is one attempt of a task: freeze, send, receive, seal, release, restore, verify, forget, lock, rescore, use, machine, compare,
 * leaves or script, or one over the whole vault: reclaim, measure, scrub, adopt (DESIGN.md section 7). It is told by (job, task, attempt).
 * At most one attempt of a (job, task) is active: an order with a newer attempt cancels the one that runs and takes its place, an older one
 * is refused, the same one again changes nothing (one that has ended reports its end again, as long as it is remembered). The engine never
 * decides; it knows no cluster state but its orders.
 *
 * Threads: any thread may call any function here, but not from within the report callback, except
 * far_engine_data_address. Each active attempt has a thread, transfers have more; one ticker reports `running` for
 * every active attempt once a second, also for those that wait for their turn or their peer. Lifetime: far_engine_free
 * cancels everything, waits for it and reports nothing more; it must not be called with a lock held that the callback
 * takes. */
#ifndef FAR_DATAPLANE_ENGINE_H
#define FAR_DATAPLANE_ENGINE_H

#include "base/error.h"
#include "base/users.h"
#include "dataplane/captured.h"
#include "dataplane/domain.h"
#include "dataplane/reclaim.h"
#include "dataplane/scrub.h"
#include "dataplane/vault_owner.h"
#include "dataplane/vault_usage.h"
#include "farshore/adapter.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct far_net;
struct far_engine;

enum {
    FAR_ENGINE_ATTEMPTS_MAX = 1024,  /* active at once; beyond: FAR_LIMIT */
    FAR_ENGINE_TRANSFERS_MAX = 16,   /* sends, and as many receives, that move data at once; others wait for their turn */
    FAR_ENGINE_REMEMBERED_MAX = 512, /* ended attempts whose end can be reported again */
    FAR_ENGINE_DISKS_MAX = 60,       /* of one order */
    FAR_ENGINE_MISSED_MAX = 64,      /* ranges of one report; beyond, the last one reaches over all the rest */
    FAR_ENGINE_ERASED_MAX = 32,      /* domains that one report says are erased; the others come with the next one */
    FAR_ENGINE_SPACES_MAX = 256,     /* plans whose space one report tells */
    FAR_ENGINE_LIMITS_MAX = 1000,    /* plans with a bandwidth limit of their own */
    FAR_ENGINE_USES_MAX = 16,        /* uses of points at once, each a child process; beyond: FAR_BUSY */
    FAR_ENGINE_RANGES_MAX = 64,      /* of one report of a use */
    FAR_ENGINE_ENTRIES_MAX = 256,    /* the same */
    FAR_ENGINE_ENTRIES_BYTES = 16384, /* of them together */
    FAR_ENGINE_LEFT_MAX = 16,         /* of one report of a machine */
    FAR_ENGINE_MACHINE_TEXT_BYTES = 16384,
};

enum far_engine_compress {
    FAR_ENGINE_COMPRESS_AUTO = 0, /* when the pipe is slower than the processor */
    FAR_ENGINE_COMPRESS_ALWAYS = 1,
    FAR_ENGINE_COMPRESS_NEVER = 2,
};

struct far_engine_config {
    struct far_net *net;         /* borrowed until far_engine_free */
    const char *listen_address;  /* data port, "host:0" = any; NULL: this node never receives */
    const char *vault_dir;       /* NULL: not a target */
    const char *cache_dir;       /* of leaf maps at the source; NULL: every cycle offers everything */
    const char *node_dir;        /* the node's own folder; NULL: none. Nothing is recovered into it, vault or cache */
    uint64_t memory_bytes;       /* all block buffers; 0 = 128 MiB, at least 16 MiB */
    uint32_t worker_count;       /* hashing threads of one transfer; 0 = number of processors, at most 8 */
    uint64_t checkpoint_bytes;   /* of an intermediate checkpoint at the target; 0 = 500 MB */
    uint64_t checkpoint_ms;      /* or after this time; 0 = 10,000 */
    uint64_t idle_ms;            /* a peer that says nothing for so long is gone; 0 = 20,000 */
    uint8_t cluster_uuid[16];          /* into the manifests of points; whose the vault has to be (vault_owner.h). All zero: none */
    enum far_engine_compress compress; /* zstd on the wire and in the vault; incompressible blocks never */
    const struct far_adapter *const *adapters; /* borrowed, ends with NULL; see adapters/adapters.h */
    /* Uses of points (tasks_use.c), borrowed: */
    const char *use_program; /* farshore-node, whose offline commands they run; NULL: this node has no uses */
    const char *export_dir;  /* the folder in which they may make files; NULL or "": none */
    uint32_t nbd_write_percent; /* of what is free there: so much may be written to a point that is opened writable; 0: 25 */
    const char *nbd_address; /* besides loopback they may serve at this address, by TLS only; NULL or "": nowhere */
    /* Machines of recovered disks (tasks_machine.c), borrowed; NULL or "": none: */
    const char *machines_place; /* the platform that they run on, in its adapter's words: "kvm:///" */
    uint64_t hydrate_bytes_per_s; /* so fast a disk is written out from under its machine at the most; 0: no bound */
    const char *recovery_dir;   /* the folder below which their disks are made (run_folder.h) */
    const char *scripts_dir;    /* scripts that gates and plans run (script_child.h), */
    const char *scripts_user;   /* and as whom */
};

/* The numbers are those of task_kind in the log. */
enum far_engine_kind {
    FAR_ENGINE_FREEZE = 1,
    FAR_ENGINE_SEND = 2,
    FAR_ENGINE_RECEIVE = 3,
    FAR_ENGINE_SEAL = 4,
    FAR_ENGINE_RELEASE = 5,
    FAR_ENGINE_RESTORE = 6,
    FAR_ENGINE_VERIFY = 7,
    FAR_ENGINE_FORGET = 8,
    FAR_ENGINE_RECLAIM = 9,
    FAR_ENGINE_LOCK = 10,
    FAR_ENGINE_MEASURE = 11,
    FAR_ENGINE_RESCORE = 12,
    FAR_ENGINE_SCRUB = 13,
    FAR_ENGINE_ADOPT = 14,
    FAR_ENGINE_USE = 15,
    FAR_ENGINE_MACHINE = 16,
    FAR_ENGINE_SEED = 17,
    FAR_ENGINE_COMPARE = 18,
    FAR_ENGINE_LEAVES = 19,
    FAR_ENGINE_SCRIPT = 20,
};

struct far_engine_disk {
    const char *name;
    const char *locator;
};

struct far_engine_point_disk {
    uint64_t disk_index;
    uint64_t disk_id;
    const char *name;
    uint64_t size_bytes;
    uint8_t root[32];
};

/* What walks a whole vault brings every domain that it holds; of a destroyed one nothing but its name, for the vault to erase it. */
struct far_engine_vault_domain {
    uint64_t id; /* in the log */
    bool destroyed;
    struct far_domain_keys keys;
};

/* What a point is used for. The numbers are those of point_use in the log. */
enum far_engine_use_operation {
    FAR_ENGINE_USE_OPEN = 1,
    FAR_ENGINE_USE_EXPORT = 2,
    FAR_ENGINE_USE_DIFF = 3,
    FAR_ENGINE_USE_COPY = 4,
    FAR_ENGINE_USE_HYDRATE = 5,
    FAR_ENGINE_USE_LIST = 6,
    FAR_ENGINE_USE_GET = 7,
};

/* struct far_sub_use in plain C. */
struct far_engine_use {
    enum far_engine_use_operation operation;
    uint64_t other_point_id;
    const char *path;
    bool is_qcow2; /* else raw */
    bool writable;
    const char *listen; /* ADDRESS:PORT; "": a socket in the node's folder */
    uint64_t duration_s; /* from now on. open: 0: until it is canceled; hydrate: so long it waits for somebody to use it */
    const char *guest_path;
    const char *backing;
    uint64_t range_offset;    /* diff: so many ranges are counted and not told */
    uint64_t write_bytes_max; /* open, writable; 0: a share of what is free (nbd_write_percent) */
};

/* What is done with a machine. The numbers are those of machine_operation in the log. */
enum far_engine_machine_operation {
    FAR_ENGINE_MACHINE_UP = 1,
    FAR_ENGINE_MACHINE_GATE = 2,
    FAR_ENGINE_MACHINE_DESTROY = 3,
    FAR_ENGINE_MACHINE_SOURCE_OFF = 4,
    FAR_ENGINE_MACHINE_SOURCE_ON = 5,
    FAR_ENGINE_MACHINE_KEEP = 6,
    FAR_ENGINE_MACHINE_HYDRATE = 7,
};

/* The numbers are those of gate_kind in the log. */
enum far_engine_gate_kind {
    FAR_ENGINE_GATE_ADDRESS = 1,
    FAR_ENGINE_GATE_PORT = 2,
    FAR_ENGINE_GATE_AGENT = 3,
    FAR_ENGINE_GATE_SCRIPT = 4,
    FAR_ENGINE_GATE_PERSON = 5,
};

struct far_engine_machine_disk {
    const char *name;
    const char *source; /* its locator at the source */
    const char *target; /* below recovery_dir, or an NBD URI; "": the machine comes up without it */
    bool is_qcow2;      /* else raw */
};

/* struct far_sub_machine_order in plain C; source_off and source_on are about the disks of the order itself. */
struct far_engine_machine {
    enum far_engine_machine_operation operation;
    const char *ref;
    const char *name;
    bool isolated;
    const char *config; /* as captured; "": it was not */
    uint64_t processors, memory_bytes;
    int firmware; /* enum far_adapter_firmware */
    const struct far_adapter_machine_nic *nics;
    size_t nic_count;
    const struct far_adapter_machine_network *networks;
    size_t network_count;
    const struct far_adapter_machine_tag *tags;
    size_t tag_count;
    const struct far_engine_machine_disk *disks;
    size_t disk_count;
    enum far_engine_gate_kind gate;
    uint64_t gate_port;
    const char *gate_script;
    uint64_t timeout_s; /* gate, source_off; 0: 300 */
    bool force;         /* source_off: when the time is over its power is cut */
    bool at_once;       /* up: its disks are served from the vault: served.h */
};

/* struct far_sub_script_order in plain C. */
struct far_engine_script {
    const char *name;
    uint8_t sha256[32];
    const char *phase, *kind; /* "before_cycle"; of the job: "replicate" */
    const char *machine, *address;
    bool isolated;
    const char *result; /* "": it is told none */
    uint64_t timeout_s;
};

/* A place in a vault that a scrub found damaged. */
enum { FAR_ENGINE_DAMAGES_MAX = 16 };
struct far_engine_damage {
    uint64_t point_id;
    char disk[64];
    uint64_t first_block;
    uint64_t block_count;
};

/* struct far_sub_order in plain C. Strings and lists are borrowed for far_engine_start; a NULL string is an empty
 * one. */
struct far_engine_order {
    uint64_t job_id;
    uint64_t task;
    uint64_t attempt;
    enum far_engine_kind kind;
    uint64_t lease_ms; /* information only: whoever holds the lease calls far_engine_cancel when it ends */
    uint64_t incarnation_epoch;
    uint64_t plan_epoch;
    uint64_t plan_id;
    const char *plan;
    uint64_t workload_id;
    const char *workload;
    const char *adapter; /* "file", or "fault:file?read_delay_us=500": name[:inner][?key=value&key=value] */
    const struct far_engine_disk *disks; /* freeze, release: all disks of the workload */
    size_t disk_count;
    uint64_t disk_index;
    uint64_t disk_id;
    const char *disk;
    const char *locator;
    uint64_t size_bytes;
    bool has_base_root; /* false on the first cycle */
    uint8_t base_root[32];
    const char *freeze_ref;
    uint64_t peer_node_id;
    bool has_peer_fingerprint; /* then only the node with this key is believed to be the peer */
    uint8_t peer_fingerprint[32];
    const char *peer_address; /* send, receive: this side opens the connections, there; empty: it waits for the peer's */
    uint64_t point_id;
    const struct far_engine_point_disk *point_disks; /* seal */
    size_t point_disk_count;
    uint8_t root[32]; /* restore, verify */
    const char *target_path;
    uint64_t frozen_at_ms;
    bool fuzzy;
    uint64_t checkpoint_id;
    const char *site;
    /* send: the token of the base point's view in the platform's list of changes; NULL or "": there is no list, everything
     * is read. Blocks of the audit are read and hashed whether the list names them or not, from audit_first_block on,
     * around the end of the disk. `full`: everything is read and hashed, whatever the list says. */
    const char *since;
    uint64_t audit_first_block;
    uint64_t audit_blocks;
    bool full;
    uint64_t due_ms; /* send, receive: when the promised RPO is broken, cluster time; 0: nothing is promised. Of the
                      * transfers that wait for memory, the one that is due first goes first */
    const struct far_engine_vault_domain *vault_domains;
    size_t vault_domain_count;
    uint64_t domain_id; /* in the log; into the report of what touched it in a vault */
    bool has_domain; /* the plan's dedup domain is a keyed one */
    struct far_domain_keys domain; /* send: uuid, name and secret alone (generation 0); at the target all of it */
    uint64_t lock_until_ms; /* seal, lock: the point is not forgotten before; 0: it is not locked */
    uint64_t pass, delete_before; /* reclaim: as dataplane/reclaim.h says */
    bool secure;                  /* the same */
    const uint64_t *erase_disk_ids; /* reclaim: their replicas become empty first */
    size_t erase_disk_count;
    struct far_scrub_order scrub; /* scrub */
    const uint64_t *plan_ids;     /* reclaim, measure: whose space is told */
    size_t plan_count;
    uint64_t adopt_base, adopt_span; /* adopt: how numbers are exchanged; 0: only whose the vault is, and what it needs of numbers */
    uint64_t adopt_after;            /* adopt: points behind this one of the vault */
    const char *const *adopt_plans;  /* adopt: of these alone */
    size_t adopt_plan_count;
    /* send, receive: these blocks of the disk are offered whether they changed or not, and the target looks at its own copy first; seal: is
     * looked at whether they are good now, those of all disks */
    struct far_engine_damage damages[FAR_ENGINE_DAMAGES_MAX];
    size_t damage_count;
    bool proven;     /* release: the view became a point, its place in the lineage of changes is kept */
    struct far_engine_use use; /* use */
    bool has_config_hash; /* freeze: the log knows this configuration of the workload's machine as the newest; seal: of `config` */
    uint8_t config_hash[32];
    const uint8_t *config; /* seal: what the machine was, as it was reported, and how it is to be brought up: as in the manifest */
    size_t config_len;
    const uint8_t *recovery;
    size_t recovery_len;
    struct far_engine_machine machine; /* machine */
    /* compare: `since` of each of the disks, of which point_disks says what they are compared with; "": everything is read. A disk without
     * a locator is none any more. compare, leaves: disk_id is that by which the two find each other */
    const char *const *since_each;
    struct far_engine_script script;   /* script */
};

/* The numbers are those of report_state in the log. */
enum far_engine_state { FAR_ENGINE_RUNNING = 1, FAR_ENGINE_DONE = 2, FAR_ENGINE_FAILED = 3 };

struct far_engine_found {
    uint64_t disk_index;
    uint64_t size_bytes;
    char identity[128];
    char token[128]; /* of this view in the platform's list of changes; "": it keeps none */
};

/* What holds a transfer up at present. The numbers are those of `bottleneck` in the log. */
enum far_engine_bottleneck {
    FAR_ENGINE_UNKNOWN = 0,
    FAR_ENGINE_SOURCE_READ = 1,
    FAR_ENGINE_LINK = 2,
    FAR_ENGINE_TARGET_WRITE = 3,
    FAR_ENGINE_PROCESSOR = 4,
    FAR_ENGINE_MEMORY = 5,   /* of this node: it waits for its turn or for buffers */
    FAR_ENGINE_THROTTLE = 6, /* a bandwidth limit */
    FAR_ENGINE_PEER = 7,     /* the other node is not there */
};

/* How a transfer goes: of a send and a receive, totals of the attempt but for the last three, which are of the moment. */
struct far_engine_figures {
    uint64_t bytes_read;   /* from the source's view */
    uint64_t bytes_zero;   /* of what was looked at: reads as zero */
    uint64_t bytes_known;  /* of what was offered: the target had it */
    uint64_t bytes_wanted; /* of what was offered: the target asked for it; less bytes_sent: saved by pages and compression */
    uint64_t window_bytes;
    uint64_t streams; /* connections that are open */
    enum far_engine_bottleneck bottleneck;
};

/* Blocks that changed although the platform's list did not name them. */
struct far_engine_missed {
    uint64_t first_block;
    uint64_t block_count;
};

/* struct far_sub_signal in plain C: what the detector says of a disk (signal.h). */
struct far_engine_signal {
    uint32_t disk_index;
    uint32_t detector;
    uint32_t score;
    uint32_t at_once;
    uint32_t by_and_by;
    uint64_t evidence;
    uint64_t changed_blocks;
    uint64_t low_to_high_blocks;
    uint64_t calm_point_id;
};

/* What a vault says of itself; reclaim, measure and scrub. */
struct far_engine_space {
    uint64_t plan_id;
    uint64_t logical_bytes, points_bytes, unique_bytes, shared_bytes;
    bool estimated;
};
/* Adopt. */
struct far_engine_adoption {
    bool is_survey;
    bool is_own; /* a survey's, as what follows: of this node's cluster */
    struct far_vault_owner owner;
    struct far_vault_survey survey;
    uint64_t pass;              /* of the last reclaim */
    struct far_adopted adopted; /* else */
};
struct far_engine_vault {
    far_users users; /* far_engine_vault_ref() */
    bool is_reclaimed;
    struct far_reclaim_result reclaimed;
    struct far_scrub_result *scrubbed; /* NULL: it was no scrub */
    struct far_engine_adoption *adoption; /* NULL: nor an adoption */
    struct far_vault_usage usage;
    size_t space_count;
    struct far_engine_space spaces[FAR_ENGINE_SPACES_MAX];
};
/* Whoever keeps one beyond the callback takes part in it; the last one frees it. NULL is allowed. */
struct far_engine_vault *far_engine_vault_ref(struct far_engine_vault *vault);
void far_engine_vault_unref(struct far_engine_vault *vault);

/* What has come of a use so far: struct far_sub_use_result in plain C. */
struct far_engine_range {
    uint64_t offset, length;
};
struct far_engine_used {
    far_users users; /* far_engine_used_ref() */
    char uri[1100];
    char path[1025];
    uint64_t bytes, range_count, writes;
    uint64_t write_bytes, write_bytes_max; /* of the layer of what is opened writable */
    bool write_full;
    bool truncated;
    size_t range_room; /* of ranges, those that are filled in */
    struct far_engine_range ranges[FAR_ENGINE_RANGES_MAX];
    size_t entry_count, entry_bytes;
    char entries[FAR_ENGINE_ENTRIES_BYTES]; /* each with a 0 behind */
};
/* As far_engine_vault_ref(). What is told does not change any more. */
struct far_engine_used *far_engine_used_ref(struct far_engine_used *used);
void far_engine_used_unref(struct far_engine_used *used);

/* What has come of an operation on a machine: struct far_sub_machine_result in plain C. */
struct far_engine_machined {
    far_users users; /* far_engine_machined_ref() */
    char address[64];
    char state[32];
    uint64_t platform_ms, waited_ms;
    bool was_off, was_forced;
    size_t left_count;
    char left[FAR_ENGINE_LEFT_MAX][256];
    size_t disk_count; /* as what its disks can be protected themselves */
    struct far_engine_disk disks[FAR_ENGINE_DISKS_MAX];
    size_t text_bytes;                       /* of `text` */
    char text[FAR_ENGINE_MACHINE_TEXT_BYTES]; /* what `disks` points to */
};
/* As far_engine_vault_ref(). */
struct far_engine_machined *far_engine_machined_ref(struct far_engine_machined *machined);
void far_engine_machined_unref(struct far_engine_machined *machined);

/* What a comparison found: struct far_sub_lost_result in plain C. */
struct far_engine_lost_disk {
    uint64_t disk_id;
    char name[64];
    uint64_t size_bytes, compared_bytes, lost_bytes;
    uint64_t extent_count;
    size_t extent_room; /* of extents, those that are filled in */
    struct far_engine_range extents[FAR_ENGINE_RANGES_MAX];
    bool by_list, skipped;
    char problem[200];
};
struct far_engine_lost {
    far_users users; /* far_engine_lost_ref() */
    bool runs;
    uint64_t written_ms;
    size_t disk_count;
    struct far_engine_lost_disk disks[FAR_ENGINE_DISKS_MAX];
};
/* As far_engine_vault_ref(). */
struct far_engine_lost *far_engine_lost_ref(struct far_engine_lost *lost);
void far_engine_lost_unref(struct far_engine_lost *lost);
/* What has come of a script: struct far_sub_script_result in plain C. */
struct far_engine_scripted {
    far_users users; /* far_engine_scripted_ref() */
    uint32_t status;
    bool is_killed, is_late;
    char output[1001]; /* the last of what it wrote, UTF-8 */
    uint64_t duration_ms;
};
/* As far_engine_vault_ref(). */
struct far_engine_scripted *far_engine_scripted_ref(struct far_engine_scripted *scripted);
void far_engine_scripted_unref(struct far_engine_scripted *scripted);

/* struct far_sub_report_item in plain C; counters are totals of the attempt. */
struct far_engine_report {
    uint64_t job_id;
    uint64_t task;
    uint64_t attempt;
    enum far_engine_state state;
    uint64_t bytes_total;
    uint64_t bytes_done;
    uint64_t bytes_changed;
    uint64_t bytes_sent;
    uint64_t duration_ms;
    bool has_root;
    uint8_t root[32];
    uint64_t size_bytes;
    char freeze_ref[128];
    bool fuzzy;
    uint64_t frozen_at_ms;
    const struct far_engine_found *disks; /* freeze; borrowed for the callback */
    size_t disk_count;
    enum far_adapter_outcome outcome;
    int error_class;         /* enum far_class; FAR_OK but on failed */
    char error_message[400]; /* for the operator */
    uint64_t blocks_damaged;
    uint64_t erased_domains[FAR_ENGINE_ERASED_MAX]; /* done: destroyed, and erased in this vault */
    size_t erased_domain_count;
    uint64_t domain_id;
    uint64_t domain_generation; /* done, of what touched a keyed domain: of the key that its file in this vault is sealed with */
    bool full;     /* send: every byte of the view was hashed in this attempt */
    bool survives; /* freeze: the view outlives this process */
    bool shared;   /* freeze: and every node of the site can open it */
    struct far_engine_figures figures;
    /* send, done: */
    uint64_t hashed_bytes;       /* of the view, in this attempt */
    uint64_t audited_blocks;     /* of hashed_bytes: blocks that the list did not name */
    uint64_t audit_next_block;   /* where the next audit goes on */
    uint64_t missed_block_count; /* audited, and changed */
    struct far_engine_missed missed[FAR_ENGINE_MISSED_MAX];
    size_t missed_count;
    struct far_engine_signal signals[FAR_ENGINE_DISKS_MAX]; /* done, of a seal or rescore */
    size_t signal_count;
    struct far_engine_damage damages[FAR_ENGINE_DAMAGES_MAX]; /* done, of a seal: those of the order, the first ones healed */
    size_t damage_count, healed_count;

    struct far_engine_vault *vault; /* reclaim, measure, scrub: done; borrowed for the callback */
    struct far_engine_used *used;   /* use: running too; the same */
    struct far_captured *captured;  /* freeze: done, the same; NULL: the platform has no machines */
    struct far_engine_machined *machined; /* machine: done or failed; the same */
    struct far_engine_lost *lost;   /* compare: done; the same */
    struct far_engine_scripted *scripted; /* script: the same; NULL: it did not begin */
    char resync_reason[200]; /* why the list could not be used, in the platform's words; "": it was, or there is none */
};

/* Runs on a thread of the engine; the report is borrowed for the call. Reports of one attempt come one at a time and in
 * order, the last is done or failed. Of a canceled attempt, at most the report that is being delivered still comes. */
typedef void far_engine_report_fn(void *arg, const struct far_engine_report *report);

/* Opens the vault (recovering it after a crash), listens on the data port, starts the threads. The vault and the
 * address belong to this engine until it is freed. FAR_LIMIT: not enough memory for the buffers; FAR_IO, FAR_CORRUPT,
 * FAR_BUSY as the vault says. */
int far_engine_new(const struct far_engine_config *config, far_engine_report_fn *report, void *arg,
                   struct far_engine **ret_engine, struct far_error *err);

/* Takes one attempt up; what becomes of it comes as reports, the first of them possibly before this returns.
 * FAR_CONFLICT: a newer attempt of the same task was seen; FAR_INVALID: the order is not one; FAR_LIMIT: too many at
 * once. */
int far_engine_start(struct far_engine *engine, const struct far_engine_order *order, struct far_error *err);

/* Ends an attempt (any older one too) without a report; does not wait for its threads, but a later attempt does before
 * it touches anything. Canceling what is not there is no error. */
void far_engine_cancel(struct far_engine *engine, uint64_t job_id, uint64_t task, uint64_t attempt);

/* Tasks of which this node keeps notes until the log knows how they ended (use_place.h), but for those that have an attempt here; at most
 * max, perhaps some of them twice. far_engine_settle: it does. */
struct far_engine_task {
    uint64_t job_id;
    uint64_t task;
};
size_t far_engine_kept(struct far_engine *engine, struct far_engine_task *ret_tasks, size_t max);
void far_engine_settle(struct far_engine *engine, uint64_t job_id, uint64_t task);

/* Bandwidth limits of what this node sends, in bytes a second; 0: none; 1: nothing goes, a pause. They hold at once, until they are
 * set again; what is under way goes on. FAR_LIMIT: more than FAR_ENGINE_LIMITS_MAX plans. */
struct far_engine_plan_limit {
    uint64_t plan_id;
    uint64_t bytes_per_s;
};
int far_engine_set_limits(struct far_engine *engine, uint64_t bytes_per_s, const struct far_engine_plan_limit *plans,
                          size_t plan_count, struct far_error *err);

/* host:port of the data listener; "" without one. */
const char *far_engine_data_address(const struct far_engine *engine);

struct far_vault;
/* The vault of this node, NULL if it is not a target; for offline commands and tests. Lives as long as the engine. */
struct far_vault *far_engine_vault(struct far_engine *engine);

void far_engine_free(struct far_engine *engine); /* NULL is allowed */

#endif
