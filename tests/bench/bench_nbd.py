#!/usr/bin/env python3
"""Points over NBD beside nbdkit's file plugin on the raw file, both behind a Unix socket, everything in memory, alternating in one run,
medians: all of the mixed disk in order, and 4 KiB at random from a warm cache; the marks: at least half as fast. And how long it takes from
the start of `farshore-node vault open` on a disk of 1 TiB to its first answer: less than 100 ms.

far-timeout: 900
"""
import os
import signal
import subprocess
import time

import transfer_kit as kit
from transfer_kit import tap

WARM_BYTES, READS = 32 << 20, 100000
PLUGIN = os.path.join(kit.BUILD, ".libs/nbdkit-farshore-plugin.so")


class Server:
    def __init__(self, folder, command):
        self.socket = os.path.join(folder, "socket")
        self.uri = "nbd+unix:///?socket=" + self.socket
        self.began = time.perf_counter()
        self.process = subprocess.Popen(command + [self.socket] if "vault" in command else command[:1] + ["-U", self.socket] + command[1:],
                                        env=dict(os.environ, FARSHORE_NBDKIT_PLUGIN=PLUGIN), stdout=subprocess.DEVNULL)

    def __enter__(self):
        while not os.path.exists(self.socket):
            assert self.process.poll() is None, "it ended"
            time.sleep(0.0005)  # far-poll: until it listens
        return self

    def __exit__(self, *unused):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        if os.path.exists(self.socket):
            os.unlink(self.socket)


def ours(folder, vault):
    return Server(folder, [os.path.join(kit.BUILD, "src/node/farshore-node"), "vault", "open", "--vault", vault, "--point", "1", "--disk",
                           "disk0", "--socket"])


def theirs(folder, image):
    return Server(folder, ["nbdkit", "-f", "-r", "file", image])


def reads(server, *arguments):
    program = os.path.join(kit.BUILD, "tests/bench/nbd_reads")
    return float(subprocess.run([program, server.uri, *map(str, arguments)], check=True, capture_output=True, text=True).stdout)


def make_point(vault, image, *size):
    subprocess.run([os.path.join(kit.BUILD, "tests/bench/make_point"), vault, image, *map(str, size)], check=True)


def measure():
    kit.need("nbdkit")
    times = {key: [] for key in ("sequential, file", "sequential, ours", "random, file", "random, ours")}
    with kit.scratch() as folder:
        image, vault = os.path.join(folder, "image"), os.path.join(folder, "vault")
        kit.make_mixed(image)
        make_point(vault, image)
        for number in range(kit.ROUNDS):
            for who, server in (("file", theirs(folder, image)), ("ours", None)):
                with server or ours(folder, vault) as running:
                    times["sequential, " + who].append(reads(running, "sequential"))
                    times["random, " + who].append(reads(running, "random", WARM_BYTES, READS))
            kit.say("round %d: %s" % (number + 1, ", ".join("%s %.3f s" % (key, each[-1]) for key, each in times.items())))
    return {key: kit.median(each) for key, each in times.items()}


def measure_open():
    kit.need("nbdkit")
    taken = []
    with kit.scratch() as folder:
        image, vault = os.path.join(folder, "image"), os.path.join(folder, "vault")
        kit.make_mixed(image, 64)
        make_point(vault, image, 1 << 40)
        for _ in range(max(5, kit.ROUNDS)):
            with ours(folder, vault) as running:
                reads(running, "open")
                taken.append(time.perf_counter() - running.began)
    return kit.median(taken)


measured = kit.Measured({"reads": measure, "open": measure_open})


def reads_in_order_are_at_least_half_as_fast_as_of_a_raw_file():
    figures = measured("reads")
    return kit.mark("of the speed of nbdkit's file plugin", figures["sequential, file"] / figures["sequential, ours"], at_least=0.5)


def reads_at_random_from_a_warm_cache_too():
    figures = measured("reads")
    return kit.mark("of the speed of nbdkit's file plugin", figures["random, file"] / figures["random, ours"], at_least=0.5)


def a_disk_of_a_tib_opens_at_once():
    return kit.mark("milliseconds to the first answer", measured("open") * 1000, at_most=100)


if __name__ == "__main__":
    tap.run_all([reads_in_order_are_at_least_half_as_fast_as_of_a_raw_file, reads_at_random_from_a_warm_cache_too,
                 a_disk_of_a_tib_opens_at_once])
