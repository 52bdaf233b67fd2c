//! One request of a stream: the same exchange as over HTTP, its answer handed over in pieces. Runs as a task
//! of its connection's worker; aborting it cancels the work upstream. Knows nothing of frames.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dataplane_core::admit::envelope::Envelope;
use dataplane_core::admit::pressure::Level;
use dataplane_core::bill::{Usage, estimated_input};
use dataplane_core::dialect::atp::Request;
use dataplane_core::dialect::openai::StreamReader;
use dataplane_core::dialect::openai::join::Joiner;
use dataplane_core::dialect::rope::Rope;
use dataplane_core::dialect::scan::{Profile, Quality};
use dataplane_core::dialect::words::Words;
use dataplane_core::dialect::{ask, splice};
use dataplane_core::exchange::{Exchange, Terms};
use dataplane_core::fault::{Fault, Kind, Retry};
use dataplane_core::route::{self, Plan, Wish};
use dataplane_core::table::{OfferRow, RouteId, TenantId};
use dataplane_core::trace::Context;
use dataplane_state::ledger::Debt;
use dataplane_state::tally::Operation;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use proto_core::frame::Text;
use proto_core::model::Qos;
use proto_core::session::Message;
use proto_core::units::{Moment, Picodollars};

use super::again::Again;
use super::outbox::{Outbox, Said};
use crate::admission::{Asked, Claim, Counter, may_begin};
use crate::attempt::{self, Begun, Flow, Rest};
use crate::charge::Charge;
use crate::clock;
use crate::drive::{Order, Unwatched, drive};
use crate::lens::Lens;
use crate::relay::{Parts, Relay};
use crate::serve::ask::within_cost;
use crate::serve::completions::{blame, prompt_bytes, timeouts};
use crate::serve::headers;
use crate::served::Hold;
use crate::timing::Timing;
use crate::trace::{TRACEPARENT, Trace};
use crate::upstream::Path;
use crate::words::{Dialect, Telling};
use crate::worker::Worker;

/// What is to be done, for whom.
pub struct Job {
    pub worker: Arc<Worker>,
    pub held: Hold,
    pub tenant: TenantId,
    /// The run it belongs to, where it has a name.
    pub run: Option<Text>,
    /// What the message carried.
    pub content: Bytes,
    pub task_type: Option<Text>,
    pub qos: Option<Qos>,
    pub deadline: Option<Duration>,
    /// What else its caller lets it take.
    pub envelope: Envelope<'static>,
    /// Only adapters of this kind are asked.
    pub adapter_kind: Option<&'static str>,
    /// Windows it is counted against beside those of run and tenant.
    pub also: Vec<Counter>,
    /// Text is wanted, whatever words the request was in.
    pub as_text: bool,
    /// What it counts as; `None`: whoever hands it in counts it.
    pub operation: Option<Operation>,
    /// It gave its place to another once, and is not cut again.
    pub is_spared: bool,
    pub request_id: HeaderValue,
    /// The span its peer says it belongs to.
    pub parent: Option<Context>,
    pub at: Moment,
}

/// How an answer ended that is complete.
#[derive(Debug)]
pub struct Done {
    pub adapter: Text,
    pub model: Text,
    pub usage: Usage,
    pub cost: Picodollars,
    pub latency: Duration,
    /// Until the first token; of an answer that came whole there is none.
    pub first_token: Option<Duration>,
    /// Of a request in plain text: all of it, as it stands between the quotes of JSON.
    pub text: Option<Vec<u8>>,
    /// Of a request that wanted no stream: the whole answer.
    pub whole: Option<Bytes>,
    /// What of it is repeated, in the worker's account until it is told.
    pub _held: Debt,
}

/// How a request failed; the sentence is for the peer.
#[derive(Debug, Clone)]
pub struct Failed {
    pub fault: Fault,
    pub reason: String,
    /// Tokens that were received and are billed.
    pub usage: Usage,
    pub cost: Picodollars,
    /// Of one that gave its place to another: what it said.
    pub again: Option<Box<Again>>,
}

/// Runs a job to its end; all that comes of it goes into the outbox.
pub async fn run(job: Job, outbox: Outbox) {
    let mut telling = Telling::new(Dialect::OpenAi, &job.request_id);
    let worker = Arc::clone(&job.worker);
    let operation = job.operation;
    if operation.is_some() {
        worker.tally.requests_started.one();
    }
    let answered =
        |status| operation.into_iter().for_each(|operation| worker.tally.answered(operation, status));
    let (content, task_type, qos) = (job.content.clone(), job.task_type.clone(), job.qos);
    let trace = worker.trace(|| job.parent, operation.unwrap_or(Operation::Session), job.at);
    let outcome = tokio::select! {
        biased;
        outcome = answer(job, trace.clone(), &outbox, &mut telling) => outcome,
        () = outbox.gone() => return,
    };
    match outcome {
        Ok(done) => {
            answered(200);
            outbox.last(Said::Done(Box::new(done)));
        }
        Err(Broken { fault, usage, cost, is_counted }) => {
            trace.iter().for_each(|trace| trace.on_fault(fault));
            if !is_counted {
                worker.tally.error(fault);
            }
            answered(fault.status());
            let reason = telling.reason(fault);
            let again = (fault.kind == Kind::Preempted).then(|| Box::new(Again { content, task_type, qos }));
            outbox.last(Said::Failed(Box::new(Failed { fault, reason, usage, cost, again })));
        }
    }
}

/// A fault, and what the answer had cost by then.
struct Broken {
    fault: Fault,
    usage: Usage,
    cost: Picodollars,
    /// In the metrics already.
    is_counted: bool,
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Broken {
        Broken { fault, usage: Usage::default(), cost: Picodollars(0), is_counted: false }
    }
}

async fn answer(
    job: Job,
    trace: Option<Trace>,
    outbox: &Outbox,
    telling: &mut Telling,
) -> Result<Done, Broken> {
    let worker = &job.worker;
    // Held until the end: another attempt may need it again.
    let mut debt = Debt::none(&worker.ledger);
    hold(&mut debt, job.content.len() as u64)?;
    let Decided { request, route, plan, wants_text } = decide(&job, telling)?;
    let head = request.head;
    let row = job.held.table.route(route);
    let (timeout, is_callers_deadline) = timeouts(row.timeout, job.deadline);
    let is_chat = head.profile == Profile::Chat;
    let streamed = head.stream || !is_chat;
    let terms = Terms {
        timeout,
        fallback: row.fallback,
        attempts_max: row.retry.attempts,
        streamed,
        is_callers_deadline,
        escalate_after: head.ask.latency_slo_ms.map(|slo| Duration::from_millis(u64::from(slo) * 6 / 10)),
    };
    let claim = claim(&job, &request, timeout.total, trace)?;
    let timing = Timing { arrived: job.at };
    timing.on_dispatch(worker);
    let mut exchange = Exchange::new(plan, terms, job.at);
    let body = |offer: &OfferRow, _: Words| Ok(upstream_body(&request, offer));
    let order = Order {
        shared: attempt::Shared::new(worker, &job.held, &claim, !head.wants_usage()),
        path: Path::ChatCompletions,
        words: Words::OpenAi,
        streamed,
        is_apart: true,
        headers: upstream_headers(&job),
        body: &body,
    };
    let mut unwatched = Unwatched;
    let driven = tokio::select! {
        driven = Box::pin(drive(order, &mut exchange, &mut unwatched)) => driven,
        () = outbox.stopped() => return Err(Fault::client(Kind::ClientGone).into()),
    };
    let begun = driven.inspect_err(|_| blame(telling, &job.held, &exchange))?;
    let Begun { status, mut charge, first_byte_at, rest, .. } = begun;
    timing.on_first_byte(worker, first_byte_at);
    charge.on_chosen();
    let offer = charge.offer();
    let adapter = job.held.table.adapter(offer.owner).name.as_str();
    telling.set_answering(adapter, offer.model.as_str());
    let by = (Text::from(adapter), Text::from(offer.model.as_str()));
    let flow = match rest {
        Rest::Events(flow) => *flow,
        Rest::Whole(rope, held) if status.is_success() && !streamed => {
            timing.on_end(worker);
            return Ok(whole(rope, held, &charge, by, &job)?);
        }
        // A refusal of what was asked, or no stream where one was asked for.
        Rest::Whole(..) | Rest::Long(_) => {
            let kind = match status.is_success() {
                true => Kind::Garbled,
                false => Kind::Status { code: status.as_u16(), retry_after_s: None },
            };
            return Err(Fault::upstream(kind, Retry::Never).into());
        }
    };
    outbox.send(Said::Began { adapter: by.0.clone() }).await?;
    let (idle, exchange, cost_max) = (timeout.idle, &exchange, head.ask.max_cost);
    let relaying = Relaying { wants_text, by, outbox, idle, exchange, timing, first_byte_at, cost_max };
    relaying.run(&job, flow, charge, is_callers_deadline).await
}

struct Decided {
    request: Request,
    route: RouteId,
    plan: Plan,
    wants_text: bool,
}

fn decide(job: &Job, telling: &mut Telling) -> Result<Decided, Fault> {
    let envelope = Envelope { qos: job.qos, ..job.envelope };
    may_begin(&job.worker, &job.held, job.tenant, &envelope)?;
    let request = Request::read(&job.content)?;
    let head = &request.head;
    let name = head.model_name().ok_or(Fault::client(Kind::ModelUnknown))?;
    telling.set_model(name);
    let table = &job.held.table;
    let is_chat = head.profile == Profile::Chat;
    let task = head.ask.task_type.as_str().filter(|task| !task.is_empty());
    let task = task.or(job.task_type.as_ref().map(Text::as_str));
    let quality = match head.ask.quality {
        Quality::Fast => Wish::FAST,
        Quality::Balanced => Wish::BALANCED,
        Quality::High => Wish::HIGH,
    };
    let wish = Wish {
        quality,
        latency_slo_ms: head.ask.latency_slo_ms,
        cost_max: head.ask.max_cost,
        input: estimated_input(prompt_bytes(head)),
        output: head.answer_tokens_max().unwrap_or(OUTPUT_EXPECTED),
        explore: job.worker.shared.config.explore,
    };
    let found = table.find(Some(name).filter(|name| !name.is_empty()), task, job.tenant).and_then(|route| {
        let may = |offer: &OfferRow| {
            job.adapter_kind.is_none_or(|kind| table.adapter(offer.adapter).kind.as_str() == kind)
        };
        let plan = route::plan_among(table, route, &wish, job.worker.random(), may)?;
        Ok((route, plan))
    });
    let (route, plan) = found.inspect_err(|fault| telling.on_fault(*fault, table, job.tenant))?;
    let wants_text = job.as_text || !is_chat;
    Ok(Decided { request, route, plan, wants_text })
}

fn claim(job: &Job, request: &Request, total: Duration, trace: Option<Trace>) -> Result<Claim, Fault> {
    let head = &request.head;
    let session = job.run.as_ref().map(Text::as_str);
    let envelope = Envelope { session, qos: job.qos, ..job.envelope };
    let asked = Asked {
        prompt_bytes: prompt_bytes(head),
        output_max: head.max_completion_tokens.max(head.max_tokens),
        deadline: job.at + total,
        body_bytes: request.body.len(),
        qos: None,
    };
    let mut claim = Claim::new(&job.worker, &job.held, job.tenant, &envelope, asked)?;
    claim.also.clone_from(&job.also);
    claim.is_spared = job.is_spared;
    claim.trace = trace;
    if let (Some(trace), Some(model)) = (&claim.trace, head.model_name()) {
        trace.set_model(model);
    }
    Ok(claim)
}

fn upstream_body(request: &Request, offer: &OfferRow) -> Rope {
    let Request { head, body } = request;
    match head.profile {
        Profile::Chat => splice::for_upstream(body, head, &offer.upstream_json),
        _ => ask::for_upstream(body, &within_cost(head, 0, offer), &Bytes::new(), &offer.upstream_json),
    }
}

/// The span a message says it belongs to: `trace` of its `meta`.
pub fn parent(message: &Message) -> Option<Context> {
    let said = message.meta.as_ref()?.trace.as_ref()?;
    Context::of_json(std::str::from_utf8(said.as_bytes()).ok()?)
}

fn upstream_headers(job: &Job) -> HeaderMap {
    let mut out = HeaderMap::new();
    headers::for_upstream(&mut out, &job.request_id, &job.worker.shared.mark);
    out.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Where it is traced here, each attempt says its own.
    if let Some(parent) = job.parent.and_then(|parent| HeaderValue::try_from(parent.to_text()).ok()) {
        out.insert(TRACEPARENT, parent);
    }
    out
}

fn whole(rope: Rope, mut held: Debt, charge: &Charge, by: (Text, Text), job: &Job) -> Result<Done, Fault> {
    // Once more, in one piece.
    hold(&mut held, rope.len())?;
    let bytes = rope.iter().fold(Vec::new(), |mut all: Vec<u8>, piece| {
        all.extend_from_slice(piece);
        all
    });
    held.give_back(rope.len());
    drop(rope);
    Ok(Done {
        adapter: by.0,
        model: by.1,
        usage: charge.usage(),
        cost: charge.cost(),
        latency: clock::now() - job.at,
        first_token: None,
        text: None,
        whole: Some(bytes.into()),
        _held: held,
    })
}

/// A piece of the text that the final message repeats.
fn keep(text: &mut Vec<u8>, held: &mut Debt, piece: &[u8]) -> Result<(), Fault> {
    if text.len() + piece.len() > TEXT_BYTES_MAX {
        return Err(Fault::upstream(Kind::Garbled, Retry::Never));
    }
    hold(held, piece.len() as u64)?;
    text.extend_from_slice(piece);
    Ok(())
}

/// So much more of an answer is kept until it is whole.
fn hold(held: &mut Debt, bytes: u64) -> Result<(), Fault> {
    let shed = Fault::proxy(Kind::Shed { again_s: Level::Red.retry_after_s() });
    if held.try_grow(bytes) { Ok(()) } else { Err(shed) }
}

/// A stream on its way to the peer.
struct Relaying<'a> {
    wants_text: bool,
    by: (Text, Text),
    outbox: &'a Outbox,
    idle: Duration,
    exchange: &'a Exchange,
    timing: Timing,
    first_byte_at: Moment,
    cost_max: Option<Picodollars>,
}

impl Relaying<'_> {
    async fn run(
        self,
        job: &Job,
        flow: Flow<StreamReader>,
        charge: Charge,
        is_callers_deadline: bool,
    ) -> Result<Done, Broken> {
        let Flow { first, reader, body } = flow;
        let input_estimate = charge.likely_input();
        let mut relay = Relay::new(Parts {
            worker: Arc::clone(&job.worker),
            body,
            lens: self.lens(reader),
            first: self.first(&first)?,
            charge,
            input_estimate,
            timing: self.timing,
            idle: self.idle,
            deadline: self.exchange.deadline(),
            is_callers_deadline,
        });
        let (mut text, mut held) = (Vec::new(), Debt::none(&job.worker.ledger));
        // One for all pieces: to begin to wait, and to stop waiting, costs more than to look again.
        let stopped = self.outbox.stopped();
        tokio::pin!(stopped);
        loop {
            let mut broken = None;
            let piece = poll_fn(|cx| {
                relay.poll_piece(cx, |fault| {
                    broken = Some(fault);
                    Bytes::new()
                })
            });
            let piece = tokio::select! {
                biased;
                () = &mut stopped => return Err(Relaying::stopped(&mut relay)),
                piece = piece => piece,
            };
            if let Some(fault) = broken {
                let charge = relay.charge();
                return Err(Broken { fault, usage: charge.usage(), cost: charge.cost(), is_counted: true });
            }
            let said = match piece {
                Some(Ok(piece)) if self.wants_text => {
                    keep(&mut text, &mut held, &piece)?;
                    Said::Text(piece)
                }
                Some(Ok(piece)) => Said::Data(piece),
                Some(Err(cut)) => return Err(cut.0.into()),
                None => break,
            };
            self.outbox.set_tokens(relay.output_so_far());
            if self.cost_max.is_some_and(|most| relay.charge().cost() > most) {
                return Err(Relaying::too_dear(&mut relay));
            }
            // Nearly always there is room.
            if let Some(said) = self.outbox.try_send(said)? {
                tokio::select! {
                    sent = self.outbox.send(said) => sent?,
                    () = &mut stopped => return Err(Relaying::stopped(&mut relay)),
                }
            }
        }
        let charge = relay.charge();
        Ok(Done {
            adapter: self.by.0,
            model: self.by.1,
            usage: charge.usage(),
            cost: charge.cost(),
            latency: clock::now() - job.at,
            first_token: Some(self.first_byte_at - job.at),
            text: self.wants_text.then_some(text),
            whole: None,
            _held: held,
        })
    }

    /// The upstream was told the most it may write; one that writes on is stopped here.
    fn too_dear(relay: &mut Relay) -> Broken {
        let fault = Fault::proxy(Kind::BudgetExceeded);
        relay.give_up(fault);
        let charge = relay.charge();
        Broken { fault, usage: charge.usage(), cost: charge.cost(), is_counted: true }
    }

    fn lens(&self, reader: StreamReader) -> Lens {
        match self.wants_text {
            true => Lens::Text(reader, Vec::new()),
            false => Lens::Data(reader, Joiner::default()),
        }
    }

    /// Told to end: what it took by then. The relay's end counts it as cancelled.
    fn stopped(relay: &mut Relay) -> Broken {
        let charge = relay.charge();
        let fault = Fault::client(Kind::ClientGone);
        Broken { fault, usage: charge.usage(), cost: charge.cost(), is_counted: true }
    }

    /// The events that came before it was chosen: told by a reader of their own, the other goes on after
    /// them.
    fn first(&self, events: &Rope) -> Result<Rope, Fault> {
        let mut reader = StreamReader::new(false);
        let (mut joiner, mut text, mut out) = (Joiner::default(), Vec::new(), Rope::new());
        for event in events.iter() {
            match self.wants_text {
                true => reader.push_text(event, |raw| text.extend_from_slice(raw))?,
                false => reader.push_chunks(event, |chunk| joiner.push(chunk, |data| out.push(data)))?,
            }
        }
        joiner.flush(|data| out.push(data));
        out.push(text.into());
        Ok(out)
    }
}

/// Tokens of an answer whose length nobody stated, for comparing costs only.
const OUTPUT_EXPECTED: u64 = 180;
/// Repeated in the final message, so it is held; longer than any model writes at once.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
