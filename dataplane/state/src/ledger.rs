//! Bytes one worker holds for others: bodies on their way in, answers on their way out. Its part of what the
//! process may hold; no worker writes another's. Never frees anything: it says when to take no more.

use std::sync::Arc;
use std::time::Duration;

use dataplane_core::admit::pressure::{Level, Shares};

use crate::sync::{AtomicU64, Ordering};

/// Of one worker.
#[derive(Debug)]
pub struct Ledger {
    buffered_bytes: AtomicU64,
    bytes_max: u64,
    /// By how much its tasks run late: a moving mean, so that one hiccup is no pressure.
    late_us: AtomicU64,
    /// Attempts under way when last looked at, and the weights of the tenants that had any.
    under_way: AtomicU64,
    weights: AtomicU64,
}

/// Part of what is held; goes back when it is dropped.
#[derive(Debug)]
pub struct Debt {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Ledger {
    pub fn new(bytes_max: u64) -> Ledger {
        Ledger {
            buffered_bytes: AtomicU64::new(0),
            bytes_max,
            late_us: AtomicU64::new(0),
            under_way: AtomicU64::new(0),
            weights: AtomicU64::new(0),
        }
    }

    pub fn buffered_bytes(&self) -> u64 {
        // Order: relaxed, here and below: counts that guard nothing.
        self.buffered_bytes.load(Ordering::Relaxed)
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Measured: a task that wanted to run at a moment ran so much later.
    pub fn on_late(&self, late: Duration) {
        let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        // Order: relaxed, see above. Its worker alone measures.
        let mean = self.late_us.load(Ordering::Relaxed);
        let next = mean - mean / LATE_WEIGHT + late_us / LATE_WEIGHT;
        // Order: relaxed, see above.
        self.late_us.store(next, Ordering::Relaxed);
    }

    /// Looked at: what all tenants have under way, and the weights of those that have any. Now and then,
    /// since it takes a look at every tenant.
    pub fn on_look(&self, under_way: u64, weights: u64) {
        // Order: relaxed, here and below: two numbers of about the same moment are enough to shed by.
        self.under_way.store(under_way, Ordering::Relaxed);
        // Order: relaxed, see above.
        self.weights.store(weights, Ordering::Relaxed);
    }

    /// Beside them, what one tenant has under way now.
    pub fn shares(&self, own: u64, own_weight: u32) -> Shares {
        // Order: relaxed, see above.
        let (all, weights) = (self.under_way.load(Ordering::Relaxed), self.weights.load(Ordering::Relaxed));
        let own_weight = u64::from(own_weight);
        Shares { own, own_weight, all: all.max(own), all_weights: weights.max(own_weight) }
    }

    pub fn level(&self) -> Level {
        // Order: relaxed, see above.
        let late = Duration::from_micros(self.late_us.load(Ordering::Relaxed));
        Level::of(self.buffered_bytes(), self.bytes_max, late)
    }
}

impl Debt {
    /// Of nothing yet.
    pub fn none(ledger: &Arc<Ledger>) -> Debt {
        Debt { ledger: Arc::clone(ledger), bytes: 0 }
    }

    /// Of what is here already and cannot be refused any more.
    pub fn of(ledger: &Arc<Ledger>, bytes: u64) -> Debt {
        // Order: relaxed, see above.
        ledger.buffered_bytes.fetch_add(bytes, Ordering::Relaxed);
        Debt { ledger: Arc::clone(ledger), bytes }
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// So much more, or false where the worker holds as much as it may.
    #[must_use]
    pub fn try_grow(&mut self, bytes: u64) -> bool {
        // Order: relaxed, see above. Only this worker adds, so what is read is not outrun by much.
        let held = self.ledger.buffered_bytes.load(Ordering::Relaxed);
        if held.saturating_add(bytes) > self.ledger.bytes_max {
            return false;
        }
        // Order: relaxed, see above.
        self.ledger.buffered_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        true
    }

    /// The part for `bytes` of it.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Debt {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Debt { ledger: Arc::clone(&self.ledger), bytes }
    }

    /// So much of it is held no more; what it really gave back.
    pub fn give_back(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        // Order: relaxed, see above.
        self.ledger.buffered_bytes.fetch_sub(bytes, Ordering::Relaxed);
        bytes
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        // Order: relaxed, see above.
        self.ledger.buffered_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Of the last measurements, about as many count.
const LATE_WEIGHT: u64 = 8;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_whichever_way_it_goes() {
        let ledger = Arc::new(Ledger::new(100));
        let mut debt = Debt::none(&ledger);
        assert!(debt.try_grow(60) && debt.try_grow(40));
        assert!(!debt.try_grow(1), "one past the bound");
        let mut part = debt.split(30);
        assert_eq!(part.give_back(10), 10);
        assert_eq!(part.give_back(50), 20, "no more than it has");
        assert_eq!(ledger.buffered_bytes(), 70);
        drop((debt, part));
        assert_eq!(ledger.buffered_bytes(), 0);
        let here = Debt::of(&ledger, 500);
        assert_eq!((ledger.buffered_bytes(), ledger.level()), (500, Level::Red), "not refused, but seen");
        drop(here);
        assert_eq!((ledger.buffered_bytes(), ledger.level()), (0, Level::Green));
    }

    #[test]
    fn a_share_is_judged_by_the_last_look_and_never_as_more_than_all() {
        let ledger = Ledger::new(100);
        assert!(!ledger.shares(3, 1).is_over(), "nobody has looked yet");
        ledger.on_look(10, 2);
        assert!(ledger.shares(6, 1).is_over() && !ledger.shares(5, 1).is_over());
        assert!(!ledger.shares(20, 1).is_over(), "it has all there is by now");
    }

    #[test]
    fn lateness_is_pressure_too() {
        let ledger = Ledger::new(100);
        ledger.on_late(Duration::from_millis(700));
        assert_eq!(ledger.level(), Level::Green, "one hiccup");
        (0..50).for_each(|_| ledger.on_late(Duration::from_millis(700)));
        assert_eq!(ledger.level(), Level::Red);
        (0..50).for_each(|_| ledger.on_late(Duration::from_millis(1)));
        assert_eq!(ledger.level(), Level::Green);
    }
}
