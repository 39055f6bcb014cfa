#!/usr/bin/env python3
"""The client of object stores against a real S3-compatible server (versitygw): over TLS and plainly on loopback, with a bucket that keeps no
versions and one with object lock.

far-timeout: 300
"""
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../lib"))
import s3lib  # noqa: E402
import tap  # noqa: E402

MIB = 1 << 20
SEED = int(os.environ.get("FAR_SEED", random.randrange(1 << 32)))
DRIVER = os.path.join(s3lib.BUILD, "tests/lib/objects_driver")
FAR_FUTURE_MS = 4102444800000
server = plain = locked = None
ODD_KEYS = ["a", "a b", "a+b", "a%2Fb", "a&b=c", "a'b\"c", "a<b>", "ä/ö/€/𝔘", "a~b", "a*b(c)!", "a//b", "x/y", "x-y", "x.y", "x0", "#?", "a:b;c,d@e$f"]


def make_file(name, size, seed):
    path = os.path.join(server.folder, name)
    with open(path, "wb") as file:
        file.write(random.Random(seed).randbytes(size))
    return path


def drive(config, *arguments, **environment):
    """(status, output)"""
    done = subprocess.run([DRIVER, config, *map(str, arguments)], capture_output=True, text=True, timeout=200,
                          env=dict(os.environ, **environment))
    assert done.returncode in (0, 1) and not done.stderr, (done.returncode, done.stderr)
    assert server.secret_key not in done.stdout
    return done.returncode, done.stdout


def fields(config, *arguments):
    status, out = drive(config, *arguments)
    assert status == 0, out
    return dict(word.split("=", 1) for word in out.split()[1:])


def refused(klass, config, *arguments, **environment):
    status, out = drive(config, *arguments, **environment)
    assert status == 1 and out.startswith(klass + ":"), (klass, arguments, out)
    return out


def keys(config, under):
    status, out = drive(config, "list", under)
    assert status == 0, out
    return [bytes.fromhex(line.split()[0]).decode() for line in out.splitlines()[:-1]]


def content(path):
    with open(path, "rb") as file:
        return file.read()


def what_is_put_is_got_whole_and_by_ranges():
    small, empty, out = make_file("small", 70001, SEED), make_file("empty", 0, SEED), os.path.join(server.folder, "out")
    put = fields(plain, "put", "dir/small", small)
    head = fields(plain, "head", "dir/small")
    assert put["etag"] == head["etag"] and head["size"] == "70001" and abs(int(head["modified"]) / 1000 - time.time()) < 60, (put, head)
    fields(plain, "read", "dir/small", 70001, out)
    assert content(out) == content(small)
    rng = random.Random(SEED)
    for offset, length in [(0, 1), (0, 70001), (70000, 1), (5, 0)] + [(rng.randrange(60000), rng.randrange(1, 10000)) for _ in range(5)]:
        assert drive(plain, "get", "dir/small", offset, length, out)[0] == 0
        assert content(out) == content(small)[offset:offset + length], (offset, length)
    refused("limit", plain, "read", "dir/small", 70000, out)
    refused("corrupt", plain, "get", "dir/small", 69999, 3, out)
    refused("corrupt", plain, "get", "dir/small", 70001, 1, out)
    fields(plain, "put", "dir/empty", empty)
    assert fields(plain, "read", "dir/empty", 0, out)["size"] == "0" and content(out) == b""
    for command in (("head", "none"), ("read", "none", 10, out), ("get", "none", 0, 1, out)):
        refused("not_found", plain, *command)


def odd_keys_are_kept_and_listed_in_order():
    small = make_file("one", 100, SEED)
    for key in ODD_KEYS:
        if key == "a//b":  # the server's own storage has no such names
            continue
        fields(plain, "put", "odd/" + key, small)
        assert fields(plain, "head", "odd/" + key)["size"] == "100", key
    wanted = sorted(("odd/" + key for key in ODD_KEYS if key != "a//b"), key=lambda k: k.encode())
    assert keys(plain, "odd/") == wanted, (keys(plain, "odd/"), wanted)
    assert keys(plain, "odd/x") == ["odd/x-y", "odd/x.y", "odd/x/y", "odd/x0"]
    assert keys(plain, "nothing/") == []
    for key in wanted:
        assert drive(plain, "delete", key) == (0, "")
        assert drive(plain, "delete", key) == (0, "")  # what is not there is deleted
    assert keys(plain, "odd/") == []


def more_than_a_page_is_listed_to_its_end():
    assert drive(plain, "fill", "many/", 1203)[1] == "ok\n"
    assert keys(plain, "many/") == ["many/%04d" % i for i in range(1203)]


def of_eight_that_put_a_new_object_exactly_one_wins():
    out = os.path.join(server.folder, "out")
    for i in range(5):
        for config, key in ((plain, "race%d" % i), (locked, "race%d" % i)):
            lines = [line.split() for line in drive(config, "race", key, 8)[1].splitlines()]
            winners = [line[0] for line in lines if line[1] == "ok"]
            assert len(lines) == 8 and len(winners) == 1 and all(line[1] in ("ok", "conflict") for line in lines), lines
            fields(config, "read", key, 100, out)
            assert content(out).decode() == "racer " + winners[0]


def conditions_hold():
    one, other = make_file("one", 100, SEED), make_file("other", 100, SEED + 1)
    big, big_other = make_file("big", 6 * MIB, SEED), make_file("big_other", 6 * MIB, SEED + 1)
    for command, first, second in (("put", one, other), ("put-file", big, big_other)):
        key = "cond-" + command
        etag = fields(plain, command, key, first, "new")["etag"]
        assert fields(plain, command, key, first, "new")["etag"] == etag  # the same bytes: it is there as wanted
        refused("conflict", plain, command, key, second, "new")
        refused("conflict", plain, command, key, second, "same", "0" * 32)
        newer = fields(plain, command, key, second, "same", etag)["etag"]
        refused("conflict", plain, command, key, first, "same", etag)
        assert fields(plain, "head", key)["etag"] == newer != etag
        refused("conflict", plain, command, "cond-none", first, "same", etag)
    assert drive(plain, "sweep", "", 0)[1] == "ok 0\n"  # those that lost left nothing behind


def a_large_file_goes_in_parts():
    big, out = make_file("big", 23 * MIB + 4321, SEED), os.path.join(server.folder, "out")
    put = fields(plain, "put-file", "parts/big", big)
    assert put["etag"].endswith("-5") and put["size"] == str(23 * MIB + 4321), put
    fields(plain, "read", "parts/big", 30 * MIB, out)
    assert content(out) == content(big)
    assert drive(plain, "get", "parts/big", 5 * MIB - 10, 20, out)[0] == 0 and content(out) == content(big)[5 * MIB - 10:5 * MIB + 10]
    assert not fields(plain, "put-file", "parts/small", make_file("small", 100, SEED))["etag"].endswith("-1")
    refused("canceled", plain, "put-file", "parts/canceled", big, FAR_CANCEL_AT=str(6 * MIB))
    refused("not_found", plain, "head", "parts/canceled")
    assert drive(plain, "sweep", "", 0)[1] == "ok 0\n"


def started(config, *arguments, **environment):
    return subprocess.Popen([DRIVER, config, *arguments], env=dict(os.environ, **environment), stdout=subprocess.PIPE, text=True, preexec_fn=s3lib.die_with_parent)


def uploads_under_way(bucket="vault"):
    return server.request("GET", "/" + bucket, {"uploads": ""})[2].count(b"<Upload>")


def until(condition, what):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)  # far-poll


def what_a_killed_process_began_is_swept_when_it_is_old():
    big = make_file("big", 23 * MIB, SEED)
    upload = started(plain, "put-file", "swept/big", big, FAR_KILL_AT=str(11 * MIB))
    upload.communicate()
    assert upload.returncode == -signal.SIGKILL and uploads_under_way() == 1, upload.returncode
    assert drive(plain, "sweep", "swept/", 3600 * 1000)[1] == "ok 0\n" and uploads_under_way() == 1  # it is not old
    assert drive(plain, "sweep", "elsewhere/", 0)[1] == "ok 0\n" and uploads_under_way() == 1
    assert drive(plain, "sweep", "swept/", 0)[1] == "ok 1\n"
    # a part that was still being stored may bring it back: as S3 says, abort again
    until(lambda: uploads_under_way() == 0 or (drive(plain, "sweep", "swept/", 0) and False), "the end of the upload")
    refused("not_found", plain, "head", "swept/big")


def an_upload_outlives_its_server():
    big, out = make_file("big", 43 * MIB, SEED), os.path.join(server.folder, "out")
    upload = started(plain, "put-file", "outlives/big", big, FAR_STOP_EACH=str(8 * MIB))
    stops = 0
    while os.WIFSTOPPED(os.waitpid(upload.pid, os.WUNTRACED)[1]):
        if stops < 4:
            server.kill()
            server.start()
        stops += 1
        upload.send_signal(signal.SIGCONT)
    assert stops == 5 and upload.stdout.read().startswith("ok size=%d " % (43 * MIB))
    fields(plain, "read", "outlives/big", 60 * MIB, out)
    assert content(out) == content(big)
    server.kill()
    waits = started(plain, "put", "outlives/small", make_file("small", 100, SEED))
    server.start()
    assert waits.communicate(timeout=120)[0].startswith("ok ") and waits.returncode == 0


def a_store_that_stays_away_is_busy():
    server.kill()
    impatient = server.store_file("vault", "impatient", retry_max_ms=700)
    said = refused("busy", impatient, "put", "away", make_file("small", 100, SEED))
    assert "attempts" in said, said
    server.start()


def objects_are_locked_until_their_date_and_only_ever_longer():
    one, other = make_file("one", 100, SEED), make_file("other", 100, SEED + 1)
    soon = int(time.time() + 3600) * 1000
    first = fields(locked, "put", "lock/a", one, "any", soon)
    assert first["version"] and fields(locked, "head", "lock/a")["until"] == str(soon)
    assert drive(locked, "retain", "lock/a", first["version"], soon + 5000) == (0, "")
    assert drive(locked, "retain", "lock/a", "", soon - 100000) == (0, "")  # earlier: nothing changes
    assert fields(locked, "head", "lock/a")["until"] == str(soon + 5000)
    refused("denied", locked, "delete", "lock/a", first["version"])
    second = fields(locked, "put", "lock/a", other)
    assert second["version"] != first["version"] and second["until"] == "0"
    assert drive(locked, "delete", "lock/a", second["version"]) == (0, "")  # the newest goes, and the locked one is there again
    out = os.path.join(server.folder, "out")
    assert drive(locked, "delete", "lock/a") == (0, "")  # hidden
    refused("not_found", locked, "head", "lock/a")
    assert drive(locked, "get", "lock/a", 0, 100, out, first["version"])[0] == 0 and content(out) == content(one)
    big = make_file("big", 6 * MIB, SEED)
    part = fields(locked, "put-file", "lock/big", big, "any", soon)
    refused("denied", locked, "delete", "lock/big", part["version"])
    assert drive(locked, "retain", "lock/big", part["version"], FAR_FUTURE_MS) == (0, "")


def a_lock_needs_a_bucket_and_a_mode():
    one = make_file("one", 100, SEED)
    no_mode = server.store_file("vault", "no_mode")
    no_lock = server.store_file("vault", "no_lock", lock_mode="governance")
    fields(plain, "put", "unlocked", one)
    for config in (no_mode, no_lock):
        refused("invalid", config, "put", "unlocked", one, "any", FAR_FUTURE_MS)
        refused("invalid", config, "retain", "unlocked", "", FAR_FUTURE_MS)


def strangers_are_refused_without_a_word_about_keys():
    path = os.path.join(server.folder, "credentials.wrong")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as file:
        file.write("access_key = %s\nsecret_key = not-the-secret\n" % server.access_key)
    config = server.store_file("vault", "wrong", credentials=path)
    said = refused("denied", config, "head", "dir/small") + refused("denied", config, "list", "")
    assert "not-the-secret" not in said and "SignatureDoesNotMatch" in said, said
    os.chmod(path, 0o640)
    assert "chmod" in refused("denied", config, "head", "dir/small")
    refused("not_found", server.store_file("no-such-bucket", "nobucket"), "list", "")
    if server.tls:
        refused("denied", server.store_file("vault", "untrusted", ca=""), "head", "dir/small")


def files_of_stores_are_checked_before_use():
    for line, word in (("bucket = UPPER", "bucket"), ("endpoint = http://store.example.com", "https"), ("prefix = x", "prefix"),
                       ("part_bytes = 1m", "part_bytes"), ("lock_mode = maybe", "lock_mode"), ("region = a/b", "region"),
                       ("nonsense = 1", "nonsense")):
        key, value = line.split(" = ")
        config = server.store_file("vault", "checked", **{key: value})
        assert word in refused("invalid", config, "list", ""), line
    refused("not_found", os.path.join(server.folder, "no-such-file"), "list", "")


def check_store(config):
    done = subprocess.run([os.path.join(s3lib.BUILD, "src/node/farshore-node"), "store", "check", config], capture_output=True, text=True)
    lines = {line[8:42].strip(): line.split()[0] for line in done.stdout.splitlines()[1:]}
    return done.returncode, lines, done.stdout + done.stderr


def a_store_is_tried_out_before_it_is_trusted():
    status, lines, said = check_store(locked)
    assert status == 0 and lines["versions"] == lines["object lock"] == lines["write in parts"] == "ok", said
    before = keys(plain, "")
    status, lines, said = check_store(plain)
    assert status == 0 and lines["versions"] == lines["object lock"] == "no" and "FAILED" not in lines.values(), said
    assert keys(plain, "") == before, "it left something behind"
    status, lines, said = check_store(server.store_file("vault", "no_lock", lock_mode="governance", part_bytes="5m"))
    assert status == 2 and lines["object lock"] == "FAILED", said
    status, lines, said = check_store(server.store_file("no-such-bucket", "nobucket"))
    assert status == 2 and lines["write"] == "FAILED" and len(lines) == 1, said


ALL = [what_is_put_is_got_whole_and_by_ranges, odd_keys_are_kept_and_listed_in_order, more_than_a_page_is_listed_to_its_end,
       of_eight_that_put_a_new_object_exactly_one_wins, conditions_hold, a_large_file_goes_in_parts,
       what_a_killed_process_began_is_swept_when_it_is_old, an_upload_outlives_its_server, a_store_that_stays_away_is_busy,
       objects_are_locked_until_their_date_and_only_ever_longer, a_lock_needs_a_bucket_and_a_mode,
       strangers_are_refused_without_a_word_about_keys, a_store_is_tried_out_before_it_is_trusted, files_of_stores_are_checked_before_use]


def main():
    global server, plain, locked
    tls = sys.argv[1:] == ["tls"]
    print("# seed %d; FAR_SEED repeats it" % SEED)
    try:
        server = s3lib.Server(tempfile.mkdtemp(), tls=tls)
    except tap.Skip as reason:
        print("1..0 # SKIP %s" % reason)
        return
    with server:
        server.make_bucket("vault")
        server.make_bucket("locked", lock=True)
        plain = server.store_file("vault", "plain", prefix="pre fix/", part_bytes="5m", retry_max_ms=60000)
        locked = server.store_file("locked", "locked", lock_mode="governance", part_bytes="5m")
        tap.run_all(ALL if not tls else [what_is_put_is_got_whole_and_by_ranges, a_large_file_goes_in_parts, an_upload_outlives_its_server,
                                         strangers_are_refused_without_a_word_about_keys])


if __name__ == "__main__":
    main()
