# filled by the first code in this folder
noinst_HEADERS += src/dataplane/engine.h
