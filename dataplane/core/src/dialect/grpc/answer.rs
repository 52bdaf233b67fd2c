//! The chunks of a `Stream` call as OpenAI's events.

use prost::Message;
use proto_core::wire::atp::adapter::v1::StreamChunk;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{MESSAGE_BYTES_MAX, Status, fault};
use crate::dialect::openai::chunks::{Chunks, error_event};
use crate::dialect::rope::Rope;
use crate::fault::{Fault, Kind, Retry};

/// Reads one answer, message by message, however it is cut.
#[derive(Debug)]
pub struct Pieces {
    /// Of a frame that is not whole yet.
    held: Vec<u8>,
    chunks: Chunks,
    /// Of the text so far: a final chunk that repeats all of it adds what is new.
    said: Sha256,
    said_bytes: usize,
    input: u64,
    output: u64,
    /// A final or an error came.
    is_over: bool,
    has_error: bool,
    /// The adapter writes chunks of OpenAI's itself, and said why it ended.
    has_reason: bool,
}

impl Pieces {
    pub fn new(chunks: Chunks) -> Pieces {
        Pieces {
            held: Vec::new(),
            chunks,
            said: Sha256::new(),
            said_bytes: 0,
            input: 0,
            output: 0,
            is_over: false,
            has_error: false,
            has_reason: false,
        }
    }

    /// Reads the next piece of the body; events are appended to `out`.
    ///
    /// # Errors
    /// `Garbled`: a message is compressed, longer than [`MESSAGE_BYTES_MAX`], or none.
    pub fn push(&mut self, piece: &[u8], out: &mut Rope) -> Result<(), Fault> {
        self.held.extend_from_slice(piece);
        let mut from = 0;
        while let Some((head, rest)) = self.held[from..].split_first_chunk::<5>() {
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
            if head[0] != 0 || length > MESSAGE_BYTES_MAX {
                return Err(GARBLED);
            }
            let Some(message) = rest.get(..length) else { break };
            let chunk = StreamChunk::decode(message).map_err(|_| GARBLED)?;
            from += 5 + length;
            self.chunk(&chunk, out)?;
        }
        self.held.drain(..from);
        Ok(())
    }

    /// The call ended with `status`. Only `OK` ends an answer.
    ///
    /// # Errors
    /// What the status means, or `Truncated` inside a message.
    pub fn end(&mut self, status: Status, out: &mut Rope) -> Result<(), Fault> {
        if let Some(fault) = fault(status) {
            return Err(fault);
        }
        if !self.held.is_empty() {
            return Err(Fault::upstream(Kind::Truncated, Retry::ElsewhereAtCost));
        }
        if self.has_error {
            return Ok(());
        }
        // Zero is also what nobody said: half a bill would be believed.
        let usage = (self.input > 0 && self.output > 0).then_some((self.input, self.output));
        if self.has_reason {
            self.chunks.finish(usage, out);
        } else {
            let reason = if self.chunks.has_tool_calls() { "tool_calls" } else { "stop" };
            self.chunks.end(reason, usage, out);
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &StreamChunk, out: &mut Rope) -> Result<(), Fault> {
        if self.is_over {
            return Ok(());
        }
        self.input = self.input.saturating_add(chunk.partial_in_tokens);
        self.output = self.output.saturating_add(chunk.partial_out_tokens);
        match chunk.r#type.as_str() {
            "" | "agent.result.partial" => self.content(&chunk.content_json, false, out),
            "agent.result.final" => {
                self.content(&chunk.content_json, true, out)?;
                self.is_over = true;
                Ok(())
            }
            "agent.result.error" => {
                (self.is_over, self.has_error) = (true, true);
                error_event(&error_of(&chunk.content_json), out);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn content(&mut self, json: &str, is_final: bool, out: &mut Rope) -> Result<(), Fault> {
        if json.trim().is_empty() {
            return Ok(());
        }
        let content: Value = serde_json::from_str(json).map_err(|_| GARBLED)?;
        if let Some(choices) = content.get("choices").and_then(Value::as_array) {
            self.has_reason |= choices.iter().any(|choice| choice["finish_reason"].is_string());
            // Written anew: a line end between its tokens would end the event.
            self.chunks.verbatim(&content.to_string(), out);
            return Ok(());
        }
        let Some(text) = text_of(&content) else { return Ok(()) };
        let new = if is_final { self.unsaid(text) } else { text };
        self.said.update(new);
        self.said_bytes = self.said_bytes.saturating_add(new.len());
        self.chunks.text(new, out);
        Ok(())
    }

    /// What of a final text was not said yet: all of it, unless it begins with all that was.
    fn unsaid<'t>(&self, text: &'t str) -> &'t str {
        let repeats = |before: &&str| Sha256::digest(before.as_bytes()) == self.said.clone().finalize();
        let before = text.get(..self.said_bytes).filter(repeats);
        before.map_or(text, |before| &text[before.len()..])
    }
}

/// Text of a content; `None` for one without.
fn text_of(content: &Value) -> Option<&str> {
    match content {
        Value::String(text) => Some(text),
        Value::Object(object) => TEXT_KEYS.iter().find_map(|key| object.get(*key)?.as_str()),
        _ => None,
    }
}

fn error_of(json: &str) -> String {
    let content: Value = serde_json::from_str(json).unwrap_or_default();
    let inner = content.get("error").unwrap_or(&content);
    let text = inner.as_str().or_else(|| {
        let told = inner.get("message").or(inner.get("reason")).or(content.get("reason"));
        told.and_then(Value::as_str)
    });
    let text = text.unwrap_or("the adapter failed and did not say why");
    text[..text.floor_char_boundary(ERROR_BYTES_MAX)].into()
}

const GARBLED: Fault = Fault::upstream(Kind::Garbled, Retry::ElsewhereAtCost);
/// Of an error's text that is told on.
const ERROR_BYTES_MAX: usize = 4096;
/// Where adapters put text, the usual first.
const TEXT_KEYS: [&str; 6] = ["text", "content", "delta", "partial", "output", "response"];
