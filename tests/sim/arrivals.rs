//! Who asks for what, and when. All of it from a seed.

use std::time::Duration;

/// Seeded chance: SplitMix64 (Steele, Lea, Flood 2014), which is enough for arrivals and not for secrets.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0, up to 1.
    pub fn unit(&mut self) -> f64 {
        ((self.number() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Exponential with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    /// Lognormal with this median; `sigma` is that of the logarithm.
    pub fn lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        median * (sigma * normal).exp()
    }
}

/// How requests come to a data plane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Load {
    /// So many callers, each with one request at a time and the next at once.
    Closed { clients: u32 },
    /// Whether the earlier ones have been answered or not, by Poisson.
    Open { per_second: f64 },
    /// So many within a second, and never again.
    Burst { requests: u32 },
}

/// What requests are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shape {
    /// Median and sigma of a lognormal.
    pub prompt_tokens: (f64, f64),
    /// Mean of an exponential, at least one token.
    pub output_tokens: f64,
}

impl Shape {
    /// Prompts of a page, with some of ten; answers of a paragraph.
    pub const CHAT: Shape = Shape { prompt_tokens: (800.0, 0.8), output_tokens: 100.0 };

    pub fn draw(&self, chance: &mut Chance) -> (u64, u64) {
        let (median, sigma) = self.prompt_tokens;
        let prompt = chance.lognormal(median, sigma).clamp(1.0, PROMPT_TOKENS_MAX);
        let output = chance.exponential(self.output_tokens).max(1.0);
        (prompt as u64, output as u64)
    }
}

/// How long a caller that was refused waits: a second, give or take half.
pub fn backoff(chance: &mut Chance) -> Duration {
    Duration::from_secs_f64(0.5 + chance.unit())
}

/// A long context.
const PROMPT_TOKENS_MAX: f64 = 32_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_medians_are_what_was_asked_for_and_a_seed_repeats() {
        let mut chance = Chance(1);
        let mean = (0..20_000).map(|_| chance.exponential(3.0)).sum::<f64>() / 20_000.0;
        assert!((mean - 3.0).abs() < 0.1, "{mean}");
        let below = (0..20_000).filter(|_| chance.lognormal(5.0, 1.0) < 5.0).count();
        assert!((9_700..10_300).contains(&below), "{below}");
        assert_eq!(Shape::CHAT.draw(&mut Chance(7)), Shape::CHAT.draw(&mut Chance(7)));
    }
}
