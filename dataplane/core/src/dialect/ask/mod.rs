//! `/v1/ask`: the older, simpler question. The request becomes an OpenAI one ([`for_upstream`]); the answer
//! becomes lines of JSON ([`lines`]). What a request says is read by [`super::scan`] with
//! [`super::scan::Profile::Ask`].
//!
//! The prompt is spliced and the text of the answer is relayed as they stand, escapes and all: a JSON string
//! is a JSON string in either dialect. Only [`prompt_text`] makes plain text, for what has to look at it.

mod cluster;
pub mod context;
pub mod lines;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use sha2::{Digest, Sha256};

pub use self::cluster::cluster_hint;
use super::json::{HEX, Span, put, unescape};
use super::rope::Rope;
use super::scan::Head;

/// The OpenAI chat request for an upstream that calls the model `model_json` (a JSON string, quotes
/// included): one user message with the caller's prompt, streamed, with usage; `max_tokens` where the caller
/// sent it. `context`: what is put before the prompt ([`context::Context::finish`]), or nothing.
pub fn for_upstream(body: &Rope, head: &Head, context: &Bytes, model_json: &Bytes) -> Rope {
    let mut out = Rope::new();
    out.push(Bytes::from_static(br#"{"model":"#));
    out.push(model_json.clone());
    out.push(Bytes::from_static(br#","messages":[{"role":"user","content":"#));
    let prompt = prompt_span(head);
    if context.is_empty() {
        body.share(prompt, &mut out);
    } else {
        out.push(Bytes::from_static(b"\""));
        out.push(context.clone());
        body.share(Span { start: prompt.start + 1, ..prompt }, &mut out);
    }
    out.push(Bytes::from_static(br#"}],"stream":true,"stream_options":{"include_usage":true}"#));
    match head.max_tokens {
        Some(count) => {
            let mut rest = Vec::new();
            put!(&mut rest, r#","max_tokens":{count}}}"#);
            out.push(rest.into());
        }
        None => out.push(Bytes::from_static(b"}")),
    }
    out
}

/// Appends the prompt as plain text, valid UTF-8, to `out`.
pub fn prompt_text(body: &Rope, head: &Head, out: &mut Vec<u8>) {
    let Span { start, end } = prompt_span(head);
    let inside = Span { start: start + 1, end: end - 1 };
    let mut raw = Vec::new();
    body.copy(inside, &mut raw);
    unescape(&raw, out);
}

fn prompt_span(head: &Head) -> Span {
    head.content.expect("a scanned ask has a prompt")
}

/// Names a prompt without telling it: the first 16 hexadecimal digits of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PromptHash([u8; 16]);

impl PromptHash {
    /// Of the prompt as plain text.
    pub fn of(prompt: &str) -> PromptHash {
        let digest = Sha256::digest(prompt.as_bytes());
        let mut hex = [0; 16];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        PromptHash(hex)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }
}
