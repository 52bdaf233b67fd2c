//! When a window that has changed is told: soon where it matters, seldom where it does not.
//!
//! ```text
//!               set: by 20 % or more in one of the three      HOLD since the last one: told
//!  Told (same) ───────────────────────────────────────> Large ──────────────────────────────> Told
//!     │  ^  └── set: by less ──> Small ── HOLD since it began to differ ──────────────────────^
//!     └──┘ set: back to what was told
//! ```

use std::time::Duration;

use crate::frame::Window;
use crate::units::Moment;

/// What the other end was told of its window, and what there is to tell.
#[derive(Debug)]
pub(super) struct Advert {
    current: Window,
    told: Option<Window>,
    /// The last update; the opening is none.
    updated_at: Option<Moment>,
    /// Since when it differs from what was told.
    changed_at: Moment,
}

impl Advert {
    /// `told`: with the opening.
    pub fn new(told: Option<Window>) -> Advert {
        Advert { current: told.unwrap_or_default(), told, updated_at: None, changed_at: Moment::default() }
    }

    pub fn current(&self) -> Window {
        self.current
    }

    pub fn set(&mut self, window: Window, now: Moment) {
        if self.told.is_none_or(|told| told == self.current) {
            self.changed_at = now;
        }
        self.current = window;
    }

    pub fn due(&self) -> Option<Moment> {
        let Some(told) = self.told else {
            return (self.current != Window::default()).then_some(self.changed_at);
        };
        if told == self.current {
            return None;
        }
        let held = self.updated_at.map(|at| at + HOLD);
        let at = if is_large(told, self.current) { self.changed_at } else { self.changed_at + HOLD };
        Some(held.map_or(at, |held| held.max(at)))
    }

    /// The window, whether it is time or not: it also stands beside a refusal.
    pub fn tell(&mut self, now: Moment) -> Window {
        self.told = Some(self.current);
        self.updated_at = Some(now);
        self.current
    }
}

fn is_large(told: Window, current: Window) -> bool {
    let differs = |told: u64, current: u64| {
        u128::from(told.abs_diff(current)) * 100 >= u128::from(told) * LARGE_PERCENT && told != current
    };
    differs(told.max_parallel.into(), current.max_parallel.into())
        || differs(told.max_tokens, current.max_tokens)
        || differs(told.max_usd_micros, current.max_usd_micros)
}

/// Between two updates. Whoever adapts to a window needs to see what the last one did.
pub(super) const HOLD: Duration = Duration::from_millis(500);

/// Below that, what is under way changes more than the window did.
const LARGE_PERCENT: u128 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn window(max_tokens: u64) -> Window {
        Window { max_parallel: 4, max_tokens, max_usd_micros: 1_000_000 }
    }

    fn poll(advert: &mut Advert, now: Moment) -> Option<Window> {
        advert.due().filter(|due| *due <= now).map(|_| advert.tell(now))
    }

    fn at(millis: u64) -> Moment {
        Moment(millis * MILLI)
    }

    #[test]
    fn a_change_of_a_fifth_is_told_at_once_and_a_smaller_one_at_the_cadence() {
        for (tokens, due) in
            [(1000, None), (1200, Some(10)), (1199, Some(510)), (800, Some(10)), (801, Some(510))]
        {
            let mut advert = Advert::new(Some(window(1000)));
            advert.set(window(tokens), at(10));
            assert_eq!(advert.due(), due.map(at), "{tokens}");
            assert_eq!(poll(&mut advert, at(9)), None);
            if let Some(due) = due {
                assert_eq!(poll(&mut advert, at(due)), Some(window(tokens)));
                assert_eq!(advert.due(), None);
            }
        }
    }

    #[test]
    fn no_update_comes_within_the_hold_of_the_last_one_however_large() {
        let mut advert = Advert::new(Some(window(1000)));
        advert.set(window(2000), at(10));
        assert_eq!(poll(&mut advert, at(10)), Some(window(2000)));
        advert.set(window(4000), at(20));
        assert_eq!(advert.due(), Some(at(510)));
        assert_eq!(poll(&mut advert, at(509)), None);
        advert.set(window(5000), at(509));
        assert_eq!(poll(&mut advert, at(510)), Some(window(5000)));
    }

    #[test]
    fn what_is_back_where_it_was_is_not_told_and_drift_is_counted_from_what_was_told() {
        let mut advert = Advert::new(Some(window(1000)));
        advert.set(window(1100), at(0));
        advert.set(window(1000), at(10));
        assert_eq!(advert.due(), None);
        advert.set(window(1100), at(100));
        advert.set(window(1210), at(200));
        assert_eq!(poll(&mut advert, at(200)), Some(window(1210)));
    }

    #[test]
    fn the_first_of_an_end_that_told_none_with_the_opening_goes_at_once() {
        let mut advert = Advert::new(None);
        assert_eq!(advert.due(), None);
        advert.set(window(1), at(7));
        assert_eq!(poll(&mut advert, at(7)), Some(window(1)));
    }
}
