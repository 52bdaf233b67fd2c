//! The breaker of one upstream: a word, stepped by [`Breaker`]'s pure transitions.

use dataplane_core::breaker::{Breaker, Verdict};
use proto_core::units::Moment;

use crate::sync::{AtomicU64, Ordering};

#[derive(Debug)]
pub struct BreakerCell(AtomicU64);

impl BreakerCell {
    pub fn new() -> BreakerCell {
        BreakerCell(AtomicU64::new(Breaker::NEW.pack()))
    }

    /// May a request pass? While all is well this is one load.
    pub fn on_request(&self, now: Moment) -> Verdict {
        self.step(|breaker| breaker.on_request(now))
    }

    pub fn on_success(&self, probe: bool) {
        self.step(|breaker| (breaker.on_success(probe), ()));
    }

    pub fn on_failure(&self, probe: bool, now: Moment) {
        self.step(|breaker| (breaker.on_failure(probe, now), ()));
    }

    /// A probe ended without a verdict.
    pub fn on_abandoned(&self) {
        self.step(|breaker| (breaker.on_abandoned(), ()));
    }

    /// For metrics and health.
    pub fn now(&self) -> Breaker {
        // Order: relaxed, a state for people.
        Breaker::unpack(self.0.load(Ordering::Relaxed))
    }

    fn step<T>(&self, transition: impl Fn(Breaker) -> (Breaker, T)) -> T {
        // Order: relaxed throughout. The word is the whole state and guards nothing beside it;
        // compare-and-swap alone makes each transition happen once.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let (next, answer) = transition(Breaker::unpack(word));
            let next = next.pack();
            if next == word {
                return answer;
            }
            // Order: relaxed, see above.
            match self.0.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return answer,
                Err(now) => word = now,
            }
        }
    }
}

impl Default for BreakerCell {
    fn default() -> BreakerCell {
        BreakerCell::new()
    }
}
