//! Down by how much longer the first token takes than it must. After Gradient2 of Netflix's
//! concurrency-limits: tolerance × baseline ÷ now, between a half and one, with a queue headroom and only
//! while the limit is used. Different here, for the reasons docs/concurrency.md gives with figures: the
//! baseline is an average of what was seen just after cuts and not of everything, so that a queue that stays
//! is not learned as normal; a cut goes a little below what the gradient asks, so that such a moment exists;
//! and losses cut too (the caller's, see [`super::limiter`]).
//!
//! ```text
//!  calm: grow ──── x > tolerance·base ───▶ cut ──── x fell ───▶ calm
//!   │  ▲                                    │
//!   │  └─ base is right ── look ◀─ x far below base: base was a queue, look again
//!   └──── 60 calm windows ──▲               └─ three cuts that changed nothing: just slower, base = x
//! ```

use super::window::Summary;

/// What a window says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// Nothing speaks against more.
    Grow,
    Hold,
    /// What the last look was to show is known: back to before it.
    Return,
    /// The last cuts were for nothing: back to before them.
    Undo,
    /// Congested: this factor of what is in flight.
    Cut(f64),
    /// Not congested, but see what the delay is with less.
    Look(f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Gradient {
    base: Option<f64>,
    /// Of the last cut or look: the mean before, and the factor.
    lowered: Option<(f64, f64)>,
    last: f64,
    calm: u32,
    /// Windows the baseline was learned from.
    learned: u32,
    unhelped: u8,
}

impl Gradient {
    /// Beyond the tolerance without any doubt.
    pub fn is_alarmed(&self, seen: Summary) -> bool {
        let low = seen.mean - ALARM_ERRORS * seen.error;
        self.base.is_some_and(|base| low > tolerance(seen.requests) * base)
    }

    /// `is_used`: at least half of the limit was in flight. `acked`: the share of what was in flight that the
    /// upstream answers in the time it should take, where that is known.
    pub fn judge(&mut self, seen: Summary, is_used: bool, acked: Option<f64>) -> Verdict {
        let Some(base) = self.base else {
            (self.base, self.last) = (Some(seen.mean), seen.mean);
            return if is_used { self.look(seen.mean) } else { Verdict::Grow };
        };
        let lowered = self.lowered.take();
        self.last = seen.mean;
        if let Some((before, factor)) = lowered
            && seen.mean + ERRORS * seen.error < FOUND * base
        {
            // Not the mean: a lucky window would be believed for a minute.
            self.base = Some(seen.mean + seen.error);
            // It fell with what was in flight: all of it is still a queue.
            let is_proportional = seen.mean < before * (factor + PROPORTIONAL);
            return if is_proportional { self.look(seen.mean) } else { Verdict::Return };
        }
        if seen.low() <= tolerance(seen.requests) * base {
            return self.on_calm(base, seen, is_used, lowered.is_some());
        }
        self.calm = 0;
        if !is_used {
            return Verdict::Hold;
        }
        let has_helped = lowered.is_none_or(|(before, _)| seen.mean < HELPED * before);
        self.unhelped = if has_helped { 0 } else { self.unhelped + 1 };
        if self.unhelped == UNHELPED_MAX {
            *self = Gradient { base: Some(seen.mean), last: seen.mean, ..Gradient::default() };
            return Verdict::Undo;
        }
        let factor = depth(base / seen.mean, seen.requests, acked);
        self.lowered = Some((seen.mean, factor));
        Verdict::Cut(factor)
    }

    /// Losses cut by `factor`: as good as a look.
    pub fn on_loss_cut(&mut self, factor: f64) {
        self.calm = 0;
        self.lowered = Some((self.last, factor));
    }

    /// The baseline is learned in the window after a cut, a look or a loss, when there is no queue, and from
    /// the first windows of all. Any other may stand in a queue and teaches only what is surely less.
    fn on_calm(&mut self, base: f64, seen: Summary, is_used: bool, is_lowered: bool) -> Verdict {
        let mean = seen.mean;
        self.unhelped = 0;
        self.calm += 1;
        let is_first = self.learned < FIRST;
        let mut rate = if mean > base { BASE_UP } else { BASE_DOWN };
        if is_first {
            rate = rate.max(1.0 / f64::from(self.learned + 2));
        } else if !is_lowered {
            rate = if mean + ERRORS * seen.error < base { BASE_SURE } else { 0.0 };
        }
        self.learned += u32::from(is_first || is_lowered);
        self.base = Some(base + rate * (mean - base));
        if self.calm < LOOK_EVERY || !is_used { Verdict::Grow } else { self.look(mean) }
    }

    fn look(&mut self, mean: f64) -> Verdict {
        self.calm = 0;
        self.lowered = Some((mean, LOOK));
        Verdict::Look(LOOK)
    }
}

/// Where the upstream slows down, the capacity is `ratio` of what is in flight. Where it queues that is far
/// too little, as a first token takes less than an answer, and what is acknowledged says where to stop.
fn depth(ratio: f64, requests: f64, acked: Option<f64>) -> f64 {
    let drain = DRAIN / tolerance(requests);
    let least = acked.map_or(GRADIENT_MIN, |share| (ACKED * share).clamp(ACKED_MIN, drain));
    ratio.clamp(least, drain)
}

/// By how much the delay of `requests` in flight may be above the baseline: what a queue of [`HEADROOM`]
/// roots of them makes of it where the upstream shares its capacity. A smaller part of an upstream thus
/// stands more delay than a larger one, which is what makes two data planes meet in the middle: with the same
/// share for both, the one whose baseline is a little higher takes all (as with TCP Vegas).
fn tolerance(requests: f64) -> f64 {
    let queued = HEADROOM / requests.max(1.0).sqrt();
    (1.0 / (1.0 - queued)).clamp(TOLERANCE_MIN, TOLERANCE_MAX)
}

/// Requests that may wait at the upstream, in roots of those in flight: 5 of 100, 3 of 30.
const HEADROOM: f64 = 0.5;
/// Smaller differences of the mean are noise.
const TOLERANCE_MIN: f64 = 1.05;
/// Gradient2's, which it has for every limit.
const TOLERANCE_MAX: f64 = 1.5;
/// One window never more than halves (Gradient2) where nothing is known of what is acknowledged.
const GRADIENT_MIN: f64 = 0.5;
/// So far below where the queue began a cut goes at least, that the baseline can be seen: ÷ 1.05 of a hundred
/// and ÷ 1.1 of thirty, which stand more delay before they are cut.
const DRAIN: f64 = 0.88;
/// A little below what is acknowledged, for the same reason.
const ACKED: f64 = 0.95;
/// The rate of twenty answers is not believed for more than this.
const ACKED_MIN: f64 = 0.25;
/// Standard errors beyond the tolerance to act before a window is over.
const ALARM_ERRORS: f64 = 2.5;
/// How deep a look is.
const LOOK: f64 = 0.7;
/// Calm windows without a cut after which the baseline is looked at: a third of a window's work in sixty.
const LOOK_EVERY: u32 = 60;
/// A delay after a cut so far below the baseline shows that the baseline was a queue.
const FOUND: f64 = 0.95;
/// Standard errors for that: with two, one lucky window in forty was believed, and cuts followed.
const ERRORS: f64 = 3.0;
/// How near to the cut's own factor a fall counts as proportional to it.
const PROPORTIONAL: f64 = 0.1;
/// A cut after which the delay is still above this share of what it was has not helped.
const HELPED: f64 = 0.95;
/// So many in a row, and it is not our requests that make it slow: down to an eighth, or a sixty-fourth where
/// the upstream answers less, too.
const UNHELPED_MAX: u8 = 3;
/// The baseline is a moving mean of some ten windows. It falls a little faster than it rises, against a queue
/// that never quite goes; five times as fast would be a minimum, which noise carries down until calm is cut.
const BASE_UP: f64 = 0.1;
const BASE_DOWN: f64 = 0.15;
const BASE_SURE: f64 = 0.25;
/// Windows of which it is a plain mean to begin with.
const FIRST: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(mean: f64) -> Summary {
        Summary { mean, error: 0.0, requests: 100.0, tokens: 0.0 }
    }

    fn settled() -> Gradient {
        let mut gradient = Gradient::default();
        assert_eq!(gradient.judge(seen(1.0), true, None), Verdict::Look(LOOK));
        assert_eq!(gradient.judge(seen(1.0), true, None), Verdict::Grow);
        gradient
    }

    #[test]
    fn growth_ends_at_the_tolerance_and_a_cut_is_as_deep_as_the_gradient() {
        for (mean, verdict) in [
            (1.0, Verdict::Grow),
            (1.05, Verdict::Grow),
            (1.06, Verdict::Cut(DRAIN / tolerance(100.0))),
            (1.6, Verdict::Cut(1.0 / 1.6)),
            (20.0, Verdict::Cut(GRADIENT_MIN)),
        ] {
            assert_eq!(settled().judge(seen(mean), true, None), verdict, "{mean}");
        }
    }

    #[test]
    fn a_cut_goes_as_deep_as_delay_and_acknowledged_rate_agree_on() {
        for (mean, acked, factor) in [
            (4.0, 0.2, ACKED_MIN),
            (20.0, 0.4, ACKED * 0.4),
            (1.5, 0.1, 1.0 / 1.5),
            (20.0, 2.0, DRAIN / tolerance(100.0)),
        ] {
            let cut = settled().judge(seen(mean), true, Some(acked));
            assert_eq!(cut, Verdict::Cut(factor), "{mean} {acked}");
        }
    }

    #[test]
    fn a_window_whose_error_is_larger_than_its_mean_is_calm() {
        let wild = Summary { mean: 1.0, error: 1.0, requests: 100.0, tokens: 0.0 };
        assert_eq!(settled().judge(wild, true, None), Verdict::Grow);
    }

    #[test]
    fn an_alarm_needs_more_than_a_cut() {
        let wide = |mean| Summary { mean, error: 0.1, requests: 100.0, tokens: 0.0 };
        let gradient = settled();
        assert!(gradient.is_alarmed(wide(1.31)) && !gradient.is_alarmed(wide(1.29)));
        assert!(matches!(gradient.clone().judge(wide(1.29), true, None), Verdict::Cut(_)));
        assert!(!Gradient::default().is_alarmed(wide(9.0)));
    }

    #[test]
    fn noise_does_not_carry_the_baseline_away_and_a_queue_between_cuts_does_not_raise_it() {
        let mut gradient = settled();
        for i in 0..600 {
            let noise = [1.04, 0.96][i % 2];
            gradient.judge(Summary { error: 0.04, ..seen(noise) }, true, None);
            gradient.on_loss_cut(0.9);
        }
        let noisy = gradient.base.unwrap();
        assert!((noisy - 1.0).abs() < 0.03, "{noisy}");
        let mut queued = settled();
        (0..FIRST).for_each(|_| assert_eq!(queued.judge(seen(1.0), true, None), Verdict::Grow));
        (0..40).for_each(|_| assert_eq!(queued.judge(seen(1.04), true, None), Verdict::Grow));
        assert_eq!(queued.base, Some(1.0));
    }

    #[test]
    fn a_small_limit_stands_more_delay_than_a_large_one() {
        let tolerances = [1.0, 30.0, 50.0, 100.0, 1e6].map(tolerance);
        assert!(tolerances.is_sorted_by(|small, large| small > large), "{tolerances:?}");
        assert_eq!((tolerances[0], tolerances[4]), (TOLERANCE_MAX, TOLERANCE_MIN));
        assert!((tolerances[3] - 1.0 / 0.95).abs() < 1e-9);
    }

    #[test]
    fn a_limit_that_is_not_used_is_not_cut() {
        assert_eq!(settled().judge(seen(3.0), false, None), Verdict::Hold);
        let mut idle = Gradient::default();
        assert_eq!(idle.judge(seen(1.0), false, None), Verdict::Grow);
    }

    #[test]
    fn a_mean_within_its_own_error_of_the_tolerance_is_calm() {
        let wide = Summary { mean: 1.2, error: 0.08, requests: 100.0, tokens: 0.0 };
        assert_eq!(settled().judge(wide, true, None), Verdict::Grow);
    }

    #[test]
    fn a_first_baseline_that_was_a_queue_is_followed_down_until_it_stops_falling() {
        let mut gradient = Gradient::default();
        // In flight is ten times what the upstream can do, so the delay falls with it.
        let mut in_flight: f64 = 1000.0;
        let mut looks = 0;
        while let Verdict::Look(factor) = gradient.judge(seen((in_flight / 100.0).max(1.0)), true, None) {
            in_flight *= factor;
            looks += 1;
        }
        assert!((50.0..115.0).contains(&in_flight) && looks < 10, "{in_flight} after {looks}");
        assert!((gradient.base.unwrap() - 1.0).abs() < 0.05);
    }

    #[test]
    fn a_server_that_became_slower_is_believed_after_three_cuts_that_changed_nothing() {
        let mut gradient = settled();
        let verdicts: Vec<Verdict> = (0..5).map(|_| gradient.judge(seen(2.0), true, None)).collect();
        let cut = Verdict::Cut(0.5);
        assert_eq!(verdicts, [cut, cut, cut, Verdict::Undo, Verdict::Grow]);
    }

    #[test]
    fn a_limit_that_is_used_and_never_cut_is_looked_below_once_in_sixty_windows() {
        let mut gradient = settled();
        let looks =
            (0..600).filter(|_| matches!(gradient.judge(seen(1.0), true, None), Verdict::Look(_))).count();
        assert_eq!(looks, 10);
    }
}
