//! A chat completion's request as one of Messages.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::super::json::{put, quote};
use super::super::super::rope::Rope;
use super::super::events::Call;
use super::super::write::{Object, inside, next};
use super::{Content, Part, WRONG_ARGUMENTS, WRONG_CONTENT, WRONG_TOOLS, input, some, wrong};
use crate::fault::Fault;

#[derive(Deserialize)]
struct Chat<'c> {
    #[serde(borrow)]
    model: Option<&'c RawValue>,
    #[serde(borrow, default)]
    messages: Vec<Message<'c>>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    #[serde(borrow)]
    stop: Option<&'c RawValue>,
    temperature: Option<f64>,
    #[serde(borrow)]
    top_p: Option<&'c RawValue>,
    stream: Option<bool>,
    #[serde(borrow)]
    tools: Option<Vec<Tool<'c>>>,
    #[serde(borrow)]
    tool_choice: Option<&'c RawValue>,
    parallel_tool_calls: Option<bool>,
    #[serde(borrow)]
    user: Option<&'c RawValue>,
    n: Option<u64>,
    #[serde(borrow)]
    response_format: Option<Format<'c>>,
}

#[derive(Deserialize)]
struct Message<'c> {
    role: String,
    #[serde(borrow)]
    content: Option<&'c RawValue>,
    #[serde(borrow)]
    refusal: Option<&'c RawValue>,
    #[serde(borrow)]
    tool_calls: Option<Vec<Call<'c>>>,
    #[serde(borrow)]
    tool_call_id: Option<&'c RawValue>,
}

#[derive(Deserialize)]
struct Tool<'c> {
    #[serde(borrow)]
    function: Option<Function<'c>>,
    #[serde(borrow)]
    cache_control: Option<&'c RawValue>,
}

#[derive(Deserialize)]
struct Function<'c> {
    #[serde(borrow)]
    name: &'c RawValue,
    #[serde(borrow)]
    description: Option<&'c RawValue>,
    #[serde(borrow)]
    parameters: Option<&'c RawValue>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct Chosen<'c> {
    #[serde(borrow)]
    function: Option<Function<'c>>,
}

#[derive(Deserialize)]
struct Format<'c> {
    #[serde(rename = "type")]
    what: String,
    #[serde(borrow)]
    json_schema: Option<Schema<'c>>,
}

#[derive(Deserialize)]
struct Schema<'c> {
    #[serde(borrow)]
    schema: Option<&'c RawValue>,
}

/// `body`, a chat completion's, for an adapter of Anthropic's.
///
/// # Errors
/// `InvalidField`: what is asked for cannot be said in those words.
pub fn from_chat(body: &Rope) -> Result<Vec<u8>, Fault> {
    let body = body.joined();
    let chat: Chat<'_> = serde_json::from_slice(&body).map_err(|_| WRONG_CONTENT)?;
    if chat.n.is_some_and(|n| n > 1) {
        return Err(wrong("n", "1 for a model behind an anthropic adapter"));
    }
    let mut out = Vec::with_capacity(body.len());
    let mut request = Object::begin(&mut out);
    request.maybe("model", chat.model);
    let most = chat.max_completion_tokens.or(chat.max_tokens).unwrap_or(MAX_TOKENS_DEFAULT);
    request.number("max_tokens", most);
    messages(&chat.messages, &mut request)?;
    if let Some(stop) = chat.stop {
        stops(stop, &mut request)?;
    }
    if let Some(temperature) = chat.temperature {
        // OpenAI's goes to 2.
        put!(request.key("temperature"), "{}", temperature.clamp(0.0, 1.0));
    }
    request.maybe("top_p", chat.top_p);
    if chat.stream == Some(true) {
        request.json("stream", b"true");
    }
    if let Some(user) = some(chat.user) {
        Object::begin(request.key("metadata")).raw("user_id", user).end();
    }
    tools(&chat, &mut request)?;
    if let Some(format) = chat.response_format {
        output(&format, &mut request)?;
    }
    request.end();
    Ok(out)
}

fn stops(stop: &RawValue, request: &mut Object<'_>) -> Result<(), Fault> {
    if inside(stop).is_some() {
        let out = request.key("stop_sequences");
        put!(out, "[{}]", stop.get());
        return Ok(());
    }
    serde_json::from_str::<Vec<String>>(stop.get()).map_err(|_| wrong("stop", "text or a list of texts"))?;
    request.raw("stop_sequences", stop);
    Ok(())
}

/// Turns by turns: what one side says in several messages is one message there.
fn messages(messages: &[Message<'_>], request: &mut Object<'_>) -> Result<(), Fault> {
    let (mut system, mut turns): (Vec<u8>, Vec<(&'static str, Vec<u8>)>) = (Vec::new(), Vec::new());
    for message in messages {
        match message.role.as_str() {
            "system" | "developer" => content(Content::read(message.content)?, &mut system)?,
            "user" => content(Content::read(message.content)?, turn("user", &mut turns))?,
            "assistant" => said(message, turn("assistant", &mut turns))?,
            "tool" => result(message, turn("user", &mut turns))?,
            _ => return Err(wrong("messages", "messages of system, developer, user, assistant or tool")),
        }
    }
    if !system.is_empty() {
        let out = request.key("system");
        out.push(b'[');
        out.append(&mut system);
        out.push(b']');
    }
    let out = request.key("messages");
    out.push(b'[');
    for (role, mut blocks) in turns.into_iter().filter(|(_, blocks)| !blocks.is_empty()) {
        let mut message = Object::begin(next(out));
        let list = message.text("role", role).key("content");
        list.push(b'[');
        list.append(&mut blocks);
        list.push(b']');
        message.end();
    }
    out.push(b']');
    Ok(())
}

/// The blocks of the turn at hand.
fn turn<'t>(role: &'static str, turns: &'t mut Vec<(&'static str, Vec<u8>)>) -> &'t mut Vec<u8> {
    if turns.last().is_none_or(|(last, _)| *last != role) {
        turns.push((role, Vec::new()));
    }
    &mut turns.last_mut().expect("one was put there").1
}

fn content(content: Content<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match content {
        Content::Nothing => Ok(()),
        Content::Text(text) => {
            Object::begin(next(out)).text("type", "text").raw("text", text).end();
            Ok(())
        }
        Content::Parts(parts) => parts.iter().try_for_each(|own| part(own, out)),
    }
}

fn part(part: &Part<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut block = match part.what.as_str() {
        "text" | "refusal" => {
            let Some(text) = some(part.text.or(part.refusal)) else { return Ok(()) };
            let mut block = Object::begin(next(out));
            block.text("type", "text").raw("text", text);
            block
        }
        "image_url" => {
            let url = &part.image_url.as_ref().ok_or(WRONG_CONTENT)?.url;
            let mut block = Object::begin(next(out));
            source(url, block.text("type", "image").key("source"))?;
            block
        }
        "file" => {
            let file = part.file.as_ref().ok_or(WRONG_CONTENT)?;
            let data = file.file_data.as_ref().ok_or(WRONG_PART)?;
            let mut block = Object::begin(next(out));
            source(data, block.text("type", "document").key("source"))?;
            block.words("title", some(file.filename));
            block
        }
        _ => return Err(WRONG_PART),
    };
    block.maybe("cache_control", part.cache_control).end();
    Ok(())
}

/// A URL, or the bytes that a `data:` URL holds.
fn source(url: &str, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut source = Object::begin(out);
    match url.strip_prefix("data:") {
        Some(data) => {
            let (media_type, data) = data.split_once(";base64,").ok_or(WRONG_PART)?;
            source.text("type", "base64").text("media_type", media_type).text("data", data);
        }
        None => {
            source.text("type", "url").text("url", url);
        }
    }
    source.end();
    Ok(())
}

fn said(message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    content(Content::read(message.content)?, out)?;
    content(Content::read(message.refusal)?, out)?;
    for call in message.tool_calls.iter().flatten() {
        let function = call.function.as_ref().ok_or(WRONG_ARGUMENTS)?;
        let arguments = function.arguments.map_or(Ok("{}".into()), input)?;
        let mut block = Object::begin(next(out));
        block.text("type", "tool_use").words("id", call.id).words("name", function.name);
        block.json("input", arguments.as_bytes()).end();
    }
    Ok(())
}

fn result(message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut block = Object::begin(next(out));
    block.text("type", "tool_result").words("tool_use_id", message.tool_call_id);
    match Content::read(message.content)? {
        Content::Nothing => {}
        Content::Text(text) => {
            block.raw("content", text);
        }
        Content::Parts(parts) => {
            let list = block.key("content");
            list.push(b'[');
            parts.iter().try_for_each(|own| part(own, list))?;
            list.push(b']');
        }
    }
    block.end();
    Ok(())
}

fn tools(chat: &Chat<'_>, request: &mut Object<'_>) -> Result<(), Fault> {
    let Some(tools) = chat.tools.as_ref().filter(|tools| !tools.is_empty()) else { return Ok(()) };
    let out = request.key("tools");
    out.push(b'[');
    for tool in tools {
        let function = tool.function.as_ref().ok_or(WRONG_TOOLS)?;
        let mut own = Object::begin(next(out));
        own.words("name", Some(function.name)).words("description", function.description);
        match function.parameters {
            Some(schema) => own.raw("input_schema", schema),
            None => own.json("input_schema", br#"{"type":"object","properties":{}}"#),
        };
        if function.strict == Some(true) {
            own.json("strict", b"true");
        }
        own.maybe("cache_control", tool.cache_control).end();
    }
    out.push(b']');
    choice(chat, request)
}

fn choice(chat: &Chat<'_>, request: &mut Object<'_>) -> Result<(), Fault> {
    let alone = chat.parallel_tool_calls == Some(false);
    let (what, name) = match chat.tool_choice.map(RawValue::get) {
        None if alone => ("auto", None),
        None => return Ok(()),
        Some(r#""auto""#) => ("auto", None),
        Some(r#""required""#) => ("any", None),
        Some(r#""none""#) => ("none", None),
        Some(chosen) => {
            let chosen = serde_json::from_str::<Chosen<'_>>(chosen).ok();
            let function = chosen.and_then(|chosen| chosen.function).ok_or(WRONG_CHOICE)?;
            ("tool", Some(function.name))
        }
    };
    let mut choice = Object::begin(request.key("tool_choice"));
    choice.text("type", what).words("name", name);
    if alone && what != "none" {
        choice.json("disable_parallel_tool_use", b"true");
    }
    choice.end();
    Ok(())
}

fn output(format: &Format<'_>, request: &mut Object<'_>) -> Result<(), Fault> {
    let schema = match (format.what.as_str(), &format.json_schema) {
        ("text", _) => return Ok(()),
        ("json_schema", Some(Schema { schema: Some(schema) })) => schema,
        _ => return Err(wrong("response_format", "`text`, or `json_schema` with a schema")),
    };
    let out = request.key("output_config");
    out.extend_from_slice(br#"{"format":{"type":"#);
    quote("json_schema", out);
    put!(out, r#","schema":{}}}}}"#, schema.get());
    Ok(())
}

const WRONG_PART: Fault = wrong("messages", "messages of text, images and files that are sent along");
const WRONG_CHOICE: Fault = wrong("tool_choice", "`auto`, `none`, `required` or a function");

/// Anthropic's requests state one, OpenAI's need not. As much as every model there writes, long enough for
/// most answers; a caller that wants more says so.
pub const MAX_TOKENS_DEFAULT: u64 = 4096;
