#!/usr/bin/env python3
"""The official SDKs of Anthropic and OpenAI work against either kind of adapter, tools and streams included.

    pip install -r requirements.txt
    anthropic_python.py
"""

import json

import anthropic
import kit
import openai
from kit import check

MAX = 200
HELLO = [{"role": "user", "content": "hello, wörld \u2028 \"quoted\""}]
SCHEMA = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
OWN_TOOLS = [{"name": "weather", "description": "The weather", "input_schema": SCHEMA}]
FUNCTIONS = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
PRICE = {"in": 1, "out": 2, "cache_write": 4}
BROKEN = ["cut-after-2", "end-after-2", "sse-error-after-2", "malformed-sse-after-2"]

mock = kit.Mock()
CLAUDE, GPT = "claude--tokens-4", "gpt--tokens-4"
ECHO = {"theirs": "claude--echo", "ours": "gpt--echo"}
OVERLOADED = "claude--status-529"


def anthropic_adapter(name, *models):
    models = [{"name": model, "price": PRICE} for model in models]
    auth = {"header": "x-api-key", "value": "${HOME}"}
    return kit.adapter(name, mock.url, *models, kind="anthropic", auth=auth)


proxy = kit.Proxy([
    anthropic_adapter("theirs", CLAUDE, ECHO["theirs"]),
    kit.adapter("ours", mock.url, GPT, ECHO["ours"]),
    anthropic_adapter("full", OVERLOADED),
    *(anthropic_adapter(f"broken-{number}", f"claude--{words}") for number, words in enumerate(BROKEN)),
    *kit.alone(mock.url, [f"gpt--{words}" for words in BROKEN]),
])
messages = anthropic.Anthropic(base_url=proxy.url, api_key="of-the-caller", max_retries=0, timeout=15).messages
chats = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="x", max_retries=0, timeout=15).chat.completions


def raised(kind, call):
    try:
        answer = call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {answer!r}")


@check
def a_message_is_answered_whole_by_either_adapter():
    for model in (CLAUDE, GPT):
        answer = messages.create(model=model, max_tokens=MAX, messages=HELLO)
        assert [block.text for block in answer.content] == ["tok1 tok2 tok3 tok4"], answer
        assert (answer.stop_reason, answer.usage.output_tokens, answer.role) == ("end_turn", 4, "assistant")
        assert answer.usage.input_tokens > 0 and answer._request_id, answer
        cut = messages.create(model=model, max_tokens=2, messages=HELLO)
        assert (cut.stop_reason, cut.content[0].text) == ("max_tokens", "tok1 tok2"), cut


@check
def a_message_is_streamed_by_either_adapter():
    for model in (CLAUDE, GPT):
        with messages.stream(model=model, max_tokens=MAX, messages=HELLO) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert text == final.content[0].text == "tok1 tok2 tok3 tok4", final
        assert final.usage.output_tokens == 4 and final.usage.input_tokens > 0, final.usage


@check
def tools_stream_through_messages_to_either_adapter_and_back():
    for model in (CLAUDE, GPT):
        asked = list(HELLO)
        with messages.stream(model=model, max_tokens=MAX, messages=asked, tools=OWN_TOOLS,
                             tool_choice={"type": "any"}) as stream:
            called = stream.get_final_message()
        (call,) = called.content
        assert (called.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "weather"), called
        assert call.input == {"input": "tok1 tok2 tok3 tok4"}, call
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "12 °C"}
        asked += [{"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
        with messages.stream(model=model, max_tokens=MAX, messages=asked, tools=OWN_TOOLS) as stream:
            answered = stream.get_final_message()
        assert (answered.stop_reason, answered.content[0].text) == ("end_turn", "tok1 tok2 tok3 tok4"), answered


@check
def tools_stream_through_chats_to_either_adapter_and_back():
    for model in (CLAUDE, GPT):
        asked = list(HELLO)
        with chats.stream(model=model, messages=asked, tools=FUNCTIONS, tool_choice="required") as stream:
            choice = stream.get_final_completion().choices[0]
        (call,) = choice.message.tool_calls
        assert (choice.finish_reason, call.function.name) == ("tool_calls", "weather"), choice
        assert json.loads(call.function.arguments) == {"input": "tok1 tok2 tok3 tok4"}, call
        calls = [{"id": call.id, "type": "function",
                  "function": {"name": call.function.name, "arguments": call.function.arguments}}]
        asked += [{"role": "assistant", "content": None, "tool_calls": calls},
                  {"role": "tool", "tool_call_id": call.id, "content": "12 °C"}]
        chunks = list(chats.create(model=model, messages=asked, tools=FUNCTIONS, stream=True,
                                   stream_options={"include_usage": True}))
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == "tok1 tok2 tok3 tok4", chunks
        assert chunks[-1].usage.completion_tokens == 4 and chunks[-1].usage.prompt_tokens > 0, chunks[-1]


@check
def what_was_said_arrives_as_it_was_said_on_the_other_side():
    for model in ECHO.values():
        answer = messages.create(model=model, max_tokens=MAX, messages=HELLO, system="Be kind.")
        assert answer.content[0].text == HELLO[0]["content"], answer
        chat = chats.create(model=model, messages=[{"role": "system", "content": "Be kind."}, *HELLO])
        assert chat.choices[0].message.content == HELLO[0]["content"], chat
    last = json.loads(mock.last_request()["body"])
    assert last["messages"][0] == {"role": "system", "content": "Be kind."}, last


@check
def a_prompt_that_is_written_to_a_cache_is_billed_at_its_own_price():
    system = [{"type": "text", "text": "Be kind." * 50, "cache_control": {"type": "ephemeral"}}]
    raw = messages.with_raw_response.create(model=CLAUDE, max_tokens=MAX, messages=HELLO, system=system)
    usage = raw.parse().usage
    cost = usage.input_tokens + usage.cache_creation_input_tokens * 4 + usage.output_tokens * 2
    assert usage.cache_creation_input_tokens > 100, usage
    assert raw.headers["x-atp-cost-usd-micros"] == str(cost), (raw.headers, usage)


@check
def tokens_are_counted_or_estimated():
    counted = messages.count_tokens(model=CLAUDE, messages=HELLO)
    estimated = messages.with_raw_response.count_tokens(model=GPT, messages=HELLO)
    assert counted.input_tokens > 0 and estimated.parse().input_tokens > 0
    assert estimated.headers["x-atp-estimated"] == "true", estimated.headers


@check
def errors_are_those_of_the_callers_sdk():
    unknown = raised(anthropic.NotFoundError,
                     lambda: messages.create(model="nobody", max_tokens=1, messages=HELLO))
    assert unknown.body["error"]["type"] == "not_found_error" and unknown.request_id, unknown.body
    full = raised(anthropic.APIStatusError,
                  lambda: messages.create(model=OVERLOADED, max_tokens=1, messages=HELLO))
    assert (full.status_code, full.body["error"]["type"]) == (529, "overloaded_error"), full.body
    full = raised(openai.InternalServerError, lambda: chats.create(model=OVERLOADED, messages=HELLO))
    assert (full.status_code, full.code) == (503, "upstream_overloaded"), full.body
    server_tool = [{"type": "web_search_20250305", "name": "web_search"}]
    raised(anthropic.BadRequestError,
           lambda: messages.create(model=GPT, max_tokens=1, messages=HELLO, tools=server_tool))
    raised(openai.BadRequestError, lambda: chats.create(model=CLAUDE, messages=HELLO, n=2))


@check
def no_broken_stream_looks_whole_to_either_sdk():
    for words in BROKEN:
        for model in (f"claude--{words}", f"gpt--{words}"):
            def read():
                with messages.stream(model=model, max_tokens=MAX, messages=HELLO) as stream:
                    return stream.get_final_message()

            raised(anthropic.APIError, read)
            raised(openai.APIError, lambda: list(chats.create(model=model, messages=HELLO, stream=True)))


kit.main(proxy, mock)
