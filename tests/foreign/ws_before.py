#!/usr/bin/env python3
"""Clients that were there before sessions were negotiated are answered in the shapes they read.

    pip install -r requirements.txt
    ws_before.py

What each reads is done here as its own code does it; a check fails where that would find nothing.
"""

import hashlib
import json
import time

import kit
import websockets.exceptions
from talk import Connection, panics, words

SHORT, HANG, CUT, ECHO = "mock--tokens-5", "mock--hang", "mock--cut-after-3", "mock--echo"
KEY = "a-key-of-acme-a-key-of-acme-a-key"
SUM = hashlib.sha256(KEY.encode()).hexdigest()

mock = kit.Mock()
MODELS = [SHORT, HANG, CUT, ECHO]
resources = list(kit.alone(mock.url, MODELS))
proxy = kit.Proxy(resources)
narrow = {"keys": [{"sha256": SUM}], "window": {"max_parallel": 1}}
full = kit.Proxy([*resources, {"kind": "Tenant", "name": "acme", "spec": narrow}])
WINDOW = {"max_parallel": 4, "max_tokens": 50000, "max_usd_micros": 1000000}


def question(content, **more):
    """As the older router's clients write a frame: every field, absent ones as null."""
    return {
        "v": 1, "session_id": "s1", "stream_id": "st1", "msg_seq": 1, "frag_seq": 0, "flags": ["SYN"],
        "qos": "gold", "ttl": 8, "window": WINDOW, "meta": {"task_type": "qa"}, "sig": None, "checksum": None,
        "payload": {"type": "question", "content": content, "confidence": None}, **more,
    }


def said(connection, frame):
    connection.send(json.dumps(frame))


def exchange(connection, frame):
    """All up to FIN, or to one object that ends it."""
    said(connection, frame)
    heard = [connection.next()]
    while "flags" in heard[-1] and "FIN" not in heard[-1]["flags"]:
        heard.append(connection.next())
    return heard


# The older router.


@kit.check
def a_question_is_answered_with_ack_more_and_fin():
    with Connection(proxy) as connection:
        for turn in (1, 5):
            frame = question({"text": "why?", "model": SHORT}, msg_seq=turn)
            ack, *more, fin = exchange(connection, frame)
            assert (ack["flags"], ack["msg_seq"], ack["ttl"]) == (["ACK"], turn, 7), ack
            assert ack["payload"]["type"] == "agent.result.partial", ack
            assert ack["payload"]["content"] == {"router": "ack"}, ack
            for piece in more:
                assert (piece["flags"], piece["msg_seq"]) == (["MORE"], turn + 1), piece
                assert piece["adapter"] and isinstance(piece["payload"]["content"], str), piece
            # The content is the text of a JSON value.
            assert "".join(json.loads(p["payload"]["content"])["text"] for p in more) == words(5)
            assert (fin["flags"], fin["msg_seq"]) == (["FIN"], turn + 2), fin
            assert fin["payload"]["type"] == "agent.result.final", fin
            content = fin["payload"]["content"]
            assert content["finals"] == [words(5)] and content["representatives"] == [[0, words(5)]], content
            assert content["groups"] == [[0]] and len(content["scores"]) == 1, content
            assert (fin["session_id"], fin["stream_id"]) == ("s1", "st1"), fin


OBJECTS = {
    "no JSON": ("nonsense", "invalid_frame"),
    "half a frame": ('{"v":1,"session_id":"s"', "invalid_frame"),
    "a list": ("[1]", "invalid_frame"),
    "a frame without a window": (json.dumps({**question("x"), "window": None}), "invalid_frame"),
    "bytes": (b"\x00\x01", "binary_not_supported"),
    "no hops left": (json.dumps(question("x", ttl=0)), "ttl_expired"),
}


@kit.each(OBJECTS)
def what_cannot_be_taken_is_told_in_an_object(case):
    sent, error = OBJECTS[case]
    with Connection(proxy) as connection:
        connection.send(sent)
        told = connection.next()
        assert told == {"error": error}, told
        assert exchange(connection, question({"text": "x", "model": SHORT}))[-1]["flags"] == ["FIN"]


@kit.check
def a_full_window_is_busy_and_then_bronze_is_dropped():
    headers = {"x-api-key": KEY}
    mock.reset()
    with Connection(full, headers=headers) as holder, Connection(full, headers=headers) as connection:
        said(holder, question({"text": "x", "model": HANG}))
        kit.until("the window is full", lambda: mock.stats(HANG)["requests"] == 1)
        for qos in ("gold", "silver", "bronze"):
            frame = question({"text": "x", "model": SHORT}, qos=qos, stream_id=qos)
            said(connection, frame)
            busy = connection.next()
            assert busy == {"control.status": "BUSY", "suggested_wait_ms": 200}, busy
            said(connection, frame)
            again = connection.next()
            ecn = {"control.status": "ECN", "action": "drop", "reason": "pressure"}
            assert again == (ecn if qos == "bronze" else busy), again
    kit.until("there is room", lambda: mock.stats(HANG)["cancelled"] == 1)
    with Connection(full, headers=headers) as connection:
        assert exchange(connection, question({"text": "x", "model": SHORT}))[-1]["flags"] == ["FIN"]


@kit.check
def an_adapter_that_fails_is_told_as_it_was():
    with Connection(proxy) as connection:
        ack, *more, last = exchange(connection, question({"text": "x", "model": CUT}))
        told = last["payload"]["content"]["adapter_error"]
        assert told["error"] in ("rpc", "connect") and told["reason"] and told["adapter"], last
        assert last["payload"]["type"] == "agent.result.partial", last


@kit.check
def questions_of_one_connection_are_answered_beside_each_other():
    with Connection(proxy) as connection:
        said(connection, question({"text": "x", "model": HANG}, stream_id="hangs"))
        frame = question({"text": "x", "model": SHORT}, stream_id="quick")
        assert all(f["stream_id"] == "quick" for f in exchange(connection, frame))


def in_parts(style, text):
    cut = [text[at:at + 256] for at in range(0, len(text), 256)]
    for number, part in enumerate(cut):
        is_last = number == len(cut) - 1
        flags = {"FRAG": ["FRAG", "LAST"] if is_last else ["FRAG"],
                 "both": ["FRAG"] if is_last else ["FRAG", "MORE"]}[style]
        checksum = hashlib.sha256(part.encode()).hexdigest()[:16]
        payload = {"type": "question", "content": {"text": part}, "checksum": checksum}
        yield question(None, frag_seq=number, flags=flags, payload=payload)


@kit.each(["FRAG", "both"])
def a_question_in_parts_is_put_together(style):
    # A text alone names no model, so there is one only.
    echo = kit.Proxy(kit.alone(mock.url, [ECHO]))
    text = "wörter und mehr " * 100
    with Connection(echo) as connection:
        for part in in_parts(style, text):
            said(connection, part)
        heard = []
        while not heard or "FIN" not in heard[-1].get("flags", ["FIN"]):
            heard.append(connection.next())
        finals = heard[-1]["payload"]["content"]["finals"]
        assert finals[0].split() == text.split(), finals[0][:100]
    echo.kill()


# The SDKs. Each function reads what its SDK reads, and nothing else.


def go(stream, seq, kind, payload, **more):
    """Flat, without what is zero or empty."""
    return {"type": kind, "ts": int(time.time() * 1000), "stream_id": stream, "msg_seq": seq, "qos": "gold",
            "ttl": 8, "window": WINDOW, "meta": {"task_type": "completion", "environment_id": "t"},
            "payload": payload, **more}


def reads_go(answer, stream, seq):
    assert answer["stream_id"] == stream and answer["msg_seq"] == seq, answer
    payload = answer["payload"]
    if answer["type"] == "error":
        raise RuntimeError(payload["error"]["message"])
    assert answer["type"] == "completion_response", answer
    typed = [("text", str), ("model_used", str), ("tokens_in", int), ("tokens_out", int),
             ("cost_usd", (int, float))]
    assert all(isinstance(payload[name], of) for name, of in typed), payload
    return payload["text"]


@kit.check
def the_go_sdk_reads_its_answer():
    payload = {"prompt": "hi", "max_tokens": 50, "temperature": 0.7, "top_p": 0.9, "stop": ["x"],
               "model": SHORT}
    with Connection(proxy, path="/?session_id=s-go&tenant_id=t") as connection:
        for _ in range(2):
            # Its numbers begin anew with every call.
            said(connection, go("st-1", 1, "completion_request", payload))
            assert reads_go(connection.next(), "st-1", 1) == words(5)
        said(connection, go("st-2", 1, "completion_request", {**payload, "model": "nobody-has-this"}))
        try:
            raise AssertionError(reads_go(connection.next(), "st-2", 1))
        except RuntimeError as error:
            assert "nobody-has-this" in str(error), error


@kit.check
def the_go_sdk_advertises_and_beats():
    zero = {"max_parallel": 0, "max_tokens": 0, "max_usd_micros": 0}
    with Connection(proxy, path="/?session_id=s-go&tenant_id=t&api_key=anything") as connection:
        for kind, flag, ttl in (("adapter.capability", "capability", 30), ("adapter.health", "health", 60)):
            payload = {"type": kind, "adapter_id": "alone-0", "adapter_type": "llm", "status": "healthy",
                       "max_tokens": 4096, "last_health_check": 1700000000}
            frame = go("st-c", 1, kind, payload, flags=[flag], qos="bronze", ttl=ttl)
            said(connection, frame)
            answer = connection.next()
            assert answer["type"] == "completion_response" and answer["stream_id"] == "st-c", answer
            assert answer["msg_seq"] == 1, answer
        said(connection, {"type": "heartbeat", "ts": 1, "window": zero, "meta": {}, "payload": {}})
        said(connection, go("st-1", 2, "completion_request", {"prompt": "hi", "model": SHORT}))
        answers = [connection.next(), connection.next()]
        assert reads_go(answers[-1], "st-1", 2) == words(5)


@kit.check
def the_python_sdk_reads_its_answer_at_mcp():
    content = {"prompt": "hi", "max_tokens": 100, "quality": "balanced", "latency_slo_ms": 2000,
               "stream": False, "temperature": 0.7, "consistency_level": "EVENTUAL", "model": SHORT}
    frame = question(None, qos="silver", flags=[], payload={"type": "completion", "content": content})
    with Connection(proxy, path="/mcp", headers={"x-api-key": "anything", "x-tenant-id": "t"}) as connection:
        said(connection, frame)
        answer = connection.next()
        assert answer["stream_id"] == "st1" and answer["type"] != "error", answer
        told = answer["content"]
        assert told["text"] == words(5) and told["model_used"] == SHORT and told["tokens_out"] == 5, told
        assert isinstance(told["tokens_in"], int) and isinstance(told["cost_usd"], (int, float)), told
        assert "quality_score" in told
        content["model"] = "nobody-has-this"
        said(connection, {**frame, "msg_seq": 2})
        failed = connection.next()
        assert failed["type"] == "error" and "nobody-has-this" in failed["error"]["message"], failed


def camel(seq, payload, **more):
    return {"v": 1, "sessionId": "s-ts", "streamId": "st-ts", "msgSeq": seq, "fragSeq": 0, "flags": [],
            "qos": "silver", "ttl": 8, "meta": {"taskType": "completion", "environmentId": "t"},
            "window": {"maxParallel": 4, "maxTokens": 50000, "maxUsdMicros": 1000000}, "payload": payload,
            **more}


def reads_typescript(answer, seq):
    assert f"{answer['streamId']}:{answer['msgSeq']}" == f"st-ts:{seq}", answer
    assert answer["payload"]["type"] in ("completion_response", "error"), answer
    return answer["payload"]["content"]


@kit.check
def the_typescript_sdk_reads_its_answer_and_its_heartbeats():
    content = {"prompt": "hi", "maxTokens": 100, "quality": "low", "temperature": 0.7, "model": SHORT}
    with Connection(proxy, path="/ws?session_id=s-ts&tenant_id=t") as connection:
        said(connection, camel(1, {"type": "completion", "content": content}))
        told = reads_typescript(connection.next(), 1)["content"]
        assert told["text"] == words(5) and told["modelUsed"] == SHORT and told["tokensOut"] == 5, told
        assert isinstance(told["tokensIn"], int) and "costUsd" in told and "qualityScore" in told, told
        said(connection, camel(2, {"type": "heartbeat", "content": {"timestamp": 1}}))
        reads_typescript(connection.next(), 2)
        said(connection, camel(3, {"type": "completion", "content": {**content, "model": "nobody-has-this"}}))
        failed = connection.next()
        assert failed["payload"]["type"] == "error" and failed["msgSeq"] == 3, failed


@kit.each(["/ws", "/", "/mcp"])
def a_key_is_asked_for_at_every_door(path):
    named = ("?session_id=s&tenant_id=acme", {"x-tenant-id": "acme"})
    for query, headers in (("", {}), ("?api_key=wrong", {}), named):
        try:
            Connection(full, path=path + query, headers=headers)
            raise AssertionError(f"{path}{query} came in")
        except websockets.exceptions.InvalidStatus as refused:
            assert refused.response.status_code == 401, refused
    for query, headers in (("?api_key=" + KEY, {}), ("", {"x-api-key": KEY})):
        with Connection(full, path=path + query, headers=headers) as connection:
            said(connection, go("st-1", 1, "completion_request", {"prompt": "hi", "model": SHORT}))
            assert reads_go(connection.next(), "st-1", 1) == words(5)


@kit.check
def a_client_that_leaves_cancels_its_work():
    mock.reset()
    with Connection(proxy) as connection:
        for number in range(3):
            said(connection, question({"text": "x", "model": HANG}, stream_id=f"{number}"))
        kit.until("upstream is asked", lambda: mock.stats(HANG)["requests"] == 3)
    kit.until("upstream is cancelled", lambda: mock.stats(HANG)["cancelled"] == 3)


@kit.check
def nothing_is_left_over():
    for plane in (proxy, full):
        kit.until("no work is under way", lambda: plane.metric("atp_upstream_in_flight") == 0)
        assert not panics(plane), panics(plane)


kit.main(proxy, full, mock)
