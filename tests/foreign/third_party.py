#!/usr/bin/env python3
"""A server that is neither OpenAI's nor ours works behind the proxy as it stands: LiteLLM's, with set words.

    pip install -r requirements.txt
    python -m venv OTHER && OTHER/bin/pip install -r requirements-third-party.txt
    third_party.py --litellm OTHER/bin/litellm
"""

import argparse
import json
import os

import kit
import openai
from kit import check

SAID = "said by a third party"
KEY = "sk-of-the-adapter"
HELLO = [{"role": "user", "content": "hi"}]

arguments = argparse.ArgumentParser()
arguments.add_argument("--litellm", required=True)
litellm = arguments.parse_args().litellm

url, held = kit.unserved()
# It takes no port 0. Between this close and its bind another process could take the port: it would not start.
held.close()
parameters = {"model": "openai/none", "api_key": "none", "mock_response": SAID}
config = kit.folder() / "litellm.yaml"
config.write_text(json.dumps({
    "model_list": [{"model_name": "third-party", "litellm_params": parameters}],
    "general_settings": {"master_key": KEY},
}))
# Neither a price list nor telemetry from outside.
quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "NO_DOCS": "True"}
where = ["--host", "127.0.0.1", "--port", url.rsplit(":", 1)[1]]
server = kit.Process([litellm, "--config", str(config), *where, "--telemetry", "False"], quiet)
server.told(r"Uvicorn running on (\S+)", patience_s=90)
os.environ["THIRD_PARTY_KEY"] = KEY
auth = {"bearer": "${THIRD_PARTY_KEY}"}
proxy = kit.Proxy([kit.adapter("litellm", url, "third-party", "not-there", auth=auth)])
client = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="sk-of-the-caller", max_retries=0, timeout=20)


def chat(model="third-party", **options):
    return client.chat.completions.create(model=model, messages=HELLO, **options)


def text(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


@check
def a_chat_is_answered_and_billed():
    answer = chat()
    assert answer.choices[0].message.content == SAID
    counted = proxy.metric("atp_model_output_tokens_total", model="third-party")
    assert counted == answer.usage.completion_tokens, counted


@check
def a_stream_comes_to_its_end():
    chunks = list(chat(stream=True))
    assert text(chunks) == SAID
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]


@check
def a_caller_that_asks_for_usage_gets_it_in_the_stream():
    chunks = list(chat(stream=True, stream_options={"include_usage": True}))
    assert text(chunks) == SAID and chunks[-1].usage.completion_tokens > 0


@check
def a_caller_that_does_not_gets_none():
    chunks = list(chat(stream=True))
    assert not any(chunk.usage for chunk in chunks), chunks[-1]


@check
def a_stream_is_billed_as_its_server_counted():
    before = proxy.metric("atp_model_output_tokens_total", model="third-party")
    usage = list(chat(stream=True, stream_options={"include_usage": True}))[-1].usage
    counted = lambda: proxy.metric("atp_model_output_tokens_total", model="third-party") - before
    kit.until("it is billed", lambda: counted() > 0)
    assert counted() == usage.completion_tokens, (counted(), usage)
    assert proxy.metric("atp_model_output_tokens_estimated_total", model="third-party") == 0


@check
def its_refusals_are_errors_of_the_sdk():
    try:
        raise AssertionError(chat("not-there"))
    except openai.APIStatusError as error:
        assert error.status_code in (400, 404) and error.message, error


@check
def models_are_listed():
    assert "third-party" in {model.id for model in client.models.list()}


kit.main(proxy, server)
