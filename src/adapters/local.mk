nobase_include_HEADERS += include/farshore/adapter.h
