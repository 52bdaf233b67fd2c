#!/usr/bin/env python3
"""A receiver made of OpenTelemetry's own messages reads what the proxy exports.

    pip install -r requirements.txt
    otlp.py
"""

import json
import os
import threading
from concurrent import futures

# Before grpc, which takes the folder of this script off the path.
import kit
from kit import check

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as stubs
from opentelemetry.proto.trace.v1 import trace_pb2 as trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Receiver(stubs.TraceServiceServicer):
    def __init__(self):
        self.spans, self.resources, self.headers, self.lock = [], [], [], threading.Lock()

    def Export(self, request, context):  # its name in the protocol
        with self.lock:
            self.headers.append(dict(context.invocation_metadata()))
            for of_resource in request.resource_spans:
                self.resources.append(values(of_resource.resource.attributes))
                for of_scope in of_resource.scope_spans:
                    self.spans.extend(of_scope.spans)
        return service.ExportTraceServiceResponse()

    def of(self, trace_id):
        with self.lock:
            return {s.name: s for s in self.spans if s.trace_id.hex() == trace_id}


def values(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


receiver = Receiver()
server = grpc.server(futures.ThreadPoolExecutor(2))
stubs.add_TraceServiceServicer_to_server(receiver, server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
os.environ |= {
    "ROUTER_ENABLE_TRACING": "1",
    "ROUTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-key=hush",
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=check",
    "OTEL_BSP_SCHEDULE_DELAY": "10",
}
mock = kit.Mock()
proxy = kit.Proxy([kit.adapter("here", mock.url, "plain")])


def sent(name):
    """Values of a header that reached the adapter last."""
    return [value for known, value in mock.last_request()["headers"] if known.lower() == name]


def post(path, body, traceparent):
    headers = {"content-type": "application/json", "traceparent": traceparent}
    return kit.fetch(f"{proxy.url}{path}", "POST", json.dumps(body).encode(), headers)


@check
def an_ask_is_one_tree_below_its_callers_span_and_the_adapter_is_told():
    status, _ = post("/v1/ask", {"prompt": "not to be recorded", "model": "plain"}, f"00-{TRACE}-{SPAN}-01")
    assert status == 200
    spans = kit.until("the whole tree", lambda: "chat plain" in receiver.of(TRACE) and receiver.of(TRACE))
    wanted = {"chat plain", "ask", "bandit.select", "fair.acquire", "dispatch", "adapter.stream"}
    assert set(spans) == wanted, set(spans)
    root, ask = spans["chat plain"], spans["ask"]
    assert root.parent_span_id.hex() == SPAN and root.kind == trace.Span.SPAN_KIND_SERVER
    assert ask.parent_span_id == root.span_id
    for name in ("bandit.select", "fair.acquire", "dispatch"):
        assert spans[name].parent_span_id == ask.span_id, name
    attempt = spans["adapter.stream"]
    assert attempt.parent_span_id == spans["dispatch"].span_id
    told = values(root.attributes)
    assert told["gen_ai.response.model"] == "plain" and told["gen_ai.provider.name"] == "here", told
    assert told["gen_ai.usage.output_tokens"] > 0, told
    for span in spans.values():
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano, span
        assert span.end_time_unix_nano <= root.end_time_unix_nano, span
        assert span.status.code == trace.Status.STATUS_CODE_UNSET and "recorded" not in str(span), span
    assert sent("traceparent") == [f"00-{TRACE}-{attempt.span_id.hex()}-01"]


@check
def who_they_are_of_is_said_and_headers_go_along():
    kit.until("a call", lambda: receiver.resources)
    assert receiver.resources[0]["service.name"] == "atp-router"
    assert receiver.resources[0]["deployment.environment"] == "check"
    assert receiver.headers[0]["x-key"] == "hush"


@check
def a_caller_that_does_not_record_is_not_recorded_and_its_context_goes_through():
    mine = f"00-{'a' * 32}-{SPAN}-00"
    body = {"model": "plain", "messages": [{"role": "user", "content": "hi"}]}
    assert post("/v1/chat/completions", body, mine)[0] == 200
    assert sent("traceparent") == [mine]
    later = "b" * 32
    assert post("/v1/chat/completions", body, f"00-{later}-{SPAN}-01")[0] == 200
    kit.until("a later one", lambda: receiver.of(later))
    assert not receiver.of("a" * 32)


@check
def a_call_of_a_tool_is_below_the_span_its_message_names():
    theirs = "d" * 32
    params = {"name": "adapter.here", "arguments": {"prompt": "not to be recorded"}}
    params["_meta"] = {"traceparent": f"00-{theirs}-{SPAN}-01"}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    assert post("/mcp", call, f"00-{'e' * 32}-{SPAN}-01")[0] == 200
    first = lambda: [span for name, span in receiver.of(theirs).items() if name.startswith("chat ")]
    assert kit.until("its first span", first)[0].parent_span_id.hex() == SPAN
    spans = receiver.of(theirs)
    assert "recorded" not in str(spans), spans
    assert sent("traceparent") == [f"00-{theirs}-{spans['adapter.stream'].span_id.hex()}-01"]
    assert not receiver.of("e" * 32)


@check
def what_an_answer_was_worth_to_its_run_is_told():
    mine = "f" * 32
    headers = {"content-type": "application/json", "traceparent": f"00-{mine}-{SPAN}-01", "x-atp-session": "r"}
    body = {"model": "plain", "messages": [{"role": "user", "content": "hi"}]}
    assert kit.fetch(f"{proxy.url}/v1/chat/completions", "POST", json.dumps(body).encode(), headers)[0] == 200
    spans = kit.until("its spans", lambda: "chat plain" in receiver.of(mine) and receiver.of(mine))
    told = values(spans["aimd.feedback"].attributes)
    assert told["ok"] and told["after"] == told["before"] + 1 and told["latency_ms"] >= 0, told
    assert spans["aimd.feedback"].parent_span_id == spans["chat plain"].span_id


@check
def an_error_is_told_by_its_code():
    missing = "c" * 32
    body = {"model": "there-is-none", "messages": []}
    assert post("/v1/chat/completions", body, f"00-{missing}-{SPAN}-01")[0] == 404
    span = kit.until("its span", lambda: receiver.of(missing)).get("chat there-is-none")
    assert span.status.code == trace.Status.STATUS_CODE_ERROR
    assert values(span.attributes)["error.type"] == "model_not_found"


@check
def all_that_was_recorded_was_taken():
    kit.until(
        "equal counts",
        lambda: proxy.metric("atp_spans_recorded_total") == proxy.metric("atp_spans_exported_total") > 0,
    )
    assert proxy.metric("atp_spans_dropped_total") == proxy.metric("atp_spans_failed_total") == 0


kit.main(mock, proxy)
