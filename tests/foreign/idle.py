#!/usr/bin/env python3
"""What idle sessions weigh: memory of the proxy for so many connections, without and with a session.

    idle.py [COUNT] [ws|h2]

Each count is of a proxy of its own: connections that are idle, connections that are ready to carry a session
(an upgraded WebSocket; over HTTP/2 a request whose answer has begun), connections with a session, and with a
session that has one open stream, whose request was answered. A session's own weight is the last without the
second. With COUNT (10,000 are as many as one tenant may have) figures are told; without, a few are made and
the bar is checked.
"""

import base64
import os
import resource
import socket
import sys
import threading
import time

import frames
import kit

# Beyond its connection, a session with one open stream.
BAR_BYTES = 4096
FEW = 900
# Who opens a request for a session and says nothing is cut after ten seconds.
READY_MAX = 600
# Memory is given back after a quarter of a second without a word.
REST_S = 1
MODEL = "mock--tokens-5"

mock = kit.Mock("--no-record")


def weight(proxy):
    with open(f"/proc/{proxy.child.pid}/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def frame(number, stream, seq, flags, kind, content=None):
    return frames.encoded("bin", frames.frame(f"idle-{number}", stream, seq, flags, kind, content))


OPENING = {"encodings": ["bin"], "heartbeat_ms": 15_000, "resume": True}
CHAT = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "x"}]}


def connected(proxy):
    made = socket.create_connection(("127.0.0.1", proxy.port), kit.PATIENCE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


class OverWebSocket:
    """Bytes by hand: ten thousand of a library's connections weigh more than what is measured."""

    def __init__(self, proxy, number):
        self.number, self.held = number, b""
        self.socket = connected(proxy)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET /ws HTTP/1.1", "host: localhost", "upgrade: websocket", "connection: upgrade",
                 "sec-websocket-version: 13", f"sec-websocket-key: {key}",
                 "sec-websocket-protocol: atp.bin.v1"]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in self.held:
            self.held += self.socket.recv(65_536)
        assert b" 101 " in self.held[:20], self.held
        self.held = self.held.split(b"\r\n\r\n", 1)[1]

    def ready(self):
        """It is, once it is upgraded."""

    def say(self, message):
        # Masked with zeros, which leaves the bytes as they are.
        length = bytes([0x80 | len(message)]) if len(message) < 126 else None
        length = length or b"\xfe" + len(message).to_bytes(2, "big")
        self.socket.sendall(b"\x82" + length + b"\0" * 4 + message)

    def hear(self):
        def take(count):
            while len(self.held) < count:
                self.held += self.socket.recv(65_536)
            taken, self.held = self.held[:count], self.held[count:]
            return taken

        length = take(2)[1]
        return frames.from_bin(take(int.from_bytes(take(2), "big") if length == 126 else length))


class OverHttp2:
    """One request a connection; idle, the connection has had one that was answered."""

    def __init__(self, proxy, number):
        import h2.config
        import h2.connection
        import h2.events

        self.events, self.number = h2.events, number
        self.socket = connected(proxy)
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.state.initiate_connection()
        self.held, self.is_ended, self.is_begun = b"", False, False
        self.state.send_headers(1, self._head("GET", "/v1/models"), end_stream=True)
        self._flush()
        while not self.is_ended:
            self._read()
        self.held, self.stream = b"", None

    def _head(self, method, path, *more):
        return [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path), *more]

    def _flush(self):
        self.socket.sendall(self.state.data_to_send())

    def _read(self):
        for event in self.state.receive_data(self.socket.recv(65_536)):
            if isinstance(event, self.events.DataReceived):
                self.held += event.data
                self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.is_ended |= isinstance(event, self.events.StreamEnded)
            self.is_begun |= isinstance(event, self.events.ResponseReceived)
        self._flush()

    def ready(self):
        """A request whose both bodies are open."""
        self.stream, self.is_begun = 3, False
        kind = ("content-type", "application/atp+bin")
        self.state.send_headers(3, self._head("POST", "/atp/v1/session", kind))
        self._flush()
        while not self.is_begun:
            self._read()

    def say(self, message):
        if self.stream is None:
            self.ready()
        self.state.send_data(3, len(message).to_bytes(4, "big") + message)
        self._flush()

    def hear(self):
        while len(self.held) < 4 or len(self.held) < 4 + int.from_bytes(self.held[:4], "big"):
            self._read()
        length = int.from_bytes(self.held[:4], "big")
        message, self.held = self.held[4:4 + length], self.held[4 + length:]
        return frames.from_bin(message)


def ready(connection):
    connection.ready()


def opened(connection):
    connection.say(frame(connection.number, "", 0, ["SYN"], "SYN", OPENING))
    granted = connection.hear()
    assert "SYN" in granted["flags"], (connection.number, granted)
    connection.say(frame(connection.number, "", 0, ["ACK"], "ACK"))


def asked(connection):
    """A request that leaves its stream open, its answer acknowledged."""
    opened(connection)
    connection.say(frame(connection.number, "1", 1, [], "completion", CHAT))
    while (heard := connection.hear())["payload"]["type"] != "agent.result.final":
        assert heard["payload"]["type"] != "ERROR", heard
    connection.say(frame(connection.number, "1", heard["msg_seq"], ["ACK"], "ACK"))


def weighed(carriage, count, begin):
    """Bytes for each of the last two thirds of `count` connections, after `begin` of each: what is allocated
    once, and what the first requests leave behind, is no session's."""
    proxy = kit.Proxy([kit.adapter("local", mock.url, MODEL)])
    connections, lives = [carriage(proxy, f"warm-{number}") for number in range(20)], True
    for connection in connections:
        asked(connection)
    has_session = begin in (opened, asked)
    beating = []

    def beat():
        while lives:
            for connection in list(beating):
                with connection.lock:
                    connection.say(connection.beat)
            time.sleep(8)

    def make(numbers):
        for number in numbers:
            connection = carriage(proxy, number)
            connections.append(connection)
            connection.lock, connection.beat = threading.Lock(), frame(number, "", 0, ["HB"], "HEARTBEAT")
            if begin:
                begin(connection)
            if has_session:
                beating.append(connection)
        time.sleep(REST_S)
        return weight(proxy)

    threading.Thread(target=beat, daemon=True).start()
    # The first are of the count: a tenant has 10,000 runs.
    count -= len(connections)
    before = make(range(count // 3))
    after = make(range(count // 3, count))
    if has_session:
        open_now = proxy.metric("atp_sessions_open")
        assert count <= open_now <= count + 20, open_now
    lives = False
    proxy.kill()
    for connection in connections:
        connection.socket.close()
    return (after - before) / (count - count // 3)


def measured(carriage, count):
    name = carriage.__name__
    idle, session, stream = (weighed(carriage, count, begin) for begin in (None, opened, asked))
    bare = weighed(carriage, min(count, READY_MAX), ready)
    print(f"      {count} {name}: connection {idle:.0f} B, ready for a session {bare:.0f} B, with a session "
          f"{session:.0f} B, with an open stream {stream:.0f} B: {stream - bare:.0f} B are the session's",
          flush=True)
    return stream - bare


@kit.each([carriage.__name__ for carriage in (OverWebSocket, OverHttp2)])
def an_idle_session_weighs_no_more_than_the_bar(name):
    beyond = measured(globals()[name], FEW)
    assert beyond <= BAR_BYTES, beyond


resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
if len(sys.argv) > 1:
    kinds = {"ws": OverWebSocket, "h2": OverHttp2}
    for kind in sys.argv[2:] or kinds:
        measured(kinds[kind], int(sys.argv[1]))
else:
    kit.main(mock)
