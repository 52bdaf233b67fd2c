//! Down when the first token takes longer than the spread of late explains, after the adaptive concurrency of
//! Vector: moving mean and deviation, α = 0.4, bound at mean + 2.5 deviations. For providers that refuse
//! rather than queue; where they queue, the mean follows the queue and only losses are left
//! (docs/concurrency.md has figures). It knows nothing of losses: those cut elsewhere.

use super::gradient::Verdict;
use super::window::Summary;

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Aimd {
    mean: Option<f64>,
    deviation: f64,
}

impl Aimd {
    pub fn judge(&mut self, seen: Summary) -> Verdict {
        let Some(mean) = self.mean else {
            self.mean = Some(seen.mean);
            return Verdict::Grow;
        };
        let bound = mean + (DEVIATIONS * self.deviation).max(SPREAD_MIN * mean);
        let distance = seen.mean - mean;
        self.mean = Some(mean + ALPHA * distance);
        self.deviation += ALPHA * (distance.abs() - self.deviation);
        if seen.low() >= bound { Verdict::Cut(CUT) } else { Verdict::Grow }
    }
}

const ALPHA: f64 = 0.4;
const DEVIATIONS: f64 = 2.5;
/// An upstream that answers like a clock would else be cut for a hair.
const SPREAD_MIN: f64 = 0.2;
pub(super) const CUT: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(mean: f64) -> Summary {
        Summary { mean, error: 0.0, requests: 0.0, tokens: 0.0 }
    }

    #[test]
    fn a_jump_beyond_the_spread_cuts_and_one_within_does_not() {
        let mut steady = Aimd::default();
        (0..20).for_each(|_| assert_eq!(steady.judge(seen(1.0)), Verdict::Grow));
        assert_eq!(steady.clone().judge(seen(1.19)), Verdict::Grow);
        assert_eq!(steady.judge(seen(1.21)), Verdict::Cut(CUT));
        let mut rough = Aimd::default();
        (0..40).for_each(|i| {
            rough.judge(seen(if i % 2 == 0 { 0.8 } else { 1.2 }));
        });
        assert_eq!(rough.clone().judge(seen(1.3)), Verdict::Grow);
        assert_eq!(rough.judge(seen(2.0)), Verdict::Cut(CUT));
    }

    #[test]
    fn a_delay_that_stays_becomes_the_mean() {
        let mut aimd = Aimd::default();
        aimd.judge(seen(1.0));
        let cuts = (0..20).filter(|_| aimd.judge(seen(1.5)) == Verdict::Cut(CUT)).count();
        assert_eq!(cuts, 1);
    }
}
