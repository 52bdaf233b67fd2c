//! What existing clients ask for, whichever way they write it.

use bytes::Bytes;
use proto_core::session::Message;
use serde_json::{Map, Value, json};

/// One message, understood.
pub enum Request {
    /// The content of a request: a prompt, or OpenAI's chat request.
    Work(Bytes),
    Heartbeat,
    /// `adapter.capability`, or `adapter.health`.
    Capability {
        is_health: bool,
    },
    /// Something that wants no answer.
    Nothing,
}

/// Reads a message.
pub fn of(message: &Message) -> Request {
    let content = serde_json::from_slice(message.content.as_bytes()).unwrap_or(Value::Null);
    match message.kind.as_str() {
        "heartbeat" | "HEARTBEAT" => Request::Heartbeat,
        "adapter.capability" => Request::Capability { is_health: false },
        "adapter.health" => Request::Capability { is_health: true },
        "control.status" | "log" | "tool.result" | "WINDOW_UPDATE" | "ACK" => Request::Nothing,
        _ => Request::Work(work(content)),
    }
}

/// In the words of the doors for everybody else. What a field means is theirs to judge.
fn work(content: Value) -> Bytes {
    let Value::Object(mut fields) = content else {
        let prompt = match content {
            Value::String(text) => text,
            other => other.to_string(),
        };
        return text(&json!({ "prompt": prompt }));
    };
    if fields.contains_key("messages") {
        // Its text is what these peers are told, piece by piece or at the end: it is read from a stream.
        fields.insert("stream".into(), json!(true));
        return text(&Value::Object(fields));
    }
    let mut asked = Map::new();
    let prompt = ["prompt", "text", "question", "query"].iter().find_map(|key| match fields.get(*key) {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    });
    for (name, camel) in FIELDS {
        if let Some(value) = fields.remove(*name).or_else(|| fields.remove(*camel)) {
            asked.insert((*name).into(), value);
        }
    }
    if let Some(quality) = asked.get_mut("quality") {
        *quality = match quality.as_str() {
            Some("high") => json!("high"),
            Some("fast" | "low") => json!("fast"),
            _ => json!("balanced"),
        };
    }
    asked.insert("prompt".into(), json!(prompt.unwrap_or_else(|| Value::Object(fields).to_string())));
    text(&Value::Object(asked))
}

fn text(value: &Value) -> Bytes {
    value.to_string().into()
}

/// Of a prompt, in both spellings.
const FIELDS: &[(&str, &str)] = &[
    ("model", "model"),
    ("max_tokens", "maxTokens"),
    ("quality", "quality"),
    ("max_cost_usd", "maxCostUsd"),
    ("latency_slo_ms", "latencySloMs"),
    ("task_type", "taskType"),
];
