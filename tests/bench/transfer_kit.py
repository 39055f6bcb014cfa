"""What the benchmarks of the engine share: data sets from fixed seeds, the programs transfer and relay, and the peers."""
import contextlib
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import tap  # noqa: E402

BUILD = os.path.abspath(os.environ.get("FAR_BUILD", "."))
ROUNDS = int(os.environ.get("FAR_ROUNDS", "5"))
MIB = int(os.environ.get("FAR_BENCH_MIB", "2048"))  # of the data sets
BLOCK, PAGE = 65536, 4096


def need(*tools):
    for tool in tools:
        if shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
            raise tap.Skip(tool + " is missing")


def drop_leftovers(base):
    """A benchmark that was killed could not give its memory back."""
    for name in os.listdir(base):
        owner = re.fullmatch(r"far-bench-(\d+)-.*", name)
        if owner and not os.path.exists("/proc/" + owner.group(1)):
            shutil.rmtree(os.path.join(base, name), ignore_errors=True)


@contextlib.contextmanager
def scratch():
    """A folder in memory, so that no disk is measured."""
    base = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()
    drop_leftovers(base)
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(1))  # then it goes, too
    with tempfile.TemporaryDirectory(dir=base, prefix="far-bench-%d-" % os.getpid()) as folder:
        yield folder


def say(text):
    print("# " + text, flush=True)


def median(values):
    return statistics.median(values)


class Measured:
    """Measurements by name, each made when it is first asked for; a Skip of one skips all that need it."""

    def __init__(self, functions):
        self.functions, self.results = functions, {}

    def __call__(self, name):
        if name not in self.results:
            try:
                self.results[name] = self.functions[name]()
            except Exception as error:  # the next one that needs it fails or is skipped alike
                self.results[name] = error
        if isinstance(self.results[name], Exception):
            raise self.results[name]
        return self.results[name]


def mark(what, value, at_least=None, at_most=None):
    """Says the figure and its mark; a list of what is wrong, as a test returns it."""
    limit = at_least if at_least is not None else at_most
    say("%s: %.3f (the mark: at %s %g)" % (what, value, "least" if at_least is not None else "most", limit))
    return [] if (value >= limit if at_least is not None else value <= limit) else ["the mark is missed"]


# ---- data sets ----

def make_mixed(path, mib=MIB):
    """40 % random, 30 % text, 30 % zero in runs of 64 KiB; returns how many bytes are not zero."""
    rng, filled = random.Random(20261120), 0
    words = ["".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 10))) for _ in range(4000)]
    text = []
    for _ in range(64):
        page = " ".join(rng.choices(words, k=60000)).encode()
        text.append(page[:4 * BLOCK])
    with open(path, "wb") as image:
        for _ in range(mib * 16):
            kind = rng.random()
            if kind < 0.4:
                image.write(rng.randbytes(BLOCK))
            elif kind < 0.7:
                start = rng.randrange(3 * BLOCK)
                image.write(rng.choice(text)[start:start + BLOCK])
            else:
                image.write(bytes(BLOCK))
            filled += BLOCK if kind < 0.7 else 0
    return filled


def make_file_system(path, mib=MIB):
    """An ext4 of this machine's /usr, as far as it fits; returns how many bytes are not zero, in whole blocks."""
    stage, room = path + ".files", (mib << 20) * 80 // 100
    for folder, folders, names in os.walk("/usr"):
        folders.sort()
        into = os.path.join(stage, os.path.relpath(folder, "/usr"))
        room -= PAGE
        if room > 0:
            os.makedirs(into, exist_ok=True)
        for name in sorted(names):
            file = os.path.join(folder, name)
            size = os.lstat(file).st_size + PAGE
            if size > room or not (os.path.islink(file) or os.path.isfile(file)):
                continue
            room -= size
            shutil.copy2(file, os.path.join(into, name), follow_symlinks=False)
    tool = shutil.which("mke2fs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    subprocess.run([tool, "-q", "-F", "-t", "ext4", "-b", "4096", "-i", "8192", "-m", "0", "-d", stage, path, "%dM" % mib], check=True,
                   stdout=subprocess.DEVNULL)
    shutil.rmtree(stage)
    filled, nothing = 0, bytes(BLOCK)
    with open(path, "rb") as image:
        while block := image.read(BLOCK):
            filled += BLOCK if block != nothing[:len(block)] else 0
    return filled


DATA_SETS = {"mixed": make_mixed, "/usr": make_file_system}


class Changes:
    """Changes to an image, and the list of them that the adapter `file?changes=DIR` reads."""

    def __init__(self, image, lists, seed):
        self.image, self.rng, self.number = image, random.Random(seed), 0
        self.path = os.path.join(lists, os.path.basename(image) + ".changes")
        self._write_list([])

    def adapter(self):
        return "file?changes=" + os.path.dirname(self.path)

    def make(self, offsets, length):
        """New random bytes at these offsets; the base of the list is the state before."""
        with open(self.image, "r+b") as image:
            for offset in sorted(offsets):
                image.seek(offset)
                image.write(self.rng.randbytes(length))
        self.number += 1
        self._write_list((offset, length) for offset in sorted(offsets))
        return len(offsets) * length

    def blocks(self, share, size):
        """Offsets of so many random blocks."""
        count = size // BLOCK
        return [number * BLOCK for number in self.rng.sample(range(count), max(1, round(count * share)))]

    def _write_list(self, extents):
        with open(self.path + ".new", "w", encoding="ascii") as file:
            file.write("farshore-changes 1 state-%d state-%d\n" % (max(0, self.number - 1), self.number))
            for offset, length in extents:
                file.write("%d %d\n" % (offset, length))
        os.rename(self.path + ".new", self.path)


# ---- ours ----

class Program:
    """One of our programs that obeys lines."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("%s ended with status %s" % (self.process.args[0], self.process.wait()))
        return line.strip()

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.line()

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class Relay(Program):
    def __init__(self, target, **options):
        words = []
        for name, value in options.items():
            words += ["--" + name.replace("_", "-")] + ([] if value is True else [str(value)])
        super().__init__(os.path.join(BUILD, "tests/lib/relay"), "--target", target, *words)
        self.address = self.line()

    def stats(self):
        return json.loads(self.tell("stats"))

    def wire(self):
        """Bytes that were passed on so far, both ways."""
        stats = self.stats()
        return stats["forward"] + stats["back"]


class Transfer(Program):
    """A source and a target node with a vault, in a folder that goes with them."""

    def __init__(self, folder, disks, *options, **settings):
        self.folder = tempfile.mkdtemp(dir=folder, prefix="nodes-")
        options += ("--verbose",) if os.environ.get("FAR_BENCH_VERBOSE") else ()
        for name, value in settings.items():
            options += ("--" + name.replace("_", "-"), str(value))
        super().__init__(os.path.join(BUILD, "tests/bench/transfer"), "--dir", self.folder, *options, *disks)
        self.hello = json.loads(self.line())
        self.address = self.hello["address"]

    def through(self, address):
        self.tell("through " + address)

    def cycle(self, how="cycle"):
        result = json.loads(self.tell(how))
        if result["good"] != result["disks"]:
            raise RuntimeError("%d of %d disks ended well: %s" % (result["good"], result["disks"], result["error"]))
        nodes = [result[who] for who in ("source", "target", "both") if who in result]
        result["processor"] = sum(node["user"] + node["system"] for node in nodes)
        return result

    def close(self):
        super().close()
        shutil.rmtree(self.folder, ignore_errors=True)


def first_copy(folder, image, compress="never"):
    """Seconds and the rest of one first copy into a new vault."""
    with Transfer(folder, [image], compress=compress) as transfer:
        return transfer.cycle()


# ---- the peers ----

def make_certificates(folder):
    """What nbdkit and nbdcopy (GnuTLS) look for in one folder."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca-key.pem", "-out", "ca-cert.pem", "-subj", "/CN=ca", "-days", "2")
    openssl("req", *curve, "-keyout", "server-key.pem", "-out", "request.pem", "-subj", "/CN=localhost")
    with open(os.path.join(folder, "extensions"), "w", encoding="utf-8") as file:
        file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "request.pem", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
            "-out", "server-cert.pem", "-days", "2", "-extfile", "extensions")
    shutil.copy(os.path.join(folder, "server-cert.pem"), os.path.join(folder, "client-cert.pem"))
    shutil.copy(os.path.join(folder, "server-key.pem"), os.path.join(folder, "client-key.pem"))


class Nbdkit:
    """One nbdkit on a port of its own."""

    def __init__(self, folder, path, read_only, tls):
        pidfile = os.path.join(folder, os.path.basename(path) + ".pid")
        words = ["--tls=require", "--tls-certificates=" + folder] if tls else ["--tls=off"]
        for port in range(21000 + os.getpid() % 500, 22000):
            command = ["nbdkit", "-f", "-P", pidfile, "-i", "127.0.0.1", "-p", str(port), *words]
            self.process = subprocess.Popen(command + (["-r"] if read_only else []) + ["file", path], stderr=subprocess.DEVNULL)
            while not os.path.exists(pidfile) and self.process.poll() is None:
                time.sleep(0.01)  # far-poll: nbdkit writes the file when it listens
            if self.process.poll() is None:
                break
        os.unlink(pidfile)
        self.uri = "nbds://localhost:%d/?tls-certificates=%s" % (port, folder) if tls else "nbd://localhost:%d/" % port

    def stop(self):
        self.process.terminate()
        self.process.wait()


def nbdcopy(folder, image, tls):
    """Seconds of nbdcopy between two nbdkit servers; over TLS, make_certificates(folder) first."""
    target = os.path.join(folder, "target.img")
    with open(target, "wb") as file:
        file.truncate(os.path.getsize(image))
    source, sink = Nbdkit(folder, image, True, tls), Nbdkit(folder, target, False, tls)
    try:
        began = time.perf_counter()
        subprocess.run(["nbdcopy", "--flush", source.uri, sink.uri], check=True)
        taken = time.perf_counter() - began
    finally:
        source.stop()
        sink.stop()
    if subprocess.run(["cmp", "-s", image, target], check=False).returncode != 0:
        raise RuntimeError("nbdcopy made another image")
    os.unlink(target)
    return taken


def restic(folder, image):
    """Seconds of `restic backup` into a new repository."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        environment = dict(os.environ, RESTIC_REPOSITORY=os.path.join(place, "repository"), RESTIC_PASSWORD="benchmark",
                           RESTIC_CACHE_DIR=os.path.join(place, "cache"), TMPDIR=place)
        subprocess.run(["restic", "-q", "init"], check=True, env=environment, stdout=subprocess.DEVNULL)
        began = time.perf_counter()
        subprocess.run(["restic", "-q", "backup", image], check=True, env=environment, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began


def rsync(image, target):
    began = time.perf_counter()
    subprocess.run(["rsync", "--inplace", "--no-whole-file", "-I", image, target], check=True)
    return time.perf_counter() - began
