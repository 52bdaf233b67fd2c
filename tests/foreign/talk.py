"""A session of ATP over WebSocket, as a program would write it that has docs/protocol.md and a library."""

import itertools
import socket
import time

import frames
import h2.config
import h2.connection
import h2.events
from hyperframe.frame import GoAwayFrame
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

# Of one frame.
ANSWER_S = 20
NAMES = itertools.count(1)


def chat(model, prompt="hi"):
    return {"model": model, "stream": True, "messages": [{"role": "user", "content": prompt}]}


def words(count):
    """What the mock answers."""
    return " ".join(f"tok{at}" for at in range(1, count + 1))


def text_of(heard):
    """The text of an answer's pieces."""
    pieces = (frame["payload"]["content"] for frame in heard)
    choices = [choice for piece in pieces for choice in (piece or {}).get("choices") or []]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


class Connection:
    """A WebSocket whose messages are frames in one encoding."""

    def __init__(self, proxy, encoding=None, path="/ws", headers=None):
        self.encoding = encoding or "json"
        protocols = [f"atp.{encoding}.v1"] if encoding else None
        self.socket = connect(
            f"ws://127.0.0.1:{proxy.port}{path}", subprotocols=protocols, additional_headers=headers or {},
            compression=None, max_size=None, ping_interval=None, proxy=None, max_queue=None,
        )
        assert self.socket.subprotocol == (protocols[0] if protocols else None), self.socket.subprotocol

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, message):
        self.socket.send(message)

    def say(self, frame):
        self.send(frames.encoded(self.encoding, frame))

    def next(self, timeout=ANSWER_S):
        return frames.decoded(self.encoding, self.socket.recv(timeout))

    def until(self, wanted, timeout=ANSWER_S):
        ends = time.monotonic() + timeout
        while True:
            said = self.next(max(0.01, ends - time.monotonic()))
            if wanted(said):
                return said

    def closed(self, timeout=ANSWER_S):
        """The close code, once the other end has closed."""
        ends = time.monotonic() + timeout
        try:
            while True:
                self.socket.recv(max(0.01, ends - time.monotonic()))
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

    def close(self):
        self.socket.close()

    def cut(self):
        """As a cable does: no word of it."""
        self.socket.socket.shutdown(socket.SHUT_RDWR)
        self.socket.socket.close()


class Http2:
    """A connection with one request, whose two bodies are frames behind their lengths."""

    def __init__(self, proxy, encoding="json", headers=None):
        self.encoding = encoding
        self.socket = socket.create_connection(("127.0.0.1", proxy.port), ANSWER_S)
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.state.initiate_connection()
        # The library takes the word that no new request is wanted for the end of those under way.
        self.state._frame_dispatch_table[GoAwayFrame] = lambda _: ([], [])
        head = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost"),
                (":path", "/atp/v1/session"), ("content-type", f"application/atp+{encoding}")]
        self.state.send_headers(1, [*head, *(headers or {}).items()])
        self.held, self.status, self.ended = b"", None, None
        self._flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _flush(self):
        self.socket.sendall(self.state.data_to_send())

    def _read(self, timeout):
        self.socket.settimeout(timeout)
        data = self.socket.recv(65_536)
        if not data:
            raise ConnectionError("the end")
        for event in self.state.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived):
                self.status = int(dict(event.headers)[":status"])
            elif isinstance(event, h2.events.DataReceived):
                self.held += event.data
                self.state.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                # A reset behind the end says only that no more of the request is wanted.
                self.ended = self.ended or type(event).__name__
        self._flush()

    def send(self, message):
        raw = message.encode() if isinstance(message, str) else message
        raw = len(raw).to_bytes(4, "big") + raw
        while raw:
            room = min(self.state.local_flow_control_window(1), self.state.max_outbound_frame_size)
            if room == 0:
                self._read(ANSWER_S)
                continue
            self.state.send_data(1, raw[:room])
            raw = raw[room:]
            self._flush()

    def say(self, frame):
        self.send(frames.encoded(self.encoding, frame))

    def next(self, timeout=ANSWER_S):
        ends = time.monotonic() + timeout
        while len(self.held) < 4 or len(self.held) < 4 + int.from_bytes(self.held[:4], "big"):
            if self.ended:
                raise ConnectionError(self.ended)
            if time.monotonic() > ends:
                raise TimeoutError
            self._read(max(0.01, ends - time.monotonic()))
        length = int.from_bytes(self.held[:4], "big")
        message, self.held = self.held[4:4 + length], self.held[4 + length:]
        return frames.decoded(self.encoding, message)

    until = Connection.until

    def end(self):
        """Says that nothing more comes."""
        self.state.end_stream(1)
        self._flush()

    def rest(self):
        """How the answer ended."""
        while not self.ended:
            self._read(ANSWER_S)
        return self.ended

    def close(self):
        self.socket.close()

    cut = close


class Session:
    """The dialer's end; keeps what it hears by stream, so that streams can be asked for in any order."""

    def __init__(
        self, proxy, encoding=None, name=None, resume=False, window=None, headers=None, path="/ws",
        connection=None, opening=None, meta=None, carriage=Connection,
    ):
        self.proxy, self.encoding, self.headers = proxy, encoding, headers
        self.name = name or f"run-{next(NAMES)}"
        self.carriage = carriage
        connect_to = {"path": path} if carriage is Connection else {}
        self.connection = connection or carriage(proxy, encoding, headers=headers, **connect_to)
        # What was heard of each stream; how much of it was given out.
        self.heard, self.given, self.controls = {}, {}, []
        opening = {"encodings": [encoding or "json"], "resume": resume, **(opening or {})}
        more = {"window": window or frames.WINDOW, "meta": meta or {}}
        self.connection.say(frames.frame(self.name, "", 0, ["SYN"], "SYN", opening, **more))
        self.granted = self.connection.until(lambda f: f["session_id"] == self.name)
        self.token = (self.granted["payload"]["content"] or {}).get("resume_token")
        if self.token:
            self.say("", 0, ["ACK"], "ACK")
        # Connections that are shared give each session what is its own.
        shared = getattr(self.connection, "sessions", None)
        if shared is None:
            shared = self.connection.sessions = {}
        shared[self.name] = self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def again(self, received, headers=None, name=None, token=None):
        """A new connection with the token."""
        opening = {"resume_token": token or self.token, "received": received}
        return Session(
            self.proxy, self.encoding, name or self.name, True, headers=headers or self.headers,
            opening=opening, carriage=self.carriage,
        )

    def say(self, stream, seq, flags, kind, content=None, **more):
        self.connection.say(frames.frame(self.name, stream, seq, flags, kind, content, **more))

    def ask(self, stream, model, flags=("FIN",)):
        self.say(stream, 1, flags, "completion", chat(model))
        return stream

    def _read(self, timeout):
        """One frame, kept where it belongs."""
        frame = self.connection.next(timeout)
        of = self.connection.sessions.get(frame.get("session_id"), self)
        flags = frame["flags"]
        if frame["stream_id"] == "" or "CTRL" in flags:
            of.controls.append(frame)
        elif "ACK" not in flags or frame["payload"]["type"] != "ACK":
            of.heard.setdefault(frame["stream_id"], []).append(frame)

    def hear(self, stream, kind=None, timeout=ANSWER_S):
        """The next message of a stream; `kind`: the next of that."""
        ends = time.monotonic() + timeout
        while True:
            at = self.given.get(stream, 0)
            for frame in self.heard.get(stream, [])[at:]:
                self.given[stream] = self.given.get(stream, 0) + 1
                if kind is None or frame["payload"]["type"] == kind:
                    return frame
            warned = [f for f in self.controls if f["stream_id"] == stream and f["payload"]["type"] == kind]
            if warned:
                self.controls.remove(warned[0])
                return warned[0]
            self._read(max(0.01, ends - time.monotonic()))

    def control(self, kind, flag=None, stream=""):
        """The next control frame of that kind."""
        ends = time.monotonic() + ANSWER_S
        while True:
            for frame in self.controls:
                is_it = frame["payload"]["type"] == kind and frame["stream_id"] == stream
                if is_it and (flag is None or flag in frame["flags"]):
                    self.controls.remove(frame)
                    return frame
            self._read(max(0.01, ends - time.monotonic()))

    def rest(self, stream):
        """All up to the final message or an error, which is the last."""
        heard = []
        while True:
            heard.append(self.hear(stream))
            seq = heard[-1]["msg_seq"]
            if heard[-1]["payload"]["type"] in ("agent.result.final", "ERROR"):
                if "RST" not in heard[-1]["flags"]:
                    self.say(stream, seq, ["ACK"], "ACK")
                return heard
            if seq % 64 == 0:
                self.say(stream, seq, ["ACK"], "ACK")

    def answer(self, stream):
        heard = self.rest(stream)
        assert heard[-1]["payload"]["type"] == "agent.result.final", heard[-1]
        return heard

    def whole(self, stream):
        return text_of(self.answer(stream))

    def drain(self, timeout):
        """Reads what comes for so long."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            try:
                self._read(max(0.01, ends - time.monotonic()))
            except TimeoutError:
                return

    def look_for_end(self, timeout):
        """How the session ended, if it did within that time."""
        ends = time.monotonic() + timeout
        try:
            while time.monotonic() < ends:
                self._read(max(0.01, ends - time.monotonic()))
                ended = [f for f in self.controls if {"FIN", "RST"} & set(f["flags"])]
                if ended:
                    reason = (ended[0]["payload"]["content"] or {}).get("reason", "")
                    return f"{ended[0]['flags'][0]} {reason}"
        except TimeoutError:
            return None
        except ConnectionClosed as closed:
            return f"closed {closed}"

    def is_over(self):
        return self.look_for_end(0.05) is not None




def panics(process):
    """What a process says when a task of it breaks an invariant."""
    lines = [line or "" for line in process.lines]
    return [lines[at:at + 2] for at, line in enumerate(lines) if "panicked at" in line]
