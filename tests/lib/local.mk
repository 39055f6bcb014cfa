# What tests share. A unit test that fails allocations or system calls on purpose (faults.h) adds
#   …_LDADD = … tests/lib/libfaults.la      …_LDFLAGS = $(LINK_WITH_FAULTS)
noinst_HEADERS += tests/lib/cm.h tests/lib/faults.h tests/lib/http_alone.h tests/lib/installed.h tests/lib/remove_tree.h tests/lib/run_until.h tests/lib/until.h
check_LTLIBRARIES += tests/lib/libfaults.la
tests_lib_libfaults_la_SOURCES = tests/lib/faults.c tests/lib/faults.h
tests_lib_libfaults_la_CFLAGS = $(AM_CFLAGS) -fno-builtin
far_wrap = -Wl,--wrap=
LINK_WITH_FAULTS = $(AM_LDFLAGS) $(far_wrap)malloc $(far_wrap)calloc $(far_wrap)realloc $(far_wrap)reallocarray \
	$(far_wrap)strdup $(far_wrap)strndup $(far_wrap)aligned_alloc $(far_wrap)posix_memalign \
	$(far_wrap)open $(far_wrap)openat $(far_wrap)read $(far_wrap)pread $(far_wrap)preadv \
	$(far_wrap)write $(far_wrap)pwrite $(far_wrap)writev $(far_wrap)pwritev \
	$(far_wrap)ftruncate $(far_wrap)fallocate $(far_wrap)posix_fallocate \
	$(far_wrap)fsync $(far_wrap)fdatasync $(far_wrap)rename $(far_wrap)renameat \
	$(far_wrap)unlink $(far_wrap)unlinkat $(far_wrap)rmdir $(far_wrap)mkdir $(far_wrap)mkdirat $(far_wrap)fstat

# The power-cut shim and tool: powercut_log.h, powercut_disk.h. The rpath only makes libtool build a shared object.
noinst_HEADERS += tests/lib/powercut_log.h tests/lib/powercut_disk.h tests/lib/powercut_names.h
check_LTLIBRARIES += tests/lib/libpowercut.la
tests_lib_libpowercut_la_SOURCES = tests/lib/powercut_shim.c
tests_lib_libpowercut_la_CFLAGS = $(AM_CFLAGS) -fno-sanitize=all
tests_lib_libpowercut_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere -fno-sanitize=all
# Another wall clock for one program.
check_LTLIBRARIES += tests/lib/libclock.la
tests_lib_libclock_la_SOURCES = tests/lib/clock_shim.c
tests_lib_libclock_la_CFLAGS = $(AM_CFLAGS) -fno-sanitize=all
tests_lib_libclock_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere -fno-sanitize=all
# A program that crashes when its state is about to hold certain bytes.
check_LTLIBRARIES += tests/lib/libcrash.la
tests_lib_libcrash_la_SOURCES = tests/lib/crash_shim.c
tests_lib_libcrash_la_CFLAGS = $(AM_CFLAGS) $(LMDB_CFLAGS) -fno-sanitize=all
tests_lib_libcrash_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere -fno-sanitize=all
# A program that is killed before its n-th step.
check_LTLIBRARIES += tests/lib/libkill.la
tests_lib_libkill_la_SOURCES = tests/lib/kill_shim.c
tests_lib_libkill_la_CFLAGS = $(AM_CFLAGS) -fno-sanitize=all
tests_lib_libkill_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere -fno-sanitize=all
check_PROGRAMS += tests/lib/powercut
tests_lib_powercut_SOURCES = tests/lib/powercut.c tests/lib/powercut_disk.c tests/lib/powercut_names.c
# A CA and identities for tests of whatever speaks TLS; link it before libnet.la.
check_LTLIBRARIES += libtestpki.la
libtestpki_la_SOURCES = tests/lib/made_pki.c tests/lib/made_pki.h
libtestpki_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
libtestpki_la_LIBADD = libnet.la

# A TLS client for tests of the API.
check_LTLIBRARIES += tests/lib/libhttps.la
tests_lib_libhttps_la_SOURCES = tests/lib/https.c tests/lib/https.h
tests_lib_libhttps_la_CFLAGS = $(AM_CFLAGS) $(OPENSSL_CFLAGS)
tests_lib_libhttps_la_LIBADD = $(OPENSSL_LIBS)

# What the power-cut test of the vault drives.
check_PROGRAMS += tests/lib/vault_driver
tests_lib_vault_driver_SOURCES = tests/lib/vault_driver.c tests/lib/vault_kit.h
tests_lib_vault_driver_LDADD = libdataplane.la

# What the test of secrets looks for.
check_PROGRAMS += tests/lib/domain_secrets
tests_lib_domain_secrets_SOURCES = tests/lib/domain_secrets.c
tests_lib_domain_secrets_LDADD = libdataplane.la

# A log of one server without raft; link it before liblog.la.
check_LTLIBRARIES += liblogalone.la
liblogalone_la_SOURCES = tests/lib/log_alone.c
liblogalone_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
# A server without its program on that log.
check_LTLIBRARIES += libserveralone.la
libserveralone_la_SOURCES = tests/lib/server_alone.c tests/lib/server_alone.h
libserveralone_la_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS) $(OPENSSL_CFLAGS)
SERVER_ALONE = libserveralone.la libtestpki.la liblogalone.la libserver.la libapi.la liblog.la $(UV_LIBS) $(OPENSSL_LIBS) \
	$(CMOCKA_LIBS)
# The API in the test's own process (api_fixture.h).
check_LTLIBRARIES += tests/lib/libapifixture.la
tests_lib_libapifixture_la_SOURCES = tests/lib/api_fixture.c tests/lib/api_fixture.h
tests_lib_libapifixture_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS) $(OPENSSL_CFLAGS) -Wno-deprecated-declarations
API_FIXTURE = tests/lib/libapifixture.la libapi.la liblog.la libtestpki.la libnet.la libfsm.la libbase.la
# A source and a target engine in one process.
check_LTLIBRARIES += tests/lib/libenginepair.la
tests_lib_libenginepair_la_SOURCES = tests/lib/engine_pair.c tests/lib/engine_pair.h \
	tests/lib/engine_disk.c tests/lib/engine_disk.h
tests_lib_libenginepair_la_SOURCES += tests/lib/cut_proxy.c tests/lib/cut_proxy.h
tests_lib_libenginepair_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS)
tests_lib_libenginepair_la_LIBADD = libdataplane.la libadapters.la libtestpki.la

# Three logs in one process (log_kit.h).
check_LTLIBRARIES += liblogkit.la
liblogkit_la_SOURCES = tests/lib/log_kit.c tests/lib/log_kit.h tests/lib/entries.h
liblogkit_la_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(UV_CFLAGS)
LOG_KIT = liblogkit.la liblog.la libtestpki.la libnet.la libfsm.la libbase.la $(UV_LIBS) $(CMOCKA_LIBS)

# A link between nodes: rate, delay, queue, cuts. In C tests relay.h, beside them the program.
check_LTLIBRARIES += tests/lib/librelay.la
tests_lib_librelay_la_SOURCES = tests/lib/relay.c tests/lib/relay_run.c tests/lib/relay.h tests/lib/relay_local.h
tests_lib_librelay_la_LIBADD = -lm
check_PROGRAMS += tests/lib/relay
tests_lib_relay_SOURCES = tests/lib/relay_main.c
tests_lib_relay_LDADD = tests/lib/librelay.la
# Real NBD servers for tests of adapters.
check_LTLIBRARIES += tests/lib/libnbdserver.la
tests_lib_libnbdserver_la_SOURCES = tests/lib/nbd_server.c tests/lib/nbd_server.h
# The client of object stores as a program.
check_PROGRAMS += tests/lib/objects_driver
tests_lib_objects_driver_SOURCES = tests/lib/objects_driver.c
tests_lib_objects_driver_LDADD = libobjects.la
EXTRA_DIST += tests/lib/s3lib.py tests/lib/storelib.py tests/lib/s3fake.py tests/lib/build_versitygw.sh
# Any adapter as a program, and a libvirt of the tests' own with guests.
check_PROGRAMS += tests/lib/adapter_driver
tests_lib_adapter_driver_SOURCES = tests/lib/adapter_driver.c
tests_lib_adapter_driver_LDADD = libadapters.la libbase.la
check_PROGRAMS += tests/lib/machine_driver
tests_lib_machine_driver_SOURCES = tests/lib/machine_driver.c
tests_lib_machine_driver_LDADD = libadapters.la libdataplane.la
EXTRA_DIST += tests/lib/libvirt_kit.py tests/lib/guest_init.c
