//! What a tenant or a session may have: calls at once, tokens and money, each bounded by itself. Steps over
//! one axis; `dataplane-state` holds the three together. Never says what a request needs (that is the
//! estimate), never spreads anything over time.

use proto_core::units::Picodollars;

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Axis {
    Calls,
    Tokens,
    Money,
}

impl Axis {
    /// The order in which they are reserved.
    pub const ALL: [Axis; 3] = [Axis::Calls, Axis::Tokens, Axis::Money];
}

/// What is asked for, held or used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Need {
    /// Requests at once: one for each.
    pub calls: u32,
    pub tokens: u64,
    pub picodollars: Picodollars,
}

impl Need {
    /// Of one axis, as the number its word counts in.
    pub fn of(self, axis: Axis) -> u64 {
        match axis {
            Axis::Calls => u64::from(self.calls),
            Axis::Tokens => self.tokens,
            Axis::Money => self.picodollars.0,
        }
    }
}

/// How far each axis goes. `None`: not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    pub calls: Option<u32>,
    pub tokens: Option<u64>,
    pub picodollars: Option<Picodollars>,
}

impl Limits {
    pub const NONE: Limits = Limits { calls: None, tokens: None, picodollars: None };

    /// Of one axis, as the number its word is compared with; [`UNLIMITED`] for `None`.
    pub fn of(self, axis: Axis) -> u64 {
        match axis {
            Axis::Calls => self.calls.map_or(UNLIMITED, u64::from),
            Axis::Tokens => self.tokens.unwrap_or(UNLIMITED),
            Axis::Money => self.picodollars.map_or(UNLIMITED, |money| money.0),
        }
    }

    /// The narrower of both on each axis.
    #[must_use]
    pub fn narrowed(self, other: Limits) -> Limits {
        fn least<T: Ord>(left: Option<T>, right: Option<T>) -> Option<T> {
            // `None` is less than everything in `Option`'s own order, but means more here.
            left.into_iter().chain(right).min()
        }
        Limits {
            calls: least(self.calls, other.calls),
            tokens: least(self.tokens, other.tokens),
            picodollars: least(self.picodollars, other.picodollars),
        }
    }
}

/// What the end of a request gives back on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All of the reservation: the axis bounds what is under way.
    InFlight,
    /// What was reserved and not used: the axis bounds what was ever used. More used than reserved is a debt,
    /// which may pass the limit and then refuses whoever comes next.
    Spent,
}

/// Of each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds {
    pub calls: Kind,
    pub tokens: Kind,
    pub picodollars: Kind,
}

impl Kinds {
    /// A tenant's window bounds what it has under way.
    pub const TENANT: Kinds =
        Kinds { calls: Kind::InFlight, tokens: Kind::InFlight, picodollars: Kind::InFlight };
    /// A session's envelope is a purse, of which calls come back.
    pub const SESSION: Kinds = Kinds { calls: Kind::InFlight, tokens: Kind::Spent, picodollars: Kind::Spent };

    pub fn of(self, axis: Axis) -> Kind {
        match axis {
            Axis::Calls => self.calls,
            Axis::Tokens => self.tokens,
            Axis::Money => self.picodollars,
        }
    }
}

/// The level after `need` more, or `None` where that passes `limit`.
#[must_use]
pub fn reserved(level: u64, limit: u64, need: u64) -> Option<u64> {
    level.checked_add(need).filter(|next| *next <= limit)
}

/// The level after a request that held `held` and used `used`. Saturates: a debt at the end of the range
/// refuses everything after it, it never wraps to nothing.
#[must_use]
pub fn settled(level: u64, kind: Kind, held: u64, used: u64) -> u64 {
    let others = level.saturating_sub(held);
    match kind {
        Kind::InFlight => others,
        Kind::Spent => others.saturating_add(used),
    }
}

/// The end of the range, which therefore means "not limited".
pub const UNLIMITED: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_reaches_the_limit_fits_and_one_more_does_not() {
        assert_eq!(reserved(7, 10, 3), Some(10));
        assert_eq!(reserved(7, 10, 4), None);
        assert_eq!(reserved(u64::MAX, UNLIMITED, 1), None, "no sum wraps");
        assert_eq!(reserved(11, 10, 0), None, "in debt");
    }

    #[test]
    fn what_was_in_flight_comes_back_whole_and_what_was_spent_does_not() {
        assert_eq!(settled(10, Kind::InFlight, 4, 3), 6);
        assert_eq!(settled(10, Kind::Spent, 4, 3), 9);
        assert_eq!(settled(10, Kind::Spent, 4, 9), 15, "a debt");
        assert_eq!(settled(10, Kind::Spent, 4, u64::MAX), u64::MAX);
    }

    #[test]
    fn narrowing_takes_the_least_and_none_is_the_most() {
        let left = Limits { calls: Some(3), tokens: None, picodollars: Some(Picodollars(5)) };
        let right = Limits { calls: Some(4), tokens: Some(1), picodollars: None };
        let both = Limits { calls: Some(3), tokens: Some(1), picodollars: Some(Picodollars(5)) };
        assert_eq!((left.narrowed(right), right.narrowed(left)), (both, both));
        assert_eq!(Limits::NONE.narrowed(both), both);
    }

    proptest! {
        /// Any order of requests: the level is what is held and was spent, and reservations keep the limit.
        #[test]
        fn a_level_is_the_sum_of_what_is_held_and_what_was_spent(
            limit in 0..1000u64, is_spent: bool,
            steps in prop::collection::vec((any::<bool>(), 0..300u64, 0..300u64), 0..60),
        ) {
            let kind = if is_spent { Kind::Spent } else { Kind::InFlight };
            let (mut level, mut held, mut spent) = (0, Vec::new(), 0u64);
            for (is_arrival, need, used) in steps {
                if is_arrival {
                    let before = level;
                    if let Some(next) = reserved(level, limit, need) {
                        level = next;
                        held.push(need);
                        prop_assert!(level <= limit);
                    } else {
                        prop_assert!(before + need > limit);
                    }
                } else if let Some(need) = held.pop() {
                    level = settled(level, kind, need, used);
                    spent += if is_spent { used } else { 0 };
                }
                prop_assert_eq!(level, held.iter().sum::<u64>() + spent);
            }
        }
    }
}
