noinst_LTLIBRARIES += libfsm.la
libfsm_la_SOURCES = \
	src/fsm/adopted_machine.c src/fsm/adopted_point.c src/fsm/adoption.h \
	src/fsm/alert.c src/fsm/alert.h \
	src/fsm/bandwidth.c src/fsm/bandwidth.h \
	src/fsm/calendar.c src/fsm/calendar.h \
	src/fsm/checkpoint.c src/fsm/checkpoint.h \
	src/fsm/checkpoint_lock.c \
	src/fsm/cluster.c \
	src/fsm/command_memory.c \
	src/fsm/consumer.c \
	src/fsm/coverage.c src/fsm/coverage.h \
	src/fsm/deadline.c \
	src/fsm/dedup_domain.c src/fsm/dedup_domain.h \
	src/fsm/events.def \
	src/fsm/expiry.c src/fsm/expiry.h \
	src/fsm/figures.c src/fsm/figures.h \
	src/fsm/fsm.c src/fsm/fsm.h \
	src/fsm/head.c \
	src/fsm/cluster_incarnation.c \
	src/fsm/invariants.c src/fsm/invariants.h \
	src/fsm/invariants_recovery.c \
	src/fsm/invariants_run.c \
	src/fsm/ip.c src/fsm/ip.h \
	src/fsm/invariants_vault.c \
	src/fsm/job.c src/fsm/job.h \
	src/fsm/job_adopt.c \
	src/fsm/job_create.c \
	src/fsm/job_erase.c \
	src/fsm/job_finish.c \
	src/fsm/job_prune.c \
	src/fsm/job_replicate.c \
	src/fsm/job_scripts.c \
	src/fsm/run_scripts.c \
	src/fsm/script_task.c src/fsm/script_task.h \
	src/fsm/job_seed.c \
	src/fsm/job_simple.c \
	src/fsm/job_use.c src/fsm/job_use.h \
	src/fsm/job_vault.c \
	src/fsm/keep.c src/fsm/keep.h \
	src/fsm/key_trust.c \
	src/fsm/kv.h \
	src/fsm/kv_memory.c src/fsm/kv_memory.h \
	src/fsm/kv_overlay.c src/fsm/kv_overlay.h \
	src/fsm/layout.c src/fsm/layout.h \
	src/fsm/level.c \
	src/fsm/member_forget.c \
	src/fsm/machine_config.c src/fsm/machine_config.h \
	src/fsm/machines.h \
	src/fsm/node.c \
	src/fsm/node_load.c src/fsm/node_load.h \
	src/fsm/offer.c src/fsm/offer.h \
	src/fsm/plan.c src/fsm/plan_edit.h \
	src/fsm/plan_apply.c \
	src/fsm/plan_members.c \
	src/fsm/plan_moved.c \
	src/fsm/plan_pause.c \
	src/fsm/plan_reverse.c \
	src/fsm/plan_schedule.c \
	src/fsm/plan_scripts.c \
	src/fsm/query_plan.c \
	src/fsm/point.c \
	src/fsm/recovery.c src/fsm/recovery.h \
	src/fsm/recovery_check.c \
	src/fsm/refuse.c src/fsm/refuse.h \
	src/fsm/retention.c \
	src/fsm/signal_score.c \
	src/fsm/query.c src/fsm/query.h \
	src/fsm/query_limits.c \
	src/fsm/query_orders.c \
	src/fsm/query_resync.c \
	src/fsm/query_run.c \
	src/fsm/query_retention.c \
	src/fsm/query_vault.c \
	src/fsm/query_rpo.c \
	src/fsm/query_figures.c \
	src/fsm/row_copy.c src/fsm/row_copy.h \
	src/fsm/run.h \
	src/fsm/run_begin.c \
	src/fsm/run_lost.c src/fsm/run_lost.h \
	src/fsm/run_lost_order.c \
	src/fsm/run_lost_rows.c \
	src/fsm/run_order.c \
	src/fsm/run_points.c \
	src/fsm/run_rows.c \
	src/fsm/run_walk.c \
	src/fsm/row_value.c src/fsm/row_value.h \
	src/fsm/rpo.c src/fsm/rpo.h \
	src/fsm/rpo_reasons.c src/fsm/rpo_reasons.h \
	src/fsm/rows.c src/fsm/rows.h src/fsm/rows_private.h \
	src/fsm/rows_flush.c \
	src/fsm/rows_walk.c \
	src/fsm/running.c src/fsm/running.h \
	src/fsm/schema.c src/fsm/schema.h src/fsm/schema_nofields.h src/fsm/schema_undef.h \
	src/fsm/server.c \
	src/fsm/server_key.c \
	src/fsm/site.c \
	src/fsm/site_limit.c \
	src/fsm/site_limit.h \
	src/fsm/skip.c \
	src/fsm/state.c src/fsm/state.h \
	src/fsm/state_clock.c \
	src/fsm/step.c src/fsm/step.h \
	src/fsm/suspect.c \
	src/fsm/table.c src/fsm/table.h \
	src/fsm/task.c src/fsm/task.h \
	src/fsm/task_assign.c \
	src/fsm/task_group.c \
	src/fsm/task_work.c \
	src/fsm/token.c \
	src/fsm/source_heal.c \
	src/fsm/vault_row.c src/fsm/vault_row.h \
	src/fsm/job_scrub.c \
	src/fsm/workload.c \
	src/fsm/zone.c
libfsm_la_CFLAGS = $(AM_CFLAGS) $(MSGPACK_CFLAGS)
libfsm_la_LIBADD = libbase.la $(MSGPACK_LIBS)
EXTRA_DIST += docs/STATE.md
