//! What a tenant may spend over time: tokens a minute, money a day. Steps over words; which moment and which
//! day it is are arguments. Never waits: a refusal says how long to.
//!
//! Tokens follow the generic cell rate algorithm in its virtual scheduling form (ITU-T I.371, annex A): the
//! word is the moment at which the tenant is even again. A minute's worth may be used at once, so any span of
//! `t` seconds carries at most `(1 + t / 60)` times the rate, whatever its cut. What is reserved is charged
//! on entry and corrected at the end.
//!
//! Money is a count that starts from nothing every day. A day and a count do not fit in one word, so a second
//! word names days by a number that grows by one for each day that was used, and the count carries the last
//! two bits of it: a count with other bits is of an earlier day and means nothing spent.

use std::time::Duration;

use proto_core::units::{Moment, Picodollars};

use super::window::{self, Kind};

/// When the tenant is even again: what it was given beyond its rate, as time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace(pub Moment);

impl Pace {
    /// A request for `tokens`: the pace after it, or how long until it would pass, [`NEVER`] at a rate of
    /// zero. One that is larger than a minute's worth passes where nothing is owed: else it never would.
    pub fn on_request(self, now: Moment, tokens_per_minute: u64, tokens: u64) -> Result<Pace, Duration> {
        let Some(cost) = span(tokens_per_minute, tokens) else { return Err(NEVER) };
        let start = self.0.max(now);
        let owed = start.since(now);
        if cost > BURST {
            return if owed.is_zero() { Ok(Pace(start + cost)) } else { Err(owed) };
        }
        match (owed + cost).checked_sub(BURST) {
            Some(excess) if !excess.is_zero() => Err(excess),
            _ => Ok(Pace(start + cost)),
        }
    }

    /// Tokens that would pass now, and how long until a minute's worth would.
    pub fn left(self, now: Moment, tokens_per_minute: u64) -> (u64, Duration) {
        let owed = self.0.since(now);
        let free = BURST.saturating_sub(owed).as_nanos();
        let tokens = u128::from(tokens_per_minute) * free / BURST.as_nanos();
        // At most the rate, which is a u64.
        (u64::try_from(tokens).unwrap_or(u64::MAX), owed)
    }

    /// A request that reserved `reserved` used `used`. At the rate of its entry, so that it takes back just
    /// what it was charged. What is given back never lifts a tenant above a minute's worth.
    #[must_use]
    pub fn on_end(self, tokens_per_minute: u64, reserved: u64, used: u64) -> Pace {
        let cost = |tokens| span(tokens_per_minute, tokens).unwrap_or_default();
        let charged = self.0 + cost(used);
        let back = u64::try_from(cost(reserved).as_nanos()).unwrap_or(u64::MAX);
        Pace(Moment(charged.0.saturating_sub(back)))
    }
}

/// How long `tokens` take at the rate, rounded up to a nanosecond; saturates at 584 years. `None`: for ever.
fn span(tokens_per_minute: u64, tokens: u64) -> Option<Duration> {
    // Wider than the word, so that neither a large request nor a large rate loses digits.
    let nanos = u128::from(tokens) * BURST.as_nanos();
    let nanos = nanos.checked_add(u128::from(tokens_per_minute.checked_sub(1)?))?;
    let nanos = nanos / u128::from(tokens_per_minute);
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// Which day it is, and its number among the days that were used. Packs into one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Era {
    /// Days since 1970-01-01 UTC.
    pub day: u32,
    /// Grows by one for each day that something was asked on.
    pub generation: u32,
}

impl Era {
    pub fn pack(self) -> u64 {
        u64::from(self.day) << 32 | u64::from(self.generation)
    }

    pub fn unpack(word: u64) -> Era {
        let [day, generation] = [word >> 32, word & u64::from(u32::MAX)];
        let half = |half| u32::try_from(half).expect("half a word");
        Era { day: half(day), generation: half(generation) }
    }

    /// Somebody asks on `day`. A day never ends twice: who is late (its clock, or its thread) asks on the
    /// newest.
    #[must_use]
    pub fn on_day(self, day: u32) -> Era {
        if day <= self.day { self } else { Era { day, generation: self.generation.wrapping_add(1) } }
    }

    /// What its count carries.
    pub fn mark(self) -> u8 {
        u8::try_from(self.generation & MARKS).expect("two bits")
    }
}

/// Money spent on a day, with that day's mark. Packs into one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    pub mark: u8,
    /// At most [`SPENT_MAX`].
    pub picodollars: Picodollars,
}

impl Spent {
    pub fn pack(self) -> u64 {
        u64::from(self.mark) << SPENT_BITS | self.picodollars.0
    }

    pub fn unpack(word: u64) -> Spent {
        let mark = u8::try_from(word >> SPENT_BITS).expect("two bits");
        Spent { mark, picodollars: Picodollars(word & SPENT_MAX.0) }
    }

    /// As of the day `mark`: itself, or nothing spent.
    #[must_use]
    pub fn on_day(self, mark: u8) -> Spent {
        if self.mark == mark { self } else { Spent { mark, picodollars: Picodollars(0) } }
    }

    /// A request for `need` on this count's day, or `None` where that passes `limit`. A limit above
    /// [`SPENT_MAX`] is that.
    #[must_use]
    pub fn on_request(self, limit: Picodollars, need: Picodollars) -> Option<Spent> {
        let limit = limit.min(SPENT_MAX);
        let sum = window::reserved(self.picodollars.0, limit.0, need.0)?;
        Some(Spent { picodollars: Picodollars(sum), ..self })
    }

    /// A request of this count's day that reserved `reserved` used `used`. Saturates: a day at the end of the
    /// range is over.
    #[must_use]
    pub fn on_end(self, reserved: Picodollars, used: Picodollars) -> Spent {
        let sum = window::settled(self.picodollars.0, Kind::Spent, reserved.0, used.0);
        Spent { picodollars: Picodollars(sum.min(SPENT_MAX.0)), ..self }
    }
}

/// At a rate of zero.
pub const NEVER: Duration = Duration::MAX;
/// The span a rate is given for, and what of it may be used at once: less, and a tenant with a small rate
/// could not send one request of common size.
const BURST: Duration = Duration::from_secs(60);
/// Two bits are a mark, the rest is money: 4.6 million USD a day.
const SPENT_BITS: u32 = 62;
pub const SPENT_MAX: Picodollars = Picodollars((1 << SPENT_BITS) - 1);
/// Four days that were used must pass, while a thread stands between two instructions, for a mark to lie.
const MARKS: u32 = 0b11;

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
