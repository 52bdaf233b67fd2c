#!/usr/bin/env python3
"""Sessions over WebSocket that lose their connection and come back, and who may: by hand, in all encodings.

    pip install -r requirements.txt
    ws_resume.py
"""

import hashlib

import frames
import kit
import websockets.exceptions
from talk import Connection, Session, chat, panics, text_of, words

SHORT, LONG = "mock--tokens-5", "mock--tokens-300--token-rate-150"
BREAKS = "mock--tokens-200--cut-after-100--token-rate-50"
KEYS = {"acme": "a-key-of-acme-a-key-of-acme-a-key", "beta": "a-key-of-beta-a-key-of-beta-a-key"}

mock = kit.Mock()


def tenant(name, **spec):
    keys = [{"sha256": hashlib.sha256(KEYS[name].encode()).hexdigest()}]
    return {"kind": "Tenant", "name": name, "spec": {"keys": keys, **spec}}


resources = list(kit.alone(mock.url, [SHORT, LONG, BREAKS]))
proxy = kit.Proxy(resources)
keyed = kit.Proxy([*resources, *map(tenant, KEYS)])


@kit.each(frames.ENCODINGS)
def a_session_cut_in_an_answer_goes_on_where_it_was(encoding):
    mock.reset()
    before = billed()
    session = Session(proxy, encoding, resume=True)
    stream = session.ask("1", LONG)
    heard = [session.hear(stream) for _ in range(40)]
    session.say(stream, heard[-21]["msg_seq"], ["ACK"], "ACK")
    session.connection.cut()
    again = session.again([[stream, heard[-1]["msg_seq"]]])
    assert again.granted["payload"]["content"]["resumed"], again.granted
    heard += again.answer(stream)
    again.connection.close()
    assert [f["msg_seq"] for f in heard] == list(range(1, len(heard) + 1)), "each once, none missing"
    assert text_of(heard) == words(300)
    assert mock.stats(LONG)["requests"] == 1
    assert billed() - before == 300, (before, billed())


def billed():
    return proxy.metric("atp_tenant_output_tokens_total")


@kit.check
def what_was_not_acknowledged_is_said_again_and_what_was_is_not():
    session = Session(proxy, resume=True)
    stream = session.ask("1", LONG)
    heard = [session.hear(stream) for _ in range(30)]
    session.connection.cut()
    again = session.again([[stream, 10]])
    rest = again.answer(stream)
    assert [f["msg_seq"] for f in rest] == list(range(11, 11 + len(rest))), rest[:2]
    assert text_of(heard[:10] + rest) == words(300)
    again.connection.close()


@kit.check
def what_was_said_before_an_error_is_heard_by_who_comes_back_after_it():
    mock.reset()
    session = Session(proxy, resume=True)
    stream = session.ask("1", BREAKS)
    first = session.hear(stream)
    session.connection.cut()
    kit.until("the answer has broken off", lambda: mock.stats(BREAKS).get("faulted") == 1)
    again = session.again([[stream, first["msg_seq"]]])
    rest = again.rest(stream)
    last = rest[-1]
    assert "RST" in last["flags"] and last["payload"]["content"]["code"] == "EADAPTER", last
    assert [f["msg_seq"] for f in rest[:-1]] == list(range(2, len(rest) + 1)), rest
    assert text_of([first, *rest[:-1]]) == words(100), rest
    again.connection.close()


@kit.check
def a_session_is_cut_again_and_again_and_loses_nothing():
    session = Session(proxy, resume=True)
    streams = [session.ask(f"{number}", LONG) for number in range(4)]
    heard = {stream: [session.hear(stream) for _ in range(3)] for stream in streams}
    for _ in range(6):
        for stream in streams:
            heard[stream] += [session.hear(stream) for _ in range(5)]
        received = [[stream, heard[stream][-1]["msg_seq"]] for stream in streams]
        for stream, seq in received:
            session.say(stream, seq, ["ACK"], "ACK")
        session.connection.cut()
        session = session.again(received)
    for stream in streams:
        heard[stream] += session.answer(stream)
        assert [f["msg_seq"] for f in heard[stream]] == list(range(1, len(heard[stream]) + 1)), stream
        assert text_of(heard[stream]) == words(300)
    session.connection.close()


@kit.check
def a_token_of_somebody_else_opens_nothing_and_stays_good_for_its_own():
    acme, beta = ({"x-api-key": KEYS[name]} for name in ("acme", "beta"))
    session = Session(keyed, resume=True, headers=acme)
    stream = session.ask("1", LONG)
    heard = [session.hear(stream) for _ in range(10)]
    session.connection.cut()
    received = [[stream, heard[-1]["msg_seq"]]]
    for headers, name in ((beta, session.name), (acme, "another-session")):
        stranger = session.again(received, headers=headers, name=name)
        refused = stranger.granted
        assert "RST" in refused["flags"] and refused["payload"]["content"]["code"] == "ESEC", refused
        stranger.connection.close()
    unknown = session.again(received, headers=acme, token="x" * 32).granted
    assert unknown["payload"]["content"]["code"] == "ESEC", unknown
    again = session.again(received, headers=acme)
    assert text_of(heard + again.answer(stream)) == words(300)
    spent = session.again(received, headers=acme).granted
    assert "RST" in spent["flags"] and spent["payload"]["content"]["code"] == "ESEC", spent
    again.connection.close()


@kit.check
def a_session_without_a_token_is_not_kept():
    with Session(proxy) as session:
        assert "resume_token" not in session.granted["payload"]["content"], session.granted


# Who may come in.


@kit.check
def a_key_is_asked_for_at_the_handshake():
    for path, headers in (("/ws", {}), ("/ws?api_key=wrong", {}), ("/ws", {"x-api-key": "wrong"})):
        try:
            Connection(keyed, path=path, headers=headers)
            raise AssertionError(f"{path} {headers} came in")
        except websockets.exceptions.InvalidStatus as refused:
            assert refused.response.status_code == 401, refused
    ways = [("/ws?session_id=s&api_key=" + KEYS["acme"], {}), ("/ws", {"x-api-key": KEYS["acme"]}),
            ("/ws", {"authorization": f"Bearer {KEYS['acme']}"})]
    for path, headers in ways:
        with Session(keyed, path=path, headers=headers) as session:
            assert session.whole(session.ask("1", SHORT)) == words(5)


@kit.check
def who_pays_stands_in_the_key_and_never_in_a_frame():
    before = [keyed.metric("atp_tenant_output_tokens_total", tenant=name) for name in KEYS]
    headers = {"x-api-key": KEYS["acme"], "x-tenant-id": "beta"}
    meta = {"environment_id": "beta"}
    with Session(keyed, path="/ws?tenant_id=beta", headers=headers, meta=meta) as session:
        session.say("1", 1, ["FIN"], "completion", chat(SHORT), tenant="beta", tenant_id="beta")
        assert session.whole("1") == words(5)
    after = [keyed.metric("atp_tenant_output_tokens_total", tenant=name) for name in KEYS]
    assert [b - a for a, b in zip(before, after)] == [5, 0], (before, after)


@kit.check
def nothing_is_left_over():
    for plane in (proxy, keyed):
        kit.until("no work is under way", lambda: plane.metric("atp_upstream_in_flight") == 0)
        assert not panics(plane), panics(plane)


kit.main(proxy, keyed, mock)
