//! How many calls one session may have at once: additive increase, multiplicative decrease, by how fast its
//! answers come. It guards an upstream from one session, not the upstream from all of them: that is the
//! [`super::Limiter`]. Time and chance are arguments.

use std::time::Duration;

use proto_core::units::Moment;

/// The constants clients of existing routers rely on are the defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SessionSettings {
    pub base: u32,
    pub cap: u32,
    pub add: u32,
    /// The factor of a decrease, 0 to 1.
    pub mult: f64,
    pub target: Duration,
    /// The target is multiplied by 1 ± this, so that sessions do not move in step.
    pub jitter: f64,
    /// Share of the cap below which slowness does not push; only where it is at most 0.25.
    pub low_water: f64,
    /// Share of the cap at which growth ends.
    pub high_water: f64,
    /// A session not heard of for so long is forgotten.
    pub idle: Duration,
}

impl Default for SessionSettings {
    fn default() -> SessionSettings {
        SessionSettings {
            base: 4,
            cap: 64,
            add: 1,
            mult: 0.5,
            target: Duration::from_millis(1500),
            jitter: 0.05,
            low_water: 0.3,
            high_water: 0.85,
            idle: Duration::from_secs(300),
        }
    }
}

/// The window of one session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SessionWindow {
    settings: SessionSettings,
    current: u32,
    heard_at: Moment,
}

impl SessionWindow {
    pub fn new(settings: SessionSettings, now: Moment) -> SessionWindow {
        SessionWindow { settings, current: settings.base, heard_at: now }
    }

    /// One that was kept as its `current` alone, and was last heard of at `heard_at`.
    pub fn resumed(settings: SessionSettings, current: u32, heard_at: Moment) -> SessionWindow {
        SessionWindow { settings, current, heard_at }
    }

    pub fn current(&self) -> u32 {
        self.current
    }

    /// An answer ended well after `latency`. `seed` is one random number for the jitter.
    pub fn on_answer(&mut self, now: Moment, latency: Duration, seed: u64) {
        self.heard_at = now;
        let settings = self.settings;
        let spread = 1.0 + settings.jitter * (2.0 * unit(seed) - 1.0);
        if latency.as_secs_f64() > settings.target.as_secs_f64() * spread {
            self.current = self.halved().max(self.floor());
        } else if self.current < (f64::from(settings.cap) * settings.high_water) as u32 {
            self.current = (self.current + settings.add).min(settings.cap);
        }
    }

    /// An answer failed.
    pub fn on_failure(&mut self, now: Moment) {
        self.heard_at = now;
        self.current = self.halved().max(1);
    }

    /// A frame came marked (see [`super::Watermark`]).
    pub fn on_ecn(&mut self, now: Moment) {
        self.on_failure(now);
    }

    /// Nothing was heard for so long that it may be forgotten.
    pub fn is_idle(&self, now: Moment) -> bool {
        now.since(self.heard_at) >= self.settings.idle
    }

    fn halved(&self) -> u32 {
        (f64::from(self.current) * self.settings.mult) as u32
    }

    fn floor(&self) -> u32 {
        let SessionSettings { base, cap, low_water, .. } = self.settings;
        let low = if low_water <= LOW_WATER_MAX { (f64::from(cap) * low_water).ceil() as u32 } else { 0 };
        base.max(low)
    }
}

/// 0 to 1 from the upper 53 bits, which is what an `f64` holds.
fn unit(seed: u64) -> f64 {
    (seed >> 11) as f64 / (1u64 << 53) as f64
}

/// A higher low-water mark would keep a slow session wide: it is then ignored, as existing routers do.
const LOW_WATER_MAX: f64 = 0.25;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(0);
    const FAST: Duration = Duration::from_millis(100);
    const SLOW: Duration = Duration::from_millis(2000);

    fn grown(settings: SessionSettings) -> SessionWindow {
        let mut window = SessionWindow::new(settings, NOW);
        (0..100).for_each(|_| window.on_answer(NOW, FAST, 0));
        window
    }

    #[test]
    fn growth_ends_at_the_high_water_mark_and_not_at_the_cap() {
        assert_eq!(grown(SessionSettings::default()).current(), 54);
    }

    #[test]
    fn slow_answers_halve_down_to_the_base_and_failures_down_to_one() {
        let mut window = grown(SessionSettings::default());
        let mut seen = Vec::new();
        (0..5).for_each(|_| {
            window.on_answer(NOW, SLOW, 0);
            seen.push(window.current());
        });
        assert_eq!(seen, [27, 13, 6, 4, 4]);
        window.on_failure(NOW);
        window.on_ecn(NOW);
        assert_eq!(window.current(), 1);
        window.on_failure(NOW);
        assert_eq!(window.current(), 1);
    }

    #[test]
    fn a_low_water_mark_counts_up_to_a_quarter_only() {
        for (low_water, floor) in [(0.25, 16), (0.2, 13), (0.26, 4), (0.3, 4)] {
            let mut window = grown(SessionSettings { low_water, ..SessionSettings::default() });
            (0..9).for_each(|_| window.on_answer(NOW, SLOW, 0));
            assert_eq!(window.current(), floor, "{low_water}");
        }
    }

    #[test]
    fn the_target_moves_by_five_percent_with_the_seed() {
        let edge = |seed, latency_ms| {
            let mut window = SessionWindow::new(SessionSettings::default(), NOW);
            window.on_answer(NOW, Duration::from_millis(latency_ms), seed);
            window.current()
        };
        assert_eq!((edge(0, 1424), edge(0, 1426)), (5, 4));
        assert_eq!((edge(u64::MAX, 1574), edge(u64::MAX, 1576)), (5, 4));
    }

    #[test]
    fn a_session_is_idle_after_its_time_and_not_before() {
        let window = SessionWindow::new(SessionSettings::default(), NOW);
        assert!(!window.is_idle(NOW + Duration::from_millis(299_999)));
        assert!(window.is_idle(NOW + Duration::from_secs(300)));
    }
}
