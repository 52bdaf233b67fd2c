//! A stream of Anthropic's as one of OpenAI's: each event becomes the chunks it amounts to, as it comes.
//! Holds one unfinished event and what names the answer; never the answer.
//!
//! ```text
//! message_start                 role
//! content_block_start  tool     tool_calls[k] with id and name
//! content_block_delta  text     content
//!                      thinking reasoning_content
//!                      json     tool_calls[k].arguments
//! content_block_stop   tool     "{}" where it had no arguments
//! message_delta                 finish_reason, then usage
//! message_stop                  [DONE]
//! ping                          a comment, which keeps the stream alive
//! error                         error
//! ```

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::json::put;
use super::super::rope::Rope;
use super::super::sse::{Event, Splitter, Verdict};
use super::write::{Object, inside};
use super::{Counts, chat_usage, finish_reason, garbled};
use crate::fault::Fault;

/// Reads one stream.
#[derive(Debug, Default)]
pub struct ToChunks {
    splitter: Splitter,
    teller: Teller,
}

/// What of a stream is remembered from event to event.
#[derive(Default)]
struct Teller {
    created_s: u64,
    /// `"id":…,"object":…,"created":…,"model":…`, once it is known.
    head: Vec<u8>,
    counts: Counts,
    /// Calls of tools that began.
    tools: u32,
    /// The block at hand is a call of a tool; whether its arguments have begun.
    open: Option<bool>,
}

#[derive(Deserialize)]
struct Said<'e> {
    #[serde(rename = "type", borrow)]
    what: &'e RawValue,
    #[serde(borrow)]
    message: Option<Message<'e>>,
    #[serde(borrow)]
    content_block: Option<Block<'e>>,
    #[serde(borrow)]
    delta: Option<Delta<'e>>,
    usage: Option<Counts>,
    #[serde(borrow)]
    error: Option<Wrong<'e>>,
}

#[derive(Deserialize)]
struct Message<'e> {
    #[serde(borrow)]
    id: Option<&'e RawValue>,
    #[serde(borrow)]
    model: Option<&'e RawValue>,
    usage: Option<Counts>,
}

#[derive(Deserialize)]
struct Block<'e> {
    #[serde(rename = "type", borrow)]
    what: &'e RawValue,
    #[serde(borrow)]
    id: Option<&'e RawValue>,
    #[serde(borrow)]
    name: Option<&'e RawValue>,
    #[serde(borrow)]
    text: Option<&'e RawValue>,
    #[serde(borrow)]
    thinking: Option<&'e RawValue>,
}

#[derive(Deserialize)]
struct Delta<'e> {
    #[serde(borrow)]
    text: Option<&'e RawValue>,
    #[serde(borrow)]
    thinking: Option<&'e RawValue>,
    #[serde(borrow)]
    partial_json: Option<&'e RawValue>,
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Wrong<'e> {
    #[serde(rename = "type", borrow)]
    pub what: Option<&'e RawValue>,
    #[serde(borrow)]
    pub message: Option<&'e RawValue>,
}

impl ToChunks {
    /// `created_s`: seconds since 1970.
    pub fn new(created_s: u64) -> ToChunks {
        ToChunks { teller: Teller { created_s, ..Teller::default() }, ..ToChunks::default() }
    }

    /// Reads the next piece; the chunks of what ends in it are appended to `out`.
    ///
    /// # Errors
    /// `Garbled`: an event is longer than is held, or is not what Anthropic's are.
    pub fn push(&mut self, piece: &Bytes, out: &mut Rope) -> Result<(), Fault> {
        let (mut nowhere, mut told, mut outcome) = (Rope::new(), Vec::new(), Ok(()));
        let pushed = self.splitter.push(piece, &mut nowhere, |event| {
            if outcome.is_ok() {
                outcome = self.teller.on_event(event, &mut told);
            }
            Verdict::Drop
        });
        out.push(told.into());
        outcome.and(pushed)
    }

    /// The body ended: the last event counts without the blank line that some servers leave out.
    pub fn end(&mut self, out: &mut Rope) {
        let mut told = Vec::new();
        if let Some(event) = self.splitter.tail()
            && self.teller.on_event(event, &mut told).is_ok()
        {
            out.push(told.into());
        }
    }
}

impl Teller {
    fn on_event(&mut self, event: Event<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(data) = event.data.filter(|data| !data.trim_ascii().is_empty()) else { return Ok(()) };
        let said: Said<'_> = serde_json::from_slice(data).map_err(|_| garbled())?;
        let Said { what, message, content_block, delta, usage, error } = said;
        match what.get().trim_matches('"') {
            "message_start" => self.on_start(message.ok_or(garbled())?, out),
            "content_block_start" => self.on_block(&content_block.ok_or(garbled())?, out),
            "content_block_delta" => self.on_delta(&delta.ok_or(garbled())?, out),
            // A call without arguments has an empty object, which has to be said there.
            "content_block_stop" if self.open.take() == Some(false) => self.arguments(b"{}", out),
            "message_delta" => {
                self.counts.update(usage.unwrap_or_default());
                if let Some(reason) = delta.and_then(|delta| delta.stop_reason) {
                    self.on_finish(&reason, out);
                }
            }
            "message_stop" => out.extend_from_slice(super::super::openai::DONE),
            "error" => fault(&error.ok_or(garbled())?, out),
            // Only once there is an answer: before it nothing may look like one.
            "ping" if !self.head.is_empty() => out.extend_from_slice(b": ping\n\n"),
            _ => {}
        }
        Ok(())
    }

    fn on_start(&mut self, message: Message<'_>, out: &mut Vec<u8>) {
        self.counts.update(message.usage.unwrap_or_default());
        let mut head = Vec::new();
        let mut object = Object::begin(&mut head);
        object.words("id", message.id).text("object", "chat.completion.chunk");
        object.number("created", self.created_s).words("model", message.model);
        // Without its brace: more members follow in each chunk.
        self.head = head.split_off(1);
        self.chunk(out, |delta| delta.extend_from_slice(br#"{"role":"assistant","content":""}"#));
    }

    fn on_block(&mut self, block: &Block<'_>, out: &mut Vec<u8>) {
        self.open = None;
        match block.what.get().trim_matches('"') {
            "tool_use" => {
                let index = self.tools;
                self.tools = self.tools.saturating_add(1);
                self.open = Some(false);
                self.chunk(out, |delta| {
                    delta.extend_from_slice(br#"{"tool_calls":["#);
                    let mut call = Object::begin(delta);
                    call.number("index", index.into()).words("id", block.id).text("type", "function");
                    Object::begin(call.key("function")).words("name", block.name).text("arguments", "").end();
                    call.end();
                    delta.extend_from_slice(b"]}");
                });
            }
            "text" => self.piece("content", block.text, out),
            "thinking" => self.piece("reasoning_content", block.thinking, out),
            // What tools of the provider did is not the caller's to answer.
            _ => {}
        }
    }

    fn on_delta(&mut self, delta: &Delta<'_>, out: &mut Vec<u8>) {
        self.piece("content", delta.text, out);
        self.piece("reasoning_content", delta.thinking, out);
        if let Some(json) = delta.partial_json.and_then(inside).filter(|json| !json.is_empty())
            && let Some(has_begun) = &mut self.open
        {
            *has_begun = true;
            self.arguments(json, out);
        }
    }

    fn piece(&self, name: &'static str, text: Option<&RawValue>, out: &mut Vec<u8>) {
        if let Some(text) = text.filter(|text| inside(text).is_some_and(|text| !text.is_empty())) {
            self.chunk(out, |delta| Object::begin(delta).raw(name, text).end());
        }
    }

    /// `json`: as it stands between the quotes of a string.
    fn arguments(&self, json: &[u8], out: &mut Vec<u8>) {
        let index = self.tools.saturating_sub(1);
        self.chunk(out, |delta| {
            put!(delta, r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":""#);
            delta.extend_from_slice(json);
            delta.extend_from_slice(br#""}}]}"#);
        });
    }

    fn on_finish(&self, reason: &str, out: &mut Vec<u8>) {
        self.begin(out);
        put!(out, r#""choices":[{{"index":0,"delta":{{}},"finish_reason":"{}"}}]}}"#, finish_reason(reason));
        out.extend_from_slice(b"\n\n");
        if let Some(usage) = self.counts.usage() {
            self.begin(out);
            out.extend_from_slice(br#""choices":[],"usage":"#);
            chat_usage(&usage, out);
            out.extend_from_slice(b"}\n\n");
        }
    }

    fn chunk(&self, out: &mut Vec<u8>, delta: impl FnOnce(&mut Vec<u8>)) {
        self.begin(out);
        out.extend_from_slice(br#""choices":[{"index":0,"delta":"#);
        delta(out);
        out.extend_from_slice(b",\"finish_reason\":null}]}\n\n");
    }

    fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: {");
        out.extend_from_slice(&self.head);
        if !self.head.is_empty() {
            out.push(b',');
        }
    }
}

/// As OpenAI's streams say it; an overloaded provider is told as such.
fn fault(error: &Wrong<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: {\"error\":");
    super::answer::chat_error(error, out);
    out.extend_from_slice(b"}\n\n");
}

impl fmt::Debug for Teller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<teller after {} tools>", self.tools)
    }
}
