//! How many requests an upstream is given at once.
//!
//! One word holds what is in flight; the limit stands beside it and may change at any time. A limit lowered
//! below what is in flight drains: nothing is taken back, nothing is granted until enough has come home.

use crate::sync::{AtomicU32, Ordering};

/// Permits of one upstream.
#[derive(Debug)]
pub struct Permits {
    in_flight: AtomicU32,
    limit: AtomicU32,
}

impl Permits {
    pub fn new(limit: u32) -> Permits {
        Permits { in_flight: AtomicU32::new(0), limit: AtomicU32::new(limit) }
    }

    /// Takes one, or says there is none. Never waits.
    pub fn try_acquire(&self) -> bool {
        // Order: relaxed. A permit guards a count, not data; what the request reads was published by the
        // snapshot.
        let mut taken = self.in_flight.load(Ordering::Relaxed);
        loop {
            // Order: relaxed. A limit change is advice that takes effect at the next look.
            if taken >= self.limit.load(Ordering::Relaxed) {
                return false;
            }
            // Order: acquire on success pairs with the release in `release`, so that whoever takes a permit
            // sees what its last holder did to cells beside it (tests rely on it; the path does not need
            // more).
            let swap =
                self.in_flight.compare_exchange_weak(taken, taken + 1, Ordering::Acquire, Ordering::Relaxed);
            match swap {
                Ok(_) => return true,
                Err(now) => taken = now,
            }
        }
    }

    /// Gives one back. Exactly once for each `try_acquire` that said yes.
    pub fn release(&self) {
        // Order: release, see `try_acquire`.
        let before = self.in_flight.fetch_sub(1, Ordering::Release);
        debug_assert!(before > 0, "a permit is given back once");
    }

    /// From the newest snapshot.
    pub fn set_limit(&self, limit: u32) {
        // Order: relaxed, see `try_acquire`.
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// For metrics: may be stale by the time it is read.
    pub fn in_flight(&self) -> u32 {
        // Order: relaxed, a number for people.
        self.in_flight.load(Ordering::Relaxed)
    }

    /// For metrics.
    pub fn limit(&self) -> u32 {
        // Order: relaxed, a number for people.
        self.limit.load(Ordering::Relaxed)
    }
}
