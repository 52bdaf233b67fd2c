//! Writes streams in OpenAI's words, for adapters that speak others: chunks of a chat, an error, the end.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::DONE;
use crate::dialect::json::{put, quote};
use crate::dialect::rope::Rope;

/// Writes the events of one answer.
#[derive(Debug)]
pub struct Chunks {
    id: Box<str>,
    /// Seconds since 1970.
    created: u64,
    model: Box<str>,
    has_begun: bool,
    /// Tool calls so far; their indexes count from 0.
    tool_calls: u32,
}

impl Chunks {
    /// `id`: of the answer, made by the caller, since nothing here draws random numbers. `model`: what the
    /// answer calls itself until an upstream says otherwise.
    pub fn new(id: &str, created: u64, model: &str) -> Chunks {
        Chunks { id: id.into(), created, model: model.into(), has_begun: false, tool_calls: 0 }
    }

    /// As the upstream calls it.
    pub fn set_model(&mut self, model: &str) {
        if *self.model != *model {
            self.model = model.into();
        }
    }

    pub fn has_tool_calls(&self) -> bool {
        self.tool_calls > 0
    }

    /// Text the caller sees; nothing for none.
    pub fn text(&mut self, text: &str, out: &mut Rope) {
        self.delta("content", text, out);
    }

    /// What a model thought before it answered.
    pub fn reasoning(&mut self, text: &str, out: &mut Rope) {
        self.delta("reasoning_content", text, out);
    }

    fn delta(&mut self, key: &str, text: &str, out: &mut Rope) {
        if text.is_empty() {
            return;
        }
        let mut event = self.begin(text.len());
        put!(&mut event, "\"{key}\":");
        quote(text, &mut event);
        event.extend_from_slice(b"},\"finish_reason\":null}]}\n\n");
        out.push(event.into());
    }

    /// A whole tool call. `arguments`: JSON text. Without an `id` it gets one of its own.
    pub fn tool_call(&mut self, id: Option<&str>, name: &str, arguments: &str, out: &mut Rope) {
        let at = self.tool_calls;
        self.tool_calls += 1;
        let mut event = self.begin(name.len() + arguments.len());
        put!(&mut event, "\"tool_calls\":[{{\"index\":{at},\"id\":");
        match id.filter(|id| !id.is_empty()) {
            Some(id) => quote(id, &mut event),
            None => quote(&format!("call_{}_{at}", self.id.trim_start_matches("chatcmpl-")), &mut event),
        }
        event.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
        quote(name, &mut event);
        event.extend_from_slice(b",\"arguments\":");
        quote(arguments, &mut event);
        event.extend_from_slice(b"}}]},\"finish_reason\":null}]}\n\n");
        out.push(event.into());
    }

    /// Data that is a chunk already.
    pub fn verbatim(&mut self, chunk: &str, out: &mut Rope) {
        self.has_begun = true;
        out.push(Bytes::from(format!("data: {chunk}\n\n")));
    }

    /// Why it ended, what it took where that is known (tokens of prompt and answer), and that it did.
    pub fn end(&mut self, finish_reason: &str, usage: Option<(u64, u64)>, out: &mut Rope) {
        let mut event = self.begin(0);
        event.extend_from_slice(b"},\"finish_reason\":");
        quote(finish_reason, &mut event);
        event.extend_from_slice(b"}]}\n\n");
        out.push(event.into());
        self.finish(usage, out);
    }

    /// As [`Chunks::end`] where the reason was said already.
    pub fn finish(&mut self, usage: Option<(u64, u64)>, out: &mut Rope) {
        if let Some((input, output)) = usage {
            let mut event = self.head(0);
            put!(&mut event, "[],\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output},");
            put!(&mut event, "\"total_tokens\":{}}}}}\n\n", input.saturating_add(output));
            out.push(event.into());
        }
        out.push(Bytes::from_static(DONE));
    }

    /// Up to the inside of the only choice's delta.
    fn begin(&mut self, more: usize) -> Vec<u8> {
        let mut event = self.head(more);
        event.extend_from_slice(b"[{\"index\":0,\"delta\":{");
        if !self.has_begun {
            self.has_begun = true;
            event.extend_from_slice(b"\"role\":\"assistant\"");
            if more > 0 {
                event.push(b',');
            }
        }
        event
    }

    fn head(&self, more: usize) -> Vec<u8> {
        let mut event = Vec::with_capacity(EVENT_BYTES + more + more / 8);
        event.extend_from_slice(b"data: {\"id\":");
        quote(&self.id, &mut event);
        put!(&mut event, ",\"object\":\"chat.completion.chunk\",\"created\":{},\"model\":", self.created);
        quote(&self.model, &mut event);
        event.extend_from_slice(b",\"choices\":");
        event
    }
}

/// An error inside a stream, as OpenAI's clients read one.
pub fn error_event(message: &str, out: &mut Rope) {
    let mut event = b"data: ".to_vec();
    event.extend_from_slice(&error_body(message));
    event.extend_from_slice(b"\n\n");
    out.push(event.into());
}

/// An error as a whole answer.
pub fn error_body(message: &str) -> Bytes {
    let mut error = Map::new();
    error.insert("message".into(), message.into());
    error.insert("type".into(), "upstream_error".into());
    error.insert("param".into(), Value::Null);
    error.insert("code".into(), Value::Null);
    json!({ "error": error }).to_string().into()
}

/// Of an event without its text.
const EVENT_BYTES: usize = 256;
