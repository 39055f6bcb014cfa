"""A whole Farshore on this machine, for tests and the demo: servers and nodes as real processes with TLS on loopback.

    with farlib.Cluster(base) as cluster:      # three servers, sites, a source and a target node, all up
        cluster.protect("vm1", [image])        # workload and plan
        job = cluster.replicate()              # one cycle, waited for
        cluster.recover("vm1", [target])

Every wait has a deadline (until); every process is started and ended by its pid, and dies with the test. Logs of all
processes are in <base>/logs; on failure the test prints their tails. Ports are free ones of the moment.
"""
import atexit
import contextlib
import ctypes
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import uuid

SOURCE = os.path.abspath(os.environ.get("FAR_SOURCE") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
BUILD = os.path.abspath(os.environ.get("FAR_BUILD") or os.getcwd())
SLOW = float(os.environ.get("FAR_SLOW", "1"))
sys.path.insert(0, os.path.join(SOURCE, "tests/lib"))

BLOCK = 65536
MIB = 1 << 20
SITES = SERVERS = ("protected", "recovery", "witness")


class Failure(Exception):
    """Something did not become true, or a command failed."""


class Ended(Failure):
    """A process ended though nobody asked it to: no wait goes on after that."""


class Problem(Exception):
    """The API refused: status, code (error class), detail."""

    def __init__(self, status, body):
        self.status, self.body = status, body
        self.code = body.get("code", "") if isinstance(body, dict) else ""
        self.detail = body.get("detail", "") if isinstance(body, dict) else str(body)
        super().__init__("%d %s: %s" % (status, self.code, self.detail))


def until(condition, seconds, what):
    """Waits until condition() is true and returns its value; a Failure or Problem inside counts as not yet, an Ended does not."""
    deadline = time.monotonic() + seconds * SLOW
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
        except Ended:
            raise
        except (Failure, Problem, OSError, http.client.HTTPException) as error:
            last = error
        if time.monotonic() > deadline:
            raise Failure("not within %.0f s: %s%s" % (seconds * SLOW, what, " (%s)" % last if last else ""))
        time.sleep(0.05)  # far-poll: the one place where tests wait


def free_ports(count):
    """Ports that were free a moment ago: held together, so that they differ."""
    held = []
    for _ in range(count):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        held.append(sock)
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return ports


def program(name):
    folder = {"farshored": "server", "farshore-node": "node", "farshore": "cli", "farshore-verify": "verify"}[name]
    for path in (os.path.join(BUILD, "src", folder, name), os.path.join(BUILD, name)):
        if os.access(path, os.X_OK):
            return path
    raise Failure("%s is not built in %s" % (name, BUILD))


DEFECT = re.compile(r"(Address|Leak|Thread|UndefinedBehavior)Sanitizer|runtime error: |: broken: ")
DETACH = False  # the demo with --keep: what it starts outlives it


def die_with_parent():
    if DETACH:
        os.setsid()
    else:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Process:
    """One of our programs; its output goes to a log that is appended to at each start."""

    def __init__(self, name, argv, log, environment=None):
        self.name, self.argv, self.log, self.environment = name, argv, log, environment or {}
        self.process, self.starts, self.wrong = None, 0, []

    def start(self):
        argv, environment = self.argv, dict(os.environ, **self.environment)
        if "LD_PRELOAD" in self.environment:  # is for the program, not for the script that libtool puts before it
            inner = os.path.join(os.path.dirname(argv[0]), ".libs", os.path.basename(argv[0]))
            if os.access(inner, os.X_OK):
                argv = [inner] + argv[1:]
                environment["LD_LIBRARY_PATH"] = os.path.join(BUILD, ".libs")
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                            env=environment, preexec_fn=die_with_parent)
        self.starts += 1
        return self

    @property
    def pid(self):
        return self.process.pid

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def check(self):
        """Ended when it is gone though nobody killed it."""
        if self.process is not None and self.process.poll() is not None:
            raise Ended("%s ended by itself with status %s; log: %s" % (self.name, self.process.returncode, self.log))

    def kill(self):
        """kill -9, and gone when this returns."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.ended(self.process.wait())
            self.process = None

    def stop(self, seconds=20):
        """SIGTERM; returns the exit status, -9 when it had to be killed."""
        if self.process is None:
            return 0
        status = self.process.poll()
        if status is None:
            self.process.terminate()
            try:
                status = self.process.wait(timeout=seconds * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                status = self.process.wait()
            if status != 0:
                self.wrong.append("asked to end, it did so with status %d" % status)
        self.ended(status)
        self.process = None
        return status

    def ended(self, status):
        if status < 0 and -status not in (signal.SIGKILL, signal.SIGTERM):
            self.wrong.append("it died of signal %d" % -status)

    def defects(self):
        """What no test may have caused: it crashed, did not end when asked to, or a sanitizer spoke in its log."""
        found = []
        with contextlib.suppress(FileNotFoundError), open(self.log, encoding="utf-8", errors="replace") as log:
            found = [line.strip() for line in log if DEFECT.search(line)]
        return ["%s: %s" % (self.name, text) for text in self.wrong + found[:5]]

    def memory(self):
        """RssAnon + RssShmem in bytes."""
        total = 0
        with open("/proc/%d/status" % self.pid, encoding="ascii") as file:
            for line in file:
                if line.startswith(("RssAnon:", "RssShmem:")):
                    total += int(line.split()[1]) * 1024
        return total


class Server(Process):
    def __init__(self, cluster, name, api, peer):
        self.dir = os.path.join(cluster.base, "server-" + name)
        self.api, self.peer = "127.0.0.1:%d" % api, "127.0.0.1:%d" % peer
        super().__init__(name, [program("farshored"), "run", "--dir", self.dir],
                         os.path.join(cluster.base, "logs", "server-%s.log" % name))


class Node(Process):
    def __init__(self, cluster, name, site, data, host="127.0.0.1"):
        self.dir, self.site = os.path.join(cluster.base, "node-" + name), site
        self.data = "%s:%d" % (host, data)
        super().__init__(name, [program("farshore-node"), "run", "--dir", self.dir],
                         os.path.join(cluster.base, "logs", "node-%s.log" % name))

    def configure(self, settings):
        """Lines of its config, for the next start."""
        path = os.path.join(self.dir, "config")
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file.read().splitlines() if line.split(" = ")[0] not in settings]
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n".join(lines + ["%s = %s" % each for each in settings.items()]) + "\n")


class Cluster:
    def __init__(self, base=None, servers=SERVERS, nodes=True, lease_ms=0, adapter="file", feature_level=0, witness=False):
        self.own_base = base is None
        self.base = base or tempfile.mkdtemp(prefix="far-cluster-")
        self.names, self.want_nodes, self.lease_ms, self.adapter = servers, nodes, lease_ms, adapter
        self.feature_level = feature_level
        self.witness = witness  # the third server stands at the witness site, so it serves no users
        self.servers, self.nodes, self.plan = {}, {}, None
        self.index = 0  # of the last write
        self.token_file = self.ca_file = None
        self.context = None
        os.makedirs(os.path.join(self.base, "logs"), exist_ok=True)
        os.environ["XDG_STATE_HOME"] = os.environ["XDG_CONFIG_HOME"] = os.path.join(self.base, "cli")
        atexit.register(self.kill_all)

    # ---- life ----

    def __enter__(self):
        try:
            self.set_up()
        except BaseException:
            self.close(keep=True)
            raise
        return self

    def __exit__(self, kind, value, trace):
        passed = kind is None or (kind is SystemExit and not value.code)
        defects = self.end_all() if passed else []
        self.close(keep=not passed or bool(defects))
        if defects:
            raise Failure("; ".join(defects))

    def set_up(self):
        self.found()
        self.add_sites()
        if self.feature_level != 1 and self.names[0] in SITES:
            self.post("/v1/servers/%s/site" % self.names[0], {"site": self.names[0]})
        for name in self.names[1:]:
            self.add_server(name)
        if self.want_nodes:
            self.add_node("source", "protected")
            self.add_node("target", "recovery")
            self.wait_nodes()

    def close(self, keep=False):
        if keep:
            self.print_tails()
        self.kill_all()
        if self.own_base:
            shutil.rmtree(self.base, ignore_errors=True)

    def processes(self):
        return list(self.nodes.values()) + list(self.servers.values())

    def end_all(self):
        """Asks all to end, nodes first; returns the defects of their whole lives."""
        for process in self.processes():
            process.stop()
        return [defect for process in self.processes() for defect in process.defects()]

    def kill_all(self):
        for process in self.processes():
            with contextlib.suppress(OSError):
                process.kill()

    def print_tails(self, lines=12):
        for process in list(self.servers.values()) + list(self.nodes.values()):
            with contextlib.suppress(OSError):
                with open(process.log, encoding="utf-8", errors="replace") as log:
                    for line in log.read().splitlines()[-lines:]:
                        print("# %s: %s" % (process.name, line[:240]))
        sys.stdout.flush()

    def run_tool(self, *argv, check=True, timeout=60):
        """One of our programs to its end: (status, output)."""
        done = subprocess.run([program(argv[0]), *argv[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout * SLOW, preexec_fn=die_with_parent)
        if done.returncode < 0 or DEFECT.search(done.stderr) or (check and done.returncode != 0):
            raise Failure("%s: status %d: %s%s" % (" ".join(argv), done.returncode, done.stdout, done.stderr))
        return done.returncode, done.stdout + done.stderr

    def new_server(self, name):
        api, peer = free_ports(2)
        self.servers[name] = Server(self, name, api, peer)
        return self.servers[name]

    def found(self):
        """The first server of a new cluster."""
        server = self.new_server(self.names[0])
        options = ["--lease-ms", str(self.lease_ms)] if self.lease_ms else []
        options += ["--feature-level", str(self.feature_level)] if self.feature_level else []
        _, text = self.run_tool("farshored", "init", "--dir", server.dir, "--cluster", "test", "--name", server.name, "--api",
                      server.api, "--peer", server.peer, *options)
        self.recovery_key = re.search(r"recovery key: (\S+)", text).group(1)
        self.token_file = os.path.join(server.dir, "admin.token")
        self.ca_file = os.path.join(server.dir, "ca.crt")
        self.use_credentials()
        server.start()
        self.wait_leader()

    def use_credentials(self):
        with open(self.token_file, encoding="ascii") as file:
            self.token = file.read().strip()
        self.context = ssl.create_default_context(cafile=self.ca_file)

    def join_token(self, name, purpose, site):
        body = {"name": name, "purpose": purpose, "expires_ms": int(time.time() * 1000) + 3600 * 1000, "site": site}
        return self.post("/v1/tokens", body)["token"]

    def add_server(self, name, site=None, start=True):
        """A standby that becomes a voter; site: the one of its name; others, and without a witness also that one, recovery."""
        site = site or (name if name in SITES and (name != "witness" or self.witness) else "recovery")
        server = self.new_server(name)
        token = self.join_token(name, "join_server", site)
        token_file = os.path.join(self.base, "join-" + name)
        with open(os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(token + "\n")
        self.run_tool("farshored", "join", "--dir", server.dir, "--token", "@" + token_file, "--name", name, "--api", server.api,
                      "--peer", server.peer)
        if not start:
            return server
        server.start()
        until(lambda: self.voter(name), 30, "server %s is a voter" % name)
        return server

    def voter(self, name):
        for process in self.servers.values():
            process.check()
        return self.get("/v1/servers/" + name)["role"] == "voter"

    def add_sites(self):
        for name in SITES:
            self.post("/v1/sites", {"name": name, "role": name})

    def add_node(self, name, site, start=True, listens=True, settings=None, host="127.0.0.1"):
        """settings: lines of its config that differ, as {"checkpoint_bytes": 1 << 20}."""
        node = Node(self, name, site, free_ports(1)[0], host)
        self.nodes[name] = node
        self.run_tool("farshore-node", "join", "--dir", node.dir, "--token", self.join_token(name, "join_node", site),
                      "--name", name, *(["--data", node.data] if listens else []))
        node.configure(settings or {})
        return node.start() if start else node

    def wait_nodes(self):
        for name, node in self.nodes.items():
            until(lambda n=name, p=node: p.check() or self.get("/v1/nodes/" + n)["state"] == "up", 20, "node %s is up" % name)

    # ---- the API ----

    def request(self, server, method, path, body=None, headers=None, token=None, timeout=20):
        """One HTTPS request to one server: (status, headers, body as JSON or text)."""
        host, port = server.api.rsplit(":", 1)
        connection = http.client.HTTPSConnection(host, int(port), context=self.context, timeout=timeout * SLOW)
        try:
            whole = {"Authorization": "Bearer " + (self.token if token is None else token)}
            whole.update(headers or {})
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            connection.request(method, path, body=data, headers=whole)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        try:
            value = json.loads(text) if text else {}
        except ValueError:
            value = text.decode("utf-8", "replace")
        return answer.status, answer.headers, value

    def call(self, method, path, body=None, server=None, seconds=30):
        """At whichever live server answers; what may be repeated is, under the same id."""
        key = {"Idempotency-Key": uuid.uuid4().hex} if method != "GET" else {}
        deadline = time.monotonic() + seconds * SLOW
        while True:
            problem = None
            for target in [server] if server else [s for s in self.servers.values() if s.alive()]:
                try:
                    status, _, value = self.request(target, method, path, body, key)
                except (OSError, http.client.HTTPException) as error:
                    problem = error
                    continue
                if status < 300:
                    if method != "GET" and isinstance(value, dict):
                        self.index = max(self.index, value.get("index", 0))
                    return value
                problem = Problem(status, value)
                if problem.code not in ("busy", "not_leader", "unknown_outcome", "timeout"):
                    raise problem
            if time.monotonic() > deadline:
                raise problem or Failure("no server is alive")
            time.sleep(0.05)  # far-poll

    def get(self, path, server=None):
        """Sees at least what was written through this harness: the index of the last write is sent along."""
        path += ("&" if "?" in path else "?") + "min_index=%d" % self.index
        return self.call("GET", path, server=server)

    def post(self, path, body=None, server=None):
        return self.call("POST", path, body if body is not None else {}, server=server)

    def cli(self, *argv, check=True, as_json=True, timeout=120):
        """The farshore command: its JSON, or (status, text) with check=False."""
        everywhere = ",".join("https://" + s.api for s in self.servers.values())
        status, text = self.run_tool("farshore", "--server", everywhere, "--token-file", self.token_file, "--ca", self.ca_file,
                                     *argv, *(["-o", "json"] if as_json else []), check=check, timeout=timeout)
        return (status, text) if not check else json.loads(text) if as_json else text

    # ---- the log ----

    def status(self, server):
        return self.call("GET", "/v1/cluster", server=server)

    def leader(self):
        """The server that leads, as the live servers see it, or None."""
        for server in self.servers.values():
            if server.alive():
                with contextlib.suppress(Exception):
                    status, _, value = self.request(server, "GET", "/v1/cluster", timeout=3)
                    if status == 200 and value["server"]["is_leader"]:
                        return server
        return None

    def wait_leader(self, seconds=20):
        for process in self.servers.values():
            if process.process is not None:
                process.check()
        return until(self.leader, seconds, "a server leads")

    def followers(self):
        leader = self.wait_leader()
        return [s for s in self.servers.values() if s is not leader and s.alive()]

    def heads(self):
        """(applied index, last seq, head, digest) of each live server."""
        found = {}
        for name, server in self.servers.items():
            if server.alive():
                value = self.call("GET", "/v1/log/head", server=server)
                found[name] = tuple(value.get(k) for k in ("applied_index", "seq", "head", "digest"))
        return found

    def wait_same_heads(self, seconds=30):
        def same():
            heads = self.heads()
            return heads if len(set(heads.values())) == 1 else None
        return until(same, seconds, "all servers show the same index and head")

    def wait_whole_history(self, seconds=30):
        """A server that joined or fell behind fetches the events before its state from the others, in its own time."""
        def whole():
            alive = [s for s in self.servers.values() if s.alive()]
            return all(self.call("GET", "/v1/log/head", server=s)["first_seq"] == 1 for s in alive)
        return until(whole, seconds, "all servers hold the whole history")

    def log_verify(self, server):
        """Offline, by the independent walk: (status, output)."""
        return self.run_tool("farshored", "log-verify", "--dir", server.dir, check=False, timeout=120)

    def walk(self, server):
        """The store of a stopped server by itself: (applied index, digest)."""
        status, text = self.log_verify(server)
        found = re.search(r"state at entry (\d+): .* digest ([0-9a-f]{32})", text)
        if status != 0 or not found:
            raise Failure("log-verify of %s: status %d: %s" % (server.name, status, text))
        return int(found.group(1)), found.group(2)

    def verify_all_offline(self):
        """Stops the servers, walks each one's store; returns the digests: one, and the one that the servers showed.

        An entry that the leader commits in between (a deadline passes) is no difference: only digests of the same index are
        compared, and all start again until they stop at the index that they showed."""
        for _ in range(5):
            shown = {(head[0], head[3]) for head in self.wait_same_heads().values()}
            for server in self.servers.values():
                server.stop()
            walked = {name: self.walk(server) for name, server in self.servers.items()}
            everything = shown | set(walked.values())
            if len({index for index, _ in everything}) != len(everything):
                raise Failure("the digests of the stores differ: %r, the servers showed %r" % (walked, shown))
            if len(everything) == 1:
                return {name: digest for name, (_, digest) in walked.items()}
            print("# entries came while the servers stopped: %r, shown %r" % (walked, shown), flush=True)
            for server in self.servers.values():
                server.start()
            self.wait_leader(30)
        raise Failure("the servers did not come to rest")

    # ---- protection ----

    def protect(self, workload, images, plan="plan", adapter=None):
        disks = [{"name": "disk%d" % i, "locator": path} for i, path in enumerate(images)]
        self.post("/v1/workloads", {"name": workload, "site": "protected", "adapter": adapter or self.adapter, "disks": disks})
        self.post("/v1/plans", {"name": plan, "source_site": "protected", "target_site": "recovery",
                                "workloads": [workload]})
        self.post("/v1/plans/%s/start" % plan)
        self.plan = plan

    def start_cycle(self, plan=None):
        """The job's id."""
        return self.post("/v1/plans/%s/replicate" % (plan or self.plan))["id"]

    def job(self, job_id):
        return self.get("/v1/jobs/%d" % job_id)

    def finish(self, job_id, seconds=120):
        def ended():
            for process in list(self.servers.values()) + list(self.nodes.values()):
                if process.process is not None:
                    process.check()
            job = self.job(job_id)
            return job if job["state"] != "running" else None
        return until(ended, seconds, "job %d ends" % job_id)

    def replicate(self, seconds=120):
        job = self.finish(self.start_cycle(), seconds)
        if job["state"] != "succeeded":
            raise Failure("the cycle ended as %s: %s" % (job["state"], job.get("error_message")))
        return job

    def start_recovery(self, workload, targets, plan=None):
        disks = [{"disk": "disk%d" % i, "path": path} for i, path in enumerate(targets)]
        return self.post("/v1/plans/%s/recover" % (plan or self.plan), {"workload": workload, "disks": disks})["id"]

    def recover(self, workload, targets, seconds=120):
        job = self.finish(self.start_recovery(workload, targets), seconds)
        if job["state"] != "succeeded":
            raise Failure("the recovery ended as %s: %s" % (job["state"], job.get("error_message")))
        return job


# ---- disks ----

def make_image(path, size, seed):
    """Text-like, random and zero regions, a sparse hole: a disk as real ones are."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randint(3, 10)).hex().encode() for _ in range(500)]
    with open(path, "wb") as file:
        file.truncate(size)
        at = 0
        while at < size:
            length = min(size - at, rng.choice((BLOCK, 3 * BLOCK, MIB, 300000)))
            kind = rng.random()
            file.seek(at)
            if kind < 0.4:
                file.write(rng.randbytes(length))
            elif kind < 0.75:
                file.write((b" ".join(rng.choices(words, k=length // 12 + 12)))[:length])
            at += length
    return path


def change_image(path, blocks, seed):
    """Overwrites some bytes in this many different blocks of 64 KiB; returns their numbers."""
    rng = random.Random(seed)
    chosen = sorted(rng.sample(range(os.path.getsize(path) // BLOCK), blocks))
    with open(path, "r+b") as file:
        for block in chosen:
            length = rng.randint(1, BLOCK)
            file.seek(block * BLOCK + rng.randint(0, BLOCK - length))
            file.write(rng.randbytes(length))
    return chosen


def changed_bytes(one, two):
    """Differing blocks of 64 KiB, times 64 KiB."""
    differing = 0
    with open(one, "rb") as a, open(two, "rb") as b:
        while True:
            x, y = a.read(MIB), b.read(MIB)
            if not x and not y:
                return differing * BLOCK
            if x != y:
                size = max(len(x), len(y))
                differing += sum(x[i:i + BLOCK] != y[i:i + BLOCK] for i in range(0, size, BLOCK))


def tree_of(folder):
    """Every file and folder in it, with what the files hold; but for LMDB's lock file, which any reader writes."""
    found = {}
    for place, folders, files in os.walk(folder):
        found.update((os.path.relpath(os.path.join(place, name), folder), None) for name in folders)
        for name in files:
            if name != "lock.mdb":
                with open(os.path.join(place, name), "rb") as file:
                    found[os.path.relpath(file.name, folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


def foretold(text):
    """The kinds of the events that a dry run printed, in their order."""
    return re.findall(r"^ +\d+ ([a-z_]+) \{", text, re.MULTILINE)


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for piece in iter(lambda: file.read(MIB), b""):
            digest.update(piece)
    return digest.hexdigest()


def flip_block(vault, begin):
    """Flips a bit of the first block in the vault's packs that begins so (and was stored as it is); False: there is none."""
    packs = os.path.join(vault, "packs")
    for name in sorted(os.listdir(packs)):
        path = os.path.join(packs, name)
        with open(path, "rb") as file:
            at = file.read().find(begin)
        if at >= 0:
            with open(path, "r+b") as file:
                file.seek(at + 100)
                file.write(bytes([begin[100] ^ 4]))
            return True
    return False


def same_bytes(one, two):
    return os.path.getsize(one) == os.path.getsize(two) and changed_bytes(one, two) == 0


def seed_of_run():
    """The seed of a random test: from FAR_SEED, else new; printed first."""
    seed = int(os.environ.get("FAR_SEED") or int.from_bytes(os.urandom(4), "big"))
    print("# seed %d (FAR_SEED=%d replays it)" % (seed, seed), flush=True)
    return seed
