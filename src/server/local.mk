# filled by the first code in this folder
# link.c is the server's side of the nodes' streams, ready to be added to farshored's sources.
noinst_HEADERS += src/server/link.h
EXTRA_DIST += src/server/link.c
