/* The table of routes and the parser of queries: see route.h. */
#include "api/route.h"

#include <stddef.h>

#define GET_LIST(plural, table, text)                                                                     \
    {.method = FAR_HTTP_GET, .pattern = "/v1/" plural, .action = FAR_ROUTE_LIST, .schema = &far_schema_row_##table, \
     .summary = text}
#define GET_ONE(plural, param, table, text)                                                                  \
    {.method = FAR_HTTP_GET, .pattern = "/v1/" plural "/{" param "}", .action = FAR_ROUTE_OBJECT,           \
     .schema = &far_schema_row_##table, .summary = text}
#define COMMAND(http_method, path, command, ok, ...)                                                           \
    {.method = FAR_HTTP_##http_method, .pattern = path, .action = FAR_ROUTE_COMMAND,                         \
     .schema = &far_schema_cmd_##command, .status = ok, __VA_ARGS__}

/* The bandwidth limit of a node, plan or site. */
#define THROTTLE(plural, table, text)                                                                                        \
    {.method = FAR_HTTP_GET, .pattern = "/v1/" plural "/{name}/throttle", .action = FAR_ROUTE_THROTTLE,                     \
     .schema = &far_schema_row_##table, .summary = "The bandwidth limit of a " text},                                      \
    {.method = FAR_HTTP_POST, .pattern = "/v1/" plural "/{name}/throttle", .action = FAR_ROUTE_THROTTLE_SET,                \
     .schema = &far_schema_cmd_throttle_set, .status = 200, .path_field = "name", .fixed_field = "scope",                  \
     .fixed_value = FAR_throttle_scope_##table, .rule = {"bytes_per_s zone windows", NULL},                                \
     .summary = "Set the bandwidth limit of a " text ", instead of the one that it has"},                                  \
    COMMAND(DELETE, "/v1/" plural "/{name}/throttle", throttle_remove, 200, .path_field = "name", .fixed_field = "scope",    \
            .fixed_value = FAR_throttle_scope_##table, .rule = {"", NULL}, .summary = "Remove the bandwidth limit of a " text)

const struct far_route far_routes[] = {
    {.method = FAR_HTTP_GET, .pattern = "/healthz", .action = FAR_ROUTE_HEALTH, .open = true,
     .summary = "Is the process alive"},
    {.method = FAR_HTTP_GET, .pattern = "/readyz", .action = FAR_ROUTE_READY, .open = true,
     .summary = "Does this server know a leader and keep up with it"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/openapi.json", .action = FAR_ROUTE_OPENAPI, .open = true,
     .summary = "This document"},
    {.method = FAR_HTTP_GET, .pattern = "/metrics", .action = FAR_ROUTE_METRICS, .is_long = true,
     .summary = "Metrics in the text format of Prometheus"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/cluster", .action = FAR_ROUTE_CLUSTER,
     .summary = "The cluster, this server's view of the log, and the members"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/cluster/recovery-policy", .action = FAR_ROUTE_RECOVERY_POLICY,
     .summary = "What a forced recovery needs"},
    COMMAND(POST, "/v1/cluster/recovery-policy", recovery_policy_set, 200, .rule = {"second_approval", "second_approval"},
            .summary = "Say what a forced recovery needs"),
    {.method = FAR_HTTP_GET, .pattern = "/v1/cluster/backups", .action = FAR_ROUTE_BACKUP_LIST, .is_long = true,
     .summary = "The backups that this server keeps"},
    {.method = FAR_HTTP_POST, .pattern = "/v1/cluster/backups", .action = FAR_ROUTE_BACKUP_MAKE, .is_long = true,
     .status = 201, .summary = "Make a backup of the whole cluster on this server"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/cluster/backups/{name}", .action = FAR_ROUTE_BACKUP_PIECE, .is_long = true,
     .summary = "A piece of a backup (docs/FORMATS.md), from a byte on, as hexadecimal digits"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/log/head", .action = FAR_ROUTE_LOG_HEAD,
     .summary = "Where the log stands on this server: last event, chain head, digest of the state"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/log/retention", .action = FAR_ROUTE_RETENTION,
     .summary = "How long events are kept, in how many bytes, and the oldest that stays after the last cut"},
    COMMAND(POST, "/v1/log/retention", retention_set, 200, .rule = {"days bytes progress_days", "days bytes"},
            .summary = "Say how long events are kept"),
    COMMAND(POST, "/v1/log/forget", history_forget, 200, .rule = {"before", "before"}, .keeps_history = true,
            .summary = "Let the history begin later, where no server holds the events before any more"),
    {.method = FAR_HTTP_GET, .pattern = "/v1/log/heads", .action = FAR_ROUTE_LOG_HEADS,
     .summary = "Heads of the log that were proposed to be signed, the newest first, with who counts and who signed or refused"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/log/diff", .action = FAR_ROUTE_LOG_DIFF, .is_long = true,
     .summary = "What changed between two moments, row by row"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/log/explain", .action = FAR_ROUTE_LOG_EXPLAIN, .is_long = true,
     .summary = "How an object came to be as it is: the events that changed it, newest first, and their causes"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/log/export", .action = FAR_ROUTE_LOG_EXPORT, .is_long = true,
     .summary = "A piece of an export of the log (docs/FORMATS.md), as hexadecimal bytes"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/events", .action = FAR_ROUTE_EVENTS,
     .summary = "Follow the events, as server-sent events or NDJSON"},
    {.method = FAR_HTTP_POST, .pattern = "/v1/join", .action = FAR_ROUTE_JOIN, .open = true, .status = 201,
     .summary = "Join as a server or node with a single-use token: get a certificate"},

    {.method = FAR_HTTP_POST, .pattern = "/v1/cluster/skip-entry", .action = FAR_ROUTE_SKIP_ENTRY, .status = 202,
     .summary = "Have the log entry skipped at which this server, and every other, is in safe mode"},
    COMMAND(POST, "/v1/cluster/transfer", leader_transfer, 202, .rule = {"to", "to"},
            .summary = "Hand leadership over to a voter that is no witness"),

    GET_LIST("servers", server, "List servers"),
    GET_ONE("servers", "name", server, "One server"),
    COMMAND(POST, "/v1/servers/{name}/role", server_role_set, 202, .path_field = "name",
            .rule = {"role", "role"}, .keeps_history = true, .summary = "Promote a standby to voter, or take a server out"),
    COMMAND(POST, "/v1/servers/{name}/site", server_site_set, 200, .path_field = "name", .rule = {"site", "site"},
            .summary = "Say at which site a server stands"),
    COMMAND(DELETE, "/v1/servers/{name}", server_role_set, 202, .path_field = "name", .rule = {"", NULL},
            .fixed_field = "role", .fixed_value = FAR_server_role_removed, .keeps_history = true,
            .summary = "Take a server out of the cluster"),

    GET_LIST("consumers", consumer, "List consumers of the events, with their lag"),
    {.method = FAR_HTTP_POST, .pattern = "/v1/consumers", .action = FAR_ROUTE_CONSUMER_CREATE,
     .schema = &far_schema_cmd_consumer_create, .status = 201, .rule = {"name", "name"},
     .summary = "Create a named consumer at a place in the events"},
    GET_ONE("consumers", "name", consumer, "One consumer"),
    COMMAND(DELETE, "/v1/consumers/{name}", consumer_remove, 200, .path_field = "name", .rule = {"", NULL},
            .summary = "Remove a consumer"),
    {.method = FAR_HTTP_POST, .pattern = "/v1/consumers/{name}/ack", .action = FAR_ROUTE_CONSUMER_ACK,
     .schema = &far_schema_cmd_consumer_ack, .status = 202, .path_field = "name",
     .summary = "A consumer has done with everything up to a cursor"},

    GET_LIST("sites", site, "List sites"),
    COMMAND(POST, "/v1/sites", site_create, 201, .rule = {NULL, "name role"}, .summary = "Create a site"),
    GET_ONE("sites", "name", site, "One site"),
    {.method = FAR_HTTP_PATCH, .pattern = "/v1/sites/{name}", .action = FAR_ROUTE_PATCH,
     .schema = &far_schema_cmd_site_update, .status = 200, .path_field = "name",
     .rule = {"parallel_sends parallel_recoveries clear revision", NULL},
     .summary = "Change what a site's platform bears at a time: what is not named stays, null is no limit; If-Match holds it to a "
                "revision"},
    COMMAND(DELETE, "/v1/sites/{name}", site_remove, 200, .path_field = "name", .rule = {"", NULL},
            .summary = "Remove a site that nothing uses"),

    GET_LIST("nodes", node, "List nodes"),
    GET_ONE("nodes", "name", node, "One node"),
    COMMAND(DELETE, "/v1/nodes/{name}", node_remove, 200, .path_field = "name", .rule = {"", NULL},
            .summary = "Remove a node"),
    COMMAND(POST, "/v1/nodes/{name}/drain", node_drain, 200, .path_field = "name", .rule = {"", NULL},
            .summary = "Give a node no new work, and have it hand over what others can do as well"),
    COMMAND(POST, "/v1/nodes/{name}/undrain", node_undrain, 200, .path_field = "name", .rule = {"", NULL},
            .summary = "Let a drained node take part again"),

    GET_LIST("workloads", workload, "List workloads"),
    COMMAND(POST, "/v1/workloads", workload_create, 201, .rule = {NULL, "name site adapter disks"},
            .summary = "Register a workload with its disks"),
    GET_ONE("workloads", "name", workload, "One workload, with its disks"),
    {.method = FAR_HTTP_PATCH, .pattern = "/v1/workloads/{name}", .action = FAR_ROUTE_PATCH,
     .schema = &far_schema_cmd_workload_update, .status = 200, .path_field = "name",
     .rule = {"description labels disks clear revision adapter", NULL},
     .summary = "Change a workload: what is not named stays, null clears; If-Match holds it to a revision"},
    COMMAND(POST, "/v1/workloads/{name}/recovery", recovery_set, 200, .path_field = "workload", .rule = {"config", "config"},
            .summary = "Say how a workload is brought up on the far side, instead of what was set"),
    COMMAND(DELETE, "/v1/workloads/{name}/recovery", recovery_set, 200, .path_field = "workload", .rule = {"", NULL},
            .summary = "Bring a workload up on the far side as it was at the source"),
    COMMAND(DELETE, "/v1/workloads/{name}", workload_remove, 200, .path_field = "name", .rule = {"", NULL},
            .summary = "Remove a workload that no plan protects"),

    GET_LIST("plans", plan, "List plans"),
    COMMAND(POST, "/v1/plans", plan_create, 201, .rule = {NULL, "name source_site target_site workloads"},
            .summary = "Create a plan; it is stopped at first"),
    GET_ONE("plans", "name", plan, "One plan, with its workloads"),
    COMMAND(DELETE, "/v1/plans/{name}", plan_remove, 200, .path_field = "name", .rule = {"", NULL},
            .summary = "Remove a plan that runs no cycle"),
    COMMAND(POST, "/v1/plans/{name}/start", plan_start, 200, .path_field = "name", .rule = {"", NULL},
            .summary = "Start the cycles of a plan"),
    COMMAND(POST, "/v1/plans/{name}/pause", plan_pause, 200, .path_field = "name", .rule = {"until_ms", NULL},
            .summary = "Let no cycle of an active plan begin until it is resumed, or until a time"),
    COMMAND(POST, "/v1/plans/{name}/resume", plan_resume, 200, .path_field = "name", .rule = {"", NULL},
            .summary = "Let the cycles of a paused plan begin again"),
    COMMAND(POST, "/v1/plans/{name}/stop", plan_stop, 200, .path_field = "name", .rule = {"", NULL},
            .summary = "Stop the cycles of a plan"),
    COMMAND(POST, "/v1/plans/{name}/replicate", plan_replicate, 202, .path_field = "name", .rule = {"", NULL},
            .summary = "One cycle now; the answer's id is the job's"),
    {.method = FAR_HTTP_PATCH, .pattern = "/v1/plans/{name}", .action = FAR_ROUTE_PATCH,
     .schema = &far_schema_cmd_plan_update, .status = 200, .path_field = "name",
     .rule = {"audit_age_s audit_ppm full_age_s lock_days rpo_s rto_s clear revision", NULL},
     .summary = "Change a plan's policies: what is not named stays, null is as usual; If-Match holds it to a revision"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/plans/{name}/spec", .action = FAR_ROUTE_PLAN_SPEC,
     .summary = "A whole plan as PUT takes it: what was set, and nothing else"},
    {.method = FAR_HTTP_PUT, .pattern = "/v1/plans/{name}/spec", .action = FAR_ROUTE_PLAN_APPLY,
     .schema = &far_schema_cmd_plan_apply, .status = 200, .path_field = "name",
     .rule = {"name source_site target_site domain state interval_s rpo_s rto_s audit_age_s audit_ppm full_age_s lock_days workloads "
              "networks schedule retention throttle scripts consistency_groups revision",
              "source_site target_site workloads"},
     .summary = "Make a plan, or change it in one step to what is said here; what is not named is as if it had never been set"},
    COMMAND(POST, "/v1/plans/{name}/networks", plan_networks_set, 200, .path_field = "name", .rule = {"networks", NULL},
            .summary = "Say where the networks of a plan's source are on the far side, instead of what was set"),
    {.method = FAR_HTTP_POST, .pattern = "/v1/plans/{name}/schedule", .action = FAR_ROUTE_SCHEDULE_SET,
     .schema = &far_schema_cmd_plan_schedule_set, .status = 200, .path_field = "name", .rule = {"interval_s schedule", NULL},
     .summary = "Say when the cycles of a plan begin, instead of what was set"},
    COMMAND(POST, "/v1/plans/{name}/workloads", plan_workloads_add, 200, .path_field = "name", .rule = {"workloads", "workloads"},
            .summary = "Take workloads into a plan; its others go on as they were"),
    COMMAND(POST, "/v1/plans/{name}/remove-workloads", plan_workloads_remove, 200, .path_field = "name",
            .rule = {"workloads with_points", "workloads"},
            .summary = "Take workloads out of a plan, while a cycle runs when it is over; their points stay in its checkpoints, or go"),
    {.method = FAR_HTTP_GET, .pattern = "/v1/plans/{name}/history", .action = FAR_ROUTE_HISTORY,
     .summary = "The newest cycles of a plan, newest first: how long, what changed, what was sent, the RPO reached"},
    {.method = FAR_HTTP_GET, .pattern = "/v1/plans/{name}/resync", .action = FAR_ROUTE_RESYNC,
     .summary = "What a resync would read, and about how long it takes by the rates of earlier cycles"},
    COMMAND(POST, "/v1/plans/{name}/resync", plan_resync, 202, .path_field = "name", .rule = {"workload disk", NULL},
            .summary = "One cycle now that hashes everything, whatever lists of changes say, and moves what differs; the answer's id is "
                       "the job's"),
    COMMAND(POST, "/v1/plans/{name}/seed", plan_seed, 202, .path_field = "name",
            .rule = {"workload disk node adapter locator", "workload node locator"},
            .summary = "Have a vault take what another disk at the target site holds, so that the first copy sends only what differs; the "
                       "answer's id is the job's"),
    {.method = FAR_HTTP_GET, .pattern = "/v1/plans/{name}/retention", .action = FAR_ROUTE_PLAN_RETENTION,
     .summary = "What the retention of a plan, or other rules, make of its checkpoints: which stay, and why, and which go"},
    {.method = FAR_HTTP_POST, .pattern = "/v1/plans/{name}/retention", .action = FAR_ROUTE_RETENTION_SET,
     .schema = &far_schema_cmd_plan_retention_set, .status = 200, .path_field = "name",
     .rule = {"last hourly daily weekly monthly zone", NULL},
     .summary = "Say which checkpoints of a plan are kept, instead of what was set"},
    COMMAND(DELETE, "/v1/plans/{name}/retention", plan_retention_set, 200, .path_field = "name", .rule = {"", NULL},
            .summary = "Keep every checkpoint of a plan"),
    COMMAND(POST, "/v1/plans/{name}/erase", plan_erase, 202, .path_field = "name", .rule = {"confirm", "confirm"},
            .summary = "Remove all checkpoints of a stopped plan, and what only they needed, from the vaults; the answer's id is the "
                       "job's"),
    COMMAND(POST, "/v1/plans/{name}/recover", recover, 202, .path_field = "plan",
            .rule = {"workload checkpoint_id disks", "workload disks"},
            .summary = "Write a workload's recovery point out to raw disks; the answer's id is the job's"),

    COMMAND(POST, "/v1/plans/{name}/test", run_start, 202, .path_field = "plan", .fixed_field = "kind",
            .fixed_value = FAR_job_kind_test_recovery, .rule = {"checkpoint_id workloads expires_s at_once", NULL},
            .summary = "Test recovery: bring the machines of a plan up apart from everything, while replication goes on; the answer's id "
                       "is the run's"),
    COMMAND(POST, "/v1/plans/{name}/failover", run_start, 202, .path_field = "plan", .fixed_field = "kind",
            .fixed_value = FAR_job_kind_failover, .rule = {"checkpoint_id workloads window_s fence_s shutdown_s force at_once", NULL},
            .summary = "Bring the machines of a plan up in the place of the source's, which are shut down where they can be reached; the "
                       "answer's id is the run's"),
    COMMAND(POST, "/v1/plans/{name}/migrate", run_start, 202, .path_field = "plan", .fixed_field = "kind",
            .fixed_value = FAR_job_kind_migration, .rule = {"workloads window_s shutdown_s force at_once", NULL},
            .summary = "Shut the machines of a plan down, carry over what they wrote last, and bring them up at the recovery site; the "
                       "answer's id is the run's"),

    COMMAND(POST, "/v1/plans/{name}/reverse", plan_reverse, 200, .path_field = "name", .rule = {"to", NULL},
            .summary = "Protect the machines of a plan that were moved in the other direction: make the plan for it, or have the one that "
                       "is there go by where they are now"),

    GET_LIST("runs", run, "List the runs of plans: test recoveries, failovers, migrations"),
    GET_ONE("runs", "id", run, "One run, with its workloads: how far each is, where, since when"),
    {.method = FAR_HTTP_GET, .pattern = "/v1/runs/{id}/report", .action = FAR_ROUTE_RUN_REPORT,
     .summary = "What a run took, step by step, how much of that was the platform's and the gates', and what it lost"},
    COMMAND(POST, "/v1/runs/{id}/finish", run_finish, 202, .path_field = "job_id", .rule = {"abandon", NULL},
            .summary = "Clean up a test, or a run that is not up; or abandon what cannot be cleaned up"),
    COMMAND(POST, "/v1/runs/{id}/commit", run_commit, 202, .path_field = "job_id", .rule = {"", NULL},
            .summary = "Keep the machines that a failover or migration brought up"),
    COMMAND(POST, "/v1/runs/{id}/roll-back", run_roll_back, 202, .path_field = "job_id", .rule = {"", NULL},
            .summary = "Take the machines of a failover or migration away again, and start those of the source"),
    COMMAND(POST, "/v1/runs/{id}/pass", run_pass, 200, .path_field = "job_id", .rule = {"workload", "workload"},
            .summary = "Open the gate that a workload waits for; or go on without a script of it (by the plan's name: of the plan), "
                       "or without one that is not up"),
    COMMAND(POST, "/v1/runs/{id}/retry", run_retry, 202, .path_field = "job_id", .rule = {"", NULL},
            .summary = "Try what failed in a run again"),
    COMMAND(POST, "/v1/runs/{id}/compare", run_compare, 202, .path_field = "job_id", .rule = {"", NULL},
            .summary = "Hold the source of a failover against what was recovered, now: what was lost? It is done by itself once the source "
                       "is back; the answer's id is the job's"),

    GET_LIST("jobs", job, "List jobs"),
    GET_ONE("jobs", "id", job, "One job, with its tasks"),
    COMMAND(POST, "/v1/jobs/{id}/cancel", job_cancel, 202, .path_field = "job_id", .rule = {"", NULL},
            .summary = "Cancel a running job"),

    GET_LIST("checkpoints", checkpoint, "List checkpoints"),
    GET_ONE("checkpoints", "id", checkpoint, "One checkpoint, with its members and their points"),
    COMMAND(DELETE, "/v1/checkpoints/{id}", checkpoint_remove, 200, .path_field = "checkpoint_id", .rule = {"", NULL},
            .summary = "Remove a checkpoint"),
    COMMAND(POST, "/v1/checkpoints/{id}/verify", checkpoint_verify, 202, .path_field = "checkpoint_id",
            .rule = {"", NULL}, .summary = "Read every block of a checkpoint and compare; the answer's id is the job's"),

    COMMAND(POST, "/v1/checkpoints/{id}/rescore", checkpoint_rescore, 202, .path_field = "checkpoint_id", .rule = {"", NULL},
            .summary = "Judge a checkpoint's points anew by the detector of the nodes that hold them; the answer's id is the job's"),
    COMMAND(POST, "/v1/checkpoints/{id}/open", checkpoint_use, 202, .path_field = "checkpoint_id", .fixed_field = "operation",
            .fixed_value = FAR_point_use_open, .rule = {"workload disk writable write_bytes_max listen duration_s", NULL},
            .summary = "Open a disk of a checkpoint over NBD on the node of its vault, until the job is canceled or its time is over; the "
                       "answer's id is the job's"),
    COMMAND(POST, "/v1/checkpoints/{id}/export", checkpoint_use, 202, .path_field = "checkpoint_id", .fixed_field = "operation",
            .fixed_value = FAR_point_use_export, .rule = {"workload disk path format other_checkpoint_id backing", "path"},
            .summary = "Write a disk of a checkpoint to a file of the node that holds it; the answer's id is the job's"),
    COMMAND(POST, "/v1/checkpoints/{id}/diff", checkpoint_use, 202, .path_field = "checkpoint_id", .fixed_field = "operation",
            .fixed_value = FAR_point_use_diff, .rule = {"workload disk other_checkpoint_id range_offset path", "other_checkpoint_id"},
            .summary = "Tell which bytes of a disk differ between two checkpoints; the answer's id is the job's"),
    COMMAND(POST, "/v1/checkpoints/{id}/copy", checkpoint_use, 202, .path_field = "checkpoint_id", .fixed_field = "operation",
            .fixed_value = FAR_point_use_copy, .rule = {"workload path", "path"},
            .summary = "Copy a point of a checkpoint into a second vault of the node that holds it; the answer's id is the job's"),
    COMMAND(POST, "/v1/checkpoints/{id}/hydrate", checkpoint_use, 202, .path_field = "checkpoint_id", .fixed_field = "operation",
            .fixed_value = FAR_point_use_hydrate, .rule = {"workload disk path listen duration_s", "path"},
            .summary = "Instant recovery: open a disk for reading and writing at once and write it out meanwhile; the answer's id is the "
                       "job's"),
    COMMAND(POST, "/v1/checkpoints/{id}/list", checkpoint_use, 202, .path_field = "checkpoint_id", .fixed_field = "operation",
            .fixed_value = FAR_point_use_list, .rule = {"workload disk guest_path", "guest_path"},
            .summary = "List a folder of the file systems on a disk of a checkpoint; the answer's id is the job's"),
    COMMAND(POST, "/v1/checkpoints/{id}/get", checkpoint_use, 202, .path_field = "checkpoint_id", .fixed_field = "operation",
            .fixed_value = FAR_point_use_get, .rule = {"workload disk guest_path path", "guest_path path"},
            .summary = "Take a file out of the file systems on a disk of a checkpoint; the answer's id is the job's"),
    COMMAND(POST, "/v1/checkpoints/{id}/preserve", checkpoint_preserve, 200, .path_field = "checkpoint_id",
            .rule = {"reason", "reason"}, .summary = "Keep a checkpoint until it is given free, whatever the retention says"),
    COMMAND(POST, "/v1/checkpoints/{id}/unpreserve", checkpoint_unpreserve, 200, .path_field = "checkpoint_id", .rule = {"", NULL},
            .summary = "Give a preserved checkpoint free"),
    COMMAND(POST, "/v1/checkpoints/{id}/lock", checkpoint_lock, 202, .path_field = "checkpoint_id", .rule = {"until_ms", "until_ms"},
            .summary = "Let nobody remove a checkpoint before a time, which only moves on; the answer's id is the job's that tells the "
                       "vaults"),

    GET_LIST("vaults", vault, "List the vaults of nodes"),
    GET_ONE("vaults", "node", vault, "The vault of a node: what it holds of each plan, its policy, when it is full"),
    COMMAND(POST, "/v1/vaults/{node}/reclaim", vault_reclaim, 202, .path_field = "node", .rule = {"", NULL},
            .summary = "Give back what nothing in a vault needs any more; the answer's id is the job's"),
    COMMAND(POST, "/v1/vaults/{node}/measure", vault_measure, 202, .path_field = "node", .rule = {"", NULL},
            .summary = "Measure what a vault holds of each plan; the answer's id is the job's"),
    COMMAND(POST, "/v1/vaults/{node}/scrub", vault_scrub, 202, .path_field = "node", .rule = {"bytes", NULL},
            .summary = "Read what a vault keeps, from where the last scrub ended, and name what is damaged; the answer's id is the job's"),
    COMMAND(POST, "/v1/vaults/{node}/adopt", vault_adopt, 202, .path_field = "node", .rule = {"plans", NULL},
            .summary = "Take over what the vault of a node holds of a cluster that is gone; the answer's id is the job's"),
    COMMAND(POST, "/v1/vaults/{node}/trust", vault_trust, 200, .path_field = "node", .rule = {"fingerprint", "fingerprint"},
            .summary = "Say that the keys that the vault of a node was found with are right"),
    COMMAND(POST, "/v1/vaults/{node}/policy", vault_policy_set, 200, .path_field = "node",
            .rule = {"reclaim_interval_s reclaim_off scrub_bytes_per_hour", NULL},
            .summary = "Give the vault of a node a policy of its own"),
    {.method = FAR_HTTP_GET, .pattern = "/v1/vault-policy", .action = FAR_ROUTE_VAULT_POLICY,
     .summary = "How vaults are looked after that have no policy of their own"},
    COMMAND(POST, "/v1/vault-policy", vault_policy_set, 200, .rule = {"reclaim_interval_s reclaim_off scrub_bytes_per_hour", NULL},
            .summary = "Say how vaults are looked after that have no policy of their own"),

    GET_LIST("points", point, "List recovery points"),
    GET_ONE("points", "id", point, "One recovery point, with its disks"),

    GET_LIST("alerts", alert, "List alerts, those that were cleared not long ago included"),
    GET_ONE("alerts", "id", alert, "One alert"),
    COMMAND(POST, "/v1/alerts/{id}/ack", alert_ack, 200, .path_field = "alert_id", .rule = {"note", NULL},
            .summary = "Say that a person has seen an alert; it is open until its cause is gone"),

    GET_LIST("throttles", throttle, "List the bandwidth limits of nodes, plans and sites"),
    THROTTLE("nodes", node, "node: what it sends"),
    THROTTLE("plans", plan, "plan: what all nodes send for it"),
    THROTTLE("sites", site, "site: what all of its nodes send"),
    GET_LIST("zones", zone, "List the time zones that calendars of limits go by"),
    GET_ONE("zones", "id", zone, "One time zone: from when on its clocks are how far from UTC"),
    {.method = FAR_HTTP_POST, .pattern = "/v1/zones", .action = FAR_ROUTE_ZONE, .schema = &far_schema_cmd_zone_set, .status = 200,
     .rule = {"name", "name"}, .summary = "Read the rules of a time zone anew from this server's machine"},

    GET_LIST("domains", domain, "List dedup domains"),
    {.method = FAR_HTTP_POST, .pattern = "/v1/domains", .action = FAR_ROUTE_DOMAIN_CREATE, .schema = &far_schema_cmd_domain_create,
     .status = 201, .rule = {"name is_default", "name"},
     .summary = "Make a dedup domain: plans in it are encrypted at rest, with a key of its own"},
    GET_ONE("domains", "name", domain, "One dedup domain, with the vaults that hold it and the key that each is sealed with"),
    {.method = FAR_HTTP_POST, .pattern = "/v1/domains/{name}/rotate", .action = FAR_ROUTE_DOMAIN_ROTATE,
     .schema = &far_schema_cmd_domain_rotate, .status = 200, .path_field = "name", .rule = {"generation", NULL},
     .summary = "Give a dedup domain a new key; no data is written anew"},
    COMMAND(POST, "/v1/domains/{name}/destroy", domain_destroy, 200, .path_field = "name", .rule = {"confirm", NULL},
            .summary = "Forget the keys of a dedup domain: what it holds can never be read again"),

    GET_LIST("tokens", token, "List tokens, never their secrets"),
    {.method = FAR_HTTP_POST, .pattern = "/v1/tokens", .action = FAR_ROUTE_TOKEN,
     .schema = &far_schema_cmd_token_create, .status = 201,
     .rule = {"name purpose expires_ms site replaces", "name purpose"},
     .summary = "Create a token; its text is in this answer and nowhere else"},
    COMMAND(DELETE, "/v1/tokens/{id}", token_revoke, 200, .path_field = "token_id", .rule = {"", NULL},
            .summary = "Revoke a token; the last one that lets anybody in stays"),
    {.pattern = NULL},
};

/* ---- paths ---- */

static bool is_name_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

/* Does path fit the pattern? Fills param with what stood for {…}. */
static bool fits(const char *pattern, struct far_slice path, char param[FAR_ROUTE_PARAM_MAX + 1])
{
    size_t at = 0;
    for (; *pattern != '\0'; pattern++) {
        if (*pattern != '{') {
            if (at >= path.len || path.data[at++] != (uint8_t)*pattern) {
                return false;
            }
            continue;
        }
        size_t len = 0;
        for (; at < path.len && is_name_byte(path.data[at]); at++) {
            if (len >= FAR_ROUTE_PARAM_MAX) {
                return false;
            }
            param[len++] = (char)path.data[at];
        }
        param[len] = '\0';
        pattern = strchr(pattern, '}');
        if (len == 0) {
            return false;
        }
    }
    return at == path.len;
}

void far_route_match(enum far_http_method method, struct far_slice path, struct far_match *ret_match)
{
    memset(ret_match, 0, sizeof *ret_match);
    enum far_http_method wanted = method == FAR_HTTP_HEAD ? FAR_HTTP_GET : method;
    for (const struct far_route *route = far_routes; route->pattern != NULL; route++) {
        char param[FAR_ROUTE_PARAM_MAX + 1] = "";
        if (!fits(route->pattern, path, param)) {
            continue;
        }
        ret_match->methods |= 1U << route->method;
        ret_match->methods |= route->method == FAR_HTTP_GET ? 1U << FAR_HTTP_HEAD : 0;
        if (route->method == wanted) {
            ret_match->route = route;
            memcpy(ret_match->param, param, sizeof param);
            return;
        }
    }
}

/* ---- numbers, cursors, ids ---- */

static bool parse_u64(struct far_slice text, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (text.len == 0 || text.len > 18) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    *ret_value = value;
    return true;
}

int far_cursor_parse(struct far_slice text, struct far_cursor *ret_cursor, struct far_error *err)
{
    struct far_cursor cursor = {0};
    const uint8_t *dash = text.len == 0 ? NULL : memchr(text.data, '-', text.len);
    size_t digits = dash == NULL ? text.len : (size_t)(dash - text.data);
    cursor.has_head = dash != NULL;
    cursor.is_whole = dash != NULL && text.len - digits - 1 == 2 * sizeof cursor.head;
    bool good = parse_u64(far_slice(text.data, digits), &cursor.seq);
    if (good && dash != NULL) {
        good = far_hex_decode((const char *)dash + 1, text.len - digits - 1, cursor.head,
                              cursor.is_whole ? sizeof cursor.head : FAR_CURSOR_HEAD);
    }
    if (!good) {
        return far_fail(err, FAR_INVALID, "a place in the events must be '<seq>' or '<seq>-<16 or 64 hexadecimal digits>'");
    }
    *ret_cursor = cursor;
    return 0;
}

void far_cursor_format(const struct far_cursor *cursor, char text[FAR_CURSOR_TEXT_MAX])
{
    char hex[2 * sizeof cursor->head + 1] = "";
    if (cursor->has_head) {
        far_hex_encode(cursor->head, cursor->is_whole ? sizeof cursor->head : FAR_CURSOR_HEAD, hex);
    }
    snprintf(text, FAR_CURSOR_TEXT_MAX, "%llu%s%s", (unsigned long long)cursor->seq, cursor->has_head ? "-" : "", hex);
}

/* ---- times ---- */

enum { TIME_LEN = sizeof "2026-11-20T17:30:00Z" - 1 };

bool far_time_parse(struct far_slice text, uint64_t *ret_ms)
{
    struct far_moment moment;
    size_t digits = 0;
    if (text.len > 1 && text.data[0] == '@') {
        return parse_u64(far_slice(text.data + 1, text.len - 1), ret_ms);
    }
    if (text.len < TIME_LEN || text.data[10] != 'T') {
        return false;
    }
    while (text.data[TIME_LEN - 1] == '.' && TIME_LEN + digits < text.len && text.data[TIME_LEN + digits] >= '0' &&
           text.data[TIME_LEN + digits] <= '9') {
        digits++;
    }
    if (digits > 3 || far_moment_parse(text, &moment, NULL) != 0 || moment.kind != FAR_MOMENT_TIME) {
        return false;
    }
    *ret_ms = moment.value;
    return true;
}

int far_if_match_parse(const char *text, bool *ret_any, uint64_t *ret_revision, struct far_error *err)
{
    struct far_slice number = far_slice_str(text);
    *ret_any = strcmp(text, "*") == 0;
    if (number.len >= 2 && number.data[0] == '"' && number.data[number.len - 1] == '"') {
        number = far_slice(number.data + 1, number.len - 2);
    }
    return *ret_any || parse_u64(number, ret_revision)
               ? 0
               : far_fail(err, FAR_INVALID, "If-Match must be * or one revision, as in the object's ETag: \"3\"");
}

int far_command_id_parse(const char *text, uint8_t ret_id[16], struct far_error *err)
{
    char digits[33];
    size_t count = 0, len = strlen(text);
    bool uuid = len == 36;
    for (size_t i = 0; i < len && count < 33; i++) {
        bool dash_place = i == 8 || i == 13 || i == 18 || i == 23;
        if (uuid && dash_place) {
            if (text[i] != '-') {
                break;
            }
            continue;
        }
        digits[count++] = text[i];
    }
    uint8_t id[16];
    static const uint8_t zero[16];
    if (count != 32 || (len != 32 && len != 36) || !far_hex_decode(digits, 32, id, sizeof id) ||
        memcmp(id, zero, sizeof id) == 0) {
        return far_fail(err, FAR_INVALID, "Idempotency-Key must be a UUID or 32 hexadecimal digits, not all zero");
    }
    memcpy(ret_id, id, sizeof id);
    return 0;
}

/* ---- queries ---- */

enum argument_type {
    NUMBER, COUNT, TEXT, SUBJECT, KINDS, FLAG_LINEARIZABLE, FLAG_FORMAT, FLAG_FOLLOW, FLAG_PROOF, FLAG_DRY_RUN, FLAG_FORCE, PLACE,
    PLACE_TO, MOMENT,
};
enum { TEXT_MAX = 63, SUBJECT_MAX = 80, KINDS_MAX = 1024 };

static const struct argument {
    const char *name;
    enum argument_type type;
    size_t offset;
} known_arguments[] = {
    {"limit", NUMBER, offsetof(struct far_query, limit)},
    {"cursor", NUMBER, offsetof(struct far_query, cursor)},
    {"last", COUNT, offsetof(struct far_query, last)},
    {"hourly", COUNT, offsetof(struct far_query, hourly)},
    {"daily", COUNT, offsetof(struct far_query, daily)},
    {"weekly", COUNT, offsetof(struct far_query, weekly)},
    {"monthly", COUNT, offsetof(struct far_query, monthly)},
    {"min_index", NUMBER, offsetof(struct far_query, min_index)},
    {"consistency", FLAG_LINEARIZABLE, 0},
    {"site", TEXT, offsetof(struct far_query, site)},
    {"plan", TEXT, offsetof(struct far_query, plan)},
    {"workload", TEXT, offsetof(struct far_query, workload)},
    {"disk", TEXT, offsetof(struct far_query, disk)},
    {"node", TEXT, offsetof(struct far_query, node)},
    {"state", TEXT, offsetof(struct far_query, state)},
    {"kind", KINDS, offsetof(struct far_query, kind)},
    {"role", TEXT, offsetof(struct far_query, role)},
    {"severity", TEXT, offsetof(struct far_query, severity)},
    {"subject", SUBJECT, offsetof(struct far_query, subject)},
    {"consumer", TEXT, offsetof(struct far_query, consumer)},
    {"from", PLACE, 0},
    {"to", PLACE_TO, 0},
    {"proof", FLAG_PROOF, 0},
    {"format", FLAG_FORMAT, 0},
    {"follow", FLAG_FOLLOW, 0},
    {"at", MOMENT, offsetof(struct far_query, at)},
    {"until", MOMENT, offsetof(struct far_query, until)},
    {"object", TEXT, offsetof(struct far_query, object)},
    {"dry_run", FLAG_DRY_RUN, 0},
    {"force", FLAG_FORCE, 0},
};

static bool is(struct far_slice text, const char *word)
{
    return far_slice_equal(text, far_slice_str(word));
}

static int parse_place(struct far_slice value, struct far_query *query, struct far_error *err)
{
    if (is(value, "end")) {
        query->from = FAR_FROM_END;
        return 0;
    }
    if (is(value, "start")) {
        query->from = FAR_FROM_START;
        return 0;
    }
    if (far_time_parse(value, &query->from_ms)) {
        query->from = FAR_FROM_TIME;
        return 0;
    }
    int rc = far_cursor_parse(value, &query->from_cursor, err);
    query->from = query->from_cursor.has_head ? FAR_FROM_CURSOR : FAR_FROM_SEQ;
    return rc;
}

static int parse_to(struct far_slice value, struct far_query *query, struct far_error *err)
{
    struct far_cursor cursor = {0};
    if (far_time_parse(value, &query->to_ms)) {
        query->to = FAR_FROM_TIME;
        return 0;
    }
    int rc = far_cursor_parse(value, &cursor, err);
    query->to = FAR_FROM_SEQ;
    query->to_seq = cursor.seq;
    return rc;
}

static size_t text_max(enum argument_type type)
{
    return type == KINDS ? KINDS_MAX : type == SUBJECT ? SUBJECT_MAX : TEXT_MAX;
}

static int parse_value(const struct argument *argument, struct far_slice value, struct far_query *query,
                       struct far_error *err)
{
    void *at = (uint8_t *)query + argument->offset;
    bool good = true;
    switch (argument->type) {
    case NUMBER:
        good = parse_u64(value, at);
        query->has_limit = query->has_limit || strcmp(argument->name, "limit") == 0;
        break;
    case COUNT:
        good = parse_u64(value, at);
        query->has_keep = true;
        break;
    case TEXT:
    case SUBJECT:
    case KINDS:
        good = value.len > 0 && value.len <= text_max(argument->type);
        *(struct far_slice *)at = value;
        break;
    case FLAG_LINEARIZABLE:
        good = is(value, "linearizable") || is(value, "local");
        query->linearizable = is(value, "linearizable");
        break;
    case FLAG_FORMAT:
        good = is(value, "ndjson") || is(value, "sse");
        query->ndjson = is(value, "ndjson");
        break;
    case FLAG_FOLLOW:
        query->bounded = is(value, "0") || is(value, "false");
        good = query->bounded || is(value, "1") || is(value, "true");
        break;
    case FLAG_PROOF:
        good = is(value, "none") || is(value, "headers") || is(value, "full");
        query->proof = is(value, "full") ? FAR_STREAM_PROOF_FULL : is(value, "headers") ? FAR_STREAM_PROOF_HEADERS : FAR_STREAM_PROOF_NONE;
        break;
    case PLACE_TO:
        return parse_to(value, query, err);
    case FLAG_DRY_RUN:
        good = is(value, "true") || is(value, "false");
        query->dry_run = is(value, "true");
        break;
    case FLAG_FORCE:
        good = is(value, "true") || is(value, "false");
        query->force = is(value, "true");
        break;
    case PLACE:
        return parse_place(value, query, err);
    case MOMENT:
        return far_moment_parse(value, at, err);
    }
    return good ? 0 : far_fail(err, FAR_INVALID, "argument '%s' has no such value", argument->name);
}

int far_query_parse(const struct far_slice *arguments, size_t count, struct far_query *ret_query,
                    struct far_error *err)
{
    enum { KNOWN = sizeof known_arguments / sizeof known_arguments[0] };
    bool seen[KNOWN] = {false};
    struct far_query query = {.limit = FAR_QUERY_LIMIT_DEFAULT, .to = FAR_FROM_END};
    for (size_t i = 0; i < count; i++) {
        const uint8_t *equal = arguments[i].len == 0 ? NULL : memchr(arguments[i].data, '=', arguments[i].len);
        size_t len = equal == NULL ? arguments[i].len : (size_t)(equal - arguments[i].data);
        struct far_slice name = far_slice(arguments[i].data, len), value = far_slice(equal, 0);
        if (equal != NULL) {
            value = far_slice(equal + 1, arguments[i].len - len - 1);
        }
        size_t k = 0;
        while (k < KNOWN && !is(name, known_arguments[k].name)) {
            k++;
        }
        if (k == KNOWN || seen[k]) {
            return far_fail(err, FAR_INVALID, k == KNOWN ? "unknown argument '%.*s'" : "argument '%.*s' is given twice",
                            len > 64 ? 64 : (int)len, len == 0 ? "" : (const char *)name.data);
        }
        seen[k] = true;
        int rc = parse_value(&known_arguments[k], value, &query, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (query.limit == 0 || query.limit > FAR_QUERY_LIMIT_MAX) {
        return far_fail(err, FAR_INVALID, "argument 'limit' must be from 1 to %d", FAR_QUERY_LIMIT_MAX);
    }
    *ret_query = query;
    return 0;
}
