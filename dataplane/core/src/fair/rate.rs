//! How fast a band is served while somebody waits in it, learned from what was dispatched, and from that how
//! long a new request will wait. Estimates only: nobody is charged by them.

use std::time::Duration;

use proto_core::units::Moment;

#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Tenths dispatched and nanoseconds they took, both halved every [`HALF_LIFE_NS`].
    tenths: f64,
    span_ns: f64,
    /// The last dispatch, or since when somebody waits.
    last: Moment,
    grants: u32,
}

impl Rate {
    pub const NEW: Rate = Rate { tenths: 0.0, span_ns: 0.0, last: Moment(0), grants: 0 };

    /// Somebody waits again: the time before does not count.
    pub fn on_backlog(&mut self, now: Moment) {
        self.last = now;
    }

    pub fn on_dispatch(&mut self, now: Moment, tenths: u64) {
        let passed = (now - self.last).as_nanos() as f64;
        let keep = (-passed / HALF_LIFE_NS).exp2();
        self.tenths = self.tenths * keep + tenths as f64;
        self.span_ns = self.span_ns * keep + passed;
        self.last = now;
        self.grants = self.grants.saturating_add(1);
    }

    /// The wait behind so many tenths; `None` before enough was seen. A stall since the last dispatch counts.
    pub fn wait(&self, now: Moment, ahead: u64) -> Option<Duration> {
        if self.grants < GRANTS_MIN {
            return None;
        }
        let span = self.span_ns + (now - self.last).as_nanos() as f64;
        let wait_ns = ahead as f64 * span / self.tenths.max(1.0);
        Some(Duration::from_nanos(wait_ns as u64))
    }
}

/// Long enough to span answers of some seconds, short enough to follow a limit that moves.
const HALF_LIFE_NS: f64 = 10e9;
/// A first burst into free room says nothing about the rate.
const GRANTS_MIN: u32 = 16;
