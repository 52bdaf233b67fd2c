//! A request of Messages as one of chat completions.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::super::rope::Rope;
use super::super::write::{Object, inside, next};
use super::{Content, Part, Source, WRONG_CONTENT, WRONG_TOOLS, some, wrong};
use crate::fault::Fault;

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow, default)]
    messages: Vec<Message<'a>>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_sequences: Option<&'a RawValue>,
    #[serde(borrow)]
    temperature: Option<&'a RawValue>,
    #[serde(borrow)]
    top_p: Option<&'a RawValue>,
    stream: Option<bool>,
    #[serde(borrow)]
    tools: Option<Vec<Tool<'a>>>,
    tool_choice: Option<Choice>,
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow)]
    output_config: Option<Output<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(rename = "type")]
    what: Option<String>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    description: Option<&'a RawValue>,
    #[serde(borrow)]
    input_schema: Option<&'a RawValue>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(rename = "type")]
    what: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    format: Option<Format<'a>>,
}

#[derive(Deserialize)]
struct Format<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
}

/// `body`, of Messages, for an upstream that calls the model `model_json` (a JSON string, quotes included). A
/// stream asks for usage.
///
/// # Errors
/// `InvalidField`: what is asked for cannot be said in those words.
pub fn to_chat(body: &Rope, model_json: &Bytes) -> Result<Vec<u8>, Fault> {
    let body = body.joined();
    let asked: Asked<'_> = serde_json::from_slice(&body).map_err(|_| WRONG_CONTENT)?;
    let mut out = Vec::with_capacity(body.len());
    let mut chat = Object::begin(&mut out);
    chat.json("model", model_json);
    let list = chat.key("messages");
    list.push(b'[');
    system(Content::read(asked.system)?, list)?;
    for message in &asked.messages {
        let content = Content::read(message.content)?;
        match message.role.as_str() {
            "system" => system(content, list)?,
            "user" => user(content, list)?,
            "assistant" => assistant(content, list)?,
            _ => return Err(wrong("messages", "messages of user, assistant or system")),
        }
    }
    list.push(b']');
    chat.maybe("max_completion_tokens", asked.max_tokens).maybe("temperature", asked.temperature);
    chat.maybe("top_p", asked.top_p);
    if let Some(stop) = asked.stop_sequences.filter(|stop| stop.get() != "[]") {
        chat.raw("stop", stop);
    }
    if asked.stream == Some(true) {
        chat.json("stream", b"true").json("stream_options", br#"{"include_usage":true}"#);
    }
    let user = some(asked.metadata.and_then(|metadata| metadata.user_id));
    chat.maybe("user", user.filter(|user| user.get().len() <= USER_BYTES_MAX + 2));
    tools(&asked.tools.unwrap_or_default(), asked.tool_choice.as_ref(), &mut chat)?;
    if let Some(schema) = asked.output_config.and_then(|output| output.format?.schema) {
        let format = chat.key("response_format");
        format.extend_from_slice(br#"{"type":"json_schema","json_schema":{"name":"answer","strict":true,"#);
        format.extend_from_slice(br#""schema":"#);
        format.extend_from_slice(schema.get().as_bytes());
        format.extend_from_slice(b"}}");
    }
    chat.end();
    Ok(out)
}

fn system(content: Content<'_>, list: &mut Vec<u8>) -> Result<(), Fault> {
    let parts = match content {
        Content::Nothing => return Ok(()),
        Content::Text(text) => {
            Object::begin(next(list)).text("role", "system").raw("content", text).end();
            return Ok(());
        }
        Content::Parts(parts) => parts,
    };
    if parts.iter().any(|part| part.what != "text") {
        return Err(wrong("system", "text, or a list of blocks of text"));
    }
    let mut texts = parts.iter().filter_map(|part| some(part.text)).filter_map(inside).peekable();
    if texts.peek().is_none() {
        return Ok(());
    }
    let mut message = Object::begin(next(list));
    let out = message.text("role", "system").key("content");
    out.push(b'"');
    while let Some(text) = texts.next() {
        out.extend_from_slice(text);
        if texts.peek().is_some() {
            out.extend_from_slice(br"\n\n");
        }
    }
    out.push(b'"');
    message.end();
    Ok(())
}

/// Results of tools first: there they answer the assistant's message at once.
fn user(content: Content<'_>, list: &mut Vec<u8>) -> Result<(), Fault> {
    let parts = match content {
        Content::Nothing => return Ok(()),
        Content::Text(text) => {
            Object::begin(next(list)).text("role", "user").raw("content", text).end();
            return Ok(());
        }
        Content::Parts(parts) => parts,
    };
    let mut own = Vec::new();
    for part in &parts {
        match part.what.as_str() {
            "tool_result" => result(part, list, &mut own)?,
            _ => said(part, &mut own)?,
        }
    }
    if own.is_empty() {
        return Ok(());
    }
    let mut message = Object::begin(next(list));
    let out = message.text("role", "user").key("content");
    match parts.as_slice() {
        // As most servers know it.
        [Part { what, text: Some(text), .. }] if what == "text" => {
            out.extend_from_slice(text.get().as_bytes());
        }
        _ => {
            out.push(b'[');
            out.append(&mut own);
            out.push(b']');
        }
    }
    message.end();
    Ok(())
}

/// What a tool said. Images in it are the user's there.
fn result(part: &Part<'_>, list: &mut Vec<u8>, own: &mut Vec<u8>) -> Result<(), Fault> {
    let mut texts = Vec::new();
    let mut only = None;
    match Content::read(part.content)? {
        Content::Nothing => {}
        Content::Text(text) => only = Some(text.get().to_owned()),
        Content::Parts(inner) => {
            for block in &inner {
                match block.what.as_str() {
                    "text" => said(block, &mut texts)?,
                    _ => said(block, own)?,
                }
            }
            if let [Part { what, text: Some(text), .. }] = inner.as_slice()
                && what == "text"
            {
                only = Some(text.get().to_owned());
            }
        }
    }
    let mut message = Object::begin(next(list));
    message.text("role", "tool").words("tool_call_id", part.tool_use_id);
    let out = message.key("content");
    match only {
        Some(text) => out.extend_from_slice(text.as_bytes()),
        None if texts.is_empty() => out.extend_from_slice(b"\"\""),
        None => {
            out.push(b'[');
            out.append(&mut texts);
            out.push(b']');
        }
    }
    message.end();
    Ok(())
}

fn said(part: &Part<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match part.what.as_str() {
        "text" => {
            if let Some(text) = some(part.text) {
                Object::begin(next(out)).text("type", "text").raw("text", text).end();
            }
        }
        "image" => {
            let mut block = Object::begin(next(out));
            let url = block.text("type", "image_url").key("image_url");
            url.extend_from_slice(br#"{"url":"#);
            address(part.source.as_ref().ok_or(WRONG_BLOCK)?, url)?;
            url.push(b'}');
            block.end();
        }
        "document" => document(part, out)?,
        _ => return Err(WRONG_BLOCK),
    }
    Ok(())
}

/// As a URL that holds it, or as the URL it has.
fn address(source: &Source<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    match (source.what.as_str(), source.url, source.media_type.and_then(inside), source.data.and_then(inside))
    {
        ("url", Some(url), ..) if inside(url).is_some() => out.extend_from_slice(url.get().as_bytes()),
        ("base64", _, Some(media_type), Some(data)) => {
            out.extend_from_slice(b"\"data:");
            out.extend_from_slice(media_type);
            out.extend_from_slice(b";base64,");
            out.extend_from_slice(data);
            out.push(b'"');
        }
        _ => return Err(WRONG_BLOCK),
    }
    Ok(())
}

fn document(part: &Part<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let source = part.source.as_ref().ok_or(WRONG_BLOCK)?;
    let mut block = Object::begin(next(out));
    match source.what.as_str() {
        "text" => {
            block.text("type", "text").words("text", source.data);
        }
        "base64" => {
            let mut file = Object::begin(block.text("type", "file").key("file"));
            match some(part.title) {
                Some(title) => file.raw("filename", title),
                None => file.text("filename", "document.pdf"),
            };
            address(source, file.key("file_data"))?;
            file.end();
        }
        _ => return Err(WRONG_BLOCK),
    }
    block.end();
    Ok(())
}

fn assistant(content: Content<'_>, list: &mut Vec<u8>) -> Result<(), Fault> {
    let mut message = Object::begin(next(list));
    message.text("role", "assistant");
    let parts = match content {
        Content::Nothing => Vec::new(),
        Content::Text(text) => {
            message.raw("content", text).end();
            return Ok(());
        }
        Content::Parts(parts) => parts,
    };
    let is_known = |what: &str| matches!(what, "text" | "tool_use" | "thinking" | "redacted_thinking");
    if !parts.iter().all(|part| is_known(&part.what)) {
        return Err(WRONG_BLOCK);
    }
    let calls = || parts.iter().filter(|part| part.what == "tool_use");
    let mut texts = parts.iter().filter_map(|part| some(part.text)).filter_map(inside).peekable();
    let out = message.key("content");
    if texts.peek().is_none() && calls().next().is_some() {
        out.extend_from_slice(b"null");
    } else {
        out.push(b'"');
        texts.for_each(|text| out.extend_from_slice(text));
        out.push(b'"');
    }
    if calls().next().is_some() {
        let out = message.key("tool_calls");
        out.push(b'[');
        for call in calls() {
            let mut own = Object::begin(next(out));
            own.words("id", call.id).text("type", "function");
            let arguments = call.input.map_or("{}", RawValue::get);
            Object::begin(own.key("function")).words("name", call.name).text("arguments", arguments).end();
            own.end();
        }
        out.push(b']');
    }
    message.end();
    Ok(())
}

fn tools(tools: &[Tool<'_>], choice: Option<&Choice>, chat: &mut Object<'_>) -> Result<(), Fault> {
    if tools.is_empty() {
        return Ok(());
    }
    let out = chat.key("tools");
    out.push(b'[');
    for tool in tools {
        let is_callers = tool.what.as_deref().is_none_or(|what| what == "custom");
        let (true, Some(name), Some(schema)) = (is_callers, tool.name, tool.input_schema) else {
            return Err(WRONG_TOOLS);
        };
        let mut own = Object::begin(next(out));
        let mut function = Object::begin(own.text("type", "function").key("function"));
        function.words("name", Some(name)).words("description", tool.description);
        function.raw("parameters", schema);
        if tool.strict == Some(true) {
            function.json("strict", b"true");
        }
        function.end();
        own.end();
    }
    out.push(b']');
    let Some(choice) = choice else { return Ok(()) };
    let word = match (choice.what.as_str(), choice.name.as_deref()) {
        ("auto", _) => "auto",
        ("any", _) => "required",
        ("none", _) => "none",
        ("tool", Some(_)) => "function",
        _ => return Err(wrong("tool_choice", "of type auto, any, none, or tool with its name")),
    };
    match choice.name.as_deref().filter(|_| word == "function") {
        Some(name) => {
            let mut chosen = Object::begin(chat.key("tool_choice"));
            Object::begin(chosen.text("type", word).key("function")).text("name", name).end();
            chosen.end();
        }
        None => drop(chat.text("tool_choice", word)),
    }
    if choice.disable_parallel_tool_use == Some(true) {
        chat.json("parallel_tool_calls", b"false");
    }
    Ok(())
}

const WRONG_BLOCK: Fault = wrong(
    "messages",
    "messages of text, images, documents, tool calls and their results, for a model that is not Anthropic's",
);
/// OpenAI refuses longer names of users; some of Anthropic's clients send whole records.
const USER_BYTES_MAX: usize = 64;
