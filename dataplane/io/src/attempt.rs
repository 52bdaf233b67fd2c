//! One attempt: a call to one adapter, up to the point where there is something worth relaying. What a caller
//! could not use is read here to its end, so that a fault is still a fault and not half an answer: an answer
//! without a stream whole (within bounds), a stream up to its first event.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dataplane_core::admit::pressure::Level;
use dataplane_core::bill::Usage;
use dataplane_core::dialect::openai::{BodyReader, StreamReader};
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::words::{ANSWER_BYTES_MAX, Words};
use dataplane_core::fault::{Fault, Kind, Retry};
use dataplane_core::limit;
use dataplane_state::ledger::Debt;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use proto_core::units::Moment;
use tokio::time::timeout;

use crate::admission::Claim;
use crate::charge::Charge;
use crate::clock;
use crate::lens::{counted, judged};
use crate::serve::headers::X_ATP_LOOP;
use crate::served::Hold;
use crate::upstream::{Answer, Call, Upstream, UpstreamBody};
use crate::worker::Worker;

/// An answer that began: its head, and what came of its body.
#[derive(Debug)]
pub struct Begun {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub charge: Charge,
    pub first_byte_at: Moment,
    /// What the rest is in: the caller's words or the hub's.
    pub words: Words,
    pub rest: Rest,
}

/// What follows the head.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most answers are whole: a box would be one allocation each")]
pub enum Rest {
    /// All of it, and its part of the worker's account.
    Whole(Rope, Debt),
    /// Events, as they come.
    Events(Box<Flow<StreamReader>>),
    /// Too long to hold.
    Long(Box<Flow<BodyReader>>),
}

/// A body under way: what came of it so far, who reads it, where more comes from.
#[derive(Debug)]
pub struct Flow<R> {
    pub first: Rope,
    pub reader: R,
    pub body: UpstreamBody,
}

/// Runs one attempt. Dropping the future cancels it upstream; where `is_late` was set before, that is the
/// upstream's failure and not a change of mind on this side.
pub async fn run(
    order: &Shared<'_>,
    charge: Charge,
    mut call: Call,
    is_late: &AtomicBool,
) -> Result<Begun, Fault> {
    let mut pending = Pending { charge: Some(charge), is_late };
    let charge = pending.charge.as_mut().expect("an attempt has its charge until it ends");
    let upstream: Arc<Upstream> = Arc::clone(order.held.upstream(charge.offer().adapter));
    let asked = Asked { streamed: call.streamed, heard: call.heard };
    // From here on the upstream may have the prompt; what it says of it replaces the estimate.
    charge.set_usage(input_estimate(charge));
    charge.put_context(&mut call.headers);
    let outcome = match upstream.send(order.worker, call).await {
        // An answer that is refused here for want of room was worked for.
        Ok(answer) => begin(charge, answer, asked, order)
            .await
            .map_err(|fault| (fault, may_have_worked(fault) || matches!(fault.kind, Kind::Shed { .. }))),
        Err(fault) => Err((fault, may_have_worked(fault))),
    };
    match outcome {
        Ok((status, headers, rest)) => {
            let mut charge = pending.charge.take().expect("an attempt has its charge until it ends");
            let first_byte_at = clock::now();
            charge.on_first_byte(first_byte_at, matches!(rest, Rest::Events(_)));
            Ok(Begun { status, headers, charge, first_byte_at, words: asked.heard, rest })
        }
        Err((fault, has_worked)) => {
            if !has_worked {
                charge.set_usage(Usage::default());
            }
            charge.on_fault(fault);
            Err(fault)
        }
    }
}

/// What all attempts of one request share.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    pub worker: &'a Arc<Worker>,
    pub held: &'a Hold,
    pub claim: &'a Claim,
    /// The caller did not ask for the usage event we ask for.
    pub drop_usage: bool,
    /// A whole answer in the hub's words is told in others, which needs all of it.
    pub needs_whole: bool,
}

impl<'a> Shared<'a> {
    /// For an answer that is read as it comes.
    pub fn new(worker: &'a Arc<Worker>, held: &'a Hold, claim: &'a Claim, drop_usage: bool) -> Shared<'a> {
        Shared { worker, held, claim, drop_usage, needs_whole: false }
    }
}

/// The charge of an attempt that has not ended yet.
struct Pending<'a> {
    charge: Option<Charge>,
    is_late: &'a AtomicBool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // Order: relaxed. Set and read by one task.
        if let Some(charge) = &mut self.charge
            && self.is_late.load(Ordering::Relaxed)
        {
            charge.on_fault(Fault::upstream(Kind::FirstTokenTimeout, Retry::ElsewhereAtCost));
        }
    }
}

/// Where nothing is reported.
fn input_estimate(charge: &Charge) -> Usage {
    Usage { input: charge.likely_input(), estimated: true, ..Usage::default() }
}

/// What an answer's head says against it. A circle is one where a data plane says so, next to this one or
/// behind it: anybody else would be asked in a circle as well. The same status of a server is a failure like
/// any other.
fn refusal(status: StatusCode, headers: &HeaderMap) -> Option<Fault> {
    if status == StatusCode::LOOP_DETECTED && headers.contains_key(X_ATP_LOOP) {
        return Some(Fault::upstream(Kind::Loop, Retry::Never));
    }
    Fault::of_status(status.as_u16(), retry_after(headers))
}

/// Whether tokens may have been spent on an attempt that failed so.
fn may_have_worked(fault: Fault) -> bool {
    fault.retry == Retry::ElsewhereAtCost && !matches!(fault.kind, Kind::Status { .. })
}

type Began = (StatusCode, HeaderMap, Rest);

/// Of a call that is sent, what its answer is read by.
#[derive(Clone, Copy)]
struct Asked {
    streamed: bool,
    heard: Words,
}

async fn begin(
    charge: &mut Charge,
    answer: Answer,
    asked: Asked,
    order: &Shared<'_>,
) -> Result<Began, Fault> {
    let Answer { status, headers, mut body } = answer;
    if charge.is_watched() {
        // To come back later is said with a refusal; beside an answer it is some cache's word.
        let is_heard = |name: &str| !(status.is_success() && name.starts_with("retry-after"));
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let headers = headers.filter(|(name, _)| is_heard(name));
        charge.on_limits(&limit::headers::ceilings(headers, clock::now(), clock::unix_seconds()));
    }
    if let Some(fault) = refusal(status, &headers) {
        // Read to its end if that is near, so that the connection can be used again.
        let mut held = Debt::none(&order.worker.ledger);
        let _ = timeout(REFUSAL_WAIT, collect(&mut body, REFUSAL_BYTES_MAX, &mut held, |_| ())).await;
        return Err(fault);
    }
    if asked.streamed && status.is_success() && is_events(&headers) {
        let mut reader = StreamReader::of(asked.heard, order.drop_usage);
        let began = first_events(&mut body, &mut reader).await;
        // Tokens may have come in one piece with what spoils them.
        let first = began.inspect_err(|_| charge.set_usage(counted(&reader, charge.likely_input())))?;
        return Ok((status, headers, Rest::Events(Box::new(Flow { first, reader, body }))));
    }
    if !status.is_success() {
        // A refusal is no work: nothing is billed for it.
        charge.set_usage(Usage::default());
    }
    let mut reader = BodyReader::of(asked.heard);
    let is_needed = order.needs_whole && asked.heard == Words::OpenAi;
    let most = if is_needed { ANSWER_BYTES_MAX as u64 } else { WHOLE_BYTES_MAX };
    let mut held = Debt::none(&order.worker.ledger);
    let (first, is_whole) = collect(&mut body, most, &mut held, |piece| reader.push(piece)).await?;
    if !is_whole {
        return Ok((status, headers, Rest::Long(Box::new(Flow { first, reader, body }))));
    }
    if status.is_success() {
        let answer = reader.end();
        if !answer.is_sound && is_json(&headers) {
            return Err(Fault::upstream(Kind::Garbled, Retry::ElsewhereAtCost));
        }
        charge.set_usage(answer.usage.unwrap_or(input_estimate(charge)));
    }
    // In one piece to be read, and once more as it is told: refused while it is nobody's answer yet.
    if is_needed {
        grow(&mut held, first.len().saturating_mul(2))?;
    }
    charge.on_success();
    Ok((status, headers, Rest::Whole(first, held)))
}

/// Reads on until an event can be relayed.
async fn first_events(body: &mut UpstreamBody, reader: &mut StreamReader) -> Result<Rope, Fault> {
    let mut out = Rope::new();
    loop {
        match poll_fn(|cx| body.poll_data(cx)).await {
            Some(Ok(piece)) => reader.push(&piece, &mut out)?,
            Some(Err(fault)) => return Err(fault),
            None if out.is_empty() => return Err(Fault::upstream(Kind::Truncated, Retry::ElsewhereAtCost)),
            None => return Ok(out),
        }
        judged(reader).map_err(|fault| first_fault(fault, reader))?;
        if !out.is_empty() {
            return Ok(out);
        }
    }
}

/// Of a stream nothing of which was relayed. An upstream that says it is overloaded has done no work.
fn first_fault(fault: Fault, reader: &StreamReader) -> Fault {
    let progress = reader.progress();
    if progress.is_overloaded && !progress.has_first_token() {
        return Fault::of_status(OVERLOADED, None).unwrap_or(fault);
    }
    Fault { retry: Retry::ElsewhereAtCost, ..fault }
}

/// Up to `most` bytes and what came with the last of them; true where that was all. Refused where the worker
/// holds as much as it may.
async fn collect(
    body: &mut UpstreamBody,
    most: u64,
    held: &mut Debt,
    mut each: impl FnMut(&[u8]),
) -> Result<(Rope, bool), Fault> {
    let mut rope = Rope::new();
    loop {
        match poll_fn(|cx| body.poll_data(cx)).await {
            Some(Ok(piece)) => {
                grow(held, piece.len() as u64)?;
                each(&piece);
                rope.push(piece);
            }
            Some(Err(fault)) => return Err(fault),
            None => return Ok((rope, true)),
        }
        if rope.len() > most {
            return Ok((rope, false));
        }
    }
}

fn grow(held: &mut Debt, bytes: u64) -> Result<(), Fault> {
    match held.try_grow(bytes) {
        true => Ok(()),
        false => Err(Fault::proxy(Kind::Shed { again_s: Level::Red.retry_after_s() })),
    }
}

fn is_events(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

/// Whole seconds; the date form (RFC 9110 §10.2.3) is answered like none.
fn retry_after(headers: &HeaderMap) -> Option<u32> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// Of an answer without a stream: embeddings of a hundred texts fit. Longer ones are relayed as they come.
const WHOLE_BYTES_MAX: u64 = 1024 * 1024;
const REFUSAL_BYTES_MAX: u64 = 64 * 1024;
/// The status an overloaded provider answers with, where it has not begun to stream.
const OVERLOADED: u16 = 529;
const REFUSAL_WAIT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dataplane_state::ledger::Ledger;

    use super::*;

    async fn collected(bytes: usize, room: u64, most: u64) -> (Result<(u64, bool), Kind>, u64) {
        let ledger = Arc::new(Ledger::new(room));
        let mut held = Debt::none(&ledger);
        let mut body = UpstreamBody::whole(Bytes::from(vec![b' '; bytes]));
        let outcome = collect(&mut body, most, &mut held, |_| ()).await;
        (outcome.map(|(rope, all)| (rope.len(), all)).map_err(|fault| fault.kind), held.bytes())
    }

    #[tokio::test]
    async fn what_is_held_of_an_answer_is_accounted_for_and_refused_where_there_is_no_room() {
        assert_eq!(collected(100, 100, 1000).await, (Ok((100, true)), 100), "at the edge");
        assert_eq!(collected(100, 100, 99).await, (Ok((100, false)), 100), "too long to be held whole");
        let (refused, held) = collected(101, 100, 1000).await;
        assert!(matches!(refused, Err(Kind::Shed { .. })), "{refused:?}");
        assert_eq!(held, 0);
    }
}
