//! How much one upstream carries at once, and who may still be let in: steps over one word. Never says who is
//! next among those who wait.

use proto_core::model::Qos;
use proto_core::units::Permille;

/// What an upstream carries now. Packs into one word:
///
/// ```text
/// 63        62..43      42..0
/// waiters | requests  | tokens
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// In flight, at most [`REQUESTS_MAX`].
    pub requests: u32,
    /// Reserved or used by the requests in flight, at most [`TOKENS_MAX`].
    pub tokens: u64,
    /// Somebody waits in the queue: nobody who just came may go before it.
    pub has_waiters: bool,
}

impl Load {
    /// The bit of the word that says that somebody waits.
    pub const WAITERS: u64 = 1 << 63;

    /// What one request with `tokens` adds to the word.
    pub const fn one(tokens: u64) -> u64 {
        1 << TOKEN_BITS | tokens
    }

    #[inline]
    pub fn pack(self) -> u64 {
        let waiters = if self.has_waiters { Load::WAITERS } else { 0 };
        waiters | u64::from(self.requests) << TOKEN_BITS | self.tokens
    }

    #[inline]
    pub fn unpack(word: u64) -> Load {
        let requests = (word & !Load::WAITERS) >> TOKEN_BITS;
        Load {
            requests: u32::try_from(requests).expect("twenty bits"),
            tokens: word & TOKENS_MAX,
            has_waiters: word & Load::WAITERS != 0,
        }
    }

    /// One who just came, with `tokens` reserved: the load with it, or `None` where it must wait. Nobody
    /// overtakes a queue.
    #[inline]
    #[must_use]
    pub fn on_arrival(self, bounds: Bounds, tokens: u64, share: Permille) -> Option<Load> {
        if self.has_waiters { None } else { self.on_turn(bounds, tokens, share) }
    }

    /// One whose turn it is: the load with it, or `None` where there is no room. `share` is how much of the
    /// requests its quality of service may fill, see [`share`].
    #[inline]
    #[must_use]
    pub fn on_turn(self, bounds: Bounds, tokens: u64, share: Permille) -> Option<Load> {
        if self.requests >= bounds.requests_for(share) {
            return None;
        }
        let sum = self.tokens.checked_add(tokens).filter(|sum| *sum <= TOKENS_MAX)?;
        // Alone it goes even above the bound of tokens: else it would wait for ever.
        let fits = self.requests == 0 || bounds.tokens.is_none_or(|bound| sum <= bound);
        fits.then_some(Load { requests: self.requests + 1, tokens: sum, ..self })
    }

    /// More than was reserved is on its way. It can no longer be refused, only counted; saturates.
    #[must_use]
    pub fn on_extend(self, tokens: u64) -> Load {
        Load { tokens: self.tokens.saturating_add(tokens).min(TOKENS_MAX), ..self }
    }
}

/// How much an upstream may be given. Packs into one word, so that both change together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Zero: nothing at all (its server said so). At most [`REQUESTS_MAX`].
    pub requests: u32,
    /// `None`: not bounded.
    pub tokens: Option<u64>,
}

impl Bounds {
    #[inline]
    pub fn pack(self) -> u64 {
        let tokens = self.tokens.map_or(UNBOUNDED, |tokens| tokens.min(UNBOUNDED));
        u64::from(self.requests.min(REQUESTS_MAX)) << BOUND_BITS | tokens
    }

    #[inline]
    pub fn unpack(word: u64) -> Bounds {
        let tokens = word & ((1 << BOUND_BITS) - 1);
        Bounds {
            requests: u32::try_from(word >> BOUND_BITS).expect("twenty bits"),
            tokens: (tokens < UNBOUNDED).then_some(tokens),
        }
    }

    /// Requests that may be in flight for one who may fill `share`: rounded up, and at least one where there
    /// is any.
    #[inline]
    pub fn requests_for(self, share: Permille) -> u32 {
        let part = (u64::from(self.requests) * u64::from(share.0)).div_ceil(1000);
        u32::try_from(part).map_or(self.requests, |part| part.max(1).min(self.requests))
    }
}

/// The band of `qos` where `best` is the best that any tenant may ask for: what is held back for better ones
/// is held for nobody where there are none.
pub fn band(qos: Qos, best: Qos) -> Qos {
    match (best, qos) {
        (Qos::Gold, _) => qos,
        (Qos::Silver, Qos::Bronze) => Qos::Silver,
        (Qos::Silver | Qos::Bronze, _) => Qos::Gold,
    }
}

/// How much of an upstream's requests a quality of service may fill: what better ones need comes first.
pub fn share(qos: Qos) -> Permille {
    match qos {
        Qos::Gold => Permille(1000),
        Qos::Silver => Permille(850),
        Qos::Bronze => Permille(700),
    }
}

/// The largest bound of requests a document may name; below 2^20, so that a count of them has room.
pub const REQUESTS_MAX: u32 = 1_000_000;
/// Eight million tokens for each of a million requests.
pub const TOKENS_MAX: u64 = (1 << TOKEN_BITS) - 1;
const TOKEN_BITS: u32 = 43;
/// One bit more than a count of tokens has, for "not bounded".
const BOUND_BITS: u32 = 44;
const UNBOUNDED: u64 = 1 << TOKEN_BITS;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: Permille = Permille(1000);

    fn load(requests: u32, tokens: u64) -> Load {
        Load { requests, tokens, has_waiters: false }
    }

    #[test]
    fn the_last_of_the_bound_gets_in_and_one_more_does_not() {
        let bounds = Bounds { requests: 2, tokens: Some(10) };
        assert_eq!(load(1, 4).on_turn(bounds, 6, ALL), Some(load(2, 10)));
        assert_eq!(load(1, 4).on_turn(bounds, 7, ALL), None);
        assert_eq!(load(2, 0).on_turn(bounds, 0, ALL), None);
    }

    #[test]
    fn bands_count_from_the_best_that_there_is() {
        let bands = |best| [Qos::Gold, Qos::Silver, Qos::Bronze].map(|qos| band(qos, best));
        assert_eq!(bands(Qos::Gold), [Qos::Gold, Qos::Silver, Qos::Bronze]);
        assert_eq!(bands(Qos::Silver)[1..], [Qos::Gold, Qos::Silver]);
        assert_eq!(bands(Qos::Bronze)[2], Qos::Gold);
    }

    #[test]
    fn one_that_is_larger_than_the_bound_of_tokens_goes_alone() {
        let bounds = Bounds { requests: 2, tokens: Some(10) };
        assert_eq!(load(0, 0).on_turn(bounds, 11, ALL), Some(load(1, 11)));
        assert_eq!(load(1, 11).on_turn(bounds, 0, ALL), None, "until it is home, nobody else");
    }

    #[test]
    fn a_bound_of_no_requests_lets_nobody_in() {
        let bounds = Bounds { requests: 0, tokens: None };
        assert_eq!(load(0, 0).on_turn(bounds, 0, ALL), None);
    }

    #[test]
    fn nobody_who_just_came_overtakes_the_queue() {
        let bounds = Bounds { requests: 9, tokens: None };
        let waiting = Load { has_waiters: true, ..load(1, 1) };
        assert_eq!(waiting.on_arrival(bounds, 1, ALL), None);
        assert_eq!(waiting.on_turn(bounds, 1, ALL), Some(Load { requests: 2, tokens: 2, ..waiting }));
    }

    #[test]
    fn lower_qualities_are_held_back_in_whole_requests_and_each_has_at_least_one() {
        let of = |requests| {
            let bounds = Bounds { requests, tokens: None };
            [Qos::Bronze, Qos::Silver, Qos::Gold].map(|qos| bounds.requests_for(share(qos)))
        };
        assert_eq!(of(0), [0, 0, 0]);
        assert_eq!(of(1), [1, 1, 1]);
        assert_eq!(of(2), [2, 2, 2]);
        assert_eq!(of(10), [7, 9, 10]);
        assert_eq!(of(REQUESTS_MAX), [700_000, 850_000, 1_000_000]);
        assert_eq!(Bounds { requests: 10, tokens: None }.requests_for(Permille(0)), 1);
    }

    #[test]
    fn tokens_past_the_range_are_refused_on_entry_and_saturate_afterwards() {
        let bounds = Bounds { requests: 9, tokens: None };
        assert_eq!(load(1, 1).on_turn(bounds, TOKENS_MAX, ALL), None);
        assert_eq!(load(0, 0).on_turn(bounds, u64::MAX, ALL), None);
        assert_eq!(load(1, 1).on_extend(u64::MAX), load(1, TOKENS_MAX));
    }

    proptest! {
        #[test]
        fn a_load_and_its_bounds_survive_their_words(
            requests in 0..=REQUESTS_MAX, tokens in 0..=TOKENS_MAX, has_waiters: bool, bound: Option<u32>,
        ) {
            let load = Load { requests, tokens, has_waiters };
            prop_assert_eq!(Load::unpack(load.pack()), load);
            let bounds = Bounds { requests, tokens: bound.map(u64::from) };
            prop_assert_eq!(Bounds::unpack(bounds.pack()), bounds);
        }

        #[test]
        fn whoever_is_let_in_fits_or_is_alone(
            requests in 0..20u32, tokens in 0..100u64, limit in 0..20u32, bound in 0..100u64,
            need in 0..100u64, part in 0..=1000u16,
        ) {
            let bounds = Bounds { requests: limit, tokens: Some(bound) };
            if let Some(next) = load(requests, tokens).on_turn(bounds, need, Permille(part)) {
                prop_assert_eq!(next.pack(), load(requests, tokens).pack() + Load::one(need));
                prop_assert!(next.requests <= limit);
                prop_assert!(next.tokens <= bound || next.requests == 1);
            }
        }
    }
}
