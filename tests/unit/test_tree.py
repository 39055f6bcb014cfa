#!/usr/bin/env python3
"""The rules of the tree: who may include whom, what the pure core may call, sizes, names, and what must not be in it."""
import collections
import glob
import os
import re
import subprocess
import sys
import tempfile

SOURCE = os.path.abspath(os.environ.get("FAR_SOURCE", os.path.join(os.path.dirname(__file__), "../..")))
BUILD = os.path.abspath(os.environ.get("FAR_BUILD", "."))
sys.path.insert(0, os.path.join(SOURCE, "tests/lib"))
import tap  # noqa: E402

LIBC = set("""assert ctype errno fcntl float inttypes limits locale math poll pthread sched setjmp signal stdalign stdarg
    stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings threads time unistd wchar dirent dlfcn endian ftw
    getopt grp libgen netdb pwd semaphore spawn syslog termios ucontext utime glob byteswap malloc immintrin
    """.split())
RUNTIME = re.compile(r"__(asan|tsan|ubsan|sanitizer|gcov|llvm)_")
LIBC_FOLDERS = ("sys/", "netinet/", "arpa/", "linux/", "net/")
# The core: no clock, random, environment, locale, threads, I/O, errno (DESIGN section 4, STYLE "The pure core").
CORE_LIBC = {"assert", "inttypes", "limits", "stdarg", "stdbool", "stddef", "stdint", "string", "stdlib", "stdio"}
CORE_BASE_NOT = {"base/clock.h", "base/random.h", "base/logging.h", "base/config.h", "base/thread.h"}
PUBLIC_LIBC = {"assert", "errno", "inttypes", "limits", "stdarg", "stdbool", "stddef", "stdint", "stdio", "stdlib", "string"}

# folder: (folders of ours, libraries by the head of their headers' names)
MAY = {
    "include/farshore": (set(), set()),
    "src/base": (set(), {"msgpack", "xxhash", "xxh_x86dispatch"}),
    "src/fsm": ({"base"}, {"msgpack"}),
    "src/log": ({"base", "fsm", "net"}, {"uv", "lmdb", "raft", "zstd", "xxhash", "openssl", "msgpack"}),
    "src/net": ({"base"}, {"uv", "openssl", "curl", "jansson", "intel-ipsec-mb"}),
    "src/objects": ({"base"}, {"curl", "openssl", "expat"}),
    "src/dataplane": ({"base", "net", "objects", "farshore/adapter.h"}, {"uv", "lmdb", "zstd", "xxhash", "openssl", "msgpack", "nbdkit-plugin"}),
    "src/adapters": ({"base", "net", "farshore/adapter.h"}, {"uv", "openssl", "curl", "libnbd", "libvirt", "expat", "jansson", "zstd"}),
    "src/api": ({"base", "net", "fsm", "log"}, {"uv", "libwebsockets", "jansson", "openssl"}),
    "src/client": ({"base", "farshore", "fsm/events.def"}, {"curl", "jansson", "openssl"}),
    "src/cli": ({"base", "client", "farshore"}, {"jansson"}),
    "src/verify": (set(), {"openssl"}),
    "src/server": (None, None),
    "src/node": (None, None),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def tracked():
    """Files of the tree: what git knows, or in an unpacked archive everything but build products."""
    try:
        out = subprocess.run(["git", "-C", SOURCE, "-c", "safe.directory=*", "ls-files", "-z"], capture_output=True, check=True)
        files = [f for f in out.stdout.decode().split("\0") if f]
        if files:
            return [f for f in files if os.path.isfile(os.path.join(SOURCE, f))]
    except (OSError, subprocess.CalledProcessError):
        pass
    found = []
    for folder, folders, names in os.walk(SOURCE):
        folders[:] = [f for f in folders if not re.match(r"build|autom4te|\.|__pycache__", f)]
        found += [os.path.relpath(os.path.join(folder, n), SOURCE) for n in names]
    return found


FILES = tracked()


def text_of(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def code(*heads):
    return [f for f in FILES if f.startswith(heads) and f.endswith((".c", ".h", ".def"))]


def folder_of(path):
    parts = path.split("/")
    return "/".join(parts[:2])


def wrong_system(path, folder, name):
    stem = name[:-2] if name.endswith(".h") else name
    if folder == "src/fsm" and stem in LIBC:
        return stem not in CORE_LIBC
    if folder == "include/farshore":
        return stem not in PUBLIC_LIBC
    if stem in LIBC or name.startswith(LIBC_FOLDERS):
        return folder == "src/fsm"
    libraries = MAY[folder][1]
    head = re.split(r"[/.]", name)[0]
    if head == "raft":
        return not os.path.basename(path).startswith("raft_")
    return libraries is not None and head not in libraries


def wrong_own(path, folder, name):
    mine = os.path.join(os.path.dirname(path), name)
    if "/" not in name:
        return mine not in FILES and name != "config.h"
    ours = MAY[folder][0]
    head = name.split("/")[0]
    if folder == "src/adapters" and head == "adapters":
        shared = name.count("/") == 1  # adapters/adapters.h: the list of them, not a platform
        return not shared and not ("src/" + name).startswith(os.path.dirname(path) + "/")
    if head == folder.split("/")[1]:
        return False
    if folder == "src/fsm" and name in CORE_BASE_NOT:
        return True
    return ours is not None and head not in ours and name not in ours


def includes_follow_the_table():
    wrong = []
    for path in code("src/", "include/"):
        folder = folder_of(path)
        if folder not in MAY:
            wrong.append("%s: folder %s is not in the table of DESIGN section 4" % (path, folder))
            continue
        for quote, name in INCLUDE.findall(text_of(path)):
            bad = wrong_system(path, folder, name) if quote == "<" else wrong_own(path, folder, name)
            if bad:
                wrong.append("%s includes %s" % (path, name))
    return wrong


def what_only_tests_need_is_not_built_by_make_all():
    """`./demo` builds without cmocka: in tests/ everything is check_…"""
    return ["%s: %s" % (path, line) for path in FILES if path.startswith("tests/") and path.endswith("local.mk")
            for line in text_of(path).split("\n") if re.match(r"(noinst|bin|lib)_(LTLIBRARIES|PROGRAMS)", line)]


def objects_of(folder):
    return glob.glob(os.path.join(BUILD, "src", folder, "*.o")) + glob.glob(os.path.join(BUILD, "src", folder, ".libs/*.o"))


def core_calls_only_what_is_allowed():
    objects = objects_of("fsm")
    if not objects:
        raise tap.Skip("no build of src/fsm in " + BUILD)
    allow = {line.split("#")[0].strip() for line in text_of("tests/unit/fsm_symbols.allow").splitlines()} - {""}
    used, defined = set(), set()
    for line in subprocess.run(["nm", *objects], capture_output=True, check=True, text=True).stdout.splitlines():
        parts = line.split()
        if len(parts) >= 2 and len(parts[-2]) == 1:
            (used if parts[-2] in "Uw" else defined).add(parts[-1])
    if any(RUNTIME.match(symbol) for symbol in used):
        raise tap.Skip("a build with sanitizers or coverage calls their runtime")
    base = set()
    for o in objects_of("base"):
        if re.search(r"(clock|random|logging|config)\.o$", o):
            continue
        for line in subprocess.run(["nm", o], capture_output=True, check=True, text=True).stdout.splitlines():
            parts = line.split()
            if len(parts) == 3 and parts[1] in "TDBR":
                base.add(parts[2])
    return ["src/fsm calls %s: not in tests/unit/fsm_symbols.allow" % s for s in sorted(used - defined - base - allow)]


def file_names_are_unique():
    seen = collections.defaultdict(list)
    for path in FILES:
        if path.startswith(("src/", "include/", "tests/")) and not path.startswith(("tests/fuzz/corpus", "tests/golden")):
            seen[os.path.basename(path)].append(path)
    shared = {"local.mk", ".gitkeep", "__init__.py", "run"}
    return ["%s: %s" % (n, " ".join(p)) for n, p in sorted(seen.items()) if len(p) > 1 and n not in shared]


def files_stay_readable():
    """600 lines is a lot (told), 1000 is a bug (fails). events.def is the one list of everything."""
    wrong = []
    for path in code("src/", "include/", "tests/"):
        lines = text_of(path).count("\n")
        if lines > 600 and not path.endswith("events.def"):
            print("# long file: %s has %d lines" % (path, lines))
        if lines > 1000 and not path.endswith("events.def"):
            wrong.append("%s has %d lines" % (path, lines))
    return wrong


def functions_fit_a_screen():
    """70 lines is the rule (told), 100 fails."""
    wrong = []
    for path in code("src/"):
        start, name = None, ""
        for number, line in enumerate(text_of(path).split("\n"), 1):
            if re.match(r"^[A-Za-z].*\(", line):
                name = line
            if line == "{":
                start = number
            if line == "}" and start is not None:
                if number - start > 70:
                    print("# long function: %s:%d (%d lines) %s" % (path, start, number - start, name[:60]))
                if number - start > 100:
                    wrong.append("%s:%d is %d lines long" % (path, start, number - start))
                start = None
    return wrong


def lines_are_clean():
    """120 columns is the rule (told), 140 fails; no tabs, no blanks at the end."""
    wrong, long = [], collections.Counter()
    for path in code("src/", "include/", "tests/"):
        for n, line in enumerate(text_of(path).split("\n"), 1):
            long[path] += len(line) > 120
            if len(line) > 140 or "\t" in line or line != line.rstrip():
                wrong.append("%s:%d" % (path, n))
    print("# long lines: %s" % ", ".join("%s %d" % item for item in sorted(long.items()) if item[1]))
    return wrong


def tree_names_no_registry_and_no_machine():
    hosts = r"(deb|security|archive|snapshot)\.debian\.org|pypi\.org|pythonhosted|registry\.npmjs|crates\.io|proxy\.golang|mirror\."
    paths = r"(^|[^A-Za-z0-9.])/(work|farm)/|/tmp/" + r"(wt|b)/"
    wrong = []
    for path in FILES:
        if path == "tests/unit/test_tree.py" or path.startswith("tests/fuzz/corpus"):
            continue
        for n, line in enumerate(text_of(path).split("\n"), 1):
            if re.search(hosts, line) or re.search(paths, line):
                wrong.append("%s:%d: %s" % (path, n, line.strip()[:80]))
    return wrong


def tests_do_not_sleep():
    pattern = re.compile(r"\b(sleep|usleep|nanosleep|time\.sleep)\s*\(")
    return ["%s:%d" % (path, n) for path in FILES if path.startswith("tests/") and path.endswith((".c", ".py"))
            and path != "tests/unit/test_tree.py"
            for n, line in enumerate(text_of(path).split("\n"), 1) if pattern.search(line) and "far-poll" not in line]


def installed_headers_compile_alone():
    wrong = []
    compilers = [(["gcc", "-std=c11", "-pedantic", "-xc"]), (["g++", "-std=c++11", "-pedantic", "-xc++"])]
    with tempfile.TemporaryDirectory() as folder:
        for path in [f for f in FILES if f.startswith("include/farshore/")]:
            for compiler in compilers:
                try:
                    run = subprocess.run(compiler + ["-Wall", "-Wextra", "-Werror", "-I", os.path.join(SOURCE, "include"), "-c", "-",
                                                     "-o", os.path.join(folder, "x.o")],
                                         input="#include <%s>\n" % path[len("include/"):], text=True, capture_output=True)
                except FileNotFoundError:
                    raise tap.Skip(compiler[0] + " is missing")
                if run.returncode != 0:
                    wrong.append("%s with %s: %s" % (path, compiler[0], run.stderr.strip().split("\n")[0]))
    return wrong


def every_header_says_what_it_is_for():
    return [p for p in code("src/", "include/") if p.endswith((".h", ".c")) and not text_of(p).startswith("/*")]


def main():
    tap.run_all([
        includes_follow_the_table, core_calls_only_what_is_allowed, file_names_are_unique, files_stay_readable,
        functions_fit_a_screen, lines_are_clean, what_only_tests_need_is_not_built_by_make_all,
        tree_names_no_registry_and_no_machine, tests_do_not_sleep,
        installed_headers_compile_alone, every_header_says_what_it_is_for,
    ])


if __name__ == "__main__":
    main()
