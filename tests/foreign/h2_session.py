#!/usr/bin/env python3
"""Sessions over HTTP/2, frames by hand on a library's request: what ws.py shows, where the carriage matters.

    pip install -r requirements.txt
    h2_session.py
"""

import threading

import frames
import kit
from talk import Http2, Session, chat, panics, text_of, words

SHORT, LONG = "mock--tokens-5", "mock--tokens-300--token-rate-150"
SLOW, FLOOD = "mock--tokens-1000--token-rate-20", "mock--tokens-50000--answer-bytes-10000000"

mock = kit.Mock()
resources = list(kit.alone(mock.url, [SHORT, LONG, SLOW, FLOOD]))
proxy = kit.Proxy(resources)


def session(encoding="json", of=proxy, **more):
    return Session(of, encoding, carriage=Http2, **more)


@kit.each(frames.ENCODINGS)
def a_session_is_granted_and_its_streams_are_answered(encoding):
    with session(encoding) as open_one:
        assert open_one.connection.status == 200
        content = open_one.granted["payload"]["content"]
        assert content["encoding"] == encoding and not content["resumed"], content
        streams = [open_one.ask(f"{number}", SHORT) for number in range(4)]
        for stream in reversed(streams):
            assert open_one.whole(stream) == words(5)


@kit.check
def an_unknown_encoding_is_an_http_error_and_so_is_http1():
    with Http2(proxy, "yaml") as connection:
        while connection.status is None:
            connection._read(10)
        assert connection.status == 400, connection.status
    body = {"content-type": "application/atp+json"}
    assert kit.fetch(f"{proxy.url}/atp/v1/session", "POST", b"", body)[0] == 400


@kit.check
def a_stream_nobody_takes_slows_no_other():
    mock.reset()
    with session() as open_one:
        open_one.ask("unread", FLOOD)
        open_one.hear("unread")
        for number in range(20):
            assert open_one.whole(open_one.ask(f"{number}", SHORT)) == words(5)
        held = sum(len(frames.compact(f["payload"]["content"])) for f in open_one.heard["unread"])
        assert held <= 256 * 1024, held
        assert mock.stats(FLOOD).get("completed", 0) == 0


@kit.each(frames.ENCODINGS)
def a_session_cut_in_an_answer_goes_on_where_it_was(encoding):
    mock.reset()
    before = proxy.metric("atp_tenant_output_tokens_total")
    cut = session(encoding, resume=True)
    stream = cut.ask("1", LONG)
    heard = [cut.hear(stream) for _ in range(40)]
    cut.say(stream, heard[-21]["msg_seq"], ["ACK"], "ACK")
    cut.connection.cut()
    again = cut.again([[stream, heard[-1]["msg_seq"]]])
    assert again.granted["payload"]["content"]["resumed"], again.granted
    heard += again.answer(stream)
    again.connection.close()
    assert [f["msg_seq"] for f in heard] == list(range(1, len(heard) + 1)), "each once, none missing"
    assert text_of(heard) == words(300)
    assert mock.stats(LONG)["requests"] == 1
    assert proxy.metric("atp_tenant_output_tokens_total") - before == 300


@kit.check
def a_session_goes_on_over_another_carriage():
    cut = session(resume=True)
    stream = cut.ask("1", LONG)
    heard = [cut.hear(stream) for _ in range(20)]
    cut.connection.cut()
    opening = {"resume_token": cut.token, "received": [[stream, heard[-1]["msg_seq"]]]}
    with Session(proxy, "bin", cut.name, True, opening=opening) as again:
        content = again.granted["payload"]["content"]
        assert content["resumed"] and content["encoding"] == "bin", again.granted
        assert text_of(heard + again.answer(stream)) == words(300)


@kit.check
def a_lost_connection_without_a_token_cancels_its_work():
    mock.reset()
    with session() as open_one:
        open_one.ask("1", SLOW)
        open_one.hear("1")
    kit.until("upstream is cancelled", lambda: mock.stats(SLOW)["cancelled"] == 1)


@kit.check
def fin_ends_the_answer_too():
    with session() as open_one:
        assert open_one.whole(open_one.ask("1", SHORT)) == words(5)
        open_one.say("", 0, ["FIN"], "FIN")
        assert open_one.connection.rest() == "StreamEnded"


LENGTHS = {"1 MiB and a byte": 1_048_577, "2^32-1": 2**32 - 1}


@kit.each(LENGTHS)
def a_length_longer_than_any_frame_ends_the_request(case):
    with session() as open_one:
        open_one.connection.state.send_data(1, LENGTHS[case].to_bytes(4, "big") + b"x" * 100)
        open_one.connection._flush()
        try:
            open_one.connection.rest()
        except ConnectionError:
            pass


@kit.check
def a_message_that_is_no_frame_is_told_and_the_session_goes_on():
    with session() as open_one:
        open_one.connection.send("{}")
        told = open_one.control("ERROR")
        assert told["payload"]["content"]["code"] == "EPROTO", told
        assert open_one.whole(open_one.ask("1", SHORT)) == words(5)


@kit.check
def a_long_message_comes_in_fragments_through_the_windows_of_http2():
    whole = frames.compact(chat(SHORT, prompt="ä" * 1_000_000))
    with session() as open_one:
        for number, at in enumerate(range(0, len(whole), 50_000)):
            flags = ["MORE"] if at + 50_000 < len(whole) else ["FIN"]
            open_one.say("1", 1, flags, "completion", whole[at:at + 50_000], frag_seq=number)
        assert open_one.whole("1") == words(5)


@kit.check
def a_drain_lets_streams_finish_and_says_fin():
    plane = kit.Proxy(resources, drain={"delay_ms": 0, "grace_ms": 15_000})
    open_one = session(of=plane)
    stream = open_one.ask("1", LONG)
    first = open_one.hear(stream)
    ended = threading.Thread(target=plane.stop)
    ended.start()
    assert text_of([first, *open_one.rest(stream)]) == words(300)
    assert open_one.look_for_end(10) is not None
    ended.join(kit.PATIENCE_S)
    assert plane.child.returncode == 0, plane.said()


@kit.check
def nothing_is_left_over():
    kit.until("no work is under way", lambda: proxy.metric("atp_upstream_in_flight") == 0)
    # Sessions with a token wait for half a minute.
    kit.until("no session", lambda: proxy.metric("atp_sessions_open") == 0, 40)
    kit.until("no connection but that of the scrape", lambda: proxy.metric("atp_connections_open") <= 1)
    assert not panics(proxy), panics(proxy)


kit.main(proxy, mock)
