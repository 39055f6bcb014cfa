noinst_LTLIBRARIES += libcli.la
libcli_la_SOURCES = \
	src/cli/backup_command.c \
	src/cli/changes.c \
	src/cli/cli.c src/cli/cli.h \
	src/cli/events_command.c \
	src/cli/figures_command.c \
	src/cli/head_command.c \
	src/cli/help.c \
	src/cli/log_command.c \
	src/cli/output.c \
	src/cli/parse.c \
	src/cli/plan_command.c \
	src/cli/foretell.c \
	src/cli/rebuild_command.c \
	src/cli/recovery_command.c \
	src/cli/replace_command.c \
	src/cli/request.c \
	src/cli/resync_command.c \
	src/cli/run_command.c \
	src/cli/runs.c \
	src/cli/settings.c \
	src/cli/spawn.c \
	src/cli/commands.c \
	src/cli/throttle_command.c \
	src/cli/use_command.c \
	src/cli/vault_command.c \
	src/cli/verify_command.c \
	src/cli/wait.c \
	src/cli/wizard_command.c
libcli_la_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) -DFARSHORE_VERSION=\"$(PACKAGE_VERSION)\"
libcli_la_LIBADD = libfarshore.la libbase.la $(JANSSON_LIBS)

bin_PROGRAMS += src/cli/farshore
src_cli_farshore_SOURCES = src/cli/farshore.c
src_cli_farshore_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
src_cli_farshore_LDADD = libcli.la
