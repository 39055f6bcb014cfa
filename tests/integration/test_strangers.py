#!/usr/bin/env python3
"""1,000 slow, half-open, oversized or malformed connections at once leave the server answering others.

They come from several addresses of the loopback, as from several machines: one machine alone has fewer (http_conns.h).

far-timeout: 180
"""
import contextlib
import os
import random
import socket
import ssl

import farlib
import tap

COUNT, ADDRESSES = 1000, 10
cluster = rng = None
held = []


def dial(number, port):
    sock = socket.socket()
    sock.settimeout(10)
    sock.bind(("127.0.0.%d" % (2 + number % ADDRESSES), 0))
    sock.connect(("127.0.0.1", port))
    held.append(sock)
    return sock


def over_tls(sock):
    """The TLS connection, its handshake done."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    wrapped = context.wrap_socket(sock)
    held.append(wrapped)
    return wrapped


def half_open(number, port):
    dial(number, port)


def half_a_handshake(number, port):
    dial(number, port).sendall(bytes.fromhex("160301020001000 1fc0303".replace(" ", "")))


def no_tls(number, port):
    dial(number, port).sendall(rng.randbytes(200))


def half_a_head(number, port):
    over_tls(dial(number, port)).sendall(b"GET /v1/sites HTTP/1.1\r\nHost: x\r\nX-Slow: ")


def half_a_body(number, port):
    over_tls(dial(number, port)).sendall(b"POST /v1/sites HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n{"
                                         % cluster.token.encode())


def an_endless_head(number, port):
    over_tls(dial(number, port)).sendall(b"GET / HTTP/1.1\r\n" + b"X-Long: " + b"a" * 20000)


def an_endless_body(number, port):
    over_tls(dial(number, port)).sendall(b"POST /v1/sites HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + b"a" * 20000)


def nonsense(number, port):
    text = rng.choice((b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n" * 50, b"\0" * 100,
                       b"GET /v1/sites HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                       b"POST /v1/sites HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", rng.randbytes(300)))
    over_tls(dial(number, port)).sendall(text)


KINDS = (half_open, half_a_handshake, no_tls, half_a_head, half_a_body, an_endless_head, an_endless_body, nonsense)


def open_all(port):
    """How many of each kind got as far as they wanted: the server may end any of them."""
    done = dict.fromkeys((kind.__name__ for kind in KINDS), 0)
    for number in range(COUNT):
        kind = KINDS[number % len(KINDS)]
        with contextlib.suppress(OSError):  # also ssl.SSLError: it was closed
            kind(number, port)
            done[kind.__name__] += 1
    return done


def close_all():
    while held:
        with contextlib.suppress(OSError):
            held.pop().close()


def open_files(server):
    return len(os.listdir("/proc/%d/fd" % server.pid))


def answers_others(server, name):
    """Reads and writes at that very server, each on a connection of its own."""
    for number in range(5):
        cluster.post("/v1/sites", {"name": "%s-%d" % (name, number), "role": "recovery"}, server=server)
        assert cluster.get("/v1/sites/%s-%d" % (name, number), server=server)["name"]
    assert cluster.request(server, "GET", "/healthz")[0] == 200


def try_port(server, port, name):
    before = open_files(server)
    done = open_all(port)
    print("# port %d, of %d each: %r" % (port, COUNT // len(KINDS), done), flush=True)
    answers_others(server, name)
    wrong = [] if done["half_open"] + done["no_tls"] >= COUNT // len(KINDS) else ["hardly any connection came about: %r" % done]
    if not server.alive():
        wrong.append("the server ended")
    close_all()
    farlib.until(lambda: open_files(server) <= before + 20, 40, "the server has let go of them")
    return wrong


def a_thousand_strangers_at_the_users_port():
    server = cluster.wait_leader()
    return try_port(server, int(server.api.rsplit(":", 1)[1]), "api")


def a_thousand_strangers_at_the_port_of_servers_and_nodes():
    server = cluster.wait_leader()
    wrong = try_port(server, int(server.peer.rsplit(":", 1)[1]), "peer")
    cluster.wait_same_heads()
    return wrong


def nobody_was_disturbed():
    """The same leader, and nothing of what strangers sent is in the state."""
    names = [s["name"] for s in cluster.get("/v1/sites?limit=1000")["items"]]
    return [] if len(names) == 10 + len(farlib.SITES) else ["sites: %r" % names]


if __name__ == "__main__":
    rng = random.Random(farlib.seed_of_run())
    with farlib.Cluster(nodes=False) as cluster:
        tap.run_all([a_thousand_strangers_at_the_users_port, a_thousand_strangers_at_the_port_of_servers_and_nodes,
                     nobody_was_disturbed])
