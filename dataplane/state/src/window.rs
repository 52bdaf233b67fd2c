//! What a tenant or a session may have: calls at once, tokens and money, in one cache line.
//!
//! Each axis is a word, stepped by the pure steps of [`dataplane_core::admit::window`]. A reservation takes
//! them in a fixed order and gives back in reverse what it has where a later one refuses. So the sum of
//! reservations never exceeds an axis at any time, not even for a moment; the price is that somebody may be
//! refused for what another is about to give back. A refusal therefore looks once more. Never waits.
//!
//! An axis without a limit is not counted: it costs one load. A limit that comes later counts who comes after
//! it, so what was let in before may stand above it until it is home.

use dataplane_core::admit::window::{self, Axis, Kinds, Limits, Need, UNLIMITED};
use proto_core::units::Picodollars;

use crate::sync::{AtomicU64, Ordering};

/// The triplet of one tenant or session.
#[derive(Debug)]
#[repr(align(64))] // one line, and nobody else's
pub struct Window {
    /// By [`Axis`]: reserved, and on a spent axis also used.
    levels: [AtomicU64; 3],
    /// By [`Axis`]; [`UNLIMITED`] for none.
    limits: [AtomicU64; 3],
    kinds: Kinds,
}

/// What one request holds of one window: goes back to it with [`Window::settle`], exactly once.
#[derive(Debug, Default)]
#[must_use = "goes back with `settle`"]
pub struct Reserved {
    /// Axes that were not limited are zero: they were not counted.
    held: [u64; 3],
}

impl Window {
    pub fn new(kinds: Kinds, limits: Limits) -> Window {
        let level = |_| AtomicU64::new(0);
        let limits = Axis::ALL.map(|axis| AtomicU64::new(limits.of(axis)));
        Window { levels: Axis::ALL.map(level), limits, kinds }
    }

    /// Takes all of `need`, or nothing and says which axis refused.
    pub fn reserve(&self, need: Need) -> Result<Reserved, Axis> {
        let mut reserved = Reserved::default();
        self.extend(&mut reserved, need)?;
        Ok(reserved)
    }

    /// Takes all of `more` on top, or nothing and says which axis refused. What is asked of an axis as zero
    /// is granted even in debt.
    pub fn extend(&self, reserved: &mut Reserved, more: Need) -> Result<(), Axis> {
        // Once more, because the first may have met what another was about to give back.
        let taken = self.take(more).or_else(|_| self.take(more))?;
        for (held, taken) in reserved.held.iter_mut().zip(taken) {
            // Cannot overflow: the sum is part of a level, which did not.
            *held += taken;
        }
        Ok(())
    }

    /// A request is over: gives back what it held, but on spent axes what it `used`.
    pub fn settle(&self, reserved: Reserved, used: Need) {
        for axis in Axis::ALL.into_iter().rev() {
            self.put_back(axis, reserved.held[axis as usize], used.of(axis));
        }
    }

    fn take(&self, need: Need) -> Result<[u64; 3], Axis> {
        let mut taken = [0; 3];
        for axis in Axis::ALL {
            match self.take_one(axis, need.of(axis)) {
                Some(counted) => taken[axis as usize] = counted,
                None => {
                    self.undo(axis, taken);
                    return Err(axis);
                }
            }
        }
        Ok(taken)
    }

    /// What was counted: all of it, or nothing where the axis has no limit. `None`: refused.
    fn take_one(&self, axis: Axis, need: u64) -> Option<u64> {
        if need == 0 {
            return Some(0);
        }
        let level = &self.levels[axis as usize];
        // Order: relaxed throughout, but for success below: the word is the whole state of its axis, and
        // limits are advice that takes effect at the next look.
        let mut now = level.load(Ordering::Relaxed);
        loop {
            // Order: relaxed, see above.
            let limit = self.limits[axis as usize].load(Ordering::Relaxed);
            if limit == UNLIMITED {
                return Some(0);
            }
            let next = window::reserved(now, limit, need)?;
            // Order: acquire pairs with the release in `step`: whoever has room sees what its last holder
            // did.
            match level.compare_exchange_weak(now, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(need),
                Err(seen) => now = seen,
            }
        }
    }

    /// Gives back what was taken before `axis` refused.
    #[cold]
    fn undo(&self, axis: Axis, taken: [u64; 3]) {
        for before in Axis::ALL.into_iter().take(axis as usize).rev() {
            self.step(before, |level| level.saturating_sub(taken[before as usize]));
        }
    }

    fn put_back(&self, axis: Axis, held: u64, used: u64) {
        // Order: relaxed, as in `take_one`.
        let is_counted = self.limits[axis as usize].load(Ordering::Relaxed) != UNLIMITED;
        // What was used of an axis that is not limited now is counted by nobody.
        let used = if is_counted { used } else { 0 };
        let kind = self.kinds.of(axis);
        self.step(axis, |level| {
            debug_assert!(level >= held, "a reservation goes back once");
            window::settled(level, kind, held, used)
        });
    }

    fn step(&self, axis: Axis, step: impl Fn(u64) -> u64) {
        let level = &self.levels[axis as usize];
        // Order: relaxed, the word is the whole state.
        let mut now = level.load(Ordering::Relaxed);
        loop {
            let next = step(now);
            if next == now {
                return;
            }
            // Order: release, see `take_one`.
            match level.compare_exchange_weak(now, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => now = seen,
            }
        }
    }

    /// From the newest snapshot. Lowered below what is held it drains.
    pub fn set_limits(&self, limits: Limits) {
        for axis in Axis::ALL {
            // Order: relaxed, as in `take_one`.
            self.limits[axis as usize].store(limits.of(axis), Ordering::Relaxed);
        }
    }

    /// Each axis to the lesser of what it is and what `limits` says; never widens, whoever else narrows.
    pub fn narrow(&self, limits: Limits) {
        for axis in Axis::ALL {
            // Order: relaxed, as in `take_one`.
            self.limits[axis as usize].fetch_min(limits.of(axis), Ordering::Relaxed);
        }
    }

    pub fn limits(&self) -> Limits {
        // Order: relaxed, numbers for people.
        let of = |axis: Axis| self.limits[axis as usize].load(Ordering::Relaxed);
        let limit = |axis| Some(of(axis)).filter(|limit| *limit != UNLIMITED);
        Limits {
            // A limit of calls that does not fit was given as `u32`, so there is none.
            calls: limit(Axis::Calls).and_then(|calls| u32::try_from(calls).ok()),
            tokens: limit(Axis::Tokens),
            picodollars: limit(Axis::Money).map(Picodollars),
        }
    }

    /// What is held, and on spent axes was used; axes that are not limited are not counted. For metrics: may
    /// be stale by the time it is read, and each axis at another moment.
    pub fn level(&self) -> Need {
        // Order: relaxed, numbers for people.
        let of = |axis: Axis| self.levels[axis as usize].load(Ordering::Relaxed);
        Need {
            calls: u32::try_from(of(Axis::Calls)).unwrap_or(u32::MAX),
            tokens: of(Axis::Tokens),
            picodollars: Picodollars(of(Axis::Money)),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn need(calls: u32, tokens: u64, picodollars: u64) -> Need {
        Need { calls, tokens, picodollars: Picodollars(picodollars) }
    }

    fn limits(calls: u32, tokens: u64, picodollars: u64) -> Limits {
        Limits { calls: Some(calls), tokens: Some(tokens), picodollars: Some(Picodollars(picodollars)) }
    }

    #[test]
    fn is_one_cache_line() {
        assert_eq!((size_of::<Window>(), align_of::<Window>()), (64, 64));
    }

    #[test]
    fn a_refusal_names_the_axis_and_leaves_nothing_behind() {
        let window = Window::new(Kinds::TENANT, limits(2, 10, 100));
        let first = window.reserve(need(1, 6, 60)).unwrap();
        assert_eq!(window.reserve(need(1, 5, 10)).unwrap_err(), Axis::Tokens);
        assert_eq!(window.reserve(need(1, 4, 41)).unwrap_err(), Axis::Money);
        assert_eq!(window.reserve(need(2, 1, 1)).unwrap_err(), Axis::Calls);
        assert_eq!(window.level(), need(1, 6, 60));
        window.settle(first, need(1, 3, 90));
        assert_eq!(window.level(), Need::default(), "in flight on all axes");
    }

    #[test]
    fn a_session_spends_what_is_used_and_a_debt_refuses_the_next() {
        let window = Window::new(Kinds::SESSION, limits(1, 10, 100));
        let mut held = window.reserve(need(1, 6, 60)).unwrap();
        assert_eq!(window.extend(&mut held, need(0, 5, 0)), Err(Axis::Tokens));
        assert_eq!(window.extend(&mut held, need(0, 4, 0)), Ok(()));
        window.settle(held, need(1, 12, 50));
        assert_eq!(window.level(), need(0, 12, 50));
        assert_eq!(window.reserve(need(1, 1, 1)).unwrap_err(), Axis::Tokens);
    }

    #[test]
    fn an_axis_without_a_limit_is_not_counted_and_one_that_comes_later_counts_from_then() {
        let window = Window::new(Kinds::SESSION, Limits::NONE);
        let early = window.reserve(need(1, 600, 6)).unwrap();
        assert_eq!(window.level(), Need::default());
        window.narrow(limits(1, 100, 100));
        let late = window.reserve(need(1, 50, 5)).unwrap();
        window.settle(early, need(1, 20, 6));
        assert_eq!(window.level(), need(1, 70, 11), "what it used was spent after the limit came");
        window.set_limits(Limits::NONE);
        window.settle(late, need(1, 50, 5));
        assert_eq!(window.level(), need(0, 20, 6));
    }

    #[test]
    fn narrowing_never_widens() {
        let window = Window::new(Kinds::SESSION, limits(3, 10, 100));
        window.narrow(limits(9, 5, 900));
        window.narrow(Limits::NONE);
        assert_eq!(window.limits(), limits(3, 5, 100));
    }

    #[test]
    fn a_limit_lowered_below_what_is_held_drains() {
        let window = Window::new(Kinds::TENANT, limits(2, 10, 100));
        let (one, two) = (window.reserve(need(1, 5, 5)).unwrap(), window.reserve(need(1, 5, 5)).unwrap());
        window.set_limits(limits(1, 10, 100));
        window.settle(one, Need::default());
        assert_eq!(window.reserve(need(1, 1, 1)).unwrap_err(), Axis::Calls);
        window.settle(two, Need::default());
        assert!(window.reserve(need(1, 1, 1)).is_ok());
    }
}
