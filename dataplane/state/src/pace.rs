//! What a tenant may spend over time, shared by all workers: tokens a minute in one word, money a day in two.
//! Steps of [`dataplane_core::admit::pace`] by compare-and-swap. Never asks what time it is; never waits.
//!
//! Of one data plane, since it started: the ledger that outlives it is elsewhere.

use std::time::Duration;

use dataplane_core::admit::pace::{Era, Pace, Spent};
use proto_core::model::Budget;
use proto_core::units::{Moment, Picodollars};

use crate::sync::{AtomicU64, Ordering};

/// The budgets of one tenant. What they are is in the snapshot a request holds.
#[derive(Debug, Default)]
pub struct BudgetCell {
    pub tokens: PaceCell,
    pub money: DayCell,
}

/// What one request was charged on entry; goes back with [`BudgetCell::settle`], exactly once.
#[derive(Debug, Default)]
#[must_use = "corrected with `settle`"]
pub struct Charged {
    /// Rate and tokens, where the tenant has a rate.
    tokens: Option<(u64, u64)>,
    money: Option<OfDay>,
}

/// Which budget refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exhausted {
    /// Passes after this long; [`dataplane_core::admit::pace::NEVER`] at a rate of zero.
    Tokens { wait: Duration },
    /// Until the next day, UTC.
    Money,
}

impl BudgetCell {
    /// Charges both or neither. `day`: days since 1970-01-01 UTC. `None`: no budget.
    pub fn reserve(
        &self,
        budget: Option<&Budget>,
        now: Moment,
        day: u32,
        tokens: u64,
        cost: Picodollars,
    ) -> Result<Charged, Exhausted> {
        let mut charged = Charged::default();
        let Some(budget) = budget else { return Ok(charged) };
        if let Some(rate) = budget.tokens_per_minute {
            self.tokens.reserve(now, rate.0, tokens).map_err(|wait| Exhausted::Tokens { wait })?;
            charged.tokens = Some((rate.0, tokens));
        }
        if let Some(micros) = budget.usd_micros_per_day {
            let limit = Picodollars(micros.saturating_mul(Picodollars::PER_MICRO));
            charged.money = self.money.reserve(day, limit, cost);
            if charged.money.is_none() {
                self.settle(charged, 0, Picodollars(0));
                return Err(Exhausted::Money);
            }
        }
        Ok(charged)
    }

    /// A request is over: what it was charged becomes what it used.
    pub fn settle(&self, charged: Charged, tokens: u64, cost: Picodollars) {
        if let Some((rate, reserved)) = charged.tokens {
            self.tokens.settle(rate, reserved, tokens);
        }
        if let Some(of_day) = charged.money {
            self.money.settle(of_day, cost);
        }
    }
}

/// Tokens a minute.
#[derive(Debug)]
pub struct PaceCell(AtomicU64);

impl PaceCell {
    pub fn new() -> PaceCell {
        PaceCell(AtomicU64::new(0))
    }

    /// Charges `tokens`, or says how long until they would pass.
    pub fn reserve(&self, now: Moment, tokens_per_minute: u64, tokens: u64) -> Result<(), Duration> {
        self.step(|pace| pace.on_request(now, tokens_per_minute, tokens))
    }

    /// Tokens that would pass now, and how long until a minute's worth would: for people.
    pub fn left(&self, now: Moment, tokens_per_minute: u64) -> (u64, Duration) {
        // Order: relaxed, numbers for people.
        Pace(Moment(self.0.load(Ordering::Relaxed))).left(now, tokens_per_minute)
    }

    /// Corrects what `reserve` charged at the same rate.
    pub fn settle(&self, tokens_per_minute: u64, reserved: u64, used: u64) {
        let step = |pace: Pace| Ok::<_, Duration>(pace.on_end(tokens_per_minute, reserved, used));
        self.step(step).expect("an end is never refused");
    }

    fn step<E>(&self, step: impl Fn(Pace) -> Result<Pace, E>) -> Result<(), E> {
        // Order: relaxed throughout. The word is the whole state and guards nothing beside it.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let next = step(Pace(Moment(word)))?.0.0;
            if next == word {
                return Ok(());
            }
            // Order: relaxed, see above.
            match self.0.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }
}

impl Default for PaceCell {
    fn default() -> PaceCell {
        PaceCell::new()
    }
}

/// Money a day.
#[derive(Debug)]
pub struct DayCell {
    /// [`Era`].
    era: AtomicU64,
    /// [`Spent`].
    spent: AtomicU64,
}

/// What was reserved on one day.
#[derive(Debug)]
#[must_use = "corrected with `settle`"]
pub struct OfDay {
    generation: u32,
    reserved: Picodollars,
}

impl DayCell {
    pub fn new() -> DayCell {
        DayCell { era: AtomicU64::new(Era::default().pack()), spent: AtomicU64::new(Spent::default().pack()) }
    }

    /// Takes `need` of what `day` may spend, or says there is not enough.
    pub fn reserve(&self, day: u32, limit: Picodollars, need: Picodollars) -> Option<OfDay> {
        'era: loop {
            let era = self.advance(day);
            // Order: acquire pairs with the release below: who sees a count sees the era it was made in.
            let mut word = self.spent.load(Ordering::Acquire);
            loop {
                let spent = Spent::unpack(word);
                let is_other = spent.mark != era.mark();
                // Another day's: an earlier one, unless the era moved on meanwhile.
                // Order: acquire, so that a later era than the count's own is not missed.
                if is_other && self.era.load(Ordering::Acquire) != era.pack() {
                    continue 'era;
                }
                let today = spent.on_day(era.mark());
                let granted = today.on_request(limit, need);
                // Even a refusal ends the earlier day: each era is marked by whoever began it.
                let next = granted.unwrap_or(today).pack();
                // Order: release, see above; acquire on failure for the same reason.
                let swap = self.spent.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire);
                match swap {
                    Ok(_) => {
                        return granted.map(|_| OfDay { generation: era.generation, reserved: need });
                    }
                    Err(now) => word = now,
                }
            }
        }
    }

    /// What was reserved becomes what was used. Where its day is over nothing happens: it is in that day's
    /// account.
    pub fn settle(&self, of_day: OfDay, used: Picodollars) {
        // Order: acquire, as in `reserve`.
        let era = Era::unpack(self.era.load(Ordering::Acquire));
        if era.generation != of_day.generation {
            return;
        }
        // Order: acquire, as in `reserve`.
        let mut word = self.spent.load(Ordering::Acquire);
        loop {
            let spent = Spent::unpack(word);
            if spent.mark != era.mark() {
                return;
            }
            let next = spent.on_end(of_day.reserved, used).pack();
            // Order: release, as in `reserve`.
            match self.spent.compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => word = now,
            }
        }
    }

    /// Spent on the newest day that something was asked on. For metrics.
    pub fn spent(&self) -> Picodollars {
        // Order: relaxed, a number for people.
        let era = Era::unpack(self.era.load(Ordering::Relaxed));
        // Order: relaxed, see above.
        Spent::unpack(self.spent.load(Ordering::Relaxed)).on_day(era.mark()).picodollars
    }

    /// The era of `day`, or of a later one that has begun.
    fn advance(&self, day: u32) -> Era {
        // Order: acquire, as in `reserve`.
        let mut word = self.era.load(Ordering::Acquire);
        loop {
            let era = Era::unpack(word).on_day(day);
            if era.pack() == word {
                return era;
            }
            // Order: release, so that a count of this era carries it.
            let swap = self.era.compare_exchange_weak(word, era.pack(), Ordering::AcqRel, Ordering::Acquire);
            match swap {
                Ok(_) => return era,
                Err(now) => word = now,
            }
        }
    }
}

impl Default for DayCell {
    fn default() -> DayCell {
        DayCell::new()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proto_core::units::TokenCount;

    use super::*;

    const USD: Picodollars = Picodollars(Picodollars::PER_USD);

    #[test]
    fn a_day_spends_its_limit_once_and_the_next_day_begins_anew() {
        let cell = DayCell::new();
        let first = cell.reserve(20_000, USD, USD).unwrap();
        assert!(cell.reserve(20_000, USD, Picodollars(1)).is_none());
        cell.settle(first, Picodollars(7));
        assert_eq!(cell.spent(), Picodollars(7));
        let late = cell.reserve(20_000, USD, Picodollars(5)).unwrap();
        let next = cell.reserve(20_001, USD, USD).unwrap();
        cell.settle(late, USD);
        assert_eq!(cell.spent(), USD, "the end of an earlier day's request is not today's");
        cell.settle(next, Picodollars(2));
        assert!(cell.reserve(20_000, USD, Picodollars(1)).is_some(), "a late clock asks on the newest day");
        assert_eq!(cell.spent(), Picodollars(3));
    }

    #[test]
    fn days_that_were_not_used_do_not_bring_an_old_count_back() {
        for days in 1..10 {
            let cell = DayCell::new();
            assert!(cell.reserve(20_000, USD, USD).is_some());
            assert!(cell.reserve(20_000 + days, USD, USD).is_some(), "{days} days later");
        }
    }

    #[test]
    fn days_of_refusals_end_earlier_days_too() {
        let cell = DayCell::new();
        assert!(cell.reserve(1, USD, USD).is_some());
        (2..6).for_each(|day| assert!(cell.reserve(day, Picodollars(0), USD).is_none()));
        assert_eq!(cell.spent(), Picodollars(0));
    }

    #[test]
    fn money_that_refuses_gives_the_tokens_back() {
        let cell = BudgetCell::default();
        let budget = Budget { usd_micros_per_day: Some(1), tokens_per_minute: Some(TokenCount(100)) };
        let (now, cost) = (Moment(1), Picodollars(Picodollars::PER_MICRO));
        let asked = |tokens, cost| cell.reserve(Some(&budget), now, 1, tokens, cost);
        assert_eq!(asked(100, cost + Picodollars(1)).unwrap_err(), Exhausted::Money);
        let charged = asked(100, cost).unwrap();
        assert_eq!(asked(50, cost).unwrap_err(), Exhausted::Tokens { wait: Duration::from_secs(30) });
        cell.settle(charged, 50, Picodollars(0));
        assert!(asked(50, cost).is_ok());
        assert!(cell.reserve(None, now, 1, u64::MAX, cost).is_ok(), "no budget, no bound");
    }
}
