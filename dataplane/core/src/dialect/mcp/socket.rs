//! The older protocol over WebSocket: `listTools` and `callTool` in, `toolOutput` in numbered pieces out.
//! A call is written in one of two forms, which differ in where the tool's name and arguments stand; both are
//! read, and answered alike.

use std::borrow::Cow;
use std::time::Duration;

use proto_core::model::Qos;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{Completed, usd};
use super::rpc::{ID_BYTES_MAX, text};
use super::tools::Listing;
use crate::dialect::json::{put, quote};
use crate::fault::{Fault, Kind, Side};
use crate::trace::Context;

/// One message.
#[derive(Debug, Clone)]
pub enum Said<'m> {
    ListTools,
    Call(Call<'m>),
    /// A call of before is wanted no more.
    Cancel {
        call: CallId<'m>,
    },
    /// Which version of the schema is spoken?
    Negotiate {
        id: CallId<'m>,
    },
    /// Alive; nothing to answer.
    Heartbeat,
    Unknown,
}

/// `callTool`, in either form.
#[derive(Debug, Clone)]
pub struct Call<'m> {
    pub id: CallId<'m>,
    pub name: Cow<'m, str>,
    /// An object, where there is one.
    pub arguments: Option<&'m RawValue>,
    /// Wants the answer as it comes, not only whole.
    pub streamed: bool,
    pub deadline: Option<Duration>,
    pub qos: Option<Qos>,
    /// The span it belongs to: `traceparent` of its `_meta`.
    pub parent: Option<Context>,
}

/// As it was written; `null` where it was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId<'m>(Option<&'m str>);

impl<'m> CallId<'m> {
    pub const NONE: CallId<'static> = CallId(None);

    pub fn as_json(self) -> &'m str {
        self.0.unwrap_or("null")
    }

    /// Of what [`CallId::as_json`] gave.
    pub fn again(json: &'m str) -> CallId<'m> {
        CallId(Some(json).filter(|json| *json != "null"))
    }
}

#[derive(Deserialize)]
struct Written<'m> {
    #[serde(borrow, default)]
    r#type: Option<&'m RawValue>,
    #[serde(borrow, default)]
    id: Option<&'m RawValue>,
    #[serde(borrow, default, rename = "toolCallId")]
    tool_call_id: Option<&'m RawValue>,
    #[serde(borrow, default)]
    tool: Option<&'m RawValue>,
    #[serde(borrow, default)]
    parameters: Option<&'m RawValue>,
    #[serde(borrow, default)]
    stream: Option<&'m RawValue>,
    #[serde(borrow, default)]
    timeout_seconds: Option<&'m RawValue>,
    #[serde(borrow, default)]
    priority: Option<&'m RawValue>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<&'m RawValue>,
    // What only frames have.
    #[serde(borrow, default)]
    v: Option<&'m RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'m RawValue>,
    #[serde(borrow, default)]
    stream_id: Option<&'m RawValue>,
    #[serde(borrow, default, rename = "streamId")]
    stream_id_camel: Option<&'m RawValue>,
}

/// Whether a message is a frame, which is read elsewhere; else what it says.
///
/// # Errors
/// What is no message of either; with the id of the call, where it is one.
pub fn read(message: &[u8]) -> Result<Option<Said<'_>>, (String, CallId<'_>)> {
    let is_object = message.trim_ascii_start().first() == Some(&b'{');
    let written = serde_json::from_slice::<Written<'_>>(message).ok().filter(|_| is_object);
    let Some(written) = written else {
        let what = "A message is a JSON object with a `type`, whose keys each stand once.";
        return Err((what.into(), CallId(None)));
    };
    let of_frames = [written.v, written.payload, written.stream_id, written.stream_id_camel];
    if of_frames.iter().any(Option::is_some) {
        return Ok(None);
    }
    let id = id(&written)?;
    let kind = written.r#type.and_then(text).unwrap_or_default();
    Ok(Some(match &*kind {
        "listTools" => Said::ListTools,
        "callTool" => Said::Call(call(&written, id)?),
        "cancelTool" => Said::Cancel { call: id },
        "negotiateSchema" => Said::Negotiate { id },
        "heartbeat" => Said::Heartbeat,
        _ => Said::Unknown,
    }))
}

fn id<'m>(written: &Written<'m>) -> Result<CallId<'m>, (String, CallId<'m>)> {
    let Some(raw) = written.tool_call_id.or(written.id) else { return Ok(CallId(None)) };
    let is_plain = !raw.get().starts_with(['{', '[']);
    match is_plain && raw.get().len() <= ID_BYTES_MAX {
        true => Ok(CallId(Some(raw.get()))),
        false => Err(("`id` must be a string or a number, of at most 128 bytes.".into(), CallId(None))),
    }
}

fn call<'m>(written: &Written<'m>, id: CallId<'m>) -> Result<Call<'m>, (String, CallId<'m>)> {
    #[derive(Deserialize)]
    struct Tool<'m> {
        #[serde(borrow)]
        name: Cow<'m, str>,
        #[serde(borrow, default)]
        arguments: Option<&'m RawValue>,
    }
    let wrong = |what: &str| Err((what.to_owned(), id));
    let tool = written.tool.map(RawValue::get).unwrap_or_default();
    let is_by_name = tool.starts_with('"');
    let (name, arguments) = match written.tool {
        Some(tool) if is_by_name => (text(tool), written.parameters),
        Some(_) if tool.starts_with('{') => match serde_json::from_str::<Tool<'_>>(tool) {
            Ok(tool) => (Some(tool.name), tool.arguments),
            Err(_) => (None, None),
        },
        _ => (None, None),
    };
    let Some(name) = name else {
        return wrong("`tool` must be a tool's name, or an object with `name` and `arguments`.");
    };
    if arguments.is_some_and(|arguments| !arguments.get().starts_with('{')) {
        return wrong("The arguments of a tool are an object.");
    }
    let streamed = match written.stream.map(RawValue::get) {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => return wrong("`stream` must be true or false."),
    };
    let seconds = match written.timeout_seconds.map(|raw| raw.get().parse::<u64>()) {
        Some(Ok(seconds @ 1..=TIMEOUT_S_MAX)) => Some(seconds),
        Some(_) => return wrong("`timeout_seconds` must be a whole number from 1 to 300."),
        None => is_by_name.then_some(TIMEOUT_S),
    };
    let qos = match written.priority.and_then(text).as_deref() {
        None if written.priority.is_none() => None,
        Some("low") => Some(Qos::Bronze),
        Some("normal") => Some(Qos::Silver),
        Some("high" | "urgent") => Some(Qos::Gold),
        _ => return wrong("`priority` must be low, normal, high or urgent."),
    };
    let parent = written.meta.and_then(|meta| Context::of_json(meta.get()));
    Ok(Call { id, name, arguments, streamed, deadline: seconds.map(Duration::from_secs), qos, parent })
}

/// Appends the answer to `listTools`: all of them.
pub fn listed(listing: &Listing<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"listTools","tools":["#);
    let mut cursor = None;
    while let Some(next) = listing.page(cursor.as_deref(), out) {
        cursor = next;
        if cursor.is_none() {
            break;
        }
        out.push(b',');
    }
    out.extend_from_slice(b"]}");
}

/// Appends the answer to `negotiateSchema`. There is one version, so the rule (the same, else of the same
/// major and minor, else of the same major, else the newest) always gives that.
pub fn negotiated(id: CallId<'_>, out: &mut Vec<u8>) {
    put!(out, r#"{{"type":"schemaNegotiated","id":{},"negotiatedVersion":"{SCHEMA}"}}"#, id.as_json());
}

/// What a piece says of its place: it is the `sequence`th of its call, from 1, and with it `tokens` have
/// come.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub sequence: u64,
    pub tokens: u64,
}

fn output(id: CallId<'_>, place: Place, text: &[u8], out: &mut Vec<u8>) {
    put!(out, r#"{{"type":"toolOutput","toolCallId":{},"content":[{{"type":"text","text":""#, id.as_json());
    out.extend_from_slice(text);
    let Place { sequence, tokens } = place;
    put!(out, r#""}}],"sequence":{sequence},"cumulative_tokens":{tokens},"#);
}

/// Appends a piece of an answer; `text` stands between the quotes of a JSON string.
pub fn partial(id: CallId<'_>, place: Place, text: &[u8], out: &mut Vec<u8>) {
    output(id, place, text, out);
    out.extend_from_slice(br#""is_partial":true,"dp_metrics_emitted":true}"#);
}

/// Appends a whole answer. `quality`: of `route.complete`, as asked for; `None`: an adapter was asked.
pub fn last(id: CallId<'_>, sequence: u64, done: &Completed<'_>, quality: Option<&str>, out: &mut Vec<u8>) {
    output(id, Place { sequence, tokens: done.usage.output }, done.text, out);
    out.extend_from_slice(br#""final":true,"metadata":{"#);
    done.told(out);
    out.extend_from_slice(br#","cost_estimate":"#);
    usd(done.cost, out);
    put!(out, r#","tokens_used":{}"#, done.usage.input.saturating_add(done.usage.output));
    match quality {
        Some(quality) => put!(out, r#","quality_target":"{quality}""#),
        None => out.extend_from_slice(br#","direct_call":true"#),
    }
    out.extend_from_slice(br#"},"dp_metrics_emitted":true}"#);
}

/// Appends what a fixed tool's handler made, a JSON object.
pub fn handled(id: CallId<'_>, object: &str, out: &mut Vec<u8>) {
    put!(out, r#"{{"type":"toolOutput","toolCallId":{},"content":[{{"type":"json","data":"#, id.as_json());
    put!(out, r#"{object}}}],"sequence":1,"cumulative_tokens":0,"final":true,"metadata":{{}}}}"#);
}

/// Appends an error; of a call, where `id` names one.
pub fn error(id: CallId<'_>, code: &str, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"error","#);
    if let CallId(Some(id)) = id {
        put!(out, r#""toolCallId":{id},"#);
    }
    put!(out, r#""error":{{"code":"{code}","message":"#);
    quote(message, out);
    out.extend_from_slice(b"}}");
}

/// A fault in the codes this protocol has.
pub fn code(fault: Fault) -> &'static str {
    match fault.kind {
        Kind::ModelUnknown | Kind::NotReady | Kind::AllTripped | Kind::Draining => "ADAPTER_UNAVAILABLE",
        Kind::ClientGone => "CANCELLED",
        Kind::Internal => "INTERNAL_ERROR",
        _ if fault.side == Side::Upstream => "ADAPTER_UNAVAILABLE",
        _ => match fault.status() {
            400 | 413 => "INVALID_REQUEST",
            401 => "AUTHENTICATION_FAILED",
            403 => "PERMISSION_DENIED",
            429 | 503 => "RATE_LIMITED",
            _ => "INTERNAL_ERROR",
        },
    }
}

/// Nobody has anything to say, and both are there.
pub const HEARTBEAT: &[u8] = br#"{"type":"heartbeat"}"#;
/// Of the schema; the only one.
const SCHEMA: &str = "v1.0";
/// Of a call in the form of the schema, where it says nothing.
const TIMEOUT_S: u64 = 30;
const TIMEOUT_S_MAX: u64 = 300;

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
