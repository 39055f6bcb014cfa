/* The numbers that the writer and the reader of a segment share: see docs/FORMATS.md, "Segments". */
#ifndef FAR_LOG_SEGMENT_FORMAT_H
#define FAR_LOG_SEGMENT_FORMAT_H

#define FAR_SEGMENT_MAGIC "FARSEGM0"
#define FAR_SEGMENT_END_MAGIC "FARSEGE0"

enum { FAR_SEGMENT_VERSION = 0, FAR_SEGMENT_BLOCK_MAGIC = 0x42475346 /* "FSGB" */ };

#endif
