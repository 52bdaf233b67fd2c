#!/usr/bin/env python3
"""WebSocket on a stream of HTTP/2 (RFC 8441), by libraries that know one and the other: on both listeners.

    pip install -r requirements.txt
    ws_h2.py
"""

import contextlib
import socket
import ssl
import time

import frames
import h2.config
import h2.connection
import h2.events
import h2.settings
import kit
import quic_kit
from hyperframe.frame import GoAwayFrame
from talk import ANSWER_S, Connection, Session, text_of, words
from websockets.frames import Opcode
from websockets.protocol import CLIENT, Protocol

SHORT, LONG, SLOW = "mock--tokens-5", "mock--tokens-300--token-rate-150", "mock--tokens-1000--token-rate-20"
MIB = 1 << 20
FLOOD = "mock--tokens-50000--answer-bytes-10000000"

authority = quic_kit.Authority(kit.folder())
cert, key = authority.server()
mock = kit.Mock()
resources = list(kit.alone(mock.url, [SHORT, LONG, SLOW, FLOOD]))
proxy = kit.Proxy(resources, tls={"listen": "127.0.0.1:0", "cert": cert, "key": key})
SECURE = int(proxy.told(r"https://\S+:(\d+)"))


class Shared:
    """An HTTP/2 connection; each of its streams reads for all."""

    def __init__(self, secured=False):
        self.socket = socket.create_connection(("127.0.0.1", SECURE if secured else proxy.port), ANSWER_S)
        if secured:
            made = ssl.create_default_context(cafile=authority.file)
            made.set_alpn_protocols(["h2"])
            self.socket = made.wrap_socket(self.socket, server_hostname="localhost")
            assert self.socket.selected_alpn_protocol() == "h2"
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.state.initiate_connection()
        # The library takes the word that no new request is wanted for the end of those under way.
        self.state._frame_dispatch_table[GoAwayFrame] = lambda _: ([], [])
        self.scheme = "https" if secured else "http"
        self.streams, self.may_connect = {}, None
        self.flush()
        while self.may_connect is None:
            self.read(ANSWER_S)

    def flush(self):
        self.socket.sendall(self.state.data_to_send())

    def read(self, timeout):
        self.socket.settimeout(timeout)
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError("the end")
        for event in self.state.receive_data(data):
            if isinstance(event, h2.events.RemoteSettingsChanged):
                code = h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL
                changed = event.changed_settings.get(code)
                self.may_connect = bool(changed and changed.new_value)
            stream = self.streams.get(getattr(event, "stream_id", None))
            if stream is not None:
                stream.on_event(event)
        self.flush()

    def request(self, *head):
        """Headers of a new request; its stream."""
        number = self.state.get_next_available_stream_id()
        self.state.send_headers(number, list(head))
        return number


class Plain:
    """An ordinary request beside them."""

    def __init__(self, shared, path="/v1/models", method="GET", more=()):
        self.status, self.body, self.ended = None, b"", None
        head = [(":method", method), (":scheme", shared.scheme), (":authority", "localhost"), (":path", path)]
        number = shared.request(*head, *more)
        shared.streams[number] = self
        shared.state.end_stream(number)
        shared.flush()
        while not self.ended:
            shared.read(ANSWER_S)

    def on_event(self, event):
        if isinstance(event, h2.events.ResponseReceived):
            self.status = int(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.DataReceived):
            self.body += event.data
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            self.ended = type(event).__name__


class Stream:
    """A WebSocket on a stream of it."""

    def __init__(
        self, of, encoding=None, path="/ws", headers=None, shared=None, protocol="websocket", version="13",
    ):
        self.encoding = encoding or "json"
        self.shared = shared or Shared()
        self.head, self.ended, self.messages = None, None, []
        # The library speaks RFC 6455 on whatever carries it.
        self.words = Protocol(CLIENT, max_size=None)
        more = {"sec-websocket-version": version, **(headers or {})}
        if encoding:
            more["sec-websocket-protocol"] = f"atp.{encoding}.v1"
        self.number = self.shared.request(
            (":method", "CONNECT"), (":protocol", protocol), (":scheme", self.shared.scheme),
            (":authority", "localhost"), (":path", path), *more.items(),
        )
        self.shared.streams[self.number] = self
        self.shared.flush()
        while self.head is None:
            self.shared.read(ANSWER_S)
        self.status = int(self.head[":status"])

    def on_event(self, event):
        if isinstance(event, h2.events.ResponseReceived):
            self.head = dict(event.headers)
        elif isinstance(event, h2.events.DataReceived):
            size = event.flow_controlled_length
            if self.takes:
                self.shared.state.acknowledge_received_data(size, self.number)
            elif size:
                # Read off the connection, whose room is everybody's, and not off the stream.
                self.shared.state.increment_flow_control_window(size)
            if self.head[":status"] != "200":
                return
            self.words.receive_data(event.data)
            self.messages += [each for each in self.words.events_received() if is_frame(each)]
            self.flush_words()
        elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
            self.ended = self.ended or type(event).__name__

    # Whether what comes makes room for more.
    takes = True

    def flush_words(self):
        for data in self.words.data_to_send():
            while data:
                room = min(
                    self.shared.state.local_flow_control_window(self.number),
                    self.shared.state.max_outbound_frame_size,
                )
                assert room > 0, "checks send less than a window"
                self.shared.state.send_data(self.number, data[:room])
                data = data[room:]
        self.shared.flush()

    def put(self, data):
        """Bytes as they are, as far as the other end wants them."""
        while data and not self.is_over():
            window = self.shared.state.local_flow_control_window(self.number)
            room = min(window, self.shared.state.max_outbound_frame_size)
            if room <= 0:
                self.shared.read(ANSWER_S)
                continue
            self.shared.state.send_data(self.number, data[:room])
            data = data[room:]
            self.shared.flush()

    def is_over(self):
        with contextlib.suppress(TimeoutError, BlockingIOError):
            self.shared.read(0.01)
        return self.ended or any(message.opcode == Opcode.CLOSE for message in self.messages)

    def send(self, message):
        if isinstance(message, str):
            self.words.send_text(message.encode())
        else:
            self.words.send_binary(message)
        self.flush_words()

    def say(self, frame):
        self.send(frames.encoded(self.encoding, frame))

    def message(self, timeout=ANSWER_S):
        """The next frame of the WebSocket, whichever it is."""
        ends = time.monotonic() + timeout
        while not self.messages:
            if self.ended:
                raise ConnectionError(self.ended)
            if time.monotonic() > ends:
                raise TimeoutError
            self.shared.read(max(0.01, ends - time.monotonic()))
        return self.messages.pop(0)

    def next(self, timeout=ANSWER_S):
        message = self.message(timeout)
        assert message.opcode == (Opcode.TEXT if self.encoding == "json" else Opcode.BINARY), message
        assert message.fin, message
        data = message.data.decode() if self.encoding == "json" else message.data
        return frames.decoded(self.encoding, data)

    until = Connection.until

    def closed(self):
        """The close code the other end sends."""
        while True:
            message = self.message()
            if message.opcode == Opcode.CLOSE:
                return int.from_bytes(message.data[:2], "big")

    def close(self):
        self.shared.socket.close()

    cut = close


def is_frame(event):
    return hasattr(event, "opcode")


def session(encoding="json", **more):
    return Session(proxy, encoding, carriage=Stream, **more)


@kit.each([False, True])
def both_listeners_say_that_they_take_it(secured):
    assert Shared(secured).may_connect, "SETTINGS_ENABLE_CONNECT_PROTOCOL"


@kit.each([(secured, encoding) for secured in (False, True) for encoding in frames.ENCODINGS])
def a_session_is_granted_and_answered(case):
    secured, encoding = case
    stream = Stream(proxy, encoding, shared=Shared(secured))
    assert stream.status == 200, stream.head
    assert stream.head["sec-websocket-protocol"] == f"atp.{encoding}.v1", stream.head
    assert "sec-websocket-accept" not in stream.head, stream.head
    with session(encoding, connection=stream) as open_one:
        for number in range(4):
            assert open_one.whole(open_one.ask(f"{number}", SHORT)) == words(5)


@kit.check
def many_share_a_connection_with_each_other_and_with_plain_requests():
    shared = Shared()
    streams = [Stream(proxy, "json", shared=shared) for _ in range(10)]
    sessions = [session("json", connection=stream) for stream in streams]
    for at, each in enumerate(sessions):
        each.ask("1", SHORT)
        if at % 3 == 0:
            assert Plain(shared).status == 200
    for each in reversed(sessions):
        assert each.whole("1") == words(5)
    assert Plain(shared).status == 200


@kit.check
def one_that_is_not_read_slows_no_other_of_its_connection():
    mock.reset()
    shared = Shared()
    unread = Stream(proxy, "json", shared=shared)
    unread.takes = False
    session("json", connection=unread).ask("1", FLOOD)
    with session("json", connection=Stream(proxy, "json", shared=shared)) as other:
        for number in range(20):
            assert other.whole(other.ask(f"{number}", SHORT)) == words(5)
    assert mock.stats(FLOOD).get("completed", 0) == 0


@kit.check
def a_session_cut_in_an_answer_goes_on_where_it_was():
    mock.reset()
    cut = session("bin", resume=True)
    stream = cut.ask("1", LONG)
    heard = [cut.hear(stream) for _ in range(40)]
    cut.connection.cut()
    again = cut.again([[stream, heard[-1]["msg_seq"]]])
    assert again.granted["payload"]["content"]["resumed"], again.granted
    heard += again.answer(stream)
    assert [f["msg_seq"] for f in heard] == list(range(1, len(heard) + 1)), "each once, none missing"
    assert text_of(heard) == words(300)
    assert mock.stats(LONG)["requests"] == 1


@kit.check
def a_stream_that_is_reset_cancels_its_work_and_no_other():
    mock.reset()
    shared = Shared()
    gone, stays = Stream(proxy, "json", shared=shared), Stream(proxy, "json", shared=shared)
    first, second = session("json", connection=gone), session("json", connection=stays)
    first.ask("1", SLOW)
    first.hear("1")
    shared.state.reset_stream(gone.number, 8)
    shared.flush()
    kit.until("upstream is cancelled", lambda: mock.stats(SLOW)["cancelled"] == 1)
    assert second.whole(second.ask("1", SHORT)) == words(5)


@kit.check
def a_close_is_answered_and_the_stream_ends_while_the_connection_stays():
    stream = Stream(proxy, "json", shared=Shared())
    stream.words.send_close(1000)
    stream.flush_words()
    assert stream.closed() == 1000
    while not stream.ended:
        stream.shared.read(ANSWER_S)
    assert Plain(stream.shared).status == 200


@kit.check
def what_is_begun_on_all_streams_of_a_connection_has_a_bound_and_its_other_requests_go_on():
    shared, before = Shared(), proxy.metric("atp_frames_without_room_total")
    streams = [Stream(proxy, "json", shared=shared) for _ in range(10)]
    for stream in streams:
        # A frame of a mebibyte, and all of it but its last byte.
        stream.put(b"\x81\xff" + MIB.to_bytes(8, "big") + bytes(4) + b" " * (MIB - 1))
    assert proxy.metric("atp_buffered_bytes") >= 7 * MIB, "what has come is accounted for"
    assert [bool(stream.is_over()) for stream in streams[:7]] == [False] * 7, "below the bound nobody is"
    turned_away = kit.until("the rest to be turned away", lambda: [s for s in streams if s.is_over()][2:])
    assert len(turned_away) == 1, turned_away
    assert streams[9].closed() == 1013
    assert proxy.metric("atp_frames_without_room_total") == before + 3
    assert Plain(shared).status == 200
    shared.socket.close()
    kit.until("what was begun to be free", lambda: proxy.metric("atp_buffered_bytes") < MIB)


@kit.check
def what_is_no_utf8_is_closed_with_its_code():
    stream = Stream(proxy, "json", shared=Shared())
    stream.words.send_text(b"\xff\xfe")
    stream.flush_words()
    assert stream.closed() == 1007


REFUSED = {
    "another path": ({"path": "/v1/models"}, 404),
    "another protocol": ({"protocol": "connect-udp"}, 400),
    "another version": ({"version": "8"}, 400),
    "another origin's page": ({"headers": {"origin": "https://evil.example"}}, 403),
}


@kit.each(REFUSED)
def what_it_is_not_is_an_answer_and_the_connection_stays(case):
    more, status = REFUSED[case]
    stream = Stream(proxy, "json", shared=Shared(), **more)
    assert stream.status == status, stream.head
    assert Plain(stream.shared).status == 200


@kit.check
def an_answer_to_connect_without_a_protocol_is_no_tunnel():
    shared = Shared()
    number = shared.request((":method", "CONNECT"), (":authority", "localhost:22"))
    seen = []
    shared.streams[number] = type("Seen", (), {"on_event": lambda _, event: seen.append(event)})()
    shared.flush()
    while not any(isinstance(event, h2.events.ResponseReceived) for event in seen):
        shared.read(ANSWER_S)
    head = next(dict(e.headers) for e in seen if isinstance(e, h2.events.ResponseReceived))
    assert head[":status"].startswith("4"), head


if __name__ == "__main__":
    kit.main(proxy, mock)
