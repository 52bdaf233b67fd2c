//! The window of one session in calls, moved by how its answers come: one word, stepped by
//! [`SessionWindow`]'s pure transitions. Never holds a call back: whoever grants windows reads it.

use std::time::Duration;

use dataplane_core::limit::{SessionSettings, SessionWindow};
use proto_core::units::Moment;

use crate::sync::{AtomicU32, Ordering};

/// Of one session.
#[derive(Debug)]
pub struct FlowCell(AtomicU32);

impl FlowCell {
    pub fn new() -> FlowCell {
        FlowCell(AtomicU32::new(SessionSettings::default().base))
    }

    /// Calls it may have at once.
    pub fn current(&self) -> u32 {
        // Order: relaxed throughout. The word is the whole state and guards nothing beside it.
        self.0.load(Ordering::Relaxed)
    }

    /// An answer came well, after `latency`. True where the window moved.
    pub fn on_answer(&self, latency: Duration, seed: u64) -> bool {
        self.step(|window| window.on_answer(NOW, latency, seed))
    }

    /// An answer failed, or a frame came marked. True where the window moved.
    pub fn on_failure(&self) -> bool {
        self.step(|window| window.on_failure(NOW))
    }

    /// Nothing was heard of it for long: it begins anew.
    pub fn on_idle(&self) {
        // Order: relaxed, see above.
        self.0.store(SessionSettings::default().base, Ordering::Relaxed);
    }

    fn step(&self, step: impl Fn(&mut SessionWindow)) -> bool {
        // Order: relaxed, see above.
        let mut now = self.0.load(Ordering::Relaxed);
        loop {
            let mut window = SessionWindow::resumed(SessionSettings::default(), now, NOW);
            step(&mut window);
            if window.current() == now {
                return false;
            }
            // Order: relaxed, see above.
            match self.0.compare_exchange_weak(now, window.current(), Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(seen) => now = seen,
            }
        }
    }
}

impl Default for FlowCell {
    fn default() -> FlowCell {
        FlowCell::new()
    }
}

/// When it was heard of is its session's to know.
const NOW: Moment = Moment(0);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(100);
    const SLOW: Duration = Duration::from_millis(3000);

    #[test]
    fn it_grows_by_one_halves_when_slow_falls_to_one_when_it_fails_and_begins_anew() {
        let flow = FlowCell::new();
        assert_eq!(flow.current(), 4);
        assert!(flow.on_answer(FAST, 0) && flow.on_answer(FAST, 0));
        assert_eq!(flow.current(), 6);
        assert!((0..100).filter(|_| flow.on_answer(FAST, 0)).count() == 48, "growth ends at 54");
        assert!(flow.on_answer(SLOW, 0));
        assert_eq!(flow.current(), 27);
        assert_eq!((0..10).filter(|_| flow.on_failure()).count(), 4, "27, 13, 6, 3, 1");
        assert_eq!(flow.current(), 1);
        assert!(!flow.on_failure());
        flow.on_idle();
        assert_eq!(flow.current(), 4);
    }
}
