//! The retry budget of one route: a word, stepped by [`Balance`]'s pure transitions.

use dataplane_core::retry::Balance;
use proto_core::units::Permille;

use crate::sync::{AtomicU32, Ordering};

#[derive(Debug)]
pub struct BalanceCell(AtomicU32);

impl BalanceCell {
    pub fn new() -> BalanceCell {
        BalanceCell(AtomicU32::new(Balance::NEW.0))
    }

    /// A request was dispatched. Once the savings are full, which is the rule, this is one load.
    pub fn on_request(&self, budget: Permille) {
        self.step(|balance| Some(balance.on_request(budget)));
    }

    /// Withdraws one retry, or says there is none.
    pub fn try_retry(&self) -> bool {
        self.step(Balance::on_retry)
    }

    fn step(&self, transition: impl Fn(Balance) -> Option<Balance>) -> bool {
        // Order: relaxed throughout. The word is the whole state and guards nothing beside it.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let Some(next) = transition(Balance(word)) else { return false };
            if next.0 == word {
                return true;
            }
            // Order: relaxed, see above.
            match self.0.compare_exchange_weak(word, next.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }
}

impl Default for BalanceCell {
    fn default() -> BalanceCell {
        BalanceCell::new()
    }
}
