"""Disks, benign loads and encryptors for bench_signal.py. Each changes a real mounted file system one increment at a time, from a seed."""
import ctypes
import gzip
import mailbox
import os
import random
import shutil
import sqlite3
import subprocess
import zlib
from email.message import EmailMessage

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

MIB = 1 << 20
libc = ctypes.CDLL(None, use_errno=True)


def run(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)


class Disk:
    """A file system on an image, mounted by a loop device."""
    MKFS = {"ext4": (["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"], 64),
            "xfs": (["mkfs.xfs", "-q", "-f"], 320), "btrfs": (["mkfs.btrfs", "-q", "-f"], 160),
            "ntfs": (["mkfs.ntfs", "-q", "-F", "-f"], 64)}

    def __init__(self, folder, rng, fs=None, mib=0):
        self.image, self.mnt = folder + "/disk.img", folder + "/mnt"
        self.fs = fs or rng.choice(["ext4", "ext4", "ext4", "ntfs", "btrfs", "xfs"])
        command, least = self.MKFS[self.fs]
        self.mib = max(mib or rng.choice([64, 96, 128, 192]), least)
        os.makedirs(self.mnt)
        with open(self.image, "wb") as out:
            out.truncate(self.mib * MIB)
        if self.fs == "ext4":  # which takes 1 KiB by itself on disks as small as these
            command = command + ["-b", rng.choice(["4096", "4096", "4096", "1024"])]
        run(*command, self.image)
        if self.fs == "ntfs":
            run("ntfs-3g", "-o", "big_writes", self.image, self.mnt)
        else:
            run("mount", "-o", "loop,noatime", self.image, self.mnt)

    def sync(self):
        fd = os.open(self.mnt, os.O_RDONLY)
        libc.syncfs(fd)
        os.close(fd)

    def close(self):
        run("umount", "-l", self.mnt)

    def room(self):
        """Free bytes."""
        st = os.statvfs(self.mnt)
        return st.f_bavail * st.f_frsize

    def used(self):
        st = os.statvfs(self.mnt)
        return 1 - st.f_bavail / st.f_blocks


def size(rng, least, most):
    """Most are small: even in the logarithm."""
    return int(least * (most / least) ** rng.random())


def fill(disk, corpus, rng, share):
    """A home folder."""
    number = 0
    while disk.used() < share:
        folder = f"{disk.mnt}/home/user{number % 5}/{rng.choice(['docs', 'pictures', 'work', 'old'])}"
        os.makedirs(folder, exist_ok=True)
        path = corpus.pick(rng)
        if os.path.getsize(path) > disk.room() // 3:
            break
        shutil.copyfile(path, f"{folder}/{number}-{os.path.basename(path)}")
        number += 1


class Load:
    """A benign load: start() once, step() for each increment."""
    disk_fs = None
    disk_mib = 0

    def __init__(self, disk, corpus, rng):
        self.disk, self.corpus, self.rng, self.at = disk, corpus, rng, disk.mnt
        self.number = 0
        self.made = []  # what can go, the oldest first

    def start(self):
        fill(self.disk, self.corpus, self.rng, self.rng.uniform(0.05, 0.4))

    def close(self):
        """Nothing of the disk is open any more."""

    def name(self):
        self.number += 1
        return f"{self.at}/{type(self).__name__}-{self.number}"

    def tidy(self, most=0.8):
        while self.disk.used() > most and self.made:
            path = self.made.pop(0)
            shutil.rmtree(path) if os.path.isdir(path) else os.path.exists(path) and os.unlink(path)


class Compile(Load):
    """gcc with and without (compressed) debug information, ar, bytecode, git commits, make clean."""
    CODE = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n" + "".join(
        f"struct s{i} {{ int a[{i + 1}]; char *b; }};\nint f{i}(struct s{i} *s, int n) {{ int r = 0; for (int i = 0; i < n; i++) "
        f"{{ r += s->a[i % {i + 1}] * {i + 3}; printf(\"%d {i}\\n\", r); }} return r; }}\n" for i in range(30))

    def start(self):
        super().start()
        self.at += "/project"
        os.makedirs(self.at)
        run("git", "init", "-q", self.at)

    def step(self):
        for _ in range(self.rng.randint(1, 3)):
            what = self.rng.choice(["c", "c", "py", "git", "clean"])
            if what == "c":
                path = self.name()
                with open(path + ".c", "w") as out:
                    out.write(self.CODE.replace("+ 3", f"+ {self.rng.randint(4, 99)}") + f"int g{self.number}(void) {{ return 1; }}\n")
                flags = self.rng.choice([["-O0"], ["-O1", "-g"], ["-O0", "-g", "-gz"], ["-O2", "-flto"]])
                run("gcc", *flags, "-c", path + ".c", "-o", path + ".o")
                self.made += [path + ".c", path + ".o"]
            elif what == "py":
                path = self.name() + ".py"
                shutil.copyfile(self.rng.choice(self.corpus.source), path)
                with open(path + "c", "wb") as out:  # as py_compile writes it
                    out.write(b"\xa7\r\r\n" + b"\0" * 12 + compile(self.CODE.count("x") * "0;" + "a=1", path, "exec").co_code * 50)
                self.made += [path, path + "c"]
            elif what == "git":
                shutil.copyfile(self.rng.choice(self.corpus.source), self.name() + ".h")
                run("git", "-C", self.at, "add", "-A")
                run("git", "-C", self.at, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x")
                if self.rng.random() < 0.1:
                    run("git", "-C", self.at, "gc", "-q")
            elif self.rng.random() < 0.3:
                for path in [p for p in self.made if p.endswith(".o")]:
                    os.path.exists(path) and os.unlink(path)
        self.tidy()


class Unpack(Load):
    """Archives come, are unpacked, packed again, and go."""

    def step(self):
        what = self.rng.choice(["get", "get", "unpack", "unpack", "pack"])
        archive = self.rng.choice(self.corpus.archive)
        if os.path.getsize(archive) * 6 > self.disk.room():
            self.tidy(0.5)
        path = self.name()
        if what == "get":
            shutil.copyfile(archive, path + os.path.basename(archive))
            path += os.path.basename(archive)
        elif what == "unpack":
            os.makedirs(path)
            tool = ["unzip", "-q", archive, "-d", path] if archive.endswith("zip") else ["7z", "x", "-bd", "-o" + path, archive] if \
                archive.endswith("7z") else ["tar", "xf", archive, "-C", path]
            run(*tool)
        else:
            files = [self.corpus.pick(self.rng) for _ in range(self.rng.randint(1, 12))]
            form = self.rng.choice(["-cz", "-cJ", "-cj", "--zstd -c"])
            run("tar", *form.split(), "-f", path, *files)
        self.made.append(path)
        self.tidy()


class Database(Load):
    """SQLite in all journal modes, with hashes, and some values compressed or random."""
    disk_mib = 128

    def start(self):
        super().start()
        self.db = sqlite3.connect(self.at + "/a.db")
        self.db.execute("pragma journal_mode=" + self.rng.choice(["wal", "delete", "truncate"]))
        self.db.execute("pragma page_size=4096")
        self.db.execute("create table t(id integer primary key, who text, body text, hash blob, data blob)")
        self.db.execute("create index i on t(who)")
        self.db.execute("create index h on t(hash)")

    def step(self):
        rng = self.rng
        for _ in range(size(rng, 5, 600)):
            text = ("".join(rng.choices("etaoin shrdlu", k=40)) * rng.randint(1, 40)).encode()
            secret = rng.randbytes(rng.randint(16, 3000)) if rng.random() < 0.05 else None
            data = rng.choice([None, None, None, zlib.compress(text), secret])
            self.db.execute("insert into t(who, body, hash, data) values (?, ?, ?, ?)",
                            (f"u{rng.randint(1, 5000)}", text.decode(), rng.randbytes(32), data))
        if rng.random() < 0.5:
            self.db.execute("update t set body = body || 'x' where id % ? = 1", (rng.randint(20, 400),))
        if rng.random() < 0.3 or self.disk.used() > 0.7:
            self.db.execute("delete from t where id in (select id from t order by random() limit (select count(*) / 3 from t))")
        self.db.commit()
        if rng.random() < 0.03:
            self.db.execute("vacuum")

    def close(self):
        self.db.close()


class Video(Load):
    """A recorder that appends and drops the oldest; films, songs and pictures that are copied."""

    def start(self):
        fill(self.disk, self.corpus, self.rng, self.rng.uniform(0.2, 0.5))  # some of it goes: videos come where documents were
        for where, _, names in os.walk(self.at):
            self.made += [os.path.join(where, n) for n in names if self.rng.random() < 0.7]
        self.rng.shuffle(self.made)
        self.open = {}

    def step(self):
        rng = self.rng
        if rng.random() < 0.6:  # the recorder
            camera = rng.randint(0, 2)
            if camera not in self.open or self.open[camera][1] >= os.path.getsize(self.open[camera][0]):
                self.open[camera] = (rng.choice(self.corpus.video), 0, self.name())
                self.made.append(self.open[camera][2])
            source, offset, path = self.open[camera]
            length = size(rng, 64 << 10, 6 * MIB)
            with open(source, "rb") as data, open(path, "ab") as out:
                data.seek(offset)
                out.write(data.read(length))
            self.open[camera] = (source, offset + length, path)
        else:
            for _ in range(rng.randint(1, 4)):
                source = rng.choice(rng.choice([self.corpus.video, self.corpus.jpg, self.corpus.jpg]))
                path = self.name()
                shutil.copyfile(source, path)
                self.made.append(path)
        self.tidy(rng.uniform(0.6, 0.85))


class LogRotation(Load):
    """Daemons write, logrotate turns, with every compressor."""

    def start(self):
        super().start()
        self.tool = self.rng.choice(["gzip", "xz", "zstd", "bzip2"])
        os.makedirs(self.at + "/log")
        self.conf, self.state = self.at + "/logrotate.conf", self.at + "/state"
        extra = f"compresscmd /usr/bin/{self.tool}\n    compressext .z\n" + ("    delaycompress\n" if self.rng.random() < 0.5 else "")
        with open(self.conf, "w") as out:
            out.write(f"{self.at}/log/*.log {{\n    rotate {self.rng.randint(3, 30)}\n    compress\n    {extra}    missingok\n"
                      f"    {'copytruncate' if self.rng.random() < 0.3 else 'create'}\n    su root root\n}}\n")
        os.chmod(self.conf, 0o644)
        os.chmod(self.at + "/log", 0o755)
        self.now = 1700000000

    def step(self):
        rng = self.rng
        for service in rng.sample(["web", "mail", "kernel", "auth", "app", "db"], rng.randint(1, 6)):
            with open(f"{self.at}/log/{service}.log", "a") as out:
                for _ in range(size(rng, 20, 6000)):
                    self.now += rng.randint(0, 3)
                    out.write(f"{self.now} host {service}[{rng.randint(1, 65000)}]: {rng.choice(['GET', 'POST', 'accepted', 'denied'])} "
                              f"/{rng.getrandbits(rng.choice([8, 16, 64])):x} from 10.{rng.randint(0, 255)}.{rng.randint(0, 255)}.7 "
                              f"id={rng.getrandbits(128):032x} {rng.random():.6f}\n")
        if rng.random() < 0.4:
            run("logrotate", "-f", "-s", self.state, self.conf)
            os.system(f"rm -f {self.at}/log/*.*.[4-9][0-9]*")


class Defragment(Load):
    """Files of all kinds, also encrypted ones, broken into pieces and put together again by the file system's own tool."""

    def start(self):
        fill(self.disk, self.corpus, self.rng, 0.55)
        for i in range(6):  # of a user who encrypts his letters and keeps an encrypted backup
            with open(f"{self.at}/home/secret-{i}.gpg", "wb") as out:
                out.write(b"\x85\x02\x0c\x03" + self.rng.randbytes(size(self.rng, 20000, 2 * MIB)))
        self.files = [os.path.join(w, n) for w, _, names in os.walk(self.at) for n in names]

    def step(self):
        rng = self.rng
        if rng.random() < 0.5:  # two files grow in turns, from old content
            for turn in range(rng.randint(2, 12)):
                for path in rng.sample(self.files, 2):
                    if os.path.exists(path) and os.path.getsize(path) < 4 * MIB:
                        with open(path, "rb") as data:
                            piece = data.read(size(rng, 4096, 200000))
                        with open(f"{path}.part{turn % 3}", "ab") as out:
                            out.write(piece)
                        self.made.append(f"{path}.part{turn % 3}")
            self.tidy(0.75)
            if rng.random() < 0.5 and self.made:
                path = self.made.pop(rng.randrange(len(self.made)))
                os.path.exists(path) and os.unlink(path)
        else:
            left = [p for p in self.made + self.files if os.path.exists(p)]
            some = rng.sample(left, min(len(left), rng.randint(1, 40)))
            tool = {"ext4": ["e4defrag"], "btrfs": ["btrfs", "filesystem", "defragment", "-f"], "xfs": ["xfs_fsr"]}.get(self.disk.fs)
            for path in some if tool is None else []:  # where there is none: as one does it by hand
                shutil.copyfile(path, path + ".new")
                os.replace(path + ".new", path)
            for path in some if tool is not None else []:
                subprocess.run([*tool, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class MailSpool(Load):
    """mbox and maildir: mails with texts, attachments, armoured cipher text; some folders compressed; expunged and rewritten."""

    def message(self):
        rng, mail = self.rng, EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = f"a{rng.randint(1, 999)}@example.org", "b@example.org", f"about {rng.random()}"
        with open(rng.choice(self.corpus.text), "rb") as data:
            mail.set_content(data.read()[:size(rng, 200, 20000)].decode("latin1").replace("\r", ""))
        if rng.random() < 0.35:
            path = rng.choice(rng.choice([self.corpus.jpg, self.corpus.office, self.corpus.pdf]))
            with open(path, "rb") as data:
                mail.add_attachment(data.read()[:700000], maintype="application", subtype="octet-stream", filename="x")
        elif rng.random() < 0.15:
            mail.add_attachment(rng.randbytes(size(rng, 500, 60000)), maintype="application", subtype="pgp-encrypted", filename="x.asc")
        return mail.as_bytes()

    def start(self):
        super().start()
        self.box = self.at + "/mbox"
        self.dir = mailbox.Maildir(self.at + "/maildir")
        self.zipped = self.rng.random() < 0.4
        self.keys = []

    def step(self):
        rng = self.rng
        for _ in range(rng.randint(1, 8)):
            mail = self.message()
            if rng.random() < 0.5:
                with open(self.box, "ab") as out:
                    out.write(b"From a@example.org Mon Jan  1 00:00:00 2026\n" + mail + b"\n")
            else:
                path = f"{self.at}/maildir/new/{self.number}.{rng.getrandbits(40)}"
                self.number += 1
                with open(path, "wb") as out:
                    out.write(gzip.compress(mail) if self.zipped else mail)
                self.made.append(path)
        if os.path.exists(self.box) and (rng.random() < 0.05 or os.path.getsize(self.box) > 12 * MIB):  # expunge: written anew
            with open(self.box, "rb") as data:
                mails = data.read().split(b"\nFrom a@example.org ")
            with open(self.box + ".new", "wb") as out:
                out.write(b"\nFrom a@example.org ".join(mails[::2]))
            os.replace(self.box + ".new", self.box)
        for path in [p for p in self.made if rng.random() < 0.03]:
            os.unlink(path)
            self.made.remove(path)
        self.tidy(0.75)


class EncryptedGuest(Load):
    """A guest that encrypts its disk (LUKS, see signal_lab.c), and in it any of the others."""
    luks = True

    def __init__(self, disk, corpus, rng):
        super().__init__(disk, corpus, rng)
        self.inner = rng.choice([Unpack, Database, MailSpool, LogRotation, Video])(disk, corpus, rng)

    def start(self):
        self.inner.start()

    def step(self):
        self.inner.step()

    def close(self):
        self.inner.close()


class WebCache(Load):
    """A browser's cache: bodies as they came over the wire (brotli without any head, gzip, pictures, fonts, videos), an index; evicted."""

    def start(self):
        super().start()
        os.makedirs(self.at + "/cache")
        self.index = {}

    def body(self):
        rng = self.rng
        path = rng.choice(rng.choice([self.corpus.text, self.corpus.text, self.corpus.png, self.corpus.jpg, self.corpus.video]))
        with open(path, "rb") as data:
            whole = data.read(size(rng, 3000, 600000))
        form = rng.choice(["br", "gz", "deflate"]) if path.endswith((".txt", ".html", ".md", ".pm", "copyright", "README")) else ""
        if form == "br":
            return subprocess.run(["brotli", "-q", "5", "-c"], input=whole, stdout=subprocess.PIPE, check=True).stdout
        return gzip.compress(whole) if form == "gz" else zlib.compress(whole)[2:] if form == "deflate" else whole

    def step(self):
        rng = self.rng
        for _ in range(rng.randint(1, 12)):
            path = f"{self.at}/cache/{rng.getrandbits(64):016x}"
            with open(path, "wb") as out:
                out.write((b"" if rng.random() < 0.5 else b"HTTP/1.1 200 OK\r\ncontent-type: x\r\n\r\n") + self.body())
            self.made.append(path)
            self.index[path] = rng.random()
        with open(self.at + "/cache/index", "w") as out:
            out.write("\n".join(f"{path} {when}" for path, when in self.index.items()))
        self.tidy(0.7)


class GitServer(Load):
    """Bare repositories that are pushed to, repacked and collected; large files in them as objects."""

    def start(self):
        super().start()
        self.repos = []
        for i in range(3):
            work, bare = f"{self.at}/work{i}", f"{self.at}/bare{i}.git"
            run("git", "init", "-q", "--bare", bare)
            run("git", "clone", "-q", bare, work)
            self.repos.append((work, bare))

    def step(self):
        rng = self.rng
        work, bare = rng.choice(self.repos)
        for _ in range(rng.randint(1, 8)):
            source = rng.choice(rng.choice([self.corpus.source, self.corpus.text, self.corpus.png]))
            shutil.copyfile(source, f"{work}/f{rng.randint(1, 60)}")
        if rng.random() < 0.2:
            shutil.copyfile(self.corpus.pick(rng), f"{work}/large{rng.randint(1, 4)}")
        git = ["git", "-C", work, "-c", "user.name=a", "-c", "user.email=a@b"]
        run(*git, "add", "-A")
        subprocess.run([*git, "commit", "-q", "-m", str(rng.random())], stdout=subprocess.DEVNULL)
        run(*git, "push", "-q", "origin", "HEAD:refs/heads/main")
        if rng.random() < 0.1:
            run("git", "-C", rng.choice([bare, work]), "gc", "-q", "--prune=now")
        if self.disk.used() > 0.7:
            shutil.rmtree(work + "/.git")
            shutil.rmtree(bare)
            run("git", "init", "-q", "--bare", bare)
            run("git", "init", "-q", work)
            run("git", "-C", work, "remote", "add", "origin", bare)


class Office(Load):
    """What goes on beside an encryptor: documents written, a log, a database. Not one of the eight loads."""

    def start(self):
        fill(self.disk, self.corpus, self.rng, self.rng.uniform(0.35, 0.6))

    def step(self):
        rng = self.rng
        for _ in range(rng.randint(0, 3)):
            source = self.corpus.pick(rng)
            if os.path.getsize(source) < self.disk.room() // 8:
                path = self.name() + os.path.basename(source)
                shutil.copyfile(source, path)
                self.made.append(path)
        with open(self.at + "/app.log", "a") as out:
            out.write("".join(f"{rng.random()} something happened\n" for _ in range(size(rng, 10, 3000))))
        self.tidy(0.75)


# ---- encryptors: each takes some files of the disk, as the families named do ----

def stream(rng):
    return Cipher(algorithms.AES(rng.randbytes(32)), modes.CTR(rng.randbytes(16))).encryptor()


class Encryptor:
    per_increment = (1, 60)  # files

    def __init__(self, disk, rng):
        self.disk, self.rng, self.done = disk, rng, set()
        self.share = rng.random()

    def files(self):
        found = []
        for where, _, names in os.walk(self.disk.mnt):
            found += [os.path.join(where, n) for n in names if not n.endswith(".locked") and os.path.join(where, n) not in self.done]
        return sorted(p for p in found if os.path.getsize(p) >= 1024 and not os.path.islink(p))

    def step(self):
        """False: nothing is left."""
        files = self.files()
        count = size(self.rng, *self.per_increment)
        chosen = self.rng.sample(files, min(count, len(files)))
        done = 0
        for path in chosen:
            if done > 12 * MIB:
                break
            done += os.path.getsize(path)
            self.encrypt(path)
            self.done.add(path)
        return done > 0

    def over(self, path, pieces, footer=True):
        """Encrypts [offset, length) pieces of a file where they are."""
        cipher = stream(self.rng)
        with open(path, "r+b") as file:
            for offset, length in pieces:
                file.seek(offset)
                data = file.read(length)
                file.seek(offset)
                file.write(cipher.update(data))
            if footer:
                file.seek(0, 2)
                file.write(self.rng.randbytes(256))

    def rename(self, path):
        os.replace(path, path + ".locked")


class InPlace(Encryptor):
    """The whole file where it is, a key behind it, renamed (as Phobos, Dharma on small files)."""

    def encrypt(self, path):
        self.over(path, [(0, os.path.getsize(path))])
        self.rename(path)


class Rename(Encryptor):
    """A new encrypted file, then the old one overwritten with zeroes or ones and removed (as WannaCry; no head, some with 8 bytes)."""

    def encrypt(self, path):
        length = os.path.getsize(path)
        if length + 4096 > self.disk.room():
            return
        with open(path, "rb") as data, open(path + ".locked", "wb") as out:
            out.write(self.rng.randbytes(512) + stream(self.rng).update(data.read()))
        if self.share < 0.5:
            with open(path, "r+b") as file:
                file.write(bytes([0 if self.share < 0.25 else 0x55]) * length)
                file.flush()
                os.fsync(file.fileno())
        os.unlink(path)


class Partial(Encryptor):
    """The first part of each file (as LockBit 2, 4 KiB; others up to 1 MiB)."""

    def encrypt(self, path):
        self.over(path, [(0, (4 << 10, 64 << 10, 1 << 20)[int(self.share * 3)])])
        self.rename(path)


class Intermittent(Encryptor):
    """A piece of every few (as BlackCat, Play, Royal): so many KiB, so many left out."""

    def encrypt(self, path):
        piece, step = ((4 << 10, 16 << 10), (64 << 10, 256 << 10), (16 << 10, 32 << 10), (1 << 20, 4 << 20))[int(self.share * 4)]
        self.over(path, [(at, piece) for at in range(0, os.path.getsize(path), step)])
        self.rename(path)


class Slow(Encryptor):
    """One to three files an increment, whole, where they are."""
    per_increment = (1, 3)

    def encrypt(self, path):
        self.over(path, [(0, os.path.getsize(path))])


class SlowRename(Rename):
    """One to three files an increment, written anew and removed."""
    per_increment = (1, 3)


class Woven(Encryptor):
    """Every other 16 bytes (as LockFile)."""

    def encrypt(self, path):
        with open(path, "r+b") as file:
            data = bytearray(file.read())
            new = stream(self.rng).update(bytes(data))
            for at in range(0, len(data), 32):
                data[at:at + 16] = new[at:at + 16]
            file.seek(0)
            file.write(data)
        self.rename(path)


class Base64(Encryptor):
    """Cipher text as letters, so that no histogram is even: made to evade."""

    def encrypt(self, path):
        import base64
        with open(path, "rb") as data:
            text = base64.b64encode(stream(self.rng).update(data.read()))
        if len(text) + 65536 < self.disk.room():
            with open(path, "wb") as out:
                out.write(text)
            self.rename(path)


# Version 1 of the detector was tuned on the first halves only, fixed before. It held on the others but for defragmenting, which then was
# used to tune version 2; so two loads that nothing was tuned on came in its place.
LOADS = {"compiling": Compile, "unpacking": Unpack, "database": Database, "video": Video, "defragmenting": Defragment}
LOADS_UNSEEN = {"log-rotation": LogRotation, "encrypted-guest": EncryptedGuest, "mail-spool": MailSpool, "web-cache": WebCache,
                "git-server": GitServer}
ENCRYPTORS = {"in-place": InPlace, "rename": Rename, "partial": Partial, "slow-rename": SlowRename}
ENCRYPTORS_UNSEEN = {"intermittent": Intermittent, "slow": Slow, "woven": Woven, "base64": Base64}
