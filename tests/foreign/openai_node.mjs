#!/usr/bin/env node
// The official OpenAI SDK for Node works against the proxy, and no broken answer looks whole to it.
//
//     npm ci && node openai_node.mjs

import assert from "node:assert/strict";
import { createHash } from "node:crypto";

import OpenAI from "openai";

import * as kit from "./kit.mjs";
import { check } from "./kit.mjs";

const CASES = kit.cases();
const CALLERS_KEY = "sk-of-the-caller";
const HELLO = [{ role: "user", content: 'hello, wörld \u2028 "quoted"' }];
const PARAMETERS = { type: "object", properties: {} };
const TOOLS = [{ type: "function", function: { name: "weather", parameters: PARAMETERS } }];
const ODDITIES = [1e-7, null, "é😀\u0000", "</script>", { model: "inner" }];
const ODD = { x_odd: { b: 1.5, a: ODDITIES }, seed: Number.MAX_SAFE_INTEGER };
const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const STREAMS = CASES.broken_streams.map((words) => `s--${words}`);
const ANSWERS = Object.entries(CASES.broken_answers).map(([words, status]) => [`a--${words}`, status]);
const SLOWLY = "mock--tokens-500--token-rate-50";

process.env.ADAPTER_KEY = "sk-of-the-adapter";
const mock = await kit.mock();
const renamed = { name: "renamed", upstream_name: "mock-upstream" };
const proxy = await kit.proxy(
  [
    kit.adapter("local", mock.url, ["mock-small", "mock-model--tokens-5", SLOWLY, renamed], {
      auth: { bearer: "${ADAPTER_KEY}" },
    }),
    ...kit.alone(mock.url, [...STREAMS, ...ANSWERS.map(([model]) => model)], CASES.timeout),
  ],
  { limits: { body_bytes: 65536 } },
);
const keys = [{ sha256: createHash("sha256").update("sk-acme").digest("hex") }];
const locked = await kit.proxy([
  kit.adapter("local", mock.url, ["mock-small"]),
  { kind: "Tenant", name: "acme", spec: { keys } },
]);

let sent;
function sdk(of, apiKey, options = {}) {
  const recording = (url, init) => {
    sent = init.body;
    return fetch(url, init);
  };
  const always = { baseURL: `${of.url}/v1`, apiKey, maxRetries: 0, timeout: 15_000, fetch: recording };
  return new OpenAI({ ...always, ...options });
}

const client = sdk(proxy, CALLERS_KEY);
const words = (count) => Array.from({ length: count }, (_, at) => `tok${at + 1}`).join(" ");
const choicesOf = (chunks) => chunks.flatMap((chunk) => chunk.choices);
const textOf = (chunks) => choicesOf(chunks).map((choice) => choice.delta.content ?? "").join("");

function header(request, wanted) {
  return request.headers.filter(([name]) => name.toLowerCase() === wanted).map(([, value]) => value);
}

function chat(body = {}, options = {}, of = client) {
  return of.chat.completions.create({ model: "mock-small", messages: HELLO, ...body }, options);
}

async function all(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

async function raised(kind, promise) {
  try {
    await promise;
  } catch (error) {
    assert(error instanceof kind, `${kind.name} expected, not ${error.stack}`);
    return error;
  }
  throw new Error(`no ${kind.name}`);
}

check("a chat answers with text and usage", async () => {
  const answer = await chat({ model: "mock-model--tokens-5" });
  assert.equal(answer.choices[0].message.content, words(5));
  assert.equal(answer.usage.completion_tokens, 5);
});

check("a streamed chat comes in chunks to its finish reason", async () => {
  const chunks = await all(chat({ stream: true }));
  assert.equal(textOf(chunks), words(20));
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
});

check("without include_usage no chunk carries usage", async () => {
  const chunks = await all(chat({ stream: true }));
  assert(chunks.every((chunk) => !chunk.usage && chunk.choices.length), JSON.stringify(chunks));
});

check("with include_usage the last chunk carries it", async () => {
  const chunks = await all(chat({ stream: true, stream_options: { include_usage: true } }));
  assert.deepEqual(chunks.at(-1).choices, []);
  assert.equal(chunks.at(-1).usage.completion_tokens, 20);
});

check("a tool call comes whole and in pieces", async () => {
  const call = (await chat({ tools: TOOLS })).choices[0].message.tool_calls[0];
  assert.equal(call.function.name, "weather");
  assert.deepEqual(JSON.parse(call.function.arguments), { input: words(20) });
  const chunks = await all(chat({ tools: TOOLS, stream: true }));
  const deltas = chunks.flatMap((chunk) => chunk.choices[0].delta.tool_calls ?? []);
  assert.equal(deltas[0].function.name, "weather");
  const spelled = deltas.map((delta) => delta.function.arguments).join("");
  assert.deepEqual(JSON.parse(spelled), { input: words(20) });
});

check("the SDK's own accumulating stream works", async () => {
  const stream = client.chat.completions.stream({ model: "mock-small", messages: HELLO });
  assert.equal(await stream.finalContent(), words(20));
});

check("several choices come apart whole and streamed", async () => {
  const answer = await chat({ n: 3 });
  assert.deepEqual(answer.choices.map((choice) => choice.message.content), Array(3).fill(words(20)));
  const choices = choicesOf(await all(chat({ n: 3, stream: true })));
  for (const index of [0, 1, 2]) {
    const own = choices.filter((choice) => choice.index === index);
    assert.equal(own.map((choice) => choice.delta.content ?? "").join(""), words(20));
  }
});

check("completions answer whole and streamed", async () => {
  const ask = { model: "mock-small", prompt: "hi" };
  assert.equal((await client.completions.create(ask)).choices[0].text, words(20));
  const chunks = await all(client.completions.create({ ...ask, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(""), words(20));
});

check("embeddings come one per input", async () => {
  const answer = await client.embeddings.create({ model: "mock-small", input: ["a", "b"] });
  assert.deepEqual(answer.data.map((item) => item.embedding.length), [16, 16]);
});

check("models are listed and looked up", async () => {
  const names = (await all(client.models.list())).map((model) => model.id);
  for (const name of ["mock-small", "local/mock-small", "renamed"]) assert(names.includes(name), name);
  assert.equal((await client.models.retrieve("mock-small")).id, "mock-small");
  assert.equal((await client.models.retrieve("local/mock-small")).id, "local/mock-small");
  const error = await raised(OpenAI.NotFoundError, client.models.retrieve("no-such-model"));
  assert.equal(error.code, "model_not_found");
});

check("a body arrives upstream byte for byte, but for a model's other name", async () => {
  await chat(ODD);
  assert.equal((await mock.lastRequest()).body, sent);
  await all(chat({ ...ODD, stream: true, stream_options: { include_usage: true } }));
  assert.equal((await mock.lastRequest()).body, sent);
  await chat({ model: "renamed", ...ODD });
  assert.equal((await mock.lastRequest()).body, sent.replace('"renamed"', '"mock-upstream"'));
});

check("the caller's key never arrives upstream but the adapter's does", async () => {
  await chat({}, { headers: { "x-api-key": CALLERS_KEY, cookie: `k=${CALLERS_KEY}` } });
  const request = await mock.lastRequest();
  assert.deepEqual(header(request, "authorization"), ["Bearer sk-of-the-adapter"]);
  assert(!JSON.stringify(request.headers).includes(CALLERS_KEY));
});

check("a request id passes both ways and is made where there is none", async () => {
  const answer = await chat({}, { headers: { "x-request-id": "id-of-the-caller", traceparent: TRACE } });
  assert.equal(answer._request_id, "id-of-the-caller");
  assert.deepEqual(header(await mock.lastRequest(), "x-request-id"), ["id-of-the-caller"]);
  assert.deepEqual(header(await mock.lastRequest(), "traceparent"), [TRACE]);
  assert.deepEqual([(await chat())._request_id], header(await mock.lastRequest(), "x-request-id"));
});

check("a missing or unknown key is an AuthenticationError", async () => {
  assert((await chat({}, {}, sdk(locked, "sk-acme"))).choices.length);
  const wrong = sdk(locked, "sk-wrong");
  const error = await raised(OpenAI.AuthenticationError, chat({}, {}, wrong));
  assert.equal(error.code, "invalid_api_key");
  await raised(OpenAI.AuthenticationError, chat({ stream: true }, {}, wrong));
  await raised(OpenAI.AuthenticationError, chat({}, { headers: { authorization: null } }, wrong));
});

check("an unknown model is a NotFoundError that names what exists", async () => {
  const of = sdk(locked, "sk-acme");
  const error = await raised(OpenAI.NotFoundError, chat({ model: "mock-smal" }, {}, of));
  assert.equal(error.code, "model_not_found");
  assert.match(error.message, /mock-small/);
});

check("a malformed request is a BadRequestError", async () => {
  await raised(OpenAI.BadRequestError, chat({ model: 5 }));
  await raised(OpenAI.BadRequestError, client.post("/chat/completions", { body: [] }));
});

check("a body over the limit is refused with 413", async () => {
  const error = await raised(OpenAI.APIError, chat({ padding: "x".repeat(70_000) }));
  assert.equal(error.status, 413);
});

for (const [model, status] of ANSWERS) {
  check(`a broken answer is an error of its status: ${model}`, async () => {
    const error = await raised(OpenAI.APIError, chat({ model }));
    assert.equal(error.status, status, error.stack);
    if (model.includes("--retry-after-")) {
      assert.equal(error.headers.get("retry-after"), model.split("-").at(-1));
    }
  });
}

for (const model of STREAMS) {
  check(`a broken stream raises: ${model}`, async () => {
    const seen = [];
    const error = await raised(
      OpenAI.APIError,
      (async () => {
        for await (const chunk of await chat({ model, stream: true })) seen.push(chunk);
      })(),
    );
    const isCut = error instanceof OpenAI.APIConnectionError;
    assert(!isCut, `the connection broke before the error was read: ${error}`);
    assert(error.message);
    if (error.status) {
      assert(seen.length === 0 && [502, 504].includes(error.status), error.stack);
    } else {
      assert(seen.length && words(20).startsWith(textOf(seen)), error.stack);
      assert(!choicesOf(seen).some((choice) => choice.finish_reason));
    }
  });
}

check("a caller that leaves cancels upstream and pays for what came", async () => {
  await mock.reset();
  const paid = () => proxy.metric("atp_model_output_tokens_total", `model="${SLOWLY}"`);
  const before = await paid();
  const seen = [];
  const stream = await chat({ model: SLOWLY, stream: true });
  let leftAt;
  for await (const chunk of stream) {
    seen.push(chunk);
    if (seen.length === 9) {
      leftAt = Date.now();
      stream.controller.abort();
      break;
    }
  }
  const [cancel] = await kit.until("the mock saw its client leave", async () => {
    const { cancels } = await mock.stats(SLOWLY);
    return cancels.length ? cancels : undefined;
  });
  const lateMs = cancel.seen_at_unix_ns / 1e6 - leftAt;
  assert(lateMs < 100, `cancelled after ${lateMs} ms`);
  const charged = await kit.until("the attempt is charged", async () => (await paid()) - before);
  const tokens = textOf(seen).split("tok").length - 1;
  assert(tokens <= charged && charged <= cancel.tokens_sent, `${tokens} ${charged} ${cancel.tokens_sent}`);
});

await kit.main();
