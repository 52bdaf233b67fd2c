#!/usr/bin/env python3
"""Another stack's HTTP/3: OpenAI's API over it, streamed and whole, and a client that goes away.

    pip install -r requirements.txt
    h3.py
"""

import asyncio
import email.utils
import json
import time

import kit
import quic_kit
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.h3 import connection as h3
from aioquic.h3 import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamReset

SLOW = "mock--tokens-1000--token-rate-20"

folder = kit.folder()
authority = quic_kit.Authority(folder)
cert, key = authority.server()
mock = kit.Mock()
proxy = kit.Proxy(
    [kit.adapter("local", mock.url, "mock-small", SLOW)],
    tls={"listen": "127.0.0.1:0", "cert": cert, "key": key},
)
PORT = int(proxy.told(r"quic://\S+:(\d+)"))


class Client(QuicConnectionProtocol):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.http = h3.H3Connection(self._quic)
        self.answers = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamReset) and event.stream_id in self.answers:
            self.answers[event.stream_id].put_nowait(None)
        for told in self.http.handle_event(event):
            if told.stream_id in self.answers:
                self.answers[told.stream_id].put_nowait(told)

    def ask(self, method, path, body=b"", more=()):
        stream = self._quic.get_next_available_stream_id()
        self.answers[stream] = asyncio.Queue()
        head = {":method": method, ":scheme": "https", ":authority": "localhost", ":path": path}
        headers = [(name.encode(), value.encode()) for name, value in [*head.items(), *more]]
        self.http.send_headers(stream, headers, end_stream=not body)
        if body:
            # In pieces, as a client sends that reads what it sends.
            for at in range(0, len(body), 20):
                self.http.send_data(stream, body[at:at + 20], end_stream=at + 20 >= len(body))
        self.transmit()
        return stream

    async def event(self, stream):
        return await asyncio.wait_for(self.answers[stream].get(), kit.PATIENCE_S)

    async def whole(self, stream):
        """Headers, body and trailers."""
        heads, body = [], b""
        while True:
            event = await self.event(stream)
            assert event is not None, f"reset after {body!r}"
            if isinstance(event, events.HeadersReceived):
                heads.append({name.decode(): value.decode() for name, value in event.headers})
            else:
                body += event.data
            if event.stream_ended:
                return heads[0], body, heads[1] if len(heads) > 1 else {}


def chat(model, stream):
    messages = [{"role": "user", "content": "hi"}]
    return json.dumps({"model": model, "stream": stream, "messages": messages}).encode()


def over_h3(function):
    """Marks a check with a connection of its own."""
    async def connected():
        made = QuicConfiguration(is_client=True, alpn_protocols=h3.H3_ALPN, server_name="localhost")
        made.load_verify_locations(authority.file)
        async with connect("127.0.0.1", PORT, configuration=made, create_protocol=Client) as client:
            await function(client)

    def checked():
        asyncio.run(connected())
    checked.__name__ = function.__name__
    return kit.check(checked)


@over_h3
async def a_chat_is_streamed(client):
    stream = client.ask("POST", "/v1/chat/completions", chat("mock-small", True), [("te", "trailers")])
    head, body, trailers = await client.whole(stream)
    assert head[":status"] == "200" and head["content-type"].startswith("text/event-stream"), head
    lines = [line[6:] for line in body.decode().splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]", lines[-1]
    choices = [choice for line in lines[:-1] for choice in json.loads(line)["choices"]]
    words = "".join(choice["delta"].get("content") or "" for choice in choices)
    assert "tok20" in words, words
    assert "x-atp-cost-usd-micros" in trailers, trailers


@over_h3
async def a_chat_is_answered_whole(client):
    stream = client.ask("POST", "/v1/chat/completions", chat("mock-small", False))
    head, body, _ = await client.whole(stream)
    assert head[":status"] == "200" and int(head["content-length"]) == len(body), head
    told = email.utils.parsedate_to_datetime(head["date"]).timestamp()
    assert abs(time.time() - told) < 60, head["date"]
    assert "tok20" in json.loads(body)["choices"][0]["message"]["content"]


@over_h3
async def many_are_answered_at_once_on_one_connection(client):
    streams = [client.ask("POST", "/v1/chat/completions", chat("mock-small", True)) for _ in range(50)]
    for stream in streams:
        head, body, _ = await client.whole(stream)
        assert head[":status"] == "200" and body.endswith(b"data: [DONE]\n\n"), (head, body)


@over_h3
async def faults_are_told_as_over_http(client):
    stream = client.ask("POST", "/v1/chat/completions", chat("nobody", True))
    head, body, _ = await client.whole(stream)
    assert (head[":status"], json.loads(body)["error"]["code"]) == ("404", "model_not_found"), body
    head, _, _ = await client.whole(client.ask("DELETE", "/v1/models"))
    assert (head[":status"], head["allow"]) == ("405", "GET, HEAD"), head


@over_h3
async def a_client_that_resets_its_stream_cancels_upstream(client):
    before = mock.stats(SLOW)["cancelled"]
    stream = client.ask("POST", "/v1/chat/completions", chat(SLOW, True))
    while b"tok3" not in getattr(await client.event(stream), "data", b""):
        pass
    client._quic.stop_stream(stream, h3.ErrorCode.H3_REQUEST_CANCELLED)
    client.transmit()
    # The connection must live on meanwhile.
    for _ in range(100):
        await asyncio.sleep(0.05)
        if mock.stats(SLOW)["cancelled"] == before + 1:
            break
    assert mock.stats(SLOW)["cancelled"] == before + 1
    head, _, _ = await client.whole(client.ask("GET", "/v1/models"))
    assert head[":status"] == "200"


if __name__ == "__main__":
    kit.main(proxy, mock)
