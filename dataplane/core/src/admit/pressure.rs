//! How hard pressed a worker is, and what it sheds for it, cheapest first. Pure: whoever measures says what
//! it saw. Never shed, whatever the pressure: health, metrics, and answers that already stream.
//!
//! | level | bytes buffered | tasks late by | shed |
//! |---|---|---|---|
//! | green | below 60 % | below 100 ms | nothing |
//! | yellow | from 60 % | from 100 ms | keep-alive, bronze requests, tenants over their share |
//! | red | from 85 % | from 500 ms | also new connections, silver requests, patience with slow clients |
//!
//! Gold is refused only by the bound itself: a body that no longer fits.

use std::time::Duration;

use proto_core::model::Qos;

/// What a tenant has under way, of all that have anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shares {
    pub own: u64,
    pub own_weight: u64,
    pub all: u64,
    /// Of those who have anything under way, the tenant itself included.
    pub all_weights: u64,
}

impl Shares {
    /// More than its weight's part. Never of one that is alone: there is nobody to make room for.
    pub fn is_over(self) -> bool {
        self.own < self.all
            && self.own.saturating_mul(self.all_weights) > self.all.saturating_mul(self.own_weight)
    }
}

/// How hard pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    #[default]
    Green,
    Yellow,
    Red,
}

impl Level {
    pub const ALL: [Level; 3] = [Level::Green, Level::Yellow, Level::Red];

    /// From what is buffered of what may be, and by how much tasks run late.
    pub fn of(buffered: u64, most: u64, late: Duration) -> Level {
        let permille = u128::from(buffered) * 1000 / u128::from(most.max(1));
        let of_bytes =
            Level::ALL.into_iter().rev().find(|level| permille >= u128::from(level.begins_at_permille()));
        let of_delay = Level::ALL.into_iter().rev().find(|level| late >= level.begins_at_delay());
        of_bytes.max(of_delay).unwrap_or(Level::Green)
    }

    /// May a new connection come?
    pub fn may_connect(self) -> bool {
        self < Level::Red
    }

    /// May a connection wait for another request?
    pub fn may_keep_alive(self) -> bool {
        self == Level::Green
    }

    /// May a request of this quality of service begin?
    pub fn may_begin(self, qos: Qos) -> bool {
        match self {
            Level::Green => true,
            Level::Yellow => qos > Qos::Bronze,
            Level::Red => qos == Qos::Gold,
        }
    }

    /// May a tenant have more than its share?
    pub fn may_exceed_share(self) -> bool {
        self == Level::Green
    }

    /// How long a client may leave its buffer full, where it may do so for `patience` in better times.
    pub fn patience(self, patience: Duration) -> Duration {
        match self {
            Level::Red => patience / IMPATIENCE,
            _ => patience,
        }
    }

    /// Seconds a refused caller is asked to stay away.
    pub fn retry_after_s(self) -> u32 {
        match self {
            Level::Red => RED_RETRY_S,
            _ => 1,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Level::Green => "green",
            Level::Yellow => "yellow",
            Level::Red => "red",
        }
    }

    fn begins_at_permille(self) -> u64 {
        match self {
            Level::Green => 0,
            Level::Yellow => 600,
            Level::Red => 850,
        }
    }

    fn begins_at_delay(self) -> Duration {
        match self {
            Level::Green => Duration::ZERO,
            Level::Yellow => Duration::from_millis(100),
            Level::Red => Duration::from_millis(500),
        }
    }
}

/// Ten seconds become two.
const IMPATIENCE: u32 = 5;
/// Long enough for buffers of most answers to drain.
const RED_RETRY_S: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: Duration = Duration::ZERO;

    #[test]
    fn a_level_begins_at_its_edge_and_the_worse_of_both_signs_counts() {
        for (buffered, late_ms, level) in [
            (0, 0, Level::Green),
            (599, 99, Level::Green),
            (600, 0, Level::Yellow),
            (849, 0, Level::Yellow),
            (850, 0, Level::Red),
            (5000, 0, Level::Red),
            (0, 100, Level::Yellow),
            (0, 500, Level::Red),
            (600, 500, Level::Red),
        ] {
            assert_eq!(
                Level::of(buffered, 1000, Duration::from_millis(late_ms)),
                level,
                "{buffered} {late_ms}"
            );
        }
        assert_eq!(Level::of(u64::MAX, u64::MAX, PROMPT), Level::Red, "no sum wraps");
        assert_eq!(Level::of(0, 0, PROMPT), Level::Green);
    }

    #[test]
    fn a_tenant_is_over_its_share_beside_others_and_never_alone() {
        let of = |own, own_weight, all, all_weights| Shares { own, own_weight, all, all_weights }.is_over();
        assert!(!of(5, 1, 5, 1), "alone");
        assert!(!of(5, 1, 10, 2) && of(6, 1, 10, 2));
        assert!(!of(8, 4, 10, 5) && of(9, 4, 10, 5), "by weight");
        assert!(!of(0, 1, 10, 2), "who has nothing yet may begin");
    }

    #[test]
    fn worse_is_shed_before_better_and_gold_never_by_the_level() {
        for (level, begins) in [
            (Level::Green, [true, true, true]),
            (Level::Yellow, [false, true, true]),
            (Level::Red, [false, false, true]),
        ] {
            assert_eq!([Qos::Bronze, Qos::Silver, Qos::Gold].map(|qos| level.may_begin(qos)), begins);
        }
        assert_eq!(Level::ALL.map(Level::may_keep_alive), [true, false, false]);
        assert_eq!(Level::ALL.map(Level::may_connect), [true, true, false]);
        assert_eq!(Level::ALL.map(Level::may_exceed_share), [true, false, false]);
        let ten = Duration::from_secs(10);
        assert_eq!(Level::ALL.map(|level| level.patience(ten).as_secs()), [10, 10, 2]);
    }
}
