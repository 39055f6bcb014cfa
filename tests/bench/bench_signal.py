#!/usr/bin/env python3
"""Makes increments of benign loads and of encryptors on real file systems, and keeps what the signal's features of them are.

    bench_signal.py make OUT WORK which from to    chains of `which` (tune, unseen, all) with the seeds from..to-1, appended to OUT
                                                   (as root: it mounts; WORK on a memory file system is much faster)

Lines of OUT: chain,label,step,span and the features. label: `benign`, or an encryptor's name where it was at work in the increment."""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import signal_kit
from signal_corpus import Corpus

BUILD = os.environ.get("FAR_BUILD", "build/mine")
SPANS = ["4", "16"]
BENIGN_STEPS, WARM_STEPS, ATTACK_STEPS, SLOW_STEPS = 100, 14, 10, 40
KEY = "00112233445566778899aabbccddeeff" * 4


class Lab:
    def __init__(self, folder, image, luks=None):
        command = [BUILD + "/tests/bench/signal_lab"]
        if luks is not None:
            header = folder + "/header"
            with open(header, "wb") as out:
                out.truncate(8 << 20)
            subprocess.run(["cryptsetup", "-q", "luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--cipher",
                            "aes-xts-plain64", "--key-size", "512", header, "-"], input=b"pw", check=True)
            os.truncate(header, 2 << 20)
            command += ["--luks", header, KEY, luks]
        command += [folder + "/vault", image] + SPANS
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def point(self):
        """Features by span."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found = {}
        for line in self.process.stdout:
            if line == ".\n":
                return found
            span, rest = line.split(" ", 1)
            found[span] = rest.strip()
        raise SystemExit("signal_lab ended")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


class Chain:
    def __init__(self, name, seed, out, corpus, work):
        self.name, self.out, self.corpus = f"{name}/{seed}", out, corpus
        self.rng = random.Random(f"signal {name} {seed}")
        self.folder = tempfile.mkdtemp(dir=work)
        self.labels = []

    def run(self, kind, encryptor=None):
        self.disk = signal_kit.Disk(self.folder, self.rng, kind.disk_fs, kind.disk_mib)
        load = lab = None
        try:
            load = kind(self.disk, self.corpus, self.rng)
            load.start()
            luks = self.rng.choice(["filled", "sparse"]) if getattr(kind, "luks", False) else None
            lab = Lab(self.folder, self.disk.image, luks)
            self.point(lab, "benign")
            if encryptor is None:
                self.benign(lab, load)
            else:
                self.attack(lab, load, encryptor)
        finally:
            load is not None and load.close()
            lab is not None and lab.close()
            self.disk.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def point(self, lab, label):
        self.disk.sync()
        self.labels.append(label)
        for span, features in lab.point().items():
            covered = self.labels[-int(span):]
            worst = next((label for label in covered if label != "benign"), "benign")
            self.out.write(f"{self.name},{worst},{len(self.labels) - 1},{span},{features}\n")

    def benign(self, lab, load):
        for _ in range(BENIGN_STEPS):
            load.step()
            self.point(lab, "benign")

    def attack(self, lab, load, encryptor):
        for _ in range(WARM_STEPS):
            load.step()
            self.point(lab, "benign")
        at_work = encryptor(self.disk, self.rng)
        for _ in range(SLOW_STEPS if encryptor.per_increment[1] <= 3 else ATTACK_STEPS):
            if self.rng.random() < 0.5:
                load.step()
            if not at_work.step():
                break
            self.point(lab, self.name.split("/")[0])


def make(path, work, which, first, last):
    corpus = Corpus(work + "/corpus")
    only = os.environ.get("FAR_ONLY", "")
    loads = {"tune": signal_kit.LOADS, "unseen": signal_kit.LOADS_UNSEEN, "all": {**signal_kit.LOADS, **signal_kit.LOADS_UNSEEN}}[which]
    attacks = {"tune": signal_kit.ENCRYPTORS, "unseen": signal_kit.ENCRYPTORS_UNSEEN,
               "all": {**signal_kit.ENCRYPTORS, **signal_kit.ENCRYPTORS_UNSEEN}}[which]
    with open(path, "a", buffering=1) as out:
        for seed in range(first, last):
            for name, kind in list(loads.items()) + list(attacks.items()):
                if not any(part in name for part in only.split(",")):
                    continue
                begin = time.monotonic()
                chain = Chain(name, seed, out, corpus, work)
                try:
                    chain.run(kind) if name in loads else chain.run(signal_kit.Office, kind)
                except (OSError, subprocess.CalledProcessError, signal_kit.sqlite3.Error) as problem:  # a full disk ends a chain early
                    print(f"{name}/{seed}: ended early: {problem}", file=sys.stderr)
                print(f"{name}/{seed} {chain.disk.fs} {chain.disk.mib} MiB: {len(chain.labels)} points, {time.monotonic() - begin:.1f} s",
                      file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) == 7 and sys.argv[1] == "make":
        make(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
    else:
        raise SystemExit(__doc__)
