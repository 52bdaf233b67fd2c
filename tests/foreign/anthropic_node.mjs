#!/usr/bin/env node
// The official Anthropic SDK for Node works against either kind of adapter; no broken answer looks whole to it.
//
//     npm ci && node anthropic_node.mjs

import assert from "node:assert/strict";

import Anthropic from "@anthropic-ai/sdk";

import * as kit from "./kit.mjs";
import { check } from "./kit.mjs";

const MAX = 200;
const HELLO = [{ role: "user", content: 'hello, wörld \u2028 "quoted"' }];
const SCHEMA = { type: "object", properties: { input: { type: "string" } }, required: ["input"] };
const TOOLS = [{ name: "weather", description: "The weather", input_schema: SCHEMA }];
const BROKEN = ["cut-after-2", "end-after-2", "sse-error-after-2", "malformed-sse-after-2"];
const MODELS = ["claude--tokens-4", "gpt--tokens-4"];
const OVERLOADED = "claude--status-529";
const SLOWLY = "claude--tokens-500--token-rate-50";
const WORDS = "tok1 tok2 tok3 tok4";

const mock = await kit.mock();

/** Of Anthropic's kind, whose endpoint has no `/v1`. */
function theirs(name, ...models) {
  const named = models.map((model) => ({ name: model, price: { in: 1, out: 2, cache_write: 4 } }));
  return { kind: "Adapter", name, spec: { kind: "anthropic", endpoint: mock.url, models: named } };
}

const proxy = await kit.proxy([
  theirs("theirs", MODELS[0], SLOWLY),
  kit.adapter("ours", mock.url, [MODELS[1]]),
  theirs("full", OVERLOADED),
  ...BROKEN.map((words, number) => theirs(`broken-${number}`, `claude--${words}`)),
  ...kit.alone(mock.url, BROKEN.map((words) => `gpt--${words}`)),
]);
const always = { baseURL: proxy.url, apiKey: "of-the-caller", maxRetries: 0, timeout: 15_000 };
const { messages } = new Anthropic(always);

function ask(model, more = {}) {
  return { model, max_tokens: MAX, messages: HELLO, ...more };
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

for (const model of MODELS) {
  check(`a message is answered whole: ${model}`, async () => {
    const { data: answer, request_id } = await messages.create(ask(model)).withResponse();
    assert.deepEqual(answer.content.map((block) => block.text), [WORDS]);
    assert.equal(answer.stop_reason, "end_turn");
    assert.equal(answer.usage.output_tokens, 4);
    assert(answer.usage.input_tokens > 0 && request_id);
    const cut = await messages.create(ask(model, { max_tokens: 2 }));
    assert.deepEqual([cut.stop_reason, cut.content[0].text], ["max_tokens", "tok1 tok2"]);
  });

  check(`a message is streamed: ${model}`, async () => {
    const stream = messages.stream(ask(model));
    let text = "";
    stream.on("text", (piece) => (text += piece));
    const final = await stream.finalMessage();
    assert.deepEqual([text, final.content[0].text], [WORDS, WORDS]);
    assert.equal(final.usage.output_tokens, 4);
    assert(final.usage.input_tokens > 0);
  });

  check(`a tool is called and its result answered, streamed: ${model}`, async () => {
    const stream = messages.stream(ask(model, { tools: TOOLS, tool_choice: { type: "any" } }));
    let spelled = "";
    stream.on("inputJson", (piece) => (spelled += piece));
    const called = await stream.finalMessage();
    const [call] = called.content;
    assert.deepEqual([called.stop_reason, call.type, call.name], ["tool_use", "tool_use", "weather"]);
    assert.deepEqual(call.input, { input: WORDS });
    assert.deepEqual(JSON.parse(spelled), call.input);
    const result = { type: "tool_result", tool_use_id: call.id, content: "12 °C" };
    const said = [{ role: "assistant", content: called.content }, { role: "user", content: [result] }];
    const answered = await messages
      .stream(ask(model, { messages: [...HELLO, ...said], tools: TOOLS }))
      .finalMessage();
    assert.deepEqual([answered.stop_reason, answered.content[0].text], ["end_turn", WORDS]);
  });

  check(`tokens are counted: ${model}`, async () => {
    assert((await messages.countTokens({ model, messages: HELLO })).input_tokens > 0);
  });
}

check("errors are those of the SDK", async () => {
  const unknown = await raised(Anthropic.NotFoundError, messages.create(ask("nobody")));
  assert.equal(unknown.error.error.type, "not_found_error");
  assert(unknown.requestID);
  const full = await raised(Anthropic.APIError, messages.create(ask(OVERLOADED)));
  assert.deepEqual([full.status, full.error.error.type], [529, "overloaded_error"]);
  const wrong = { messages: [{ role: "user", content: 5 }] };
  await raised(Anthropic.BadRequestError, messages.create(ask(MODELS[1], wrong)));
});

for (const words of BROKEN) {
  for (const model of [`claude--${words}`, `gpt--${words}`]) {
    check(`a broken stream raises: ${model}`, async () => {
      await raised(Anthropic.APIError, messages.stream(ask(model)).finalMessage());
      await raised(
        Anthropic.APIError,
        (async () => {
          for await (const event of await messages.create(ask(model, { stream: true }))) {
            assert.notEqual(event.type, "message_stop");
          }
        })(),
      );
    });
  }
}

check("a caller that leaves ends the work upstream", async () => {
  const stream = messages.stream(ask(SLOWLY, { max_tokens: 1000 }));
  stream.on("text", () => stream.abort());
  await raised(Anthropic.APIUserAbortError, stream.finalMessage());
  await kit.until("the mock saw its client leave", async () => (await mock.stats(SLOWLY)).cancels.length);
});

await kit.main();
