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

far_list() { # folder, unit-tests|fuzz-targets|integration-tests|parallel-integration-tests|long-integration-tests
    make -s -C "$1" Makefile >/dev/null 2>&1 # if it has to be made anew, that talks
    list=$(make -s -C "$1" --no-print-directory "list-$2")
    echo "${list:-no-list-of-$2}" # a test that cannot run, so that a list that cannot be had counts as a failure
}

far_failed() { # a step that failed before it could count anything; $counts is the caller's
    echo "0 1 0" >>"$counts"
}

far_run() { # label, build folder, tests and options of tests/run, which adds its figures to $counts; if it dies, that counts
    label=$1 build=$2
    shift 2
    before=$(wc -l <"$counts")
    tests/run --build "$build" --label "$label" --counts "$counts" "$@" | sed '$d'
    [ "$(wc -l <"$counts")" -gt "$before" ] || { echo "FAIL $label: tests/run did not come to its end"; far_failed; }
}

far_total() { # the last line of all, from $counts; false when something failed or nothing passed
    awk '{ p += $1; f += $2; k += $3 }
        END { if (p == 0 && f == 0) f = 1; printf "%d passed, %d failed", p, f; if (k) printf ", %d skipped", k; print ""
            exit (f > 0) }' "$counts"
}
