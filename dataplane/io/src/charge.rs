//! What an attempt holds and what it will have cost: a permit, a say in the breaker, a bill. All of it is
//! given back and settled exactly once, when this is dropped, however the attempt ends.

use std::sync::Arc;

use dataplane_core::bill::Usage;
use dataplane_core::breaker::Verdict;
use dataplane_core::fault::{Fault, Kind};
use dataplane_core::table::{OfferId, OfferRow, TenantId};
use dataplane_state::registry::AdapterCell;
use proto_core::units::{Moment, Picodollars};

use crate::clock;
use crate::served::Hold;
use crate::worker::Worker;

/// One attempt's account.
#[derive(Debug)]
pub struct Charge {
    worker: Arc<Worker>,
    held: Hold,
    offer: OfferId,
    tenant: TenantId,
    is_probe: bool,
    outcome: Outcome,
    /// What the upstream reported, or what was counted so far.
    usage: Usage,
    /// The caller gets this answer: its tenant pays.
    is_answer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Ended from our side or the caller's: says nothing about the upstream.
    Cancelled,
    Succeeded,
    Failed,
}

impl Charge {
    /// Takes a permit and passes the breaker, or says which of them refused.
    pub fn open(
        worker: &Arc<Worker>,
        held: &Hold,
        offer: OfferId,
        tenant: TenantId,
        now: Moment,
    ) -> Result<Charge, Fault> {
        let adapter = adapter_cell(held, offer);
        let verdict = adapter.breaker.on_request(now);
        if verdict == Verdict::Refuse {
            return Err(Fault::proxy(Kind::AllTripped));
        }
        if !adapter.permits.try_acquire() {
            if verdict == Verdict::Probe {
                adapter.breaker.on_abandoned();
            }
            return Err(Fault::proxy(Kind::NoPermit));
        }
        worker.tally.attempts.one();
        Ok(Charge {
            worker: Arc::clone(worker),
            held: Arc::clone(held),
            offer,
            tenant,
            is_probe: verdict == Verdict::Probe,
            outcome: Outcome::Cancelled,
            usage: Usage::default(),
            is_answer: false,
        })
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
            output: usage.output.min(TOKENS_MAX),
            reasoning: usage.reasoning.min(TOKENS_MAX),
            estimated: usage.estimated,
        };
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
        if fault.is_upstream_failure() {
            self.outcome = Outcome::Failed;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let adapter = adapter_cell(&self.held, self.offer);
        adapter.permits.release();
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
        let (usage, cost) = (&self.usage, self.cost().0);
        tally.input_tokens.add(usage.input);
        tally.cached_input_tokens.add(usage.cached_input);
        tally.output_tokens.add(usage.output);
        if usage.estimated {
            tally.estimated_output_tokens.add(usage.output);
        }
        tally.cost_picodollars.add(cost);
        let tenant = &self.held.tenants[self.tenant.0 as usize].tallies[self.worker.id];
        if self.is_answer {
            tenant.requests.one();
            tenant.input_tokens.add(usage.input);
            tenant.output_tokens.add(usage.output);
            tenant.cost_picodollars.add(cost);
        } else {
            tally.wasted_picodollars.add(cost);
        }
    }
}

fn adapter_cell(held: &Hold, offer: OfferId) -> &Arc<AdapterCell> {
    &held.adapters[held.table.offer(offer).adapter.0 as usize]
}

/// Of one kind, for one request: a thousand times the longest context there is.
const TOKENS_MAX: u64 = 1 << 32;
