//! The tools there are: `route.complete`, one for each adapter that is well, and fixed ones that others
//! bring. How they are listed, and what their arguments become: the content of a request of `/v1/ask`.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::rpc::text;
use crate::dialect::json::{put, quote};

/// A tool that is there whatever is configured; whoever brings it handles its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fixed {
    pub name: &'static str,
    pub description: &'static str,
    /// A JSON Schema of its arguments: an object.
    pub input: &'static str,
    /// Another, of its structured content; `None`: it says nothing of that.
    pub output: Option<&'static str>,
}

/// An adapter as a tool: `adapter.` and its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AdapterTool<'t> {
    pub name: &'t str,
    /// At least one; the first is asked where the caller names none.
    pub models: Vec<&'t str>,
}

/// All tools at one moment, in the order they are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Listing<'t> {
    pub fixed: Vec<Fixed>,
    /// By name.
    pub adapters: Vec<AdapterTool<'t>>,
    /// Of all adapters, each once: what `adapter_type` may be.
    pub kinds: Vec<&'static str>,
}

impl Listing<'_> {
    pub fn count(&self) -> usize {
        1 + self.fixed.len() + self.adapters.len()
    }

    /// Appends one page, without brackets; gives the cursor of the next, where there is one. The cursor is
    /// the last tool's name, so that a tool that comes or goes meanwhile moves no other. `None`: a cursor
    /// this server never gave.
    pub fn page(&self, cursor: Option<&str>, out: &mut Vec<u8>) -> Option<Option<String>> {
        let first = match cursor {
            None => 0,
            Some(cursor) => self.after(cursor)?,
        };
        let end = (first + PAGE_TOOLS).min(self.count());
        for at in first..end {
            if at > first {
                out.push(b',');
            }
            self.tool(at, out);
        }
        Some((end < self.count()).then(|| self.name(end - 1).into_owned()))
    }

    fn after(&self, cursor: &str) -> Option<usize> {
        let others = 1 + self.fixed.len();
        if let Some(name) = cursor.strip_prefix(ADAPTER) {
            return Some(others + self.adapters.partition_point(|tool| tool.name <= name));
        }
        (0..others).find(|at| self.name(*at) == cursor).map(|at| at + 1)
    }

    fn name(&self, at: usize) -> Cow<'static, str> {
        match at.checked_sub(1) {
            None => Cow::Borrowed(ROUTE),
            Some(at) => match self.fixed.get(at) {
                Some(fixed) => Cow::Borrowed(fixed.name),
                None => Cow::Owned(format!("{ADAPTER}{}", self.adapters[at - self.fixed.len()].name)),
            },
        }
    }

    /// Appends the tool at `at`.
    fn tool(&self, at: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"name":"#);
        quote(&self.name(at), out);
        out.extend_from_slice(br#","description":"#);
        match at.checked_sub(1).map(|at| (at, self.fixed.get(at))) {
            None => {
                quote(ROUTE_IS, out);
                out.extend_from_slice(br#","inputSchema":"#);
                self.route_schema(out);
                put!(out, r#","outputSchema":{COMPLETION}"#);
            }
            Some((_, Some(fixed))) => {
                quote(fixed.description, out);
                put!(out, r#","inputSchema":{}"#, fixed.input);
                if let Some(output) = fixed.output {
                    put!(out, r#","outputSchema":{output}"#);
                }
            }
            Some((at, None)) => {
                let tool = &self.adapters[at - self.fixed.len()];
                quote(&format!("Complete a prompt with a model of the adapter {}", tool.name), out);
                out.extend_from_slice(br#","inputSchema":"#);
                tool.schema(out);
                put!(out, r#","outputSchema":{COMPLETION}"#);
            }
        }
        out.push(b'}');
    }

    fn route_schema(&self, out: &mut Vec<u8>) {
        put!(out, r#"{{"type":"object","properties":{{"prompt":{PROMPT},"#);
        put!(out, r#""quality_target":{{"type":"string","enum":["fast","balanced","high"],"#);
        put!(out, r#""default":"balanced","description":"How good the model must be"}},"#);
        put!(out, r#""max_cost_usd":{{"type":"number","minimum":0.001,"maximum":10,"default":{COST_USD},"#);
        put!(out, r#""description":"The most it may cost"}},"#);
        put!(out, r#""latency_slo_ms":{{"type":"integer","minimum":100,"maximum":30000,"default":{SLO_MS},"#);
        put!(out, r#""description":"First token within; late, another model is tried beside the first"}},"#);
        put!(out, r#""adapter_type":{{"type":"string","enum":"#);
        list(self.kinds.iter().copied(), out);
        put!(out, r#","description":"Only adapters of this kind"}},"#);
        put!(out, r#""model":{{"type":"string","description":"A model, adapter/model or a route"}},"#);
        put!(out, r#""max_tokens":{{"type":"integer","minimum":1,"description":"Of the answer"}},"#);
        put!(out, r#""task_type":{{"type":"string","description":"For routes that ask for one"}}}},"#);
        put!(out, r#""required":["prompt"]}}"#);
    }
}

impl AdapterTool<'_> {
    fn schema(&self, out: &mut Vec<u8>) {
        put!(out, r#"{{"type":"object","properties":{{"prompt":{PROMPT},"#);
        put!(out, r#""max_tokens":{{"type":"integer","minimum":1,"default":{TOKENS},"#);
        put!(out, r#""description":"Of the answer"}},"model":{{"type":"string","enum":"#);
        list(self.models.iter().copied(), out);
        out.extend_from_slice(br#","default":"#);
        quote(self.models.first().unwrap_or(&""), out);
        out.extend_from_slice(br#"}},"required":["prompt"]}"#);
    }
}

fn list<'t>(names: impl Iterator<Item = &'t str>, out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, name) in names.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        quote(name, out);
    }
    out.push(b']');
}

/// What a call asks for, as a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// A body of `/v1/ask`.
    pub content: Bytes,
    /// Only adapters of this kind.
    pub kind: Option<&'static str>,
    /// Of `route.complete`, as it was asked for; `None`: one adapter is asked.
    pub quality: Option<&'static str>,
}

#[derive(Default, Deserialize)]
struct Arguments<'m> {
    #[serde(borrow, default)]
    prompt: Option<&'m RawValue>,
    #[serde(borrow, default)]
    quality_target: Option<&'m RawValue>,
    #[serde(borrow, default)]
    max_cost_usd: Option<&'m RawValue>,
    #[serde(borrow, default)]
    latency_slo_ms: Option<&'m RawValue>,
    #[serde(borrow, default)]
    adapter_type: Option<&'m RawValue>,
    #[serde(borrow, default)]
    model: Option<&'m RawValue>,
    #[serde(borrow, default)]
    max_tokens: Option<&'m RawValue>,
    #[serde(borrow, default)]
    task_type: Option<&'m RawValue>,
}

/// Reads the arguments of `route.complete`; `kinds`: what `adapter_type` may be.
///
/// # Errors
/// Every argument that is not what it should be, as sentences.
pub fn route(arguments: Option<&RawValue>, kinds: &[&'static str]) -> Result<Completion, String> {
    let mut reading = Reading::of(arguments)?;
    let arguments = &reading.arguments;
    let (prompt, cost, slo) = (arguments.prompt, arguments.max_cost_usd, arguments.latency_slo_ms);
    let (tokens, model, task) = (arguments.max_tokens, arguments.model, arguments.task_type);
    let (quality, kind) = (arguments.quality_target, arguments.adapter_type);
    let qualities = ["fast", "balanced", "high"];
    let quality = reading.word("quality_target", quality, &qualities).unwrap_or("balanced");
    let kind = reading.word("adapter_type", kind, kinds);
    let mut out = reading.begin(prompt);
    put!(&mut out, r#","quality":"{quality}""#);
    match reading
        .number("max_cost_usd", cost, "a number from 0.001 to 10", |cost| (0.001..=10.0).contains(&cost))
    {
        Some(cost) => put!(&mut out, r#","max_cost_usd":{cost}"#),
        None => put!(&mut out, r#","max_cost_usd":{COST_USD}"#),
    }
    let is_slo = |slo: f64| slo.fract() == 0.0 && (100.0..=30_000.0).contains(&slo);
    match reading.number("latency_slo_ms", slo, "a whole number from 100 to 30000", is_slo) {
        Some(slo) => put!(&mut out, r#","latency_slo_ms":{slo}"#),
        None => put!(&mut out, r#","latency_slo_ms":{SLO_MS}"#),
    }
    if let Some(tokens) = reading.tokens(tokens) {
        put!(&mut out, r#","max_tokens":{tokens}"#);
    }
    for (name, value) in [("model", model), ("task_type", task)] {
        if let Some(value) = reading.string(name, value) {
            put!(&mut out, r#","{name}":{value}"#);
        }
    }
    out.push(b'}');
    reading.end(Completion { content: out.into(), kind, quality: Some(quality) })
}

/// Reads the arguments of an adapter's tool.
///
/// # Errors
/// As [`route`].
pub fn adapter(arguments: Option<&RawValue>, tool: &AdapterTool<'_>) -> Result<Completion, String> {
    let mut reading = Reading::of(arguments)?;
    let Arguments { prompt, model, max_tokens, .. } = reading.arguments;
    let model = reading.word("model", model, &tool.models).or(tool.models.first().copied());
    let mut out = reading.begin(prompt);
    out.extend_from_slice(br#","model":"#);
    quote(&format!("{}/{}", tool.name, model.unwrap_or_default()), &mut out);
    match reading.tokens(max_tokens) {
        Some(tokens) => put!(&mut out, r#","max_tokens":{tokens}}}"#),
        None => put!(&mut out, r#","max_tokens":{TOKENS}}}"#),
    }
    reading.end(Completion { content: out.into(), kind: None, quality: None })
}

/// Arguments, and what is wrong with them so far. Null is as good as absent.
struct Reading<'m> {
    arguments: Arguments<'m>,
    wrong: String,
}

impl<'m> Reading<'m> {
    fn of(arguments: Option<&'m RawValue>) -> Result<Reading<'m>, String> {
        let arguments = match arguments {
            Some(arguments) => serde_json::from_str(arguments.get())
                .map_err(|_| "Arguments must be an object whose keys each stand once.".to_owned())?,
            None => Arguments::default(),
        };
        Ok(Reading { arguments, wrong: String::new() })
    }

    fn is_wrong(&mut self, name: &str, should: impl std::fmt::Display) {
        let gap = if self.wrong.is_empty() { "" } else { " " };
        write!(self.wrong, "{gap}`{name}` must be {should}.").expect("a string takes what is written");
    }

    /// The body up to its prompt.
    fn begin(&mut self, prompt: Option<&'m RawValue>) -> Vec<u8> {
        let mut out = br#"{"prompt":"#.to_vec();
        match prompt.filter(|prompt| prompt.get().starts_with('"') && prompt.get().len() > 2) {
            Some(prompt) => out.extend_from_slice(prompt.get().as_bytes()),
            None => self.is_wrong("prompt", "a string that is not empty"),
        }
        out
    }

    fn word<'w>(&mut self, name: &str, value: Option<&RawValue>, words: &[&'w str]) -> Option<&'w str> {
        let said = value?;
        let found = text(said).and_then(|said| words.iter().copied().find(|word| *word == said));
        if found.is_none() {
            match words {
                [] => self.is_wrong(name, "left away: there is no adapter"),
                words => self.is_wrong(name, format_args!("one of {}", words.join(", "))),
            }
        }
        found
    }

    /// As it was written.
    fn number(
        &mut self,
        name: &str,
        value: Option<&'m RawValue>,
        should: &str,
        may: impl Fn(f64) -> bool,
    ) -> Option<&'m str> {
        let written = value?.get();
        let is_number = serde_json::from_str::<f64>(written).is_ok_and(may);
        if !is_number {
            self.is_wrong(name, should);
        }
        is_number.then_some(written)
    }

    fn tokens(&mut self, value: Option<&'m RawValue>) -> Option<u64> {
        let written = value?.get();
        let count = written.parse().ok().filter(|count| (1..=TOKENS_MAX).contains(count));
        if count.is_none() {
            self.is_wrong("max_tokens", "a whole number from 1");
        }
        count
    }

    fn string(&mut self, name: &str, value: Option<&'m RawValue>) -> Option<&'m str> {
        let written = value?.get();
        if !written.starts_with('"') {
            self.is_wrong(name, "a string");
            return None;
        }
        Some(written)
    }

    fn end(self, completion: Completion) -> Result<Completion, String> {
        if self.wrong.is_empty() { Ok(completion) } else { Err(self.wrong) }
    }
}

pub const ROUTE: &str = "route.complete";
/// Before the name of an adapter.
pub const ADAPTER: &str = "adapter.";
const ROUTE_IS: &str = "Complete a prompt with the cheapest model that is good and fast enough";
const PROMPT: &str = r#"{"type":"string","minLength":1,"maxLength":100000,"description":"What to answer"}"#;
/// What a completion says beside its text.
const COMPLETION: &str = concat!(
    r#"{"type":"object","properties":{"text":{"type":"string"},"model_used":{"type":"string"},"#,
    r#""adapter_id":{"type":"string"},"tokens_in":{"type":"integer"},"tokens_out":{"type":"integer"},"#,
    r#""cost_usd":{"type":"number"},"latency_ms":{"type":"integer"}},"#,
    r#""required":["text","model_used","adapter_id","tokens_in","tokens_out","cost_usd","latency_ms"]}"#
);
/// Of one answer to `tools/list`: more than most have, some 60 KiB.
pub const PAGE_TOOLS: usize = 64;
/// Where a call names none, as existing clients read it in the schema.
const COST_USD: &str = "0.05";
const SLO_MS: u32 = 2000;
const TOKENS: u32 = 512;
/// As of a tenant's window.
const TOKENS_MAX: u64 = 1_000_000_000_000;

#[cfg(test)]
#[path = "tools_tests.rs"]
mod tests;
