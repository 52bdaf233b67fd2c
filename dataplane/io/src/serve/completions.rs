//! Operations of models in OpenAI's and Anthropic's words. Where an adapter speaks the caller's, what goes in
//! is passed on byte for byte but for the model's name, and what comes back is relayed as it comes; where it
//! does not, both are told in the other's words.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::admit::envelope::Envelope;
use dataplane_core::bill::estimated_input;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::scan::{Head, Profile};
use dataplane_core::dialect::words::Words;
use dataplane_core::dialect::{anthropic, splice};
use dataplane_core::exchange::{Exchange, Terms};
use dataplane_core::fault::{Fault, Kind, Retry};
use dataplane_core::route::{self, Plan, Wish};
use dataplane_core::table::{RouteId, TenantId};
use http::header::{TE, TRAILER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::answer::{AnswerBody, Trailers};
use super::headers::{
    REQUEST_ID, X_ACCEL_BUFFERING, X_ATP_ADAPTER, X_ATP_COST, X_ATP_MODEL, X_ATP_OVERHEAD, X_ATP_QUEUE,
    X_ATP_ROUTE, X_ATP_WINDOW, X_REQUEST_ID, for_caller, for_upstream, number, put_limits,
};
use super::http::{Arrived, held, identify, refused};
use super::intake::{self, Intake};
use super::{Peer, pump};
use proto_core::model::Timeout;
use proto_core::units::Moment;

use crate::admission::{Asked, Claim, envelope, may_begin};
use crate::attempt::{self, Begun, Flow, Rest};
use crate::charge::Charge;
use crate::clock;
use crate::drive::{Order, Unwatched, drive};
use crate::lens::{Lens, Messages};
use crate::relay::{Parts, Relay};
use crate::served::Hold;
use crate::timing::{Timing, millis};
use crate::trace::Trace;
use crate::upstream::Path;
use crate::words::{Dialect, Telling};

/// Answers one operation.
pub async fn serve(arrived: Arrived, path: Path) -> Response<AnswerBody> {
    let peer = Arc::clone(&arrived.peer);
    let mut telling = Telling::new(dialect(path), &arrived.request_id);
    let trace = arrived.trace.clone();
    let outcome = exchange(arrived, path, &mut telling).await;
    outcome.unwrap_or_else(|fault| {
        trace.iter().for_each(|trace| trace.on_fault(fault));
        refused(&peer, &telling, fault)
    })
}

/// What was decided about a request before anybody was asked.
struct Decided {
    held: Hold,
    tenant: TenantId,
    route: RouteId,
    plan: Plan,
    head: Head,
}

async fn exchange(
    arrived: Arrived,
    path: Path,
    telling: &mut Telling,
) -> Result<Response<AnswerBody>, Fault> {
    let Arrived { peer, mut headers, body, at, request_id, trace } = arrived;
    let worker = &peer.worker;
    let held = held(&peer)?;
    let tenant = identify(&held.table, &headers, &peer)?;
    let profile = match path {
        Path::Embeddings => Profile::Embeddings,
        Path::Completions => Profile::Completions,
        Path::ChatCompletions => Profile::Chat,
        Path::Messages | Path::CountTokens => Profile::Messages,
    };
    let envelope = envelope(&headers)?;
    may_begin(worker, &held, tenant, &envelope)?;
    // Held until the answer begins: another attempt may need the body again.
    let Intake { head, body, debt: _debt } = intake::read(&peer, &headers, body, profile).await?;
    if let Some(name) = head.model_name() {
        telling.set_model(name);
        trace.iter().for_each(|trace| trace.set_model(name));
    }
    let decided = decide(&peer, Arc::clone(&held), tenant, head, trace.as_ref())
        .inspect_err(|fault| telling.on_fault(*fault, &held.table, tenant))?;
    let (held, head) = (&decided.held, &decided.head);
    let trailers = wants_trailers(&headers);
    let row = held.table.route(decided.route);
    let (timeout, is_callers_deadline) = timeouts(row.timeout, envelope.deadline);
    let terms = Terms {
        timeout,
        fallback: row.fallback,
        attempts_max: row.retry.attempts,
        streamed: head.stream,
        is_callers_deadline,
        escalate_after: None,
    };
    let mut claim = claim(&peer, &decided, &envelope, at + timeout.total, body.len())?;
    claim.trace = trace;
    for_upstream(&mut headers, &request_id, &worker.shared.mark);
    let mut exchange = Exchange::new(decided.plan, terms, at);
    let timing = Timing { arrived: at };
    let overhead_us = timing.on_dispatch(worker);
    let order = Order {
        shared: attempt::Shared {
            needs_whole: path.words() != Words::OpenAi,
            ..attempt::Shared::new(worker, held, &claim, drops_usage(head))
        },
        path,
        words: path.words(),
        streamed: head.stream,
        is_apart: peer.is_h2,
        headers,
        body: &|offer, words| told(&body, head, &offer.upstream_json, words),
    };
    let begun =
        drive(order, &mut exchange, &mut Unwatched).await.inspect_err(|_| blame(telling, held, &exchange))?;
    timing.on_first_byte(worker, begun.first_byte_at);
    let stage = Answering {
        peer: &peer,
        held,
        route: decided.route,
        request_id,
        overhead_us,
        timing,
        idle: timeout.idle,
        is_callers_deadline,
        trailers,
        words: path.words(),
        telling: telling.clone(),
    };
    stage.answer(begun, &exchange)
}

/// Names the adapter that the fault came from.
pub fn blame(telling: &mut Telling, held: &Hold, exchange: &Exchange) {
    if let Some(offer) = exchange.blamed() {
        let offer = held.table.offer(offer);
        telling.set_answering(held.table.adapter(offer.owner).name.as_str(), offer.model.as_str());
    }
}

fn decide(
    peer: &Peer,
    held: Hold,
    tenant: TenantId,
    head: Head,
    trace: Option<&Trace>,
) -> Result<Decided, Fault> {
    let began = trace.map(|_| clock::now());
    let unknown = Fault::client(Kind::ModelUnknown);
    let name = head.model_name().ok_or(unknown)?;
    let route = held.table.find(Some(name), None, tenant)?;
    let wish = Wish {
        quality: Wish::BALANCED,
        latency_slo_ms: None,
        cost_max: None,
        input: estimated_input(prompt_bytes(&head)),
        output: head.max_completion_tokens.or(head.max_tokens).unwrap_or(OUTPUT_EXPECTED),
        explore: peer.worker.shared.config.explore,
    };
    let plan = route::plan(&held.table, route, &wish, peer.worker.random())?;
    if let (Some(trace), Some(began)) = (trace, began) {
        trace.on_plan(began, &held.table, &plan);
    }
    Ok(Decided { held, tenant, route, plan, head })
}

fn claim(
    peer: &Peer,
    decided: &Decided,
    envelope: &Envelope<'_>,
    deadline: Moment,
    body_bytes: u64,
) -> Result<Claim, Fault> {
    let Decided { held, tenant, head, .. } = decided;
    let asked = Asked {
        prompt_bytes: prompt_bytes(head),
        // The larger of both: which of them an adapter heeds is its own affair.
        output_max: head.max_completion_tokens.max(head.max_tokens),
        deadline,
        body_bytes,
        qos: None,
    };
    Claim::new(&peer.worker, held, *tenant, envelope, asked)
}

/// What the answer's head is made of.
struct Answering<'a> {
    peer: &'a Arc<Peer>,
    held: &'a Hold,
    route: RouteId,
    request_id: HeaderValue,
    overhead_us: u64,
    timing: Timing,
    idle: Duration,
    is_callers_deadline: bool,
    trailers: bool,
    /// What the caller speaks.
    words: Words,
    telling: Telling,
}

impl Answering<'_> {
    fn answer(self, begun: Begun, exchange: &Exchange) -> Result<Response<AnswerBody>, Fault> {
        let Begun { status, mut headers, mut charge, first_byte_at: _, words, rest } = begun;
        let is_told = words != self.words;
        charge.on_chosen();
        for_caller(&mut headers);
        let (held, tenant) = (self.held, charge.tenant());
        let offer = charge.offer();
        headers.insert(X_ATP_MODEL, offer.header.clone());
        headers.insert(X_ATP_ADAPTER, self.held.table.adapter(offer.owner).header.clone());
        headers.insert(X_ATP_ROUTE, self.held.table.route(self.route).header.clone());
        headers.insert(X_ATP_OVERHEAD, number(self.overhead_us));
        headers.insert(X_ATP_QUEUE, number(millis(charge.waited())));
        if let Some(calls) = charge.run_window() {
            headers.insert(X_ATP_WINDOW, number(u64::from(calls)));
        }
        headers.insert(X_REQUEST_ID, self.request_id.clone());
        if self.words == Words::Anthropic {
            headers.insert(REQUEST_ID, self.request_id.clone());
        }
        let body = match rest {
            // Held until the answer is accounted for as what its client has not taken.
            Rest::Whole(mut rope, _held) => {
                if is_told {
                    rope = self.message(rope, status, &charge);
                }
                headers.insert(X_ATP_COST, number(charge.cost().as_usd_micros_ceil()));
                self.timing.on_end(&self.peer.worker);
                // Settled here: what is left is told as it is now.
                drop(charge);
                AnswerBody::whole(rope)
            }
            Rest::Events(flow) => {
                headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
                let Flow { mut first, reader, body } = *flow;
                let lens = if is_told {
                    let mut out = Rope::new();
                    let messages = Messages::new(&first, reader, &mut out)?;
                    first = out;
                    Lens::Messages(Box::new(messages))
                } else {
                    Lens::Events(reader)
                };
                self.relay(&mut headers, Flow { first, reader: lens, body }, charge, exchange)
            }
            // Longer than is held to be told in other words.
            Rest::Long(_) if is_told => return Err(Fault::upstream(Kind::Garbled, Retry::Never)),
            Rest::Long(flow) => {
                let Flow { first, reader, body } = *flow;
                self.relay(&mut headers, Flow { first, reader: Lens::Body(reader), body }, charge, exchange)
            }
        };
        put_limits(&mut headers, held, tenant);
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// A chat completion, or a refusal, as Messages has it. What is neither stays as it is.
    fn message(&self, rope: Rope, status: StatusCode, charge: &Charge) -> Rope {
        let id = self.request_id.to_str().unwrap_or_default();
        let told = anthropic::answer::from_chat(&rope.joined(), status.as_u16(), &charge.usage(), id);
        told.map_or(rope, |told| Rope::from(Bytes::from(told)))
    }

    fn relay(
        mut self,
        headers: &mut HeaderMap,
        flow: Flow<Lens>,
        charge: Charge,
        exchange: &Exchange,
    ) -> AnswerBody {
        let offer = charge.offer();
        self.telling.set_answering(self.held.table.adapter(offer.owner).name.as_str(), offer.model.as_str());
        let trailers = if self.trailers {
            headers.insert(TRAILER, HeaderValue::from_static("x-atp-cost-usd-micros"));
            Trailers::Due
        } else {
            Trailers::Unwanted
        };
        let input_estimate = charge.likely_input();
        let is_shared = self.peer.is_h2 || flow.body.is_shared();
        let relay = Relay::new(Parts {
            worker: Arc::clone(&self.peer.worker),
            body: flow.body,
            lens: flow.reader,
            first: flow.first,
            charge,
            input_estimate,
            timing: self.timing,
            idle: self.idle,
            deadline: exchange.deadline(),
            is_callers_deadline: self.is_callers_deadline,
        });
        if !is_shared {
            return AnswerBody::relayed(relay, self.telling, trailers);
        }
        let (sender, receiver) = pump::channel(&self.peer.worker, &self.peer.stage);
        tokio::spawn(pump::run(sender, relay, self.telling, trailers));
        AnswerBody::pumped(receiver)
    }
}

pub fn prompt_bytes(head: &Head) -> u64 {
    head.content.map_or(0, |span| span.end - span.start) + head.system_bytes
}

/// A caller of Messages is told usage in events it needs; one of a chat, in one of its own.
fn drops_usage(head: &Head) -> bool {
    head.stream && !head.wants_usage() && head.profile != Profile::Messages
}

/// The body for an adapter: as it is but for the model, or in the hub's words.
fn told(body: &Rope, head: &Head, model_json: &Bytes, words: Words) -> Result<Rope, Fault> {
    if head.profile != Profile::Messages || words == Words::Anthropic {
        return Ok(splice::for_upstream(body, head, model_json));
    }
    anthropic::request::to_chat(body, model_json).map(|told| Bytes::from(told).into())
}

/// In whose shape an operation's faults are told.
fn dialect(path: Path) -> Dialect {
    match path.words() {
        Words::OpenAi => Dialect::OpenAi,
        Words::Anthropic => Dialect::Anthropic,
    }
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    headers.get(TE).is_some_and(|te| te.to_str().is_ok_and(|te| te.contains("trailers")))
}

/// The route's, no longer than the caller wants; true where it is the caller who wants it shorter.
pub fn timeouts(mut timeout: Timeout, wanted: Option<Duration>) -> (Timeout, bool) {
    let is_callers = wanted.is_some_and(|wanted| wanted < timeout.total);
    timeout.total = wanted.unwrap_or(timeout.total).min(timeout.total);
    (timeout, is_callers)
}

/// Tokens of an answer whose length nobody stated, for comparing costs only.
const OUTPUT_EXPECTED: u64 = 180;
