//! A chat request as `/api/chat` takes it.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::fault::{Fault, Kind};

type Object = Map<String, Value>;

/// `body`, a chat request in OpenAI's words, in Ollama's.
///
/// # Errors
/// `InvalidField`: the caller asks for what Ollama cannot do, or what it asks does not read.
pub fn render(body: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut asked: Object =
        serde_json::from_slice(body).map_err(|_| invalid("body", "a JSON object, nested 64 deep at most"))?;
    refuse_what_it_cannot(&asked)?;
    let mut told = Object::new();
    for key in ["model", "keep_alive", "think"] {
        if let Some(value) = asked.remove(key).filter(|value| !value.is_null()) {
            told.insert(key.into(), value);
        }
    }
    if let Some(effort) = asked.remove("reasoning_effort").filter(Value::is_string) {
        let effort = if effort == "none" { Value::Bool(false) } else { effort };
        told.entry("think").or_insert(effort);
    }
    let Some(Value::Array(messages)) = asked.remove("messages") else {
        return Err(invalid("messages", "a list of messages"));
    };
    told.insert("messages".into(), self::messages(messages)?.into());
    let wants_tools = asked.get("tool_choice").is_none_or(|choice| choice != "none");
    if let Some(tools @ Value::Array(_)) = asked.remove("tools").filter(|_| wants_tools) {
        told.insert("tools".into(), tools);
    }
    if let Some(format) = asked.remove("response_format").filter(|format| !format.is_null()) {
        told.extend(self::format(format)?.map(|format| ("format".into(), format)));
    }
    let options = options(&mut asked);
    if !options.is_empty() {
        told.insert("options".into(), options.into());
    }
    // Ollama streams unless it is told not to.
    let streamed = asked.remove("stream").is_some_and(|stream| stream == true);
    told.insert("stream".into(), streamed.into());
    Ok(Value::Object(told).to_string().into_bytes())
}

fn refuse_what_it_cannot(asked: &Object) -> Result<(), Fault> {
    if asked.get("n").is_some_and(|n| !n.is_null() && *n != 1) {
        return Err(invalid("n", "1: Ollama gives one answer"));
    }
    if asked.get("logprobs").is_some_and(|wanted| *wanted == true) {
        return Err(invalid("logprobs", "false for an adapter of kind ollama"));
    }
    let choice = asked.get("tool_choice");
    if choice.is_some_and(|choice| !choice.is_null() && choice != "auto" && choice != "none") {
        return Err(invalid("tool_choice", "auto or none: Ollama cannot be made to call a tool"));
    }
    Ok(())
}

/// Sampling: Ollama's own `options` where the caller gave some, with OpenAI's names put into it.
fn options(asked: &mut Object) -> Object {
    let mut options = match asked.remove("options") {
        Some(Value::Object(options)) => options,
        _ => Object::new(),
    };
    for (name, own) in OPTIONS {
        if let Some(value) = asked.remove(name).filter(|value| !value.is_null()) {
            options.insert(own.into(), value);
        }
    }
    match asked.remove("stop") {
        Some(stop @ Value::String(_)) => drop(options.insert("stop".into(), json!([stop]))),
        Some(stop @ Value::Array(_)) => drop(options.insert("stop".into(), stop)),
        _ => {}
    }
    options
}

fn format(asked: Value) -> Result<Option<Value>, Fault> {
    match asked.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some("json".into())),
        Some("json_schema") => match asked.pointer("/json_schema/schema") {
            Some(schema @ Value::Object(_)) => Ok(Some(schema.clone())),
            _ => Err(invalid("response_format.json_schema.schema", "a JSON schema")),
        },
        _ => Err(invalid("response_format.type", "text, json_object or json_schema")),
    }
}

fn messages(asked: Vec<Value>) -> Result<Vec<Value>, Fault> {
    // Of calls so far, by their id: Ollama names the tool that a result is of.
    let mut tools: HashMap<String, String> = HashMap::new();
    asked.into_iter().map(|message| self::message(message, &mut tools).map(Value::Object)).collect()
}

fn message(asked: Value, tools: &mut HashMap<String, String>) -> Result<Object, Fault> {
    let Value::Object(mut asked) = asked else {
        return Err(invalid("messages[]", "objects with a role and a content"));
    };
    let mut told = Object::new();
    let role = match asked.remove("role") {
        Some(Value::String(role)) if role == "developer" => "system".into(),
        Some(Value::String(role)) => role,
        _ => return Err(invalid("messages[].role", "system, user, assistant or tool")),
    };
    told.insert("role".into(), role.into());
    let (text, images) = content(asked.remove("content"))?;
    told.insert("content".into(), text.into());
    if !images.is_empty() {
        told.insert("images".into(), images.into());
    }
    let thought = asked.remove("reasoning_content").or_else(|| asked.remove("reasoning"));
    if let Some(thought) = thought.filter(Value::is_string) {
        told.insert("thinking".into(), thought);
    }
    if let Some(Value::Array(calls)) = asked.remove("tool_calls") {
        let calls = calls.into_iter().map(|call| tool_call(call, tools)).collect::<Result<Vec<_>, _>>()?;
        told.insert("tool_calls".into(), calls.into());
    }
    if let Some(Value::String(id)) = asked.remove("tool_call_id") {
        if let Some(name) = tools.get(&id) {
            told.insert("tool_name".into(), name.as_str().into());
        }
        told.insert("tool_call_id".into(), id.into());
    }
    Ok(told)
}

/// Text in one piece, and images as base64 without what names their kind.
fn content(asked: Option<Value>) -> Result<(String, Vec<Value>), Fault> {
    let parts = match asked {
        None | Some(Value::Null) => return Ok(Default::default()),
        Some(Value::String(text)) => return Ok((text, Vec::new())),
        Some(Value::Array(parts)) => parts,
        Some(_) => return Err(invalid("messages[].content", "text or a list of parts")),
    };
    let (mut text, mut images) = (String::new(), Vec::new());
    for part in parts {
        match part.get("type").and_then(Value::as_str) {
            Some("text") => {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(part.get("text").and_then(Value::as_str).unwrap_or_default());
            }
            Some("image_url") => {
                let url = part.pointer("/image_url/url").or(part.get("image_url")).and_then(Value::as_str);
                let data = url.and_then(|url| url.strip_prefix("data:")?.split_once(";base64,"));
                let Some((_, data)) = data else {
                    let what = "a data: URL with base64, for an adapter of kind ollama";
                    return Err(invalid("messages[].content[].image_url.url", what));
                };
                images.push(data.into());
            }
            _ => return Err(invalid("messages[].content[].type", "text or image_url, for Ollama")),
        }
    }
    Ok((text, images))
}

fn tool_call(asked: Value, tools: &mut HashMap<String, String>) -> Result<Value, Fault> {
    let name = asked.pointer("/function/name").and_then(Value::as_str);
    let Some(name) = name else {
        return Err(invalid("messages[].tool_calls[].function.name", "a name"));
    };
    let arguments = match asked.pointer("/function/arguments") {
        Some(Value::String(text)) if text.trim().is_empty() => json!({}),
        Some(Value::String(text)) => serde_json::from_str(text)
            .ok()
            .filter(Value::is_object)
            .ok_or(invalid("messages[].tool_calls[].function.arguments", "a JSON object as text"))?,
        Some(arguments @ Value::Object(_)) => arguments.clone(),
        _ => json!({}),
    };
    let mut told = json!({ "function": { "name": name, "arguments": arguments } });
    if let Some(id) = asked.get("id").and_then(Value::as_str) {
        tools.insert(id.into(), name.into());
        told["id"] = id.into();
    }
    Ok(told)
}

fn invalid(field: &'static str, wanted: &'static str) -> Fault {
    Fault::client(Kind::InvalidField(field, wanted))
}

/// OpenAI's names (and what its compatible servers added), and Ollama's. The later wins.
const OPTIONS: [(&str, &str); 10] = [
    ("max_tokens", "num_predict"),
    ("max_completion_tokens", "num_predict"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("top_k", "top_k"),
    ("min_p", "min_p"),
    ("seed", "seed"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
    ("repeat_penalty", "repeat_penalty"),
];
