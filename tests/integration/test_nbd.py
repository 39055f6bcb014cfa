#!/usr/bin/env python3
"""A point is opened over NBD (`farshore-node vault open`, the nbdkit plugin): at once, while the node works on; read-only or copy on
write; what is damaged is an error.

far-timeout: 240
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess

import farlib
import tap

SIZE = 48 * farlib.MIB + 12345
PLUGIN = os.path.join(farlib.BUILD, ".libs/nbdkit-farshore-plugin.so")
cluster = seed = None


def path(name):
    return os.path.join(cluster.base, name)


def need_a_plain_build():
    """nbdkit cannot load a plugin with sanitizers in it."""
    with open(PLUGIN, "rb") as file:
        if b"__asan_init" in (content := file.read()) or b"__tsan_init" in content:
            raise tap.Skip("the plugin has sanitizers in it")


class Opened:
    """The disk of a point behind a Unix socket, as long as the block lasts."""

    def __init__(self, point, *options, disk="disk0"):
        need_a_plain_build()
        self.socket = path("nbd.socket")
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        self.uri = "nbd+unix:///?socket=" + self.socket
        command = [farlib.program("farshore-node"), "vault", "open", "--vault",
                   cluster.nodes["target"].dir + "/vault", "--point", str(point), "--disk", disk, "--socket", self.socket, *options]
        self.process = subprocess.Popen(command, env=dict(os.environ, FARSHORE_NBDKIT_PLUGIN=PLUGIN), text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=farlib.die_with_parent)

    def __enter__(self):
        farlib.until(lambda: os.path.exists(self.socket) or self.process.poll() is not None, 30, "the socket")
        assert self.process.poll() is None, self.process.communicate()
        return self

    def __exit__(self, *unused):
        self.process.send_signal(signal.SIGTERM)
        self.out, self.err = self.process.communicate()


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def points():
    return sorted(point["id"] for point in cluster.get("/v1/points")["items"])


def every_point_is_the_disk_of_its_time():
    farlib.make_image(path("a.img"), SIZE, seed)
    cluster.protect("vm", [path("a.img")])
    cluster.replicate()
    shutil.copyfile(path("a.img"), path("a.first"))
    farlib.change_image(path("a.img"), 40, seed + 1)
    cluster.replicate()
    for point, image in zip(points(), ("a.first", "a.img")):
        with Opened(point) as opened:
            status, text = run("nbdinfo", "--json", opened.uri)
            export = json.loads(text)["exports"][0]
            assert status == 0 and export["export-size"] == SIZE and export["is_read_only"] and export["can_multi_conn"], text
            status, text = run("nbdcopy", opened.uri, path("copy"))
            assert status == 0 and farlib.same_bytes(path(image), path("copy")), text
        assert "%d bytes: nbd+unix" % SIZE in opened.out, opened.out
        os.unlink(path("copy"))


def its_holes_are_told():
    """What is zero in the image is so in the map of the export, whatever the cuts."""
    with Opened(points()[-1]) as opened:
        status, text = run("nbdinfo", "--map", "--json", opened.uri)
        extents = json.loads(text)
    assert status == 0 and sum(extent["length"] for extent in extents) == SIZE, text
    with open(path("a.img"), "rb") as image:
        data = image.read()
    zeroes = sum(extent["length"] for extent in extents if extent["type"] & 2)
    wanted = sum(len(block) for block in (data[at:at + farlib.BLOCK] for at in range(0, SIZE, farlib.BLOCK)) if not any(block))
    assert zeroes == wanted, (zeroes, wanted)
    for extent in extents:
        if extent["type"] & 2:
            assert not any(data[extent["offset"]:extent["offset"] + extent["length"]]), extent


def a_point_stays_open_while_the_node_works_on():
    first = points()[0]
    with Opened(first) as opened:
        farlib.change_image(path("a.img"), 60, seed + 2)
        cluster.replicate()
        status, text = run("nbdcopy", opened.uri, path("copy"))
        assert status == 0 and farlib.same_bytes(path("a.first"), path("copy")), text
    os.unlink(path("copy"))


def what_is_written_is_seen_and_goes():
    first = points()[0]
    farlib.make_image(path("other"), SIZE, seed + 3)
    with Opened(first, "--writable") as opened:
        status, text = run("nbdcopy", path("other"), opened.uri)
        assert status == 0, text
        status, text = run("nbdcopy", opened.uri, path("copy"))
        assert status == 0 and farlib.same_bytes(path("other"), path("copy")), text
    os.unlink(path("copy"))
    with Opened(first) as opened:
        assert run("nbdcopy", path("other"), opened.uri)[0] != 0  # read-only
        status, text = run("nbdcopy", opened.uri, path("copy"))
        assert status == 0 and farlib.same_bytes(path("a.first"), path("copy")), text
    os.unlink(path("copy"))


def a_disk_is_used_while_it_is_written_out():
    """Instant recovery: whole at the end; what was written and flushed is there after kill -9."""
    first, target = points()[0], path("hydrated")
    with Opened(first, "--hydrate", target, "--order", path("order")) as opened:
        status, text = run("nbdcopy", opened.uri, path("copy"))
        assert status == 0 and farlib.same_bytes(path("a.first"), path("copy")), text
        farlib.until(lambda: not os.path.exists(target + ".hydrating"), 60, "all of it")
    assert farlib.same_bytes(path("a.first"), target) and "100 %" in opened.err, opened.err
    assert os.path.getsize(path("order")) > 24
    os.unlink(target)
    farlib.make_image(path("other"), SIZE, seed + 4)
    with Opened(first, "--hydrate", target, "--order", path("order")) as opened:
        status, text = run("nbdcopy", "--flush", path("other"), opened.uri)
        assert status == 0, text
        opened.process.kill()
        opened.process.wait()
    with Opened(first, "--hydrate", target) if os.path.exists(target + ".hydrating") else contextlib.nullcontext():
        farlib.until(lambda: not os.path.exists(target + ".hydrating"), 60, "all of it")
    assert farlib.same_bytes(path("other"), target)
    with Opened(first) as opened:
        status, text = run("nbdcopy", opened.uri, path("copy"))
        assert status == 0 and farlib.same_bytes(path("a.first"), path("copy")), text
    os.unlink(path("copy"))


def what_makes_no_sense_is_refused():
    vault = cluster.nodes["target"].dir + "/vault"
    good = ["--vault", vault, "--point", str(points()[0]), "--disk", "disk0", "--socket", path("s")]

    def refused(words, *arguments):
        status, text = run(farlib.program("farshore-node"), "vault", "open", *arguments)
        assert status != 0 and words in text and not os.path.exists(path("s")), (arguments, text)
    refused("no disk 'disk9'", *good[:5], "disk9", *good[6:])
    refused("point 4711", *good[:3], "4711", *good[4:])
    refused("is not the number of a point", *good[:3], "x", *good[4:])
    refused("no vault", "--vault", path("nothing"), *good[2:])
    refused("one of --socket and --port", *good[:6])
    refused("one of --socket and --port", *good, "--port", "10809")
    refused("is no port", *good[:6], "--port", "70000")
    refused("is no port", *good[:6], "--port", "-1")
    refused("--disk is missing", *good[:4], *good[6:])
    refused("is there already", *good[:6], "--socket", path("a.img"))
    refused("goes with --hydrate", *good, "--order", path("o"))
    refused("too long for a socket", *good[:6], "--socket", path("s" * 200))
    refused("is writable already", *good, "--writable", "--hydrate", path("o"))


def what_nbdkit_refuses_is_refused_before_a_uri_is_told():
    need_a_plain_build()
    base = ["--vault", cluster.nodes["target"].dir + "/vault", "--point", str(points()[0]), "--disk", "disk0"]
    environment = dict(os.environ, FARSHORE_NBDKIT_PLUGIN=PLUGIN)
    for wanted, *options in ((2, "--cache", "1"), (4, "--hydrate", path("a.img")), (3, "--hydrate", path("nowhere/disk")),
                             (2, "--hydrate", path("n" * 5000)), (2, "--cache", "much")):
        done = subprocess.run([farlib.program("farshore-node"), "vault", "open", *base, "--socket", path("s"), *options], env=environment,
                              capture_output=True, text=True)
        assert done.returncode == wanted and "nbd" not in done.stdout and not os.path.exists(path("s")), (options, done)
    status, text = run(farlib.program("farshore-node"), "vault", "open", *base, "--socket", path("nowhere/s"))
    assert status == 3, text


def a_socket_that_nobody_listens_on_makes_room():
    """After SIGTERM there is none; what kill -9 leaves is replaced by the same command; one that is served is not."""
    first = points()[0]
    with Opened(first) as opened:
        pass
    assert not os.path.exists(opened.socket) and opened.process.returncode == 0, opened.err
    with Opened(first) as opened:
        assert "nbd+unix" in opened.process.stdout.readline()
        status, text = run(*opened.process.args)
        assert status == 4 and "is there already" in text, text
        opened.process.kill()
        opened.process.wait()
        again = subprocess.Popen(opened.process.args, env=dict(os.environ, FARSHORE_NBDKIT_PLUGIN=PLUGIN), text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=farlib.die_with_parent)
        assert "nbd+unix" in again.stdout.readline(), again.communicate()
        status, text = run("nbdcopy", opened.uri, path("copy"))
        again.send_signal(signal.SIGTERM)
        again.communicate()
    assert status == 0 and farlib.same_bytes(path("a.first"), path("copy")) and not os.path.exists(opened.socket), text
    os.unlink(path("copy"))


def a_damaged_block_is_an_error_and_never_data():
    cluster.nodes["target"].stop()
    packs = cluster.nodes["target"].dir + "/vault/packs"
    victim = max((os.path.join(packs, name) for name in os.listdir(packs)), key=os.path.getsize)
    with open(victim, "r+b") as file:
        file.seek(os.path.getsize(victim) // 4)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 4]))
    with Opened(points()[0]) as opened:
        status, text = run("nbdcopy", opened.uri, path("copy"))
        assert status != 0 and "Input/output error" in text, text
    assert "checksum" in opened.err and "pack" in opened.err, opened.err


if __name__ == "__main__":
    seed = farlib.seed_of_run()
    with farlib.Cluster() as cluster:
        tap.run_all([every_point_is_the_disk_of_its_time, its_holes_are_told, a_point_stays_open_while_the_node_works_on,
                     what_is_written_is_seen_and_goes, a_disk_is_used_while_it_is_written_out,
                     what_makes_no_sense_is_refused, what_nbdkit_refuses_is_refused_before_a_uri_is_told,
                     a_socket_that_nobody_listens_on_makes_room, a_damaged_block_is_an_error_and_never_data])
