#!/usr/bin/env python3
"""Sessions over WebSocket, spoken by hand in all three encodings by a client that is not ours.

    pip install -r requirements.txt
    ws.py

How sessions come back is in ws_resume.py, what existing clients say and read in ws_before.py, what breaks
WebSocket's own rules in ws_rules.py.
"""

import hashlib
import pathlib
import threading
import time

import frames
import kit
from talk import Connection, Session, chat, panics, text_of, words

SHORT, LONG = "mock--tokens-5", "mock--tokens-300--token-rate-150"
SLOW, HANG = "mock--tokens-1000--token-rate-20", "mock--hang"
FLOOD, ALSO = "mock--tokens-50000--answer-bytes-10000000", "mock--tokens-10"

mock = kit.Mock()


MODELS = [SHORT, LONG, SLOW, HANG, FLOOD, ALSO, "mock--echo", "mock--cut-after-3"]
resources = list(kit.alone(mock.url, MODELS))
proxy = kit.Proxy(resources)


def serves_on():
    with Session(proxy) as session:
        assert session.whole(session.ask("1", SHORT)) == words(5)


# A session's life.


@kit.check
def the_documents_bytes_are_those_of_this_codec():
    text = (pathlib.Path(kit.ROOT) / "docs/protocol.md").read_text()
    cbor, binary = frames.of_the_document(text)
    assert frames.to_cbor(frames.GOLDEN) == cbor and frames.to_bin(frames.GOLDEN) == binary
    assert frames.from_cbor(cbor) == frames.from_bin(binary) == frames.GOLDEN


@kit.each(frames.ENCODINGS)
def a_session_is_granted_and_answers(encoding):
    with Session(proxy, encoding) as session:
        granted = session.granted
        assert set(granted["flags"]) == {"SYN", "ACK"} and granted["stream_id"] == "", granted
        content = granted["payload"]["content"]
        assert content["encoding"] == encoding and content["idle_ms"] == 30_000, content
        assert content["limits"]["frame_bytes"] == 1_048_576 and not content["resumed"], content
        assert 1 <= granted["window"]["max_parallel"] <= frames.WINDOW["max_parallel"], granted["window"]
        answer = session.answer(session.ask("1", SHORT))
        assert text_of(answer) == words(5)
        assert [frame["msg_seq"] for frame in answer] == list(range(1, len(answer) + 1)), answer
        last = answer[-1]
        told = last["payload"]["content"]
        assert "FIN" in last["flags"] and last["adapter"] == "alone-0", last
        assert told["model_used"] == SHORT and told["tokens_out"] == 5, told
        assert last["telemetry"]["tokens"] == told["tokens_in"] + told["tokens_out"], last


@kit.each(frames.ENCODINGS)
def a_prompt_is_answered_in_text(encoding):
    with Session(proxy, encoding) as session:
        session.say("p", 1, ["FIN"], "completion", {"prompt": "wörter", "model": SHORT})
        answer = session.answer("p")
        assert "".join(f["payload"]["content"]["text"] for f in answer[:-1]) == words(5)
        assert answer[-1]["payload"]["content"]["text"] == words(5)


@kit.each(frames.ENCODINGS)
def streams_are_answered_at_once_and_each_in_order(encoding):
    with Session(proxy, encoding) as session:
        at_once = session.granted["window"]["max_parallel"]
        streams = [session.ask(f"s{number}", ALSO) for number in range(at_once)]
        assert at_once >= 4, session.granted
        for stream in reversed(streams):
            answer = session.answer(stream)
            assert text_of(answer) == words(10)
            assert [f["msg_seq"] for f in answer] == list(range(1, len(answer) + 1))


@kit.check
def a_stream_carries_one_request_after_another():
    with Session(proxy) as session:
        for turn in (1, 2, 3):
            session.say("a", turn, ["FIN"] if turn == 3 else [], "completion", chat(SHORT))
        first, second, third = (session.answer("a") for _ in range(3))
        assert text_of(first) == text_of(second) == text_of(third) == words(5)
        assert "FIN" not in first[-1]["flags"] and "FIN" in third[-1]["flags"]


@kit.check
def sessions_share_a_connection():
    with Connection(proxy) as connection:
        sessions = [Session(proxy, connection=connection, name=f"shared-{n}") for n in range(8)]
        for session in sessions:
            session.ask("1", SHORT)
        for session in reversed(sessions):
            assert session.whole("1") == words(5)


@kit.check
def sixty_four_sessions_have_room_on_a_connection_and_one_more_has_not():
    with Connection(proxy) as connection:
        sessions = [Session(proxy, connection=connection, name=f"of-64-{n}") for n in range(64)]
        connection.say(frames.frame("of-64-64", "", 0, ["SYN"], "SYN", {}))
        told = connection.until(lambda said: "error" in said)
        assert told["error"] == "too_many_sessions", told
        assert sessions[63].whole(sessions[63].ask("1", SHORT)) == words(5)


@kit.check
def fin_ends_a_session_in_order():
    with Session(proxy) as session:
        assert session.whole(session.ask("1", SHORT)) == words(5)
        session.say("", 0, ["FIN"], "FIN")
        # Two more are silent on purpose, see below.
        kit.until("the session is over", lambda: proxy.metric("atp_sessions_open") <= 2)
        # Its connection is there for the next one.
        following = Session(proxy, connection=session.connection, name=session.name)
        assert following.whole(following.ask("1", SHORT)) == words(5)


@kit.check
def rst_of_a_stream_cancels_its_work_upstream_and_no_other():
    mock.reset()
    with Session(proxy) as session:
        session.ask("gone", SLOW)
        session.hear("gone")
        error = {"code": "EPOLICY", "reason": "no longer wanted"}
        session.say("gone", 0, ["RST"], "ERROR", error)
        kit.until("upstream is cancelled", lambda: mock.stats(SLOW)["cancelled"] == 1)
        assert session.whole(session.ask("other", SHORT)) == words(5)


@kit.check
def a_closed_connection_without_a_token_cancels_all_of_its_work():
    mock.reset()
    with Session(proxy) as session:
        for number in range(3):
            session.ask(f"{number}", SLOW)
            session.hear(f"{number}")
    kit.until("upstream is cancelled", lambda: mock.stats(SLOW)["cancelled"] == 3)


@kit.check
def two_sessions_of_one_name_are_two():
    with Session(proxy, name="twin") as one, Session(proxy, name="twin") as two:
        one.ask("1", ALSO), two.ask("1", SHORT)
        assert one.whole("1") == words(10) and two.whole("1") == words(5)


# What goes wrong.


@kit.each(frames.ENCODINGS)
def a_message_that_is_no_frame_is_told_and_eight_end_the_session(encoding):
    broken = {"json": '{"v":1', "cbor": b"\xa1\x61", "bin": b"\xff\xa7\x01" + b"x" * 80}[encoding]
    with Session(proxy, encoding) as session:
        for _ in range(7):
            session.connection.send(broken)
            told = session.control("ERROR")
            assert told["payload"]["content"]["code"] == "EPROTO" and "RST" not in told["flags"], told
        assert session.whole(session.ask("1", SHORT)) == words(5)
        for _ in range(8):
            session.connection.send(broken)
        last = session.control("ERROR", flag="RST")
        assert last["payload"]["content"]["code"] == "EPROTO", last


BAD = {
    "no v": lambda f: f.pop("v"),
    "v 2": lambda f: f.update(v=2),
    "no payload": lambda f: f.pop("payload"),
    "a negative msg_seq": lambda f: f.update(msg_seq=-1),
    "a msg_seq of 2^64": lambda f: f.update(msg_seq=2**64),
    "a blank flag": lambda f: f.update(flags=[" "]),
    "65 flags": lambda f: f.update(flags=[f"f{n}" for n in range(65)]),
    "a ttl of 256": lambda f: f.update(ttl=256),
    "a stream of 1025 bytes": lambda f: f.update(stream_id="s" * 1025),
    "a type of 256 bytes": lambda f: f["payload"].update(type="t" * 256),
    "65 levels": lambda f: f["payload"].update(content=nested(70)),
    "a text for a window": lambda f: f.update(window="wide"),
}


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


@kit.each(BAD)
def a_bad_frame_is_refused_and_the_session_goes_on(case):
    for encoding in ("json", "cbor"):
        with Session(proxy, encoding) as session:
            bad = frames.frame(session.name, "bad", 1, ["FIN"], "completion", chat(SHORT))
            BAD[case](bad)
            if encoding == "cbor" and case == "a msg_seq of 2^64":
                continue
            session.connection.send(frames.encoded(encoding, bad))
            told = session.control("ERROR")
            assert told["payload"]["content"]["code"] == "EPROTO", told
            assert session.whole(session.ask("1", SHORT)) == words(5)


@kit.check
def a_second_syn_ends_the_session():
    with Session(proxy) as session:
        session.say("", 0, ["SYN"], "SYN", {})
        last = session.control("ERROR", flag="RST")
        assert last["payload"]["content"]["code"] == "EPROTO", last


@kit.check
def a_frame_without_hops_left_is_told_and_not_passed_on():
    mock.reset()
    with Session(proxy) as session:
        session.say("0", 1, [], "completion", chat(SHORT), ttl=0)
        told = session.hear("0", kind="ERROR")
        assert told["payload"]["content"]["code"] == "ETIMEOUT", told
        session.say("0", 2, ["FIN"], "completion", chat(ALSO), ttl=1)
        assert session.whole("0") == words(10)
    assert mock.stats(SHORT)["requests"] == 0


@kit.check
def what_nobody_serves_is_told_on_its_stream_alone():
    with Session(proxy) as session:
        session.ask("1", "nobody-has-this")
        session.say("2", 1, ["FIN"], "completion", {"prompt": 7})
        session.say("3", 1, ["FIN"], "tea", {"prompt": "hi"})
        codes = [session.hear(stream, kind="ERROR")["payload"]["content"]["code"] for stream in "123"]
        assert codes[1:] == ["EBAD_INPUT", "EBAD_INPUT"] and codes[0].startswith("E"), codes
        assert session.whole(session.ask("4", SHORT)) == words(5)


@kit.check
def an_upstream_that_breaks_off_is_an_error_behind_what_it_said():
    with Session(proxy) as session:
        session.ask("1", "mock--cut-after-3")
        heard = session.rest("1")
        last = heard[-1]
        assert "RST" in last["flags"] and last["payload"]["content"]["code"] == "EADAPTER", last
        assert "tok1" in text_of(heard), heard


@kit.check
def a_message_said_twice_counts_once():
    mock.reset()
    with Session(proxy) as session:
        for _ in range(3):
            session.ask("1", ALSO)
        assert session.whole("1") == words(10)
        assert session.whole(session.ask("2", SHORT)) == words(5)
    assert mock.stats(ALSO)["requests"] == 1


@kit.check
def messages_out_of_order_are_put_in_order():
    with Session(proxy) as session:
        session.say("1", 2, ["FIN"], "completion", chat(SHORT))
        session.say("1", 1, [], "completion", chat(ALSO))
        assert session.whole("1") == words(10) and session.whole("1") == words(5)


@kit.check
def what_never_comes_is_asked_for_and_then_named():
    with Session(proxy) as session:
        session.say("1", 2, ["FIN"], "completion", chat(SHORT))
        asked = session.control("ERROR", stream="1")["payload"]["content"]
        assert asked["code"] == "ESEQ_RETRY" and asked["msg_seq"] == 1 and not asked["missing"], asked
        last = session.hear("1")
        content = last["payload"]["content"]
        assert "RST" in last["flags"] and content["code"] == "ESEQ_RETRY" and "1" in content["reason"], last


# Fragments.


def parts(session, style, count=10):
    """A prompt in `count` parts, each style as the document has it."""
    prompt = "wörter " * 2000
    size = -(-len(prompt) // count)
    cut = [prompt[at:at + size] for at in range(0, len(prompt), size)]
    if style == "MORE":
        whole = frames.compact(chat("mock--echo", prompt=prompt))
        size = -(-len(whole) // count)
        cut = [whole[at:at + size] for at in range(0, len(whole), size)]
    for number, part in enumerate(cut):
        is_last = number == len(cut) - 1
        if style == "MORE":
            flags, content = ["FIN"] if is_last else ["MORE"], part
        else:
            flags, content = ["FRAG", "LAST", "FIN"] if is_last else ["FRAG"], {"text": part}
        sum_of = hashlib.sha256(part.encode()).hexdigest()[:16]
        payload = {"type": "completion", "content": content, "checksum": sum_of}
        made = frames.frame(session.name, "f", 1, flags, "completion", frag_seq=number)
        yield {**made, "payload": payload if style == "FRAG" else {**payload, "checksum": None}}


@kit.check
def a_message_in_parts_is_put_together():
    prompt = "wörter " * 2000
    for order in (1, -1):
        with Session(proxy) as session:
            for part in list(parts(session, "MORE"))[::order]:
                session.connection.say(part)
            assert session.whole("f").count("wörter") == prompt.count("wörter")


@kit.check
def a_part_that_is_missing_is_asked_for():
    with Session(proxy) as session:
        cut = list(parts(session, "MORE"))
        for number, part in enumerate(cut):
            if number not in (3, 7):
                session.connection.say(part)
        asked = session.control("ERROR", stream="f")["payload"]["content"]
        assert (asked["code"], asked["msg_seq"], asked["missing"]) == ("ESEQ_RETRY", 1, [3, 7]), asked
        session.connection.say(cut[3])
        session.connection.say(cut[7])
        assert session.whole("f").count("wörter") == 2000


@kit.check
def the_older_style_of_parts_is_taken_and_checked():
    mock.reset()
    with Session(proxy) as session:
        cut = list(parts(session, "FRAG"))
        for part in cut:
            session.connection.say({**part, "payload": {**part["payload"], "type": "question"}})
        # `{"text": …}` is no request of a session, and it is told so: it was put together.
        assert session.hear("f", kind="ERROR")["payload"]["content"]["code"] == "EBAD_INPUT"
        broken = {**cut[0], "stream_id": "g", "payload": {**cut[0]["payload"], "checksum": "0" * 16}}
        session.connection.say(broken)
        assert session.hear("g", kind="ERROR")["payload"]["content"]["code"] == "EPROTO"


@kit.check
def a_message_as_long_as_allowed_passes_and_one_longer_does_not():
    with Session(proxy) as session:
        for megabytes, code in ((1, None), (17, "E")):
            stream = f"{megabytes}"
            whole = frames.compact(chat(SHORT, prompt="a" * megabytes * 1024 * 1024))
            for number, at in enumerate(range(0, len(whole), 65_536)):
                flags = ["MORE"] if at + 65_536 < len(whole) else ["FIN"]
                session.say(stream, 1, flags, "completion", whole[at:at + 65_536], frag_seq=number)
            if code is None:
                assert session.whole(stream) == words(5)
            else:
                told = session.hear(stream, kind="ERROR")
                assert "RST" in told["flags"], told
        assert session.whole(session.ask("after", SHORT)) == words(5)


# Limits and windows.


@kit.check
def a_frame_longer_than_any_ends_the_connection_with_1009():
    with Session(proxy) as session:
        session.say("1", 1, ["FIN"], "completion", chat(SHORT, prompt="a" * 1_048_576))
        code = session.connection.closed()
        assert code == 1009, code
    serves_on()


@kit.check
def a_thousand_and_twenty_four_streams_have_room_and_one_more_has_not():
    with Session(proxy) as session:
        for number in range(1024):
            session.say(f"s{number}", 1, ["MORE"], "completion", '{"half":')
        session.ask("too-many", SHORT)
        told = session.hear("too-many", kind="ERROR")
        assert "RST" in told["flags"] and told["payload"]["content"]["code"] == "EWINDOW", told
        session.say("s5", 2, ["FIN", "RST"], "ERROR", {"code": "EPOLICY", "reason": ""})
        assert session.whole(session.ask("then", SHORT)) == words(5)


@kit.check
def past_its_window_a_session_is_told_and_shown_the_window():
    with Session(proxy, window={**frames.WINDOW, "max_parallel": 2}) as session:
        assert session.granted["window"]["max_parallel"] == 2, session.granted
        session.ask("1", SLOW), session.ask("2", SLOW)
        session.hear("1"), session.hear("2")
        session.ask("3", SHORT)
        told = session.hear("3", kind="ERROR")
        assert told["payload"]["content"]["code"] == "EWINDOW" and "RST" in told["flags"], told
        update = session.control("WINDOW_UPDATE")
        assert update["window"]["max_parallel"] == 2, update
        session.say("1", 0, ["RST"], "ERROR", {"code": "EPOLICY", "reason": ""})
        kit.until("there is room again", lambda: is_answered(session))


def is_answered(session, tried=[0]):
    tried[0] += 1
    stream = session.ask(f"again-{tried[0]}", SHORT)
    return "RST" not in session.rest(stream)[-1]["flags"]


@kit.check
def a_stream_nobody_takes_stops_alone_and_its_upstream_with_it():
    mock.reset()
    with Session(proxy) as session:
        session.ask("unread", FLOOD)
        session.hear("unread")
        for number in range(20):
            assert session.whole(session.ask(f"{number}", SHORT)) == words(5)
        held = sum(len(frames.compact(f["payload"]["content"])) for f in session.heard["unread"])
        assert held <= 256 * 1024, held
        assert mock.stats(FLOOD).get("completed", 0) == 0
        # It goes on as soon as somebody takes what there is.
        seq = session.heard["unread"][-1]["msg_seq"]
        session.say("unread", seq, ["ACK"], "ACK")
        kit.until("more of it", lambda: session.hear("unread")["msg_seq"] > seq)


# Silence, and the end.


@kit.check
def a_session_that_says_nothing_ends_and_one_that_beats_lives():
    IDLE.join(kit.CHECK_S)
    assert OUTCOME.get("idle") == "FIN idle", OUTCOME
    assert OUTCOME.get("beating") == words(5), OUTCOME


def idle():
    try:
        silent, beating = Session(proxy), Session(proxy)
        started, said = time.monotonic(), None
        while said is None and time.monotonic() < started + 45:
            beating.say("", 0, ["HB"], "HEARTBEAT")
            beating.drain(1)
            said = silent.look_for_end(1)
        OUTCOME["idle"] = said
        OUTCOME["beating"] = beating.whole(beating.ask("1", SHORT))
    except Exception as error:
        OUTCOME["error"] = repr(error)


@kit.check
def a_drain_lets_streams_finish_and_says_fin():
    plane = kit.Proxy(resources, drain={"delay_ms": 0, "grace_ms": 15_000})
    session = Session(plane)
    stream = session.ask("1", LONG)
    first = session.hear(stream)
    ended = threading.Thread(target=plane.stop)
    ended.start()
    assert text_of([first, *session.rest(stream)]) == words(300)
    session.say(stream, session.heard[stream][-1]["msg_seq"], ["ACK"], "ACK")
    assert session.look_for_end(10) is not None
    ended.join(kit.PATIENCE_S)
    assert plane.child.returncode == 0, plane.said()


@kit.check
def a_drain_does_not_wait_for_whoever_might_come_back():
    plane = kit.Proxy(resources, drain={"delay_ms": 0, "grace_ms": 15_000})
    session = Session(plane, resume=True)
    assert session.whole(session.ask("1", SHORT)) == words(5)
    session.connection.cut()
    kit.until("it waits", lambda: plane.metric("atp_sessions_suspended_total") == 1)
    started = time.monotonic()
    assert plane.stop() == 0, plane.said()
    assert time.monotonic() - started < 5, "nothing was under way"


@kit.check
def nothing_is_left_over():
    kit.until("no work is under way", lambda: proxy.metric("atp_upstream_in_flight") == 0)


@kit.check
def no_task_broke_an_invariant():
    assert not panics(proxy), panics(proxy)


OUTCOME = {}
IDLE = threading.Thread(target=idle, daemon=True)
IDLE.start()

kit.main(proxy, mock)
