#!/usr/bin/env python3
"""The official OpenAI SDK for Python works against the proxy, and no broken answer looks whole to it.

    pip install -r requirements.txt
    openai_python.py
"""

import hashlib
import json
import os
import time

import kit
import openai
from kit import check, each

CASES = kit.cases()
CALLERS_KEY = "sk-of-the-caller"
HELLO = [{"role": "user", "content": "hello, wörld \u2028 \"quoted\""}]
PARAMETERS = {"type": "object", "properties": {}}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
STREAMS = [f"s--{words}" for words in CASES["broken_streams"]]
ANSWERS = {f"a--{words}": status for words, status in CASES["broken_answers"].items()}
ACMES_KEY = hashlib.sha256(b"sk-acme").hexdigest()
SLOWLY = "mock--tokens-500--token-rate-50"

mock = kit.Mock()
REFUSED, _held = kit.unserved()
RESOURCES = [
    kit.adapter("local", mock.url, "mock-small", "mock-model--tokens-5", SLOWLY,
                {"name": "renamed", "upstream_name": "mock-upstream"}, auth={"bearer": "${ADAPTER_KEY}"}),
    kit.adapter("refusing", REFUSED, "nobody-home"),
    kit.route("both", "local", "mock-small", match={"model": "by-route"}),
    *kit.alone(mock.url, [*STREAMS, *ANSWERS], CASES["timeout"]),
]
os.environ["ADAPTER_KEY"] = "sk-of-the-adapter"
proxy = kit.Proxy(RESOURCES, limits={"body_bytes": 65536})
locked = kit.Proxy([
    kit.adapter("local", mock.url, "mock-small"),
    {"kind": "Tenant", "name": "acme", "spec": {"keys": [{"sha256": ACMES_KEY}]}},
])

sent = []


def sdk(of=proxy, key=CALLERS_KEY, **options):
    hooks = {"request": [lambda request: sent.append(request.content)]}
    http = openai.DefaultHttpxClient(event_hooks=hooks)
    base = f"{of.url}/v1"
    return openai.OpenAI(base_url=base, api_key=key, max_retries=0, timeout=15, http_client=http, **options)


client = sdk()


def chat(model="mock-small", of=None, **options):
    return (of or client).chat.completions.create(model=model, messages=HELLO, **options)


def text(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def words(count):
    return " ".join(f"tok{number}" for number in range(1, count + 1))


def raised(kind, call, *arguments, **options):
    try:
        answer = call(*arguments, **options)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {answer!r}")


def header(request, name):
    return [value for key, value in request["headers"] if key.lower() == name]


@check
def a_chat_answers_with_text_and_usage():
    answer = chat("mock-model--tokens-5")
    assert answer.choices[0].message.content == words(5), answer
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 5 and answer.usage.prompt_tokens > 0


@check
def a_streamed_chat_comes_in_chunks_to_its_finish_reason():
    chunks = list(chat(stream=True))
    assert text(chunks) == words(20), chunks
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert len(chunks) >= 21


@check
def a_stream_comes_token_by_token_and_not_at_its_end():
    stream = chat(SLOWLY, stream=True)
    begun, seen = time.monotonic(), []
    for chunk in stream:
        seen.append(time.monotonic() - begun)
        if len(seen) == 11:
            break
    stream.close()
    assert seen[-1] - seen[1] >= 0.1, f"ten tokens at 50 a second came within {seen}"


@check
def without_include_usage_no_chunk_carries_usage():
    for options in [{}, {"stream_options": {"include_usage": False}}]:
        chunks = list(chat(stream=True, **options))
        assert all(chunk.usage is None for chunk in chunks), chunks
        assert all(chunk.choices for chunk in chunks), chunks


@check
def with_include_usage_the_last_chunk_carries_it():
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 20, chunks[-1]
    assert all(chunk.usage is None for chunk in chunks[:-1])


@check
def a_tool_call_comes_whole():
    call = chat(tools=TOOLS).choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and json.loads(call.function.arguments) == {"input": words(20)}


@check
def a_streamed_tool_call_comes_in_pieces():
    deltas = [c for chunk in chat(tools=TOOLS, stream=True) for c in chunk.choices[0].delta.tool_calls or []]
    assert deltas[0].function.name == "weather" and deltas[0].id
    assert json.loads("".join(delta.function.arguments for delta in deltas)) == {"input": words(20)}


@check
def the_sdks_own_accumulating_stream_works():
    with client.chat.completions.stream(model="mock-small", messages=HELLO) as stream:
        assert stream.get_final_completion().choices[0].message.content == words(20)


@check
def several_choices_come_apart_whole_and_streamed():
    answer = chat(n=3)
    assert [choice.message.content for choice in answer.choices] == [words(20)] * 3
    chunks = list(chat(n=3, stream=True))
    for index in range(3):
        own = [c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == index]
        assert "".join(own) == words(20)


@check
def vision_parts_stop_and_limits_pass():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "what is this"}, image]}]
    limits = {"stop": ["x"], "max_completion_tokens": 3}
    answer = client.chat.completions.create(model="mock-small", messages=messages, **limits)
    assert answer.choices[0].finish_reason == "length" and answer.choices[0].message.content == words(3)
    assert mock.last_request()["body"].encode() == sent[-1]


@check
def completions_answer_whole_and_streamed():
    assert client.completions.create(model="mock-small", prompt="hi").choices[0].text == words(20)
    chunks = list(client.completions.create(model="mock-small", prompt="hi", stream=True))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == words(20)


@check
def embeddings_come_one_per_input():
    answer = client.embeddings.create(model="mock-small", input=["a", "b"])
    assert [len(item.embedding) for item in answer.data] == [16, 16]
    assert len(client.embeddings.create(model="mock-small", input="a", dimensions=8).data[0].embedding) == 8


@check
def models_are_listed_and_looked_up():
    names = {model.id for model in client.models.list()}
    assert {"mock-small", "local/mock-small", "renamed", "both"} <= names, names
    assert client.models.retrieve("mock-small").id == "mock-small"
    assert client.models.retrieve("local/mock-small").id == "local/mock-small"
    missing = raised(openai.NotFoundError, client.models.retrieve, "no-such-model")
    assert missing.code == "model_not_found" and "no-such-model" in missing.message, missing


@check
def a_model_is_reached_by_its_adapter_and_by_its_route():
    for name in ["local/mock-small", "by-route"]:
        answer = client.chat.completions.with_raw_response.create(model=name, messages=HELLO)
        assert answer.headers["x-atp-model"] == "mock-small" and answer.headers["x-atp-adapter"] == "local"
        assert json.loads(mock.last_request()["body"])["model"] == "mock-small"


ODDITIES = [1e-7, None, "\u00e9\U0001f600\u0000", "</script>", {"model": "inner"}]
ODD = {"x_odd": {"b": 1.50, "a": ODDITIES}, "seed": 2**64}


@check
def a_body_arrives_upstream_byte_for_byte():
    chat(extra_body=ODD)
    assert mock.last_request()["body"].encode() == sent[-1]
    list(chat(stream=True, stream_options={"include_usage": True}, extra_body=ODD))
    assert mock.last_request()["body"].encode() == sent[-1]


@check
def only_the_models_name_changes_where_it_has_another_upstream():
    chat("renamed", extra_body=ODD)
    assert mock.last_request()["body"].encode() == sent[-1].replace(b'"renamed"', b'"mock-upstream"')


@check
def asking_for_usage_ourselves_leaves_the_rest_of_the_body_alone():
    list(chat(stream=True, extra_body=ODD))
    arrived = mock.last_request()["body"].encode()
    assert json.loads(arrived).pop("stream_options") == {"include_usage": True}
    odd = sent[-1][sent[-1].index(b'"x_odd"'):-1]
    assert odd in arrived, arrived


@check
def the_callers_key_never_arrives_upstream_but_the_adapters_does():
    chat(extra_headers={"x-api-key": CALLERS_KEY, "cookie": f"k={CALLERS_KEY}", "x-atp-session": "s"})
    request = mock.last_request()
    assert header(request, "authorization") == ["Bearer sk-of-the-adapter"], request
    assert CALLERS_KEY not in json.dumps(request["headers"])
    assert not [name for name, _ in request["headers"] if name.lower().startswith("x-atp-")]


@check
def a_request_id_passes_both_ways_and_is_made_where_there_is_none():
    answer = chat(extra_headers={"x-request-id": "id-of-the-caller", "traceparent": TRACE})
    assert answer._request_id == "id-of-the-caller"
    request = mock.last_request()
    assert header(request, "x-request-id") == ["id-of-the-caller"]
    assert header(request, "traceparent") == [TRACE]
    answer = chat()
    assert answer._request_id and header(mock.last_request(), "x-request-id") == [answer._request_id]


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@check
def a_missing_or_unknown_key_is_an_authentication_error():
    assert chat(of=sdk(locked, "sk-acme")).choices[0].message.content == words(20)
    before = mock.stats("mock-small")["requests"]
    wrong = sdk(locked, "sk-wrong")
    error = raised(openai.AuthenticationError, chat, of=wrong)
    assert error.code == "invalid_api_key" and "sk-wrong" not in str(error), error
    raised(openai.AuthenticationError, chat, of=wrong, stream=True)
    raised(openai.AuthenticationError, wrong.models.list)
    raised(openai.AuthenticationError, chat, of=wrong, extra_headers={"Authorization": openai.Omit()})
    assert mock.stats("mock-small")["requests"] == before


@check
def an_unknown_model_is_a_not_found_that_names_what_exists():
    for options in [{}, {"stream": True}]:
        error = raised(openai.NotFoundError, chat, "mock-smal", sdk(locked, "sk-acme"), **options)
        assert error.code == "model_not_found"
        assert "`mock-smal`" in error.message and "mock-small" in error.message, error.message


@check
def a_malformed_request_is_a_bad_request():
    raised(openai.BadRequestError, chat, 5)
    behind, twice = b'{"model":"mock-small","messages":[]} x', b'{"model":"mock-small","model":"renamed"}'
    for body in [b"{", b"[]", b"{}", b"\xff", behind, twice]:
        error = raised(openai.BadRequestError, client.post, "/chat/completions", cast_to=object, content=body)
        assert error.code and error.message, body


@check
def a_body_over_the_limit_is_refused_with_413():
    error = raised(openai.APIStatusError, chat, extra_body={"padding": "x" * 70_000})
    assert error.status_code == 413 and "65536" in error.message, error
    assert chat().choices


@check
def an_upstream_that_refuses_connections_is_a_502():
    for options in [{}, {"stream": True}]:
        error = raised(openai.InternalServerError, chat, "nobody-home", **options)
        assert error.status_code == 502 and error.code == "upstream_unreachable", error


@each(ANSWERS)
def a_broken_answer_is_an_error_of_its_status(model):
    error = raised(openai.APIStatusError, chat, model)
    assert error.status_code == ANSWERS[model], error
    assert error.message, error.body
    if "--retry-after-" in model:
        assert error.response.headers["retry-after"] == model.rsplit("-", 1)[1]
    if error.status_code in (429, 503):
        assert int(error.response.headers["retry-after"]) >= 1


@check
def the_callers_own_deadline_is_a_504():
    error = raised(openai.InternalServerError, chat, SLOWLY, extra_headers={"x-atp-deadline-ms": "200"})
    assert error.status_code == 504 and error.code == "deadline_exceeded", error


@each(STREAMS)
def a_broken_stream_raises(model):
    seen = []
    try:
        for chunk in chat(model, stream=True):
            seen.append(chunk)
    except openai.APIStatusError as error:
        assert not seen and error.status_code in (502, 504) and error.message, error
    except openai.APIError as error:
        assert type(error) is openai.APIError, f"{error!r}: the connection broke before the error was read"
        assert error.message
        assert seen and words(20).startswith(text(seen)), seen
        assert not any(choice.finish_reason for chunk in seen for choice in chunk.choices)
    else:
        raise AssertionError(f"ended as if whole, after {text(seen)!r}")


@each(["completions", "tools"])
def other_streams_raise_too(kind):
    for model in STREAMS:
        if "after-3" not in model:
            continue
        if kind == "tools":
            raised(openai.APIError, lambda: list(chat(model, stream=True, tools=TOOLS)))
        else:
            ask = {"model": model, "prompt": "x", "stream": True}
            raised(openai.APIError, lambda: list(client.completions.create(**ask)))


@check
def a_caller_that_leaves_cancels_upstream_and_pays_for_what_came():
    mock.reset()
    before = proxy.metric("atp_model_output_tokens_total", adapter="local", model=SLOWLY)
    stream = chat(SLOWLY, stream=True)
    seen = [chunk for chunk, _ in zip(stream, range(9))]
    left_at_ns = time.time_ns()
    stream.close()
    cancels = kit.until("the mock saw its client leave", lambda: mock.stats(SLOWLY).get("cancels"))
    late_ms = (cancels[0]["seen_at_unix_ns"] - left_at_ns) / 1e6
    assert late_ms < 100, f"cancelled after {late_ms} ms"
    kit.until("the attempt is charged", lambda: paid() > before)
    tokens, sent_upstream = text(seen).count("tok"), cancels[0]["tokens_sent"]
    assert tokens <= paid() - before <= sent_upstream, (tokens, paid() - before, sent_upstream)
    assert proxy.metric("requests_cancelled_total") >= 1


@check
def a_caller_that_leaves_before_the_first_byte_cancels_too():
    model = "a--hang"
    mock.reset()
    raised(openai.APITimeoutError, chat, model, of=client.with_options(timeout=0.2))
    cancels = kit.until("the mock saw its client leave", lambda: mock.stats(model).get("cancels"))
    assert cancels[0]["seen_at_ns"] - cancels[0]["asked_at_ns"] < 600e6, cancels


def paid():
    return proxy.metric("atp_model_output_tokens_total", adapter="local", model=SLOWLY)


@check
def nothing_is_left_in_flight():
    kit.until("no request in flight", lambda: proxy.metric("atp_upstream_in_flight") == 0)


kit.main(proxy, locked, mock)
