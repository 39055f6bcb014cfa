# filled by the first code in this folder
noinst_HEADERS += src/dataplane/engine.h src/dataplane/manifest.h src/dataplane/map.h src/dataplane/vault.h
