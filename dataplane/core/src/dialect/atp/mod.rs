//! What streams of ATP sessions ask for, and what they are answered: the contents of messages, not the frames
//! around them.
//!
//! A request is OpenAI's chat request (it has `messages`) and is answered in OpenAI's words, an event of the
//! upstream's stream each; or a prompt (`prompt`, with the fields of `/v1/ask`) and is answered in plain
//! text. Never looks at ids, sequence numbers or windows: those are the session's.

#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::ask::lines::{MICRO_DECIMALS, decimal};
use super::json::{put, quote};
use super::rope::Rope;
use super::scan::{Head, Profile, scan};
use crate::bill::Usage;
use crate::fault::{Fault, Kind, Malformed, MalformedWhat};
use proto_core::units::Picodollars;

/// A request, understood.
#[derive(Debug, Clone)]
pub struct Request {
    /// [`Profile::Chat`] or [`Profile::Ask`].
    pub head: Head,
    pub body: Rope,
}

impl Request {
    /// Reads the content of a request message. A chat request without `model` asks for `auto`; one that does
    /// not say `stream` is streamed.
    ///
    /// # Errors
    /// What is no JSON object, has neither `messages` nor `prompt`, or a field with a wrong value.
    pub fn read(content: &Bytes) -> Result<Request, Fault> {
        let chat = scan(Profile::Chat, content);
        match chat {
            Ok(head) if head.content.is_some() && head.says_stream => {
                return Ok(Request { head, body: Rope::from(content.clone()) });
            }
            Ok(head) if head.content.is_some() => return Request::completed(content, &head, STREAMED),
            Err(fault) if !is_missing(fault) => return Err(fault),
            _ => {}
        }
        match scan(Profile::Ask, content) {
            Ok(head) => Ok(Request { head, body: Rope::from(content.clone()) }),
            Err(fault) if is_missing(fault) && chat.is_err_and(lacks_model) => {
                Request::without_model(content)
            }
            Err(fault) if is_missing(fault) => Err(NEITHER),
            Err(fault) => Err(fault),
        }
    }

    /// No prompt, and no model where `messages` may stand.
    fn without_model(content: &Bytes) -> Result<Request, Fault> {
        let brace = content.iter().position(|byte| *byte == b'{');
        let Some(inside) = brace.map(|at| at + 1) else { return Err(NEITHER) };
        if content[inside..].trim_ascii().starts_with(b"}") {
            return Err(NEITHER);
        }
        let with = Bytes::from([&content[..inside], AUTO, &content[inside..]].concat());
        let said = scan(Profile::Chat, &with);
        let head = said.map_err(|fault| if is_missing(fault) { NEITHER } else { fault })?;
        match head {
            head if head.content.is_none() => Err(NEITHER),
            head if head.says_stream => Ok(Request { head, body: Rope::from(with) }),
            head => Request::completed(&with, &head, STREAMED),
        }
    }

    /// With `more` before the first key.
    fn completed(content: &Bytes, head: &Head, more: &'static [u8]) -> Result<Request, Fault> {
        let at = usize::try_from(head.inside).expect("a body is in memory");
        let with = Bytes::from([&content[..at], more, &content[at..]].concat());
        Ok(Request { head: scan(Profile::Chat, &with)?, body: Rope::from(with) })
    }
}

fn lacks_model(fault: Fault) -> bool {
    let what = MalformedWhat::MissingKey("model");
    matches!(fault.kind, Kind::Malformed(malformed) if malformed.what == what)
}

fn is_missing(fault: Fault) -> bool {
    matches!(fault.kind, Kind::Malformed(Malformed { what: MalformedWhat::MissingKey(_), .. }))
}

/// What an attached adapter says, as events of a stream in OpenAI's words.
#[derive(Debug, Default)]
pub struct Retold {
    /// As the request names it.
    model: String,
    /// It answers in plain text: the rest of an event is ours to add.
    is_text: bool,
}

impl Retold {
    /// Of a chat request.
    pub fn of(body: &[u8]) -> Retold {
        #[derive(serde::Deserialize)]
        struct Asked {
            model: String,
        }
        // One without a model is answered all the same.
        let model = serde_json::from_slice::<Asked>(body).map_or_else(|_| String::new(), |asked| asked.model);
        Retold { model, is_text: false }
    }

    /// An event up to its first choice's own words.
    fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"data: {"id":"chatcmpl-attached","object":"chat.completion.chunk","#);
        out.extend_from_slice(br#""created":0,"model":"#);
        quote(&self.model, out);
        out.extend_from_slice(br#","choices":[{"index":0,"#);
    }

    /// A partial: an event's data as it stands, or `{"text": …}`.
    pub fn partial(&mut self, content: &Bytes) -> Bytes {
        let Some(text) = Some(content).filter(|content| !is_chunk(content)).and_then(|content| text(content))
        else {
            let mut out = Vec::with_capacity(content.len() + 8);
            event(content, &mut out);
            return out.into();
        };
        self.is_text = true;
        let mut out = Vec::with_capacity(text.len() + 128);
        self.begin(&mut out);
        out.extend_from_slice(br#""delta":{"role":"assistant","content":"#);
        quote(&text, &mut out);
        out.extend_from_slice(b"},\"finish_reason\":null}]}\n\n");
        out.into()
    }

    /// The final: what it used, where it says so, and the end.
    pub fn last(&self, content: &Bytes) -> Bytes {
        let mut out = Vec::new();
        if self.is_text {
            self.begin(&mut out);
            out.extend_from_slice(b"\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
        }
        #[derive(serde::Deserialize)]
        struct Said<'s> {
            #[serde(borrow)]
            usage: Option<&'s serde_json::value::RawValue>,
        }
        let usage = serde_json::from_slice::<Said<'_>>(content).ok().and_then(|said| said.usage);
        if let Some(usage) = usage.filter(|usage| usage.get().starts_with('{')) {
            event(&[br#"{"choices":[],"usage":"#, usage.get().as_bytes(), b"}"].concat(), &mut out);
        }
        out.extend_from_slice(super::openai::DONE);
        out.into()
    }
}

/// An event with this JSON as its data, on one line however it was written: a line's end in it, which JSON
/// has between its words only, would end the field, and two the event.
fn event(json: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    let begin = out.len();
    out.extend_from_slice(json);
    if memchr::memchr2(b'\n', b'\r', json).is_some() {
        let ends = out[begin..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r'));
        ends.for_each(|byte| *byte = b' ');
    }
    out.extend_from_slice(b"\n\n");
}

fn is_chunk(content: &[u8]) -> bool {
    memchr::memmem::find(content, br#""choices""#).is_some()
}

fn text(content: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Said {
        text: String,
    }
    serde_json::from_slice::<Said>(content).ok().map(|said| said.text)
}

/// The content of a partial answer in plain text; `raw` stands between the quotes of a JSON string.
pub fn partial(raw: &[u8]) -> Bytes {
    Bytes::from([br#"{"text":""#, raw, br#""}"#].concat())
}

/// Text as it stands between the quotes of JSON, made plain.
pub fn plain_text(raw: &[u8]) -> String {
    let mut out = Vec::with_capacity(raw.len());
    super::json::unescape(raw, &mut out);
    String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// What a final message tells.
#[derive(Debug, Clone, Copy)]
pub struct Final<'f> {
    /// Of a prompt's answer: all of it, as it stands between the quotes of a JSON string.
    pub text: Option<&'f [u8]>,
    pub model_used: &'f str,
    pub adapter: &'f str,
    pub usage: Usage,
    pub cost: Picodollars,
}

impl Final<'_> {
    /// As content.
    pub fn content(&self) -> Bytes {
        let mut out = Vec::with_capacity(128 + self.text.map_or(0, <[u8]>::len));
        out.push(b'{');
        if let Some(text) = self.text {
            out.extend_from_slice(br#""text":""#);
            out.extend_from_slice(text);
            out.extend_from_slice(br#"","#);
        }
        out.extend_from_slice(br#""model_used":"#);
        quote(self.model_used, &mut out);
        out.extend_from_slice(br#","adapter":"#);
        quote(self.adapter, &mut out);
        let Usage { input, output, .. } = self.usage;
        put!(&mut out, r#","tokens_in":{input},"tokens_out":{output},"cost_usd":"#);
        decimal(self.cost.as_usd_micros_ceil(), MICRO_DECIMALS, &mut out);
        if self.usage.estimated {
            out.extend_from_slice(br#","estimated":true"#);
        }
        out.push(b'}');
        out.into()
    }

    /// As the frame's `telemetry`. An answer in the caller's own words has no other place for these.
    pub fn telemetry(&self, latency_ms: u64, first_token_ms: Option<u64>) -> Bytes {
        let mut out = Vec::with_capacity(128);
        let Usage { input, output, .. } = self.usage;
        put!(&mut out, r#"{{"tokens":{},"usd":"#, input.saturating_add(output));
        decimal(self.cost.as_usd_micros_ceil(), MICRO_DECIMALS, &mut out);
        put!(&mut out, r#","latency_ms":{latency_ms},"#);
        if let Some(first_token_ms) = first_token_ms {
            put!(&mut out, r#""first_token_ms":{first_token_ms},"#);
        }
        put!(&mut out, r#""tokens_in":{input},"tokens_out":{output},"model":"#);
        quote(self.model_used, &mut out);
        out.push(b'}');
        out.into()
    }
}

const NEITHER: Fault = Fault::client(Kind::InvalidField("content", "an object with `messages` or `prompt`"));
const AUTO: &[u8] = br#""model":"auto","#;
const STREAMED: &[u8] = br#""stream":true,"#;
