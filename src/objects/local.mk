# A client of S3-compatible stores.
noinst_LTLIBRARIES += libobjects.la
libobjects_la_SOURCES = \
	src/objects/object_config.c src/objects/object_config.h \
	src/objects/object_list.c \
	src/objects/object_lock.c \
	src/objects/object_upload.c src/objects/object_upload.h \
	src/objects/objects.c src/objects/objects.h \
	src/objects/s3_judge.c src/objects/s3_judge.h \
	src/objects/s3_request.c src/objects/s3_request.h \
	src/objects/s3_xml.c src/objects/s3_xml.h \
	src/objects/sigv4.c src/objects/sigv4.h
libobjects_la_CFLAGS = $(AM_CFLAGS) $(CURL_CFLAGS) $(OPENSSL_CFLAGS) $(EXPAT_CFLAGS)
libobjects_la_LIBADD = libbase.la $(CURL_LIBS) $(OPENSSL_LIBS) $(EXPAT_LIBS)
