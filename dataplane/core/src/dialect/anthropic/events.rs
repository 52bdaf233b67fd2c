//! A stream of OpenAI's as one of Anthropic's: chunk by chunk, as they come. Remembers which blocks are open,
//! never what is in them.
//!
//! ```text
//!            first chunk          text or thinking        call k of a tool
//! [nothing] ───────────▶ [begun] ────────────────▶ [block] ─────────────▶ [block, call k…]
//!           message_start        block_start                block_stop, block_start
//!                                block_delta…               block_delta…
//! done: block_stop of what is open, message_delta (stop_reason, usage), message_stop
//! ```
//!
//! Text and thinking end when something else begins. Calls of tools stay open until the end: some servers
//! write several at once, by turns. Only the first choice is told.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::json::{put, quote};
use super::write::{Object, inside};
use super::{message_usage, stop_reason};
use crate::bill::Usage;

/// Tells one stream.
#[derive(Debug, Default)]
pub struct ToEvents {
    has_begun: bool,
    /// Blocks that began.
    blocks: u32,
    /// Text or thinking that goes on.
    open: Option<Open>,
    /// OpenAI's index of each call of a tool, and that of its block.
    tools: Vec<(u64, u32)>,
    stop: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
}

#[derive(Deserialize)]
struct Chunk<'c> {
    #[serde(borrow)]
    id: Option<&'c RawValue>,
    #[serde(borrow)]
    model: Option<&'c RawValue>,
    #[serde(borrow, default)]
    choices: Vec<Choice<'c>>,
    #[serde(borrow)]
    error: Option<&'c RawValue>,
}

#[derive(Deserialize)]
struct Choice<'c> {
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    delta: Option<Delta<'c>>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Delta<'c> {
    #[serde(borrow)]
    content: Option<&'c RawValue>,
    #[serde(borrow)]
    refusal: Option<&'c RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'c RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'c RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Vec<Call<'c>>>,
}

#[derive(Deserialize)]
pub(super) struct Call<'c> {
    pub index: Option<u64>,
    #[serde(borrow)]
    pub id: Option<&'c RawValue>,
    #[serde(borrow)]
    pub function: Option<Function<'c>>,
}

#[derive(Deserialize)]
pub(super) struct Function<'c> {
    #[serde(borrow)]
    pub name: Option<&'c RawValue>,
    #[serde(borrow)]
    pub arguments: Option<&'c RawValue>,
}

impl ToEvents {
    pub fn new() -> ToEvents {
        ToEvents::default()
    }

    /// One chunk, a JSON object; what does not read as one adds nothing. Its events are appended to `out`.
    pub fn on_chunk(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return };
        // The relay tells it, and ends the stream.
        if chunk.error.is_some() {
            return;
        }
        self.begin(&chunk, out);
        for choice in chunk.choices {
            if choice.index == 0 {
                self.on_choice(choice, out);
            }
        }
    }

    /// The answer is complete, and took this.
    pub fn finish(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        self.begin(&Chunk { id: None, model: None, choices: Vec::new(), error: None }, out);
        self.close(out);
        for (_, block) in std::mem::take(&mut self.tools) {
            block_stop(block, out);
        }
        let reason = self.stop.unwrap_or("end_turn");
        put!(out, "event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":{{");
        put!(out, r#""stop_reason":"{reason}","stop_sequence":null}},"usage":"#);
        message_usage(usage, out);
        out.extend_from_slice(b"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    fn begin(&mut self, chunk: &Chunk<'_>, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        out.extend_from_slice(b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":");
        let mut message = Object::begin(out);
        message.words("id", chunk.id).text("type", "message").text("role", "assistant");
        message.words("model", chunk.model).json("content", b"[]");
        message.json("stop_reason", b"null").json("stop_sequence", b"null");
        // Nothing is known of them yet; the end says.
        message_usage(&Usage::default(), message.key("usage"));
        message.end();
        out.extend_from_slice(b"}\n\n");
    }

    fn on_choice(&mut self, choice: Choice<'_>, out: &mut Vec<u8>) {
        if let Some(delta) = choice.delta {
            self.piece(Open::Thinking, delta.reasoning_content.or(delta.reasoning), out);
            self.piece(Open::Text, delta.content, out);
            self.piece(Open::Text, delta.refusal, out);
            for call in delta.tool_calls.unwrap_or_default() {
                self.on_call(&call, out);
            }
        }
        if let Some(reason) = choice.finish_reason.filter(|reason| !reason.is_empty()) {
            self.stop = Some(stop_reason(&reason));
        }
    }

    fn piece(&mut self, kind: Open, text: Option<&RawValue>, out: &mut Vec<u8>) {
        let Some(text) = text.filter(|text| inside(text).is_some_and(|text| !text.is_empty())) else {
            return;
        };
        if self.open != Some(kind) {
            self.close(out);
            self.open = Some(kind);
            let block: &[u8] = match kind {
                Open::Text => br#"{"type":"text","text":""}"#,
                Open::Thinking => br#"{"type":"thinking","thinking":"","signature":""}"#,
            };
            self.block_start(block, out);
        }
        let (delta, key) = match kind {
            Open::Text => ("text_delta", "text"),
            Open::Thinking => ("thinking_delta", "thinking"),
        };
        block_delta(self.blocks - 1, delta, key, text.get().as_bytes(), out);
    }

    fn on_call(&mut self, call: &Call<'_>, out: &mut Vec<u8>) {
        self.close(out);
        let function = call.function.as_ref();
        // Servers that leave the index out write one call after another, each with its id.
        let is_new = call.id.is_some_and(|id| inside(id).is_some_and(|id| !id.is_empty()));
        let last = self.tools.last().map(|(index, _)| *index);
        let index = call.index.unwrap_or(match last {
            Some(last) if is_new => last.saturating_add(1),
            last => last.unwrap_or(0),
        });
        let known = self.tools.iter().find(|(known, _)| *known == index).map(|(_, block)| *block);
        let block = match known {
            Some(block) => block,
            // Bounded: what comes past it is told as the last.
            None if self.tools.len() >= TOOLS_MAX => self.blocks - 1,
            None => {
                let mut block = Vec::new();
                let mut object = Object::begin(&mut block);
                object.text("type", "tool_use").words("id", call.id);
                object.words("name", function.and_then(|function| function.name)).json("input", b"{}").end();
                self.block_start(&block, out);
                self.tools.push((index, self.blocks - 1));
                self.blocks - 1
            }
        };
        let arguments = function.and_then(|function| function.arguments);
        if let Some(text) = arguments.filter(|text| inside(text).is_some_and(|text| !text.is_empty())) {
            block_delta(block, "input_json_delta", "partial_json", text.get().as_bytes(), out);
        }
    }

    fn block_start(&mut self, block: &[u8], out: &mut Vec<u8>) {
        put!(out, "event: content_block_start\ndata: {{\"type\":\"content_block_start\",");
        put!(out, r#""index":{},"content_block":"#, self.blocks);
        out.extend_from_slice(block);
        out.extend_from_slice(b"}\n\n");
        self.blocks += 1;
    }

    /// Ends the text or thinking at hand, which is always the last block.
    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            block_stop(self.blocks - 1, out);
        }
    }
}

/// `json`: a string, quotes included.
fn block_delta(block: u32, delta: &'static str, key: &'static str, json: &[u8], out: &mut Vec<u8>) {
    put!(out, "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",");
    put!(out, r#""index":{block},"delta":{{"type":"#);
    quote(delta, out);
    put!(out, r#","{key}":"#);
    out.extend_from_slice(json);
    out.extend_from_slice(b"}}\n\n");
}

fn block_stop(block: u32, out: &mut Vec<u8>) {
    put!(out, "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":{block}}}\n\n");
}

/// As many tools as OpenAI takes; models call a few at once.
const TOOLS_MAX: usize = 128;
