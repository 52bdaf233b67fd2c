//! The answer of `/v1/ask`, line by line. Every number is true; what was not measured is null.
//!
//! In order: one `plan`, any `event` and `chunk` lines, one `final`; or, where it breaks, the lines of
//! [`super::super::errors`].

use proto_core::units::{Permille, Picodollars};

use super::super::json::{put, quote};
use super::PromptHash;
use crate::bill::Usage;

/// A model that may answer.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'p> {
    pub model: &'p str,
    /// What 1,000 answer tokens cost.
    pub cost_per_1k: Picodollars,
    pub quality: Permille,
    /// Milliseconds; `None`: not stated.
    pub latency_p95_ms: Option<u32>,
}

/// What is going to be done. Always the first line.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'p> {
    /// In the order they are tried.
    pub candidates: &'p [Candidate<'p>],
    pub cluster_hint: Option<&'p str>,
    pub prompt_hash: PromptHash,
    /// How the order came about, for people.
    pub reason: &'p str,
    /// `(role, model)`: `primary`, `explore`, `fallback`.
    pub roles: &'p [(&'p str, &'p str)],
}

/// How it went. Always the last line of an answer that is complete.
#[derive(Debug, Clone, Copy)]
pub struct Final<'f> {
    /// The whole text as it stands between the quotes of a JSON string: what the chunks had, joined.
    pub text: &'f [u8],
    pub model_used: &'f str,
    pub usage: Usage,
    pub cost: Picodollars,
    /// What the same tokens cost at the dearest candidate of the plan; `None`: there was no other.
    pub dearest_cost: Option<Picodollars>,
    pub escalation_count: u32,
    pub cluster_hint: Option<&'f str>,
    /// The status of the model that answered: `active`, `fallback`.
    pub phase: &'f str,
}

/// Appends the `plan` line.
pub fn plan(plan: &Plan<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"plan","candidates":["#);
    for (at, candidate) in plan.candidates.iter().enumerate() {
        out.extend_from_slice(if at == 0 { br#"{"model":"#.as_slice() } else { br#",{"model":"# });
        quote(candidate.model, out);
        out.extend_from_slice(br#","cost_per_1k":"#);
        decimal(candidate.cost_per_1k.0, PICO_DECIMALS, out);
        out.extend_from_slice(br#","quality_pred":"#);
        decimal(u64::from(candidate.quality.0), 3, out);
        match candidate.latency_p95_ms {
            Some(millis) => put!(out, r#","latency_p95":{millis}}}"#),
            None => out.extend_from_slice(br#","latency_p95":null}"#),
        }
    }
    out.extend_from_slice(br#"],"cluster_hint":"#);
    quote_or_null(plan.cluster_hint, out);
    put!(out, r#","prompt_hash":"{}","reason":"#, plan.prompt_hash.as_str());
    quote(plan.reason, out);
    out.extend_from_slice(br#","roles":["#);
    for (at, (role, model)) in plan.roles.iter().enumerate() {
        out.extend_from_slice(if at == 0 { br#"{"role":"#.as_slice() } else { br#",{"role":"# });
        quote(role, out);
        out.extend_from_slice(br#","model":"#);
        quote(model, out);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
}

/// Appends the `event` line that says another model was started beside one that is slow.
pub fn escalate(model: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"event","event":"escalate","model":"#);
    quote(model, out);
    out.extend_from_slice(b"}\n");
}

/// Appends a `chunk` line. `seq` counts from 1; `text` is what
/// [`super::super::openai::StreamReader::push_text`] hands out: as it stands between the quotes of a JSON
/// string.
pub fn chunk(seq: u64, text: &[u8], model: &str, out: &mut Vec<u8>) {
    put!(out, r#"{{"type":"chunk","seq":{seq},"text":""#);
    out.extend_from_slice(text);
    out.extend_from_slice(br#"","model":"#);
    quote(model, out);
    out.extend_from_slice(b"}\n");
}

/// Appends the `final` line.
pub fn last(answer: &Final<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"final","text":""#);
    out.extend_from_slice(answer.text);
    out.extend_from_slice(br#"","model_used":"#);
    quote(answer.model_used, out);
    put!(out, r#","tokens_in":{},"tokens_out":{},"cost_usd":"#, answer.usage.input, answer.usage.output);
    decimal(answer.cost.as_usd_micros_ceil(), MICRO_DECIMALS, out);
    out.extend_from_slice(br#","savings_pct":"#);
    savings(answer.cost, answer.dearest_cost, out);
    put!(out, r#","escalation_count":{},"quality_score":null,"cluster_hint":"#, answer.escalation_count);
    quote_or_null(answer.cluster_hint, out);
    out.extend_from_slice(br#","energy_kwh":null,"co2e_grams":null,"tool_success":null"#);
    out.extend_from_slice(br#","format_ok":null,"safety_ok":null,"phase":"#);
    quote(answer.phase, out);
    if answer.usage.estimated {
        out.extend_from_slice(br#","estimated":true"#);
    }
    out.extend_from_slice(b"}\n");
}

fn quote_or_null(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => quote(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Percent less than at the dearest, two decimals; below zero where it was dearer still.
fn savings(cost: Picodollars, dearest: Option<Picodollars>, out: &mut Vec<u8>) {
    let Some(dearest) = dearest.filter(|dearest| dearest.0 > 0) else {
        return out.extend_from_slice(b"null");
    };
    let saved = (i128::from(dearest.0) - i128::from(cost.0)) * 10_000 / i128::from(dearest.0);
    if saved < 0 {
        out.push(b'-');
    }
    decimal(u64::try_from(saved.unsigned_abs()).unwrap_or(u64::MAX), 2, out);
}

/// `value` / 10^`decimals`, exactly, without zeros at the end.
pub(in super::super) fn decimal(value: u64, decimals: u32, out: &mut Vec<u8>) {
    let scale = 10_u64.pow(decimals);
    put!(out, "{}", value / scale);
    let (mut rest, mut width) = (value % scale, decimals as usize);
    if rest == 0 {
        return;
    }
    while rest.is_multiple_of(10) {
        rest /= 10;
        width -= 1;
    }
    put!(out, ".{rest:0width$}");
}

/// A picodollar is 10⁻¹² USD.
const PICO_DECIMALS: u32 = 12;
pub(in super::super) const MICRO_DECIMALS: u32 = 6;
