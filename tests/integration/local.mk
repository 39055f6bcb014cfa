# Integration tests: the real programs (farlib.py). Of PARALLEL_… several run at a time (./check); the others alone.
# The longest first, so that none is left alone at the end.
PARALLEL_INTEGRATION_TESTS = \
	tests/integration/test_kvm_source.py \
	tests/integration/test_nodes.py:kill \
	tests/integration/test_kill.py:target \
	tests/integration/test_kill.py:source \
	tests/integration/test_kvm_lists.py \
	tests/integration/test_powercut.py:vault \
	tests/integration/test_kill.py:leader \
	tests/integration/test_kill.py:follower \
	tests/integration/test_use_kill.py \
	tests/integration/test_powercut.py:copy \
	tests/integration/test_runs.py \
	tests/integration/test_runs_at_once.py \
	tests/integration/test_run_kill.py \
	tests/integration/test_powercut.py:single \
	tests/integration/test_members.py \
	tests/integration/test_recover_quorum.py \
	tests/integration/test_remote_vault.py \
	tests/integration/test_powercut.py:three \
	tests/integration/test_kvm_machines.py \
	tests/integration/test_kvm_operations.py \
	tests/integration/test_powercut.py:store \
	tests/integration/test_demo.py \
	tests/integration/test_rebuild_kill.py \
	tests/integration/test_powercut.py:reclaim \
	tests/integration/test_backup.py \
	tests/integration/test_nodes.py:drain \
	tests/integration/test_vault_copy.py \
	tests/integration/test_remote_nodes.py \
	tests/integration/test_engine_kill.py \
	tests/integration/test_task_kill.py \
	tests/integration/test_coverage.py \
	tests/integration/test_checkpoint_use.py \
	tests/integration/test_recover_crash.py \
	tests/integration/test_bad_input.py \
	tests/integration/test_compaction.py \
	tests/integration/test_source_faults.py \
	tests/integration/test_safe_mode.py \
	tests/integration/test_domains.py:kill \
	tests/integration/test_vault_kill.py \
	tests/integration/test_clocks.py \
	tests/integration/test_domains.py \
	tests/integration/test_bandwidth.py \
	tests/integration/test_change_lists.py \
	tests/integration/test_target_faults.py \
	tests/integration/test_remote_clones.py \
	tests/integration/test_heads.py \
	tests/integration/test_vault_export.py \
	tests/integration/test_init.py \
	tests/integration/test_rebuild.py \
	tests/integration/test_allservers_kill.py \
	tests/integration/test_remote_faults.py \
	tests/integration/test_cluster.py \
	tests/integration/test_object_faults.py \
	tests/integration/test_nbd.py \
	tests/integration/test_forget.py \
	tests/integration/test_history.py \
	tests/integration/test_objects.py \
	tests/integration/test_vault_policy.py \
	tests/integration/test_machine_config.py \
	tests/integration/test_scripts.py \
	tests/integration/test_adopt.py \
	tests/integration/test_seed.py tests/integration/test_run_lost.py \
	tests/integration/test_replicate.py \
	tests/integration/test_remote_locks.py \
	tests/integration/test_disks.py \
	tests/integration/test_streams.py \
	tests/integration/test_vault_full.py \
	tests/integration/test_plan_apply.py \
	tests/integration/test_remote_trust.py \
	tests/integration/test_levels.py \
	tests/integration/test_vault_keep.py \
	tests/integration/test_signal.py \
	tests/integration/test_strangers.py \
	tests/integration/test_scrub.py \
	tests/integration/test_nodes.py:spread \
	tests/integration/test_objects.py:tls \
	tests/integration/test_audit.py \
	tests/integration/test_nodes.py:dial \
	tests/integration/test_signal_roc.py
INTEGRATION_TESTS = tests/integration/test_memory.py
# Only in `make check-long`: a virtual machine without KVM takes both processors for a minute or two.
LONG_INTEGRATION_TESTS = \
	tests/integration/test_run_scripts.py \
	tests/integration/test_vault_browse.py \
	tests/integration/test_kvm_lists.py:long \
	tests/integration/test_kvm_source.py:long \
	tests/integration/test_runs.py:long \
	tests/integration/test_runs_at_once.py:long \
	tests/integration/test_failback.py \
	tests/integration/test_runs_ten.py \
	tests/integration/test_kvm_operations.py:long \
	tests/integration/test_kvm_firmware.py \
	tests/integration/test_kvm_lost.py \
	tests/integration/test_task_kill.py:long:first_copy:cycle \
	tests/integration/test_task_kill.py:long:resync:recover:seed:compare:use \
	tests/integration/test_task_kill.py:long:adopt:verify:rescore:lock:forget:measure:scrub:reclaim:erase \
	tests/integration/test_run_kill.py:long:test:vault \
	tests/integration/test_run_kill.py:long:failover \
	tests/integration/test_run_kill.py:long:migrate \
	tests/integration/test_demo_guests.py \
	tests/integration/test_kvm_rpo.py
EXTRA_DIST += tests/integration/test_source_faults.py tests/integration/test_target_faults.py tests/integration/test_change_lists.py tests/integration/farlib.py tests/integration/test_rebuild.py tests/integration/test_compaction.py tests/integration/test_audit.py tests/integration/test_kill.py tests/integration/test_cluster.py \
	tests/integration/test_replicate.py tests/integration/test_bad_input.py \
	tests/integration/test_allservers_kill.py tests/integration/test_memory.py \
	tests/integration/test_powercut.py tests/integration/test_disks.py
EXTRA_DIST += tests/integration/test_nodes.py tests/integration/test_strangers.py tests/integration/test_safe_mode.py tests/integration/test_clocks.py tests/integration/test_members.py tests/integration/test_levels.py tests/integration/test_init.py tests/integration/test_demo.py tests/integration/test_streams.py
EXTRA_DIST += tests/integration/test_rebuild_kill.py tests/integration/test_history.py tests/integration/test_forget.py tests/integration/test_vault_policy.py tests/integration/test_heads.py tests/integration/test_init.py tests/integration/test_demo.py tests/integration/test_streams.py
EXTRA_DIST += tests/integration/test_levels.py tests/integration/test_recover_quorum.py tests/integration/test_recover_crash.py tests/integration/test_backup.py tests/integration/test_init.py tests/integration/test_demo.py tests/integration/test_streams.py
EXTRA_DIST += tests/integration/test_engine_kill.py tests/integration/watchlib.py
EXTRA_DIST += tests/integration/test_use_kill.py tests/integration/test_nbd.py tests/integration/test_scrub.py tests/integration/test_adopt.py tests/integration/test_machine_config.py tests/integration/test_scripts.py tests/integration/test_run_scripts.py
EXTRA_DIST += tests/integration/test_use_kill.py tests/integration/test_nbd.py tests/integration/test_scrub.py tests/integration/test_checkpoint_use.py tests/integration/test_vault_browse.py
EXTRA_DIST += tests/integration/test_signal.py tests/integration/test_signal_roc.py tests/bench/signal_features.csv.gz \
	tests/bench/bench_signal.py tests/bench/signal_kit.py tests/bench/signal_corpus.py tests/bench/signal_roc.py
EXTRA_DIST += tests/integration/test_objects.py tests/integration/test_object_faults.py
EXTRA_DIST += tests/integration/test_remote_vault.py
EXTRA_DIST += tests/integration/test_remote_nodes.py
EXTRA_DIST += tests/integration/test_remote_faults.py
EXTRA_DIST += tests/integration/test_remote_locks.py
EXTRA_DIST += tests/integration/test_remote_clones.py
EXTRA_DIST += tests/integration/test_remote_trust.py
EXTRA_DIST += tests/integration/test_run_kill.py tests/integration/remainslib.py tests/integration/test_runs_ten.py tests/integration/test_kvm_rpo.py
EXTRA_DIST += tests/integration/test_seed.py
EXTRA_DIST += tests/integration/test_run_kill.py tests/integration/test_runs_ten.py tests/integration/test_kvm_rpo.py
EXTRA_DIST += tests/integration/test_seed.py tests/integration/test_run_lost.py
EXTRA_DIST += tests/integration/test_seed.py tests/integration/test_kvm_firmware.py
EXTRA_DIST += tests/integration/test_runs.py tests/integration/test_failback.py tests/integration/runlib.py tests/integration/test_demo_guests.py
EXTRA_DIST += tests/integration/test_task_kill.py tests/integration/turnslib.py
EXTRA_DIST += tests/integration/test_kvm_lost.py tests/integration/test_runs_at_once.py
