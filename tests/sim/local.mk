# The seeded simulation of log, WAL and driver: docs/SIMULATION.md. sim runs seeds; sim_broken breaks something on purpose.
UNIT_TESTS += tests/sim/sim tests/sim/sim_broken
check_LTLIBRARIES += libsim.la
libsim_la_SOURCES = tests/sim/sim.h tests/sim/sim_apply.c tests/sim/sim_call.c tests/sim/sim_check.c tests/sim/sim_clients.c tests/sim/sim_compact.c \
	tests/sim/sim_consumers.c tests/sim/sim_count.c tests/sim/sim_count.h tests/sim/sim_disk.c tests/sim/sim_faults.c tests/sim/sim_forced.c tests/sim/sim_heads.c \
	tests/sim/sim_history.c \
	tests/sim/sim_install.c tests/sim/sim_net.c tests/sim/sim_nodes.c tests/sim/sim_orders.c tests/sim/sim_past.c tests/sim/sim_propose.c \
	tests/sim/sim_run.c tests/sim/sim_scenarios.c tests/sim/sim_server.c tests/sim/sim_swarm.c tests/sim/sim_world.c
libsim_la_LIBADD = libnode.la liblog.la libnet.la
tests_sim_sim_SOURCES = tests/sim/sim.c
tests_sim_sim_LDADD = libsim.la
tests_sim_sim_broken_SOURCES = tests/sim/sim_broken.c
tests_sim_sim_broken_LDADD = libsim.la
