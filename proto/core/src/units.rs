//! What a number means. Time, sizes, tokens and money are types, so that none is taken for another.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on a monotonic clock: nanoseconds since an origin the shell chose. Never wall time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// The time from `earlier` to `self`; zero where `earlier` is later (clocks of two threads may differ).
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;
    /// Saturates at the end of time (584 years), which therefore means "never".
    fn add(self, span: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Moment {
    type Output = Duration;
    fn sub(self, earlier: Moment) -> Duration {
        self.since(earlier)
    }
}

/// Tokens as the model counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct TokenCount(pub u64);

impl Add for TokenCount {
    type Output = TokenCount;
    fn add(self, other: TokenCount) -> TokenCount {
        TokenCount(self.0.saturating_add(other.0))
    }
}

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ByteCount(pub u64);

/// Money: 10⁻¹² USD. A price of 1 USD per million tokens is 10⁶ picodollars a token, so prices with up to six
/// decimals per million tokens are whole numbers and nothing rounds away. Range per request: 18.4 million
/// USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Picodollars(pub u64);

impl Picodollars {
    /// One millionth of a dollar.
    pub const PER_MICRO: u64 = 1_000_000;
    /// One dollar.
    pub const PER_USD: u64 = 1_000_000_000_000;

    /// In USD, for people and JSON only; never computed with.
    pub fn as_usd(self) -> f64 {
        self.0 as f64 / Self::PER_USD as f64
    }

    /// In micro-USD, rounded up: a charge shown is never below the charge made.
    pub fn as_usd_micros_ceil(self) -> u64 {
        self.0.div_ceil(Self::PER_MICRO)
    }

    /// From USD; `None` where negative, not finite or out of range.
    pub fn from_usd(usd: f64) -> Option<Picodollars> {
        let pico = usd * Self::PER_USD as f64;
        (pico.is_finite() && (0.0..=u64::MAX as f64).contains(&pico))
            .then(|| Picodollars(pico.round() as u64))
    }
}

impl Add for Picodollars {
    type Output = Picodollars;
    /// Saturates: a bill at the end of the range refuses everything after it, it never wraps to nothing.
    fn add(self, other: Picodollars) -> Picodollars {
        Picodollars(self.0.saturating_add(other.0))
    }
}

/// A share in thousandths, 0 to 1000 where it is a probability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Permille(pub u16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_moment_minus_an_earlier_is_their_distance_and_the_reverse_is_zero() {
        let start = Moment(5);
        let end = start + Duration::from_nanos(7);
        assert_eq!(end - start, Duration::from_nanos(7));
        assert_eq!(start - end, Duration::ZERO);
        assert_eq!(Moment(u64::MAX) + Duration::from_secs(1), Moment(u64::MAX));
    }

    #[test]
    fn micros_round_up_and_usd_round_trips() {
        assert_eq!(Picodollars(1).as_usd_micros_ceil(), 1);
        assert_eq!(Picodollars(2_000_000).as_usd_micros_ceil(), 2);
        assert_eq!(Picodollars::from_usd(0.05), Some(Picodollars(50_000_000_000)));
        assert_eq!(Picodollars::from_usd(-1.0), None);
        assert_eq!(Picodollars::from_usd(f64::NAN), None);
    }
}
