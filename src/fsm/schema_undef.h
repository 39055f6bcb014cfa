/* Ends one reading of events.def: see schema.h. No include guard, on purpose. */
#undef FAR_ENUM_BEGIN
#undef FAR_VALUE
#undef FAR_ENUM_END
#undef FAR_BEGIN
#undef FAR_U64
#undef FAR_BOOL
#undef FAR_ENUM
#undef FAR_STR
#undef FAR_BYTES
#undef FAR_SECRET
#undef FAR_LIST
#undef FAR_STRS
#undef FAR_U64S
#undef FAR_SEVERITY
#undef FAR_SEVERITY_IF
#undef FAR_END
