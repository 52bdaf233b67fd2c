//! Messages to an adapter, and the two answers that are one message.

use prost::Message;
use proto_core::wire::atp::adapter::v1::{
    EstimateRequest, EstimateResponse, HealthRequest, HealthResponse, StreamRequest,
};
use serde_json::{Map, Value};

use super::MESSAGE_BYTES_MAX;
use crate::fault::{Fault, Kind};

/// What an adapter expects a prompt to take.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimate {
    pub input: u64,
    /// Of the tokens; zero where the adapter does not say, or says what is none.
    pub variance: f64,
}

/// `body`, a chat completion request, as `prompt_json`: with `prompt` for adapters that read nothing else.
///
/// # Errors
/// `InvalidField`, where it is no object; `BodyTooLarge`, past what a message may hold.
pub fn prompt(body: &[u8]) -> Result<String, Fault> {
    if body.len() > PROMPT_BYTES_MAX {
        return Err(Fault::client(Kind::BodyTooLarge { limit: PROMPT_BYTES_MAX as u64 }));
    }
    let mut asked: Map<String, Value> = serde_json::from_slice(body)
        .map_err(|_| Fault::client(Kind::InvalidField("body", "a JSON object, nested 64 deep at most")))?;
    if !asked.contains_key("prompt") {
        let last = asked.get("messages").and_then(Value::as_array).and_then(|all| all.last());
        let text = last.and_then(|last| last.get("content")).map(text_of).unwrap_or_default();
        asked.insert("prompt".into(), text.into());
    }
    let told = Value::Object(asked).to_string();
    let limit = Fault::client(Kind::BodyTooLarge { limit: PROMPT_BYTES_MAX as u64 });
    if told.len() <= MESSAGE_BYTES_MAX - MESSAGE_BYTES_REST { Ok(told) } else { Err(limit) }
}

/// A string, or the text parts of a list, a line each.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part.get("text")?.as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// The one message of a `Stream` call, in its frame.
pub fn stream(stream_id: &str, prompt_json: String) -> Vec<u8> {
    framed(&StreamRequest { stream_id: stream_id.into(), prompt_json })
}

/// The message of an `Estimate` call, in its frame.
pub fn estimate(stream_id: &str, prompt_json: String) -> Vec<u8> {
    framed(&EstimateRequest { stream_id: stream_id.into(), task_type: String::new(), prompt_json })
}

/// The message of a `Health` call, in its frame.
pub fn health() -> Vec<u8> {
    framed(&HealthRequest {})
}

/// A message behind its flag (not compressed) and its length.
pub fn framed(message: &impl Message) -> Vec<u8> {
    let length = message.encoded_len();
    let mut frame = Vec::with_capacity(5 + length);
    frame.push(0);
    frame.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    message.encode(&mut frame).expect("a vector grows");
    frame
}

/// The message in the body of a whole answer.
fn unframed<M: Message + Default>(body: &[u8]) -> Option<M> {
    let (head, message) = body.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    (head[0] == 0 && message.len() == length).then(|| M::decode(message).ok())?
}

impl Estimate {
    /// From the body of an `Estimate` call's answer. Counts that no context could hold are not believed.
    pub fn read(body: &[u8]) -> Option<Estimate> {
        let told: EstimateResponse = unframed(body)?;
        let variance = told.variance_tokens;
        let variance = if variance.is_finite() && variance > 0.0 { variance } else { 0.0 };
        let is_likely = (1..=COUNT_MAX).contains(&told.in_tokens);
        is_likely.then_some(Estimate { input: told.in_tokens, variance })
    }
}

/// From the body of a `Health` call's answer: the 95th percentile in milliseconds, and the share of failures.
pub fn health_of(body: &[u8]) -> Option<(f64, f64)> {
    let told: HealthResponse = unframed(body)?;
    let is_one = told.p95_ms.is_finite() && told.p95_ms >= 0.0 && (0.0..=1.0).contains(&told.error_rate);
    is_one.then_some((told.p95_ms, told.error_rate))
}

/// Of a caller's body that is told on: with `prompt` beside it, it may be twice as long.
const PROMPT_BYTES_MAX: usize = MESSAGE_BYTES_MAX - MESSAGE_BYTES_REST;
/// Of a message beside the prompt: an id and the heads of fields.
const MESSAGE_BYTES_REST: usize = 1024;
/// Of tokens, a hundred times the longest context there is.
const COUNT_MAX: u64 = 1 << 30;
