#!/usr/bin/env python3
"""Another stack's QUIC: who comes in and who does not, and what a stranger can make the port send or keep.

    pip install -r requirements.txt
    quic.py
"""

import asyncio
import json
import os
import pathlib
import re
import socket
import time

import kit
import quic_kit
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic import events, packet
from aioquic.quic.configuration import QuicConfiguration

# A handshake that was begun is given up by the data plane after so long, and whatever it sends again until
# then has come.
HANDSHAKE_S = 5.0
SILENCE_S = HANDSHAKE_S + 1.5
FLOOD = 3000
FLOOD_BYTES_MAX = 64 * 1024 * 1024
ACME = "spiffe://test/tenant/acme"

folder = kit.folder()
authority = quic_kit.Authority(folder)
stranger = quic_kit.Authority(folder, "stranger")
cert, key = authority.server()
mock = kit.Mock()
local = kit.adapter("local", mock.url, "mock-small")
acme = {"kind": "Tenant", "name": "acme", "spec": {"weight": 1, "keys": [{"sha256": "00" * 32}]}}
tls = {"cert": cert, "key": key, "client_ca": authority.file, "client_auth": "required"}
proxy = kit.Proxy([local, acme], tls={"listen": "127.0.0.1:0", **tls})
PORT = int(proxy.told(r"quic://\S+:(\d+)"))


def configuration(pair=None, protocol="atp/1"):
    made = QuicConfiguration(is_client=True, alpn_protocols=[protocol], server_name="localhost")
    made.load_verify_locations(authority.file)
    if pair:
        made.load_cert_chain(*pair)
    return made


class Watching(QuicConnectionProtocol):
    """Keeps what happened."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.streams = {}
        loop = asyncio.get_running_loop()
        self.data, self.spoken, self.ended = b"", loop.create_future(), loop.create_future()

    def quic_event_received(self, event):
        if isinstance(event, events.StreamDataReceived):
            self.data += event.data
            self.streams[event.stream_id] = self.streams.get(event.stream_id, b"") + event.data
            if not self.spoken.done():
                self.spoken.set_result(None)
        if isinstance(event, events.ConnectionTerminated) and not self.ended.done():
            self.ended.set_result(event)


async def come_in(pair, protocol="atp/1"):
    """What the server sent on streams, and the code it closed with (`None`: it did not)."""
    named = {"configuration": configuration(pair, protocol), "create_protocol": Watching}
    async with connect("127.0.0.1", PORT, wait_connected=False, **named) as peer:
        peer.transmit()
        either = [peer.ended, peer.spoken]
        done, _ = await asyncio.wait(either, timeout=kit.PATIENCE_S, return_when="FIRST_COMPLETED")
        assert done, "neither a word nor an end"
        return peer.data, peer.ended.result().error_code if peer.ended.done() else None


@kit.check
def a_good_certificate_comes_in():
    pair = authority.client("good", [ACME])
    data, code = asyncio.run(come_in(pair, "h3"))
    assert code is None and data, (data, code)


@kit.check
def a_session_is_opened_and_asked_something():
    granted, answered = asyncio.run(converse())
    assert granted[0]["flags"] == ["ACK", "SYN"], granted
    kinds = [frame["payload"]["type"] for frame in answered if frame["payload"]["type"] != "ACK"]
    assert set(kinds[:-1]) == {"agent.result.partial"} and kinds[-1] == "agent.result.final", kinds
    contents = [frame["payload"]["content"] or {} for frame in answered]
    told = "".join(content.get("text", "") for content in contents)
    assert "tok20" in told, told


async def converse():
    """Frames of the session and of one stream, as the server wrote them."""
    made = configuration(authority.client("good", [ACME]))
    async with connect("127.0.0.1", PORT, configuration=made, create_protocol=Watching) as peer:
        for stream, kind, flags, content in [
            ("", "SYN", ["SYN"], {"encodings": ["json"]}),
            ("1", "completion", ["FIN"], {"prompt": "say hi", "model": "mock-small"}),
        ]:
            frame = {"v": 1, "session_id": "s", "stream_id": stream, "msg_seq": 1 if stream else 0}
            frame |= {"frag_seq": 0, "flags": flags, "qos": "bronze", "ttl": 8, "meta": {}}
            frame |= {"window": {"max_parallel": 0, "max_tokens": 0, "max_usd_micros": 0}}
            frame |= {"payload": {"type": kind, "content": content}}
            text = json.dumps(frame).encode()
            number = peer._quic.get_next_available_stream_id()
            peer._quic.send_stream_data(number, b"\0" + len(text).to_bytes(4, "big") + text)
            peer.transmit()
        async with asyncio.timeout(kit.PATIENCE_S):
            while not any("FIN" in frame["flags"] for frame in frames(peer.streams.get(4, b""))):
                await asyncio.sleep(0.01)
        return frames(peer.streams[0]), frames(peer.streams[4])


def frames(data):
    found = []
    while len(data) >= 4 and len(data) - 4 >= int.from_bytes(data[:4], "big"):
        length = int.from_bytes(data[:4], "big")
        found.append(json.loads(data[4:4 + length]))
        data = data[4 + length:]
    return found


@kit.each(["none", "expired", "of another authority", "without a name", "with two names"])
def a_bad_certificate_is_refused_before_any_byte(case):
    pair = {
        "none": lambda: None,
        "expired": lambda: authority.client("expired", [ACME], days=-1),
        "of another authority": lambda: stranger.client("other", [ACME]),
        "without a name": lambda: authority.client("nameless", []),
        "with two names": lambda: authority.client("two", [ACME, "spiffe://test/operator/x"]),
    }[case]()
    for protocol in ["atp/1", "h3"]:
        data, code = asyncio.run(come_in(pair, protocol))
        # A TLS alert (RFC 9001 section 4.8).
        assert code is not None and 0x100 <= code < 0x200, (protocol, code)
        assert data == b"", (protocol, data)


@kit.check
def a_protocol_nobody_speaks_is_refused():
    data, code = asyncio.run(come_in(authority.client("good", [ACME]), "smtp"))
    assert (data, code) == (b"", 0x178), (data, code)


@kit.check
def one_first_datagram_and_silence_draws_a_retry_and_nothing_more():
    sent = quic_kit.first_datagrams(configuration())[:1]
    back = quic_kit.answers(PORT, sent, SILENCE_S)
    assert len(back) == 1, [len(data) for data in back]
    assert kind(back[0]) == packet.QuicPacketType.RETRY
    assert len(back[0]) < len(sent[0]), "no more than came, where three times as much would be allowed"


@kit.check
def a_handshake_that_falls_silent_is_sent_to_until_it_is_given_up_and_never_after():
    begun = time.monotonic()
    client, out = half_open()
    arrived = []
    with out:
        while (left := begun + SILENCE_S - time.monotonic()) > 0:
            out.settimeout(left)
            try:
                arrived.append((time.monotonic() - begun, len(out.recv(65536))))
            except TimeoutError:
                break
    assert arrived, "its address was proved, and it is answered"
    assert arrived[-1][0] < HANDSHAKE_S + 0.5, arrived
    # The address is its own, so that no limit holds; still, what is sent again is a flight a few times.
    assert sum(size for _, size in arrived) < 30_000, arrived


@kit.check
def a_first_datagram_that_is_too_short_is_not_answered():
    [sent, *_] = quic_kit.first_datagrams(configuration())
    assert quic_kit.answers(PORT, [sent[:1199]], 1.0) == []


@kit.check
def a_version_nobody_speaks_is_answered_with_those_there_are_and_less_than_came():
    [sent, *_] = quic_kit.first_datagrams(configuration())
    sent = sent[:1] + b"\x1a\x2a\x3a\x4a" + sent[5:]
    back = quic_kit.answers(PORT, [sent], 1.0)
    assert len(back) == 1 and len(back[0]) < len(sent), [len(data) for data in back]
    assert kind(back[0]) == packet.QuicPacketType.VERSION_NEGOTIATION


@kit.check
def a_token_is_good_for_the_address_it_was_given_to_only():
    own, back = retried()
    served = quic_kit.answers(PORT, own, 1.0)
    assert served and all(kind(data) != packet.QuicPacketType.RETRY for data in served), "not from elsewhere"
    assert sum(map(len, served)) <= 3 * sum(map(len, own)), "somebody who did not ask is not flooded"
    assert len(served) == 1 and len(served[0]) < 200, "a word of refusal, no handshake"
    assert back is not None


def retried():
    """First datagrams with a token that was given to another socket than they will come from."""
    from aioquic.quic.connection import QuicConnection

    client = QuicConnection(configuration=configuration())
    client.connect(("127.0.0.1", PORT), now=0.0)
    [(first, _), *_] = client.datagrams_to_send(now=0.0)
    [back] = quic_kit.answers(PORT, [first], 1.0)
    client.receive_datagram(back, ("127.0.0.1", PORT), now=0.1)
    return [data for data, _ in client.datagrams_to_send(now=0.1)], back


@kit.check
def a_flood_of_first_datagrams_keeps_nothing_and_stops_nobody():
    before = resident_bytes()
    made = configuration()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.connect(("127.0.0.1", PORT))
        datagram = bytearray(quic_kit.first_datagrams(made)[0])
        for _ in range(FLOOD):
            # Another connection's id each: it begins behind flags, version and a length.
            datagram[6:14] = os.urandom(8)
            out.send(datagram)
    grown = resident_bytes() - before
    assert grown < FLOOD_BYTES_MAX, f"{grown} bytes for {FLOOD} datagrams"
    data, code = asyncio.run(come_in(authority.client("good", [ACME]), "h3"))
    assert code is None and data


@kit.check
def handshakes_that_stop_are_cut_and_their_memory_is_bounded():
    before = resident_bytes()
    clients = []
    for _ in range(300):
        datagrams, address = half_open()
        clients.append((datagrams, address))
    grown = resident_bytes() - before
    for out in (address for _, address in clients):
        out.close()
    assert grown < FLOOD_BYTES_MAX, f"{grown} bytes for 300 handshakes"

    def comes_in():
        data, code = asyncio.run(come_in(authority.client("good", [ACME]), "h3"))
        return code is None and data

    kit.until("room for others", comes_in)


def half_open():
    """Proves its address, sends its greeting and never finishes."""
    from aioquic.quic.connection import QuicConnection

    client = QuicConnection(configuration=configuration())
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect(("127.0.0.1", PORT))
    out.settimeout(5)
    client.connect(("127.0.0.1", PORT), now=0.0)
    for data, _ in client.datagrams_to_send(now=0.0):
        out.send(data)
    client.receive_datagram(out.recv(65536), ("127.0.0.1", PORT), now=0.1)
    for data, _ in client.datagrams_to_send(now=0.1):
        out.send(data)
    return client, out


def kind(data):
    from aioquic.buffer import Buffer

    return packet.pull_quic_header(Buffer(data=data), host_cid_length=8).packet_type


def resident_bytes():
    status = pathlib.Path(f"/proc/{proxy.child.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


if __name__ == "__main__":
    kit.main(proxy, mock)
