/* The table of commands: see cli.h. */
#include "cli.h"

#define NO_OPTIONS {{.name = NULL}}
#define WAIT {"wait", CLI_SWITCH, NULL, false, NULL, NULL, NULL, "follow the job to its end, with progress"}
#define LIST(noun_, path_, columns_, ...) \
    {.noun = noun_, .verb = "list", .help = "list all " noun_ "s", .run = cli_run_list, .path = path_, .columns = columns_, \
     .options = {__VA_ARGS__}}
#define SHOW(noun_, argument_, path_) \
    {.noun = noun_, .verb = "show", .argument = argument_, .help = "show one " noun_ " with its parts", \
     .run = cli_run_show, .path = path_ "/%s"}
#define REMOVE(noun_, argument_, path_, help_) \
    {.noun = noun_, .verb = "remove", .argument = argument_, .help = help_, .run = cli_run_write, .method = "DELETE", \
     .path = path_ "/%s", .done = "removed"}
#define FILTER(name_, value_, help_) {name_, CLI_TEXT, value_, false, NULL, NULL, NULL, help_}

const struct cli_option cli_global_options[] = {
    {"server", CLI_TEXT, "URL[,URL…]", false, NULL, NULL, NULL, "servers to talk to (FARSHORE_SERVER)"},
    {"token-file", CLI_TEXT, "FILE", false, NULL, NULL, NULL, "file with the API token (FARSHORE_TOKEN_FILE)"},
    {"ca", CLI_TEXT, "FILE", false, NULL, NULL, NULL, "certificate of the cluster's CA (FARSHORE_CA)"},
    {"timeout", CLI_NUMBER, "SECONDS", false, NULL, NULL, NULL, "give up after so long (30)"},
    {"output", CLI_TEXT, "table|json", false, NULL, NULL, NULL, "-o: how to print"},
    {"help", CLI_SWITCH, NULL, false, NULL, NULL, NULL, "-h: this help"},
    {"version", CLI_SWITCH, NULL, false, NULL, NULL, NULL, "print the version"},
    {.name = NULL},
};

const struct cli_command cli_commands[] = {
    {.noun = "cluster", .verb = "init", .help = "make a new cluster with this machine as its first server",
     .run = cli_run_farshored, .path = "init",
     .options = {{"dir", CLI_TEXT, "DIR", true, NULL, NULL, NULL, "folder of the server"},
                 {"cluster", CLI_TEXT, "NAME", true, NULL, NULL, NULL, "name of the cluster"},
                 {"name", CLI_TEXT, "NAME", true, NULL, NULL, NULL, "name of the server"},
                 {"api", CLI_TEXT, "HOST:PORT", true, NULL, NULL, NULL, "where users reach it over HTTPS"},
                 {"peer", CLI_TEXT, "HOST:PORT", true, NULL, NULL, NULL, "where servers and nodes reach it"}}},
    {.noun = "cluster", .verb = "join", .help = "make this machine a further server of a cluster",
     .run = cli_run_farshored, .path = "join",
     .options = {{"dir", CLI_TEXT, "DIR", true, NULL, NULL, NULL, "folder of the server"},
                 {"token", CLI_TEXT, "TOKEN", true, NULL, NULL, NULL, "join token (farshore server create), or @FILE"},
                 {"name", CLI_TEXT, "NAME", true, NULL, NULL, NULL, "name of the server, as in the token"},
                 {"api", CLI_TEXT, "HOST:PORT", true, NULL, NULL, NULL, "where users reach it over HTTPS"},
                 {"peer", CLI_TEXT, "HOST:PORT", true, NULL, NULL, NULL, "where servers and nodes reach it"}}},
    {.noun = "cluster", .verb = "status", .help = "show the cluster, its servers and where the log stands",
     .run = cli_run_status, .path = "/v1/cluster"},

    LIST("server", "/v1/servers", "id:ID name:NAME role:ROLE site:SITE api_address:API peer_address:PEER",
         FILTER("role", "ROLE", "only with this role")),
    SHOW("server", "NAME", "/v1/servers"),
    {.noun = "server", .verb = "create", .argument = "NAME", .help = "make a join token for a new server",
     .run = cli_run_token, .method = "POST", .path = "/v1/tokens", .body = "{\"purpose\": \"join_server\"}",
     .argument_field = "name",
     .options = {{"site", CLI_TEXT, "SITE", true, "site", NULL, NULL, "the site where it stands"},
                 {"valid", CLI_NUMBER, "SECONDS", false, NULL, NULL, NULL, "how long the token is good (3600)"}}},
    {.noun = "server", .verb = "promote", .argument = "NAME", .help = "let a standby vote",
     .run = cli_run_write, .method = "POST", .path = "/v1/servers/%s/role", .body = "{\"role\": \"voter\"}",
     .done = "will be promoted"},
    {.noun = "server", .verb = "remove", .argument = "NAME", .help = "take a server out of the cluster",
     .run = cli_run_write, .method = "DELETE", .path = "/v1/servers/%s", .done = "will be removed"},

    LIST("site", "/v1/sites", "id:ID name:NAME role:ROLE created_ms:CREATED"),
    SHOW("site", "NAME", "/v1/sites"),
    {.noun = "site", .verb = "create", .argument = "NAME", .help = "create a site",
     .run = cli_run_write, .method = "POST", .path = "/v1/sites", .argument_field = "name", .done = "created",
     .options = {{"role", CLI_TEXT, "ROLE", true, "role", NULL, NULL, "protected, recovery or witness"}}},
    REMOVE("site", "NAME", "/v1/sites", "remove a site that nothing uses"),

    LIST("node", "/v1/nodes", "id:ID name:NAME state:STATE site:SITE data_address:DATA seen_ms:SEEN",
         FILTER("site", "SITE", "only of this site"), FILTER("state", "STATE", "only in this state")),
    SHOW("node", "NAME", "/v1/nodes"),
    {.noun = "node", .verb = "create", .argument = "NAME", .help = "make a join token for a new node",
     .run = cli_run_token, .method = "POST", .path = "/v1/tokens", .body = "{\"purpose\": \"join_node\"}",
     .argument_field = "name",
     .options = {{"site", CLI_TEXT, "SITE", true, "site", NULL, NULL, "the site where it stands"},
                 {"valid", CLI_NUMBER, "SECONDS", false, NULL, NULL, NULL, "how long the token is good (3600)"}}},
    REMOVE("node", "NAME", "/v1/nodes", "remove a node"),

    LIST("workload", "/v1/workloads", "id:ID name:NAME site:SITE adapter:ADAPTER disk_count:DISKS plan:PLAN",
         FILTER("site", "SITE", "only of this site"), FILTER("plan", "PLAN", "only of this plan")),
    SHOW("workload", "NAME", "/v1/workloads"),
    {.noun = "workload", .verb = "create", .argument = "NAME", .help = "register a workload with its disks",
     .run = cli_run_write, .method = "POST", .path = "/v1/workloads", .argument_field = "name", .done = "created",
     .options = {{"site", CLI_TEXT, "SITE", true, "site", NULL, NULL, "where it runs"},
                 {"adapter", CLI_TEXT, "NAME", true, "adapter", NULL, NULL, "\"file\" for disk images and block devices"},
                 {"disk", CLI_PAIRS, "NAME=PATH", true, "disks", "name", "locator", "a disk; once for each"}}},
    REMOVE("workload", "NAME", "/v1/workloads", "remove a workload that no plan protects"),

    LIST("plan", "/v1/plans",
         "id:ID name:NAME state:STATE source_site:FROM target_site:TO workload_count:WORKLOADS interval_s:EVERY_S "
         "last_checkpoint_id:CHECKPOINT",
         FILTER("site", "SITE", "only from or to this site"), FILTER("state", "STATE", "only in this state")),
    SHOW("plan", "NAME", "/v1/plans"),
    {.noun = "plan", .verb = "create", .argument = "NAME", .help = "create a plan: what is replicated from where to where",
     .run = cli_run_write, .method = "POST", .path = "/v1/plans", .argument_field = "name", .done = "created",
     .options = {{"source", CLI_TEXT, "SITE", true, "source_site", NULL, NULL, "the protected site"},
                 {"target", CLI_TEXT, "SITE", true, "target_site", NULL, NULL, "the recovery site"},
                 {"workload", CLI_TEXTS, "NAME[,NAME…]", true, "workloads", NULL, NULL, "what it protects"},
                 {"interval", CLI_NUMBER, "SECONDS", false, "interval_s", NULL, NULL, "a cycle so often (0: by hand)"}}},
    REMOVE("plan", "NAME", "/v1/plans", "remove a plan that runs no cycle"),
    {.noun = "plan", .verb = "start", .argument = "NAME", .help = "start the cycles of a plan",
     .run = cli_run_write, .method = "POST", .path = "/v1/plans/%s/start", .done = "started"},
    {.noun = "plan", .verb = "stop", .argument = "NAME", .help = "stop the cycles of a plan",
     .run = cli_run_write, .method = "POST", .path = "/v1/plans/%s/stop", .done = "stopped"},
    {.noun = "plan", .verb = "replicate", .argument = "NAME", .help = "run one cycle now",
     .run = cli_run_job, .method = "POST", .path = "/v1/plans/%s/replicate", .options = {WAIT}},

    LIST("job", "/v1/jobs",
         "id:ID kind:KIND state:STATE plan:PLAN started_ms:STARTED bytes_done:DONE bytes_total:OF bytes_changed:CHANGED "
         "bytes_sent:SENT error_message:ERROR",
         FILTER("plan", "PLAN", "only of this plan"), FILTER("state", "STATE", "only in this state"),
         FILTER("kind", "KIND", "only of this kind")),
    {.noun = "job", .verb = "show", .argument = "ID", .help = "show one job with a short table of its tasks",
     .run = cli_run_job_show, .path = "/v1/jobs/%s",
     .options = {{"all", CLI_SWITCH, NULL, false, NULL, NULL, NULL, "every field of the job and of each task"}}},
    {.noun = "job", .verb = "wait", .argument = "ID", .help = "follow a job to its end, with progress",
     .run = cli_run_job_wait, .path = "/v1/jobs/%s"},
    {.noun = "job", .verb = "cancel", .argument = "ID", .help = "cancel a running job",
     .run = cli_run_write, .method = "POST", .path = "/v1/jobs/%s/cancel", .done = "will be canceled"},

    LIST("checkpoint", "/v1/checkpoints",
         "id:ID plan:PLAN state:STATE created_ms:CREATED member_count:MEMBERS failed_count:FAILED skew_ms:SKEW_MS",
         FILTER("plan", "PLAN", "only of this plan"), FILTER("state", "STATE", "only in this state")),
    SHOW("checkpoint", "ID", "/v1/checkpoints"),
    {.noun = "checkpoint", .verb = "verify", .argument = "ID", .help = "read every block in the vault and compare",
     .run = cli_run_job, .method = "POST", .path = "/v1/checkpoints/%s/verify", .options = {WAIT}},
    REMOVE("checkpoint", "ID", "/v1/checkpoints", "remove a checkpoint"),

    LIST("point", "/v1/points",
         "id:ID workload:WORKLOAD plan:PLAN checkpoint_id:CHECKPOINT state:STATE proof:PROOF frozen_at_ms:FROZEN "
         "disk_count:DISKS",
         FILTER("workload", "NAME", "only of this workload"), FILTER("plan", "PLAN", "only of this plan")),
    SHOW("point", "ID", "/v1/points"),

    LIST("token", "/v1/tokens", "id:ID name:NAME purpose:PURPOSE site:SITE created_ms:CREATED expires_ms:EXPIRES "
                                "used_ms:USED revoked:REVOKED"),
    {.noun = "token", .verb = "create", .argument = "NAME", .help = "create an API token; it is shown once",
     .run = cli_run_token, .method = "POST", .path = "/v1/tokens", .argument_field = "name",
     .options = {{"purpose", CLI_TEXT, "PURPOSE", false, "purpose", NULL, NULL, "api (as usual), join_server, join_node"},
                 {"site", CLI_TEXT, "SITE", false, "site", NULL, NULL, "join tokens: the site"},
                 {"valid", CLI_NUMBER, "SECONDS", false, NULL, NULL, NULL, "how long it is good (api: for ever)"}}},
    REMOVE("token", "ID", "/v1/tokens", "revoke a token"),

    {.noun = "recover", .argument = "PLAN", .help = "write a workload's recovery point out to raw disks",
     .run = cli_run_job, .method = "POST", .path = "/v1/plans/%s/recover",
     .options = {{"workload", CLI_TEXT, "NAME", true, "workload", NULL, NULL, "which workload"},
                 {"disk", CLI_PAIRS, "NAME=PATH", true, "disks", "disk", "path", "where a disk goes; once for each"},
                 {"checkpoint", CLI_NUMBER, "ID", false, "checkpoint_id", NULL, NULL, "not the newest, but this one"},
                 WAIT}},
    {.noun = "events", .help = "print the events of the cluster", .run = cli_run_events,
     .options = {{"follow", CLI_SWITCH, NULL, false, NULL, NULL, NULL, "go on with new ones; without --from only those"},
                 {"from", CLI_TEXT, "PLACE", false, NULL, NULL, NULL, "start, end, an event's number, a cursor, a time"},
                 {"to", CLI_TEXT, "PLACE", false, NULL, NULL, NULL, "end with this event, cursor or time"},
                 {"limit", CLI_NUMBER, "COUNT", false, NULL, NULL, NULL, "end after so many (at most 1000)"},
                 {"kind", CLI_TEXTS, "KIND[,KIND…]", false, NULL, NULL, NULL, "only of these kinds"},
                 FILTER("severity", "SEVERITY", "at least: info, notice, warning, error"),
                 FILTER("subject", "OBJECT", "that name this object: an id, plan:gold, job:17"),
                 FILTER("plan", "PLAN", "about this plan"), FILTER("site", "SITE", "about this site"),
                 FILTER("proof", "none|headers|full", "compute the chain over every event, prove filter and payload"),
                 FILTER("consumer", "NAME", "from the place of this consumer; acknowledge what was printed")}},
    LIST("consumer", "/v1/consumers", "id:ID name:NAME seq:DONE lag:LAG acked_ms:ACKED created_ms:CREATED", {.name = NULL}),
    SHOW("consumer", "NAME", "/v1/consumers"),
    {.noun = "consumer", .verb = "create", .argument = "NAME", .help = "make a named place in the events",
     .run = cli_run_write, .method = "POST", .path = "/v1/consumers", .argument_field = "name", .done = "created",
     .options = {{"from", CLI_TEXT, "PLACE", false, "from", NULL, NULL, "end (as usual), start, an event's number, a cursor"}}},
    REMOVE("consumer", "NAME", "/v1/consumers", "forget a consumer"),
    {.noun = "log", .verb = "verify",
     .help = "prove that the log is whole: all servers alike, or offline everything in a server's folder",
     .run = cli_run_log_verify,
     .options = {{"dir", CLI_TEXT, "DIR", false, NULL, NULL, NULL, "folder of a server that is not running"}}},
    {.noun = NULL},
};
