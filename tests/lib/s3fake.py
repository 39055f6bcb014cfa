"""An object store in memory, as far as a vault uses one (no versions, no locks, no uploads in parts), for tests that need its state at any
moment: every change is kept, `on_change` hears of each before it is answered, and it can be set back. Nobody's signature is checked. What a
real store answers is tested against a real one (s3lib.py).

    store = s3fake.Store(on_change)
    config = store.config_file(folder)
    store.set_back(17)                 # as it was after its 17th change; goes on from there
"""
import hashlib
import http.server
import os
import re
import threading
import time
import urllib.parse
import xml.sax.saxutils


class Store:
    def __init__(self, on_change=None):
        self.lock, self.changes, self.objects, self.on_change = threading.Lock(), [], {}, on_change
        handler = type("Handler", (Handler,), {"store": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def config_file(self, folder, **more):
        keys = os.path.join(folder, "credentials")
        with open(os.open(keys, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write("access_key = AK\nsecret_key = SK\n")
        values = {"endpoint": "http://127.0.0.1:%d" % self.server.server_port, "bucket": "bucket", "credentials": keys, **more}
        path = os.path.join(folder, "store")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines("%s = %s\n" % item for item in values.items())
        return path

    def change(self, key, body):
        """body None: it goes. The lock is held."""
        self.changes.append((key, body))
        if body is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = (body, time.time())
        if self.on_change is not None:
            self.on_change(len(self.changes))

    def set_back(self, count):
        """To what it was after so many changes; nobody hears of what comes then."""
        with self.lock:
            self.objects, self.on_change = {}, None
            for key, body in self.changes[:count]:
                if body is None:
                    self.objects.pop(key, None)
                else:
                    self.objects[key] = (body, time.time())
            self.changes = list(self.changes)


def etag_of(body):
    return '"%s"' % hashlib.md5(body).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm, wbufsize = True, 1 << 16
    store = None

    def log_message(self, *unused):
        pass

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # who asked was killed, or had enough

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fault(self, status, code):
        self.answer(status, ("<Error><Code>%s</Code><Message>told</Message></Error>" % code).encode())

    def key(self):
        return urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)[len("/bucket"):].lstrip("/")

    def do_PUT(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.store.lock:
            there = self.store.objects.get(self.key())
            if self.headers.get("If-None-Match") == "*" and there is not None:
                return self.fault(412, "PreconditionFailed")
            wanted = self.headers.get("If-Match")
            if wanted is not None and there is None:
                return self.fault(404, "NoSuchKey")
            if wanted is not None and wanted.strip('"') != etag_of(there[0]).strip('"'):
                return self.fault(412, "PreconditionFailed")
            self.store.change(self.key(), body)
        return self.answer(200, ETag=etag_of(body))

    def do_DELETE(self):
        with self.store.lock:
            if self.key() in self.store.objects:
                self.store.change(self.key(), None)
        return self.answer(204)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True))
        with self.store.lock:
            if self.key() == "":
                return self.list(query)
            found = self.store.objects.get(self.key())
        if found is None:
            return self.fault(404, "NoSuchKey")
        body, modified = found
        headers = {"ETag": etag_of(body), "Last_Modified": self.date_time_string(modified)}
        part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if part is not None:
            first, last = int(part.group(1)), min(int(part.group(2)), len(body) - 1)
            return self.answer(206, body[first:last + 1], Content_Range="bytes %d-%d/%d" % (first, last, len(body)), **headers)
        return self.answer(200, body, Content_Length=str(len(body)), **headers)

    def list(self, query):
        if "uploads" in query:
            return self.answer(200, b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>")
        items = []
        for key in sorted(key for key in self.store.objects if key.startswith(query.get("prefix", ""))):
            body, modified = self.store.objects[key]
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(modified))
            items.append("<Contents><Key>%s</Key><LastModified>%s</LastModified><Size>%d</Size></Contents>" % (
                xml.sax.saxutils.escape(key), when, len(body)))
        text = "<ListBucketResult><IsTruncated>false</IsTruncated>%s</ListBucketResult>" % "".join(items)
        return self.answer(200, text.encode())
