#!/usr/bin/env python3
"""The client of object stores against a server that answers what it is told: truncated, wrong, slow, endless, lost and hostile answers. Each
case is a list of answers, one for each request; what was asked is kept.

far-timeout: 200
"""
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import s3lib  # noqa: E402
import tap  # noqa: E402

MIB = 1 << 20
DRIVER = os.path.join(s3lib.BUILD, "tests/lib/objects_driver")
SECRET = "the-secret-of-this-test"
folder = None


def head(status, *lines, words="Told"):
    return ("HTTP/1.1 %d %s\r\n" % (status, words) + "".join(line + "\r\n" for line in lines) + "\r\n").encode()


def answer(status, body=b"", *lines):
    return head(status, "Content-Length: %d" % len(body), *lines) + body


def fault(status, code, *lines):
    return answer(status, b"<Error><Code>%s</Code><Message>told</Message></Error>" % code.encode(), *lines)


class Told:
    """Answers requests in the order of `answers`: bytes; or a function of (socket, request), which may do anything. The last one is
    given again and again."""

    def __init__(self, *answers, close=False):
        self.answers, self.close, self.requests, self.links = list(answers), close, [], []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                link = self.listener.accept()[0]
            except OSError:
                return
            self.links.append(link)
            threading.Thread(target=self.serve, args=(link,), daemon=True).start()

    def serve(self, link):
        try:
            stream = link.makefile("rb")
            while True:
                lines = []
                while (line := stream.readline()) not in (b"\r\n", b""):
                    lines.append(line.decode("latin-1").strip())
                if not lines:
                    return
                length = [int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")]
                body = stream.read(length[0]) if length else b""
                with self.lock:
                    self.requests.append((lines, body))
                    todo = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if callable(todo):
                    todo(link, (lines, body))
                else:  # who closes says so, or the next request may go to a link that is about to end, which counts as lost
                    link.sendall(todo.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) if self.close else todo)
                if self.close or callable(todo):
                    link.shutdown(socket.SHUT_RDWR)
                    return
        except OSError:
            pass
        finally:
            link.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.listener.close()

    def drive(self, *arguments, retry_max_ms=8000, timeout_ms=1500, **more):
        keys = os.path.join(folder, "keys")
        with open(os.open(keys, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write("access_key = AK\nsecret_key = %s\n" % SECRET)
        config = os.path.join(folder, "store")
        values = {"endpoint": "http://127.0.0.1:%d" % self.port, "bucket": "vault", "credentials": keys, "retry_max_ms": retry_max_ms,
                  "part_bytes": "5m", **more}
        with open(config, "w", encoding="utf-8") as file:
            file.writelines("%s = %s\n" % item for item in values.items())
        done = subprocess.run([DRIVER, config, *map(str, arguments)], capture_output=True, text=True, timeout=100,
                              env=dict(os.environ, FAR_TIMEOUT_MS=str(timeout_ms)))
        assert done.returncode in (0, 1) and not done.stderr, (done.returncode, done.stderr)
        assert SECRET not in done.stdout and not any(SECRET in line for lines, _ in self.requests for line in lines)
        return done.stdout

    def lines(self, index=0):
        return self.requests[index][0]


def path(name):
    return os.path.join(folder, name)


def make_file(name, size):
    with open(path(name), "wb") as file:
        file.write(os.urandom(size))
    return path(name)


def reset(link, _):
    link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    link.close()


def hang(link, _):
    link.settimeout(30)
    try:
        link.recv(1)  # until the other one gives up
    except OSError:
        pass


def partly(text):
    def do(link, request):
        link.sendall(text)
        hang(link, request)
    return do


def what_passes_by_is_tried_again():
    good = answer(200, b"0123456789", 'ETag: "e"')
    for trouble in (fault(503, "SlowDown"), fault(500, "InternalError"), answer(502), answer(504), answer(429), fault(400, "RequestTimeout"),
                    reset, head(200, "Content-Length: 10") + b"012", lambda link, _: None):
        with Told(trouble, trouble, good, close=True) as told:
            said = told.drive("read", "k", 100, path("out"))
            assert said.startswith("ok size=10 etag=e ") and len(told.requests) == 3, (trouble, said)
            assert open(path("out"), "rb").read() == b"0123456789"


def what_does_not_pass_by_is_not_tried_again():
    for trouble, klass in ((fault(403, "AccessDenied"), "denied"), (fault(404, "NoSuchKey"), "not_found"), (fault(400, "InvalidRequest"), "invalid"),
                           (answer(501), "invalid"), (fault(412, "PreconditionFailed"), "conflict"), (fault(400, "ExpiredToken"), "denied")):
        with Told(trouble) as told:
            said = told.drive("read", "k", 100, path("out"))
            assert said.startswith(klass + ":") and len(told.requests) == 1, (trouble, said)


def the_bound_of_all_attempts_holds():
    with Told(fault(503, "SlowDown")) as told:
        said = told.drive("head", "k", retry_max_ms=1500)
        assert said.startswith("busy:") and "503" in said and 3 <= len(told.requests) <= 12, (len(told.requests), said)
    with Told(fault(503, "SlowDown", "Retry-After: 3600")) as told:  # longer than we may wait: said at once
        began = time.monotonic()
        assert told.drive("head", "k", retry_max_ms=60000).startswith("busy:") and len(told.requests) == 1
        assert time.monotonic() - began < 30
    with Told(fault(503, "SlowDown", "Retry-After: 1"), answer(200, b"x")) as told:
        began = time.monotonic()
        assert told.drive("head", "k", retry_max_ms=60000).startswith("ok") and time.monotonic() - began >= 1


def silence_ends_an_attempt():
    good = answer(200, b"0123456789", 'ETag: "e"')
    for silent in (hang, partly(head(200, "Content-Length: 10") + b"0123"), partly(b"HTTP/1.1 200")):
        with Told(silent, good) as told:
            said = told.drive("read", "k", 100, path("out"), timeout_ms=1000, retry_max_ms=30000)
            assert said.startswith("ok") and len(told.requests) == 2, said


def lengths_that_cannot_be_are_corrupt():
    part = ("Content-Range: bytes 2-5/10",)
    for wrong in (answer(206, b"234", *part),                                 # fewer bytes than asked for
                  answer(206, b"23456", *part),                               # more
                  answer(206, b"2345", "Content-Range: bytes 0-3/10"),        # others
                  answer(206, b"2345"),                                       # who knows which
                  answer(200, b"2345"),                                       # the range is ignored
                  answer(200, b"0123456789"),
                  fault(416, "InvalidRange")):
        with Told(wrong) as told:
            said = told.drive("get", "k", 2, 4, path("out"))
            assert said.startswith("corrupt:") and len(told.requests) == 1, (wrong, said)
    with Told(answer(206, b"2345", *part)) as told:
        assert told.drive("get", "k", 2, 4, path("out")) == "ok\n" and open(path("out"), "rb").read() == b"2345"
        assert "range: bytes=2-5" in told.lines()
    with Told(head(200, "Connection: close") + b"0123", close=True) as told:  # no length: it may be cut
        assert told.drive("read", "k", 100, path("out")).startswith("corrupt:")
    with Told(head(200)) as told:
        assert told.drive("head", "k", timeout_ms=1000).startswith("corrupt:")


def an_endless_body_is_cut_at_its_bound():
    def endless(link, _):
        link.sendall(head(200, "Transfer-Encoding: chunked"))
        while True:
            link.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    for arguments, klass in ((("read", "k", 100000, path("out")), "limit"), (("list", ""), "corrupt")):
        with Told(endless) as told:
            said = told.drive(*arguments)
            assert said.startswith(klass + ":") and len(told.requests) == 1, said

    def endless_fault(link, _):
        link.sendall(head(403, "Transfer-Encoding: chunked"))
        for _ in range(200):
            link.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        link.sendall(b"0\r\n\r\n")
    with Told(endless_fault) as told:
        assert told.drive("read", "k", 100, path("out")).startswith("denied:")

    def endless_head(link, _):
        link.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            link.sendall(b"X-More: " + b"x" * 60000 + b"\r\n")
    with Told(endless_head) as told:
        assert told.drive("read", "k", 100, path("out"), retry_max_ms=1000).split(":")[0] in ("corrupt", "busy", "limit")


def nobody_is_followed_elsewhere():
    with Told(answer(200, b"stolen")) as other:
        for status in (301, 302, 307, 308):
            to = "Location: http://127.0.0.1:%d/vault/k" % other.port
            with Told(fault(status, "PermanentRedirect", to, "x-amz-bucket-region: eu-elsewhere-1")) as told:
                said = told.drive("read", "k", 100, path("out"))
                assert said.startswith("invalid:") and "eu-elsewhere-1" in said and len(told.requests) == 1, said
        assert not other.requests


LISTED = (b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>%s</IsTruncated>%s'
          b"<NextContinuationToken>%s</NextContinuationToken></ListBucketResult>")


def listed(truncated, token, *keys):
    return answer(200, LISTED % (b"true" if truncated else b"false", b"".join(b"<Contents><Key>%s</Key><Size>1</Size></Contents>" % k for k in keys),
                                 token))


def pages_go_on_and_only_forward():
    with Told(listed(True, b"to/k+1", b"a", b"b"), listed(True, b"t2"), listed(False, b"", b"c")) as told:
        assert told.drive("list", "").endswith("ok 3\n")
        assert "continuation-token=to%2Fk%2B1&" in told.lines(1)[0] and "continuation-token=t2&" in told.lines(2)[0]
    for wrong in ((listed(True, b"t", b"a"),), (listed(True, b"t", b"b"), listed(False, b"", b"a")), (listed(False, b"", b"b", b"a"),),
                  (listed(True, b""),), (answer(200, b"<html>welcome</html>"),), (answer(200, b""),), (answer(200, b"\x00\xff" * 99),),
                  (answer(200, b"<!DOCTYPE x [<!ENTITY a '1'>]><ListBucketResult/>"),)):
        with Told(*wrong) as told:
            said = told.drive("list", "")
            assert said.splitlines()[-1].startswith("corrupt:"), (wrong, said)
    with Told(listed(False, b"", b"other/a")) as told:
        assert told.drive("list", "under/").startswith("corrupt:")
    with Told(listed(True, b"t")) as told:  # page after page with nothing on it
        assert told.drive("list", "").startswith("corrupt:") and len(told.requests) < 1100


def a_new_object_whose_answer_got_lost_is_ours_if_it_is_the_same():
    mine = make_file("mine", 1000)
    bytes_of_mine = open(mine, "rb").read()
    there = (answer(200, b"", 'ETag: "x"').replace(b"Content-Length: 0", b"Content-Length: 1000"),)

    def first_answer_is_lost(body):
        return Told(reset, fault(412, "PreconditionFailed"), *there, answer(200, body, 'ETag: "x"'), close=True)
    with first_answer_is_lost(bytes_of_mine) as told:
        assert told.drive("put", "k", mine, "new").startswith("ok ") and len(told.requests) == 4
        assert all("if-none-match: *" in told.lines(i) for i in (0, 1))
        assert told.requests[0][1] == told.requests[1][1] == bytes_of_mine
    with first_answer_is_lost(bytes_of_mine[::-1]) as told:
        assert told.drive("put", "k", mine, "new").startswith("conflict:")
    with first_answer_is_lost(bytes_of_mine) as told:
        assert told.drive("put", "k", mine, "same", "older").startswith("ok ")
        assert 'if-match: "older"' in told.lines(0)
    with Told(fault(412, "PreconditionFailed")) as told:  # nothing was lost: no look at what is there
        assert told.drive("put", "k", mine, "same", "older").startswith("conflict:") and len(told.requests) == 1


BEGUN = answer(200, b"<InitiateMultipartUploadResult><UploadId>u&amp;1</UploadId></InitiateMultipartUploadResult>")
ENDED = answer(200, b"  \n<CompleteMultipartUploadResult><ETag>&quot;whole-2&quot;</ETag></CompleteMultipartUploadResult>")
PART = answer(200, b"", 'ETag: "part"')


def verbs(told):
    return [lines[0].split("?")[0].split()[0] for lines, _ in told.requests]


def every_part_is_tried_again_by_itself_and_the_end_too():
    big = make_file("big", 5 * MIB + 77)
    with Told(BEGUN, fault(500, "InternalError"), PART, PART, ENDED, close=True) as told:
        assert "etag=whole-2 " in told.drive("put-file", "k", big), verbs(told)
        assert verbs(told) == ["POST", "PUT", "PUT", "PUT", "POST"]
        assert b"<PartNumber>2</PartNumber><ETag>\"part\"</ETag><ChecksumSHA256>" in told.requests[4][1]
        assert "uploadId=u%261 " in told.lines(4)[0] + " "
    failed = answer(200, b"<?xml version=\"1.0\"?>   <Error><Code>InternalError</Code><Message>told</Message></Error>")
    with Told(BEGUN, PART, PART, failed, ENDED, close=True) as told:  # 200, and an error in it
        assert "etag=whole-2 " in told.drive("put-file", "k", big) and verbs(told) == ["POST", "PUT", "PUT", "POST", "POST"]
    final = answer(200, b"<Error><Code>AccessDenied</Code></Error>")
    with Told(BEGUN, PART, PART, final, answer(204), close=True) as told:
        assert told.drive("put-file", "k", big).startswith("denied:") and verbs(told)[-1] == "DELETE"
    with Told(BEGUN, fault(403, "AccessDenied"), close=True) as told:
        assert told.drive("put-file", "k", big).startswith("denied:") and verbs(told)[-1] == "DELETE"
    with Told(BEGUN, answer(200)) as told:  # a part without an etag
        assert told.drive("put-file", "k", big).startswith("corrupt:") and verbs(told)[-1] == "DELETE"
    with Told(answer(200, b"<InitiateMultipartUploadResult/>")) as told:
        assert told.drive("put-file", "k", big).startswith("corrupt:") and verbs(told) == ["POST"]


def an_end_whose_answer_got_lost_is_looked_at():
    big = make_file("big", 5 * MIB + 77)
    content = open(big, "rb").read()

    def store(link, request):
        line = request[0][0]
        if line.startswith("HEAD"):
            link.sendall(head(200, "Content-Length: %d" % len(content), 'ETag: "whole"'))
        elif line.startswith("GET"):
            first, last = [h for h in request[0] if h.lower().startswith("range:")][0].split("=")[1].split("-")
            link.sendall(answer(206, content[int(first):int(last) + 1], "Content-Range: bytes %s-%s/%d" % (first, last, len(content))))
        else:
            link.sendall(answer(204))
    with Told(BEGUN, PART, PART, reset, fault(404, "NoSuchUpload"), store, close=True) as told:
        assert "etag=whole " in told.drive("put-file", "k", big), verbs(told)
    content = content[:-1] + bytes([content[-1] ^ 1])
    again = (BEGUN, PART, PART, ENDED)  # it is gone: once more from the beginning
    for lost in (fault(404, "NoSuchUpload"), ENDED):  # also a store that says that it is done, but has another object
        with Told(BEGUN, PART, PART, reset, lost, store, store, store, answer(204), *again, close=True) as told:
            assert "etag=whole-2 " in told.drive("put-file", "k", big) and verbs(told).count("POST") == 5, verbs(told)
    with Told(BEGUN, PART, PART, fault(404, "NoSuchUpload"), answer(204), *again, close=True) as told:
        assert "etag=whole-2 " in told.drive("put-file", "k", big), verbs(told)
    with Told(BEGUN, PART, PART, fault(404, "NoSuchUpload"), answer(204), BEGUN, PART, PART, fault(404, "NoSuchUpload"), answer(204),
              close=True) as told:
        assert told.drive("put-file", "k", big).startswith("busy:"), verbs(told)
    with Told(BEGUN, PART, PART, answer(200, b"cut <"), store, close=True) as told:
        assert told.drive("put-file", "k", big).startswith("corrupt:"), verbs(told)


def requests_say_what_is_in_them():
    mine = make_file("mine", 10)
    with Told(answer(200, b"", 'ETag: "e"')) as told:
        told.drive("put", "a b/ä+%", mine, region="eu-1", prefix="p/")
        lines = told.lines()
        assert lines[0] == "PUT /vault/p/a%20b/%C3%A4%2B%25 HTTP/1.1", lines
        names = [line.split(":")[0].lower() for line in lines[1:]]
        assert "x-amz-checksum-sha256" in names and "x-amz-content-sha256" in names and "expect" not in names, names
        authorization = [line for line in lines if line.startswith("authorization:")][0]
        assert "/eu-1/s3/aws4_request" in authorization and "x-amz-checksum-sha256" in authorization, authorization
        assert "transfer-encoding" not in names and "content-length: 10" in [line.lower() for line in lines]


def renewed_credentials_are_read_again():
    def renew(link, _):
        path = os.path.join(folder, "keys")
        with open(os.open(path + ".new", os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
            file.write("access_key = NEWER\nsecret_key = %s\nsession_token = token2\n" % SECRET)
        os.rename(path + ".new", path)
        link.sendall(fault(400, "ExpiredToken"))
    with Told(renew, answer(200, b"x")) as told:
        assert told.drive("read", "k", 10, path("out")).startswith("ok ") and len(told.requests) == 2
        assert any("Credential=AK/" in line for line in told.lines(0)) and any("Credential=NEWER/" in line for line in told.lines(1))
        assert "x-amz-security-token: token2" in told.lines(1)
    with Told(fault(403, "InvalidAccessKeyId")) as told:  # the same keys: not again
        assert told.drive("read", "k", 1, path("out")).startswith("denied:") and len(told.requests) == 1


def a_store_without_conditions_is_not_for_vaults():
    kept = {}

    def simple(link, request):
        verb, key = request[0][0].split()[0], request[0][0].split()[1].split("?")[0]
        if verb == "PUT" and "?" not in request[0][0]:
            kept[key] = request[1]
            link.sendall(answer(200, b"", 'ETag: "e"'))
        elif verb == "GET" and key in kept:
            first, last = [h for h in request[0] if h.lower().startswith("range:")][0].split("=")[1].split("-")
            link.sendall(answer(206, kept[key][int(first):int(last) + 1], "Content-Range: bytes %s-%s/%d" % (first, last, len(kept[key]))))
        elif verb == "GET" and "list-type" in request[0][0]:
            link.sendall(listed(False, b"", *(k[len("/vault/"):].encode() for k in sorted(kept))))
        else:
            link.sendall(fault(501, "NotImplemented"))
    with Told(simple) as told:
        told.drive("head", "k")  # writes the configuration
        done = subprocess.run([os.path.join(s3lib.BUILD, "src/node/farshore-node"), "store", "check", os.path.join(folder, "store")],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "FAILED  write only what is new             the store ignores If-None-Match" in done.stdout, done.stdout


ALL = [what_passes_by_is_tried_again, what_does_not_pass_by_is_not_tried_again, the_bound_of_all_attempts_holds, silence_ends_an_attempt,
       lengths_that_cannot_be_are_corrupt, an_endless_body_is_cut_at_its_bound, nobody_is_followed_elsewhere, pages_go_on_and_only_forward,
       a_new_object_whose_answer_got_lost_is_ours_if_it_is_the_same, every_part_is_tried_again_by_itself_and_the_end_too,
       an_end_whose_answer_got_lost_is_looked_at, renewed_credentials_are_read_again, a_store_without_conditions_is_not_for_vaults, requests_say_what_is_in_them]


def main():
    global folder
    folder = tempfile.mkdtemp()
    tap.run_all(ALL)


if __name__ == "__main__":
    main()
