//! The sentences: what is wrong, where, and what to do about it.

use std::fmt::{Result, Write};

use super::super::json::{DEPTH_MAX, Shown};
use super::{Context, MODELS_NAMED_MAX};
use crate::admit::window::Axis;
use crate::fault::{Fault, Kind, Malformed, MalformedWhat, Whose};

/// `text` escapes what it is given.
pub(super) fn write(fault: Fault, context: &Context<'_>, text: &mut impl Write) -> Result {
    match fault.kind {
        Kind::Malformed(malformed) => body(malformed, text),
        Kind::InvalidField(key, expected) => write!(text, "`{key}` must be {expected}."),
        Kind::ModelUnknown => unknown_model(context, text),
        Kind::Connect
        | Kind::ConnectTimeout
        | Kind::Tls
        | Kind::Reset
        | Kind::Refused
        | Kind::FirstTokenTimeout
        | Kind::IdleTimeout
        | Kind::Truncated
        | Kind::Garbled
        | Kind::StreamError
        | Kind::Status { .. }
        | Kind::CredentialsRefused => upstream(fault, context, text),
        _ => request(fault, context, text),
    }
}

fn body(malformed: Malformed, text: &mut impl Write) -> Result {
    let at = malformed.at;
    match malformed.what {
        MalformedWhat::Syntax(expected) => {
            write!(text, "The request body is not valid JSON: expected {expected} at byte {at}.")
        }
        MalformedWhat::Unfinished => {
            write!(text, "The request body is not valid JSON: it ends inside a value, after {at} bytes.")
        }
        MalformedWhat::TooDeep => {
            write!(text, "The request body nests deeper than {DEPTH_MAX} levels at byte {at}. Flatten it.")
        }
        MalformedWhat::NotUtf8 => {
            write!(
                text,
                "The request body is not valid UTF-8 at byte {at} (or half a surrogate pair stands there)."
            )
        }
        MalformedWhat::DuplicateKey(key) => {
            write!(text, "The request body has `{key}` twice, the second time at byte {at}. Send it once.")
        }
        MalformedWhat::MissingKey(key) => write!(text, "The request body has no `{key}`. Send one."),
        MalformedWhat::WrongType(key, expected) => {
            write!(text, "`{key}` must be {expected}, which it is not at byte {at} of the request body.")
        }
        MalformedWhat::NotAnObject => {
            write!(text, "The request body must be a JSON object, which begins with `{{`; see byte {at}.")
        }
        MalformedWhat::Trailing => {
            write!(text, "The request body goes on after its JSON object, at byte {at}. Send one object.")
        }
    }
}

fn unknown_model(context: &Context<'_>, text: &mut impl Write) -> Result {
    match context.model {
        "" => text.write_str("There is no model for this request.")?,
        model => write!(text, "There is no model, route or adapter/model `{}`.", Shown(model))?,
    }
    let named = context.models.len().min(MODELS_NAMED_MAX);
    let more = context.models_total.max(context.models.len()) - named;
    if named == 0 {
        return text.write_str(" None is configured; apply an Adapter with models first.");
    }
    text.write_str(" There is: ")?;
    for (at, model) in context.models[..named].iter().enumerate() {
        write!(text, "{}`{}`", if at == 0 { "" } else { ", " }, Shown(model))?;
    }
    match more {
        0 => text.write_str("."),
        _ => write!(text, " and {more} more; see GET /v1/models."),
    }
}

/// What the caller or this proxy has to mend.
fn request(fault: Fault, context: &Context<'_>, text: &mut impl Write) -> Result {
    let path = Shown(if context.path.is_empty() { "this path" } else { context.path });
    match fault.kind {
        Kind::BodyTooLarge { limit } => {
            write!(text, "The request body is larger than {limit} bytes. Send less.")
        }
        Kind::PromptTooLarge { limit } => {
            write!(text, "The prompt is longer than {limit} characters. Shorten it.")
        }
        Kind::ContextTooLarge { limit } => {
            write!(text, "What `context_refs` names is larger than {limit} bytes together. Name less of it.")
        }
        Kind::MemoryAway => text.write_str(
            "The memory gateway did not answer, so the context that was asked for is missing. Try again, or \
             ask without it.",
        ),
        Kind::MemoryRefused => text.write_str(
            "The memory gateway did not take this caller for the tenant it is here. The operator has to \
             check that it knows the same tenants.",
        ),
        Kind::BodyTimeout => {
            text.write_str("The request body did not arrive in time. Send it again, faster.")
        }
        Kind::BodyEncoded => {
            text.write_str("The request body has a content-encoding, which is not supported. Send it plain.")
        }
        Kind::KeyMissing => {
            text.write_str("This request needs a key: send `authorization: Bearer KEY` or `x-api-key: KEY`.")
        }
        Kind::KeyUnknown => {
            text.write_str("The key sent is not known here. Check it, or ask the operator for one.")
        }
        Kind::Foreign => text.write_str(
            "Without a key only programs are served, and this request names another host than this machine \
             or comes from another origin's page. Call http://localhost, or send a Tenant's key.",
        ),
        Kind::Loop => text.write_str(LOOP),
        Kind::PathUnknown => write!(text, "There is nothing at {path}. Try POST /v1/chat/completions."),
        Kind::MethodNotAllowed => write!(text, "There is another method for {path}; see the `allow` header."),
        Kind::BudgetExceeded
        | Kind::NoPermit
        | Kind::TooLate { .. }
        | Kind::WindowFull(..)
        | Kind::BudgetSpent { .. }
        | Kind::Preempted
        | Kind::Shed { .. }
        | Kind::Overloaded
        | Kind::TooOften { .. }
        | Kind::RunsFull => admission(fault, text),
        Kind::Draining => text.write_str("This server is shutting down. Try again on a new connection."),
        Kind::NotReady => text.write_str("This server has no configuration yet. Try again soon."),
        Kind::AllTripped => text.write_str(
            "All models for this request fail at the moment. Try again after the `retry-after` time.",
        ),
        Kind::Absent => text.write_str(
            "The adapter for this request is not connected at the moment. Try again after the `retry-after` \
             time.",
        ),
        Kind::DeadlineExceeded => {
            text.write_str("No answer came before the deadline. Allow more time, or ask for less.")
        }
        Kind::SlowClient => {
            text.write_str("The answer was not read in time and was cut. Read it as it comes.")
        }
        Kind::ClientGone => text.write_str("The request was cancelled."),
        _ => text.write_str(
            "This server made a mistake, which has been counted. Try again, or tell the operator.",
        ),
    }
}

/// Who may have more, and when.
fn admission(fault: Fault, text: &mut impl Write) -> Result {
    match fault.kind {
        Kind::BudgetExceeded => {
            text.write_str("No model can answer within this budget. Raise it, or ask for less.")
        }
        Kind::NoPermit => text.write_str(
            "All models for this request are at capacity. Try again after the `retry-after` time.",
        ),
        Kind::TooLate { wait_s } => write!(
            text,
            "The queue for a model is longer than this request's deadline: about {wait_s} s. Try again after \
             the `retry-after` time, or allow more time."
        ),
        Kind::WindowFull(whose, axis) => {
            let much = match axis {
                Axis::Calls => "many requests",
                Axis::Tokens => "many tokens",
                Axis::Money => "much money",
            };
            let owner = owner(whose);
            write!(
                text,
                "{owner} has as {much} at once as its window allows. Try again when others have ended."
            )
        }
        Kind::BudgetSpent { whose, axis, again_s } => {
            let of = match axis {
                Axis::Calls => "requests",
                Axis::Tokens => "tokens",
                Axis::Money => "money",
            };
            write!(text, "{} has not enough {of} left in its budget for this request. ", owner(whose))?;
            match again_s {
                Some(_) => text.write_str("Try again after the `retry-after` time, or ask for less."),
                None => text.write_str("Raise the budget, or ask for less."),
            }
        }
        Kind::RunsFull => text.write_str(
            "This tenant has as many runs open as it may. Go on with one of them, or try again when one has \
             had no request for an hour.",
        ),
        Kind::Preempted => text.write_str(
            "This request gave its place to one of better quality of service. Try again after the \
             `retry-after` time.",
        ),
        Kind::TooOften { .. } => text.write_str(
            "More requests a second than this caller may make. Try again after the `retry-after` time.",
        ),
        Kind::Shed { .. } => text.write_str(
            "This server is overloaded and takes no more work. Try again after the `retry-after` time.",
        ),
        _ => text.write_str("Too many requests at once. Try again after the `retry-after` time."),
    }
}

fn owner(whose: Whose) -> &'static str {
    match whose {
        Whose::Session => "This run (its `x-atp-*` headers)",
        Whose::Tenant => "This tenant",
    }
}

/// What an adapter has to mend, or its operator.
fn upstream(fault: Fault, context: &Context<'_>, text: &mut impl Write) -> Result {
    match context.adapter {
        "" => text.write_str("The adapter ")?,
        name => write!(text, "Adapter `{}` ", Shown(name))?,
    }
    text.write_str(match fault.kind {
        Kind::Connect => "cannot be reached. Check its endpoint and that it runs.",
        Kind::ConnectTimeout => "did not accept a connection in time. Check its endpoint and its load.",
        Kind::Tls => "has no TLS this proxy trusts. Check its certificate, and `tls` of the Adapter.",
        Kind::Reset => "closed the connection before it answered. Try again.",
        Kind::Refused => "did not take the request. Try again.",
        Kind::FirstTokenTimeout => "sent no token in time. Try again, or raise `first_token` of the route.",
        Kind::IdleTimeout => "stopped sending within its answer. What came is incomplete. Try again.",
        Kind::Truncated => "ended its answer before the end. What came is incomplete. Try again.",
        Kind::Garbled => "sent an answer that cannot be understood. Check that it speaks this API.",
        Kind::StreamError => "reported an error within its answer. What came is incomplete.",
        Kind::CredentialsRefused => {
            "refused this proxy's own credentials. The operator has to check `auth` of the Adapter."
        }
        Kind::Status { code: 429, .. } => "has too many requests. Try again after the `retry-after` time.",
        Kind::Status { code: 503 | 529, .. } => "is overloaded. Try again after the `retry-after` time.",
        _ => "",
    })?;
    match fault.kind {
        Kind::Status { code: 429 | 503 | 529, .. } => Ok(()),
        Kind::Status { code, .. } => {
            write!(text, "answered with status {code}. Try again, or another model.")
        }
        _ => Ok(()),
    }
}

const LOOP: &str = "This request has come to a proxy it came by before, or by more proxies than it may. The \
                    operator has to check where the endpoints of the Adapters lead.";
