//! What one flow or band was served, as one number that is compared with the others'. Never decides anything.
//!
//! ```text
//!    floor                    counter
//!      │◀── credit ──▶◀─ held ──▶│        credit: what older shares may still give back
//!      ▼                         ▼        held:   what shares since the last lift were charged
//!  ────┴─────────────────────────┴────▶
//! ```
//! The floor never falls: whatever comes back, the counter stays at or above it. docs/fairness.md proves the
//! bound from that.

/// Amounts are parts of a token, divided by the weight: see [`scaled`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    counter: u128,
    credit: u128,
    held: u128,
    in_flight: u32,
    /// Of the last lift that mattered: what was charged before it gives back out of `credit` only.
    epoch: u32,
}

impl Account {
    pub fn counter(&self) -> u128 {
        self.counter
    }

    pub fn floor(&self) -> u128 {
        self.counter.saturating_sub(self.returnable())
    }

    /// The most that may still come back.
    pub fn returnable(&self) -> u128 {
        self.credit + self.held
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Who was away does not come back with credit: neither counter nor floor stays below `level`.
    pub fn lift(&mut self, level: u128) {
        if self.floor() >= level {
            return;
        }
        self.counter = self.counter.max(level);
        self.credit = self.counter - level;
        self.held = 0;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// One more in flight. The epoch is to be given back with it.
    pub fn charge(&mut self, amount: u128) -> u32 {
        self.counter = self.counter.saturating_add(amount);
        self.held = self.held.saturating_add(amount);
        self.in_flight += 1;
        self.epoch
    }

    /// More for one in flight.
    pub fn extend(&mut self, epoch: u32, amount: u128) {
        self.counter = self.counter.saturating_add(amount);
        let part = if epoch == self.epoch { &mut self.held } else { &mut self.credit };
        *part = part.saturating_add(amount);
    }

    /// One ends which was charged `charged` in all and used `used`.
    pub fn settle(&mut self, epoch: u32, charged: u128, used: u128) {
        let back = charged.saturating_sub(used);
        if epoch == self.epoch {
            self.held = self.held.saturating_sub(charged);
            self.counter = self.counter.saturating_sub(back);
        } else {
            let back = back.min(self.credit);
            self.credit -= back;
            self.counter = self.counter.saturating_sub(back);
        }
        self.counter = self.counter.saturating_add(used.saturating_sub(charged));
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            (self.credit, self.held) = (0, 0);
        }
    }
}

/// A charge in tenths, divided by a weight. Range: a charge of 2^64 tenths at weight 1 is 2^96, so an account
/// takes 2^32 of the largest before it saturates. Rounds down by less than 2^-32 tenths for each request and
/// not for each step of it: every step is the difference of two whole charges of that request.
pub(super) fn scaled(tenths: u64, weight: u32) -> u128 {
    let weight = weight.max(1);
    match u32::try_from(tenths) {
        // All but the largest: a division of one word and not of two.
        Ok(tenths) => u128::from((u64::from(tenths) << SCALE_BITS) / u64::from(weight)),
        Err(_) => (u128::from(tenths) << SCALE_BITS) / u128::from(weight),
    }
}

/// Back to tenths of weight 1.
pub(super) fn tenths(amount: u128) -> u64 {
    u64::try_from(amount >> SCALE_BITS).unwrap_or(u64::MAX)
}

/// The weight of a charge divided by 1000 keeps 22 bits behind the point.
const SCALE_BITS: u32 = 32;
