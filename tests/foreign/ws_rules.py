#!/usr/bin/env python3
"""WebSocket's own rules (RFC 6455), those the Autobahn test suite goes through, and clients that mean harm.

    ws_rules.py

Every byte is written by hand, so that what no library would send is sent. Behind each check stands another:
the proxy lives and a session on a fresh connection is answered. Standard library only.
"""

import base64
import json
import os
import socket
import struct
import threading
import time

import frames
import kit

# A head has 10 s; what is above is for a debug build on a busy machine.
CUT_S = 12.5
# A stream that nobody takes is ended after 30 s, and who takes no byte of a connection is cut after that.
SLOW_CUT_S = 45
ANSWER_S = 10
SHORT, FLOOD = "mock--tokens-5", "mock--tokens-100000--answer-bytes-10000000"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

mock = kit.Mock()
proxy = kit.Proxy(kit.alone(mock.url, [SHORT, FLOOD]))
ADDRESS = ("127.0.0.1", proxy.port)
# For the one whose memory is looked at while others are busy.
apart = kit.Proxy(kit.alone(mock.url, [SHORT, FLOOD]))


def frame(opcode, data=b"", fin=True, reserved=0, mask=b"\x01\x02\x03\x04", length=None):
    """One frame of the wire; `length`: what is claimed, where that is not the truth."""
    claimed = len(data) if length is None else length
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    bit = 0x80 if mask else 0
    if claimed < 126:
        head += bytes([bit | claimed])
    elif claimed < 65_536:
        head += bytes([bit | 126]) + struct.pack(">H", claimed)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", claimed)
    if not mask:
        return head + data
    times = len(data) // 4 + 1
    masked = int.from_bytes(data, "big") ^ int.from_bytes((mask * times)[:len(data)], "big")
    return head + mask + masked.to_bytes(len(data), "big")


HEAD = ["GET /ws HTTP/1.1", "host: localhost", "upgrade: websocket", "connection: Upgrade",
        "sec-websocket-version: 13"]


class Raw:
    """A connection of bytes, after its handshake."""

    def __init__(self, receive_bytes=None, path="/ws", more=(), to=proxy):
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(ANSWER_S)
        self.socket.connect(("127.0.0.1", to.port))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [HEAD[0].replace("/ws", path), *HEAD[1:], f"sec-websocket-key: {key}", *more, "", ""]
        self.send("\r\n".join(lines).encode())
        self.held = b""
        while b"\r\n\r\n" not in self.held:
            self.held += self._more()
        head, self.held = self.held.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101"), head

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """False where the other end has closed already."""
        try:
            self.socket.sendall(data)
            return True
        except OSError:
            return False

    def _more(self):
        more = self.socket.recv(65_536)
        if not more:
            raise ConnectionError("the end")
        return more

    def read(self):
        """Opcode and data of the next frame; no server masks or fragments here."""
        def take(count):
            while len(self.held) < count:
                self.held += self._more()
            taken, self.held = self.held[:count], self.held[count:]
            return taken

        first, second = take(2)
        assert first & 0xF0 == 0x80 and second < 128, (first, second)
        length = second
        if second >= 126:
            length = int.from_bytes(take(2 if second == 126 else 8), "big")
        return first & 15, take(length)

    def closed(self):
        """The close code: 0 for a close without one, None where the connection just ended."""
        try:
            while True:
                opcode, data = self.read()
                if opcode == CLOSE:
                    return int.from_bytes(data[:2], "big")
        except (OSError, ConnectionError):
            return None

    def answer(self, opcode=TEXT):
        while True:
            heard, data = self.read()
            if heard == opcode:
                return data


def question(model=SHORT, text="x"):
    return {
        "v": 1, "session_id": "s", "stream_id": "t", "msg_seq": 1, "frag_seq": 0, "flags": [], "qos": "gold",
        "ttl": 8, "window": frames.WINDOW, "meta": {},
        "payload": {"type": "question", "content": {"text": text, "model": model}},
    }


QUESTION = json.dumps(question()).encode()
WÖRTER = json.dumps(question(text="wörter " * 50), ensure_ascii=False).encode()


def is_answered(raw):
    while True:
        told = json.loads(raw.answer())
        if told.get("flags") == ["FIN"]:
            return told["payload"]["content"]["finals"][0].endswith("tok5")
        assert "error" not in told, told


def serves_on():
    assert proxy.is_alive(), proxy.said()
    with Raw() as raw:
        raw.send(frame(TEXT, QUESTION))
        assert is_answered(raw)


def rule(function):
    def also_serves_on():
        function()
        serves_on()
    also_serves_on.__name__ = function.__name__
    return kit.check(also_serves_on)


def rules(cases):
    def mark(function):
        def also_serves_on(case):
            function(case)
            serves_on()
        also_serves_on.__name__ = function.__name__
        return kit.each(cases)(also_serves_on)
    return mark


# What is allowed is taken.


def pieces(data, size, between=b""):
    """A text in frames of so many bytes."""
    cut = [data[at:at + size] for at in range(0, len(data), size)]
    last = len(cut) - 1
    return between.join(frame(TEXT if n == 0 else 0, part, fin=n == last) for n, part in enumerate(cut))


TAKEN = {
    "one frame": frame(TEXT, QUESTION),
    "two fragments": pieces(QUESTION, len(QUESTION) // 2 + 1),
    "fragments of one byte": pieces(QUESTION, 1),
    "fragments inside characters": pieces(WÖRTER, 1),
    "an empty first fragment": frame(TEXT, b"", fin=False) + frame(0, QUESTION),
    "empty fragments between": pieces(QUESTION, 50, frame(0, b"", fin=False)),
    "pings between fragments": pieces(QUESTION, 20, frame(PING, b"p" * 125)),
    "pongs nobody asked for": frame(PONG, b"x") * 10 + frame(TEXT, QUESTION),
    "a mask of zeros": frame(TEXT, QUESTION, mask=b"\0\0\0\0"),
    "a length in more bytes than needed":
        b"\x81\xff" + struct.pack(">Q", len(QUESTION)) + b"\0" * 4 + QUESTION,
}


@rules(TAKEN)
def what_is_allowed_is_taken(case):
    with Raw() as raw:
        raw.send(TAKEN[case])
        assert is_answered(raw)
    with Raw() as raw:
        for byte in TAKEN[case]:
            raw.send(bytes([byte]))
        assert is_answered(raw), "in chops of one byte"


@rules([0, 1, 125])
def a_ping_is_answered_with_its_own_bytes(length):
    with Raw() as raw:
        data = bytes(range(length))
        raw.send(frame(PING, data))
        assert raw.answer(PONG) == data


# What is not allowed ends the connection, and says why.


def half(data):
    return frame(TEXT, data, fin=False)


BROKEN = {
    **{f"reserved bits {bits:03b}": (frame(TEXT, QUESTION, reserved=bits), 1002) for bits in range(1, 8)},
    **{f"a ping with reserved bits {bits:03b}": (frame(PING, b"", reserved=bits), 1002) for bits in (1, 4)},
    **{f"opcode {code}": (frame(code, QUESTION), 1002) for code in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "an unmasked text": (frame(TEXT, QUESTION, mask=None), 1002),
    "an unmasked ping": (frame(PING, b"x", mask=None), 1002),
    "a ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "a close of 126 bytes": (frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002),
    "a ping in fragments": (frame(PING, b"x", fin=False), 1002),
    "a close in fragments": (frame(CLOSE, b"", fin=False), 1002),
    "a continuation of nothing": (frame(0, QUESTION), 1002),
    "a continuation of nothing, unfinished": (frame(0, QUESTION, fin=False), 1002),
    "a text inside a text": (half(QUESTION) + frame(TEXT, QUESTION), 1002),
    "bytes inside a text": (half(QUESTION) + frame(BINARY, QUESTION), 1002),
    "a close of one byte": (frame(CLOSE, b"\x03"), 1002),
    "bytes that are no UTF-8": (frame(TEXT, b"\xc3\x28"), 1007),
    "half a surrogate pair": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "a character in too many bytes": (frame(TEXT, b"\xc0\xaf"), 1007),
    "a character beyond the last": (frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
    "a character that ends with the message": (frame(TEXT, b"ab\xe2\x82"), 1007),
    "a character that breaks between fragments": (half(b"ab\xe2\x82") + frame(0, b"\x28"), 1007),
    "half a character in the last fragment": (half(b"ab") + frame(0, b"\xe2\x82"), 1007),
    "a reason that is no UTF-8": (frame(CLOSE, b"\x03\xe8\xff\xfe"), (1002, 1007)),
    "a length of 1 MiB and a byte": (frame(TEXT, b"", length=1_048_577), 1009),
    "a length of 2^63": (frame(TEXT, b"", length=1 << 63), (1002, 1009)),
    "a length of 2^64-1": (frame(TEXT, b"", length=(1 << 64) - 1), (1002, 1009)),
    "fragments of more than 1 MiB": (pieces(b"a" * 1_100_000, 65_536), 1009),
}


@rules(BROKEN)
def what_is_not_allowed_ends_the_connection(case):
    sent, wanted = BROKEN[case]
    with Raw() as raw:
        started = time.monotonic()
        raw.send(sent)
        code = raw.closed()
        assert code in (wanted if isinstance(wanted, tuple) else (wanted,)), code
        assert time.monotonic() - started < ANSWER_S


# Closing.


GOOD = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]


@rules(GOOD)
def a_close_is_answered_with_its_code(code):
    with Raw() as raw:
        raw.send(frame(CLOSE, struct.pack(">H", code) + "grüße".encode()))
        assert raw.closed() == code


@rules([0, 999, 1004, 1005, 1006, 1015, 2000, 2999, 5000, 65535])
def a_code_nobody_may_send_is_a_mistake(code):
    with Raw() as raw:
        raw.send(frame(CLOSE, struct.pack(">H", code)))
        assert raw.closed() == 1002


@rule
def a_close_without_a_code_is_answered():
    with Raw() as raw:
        raw.send(frame(CLOSE))
        assert raw.closed() in (0, 1000, 1005)


@rule
def what_follows_a_close_is_not_heard():
    mock.reset()
    with Raw() as raw:
        raw.send(frame(CLOSE, b"\x03\xe8") + frame(TEXT, QUESTION) + frame(PING, b"x"))
        assert raw.closed() == 1000
        assert not raw.held, raw.held
    assert mock.stats(SHORT)["requests"] == 0


@rule
def half_a_close_ends_the_connection():
    with Raw() as raw:
        raw.send(frame(TEXT, QUESTION))
        raw.socket.shutdown(socket.SHUT_WR)
        raw.closed()
    with Raw() as raw:
        raw.send(frame(TEXT, QUESTION)[:20])
        raw.socket.shutdown(socket.SHUT_WR)
        raw.closed()


# The handshake.


REFUSED = {
    "another version": (["sec-websocket-version: 8"], "sec-websocket-version"),
    "no version": ([], "sec-websocket-version"),
    "no key": ([], "sec-websocket-key"),
    "a short key": (["sec-websocket-key: abc"], "sec-websocket-key"),
    "POST": (["content-length: 0"], None),
}


@rules(REFUSED)
def a_bad_handshake_is_an_http_error(case):
    more, without = REFUSED[case]
    head = ["POST /ws HTTP/1.1", *HEAD[1:]] if case == "POST" else HEAD
    lines = [*head, "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="]
    lines = [line for line in lines if without is None or not line.startswith(without)] + more
    with socket.create_connection(ADDRESS, ANSWER_S) as raw:
        raw.sendall("\r\n".join([*lines, "", ""]).encode())
        told = raw.recv(65_536)
        assert told.startswith(b"HTTP/1.1 4"), told


@rule
def the_key_is_answered_as_the_rfc_does():
    lines = [*HEAD, "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", "", ""]
    with socket.create_connection(ADDRESS, ANSWER_S) as raw:
        raw.sendall("\r\n".join(lines).encode())
        told = raw.recv(65_536).lower()
        assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in told, told
        assert b"sec-websocket-protocol" not in told and b"sec-websocket-extensions" not in told, told


@rule
def no_extension_is_agreed_and_of_subprotocols_the_first_known():
    offered = ["sec-websocket-extensions: permessage-deflate",
               "sec-websocket-protocol: chat, atp.bin.v1, atp.json.v1"]
    lines = [*HEAD, "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==", *offered, "", ""]
    with socket.create_connection(ADDRESS, ANSWER_S) as raw:
        raw.sendall("\r\n".join(lines).encode())
        told = raw.recv(65_536).lower()
        assert b"sec-websocket-extensions" not in told and b"protocol: atp.bin.v1" in told, told


@rule
def another_encoding_than_agreed_ends_the_connection():
    with Raw(more=["sec-websocket-protocol: atp.bin.v1"]) as raw:
        raw.send(frame(TEXT, QUESTION))
        assert raw.closed() == 1003


# Clients that mean harm.


def resident_bytes(of=proxy):
    with open(f"/proc/{of.child.pid}/statm") as statm:
        return int(statm.read().split()[1]) * 4096


@rule
def pings_nobody_reads_the_answers_of_take_no_memory():
    before = resident_bytes()
    with Raw(receive_bytes=4096) as raw:
        raw.socket.settimeout(2)
        ends = time.monotonic() + 5
        flood = frame(PING, b"p" * 125) * 1000
        sent = 0
        while time.monotonic() < ends and raw.send(flood):
            sent += 1000
        grown = resident_bytes() - before
        print(f"      {sent} pings, {grown // 1024} KiB more")
        assert grown < 8 * 1024 * 1024, grown


@rule
def tiny_fragments_that_never_end_are_cut_at_the_limit_of_a_message():
    before = resident_bytes()
    with Raw() as raw:
        raw.send(frame(TEXT, b"a", fin=False))
        flood = frame(0, b"a" * 100, fin=False) * 500
        sent = 0
        for _ in range(40):
            if not raw.send(flood):
                break
            sent += 500 * 100
        assert raw.closed() in (1009, None)
        assert sent < 4 * 1_048_576, sent
    assert resident_bytes() - before < 16 * 1024 * 1024


@rule
def empty_fragments_without_end_take_no_memory():
    before = resident_bytes()
    with Raw() as raw:
        raw.send(frame(TEXT, b"a", fin=False))
        for _ in range(200):
            if not raw.send(frame(0, b"", fin=False) * 1000):
                break
        assert resident_bytes() - before < 8 * 1024 * 1024
        raw.send(frame(PING, b"alive"))


def slow_handshake(outcome):
    started = time.monotonic()
    with socket.create_connection(ADDRESS, 2 * CUT_S) as raw:
        raw.sendall("\r\n".join(HEAD).encode())
        while time.monotonic() < started + 2 * CUT_S:
            try:
                raw.settimeout(0.5)
                if raw.recv(100) == b"":
                    break
            except TimeoutError:
                raw.send(b"x")
            except OSError:
                break
    outcome["handshake"] = time.monotonic() - started


def slow_reader(outcome):
    """Sessions that beat, and never read what they asked for: more than the kernel keeps for a connection."""
    started, before = time.monotonic(), resident_bytes(apart)
    with Raw(receive_bytes=4096, to=apart) as raw:
        def say(session, stream, seq, flags, kind, content=None):
            made = frames.frame(f"slow-{session}", stream, seq, flags, kind, content)
            return raw.send(frame(TEXT, frames.compact(made).encode()))

        for session in range(16):
            say(session, "", 0, ["SYN"], "SYN", {})
            for number in range(4):
                chat = {"model": FLOOD, "stream": True, "messages": [{"role": "user", "content": "x"}]}
                say(session, f"{number}", 1, ["FIN"], "completion", chat)
        most, is_open = 0, True
        while is_open and time.monotonic() < started + 50:
            for session in range(16):
                is_open = is_open and say(session, "", 0, ["HB"], "HEARTBEAT")
            most = max(most, resident_bytes(apart) - before)
            time.sleep(0.5)
    outcome["reader"] = (time.monotonic() - started, most, is_open)


@kit.check
def a_slow_handshake_is_cut_in_time():
    SLOW["handshake"].join(kit.CHECK_S)
    assert OUTCOME["handshake"] <= CUT_S, OUTCOME
    serves_on()


@rule
def five_hundred_connections_at_once_are_served_and_go():
    raws = [Raw() for _ in range(500)]
    for raw in raws:
        raw.send(frame(TEXT, QUESTION))
    assert all(is_answered(raw) for raw in raws)
    for raw in raws:
        raw.socket.close()
    kit.until("all are gone", lambda: proxy.metric("atp_connections_open") <= 5)


@rule
def a_reader_that_never_reads_is_held_in_bounds_and_cut():
    SLOW["reader"].join(55)
    seconds, most, is_open = OUTCOME["reader"]
    print(f"      after {seconds:.0f} s, at most {most // 1024} KiB more")
    assert not is_open and seconds <= SLOW_CUT_S, OUTCOME
    assert most < 64 * 1024 * 1024, most


@kit.check
def nothing_is_left_over_and_no_task_broke_an_invariant():
    kit.until("no connection but that of the scrape", lambda: proxy.metric("atp_connections_open") <= 1)
    kit.until("no work is under way", lambda: proxy.metric("atp_upstream_in_flight") == 0)
    kit.until("no session", lambda: proxy.metric("atp_sessions_open") == 0)
    assert not [line for line in proxy.lines if line and "panicked" in line], proxy.said()


# They begin before all others and are asked about later: what is between shows they hold nobody up.
OUTCOME = {}
SLOW = {
    "handshake": threading.Thread(target=slow_handshake, args=[OUTCOME], daemon=True),
    "reader": threading.Thread(target=slow_reader, args=[OUTCOME], daemon=True),
}
[thread.start() for thread in SLOW.values()]

kit.main(proxy, apart, mock)
