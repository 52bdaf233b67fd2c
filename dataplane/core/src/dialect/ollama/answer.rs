//! The lines of `/api/chat` as OpenAI's events.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memchr;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::openai::chunks::{Chunks, error_event};
use crate::dialect::rope::Rope;
use crate::fault::{Fault, Kind, Retry};

/// Reads one answer, line by line, however it is cut.
#[derive(Debug)]
pub struct Lines {
    /// Of a line that has not ended yet.
    held: Vec<u8>,
    chunks: Chunks,
    is_over: bool,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(default)]
    done: bool,
    #[serde(borrow, default)]
    done_reason: Option<Cow<'a, str>>,
    #[serde(default)]
    prompt_eval_count: Option<u64>,
    #[serde(default)]
    eval_count: Option<u64>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    function: Function<'a>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl Lines {
    pub fn new(chunks: Chunks) -> Lines {
        Lines { held: Vec::new(), chunks, is_over: false }
    }

    /// Reads the next piece; events are appended to `out`.
    ///
    /// # Errors
    /// `Garbled`: a line is no JSON object, or longer than [`LINE_BYTES_MAX`].
    pub fn push(&mut self, piece: &Bytes, out: &mut Rope) -> Result<(), Fault> {
        let mut rest = &piece[..];
        while let Some(end) = memchr(b'\n', rest) {
            let (line, more) = (&rest[..end], &rest[end + 1..]);
            rest = more;
            if self.held.is_empty() {
                self.line(line, out)?;
                continue;
            }
            self.hold(line)?;
            let held = std::mem::take(&mut self.held);
            self.line(&held, out)?;
        }
        self.hold(rest)
    }

    /// The body ended. An answer that never said it was done is not ended here either: whoever reads the
    /// events sees it broke off.
    ///
    /// # Errors
    /// As [`Lines::push`], of a last line without its end.
    pub fn end(&mut self, out: &mut Rope) -> Result<(), Fault> {
        let held = std::mem::take(&mut self.held);
        self.line(&held, out)
    }

    fn hold(&mut self, part: &[u8]) -> Result<(), Fault> {
        if self.held.len() + part.len() > LINE_BYTES_MAX {
            return Err(GARBLED);
        }
        self.held.extend_from_slice(part);
        Ok(())
    }

    fn line(&mut self, line: &[u8], out: &mut Rope) -> Result<(), Fault> {
        let line = line.trim_ascii();
        if line.is_empty() || self.is_over {
            return Ok(());
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(GARBLED);
        }
        let line: Line<'_> = serde_json::from_slice(line).map_err(|_| GARBLED)?;
        if let Some(error) = line.error {
            self.is_over = true;
            error_event(&message_of(error), out);
            return Ok(());
        }
        if let Some(model) = &line.model {
            self.chunks.set_model(model);
        }
        if let Some(message) = line.message {
            self.chunks.reasoning(message.thinking.as_deref().unwrap_or_default(), out);
            self.chunks.text(message.content.as_deref().unwrap_or_default(), out);
            for call in message.tool_calls.into_iter().flatten() {
                let arguments = call.function.arguments.map_or("{}", RawValue::get);
                self.chunks.tool_call(call.id.as_deref(), &call.function.name, arguments, out);
            }
        }
        if line.done {
            self.is_over = true;
            let reason = match line.done_reason.as_deref() {
                Some("length") => "length",
                _ if self.chunks.has_tool_calls() => "tool_calls",
                _ => "stop",
            };
            // Where one count is missing, neither is told: half a bill would be believed.
            self.chunks.end(reason, line.prompt_eval_count.zip(line.eval_count), out);
        }
        Ok(())
    }
}

/// What the body of a refusal says, in words.
pub fn error_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow)]
        error: &'a RawValue,
    }
    match serde_json::from_slice::<Refusal<'_>>(body) {
        Ok(refusal) => message_of(refusal.error),
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(MESSAGE_BYTES_MAX)]).into_owned(),
    }
}

/// An error is a string here; servers that look like Ollama write others.
fn message_of(error: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Told {
        message: String,
    }
    let mut text = match serde_json::from_str::<String>(error.get()) {
        Ok(text) => text,
        Err(_) => match serde_json::from_str::<Told>(error.get()) {
            Ok(told) => told.message,
            Err(_) => error.get().into(),
        },
    };
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
    }
    text
}

const GARBLED: Fault = Fault::upstream(Kind::Garbled, Retry::ElsewhereAtCost);
/// Of one line: a piece of text is some bytes, a tool call with its arguments some kilobytes.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Of an error's text that is told on.
const MESSAGE_BYTES_MAX: usize = 4096;
