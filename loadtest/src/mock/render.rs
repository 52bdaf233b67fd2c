//! The words of an answer and its JSON in the OpenAI dialect; in Anthropic's by [`messages`].
//!
//! What it is for: bytes that real clients accept, the same for the same request but for `id` and `created`.
//! It writes into the caller's buffer and never sends.

use std::io::Write as _;

use base64::Engine as _;

use super::messages;

/// The text of an answer in pieces, one per token; the pieces joined are the whole text.
pub(crate) enum Text {
    /// `tok1 tok2 ...`; with `bytes` above 0 every piece is padded or cut so that the sum is exact.
    Counted { tokens: u32, bytes: u32 },
    /// Words of the client, already escaped for JSON.
    Echoed(Vec<String>),
}

/// Which of the text endpoints answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Chat,
    Completion,
    /// In Anthropic's dialect.
    Message,
}

/// What all parts of one answer share.
pub(crate) struct Shape<'a> {
    pub(crate) form: Form,
    pub(crate) identity: u64,
    pub(crate) created_s: u64,
    /// As JSON, quotes included.
    pub(crate) model: String,
    pub(crate) text: &'a Text,
    /// The function called instead of answering in words, as JSON.
    pub(crate) tool: Option<String>,
    pub(crate) choices: u32,
    /// The client's limit ended the answer.
    pub(crate) cut_short: bool,
    pub(crate) prompt_tokens: u64,
    /// Of `prompt_tokens`, those written to a cache.
    pub(crate) cache_tokens: u64,
    pub(crate) wants_usage: bool,
}

impl Text {
    pub(crate) fn echoed(text: &str, allowed: Option<u32>) -> (Text, bool) {
        let words: Vec<String> = text.split_inclusive(' ').map(escaped).collect();
        let kept = allowed.map_or(words.len(), |allowed| words.len().min(allowed as usize));
        let cut_short = kept < words.len();
        (Text::Echoed(words.into_iter().take(kept).collect()), cut_short)
    }

    pub(crate) fn tokens(&self) -> u32 {
        match self {
            Text::Counted { tokens, .. } => *tokens,
            Text::Echoed(words) => words.len() as u32,
        }
    }

    /// Appends piece `index`, escaped for JSON.
    pub(crate) fn push(&self, index: u32, out: &mut Vec<u8>) {
        match self {
            Text::Echoed(words) => out.extend_from_slice(words[index as usize].as_bytes()),
            Text::Counted { bytes: 0, .. } => push_token(index, out),
            Text::Counted { tokens, bytes } => {
                let length = (bytes / tokens + u32::from(index < bytes % tokens)) as usize;
                let start = out.len();
                push_token(index, out);
                out.resize(start + length, b'x');
            }
        }
    }

    fn push_all(&self, out: &mut Vec<u8>) {
        (0..self.tokens()).for_each(|index| self.push(index, out));
    }
}

impl Shape<'_> {
    /// As every part of the answer says it.
    pub(crate) fn id(&self) -> String {
        format!("{}{:016x}", self.kind(), self.identity)
    }

    fn kind(&self) -> &'static str {
        match self.form {
            Form::Chat => "chatcmpl-mock",
            Form::Completion => "cmpl-mock",
            Form::Message => "msg_mock",
        }
    }

    /// The whole answer as one body.
    pub(crate) fn whole(&self) -> Vec<u8> {
        if self.form == Form::Message {
            return messages::whole(self);
        }
        let mut out = Vec::with_capacity(WHOLE_BYTES_USUAL);
        self.push_start(false, &mut out);
        for choice in 0..self.choices {
            if choice > 0 {
                out.push(b',');
            }
            self.push_choice(choice, &mut out);
        }
        out.extend_from_slice(b"],\"usage\":");
        self.push_usage(&mut out);
        if self.form == Form::Chat {
            out.extend_from_slice(b",\"system_fingerprint\":\"fp_mock\"");
        }
        out.push(b'}');
        out
    }

    fn push_choice(&self, choice: u32, out: &mut Vec<u8>) {
        match (self.form, &self.tool) {
            (Form::Completion | Form::Message, _) => {
                out.extend_from_slice(b"{\"text\":\"");
                self.text.push_all(out);
                put(out, format_args!("\",\"index\":{choice},\"logprobs\":null"));
            }
            (Form::Chat, None) => {
                put(
                    out,
                    format_args!("{{\"index\":{choice},\"message\":{{\"role\":\"assistant\",\"content\":\""),
                );
                self.text.push_all(out);
                out.extend_from_slice(b"\",\"refusal\":null},\"logprobs\":null");
            }
            (Form::Chat, Some(tool)) => {
                put(
                    out,
                    format_args!(
                        "{{\"index\":{choice},\"message\":{{\"role\":\"assistant\",\"content\":null,"
                    ),
                );
                self.push_call(choice, tool, "", out);
                out.extend_from_slice(ARGUMENTS_OPEN);
                self.text.push_all(out);
                out.extend_from_slice(ARGUMENTS_SHUT);
                out.extend_from_slice(b"\"}}]},\"logprobs\":null");
            }
        }
        put(out, format_args!(",\"finish_reason\":\"{}\"}}", self.finish_reason()));
    }

    /// `index` is a field of streamed calls only.
    fn push_call(&self, choice: u32, tool: &str, index: &str, out: &mut Vec<u8>) {
        let identity = self.identity;
        put(out, format_args!("\"tool_calls\":[{{{index}\"id\":\"call_mock{identity:016x}_{choice}\","));
        put(out, format_args!("\"type\":\"function\",\"function\":{{\"name\":{tool},\"arguments\":\""));
    }

    /// The first event of a choice: its role, and for a call its name. A completion has none.
    pub(crate) fn push_opening(&self, choice: u32, out: &mut Vec<u8>) {
        match self.form {
            Form::Completion => return,
            Form::Message => return messages::push_opening(self, out),
            Form::Chat => {}
        }
        self.push_delta_start(choice, out);
        match &self.tool {
            None => out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\",\"refusal\":null"),
            Some(tool) => {
                out.extend_from_slice(b"\"role\":\"assistant\",\"content\":null,");
                self.push_call(choice, tool, "\"index\":0,", out);
                out.extend_from_slice(b"\"}}]");
            }
        }
        self.push_delta_end(None, out);
    }

    /// The event of one token.
    pub(crate) fn push_token(&self, choice: u32, index: u32, out: &mut Vec<u8>) {
        if self.form == Form::Message {
            return messages::push_token(self, index, out);
        }
        self.push_delta_start(choice, out);
        match (self.form, &self.tool) {
            (Form::Completion | Form::Message, _) => {
                out.extend_from_slice(b"\"text\":\"");
                self.text.push(index, out);
                out.push(b'"');
            }
            (Form::Chat, None) => {
                out.extend_from_slice(b"\"content\":\"");
                self.text.push(index, out);
                out.push(b'"');
            }
            (Form::Chat, Some(_)) => {
                out.extend_from_slice(b"\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"");
                if index == 0 {
                    out.extend_from_slice(ARGUMENTS_OPEN);
                }
                self.text.push(index, out);
                if index + 1 == self.text.tokens() {
                    out.extend_from_slice(ARGUMENTS_SHUT);
                }
                out.extend_from_slice(b"\"}}]");
            }
        }
        self.push_delta_end(None, out);
    }

    /// The last event of a choice.
    pub(crate) fn push_closing(&self, choice: u32, out: &mut Vec<u8>) {
        if self.form == Form::Message {
            return messages::push_closing(self, out);
        }
        self.push_delta_start(choice, out);
        if self.form == Form::Completion {
            out.extend_from_slice(b"\"text\":\"\"");
        }
        self.push_delta_end(Some(self.finish_reason()), out);
    }

    /// What ends a stream.
    pub(crate) fn last(&self) -> &'static [u8] {
        if self.form == Form::Message { messages::STOP } else { b"data: [DONE]\n\n" }
    }

    /// An error within a stream.
    pub(crate) fn push_error(&self, message: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.form == Form::Message { b"event: error\ndata: " } else { b"data: " });
        out.extend_from_slice(&refusal(self.form, 500, message));
        out.extend_from_slice(b"\n\n");
    }

    /// The usage event, when asked for.
    pub(crate) fn push_usage_event(&self, out: &mut Vec<u8>) {
        if self.wants_usage {
            out.extend_from_slice(b"data: ");
            self.push_start(true, out);
            out.extend_from_slice(b"],\"usage\":");
            self.push_usage(out);
            out.extend_from_slice(b"}\n\n");
        }
    }

    fn push_delta_start(&self, choice: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        self.push_start(true, out);
        put(out, format_args!("{{\"index\":{choice},"));
        if self.form == Form::Chat {
            out.extend_from_slice(b"\"delta\":{");
        }
    }

    fn push_delta_end(&self, finish: Option<&str>, out: &mut Vec<u8>) {
        if self.form == Form::Chat {
            out.push(b'}');
        }
        match finish {
            None => out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":null}]"),
            Some(reason) => put(out, format_args!(",\"logprobs\":null,\"finish_reason\":\"{reason}\"}}]")),
        }
        if self.wants_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
        out.extend_from_slice(b"}\n\n");
    }

    fn push_start(&self, streamed: bool, out: &mut Vec<u8>) {
        let object = match (self.form, streamed) {
            (Form::Chat, false) => "chat.completion",
            (Form::Chat, true) => "chat.completion.chunk",
            (Form::Completion | Form::Message, _) => "text_completion",
        };
        let (id, identity, created, model) = (self.kind(), self.identity, self.created_s, &self.model);
        put(
            out,
            format_args!("{{\"id\":\"{id}{identity:016x}\",\"object\":\"{object}\",\"created\":{created},"),
        );
        put(out, format_args!("\"model\":{model},"));
        if self.form == Form::Chat && streamed {
            out.extend_from_slice(b"\"system_fingerprint\":\"fp_mock\",");
        }
        out.extend_from_slice(b"\"choices\":[");
    }

    fn push_usage(&self, out: &mut Vec<u8>) {
        let completion = u64::from(self.text.tokens()) * u64::from(self.choices);
        let (prompt, total) = (self.prompt_tokens, self.prompt_tokens + completion);
        put(out, format_args!("{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},"));
        put(out, format_args!("\"total_tokens\":{total},\"prompt_tokens_details\":{{\"cached_tokens\":0}},"));
        out.extend_from_slice(b"\"completion_tokens_details\":{\"reasoning_tokens\":0}}");
    }

    fn finish_reason(&self) -> &'static str {
        match (self.cut_short, &self.tool) {
            (true, _) => "length",
            (false, Some(_)) => "tool_calls",
            (false, None) => "stop",
        }
    }
}

/// The list of GET /v1/models.
pub(crate) fn models(names: &[String]) -> Vec<u8> {
    let items: Vec<String> = names.iter().map(|name| model(name)).collect();
    format!("{{\"object\":\"list\",\"data\":[{}]}}", items.join(",")).into_bytes()
}

/// One model object.
pub(crate) fn model(name: &str) -> String {
    let name = quoted(name);
    format!("{{\"id\":{name},\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"mock\"}}")
}

/// An embeddings answer; `as_base64` is how the official clients ask by default (little-endian f32).
pub(crate) fn embeddings(
    model: &str,
    inputs: usize,
    dimensions: u32,
    as_base64: bool,
    prompt_tokens: u64,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(WHOLE_BYTES_USUAL);
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for index in 0..inputs {
        let values = (0..dimensions).map(|d| ((index as u32 + d) % 7) as f32 / 8.0);
        let comma = if index > 0 { "," } else { "" };
        put(&mut out, format_args!("{comma}{{\"object\":\"embedding\",\"index\":{index},\"embedding\":"));
        if as_base64 {
            let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            put(&mut out, format_args!("\"{}\"}}", base64::engine::general_purpose::STANDARD.encode(bytes)));
        } else {
            let values: Vec<String> = values.map(|value| format!("{value:?}")).collect();
            put(&mut out, format_args!("[{}]}}", values.join(",")));
        }
    }
    let usage = format_args!("{{\"prompt_tokens\":{prompt_tokens},\"total_tokens\":{prompt_tokens}}}");
    put(&mut out, format_args!("],\"model\":{},\"usage\":{usage}}}", quoted(model)));
    out
}

/// The error body for a status, as the form's dialect has it.
pub(crate) fn refusal(form: Form, status: u16, message: &str) -> Vec<u8> {
    if form == Form::Message { messages::error(status, message) } else { error(status, message) }
}

/// The error body for a status.
pub(crate) fn error(status: u16, message: &str) -> Vec<u8> {
    let (kind, code) = match status {
        401 => ("invalid_request_error", "\"invalid_api_key\""),
        404 => ("invalid_request_error", "\"model_not_found\""),
        429 => ("requests", "\"rate_limit_exceeded\""),
        529 => ("overloaded_error", "\"overloaded\""),
        400..=499 => ("invalid_request_error", "null"),
        _ => ("server_error", "null"),
    };
    let message = quoted(message);
    let error = format_args!("{{\"message\":{message},\"type\":\"{kind}\",\"param\":null,\"code\":{code}}}");
    format!("{{\"error\":{error}}}").into_bytes()
}

pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn escaped(text: &str) -> String {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_owned()
}

fn push_token(index: u32, out: &mut Vec<u8>) {
    let space = if index == 0 { "" } else { " " };
    put(out, format_args!("{space}tok{}", index + 1));
}

pub(crate) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a Vec takes every write");
}

/// The arguments of every call are this object, its value the text; escaped, for they are JSON inside JSON.
pub(crate) const ARGUMENTS_OPEN: &[u8] = b"{\\\"input\\\":\\\"";
pub(crate) const ARGUMENTS_SHUT: &[u8] = b"\\\"}";
/// A usual answer fits without growing.
const WHOLE_BYTES_USUAL: usize = 1024;
