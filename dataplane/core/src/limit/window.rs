//! What was seen since the last decision. Only requests dispatched since then count: earlier ones tell of the
//! limit before. It never decides anything.

use std::time::Duration;

use proto_core::units::Moment;

use super::{Axis, Sample};

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub opened_at: Moment,
    samples: u32,
    /// Answers without a delay of their own.
    others: u32,
    sum: f64,
    sum_of_squares: f64,
    requests: f64,
    tokens: f64,
    pub requests_peak: u32,
    pub tokens_peak: u64,
    pub is_requests_bound: bool,
    pub is_tokens_bound: bool,
    /// Something was lost: no growth.
    pub is_lossy: bool,
}

/// What a window has come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Seen {
    TooLittle,
    /// Answers enough, delays of first tokens not.
    Answers,
    Delays(Summary),
}

/// The samples of a window as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Summary {
    /// Mean of ttft against what was expected.
    pub mean: f64,
    /// Standard error of that mean.
    pub error: f64,
    /// Mean requests in flight at dispatch.
    pub requests: f64,
    /// Mean tokens in flight at dispatch.
    pub tokens: f64,
}

impl Window {
    pub fn new(opened_at: Moment) -> Window {
        Window {
            opened_at,
            samples: 0,
            others: 0,
            sum: 0.0,
            sum_of_squares: 0.0,
            requests: 0.0,
            tokens: 0.0,
            requests_peak: 0,
            tokens_peak: 0,
            is_requests_bound: false,
            is_tokens_bound: false,
            is_lossy: false,
        }
    }

    /// Forgets the delays, not what else happened.
    pub fn start_again(&mut self, now: Moment) {
        let Window { is_requests_bound, is_tokens_bound, is_lossy, requests_peak, tokens_peak, .. } = *self;
        let seen = Window { is_requests_bound, is_tokens_bound, is_lossy, ..Window::new(now) };
        *self = Window { requests_peak, tokens_peak, ..seen };
    }

    pub fn add(&mut self, sample: &Sample, x: f64) {
        self.samples += 1;
        self.sum += x;
        self.sum_of_squares += x * x;
        self.requests += f64::from(sample.requests_in_flight);
        self.tokens += sample.tokens_in_flight as f64;
    }

    /// So much was in flight, whatever came of it.
    pub fn see(&mut self, requests: u32, tokens: u64) {
        self.requests_peak = self.requests_peak.max(requests);
        self.tokens_peak = self.tokens_peak.max(tokens);
    }

    pub fn bind(&mut self, axis: Axis) {
        self.is_requests_bound |= axis.is_requests();
        self.is_tokens_bound |= axis.is_tokens();
    }

    pub fn is_bound(&self) -> bool {
        self.is_requests_bound || self.is_tokens_bound
    }

    /// One answer without a delay.
    pub fn count(&mut self) {
        self.others += 1;
    }

    /// Everything seen, once that is enough; below a `limit` of forty requests fewer samples must do.
    pub fn seen(&self, now: Moment, limit: f64) -> Seen {
        let needed = needed(limit);
        if now.since(self.opened_at) < WINDOW || self.samples + self.others < needed {
            return Seen::TooLittle;
        }
        if self.samples < needed {
            return Seen::Answers;
        }
        Seen::Delays(self.summary())
    }

    /// The same without a least time: what suffices to be alarmed.
    pub fn seen_at_once(&self, limit: f64) -> Option<Summary> {
        (self.samples >= needed(limit)).then(|| self.summary())
    }

    fn summary(&self) -> Summary {
        let count = f64::from(self.samples);
        let mean = self.sum / count;
        let variance = (self.sum_of_squares / count - mean * mean).max(0.0);
        let error = (variance / (count - 1.0)).sqrt();
        Summary { mean, error, requests: self.requests / count, tokens: self.tokens / count }
    }
}

impl Summary {
    /// What the mean is above with some certainty.
    pub fn low(&self) -> f64 {
        self.mean - LOW_ERRORS * self.error
    }
}

fn needed(limit: f64) -> u32 {
    ((limit / 2.0) as u32).clamp(SAMPLES_MIN, SAMPLES)
}

/// Shorter windows follow noise (Gradient2's minimum).
pub(super) const WINDOW: Duration = Duration::from_secs(1);
/// Twice Gradient2's minimum: with ten, the noise of delays alone cuts a small limit again and again.
const SAMPLES: u32 = 20;
/// One window in forty above the line is above it by chance then. With 1.5 errors it is one in fifteen, and a
/// climb has as many.
const LOW_ERRORS: f64 = 2.0;
/// Where the limit is small, twenty answers can take minutes; a standard error needs more than two.
const SAMPLES_MIN: u32 = 3;
