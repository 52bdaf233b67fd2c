//! One request with its answer, as a state machine. The shell feeds `on_*`, then obeys
//! [`Exchange::poll_action`] until it says [`Action::Wait`], [`Action::Relay`] or [`Action::Answer`]. Bodies
//! never pass through here.
//!
//! ```text
//!                       on_refused / on_fault (again)
//!                 ┌───────────────────────────────────────┐
//!                 ▼                                       │
//!  new ──▶ Start{slot, offer} ──▶ Wait{until} ── on_time ─┤ first token late
//!                                   │     │               │
//!                                   │     └─ on_time: escalate_at ──▶ Start in the other slot (both race)
//!                         on_ready  │
//!                                   ▼
//!                 Cancel{the other slot} ──▶ Relay{slot}         nothing left, or deadline ──▶ Answer(fault)
//! ```
//! An offer without room is passed over. Where the plan ends so, the first of those is asked for a place in
//! its queue: `Queue{slot, offer}`, and `on_dispatched` once it has its permit. Its time to a first token
//! counts from there. Once an answer is relayed nothing is tried again: the caller has seen a byte.

use std::time::Duration;

use proto_core::model::{Fallback, Timeout};
use proto_core::units::Moment;

use crate::fault::{Fault, Kind, Retry};
use crate::retry::{self, Again};
use crate::route::Plan;
use crate::table::OfferId;

/// One of the two attempts that may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    First,
    Second,
}

/// What the shell does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Take the permit and dispatch; on no permit or a tripped breaker say `on_refused`.
    Start { slot: Slot, offer: OfferId },
    /// Nobody has room: wait for this one's permit, then dispatch and say `on_dispatched`; where there is no
    /// place in its queue either, say `on_refused`.
    Queue { slot: Slot, offer: OfferId },
    /// Wait for something to report, or say `on_time` at `until`.
    Wait { until: Moment },
    /// Drop this attempt; its usage is billed as it was.
    Cancel { slot: Slot },
    /// Commit to this attempt's answer.
    Relay { slot: Slot },
    /// Nothing worked.
    Answer(Fault),
}

/// The terms of one exchange.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub timeout: Timeout,
    pub fallback: Fallback,
    pub attempts_max: u8,
    /// An answer without a stream has no first token: only the total counts.
    pub streamed: bool,
    /// The total is the caller's own wish: running out of it says nothing about the upstream.
    pub is_callers_deadline: bool,
    /// Start the next of the plan too, where no first token has come by then. Only where the caller sent an
    /// SLO.
    pub escalate_after: Option<Duration>,
}

#[derive(Debug)]
pub struct Exchange {
    plan: Plan,
    terms: Terms,
    /// Of `plan.offers`, the next to be tried.
    next: usize,
    attempts: u8,
    deadline: Moment,
    escalate_at: Option<Moment>,
    escalations: u8,
    slots: [Option<Attempt>; 2],
    /// The answer to give if nothing else works: the last fault that says something about the request.
    fault: Option<Fault>,
    /// Whose it is.
    blamed: Option<OfferId>,
    /// Another attempt is wanted in a free slot.
    wants_start: bool,
    winner: Option<Slot>,
    cancel: Option<Slot>,
    /// The first that had no room: where to wait, once.
    full: Option<OfferId>,
    has_queued: bool,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    offer: OfferId,
    due: Moment,
    is_queued: bool,
}

impl Exchange {
    /// `arrived` is when the request did; every deadline counts from there or from an attempt's start.
    pub fn new(plan: Plan, terms: Terms, arrived: Moment) -> Exchange {
        Exchange {
            plan,
            terms,
            next: 0,
            attempts: 0,
            deadline: arrived + terms.timeout.total,
            escalate_at: terms.escalate_after.map(|after| arrived + after),
            escalations: 0,
            slots: [None; 2],
            fault: None,
            blamed: None,
            wants_start: true,
            winner: None,
            cancel: None,
            full: None,
            has_queued: false,
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// When all of it must be over.
    pub fn deadline(&self) -> Moment {
        self.deadline
    }

    /// The offer whose fault [`Action::Answer`] gives; `None` where it is nobody's.
    pub fn blamed(&self) -> Option<OfferId> {
        self.blamed
    }

    /// Another attempt may follow the one just started.
    pub fn has_more(&self) -> bool {
        self.next < self.plan.offers.len()
    }

    /// Attempts that took the place of nothing: started because the first was slow.
    pub fn escalations(&self) -> u8 {
        self.escalations
    }

    /// What to do now. Call again after obeying, until `Wait`, `Relay` or `Answer`.
    pub fn poll_action(&mut self, now: Moment) -> Action {
        if let Some(slot) = self.cancel.take() {
            return Action::Cancel { slot };
        }
        if let Some(slot) = self.winner {
            return Action::Relay { slot };
        }
        if self.wants_start {
            self.wants_start = false;
            if let Some(action) = self.start(now) {
                return action;
            }
        }
        match self.slots.iter().flatten().map(|attempt| attempt.due).min() {
            Some(due) => {
                let escalate_at = self.escalate_at.unwrap_or(Moment(u64::MAX));
                Action::Wait { until: due.min(self.deadline).min(escalate_at) }
            }
            None => Action::Answer(self.fault.unwrap_or(Fault::proxy(Kind::NoPermit))),
        }
    }

    /// The shell could not start this attempt: no permit, or its breaker is tripped. Free; the next of the
    /// plan is due.
    pub fn on_refused(&mut self, slot: Slot, fault: Fault) {
        self.attempts = self.attempts.saturating_sub(1);
        if fault.kind == Kind::NoPermit {
            self.full = self.full.or(self.offer(slot));
        }
        self.end(slot, fault);
        // Beside a running attempt it would have been an escalation; it never was one.
        self.escalations -= u8::from(self.running().is_some());
        self.wants_start = true;
    }

    /// What waited in a queue has its permit and is on its way.
    pub fn on_dispatched(&mut self, slot: Slot, now: Moment) {
        let due = now + self.first_wait();
        if let Some(attempt) = &mut self.slots[slot as usize] {
            *attempt = Attempt { due, is_queued: false, ..*attempt };
        }
    }

    /// Whether going on after `fault` needs a retry from the budget; where it does, withdraw one and say so
    /// in
    /// [`Exchange::on_fault`].
    pub fn needs_budget(&self, fault: Fault) -> bool {
        let left = self.next < self.plan.offers.len() && self.attempts < self.terms.attempts_max;
        left && self.alone() && retry::verdict(fault, self.terms.fallback) == Again::WithinBudget
    }

    /// This attempt failed. `granted`: the budget gave a retry.
    pub fn on_fault(&mut self, slot: Slot, fault: Fault, granted: bool) {
        let wanted = self.needs_budget(fault);
        self.end(slot, fault);
        self.wants_start = wanted && granted;
    }

    /// This attempt has an answer worth relaying: a head, and in a stream its first event.
    pub fn on_ready(&mut self, slot: Slot) {
        self.winner = Some(slot);
        let other = slot.other();
        if self.slots[other as usize].take().is_some() {
            self.cancel = Some(other);
        }
    }

    /// The moment of a `Wait` has come. Answers the fault of an attempt that is late, which the shell then
    /// passes to
    /// [`Exchange::on_fault`] like any other.
    pub fn on_time(&mut self, now: Moment) -> Option<(Slot, Fault)> {
        if now >= self.deadline {
            self.next = self.plan.offers.len();
            let slot = self.running()?;
            let is_queued = self.slots[slot as usize].is_some_and(|attempt| attempt.is_queued);
            return Some((slot, deadline_fault(self.terms.is_callers_deadline || is_queued)));
        }
        if self.escalate_at.is_some_and(|at| now >= at) {
            self.escalate_at = None;
            let room = self.attempts < self.terms.attempts_max && self.next < self.plan.offers.len();
            self.wants_start |= room && self.alone();
        }
        let late = |slot: &Slot| self.slots[*slot as usize].is_some_and(|attempt| now >= attempt.due);
        let slot = [Slot::First, Slot::Second].into_iter().find(late)?;
        Some((slot, Fault::upstream(Kind::FirstTokenTimeout, Retry::ElsewhereAtCost)))
    }

    /// An escalation is due at the next `Start`, and draws on the retry budget: ask before `poll_action`.
    pub fn wants_escalation(&self) -> bool {
        self.wants_start && self.running().is_some()
    }

    /// The budget gave no retry for the escalation.
    pub fn on_escalation_refused(&mut self) {
        self.wants_start = false;
    }

    /// The offer in a slot.
    pub fn offer(&self, slot: Slot) -> Option<OfferId> {
        self.slots[slot as usize].map(|attempt| attempt.offer)
    }

    fn start(&mut self, now: Moment) -> Option<Action> {
        let free =
            [Slot::First, Slot::Second].into_iter().find(|slot| self.slots[*slot as usize].is_none())?;
        if now >= self.deadline {
            self.fault = Some(Fault::proxy(Kind::DeadlineExceeded));
            return None;
        }
        let Some(offer) = self.plan.offers.get(self.next).copied() else { return self.queue(free) };
        self.next += 1;
        self.attempts = self.attempts.saturating_add(1);
        self.escalations += u8::from(self.running().is_some());
        let due = now + self.first_wait();
        self.slots[free as usize] = Some(Attempt { offer, due, is_queued: false });
        Some(Action::Start { slot: free, offer })
    }

    /// At the end of a plan: is there one worth waiting for? Once, and not beside an attempt that runs.
    fn queue(&mut self, free: Slot) -> Option<Action> {
        if self.has_queued || self.running().is_some() {
            return None;
        }
        let offer = self.full?;
        self.has_queued = true;
        self.attempts = self.attempts.saturating_add(1);
        self.slots[free as usize] = Some(Attempt { offer, due: self.deadline, is_queued: true });
        Some(Action::Queue { slot: free, offer })
    }

    fn first_wait(&self) -> Duration {
        if self.terms.streamed { self.terms.timeout.first_token } else { self.terms.timeout.total }
    }

    fn end(&mut self, slot: Slot, fault: Fault) {
        let ended = self.slots[slot as usize].take();
        debug_assert!(ended.is_some(), "an attempt ends once");
        // What an upstream said is worth more to the caller than that another had no room.
        let said = matches!(self.fault, Some(Fault { kind, .. }) if !is_local(kind));
        if !(said && is_local(fault.kind)) {
            self.fault = Some(fault);
            self.blamed = ended.map(|attempt| attempt.offer);
        }
    }

    /// At most one attempt runs.
    fn alone(&self) -> bool {
        self.slots.iter().flatten().count() <= 1
    }

    fn running(&self) -> Option<Slot> {
        [Slot::First, Slot::Second].into_iter().find(|slot| self.slots[*slot as usize].is_some())
    }
}

impl Slot {
    pub fn other(self) -> Slot {
        match self {
            Slot::First => Slot::Second,
            Slot::Second => Slot::First,
        }
    }
}

/// Of an exchange that ran out of its total.
pub fn deadline_fault(is_callers: bool) -> Fault {
    match is_callers {
        true => Fault::proxy(Kind::DeadlineExceeded),
        false => Fault::upstream(Kind::DeadlineExceeded, Retry::Never),
    }
}

fn is_local(kind: Kind) -> bool {
    matches!(kind, Kind::NoPermit | Kind::TooLate { .. } | Kind::AllTripped | Kind::Absent)
}

#[cfg(test)]
mod tests;
