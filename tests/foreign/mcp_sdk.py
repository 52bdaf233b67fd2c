#!/usr/bin/env python3
"""MCP's official Python client at /mcp, in its current major and the one before.

    pip install -r requirements-mcp.txt         # or -r requirements-mcp-before.txt, in an environment of its own
    mcp_sdk.py

What each major speaks by itself: the newest the revision without sessions, the one before sessions.
"""

import asyncio
import importlib.metadata

import kit
from mcp.client.streamable_http import streamable_http_client

MAJOR = int(importlib.metadata.version("mcp").split(".")[0])
SHORT, LATE = "mock--tokens-5", "mock--hang-after-2"
WORDS = "tok1 tok2 tok3 tok4 tok5"

mock = kit.Mock()
proxy = kit.Proxy(kit.alone(mock.url, [SHORT, LATE]))
URL = f"{proxy.url}/mcp"


class Of1:
    """The client of the major before: a session over a transport."""

    def __init__(self):
        self.modes = ["sessions"]

    async def run(self, _mode, work):
        from mcp import ClientSession
        async with streamable_http_client(URL) as (read, write, *_), ClientSession(read, write) as session:
            self.greeting = await session.initialize()
            return await work(session)

    def revision(self, _session):
        return self.greeting.protocolVersion


class Of2:
    """The client of the current major, which finds out by itself, or is told."""

    def __init__(self):
        self.modes = ["auto", "legacy", "2026-07-28"]

    async def run(self, mode, work):
        from mcp import Client
        async with Client(URL, mode=mode) as client:
            return await work(client)

    def revision(self, client):
        return client.protocol_version


client = {1: Of1, 2: Of2}[MAJOR]()


def field(of, snake):
    """Names of fields differ between the majors."""
    head, *rest = snake.split("_")
    return getattr(of, snake if MAJOR > 1 else head + "".join(word.title() for word in rest))


def run(mode, work):
    return asyncio.run(client.run(mode, work))


@kit.each(client.modes)
def it_comes_in_with_the_revision_it_wants(mode):
    async def work(session):
        return client.revision(session)
    wanted = "2026-07-28" if mode in ("auto", "2026-07-28") else "2025-11-25"
    assert run(mode, work) == wanted, run(mode, work)


@kit.each(client.modes)
def it_lists_tools_and_calls_one(mode):
    async def work(session):
        return await session.list_tools(), await session.call_tool(
            "route.complete", {"prompt": "hi", "model": SHORT})
    listed, result = run(mode, work)
    names = [tool.name for tool in listed.tools]
    assert names == ["route.complete", "models.list", "adapter.alone-0", "adapter.alone-1"], names
    assert result.content[0].text == WORDS and not field(result, "is_error"), result
    assert field(result, "structured_content")["model_used"] == SHORT, result


@kit.each(client.modes)
def it_hears_the_answer_as_it_comes(mode):
    pieces = []

    async def heard(_progress, _total, message):
        pieces.append(message)

    async def work(session):
        arguments = {"prompt": "hi", "model": SHORT}
        return await session.call_tool("route.complete", arguments, progress_callback=heard)
    result = run(mode, work)
    assert "".join(pieces) == WORDS == result.content[0].text, pieces


@kit.each(client.modes)
def a_failure_is_a_result_it_reads(mode):
    async def work(session):
        return await session.call_tool("route.complete", {"prompt": "hi", "model": "nobody-has-this"})
    result = run(mode, work)
    assert field(result, "is_error") and "nobody-has-this" in result.content[0].text, result


@kit.each(client.modes)
def a_call_that_is_given_up_is_cancelled_upstream(mode):
    mock.reset()

    async def work(session):
        arguments = {"prompt": "hi", "model": LATE}
        call = asyncio.ensure_future(session.call_tool("route.complete", arguments))
        while mock.stats(LATE)["requests"] == 0:
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        if MAJOR == 1:
            # That client says so to nobody; but it closes what it leaves.
            return
        async with asyncio.timeout(kit.PATIENCE_S):
            while mock.stats(LATE)["cancelled"] == 0:
                await asyncio.sleep(0.01)
        assert (await session.list_tools()).tools, "the session goes on"
    run(mode, work)
    kit.until("upstream is cancelled", lambda: mock.stats(LATE)["cancelled"] == 1)


if MAJOR > 1:
    @kit.check
    def it_hears_of_changes():
        async def work(session):
            async with session.listen(tools_list_changed=True) as changes:
                await asyncio.sleep(1.5)
                more = kit.documents(kit.alone(mock.url, [SHORT, LATE, "mock--tokens-7"]))
                (proxy.folder / "resources.yaml").write_text(more)
                async with asyncio.timeout(kit.PATIENCE_S):
                    async for change in changes:
                        return change
        assert type(run("auto", work)).__name__ == "ToolsListChanged"


print(f"mcp {importlib.metadata.version('mcp')}")
kit.main(proxy, mock)
