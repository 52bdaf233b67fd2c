//! The right to have one request at one adapter. Given back when it is dropped, wherever that is: by the
//! request at its end, by a request that gave up while its permit was on its way, by the owner itself.

use std::time::Duration;

use dataplane_core::admit::permits::share;
use dataplane_core::fair::{Ask, Charge};
use dataplane_core::table::OfferId;
use dataplane_state::permits::Permits;
use dataplane_state::registry::{AdapterCell, OfferCell};
use proto_core::model::Concurrency;

use super::{Charged, Waiting};
use crate::served::Hold;

#[derive(Debug)]
pub struct Permit {
    held: Hold,
    offer: OfferId,
    /// Held of the adapter's window of tokens.
    tokens: u64,
    /// It holds a permit of the model's own limit too.
    has_own: bool,
    account: Account,
    /// What was used of it, in the queue's currency. Until it is told otherwise nothing was: one that is
    /// never sent costs its tenant nothing.
    used: Charge,
    waited: Duration,
}

/// Where the queue has it.
#[derive(Debug)]
enum Account {
    /// It was waited for, and charged when it was granted.
    Charged(Charged),
    /// Nobody waited. If somebody does when it ends, what it was served counts among them.
    AtOnce(Ask),
}

impl Permit {
    /// The fast path: one compare-and-swap where there is room and nobody waits, two where the model has a
    /// limit of its own.
    pub fn try_now(held: &Hold, offer: OfferId, ask: &Ask) -> Option<Permit> {
        let is_moving = held.table.adapter(held.table.offer(offer).adapter).concurrency != Concurrency::Fixed;
        let acquire = |permits: &Permits| permits.try_acquire(ask.need_tokens, share(ask.band));
        Permit::take(held, offer, is_moving, ask, acquire)
    }

    /// The same for the owner, which knows that nobody is overtaken.
    pub(super) fn at_once(waiting: &Waiting, has_own: bool, ask: &Ask) -> Option<Permit> {
        let acquire = |permits: &Permits| permits.acquire_for_queue(ask.need_tokens, share(ask.band));
        Permit::take(&waiting.held, waiting.offer, has_own, ask, acquire)
    }

    fn take(
        held: &Hold,
        offer: OfferId,
        has_own: bool,
        ask: &Ask,
        acquire: impl FnOnce(&Permits) -> bool,
    ) -> Option<Permit> {
        let (adapter, own) = cells(held, offer);
        let tokens = ask.need_tokens;
        if !acquire(&adapter.permits) {
            return None;
        }
        // Who waits is said by the adapter's word alone, for all of its models.
        if has_own && !own.permits.acquire_for_queue(tokens, share(ask.band)) {
            if adapter.permits.release(tokens) {
                held.queue(offer).wake.wake();
            }
            return None;
        }
        let (held, account) = (Hold::clone(held), Account::AtOnce(*ask));
        Some(Permit { held, offer, tokens, has_own, account, used: Charge(0), waited: Duration::ZERO })
    }

    /// Of one whose turn it was: its permits are taken already, the model's where `has_own`.
    pub(super) fn of_turn(waiting: &Waiting, has_own: bool, charged: Charged, waited: Duration) -> Permit {
        let Waiting { held, offer, tokens, .. } = waiting;
        let (held, account) = (Hold::clone(held), Account::Charged(charged));
        Permit { held, offer: *offer, tokens: *tokens, has_own, account, used: Charge(0), waited }
    }

    /// Time in the queue.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// More tokens are on their way than were reserved.
    pub fn extend(&mut self, tokens: u64, more: Charge) {
        // None were taken where nobody counts them.
        if self.tokens > 0 {
            let (adapter, own) = cells(&self.held, self.offer);
            let counted = adapter.permits.extend(tokens);
            if self.has_own {
                // Both count alike but at the end of their ranges, which tokens of real requests never reach.
                let of_own = own.permits.extend(counted);
                debug_assert_eq!(counted, of_own, "tokens in flight are far from the end of their range");
            }
            self.tokens += counted;
        }
        if let Account::Charged(charged) = &mut self.account {
            let lane = self.held.table.offer(self.offer).hash;
            // What the owner does not hear of now it hears of at the end, as more than was charged.
            if self.held.queue(self.offer).on_extended(lane, *charged, more) {
                charged.share = charged.share.extended(more);
            }
        }
    }

    /// What the request was served in the end, in the queue's currency.
    pub fn on_used(&mut self, used: Charge) {
        self.used = used;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let (adapter, own) = cells(&self.held, self.offer);
        let queue = self.held.queue(self.offer);
        let lane = self.held.table.offer(self.offer).hash;
        if let Account::Charged(charged) = self.account {
            queue.on_settled(lane, charged, self.used);
        }
        // The model's first: whoever sees the adapter's permit back sees this one back too, and nobody is
        // woken for the one and finds the other still taken.
        if self.has_own {
            let _ = own.permits.release(self.tokens);
        }
        if adapter.permits.release(self.tokens) {
            if let Account::AtOnce(ask) = self.account {
                queue.on_served(lane, Ask { charge: self.used, ..ask });
            }
            queue.wake.wake();
        }
    }
}

fn cells(held: &Hold, offer: OfferId) -> (&AdapterCell, &OfferCell) {
    let adapter = held.table.offer(offer).adapter.0 as usize;
    (&held.adapters[adapter], &held.offers[offer.0 as usize])
}
