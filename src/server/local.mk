# filled by the first code in this folder
# link.c is the server's side of the nodes' streams, ready to be added to farshored's sources.
noinst_HEADERS += src/server/link.h
EXTRA_DIST += src/server/link.c
# So are secrets.c (sealing in the state), admission.c (the other side of a join) and members.c (raft membership).
noinst_HEADERS += src/server/secrets.h src/server/admission.h src/server/members.h
EXTRA_DIST += src/server/secrets.c src/server/admission.c src/server/members.c
