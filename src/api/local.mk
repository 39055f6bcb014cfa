noinst_LTLIBRARIES += libapi.la
libapi_la_SOURCES = \
	src/api/run_report.c \
	src/api/answer.c \
	src/api/api.c src/api/api.h \
	src/api/authorize.c \
	src/api/backup.c \
	src/api/change.c \
	src/api/command.c \
	src/api/consumers.c \
	src/api/event_filter.c src/api/event_filter.h \
	src/api/event_text.c src/api/event_text.h \
	src/api/compute.c \
	src/api/diff.c \
	src/api/domain_routes.c \
	src/api/dry_run.c \
	src/api/explain.c \
	src/api/export_piece.c \
	src/api/show_figures.c \
	src/api/events.c \
	src/api/head_list.c \
	src/api/history_gap.c \
	src/api/http.c src/api/http.h \
	src/api/http_conns.c src/api/http_conns.h \
	src/api/http_exchange.c src/api/http_private.h \
	src/api/http_head.c src/api/http_head.h \
	src/api/http_scan.c src/api/http_scan.h \
	src/api/http_watch.c src/api/http_watch.h \
	src/api/json.c src/api/json.h \
	src/api/metrics.c \
	src/api/plan_routes.c \
	src/api/policies.c \
	src/api/read.c src/api/read_cluster.c \
	src/api/request.h \
	src/api/resync.c \
	src/api/throttle_routes.c \
	src/api/tzif.c src/api/tzif.h \
	src/api/vaults.c \
	src/api/skip_entry.c src/api/witness.c src/api/route.c src/api/route.h
nodist_libapi_la_SOURCES = src/api/openapi.c
libapi_la_CFLAGS = $(AM_CFLAGS) $(UV_CFLAGS) $(LWS_CFLAGS) $(JANSSON_CFLAGS) $(OPENSSL_CFLAGS)
# Without the other folders' libraries: programs link libapi.la liblog.la libnet.la libfsm.la libbase.la.
libapi_la_LIBADD = $(LWS_LIBS) $(JANSSON_LIBS) $(OPENSSL_LIBS)

# The OpenAPI document, served as it stands in docs/.
EXTRA_DIST += docs/openapi.json
CLEANFILES += src/api/openapi.c
src/api/openapi.c: docs/openapi.json
	$(AM_V_GEN)$(MKDIR_P) src/api && { echo 'extern const char far_openapi_json[];' && echo 'const char far_openapi_json[] =' && \
	sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/^/"/' -e 's/$$/\\n"/' $(srcdir)/docs/openapi.json && echo ';'; } > $@.new && mv $@.new $@
