//! What goes back: results, errors and notifications, each one message of JSON-RPC, and as events of a
//! stream.

use proto_core::units::Picodollars;

use super::rpc::{Code, Id, Refusal};
use super::tools::Listing;
use super::{Revision, SERVER};
use crate::bill::Usage;
use crate::dialect::ask::lines::{MICRO_DECIMALS, decimal};
use crate::dialect::json::{put, quote};
use crate::fault::Fault;

/// Appends a result whose members `write` writes, none of them or some with commas between.
fn result(id: Id<'_>, revision: Revision, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    put!(out, r#"{{"jsonrpc":"2.0","id":{},"result":{{"#, id.as_json());
    if revision.is_stateless() {
        out.extend_from_slice(br#""resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":"#);
        server(out);
        out.push(b'}');
    }
    let begun = out.len();
    if revision.is_stateless() {
        out.push(b',');
    }
    let before = out.len();
    write(out);
    if out.len() == before {
        out.truncate(begun);
    }
    out.extend_from_slice(b"}}");
}

fn server(out: &mut Vec<u8>) {
    put!(out, r#"{{"name":"{SERVER}","version":"{}"}}"#, env!("CARGO_PKG_VERSION"));
}

/// To `initialize`: the revision it asked for where that has sessions, else the newest of those.
pub fn initialized(id: Id<'_>, wanted: &str, out: &mut Vec<u8>) -> Revision {
    let known = Revision::find(wanted).filter(|revision| !revision.is_stateless());
    let revision = known.unwrap_or(Revision::NEWEST_WITH_SESSIONS);
    result(id, revision, out, |out| {
        put!(out, r#""protocolVersion":"{}","capabilities":{CAPABILITIES},"serverInfo":"#, revision.as_str());
        server(out);
        out.extend_from_slice(br#","instructions":"#);
        quote(INSTRUCTIONS, out);
    });
    revision
}

/// To `server/discover`.
pub fn discovered(id: Id<'_>, revision: Revision, out: &mut Vec<u8>) {
    result(id, revision, out, |out| {
        out.extend_from_slice(br#""supportedVersions":"#);
        supported(out);
        put!(out, r#","capabilities":{CAPABILITIES},"instructions":"#);
        quote(INSTRUCTIONS, out);
        cacheable(DISCOVERED_FRESH_MS, out);
    });
}

fn supported(out: &mut Vec<u8>) {
    for (at, revision) in Revision::ALL.into_iter().enumerate() {
        put!(out, r#"{}"{}""#, if at == 0 { "[" } else { "," }, revision.as_str());
    }
    out.push(b']');
}

/// For how long, and by whom: what is listed may be the tenant's alone.
fn cacheable(fresh_ms: u32, out: &mut Vec<u8>) {
    put!(out, r#","ttlMs":{fresh_ms},"cacheScope":"private""#);
}

/// To what asks for nothing but an answer.
pub fn empty(id: Id<'_>, revision: Revision, out: &mut Vec<u8>) {
    result(id, revision, out, |_| {});
}

/// To `tools/list`: one page; or the refusal of a cursor that is none.
pub fn listed(
    id: Id<'_>,
    revision: Revision,
    listing: &Listing<'_>,
    cursor: Option<&str>,
    out: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let mut tools = Vec::new();
    let unknown = Refusal::new(Code::Params, "`cursor` is none of this server's; list from the beginning.");
    let next = listing.page(cursor, &mut tools).ok_or(unknown)?;
    result(id, revision, out, |out| {
        out.extend_from_slice(br#""tools":["#);
        out.append(&mut tools);
        out.push(b']');
        if let Some(next) = next {
            out.extend_from_slice(br#","nextCursor":"#);
            quote(&next, out);
        }
        if revision.is_stateless() {
            cacheable(TOOLS_FRESH_MS, out);
        }
    });
    Ok(())
}

/// A completion that is whole.
#[derive(Debug, Clone, Copy)]
pub struct Completed<'c> {
    /// As it stands between the quotes of a JSON string.
    pub text: &'c [u8],
    pub model: &'c str,
    pub adapter: &'c str,
    pub usage: Usage,
    pub cost: Picodollars,
    pub latency_ms: u64,
}

impl Completed<'_> {
    fn content(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#""content":[{"type":"text","text":""#);
        out.extend_from_slice(self.text);
        out.extend_from_slice(br#""}]"#);
    }

    /// The members that say who answered and what it took.
    pub(super) fn told(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#""model_used":"#);
        quote(self.model, out);
        out.extend_from_slice(br#","adapter_id":"#);
        quote(self.adapter, out);
        put!(out, r#","latency_ms":{},"cost_usd":"#, self.latency_ms);
        usd(self.cost, out);
    }
}

pub(super) fn usd(cost: Picodollars, out: &mut Vec<u8>) {
    decimal(cost.as_usd_micros_ceil(), MICRO_DECIMALS, out);
}

/// To a call that is answered.
pub fn completed(id: Id<'_>, revision: Revision, done: &Completed<'_>, out: &mut Vec<u8>) {
    result(id, revision, out, |out| {
        done.content(out);
        out.extend_from_slice(br#","structuredContent":{"text":""#);
        out.extend_from_slice(done.text);
        out.extend_from_slice(br#"","#);
        done.told(out);
        put!(out, r#","tokens_in":{},"tokens_out":{}"#, done.usage.input, done.usage.output);
        if done.usage.estimated {
            out.extend_from_slice(br#","estimated":true"#);
        }
        out.extend_from_slice(br#"},"isError":false"#);
    });
}

/// To a call of a fixed tool: what its handler made, a JSON object, as text and structured.
pub fn handled(id: Id<'_>, revision: Revision, object: &str, out: &mut Vec<u8>) {
    result(id, revision, out, |out| {
        out.extend_from_slice(br#""content":[{"type":"text","text":"#);
        quote(object, out);
        put!(out, r#"}}],"structuredContent":{object},"isError":false"#);
    });
}

/// To a call that failed, in words for the model that asked: a tool's error, which it can mend or repeat, is
/// no error of the protocol.
pub fn failed(id: Id<'_>, revision: Revision, reason: &str, fault: Option<Fault>, out: &mut Vec<u8>) {
    let meta = fault.map(|fault| {
        let mut meta = Vec::new();
        data(fault, &mut meta);
        meta
    });
    put!(out, r#"{{"jsonrpc":"2.0","id":{},"result":{{"#, id.as_json());
    out.extend_from_slice(br#""content":[{"type":"text","text":"#);
    quote(reason, out);
    out.extend_from_slice(br#"}],"isError":true"#);
    if revision.is_stateless() {
        out.extend_from_slice(br#","resultType":"complete""#);
    }
    out.extend_from_slice(br#","_meta":{"#);
    if revision.is_stateless() {
        out.extend_from_slice(br#""io.modelcontextprotocol/serverInfo":"#);
        server(out);
    }
    if let Some(meta) = meta {
        if revision.is_stateless() {
            out.push(b',');
        }
        out.extend_from_slice(br#""atp.proxy/error":"#);
        out.extend_from_slice(&meta);
    }
    out.extend_from_slice(b"}}}");
}

/// Appends an error; without an id where none could be read.
pub fn refused(id: Option<Id<'_>>, refusal: &Refusal, asked: Option<&str>, out: &mut Vec<u8>) {
    error(id, refusal.code, &refusal.message, out);
    if refusal.code == Code::Version {
        out.extend_from_slice(br#","data":{"supported":"#);
        supported(out);
        out.extend_from_slice(br#","requested":"#);
        quote(asked.unwrap_or_default(), out);
        out.push(b'}');
    }
    out.extend_from_slice(b"}}");
}

/// Appends a fault that is no tool's.
pub fn faulted(id: Option<Id<'_>>, fault: Fault, reason: &str, out: &mut Vec<u8>) {
    error(id, Code::Refused, reason, out);
    out.extend_from_slice(br#","data":"#);
    data(fault, out);
    out.extend_from_slice(b"}}");
}

fn error(id: Option<Id<'_>>, code: Code, message: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","#);
    if let Some(id) = id {
        put!(out, r#""id":{},"#, id.as_json());
    }
    put!(out, r#""error":{{"code":{},"message":"#, code.number());
    quote(message, out);
}

fn data(fault: Fault, out: &mut Vec<u8>) {
    put!(out, r#"{{"code":"{}""#, fault.code());
    if let Some(seconds) = fault.retry_after_s() {
        put!(out, r#","retry_after_ms":{}"#, u64::from(seconds) * 1000);
    }
    out.push(b'}');
}

/// A piece of an answer on its way; `so_far` grows from piece to piece.
pub fn progress(token: Id<'_>, so_far: u64, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(
        br#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"#,
    );
    put!(out, r#"{},"progress":{so_far},"message":""#, token.as_json());
    out.extend_from_slice(text);
    out.extend_from_slice(br#""}}"#);
}

/// Tools came, went, or take other arguments. `stream`: the request that asked to be told.
pub fn tools_changed(stream: Option<Id<'_>>, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed""#);
    if let Some(id) = stream {
        out.extend_from_slice(br#","params":{"_meta":{"#);
        subscription(id, out);
        out.extend_from_slice(b"}}");
    }
    out.push(b'}');
}

/// The first message of a stream of changes: which of those wanted it will tell.
pub fn listening(id: Id<'_>, tools: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","#);
    out.extend_from_slice(br#""params":{"_meta":{"#);
    subscription(id, out);
    let wanted = if tools { r#""toolsListChanged":true"# } else { "" };
    put!(out, r#"}},"notifications":{{{wanted}}}}}}}"#);
}

/// The last: this server ends it.
pub fn listened(id: Id<'_>, out: &mut Vec<u8>) {
    put!(out, r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete","_meta":{{"#, id.as_json());
    subscription(id, out);
    out.extend_from_slice(b"}}}");
}

fn subscription(id: Id<'_>, out: &mut Vec<u8>) {
    put!(out, r#""io.modelcontextprotocol/subscriptionId":{}"#, id.as_json());
}

/// A message as an event of a stream: `write` writes it, on one line.
pub fn event(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"event: message\ndata: ");
    write(out);
    out.extend_from_slice(b"\n\n");
}

/// Keeps a quiet stream alive; nobody reads it (a comment of server-sent events).
pub const KEEP_ALIVE: &[u8] = b": \n\n";

const CAPABILITIES: &str = r#"{"tools":{"listChanged":true}}"#;
const INSTRUCTIONS: &str = "route.complete answers a prompt with the cheapest model that is good and fast \
                            enough; the adapter tools ask one adapter.";
/// A tool is gone some seconds after its adapter fails; a client that wants to know sooner listens.
const TOOLS_FRESH_MS: u32 = 5_000;
/// Changes with the program only.
const DISCOVERED_FRESH_MS: u32 = 3_600_000;

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
