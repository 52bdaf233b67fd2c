#!/usr/bin/env python3
"""Clients that mean harm get an error or the end of their connection, and everybody else is served on.

    pip install -r requirements.txt
    hostile.py

Behind each check stands another: the proxy lives and answers a plain request.
"""

import json
import socket
import threading
import time

import h2.config
import h2.connection
import h2.events
import h2.settings
import kit
from hyperframe import frame

# A head and ten seconds of body get 10 s; what is above is for a debug build on a busy machine.
CUT_S = 12.5
# Over HTTP/2 a connection that does not answer a PING ends after 20 s and 10 s; a body has 30 s.
HTTP2_CUT_S = 33
# One whose client takes no byte of its answers is looked at every 30 s and ends at the second look.
HTTP2_SHUT_CUT_S = 63
ANSWER_S = 10
BODY_BYTES_MAX = 65_536

mock = kit.Mock()
local = kit.adapter("local", mock.url, "mock-small", "smuggled")
proxy = kit.Proxy([local], limits={"body_bytes": BODY_BYTES_MAX})
ADDRESS = ("127.0.0.1", proxy.port)
START = "POST /v1/chat/completions HTTP/1.1"
CHAT = b'{"model":"mock-small","messages":[{"role":"user","content":"hi"}]}'


def hostile(function):
    def also_serves_on():
        function()
        serves_on()
    also_serves_on.__name__ = function.__name__
    return kit.check(also_serves_on)


def hostile_each(cases):
    def mark(function):
        def also_serves_on(case):
            function(case)
            serves_on()
        also_serves_on.__name__ = function.__name__
        return kit.each(cases)(also_serves_on)
    return mark


def serves_on():
    assert proxy.is_alive(), f"the proxy died: {proxy.said()}"
    status, body = kit.ask(proxy.url, "mock-small")
    assert status == 200 and b"tok20" in body, (status, body)


def connect():
    return socket.create_connection(ADDRESS, ANSWER_S)


def rest_of(connection, timeout=ANSWER_S):
    """All that comes until the other end closes, and whether it did."""
    ends, told = time.monotonic() + timeout, b""
    while time.monotonic() < ends:
        connection.settimeout(max(0.01, ends - time.monotonic()))
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            return told, False
        except OSError:
            return told, True
        if not piece:
            return told, True
        told += piece
    return told, False


def send(connection, data):
    """False where the other end has closed already."""
    try:
        connection.sendall(data)
        return True
    except OSError:
        return False


def head(*lines, start=START):
    all_lines = [start, "host: localhost", "content-type: application/json", *lines, "", ""]
    return "\r\n".join(all_lines).encode("latin-1")


def told(request, timeout=ANSWER_S, half_close=False):
    """Status of the first answer (0: closed without one), all that was told, whether it ended in a close."""
    with connect() as connection:
        send(connection, request)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        text, closed = rest_of(connection, timeout)
    status = int(text.split(b" ", 2)[1]) if text.startswith(b"HTTP/1.") else 0
    return status, text, closed


# Slow ones, all at once.


def drip(connection, data, pause_s=0.5):
    """A byte at a time for as long as the other end takes them."""
    ends = time.monotonic() + 2 * CUT_S
    for byte in data * 1000:
        if time.monotonic() > ends or not send(connection, bytes([byte])) or gone(connection, pause_s):
            return


def gone(connection, wait_s):
    connection.settimeout(wait_s)
    try:
        return connection.recv(65536) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def nothing(connection):
    pass


def a_request_line_that_stops(connection):
    send(connection, b"POST /v1/chat")


def headers_byte_by_byte(connection):
    send(connection, head()[:-2])
    drip(connection, b"x-a: b\r\n")


def a_second_head_that_stops(connection):
    send(connection, b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert b" 200 " in connection.recv(65536)
    send(connection, b"GET /v1/models HT")


def a_body_that_stops(connection):
    send(connection, head("content-length: 1000") + CHAT[:20])


def a_body_byte_by_byte(connection):
    send(connection, head("content-length: 60000") + CHAT[:20])
    drip(connection, b" ")


def a_chunked_body_that_stops(connection):
    send(connection, head("transfer-encoding: chunked") + b"5\r\n{\"mod")


def a_preface_that_stops(connection):
    send(connection, b"PRI * HTTP/2.0\r\n\r\nSM")


def an_http2_head_that_stops(connection):
    peer = Http2(connection)
    peer.raw(frame.HeadersFrame(1, peer.encoded(HTTP2_HEAD)))


def an_http2_body_that_stops(connection):
    peer = Http2(connection)
    peer.link.send_headers(1, [*HTTP2_HEAD, ("content-length", "1000")])
    peer.link.send_data(1, CHAT[:20])
    peer.flush()


def an_http2_window_that_stays_shut(connection):
    """Asks, answers pings, and never takes a byte of what it asked for."""
    peer = Http2(connection)
    peer.link.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    for stream in range(1, 181, 2):
        peer.link.send_headers(stream, HTTP2_HEAD)
        peer.link.send_data(stream, CHAT, end_stream=True)
    peer.flush()
    connection.settimeout(HTTP2_SHUT_CUT_S)
    while data := connection.recv(65536):
        peer.link.receive_data(data)
        peer.flush()


# Seconds until each is cut, at most.
SLOW = {
    **dict.fromkeys([nothing, a_request_line_that_stops, headers_byte_by_byte, a_second_head_that_stops,
                     a_body_that_stops, a_body_byte_by_byte, a_chunked_body_that_stops], CUT_S),
    **dict.fromkeys([a_preface_that_stops, an_http2_head_that_stops, an_http2_body_that_stops], HTTP2_CUT_S),
    an_http2_window_that_stays_shut: HTTP2_SHUT_CUT_S,
}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP2_HEAD = [
    (":method", "POST"), (":scheme", "http"), (":authority", "localhost"), (":path", "/v1/chat/completions"),
    ("content-type", "application/json"),
]


def run_slow(client):
    try:
        with connect() as connection:
            started = time.monotonic()
            client(connection)
            text, closed = rest_of(connection, SLOW[client] + 3)
            SLOW_TOOK[client] = (time.monotonic() - started, closed, text)
    except Exception as error:
        SLOW_TOOK[client] = error


# Too much.


@hostile
def sixty_four_headers_pass_and_one_more_is_431():
    lines = [f"x-{number}: 1" for number in range(1100)]
    for count, wanted in [(64 - 3, 200), (64 - 2, 431), (100, 431), (1100, 431)]:
        request = head("connection: close", *lines[: count - 1], f"content-length: {len(CHAT)}")
        status, text, _ = told(request[:-2] + b"\r\n" + CHAT)
        assert status == wanted, (count, status, text[:300])


@hostile
def a_header_of_a_megabyte_is_431_or_the_end():
    status, text, closed = told(head("x-long: " + "x" * (1 << 20), f"content-length: {len(CHAT)}") + CHAT)
    assert status in (431, 0) and closed, (status, text[:300], closed)


@hostile
def a_path_of_a_megabyte_is_an_error_or_the_end():
    status, text, closed = told(head(start="GET /" + "x" * (1 << 20) + " HTTP/1.1"))
    assert status in (414, 431, 0) and closed, (status, text[:300], closed)


@hostile
def a_body_over_the_limit_is_413_however_it_is_framed():
    mock.reset()
    big = CHAT[:-1] + b',"padding":"' + b"x" * BODY_BYTES_MAX + b'"}'
    for request in [
        head(f"content-length: {len(big)}") + big,
        head(f"content-length: {1 << 62}") + big[:1000],
        head("transfer-encoding: chunked") + b"%x\r\n" % len(big) + big + b"\r\n0\r\n\r\n",
    ]:
        status, text, _ = told(request, 3)
        assert status == 413, (status, text[:300])
    status, text, _ = told(head(f"content-length: {len(big)}", "expect: 100-continue"), 3)
    assert status == 413 and b"100 Continue" not in text, text[:300]
    assert not mock.requests()


@hostile_each(["[", '{"a":', '[{"a":['])
def a_depth_bomb_is_a_400(opening):
    for path in ["/v1/chat/completions", "/v1/ask"]:
        body = (b'{"model":"mock-small","x":' + opening.encode() * 60_000)[:BODY_BYTES_MAX]
        started = time.monotonic()
        status, text = kit.fetch(proxy.url + path, "POST", body, {"content-type": "application/json"})
        assert status == 400 and time.monotonic() - started < 2, (status, text)


# Not what it should be.


UNSOUND = {
    "invalid UTF-8": b'{"model":"mock-small","messages":[{"role":"user","content":"\xff\xfe"}]}',
    "invalid UTF-8 in a key": b'{"model":"mock-small","\xc3\x28":1}',
    "overlong UTF-8": b'{"model":"mock-small","x":"\xc0\xaf"}',
    "half a surrogate pair": b'{"model":"mock-small","x":"\\ud800"}',
    "model twice": b'{"model":"mock-small","model":"smuggled","messages":[]}',
    "model twice, once escaped": b'{"model":"mock-small","m\\u006fdel":"smuggled","messages":[]}',
    "stream twice": b'{"model":"mock-small","stream":false,"stream":true,"messages":[]}',
    "an unfinished object": CHAT[:-1],
    "something behind": CHAT + b"{}",
    "an array": b"[" + CHAT + b"]",
    "nothing": b"",
    "a control character in a string": b'{"model":"mock-small","x":"\n\x00"}',
    "a number with two points": b'{"model":"mock-small","x":1.2.3}',
    "a comment": b'{"model":"mock-small"/**/}',
    "a byte order mark inside": b'{"model":\xef\xbb\xbf"mock-small"}',
}


@hostile_each(UNSOUND)
def a_body_that_is_no_sound_json_is_a_400_and_never_goes_upstream(case):
    mock.reset()
    body = UNSOUND[case]
    status, text, _ = told(head("connection: close", f"content-length: {len(body)}") + body)
    assert status == 400, (status, text[:400])
    assert not mock.requests()


@hostile
def a_body_cut_short_never_goes_upstream():
    mock.reset()
    for request in [
        head(f"content-length: {len(CHAT) + 1}") + CHAT,
        head("transfer-encoding: chunked") + b"%x\r\n" % len(CHAT) + CHAT,
        head("transfer-encoding: chunked") + b"%x\r\n" % len(CHAT) + CHAT + b"\r\n0\r\n",
    ]:
        status, text, closed = told(request, half_close=True)
        assert closed and status in (0, 400, 499), (status, text[:300], closed)
    assert not mock.requests()


# Two readings of one request.

SMUGGLED = head("content-length: 34") + b'{"model":"smuggled","messages":[]}'
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHAT), CHAT)
LENGTH = f"content-length: {len(CHAT)}"
BOTH = len(CHAT) + len(SMUGGLED)

REFUSED = {
    "two lengths": head(LENGTH, f"content-length: {BOTH}") + CHAT,
    "two lengths in one": head(f"content-length: {len(CHAT)}, {BOTH}") + CHAT,
    "a length with a sign": head(f"content-length: +{len(CHAT)}") + CHAT,
    "a negative length": head("content-length: -1") + CHAT,
    "a length in hexadecimal": head(f"content-length: {len(CHAT):#x}") + CHAT,
    "a length with a letter": head(f"content-length: {len(CHAT)}a") + CHAT,
    "a length with a space": head("content-length: 6 6") + CHAT,
    "a length past 64 bits": head(f"content-length: {2**64 + len(CHAT)}") + CHAT,
    "an empty length": head("content-length: ") + CHAT,
    "a name with a space": head("transfer-encoding : chunked", LENGTH) + CHUNKED,
    "a length's name with a space": head("content-length : 0") + CHAT,
    "two encodings, one unknown": head("transfer-encoding: chunked", "transfer-encoding: x") + CHUNKED,
    "chunked, then identity": head("transfer-encoding: chunked, identity") + CHUNKED,
    "xchunked": head("transfer-encoding: xchunked") + CHUNKED,
    "chunked behind a vertical tab": head("transfer-encoding: \x0bchunked") + CHUNKED,
    "chunked in quotes": head('transfer-encoding: "chunked"') + CHUNKED,
    "a folded line": head("transfer-encoding:\r\n chunked", LENGTH) + CHUNKED,
    "a folded value": head("x-a: b\r\n c", LENGTH) + CHAT,
    "a folded first line": head(LENGTH, start=START + "\r\n x: y") + CHAT,
    "a chunk size with a letter": head("transfer-encoding: chunked") + b"z" + CHUNKED,
    "a chunk size with a sign": head("transfer-encoding: chunked") + b"+" + CHUNKED,
    "a negative chunk size": head("transfer-encoding: chunked") + b"-" + CHUNKED,
    "a chunk size with 0x": head("transfer-encoding: chunked") + b"0x" + CHUNKED,
    "a chunk size past 64 bits": head("transfer-encoding: chunked") + b"10000000000000000" + CHUNKED,
    "an empty chunk size": head("transfer-encoding: chunked") + b"\r\n" + CHUNKED,
    "a chunk longer than it says": head("transfer-encoding: chunked") + b"1\r\n" + CHAT + b"\r\n0\r\n\r\n",
    "a chunk without its line end": head("transfer-encoding: chunked") + CHUNKED.replace(b"}\r\n", b"}"),
    "a bare CR in a value": head("x-a: b\rtransfer-encoding: chunked", LENGTH) + CHAT,
    "a NUL in a value": head("x-a: b\0c", LENGTH) + CHAT,
    "a name with a line feed": head("x\na: b", LENGTH) + CHAT,
    "HTTP/1.0 and chunked": head("transfer-encoding: chunked", start=START.replace("1.1", "1.0")) + CHUNKED,
    "HTTP/1.2": head(LENGTH, start=START.replace("1.1", "1.2")) + CHAT,
    "two hosts": head(LENGTH, "host: other") + CHAT,
    "no host": b"POST /v1/chat/completions HTTP/1.1\r\n%s\r\n\r\n" % LENGTH.encode() + CHAT,
}


@hostile_each(REFUSED)
def a_request_with_two_readings_is_refused(case):
    mock.reset()
    status, text, closed = told(REFUSED[case] + SMUGGLED, 3)
    # 501 and 505 are as good: not implemented, and no such version.
    assert status in (0, 400, 501, 505), (status, text[:400])
    assert closed, f"the connection goes on: {text[:400]!r}"
    assert len(text.split(b"HTTP/1.1 ")) <= 2, f"more than one answer: {text!r}"
    assert not mock.requests(), mock.requests()


# RFC 9112 section 6.3 lets a server refuse a request with both framings, or obey chunked alone and close.
PASSING = {
    "length and chunked": head(LENGTH, "transfer-encoding: chunked") + CHUNKED,
    "chunked and length": head("transfer-encoding: chunked", "content-length: 4") + CHUNKED,
    "length 0 and chunked": head("content-length: 0", "transfer-encoding: chunked") + CHUNKED,
    "the same length twice": head(LENGTH, LENGTH, "connection: close") + CHAT,
    "chunked twice": head("transfer-encoding: chunked, chunked", "connection: close") + CHUNKED,
    "bare line feeds": head(LENGTH, "connection: close").replace(b"\r\n", b"\n") + CHAT,
    "bare line feeds between chunks": head("transfer-encoding: chunked", "connection: close")
    + CHUNKED.replace(b"\r\n", b"\n"),
    "a chunk extension with a line feed": head("transfer-encoding: chunked", "connection: close")
    + CHUNKED.replace(b"\r\n", b";a=\n\r\n", 1),
    "an absolute target of another host": head(LENGTH, "connection: close",
                                               start=f"POST {mock.url}/v1/chat/completions HTTP/1.1") + CHAT,
    "a trailer of ours": head("transfer-encoding: chunked", "connection: close")
    + CHUNKED[:-2] + b"authorization: Bearer x\r\ncontent-length: 5\r\n\r\n",
}


@hostile_each(PASSING)
def a_request_that_may_pass_passes_once_and_nothing_behind_it(case):
    mock.reset()
    status, text, closed = told(PASSING[case] + SMUGGLED, 3)
    assert status in (0, 200, 400) and closed, (status, text[:400], closed)
    arrived = mock.requests()
    assert len(arrived) == (status == 200), arrived
    for request in arrived:
        names = [name.lower() for name, _ in request["headers"]]
        assert request["body"].encode() == CHAT and "smuggled" not in json.dumps(request), request
        assert names.count("content-length") + names.count("transfer-encoding") == 1, request


# HTTP/2 by hand.


class Http2:
    """The client's end of one connection, that checks nothing of what it sends."""

    def __init__(self, connection):
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8"
        )
        self.connection, self.link = connection, h2.connection.H2Connection(config)
        self.link.initiate_connection()
        self.flush()

    def flush(self):
        return send(self.connection, self.link.data_to_send())

    def encoded(self, headers):
        return self.link.encoder.encode(headers)

    def raw(self, *frames):
        return send(self.connection, b"".join(each.serialize() for each in frames))

    def ask(self, headers, body=None, stream=1):
        self.link.send_headers(stream, headers, end_stream=body is None)
        if body is not None:
            self.link.send_data(stream, body, end_stream=True)
        self.flush()
        return self.outcome(stream)

    def outcome(self, stream=1):
        """The status of a stream's answer; 0 where it was reset or the connection ended."""
        self.connection.settimeout(ANSWER_S)
        while True:
            try:
                data = self.connection.recv(65536)
            except TimeoutError:
                raise AssertionError("no answer and no end") from None
            except OSError:
                return 0
            if not data:
                return 0
            for event in self.link.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                    return int(dict(event.headers)[":status"])
                if isinstance(event, h2.events.StreamReset) and event.stream_id == stream:
                    return 0
                if isinstance(event, h2.events.ConnectionTerminated):
                    return 0
            self.flush()


def flood(frames, at_most):
    """Sends `frames(n)` for n from 0 until the other end closes; gives how many it took."""
    sent = 0
    with connect() as connection:
        peer = Http2(connection)
        while sent < at_most:
            many = [each.serialize() for number in range(sent, sent + 50) for each in frames(peer, number)]
            if not send(connection, b"".join(many)):
                return sent
            sent += 50
        _, closed = rest_of(connection, 5)
    assert closed, f"{at_most} were taken and the connection lives"
    return sent


def opened(peer, stream):
    made = frame.HeadersFrame(stream, peer.encoded([*HTTP2_HEAD]))
    made.flags.add("END_HEADERS")
    return made


def resets(peer, number):
    return [opened(peer, 2 * number + 1), frame.RstStreamFrame(2 * number + 1, 8)]


def pings(peer, number):
    return [frame.PingFrame(0, number.to_bytes(8, "big"))]


def settings(peer, number):
    return [frame.SettingsFrame(0, {frame.SettingsFrame.HEADER_TABLE_SIZE: number % 2 * 4096})]


def empty_data(peer, number):
    return [*([opened(peer, 1)] if number == 0 else []), frame.DataFrame(1)]


def priorities(peer, number):
    return [frame.PriorityFrame(2 * number + 1, 0, 16)]


def continuations(peer, number):
    first = [frame.HeadersFrame(1, peer.encoded(HTTP2_HEAD))] if number == 0 else []
    return [*first, frame.ContinuationFrame(1, peer.encoded([(f"x-{number}", "y" * 100)]))]


FLOODS = {flood.__name__: flood for flood in [pings, settings, resets, empty_data, priorities, continuations]}


@hostile_each(FLOODS)
def a_flood_is_cut(kind):
    mock.reset()
    started = time.monotonic()
    taken = flood(FLOODS[kind], 50_000)
    took = time.monotonic() - started
    assert took < 8, f"cut after {taken} and {took:.1f} s"
    assert len(mock.requests()) == 0


@hostile
def a_flood_is_counted():
    before = proxy.metric("atp_connections_cut_flood_total")
    flood(FLOODS["pings"], 10_000)
    kit.until("it is counted", lambda: proxy.metric("atp_connections_cut_flood_total") > before)


@hostile
def a_plain_request_over_http2_works():
    with connect() as connection:
        assert Http2(connection).ask(HTTP2_HEAD, CHAT) == 200


BAD_HTTP2 = {
    "65 headers": [*HTTP2_HEAD, *[(f"x-{number}", "1") for number in range(65)]],
    "a connection header": [*HTTP2_HEAD, ("connection", "close")],
    "transfer-encoding": [*HTTP2_HEAD, ("transfer-encoding", "chunked")],
    "a length too short": [*HTTP2_HEAD, ("content-length", "5")],
    "a length too long": [*HTTP2_HEAD, ("content-length", "500")],
    "a value with a line end": [*HTTP2_HEAD, ("x-a", "b\r\ntransfer-encoding: chunked")],
    "a name with a colon": [*HTTP2_HEAD, ("x:a", "b")],
    "a name in upper case": [*HTTP2_HEAD, ("X-A", "b")],
    "a path with a line end": [*HTTP2_HEAD[:3], (":path", "/v1/models HTTP/1.1\r\nx: y"), *HTTP2_HEAD[4:]],
    "a method with a space": [(":method", "POST /v1/x"), *HTTP2_HEAD[1:]],
    "two paths": [*HTTP2_HEAD[:4], (":path", "/v1/models"), *HTTP2_HEAD[4:]],
    "a pseudo-header behind": [*HTTP2_HEAD[:3], HTTP2_HEAD[4], HTTP2_HEAD[3]],
    "an unknown pseudo-header": [(":odd", "1"), *HTTP2_HEAD],
    "100 kB of headers": [*HTTP2_HEAD, *[(f"x-{number}", "y" * 10_000) for number in range(10)]],
}


@hostile_each(BAD_HTTP2)
def a_bad_http2_request_is_refused(case):
    mock.reset()
    with connect() as connection:
        status = Http2(connection).ask(BAD_HTTP2[case], CHAT)
    assert status == 0 or 400 <= status < 500, status
    if case == "65 headers":
        assert status == 431
    assert not mock.requests(), mock.requests()


@kit.each([client.__name__ for client in SLOW])
def a_slow_client_is_cut_in_time(name):
    client = next(client for client in SLOW if client.__name__ == name)
    SLOW_ONES[name].join(kit.CHECK_S)
    outcome = SLOW_TOOK.get(client)
    assert isinstance(outcome, tuple), outcome
    seconds, closed, text = outcome
    assert closed and seconds <= SLOW[client], f"after {seconds:.1f} s, closed: {closed}, told {text[:300]!r}"


@kit.check
def slow_clients_are_counted():
    assert proxy.metric("atp_connections_cut_slow_total") >= 8


@kit.check
def nothing_is_left_over():
    kit.until("no connection but that of the scrape", lambda: proxy.metric("atp_connections_open") <= 1)
    assert proxy.metric("atp_upstream_in_flight") == 0


# They begin before all others and are asked about at the end: what is between shows they hold nobody up.
SLOW_TOOK = {}
SLOW_ONES = {c.__name__: threading.Thread(target=run_slow, args=[c], daemon=True) for c in SLOW}
[thread.start() for thread in SLOW_ONES.values()]

kit.main(proxy, mock)
