//! One limit and how it moves: up a little near where it last met the end of the capacity, up by a factor
//! beyond that or before it was ever met, down to what is told. It never decides which.

use std::time::Duration;

use proto_core::units::Moment;

/// Counted in units of its axis: 1 for requests, the tokens of an average request for tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Level {
    /// Infinite: not limited.
    value: f64,
    /// Where congestion was last met; 0: never.
    knee: f64,
    /// What it last grew by beyond the knee, or what it is to double.
    stride: f64,
    max: f64,
    cut_at: Option<Moment>,
    /// What it was before it grew by a factor, where that was the last thing it did.
    probed_from: Option<f64>,
    /// What it was before a look.
    looked_from: Option<f64>,
    /// What it was before the first of several cuts in a row.
    cut_from: Option<f64>,
}

impl Level {
    pub fn new(start: f64, max: f64) -> Level {
        Level {
            value: start.clamp(1.0, max),
            knee: 0.0,
            stride: 0.0,
            max,
            cut_at: None,
            probed_from: None,
            looked_from: None,
            cut_from: None,
        }
    }

    /// What is learned stays, within the new maximum. A limit that was not limited takes the maximum.
    pub fn resize(&mut self, max: f64) {
        self.max = max;
        self.value = self.value.min(max);
    }

    pub fn value(&self) -> f64 {
        self.value
    }

    /// Somebody waits and nothing speaks against more. Below the knee a step; from there on twice the last
    /// step each time, up to a factor: what stood there has gone.
    pub fn grow(&mut self, unit: f64) {
        self.cut_from = None;
        let step = step(self.value / unit) * unit;
        let most = (self.value * (PROBE - 1.0)).max(unit);
        self.stride = if self.knee == 0.0 {
            most
        } else if self.value >= self.knee {
            (2.0 * self.stride).max(step).min(most)
        } else {
            step
        };
        let is_probe = self.stride >= PROBE_MIN * self.value && self.value.is_finite();
        self.probed_from = is_probe.then_some(self.value);
        self.value = (self.value + self.stride).min(self.max);
    }

    /// Congestion was met with `used` in flight. A limit far above what was used is no limit: the cut starts
    /// from what was used (as a TCP sender validates its window, RFC 7661). If a probe led there, the level
    /// before was well, the cut goes no deeper (as slow start ends at half of what it met), and the next
    /// probe goes half as far. A cut deeper than any probe explains goes all the way.
    pub fn cut(&mut self, used: f64, factor: f64, unit: f64, now: Moment) {
        self.knee = self.value.min(used.max(unit));
        self.looked_from = None;
        self.cut_from = self.cut_from.or(Some(self.value));
        let probed_from = self.probed_from.take().filter(|_| factor >= EXPLAINED);
        let was_well = probed_from.unwrap_or(0.0).min(self.knee);
        self.lower(used, factor, unit, now);
        if was_well > self.value {
            (self.value, self.knee) = (was_well, was_well);
            self.stride /= 4.0;
            return;
        }
        self.stride = 0.0;
        if factor < DEEP {
            self.knee = self.knee.min(DEEP_KNEE * self.value);
        }
    }

    /// A cut that is never taken back.
    pub fn cut_for_loss(&mut self, used: f64, factor: f64, unit: f64, now: Moment) {
        self.cut(used, factor, unit, now);
        self.cut_from = None;
    }

    /// Cuts since it last grew are taken back, and so is what they said of the knee.
    pub fn undo_cuts(&mut self) {
        if let Some(before) = self.cut_from.take() {
            (self.value, self.knee) = (before.min(self.max), 0.0);
        }
    }

    /// Less for a window, to see what the delay is then. Of looks in a row only the last can be taken back.
    pub fn look(&mut self, used: f64, factor: f64, unit: f64, now: Moment) {
        self.looked_from = Some(self.value);
        self.lower(used, factor, unit, now);
    }

    /// The look is over; with `back` it showed nothing, and the level is again what it was.
    pub fn end_look(&mut self, back: bool) {
        if let Some(before) = self.looked_from.take().filter(|_| back) {
            self.value = before.min(self.max);
        }
    }

    fn lower(&mut self, used: f64, factor: f64, unit: f64, now: Moment) {
        let from = self.value.min(used.max(unit));
        self.value = (from * factor).max(unit).min(self.max);
        self.probed_from = None;
        self.cut_at = Some(now);
    }

    /// Whether a loss is news: of a request sent since the last cut, and that a whole epoch ago.
    pub fn may_cut(&self, dispatched_at: Moment, now: Moment, epoch: Duration) -> bool {
        self.cut_at.is_none_or(|cut_at| dispatched_at >= cut_at && now >= cut_at + epoch)
    }

    /// Goes `share` (0 to 1) of the way to `target`.
    pub fn drift(&mut self, target: f64, share: f64) {
        if self.value.is_finite() {
            self.value = (self.value + (target.min(self.max) - self.value) * share).clamp(1.0, self.max);
            self.knee = 0.0;
        }
    }
}

/// The queue Gradient2 leaves at the upstream, 4, and its root where that is more; a quarter of it a
/// window is near what that algorithm's smoothing lets through, a fifth.
fn step(units: f64) -> f64 {
    (SMOOTHING * units.sqrt().max(HEADROOM_MIN)).max(1.0)
}

/// Growth by a factor, per window: from 30 to 100 in 6 windows, and an overshoot of a quarter at most.
const PROBE: f64 = 1.25;
/// Growth by this share at once is a probe. What is less has its own step to go back.
const PROBE_MIN: f64 = 0.1;
/// A probe of a quarter makes a delay of a quarter, or a queue: not one that asks for half.
const EXPLAINED: f64 = 0.48;
/// A cut to less than this was no step too far: the end of the capacity is not where it was met.
const DEEP: f64 = 0.8;
/// It is then assumed this far above where the cut went.
const DEEP_KNEE: f64 = 1.1;
/// With a fifth, the climb from a cut of thirty to its knee takes eight windows of the fifteen a return may.
const SMOOTHING: f64 = 0.25;
const HEADROOM_MIN: f64 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_never_met_its_end_grows_by_a_factor() {
        let mut level = Level::new(20.0, 1000.0);
        level.grow(1.0);
        assert_eq!(level.value(), 25.0);
    }

    #[test]
    fn below_its_knee_a_level_grows_by_a_quarter_of_its_root_and_beyond_by_twice_as_much_each_time() {
        let mut level = Level::new(100.0, 1000.0);
        level.cut(100.0, 0.81, 1.0, Moment(0));
        level.grow(1.0);
        assert_eq!(level.value(), 81.0 + 0.25 * 9.0);
        let steps = (0..100).take_while(|_| {
            level.grow(1.0);
            level.value() < 100.0
        });
        assert_eq!(steps.count(), 7);
        let mut values = vec![level.value()];
        (0..5).for_each(|_| {
            level.grow(1.0);
            values.push(level.value());
        });
        let grown: Vec<f64> = values.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!((1..3).all(|i| (grown[i] / grown[i - 1] - 2.0).abs() < 1e-9), "{grown:?}");
        assert!((values[5] / values[4] - 1.25).abs() < 1e-9, "{values:?}");
    }

    #[test]
    fn a_cut_starts_from_what_was_used_and_ends_at_one_unit() {
        let mut level = Level::new(1000.0, 1000.0);
        level.cut(100.0, 0.9, 1.0, Moment(0));
        assert_eq!(level.value(), 90.0);
        (0..100).for_each(|_| level.cut(level.value(), 0.5, 1.0, Moment(0)));
        assert_eq!(level.value(), 1.0);
    }

    #[test]
    fn what_is_not_limited_is_limited_by_its_first_cut_and_grows_in_its_own_units() {
        let mut level = Level::new(f64::INFINITY, f64::INFINITY);
        level.grow(500.0);
        assert_eq!(level.value(), f64::INFINITY);
        level.cut(50_000.0, 0.9, 500.0, Moment(0));
        assert_eq!(level.value(), 45_000.0);
        level.grow(500.0);
        assert!((level.value() - 45_000.0 - 0.25 * 90f64.sqrt() * 500.0).abs() < 1e-6);
    }

    #[test]
    fn a_look_that_showed_nothing_is_taken_back_and_a_cut_within_it_is_not() {
        let mut level = Level::new(100.0, 1000.0);
        level.look(100.0, 0.7, 1.0, Moment(0));
        assert_eq!(level.value(), 70.0);
        level.end_look(true);
        assert_eq!(level.value(), 100.0);
        level.look(100.0, 0.7, 1.0, Moment(0));
        level.end_look(false);
        level.end_look(true);
        assert_eq!(level.value(), 70.0);
        level.look(70.0, 0.5, 1.0, Moment(0));
        level.cut(35.0, 0.8, 1.0, Moment(0));
        level.end_look(true);
        assert_eq!(level.value(), 28.0);
    }

    #[test]
    fn cuts_in_a_row_are_taken_back_together_and_neither_those_before_growth_nor_those_for_losses() {
        let mut level = Level::new(100.0, 1000.0);
        level.cut(100.0, 0.8, 1.0, Moment(0));
        level.grow(1.0);
        let grown = level.value();
        [0.5, 0.5].iter().for_each(|factor| level.cut(100.0, *factor, 1.0, Moment(0)));
        assert_eq!(level.value(), grown / 4.0);
        level.undo_cuts();
        assert_eq!(level.value(), grown);
        level.cut_for_loss(100.0, 0.5, 1.0, Moment(0));
        level.undo_cuts();
        assert_eq!(level.value(), grown / 2.0);
    }

    #[test]
    fn a_probe_that_met_congestion_is_taken_back_the_next_goes_half_as_far_and_a_second_cut_deep() {
        let mut level = Level::new(80.0, 1000.0);
        level.grow(1.0);
        assert_eq!(level.value(), 100.0);
        level.cut(100.0, 0.5, 1.0, Moment(0));
        assert_eq!(level.value(), 80.0);
        level.grow(1.0);
        assert_eq!(level.value(), 90.0);
        level.cut(90.0, 0.6, 1.0, Moment(0));
        assert_eq!(level.value(), 80.0);
        level.cut(80.0, 0.5, 1.0, Moment(0));
        assert_eq!(level.value(), 40.0);
    }

    #[test]
    fn a_cut_deeper_than_a_probe_explains_goes_all_the_way_and_leaves_a_knee_just_above_it() {
        let mut level = Level::new(80.0, 1000.0);
        level.grow(1.0);
        level.cut(100.0, 0.3, 1.0, Moment(0));
        assert_eq!(level.value(), 30.0);
        let windows = (0..100).take_while(|_| {
            level.grow(1.0);
            level.value() < 80.0
        });
        assert!(windows.count() < 9);
    }

    #[test]
    fn a_loss_is_news_if_sent_since_the_last_cut_and_an_epoch_after_it() {
        let mut level = Level::new(100.0, 100.0);
        let epoch = Duration::from_secs(1);
        let at = |ms| Moment(0) + Duration::from_millis(ms);
        assert!(level.may_cut(at(0), at(0), epoch));
        level.cut(100.0, 0.9, 1.0, at(500));
        assert!(!level.may_cut(at(499), at(5000), epoch));
        assert!(!level.may_cut(at(500), at(1499), epoch));
        assert!(level.may_cut(at(500), at(1500), epoch));
    }

    #[test]
    fn nothing_passes_the_maximum() {
        let mut level = Level::new(90.0, 100.0);
        (0..10).for_each(|_| level.grow(1.0));
        assert_eq!(level.value(), 100.0);
        level.resize(10.0);
        assert_eq!(level.value(), 10.0);
        level.resize(50.0);
        assert_eq!(level.value(), 10.0);
    }
}
