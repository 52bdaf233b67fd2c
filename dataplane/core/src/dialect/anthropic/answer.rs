//! Whole answers and refusals, from Anthropic's words to OpenAI's and back.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::json::{put, quote};
use super::chunks::Wrong;
use super::events::Call;
use super::write::{Object, inside, next};
use super::{Counts, chat_usage, finish_reason, message_usage, stop_reason};
use crate::bill::Usage;

#[derive(Deserialize)]
struct Message<'m> {
    #[serde(rename = "type")]
    what: Option<String>,
    #[serde(borrow)]
    id: Option<&'m RawValue>,
    #[serde(borrow)]
    model: Option<&'m RawValue>,
    #[serde(borrow, default)]
    content: Vec<Block<'m>>,
    stop_reason: Option<String>,
    usage: Option<Counts>,
    #[serde(borrow)]
    error: Option<Wrong<'m>>,
}

#[derive(Deserialize)]
struct Block<'m> {
    #[serde(rename = "type")]
    what: String,
    #[serde(borrow)]
    text: Option<&'m RawValue>,
    #[serde(borrow)]
    thinking: Option<&'m RawValue>,
    #[serde(borrow)]
    id: Option<&'m RawValue>,
    #[serde(borrow)]
    name: Option<&'m RawValue>,
    #[serde(borrow)]
    input: Option<&'m RawValue>,
}

/// A message, or an error, as a chat completion; `None` where it is neither.
pub fn to_chat(bytes: &[u8], created_s: u64) -> Option<Vec<u8>> {
    let message: Message<'_> = serde_json::from_slice(bytes).ok()?;
    let mut out = Vec::with_capacity(bytes.len());
    match message.what.as_deref()? {
        "message" => chat(&message, created_s, &mut out),
        "error" => {
            out.extend_from_slice(b"{\"error\":");
            chat_error(message.error.as_ref()?, &mut out);
            out.push(b'}');
        }
        _ => return None,
    }
    Some(out)
}

fn chat(message: &Message<'_>, created_s: u64, out: &mut Vec<u8>) {
    let mut whole = Object::begin(out);
    whole.words("id", message.id).text("object", "chat.completion");
    whole.number("created", created_s).words("model", message.model);
    whole.key("choices").extend_from_slice(br#"[{"index":0,"message":"#);
    let mut told = Object::begin(whole.out);
    told.text("role", "assistant");
    if !joined(message, |block| block.text, "content", &mut told) {
        told.json("content", b"null");
    }
    joined(message, |block| block.thinking, "reasoning_content", &mut told);
    if message.content.iter().any(|block| block.what == "tool_use") {
        let calls = told.key("tool_calls");
        calls.push(b'[');
        for block in message.content.iter().filter(|block| block.what == "tool_use") {
            let mut call = Object::begin(next(calls));
            call.words("id", block.id).text("type", "function");
            let arguments = block.input.map_or("{}", RawValue::get);
            Object::begin(call.key("function")).words("name", block.name).text("arguments", arguments).end();
            call.end();
        }
        calls.push(b']');
    }
    told.end();
    let reason = message.stop_reason.as_deref().map_or("stop", finish_reason);
    put!(whole.out, r#","logprobs":null,"finish_reason":"{reason}"}}]"#);
    if let Some(usage) = message.usage.and_then(|counts| counts.usage()) {
        chat_usage(&usage, whole.key("usage"));
    }
    whole.end();
}

/// The texts of all blocks that have one, as one; whether there was any.
fn joined<'m>(
    message: &Message<'m>,
    of: impl Fn(&Block<'m>) -> Option<&'m RawValue>,
    name: &'static str,
    told: &mut Object<'_>,
) -> bool {
    let mut texts = message.content.iter().filter_map(|block| inside(of(block)?)).peekable();
    if texts.peek().is_none() {
        return false;
    }
    let out = told.key(name);
    out.push(b'"');
    texts.for_each(|text| out.extend_from_slice(text));
    out.push(b'"');
    true
}

/// `{"message","type","param","code"}`
pub(super) fn chat_error(error: &Wrong<'_>, out: &mut Vec<u8>) {
    let what = error.what.and_then(inside).unwrap_or(b"api_error");
    let family = match what {
        b"invalid_request_error" | b"not_found_error" | b"request_too_large" => "invalid_request_error",
        b"authentication_error" | b"permission_error" => "authentication_error",
        b"rate_limit_error" => "rate_limit_error",
        _ => "server_error",
    };
    let mut object = Object::begin(out);
    match error.message.filter(|message| inside(message).is_some()) {
        Some(message) => object.raw("message", message),
        None => object.text("message", ""),
    };
    object.text("type", family).json("param", b"null");
    let code = object.key("code");
    code.push(b'"');
    code.extend_from_slice(what);
    code.push(b'"');
    object.end();
}

#[derive(Deserialize)]
struct Completion<'c> {
    #[serde(borrow)]
    id: Option<&'c RawValue>,
    #[serde(borrow)]
    model: Option<&'c RawValue>,
    #[serde(borrow)]
    choices: Option<Vec<Choice<'c>>>,
    #[serde(borrow)]
    error: Option<&'c RawValue>,
}

#[derive(Deserialize)]
struct Choice<'c> {
    #[serde(borrow)]
    message: Told<'c>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Told<'c> {
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
struct Refused<'c> {
    #[serde(borrow)]
    message: Option<&'c RawValue>,
}

/// A chat completion, or an error with this status, as Messages has it; `None` where it is neither. `usage`:
/// as it is billed.
pub fn from_chat(bytes: &[u8], status: u16, usage: &Usage, request_id: &str) -> Option<Vec<u8>> {
    let whole: Completion<'_> = serde_json::from_slice(bytes).ok()?;
    let mut out = Vec::with_capacity(bytes.len());
    if let Some(error) = whole.error {
        refused(error, status, request_id, &mut out);
        return Some(out);
    }
    let choice = whole.choices.as_ref()?.first()?;
    let mut message = Object::begin(&mut out);
    message.words("id", whole.id).text("type", "message").text("role", "assistant");
    message.words("model", whole.model);
    let blocks = message.key("content");
    blocks.push(b'[');
    content(&choice.message, blocks);
    blocks.push(b']');
    let reason = choice.finish_reason.as_deref().map_or("end_turn", stop_reason);
    message.text("stop_reason", reason).json("stop_sequence", b"null");
    message_usage(usage, message.key("usage"));
    message.end();
    Some(out)
}

fn content(told: &Told<'_>, blocks: &mut Vec<u8>) {
    let some = |text: Option<&RawValue>| text.and_then(inside).is_some_and(|text| !text.is_empty());
    if let Some(text) = told.reasoning_content.or(told.reasoning).filter(|text| some(Some(text))) {
        Object::begin(next(blocks))
            .text("type", "thinking")
            .raw("thinking", text)
            .text("signature", "")
            .end();
    }
    for text in [told.content, told.refusal].into_iter().flatten().filter(|text| some(Some(text))) {
        Object::begin(next(blocks)).text("type", "text").raw("text", text).end();
    }
    for call in told.tool_calls.iter().flatten() {
        let Some(function) = &call.function else { continue };
        let mut block = Object::begin(next(blocks));
        block.text("type", "tool_use").words("id", call.id).words("name", function.name);
        let arguments = function.arguments.and_then(|text| super::request::input(text).ok());
        block.json("input", arguments.as_deref().unwrap_or("{}").as_bytes()).end();
    }
}

fn refused(error: &RawValue, status: u16, request_id: &str, out: &mut Vec<u8>) {
    let said = serde_json::from_str::<Refused<'_>>(error.get()).ok().and_then(|said| said.message);
    let what = error_type(status);
    put!(out, r#"{{"type":"error","error":{{"type":"{what}","message":"#);
    match said.filter(|said| inside(said).is_some()) {
        Some(said) => out.extend_from_slice(said.get().as_bytes()),
        // Some servers say it as a string.
        None if inside(error).is_some() => out.extend_from_slice(error.get().as_bytes()),
        None => quote("The adapter refused the request.", out),
    }
    out.extend_from_slice(br#"},"request_id":"#);
    quote(request_id, out);
    out.push(b'}');
}

/// Anthropic's words for the family of an error with this status.
pub fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}
