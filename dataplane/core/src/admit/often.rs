//! How often a caller may ask: so many requests a second, and so many at once. A step over a word; which
//! moment it is, is an argument. Never waits: a refusal says how long to.
//!
//! The generic cell rate algorithm in its virtual scheduling form (ITU-T I.371, annex A): a word says who,
//! and when he is even again. One who is even is the same as one who never asked, so a place in a table of
//! bounded size can be given to another without loss as soon as its holder is even.
//!
//! ```text
//!  63      50 49                                              0
//! |  tag     |  even again, in ticks of 16 ns; 208 days round  |
//! ```

use std::time::Duration;

use proto_core::units::Moment;

/// Requests a second, and how many of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Ticks one request takes.
    each: u64,
    /// Ticks that may be owed: those of all that may come at once.
    span: u64,
}

impl Rate {
    /// `per_second` of 1 to [`PER_SECOND_MAX`], `burst` of 1 to [`BURST_MAX`]; what is beyond is taken as the
    /// nearest of these. Rounded up to a tick, so that a second carries at most a 625th less, never more.
    pub fn new(per_second: u32, burst: u32) -> Rate {
        let each = TICKS_PER_SECOND.div_ceil(u64::from(per_second.clamp(1, PER_SECOND_MAX)));
        Rate { each, span: each * u64::from(burst.clamp(1, BURST_MAX)) }
    }

    /// A request of the caller `tag`, whose place is `place`: the place after it, or how long until it would
    /// pass.
    pub fn on_request(self, place: Place, tag: u64, now: Moment) -> Result<Place, Duration> {
        let owed = if place.is_of(tag) { self.owed(place, now) } else { 0 };
        let after = owed + self.each;
        match after.checked_sub(self.span) {
            Some(excess) if excess > 0 => Err(Duration::from_nanos(excess * NANOS_PER_TICK)),
            _ => Ok(Place((tag & TAGS) << TICK_BITS | (ticks(now) + after) & TICKS)),
        }
    }

    /// Whether nobody is held back by it any more: it may be given to another.
    pub fn is_free(self, place: Place, now: Moment) -> bool {
        self.owed(place, now) == 0
    }

    /// Ticks until its holder is even. More than may ever be owed is a moment that passed, seen from the
    /// other side of the round.
    fn owed(self, place: Place, now: Moment) -> u64 {
        let owed = (place.0 & TICKS).wrapping_sub(ticks(now)) & TICKS;
        if owed <= self.span { owed } else { 0 }
    }
}

/// One caller's account. Packs into one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place(pub u64);

impl Place {
    pub fn is_of(self, tag: u64) -> bool {
        self.0 >> TICK_BITS == tag & TAGS
    }

    /// Its holder's.
    pub fn tag(self) -> u64 {
        self.0 >> TICK_BITS
    }
}

fn ticks(now: Moment) -> u64 {
    now.0 / NANOS_PER_TICK
}

/// Of a caller's hash, what its place remembers.
pub const TAG_BITS: u32 = 64 - TICK_BITS;
pub const PER_SECOND_MAX: u32 = 100_000;
pub const BURST_MAX: u32 = 1_000_000;
const TICK_BITS: u32 = 50;
const TICKS: u64 = (1 << TICK_BITS) - 1;
const TAGS: u64 = (1 << TAG_BITS) - 1;
const NANOS_PER_TICK: u64 = 16;
const TICKS_PER_SECOND: u64 = 1_000_000_000 / NANOS_PER_TICK;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const LATE: Moment = Moment(1 << 60);

    /// How many of `asked` requests at one moment pass.
    fn at_once(rate: Rate, place: &mut Place, now: Moment, asked: u32) -> u32 {
        let mut passed = 0;
        for _ in 0..asked {
            if let Ok(next) = rate.on_request(*place, 7, now) {
                *place = next;
                passed += 1;
            }
        }
        passed
    }

    #[test]
    fn a_burst_passes_and_one_more_is_told_how_long_to_wait() {
        for start in [Moment(0), Moment(5), LATE, Moment(u64::MAX - 100 * SECOND)] {
            let (rate, mut place) = (Rate::new(2, 5), Place::default());
            assert_eq!(at_once(rate, &mut place, start, 5), 5);
            let wait = rate.on_request(place, 7, start).unwrap_err();
            assert_eq!(wait, Duration::from_millis(500));
            let almost = start + wait - Moment(16 * 2);
            assert!(rate.on_request(place, 7, Moment(0) + almost).is_err(), "a moment early");
            assert!(rate.on_request(place, 7, start + wait).is_ok(), "at the moment that was told");
        }
    }

    #[test]
    fn a_caller_who_is_even_starts_anew_and_leaves_his_place() {
        let (rate, mut place) = (Rate::new(10, 3), Place::default());
        assert!(rate.is_free(place, Moment(0)));
        assert_eq!(at_once(rate, &mut place, LATE, 4), 3);
        assert!(!rate.is_free(place, LATE) && place.is_of(7) && !place.is_of(8));
        let even = LATE + Duration::from_millis(300);
        assert!(rate.is_free(place, even));
        assert_eq!(at_once(rate, &mut place, even, 4), 3);
        assert!(rate.on_request(place, 8, even).is_ok(), "another's place says nothing of this caller");
    }

    #[test]
    fn a_place_of_half_a_year_ago_holds_nobody_back_for_longer_than_a_burst() {
        let (rate, mut place) = (Rate::new(1, 10), Place::default());
        assert_eq!(at_once(rate, &mut place, LATE, 10), 10);
        for days in [1, 50, 103, 104, 105, 150, 207, 208, 209, 400] {
            let now = LATE + Duration::from_secs(days * 24 * 3600);
            assert!(rate.is_free(place, now), "{days} days later");
        }
    }

    #[test]
    fn the_ends_of_the_ranges_are_rates_too() {
        for (per_second, burst) in
            [(1, 1), (PER_SECOND_MAX, BURST_MAX), (1, BURST_MAX), (0, 0), (u32::MAX, 1)]
        {
            let (rate, mut place) = (Rate::new(per_second, burst), Place::default());
            assert_eq!(at_once(rate, &mut place, LATE, 1), 1, "{per_second}/{burst}");
        }
        assert_eq!(at_once(Rate::new(1, 1), &mut Place::default(), LATE, 2), 1);
    }

    proptest! {
        /// Over any span of t seconds at most `burst + t * rate` pass, whatever their times.
        #[test]
        fn no_span_carries_more_than_its_burst_and_its_rate(
            per_second in 1u32..2000,
            burst in 1u32..50,
            gaps in proptest::collection::vec(0u64..20_000_000, 1..300),
        ) {
            let (rate, mut place, mut now) = (Rate::new(per_second, burst), Place::default(), LATE);
            let mut passed: Vec<Moment> = Vec::new();
            for gap in gaps {
                now = Moment(now.0 + gap);
                if let Ok(next) = rate.on_request(place, 7, now) {
                    place = next;
                    passed.push(now);
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, until) in passed.iter().enumerate().skip(first) {
                    let span = until.since(*from).as_secs_f64() + 1e-6;
                    let most = f64::from(burst) + span * f64::from(per_second);
                    prop_assert!((last - first + 1) as f64 <= most + 1e-6);
                }
            }
        }
    }
}
