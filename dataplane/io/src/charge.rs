//! What an attempt holds and what it will have cost: a permit, its part of windows, a say in the breaker, a
//! bill. All of it is given back and settled exactly once, when this is dropped, however the attempt ends.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dataplane_core::admit::estimate::{Estimate, error_permille};
use dataplane_core::admit::permits::Load;
use dataplane_core::bill::Usage;
use dataplane_core::breaker::Verdict;
use dataplane_core::fair::{Ask, Tariff};
use dataplane_core::fault::{Fault, Kind};
use dataplane_core::limit::{Axis, Ceiling, Loss, Sample};
use dataplane_core::table::{OfferId, OfferRow, TenantId};
use dataplane_state::learned::hash_of_both;
use dataplane_state::registry::AdapterCell;
use http::HeaderMap;
use proto_core::model::{Concurrency, Qos};
use proto_core::units::{Moment, Picodollars};

use crate::admission::{Admitted, Claim};
use crate::clock;
use crate::drain::Phase;
use crate::queue::{Permit, Preemption};
use crate::served::Hold;
use crate::timing::millis;
use crate::trace::{self, span::Value};
use crate::worker::Worker;

/// One attempt's account.
#[derive(Debug)]
pub struct Charge {
    worker: Arc<Worker>,
    held: Hold,
    offer: OfferId,
    permit: Permit,
    admitted: Admitted,
    estimate: Estimate,
    prompt_bytes: u64,
    /// Output tokens that are reserved.
    output_reserved: u64,
    dispatched: Dispatched,
    /// Where somebody in need may take its place.
    preemption: Option<Preemption>,
    first_byte_at: Option<Moment>,
    /// What a refusal would name.
    refused_for: Axis,
    is_probe: bool,
    outcome: Outcome,
    /// What the upstream reported, or what was counted so far.
    usage: Usage,
    /// The caller gets this answer: its tenant pays.
    is_answer: bool,
    /// Where its request is traced.
    trace: Option<trace::Attempt>,
}

/// The moment an attempt left, as its limit's finder wants to know it.
#[derive(Debug, Clone, Copy)]
struct Dispatched {
    at: Moment,
    requests_in_flight: u32,
    tokens_in_flight: u64,
    /// The limit of its model moves.
    is_watched: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Ended from our side or the caller's: says nothing about the upstream.
    Cancelled,
    Succeeded,
    Failed,
}

impl Charge {
    /// Passes the breaker, reserves in windows and takes a permit, or says which of them refused.
    pub fn open(
        worker: &Arc<Worker>,
        held: &Hold,
        offer: OfferId,
        claim: &Claim,
        now: Moment,
    ) -> Result<Charge, Fault> {
        let breaker = &adapter_cell(held, offer).breaker;
        let verdict = breaker.on_request(now);
        if verdict == Verdict::Refuse {
            return Err(Fault::proxy(Kind::AllTripped));
        }
        let estimate = claim.estimate(worker, held, offer);
        let taken = Admitted::reserve(worker, held, claim, &estimate).and_then(|admitted| {
            let permit = Permit::try_now(held, offer, &ask(held, offer, claim, &estimate));
            Ok((admitted, permit.ok_or(Fault::proxy(Kind::NoPermit))?))
        });
        match taken {
            Ok((admitted, permit)) => {
                on_acquired(claim, now, Duration::ZERO);
                Ok(Charge::new(worker, held, offer, claim, (admitted, estimate, permit), verdict, now))
            }
            Err(fault) => {
                on_denied(claim, now, fault);
                if verdict == Verdict::Probe {
                    breaker.on_abandoned();
                }
                Err(fault)
            }
        }
    }

    /// The same for one that waits for its permit; at most until `claim`'s deadline, after which it is told.
    pub async fn wait(
        worker: &Arc<Worker>,
        held: &Hold,
        offer: OfferId,
        claim: &Claim,
    ) -> Result<Charge, Fault> {
        let estimate = claim.estimate(worker, held, offer);
        let admitted = Admitted::reserve(worker, held, claim, &estimate)?;
        let answer = held.queue(offer).wait(held, offer, ask(held, offer, claim, &estimate))?;
        let permit = answer.await.unwrap_or_else(|_| {
            // The owner ended before its queue was empty: with this process, or by a bug that was counted.
            let is_closing = worker.shared.is_past(Phase::Closing);
            Err(Fault::proxy(if is_closing { Kind::Draining } else { Kind::Internal }))
        })?;
        let now = clock::now();
        let verdict = adapter_cell(held, offer).breaker.on_request(now);
        if verdict == Verdict::Refuse {
            return Err(Fault::proxy(Kind::AllTripped));
        }
        on_acquired(claim, Moment(now.0.saturating_sub(nanos(permit.waited()))), permit.waited());
        Ok(Charge::new(worker, held, offer, claim, (admitted, estimate, permit), verdict, now))
    }

    fn new(
        worker: &Arc<Worker>,
        held: &Hold,
        offer: OfferId,
        claim: &Claim,
        (admitted, estimate, permit): (Admitted, Estimate, Permit),
        verdict: Verdict,
        now: Moment,
    ) -> Charge {
        worker.tally.attempts.one();
        held.tenants[claim.tenant.0 as usize].tallies[worker.id].begun.one();
        let preemption = (claim.band == Qos::Bronze && !claim.is_spared).then(|| {
            let (preemption, victim) = Preemption::new(held.table.tenant(claim.tenant).preempt_streams);
            held.queue(offer).on_preemptible(held.table.offer(offer).hash, victim);
            preemption
        });
        let is_watched = is_moving(held, offer);
        let own = if is_watched { held.offers[offer.0 as usize].permits.now() } else { Load::default() };
        Charge {
            worker: Arc::clone(worker),
            held: Arc::clone(held),
            offer,
            permit,
            admitted,
            estimate,
            prompt_bytes: claim.prompt_bytes,
            output_reserved: estimate.output,
            dispatched: Dispatched {
                at: now,
                requests_in_flight: own.requests,
                tokens_in_flight: own.tokens,
                is_watched,
            },
            preemption,
            first_byte_at: None,
            refused_for: Axis::Requests,
            is_probe: verdict == Verdict::Probe,
            outcome: Outcome::Cancelled,
            usage: Usage::default(),
            is_answer: false,
            trace: claim.trace.as_ref().map(|trace| {
                let row = held.table.offer(offer);
                trace.attempt(held.table.adapter(row.adapter).name.as_str(), row.model.as_str())
            }),
        }
    }

    /// The context of this attempt, for its adapter; where it is not traced the caller's own goes through.
    pub fn put_context(&self, headers: &mut HeaderMap) {
        if let Some(attempt) = &self.trace {
            attempt.put_context(headers);
        }
    }

    /// Tokens of its prompt, until the upstream says, without the guard band that is reserved: nobody pays
    /// for our doubt.
    pub fn likely_input(&self) -> u64 {
        self.worker.shared.learned.likely_input(self.offer().hash, self.prompt_bytes)
    }

    /// Calls its run may have at once; `None` where it belongs to none.
    pub fn run_window(&self) -> Option<u32> {
        let session = self.admitted.session().filter(|session| session.is_run())?;
        let most = session.window.limits().calls.unwrap_or(u32::MAX);
        Some(session.flow.current().min(most))
    }

    pub fn tenant(&self) -> TenantId {
        self.admitted.tenant()
    }

    /// Time in the queue.
    pub fn waited(&self) -> Duration {
        self.permit.waited()
    }

    /// An answer began: `is_stream` where this is its first token.
    pub fn on_first_byte(&mut self, now: Moment, is_stream: bool) {
        self.first_byte_at = Some(now);
        if !self.dispatched.is_watched {
            return;
        }
        let Dispatched { at, requests_in_flight, tokens_in_flight, .. } = self.dispatched;
        let sample = Sample {
            dispatched_at: at,
            now,
            ttft: is_stream.then(|| now - at),
            prompt_tokens_uncached: self.estimate.input - self.estimate.cached,
            requests_in_flight,
            tokens_in_flight,
            bound: (!self.permit.waited().is_zero()).then_some(Axis::Requests),
        };
        self.held.queue(self.offer).on_sample(self.offer().hash, sample);
    }

    /// What the upstream says of its own limits, and whether it just refused for one of them.
    pub fn on_limits(&mut self, ceilings: &[Ceiling]) {
        let queue = self.held.queue(self.offer);
        ceilings.iter().for_each(|ceiling| queue.on_ceiling(self.offer().hash, *ceiling));
        let has = |is: fn(&Ceiling) -> bool| ceilings.iter().any(is);
        if has(|ceiling| ceiling.tokens == Some(0)) && !has(|ceiling| ceiling.requests == Some(0)) {
            self.refused_for = Axis::Tokens;
        }
    }

    /// Whether anybody wants to know what the upstream says of its limits.
    pub fn is_watched(&self) -> bool {
        self.dispatched.is_watched
    }

    /// So many output tokens came so far: what passes the reservation is reserved now, or the answer ends.
    pub fn on_output(&mut self, output: u64) -> Result<(), Fault> {
        if output <= self.output_reserved {
            return Ok(());
        }
        let more = (output - self.output_reserved).next_multiple_of(QUANTUM_TOKENS);
        let price = self.offer().price.output;
        self.admitted.extend(more, Picodollars(price.0.saturating_mul(more)))?;
        self.output_reserved += more;
        self.permit.extend(more, Tariff::DEFAULT.charge(0, 0, more));
        Ok(())
    }

    /// Ready once somebody in need takes its place.
    pub fn poll_preempted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.preemption {
            Some(preemption) => preemption.poll(cx),
            None => Poll::Pending,
        }
    }

    /// For whoever watches while the charge is lent; goes back with [`Charge::set_preemption`].
    pub fn take_preemption(&mut self) -> Option<Preemption> {
        self.preemption.take()
    }

    pub fn set_preemption(&mut self, preemption: Option<Preemption>) {
        self.preemption = preemption;
    }

    pub fn offer(&self) -> &OfferRow {
        self.held.table.offer(self.offer)
    }

    /// Replaces what is known of the tokens used.
    pub fn set_usage(&mut self, usage: Usage) {
        // A count no model reaches is a mistake of whoever reports it, and must not spoil the sums.
        self.usage = Usage {
            input: usage.input.min(TOKENS_MAX),
            cached_input: usage.cached_input.min(TOKENS_MAX),
            cache_write: usage.cache_write.min(TOKENS_MAX),
            output: usage.output.min(TOKENS_MAX),
            reasoning: usage.reasoning.min(TOKENS_MAX),
            estimated: usage.estimated,
        };
    }

    /// What is known of the tokens used.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// At the offer's price, so far.
    pub fn cost(&self) -> Picodollars {
        self.usage.cost(&self.offer().price)
    }

    /// The caller gets this answer.
    pub fn on_chosen(&mut self) {
        self.is_answer = true;
    }

    pub fn on_success(&mut self) {
        self.outcome = Outcome::Succeeded;
    }

    pub fn on_fault(&mut self, fault: Fault) {
        if let Some(attempt) = &mut self.trace {
            attempt.on_fault(fault);
        }
        if fault.is_upstream_failure() {
            self.outcome = Outcome::Failed;
        }
        if self.dispatched.is_watched && is_loss(fault) {
            let Dispatched { at, requests_in_flight, tokens_in_flight, .. } = self.dispatched;
            let loss = Loss {
                dispatched_at: at,
                now: clock::now(),
                what: self.refused_for,
                requests_in_flight,
                tokens_in_flight,
            };
            self.held.queue(self.offer).on_loss(self.offer().hash, loss);
        }
    }
}

impl Charge {
    /// How its run's answers come: the first of an answer, not its length.
    fn on_flow(&self) {
        let Some(session) = self.admitted.session().filter(|session| session.is_run()) else { return };
        let traced = self.trace.as_ref().map(|attempt| (attempt, clock::now(), session.flow.current()));
        let has_moved = match (self.outcome, self.first_byte_at) {
            (Outcome::Succeeded, Some(first_byte_at)) => {
                session.flow.on_answer(first_byte_at - self.dispatched.at, self.worker.random())
            }
            (Outcome::Failed, _) => session.flow.on_failure(),
            _ => return,
        };
        self.worker.tally.flow_moves.add(u64::from(has_moved));
        if let Some((attempt, began, before)) = traced {
            let latency = self.first_byte_at.unwrap_or(began) - self.dispatched.at;
            let is_ok = self.outcome == Outcome::Succeeded;
            attempt.on_feedback(began, (before, session.flow.current()), millis(latency), is_ok);
        }
    }

    /// What the estimate was worth, and what the next may know.
    fn learn(&self, usage: &Usage, cost: u64) {
        let (tokens, predicted) = (usage.input + usage.output, self.estimate.tokens());
        let tally = &self.worker.tally;
        tally.estimate_error_tokens.record(error_permille(predicted, tokens));
        tally.estimate_error_usd.record(error_permille(self.estimate.picodollars.0, cost));
        // More than a fifth below what came is what callers notice.
        tally.estimate_under_tokens.add(u64::from(is_under(predicted, tokens)));
        tally.estimate_under_usd.add(u64::from(is_under(self.estimate.picodollars.0, cost)));
        let (learned, model) = (&self.worker.shared.learned, self.offer().hash);
        let tenant = self.held.table.tenant(self.tenant()).hash;
        learned.on_input(model, self.prompt_bytes, usage.input);
        learned.on_output(hash_of_both(tenant, model), usage.output);
    }
}

fn is_under(predicted: u64, observed: u64) -> bool {
    observed > predicted.saturating_add(predicted / 5)
}

impl Drop for Charge {
    fn drop(&mut self) {
        let adapter = adapter_cell(&self.held, self.offer);
        let tally = &self.held.offers[self.offer.0 as usize].tallies[self.worker.id];
        tally.requests.one();
        match self.outcome {
            Outcome::Succeeded => adapter.breaker.on_success(self.is_probe),
            Outcome::Failed => {
                adapter.breaker.on_failure(self.is_probe, clock::now());
                tally.failures.one();
            }
            Outcome::Cancelled => {
                if self.is_probe {
                    adapter.breaker.on_abandoned();
                }
                tally.cancelled.one();
            }
        }
        self.on_flow();
        let (usage, cost) = (self.usage, self.cost().0);
        tally.input_tokens.add(usage.input);
        tally.cached_input_tokens.add(usage.cached_input);
        tally.output_tokens.add(usage.output);
        if usage.estimated {
            tally.estimated_output_tokens.add(usage.output);
        }
        tally.cost_picodollars.add_saturating(cost);
        self.permit.on_used(Tariff::DEFAULT.charge(
            usage.input.saturating_sub(usage.cached_input),
            usage.cached_input,
            usage.output,
        ));
        let tenant = &self.held.tenants[self.admitted.tenant().0 as usize].tallies[self.worker.id];
        tenant.ended.one();
        if let Some(attempt) = self.trace.as_ref().filter(|_| self.is_answer) {
            attempt.on_answer(usage);
        }
        if self.is_answer {
            self.admitted.on_used(usage.input + usage.output, Picodollars(cost));
            if self.outcome == Outcome::Succeeded && !usage.estimated {
                self.learn(&usage, cost);
            }
            tenant.requests.one();
            tenant.input_tokens.add(usage.input);
            tenant.output_tokens.add(usage.output);
            tenant.cost_picodollars.add_saturating(cost);
        } else {
            tally.wasted_picodollars.add_saturating(cost);
        }
    }
}

fn adapter_cell(held: &Hold, offer: OfferId) -> &Arc<AdapterCell> {
    &held.adapters[held.table.offer(offer).adapter.0 as usize]
}

fn is_moving(held: &Hold, offer: OfferId) -> bool {
    held.table.adapter(held.table.offer(offer).adapter).concurrency != Concurrency::Fixed
}

/// A permit was taken, after so long in a queue.
fn on_acquired(claim: &Claim, began: Moment, waited: Duration) {
    let Some(trace) = &claim.trace else { return };
    let attributes = vec![
        ("fair.fast_path", Value::Flag(waited.is_zero())),
        ("fair.qos", claim.qos.as_str().into()),
        ("fair.wait_ms", millis(waited).into()),
    ];
    trace.was("fair.acquire", began, attributes, None);
}

/// A window or a budget had no room.
fn on_denied(claim: &Claim, began: Moment, fault: Fault) {
    if let (Some(trace), Kind::WindowFull(..) | Kind::BudgetSpent { .. }) = (&claim.trace, fault.kind) {
        trace.was("budget.denied", began, vec![("reason", fault.code().into())], Some(fault));
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// How the queue of `offer` sees an attempt.
fn ask(held: &Hold, offer: OfferId, claim: &Claim, estimate: &Estimate) -> Ask {
    let tenant = held.table.tenant(claim.tenant);
    Ask {
        tenant: tenant.hash,
        weight: tenant.weight,
        session: claim.session.as_ref().map_or(0, |session| session.key),
        band: claim.band,
        charge: Tariff::DEFAULT.charge(estimate.input - estimate.cached, estimate.cached, estimate.output),
        need_tokens: permit_tokens(held, offer, estimate),
        deadline: claim.deadline,
        bytes: u32::try_from(claim.body_bytes).unwrap_or(u32::MAX),
    }
}

/// What an attempt takes of the adapter's window of tokens: nothing where nobody counts them.
fn permit_tokens(held: &Hold, offer: OfferId, estimate: &Estimate) -> u64 {
    let adapter = held.table.adapter(held.table.offer(offer).adapter);
    let is_counted =
        adapter.limits.max_tokens_in_flight.is_some() || adapter.concurrency != Concurrency::Fixed;
    if is_counted { estimate.tokens().min(TOKENS_MAX) } else { 0 }
}

/// A refusal for load, or no answer in time.
fn is_loss(fault: Fault) -> bool {
    matches!(fault.kind, Kind::Status { code: 429 | 503 | 529, .. } | Kind::FirstTokenTimeout)
}

/// Output is reserved in pieces of this, so that a stream touches its windows once in many tokens.
const QUANTUM_TOKENS: u64 = 64;
/// Of one kind, for one request: a thousand times the longest context there is.
const TOKENS_MAX: u64 = 1 << 32;
