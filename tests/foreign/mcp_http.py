#!/usr/bin/env python3
"""MCP at /mcp, request by request and message by message, as the specification has them.

    pip install -r requirements.txt
    mcp_http.py

Streamable HTTP by the standard library, the older protocol of tools over a WebSocket library.
"""

import base64
import http.client
import json
import pathlib
import subprocess
import threading

import kit
from talk import Connection, panics, words

SHORT, HANG, CUT, LATE = "mock--tokens-5", "mock--hang", "mock--cut-after-2", "mock--hang-after-2"
KEY = "a-key-of-acme-a-key-of-acme-a-key"
SUM = "18f98efcd7d9d0db3a4ba2d7a5ff0e1f6d2f8a0e0c2f0a56a6b4a1c4c2f1bb7a"
NEW, OLD = "2026-07-28", "2025-11-25"
META = {"io.modelcontextprotocol/protocolVersion": NEW, "io.modelcontextprotocol/clientCapabilities": {}}

mock = kit.Mock()
MODELS = [SHORT, HANG, CUT, LATE]
price = {"in": 1000, "out": 1000}
resources = [*kit.alone(mock.url, MODELS), kit.adapter("dear", mock.url, {"name": "mock-dear", "price": price})]
resources.append({"kind": "Adapter", "name": "parrot", "spec": {"kind": "echo", "models": [{"name": "echo"}]}})
proxy = kit.Proxy(resources)


def post(body, headers=None, plane=None, name=None, **more):
    """Status, headers and body of one message; of the new revision unless `headers` say otherwise."""
    method = body.get("method") if isinstance(body, dict) else None
    said = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    if headers is None:
        said |= {"mcp-protocol-version": NEW, "mcp-method": method or ""}
        if name:
            said["mcp-name"] = name
    said |= headers or {}
    connection = http.client.HTTPConnection("127.0.0.1", (plane or proxy).port, timeout=kit.PATIENCE_S)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(more.get("verb", "POST"), "/mcp", raw, said)
    answer = connection.getresponse()
    text = answer.read()
    if answer.headers.get("content-type") == "text/event-stream":
        return answer.status, answer.headers, [json.loads(line[6:]) for line in text.split(b"\n")
                                               if line.startswith(b"data: ")]
    is_json = answer.headers.get("content-type") == "application/json"
    return answer.status, answer.headers, json.loads(text) if is_json else text


def request(method, params=None, meta=None, id=1):
    params = {**(params or {}), "_meta": {**META, **(meta or {})}}
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def before(method, params=None, id=1):
    """Of the revisions with sessions."""
    message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
    return message if id is None else {**message, "id": id}


def call(name, arguments, meta=None, **more):
    return post(request("tools/call", {"name": name, "arguments": arguments}, meta), name=name, **more)


@kit.check
def tools_are_what_is_served():
    status, _, told = post(request("tools/list"))
    result = told["result"]
    names = [tool["name"] for tool in result["tools"]]
    assert status == 200 and names[:2] == ["route.complete", "models.list"], told
    assert "adapter.parrot" in names and names[2:] == sorted(names[2:]), names
    assert result["resultType"] == "complete" and result["ttlMs"] >= 0 and result["cacheScope"] == "private"
    kinds = result["tools"][0]["inputSchema"]["properties"]["adapter_type"]["enum"]
    assert kinds == ["echo", "openai"], kinds
    assert proxy.metric("tools_exposed_total") == len(names)
    assert proxy.metric("atp_requests_answered_total", operation="mcp", status="2xx") >= 1


@kit.check
def a_call_is_answered_whole_with_its_bill():
    status, headers, told = call("route.complete", {"prompt": "hi", "model": SHORT})
    result = told["result"]
    assert status == 200 and headers["x-request-id"], headers
    assert result["content"] == [{"type": "text", "text": words(5)}] and result["isError"] is False, result
    structured = result["structuredContent"]
    assert structured["model_used"] == SHORT and structured["tokens_out"] == 5, structured
    assert structured["adapter_id"] == "alone-0" and structured["text"] == words(5), structured


@kit.check
def a_call_with_a_token_is_told_piece_by_piece():
    before_pieces = proxy.metric("mcp_partial_frames_total")
    status, headers, events = call("route.complete", {"prompt": "hi", "model": SHORT}, {"progressToken": "p"})
    *pieces, last = events
    assert status == 200 and headers["x-accel-buffering"] == "no", headers
    assert "".join(piece["params"]["message"] for piece in pieces) == words(5), pieces
    numbers = [piece["params"]["progress"] for piece in pieces]
    assert numbers == sorted(set(numbers)) and all(p["params"]["progressToken"] == "p" for p in pieces)
    assert last["id"] == 1 and last["result"]["content"][0]["text"] == words(5), last
    assert proxy.metric("mcp_partial_frames_total") == before_pieces + len(pieces)


@kit.check
def arguments_are_enforced():
    told = call("route.complete", {"prompt": "x", "max_cost_usd": 0.001, "model": "mock-dear"})[2]["result"]
    assert told["isError"] and told["_meta"]["atp.proxy/error"]["code"] == "budget_exceeded", told
    told = call("route.complete", {"prompt": "one two", "adapter_type": "echo"})[2]["result"]
    assert told["structuredContent"]["adapter_id"] == "parrot", told
    told = call("route.complete", {"prompt": "x", "adapter_type": "openai", "model": "echo"})[2]["result"]
    assert told["isError"] and told["_meta"]["atp.proxy/error"]["code"] == "model_not_found", told
    wrong = {"quality_target": "best", "max_cost_usd": 11, "latency_slo_ms": 1, "adapter_type": "none"}
    told = call("route.complete", wrong)[2]["result"]
    assert told["isError"] and all(f"`{name}`" in told["content"][0]["text"] for name in [*wrong, "prompt"])
    call("adapter.alone-0", {"prompt": "x", "max_tokens": 3})
    assert json.loads(mock.last_request()["body"])["max_tokens"] == 3
    call("route.complete", {"prompt": "x", "model": "mock-dear", "max_cost_usd": 0.5})
    assert json.loads(mock.last_request()["body"])["max_tokens"] <= 500


@kit.check
def adapters_and_fixed_tools_answer_too():
    told = call("adapter.parrot", {"prompt": "one two three", "max_tokens": 2})[2]["result"]
    assert told["structuredContent"]["tokens_out"] == 2, told
    told = call("models.list", {})[2]["result"]
    assert any(one["id"] == SHORT for one in told["structuredContent"]["data"]), told
    assert json.loads(told["content"][0]["text"]) == told["structuredContent"]


@kit.check
def a_tool_that_fails_is_a_result():
    told = call("route.complete", {"prompt": "x", "model": "nobody-has-this"})[2]["result"]
    assert told["isError"] and "nobody-has-this" in told["content"][0]["text"], told
    told = call("adapter.alone-2", {"prompt": "x"})[2]["result"]
    assert told["isError"] and told["_meta"]["atp.proxy/error"]["code"].startswith("upstream_"), told


REFUSED = {
    "no JSON": (b"{", None, 400, -32700),
    "a batch": (b"[]", None, 400, -32600),
    "no version of JSON-RPC": ({"id": 1, "method": "tools/list"}, None, 400, -32600),
    "no meta": (before("tools/list"), {"mcp-protocol-version": NEW, "mcp-method": "tools/list"}, 400, -32602),
    "no header of the revision": (request("tools/list"), {"mcp-method": "tools/list"}, 400, -32020),
    "another revision in the header": (
        request("tools/list"), {"mcp-protocol-version": OLD, "mcp-method": "tools/list"}, 400, -32020),
    "no header of the method": (request("tools/list"), {"mcp-protocol-version": NEW}, 400, -32020),
    "another method in the header": (
        request("tools/list"), {"mcp-protocol-version": NEW, "mcp-method": "tools/call"}, 400, -32020),
    "no header of the tool": (
        request("tools/call", {"name": "models.list"}),
        {"mcp-protocol-version": NEW, "mcp-method": "tools/call"}, 400, -32020),
    "a revision of another time": (
        request("tools/list", meta={"io.modelcontextprotocol/protocolVersion": "1900-01-01"}),
        {"mcp-protocol-version": "1900-01-01", "mcp-method": "tools/list"}, 400, -32022),
    "an unknown method": (request("prompts/list"), None, 404, -32601),
    "a method of before": (request("ping"), None, 404, -32601),
    "an unknown tool": (request("tools/call", {"name": "none"}), "none", 200, -32602),
    "an unknown method of before": (before("prompts/list"), {"mcp-protocol-version": OLD}, 200, -32601),
}


@kit.each(REFUSED)
def what_is_wrong_is_refused_with_its_code(case):
    body, headers, status, code = REFUSED[case]
    name = headers if isinstance(headers, str) else None
    told = post(body, None if name else headers, name=name)
    assert (told[0], told[2]["error"]["code"]) == (status, code), told
    if isinstance(body, dict) and "id" in body:
        assert told[2]["id"] == body["id"], told


@kit.check
def a_name_in_base64_is_the_same_name():
    coded = "=?base64?" + base64.b64encode(b"models.list").decode() + "?="
    told = post(request("tools/call", {"name": "models.list"}), name=coded)
    assert told[2]["result"]["isError"] is False, told


@kit.check
def a_session_of_before_is_begun_used_and_needs_no_end():
    params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    status, headers, told = post(before("initialize", params), {})
    assert status == 200 and told["result"]["protocolVersion"] == "2025-06-18", told
    assert told["result"]["capabilities"]["tools"] == {"listChanged": True}, told
    session = {"mcp-session-id": headers["mcp-session-id"], "mcp-protocol-version": "2025-06-18"}
    assert post(before("notifications/initialized", id=None), session)[0] == 202
    assert post(before("ping"), session)[2]["result"] == {}
    listed = post(before("tools/list"), session)[2]["result"]
    assert "ttlMs" not in listed and "resultType" not in listed, listed.keys()
    called = before("tools/call", {"name": "route.complete", "arguments": {"prompt": "x", "model": SHORT}})
    assert post(called, session)[2]["result"]["content"][0]["text"] == words(5)
    assert post(b"", session, verb="DELETE")[0] == 405
    assert post(b"", {"mcp-protocol-version": NEW, "accept": "text/event-stream"}, verb="GET")[0] == 405


def hangs(headers, id, meta=None, model=HANG):
    """A call that waits, from a thread of its own; with its connection, to be cut."""
    params = {"name": "route.complete", "arguments": {"prompt": "x", "model": model}}
    body = before("tools/call", {**params, **(meta or {})}, id) if "mcp-session-id" in headers \
        else request("tools/call", {**params, "_meta": {**META, "progressToken": 1}}, id=id)
    if "mcp-session-id" not in headers:
        body["params"]["_meta"] = {**META, **({"progressToken": 1} if model == LATE else {})}
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=kit.PATIENCE_S)
    said = {"content-type": "application/json", "accept": "application/json, text/event-stream", **headers}
    connection.request("POST", "/mcp", json.dumps(body).encode(), said)
    return connection


@kit.each([HANG, LATE])
def who_goes_away_cancels(model):
    mock.reset()
    headers = {"mcp-protocol-version": NEW, "mcp-method": "tools/call", "mcp-name": "route.complete"}
    connection = hangs(headers, 1, model=model)
    kit.until("upstream is asked", lambda: mock.stats(model)["requests"] == 1)
    connection.close()
    kit.until("upstream is cancelled", lambda: mock.stats(model)["cancelled"] == 1)


@kit.check
def a_call_is_cancelled_by_its_session_and_id_only():
    mock.reset()
    one, other = {"mcp-session-id": "s-1"}, {"mcp-session-id": "s-2"}
    connection = hangs(one, "c")
    kit.until("upstream is asked", lambda: mock.stats(HANG)["requests"] == 1)
    again = before("tools/call", {"name": "route.complete", "arguments": {"prompt": "x", "model": HANG}}, "c")
    assert post(again, one)[2]["error"]["code"] == -32600
    for headers, id in ((other, "c"), (one, "d"), ({}, "c")):
        assert post(before("notifications/cancelled", {"requestId": id}, None), headers)[0] == 202
    assert mock.stats(HANG)["cancelled"] == 0
    assert post(before("notifications/cancelled", {"requestId": "c"}, None), one)[0] == 202
    told = json.loads(connection.getresponse().read())["result"]
    assert told["isError"] and told["_meta"]["atp.proxy/error"]["code"] == "request_cancelled", told
    kit.until("upstream is cancelled", lambda: mock.stats(HANG)["cancelled"] == 1)


@kit.check
def pages_of_another_origin_and_other_hosts_are_refused():
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}, {"origin": "null"}):
        status, _, told = post(before("ping"), headers)
        assert status == 403 and "error" in told, (headers, told)
    assert post(before("ping"), {"origin": f"http://localhost:{proxy.port}"})[0] == 200


def listens(headers, body, verb="POST", plane=None):
    connection = http.client.HTTPConnection("127.0.0.1", (plane or proxy).port, timeout=kit.PATIENCE_S)
    said = {"content-type": "application/json", "accept": "text/event-stream", **headers}
    connection.request(verb, "/mcp", json.dumps(body).encode() if body else None, said)
    return connection.getresponse()


def heard(answer):
    """The next event of a stream."""
    while line := answer.readline():
        if line.startswith(b"data: "):
            return json.loads(line[6:])
    return None


@kit.each([NEW, OLD])
def who_listens_hears_of_changes(revision):
    plane = kit.Proxy(kit.alone(mock.url, [SHORT]))
    if revision == NEW:
        body = request("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="l")
        answer = listens({"mcp-protocol-version": NEW, "mcp-method": body["method"]}, body, plane=plane)
        first = heard(answer)
        assert first["method"] == "notifications/subscriptions/acknowledged", first
        assert first["params"]["notifications"] == {"toolsListChanged": True}, first
    else:
        answer = listens({"mcp-protocol-version": OLD, "mcp-session-id": "s"}, None, "GET", plane)
    assert answer.status == 200, answer.status
    kit.until("the stream is counted", lambda: plane.metric("mcp_sessions_active") == 1)
    # Changed once the list has been looked at.
    timer = threading.Timer(1.5, lambda: (plane.folder / "resources.yaml").write_text(
        kit.documents(kit.alone(mock.url, [SHORT, HANG]))))
    timer.start()
    changed = heard(answer)
    assert changed["method"] == "notifications/tools/list_changed", changed
    if revision == NEW:
        assert changed["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == "l", changed
    answer.close()
    kit.until("the stream is over", lambda: plane.metric("mcp_sessions_active") == 0)
    plane.kill()


@kit.check
def keys_count_here_as_everywhere():
    import hashlib
    keys = [{"sha256": hashlib.sha256(KEY.encode()).hexdigest()}]
    spec = {"keys": keys, "window": {"max_parallel": 1}}
    plane = kit.Proxy([*kit.alone(mock.url, [SHORT, HANG]), {"kind": "Tenant", "name": "acme", "spec": spec}])
    for headers in ({}, {"x-api-key": "wrong"}):
        status, _, told = post(before("ping"), headers, plane)
        assert status == 401 and told["error"]["data"]["code"] == "invalid_api_key", told
    mine = {"authorization": f"Bearer {KEY}"}
    assert post(before("ping"), mine, plane)[0] == 200
    assert post(before("ping"), {**mine, "origin": "https://evil.example"}, plane)[0] == 403
    mock.reset()
    with Connection(plane, path="/mcp", headers={"x-api-key": KEY}) as socket:
        said(socket, {"type": "callTool", "id": 1, "tool": "route.complete",
                      "parameters": {"prompt": "x", "model": HANG}})
        kit.until("the window is full", lambda: mock.stats(HANG)["requests"] == 1)
        body = before("tools/call", {"name": "route.complete", "arguments": {"prompt": "x", "model": SHORT}})
        told = post(body, mine, plane)[2]["result"]
        assert told["_meta"]["atp.proxy/error"]["code"] == "window_exceeded", told
    plane.kill()


# Over WebSocket.


def said(socket, message):
    socket.send(json.dumps(message))


def output(socket, id):
    """All messages of a call up to its last."""
    heard = [socket.next()]
    while "final" not in heard[-1] and heard[-1]["type"] != "error":
        heard.append(socket.next())
    assert all(message["toolCallId"] == id for message in heard), heard
    return heard


FORMS = {
    "by object": lambda id, name, args: {"type": "callTool", "id": id, "tool": {"name": name, "arguments": args}},
    "by name": lambda id, name, args: {"type": "callTool", "toolCallId": id, "tool": name, "parameters": args},
}


@kit.each(FORMS)
def both_forms_of_a_call_are_answered_over_websocket(form):
    with Connection(proxy, path="/mcp") as socket:
        said(socket, {"type": "listTools"})
        listed = socket.next()
        assert listed["type"] == "listTools" and listed["tools"][0]["name"] == "route.complete", listed
        args = {"prompt": "x", "model": SHORT, "quality_target": "fast"}
        said(socket, FORMS[form]("c-1", "route.complete", args))
        *pieces, last = output(socket, "c-1")
        assert [piece["sequence"] for piece in pieces] == list(range(1, len(pieces) + 1)), pieces
        assert all(piece["is_partial"] and piece["dp_metrics_emitted"] for piece in pieces), pieces
        assert "".join(piece["content"][0]["text"] for piece in pieces) == words(5), pieces
        tokens = [piece["cumulative_tokens"] for piece in pieces]
        assert tokens == sorted(tokens) and tokens[-1] == 5, tokens
        assert last["sequence"] == len(pieces) + 1 and last["content"][0]["text"] == words(5), last
        assert last["metadata"]["model_used"] == SHORT and last["metadata"]["quality_target"] == "fast", last
        said(socket, FORMS[form](2, "adapter.parrot", {"prompt": "one two"}))
        last = output(socket, 2)[-1]
        assert last["metadata"]["direct_call"] and last["metadata"]["adapter_id"] == "parrot", last
        kit.until("it is counted", lambda: proxy.metric("mcp_sessions_active") >= 1)
    kit.until("it is over", lambda: proxy.metric("mcp_sessions_active") == 0)


@kit.check
def mistakes_over_websocket_are_told_and_the_connection_goes_on():
    with Connection(proxy, path="/mcp") as socket:
        for message, code in (
            ("nonsense", "INVALID_REQUEST"),
            ("[1]", "INVALID_REQUEST"),
            ('{"type":"resources"}', "METHOD_NOT_FOUND"),
            ('{"type":"callTool","id":1,"tool":"none"}', "METHOD_NOT_FOUND"),
            ('{"type":"callTool","id":1,"tool":7}', "INVALID_REQUEST"),
            ('{"type":"callTool","id":1,"tool":"route.complete","parameters":{}}', "INVALID_REQUEST"),
            ('{"type":"callTool","id":1,"tool":"adapter.alone-2","parameters":{"prompt":"x"}}',
             "ADAPTER_UNAVAILABLE"),
        ):
            socket.send(message)
            told = socket.next()
            while told["type"] == "toolOutput":
                told = socket.next()
            assert told["error"]["code"] == code and told["error"]["message"], (message, told)
        said(socket, {"type": "negotiateSchema", "id": "n", "requestedVersion": "v1.3"})
        assert socket.next() == {"type": "schemaNegotiated", "id": "n", "negotiatedVersion": "v1.0"}
        said(socket, {"type": "heartbeat"})
        said(socket, {"type": "callTool", "id": 3, "tool": "models.list"})
        assert output(socket, 3)[-1]["content"][0]["type"] == "json"


@kit.check
def calls_over_websocket_run_beside_each_other_and_are_cancelled():
    mock.reset()
    with Connection(proxy, path="/mcp") as socket:
        said(socket, FORMS["by object"]("hangs", "route.complete", {"prompt": "x", "model": HANG}))
        said(socket, FORMS["by object"]("quick", "route.complete", {"prompt": "x", "model": SHORT}))
        assert output(socket, "quick")[-1]["content"][0]["text"] == words(5)
        kit.until("upstream is asked", lambda: mock.stats(HANG)["requests"] == 1)
        said(socket, {"type": "cancelTool", "toolCallId": "hangs"})
        assert socket.next()["error"]["code"] == "CANCELLED"
        kit.until("upstream is cancelled", lambda: mock.stats(HANG)["cancelled"] == 1)
        said(socket, FORMS["by object"]("again", "route.complete", {"prompt": "x", "model": HANG}))
        kit.until("upstream is asked", lambda: mock.stats(HANG)["requests"] == 2)
    kit.until("upstream is cancelled", lambda: mock.stats(HANG)["cancelled"] == 2)


@kit.check
def more_calls_at_once_than_a_connection_may_have_are_refused():
    mock.reset()
    with Connection(proxy, path="/mcp") as socket:
        for number in range(65):
            said(socket, FORMS["by object"](number, "route.complete", {"prompt": "x", "model": HANG}))
        told = socket.next()
        assert told["toolCallId"] == 64 and told["error"]["code"] == "RATE_LIMITED", told


# From the terminal.


def atp(*arguments):
    done = subprocess.run(
        [kit.ATP, "mcp", *arguments, "--url", proxy.url], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=kit.PATIENCE_S,
    )
    return done.returncode, done.stdout, done.stderr


@kit.check
def the_command_line_lists_and_calls():
    code, out, _ = atp("list")
    assert code == 0 and out.startswith("route.complete: ") and "\nadapter.parrot: " in out, out
    assert json.loads(atp("list", "--json")[1].splitlines()[0])["name"] == "route.complete"
    code, out, _ = atp("call", "route.complete", "prompt=hi there", f"model={SHORT}")
    assert (code, out) == (0, words(5) + "\n"), out
    code, out, _ = atp("call", "adapter.parrot", "prompt=one two", "max_tokens=1", "--json")
    assert code == 0 and json.loads(out)["structuredContent"]["tokens_out"] == 1, out
    code, _, error = atp("call", "route.complete", "prompt=x", "quality_target=best")
    assert code == 1 and "quality_target" in error, error
    code, _, error = atp("call", "none")
    assert code == 1 and "no tool of this name" in error, error


@kit.check
def nothing_is_left_over():
    kit.until("no work is under way", lambda: proxy.metric("atp_upstream_in_flight") == 0)
    assert not panics(proxy), panics(proxy)


assert pathlib.Path(kit.ATP).exists(), kit.ATP
kit.main(proxy, mock)
