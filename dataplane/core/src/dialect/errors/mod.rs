//! A fault as each dialect says it: the ONE place where faults become text.
//!
//! | | before the first byte | in a stream |
//! |---|---|---|
//! | OpenAI | `{"error":{"message","type","param","code"}}` | `data: {"error":{…}}` and a blank line |
//! | Anthropic | `{"type":"error","error":{"type","message"},"request_id"}` | the same, as an `error` event |
//! | ask | `{"error","status","detail"}`, or the older shapes existing clients know | an `error` and a
//! `final` line |
//!
//! The status, the code and when to come back are the fault's own ([`Fault::status`], [`Fault::code`],
//! [`Fault::retry_after_s`]). Messages say what is wrong, where, and what to do; they never hold a key, a
//! prompt or an upstream's words, and names others chose are escaped and cut.

mod message;

#[cfg(test)]
mod tests;

use std::fmt::Write;

use proto_core::frame::Code;

use super::json::{Escaped, Shown, put, quote};
use crate::fault::{Fault, Kind, Malformed, MalformedWhat, Side};

/// Whose shapes an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    OpenAi,
    Ask,
    Anthropic,
}

/// What a message may name. Everything but `models` may be empty: then it is left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'c> {
    pub request_id: &'c str,
    /// As the caller wrote it.
    pub model: &'c str,
    /// Of what there is, the first few: at most [`MODELS_NAMED_MAX`] are named.
    pub models: &'c [&'c str],
    /// How many there are in all.
    pub models_total: usize,
    pub path: &'c str,
    /// The adapter the fault came from; in a stream also the one whose answer broke off.
    pub adapter: &'c str,
    /// The model that was answering when a stream broke off.
    pub model_used: &'c str,
}

/// Where the fault is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The body of an answer of its own, with [`Fault::status`].
    Body,
    /// Within a stream that has begun. Whole events or lines; the stream must then be aborted, never ended
    /// cleanly.
    Stream,
}

/// Appends what `dialect` says of `fault` in `place`.
pub fn write(fault: Fault, dialect: Dialect, place: Place, context: &Context<'_>, out: &mut Vec<u8>) {
    match (dialect, place) {
        (Dialect::OpenAi, Place::Body) => openai(fault, context, out),
        (Dialect::OpenAi, Place::Stream) => {
            out.extend_from_slice(b"data: ");
            openai(fault, context, out);
            out.extend_from_slice(b"\n\n");
        }
        (Dialect::Anthropic, Place::Body) => anthropic(fault, context, out),
        (Dialect::Anthropic, Place::Stream) => {
            out.extend_from_slice(b"event: error\ndata: ");
            anthropic(fault, context, out);
            out.extend_from_slice(b"\n\n");
        }
        (Dialect::Ask, Place::Body) => ask(fault, context, out),
        (Dialect::Ask, Place::Stream) => ask_lines(fault, context, out),
    }
}

/// The status of an answer that is nothing but this fault. The same in every dialect but Anthropic's, which
/// has one of its own for a server with too much to do.
pub fn status(fault: Fault, dialect: Dialect) -> u16 {
    let is_overload =
        matches!(fault.kind, Kind::Shed { .. } | Kind::AllTripped | Kind::Status { code: 503 | 529, .. });
    match dialect {
        Dialect::Anthropic if is_overload => 529,
        _ => fault.status(),
    }
}

/// As a frame's `reason`: the stable code, then the sentence.
pub fn reason(fault: Fault, context: &Context<'_>) -> String {
    let mut text = format!("{}: ", fault.code());
    message::write(fault, context, &mut text).expect("a buffer takes what is written");
    if fault.status() >= 500 && !context.request_id.is_empty() {
        write!(text, " Request id: {}.", Shown(context.request_id)).expect("a buffer takes what is written");
    }
    text
}

/// A fault in the words of frames: what a peer that gets it should do.
pub fn frame_code(fault: Fault) -> Code {
    match fault.kind {
        Kind::WindowFull(..)
        | Kind::NoPermit
        | Kind::Overloaded
        | Kind::TooOften { .. }
        | Kind::RunsFull
        | Kind::Shed { .. } => Code::Window,
        Kind::BudgetExceeded | Kind::BudgetSpent { .. } => Code::Budget,
        Kind::KeyMissing | Kind::KeyUnknown | Kind::Foreign => Code::Sec,
        Kind::Preempted => Code::Preempt,
        Kind::Draining => Code::Draining,
        Kind::AllTripped => Code::Circuit,
        Kind::MemoryAway
        | Kind::Absent
        | Kind::NotReady
        | Kind::Connect
        | Kind::ConnectTimeout
        | Kind::Tls
        | Kind::Refused => Code::AgentDown,
        Kind::TooLate { .. }
        | Kind::DeadlineExceeded
        | Kind::FirstTokenTimeout
        | Kind::IdleTimeout
        | Kind::BodyTimeout
        | Kind::SlowClient => Code::Timeout,
        Kind::Internal => Code::Adapter,
        _ if fault.side == Side::Client => Code::BadInput,
        _ => Code::Adapter,
    }
}

/// `{"error":{"message","type","param","code"}}`
fn openai(fault: Fault, context: &Context<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"error":{"message":"#);
    quote_message(fault, context, out);
    put!(out, r#","type":"{}","param":"#, openai_type(fault));
    match param(fault) {
        Some(param) => quote(param, out),
        None => out.extend_from_slice(b"null"),
    }
    put!(out, r#","code":"{}"}}}}"#, fault.code());
}

/// `{"type":"error","error":{"type","message"},"request_id"}`
fn anthropic(fault: Fault, context: &Context<'_>, out: &mut Vec<u8>) {
    let family = match fault.kind {
        Kind::BudgetExceeded | Kind::BudgetSpent { .. } => "billing_error",
        _ => super::anthropic::answer::error_type(status(fault, Dialect::Anthropic)),
    };
    put!(out, r#"{{"type":"error","error":{{"type":"{family}","message":"#);
    quote_message(fault, context, out);
    out.extend_from_slice(br#"},"request_id":"#);
    quote(context.request_id, out);
    out.push(b'}');
}

/// OpenAI's words for the family of an error; clients branch on the status and the code.
fn openai_type(fault: Fault) -> &'static str {
    match (fault.kind, fault.status()) {
        (Kind::BudgetExceeded | Kind::BudgetSpent { .. }, _) => "insufficient_quota",
        (_, 401) => "authentication_error",
        (_, 429) => "rate_limit_error",
        (_, 408 | 504) => "timeout_error",
        (_, 400..=499) => "invalid_request_error",
        _ => "server_error",
    }
}

/// The key of the body the fault is about.
fn param(fault: Fault) -> Option<&'static str> {
    match fault.kind {
        Kind::InvalidField(key, _) => Some(key),
        Kind::PromptTooLarge { .. } => Some("prompt"),
        Kind::ContextTooLarge { .. } => Some("context_refs"),
        Kind::ModelUnknown => Some("model"),
        Kind::Malformed(Malformed {
            what:
                MalformedWhat::DuplicateKey(key)
                | MalformedWhat::MissingKey(key)
                | MalformedWhat::WrongType(key, _),
            ..
        }) => Some(key),
        _ => None,
    }
}

/// The shapes of existing clients where there is one.
fn ask(fault: Fault, context: &Context<'_>, out: &mut Vec<u8>) {
    match fault.kind {
        Kind::KeyMissing | Kind::KeyUnknown => out.extend_from_slice(br#"{"error":"unauthorized"}"#),
        Kind::PromptTooLarge { .. } => out.extend_from_slice(br#"{"detail":"prompt_too_large"}"#),
        Kind::BudgetExceeded | Kind::BudgetSpent { .. } => {
            out.extend_from_slice(br#"{"error":"backpressure","detail":"budget_denied"}"#)
        }
        Kind::NoPermit | Kind::WindowFull(..) | Kind::TooLate { .. } => {
            out.extend_from_slice(br#"{"error":"backpressure","status":429}"#)
        }
        Kind::Overloaded | Kind::TooOften { .. } => {
            out.extend_from_slice(
                br#"{"error":"rate_limited","detail":"too_many_requests","correlation_id":"#,
            );
            quote(context.request_id, out);
            out.push(b'}');
        }
        Kind::AllTripped | Kind::Absent | Kind::NotReady => {
            out.extend_from_slice(br#"{"error":"no_models_available","status":503}"#);
        }
        _ => {
            put!(out, r#"{{"error":"{}","status":{},"detail":"#, fault.code(), fault.status());
            quote_message(fault, context, out);
            out.push(b'}');
        }
    }
}

/// An `error` line for readers that look for one, then the `final` line every reader waits for.
fn ask_lines(fault: Fault, context: &Context<'_>, out: &mut Vec<u8>) {
    let code = fault.code();
    put!(out, r#"{{"type":"error","error":"{code}","detail":"#);
    quote_message(fault, context, out);
    put!(out, "}}\n{{\"type\":\"final\",\"aborted\":true,\"error\":\"{code}\",\"model_used\":");
    match context.model_used {
        "" => out.extend_from_slice(b"null"),
        model => quote(model, out),
    }
    out.extend_from_slice(b"}\n");
}

fn quote_message(fault: Fault, context: &Context<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut text = Escaped(out);
    message::write(fault, context, &mut text).expect("a buffer takes what is written");
    // What is ours or an adapter's to mend is found in the logs by the request's id.
    if fault.status() >= 500 && !context.request_id.is_empty() {
        write!(text, " Request id: {}.", Shown(context.request_id)).expect("a buffer takes what is written");
    }
    out.push(b'"');
}

/// Enough to see a misspelling, short enough to read.
pub const MODELS_NAMED_MAX: usize = 20;
