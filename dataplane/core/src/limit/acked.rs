//! What the upstream really answers: first tokens a second, against what it answered for so many in flight
//! when it was at ease. It says how deep a cut may go and never whether to cut.
//!
//! By Little's law, requests in flight ÷ answers a second is how long one stays; taken while calm, that times
//! the answers a second of now is what the upstream holds now. TCP Westwood sets its window from acknowledged
//! rate × least round trip for the same reason: a delay says that there is too much, the rate says how much
//! is well.

use proto_core::units::Moment;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Acked {
    came_at: Moment,
    /// Moving mean of the time between two first tokens, seconds.
    gap_s: Option<f64>,
    /// Moving mean of how long a request stays, seconds, while calm.
    stay_s: Option<f64>,
}

impl Acked {
    pub fn new(now: Moment) -> Acked {
        Acked { came_at: now, gap_s: None, stay_s: None }
    }

    /// A first token came.
    pub fn on_answer(&mut self, now: Moment) {
        let gap_s = (now - self.came_at).as_secs_f64().max(GAP_MIN_S);
        self.came_at = now;
        // One silence is not a rate: a server that starts nothing for seconds goes on at its new speed.
        let mean = |old: f64| old + GAP_RATE * (gap_s.min(GAP_TIMES_MAX * old) - old);
        self.gap_s = Some(self.gap_s.map_or(gap_s, mean));
    }

    /// So many were in flight lately, and all was calm.
    pub fn on_calm(&mut self, requests: f64) {
        if let Some(gap_s) = self.gap_s {
            let stay_s = requests * gap_s;
            self.stay_s = Some(self.stay_s.map_or(stay_s, |old| old + STAY_RATE * (stay_s - old)));
        }
    }

    pub fn forget_stay(&mut self) {
        self.stay_s = None;
    }

    /// Of `requests` in flight the share that is answered in the time it takes when calm. `None`: never calm.
    pub fn share(&self, requests: f64) -> Option<f64> {
        Some(self.stay_s? / self.gap_s? / requests)
    }
}

/// Twenty answers of memory: as many as a window needs.
const GAP_RATE: f64 = 0.05;
/// Of exponential gaps one in fifty is longer.
const GAP_TIMES_MAX: f64 = 4.0;
/// What is multiplied to grow must not be zero.
const GAP_MIN_S: f64 = 1e-6;
/// Ten calm batches of memory.
const STAY_RATE: f64 = 0.1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answers(acked: &mut Acked, count: u32, gap_ms: u64) {
        (0..count).for_each(|_| acked.on_answer(acked.came_at + Duration::from_millis(gap_ms)));
    }

    #[test]
    fn a_rate_that_falls_to_a_third_leaves_a_third_even_after_a_silence() {
        let mut acked = Acked::new(Moment(0));
        assert_eq!(acked.share(100.0), None);
        answers(&mut acked, 100, 20);
        acked.on_calm(100.0);
        assert!((acked.share(100.0).unwrap() - 1.0).abs() < 0.01);
        answers(&mut acked, 1, 3000);
        answers(&mut acked, 100, 60);
        let share = acked.share(100.0).unwrap();
        assert!((share - 1.0 / 3.0).abs() < 0.01, "{share}");
    }

    #[test]
    fn answers_of_one_moment_do_not_stop_it() {
        let mut acked = Acked::new(Moment(0));
        answers(&mut acked, 100, 0);
        answers(&mut acked, 1000, 20);
        acked.on_calm(100.0);
        assert!((acked.share(100.0).unwrap() - 1.0).abs() < 0.01);
    }
}
