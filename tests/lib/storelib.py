"""Vaults on an object store, for tests: each case has a bucket of its own in one server (s3lib), a vault that is bound to it, and the image
that its points are made of. All by farshore-node's own commands."""
import base64
import ctypes
import ctypes.util
import hashlib
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import threading

import s3lib
import tap

SEED = int(os.environ.get("FAR_SEED", random.randrange(1 << 32)))
NODE = os.path.join(s3lib.BUILD, "src/node/farshore-node")
BLOCK = 65536
server = top = None
made = 0


def node(*arguments, ok=True):
    done = subprocess.run([NODE, "vault", *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0) == ok, (arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout if ok else done.stderr


def points(vault):
    lines = node("list", "--vault", vault).splitlines()
    return list(dict.fromkeys(line.split()[0] for line in lines if line[:1].isdigit()))


def xxh3(data):
    """The check at the end of small files (FORMATS.md), by the library itself."""
    library = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
    library.XXH3_64bits.restype, library.XXH3_64bits.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
    return library.XXH3_64bits(data, len(data))


class Case:
    """A vault of its own in a bucket of its own, and the image that its points are made of."""

    def __init__(self, lock=False, **more):
        global made
        made += 1
        self.name, self.dir = "case%d" % made, os.path.join(top, "case%d" % made)
        os.makedirs(self.dir)
        server.make_bucket(self.name, lock=lock)
        self.config = server.store_file(self.name, name="store-" + self.name, **more)
        self.random, self.image, self.contents = random.Random(SEED + made), os.path.join(self.dir, "image"), {}
        self.vault = self.path("v")
        self.change(range(32))
        self.point(self.vault)
        node("bind", "--vault", self.vault, "--store", self.config)
        self.uuid = next(line.split()[0] for line in node("store", "--store", self.config).splitlines())

    def path(self, name):
        return os.path.join(self.dir, name)

    def change(self, blocks):
        with open(self.image, "r+b" if os.path.exists(self.image) else "w+b") as file:
            for block in blocks:
                file.seek(block * BLOCK)
                file.write(self.random.randbytes(BLOCK))

    def point(self, vault):
        before = points(vault) if os.path.exists(vault) else []
        node("import", "--vault", vault, "--image", self.image, "--label", "x")
        new = [p for p in points(vault) if p not in before][0]
        with open(self.image, "rb") as file:
            self.contents[new] = file.read()
        return new

    def is_exact(self, vault, point):
        node("verify", "--vault", vault, "--point", point)
        out = self.path("out")
        node("recover", "--vault", vault, "--point", point, "--disk", "disk0", "--target", out)
        with open(out, "rb") as file:
            same = file.read() == self.contents[point]
        os.unlink(out)
        return same

    def attach(self, name, *more, ok=True):
        return node("attach", "--vault", self.path(name), "--store", self.config, *more, ok=ok)

    def request(self, method, key, query=None, body=b""):
        headers = {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()} if body else None
        return server.request(method, "/%s/%s/%s" % (self.name, self.uuid, key), query=query, headers=headers, body=body)

    def keys(self, under=""):
        status, _, body = server.request("GET", "/" + self.name, query={"list-type": "2", "prefix": "%s/%s" % (self.uuid, under)})
        assert status == 200, body
        return [part.split("</Key>")[0][len(self.uuid) + 1:] for part in body.decode().split("<Key>")[1:]]

    def reclaim_all(self, vault, but):
        for point in points(vault):
            if point != but:
                node("forget", "--vault", vault, "--point", point)
        for _ in range(3):
            node("reclaim", "--vault", vault)


class Gate:
    """Before the store: requests whose first line fits `pattern` wait until it is opened."""

    def __init__(self, pattern):
        self.pattern, self.waits, self.is_open = re.compile(pattern), threading.Event(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            link, _ = self.listener.accept()
            behind = socket.create_connection(("127.0.0.1", server.port))
            threading.Thread(target=self.forward, args=(link, behind, True), daemon=True).start()
            threading.Thread(target=self.forward, args=(behind, link, False), daemon=True).start()

    def forward(self, source, target, looks):
        try:
            while data := source.recv(1 << 16):
                if looks and self.pattern.match(data.split(b"\r\n")[0].decode("latin-1")):
                    self.waits.set()
                    self.is_open.wait(60)
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def through(vault, endpoint):
    """The vault's own configuration of its store, with another endpoint."""
    path = os.path.join(vault, "store")
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"(?m)^endpoint = .*$", "endpoint = " + endpoint, file.read())
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def run(tests):
    """Each function of a list, over a server that is started for them."""
    global server, top
    print("# seed %d; FAR_SEED repeats it" % SEED)
    top = tempfile.mkdtemp()
    try:
        server = s3lib.Server(os.path.join(top, "s3"))
    except tap.Skip as reason:
        print("1..0 # SKIP %s" % reason)
        return
    try:
        with server:
            tap.run_all(tests)
    finally:
        shutil.rmtree(top, ignore_errors=True)
