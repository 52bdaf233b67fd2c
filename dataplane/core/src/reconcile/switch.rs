//! Which policy fits, where a session leaves that to its data plane: by what its dispatches say matters to
//! them, each wish as a moving mean, so that one dispatch in a hurry does not turn a session round.
//!
//! | first that holds | policy |
//! |---|---|
//! | time presses (above 0.5) | first-win |
//! | quality above 0.8 | consensus |
//! | cost above 0.7 | weighted-merge |
//! | more than three targets | arbiter |
//! | else | first-win |
//!
//! Once chosen, a policy stays for [`STAYS`]: whoever reads the answers sees the same shape for a while.

use std::time::Duration;

use proto_core::units::{Moment, Permille};

use super::dispatch::Policy;

/// What matters to a dispatch; what it does not say leaves the mean as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    pub time_pressure: Option<Permille>,
    pub quality: Option<Permille>,
    pub cost_sensitivity: Option<Permille>,
}

/// Of one session.
#[derive(Debug, Default)]
pub struct Switcher {
    time_pressure: Mean,
    quality: Mean,
    cost_sensitivity: Mean,
    /// And since when.
    chosen: Option<(Policy, Moment)>,
}

/// Millionths; `None`: nothing was said.
#[derive(Debug, Default)]
struct Mean(Option<i64>);

impl Switcher {
    /// The policy of a dispatch with so many targets.
    pub fn choose(&mut self, wishes: &Wishes, targets: usize, now: Moment) -> Policy {
        self.time_pressure.add(wishes.time_pressure);
        self.quality.add(wishes.quality);
        self.cost_sensitivity.add(wishes.cost_sensitivity);
        let fits = self.fits(targets);
        match self.chosen {
            Some((policy, since)) if policy == fits || now.since(since) < STAYS => policy,
            _ => {
                self.chosen = Some((fits, now));
                fits
            }
        }
    }

    fn fits(&self, targets: usize) -> Policy {
        if self.time_pressure.is_above(TIME_PRESSES) {
            Policy::FirstWin
        } else if self.quality.is_above(QUALITY_MATTERS) {
            Policy::Consensus
        } else if self.cost_sensitivity.is_above(COST_MATTERS) {
            Policy::WeightedMerge
        } else if targets > MANY_TARGETS {
            Policy::Arbiter
        } else {
            Policy::FirstWin
        }
    }
}

impl Mean {
    fn add(&mut self, wish: Option<Permille>) {
        let Some(wish) = wish else { return };
        let wish = i64::from(wish.0) * 1000;
        self.0 = Some(self.0.map_or(wish, |mean| mean + (wish - mean) / MEAN_OF));
    }

    fn is_above(&self, bound: Permille) -> bool {
        self.0.is_some_and(|mean| mean > i64::from(bound.0) * 1000)
    }
}

/// As existing peers have it, this and what follows.
pub const STAYS: Duration = Duration::from_secs(300);
const QUALITY_MATTERS: Permille = Permille(800);
const COST_MATTERS: Permille = Permille(700);
const MANY_TARGETS: usize = 3;
/// A tenth of each new wish.
const MEAN_OF: i64 = 10;
/// They say yes or no to it; a part of 1 is more than half a yes.
const TIME_PRESSES: Permille = Permille(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Moment {
        Moment(s * 1_000_000_000)
    }

    fn wishes(time: u16, quality: u16, cost: u16) -> Wishes {
        let part = |permille| Some(Permille(permille));
        Wishes { time_pressure: part(time), quality: part(quality), cost_sensitivity: part(cost) }
    }

    #[test]
    fn the_first_wish_that_holds_says_the_policy() {
        for (wishes, targets, policy) in [
            (Wishes::default(), 1, Policy::FirstWin),
            (Wishes::default(), 3, Policy::FirstWin),
            (Wishes::default(), 4, Policy::Arbiter),
            (wishes(500, 800, 700), 3, Policy::FirstWin),
            (wishes(500, 800, 700), 4, Policy::Arbiter),
            (wishes(500, 800, 701), 4, Policy::WeightedMerge),
            (wishes(500, 801, 701), 4, Policy::Consensus),
            (wishes(501, 801, 701), 4, Policy::FirstWin),
        ] {
            let chosen = Switcher::default().choose(&wishes, targets, at(0));
            assert_eq!(chosen, policy, "{wishes:?} of {targets}");
        }
    }

    #[test]
    fn a_policy_stays_until_its_time_is_over_and_then_follows() {
        let mut switcher = Switcher::default();
        assert_eq!(switcher.choose(&Wishes::default(), 1, at(10)), Policy::FirstWin);
        assert_eq!(switcher.choose(&Wishes::default(), 9, at(309)), Policy::FirstWin);
        assert_eq!(switcher.choose(&Wishes::default(), 9, at(310)), Policy::Arbiter);
        // Counted from the switch, not from the last that it fitted.
        assert_eq!(switcher.choose(&Wishes::default(), 9, at(600)), Policy::Arbiter);
        assert_eq!(switcher.choose(&Wishes::default(), 1, at(610)), Policy::FirstWin);
    }

    #[test]
    fn one_dispatch_in_a_hurry_does_not_turn_a_session_round_and_seven_do() {
        let mut switcher = Switcher::default();
        let (calm, hurried) = (wishes(0, 900, 0), wishes(1000, 900, 0));
        assert_eq!(switcher.choose(&calm, 3, at(0)), Policy::Consensus);
        let mut now = 0;
        let mut chosen = Vec::new();
        for _ in 0..8 {
            now += STAYS.as_secs();
            chosen.push(switcher.choose(&hurried, 3, at(now)));
        }
        // 1 - 0.9^6 is below a half, 1 - 0.9^7 above.
        assert_eq!(chosen[..6], [Policy::Consensus; 6]);
        assert_eq!(chosen[6..], [Policy::FirstWin; 2]);
    }

    #[test]
    fn what_is_not_said_leaves_the_mean_as_it_is() {
        let mut switcher = Switcher::default();
        switcher.choose(&wishes(0, 1000, 0), 1, at(0));
        for at_s in 1..1000 {
            assert_eq!(switcher.choose(&Wishes::default(), 1, at(at_s)), Policy::Consensus);
        }
    }
}
