//! The circuit breaker of one upstream, as a pure step over one packed word.
//!
//! ```text
//!            failures ≥ FAILURES_MAX                   TRIPPED_FOR passed
//!  Passing ─────────────────────────▶ Tripped ───────────────────────────▶ Probing
//!     ▲                                  ▲   one probe at a time, others refused │
//!     │                                  └───────────── the probe fails ─────────┤
//!     └───────────────────────────────────── PROBES_NEEDED succeed ──────────────┘
//! ```
//! A success while passing forgives one failure. A probe that ends without a verdict (its client went away)
//! makes room for the next; one that never ends does so after [`TRIPPED_FOR`].

use std::time::Duration;

use proto_core::units::Moment;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breaker {
    Passing { failures: u8 },
    Tripped { since: Tick },
    Probing { succeeded: u8, probe: Option<Tick> },
}

/// A millisecond of the monotonic clock, so that a breaker fits one word; 48 bits last 8,900 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u64);

/// Whether a request may go to this upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Pass,
    /// Pass, and its outcome decides: exactly one of `on_success`, `on_failure`, `on_abandoned` must follow.
    Probe,
    Refuse,
}

impl Breaker {
    pub const NEW: Breaker = Breaker::Passing { failures: 0 };

    /// May a request pass at `now`? The first part is the state to store.
    pub fn on_request(self, now: Moment) -> (Breaker, Verdict) {
        let now = Tick::of(now);
        match self {
            Breaker::Passing { .. } => (self, Verdict::Pass),
            Breaker::Tripped { since } if now.reached(since) => {
                (Breaker::Probing { succeeded: 0, probe: Some(now) }, Verdict::Probe)
            }
            Breaker::Tripped { .. } => (self, Verdict::Refuse),
            Breaker::Probing { succeeded, probe } => match probe {
                Some(begun) if !now.reached(begun) => (self, Verdict::Refuse),
                _ => (Breaker::Probing { succeeded, probe: Some(now) }, Verdict::Probe),
            },
        }
    }

    pub fn on_success(self, probe: bool) -> Breaker {
        match self {
            Breaker::Passing { failures } => Breaker::Passing { failures: failures.saturating_sub(1) },
            Breaker::Probing { succeeded, .. } if probe => match succeeded + 1 {
                PROBES_NEEDED.. => Breaker::NEW,
                succeeded => Breaker::Probing { succeeded, probe: None },
            },
            // A request from before the trip that ends well says nothing about now.
            other => other,
        }
    }

    pub fn on_failure(self, probe: bool, now: Moment) -> Breaker {
        match self {
            Breaker::Passing { failures } if failures + 1 < FAILURES_MAX => {
                Breaker::Passing { failures: failures + 1 }
            }
            Breaker::Passing { .. } => Breaker::Tripped { since: Tick::of(now) },
            Breaker::Probing { .. } if probe => Breaker::Tripped { since: Tick::of(now) },
            other => other,
        }
    }

    /// The probe ended without a verdict.
    pub fn on_abandoned(self) -> Breaker {
        match self {
            Breaker::Probing { succeeded, .. } => Breaker::Probing { succeeded, probe: None },
            other => other,
        }
    }

    /// Tripped, and not even a probe would pass.
    pub fn is_resting(self, now: Moment) -> bool {
        matches!(self, Breaker::Tripped { since } if !Tick::of(now).reached(since))
    }

    /// As one word: tag in bits 0-1, count in bits 8-15, tick in bits 16-63 (0: no probe).
    pub fn pack(self) -> u64 {
        match self {
            Breaker::Passing { failures } => u64::from(failures) << 8,
            Breaker::Tripped { since } => 1 | since.0 << 16,
            Breaker::Probing { succeeded, probe } => {
                2 | u64::from(succeeded) << 8 | probe.map_or(0, |begun| begun.0) << 16
            }
        }
    }

    pub fn unpack(word: u64) -> Breaker {
        let count = (word >> 8) as u8;
        let tick = word >> 16;
        match word & 3 {
            0 => Breaker::Passing { failures: count },
            1 => Breaker::Tripped { since: Tick(tick) },
            _ => Breaker::Probing { succeeded: count, probe: (tick != 0).then_some(Tick(tick)) },
        }
    }

    /// For metrics and people.
    pub fn as_str(self) -> &'static str {
        match self {
            Breaker::Passing { .. } => "passing",
            Breaker::Tripped { .. } => "tripped",
            Breaker::Probing { .. } => "probing",
        }
    }
}

impl Tick {
    fn of(now: Moment) -> Tick {
        // Never 0, which means "no probe" when packed; masked to the 48 bits there are.
        Tick((now.0 / 1_000_000).clamp(1, (1 << 48) - 1))
    }

    fn reached(self, since: Tick) -> bool {
        self.0.saturating_sub(since.0) >= TRIPPED_FOR.as_millis() as u64
    }
}

/// Failures, successes subtracted, that trip it.
pub const FAILURES_MAX: u8 = 5;
/// How long nothing passes after a trip.
pub const TRIPPED_FOR: Duration = Duration::from_secs(30);
/// Probes in a row that must succeed before all may pass.
pub const PROBES_NEEDED: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(0) + Duration::from_secs(seconds)
    }

    fn tripped() -> Breaker {
        (0..FAILURES_MAX).fold(Breaker::NEW, |breaker, _| breaker.on_failure(false, at(100)))
    }

    #[test]
    fn trips_after_five_failures_and_a_success_forgives_one() {
        let four = (0..4).fold(Breaker::NEW, |breaker, _| breaker.on_failure(false, at(1)));
        assert_eq!(four, Breaker::Passing { failures: 4 });
        assert_eq!(four.on_success(false), Breaker::Passing { failures: 3 });
        assert!(matches!(four.on_failure(false, at(1)), Breaker::Tripped { .. }));
    }

    #[test]
    fn lets_exactly_one_probe_through_after_thirty_seconds() {
        assert_eq!(tripped().on_request(at(129)).1, Verdict::Refuse);
        let (probing, verdict) = tripped().on_request(at(130));
        assert_eq!(verdict, Verdict::Probe);
        assert_eq!(probing.on_request(at(131)).1, Verdict::Refuse);
        let (next, verdict) = probing.on_success(true).on_request(at(131));
        assert_eq!(verdict, Verdict::Probe);
        assert_eq!(next.on_success(true), Breaker::NEW);
    }

    #[test]
    fn rests_until_a_probe_may_pass() {
        assert!(!Breaker::NEW.is_resting(at(1)));
        assert!(tripped().is_resting(at(129)) && !tripped().is_resting(at(130)));
        assert!(!tripped().on_request(at(130)).0.is_resting(at(131)));
    }

    #[test]
    fn a_failed_probe_trips_again_and_an_abandoned_one_makes_room() {
        let (probing, _) = tripped().on_request(at(130));
        assert_eq!(probing.on_failure(true, at(131)).on_request(at(132)).1, Verdict::Refuse);
        assert_eq!(probing.on_abandoned().on_request(at(132)).1, Verdict::Probe);
        assert_eq!(
            probing.on_request(at(160)).1,
            Verdict::Probe,
            "a probe that never ends does not block for ever"
        );
    }

    #[test]
    fn outcomes_of_requests_from_before_the_trip_change_nothing() {
        let (probing, _) = tripped().on_request(at(130));
        assert_eq!(probing.on_success(false), probing);
        assert_eq!(probing.on_failure(false, at(131)), probing);
        assert_eq!(tripped().on_success(false), tripped());
    }

    #[test]
    fn every_state_survives_its_word() {
        let (probing, _) = tripped().on_request(at(130));
        let states =
            [Breaker::NEW, Breaker::Passing { failures: 4 }, tripped(), probing, probing.on_abandoned()];
        for state in states.into_iter().chain([probing.on_success(true)]) {
            assert_eq!(Breaker::unpack(state.pack()), state);
        }
    }
}
