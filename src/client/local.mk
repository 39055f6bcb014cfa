pkgconfig_DATA += src/client/farshore.pc
