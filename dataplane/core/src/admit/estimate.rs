//! What a request will take, before anything is known of it: tokens from bytes and from what earlier answers
//! took. Learners of one word each; steps only. Never reads a body, never decides who gets in.
//!
//! Input: tokens for each byte, as exponentially weighted mean and variance (T. Finch, "Incremental
//! calculation of weighted mean and variance", 2009, section 9). Reserved is the mean plus a guard band of
//! `k` standard deviations by quality of service.
//!
//! Output: the 90th percentile of earlier answers, by stochastic approximation (Robbins and Monro, 1951) of a
//! quantile from single observations: up by `step · p` where an answer was longer, down by `step · (1 − p)`
//! where it was not; what streaming estimators of one or two words do (Ma, Muthukrishnan and Sandler, "Frugal
//! streaming for estimating quantiles", 2013). The step is on the logarithm, because lengths differ by
//! factors, and never falls below a floor, so that a change of habits is followed.

use proto_core::model::{Price, Qos};
use proto_core::units::Picodollars;

use crate::bill::{Usage, estimated_input};

/// What is reserved for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    pub input: u64,
    /// Of `input`, what the upstream is expected to have cached.
    pub cached: u64,
    pub output: u64,
    pub picodollars: Picodollars,
}

impl Estimate {
    /// At `price`; nothing is expected to be cached. Saturates.
    pub fn new(input: u64, output: u64, price: &Price) -> Estimate {
        let usage = Usage { input, output, estimated: true, ..Usage::default() };
        Estimate { input, cached: 0, output, picodollars: usage.cost(price) }
    }

    /// Both kinds; saturates.
    pub fn tokens(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

/// Tokens for each byte of what one model is sent. Packs into one word; zero is "nothing learned".
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Density {
    mean: f32,
    variance: f32,
}

impl Density {
    pub fn pack(self) -> u64 {
        pair(self.mean.to_bits(), self.variance.to_bits())
    }

    pub fn unpack(word: u64) -> Density {
        let [mean, variance] = halves(word);
        Density { mean: f32::from_bits(mean), variance: f32::from_bits(variance) }
    }

    /// A prompt of `bytes` was `tokens`, as the upstream counted.
    #[must_use]
    pub fn on_sample(self, bytes: u64, tokens: u64) -> Density {
        if bytes < SAMPLE_BYTES_MIN {
            return self;
        }
        let density = (tokens as f32 / bytes as f32).clamp(DENSITY_MIN, DENSITY_MAX);
        if !self.is_learned() {
            let deviation = density * FIRST_SPREAD;
            return Density { mean: density, variance: deviation * deviation };
        }
        let distance = density - self.mean;
        let step = WEIGHT * distance;
        Density { mean: self.mean + step, variance: (1.0 - WEIGHT) * (self.variance + distance * step) }
    }

    /// An upstream expects a prompt of `bytes` to be `tokens`, give or take the root of `variance`: what is
    /// known until one was counted.
    #[must_use]
    pub fn on_estimate(self, bytes: u64, tokens: u64, variance: f64) -> Density {
        if self.is_learned() || bytes < SAMPLE_BYTES_MIN {
            return self;
        }
        let mean = (tokens as f32 / bytes as f32).clamp(DENSITY_MIN, DENSITY_MAX);
        let variance = (variance.max(0.0) / (bytes as f64 * bytes as f64)) as f32;
        Density { mean, variance: variance.min(mean * mean) }
    }

    /// Tokens to reserve for `bytes`; four bytes a token where nothing is learned.
    pub fn tokens(self, bytes: u64, qos: Qos) -> u64 {
        self.guarded(bytes, guard(qos))
    }

    /// Tokens that `bytes` most likely are: what is billed where the upstream never says.
    pub fn likely(self, bytes: u64) -> u64 {
        self.guarded(bytes, 0.0)
    }

    fn guarded(self, bytes: u64, deviations: f32) -> u64 {
        if !self.is_learned() {
            return estimated_input(bytes);
        }
        let guarded = self.mean + deviations * self.variance.sqrt();
        // Saturates at the ends of the range.
        (bytes as f64 * f64::from(guarded)).ceil() as u64
    }

    /// Whether anything is known.
    pub fn is_learned(self) -> bool {
        self.mean > 0.0
    }
}

/// How long answers are: the 90th percentile. Packs into one word; zero is "nothing learned".
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Lengths {
    /// Natural logarithm of tokens.
    percentile: f32,
    samples: u32,
}

impl Lengths {
    pub fn pack(self) -> u64 {
        pair(self.percentile.to_bits(), self.samples)
    }

    pub fn unpack(word: u64) -> Lengths {
        let [percentile, samples] = halves(word);
        Lengths { percentile: f32::from_bits(percentile), samples }
    }

    /// An answer that ended by itself had `tokens`.
    #[must_use]
    pub fn on_sample(self, tokens: u64) -> Lengths {
        let length = (tokens.max(1) as f32).ln();
        let samples = self.samples.saturating_add(1);
        if self.samples == 0 {
            return Lengths { percentile: length, samples };
        }
        let step = (self.samples as f32).sqrt().recip().max(STEP_MIN);
        let direction = if length > self.percentile { PERCENTILE } else { PERCENTILE - 1.0 };
        Lengths { percentile: (self.percentile + step * direction).max(0.0), samples }
    }

    /// Tokens to reserve for an answer; [`OUTPUT_DEFAULT`] until there are [`SAMPLES_MIN`] samples, and never
    /// more than the caller lets the model write.
    pub fn tokens(self, max_tokens: Option<u64>) -> u64 {
        let learned = if self.samples < SAMPLES_MIN {
            OUTPUT_DEFAULT
        } else {
            f64::from(self.percentile).exp().ceil() as u64
        };
        // One at least: what reserves nothing would pass where nothing is left.
        learned.min(max_tokens.unwrap_or(u64::MAX)).max(1)
    }
}

/// How far an estimate was off: the absolute error in thousandths of what was predicted. Of nothing predicted
/// it is zero where nothing came, else the whole. Saturates.
pub fn error_permille(predicted: u64, observed: u64) -> u64 {
    match observed.abs_diff(predicted).saturating_mul(1000).checked_div(predicted) {
        Some(error) => error,
        None if observed == 0 => 0,
        None => 1000,
    }
}

fn guard(qos: Qos) -> f32 {
    match qos {
        Qos::Gold => 2.0,
        Qos::Silver => 1.0,
        Qos::Bronze => 0.5,
    }
}

fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn halves(word: u64) -> [u32; 2] {
    [word >> 32, word & u64::from(u32::MAX)].map(|half| u32::try_from(half).expect("half a word"))
}

/// Buckets for [`error_permille`]: those that dashboards of existing deployments query.
pub const ERROR_PERMILLE_BOUNDS: &[u64] = &[50, 100, 200, 300, 500, 1000];
/// Answers before their lengths are believed: of fewer, the two longest decide alone.
pub const SAMPLES_MIN: u32 = 20;
/// An answer of common length where nothing is learned.
pub const OUTPUT_DEFAULT: u64 = 180;
const PERCENTILE: f32 = 0.9;
/// The percentile follows halved lengths within 140 answers and doubled ones within 16, and strays by about a
/// tenth where nothing changes.
const STEP_MIN: f32 = 0.05;
/// Of a new sample; the last 40 or so count.
const WEIGHT: f32 = 0.05;
/// Standard deviation assumed of the first sample: the tokenizers of one language differ by less.
const FIRST_SPREAD: f32 = 0.25;
/// What a template adds outweighs the text of a shorter prompt.
const SAMPLE_BYTES_MIN: u64 = 64;
/// Outside lie pictures in base64, and upstreams that miscount; neither may spoil the learner.
const DENSITY_MIN: f32 = 1.0 / 64.0;
const DENSITY_MAX: f32 = 4.0;

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
