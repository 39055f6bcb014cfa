"""The demo's disk: a raw image with an ext4 file system full of real files, made, changed and read without mounting."""
import hashlib
import os
import random
import shutil
import stat
import subprocess

BLOCK = 65536
MIB = 1 << 20
PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+/")


class DiskFailure(Exception):
    """A tool of e2fsprogs failed."""


def tool(*argv, good=(0,)):
    environment = dict(os.environ, PATH=os.environ.get("PATH", "") + ":/sbin:/usr/sbin", LC_ALL="C")
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", env=environment)
    if done.returncode not in good:
        raise DiskFailure("%s: status %d: %s" % (argv[0], done.returncode, done.stdout[-400:]))
    return done.stdout


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(MIB), b""):
            digest.update(piece)
    return digest.hexdigest()


def real_files(limit_bytes):
    """Regular files of /usr, readable, with plain names, in a fixed order, up to a total."""
    total = 0
    for folder, folders, names in os.walk("/usr"):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            try:
                info = os.lstat(path)
            except OSError:
                continue
            if not stat.S_ISREG(info.st_mode) or not os.access(path, os.R_OK) or not set(path) <= PLAIN:
                continue
            if info.st_size > 64 * MIB or total + info.st_size > limit_bytes:
                continue
            total += info.st_size
            yield path, info.st_size


def make_tree(tree, limit_bytes, progress):
    """Copies real files; returns {path in the file system: SHA-256} and their bytes."""
    sums, done = {}, 0
    for path, size in real_files(limit_bytes):
        target = tree + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(path, target)
        sums[path] = sha256_of(target)
        done += size
        progress(done, limit_bytes)
    return sums, done


def remove_tree(tree, progress):
    """The folder and all in it; progress(files removed, files)."""
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(tree) for name in names]
    for number, path in enumerate(paths, 1):
        os.unlink(path)
        progress(number, len(paths))
    shutil.rmtree(tree)


def make_image(image, tree, size):
    with open(image, "wb") as file:
        file.truncate(size)
    tool("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-L", "farshore-demo", "-d", tree, image)


def block_hashes(path, progress):
    """Of each block of 64 KiB: what differs is what changed, by a way of its own."""
    hashes, size = [], os.path.getsize(path)
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(16 * BLOCK), b""):
            hashes += [hashlib.blake2b(piece[i:i + BLOCK], digest_size=16).digest() for i in range(0, len(piece), BLOCK)]
            progress(len(hashes) * BLOCK, size)
    return hashes


def change_files(image, tree, sums, wanted_bytes, seed):
    """Through the file system (debugfs): some files are replaced by edited ones, some removed, some are new, until about
    wanted_bytes of file content are written anew. Updates sums; returns (edited, removed, added, bytes)."""
    rng = random.Random(seed)
    names = [n for n in sums if 200000 <= os.path.getsize(tree + n) <= 4 * MIB]
    rng.shuffle(names)
    commands, written, edited, removed, added = [], 0, 0, 0, 0
    scratch = tree + ".changed"
    os.makedirs(scratch)
    while written < wanted_bytes and names:
        name = names.pop()
        content = bytearray(open(tree + name, "rb").read())
        folder, base = os.path.split(name)
        commands += ["cd " + folder, "rm " + base]
        roll = rng.random()
        if roll < 0.1:
            del sums[name]
            removed += 1
            continue
        if roll < 0.25:
            base, added = "new-%d" % len(commands), added + 1
            del sums[name]
            removed += 1
        else:
            edited += 1
        for _ in range(1 + len(content) // 4096):
            content[rng.randrange(len(content))] ^= 0x55
        source = os.path.join(scratch, "%d" % len(commands))
        with open(source, "wb") as file:
            file.write(content)
        commands.append("write %s %s" % (source, base))
        sums[folder + "/" + base] = hashlib.sha256(content).hexdigest()
        written += len(content)
    script = os.path.join(scratch, "script")
    with open(script, "w", encoding="ascii") as file:
        file.write("\n".join(commands) + "\n")
    tool("debugfs", "-w", "-f", script, image)
    return edited, removed, added, written


def check_file_system(image):
    """e2fsck -fn: a Failure unless it is clean."""
    return tool("e2fsck", "-fn", image)


def compare_files(image, out, sums, progress):
    """Reads every file out of the image's file system and compares with the sums; returns how many are equal, and raises
    on the first that is missing, different, or too many."""
    os.makedirs(out)
    tool("debugfs", "-R", "rdump /usr %s" % out, image)
    left = dict(sums)
    for folder, _, names in os.walk(out):
        for name in names:
            path = os.path.join(folder, name)
            inside = path[len(out):]
            if inside not in left:
                raise DiskFailure("the recovered disk has a file that was not there: %s" % inside)
            if sha256_of(path) != left.pop(inside):
                raise DiskFailure("the recovered disk has another content in %s" % inside)
            progress(len(sums) - len(left), len(sums))
    if left:
        raise DiskFailure("the recovered disk lacks %d files, one is %s" % (len(left), next(iter(left))))
    return len(sums)
