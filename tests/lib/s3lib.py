"""A real S3-compatible server for tests: versitygw, a Go module, built once (tests/lib/build_versitygw.sh) and started on loopback.

    with s3lib.Server(folder) as server:          # tls=True: with a certificate that it makes
        server.make_bucket("vault")               # lock=True: with object lock, and so with versions
        config = server.store_file("vault")       # what vaults and objects_driver read

The signer below is not the client's: so each checks the other."""
import datetime
import hashlib
import hmac
import http.client
import os
import socket
import ssl
import subprocess
import time
import urllib.parse

import tap

SOURCE = os.path.abspath(os.environ.get("FAR_SOURCE", os.path.join(os.path.dirname(__file__), "../..")))
BUILD = os.path.abspath(os.environ.get("FAR_BUILD", "."))
REGION = "eu-test-1"


def program():
    """The path of versitygw; where it cannot be had the test is skipped, with the reason."""
    done = subprocess.run([os.path.join(SOURCE, "tests/lib/build_versitygw.sh")], capture_output=True, text=True)
    if done.returncode != 0:
        raise tap.Skip("no S3 server: " + (done.stderr.strip().splitlines() or ["?"])[-1])
    return done.stdout.strip()


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    def __init__(self, folder, tls=False, access_key="AKIDFARSHORE", secret_key="keep/this+secret=42"):
        self.folder, self.tls, self.access_key, self.secret_key = os.path.abspath(folder), tls, access_key, secret_key
        self.program, self.port, self.process = program(), free_port(), None
        for name in ("root", "versions", "meta"):
            os.makedirs(os.path.join(self.folder, name), exist_ok=True)
        self.ca = os.path.join(self.folder, "server.crt")
        if tls and not os.path.exists(self.ca):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                            "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-out", self.ca,
                            "-keyout", os.path.join(self.folder, "server.key")], check=True, capture_output=True)

    @property
    def endpoint(self):
        return "%s://127.0.0.1:%d" % ("https" if self.tls else "http", self.port)

    def start(self):
        command = [self.program, "--quiet", "--keep-alive", "--port", "127.0.0.1:%d" % self.port, "--region", REGION]
        if self.tls:
            command += ["--cert", self.ca, "--key", os.path.join(self.folder, "server.key")]
        command += ["posix", "--versioning-dir", os.path.join(self.folder, "versions"), "--sidecar", os.path.join(self.folder, "meta"),
                    os.path.join(self.folder, "root")]
        environment = dict(os.environ, ROOT_ACCESS_KEY_ID=self.access_key, ROOT_SECRET_ACCESS_KEY=self.secret_key)
        with open(os.path.join(self.folder, "server.log"), "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, preexec_fn=die_with_parent)
        deadline = time.monotonic() + 30
        while True:
            assert self.process.poll() is None and time.monotonic() < deadline, open(os.path.join(self.folder, "server.log")).read()[-2000:]
            try:
                self.request("GET", "/")
                return self
            except OSError:
                time.sleep(0.02)  # far-poll

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.kill()

    def request(self, method, path, query=None, headers=None, body=b""):
        """A signed request; (status, headers, body)."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        host = "127.0.0.1:%d" % self.port
        path = urllib.parse.quote(path, safe="/-._~")
        canonical_query = "&".join("%s=%s" % (urllib.parse.quote(k, safe="-._~"), urllib.parse.quote(v, safe="-._~"))
                                   for k, v in sorted((query or {}).items()))
        digest = hashlib.sha256(body).hexdigest()
        signed = {"host": host, "x-amz-date": now, "x-amz-content-sha256": digest, **(headers or {})}
        names = ";".join(sorted(signed))
        canonical = "\n".join([method, path, canonical_query, *("%s:%s" % (n, signed[n]) for n in sorted(signed)), "", names, digest])
        scope = "%s/%s/s3/aws4_request" % (now[:8], REGION)
        key = ("AWS4" + self.secret_key).encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        signed["authorization"] = "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s" % (
            self.access_key, scope, names, hmac.new(key, text.encode(), hashlib.sha256).hexdigest())
        if self.tls:
            link = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=ssl.create_default_context(cafile=self.ca))
        else:
            link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            link.request(method, path + ("?" + canonical_query if canonical_query else ""), body=body or None, headers=signed)
            answer = link.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            link.close()

    def make_bucket(self, name, lock=False):
        status, _, body = self.request("PUT", "/" + name, headers={"x-amz-bucket-object-lock-enabled": "true"} if lock else None)
        assert status == 200, (status, body)

    def store_file(self, in_bucket, name="store", **more):
        """Writes the credentials and the configuration of a store; returns the path of the latter."""
        keys = os.path.join(self.folder, "credentials")
        with open(os.open(keys, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write("access_key = %s\nsecret_key = %s\n" % (self.access_key, self.secret_key))
        values = {"endpoint": self.endpoint, "region": REGION, "bucket": in_bucket, "credentials": keys}
        if self.tls:
            values["ca"] = self.ca
        values.update(more)
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.writelines("%s = %s\n" % item for item in values.items())
        return path


def die_with_parent():
    import ctypes
    import signal
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
