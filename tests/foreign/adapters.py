#!/usr/bin/env python3
"""Adapters that are not OpenAI's: a server of Ollama's shape, one made with grpcio, a persona over one.

The callers are OpenAI's own SDK. Both servers know nothing of this proxy: the one is the standard library's,
the other grpcio's, with messages declared here by their field numbers.
"""

import json
import os
import sys
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Before grpc, which looks for a package that a file of this folder has the name of.
from kit import Proxy, adapter, check, fetch, folder, main, until
from quic_kit import Authority

import grpc
import openai
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "atp.adapter.v1.AdapterService"


class Ollama(BaseHTTPRequestHandler):
    """`/api/chat` as Ollama answers it; the model's name says how."""

    protocol_version = "HTTP/1.1"
    asked, gone = [], []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        Ollama.asked.append((self.path, body))
        if self.path != "/api/chat" or body["model"] == "absent":
            return self.refuse(404, f"model '{body['model']}' not found")
        if body["model"] == "busy":
            return self.refuse(503, "server busy, please try again")
        lines = list(self.lines(body))
        if not body["stream"]:
            message = {"role": "assistant", "content": "".join(l["message"]["content"] for l in lines)}
            return self.whole(200, {**lines[-1], "message": {**lines[-2]["message"], **message}})
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for line in lines:
                self.chunk(json.dumps(line) + "\n")
            while body["model"] == "endless":
                self.chunk(json.dumps(lines[0]) + "\n")
                time.sleep(0.01)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            Ollama.gone.append(body["model"])

    def lines(self, body):
        def line(content="", **more):
            message = {"role": "assistant", "content": content, **more.pop("message", {})}
            return {"model": body["model"], "created_at": "2026-01-01T00:00:00Z", "message": message,
                    "done": False, **more}

        if body.get("tools") and body["messages"][-1]["role"] == "user":
            call = {"function": {"name": "weather", "arguments": {"city": "Oslo"}}}
            yield line(message={"tool_calls": [call]})
        else:
            for word in ("Hello", " wörld", "!"):
                yield line(word)
        if body["model"] != "endless":
            yield line(done=True, done_reason="stop", prompt_eval_count=26, eval_count=3)

    def refuse(self, status, error):
        self.whole(status, {"error": error})

    def whole(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def chunk(self, text):
        data = text.encode()
        # In two parts, so that no line arrives as one.
        for part in (data[:7], data[7:]):
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            self.wfile.flush()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    """Says nothing of callers that left: some do so on purpose."""

    daemon_threads = True

    def handle_error(self, *_):
        pass


def messages():
    """The messages of the service, as a file descriptor that is written here and nowhere else."""
    text, counted, real, flag = (
        descriptor_pb2.FieldDescriptorProto.TYPE_STRING, descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
        descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE, descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    )
    declared = {
        "EstimateRequest": [("stream_id", 1, text), ("task_type", 2, text), ("prompt_json", 3, text)],
        "EstimateResponse": [
            ("in_tokens", 1, counted), ("out_tokens", 2, counted), ("variance_tokens", 6, real),
        ],
        "HealthRequest": [],
        "HealthResponse": [("p95_ms", 1, real), ("error_rate", 2, real)],
        "StreamRequest": [("stream_id", 1, text), ("prompt_json", 2, text)],
        "StreamChunk": [
            ("type", 1, text), ("content_json", 2, text), ("confidence", 3, real),
            ("partial_in_tokens", 4, counted), ("partial_out_tokens", 5, counted),
            ("partial_usd_micros", 6, counted), ("more", 7, flag),
        ],
    }
    file = descriptor_pb2.FileDescriptorProto(name="own.proto", package="own", syntax="proto3")
    for name, fields in declared.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            message.field.add(name=field, number=number, type=kind, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"own.{name}")) for name in declared]


(
    EstimateRequest, EstimateResponse, HealthRequest, HealthResponse, StreamRequest, StreamChunk,
) = messages()


class Adapter(grpc.GenericRpcHandler):
    """Answers `Stream`; the model's name says how."""

    def __init__(self):
        self.asked, self.estimated, self.gone = [], [], threading.Event()

    def service(self, call):
        if call.method == f"/{SERVICE}/Estimate":
            return grpc.unary_unary_rpc_method_handler(
                self.estimate, EstimateRequest.FromString, EstimateResponse.SerializeToString)
        if call.method == f"/{SERVICE}/Health":
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: HealthResponse(p95_ms=12.5, error_rate=0.25),
                HealthRequest.FromString, HealthResponse.SerializeToString)
        if call.method != f"/{SERVICE}/Stream":
            return None
        return grpc.unary_stream_rpc_method_handler(
            self.stream,
            request_deserializer=StreamRequest.FromString,
            response_serializer=StreamChunk.SerializeToString,
        )

    def estimate(self, request, context):
        self.estimated.append(json.loads(request.prompt_json)["model"])
        return EstimateResponse(in_tokens=9, out_tokens=3, variance_tokens=4.0)

    def stream(self, request, context):
        prompt = json.loads(request.prompt_json)
        self.asked.append((prompt, context.time_remaining(), dict(context.invocation_metadata())))
        model = prompt["model"]
        if model == "refusing":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no möbels here")
        if model == "full":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "come back later")
        if model == "endless":
            context.add_callback(self.gone.set)
            while context.is_active():
                yield self.partial("x")
                time.sleep(0.01)
            return
        yield self.partial("Hello", partial_in_tokens=9)
        if model == "breaking":
            time.sleep(0.1)
            context.abort(grpc.StatusCode.INTERNAL, "broke")
        yield self.partial(f" {prompt['prompt']}")
        yield StreamChunk(type="agent.result.final", content_json=json.dumps({"text": "!"}),
                          partial_out_tokens=1)

    def partial(self, text, **counts):
        content = json.dumps({"text": text})
        return StreamChunk(type="agent.result.partial", content_json=content, more=True,
                           **{"partial_out_tokens": 1, **counts})


ollama = Server(("127.0.0.1", 0), Ollama)
threading.Thread(target=ollama.serve_forever, daemon=True).start()
own = Adapter()
server = grpc.server(futures.ThreadPoolExecutor(16))
server.add_generic_rpc_handlers((own,))
port = server.add_insecure_port("127.0.0.1:0")
files = folder()
authority, stranger = Authority(files), Authority(files, "stranger")


def pem(path):
    with open(path, "rb") as file:
        return file.read()


own_cert, own_key = authority.server()
secured_port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials(
    [(pem(own_key), pem(own_cert))], pem(authority.file), require_client_auth=True))
server.start()

OLLAMA = f"http://127.0.0.1:{ollama.server_port}"
GRPC = f"http://127.0.0.1:{port}"
SECURED = f"https://localhost:{secured_port}"


def shown(pair):
    return {"ca": str(authority.file), "cert": str(pair[0]), "key": str(pair[1])}


def of_kind(kind, name, endpoint, *models, **spec):
    made = adapter(name, "", *models, **spec)
    made["spec"] = {**made["spec"], "kind": kind, "endpoint": endpoint}
    if endpoint is None:
        del made["spec"]["endpoint"]
    return made


persona = of_kind("persona", "critic", None, "critic", persona={
    "over": {"adapter": "local", "model": "llama"},
    "system": "You are a harsh critic.",
    "temperature": 0.1,
})
resources = [
    of_kind("ollama", "local", OLLAMA, {"name": "llama", "upstream_name": "llama3.1:8b"}, "endless-llama"),
    of_kind("ollama", "odd", OLLAMA, "absent", "busy"),
    of_kind("ollama", "never", OLLAMA, {"name": "never-ends", "upstream_name": "endless"}),
    *(of_kind("grpc", f"agent-{model}", GRPC, {"name": f"g-{model}", "upstream_name": model})
      for model in ("fine", "refusing", "full", "breaking", "endless")),
    of_kind("grpc", "secured", SECURED, {"name": "g-secured", "upstream_name": "fine"},
            tls=shown(authority.client("plane", ["spiffe://atp.local/dataplane/one"]))),
    of_kind("grpc", "unknown", SECURED, {"name": "g-unknown", "upstream_name": "fine"},
            tls=shown(stranger.client("nobody", ["spiffe://atp.local/dataplane/one"]))),
    persona,
]
# Read by the proxy, which inherits it.
os.environ["ADAPTER_ENDPOINTS"] = json.dumps([GRPC])
proxy = Proxy(resources)
client = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="none", max_retries=0, timeout=20)
HI = [{"role": "user", "content": "hi"}]


def streamed(model, **more):
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(
        model=model, messages=HI, stream=True, stream_options=options, **more))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    return text, chunks


def refused(kind, model):
    try:
        client.chat.completions.create(model=model, messages=HI)
    except kind as error:
        return error
    raise AssertionError(f"{model} was not refused with {kind}")


@check
def an_ollama_streams_its_words_and_its_counts():
    text, chunks = streamed("llama", max_tokens=5)
    assert text == "Hello wörld!", text
    assert chunks[-1].usage.prompt_tokens == 26 and chunks[-1].usage.completion_tokens == 3
    assert chunks[-2].choices[0].finish_reason == "stop"
    path, body = Ollama.asked[-1]
    assert (path, body["model"], body["options"]) == ("/api/chat", "llama3.1:8b", {"num_predict": 5}), body
    assert body["stream"] is True


@check
def an_ollama_answers_whole_where_no_stream_is_wanted():
    answer = client.chat.completions.create(model="llama", messages=HI)
    assert answer.choices[0].message.content == "Hello wörld!"
    assert (answer.usage.total_tokens, answer.choices[0].finish_reason) == (29, "stop")


@check
def tools_of_an_ollama_are_called_and_their_results_go_back():
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    _, chunks = streamed("llama", tools=tools)
    call = chunks[0].choices[0].delta.tool_calls[0]
    assert call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Oslo"}
    reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
    assert reasons[-1] == "tool_calls", reasons
    whole = client.chat.completions.create(model="llama", messages=HI, tools=tools).choices[0]
    assert whole.finish_reason == "tool_calls", whole
    result = {"role": "tool", "tool_call_id": whole.message.tool_calls[0].id, "content": "rain"}
    asked = [*HI, whole.message, result]
    client.chat.completions.create(model="llama", messages=asked, tools=tools)
    sent = Ollama.asked[-1][1]["messages"]
    assert sent[1]["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}, sent
    assert (sent[2]["tool_name"], sent[2]["content"]) == ("weather", "rain"), sent


@check
def refusals_of_an_ollama_are_told_as_openais():
    error = refused(openai.NotFoundError, "absent")
    assert "model 'absent' not found" in str(error), error
    assert refused(openai.InternalServerError, "busy").status_code == 503
    status, body = fetch(f"{proxy.url}/v1/embeddings", "POST", b'{"model":"llama","input":"x"}',
                         {"content-type": "application/json"})
    assert status == 400 and b"no such operation" in body, (status, body)


@check
def a_caller_that_goes_away_stops_an_ollama():
    stream = client.chat.completions.create(model="never-ends", messages=HI, stream=True)
    next(iter(stream))
    stream.close()
    until("Ollama sees that nobody listens", lambda: "endless" in Ollama.gone)


@check
def a_grpc_adapter_streams_its_words_and_its_counts():
    text, chunks = streamed("g-fine")
    assert text == "Hello hi!", text
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (9, 3)
    prompt, left_s, metadata = own.asked[-1]
    assert (prompt["model"], prompt["messages"]) == ("fine", HI), prompt
    assert 0 < left_s <= 600, left_s
    assert metadata["x-request-id"], metadata
    whole = client.chat.completions.create(model="g-fine", messages=HI)
    assert whole.choices[0].message.content == "Hello hi!" and whole.usage.total_tokens == 12


@check
def a_grpc_adapter_behind_tls_is_told_who_asks():
    text, chunks = streamed("g-secured")
    assert text == "Hello hi!" and chunks[-1].usage.completion_tokens == 3, chunks
    before = len(own.asked)
    assert refused(openai.InternalServerError, "g-unknown").status_code == 502
    assert len(own.asked) == before, "with another authority's certificate nobody is answered"


@check
def a_grpc_adapter_is_asked_what_a_prompt_takes_and_how_it_feels():
    until("an estimate was asked for", lambda: "fine" in own.estimated)

    def health():
        rows = {row["endpoint"]: row for row in json.loads(fetch(f"{proxy.url}/adapters/health")[1])}
        row = rows["agent-fine"]
        return (row["p95_ms"], row["reported_error_rate"]) == (12.5, 0.25)

    until("its health is told", health)


@check
def statuses_of_a_grpc_adapter_are_told_as_openais():
    assert "no möbels here" in str(refused(openai.BadRequestError, "g-refusing"))
    assert refused(openai.RateLimitError, "g-full").status_code == 429
    try:
        text, _ = streamed("g-breaking")
    except openai.APIError:
        return
    raise AssertionError(f"it ended well: {text}")


@check
def a_caller_that_goes_away_cancels_a_grpc_adapters_call():
    stream = client.chat.completions.create(model="g-endless", messages=HI, stream=True)
    next(iter(stream))
    stream.close()
    assert own.gone.wait(20), "the call went on"


@check
def a_persona_speaks_first_at_the_adapter_it_stands_over():
    raw = client.chat.completions.with_raw_response.create(model="critic", messages=HI, temperature=1.5)
    assert raw.headers["x-atp-adapter"] == "critic", raw.headers
    assert raw.parse().choices[0].message.content == "Hello wörld!"
    body = Ollama.asked[-1][1]
    assert body["messages"] == [{"role": "system", "content": "You are a harsh critic."}, *HI], body
    assert (body["model"], body["options"]) == ("llama3.1:8b", {"temperature": 0.1}), body


@check
def an_adapter_that_the_environment_names_is_listed_and_answers():
    assert "127.0.0.1" in [model.id for model in client.models.list()]
    answer = client.chat.completions.create(model="127.0.0.1", messages=HI)
    assert answer.choices[0].message.content == "Hello hi!", answer


if __name__ == "__main__":
    sys.exit(main(proxy))
