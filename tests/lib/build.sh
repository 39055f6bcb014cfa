# Sourced by ./check, ./demo and tests/check_long: builds out of tree, safe to run again. The caller stands in the root.

far_configure_script() { # make ./configure when it is not there or older than what it is made from
    if [ ! -x configure ] || [ configure.ac -nt configure ] || [ ! -f Makefile.in ]; then
        autoreconf -fi >autoreconf.log 2>&1 || { cat autoreconf.log; return 1; }
        rm -f autoreconf.log
    fi
}

far_configure() { # folder, compiler, configure options…; sets $folder and $log; quiet unless it fails
    folder=$1 compiler=$2
    shift 2
    echo "building with $compiler $* in $folder"
    mkdir -p "$folder" && far_configure_script || return 1
    log=$folder/build.log
    : >"$log" || return 1
    if [ ! -f "$folder/Makefile" ] || [ "$(cat "$folder/configured-as" 2>/dev/null)" != "$compiler $*" ] ||
        [ configure -nt "$folder/config.status" ]; then
        (source=$(pwd) && cd "$folder" && "$source/configure" -q --enable-werror CC="$compiler" "$@") >>"$log" 2>&1 ||
            { tail -n 15 "$log"; echo "FAIL configure with $compiler $*"; return 1; }
        echo "$compiler $*" >"$folder/configured-as"
    fi
}

far_build() { # the same, and everything but the tests
    far_configure "$@" && far_make all
}

far_build_fuzz() { # folder: the fuzz targets and what they need
    far_configure "$1" clang --enable-fuzz && far_make $(far_list "$1" fuzz-targets)
}

far_build_tests() { # the same, and the test programs
    far_build "$@" && far_make check TESTS=
}

far_make() { # targets, in $folder
    make -C "$folder" -j2 "$@" >>"$log" 2>&1 ||
        { grep -nE 'error|Error|warning|undefined' "$log" | head -n 30; tail -n 5 "$log"
          echo "FAIL make $* in $folder (all of it: $log)"; return 1; }
}

far_list() { # folder, unit-tests|fuzz-targets|integration-tests|parallel-integration-tests
    make -s -C "$1" Makefile >/dev/null 2>&1 # if it has to be made anew, that talks
    make -s -C "$1" --no-print-directory "list-$2"
}
