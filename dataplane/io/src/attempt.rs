//! One attempt: a call to one adapter, up to the point where there is something worth relaying. What a caller could
//! not use is read here to its end, so that a fault is still a fault and not half an answer: an answer without a
//! stream whole (within bounds), a stream up to its first event.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use dataplane_core::bill::{Usage, estimated_input};
use dataplane_core::dialect::openai::{BodyReader, StreamReader};
use dataplane_core::dialect::rope::Rope;
use dataplane_core::fault::{Fault, Kind, Retry};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use proto_core::units::Moment;
use tokio::time::timeout;

use crate::charge::Charge;
use crate::clock;
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
    pub rest: Rest,
}

/// What follows the head.
#[derive(Debug)]
pub enum Rest {
    /// All of it.
    Whole(Rope),
    /// Events to relay at once, and where more come from.
    Events { first: Rope, reader: StreamReader, body: UpstreamBody },
    /// Too long to hold: what came so far, and where more comes from.
    Long { first: Rope, reader: BodyReader, body: UpstreamBody },
}

/// Runs one attempt. Dropping the future cancels it upstream.
pub async fn run(
    worker: &Arc<Worker>,
    held: &Hold,
    mut charge: Charge,
    call: Call,
    drop_usage: bool,
    prompt_bytes: u64,
) -> Result<Begun, Fault> {
    let upstream: Arc<Upstream> = Arc::clone(held.upstream(charge.offer().adapter));
    let streamed = call.streamed;
    let outcome = match upstream.send(worker, call).await {
        Ok(answer) => begin(&mut charge, answer, streamed, drop_usage, prompt_bytes).await,
        Err(fault) => Err(fault),
    };
    match outcome {
        Ok((status, headers, rest)) => {
            Ok(Begun { status, headers, charge, first_byte_at: clock::now(), rest })
        }
        Err(fault) => {
            charge.on_fault(fault);
            Err(fault)
        }
    }
}

type Began = (StatusCode, HeaderMap, Rest);

async fn begin(
    charge: &mut Charge,
    answer: Answer,
    streamed: bool,
    drop_usage: bool,
    prompt_bytes: u64,
) -> Result<Began, Fault> {
    let Answer { status, headers, mut body } = answer;
    if let Some(fault) = Fault::of_status(status.as_u16(), retry_after(&headers)) {
        // Read to its end if that is near, so that the connection can be used again.
        let _ = timeout(REFUSAL_WAIT, collect(&mut body, REFUSAL_BYTES_MAX, |_| ())).await;
        return Err(fault);
    }
    if streamed && status.is_success() && is_events(&headers) {
        // From here on the upstream has the prompt; what it says of it replaces the estimate.
        let input = estimated_input(prompt_bytes);
        charge.set_usage(Usage { input, estimated: true, ..Usage::default() });
        let mut reader = StreamReader::new(drop_usage);
        let first = first_events(&mut body, &mut reader).await?;
        return Ok((status, headers, Rest::Events { first, reader, body }));
    }
    let mut reader = BodyReader::new();
    let (first, is_whole) = collect(&mut body, WHOLE_BYTES_MAX, |piece| reader.push(piece)).await?;
    if !is_whole {
        return Ok((status, headers, Rest::Long { first, reader, body }));
    }
    if status.is_success() {
        let answer = reader.end();
        if !answer.is_sound && is_json(&headers) {
            return Err(Fault::upstream(Kind::Garbled, Retry::ElsewhereAtCost));
        }
        let input = estimated_input(prompt_bytes);
        charge.set_usage(answer.usage.unwrap_or(Usage { input, estimated: true, ..Usage::default() }));
    }
    charge.on_success();
    Ok((status, headers, Rest::Whole(first)))
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
        if reader.progress().has_error {
            return Err(Fault::upstream(Kind::StreamError, Retry::ElsewhereAtCost));
        }
        if !out.is_empty() {
            return Ok(out);
        }
    }
}

/// Up to `most` bytes and what came with the last of them; true where that was all.
async fn collect(
    body: &mut UpstreamBody,
    most: u64,
    mut each: impl FnMut(&[u8]),
) -> Result<(Rope, bool), Fault> {
    let mut rope = Rope::new();
    loop {
        match poll_fn(|cx| body.poll_data(cx)).await {
            Some(Ok(piece)) => {
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
const REFUSAL_WAIT: Duration = Duration::from_millis(250);
