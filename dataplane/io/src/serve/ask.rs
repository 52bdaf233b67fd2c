//! `POST /v1/ask`: one prompt in, lines of JSON out: the plan at once, chunks as they come, a final line with
//! what it took. Where a first token is late for the caller's objective, the next of the plan is started
//! beside the first.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::bill::{Usage, estimated_input};
use dataplane_core::dialect::ask::lines::{self, Candidate};
use dataplane_core::dialect::ask::{PromptHash, cluster_hint, for_upstream, prompt_text};
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::scan::{Head, Profile, Quality};
use dataplane_core::dialect::words::Words;
use dataplane_core::exchange::{Exchange, Terms};
use dataplane_core::fault::{Fault, Kind, Retry};
use dataplane_core::route::{self, Plan, Wish};
use dataplane_core::table::{OfferId, OfferRow, RouteId, TenantId};
use dataplane_state::ledger::Debt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use proto_core::model::{Price, Qos};
use proto_core::units::{Permille, Picodollars};
use tokio::sync::oneshot;

use super::answer::{AnswerBody, Trailers};
use super::completions::{blame, prompt_bytes, timeouts};
use super::headers;
use super::http::{Arrived, held, identify, refused};
use super::intake::{self, Intake};
use super::memory;
use super::pump::{self, Pump};
use crate::admission::{Asked, Claim, envelope, may_begin};
use crate::attempt::{self, Begun, Flow, Rest};
use crate::clock;
use crate::drive::{Order, Watcher, drive};
use crate::lens::{Lens, Told};
use crate::relay::{Parts, Relay};
use crate::served::Hold;
use crate::timing::Timing;
use crate::trace::Trace;
use crate::upstream::Path;
use crate::words::{Dialect, Telling};
use crate::worker::Worker;

/// Answers one ask.
pub async fn serve(arrived: Arrived) -> Response<AnswerBody> {
    let peer = Arc::clone(&arrived.peer);
    let mut telling = Telling::new(Dialect::Ask, &arrived.request_id);
    let trace = arrived.trace.clone();
    let outcome = begin(arrived, &mut telling).await;
    outcome.unwrap_or_else(|fault| {
        trace.iter().for_each(|trace| trace.on_fault(fault));
        refused(&peer, &telling, fault)
    })
}

/// One ask, decided.
struct Asking {
    worker: Arc<Worker>,
    held: Hold,
    claim: Claim,
    route: RouteId,
    plan: Plan,
    head: Head,
    body: Rope,
    /// Put before the prompt.
    context: Bytes,
    /// For the body and the context.
    _debt: Debt,
    headers: HeaderMap,
    cluster_hint: Option<&'static str>,
    timing: Timing,
}

async fn begin(arrived: Arrived, telling: &mut Telling) -> Result<Response<AnswerBody>, Fault> {
    let Arrived { peer, mut headers, body, at, request_id, trace } = arrived;
    let worker = Arc::clone(&peer.worker);
    let held = held(&peer)?;
    let tenant = identify(&held.table, &headers, &peer)?;
    let limits = worker.shared.config.limits;
    let envelope = envelope(&headers)?;
    may_begin(&worker, &held, tenant, &envelope)?;
    let mut intake = intake::read(&peer, &headers, body, Profile::Ask).await?;
    let head = intake.head;
    if head.ask.prompt_chars > limits.prompt_chars {
        return Err(Fault::client(Kind::PromptTooLarge { limit: limits.prompt_chars }));
    }
    let name = head.model_name().ok_or(Fault::client(Kind::ModelUnknown))?;
    telling.set_model(name);
    let mut decide = |beside| {
        decide(&worker, &held, tenant, name, (&head, beside), trace.as_ref())
            .inspect_err(|fault| telling.on_fault(*fault, &held.table, tenant))
    };
    let (mut route, mut plan) = decide(0)?;
    let whose = (&headers, held.table.tenant(tenant).name.as_str());
    let deadline = |route| at + timeouts(held.table.route(route).timeout, envelope.deadline).0.total;
    let context = memory::fetch(&worker, whose, &mut intake, deadline(route)).await?;
    // What was fetched costs as well: who may not spend that much is told before anybody is asked.
    if context.bytes() > 0 {
        (route, plan) = decide(context.bytes())?;
    }
    let Intake { body, debt, .. } = intake;
    let caller_deadline = envelope.deadline;
    let asked = Asked {
        prompt_bytes: prompt_bytes(&head) + context.bytes(),
        output_max: head.max_tokens,
        deadline: deadline(route),
        body_bytes: body.len() + context.bytes(),
        qos: Some(qos(head.ask.quality)),
    };
    let mut claim = Claim::new(&worker, &held, tenant, &envelope, asked)?;
    claim.trace = trace;
    headers::for_upstream(&mut headers, &request_id, &worker.shared.mark);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut prompt = Vec::new();
    prompt_text(&body, &head, &mut prompt);
    let prompt = String::from_utf8_lossy(&prompt);
    let (cluster_hint, hash) = (cluster_hint(&prompt), PromptHash::of(&prompt));
    let timing = Timing { arrived: at };
    timing.on_dispatch(&worker);
    let asking = Asking {
        worker: Arc::clone(&worker),
        held,
        claim,
        route,
        plan,
        head,
        body,
        context: context.text.clone(),
        _debt: debt,
        headers,
        cluster_hint,
        timing,
    };
    let (pump, pumped) = pump::channel(&worker, &peer.stage);
    let mut lines = asking.plan_line(hash);
    context.tell(&mut lines);
    pump.try_send(lines.into());
    let (said, dispatched) = oneshot::channel();
    tokio::spawn(asking.run(pump, said, telling.clone(), caller_deadline));
    // Refused before anybody was asked, it is an answer with a status of its own.
    dispatched.await.unwrap_or(Err(Fault::proxy(Kind::Internal)))?;
    let mut response = lines_of(AnswerBody::pumped(pumped));
    response.headers_mut().insert(headers::X_REQUEST_ID, request_id);
    Ok(response)
}

fn lines_of(body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    out.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    out.insert(headers::X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// The head as one offer is asked: no more tokens than the caller pays for at its price. `beside`: bytes that
/// are put before the prompt.
pub fn within_cost(head: &Head, beside: u64, offer: &OfferRow) -> Head {
    let mut head = *head;
    if let Some(most) = head.ask.max_cost {
        let input = Usage { input: input_expected(&head, beside), ..Usage::default() }.cost(&offer.price);
        let left = Picodollars(most.0.saturating_sub(input.0));
        if let Some(tokens) = left.0.checked_div(offer.price.output.0) {
            head.max_tokens = Some(head.max_tokens.map_or(tokens, |asked| asked.min(tokens)).max(1));
        }
    }
    head
}

fn decide(
    worker: &Worker,
    held: &Hold,
    tenant: TenantId,
    name: &str,
    (head, beside): (&Head, u64),
    trace: Option<&Trace>,
) -> Result<(RouteId, Plan), Fault> {
    let began = trace.map(|_| clock::now());
    trace.iter().for_each(|trace| trace.set_model(name));
    let name = Some(name).filter(|name| !name.is_empty());
    let task_type = head.ask.task_type.as_str().filter(|task| !task.is_empty());
    let route = held.table.find(name, task_type, tenant)?;
    let plan =
        route::plan(&held.table, route, &wish(head, beside, worker.shared.config.explore), worker.random())?;
    if let (Some(trace), Some(began)) = (trace, began) {
        trace.on_plan(began, &held.table, &plan);
    }
    Ok((route, plan))
}

/// As existing clients know it: who wants the best wants it soon.
fn qos(quality: Quality) -> Qos {
    match quality {
        Quality::Fast => Qos::Bronze,
        Quality::Balanced => Qos::Silver,
        Quality::High => Qos::Gold,
    }
}

fn wish(head: &Head, beside: u64, explore: Permille) -> Wish {
    let (quality, output) = match head.ask.quality {
        Quality::Fast => (Wish::FAST, OUTPUT_EXPECTED),
        Quality::Balanced => (Wish::BALANCED, OUTPUT_EXPECTED),
        Quality::High => (Wish::HIGH, OUTPUT_EXPECTED_HIGH),
    };
    Wish {
        quality,
        latency_slo_ms: head.ask.latency_slo_ms,
        cost_max: head.ask.max_cost,
        input: input_expected(head, beside),
        output: head.max_tokens.map_or(output, |most| most.min(output)),
        explore,
    }
}

fn input_expected(head: &Head, beside: u64) -> u64 {
    estimated_input(prompt_bytes(head) + beside).max(INPUT_EXPECTED_MIN)
}

/// Told what happens to the exchange; the caller's stream shows it.
struct Teller<'a> {
    said: Option<oneshot::Sender<Result<(), Fault>>>,
    pump: &'a Pump,
    held: &'a Hold,
}

impl Watcher for Teller<'_> {
    fn on_dispatch(&mut self, offer: OfferId, escalated: bool) {
        if let Some(said) = self.said.take() {
            let _ = said.send(Ok(()));
        }
        if escalated {
            let mut line = Vec::new();
            lines::escalate(self.held.table.offer(offer).model.as_str(), &mut line);
            self.pump.try_send(line.into());
        }
    }
}

impl Asking {
    async fn run(
        mut self,
        pump: Pump,
        said: oneshot::Sender<Result<(), Fault>>,
        mut telling: Telling,
        caller_deadline: Option<Duration>,
    ) {
        let row = self.held.table.route(self.route);
        let (timeout, is_callers_deadline) = timeouts(row.timeout, caller_deadline);
        let terms = Terms {
            timeout,
            fallback: row.fallback,
            attempts_max: row.retry.attempts,
            streamed: true,
            is_callers_deadline,
            escalate_after: self.head.ask.latency_slo_ms.map(escalate_after),
        };
        let mut exchange = Exchange::new(self.plan.clone(), terms, self.timing.arrived);
        let mut teller = Teller { said: Some(said), pump: &pump, held: &self.held };
        let headers = std::mem::take(&mut self.headers);
        let body = |offer: &OfferRow, _: Words| {
            let head = within_cost(&self.head, self.context.len() as u64, offer);
            Ok(for_upstream(&self.body, &head, &self.context, &offer.upstream_json))
        };
        let order = Order {
            shared: attempt::Shared::new(&self.worker, &self.held, &self.claim, false),
            path: Path::ChatCompletions,
            words: Words::OpenAi,
            streamed: true,
            is_apart: true,
            headers,
            body: &body,
        };
        let outcome = tokio::select! {
            outcome = drive(order, &mut exchange, &mut teller) => outcome,
            () = pump.gone() => {
                self.worker.tally.cancelled.one();
                self.worker.tally.error(Fault::client(Kind::ClientGone));
                return;
            }
        };
        let unsaid = teller.said.take();
        if outcome.is_err() {
            blame(&mut telling, &self.held, &exchange);
        }
        match outcome.and_then(|begun| self.relay(begun, &exchange, &mut telling, &terms)) {
            Ok(relay) => pump::run(pump, relay, telling, Trailers::Unwanted).await,
            Err(fault) => match unsaid {
                Some(said) => drop(said.send(Err(fault))),
                None => {
                    self.worker.tally.error(fault);
                    // Dropping the pump after it, without an end, is the cut.
                    let _ = pump.send(telling.event(fault)).await;
                }
            },
        }
    }

    fn relay(
        &self,
        begun: Begun,
        exchange: &Exchange,
        telling: &mut Telling,
        terms: &Terms,
    ) -> Result<Relay, Fault> {
        let Begun { status, mut charge, first_byte_at, rest, .. } = begun;
        self.timing.on_first_byte(&self.worker, first_byte_at);
        charge.on_chosen();
        let offer = charge.offer();
        telling.set_answering(self.held.table.adapter(offer.owner).name.as_str(), offer.model.as_str());
        let Rest::Events(flow) = rest else {
            // A refusal of what we made of the prompt, or no stream where one was asked for.
            let kind = match status.is_success() {
                true => Kind::Garbled,
                false => Kind::Status { code: status.as_u16(), retry_after_s: None },
            };
            return Err(Fault::upstream(kind, Retry::Never));
        };
        let Flow { first, reader, body } = *flow;
        let input_estimate = charge.likely_input();
        let mut told = Told {
            // The events that came already are told by a reader of their own; this one goes on where they
            // end.
            reader: dataplane_core::dialect::openai::StreamReader::new(false),
            model: offer.model.as_str().into(),
            seq: 0,
            text: Vec::new(),
            cost_max: self.head.ask.max_cost,
            input_estimate,
            dearest: self.dearest(),
            escalations: u32::from(exchange.escalations()),
            cluster_hint: self.cluster_hint,
            phase: offer.status.as_str(),
        };
        let mut out = Rope::new();
        for event in first.iter() {
            told.on_piece(event, &mut charge, &mut out)?;
        }
        told.reader = reader;
        Ok(Relay::new(Parts {
            worker: Arc::clone(&self.worker),
            body,
            lens: Lens::Ask(Box::new(told)),
            first: out,
            charge,
            input_estimate,
            timing: self.timing,
            idle: terms.timeout.idle,
            deadline: exchange.deadline(),
            is_callers_deadline: terms.is_callers_deadline,
        }))
    }

    /// Of the plan's candidates, where there are several.
    fn dearest(&self) -> Option<Price> {
        let wish = wish(&self.head, self.context.len() as u64, Permille(0));
        let offers = self.plan.offers.iter().map(|id| self.held.table.offer(*id));
        let dearest = offers.max_by_key(|offer| wish.expected_cost(offer))?;
        (self.plan.offers.len() > 1).then_some(dearest.price)
    }

    fn plan_line(&self, prompt_hash: PromptHash) -> Vec<u8> {
        let offers: Vec<&OfferRow> = self.plan.offers.iter().map(|id| self.held.table.offer(*id)).collect();
        let candidates: Vec<Candidate<'_>> = offers
            .iter()
            .map(|offer| Candidate {
                model: offer.model.as_str(),
                cost_per_1k: Picodollars(offer.price.output.0.saturating_mul(1000)),
                quality: offer.quality,
                latency_p95_ms: offer.latency_p95_ms,
            })
            .collect();
        let role = |at: usize| match at {
            0 => "primary",
            1 if self.plan.explores => "explore",
            _ => "fallback",
        };
        let roles: Vec<_> =
            offers.iter().enumerate().map(|(at, offer)| (role(at), offer.model.as_str())).collect();
        let reason = self.held.table.route(self.route).strategy.as_str();
        let plan = lines::Plan {
            candidates: &candidates,
            cluster_hint: self.cluster_hint,
            prompt_hash,
            reason,
            roles: &roles,
        };
        let mut line = Vec::new();
        lines::plan(&plan, &mut line);
        line
    }
}

/// The share of the objective after which the next of the plan is started too.
fn escalate_after(slo_ms: u32) -> Duration {
    Duration::from_millis(u64::from(slo_ms) * 6 / 10)
}

/// Tokens of an answer and of the least prompt, as clients of `/v1/ask` expect costs to be estimated.
const OUTPUT_EXPECTED: u64 = 120;
const OUTPUT_EXPECTED_HIGH: u64 = 180;
const INPUT_EXPECTED_MIN: u64 = 30;
