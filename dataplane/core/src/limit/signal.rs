//! The first token's delay against what such a prompt takes when the upstream is at ease: about 1 then, more
//! under congestion. It never says what to do about it.
//!
//! A long prompt takes longer to read, so the delay alone says little. With t uncached prompt tokens it is
//! expected to be f(t) = a + b·t, fitted by recursive least squares with forgetting. Until there are enough
//! samples for that, the mean of a power-of-two bucket of prompt lengths stands in. Only the shape of f is
//! used, its height is fixed when it is first fitted: a fit that may follow its height would call any
//! congestion that lasts a hundred samples normal.

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Signal {
    samples: u32,
    buckets: [Mean; BUCKETS],
    tokens: Mean,
    fit: Fit,
    /// Once fitted: the prompt all delays are put in terms of, thousands of tokens, and its delay then.
    reference: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Mean {
    count: f64,
    value: f64,
}

/// Recursive least squares over (1, t).
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fit {
    a: f64,
    b: f64,
    /// The upper triangle of the symmetric P: p00, p01, p11.
    p: [f64; 3],
}

impl Signal {
    pub fn new() -> Signal {
        Signal {
            samples: 0,
            buckets: [Mean::default(); BUCKETS],
            tokens: Mean::default(),
            fit: Fit { a: 0.0, b: 0.0, p: [P_START, 0.0, P_START] },
            reference: None,
        }
    }

    /// The delay of one sample as a multiple of the expected; the flag where this was the sample that changed
    /// what "expected" means, so that earlier values are no longer comparable. Where not `is_calm` the shape
    /// learns nothing.
    pub fn on_sample(&mut self, ttft_s: f64, tokens: u64, is_calm: bool) -> (f64, bool) {
        let kilotokens = tokens as f64 / 1000.0;
        if let Some((reference, height)) = self.reference {
            let expected = self.fit.at(kilotokens) / self.fit.at(reference) * height;
            let x = ttft_s / expected;
            if is_calm {
                self.fit.on_sample(kilotokens, ttft_s.min(expected * OUTLIER));
            }
            return (x, false);
        }
        self.samples += 1;
        self.tokens.add(kilotokens);
        self.fit.on_sample(kilotokens, ttft_s);
        let bucket = &mut self.buckets[bucket(tokens)];
        bucket.add(ttft_s);
        let x = ttft_s / bucket.value.max(DELAY_MIN_S);
        let is_fitted = self.samples >= SAMPLES_MIN;
        if is_fitted {
            self.reference = Some((self.tokens.value, self.fit.at(self.tokens.value)));
        }
        (x, is_fitted)
    }
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.value += (value - self.value) / self.count;
    }
}

impl Fit {
    /// Never zero or less, whatever the samples were.
    fn at(&self, kilotokens: f64) -> f64 {
        (self.a.max(0.0) + self.b.max(0.0) * kilotokens).max(DELAY_MIN_S)
    }

    fn on_sample(&mut self, t: f64, y: f64) {
        let [p00, p01, p11] = self.p;
        let (g0, g1) = (p00 + p01 * t, p01 + p11 * t);
        let denominator = FORGETTING + g0 + g1 * t;
        let (k0, k1) = (g0 / denominator, g1 / denominator);
        let error = y - self.a - self.b * t;
        self.a += k0 * error;
        self.b += k1 * error;
        let next = [p00 - k0 * g0, p01 - k0 * g1, p11 - k1 * g1];
        // Prompts that are all alike say nothing of b; forgetting would let its variance grow without end.
        let is_bounded = next[0] / FORGETTING <= P_START && next[2] / FORGETTING <= P_START;
        self.p = if is_bounded { next.map(|value| value / FORGETTING) } else { next };
    }
}

fn bucket(tokens: u64) -> usize {
    (u64::BITS - tokens.leading_zeros()).min(BUCKETS as u32 - 1) as usize
}

/// Two to this is more tokens than any model reads.
const BUCKETS: usize = 25;
/// Fewer samples than this do not make a line.
const SAMPLES_MIN: u32 = 50;
/// A hundred samples of memory.
const FORGETTING: f64 = 0.99;
/// Seconds² and (seconds per thousand tokens)²: much wider than any prior knowledge.
const P_START: f64 = 1000.0;
/// A delay of eight times the expected is not about reading the prompt.
const OUTLIER: f64 = 8.0;
/// What stands under a fraction is never zero.
const DELAY_MIN_S: f64 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;

    /// 0.2 s and 0.1 s for each thousand tokens.
    fn delay(tokens: u64) -> f64 {
        0.2 + 0.0001 * tokens as f64
    }

    fn fitted() -> Signal {
        let mut signal = Signal::new();
        (0..50u64).for_each(|i| {
            let tokens = i * 397 % 8000;
            signal.on_sample(delay(tokens), tokens, true);
        });
        signal
    }

    #[test]
    fn a_long_prompt_that_takes_long_and_a_short_one_that_does_not_are_both_as_expected() {
        let mut signal = fitted();
        for tokens in [0, 10, 500, 7999, 100_000] {
            let (x, _) = signal.on_sample(delay(tokens), tokens, false);
            assert!((x - 1.0).abs() < 0.01, "{tokens}: {x}");
            let (x, _) = signal.on_sample(3.0 * delay(tokens), tokens, false);
            assert!((x - 3.0).abs() < 0.03, "{tokens}: {x}");
        }
    }

    #[test]
    fn congestion_that_lasts_is_not_called_normal() {
        let mut signal = fitted();
        let last = (0..10_000u64).map(|i| {
            let tokens = i * 397 % 8000;
            signal.on_sample(1.5 * delay(tokens), tokens, true).0
        });
        let last = last.last().unwrap();
        assert!((last - 1.5).abs() < 0.05, "{last}");
    }

    #[test]
    fn a_shape_that_changes_is_learned_while_calm() {
        let mut signal = fitted();
        // Half the time a token, at the same delay of the average prompt.
        let other = |tokens: u64| 0.4 + 0.00005 * tokens as f64;
        for i in 0..2000u64 {
            let tokens = i * 397 % 8000;
            signal.on_sample(other(tokens), tokens, true);
        }
        let short = signal.on_sample(other(300), 300, false).0;
        let long = signal.on_sample(other(8000), 8000, false).0;
        assert!((short / long - 1.0).abs() < 0.05, "{short} {long}");
    }

    #[test]
    fn until_fifty_samples_a_bucket_of_prompt_lengths_stands_in_and_the_change_is_told() {
        let mut signal = Signal::new();
        for i in 0..49 {
            let tokens = if i % 2 == 0 { 100 } else { 4000 };
            let (x, changed) = signal.on_sample(delay(tokens), tokens, true);
            assert!((x - 1.0).abs() < 1e-9 && !changed);
        }
        assert!(signal.on_sample(delay(100), 100, true).1);
        assert!(!signal.on_sample(delay(100), 100, true).1);
    }

    #[test]
    fn delays_of_nothing_and_prompts_without_end_stay_numbers() {
        let mut signal = Signal::new();
        for i in 0..500u64 {
            let tokens = if i % 3 == 0 { u64::MAX } else { 0 };
            let (x, _) = signal.on_sample(0.0, tokens, true);
            assert!(x.is_finite(), "{i}");
        }
    }
}
