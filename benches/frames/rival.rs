//! What a frame's JSON takes by serde_json: a struct with the same fields, unknown keys and doubled ones of
//! the content not looked at.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Text and content copied, as whoever keeps a frame longer than its message has to.
pub fn owned(message: &[u8]) -> Frame<String, Box<RawValue>> {
    serde_json::from_slice(message).expect("the frame is sound")
}

/// Text and content left in the message, where no escape is in the way.
pub fn borrowed(message: &[u8]) -> Frame<Borrowed<'_>, &RawValue> {
    serde_json::from_slice(message).expect("the frame is sound")
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be measured")]
pub struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be measured")]
pub struct Frame<T, R> {
    v: u8,
    session_id: T,
    stream_id: T,
    msg_seq: u64,
    #[serde(default)]
    frag_seq: u32,
    #[serde(default = "Vec::new")]
    flags: Vec<T>,
    qos: T,
    ttl: u8,
    window: Window,
    meta: Meta<T, R>,
    payload: Payload<T, R>,
    sig: Option<T>,
    checksum: Option<T>,
    nonce: Option<T>,
    kid: Option<T>,
    telemetry: Option<R>,
    adapter: Option<T>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be measured")]
struct Window {
    max_parallel: u32,
    max_tokens: u64,
    max_usd_micros: u64,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be measured")]
struct Meta<T, R> {
    task_type: Option<T>,
    languages: Option<Vec<T>>,
    risk: Option<T>,
    data_scope: Option<Vec<T>>,
    trace: Option<R>,
    tool_permissions: Option<Vec<T>>,
    environment_id: Option<T>,
    security_groups: Option<Vec<T>>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be measured")]
struct Payload<T, R> {
    #[serde(rename = "type")]
    kind: T,
    content: R,
    confidence: Option<f64>,
    cost_est: Option<Cost>,
    checksum: Option<T>,
    expiry_ms: Option<u64>,
    session_id: Option<T>,
    persona_id: Option<T>,
    clone_id: Option<u64>,
    seq: Option<u64>,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read to be measured")]
struct Cost {
    in_tokens: u64,
    out_tokens: u64,
    usd_micros: u64,
}
