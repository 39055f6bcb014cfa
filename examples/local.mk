# Examples of the client library: built with the tree, installed as source.
noinst_PROGRAMS += examples/consumer
examples_consumer_SOURCES = examples/consumer.c
examples_consumer_LDADD = libfarshore.la
examplesdir = $(docdir)/examples
dist_examples_DATA = examples/consumer.c
