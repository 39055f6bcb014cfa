# filled by the first code in this folder
noinst_HEADERS += src/api/api.h
